#![allow(unsafe_code)]
//! Where instances of native classes keep what Python sees but our fields do not hold: weak references and a dict.
//!
//! Used by `class.rs` when it makes a class. Nothing here knows what the classes are for.

use std::ffi::{CStr, c_void};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

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
pub(super) fn find_dict(class: &Bound<'_, PyType>) -> PyResult<isize> {
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
