#![allow(unsafe_code)]
//! `Port`: a BIO of ours between OpenSSL and one of the `ssl.MemoryBIO`s of a connection.
//!
//! OpenSSL reads from and writes to it. While memory is lent to it, for one call, records come from there or go there
//! without a copy in between; otherwise, as in Python's own calls, all goes through to the `MemoryBIO`. Used by
//! `libssl.rs` only, which says how long pointers live. The callbacks know nothing of Python: during a handshake `_ssl` lets
//! go of the interpreter.

use std::ffi::{c_char, c_int, c_long, c_void};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use mioloop_core::records::{Piece, Records};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::descriptor::{Descriptor, send_some};
use super::kernel_tls;
use super::libssl::{Library, Pointer};

/// Of bio.h.
const BIO_TYPE_SOURCE_SINK: c_int = 0x0400;
const BIO_FLAGS_READ: c_int = 0x01;
const BIO_FLAGS_RETRIES: c_int = 0x0f;
const BIO_FLAGS_SHOULD_RETRY: c_int = 0x08;
const BIO_CTRL_INFO: c_int = 3;
const BIO_CTRL_PUSH: c_int = 6;
const BIO_CTRL_POP: c_int = 7;
const BIO_CTRL_FLUSH: c_int = 11;
/// Asked of a BIO where the context has `OP_ENABLE_KTLS`, from OpenSSL 3 on.
const BIO_CTRL_SET_KTLS: c_int = 72;
const BIO_CTRL_GET_KTLS_SEND: c_int = 73;
const BIO_CTRL_SET_KTLS_TX_SEND_CTRL_MSG: c_int = 74;
const BIO_CTRL_CLEAR_KTLS_TX_CTRL_MSG: c_int = 75;

/// A record of this kind is of the handshake, and says by its first byte which message it is.
const HANDSHAKE: u8 = 22;
const KEY_UPDATE: u8 = 24;

/// The kind of BIO that OpenSSL has made for us; it lives for ever.
struct Kind(Pointer);

// SAFETY: OpenSSL reads it only, from here on.
unsafe impl Send for Kind {}
// SAFETY: as above.
unsafe impl Sync for Kind {}

static KIND: PyOnceLock<Option<Kind>> = PyOnceLock::new();

fn kind(py: Python<'_>, library: &Library) -> Option<Pointer> {
    let make = || {
        // SAFETY: the functions have the signatures that OpenSSL asks for, and are never unloaded.
        unsafe {
            let index = (library.bio_get_new_index)();
            if index < 0 {
                return None;
            }
            let kind = NonNull::new((library.bio_meth_new)(index | BIO_TYPE_SOURCE_SINK, c"mioloop".as_ptr()))?;
            let done = [
                (library.bio_meth_set_read)(kind, read),
                (library.bio_meth_set_write)(kind, write),
                (library.bio_meth_set_ctrl)(kind, ctrl),
            ];
            (done == [1, 1, 1]).then_some(Kind(kind))
        }
    };
    KIND.get_or_init(py, make).as_ref().map(|kind| kind.0)
}

/// What the callbacks find in a BIO.
struct Slot {
    library: &'static Library,
    /// The BIO inside the `MemoryBIO`.
    inner: Pointer,
    /// Memory that is lent for one call, or null.
    start: *mut u8,
    len: usize,
    used: usize,
    /// Was there anything in the `MemoryBIO` when the memory was lent?
    behind: bool,
    kernel: Kernel,
}

/// What the kernel's TLS does for a port that OpenSSL writes to.
#[derive(Default)]
struct Kernel {
    /// The socket that may be given the keys, as long as everything written before is in its hands or in the `MemoryBIO`.
    offered: Option<Descriptor>,
    /// It encrypts: OpenSSL writes plain text.
    on: bool,
    /// The kind of the record that comes next, if that is not application data.
    next: Option<u8>,
    /// Such records in the `MemoryBIO`.
    records: Records,
    /// OpenSSL has changed its keys, and the kernel has the old ones. Nothing more may be sent.
    outdated: bool,
}

/// One direction of a connection.
pub(super) struct Port {
    library: &'static Library,
    bio: Pointer,
    slot: NonNull<Slot>,
}

impl Port {
    /// None if OpenSSL refuses.
    pub(super) fn new(py: Python<'_>, library: &'static Library, inner: Pointer) -> Option<Self> {
        let kind = kind(py, library)?;
        // SAFETY: a kind that was made above.
        let bio = NonNull::new(unsafe { (library.bio_new)(kind) })?;
        let start = std::ptr::null_mut();
        let slot = Box::new(Slot { library, inner, start, len: 0, used: 0, behind: true, kernel: Kernel::default() });
        let slot = NonNull::from(Box::leak(slot));
        // SAFETY: a live BIO; `drop` takes the slot away from it.
        unsafe { (library.bio_set_data)(bio, slot.as_ptr().cast()) };
        Some(Port { library, bio, slot })
    }

