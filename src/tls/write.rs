//! From the protocol to the records: `write`, `writelines`, and what waits until it can be encrypted.
//!
//! Data is encrypted record by record into a buffer of the loop's and goes to the transport below in one piece, which
//! sends it as it sends everything: at once, or together at the end of the turn. While that transport asks for a pause,
//! data waits here as it is. Follows `_write_appdata`, `_do_write` and `_process_outgoing` of asyncio.sslproto.

use std::collections::VecDeque;

use mioloop_core::records::Piece;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::{Below, Loop, Phase, T, kernel};
use crate::py::buffer::{self, Chunk};
use crate::py::class::This;
use crate::py::errors::Error;
use crate::py::method::Reply;
use crate::py::names::names;
use crate::py::reply;
use crate::runtime::buffers::{BUFFER, Lent};
use crate::transport::Transport;
use crate::transport::records::write_record;
use crate::transport::write::write_slice;

/// What one record holds at most. Bytes.
const RECORD: usize = 16 * 1024;
/// A buffer so full is sent before the next record. Bytes.
const FULL: usize = BUFFER - RECORD - 512;
/// asyncio's LOG_THRESHOLD_FOR_CONNLOST_WRITES.
const LOST_WRITES: usize = 5;

/// Data that is not encrypted yet. Loop thread only.
#[derive(Default)]
pub(super) struct Backlog {
    chunks: VecDeque<Chunk>,
    /// How much of the first chunk is done.
    done: usize,
    /// Bytes that are not.
    len: usize,
    /// Somebody encrypts it right now; whoever writes meanwhile comes behind.
    busy: bool,
}

impl Backlog {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What is in it, for who looks.
    pub(super) fn copies(&self) -> Vec<Box<[u8]>> {
        let mut skip = self.done;
        let rest = self.chunks.iter().map(|chunk| Box::from(&chunk.as_ref()[std::mem::take(&mut skip)..]));
        rest.collect()
    }

    fn push(&mut self, chunk: Chunk) {
        let size = chunk.as_ref().len();
        if size > 0 {
            self.len += size;
            self.chunks.push_back(chunk);
        }
    }
}

/// `write(data)`.
pub(super) fn write<'py>(this: T<'_, 'py>, data: Borrowed<'_, 'py, PyAny>) -> Reply<'py> {
    let py = this.py();
    if !buffer::is_stream_data(data) {
        let text = format!("data: expecting a bytes-like instance, got {}", data.get_type().name()?);
        return Err(Error::Type(text).into());
    }
    if !buffer::is_empty(data)? && admit(this, "write")? {
        let kept = buffer::keep(data, 0).map(|(chunk, _)| push(this, chunk));
        encrypt_now(this, kept)?;
    }
    reply::none(py)
}

/// `writelines(list_of_data)`.
pub(super) fn writelines<'py>(this: T<'_, 'py>, data: Borrowed<'_, 'py, PyAny>) -> Reply<'py> {
    if admit(this, "writelines")? {
        let kept = data.try_iter()?.try_for_each(|item| {
            let (chunk, _) = buffer::keep(item?.as_borrowed(), 0)?;
            push(this, chunk);
            Ok(())
        });
        encrypt_now(this, kept)?;
    }
    reply::none(this.py())
}

/// May anything be written? Who goes on writing after the end is warned as asyncio warns.
fn admit(this: T<'_, '_>, method: &str) -> PyResult<bool> {
    let py = this.py();
    let lost = {
        let mut state = this.state.open(py);
        match state.phase {
            Phase::Wrapped if state.sends_file => {
                return Err(Error::Runtime(format!("unable to {method}; sendfile is in progress")).into());
            }
            Phase::Handshake | Phase::Wrapped => return Ok(true),
            Phase::Flushing | Phase::Shutdown | Phase::Unwrapped => {}
        }
        let lost = state.lost_writes;
        state.lost_writes += 1;
        lost
    };
    if lost >= LOST_WRITES {
        names(py).logger.bind(py).call_method1(&names(py).warning, ("SSL connection is closed",))?;
    }
    Ok(false)
}

/// Puts data behind what waits.
pub(super) fn push(this: T<'_, '_>, chunk: Chunk) {
    this.state.open(this.py()).backlog.push(chunk);
}

/// Encrypts what was pushed, unless the handshake still goes on.
fn encrypt_now(this: T<'_, '_>, pushed: PyResult<()>) -> PyResult<()> {
    let written = pushed.and_then(|()| match this.phase() {
        Phase::Wrapped => this.with_loop(|loop_| write_backlog(this, loop_)),
        _ => Ok(()),
    });
    written.or_else(|error| this.fatal_error(error))
}

/// Encrypts what waits, or sends what OpenSSL wants sent: after reading.
pub(super) fn go_on<'py>(this: T<'_, 'py>, loop_: Loop<'_, 'py>) -> PyResult<()> {
    let waits = !this.state.open(this.py()).backlog.is_empty();
    if waits { write_backlog(this, loop_) } else { send(this, loop_) }
}

/// asyncio's `_do_write`.
pub(super) fn write_backlog<'py>(this: T<'_, 'py>, loop_: Loop<'_, 'py>) -> PyResult<()> {
    let py = this.py();
    if std::mem::replace(&mut this.state.open(py).backlog.busy, true) {
        return Ok(());
    }
    let encrypted = encrypt(this, loop_);
    this.state.open(py).backlog.busy = false;
    encrypted?;
    send(this, loop_)
}

