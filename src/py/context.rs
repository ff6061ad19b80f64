#![allow(unsafe_code)]
//! The contexts in which callbacks and tasks run: snapshots of the current one, made objects when somebody may see them.
//!
//! `contextvars.copy_context()` makes an object that shares an immutable map of variables with the one it copies. A
//! `Snapshot` keeps the map alone. It becomes a context of its own when its work begins or somebody asks for it, and
//! the memory of one that nobody else has seen serves the next. Where the map is, and where the thread keeps its current
//! context, is found at import and believed only if every check holds; otherwise, and without the GIL, snapshots are
//! copies made by CPython.

use std::cell::Cell;
use std::ffi::CStr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};

use pyo3::ffi;
use pyo3::prelude::*;

use super::cell::LoopCell;
use super::object::Owned;

/// The variables that some work will see: a map that no context has yet, or a context.
pub(crate) struct Snapshot(Owned);

/// Byte offset of the current context in the thread state; 0 while it is not known where things are.
static CURRENT: AtomicUsize = AtomicUsize::new(0);
/// Byte offset of the map in a context.
static MAP: AtomicUsize = AtomicUsize::new(0);
static MAP_TYPE: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(std::ptr::null_mut());
/// The map without variables, of which this is a reference.
static EMPTY_MAP: AtomicPtr<ffi::PyObject> = AtomicPtr::new(std::ptr::null_mut());
static SPARE: Spare = Spare(Cell::new(std::ptr::null_mut()));

/// A context that nobody else holds, with an empty map; or null.
struct Spare(Cell<*mut ffi::PyObject>);

// SAFETY: touched by attached threads only, of which the GIL admits one at a time: without it `CURRENT` stays 0.
unsafe impl Sync for Spare {}

impl Snapshot {
    /// `contextvars.copy_context()`, put off.
    #[inline(always)]
    pub(crate) fn take(py: Python<'_>) -> PyResult<Self> {
        match current_map(py) {
            Some(map) => Ok(Snapshot(map)),
            None => copy_context(py).map(Snapshot),
        }
    }

    /// The caller's own context, whatever it is: entering it will tell.
    pub(crate) fn given(context: Borrowed<'_, '_, PyAny>) -> Self {
        Snapshot(Owned::of(context))
    }

    pub(crate) fn of(context: Owned) -> Self {
        Snapshot(context)
    }

    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        Snapshot(self.0.clone_ref(py))
    }

    /// For the collector: what the snapshot refers to.
    pub(crate) fn object(&self) -> &Owned {
        &self.0
    }

    pub(crate) fn into_object(self) -> Owned {
        self.0
    }

    /// The context, unless it is still to be made.
    #[inline(always)]
    pub(crate) fn context(&self) -> Option<&Owned> {
        (!self.is_map()).then_some(&self.0)
    }

    #[inline(always)]
    fn is_map(&self) -> bool {
        // SAFETY: reads the type of a live object; no object has a null type.
        unsafe { ffi::Py_TYPE(self.0.as_ptr()) == MAP_TYPE.load(Relaxed) }
    }

    /// The context itself. Making one may run the collector, and so Python code.
    #[inline(always)]
    pub(crate) fn into_context(self, py: Python<'_>) -> PyResult<Owned> {
        if !self.is_map() {
            return Ok(self.0);
        }
        let spare = SPARE.0.replace(std::ptr::null_mut());
        // SAFETY: the spare is a reference that now is ours alone; the map that it loses is the empty one, whose
        // reference count never reaches zero. `is_map` tells that the layout is known.
        unsafe {
            let context = if spare.is_null() {
                Bound::from_owned_ptr_or_err(py, ffi::PyContext_New())?
            } else {
                Bound::from_owned_ptr(py, spare)
            };
            let empty = map_of(context.as_ptr()).replace(self.0.into_raw());
            ffi::Py_DECREF(empty);
            Ok(Owned::new(context))
        }
    }

    /// Makes the context, if it takes no more than the spare one; runs no Python code.
    #[inline(always)]
    pub(crate) fn make_from_spare(&mut self, _py: Python<'_>) {
        if self.is_map() && !SPARE.0.get().is_null() {
            let spare = SPARE.0.replace(std::ptr::null_mut());
            // SAFETY: as in `into_context`; the map moves into the context, whose reference takes its place.
            unsafe {
                let empty = map_of(spare).replace(self.0.as_ptr());
                ffi::Py_DECREF(empty);
                std::mem::forget(std::mem::replace(&mut self.0, Owned::from_raw(spare)));
            }
        }
    }

    /// What is left of a context whose work is done: the variables alone, if nobody else holds or watches it. Then no one
    /// can tell the context that `into_context` makes of them again from this one.
    #[inline(always)]
    pub(crate) fn of_finished(context: Owned) -> Self {
        // SAFETY: as `is_reclaimable` found; a context that is entered is held by the thread, so this one is not.
        unsafe {
            if !is_reclaimable(&context) {
                return Snapshot(context);
            }
            let empty = EMPTY_MAP.load(Relaxed);
            ffi::Py_INCREF(empty);
            let map = map_of(context.as_ptr()).replace(empty);
            if SPARE.0.get().is_null() {
                SPARE.0.set(context.into_raw());
            }
            Snapshot(Owned::new(Bound::from_owned_ptr(Python::assume_attached(), map)))
        }
    }
}

