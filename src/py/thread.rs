#![allow(unsafe_code)]
//! Which thread is this? `threading.get_ident()` without a call into Python.
//!
//! Asked for every callback that is queued, so it must cost next to nothing: thread-local storage of a loaded library
//! takes a function call, the thread's own handle one instruction.

use pyo3::ffi;

/// A number that no other living thread has; never 0 on the platforms we support.
#[inline]
pub(crate) fn thread_tag() -> usize {
    // SAFETY: takes nothing and needs no interpreter state.
    unsafe { ffi::PyThread_get_thread_ident() as usize }
}
