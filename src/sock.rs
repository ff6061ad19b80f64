//! `sock_recv`, `sock_sendall`, `sock_accept` and their kin: try first, else wait for the descriptor.
//!
//! Called by `python/mioloop/_sock.py`, whose coroutines await the `Operation` that is returned where a call would block.
//! This file checks arguments and chooses between a system call and the socket's own method, which is called where its
//! class is not `socket.socket` itself and wherever that has something to say: `sock/call.rs` makes the attempt. Follows
//! asyncio.selector_events.

mod call;
pub(crate) mod operation;

use pyo3::prelude::*;
use pyo3::types::{PyInt, PyString, PyTuple};

use crate::address::{Address, Family};
use crate::py::class::This;
use crate::py::errors::Error;
use crate::py::method::{Args, Method, Reply};
use crate::py::names::names;
use crate::py::object::Owned;
use crate::py::reply;
use crate::py::socket::{self, SocketKind};
use crate::runtime::Runtime;
use call::{ByMethod, Call, Native, Outcome};
use operation::Operation;

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
        Method::fast(c"_sock_sendall", c"None, or an operation.", send_all),
        Method::fast(c"_sock_sendto", c"The number of bytes, or an operation.", send_to),
        Method::fast(c"_sock_connect", c"None, or an operation. The address is resolved.", connect),
        Method::one_arg(c"_sock_accept", c"The socket and its peer's address, or an operation.", accept),
    ]
}

fn receive<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    let method = "sock_recv";
    let (socket, size) = (args.required(method, 0, "sock")?, args.required(method, 1, "n")?);
    let call = match (check(loop_, socket)?, plain_size(size)) {
        (Socket::Plain, Some(size)) => Call::Native(Native::Receive(size)),
        _ => by_method(&names(loop_.py()).recv, [size])?,
    };
    begin(loop_, socket, call)
}

fn receive_into<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    let method = "sock_recv_into";
    let (socket, memory) = (args.required(method, 0, "sock")?, args.required(method, 1, "buf")?);
    let call = match check(loop_, socket)? {
        Socket::Plain => Call::Native(Native::ReceiveInto(Owned::of(memory))),
        Socket::Other => by_method(&names(loop_.py()).recv_into, [memory])?,
    };
    begin(loop_, socket, call)
}

fn receive_from<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    let method = "sock_recvfrom";
    let (socket, size) = (args.required(method, 0, "sock")?, args.required(method, 1, "bufsize")?);
    let known = knows_addresses(loop_, socket)?;
    let call = match plain_size(size).filter(|size| known && *size <= MOST_DATAGRAM) {
        Some(size) => Call::Native(Native::ReceiveFrom(size)),
        None => by_method(&names(loop_.py()).recvfrom, [size])?,
    };
    begin(loop_, socket, call)
}

fn receive_from_into<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    let py = loop_.py();
    let method = "sock_recvfrom_into";
    let (socket, memory) = (args.required(method, 0, "sock")?, args.required(method, 1, "buf")?);
    let size = args.required(method, 2, "nbytes")?;
    let known = knows_addresses(loop_, socket)?;
    let size = if size.is_truthy()? { size.to_owned() } else { reply::number(py, memory.len()?)? };
    let call = match plain_size(size.as_borrowed()) {
        Some(size) if known && size > 0 && size <= memory.len()? => {
            Call::Native(Native::ReceiveFromInto(Owned::of(memory), size))
        }
        _ => by_method(&names(py).recvfrom_into, [memory, size.as_borrowed()])?,
    };
    begin(loop_, socket, call)
}

fn send_all<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    let method = "sock_sendall";
    let (socket, data) = (args.required(method, 0, "sock")?, args.required(method, 1, "data")?);
    let call = match check(loop_, socket)? {
        Socket::Plain => Call::Native(Native::Send(Owned::of(data), 0)),
        Socket::Other => Call::ByMethod(ByMethod::Send(Owned::of(data), 0)),
    };
    loop_.look_soon(loop_.py());
    begin(loop_, socket, call)
}

