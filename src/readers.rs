//! `add_reader`, `remove_reader`, `add_writer`, `remove_writer`, and the same with an underscore in front.
//!
//! Level-triggered to the caller, as asyncio's selectors are. The descriptor stays the caller's: nothing here changes
//! its flags or closes it. The public methods refuse a descriptor that an open transport uses; the private ones are
//! what asyncio's own transports call, and `_add_reader` returns its handle. Called by `event_loop.rs`.

use std::os::fd::RawFd;

use mioloop_core::poller::Token;
use pyo3::prelude::*;
use pyo3::types::PyInt;

use crate::handle::{self, Callback};
use crate::py::call::Arguments;
use crate::py::class::This;
use crate::py::context::Snapshot;
use crate::py::errors::Error;
use crate::py::method::{Args, Method, Reply};
use crate::py::names::names;
use crate::py::reply;
use crate::py::socket;
use crate::runtime::sources::{Direction, Owner, Refused};
use crate::runtime::{Io, Runtime};

type Loop<'a, 'py> = This<'a, 'py, Runtime>;

/// What this file adds to the loop's table of methods.
pub(crate) fn methods() -> Vec<Method<Runtime>> {
    vec![
        Method::fast(
            c"add_reader",
            c"add_reader($self, fd, callback, *args)\n--\n\nCalls callback(*args) whenever fd can be read.",
            add_reader,
        ),
        Method::fast(
            c"add_writer",
            c"add_writer($self, fd, callback, *args)\n--\n\nCalls callback(*args) whenever fd can be written.",
            add_writer,
        ),
        Method::fast(
            c"remove_reader",
            c"remove_reader($self, fd)\n--\n\nStops watching fd for reading; was it watched?",
            remove_reader,
        ),
        Method::fast(
            c"remove_writer",
            c"remove_writer($self, fd)\n--\n\nStops watching fd for writing; was it watched?",
            remove_writer,
        ),
        Method::fast(
            c"_add_reader",
            c"_add_reader($self, fd, callback, *args, context=None)\n--\n\nFor transports; returns the handle.",
            add_transport_reader,
        ),
        Method::fast(
            c"_add_writer",
            c"_add_writer($self, fd, callback, *args, context=None)\n--\n\nFor transports; returns the handle.",
            add_transport_writer,
        ),
        Method::fast(
            c"_remove_reader",
            c"_remove_reader($self, fd)\n--\n\nFor transports; was fd watched?",
            remove_transport_reader,
        ),
        Method::fast(
            c"_remove_writer",
            c"_remove_writer($self, fd)\n--\n\nFor transports; was fd watched?",
            remove_transport_writer,
        ),
        Method::one_arg(
            c"_ensure_fd_no_transport",
            c"Raises RuntimeError if a transport has the descriptor.",
            ensure_fd_no_transport,
        ),
    ]
}

fn add_reader<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    check_no_transport(loop_, args, "add_reader")?;
    args.no_keyword("add_reader", &["fd", "callback"])?;
    add(loop_, args, "add_reader", Direction::Read)?;
    reply::none(loop_.py())
}

fn add_writer<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    check_no_transport(loop_, args, "add_writer")?;
    args.no_keyword("add_writer", &["fd", "callback"])?;
    add(loop_, args, "add_writer", Direction::Write)?;
    reply::none(loop_.py())
}

fn remove_reader<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    check_before_removal(loop_, args, "remove_reader")?;
    remove(loop_, args, "remove_reader", Direction::Read)
}

fn remove_writer<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    check_before_removal(loop_, args, "remove_writer")?;
    remove(loop_, args, "remove_writer", Direction::Write)
}

/// `_add_reader(fd, callback, *args, context=None)`: for transports; returns the handle.
fn add_transport_reader<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    add(loop_, args, "_add_reader", Direction::Read)
}

/// `_add_writer(fd, callback, *args, context=None)`: for transports; returns the handle.
fn add_transport_writer<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    add(loop_, args, "_add_writer", Direction::Write)
}

/// `_remove_reader(fd)`: for transports.
fn remove_transport_reader<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    remove(loop_, args, "_remove_reader", Direction::Read)
}

/// `_remove_writer(fd)`: for transports.
fn remove_transport_writer<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    remove(loop_, args, "_remove_writer", Direction::Write)
}

/// `_ensure_fd_no_transport`: a transport's descriptor is its own.
fn ensure_fd_no_transport<'py>(loop_: Loop<'_, 'py>, file: Borrowed<'_, 'py, PyAny>) -> Reply<'py> {
    ensure_no_transport(loop_, file)?;
    reply::none(loop_.py())
}

fn check_no_transport<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>, method: &str) -> PyResult<()> {
    ensure_no_transport(loop_, args.required(method, 0, "fd")?)
}

/// As above, but a closed socket, whose number is -1, passes.
fn check_before_removal<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>, method: &str) -> PyResult<()> {
    let file = args.required(method, 0, "fd")?;
    RawFd::try_from(number(file)?).map_or(Ok(()), |fd| check_number(loop_, Some(file), fd))
}

/// asyncio's RuntimeError if an open transport uses the descriptor.
pub(crate) fn ensure_no_transport(loop_: Loop<'_, '_>, file: Borrowed<'_, '_, PyAny>) -> PyResult<()> {
    check_number(loop_, Some(file), descriptor(file)?)
}

