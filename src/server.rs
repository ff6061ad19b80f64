//! Accepting: from a listening socket to transports and their protocols.
//!
//! One `Acceptor` per listening socket of an asyncio `Server`, which keeps the socket and closes it. Accepts in batches,
//! with `accept4`; a connection gets a Python socket only if somebody asks for it. Out of descriptors, it rests for a
//! second. Where TLS is served, the factory makes the machines of `python/mioloop/_tls.py`. Follows `_start_serving` and
//! `_accept_connection` of asyncio.selector_events.

use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};

use mioloop_core::poller::Token;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{set_tcp_nodelay, socket_domain, socket_protocol, socket_type};
use rustix::net::{SocketAddrAny, SocketFlags, acceptfrom_with, getsockname};

use crate::address::Address;
use crate::handle;
use crate::py::cell::LoopCell;
use crate::py::class::{self, Ancestry, Class, Fields, Recipe, Stop, This, Visit};
use crate::py::context::{copy_context, fork_context, in_context};
use crate::py::descriptor::Descriptor;
use crate::py::errors::{self, Error};
use crate::py::memory;
use crate::py::method::{Reply, Slots};
use crate::py::names::names;
use crate::py::object::Owned;
use crate::py::reply;
use crate::py::socket::SocketKind;
use crate::readers;
use crate::runtime::ready::{Failure, Ready};
use crate::runtime::sources::{Direction, Owner};
use crate::runtime::{Io, Runtime};
use crate::transport::info::{Info, Names};
use crate::transport::{Parts, stream};

/// asyncio's ACCEPT_RETRY_DELAY: seconds.
const RETRY_DELAY: f64 = 1.0;

/// What accepts the connections of one listening socket. Loop thread only.
pub(crate) struct Acceptor {
    state: LoopCell<State>,
    fd: Descriptor,
    kind: SocketKind,
    /// Every connection's own address, unless the socket listens on all of the machine's.
    local: Option<Address>,
    backlog: usize,
}

struct State {
    socket: Option<Owned>,
    factory: Option<Owned>,
    server: Option<Owned>,
    /// What each connection gets a copy of.
    context: Option<Owned>,
    token: Option<Token>,
}

/// What `_accept_connections` is told.
pub(crate) struct Options<'a, 'py> {
    pub(crate) socket: &'a Bound<'py, PyAny>,
    pub(crate) factory: &'a Bound<'py, PyAny>,
    pub(crate) server: Option<&'a Bound<'py, PyAny>>,
    pub(crate) backlog: usize,
    pub(crate) context: Option<&'a Bound<'py, PyAny>>,
}

static ACCEPTOR: Class = Class::new();

type Loop<'a, 'py> = This<'a, 'py, Runtime>;

pub(crate) fn define(py: Python<'_>) -> PyResult<()> {
    let recipe = Recipe { name: c"mioloop.Acceptor", doc: c"Accepts connections.", ancestry: Ancestry::Alone };
    class::define::<Acceptor>(py, &recipe, Vec::new(), Slots::new().repr(repr)).map(|_| ())
}

fn repr<'py>(this: This<'_, 'py, Acceptor>) -> Reply<'py> {
    let py = this.py();
    let server = this.state.open(py).server.as_ref().map(|server| server.clone_ref(py));
    let server = reply::option(py, server)?.repr()?;
    Ok(format!("<Acceptor fd={} of {server}>", this.fd.number()).into_pyobject(py)?.into_any())
}

/// Begins to accept; `remove_reader` on the listening socket ends it.
pub(crate) fn accept_connections<'py>(loop_: Loop<'_, 'py>, options: &Options<'_, 'py>) -> PyResult<()> {
    let py = loop_.py();
    let number = readers::descriptor(options.socket.as_borrowed())?;
    let fd = Descriptor::new(number).ok_or_else(|| Error::Value(format!("Invalid file descriptor: {number}")))?;
    // Connections inherit it, on Linux at least. What is no TCP socket has no such option.
    let _ = set_tcp_nodelay(fd, true);
    let context = match options.context {
        Some(context) => Owned::new(context.clone()),
        None => copy_context(py)?,
    };
    let state = State {
        socket: Some(Owned::new(options.socket.clone())),
        factory: Some(Owned::new(options.factory.clone())),
        server: options.server.map(|server| Owned::new(server.clone())),
        context: Some(context),
        token: None,
    };
    let kind = kind(fd).map_err(Error::Io)?;
    let acceptor = Acceptor { state: LoopCell::new(state), fd, kind, local: local(fd), backlog: options.backlog };
    let object = memory::create(py, acceptor)?;
    of(&object).listen(loop_)
}

