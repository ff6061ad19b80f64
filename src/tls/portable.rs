//! The portable engine: the methods of `ssl.SSLObject` and `ssl.MemoryBIO`, called from here.
//!
//! Data goes through objects that own their memory, and that serve again unless somebody has kept them: a callback or
//! another thread finds them through the garbage collector. A look at what is pending comes first, so that in the steady
//! state no exception says that there is nothing to read.

use std::sync::Arc;

use mioloop_core::records::Piece;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;

use super::engine::{Engine, Input, Objects, Output};
use crate::py::buffer::{self, SpareBytes};
use crate::py::cell::LoopCell;
use crate::py::class::{Stop, Visit};
use crate::py::object::Owned;
use crate::runtime::buffers::Spares;

/// What one record holds at most. Bytes.
const DATA: usize = 16 * 1024;
/// A whole record is at most so long: the data, the header, and what encryption adds. Bytes.
const RECORD: usize = DATA + 5 + 256;

pub(super) struct Portable {
    /// The C object inside a plain `ssl.SSLObject`; or whatever else the context has made.
    connection: Owned,
    /// It is that C object.
    is_plain: bool,
    incoming: Owned,
    outgoing: Owned,
    spares: Arc<LoopCell<Spares>>,
}

/// Of the modules ssl and _ssl, which an interpreter may lack.
struct Classes {
    ssl_object: Py<PyAny>,
    ssl_socket: Py<PyAny>,
    memory_bio: Py<PyAny>,
    want_read: Py<PyAny>,
    syscall: Py<PyAny>,
}

static CLASSES: PyOnceLock<Classes> = PyOnceLock::new();

