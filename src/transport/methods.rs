//! What Python calls on a stream transport.
//!
//! Each method reads its arguments and calls one function of `transport.rs` and its parts. The attributes with an
//! underscore are those that asyncio's own TLS, sendfile and streams look at.

use mioloop_core::watermarks::marks;
use pyo3::prelude::*;
use pyo3::types::PyInt;

use super::read::Receiver;
use super::{Reading, Transport, write};
use crate::py::class::{self, Ancestry, Recipe, This};
use crate::py::errors::Error;
use crate::py::method::{Args, Method, Reply, Slots, same_name, unexpected_keyword};
use crate::py::names::names;
use crate::py::object::Owned;
use crate::py::reply;
use crate::runtime::sources::Direction;

type T<'a, 'py> = This<'a, 'py, Transport>;

pub(crate) fn define(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let base = names(py).flow_control_mixin.bind(py).clone().cast_into()?;
    let recipe = Recipe {
        name: c"mioloop.StreamTransport",
        doc: c"A connected stream socket. Follows asyncio.Transport.",
        ancestry: Ancestry::Extends(&base),
    };
    let mut methods = methods();
    methods.extend(attributes());
    Ok(class::define::<Transport>(py, &recipe, methods, Slots::new().repr(repr))?.into_any())
}

fn methods() -> Vec<Method<Transport>> {
    vec![
        Method::one_arg(c"write", c"Writes data; what the kernel does not take now waits.", write::write),
        Method::one_arg(c"writelines", c"Writes an iterable of data.", write::writelines),
        Method::no_args(c"write_eof", c"Closes the writing end when all is written.", write::write_eof),
        Method::no_args(c"can_write_eof", c"True.", yes),
        Method::no_args(c"close", c"Closes when all is written; reads no more.", close),
        Method::no_args(c"abort", c"Closes now; what is not written is lost.", abort),
        Method::one_arg(c"_force_close", c"Closes now; connection_lost gets the exception.", force_close),
        Method::no_args(c"is_closing", c"True once closing or closed.", is_closing),
        Method::one_arg(c"set_protocol", c"Feeds another protocol from now on.", set_protocol),
        Method::no_args(c"get_protocol", c"The protocol; None once closed.", get_protocol),
        Method::no_args(c"is_reading", c"True unless paused or closing.", is_reading),
        Method::no_args(c"pause_reading", c"Gives no data to the protocol until resume_reading().", pause_reading),
        Method::no_args(c"resume_reading", c"Gives data to the protocol again.", resume_reading),
        Method::no_args(c"get_write_buffer_size", c"Bytes that the kernel has not taken.", get_write_buffer_size),
        Method::no_args(c"get_write_buffer_limits", c"(low, high): bytes.", get_write_buffer_limits),
        Method::fast(
            c"set_write_buffer_limits",
            c"set_write_buffer_limits($self, high=None, low=None)\n--\n\nWhen the protocol is paused and resumed: bytes.",
            set_write_buffer_limits,
        ),
        Method::fast(
            c"get_extra_info",
            c"get_extra_info($self, name, default=None)\n--\n\n'socket', 'sockname', 'peername' and what else is known.",
            get_extra_info,
        ),
        Method::no_args(c"_make_empty_waiter", c"A future of the backlog's end; nobody may write.", make_empty_waiter),
        Method::no_args(c"_release_fd", c"Watches the descriptor no more, until resume_reading() or a write.", release_fd),
        Method::no_args(c"_reset_empty_waiter", c"Lets others write again.", reset_empty_waiter),
    ]
}

fn attributes() -> Vec<Method<Transport>> {
    vec![
        Method::get(c"_loop", get_loop),
        Method::get(c"_protocol", get_protocol),
        Method::get(c"_sock", sock),
        Method::get(c"_sock_fd", sock_fd),
        Method::get_set(c"_extra", extra, set_extra),
        Method::get(c"_server", server),
        Method::get(c"_closing", is_closing),
        Method::get(c"_paused", paused),
        Method::get(c"_eof", eof),
        Method::get(c"_conn_lost", conn_lost),
        Method::get(c"_protocol_paused", protocol_paused),
        Method::get(c"_high_water", high_water),
        Method::get(c"_low_water", low_water),
        Method::get(c"_start_tls_compatible", yes),
        Method::get(c"_sendfile_compatible", sendfile_compatible),
    ]
}

fn yes<'py>(this: T<'_, 'py>) -> Reply<'py> {
    reply::bool(this.py(), true)
}

fn get_loop<'py>(this: T<'_, 'py>) -> Reply<'py> {
    reply::option(this.py(), this.loop_object())
}

fn sock<'py>(this: T<'_, 'py>) -> Reply<'py> {
    this.socket()
}

