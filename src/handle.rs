//! `Handle`: what `call_soon` returns.
//!
//! Handles stand for asyncio's Python classes: `__class__` names them, and their methods are borrowed. Callback, arguments
//! and context are kept in native fields, and `_callback`, `_args`, ... are attributes computed from them, so that the
//! borrowed `__repr__`, comparisons and hash work unchanged. Made by `event_loop.rs`, `future.rs` and `readers.rs`; run by the cycle.

use std::fmt::Write as _;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::py::call::Arguments;
use crate::py::cell::LoopCell;
use crate::py::class::{self, Ancestry, Class, Fields, Recipe, Stop, This, Visit};
use crate::py::context::{Snapshot, context_in, in_context};
use crate::py::memory;
use crate::py::method::{Method, Receiver, Reply, Slots};
use crate::py::names::{self, names};
use crate::py::object::Owned;
use crate::py::reply;
use crate::runtime::Runtime;
use crate::runtime::ready::{Failure, Ready, Report, Run};

/// A callback to run once. Loop thread only, except `cancel`.
pub(crate) struct Handle {
    state: LoopCell<HandleState>,
}

struct HandleState {
    /// Always a native loop.
    loop_: Owned,
    /// None once cancelled, and while the callback of a handle that nobody else holds runs.
    callback: Option<Owned>,
    arguments: Arguments,
    /// None while the callback of a handle that nobody else holds runs.
    context: Option<Snapshot>,
    rare: Option<Box<Rare>>,
}

/// What few handles have.
#[derive(Default)]
struct Rare {
    /// Cancelled in debug mode, where `repr` shows the callback a last time, or while it runs.
    cancelled: bool,
    /// Debug mode: what `repr` said before `cancel` forgot the callback.
    repr: Option<Owned>,
    /// Debug mode.
    source_traceback: Option<Owned>,
    /// The time of a timer, where the caller's object is no float.
    when: Option<Owned>,
}

impl HandleState {
    #[inline(always)]
    fn take_arguments(&mut self) -> Arguments {
        std::mem::replace(&mut self.arguments, Arguments::NONE)
    }

