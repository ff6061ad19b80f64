//! One step of a task: send or throw, then interpret what the coroutine yielded.
//!
//! Run by the cycle (`run`), by a foreign loop or future through `_step` and `_wakeup`, and at once for an eager start.
//! Follows `__step` and `__wakeup` of asyncio.tasks.Task and their C twins.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::Task;
use crate::future::operation::Operation;
use crate::future::{AnyFuture, Awaited, Callback, Future};
use crate::py::call::{Step, is_generator, send_none, throw};
use crate::py::class::This;
use crate::py::context::{Snapshot, in_context};
use crate::py::errors::{self, Error};
use crate::py::memory;
use crate::py::method::{Receiver, Reply};
use crate::py::names::names;
use crate::py::object::Owned;
use crate::py::registry;
use crate::py::reply;
use crate::runtime::Runtime;
use crate::runtime::ready::{Failure, Ready};

/// The first step of a task on one of our loops. The collector sees the task from here on.
///
/// While many tasks are made, most of what young collections look at are tasks that wait for this: each is in the queue
/// of a loop that runs, so none can be garbage. When the run ends, `cycle.rs` shows what is left of them.
pub(crate) fn begin(loop_: This<'_, '_, Runtime>, object: Owned) -> Result<(), Failure> {
    memory::track(object.borrow(loop_.py()));
    run(loop_, object)
}

/// The unit of work of a task on one of our loops: its next step, or its wake-up.
pub(crate) fn run(loop_: This<'_, '_, Runtime>, object: Owned) -> Result<(), Failure> {
    let py = loop_.py();
    let this = This::<Task>::of(object.borrow(py)).expect("the object is chosen with the function");
    loop_.enter_task(this.object())?;
    let result = match this.take_wakeup() {
        Ok(thrown) => step(this, Some(loop_), thrown, true),
        Err(error) => Err(error),
    };
    result.map_err(|error| Failure::of_work(this.object(), error))
}

/// `_step()`: what a task gives to `call_soon` of a loop that is not ours. The loop has entered the context.
pub(super) fn step_method<'py>(this: This<'_, 'py, Task>) -> Reply<'py> {
    let thrown = this.take_wakeup()?;
    step_as_callback(this, thrown)
}

/// `_wakeup(future)`: the callback of an awaited future that is not ours.
pub(super) fn wakeup_method<'py>(this: This<'_, 'py, Task>, future: Borrowed<'_, 'py, PyAny>) -> Reply<'py> {
    let py = this.py();
    let awaited = this.state.open(py).waiting_on.take();
    if let Some(awaited) = awaited {
        registry::stop_waiting(awaited.borrow(py), this.object(), false)?;
    }
    let thrown = match future.call_method0(&names(py).result) {
        Ok(_) => None,
        Err(error) => Some(error.into_value(py).into_bound(py).into_any()),
    };
    step_as_callback(this, thrown)
}

fn step_as_callback<'py>(this: This<'_, 'py, Task>, thrown: Option<Bound<'py, PyAny>>) -> Reply<'py> {
    let py = this.py();
    let loop_ = this.as_future().loop_object()?;
    match Runtime::receive(loop_.as_borrowed()) {
        Some(runtime) => {
            runtime.check_no_task(this.object())?;
            runtime.enter_task(this.object())?;
            let result = step(this, None, thrown, false);
            runtime.leave_task()?;
            result?;
        }
        None => {
            registry::enter(&loop_, &this.object())?;
            let result = step(this, None, thrown, false);
            registry::leave(&loop_, &this.object())?;
            result?;
        }
    }
    reply::none(py)
}

