#![allow(unsafe_code)]
//! Linux's TLS below a TCP socket: it encrypts what is sent, once it has been given the keys.
//!
//! From then on plain text goes to the socket, by `send` or `sendfile`, and becomes records of application data; what is
//! of another kind goes by a `sendmsg` that says so. See "The kernel's TLS" in DESIGN.md, and the kernel's tls.rst.

use std::ffi::c_void;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

use rustix::fd::AsFd;
use rustix::io::Errno;

use super::descriptor::{Descriptor, uninterrupted};

/// Room for the control message of one byte, which wants to be aligned like its head.
#[repr(C)]
union Control {
    _head: libc::cmsghdr,
    bytes: [u8; 32],
}

/// Can the kernel do it for this socket? No key is needed yet, and nothing changes.
pub(super) fn attach(fd: Descriptor) -> bool {
    set(fd, libc::IPPROTO_TCP, libc::TCP_ULP, c"tls".as_ptr().cast(), 3)
}

/// Gives the kernel the keys for what is sent from here on; false if it does not take them.
///
/// # Safety
/// They begin with a `tls_crypto_info` and are as long as its cipher says: what OpenSSL passes with `BIO_CTRL_SET_KTLS`.
pub(super) unsafe fn take_keys(fd: Descriptor, keys: NonNull<c_void>) -> bool {
    // SAFETY: the caller's promise.
    let cipher = unsafe { keys.cast::<libc::tls_crypto_info>().read_unaligned().cipher_type };
    let size = match cipher {
        libc::TLS_CIPHER_AES_GCM_128 => size_of::<libc::tls12_crypto_info_aes_gcm_128>(),
        libc::TLS_CIPHER_AES_GCM_256 => size_of::<libc::tls12_crypto_info_aes_gcm_256>(),
        libc::TLS_CIPHER_AES_CCM_128 => size_of::<libc::tls12_crypto_info_aes_ccm_128>(),
        libc::TLS_CIPHER_CHACHA20_POLY1305 => size_of::<libc::tls12_crypto_info_chacha20_poly1305>(),
        _ => return false,
    };
    set(fd, libc::SOL_TLS, libc::TLS_TX, keys.as_ptr(), size)
}

fn set(fd: Descriptor, level: i32, option: i32, value: *const c_void, size: usize) -> bool {
    let size = libc::socklen_t::try_from(size).unwrap_or(0);
    // SAFETY: memory of that size, which is read only.
    unsafe { libc::setsockopt(fd.number(), level, option, value, size) == 0 }
}

/// Sends a record of this kind, as much of it as the kernel takes: the number of bytes.
pub(crate) fn send_record(fd: Descriptor, kind: u8, bytes: &[u8]) -> Result<usize, Errno> {
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = Control { bytes: [0; 32] };
    let fd = fd.as_fd();
    uninterrupted(|| {
        // SAFETY: a message of nulls is one of nothing. The control message has room, as `CMSG_SPACE` counts it, in memory
        // with the alignment of its head. What the message points to outlives the call, which only reads it.
        let sent = unsafe {
            let mut message: libc::msghdr = std::mem::zeroed();
            message.msg_iov = &raw mut part;
            message.msg_iovlen = 1;
            message.msg_control = (&raw mut control).cast();
            message.msg_controllen = libc::CMSG_SPACE(1) as _;
            let head = libc::CMSG_FIRSTHDR(&raw const message);
            (*head).cmsg_level = libc::SOL_TLS;
            (*head).cmsg_type = libc::TLS_SET_RECORD_TYPE;
            (*head).cmsg_len = libc::CMSG_LEN(1) as _;
            libc::CMSG_DATA(head).write(kind);
            libc::sendmsg(fd.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT)
        };
        usize::try_from(sent)
            .map_err(|_| std::io::Error::last_os_error().raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error))
    })
}