    /// Cancelling forgets the callback and not the context; each other way that it goes takes the context too.
    #[inline(always)]
    fn is_cancelled(&self) -> bool {
        let forgot = self.callback.is_none() && self.context.is_some();
        forgot || self.rare.as_ref().is_some_and(|rare| rare.cancelled)
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    fn source_traceback(&self) -> Option<&Owned> {
        self.rare.as_ref()?.source_traceback.as_ref()
    }
}

static HANDLE: Class = Class::new();

/// Makes the class of plain handles.
pub(crate) fn define(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let model = names(py).handle_class.bind(py).clone().cast_into()?;
    let recipe = Recipe {
        name: c"mioloop.Handle",
        doc: c"A callback that call_soon queued.",
        ancestry: Ancestry::StandsFor(&model),
    };
    Ok(class::define::<Handle>(py, &recipe, methods(), Slots::new())?.into_any())
}

/// The attributes of asyncio's own handles.
pub(crate) fn methods<T: AsHandle>() -> Vec<Method<T>> {
    vec![
        Method::no_args(c"cancel", c"Cancels the callback. Follows asyncio.Handle.cancel.", cancel::<T>),
        Method::no_args(c"cancelled", c"True once cancelled.", cancelled::<T>),
        Method::no_args(c"get_context", c"The contextvars.Context of the callback.", context::<T>),
        Method::get(c"__class__", asyncio_class::<T>),
        Method::get(c"_callback", callback::<T>),
        Method::get(c"_args", arguments::<T>),
        Method::get(c"_context", context::<T>),
        Method::get(c"_cancelled", cancelled::<T>),
        Method::get(c"_loop", get_loop::<T>),
        Method::get(c"_repr", kept_repr::<T>),
        Method::get(c"_source_traceback", source_traceback::<T>),
    ]
}

pub(crate) fn cancel<'py, T: AsHandle>(this: This<'_, 'py, T>) -> Reply<'py> {
    this.handle().cancel(this.object())?;
    // From here on it is its holder's; the queue will only drop it.
    memory::track(this.object());
    reply::none(this.py())
}

pub(crate) fn cancelled<'py, T: AsHandle>(this: This<'_, 'py, T>) -> Reply<'py> {
    let cancelled = this.handle().is_cancelled(this.py());
    reply::bool(this.py(), cancelled)
}

fn asyncio_class<'py, T: AsHandle>(this: This<'_, 'py, T>) -> Reply<'py> {
    T::asyncio_class(this.py())
}

fn callback<'py, T: AsHandle>(this: This<'_, 'py, T>) -> Reply<'py> {
    this.handle().read(this.py(), |state| state.callback.as_ref())
}

fn arguments<'py, T: AsHandle>(this: This<'_, 'py, T>) -> Reply<'py> {
    this.handle().arguments(this.py())
}

fn context<'py, T: AsHandle>(this: This<'_, 'py, T>) -> Reply<'py> {
    let context = this.handle().context(this.py())?;
    reply::option(this.py(), context)
}

fn get_loop<'py, T: AsHandle>(this: This<'_, 'py, T>) -> Reply<'py> {
    this.handle().read(this.py(), |state| Some(&state.loop_))
}

fn kept_repr<'py, T: AsHandle>(this: This<'_, 'py, T>) -> Reply<'py> {
    this.handle().read(this.py(), |state| state.rare.as_ref()?.repr.as_ref())
}

fn source_traceback<'py, T: AsHandle>(this: This<'_, 'py, T>) -> Reply<'py> {
    this.handle().read(this.py(), HandleState::source_traceback)
}

/// A class with a handle in it.
pub(crate) trait AsHandle: Fields {
    fn handle(&self) -> &Handle;
    /// The class of asyncio that this one stands for.
    fn asyncio_class(py: Python<'_>) -> PyResult<Bound<'_, PyAny>>;
    /// Called when the handle is about to run, cancelled or not.
    fn begin(&self, _py: Python<'_>) {}
}

impl AsHandle for Handle {
    fn asyncio_class(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        Ok(names(py).handle_class.bind(py).clone())
    }
    fn handle(&self) -> &Handle {
        self
    }
}

/// What a callback is called with.
pub(crate) struct Callback<'a, 'py> {
    pub(crate) function: Borrowed<'a, 'py, PyAny>,
    pub(crate) arguments: Arguments,
    pub(crate) context: Option<Snapshot>,
}

impl Callback<'_, '_> {
    #[inline(always)]
    pub(crate) fn into_handle(self, loop_: This<'_, '_, Runtime>) -> PyResult<Handle> {
        let py = loop_.py();
        let context = match self.context {
            Some(context) => context,
            None => Snapshot::take(py)?,
        };
        let rare = if loop_.is_debug() {
            let source_traceback = Some(Owned::new(names::extract_stack(py)?));
            Some(Box::new(Rare { source_traceback, ..Rare::default() }))
        } else {
            None
        };
        Ok(Handle {
            state: LoopCell::new(HandleState {
                loop_: loop_.owned(),
                callback: Some(Owned::of(self.function)),
                arguments: self.arguments,
                context: Some(context),
                rare,
            }),
        })
    }
}

/// A handle and the unit of work that runs it, for an owner that the collector sees.
pub(crate) fn work<'py>(
    loop_: This<'_, 'py, Runtime>,
    callback: Callback<'_, 'py>,
) -> PyResult<(Bound<'py, PyAny>, Ready)> {
    let handle = memory::create(loop_.py(), callback.into_handle(loop_)?)?;
    let ready = Ready { object: Owned::new(handle.clone()), run: run::<Handle> };
    Ok((handle, ready))
}

/// Queues a callback; the caller has checked that the loop takes it.
#[inline(always)]
pub(crate) fn call_soon<'py>(loop_: This<'_, 'py, Runtime>, callback: Callback<'_, 'py>) -> Reply<'py> {
    queue(loop_, callback.into_handle(loop_)?, run::<Handle>)
}

/// Makes a handle and queues it.
///
/// The collector does not see the handle while it waits in the queue: the loop shows what it refers to as its own. That is
/// true only while nobody else holds the handle, or the loop runs and so is no garbage; the others are tracked.
#[inline(always)]
pub(crate) fn queue<'py, T: AsHandle>(loop_: This<'_, 'py, Runtime>, fields: T, run: Run) -> Reply<'py> {
    let py = loop_.py();
    let handle = memory::create_untracked(py, fields)?;
    let work = Ready { object: Owned::new(handle.clone()), run };
    if loop_.is_running() {
        loop_.enqueue(py, work);
    } else {
        loop_.enqueue_tracked(py, work);
    }
    Ok(handle)
}

/// Work that lost its descriptor or its place: a handle that was queued already must not run any more.
pub(crate) fn cancel_all(py: Python<'_>, work: impl IntoIterator<Item = Ready>) -> PyResult<()> {
    for work in work {
        if let Some(handle) = This::<Handle>::of_exact(work.object.borrow(py)) {
            handle.cancel(handle.object())?;
        }
    }
    Ok(())
}

/// Runs a handle's callback in its context.
pub(crate) fn run<T: AsHandle>(loop_: This<'_, '_, Runtime>, object: Owned) -> Result<(), Failure> {
    let py = loop_.py();
    loop_.leave_task()?;
    let this = This::<T>::of_exact(object.borrow(py)).expect("the class is chosen with the function");
    this.begin(py);
    let handle = this.handle();
    let shared = memory::is_shared(&object);
    let parts = if shared {
        memory::track(object.borrow(py));
        handle.copy_parts(py)?
    } else {
        handle.take_parts(py)?
    };
    let Some(Parts { callback, arguments, context }) = parts else { return Ok(()) };
    match in_context(context.bind(py), || arguments.call(callback.bind(py))) {
        Ok(Ok(_)) => {
            if !shared {
                drop(Snapshot::of_finished(context));
            }
            Ok(())
        }
        Ok(Err(error)) | Err(error) => {
            if !shared {
                let mut state = handle.state.open(py);
                state.arguments = arguments;
                state.callback = Some(callback.clone_ref(py));
                state.context = Some(Snapshot::of(context));
            }
            Err(failure(handle, error, &object, loop_, callback.bind(py)))
        }
    }
}

/// What asyncio's `Handle._run` tells the exception handler.
#[cold]
fn failure(
    handle: &Handle,
    exception: PyErr,
    object: &Owned,
    loop_: This<'_, '_, Runtime>,
    callback: &Bound<'_, PyAny>,
) -> Failure {
    let py = loop_.py();
    // The exception handler may keep the handle.
    memory::track(object.borrow(py));
    let source = handle.arguments(py).and_then(|arguments| {
        let function = names(py).format_callback_source.bind(py);
        if function.getattr("__kwdefaults__")?.is_none() {
            return function.call1((callback, arguments));
        }
        let keywords = PyDict::new(py);
        keywords.set_item("debug", loop_.is_debug())?;
        function.call((callback, arguments), Some(&keywords))
    });
    let mut message = String::from("Exception in callback ");
    match source {
        Ok(source) => write!(message, "{source}").expect("writing to a String cannot fail"),
        Err(error) => return Failure::Exit(error),
    }
    let source_traceback = handle.state.open(py).source_traceback().map(|stack| stack.clone_ref(py));
    Failure::Report(Box::new(Report { message, exception, handle: object.clone_ref(py), source_traceback }))
}

/// What a run of the callback needs.
struct Parts {
    callback: Owned,
    arguments: Arguments,
    context: Owned,
}

impl Handle {
    /// For a handle that nobody else holds, so that nobody can see them leave; they are put back if the callback fails.
    /// None: cancelled.
    #[inline(always)]
    fn take_parts(&self, py: Python<'_>) -> PyResult<Option<Parts>> {
        let mut state = self.state.open(py);
        if state.is_cancelled() {
            return Ok(None);
        }
        let (callback, context, arguments) = (state.callback.take(), state.context.take(), state.take_arguments());
        drop(state);
        match (callback, context) {
            (Some(callback), Some(context)) => {
                let context = context.into_context(py)?;
                Ok(Some(Parts { callback, arguments, context }))
            }
            _ => Ok(None),
        }
    }

