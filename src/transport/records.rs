//! TLS records that are no application data, where the kernel encrypts what a stream sends: `py/kernel_tls.rs`.
//!
//! Each goes in a call that names its kind, in its place among what else is written. For `tls.rs` only.

use std::io::ErrorKind;

use mioloop_core::outgoing::Outgoing;
use mioloop_core::records::Records;
use pyo3::prelude::*;
use rustix::io::Errno;

use super::stream::Stream;
use super::write::{self, Sending};
use super::{Loop, Transport};
use crate::py::buffer::Chunk;
use crate::py::class::This;
use crate::py::descriptor::{Descriptor, send_some};
use crate::py::errors::Error;
use crate::py::kernel_tls::send_record;

impl Stream {
    /// The kernel has taken so much of the backlog.
    pub(super) fn advance(&mut self, count: usize) {
        self.outgoing.advance(count);
        if let Some(records) = &mut self.records {
            records.advance(count);
            if records.is_empty() {
                self.records = None;
            }
        }
    }

    /// Queues the rest of a record.
    fn push_record(&mut self, kind: u8, rest: &[u8]) {
        let queued = self.outgoing.len();
        self.records.get_or_insert_default().push(queued, rest.len(), kind);
        self.outgoing.push(Chunk::Copied(Box::from(rest)), 0);
    }
}

/// One call for the first piece of a backlog with records in it.
#[cold]
pub(super) fn send_piece(outgoing: &Outgoing<Chunk>, records: &Records, fd: Descriptor) -> Result<usize, Errno> {
    let piece = records.next(outgoing.len());
    let front = outgoing.front();
    let bytes = &front[..piece.len.min(front.len())];
    match piece.kind {
        Some(kind) => send_record(fd, kind, bytes),
        None => send_some(fd, bytes),
    }
}

/// Sends or queues a record of this kind.
pub(crate) fn write_record<'py>(
    this: This<'_, 'py, Transport>,
    loop_: Loop<'_, 'py>,
    kind: u8,
    record: &[u8],
) -> PyResult<()> {
    let py = this.py();
    let (sending, fd) = {
        let state = this.state.open(py);
        if state.phase.is_lost() {
            return Ok(());
        }
        (state.own.sending, state.fd)
    };
    if sending != Sending::Direct {
        this.state.open(py).own.push_record(kind, record);
        return write::after_push(this, loop_);
    }
    let sent = match send_record(fd, kind, record) {
        Ok(sent) => sent,
        Err(errno) if errno.kind() == ErrorKind::WouldBlock => 0,
        Err(errno) => return write::write_error(this, Error::Io(errno.into()).into()),
    };
    if sent < record.len() {
        this.state.open(py).own.push_record(kind, &record[sent..]);
        write::wait_for_room(this, loop_)?;
    }
    Ok(())
}

/// The socket, if the kernel has everything that was written.
pub(crate) fn idle_socket(this: This<'_, '_, Transport>) -> Option<Descriptor> {
    let state = this.state.open(this.py());
    let idle = state.own.sending == Sending::Direct && !state.phase.is_lost();
    idle.then_some(state.fd)
}

/// Has the protocol been told to pause?
pub(crate) fn is_paused(this: This<'_, '_, Transport>) -> bool {
    this.state.open(this.py()).marks.is_paused()
}
