//! `ThreadSafeHandle`: what `call_soon_threadsafe` returns from 3.14 on.
//!
//! A handle whose `cancel()` and `cancelled()`, called in another thread while the callback runs, wait for it to end, as
//! the lock of asyncio's `_ThreadSafeHandle` makes them. Ours costs nothing until somebody waits.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Condvar, Mutex, PoisonError};

use pyo3::prelude::*;

use crate::handle::{self, AsHandle, Callback, Handle};
use crate::py::class::{self, Ancestry, Class, Fields, Recipe, Stop, This, Visit};
use crate::py::memory;
use crate::py::method::{Method, Reply, Slots};
use crate::py::names::names;
use crate::py::object::Owned;
use crate::py::reply;
use crate::py::thread::thread_tag;
use crate::runtime::Runtime;
use crate::runtime::ready::Failure;

/// A callback that another thread may cancel.
pub(crate) struct ThreadSafeHandle {
    handle: Handle,
    gate: Gate,
}

/// Closed while the callback runs. Any thread.
struct Gate {
    /// The thread that runs the callback, or 0.
    runner: AtomicUsize,
}

/// Threads that wait at a gate, whichever it is: there are hardly ever any. Any thread.
static WAITING: AtomicUsize = AtomicUsize::new(0);
static LOCK: Mutex<()> = Mutex::new(());
static OPENED: Condvar = Condvar::new();

static THREAD_SAFE_HANDLE: Class = Class::new();

pub(crate) fn define(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let model = py.import("asyncio.events")?.getattr("_ThreadSafeHandle")?.cast_into()?;
    let recipe = Recipe {
        name: c"mioloop.ThreadSafeHandle",
        doc: c"A callback that call_soon_threadsafe queued.",
        ancestry: Ancestry::StandsFor(&model),
    };
    let mut methods = handle::methods::<ThreadSafeHandle>();
    methods.retain(|method| !method.is_named(c"cancel") && !method.is_named(c"cancelled"));
    methods.extend([
        Method::no_args(c"cancel", c"Cancels the callback; waits while it runs in another thread.", cancel),
        Method::no_args(c"cancelled", c"True once cancelled; waits as cancel does.", cancelled),
        Method::no_args(c"_run", c"Runs the callback now.", run_now),
    ]);
    Ok(class::define::<ThreadSafeHandle>(py, &recipe, methods, Slots::new())?.into_any())
}

/// Queues a callback from any thread.
pub(crate) fn call_soon_threadsafe<'py>(loop_: This<'_, 'py, Runtime>, callback: Callback<'_, 'py>) -> Reply<'py> {
    let gate = Gate { runner: AtomicUsize::new(0) };
    handle::queue(loop_, ThreadSafeHandle { handle: callback.into_handle(loop_)?, gate }, run)
}

fn run(loop_: This<'_, '_, Runtime>, object: Owned) -> Result<(), Failure> {
    let py = loop_.py();
    if !memory::is_shared(&object) {
        return handle::run::<ThreadSafeHandle>(loop_, object);
    }
    let kept = object.clone_ref(py);
    let this = This::<ThreadSafeHandle>::of_exact(kept.borrow(py)).expect("the class is chosen with the function");
    let _closed = this.gate.close();
    handle::run::<ThreadSafeHandle>(loop_, object)
}

impl Gate {
    fn close(&self) -> Closed<'_> {
        self.runner.store(thread_tag(), SeqCst);
        Closed { gate: self }
    }

    /// Lets a callback that runs in another thread end first.
    fn pass(&self, py: Python<'_>) {
        let runner = self.runner.load(SeqCst);
        if runner == 0 || runner == thread_tag() {
            return;
        }
        py.detach(|| {
            WAITING.fetch_add(1, SeqCst);
            let mut guard = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
            while self.runner.load(SeqCst) != 0 {
                guard = OPENED.wait(guard).unwrap_or_else(PoisonError::into_inner);
            }
            WAITING.fetch_sub(1, SeqCst);
        });
    }
}

/// Opens the gate when the callback has ended.
struct Closed<'a> {
    gate: &'a Gate,
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.gate.runner.store(0, SeqCst);
        if WAITING.load(SeqCst) != 0 {
            // Taken and let go, so that a waiter is either before its look at the runner or asleep.
            drop(LOCK.lock().unwrap_or_else(PoisonError::into_inner));
            OPENED.notify_all();
        }
    }
}

fn cancel<'py>(this: This<'_, 'py, ThreadSafeHandle>) -> Reply<'py> {
    this.gate.pass(this.py());
    handle::cancel(this)
}

fn cancelled<'py>(this: This<'_, 'py, ThreadSafeHandle>) -> Reply<'py> {
    this.gate.pass(this.py());
    handle::cancelled(this)
}

/// `_ThreadSafeHandle._run` takes a lock that ours does not have; the plain one does the rest.
fn run_now<'py>(this: This<'_, 'py, ThreadSafeHandle>) -> Reply<'py> {
    let py = this.py();
    if this.handle.is_cancelled(py) {
        return reply::none(py);
    }
    let _closed = this.gate.close();
    names(py).handle_class.bind(py).call_method1("_run", (this.object(),))
}

impl AsHandle for ThreadSafeHandle {
    fn asyncio_class(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        py.import("asyncio.events")?.getattr("_ThreadSafeHandle")
    }
    fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Fields for ThreadSafeHandle {
    const SPARE_BYTES: usize = memory::BURST_BYTES;

    fn class() -> &'static Class {
        &THREAD_SAFE_HANDLE
    }
    fn visit(&self, visit: Visit<'_>) -> Result<(), Stop> {
        self.handle.visit_fields(visit)
    }
    fn take_references(&self, py: Python<'_>) -> Vec<Owned> {
        self.handle.take_fields(py)
    }
}
