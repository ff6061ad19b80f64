//! What Python calls on a TLS transport: the user's protocol, and the machine of `python/mioloop/_tls.py`.
//!
//! The names without an underscore are asyncio's public ones. Of the others those that asyncio's classes have mean the
//! same here; `_attach`, `_feed`, `_end`, `_phase` and `_set_limits` are for the machine alone. Everything that is not
//! here is a method of asyncio's `_SSLProtocolTransport`, which asks the machine.

use pyo3::prelude::*;
use pyo3::types::PyList;

use super::{Limits, Paused, Phase, T, Tls, kernel, read, write};
use crate::py::buffer;
use crate::py::errors::Error;
use crate::py::method::{Args, Method, Reply};
use crate::py::object::Owned;
use crate::py::reply;
use crate::transport::read::Receiver;

pub(super) fn table() -> Vec<Method<Tls>> {
    let mut table = vec![
        Method::one_arg(c"write", c"Encrypts and sends data; what does not go now waits.", write::write),
        Method::one_arg(c"writelines", c"Writes an iterable of data.", write::writelines),
        Method::no_args(c"get_write_buffer_size", c"Bytes that wait, encrypted or not.", get_write_buffer_size),
        Method::get(c"_loop", get_loop),
        Method::get(c"_start_tls_compatible", yes),
        Method::get_set(c"_ssl_protocol", ssl_protocol, set_ssl_protocol),
        Method::get_set(c"_closed", closed, set_closed),
        Method::get(c"_protocol_paused", app_writing_paused),
        Method::get(c"_extra", missing),
        Method::get(c"_high_water", missing),
        Method::get(c"_low_water", missing),
    ];
    table.extend(for_the_machine());
    table.extend(kernel::methods());
    table
}

fn for_the_machine() -> Vec<Method<Tls>> {
    vec![
        Method::one_arg(c"_attach", c"The transport below is this one.", attach),
        Method::one_arg(c"_feed", c"The transport below has received this.", feed),
        Method::no_args(c"_end", c"The connection has ended.", end),
        Method::no_args(c"_do_read", c"Reads what can be read.", do_read),
        Method::no_args(c"_do_write", c"Writes what can be written.", do_write),
        Method::no_args(c"_process_outgoing", c"Sends what OpenSSL wants sent.", process_outgoing),
        Method::one_arg(c"_set_app_protocol", c"Feeds another protocol from now on.", set_app_protocol),
        Method::fast(c"_set_limits", c"(low, high) for reading, (low, high) for writing: bytes.", set_limits),
        Method::get_set(c"_phase", phase, set_phase),
        Method::get_set(c"_conn_lost", lost_writes, set_lost_writes),
        Method::get(c"_write_backlog", write_backlog),
        Method::one_arg(c"_test__append_write_backlog", c"Puts data behind what waits. For tests.", append),
        Method::get(c"_is_direct", is_direct),
        Method::get_set(c"_app_reading_paused", app_reading_paused, set_app_reading_paused),
        Method::get_set(c"_app_writing_paused", app_writing_paused, set_app_writing_paused),
        Method::get_set(c"_ssl_reading_paused", below_reading_paused, set_below_reading_paused),
        Method::get_set(c"_ssl_writing_paused", below_writing_paused, set_below_writing_paused),
    ]
}

type Value<'a, 'py> = Option<Borrowed<'a, 'py, PyAny>>;

fn get_write_buffer_size<'py>(this: T<'_, 'py>) -> Reply<'py> {
    reply::number(this.py(), write::waiting(this)?)
}

fn get_loop<'py>(this: T<'_, 'py>) -> Reply<'py> {
    let py = this.py();
    let loop_ = this.state.open(py).loop_.as_ref().map(|loop_| loop_.clone_ref(py));
    reply::option(py, loop_)
}

fn yes<'py>(this: T<'_, 'py>) -> Reply<'py> {
    reply::bool(this.py(), true)
}

