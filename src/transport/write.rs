//! From the protocol to the descriptor: `write`, `writelines`, `write_eof`, and the backlog behind them.
//!
//! The first write of a callback or task step goes to the kernel at once, later ones are *corked*: they wait for its end
//! and go in one call. A transport that is written to several times in a row corks the first one too, from the next time
//! on, and so do all while a crowd of work waits in the same turn: then connections write together, and a peer that
//! sleeps is woken once for them all. Whoever can tell the difference (a limit, `get_write_buffer_size`, `close`) uncorks
//! first. What the kernel does not take is the backlog, and goes when the descriptor is writable.

use std::io::{ErrorKind, IoSlice};

use mioloop_core::connection::Next;
use pyo3::prelude::*;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, Shutdown, sendmsg, shutdown};

use super::records::send_piece;
use super::stream::Stream;
use super::together::send_together;
use super::{Loop, State, Transport, of};
use crate::py::buffer::{self, Chunk};
use crate::py::class::This;
use crate::py::compat;
use crate::py::descriptor::{Descriptor, send_some, uninterrupted};
use crate::py::errors::Error;
use crate::py::method::{Receiver as _, Reply};
use crate::py::names::names;
use crate::py::object::Owned;
use crate::py::reply;
use crate::runtime::ready::{Failure, Ready};
use crate::runtime::sources::Direction;
use crate::runtime::{Runtime, Unit};

/// More than this is not corked: it goes at once. Bytes.
const CORKED: usize = 64 * 1024;
/// Vectored writes in a row, at most, before others get their turn.
const ROUNDS: usize = 16;

/// What happens to the next write.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sending {
    /// It may go to the kernel at once: there is no backlog.
    Direct,
    /// The backlog goes at the end of the turn.
    Corked,
    /// The backlog goes when the descriptor is writable.
    Blocked,
}

/// When a write may go.
#[derive(PartialEq, Eq)]
enum Write {
    AtOnce,
    Later,
}

impl State<Stream> {
    /// Is so much sent at once, and never corked?
    fn is_too_much(&self, size: usize) -> bool {
        size > CORKED || self.marks.is_exceeded(size)
    }
}

impl Stream {
    /// Counts the writes of one unit of work; 0 while the loop does not run, when no end will come. What came in pairs
    /// last time will do so again: an HTTP server's head and body, say.
    #[inline(always)]
    fn note_write(&mut self, unit: Unit) -> Write {
        if unit.number == Unit::NONE.number {
            return Write::AtOnce;
        }
        if self.wrote_in == unit.number {
            self.in_a_row = self.in_a_row.saturating_add(1);
            return Write::Later;
        }
        let came_alone = self.in_a_row < 2;
        (self.wrote_in, self.in_a_row) = (unit.number, 1);
        if came_alone && !unit.in_crowd { Write::AtOnce } else { Write::Later }
    }
}

/// `write(data)`.
#[inline(always)]
pub(super) fn write<'py>(this: This<'_, 'py, Transport>, data: Borrowed<'_, 'py, PyAny>) -> Reply<'py> {
    let py = this.py();
    if !buffer::is_stream_data(data) {
        let class = data.get_type();
        let text = format!("data argument must be {}, not '{}'", compat::WRITE_TAKES, class.name()?);
        return Err(Error::Type(text).into());
    }
    if admit(this, "write", || buffer::is_empty(data))? {
        write_chunk(this, data)?;
    }
    reply::none(py)
}

/// May this call write? Errors and warnings as asyncio's.
#[inline(always)]
fn admit(this: This<'_, '_, Transport>, method: &str, is_empty: impl FnOnce() -> PyResult<bool>) -> PyResult<bool> {
    let state = this.state.open(this.py());
    let (eof, in_sendfile, lost) = (state.own.eof, state.own.empty_waiter.is_some(), state.phase.is_lost());
    drop(state);
    if eof {
        return Err(Error::Runtime(format!("Cannot call {method}() after write_eof()")).into());
    }
    if in_sendfile {
        return Err(Error::Runtime(format!("unable to {method}; sendfile is in progress")).into());
    }
    if is_empty()? {
        return Ok(false);
    }
    if lost {
        this.count_lost_write("socket.send() raised exception.")?;
    }
    Ok(!lost)
}

