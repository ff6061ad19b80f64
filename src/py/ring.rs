#![allow(unsafe_code)]
//! `Ring`: sends of many sockets in one system call, by io_uring.
//!
//! Each loop has one, which does nothing unless `MIOLOOP_IO_URING=1` is in the environment when the loop is made. The
//! kernel's ring is made for the first sends, and never asked for again once the kernel has refused it (a container's
//! filter, an old kernel, no free descriptor). Whoever calls `send` has the ordinary way for all that did not go.

use std::io::IoSlice;

use io_uring::types::Fd;
use io_uring::{EnterFlags, IoUring, opcode, squeue};
use rustix::io::Errno;
use smallvec::{SmallVec, smallvec};

use super::descriptor::{Descriptor, SENDING};

/// Fewer sends are not worth it.
pub(crate) const FEWEST: usize = 3;
/// Sends in one system call, at most.
pub(crate) const MOST: usize = ENTRIES as usize;
const ENTRIES: u32 = 64;

/// What came of each send: None has not been tried.
pub(crate) type Results = SmallVec<[Option<Result<usize, Errno>>; MOST]>;

/// Loop thread only.
pub(crate) enum Ring {
    /// Nobody wants it, or the kernel does not give it.
    Off,
    NotYet,
    On {
        ring: Box<IoUring>,
        /// The process that made it: a forked child shares its memory.
        process: u32,
    },
}

impl Ring {
    /// For a new loop.
    pub(crate) fn of_environment() -> Self {
        if std::env::var_os("MIOLOOP_IO_URING").is_some_and(|value| value == "1") { Ring::NotYet } else { Ring::Off }
    }

    #[inline]
    pub(crate) fn is_off(&self) -> bool {
        matches!(self, Ring::Off)
    }

    /// Sends once to each socket, up to `MOST`, without waiting. The results are in the same order.
    pub(crate) fn send(&mut self, sends: &[(Descriptor, &[IoSlice<'_>])]) -> Results {
        let mut results = smallvec![None; sends.len()];
        self.prepare();
        let Ring::On { ring, .. } = self else { return results };
        let messages: SmallVec<[libc::msghdr; MOST]> = sends.iter().map(|(_, pieces)| message(pieces)).collect();
        let mut queue = ring.submission();
        for (number, ((fd, pieces), message)) in (0..).zip(sends.iter().zip(&messages)) {
            let send = request(*fd, pieces, message).user_data(number);
            // SAFETY: the pieces are borrowed, and the messages live, until `send` returns. By then the kernel has
            // answered each request that it took, and those that it did not take are given up with the ring.
            if unsafe { queue.push(&send) }.is_err() {
                break;
            }
        }
        let queued = queue.len();
        drop(queue);
        // An error says that it took none.
        let taken = ring.submit().unwrap_or(0);
        collect(ring, taken, &mut results);
        if taken < queued {
            *self = Ring::Off;
        }
        results
    }

    /// Makes the ring if it is wanted, and another one in a forked child: the parent's is the parent's to submit to.
    fn prepare(&mut self) {
        let id = std::process::id();
        let made = match self {
            Ring::Off => return,
            Ring::On { process, .. } if *process == id => return,
            // SUBMIT_ALL: a request that cannot be made ends no others. A kernel that knows it (5.18) knows sends, too.
            Ring::On { .. } | Ring::NotYet => IoUring::builder().setup_submit_all().build(ENTRIES),
        };
        *self = made.map_or(Ring::Off, |ring| Ring::On { ring: Box::new(ring), process: id });
    }
}

/// The pieces as `sendmsg` takes them.
fn message(pieces: &[IoSlice<'_>]) -> libc::msghdr {
    // SAFETY: nothing is a valid value of all the fields of this C structure.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    // An `IoSlice` is an `iovec`.
    message.msg_iov = pieces.as_ptr().cast_mut().cast();
    message.msg_iovlen = pieces.len() as _;
    message
}

fn request(fd: Descriptor, pieces: &[IoSlice<'_>], message: &libc::msghdr) -> squeue::Entry {
    let fd = Fd(fd.number());
    match pieces {
        [piece] => {
            // What is longer goes in part.
            let size = u32::try_from(piece.len()).unwrap_or(u32::MAX);
            opcode::Send::new(fd, piece.as_ptr(), size).flags(SENDING.bits().cast_signed()).build()
        }
        _ => opcode::SendMsg::new(fd, message).flags(SENDING.bits()).build(),
    }
}

/// Gets the answers to so many requests. Returns only when the kernel has done with their memory.
fn collect(ring: &mut IoUring, requests: usize, results: &mut Results) {
    let mut awaited = requests;
    loop {
        for answer in ring.completion() {
            awaited = awaited.saturating_sub(1);
            let place = usize::try_from(answer.user_data()).ok().and_then(|number| results.get_mut(number));
            if let Some(place) = place {
                let result = answer.result();
                *place = Some(usize::try_from(result).map_err(|_| Errno::from_raw_os_error(-result)));
            }
        }
        if awaited == 0 {
            return;
        }
        // Not to be expected: what has MSG_DONTWAIT is REQ_F_NOWAIT to the kernel (`io_sendmsg_prep`), is answered with
        // EAGAIN where others would wait (`io_queue_async`), and so has its answer when `submit` returns.
        let count = u32::try_from(awaited).unwrap_or(u32::MAX);
        // SAFETY: submits nothing, and has no argument as the flags say.
        let _ = unsafe { ring.submitter().enter::<libc::sigset_t>(0, count, EnterFlags::GETEVENTS.bits(), None) };
    }
}
