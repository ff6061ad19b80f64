//! The fast engine: libssl without `_ssl` between.
//!
//! It has a portable engine on the same objects, which makes the exception when OpenSSL has failed: `_ssl` finds the
//! error in OpenSSL's queue, and says what it would have said had the call been its own.

use mioloop_core::records::Piece;
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;

use super::engine::{Engine, Input, Output};
use super::portable::Portable;
use crate::py::class::{Stop, Visit};
use crate::py::descriptor::Descriptor;
use crate::py::libssl::{Connection, Outcome};

pub(super) struct Direct {
    connection: Connection,
    portable: Portable,
}

impl Direct {
    /// Gives the portable engine back where libssl cannot be called. context: the connection's `ssl.SSLContext`.
    pub(super) fn new(portable: Portable, context: &Bound<'_, PyAny>) -> Result<Self, Portable> {
        if !portable.is_plain() {
            return Err(portable);
        }
        match Connection::of(portable.connection(), context, portable.incoming(), portable.outgoing()) {
            Some(connection) => Ok(Direct { connection, portable }),
            None => Err(portable),
        }
    }
}

impl Engine for Direct {
    fn feed(&self, py: Python<'_>, records: &[u8]) -> PyResult<()> {
        if self.connection.feed(py, records) { Ok(()) } else { Err(PyMemoryError::new_err(())) }
    }
    fn unread(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.connection.unread(py))
    }
    fn decrypt(&self, py: Python<'_>, records: &mut &[u8], memory: &mut [u8]) -> PyResult<Input> {
        match self.connection.decrypt(py, records, memory) {
            Outcome::Done(count) => Ok(Input::Data(count)),
            Outcome::Again => Ok(Input::Again),
            Outcome::End => Ok(Input::End),
            Outcome::Failed => self.portable.read(py, memory),
        }
    }
    fn encrypt(&self, py: Python<'_>, data: &[u8], memory: &mut [u8]) -> PyResult<Output> {
        match self.connection.encrypt(py, data, memory) {
            (Outcome::Done(_), filled) => Ok(Output { filled, done: true }),
            (Outcome::Again, filled) => Ok(Output { filled, done: false }),
            (Outcome::End | Outcome::Failed, _) => self.portable.encrypt(py, data, memory),
        }
    }
    fn unsent(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.connection.unsent(py))
    }
    fn take(&self, py: Python<'_>, memory: &mut [u8]) -> PyResult<Piece> {
        Ok(self.connection.take(py, memory))
    }
    fn visit(&self, visit: Visit<'_>) -> Result<(), Stop> {
        self.connection.visit(visit)?;
        self.portable.visit(visit)
    }
    fn is_direct(&self) -> bool {
        true
    }
    fn offer(&self, py: Python<'_>, socket: Option<Descriptor>) {
        self.connection.offer(py, socket);
    }
    fn is_plain(&self, py: Python<'_>) -> bool {
        self.connection.is_plain(py)
    }
}
