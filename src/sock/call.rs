//! One attempt of a `sock_*` call: a system call that does not wait, or the socket's own method.
//!
//! Made by `sock.rs` at once, and by `operation.rs` again whenever the descriptor has become ready.

use std::io::ErrorKind;
use std::os::fd::{AsRawFd, IntoRawFd};

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::{PyMemoryView, PySlice, PyString, PyTuple};
use rustix::io::Errno;
use rustix::net::{SocketAddrAny, SocketFlags, acceptfrom_with};

use super::Loop;
use crate::address::Address;
use crate::py::buffer;
use crate::py::class::{Stop, Visit};
use crate::py::descriptor::{Descriptor, receive_first, receive_from, receive_some, send_some, uninterrupted};
use crate::py::errors::{Error, is_blocked};
use crate::py::method::Reply;
use crate::py::names::names;
use crate::py::object::Owned;
use crate::py::reply;
use crate::py::socket::{SocketKind, number};
use crate::runtime::sources::Direction;
use crate::transport::info::python_socket;

/// A larger receive has an object of its own from the start; smaller ones go by way of the loop's buffer. Bytes.
const MOST_SCRATCH: usize = 1 << 20;

/// What is to be done.
pub(super) enum Call {
    Native(Native),
    ByMethod(ByMethod),
}

/// A system call.
pub(super) enum Native {
    Receive(usize),
    ReceiveInto(Owned),
    ReceiveFrom(usize),
    /// A buffer, and how much of it to fill.
    ReceiveFromInto(Owned, usize),
    /// Data, and how much of it has gone.
    Send(Owned, usize),
    SendTo(Owned, Address),
    /// What accepted connections are.
    Accept(SocketKind),
}

/// A method of the socket's.
pub(super) enum ByMethod {
    /// One that receives, its arguments.
    Receive(&'static Py<PyString>, Owned),
    Send(Owned, usize),
    /// The arguments.
    SendTo(Owned),
    Connect(Owned),
    /// The same address, once the connection is under way.
    Connecting(Owned),
    Accept,
}

/// How an attempt ended, if not with an error.
pub(super) enum Outcome<'py> {
    Done(Bound<'py, PyAny>),
    /// To be tried again when the descriptor is ready.
    Blocked,
}

impl Call {
    pub(super) fn direction(&self) -> Direction {
        match self {
            Call::Native(
                Native::Receive(_)
                | Native::ReceiveInto(_)
                | Native::ReceiveFrom(_)
                | Native::ReceiveFromInto(..)
                | Native::Accept(_),
            )
            | Call::ByMethod(ByMethod::Receive(..) | ByMethod::Accept) => Direction::Read,
            _ => Direction::Write,
        }
    }

    /// Inlined, so that who makes the call and tries it at once has nothing to choose.
    #[inline(always)]
    pub(super) fn attempt<'py>(
        &mut self,
        loop_: Loop<'_, 'py>,
        socket: Borrowed<'_, 'py, PyAny>,
    ) -> PyResult<Outcome<'py>> {
        let call = match self {
            Call::Native(call) => call,
            Call::ByMethod(call) => return call.attempt(socket),
        };
        // Asked for each time: if the socket was closed, its number is another's.
        let fd = Descriptor::new(i32::try_from(number(socket)?)?).ok_or(Failure::System(Errno::BADF));
        match fd.and_then(|fd| call.attempt(loop_, fd)) {
            Ok(value) => Ok(Outcome::Done(value)),
            Err(Failure::System(errno)) if errno.kind() == ErrorKind::WouldBlock => Ok(Outcome::Blocked),
            Err(Failure::System(errno)) => Err(Error::Io(errno.into()).into()),
            Err(Failure::Python(error)) => Err(error),
        }
    }

    pub(super) fn visit(&self, visit: Visit<'_>) -> Result<(), Stop> {
        self.reference().map_or(Ok(()), |object| visit.object(object))
    }

    /// The only object that it refers to.
    pub(super) fn reference(&self) -> Option<&Owned> {
        match self {
            Call::Native(Native::Receive(_) | Native::ReceiveFrom(_) | Native::Accept(_))
            | Call::ByMethod(ByMethod::Accept) => None,
            Call::Native(
                Native::ReceiveInto(object)
                | Native::ReceiveFromInto(object, _)
                | Native::Send(object, _)
                | Native::SendTo(object, _),
            )
            | Call::ByMethod(
                ByMethod::Receive(_, object)
                | ByMethod::Send(object, _)
                | ByMethod::SendTo(object)
                | ByMethod::Connect(object)
                | ByMethod::Connecting(object),
            ) => Some(object),
        }
    }
}

