//! `getaddrinfo` and `getnameinfo`: what is in digits is answered here, everything else in the resolver's threads.
//!
//! Called by `event_loop.rs` for `python/mioloop/_dns.py`, which goes asyncio's way, `socket.getaddrinfo` in the executor,
//! where these functions answer None: unusual arguments, and all that the socket module refuses. So its errors are raised
//! by the socket module itself, but for what the resolver says.

pub(crate) mod lookups;
mod results;

use std::ffi::{CString, c_int, c_long};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use mioloop_core::address::{self, Host, Kind};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyString, PyTuple};

use crate::py::class::This;
use crate::py::method::{Args, Reply};
use crate::py::names::names;
use crate::py::reply;
use crate::py::resolver::{Entry, Hints, Question, interface_index};
use crate::runtime::Runtime;

/// Flags that change nothing about a host in digits, or only what `in_digits` knows.
const PLAIN_FLAGS: c_int = libc::AI_PASSIVE | libc::AI_NUMERICHOST | libc::AI_NUMERICSERV;
/// Nothing of a name is looked up.
const DIGITS: c_int = libc::NI_NUMERICHOST | libc::NI_NUMERICSERV;
/// The flow label has twenty bits.
const MOST_FLOWINFO: u32 = 0xfffff;

/// `_lookup_addresses(host, port, family, type, proto, flags)`: the list, the future of the list, or None.
pub(crate) fn lookup_addresses<'py>(loop_: This<'_, 'py, Runtime>, args: Args<'_, 'py>) -> Reply<'py> {
    let py = loop_.py();
    let method = "_lookup_addresses";
    let (host, port) = (args.required(method, 0, "host")?, args.required(method, 1, "port")?);
    let mut numbers = [0; 4];
    for (index, (number, name)) in numbers.iter_mut().zip(["family", "type", "proto", "flags"]).enumerate() {
        match plain_number(args.required(method, 2 + index, name)?) {
            Some(given) => *number = given,
            None => return reply::none(py),
        }
    }
    let [family, kind, protocol, flags] = numbers;
    let hints = Hints { family, kind, protocol, flags };
    let (Some(node), Some(service)) = (Node::of(&host), Service::of(&port)) else { return reply::none(py) };
    // A closed loop and debug mode have more to say than the answer.
    if loop_.is_closed() || loop_.is_debug() {
        return reply::none(py);
    }
    names(py).audit.bind(py).call1(("socket.getaddrinfo", host, port, family, kind, protocol))?;
    if let Some(found) = in_digits(&node, &service, hints) {
        return results::addresses(py, &found);
    }
    let question = Question::Addresses { host: node.into_text(), service: service.into_text(), hints };
    lookups::submit(loop_, question)
}

/// `_lookup_name(sockaddr, flags)`: the pair, the future of the pair, or None.
pub(crate) fn lookup_name<'py>(loop_: This<'_, 'py, Runtime>, args: Args<'_, 'py>) -> Reply<'py> {
    let py = loop_.py();
    let sockaddr = args.required("_lookup_name", 0, "sockaddr")?;
    let flags = plain_number(args.required("_lookup_name", 1, "flags")?);
    let (Some(address), Some(flags)) = (socket_address(&sockaddr), flags) else { return reply::none(py) };
    if loop_.is_closed() || loop_.is_debug() {
        return reply::none(py);
    }
    names(py).audit.bind(py).call1(("socket.getnameinfo", sockaddr))?;
    let has_scope = matches!(address, SocketAddr::V6(v6) if v6.scope_id() != 0);
    if flags & !libc::NI_DGRAM == DIGITS && !has_scope {
        return results::numeric_name(py, address.ip(), address.port());
    }
    lookups::submit(loop_, Question::Name { address, flags })
}

/// `_forget_lookup(future)`: whoever waited for it was cancelled.
pub(crate) fn forget_lookup<'py>(loop_: This<'_, 'py, Runtime>, future: Borrowed<'_, 'py, PyAny>) -> Reply<'py> {
    lookups::forget(loop_, future);
    reply::none(loop_.py())
}

/// An int, or of a subclass such as `socket.AddressFamily`, that C can take.
fn plain_number(number: Borrowed<'_, '_, PyAny>) -> Option<c_int> {
    number.is_instance_of::<PyInt>().then(|| number.extract().ok()).flatten()
}

/// The host as it goes to libc. `of` answers None for what the socket module refuses or the "idna" codec has to encode.
enum Node<'a> {
    Missing,
    Text(&'a [u8]),
}

impl<'a> Node<'a> {
    fn of(host: &'a Bound<'_, PyAny>) -> Option<Self> {
        if host.is_none() {
            return Some(Node::Missing);
        }
        let text = match host.cast_exact::<PyString>() {
            Ok(text) => address::encode_host(text.to_str().ok()?)?,
            Err(_) => host.cast_exact::<PyBytes>().ok()?.as_bytes(),
        };
        (!text.contains(&0)).then_some(Node::Text(text))
    }

    fn into_text(self) -> Option<CString> {
        match self {
            Node::Missing => None,
            Node::Text(text) => Some(without_zero(text)),
        }
    }
}

