//! The poller against real pipes, sockets and files. Here is what its tests
//! share: one turn's worth of polling, and the interests by name.

mod descriptors;
mod readiness;
mod waits;

use std::os::fd::AsRawFd;

use mioloop_core::poller::{Interest, Poller, Readiness, Registry, Token, Trigger, Wait};

const READ: Interest = Interest { readable: true, writable: false };
const WRITE: Interest = Interest { readable: false, writable: true };
const BOTH: Interest = Interest { readable: true, writable: true };
const NOTHING: Interest = Interest { readable: false, writable: false };

struct Fixture {
    poller: Poller,
    registry: Registry,
}

impl Fixture {
    fn new() -> Self {
        let (poller, registry) = Poller::new().expect("descriptors to spare");
        Self { poller, registry }
    }

    /// One turn's worth of polling.
    fn poll(&mut self, wait: Wait) -> Vec<Readiness> {
        let mut raw = Vec::new();
        self.registry.rearm().expect("epoll takes it back");
        self.poller.poll(wait, &mut raw).expect("epoll waits");
        raw.into_iter().filter_map(|event| self.registry.accept(event)).collect()
    }

    fn now(&mut self) -> Vec<Readiness> {
        self.poll(Wait::Now)
    }

    fn register(&mut self, fd: &impl AsRawFd, interest: Interest, trigger: Trigger) -> Token {
        self.registry.register(fd.as_raw_fd(), interest, trigger).expect("an open socket or pipe")
    }
}

fn event(token: Token, readable: bool, writable: bool) -> Vec<Readiness> {
    vec![Readiness { token, readable, writable, ended: false }]
}

/// As `event`, of a descriptor whose input has ended, or that is broken.
fn last_event(token: Token, readable: bool, writable: bool) -> Vec<Readiness> {
    vec![Readiness { token, readable, writable, ended: true }]
}
