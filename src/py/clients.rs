//! A server's connections: what asyncio's `Server` does when one begins and when one ends.
//!
//! Since 3.13 a server has a `WeakSet` of its transports, whose Python methods cost more than the transport itself: where
//! the server and its set are asyncio's own and as they were, the weak reference goes into the set's `data` directly,
//! which is all that the methods do. Else they are called.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PySet, PyWeakrefReference};

use super::compat;
use super::names::names;
use super::places::Places;
use super::unpatched::Unpatched;

/// Where the attributes are that the methods use.
struct Known {
    /// `_sockets`, `_clients`.
    server: Places<2>,
    /// `data`, `_remove`, and until 3.13 `_pending_removals`.
    set: Places<3>,
    has_pending: bool,
}

static SERVER: Unpatched = Unpatched::new();
static SET: Unpatched = Unpatched::new();
static KNOWN: PyOnceLock<Option<Known>> = PyOnceLock::new();

/// Looks at the classes as they are. Called once, at import.
pub(crate) fn load(py: Python<'_>) -> PyResult<()> {
    let server = py.import("asyncio.base_events")?.getattr("Server")?.cast_into()?;
    SERVER.learn(&server, &["_attach", "_detach", "_wakeup", "_sockets", "_clients", "__getattribute__"])?;
    let set = py.import("_weakrefset")?.getattr("WeakSet")?.cast_into()?;
    SET.learn(&set, &["add", "discard", "__len__", "data", "_remove", "_pending_removals", "__getattribute__"])?;
    // Another constructor than we know: then the methods are called.
    KNOWN.get_or_init(py, || if compat::SERVER_KNOWS_TRANSPORTS { look(&server, &set).unwrap_or(None) } else { None });
    Ok(())
}

fn look<'py>(server: &Bound<'py, PyAny>, set: &Bound<'py, PyAny>) -> PyResult<Option<Known>> {
    let py = server.py();
    let none = py.None();
    let server = server.call1((&none, &none, &none, &none, &none, &none, &none))?;
    let set = set.call0()?;
    let has_pending = set.hasattr("_pending_removals")?;
    let third = if has_pending { "_pending_removals" } else { "data" };
    let server = Places::of(&server, ["_sockets", "_clients"])?;
    let set = Places::of(&set, ["data", "_remove", third])?;
    Ok(server.zip(set).map(|(server, set)| Known { server, set, has_pending }))
}

/// `server._attach(transport)`.
pub(crate) fn attach(server: &Bound<'_, PyAny>, transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = server.py();
    match Clients::of(server)? {
        Some(clients) if !clients.sockets.is_none() => {
            clients.data.add(PyWeakrefReference::new_with(transport, &clients.remove)?)
        }
        _ if compat::SERVER_KNOWS_TRANSPORTS => server.call_method1(&names(py).attach, (transport,)).map(|_| ()),
        _ => server.call_method0(&names(py).attach).map(|_| ()),
    }
}

/// `server._detach(transport)`.
pub(crate) fn detach(server: &Bound<'_, PyAny>, transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = server.py();
    match Clients::of(server)? {
        Some(clients) => {
            clients.data.discard(PyWeakrefReference::new(transport)?)?;
            if clients.data.is_empty() && clients.sockets.is_none() {
                server.call_method0("_wakeup")?;
            }
            Ok(())
        }
        None if compat::SERVER_KNOWS_TRANSPORTS => server.call_method1(&names(py).detach, (transport,)).map(|_| ()),
        None => server.call_method0(&names(py).detach).map(|_| ()),
    }
}

/// What a server that is asyncio's own has.
struct Clients<'py> {
    sockets: Bound<'py, PyAny>,
    data: Bound<'py, PySet>,
    remove: Bound<'py, PyAny>,
}

impl<'py> Clients<'py> {
    /// None: its methods must be called.
    fn of(server: &Bound<'py, PyAny>) -> PyResult<Option<Self>> {
        let py = server.py();
        let Some(Some(known)) = KNOWN.get(py) else { return Ok(None) };
        if !SERVER.is_class_of(server.as_borrowed()) || !SERVER.holds(py)? || !SET.holds(py)? {
            return Ok(None);
        }
        let Some([sockets, set]) = known.server.read(server) else { return Ok(None) };
        if !SET.is_class_of(set.as_borrowed()) {
            return Ok(None);
        }
        let Some([data, remove, pending]) = known.set.read(&set) else { return Ok(None) };
        if known.has_pending && !pending.cast_exact::<PyList>().is_ok_and(|pending| pending.is_empty()) {
            return Ok(None);
        }
        Ok(data.cast_into_exact().ok().map(|data| Clients { sockets, data, remove }))
    }
}
