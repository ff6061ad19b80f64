//! tokio's futures, awaited by Python, and Python's coroutines, awaited by Rust.
//!
//! Each function returns an `asyncio.Future` of the running loop at once; what it stands for runs
//! on tokio's threads, without the interpreter. Nothing here knows which loop that is.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pyo3::exceptions::{PyLookupError, PyTimeoutError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3_async_runtimes::TaskLocals;
use pyo3_async_runtimes::tokio::{future_into_py, get_current_locals};

/// How many futures made by this module are alive.
static ALIVE: AtomicUsize = AtomicUsize::new(0);

struct Alive;

impl Alive {
    fn new() -> Self {
        ALIVE.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A task of the loop that ends with its owner: when a future of Rust that awaits it is dropped,
/// it is cancelled. (The future that pyo3-async-runtimes gives would leave it running.)
struct PythonTask {
    task: Py<PyAny>,
    locals: TaskLocals,
}

impl PythonTask {
    /// Begin to run `function(*args)` on the running loop, and return what awaits its result.
    fn start(
        function: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
    ) -> PyResult<(Self, impl Future<Output = PyResult<Py<PyAny>>> + Send + use<>)> {
        let py = function.py();
        let locals = get_current_locals(py)?;
        let coroutine = function.call1(args)?;
        let task = locals.event_loop(py).call_method1("create_task", (coroutine,))?;
        let result = pyo3_async_runtimes::into_future_with_locals(&locals, task.clone())?;
        let task = task.unbind();
        Ok((Self { task, locals }, result))
    }
}

impl Drop for PythonTask {
    fn drop(&mut self) {
        // No interpreter, no task to cancel: the program is ending.
        Python::try_attach(|py| {
            let cancel = self.task.getattr(py, "cancel");
            // Of a task that is done it does nothing; a loop that was closed has no tasks to end.
            let _ = cancel.and_then(|cancel| {
                self.locals.event_loop(py).call_method1("call_soon_threadsafe", (cancel,))?;
                Ok(())
            });
        });
    }
}

/// The sum, after a turn of tokio's scheduler.
#[pyfunction]
fn add(py: Python<'_>, a: i64, b: i64) -> PyResult<Bound<'_, PyAny>> {
    let alive = Alive::new();
    future_into_py(py, async move {
        tokio::task::yield_now().await;
        drop(alive);
        a.checked_add(b).ok_or_else(|| PyValueError::new_err("the sum does not fit in 64 bits"))
    })
}

/// `result`, after some seconds of tokio's clock.
#[pyfunction]
fn sleep(py: Python<'_>, seconds: f64, result: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    let duration = Duration::try_from_secs_f64(seconds).map_err(|error| PyValueError::new_err(error.to_string()))?;
    let alive = Alive::new();
    future_into_py(py, async move {
        tokio::time::sleep(duration).await;
        drop(alive);
        Ok(result)
    })
}

/// What `await function(*args)` gives: Rust awaits it, Python awaits Rust.
#[pyfunction]
#[pyo3(signature = (function, *args))]
fn call<'py>(function: &Bound<'py, PyAny>, args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
    let (task, result) = PythonTask::start(function, args)?;
    let alive = Alive::new();
    future_into_py(function.py(), async move {
        let (_task, _alive) = (task, alive);
        result.await
    })
}

/// The same, and `default` if that raises a `LookupError`.
#[pyfunction]
#[pyo3(signature = (default, function, *args))]
fn call_or<'py>(
    default: Py<PyAny>,
    function: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let (task, result) = PythonTask::start(function, args)?;
    future_into_py(function.py(), async move {
        let _task = task;
        let result = result.await;
        Python::attach(|py| match result {
            Err(error) if error.is_instance_of::<PyLookupError>(py) => Ok(default),
            other => other,
        })
    })
}

/// The same as `call`, given up after some seconds: then the coroutine is cancelled.
#[pyfunction]
#[pyo3(signature = (seconds, function, *args))]
fn call_within<'py>(
    seconds: f64,
    function: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let duration = Duration::try_from_secs_f64(seconds).map_err(|error| PyValueError::new_err(error.to_string()))?;
    let (task, result) = PythonTask::start(function, args)?;
    future_into_py(function.py(), async move {
        let _task = task;
        match tokio::time::timeout(duration, result).await {
            Ok(result) => result,
            Err(_) => Err(PyTimeoutError::new_err("tokio's clock ran out")),
        }
    })
}

/// How many futures that `add`, `sleep` and `call` have made are alive.
#[pyfunction]
fn alive() -> usize {
    ALIVE.load(Ordering::SeqCst)
}

#[pymodule(gil_used = false)]
fn rust_futures(module: &Bound<'_, PyModule>) -> PyResult<()> {
    // Results reach the loop through tokio's blocking threads, and the interpreter takes one at a time: of the 512 that
    // there could be, all but one would only wait for it.
    let mut tokio = tokio::runtime::Builder::new_multi_thread();
    tokio.worker_threads(2).max_blocking_threads(1).enable_time();
    pyo3_async_runtimes::tokio::init(tokio);

    module.add_function(wrap_pyfunction!(add, module)?)?;
    module.add_function(wrap_pyfunction!(sleep, module)?)?;
    module.add_function(wrap_pyfunction!(call, module)?)?;
    module.add_function(wrap_pyfunction!(call_or, module)?)?;
    module.add_function(wrap_pyfunction!(call_within, module)?)?;
    module.add_function(wrap_pyfunction!(alive, module)?)
}
