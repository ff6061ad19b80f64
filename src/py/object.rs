#![allow(unsafe_code)]
//! `Owned`: one strong reference to a Python object, kept in the fields of native objects and in queues.
//!
//! It is `Py<PyAny>` without the thread-local look-ups: `Py`'s drop asks PyO3's own attach counter, which method
//! trampolines of this crate do not touch, and would park the reference in a pool. `Owned` never does.

use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use pyo3::ffi;
use pyo3::prelude::*;

/// A strong reference that is dropped with a plain decrement.
///
/// Values live in Python objects' fields and in a loop's queues only, which are dropped by code that Python called.
#[repr(transparent)]
pub(crate) struct Owned(ManuallyDrop<Py<PyAny>>);

impl Owned {
    pub(crate) fn new(object: Bound<'_, PyAny>) -> Self {
        Owned(ManuallyDrop::new(object.unbind()))
    }

    /// One more reference to the object.
    pub(crate) fn of(object: Borrowed<'_, '_, PyAny>) -> Self {
        Owned::new(object.to_owned())
    }

    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        Owned(ManuallyDrop::new(self.0.clone_ref(py)))
    }

    pub(crate) fn bind<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.0.bind(py)
    }

    pub(crate) fn borrow<'a, 'py>(&'a self, py: Python<'py>) -> Borrowed<'a, 'py, PyAny> {
        self.0.bind_borrowed(py)
    }

    pub(crate) fn into_bound(self, py: Python<'_>) -> Bound<'_, PyAny> {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is never used or dropped again, so the reference moves out exactly once.
        unsafe { ManuallyDrop::take(&mut this.0) }.into_bound(py)
    }

    /// Gives the reference to whoever stores the pointer.
    pub(super) fn into_raw(self) -> *mut ffi::PyObject {
        let pointer = self.0.as_ptr();
        std::mem::forget(self);
        pointer
    }

    /// # Safety
    /// The caller owns a reference to the object and gives it up; the thread is attached.
    pub(super) unsafe fn from_raw(object: *mut ffi::PyObject) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Owned::new(Bound::from_owned_ptr(Python::assume_attached(), object)) }
    }

    /// Is it a weak reference, and to this very object?
    #[inline]
    pub(crate) fn is_weak_reference_to(&self, object: Borrowed<'_, '_, PyAny>) -> bool {
        /// The beginning of CPython's `struct _PyWeakReference`.
        #[repr(C)]
        struct Reference {
            head: ffi::PyObject,
            object: AtomicPtr<ffi::PyObject>,
        }
        // SAFETY: attached; the class of a live object tells that its memory begins like that. The word is compared only. It
        // cannot name an object that is gone: an object's end writes None in its place first.
        unsafe {
            ffi::Py_TYPE(self.as_ptr()) == &raw mut ffi::_PyWeakref_RefType
                && (*self.as_ptr().cast::<Reference>()).object.load(Relaxed) == object.as_ptr()
        }
    }

    pub(crate) fn as_ptr(&self) -> *mut ffi::PyObject {
        self.0.as_ptr()
    }

    /// For PyO3's `PyVisit`.
    pub(crate) fn as_py(&self) -> &Py<PyAny> {
        &self.0
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the value owns one reference. Its homes (see the type's comment) are dropped only by method calls,
        // `tp_dealloc`, `tp_clear` and the run of the loop, all of which Python entered with the thread attached.
        unsafe { ffi::Py_DECREF(self.0.as_ptr()) }
    }
}
