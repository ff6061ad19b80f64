//! `Lookups`: the resolver's threads of one loop, and the futures that wait for their answers.
//!
//! Threads get a question and a number and leave the answer with the number, both plain data: no Python object goes to
//! them, and they never run Python code. The loop's bell tells that answers wait. Made by the first look-up of a loop,
//! again in a forked child; gone with the loop, whatever its threads are still busy with.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mioloop_core::pool::{Limits, Pool};
use pyo3::prelude::*;

use super::results;
use crate::py::cell::LoopCell;
use crate::py::class::{self, Ancestry, Class, Fields, Recipe, Stop, This, Visit};
use crate::py::errors::Error;
use crate::py::memory;
use crate::py::method::{Reply, Slots};
use crate::py::names::names;
use crate::py::object::Owned;
use crate::py::resolver::{Answer, LookupError, Question};
use crate::runtime::Runtime;
use crate::runtime::bell::Bell;
use crate::runtime::ready::{Failure, Ready, Report};

/// As many as asyncio's default executor has at most; an idle one stays long enough for a burst of connections.
const LIMITS: Limits = Limits { threads: 32, idle: Duration::from_secs(10) };

pub(crate) struct Lookups {
    pool: Pool<Job>,
    mail: Arc<Mail>,
    waiting: LoopCell<Waiting>,
}

/// Loop thread only.
struct Waiting {
    last: u64,
    futures: HashMap<u64, Owned>,
}

struct Job {
    number: u64,
    question: Question,
}

/// Any thread.
struct Mail {
    answers: Mutex<Vec<(u64, Result<Answer, LookupError>)>>,
    bell: Arc<Bell>,
}

static LOOKUPS: Class = Class::new();

pub(crate) fn define(py: Python<'_>) -> PyResult<()> {
    let recipe = Recipe { name: c"mioloop.Lookups", doc: c"Look-ups of a loop.", ancestry: Ancestry::Alone };
    class::define::<Lookups>(py, &recipe, Vec::new(), Slots::new()).map(|_| ())
}

impl Mail {
    /// Called in a native thread.
    fn leave(&self, number: u64, answer: Result<Answer, LookupError>) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).push((number, answer));
        self.bell.ring();
    }

    fn fetch(&self) -> Vec<(u64, Result<Answer, LookupError>)> {
        std::mem::take(&mut self.answers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Has the question asked in a thread; returns the future of the answer.
pub(super) fn submit<'py>(loop_: This<'_, 'py, Runtime>, question: Question) -> Reply<'py> {
    let py = loop_.py();
    let future = loop_.object().call_method0(&names(py).create_future)?;
    let object = of_loop(loop_)?;
    let lookups = This::<Lookups>::of_exact(object.borrow(py)).expect("of_loop gives nothing else");
    let mut waiting = lookups.waiting.open(py);
    waiting.last += 1;
    let number = waiting.last;
    waiting.futures.insert(number, Owned::new(future.clone()));
    drop(waiting);
    if let Err(error) = lookups.pool.submit(Job { number, question }) {
        let unused = lookups.waiting.open(py).futures.remove(&number);
        drop(unused);
        return Err(Error::Io(error).into());
    }
    Ok(future)
}

/// The caller does not wait any more: a question that no thread has begun is never asked.
pub(super) fn forget(loop_: This<'_, '_, Runtime>, future: Borrowed<'_, '_, PyAny>) {
    let py = loop_.py();
    let Some(object) = known(loop_) else { return };
    let Some(lookups) = This::<Lookups>::of_exact(object.borrow(py)) else { return };
    let mut waiting = lookups.waiting.open(py);
    let number = waiting.futures.iter().find(|(_, known)| known.as_ptr() == future.as_ptr()).map(|(number, _)| *number);
    let forgotten = number.and_then(|number| waiting.futures.remove(&number));
    drop(waiting);
    drop(forgotten);
    if let Some(number) = number {
        drop(lookups.pool.withdraw(|job| job.number == number));
    }
}

/// The look-ups of this loop in this process, if it had any.
fn known(loop_: This<'_, '_, Runtime>) -> Option<Owned> {
    let py = loop_.py();
    let object = loop_.at_the_bell(py)?;
    let is_ours = This::<Lookups>::of_exact(object.borrow(py)).is_some_and(|lookups| lookups.pool.is_ours());
    is_ours.then_some(object)
}

fn of_loop(loop_: This<'_, '_, Runtime>) -> PyResult<Owned> {
    let py = loop_.py();
    if let Some(object) = known(loop_) {
        return Ok(object);
    }
    let bell = Arc::new(loop_.make_bell());
    let mail = Arc::new(Mail { answers: Mutex::new(Vec::new()), bell: Arc::clone(&bell) });
    let theirs = Arc::clone(&mail);
    let pool = Pool::new(LIMITS, move |job: Job| theirs.leave(job.number, job.question.ask()));
    let waiting = LoopCell::new(Waiting { last: 0, futures: HashMap::new() });
    let object = Owned::new(memory::create(py, Lookups { pool, mail, waiting })?);
    let work = Ready { object: object.clone_ref(py), run: deliver };
    drop(loop_.hang_bell(py, bell, work));
    Ok(object)
}

/// Gives the futures what the threads have left. Futures that are done were cancelled in the meantime.
fn deliver(loop_: This<'_, '_, Runtime>, object: Owned) -> Result<(), Failure> {
    let py = loop_.py();
    loop_.leave_task()?;
    let lookups = This::<Lookups>::of_exact(object.borrow(py)).expect("the class is chosen with the function");
    if !lookups.pool.is_ours() {
        return Ok(());
    }
    let mut failed = None;
    for (number, answer) in lookups.mail.fetch() {
        let future = lookups.waiting.open(py).futures.remove(&number);
        let Some(future) = future else { continue };
        if let Err(error) = settle(future.bind(py), answer) {
            failed = Some(error);
        }
    }
    let Some(exception) = failed else { return Ok(()) };
    let message = String::from("Exception in the future of a look-up");
    Err(Failure::Report(Box::new(Report { message, exception, handle: object, source_traceback: None })))
}

fn settle(future: &Bound<'_, PyAny>, answer: Result<Answer, LookupError>) -> PyResult<()> {
    let py = future.py();
    let names = names(py);
    if future.call_method0(&names.done)?.is_truthy()? {
        return Ok(());
    }
    let result = match answer {
        Ok(answer) => results::answer(py, answer),
        Err(error) => Err(results::error(py, error)),
    };
    match result {
        Ok(value) => future.call_method1(&names.set_result, (value,))?,
        Err(error) => future.call_method1(&names.set_exception, (error.into_value(py),))?,
    };
    Ok(())
}

impl Fields for Lookups {
    fn class() -> &'static Class {
        &LOOKUPS
    }
    fn visit(&self, visit: Visit<'_>) -> Result<(), Stop> {
        let Some(waiting) = self.waiting.peek() else { return Ok(()) };
        waiting.futures.values().try_for_each(|future| visit.object(future))
    }
    fn take_references(&self, py: Python<'_>) -> Vec<Owned> {
        self.waiting.open(py).futures.drain().map(|(_, future)| future).collect()
    }
}
