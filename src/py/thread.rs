#![allow(unsafe_code)]
//! Which thread is this? `threading.get_ident()` without a call into Python or thread-local storage.

use pyo3::ffi;

/// A number that no other living thread has; never 0 on the platforms we support.
#[inline]
pub(crate) fn thread_tag() -> usize {
    // SAFETY: takes nothing and needs no interpreter state.
    unsafe { ffi::PyThread_get_thread_ident() as usize }
}
