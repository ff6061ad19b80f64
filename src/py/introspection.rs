#![allow(unsafe_code)]
//! The fields of C tasks and futures that other processes and asyncio's call graph read, from 3.14 on.
//!
//! `python -m asyncio ps` and `pstree` read a task's coroutine and name, and who awaits a future, straight from memory;
//! our tasks inherit those fields and fill them. Where they lie is found at import by looking for known values in stock
//! objects, and believed only if every check holds; otherwise the fields stay empty and asyncio's own functions are used.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict, PyString};

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

/// Stock objects with values to look for. Nothing runs, and there is no loop: what stands for one has the methods that a
/// task and a future call when they are made. Of objects that are there already, since to compile Python code for it
/// would take a third of the time in which the extension is loaded.
struct Stock<'py> {
    coroutine: Bound<'py, PyAny>,
    name: Bound<'py, PyAny>,
    /// A task with this coroutine and this name.
    task: Bound<'py, PyAny>,
    /// Futures that it awaits: one alone, two together with another task.
    one: Bound<'py, PyAny>,
    two: Bound<'py, PyAny>,
}

impl<'py> Stock<'py> {
    fn make(py: Python<'py>) -> PyResult<Self> {
        let (asyncio, native) = (py.import("asyncio")?, py.import("_asyncio")?);
        let keywords = PyDict::new(py);
        // `call_soon(step, context=...)` gives something that is dropped, `get_debug()` False.
        keywords.set_item("call_soon", py.import("functools")?.getattr("partial")?)?;
        keywords.set_item("get_debug", py.get_type::<PyBool>())?;
        let loop_ = py.import("types")?.getattr("SimpleNamespace")?.call((), Some(&keywords))?;
        // A coroutine that never begins.
        let source = py.import("contextlib")?.getattr("AsyncExitStack")?.getattr("aclose")?;
        let keywords = PyDict::new(py);
        keywords.set_item("loop", &loop_)?;
        let future = || asyncio.getattr("Future")?.call((), Some(&keywords));
        let (one, two) = (future()?, future()?);
        let name = PyString::new(py, "mioloop probe").into_any();
        keywords.set_item("name", &name)?;
        let make_task = || -> PyResult<_> {
            let coroutine = source.call1((py.None(),))?;
            let task = asyncio.getattr("Task")?.call((&coroutine,), Some(&keywords))?;
            task.setattr("_log_destroy_pending", false)?;
            coroutine.call_method0("close")?;
            Ok((coroutine, task))
        };
        let ((coroutine, task), (_, other)) = (make_task()?, make_task()?);
        let add = native.getattr("future_add_to_awaited_by")?;
        for (future, awaiting) in [(&one, &task), (&two, &task), (&two, &other)] {
            add.call1((future, awaiting))?;
        }
        Ok(Stock { coroutine, name, task, one, two })
    }
}

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
    let Stock { coroutine, name, task, one, two } = Stock::make(py)?;
    let size = |object: &Bound<'_, PyAny>| -> PyResult<usize> { object.get_type().getattr("__basicsize__")?.extract() };
    let (task_size, future_size) = (size(&task)?, size(&one)?);
    let place = |holder: &Bound<'_, PyAny>, size: usize, value: &Bound<'_, PyAny>| {
        let mut found = (2 * WORD..size).step_by(WORD).filter(|offset| read(holder, *offset) == value.as_ptr());
        found.next().filter(|_| found.next().is_none())
    };
    let (Some(coroutine), Some(name), Some(awaited_by)) =
        (place(&task, task_size, &coroutine), place(&task, task_size, &name), place(&one, future_size, &task))
    else {
        return Ok(None);
    };
    let flag = |object: &Bound<'_, PyAny>, offset: usize| read_byte(object, offset);
    let after = awaited_by + WORD..future_size;
    let is_task = after.clone().find(|at| flag(&task, *at) == 1 && flag(&one, *at) == 0 && flag(&two, *at) == 0);
    let is_set = after.clone().find(|at| flag(&two, *at) == 1 && flag(&one, *at) == 0 && flag(&task, *at) == 0);
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
