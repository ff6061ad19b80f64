//! `SSLTransport`: what a protocol sees of an encrypted connection, and the hot half of what is below it.
//!
//! The state machine (handshake, shutdown, timeouts, errors) is asyncio's own `SSLProtocol` of the running version, in
//! `python/mioloop/_tls.py`; here *machine* means that object. What runs per message is here: records come from the
//! descriptor to `tls/read.rs`, data goes through `tls/write.rs`, and an engine of `tls/engine.rs` does the work. Where
//! a limit is crossed or something ends, the machine is told. What the class does not have is asyncio's
//! `_SSLProtocolTransport`'s.

mod direct;
pub(crate) mod engine;
mod kernel;
mod methods;
mod portable;
mod read;
mod write;

use std::sync::Arc;

use pyo3::exceptions::{PyException, PyResourceWarning};
use pyo3::prelude::*;

use crate::py::cell::LoopCell;
use crate::py::class::{self, Ancestry, Class, Fields, Recipe, Stop, This, Visit};
use crate::py::memory;
use crate::py::method::{Receiver as _, Slots};
use crate::py::names::names;
use crate::py::object::Owned;
use crate::runtime::Runtime;
use crate::transport::Transport;
use crate::transport::read::{Receiver, Sink};
use crate::transport::stream;
use engine::{Engine, Gone, Objects};
use write::Backlog;

/// asyncio's `_SSLProtocolTransport`, and the hot half of its `SSLProtocol`.
pub(crate) struct Tls {
    state: LoopCell<State>,
}

/// Loop thread only.
struct State {
    /// Taken out for each call.
    engine: Arc<dyn Engine>,
    /// None once the connection has ended, as `machine`, `below` and `protocol`.
    loop_: Option<Owned>,
    machine: Option<Owned>,
    /// `_ssl_protocol`, which asyncio's second `close()` takes away: the machine.
    shown: Option<Owned>,
    below: Option<Below>,
    /// The user's.
    protocol: Option<Owned>,
    /// How that takes its data.
    receiver: Receiver,
    phase: Phase,
    closed: bool,
    paused: Paused,
    incoming: Limits,
    outgoing: Limits,
    backlog: Backlog,
    /// `sendfile` goes on, and nobody else may write.
    sends_file: bool,
    /// Writes since the connection was lost, which asyncio warns of.
    lost_writes: usize,
}

/// The transport that carries the records.
enum Below {
    /// Ours, to which records go without a call into Python.
    Stream(Owned),
    Other(Owned),
}

/// asyncio's `SSLProtocolState`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Unwrapped,
    Handshake,
    Wrapped,
    Flushing,
    Shutdown,
}

/// Who has been told to pause.
#[derive(Default)]
struct Paused {
    /// The protocol's reading, by itself.
    app_reading: bool,
    app_writing: bool,
    /// The transport below: its reading, by us.
    below_reading: bool,
    /// Our writing, by it.
    below_writing: bool,
}

/// When somebody must pause, and when they go on: bytes.
#[derive(Clone, Copy, Default)]
struct Limits {
    low: usize,
    high: usize,
}

impl Limits {
    /// Must the one that is paused or not be told of this size? In asyncio's words.
    #[inline]
    fn is_crossed(self, size: usize, paused: bool) -> bool {
        if paused { size <= self.low } else { size >= self.high }
    }
}

type Loop<'a, 'py> = This<'a, 'py, Runtime>;
type T<'a, 'py> = This<'a, 'py, Tls>;

static SSL_TRANSPORT: Class = Class::new();

pub(crate) fn define(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let names = names(py);
    let base = [names.flow_control_mixin.bind(py).clone().cast_into()?];
    let recipe = Recipe {
        name: c"mioloop.SSLTransport",
        doc: c"An encrypted connection. Follows asyncio.Transport.",
        ancestry: Ancestry::Extends(&base),
    };
    let class = class::define::<Tls>(py, &recipe, methods::table(), Slots::new())?;
    class::borrow_methods(&class, names.ssl_transport.bind(py).cast()?)?;
    Ok(class.into_any())
}

/// The transport of a machine that has just made its OpenSSL connection.
pub(crate) fn create<'py>(
    loop_: Loop<'_, 'py>,
    machine: &Bound<'py, PyAny>,
    protocol: &Bound<'py, PyAny>,
    objects: Objects<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let state = State {
        engine: engine::choose(objects)?,
        loop_: Some(loop_.owned()),
        machine: Some(Owned::new(machine.clone())),
        shown: Some(Owned::new(machine.clone())),
        below: None,
        protocol: Some(Owned::new(protocol.clone())),
        receiver: Receiver::of(protocol.as_borrowed())?,
        phase: Phase::Unwrapped,
        closed: false,
        paused: Paused::default(),
        incoming: Limits::default(),
        outgoing: Limits::default(),
        backlog: Backlog::default(),
        sends_file: false,
        lost_writes: 0,
    };
    memory::create(loop_.py(), Tls { state: LoopCell::new(state) })
}

