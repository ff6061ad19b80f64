//! `Bell`: how a thread without the interpreter tells the loop that there is something to fetch.
//!
//! The inbox is not for such threads: what it carries refers to Python objects. Here nothing is carried. Whoever hangs at
//! the bell (`dns/lookups.rs`) keeps what the threads leave in a place of its own, and is queued after the next poll.

use std::sync::atomic::{AtomicBool, Ordering::AcqRel};

use mioloop_core::poller::Waker;

/// Any thread.
pub(crate) struct Bell {
    rung: AtomicBool,
    waker: Option<Waker>,
}

impl Bell {
    pub(super) fn new(waker: Option<Waker>) -> Self {
        Bell { rung: AtomicBool::new(false), waker }
    }

    /// Called after something was left to be fetched. The poll that blocks now, or else the next one, comes back at once.
    pub(crate) fn ring(&self) {
        if !self.rung.swap(true, AcqRel) {
            // A loop that was closed has no poller to wake, and nobody who would fetch anything.
            let _ = self.waker.as_ref().map(Waker::wake);
        }
    }

    /// Loop thread only. Asked after each poll; what was left before the ring can be seen from here on.
    pub(super) fn was_rung(&self) -> bool {
        self.rung.swap(false, AcqRel)
    }
}
