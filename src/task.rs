//! `Task`: a future that drives a coroutine.
//!
//! The object and what Python calls on it; one step of the coroutine is in `task/step.rs`. Tasks are made by
//! `loop.create_task` and by `mioloop.Task(...)`, on our loops and on any other. Follows asyncio.Task.

pub(crate) mod methods;
pub(crate) mod step;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use pyo3::prelude::*;

use crate::future::{AnyFuture, FutureLike, FutureState, Status};
use crate::py::call::is_native_coroutine;
use crate::py::cell::LoopCell;
use crate::py::class::{Class, Fields, Stop, This, Visit};
use crate::py::compat;
use crate::py::context::{Snapshot, context_in, is_context};
use crate::py::errors::Error;
use crate::py::introspection;
use crate::py::memory;
use crate::py::method::Receiver;
use crate::py::names::names;
use crate::py::object::Owned;
use crate::py::registry;
use crate::runtime::Runtime;
use crate::runtime::ready::{Ready, Run};

/// `mioloop.Task`.
pub(crate) struct Task {
    future: LoopCell<FutureState>,
    state: LoopCell<TaskState>,
}

static TASK: Class = Class::new();

/// Numbers for tasks without a name, over all loops.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

enum Name {
    Number(u64),
    Given(Owned),
}

/// Loop thread only.
struct TaskState {
    /// None until `__init__` ran, and after an eager start that ended the coroutine.
    coroutine: Option<Owned>,
    context: Option<Snapshot>,
    /// `_fut_waiter`: what the coroutine awaits.
    waiting_on: Option<Owned>,
    /// What the next step throws into the coroutine.
    throw_next: Option<Owned>,
    name: Name,
    /// `cancel()` came while there was nothing to cancel: the next step throws.
    must_cancel: bool,
    log_destroy_pending: bool,
    cancel_requests: u32,
    /// In asyncio's register of all tasks; until 3.13 by this entry.
    registered: bool,
    registration: Option<Owned>,
}

impl TaskState {
    fn new(name: Name) -> Self {
        TaskState {
            coroutine: None,
            context: None,
            waiting_on: None,
            throw_next: None,
            name,
            must_cancel: false,
            log_destroy_pending: true,
            cancel_requests: 0,
            registered: false,
            registration: None,
        }
    }
}

impl Fields for Task {
    const FINALIZES: bool = true;
    const SPARE_BYTES: usize = memory::BURST_BYTES;

    fn class() -> &'static Class {
        &TASK
    }
    fn empty() -> Option<Self> {
        let mut state = TaskState::new(Name::Number(0));
        state.log_destroy_pending = false;
        Some(Task { future: LoopCell::new(FutureState::new()), state: LoopCell::new(state) })
    }
    fn visit(&self, visit: Visit<'_>) -> Result<(), Stop> {
        if let Some(future) = self.future.peek() {
            future.visit(visit)?;
        }
        let Some(state) = self.state.peek() else { return Ok(()) };
        visit.option(&state.coroutine)?;
        visit.option(&state.waiting_on)?;
        visit.option(&state.throw_next)?;
        visit.option(&state.registration)?;
        state.context.as_ref().map_or(Ok(()), |context| visit.object(context.object()))?;
        match &state.name {
            Name::Given(name) => visit.object(name),
            Name::Number(_) => Ok(()),
        }
    }
    fn take_references(&self, py: Python<'_>) -> Vec<Owned> {
        let mut taken = self.future.open(py).take_references();
        let mut state = self.state.open(py);
        let fields = [
            state.coroutine.take(),
            state.context.take().map(Snapshot::into_object),
            state.waiting_on.take(),
            state.throw_next.take(),
            state.registration.take(),
        ];
        drop(state);
        taken.extend(fields.into_iter().flatten());
        taken
    }
    fn wants_finalizer(&self) -> bool {
        let quiet = |future: &FutureState| future.status != Status::Pending && !future.log_traceback;
        !self.future.peek().is_some_and(|future| quiet(&future))
    }
    fn is_reusable(&self) -> bool {
        // One that is still registered leaves asyncio's list of tasks by the C task's own end.
        self.state.peek().is_some_and(|state| !state.registered)
    }
    fn finalize(this: This<'_, '_, Self>) {
        let future = AnyFuture::from(this);
        let complains = this.state.open(this.py()).log_destroy_pending;
        if complains && future.is_initialized() && future.is_pending() {
            let message = "Task was destroyed but it is pending!";
            future.call_exception_handler(message, &names(this.py()).task, None);
        }
        future.report_unretrieved();
    }
}

