//! Properties of the deadline queue, against an oracle that keeps every timer
//! in one sorted list, and single cases by name.

use mioloop_core::clock::{Clock, FakeClock};
use mioloop_core::timers::{TimerKey, Timers};
use proptest::prelude::*;

/// What the queue promises, in the plainest form.
#[derive(Default)]
struct Oracle {
    /// (deadline, order of insertion), sorted.
    waiting: Vec<(u64, u64)>,
}

impl Oracle {
    fn insert(&mut self, deadline: u64, id: u64) {
        let at = self.waiting.partition_point(|it| *it <= (deadline, id));
        self.waiting.insert(at, (deadline, id));
    }

    fn cancel(&mut self, id: u64) -> Option<u64> {
        let at = self.waiting.iter().position(|it| it.1 == id)?;
        Some(self.waiting.remove(at).1)
    }

    fn pop(&mut self, now: u64) -> Option<u64> {
        let first = self.waiting.first().copied()?;
        (first.0 <= now).then(|| self.waiting.remove(0).1)
    }

    fn next_deadline(&self) -> Option<u64> {
        self.waiting.first().map(|it| it.0)
    }
}

#[derive(Debug, Clone)]
enum Step {
    Insert(u64),
    InsertMany(u16, u64),
    /// Which of all keys ever given out, valid or not.
    Cancel(prop::sample::Index),
    CancelMany(prop::sample::Index, u16),
    Pop,
    PopAll,
    NextDeadline,
    Advance(u64),
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    // Few distinct delays, so that equal deadlines abound.
    let delay = prop_oneof![0_u64..8, Just(1_000), 0_u64..100_000];
    prop_oneof![
        8 => delay.clone().prop_map(Step::Insert),
        1 => (1_u16..300, delay).prop_map(|(count, delay)| Step::InsertMany(count, delay)),
        8 => any::<prop::sample::Index>().prop_map(Step::Cancel),
        1 => (any::<prop::sample::Index>(), 1_u16..300)
            .prop_map(|(from, count)| Step::CancelMany(from, count)),
        4 => Just(Step::Pop),
        2 => Just(Step::PopAll),
        4 => Just(Step::NextDeadline),
        4 => prop_oneof![0_u64..8, 0_u64..2_000].prop_map(Step::Advance),
        1 => prop::bool::weighted(0.05)
            .prop_map(|clear| if clear { Step::Clear } else { Step::PopAll }),
    ]
}

#[derive(Default)]
struct Both {
    clock: FakeClock,
    timers: Timers<u64>,
    oracle: Oracle,
    keys: Vec<TimerKey>,
}

impl Both {
    fn insert(&mut self, delay: u64) {
        let deadline = self.clock.now_ns() + delay;
        let id = self.keys.len() as u64;
        self.keys.push(self.timers.insert(deadline, id));
        self.oracle.insert(deadline, id);
    }

    fn cancel(&mut self, at: usize) {
        if let Some(&key) = self.keys.get(at) {
            assert_eq!(self.timers.cancel(key), self.oracle.cancel(at as u64));
        }
    }

    fn pop(&mut self) -> bool {
        let now = self.clock.now_ns();
        let popped = self.timers.pop_expired(now);
        assert_eq!(popped, self.oracle.pop(now));
        popped.is_some()
    }

