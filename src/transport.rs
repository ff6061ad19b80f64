//! `Transport<K>`: a descriptor of some kind and the protocol that it feeds.
//!
//! What all kinds share: the object, and its beginning. `transport/life.rs` ends it, `transport/watch.rs` waits for the
//! descriptor, `transport/flow.rs` holds the protocol back, `transport/info.rs` answers `get_extra_info`,
//! `transport/methods.rs` is what Python calls. `transport/stream.rs` and its siblings say what is particular to a kind.
//! Made by `event_loop.rs` and `server.rs`. Follows `_SelectorTransport` of asyncio.selector_events.
//!
//! Kinds are type parameters, so that the one state of a transport is opened once where a kind's own fields and the
//! shared ones are wanted together.

pub(crate) mod datagram;
mod flow;
pub(crate) mod info;
mod life;
mod methods;
mod peers;
pub(crate) mod pipe;
pub(crate) mod read;
pub(crate) mod read_pipe;
pub(crate) mod records;
mod sendto;
pub(crate) mod stream;
pub(crate) mod streams;
mod together;
pub(crate) mod watch;
pub(crate) mod write;
pub(crate) mod write_pipe;

use mioloop_core::connection::Phase;
use mioloop_core::poller::Token;
use mioloop_core::watermarks::Watermarks;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

use crate::handle;
use crate::py::call::Arguments;
use crate::py::cell::LoopCell;
use crate::py::class::{Class, Fields, Stop, This, Visit};
use crate::py::clients;
use crate::py::context::{Snapshot, copy_context, in_context};
use crate::py::descriptor::Descriptor;
use crate::py::memory;
use crate::py::method::Receiver as _;
use crate::py::names::names;
use crate::py::object::Owned;
use crate::runtime::Runtime;
use crate::runtime::ready::{Failure, Ready, Run};
use info::Info;
use stream::Stream;

/// A transport of some kind.
pub(crate) struct Transport<K: Kind = Stream> {
    state: LoopCell<State<K>>,
}

/// Loop thread only.
struct State<K> {
    /// None once the connection has ended, as `protocol`.
    loop_: Option<Owned>,
    protocol: Option<Owned>,
    /// The context of every protocol callback.
    context: Option<Owned>,
    server: Option<Owned>,
    /// Who waits for the connection to be made, until it is.
    waiter: Option<Owned>,
    /// What `connection_lost` will be told.
    error: Option<Owned>,
    fd: Descriptor,
    /// None until reading begins and after the end.
    token: Option<Token>,
    phase: Phase,
    reading: Reading,
    marks: Watermarks,
    /// Writes since the connection was lost, which asyncio warns of.
    lost_writes: u32,
    info: Info,
    /// What the kind adds.
    own: K,
}

/// What is particular to a kind of transport: the rest of its state, and what the shared code asks of it.
pub(crate) trait Kind: Sized + Send + Sync + 'static {
    /// What waits to be written.
    type Backlog;

    /// Runs when the descriptor can be read.
    const READABLE: Run;
    /// Runs when it can be written.
    const WRITABLE: Run;
    /// Runs instead of `READABLE` when input has ended, where reading must go on to the very end.
    const TO_THE_END: Option<Run> = None;
    /// A pipe's registration is level-triggered and may be another transport's as well, and it has no addresses.
    const IS_PIPE: bool = false;
    /// Input is waited for even while the rest of the backlog goes.
    const LISTENS_TO_THE_END: bool = false;

    fn class() -> &'static Class;

    /// Bytes that wait to be written, as `get_write_buffer_size` counts them.
    fn backlog_size(&self) -> usize;
    fn has_backlog(&self) -> bool;
    /// Gives up what waits; the caller drops it.
    fn take_backlog(&mut self) -> Self::Backlog;

    /// Does it wait for input from its beginning on?
    fn reads(&self) -> bool {
        true
    }
    /// Is this error of a system call logged in debug mode only, and not reported?
    fn is_usual(error: &Bound<'_, PyAny>) -> bool {
        error.is_instance_of::<PyOSError>()
    }
    /// Does now what was put off to the end of the turn: somebody could tell the difference.
    fn settle(_this: This<'_, '_, Transport<Self>>) -> PyResult<()> {
        Ok(())
    }
    /// The connection has ended.
    fn ended(_this: This<'_, '_, Transport<Self>>) -> PyResult<()> {
        Ok(())
    }
    fn visit(&self, _visit: Visit<'_>) -> Result<(), Stop> {
        Ok(())
    }
    fn take_references(&mut self) -> Vec<Owned> {
        Vec::new()
    }
}

/// Does the protocol get data?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Not before `connection_made`.
    NotYet,
    On,
    Paused,
    /// The other end will send no more.
    Ended,
}

/// What a new transport is made of.
pub(crate) struct Parts<'a, 'py> {
    pub(crate) fd: Descriptor,
    pub(crate) info: Info,
    pub(crate) protocol: Borrowed<'a, 'py, PyAny>,
    pub(crate) waiter: Option<Borrowed<'a, 'py, PyAny>>,
    pub(crate) server: Option<Borrowed<'a, 'py, PyAny>>,
    /// None: a copy of the current one.
    pub(crate) context: Option<Owned>,
}

type Loop<'a, 'py> = This<'a, 'py, Runtime>;

