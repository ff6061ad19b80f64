#![allow(unsafe_code)]
//! Calls into Python from hot paths: vectorcall with arguments kept inline, coroutine steps.
//!
//! Used by handles and tasks; colder callers use PyO3's own `call1` and friends. Nothing here holds a cell open.

use pyo3::exceptions::PyStopIteration;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::method::Args;
use super::names::names;
use super::object::Owned;

/// The arguments of a callback, in two words: most have none or one. The first without the second is one argument, both
/// are two; the second alone is a tuple of them all.
pub(crate) struct Arguments(Option<Owned>, Option<Owned>);

impl Arguments {
    pub(crate) const NONE: Self = Arguments(None, None);

    pub(crate) fn one(value: Owned) -> Self {
        Arguments(Some(value), None)
    }

    /// The positional arguments of a call from `start` on.
    #[inline(always)]
    pub(crate) fn tail_of(args: Args<'_, '_>, start: usize) -> PyResult<Self> {
        if args.len() <= start { Ok(Arguments::NONE) } else { Arguments::some_tail_of(args, start) }
    }

    fn some_tail_of(args: Args<'_, '_>, start: usize) -> PyResult<Self> {
        let at = |index| args.get(start + index).map(Owned::of);
        if args.len() <= start + 2 {
            return Ok(Arguments(at(0), at(1)));
        }
        let tuple = PyTuple::new(args.py(), args.tail(start))?;
        Ok(Arguments(None, Some(Owned::new(tuple.into_any()))))
    }

    /// The objects that are kept: for the collector.
    #[inline(always)]
    pub(crate) fn objects(&self) -> [&Option<Owned>; 2] {
        [&self.0, &self.1]
    }

    pub(crate) fn into_objects(self) -> impl Iterator<Item = Owned> {
        self.0.into_iter().chain(self.1)
    }

    pub(crate) fn to_tuple<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let tuple = match (&self.0, &self.1) {
            (None, Some(tuple)) => return Ok(tuple.bind(py).clone()),
            (None, None) => PyTuple::empty(py),
            (Some(a), None) => PyTuple::new(py, [a.bind(py)])?,
            (Some(a), Some(b)) => PyTuple::new(py, [a.bind(py), b.bind(py)])?,
        };
        Ok(tuple.into_any())
    }

    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        let copy = |value: &Option<Owned>| value.as_ref().map(|value| value.clone_ref(py));
        Arguments(copy(&self.0), copy(&self.1))
    }

    /// `callable(*self)`. The caller owns `self`, so no callback can take an argument away during the call.
    #[inline(always)]
    pub(crate) fn call<'py>(&self, callable: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        // One free word in front, as PY_VECTORCALL_ARGUMENTS_OFFSET promises: a bound method writes itself there.
        let free = std::ptr::null_mut();
        // SAFETY: every array has the free word, and then the objects that `self` owns. The second alone is a tuple.
        unsafe {
            match (&self.0, &self.1) {
                (None, None) => vectorcall(callable, &mut [free]),
                (Some(a), None) => vectorcall(callable, &mut [free, a.as_ptr()]),
                (Some(a), Some(b)) => vectorcall(callable, &mut [free, a.as_ptr(), b.as_ptr()]),
                (None, Some(tuple)) => {
                    let result = ffi::PyObject_Call(callable.as_ptr(), tuple.as_ptr(), std::ptr::null_mut());
                    Bound::from_owned_ptr_or_err(callable.py(), result)
                }
            }
        }
    }
}

/// # Safety
/// `stack` has one free word and then live references.
#[inline(always)]
unsafe fn vectorcall<'py>(
    callable: &Bound<'py, PyAny>,
    stack: &mut [*mut ffi::PyObject],
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the caller's promise; attached, as `Bound` proves.
    unsafe {
        let flagged = (stack.len() - 1) | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
        let arguments = stack.as_mut_ptr().add(1);
        let result = ffi::PyObject_Vectorcall(callable.as_ptr(), arguments, flagged, std::ptr::null_mut());
        Bound::from_owned_ptr_or_err(callable.py(), result)
    }
}

/// Is it a coroutine object of an `async def`?
pub(crate) fn is_native_coroutine(object: Borrowed<'_, '_, PyAny>) -> bool {
    // SAFETY: reads the type of a live object.
    unsafe { ffi::PyCoro_CheckExact(object.as_ptr()) != 0 }
}

pub(crate) fn is_generator(object: Borrowed<'_, '_, PyAny>) -> bool {
    // SAFETY: as above.
    unsafe { ffi::PyGen_CheckExact(object.as_ptr()) != 0 }
}

/// What a coroutine did in one step.
pub(crate) enum Step<'py> {
    Yielded(Bound<'py, PyAny>),
    Returned(Bound<'py, PyAny>),
    Raised(PyErr),
}

/// `coroutine.send(None)` without a StopIteration object.
#[inline]
pub(crate) fn send_none<'py>(coroutine: &Bound<'py, PyAny>) -> Step<'py> {
    let py = coroutine.py();
    let mut result = std::ptr::null_mut();
    // SAFETY: attached; on NEXT and RETURN `result` is a new reference, on ERROR an exception is set.
    unsafe {
        match ffi::PyIter_Send(coroutine.as_ptr(), ffi::Py_None(), &mut result) {
            ffi::PySendResult::PYGEN_NEXT => Step::Yielded(Bound::from_owned_ptr(py, result)),
            ffi::PySendResult::PYGEN_RETURN => Step::Returned(Bound::from_owned_ptr(py, result)),
            ffi::PySendResult::PYGEN_ERROR => Step::Raised(PyErr::fetch(py)),
        }
    }
}

/// `coroutine.throw(exception)`.
pub(crate) fn throw<'py>(coroutine: &Bound<'py, PyAny>, exception: Bound<'py, PyAny>) -> Step<'py> {
    let py = coroutine.py();
    match coroutine.call_method1(&names(py).throw, (exception,)) {
        Ok(value) => Step::Yielded(value),
        Err(error) if error.is_instance_of::<PyStopIteration>(py) => match error.value(py).getattr(&names(py).value) {
            Ok(value) => Step::Returned(value),
            Err(error) => Step::Raised(error),
        },
        Err(error) => Step::Raised(error),
    }
}
