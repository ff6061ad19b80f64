//! `Runtime`: the state of one event loop, and the class `_native.Loop` that Python sees.
//!
//! Who owns what: `Core` belongs to whoever runs the loop and is opened for a few instructions at a time (see
//! `py/cell.rs`); `Shared` is for any thread. Tasks, futures and handles keep the loop object and reach the runtime
//! through it. The methods that Python calls are in `event_loop.rs`; the turn of the loop is in `cycle.rs`.

pub(crate) mod bell;
pub(crate) mod buffers;
pub(crate) mod cycle;
pub(crate) mod ready;
pub(crate) mod sources;

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mioloop_core::clock::{Clock, MonotonicClock, deadline_ns, seconds};
use mioloop_core::inbox::Inbox;
use mioloop_core::poller::{Poller, RawReadiness, Registry, Waker};
use mioloop_core::timers::{TimerKey, Timers};
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::py::buffer::SpareBytes;
use crate::py::cell::LoopCell;
use crate::py::class::This;
use crate::py::errors::Error;
use crate::py::known::Known;
use crate::py::memory;
use crate::py::method::Receiver;
use crate::py::object::Owned;
use crate::py::registry;
use crate::py::ring::Ring;
use crate::py::thread::thread_tag;
use bell::Bell;
use buffers::Spares;
use ready::{Ready, Together};
use sources::{Left, Sources};

/// More units of work than this in one turn are a crowd: what they write goes together.
const CROWD: usize = 2;

const CLOSED: u8 = 1;
const DEBUG: u8 = 2;
/// `time` is replaced: the loop lives by that clock.
const OWN_CLOCK: u8 = 4;
/// `call_soon` is replaced: tasks and futures must ask Python for it.
const OWN_CALL_SOON: u8 = 8;

/// One event loop. The Python class is `mioloop._native.Loop`.
#[pyclass(name = "Loop", module = "mioloop._native", subclass, weakref, frozen)]
pub(crate) struct Runtime {
    pub(crate) core: LoopCell<Core>,
    pub(crate) shared: Shared,
    pub(crate) settings: LoopCell<Settings>,
    /// Does `create_task` make native tasks? Fixed at creation.
    pub(crate) native_tasks: bool,
}

/// Loop thread only: opened by the thread that runs the loop, or by any while it does not run.
pub(crate) struct Core {
    pub(crate) ready: VecDeque<Ready>,
    pub(crate) timers: Timers<Ready>,
    /// The timer that was set last.
    last_timer: TimerKey,
    pub(crate) io: Option<Io>,
    /// Counts the units of work from 1.
    unit: u64,
    /// Units of work that this turn still has to run.
    left: usize,
    /// There were many of them when it began.
    in_crowd: bool,
    /// Something was sent, closed or registered since the last poll: the next turn asks the kernel.
    pub(crate) look: bool,
    /// What waits for the end of this unit of work, or of a crowd of them.
    put_off: Vec<Ready>,
    /// Does what all of that has in common, by the ring if the loop may have one.
    together: Option<Together>,
    ring: Ring,
    /// Where small reads go on their way into `bytes`; empty until the first.
    scratch: Vec<u8>,
    /// Buffers that nobody uses now.
    buffers: Vec<Box<[u8]>>,
    pub(crate) spare_bytes: SpareBytes,
    /// Outlives the loop where a TLS connection does.
    pub(crate) spares: Arc<LoopCell<Spares>>,
    /// What native threads ring, and the work of who fetches what they left.
    bell: Option<(Arc<Bell>, Ready)>,
    /// The task that `asyncio.current_task()` answers with.
    entered: Option<Owned>,
    /// `current_task()` answers with None by an entry that says so, not by the want of one.
    rests: bool,
}

impl Core {
    /// The loop's buffer, at least so large. Its contents are of no interest.
    pub(crate) fn scratch(&mut self, size: usize) -> &mut [u8] {
        self.scratch_and_spare(size).0
    }

    pub(crate) fn scratch_and_spare(&mut self, size: usize) -> (&mut [u8], &mut SpareBytes) {
        if self.scratch.len() < size {
            self.scratch.resize(size, 0);
        }
        (&mut self.scratch[..size], &mut self.spare_bytes)
    }
}

/// A unit of work, as one that sends sees it.
#[derive(Clone, Copy)]
pub(crate) struct Unit {
    pub(crate) number: u64,
    /// It is one of a crowd, and not the last one, unless all of them send in one call.
    pub(crate) in_crowd: bool,
}

impl Unit {
    /// The loop does not run.
    pub(crate) const NONE: Unit = Unit { number: 0, in_crowd: false };
}

