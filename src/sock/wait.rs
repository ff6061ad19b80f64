//! Where a `sock_*` call would block: the operation that its coroutine waits for, registered.
//!
//! Called by `sock.rs`. A descriptor's own registration stays while the socket lives, edge-triggered, so that waiting costs
//! no system call. Whose a number is at present a weak reference tells.

use std::os::fd::RawFd;

use mioloop_core::poller::Token;
use pyo3::prelude::*;
use pyo3::types::PyWeakrefReference;

use super::Loop;
use crate::future::operation;
use crate::handle;
use crate::py::errors::Error;
use crate::py::method::Reply;
use crate::py::object::Owned;
use crate::readers;
use crate::runtime::Io;
use crate::runtime::ready::Ready;
use crate::runtime::sources::Direction;

/// An operation that is done when the descriptor is ready.
pub(super) fn wait<'py>(
    loop_: Loop<'_, 'py>,
    socket: Borrowed<'_, 'py, PyAny>,
    fd: RawFd,
    direction: Direction,
) -> Reply<'py> {
    let py = loop_.py();
    let operation = operation::create(loop_)?;
    let work = operation::work(&operation);
    let again = {
        let mut core = loop_.core.open(py);
        match core.io.as_mut() {
            Some(Io { registry, sources, .. }) => sources.wait_again(registry, fd, socket, direction, work),
            None => Err(work),
        }
    };
    let (token, replaced) = match again {
        Ok(registered) => registered,
        Err(work) => (register(loop_, socket, fd, direction, work)?, None),
    };
    operation::put(&operation, token, direction);
    if let Some(replaced) = replaced {
        handle::cancel_all(py, [replaced])?;
    }
    Ok(operation)
}

#[cold]
fn register(
    loop_: Loop<'_, '_>,
    socket: Borrowed<'_, '_, PyAny>,
    fd: RawFd,
    direction: Direction,
    work: Ready,
) -> PyResult<Token> {
    let py = loop_.py();
    readers::check_number(loop_, None, fd)?;
    // What takes no weak reference is never known again.
    let identity =
        PyWeakrefReference::new(&socket).map_or_else(|_| work.object.clone_ref(py), |it| Owned::new(it.into_any()));
    let operated = {
        let mut core = loop_.core.open(py);
        let Io { registry, sources, .. } = core.io.as_mut().ok_or(Error::Closed)?;
        sources.operate(registry, fd, identity, direction, work)
    };
    let (token, left) = operated.map_err(Error::Io)?;
    drop(left.references);
    handle::cancel_all(py, left.work)?;
    Ok(token)
}