/// The context of a field, made now if it is not yet, and kept there.
pub(crate) fn context_in<S>(
    py: Python<'_>,
    cell: &LoopCell<S>,
    field: impl Fn(&mut S) -> &mut Option<Snapshot>,
) -> PyResult<Option<Owned>> {
    let kept = field(&mut cell.open(py)).as_ref().map(|snapshot| snapshot.clone_ref(py));
    let Some(kept) = kept else { return Ok(None) };
    if !kept.is_map() {
        return Ok(Some(kept.0));
    }
    let made = kept.into_context(py)?;
    let mut state = cell.open(py);
    // Python code that ran in the meantime may have asked, too: then its context is the one.
    let (answer, left) = match field(&mut state) {
        Some(now) if now.is_map() => {
            let map = std::mem::replace(now, Snapshot(made.clone_ref(py)));
            (Some(made), Some(map.0))
        }
        now => (now.as_ref().map(|now| now.0.clone_ref(py)), Some(made)),
    };
    drop(state);
    drop(left);
    Ok(answer)
}

/// Is it a context that only the caller knows?
#[inline(always)]
unsafe fn is_reclaimable(context: &Owned) -> bool {
    let object = context.as_ptr();
    // SAFETY: reads a live object; contexts have their list of weak references where their type says.
    unsafe {
        CURRENT.load(Relaxed) != 0
            && ffi::Py_REFCNT(object) == 1
            && ffi::PyContext_CheckExact(object) != 0
            && word(object, (*ffi::Py_TYPE(object)).tp_weaklistoffset.cast_unsigned()).read().is_null()
    }
}

/// The map of the current context, if there is one and its place is known.
#[inline(always)]
fn current_map(py: Python<'_>) -> Option<Owned> {
    let offset = CURRENT.load(Relaxed);
    if offset == 0 {
        return None;
    }
    // SAFETY: attached, so there is a thread state, and its current context is a `contextvars.Context` or null; `find`
    // has checked both offsets.
    unsafe {
        let context = word(ffi::PyThreadState_Get(), offset).read();
        if context.is_null() {
            return None;
        }
        let map = map_of(context).read();
        (!map.is_null()).then(|| Owned::new(Bound::from_borrowed_ptr(py, map)))
    }
}

fn word<T>(object: *mut T, offset: usize) -> *mut *mut ffi::PyObject {
    object.cast::<u8>().wrapping_add(offset).cast()
}

#[inline(always)]
fn map_of(context: *mut ffi::PyObject) -> *mut *mut ffi::PyObject {
    word(context, MAP.load(Relaxed))
}

/// `context.copy()`.
pub(crate) fn fork_context(context: &Bound<'_, PyAny>) -> PyResult<Owned> {
    // SAFETY: attached; checks the type itself, and returns a new reference or null with an exception.
    unsafe { Bound::from_owned_ptr_or_err(context.py(), ffi::PyContext_Copy(context.as_ptr())).map(Owned::new) }
}

/// `contextvars.copy_context()`.
#[inline(never)]
pub(crate) fn copy_context(py: Python<'_>) -> PyResult<Owned> {
    // SAFETY: attached; returns a new reference or null with an exception.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()).map(Owned::new) }
}

/// `isinstance(object, contextvars.Context)`.
pub(crate) fn is_context(object: Borrowed<'_, '_, PyAny>) -> bool {
    // SAFETY: reads the type of a live object.
    unsafe { ffi::PyContext_CheckExact(object.as_ptr()) != 0 }
}

