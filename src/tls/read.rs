//! From the records to the protocol: `data_received`, `buffer_updated`, and asyncio's streams without either.
//!
//! Called by the transport below with what the descriptor had, and by the machine. All that the records hold is delivered
//! in one call. Follows `_do_read` of asyncio.sslproto.

use pyo3::intern;
use pyo3::prelude::*;

use super::engine::Input;
use super::{Loop, Phase, T, kernel, write};
use crate::py::buffer;
use crate::py::names::names;
use crate::py::object::Owned;
use crate::runtime::buffers::Lent;
use crate::transport::read::Receiver;
use crate::transport::streams::Reader;

/// Why decrypting has come to an end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    /// There is no whole record left.
    Drained,
    /// There is no room left.
    Full,
    /// The peer will send no more.
    Ended,
}

/// The descriptor had these bytes.
pub(super) fn take(loop_: Loop<'_, '_>, object: Borrowed<'_, '_, PyAny>, records: &[u8]) -> PyResult<()> {
    let this = T::of_exact(object).expect("the object is chosen with the function");
    let py = loop_.py();
    // asyncio's `buffer_updated`.
    let next = match this.phase() {
        Phase::Wrapped => return read(this, loop_, records),
        Phase::Handshake => Some(intern!(py, "_do_handshake")),
        Phase::Flushing => Some(intern!(py, "_do_flush")),
        Phase::Shutdown => Some(intern!(py, "_do_shutdown")),
        Phase::Unwrapped => None,
    };
    this.engine().feed(py, records)?;
    let Some((machine, next)) = next.and_then(|next| Some((this.machine()?, next))) else { return Ok(()) };
    let go_on = || machine.call_method0(next).map(|_| ());
    if this.phase() == Phase::Handshake { kernel::with_offer(this, go_on) } else { go_on() }
}

/// Reads what there is, these records included. asyncio's `_do_read`.
pub(super) fn read<'py>(this: T<'_, 'py>, loop_: Loop<'_, 'py>, records: &[u8]) -> PyResult<()> {
    match read_and_answer(this, loop_, records) {
        Ok(()) => Ok(()),
        Err(error) => this.fatal_error(error),
    }
}

fn read_and_answer<'py>(this: T<'_, 'py>, loop_: Loop<'_, 'py>, mut records: &[u8]) -> PyResult<()> {
    let py = loop_.py();
    let (paused, receiver, phase) = {
        let state = this.state.open(py);
        (state.paused.app_reading, state.receiver.clone_ref(py), state.phase)
    };
    let mut drained = false;
    if paused {
        this.engine().feed(py, records)?;
        if phase == Phase::Flushing {
            write::write_backlog(this, loop_)?;
        }
    } else {
        match receiver {
            Receiver::Buffer => read_into_buffer(this, &mut records)?,
            receiver => loop {
                let why = read_once(this, loop_, &receiver, &mut records)?;
                if why != Why::Full || !reads(this) {
                    drained = why == Why::Drained;
                    break;
                }
            },
        }
        write::go_on(this, loop_)?;
    }
    let unread = if drained { 0 } else { this.engine().unread(py)? };
    control_below(this, unread)
}

/// May the protocol be given more?
fn reads(this: T<'_, '_>) -> bool {
    let state = this.state.open(this.py());
    matches!(state.phase, Phase::Wrapped | Phase::Flushing) && !state.paused.app_reading
}

/// One delivery; `Full` if there is more.
fn read_once<'py>(this: T<'_, 'py>, loop_: Loop<'_, 'py>, receiver: &Receiver, records: &mut &[u8]) -> PyResult<Why> {
    let mut memory = Lent::of(loop_);
    let (count, why) = decrypt(this, records, &mut memory)?;
    if count > 0 {
        deliver(this, loop_, receiver, memory, count)?;
    }
    if why == Why::Ended {
        ended(this)?;
    }
    Ok(why)
}

