#![allow(unsafe_code)]
//! The life of native objects: made, shown to the collector, freed, or kept for reuse.
//!
//! Dead objects of the classes that come and go most are kept, up to `Fields::SPARE_BYTES`, and revived instead of allocated:
//! a handle or future then costs no allocator call. `class.rs` says what the objects are; nothing here looks inside.

#[cfg(not(Py_GIL_DISABLED))]
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::atomic::Ordering::Relaxed;

use pyo3::ffi;
use pyo3::prelude::*;

use super::class::{Class, Fields, fields_ptr};
use super::object::Owned;

/// `Fields::SPARE_BYTES` of classes that come in bursts: what a thread queues for a loop before it must let go of the
/// interpreter, the tasks of a `gather`. Freed, such a burst would leave whole arenas to the system, which has to clear
/// each page of them for the next one.
pub(crate) const BURST_BYTES: usize = 4 << 20;

/// Dead objects, each with its reference to the class; a list through the first word of what were their fields.
/// Free-threaded builds keep none.
pub(super) struct Spares {
    #[cfg(not(Py_GIL_DISABLED))]
    first: Cell<*mut ffi::PyObject>,
    /// How many more may be kept.
    #[cfg(not(Py_GIL_DISABLED))]
    room: Cell<usize>,
}

// SAFETY: touched by attached threads only, of which the GIL admits one at a time; the module refuses subinterpreters.
#[cfg(not(Py_GIL_DISABLED))]
unsafe impl Sync for Spares {}

#[cfg(not(Py_GIL_DISABLED))]
unsafe extern "C" {
    /// Makes a dead object's count one again, in the debug builds' books too. Declared in CPython's `object.h`.
    fn _Py_NewReference(object: *mut ffi::PyObject);
}

impl Spares {
    pub(super) const fn new() -> Self {
        Spares {
            #[cfg(not(Py_GIL_DISABLED))]
            first: Cell::new(std::ptr::null_mut()),
            #[cfg(not(Py_GIL_DISABLED))]
            room: Cell::new(0),
        }
    }

    /// Tells how many objects may be kept. Before that none is.
    pub(super) fn set_room(&self, objects: usize) {
        #[cfg(not(Py_GIL_DISABLED))]
        self.room.set(objects);
        #[cfg(Py_GIL_DISABLED)]
        let _ = objects;
    }

    /// The memory of a dead object, alive again: base fields zero, our fields uninitialised, not tracked.
    #[inline(always)]
    fn revive(&self, offset: usize) -> Option<*mut ffi::PyObject> {
        #[cfg(not(Py_GIL_DISABLED))]
        {
            let object = self.first.get();
            if !object.is_null() {
                // SAFETY: `keep` put the next one's address there; the GIL is held (see `Spares`).
                unsafe {
                    self.first.set(object.cast::<u8>().add(offset).cast::<*mut ffi::PyObject>().read());
                    _Py_NewReference(object);
                }
                self.room.set(self.room.get() + 1);
                return Some(object);
            }
        }
        #[cfg(Py_GIL_DISABLED)]
        let _ = offset;
        None
    }

    /// Keeps a dead object's memory; false if there is enough of it already.
    ///
    /// # Safety
    /// The object is exactly of this class, unreachable, untracked, never finalized, and all its fields are gone; at the
    /// offset there is room for an address.
    #[inline(always)]
    unsafe fn keep(&self, object: *mut ffi::PyObject, offset: usize) -> bool {
        #[cfg(not(Py_GIL_DISABLED))]
        if let Some(room) = self.room.get().checked_sub(1) {
            // SAFETY: the caller's promise.
            unsafe { object.cast::<u8>().add(offset).cast::<*mut ffi::PyObject>().write(self.first.get()) };
            self.first.set(object);
            self.room.set(room);
            return true;
        }
        #[cfg(Py_GIL_DISABLED)]
        let _ = (object, offset);
        false
    }
}

