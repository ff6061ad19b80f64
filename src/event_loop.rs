//! `_native.Loop`: what Python calls on a loop. Each method checks its arguments and calls one module.
//!
//! Methods that run per callback or per task are in a table of fast methods; the rest are PyO3's. Everything that runs
//! once per loop or per failure is Python, in `python/mioloop/_loop.py`.

use std::sync::atomic::Ordering::Relaxed;

use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyInt, PyType};

use crate::handle::{self, Callback};
use crate::py::call::Arguments;
use crate::py::class::This;
use crate::py::compat;
use crate::py::context::Snapshot;
use crate::py::errors::Error;
use crate::py::method::{Args, Method, Reply, add_methods, same_name, unexpected_keyword};
use crate::py::names::names;
use crate::py::object::Owned;
use crate::py::socket::has_own_methods;
use crate::runtime::{Runtime, cycle};
use crate::timer_handle::{self, When};
use crate::tls;
use crate::transport::{datagram, pipe, read_pipe, stream, write_pipe};
use crate::{child, dns, future, readers, server, sock, task, thread_safe_handle};

/// Adds the fast methods. Called once, at import.
pub(crate) fn define(py: Python<'_>) -> PyResult<()> {
    add_methods(&py.get_type::<Runtime>(), methods())
}

fn methods() -> Vec<Method<Runtime>> {
    let mut methods = vec![
        Method::fast(
            c"call_soon",
            c"call_soon($self, callback, *args, context=None)\n--\n\nCalls callback(*args) in the next turn.",
            call_soon,
        ),
        Method::fast(
            c"call_soon_threadsafe",
            c"call_soon_threadsafe($self, callback, *args, context=None)\n--\n\nAs call_soon, from any thread.",
            call_soon_threadsafe,
        ),
        Method::fast(
            c"call_later",
            c"call_later($self, delay, callback, *args, context=None)\n--\n\nCalls callback(*args) after delay seconds.",
            call_later,
        ),
        Method::fast(
            c"call_at",
            c"call_at($self, when, callback, *args, context=None)\n--\n\nCalls callback(*args) at loop.time() == when.",
            call_at,
        ),
        Method::no_args(c"time", c"Seconds of the monotonic clock.", time),
        Method::no_args(c"create_future", c"A new future of this loop.", create_future),
        Method::fast(
            c"create_task",
            c"create_task($self, coro, **kwargs)\n--\n\nSchedules a coroutine; returns its task.",
            create_task,
        ),
        Method::fast(c"_lookup_addresses", c"The list, its future, or None: asyncio's way.", dns::lookup_addresses),
        Method::fast(c"_lookup_name", c"The pair, its future, or None: asyncio's way.", dns::lookup_name),
        Method::one_arg(c"_forget_lookup", c"Nobody waits for this future any more.", dns::forget_lookup),
    ];
    methods.extend(readers::methods());
    methods.extend(child::methods());
    methods.extend(sock::methods());
    methods
}

type Loop<'a, 'py> = This<'a, 'py, Runtime>;

/// Callback, arguments and context of `method(..., callback, *args, context=None)`. `parameters` ends with the callback;
/// debug mode names the method that asyncio checks the callback in.
#[inline(always)]
fn callback<'a, 'py>(
    loop_: Loop<'_, 'py>,
    args: Args<'a, 'py>,
    method: &str,
    parameters: &[&str],
    checked_in: &str,
) -> PyResult<Callback<'a, 'py>> {
    let at = parameters.len() - 1;
    let function = args.required(method, at, "callback")?;
    let context = args.only_keyword(method, &names(args.py()).context, parameters)?.map(Snapshot::given);
    if loop_.is_debug() {
        compat::check_callback(function, checked_in)?;
    }
    Ok(Callback { function, arguments: Arguments::tail_of(args, at + 1)?, context })
}

fn call_soon<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    loop_.check_call()?;
    let callback = callback(loop_, args, "call_soon", &["callback"], "call_soon")?;
    handle::call_soon(loop_, callback)
}

fn call_soon_threadsafe<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    loop_.check_closed()?;
    let callback = callback(loop_, args, "call_soon_threadsafe", &["callback"], "call_soon_threadsafe")?;
    if compat::HAS_THREAD_SAFE_HANDLE {
        thread_safe_handle::call_soon_threadsafe(loop_, callback)
    } else {
        handle::call_soon(loop_, callback)
    }
}

fn call_later<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    let delay = args.required("call_later", 0, "delay")?;
    if delay.is_none() {
        return Err(Error::Type("delay must not be None".to_owned()).into());
    }
    let when = match plain_seconds(delay) {
        Some(delay) if !loop_.has_own_clock() => When { seconds: loop_.time() + delay, object: None },
        // Other numbers are added as Python adds them.
        _ => when(loop_.object().call_method0(&names(loop_.py()).time)?.add(delay)?.as_borrowed())?,
    };
    // Last, since adding may run Python code.
    loop_.check_call()?;
    let callback = callback(loop_, args, "call_later", &["delay", "callback"], "call_at")?;
    timer_handle::call_at(loop_, when, callback)
}