/// Takes the first step inside `create_task`, in the middle of whatever runs now.
pub(super) fn start_eagerly<'py>(this: This<'_, 'py, Task>, loop_: &Bound<'py, PyAny>) -> PyResult<()> {
    let task = this.object().to_owned();
    let previous = registry::swap_current(loop_, Some(&task))?;
    let result = (|| {
        registry::register_eager(this.object())?;
        let result = step(this, None, None, true);
        registry::unregister_eager(this.object())?;
        result
    })();
    registry::set_current(loop_, previous.as_ref())?;
    if !this.as_future().is_pending() {
        let coroutine = this.state.open(this.py()).coroutine.take();
        drop(coroutine);
    }
    result
}

impl<'py> This<'_, 'py, Task> {
    /// What the wake-up brings: an exception to throw, if what was awaited failed.
    #[inline(always)]
    fn take_wakeup(&self) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = self.py();
        let (thrown, awaited) = {
            let mut state = self.state.open(py);
            (state.throw_next.take(), state.waiting_on.take())
        };
        if let Some(awaited) = awaited {
            let future = native(awaited.borrow(py));
            registry::stop_waiting(awaited.borrow(py), self.object(), future.is_some())?;
            if let Some(future) = future {
                return future.failure();
            }
        }
        Ok(thrown.map(|thrown| thrown.into_bound(py)))
    }

    fn throw_next(&self, text: String) -> PyResult<()> {
        let py = self.py();
        let error = PyRuntimeError::new_err(text).into_value(py).into_bound(py).into_any();
        let old = self.state.open(py).throw_next.replace(Owned::new(error));
        drop(old);
        self.schedule_step()
    }
}

/// `home`: the loop, if it is the loop itself that runs the step.
#[inline(always)]
fn step<'py>(
    this: This<'_, 'py, Task>,
    home: Option<This<'_, 'py, Runtime>>,
    thrown: Option<Bound<'py, PyAny>>,
    enter_context: bool,
) -> PyResult<()> {
    let py = this.py();
    if !this.as_future().is_pending() {
        return Err(already_done(this, thrown.as_ref()));
    }
    let (coroutine, context, must_cancel) = {
        let mut state = this.state.open(py);
        let context = state.context.as_mut().and_then(|snapshot| {
            snapshot.make_from_spare(py);
            snapshot.context().map(|context| context.clone_ref(py))
        });
        let coroutine = state.coroutine.as_ref().map(|coroutine| coroutine.clone_ref(py));
        (coroutine, context, std::mem::take(&mut state.must_cancel))
    };
    let Some(coroutine) = coroutine else {
        return Err(Error::Runtime("uninitialized Task object".to_owned()).into());
    };
    let context = match context {
        Some(context) => context,
        None => Owned::new(this.context()?),
    };
    let thrown = match thrown {
        thrown if !must_cancel => thrown,
        Some(thrown) if thrown.is_instance(names(py).cancelled_error.bind(py))? => Some(thrown),
        _ => Some(this.as_future().make_cancelled_error()?),
    };
    let coroutine = coroutine.bind(py);
    let advance = || match thrown {
        None => send_none(coroutine),
        Some(thrown) => throw(coroutine, thrown),
    };
    let outcome = if enter_context { in_context(context.bind(py), advance)? } else { advance() };
    match outcome {
        Step::Yielded(awaited) => interpret(this, home, awaited, context),
        Step::Returned(value) => {
            leave_context(this, context);
            returned(this, &value)
        }
        Step::Raised(error) => {
            leave_context(this, context);
            raised(this, error)
        }
    }
}

/// The task is done: of a context that nobody else has seen, its variables are enough to keep.
#[inline(always)]
fn leave_context(this: This<'_, '_, Task>, context: Owned) {
    drop(context);
    let mut state = this.state.open(this.py());
    state.context = state.context.take().map(|context| Snapshot::of_finished(context.into_object()));
}

#[cold]
fn already_done(this: This<'_, '_, Task>, thrown: Option<&Bound<'_, PyAny>>) -> PyErr {
    let task = this.object().repr().map_or_else(|_| String::new(), |repr| repr.to_string());
    let thrown = thrown.map_or_else(|| Ok("None".to_owned()), |thrown| thrown.repr().map(|repr| repr.to_string()));
    let text = format!("__step(): already done: {task}, {}", thrown.unwrap_or_default());
    Error::InvalidState(text.into()).into()
}