    /// The BIO, with a reference for who takes it over.
    pub(super) fn share(&self) -> Option<Pointer> {
        // SAFETY: a live BIO, since the port has a reference of its own.
        (unsafe { (self.library.bio_up_ref)(self.bio) } == 1).then_some(self.bio)
    }

    /// The socket may be given the keys, by OpenSSL's next calls; None: no longer.
    pub(super) fn offer(&self, socket: Option<Descriptor>) {
        // SAFETY: the slot is this port's, and no callback runs now.
        unsafe { (*self.slot.as_ptr()).kernel.offered = socket };
    }

    /// Does the kernel encrypt?
    pub(super) fn is_plain(&self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.slot.as_ptr()).kernel.on }
    }

    /// Are there records in the `MemoryBIO` that are no application data, for the kernel to encrypt?
    pub(super) fn has_records(&self) -> bool {
        // SAFETY: as above.
        unsafe { !(*self.slot.as_ptr()).kernel.records.is_empty() }
    }

    /// What is to be taken next out of the `MemoryBIO`, which holds so many bytes.
    #[inline]
    pub(super) fn next(&self, pending: usize) -> Piece {
        // SAFETY: as above; the reference is gone at the end.
        unsafe { (*self.slot.as_ptr()).kernel.records.next(pending) }
    }

    /// So much of that was taken.
    #[inline]
    pub(super) fn taken(&self, count: usize) {
        // SAFETY: as above.
        unsafe { (*self.slot.as_ptr()).kernel.records.advance(count) };
    }

    /// Lends memory for the calls in `body`; returns also how much of it was used. behind: the `MemoryBIO` has something,
    /// which comes first.
    ///
    /// # Safety
    /// The memory is as long as it says, and nobody else's; written to only where the port is one that OpenSSL writes to.
    #[inline]
    pub(super) unsafe fn lend<R>(
        &self,
        start: *mut u8,
        len: usize,
        behind: bool,
        body: impl FnOnce() -> R,
    ) -> (R, usize) {
        let slot = self.slot.as_ptr();
        // SAFETY: the slot is this port's, and no callback runs now; no reference to it is held while one may.
        unsafe {
            ((*slot).start, (*slot).len, (*slot).used, (*slot).behind) = (start, len, 0, behind);
            let result = body();
            let used = (*slot).used;
            ((*slot).start, (*slot).len, (*slot).used) = (std::ptr::null_mut(), 0, 0);
            (result, used)
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        // SAFETY: gives up the port's own reference. Who has another finds no slot any more; it was made by `Box`.
        unsafe {
            (self.library.bio_set_data)(self.bio, std::ptr::null_mut());
            (self.library.bio_free)(self.bio);
            drop(Box::from_raw(self.slot.as_ptr()));
        }
    }
}

/// # Safety
/// The BIO is a port's, whose slot nobody else looks at meanwhile.
unsafe fn slot<'a>(bio: Pointer) -> Option<&'a mut Slot> {
    // SAFETY: `new` has put it there; the library is that which calls us.
    unsafe {
        let library = LIBRARY.load(Relaxed).as_ref()?;
        (library.bio_get_data)(bio).cast::<Slot>().as_mut()
    }
}

/// Where the callbacks find OpenSSL's functions.
static LIBRARY: AtomicPtr<Library> = AtomicPtr::new(std::ptr::null_mut());

/// Tells the callbacks of the library, before the first port is made.
pub(super) fn know(library: &'static Library) {
    LIBRARY.store(std::ptr::from_ref(library).cast_mut(), Relaxed);
}

/// OpenSSL wants records of the peer's: first those in the `MemoryBIO`, which came before.
unsafe extern "C" fn read(bio: Pointer, into: *mut c_char, wanted: c_int) -> c_int {
    // SAFETY: OpenSSL passes a port's BIO and memory of that size, and holds no reference to the slot.
    unsafe {
        let Some(slot) = slot(bio) else { return -1 };
        let library = slot.library;
        (library.bio_clear_flags)(bio, BIO_FLAGS_RETRIES);
        let left = slot.len - slot.used;
        slot.behind = slot.behind && library.pending(slot.inner) > 0;
        if left == 0 || slot.behind {
            let count = (library.bio_read)(slot.inner, into.cast(), wanted);
            if count <= 0 && (library.bio_test_flags)(slot.inner, BIO_FLAGS_SHOULD_RETRY) != 0 {
                (library.bio_set_flags)(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY);
            }
            return count;
        }
        let count = left.min(usize::try_from(wanted).unwrap_or(0));
        into.cast::<u8>().copy_from_nonoverlapping(slot.start.add(slot.used), count);
        slot.used += count;
        c_int::try_from(count).unwrap_or(0)
    }
}

