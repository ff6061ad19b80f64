//! `mioloop._native`: registers the classes; nothing else.
//!
//! Imported by `python/mioloop/__init__.py`. Names and asyncio's registers are looked up first, since every class uses them.

mod event_loop;
mod future;
mod handle;
mod py;
mod readers;
mod runtime;
mod task;
mod thread_safe_handle;
mod timer_handle;

use pyo3::prelude::*;

/// The native half of mioloop.
#[pymodule(gil_used = false)]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    py::names::load(py)?;
    py::registry::load(py)?;
    py::introspection::load(py)?;
    py::context::load(py)?;
    future::iterator::define(py)?;
    module.add("Handle", handle::define(py)?)?;
    if py::compat::HAS_THREAD_SAFE_HANDLE {
        module.add("ThreadSafeHandle", thread_safe_handle::define(py)?)?;
    }
    module.add("TimerHandle", timer_handle::define(py)?)?;
    module.add("Future", future::methods::define(py)?)?;
    module.add("Task", task::methods::define(py)?)?;
    event_loop::define(py)?;
    module.add_class::<runtime::Runtime>()
}