fn sock_fd<'py>(this: T<'_, 'py>) -> Reply<'py> {
    let fd = this.state.open(this.py()).fd.number();
    reply::number(this.py(), fd)
}

fn extra<'py>(this: T<'_, 'py>) -> Reply<'py> {
    this.extra()
}

fn server<'py>(this: T<'_, 'py>) -> Reply<'py> {
    let py = this.py();
    let server = this.state.open(py).server.as_ref().map(|server| server.clone_ref(py));
    reply::option(py, server)
}

fn paused<'py>(this: T<'_, 'py>) -> Reply<'py> {
    let paused = this.state.open(this.py()).reading == Reading::Paused;
    reply::bool(this.py(), paused)
}

fn eof<'py>(this: T<'_, 'py>) -> Reply<'py> {
    let eof = this.state.open(this.py()).eof;
    reply::bool(this.py(), eof)
}

fn conn_lost<'py>(this: T<'_, 'py>) -> Reply<'py> {
    let state = this.state.open(this.py());
    let count = if state.phase.is_lost() { state.lost_writes } else { 0 };
    drop(state);
    reply::number(this.py(), count)
}

fn protocol_paused<'py>(this: T<'_, 'py>) -> Reply<'py> {
    let paused = this.state.open(this.py()).marks.is_paused();
    reply::bool(this.py(), paused)
}

fn high_water<'py>(this: T<'_, 'py>) -> Reply<'py> {
    let (_, high) = this.state.open(this.py()).marks.limits();
    reply::number(this.py(), high)
}

fn low_water<'py>(this: T<'_, 'py>) -> Reply<'py> {
    let (low, _) = this.state.open(this.py()).marks.limits();
    reply::number(this.py(), low)
}

fn sendfile_compatible<'py>(this: T<'_, 'py>) -> Reply<'py> {
    Ok(names(this.py()).try_native_sendfile.bind(this.py()).clone())
}

fn repr<'py>(this: T<'_, 'py>) -> Reply<'py> {
    let py = this.py();
    let state = this.state.open(py);
    let life = match (state.info.is_closed(), state.phase.is_closing()) {
        (true, _) => " closed",
        (false, true) => " closing",
        (false, false) => "",
    };
    let mut text = format!("<{}{life} fd={}", "StreamTransport", state.fd.number());
    if state.loop_.is_some() {
        let reads = state.reading == Reading::On && !state.phase.is_closing();
        let blocked = state.sending == write::Sending::Blocked;
        let word = |polling| if polling { "polling" } else { "idle" };
        text.push_str(&format!(" read={} write=<{}, bufsize={}>", word(reads), word(blocked), state.outgoing.len()));
    }
    drop(state);
    text.push('>');
    Ok(text.into_pyobject(py)?.into_any())
}

fn close<'py>(this: T<'_, 'py>) -> Reply<'py> {
    this.close()?;
    reply::none(this.py())
}

fn abort<'py>(this: T<'_, 'py>) -> Reply<'py> {
    write::uncork(this)?;
    this.force_close(None)?;
    reply::none(this.py())
}

fn force_close<'py>(this: T<'_, 'py>, error: Borrowed<'_, 'py, PyAny>) -> Reply<'py> {
    this.force_close(Some(error.to_owned()))?;
    reply::none(this.py())
}

fn is_closing<'py>(this: T<'_, 'py>) -> Reply<'py> {
    let closing = this.state.open(this.py()).phase.is_closing();
    reply::bool(this.py(), closing)
}

fn set_protocol<'py>(this: T<'_, 'py>, protocol: Borrowed<'_, 'py, PyAny>) -> Reply<'py> {
    let receiver = Receiver::of(protocol)?;
    let old = {
        let mut state = this.state.open(this.py());
        let receiver = std::mem::replace(&mut state.receiver, receiver);
        (state.protocol.replace(Owned::of(protocol)), receiver)
    };
    drop(old);
    reply::none(this.py())
}

fn get_protocol<'py>(this: T<'_, 'py>) -> Reply<'py> {
    Ok(this.protocol().unwrap_or_else(|| this.py().None().into_bound(this.py())))
}

fn is_reading<'py>(this: T<'_, 'py>) -> Reply<'py> {
    let state = this.state.open(this.py());
    let reading = !state.phase.is_closing() && state.reading != Reading::Paused;
    drop(state);
    reply::bool(this.py(), reading)
}

fn pause_reading<'py>(this: T<'_, 'py>) -> Reply<'py> {
    let py = this.py();
    let paused = {
        let mut state = this.state.open(py);
        let pauses = !state.phase.is_closing() && state.reading != Reading::Paused;
        if pauses {
            state.reading = Reading::Paused;
        }
        pauses
    };
    if paused {
        this.with_loop(|loop_| {
            this.disarm(loop_, Direction::Read);
            Ok(())
        })?;
        this.log_debug("%r pauses reading", None)?;
    }
    reply::none(py)
}

