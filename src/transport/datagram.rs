//! `DatagramTransport`: a datagram socket, UDP or Unix, connected or not.
//!
//! Its state beside what every transport has, its class, and how it receives; `transport/sendto.rs` sends. Several
//! datagrams are taken per wake-up, one system call each, and the next only if the protocol neither paused nor closed.
//! Families that `address.rs` does not know go through the Python socket. Made by `event_loop.rs`. Follows
//! `_SelectorDatagramTransport` of asyncio.selector_events.

use std::collections::VecDeque;
use std::io::ErrorKind;

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use rustix::net::SocketAddrAny;

use super::info::Info;
use super::peers::{Peer, Peers, key_of_address};
use super::sendto::{self, Packet};
use super::{Kind, Loop, Parts, Reading, Transport, create, flow, methods, of};
use crate::address::{Address, Family};
use crate::py::buffer;
use crate::py::class::{self, Ancestry, Class, Recipe, Stop, This, Visit};
use crate::py::compat;
use crate::py::descriptor::{Descriptor, receive_from};
use crate::py::errors::{Error, is_blocked, is_os_error};
use crate::py::method::{Method, Reply, Slots};
use crate::py::names::names;
use crate::py::object::Owned;
use crate::py::reply;
use crate::readers;
use crate::runtime::ready::{Failure, Ready, Run};

/// Datagrams in a row, at most, before others get their turn.
const ROUNDS: usize = 32;
/// The largest datagram of the internet protocols, and asyncio's `max_size` for all others. Bytes.
const MOST_INTERNET: usize = 64 * 1024;
const MOST: usize = 256 * 1024;

/// What a datagram socket adds to a transport. Loop thread only.
pub(crate) struct Datagram {
    /// Where it sends to if it is not told: `remote_addr`.
    pub(super) address: Option<Owned>,
    /// The socket itself is connected.
    pub(super) connected: bool,
    pub(super) family: Family,
    /// Who has sent, found by address.
    pub(super) from: Peers,
    /// Who was sent to, found by object.
    pub(super) to: Peers,
    pub(super) backlog: VecDeque<Packet>,
    /// Bytes in the backlog, headers included.
    pub(super) size: usize,
}

static DATAGRAM_TRANSPORT: Class = Class::new();

pub(super) type T<'a, 'py> = This<'a, 'py, Transport<Datagram>>;

impl Kind for Datagram {
    type Backlog = VecDeque<Packet>;

    const READABLE: Run = readable;
    const WRITABLE: Run = sendto::writable;

    fn class() -> &'static Class {
        &DATAGRAM_TRANSPORT
    }
    fn backlog_size(&self) -> usize {
        self.size
    }
    fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }
    fn take_backlog(&mut self) -> Self::Backlog {
        self.size = 0;
        std::mem::take(&mut self.backlog)
    }
    fn visit(&self, visit: Visit<'_>) -> Result<(), Stop> {
        visit.option(&self.address)?;
        self.from.visit(visit)?;
        self.to.visit(visit)?;
        self.backlog.iter().try_for_each(|packet| packet.visit(visit))
    }
    fn take_references(&mut self) -> Vec<Owned> {
        let mut taken: Vec<Owned> = self.from.take_references().chain(self.to.take_references()).collect();
        taken.extend(self.address.take());
        taken.extend(self.take_backlog().into_iter().filter_map(Packet::into_reference));
        taken
    }
}

/// What `_make_datagram_transport` is told.
pub(crate) struct Options<'a, 'py> {
    pub(crate) protocol: &'a Bound<'py, PyAny>,
    pub(crate) address: Option<&'a Bound<'py, PyAny>>,
    pub(crate) waiter: Option<&'a Bound<'py, PyAny>>,
    pub(crate) extra: Option<&'a Bound<'py, PyAny>>,
}