/// Sends or queues data that is not empty.
#[inline(always)]
fn write_chunk<'py>(this: This<'_, 'py, Transport>, data: Borrowed<'_, 'py, PyAny>) -> PyResult<()> {
    let py = this.py();
    let Some(loop_object) = this.loop_object() else { return Ok(()) };
    let Some(loop_) = Runtime::receive(loop_object.borrow(py)) else { return Ok(()) };
    let Some(fd) = direct(this, loop_, || buffer::size(data)) else { return queue(this, loop_, data, 0) };
    match buffer::with_bytes(data, |bytes| (send_some(fd, bytes), bytes.len())) {
        Ok((Ok(sent), size)) if sent == size => Ok(()),
        Ok((Ok(sent), _)) => queue_blocked(this, loop_, buffer::keep(data, sent)?),
        Ok((Err(errno), _)) if errno.kind() == ErrorKind::WouldBlock => {
            queue_blocked(this, loop_, buffer::keep(data, 0)?)
        }
        Ok((Err(errno), _)) => write_error(this, Error::Io(errno.into()).into()),
        Err(error) => write_error(this, error),
    }
}

/// `write(data)` of bytes that are no Python object's: TLS records.
#[inline]
pub(crate) fn write_slice<'py>(this: This<'_, 'py, Transport>, loop_: Loop<'_, 'py>, bytes: &[u8]) -> PyResult<()> {
    if !admit(this, "write", || Ok(bytes.is_empty()))? {
        return Ok(());
    }
    let copy = |sent: usize| Chunk::Copied(Box::from(&bytes[sent..]));
    let Some(fd) = direct(this, loop_, || bytes.len()) else {
        push(this, copy(0));
        return after_push(this, loop_);
    };
    match send_some(fd, bytes) {
        Ok(sent) if sent == bytes.len() => Ok(()),
        Ok(sent) => queue_blocked(this, loop_, (copy(sent), 0)),
        Err(errno) if errno.kind() == ErrorKind::WouldBlock => queue_blocked(this, loop_, (copy(0), 0)),
        Err(errno) => write_error(this, Error::Io(errno.into()).into()),
    }
}

/// The descriptor, if a write may go to the kernel at once: nothing waits before it, and no other is to be expected, or it
/// is too much to wait for others. To queue it first would be a copy.
#[inline(always)]
fn direct<'py>(
    this: This<'_, 'py, Transport>,
    loop_: Loop<'_, 'py>,
    size: impl FnOnce() -> usize,
) -> Option<Descriptor> {
    let unit = loop_.unit_of_sending(this.py());
    let mut state = this.state.open(this.py());
    let write = state.own.note_write(unit);
    let goes = state.own.sending == Sending::Direct && (write == Write::AtOnce || state.is_too_much(size()));
    goes.then_some(state.fd)
}

/// Queues what the kernel has refused: a chunk of which so much has gone.
fn queue_blocked<'py>(
    this: This<'_, 'py, Transport>,
    loop_: Loop<'_, 'py>,
    (chunk, sent): (Chunk, usize),
) -> PyResult<()> {
    this.state.open(this.py()).own.outgoing.push(chunk, sent);
    wait_for_room(this, loop_)
}

/// The kernel takes no more for now: the backlog waits until it does.
pub(super) fn wait_for_room<'py>(this: This<'_, 'py, Transport>, loop_: Loop<'_, 'py>) -> PyResult<()> {
    this.state.open(this.py()).own.sending = Sending::Blocked;
    this.arm(loop_, Direction::Write)?;
    this.pause_protocol()
}

/// Queues behind other data, or for the end of the unit of work.
fn queue<'py>(
    this: This<'_, 'py, Transport>,
    loop_: Loop<'_, 'py>,
    data: Borrowed<'_, 'py, PyAny>,
    sent: usize,
) -> PyResult<()> {
    let chunk = match buffer::keep(data, sent) {
        Ok((chunk, _)) => chunk,
        Err(error) => return write_error(this, error),
    };
    push(this, chunk);
    after_push(this, loop_)
}

