#![allow(unsafe_code)]
//! The fields of C tasks and futures that other processes and asyncio's call graph read, from 3.14 on.
//!
//! `python -m asyncio ps` and `pstree` read a task's coroutine and name, and who awaits a future, straight from memory;
//! our tasks inherit those fields and fill them. Where they lie is found at import by looking for known values in stock
//! objects, and believed only if every check holds; otherwise the fields stay empty and asyncio's own functions are used.

use std::ffi::CStr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use super::compat;
use super::object::Owned;

/// Offsets in bytes from the object's address.
#[derive(Debug, Clone, Copy)]
struct Layout {
    coroutine: usize,
    name: usize,
    /// One awaiting task, or a set of them if the flag says so.
    awaited_by: usize,
    awaited_by_is_set: usize,
    is_task: usize,
}

static LAYOUT: PyOnceLock<Option<Layout>> = PyOnceLock::new();

const WORD: usize = size_of::<*mut ffi::PyObject>();

/// Makes stock objects with values to look for: a task, its coroutine and name, a future with one and one with two
/// awaiting tasks. No loop is needed: nothing runs.
const PROBE: &CStr = c"
import asyncio, _asyncio

class Loop:
    def call_soon(self, *args, **kwargs): pass
    def get_debug(self): return False

async def coroutine(): pass

def task(name):
    body = coroutine()
    made = asyncio.Task(body, loop=loop, name=name)
    made._log_destroy_pending = False
    return body, made

loop = Loop()
name = 'mioloop probe'
coro, first = task(name)
other, second = task('another')
one, two = asyncio.Future(loop=loop), asyncio.Future(loop=loop)
_asyncio.future_add_to_awaited_by(one, first)
_asyncio.future_add_to_awaited_by(two, first)
_asyncio.future_add_to_awaited_by(two, second)
coro.close(); other.close()
";

/// Looks at the running interpreter's objects. Called once, at import.
pub(crate) fn load(py: Python<'_>) -> PyResult<()> {
    // Without the GIL `_asyncio` guards these fields by locks of its own.
    let known = compat::HAS_TASK_LIST && !cfg!(Py_GIL_DISABLED);
    let layout = if known { find(py)? } else { None };
    // A second import finds the same.
    let _ = LAYOUT.set(py, layout);
    Ok(())
}

