//! `_watch_child`: a callback when a child process has ended.
//!
//! A pidfd is readable from then on. Unlike `add_reader`, the loop owns this descriptor: it is closed before the callback
//! runs, or with the loop, so that it needs no call of its own to leave the kernel's list. Called by `_subprocess.py`;
//! never waits for a child.

use std::os::fd::{AsRawFd, OwnedFd};

use mioloop_core::poller::Token;
use pyo3::prelude::*;

use crate::handle::{self, AsHandle, Callback, Handle};
use crate::py::call::Arguments;
use crate::py::cell::LoopCell;
use crate::py::class::{self, Ancestry, Class, Fields, Recipe, Stop, This, Visit};
use crate::py::errors::Error;
use crate::py::memory;
use crate::py::method::{Args, Method, Reply, Slots};
use crate::py::names::names;
use crate::py::object::Owned;
use crate::py::reply;
use crate::runtime::ready::{Failure, Ready};
use crate::runtime::sources::{Direction, Owner};
use crate::runtime::{Io, Runtime};
use crate::transport::watch::evict;

type Loop<'a, 'py> = This<'a, 'py, Runtime>;

/// The handle of the callback, with what it waits for. Loop thread only.
pub(crate) struct ChildHandle {
    handle: Handle,
    pidfd: LoopCell<Option<(OwnedFd, Token)>>,
}

static CHILD_HANDLE: Class = Class::new();

pub(crate) fn define(py: Python<'_>) -> PyResult<()> {
    let model = names(py).handle_class.bind(py).clone().cast_into()?;
    let recipe = Recipe {
        name: c"mioloop.ChildHandle",
        doc: c"A callback for the end of a child process.",
        ancestry: Ancestry::StandsFor(&model),
    };
    class::define::<ChildHandle>(py, &recipe, handle::methods(), Slots::new()).map(|_| ())
}

/// What this file adds to the loop's table of methods.
pub(crate) fn methods() -> Vec<Method<Runtime>> {
    vec![Method::fast(
        c"_watch_child",
        c"_watch_child($self, pid, callback, *args)\n--\n\nCalls callback(*args) once this child has ended.",
        watch_child,
    )]
}

/// Errors: OSError where there are no pidfds, or no descriptor is left.
fn watch_child<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    let py = loop_.py();
    let pid: i32 = args.required("_watch_child", 0, "pid")?.extract()?;
    let function = args.required("_watch_child", 1, "callback")?;
    args.no_keyword("_watch_child", &["pid", "callback"])?;
    loop_.check_closed()?;
    let pidfd = open(pid).map_err(|errno| Error::Io(errno.into()))?;
    let callback = Callback { function, arguments: Arguments::tail_of(args, 2)?, context: None };
    let fields = ChildHandle { handle: callback.into_handle(loop_)?, pidfd: LoopCell::new(None) };
    let object = memory::create(py, fields)?;
    let work = Ready { object: Owned::new(object.clone()), run };
    let attached = {
        let mut core = loop_.core.open(py);
        let Io { registry, sources, .. } = core.io.as_mut().ok_or(Error::Closed)?;
        let attached = sources.attach(registry, pidfd.as_raw_fd(), Owner::Transport, None);
        attached.map(|(token, left)| (token, left, sources.arm(py, token, Direction::Read, work)))
    };
    let (token, left, _nothing) = attached.map_err(Error::Io)?;
    let this = This::<ChildHandle>::of_exact(object.as_borrowed()).expect("it was made above");
    *this.pidfd.open(py) = Some((pidfd, token));
    evict(py, left)?;
    reply::none(py)
}

/// The child has ended.
fn run(loop_: Loop<'_, '_>, object: Owned) -> Result<(), Failure> {
    let py = loop_.py();
    let this = This::<ChildHandle>::of_exact(object.borrow(py)).expect("the class is chosen with the function");
    let Some((pidfd, token)) = this.pidfd.open(py).take() else { return Ok(()) };
    let left = loop_.core.open(py).io.as_mut().map(|Io { registry, sources, .. }| sources.forget(registry, token));
    drop(pidfd);
    drop(left);
    handle::run::<ChildHandle>(loop_, object)
}

#[cfg(target_os = "linux")]
fn open(pid: i32) -> rustix::io::Result<OwnedFd> {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    let pid = Pid::from_raw(pid).ok_or(rustix::io::Errno::INVAL)?;
    pidfd_open(pid, PidfdFlags::empty())
}

#[cfg(not(target_os = "linux"))]
fn open(_pid: i32) -> rustix::io::Result<OwnedFd> {
    Err(rustix::io::Errno::NOSYS)
}

impl AsHandle for ChildHandle {
    fn asyncio_class(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        Ok(names(py).handle_class.bind(py).clone())
    }
    fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Fields for ChildHandle {
    fn class() -> &'static Class {
        &CHILD_HANDLE
    }
    fn visit(&self, visit: Visit<'_>) -> Result<(), Stop> {
        self.handle.visit_fields(visit)
    }
    fn take_references(&self, py: Python<'_>) -> Vec<Owned> {
        self.handle.take_fields(py)
    }
}
