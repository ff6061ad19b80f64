//! `Future`: a result cell with callbacks that is its own await-iterator.
//!
//! `FutureState` is the state that futures and tasks share; `AnyFuture` is either of them seen as a future, and carries
//! the behaviour of asyncio's `Future`. The methods that Python calls are in `future/methods.rs`. On one of our loops
//! callbacks go straight into its queue; on any other through its `call_soon`.

pub(crate) mod callbacks;
pub(crate) mod iterator;
pub(crate) mod methods;
pub(crate) mod operation;
mod state;

use pyo3::exceptions::{PyBaseException, PyStopIteration};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};

use crate::py::cell::LoopCell;
use crate::py::class::{Class, Fields, Stop, This, Visit};
use crate::py::compat;
use crate::py::errors::Error;
use crate::py::memory;
use crate::py::method::Receiver;
use crate::py::names::{self, names};
use crate::py::object::Owned;
use crate::runtime::Runtime;
pub(crate) use callbacks::{Awaited, call_soon};
pub(crate) use state::{Callback, FutureState, Status};

/// A native class that behaves as a future.
pub(crate) trait FutureLike: Fields {
    const IS_TASK: bool;
    fn future(&self) -> &LoopCell<FutureState>;
}

/// `mioloop.Future`.
pub(crate) struct Future {
    state: LoopCell<FutureState>,
}

static FUTURE: Class = Class::new();

impl Fields for Future {
    const FINALIZES: bool = true;

    fn class() -> &'static Class {
        &FUTURE
    }
    fn empty() -> Option<Self> {
        Some(Future { state: LoopCell::new(FutureState::new()) })
    }
    fn visit(&self, visit: Visit<'_>) -> Result<(), Stop> {
        self.state.peek().map_or(Ok(()), |state| state.visit(visit))
    }
    fn take_references(&self, py: Python<'_>) -> Vec<Owned> {
        self.state.open(py).take_references()
    }
    fn wants_finalizer(&self) -> bool {
        self.state.peek().is_none_or(|state| state.log_traceback)
    }
    fn finalize(this: This<'_, '_, Self>) {
        AnyFuture::from(this).report_unretrieved();
    }
}

impl FutureLike for Future {
    const IS_TASK: bool = false;
    fn future(&self) -> &LoopCell<FutureState> {
        &self.state
    }
}

/// `loop.create_future()`.
pub(crate) fn create<'py>(loop_: This<'_, 'py, Runtime>) -> PyResult<Bound<'py, PyAny>> {
    memory::create(loop_.py(), Future { state: LoopCell::new(FutureState::on(loop_)?) })
}

/// How a future ended.
pub(crate) enum Outcome<'py> {
    Value(Bound<'py, PyAny>),
    /// The exception, or the CancelledError.
    Exception(Bound<'py, PyAny>),
    Pending,
}

impl<'py> Outcome<'py> {
    pub(crate) fn into_result(self) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Outcome::Value(value) => Ok(value),
            Outcome::Exception(exception) => Err(PyErr::from_value(exception)),
            Outcome::Pending => Err(Error::InvalidState("Result is not set.".into()).into()),
        }
    }
}

/// A native future or task, seen as a future.
pub(crate) struct AnyFuture<'a, 'py> {
    object: Borrowed<'a, 'py, PyAny>,
    state: &'a LoopCell<FutureState>,
}

impl Clone for AnyFuture<'_, '_> {
    fn clone(&self) -> Self {
        *self
    }
}
impl Copy for AnyFuture<'_, '_> {}

impl<'a, 'py, T: FutureLike> From<This<'a, 'py, T>> for AnyFuture<'a, 'py> {
    fn from(this: This<'a, 'py, T>) -> Self {
        AnyFuture { object: this.object(), state: this.fields().future() }
    }
}

