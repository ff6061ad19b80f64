#![allow(unsafe_code)]
//! Which thread is this? `threading.get_ident()` without a call into Python.
//!
//! Asked for every callback that is queued, so it must cost next to nothing: thread-local storage of a loaded library
//! takes a function call, the thread's own handle one instruction.

unsafe extern "C" {
    /// POSIX; what `threading.get_ident()` answers with.
    fn pthread_self() -> usize;
}

/// A number that no other living thread has; never 0 on the platforms we support.
#[inline]
pub(crate) fn thread_tag() -> usize {
    // SAFETY: takes nothing; a thread's handle is an address or a number, of a word's size.
    unsafe { pthread_self() }
}
