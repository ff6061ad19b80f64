#![allow(unsafe_code)]
//! Python buffers as bytes, and `bytes` of the exact size that was read.
//!
//! Used by transports, datagrams and `sock_*`. A view lives for one system call and no Python code runs meanwhile; what must
//! wait is an exact `bytes` object, held by reference, or a copy.

use std::mem::MaybeUninit;

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};

use super::object::Owned;

unsafe extern "C" {
    /// Shortens a new `bytes` object. Declared in CPython's `bytesobject.h`.
    fn _PyBytes_Resize(object: *mut *mut ffi::PyObject, size: ffi::Py_ssize_t) -> std::ffi::c_int;
}

/// Data that waits to be written.
pub(crate) enum Chunk {
    Bytes(Bytes),
    Copied(Box<[u8]>),
}

/// An exact `bytes` object: immutable, and its end runs no Python code.
pub(crate) struct Bytes {
    /// Keeps the bytes alive.
    _object: Owned,
    start: *const u8,
    len: usize,
}

// SAFETY: the pointer is into the immutable object that the value itself owns.
unsafe impl Send for Bytes {}
// SAFETY: as above.
unsafe impl Sync for Bytes {}

impl Bytes {
    fn new(object: &Bound<'_, PyBytes>) -> Self {
        let slice = object.as_bytes();
        let (start, len) = (slice.as_ptr(), slice.len());
        Bytes { _object: Owned::new(object.clone().into_any()), start, len }
    }
}

impl AsRef<[u8]> for Chunk {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        match self {
            // SAFETY: the object is alive, since it is owned here, and its bytes neither move nor change.
            Chunk::Bytes(bytes) => unsafe { std::slice::from_raw_parts(bytes.start, bytes.len) },
            Chunk::Copied(bytes) => bytes,
        }
    }
}

/// What a stream transport takes: `bytes`, `bytearray` or `memoryview`, or a subclass.
pub(crate) fn is_stream_data(object: Borrowed<'_, '_, PyAny>) -> bool {
    object.is_instance_of::<PyBytes>()
        || object.is_instance_of::<PyByteArray>()
        || object.is_instance_of::<PyMemoryView>()
}

/// `not data`.
#[inline]
pub(crate) fn is_empty(object: Borrowed<'_, '_, PyAny>) -> PyResult<bool> {
    match object.cast_exact::<PyBytes>() {
        Ok(bytes) => Ok(bytes.as_bytes().is_empty()),
        Err(_) => Ok(object.len()? == 0),
    }
}

/// The object's size in bytes, as far as no Python code is needed to know it: 0 for subclasses.
pub(crate) fn size(object: Borrowed<'_, '_, PyAny>) -> usize {
    if let Ok(bytes) = object.cast_exact::<PyBytes>() {
        bytes.as_bytes().len()
    } else if let Ok(array) = object.cast_exact::<PyByteArray>() {
        array.len()
    } else if object.is_exact_instance_of::<PyMemoryView>() {
        object.getattr(intern!(object.py(), "nbytes")).and_then(|size| size.extract()).unwrap_or(0)
    } else {
        0
    }
}

/// Calls `body` with the object's bytes. BufferError if they are not contiguous, TypeError if it has none.
#[inline]
pub(crate) fn with_bytes<R>(object: Borrowed<'_, '_, PyAny>, body: impl FnOnce(&[u8]) -> R) -> PyResult<R> {
    if let Ok(bytes) = object.cast_exact::<PyBytes>() {
        return Ok(body(bytes.as_bytes()));
    }
    if let Some(array) = plain_array(object) {
        // SAFETY: an array changes and moves by Python code, of which none runs in `body`.
        return Ok(body(unsafe { array.as_bytes() }));
    }
    let mut raw = ffi::Py_buffer::new();
    let view = View::get(&mut raw, object, ffi::PyBUF_SIMPLE)?;
    // SAFETY: the exporter keeps the memory in place until the view is released; nobody writes to it meanwhile, since no
    // Python code runs in `body`.
    Ok(body(unsafe { view.slice() }))
}

/// An array of bytes that needs no view to stay as it is while no Python code runs: without the GIL, other threads' does.
#[inline]
fn plain_array<'a, 'py>(object: Borrowed<'a, 'py, PyAny>) -> Option<Borrowed<'a, 'py, PyByteArray>> {
    if cfg!(Py_GIL_DISABLED) { None } else { object.cast_exact::<PyByteArray>().ok() }
}

