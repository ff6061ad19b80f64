//! The deadline queue: values that fall due at a nanosecond, handed out in the
//! order of their deadlines and, among equal ones, in the order of insertion.
//!
//! `call_later` and `call_at` insert, `TimerHandle.cancel` cancels, the run
//! cycle asks for the next deadline and pops what has expired. Most timers
//! guard something that succeeds and are cancelled young. New entries therefore
//! wait unsorted in a small *nursery*, where cancelling is a swap with the last
//! one; only what grows old there, or falls due, enters the heap. Values live
//! in a slab apart from the heap, so a cancelled value is given back at once
//! and leaves behind nothing but a stale 24-byte entry, which is dropped when
//! it surfaces or when such entries make up half of the heap.
//!
//! Nothing here reads a clock, runs a callback, or drops a value: every value
//! goes back to the caller, because dropping it may run Python code.

mod heap;

use heap::{Entry, Heap};

/// `Slot::place` of a value whose entry is in the heap.
const IN_HEAP: u32 = u32::MAX;

/// The end of the list of free slots.
const NO_SLOT: u32 = u32::MAX;

/// The serial of a free slot: no key ever carries it.
const FREE: u64 = u64::MAX;

/// The nursery may keep this many entries from one turn to the next. Its
/// minimum is found by looking at each of them.
const NURSERY: usize = 64;

/// A nursery no larger than this hands out its due entries itself, which spares
/// short sleeps the way through a heap full of long timeouts.
const FEW_STAGED: usize = 16;

/// Below this many stale entries compaction is not worth a pass.
const FEW_STALE: usize = 64;

/// Names one inserted value for [`Timers::cancel`]; the default names none.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct TimerKey {
    serial: u64,
    slot: u32,
}

#[derive(Debug)]
struct Slot<T> {
    /// Serial of the timer that lives here, or `FREE`.
    serial: u64,
    /// Index into the nursery, `IN_HEAP`, or the next free slot.
    place: u32,
    value: Option<T>,
}