impl<'a, 'py> AnyFuture<'a, 'py> {
    pub(crate) fn py(self) -> Python<'py> {
        self.object.py()
    }

    pub(crate) fn state(self) -> &'a LoopCell<FutureState> {
        self.state
    }

    /// `__init__`: gives the future its loop.
    pub(crate) fn attach(self, loop_: Option<Bound<'py, PyAny>>) -> PyResult<()> {
        let py = self.py();
        let loop_ = match loop_ {
            Some(loop_) => loop_,
            None => compat::default_loop(py)?,
        };
        let mut fresh = FutureState::new();
        let debug = match Runtime::receive(loop_.as_borrowed()) {
            Some(runtime) => runtime.is_debug(),
            None => loop_.call_method0(&names(py).get_debug)?.is_truthy()?,
        };
        if debug {
            fresh.more().source_traceback = Some(Owned::new(names::extract_stack(py)?));
        }
        fresh.loop_ = Some(Owned::new(loop_));
        let mut state = self.state.open(py);
        if compat::INIT_ONCE && state.loop_.is_some() {
            let class = self.object.get_type().fully_qualified_name()?;
            drop(state);
            return Err(Error::Runtime(format!("{class} object is already initialized")).into());
        }
        let old = std::mem::replace(&mut *state, fresh);
        drop(state);
        drop(old);
        Ok(())
    }

    fn class_name(self) -> String {
        self.object.get_type().name().map_or_else(|_| String::from("Future"), |name| name.to_string())
    }

    /// The loop, or the error of an object whose `__init__` never ran.
    pub(crate) fn loop_object(self) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py();
        let state = self.state.open(py);
        let link = state.loop_.as_ref().map(|loop_| loop_.clone_ref(py));
        drop(state);
        link.map(|object| object.into_bound(py)).ok_or_else(|| Error::Uninitialized("Future").into())
    }

    pub(crate) fn is_initialized(self) -> bool {
        self.state.open(self.py()).loop_.is_some()
    }

    pub(crate) fn is_pending(self) -> bool {
        self.state.open(self.py()).status == Status::Pending
    }

    #[inline(always)]
    pub(crate) fn set_result(self, value: Borrowed<'_, 'py, PyAny>) -> PyResult<()> {
        let py = self.py();
        let value = Owned::of(value);
        let mut state = self.state.open(py);
        if state.status != Status::Pending || state.loop_.is_none() {
            let initialized = state.loop_.is_some();
            drop(state);
            return Err(if initialized {
                Error::InvalidState("invalid state".into()).into()
            } else {
                Error::Uninitialized("Future").into()
            });
        }
        state.status = Status::Finished;
        state.result = Some(value);
        if state.more.is_some() {
            drop(state);
            return self.schedule_callbacks();
        }
        // The usual future: one task waits for it, or nobody.
        match (state.first.take(), &state.loop_) {
            (None, _) => Ok(()),
            (Some(Callback::Wake(work)), Some(loop_)) => {
                let loop_ = loop_.clone_ref(py);
                drop(state);
                match Runtime::receive(loop_.borrow(py)) {
                    Some(runtime) if runtime.is_direct() => Ok(runtime.schedule(py, work)?),
                    _ => self.schedule(Callback::Wake(work)),
                }
            }
            (Some(callback), _) => {
                drop(state);
                self.schedule(callback)
            }
        }
    }

    /// `exception`: an instance, or a class to call.
    pub(crate) fn set_exception(self, exception: Borrowed<'_, 'py, PyAny>) -> PyResult<()> {
        let py = self.py();
        if !self.is_pending() {
            return Err(Error::InvalidState("invalid state".into()).into());
        }
        let mut value = exception.to_owned();
        if let Ok(class) = exception.cast::<PyType>()
            && class.is_subclass_of::<PyBaseException>()?
        {
            value = exception.call0()?;
        }
        if !value.is_instance_of::<PyBaseException>() {
            return Err(Error::Type("invalid exception object".to_owned()).into());
        }
        if value.is_instance_of::<PyStopIteration>() {
            value = compat::stop_iteration_in_future(&value)?;
        }
        let traceback = value.getattr("__traceback__")?;
        let traceback = (!traceback.is_none()).then(|| Owned::new(traceback));
        let mut state = self.state.open(py);
        if state.status != Status::Pending {
            drop(state);
            return Err(Error::InvalidState("invalid state".into()).into());
        }
        state.status = Status::Finished;
        state.log_traceback = true;
        let more = state.more();
        more.exception = Some(Owned::new(value));
        more.exception_traceback = traceback;
        drop(state);
        self.schedule_callbacks()
    }

    /// False if it is done already.
    pub(crate) fn cancel(self, message: Option<Owned>) -> PyResult<bool> {
        let mut state = self.state.open(self.py());
        state.log_traceback = false;
        if state.status != Status::Pending {
            drop(state);
            drop(message);
            return Ok(false);
        }
        state.status = Status::Cancelled;
        let old = match message {
            None => state.more.as_mut().and_then(|more| more.cancel_message.take()),
            message => std::mem::replace(&mut state.more().cancel_message, message),
        };
        drop(state);
        drop(old);
        self.schedule_callbacks().map(|()| true)
    }

    /// What `await` gives; marks an exception as retrieved.
    pub(crate) fn outcome(self) -> PyResult<Outcome<'py>> {
        let py = self.py();
        let mut state = self.state.open(py);
        match state.status {
            Status::Pending => Ok(Outcome::Pending),
            Status::Cancelled => {
                drop(state);
                self.make_cancelled_error().map(Outcome::Exception)
            }
            Status::Finished => {
                state.log_traceback = false;
                if let Some(exception) = state.rare(py, |more| &more.exception) {
                    let traceback = state.more().exception_traceback.take();
                    drop(state);
                    let exception = exception.into_bound(py);
                    let traceback = traceback.map(|traceback| traceback.into_bound(py));
                    exception.setattr("__traceback__", traceback)?;
                    return Ok(Outcome::Exception(exception));
                }
                let value = state.result.as_ref().map(|value| value.clone_ref(py));
                drop(state);
                Ok(Outcome::Value(value.map_or_else(|| py.None().into_bound(py), |value| value.into_bound(py))))
            }
        }
    }

    /// What to throw into a task that awaited this future; None if it has a result.
    #[inline(always)]
    pub(crate) fn failure(self) -> PyResult<Option<Bound<'py, PyAny>>> {
        {
            let state = self.state.open(self.py());
            if state.status == Status::Finished && !state.has_exception() {
                return Ok(None);
            }
        }
        match self.outcome()? {
            Outcome::Exception(exception) => Ok(Some(exception)),
            Outcome::Value(_) | Outcome::Pending => Ok(None),
        }
    }

    /// `result()`: raises what `set_exception` was given.
    pub(crate) fn result(self) -> PyResult<Bound<'py, PyAny>> {
        self.outcome()?.into_result()
    }

    /// `exception()`.
    pub(crate) fn exception(self) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py();
        let mut state = self.state.open(py);
        match state.status {
            Status::Pending => {
                drop(state);
                Err(Error::InvalidState("Exception is not set.".into()).into())
            }
            Status::Cancelled => {
                drop(state);
                Err(PyErr::from_value(self.make_cancelled_error()?))
            }
            Status::Finished => {
                state.log_traceback = false;
                let exception = state.rare(py, |more| &more.exception);
                drop(state);
                Ok(exception.map_or_else(|| py.None().into_bound(py), |exception| exception.into_bound(py)))
            }
        }
    }

    /// `_make_cancelled_error()`: the error that ended the task, once, or a new one with the message of `cancel()`.
    pub(crate) fn make_cancelled_error(self) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py();
        let mut state = self.state.open(py);
        let kept = state.more.as_mut().and_then(|more| more.cancelled_error.take());
        let message = state.rare(py, |more| &more.cancel_message);
        drop(state);
        match kept {
            Some(kept) if compat::CANCELLED_ERROR_IS_KEPT => Ok(kept.into_bound(py)),
            kept => {
                let class = names(py).cancelled_error.bind(py);
                let error = match message.map(|message| message.into_bound(py)).filter(|message| !message.is_none()) {
                    Some(message) => class.call1((message,))?,
                    None => class.call0()?,
                };
                if let Some(kept) = kept {
                    error.setattr("__context__", kept.bind(py))?;
                }
                Ok(error)
            }
        }
    }

    /// `__del__`: an exception that nobody asked for goes to the loop's exception handler.
    pub(crate) fn report_unretrieved(self) {
        let py = self.py();
        let mut state = self.state.open(py);
        if !std::mem::take(&mut state.log_traceback) {
            return;
        }
        let exception = state.rare(py, |more| &more.exception);
        drop(state);
        let message = format!("{} exception was never retrieved", self.class_name());
        let exception = exception.map(|exception| exception.into_bound(py));
        self.call_exception_handler(&message, &names(py).future, exception);
    }

    /// Tells the loop's exception handler about this object; there is nobody left to raise to.
    pub(crate) fn call_exception_handler(
        self,
        message: &str,
        role: &Py<pyo3::types::PyString>,
        exception: Option<Bound<'py, PyAny>>,
    ) {
        let py = self.py();
        let names = names(py);
        let tell = || -> PyResult<()> {
            let context = PyDict::new(py);
            context.set_item(&names.message, message)?;
            if let Some(exception) = exception {
                context.set_item(&names.exception, exception)?;
            }
            context.set_item(role, self.object)?;
            let stack = self.state.open(py).rare(py, |more| &more.source_traceback);
            if let Some(stack) = stack {
                context.set_item(&names.source_traceback, stack.bind(py))?;
            }
            self.loop_object()?.call_method1(&names.call_exception_handler, (context,)).map(|_| ())
        };
        if let Err(error) = tell() {
            error.write_unraisable(py, Some(&self.object));
        }
    }
}