/// Calls `body` with the memory of a writable buffer, whose contents are initialised. TypeError for what is none, with
/// the text of the socket's `method`.
#[inline]
pub(crate) fn with_writable<R>(
    object: Borrowed<'_, '_, PyAny>,
    method: &str,
    body: impl FnOnce(&mut [u8]) -> R,
) -> PyResult<R> {
    match plain_array(object) {
        // SAFETY: as in `with_bytes`.
        Some(array) => Ok(body(unsafe { array.as_bytes_mut() })),
        None => with_writable_held(object, method, body),
    }
}

/// As `with_writable`, for a `body` that may run Python code: the buffer stays where it is.
pub(crate) fn with_writable_held<R>(
    object: Borrowed<'_, '_, PyAny>,
    method: &str,
    body: impl FnOnce(&mut [u8]) -> R,
) -> PyResult<R> {
    let mut raw = ffi::Py_buffer::new();
    let Ok(mut view) = View::get(&mut raw, object, ffi::PyBUF_WRITABLE) else {
        let class = object.get_type().name()?;
        let text = format!("{method}() argument 1 must be read-write bytes-like object, not {class}");
        return Err(PyTypeError::new_err(text));
    };
    // SAFETY: the exporter keeps the memory in place until the view is released, and has agreed to writing.
    Ok(body(unsafe { view.slice_mut() }))
}

/// What is left of the data after its first `sent` bytes, to be kept: exact `bytes` by reference, all else as a copy.
/// Returns with it how much of the chunk has gone.
pub(crate) fn keep(object: Borrowed<'_, '_, PyAny>, sent: usize) -> PyResult<(Chunk, usize)> {
    if let Ok(bytes) = object.cast_exact::<PyBytes>() {
        return Ok((Chunk::Bytes(Bytes::new(&bytes)), sent));
    }
    let rest = with_bytes(object, |bytes| Box::from(bytes.get(sent..).unwrap_or_default()))?;
    Ok((Chunk::Copied(rest), 0))
}

/// `bytearray.extend(slice)`. BufferError if somebody holds a view of it.
#[inline]
pub(crate) fn append(array: &Bound<'_, PyByteArray>, slice: &[u8]) -> PyResult<()> {
    let before = array.len();
    array.resize(before + slice.len())?;
    // SAFETY: the array has just become so long that the slice fits behind what it held; nobody else sees the memory
    // while no Python code runs.
    unsafe { array.as_bytes_mut()[before..].copy_from_slice(slice) }
    Ok(())
}

/// A new `bytes` object with a copy of the slice.
#[inline(always)]
pub(crate) fn bytes<'py>(py: Python<'py>, slice: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: attached; the pointer and length are the slice's.
    unsafe {
        let raw = ffi::PyBytes_FromStringAndSize(slice.as_ptr().cast(), slice.len().cast_signed());
        Bound::from_owned_ptr_or_err(py, raw)
    }
}

/// The last `bytes` objects that were given away, for data of the same size as soon as nobody else has them. Those that come
/// by way of the loop's buffer are too large for Python's own free lists, and most connections' messages are alike. There
/// are two, since who receives into a variable holds one message while it asks for the next.
pub(crate) struct SpareBytes {
    given: [Option<Owned>; 2],
    /// The one to give up for another.
    older: usize,
}

/// Smaller ones come from Python's allocator, which is as fast. Bytes.
const SPARE_FROM: usize = 512;
/// So much is kept of each at most. Bytes.
const SPARE_TO: usize = 256 * 1024;

impl SpareBytes {
    pub(crate) const fn new() -> Self {
        SpareBytes { given: [None, None], older: 0 }
    }

    /// As `bytes`, in an object that has come back if one fits. Runs no Python code: what it drops is exact `bytes`.
    #[inline(always)]
    pub(crate) fn bytes<'py>(&mut self, py: Python<'py>, slice: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        if cfg!(Py_GIL_DISABLED) || !(SPARE_FROM..=SPARE_TO).contains(&slice.len()) {
            return bytes(py, slice);
        }
        // SAFETY: reads the size of a live object of exactly `bytes`, as all that are kept here are.
        let len = |it: &Owned| unsafe { ffi::Py_SIZE(it.as_ptr()) }.cast_unsigned();
        let fits = |it: &&Owned| len(it) == slice.len() && is_ours(it.bind(py));
        if let Some(spare) = self.given.iter().flatten().find(fits) {
            // SAFETY: an exact `bytes` object of this length to which only this reference exists, so that nobody can see
            // it change; its hash, if anybody asked for it, is forgotten with its contents.
            unsafe {
                let raw = spare.as_ptr().cast::<ffi::PyBytesObject>();
                #[allow(deprecated)]
                (&raw mut (*raw).ob_shash).write(-1);
                let memory = (&raw mut (*raw).ob_sval).cast::<u8>();
                memory.copy_from_nonoverlapping(slice.as_ptr(), slice.len());
            }
            return Ok(spare.bind(py).clone());
        }
        let object = bytes(py, slice)?;
        self.given[self.older] = Some(Owned::new(object.clone()));
        self.older = 1 - self.older;
        Ok(object)
    }
}

