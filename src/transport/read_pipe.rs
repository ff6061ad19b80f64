//! `ReadPipeTransport`: from a pipe to its protocol.
//!
//! One read per wake-up, and the end of input is the end of the transport. Errors of `data_received` are those of a
//! callback: reported, and nothing is closed. Made by `event_loop.rs`; the output of child processes comes this way.
//! Follows `_UnixReadPipeTransport` of asyncio.unix_events.

use std::io::ErrorKind;

use pyo3::prelude::*;
use rustix::io::{Errno, read};

use super::pipe::{self, Options};
use super::{Kind, Loop, Reading, Transport, methods, of};
use crate::py::buffer;
use crate::py::class::{self, Ancestry, Class, Recipe, This};
use crate::py::descriptor::{Descriptor, uninterrupted};
use crate::py::errors::{Error, is_io_error};
use crate::py::method::{Reply, Slots};
use crate::py::names::names;
use crate::py::object::Owned;
use crate::runtime::ready::{Failure, Ready, Run};

/// Reads by way of the loop's buffer are at most this long: what a pipe holds unless told otherwise. Bytes.
const SCRATCH: usize = 64 * 1024;
/// asyncio's `max_size`, where a read has filled the loop's buffer. Bytes.
const MOST: usize = 256 * 1024;

/// What a pipe that is read adds to a transport. Loop thread only.
pub(crate) struct ReadPipe {
    /// The next read is into an object of its own, not by way of the loop's buffer.
    reads_much: bool,
}

static READ_PIPE_TRANSPORT: Class = Class::new();

type T<'a, 'py> = This<'a, 'py, Transport<ReadPipe>>;

impl Kind for ReadPipe {
    type Backlog = ();

    const READABLE: Run = readable;
    const WRITABLE: Run = readable;
    const IS_PIPE: bool = true;

    fn class() -> &'static Class {
        &READ_PIPE_TRANSPORT
    }
    fn backlog_size(&self) -> usize {
        0
    }
    fn has_backlog(&self) -> bool {
        false
    }
    fn take_backlog(&mut self) -> Self::Backlog {}
    /// A pseudo-terminal whose other end was closed.
    fn is_usual(error: &Bound<'_, PyAny>) -> bool {
        is_io_error(error)
    }
}

/// A transport that reads from a file object.
pub(crate) fn of_file<'py>(
    loop_: Loop<'_, 'py>,
    file: &Bound<'py, PyAny>,
    options: &Options<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let refusal = "Pipe transport is for pipes/sockets only.";
    pipe::of_file(loop_, file, options, refusal, |_| ReadPipe { reads_much: false })
}

pub(crate) fn define(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let base = [names(py).read_transport.bind(py).clone().cast_into()?];
    let recipe = Recipe {
        name: c"mioloop.ReadPipeTransport",
        doc: c"The reading end of a pipe. Follows asyncio.ReadTransport.",
        ancestry: Ancestry::Extends(&base),
    };
    let mut table = methods::life();
    table.push(methods::set_protocol());
    table.extend(methods::reading());
    table.extend(pipe::methods());
    Ok(class::define::<Transport<ReadPipe>>(py, &recipe, table, Slots::new().repr(repr))?.into_any())
}

fn repr<'py>(this: T<'_, 'py>) -> Reply<'py> {
    let state = this.state.open(this.py());
    let polls = state.reading == Reading::On && !state.phase.is_closing();
    drop(state);
    pipe::repr(this, "ReadPipeTransport", polls, "")
}

/// There is input, or its end.
fn readable(loop_: Loop<'_, '_>, object: Owned) -> Result<(), Failure> {
    let this = of::<ReadPipe>(&object, loop_.py());
    let result = loop_.leave_task().and_then(|()| read_once(this, loop_));
    result.map_err(|error| Failure::of_work(this.object(), error))
}

fn read_once(this: T<'_, '_>, loop_: Loop<'_, '_>) -> PyResult<()> {
    let (fd, much) = {
        let state = this.state.open(this.py());
        if state.phase.is_closing() || state.reading != Reading::On {
            return Ok(());
        }
        (state.fd, state.own.reads_much)
    };
    match receive(loop_, fd, much)? {
        Ok(data) => {
            let size = data.len()?;
            if size == 0 {
                return end_of_input(this, loop_);
            }
            this.state.open(this.py()).own.reads_much = size >= SCRATCH;
            let Some(protocol) = this.protocol() else { return Ok(()) };
            this.in_context(|| protocol.call_method1(&names(this.py()).data_received, (data,)).map(|_| ()))
        }
        Err(errno) if errno.kind() == ErrorKind::WouldBlock => Ok(()),
        Err(errno) => this.fatal_error(Error::Io(errno.into()).into(), "Fatal read error on pipe transport"),
    }
}

/// One read into `bytes`.
fn receive<'py>(loop_: Loop<'_, 'py>, fd: Descriptor, much: bool) -> PyResult<Result<Bound<'py, PyAny>, Errno>> {
    let py = loop_.py();
    if much {
        return buffer::bytes_filled(py, MOST, |memory| {
            uninterrupted(|| read(fd, &mut *memory).map(|(filled, _)| filled.len()))
        });
    }
    let mut core = loop_.core.open(py);
    let memory = core.scratch(SCRATCH);
    match uninterrupted(|| read(fd, &mut *memory)) {
        Ok(count) => buffer::bytes(py, &memory[..count]).map(Ok),
        Err(errno) => Ok(Err(errno)),
    }
}

/// All writers are gone.
#[cold]
fn end_of_input(this: T<'_, '_>, loop_: Loop<'_, '_>) -> PyResult<()> {
    this.log_end_of_peer()?;
    loop_.schedule(this.py(), Ready { object: this.owned(), run: tell_end })?;
    this.force_close(None)
}

/// Runs before `connection_lost`.
fn tell_end(loop_: Loop<'_, '_>, object: Owned) -> Result<(), Failure> {
    let this = of::<ReadPipe>(&object, loop_.py());
    let told = loop_.leave_task().and_then(|()| match this.protocol() {
        Some(protocol) => this.in_context(|| protocol.call_method0(&names(this.py()).eof_received).map(|_| ())),
        None => Ok(()),
    });
    told.map_err(|error| Failure::of_work(this.object(), error))
}
