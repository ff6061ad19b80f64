//! What Python calls on a task: the methods and attributes of `asyncio.Task` beyond those of a future.
//!
//! Each reads its arguments and calls one method of the task; `_step` and `_wakeup` are ours, for loops and futures of
//! other kinds. Makes the class, too.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use super::{Name, Options, Task, step};
use crate::future::iterator::iterate;
use crate::future::methods::{cancel_argument, deletable, methods as future_methods, next, repr};
use crate::py::class::{self, Ancestry, Recipe, This};
use crate::py::compat;
use crate::py::context::context_in;
use crate::py::errors::Error;
use crate::py::introspection;
use crate::py::method::{Args, Method, Reply, Slots, same_name, unexpected_keyword};
use crate::py::names::names;
use crate::py::object::Owned;
use crate::py::reply;

pub(crate) fn define(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let base = names(py).task_class.bind(py).clone().cast_into()?;
    let recipe = Recipe { name: c"mioloop.Task", doc: compat::TASK_DOC, ancestry: Ancestry::Inherits(&base) };
    let mut methods = future_methods::<Task>();
    methods.extend([
        Method::fast(c"cancel", c"cancel($self, /, msg=None)\n--\n\nThrows CancelledError into the coroutine.", cancel),
        Method::no_args(c"cancelling", c"How many cancellations were requested and not taken back.", cancelling),
        Method::no_args(c"uncancel", c"Takes one request back; returns how many remain.", uncancel),
        Method::one_arg(c"set_result", c"Tasks take their result from the coroutine.", refuse_result),
        Method::one_arg(c"set_exception", c"Tasks take their exception from the coroutine.", refuse_exception),
        Method::no_args(c"get_coro", c"The coroutine.", coroutine),
        Method::no_args(c"get_context", c"The contextvars.Context of the task.", context),
        Method::no_args(c"get_name", c"The name.", get_name),
        Method::one_arg(c"set_name", c"Sets the name to str(value).", set_name),
        Method::fast(
            c"get_stack",
            c"get_stack($self, /, *, limit=None)\n--\n\nThe frames of the coroutine.",
            get_stack,
        ),
        Method::fast(
            c"print_stack",
            c"print_stack($self, /, *, limit=None, file=None)\n--\n\nPrints them.",
            print_stack,
        ),
        Method::no_args(c"_step", c"One step, as a callback of a loop.", step::step_method).always(),
        Method::one_arg(c"_wakeup", c"One step, as a callback of a future.", step::wakeup_method).always(),
        Method::get(c"_context", context).always(),
        Method::get(c"_coro", coroutine),
        Method::get(c"_fut_waiter", waiting_on),
        Method::get(c"_must_cancel", must_cancel),
        Method::get_set(c"_log_destroy_pending", log_destroy_pending, set_log_destroy_pending),
    ]);
    let slots = Slots::new().init(init).repr(repr::<Task>).awaitable(next::<Task>, iterate::<Task>);
    Ok(class::define::<Task>(py, &recipe, methods, slots)?.into_any())
}

fn init<'py>(
    this: This<'_, 'py, Task>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<()> {
    let py = this.py();
    let names = names(py);
    if args.len() > 1 {
        return Err(PyTypeError::new_err(format!("Task() takes at most 1 positional argument ({} given)", args.len())));
    }
    let mut coroutine = args.get_item(0).ok();
    let (mut loop_, mut name, mut context, mut eager_start) = (None, None, None, false);
    for (key, value) in kwargs.into_iter().flatten() {
        let given = (!value.is_none()).then(|| value.clone());
        if key.eq(&names.coro)? && coroutine.is_none() {
            coroutine = Some(value);
        } else if key.eq(&names.loop_)? {
            loop_ = given;
        } else if key.eq(&names.name)? {
            name = given;
        } else if key.eq(&names.context)? && compat::CREATE_TASK_HAS_CONTEXT {
            context = given;
        } else if key.eq(&names.eager_start)? && compat::HAS_EAGER_TASKS {
            eager_start = value.is_truthy()?;
        } else {
            return Err(unexpected_keyword("Task", key.as_borrowed()));
        }
    }
    let Some(coroutine) = coroutine else {
        return Err(PyTypeError::new_err("Task() missing required argument 'coro' (pos 1)"));
    };
    let options = Options {
        coroutine: coroutine.as_borrowed(),
        name: name.as_ref().map(Bound::as_borrowed),
        context: context.as_ref().map(Bound::as_borrowed),
        eager_start,
    };
    super::init(this, loop_, &options)
}

fn cancel<'py>(this: This<'_, 'py, Task>, args: Args<'_, 'py>) -> Reply<'py> {
    let cancelled = this.cancel(cancel_argument(args)?)?;
    reply::bool(this.py(), cancelled)
}