    /// For a handle that others may look at. None: cancelled.
    fn copy_parts(&self, py: Python<'_>) -> PyResult<Option<Parts>> {
        if self.is_cancelled(py) {
            return Ok(None);
        }
        let context = self.context(py)?;
        let state = self.state.open(py);
        let (callback, arguments) =
            (state.callback.as_ref().map(|callback| callback.clone_ref(py)), state.arguments.clone_ref(py));
        drop(state);
        match (callback, context) {
            (Some(callback), Some(context)) => Ok(Some(Parts { callback, arguments, context })),
            _ => Ok(None),
        }
    }

    fn context(&self, py: Python<'_>) -> PyResult<Option<Owned>> {
        context_in(py, &self.state, |state| &mut state.context)
    }

    /// `_args`: a tuple, None once cancelled.
    fn arguments<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let arguments = {
            let state = self.state.open(py);
            if state.callback.is_none() {
                return reply::none(py);
            }
            state.arguments.clone_ref(py)
        };
        arguments.to_tuple(py)
    }

    fn read<'py>(&self, py: Python<'py>, field: impl FnOnce(&HandleState) -> Option<&Owned>) -> Reply<'py> {
        let state = self.state.open(py);
        let value = field(&state).map(|value| value.clone_ref(py));
        drop(state);
        reply::option(py, value)
    }

    pub(crate) fn is_cancelled(&self, py: Python<'_>) -> bool {
        self.state.open(py).is_cancelled()
    }

    pub(crate) fn get_loop(&self, py: Python<'_>) -> Owned {
        self.state.open(py).loop_.clone_ref(py)
    }

    /// Returns true the first time.
    pub(crate) fn cancel(&self, object: Borrowed<'_, '_, PyAny>) -> PyResult<bool> {
        let py = object.py();
        let mut state = self.state.open(py);
        if state.is_cancelled() {
            return Ok(false);
        }
        let debug = Runtime::receive(state.loop_.borrow(py)).is_some_and(|runtime| runtime.is_debug());
        if debug || state.context.is_none() {
            state.rare().cancelled = true;
        }
        if debug {
            drop(state);
            let repr = Owned::new(object.repr()?.into_any());
            state = self.state.open(py);
            state.rare().repr = Some(repr);
        }
        let forgotten = (state.callback.take(), state.take_arguments());
        drop(state);
        drop(forgotten);
        Ok(true)
    }

    /// For a timer that is being made.
    pub(crate) fn keep_when(&mut self, when: Owned) {
        self.state.get_mut().rare().when = Some(when);
    }

    /// What `keep_when` was given.
    pub(crate) fn kept_when(&self, py: Python<'_>) -> Option<Owned> {
        self.state.open(py).rare.as_ref()?.when.as_ref().map(|when| when.clone_ref(py))
    }

    #[inline(always)]
    pub(crate) fn visit_fields(&self, visit: Visit<'_>) -> Result<(), Stop> {
        let Some(state) = self.state.peek() else { return Ok(()) };
        visit.object(&state.loop_)?;
        visit.option(&state.callback)?;
        let [first, second] = state.arguments.objects();
        visit.option(first)?;
        visit.option(second)?;
        state.context.as_ref().map_or(Ok(()), |context| visit.object(context.object()))?;
        let Some(rare) = &state.rare else { return Ok(()) };
        visit.option(&rare.source_traceback)?;
        visit.option(&rare.when)
    }

    pub(crate) fn take_fields(&self, py: Python<'_>) -> Vec<Owned> {
        let mut state = self.state.open(py);
        let mut taken: Vec<Owned> = state.callback.take().into_iter().collect();
        taken.extend(state.context.take().map(Snapshot::into_object));
        let rare = state.rare.take().map(|rare| *rare);
        taken.extend(rare.into_iter().flat_map(|rare| [rare.repr, rare.source_traceback, rare.when]).flatten());
        taken.extend(state.take_arguments().into_objects());
        taken
    }
}

impl Fields for Handle {
    const SPARE_BYTES: usize = memory::BURST_BYTES;

    fn class() -> &'static Class {
        &HANDLE
    }
    fn visit(&self, visit: Visit<'_>) -> Result<(), Stop> {
        self.visit_fields(visit)
    }
    fn take_references(&self, py: Python<'_>) -> Vec<Owned> {
        self.take_fields(py)
    }
}
