#![allow(unsafe_code)]
//! Python's sockets: may native code make a system call where asyncio calls a method, and what the socket is.
//!
//! Used by `sock_*` and by whoever makes a transport for a socket of the user's. A subclass may override `recv()`, and a
//! library may replace it in the class itself: then it is called, as asyncio would.

use std::ffi::{c_char, c_int};
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::names::names;
use super::unpatched::{Unpatched, instance_dict};

static SOCKET: Unpatched = Unpatched::new();

/// What the class in C does, and native code in its place.
const INHERITED: [&str; 11] = [
    "recv",
    "recv_into",
    "recvfrom",
    "recvfrom_into",
    "send",
    "sendto",
    "sendmsg",
    "shutdown",
    "fileno",
    "getsockname",
    "getpeername",
];
/// What `socket.socket` has of its own, or may have.
const OWN: [&str; 3] = ["accept", "_accept", "__getattribute__"];

/// Looks at `socket.socket` as it is. Called once, at import.
pub(crate) fn load(py: Python<'_>) -> PyResult<()> {
    let names = names(py);
    let class = names.socket_class.bind(py).cast::<PyType>()?;
    for name in INHERITED {
        if !class.getattr(name)?.is(names.socket_base.bind(py).getattr(name)?) {
            // Replaced before we came: none is plain.
            return Ok(());
        }
    }
    let attributes: Vec<&'static str> = INHERITED.into_iter().chain(OWN).collect();
    SOCKET.learn(class, &attributes)
}

/// It is exactly a `socket.socket`, whose methods nobody has replaced.
#[inline]
pub(crate) fn is_plain(object: Borrowed<'_, '_, PyAny>) -> PyResult<bool> {
    Ok(SOCKET.is_class_of(object) && SOCKET.holds(object.py())?)
}

/// `file.fileno()`: -1 of a socket that is closed.
///
/// A plain socket's is the first field of the object in C, which `_socket` has never moved. It is believed when it has been
/// right of two sockets with different numbers.
#[inline]
pub(crate) fn number(file: Borrowed<'_, '_, PyAny>) -> PyResult<i64> {
    if is_plain(file)? { plain_number(file) } else { file.call_method0(&names(file.py()).fileno)?.extract() }
}

/// As `number`, of a socket that is plain.
#[inline(always)]
pub(crate) fn plain_number(socket: Borrowed<'_, '_, PyAny>) -> PyResult<i64> {
    if SEEN.load(Relaxed) == BELIEVED { Ok(first_field(socket).into()) } else { ask_and_compare(socket) }
}

#[cold]
fn ask_and_compare(socket: Borrowed<'_, '_, PyAny>) -> PyResult<i64> {
    let number = socket.call_method0(&names(socket.py()).fileno)?.extract()?;
    let seen = SEEN.load(Relaxed);
    if number >= 0 && seen != DOUBTED {
        let next = match first_field(socket) {
            field if i64::from(field) != number => DOUBTED,
            field if seen >= 0 && seen != field => BELIEVED,
            field => field,
        };
        SEEN.store(next, Relaxed);
    }
    Ok(number)
}

/// The number of a socket whose first field was right; or one of these.
static SEEN: AtomicI32 = AtomicI32::new(NONE_YET);
const NONE_YET: c_int = -1;
const BELIEVED: c_int = -2;
const DOUBTED: c_int = -3;

#[inline(always)]
fn first_field(socket: Borrowed<'_, '_, PyAny>) -> c_int {
    // SAFETY: a `socket.socket` is larger than an object and an int.
    unsafe { socket.as_ptr().add(1).cast::<c_int>().read() }
}

/// Its class, or the object itself, has methods of its own where native code would make system calls.
pub(crate) fn has_own_methods(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = object.py();
    if is_plain(object.as_borrowed())? {
        return Ok(false);
    }
    if !SOCKET.is_like(&object.get_type())? {
        return Ok(true);
    }
    let Ok(attributes) = instance_dict(object) else { return Ok(false) };
    for name in SOCKET.names(py) {
        if attributes.contains(name)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The first three arguments of `socket.socket`.
#[derive(Clone, Copy)]
pub(crate) struct SocketKind {
    pub(crate) family: c_int,
    pub(crate) type_: c_int,
    pub(crate) protocol: c_int,
}

impl SocketKind {
    /// A Python socket's.
    pub(crate) fn of(socket: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        let names = names(socket.py());
        Ok(SocketKind {
            family: family(socket)?,
            type_: member(&names.socket_type, socket)?,
            protocol: member(&names.socket_proto, socket)?,
        })
    }
}

/// AF_INET and so on, as a number.
pub(crate) fn family(socket: Borrowed<'_, '_, PyAny>) -> PyResult<c_int> {
    member(&names(socket.py()).socket_family, socket)
}

/// What `socket.sendto()` tells `sys.addaudithook`, where native code sends in its place.
#[inline]
pub(crate) fn audit_sendto(socket: Borrowed<'_, '_, PyAny>, address: Borrowed<'_, '_, PyAny>) -> PyResult<()> {
    unsafe extern "C" {
        /// Declared in CPython's `sysmodule.h`; returns at once if there is no hook.
        fn PySys_Audit(event: *const c_char, format: *const c_char, ...) -> c_int;
    }
    // SAFETY: attached; both are live objects, as many as the format asks for.
    match unsafe { PySys_Audit(c"socket.sendto".as_ptr(), c"OO".as_ptr(), socket.as_ptr(), address.as_ptr()) } {
        0 => Ok(()),
        _ => Err(PyErr::fetch(socket.py())),
    }
}

/// A member of the class in C: `socket.socket` has a property in front of it that makes an enum of the number.
fn member(descriptor: &Py<PyAny>, socket: Borrowed<'_, '_, PyAny>) -> PyResult<c_int> {
    let py = socket.py();
    // SAFETY: attached; the slot of a live object's type is called with live objects, and checks the second one's class.
    let value = unsafe {
        let class = ffi::Py_TYPE(socket.as_ptr()).cast();
        let get = (*ffi::Py_TYPE(descriptor.as_ptr())).tp_descr_get;
        let get = get.ok_or_else(|| PyTypeError::new_err("_socket.socket has other members than expected"))?;
        Bound::from_owned_ptr_or_err(py, get(descriptor.as_ptr(), socket.as_ptr(), class))?
    };
    value.extract()
}
