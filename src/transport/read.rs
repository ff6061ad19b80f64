//! From the descriptor to the protocol: `data_received`, `buffer_updated`, `eof_received`.
//!
//! Run by the cycle when input is there. A read that leaves room in its buffer has taken all there was; one that fills it
//! comes again in the next turn, so that nobody else starves. Small reads go by way of the loop's buffer into `bytes` of
//! the exact size, large ones straight into their object; where native code stands in the protocol's place, as TLS does,
//! it gets the bytes as they are.

use std::io::ErrorKind;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use rustix::io::Errno;

use super::stream::Stream;
use super::streams::{self, Read, Reader};
use super::{Loop, Reading, Transport, of};
use crate::py::buffer;
use crate::py::class::{Stop, This, Visit};
use crate::py::descriptor::{Descriptor, receive_first, receive_some};
use crate::py::errors::Error;
use crate::py::names::names;
use crate::py::object::Owned;
use crate::runtime::buffers::Lent;
use crate::runtime::ready::{Failure, Ready, Run};
use crate::runtime::sources::Direction;

/// Reads by way of the loop's buffer are at most this long.
pub(crate) const SCRATCH: usize = 64 * 1024;
/// Reads into an object of their own: short of what the C library gets from the kernel page by page for each object.
const MUCH: usize = 120 * 1024;
/// A connection whose reads have become this small reads by way of the loop's buffer again.
const LITTLE: usize = 16 * 1024;

/// How the protocol takes its data.
pub(crate) enum Receiver {
    /// `Protocol.data_received`.
    Data,
    /// `BufferedProtocol.get_buffer` and `buffer_updated`.
    Buffer,
    /// asyncio's streams; a weak reference to the reader.
    Streams(Owned),
    /// Native code in the protocol's place.
    Sink(Sink),
}

/// Takes what was read. An error is one of `buffer_updated`.
pub(crate) type Take = fn(Loop<'_, '_>, Borrowed<'_, '_, PyAny>, &[u8]) -> PyResult<()>;

/// The native half of a protocol. All but data goes to the protocol.
pub(crate) struct Sink {
    pub(crate) object: Owned,
    pub(crate) take: Take,
}

impl Receiver {
    pub(crate) fn of(protocol: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        let py = protocol.py();
        if let Some(reader) = streams::reader_of(protocol)? {
            return Ok(Receiver::Streams(reader));
        }
        let buffered = protocol.is_instance(names(py).buffered_protocol.bind(py))?;
        Ok(if buffered { Receiver::Buffer } else { Receiver::Data })
    }

    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Receiver::Data => Receiver::Data,
            Receiver::Buffer => Receiver::Buffer,
            Receiver::Streams(reader) => Receiver::Streams(reader.clone_ref(py)),
            Receiver::Sink(sink) => Receiver::Sink(Sink { object: sink.object.clone_ref(py), take: sink.take }),
        }
    }

    pub(crate) fn visit(&self, visit: Visit<'_>) -> Result<(), Stop> {
        match self {
            Receiver::Streams(object) | Receiver::Sink(Sink { object, .. }) => visit.object(object),
            Receiver::Data | Receiver::Buffer => Ok(()),
        }
    }

    pub(crate) fn into_references(self) -> Vec<Owned> {
        match self {
            Receiver::Streams(object) | Receiver::Sink(Sink { object, .. }) => vec![object],
            Receiver::Data | Receiver::Buffer => Vec::new(),
        }
    }
}

/// What one read brought.
enum Input<'py> {
    Data(Bound<'py, PyAny>, Amount),
    End,
    /// Nothing yet.
    Again,
    Failed(Errno),
}

/// Was there room for more?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Amount {
    All,
    Full,
}

/// There is input.
pub(super) fn readable(loop_: Loop<'_, '_>, object: Owned) -> Result<(), Failure> {
    read(loop_, &object, readable, false).map_err(|error| failure(loop_, object, readable, error))
}

/// There is input, and no more will come: a read that leaves room in its buffer is not the last one.
pub(super) fn to_the_end(loop_: Loop<'_, '_>, object: Owned) -> Result<(), Failure> {
    read(loop_, &object, to_the_end, true).map_err(|error| failure(loop_, object, to_the_end, error))
}

/// An exception that ends the run: the next one reads on, for which there may be no new edge.
#[cold]
fn failure(loop_: Loop<'_, '_>, object: Owned, again: Run, error: PyErr) -> Failure {
    let failure = Failure::of_work(object.borrow(loop_.py()), error);
    loop_.enqueue(loop_.py(), Ready { object, run: again });
    failure
}

