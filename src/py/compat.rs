#![allow(unsafe_code)]
//! Every difference between interpreter versions that native code has to know: `cfg(Py_3_x)` stands here only.
//!
//! Small facts, as constants and functions; where a patch release changed behaviour, a test of the running interpreter.

use std::ffi::CStr;

use pyo3::exceptions::{PyDeprecationWarning, PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::errors::Error;
use super::names::names;

/// `asyncio.Handle.get_context`, `Task.get_context`, eager tasks: 3.12.
pub(crate) const HAS_EAGER_TASKS: bool = cfg!(Py_3_12);

/// `call_soon_threadsafe` returns an `asyncio.events._ThreadSafeHandle`: 3.14.
pub(crate) const HAS_THREAD_SAFE_HANDLE: bool = cfg!(Py_3_14);

/// The C tasks keep themselves in a list of their own, and know who awaits them: 3.14.
pub(crate) const HAS_TASK_LIST: bool = cfg!(Py_3_14);

/// Futures know who awaits them: 3.14.
pub(crate) const HAS_AWAITED_BY: bool = cfg!(Py_3_14);

/// Have instances of the class room for attributes behind their fields, before there is a dict? From 3.13 on Python's
/// classes do, from 3.14 on asyncio's in C.
pub(super) fn has_inline_values(class: &Bound<'_, PyType>) -> bool {
    const INLINE_VALUES: std::ffi::c_ulong = 1 << 2;
    // SAFETY: reads the flags of a live type. Older versions give this bit no meaning.
    cfg!(Py_3_13) && unsafe { ffi::PyType_GetFlags(class.as_type_ptr()) } & INLINE_VALUES != 0
}

/// Bytes of the thread state, which has the task that runs from 3.14 on: 936 in 3.14.8, 1,096 in 3.15.0.
pub(crate) const THREAD_STATE_BYTES: usize = if cfg!(Py_3_15) { 1096 } else { 936 };

/// A cancelled future's `CancelledError` remembers its cause as `__context__` of a new exception; later versions hand
/// the first exception itself out: 3.11.
pub(crate) const CANCELLED_ERROR_IS_KEPT: bool = cfg!(Py_3_11);

/// `Task(context=...)` refuses what is not a `contextvars.Context` at once: 3.15. Before, the first step fails.
pub(crate) const CHECKS_TASK_CONTEXT: bool = cfg!(Py_3_15);

/// `create_task(context=...)`: 3.11.
pub(crate) const CREATE_TASK_HAS_CONTEXT: bool = cfg!(Py_3_11);

/// What `Task(...)` takes: `context` since 3.11, `eager_start` since 3.12.
pub(crate) const TASK_DOC: &CStr = if cfg!(Py_3_12) {
    c"Task(coro, *, loop=None, name=None, context=None, eager_start=False)\n--\n\nA future that drives a coroutine."
} else if cfg!(Py_3_11) {
    c"Task(coro, *, loop=None, name=None, context=None)\n--\n\nA future that drives a coroutine."
} else {
    c"Task(coro, *, loop=None, name=None)\n--\n\nA future that drives a coroutine."
};

/// The last `uncancel()` also takes a pending cancellation back: 3.13.
pub(crate) const UNCANCEL_TAKES_BACK: bool = cfg!(Py_3_13);

/// `Future.__init__` a second time is an error: 3.15.
pub(crate) const INIT_ONCE: bool = cfg!(Py_3_15);

/// `Server._attach(transport)` takes the transport: 3.13. Before, it counts.
pub(crate) const SERVER_KNOWS_TRANSPORTS: bool = cfg!(Py_3_13);

/// `transport.writelines()` joins its data and calls `write()`: until 3.11.
pub(crate) const WRITELINES_JOINS: bool = cfg!(not(Py_3_12));

/// What `transport.write()` says of other types: 3.14 says it more exactly.
pub(crate) const WRITE_TAKES: &str =
    if cfg!(Py_3_14) { "a bytes, bytearray, or memoryview object" } else { "a bytes-like object" };

/// `transport.sendto()` sends an empty datagram: 3.13. Before, it drops it.
pub(crate) const SENDS_EMPTY_DATAGRAMS: bool = cfg!(Py_3_13);

/// What a queued datagram counts for beside its data, so that empty ones fill the queue too: 3.13. Bytes.
pub(crate) const DATAGRAM_HEADER: usize = if cfg!(Py_3_13) { 8 } else { 0 };

/// The bases of asyncio's own datagram transport, without those that bases have: `DatagramTransport` is one since 3.12.
pub(crate) fn datagram_bases(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyType>>> {
    let model = py.import("asyncio.selector_events")?.getattr("_SelectorDatagramTransport")?.cast_into::<PyType>()?;
    let datagrams = py.import("asyncio.transports")?.getattr("DatagramTransport")?.cast_into::<PyType>()?;
    let mut bases = vec![names(py).flow_control_mixin.bind(py).clone().cast_into()?];
    if model.is_subclass(&datagrams)? {
        bases.push(datagrams);
    }
    Ok(bases)
}

/// The object is in a list that holds no references to it, such as the tasks'. Without the GIL another thread that finds
/// it there (`asyncio.all_tasks()`) may take one only of an object that was told so; `Task.__init__` does it for C tasks.
#[inline(always)]
pub(super) fn let_other_threads_refer_to(object: Borrowed<'_, '_, PyAny>) {
    // SAFETY: attached, a live object.
    #[cfg(all(Py_3_14, Py_GIL_DISABLED))]
    unsafe {
        ffi::PyUnstable_EnableTryIncRef(object.as_ptr());
    }
    #[cfg(not(all(Py_3_14, Py_GIL_DISABLED)))]
    let _ = object;
}

/// Sets the exception that is raised, as it is: no class is called and no context added.
///
/// # Safety
/// Attached; `exception` is a new reference to an exception.
pub(super) unsafe fn raise(exception: *mut ffi::PyObject) {
    // SAFETY: the caller's promise; the function takes the reference, or both.
    unsafe {
        #[cfg(Py_3_12)]
        ffi::PyErr_SetRaisedException(exception);
        #[cfg(not(Py_3_12))]
        ffi::PyErr_Restore(ffi::Py_NewRef(ffi::Py_TYPE(exception).cast()), exception, std::ptr::null_mut());
    }
}

/// `dict[key] = value`, by the shortest way there is; -1 and an exception if it fails.
///
/// # Safety
/// Attached; `dict` is exactly a dict, the other two are live objects.
#[inline(always)]
pub(super) unsafe fn set_dict_item(
    dict: *mut ffi::PyObject,
    key: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
) -> std::ffi::c_int {
    // What CPython's own tasks use. Declared in its headers; exported for `_asyncio`.
    #[cfg(not(Py_3_14))]
    unsafe extern "C" {
        fn _PyDict_SetItem_KnownHash(
            dict: *mut ffi::PyObject,
            key: *mut ffi::PyObject,
            value: *mut ffi::PyObject,
            hash: ffi::Py_hash_t,
        ) -> std::ffi::c_int;
    }
    // SAFETY: the caller's promise.
    unsafe {
        #[cfg(not(Py_3_14))]
        {
            let hash = ffi::PyObject_Hash(key);
            if hash == -1 { -1 } else { _PyDict_SetItem_KnownHash(dict, key, value, hash) }
        }
        #[cfg(Py_3_14)]
        ffi::PyDict_SetItem(dict, key, value)
    }
}

/// The exception to store for `set_exception(StopIteration())`, or the error to raise.
pub(crate) fn stop_iteration_in_future<'py>(exception: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = exception.py();
    let text = "StopIteration interacts badly with generators and cannot be raised into a Future";
    if cfg!(not(Py_3_13)) {
        return Err(PyTypeError::new_err(text));
    }
    let replacement = py.get_type::<PyRuntimeError>().call1((text,))?;
    replacement.setattr("__cause__", exception)?;
    replacement.setattr("__context__", exception)?;
    Ok(replacement)
}

/// `throw(type, value, traceback)` is deprecated: 3.12.
pub(crate) fn warn_of_long_throw(py: Python<'_>) -> PyResult<()> {
    if cfg!(not(Py_3_12)) {
        return Ok(());
    }
    let text = c"the (type, exc, tb) signature of throw() is deprecated, use the single-arg signature instead.";
    PyErr::warn(py, &py.get_type::<PyDeprecationWarning>(), text, 1)
}

/// `loop.create_task(coro, **kwargs)` hands keywords that it does not know to the task: 3.14, and late releases of 3.13.
pub(crate) fn create_task_passes_keywords(py: Python<'_>) -> PyResult<bool> {
    if cfg!(any(Py_3_14, not(Py_3_13))) {
        return Ok(cfg!(Py_3_14));
    }
    let function = py.import("asyncio.base_events")?.getattr("BaseEventLoop")?.getattr("create_task")?;
    let flags: std::ffi::c_int = function.getattr("__code__")?.getattr("co_flags")?.extract()?;
    Ok(flags & ffi::CO_VARKEYWORDS != 0)
}

/// The loop of a future that was given none.
pub(crate) fn default_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let events = py.import("asyncio.events")?;
    let function = if events.hasattr("_get_event_loop")? { "_get_event_loop" } else { "get_event_loop" };
    events.call_method0(function)
}

