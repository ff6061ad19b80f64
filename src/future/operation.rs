//! `Operation`: a future that is done when a descriptor is ready. What a `sock_*` call waits for before it tries again.
//!
//! Made by `sock/wait.rs`, awaited by the coroutines of `python/mioloop/_sock.py`. It knows its place in the loop's table by
//! a token that is never used again, so that giving it up, by `cancel()` or by an end of the coroutine, needs no look-up by
//! a number which may be another socket's by then. It receives and sends nothing.

use mioloop_core::poller::Token;
use pyo3::prelude::*;

use super::iterator::{iterate, thrown};
use super::methods::{cancel_argument, init, next, repr, settable_methods};
use super::{AnyFuture, Future, FutureLike, FutureState};
use crate::py::cell::LoopCell;
use crate::py::class::{self, Ancestry, Class, Fields, Recipe, Stop, This, Visit};
use crate::py::errors::Error;
use crate::py::memory;
use crate::py::method::{Args, Method, Receiver, Reply, Slots};
use crate::py::names::names;
use crate::py::object::Owned;
use crate::py::reply;
use crate::runtime::ready::{Failure, Ready};
use crate::runtime::sources::Direction;
use crate::runtime::{Io, Runtime};

/// Loop thread only.
pub(crate) struct Operation {
    future: Future,
    /// While it is registered.
    place: LoopCell<Option<(Token, Direction)>>,
}

static OPERATION: Class = Class::new();

pub(crate) fn define(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let base = names(py).future_class.bind(py).clone().cast_into()?;
    let recipe = Recipe {
        name: c"mioloop.Operation",
        doc: c"Operation(*, loop=None)\n--\n\nDone when a socket is ready.",
        ancestry: Ancestry::Inherits(&base),
    };
    let mut methods = settable_methods::<Operation>();
    methods.extend([
        Method::fast(c"cancel", c"cancel($self, /, msg=None)\n--\n\nCancels the future; waits no more.", cancel),
        Method::fast(c"throw", c"Raises here; waits no more.", throw).always(),
        Method::no_args(c"close", c"Waits no more.", close).always(),
    ]);
    let slots = Slots::new().init(init::<Operation>).repr(repr::<Operation>);
    let slots = slots.awaitable(next::<Operation>, iterate::<Operation>);
    Ok(class::define::<Operation>(py, &recipe, methods, slots)?.into_any())
}

/// One that is not registered yet.
#[inline]
pub(crate) fn create<'py>(loop_: This<'_, 'py, Runtime>) -> PyResult<Bound<'py, PyAny>> {
    let future = Future { state: LoopCell::new(FutureState::on(loop_)?) };
    memory::create(loop_.py(), Operation { future, place: LoopCell::new(None) })
}

/// The work to register.
pub(crate) fn work(operation: &Bound<'_, PyAny>) -> Ready {
    Ready { object: Owned::new(operation.clone()), run: ready }
}

/// Where it was registered.
#[inline]
pub(crate) fn put(operation: &Bound<'_, PyAny>, token: Token, direction: Direction) {
    *of(operation).place.open(operation.py()) = Some((token, direction));
}

fn of<'a, 'py>(object: &'a Bound<'py, PyAny>) -> This<'a, 'py, Operation> {
    This::<Operation>::of_exact(object.as_borrowed()).expect("the object is chosen with the function")
}

/// The descriptor may be ready.
fn ready(loop_: This<'_, '_, Runtime>, object: Owned) -> Result<(), Failure> {
    let py = loop_.py();
    let this = of(object.bind(py));
    let future = AnyFuture::from(this);
    let woken = this.leave(loop_).and_then(|()| match future.is_pending() {
        true => future.set_result(py.None().bind_borrowed(py)),
        false => Ok(()),
    });
    woken.map_err(|error| Failure::of_work(this.object(), error))
}

fn cancel<'py>(this: This<'_, 'py, Operation>, args: Args<'_, 'py>) -> Reply<'py> {
    reply::bool(this.py(), this.cancel(cancel_argument(args)?)?)
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
    /// `Future.cancel`, and waits no more.
    pub(crate) fn cancel(&self, message: Option<Owned>) -> PyResult<bool> {
        self.stop()?;
        AnyFuture::from(*self).cancel(message)
    }

    /// Nobody waits for it any more.
    fn stop(&self) -> PyResult<()> {
        if self.place.open(self.py()).is_none() {
            return Ok(());
        }
        let loop_ = AnyFuture::from(*self).loop_object()?;
        Runtime::receive(loop_.as_borrowed()).map_or(Ok(()), |loop_| self.leave(loop_))
    }

    /// Is registered no more.
    #[inline]
    fn leave(&self, loop_: This<'_, 'py, Runtime>) -> PyResult<()> {
        let py = self.py();
        let Some((token, direction)) = self.place.open(py).take() else { return Ok(()) };
        let finished = {
            let mut core = loop_.core.open(py);
            let Some(Io { registry, sources, .. }) = core.io.as_mut() else { return Ok(()) };
            sources.finish(registry, token, direction, self.object())
        };
        let Some((left, outcome)) = finished else { return Ok(()) };
        drop(left);
        outcome.map_err(|error| Error::Io(error).into())
    }
}

impl Fields for Operation {
    const FINALIZES: bool = true;

    fn class() -> &'static Class {
        &OPERATION
    }
    fn empty() -> Option<Self> {
        Some(Operation { future: Future::empty()?, place: LoopCell::new(None) })
    }
    fn visit(&self, visit: Visit<'_>) -> Result<(), Stop> {
        self.future.visit(visit)
    }
    fn take_references(&self, py: Python<'_>) -> Vec<Owned> {
        self.future.take_references(py)
    }
    fn wants_finalizer(&self) -> bool {
        self.future.wants_finalizer()
    }
    fn finalize(this: This<'_, '_, Self>) {
        AnyFuture::from(this).report_unretrieved();
    }
}

impl FutureLike for Operation {
    const IS_TASK: bool = false;
    fn future(&self) -> &LoopCell<FutureState> {
        self.future.future()
    }
}
