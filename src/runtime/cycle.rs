//! The turn of the loop: poll, dispatch, expire timers, run what is ready, report what failed.
//!
//! Called by `event_loop.rs` for `_run()`. A turn runs what was ready when it began and nothing that it made ready,
//! as asyncio does. While there is work the kernel is asked only after something was sent, closed or registered, and else
//! now and then: `MOST_TURNS` and `MOST_TIME_NS` bound how long I/O and signals may wait for it. The interpreter is let go
//! only for a poll that may block.

use std::sync::atomic::Ordering::Relaxed;

use mioloop_core::clock::{deadline_ns, seconds};
use mioloop_core::poller::{Poller, RawReadiness, Wait};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::ready::{Failure, Ready, Report};
use super::{CROWD, Io, Runtime};
use crate::py::class::This;
use crate::py::errors::{self, Error};
use crate::py::memory;
use crate::py::names::names;
use crate::py::ring::FEWEST;
use crate::py::thread::thread_tag;

/// Turns without a look at the kernel, at most.
const MOST_TURNS: u32 = 64;
/// Time without a look at the kernel, at most, unless a few callbacks take longer: 250 microseconds.
const MOST_TIME_NS: u64 = 250_000;
/// Turns between looks at the clock, while no timer makes each turn look.
const CLOCK_TURNS: u32 = 4;
/// The same while turns are quick.
const QUICK_CLOCK_TURNS: u32 = 16;
/// The mean of turns that are quick, at most: 2 microseconds.
const QUICK_TURN_NS: u64 = 2_000;
/// Connections whose writes wait for one another, at most.
const MOST_PUT_OFF: usize = 64;
/// asyncio's MAXIMUM_SELECT_TIMEOUT: one day.
const LONGEST_WAIT_NS: u64 = 24 * 3600 * 1_000_000_000;

type Loop<'a, 'py> = This<'a, 'py, Runtime>;

/// When the kernel was last asked.
struct LastPoll {
    turns: u32,
    /// `NOT_LOOKED`: some time before the next look at the clock.
    time_ns: u64,
    /// The turn that looks at the clock next.
    clock_turn: u32,
}

const NOT_LOOKED: u64 = u64::MAX;

/// Runs turns until `stop()`, `KeyboardInterrupt` or `SystemExit`. Work that did not run stays queued.
pub(crate) fn run(this: Loop<'_, '_>) -> PyResult<()> {
    this.check_closed()?;
    rearm_after_fork(this)?;
    let tag = thread_tag();
    if this.shared.running.compare_exchange(0, tag, Relaxed, Relaxed).is_err() {
        return Err(Error::AlreadyRunning.into());
    }
    // The first turn asks the kernel: what happened between two runs is known before the second goes on.
    let mut last = LastPoll { turns: MOST_TURNS - 1, time_ns: 0, clock_turn: 0 };
    let result = loop {
        if let Err(error) = turn(this, &mut last) {
            // Writes that were put off still go; the first error is the one that counts.
            let _ = run_put_off(this);
            break Err(error);
        }
        if this.shared.stopping.load(Relaxed) {
            break Ok(());
        }
    };
    this.shared.stopping.store(false, Relaxed);
    this.shared.running.store(0, Relaxed);
    // Only a loop that does not run can be garbage: what others hold too, or get from asyncio's register of tasks, the
    // collector must see from here on.
    let mut core = this.core.open(this.py());
    this.shared.inbox.drain(&mut core.ready);
    core.ready.iter().for_each(|work| memory::track(work.object.borrow(this.py())));
    drop(core);
    result.and(this.leave_task())
}