/// `repr` of a future or task, by asyncio's own function.
pub(crate) fn future_repr<'py>(future: &Bound<'py, PyAny>, is_task: bool) -> PyResult<Bound<'py, PyAny>> {
    let py = future.py();
    let (module, function) =
        if is_task { ("asyncio.base_tasks", "_task_repr") } else { ("asyncio.base_futures", "_future_repr") };
    let module = py.import(module)?;
    if module.hasattr(function)? {
        return module.call_method1(function, (future,));
    }
    // 3.10: the class's `_repr_info` may be overridden.
    let info: Vec<String> = future.call_method0("_repr_info")?.extract()?;
    let class = future.get_type().name()?;
    Ok(format!("<{class} {}>", info.join(" ")).into_pyobject(py)?.into_any())
}

/// `Future._repr_info()` of 3.10.
pub(crate) fn future_repr_info<'py>(future: &Bound<'py, PyAny>, is_task: bool) -> PyResult<Bound<'py, PyAny>> {
    let (module, function) =
        if is_task { ("asyncio.base_tasks", "_task_repr_info") } else { ("asyncio.base_futures", "_future_repr_info") };
    future.py().import(module)?.call_method1(function, (future,))
}

/// `call_soon` and its kin in debug mode: the callback must be callable and no coroutine (function).
pub(crate) fn check_callback(callback: Borrowed<'_, '_, PyAny>, method: &str) -> PyResult<()> {
    let py = callback.py();
    let names = names(py);
    // The public name is deprecated since 3.14; the private one exists since then.
    let coroutines = py.import("asyncio.coroutines")?;
    let is_function = match coroutines.getattr_opt("_iscoroutinefunction")? {
        Some(function) => function,
        None => coroutines.getattr("iscoroutinefunction")?,
    };
    let is_coroutine = names.is_coroutine.bind(py).call1((callback,))?.is_truthy()?;
    if is_coroutine || is_function.call1((callback,))?.is_truthy()? {
        return Err(PyTypeError::new_err(format!("coroutines cannot be used with {method}()")));
    }
    if !callback.is_callable() {
        let text = format!("a callable object was expected by {method}(), got {}", callback.repr()?);
        return Err(PyTypeError::new_err(text));
    }
    Ok(())
}

/// What 3.15 says of a task's context that is none; earlier versions fail at the task's first step.
pub(crate) fn not_a_context(context: Borrowed<'_, '_, PyAny>) -> PyErr {
    let class = context.get_type().name().map_or_else(|_| String::new(), |name| name.to_string());
    Error::Type(format!("a contextvars.Context was expected, got {class}")).into()
}