/// What a system call came to.
type Answer<'py> = Result<Bound<'py, PyAny>, Failure>;

enum Failure {
    /// The kernel's.
    System(Errno),
    /// An exception.
    Python(PyErr),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Failure::System(errno)
    }
}

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Self {
        Failure::Python(error)
    }
}

impl Native {
    #[inline(always)]
    fn attempt<'py>(&mut self, loop_: Loop<'_, 'py>, fd: Descriptor) -> Answer<'py> {
        let py = loop_.py();
        match self {
            Native::Receive(size) => receive(loop_, fd, *size),
            Native::ReceiveInto(memory) => {
                // The socket module asks nobody for nothing.
                let receive = |memory: &mut [u8]| if memory.is_empty() { Ok(0) } else { receive_some(fd, memory) };
                let count = buffer::with_writable(memory.borrow(py), "recv_into", receive)??;
                Ok(reply::number(py, count)?)
            }
            Native::ReceiveFrom(size) => {
                let (data, from) = {
                    let mut core = loop_.core.open(py);
                    let memory = core.scratch(*size);
                    let (count, from) = receive_from(fd, memory)?;
                    (buffer::bytes(py, &memory[..count])?, from)
                };
                Ok(with_address(data, from.as_ref())?)
            }
            Native::ReceiveFromInto(memory, size) => {
                let receive = |memory: &mut [u8]| {
                    let most = memory.len().min(*size);
                    receive_from(fd, &mut memory[..most])
                };
                let (count, from) = buffer::with_writable(memory.borrow(py), "recvfrom_into", receive)??;
                Ok(with_address(reply::number(py, count)?, from.as_ref())?)
            }
            Native::Send(data, sent) => send(py, fd, data, sent),
            Native::SendTo(data, to) => {
                let count = buffer::with_bytes(data.borrow(py), |bytes| to.send(fd, bytes))??;
                Ok(reply::number(py, count)?)
            }
            Native::Accept(kind) => accept(py, fd, *kind),
        }
    }
}

#[inline(always)]
fn receive<'py>(loop_: Loop<'_, 'py>, fd: Descriptor, size: usize) -> Answer<'py> {
    let py = loop_.py();
    if size > MOST_SCRATCH {
        return Ok(buffer::bytes_filled(py, size, |memory| receive_first(fd, memory))??);
    }
    let mut core = loop_.core.open(py);
    let memory = core.scratch(size);
    let count = if size == 0 { 0 } else { receive_some(fd, memory)? };
    Ok(buffer::bytes(py, &memory[..count])?)
}

/// `(received, address)`.
fn with_address<'py>(received: Bound<'py, PyAny>, from: Option<&SocketAddrAny>) -> Reply<'py> {
    let py = received.py();
    let address = match from.and_then(Address::of) {
        Some(address) => address.to_python(py)?,
        None => py.None().into_bound(py),
    };
    Ok((received, address).into_pyobject(py)?.into_any())
}

/// Sends what is behind `sent`, as much as the kernel takes.
#[inline(always)]
fn send<'py>(py: Python<'py>, fd: Descriptor, data: &mut Owned, sent: &mut usize) -> Answer<'py> {
    let result = buffer::with_bytes(data.borrow(py), |bytes| {
        loop {
            // Empty data is sent too: a datagram socket makes a datagram of it.
            *sent += send_some(fd, bytes.get(*sent..).unwrap_or_default())?;
            if *sent >= bytes.len() {
                return Ok(());
            }
        }
    })?;
    if let Err(errno) = result {
        hold(py, data)?;
        return Err(Failure::System(errno));
    }
    Ok(py.None().into_bound(py))
}