fn push(this: This<'_, '_, Transport>, chunk: Chunk) {
    this.state.open(this.py()).own.outgoing.push(chunk, 0);
}

/// Corks what was pushed, or sends it if that is too much to wait.
pub(super) fn after_push<'py>(this: This<'_, 'py, Transport>, loop_: Loop<'_, 'py>) -> PyResult<()> {
    let py = this.py();
    let (sending, too_much) = {
        let state = this.state.open(py);
        (state.own.sending, state.is_too_much(state.own.outgoing.len()))
    };
    if sending == Sending::Blocked {
        return this.pause_protocol();
    }
    if too_much || !loop_.is_running() {
        return send_now(this, loop_);
    }
    if sending == Sending::Direct {
        this.state.open(py).own.sending = Sending::Corked;
        loop_.put_off(py, Ready { object: this.owned(), run: uncork_at_end }, send_together);
    }
    Ok(())
}

/// `writelines(list_of_data)`.
pub(super) fn writelines<'py>(this: This<'_, 'py, Transport>, data: Borrowed<'_, 'py, PyAny>) -> Reply<'py> {
    let py = this.py();
    if compat::WRITELINES_JOINS {
        let joined = pyo3::types::PyBytes::new(py, b"").call_method1("join", (data,))?;
        return this.object().call_method1("write", (joined,));
    }
    if !admit(this, "writelines", || Ok(!data.is_truthy()?))? {
        return reply::none(py);
    }
    let mut chunks = Vec::new();
    for item in data.try_iter()? {
        let item = item?;
        if item.is_truthy()? {
            chunks.push(buffer::keep(item.as_borrowed(), 0)?.0);
        }
    }
    if chunks.is_empty() {
        return reply::none(py);
    }
    this.with_loop(|loop_| {
        chunks.into_iter().for_each(|chunk| push(this, chunk));
        if direct(this, loop_, || 0).is_some() { send_now(this, loop_) } else { after_push(this, loop_) }
    })?;
    reply::none(py)
}

/// Writes what was corked, now.
pub(super) fn uncork(this: This<'_, '_, Transport>) -> PyResult<()> {
    if this.state.open(this.py()).own.sending != Sending::Corked {
        return Ok(());
    }
    this.with_loop(|loop_| flush(this, loop_))
}

/// The end of the unit of work.
fn uncork_at_end(loop_: Loop<'_, '_>, object: Owned) -> Result<(), Failure> {
    let this = of::<Stream>(&object, loop_.py());
    uncork(this).map_err(|error| Failure::of_work(this.object(), error))
}

/// The descriptor is writable.
pub(super) fn writable(loop_: Loop<'_, '_>, object: Owned) -> Result<(), Failure> {
    let this = of::<Stream>(&object, loop_.py());
    let blocked = this.state.open(loop_.py()).own.sending == Sending::Blocked;
    let flush_again = || if blocked { this.in_context(|| flush(this, loop_)) } else { Ok(()) };
    let result = loop_.leave_task().and_then(|()| flush_again());
    result.map_err(|error| Failure::of_work(this.object(), error))
}

/// Writes the backlog until it is gone or the kernel takes no more. Its end may be what others wait for.
fn flush<'py>(this: This<'_, 'py, Transport>, loop_: Loop<'_, 'py>) -> PyResult<()> {
    send_now(this, loop_)?;
    if this.state.open(this.py()).own.outgoing.is_empty() { flushed(this, loop_) } else { Ok(()) }
}

