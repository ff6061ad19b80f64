//! Numeric hosts and ports, as the C library's `getaddrinfo` reads them.
//!
//! `loop.getaddrinfo` asks here first, because what is numeric needs no look-up
//! and so no thread. Every function answers only where the C library's answer
//! is certain; None means "ask it", never "it is wrong". Nothing here makes a
//! system call.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str;

/// IANA's number of TCP.
pub const TCP: i32 = 6;
/// IANA's number of UDP.
pub const UDP: i32 = 17;

/// The longest name of an interface, IFNAMSIZ without its zero.
const LONGEST_ZONE: usize = 15;

/// An address in digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host<'a> {
    /// Four decimal numbers.
    V4(Ipv4Addr),
    /// An IPv6 address, and what stands behind its `%`.
    V6(Ipv6Addr, Option<&'a str>),
}

impl<'a> Host<'a> {
    /// Reads an address. Short and octal forms (`127.1`, `0177.0.0.1`) are left
    /// to the C library, and so is a zone that the "idna" codec would refuse.
    pub fn parse(text: &'a [u8]) -> Option<Host<'a>> {
        let text = ascii(text)?;
        if !text.contains(':') {
            return text.parse().ok().map(Host::V4);
        }
        match text.split_once('%') {
            None => text.parse().ok().map(|address| Host::V6(address, None)),
            Some((address, zone)) => {
                let known = !zone.is_empty() && zone.len() <= LONGEST_ZONE && !zone.contains("..");
                known.then_some(())?;
                address.parse().ok().map(|address| Host::V6(address, Some(zone)))
            }
        }
    }
}

/// Reads a port in decimal digits, at most five of them.
pub fn port(text: &[u8]) -> Option<u16> {
    let digits = !text.is_empty() && text.len() <= 5 && text.iter().all(u8::is_ascii_digit);
    digits.then(|| ascii(text)?.parse().ok()).flatten()
}

/// The scope that a zone means: in a link-local scope an interface's name comes
/// first, a number is always good. Follows glibc's `__inet6_scopeid_pton`.
pub fn scope_id(address: Ipv6Addr, zone: &str, interface_index: impl FnOnce(&str) -> Option<u32>) -> Option<u32> {
    let index = is_link_local(address).then(|| interface_index(zone)).flatten();
    let number = || zone.bytes().all(|byte| byte.is_ascii_digit()).then(|| zone.parse().ok()).flatten();
    index.or_else(number)
}

fn is_link_local(address: Ipv6Addr) -> bool {
    let first = address.segments()[0];
    first & 0xffc0 == 0xfe80 || first & 0xff0f == 0xff02
}

/// The kinds of socket that answers are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Not said: all of them.
    Any,
    /// SOCK_STREAM.
    Stream,
    /// SOCK_DGRAM.
    Datagram,
    /// SOCK_RAW.
    Raw,
}

/// Kinds and protocols of the answers for one address, in their order. Follows
/// `gaih_inet_typeproto` of glibc; other C libraries agree on the single ones.
pub fn sockets(kind: Kind, protocol: i32, has_port: bool) -> Option<&'static [(Kind, i32)]> {
    let is_glibc = cfg!(target_env = "gnu");
    match (kind, protocol) {
        (Kind::Any, 0) if is_glibc => Some(&[(Kind::Stream, TCP), (Kind::Datagram, UDP), (Kind::Raw, 0)]),
        (Kind::Any, TCP) | (Kind::Stream, 0 | TCP) => Some(&[(Kind::Stream, TCP)]),
        (Kind::Any, UDP) | (Kind::Datagram, 0 | UDP) => Some(&[(Kind::Datagram, UDP)]),
        (Kind::Raw, 0) if is_glibc && !has_port => Some(&[(Kind::Raw, 0)]),
        _ => None,
    }
}

/// The address as `inet_ntop` writes it. It differs from Rust in one point: what
/// once was IPv4 in IPv6, `::1.2.3.4`, is dotted (musl does as Rust does).
pub fn text(address: IpAddr) -> String {
    match address {
        IpAddr::V6(v6) if cfg!(not(target_env = "musl")) => match v6.segments() {
            [0, 0, 0, 0, 0, 0, high, low] if high != 0 => {
                let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
                format!("::{}", Ipv4Addr::new(a, b, c, d))
            }
            _ => v6.to_string(),
        },
        address => address.to_string(),
    }
}

