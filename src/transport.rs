//! `StreamTransport`: a connected stream socket and the protocol that it feeds.
//!
//! The object, its life from `connection_made` to `connection_lost`, and what errors do to it; `transport/read.rs` and
//! `transport/write.rs` move the bytes, `transport/info.rs` answers `get_extra_info`, `transport/methods.rs` is what Python
//! calls. Made by `event_loop.rs` and `server.rs`. Follows `_SelectorSocketTransport` of asyncio.selector_events.
//!
//! One edge-triggered registration lasts as long as the connection; pausing, resuming and back pressure are this
//! object's own business and cost no system call.

pub(crate) mod info;
pub(crate) mod methods;
pub(crate) mod read;
pub(crate) mod streams;
pub(crate) mod write;

use mioloop_core::connection::{Next, Phase};
use mioloop_core::outgoing::Outgoing;
use mioloop_core::poller::Token;
use mioloop_core::watermarks::Watermarks;
use pyo3::exceptions::{PyConnectionError, PyOSError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::handle;
use crate::py::buffer::Chunk;
use crate::py::call::Arguments;
use crate::py::cell::LoopCell;
use crate::py::class::{Class, Fields, Stop, This, Visit};
use crate::py::compat;
use crate::py::context::{Snapshot, copy_context, in_context};
use crate::py::descriptor::Descriptor;
use crate::py::errors::{self, Error};
use crate::py::memory;
use crate::py::method::Receiver as _;
use crate::py::names::names;
use crate::py::object::Owned;
use crate::readers;
use crate::runtime::ready::{Failure, Ready};
use crate::runtime::sources::{Direction, Owner};
use crate::runtime::{Io, Runtime};
use info::Info;
use read::Receiver;
use write::Sending;

/// A connection.
pub(crate) struct Transport {
    state: LoopCell<State>,
}

/// Loop thread only.
struct State {
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
    /// `sendfile` waits for the backlog to go, and nobody else may write.
    empty_waiter: Option<Owned>,
    fd: Descriptor,
    /// None until reading begins and after the end.
    token: Option<Token>,
    phase: Phase,
    reading: Reading,
    receiver: Receiver,
    /// The next read is into an object of its own, not by way of the loop's buffer.
    reads_much: bool,
    /// `write_eof()` was called.
    eof: bool,
    sending: Sending,
    /// The turn of the last write that went to the kernel at once.
    wrote_in_turn: u64,
    outgoing: Outgoing<Chunk>,
    marks: Watermarks,
    /// Writes since the connection was lost, which asyncio warns of.
    lost_writes: u32,
    info: Info,
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

static TRANSPORT: Class = Class::new();

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

/// What `_make_socket_transport` is told.
pub(crate) struct Options<'a, 'py> {
    pub(crate) protocol: &'a Bound<'py, PyAny>,
    pub(crate) waiter: Option<&'a Bound<'py, PyAny>>,
    pub(crate) extra: Option<&'a Bound<'py, PyAny>>,
    pub(crate) server: Option<&'a Bound<'py, PyAny>>,
    pub(crate) context: Option<&'a Bound<'py, PyAny>>,
}

/// A transport for a connected Python socket.
pub(crate) fn of_socket<'py>(
    loop_: Loop<'_, 'py>,
    socket: &Bound<'py, PyAny>,
    options: &Options<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    readers::ensure_no_transport(loop_, socket.as_borrowed())?;
    let fd = readers::descriptor(socket.as_borrowed())?;
    let fd = Descriptor::new(fd).ok_or_else(|| Error::Value(format!("Invalid file descriptor: {fd}")))?;
    // What is no TCP socket has no such option.
    let _ = rustix::net::sockopt::set_tcp_nodelay(fd, true);
    let mut info = Info::of_socket(Owned::new(socket.clone()), fd);
    info.given = options.extra.filter(|extra| !extra.is_none()).map(|extra| Owned::new(extra.clone()));
    let parts = Parts {
        fd,
        info,
        protocol: options.protocol.as_borrowed(),
        waiter: options.waiter.map(|waiter| waiter.as_borrowed()),
        server: options.server.map(|server| server.as_borrowed()),
        context: options.context.map(|context| Owned::new(context.clone())),
    };
    create(loop_, parts)
}

/// Makes a transport and schedules `connection_made`; reading begins after it.
pub(crate) fn create<'py>(loop_: Loop<'_, 'py>, parts: Parts<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    let py = loop_.py();
    let context = match parts.context {
        Some(context) => context,
        None => copy_context(py)?,
    };
    let receiver = Receiver::of(parts.protocol)?;
    let made = names(py);
    let state = State {
        loop_: Some(loop_.owned()),
        protocol: Some(Owned::of(parts.protocol)),
        context: Some(context.clone_ref(py)),
        server: parts.server.map(Owned::of),
        waiter: parts.waiter.map(Owned::of),
        error: None,
        empty_waiter: None,
        fd: parts.fd,
        token: None,
        phase: Phase::Open,
        reading: Reading::NotYet,
        receiver,
        reads_much: false,
        eof: false,
        sending: Sending::Direct,
        wrote_in_turn: 0,
        outgoing: Outgoing::default(),
        marks: Watermarks::default(),
        lost_writes: 1,
        info: parts.info,
    };
    let object = memory::create(py, Transport { state: LoopCell::new(state) })?;
    if let Some(server) = parts.server {
        if compat::SERVER_KNOWS_TRANSPORTS {
            server.call_method1(&made.attach, (&object,))?;
        } else {
            server.call_method0(&made.attach)?;
        }
    }
    let function = parts.protocol.getattr(&made.connection_made)?;
    let callback = handle::Callback {
        function: function.as_borrowed(),
        arguments: Arguments::one(Owned::new(object.clone())),
        context: Some(Snapshot::of(context)),
    };
    handle::call_soon(loop_, callback)?;
    loop_.enqueue(py, Ready { object: Owned::new(object.clone()), run: begin });
    Ok(object)
}