/// A transport for a Python socket.
pub(crate) fn of_socket<'py>(
    loop_: Loop<'_, 'py>,
    socket: &Bound<'py, PyAny>,
    options: &Options<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    readers::ensure_no_transport(loop_, socket.as_borrowed())?;
    let fd = readers::descriptor(socket.as_borrowed())?;
    let fd = Descriptor::new(fd).ok_or_else(|| Error::Value(format!("Invalid file descriptor: {fd}")))?;
    let mut info = Info::of_socket(Owned::new(socket.clone()), fd);
    info.given = options.extra.filter(|extra| !extra.is_none()).map(|extra| Owned::new(extra.clone()));
    let own = Datagram {
        // As asyncio asks: an empty one is none.
        address: match options.address {
            Some(address) if address.is_truthy()? => Some(Owned::new(address.clone())),
            _ => None,
        },
        connected: false,
        family: Family::of(fd).map_err(|errno| Error::Io(errno.into()))?,
        from: Peers::default(),
        to: Peers::default(),
        backlog: VecDeque::new(),
        size: 0,
    };
    let parts = Parts {
        fd,
        info,
        protocol: options.protocol.as_borrowed(),
        waiter: options.waiter.map(|waiter| waiter.as_borrowed()),
        server: None,
        context: None,
    };
    let object = create(loop_, parts, own)?;
    let this = This::<Transport<Datagram>>::of_exact(object.as_borrowed()).expect("it was made of this class");
    let peer = this.extra_info(names(loop_.py()).peername.bind(loop_.py()).as_any().as_borrowed())?;
    let connected = peer.map_or(Ok(false), |peer| peer.is_truthy())?;
    this.state.open(loop_.py()).own.connected = connected;
    Ok(object)
}

pub(crate) fn define(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let recipe = Recipe {
        name: c"mioloop.DatagramTransport",
        doc: c"A datagram socket. Follows asyncio.DatagramTransport.",
        ancestry: Ancestry::Extends(&compat::datagram_bases(py)?),
    };
    let mut table = vec![
        Method::fast(
            c"sendto",
            c"sendto($self, data, addr=None)\n--\n\nSends a datagram; what the kernel does not take now waits.",
            sendto::sendto,
        ),
        Method::get(c"_address", address),
    ];
    table.extend(methods::life());
    table.push(methods::set_protocol());
    table.extend(methods::reading());
    table.extend(methods::socket());
    table.push(methods::abort());
    table.extend(flow::methods());
    Ok(class::define::<Transport<Datagram>>(py, &recipe, table, Slots::new().repr(repr))?.into_any())
}

fn repr<'py>(this: T<'_, 'py>) -> Reply<'py> {
    let blocked = this.state.open(this.py()).own.has_backlog();
    methods::repr(this, "DatagramTransport", blocked)
}

fn address<'py>(this: T<'_, 'py>) -> Reply<'py> {
    let py = this.py();
    let address = this.state.open(py).own.address.as_ref().map(|address| address.clone_ref(py));
    reply::option(py, address)
}

/// What one receive brought.
enum Input<'py> {
    Datagram(Bound<'py, PyAny>, Bound<'py, PyAny>),
    Nothing,
    Failed(PyErr),
}

/// There are datagrams, or errors.
fn readable(loop_: Loop<'_, '_>, object: Owned) -> Result<(), Failure> {
    let this = of::<Datagram>(&object, loop_.py());
    let again = || loop_.enqueue(loop_.py(), Ready { object: this.owned(), run: readable });
    match loop_.leave_task().and_then(|()| this.in_context(|| receive_some(this, loop_))) {
        Ok(Drained::Yes) => Ok(()),
        Ok(Drained::No) => {
            again();
            Ok(())
        }
        Err(error) => {
            // The rest stays in the kernel's queue, and no new edge tells of it.
            again();
            Err(Failure::of_work(this.object(), error))
        }
    }
}

/// Has the kernel nothing more, as far as is known?
enum Drained {
    Yes,
    No,
}

