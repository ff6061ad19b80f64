//! `sendto`: from the protocol to the kernel, or to the queue of what the kernel did not take.
//!
//! An address that came with a datagram, or that was sent to last, is known by its object; a new one in digits is read
//! here. Host names, and all else that needs the socket module, go through the Python socket's own `sendto`, whose
//! errors they get. Follows `_SelectorDatagramTransport` of asyncio.selector_events.

use std::io::ErrorKind;

use mioloop_core::connection::Next;
use pyo3::prelude::*;
use rustix::io::Errno;

use super::datagram::{Datagram, T};
use super::peers::{Peer, key_of_object};
use super::{Kind as _, Loop, of};
use crate::address::{Address, Family};
use crate::py::buffer::{self, Chunk};
use crate::py::class::{Stop, Visit};
use crate::py::compat;
use crate::py::descriptor::send_some;
use crate::py::errors::{Error, is_blocked, is_os_error};
use crate::py::method::{Args, Reply};
use crate::py::names::names;
use crate::py::object::Owned;
use crate::py::reply;
use crate::py::socket::audit_sendto;
use crate::runtime::ready::{Failure, Ready};
use crate::runtime::sources::Direction;

/// Datagrams of the queue in a row, at most, before others get their turn.
const ROUNDS: usize = 64;
/// When to try again where the kernel does not tell that there is room: seconds.
const RETRY_DELAY: f64 = 0.001;

/// A datagram that waits.
pub(crate) struct Packet {
    data: Chunk,
    to: Destination,
}

enum Destination {
    /// Where the socket is connected to.
    Peer,
    Known(Address),
    /// For the Python socket.
    Object(Owned),
}

impl Packet {
    fn size(&self) -> usize {
        self.data.as_ref().len() + compat::DATAGRAM_HEADER
    }

    pub(super) fn visit(&self, visit: Visit<'_>) -> Result<(), Stop> {
        match &self.to {
            Destination::Object(address) => visit.object(address),
            Destination::Peer | Destination::Known(_) => Ok(()),
        }
    }

    pub(super) fn into_reference(self) -> Option<Owned> {
        match self.to {
            Destination::Object(address) => Some(address),
            Destination::Peer | Destination::Known(_) => None,
        }
    }
}

/// How an attempt to send went.
enum Sent {
    Yes,
    /// The kernel takes no more now.
    Blocked,
    Failed(PyErr),
}

impl From<Result<usize, Errno>> for Sent {
    fn from(result: Result<usize, Errno>) -> Self {
        match result {
            Ok(_) => Sent::Yes,
            Err(errno) if errno.kind() == ErrorKind::WouldBlock => Sent::Blocked,
            Err(errno) => Sent::Failed(Error::Io(errno.into()).into()),
        }
    }
}

/// `sendto(data, addr=None)`.
pub(super) fn sendto<'py>(this: T<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    let py = this.py();
    let data = args.required("sendto", 0, "data")?;
    let by_name = args.only_keyword("sendto", &names(py).addr, &["data"])?;
    let address = args.get(1).filter(|address| !address.is_none()).or(by_name);
    if args.len() > 2 {
        let text = format!("sendto() takes from 2 to 3 positional arguments but {} were given", args.len() + 1);
        return Err(Error::Type(text).into());
    }
    if !buffer::is_stream_data(data) {
        let text = format!("data argument must be a bytes-like object, not '{}'", data.get_type().name()?);
        return Err(Error::Type(text).into());
    }
    if !compat::SENDS_EMPTY_DATAGRAMS && data.len()? == 0 {
        return reply::none(py);
    }
    let (fixed, lost, ended) = {
        let state = this.state.open(py);
        let fixed = state.own.address.as_ref().map(|fixed| fixed.clone_ref(py));
        (fixed, state.phase.is_lost(), state.loop_.is_none())
    };
    if let (Some(fixed), Some(address)) = (&fixed, address)
        && !(address.is(fixed.bind(py)) || address.eq(fixed.bind(py))?)
    {
        let text = format!("Invalid address: must be None or {}", fixed.bind(py).str()?);
        return Err(Error::Value(text).into());
    }
    // asyncio goes on sending what has an address of its own until the socket is closed.
    if ended || (lost && fixed.is_some()) {
        this.count_lost_write("socket.send() raised exception.")?;
        return reply::none(py);
    }
    let address = match &fixed {
        Some(fixed) => Some(fixed.borrow(py)),
        None => address,
    };
    send_or_queue(this, data, address)?;
    reply::none(py)
}

