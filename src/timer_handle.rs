//! `TimerHandle`: what `call_later` and `call_at` return.
//!
//! A handle with a time and a place in the loop's timers. Comparisons, hash and repr are asyncio's borrowed Python, by
//! way of `_when`. Cancelling takes the handle out of the timers at once.

use mioloop_core::clock::deadline_ns;
use mioloop_core::timers::TimerKey;
use pyo3::prelude::*;
use pyo3::types::PyFloat;

use crate::handle::{self, AsHandle, Callback, Handle};
use crate::py::cell::LoopCell;
use crate::py::class::{self, Ancestry, Class, Fields, Recipe, Stop, This, Visit};
use crate::py::memory;
use crate::py::method::{Method, Receiver, Reply, Slots};
use crate::py::names::names;
use crate::py::object::Owned;
use crate::py::reply;
use crate::runtime::Runtime;
use crate::runtime::ready::Ready;

/// A callback that waits for its time.
pub(crate) struct TimerHandle {
    handle: Handle,
    timer: LoopCell<Timer>,
}

struct Timer {
    /// A time of `loop.time()`.
    seconds: f64,
    /// Names its place in the loop's timers; none once it ran or was cancelled.
    key: TimerKey,
}

/// A time of `loop.time()`, as the caller gave it.
pub(crate) struct When {
    pub(crate) seconds: f64,
    /// The caller's own object, where it is not a float.
    pub(crate) object: Option<Owned>,
}

static TIMER_HANDLE: Class = Class::new();

pub(crate) fn define(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let model = names(py).timer_handle_class.bind(py).clone().cast_into()?;
    let recipe = Recipe {
        name: c"mioloop.TimerHandle",
        doc: c"A callback that waits for its time.",
        ancestry: Ancestry::StandsFor(&model),
    };
    let mut methods = handle::methods::<TimerHandle>();
    methods.retain(|method| !method.is_named(c"cancel"));
    methods.extend([
        Method::no_args(c"cancel", c"Cancels the callback. Follows asyncio.TimerHandle.cancel.", cancel),
        Method::no_args(c"when", c"The time it is due, of loop.time(): seconds.", when),
        Method::get(c"_when", when),
        Method::get(c"_scheduled", scheduled),
    ]);
    Ok(class::define::<TimerHandle>(py, &recipe, methods, Slots::new())?.into_any())
}

/// Queues a callback for a time; the caller has checked that the loop takes it.
pub(crate) fn call_at<'py>(loop_: This<'_, 'py, Runtime>, when: When, callback: Callback<'_, 'py>) -> Reply<'py> {
    let py = loop_.py();
    let When { seconds, object } = when;
    let mut handle = callback.into_handle(loop_)?;
    if let Some(object) = object {
        handle.keep_when(object);
    }
    let timer = LoopCell::new(Timer { seconds, key: TimerKey::default() });
    let object = memory::create_untracked(py, TimerHandle { handle, timer })?;
    let ready = Ready { object: Owned::new(object.clone()), run: handle::run::<TimerHandle> };
    let key = loop_.insert_timer(py, deadline_ns(seconds), ready);
    if let Some(this) = This::<TimerHandle>::of_exact(object.as_borrowed()) {
        this.timer.open(py).key = key;
    }
    Ok(object)
}

fn cancel<'py>(this: This<'_, 'py, TimerHandle>) -> Reply<'py> {
    let py = this.py();
    let key = std::mem::take(&mut this.timer.open(py).key);
    if this.handle.cancel(this.object())? && key != TimerKey::default() {
        let loop_ = this.handle.get_loop(py);
        // The timers hold a reference to this very handle: it goes when the cell is closed again.
        let work = Runtime::receive(loop_.borrow(py)).and_then(|loop_| loop_.core.open(py).timers.cancel(key));
        drop(work);
    }
    reply::none(py)
}

fn when<'py>(this: This<'_, 'py, TimerHandle>) -> Reply<'py> {
    let py = this.py();
    let seconds = this.timer.open(py).seconds;
    let object = this.handle.kept_when(py);
    Ok(object.map_or_else(|| PyFloat::new(py, seconds).into_any(), |object| object.into_bound(py)))
}

fn scheduled<'py>(this: This<'_, 'py, TimerHandle>) -> Reply<'py> {
    let scheduled = this.timer.open(this.py()).key != TimerKey::default();
    reply::bool(this.py(), scheduled)
}

impl AsHandle for TimerHandle {
    fn asyncio_class(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        Ok(names(py).timer_handle_class.bind(py).clone())
    }
    fn handle(&self) -> &Handle {
        &self.handle
    }
    fn begin(&self, py: Python<'_>) {
        self.timer.open(py).key = TimerKey::default();
    }
}

impl Fields for TimerHandle {
    fn class() -> &'static Class {
        &TIMER_HANDLE
    }
    fn visit(&self, visit: Visit<'_>) -> Result<(), Stop> {
        self.handle.visit_fields(visit)
    }
    fn take_references(&self, py: Python<'_>) -> Vec<Owned> {
        self.handle.take_fields(py)
    }
}