fn turn(this: Loop<'_, '_>, last: &mut LastPoll) -> PyResult<()> {
    let py = this.py();
    let mut core = this.core.open(py);
    if !this.shared.inbox.is_empty() {
        this.shared.inbox.drain(&mut core.ready);
    }
    let busy = !core.ready.is_empty() || this.shared.stopping.load(Relaxed);
    let look = core.look;
    let deadline = if core.timers.is_empty() { None } else { core.timers.next_deadline() };
    drop(core);

    last.turns += 1;
    if busy && !look && deadline.is_none() && last.turns < last.clock_turn {
        return run_batch(this);
    }
    // A loop that only waits for its descriptors needs no clock.
    let needs_clock = busy || deadline.is_some();
    let mut now = if needs_clock { now_ns(this)? } else { 0 };
    if last.time_ns == NOT_LOOKED {
        last.time_ns = now;
    }
    let elapsed = now.saturating_sub(last.time_ns);
    let quick = elapsed > 0 && elapsed < u64::from(last.turns) * QUICK_TURN_NS;
    last.clock_turn = last.turns + if quick { QUICK_CLOCK_TURNS } else { CLOCK_TURNS };
    if !busy || look || last.turns >= MOST_TURNS || elapsed >= MOST_TIME_NS {
        let wait = match deadline {
            _ if busy => Wait::Now,
            None => Wait::Forever,
            Some(deadline) if deadline <= now => Wait::Now,
            Some(deadline) => Wait::For((deadline - now).min(LONGEST_WAIT_NS)),
        };
        poll(this, wait)?;
        *last = LastPoll { turns: 0, time_ns: NOT_LOOKED, clock_turn: CLOCK_TURNS };
        if deadline.is_some() {
            now = now_ns(this)?;
            last.time_ns = now;
        }
    }
    if deadline.is_some() {
        expire_timers(this, now);
    }
    run_batch(this)
}

/// `loop.time()` in nanoseconds.
#[inline(always)]
fn now_ns(this: Loop<'_, '_>) -> PyResult<u64> {
    if !this.has_own_clock() {
        return Ok(this.now_ns());
    }
    let py = this.py();
    let seconds: f64 = this.object().call_method0(&names(py).time)?.extract()?;
    Ok(deadline_ns(seconds))
}

/// Asks the kernel, and queues the work of every source that is ready.
fn poll(this: Loop<'_, '_>, wait: Wait) -> PyResult<()> {
    let py = this.py();
    let blocks = !matches!(wait, Wait::Now);
    if blocks {
        this.rest_task()?;
    }
    let (mut poller, mut events) = {
        let mut core = this.core.open(py);
        core.look = false;
        let Some(io) = core.io.as_mut() else { return Err(Error::Closed.into()) };
        io.registry.rearm().map_err(Error::Io)?;
        let Some(away) = io.poller.take() else { return Err(Error::AlreadyRunning.into()) };
        away
    };
    events.clear();
    let result = if blocks { block(this, &mut poller, wait, &mut events) } else { poller.poll(Wait::Now, &mut events) };
    let mut core = this.core.open(py);
    let super::Core { ready, io, bell, .. } = &mut *core;
    if let Some(Io { registry, sources, poller: home, .. }) = io {
        for raw in &events {
            if let Some(readiness) = registry.accept(*raw) {
                sources.dispatch(py, readiness, ready);
            }
        }
        *home = Some((poller, events));
    }
    if let Some((bell, work)) = bell
        && bell.was_rung()
    {
        ready.push_back(work.clone_ref(py));
    }
    drop(core);
    result.map_err(Error::Io)?;
    py.check_signals()
}

/// Sleeps in the kernel without the interpreter, unless another thread has left work in the meantime.
fn block(this: Loop<'_, '_>, poller: &mut Poller, wait: Wait, events: &mut Vec<RawReadiness>) -> std::io::Result<()> {
    let inbox = &this.shared.inbox;
    if !inbox.prepare_to_block() {
        return poller.poll(Wait::Now, events);
    }
    let result = this.py().detach(|| poller.poll(wait, events));
    inbox.resume();
    result
}

fn expire_timers(this: Loop<'_, '_>, now_ns: u64) {
    let mut core = this.core.open(this.py());
    while let Some(work) = core.timers.pop_expired(now_ns) {
        core.ready.push_back(work);
    }
}