/// Values ordered by deadline. Loop thread only.
#[derive(Debug)]
pub struct Timers<T> {
    slots: Vec<Slot<T>>,
    free: u32,
    live: usize,
    /// Counts insertions: order among equal deadlines, and generation of slots.
    serial: u64,
    staged: Vec<Entry>,
    /// No staged deadline is below this; `u64::MAX` when none is staged.
    staged_min: u64,
    /// Whether `staged_min` is the minimum itself: cancelling may raise that.
    staged_min_exact: bool,
    heap: Heap,
    /// How many heap entries belong to cancelled timers.
    stale: usize,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Timers<T> {
    /// An empty queue; allocates nothing.
    pub const fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: NO_SLOT,
            live: 0,
            serial: 0,
            staged: Vec::new(),
            staged_min: u64::MAX,
            staged_min_exact: true,
            heap: Heap::new(),
            stale: 0,
        }
    }

    /// How many values wait.
    #[inline]
    pub const fn len(&self) -> usize {
        self.live
    }

    /// Whether no value waits.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Adds a value that falls due at `deadline_ns`.
    #[inline]
    pub fn insert(&mut self, deadline_ns: u64, value: T) -> TimerKey {
        self.serial += 1;
        let serial = self.serial;
        let place = self.staged.len() as u32;
        let slot = self.occupy(serial, place, value);
        self.staged.push(Entry { deadline: deadline_ns, serial, slot });
        if deadline_ns < self.staged_min {
            self.staged_min = deadline_ns;
            self.staged_min_exact = true;
        }
        self.live += 1;
        TimerKey { serial, slot }
    }

    /// Takes a value out before it falls due. `None`: it was popped or
    /// cancelled before.
    #[inline]
    pub fn cancel(&mut self, key: TimerKey) -> Option<T> {
        let slot = self.slots.get(key.slot as usize)?;
        if slot.serial != key.serial {
            return None;
        }
        let place = slot.place;
        let value = self.vacate(key.slot);
        if place == IN_HEAP {
            self.stale += 1;
            if self.stale >= FEW_STALE && self.stale > self.heap.len() / 2 {
                self.drop_stale();
            }
        } else {
            self.unstage(place as usize);
        }
        value
    }

    /// A value that still waits.
    #[inline]
    pub fn get(&self, key: TimerKey) -> Option<&T> {
        let slot = self.slots.get(key.slot as usize)?;
        if slot.serial == key.serial { slot.value.as_ref() } else { None }
    }

    /// The earliest deadline of all values that wait.
    #[inline]
    pub fn next_deadline(&mut self) -> Option<u64> {
        if self.live == 0 {
            return None;
        }
        if self.staged.len() > NURSERY || !self.staged_min_exact {
            self.settle_nursery();
        }
        let in_heap = match self.heap.first() {
            Some(first) if self.is_live(&first) => first.deadline,
            Some(_) => self.first_live_in_heap(),
            None => u64::MAX,
        };
        Some(in_heap.min(self.staged_min))
    }

    /// Takes out the first value whose deadline is not after `now_ns`.
    #[inline]
    pub fn pop_expired(&mut self, now_ns: u64) -> Option<T> {
        let in_heap = self.heap.first().map_or(u64::MAX, |first| first.deadline);
        if self.staged_min.min(in_heap) > now_ns {
            return None;
        }
        self.pop_due(now_ns)
    }

    /// The values that wait, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| slot.value.as_ref())
    }

    /// Takes every value out, in no particular order. Keys given out before
    /// stay invalid.
    pub fn clear(&mut self) -> Vec<T> {
        let serial = self.serial;
        let all = std::mem::take(self);
        self.serial = serial;
        all.slots.into_iter().filter_map(|slot| slot.value).collect()
    }

    #[inline]
    fn occupy(&mut self, serial: u64, place: u32, value: T) -> u32 {
        let index = self.free;
        if let Some(slot) = self.slots.get_mut(index as usize) {
            self.free = slot.place;
            slot.serial = serial;
            slot.place = place;
            slot.value = Some(value);
            return index;
        }
        self.occupy_new(serial, place, value)
    }

    #[inline(never)]
    fn occupy_new(&mut self, serial: u64, place: u32, value: T) -> u32 {
        let index = self.slots.len() as u32;
        assert!(index != NO_SLOT, "more timers than 32 bits can count");
        self.slots.push(Slot { serial, place, value: Some(value) });
        index
    }

    /// Frees a slot that holds a live value.
    #[inline]
    fn vacate(&mut self, index: u32) -> Option<T> {
        let slot = &mut self.slots[index as usize];
        slot.serial = FREE;
        slot.place = self.free;
        self.free = index;
        self.live -= 1;
        slot.value.take()
    }

    #[inline]
    fn unstage(&mut self, index: usize) {
        let gone = self.staged.swap_remove(index);
        if let Some(moved) = self.staged.get(index) {
            self.slots[moved.slot as usize].place = index as u32;
        }
        if self.staged.is_empty() {
            self.staged_min = u64::MAX;
            self.staged_min_exact = true;
        } else if gone.deadline == self.staged_min {
            self.staged_min_exact = false;
        }
    }

    #[inline(never)]
    fn pop_due(&mut self, now_ns: u64) -> Option<T> {
        loop {
            if self.staged_min <= now_ns {
                if self.staged.len() > FEW_STAGED {
                    self.move_to_heap();
                } else if let Some(index) = self.first_staged(now_ns) {
                    let entry = self.staged[index];
                    self.unstage(index);
                    return self.vacate(entry.slot);
                }
            }
            let first = self.heap.first()?;
            if first.deadline > now_ns {
                return None;
            }
            self.heap.remove_first();
            if self.is_live(&first) {
                return self.vacate(first.slot);
            }
            // What was behind a stale entry may be behind the nursery, too.
            self.stale -= 1;
        }
    }

    /// Where in the nursery the first entry of all is, if it is there and due.
    fn first_staged(&mut self, now_ns: u64) -> Option<usize> {
        let ranks = self.staged.iter().map(Entry::rank).enumerate();
        let (index, rank) = ranks.min_by_key(|(_, rank)| *rank)?;
        self.staged_min = self.staged[index].deadline;
        self.staged_min_exact = true;
        let in_heap = self.heap.first().map_or(u128::MAX, |first| first.rank());
        (self.staged_min <= now_ns && rank < in_heap).then_some(index)
    }

    /// Makes `staged_min` exact; a nursery grown large moves to the heap.
    #[inline(never)]
    fn settle_nursery(&mut self) {
        if self.staged.len() > NURSERY {
            self.move_to_heap();
        } else {
            let deadlines = self.staged.iter().map(|entry| entry.deadline);
            self.staged_min = deadlines.min().unwrap_or(u64::MAX);
            self.staged_min_exact = true;
        }
    }

    fn move_to_heap(&mut self) {
        for entry in &self.staged {
            self.slots[entry.slot as usize].place = IN_HEAP;
        }
        // Pushing costs up to a path each; past half of the heap, one pass over
        // everything is cheaper.
        if self.staged.len() > self.heap.len() / 2 {
            self.heap.absorb(&mut self.staged);
        } else {
            for entry in self.staged.drain(..) {
                self.heap.push(entry);
            }
        }
        self.staged_min = u64::MAX;
        self.staged_min_exact = true;
    }

    /// Drops stale entries off the top of the heap; returns the first deadline
    /// below them, or `u64::MAX`.
    #[inline(never)]
    fn first_live_in_heap(&mut self) -> u64 {
        while let Some(first) = self.heap.first() {
            if self.is_live(&first) {
                return first.deadline;
            }
            self.heap.remove_first();
            self.stale -= 1;
        }
        u64::MAX
    }

    /// Whether the entry's timer still waits: a slot that is free or serves
    /// another one has another serial.
    #[inline]
    fn is_live(&self, entry: &Entry) -> bool {
        self.slots[entry.slot as usize].serial == entry.serial
    }

    #[cold]
    fn drop_stale(&mut self) {
        let slots = &self.slots;
        self.heap.retain(|entry| slots[entry.slot as usize].serial == entry.serial);
        self.stale = 0;
    }
}
