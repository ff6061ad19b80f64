//! `Ring` where the crate io-uring does not know the architecture: nobody gets one.
//!
//! What others call of `ring.rs`, with the answer of a loop that has none. Which architectures those are says `build.rs`.

use std::io::IoSlice;

use rustix::io::Errno;
use smallvec::{SmallVec, smallvec};

use super::descriptor::Descriptor;

pub(crate) const FEWEST: usize = 3;
pub(crate) const MOST: usize = 64;

pub(crate) type Results = SmallVec<[Option<Result<usize, Errno>>; MOST]>;

pub(crate) enum Ring {
    Off,
}

impl Ring {
    pub(crate) fn of_environment() -> Self {
        Ring::Off
    }

    pub(crate) fn is_off(&self) -> bool {
        true
    }

    pub(crate) fn send(&mut self, sends: &[(Descriptor, &[IoSlice<'_>])]) -> Results {
        smallvec![None; sends.len()]
    }
}