#[inline(always)]
fn read(loop_: Loop<'_, '_>, object: &Owned, again: Run, ended: bool) -> PyResult<()> {
    let py = loop_.py();
    let this = of::<Stream>(object, py);
    let (reading, fd, receiver, much) = {
        let state = this.state.open(py);
        let reading = if state.phase.is_closing() { Reading::Ended } else { state.reading };
        (reading, state.fd, state.own.receiver.clone_ref(py), state.own.reads_much)
    };
    match reading {
        Reading::On => {}
        Reading::Ended => return Ok(()),
        Reading::NotYet | Reading::Paused => {
            this.miss(loop_, ended);
            return Ok(());
        }
    }
    let receiver = match receiver {
        Receiver::Streams(reader) => match read_into_stream(this, loop_, &reader, fd)? {
            Streamed::Read(amount) => return read_again(loop_, object, again, ended, amount),
            Streamed::Nothing => return Ok(()),
            Streamed::NotStock => Receiver::Data,
        },
        receiver => receiver,
    };
    loop_.leave_task()?;
    let read = match receiver {
        Receiver::Data | Receiver::Streams(_) => match receive(loop_, fd, much)? {
            Input::Data(data, amount) => {
                note_size(this, &data, amount, much);
                this.in_context(|| deliver(this, data))?;
                Some(amount)
            }
            input => return this.in_context(|| without_data(this, input)),
        },
        Receiver::Buffer => this.in_context(|| read_into_buffer(this, fd))?,
        Receiver::Sink(sink) => this.in_context(|| read_into_sink(this, loop_, &sink, fd))?,
    };
    match read {
        Some(amount) => read_again(loop_, object, again, ended, amount),
        None => Ok(()),
    }
}

/// Comes again in the next turn if there may be more. The transport may have been paused or closed meanwhile; then that
/// work finds out.
#[inline(always)]
fn read_again(loop_: Loop<'_, '_>, object: &Owned, again: Run, ended: bool, amount: Amount) -> PyResult<()> {
    if ended || amount == Amount::Full {
        loop_.enqueue(loop_.py(), Ready { object: object.clone_ref(loop_.py()), run: again });
    }
    Ok(())
}

/// What came of the short way into asyncio's streams.
enum Streamed {
    Read(Amount),
    Nothing,
    /// Something is not asyncio's own: the protocol's methods must be called.
    NotStock,
}

fn read_into_stream<'py>(
    this: This<'_, 'py, Transport>,
    loop_: Loop<'_, 'py>,
    reader: &Owned,
    fd: Descriptor,
) -> PyResult<Streamed> {
    let Some(protocol) = this.protocol() else { return Ok(Streamed::Nothing) };
    let Some(reader) = Reader::open(&protocol, reader)? else { return Ok(Streamed::NotStock) };
    let amount = match reader.read(loop_, fd) {
        Ok(Read::All) => Amount::All,
        Ok(Read::Full) => Amount::Full,
        Ok(Read::End) => {
            loop_.leave_task()?;
            this.in_context(|| without_data(this, Input::End))?;
            return Ok(Streamed::Nothing);
        }
        Ok(Read::NoRoom(data)) => {
            loop_.leave_task()?;
            let data = buffer::bytes(loop_.py(), &data)?;
            this.in_context(|| deliver(this, data))?;
            return Ok(Streamed::Read(Amount::Full));
        }
        Err(errno) => {
            loop_.leave_task()?;
            this.in_context(|| without_data(this, failed(errno)))?;
            return Ok(Streamed::Nothing);
        }
    };
    if let Err(error) = reader.notify() {
        this.in_context(|| this.fatal_error(error, "Fatal error: protocol.data_received() call failed."))?;
    }
    Ok(Streamed::Read(amount))
}

/// One read for native code; None ends the reading for now.
fn read_into_sink<'py>(
    this: This<'_, 'py, Transport>,
    loop_: Loop<'_, 'py>,
    sink: &Sink,
    fd: Descriptor,
) -> PyResult<Option<Amount>> {
    let mut memory = Lent::of(loop_);
    let count = match receive_some(fd, &mut memory) {
        Ok(0) => {
            end_of_input(this)?;
            return Ok(None);
        }
        Ok(count) => count,
        Err(errno) => {
            without_data(this, failed(errno))?;
            return Ok(None);
        }
    };
    let object = sink.object.borrow(loop_.py());
    if let Err(error) = (sink.take)(loop_, object, &memory[..count]) {
        this.fatal_error(error, "Fatal error: protocol.buffer_updated() call failed.")?;
        return Ok(None);
    }
    Ok(Some(if count == memory.len() { Amount::Full } else { Amount::All }))
}

/// Calls `data_received`.
#[inline(always)]
fn deliver<'py>(this: This<'_, 'py, Transport>, data: Bound<'py, PyAny>) -> PyResult<()> {
    let py = this.py();
    let Some(protocol) = this.protocol() else { return Ok(()) };
    match protocol.call_method1(&names(py).data_received, (data,)) {
        Ok(_) => Ok(()),
        Err(error) => this.fatal_error(error, "Fatal error: protocol.data_received() call failed."),
    }
}