/// asyncio's transport has a slot of this name, and never fills it.
fn missing<'py>(_: T<'_, 'py>) -> Reply<'py> {
    Err(pyo3::exceptions::PyAttributeError::new_err("the transport of a TLS connection has no such attribute"))
}

fn ssl_protocol<'py>(this: T<'_, 'py>) -> Reply<'py> {
    let py = this.py();
    let shown = this.state.open(py).shown.as_ref().map(|shown| shown.clone_ref(py));
    reply::option(py, shown)
}

fn set_ssl_protocol(this: T<'_, '_>, value: Value<'_, '_>) -> PyResult<()> {
    let value = value.filter(|value| !value.is_none()).map(Owned::of);
    let old = std::mem::replace(&mut this.state.open(this.py()).shown, value);
    drop(old);
    Ok(())
}

fn closed<'py>(this: T<'_, 'py>) -> Reply<'py> {
    let closed = this.state.open(this.py()).closed;
    reply::bool(this.py(), closed)
}

fn set_closed(this: T<'_, '_>, value: Value<'_, '_>) -> PyResult<()> {
    let value = truth(value)?;
    this.state.open(this.py()).closed = value;
    Ok(())
}

fn truth(value: Value<'_, '_>) -> PyResult<bool> {
    value.map_or(Ok(false), |value| value.is_truthy())
}

fn attach<'py>(this: T<'_, 'py>, transport: Borrowed<'_, 'py, PyAny>) -> Reply<'py> {
    this.attach(&transport);
    reply::none(this.py())
}

fn feed<'py>(this: T<'_, 'py>, records: Borrowed<'_, 'py, PyAny>) -> Reply<'py> {
    let py = this.py();
    // The memory is the machine's own; what is done with it may call Python.
    let records = buffer::with_bytes(records, <[u8]>::to_vec)?;
    this.with_loop(|loop_| read::take(loop_, this.object(), &records))?;
    reply::none(py)
}

fn end<'py>(this: T<'_, 'py>) -> Reply<'py> {
    this.end();
    reply::none(this.py())
}

fn do_read<'py>(this: T<'_, 'py>) -> Reply<'py> {
    if matches!(this.phase(), Phase::Wrapped | Phase::Flushing) {
        this.with_loop(|loop_| read::read(this, loop_, &[]))?;
    }
    reply::none(this.py())
}

fn do_write<'py>(this: T<'_, 'py>) -> Reply<'py> {
    this.with_loop(|loop_| write::write_backlog(this, loop_))?;
    reply::none(this.py())
}

fn process_outgoing<'py>(this: T<'_, 'py>) -> Reply<'py> {
    // What waited because the transport below wanted a pause goes on as well.
    this.with_loop(|loop_| match this.phase() {
        Phase::Wrapped => write::go_on(this, loop_),
        _ => write::send(this, loop_),
    })?;
    reply::none(this.py())
}

fn set_app_protocol<'py>(this: T<'_, 'py>, protocol: Borrowed<'_, 'py, PyAny>) -> Reply<'py> {
    let receiver = Receiver::of(protocol)?;
    let old = {
        let mut state = this.state.open(this.py());
        let receiver = std::mem::replace(&mut state.receiver, receiver);
        (state.protocol.replace(Owned::of(protocol)), receiver)
    };
    drop(old);
    reply::none(this.py())
}

fn set_limits<'py>(this: T<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    let number = |index: usize| -> PyResult<usize> {
        let value = args.get(index).ok_or_else(|| Error::Type("four numbers are wanted".to_owned()))?;
        // asyncio takes any number that is not negative.
        value.extract::<usize>().or_else(|_| value.extract::<f64>().map(|value| value.ceil() as usize))
    };
    let incoming = Limits { low: number(0)?, high: number(1)? };
    let outgoing = Limits { low: number(2)?, high: number(3)? };
    let mut state = this.state.open(this.py());
    (state.incoming, state.outgoing) = (incoming, outgoing);
    drop(state);
    reply::none(this.py())
}

