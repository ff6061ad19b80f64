//! What the deadline queue costs with ten thousand and with a million timers
//! alive: `cargo bench -p mioloop-core --bench timers`.
//!
//! It prints nanoseconds per operation; for instructions, run it under
//! `valgrind --tool=callgrind`. A plain program, so that it needs no framework.

use std::hint::black_box;
use std::time::Instant;

use mioloop_core::timers::Timers;

const ROUNDS: u64 = 1_000_000;
const MINUTE: u64 = 60_000_000_000;

/// Deadlines in no order, all in the second minute.
fn scattered(index: u64) -> u64 {
    MINUTE + index.wrapping_mul(0x9E37_79B9_7F4A_7C15) % MINUTE
}

fn filled(live: u64) -> Timers<u64> {
    let mut timers = Timers::new();
    for index in 0..live {
        timers.insert(scattered(index), index);
    }
    timers.next_deadline();
    timers
}

fn report(what: &str, live: u64, count: u64, run: impl FnOnce()) {
    let start = Instant::now();
    run();
    let each = start.elapsed().as_nanos() as f64 / count as f64;
    println!("{live:>9} live   {what:<44} {each:>8.1} ns");
}

fn measure(live: u64) {
    let mut timers = filled(live);
    report("insert + cancel", live, ROUNDS, || {
        for index in 0..ROUNDS {
            let key = timers.insert(MINUTE * 2 + index, index);
            black_box(timers.cancel(black_box(key)));
        }
    });
    report("insert, a turn, cancel", live, ROUNDS, || {
        for index in 0..ROUNDS {
            let key = timers.insert(MINUTE * 2 + index, index);
            black_box(timers.pop_expired(index));
            black_box(timers.next_deadline());
            black_box(timers.cancel(black_box(key)));
        }
    });
    report("insert, a turn, cancel 1,000 inserts later", live, ROUNDS, || {
        let mut keys = vec![Default::default(); 1_000];
        for index in 0..ROUNDS {
            let key = timers.insert(MINUTE * 2 + index, index);
            black_box(timers.pop_expired(index));
            black_box(timers.next_deadline());
            let former = std::mem::replace(&mut keys[index as usize % 1_000], key);
            black_box(timers.cancel(former));
        }
        for key in keys {
            timers.cancel(key);
        }
    });
    report("a turn with nothing due", live, ROUNDS, || {
        for index in 0..ROUNDS {
            black_box(timers.pop_expired(black_box(index)));
            black_box(timers.next_deadline());
        }
    });
    report("insert due now + pop", live, ROUNDS, || {
        for index in 0..ROUNDS {
            timers.insert(index, index);
            black_box(timers.pop_expired(index));
        }
    });
    report("pop them all", live, live, || {
        while let Some(value) = timers.pop_expired(u64::MAX) {
            black_box(value);
        }
    });
}

fn main() {
    for live in [0, 10_000, 1_000_000] {
        measure(live.max(1));
    }
}