/// The end of input, nothing, or an error.
fn without_data(this: This<'_, '_, Transport>, input: Input<'_>) -> PyResult<()> {
    match input {
        Input::End => end_of_input(this),
        Input::Failed(errno) => {
            this.fatal_error(Error::Io(errno.into()).into(), "Fatal read error on socket transport")
        }
        Input::Data(..) | Input::Again => Ok(()),
    }
}

/// One read into `bytes`.
#[inline(always)]
fn receive<'py>(loop_: Loop<'_, 'py>, fd: Descriptor, much: bool) -> PyResult<Input<'py>> {
    let py = loop_.py();
    if much {
        return Ok(match buffer::bytes_filled(py, MUCH, |memory| receive_first(fd, memory))? {
            Ok(data) if data.len()? == 0 => Input::End,
            Ok(data) => {
                let amount = if data.len()? == MUCH { Amount::Full } else { Amount::All };
                Input::Data(data, amount)
            }
            Err(errno) => failed(errno),
        });
    }
    let mut core = loop_.core.open(py);
    let (memory, spare) = core.scratch_and_spare(SCRATCH);
    let count = match receive_some(fd, memory) {
        Ok(0) => return Ok(Input::End),
        Ok(count) => count,
        Err(errno) => return Ok(failed(errno)),
    };
    let amount = if count == SCRATCH { Amount::Full } else { Amount::All };
    Ok(Input::Data(spare.bytes(py, &memory[..count])?, amount))
}

fn failed<'py>(errno: Errno) -> Input<'py> {
    if errno.kind() == ErrorKind::WouldBlock { Input::Again } else { Input::Failed(errno) }
}

/// Chooses the way of the next read by the size of this one.
#[inline(always)]
fn note_size(this: This<'_, '_, Transport>, data: &Bound<'_, PyAny>, amount: Amount, much: bool) {
    let changes = if much { data.len().is_ok_and(|size| size < LITTLE) } else { amount == Amount::Full };
    if changes {
        this.state.open(this.py()).own.reads_much = !much;
    }
}

/// One read into the protocol's own buffer; None ends the reading for now.
fn read_into_buffer(this: This<'_, '_, Transport>, fd: Descriptor) -> PyResult<Option<Amount>> {
    let py = this.py();
    let Some(protocol) = this.protocol() else { return Ok(None) };
    let wanted = protocol.call_method1(&names(py).get_buffer, (-1,)).and_then(|memory| match memory.len()? {
        0 => Err(PyRuntimeError::new_err("get_buffer() returned an empty buffer")),
        _ => Ok(memory),
    });
    let memory = match wanted {
        Ok(memory) => memory,
        Err(error) => {
            this.fatal_error(error, "Fatal error: protocol.get_buffer() call failed.")?;
            return Ok(None);
        }
    };
    let read = buffer::with_writable(memory.as_borrowed(), "recv_into", |memory| {
        receive_some(fd, memory).map(|count| (count, memory.len()))
    });
    let (count, size) = match read {
        Ok(Ok((0, _))) => {
            end_of_input(this)?;
            return Ok(None);
        }
        Ok(Ok(read)) => read,
        Ok(Err(errno)) if errno.kind() == ErrorKind::WouldBlock => return Ok(None),
        Ok(Err(errno)) => {
            this.fatal_error(Error::Io(errno.into()).into(), "Fatal read error on socket transport")?;
            return Ok(None);
        }
        Err(error) => {
            this.fatal_error(error, "Fatal read error on socket transport")?;
            return Ok(None);
        }
    };
    // Who was asked for the buffer may have set another protocol.
    let Some(protocol) = this.protocol() else { return Ok(None) };
    if let Err(error) = protocol.call_method1(&names(py).buffer_updated, (count,)) {
        this.fatal_error(error, "Fatal error: protocol.buffer_updated() call failed.")?;
        return Ok(None);
    }
    Ok(Some(if count == size { Amount::Full } else { Amount::All }))
}

/// The other end will send no more.
#[cold]
fn end_of_input(this: This<'_, '_, Transport>) -> PyResult<()> {
    let py = this.py();
    this.log_debug("%r received EOF", None)?;
    let Some(protocol) = this.protocol() else { return Ok(()) };
    match protocol.call_method0(&names(py).eof_received).and_then(|answer| answer.is_truthy()) {
        Ok(true) => {
            // The protocol may write on, but nothing more will come.
            let mut state = this.state.open(py);
            state.reading = match state.reading {
                Reading::Paused => Reading::Paused,
                _ => Reading::Ended,
            };
            drop(state);
            this.with_loop(|loop_| this.disarm(loop_, Direction::Read))
        }
        Ok(false) => this.close(),
        Err(error) => this.fatal_error(error, "Fatal error: protocol.eof_received() call failed."),
    }
}
