#![allow(unsafe_code)]
//! Is a Python class as it was? Asked before native code does what the class's methods would have done.
//!
//! A class carries a version number that every change of it, or of a base, takes away. While the number is the one that
//! was seen after the last look at the attributes, nothing has changed, and the question costs one read.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyType};

unsafe extern "C" {
    /// What the interpreter calls a method with: 1 for a function that the class has, without the object bound to it; 0
    /// for anything else, which may be null with an exception. Declared in its headers.
    fn _PyObject_GetMethod(
        object: *mut ffi::PyObject,
        name: *mut ffi::PyObject,
        method: *mut *mut ffi::PyObject,
    ) -> std::ffi::c_int;
}

/// A class, and those of its attributes on which native code relies.
pub(crate) struct Unpatched {
    known: PyOnceLock<Known>,
    version: AtomicU32,
}

struct Known {
    class: Py<PyType>,
    /// None: the class has no such attribute, so that instances' own is found.
    attributes: Vec<(&'static str, Option<Py<PyAny>>)>,
}

impl Unpatched {
    pub(crate) const fn new() -> Self {
        Unpatched { known: PyOnceLock::new(), version: AtomicU32::new(0) }
    }

    /// Remembers the class as it is now. Called once, at import.
    pub(crate) fn learn(&self, class: &Bound<'_, PyType>, names: &[&'static str]) -> PyResult<()> {
        let py = class.py();
        let look = |name: &&'static str| Ok((*name, class.getattr_opt(*name)?.map(Bound::unbind)));
        let attributes = names.iter().map(look).collect::<PyResult<Vec<_>>>()?;
        self.known.get_or_init(py, || Known { class: class.clone().unbind(), attributes });
        Ok(())
    }

    /// The object is an instance of exactly this class.
    #[inline]
    pub(crate) fn is_class_of(&self, object: Borrowed<'_, '_, PyAny>) -> bool {
        let known = self.known.get(object.py());
        // SAFETY: reads the type of a live object.
        known.is_some_and(|known| unsafe { ffi::Py_TYPE(object.as_ptr()).cast() == known.class.as_ptr() })
    }

    /// The class still has the attributes that it had.
    #[inline]
    pub(crate) fn holds(&self, py: Python<'_>) -> PyResult<bool> {
        let Some(known) = self.known.get(py) else { return Ok(false) };
        let version = version_of(known);
        if version != 0 && version == self.version.load(Relaxed) {
            return Ok(true);
        }
        self.look(py, known)
    }

    #[cold]
    fn look(&self, py: Python<'_>, known: &Known) -> PyResult<bool> {
        let same = known.are_those_of(known.class.bind(py))?;
        if same {
            // The looks have given the class a number, if it had lost its own.
            self.version.store(version_of(known), Relaxed);
        }
        Ok(same)
    }

    /// Has another class, a subclass perhaps, the attributes that this one had?
    pub(crate) fn is_like(&self, class: &Bound<'_, PyType>) -> PyResult<bool> {
        self.known.get(class.py()).map_or(Ok(false), |known| known.are_those_of(class))
    }

    /// The names of the attributes.
    pub(crate) fn names(&self, py: Python<'_>) -> impl Iterator<Item = &'static str> {
        self.known.get(py).into_iter().flat_map(|known| known.attributes.iter().map(|(name, _)| *name))
    }
}

impl Known {
    fn are_those_of(&self, class: &Bound<'_, PyType>) -> PyResult<bool> {
        let py = class.py();
        for (name, remembered) in &self.attributes {
            let present = class.getattr_opt(*name)?;
            let same = match (&present, remembered) {
                (Some(present), Some(remembered)) => present.is(remembered.bind(py)),
                (None, None) => true,
                _ => false,
            };
            if !same {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// `object.name = value`, for an instance that has no `__setattr__` of its own.
#[inline]
pub(crate) fn set_attribute(object: &Bound<'_, PyAny>, name: &Py<PyString>, value: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: attached, live objects.
    let failed = unsafe { ffi::PyObject_GenericSetAttr(object.as_ptr(), name.as_ptr(), value.as_ptr()) != 0 };
    if failed { Err(PyErr::fetch(object.py())) } else { Ok(()) }
}

/// The method is the class's: nobody has replaced it on the object itself.
#[inline]
pub(crate) fn has_class_method(object: &Bound<'_, PyAny>, name: &Py<PyString>) -> PyResult<bool> {
    let py = object.py();
    let mut method = std::ptr::null_mut();
    // SAFETY: attached, live objects; what it finds is a new reference.
    let (found, method) = unsafe {
        let found = _PyObject_GetMethod(object.as_ptr(), name.as_ptr(), &raw mut method);
        (found, Bound::from_owned_ptr_or_opt(py, method))
    };
    match method {
        Some(_) => Ok(found == 1),
        None => Err(PyErr::fetch(py)),
    }
}

/// The attributes that an instance of a Python class has itself: its `__dict__`, without asking the class for it.
#[inline]
pub(crate) fn instance_dict<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    // SAFETY: attached; returns a new reference to a dict, or null with an exception where instances have none.
    unsafe {
        let dict = ffi::PyObject_GenericGetDict(object.as_ptr(), std::ptr::null_mut());
        Ok(Bound::from_owned_ptr_or_err(object.py(), dict)?.cast_into()?)
    }
}

#[inline]
fn version_of(known: &Known) -> u32 {
    // SAFETY: a live type object, whose number is written while the GIL is held; free-threaded builds write it
    // atomically, and a stale number only leads to a second look.
    unsafe {
        let class = known.class.as_ptr().cast::<ffi::PyTypeObject>();
        AtomicU32::from_ptr(&raw mut (*class).tp_version_tag).load(Relaxed)
    }
}