impl<'py> This<'_, 'py, Tls> {
    #[inline]
    fn engine(&self) -> Arc<dyn Engine> {
        self.state.open(self.py()).engine.clone()
    }

    fn phase(&self) -> Phase {
        self.state.open(self.py()).phase
    }

    fn machine(&self) -> Option<Bound<'py, PyAny>> {
        let py = self.py();
        let machine = self.state.open(py).machine.as_ref().map(|machine| machine.clone_ref(py));
        machine.map(|machine| machine.into_bound(py))
    }

    /// Calls `body` with the loop; does nothing once the connection has ended.
    fn with_loop(&self, body: impl FnOnce(Loop<'_, 'py>) -> PyResult<()>) -> PyResult<()> {
        let py = self.py();
        let object = self.state.open(py).loop_.as_ref().map(|loop_| loop_.clone_ref(py));
        match object.as_ref().and_then(|object| Runtime::receive(object.borrow(py))) {
            Some(loop_) => body(loop_),
            None => Ok(()),
        }
    }

    /// The transport below is known from now on.
    fn attach(&self, transport: &Bound<'py, PyAny>) {
        let py = self.py();
        let stream = This::<Transport>::of_exact(transport.as_borrowed());
        let below = Owned::new(transport.clone());
        let below = if stream.is_some() { Below::Stream(below) } else { Below::Other(below) };
        let old = self.state.open(py).below.replace(below);
        drop(old);
        if let Some(stream) = stream {
            stream::feed(stream, Sink { object: self.owned(), take: read::take });
        }
    }

    /// An error in what asyncio guards: ends the connection.
    #[cold]
    fn fatal_error(&self, error: PyErr) -> PyResult<()> {
        let py = self.py();
        if !error.is_instance_of::<PyException>(py) {
            return Err(error);
        }
        match self.machine() {
            Some(machine) => {
                machine.call_method1("_fatal_error", (error.into_value(py), "Fatal error on SSL protocol")).map(|_| ())
            }
            None => Err(error),
        }
    }

    /// The connection has ended.
    fn end(&self) {
        let py = self.py();
        let given_up = {
            let mut state = self.state.open(py);
            state.closed = true;
            state.phase = Phase::Unwrapped;
            let receiver = std::mem::replace(&mut state.receiver, Receiver::Data);
            let (backlog, below) = (std::mem::take(&mut state.backlog), state.below.take());
            let engine = std::mem::replace::<Arc<dyn Engine>>(&mut state.engine, Arc::new(Gone));
            (engine, state.machine.take(), state.loop_.take(), state.protocol.take(), receiver, backlog, below)
        };
        drop(given_up);
    }
}

impl Fields for Tls {
    const FINALIZES: bool = true;

    fn class() -> &'static Class {
        &SSL_TRANSPORT
    }
    fn visit(&self, visit: Visit<'_>) -> Result<(), Stop> {
        let Some(state) = self.state.peek() else { return Ok(()) };
        state.engine.visit(visit)?;
        let fields = [&state.loop_, &state.machine, &state.shown, &state.protocol];
        fields.into_iter().try_for_each(|field| visit.option(field))?;
        if let Some(Below::Stream(below) | Below::Other(below)) = &state.below {
            visit.object(below)?;
        }
        state.receiver.visit(visit)
    }
    fn take_references(&self, py: Python<'_>) -> Vec<Owned> {
        let mut state = self.state.open(py);
        let below = state.below.take().map(|(Below::Stream(below) | Below::Other(below))| below);
        let receiver = std::mem::replace(&mut state.receiver, Receiver::Data);
        let fields = [state.loop_.take(), state.machine.take(), state.shown.take(), state.protocol.take(), below];
        let engine = std::mem::replace::<Arc<dyn Engine>>(&mut state.engine, Arc::new(Gone));
        drop(state);
        drop(engine);
        fields.into_iter().flatten().chain(receiver.into_references()).collect()
    }
    fn wants_finalizer(&self) -> bool {
        self.state.peek().is_none_or(|state| !state.closed)
    }
    /// `__del__`: nobody closed it.
    fn finalize(this: T<'_, '_>) {
        let py = this.py();
        if std::mem::replace(&mut this.state.open(py).closed, true) {
            return;
        }
        let text = c"unclosed transport <asyncio._SSLProtocolTransport object>";
        if let Err(error) = PyErr::warn(py, &py.get_type::<PyResourceWarning>(), text, 1) {
            error.write_unraisable(py, Some(&this.object()));
        }
    }
}
