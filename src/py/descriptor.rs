#![allow(unsafe_code)]
//! `Descriptor`: a number that somebody else's object owns, lent to system calls.
//!
//! Used by transports, servers and `sock_*`, whose descriptors belong to Python sockets and files. It never closes anything.
//! No call waits, whatever mode the descriptor is in: another process, or a copy of the socket, may have changed that.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, RawFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketAddrAny, addr::SocketAddrArg, recv, recvfrom, send, sendto};

/// No signal if nobody is there to receive.
pub(super) const SENDING: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);

/// A descriptor by number. If it was closed meanwhile, calls fail with EBADF.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Descriptor(RawFd);

impl Descriptor {
    /// None for a negative number: a closed socket's.
    pub(crate) fn new(fd: RawFd) -> Option<Self> {
        (fd >= 0).then_some(Descriptor(fd))
    }

    pub(crate) fn number(self) -> RawFd {
        self.0
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: not -1. The number's owner is a Python object that whoever made this `Descriptor` keeps; should it be
        // closed all the same, system calls answer EBADF, and no memory depends on it.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }
}

/// One receive from a socket. The number of bytes; 0 is the end of input.
#[inline(always)]
pub(crate) fn receive_some(fd: Descriptor, memory: &mut [u8]) -> Result<usize, Errno> {
    uninterrupted(|| recv(fd, &mut *memory, RecvFlags::DONTWAIT).map(|(_, count)| count))
}

/// As `receive_some`, into memory that nobody has written to.
pub(crate) fn receive_first(fd: Descriptor, memory: &mut [MaybeUninit<u8>]) -> Result<usize, Errno> {
    uninterrupted(|| recv(fd, &mut *memory, RecvFlags::DONTWAIT).map(|(_, count)| count))
}

/// One send to a socket. The number of bytes.
#[inline(always)]
pub(crate) fn send_some(fd: Descriptor, bytes: &[u8]) -> Result<usize, Errno> {
    uninterrupted(|| send(fd, bytes, SENDING))
}

/// One datagram, cut to the memory, and its sender's address if it has one.
#[inline]
pub(crate) fn receive_from(fd: Descriptor, memory: &mut [u8]) -> Result<(usize, Option<SocketAddrAny>), Errno> {
    uninterrupted(|| recvfrom(fd, &mut *memory, RecvFlags::DONTWAIT).map(|(_, count, from)| (count, from)))
}

/// One datagram to an address.
#[inline]
pub(crate) fn send_to(fd: Descriptor, bytes: &[u8], to: &impl SocketAddrArg) -> Result<usize, Errno> {
    uninterrupted(|| sendto(fd, bytes, SENDING, to))
}

/// Again when a signal came in between.
#[inline(always)]
pub(crate) fn uninterrupted<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}