#[inline]
fn send_or_queue<'py>(
    this: T<'_, 'py>,
    data: Borrowed<'_, 'py, PyAny>,
    address: Option<Borrowed<'_, 'py, PyAny>>,
) -> PyResult<()> {
    let to = destination(this, address)?;
    let waits = this.state.open(this.py()).own.has_backlog();
    if !waits {
        this.look_soon()?;
        match attempt(this, data, &to, address) {
            Ok(Sent::Yes) => return Ok(()),
            Ok(Sent::Blocked) => {}
            Ok(Sent::Failed(error)) => return this.error_received(error),
            Err(error) => return this.fatal_error(error, "Fatal write error on datagram transport"),
        }
    }
    let (data, _) = buffer::keep(data, 0)?;
    let packet = Packet { data, to };
    let mut state = this.state.open(this.py());
    state.own.size += packet.size();
    state.own.backlog.push_back(packet);
    drop(state);
    if !waits {
        this.with_loop(|loop_| wait(this, loop_))?;
    }
    this.pause_protocol()
}

/// Where a datagram goes.
#[inline]
fn destination<'py>(this: T<'_, 'py>, address: Option<Borrowed<'_, 'py, PyAny>>) -> PyResult<Destination> {
    let py = this.py();
    let family = {
        let mut state = this.state.open(py);
        if state.own.connected {
            return Ok(Destination::Peer);
        }
        if let Some(address) = address {
            let is_it = |peer: &Peer| peer.shown.as_ptr() == address.as_ptr();
            // Most answer who has just sent.
            if let Some(peer) = state.own.from.last().filter(|peer| is_it(peer)) {
                return Ok(Destination::Known(peer.address.clone()));
            }
            if let Some(peer) = state.own.to.find(key_of_object(address.as_ptr()), is_it) {
                return Ok(Destination::Known(peer.address.clone()));
            }
        }
        state.own.family
    };
    let Some(address) = address else { return Ok(Destination::Object(Owned::new(py.None().into_bound(py)))) };
    match Address::in_digits(address, family) {
        Some(to) => {
            let key = key_of_object(address.as_ptr());
            let peer = Peer { key, address: to.clone(), shown: Owned::of(address) };
            let displaced = this.state.open(py).own.to.insert(peer);
            drop(displaced);
            Ok(Destination::Known(to))
        }
        None => Ok(Destination::Object(Owned::of(address))),
    }
}

/// One attempt to send. Err: an exception that is no OSError. `address`: as it was given.
#[inline]
fn attempt<'py>(
    this: T<'_, 'py>,
    data: Borrowed<'_, 'py, PyAny>,
    to: &Destination,
    address: Option<Borrowed<'_, 'py, PyAny>>,
) -> PyResult<Sent> {
    if let (Destination::Known(_), Some(address)) = (to, address)
        && let Err(error) = audit_sendto(this.socket()?.as_borrowed(), address)
    {
        return not_sent(this.py(), error);
    }
    let fd = this.state.open(this.py()).fd;
    match to {
        Destination::Known(to) => buffer::with_bytes(data, |bytes| to.send(fd, bytes).into()),
        Destination::Peer => buffer::with_bytes(data, |bytes| send_some(fd, bytes).into()),
        Destination::Object(address) => by_socket(this, data, address),
    }
}

