//! `Operation`: a `sock_*` call that waits for its descriptor; awaited by the coroutine that made it.
//!
//! It is registered while it waits and gone from the loop's tables as soon as the descriptor is ready. The call is tried
//! again when the coroutine goes on, not before: so a coroutine that is cancelled meanwhile has taken nothing from the
//! socket. The descriptor's own registration stays while the socket lives, edge-triggered, so that waiting costs no system
//! call of its own. The socket stays the caller's.

use pyo3::prelude::*;
use pyo3::types::PyWeakrefReference;

use mioloop_core::poller::Token;

use super::Loop;
use super::call::{Call, Outcome};
use crate::future::iterator::thrown;
use crate::future::methods::next;
use crate::future::{self, AnyFuture, Future};
use crate::handle;
use crate::py::awaiting::Next;
use crate::py::cell::LoopCell;
use crate::py::class::{self, Ancestry, Class, Fields, Recipe, Stop, This, Visit};
use crate::py::errors::Error;
use crate::py::memory;
use crate::py::method::{Args, Method, Receiver, Reply, Slots};
use crate::py::object::Owned;
use crate::py::reply;
use crate::readers;
use crate::runtime::ready::{Failure, Ready};
use crate::runtime::{Io, Runtime};

/// A call that waits for its descriptor. Loop thread only.
pub(crate) struct Operation {
    state: LoopCell<State>,
}

/// Everything is None once the call has ended.
struct State {
    loop_: Option<Owned>,
    socket: Option<Owned>,
    call: Option<Call>,
    /// What the task waits for: it says no more than that the descriptor is ready.
    future: Option<Owned>,
    /// While it is registered.
    token: Option<Token>,
}

static OPERATION: Class = Class::new();

pub(crate) fn define(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let recipe = Recipe { name: c"mioloop.Operation", doc: c"A sock_* call that waits.", ancestry: Ancestry::Alone };
    let methods = vec![
        Method::fast(c"throw", c"Raises here; waits no more.", throw).always(),
        Method::no_args(c"close", c"Waits no more.", close).always(),
    ];
    let slots = Slots::new().awaitable(advance, itself);
    Ok(class::define::<Operation>(py, &recipe, methods, slots)?.into_any())
}

impl Operation {
    /// Waits for the descriptor of a call that would block.
    pub(super) fn start<'py>(loop_: Loop<'_, 'py>, socket: Borrowed<'_, 'py, PyAny>, call: Call) -> Reply<'py> {
        let state = State {
            loop_: Some(loop_.owned()),
            socket: Some(Owned::of(socket)),
            call: Some(call),
            future: None,
            token: None,
        };
        let operation = memory::create(loop_.py(), Operation { state: LoopCell::new(state) })?;
        of(&operation).wait(loop_)?;
        Ok(operation)
    }
}

fn of<'a, 'py>(object: &'a Bound<'py, PyAny>) -> This<'a, 'py, Operation> {
    This::<Operation>::of_exact(object.as_borrowed()).expect("the object is chosen with the function")
}

fn itself<'py>(this: This<'_, 'py, Operation>) -> Reply<'py> {
    Ok(this.object().to_owned())
}

/// The descriptor may be ready.
fn ready(loop_: Loop<'_, '_>, object: Owned) -> Result<(), Failure> {
    let py = loop_.py();
    let this = of(object.bind(py));
    let woken = this.leave(loop_).and_then(|()| match this.future() {
        Some(future) => wake(future.bind(py)),
        None => Ok(()),
    });
    woken.map_err(|error| Failure::of_work(this.object(), error))
}

fn wake(future: &Bound<'_, PyAny>) -> PyResult<()> {
    let future = AnyFuture::from(awaited(future));
    if future.is_pending() {
        future.set_result(future.py().None().bind_borrowed(future.py()))?;
    }
    Ok(())
}

fn awaited<'a, 'py>(future: &'a Bound<'py, PyAny>) -> This<'a, 'py, Future> {
    This::<Future>::of_exact(future.as_borrowed()).expect("made in `wait`")
}

/// One step of `await operation`.
fn advance<'py>(this: This<'_, 'py, Operation>) -> PyResult<Next<'py>> {
    let py = this.py();
    loop {
        let Some(future) = this.future() else {
            return Err(Error::Runtime("cannot reuse already awaited operation".to_owned()).into());
        };
        let stepped = match next(awaited(future.bind(py))) {
            Ok(Next::Wait(future)) => return Ok(Next::Wait(future)),
            Ok(Next::Value(_)) => this.try_again(),
            Err(error) => Err(error),
        };
        match stepped {
            Ok(Some(value)) => {
                this.stop()?;
                return Ok(Next::Value(value));
            }
            Ok(None) => {}
            Err(error) => {
                this.stop()?;
                return Err(error);
            }
        }
    }
}

