//! What Python calls on a future: the methods and attributes of `asyncio.Future`, for futures and tasks alike.
//!
//! Each reads its arguments and calls one method of `AnyFuture`.

use pyo3::exceptions::{PyAttributeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};

use super::iterator::iterate;
use super::{AnyFuture, Callback, Future, FutureLike, FutureState, Outcome, Status};
use crate::py::awaiting::Next;
use crate::py::class::{self, Ancestry, Recipe, This};
use crate::py::compat;
use crate::py::context::Snapshot;
use crate::py::errors::Error;
use crate::py::method::{Args, Method, Reply, Slots};
use crate::py::names::names;
use crate::py::object::Owned;
use crate::py::reply;

type SetTo<'a, 'py> = Option<Borrowed<'a, 'py, PyAny>>;

pub(crate) fn define(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let base = names(py).future_class.bind(py).clone().cast_into()?;
    let recipe = Recipe {
        name: c"mioloop.Future",
        doc: c"Future(*, loop=None)\n--\n\nA result that is not there yet. Follows asyncio.Future.",
        ancestry: Ancestry::Inherits(&base),
    };
    let mut methods = settable_methods::<Future>();
    methods.push(Method::fast(c"cancel", c"cancel($self, /, msg=None)\n--\n\nCancels the future.", cancel));
    let slots = Slots::new().init(init::<Future>).repr(repr::<Future>).awaitable(next::<Future>, iterate::<Future>);
    Ok(class::define::<Future>(py, &recipe, methods, slots)?.into_any())
}

/// What futures and tasks have in common.
pub(crate) fn methods<T: FutureLike>() -> Vec<Method<T>> {
    vec![
        Method::no_args(c"result", c"The result; raises the exception that was set.", result::<T>),
        Method::no_args(c"exception", c"The exception that was set, or None.", exception::<T>),
        Method::no_args(c"__await__", c"An iterator for driving an await by hand.", iterate::<T>).instead_of_slot(),
        Method::no_args(c"__iter__", c"As __await__.", iterate::<T>).instead_of_slot(),
        Method::no_args(c"done", c"True once there is a result, an exception or a cancellation.", done::<T>),
        Method::no_args(c"cancelled", c"True if the future was cancelled.", cancelled::<T>),
        Method::no_args(c"get_loop", c"The event loop of the future.", get_loop::<T>),
        Method::no_args(c"_make_cancelled_error", c"The CancelledError of a cancelled future.", make_error::<T>),
        Method::no_args(c"_repr_info", c"The parts of repr().", repr_info::<T>),
        Method::fast(
            c"add_done_callback",
            c"add_done_callback($self, fn, /, *, context=<unrepresentable>)\n--\n\nCalls fn(future) when it is done.",
            add_done_callback::<T>,
        ),
        Method::one_arg(
            c"remove_done_callback",
            c"Removes every callback equal to fn; returns how many there were.",
            remove_done_callback::<T>,
        ),
        Method::get_set(c"_asyncio_future_blocking", blocking::<T>, set_blocking::<T>),
        Method::get_set(c"_log_traceback", log_traceback::<T>, set_log_traceback::<T>),
        Method::get_set(c"_cancel_message", cancel_message::<T>, set_cancel_message::<T>),
        Method::get(c"_state", state_name::<T>),
        Method::get(c"_loop", get_loop_or_fail::<T>),
        Method::get(c"_callbacks", callbacks::<T>),
        Method::get(c"_result", stored_result::<T>),
        Method::get(c"_exception", stored_exception::<T>),
        Method::get(c"_source_traceback", source_traceback::<T>),
    ]
}

/// What futures have that are no tasks.
pub(super) fn settable_methods<T: FutureLike>() -> Vec<Method<T>> {
    let mut methods = methods::<T>();
    methods.extend([
        Method::one_arg(c"set_result", c"Marks the future done with a result.", set_result::<T>),
        Method::one_arg(c"set_exception", c"Marks the future done with an exception.", set_exception::<T>),
    ]);
    methods
}

fn alive<'a, 'py, T: FutureLike>(this: This<'a, 'py, T>) -> PyResult<AnyFuture<'a, 'py>> {
    let future = AnyFuture::from(this);
    if future.is_initialized() { Ok(future) } else { Err(Error::Uninitialized("Future").into()) }
}

