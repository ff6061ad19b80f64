//! `mioloop._native`: registers the classes; nothing else.
//!
//! Imported by `python/mioloop/__init__.py`. Names and asyncio's registers are looked up first, since every class uses them.

mod address;
mod child;
mod dns;
mod event_loop;
mod future;
mod handle;
mod py;
mod readers;
mod runtime;
mod server;
mod sock;
mod task;
mod thread_safe_handle;
mod timer_handle;
mod tls;
mod transport;

use pyo3::prelude::*;

/// The native half of mioloop.
#[pymodule(gil_used = false)]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    py::names::load(py)?;
    py::registry::load(py)?;
    py::introspection::load(py)?;
    py::context::load(py)?;
    py::socket::load(py)?;
    py::clients::load(py)?;
    transport::streams::load(py)?;
    future::iterator::define(py)?;
    module.add("Handle", handle::define(py)?)?;
    if py::compat::HAS_THREAD_SAFE_HANDLE {
        module.add("ThreadSafeHandle", thread_safe_handle::define(py)?)?;
    }
    module.add("TimerHandle", timer_handle::define(py)?)?;
    module.add("Future", future::methods::define(py)?)?;
    module.add("Task", task::methods::define(py)?)?;
    module.add("DatagramTransport", transport::datagram::define(py)?)?;
    module.add("Operation", future::operation::define(py)?)?;
    module.add("ReadPipeTransport", transport::read_pipe::define(py)?)?;
    module.add("StreamTransport", transport::stream::define(py)?)?;
    module.add("SSLTransport", tls::define(py)?)?;
    module.add("WritePipeTransport", transport::write_pipe::define(py)?)?;
    server::define(py)?;
    child::define(py)?;
    dns::lookups::define(py)?;
    event_loop::define(py)?;
    module.add_class::<runtime::Runtime>()
}