fn receive_some(this: T<'_, '_>, loop_: Loop<'_, '_>) -> PyResult<Drained> {
    let py = this.py();
    let mut failed = false;
    for _ in 0..ROUNDS {
        let (fd, family) = {
            let state = this.state.open(py);
            match state.reading {
                _ if state.phase.is_closing() => return Ok(Drained::Yes),
                Reading::On => (state.fd, state.own.family),
                Reading::Ended => return Ok(Drained::Yes),
                Reading::NotYet | Reading::Paused => {
                    drop(state);
                    this.miss(loop_, false);
                    return Ok(Drained::Yes);
                }
            }
        };
        let Some(protocol) = this.protocol() else { return Ok(Drained::Yes) };
        match receive(this, loop_, fd, family)? {
            Input::Datagram(data, from) => {
                failed = false;
                protocol.call_method1(&names(py).datagram_received, (data, from))?;
            }
            Input::Nothing => return Ok(Drained::Yes),
            Input::Failed(error) => {
                // An error comes once, with datagrams behind it perhaps. One that stays is the descriptor's own.
                if std::mem::replace(&mut failed, true) {
                    return Ok(Drained::Yes);
                }
                this.error_received(error)?;
            }
        }
    }
    Ok(Drained::No)
}

/// One datagram.
fn receive<'py>(this: T<'_, 'py>, loop_: Loop<'_, 'py>, fd: Descriptor, family: Family) -> PyResult<Input<'py>> {
    let py = this.py();
    let most = match family {
        Family::V4 | Family::V6 => MOST_INTERNET,
        Family::Unix => MOST,
        Family::Other => return receive_by_socket(this),
    };
    let received = {
        let mut core = loop_.core.open(py);
        let memory = core.scratch(most);
        match receive_from(fd, memory) {
            Ok((count, from)) => Ok((buffer::bytes(py, &memory[..count])?, from)),
            Err(errno) => Err(errno),
        }
    };
    match received {
        Ok((data, Some(from))) => Ok(Input::Datagram(data, this.peer(&from)?)),
        Ok((data, None)) => Ok(Input::Datagram(data, py.None().into_bound(py))),
        Err(errno) if errno.kind() == ErrorKind::WouldBlock => Ok(Input::Nothing),
        Err(errno) => Ok(Input::Failed(Error::Io(errno.into()).into())),
    }
}

/// One datagram of a family that the Python socket alone knows.
#[cold]
fn receive_by_socket<'py>(this: T<'_, 'py>) -> PyResult<Input<'py>> {
    let py = this.py();
    match this.socket()?.call_method1("recvfrom", (MOST,)) {
        Ok(received) => {
            let received = received.cast_into::<PyTuple>()?;
            Ok(Input::Datagram(received.get_item(0)?, received.get_item(1)?))
        }
        Err(error) if is_blocked(py, &error) => Ok(Input::Nothing),
        Err(error) if is_os_error(py, &error) => Ok(Input::Failed(error)),
        Err(error) => {
            this.fatal_error(error, "Fatal read error on datagram transport")?;
            Ok(Input::Nothing)
        }
    }
}

impl<'py> This<'_, 'py, Transport<Datagram>> {
    /// The sender's address for Python: the same object as before, if it is kept.
    #[inline]
    fn peer(&self, raw: &SocketAddrAny) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py();
        let Some(address) = Address::of(raw) else { return Ok(py.None().into_bound(py)) };
        let key = key_of_address(&address);
        let known = {
            let mut state = self.state.open(py);
            let known = state.own.from.find(key, |peer| peer.address == address);
            known.map(|peer| peer.shown.clone_ref(py))
        };
        if let Some(known) = known {
            return Ok(known.into_bound(py));
        }
        let shown = address.to_python(py)?;
        let displaced = self.state.open(py).own.from.insert(Peer { key, address, shown: Owned::new(shown.clone()) });
        drop(displaced);
        Ok(shown)
    }

    /// An error of the kernel, which is not the end.
    pub(super) fn error_received(&self, error: PyErr) -> PyResult<()> {
        let py = self.py();
        let Some(protocol) = self.protocol() else { return Ok(()) };
        protocol.call_method1(&names(py).error_received, (error.into_value(py),)).map(|_| ())
    }
}
