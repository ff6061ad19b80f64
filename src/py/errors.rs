//! `Error`: everything that can go wrong below the façade, and its one conversion to Python's exceptions.
//!
//! Types and texts are asyncio's own, since users match on them.

use std::borrow::Cow;
use std::io;

use pyo3::exceptions::{
    PyBlockingIOError, PyInterruptedError, PyKeyboardInterrupt, PyOSError, PyResourceWarning, PyRuntimeError,
    PySystemExit, PyTypeError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use rustix::io::Errno;

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

/// PyO3 does not attach at the interpreter's end: what is raised there is as near as can be.
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
                let made = Python::try_attach(|py| match names(py).invalid_state_error.bind(py).call1((&*text,)) {
                    Ok(exception) => PyErr::from_value(exception),
                    Err(error) => error,
                });
                made.unwrap_or_else(|| PyRuntimeError::new_err(text))
            }
            Error::Uninitialized(class) => PyRuntimeError::new_err(format!("{class} object is not initialized.")),
            Error::Runtime(text) => PyRuntimeError::new_err(text),
            Error::Type(text) => PyTypeError::new_err(text),
            Error::Value(text) => PyValueError::new_err(text),
            Error::Io(error) => {
                let made = Python::try_attach(|py| match os_error(py, &error) {
                    Ok(exception) | Err(exception) => exception,
                });
                made.unwrap_or_else(|| error.into())
            }
        }
    }
}

/// `OSError(errno, strerror(errno))`, of the subclass that belongs to the number.
fn os_error(py: Python<'_>, error: &io::Error) -> PyResult<PyErr> {
    let class = py.get_type::<PyOSError>();
    let exception = match error.raw_os_error() {
        Some(number) => class.call1((number, names(py).strerror.bind(py).call1((number,))?))?,
        None => class.call1((error.to_string(),))?,
    };
    Ok(PyErr::from_value(exception))
}

/// `KeyboardInterrupt` and `SystemExit` leave `run_forever`; every other exception is somebody's to handle.
pub(crate) fn ends_run(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyKeyboardInterrupt>(py) || error.is_instance_of::<PySystemExit>(py)
}

/// `BlockingIOError` or `InterruptedError`: to be tried again.
pub(crate) fn is_blocked(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyBlockingIOError>(py) || error.is_instance_of::<PyInterruptedError>(py)
}

pub(crate) fn is_os_error(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyOSError>(py)
}

/// Has it the number EIO?
pub(crate) fn is_io_error(error: &Bound<'_, PyAny>) -> bool {
    let number = error.getattr("errno").and_then(|number| number.extract::<i32>());
    error.is_instance_of::<PyOSError>() && number.is_ok_and(|number| number == Errno::IO.raw_os_error())
}

/// `warnings.warn(text, ResourceWarning, source=object)`.
pub(crate) fn warn_of_resource(object: &Bound<'_, PyAny>, text: &str) -> PyResult<()> {
    let py = object.py();
    let keywords = PyDict::new(py);
    keywords.set_item("source", object)?;
    let class = py.get_type::<PyResourceWarning>();
    py.import("warnings")?.call_method("warn", (text, class), Some(&keywords)).map(|_| ())
}
