//! `StreamTransport`: a connected stream socket.
//!
//! Its state beside what every transport has, its class, and the methods that are its own; `transport/read.rs` and
//! `transport/write.rs` move the bytes. Made by `event_loop.rs` and `server.rs`. Follows `_SelectorSocketTransport` of
//! asyncio.selector_events.

use mioloop_core::outgoing::Outgoing;
use mioloop_core::records::Records;
use pyo3::exceptions::PyConnectionError;
use pyo3::intern;
use pyo3::prelude::*;
use rustix::io::Errno;

use super::info::Info;
use super::read::{self, Receiver, Sink};
use super::write::{self, Sending};
use super::{Kind, Loop, Parts, Transport, create, flow, methods};
use crate::py::buffer::Chunk;
use crate::py::class::{self, Ancestry, Class, Recipe, Stop, This, Visit};
use crate::py::descriptor::Descriptor;
use crate::py::errors::Error;
use crate::py::method::{Method, Reply, Slots};
use crate::py::names::names;
use crate::py::object::Owned;
use crate::py::reply;
use crate::readers;
use crate::runtime::ready::Run;

/// What a stream adds to a transport. Loop thread only.
pub(crate) struct Stream {
    /// `sendfile` waits for the backlog to go, and nobody else may write.
    pub(super) empty_waiter: Option<Owned>,
    /// The task in which `sendfile` writes, past this transport.
    pub(super) sender: Option<Owned>,
    pub(super) receiver: Receiver,
    /// The next read is into an object of its own, not by way of the loop's buffer.
    pub(super) reads_much: bool,
    /// `write_eof()` was called.
    pub(super) eof: bool,
    pub(super) sending: Sending,
    /// The unit of work in which it was last written to, and how many times.
    pub(super) wrote_in: u64,
    pub(super) in_a_row: u8,
    /// The error of a send that went with others', for `send_now` to tell of.
    pub(super) failed: Option<Errno>,
    pub(super) outgoing: Outgoing<Chunk>,
    /// What of that is TLS records for the kernel to encrypt, and no application data.
    pub(super) records: Option<Box<Records>>,
}

/// asyncio's words.
const CLOSED: &str = "Connection is closed by peer";

static STREAM_TRANSPORT: Class = Class::new();

impl Kind for Stream {
    type Backlog = Outgoing<Chunk>;

    const READABLE: Run = read::readable;
    const WRITABLE: Run = write::writable;
    const TO_THE_END: Option<Run> = Some(read::to_the_end);

    fn class() -> &'static Class {
        &STREAM_TRANSPORT
    }
    fn backlog_size(&self) -> usize {
        self.outgoing.len()
    }
    fn has_backlog(&self) -> bool {
        !self.outgoing.is_empty()
    }
    fn take_backlog(&mut self) -> Self::Backlog {
        self.sending = Sending::Direct;
        self.records = None;
        std::mem::take(&mut self.outgoing)
    }
    fn settle(this: T<'_, '_>) -> PyResult<()> {
        write::uncork(this)
    }
    fn ended(this: T<'_, '_>) -> PyResult<()> {
        let py = this.py();
        let (waiter, sender) = {
            let mut state = this.state.open(py);
            (state.own.empty_waiter.take(), state.own.sender.take())
        };
        if let Some(sender) = sender {
            sender.bind(py).call_method0(&names(py).cancel)?;
        }
        let Some(waiter) = waiter else { return Ok(()) };
        let waiter = waiter.bind(py);
        if waiter.call_method0(intern!(py, "done"))?.is_truthy()? {
            return Ok(());
        }
        let error = PyConnectionError::new_err(CLOSED).into_value(py);
        waiter.call_method1(&names(py).set_exception, (error,)).map(|_| ())
    }
    fn visit(&self, visit: Visit<'_>) -> Result<(), Stop> {
        visit.option(&self.empty_waiter)?;
        visit.option(&self.sender)?;
        self.receiver.visit(visit)
    }
    fn take_references(&mut self) -> Vec<Owned> {
        let mut taken = std::mem::replace(&mut self.receiver, Receiver::Data).into_references();
        taken.extend(self.empty_waiter.take());
        taken.extend(self.sender.take());
        taken
    }
}

type T<'a, 'py> = This<'a, 'py, Transport<Stream>>;

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
    of_parts(loop_, parts)
}

/// A transport for a connected stream socket.
pub(crate) fn of_parts<'py>(loop_: Loop<'_, 'py>, parts: Parts<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    let own = Stream {
        empty_waiter: None,
        sender: None,
        receiver: Receiver::of(parts.protocol)?,
        reads_much: false,
        eof: false,
        sending: Sending::Direct,
        wrote_in: 0,
        in_a_row: 0,
        failed: None,
        outgoing: Outgoing::default(),
        records: None,
    };
    create(loop_, parts, own)
}

