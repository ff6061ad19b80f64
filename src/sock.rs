//! `sock_recv`, `sock_sendall`, `sock_accept` and their kin: one try each, which does not wait.
//!
//! Called by `python/mioloop/_sock.py`, whose coroutines await the `Operation` that they get where a call would block, and
//! call again. So a coroutine that is cancelled meanwhile has taken nothing from the socket. This file checks arguments and
//! chooses between a system call (`sock/call.rs`) and the socket's own method (`sock/own.rs`), which is called where its
//! class is not `socket.socket` itself and wherever that has something to say. Follows asyncio.selector_events.

mod call;
mod own;
mod wait;

use std::os::fd::RawFd;

use pyo3::prelude::*;
use pyo3::types::PyInt;

use crate::address::{Address, Family};
use crate::py::class::This;
use crate::py::descriptor::Descriptor;
use crate::py::errors::{Error, is_blocked};
use crate::py::method::{Args, Method, Reply};
use crate::py::names::names;
use crate::py::reply;
use crate::py::socket::{self, SocketKind};
use crate::readers;
use crate::runtime::Runtime;
use crate::runtime::sources::Direction;
use call::Failure;
use wait::wait;

/// A larger receive that can be put off to the socket's method has no buffer of ours. Bytes.
const MOST_DATAGRAM: usize = 1 << 18;

type Loop<'a, 'py> = This<'a, 'py, Runtime>;

/// What this file adds to the loop's table of methods.
pub(crate) fn methods() -> Vec<Method<Runtime>> {
    vec![
        Method::one_arg(c"_sock_check", c"Raises what asyncio raises for sockets that are not for sock_*.", check_only),
        Method::fast(c"_sock_recv", c"The bytes, or an operation.", receive),
        Method::fast(c"_sock_recv_into", c"The number of bytes, or an operation.", receive_into),
        Method::fast(c"_sock_recvfrom", c"The bytes and their sender, or an operation.", receive_from),
        Method::fast(c"_sock_recvfrom_into", c"Number of bytes and sender, or an operation.", receive_from_into),
        Method::fast(c"_sock_send", c"None, or how much has been sent.", send),
        Method::fast(c"_sock_sendto", c"The number of bytes, or an operation.", send_to),
        Method::one_arg(c"_sock_writable", c"An operation.", writable),
        Method::fast(c"_sock_connect", c"None, or an operation. The address is resolved.", connect),
        Method::fast(c"_sock_connected", c"The end of an attempt: None, or an operation.", connected),
        Method::fast(c"_sock_accept", c"The socket and its peer's address, or an operation.", accept),
    ]
}

fn receive<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    let method = "sock_recv";
    let (socket, size) = (args.required(method, 0, "sock")?, args.required(method, 1, "n")?);
    match (check(loop_, socket, args.get(2))?, plain_size(size)) {
        (Socket::Plain, Some(size)) => natively(loop_, socket, Direction::Read, |fd| call::receive(loop_, fd, size)),
        _ => by_method(loop_, socket, Direction::Read, || socket.call_method1(&names(loop_.py()).recv, (size,))),
    }
}

fn receive_into<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    let method = "sock_recv_into";
    let (socket, memory) = (args.required(method, 0, "sock")?, args.required(method, 1, "buf")?);
    match check(loop_, socket, args.get(2))? {
        Socket::Plain => natively(loop_, socket, Direction::Read, |fd| call::receive_into(fd, memory)),
        Socket::Other => {
            by_method(loop_, socket, Direction::Read, || socket.call_method1(&names(loop_.py()).recv_into, (memory,)))
        }
    }
}

fn receive_from<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    let method = "sock_recvfrom";
    let (socket, size) = (args.required(method, 0, "sock")?, args.required(method, 1, "bufsize")?);
    let known = knows_addresses(loop_, socket, args.get(2))?;
    match plain_size(size).filter(|size| known && *size <= MOST_DATAGRAM) {
        Some(size) => natively(loop_, socket, Direction::Read, |fd| call::receive_from(loop_, fd, size)),
        None => by_method(loop_, socket, Direction::Read, || socket.call_method1(&names(loop_.py()).recvfrom, (size,))),
    }
}

fn receive_from_into<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    let py = loop_.py();
    let method = "sock_recvfrom_into";
    let (socket, memory) = (args.required(method, 0, "sock")?, args.required(method, 1, "buf")?);
    let size = args.required(method, 2, "nbytes")?;
    let known = knows_addresses(loop_, socket, args.get(3))?;
    let size = if size.is_truthy()? { size.to_owned() } else { reply::number(py, memory.len()?)? };
    match plain_size(size.as_borrowed()) {
        Some(size) if known && size > 0 && size <= memory.len()? => {
            natively(loop_, socket, Direction::Read, |fd| call::receive_from_into(fd, memory, size))
        }
        _ => by_method(loop_, socket, Direction::Read, || {
            socket.call_method1(&names(py).recvfrom_into, (memory, size.as_borrowed()))
        }),
    }
}

fn send<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    let method = "sock_sendall";
    let (socket, data) = (args.required(method, 0, "sock")?, args.required(method, 1, "data")?);
    let sent = args.get(2);
    let plain = check(loop_, socket, sent)? == Socket::Plain;
    let sent = sent.map_or(Ok(0), |sent| sent.extract())?;
    loop_.look_soon(loop_.py());
    if plain { Ok(call::send(descriptor(socket)?, data, sent)?) } else { own::send(socket, data, sent) }
}