fn classes(py: Python<'_>) -> PyResult<&'static Classes> {
    CLASSES.get_or_try_init(py, || {
        let ssl = py.import("ssl")?;
        Ok(Classes {
            ssl_object: ssl.getattr("SSLObject")?.unbind(),
            ssl_socket: py.import("_ssl")?.getattr("_SSLSocket")?.unbind(),
            memory_bio: ssl.getattr("MemoryBIO")?.unbind(),
            want_read: ssl.getattr("SSLWantReadError")?.unbind(),
            syscall: ssl.getattr("SSLSyscallError")?.unbind(),
        })
    })
}

impl Portable {
    pub(super) fn new(objects: Objects<'_, '_>) -> PyResult<Self> {
        let py = objects.connection.py();
        let classes = classes(py)?;
        let inner = objects.connection.getattr_opt(intern!(py, "_sslobj"))?;
        let is_plain = objects.connection.get_type().is(classes.ssl_object.bind(py))
            && inner.as_ref().is_some_and(|inner| inner.get_type().is(classes.ssl_socket.bind(py)))
            && [objects.incoming, objects.outgoing].iter().all(|bio| bio.get_type().is(classes.memory_bio.bind(py)));
        let connection = inner.filter(|_| is_plain).unwrap_or_else(|| objects.connection.clone());
        Ok(Portable {
            connection: Owned::new(connection),
            is_plain,
            incoming: Owned::new(objects.incoming.clone()),
            outgoing: Owned::new(objects.outgoing.clone()),
            spares: objects.spares.clone(),
        })
    }

    pub(super) fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// The C object inside the `ssl.SSLObject`, if it is plain.
    pub(super) fn connection(&self) -> &Owned {
        &self.connection
    }

    pub(super) fn incoming(&self) -> &Owned {
        &self.incoming
    }

    pub(super) fn outgoing(&self) -> &Owned {
        &self.outgoing
    }

    /// `SSLObject.read`, whatever is pending.
    pub(super) fn read(&self, py: Python<'_>, memory: &mut [u8]) -> PyResult<Input> {
        let connection = self.connection.bind(py);
        let name = intern!(py, "read");
        let read = if self.is_plain {
            self.read_plain(connection, name, memory)
        } else {
            connection.call_method1(name, (memory.len(),)).and_then(|data| copy(&data, memory))
        };
        match read {
            Ok(0) => Ok(Input::End),
            Ok(count) => Ok(Input::Data(count)),
            Err(error) if is_again(py, &error) => Ok(Input::Again),
            Err(error) => Err(error),
        }
    }

    /// `read` of the C object, into an array.
    fn read_plain(
        &self,
        connection: &Bound<'_, PyAny>,
        name: &Bound<'_, PyString>,
        memory: &mut [u8],
    ) -> PyResult<usize> {
        let py = connection.py();
        let array = self.spares.open(py).plain.array(py, DATA)?;
        let count = connection.call_method1(name, (memory.len().min(DATA), &array))?.extract::<usize>()?;
        let room = count.min(memory.len());
        let count = copy(&array, &mut memory[..room])?;
        self.spares.open(py).plain.put(array);
        Ok(count)
    }

    /// Calls a method with the bytes as its argument.
    fn give(
        &self,
        object: &Bound<'_, PyAny>,
        name: &Bound<'_, PyString>,
        bytes: &[u8],
        spare: fn(&mut Spares) -> &mut SpareBytes,
    ) -> PyResult<usize> {
        let py = object.py();
        let data = spare(&mut self.spares.open(py)).bytes(py, bytes)?;
        object.call_method1(name, (data,))?.extract()
    }
}

/// What asyncio takes for "not now": its `SSLAgainErrors`.
fn is_again(py: Python<'_>, error: &PyErr) -> bool {
    classes(py).is_ok_and(|classes| {
        error.is_instance(py, classes.want_read.bind(py)) || error.is_instance(py, classes.syscall.bind(py))
    })
}

/// Copies the bytes of an object, as many as there is room for.
fn copy(data: &Bound<'_, PyAny>, memory: &mut [u8]) -> PyResult<usize> {
    buffer::with_bytes(data.as_borrowed(), |data| {
        let count = data.len().min(memory.len());
        memory[..count].copy_from_slice(&data[..count]);
        count
    })
}

impl Engine for Portable {
    fn feed(&self, py: Python<'_>, records: &[u8]) -> PyResult<()> {
        self.give(self.incoming.bind(py), intern!(py, "write"), records, |spares| &mut spares.records).map(|_| ())
    }
    fn unread(&self, py: Python<'_>) -> PyResult<usize> {
        self.incoming.bind(py).getattr(intern!(py, "pending"))?.extract()
    }
    fn decrypt(&self, py: Python<'_>, records: &mut &[u8], memory: &mut [u8]) -> PyResult<Input> {
        loop {
            let pending = || self.connection.bind(py).call_method0(intern!(py, "pending"))?.extract::<usize>();
            if self.unread(py)? > 0 || pending()? > 0 {
                match self.read(py, memory)? {
                    Input::Again => {}
                    input => return Ok(input),
                }
            }
            if records.is_empty() {
                return Ok(Input::Again);
            }
            // One record at a time, so that OpenSSL's own buffer stays small.
            let (first, rest) = records.split_at(records.len().min(RECORD));
            self.feed(py, first)?;
            *records = rest;
        }
    }
    fn encrypt(&self, py: Python<'_>, data: &[u8], memory: &mut [u8]) -> PyResult<Output> {
        let done = match self.give(self.connection.bind(py), intern!(py, "write"), data, |spares| &mut spares.data) {
            Ok(_) => true,
            Err(error) if is_again(py, &error) => false,
            Err(error) => return Err(error),
        };
        let filled = if memory.is_empty() { 0 } else { self.take(py, memory)?.len };
        Ok(Output { filled, done })
    }
    fn unsent(&self, py: Python<'_>) -> PyResult<usize> {
        self.outgoing.bind(py).getattr(intern!(py, "pending"))?.extract()
    }
    fn take(&self, py: Python<'_>, memory: &mut [u8]) -> PyResult<Piece> {
        let records = self.outgoing.bind(py).call_method1(intern!(py, "read"), (memory.len(),))?;
        Ok(Piece { len: copy(&records, memory)?, kind: None })
    }
    fn visit(&self, visit: Visit<'_>) -> Result<(), Stop> {
        [&self.connection, &self.incoming, &self.outgoing].into_iter().try_for_each(|object| visit.object(object))
    }
}
