#![allow(unsafe_code)]
//! The attributes of a Python instance by their places, without looking for their names.
//!
//! From 3.13 on the interpreter keeps what a class's constructor sets inside each instance, in the order in which the class
//! came to know the names: `struct _dictvalues` of CPython's `pycore_dict.h`, behind the object's own fields. A sample tells
//! where and whether it is so; where not, and without the GIL, names are looked for. Used where that costs too much.

use std::mem::offset_of;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};

use super::compat;
use super::object::Owned;

/// The beginning of the attributes inside an instance.
#[derive(Clone, Copy)]
#[repr(C)]
struct Inside {
    /// For how many there is room.
    capacity: u8,
    /// How many there are.
    size: u8,
    embedded: u8,
    /// 0: they have moved into a dict.
    valid: u8,
    /// The first of them; null where there is none.
    values: [*mut ffi::PyObject; 0],
}

/// Where an instance has its dict, if one was made. Before the object.
const DICT: usize = 3 * size_of::<usize>();

/// Where a class's instances keep their attributes.
struct Layout {
    class: Py<PyType>,
    /// Of `Inside`, in bytes from the object's beginning.
    inside: usize,
    /// How many the constructor sets.
    count: u8,
}

impl Layout {
    /// Tells by a sample that is fresh from its constructor. None if it is in another way.
    fn of(sample: &Bound<'_, PyAny>) -> Option<Self> {
        let class = sample.get_type();
        if cfg!(Py_GIL_DISABLED) || !compat::has_inline_values(&class) {
            return None;
        }
        // SAFETY: reads a field of a live type.
        let inside = unsafe { (*class.as_type_ptr()).tp_basicsize.cast_unsigned() };
        // SAFETY: the class's flag says that its instances have room behind their fields, and a word in front of them.
        let (Inside { capacity, size, embedded, valid, .. }, dict) =
            unsafe { (begin(sample, inside).read(), dict_of(sample).read()) };
        let layout = Layout { class: class.unbind(), inside, count: size };
        let as_known = valid == 1 && embedded == 1 && dict.is_null() && size <= capacity;
        let there = as_known.then(|| layout.values_of(sample)).flatten()?.iter().filter(|value| !value.is_null());
        (there.count() == usize::from(size)).then_some(layout)
    }

    /// What happens when there is a dict, and when it is replaced. The sample is of no use afterwards.
    fn is_confirmed_by(&self, sample: &Bound<'_, PyAny>) -> PyResult<bool> {
        // SAFETY: as in `of`.
        let (valid, dict) = unsafe { (|| begin(sample, self.inside).read().valid, || dict_of(sample).read()) };
        let shared = sample.getattr("__dict__")?;
        let shows = valid() == 1 && dict() == shared.as_ptr();
        sample.setattr("__dict__", PyDict::new(sample.py()))?;
        let moved = valid() == 0;
        // Its end may want them.
        sample.setattr("__dict__", shared)?;
        Ok(shows && moved)
    }

    /// The attributes of an instance that has them inside, null where there is none. They may not be kept: the next Python
    /// code may change them.
    #[inline(always)]
    fn values_of<'a>(&self, object: &'a Bound<'_, PyAny>) -> Option<&'a [*mut ffi::PyObject]> {
        let Inside { capacity, .. } = self.begin_of(object)?;
        // SAFETY: the instance has room for so many, as it says itself.
        Some(unsafe { std::slice::from_raw_parts(values(object, self.inside), capacity.into()) })
    }

    /// Of an instance whose attributes are inside. None of any other object.
    #[inline(always)]
    fn begin_of(&self, object: &Bound<'_, PyAny>) -> Option<Inside> {
        // SAFETY: an instance of exactly the class of which `of` has seen how it keeps them.
        unsafe {
            if ffi::Py_TYPE(object.as_ptr()).cast() != self.class.as_ptr() {
                return None;
            }
            Some(begin(object, self.inside).read()).filter(|inside| inside.valid == 1)
        }
    }
}

/// For so many attributes there is room inside an instance at most: `SHARED_KEYS_MAX_SIZE` and a little.
const MOST: usize = 32;

/// Instances that have no attributes but the constructor's, which therefore replace no method.
pub(crate) struct NoOthers {
    layout: Layout,
    /// For each place all bits, or none if it is one of the constructor's.
    others: [usize; MOST],
}

