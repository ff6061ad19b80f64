//! One try of a `sock_*` call by the socket's own methods, where there is more to it than to call one.
//!
//! Called by `sock.rs` for sockets that are not plain, and for connections of any. Follows asyncio.selector_events, where a
//! BlockingIOError or InterruptedError means "not now".

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PySlice;

use crate::py::errors::is_blocked;
use crate::py::method::Reply;
use crate::py::names::names;
use crate::py::reply;

/// One `send()`, as asyncio's for each time that the socket is writable. None, or how many items have gone now.
#[cold]
pub(super) fn send<'py>(
    socket: Borrowed<'_, 'py, PyAny>,
    data: Borrowed<'_, 'py, PyAny>,
    mut sent: usize,
) -> Reply<'py> {
    let py = socket.py();
    let rest = match sent {
        0 => data.to_owned(),
        sent => data.get_item(PySlice::new(py, sent.cast_signed(), isize::MAX, 1))?,
    };
    match socket.call_method1(&names(py).send, (rest,)) {
        Ok(count) => sent += count.extract::<usize>()?,
        Err(error) if is_blocked(py, &error) => {}
        Err(error) => return Err(error),
    }
    if sent == data.len()? { reply::none(py) } else { reply::number(py, sent) }
}

/// The end of a connection attempt that was under way.
pub(super) fn connected<'py>(socket: Borrowed<'_, 'py, PyAny>, address: Borrowed<'_, 'py, PyAny>) -> Reply<'py> {
    let py = socket.py();
    let number: i32 = socket.call_method1(&names(py).getsockopt, (libc::SOL_SOCKET, libc::SO_ERROR))?.extract()?;
    if number != 0 {
        let text = format!("Connect call failed {}", address.str()?);
        return Err(PyOSError::new_err((number, text)));
    }
    reply::none(py)
}

/// The socket does not block.
pub(super) fn accept<'py>(socket: Borrowed<'_, 'py, PyAny>) -> Reply<'py> {
    let names = names(socket.py());
    let accepted = socket.call_method0(&names.accept)?;
    accepted.get_item(0)?.call_method1(&names.setblocking, (false,))?;
    Ok(accepted)
}