/// Decrypts what was given to the engine before, then these records. All that are left are given to it in the end.
fn decrypt(this: T<'_, '_>, records: &mut &[u8], memory: &mut [u8]) -> PyResult<(usize, Why)> {
    let py = this.py();
    let engine = this.engine();
    let mut count = 0;
    let why = loop {
        if count == memory.len() {
            break Why::Full;
        }
        match engine.decrypt(py, records, &mut memory[count..])? {
            Input::Data(more) => count += more,
            Input::End => break Why::Ended,
            Input::Again => break Why::Drained,
        }
    };
    if !records.is_empty() {
        engine.feed(py, std::mem::take(records))?;
    }
    Ok((count, why))
}

/// Gives the protocol what was decrypted. The memory goes back before any Python code runs.
#[inline]
fn deliver<'py>(
    this: T<'_, 'py>,
    loop_: Loop<'_, 'py>,
    receiver: &Receiver,
    memory: Lent<'_, '_>,
    count: usize,
) -> PyResult<()> {
    let py = this.py();
    let Some(protocol) = protocol(this) else { return Ok(()) };
    if let Receiver::Streams(reader) = receiver
        && let Some(reader) = Reader::open(&protocol, reader)?
        && reader.append(&memory[..count])
    {
        drop(memory);
        return reader.notify();
    }
    let data = loop_.core.open(py).spare_bytes.bytes(py, &memory[..count])?;
    drop(memory);
    protocol.call_method1(&names(py).data_received, (data,)).map(|_| ())
}

fn protocol<'py>(this: T<'_, 'py>) -> Option<Bound<'py, PyAny>> {
    let py = this.py();
    let protocol = this.state.open(py).protocol.as_ref().map(|protocol| protocol.clone_ref(py));
    protocol.map(|protocol| protocol.into_bound(py))
}

/// Into the buffer of a `BufferedProtocol`. asyncio's `_do_read__buffered`.
fn read_into_buffer(this: T<'_, '_>, records: &mut &[u8]) -> PyResult<()> {
    let py = this.py();
    let names = names(py);
    let Some(protocol) = protocol(this) else { return Ok(()) };
    let waiting = this.engine().unread(py)? + records.len();
    let memory = protocol.call_method1(&names.get_buffer, (waiting,))?;
    let read = buffer::with_writable_held(memory.as_borrowed(), "recv_into", |memory| match memory.len() {
        // asyncio reads nothing and takes that for the end.
        0 => this.engine().feed(py, std::mem::take(records)).map(|()| (0, Why::Ended)),
        _ => decrypt(this, records, memory),
    })?;
    let (count, why) = read?;
    if why == Why::Full
        && let (Some(machine), Some(loop_)) = (this.machine(), loop_object(this))
    {
        loop_.bind(py).call_method1(&names.call_soon, (machine.getattr(intern!(py, "_do_read"))?,))?;
    }
    if count > 0 {
        protocol.call_method1(&names.buffer_updated, (count,))?;
    }
    if why == Why::Ended { ended(this) } else { Ok(()) }
}

fn loop_object(this: T<'_, '_>) -> Option<Owned> {
    let py = this.py();
    this.state.open(py).loop_.as_ref().map(|loop_| loop_.clone_ref(py))
}

/// The peer has sent its close_notify.
#[cold]
fn ended(this: T<'_, '_>) -> PyResult<()> {
    let Some(machine) = this.machine() else { return Ok(()) };
    machine.call_method0("_call_eof_received")?;
    machine.call_method0("_start_shutdown").map(|_| ())
}

/// Pauses the transport below if too much waits here, or lets it go on. asyncio's `_control_ssl_reading`.
fn control_below(this: T<'_, '_>, unread: usize) -> PyResult<()> {
    let py = this.py();
    let machine = {
        let state = this.state.open(py);
        let crossed = state.incoming.is_crossed(unread, state.paused.below_reading);
        state.machine.as_ref().filter(|_| crossed).map(|machine| machine.clone_ref(py))
    };
    match machine {
        Some(machine) => machine.bind(py).call_method0(intern!(py, "_control_ssl_reading")).map(|_| ()),
        None => Ok(()),
    }
}