/// Loop thread only. None in a closed loop.
pub(crate) struct Io {
    pub(crate) registry: Registry,
    pub(crate) sources: Sources,
    /// Away while a poll blocks.
    poller: Option<(Poller, Vec<RawReadiness>)>,
    /// The process that made the descriptors: a forked child makes its own.
    process: u32,
}

/// Any thread.
pub(crate) struct Shared {
    inbox: Inbox<Ready>,
    /// Any thread; locked only to wake a sleeping loop, or to replace the waker in a forked child. None in a closed loop,
    /// whose descriptors are closed.
    waker: Mutex<Option<Waker>>,
    /// `threading.get_ident()` of the thread that runs the loop, 0 while none does.
    pub(crate) running: AtomicUsize,
    pub(crate) stopping: AtomicBool,
    flags: AtomicU8,
}

impl Shared {
    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Loop thread only.
pub(crate) struct Settings {
    pub(crate) task_factory: Option<Owned>,
    /// Seconds.
    pub(crate) slow_callback_duration: f64,
    /// Debug mode: what runs now.
    pub(crate) current_handle: Option<Owned>,
}

/// The subclass of most loops: `mioloop.Loop`.
static LOOPS: Known<Runtime> = Known::new();

impl Receiver for Runtime {
    #[inline]
    fn receive<'a, 'py>(object: Borrowed<'a, 'py, PyAny>) -> Option<This<'a, 'py, Self>> {
        LOOPS.receive(object)
    }
}

impl Runtime {
    /// Called for each new loop, so that the class of the first is recognised at a glance.
    pub(crate) fn know_class(class: &Bound<'_, PyType>) {
        LOOPS.learn(class);
    }

    pub(crate) fn new(native_tasks: bool) -> io::Result<Self> {
        let (poller, registry) = Poller::new()?;
        let waker = registry.waker();
        let io =
            Io { registry, sources: Sources::new(), poller: Some((poller, Vec::new())), process: std::process::id() };
        Ok(Runtime {
            core: LoopCell::new(Core {
                ready: VecDeque::new(),
                timers: Timers::new(),
                last_timer: TimerKey::default(),
                io: Some(io),
                unit: 0,
                left: 0,
                in_crowd: false,
                look: false,
                put_off: Vec::new(),
                together: None,
                ring: Ring::of_environment(),
                scratch: Vec::new(),
                buffers: Vec::new(),
                spare_bytes: SpareBytes::new(),
                spares: Arc::new(LoopCell::new(Spares::new())),
                bell: None,
                entered: None,
                rests: false,
            }),
            shared: Shared {
                inbox: Inbox::new(),
                waker: Mutex::new(Some(waker)),
                running: AtomicUsize::new(0),
                stopping: AtomicBool::new(false),
                flags: AtomicU8::new(0),
            },
            settings: LoopCell::new(Settings { task_factory: None, slow_callback_duration: 0.1, current_handle: None }),
            native_tasks,
        })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.shared.flags.load(Relaxed) & CLOSED != 0
    }

    pub(crate) fn is_debug(&self) -> bool {
        self.shared.flags.load(Relaxed) & DEBUG != 0
    }

    pub(crate) fn set_debug(&self, on: bool) {
        self.set_flag(DEBUG, on);
    }

    pub(crate) fn has_own_clock(&self) -> bool {
        self.shared.flags.load(Relaxed) & OWN_CLOCK != 0
    }

    pub(crate) fn set_own_clock(&self, on: bool) {
        self.set_flag(OWN_CLOCK, on);
    }

    /// Work may be queued without asking Python for `call_soon`.
    #[inline(always)]
    pub(crate) fn is_direct(&self) -> bool {
        self.shared.flags.load(Relaxed) & OWN_CALL_SOON == 0
    }

    pub(crate) fn set_own_call_soon(&self, on: bool) {
        self.set_flag(OWN_CALL_SOON, on);
    }