/// Runs `body` inside a `contextvars.Context`.
#[inline(always)]
pub(crate) fn in_context<'py, R>(context: &Bound<'py, PyAny>, body: impl FnOnce() -> R) -> PyResult<R> {
    let py = context.py();
    // SAFETY: PyContext_Enter checks the type itself. Exit pairs with it; it fails only if `body` left another context
    // entered, and then the exception it sets is the truth to report.
    unsafe {
        if ffi::PyContext_Enter(context.as_ptr()) != 0 {
            return Err(PyErr::fetch(py));
        }
        let result = body();
        if ffi::PyContext_Exit(context.as_ptr()) != 0 {
            return Err(PyErr::fetch(py));
        }
        Ok(result)
    }
}

struct Layout {
    current: usize,
    map: usize,
    empty: Owned,
}

/// Looks at the running interpreter's objects. Called once, at import.
pub(crate) fn load(py: Python<'_>) -> PyResult<()> {
    if cfg!(Py_GIL_DISABLED) || CURRENT.load(Relaxed) != 0 {
        return Ok(());
    }
    let Some(Layout { current, map, empty }) = find(py)? else { return Ok(()) };
    // SAFETY: reads the type of a live object.
    MAP_TYPE.store(unsafe { ffi::Py_TYPE(empty.as_ptr()) }, Relaxed);
    MAP.store(map, Relaxed);
    EMPTY_MAP.store(empty.into_raw(), Relaxed);
    CURRENT.store(current, Relaxed);
    Ok(())
}

fn find(py: Python<'_>) -> PyResult<Option<Layout>> {
    const WORD: usize = size_of::<usize>();
    /// No thread state of 3.10 to 3.15 is smaller.
    const THREAD_STATE: usize = 280;
    let variable = py.import("contextvars")?.getattr("ContextVar")?.call1(("mioloop probe",))?;
    // SAFETY: returns a new reference or null with an exception.
    let make = || unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_New()) };
    let (one, two) = (make()?, make()?);
    // SAFETY: `offset` is of a whole word inside the object.
    let read = |object: &Bound<'_, PyAny>, offset| unsafe { word(object.as_ptr(), offset).read() };
    // SAFETY: as above, for the thread state of this very thread.
    let thread = |offset| unsafe { word(ffi::PyThreadState_Get(), offset).read() };

    // A new context has nothing but a map, and all new ones have the same. Behind the list of weak references there are
    // no more of them, but a number with padding.
    // SAFETY: reads the type of a live object.
    let size = unsafe { (*ffi::Py_TYPE(one.as_ptr())).tp_weaklistoffset.cast_unsigned() };
    let filled: Vec<usize> = (2 * WORD..size).step_by(WORD).filter(|offset| !read(&one, *offset).is_null()).collect();
    let [map] = filled[..] else { return Ok(None) };
    let empty = read(&one, map);
    // SAFETY: a word that is set in a context is a reference: it has no numbers but zero yet.
    let (is_map, empty) = unsafe {
        let name = CStr::from_ptr((*ffi::Py_TYPE(empty)).tp_name);
        (name == c"hamt", Bound::from_borrowed_ptr(py, empty))
    };
    if !is_map || read(&two, map) != empty.as_ptr() {
        return Ok(None);
    }
    // Entering a context writes its address to one word of the thread state.
    let holds = |context: &Bound<'_, PyAny>| -> Vec<usize> {
        (0..THREAD_STATE).step_by(WORD).filter(|offset| thread(*offset) == context.as_ptr()).collect()
    };
    let (outer, (inner, value)) = in_context(&one, || {
        let inner = in_context(&two, || (holds(&one), holds(&two)));
        (holds(&one), (inner, variable.call_method1("set", (true,))))
    })?;
    let (inner, _token) = (inner?, value?);
    let [current] = outer[..] else { return Ok(None) };
    if !inner.0.is_empty() || inner.1 != outer || !holds(&one).is_empty() {
        return Ok(None);
    }
    // Setting a variable gives the context another map, which its copies share, and which is as good in any context.
    let changed = read(&one, map);
    let copy = in_context(&one, || copy_context(py))??;
    // SAFETY: both maps are live; the references are exchanged, and given back.
    let seen = unsafe {
        if changed == empty.as_ptr() || ffi::Py_TYPE(changed) != ffi::Py_TYPE(empty.as_ptr()) {
            return Ok(None);
        }
        word(two.as_ptr(), map).write(changed);
        let seen = two.get_item(&variable);
        word(two.as_ptr(), map).write(empty.as_ptr());
        seen
    };
    let holds_all = seen.is_ok_and(|value| value.is_truthy().unwrap_or(false)) && read(copy.bind(py), map) == changed;
    Ok(holds_all.then(|| Layout { current, map, empty: Owned::new(empty) }))
}