/// As `SpareBytes`, for functions that fill memory: an exact `bytearray`. It owns what is in it, so whoever keeps it, or a
/// view of it, keeps nothing of ours; then the next call gets another one.
pub(crate) struct SpareArray(Option<Owned>);

impl SpareArray {
    pub(crate) const fn new() -> Self {
        SpareArray(None)
    }

    /// An array of this size, whose contents are of no interest.
    #[inline]
    pub(crate) fn array<'py>(&mut self, py: Python<'py>, size: usize) -> PyResult<Bound<'py, PyAny>> {
        let fits = |spare: &Owned| spare.bind(py).cast_exact::<PyByteArray>().is_ok_and(|it| it.len() == size);
        match self.0.take_if(|spare| fits(spare)) {
            Some(spare) => Ok(spare.into_bound(py)),
            None => Ok(PyByteArray::new_with(py, size, |_| Ok(()))?.into_any()),
        }
    }

    /// Takes back what was given away. Runs no Python code: what it drops is an exact `bytearray`.
    #[inline]
    pub(crate) fn put(&mut self, object: Bound<'_, PyAny>) {
        if is_ours(&object) && object.is_exact_instance_of::<PyByteArray>() {
            self.0 = Some(Owned::new(object));
        }
    }
}

/// Has nobody else kept the object? A view of it would count.
#[inline]
fn is_ours(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: reads the count of a live object.
    !cfg!(Py_GIL_DISABLED) && unsafe { ffi::Py_REFCNT(object.as_ptr()) } == 1
}

/// A new `bytes` object of at most `size` bytes that `fill` writes itself; it says how many it wrote. `fill` runs no
/// Python code.
pub(crate) fn bytes_filled<'py, E>(
    py: Python<'py>,
    size: usize,
    fill: impl FnOnce(&mut [MaybeUninit<u8>]) -> Result<usize, E>,
) -> PyResult<Result<Bound<'py, PyAny>, E>> {
    // SAFETY: attached; a fresh object that nobody else has seen may be written to and shortened. `_PyBytes_Resize` takes
    // the reference and gives another one, or null with an exception.
    unsafe {
        let mut raw = ffi::PyBytes_FromStringAndSize(std::ptr::null(), size.cast_signed());
        if raw.is_null() {
            return Err(PyErr::fetch(py));
        }
        let memory = std::slice::from_raw_parts_mut(ffi::PyBytes_AsString(raw).cast::<MaybeUninit<u8>>(), size);
        match fill(memory) {
            Ok(count) => {
                if count < size && _PyBytes_Resize(&mut raw, count.cast_signed()) != 0 {
                    return Err(PyErr::fetch(py));
                }
                Ok(Ok(Bound::from_owned_ptr(py, raw)))
            }
            Err(error) => {
                ffi::Py_DECREF(raw);
                Ok(Err(error))
            }
        }
    }
}

/// A held buffer of a Python object; released when dropped.
struct View<'a> {
    raw: &'a mut ffi::Py_buffer,
}

impl<'a> View<'a> {
    #[inline]
    fn get(raw: &'a mut ffi::Py_buffer, object: Borrowed<'_, '_, PyAny>, flags: std::ffi::c_int) -> PyResult<Self> {
        // SAFETY: attached; the buffer does not move while it is held, since it is borrowed.
        if unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &raw mut *raw, flags) } != 0 {
            return Err(PyErr::fetch(object.py()));
        }
        Ok(View { raw })
    }

    /// # Safety
    /// Nobody writes to the memory while the slice lives.
    unsafe fn slice(&self) -> &[u8] {
        if self.raw.len == 0 {
            return &[];
        }
        // SAFETY: a held simple buffer is `len` contiguous bytes.
        unsafe { std::slice::from_raw_parts(self.raw.buf.cast(), self.raw.len.cast_unsigned()) }
    }

    /// # Safety
    /// Nobody else reads or writes the memory while the slice lives, and it was asked for as writable.
    unsafe fn slice_mut(&mut self) -> &mut [u8] {
        if self.raw.len == 0 {
            return &mut [];
        }
        // SAFETY: as in `slice`.
        unsafe { std::slice::from_raw_parts_mut(self.raw.buf.cast(), self.raw.len.cast_unsigned()) }
    }
}

impl Drop for View<'_> {
    fn drop(&mut self) {
        // SAFETY: acquired in `get`, released once; attached, since views never leave the call that made them.
        unsafe { ffi::PyBuffer_Release(&raw mut *self.raw) }
    }
}
