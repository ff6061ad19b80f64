//! How long a poll blocks, and what ends it.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use mioloop_core::poller::{Trigger, Wait};

use crate::{Fixture, READ, event};

#[test]
fn a_waker_ends_a_wait_from_another_thread() {
    let mut it = Fixture::new();
    let waker = it.registry.waker().clone();
    let other = thread::spawn(move || waker.wake());
    assert!(it.poll(Wait::Forever).is_empty());
    other.join().unwrap().unwrap();
    // The wake-up was used up, so this one waits its time.
    let start = Instant::now();
    assert!(it.poll(Wait::For(3_000_000)).is_empty());
    assert!(start.elapsed() >= Duration::from_millis(3));
}

#[test]
fn wake_ups_before_the_wait_count_once() {
    let mut it = Fixture::new();
    for _ in 0..3 {
        it.registry.waker().wake().unwrap();
    }
    assert!(it.poll(Wait::Forever).is_empty());
    let start = Instant::now();
    assert!(it.poll(Wait::For(1_000_000)).is_empty());
    assert!(start.elapsed() >= Duration::from_millis(1));
}

#[test]
fn a_registration_reaches_a_poll_that_is_blocking() {
    let mut it = Fixture::new();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(b"a").unwrap();
    let mut poller = it.poller;
    let waiting = thread::spawn(move || {
        let mut raw = Vec::new();
        poller.poll(Wait::Forever, &mut raw).map(|()| raw)
    });
    let token = it.registry.register(ours.as_raw_fd(), READ, Trigger::Level).unwrap();
    let raw = waiting.join().unwrap().unwrap();
    assert_eq!(raw.len(), 1);
    assert!(it.registry.accept(raw[0]).unwrap().token == token);
}

/// How long each of some waits took, sorted.
fn waits(it: &mut Fixture, ns: u64, count: usize) -> Vec<Duration> {
    let mut taken: Vec<Duration> = (0..count)
        .map(|_| {
            let start = Instant::now();
            assert!(it.poll(Wait::For(ns)).is_empty());
            start.elapsed()
        })
        .collect();
    taken.sort_unstable();
    taken
}

#[test]
#[cfg(target_os = "linux")]
fn short_waits_are_exact() {
    let mut it = Fixture::new();
    let taken = waits(&mut it, 200_000, 51);
    assert!(taken[0] >= Duration::from_micros(200), "{taken:?}");
    assert!(taken[25] < Duration::from_micros(900), "{taken:?}");
    let shortest = waits(&mut it, 1, 5);
    assert!(shortest[2] < Duration::from_micros(900), "{shortest:?}");
}

#[test]
#[cfg(target_os = "linux")]
fn long_waits_are_cut_to_milliseconds_but_not_below() {
    let mut it = Fixture::new();
    let taken = waits(&mut it, 5_900_000, 9);
    assert!(taken[0] >= Duration::from_millis(5), "{taken:?}");
    assert!(taken[4] < Duration::from_millis(6), "{taken:?}");
}

#[test]
fn an_alarm_that_came_second_does_not_end_the_next_short_wait() {
    let mut it = Fixture::new();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let token = it.register(&ours, READ, Trigger::Edge);
    theirs.write_all(b"a").unwrap();
    assert_eq!(it.poll(Wait::For(100_000)), event(token, true, false));
    // Let the alarm of that wait go off unheard.
    thread::sleep(Duration::from_micros(300));
    let start = Instant::now();
    assert!(it.poll(Wait::For(1_500_000)).is_empty());
    assert!(start.elapsed() >= Duration::from_micros(1_500));
}

#[test]
fn no_wait_is_no_wait() {
    let mut it = Fixture::new();
    assert!(it.poll(Wait::For(0)).is_empty());
    assert!(it.poll(Wait::Now).is_empty());
}