/// From now on native code takes what is read, as long as the protocol stays the same.
pub(crate) fn feed(this: This<'_, '_, Transport>, sink: Sink) {
    let old = std::mem::replace(&mut this.state.open(this.py()).own.receiver, Receiver::Sink(sink));
    drop(old);
}

pub(crate) fn define(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let base = [names(py).flow_control_mixin.bind(py).clone().cast_into()?];
    let recipe = Recipe {
        name: c"mioloop.StreamTransport",
        doc: c"A connected stream socket. Follows asyncio.Transport.",
        ancestry: Ancestry::Extends(&base),
    };
    let mut table = own_methods();
    table.extend(methods::life());
    table.extend(methods::reading());
    table.extend(methods::socket());
    table.push(methods::abort());
    table.extend(flow::methods());
    Ok(class::define::<Transport<Stream>>(py, &recipe, table, Slots::new().repr(repr))?.into_any())
}

fn own_methods() -> Vec<Method<Transport<Stream>>> {
    vec![
        Method::one_arg(c"write", c"Writes data; what the kernel does not take now waits.", write::write),
        Method::one_arg(c"writelines", c"Writes an iterable of data.", write::writelines),
        Method::no_args(c"write_eof", c"Closes the writing end when all is written.", write::write_eof),
        Method::no_args(c"can_write_eof", c"True.", yes),
        Method::one_arg(c"set_protocol", c"Feeds another protocol from now on.", set_protocol),
        Method::no_args(c"_make_empty_waiter", c"A future of the backlog's end; nobody may write.", make_empty_waiter),
        Method::no_args(
            c"_release_fd",
            c"Watches the descriptor no more, until resume_reading() or a write.",
            release_fd,
        ),
        Method::one_arg(c"_set_sender", c"Cancels this task should the connection end.", set_sender),
        Method::no_args(c"_reset_empty_waiter", c"Lets others write again.", reset_empty_waiter),
        Method::get(c"_eof", eof),
        Method::get(c"_start_tls_compatible", yes),
        Method::get(c"_sendfile_compatible", sendfile_compatible),
    ]
}

fn repr<'py>(this: T<'_, 'py>) -> Reply<'py> {
    let blocked = this.state.open(this.py()).own.sending == Sending::Blocked;
    methods::repr(this, "StreamTransport", blocked)
}

fn yes<'py>(this: T<'_, 'py>) -> Reply<'py> {
    reply::bool(this.py(), true)
}

fn eof<'py>(this: T<'_, 'py>) -> Reply<'py> {
    let eof = this.state.open(this.py()).own.eof;
    reply::bool(this.py(), eof)
}

fn sendfile_compatible<'py>(this: T<'_, 'py>) -> Reply<'py> {
    Ok(names(this.py()).try_native_sendfile.bind(this.py()).clone())
}

fn set_protocol<'py>(this: T<'_, 'py>, protocol: Borrowed<'_, 'py, PyAny>) -> Reply<'py> {
    let receiver = Receiver::of(protocol)?;
    let old = {
        let mut state = this.state.open(this.py());
        let receiver = std::mem::replace(&mut state.own.receiver, receiver);
        (state.protocol.replace(Owned::of(protocol)), receiver)
    };
    drop(old);
    reply::none(this.py())
}

fn make_empty_waiter<'py>(this: T<'_, 'py>) -> Reply<'py> {
    let py = this.py();
    write::uncork(this)?;
    if this.state.open(py).own.empty_waiter.is_some() {
        return Err(Error::Runtime("Empty waiter is already set".to_owned()).into());
    }
    let Some(loop_) = this.loop_object() else { return Err(Error::Closed.into()) };
    let waiter = loop_.bind(py).call_method0("create_future")?;
    let empty = {
        let mut state = this.state.open(py);
        state.own.empty_waiter = Some(Owned::new(waiter.clone()));
        state.own.outgoing.is_empty()
    };
    if empty {
        waiter.call_method1(&names(py).set_result, (py.None(),))?;
    }
    Ok(waiter)
}

fn release_fd<'py>(this: T<'_, 'py>) -> Reply<'py> {
    this.with_loop(|loop_| this.unregister(loop_))?;
    reply::none(this.py())
}

fn set_sender<'py>(this: T<'_, 'py>, sender: Borrowed<'_, 'py, PyAny>) -> Reply<'py> {
    let old = this.state.open(this.py()).own.sender.replace(Owned::of(sender));
    drop(old);
    reply::none(this.py())
}

fn reset_empty_waiter<'py>(this: T<'_, 'py>) -> Reply<'py> {
    let old = {
        let mut state = this.state.open(this.py());
        (state.own.empty_waiter.take(), state.own.sender.take())
    };
    drop(old);
    reply::none(this.py())
}