/// Runs what is ready now, one by one, so that an exception that ends the run leaves the rest queued.
fn run_batch(this: Loop<'_, '_>) -> PyResult<()> {
    let py = this.py();
    let mut core = this.core.open(py);
    core.left = core.ready.len();
    core.in_crowd = core.left > CROWD;
    loop {
        if !core.put_off.is_empty() && (!core.in_crowd || core.left == 0 || core.put_off.len() >= MOST_PUT_OFF) {
            drop(core);
            run_put_off(this)?;
            core = this.core.open(py);
        }
        if core.left == 0 {
            return Ok(());
        }
        core.left -= 1;
        core.unit += 1;
        let Some(work) = core.ready.pop_front() else { return Ok(()) };
        drop(core);
        let result = if this.is_debug() { run_timed(this, work) } else { (work.run)(this, work.object) };
        if let Err(failure) = result {
            report(this, failure)?;
        }
        core = this.core.open(py);
    }
}

/// Runs what units of work have put off: writes that go together.
fn run_put_off(this: Loop<'_, '_>) -> PyResult<()> {
    let py = this.py();
    let put_off = {
        let mut core = this.core.open(py);
        let put_off = std::mem::take(&mut core.put_off);
        if put_off.len() >= FEWEST
            && !core.ring.is_off()
            && let Some(together) = core.together
        {
            together(py, &put_off, &mut core.ring);
        }
        put_off
    };
    // All of it, or what is left would wait for ever; the first error that ends the run is the one that counts.
    let mut result = Ok(());
    for work in put_off {
        result = result.and((work.run)(this, work.object).or_else(|failure| report(this, failure)));
    }
    result
}

/// Debug mode: warns of work that takes longer than `loop.slow_callback_duration`.
#[cold]
fn run_timed(this: Loop<'_, '_>, work: Ready) -> Result<(), Failure> {
    let py = this.py();
    let begin = this.now_ns();
    let object = work.object.clone_ref(py);
    let outer = this.settings.open(py).current_handle.replace(object.clone_ref(py));
    let result = (work.run)(this, work.object);
    let inner = std::mem::replace(&mut this.settings.open(py).current_handle, outer);
    drop(inner);
    result?;
    let took = seconds(this.now_ns() - begin);
    let limit = this.settings.open(py).slow_callback_duration;
    if took >= limit {
        let names = names(py);
        let object = object.bind(py);
        // The step of a task is shown as the task, also where asyncio's own task made a handle of it.
        let shown = match object.hasattr(&names.private_callback)? {
            true => py.import("asyncio.base_events")?.call_method1("_format_handle", (object,))?,
            false => object.repr()?.into_any(),
        };
        let warning = ("Executing %s took %.3f seconds", shown, took);
        names.logger.bind(py).call_method1(&names.warning, warning)?;
    }
    Ok(())
}

#[cold]
fn report(this: Loop<'_, '_>, failure: Failure) -> PyResult<()> {
    let py = this.py();
    let report = match failure {
        Failure::Exit(error) => return Err(error),
        Failure::Report(report) => *report,
    };
    let Report { message, exception, handle, source_traceback } = report;
    if errors::ends_run(py, &exception) {
        return Err(exception);
    }
    let names = names(py);
    let context = PyDict::new(py);
    context.set_item(&names.message, message)?;
    context.set_item(&names.exception, exception.into_value(py))?;
    context.set_item(&names.handle, handle.bind(py))?;
    if let Some(source_traceback) = source_traceback {
        context.set_item(&names.source_traceback, source_traceback.bind(py))?;
    }
    this.object().call_method1(&names.call_exception_handler, (context,)).map(|_| ())
}

/// A loop that was made before `fork()` gets descriptors of its own in the child.
fn rearm_after_fork(this: Loop<'_, '_>) -> PyResult<()> {
    let mut core = this.core.open(this.py());
    let io = core.io.as_mut().ok_or(Error::Closed)?;
    if io.process != std::process::id() {
        let poller = io.registry.rebuild().map_err(Error::Io)?;
        io.poller = Some((poller, Vec::new()));
        io.process = std::process::id();
        *this.shared.waker() = Some(io.registry.waker());
    }
    Ok(())
}