fn send_to<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    let method = "sock_sendto";
    let (socket, data) = (args.required(method, 0, "sock")?, args.required(method, 1, "data")?);
    let address = args.required(method, 2, "address")?;
    let family = match check(loop_, socket, args.get(3))? {
        Socket::Plain => Family::numbered(socket::family(socket)?),
        Socket::Other => Family::Other,
    };
    let in_digits = Address::in_digits(address, family);
    loop_.look_soon(loop_.py());
    match in_digits {
        Some(to) => {
            socket::audit_sendto(socket, address)?;
            natively(loop_, socket, Direction::Write, |fd| call::send_to(fd, data, &to))
        }
        None => by_method(loop_, socket, Direction::Write, || {
            socket.call_method1(&names(loop_.py()).sendto, (data, address))
        }),
    }
}

fn writable<'py>(loop_: Loop<'_, 'py>, socket: Borrowed<'_, 'py, PyAny>) -> Reply<'py> {
    wait(loop_, socket, readers::descriptor(socket)?, Direction::Write)
}

/// `_sock_check` comes first, then the address is resolved.
fn connect<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    let method = "sock_connect";
    let (socket, address) = (args.required(method, 0, "sock")?, args.required(method, 1, "address")?);
    by_method(loop_, socket, Direction::Write, || {
        socket.call_method1(&names(loop_.py()).connect, (address,))?;
        reply::none(loop_.py())
    })
}

fn connected<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    let method = "sock_connect";
    let (socket, address) = (args.required(method, 0, "sock")?, args.required(method, 1, "address")?);
    by_method(loop_, socket, Direction::Write, || own::connected(socket, address))
}

fn accept<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    let socket = args.required("sock_accept", 0, "sock")?;
    if knows_addresses(loop_, socket, args.get(1))? {
        let kind = SocketKind::of(socket)?;
        natively(loop_, socket, Direction::Read, |fd| call::accept(loop_.py(), fd, kind))
    } else {
        by_method(loop_, socket, Direction::Read, || own::accept(socket))
    }
}

/// Whose calls are made how.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Socket {
    /// By system calls.
    Plain,
    /// By its methods.
    Other,
}

/// The checks that asyncio makes first: not when the call is tried `again`, which then is something.
#[inline(always)]
fn check(
    loop_: Loop<'_, '_>,
    socket: Borrowed<'_, '_, PyAny>,
    again: Option<Borrowed<'_, '_, PyAny>>,
) -> PyResult<Socket> {
    let names = names(loop_.py());
    let plain = socket::is_plain(socket)?;
    if !plain && again.is_none() {
        names.check_ssl_socket.bind(loop_.py()).call1((socket,))?;
    }
    if loop_.is_debug() && again.is_none() && !socket.call_method0(&names.gettimeout)?.eq(0)? {
        return Err(Error::Value("the socket must be non-blocking".to_owned()).into());
    }
    Ok(if plain { Socket::Plain } else { Socket::Other })
}

fn check_only<'py>(loop_: Loop<'_, 'py>, socket: Borrowed<'_, 'py, PyAny>) -> Reply<'py> {
    check(loop_, socket, None)?;
    reply::none(loop_.py())
}

/// After the checks: `address.rs` can show every address of the socket's family.
fn knows_addresses(
    loop_: Loop<'_, '_>,
    socket: Borrowed<'_, '_, PyAny>,
    again: Option<Borrowed<'_, '_, PyAny>>,
) -> PyResult<bool> {
    Ok(check(loop_, socket, again)? == Socket::Plain && Family::numbered(socket::family(socket)?) != Family::Other)
}

/// None: the socket's method knows what it means, or which error it is.
#[inline(always)]
fn plain_size(size: Borrowed<'_, '_, PyAny>) -> Option<usize> {
    let size: isize = size.cast_exact::<PyInt>().ok()?.extract().ok()?;
    usize::try_from(size).ok()
}

/// Of a plain socket. Asked for each time: if the socket was closed, its number is another's.
#[inline(always)]
fn descriptor(socket: Borrowed<'_, '_, PyAny>) -> PyResult<Descriptor> {
    let number = RawFd::try_from(socket::plain_number(socket)?)?;
    Ok(Descriptor::new(number).ok_or(Failure::CLOSED)?)
}

/// What the call gives at once, or the operation to wait for.
#[inline(always)]
fn natively<'py>(
    loop_: Loop<'_, 'py>,
    socket: Borrowed<'_, 'py, PyAny>,
    direction: Direction,
    call: impl FnOnce(Descriptor) -> Result<Bound<'py, PyAny>, Failure>,
) -> Reply<'py> {
    let fd = descriptor(socket)?;
    match call(fd) {
        Ok(value) => Ok(value),
        Err(failure) if failure.is_blocked() => wait(loop_, socket, fd.number(), direction),
        Err(failure) => Err(failure.into()),
    }
}

/// As `natively`, for sockets with methods of their own.
#[cold]
fn by_method<'py>(
    loop_: Loop<'_, 'py>,
    socket: Borrowed<'_, 'py, PyAny>,
    direction: Direction,
    call: impl FnOnce() -> Reply<'py>,
) -> Reply<'py> {
    match call() {
        Err(error) if is_blocked(loop_.py(), &error) => wait(loop_, socket, readers::descriptor(socket)?, direction),
        result => result,
    }
}
