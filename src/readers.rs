//! `add_reader`, `remove_reader`, `add_writer`, `remove_writer`.
//!
//! Level-triggered to the caller, as asyncio's selectors are. The descriptor stays the caller's: nothing here changes
//! its flags or closes it. Called by `event_loop.rs`.

use std::os::fd::RawFd;

use pyo3::prelude::*;
use pyo3::types::PyInt;

use crate::handle::{self, Callback, Handle};
use crate::py::call::Arguments;
use crate::py::class::This;
use crate::py::errors::Error;
use crate::py::method::{Args, Reply};
use crate::py::names::names;
use crate::py::reply;
use crate::runtime::ready::Ready;
use crate::runtime::sources::Direction;
use crate::runtime::{Io, Runtime};

pub(crate) fn add_reader<'py>(loop_: This<'_, 'py, Runtime>, args: Args<'_, 'py>) -> Reply<'py> {
    add(loop_, args, "add_reader", Direction::Read)
}

pub(crate) fn add_writer<'py>(loop_: This<'_, 'py, Runtime>, args: Args<'_, 'py>) -> Reply<'py> {
    add(loop_, args, "add_writer", Direction::Write)
}

pub(crate) fn remove_reader<'py>(loop_: This<'_, 'py, Runtime>, args: Args<'_, 'py>) -> Reply<'py> {
    remove(loop_, args, "remove_reader", Direction::Read)
}

pub(crate) fn remove_writer<'py>(loop_: This<'_, 'py, Runtime>, args: Args<'_, 'py>) -> Reply<'py> {
    remove(loop_, args, "remove_writer", Direction::Write)
}

fn add<'py>(loop_: This<'_, 'py, Runtime>, args: Args<'_, 'py>, method: &str, direction: Direction) -> Reply<'py> {
    let py = loop_.py();
    let file = args.required(method, 0, "fd")?;
    let function = args.required(method, 1, "callback")?;
    args.no_keyword(method, &["fd", "callback"])?;
    let fd = descriptor(file)?;
    loop_.check_closed()?;
    let callback = Callback { function, arguments: Arguments::tail_of(args, 2)?, context: None };
    let (_, work) = handle::work(loop_, callback)?;
    let watched = {
        let mut core = loop_.core.open(py);
        let Io { registry, sources, .. } = core.io.as_mut().ok_or(Error::Closed)?;
        sources.watch(registry, fd, direction, work)
    };
    match watched {
        Ok(replaced) => cancel(py, replaced)?,
        Err((error, unused)) => {
            drop(unused);
            return Err(Error::Io(error).into());
        }
    }
    reply::none(py)
}

fn remove<'py>(loop_: This<'_, 'py, Runtime>, args: Args<'_, 'py>, method: &str, direction: Direction) -> Reply<'py> {
    let py = loop_.py();
    let file = args.required(method, 0, "fd")?;
    args.no_keyword(method, &["fd"])?;
    if args.len() > 1 {
        let text = format!("{method}() takes 2 positional arguments but {} were given", args.len() + 1);
        return Err(Error::Type(text).into());
    }
    let fd = descriptor(file)?;
    let removed = {
        let mut core = loop_.core.open(py);
        match core.io.as_mut() {
            Some(Io { registry, sources, .. }) => sources.unwatch(registry, fd, direction),
            None => Ok(None),
        }
    };
    let removed = removed.map_err(Error::Io)?;
    let found = removed.is_some();
    cancel(py, removed)?;
    reply::bool(py, found)
}

/// A handle that was queued already must not run any more.
fn cancel(py: Python<'_>, work: Option<Ready>) -> PyResult<()> {
    let Some(work) = work else { return Ok(()) };
    if let Some(handle) = This::<Handle>::of_exact(work.object.borrow(py)) {
        handle.cancel(handle.object())?;
    }
    Ok(())
}

/// The number behind a descriptor or an object with `fileno()`; asyncio's errors otherwise.
fn descriptor(file: Borrowed<'_, '_, PyAny>) -> PyResult<RawFd> {
    let invalid = |_| -> PyErr {
        let shown = file.repr().map_or_else(|_| String::new(), |repr| repr.to_string());
        Error::Value(format!("Invalid file object: {shown}")).into()
    };
    let fd: i64 = if file.is_instance_of::<PyInt>() {
        file.extract()?
    } else {
        let number = file.call_method0(&names(file.py()).fileno).map_err(invalid)?;
        number.extract().map_err(invalid)?
    };
    RawFd::try_from(fd)
        .ok()
        .filter(|fd| *fd >= 0)
        .ok_or_else(|| Error::Value(format!("Invalid file descriptor: {fd}")).into())
}
