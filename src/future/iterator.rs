//! `FutureIter`: what `future.__await__()` and `iter(future)` give to whoever drives an `await` by hand.
//!
//! The `await` expression itself does without: there the future is its own iterator. This one has the `send`, `throw`
//! and `close` of asyncio's.

use pyo3::exceptions::{PyBaseException, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyTraceback, PyType};

use super::FutureLike;
use super::methods::next;
use crate::py::awaiting::{Next, stop_iteration_error};
use crate::py::cell::LoopCell;
use crate::py::class::{self, Ancestry, Class, Fields, Recipe, Stop, This, Visit};
use crate::py::compat;
use crate::py::memory;
use crate::py::method::{Args, Method, Reply, Slots};
use crate::py::object::Owned;
use crate::py::reply;

type Advance = for<'py> fn(Borrowed<'_, 'py, PyAny>) -> PyResult<Next<'py>>;

/// An `await` in progress. None once it ended.
pub(crate) struct FutureIter {
    future: LoopCell<Option<Owned>>,
    advance: Advance,
}

static FUTURE_ITER: Class = Class::new();

pub(crate) fn define(py: Python<'_>) -> PyResult<()> {
    let recipe = Recipe { name: c"mioloop.FutureIter", doc: c"An await in progress.", ancestry: Ancestry::Alone };
    let methods = vec![
        Method::one_arg(c"send", c"Continues; the value is ignored.", send).always(),
        Method::fast(c"throw", c"Raises here.", throw).always(),
        Method::no_args(c"close", c"Ends.", close).always(),
    ];
    class::define::<FutureIter>(py, &recipe, methods, Slots::new().iterator(advance)).map(|_| ())
}

/// `__await__` and `__iter__`.
pub(crate) fn iterate<'py, T: FutureLike>(this: This<'_, 'py, T>) -> Reply<'py> {
    let step: Advance = |object| match This::<T>::of(object) {
        Some(this) => next(this),
        None => Err(PyTypeError::new_err("not a future")),
    };
    memory::create(this.py(), FutureIter { future: LoopCell::new(Some(this.owned())), advance: step })
}

fn advance<'py>(this: This<'_, 'py, FutureIter>) -> PyResult<Next<'py>> {
    let py = this.py();
    let future = this.future.open(py).as_ref().map(|future| future.clone_ref(py));
    let Some(future) = future else { return Ok(Next::Value(py.None().into_bound(py))) };
    let result = (this.advance)(future.borrow(py));
    if !matches!(result, Ok(Next::Wait(_))) {
        let ended = this.future.open(py).take();
        drop(ended);
    }
    result
}

fn send<'py>(this: This<'_, 'py, FutureIter>, _value: Borrowed<'_, 'py, PyAny>) -> Reply<'py> {
    match advance(this)? {
        Next::Wait(future) => Ok(future),
        Next::Value(value) => Err(stop_iteration_error(value)),
    }
}

fn throw<'py>(this: This<'_, 'py, FutureIter>, args: Args<'_, 'py>) -> Reply<'py> {
    let exception = thrown(args)?;
    let ended = this.future.open(this.py()).take();
    drop(ended);
    Err(exception)
}

/// The exception that `throw(typ, val=None, tb=None)` is to raise.
pub(crate) fn thrown(args: Args<'_, '_>) -> PyResult<PyErr> {
    let given = args.required("throw", 0, "typ")?;
    if args.len() > 1 {
        compat::warn_of_long_throw(args.py())?;
    }
    let value = args.get(1).filter(|value| !value.is_none());
    let exception = match given.cast::<PyType>() {
        Ok(class) if class.is_subclass_of::<PyBaseException>()? => match value {
            Some(value) if value.is_instance(&class)? => value.to_owned(),
            Some(value) => class.call1((value,))?,
            None => class.call0()?,
        },
        _ if given.is_instance_of::<PyBaseException>() && value.is_none() => given.to_owned(),
        _ if given.is_instance_of::<PyBaseException>() => {
            return Err(PyTypeError::new_err("instance exception may not have a separate value"));
        }
        _ => {
            return Err(PyTypeError::new_err(
                "exceptions must be classes deriving BaseException or instances of such a class",
            ));
        }
    };
    if let Some(traceback) = args.get(2).filter(|traceback| !traceback.is_none()) {
        if !traceback.is_instance_of::<PyTraceback>() {
            return Err(PyTypeError::new_err("throw() third argument must be a traceback"));
        }
        exception.call_method1("with_traceback", (traceback,))?;
    }
    Ok(PyErr::from_value(exception))
}

fn close<'py>(this: This<'_, 'py, FutureIter>) -> Reply<'py> {
    let ended = this.future.open(this.py()).take();
    drop(ended);
    reply::none(this.py())
}

impl Fields for FutureIter {
    fn class() -> &'static Class {
        &FUTURE_ITER
    }
    fn visit(&self, visit: Visit<'_>) -> Result<(), Stop> {
        self.future.peek().map_or(Ok(()), |future| visit.option(&future))
    }
    fn take_references(&self, py: Python<'_>) -> Vec<Owned> {
        self.future.open(py).take().into_iter().collect()
    }
}