fn send_to<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    let method = "sock_sendto";
    let (socket, data) = (args.required(method, 0, "sock")?, args.required(method, 1, "data")?);
    let address = args.required(method, 2, "address")?;
    let family = match check(loop_, socket)? {
        Socket::Plain => Family::numbered(socket::family(socket)?),
        Socket::Other => Family::Other,
    };
    let call = match Address::in_digits(address, family) {
        Some(to) => {
            socket::audit_sendto(socket, address)?;
            Call::Native(Native::SendTo(Owned::of(data), to))
        }
        None => {
            let arguments = PyTuple::new(loop_.py(), [data, address])?;
            Call::ByMethod(ByMethod::SendTo(Owned::new(arguments.into_any())))
        }
    };
    loop_.look_soon(loop_.py());
    begin(loop_, socket, call)
}

/// `_sock_check` comes first, then the address is resolved.
fn connect<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    let method = "sock_connect";
    let (socket, address) = (args.required(method, 0, "sock")?, args.required(method, 1, "address")?);
    begin(loop_, socket, Call::ByMethod(ByMethod::Connect(Owned::of(address))))
}

fn accept<'py>(loop_: Loop<'_, 'py>, socket: Borrowed<'_, 'py, PyAny>) -> Reply<'py> {
    let call = if knows_addresses(loop_, socket)? {
        Call::Native(Native::Accept(SocketKind::of(socket)?))
    } else {
        Call::ByMethod(ByMethod::Accept)
    };
    begin(loop_, socket, call)
}

/// Whose calls are made how.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Socket {
    /// By system calls.
    Plain,
    /// By its methods.
    Other,
}

/// The checks that asyncio makes first.
#[inline(always)]
fn check(loop_: Loop<'_, '_>, socket: Borrowed<'_, '_, PyAny>) -> PyResult<Socket> {
    let names = names(loop_.py());
    let plain = socket::is_plain(socket)?;
    if !plain {
        names.check_ssl_socket.bind(loop_.py()).call1((socket,))?;
    }
    if loop_.is_debug() && !socket.call_method0(&names.gettimeout)?.eq(0)? {
        return Err(Error::Value("the socket must be non-blocking".to_owned()).into());
    }
    Ok(if plain { Socket::Plain } else { Socket::Other })
}

fn check_only<'py>(loop_: Loop<'_, 'py>, socket: Borrowed<'_, 'py, PyAny>) -> Reply<'py> {
    check(loop_, socket)?;
    reply::none(loop_.py())
}

/// After the checks: `address.rs` can show every address of the socket's family.
fn knows_addresses(loop_: Loop<'_, '_>, socket: Borrowed<'_, '_, PyAny>) -> PyResult<bool> {
    Ok(check(loop_, socket)? == Socket::Plain && Family::numbered(socket::family(socket)?) != Family::Other)
}

/// None: the socket's method knows what it means, or which error it is.
#[inline(always)]
fn plain_size(size: Borrowed<'_, '_, PyAny>) -> Option<usize> {
    let size: isize = size.cast_exact::<PyInt>().ok()?.extract().ok()?;
    usize::try_from(size).ok()
}

/// One that receives.
#[cold]
fn by_method<'py, const N: usize>(
    name: &'static Py<PyString>,
    arguments: [Borrowed<'_, 'py, PyAny>; N],
) -> PyResult<Call> {
    let arguments = PyTuple::new(arguments[0].py(), arguments)?;
    Ok(Call::ByMethod(ByMethod::Receive(name, Owned::new(arguments.into_any()))))
}

/// What the call gives at once, or the operation that waits.
#[inline(always)]
fn begin<'py>(loop_: Loop<'_, 'py>, socket: Borrowed<'_, 'py, PyAny>, mut call: Call) -> Reply<'py> {
    match call.attempt(loop_, socket)? {
        Outcome::Done(value) => Ok(value),
        Outcome::Blocked => Operation::start(loop_, socket, call),
    }
}