/// Encrypts chunk by chunk, and sends what has become of them.
fn encrypt<'py>(this: T<'_, 'py>, loop_: Loop<'_, 'py>) -> PyResult<()> {
    let py = this.py();
    let mut records = Lent::of(loop_);
    let mut filled = 0;
    loop {
        let (chunk, mut done) = {
            let mut state = this.state.open(py);
            // Before its close_notify everything must be encrypted, paused or not.
            if state.phase == Phase::Wrapped && state.paused.below_writing {
                break;
            }
            let Some(chunk) = state.backlog.chunks.pop_front() else { break };
            (chunk, std::mem::take(&mut state.backlog.done))
        };
        let (began, size) = (done, chunk.as_ref().len());
        let mut step = Ok(Step::Next);
        while done < size && matches!(step, Ok(Step::Next)) {
            let end = size.min(done + RECORD);
            step = encrypt_record(this, loop_, &chunk.as_ref()[done..end], &mut records, &mut filled);
            if let Ok(Step::Next) = step {
                done = end;
            }
        }
        put_back(this, chunk, done, done - began);
        if !matches!(step?, Step::Next) {
            break;
        }
    }
    send_below(this, loop_, &records[..filled])
}

/// What comes after a record.
enum Step {
    Next,
    /// It must wait.
    Wait,
}

/// Encrypts one record into the buffer, which is sent when it is full.
fn encrypt_record<'py>(
    this: T<'_, 'py>,
    loop_: Loop<'_, 'py>,
    data: &[u8],
    records: &mut [u8],
    filled: &mut usize,
) -> PyResult<Step> {
    let py = this.py();
    let paused = {
        let state = this.state.open(py);
        if state.phase == Phase::Wrapped && state.paused.below_writing {
            return Ok(Step::Wait);
        }
        state.paused.below_writing
    };
    let room = if paused { &mut [] } else { &mut records[*filled..] };
    let output = this.engine().encrypt(py, data, room)?;
    *filled += output.filled;
    if !output.done {
        return Ok(Step::Wait);
    }
    if *filled >= FULL {
        send_below(this, loop_, &records[..std::mem::take(filled)])?;
    }
    Ok(Step::Next)
}

/// A chunk of which `more` bytes were encrypted, up to `done`: what is left of it comes first again.
fn put_back(this: T<'_, '_>, chunk: Chunk, done: usize, more: usize) {
    let rest = chunk.as_ref().len() - done;
    let mut state = this.state.open(this.py());
    let backlog = &mut state.backlog;
    // The connection may have ended meanwhile, and its backlog with it.
    backlog.len = backlog.len.saturating_sub(more);
    if rest > 0 {
        backlog.chunks.push_front(chunk);
        backlog.done = done;
    }
}

/// Sends the records that OpenSSL has left for the peer, unless the transport below wants a pause. asyncio's
/// `_process_outgoing`.
pub(super) fn send<'py>(this: T<'_, 'py>, loop_: Loop<'_, 'py>) -> PyResult<()> {
    let py = this.py();
    let engine = this.engine();
    let unsent = loop {
        let unsent = engine.unsent(py)?;
        if unsent == 0 || this.state.open(py).paused.below_writing {
            break unsent;
        }
        let mut records = Lent::of(loop_);
        let Piece { len, kind } = engine.take(py, &mut records)?;
        match kind {
            Some(kind) => send_record_below(this, loop_, kind, &records[..len])?,
            None => send_below(this, loop_, &records[..len])?,
        }
    };
    // A limit is crossed: the machine tells the protocol to pause or to go on.
    let machine = {
        let state = this.state.open(py);
        let crossed = state.outgoing.is_crossed(unsent + state.backlog.len(), state.paused.app_writing);
        state.machine.as_ref().filter(|_| crossed).map(|machine| machine.clone_ref(py))
    };
    match machine {
        Some(machine) => machine.bind(py).call_method0(intern!(py, "_control_app_writing")).map(|_| ()),
        None => Ok(()),
    }
}

fn send_below<'py>(this: T<'_, 'py>, loop_: Loop<'_, 'py>, records: &[u8]) -> PyResult<()> {
    let py = this.py();
    if records.is_empty() {
        return Ok(());
    }
    let (below, is_stream) = match &this.state.open(py).below {
        Some(Below::Stream(below)) => (below.clone_ref(py), true),
        Some(Below::Other(below)) => (below.clone_ref(py), false),
        None => return Ok(()),
    };
    if is_stream {
        let stream = This::<Transport>::of_exact(below.borrow(py)).expect("`attach` has looked at its class");
        return write_slice(stream, loop_, records);
    }
    below.bind(py).call_method1(intern!(py, "write"), (PyBytes::new(py, records),)).map(|_| ())
}

/// Sends what the kernel is to encrypt as a record of this kind. In the middle of a file there is none that makes sense:
/// the peer must not take a file that ends there for whole.
#[cold]
fn send_record_below<'py>(this: T<'_, 'py>, loop_: Loop<'_, 'py>, kind: u8, record: &[u8]) -> PyResult<()> {
    let py = this.py();
    let Some(below) = kernel::stream(this) else { return Ok(()) };
    let sends_file = this.state.open(py).sends_file;
    if sends_file {
        return below.call_method0(intern!(py, "abort")).map(|_| ());
    }
    match This::<Transport>::of_exact(below.as_borrowed()) {
        Some(stream) => write_record(stream, loop_, kind, record),
        None => Ok(()),
    }
}

/// Bytes that the transport below has not got: `get_write_buffer_size`.
pub(super) fn waiting(this: T<'_, '_>) -> PyResult<usize> {
    let encrypted = this.engine().unsent(this.py())?;
    Ok(encrypted + this.state.open(this.py()).backlog.len())
}
