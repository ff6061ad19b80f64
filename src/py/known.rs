#![allow(unsafe_code)]
//! `Known`: a frozen `#[pyclass]` whose instances nearly all are of one Python subclass, recognised at a glance.
//!
//! The loop is asked for its runtime several times per callback; a look at one pointer answers nearly always.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use pyo3::PyClass;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use super::class::This;

/// A frozen `#[pyclass]` whose instances are nearly all of one Python subclass, recognised by its address.
pub(crate) struct Known<T> {
    subclass: PyOnceLock<Py<PyType>>,
    pointer: AtomicPtr<ffi::PyTypeObject>,
    _of: PhantomData<fn() -> T>,
}

impl<T: PyClass<Frozen = True> + Sync> Known<T> {
    pub(crate) const fn new() -> Self {
        Known { subclass: PyOnceLock::new(), pointer: AtomicPtr::new(std::ptr::null_mut()), _of: PhantomData }
    }

    /// Remembers the first class it is told, and keeps it alive so that its address stays its own.
    pub(crate) fn learn(&self, class: &Bound<'_, PyType>) {
        let py = class.py();
        debug_assert!(class.is_subclass_of::<T>().unwrap_or(false));
        let known = self.subclass.get_or_init(py, || class.clone().unbind());
        self.pointer.store(known.bind(py).as_type_ptr(), Relaxed);
    }

    #[inline(always)]
    pub(crate) fn receive<'a, 'py>(&self, object: Borrowed<'a, 'py, PyAny>) -> Option<This<'a, 'py, T>> {
        // SAFETY: reads the type of a live object; an instance of a subclass of `T` is an instance of `T`.
        let instance = unsafe {
            if ffi::Py_TYPE(object.as_ptr()) == self.pointer.load(Relaxed) {
                object.cast_unchecked::<T>()
            } else {
                return Self::receive_other(object);
            }
        };
        Some(This::new(object, instance.get()))
    }

    #[cold]
    fn receive_other<'a, 'py>(object: Borrowed<'a, 'py, PyAny>) -> Option<This<'a, 'py, T>> {
        Some(This::new(object, object.cast::<T>().ok()?.get()))
    }
}