fn call_at<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    let at = args.required("call_at", 0, "when")?;
    if at.is_none() {
        return Err(Error::Type("when cannot be None".to_owned()).into());
    }
    let when = when(at)?;
    loop_.check_call()?;
    let callback = callback(loop_, args, "call_at", &["when", "callback"], "call_at")?;
    timer_handle::call_at(loop_, when, callback)
}

/// A plain float or int, the usual cases.
#[inline]
fn plain_seconds(number: Borrowed<'_, '_, PyAny>) -> Option<f64> {
    if let Ok(number) = number.cast_exact::<PyFloat>() {
        return Some(number.value());
    }
    number.cast_exact::<PyInt>().ok().and_then(|number| number.extract().ok())
}

/// `TimerHandle.when()` answers with the caller's own object where it is no plain float.
fn when(number: Borrowed<'_, '_, PyAny>) -> PyResult<When> {
    if let Ok(number) = number.cast_exact::<PyFloat>() {
        return Ok(When { seconds: number.value(), object: None });
    }
    Ok(When { seconds: number.extract()?, object: Some(Owned::of(number)) })
}

fn time<'py>(loop_: Loop<'_, 'py>) -> Reply<'py> {
    Ok(PyFloat::new(loop_.py(), loop_.time()).into_any())
}

fn create_future<'py>(loop_: Loop<'_, 'py>) -> Reply<'py> {
    if loop_.native_tasks {
        return future::create(loop_);
    }
    let keywords = PyDict::new(loop_.py());
    keywords.set_item(&names(loop_.py()).loop_, loop_.object())?;
    names(loop_.py()).future_class.bind(loop_.py()).call((), Some(&keywords))
}

fn create_task<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    let py = loop_.py();
    let names = names(py);
    let mut options = task::Options {
        coroutine: args.required("create_task", 0, "coro")?,
        name: None,
        context: None,
        eager_start: false,
    };
    loop_.check_call()?;
    let factory = loop_.settings.open(py).task_factory.is_some();
    if factory || !loop_.native_tasks || args.len() > 1 {
        return create_task_as_asyncio(loop_, args);
    }
    for (name, value) in args.keywords() {
        let given = (!value.is_none()).then_some(value);
        if same_name(name, &names.name)? {
            options.name = given;
        } else if same_name(name, &names.context)? && compat::CREATE_TASK_HAS_CONTEXT {
            options.context = given;
        } else if same_name(name, &names.eager_start)? && compat::create_task_passes_keywords(py)? {
            options.eager_start = value.is_truthy()?;
        } else if args.len() > 0 || !name.eq("coro")? {
            let method = if compat::create_task_passes_keywords(py)? { "Task" } else { "create_task" };
            return Err(unexpected_keyword(method, name));
        }
    }
    task::create(loop_, &options)
}

/// With a task factory or stock tasks: the running version's own `create_task`, whose contract with factories changed
/// from version to version.
#[cold]
fn create_task_as_asyncio<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    let py = loop_.py();
    let method = py.import("asyncio.base_events")?.getattr("BaseEventLoop")?.getattr("create_task")?;
    let mut positional = vec![loop_.object().to_owned()];
    positional.extend(args.tail(0).map(|value| value.to_owned()));
    let keywords = PyDict::new(py);
    for (name, value) in args.keywords() {
        keywords.set_item(name, value)?;
    }
    method.call(pyo3::types::PyTuple::new(py, positional)?, Some(&keywords))
}

#[pymethods]
impl Runtime {
    #[new]
    #[classmethod]
    #[pyo3(signature = (*, native_tasks = None))]
    fn __new__(cls: &Bound<'_, PyType>, native_tasks: Option<bool>) -> PyResult<Self> {
        let native_tasks =
            native_tasks.unwrap_or_else(|| std::env::var_os("MIOLOOP_NATIVE_TASKS").is_none_or(|value| value != "0"));
        Runtime::know_class(cls);
        let runtime = Runtime::new(native_tasks).map_err(Error::Io)?;
        runtime.set_own_call_soon(!Self::_is_native(cls, "call_soon")?);
        runtime.set_own_clock(!Self::_is_native(cls, "time")?);
        Ok(runtime)
    }

    /// Gives a subclass fast methods of its own: the interpreter's specialised instructions call a native method only on
    /// instances of exactly the class that it belongs to.
    #[classmethod]
    fn _own_methods(cls: &Bound<'_, PyType>) -> PyResult<()> {
        add_methods(cls, methods())
    }