#[inline]
fn layout(py: Python<'_>) -> Option<&'static Layout> {
    LAYOUT.get(py)?.as_ref()
}

fn find(py: Python<'_>) -> PyResult<Option<Layout>> {
    let globals = PyDict::new(py);
    py.run(PROBE, Some(&globals), None)?;
    let get = |name: &str| globals.as_any().get_item(name);
    let (task, one, two) = (get("first")?, get("one")?, get("two")?);
    let size = |object: &Bound<'_, PyAny>| -> PyResult<usize> { object.get_type().getattr("__basicsize__")?.extract() };
    let (task_size, future_size) = (size(&task)?, size(&one)?);
    let place = |holder: &Bound<'_, PyAny>, size: usize, value: &Bound<'_, PyAny>| {
        let mut found = (2 * WORD..size).step_by(WORD).filter(|offset| read(holder, *offset) == value.as_ptr());
        found.next().filter(|_| found.next().is_none())
    };
    let (Some(coroutine), Some(name), Some(awaited_by)) = (
        place(&task, task_size, &get("coro")?),
        place(&task, task_size, &get("name")?),
        place(&one, future_size, &task),
    ) else {
        return Ok(None);
    };
    let flag = |object: &Bound<'_, PyAny>, offset: usize| read_byte(object, offset);
    let after = awaited_by + WORD..future_size;
    let is_task = after.clone().find(|at| flag(&task, *at) == 1 && flag(&one, *at) == 0 && flag(&two, *at) == 0);
    let is_set = after.clone().find(|at| flag(&two, *at) == 1 && flag(&one, *at) == 0 && flag(&task, *at) == 0);
    // The functions of the probe and its namespace refer to each other.
    globals.clear();
    Ok(match (is_task, is_set) {
        (Some(is_task), Some(awaited_by_is_set)) => {
            Some(Layout { coroutine, name, awaited_by, awaited_by_is_set, is_task })
        }
        _ => None,
    })
}

fn word(object: *mut ffi::PyObject, offset: usize) -> *mut *mut ffi::PyObject {
    object.cast::<u8>().wrapping_add(offset).cast()
}

fn read(object: &Bound<'_, PyAny>, offset: usize) -> *mut ffi::PyObject {
    // SAFETY: the caller stays below the type's basic size; any aligned word may be read as a pointer.
    unsafe { word(object.as_ptr(), offset).read() }
}

fn read_byte(object: &Bound<'_, PyAny>, offset: usize) -> u8 {
    // SAFETY: as above.
    unsafe { object.as_ptr().cast::<u8>().wrapping_add(offset).read() }
}

/// The fields that hold references though the base's `__init__` never runs, in the first `size` bytes of the object: all
/// there are. None if that is not known.
pub(super) fn references(py: Python<'_>, size: usize) -> Option<impl Iterator<Item = usize>> {
    let Layout { coroutine, name, awaited_by, .. } = *layout(py)?;
    Some([awaited_by, coroutine, name].into_iter().filter(move |offset| *offset < size))
}

/// Fills the fields of one of our tasks. `name`: a str, or an int that stands for `Task-<int>`.
pub(crate) fn describe(task: Borrowed<'_, '_, PyAny>, coroutine: Borrowed<'_, '_, PyAny>, name: Owned) {
    let Some(layout) = layout(task.py()) else { return };
    // SAFETY: our tasks inherit the C task's fields, zero until here; its `tp_traverse` visits and its `tp_clear` drops
    // both references.
    unsafe {
        put(task.as_ptr(), layout.coroutine, Owned::of(coroutine));
        put(task.as_ptr(), layout.name, name);
        task.as_ptr().cast::<u8>().wrapping_add(layout.is_task).write(1);
    }
}

/// The task has a new name.
pub(crate) fn rename(task: Borrowed<'_, '_, PyAny>, name: Owned) {
    if let Some(layout) = layout(task.py()) {
        // SAFETY: as in `describe`.
        unsafe { put(task.as_ptr(), layout.name, name) }
    }
}

/// # Safety
/// The word at `offset` is a reference or null, and the object's own.
unsafe fn put(object: *mut ffi::PyObject, offset: usize, value: Owned) {
    // SAFETY: the caller's promise. The old reference goes last, since its end may run Python code.
    unsafe {
        let place = word(object, offset);
        let old = place.replace(value.into_raw());
        ffi::Py_XDECREF(old);
    }
}

/// Notes that `task` is the only one that awaits `future`, both of our classes. False: use asyncio's function.
#[inline]
pub(crate) fn add_only_awaiter(future: Borrowed<'_, '_, PyAny>, task: Borrowed<'_, '_, PyAny>) -> bool {
    let Some(layout) = layout(task.py()) else { return false };
    // SAFETY: as in `describe`; null means that nobody awaits it.
    unsafe {
        let place = word(future.as_ptr(), layout.awaited_by);
        if !(*place).is_null() {
            return false;
        }
        place.write(Owned::of(task).into_raw());
        true
    }
}

/// A dead future's memory is to be reused: it has dropped its references, and so nobody awaits it, alone or in a set.
///
/// # Safety
/// Attached; the object is a native future.
#[inline(always)]
pub(super) unsafe fn forget_awaiters(object: *mut ffi::PyObject) {
    // SAFETY: the caller's promise.
    unsafe {
        if let Some(layout) = layout(Python::assume_attached()) {
            object.cast::<u8>().wrapping_add(layout.awaited_by_is_set).write(0);
        }
    }
}

/// Undoes `add_only_awaiter`. False: use asyncio's function.
#[inline]
pub(crate) fn remove_only_awaiter(future: Borrowed<'_, '_, PyAny>, task: Borrowed<'_, '_, PyAny>) -> bool {
    let Some(layout) = layout(task.py()) else { return false };
    // SAFETY: as in `describe`. The task is alive beyond this: the caller borrows it.
    unsafe {
        let place = word(future.as_ptr(), layout.awaited_by);
        let is_set = future.as_ptr().cast::<u8>().wrapping_add(layout.awaited_by_is_set).read() != 0;
        if is_set || *place != task.as_ptr() {
            return false;
        }
        place.write(std::ptr::null_mut());
        ffi::Py_DECREF(task.as_ptr());
        true
    }
}
