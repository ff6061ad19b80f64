//! Socket addresses as Python shows them: `('127.0.0.1', 80)`, `('::1', 80, 0, 0)`, `'/run/socket'`.
//!
//! Used by transports, servers, datagrams and `sock_*`. Follows `makesockaddr` of CPython's `socketmodule.c`; families that
//! it knows and this file does not are left to the Python socket, and so is reading an address that is not in digits.

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use libc::sockaddr_un;
use mioloop_core::address::{Host, text};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyString, PyTuple};
use rustix::io::Errno;
use rustix::net::sockopt::socket_domain;
use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix};

use crate::py::descriptor::{Descriptor, send_to};
use crate::py::names::names;

/// The families of addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
    Unix,
    /// Left to the Python socket.
    Other,
}

impl Family {
    /// A descriptor's.
    pub(crate) fn of(fd: Descriptor) -> Result<Self, Errno> {
        socket_domain(fd).map(|domain| Family::numbered(domain.as_raw().into()))
    }

    /// AF_INET and so on.
    pub(crate) fn numbered(number: i32) -> Self {
        match number {
            libc::AF_INET => Family::V4,
            libc::AF_INET6 => Family::V6,
            libc::AF_UNIX => Family::Unix,
            _ => Family::Other,
        }
    }
}

/// An address of a family that is shown natively.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    V4(SocketAddrV4),
    V6(SocketAddrV6),
    /// None has no name.
    Unix(Option<UnixName>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UnixName {
    Path(Box<[u8]>),
    /// With the NUL in front.
    Abstract(Box<[u8]>),
}

impl Address {
    /// None for other families.
    #[inline]
    pub(crate) fn of(address: &SocketAddrAny) -> Option<Address> {
        match address.address_family() {
            AddressFamily::INET => SocketAddrV4::try_from(address.clone()).ok().map(Address::V4),
            AddressFamily::INET6 => SocketAddrV6::try_from(address.clone()).ok().map(Address::V6),
            AddressFamily::UNIX => Address::of_unix(address),
            _ => None,
        }
    }

    /// An address of the family whose parts are plain and in digits. None: the socket module knows what it means.
    pub(crate) fn in_digits(address: Borrowed<'_, '_, PyAny>, family: Family) -> Option<Address> {
        let tuple = address.cast_exact::<PyTuple>().ok()?;
        let number = |index: usize| -> Option<u32> {
            let item = tuple.get_borrowed_item(index).ok()?;
            item.cast_exact::<PyInt>().ok()?.extract().ok()
        };
        let host = tuple.get_borrowed_item(0).ok()?;
        let host = host.cast_exact::<PyString>().ok()?;
        let host = host.to_str().ok()?;
        let port = u16::try_from(number(1)?).ok()?;
        match (Host::parse(host.as_bytes())?, family, tuple.len()) {
            (Host::V4(host), Family::V4, 2) => Some(Address::V4(SocketAddrV4::new(host, port))),
            (Host::V6(host, None), Family::V6, parts @ 2..=4) => {
                let flow = if parts > 2 { number(2)? } else { 0 };
                let scope = if parts > 3 { number(3)? } else { 0 };
                // A larger one is an OverflowError.
                (flow <= 0xf_ffff).then(|| Address::V6(SocketAddrV6::new(host, port, flow, scope)))
            }
            _ => None,
        }
    }

    fn of_unix(address: &SocketAddrAny) -> Option<Address> {
        // The kernel says one more than there is for a name without room for its NUL.
        if address.addr_len() as usize > size_of::<sockaddr_un>() {
            return None;
        }
        let address = SocketAddrUnix::try_from(address.clone()).ok()?;
        let name = match (address.path_bytes(), address.abstract_name()) {
            (Some(path), _) => Some(UnixName::Path(path.into())),
            (None, Some(name)) if !name.is_empty() => {
                let mut bytes = vec![0];
                bytes.extend_from_slice(name);
                Some(UnixName::Abstract(bytes.into()))
            }
            (None, _) => None,
        };
        Some(Address::Unix(name))
    }

    /// Sends a datagram there.
    #[inline]
    pub(crate) fn send(&self, fd: Descriptor, bytes: &[u8]) -> Result<usize, Errno> {
        match self {
            Address::V4(address) => send_to(fd, bytes, address),
            Address::V6(address) => send_to(fd, bytes, address),
            Address::Unix(Some(UnixName::Path(path))) => send_to(fd, bytes, &SocketAddrUnix::new(&**path)?),
            #[cfg(target_os = "linux")]
            Address::Unix(Some(UnixName::Abstract(name))) => {
                send_to(fd, bytes, &SocketAddrUnix::new_abstract_name(&name[1..])?)
            }
            Address::Unix(_) => Err(Errno::DESTADDRREQ),
        }
    }

    /// The Python object.
    pub(crate) fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(match self {
            Address::V4(address) => (text(IpAddr::V4(*address.ip())), address.port()).into_pyobject(py)?.into_any(),
            Address::V6(address) => {
                (text(IpAddr::V6(*address.ip())), address.port(), address.flowinfo(), address.scope_id())
                    .into_pyobject(py)?
                    .into_any()
            }
            Address::Unix(None) => PyString::new(py, "").into_any(),
            Address::Unix(Some(UnixName::Path(path))) => {
                names(py).fsdecode.bind(py).call1((PyBytes::new(py, path),))?
            }
            Address::Unix(Some(UnixName::Abstract(name))) => PyBytes::new(py, name).into_any(),
        })
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(address) => Address::V4(address),
            SocketAddr::V6(address) => Address::V6(address),
        }
    }
}