/// Data that waits to be sent stays as large as it is, as in asyncio.
fn hold(py: Python<'_>, data: &mut Owned) -> PyResult<()> {
    let view = PyMemoryView::from(data.bind(py))?;
    let _former = std::mem::replace(data, Owned::new(view.into_any()));
    Ok(())
}

/// A socket that does not block, and its peer's address. The interpreter is released, since the listening socket may be
/// one that does: no flag keeps `accept4` from waiting.
fn accept(py: Python<'_>, fd: Descriptor, kind: SocketKind) -> Answer<'_> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (accepted, peer) = py.detach(|| uninterrupted(|| acceptfrom_with(fd, flags)))?;
    let socket = python_socket(py, accepted.as_raw_fd(), kind)?;
    // The Python object owns it.
    let _ = accepted.into_raw_fd();
    Ok(with_address(socket, peer.as_ref())?)
}

impl ByMethod {
    #[cold]
    fn attempt<'py>(&mut self, socket: Borrowed<'_, 'py, PyAny>) -> PyResult<Outcome<'py>> {
        let py = socket.py();
        let names = names(py);
        let result = match self {
            ByMethod::Receive(name, arguments) => call(socket, name, arguments),
            ByMethod::SendTo(arguments) => call(socket, &names.sendto, arguments),
            ByMethod::Send(data, sent) => return send_by_method(socket, data, sent),
            ByMethod::Connect(address) => socket.call_method1(&names.connect, (address.bind(py),)),
            ByMethod::Connecting(address) => return connected(socket, address).map(Outcome::Done),
            ByMethod::Accept => accept_by_method(socket),
        };
        match result {
            Ok(_) if matches!(self, ByMethod::Connect(_)) => Ok(Outcome::Done(py.None().into_bound(py))),
            Ok(value) => Ok(Outcome::Done(value)),
            Err(error) if is_blocked(py, &error) => {
                if let ByMethod::Connect(address) = self {
                    *self = ByMethod::Connecting(address.clone_ref(py));
                }
                Ok(Outcome::Blocked)
            }
            Err(error) => Err(error),
        }
    }
}

fn call<'py>(socket: Borrowed<'_, 'py, PyAny>, name: &Py<PyString>, arguments: &Owned) -> Reply<'py> {
    socket.call_method1(name, arguments.bind(socket.py()).cast::<PyTuple>()?)
}

/// One `send()` for each time that the socket is writable, as asyncio's.
fn send_by_method<'py>(socket: Borrowed<'_, 'py, PyAny>, data: &mut Owned, sent: &mut usize) -> PyResult<Outcome<'py>> {
    let py = socket.py();
    let rest = match *sent {
        0 => data.bind(py).clone(),
        sent => data.bind(py).get_item(PySlice::new(py, sent.cast_signed(), isize::MAX, 1))?,
    };
    match socket.call_method1(&names(py).send, (rest,)) {
        Ok(count) => *sent += count.extract::<usize>()?,
        Err(error) if is_blocked(py, &error) => {}
        Err(error) => return Err(error),
    }
    if *sent == data.bind(py).len()? {
        return Ok(Outcome::Done(py.None().into_bound(py)));
    }
    hold(py, data)?;
    Ok(Outcome::Blocked)
}

/// The end of a connection attempt that was under way.
fn connected<'py>(socket: Borrowed<'_, 'py, PyAny>, address: &Owned) -> Reply<'py> {
    let py = socket.py();
    let number: i32 = socket.call_method1(&names(py).getsockopt, (libc::SOL_SOCKET, libc::SO_ERROR))?.extract()?;
    if number != 0 {
        let text = format!("Connect call failed {}", address.bind(py).str()?);
        return Err(PyOSError::new_err((number, text)));
    }
    Ok(py.None().into_bound(py))
}

fn accept_by_method<'py>(socket: Borrowed<'_, 'py, PyAny>) -> Reply<'py> {
    let names = names(socket.py());
    let accepted = socket.call_method0(&names.accept)?;
    accepted.get_item(0)?.call_method1(&names.setblocking, (false,))?;
    Ok(accepted)
}
