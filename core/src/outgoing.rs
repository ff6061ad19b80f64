//! The write backlog of a stream: chunks that the kernel has not taken yet.
//!
//! A transport pushes what did not fit, shows the kernel as many slices as one
//! vectored write takes, and says how much of it went. Chunks are whatever can
//! be seen as bytes: objects held by reference, or copies. Nothing here makes a
//! system call or decides who must wait; see [`crate::watermarks`].

use std::collections::VecDeque;
use std::io::IoSlice;
use std::iter;

/// How many slices one vectored write takes: beyond some dozen the call itself
/// costs next to nothing.
pub const SLICES: usize = 64;

/// Chunks in the order they were written.
#[derive(Debug)]
pub struct Outgoing<C> {
    chunks: VecDeque<C>,
    /// How much of the first chunk has gone already.
    sent: usize,
    /// Bytes that are still to go.
    len: usize,
}

impl<C> Default for Outgoing<C> {
    fn default() -> Self {
        Self { chunks: VecDeque::new(), sent: 0, len: 0 }
    }
}

impl<C: AsRef<[u8]>> Outgoing<C> {
    /// Bytes that are still to go.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Nothing is left to go.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a chunk of which the first `sent` bytes have gone already.
    /// An empty rest is not kept.
    pub fn push(&mut self, chunk: C, sent: usize) {
        let rest = chunk.as_ref().len().saturating_sub(sent);
        if rest == 0 {
            return;
        }
        if self.chunks.is_empty() {
            self.sent = sent;
        } else {
            debug_assert!(sent == 0, "only a chunk that met an empty backlog can have gone in part");
        }
        self.len += rest;
        self.chunks.push_back(chunk);
    }

    /// What is to go, if it is one chunk.
    pub fn only(&self) -> Option<&[u8]> {
        let mut chunks = self.chunks.iter();
        let first = chunks.next()?;
        chunks.next().is_none().then(|| &first.as_ref()[self.sent..])
    }

    /// What is to go of the first chunk.
    pub fn front(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |first| &first.as_ref()[self.sent..])
    }

    /// How many chunks there are.
    pub fn count(&self) -> usize {
        self.chunks.len()
    }

    /// What is to go of each chunk.
    pub fn pieces(&self) -> impl Iterator<Item = IoSlice<'_>> {
        let skips = iter::once(self.sent).chain(iter::repeat(0));
        self.chunks.iter().zip(skips).map(|(chunk, skip)| IoSlice::new(&chunk.as_ref()[skip..]))
    }

    /// The first chunks as slices, at most [`SLICES`].
    pub fn slices(&self) -> Slices<'_> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(self.pieces()) {
            *slice = piece;
            count += 1;
        }
        Slices { slices, count }
    }

    /// The kernel has taken `count` bytes from the front.
    pub fn advance(&mut self, count: usize) {
        self.len = self.len.saturating_sub(count);
        self.sent += count;
        while let Some(first) = self.chunks.front() {
            let size = first.as_ref().len();
            if self.sent < size {
                return;
            }
            self.sent -= size;
            self.chunks.pop_front();
        }
    }

    /// Gives up what is left.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// What one vectored write gets.
#[derive(Debug)]
pub struct Slices<'a> {
    slices: [IoSlice<'a>; SLICES],
    count: usize,
}

impl<'a> Slices<'a> {
    /// The slices, none of them empty.
    pub fn as_slice(&self) -> &[IoSlice<'a>] {
        &self.slices[..self.count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn front(outgoing: &Outgoing<Vec<u8>>) -> Vec<u8> {
        outgoing.slices().as_slice().iter().flat_map(|slice| slice.iter().copied()).collect()
    }

    #[test]
    fn an_empty_chunk_is_not_kept() {
        let mut outgoing = Outgoing::default();
        outgoing.push(Vec::new(), 0);
        outgoing.push(vec![1, 2], 2);
        assert!(outgoing.is_empty());
        assert!(outgoing.slices().as_slice().is_empty());
        outgoing.push(vec![3], 0);
        assert_eq!(front(&outgoing), [3]);
    }

    #[test]
    fn a_chunk_that_went_in_part_shows_its_rest() {
        let mut outgoing = Outgoing::default();
        outgoing.push(vec![1, 2, 3], 2);
        outgoing.push(vec![4], 0);
        assert_eq!(outgoing.len(), 2);
        assert_eq!(front(&outgoing), [3, 4]);
    }

    proptest! {
        /// Whatever the kernel takes at a time, the bytes come out once and in order.
        #[test]
        fn bytes_come_out_once_and_in_order(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..100),
            takes in prop::collection::vec(0_usize..120, 1..200),
        ) {
            let expected: Vec<u8> = chunks.concat();
            let mut outgoing = Outgoing::default();
            let mut chunks = chunks.into_iter();
            let mut seen = Vec::new();
            for take in takes {
                if let Some(chunk) = chunks.next() {
                    outgoing.push(chunk, 0);
                }
                let mut offered = front(&outgoing);
                offered.truncate(take);
                outgoing.advance(offered.len());
                seen.extend(offered);
                prop_assert_eq!(outgoing.is_empty(), front(&outgoing).is_empty());
            }
            for chunk in chunks {
                outgoing.push(chunk, 0);
            }
            while !outgoing.is_empty() {
                let offered = front(&outgoing);
                outgoing.advance(offered.len());
                seen.extend(offered);
            }
            prop_assert_eq!(seen, expected);
        }
    }
}