    fn set_flag(&self, flag: u8, on: bool) {
        if on {
            self.shared.flags.fetch_or(flag, Relaxed);
        } else {
            self.shared.flags.fetch_and(!flag, Relaxed);
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.shared.running.load(Relaxed) != 0
    }

    pub(crate) fn check_closed(&self) -> Result<(), Error> {
        if self.is_closed() { Err(Error::Closed) } else { Ok(()) }
    }

    /// Debug mode's `_check_thread`.
    pub(crate) fn check_thread(&self) -> Result<(), Error> {
        let running = self.shared.running.load(Relaxed);
        if running != 0 && running != thread_tag() { Err(Error::WrongThread) } else { Ok(()) }
    }

    /// Closed? In debug mode, the right thread? Both in one look.
    #[inline(always)]
    pub(crate) fn check_call(&self) -> Result<(), Error> {
        match self.shared.flags.load(Relaxed) {
            0 => Ok(()),
            flags if flags & CLOSED != 0 => Err(Error::Closed),
            flags if flags & DEBUG != 0 => self.check_thread(),
            _ => Ok(()),
        }
    }

    /// `loop.time()` in nanoseconds.
    pub(crate) fn now_ns(&self) -> u64 {
        MonotonicClock.now_ns()
    }

    /// `loop.time()`: seconds.
    pub(crate) fn time(&self) -> f64 {
        seconds(self.now_ns())
    }

    /// `call_soon` for work: refuses a closed loop.
    #[inline(always)]
    pub(crate) fn schedule(&self, py: Python<'_>, ready: Ready) -> Result<(), Error> {
        self.check_call()?;
        self.enqueue(py, ready);
        Ok(())
    }

    /// Queues work behind all that was queued before, whichever thread queued it.
    #[inline(always)]
    pub(crate) fn enqueue(&self, py: Python<'_>, ready: Ready) {
        let running = self.shared.running.load(Relaxed);
        if running != 0 && running != thread_tag() {
            self.enqueue_threadsafe(ready);
            return;
        }
        let mut core = self.core.open(py);
        if !self.shared.inbox.is_empty() {
            self.shared.inbox.drain(&mut core.ready);
        }
        core.ready.push_back(ready);
    }

    /// Queues work of a loop that does not run, and may be garbage before it does: the collector must see who else holds
    /// the object. The one queued before is the queue's alone by now, if its maker has let it go.
    pub(crate) fn enqueue_tracked(&self, py: Python<'_>, ready: Ready) {
        memory::track_new(ready.object.borrow(py));
        let core = self.core.open(py);
        // Of the same kind: handles are tracked again when they leave the queue, other work is not.
        if let Some(before) = core.ready.back()
            && std::ptr::fn_addr_eq(before.run, ready.run)
            && !memory::is_shared(&before.object)
        {
            memory::untrack(before.object.borrow(py));
        }
        drop(core);
        self.enqueue(py, ready);
    }

    /// Sets a timer, and shows it to the collector. The one set before is the loop's alone by now, if its maker has let it
    /// go: then the loop shows what it refers to as its own.
    #[inline(always)]
    pub(crate) fn insert_timer(&self, py: Python<'_>, due_ns: u64, ready: Ready) -> TimerKey {
        memory::track_new(ready.object.borrow(py));
        let mut core = self.core.open(py);
        if let Some(before) = core.timers.get(core.last_timer)
            && !memory::is_shared(&before.object)
        {
            memory::untrack(before.object.borrow(py));
        }
        let key = core.timers.insert(due_ns, ready);
        core.last_timer = key;
        key
    }

    /// Queues work from another thread, and wakes the loop if it sleeps.
    #[inline(never)]
    pub(crate) fn enqueue_threadsafe(&self, ready: Ready) {
        if self.shared.inbox.push(ready) {
            // A loop that is being closed has no poller to wake, and nothing left to do with the work.
            let _ = self.shared.waker().as_ref().map(Waker::wake);
        }
    }

    /// Queues `work` for a time of `loop.time()`: seconds.
    pub(crate) fn run_at(&self, py: Python<'_>, when: f64, work: Ready) {
        self.core.open(py).timers.insert(deadline_ns(when), work);
    }

    /// The next turn asks the kernel even if there is other work, as asyncio does in every turn: a peer in this very
    /// thread is told in the next turn of what was sent in this one. Programs, and tests above all, count on that.
    #[inline]
    pub(crate) fn look_soon(&self, py: Python<'_>) {
        self.core.open(py).look = true;
    }

    /// The unit of work that runs now, for whoever is about to send: with `look_soon`.
    #[inline]
    pub(crate) fn unit_of_sending(&self, py: Python<'_>) -> Unit {
        let mut core = self.core.open(py);
        core.look = true;
        if self.is_running() {
            Unit { number: core.unit, in_crowd: core.in_crowd && (core.left > 0 || !core.ring.is_off()) }
        } else {
            Unit::NONE
        }
    }

    /// Runs `work` when the unit of work that runs now has ended; in a crowd, with what others put off.
    pub(crate) fn put_off(&self, py: Python<'_>, work: Ready, together: Together) {
        let mut core = self.core.open(py);
        core.put_off.push(work);
        core.together = Some(together);
    }

    /// A bell for `hang_bell`.
    pub(crate) fn make_bell(&self) -> Bell {
        Bell::new(self.shared.waker().clone())
    }

    /// From now on `work` is queued when the bell has been rung. The caller drops the work that hung there before.
    pub(crate) fn hang_bell(&self, py: Python<'_>, bell: Arc<Bell>, work: Ready) -> Option<Ready> {
        self.core.open(py).bell.replace((bell, work)).map(|(_, work)| work)
    }

    /// Whoever hangs at the bell.
    pub(crate) fn at_the_bell(&self, py: Python<'_>) -> Option<Owned> {
        self.core.open(py).bell.as_ref().map(|(_, work)| work.object.clone_ref(py))
    }

    /// Gives up all queued work and every descriptor. The caller drops what is returned.
    pub(crate) fn close(&self, py: Python<'_>) -> Dropped {
        self.shared.flags.fetch_or(CLOSED, Relaxed);
        *self.shared.waker() = None;
        let mut core = self.core.open(py);
        core.scratch = Vec::new();
        core.ring = Ring::Off;
        self.shared.inbox.drain(&mut core.ready);
        let mut io = core.io.take();
        let watched = io.as_mut().map(|io| io.sources.clear(&mut io.registry));
        let mut ready = std::mem::take(&mut core.ready);
        ready.extend(core.put_off.drain(..));
        let timers = core.timers.clear();
        let bell = core.bell.take();
        drop(core);
        Dropped { _ready: ready, _timers: timers, _watched: watched, _bell: bell, _io: io }
    }

    pub(crate) fn visit(&self, mut visit: impl FnMut(&Owned)) {
        // What an untracked object refers to is shown as the queue's own: nobody else holds the object.
        let mut visit_queued = |ready: &Ready| {
            visit(&ready.object);
            if !memory::is_tracked(&ready.object) && !memory::is_shared(&ready.object) {
                memory::visit_referents(&ready.object, &mut visit);
            }
        };
        self.shared.inbox.for_each(&mut visit_queued);
        if let Some(core) = self.core.peek() {
            core.ready.iter().chain(&core.put_off).for_each(&mut visit_queued);
            core.timers.iter().for_each(&mut visit_queued);
            core.io.iter().flat_map(|io| io.sources.iter()).for_each(|ready| visit(&ready.object));
            core.io.iter().flat_map(|io| io.sources.files()).for_each(&mut visit);
            core.bell.iter().for_each(|(_, ready)| visit(&ready.object));
            core.entered.iter().for_each(&mut visit);
        }
        if let Some(settings) = self.settings.peek() {
            settings.task_factory.iter().chain(&settings.current_handle).for_each(&mut visit);
        }
    }
}

/// What a closed loop leaves behind: its end may run Python code.
#[must_use]
pub(crate) struct Dropped {
    _ready: VecDeque<Ready>,
    _timers: Vec<Ready>,
    _watched: Option<Left>,
    _bell: Option<(Arc<Bell>, Ready)>,
    _io: Option<Io>,
}

impl This<'_, '_, Runtime> {
    /// Makes `current_task()` answer with `task`. Stays so until other work runs: a task that steps twice in a row, or
    /// alone, costs one look at a pointer.
    #[inline]
    pub(crate) fn enter_task(&self, task: Borrowed<'_, '_, PyAny>) -> PyResult<()> {
        let py = self.py();
        let mut core = self.core.open(py);
        if core.entered.as_ref().is_some_and(|entered| entered.as_ptr() == task.as_ptr()) {
            return Ok(());
        }
        let previous = core.entered.replace(Owned::of(task));
        core.rests = false;
        drop(core);
        drop(previous);
        registry::set_current(&self.object(), Some(&task))
    }

