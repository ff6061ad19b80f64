#![allow(unsafe_code)]
//! The attributes of a Python instance by their places, without looking for their names.
//!
//! The interpreter keeps what a class's constructor sets inside each instance, in the order in which the class came to
//! know the names. A sample tells which is where. Used where a look by name costs too much.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;

use pyo3::ffi;
use pyo3::prelude::*;

use super::compat;

/// More attributes than this, and they are looked for by name.
const MOST: usize = 16;

/// Where some attributes are in instances that have those of the constructor and no others.
pub(crate) struct Places<const N: usize> {
    places: [usize; N],
    /// How many the constructor sets.
    count: usize,
}

impl<const N: usize> Places<N> {
    /// `sample` is fresh from its constructor, and of no use afterwards. None where instances keep them in another way.
    pub(crate) fn of(sample: &Bound<'_, PyAny>, names: [&str; N]) -> PyResult<Option<Self>> {
        let mut places = [0; N];
        for (place, name) in places.iter_mut().zip(names) {
            let mark = sample.py().get_type::<PyAny>().call0()?;
            sample.setattr(name, &mark)?;
            match Seen::nothing().look(sample).iter().position(|value| *value == mark.as_ptr()) {
                Some(found) => *place = found,
                None => return Ok(None),
            }
        }
        Ok(Some(Places { places, count: Seen::nothing().look(sample).len() }))
    }

    /// None: the instance has other attributes too, perhaps in place of methods, or keeps them in another way.
    #[inline(always)]
    pub(crate) fn read<'py>(&self, object: &Bound<'py, PyAny>) -> Option<[Bound<'py, PyAny>; N]> {
        let mut seen = Seen::nothing();
        if seen.look(object).len() != self.count {
            return None;
        }
        // SAFETY: what was seen is alive, since the object still has it: no Python code has run since. `of` has seen that
        // the places are among so many.
        let get = |place: usize| unsafe { Bound::from_borrowed_ptr(object.py(), seen.values[place].assume_init()) };
        Some(self.places.map(get))
    }
}

/// The attributes of an instance, borrowed.
struct Seen {
    values: [MaybeUninit<*mut ffi::PyObject>; MOST],
    count: usize,
}

impl Seen {
    #[inline(always)]
    fn nothing() -> Self {
        Seen { values: [MaybeUninit::uninit(); MOST], count: 0 }
    }

    /// Sees all, unless there are more than it has room for: then nothing.
    #[inline(always)]
    fn look(&mut self, object: &Bound<'_, PyAny>) -> &[*mut ffi::PyObject] {
        // SAFETY: attached, a live object; `see` keeps within the bounds of what it is given.
        unsafe { compat::visit_attributes(object.as_ptr(), see, (&raw mut *self).cast()) };
        let count = if self.count > MOST { 0 } else { self.count };
        // SAFETY: `see` has written so many.
        unsafe { std::slice::from_raw_parts(self.values.as_ptr().cast(), count) }
    }
}

extern "C" fn see(value: *mut ffi::PyObject, seen: *mut c_void) -> c_int {
    // SAFETY: the pointer is that of `look`, and nobody else uses it meanwhile.
    let seen = unsafe { &mut *seen.cast::<Seen>() };
    if let Some(place) = seen.values.get_mut(seen.count) {
        place.write(value);
    }
    seen.count += 1;
    0
}
