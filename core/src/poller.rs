//! Readiness of descriptors, wake-ups from other threads, and waits of exact
//! length: the only file that names mio.
//!
//! The run cycle owns both halves. [`Poller`] waits, and may be away on a
//! blocking call while [`Registry`], which says what is waited for, stays
//! usable. mio reports *edges*; [`Trigger::Level`] registrations are put back
//! before the next poll, so that a descriptor nobody has read reports again.
//! Descriptors stay their owners': nothing here opens, reads or closes one, and
//! one that was closed behind our back is an error to its caller or nothing at
//! all, never a panic and never an event for whoever got its number next.

#[cfg(any(target_os = "linux", target_os = "android"))]
mod alarm;
mod entries;
mod registry;

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use mio::unix::SourceFd;

#[cfg(any(target_os = "linux", target_os = "android"))]
use alarm::Alarm;
pub use entries::{Interest, RawReadiness, Readiness, Token, Trigger};
pub use registry::Registry;

/// How many events one poll takes at most; the rest comes with the next.
const EVENTS: usize = 1024;

/// How the waker's and the alarm's events are told from descriptors': no slot
/// has an index that high.
const WAKER: mio::Token = mio::Token(usize::MAX);
#[cfg(any(target_os = "linux", target_os = "android"))]
const ALARM: mio::Token = mio::Token(usize::MAX - 1);

/// Waits below this end by the alarm. Longer ones are cut to milliseconds,
/// which the kernel's own timeout counts in, and leave the rest to the caller's
/// next wait: most of them end by an event, and then have cost one call.
#[cfg(any(target_os = "linux", target_os = "android"))]
const ALARM_BELOW_NS: u64 = 2_000_000;

/// How long [`Poller::poll`] may block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    Now,
    /// About so many nanoseconds: on Linux never later than the timer's
    /// precision, but possibly up to a millisecond sooner when it is long.
    For(u64),
    /// Until something happens.
    Forever,
}

/// Ends the poll that blocks now, or else the next one. Any thread.
#[derive(Debug, Clone)]
pub struct Waker {
    inner: Arc<mio::Waker>,
}

impl Waker {
    /// Wakes the loop. Errors are the operating system's.
    pub fn wake(&self) -> io::Result<()> {
        self.inner.wake()
    }
}

/// The half that waits. One thread at a time.
#[derive(Debug)]
pub struct Poller {
    poll: mio::Poll,
    events: mio::Events,
    #[cfg(any(target_os = "linux", target_os = "android"))]
    alarm: Option<Alarm>,
}

impl Poller {
    /// A poller and the registry that says what it waits for.
    pub fn new() -> io::Result<(Poller, Registry)> {
        let (poller, list, waker) = Poller::with_empty_list()?;
        Ok((poller, Registry::new(list, waker)))
    }

    /// Waits, then replaces what is in `out` by what has become ready. It may
    /// come back early and empty-handed: woken, interrupted by a signal, or
    /// because the wait was cut to whole milliseconds.
    pub fn poll(&mut self, wait: Wait, out: &mut Vec<RawReadiness>) -> io::Result<()> {
        out.clear();
        let timeout = self.timeout(wait);
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error),
        }
        out.extend(self.events.iter().filter_map(readiness));
        Ok(())
    }

    /// A poller, the kernel's list that it waits on, and what wakes it.
    fn with_empty_list() -> io::Result<(Poller, List, Waker)> {
        let poll = mio::Poll::new()?;
        let list = List { registry: poll.registry().try_clone()? };
        let waker = Waker { inner: Arc::new(mio::Waker::new(poll.registry(), WAKER)?) };
        let poller = Poller {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            alarm: Self::alarm(poll.registry()).ok(),
            poll,
            events: mio::Events::with_capacity(EVENTS),
        };
        Ok((poller, list, waker))
    }

    /// What mio shall be told. It rounds up to milliseconds on Linux, so that a
    /// short wait is left to the alarm, which knows nanoseconds.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn timeout(&mut self, wait: Wait) -> Option<Duration> {
        match wait {
            Wait::Now | Wait::For(0) => Some(Duration::ZERO),
            Wait::Forever => None,
            Wait::For(ns) if ns >= ALARM_BELOW_NS => Some(Duration::from_millis(ns / 1_000_000)),
            Wait::For(ns) => {
                // Without a descriptor to spare for an alarm, mio's rounding
                // makes the wait a little late, which no caller can die of.
                let rings = self.alarm.as_ref().is_some_and(|alarm| alarm.ring_in(ns).is_ok());
                (!rings).then_some(Duration::from_nanos(ns))
            }
        }
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn timeout(&mut self, wait: Wait) -> Option<Duration> {
        match wait {
            Wait::Now => Some(Duration::ZERO),
            // kqueue refuses some very long waits; the caller comes again.
            Wait::For(ns) => Some(Duration::from_nanos(ns).min(Duration::from_secs(86_400))),
            Wait::Forever => None,
        }
    }

    /// Made with the poller, not when it is first needed: by then a descriptor
    /// that somebody waits for may have been closed, and the alarm would get
    /// its number, and be removed in its place.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn alarm(registry: &mio::Registry) -> io::Result<Alarm> {
        let alarm = Alarm::new()?;
        registry.register(&mut SourceFd(&alarm.fd()), ALARM, mio::Interest::READABLE)?;
        Ok(alarm)
    }
}

/// The kernel's list of descriptors to wait for, shared with a poller.
#[derive(Debug)]
struct List {
    registry: mio::Registry,
}

impl List {
    fn add(&self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        let (token, wanted) = (mio::Token(token.packed()), to_mio(interest));
        self.registry.register(&mut SourceFd(&fd), token, wanted)
    }

    fn modify(&self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        let (token, wanted) = (mio::Token(token.packed()), to_mio(interest));
        self.registry.reregister(&mut SourceFd(&fd), token, wanted)
    }

    fn remove(&self, fd: RawFd) -> io::Result<()> {
        self.registry.deregister(&mut SourceFd(&fd))
    }
}

/// mio has no empty interest; nobody puts one into the list.
fn to_mio(interest: Interest) -> mio::Interest {
    match (interest.readable, interest.writable) {
        (true, true) => mio::Interest::READABLE | mio::Interest::WRITABLE,
        (false, true) => mio::Interest::WRITABLE,
        (_, false) => mio::Interest::READABLE,
    }
}

/// Errors and hang-ups count in both directions, as in `selectors`, so that
/// whoever waits finds out by its next call; the end of input alone (RDHUP) is
/// only something to read. `None`: not a descriptor's event.
fn readiness(event: &mio::event::Event) -> Option<RawReadiness> {
    let mio::Token(packed) = event.token();
    if event.token() == WAKER {
        return None;
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if event.token() == ALARM {
        return None;
    }
    let broken = event.is_error() || event.is_write_closed();
    Some(RawReadiness {
        token: Token::from_packed(packed),
        readable: broken || event.is_readable() || event.is_read_closed(),
        writable: broken || event.is_writable(),
        ended: broken || event.is_read_closed(),
    })
}
