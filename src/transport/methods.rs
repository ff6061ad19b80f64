//! What Python calls on every transport, and on every one of a socket.
//!
//! Each method reads its arguments and calls one function of `transport.rs` and its parts; a kind puts the tables that
//! it wants beside its own. The attributes with an underscore are those that asyncio's own TLS, sendfile and streams
//! look at.

use pyo3::prelude::*;

use super::{Kind, Reading, Transport};
use crate::py::class::This;
use crate::py::method::{Args, Method, Reply, same_name, unexpected_keyword};
use crate::py::names::names;
use crate::py::object::Owned;
use crate::py::reply;
use crate::runtime::sources::Direction;

type T<'a, 'py, K> = This<'a, 'py, Transport<K>>;

/// For every transport.
pub(super) fn life<K: Kind>() -> Vec<Method<Transport<K>>> {
    vec![
        Method::no_args(c"close", c"Closes when all is written; reads no more.", close),
        Method::no_args(c"is_closing", c"True once closing or closed.", is_closing),
        Method::no_args(c"get_protocol", c"The protocol; None once closed.", get_protocol),
        Method::fast(
            c"get_extra_info",
            c"get_extra_info($self, name, default=None)\n--\n\n'socket', 'sockname', 'peername' and what else is known.",
            get_extra_info,
        ),
        Method::get(c"_loop", get_loop),
        Method::get(c"_protocol", get_protocol),
        Method::get_set(c"_extra", extra, set_extra),
        Method::get(c"_closing", is_closing),
    ]
}

/// For those whose protocol gets what is read.
pub(super) fn reading<K: Kind>() -> Vec<Method<Transport<K>>> {
    vec![
        Method::no_args(c"is_reading", c"True unless paused or closing.", is_reading),
        Method::no_args(c"pause_reading", c"Gives no data to the protocol until resume_reading().", pause_reading),
        Method::no_args(c"resume_reading", c"Gives data to the protocol again.", resume_reading),
        Method::get(c"_paused", paused),
    ]
}

/// For those that keep nothing of their protocol but itself.
pub(super) fn set_protocol<K: Kind>() -> Method<Transport<K>> {
    Method::one_arg(c"set_protocol", c"Feeds another protocol from now on.", replace_protocol)
}

/// For those that may end with data unwritten.
pub(super) fn abort<K: Kind>() -> Method<Transport<K>> {
    Method::no_args(c"abort", c"Closes now; what is not written is lost.", abort_now)
}

/// For sockets.
pub(super) fn socket<K: Kind>() -> Vec<Method<Transport<K>>> {
    vec![
        Method::one_arg(c"_force_close", c"Closes now; connection_lost gets the exception.", force_close),
        Method::get(c"_sock", sock),
        Method::get(c"_sock_fd", sock_fd),
        Method::get(c"_server", server),
    ]
}

fn close<'py, K: Kind>(this: T<'_, 'py, K>) -> Reply<'py> {
    this.close()?;
    reply::none(this.py())
}

fn abort_now<'py, K: Kind>(this: T<'_, 'py, K>) -> Reply<'py> {
    K::settle(this)?;
    this.force_close(None)?;
    reply::none(this.py())
}

fn force_close<'py, K: Kind>(this: T<'_, 'py, K>, error: Borrowed<'_, 'py, PyAny>) -> Reply<'py> {
    this.force_close(Some(error.to_owned()))?;
    reply::none(this.py())
}

fn is_closing<'py, K: Kind>(this: T<'_, 'py, K>) -> Reply<'py> {
    let closing = this.state.open(this.py()).phase.is_closing();
    reply::bool(this.py(), closing)
}

fn get_protocol<'py, K: Kind>(this: T<'_, 'py, K>) -> Reply<'py> {
    Ok(this.protocol().unwrap_or_else(|| this.py().None().into_bound(this.py())))
}

fn replace_protocol<'py, K: Kind>(this: T<'_, 'py, K>, protocol: Borrowed<'_, 'py, PyAny>) -> Reply<'py> {
    let old = this.state.open(this.py()).protocol.replace(Owned::of(protocol));
    drop(old);
    reply::none(this.py())
}

fn get_loop<'py, K: Kind>(this: T<'_, 'py, K>) -> Reply<'py> {
    reply::option(this.py(), this.loop_object())
}

fn get_extra_info<'py, K: Kind>(this: T<'_, 'py, K>, args: Args<'_, 'py>) -> Reply<'py> {
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

fn extra<'py, K: Kind>(this: T<'_, 'py, K>) -> Reply<'py> {
    this.extra()
}

fn set_extra<'py, K: Kind>(this: T<'_, 'py, K>, value: Option<Borrowed<'_, 'py, PyAny>>) -> PyResult<()> {
    let old = std::mem::replace(&mut this.state.open(this.py()).info.given, value.map(Owned::of));
    drop(old);
    Ok(())
}

fn is_reading<'py, K: Kind>(this: T<'_, 'py, K>) -> Reply<'py> {
    let state = this.state.open(this.py());
    let reading = !state.phase.is_closing() && state.reading != Reading::Paused;
    drop(state);
    reply::bool(this.py(), reading)
}

fn pause_reading<'py, K: Kind>(this: T<'_, 'py, K>) -> Reply<'py> {
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
        this.with_loop(|loop_| this.disarm(loop_, Direction::Read))?;
        this.log_debug("%r pauses reading", None)?;
    }
    reply::none(py)
}

fn resume_reading<'py, K: Kind>(this: T<'_, 'py, K>) -> Reply<'py> {
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

fn paused<'py, K: Kind>(this: T<'_, 'py, K>) -> Reply<'py> {
    let paused = this.state.open(this.py()).reading == Reading::Paused;
    reply::bool(this.py(), paused)
}

fn sock<'py, K: Kind>(this: T<'_, 'py, K>) -> Reply<'py> {
    this.socket()
}

fn sock_fd<'py, K: Kind>(this: T<'_, 'py, K>) -> Reply<'py> {
    let fd = this.state.open(this.py()).fd.number();
    reply::number(this.py(), fd)
}

fn server<'py, K: Kind>(this: T<'_, 'py, K>) -> Reply<'py> {
    let py = this.py();
    let server = this.state.open(py).server.as_ref().map(|server| server.clone_ref(py));
    reply::option(py, server)
}

/// The `repr` of a socket's transport. `blocked`: what is written waits for the descriptor.
pub(super) fn repr<'py, K: Kind>(this: T<'_, 'py, K>, class: &str, blocked: bool) -> Reply<'py> {
    let py = this.py();
    let state = this.state.open(py);
    let life = match (state.info.is_closed(), state.phase.is_closing()) {
        (true, _) => " closed",
        (false, true) => " closing",
        (false, false) => "",
    };
    let mut text = format!("<{class}{life} fd={}", state.fd.number());
    if state.loop_.is_some() {
        let reads = state.reading == Reading::On && !state.phase.is_closing();
        let word = |polling| if polling { "polling" } else { "idle" };
        let size = state.own.backlog_size();
        text.push_str(&format!(" read={} write=<{}, bufsize={size}>", word(reads), word(blocked)));
    }
    drop(state);
    text.push('>');
    Ok(text.into_pyobject(py)?.into_any())
}