fn returned<'py>(this: This<'_, 'py, Task>, value: &Bound<'py, PyAny>) -> PyResult<()> {
    let py = this.py();
    let must_cancel = std::mem::take(&mut this.state.open(py).must_cancel);
    this.unregister()?;
    if must_cancel {
        // The cancellation came too late to be thrown, and too early to be refused.
        let message = this.future.open(py).more().cancel_message.take();
        return this.as_future().cancel(message).map(|_| ());
    }
    this.as_future().set_result(value.as_borrowed())
}

fn raised(this: This<'_, '_, Task>, error: PyErr) -> PyResult<()> {
    let py = this.py();
    this.unregister()?;
    // Until 3.11 the traceback is apart from the exception, and joins it here.
    let exception = error.into_value(py).into_bound(py).into_any();
    if exception.is_instance(names(py).cancelled_error.bind(py))? {
        let old = this.future.open(py).more().cancelled_error.replace(Owned::new(exception));
        drop(old);
        return this.as_future().cancel(None).map(|_| ());
    }
    this.as_future().set_exception(exception.as_borrowed())?;
    let error = PyErr::from_value(exception);
    if errors::ends_run(py, &error) { Err(error) } else { Ok(()) }
}

/// A future or task of exactly our classes, whose methods no subclass has changed.
#[inline(always)]
fn native<'a, 'py>(object: Borrowed<'a, 'py, PyAny>) -> Option<AnyFuture<'a, 'py>> {
    if let Some(future) = This::<Future>::of_exact(object) {
        return Some(future.into());
    }
    if let Some(task) = This::<Task>::of_exact(object) {
        return Some(task.into());
    }
    This::<Operation>::of_exact(object).map(AnyFuture::from)
}

/// Arranges for the next step, by what the coroutine yielded.
#[inline(always)]
fn interpret<'py>(
    this: This<'_, 'py, Task>,
    home: Option<This<'_, 'py, Runtime>>,
    awaited: Bound<'py, PyAny>,
    context: Owned,
) -> PyResult<()> {
    if let Some(home) = home
        && home.is_direct()
    {
        if awaited.is_none() {
            return Ok(home.schedule(this.py(), Ready { object: this.owned(), run })?);
        }
        if awaited.as_ptr() != this.object().as_ptr()
            && let Some(future) = native(awaited.as_borrowed())
        {
            return await_native(this, home.object(), future, &awaited);
        }
    } else if awaited.is_none() {
        return this.schedule_step();
    }
    interpret_any(this, awaited, context)
}

/// A future of ours, awaited in a step that our loop runs.
#[inline(always)]
fn await_native<'py>(
    this: This<'_, 'py, Task>,
    home: Borrowed<'_, 'py, PyAny>,
    future: AnyFuture<'_, 'py>,
    awaited: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let wake = Callback::Wake(Ready { object: this.owned(), run });
    match future.await_by(home, wake)? {
        Awaited::Waiting => wait_for(this, awaited, true),
        Awaited::OtherLoop => other_loop(this, awaited),
        Awaited::NotBlocking => not_blocking(this, awaited),
    }
}

/// A step that something else runs, or something else awaited.
fn interpret_any<'py>(this: This<'_, 'py, Task>, awaited: Bound<'py, PyAny>, context: Owned) -> PyResult<()> {
    let loop_ = this.as_future().loop_object()?;
    if awaited.as_ptr() != this.object().as_ptr()
        && let Some(future) = native(awaited.as_borrowed())
        && Runtime::receive(loop_.as_borrowed()).is_some_and(|runtime| runtime.is_direct())
    {
        return await_native(this, loop_.as_borrowed(), future, &awaited);
    }
    interpret_foreign(this, &loop_, awaited, context)
}

