//! `Error`: everything that can go wrong below the façade, and its one conversion to Python's exceptions.
//!
//! Types and texts are asyncio's own, since users match on them.

use std::borrow::Cow;
use std::io;

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;

use super::names::names;

#[derive(Debug)]
pub(crate) enum Error {
    /// The loop was closed.
    Closed,
    AlreadyRunning,
    OtherLoopRunning,
    /// Debug mode: called from a thread that the loop does not run in.
    WrongThread,
    /// `InvalidStateError` with this text.
    InvalidState(Cow<'static, str>),
    /// A subclass forgot to call `__init__`.
    Uninitialized(&'static str),
    Runtime(String),
    Type(String),
    Value(String),
    Io(io::Error),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Error::Io(error)
    }
}

impl From<Error> for PyErr {
    fn from(error: Error) -> PyErr {
        match error {
            Error::Closed => PyRuntimeError::new_err("Event loop is closed"),
            Error::AlreadyRunning => PyRuntimeError::new_err("This event loop is already running"),
            Error::OtherLoopRunning => {
                PyRuntimeError::new_err("Cannot run the event loop while another loop is running")
            }
            Error::WrongThread => {
                PyRuntimeError::new_err("Non-thread-safe operation invoked on an event loop other than the current one")
            }
            Error::InvalidState(text) => {
                Python::attach(|py| match names(py).invalid_state_error.bind(py).call1((text,)) {
                    Ok(exception) => PyErr::from_value(exception),
                    Err(error) => error,
                })
            }
            Error::Uninitialized(class) => PyRuntimeError::new_err(format!("{class} object is not initialized.")),
            Error::Runtime(text) => PyRuntimeError::new_err(text),
            Error::Type(text) => PyTypeError::new_err(text),
            Error::Value(text) => PyValueError::new_err(text),
            Error::Io(error) => error.into(),
        }
    }
}