impl FutureLike for Task {
    const IS_TASK: bool = true;
    fn future(&self) -> &LoopCell<FutureState> {
        &self.future
    }
}

/// What `create_task` and `Task(...)` are told, beside the loop.
pub(crate) struct Options<'a, 'py> {
    pub(crate) coroutine: Borrowed<'a, 'py, PyAny>,
    pub(crate) name: Option<Borrowed<'a, 'py, PyAny>>,
    pub(crate) context: Option<Borrowed<'a, 'py, PyAny>>,
    pub(crate) eager_start: bool,
}

/// `loop.create_task(...)` on one of our loops.
pub(crate) fn create<'py>(loop_: This<'_, 'py, Runtime>, options: &Options<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    let state = prepare(options)?;
    let task = Task { future: LoopCell::new(FutureState::on(loop_)?), state: LoopCell::new(state) };
    let object = memory::create_untracked(loop_.py(), task)?;
    // Of a loop that runs, and so is no garbage, the collector need not see what has not begun: see `step::begin`.
    if options.eager_start || !loop_.is_running() || !loop_.is_direct() {
        memory::track_new(object.as_borrowed());
    }
    let this = This::<Task>::of_exact(object.as_borrowed()).expect("it was made a task above");
    start(this, &loop_.object(), Some(loop_), options.eager_start)?;
    Ok(object)
}

/// `Task.__init__`, for the class and its Python subclasses.
fn init<'py>(this: This<'_, 'py, Task>, loop_: Option<Bound<'py, PyAny>>, options: &Options<'_, 'py>) -> PyResult<()> {
    AnyFuture::from(this).attach(loop_)?;
    let state = prepare(options)?;
    let old = std::mem::replace(&mut *this.state.open(this.py()), state);
    drop(old);
    let loop_ = AnyFuture::from(this).loop_object()?;
    let runtime = Runtime::receive(loop_.as_borrowed());
    start(this, &loop_, runtime, options.eager_start)
}

/// Checks the arguments and makes the state of a task that has not begun.
fn prepare(options: &Options<'_, '_>) -> PyResult<TaskState> {
    let coroutine = options.coroutine;
    let py = coroutine.py();
    if !is_native_coroutine(coroutine) && !names(py).is_coroutine.bind(py).call1((coroutine,))?.is_truthy()? {
        return Err(Error::Type(format!("a coroutine was expected, got {}", coroutine.repr()?)).into());
    }
    let context = match options.context {
        Some(context) if compat::CHECKS_TASK_CONTEXT && !is_context(context) => {
            return Err(compat::not_a_context(context));
        }
        Some(context) => Snapshot::given(context),
        None => Snapshot::take(py)?,
    };
    let name = match options.name {
        Some(name) => Name::given(name)?,
        None => Name::Number(NEXT_NUMBER.fetch_add(1, Relaxed)),
    };
    let mut state = TaskState::new(name);
    state.coroutine = Some(Owned::of(coroutine));
    state.context = Some(context);
    Ok(state)
}

