//! Work that other threads push to the loop, and the flag that tells them
//! whether the loop must be woken.
//!
//! `call_soon_threadsafe` pushes; the run cycle drains at every turn, and
//! before it blocks publishes that it is idle and looks once more. Whoever
//! finds the loop idle takes the flag down and owes it a wake-up, so a burst of
//! pushes costs one. Nothing here blocks except on the queue's short lock,
//! wakes anybody by itself, or drops an item: dropping may run Python code.

use std::collections::VecDeque;
use std::sync::{PoisonError, TryLockError};

#[cfg(loom)]
use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};
#[cfg(not(loom))]
use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};

/// A queue from any thread to the loop's thread.
///
/// Why no wake-up is lost: a pusher first sets `pending`, then swaps `idle`;
/// the loop first swaps `idle`, then reads `pending`. The swaps of one flag
/// have one order. If the pusher's came first, the loop's swap has read from it
/// (or from a later swap, which passes it on) and so sees `pending`. If the
/// loop's came first, a pusher finds `idle` raised and wakes. This needs every
/// write to `idle` to be a swap: a plain store would break the chain.
#[derive(Debug)]
pub struct Inbox<T> {
    /// Any thread.
    queue: Mutex<VecDeque<T>>,
    /// Any thread reads it; written under the lock of the queue.
    pending: AtomicBool,
    /// Raised by the loop's thread, taken down by whoever comes first.
    idle: AtomicBool,
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Inbox<T> {
    /// An empty inbox of a loop that is awake.
    pub fn new() -> Self {
        Self { queue: Mutex::new(VecDeque::new()), pending: AtomicBool::new(false), idle: AtomicBool::new(false) }
    }

    /// Any thread. Queues `item`; true if the caller must now wake the loop.
    /// Only one pusher is told so for each time the loop prepares to block.
    #[must_use = "true means that the loop sleeps until somebody wakes it"]
    pub fn push(&self, item: T) -> bool {
        {
            let mut queue = self.lock();
            queue.push_back(item);
            self.pending.store(true, Ordering::Release);
        }
        self.idle.swap(false, Ordering::AcqRel)
    }

    /// Any thread. Whether nothing is queued, as far as this thread can know.
    #[inline]
    pub fn is_empty(&self) -> bool {
        !self.pending.load(Ordering::Acquire)
    }

    /// Moves everything queued to the end of `out`, in order.
    pub fn drain(&self, out: &mut VecDeque<T>) {
        if self.is_empty() {
            return;
        }
        let mut queue = self.lock();
        if out.is_empty() {
            // Both buffers keep their capacity and serve in turn.
            std::mem::swap(&mut *queue, out);
        } else {
            out.append(&mut queue);
        }
        self.pending.store(false, Ordering::Release);
    }

    /// Loop thread. Publishes that the loop is about to block, and looks for
    /// work once more. False: there is some, do not block.
    #[must_use = "false means that there is work and the loop must not block"]
    pub fn prepare_to_block(&self) -> bool {
        self.idle.swap(true, Ordering::AcqRel);
        if self.is_empty() {
            return true;
        }
        self.resume();
        false
    }

    /// Loop thread. Says that the loop is awake again: pushers need not wake
    /// it.
    pub fn resume(&self) {
        self.idle.swap(false, Ordering::AcqRel);
    }

    /// Shows every queued item to `visit`, unless another thread holds the
    /// lock: then it shows none, because a garbage collector must not wait.
    pub fn for_each(&self, mut visit: impl FnMut(&T)) {
        let queue = match self.queue.try_lock() {
            Ok(queue) => queue,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        for item in &*queue {
            visit(item);
        }
    }

    /// The queue is whole between any two of its operations, so a panic in
    /// another thread is no reason to give it up.
    fn lock(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;

    fn drained<T>(inbox: &Inbox<T>) -> Vec<T> {
        let mut out = VecDeque::new();
        inbox.drain(&mut out);
        out.into()
    }

    #[test]
    fn items_come_out_in_order_behind_what_is_there() {
        let inbox = Inbox::new();
        assert!(inbox.is_empty());
        assert!(!inbox.push(2));
        assert!(!inbox.push(3));
        assert!(!inbox.is_empty());
        let mut out = VecDeque::from([1]);
        inbox.drain(&mut out);
        assert_eq!(out, [1, 2, 3]);
        assert!(inbox.is_empty());
        inbox.drain(&mut out);
        assert_eq!(out, [1, 2, 3]);
    }

    #[test]
    fn one_pusher_wakes_an_idle_loop() {
        let inbox = Inbox::new();
        assert!(inbox.prepare_to_block());
        assert!(inbox.push(1));
        assert!(!inbox.push(2));
        inbox.resume();
        assert!(!inbox.push(3));
        assert_eq!(drained(&inbox), [1, 2, 3]);
        assert!(inbox.prepare_to_block());
        assert!(inbox.push(4));
    }

    #[test]
    fn a_loop_with_work_does_not_block() {
        let inbox = Inbox::new();
        assert!(!inbox.push(1));
        assert!(!inbox.prepare_to_block());
        assert!(!inbox.push(2), "the loop is awake after a refusal");
    }

    #[test]
    fn an_inbox_outlives_a_panic_under_its_lock() {
        let inbox = Arc::new(Inbox::new());
        let _ = inbox.push(1);
        let other = Arc::clone(&inbox);
        let outcome = thread::spawn(move || other.for_each(|_| panic!("under the lock"))).join();
        assert!(outcome.is_err());
        let _ = inbox.push(2);
        let mut seen = Vec::new();
        inbox.for_each(|item| seen.push(*item));
        assert_eq!(seen, [1, 2]);
        assert_eq!(drained(&inbox), [1, 2]);
    }

    #[test]
    fn visiting_does_not_wait_for_the_lock() {
        let inbox = Inbox::new();
        let _ = inbox.push(1);
        let mut outer = 0;
        inbox.for_each(|_| {
            outer += 1;
            inbox.for_each(|_| panic!("the lock is taken"));
        });
        assert_eq!(outer, 1);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    /// Stands for the loop's eventfd: a wake-up stays until it is taken.
    struct Bell {
        rung: Mutex<usize>,
        heard: loom::sync::Condvar,
    }

    impl Bell {
        fn new() -> Self {
            Self { rung: Mutex::new(0), heard: loom::sync::Condvar::new() }
        }

        fn ring(&self) {
            *self.rung.lock().expect("no thread panics") += 1;
            self.heard.notify_one();
        }

        /// Blocks; loom reports a deadlock if nobody ever rings.
        fn wait(&self) -> usize {
            let mut rung = self.rung.lock().expect("no thread panics");
            while *rung == 0 {
                rung = self.heard.wait(rung).expect("no thread panics");
            }
            std::mem::take(&mut *rung)
        }
    }

    /// Runs the loop's side until `expected` items have come, blocking as often
    /// as it may.
    fn run_until(inbox: &Inbox<(u8, u8)>, bell: &Bell, expected: usize) -> Vec<(u8, u8)> {
        let mut out = VecDeque::new();
        let mut idle_periods = 0;
        let mut rings = 0;
        loop {
            inbox.drain(&mut out);
            if out.len() == expected {
                break;
            }
            if inbox.prepare_to_block() {
                idle_periods += 1;
                rings += bell.wait();
                inbox.resume();
            } else {
                // A refusal has published idle for a moment, too.
                idle_periods += 1;
            }
        }
        assert!(rings <= idle_periods, "one wake-up at most per idle period");
        out.into()
    }

    fn pusher(inbox: &Arc<Inbox<(u8, u8)>>, bell: &Arc<Bell>, name: u8, items: u8) {
        let (inbox, bell) = (Arc::clone(inbox), Arc::clone(bell));
        thread::spawn(move || {
            for item in 0..items {
                if inbox.push((name, item)) {
                    bell.ring();
                }
            }
        });
    }

    fn in_order(items: &[(u8, u8)], name: u8) -> bool {
        let own: Vec<u8> = items.iter().filter(|item| item.0 == name).map(|item| item.1).collect();
        own.is_sorted()
    }

    #[test]
    fn inbox_one_pusher_loses_no_wake_up() {
        loom::model(|| {
            let inbox = Arc::new(Inbox::new());
            let bell = Arc::new(Bell::new());
            pusher(&inbox, &bell, 1, 2);
            let items = run_until(&inbox, &bell, 2);
            assert!(in_order(&items, 1));
        });
    }

    #[test]
    fn inbox_two_pushers_lose_no_wake_up() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let inbox = Arc::new(Inbox::new());
            let bell = Arc::new(Bell::new());
            pusher(&inbox, &bell, 1, 2);
            pusher(&inbox, &bell, 2, 1);
            let items = run_until(&inbox, &bell, 3);
            assert!(in_order(&items, 1) && in_order(&items, 2));
        });
    }

    #[test]
    fn inbox_one_of_two_pushers_wakes_an_idle_loop() {
        loom::model(|| {
            let inbox = Arc::new(Inbox::new());
            assert!(inbox.prepare_to_block());
            let other = Arc::clone(&inbox);
            let theirs = thread::spawn(move || other.push(1));
            let ours = inbox.push(2);
            let theirs = theirs.join().expect("no thread panics");
            assert!(ours != theirs, "exactly one is told to wake");
        });
    }
}
