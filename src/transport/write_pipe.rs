//! `WritePipeTransport`: from a protocol to a pipe.
//!
//! What the kernel does not take now waits. Where the kernel tells of the reader's end, on pipes and sockets, that is the
//! end of the transport too. Made by `event_loop.rs`; the input of child processes goes this way. Follows
//! `_UnixWritePipeTransport` of asyncio.unix_events.

use std::io::ErrorKind;

use mioloop_core::connection::Next;
use mioloop_core::outgoing::Outgoing;
use pyo3::exceptions::{PyAssertionError, PyBrokenPipeError};
use pyo3::prelude::*;
use rustix::io::{Errno, write, writev};

use super::pipe::{self, Options, Sort};
use super::{Kind, Loop, Transport, flow, methods, of};
use crate::py::buffer::{self, Chunk};
use crate::py::class::{self, Ancestry, Class, Recipe, This};
use crate::py::descriptor::uninterrupted;
use crate::py::errors::Error;
use crate::py::method::{Method, Reply, Slots};
use crate::py::names::names;
use crate::py::object::Owned;
use crate::py::reply;
use crate::runtime::ready::{Failure, Run};
use crate::runtime::sources::Direction;

/// What a pipe that is written adds to a transport. Loop thread only.
pub(crate) struct WritePipe {
    /// The kernel tells, as input, that the reader has gone.
    hears: bool,
    outgoing: Outgoing<Chunk>,
}

static WRITE_PIPE_TRANSPORT: Class = Class::new();

type T<'a, 'py> = This<'a, 'py, Transport<WritePipe>>;

impl Kind for WritePipe {
    type Backlog = Outgoing<Chunk>;

    const READABLE: Run = deserted;
    const WRITABLE: Run = writable;
    const IS_PIPE: bool = true;
    const LISTENS_TO_THE_END: bool = true;

    fn class() -> &'static Class {
        &WRITE_PIPE_TRANSPORT
    }
    fn reads(&self) -> bool {
        self.hears
    }
    fn backlog_size(&self) -> usize {
        self.outgoing.len()
    }
    fn has_backlog(&self) -> bool {
        !self.outgoing.is_empty()
    }
    fn take_backlog(&mut self) -> Self::Backlog {
        std::mem::take(&mut self.outgoing)
    }
}

/// A transport that writes to a file object.
pub(crate) fn of_file<'py>(
    loop_: Loop<'_, 'py>,
    file: &Bound<'py, PyAny>,
    options: &Options<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let refusal = "Pipe transport is only for pipes, sockets and character devices";
    let object = pipe::of_file(loop_, file, options, refusal, |sort| WritePipe {
        hears: matches!(sort, Sort::Socket | Sort::Fifo { tells: true }),
        outgoing: Outgoing::default(),
    })?;
    let this = T::of_exact(object.as_borrowed()).expect("it was made of this class");
    // asyncio counts writes from the first failure on, and not from the end.
    this.state.open(loop_.py()).lost_writes = 0;
    Ok(object)
}

pub(crate) fn define(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let base = [names(py).flow_control_mixin.bind(py).clone().cast_into()?];
    let recipe = Recipe {
        name: c"mioloop.WritePipeTransport",
        doc: c"The writing end of a pipe. Follows asyncio.WriteTransport.",
        ancestry: Ancestry::Extends(&base),
    };
    let mut table = vec![
        Method::one_arg(c"write", c"Writes data; what the kernel does not take now waits.", write_data),
        Method::no_args(c"write_eof", c"Closes when all is written.", write_eof),
        Method::no_args(c"can_write_eof", c"True.", can_write_eof),
        methods::abort(),
        methods::set_protocol(),
    ];
    table.extend(methods::life());
    table.extend(flow::methods());
    table.extend(pipe::methods());
    Ok(class::define::<Transport<WritePipe>>(py, &recipe, table, Slots::new().repr(repr))?.into_any())
}

fn repr<'py>(this: T<'_, 'py>) -> Reply<'py> {
    let size = this.state.open(this.py()).own.outgoing.len();
    pipe::repr(this, "WritePipeTransport", size > 0, &format!(" bufsize={size}"))
}

fn can_write_eof<'py>(this: T<'_, 'py>) -> Reply<'py> {
    reply::bool(this.py(), true)
}

/// `write_eof()`: for a pipe it is `close()`.
fn write_eof<'py>(this: T<'_, 'py>) -> Reply<'py> {
    this.close()?;
    reply::none(this.py())
}