    fn clear(&mut self) {
        let mut cleared = self.timers.clear();
        cleared.sort_unstable();
        let mut expected: Vec<u64> = self.oracle.waiting.drain(..).map(|it| it.1).collect();
        expected.sort_unstable();
        assert_eq!(cleared, expected);
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Insert(delay) => self.insert(delay),
            Step::InsertMany(count, delay) => {
                for index in 0..u64::from(count) {
                    self.insert(delay + index % 5);
                }
            }
            Step::Cancel(which) if !self.keys.is_empty() => {
                self.cancel(which.index(self.keys.len()));
            }
            Step::CancelMany(from, count) if !self.keys.is_empty() => {
                let from = from.index(self.keys.len());
                for at in from..from + usize::from(count) {
                    self.cancel(at);
                }
            }
            Step::Cancel(_) | Step::CancelMany(..) => {}
            Step::Pop => {
                self.pop();
            }
            Step::PopAll => while self.pop() {},
            Step::NextDeadline => {
                assert_eq!(self.timers.next_deadline(), self.oracle.next_deadline());
            }
            Step::Advance(by) => self.clock.advance(by),
            Step::Clear => self.clear(),
        }
        assert_eq!(self.timers.len(), self.oracle.waiting.len());
        assert_eq!(self.timers.is_empty(), self.oracle.waiting.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn behaves_like_a_sorted_list(steps in prop::collection::vec(step(), 0..200)) {
        let mut both = Both::default();
        for step in steps {
            both.take(step);
        }
        let mut live: Vec<u64> = both.timers.iter().copied().collect();
        live.sort_unstable();
        let mut expected: Vec<u64> = both.oracle.waiting.iter().map(|it| it.1).collect();
        expected.sort_unstable();
        prop_assert_eq!(live, expected);
        both.clock.set(u64::MAX);
        while both.pop() {}
        prop_assert!(both.timers.is_empty());
    }
}

#[test]
fn equal_deadlines_fire_in_the_order_of_insertion() {
    let mut timers = Timers::new();
    for value in 0..1_000 {
        timers.insert(7, value);
        if value % 100 == 0 {
            // Some are in the heap, some not, when the next ones come.
            timers.next_deadline();
        }
    }
    let fired: Vec<i32> = std::iter::from_fn(|| timers.pop_expired(7)).collect();
    assert!(fired.is_sorted() && fired.len() == 1_000);
}

#[test]
fn a_cancelled_timer_does_not_let_those_behind_it_overtake() {
    let mut timers = Timers::new();
    let first = timers.insert(1, "first");
    timers.insert(3, "third");
    for _ in 0..100 {
        // Enough to send all that waits to the heap.
        timers.insert(9, "late");
    }
    timers.next_deadline();
    timers.cancel(first);
    timers.insert(2, "second");
    assert_eq!(timers.pop_expired(3), Some("second"));
    assert_eq!(timers.pop_expired(3), Some("third"));
    assert_eq!(timers.pop_expired(3), None);
}

#[test]
fn never_early() {
    let mut timers = Timers::new();
    timers.insert(10, ());
    assert_eq!(timers.pop_expired(9), None);
    assert_eq!(timers.pop_expired(10), Some(()));
}

#[test]
fn a_key_dies_with_its_timer_though_the_slot_lives_on() {
    let mut timers = Timers::new();
    let fired = timers.insert(1, "fired");
    assert_eq!(timers.pop_expired(1), Some("fired"));
    let cancelled = timers.insert(2, "cancelled");
    assert_eq!(timers.cancel(fired), None);
    assert_eq!(timers.cancel(cancelled), Some("cancelled"));
    timers.insert(3, "third");
    assert_eq!(timers.cancel(fired), None);
    assert_eq!(timers.cancel(cancelled), None);
    assert_eq!(timers.len(), 1);
}

#[test]
fn the_default_key_and_keys_from_before_a_clear_name_nothing() {
    let mut timers = Timers::new();
    assert_eq!(timers.cancel(TimerKey::default()), None);
    let before = timers.insert(1, 1);
    assert_eq!(timers.clear(), [1]);
    assert_eq!(timers.cancel(before), None);
    timers.insert(1, 2);
    assert_eq!(timers.cancel(before), None);
    assert_eq!(timers.cancel(TimerKey::default()), None);
}

#[test]
fn cancelling_the_earliest_moves_the_deadline_back() {
    let mut timers = Timers::new();
    let first = timers.insert(5, ());
    let second = timers.insert(6, ());
    timers.insert(7, ());
    assert_eq!(timers.next_deadline(), Some(5));
    timers.cancel(first);
    assert_eq!(timers.next_deadline(), Some(6));
    timers.cancel(second);
    assert_eq!(timers.pop_expired(6), None);
    assert_eq!(timers.next_deadline(), Some(7));
}

#[test]
fn the_last_nanosecond_is_a_deadline_like_any_other() {
    let mut timers = Timers::new();
    timers.insert(u64::MAX, ());
    assert_eq!(timers.next_deadline(), Some(u64::MAX));
    assert_eq!(timers.pop_expired(u64::MAX - 1), None);
    assert_eq!(timers.pop_expired(u64::MAX), Some(()));
    assert_eq!(timers.next_deadline(), None);
}
