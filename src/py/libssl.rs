#![allow(unsafe_code)]
//! libssl, called directly on the `SSL*` inside an `ssl.SSLObject`.
//!
//! Functions are looked up in the very library that `_ssl` has loaded. Where the pointers lie has been the same from
//! CPython 3.10 to 3.15, and is confirmed for each connection: neighbouring fields must hold what `_ssl` keeps there, and
//! libssl's own answers must agree. Where anything does not, there is no `Connection`, and `_ssl`'s methods are called
//! instead. The interpreter is held throughout, so no other thread is in the same connection; free-threaded builds,
//! where it could be, have none. `MIOLOOP_LIBSSL=0` in the environment turns all of it off.

use std::cell::Cell;
use std::ffi::{CString, c_char, c_int, c_long, c_ulong, c_void};
use std::ptr::NonNull;

use mioloop_core::records::Piece;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::bio::{self, Port};
use super::class::{Stop, Visit};
use super::descriptor::Descriptor;
use super::object::Owned;

/// Of bio.h.
const BIO_CTRL_PENDING: c_int = 10;
const BIO_C_SET_BUF_MEM: c_int = 114;
const BIO_CLOSE: c_long = 1;
/// Of ssl.h.
const SSL_ERROR_WANT_READ: c_int = 2;
const SSL_ERROR_WANT_WRITE: c_int = 3;
const SSL_ERROR_ZERO_RETURN: c_int = 6;

/// A `MemoryBIO` that was so full gives its memory up once it is empty. Bytes.
const FULL: usize = 2048;
/// So many times: a connection that needs it again and again keeps it.
const GIVES_UP: u8 = 4;

/// An `SSL`, `SSL_CTX` or `BIO`.
pub(super) type Pointer = NonNull<c_void>;

/// What a BIO of ours does.
type BioRead = unsafe extern "C" fn(Pointer, *mut c_char, c_int) -> c_int;
type BioWrite = unsafe extern "C" fn(Pointer, *const c_char, c_int) -> c_int;
type BioCtrl = unsafe extern "C" fn(Pointer, c_int, c_long, *mut c_void) -> c_long;

macro_rules! library {
    ($($field:ident = $name:literal: ($($argument:ty),*) -> $result:ty,)*) => {
        /// What is called, of libssl and libcrypto.
        pub(super) struct Library {
            $(pub(super) $field: unsafe extern "C" fn($($argument),*) -> $result,)*
        }

        impl Library {
            /// None where a function is missing.
            ///
            /// # Safety
            /// The handle is one that `dlopen` gave for `_ssl`.
            unsafe fn of(handle: Pointer) -> Option<Self> {
                Some(Library {
                    // SAFETY: a handle is searched with the libraries that it depends on. Each name stands beside the
                    // signature that OpenSSL's manual gives it, the same from 1.1.1 to 3.6.
                    $($field: unsafe {
                        let found = NonNull::new(libc::dlsym(handle.as_ptr(), $name.as_ptr()))?;
                        std::mem::transmute::<Pointer, unsafe extern "C" fn($($argument),*) -> $result>(found)
                    },)*
                })
            }
        }
    };
}

library! {
    ssl_read = c"SSL_read": (Pointer, *mut c_void, c_int) -> c_int,
    ssl_write = c"SSL_write": (Pointer, *const c_void, c_int) -> c_int,
    ssl_pending = c"SSL_pending": (Pointer) -> c_int,
    ssl_get_error = c"SSL_get_error": (Pointer, c_int) -> c_int,
    ssl_get_context = c"SSL_get_SSL_CTX": (Pointer) -> *mut c_void,
    ssl_get_rbio = c"SSL_get_rbio": (Pointer) -> *mut c_void,
    ssl_get_wbio = c"SSL_get_wbio": (Pointer) -> *mut c_void,
    bio_read = c"BIO_read": (Pointer, *mut c_void, c_int) -> c_int,
    bio_write = c"BIO_write": (Pointer, *const c_void, c_int) -> c_int,
    bio_ctrl = c"BIO_ctrl": (Pointer, c_int, c_long, *mut c_void) -> c_long,
    buf_mem_new = c"BUF_MEM_new": () -> *mut c_void,
    buf_mem_free = c"BUF_MEM_free": (Pointer) -> (),
    ssl_set_rbio = c"SSL_set0_rbio": (Pointer, Pointer) -> (),
    ssl_set_wbio = c"SSL_set0_wbio": (Pointer, Pointer) -> (),
    bio_new = c"BIO_new": (Pointer) -> *mut c_void,
    bio_up_ref = c"BIO_up_ref": (Pointer) -> c_int,
    bio_free = c"BIO_free": (Pointer) -> c_int,
    bio_get_data = c"BIO_get_data": (Pointer) -> *mut c_void,
    bio_set_data = c"BIO_set_data": (Pointer, *mut c_void) -> (),
    bio_test_flags = c"BIO_test_flags": (Pointer, c_int) -> c_int,
    bio_set_flags = c"BIO_set_flags": (Pointer, c_int) -> (),
    bio_clear_flags = c"BIO_clear_flags": (Pointer, c_int) -> (),
    bio_get_new_index = c"BIO_get_new_index": () -> c_int,
    bio_meth_new = c"BIO_meth_new": (c_int, *const c_char) -> *mut c_void,
    bio_meth_set_read = c"BIO_meth_set_read": (Pointer, BioRead) -> c_int,
    bio_meth_set_write = c"BIO_meth_set_write": (Pointer, BioWrite) -> c_int,
    bio_meth_set_ctrl = c"BIO_meth_set_ctrl": (Pointer, BioCtrl) -> c_int,
    err_peek_error = c"ERR_peek_error": () -> c_ulong,
    err_clear_error = c"ERR_clear_error": () -> (),
    openssl_version = c"OpenSSL_version_num": () -> c_ulong,
}