/// A new instance of exactly `T`'s class.
#[inline]
pub(crate) fn create<T: Fields>(py: Python<'_>, fields: T) -> PyResult<Bound<'_, PyAny>> {
    let object = create_untracked(py, fields)?;
    track_new(object.as_borrowed());
    Ok(object)
}

/// As `create`, but unknown to the collector until `track`. For objects that a queue holds which the collector sees, so
/// that they cannot be garbage before they leave it.
#[inline(always)]
pub(crate) fn create_untracked<T: Fields>(py: Python<'_>, fields: T) -> PyResult<Bound<'_, PyAny>> {
    let class = T::class();
    // SAFETY: an allocated object's base fields are zero, and ours are written before anyone else can see it.
    unsafe {
        let object = match class.spares.revive(class.offset.load(Relaxed)) {
            Some(object) => object,
            None => allocate(class),
        };
        if object.is_null() {
            return Err(PyErr::fetch(py));
        }
        fields_ptr::<T>(object).write(fields);
        Ok(Bound::from_owned_ptr(py, object))
    }
}

/// Null, with an exception set, if there is no memory.
#[inline(never)]
fn allocate(class: &Class) -> *mut ffi::PyObject {
    // SAFETY: the allocator zeroes what lies before the object and tracks nothing; the base's fields are zeroed here, as
    // the base's own allocator would have done, and ours are the caller's to write.
    unsafe {
        let object = ffi::PyObject_GC_New::<ffi::PyObject>(class.type_ptr());
        if !object.is_null() {
            let base_fields = class.offset.load(Relaxed) - size_of::<ffi::PyObject>();
            object.add(1).cast::<u8>().write_bytes(0, base_fields);
        }
        object
    }
}

/// Shows a new object to the collector.
#[inline(always)]
pub(crate) fn track_new(object: Borrowed<'_, '_, PyAny>) {
    // SAFETY: it comes from `create_untracked`: of a GC type, its fields initialised, not tracked.
    unsafe { ffi::PyObject_GC_Track(object.as_ptr().cast()) }
}

/// Shows an object to the collector, if it is not yet.
#[inline]
pub(crate) fn track(object: Borrowed<'_, '_, PyAny>) {
    // SAFETY: every native class is a GC type, and its fields are initialised.
    unsafe {
        if ffi::PyObject_GC_IsTracked(object.as_ptr()) == 0 {
            ffi::PyObject_GC_Track(object.as_ptr().cast());
        }
    }
}

/// Hides an object from the collector: its only holder shows what it refers to.
pub(crate) fn untrack(object: Borrowed<'_, '_, PyAny>) {
    // SAFETY: every native class is a GC type; untracking twice is allowed.
    unsafe { ffi::PyObject_GC_UnTrack(object.as_ptr().cast()) }
}

pub(crate) fn is_tracked(object: &Owned) -> bool {
    // SAFETY: reads the GC header of a live object of a GC type.
    unsafe { ffi::PyObject_GC_IsTracked(object.as_ptr()) != 0 }
}

/// Shows everything that the object refers to.
pub(crate) fn visit_referents(object: &Owned, visit: &mut dyn FnMut(&Owned)) {
    unsafe extern "C" fn pass_on(object: *mut ffi::PyObject, argument: *mut c_void) -> c_int {
        // SAFETY: `argument` is the closure below; an `Owned` is a pointer, and this one is not dropped.
        unsafe {
            let visit = &mut *argument.cast::<&mut dyn FnMut(&Owned)>();
            visit(&*(&raw const object).cast::<Owned>());
        }
        0
    }
    let mut visit = visit;
    // SAFETY: the object is live; its own `tp_traverse` calls `pass_on` with the closure that outlives it.
    unsafe {
        if let Some(traverse) = (*ffi::Py_TYPE(object.as_ptr())).tp_traverse {
            traverse(object.as_ptr(), pass_on, (&raw mut visit).cast());
        }
    }
}

/// Does anyone but the caller, who owns this reference, hold the object?
#[inline]
pub(crate) fn is_shared(object: &Owned) -> bool {
    // SAFETY: reads the count of a live object.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) > 1 }
}

/// `tp_dealloc` of every native class.
pub(super) unsafe extern "C" fn dealloc<T: Fields>(object: *mut ffi::PyObject) {
    let class = T::class();
    // SAFETY: called once per object, when its count reached zero. A Python subclass has run the finalizer already and
    // calls this through `subtype_dealloc`. Weak references go first, so that nothing that a field's end runs can reach
    // the object.
    unsafe {
        let type_object = ffi::Py_TYPE(object);
        let exact = type_object == class.type_ptr();
        if T::FINALIZES
            && exact
            && (*fields_ptr::<T>(object)).wants_finalizer()
            && ffi::PyObject_CallFinalizerFromDealloc(object) < 0
        {
            return;
        }
        ffi::PyObject_GC_UnTrack(object.cast());
        clear_weak_references(object, type_object);
        class.clear_own_dict(object);
        let base = class.base.load(Relaxed);
        let plain_base = class.plain_base.load(Relaxed);
        if exact
            && (*fields_ptr::<T>(object)).is_reusable()
            && !(T::FINALIZES && class.has_finalized.load(Relaxed) && ffi::PyObject_GC_IsFinalized(object) != 0)
        {
            std::ptr::drop_in_place(fields_ptr::<T>(object));
            if !plain_base {
                class.base_fields.clear(object, base);
            }
            if !class.spares.keep(object, class.offset.load(Relaxed)) {
                free(object, type_object);
            }
        } else if plain_base {
            std::ptr::drop_in_place(fields_ptr::<T>(object));
            free(object, type_object);
        } else {
            // The base's dealloc may look at the object again, so the fields are replaced; that of a heap type gives
            // back the reference to the type, that of a static type leaves it to us.
            let empty = T::empty().expect("classes with a native base are public");
            drop(std::ptr::replace(fields_ptr::<T>(object), empty));
            if let Some(base_dealloc) = (*base).tp_dealloc {
                // As CPython's own `subtype_dealloc` does: a base that knows of the collector untracks once more.
                ffi::PyObject_GC_Track(object.cast());
                base_dealloc(object);
            }
            if !class.heap_base.load(Relaxed) {
                ffi::Py_DECREF(type_object.cast());
            }
        }
    }
}

/// # Safety
/// `object` is dead, of this type, and holds a list of weak references where the type says so.
#[inline]
unsafe fn clear_weak_references(object: *mut ffi::PyObject, type_object: *mut ffi::PyTypeObject) {
    // SAFETY: the caller's promise; a negative offset is a field before the object, as in CPython's own macro.
    unsafe {
        let offset = (*type_object).tp_weaklistoffset;
        if offset != 0 && !(*object.cast::<u8>().offset(offset).cast::<*mut ffi::PyObject>()).is_null() {
            ffi::PyObject_ClearWeakRefs(object);
        }
    }
}

/// # Safety
/// `object` is dead, of this type, and all its fields are gone.
#[inline]
unsafe fn free(object: *mut ffi::PyObject, type_object: *mut ffi::PyTypeObject) {
    // SAFETY: the caller's promise; an instance of a heap type holds a reference to it.
    unsafe {
        let free = (*type_object).tp_free.unwrap_or(ffi::PyObject_GC_Del);
        free(object.cast());
        ffi::Py_DECREF(type_object.cast());
    }
}
