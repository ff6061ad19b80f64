//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::failure::Failure;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Echo,
    Http,
    Connect,
    Idle,
}

#[derive(Clone)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Udp(SocketAddr),
    Unix(PathBuf),
}

pub(crate) struct Options {
    pub(crate) mode: Mode,
    pub(crate) address: Address,
    pub(crate) connections: usize,
    /// Bytes of a message.
    pub(crate) size: usize,
    /// The server, whose processor time and memory are read.
    pub(crate) pid: u32,
    pub(crate) warmup: Duration,
    pub(crate) seconds: Duration,
    /// The certificate authority's file, for TLS.
    pub(crate) tls: Option<PathBuf>,
}

impl Options {
    pub(crate) fn from_arguments(mut arguments: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mode = match arguments.next().as_deref() {
            Some("echo") => Mode::Echo,
            Some("http") => Mode::Http,
            Some("connect") => Mode::Connect,
            Some("idle") => Mode::Idle,
            other => return Err(Failure::usage(format!("echo, http, connect or idle, not {other:?}"))),
        };
        let mut address = None;
        let mut pid = None;
        let mut options = Self {
            mode,
            address: Address::Unix(PathBuf::new()),
            connections: 1,
            size: 1024,
            pid: 0,
            warmup: Duration::from_millis(100),
            seconds: Duration::from_secs(1),
            tls: None,
        };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| Failure::usage(format!("{name} needs a value")))?;
            match name.as_str() {
                "--address" => address = Some(parse_address(&value)?),
                "--connections" => options.connections = parse(&value)?,
                "--size" => options.size = parse(&value)?,
                "--pid" => pid = Some(parse(&value)?),
                "--warmup" => options.warmup = Duration::from_secs_f64(parse(&value)?),
                "--seconds" => options.seconds = Duration::from_secs_f64(parse(&value)?),
                "--tls" => options.tls = Some(value.into()),
                _ => return Err(Failure::usage(format!("no such option: {name}"))),
            }
        }
        options.address = address.ok_or_else(|| Failure::usage("--address is missing"))?;
        options.pid = pid.ok_or_else(|| Failure::usage("--pid is missing"))?;
        Ok(options)
    }
}

fn parse<T: FromStr>(text: &str) -> Result<T, Failure> {
    text.parse().map_err(|_| Failure::usage(format!("not a number: {text}")))
}

fn parse_address(text: &str) -> Result<Address, Failure> {
    let wrong = || Failure::usage(format!("not an address: {text}"));
    let (family, rest) = text.split_once(':').ok_or_else(wrong)?;
    match family {
        "tcp" => rest.parse().map(Address::Tcp).map_err(|_| wrong()),
        "udp" => rest.parse().map(Address::Udp).map_err(|_| wrong()),
        "unix" => Ok(Address::Unix(rest.into())),
        _ => Err(wrong()),
    }
}
