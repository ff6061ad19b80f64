//! What a look-up found, as Python sees it: the tuples of `socket.getaddrinfo`, its enum members, its errors.
//!
//! Used for answers in digits by `dns.rs` and for the resolver's by `lookups.rs`. Runs in the loop's thread only.

use std::ffi::{CStr, c_int};
use std::io;
use std::net::{IpAddr, SocketAddr};

use mioloop_core::address::text as digits;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::address::Address;
use crate::py::errors::Error;
use crate::py::method::Reply;
use crate::py::names::names;
use crate::py::resolver::{Answer, Entry, LookupError, error_text};

pub(super) fn answer(py: Python<'_>, answer: Answer) -> Reply<'_> {
    match answer {
        Answer::Addresses(found) => addresses(py, &found),
        Answer::Name { host, service } => pair(text(py, &host)?, text(py, &service)?),
    }
}

/// `[(family, type, proto, canonname, sockaddr), ...]`.
pub(super) fn addresses<'py>(py: Python<'py>, found: &[Entry]) -> Reply<'py> {
    let names = names(py);
    let list = PyList::empty(py);
    // libc gives one address several times in a row, once for each kind of socket.
    let mut last: Option<(SocketAddr, Bound<'py, PyAny>)> = None;
    for entry in found {
        let sockaddr = match last {
            Some((same, sockaddr)) if same == entry.socket => sockaddr,
            _ => Address::from(entry.socket).to_python(py)?,
        };
        let family = if entry.socket.is_ipv4() { &names.af_inet } else { &names.af_inet6 };
        let canonical_name = text(py, entry.canonical_name.as_deref().unwrap_or_default())?;
        list.append((family, kind(py, entry.kind)?, entry.protocol, canonical_name, &sockaddr))?;
        last = Some((entry.socket, sockaddr));
    }
    Ok(list.into_any())
}

/// `(host, service)` in digits.
pub(super) fn numeric_name(py: Python<'_>, host: IpAddr, port: u16) -> Reply<'_> {
    let host = digits(host).into_pyobject(py)?.into_any();
    pair(host, port.to_string().into_pyobject(py)?.into_any())
}

fn pair<'py>(host: Bound<'py, PyAny>, service: Bound<'py, PyAny>) -> Reply<'py> {
    let py = host.py();
    Ok((host, service).into_pyobject(py)?.into_any())
}

/// The member of `socket.SocketKind`, or the number where there is none.
fn kind(py: Python<'_>, kind: c_int) -> Reply<'_> {
    let names = names(py);
    let member = match kind {
        libc::SOCK_STREAM => &names.sock_stream,
        libc::SOCK_DGRAM => &names.sock_dgram,
        libc::SOCK_RAW => &names.sock_raw,
        libc::SOCK_SEQPACKET => &names.sock_seqpacket,
        other => return Ok(other.into_pyobject(py)?.into_any()),
    };
    Ok(member.bind(py).clone())
}

/// A text of libc's; UnicodeDecodeError if it is no UTF-8, as in the socket module.
fn text<'py>(py: Python<'py>, text: &CStr) -> Reply<'py> {
    match text.to_str() {
        Ok(text) => Ok(text.into_pyobject(py)?.into_any()),
        Err(_) => PyBytes::new(py, text.to_bytes()).call_method1("decode", ("utf-8",)),
    }
}

/// `socket.gaierror(code, text)`, or the OSError behind EAI_SYSTEM.
pub(super) fn error(py: Python<'_>, error: LookupError) -> PyErr {
    match error {
        LookupError::System(number) => Error::Io(io::Error::from_raw_os_error(number)).into(),
        LookupError::Resolver(code) => {
            let made = names(py).gaierror.bind(py).call1((code, error_text(code)));
            made.map_or_else(|error| error, PyErr::from_value)
        }
    }
}
