//! Which bytes of a queue are records of a kind of their own.
//!
//! Where the kernel encrypts, a queue of plain text may hold TLS records that
//! are no application data (alerts, messages of the handshake), each of which
//! goes in a call that names its kind. The bytes are somebody else's: here is
//! only where such records lie, counted from the front of the queue.

use std::collections::VecDeque;

/// A record of a kind of its own.
#[derive(Debug, Clone, Copy)]
struct Mark {
    /// Bytes of no kind between it and the one before.
    gap: usize,
    len: usize,
    kind: u8,
}

/// The records in a queue.
#[derive(Debug, Default)]
pub struct Records {
    marks: VecDeque<Mark>,
}

/// What may go in one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Bytes from the front of the queue.
    pub len: usize,
    /// The TLS content type, if that is not application data.
    pub kind: Option<u8>,
}

impl Records {
    /// Does the queue hold nothing but application data?
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// A queue of `queued` bytes gets a record of so many more.
    pub fn push(&mut self, queued: usize, len: usize, kind: u8) {
        let known: usize = self.marks.iter().map(|mark| mark.gap + mark.len).sum();
        self.marks.push_back(Mark { gap: queued.saturating_sub(known), len, kind });
    }

    /// What goes next, of a queue of `queued` bytes.
    pub fn next(&self, queued: usize) -> Piece {
        match self.marks.front() {
            Some(mark) if mark.gap == 0 => Piece { len: mark.len, kind: Some(mark.kind) },
            Some(mark) => Piece { len: mark.gap, kind: None },
            None => Piece { len: queued, kind: None },
        }
    }

    /// So many bytes have gone, no more than the next piece has.
    pub fn advance(&mut self, count: usize) {
        let Some(mark) = self.marks.front_mut() else { return };
        if mark.gap > 0 {
            mark.gap = mark.gap.saturating_sub(count);
            return;
        }
        mark.len = mark.len.saturating_sub(count);
        if mark.len == 0 {
            self.marks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn records_behind_each_other_stay_apart() {
        let mut records = Records::default();
        records.push(0, 2, 22);
        records.push(2, 3, 22);
        assert_eq!(records.next(5), Piece { len: 2, kind: Some(22) });
        records.advance(2);
        assert_eq!(records.next(3), Piece { len: 3, kind: Some(22) });
        records.advance(3);
        assert!(records.is_empty());
    }

    #[test]
    fn what_lies_before_a_record_goes_first() {
        let mut records = Records::default();
        records.push(4, 2, 21);
        assert_eq!(records.next(9), Piece { len: 4, kind: None });
        records.advance(3);
        assert_eq!(records.next(6), Piece { len: 1, kind: None });
        records.advance(1);
        assert_eq!(records.next(5), Piece { len: 2, kind: Some(21) });
        records.advance(1);
        assert_eq!(records.next(4), Piece { len: 1, kind: Some(21) });
        records.advance(1);
        assert_eq!(records.next(3), Piece { len: 3, kind: None });
    }

    proptest! {
        /// However much goes at a time, each byte goes as what it was queued as.
        #[test]
        fn every_byte_keeps_its_kind(
            pushes in prop::collection::vec((1_usize..50, prop::option::of(21_u8..24)), 1..60),
            takes in prop::collection::vec(1_usize..70, 1..60),
        ) {
            let mut records = Records::default();
            let mut queue: VecDeque<Option<u8>> = VecDeque::new();
            let (mut expected, mut seen) = (Vec::new(), Vec::new());
            let mut takes = takes.into_iter().cycle();
            let mut take = |records: &mut Records, queue: &mut VecDeque<Option<u8>>, seen: &mut Vec<Option<u8>>| {
                let piece = records.next(queue.len());
                let count = piece.len.min(takes.next().expect("it is a cycle"));
                queue.drain(..count);
                seen.extend(std::iter::repeat_n(piece.kind, count));
                records.advance(count);
            };
            for (len, kind) in pushes {
                if let Some(kind) = kind {
                    records.push(queue.len(), len, kind);
                }
                queue.extend(std::iter::repeat_n(kind, len));
                expected.extend(std::iter::repeat_n(kind, len));
                take(&mut records, &mut queue, &mut seen);
            }
            while !queue.is_empty() {
                take(&mut records, &mut queue, &mut seen);
            }
            prop_assert!(records.is_empty());
            prop_assert_eq!(seen, expected);
        }
    }
}
