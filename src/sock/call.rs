//! One try of a `sock_*` call by a system call that does not wait.
//!
//! Called by `sock.rs` for sockets that are plain. What would block is a `Failure` like any other here: what to do about it
//! the caller knows.

use std::io::ErrorKind;
use std::os::fd::{AsRawFd, IntoRawFd};

use pyo3::prelude::*;
use rustix::io::Errno;
use rustix::net::{SocketAddrAny, SocketFlags, acceptfrom_with};

use super::Loop;
use crate::address::Address;
use crate::py::buffer;
use crate::py::descriptor::{self, Descriptor, receive_first, receive_some, send_some, uninterrupted};
use crate::py::errors::Error;
use crate::py::method::Reply;
use crate::py::reply;
use crate::py::socket::SocketKind;
use crate::transport::info::python_socket;

/// A larger receive has an object of its own from the start; smaller ones go by way of the loop's buffer. Bytes.
const MOST_SCRATCH: usize = 1 << 20;

/// What a system call came to.
type Answer<'py> = Result<Bound<'py, PyAny>, Failure>;

pub(super) enum Failure {
    /// The kernel's.
    System(Errno),
    /// An exception.
    Python(PyErr),
}

impl Failure {
    /// The socket is closed.
    pub(super) const CLOSED: Failure = Failure::System(Errno::BADF);

    /// To be tried again when the descriptor is ready.
    #[inline]
    pub(super) fn is_blocked(&self) -> bool {
        matches!(self, Failure::System(errno) if errno.kind() == ErrorKind::WouldBlock)
    }
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

impl From<Failure> for PyErr {
    #[cold]
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::System(errno) => Error::Io(errno.into()).into(),
            Failure::Python(error) => error,
        }
    }
}

#[inline(always)]
pub(super) fn receive<'py>(loop_: Loop<'_, 'py>, fd: Descriptor, size: usize) -> Answer<'py> {
    let py = loop_.py();
    if size > MOST_SCRATCH {
        return Ok(buffer::bytes_filled(py, size, |memory| receive_first(fd, memory))??);
    }
    let mut core = loop_.core.open(py);
    let (memory, spare) = core.scratch_and_spare(size);
    let count = if size == 0 { 0 } else { receive_some(fd, memory)? };
    Ok(spare.bytes(py, &memory[..count])?)
}

pub(super) fn receive_into<'py>(fd: Descriptor, memory: Borrowed<'_, 'py, PyAny>) -> Answer<'py> {
    // The socket module asks nobody for nothing.
    let receive = |memory: &mut [u8]| if memory.is_empty() { Ok(0) } else { receive_some(fd, memory) };
    let count = buffer::with_writable(memory, "recv_into", receive)??;
    Ok(reply::number(memory.py(), count)?)
}

pub(super) fn receive_from<'py>(loop_: Loop<'_, 'py>, fd: Descriptor, size: usize) -> Answer<'py> {
    let py = loop_.py();
    let (data, from) = {
        let mut core = loop_.core.open(py);
        let (memory, spare) = core.scratch_and_spare(size);
        let (count, from) = descriptor::receive_from(fd, memory)?;
        (spare.bytes(py, &memory[..count])?, from)
    };
    Ok(with_address(data, from.as_ref())?)
}

/// Fills no more than `size` bytes of the buffer.
pub(super) fn receive_from_into<'py>(fd: Descriptor, memory: Borrowed<'_, 'py, PyAny>, size: usize) -> Answer<'py> {
    let receive = |memory: &mut [u8]| {
        let most = memory.len().min(size);
        descriptor::receive_from(fd, &mut memory[..most])
    };
    let (count, from) = buffer::with_writable(memory, "recvfrom_into", receive)??;
    Ok(with_address(reply::number(memory.py(), count)?, from.as_ref())?)
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

/// Sends what is behind the first `sent` bytes, as much as the kernel takes. None, or how many have gone now.
#[inline(always)]
pub(super) fn send<'py>(fd: Descriptor, data: Borrowed<'_, 'py, PyAny>, mut sent: usize) -> Answer<'py> {
    let py = data.py();
    let result = buffer::with_bytes(data, |bytes| {
        loop {
            // Empty data is sent too: a datagram socket makes a datagram of it.
            sent += send_some(fd, bytes.get(sent..).unwrap_or_default())?;
            if sent >= bytes.len() {
                return Ok(());
            }
        }
    })?;
    match result.map_err(Failure::System) {
        Err(failure) if failure.is_blocked() && !buffer::is_empty(data)? => Ok(reply::number(py, sent)?),
        Err(failure) if !failure.is_blocked() => Err(failure),
        _ => Ok(py.None().into_bound(py)),
    }
}

/// The number of bytes, of one datagram.
pub(super) fn send_to<'py>(fd: Descriptor, data: Borrowed<'_, 'py, PyAny>, to: &Address) -> Answer<'py> {
    let count = buffer::with_bytes(data, |bytes| to.send(fd, bytes))??;
    Ok(reply::number(data.py(), count)?)
}

/// A socket that does not block, and its peer's address. The interpreter is released, since the listening socket may be
/// one that does: no flag keeps `accept4` from waiting.
pub(super) fn accept(py: Python<'_>, fd: Descriptor, kind: SocketKind) -> Answer<'_> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (accepted, peer) = py.detach(|| uninterrupted(|| acceptfrom_with(fd, flags)))?;
    let socket = python_socket(py, accepted.as_raw_fd(), kind)?;
    // The Python object owns it.
    let _ = accepted.into_raw_fd();
    Ok(with_address(socket, peer.as_ref())?)
}