    /// No class overrides this fast method.
    #[classmethod]
    fn _is_native(cls: &Bound<'_, PyType>, name: &str) -> PyResult<bool> {
        match cls.getattr(name)?.getattr_opt("__objclass__")?.map(Bound::cast_into::<PyType>) {
            Some(Ok(home)) => home.is_subclass_of::<Runtime>(),
            _ => Ok(false),
        }
    }

    /// Makes tasks and futures of this package rather than asyncio's own.
    #[getter]
    fn native_tasks(&self) -> bool {
        self.native_tasks
    }

    /// Ends `run_forever` after the current turn.
    fn stop(&self) {
        self.shared.stopping.store(true, Relaxed);
    }

    #[pyo3(name = "is_running")]
    fn py_is_running(&self) -> bool {
        self.is_running()
    }

    #[pyo3(name = "is_closed")]
    fn py_is_closed(&self) -> bool {
        self.is_closed()
    }

    fn get_debug(&self) -> bool {
        self.is_debug()
    }

    /// What asyncio's own code asks instead of `get_debug()`.
    #[getter]
    fn _debug(&self) -> bool {
        self.is_debug()
    }

    #[setter(_debug)]
    fn py_set_private_debug(&self, enabled: &Bound<'_, PyAny>) -> PyResult<()> {
        self.set_debug(enabled.is_truthy()?);
        Ok(())
    }

    #[pyo3(name = "set_debug")]
    fn py_set_debug(&self, enabled: &Bound<'_, PyAny>) -> PyResult<()> {
        self.set_debug(enabled.is_truthy()?);
        Ok(())
    }

    /// Debug mode warns of callbacks that take longer: seconds.
    #[getter]
    fn get_slow_callback_duration(&self, py: Python<'_>) -> f64 {
        self.settings.open(py).slow_callback_duration
    }

    #[setter]
    fn set_slow_callback_duration(&self, py: Python<'_>, seconds: f64) {
        self.settings.open(py).slow_callback_duration = seconds;
    }

    /// True while `time` is replaced, in a subclass or on the object: then the loop lives by that clock.
    #[getter]
    fn _own_clock(&self) -> bool {
        self.has_own_clock()
    }

    #[setter(_own_clock)]
    fn py_set_own_clock(&self, on: bool) {
        self.set_own_clock(on);
    }

    /// True while `call_soon` is replaced: then native tasks and futures go through it, as asyncio's do.
    #[getter]
    fn _own_call_soon(&self) -> bool {
        !self.is_direct()
    }

    #[setter(_own_call_soon)]
    fn py_set_own_call_soon(&self, on: bool) {
        self.set_own_call_soon(on);
    }

    /// Debug mode: the handle or task that runs now.
    #[getter]
    fn _current_handle(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.settings.open(py).current_handle.as_ref().map(|handle| handle.as_py().clone_ref(py))
    }

    #[getter]
    fn _task_factory(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.settings.open(py).task_factory.as_ref().map(|factory| factory.as_py().clone_ref(py))
    }

    fn get_task_factory(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self._task_factory(py)
    }

    /// Raises TypeError unless factory is callable or None.
    fn set_task_factory(&self, factory: Option<Bound<'_, PyAny>>, py: Python<'_>) -> PyResult<()> {
        if factory.as_ref().is_some_and(|factory| !factory.is_callable()) {
            return Err(PyTypeError::new_err("task factory must be a callable or None"));
        }
        let old = std::mem::replace(&mut self.settings.open(py).task_factory, factory.map(Owned::new));
        drop(old);
        Ok(())
    }

    #[getter]
    fn _thread_id(&self) -> Option<usize> {
        Some(self.shared.running.load(Relaxed)).filter(|id| *id != 0)
    }

    #[pyo3(name = "_check_closed")]
    fn py_check_closed(&self) -> PyResult<()> {
        Ok(self.check_closed()?)
    }

    fn _check_running(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_running() {
            return Err(Error::AlreadyRunning.into());
        }
        if !py.import("asyncio.events")?.call_method0("_get_running_loop")?.is_none() {
            return Err(Error::OtherLoopRunning.into());
        }
        Ok(())
    }