/// What the "idna" codec makes of a host: itself, if it is ASCII and each label
/// has a length that DNS allows. None: the codec has something to say.
pub fn encode_host(host: &str) -> Option<&[u8]> {
    let mut labels = host.strip_suffix('.').unwrap_or(host).split('.');
    let plain = host.is_ascii() && labels.all(|label| (1..64).contains(&label.len()));
    plain.then_some(host.as_bytes())
}

fn ascii(text: &[u8]) -> Option<&str> {
    text.is_ascii().then(|| str::from_utf8(text).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOWHERE: fn(&str) -> Option<u32> = |_| None;

    fn v6(text: &str) -> Ipv6Addr {
        text.parse().expect("a literal of this test")
    }

    #[test]
    fn only_the_plain_form_of_an_ipv4_address_is_certain() {
        assert_eq!(Host::parse(b"127.0.0.1"), Some(Host::V4(Ipv4Addr::LOCALHOST)));
        for other in ["", "127.1", "0x7f.0.0.1", "127.0.0.01", "127.0.0.1 ", "1.2.3.4.", "256.0.0.1", "*", "localhost"]
        {
            assert_eq!(Host::parse(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn a_zone_is_kept_apart() {
        assert_eq!(Host::parse(b"fe80::1%eth0.7"), Some(Host::V6(v6("fe80::1"), Some("eth0.7"))));
        for other in ["fe80::1%", "fe80::1%a..b", "fe80::1%sixteen-letters-", "1.2.3.4%eth0", "fe80::1\0", "::\u{e9}"] {
            assert_eq!(Host::parse(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn an_interface_comes_before_a_number_in_a_link_local_scope_only() {
        let known = |name: &str| (name == "7").then_some(42);
        assert_eq!(scope_id(v6("fe80::1"), "7", known), Some(42));
        assert_eq!(scope_id(v6("ff02::1"), "7", known), Some(42));
        assert_eq!(scope_id(v6("2001:db8::1"), "7", known), Some(7));
        assert_eq!(scope_id(v6("fe80::1"), "4294967295", NOWHERE), Some(u32::MAX));
        assert_eq!(scope_id(v6("fe80::1"), "4294967296", NOWHERE), None);
        assert_eq!(scope_id(v6("fe80::1"), "+7", NOWHERE), None);
        assert_eq!(scope_id(v6("::1"), "lo", |_| Some(1)), None);
    }

    #[test]
    fn ports_are_decimal_digits() {
        assert_eq!(port(b"0"), Some(0));
        assert_eq!(port(b"00080"), Some(80));
        assert_eq!(port(b"65535"), Some(65535));
        for other in ["", "65536", "000080", "+80", "-1", " 80", "80 ", "http", "8\0"] {
            assert_eq!(port(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn addresses_that_once_were_ipv4_are_dotted() {
        for written in ["::1.2.3.4", "::0.1.0.0", "::ffff:1.2.3.4", "::", "::1", "::ffff", "::1:0:0", "1::"] {
            assert_eq!(text(v6(written).into()), written);
        }
    }

    #[test]
    fn a_host_that_the_codec_would_change_or_refuse_is_not_certain() {
        let long = "a".repeat(63);
        for good in ["localhost", "a.b.", "1.2.3.4", "fe80::1%eth0", long.as_str()] {
            assert_eq!(encode_host(good), Some(good.as_bytes()));
        }
        let longer = "a".repeat(64);
        for bad in ["", ".", "a..b", ".a", "a..", "b\u{fc}cher.example", longer.as_str()] {
            assert_eq!(encode_host(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_address_comes_back(bits: u128, short: u32) {
            for address in [IpAddr::V6(bits.into()), IpAddr::V6((bits >> 96).into()), IpAddr::V4(short.into())] {
                let written = text(address);
                let read = match Host::parse(written.as_bytes()) {
                    Some(Host::V4(address)) => Some(IpAddr::V4(address)),
                    Some(Host::V6(address, None)) => Some(IpAddr::V6(address)),
                    _ => None,
                };
                prop_assert_eq!(read, Some(address));
            }
        }

        #[test]
        fn what_the_standard_library_refuses_is_not_certain(text in "[0-9a-fx:.% ]{0,20}") {
            let ours = Host::parse(text.as_bytes());
            match text.split_once('%') {
                None => prop_assert_eq!(ours.is_some(), text.parse::<IpAddr>().is_ok()),
                Some((address, _)) => prop_assert!(ours.is_none() || address.parse::<Ipv6Addr>().is_ok()),
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = (Host::parse(&bytes), port(&bytes));
        }

        #[test]
        fn every_port_comes_back(number: u16) {
            prop_assert_eq!(port(number.to_string().as_bytes()), Some(number));
        }
    }
}