/// Schedules the first step, or takes it at once.
fn start<'py>(
    this: This<'_, 'py, Task>,
    loop_: &Bound<'py, PyAny>,
    runtime: Option<This<'_, 'py, Runtime>>,
    eager: bool,
) -> PyResult<()> {
    let running = || match runtime {
        Some(runtime) => Ok(runtime.is_running()),
        None => loop_.call_method0(&names(this.py()).is_running)?.is_truthy(),
    };
    let started = if eager && running()? { step::start_eagerly(this, loop_) } else { this.schedule(step::begin) };
    if let Err(error) = started {
        if eager {
            // A task that never began is not one that was destroyed while pending.
            this.state.open(this.py()).log_destroy_pending = false;
        }
        return Err(error);
    }
    if AnyFuture::from(this).is_pending() {
        this.describe()?;
        let registration = registry::register(this.object())?;
        let mut state = this.state.open(this.py());
        state.registration = registration;
        state.registered = true;
    }
    Ok(())
}

impl Name {
    fn given(name: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        Ok(Name::Given(Owned::new(name.str()?.into_any())))
    }
}

impl<'py> This<'_, 'py, Task> {
    fn as_future(&self) -> AnyFuture<'_, 'py> {
        AnyFuture::from(*self)
    }

    /// Fills the fields that other processes read.
    fn describe(&self) -> PyResult<()> {
        let py = self.py();
        if !compat::HAS_TASK_LIST {
            return Ok(());
        }
        let state = self.state.open(py);
        let coroutine = state.coroutine.as_ref().map(|coroutine| coroutine.clone_ref(py));
        let name = match &state.name {
            Name::Given(name) => Ok(name.clone_ref(py)),
            Name::Number(number) => Err(*number),
        };
        drop(state);
        let name = match name {
            Ok(name) => name,
            Err(number) => Owned::new(number.into_pyobject(py)?.into_any()),
        };
        if let Some(coroutine) = coroutine {
            introspection::describe(self.object(), coroutine.borrow(py), name);
        }
        Ok(())
    }

    /// Leaves asyncio's register: the task is done.
    fn unregister(&self) -> PyResult<()> {
        let (registered, registration) = {
            let mut state = self.state.open(self.py());
            (std::mem::take(&mut state.registered), state.registration.take())
        };
        if registered { registry::unregister(self.object(), registration) } else { Ok(()) }
    }

    /// Queues the next step.
    fn schedule_step(&self) -> PyResult<()> {
        self.schedule(step::run)
    }

    fn schedule(&self, run: Run) -> PyResult<()> {
        let py = self.py();
        let loop_ = self.as_future().loop_object()?;
        match Runtime::receive(loop_.as_borrowed()) {
            Some(runtime) if runtime.is_direct() => Ok(runtime.schedule(py, Ready { object: self.owned(), run })?),
            _ => {
                let step = self.object().getattr(&names(py).step)?;
                crate::future::call_soon(&loop_, &step, None, &self.context()?)
            }
        }
    }

    fn context(&self) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py();
        let context = context_in(py, &self.state, |state| &mut state.context)?;
        context.map(|context| context.into_bound(py)).ok_or_else(|| Error::Uninitialized("Task").into())
    }

    /// `Task.cancel`: false if it is done already.
    fn cancel(&self, message: Option<Owned>) -> PyResult<bool> {
        let py = self.py();
        {
            let mut future = self.future.open(py);
            future.log_traceback = false;
            if future.status != Status::Pending {
                drop(future);
                drop(message);
                return Ok(false);
            }
        }
        let waiting_on = {
            let mut state = self.state.open(py);
            state.cancel_requests += 1;
            state.waiting_on.as_ref().map(|waiting_on| waiting_on.clone_ref(py))
        };
        if let Some(waiting_on) = waiting_on {
            let copy = message.as_ref().map(|message| message.clone_ref(py));
            if step::cancel_awaited(waiting_on.borrow(py), copy)? {
                return Ok(true);
            }
        }
        self.state.open(py).must_cancel = true;
        let old = std::mem::replace(&mut self.future.open(py).more().cancel_message, message);
        drop(old);
        Ok(true)
    }
}