/// For `write()`, which may be called by a protocol that `flush` tells to resume: whether a transport that closes has
/// come to its end is for `flush` to say, when the protocol has written all it had.
fn send_now<'py>(this: This<'_, 'py, Transport>, loop_: Loop<'_, 'py>) -> PyResult<()> {
    let py = this.py();
    let outcome = {
        let mut state = this.state.open(py);
        let fd = state.fd;
        match state.own.failed.take() {
            Some(errno) => Err(errno),
            None => send_backlog(&mut state.own, fd),
        }
    };
    match outcome {
        Ok(Progress::Gone) => {
            let was = std::mem::replace(&mut this.state.open(py).own.sending, Sending::Direct);
            if was == Sending::Blocked {
                this.disarm(loop_, Direction::Write)?;
            }
        }
        Ok(progress) => {
            let was = std::mem::replace(&mut this.state.open(py).own.sending, Sending::Blocked);
            if was != Sending::Blocked {
                this.arm(loop_, Direction::Write)?;
            }
            if matches!(progress, Progress::Enough) {
                // The descriptor is writable already: no edge will tell.
                loop_.enqueue(py, Ready { object: this.owned(), run: writable });
            }
            this.pause_protocol()?;
        }
        Err(errno) => return write_error(this, Error::Io(errno.into()).into()),
    }
    this.resume_protocol()
}

/// How far a backlog went.
enum Progress {
    Gone,
    /// The kernel takes no more for now.
    Refused,
    /// The kernel would take more, but it is others' turn.
    Enough,
}

fn send_backlog(own: &mut Stream, fd: Descriptor) -> Result<Progress, Errno> {
    for _ in 0..ROUNDS {
        let Stream { outgoing, records, .. } = &*own;
        if outgoing.is_empty() {
            return Ok(Progress::Gone);
        }
        let sent = match (records, outgoing.only()) {
            (Some(records), _) => send_piece(outgoing, records, fd),
            (None, Some(bytes)) => send_some(fd, bytes),
            (None, None) => send_vectored(fd, outgoing.slices().as_slice()),
        };
        match sent {
            Ok(count) => own.advance(count),
            Err(errno) if errno.kind() == ErrorKind::WouldBlock => return Ok(Progress::Refused),
            Err(errno) => return Err(errno),
        }
    }
    Ok(if own.outgoing.is_empty() { Progress::Gone } else { Progress::Enough })
}

fn send_vectored(fd: Descriptor, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
    uninterrupted(|| sendmsg(fd, slices, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL))
}

/// The backlog is gone: whoever waited for that goes on.
fn flushed<'py>(this: This<'_, 'py, Transport>, loop_: Loop<'_, 'py>) -> PyResult<()> {
    let py = this.py();
    let (waiter, next, eof, fd) = {
        let mut state = this.state.open(py);
        let waiter = state.own.empty_waiter.as_ref().map(|waiter| waiter.clone_ref(py));
        let next = state.phase.flushed();
        (waiter, next, state.own.eof, state.fd)
    };
    if let Some(waiter) = waiter {
        let waiter = waiter.bind(py);
        if !waiter.call_method0("done")?.is_truthy()? {
            waiter.call_method1(&names(py).set_result, (py.None(),))?;
        }
    }
    match next {
        Next::End => this.end(loop_, None),
        Next::Nothing | Next::Flush if eof => shut_down(fd),
        Next::Nothing | Next::Flush => Ok(()),
    }
}

/// `write_eof()`: no more will be written; what is written already still goes.
pub(super) fn write_eof<'py>(this: This<'_, 'py, Transport>) -> Reply<'py> {
    let py = this.py();
    uncork(this)?;
    let now = {
        let mut state = this.state.open(py);
        if state.phase.is_closing() || std::mem::replace(&mut state.own.eof, true) {
            None
        } else {
            state.own.outgoing.is_empty().then_some(state.fd)
        }
    };
    if let Some(fd) = now {
        shut_down(fd)?;
        this.look_soon()?;
    }
    reply::none(py)
}

fn shut_down(fd: Descriptor) -> PyResult<()> {
    shutdown(fd, Shutdown::Write).map_err(|errno| Error::Io(errno.into()).into())
}

#[cold]
pub(super) fn write_error(this: This<'_, '_, Transport>, error: PyErr) -> PyResult<()> {
    let py = this.py();
    let waiter = this.state.open(py).own.empty_waiter.take();
    if let Some(waiter) = waiter {
        waiter.bind(py).call_method1(&names(py).set_exception, (error.value(py),))?;
    }
    this.fatal_error(error, "Fatal write error on socket transport")
}