/// The port as it goes to libc. `of` answers None for what the socket module refuses.
enum Service<'a> {
    Missing,
    Number(c_long),
    Text(&'a [u8]),
}

impl<'a> Service<'a> {
    fn of(port: &'a Bound<'_, PyAny>) -> Option<Self> {
        if port.is_none() {
            return Some(Service::Missing);
        }
        if let Ok(number) = port.cast_exact::<PyInt>() {
            return number.extract().ok().map(Service::Number);
        }
        let text = match port.cast_exact::<PyString>() {
            Ok(text) => text.to_str().ok()?.as_bytes(),
            Err(_) => port.cast_exact::<PyBytes>().ok()?.as_bytes(),
        };
        (!text.contains(&0)).then_some(Service::Text(text))
    }

    fn number(&self) -> Option<u16> {
        match self {
            Service::Missing => Some(0),
            Service::Number(number) => u16::try_from(*number).ok(),
            Service::Text(text) => address::port(text),
        }
    }

    fn into_text(self) -> Option<CString> {
        match self {
            Service::Missing => None,
            Service::Number(number) => Some(without_zero(number.to_string().as_bytes())),
            Service::Text(text) => Some(without_zero(text)),
        }
    }
}

fn without_zero(text: &[u8]) -> CString {
    CString::new(text).expect("who has a zero inside was sent away")
}

/// What libc would give, where that is certain.
fn in_digits(node: &Node<'_>, service: &Service<'_>, hints: Hints) -> Option<Vec<Entry>> {
    let kind = match hints.kind {
        0 => Kind::Any,
        libc::SOCK_STREAM => Kind::Stream,
        libc::SOCK_DGRAM => Kind::Datagram,
        libc::SOCK_RAW => Kind::Raw,
        _ => return None,
    };
    if hints.flags & !PLAIN_FLAGS != 0 {
        return None;
    }
    let socket = match *node {
        Node::Missing => nowhere(service, hints)?,
        Node::Text(text) => match (Host::parse(text)?, hints.family) {
            (Host::V4(v4), libc::AF_UNSPEC | libc::AF_INET) => SocketAddr::from((v4, service.number()?)),
            (Host::V6(v6, zone), libc::AF_UNSPEC | libc::AF_INET6) => {
                let scope_id = zone.map_or(Some(0), |zone| scope_id(v6, zone))?;
                SocketAddrV6::new(v6, service.number()?, 0, scope_id).into()
            }
            _ => return None,
        },
    };
    let sockets = address::sockets(kind, hints.protocol, !matches!(service, Service::Missing))?;
    let entry = |(kind, protocol): &(Kind, i32)| Entry {
        kind: match kind {
            Kind::Any => 0,
            Kind::Stream => libc::SOCK_STREAM,
            Kind::Datagram => libc::SOCK_DGRAM,
            Kind::Raw => libc::SOCK_RAW,
        },
        protocol: *protocol,
        canonical_name: None,
        socket,
    };
    Some(sockets.iter().map(entry).collect())
}

/// No host: all addresses of this machine for a server, the loopback for a client. Without a family there are two answers,
/// whose order depends on the machine's network.
fn nowhere(service: &Service<'_>, hints: Hints) -> Option<SocketAddr> {
    if matches!(service, Service::Missing) {
        return None;
    }
    let address: IpAddr = match (hints.family, hints.flags & libc::AI_PASSIVE != 0) {
        (libc::AF_INET, true) => Ipv4Addr::UNSPECIFIED.into(),
        (libc::AF_INET, false) => Ipv4Addr::LOCALHOST.into(),
        (libc::AF_INET6, true) => Ipv6Addr::UNSPECIFIED.into(),
        (libc::AF_INET6, false) => Ipv6Addr::LOCALHOST.into(),
        _ => return None,
    };
    Some(SocketAddr::new(address, service.number()?))
}

fn scope_id(address: Ipv6Addr, zone: &str) -> Option<u32> {
    // Other C libraries read zones in ways of their own.
    cfg!(target_env = "gnu").then(|| address::scope_id(address, zone, interface_index)).flatten()
}

/// The sockaddr of getnameinfo, if the socket module would take it without a look at the host's zone.
fn socket_address(sockaddr: &Bound<'_, PyAny>) -> Option<SocketAddr> {
    let fields = sockaddr.cast_exact::<PyTuple>().ok()?;
    let number = |index| fields.get_item(index).ok()?.extract::<u32>().ok();
    let host = fields.get_item(0).ok()?;
    let host = Host::parse(host.cast_exact::<PyString>().ok()?.to_str().ok()?.as_bytes());
    let port = u16::try_from(number(1)?).ok()?;
    match (host?, fields.len()) {
        (Host::V4(v4), 2) => Some(SocketAddr::from((v4, port))),
        (Host::V6(v6, None), length @ 2..=4) => {
            let flowinfo = if length > 2 { number(2)? } else { 0 };
            let scope_id = if length > 3 { number(3)? } else { 0 };
            (flowinfo <= MOST_FLOWINFO).then(|| SocketAddrV6::new(v6, port, flowinfo, scope_id).into())
        }
        _ => None,
    }
}