/// `write(data)`.
fn write_data<'py>(this: T<'_, 'py>, data: Borrowed<'_, 'py, PyAny>) -> Reply<'py> {
    let py = this.py();
    if !buffer::is_stream_data(data) {
        return Err(PyAssertionError::new_err(data.repr()?.to_string()));
    }
    if data.len()? == 0 {
        return reply::none(py);
    }
    let (fd, closing, waits) = {
        let state = this.state.open(py);
        (state.fd, state.phase.is_closing(), state.own.has_backlog())
    };
    if closing {
        this.count_lost_write("pipe closed by peer or os.write(pipe, data) raised exception.")?;
        return reply::none(py);
    }
    let mut sent = 0;
    if !waits {
        this.look_soon()?;
        match buffer::with_bytes(data, |bytes| (uninterrupted(|| write(fd, bytes)), bytes.len())) {
            Ok((Ok(count), size)) if count == size => return reply::none(py),
            Ok((Ok(count), _)) => sent = count,
            Ok((Err(errno), _)) if errno.kind() == ErrorKind::WouldBlock => {}
            Ok((Err(errno), _)) => {
                write_error(this, Error::Io(errno.into()).into())?;
                return reply::none(py);
            }
            Err(error) => {
                write_error(this, error)?;
                return reply::none(py);
            }
        }
    }
    let (chunk, sent) = buffer::keep(data, sent)?;
    this.state.open(py).own.outgoing.push(chunk, sent);
    if !waits {
        this.with_loop(|loop_| this.arm(loop_, Direction::Write))?;
    }
    this.pause_protocol()?;
    reply::none(py)
}

#[cold]
fn write_error(this: T<'_, '_>, error: PyErr) -> PyResult<()> {
    let given_up = {
        let mut state = this.state.open(this.py());
        state.lost_writes += 1;
        state.own.take_backlog()
    };
    drop(given_up);
    this.fatal_error(error, "Fatal write error on pipe transport")
}

/// The pipe takes data again.
fn writable(loop_: Loop<'_, '_>, object: Owned) -> Result<(), Failure> {
    let this = of::<WritePipe>(&object, loop_.py());
    let result = loop_.leave_task().and_then(|()| this.in_context(|| flush(this, loop_)));
    result.map_err(|error| Failure::of_work(this.object(), error))
}

/// One write of what waits; asyncio lets the protocol go on when all of it is gone.
fn flush<'py>(this: T<'_, 'py>, loop_: Loop<'_, 'py>) -> PyResult<()> {
    let written = {
        let mut state = this.state.open(this.py());
        // Queued before the end, which gave the backlog up.
        if state.phase.is_lost() || !state.own.has_backlog() {
            return Ok(());
        }
        let fd = state.fd;
        let slices = state.own.outgoing.slices();
        let written = uninterrupted(|| writev(fd, slices.as_slice()));
        if let Ok(count) = written {
            state.own.outgoing.advance(count);
        }
        written
    };
    match written {
        Ok(_) => {}
        Err(errno) if errno.kind() == ErrorKind::WouldBlock => return Ok(()),
        Err(errno) => return flush_error(this, loop_, errno),
    }
    if this.state.open(this.py()).own.has_backlog() {
        return Ok(());
    }
    this.disarm(loop_, Direction::Write)?;
    this.resume_protocol()?;
    let next = {
        let mut state = this.state.open(this.py());
        if state.own.has_backlog() { Next::Nothing } else { state.phase.flushed() }
    };
    if next == Next::End { this.end(loop_, None) } else { Ok(()) }
}

#[cold]
fn flush_error<'py>(this: T<'_, 'py>, loop_: Loop<'_, 'py>, errno: Errno) -> PyResult<()> {
    this.disarm(loop_, Direction::Write)?;
    write_error(this, Error::Io(errno.into()).into())
}

/// The reader has gone.
fn deserted(loop_: Loop<'_, '_>, object: Owned) -> Result<(), Failure> {
    let this = of::<WritePipe>(&object, loop_.py());
    let result = loop_.leave_task().and_then(|()| {
        let (lost, waits) = {
            let state = this.state.open(loop_.py());
            (state.phase.is_lost(), state.own.has_backlog())
        };
        if lost {
            return Ok(());
        }
        this.log_end_of_peer()?;
        let error = waits.then(|| PyBrokenPipeError::new_err(()).into_value(loop_.py()));
        this.force_close(error.map(|error| error.into_bound(loop_.py()).into_any()))
    });
    result.map_err(|error| Failure::of_work(this.object(), error))
}