fn kind(fd: Descriptor) -> std::io::Result<SocketKind> {
    Ok(SocketKind {
        family: i32::from(socket_domain(fd)?.as_raw()),
        type_: socket_type(fd)?.as_raw().cast_signed(),
        protocol: socket_protocol(fd)?.map_or(0, |protocol| protocol.as_raw().get().cast_signed()),
    })
}

fn local(fd: Descriptor) -> Option<Address> {
    let address = getsockname(fd).ok().and_then(|address| Address::of(&address))?;
    let is_all = match &address {
        Address::V4(address) => address.ip().is_unspecified(),
        Address::V6(address) => address.ip().is_unspecified() || address.scope_id() != 0,
        Address::Unix(_) => false,
    };
    (!is_all).then_some(address)
}

fn of<'a, 'py>(object: &'a Bound<'py, PyAny>) -> This<'a, 'py, Acceptor> {
    This::<Acceptor>::of_exact(object.as_borrowed()).expect("the object is chosen with the function")
}

/// There are connections to accept.
fn acceptable(loop_: Loop<'_, '_>, object: Owned) -> Result<(), Failure> {
    let this = of(object.bind(loop_.py()));
    this.accept_some(loop_).map_err(|error| Failure::of_work(this.object(), error))
}

/// The rest after running out of descriptors is over.
fn rested(loop_: Loop<'_, '_>, object: Owned) -> Result<(), Failure> {
    let this = of(object.bind(loop_.py()));
    if this.state.open(loop_.py()).token.is_none() {
        return Ok(());
    }
    this.wait(loop_);
    acceptable(loop_, object)
}

