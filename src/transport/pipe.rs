//! Transports of pipes: what `ReadPipeTransport` and `WritePipeTransport` have in common.
//!
//! A pipe is what can be waited for: pipes, FIFOs, sockets, terminals. The file object stays the owner of its descriptor,
//! which becomes non-blocking, and the transport closes it through the object's own `close()`. Registrations are
//! level-triggered, since a terminal gives a line at a time, and one descriptor may have a transport that reads and one
//! that writes. Made by `event_loop.rs`. Follows asyncio.unix_events.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use rustix::fs::{FileType, fstat};
use rustix::io::ioctl_fionbio;

use super::info::Info;
use super::{Kind, Loop, Parts, Transport, create};
use crate::py::class::This;
use crate::py::descriptor::Descriptor;
use crate::py::errors::Error;
use crate::py::method::{Method, Reply};
use crate::py::names::names;
use crate::py::object::Owned;
use crate::py::reply;

type T<'a, 'py, K> = This<'a, 'py, Transport<K>>;

/// What `_make_read_pipe_transport` and its counterpart are told.
pub(crate) struct Options<'a, 'py> {
    pub(crate) protocol: &'a Bound<'py, PyAny>,
    pub(crate) waiter: Option<&'a Bound<'py, PyAny>>,
    pub(crate) extra: Option<&'a Bound<'py, PyAny>>,
}

/// What a descriptor is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// A pipe or FIFO; does the writing end hear of the reader's end?
    Fifo {
        tells: bool,
    },
    Socket,
    Terminal,
}

/// A transport for a file object. `refusal`: what is said of other files.
pub(super) fn of_file<'py, K: Kind>(
    loop_: Loop<'_, 'py>,
    file: &Bound<'py, PyAny>,
    options: &Options<'_, 'py>,
    refusal: &str,
    own: impl FnOnce(Sort) -> K,
) -> PyResult<Bound<'py, PyAny>> {
    let py = loop_.py();
    let extra = match options.extra.filter(|extra| !extra.is_none()) {
        Some(extra) => extra.clone().cast_into::<PyDict>()?,
        None => PyDict::new(py),
    };
    extra.set_item("pipe", file)?;
    let number: i32 = file.call_method0(&names(py).fileno)?.extract()?;
    let fd = Descriptor::new(number).ok_or_else(|| Error::Value(format!("Invalid file descriptor: {number}")))?;
    let sort = sort(fd)?.ok_or_else(|| Error::Value(refusal.to_owned()))?;
    ioctl_fionbio(fd, true).map_err(|errno| Error::Io(errno.into()))?;
    let parts = Parts {
        fd,
        info: Info::of_pipe(Owned::new(file.clone()), Owned::new(extra.into_any())),
        protocol: options.protocol.as_borrowed(),
        waiter: options.waiter.map(|waiter| waiter.as_borrowed()),
        server: None,
        context: None,
    };
    create(loop_, parts, own(sort))
}

/// None: it cannot be waited for.
fn sort(fd: Descriptor) -> Result<Option<Sort>, Error> {
    let stat = fstat(fd).map_err(|errno| Error::Io(errno.into()))?;
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo => {
            // A FIFO with a name shows its own data as readable there, and never the reader's end (gh-145030).
            let tells = !cfg!(target_vendor = "apple") || stat.st_nlink == 0;
            Some(Sort::Fifo { tells })
        }
        FileType::Socket => Some(Sort::Socket),
        FileType::CharacterDevice => Some(Sort::Terminal),
        _ => None,
    })
}

/// For both.
pub(super) fn methods<K: Kind>() -> Vec<Method<Transport<K>>> {
    vec![Method::get(c"_pipe", file), Method::get(c"_fileno", fileno)]
}

fn file<'py, K: Kind>(this: T<'_, 'py, K>) -> Reply<'py> {
    this.socket()
}

fn fileno<'py, K: Kind>(this: T<'_, 'py, K>) -> Reply<'py> {
    let fd = this.state.open(this.py()).fd.number();
    reply::number(this.py(), fd)
}

/// The `repr`. `polls`: it waits for the descriptor, to read or to write as its class does.
pub(super) fn repr<'py, K: Kind>(this: T<'_, 'py, K>, class: &str, polls: bool, size: &str) -> Reply<'py> {
    let state = this.state.open(this.py());
    let (fd, closed, closing) = (state.fd.number(), state.info.is_closed(), state.phase.is_closing());
    drop(state);
    let unwatched = this.with_loop(|loop_| Ok(loop_.check_closed().is_err()))?;
    let text = match (closed, closing) {
        (true, _) => format!("<{class} closed fd={fd} closed>"),
        (false, closing) => {
            let life = if closing { " closing" } else { "" };
            match (unwatched, polls) {
                (true, _) => format!("<{class}{life} fd={fd} open>"),
                (false, true) => format!("<{class}{life} fd={fd} polling{size}>"),
                (false, false) => format!("<{class}{life} fd={fd} idle{size}>"),
            }
        }
    };
    Ok(text.into_pyobject(this.py())?.into_any())
}

impl<K: Kind> This<'_, '_, Transport<K>> {
    /// Debug mode: a line in asyncio's log.
    pub(super) fn log_end_of_peer(&self) -> PyResult<()> {
        if self.with_loop(|loop_| Ok(loop_.is_debug()))? {
            let logger = names(self.py()).logger.bind(self.py());
            logger.call_method1("info", ("%r was closed by peer", self.object()))?;
        }
        Ok(())
    }
}
