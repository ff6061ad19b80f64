#![allow(unsafe_code)]
//! Where instances of native classes keep what Python sees but our fields do not hold: weak references, a dict, and
//! what asyncio's own functions put into the fields of a base.
//!
//! Used by `class.rs` when it makes a class, and by `memory.rs` and the collector. Nothing here knows what the classes are
//! for.

use std::ffi::{CStr, c_void};
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering::Relaxed};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::compat;
use super::introspection;

/// What the fields of a base in C may hold: its `__init__` never runs, so nearly all stay empty.
pub(super) struct BaseFields {
    /// Byte offset of the instance dict, the only field that Python code may set; 0 if it is not known what may be set.
    dict: AtomicIsize,
    /// Byte offsets of the references that `introspection` and asyncio's functions set; 0 for no more.
    references: [AtomicUsize; 3],
}

impl BaseFields {
    pub(super) const fn new() -> Self {
        BaseFields { dict: AtomicIsize::new(0), references: [const { AtomicUsize::new(0) }; 3] }
    }

    /// Finds out which fields of the base, of `base_size` bytes, may hold something, if that can be known. Called once,
    /// before the new class has instances.
    pub(super) fn learn(&self, class: &Bound<'_, PyType>, base_size: usize) -> PyResult<()> {
        // SAFETY: the class is new.
        unsafe { compat::without_inline_values(class.as_type_ptr()) };
        if compat::HAS_AWAITED_BY {
            let Some(known) = introspection::references(class.py(), base_size) else { return Ok(()) };
            self.references.iter().zip(known).for_each(|(place, offset)| place.store(offset, Relaxed));
        }
        self.dict.store(find_dict(class)?, Relaxed);
        Ok(())
    }

    /// Nothing is in the object's base fields but `references`.
    ///
    /// # Safety
    /// The object is an instance of the class.
    #[inline(always)]
    pub(super) unsafe fn are_known(&self, object: *mut ffi::PyObject) -> bool {
        let dict = self.dict.load(Relaxed);
        // SAFETY: instances, of subclasses too, have their dict where `find_dict` saw it; those of a subclass may have inline
        // values instead.
        unsafe {
            let inline = ffi::PyType_GetFlags(ffi::Py_TYPE(object)) & compat::INLINE_VALUES;
            dict != 0 && inline == 0 && (*word_at(object, dict)).is_null()
        }
    }

    /// Where the base's fields may hold references.
    #[inline(always)]
    pub(super) fn references(&self, object: *mut ffi::PyObject) -> impl Iterator<Item = *mut *mut ffi::PyObject> {
        let offsets = self.references.iter().map(|offset| offset.load(Relaxed));
        offsets.take_while(|offset| *offset != 0).map(move |offset| word_at(object, offset.cast_signed()))
    }

    /// Empties the base's fields.
    ///
    /// # Safety
    /// Attached; the object is a dead instance of the class, `base` its base in C.
    #[inline(always)]
    pub(super) unsafe fn clear(&self, object: *mut ffi::PyObject, base: *mut ffi::PyTypeObject) {
        // SAFETY: the caller's promise; each place is emptied before the reference goes, whose end may run Python code.
        unsafe {
            match (*base).tp_clear {
                Some(base_clear) if !self.are_known(object) => drop(base_clear(object)),
                _ => self.references(object).for_each(|place| ffi::Py_XDECREF(place.replace(std::ptr::null_mut()))),
            }
            if compat::HAS_AWAITED_BY {
                introspection::forget_awaiters(object);
            }
        }
    }
}

/// A member table that tells Python where the list of weak references is, and the dict if there is one.
pub(super) fn hidden_members(weak_references: usize, dict: usize) -> *mut c_void {
    let member = |name: &'static CStr, offset: usize| ffi::PyMemberDef {
        name: name.as_ptr(),
        type_code: ffi::Py_T_PYSSIZET,
        offset: offset.cast_signed(),
        flags: ffi::Py_READONLY,
        doc: std::ptr::null(),
    };
    let mut members = vec![member(c"__weaklistoffset__", weak_references)];
    if dict != 0 {
        members.push(member(c"__dictoffset__", dict));
    }
    members.push(ffi::PyMemberDef::default());
    // Lives as long as the type: for ever.
    Vec::leak(members).as_mut_ptr().cast()
}

/// Where instances keep their dict: CPython has moved it three times, so an attribute is set to see which word changes.
fn find_dict(class: &Bound<'_, PyType>) -> PyResult<isize> {
    const WORD: isize = size_of::<usize>().cast_signed();
    let object = class.call_method1("__new__", (class,))?;
    let size: isize = class.getattr("__basicsize__")?.extract()?;
    // Before the object: four words, of which the nearer two are the collector's; in it, the count and the type.
    let offsets: Vec<isize> = (-4..-2).chain(2..size / WORD).map(|index| index * WORD).collect();
    // SAFETY: all these words belong to the object.
    let read = |offset: &isize| unsafe { word_at(object.as_ptr(), *offset).read() };
    let before: Vec<_> = offsets.iter().map(read).collect();
    object.setattr("probe", true)?;
    let mut changed = offsets.iter().zip(before).filter(|(offset, before)| read(offset) != *before && before.is_null());
    match (changed.next(), changed.next()) {
        (Some((offset, _)), None) => Ok(*offset),
        _ => Ok(0),
    }
}

pub(super) fn word_at(object: *mut ffi::PyObject, offset: isize) -> *mut *mut ffi::PyObject {
    object.cast::<u8>().wrapping_offset(offset).cast()
}
