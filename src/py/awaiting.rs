#![allow(unsafe_code)]
//! The slots behind `await future`: a native future is its own iterator.
//!
//! `am_await` returns the object itself, `tp_iternext` and `am_send` ask it for its next value. There is no `send`, `throw`
//! or `close` method, so that nobody takes a future for a coroutine; without `throw` the interpreter raises at the `await`,
//! as asyncio's own iterator would. Whoever asks by `iter()` gets an iterator with those methods.

use std::ffi::c_void;

use pyo3::exceptions::{PyBaseException, PyStopIteration};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::class::{Fields, This};
use super::compat;
use super::method::{Reply, Slots, no_args, no_panic, witness};

/// What an awaited object has for its awaiter.
pub(crate) enum Next<'py> {
    /// Not done: the object to hand up to the task.
    Wait(Bound<'py, PyAny>),
    /// Done: the value of the `await` expression.
    Value(Bound<'py, PyAny>),
}

impl<T: Fields> Slots<T> {
    /// Makes the class awaitable.
    pub(crate) fn awaitable<F, G>(mut self, next: F, _iterate: G) -> Self
    where
        F: for<'a, 'py> Fn(This<'a, 'py, T>) -> PyResult<Next<'py>> + Copy + 'static,
        G: for<'a, 'py> Fn(This<'a, 'py, T>) -> Reply<'py> + Copy + 'static,
    {
        self.push(ffi::Py_am_await, ffi::PyObject_SelfIter as ffi::unaryfunc as *mut c_void);
        self.push(ffi::Py_tp_iter, iter::<T, G> as ffi::getiterfunc as *mut c_void);
        self.next(next, end_await)
    }

    /// Makes the class an iterator that `await` can use.
    pub(crate) fn iterator<F>(mut self, next: F) -> Self
    where
        F: for<'a, 'py> Fn(This<'a, 'py, T>) -> PyResult<Next<'py>> + Copy + 'static,
    {
        self.push(ffi::Py_tp_iter, ffi::PyObject_SelfIter as ffi::unaryfunc as *mut c_void);
        self.next(next, end_iteration)
    }

    fn next<F, E>(mut self, _next: F, _end: E) -> Self
    where
        F: for<'a, 'py> Fn(This<'a, 'py, T>) -> PyResult<Next<'py>> + Copy + 'static,
        E: Fn(Bound<'_, PyAny>) + Copy + 'static,
    {
        self.push(ffi::Py_tp_iternext, iternext::<T, F, E> as ffi::iternextfunc as *mut c_void);
        self.push(ffi::Py_am_send, send::<T, F> as ffi::sendfunc as *mut c_void);
        self
    }
}

unsafe extern "C" fn iter<T, F>(object: *mut ffi::PyObject) -> *mut ffi::PyObject
where
    T: Fields,
    F: for<'a, 'py> Fn(This<'a, 'py, T>) -> Reply<'py> + Copy + 'static,
{
    // SAFETY: `tp_iter` is called as a method without arguments is.
    unsafe { no_args::<T, F>(object, std::ptr::null_mut()) }
}

unsafe extern "C" fn iternext<T, F, E>(object: *mut ffi::PyObject) -> *mut ffi::PyObject
where
    T: Fields,
    F: for<'a, 'py> Fn(This<'a, 'py, T>) -> PyResult<Next<'py>> + Copy + 'static,
    E: Fn(Bound<'_, PyAny>) + Copy + 'static,
{
    // SAFETY: Python calls the slot attached and with an instance of the class.
    unsafe {
        let py = Python::assume_attached();
        let this = This::of_unchecked(Borrowed::from_ptr(py, object));
        match no_panic(|| witness::<F>()(this)) {
            Ok(Next::Wait(object)) => return object.into_ptr(),
            Ok(Next::Value(value)) => witness::<E>()(value),
            Err(error) => error.restore(py),
        }
    }
    std::ptr::null_mut()
}

unsafe extern "C" fn send<T, F>(
    object: *mut ffi::PyObject,
    _value: *mut ffi::PyObject,
    result: *mut *mut ffi::PyObject,
) -> ffi::PySendResult
where
    T: Fields,
    F: for<'a, 'py> Fn(This<'a, 'py, T>) -> PyResult<Next<'py>> + Copy + 'static,
{
    // SAFETY: as in `iternext`; `result` is the caller's to fill.
    unsafe {
        let py = Python::assume_attached();
        let this = This::of_unchecked(Borrowed::from_ptr(py, object));
        let (outcome, value) = match no_panic(|| witness::<F>()(this)) {
            Ok(Next::Wait(object)) => (ffi::PySendResult::PYGEN_NEXT, object.into_ptr()),
            Ok(Next::Value(value)) => (ffi::PySendResult::PYGEN_RETURN, value.into_ptr()),
            Err(error) => {
                error.restore(py);
                (ffi::PySendResult::PYGEN_ERROR, std::ptr::null_mut())
            }
        };
        *result = value;
        outcome
    }
}

/// `StopIteration(value)`.
pub(crate) fn stop_iteration_error(value: Bound<'_, PyAny>) -> PyErr {
    match value.py().get_type::<PyStopIteration>().call1((value,)) {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

/// Ends an iteration with a value: nothing set means None; tuples and exceptions need an instance of their own, since
/// setting them would spread or replace it.
fn end_iteration(value: Bound<'_, PyAny>) {
    let py = value.py();
    if value.is_none() {
        return;
    }
    if value.is_instance_of::<PyTuple>() || value.is_instance_of::<PyBaseException>() {
        stop_iteration_error(value).restore(py);
        return;
    }
    // SAFETY: attached; both are live objects.
    unsafe { ffi::PyErr_SetObject(ffi::PyExc_StopIteration, value.as_ptr()) }
}

/// As `end_iteration`, for who takes the exception's `value` and drops it: `await`. It is made without a call to its
/// class, without `args`, and not chained to an exception that is being handled.
fn end_await(value: Bound<'_, PyAny>) {
    let py = value.py();
    if value.is_none() {
        return;
    }
    // SAFETY: attached; the fields are those that `StopIteration.__new__` and `__init__` set, the others stay null.
    unsafe {
        let exception = ffi::PyType_GenericAlloc(ffi::PyExc_StopIteration.cast(), 0);
        if !exception.is_null() {
            let fields = exception.cast::<ffi::PyStopIterationObject>();
            (*fields).args = PyTuple::empty(py).into_ptr();
            (*fields).value = value.into_ptr();
            compat::raise(exception);
        }
    }
}
