#![allow(unsafe_code)]
//! libc's resolver: `getaddrinfo` and `getnameinfo` behind types that own plain data.
//!
//! `Question::ask` blocks, touches no Python object and needs no interpreter: the pool of `dns/lookups.rs` calls it in
//! native threads. Questions and answers are turned from and into Python objects in `dns.rs` and its folder.

use std::ffi::{CStr, CString, c_char, c_int};
use std::mem::MaybeUninit;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use libc::{addrinfo, sockaddr, sockaddr_in, sockaddr_in6, socklen_t};

/// NI_MAXHOST and NI_MAXSERV of CPython's `socketmodule.c`.
const HOST_BYTES: usize = 1025;
const SERVICE_BYTES: usize = 32;

/// What to look up.
pub(crate) enum Question {
    /// `getaddrinfo(host, service, hints)`.
    Addresses { host: Option<CString>, service: Option<CString>, hints: Hints },
    /// `getnameinfo(address, flags)`.
    Name { address: SocketAddr, flags: c_int },
}

/// The caller's numbers, unchecked: libc knows which are wrong.
#[derive(Clone, Copy)]
pub(crate) struct Hints {
    pub(crate) family: c_int,
    pub(crate) kind: c_int,
    pub(crate) protocol: c_int,
    pub(crate) flags: c_int,
}

pub(crate) enum Answer {
    Addresses(Vec<Entry>),
    Name { host: CString, service: CString },
}

/// One entry of getaddrinfo's list.
pub(crate) struct Entry {
    pub(crate) kind: c_int,
    pub(crate) protocol: c_int,
    pub(crate) canonical_name: Option<CString>,
    pub(crate) socket: SocketAddr,
}

pub(crate) enum LookupError {
    /// EAI_NONAME and its kin.
    Resolver(c_int),
    /// EAI_SYSTEM, with the `errno`.
    System(c_int),
}

impl LookupError {
    /// Called right after the failed call, while `errno` is its.
    fn of(code: c_int) -> Self {
        match code {
            libc::EAI_SYSTEM => LookupError::System(std::io::Error::last_os_error().raw_os_error().unwrap_or_default()),
            code => LookupError::Resolver(code),
        }
    }
}

impl Question {
    pub(crate) fn ask(&self) -> Result<Answer, LookupError> {
        match self {
            Question::Addresses { host, service, hints } => {
                addresses(host.as_deref(), service.as_deref(), *hints).map(Answer::Addresses)
            }
            Question::Name { address, flags } => name(*address, *flags),
        }
    }
}

fn addresses(host: Option<&CStr>, service: Option<&CStr>, hints: Hints) -> Result<Vec<Entry>, LookupError> {
    // SAFETY: a C struct of numbers and pointers, for which zeros mean "nothing".
    let mut wanted: addrinfo = unsafe { MaybeUninit::zeroed().assume_init() };
    wanted.ai_family = hints.family;
    wanted.ai_socktype = hints.kind;
    wanted.ai_protocol = hints.protocol;
    wanted.ai_flags = hints.flags;
    let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
    let mut first = std::ptr::null_mut();
    // SAFETY: the texts are null or end with a zero and outlive the call; `first` takes a list that is freed below.
    let code = unsafe { libc::getaddrinfo(pointer(host), pointer(service), &wanted, &mut first) };
    if code != 0 {
        return Err(LookupError::of(code));
    }
    let mut found = Vec::new();
    let mut next: *const addrinfo = first;
    // SAFETY: getaddrinfo gave a list that ends with null; its entries are whole until it is freed, once, after the last look.
    unsafe {
        while let Some(entry) = next.as_ref() {
            found.extend(read(entry));
            next = entry.ai_next;
        }
        libc::freeaddrinfo(first);
    }
    Ok(found)
}

/// # Safety
/// The entry is one of getaddrinfo's.
unsafe fn read(entry: &addrinfo) -> Option<Entry> {
    // SAFETY: the address is null or of the entry's family and length, aligned for it; the name is null or ends with a zero.
    unsafe {
        let canonical_name = (!entry.ai_canonname.is_null()).then(|| CStr::from_ptr(entry.ai_canonname).to_owned());
        let socket = match entry.ai_family {
            libc::AF_INET => {
                let raw = entry.ai_addr.cast::<sockaddr_in>().as_ref()?;
                let address = u32::from_be(raw.sin_addr.s_addr).into();
                SocketAddrV4::new(address, u16::from_be(raw.sin_port)).into()
            }
            libc::AF_INET6 => {
                let raw = entry.ai_addr.cast::<sockaddr_in6>().as_ref()?;
                let (address, port) = (Ipv6Addr::from(raw.sin6_addr.s6_addr), u16::from_be(raw.sin6_port));
                SocketAddrV6::new(address, port, u32::from_be(raw.sin6_flowinfo), raw.sin6_scope_id).into()
            }
            // libc resolves names to nothing else.
            _ => return None,
        };
        Some(Entry { kind: entry.ai_socktype, protocol: entry.ai_protocol, canonical_name, socket })
    }
}

fn name(address: SocketAddr, flags: c_int) -> Result<Answer, LookupError> {
    // SAFETY: C structs of numbers, for which zeros are valid.
    let (mut v4, mut v6): (sockaddr_in, sockaddr_in6) =
        unsafe { (MaybeUninit::zeroed().assume_init(), MaybeUninit::zeroed().assume_init()) };
    let (pointer, length): (*const sockaddr, usize) = match address {
        SocketAddr::V4(address) => {
            v4.sin_family = libc::AF_INET as libc::sa_family_t;
            v4.sin_port = address.port().to_be();
            v4.sin_addr.s_addr = u32::from(*address.ip()).to_be();
            ((&raw const v4).cast(), size_of::<sockaddr_in>())
        }
        SocketAddr::V6(address) => {
            v6.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            v6.sin6_port = address.port().to_be();
            v6.sin6_addr.s6_addr = address.ip().octets();
            v6.sin6_flowinfo = address.flowinfo().to_be();
            v6.sin6_scope_id = address.scope_id();
            ((&raw const v6).cast(), size_of::<sockaddr_in6>())
        }
    };
    let mut host = [0 as c_char; HOST_BYTES];
    let mut service = [0 as c_char; SERVICE_BYTES];
    // SAFETY: the address is of the length that goes with it, the buffers are as long as is said, all outlive the call;
    // after success both buffers hold a text that ends with a zero.
    unsafe {
        let code = libc::getnameinfo(
            pointer,
            length as socklen_t,
            host.as_mut_ptr(),
            HOST_BYTES as socklen_t,
            service.as_mut_ptr(),
            SERVICE_BYTES as socklen_t,
            flags,
        );
        if code != 0 {
            return Err(LookupError::of(code));
        }
        let owned = |text: &[c_char]| CStr::from_ptr(text.as_ptr()).to_owned();
        Ok(Answer::Name { host: owned(&host), service: owned(&service) })
    }
}

/// What libc says of an error of its resolver.
pub(crate) fn error_text(code: c_int) -> String {
    // SAFETY: returns a static text for any number.
    unsafe { CStr::from_ptr(libc::gai_strerror(code)) }.to_string_lossy().into_owned()
}

/// The number of a network interface. One system call that does not block.
pub(crate) fn interface_index(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: the text ends with a zero and outlives the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}