/// Remembers what is awaited, and passes on a cancellation that came during the step.
#[inline(always)]
fn wait_for<'py>(this: This<'_, 'py, Task>, awaited: &Bound<'py, PyAny>, both_ours: bool) -> PyResult<()> {
    let py = this.py();
    registry::start_waiting(awaited.as_borrowed(), this.object(), both_ours)?;
    let (must_cancel, before) = {
        let mut state = this.state.open(py);
        (state.must_cancel, state.waiting_on.replace(Owned::new(awaited.clone())))
    };
    drop(before);
    if must_cancel {
        let message = this.future.open(py).rare(py, |more| &more.cancel_message);
        if cancel_awaited(awaited.as_borrowed(), message)? {
            this.state.open(py).must_cancel = false;
        }
    }
    Ok(())
}

/// `awaited.cancel(msg=message)`.
pub(super) fn cancel_awaited(awaited: Borrowed<'_, '_, PyAny>, message: Option<Owned>) -> PyResult<bool> {
    let py = awaited.py();
    if let Some(future) = This::<Future>::of_exact(awaited) {
        return AnyFuture::from(future).cancel(message);
    }
    if let Some(task) = This::<Task>::of_exact(awaited) {
        return task.cancel(message);
    }
    if let Some(operation) = This::<Operation>::of_exact(awaited) {
        return operation.cancel(message);
    }
    let keywords = PyDict::new(py);
    keywords.set_item(&names(py).msg, message.map(|message| message.into_bound(py)))?;
    awaited.call_method(&names(py).cancel, (), Some(&keywords))?.is_truthy()
}

fn other_loop(this: This<'_, '_, Task>, awaited: &Bound<'_, PyAny>) -> PyResult<()> {
    let (task, future) = (this.object().repr()?, awaited.repr()?);
    this.throw_next(format!("Task {task} got Future {future} attached to a different loop"))
}

fn not_blocking(this: This<'_, '_, Task>, awaited: &Bound<'_, PyAny>) -> PyResult<()> {
    let (task, future) = (this.object().repr()?, awaited.repr()?);
    this.throw_next(format!("yield was used instead of yield from in task {task} with {future}"))
}

/// Anything else: a future of another kind, or a mistake.
fn interpret_foreign<'py>(
    this: This<'_, 'py, Task>,
    loop_: &Bound<'py, PyAny>,
    awaited: Bound<'py, PyAny>,
    context: Owned,
) -> PyResult<()> {
    let py = this.py();
    let names = names(py);
    let blocking = awaited.getattr_opt(&names.asyncio_future_blocking)?.filter(|blocking| !blocking.is_none());
    let Some(blocking) = blocking else {
        let shown = awaited.repr()?;
        if is_generator(awaited.as_borrowed()) {
            let task = this.object().repr()?;
            return this
                .throw_next(format!("yield was used instead of yield from for generator in task {task} with {shown}"));
        }
        return this.throw_next(format!("Task got bad yield: {shown}"));
    };
    let future_loop = match awaited.getattr_opt(&names.get_loop)? {
        Some(get_loop) => get_loop.call0()?,
        None => awaited.getattr(&names.private_loop)?,
    };
    if !future_loop.is(loop_) {
        return other_loop(this, &awaited);
    }
    if !blocking.is_truthy()? {
        return not_blocking(this, &awaited);
    }
    if awaited.as_ptr() == this.object().as_ptr() {
        let task = this.object().repr()?;
        return this.throw_next(format!("Task cannot await on itself: {task}"));
    }
    awaited.setattr(&names.asyncio_future_blocking, false)?;
    let keywords = PyDict::new(py);
    keywords.set_item(&names.context, context.bind(py))?;
    let wakeup = this.object().getattr(&names.wakeup)?;
    awaited.call_method(&names.add_done_callback, (wakeup,), Some(&keywords))?;
    wait_for(this, &awaited, false)
}
