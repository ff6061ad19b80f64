//! Monotonic time in whole nanoseconds, and the two conversions between it and
//! the float seconds of Python's `loop.time()`.
//!
//! The run cycle reads the clock once a turn; `call_at` and `call_later` turn
//! their seconds into a deadline here. Nothing here sleeps, and no conversion
//! can make a timer early: rounding always goes to the later nanosecond.

use std::cell::Cell;

use rustix::time::{ClockId, clock_gettime};

const NANOS_PER_SECOND: f64 = 1e9;

/// Up to here every whole number of nanoseconds is an `f64` of its own.
const EXACT_BELOW: f64 = 9_007_199_254_740_992.0;

/// A source of monotonic time.
pub trait Clock {
    /// Nanoseconds since an arbitrary, fixed moment; never goes backwards.
    fn now_ns(&self) -> u64;
}

/// `CLOCK_MONOTONIC`, which is what `time.monotonic()` reads on Linux, so that
/// `loop.time()` and `time.monotonic()` can be compared as in asyncio.
#[derive(Debug, Default, Clone, Copy)]
pub struct MonotonicClock;

impl Clock for MonotonicClock {
    #[inline]
    fn now_ns(&self) -> u64 {
        let now = clock_gettime(ClockId::Monotonic);
        // The monotonic clock starts at boot, so neither part is ever negative.
        (now.tv_sec as u64) * 1_000_000_000 + now.tv_nsec as u64
    }
}

/// A clock that moves only when it is told to, for deterministic tests.
#[derive(Debug, Default)]
pub struct FakeClock {
    now: Cell<u64>,
}

impl FakeClock {
    /// A clock that stands at `now_ns`.
    pub fn new(now_ns: u64) -> Self {
        Self { now: Cell::new(now_ns) }
    }

    /// Moves the clock to `now_ns`, be it later or earlier.
    pub fn set(&self, now_ns: u64) {
        self.now.set(now_ns);
    }

    /// Moves the clock forward; it stops at the end of time.
    pub fn advance(&self, by_ns: u64) {
        self.now.set(self.now.get().saturating_add(by_ns));
    }
}

impl Clock for FakeClock {
    fn now_ns(&self) -> u64 {
        self.now.get()
    }
}

/// The float seconds that Python sees for a clock reading, computed as
/// CPython computes `time.monotonic()`.
#[inline]
pub fn seconds(ns: u64) -> f64 {
    ns as f64 / NANOS_PER_SECOND
}

/// The first nanosecond at which `seconds(now) >= when_seconds` holds for sure.
///
/// Too far away (infinity included) is `u64::MAX`, which is never reached;
/// the past and NaN are 0, so that a NaN fires at once as it does in asyncio.
#[inline]
pub fn deadline_ns(when_seconds: f64) -> u64 {
    let mut nanos = (when_seconds * NANOS_PER_SECOND).ceil();
    // The product is rounded, possibly downwards across a whole nanosecond;
    // then `seconds` of the result would still lie before `when_seconds`.
    if nanos / NANOS_PER_SECOND < when_seconds {
        nanos = if nanos < EXACT_BELOW { nanos + 1.0 } else { nanos.next_up() };
    }
    // `as` saturates at both ends and takes NaN to zero.
    nanos as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_ends_of_the_range() {
        assert_eq!(deadline_ns(f64::INFINITY), u64::MAX);
        assert_eq!(deadline_ns(f64::MAX), u64::MAX);
        assert_eq!(deadline_ns(1e11), u64::MAX);
        assert_eq!(deadline_ns(f64::NEG_INFINITY), 0);
        assert_eq!(deadline_ns(-1.0), 0);
        assert_eq!(deadline_ns(-0.0), 0);
        assert_eq!(deadline_ns(f64::NAN), 0);
    }

    #[test]
    fn fractions_of_a_nanosecond_round_up() {
        assert_eq!(deadline_ns(0.0), 0);
        assert_eq!(deadline_ns(f64::MIN_POSITIVE), 1);
        assert_eq!(deadline_ns(1e-10), 1);
        assert_eq!(deadline_ns(1.0), 1_000_000_000);
        assert_eq!(deadline_ns(1.5), 1_500_000_000);
    }

    #[test]
    fn the_monotonic_clock_does_not_go_backwards() {
        let before = MonotonicClock.now_ns();
        let after = MonotonicClock.now_ns();
        assert!(before > 0 && after >= before);
    }

    #[test]
    fn the_fake_clock_moves_when_told() {
        let clock = FakeClock::new(5);
        clock.advance(10);
        assert_eq!(clock.now_ns(), 15);
        clock.set(3);
        assert_eq!(clock.now_ns(), 3);
        clock.advance(u64::MAX);
        assert_eq!(clock.now_ns(), u64::MAX);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn reached_means_not_early(when in 0.0..1.8e10_f64, later in 0_u64..1_000) {
            let now = deadline_ns(when).saturating_add(later);
            prop_assert!(seconds(now) >= when);
        }

        #[test]
        fn reached_means_not_early_within_a_day(when in 0.0..86_400.0_f64, later in 0_u64..3) {
            prop_assert!(seconds(deadline_ns(when) + later) >= when);
        }

        #[test]
        fn never_late_by_more_than_the_float_allows(ns in 0_u64..(1 << 53)) {
            // A reading turned into seconds and back is due within its own
            // rounding error.
            let when = seconds(ns);
            let ulp_ns = ((when.next_up() - when) * 1e9).ceil() as u64;
            prop_assert!(deadline_ns(when) <= ns + 1 + ulp_ns);
        }
    }
}