    /// A task's step may not begin in the middle of another's: asyncio's error.
    pub(crate) fn check_no_task(&self, task: Borrowed<'_, '_, PyAny>) -> PyResult<()> {
        let entered = self.core.open(self.py()).entered.as_ref().map(|entered| entered.clone_ref(self.py()));
        let Some(entered) = entered else { return Ok(()) };
        let (task, entered) = (task.repr()?, entered.bind(self.py()).repr()?);
        let text = format!("Cannot enter into task {task} while another task {entered} is being executed.");
        Err(Error::Runtime(text).into())
    }

    /// Makes `current_task()` answer None.
    #[inline]
    pub(crate) fn leave_task(&self) -> PyResult<()> {
        let mut core = self.core.open(self.py());
        let (previous, rested) = (core.entered.take(), std::mem::take(&mut core.rests));
        drop(core);
        if previous.is_some() || rested { registry::set_current(&self.object(), None) } else { Ok(()) }
    }

    /// As `leave_task`, before a poll that blocks: what runs next is probably a task.
    pub(crate) fn rest_task(&self) -> PyResult<()> {
        let mut core = self.core.open(self.py());
        let Some(previous) = core.entered.take() else { return Ok(()) };
        core.rests = true;
        drop(core);
        drop(previous);
        registry::clear_current(&self.object())
    }
}