#[cold]
fn by_socket<'py>(this: T<'_, 'py>, data: Borrowed<'_, 'py, PyAny>, address: &Owned) -> PyResult<Sent> {
    let py = this.py();
    match this.socket()?.call_method1("sendto", (data, address.bind(py))) {
        Ok(_) => Ok(Sent::Yes),
        Err(error) => not_sent(py, error),
    }
}

#[cold]
fn not_sent(py: Python<'_>, error: PyErr) -> PyResult<Sent> {
    match error {
        error if is_blocked(py, &error) => Ok(Sent::Blocked),
        error if is_os_error(py, &error) => Ok(Sent::Failed(error)),
        error => Err(error),
    }
}

/// Waits until the kernel has room.
fn wait<'py>(this: T<'_, 'py>, loop_: Loop<'_, 'py>) -> PyResult<()> {
    let (family, connected) = {
        let state = this.state.open(this.py());
        (state.own.family, state.own.connected)
    };
    if family == Family::Unix && !connected {
        // What is full is the receiver's queue, and the kernel tells of those to connected sockets only (unix(7) has no
        // word on it; see unix_dgram_poll). asyncio tries without a pause.
        let again = Ready { object: this.owned(), run: writable };
        loop_.run_at(this.py(), loop_.time() + RETRY_DELAY, again);
        return Ok(());
    }
    this.arm(loop_, Direction::Write)
}

/// There is room.
pub(super) fn writable(loop_: Loop<'_, '_>, object: Owned) -> Result<(), Failure> {
    let this = of::<Datagram>(&object, loop_.py());
    let result = loop_.leave_task().and_then(|()| this.in_context(|| flush(this, loop_)));
    result.map_err(|error| Failure::of_work(this.object(), error))
}

/// Sends the queue until it is gone or the kernel takes no more.
fn flush<'py>(this: T<'_, 'py>, loop_: Loop<'_, 'py>) -> PyResult<()> {
    let py = this.py();
    // Queued before the end, which gave the backlog up.
    if this.state.open(py).phase.is_lost() {
        return Ok(());
    }
    let again = || loop_.enqueue(py, Ready { object: this.owned(), run: writable });
    let mut rounds = 0..ROUNDS;
    loop {
        let packet = {
            let mut state = this.state.open(py);
            let packet = state.own.backlog.pop_front();
            state.own.size -= packet.as_ref().map_or(0, Packet::size);
            packet
        };
        let Some(packet) = packet else { break };
        let sent = match &packet.to {
            Destination::Object(address) => {
                let data = buffer::bytes(py, packet.data.as_ref())?;
                by_socket(this, data.as_borrowed(), address)
            }
            Destination::Known(to) => Ok(to.send(this.state.open(py).fd, packet.data.as_ref()).into()),
            Destination::Peer => Ok(send_some(this.state.open(py).fd, packet.data.as_ref()).into()),
        };
        match sent {
            Ok(Sent::Yes) => {}
            Ok(Sent::Blocked) => {
                let mut state = this.state.open(py);
                state.own.size += packet.size();
                state.own.backlog.push_front(packet);
                drop(state);
                wait(this, loop_)?;
                break;
            }
            Ok(Sent::Failed(error)) => {
                // The descriptor is writable: no edge will tell.
                again();
                return this.error_received(error);
            }
            Err(error) => return this.fatal_error(error, "Fatal write error on datagram transport"),
        }
        if rounds.next().is_none() {
            again();
            break;
        }
    }
    this.resume_protocol()?;
    let (gone, next) = {
        let mut state = this.state.open(py);
        let gone = !state.own.has_backlog();
        (gone, if gone { state.phase.flushed() } else { Next::Nothing })
    };
    if gone {
        this.disarm(loop_, Direction::Write)?;
    }
    if next == Next::End { this.end(loop_, None) } else { Ok(()) }
}