impl NoOthers {
    /// `sample` is fresh from its constructor, and of no use afterwards. None where instances keep them in another way.
    pub(crate) fn of(sample: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        let Some(layout) = Layout::of(sample) else { return Ok(None) };
        let Some(values) = layout.values_of(sample) else { return Ok(None) };
        let mut others = [usize::MAX; MOST];
        for (other, value) in others.iter_mut().zip(values) {
            *other = if value.is_null() { usize::MAX } else { 0 };
        }
        Ok(layout.is_confirmed_by(sample)?.then_some(NoOthers { layout, others }))
    }

    /// False: that is not known.
    #[inline]
    pub(crate) fn are_in(&self, object: &Bound<'_, PyAny>) -> bool {
        let Some(values) = self.layout.values_of(object).filter(|values| values.len() <= MOST) else { return false };
        values.iter().zip(&self.others).fold(0, |all, (value, other)| all | value.addr() & other) == 0
    }
}

/// Where some attributes are in instances that have those of the constructor and no others.
pub(crate) struct Places<const N: usize> {
    layout: Layout,
    places: [usize; N],
}

impl<const N: usize> Places<N> {
    /// `sample` is fresh from its constructor, and of no use afterwards. None where instances keep them in another way.
    pub(crate) fn of(sample: &Bound<'_, PyAny>, names: [&str; N]) -> PyResult<Option<Self>> {
        let Some(layout) = Layout::of(sample) else { return Ok(None) };
        let mut places = [0; N];
        for (place, name) in places.iter_mut().zip(names) {
            let mark = sample.py().get_type::<PyAny>().call0()?;
            sample.setattr(name, &mark)?;
            let found = |values: &[*mut ffi::PyObject]| values.iter().position(|value| *value == mark.as_ptr());
            match layout.values_of(sample).and_then(found) {
                Some(found) => *place = found,
                None => return Ok(None),
            }
        }
        Ok(layout.is_confirmed_by(sample)?.then_some(Places { layout, places }))
    }

    /// None: the instance has other attributes too, perhaps in place of methods, or keeps them in another way.
    #[inline(always)]
    pub(crate) fn read<'py>(&self, object: &Bound<'py, PyAny>) -> Option<[Bound<'py, PyAny>; N]> {
        let found = self.find(object)?;
        // SAFETY: `find` has looked at them. What the object has is alive while no Python code runs.
        Some(found.map(|place| unsafe { Bound::from_borrowed_ptr(object.py(), place.read()) }))
    }

    /// Gives the attribute of this number another value. False: that is to be done by its name.
    #[inline(always)]
    pub(crate) fn write(&self, object: &Bound<'_, PyAny>, number: usize, value: Owned) -> bool {
        let Some(found) = self.find(object) else { return false };
        // SAFETY: as in `of`. A dict might be watched for changes; without one only the object refers to its values, and the
        // interpreter's own way to write one that is there does what is done here. The old value goes last, since its end
        // may run Python code.
        unsafe {
            if !dict_of(object).read().is_null() {
                return false;
            }
            ffi::Py_DECREF(found[number].replace(value.into_raw()));
        }
        true
    }

    /// Where the attributes are, all of which are there.
    #[inline(always)]
    fn find(&self, object: &Bound<'_, PyAny>) -> Option<[*mut *mut ffi::PyObject; N]> {
        let Inside { capacity, size, .. } = self.layout.begin_of(object)?;
        if size != self.layout.count || self.places.iter().any(|place| *place >= usize::from(capacity)) {
            return None;
        }
        // SAFETY: the instance has room for them, as it says itself.
        unsafe {
            let found = self.places.map(|place| values(object, self.layout.inside).add(place));
            if found.iter().any(|place| place.read().is_null()) { None } else { Some(found) }
        }
    }
}

/// # Safety
/// The object has attributes inside, there.
#[inline(always)]
unsafe fn begin(object: &Bound<'_, PyAny>, inside: usize) -> *mut Inside {
    // SAFETY: the caller's promise.
    unsafe { object.as_ptr().cast::<u8>().add(inside).cast() }
}

/// # Safety
/// As of `begin`.
#[inline(always)]
unsafe fn values(object: &Bound<'_, PyAny>, inside: usize) -> *mut *mut ffi::PyObject {
    // SAFETY: the caller's promise.
    unsafe { object.as_ptr().cast::<u8>().add(inside + offset_of!(Inside, values)).cast() }
}

/// # Safety
/// As of `begin`.
#[inline(always)]
unsafe fn dict_of(object: &Bound<'_, PyAny>) -> *mut *mut ffi::PyObject {
    // SAFETY: the caller's promise.
    unsafe { object.as_ptr().cast::<u8>().sub(DICT).cast() }
}