impl<'py> This<'_, 'py, Acceptor> {
    fn listen(&self, loop_: Loop<'_, 'py>) -> PyResult<()> {
        let py = self.py();
        let attached = {
            let mut core = loop_.core.open(py);
            let Io { registry, sources, .. } = core.io.as_mut().ok_or(Error::Closed)?;
            sources.attach(registry, self.fd.number(), Owner::Server, None)
        };
        let (token, left) = attached.map_err(Error::Io)?;
        handle::cancel_all(py, left.work)?;
        drop(left.references);
        self.state.open(py).token = Some(token);
        self.wait(loop_);
        Ok(())
    }

    fn wait(&self, loop_: Loop<'_, 'py>) {
        let py = self.py();
        let Some(token) = self.state.open(py).token else { return };
        let work = Ready { object: self.owned(), run: acceptable };
        let armed = {
            let mut core = loop_.core.open(py);
            core.io.as_mut().map(|io| io.sources.arm(py, token, Direction::Read, work))
        };
        drop(armed);
    }

    /// Is the socket still listened on?
    fn is_listening(&self, loop_: Loop<'_, 'py>) -> bool {
        let py = self.py();
        let token = self.state.open(py).token;
        let core = loop_.core.open(py);
        token.is_some_and(|token| core.io.as_ref().is_some_and(|io| io.sources.owner_of(token).is_some()))
    }

    /// A batch: asyncio takes as many as the backlog in one turn.
    fn accept_some(&self, loop_: Loop<'_, 'py>) -> PyResult<()> {
        let py = self.py();
        loop_.leave_task()?;
        for count in 0..=self.backlog {
            if !self.is_listening(loop_) || count > 0 && !self.has_more() {
                return Ok(());
            }
            match acceptfrom_with(self.fd, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok((fd, address)) => {
                    if let Err(error) = self.connect(loop_, fd, address.as_ref()) {
                        // The rest stays in the kernel's queue, and no new edge tells of it.
                        loop_.enqueue(py, Ready { object: self.owned(), run: acceptable });
                        return Err(error);
                    }
                }
                // Aborted before it was accepted.
                Err(Errno::CONNABORTED | Errno::INTR) => {}
                Err(errno) if errno.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                    return self.rest(loop_, errno);
                }
                Err(errno) => return Err(Error::Io(errno.into()).into()),
            }
        }
        loop_.enqueue(py, Ready { object: self.owned(), run: acceptable });
        Ok(())
    }

    /// May another connection wait? To accept in vain takes the kernel ten times as long as this question.
    fn has_more(&self) -> bool {
        let mut question = [PollFd::new(&self.fd, PollFlags::IN)];
        poll(&mut question, Some(&Timespec::default())) != Ok(0)
    }

    /// A protocol and a transport for one connection. Fails only with what ends the run.
    fn connect(&self, loop_: Loop<'_, 'py>, fd: OwnedFd, peer: Option<&SocketAddrAny>) -> PyResult<()> {
        let py = self.py();
        let (factory, server, context) = {
            let state = self.state.open(py);
            let copy = |field: &Option<Owned>| field.as_ref().map(|object| object.clone_ref(py));
            (copy(&state.factory), copy(&state.server), copy(&state.context))
        };
        let (Some(factory), Some(context)) = (factory, context) else { return Ok(()) };
        let context = fork_context(context.bind(py))?;
        let mut protocol = None;
        let made = in_context(context.bind(py), || -> PyResult<()> {
            let made = factory.bind(py).call0()?;
            let protocol = &*protocol.insert(made);
            let number = Descriptor::new(fd.as_raw_fd()).ok_or(Error::Io(Errno::BADF.into()))?;
            let parts = Parts {
                fd: number,
                info: Info::accepted(
                    fd,
                    self.kind,
                    Names { local: self.local.clone(), peer: peer.and_then(Address::of) },
                ),
                protocol: protocol.as_borrowed(),
                waiter: None,
                server: server.as_ref().map(|server| server.borrow(py)),
                context: Some(context.clone_ref(py)),
            };
            stream::of_parts(loop_, parts).map(|_| ())
        })?;
        match made {
            Ok(()) => Ok(()),
            Err(error) if errors::ends_run(py, &error) => Err(error),
            Err(error) => self.report(loop_, error, protocol.as_ref()),
        }
    }

    /// asyncio tells in debug mode only.
    #[cold]
    fn report(&self, loop_: Loop<'_, 'py>, error: PyErr, protocol: Option<&Bound<'py, PyAny>>) -> PyResult<()> {
        if !loop_.is_debug() {
            return Ok(());
        }
        let names = names(self.py());
        let context = PyDict::new(self.py());
        context.set_item(&names.message, "Error on transport creation for incoming connection")?;
        context.set_item(&names.exception, error.into_value(self.py()))?;
        if let Some(protocol) = protocol {
            context.set_item(&names.protocol, protocol)?;
        }
        loop_.object().call_method1(&names.call_exception_handler, (context,)).map(|_| ())
    }

    /// Out of descriptors or memory: the kernel would report the connection again and again.
    #[cold]
    fn rest(&self, loop_: Loop<'_, 'py>, errno: Errno) -> PyResult<()> {
        let py = self.py();
        let names = names(py);
        let socket = self.state.open(py).socket.as_ref().map(|socket| socket.clone_ref(py));
        let context = PyDict::new(py);
        context.set_item(&names.message, "socket.accept() out of system resource")?;
        context.set_item(&names.exception, PyErr::from(Error::Io(errno.into())).into_value(py))?;
        let socket = reply::option(py, socket)?;
        context.set_item(&names.socket, names.transport_socket.bind(py).call1((socket,))?)?;
        let token = self.state.open(py).token;
        let work = {
            let mut core = loop_.core.open(py);
            token.and_then(|token| core.io.as_mut()?.sources.disarm(token, Direction::Read))
        };
        drop(work);
        loop_.run_at(py, loop_.time() + RETRY_DELAY, Ready { object: self.owned(), run: rested });
        loop_.object().call_method1(&names.call_exception_handler, (context,)).map(|_| ())
    }
}

impl Fields for Acceptor {
    fn class() -> &'static Class {
        &ACCEPTOR
    }
    fn visit(&self, visit: Visit<'_>) -> Result<(), Stop> {
        let Some(state) = self.state.peek() else { return Ok(()) };
        [&state.socket, &state.factory, &state.server, &state.context]
            .into_iter()
            .try_for_each(|field| visit.option(field))
    }
    fn take_references(&self, py: Python<'_>) -> Vec<Owned> {
        let mut state = self.state.open(py);
        let fields = [state.socket.take(), state.factory.take(), state.server.take(), state.context.take()];
        drop(state);
        fields.into_iter().flatten().collect()
    }
}