fn cancelling<'py>(this: This<'_, 'py, Task>) -> Reply<'py> {
    let requests = this.state.open(this.py()).cancel_requests;
    Ok(requests.into_pyobject(this.py())?.into_any())
}

fn uncancel<'py>(this: This<'_, 'py, Task>) -> Reply<'py> {
    let left = {
        let mut state = this.state.open(this.py());
        if state.cancel_requests > 0 {
            state.cancel_requests -= 1;
            if state.cancel_requests == 0 && compat::UNCANCEL_TAKES_BACK {
                state.must_cancel = false;
            }
        }
        state.cancel_requests
    };
    Ok(left.into_pyobject(this.py())?.into_any())
}

fn refuse_result<'py>(_: This<'_, 'py, Task>, _: Borrowed<'_, 'py, PyAny>) -> Reply<'py> {
    Err(Error::Runtime("Task does not support set_result operation".to_owned()).into())
}

fn refuse_exception<'py>(_: This<'_, 'py, Task>, _: Borrowed<'_, 'py, PyAny>) -> Reply<'py> {
    Err(Error::Runtime("Task does not support set_exception operation".to_owned()).into())
}

fn coroutine<'py>(this: This<'_, 'py, Task>) -> Reply<'py> {
    let py = this.py();
    let coroutine = this.state.open(py).coroutine.as_ref().map(|coroutine| coroutine.clone_ref(py));
    reply::option(py, coroutine)
}

fn context<'py>(this: This<'_, 'py, Task>) -> Reply<'py> {
    let py = this.py();
    let context = context_in(py, &this.state, |state| &mut state.context)?;
    reply::option(py, context)
}

fn waiting_on<'py>(this: This<'_, 'py, Task>) -> Reply<'py> {
    let py = this.py();
    let waiting_on = this.state.open(py).waiting_on.as_ref().map(|waiting_on| waiting_on.clone_ref(py));
    reply::option(py, waiting_on)
}

fn get_name<'py>(this: This<'_, 'py, Task>) -> Reply<'py> {
    let py = this.py();
    let state = this.state.open(py);
    match &state.name {
        Name::Given(name) => {
            let name = name.clone_ref(py);
            drop(state);
            Ok(name.into_bound(py))
        }
        Name::Number(0) => reply::none(py),
        Name::Number(number) => {
            let text = format!("Task-{number}");
            drop(state);
            Ok(PyString::new(py, &text).into_any())
        }
    }
}

fn set_name<'py>(this: This<'_, 'py, Task>, name: Borrowed<'_, 'py, PyAny>) -> Reply<'py> {
    let name = Owned::new(name.str()?.into_any());
    introspection::rename(this.object(), name.clone_ref(this.py()));
    let old = std::mem::replace(&mut this.state.open(this.py()).name, Name::Given(name));
    drop(old);
    reply::none(this.py())
}

/// The values of keyword-only arguments, in the order of their names; None where absent.
fn keyword_only<'py>(
    args: Args<'_, 'py>,
    method: &str,
    expected: &[&Py<PyString>],
) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let py = args.py();
    if args.len() > 0 {
        return Err(PyTypeError::new_err(format!("{method}() takes no positional arguments")));
    }
    let mut values = vec![py.None().into_bound(py); expected.len()];
    'keywords: for (name, value) in args.keywords() {
        for (slot, expected) in values.iter_mut().zip(expected) {
            if same_name(name, expected)? {
                *slot = value.to_owned();
                continue 'keywords;
            }
        }
        return Err(unexpected_keyword(method, name));
    }
    Ok(values)
}

fn get_stack<'py>(this: This<'_, 'py, Task>, args: Args<'_, 'py>) -> Reply<'py> {
    let names = names(this.py());
    let values = keyword_only(args, "get_stack", &[&names.limit])?;
    names.task_get_stack.bind(this.py()).call1((this.object(), &values[0]))
}

fn print_stack<'py>(this: This<'_, 'py, Task>, args: Args<'_, 'py>) -> Reply<'py> {
    let names = names(this.py());
    let values = keyword_only(args, "print_stack", &[&names.limit, &names.file])?;
    names.task_print_stack.bind(this.py()).call1((this.object(), &values[0], &values[1]))
}

fn must_cancel<'py>(this: This<'_, 'py, Task>) -> Reply<'py> {
    let must_cancel = this.state.open(this.py()).must_cancel;
    reply::bool(this.py(), must_cancel)
}

fn log_destroy_pending<'py>(this: This<'_, 'py, Task>) -> Reply<'py> {
    let on = this.state.open(this.py()).log_destroy_pending;
    reply::bool(this.py(), on)
}

fn set_log_destroy_pending(this: This<'_, '_, Task>, value: Option<Borrowed<'_, '_, PyAny>>) -> PyResult<()> {
    let on = deletable(value)?.is_truthy()?;
    this.state.open(this.py()).log_destroy_pending = on;
    Ok(())
}