fn resume_reading<'py>(this: T<'_, 'py>) -> Reply<'py> {
    let py = this.py();
    let resumed = {
        let mut state = this.state.open(py);
        let resumes = !state.phase.is_closing() && state.reading == Reading::Paused;
        if resumes {
            state.reading = Reading::On;
        }
        resumes
    };
    if resumed {
        this.with_loop(|loop_| this.read_on(loop_))?;
        this.log_debug("%r resumes reading", None)?;
    }
    reply::none(py)
}

fn get_write_buffer_size<'py>(this: T<'_, 'py>) -> Reply<'py> {
    write::uncork(this)?;
    let size = this.state.open(this.py()).outgoing.len();
    reply::number(this.py(), size)
}

fn get_write_buffer_limits<'py>(this: T<'_, 'py>) -> Reply<'py> {
    let limits = this.state.open(this.py()).marks.limits();
    Ok(limits.into_pyobject(this.py())?.into_any())
}

fn set_write_buffer_limits<'py>(this: T<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    let py = this.py();
    let (mut high, mut low) = (args.get(0), args.get(1));
    for (name, value) in args.keywords() {
        if same_name(name, &names(py).high)? {
            high = Some(value);
        } else if same_name(name, &names(py).low)? {
            low = Some(value);
        } else {
            return Err(unexpected_keyword("set_write_buffer_limits", name));
        }
    }
    let (low, high) = limits(high, low)?;
    this.state.open(py).marks.set(low, high);
    write::uncork(this)?;
    write::pause_protocol(this)?;
    reply::none(py)
}

/// The marks that a caller of `set_write_buffer_limits(high, low)` means: bytes.
pub(crate) fn limits(
    high: Option<Borrowed<'_, '_, PyAny>>,
    low: Option<Borrowed<'_, '_, PyAny>>,
) -> PyResult<(usize, usize)> {
    let number = |value: Option<Borrowed<'_, '_, PyAny>>| -> PyResult<Option<i64>> {
        match value.filter(|value| !value.is_none()) {
            Some(value) if value.is_instance_of::<PyInt>() => value.extract().map(Some),
            // asyncio takes any number.
            Some(value) => value.extract::<f64>().map(|value| Some(value as i64)),
            None => Ok(None),
        }
    };
    marks(number(high)?, number(low)?)
        .map_err(|(low, high)| Error::Value(format!("high ({high}) must be >= low ({low}) must be >= 0")).into())
}

fn get_extra_info<'py>(this: T<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    let py = this.py();
    let name = args.required("get_extra_info", 0, "name")?;
    let mut default = args.get(1);
    for (keyword, value) in args.keywords() {
        if same_name(keyword, &names(py).default)? {
            default = Some(value);
        } else if args.len() > 0 || !same_name(keyword, &names(py).name)? {
            return Err(unexpected_keyword("get_extra_info", keyword));
        }
    }
    match this.extra_info(name)? {
        Some(value) => Ok(value),
        None => Ok(default.map_or_else(|| py.None().into_bound(py), |default| default.to_owned())),
    }
}

fn set_extra<'py>(this: T<'_, 'py>, value: Option<Borrowed<'_, 'py, PyAny>>) -> PyResult<()> {
    let old = std::mem::replace(&mut this.state.open(this.py()).info.given, value.map(Owned::of));
    drop(old);
    Ok(())
}

fn make_empty_waiter<'py>(this: T<'_, 'py>) -> Reply<'py> {
    let py = this.py();
    write::uncork(this)?;
    if this.state.open(py).empty_waiter.is_some() {
        return Err(Error::Runtime("Empty waiter is already set".to_owned()).into());
    }
    let Some(loop_) = this.loop_object() else { return Err(Error::Closed.into()) };
    let waiter = loop_.bind(py).call_method0("create_future")?;
    let empty = {
        let mut state = this.state.open(py);
        state.empty_waiter = Some(Owned::new(waiter.clone()));
        state.outgoing.is_empty()
    };
    if empty {
        waiter.call_method1(&names(py).set_result, (py.None(),))?;
    }
    Ok(waiter)
}

fn release_fd<'py>(this: T<'_, 'py>) -> Reply<'py> {
    this.with_loop(|loop_| {
        this.unregister(loop_);
        Ok(())
    })?;
    reply::none(this.py())
}

fn reset_empty_waiter<'py>(this: T<'_, 'py>) -> Reply<'py> {
    let old = this.state.open(this.py()).empty_waiter.take();
    drop(old);
    reply::none(this.py())
}