pub(super) fn init<'py, T: FutureLike>(
    this: This<'_, 'py, T>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<()> {
    if !args.is_empty() {
        return Err(PyTypeError::new_err("Future() takes no positional arguments"));
    }
    let mut loop_ = None;
    for (name, value) in kwargs.into_iter().flatten() {
        if !name.eq(&names(this.py()).loop_)? {
            return Err(PyTypeError::new_err(format!("Future() got an unexpected keyword argument '{name}'")));
        }
        loop_ = (!value.is_none()).then_some(value);
    }
    AnyFuture::from(this).attach(loop_)
}

pub(crate) fn repr<'py, T: FutureLike>(this: This<'_, 'py, T>) -> Reply<'py> {
    alive(this)?;
    compat::future_repr(&this.object(), T::IS_TASK)
}

fn repr_info<'py, T: FutureLike>(this: This<'_, 'py, T>) -> Reply<'py> {
    compat::future_repr_info(&this.object(), T::IS_TASK)
}

/// One step of `await future`.
#[inline(always)]
pub(crate) fn next<'py, T: FutureLike>(this: This<'_, 'py, T>) -> PyResult<Next<'py>> {
    let future = AnyFuture::from(this);
    let mut state = future.state().open(this.py());
    if state.status == Status::Pending {
        let initialized = state.loop_.is_some();
        let again = std::mem::replace(&mut state.blocking, true);
        drop(state);
        if !initialized || again {
            return Err(misused(initialized));
        }
        return Ok(Next::Wait(this.object().to_owned()));
    }
    if let Some(value) = state.plain_result() {
        let value = value.clone_ref(this.py());
        drop(state);
        return Ok(Next::Value(value.into_bound(this.py())));
    }
    drop(state);
    ended_badly(future)
}

#[cold]
fn misused(initialized: bool) -> PyErr {
    match initialized {
        true => Error::Runtime("await wasn't used with future".to_owned()).into(),
        false => Error::Uninitialized("Future").into(),
    }
}

#[cold]
fn ended_badly<'py>(future: AnyFuture<'_, 'py>) -> PyResult<Next<'py>> {
    future.result().map(Next::Value)
}

fn result<'py, T: FutureLike>(this: This<'_, 'py, T>) -> Reply<'py> {
    let future = AnyFuture::from(this);
    match future.outcome()? {
        Outcome::Pending if !future.is_initialized() => {
            Err(Error::InvalidState("Future object is not initialized.".into()).into())
        }
        outcome => outcome.into_result(),
    }
}

fn exception<'py, T: FutureLike>(this: This<'_, 'py, T>) -> Reply<'py> {
    alive_for_result(this)?.exception()
}

fn alive_for_result<'a, 'py, T: FutureLike>(this: This<'a, 'py, T>) -> PyResult<AnyFuture<'a, 'py>> {
    alive(this).map_err(|_| Error::InvalidState("Future object is not initialized.".into()).into())
}

fn done<'py, T: FutureLike>(this: This<'_, 'py, T>) -> Reply<'py> {
    reply::bool(this.py(), !AnyFuture::from(this).is_pending())
}

fn cancelled<'py, T: FutureLike>(this: This<'_, 'py, T>) -> Reply<'py> {
    let cancelled = this.future().open(this.py()).status == Status::Cancelled;
    reply::bool(this.py(), cancelled)
}

fn get_loop<'py, T: FutureLike>(this: This<'_, 'py, T>) -> Reply<'py> {
    AnyFuture::from(this).loop_object()
}

fn get_loop_or_fail<'py, T: FutureLike>(this: This<'_, 'py, T>) -> Reply<'py> {
    let future = AnyFuture::from(this);
    if future.is_initialized() { future.loop_object() } else { reply::none(this.py()) }
}

fn make_error<'py, T: FutureLike>(this: This<'_, 'py, T>) -> Reply<'py> {
    AnyFuture::from(this).make_cancelled_error()
}

fn set_result<'py, T: FutureLike>(this: This<'_, 'py, T>, value: Borrowed<'_, 'py, PyAny>) -> Reply<'py> {
    AnyFuture::from(this).set_result(value)?;
    reply::none(this.py())
}

fn set_exception<'py, T: FutureLike>(this: This<'_, 'py, T>, exception: Borrowed<'_, 'py, PyAny>) -> Reply<'py> {
    alive(this)?.set_exception(exception)?;
    reply::none(this.py())
}