    /// A transport for a connected stream socket, which stays the owner of its descriptor. asyncio's private hook.
    #[pyo3(signature = (sock, protocol, waiter=None, *, extra=None, server=None, context=None))]
    fn _make_socket_transport<'py>(
        this: &Bound<'py, Self>,
        sock: &Bound<'py, PyAny>,
        protocol: &Bound<'py, PyAny>,
        waiter: Option<&Bound<'py, PyAny>>,
        extra: Option<&Bound<'py, PyAny>>,
        server: Option<&Bound<'py, PyAny>>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let loop_ = This::new(this.as_any().as_borrowed(), this.get());
        if has_own_methods(sock)? {
            readers::ensure_no_transport(loop_, sock.as_borrowed())?;
            let arguments = (sock, protocol, waiter, extra, server, context);
            return this.call_method1("_make_selector_stream_transport", arguments);
        }
        let options = stream::Options { protocol, waiter, extra, server, context };
        stream::of_socket(loop_, sock, &options)
    }

    /// Are the socket's methods to be called, instead of the system?
    #[staticmethod]
    fn _has_own_methods(sock: &Bound<'_, PyAny>) -> PyResult<bool> {
        has_own_methods(sock)
    }

    /// The transport of a TLS connection: `_tls.Machine` calls it. direct: libssl may be called.
    fn _make_tls_transport<'py>(
        this: &Bound<'py, Self>,
        machine: &Bound<'py, PyAny>,
        protocol: &Bound<'py, PyAny>,
        connection: &Bound<'py, PyAny>,
        incoming: &Bound<'py, PyAny>,
        outgoing: &Bound<'py, PyAny>,
        direct: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let spares = &this.get().core.open(this.py()).spares.clone();
        let objects = tls::engine::Objects { connection, incoming, outgoing, spares, direct };
        tls::create(This::new(this.as_any().as_borrowed(), this.get()), machine, protocol, objects)
    }

    /// A transport for a datagram socket, which stays the owner of its descriptor. asyncio's private hook.
    #[pyo3(signature = (sock, protocol, address=None, waiter=None, extra=None))]
    fn _make_datagram_transport<'py>(
        this: &Bound<'py, Self>,
        sock: &Bound<'py, PyAny>,
        protocol: &Bound<'py, PyAny>,
        address: Option<&Bound<'py, PyAny>>,
        waiter: Option<&Bound<'py, PyAny>>,
        extra: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let loop_ = This::new(this.as_any().as_borrowed(), this.get());
        if has_own_methods(sock)? {
            readers::ensure_no_transport(loop_, sock.as_borrowed())?;
            return this.call_method1("_make_selector_datagram_transport", (sock, protocol, address, waiter, extra));
        }
        let options = datagram::Options { protocol, address, waiter, extra };
        datagram::of_socket(loop_, sock, &options)
    }

    /// A transport that reads from a file object, and closes it at the end. asyncio's private hook.
    #[pyo3(signature = (pipe, protocol, waiter=None, extra=None))]
    fn _make_read_pipe_transport<'py>(
        this: &Bound<'py, Self>,
        pipe: &Bound<'py, PyAny>,
        protocol: &Bound<'py, PyAny>,
        waiter: Option<&Bound<'py, PyAny>>,
        extra: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let options = pipe::Options { protocol, waiter, extra };
        read_pipe::of_file(This::new(this.as_any().as_borrowed(), this.get()), pipe, &options)
    }

    /// A transport that writes to a file object, and closes it at the end. asyncio's private hook.
    #[pyo3(signature = (pipe, protocol, waiter=None, extra=None))]
    fn _make_write_pipe_transport<'py>(
        this: &Bound<'py, Self>,
        pipe: &Bound<'py, PyAny>,
        protocol: &Bound<'py, PyAny>,
        waiter: Option<&Bound<'py, PyAny>>,
        extra: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let options = pipe::Options { protocol, waiter, extra };
        write_pipe::of_file(This::new(this.as_any().as_borrowed(), this.get()), pipe, &options)
    }

    /// Accepts the connections of a listening socket, in copies of `context`, until `remove_reader(sock)`.
    #[pyo3(signature = (protocol_factory, sock, server=None, backlog=100, context=None))]
    fn _accept_connections<'py>(
        this: &Bound<'py, Self>,
        protocol_factory: &Bound<'py, PyAny>,
        sock: &Bound<'py, PyAny>,
        server: Option<&Bound<'py, PyAny>>,
        backlog: usize,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let options = server::Options { socket: sock, factory: protocol_factory, server, backlog, context };
        server::accept_connections(This::new(this.as_any().as_borrowed(), this.get()), &options)
    }

    /// Runs turns until `stop()`. `run_forever` surrounds it with what asyncio sets up.
    fn _run(this: &Bound<'_, Self>) -> PyResult<()> {
        cycle::run(This::new(this.as_any().as_borrowed(), this.get()))
    }

    /// Gives up queued work and descriptors.
    fn _close(&self, py: Python<'_>) {
        drop(self.close(py));
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let mut result = Ok(());
        self.visit(|object| {
            if result.is_ok() {
                result = visit.call(object.as_py());
            }
        });
        result
    }

    fn __clear__(&self, py: Python<'_>) {
        drop(self.close(py));
        let factory = self.settings.open(py).task_factory.take();
        drop(factory);
    }
}
