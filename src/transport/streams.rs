//! The short way into asyncio's streams: from the descriptor into the reader's buffer, and its waiter woken.
//!
//! Taken by `read.rs` where the protocol is exactly asyncio's `StreamReaderProtocol`, its reader exactly asyncio's
//! `StreamReader`, and nobody has replaced the methods that would have run: `data_received`, `feed_data`,
//! `_wakeup_waiter`. Does what they do; where one of the conditions does not hold, they are called.

use pyo3::exceptions::PyNotImplementedError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyByteArray, PyDict, PyType, PyWeakrefReference};

use super::Loop;
use crate::future::{AnyFuture, Future};
use crate::py::buffer;
use crate::py::class::This;
use crate::py::descriptor::{Descriptor, receive_some};
use crate::py::names::names;
use crate::py::object::Owned;
use crate::py::places::{NoOthers, Places};
use crate::py::unpatched::{Unpatched, has_class_method, set_attribute};

/// One read takes so much at most. Bytes.
const MOST: usize = 128 * 1024;

static PROTOCOL: Unpatched = Unpatched::new();
static READER: Unpatched = Unpatched::new();
/// What is wanted of a reader.
const LOOKED_AT: [&str; 3] = ["_buffer", "_waiter", "_limit"];
const WAITER: usize = 1;
/// Where it is.
static PLACES: PyOnceLock<Option<Places<3>>> = PyOnceLock::new();

/// Of a protocol that has its class's methods.
static PROTOCOL_ATTRIBUTES: PyOnceLock<Option<NoOthers>> = PyOnceLock::new();

/// Looks at asyncio's classes as they are. Called once, at import.
pub(crate) fn load(py: Python<'_>) -> PyResult<()> {
    let streams = py.import("asyncio.streams")?;
    let protocol = streams.getattr("StreamReaderProtocol")?.cast_into()?;
    PROTOCOL.learn(&protocol, &["data_received", "_stream_reader", "__getattribute__"])?;
    let reader = streams.getattr("StreamReader")?.cast_into()?;
    let attributes = ["feed_data", "_wakeup_waiter", "__getattribute__", "__setattr__", "_buffer", "_waiter", "_limit"];
    READER.learn(&reader, &attributes)?;
    // A class that was changed before we came may have another constructor: then all is looked for by name.
    let samples = samples(&protocol, &reader).ok();
    let samples = samples.as_ref();
    PLACES.get_or_init(py, || samples.and_then(|(_, reader)| Places::of(reader, LOOKED_AT).ok()?));
    PROTOCOL_ATTRIBUTES.get_or_init(py, || samples.and_then(|(protocol, _)| NoOthers::of(protocol).ok()?));
    Ok(())
}

#[inline]
fn places(py: Python<'_>) -> Option<&'static Places<3>> {
    PLACES.get(py)?.as_ref()
}

/// A server's protocol, which has more attributes than a client's, and a reader that reads nothing. Of their loop they want
/// to know whether it is in debug mode, and a future, of which the protocol's end wants to know whether it is done.
fn samples<'py>(
    protocol: &Bound<'py, PyType>,
    reader: &Bound<'py, PyType>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let py = reader.py();
    let (no, namespace) = (py.get_type::<PyBool>(), py.import("types")?.getattr("SimpleNamespace")?);
    let (answers, keywords) = (PyDict::new(py), PyDict::new(py));
    answers.set_item("done", &no)?;
    let future = py.import("functools")?.call_method("partial", (&namespace,), Some(&answers))?;
    keywords.set_item("get_debug", &no)?;
    keywords.set_item("create_future", future)?;
    let loop_ = namespace.call((), Some(&keywords))?;
    let keywords = PyDict::new(py);
    keywords.set_item("loop", loop_)?;
    let reader = reader.call((), Some(&keywords))?;
    let protocol = protocol.call((&reader, py.get_type::<PyAny>()), Some(&keywords))?;
    Ok((protocol, reader))
}

/// The weak reference to the reader, if the short way may be taken for this protocol.
pub(crate) fn reader_of(protocol: Borrowed<'_, '_, PyAny>) -> PyResult<Option<Owned>> {
    if !PROTOCOL.is_class_of(protocol) {
        return Ok(None);
    }
    let reader = protocol.getattr_opt(&names(protocol.py()).stream_reader_ref)?;
    Ok(reader.filter(|reader| reader.cast_exact::<PyWeakrefReference>().is_ok()).map(Owned::new))
}

/// A reader that the short way leads to.
pub(crate) struct Reader<'py> {
    object: Bound<'py, PyAny>,
    buffer: Bound<'py, PyByteArray>,
    waiter: Bound<'py, PyAny>,
    limit: Bound<'py, PyAny>,
}