/// Runs after `connection_made`: begins to read, and wakes who waits for the connection.
fn begin(loop_: Loop<'_, '_>, object: Owned) -> Result<(), Failure> {
    let this = of(&object, loop_.py());
    this.begin(loop_).map_err(|error| Failure::of_work(this.object(), error))
}

/// Calls `connection_lost` and gives everything up.
fn lose(loop_: Loop<'_, '_>, object: Owned) -> Result<(), Failure> {
    let this = of(&object, loop_.py());
    this.lose(loop_).map_err(|error| Failure::of_work(this.object(), error))
}

/// The transport behind a unit of work.
fn of<'a, 'py>(object: &'a Owned, py: Python<'py>) -> This<'a, 'py, Transport> {
    This::<Transport>::of_exact(object.borrow(py)).expect("the object is chosen with the function")
}

impl<'py> This<'_, 'py, Transport> {
    fn begin(&self, loop_: Loop<'_, 'py>) -> PyResult<()> {
        let py = self.py();
        loop_.leave_task()?;
        let (reads, waiter) = {
            let mut state = self.state.open(py);
            let reads = !state.phase.is_closing() && state.reading == Reading::NotYet;
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

    /// The registration, made the first time.
    fn register(&self, loop_: Loop<'_, 'py>) -> PyResult<Token> {
        let py = self.py();
        let (fd, token) = {
            let state = self.state.open(py);
            (state.fd, state.token)
        };
        if let Some(token) = token {
            return Ok(token);
        }
        let attached = {
            let mut core = loop_.core.open(py);
            let Io { registry, sources, .. } = core.io.as_mut().ok_or(Error::Closed)?;
            sources.attach(registry, fd.number(), Owner::Transport, Some(read::to_the_end))
        };
        let (token, left) = attached.map_err(Error::Io)?;
        handle::cancel_all(py, left)?;
        self.state.open(py).token = Some(token);
        Ok(token)
    }

    /// Gives the registration up; the descriptor stays.
    fn unregister(&self, loop_: Loop<'_, 'py>) {
        let py = self.py();
        let Some(token) = self.state.open(py).token.take() else { return };
        let work = {
            let mut core = loop_.core.open(py);
            core.io.as_mut().map(|Io { registry, sources, .. }| sources.detach(registry, token))
        };
        drop(work);
    }

    /// Waits for the descriptor in one direction.
    fn arm(&self, loop_: Loop<'_, 'py>, direction: Direction) -> PyResult<()> {
        let py = self.py();
        let token = self.register(loop_)?;
        let run = match direction {
            Direction::Read => read::readable,
            Direction::Write => write::writable,
        };
        let work = Ready { object: self.owned(), run };
        let armed = {
            let mut core = loop_.core.open(py);
            core.io.as_mut().map(|io| io.sources.arm(py, token, direction, work))
        };
        if let Some((replaced, now)) = armed {
            drop(replaced);
            if let Some(now) = now {
                loop_.enqueue(py, now);
            }
        }
        Ok(())
    }

    /// Waits no more in one direction.
    fn disarm(&self, loop_: Loop<'_, 'py>, direction: Direction) {
        let py = self.py();
        let Some(token) = self.state.open(py).token else { return };
        let work = {
            let mut core = loop_.core.open(py);
            core.io.as_mut().and_then(|io| io.sources.disarm(token, direction))
        };
        drop(work);
    }

    fn read_on(&self, loop_: Loop<'_, 'py>) -> PyResult<()> {
        self.arm(loop_, Direction::Read)
    }

    /// `close()`: what is written already still goes.
    fn close(&self) -> PyResult<()> {
        write::uncork(*self)?;
        let next = {
            let mut state = self.state.open(self.py());
            let has_backlog = !state.outgoing.is_empty();
            state.phase.close(has_backlog)
        };
        self.go_on(next, None)
    }

    /// `abort()` and `_force_close(error)`: what is written is given up.
    fn force_close(&self, error: Option<Bound<'py, PyAny>>) -> PyResult<()> {
        let next = self.state.open(self.py()).phase.abort();
        self.go_on(next, error)
    }

    fn go_on(&self, next: Next, error: Option<Bound<'py, PyAny>>) -> PyResult<()> {
        match next {
            Next::Nothing => Ok(()),
            Next::Flush => self.with_loop(|loop_| {
                self.disarm(loop_, Direction::Read);
                Ok(())
            }),
            Next::End => self.with_loop(|loop_| self.end(loop_, error)),
        }
    }

    /// Gives the registration up and schedules `connection_lost`.
    fn end(&self, loop_: Loop<'_, 'py>, error: Option<Bound<'py, PyAny>>) -> PyResult<()> {
        let py = self.py();
        let given_up = {
            let mut state = self.state.open(py);
            state.error = error.filter(|error| !error.is_none()).map(Owned::new);
            state.sending = Sending::Direct;
            std::mem::take(&mut state.outgoing)
        };
        drop(given_up);
        self.unregister(loop_);
        loop_.schedule(py, Ready { object: self.owned(), run: lose })?;
        Ok(())
    }

    /// An error in a callback or a system call ends the connection. asyncio's `_fatal_error`.
    fn fatal_error(&self, error: PyErr, message: &str) -> PyResult<()> {
        let py = self.py();
        if errors::ends_run(py, &error) {
            return Err(error);
        }
        let exception = error.into_value(py).into_bound(py).into_any();
        if exception.is_instance_of::<PyOSError>() {
            self.log_debug(&format!("%r: {message}"), Some(&exception))?;
        } else {
            self.report(message, &exception)?;
        }
        self.force_close(Some(exception))
    }

    /// Tells the loop's exception handler.
    fn report(&self, message: &str, exception: &Bound<'py, PyAny>) -> PyResult<()> {
        let py = self.py();
        let names = names(py);
        let context = PyDict::new(py);
        context.set_item(&names.message, message)?;
        context.set_item(&names.exception, exception)?;
        context.set_item(&names.transport, self.object())?;
        context.set_item(&names.protocol, self.protocol())?;
        match self.loop_object() {
            Some(loop_) => loop_.bind(py).call_method1(&names.call_exception_handler, (context,)).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Debug mode: a line in asyncio's log.
    fn log_debug(&self, format: &str, exception: Option<&Bound<'py, PyAny>>) -> PyResult<()> {
        let py = self.py();
        let debug = |loop_: Loop<'_, 'py>| Ok(loop_.is_debug());
        if !self.with_loop(debug)? {
            return Ok(());
        }
        let keywords = PyDict::new(py);
        keywords.set_item("exc_info", exception)?;
        names(py).logger.bind(py).call_method(&names(py).debug, (format, self.object()), Some(&keywords))?;
        Ok(())
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

impl<'py> This<'_, 'py, Transport> {
    fn lose(&self, loop_: Loop<'_, 'py>) -> PyResult<()> {
        let py = self.py();
        loop_.leave_task()?;
        let (first, error) = {
            let mut state = self.state.open(py);
            (state.phase.end(), state.error.take())
        };
        if !first {
            return Ok(());
        }
        let told = match self.protocol() {
            Some(protocol) => {
                let error = error.map(|error| error.into_bound(py));
                self.in_context(|| protocol.call_method1(&names(py).connection_lost, (error,)).map(|_| ()))
            }
            None => Ok(()),
        };
        let given_up = self.give_up();
        told.and(given_up)
    }

    /// Closes the socket and lets everything go.
    fn give_up(&self) -> PyResult<()> {
        let py = self.py();
        let (socket, server, empty_waiter, rest) = {
            let mut state = self.state.open(py);
            let fd = state.fd;
            state.info.keep_sockname(fd);
            let rest = [state.protocol.take(), state.loop_.take(), state.context.take(), state.waiter.take()];
            (state.info.close(py), state.server.take(), state.empty_waiter.take(), rest)
        };
        drop(rest);
        let closed = match socket {
            Some(socket) => socket.bind(py).call_method0(&names(py).close).map(|_| ()),
            None => Ok(()),
        };
        if let Some(server) = server {
            if compat::SERVER_KNOWS_TRANSPORTS {
                server.bind(py).call_method1(&names(py).detach, (self.object(),))?;
            } else {
                server.bind(py).call_method0(&names(py).detach)?;
            }
        }
        if let Some(waiter) = empty_waiter {
            let error = PyConnectionError::new_err("Connection is closed by peer").into_value(py);
            waiter.bind(py).call_method1(&names(py).set_exception, (error,))?;
        }
        closed
    }
}

impl Fields for Transport {
    const FINALIZES: bool = true;

    fn class() -> &'static Class {
        &TRANSPORT
    }
    fn visit(&self, visit: Visit<'_>) -> Result<(), Stop> {
        let Some(state) = self.state.peek() else { return Ok(()) };
        let fields = [
            &state.loop_,
            &state.protocol,
            &state.context,
            &state.server,
            &state.waiter,
            &state.error,
            &state.empty_waiter,
        ];
        fields.into_iter().try_for_each(|field| visit.option(field))?;
        state.receiver.visit(visit)?;
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
            state.empty_waiter.take(),
        ];
        let mut taken: Vec<Owned> = fields.into_iter().flatten().collect();
        taken.extend(std::mem::replace(&mut state.receiver, Receiver::Data).into_references());
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
        let py = this.py();
        let end = || -> PyResult<()> {
            errors::warn_of_resource(&this.object(), &format!("unclosed transport {}", this.object().repr()?))?;
            this.with_loop(|loop_| {
                this.unregister(loop_);
                Ok(())
            })
        };
        if let Err(error) = end() {
            error.write_unraisable(py, Some(&this.object()));
        }
        if let Err(error) = this.give_up() {
            error.write_unraisable(py, Some(&this.object()));
        }
    }
}