static LIBRARY: PyOnceLock<Option<Library>> = PyOnceLock::new();

/// None: libssl may not be called, or cannot be found.
fn library(py: Python<'_>) -> Option<&'static Library> {
    let library = LIBRARY.get_or_init(py, || find(py).ok().flatten()).as_ref()?;
    bio::know(library);
    Some(library)
}

fn find(py: Python<'_>) -> PyResult<Option<Library>> {
    if cfg!(Py_GIL_DISABLED) || std::env::var_os("MIOLOOP_LIBSSL").is_some_and(|value| value == "0") {
        return Ok(None);
    }
    // Without a file, `_ssl` is part of the interpreter, and OpenSSL nobody else's to call.
    let Some(file) = py.import("_ssl")?.getattr_opt("__file__")? else { return Ok(None) };
    let Ok(file) = CString::new(file.extract::<String>()?) else { return Ok(None) };
    // SAFETY: the path ends with a null; nothing is loaded that is not yet. The handle is kept for ever.
    let handle = unsafe { libc::dlopen(file.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
    // SAFETY: the handle is one that `dlopen` gave.
    Ok(NonNull::new(handle).and_then(|handle| unsafe { Library::of(handle) }).filter(Library::is_known))
}

impl Library {
    /// Is it OpenSSL 1.1.1 or 3? What another one does, nobody has tried.
    fn is_known(&self) -> bool {
        // SAFETY: takes nothing.
        let version = unsafe { (self.openssl_version)() };
        matches!(version >> 28, 3) || version >> 12 == 0x1_01_01
    }
}

impl Library {
    /// Empties OpenSSL's queue of errors. It is empty nearly always, and looking is cheaper.
    #[inline]
    fn forget_errors(&self) {
        // SAFETY: takes nothing; the queue is this thread's.
        unsafe {
            if (self.err_peek_error)() != 0 {
                (self.err_clear_error)();
            }
        }
    }

    /// Bytes in a BIO.
    ///
    /// # Safety
    /// It is a live one.
    #[inline]
    pub(super) unsafe fn pending(&self, bio: Pointer) -> usize {
        // SAFETY: the caller's promise; this question takes no argument.
        let pending = unsafe { (self.bio_ctrl)(bio, BIO_CTRL_PENDING, 0, std::ptr::null_mut()) };
        usize::try_from(pending).unwrap_or(0)
    }

    /// Frees the memory of a BIO that has nothing in it; by itself it keeps what it once needed.
    ///
    /// # Safety
    /// It is the live one of a `MemoryBIO`.
    unsafe fn shrink(&self, bio: Pointer) {
        // SAFETY: a BIO over memory takes over other memory of the same kind, and frees its own.
        unsafe {
            if self.pending(bio) == 0
                && let Some(fresh) = NonNull::new((self.buf_mem_new)())
                && (self.bio_ctrl)(bio, BIO_C_SET_BUF_MEM, BIO_CLOSE, fresh.as_ptr()) != 1
            {
                (self.buf_mem_free)(fresh);
            }
        }
    }
}

/// One TLS connection. Its pointers live as long as the objects that it keeps.
pub(crate) struct Connection {
    library: &'static Library,
    ssl: Pointer,
    /// The BIOs inside the `MemoryBIO`s.
    incoming: Pointer,
    outgoing: Pointer,
    /// What OpenSSL sees in their places.
    input: Port,
    output: Port,
    /// The largest piece that was fed since `incoming` has last given its memory up.
    fed: Cell<usize>,
    /// How often it still does.
    gives_up: Cell<u8>,
    owners: [Owned; 3],
}

// SAFETY: used with the thread attached, which the GIL admits one at a time of; there is none without a GIL.
unsafe impl Send for Connection {}
// SAFETY: as above.
unsafe impl Sync for Connection {}

/// What came of a call.
pub(crate) enum Outcome {
    /// Bytes: at least one.
    Done(usize),
    Again,
    /// The peer has sent its close_notify.
    End,
    /// The error is in OpenSSL's queue, for `_ssl` to make an exception of.
    Failed,
}

impl Connection {
    /// connection: exactly an `_ssl._SSLSocket`; context: its `ssl.SSLContext`; the others exactly `ssl.MemoryBIO`s.
    pub(crate) fn of(
        connection: &Owned,
        context: &Bound<'_, PyAny>,
        incoming: &Owned,
        outgoing: &Owned,
    ) -> Option<Self> {
        let py = context.py();
        let library = library(py)?;
        // struct PySSLSocket { PyObject_HEAD; PyObject *Socket; SSL *ssl; PySSLContext *ctx; ... }
        let [_, _, socket, ssl, its_context] = words::<5>(connection.bind(py))?;
        if !socket.is_null() || its_context != context.as_ptr().cast() {
            return None;
        }
        // struct PySSLContext and PySSLMemoryBIO { PyObject_HEAD; SSL_CTX *ctx or BIO *bio; ... }
        let [_, _, context] = words::<3>(context)?;
        let [_, _, rbio] = words::<3>(incoming.bind(py))?;
        let [_, _, wbio] = words::<3>(outgoing.bind(py))?;
        let ssl = NonNull::new(ssl)?;
        // SAFETY: between an empty `Socket` and the context lies the `SSL *` of a live object; the answers are compared.
        let answers =
            unsafe { [(library.ssl_get_context)(ssl), (library.ssl_get_rbio)(ssl), (library.ssl_get_wbio)(ssl)] };
        if answers != [context, rbio, wbio] {
            return None;
        }
        let owners = [connection.clone_ref(py), incoming.clone_ref(py), outgoing.clone_ref(py)];
        let (incoming, outgoing) = (NonNull::new(rbio)?, NonNull::new(wbio)?);
        let (input, output) = (Port::new(py, library, incoming)?, Port::new(py, library, outgoing)?);
        let (fed, gives_up) = (Cell::new(0), Cell::new(GIVES_UP));
        let connection = Connection { library, ssl, incoming, outgoing, input, output, fed, gives_up, owners };
        // SAFETY: a live connection, which takes over the new BIOs and gives up its references to the old ones; each
        // `MemoryBIO` has one of its own.
        unsafe {
            (library.ssl_set_rbio)(ssl, connection.input.share()?);
            (library.ssl_set_wbio)(ssl, connection.output.share()?);
        }
        Some(connection)
    }

    /// Gives the connection records of the peer's. False if there is no memory.
    #[inline]
    pub(crate) fn feed(&self, _py: Python<'_>, records: &[u8]) -> bool {
        let size = int(records.len());
        self.fed.set(self.fed.get().max(records.len()));
        // SAFETY: a live BIO and memory of that size, which is copied.
        size == 0 || unsafe { (self.library.bio_write)(self.incoming, records.as_ptr().cast(), size) == size }
    }

    /// Bytes of records that OpenSSL has not looked at.
    #[inline]
    pub(crate) fn unread(&self, _py: Python<'_>) -> usize {
        // SAFETY: live, since its owner is.
        unsafe { self.library.pending(self.incoming) }
    }

    /// Bytes of records for the peer that nobody has taken.
    #[inline]
    pub(crate) fn unsent(&self, _py: Python<'_>) -> usize {
        // SAFETY: as above.
        unsafe { self.library.pending(self.outgoing) }
    }

    /// Takes records for the peer. They have a kind if the kernel is to encrypt them and they are no application data.
    #[inline]
    pub(crate) fn take(&self, py: Python<'_>, memory: &mut [u8]) -> Piece {
        let piece = self.output.next(self.unsent(py));
        let size = piece.len.min(memory.len());
        // SAFETY: a live BIO and memory of that size.
        let count = unsafe { (self.library.bio_read)(self.outgoing, memory.as_mut_ptr().cast(), int(size)) };
        let count = usize::try_from(count).unwrap_or(0);
        self.output.taken(count);
        if count > FULL {
            // SAFETY: live, since its owner is.
            unsafe { self.library.shrink(self.outgoing) };
        }
        Piece { len: count, ..piece }
    }

    /// The kernel may encrypt for this socket, if the context wants that (`OP_ENABLE_KTLS`): everything that OpenSSL has
    /// written so far is in the socket's hands or not taken yet. None: no longer.
    pub(crate) fn offer(&self, _py: Python<'_>, socket: Option<Descriptor>) {
        self.output.offer(socket);
    }

    /// Does the kernel encrypt?
    pub(crate) fn is_plain(&self, _py: Python<'_>) -> bool {
        self.output.is_plain()
    }

    /// Decrypts into memory that is not empty, what was fed first and then these records; those that were used are cut off.
    #[inline]
    pub(crate) fn decrypt(&self, py: Python<'_>, records: &mut &[u8], memory: &mut [u8]) -> Outcome {
        let behind = self.unread(py) > 0;
        // SAFETY: a live connection, and the thread attached. It may have plain text left of a longer record.
        if records.is_empty() && !behind && unsafe { (self.library.ssl_pending)(self.ssl) } == 0 {
            let left = self.gives_up.get();
            if left > 0 && self.fed.get() > FULL {
                self.fed.set(0);
                self.gives_up.set(left - 1);
                // SAFETY: live, since its owner is.
                unsafe { self.library.shrink(self.incoming) };
            }
            return Outcome::Again;
        }
        let read = || {
            // SAFETY: a live connection and memory of that size, which is the caller's alone. OpenSSL may call callbacks
            // of the user's, which cannot know of the memory. An error of somebody else's in the queue would be taken
            // for ours.
            unsafe {
                self.library.forget_errors();
                (self.library.ssl_read)(self.ssl, memory.as_mut_ptr().cast(), int(memory.len()))
            }
        };
        // SAFETY: the records outlive the call, and this port is only read from.
        let (result, used) = unsafe { self.input.lend(records.as_ptr().cast_mut(), records.len(), behind, read) };
        *records = records.get(used..).unwrap_or_default();
        self.outcome(result)
    }

    /// Encrypts data that is not empty, into memory: returns also how much of that is filled. What does not fit is to be
    /// taken later.
    #[inline]
    pub(crate) fn encrypt(&self, py: Python<'_>, data: &[u8], memory: &mut [u8]) -> (Outcome, usize) {
        let write = || {
            // SAFETY: as in `decrypt`.
            unsafe {
                self.library.forget_errors();
                (self.library.ssl_write)(self.ssl, data.as_ptr().cast(), int(data.len()))
            }
        };
        if memory.is_empty() || self.unsent(py) > 0 {
            // What is there already goes first.
            let outcome = self.outcome(write());
            let stays = memory.is_empty() || self.output.has_records();
            let taken = if stays { 0 } else { self.take(py, memory).len };
            return (outcome, taken);
        }
        // SAFETY: the memory is the caller's alone, and outlives the call.
        let (result, filled) = unsafe { self.output.lend(memory.as_mut_ptr(), memory.len(), false, write) };
        (self.outcome(result), filled)
    }

    #[inline]
    fn outcome(&self, result: c_int) -> Outcome {
        if let Ok(count) = usize::try_from(result)
            && count > 0
        {
            return Outcome::Done(count);
        }
        // SAFETY: a live connection, whose last call gave `result`.
        match unsafe { (self.library.ssl_get_error)(self.ssl, result) } {
            SSL_ERROR_WANT_READ | SSL_ERROR_WANT_WRITE => Outcome::Again,
            SSL_ERROR_ZERO_RETURN => Outcome::End,
            _ => Outcome::Failed,
        }
    }

    pub(crate) fn visit(&self, visit: Visit<'_>) -> Result<(), Stop> {
        self.owners.iter().try_for_each(|object| visit.object(object))
    }
}

impl Drop for Connection {
    /// Gives OpenSSL the `MemoryBIO`s back: others may still use the connection.
    fn drop(&mut self) {
        // SAFETY: a live connection and live BIOs, of which it takes over one more reference each. Were that refused, it
        // would keep ours, which take and give nothing once their ports are gone.
        unsafe {
            if (self.library.bio_up_ref)(self.incoming) == 1 {
                (self.library.ssl_set_rbio)(self.ssl, self.incoming);
            }
            if (self.library.bio_up_ref)(self.outgoing) == 1 {
                (self.library.ssl_set_wbio)(self.ssl, self.outgoing);
            }
        }
    }
}

/// A size for OpenSSL: what is more than it can take is left for the next call.
fn int(size: usize) -> c_int {
    c_int::try_from(size).unwrap_or(c_int::MAX)
}

/// The first words of an object, its head included; None if it is not so large.
fn words<const COUNT: usize>(object: &Bound<'_, PyAny>) -> Option<[*mut c_void; COUNT]> {
    // SAFETY: a live object has as many bytes as its type says, and its head is two words long where the checks of the
    // caller can hold at all.
    unsafe {
        let size = (*ffi::Py_TYPE(object.as_ptr())).tp_basicsize;
        let fits = size.cast_unsigned() >= COUNT * size_of::<usize>();
        fits.then(|| object.as_ptr().cast::<[*mut c_void; COUNT]>().read())
    }
}
