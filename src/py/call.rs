#![allow(unsafe_code)]
//! Calls into Python from hot paths: vectorcall with arguments kept inline, coroutine steps.
//!
//! Used by handles and tasks; colder callers use PyO3's own `call1` and friends. Nothing here holds a cell open.

use pyo3::exceptions::PyStopIteration;
use pyo3::ffi;
use pyo3::prelude::*;

use super::method::Args;
use super::names::names;
use super::object::Owned;

/// The arguments of a callback. Most have none or one; a tuple is never made for a few.
pub(crate) enum Arguments {
    None,
    One(Owned),
    Two([Owned; 2]),
    Many(Box<[Owned]>),
}

impl Arguments {
    /// The positional arguments of a call from `start` on.
    #[inline(always)]
    pub(crate) fn tail_of(args: Args<'_, '_>, start: usize) -> Self {
        if args.len() <= start { Arguments::None } else { Arguments::some_tail_of(args, start) }
    }

    fn some_tail_of(args: Args<'_, '_>, start: usize) -> Self {
        let at = |index| args.get(start + index).map(Owned::of);
        match (at(0), at(1)) {
            (Some(a), None) => Arguments::One(a),
            (Some(a), Some(b)) if args.len() == start + 2 => Arguments::Two([a, b]),
            _ => Arguments::Many(args.tail(start).map(Owned::of).collect()),
        }
    }

    #[inline(always)]
    pub(crate) fn as_slice(&self) -> &[Owned] {
        match self {
            Arguments::None => &[],
            Arguments::One(value) => std::slice::from_ref(value),
            Arguments::Two(values) => values,
            Arguments::Many(values) => values,
        }
    }

    pub(crate) fn into_vec(self) -> Vec<Owned> {
        match self {
            Arguments::None => Vec::new(),
            Arguments::One(value) => vec![value],
            Arguments::Two(values) => values.into(),
            Arguments::Many(values) => values.into(),
        }
    }

    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Arguments::None => Arguments::None,
            Arguments::One(a) => Arguments::One(a.clone_ref(py)),
            Arguments::Two([a, b]) => Arguments::Two([a.clone_ref(py), b.clone_ref(py)]),
            Arguments::Many(values) => Arguments::Many(values.iter().map(|value| value.clone_ref(py)).collect()),
        }
    }

    /// `callable(*self)`. The caller owns `self`, so no callback can take an argument away during the call.
    #[inline(always)]
    pub(crate) fn call<'py>(&self, callable: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        // One free word in front, as PY_VECTORCALL_ARGUMENTS_OFFSET promises: a bound method writes itself there.
        let free = std::ptr::null_mut();
        // SAFETY: every array has the free word, and then the objects that `self` owns.
        unsafe {
            match self {
                Arguments::None => vectorcall(callable, &mut [free]),
                Arguments::One(a) => vectorcall(callable, &mut [free, a.as_ptr()]),
                Arguments::Two([a, b]) => vectorcall(callable, &mut [free, a.as_ptr(), b.as_ptr()]),
                Arguments::Many(values) => {
                    let mut stack: Vec<_> = std::iter::once(free).chain(values.iter().map(Owned::as_ptr)).collect();
                    vectorcall(callable, &mut stack)
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
