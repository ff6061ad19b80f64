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
    /// Byte offset of the word in which some bits, zero if there are none, count the attributes inside the instance; 0 if
    /// that is not where any are. And those bits.
    inline: AtomicIsize,
    count: AtomicUsize,
    /// Byte offsets of the references that `introspection` and asyncio's functions set; 0 for no more.
    references: [AtomicUsize; 3],
}

impl BaseFields {
    pub(super) const fn new() -> Self {
        BaseFields {
            dict: AtomicIsize::new(0),
            inline: AtomicIsize::new(0),
            count: AtomicUsize::new(0),
            references: [const { AtomicUsize::new(0) }; 3],
        }
    }

    /// Finds out which fields of the base, of `base_size` bytes, may hold something, if that can be known.
    pub(super) fn learn(&self, class: &Bound<'_, PyType>, base_size: usize) -> PyResult<()> {
        if compat::HAS_AWAITED_BY {
            let Some(known) = introspection::references(class.py(), base_size) else { return Ok(()) };
            self.references.iter().zip(known).for_each(|(place, offset)| place.store(offset, Relaxed));
        }
        if let Some(Attributes { dict, inline }) = find_attributes(class)? {
            let (place, count) = inline.unwrap_or((0, 0));
            self.inline.store(place, Relaxed);
            self.count.store(count, Relaxed);
            self.dict.store(dict, Relaxed);
        }
        Ok(())
    }

    /// Nothing is in the object's base fields but `references`.
    ///
    /// # Safety
    /// The object is an instance of exactly the class.
    #[inline(always)]
    pub(super) unsafe fn are_known(&self, object: *mut ffi::PyObject) -> bool {
        let (dict, inline) = (self.dict.load(Relaxed), self.inline.load(Relaxed));
        // SAFETY: instances have their attributes where `find_attributes` saw them.
        unsafe {
            dict != 0
                && (*word_at(object, dict)).is_null()
                && (inline == 0 || word_at(object, inline).read().addr() & self.count.load(Relaxed) == 0)
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
    /// Attached; the object is a dead instance of exactly the class, `base` its base in C.
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

/// Where instances keep attributes.
struct Attributes {
    /// The dict.
    dict: isize,
    /// The word in which those inside the instance are counted, and the bits of the count.
    inline: Option<(isize, usize)>,
}

/// CPython has moved the dict three times and put attributes beside it, so one is set, and then the dict asked for, to see
/// which words change. None if it is not clear.
fn find_attributes(class: &Bound<'_, PyType>) -> PyResult<Option<Attributes>> {
    const WORD: isize = size_of::<usize>().cast_signed();
    let object = class.call_method1("__new__", (class,))?;
    let size: isize = class.getattr("__basicsize__")?.extract()?;
    let has_inline = compat::has_inline_values(class);
    // Before the object: four words, of which the nearer two are the collector's; in it, the count and the type; behind it,
    // the attributes, which begin with their number.
    let inside = (size + WORD - 1) / WORD;
    let offsets = (-4..-2).chain(2..inside + isize::from(has_inline)).map(|index| index * WORD);
    let offsets: Vec<isize> = offsets.collect();
    // SAFETY: all these words belong to the object.
    let word = |offset: &isize| unsafe { word_at(object.as_ptr(), *offset).read() }.addr();
    let read = || -> Vec<usize> { offsets.iter().map(word).collect() };
    let before = read();
    // Each word that is not what it was: what it was, and what it is.
    let changed = || -> Vec<(isize, usize, usize)> {
        let words = offsets.iter().zip(&before).zip(read()).map(|((offset, old), new)| (*offset, *old, new));
        words.filter(|(_, old, new)| old != new).collect()
    };
    object.setattr("probe", true)?;
    let by_attribute = changed();
    // SAFETY: attached; a new reference, or null with an exception.
    unsafe {
        let dict = ffi::PyObject_GenericGetDict(object.as_ptr(), std::ptr::null_mut());
        Bound::from_owned_ptr_or_err(class.py(), dict)?;
    }
    Ok(match (&by_attribute[..], &changed()[..], has_inline) {
        (&[(dict, 0, _)], &[(same, 0, _)], false) if dict == same => Some(Attributes { dict, inline: None }),
        (&[(inline, old, new)], &[(dict, 0, _), (same, ..)], true) if inline == same => {
            // A byte went from none to one; the others are no count, and not the same in all instances.
            let count = 0xff_usize << ((old ^ new).trailing_zeros() & !7);
            let holds = old & count == 0 && old & !count == new & !count;
            holds.then_some(Attributes { dict, inline: Some((inline, count)) })
        }
        _ => None,
    })
}

pub(super) fn word_at(object: *mut ffi::PyObject, offset: isize) -> *mut *mut ffi::PyObject {
    object.cast::<u8>().wrapping_offset(offset).cast()
}
