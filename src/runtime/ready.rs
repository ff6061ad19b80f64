//! A unit of work: an object and the function that runs it.
//!
//! `handle.rs`, `task/step.rs` and, for I/O, whoever owns a descriptor make them; `cycle.rs` runs them. The run cycle
//! knows nothing else about what it runs.

use pyo3::prelude::*;

use super::Runtime;
use crate::py::class::This;
use crate::py::object::Owned;
use crate::py::ring::Ring;

/// Runs one unit of work. Errors are *returned*: the cycle reports them, so nothing below needs the façade.
pub(crate) type Run = fn(This<'_, '_, Runtime>, Owned) -> Result<(), Failure>;

/// Does at once what each of these units would do by itself, as far as that goes; they run all the same, and see what is
/// left. Runs no Python code.
pub(crate) type Together = fn(Python<'_>, &[Ready], &mut Ring);

/// Work that is ready to run.
pub(crate) struct Ready {
    pub(crate) object: Owned,
    pub(crate) run: Run,
}

impl Ready {
    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        Ready { object: self.object.clone_ref(py), run: self.run }
    }
}

/// What went wrong in a unit of work.
pub(crate) enum Failure {
    /// `KeyboardInterrupt`, `SystemExit`, or an error of the loop itself: leaves `run_forever`.
    Exit(PyErr),
    /// For `loop.call_exception_handler`.
    Report(Box<Report>),
}

/// The context of an exception handler call.
pub(crate) struct Report {
    pub(crate) message: String,
    pub(crate) exception: PyErr,
    pub(crate) handle: Owned,
    pub(crate) source_traceback: Option<Owned>,
}

impl Failure {
    /// An error of work that is no callback of the user's: reported as asyncio reports a callback, with the object in the
    /// handle's place. `KeyboardInterrupt` and `SystemExit` too: the cycle knows which exceptions end a run.
    #[cold]
    pub(crate) fn of_work(object: Borrowed<'_, '_, PyAny>, exception: PyErr) -> Self {
        let shown = object.repr().map_or_else(|_| String::from("native code"), |repr| repr.to_string());
        let message = format!("Exception in callback {shown}");
        Failure::Report(Box::new(Report { message, exception, handle: Owned::of(object), source_traceback: None }))
    }
}

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Self {
        Failure::Exit(error)
    }
}
