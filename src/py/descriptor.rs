#![allow(unsafe_code)]
//! `Descriptor`: a number that somebody else's object owns, lent to system calls.
//!
//! Used by transports, servers and `sock_*`, whose descriptors belong to Python sockets and files. It never closes anything.

use std::os::fd::{AsFd, BorrowedFd, RawFd};

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