/// As `ensure_no_transport`, where the number is known. The error shows `file`, or else the number.
pub(crate) fn check_number(loop_: Loop<'_, '_>, file: Option<Borrowed<'_, '_, PyAny>>, fd: RawFd) -> PyResult<()> {
    let owner = {
        let core = loop_.core.open(loop_.py());
        let found = core.io.as_ref().and_then(|io| Some((io, io.registry.token_of(fd)?)));
        found.and_then(|(io, token)| Some((io.sources.owner_of(token)?, token)))
    };
    match owner {
        Some((Owner::Transport, token)) => Err(used_by_transport(loop_, file, fd, token)?),
        Some((Owner::Callbacks, _)) => check_selector_transport(loop_, file, fd),
        _ => Ok(()),
    }
}

/// asyncio's own transports, which sockets with methods of their own have, watch descriptors as users do.
fn check_selector_transport(loop_: Loop<'_, '_>, file: Option<Borrowed<'_, '_, PyAny>>, fd: RawFd) -> PyResult<()> {
    let transports = loop_.object().getattr(&names(loop_.py()).private_transports)?;
    if transports.getattr("data")?.is_empty()? {
        return Ok(());
    }
    let transport = transports.call_method1("get", (fd,))?;
    if transport.is_none() || transport.call_method0("is_closing")?.is_truthy()? {
        return Ok(());
    }
    Err(used(file, fd, &transport.repr()?.to_string())?)
}

fn used(file: Option<Borrowed<'_, '_, PyAny>>, fd: RawFd, transport: &str) -> PyResult<PyErr> {
    let shown = file.map_or_else(|| Ok(fd.to_string()), |file| Ok::<_, PyErr>(file.repr()?.to_string()))?;
    Ok(Error::Runtime(format!("File descriptor {shown} is used by transport {transport}")).into())
}

#[cold]
fn used_by_transport(
    loop_: Loop<'_, '_>,
    file: Option<Borrowed<'_, '_, PyAny>>,
    fd: RawFd,
    token: Token,
) -> PyResult<PyErr> {
    let py = loop_.py();
    let work = loop_.core.open(py).io.as_ref().and_then(|io| io.sources.waiter_of(py, token));
    let transport = match work {
        Some(work) => work.object.bind(py).repr()?.to_string(),
        None => String::from("that is paused"),
    };
    used(file, fd, &transport)
}

fn add<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>, method: &str, direction: Direction) -> Reply<'py> {
    let py = loop_.py();
    let file = args.required(method, 0, "fd")?;
    let function = args.required(method, 1, "callback")?;
    let context = args.only_keyword(method, &names(py).context, &["fd", "callback"])?.map(Snapshot::given);
    let fd = descriptor(file)?;
    loop_.check_closed()?;
    let callback = Callback { function, arguments: Arguments::tail_of(args, 2)?, context };
    let (handle, work) = handle::work(loop_, callback)?;
    let watched = {
        let mut core = loop_.core.open(py);
        core.look = true;
        let Io { registry, sources, .. } = core.io.as_mut().ok_or(Error::Closed)?;
        let kept = (!file.is_instance_of::<PyInt>()).then_some(file);
        sources.watch(registry, fd, kept, direction, work)
    };
    match watched {
        Ok(replaced) => handle::cancel_all(py, replaced)?,
        Err((refused, unused)) => {
            drop(unused);
            return Err(match refused {
                Refused::Transport(token) => used_by_transport(loop_, Some(file), fd, token)?,
                Refused::Io(error) => Error::Io(error).into(),
            });
        }
    }
    Ok(handle)
}

fn remove<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>, method: &str, direction: Direction) -> Reply<'py> {
    let py = loop_.py();
    let file = args.required(method, 0, "fd")?;
    args.no_keyword(method, &["fd"])?;
    if args.len() > 1 {
        let text = format!("{method}() takes 2 positional arguments but {} were given", args.len() + 1);
        return Err(Error::Type(text).into());
    }
    let fd = descriptor(file);
    let (removed, outcome) = {
        let mut core = loop_.core.open(py);
        let Some(Io { registry, sources, .. }) = core.io.as_mut() else { return reply::bool(py, false) };
        // A file that is closed has no number, and is known all the same.
        let token = match &fd {
            Ok(fd) => registry.token_of(*fd),
            Err(_) => sources.token_of_file(file),
        };
        match (token, fd) {
            (Some(token), _) => sources.unwatch(registry, token, direction),
            (None, Ok(_)) => return reply::bool(py, false),
            (None, Err(error)) => return Err(error),
        }
    };
    outcome.map_err(Error::Io)?;
    let found = !removed.work.is_empty();
    handle::cancel_all(py, removed.work)?;
    drop(removed.references);
    reply::bool(py, found)
}

/// The number behind a descriptor or an object with `fileno()`; asyncio's errors otherwise.
pub(crate) fn descriptor(file: Borrowed<'_, '_, PyAny>) -> PyResult<RawFd> {
    let fd = number(file)?;
    RawFd::try_from(fd)
        .ok()
        .filter(|fd| *fd >= 0)
        .ok_or_else(|| Error::Value(format!("Invalid file descriptor: {fd}")).into())
}

fn number(file: Borrowed<'_, '_, PyAny>) -> PyResult<i64> {
    let invalid = |_| -> PyErr {
        let shown = file.repr().map_or_else(|_| String::new(), |repr| repr.to_string());
        Error::Value(format!("Invalid file object: {shown}")).into()
    };
    if file.is_instance_of::<PyInt>() {
        return file.extract();
    }
    socket::number(file).map_err(invalid)
}
