//! `Lent`: a large buffer of the loop's, for work that calls Python while it uses it; `Spares`, for what Python sees.
//!
//! TLS wants several at once: what was received, what it was decrypted to, what the answer is encrypted to. They are taken
//! out of the loop and put back, so that no cell is open meanwhile; connections that wait have none. What is in a buffer
//! is of no interest to the next user. No buffer is ever shown to Python: there data goes through objects that own it.

use std::ops::{Deref, DerefMut};

use super::Runtime;
use crate::py::buffer::{SpareArray, SpareBytes};
use crate::py::class::This;

/// Takes a message of 100 KiB in one piece, with what TLS adds to it. Bytes.
pub(crate) const BUFFER: usize = 160 * 1024;
/// More than so many are not kept.
const KEPT: usize = 3;

/// A buffer, until it is dropped.
pub(crate) struct Lent<'a, 'py> {
    loop_: This<'a, 'py, Runtime>,
    memory: Box<[u8]>,
}

impl<'a, 'py> Lent<'a, 'py> {
    /// A buffer of `BUFFER` bytes.
    #[inline]
    pub(crate) fn of(loop_: This<'a, 'py, Runtime>) -> Self {
        let kept = loop_.core.open(loop_.py()).buffers.pop();
        Lent { loop_, memory: kept.unwrap_or_else(|| vec![0; BUFFER].into_boxed_slice()) }
    }
}

impl Deref for Lent<'_, '_> {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        &self.memory
    }
}

impl DerefMut for Lent<'_, '_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory
    }
}

impl Drop for Lent<'_, '_> {
    #[inline]
    fn drop(&mut self) {
        let mut core = self.loop_.core.open(self.loop_.py());
        if core.buffers.len() < KEPT {
            core.buffers.push(std::mem::take(&mut self.memory));
        }
    }
}

/// Objects that carry data through methods of `_ssl`'s, for all connections of a loop.
pub(crate) struct Spares {
    /// What it decrypts into.
    pub(crate) plain: SpareArray,
    /// What it is to encrypt.
    pub(crate) data: SpareBytes,
    /// What it is to decrypt.
    pub(crate) records: SpareBytes,
}

impl Spares {
    pub(super) const fn new() -> Self {
        Spares { plain: SpareArray::new(), data: SpareBytes::new(), records: SpareBytes::new() }
    }
}
