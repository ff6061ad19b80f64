//! From poll token to `Source`: what to queue when a descriptor is ready.
//!
//! One source per registered descriptor, one unit of work per direction. Descriptors stay their owners'; this table
//! only refers to them by number. Loop thread only, inside `Core`.

use std::collections::HashMap;
use std::io;
use std::os::fd::RawFd;

use mioloop_core::poller::{Interest, Readiness, Registry, Token, Trigger};

use super::ready::Ready;

/// One direction of a descriptor.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

struct Source {
    fd: RawFd,
    token: Token,
    read: Option<Ready>,
    write: Option<Ready>,
}

impl Source {
    fn interest(&self) -> Interest {
        Interest { readable: self.read.is_some(), writable: self.write.is_some() }
    }

    fn slot(&mut self, direction: Direction) -> &mut Option<Ready> {
        match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        }
    }
}

/// The table. Whatever a method takes out it returns: dropping it may run Python code.
pub(crate) struct Sources {
    by_fd: HashMap<RawFd, Source>,
    fd_of: HashMap<Token, RawFd>,
}

impl Sources {
    pub(crate) fn new() -> Self {
        Sources { by_fd: HashMap::new(), fd_of: HashMap::new() }
    }

    /// Queues `work` whenever `fd` is ready in this direction, level-triggered. Returns the work it replaces; on error
    /// also the new work, so that the caller may drop it.
    pub(crate) fn watch(
        &mut self,
        registry: &mut Registry,
        fd: RawFd,
        direction: Direction,
        work: Ready,
    ) -> Result<Option<Ready>, (io::Error, Ready)> {
        if let Some(source) = self.by_fd.get_mut(&fd) {
            let replaced = source.slot(direction).replace(work);
            if replaced.is_some() {
                return Ok(replaced);
            }
            let interest = source.interest();
            return match registry.set_interest(source.token, interest) {
                Ok(()) => Ok(None),
                Err(error) => Err((error, source.slot(direction).take().expect("it was put there above"))),
            };
        }
        let interest = Interest { readable: direction == Direction::Read, writable: direction == Direction::Write };
        let token = match registry.register(fd, interest, Trigger::Level) {
            Ok(token) => token,
            Err(error) => return Err((error, work)),
        };
        let mut source = Source { fd, token, read: None, write: None };
        *source.slot(direction) = Some(work);
        self.fd_of.insert(token, fd);
        self.by_fd.insert(fd, source);
        Ok(None)
    }

    /// Stops watching one direction; returns its work if there was any.
    pub(crate) fn unwatch(
        &mut self,
        registry: &mut Registry,
        fd: RawFd,
        direction: Direction,
    ) -> io::Result<Option<Ready>> {
        let Some(source) = self.by_fd.get_mut(&fd) else { return Ok(None) };
        let Some(work) = source.slot(direction).take() else { return Ok(None) };
        let (interest, token) = (source.interest(), source.token);
        if interest.readable || interest.writable {
            registry.set_interest(token, interest)?;
        } else {
            self.by_fd.remove(&fd);
            self.fd_of.remove(&token);
            registry.deregister(token)?;
        }
        Ok(Some(work))
    }

    pub(crate) fn is_watched(&self, fd: RawFd, direction: Direction) -> bool {
        let slot = |source: &Source| match direction {
            Direction::Read => source.read.is_some(),
            Direction::Write => source.write.is_some(),
        };
        self.by_fd.get(&fd).is_some_and(slot)
    }

    /// What to queue for one readiness, reading before writing.
    pub(crate) fn ready(&self, readiness: Readiness) -> impl Iterator<Item = &Ready> {
        let source = self.fd_of.get(&readiness.token).and_then(|fd| self.by_fd.get(fd));
        let read = source.and_then(|source| source.read.as_ref()).filter(|_| readiness.readable);
        let write = source.and_then(|source| source.write.as_ref()).filter(|_| readiness.writable);
        read.into_iter().chain(write)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Ready> {
        self.by_fd.values().flat_map(|source| source.read.iter().chain(&source.write))
    }

    pub(crate) fn clear(&mut self, registry: &mut Registry) -> Vec<Ready> {
        self.fd_of.clear();
        let mut work = Vec::new();
        for (_, source) in self.by_fd.drain() {
            debug_assert!(source.fd >= 0);
            // The loop goes away with its registrations: an error here has nobody to matter to.
            let _ = registry.deregister(source.token);
            work.extend(source.read);
            work.extend(source.write);
        }
        work
    }
}
