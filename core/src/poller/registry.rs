//! What is waited for, and on whose behalf: the half of the poller that the
//! loop keeps while the other half blocks.
//!
//! Readers and transports register through `runtime/sources`; the run cycle
//! passes every polled event through `accept` and calls `rearm` before each
//! poll. It remembers which number belongs to which registration, because a
//! descriptor may be closed, and its number given to another file, without a
//! word to us; it never asks the kernel about a number that has moved on.

use std::io;
use std::os::fd::RawFd;

use rustix::io::Errno;

use super::entries::{Entries, Entry, Kernel};
use super::{Interest, List, Poller, RawReadiness, Readiness, Token, Trigger, Waker};

/// The half that knows which descriptors are waited for. Loop thread only; a
/// change reaches a poll that is blocking at the time.
#[derive(Debug)]
pub struct Registry {
    list: List,
    waker: Waker,
    entries: Entries,
    /// Level-triggered entries whose edge was used up since the last `rearm`.
    delivered: Vec<Token>,
}

impl Registry {
    pub(super) fn new(list: List, waker: Waker) -> Registry {
        Registry { list, waker, entries: Entries::default(), delivered: Vec::new() }
    }

    /// Starts to wait for a descriptor. Errors: the operating system's, such
    /// as EBADF for a closed descriptor and EPERM for a regular file, and
    /// `AlreadyExists` for one that is waited for already.
    pub fn register(&mut self, fd: RawFd, interest: Interest, trigger: Trigger) -> io::Result<Token> {
        let token = self.entries.next_token()?;
        self.add(fd, token, interest)?;
        let kernel = if interest.is_empty() {
            // It went in all the same: the kernel, which alone can, has checked
            // the descriptor.
            self.remove(fd)?;
            Kernel::Absent
        } else {
            Kernel::Present
        };
        if let Some(former) = self.entries.owner_of(fd) {
            // The kernel took the number as new: the file that the former
            // registration meant is closed, and this number no longer its own.
            self.entries.disown(former);
        }
        self.entries.fill(token, Entry::new(fd, interest, trigger, kernel));
        Ok(token)
    }

    /// Changes what is waited for. What is ready already reports again, even
    /// when the interest stays the same. An empty interest keeps the token but
    /// hears nothing.
    ///
    /// Errors: `NotFound` for a token that is no longer registered, EBADF for a
    /// descriptor that was closed behind our back; then nothing changes.
    pub fn set_interest(&mut self, token: Token, interest: Interest) -> io::Result<()> {
        let entry = self.entries.get(token).ok_or(io::ErrorKind::NotFound)?;
        let fd = entry.fd;
        let kernel = match (entry.kernel, interest.is_empty()) {
            (Kernel::Disowned, _) => return Err(Errno::BADF.into()),
            (Kernel::Absent, true) => Kernel::Absent,
            (Kernel::Present, true) => {
                self.remove(fd)?;
                Kernel::Absent
            }
            (Kernel::Absent, false) => {
                self.add(fd, token, interest)?;
                Kernel::Present
            }
            (Kernel::Present, false) => {
                self.modify_or_add(fd, token, interest)?;
                Kernel::Present
            }
        };
        self.entries.update(token, interest, kernel);
        Ok(())
    }

    /// Ends a registration; its token is stale from now on, and so are events
    /// of it that were polled but not accepted. Fine for a closed descriptor,
    /// which has left the kernel's list by itself, and for a stale token.
    pub fn deregister(&mut self, token: Token) -> io::Result<()> {
        match self.entries.remove(token) {
            Some(entry) if entry.kernel == Kernel::Present => self.remove(entry.fd),
            _ => Ok(()),
        }
    }

    /// As `deregister`, for a descriptor that its only owner closes next, which
    /// takes it off the kernel's list: one call less. Should a duplicate in a
    /// forked child keep the file open, its events are stale and go unheard.
    pub fn forget(&mut self, token: Token) {
        self.entries.remove(token);
    }

    /// What a polled event means now: `None` if its registration has ended, or
    /// no longer wants to hear of this direction.
    #[inline]
    pub fn accept(&mut self, raw: RawReadiness) -> Option<Readiness> {
        let entry = self.entries.get_mut(raw.token)?;
        if entry.trigger == Trigger::Level && !entry.delivered {
            entry.delivered = true;
            self.delivered.push(raw.token);
        }
        let readable = raw.readable && entry.interest.readable;
        let writable = raw.writable && entry.interest.writable;
        (readable || writable).then_some(Readiness { token: raw.token, readable, writable, ended: raw.ended })
    }

    /// Puts back every level-triggered descriptor that has reported since the
    /// last call, so that it reports again if it is still ready. To be called
    /// before each poll.
    pub fn rearm(&mut self) -> io::Result<()> {
        while let Some(token) = self.delivered.pop() {
            let Some(entry) = self.entries.get_mut(token) else {
                continue;
            };
            // An interest set in the meantime has put it back already.
            if !std::mem::take(&mut entry.delivered) || entry.kernel != Kernel::Present {
                continue;
            }
            let outcome = self.list.modify(entry.fd, token, entry.interest);
            if let Err(error) = outcome
                && !is_gone(&error)
            {
                return Err(error);
            }
        }
        Ok(())
    }

    /// A handle for other threads to end a blocking poll with.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// The registration that a descriptor number stands for at present.
    pub fn token_of(&self, fd: RawFd) -> Option<Token> {
        self.entries.owner_of(fd)
    }

    /// The descriptor of a registration.
    pub fn fd(&self, token: Token) -> Option<RawFd> {
        self.entries.get(token).map(|entry| entry.fd)
    }

    /// For the child of a fork, which shares the kernel's list with its parent:
    /// a fresh list with the same registrations under the same tokens. Former
    /// wakers would wake the parent: hand out new ones. A descriptor closed
    /// since then keeps its token, which hears nothing, until it is
    /// deregistered. On an error nothing has changed.
    pub fn rebuild(&mut self) -> io::Result<Poller> {
        let (poller, list, waker) = Poller::with_empty_list()?;
        let mut lost = Vec::new();
        for (token, entry) in self.entries.in_kernel() {
            match list.add(entry.fd, token, entry.interest) {
                Ok(()) => {}
                Err(error) if is_gone(&error) => lost.push(token),
                Err(error) => return Err(error),
            }
        }
        for token in lost {
            self.entries.disown(token);
        }
        self.list = list;
        self.waker = waker;
        Ok(poller)
    }

    fn add(&self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        match self.list.add(fd, token, interest) {
            // Nobody else of ours has this number, so what the kernel still
            // lists is a file that a duplicate has kept open past the end of
            // its registration.
            Err(error)
                if error.kind() == io::ErrorKind::AlreadyExists
                    && self.entries.owner_of(fd).is_none_or(|it| it == token) =>
            {
                self.list.modify(fd, token, interest)
            }
            outcome => outcome,
        }
    }

    /// The number may mean another file since it was registered; then the
    /// kernel does not know it.
    fn modify_or_add(&self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        match self.list.modify(fd, token, interest) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.add(fd, token, interest),
            outcome => outcome,
        }
    }

    fn remove(&self, fd: RawFd) -> io::Result<()> {
        match self.list.remove(fd) {
            Err(error) if is_gone(&error) => Ok(()),
            outcome => outcome,
        }
    }
}

/// Whether the descriptor is closed, or its number means a file that the
/// kernel's list does not have, or would not take.
fn is_gone(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [Errno::BADF, Errno::NOENT, Errno::PERM].iter().any(|gone| code == Some(gone.raw_os_error()))
}