fn phase<'py>(this: T<'_, 'py>) -> Reply<'py> {
    reply::number(this.py(), this.phase() as u8)
}

fn set_phase(this: T<'_, '_>, value: Value<'_, '_>) -> PyResult<()> {
    let phase = match value.map_or(Ok(0), |value| value.extract::<u8>())? {
        1 => Phase::Handshake,
        2 => Phase::Wrapped,
        3 => Phase::Flushing,
        4 => Phase::Shutdown,
        _ => Phase::Unwrapped,
    };
    this.state.open(this.py()).phase = phase;
    Ok(())
}

fn lost_writes<'py>(this: T<'_, 'py>) -> Reply<'py> {
    let lost = this.state.open(this.py()).lost_writes;
    reply::number(this.py(), lost)
}

fn set_lost_writes(this: T<'_, '_>, value: Value<'_, '_>) -> PyResult<()> {
    let lost = value.map_or(Ok(0), |value| value.extract())?;
    this.state.open(this.py()).lost_writes = lost;
    Ok(())
}

/// A copy.
fn write_backlog<'py>(this: T<'_, 'py>) -> Reply<'py> {
    let py = this.py();
    let chunks = this.state.open(py).backlog.copies();
    let chunks = chunks.iter().map(|chunk| buffer::bytes(py, chunk)).collect::<PyResult<Vec<_>>>()?;
    Ok(PyList::new(py, chunks)?.into_any())
}

/// CPython's own tests call it on any loop.
fn append<'py>(this: T<'_, 'py>, data: Borrowed<'_, 'py, PyAny>) -> Reply<'py> {
    let (chunk, _) = buffer::keep(data, 0)?;
    write::push(this, chunk);
    reply::none(this.py())
}

/// Does it call libssl itself? For tests.
fn is_direct<'py>(this: T<'_, 'py>) -> Reply<'py> {
    reply::bool(this.py(), this.engine().is_direct())
}

fn flag<'py>(this: T<'_, 'py>, read: impl FnOnce(&Paused) -> bool) -> Reply<'py> {
    let paused = read(&this.state.open(this.py()).paused);
    reply::bool(this.py(), paused)
}

fn set_flag(this: T<'_, '_>, value: Value<'_, '_>, write: impl FnOnce(&mut Paused, bool)) -> PyResult<()> {
    let value = truth(value)?;
    write(&mut this.state.open(this.py()).paused, value);
    Ok(())
}

fn app_reading_paused<'py>(this: T<'_, 'py>) -> Reply<'py> {
    flag(this, |paused| paused.app_reading)
}

fn set_app_reading_paused(this: T<'_, '_>, value: Value<'_, '_>) -> PyResult<()> {
    set_flag(this, value, |paused, value| paused.app_reading = value)
}

fn app_writing_paused<'py>(this: T<'_, 'py>) -> Reply<'py> {
    flag(this, |paused| paused.app_writing)
}

fn set_app_writing_paused(this: T<'_, '_>, value: Value<'_, '_>) -> PyResult<()> {
    set_flag(this, value, |paused, value| paused.app_writing = value)
}

fn below_reading_paused<'py>(this: T<'_, 'py>) -> Reply<'py> {
    flag(this, |paused| paused.below_reading)
}

fn set_below_reading_paused(this: T<'_, '_>, value: Value<'_, '_>) -> PyResult<()> {
    set_flag(this, value, |paused, value| paused.below_reading = value)
}

fn below_writing_paused<'py>(this: T<'_, 'py>) -> Reply<'py> {
    flag(this, |paused| paused.below_writing)
}

fn set_below_writing_paused(this: T<'_, '_>, value: Value<'_, '_>) -> PyResult<()> {
    set_flag(this, value, |paused, value| paused.below_writing = value)
}