fn cancel<'py>(this: This<'_, 'py, Future>, args: Args<'_, 'py>) -> Reply<'py> {
    let message = cancel_argument(args)?;
    reply::bool(this.py(), alive(this)?.cancel(message)?)
}

/// The `msg` of `cancel(msg=None)`.
pub(crate) fn cancel_argument(args: Args<'_, '_>) -> PyResult<Option<Owned>> {
    if args.len() > 1 {
        let given = args.len();
        return Err(PyTypeError::new_err(format!("cancel() takes at most 1 argument ({given} given)")));
    }
    let named = args.only_keyword("cancel", &names(args.py()).msg, &[])?;
    Ok(args.get(0).or(named).filter(|message| !message.is_none()).map(Owned::of))
}

fn add_done_callback<'py, T: FutureLike>(this: This<'_, 'py, T>, args: Args<'_, 'py>) -> Reply<'py> {
    let py = this.py();
    let (Some(function), 1) = (args.get(0), args.len()) else {
        let given = args.len();
        let text = format!("add_done_callback() takes exactly 1 positional argument ({given} given)");
        return Err(PyTypeError::new_err(text));
    };
    let context = match args.only_keyword("add_done_callback", &names(py).context, &[])? {
        Some(context) => Snapshot::given(context),
        None => Snapshot::take(py)?,
    };
    alive(this)?.add_callback(Callback::Call { function: Owned::of(function), context })?;
    reply::none(py)
}

fn remove_done_callback<'py, T: FutureLike>(this: This<'_, 'py, T>, function: Borrowed<'_, 'py, PyAny>) -> Reply<'py> {
    let py = this.py();
    let future = alive(this)?;
    let mut removed = 0_usize;
    let mut index = 0;
    // Comparing runs Python code, which may add and remove callbacks: each is looked at outside, removed if still there.
    while let Some(candidate) = future.callback_at(index) {
        if candidate.bind(py).eq(function)? && future.remove_callback(index, &candidate) {
            removed += 1;
        } else {
            index += 1;
        }
    }
    Ok(removed.into_pyobject(py)?.into_any())
}

impl<'py> AnyFuture<'_, 'py> {
    fn callback_at(self, index: usize) -> Option<Owned> {
        let state = self.state().open(self.py());
        let callback = state.callbacks().nth(index)?;
        Some(callback.function(self.py()))
    }

    /// Makes the contexts of all callbacks, to be seen. That may run Python code, which may change the callbacks: whichever
    /// of those that share a snapshot gets the context does not matter, as nobody has seen one before.
    fn make_contexts(self) -> PyResult<()> {
        let py = self.py();
        loop {
            let snapshot = self.state().open(py).without_context().map(|snapshot| snapshot.clone_ref(py));
            let Some(snapshot) = snapshot else { return Ok(()) };
            let made = Snapshot::of(snapshot.clone_ref(py).into_context(py)?);
            let mut state = self.state().open(py);
            let left = match state.without_context() {
                Some(waiting) if waiting.object().as_ptr() == snapshot.object().as_ptr() => {
                    std::mem::replace(waiting, made)
                }
                _ => made,
            };
            drop(state);
            drop(left);
        }
    }

    fn remove_callback(self, index: usize, expected: &Owned) -> bool {
        let mut state = self.state().open(self.py());
        let found = state.callbacks().nth(index);
        if found.is_none_or(|callback| callback.function_ptr() != expected.as_ptr()) {
            return false;
        }
        let had_first = state.first.is_some();
        let removed = match index {
            0 if had_first => state.first.take(),
            _ => Some(state.more().rest.remove(index - usize::from(had_first))),
        };
        drop(state);
        drop(removed);
        true
    }
}

impl FutureState {
    /// A callback whose context is still to be made.
    fn without_context(&mut self) -> Option<&mut Snapshot> {
        let rest = self.more.iter_mut().flat_map(|more| &mut more.rest);
        self.first.iter_mut().chain(rest).find_map(|callback| match callback {
            Callback::Call { context, .. } if context.context().is_none() => Some(context),
            _ => None,
        })
    }
}

impl Callback {
    fn function(&self, py: Python<'_>) -> Owned {
        match self {
            Callback::Wake(work) => work.object.clone_ref(py),
            Callback::Call { function, .. } => function.clone_ref(py),
        }
    }

