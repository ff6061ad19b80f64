//! What happens when a future is done: callbacks are queued, tasks that wait for it are woken.
//!
//! On one of our loops both go straight into its queue; on any other a callback goes through its `call_soon`.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::{AnyFuture, Callback, Status};
use crate::handle;
use crate::py::call::Arguments;
use crate::py::errors::Error;
use crate::py::method::Receiver;
use crate::py::names::names;
use crate::py::object::Owned;
use crate::runtime::Runtime;

/// What came of awaiting a future.
pub(crate) enum Awaited {
    /// The callback is registered, or queued already.
    Waiting,
    OtherLoop,
    /// It was yielded by a plain `yield`.
    NotBlocking,
}

impl<'py> AnyFuture<'_, 'py> {
    /// Adds a callback, or queues it at once if the future is done.
    pub(crate) fn add_callback(self, callback: Callback) -> PyResult<()> {
        let mut state = self.state.open(self.py());
        if state.status == Status::Pending {
            state.push_callback(callback);
            return Ok(());
        }
        drop(state);
        self.schedule(callback)
    }

    /// A task on `loop_` was handed this future by an `await`: wakes it when the future is done.
    #[inline(always)]
    pub(crate) fn await_by(self, loop_: Borrowed<'_, 'py, PyAny>, wake: Callback) -> PyResult<Awaited> {
        let mut state = self.state.open(self.py());
        let refused = match &state.loop_ {
            Some(own) if own.as_ptr() != loop_.as_ptr() => Some(Awaited::OtherLoop),
            _ if !state.blocking => Some(Awaited::NotBlocking),
            _ => None,
        };
        if let Some(refused) = refused {
            drop(state);
            drop(wake);
            return Ok(refused);
        }
        state.blocking = false;
        if state.status == Status::Pending {
            state.push_callback(wake);
            return Ok(Awaited::Waiting);
        }
        drop(state);
        self.schedule(wake).map(|()| Awaited::Waiting)
    }

    pub(super) fn schedule_callbacks(self) -> PyResult<()> {
        let mut state = self.state.open(self.py());
        let first = state.first.take();
        let rest = state.more.as_mut().map(|more| std::mem::take(&mut more.rest));
        drop(state);
        if let Some(callback) = first {
            self.schedule(callback)?;
        }
        rest.into_iter().flatten().try_for_each(|callback| self.schedule(callback))
    }

    pub(super) fn schedule(self, callback: Callback) -> PyResult<()> {
        let py = self.py();
        let state = self.state.open(py);
        let Some(loop_) = &state.loop_ else {
            drop(state);
            return Err(Error::Uninitialized("Future").into());
        };
        let loop_ = loop_.clone_ref(py);
        drop(state);
        let loop_ = loop_.bind(py);
        match (callback, Runtime::receive(loop_.as_borrowed())) {
            (Callback::Wake(work), Some(runtime)) if runtime.is_direct() => Ok(runtime.schedule(py, work)?),
            // The loop's `call_soon` was replaced while the task waited.
            (Callback::Wake(work), _) => {
                let task = work.object.bind(py);
                let (wakeup, context) = (task.getattr(&names(py).wakeup)?, task.getattr(&names(py).task_context)?);
                call_soon(loop_, &wakeup, Some(self.object), &context)
            }
            (Callback::Call { function, context }, Some(runtime)) if runtime.is_direct() => {
                let callback = handle::Callback {
                    function: function.borrow(py),
                    arguments: Arguments::one(Owned::of(self.object)),
                    context: Some(context),
                };
                runtime.check_call()?;
                handle::call_soon(runtime, callback).map(|_| ())
            }
            (Callback::Call { function, context }, _) => {
                let context = context.into_context(py)?;
                call_soon(loop_, function.bind(py), Some(self.object), context.bind(py))
            }
        }
    }
}

/// `loop.call_soon(function[, argument], context=context)` on a loop that is not ours.
pub(crate) fn call_soon<'py>(
    loop_: &Bound<'py, PyAny>,
    function: &Bound<'py, PyAny>,
    argument: Option<Borrowed<'_, 'py, PyAny>>,
    context: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let py = loop_.py();
    let names = names(py);
    let keywords = PyDict::new(py);
    keywords.set_item(&names.context, context)?;
    match argument {
        Some(argument) => loop_.call_method(&names.call_soon, (function, argument), Some(&keywords)),
        None => loop_.call_method(&names.call_soon, (function,), Some(&keywords)),
    }
    .map(|_| ())
}