fn throw<'py>(this: This<'_, 'py, Operation>, args: Args<'_, 'py>) -> Reply<'py> {
    this.stop()?;
    Err(thrown(args)?)
}

fn close<'py>(this: This<'_, 'py, Operation>) -> Reply<'py> {
    this.stop()?;
    reply::none(this.py())
}

impl<'py> This<'_, 'py, Operation> {
    fn future(&self) -> Option<Owned> {
        self.state.open(self.py()).future.as_ref().map(|future| future.clone_ref(self.py()))
    }

    /// Registers: the future is done when the descriptor is ready.
    fn wait(&self, loop_: Loop<'_, 'py>) -> PyResult<()> {
        let py = self.py();
        let (socket, direction) = {
            let state = self.state.open(py);
            let socket = state.socket.as_ref().map(|socket| socket.clone_ref(py));
            (socket, state.call.as_ref().map(Call::direction))
        };
        let (Some(socket), Some(direction)) = (socket, direction) else { return Ok(()) };
        let fd = readers::descriptor(socket.borrow(py))?;
        readers::check_number(loop_, None, fd)?;
        let future = future::create(loop_)?;
        // What takes no weak reference is never known again.
        let identity =
            PyWeakrefReference::new(socket.bind(py)).map_or_else(|_| self.owned(), |it| Owned::new(it.into_any()));
        let work = Ready { object: self.owned(), run: ready };
        let operated = {
            let mut core = loop_.core.open(py);
            let Io { registry, sources, .. } = core.io.as_mut().ok_or(Error::Closed)?;
            sources.operate(registry, fd, identity, direction, work)
        };
        let (token, left) = operated.map_err(Error::Io)?;
        drop(left.references);
        handle::cancel_all(py, left.work)?;
        let former = {
            let mut state = self.state.open(py);
            state.token = Some(token);
            state.future.replace(Owned::new(future))
        };
        drop(former);
        Ok(())
    }

    /// The descriptor was ready. None: it is not, and is waited for once more.
    fn try_again(&self) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = self.py();
        let (loop_, socket, call) = {
            let mut state = self.state.open(py);
            let copy = |field: &Option<Owned>| field.as_ref().map(|object| object.clone_ref(py));
            (copy(&state.loop_), copy(&state.socket), state.call.take())
        };
        let (Some(loop_), Some(socket), Some(mut call)) = (loop_, socket, call) else { return Ok(None) };
        let loop_ = Runtime::receive(loop_.borrow(py)).expect("given to `start`");
        match call.attempt(loop_, socket.borrow(py))? {
            Outcome::Done(value) => Ok(Some(value)),
            Outcome::Blocked => {
                self.state.open(py).call = Some(call);
                self.wait(loop_)?;
                Ok(None)
            }
        }
    }

    /// Is registered no more.
    fn leave(&self, loop_: Loop<'_, 'py>) -> PyResult<()> {
        let py = self.py();
        let (token, direction) = {
            let mut state = self.state.open(py);
            (state.token.take(), state.call.as_ref().map(Call::direction))
        };
        let (Some(token), Some(direction)) = (token, direction) else { return Ok(()) };
        let (left, outcome) = {
            let mut core = loop_.core.open(py);
            let Some(Io { registry, sources, .. }) = core.io.as_mut() else { return Ok(()) };
            sources.finish(registry, token, direction, self.object())
        };
        drop(left);
        outcome.map_err(|error| Error::Io(error).into())
    }

    /// The call has ended, or nobody waits for it any more.
    fn stop(&self) -> PyResult<()> {
        let py = self.py();
        let loop_ = {
            let state = self.state.open(py);
            state.token.and_then(|_| Some(state.loop_.as_ref()?.clone_ref(py)))
        };
        let left = match &loop_ {
            Some(loop_) => self.leave(Runtime::receive(loop_.borrow(py)).expect("given to `start`")),
            None => Ok(()),
        };
        let ended = std::mem::replace(&mut *self.state.open(py), State::ended());
        drop(ended);
        left
    }
}

impl State {
    fn ended() -> Self {
        State { loop_: None, socket: None, call: None, future: None, token: None }
    }
}

impl Fields for Operation {
    fn class() -> &'static Class {
        &OPERATION
    }
    fn visit(&self, visit: Visit<'_>) -> Result<(), Stop> {
        let Some(state) = self.state.peek() else { return Ok(()) };
        [&state.loop_, &state.socket, &state.future].into_iter().try_for_each(|field| visit.option(field))?;
        state.call.as_ref().map_or(Ok(()), |call| call.visit(visit))
    }
    fn take_references(&self, py: Python<'_>) -> Vec<Owned> {
        let State { loop_, socket, call, future, .. } = std::mem::replace(&mut *self.state.open(py), State::ended());
        let held = call.as_ref().and_then(Call::reference).map(|object| object.clone_ref(py));
        [loop_, socket, held, future].into_iter().flatten().collect()
    }
}
