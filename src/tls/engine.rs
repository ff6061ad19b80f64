//! `Engine`: what encrypts and decrypts, behind one trait.
//!
//! The engine is always the OpenSSL connection inside the `ssl.SSLObject` that the user's context made, with its two
//! `ssl.MemoryBIO`s; engines differ in how they call it. Handshake and shutdown are Python's business, on the same
//! objects. No cell is open during a call: OpenSSL may call the user's callbacks back.

use std::sync::Arc;

use mioloop_core::records::Piece;
use pyo3::intern;
use pyo3::prelude::*;

use super::direct::Direct;
use super::portable::Portable;
use crate::py::cell::LoopCell;
use crate::py::class::{Stop, Visit};
use crate::py::descriptor::Descriptor;
use crate::runtime::buffers::Spares;

/// Moves application data through OpenSSL.
pub(super) trait Engine: Send + Sync {
    /// Gives it records of the peer's.
    fn feed(&self, py: Python<'_>, records: &[u8]) -> PyResult<()>;
    /// Bytes that it was given and has not looked at.
    fn unread(&self, py: Python<'_>) -> PyResult<usize>;
    /// Decrypts into memory that is not empty, what it was given before and then these records; those that were used are
    /// cut off. An error is what `SSLObject.read` raises.
    fn decrypt(&self, py: Python<'_>, records: &mut &[u8], memory: &mut [u8]) -> PyResult<Input>;
    /// Encrypts what fits into one record, into memory; what does not fit there is to be taken later. An error is what
    /// `SSLObject.write` raises.
    fn encrypt(&self, py: Python<'_>, data: &[u8], memory: &mut [u8]) -> PyResult<Output>;
    /// Bytes of records that nobody has taken.
    fn unsent(&self, py: Python<'_>) -> PyResult<usize>;
    /// Takes records for the peer: how much of the memory they fill, and where the kernel encrypts, of which kind they are.
    fn take(&self, py: Python<'_>, memory: &mut [u8]) -> PyResult<Piece>;
    fn visit(&self, visit: Visit<'_>) -> Result<(), Stop>;
    /// Does it call libssl itself?
    fn is_direct(&self) -> bool {
        false
    }
    /// The kernel may encrypt from the next change of keys on, on this socket, which has got everything so far.
    fn offer(&self, _py: Python<'_>, _socket: Option<Descriptor>) {}
    /// Does the kernel encrypt?
    fn is_plain(&self, _py: Python<'_>) -> bool {
        false
    }
}

/// What decrypting brought.
pub(super) enum Input {
    Data(usize),
    /// There is no whole record.
    Again,
    /// The peer has said that it will send no more.
    End,
}

/// What encrypting brought.
pub(super) struct Output {
    /// Bytes of records in the memory.
    pub(super) filled: usize,
    /// Was it encrypted? If not, the engine must be fed first.
    pub(super) done: bool,
}

/// The Python objects of one TLS connection.
#[derive(Clone, Copy)]
pub(crate) struct Objects<'a, 'py> {
    /// An `ssl.SSLObject`.
    pub(crate) connection: &'a Bound<'py, PyAny>,
    /// `ssl.MemoryBIO`s.
    pub(crate) incoming: &'a Bound<'py, PyAny>,
    pub(crate) outgoing: &'a Bound<'py, PyAny>,
    pub(crate) spares: &'a Arc<LoopCell<Spares>>,
    /// May libssl be called?
    pub(crate) direct: bool,
}

/// The best engine that these objects can have.
pub(super) fn choose(objects: Objects<'_, '_>) -> PyResult<Arc<dyn Engine>> {
    let py = objects.connection.py();
    let portable = Portable::new(objects)?;
    // Of the C object, if it is plain: as `SSLObject.context`, without a frame.
    let connection = portable.connection().bind(py);
    let Some(context) = connection.getattr_opt(intern!(py, "context"))? else { return Ok(Arc::new(portable)) };
    // A callback that sees every record: what it raises, `_ssl` keeps for the end of its own call.
    let watched = context.getattr_opt(intern!(py, "_msg_callback"))?.is_some_and(|callback| !callback.is_none());
    if watched || !objects.direct {
        return Ok(Arc::new(portable));
    }
    Ok(match Direct::new(portable, &context) {
        Ok(direct) => Arc::new(direct),
        Err(portable) => Arc::new(portable),
    })
}

/// The engine of a connection that has ended: there is nothing to read, and nothing can be written.
pub(super) struct Gone;

impl Engine for Gone {
    fn feed(&self, _py: Python<'_>, _records: &[u8]) -> PyResult<()> {
        Ok(())
    }
    fn unread(&self, _py: Python<'_>) -> PyResult<usize> {
        Ok(0)
    }
    fn decrypt(&self, _py: Python<'_>, _records: &mut &[u8], _memory: &mut [u8]) -> PyResult<Input> {
        Ok(Input::Again)
    }
    fn encrypt(&self, _py: Python<'_>, _data: &[u8], _memory: &mut [u8]) -> PyResult<Output> {
        Ok(Output { filled: 0, done: false })
    }
    fn unsent(&self, _py: Python<'_>) -> PyResult<usize> {
        Ok(0)
    }
    fn take(&self, _py: Python<'_>, _memory: &mut [u8]) -> PyResult<Piece> {
        Ok(Piece { len: 0, kind: None })
    }
    fn visit(&self, _visit: Visit<'_>) -> Result<(), Stop> {
        Ok(())
    }
}
