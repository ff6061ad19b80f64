//! A four-ary implicit heap of plain timer entries: the sorted half of
//! `Timers`, which is its only user.
//!
//! Four children share a cache line or two, so a path costs half the misses of
//! a binary heap's. It knows nothing of values or of cancelling: entries come
//! out in the order of deadline, then serial, stale or not.

/// When a timer falls due, which one it is, and where its value lives.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) deadline: u64,
    pub(super) serial: u64,
    pub(super) slot: u32,
}

impl Entry {
    /// One number to compare by: two words, no branch.
    #[inline]
    pub(super) const fn rank(&self) -> u128 {
        ((self.deadline as u128) << 64) | self.serial as u128
    }
}

const ARITY: usize = 4;

#[derive(Debug)]
pub(super) struct Heap {
    entries: Vec<Entry>,
}

impl Heap {
    pub(super) const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    #[inline]
    pub(super) const fn len(&self) -> usize {
        self.entries.len()
    }

    #[inline]
    pub(super) fn first(&self) -> Option<Entry> {
        self.entries.first().copied()
    }

    pub(super) fn push(&mut self, entry: Entry) {
        let mut hole = self.entries.len();
        self.entries.push(entry);
        while hole > 0 {
            let parent = (hole - 1) / ARITY;
            let above = self.entries[parent];
            if above.rank() <= entry.rank() {
                break;
            }
            self.entries[hole] = above;
            hole = parent;
        }
        self.entries[hole] = entry;
    }

    /// Does nothing to an empty heap.
    pub(super) fn remove_first(&mut self) {
        if let Some(last) = self.entries.pop()
            && !self.entries.is_empty()
        {
            self.sink(0, last);
        }
    }

    /// Takes all of `more` in, in one pass over everything.
    pub(super) fn absorb(&mut self, more: &mut Vec<Entry>) {
        self.entries.append(more);
        self.restore();
    }

    /// Drops the entries that `keep` refuses, in one pass over everything.
    pub(super) fn retain(&mut self, keep: impl Fn(&Entry) -> bool) {
        self.entries.retain(keep);
        self.restore();
    }

    fn restore(&mut self) {
        let inner_nodes = (self.entries.len() + ARITY - 2) / ARITY;
        for index in (0..inner_nodes).rev() {
            let entry = self.entries[index];
            self.sink(index, entry);
        }
    }

    /// Puts `entry` at `hole` or as far below it as the order wants.
    fn sink(&mut self, mut hole: usize, entry: Entry) {
        let rank = entry.rank();
        while let Some(child) = self.least_child(hole) {
            let below = self.entries[child];
            if rank <= below.rank() {
                break;
            }
            self.entries[hole] = below;
            hole = child;
        }
        self.entries[hole] = entry;
    }

    #[inline]
    fn least_child(&self, parent: usize) -> Option<usize> {
        let first = parent * ARITY + 1;
        let children = self.entries.get(first..)?;
        let least = if let Some([a, b, c, d]) = children.first_chunk::<ARITY>() {
            // A tournament, whose two first rounds do not wait for each other.
            let (left, right) = (usize::from(b.rank() < a.rank()), 2 + usize::from(d.rank() < c.rank()));
            if children[right].rank() < children[left].rank() { right } else { left }
        } else {
            let ranks = children.iter().enumerate();
            ranks.min_by_key(|(_, child)| child.rank())?.0
        };
        Some(first + least)
    }
}