/// Makes a transport and schedules `connection_made`; reading begins after it.
pub(crate) fn create<'py, K: Kind>(loop_: Loop<'_, 'py>, parts: Parts<'_, 'py>, own: K) -> PyResult<Bound<'py, PyAny>> {
    let py = loop_.py();
    let context = match parts.context {
        Some(context) => context,
        None => copy_context(py)?,
    };
    let state = State {
        loop_: Some(loop_.owned()),
        protocol: Some(Owned::of(parts.protocol)),
        context: Some(context.clone_ref(py)),
        server: parts.server.map(Owned::of),
        waiter: parts.waiter.map(Owned::of),
        error: None,
        fd: parts.fd,
        token: None,
        phase: Phase::Open,
        reading: Reading::NotYet,
        marks: Watermarks::default(),
        lost_writes: 1,
        info: parts.info,
        own,
    };
    let object = memory::create(py, Transport { state: LoopCell::new(state) })?;
    let made = names(py);
    if let Some(server) = parts.server {
        clients::attach(&server, &object)?;
    }
    let function = parts.protocol.getattr(&made.connection_made)?;
    let callback = handle::Callback {
        function: function.as_borrowed(),
        arguments: Arguments::one(Owned::new(object.clone())),
        context: Some(Snapshot::of(context)),
    };
    handle::call_soon(loop_, callback)?;
    loop_.enqueue(py, Ready { object: Owned::new(object.clone()), run: begin::<K> });
    Ok(object)
}

/// Runs after `connection_made`: begins to read, and wakes who waits for the connection.
fn begin<K: Kind>(loop_: Loop<'_, '_>, object: Owned) -> Result<(), Failure> {
    let this = of::<K>(&object, loop_.py());
    this.begin(loop_).map_err(|error| Failure::of_work(this.object(), error))
}

/// The transport behind a unit of work.
#[inline(always)]
fn of<'a, 'py, K: Kind>(object: &'a Owned, py: Python<'py>) -> This<'a, 'py, Transport<K>> {
    This::of_exact(object.borrow(py)).expect("the object is chosen with the function")
}

impl<'py, K: Kind> This<'_, 'py, Transport<K>> {
    fn begin(&self, loop_: Loop<'_, 'py>) -> PyResult<()> {
        let py = self.py();
        loop_.leave_task()?;
        let (reads, waiter) = {
            let mut state = self.state.open(py);
            let reads = !state.phase.is_closing() && state.reading == Reading::NotYet && state.own.reads();
            if reads {
                state.reading = Reading::On;
            }
            (reads, state.waiter.take())
        };
        if reads && let Err(error) = self.read_on(loop_) {
            self.fatal_error(error, "Fatal error on transport")?;
        }
        if let Some(waiter) = waiter {
            let waiter = waiter.bind(py);
            if !waiter.call_method0(&names(py).cancelled)?.is_truthy()? {
                waiter.call_method1(&names(py).set_result, (py.None(),))?;
            }
        }
        Ok(())
    }

    /// The loop, unless the connection has ended.
    fn loop_object(&self) -> Option<Owned> {
        let py = self.py();
        self.state.open(py).loop_.as_ref().map(|loop_| loop_.clone_ref(py))
    }

    /// Something was sent or closed, which the next poll may have to tell a peer.
    fn look_soon(&self) -> PyResult<()> {
        self.with_loop(|loop_| {
            loop_.look_soon(self.py());
            Ok(())
        })
    }

    /// Calls `body` with the loop; does nothing once the connection has ended.
    fn with_loop<R: Default>(&self, body: impl FnOnce(Loop<'_, 'py>) -> PyResult<R>) -> PyResult<R> {
        match self.loop_object() {
            Some(object) => match Runtime::receive(object.borrow(self.py())) {
                Some(loop_) => body(loop_),
                None => Ok(R::default()),
            },
            None => Ok(R::default()),
        }
    }

    fn protocol(&self) -> Option<Bound<'py, PyAny>> {
        let py = self.py();
        let protocol = self.state.open(py).protocol.as_ref().map(|protocol| protocol.clone_ref(py));
        protocol.map(|protocol| protocol.into_bound(py))
    }

    /// `body` in the context of the connection.
    fn in_context<R>(&self, body: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
        let py = self.py();
        let context = self.state.open(py).context.as_ref().map(|context| context.clone_ref(py));
        match context {
            Some(context) => in_context(context.bind(py), body)?,
            None => body(),
        }
    }
}

impl<K: Kind> Fields for Transport<K> {
    const FINALIZES: bool = true;

    fn class() -> &'static Class {
        K::class()
    }
    fn visit(&self, visit: Visit<'_>) -> Result<(), Stop> {
        let Some(state) = self.state.peek() else { return Ok(()) };
        let fields = [&state.loop_, &state.protocol, &state.context, &state.server, &state.waiter, &state.error];
        fields.into_iter().try_for_each(|field| visit.option(field))?;
        state.own.visit(visit)?;
        state.info.visit(visit)
    }
    fn take_references(&self, py: Python<'_>) -> Vec<Owned> {
        let mut state = self.state.open(py);
        let state = &mut *state;
        let fields = [
            state.loop_.take(),
            state.protocol.take(),
            state.context.take(),
            state.server.take(),
            state.waiter.take(),
            state.error.take(),
        ];
        let mut taken: Vec<Owned> = fields.into_iter().flatten().collect();
        taken.extend(state.own.take_references());
        taken.extend(state.info.take_references());
        taken
    }
    fn wants_finalizer(&self) -> bool {
        self.state.peek().is_none_or(|state| !state.info.is_closed())
    }
    /// `__del__`: nobody closed it.
    fn finalize(this: This<'_, '_, Self>) {
        if !this.wants_finalizer() {
            return;
        }
        this.report_unclosed();
    }
}
