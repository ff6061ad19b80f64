#![allow(unsafe_code)]
//! `LoopCell<T>`: the mutable state of a native object.
//!
//! Opened by whoever runs Python code: with the GIL that is one thread at a time, on free-threaded builds a lock in the
//! cell takes its place. The rule of the house holds for every user: borrow, take out, release, then call. No call into
//! Python and no drop of a Python reference may happen while a cell is open; one that does, panics at the second `open`.

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};

use pyo3::Python;

#[cfg(not(Py_GIL_DISABLED))]
type Latch = std::cell::Cell<bool>;
#[cfg(Py_GIL_DISABLED)]
type Latch = std::sync::atomic::AtomicBool;

/// State behind the interpreter's lock.
pub(crate) struct LoopCell<T> {
    latch: Latch,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached through `open` and `peek` only, which demand an attached thread and take the latch; with
// the GIL no two threads are attached at once, without it the latch is an atomic lock.
unsafe impl<T: Send> Sync for LoopCell<T> {}

/// An open cell; closes when dropped.
pub(crate) struct Open<'a, T> {
    cell: &'a LoopCell<T>,
}

impl<T> LoopCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        LoopCell { latch: Latch::new(false), value: UnsafeCell::new(value) }
    }

    /// Needs no latch: nobody else has the cell.
    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// Opens the cell for reading and writing.
    #[inline]
    pub(crate) fn open<'a>(&'a self, _py: Python<'_>) -> Open<'a, T> {
        assert!(self.close_latch(), "a LoopCell was held open across a call into Python");
        Open { cell: self }
    }

    /// As `open`, unless it is open already. For who can do without: the garbage collector is told nothing then, and so
    /// keeps what the cell refers to alive until its next round.
    pub(crate) fn peek(&self) -> Option<Open<'_, T>> {
        self.try_latch().then_some(Open { cell: self })
    }

    #[cfg(not(Py_GIL_DISABLED))]
    #[inline]
    fn try_latch(&self) -> bool {
        !self.latch.replace(true)
    }

    #[cfg(not(Py_GIL_DISABLED))]
    #[inline]
    fn close_latch(&self) -> bool {
        self.try_latch()
    }

    #[cfg(Py_GIL_DISABLED)]
    fn try_latch(&self) -> bool {
        !self.latch.swap(true, std::sync::atomic::Ordering::Acquire)
    }

    /// Another thread holds an open cell for a few instructions only, so waiting for it is spinning.
    #[cfg(Py_GIL_DISABLED)]
    fn close_latch(&self) -> bool {
        for round in 0..1_000_000_u32 {
            if self.try_latch() {
                return true;
            }
            if round < 64 { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        false
    }
}

impl<T> Deref for Open<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard holds the latch, so no other reference to the value exists.
        unsafe { &*self.cell.value.get() }
    }
}

impl<T> DerefMut for Open<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`; `&mut self` makes it the only one through this guard too.
        unsafe { &mut *self.cell.value.get() }
    }
}

impl<T> Drop for Open<'_, T> {
    #[inline]
    fn drop(&mut self) {
        #[cfg(not(Py_GIL_DISABLED))]
        self.cell.latch.set(false);
        #[cfg(Py_GIL_DISABLED)]
        self.cell.latch.store(false, std::sync::atomic::Ordering::Release);
    }
}