/// OpenSSL has records for the peer.
unsafe extern "C" fn write(bio: Pointer, from: *const c_char, size: c_int) -> c_int {
    // SAFETY: as in `read`.
    unsafe {
        let Some(slot) = slot(bio) else { return -1 };
        (slot.library.bio_clear_flags)(bio, BIO_FLAGS_RETRIES);
        let count = usize::try_from(size).unwrap_or(0);
        if slot.kernel.outdated {
            return -1;
        }
        if let Some(kind) = slot.kernel.next.take() {
            return write_record(slot, kind, std::slice::from_raw_parts(from.cast(), count));
        }
        if count > slot.len - slot.used {
            // From here on all goes there, or the order would be lost.
            slot.len = slot.used;
            return (slot.library.bio_write)(slot.inner, from.cast(), size);
        }
        slot.start.add(slot.used).copy_from_nonoverlapping(from.cast(), count);
        slot.used += count;
        size
    }
}

/// A record for the kernel to encrypt, which is no application data: as a whole into the `MemoryBIO`.
///
/// # Safety
/// As of the slot.
unsafe fn write_record(slot: &mut Slot, kind: u8, record: &[u8]) -> c_int {
    if kind == HANDSHAKE && record.first() == Some(&KEY_UPDATE) {
        slot.kernel.outdated = true;
        return -1;
    }
    // SAFETY: the inner BIO is live as long as the connection, and copies the memory.
    unsafe {
        let pending = slot.library.pending(slot.inner);
        let size = c_int::try_from(record.len()).unwrap_or(c_int::MAX);
        let written = (slot.library.bio_write)(slot.inner, record.as_ptr().cast(), size);
        if let Ok(count) = usize::try_from(written) {
            slot.kernel.records.push(pending, count, kind);
        }
        slot.len = slot.used;
        written
    }
}

/// Questions go to the BIO behind, but for those about the kernel's TLS.
unsafe extern "C" fn ctrl(bio: Pointer, command: c_int, number: c_long, argument: *mut c_void) -> c_long {
    // SAFETY: as in `read`; the inner BIO is live as long as the connection, and OpenSSL passes keys with the first.
    unsafe {
        let Some(slot) = slot(bio) else { return c_long::from(command == BIO_CTRL_FLUSH) };
        match command {
            BIO_CTRL_FLUSH => 1,
            BIO_CTRL_PUSH | BIO_CTRL_POP => 0,
            BIO_CTRL_SET_KTLS => {
                let keys = NonNull::new(argument).filter(|_| number != 0);
                c_long::from(keys.is_some_and(|keys| give_keys(slot, keys)))
            }
            BIO_CTRL_GET_KTLS_SEND => c_long::from(slot.kernel.on),
            BIO_CTRL_SET_KTLS_TX_SEND_CTRL_MSG => {
                slot.kernel.next = u8::try_from(number).ok();
                0
            }
            BIO_CTRL_CLEAR_KTLS_TX_CTRL_MSG => {
                slot.kernel.next = None;
                0
            }
            _ => (slot.library.bio_ctrl)(slot.inner, command, number, argument),
        }
    }
}

/// OpenSSL has keys for what it will write: can the kernel use them? Records under the old ones go first.
///
/// # Safety
/// The keys are what OpenSSL passes with `BIO_CTRL_SET_KTLS`; otherwise as of the slot.
unsafe fn give_keys(slot: &mut Slot, keys: Pointer) -> bool {
    if slot.kernel.on {
        slot.kernel.outdated = true;
        return false;
    }
    let Some(socket) = slot.kernel.offered.filter(|_| slot.start.is_null()) else { return false };
    // SAFETY: the caller's promises.
    slot.kernel.on =
        unsafe { kernel_tls::attach(socket) && send_all(slot, socket) && kernel_tls::take_keys(socket, keys) };
    slot.kernel.on
}

/// Sends what is in the `MemoryBIO`; false if the socket does not take it all.
///
/// # Safety
/// As of the slot.
unsafe fn send_all(slot: &Slot, socket: Descriptor) -> bool {
    let mut scratch = [0_u8; 4096];
    loop {
        // SAFETY: the inner BIO is one over memory: it answers where that lies and how long it is, and neither changes
        // before something is read from it.
        unsafe {
            let mut start: *mut u8 = std::ptr::null_mut();
            let size = (slot.library.bio_ctrl)(slot.inner, BIO_CTRL_INFO, 0, (&raw mut start).cast());
            let size = usize::try_from(size).unwrap_or(0);
            if size == 0 || start.is_null() {
                return size == 0;
            }
            let piece = std::slice::from_raw_parts(start, size.min(scratch.len()));
            let Ok(sent) = send_some(socket, piece) else { return false };
            let sent = c_int::try_from(sent).unwrap_or(0);
            if (slot.library.bio_read)(slot.inner, scratch.as_mut_ptr().cast(), sent) != sent {
                return false;
            }
        }
    }
}
