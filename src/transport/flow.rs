//! Flow control: when a protocol must stop writing, and what Python asks about it.
//!
//! Every transport that writes has it. A kind says how much waits (`Kind::backlog_size`) and calls `pause_protocol` when
//! that has grown, `resume_protocol` when it has shrunk. Follows `_FlowControlMixin` of asyncio.transports.

use mioloop_core::watermarks::marks;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyString};

use super::{Kind, Transport};
use crate::py::class::This;
use crate::py::errors::{Error, ends_run};
use crate::py::method::{Args, Method, Reply, same_name, unexpected_keyword};
use crate::py::names::names;
use crate::py::reply;

/// asyncio's LOG_THRESHOLD_FOR_CONNLOST_WRITES.
const LOST_WRITES: u32 = 5;

type T<'a, 'py, K> = This<'a, 'py, Transport<K>>;

impl<'py, K: Kind> This<'_, 'py, Transport<K>> {
    /// Above the high water mark the protocol is told to pause.
    pub(super) fn pause_protocol(&self) -> PyResult<()> {
        let pauses = {
            let mut state = self.state.open(self.py());
            let size = state.own.backlog_size();
            state.marks.pauses(size)
        };
        if pauses { self.tell(&names(self.py()).pause_writing, "protocol.pause_writing() failed") } else { Ok(()) }
    }

    /// At the low water mark it is told to go on.
    pub(super) fn resume_protocol(&self) -> PyResult<()> {
        let resumes = {
            let mut state = self.state.open(self.py());
            let size = state.own.backlog_size();
            // What is lost takes no more, though nothing is left to wait for.
            !state.phase.is_lost() && state.marks.resumes(size)
        };
        if resumes { self.tell(&names(self.py()).resume_writing, "protocol.resume_writing() failed") } else { Ok(()) }
    }

    fn tell(&self, method: &Py<PyString>, failed: &str) -> PyResult<()> {
        let py = self.py();
        let Some(protocol) = self.protocol() else { return Ok(()) };
        // In the context of whoever writes: it may be the connection's own, which cannot be entered twice.
        match protocol.call_method0(method) {
            Ok(_) => Ok(()),
            Err(error) if ends_run(py, &error) => Err(error),
            Err(error) => self.report(failed, &error.into_value(py).into_bound(py).into_any()),
        }
    }

    /// asyncio warns of a protocol that goes on writing to a lost connection.
    #[cold]
    pub(super) fn count_lost_write(&self, warning: &str) -> PyResult<()> {
        let py = self.py();
        let count = {
            let mut state = self.state.open(py);
            let count = state.lost_writes;
            state.lost_writes = count.saturating_add(1);
            count
        };
        if count >= LOST_WRITES {
            names(py).logger.bind(py).call_method1(&names(py).warning, (warning,))?;
        }
        Ok(())
    }
}

pub(super) fn methods<K: Kind>() -> Vec<Method<Transport<K>>> {
    vec![
        Method::no_args(c"get_write_buffer_size", c"Bytes that the kernel has not taken.", get_write_buffer_size),
        Method::no_args(c"get_write_buffer_limits", c"(low, high): bytes.", get_write_buffer_limits),
        Method::fast(
            c"set_write_buffer_limits",
            c"set_write_buffer_limits($self, high=None, low=None)\n--\n\nWhen the protocol is paused and resumed: bytes.",
            set_write_buffer_limits,
        ),
        Method::get(c"_conn_lost", conn_lost),
        Method::get(c"_protocol_paused", protocol_paused),
        Method::get(c"_high_water", high_water),
        Method::get(c"_low_water", low_water),
    ]
}

fn get_write_buffer_size<'py, K: Kind>(this: T<'_, 'py, K>) -> Reply<'py> {
    K::settle(this)?;
    let size = this.state.open(this.py()).own.backlog_size();
    reply::number(this.py(), size)
}

fn get_write_buffer_limits<'py, K: Kind>(this: T<'_, 'py, K>) -> Reply<'py> {
    let limits = this.state.open(this.py()).marks.limits();
    Ok(limits.into_pyobject(this.py())?.into_any())
}

fn set_write_buffer_limits<'py, K: Kind>(this: T<'_, 'py, K>, args: Args<'_, 'py>) -> Reply<'py> {
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
    K::settle(this)?;
    this.pause_protocol()?;
    reply::none(py)
}

/// The marks that a caller of `set_write_buffer_limits(high, low)` means: bytes.
fn limits(high: Option<Borrowed<'_, '_, PyAny>>, low: Option<Borrowed<'_, '_, PyAny>>) -> PyResult<(usize, usize)> {
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

fn conn_lost<'py, K: Kind>(this: T<'_, 'py, K>) -> Reply<'py> {
    let state = this.state.open(this.py());
    let count = if state.phase.is_lost() { state.lost_writes } else { 0 };
    drop(state);
    reply::number(this.py(), count)
}

fn protocol_paused<'py, K: Kind>(this: T<'_, 'py, K>) -> Reply<'py> {
    let paused = this.state.open(this.py()).marks.is_paused();
    reply::bool(this.py(), paused)
}

fn high_water<'py, K: Kind>(this: T<'_, 'py, K>) -> Reply<'py> {
    let (_, high) = this.state.open(this.py()).marks.limits();
    reply::number(this.py(), high)
}

fn low_water<'py, K: Kind>(this: T<'_, 'py, K>) -> Reply<'py> {
    let (low, _) = this.state.open(this.py()).marks.limits();
    reply::number(this.py(), low)
}
