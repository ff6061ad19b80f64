//! What many connections have put off goes in one system call, where the loop has a ring (`MIOLOOP_IO_URING=1`).
//!
//! Called by `cycle.rs` before it runs what was put off. Here the kernel takes what it takes, and no Python code runs; each
//! connection goes on from there when it runs, with nothing or a rest to send, or with the error that its send had.

use std::io::IoSlice;

use mioloop_core::outgoing::SLICES;
use pyo3::prelude::*;
use rustix::io::Errno;
use smallvec::SmallVec;

use super::of;
use super::stream::Stream;
use super::write::Sending;
use crate::py::descriptor::Descriptor;
use crate::py::ring::{FEWEST, MOST, Ring};
use crate::runtime::ready::Ready;

/// Sends once for each connection.
pub(super) fn send_together(py: Python<'_>, put_off: &[Ready], ring: &mut Ring) {
    for works in put_off.chunks(MOST) {
        let mut states = SmallVec::<[_; MOST]>::new();
        for work in works {
            // A connection may have put off twice in a turn, and is open then.
            if let Some(state) = of::<Stream>(&work.object, py).fields().state.peek()
                && state.own.sending == Sending::Corked
                && state.own.records.is_none()
                && (1..=SLICES).contains(&state.own.outgoing.count())
            {
                states.push(state);
            }
        }
        if states.len() < FEWEST {
            continue;
        }
        let results = {
            let pieces: SmallVec<[IoSlice<'_>; 2 * MOST]> =
                states.iter().flat_map(|state| state.own.outgoing.pieces()).collect();
            let mut rest = &pieces[..];
            let sends = states.iter().map(|state| {
                let (own, others) = rest.split_at(state.own.outgoing.count());
                rest = others;
                (state.fd, own)
            });
            ring.send(&sends.collect::<SmallVec<[(Descriptor, &[IoSlice<'_>]); MOST]>>())
        };
        for (state, result) in states.iter_mut().zip(results) {
            match result {
                Some(Ok(count)) => state.own.outgoing.advance(count),
                // The connection tries by itself. Memory is what the ring alone may have wanted.
                None | Some(Err(Errno::AGAIN | Errno::INTR | Errno::NOMEM)) => {}
                Some(Err(errno)) => state.own.failed = Some(errno),
            }
        }
    }
}