    fn function_ptr(&self) -> *mut pyo3::ffi::PyObject {
        match self {
            Callback::Wake(work) => work.object.as_ptr(),
            Callback::Call { function, .. } => function.as_ptr(),
        }
    }
}

/// `_callbacks`: (callback, context) pairs, or None. A waiting task stands for its own wake-up.
fn callbacks<'py, T: FutureLike>(this: This<'_, 'py, T>) -> Reply<'py> {
    let py = this.py();
    let future = alive(this)?;
    future.make_contexts()?;
    let pairs: Vec<(Owned, Option<Owned>)> = {
        let state = future.state().open(py);
        let pair = |callback: &Callback| match callback {
            Callback::Wake(work) => (work.object.clone_ref(py), None),
            Callback::Call { function, context } => (function.clone_ref(py), Some(context.object().clone_ref(py))),
        };
        state.callbacks().map(pair).collect()
    };
    if pairs.is_empty() {
        return reply::none(py);
    }
    let list = PyList::empty(py);
    for (function, context) in pairs {
        match context {
            Some(context) => list.append((function.bind(py), context.bind(py)))?,
            None => {
                let task = function.bind(py);
                list.append((task.getattr(&names(py).wakeup)?, task.getattr(&names(py).task_context)?))?;
            }
        }
    }
    Ok(list.into_any())
}

fn blocking<'py, T: FutureLike>(this: This<'_, 'py, T>) -> Reply<'py> {
    let blocking = this.future().open(this.py()).blocking;
    reply::bool(this.py(), blocking)
}

fn set_blocking<T: FutureLike>(this: This<'_, '_, T>, value: SetTo<'_, '_>) -> PyResult<()> {
    let value = alive(this).and_then(|_| deletable(value))?.is_truthy()?;
    this.future().open(this.py()).blocking = value;
    Ok(())
}

pub(crate) fn deletable<'a, 'py>(value: SetTo<'a, 'py>) -> PyResult<Borrowed<'a, 'py, PyAny>> {
    value.ok_or_else(|| PyAttributeError::new_err("cannot delete attribute"))
}

fn log_traceback<'py, T: FutureLike>(this: This<'_, 'py, T>) -> Reply<'py> {
    let on = alive(this)?.state().open(this.py()).log_traceback;
    reply::bool(this.py(), on)
}

fn set_log_traceback<T: FutureLike>(this: This<'_, '_, T>, value: SetTo<'_, '_>) -> PyResult<()> {
    if deletable(value)?.is_truthy()? {
        return Err(Error::Value("_log_traceback can only be set to False".to_owned()).into());
    }
    this.future().open(this.py()).log_traceback = false;
    Ok(())
}

fn cancel_message<'py, T: FutureLike>(this: This<'_, 'py, T>) -> Reply<'py> {
    let py = this.py();
    let message = this.future().open(py).rare(py, |more| &more.cancel_message);
    reply::option(py, message)
}

fn set_cancel_message<T: FutureLike>(this: This<'_, '_, T>, value: SetTo<'_, '_>) -> PyResult<()> {
    let message = Owned::of(deletable(value)?);
    let old = this.future().open(this.py()).more().cancel_message.replace(message);
    drop(old);
    Ok(())
}

fn state_name<'py, T: FutureLike>(this: This<'_, 'py, T>) -> Reply<'py> {
    let status = alive(this)?.state().open(this.py()).status;
    let name = match status {
        Status::Pending => "PENDING",
        Status::Cancelled => "CANCELLED",
        Status::Finished => "FINISHED",
    };
    Ok(PyString::intern(this.py(), name).into_any())
}

fn stored_result<'py, T: FutureLike>(this: This<'_, 'py, T>) -> Reply<'py> {
    let py = this.py();
    let result = alive(this)?.state().open(py).result.as_ref().map(|result| result.clone_ref(py));
    reply::option(py, result)
}

fn stored_exception<'py, T: FutureLike>(this: This<'_, 'py, T>) -> Reply<'py> {
    let py = this.py();
    let exception = alive(this)?.state().open(py).rare(py, |more| &more.exception);
    reply::option(py, exception)
}

fn source_traceback<'py, T: FutureLike>(this: This<'_, 'py, T>) -> Reply<'py> {
    let py = this.py();
    let stack = this.future().open(py).rare(py, |more| &more.source_traceback);
    reply::option(py, stack)
}
