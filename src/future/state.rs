//! `FutureState`: the fields that futures and tasks share.
//!
//! Opened by `future.rs` and its siblings for a few instructions at a time; nothing here calls Python.

use pyo3::prelude::*;

use crate::py::class::{Stop, This, Visit};
use crate::py::context::Snapshot;
use crate::py::names;
use crate::py::object::Owned;
use crate::runtime::Runtime;
use crate::runtime::ready::Ready;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Pending,
    Cancelled,
    Finished,
}

/// Loop thread only, like every future of asyncio.
pub(crate) struct FutureState {
    /// None until `__init__` ran.
    pub(super) loop_: Option<Owned>,
    pub(crate) status: Status,
    /// `_asyncio_future_blocking`: yielded by an `await`, not yet seen by a task.
    pub(crate) blocking: bool,
    /// An exception that nobody has asked for yet.
    pub(crate) log_traceback: bool,
    pub(super) result: Option<Owned>,
    /// Most futures have one callback and end well: the rest is apart.
    pub(super) first: Option<Callback>,
    pub(super) more: Option<Box<More>>,
}

/// What few futures have.
#[derive(Default)]
pub(crate) struct More {
    /// Callbacks after the first.
    pub(super) rest: Vec<Callback>,
    pub(super) exception: Option<Owned>,
    pub(super) exception_traceback: Option<Owned>,
    pub(crate) cancel_message: Option<Owned>,
    /// The CancelledError that ended a task: handed out to the first who asks.
    pub(crate) cancelled_error: Option<Owned>,
    pub(super) source_traceback: Option<Owned>,
}

/// What to do when a future is done.
pub(crate) enum Callback {
    /// Work for the future's own loop: a task to wake.
    Wake(Ready),
    Call {
        function: Owned,
        context: Snapshot,
    },
}

impl Callback {
    #[inline(always)]
    fn visit(&self, visit: Visit<'_>) -> Result<(), Stop> {
        match self {
            Callback::Wake(work) => visit.object(&work.object),
            Callback::Call { function, context } => {
                visit.object(function).and_then(|()| visit.object(context.object()))
            }
        }
    }
}

impl More {
    #[cold]
    fn visit(&self, visit: Visit<'_>) -> Result<(), Stop> {
        self.rest.iter().try_for_each(|callback| callback.visit(visit))?;
        let fields = [
            &self.exception,
            &self.exception_traceback,
            &self.cancel_message,
            &self.cancelled_error,
            &self.source_traceback,
        ];
        fields.into_iter().try_for_each(|field| visit.option(field))
    }
}

impl FutureState {
    #[inline(always)]
    pub(crate) const fn new() -> Self {
        FutureState {
            loop_: None,
            status: Status::Pending,
            blocking: false,
            log_traceback: false,
            result: None,
            first: None,
            more: None,
        }
    }

    /// The state of a new future on one of our loops.
    #[inline(always)]
    pub(crate) fn on(loop_: This<'_, '_, Runtime>) -> PyResult<Self> {
        let mut state = FutureState::new();
        state.loop_ = Some(loop_.owned());
        if loop_.is_debug() {
            state.more().source_traceback = Some(Owned::new(names::extract_stack(loop_.py())?));
        }
        Ok(state)
    }

    pub(crate) fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    /// A new reference to something that few futures have.
    pub(crate) fn rare(&self, py: Python<'_>, field: impl FnOnce(&More) -> &Option<Owned>) -> Option<Owned> {
        field(self.more.as_ref()?).as_ref().map(|object| object.clone_ref(py))
    }

    /// The result of a future that ended well.
    #[inline(always)]
    pub(super) fn plain_result(&self) -> Option<&Owned> {
        if self.has_exception() { None } else { self.result.as_ref() }
    }

    #[inline(always)]
    pub(super) fn has_exception(&self) -> bool {
        self.more.as_ref().is_some_and(|more| more.exception.is_some())
    }

    pub(super) fn callbacks(&self) -> impl Iterator<Item = &Callback> {
        self.first.iter().chain(self.more.iter().flat_map(|more| &more.rest))
    }

    #[inline(always)]
    pub(crate) fn visit(&self, visit: Visit<'_>) -> Result<(), Stop> {
        visit.option(&self.loop_)?;
        visit.option(&self.result)?;
        self.first.as_ref().map_or(Ok(()), |callback| callback.visit(visit))?;
        self.more.as_ref().map_or(Ok(()), |more| more.visit(visit))
    }

    pub(crate) fn take_references(&mut self) -> Vec<Owned> {
        let mut taken: Vec<Owned> = self.loop_.take().into_iter().collect();
        taken.extend(self.result.take());
        let mut callbacks: Vec<Callback> = self.first.take().into_iter().collect();
        if let Some(more) = self.more.take() {
            let More { rest, exception, exception_traceback, cancel_message, cancelled_error, source_traceback } =
                *more;
            callbacks.extend(rest);
            let fields = [exception, exception_traceback, cancel_message, cancelled_error, source_traceback];
            taken.extend(fields.into_iter().flatten());
        }
        for callback in callbacks {
            match callback {
                Callback::Wake(work) => taken.push(work.object),
                Callback::Call { function, context } => taken.extend([function, context.into_object()]),
            }
        }
        taken
    }

    #[inline(always)]
    pub(super) fn push_callback(&mut self, callback: Callback) {
        let alone = self.first.is_none() && self.more.as_ref().is_none_or(|more| more.rest.is_empty());
        if alone {
            self.first = Some(callback);
        } else {
            self.more().rest.push(callback);
        }
    }
}