impl<'py> Reader<'py> {
    /// None: the methods must be called.
    #[inline]
    pub(crate) fn open(protocol: &Bound<'py, PyAny>, reader: &Owned) -> PyResult<Option<Self>> {
        let py = protocol.py();
        let names = names(py);
        let Some(reader) = reader.bind(py).cast_exact::<PyWeakrefReference>()?.upgrade() else { return Ok(None) };
        if !READER.is_class_of(reader.as_borrowed()) || !PROTOCOL.holds(py)? || !READER.holds(py)? {
            return Ok(None);
        }
        // Methods that were replaced on the objects themselves. To ask for a `__dict__` would make one, and asyncio's own
        // access to the attributes slow.
        let known = PROTOCOL_ATTRIBUTES.get(py).and_then(Option::as_ref).is_some_and(|it| it.are_in(protocol));
        if !known && !has_class_method(protocol, &names.data_received)? {
            return Ok(None);
        }
        let found = match places(py).and_then(|places| places.read(&reader)) {
            Some(found) => Some(found),
            None if has_class_method(&reader, &names.feed_data)? => Reader::look(&reader)?,
            None => None,
        };
        let Some([buffer, waiter, limit]) = found else { return Ok(None) };
        let buffer = buffer.cast_into_exact::<PyByteArray>();
        Ok(buffer.ok().map(|buffer| Reader { object: reader, buffer, waiter, limit }))
    }

    /// The attributes that are wanted, by their names.
    fn look(reader: &Bound<'py, PyAny>) -> PyResult<Option<[Bound<'py, PyAny>; 3]>> {
        let names = names(reader.py());
        let find = |name| reader.getattr_opt(name);
        let found = (find(&names.private_buffer)?, find(&names.private_waiter)?, find(&names.private_limit)?);
        let (Some(buffer), Some(waiter), Some(limit)) = found else { return Ok(None) };
        Ok(Some([buffer, waiter, limit]))
    }

    /// One read behind what the buffer holds. None: the buffer cannot grow now, since somebody looks at it.
    #[inline]
    pub(super) fn read(&self, loop_: Loop<'_, 'py>, fd: Descriptor) -> Result<Read, rustix::io::Errno> {
        let mut core = loop_.core.open(loop_.py());
        let memory = core.scratch(MOST);
        let count = receive_some(fd, memory)?;
        if count == 0 {
            return Ok(Read::End);
        }
        let data = &memory[..count];
        match buffer::append(&self.buffer, data) {
            Ok(()) if count == MOST => Ok(Read::Full),
            Ok(()) => Ok(Read::All),
            Err(_) => Ok(Read::NoRoom(data.into())),
        }
    }

    /// Bytes behind what the buffer holds; false if it cannot grow now.
    pub(crate) fn append(&self, data: &[u8]) -> bool {
        buffer::append(&self.buffer, data).is_ok()
    }

    /// `_wakeup_waiter()`, and the pause if the user reads too slowly.
    #[inline]
    pub(crate) fn notify(&self) -> PyResult<()> {
        let py = self.buffer.py();
        let names = names(py);
        let waiter = &self.waiter;
        if !waiter.is_none() {
            let none = || Owned::new(py.None().into_bound(py));
            if !places(py).is_some_and(|places| places.write(&self.object, WAITER, none())) {
                set_attribute(&self.object, &names.private_waiter, py.None().bind(py))?;
            }
            match This::<Future>::of_exact(waiter.as_borrowed()).map(AnyFuture::from) {
                Some(waiter) if waiter.is_pending() => waiter.set_result(py.None().bind(py).as_borrowed())?,
                Some(_) => {}
                None if waiter.call_method0(&names.cancelled)?.is_truthy()? => {}
                None => {
                    waiter.call_method1(&names.set_result, (py.None(),))?;
                }
            }
        }
        if self.buffer.len() > 2 * self.limit.extract::<usize>()? { self.pause() } else { Ok(()) }
    }

    /// As `feed_data` does: a transport that cannot pause is not asked again.
    #[cold]
    fn pause(&self) -> PyResult<()> {
        let py = self.buffer.py();
        let Some(transport) = self.object.getattr_opt("_transport")?.filter(|transport| !transport.is_none()) else {
            return Ok(());
        };
        if self.object.getattr_opt("_paused")?.map_or(Ok(false), |paused| paused.is_truthy())? {
            return Ok(());
        }
        match transport.call_method0("pause_reading") {
            Ok(_) => self.object.setattr("_paused", true),
            Err(error) if error.is_instance_of::<PyNotImplementedError>(py) => {
                self.object.setattr("_transport", py.None())
            }
            Err(error) => Err(error),
        }
    }
}

/// What one read brought.
pub(super) enum Read {
    /// All there was.
    All,
    /// There may be more.
    Full,
    End,
    /// These bytes, which are not in the buffer.
    NoRoom(Box<[u8]>),
}
