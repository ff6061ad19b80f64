//! Where the kernel encrypts (`ssl.OP_ENABLE_KTLS`): how it gets the keys, and `sendfile`.
//!
//! OpenSSL hands the keys over in the middle of its handshake, `py/bio.rs` passes them on, and what OpenSSL writes from
//! then on is plain text, as everything that goes to the transport below. A file can go there as well without being
//! read: the methods here are for `python/mioloop/_sendfile.py`.

use pyo3::intern;
use pyo3::prelude::*;

use super::{Below, T, write};
use crate::py::class::This;
use crate::py::errors::Error;
use crate::py::method::{Method, Reply};
use crate::py::names::names;
use crate::py::reply;
use crate::transport::Transport;
use crate::transport::records::{idle_socket, is_paused};

pub(super) fn methods() -> Vec<Method<super::Tls>> {
    vec![
        Method::get(c"_sendfile_compatible", sendfile_compatible),
        Method::get(c"_carrier", carrier),
        Method::no_args(c"_make_empty_waiter", c"A future of the backlog's end; nobody may write.", make_empty_waiter),
        Method::no_args(c"_reset_empty_waiter", c"Lets others write again.", reset_empty_waiter),
    ]
}

/// Calls `body`, in which OpenSSL goes on with the handshake and may give the keys for the socket to the kernel.
pub(super) fn with_offer<R>(this: T<'_, '_>, body: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
    let py = this.py();
    let socket = stream(this).and_then(|below| idle_socket(This::<Transport>::of_exact(below.as_borrowed())?));
    this.engine().offer(py, socket);
    let result = body();
    this.engine().offer(py, None);
    result
}

/// The transport below, if it is one of ours.
pub(super) fn stream<'py>(this: T<'_, 'py>) -> Option<Bound<'py, PyAny>> {
    let py = this.py();
    match &this.state.open(py).below {
        Some(Below::Stream(below)) => Some(below.clone_ref(py).into_bound(py)),
        Some(Below::Other(_)) | None => None,
    }
}

fn sendfile_compatible<'py>(this: T<'_, 'py>) -> Reply<'py> {
    let py = this.py();
    let plain = this.engine().is_plain(py);
    let mode = if plain { &names(py).try_native_sendfile } else { &names(py).fallback_sendfile };
    Ok(mode.bind(py).clone())
}

/// The transport that a file goes to.
fn carrier<'py>(this: T<'_, 'py>) -> Reply<'py> {
    stream(this).map_or_else(|| reply::none(this.py()), Ok)
}

fn make_empty_waiter<'py>(this: T<'_, 'py>) -> Reply<'py> {
    let py = this.py();
    let below = stream(this).filter(|_| this.engine().is_plain(py));
    let Some(below) = below else {
        return Err(Error::Runtime("the kernel does not encrypt for this connection".to_owned()).into());
    };
    let was_paused = std::mem::replace(&mut this.state.open(py).paused.below_writing, false);
    this.with_loop(|loop_| write::write_backlog(this, loop_))?;
    if was_paused && This::<Transport>::of_exact(below.as_borrowed()).is_some_and(is_paused) {
        this.state.open(py).paused.below_writing = true;
    }
    let waiter = below.call_method0(intern!(py, "_make_empty_waiter"))?;
    this.state.open(py).sends_file = true;
    Ok(waiter)
}

fn reset_empty_waiter<'py>(this: T<'_, 'py>) -> Reply<'py> {
    let py = this.py();
    this.state.open(py).sends_file = false;
    match stream(this) {
        Some(below) => below.call_method0(intern!(py, "_reset_empty_waiter")),
        None => reply::none(py),
    }
}
