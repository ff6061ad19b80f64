//! A timer of nanosecond precision that the kernel's readiness queue can wait
//! for: epoll's own timeout counts in milliseconds.
//!
//! The poller makes one for itself, registers it edge-triggered and sets it
//! before every short wait. It is never read: setting it takes back
//! an expiry that nobody has seen, so a late one cannot end a later short wait.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

#[derive(Debug)]
pub(super) struct Alarm {
    timer: OwnedFd,
}

impl Alarm {
    pub(super) fn new() -> io::Result<Alarm> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Alarm { timer })
    }

    pub(super) fn fd(&self) -> RawFd {
        self.timer.as_raw_fd()
    }

    /// Sets the alarm; `ns` must not be 0, which would turn it off.
    pub(super) fn ring_in(&self, ns: u64) -> io::Result<()> {
        let setting = Itimerspec {
            // It rings once.
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec { tv_sec: (ns / 1_000_000_000) as _, tv_nsec: (ns % 1_000_000_000) as _ },
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &setting)?;
        Ok(())
    }
}
