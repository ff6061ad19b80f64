//! `sock_recv`, `sock_recv_into`, `sock_sendall`: try first, else wait for the descriptor.
//!
//! Called by `python/mioloop/_sock.py`, whose coroutines await the future that is returned where a call would block. The
//! socket stays the caller's. Its descriptor is registered the first time it blocks and stays so while the socket lives,
//! edge-triggered, so that waiting costs no system call of its own. Follows asyncio.selector_events.

use std::io::ErrorKind;

use mioloop_core::poller::Token;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyMemoryView};
use rustix::io::Errno;

use crate::future::{self, AnyFuture, Future};
use crate::handle;
use crate::py::buffer;
use crate::py::cell::LoopCell;
use crate::py::class::{self, Ancestry, Class, Fields, Recipe, Stop, This, Visit};
use crate::py::descriptor::{Descriptor, receive_first, receive_some, send_some};
use crate::py::errors::{self, Error};
use crate::py::memory;
use crate::py::method::{Args, Method, Reply, Slots};
use crate::py::names::names;
use crate::py::object::Owned;
use crate::py::reply;
use crate::readers;
use crate::runtime::ready::{Failure, Ready};
use crate::runtime::sources::Direction;
use crate::runtime::{Io, Runtime};

/// A larger receive has an object of its own from the start; smaller ones go by way of the loop's buffer. Bytes.
const MOST_SCRATCH: usize = 1 << 20;

type Loop<'a, 'py> = This<'a, 'py, Runtime>;

/// A call that waits for its descriptor. Loop thread only.
pub(crate) struct Operation {
    state: LoopCell<State>,
    fd: Descriptor,
    direction: Direction,
}

struct State {
    future: Option<Owned>,
    socket: Option<Owned>,
    call: Call,
    token: Option<Token>,
}

/// What is to be done.
enum Call {
    Receive(usize),
    ReceiveInto(Owned),
    /// A memoryview, and how much of it has gone.
    Send(Owned, usize),
    Done,
}

/// What a call came to.
enum Outcome<'py> {
    Done(Bound<'py, PyAny>),
    /// So much of the data has gone; the descriptor takes no more now.
    Blocked(usize),
    Failed(PyErr),
}

static OPERATION: Class = Class::new();

pub(crate) fn define(py: Python<'_>) -> PyResult<()> {
    let recipe = Recipe { name: c"mioloop.Operation", doc: c"A sock_* call that waits.", ancestry: Ancestry::Alone };
    class::define::<Operation>(py, &recipe, Vec::new(), Slots::new()).map(|_| ())
}

/// What this file adds to the loop's table of methods.
pub(crate) fn methods() -> Vec<Method<Runtime>> {
    vec![
        Method::fast(c"_sock_recv", c"_sock_recv($self, sock, n)\n--\n\nThe bytes, or a future of them.", receive),
        Method::fast(
            c"_sock_recv_into",
            c"_sock_recv_into($self, sock, buf)\n--\n\nThe number of bytes, or a future of it.",
            receive_into,
        ),
        Method::fast(c"_sock_sendall", c"_sock_sendall($self, sock, data)\n--\n\nNone, or a future of it.", send_all),
        Method::fast(
            c"_sock_forget",
            c"_sock_forget($self, sock, future)\n--\n\nNobody waits for this future any more.",
            forget,
        ),
    ]
}

fn receive<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    let method = "sock_recv";
    let (socket, size) = (args.required(method, 0, "sock")?, args.required(method, 1, "n")?);
    let fd = check(loop_, socket)?;
    let size: isize = size.extract()?;
    let size = usize::try_from(size).map_err(|_| Error::Value("negative buffersize in recv".to_owned()))?;
    match try_receive(loop_, fd, size)? {
        Outcome::Done(data) => Ok(data),
        Outcome::Failed(error) => Err(error),
        Outcome::Blocked(_) => wait(loop_, socket, fd, Direction::Read, Call::Receive(size)),
    }
}

fn receive_into<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    let method = "sock_recv_into";
    let (socket, memory) = (args.required(method, 0, "sock")?, args.required(method, 1, "buf")?);
    let fd = check(loop_, socket)?;
    match try_receive_into(fd, memory)? {
        Outcome::Done(count) => Ok(count),
        Outcome::Failed(error) => Err(error),
        Outcome::Blocked(_) => {
            // Holds the memory in place, as asyncio's call does.
            let view = Owned::new(PyMemoryView::from(&memory)?.into_any());
            wait(loop_, socket, fd, Direction::Read, Call::ReceiveInto(view))
        }
    }
}

fn send_all<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    let method = "sock_sendall";
    let (socket, data) = (args.required(method, 0, "sock")?, args.required(method, 1, "data")?);
    let fd = check(loop_, socket)?;
    loop_.look_soon(loop_.py());
    match try_send(loop_.py(), fd, data, 0)? {
        Outcome::Done(none) => Ok(none),
        Outcome::Failed(error) => Err(error),
        Outcome::Blocked(sent) => {
            let view = Owned::new(PyMemoryView::from(&data)?.into_any());
            wait(loop_, socket, fd, Direction::Write, Call::Send(view, sent))
        }
    }
}

/// The checks that asyncio makes first, and the descriptor.
#[inline(always)]
fn check(loop_: Loop<'_, '_>, socket: Borrowed<'_, '_, PyAny>) -> PyResult<Descriptor> {
    let names = names(loop_.py());
    if socket.get_type().as_any().as_ptr() != names.socket_class.as_ptr() {
        names.check_ssl_socket.bind(loop_.py()).call1((socket,))?;
    }
    if loop_.is_debug() && !socket.call_method0("gettimeout")?.eq(0)? {
        return Err(Error::Value("the socket must be non-blocking".to_owned()).into());
    }
    let number: i32 = socket.call_method0(&names.fileno)?.extract()?;
    Descriptor::new(number).ok_or_else(|| Error::Io(Errno::BADF.into()).into())
}

fn try_receive<'py>(loop_: Loop<'_, 'py>, fd: Descriptor, size: usize) -> PyResult<Outcome<'py>> {
    let py = loop_.py();
    if size > MOST_SCRATCH {
        let filled = buffer::bytes_filled(py, size, |memory| receive_first(fd, memory))?;
        return Ok(filled.map_or_else(failed, Outcome::Done));
    }
    let mut core = loop_.core.open(py);
    let memory = core.scratch(size);
    match receive_some(fd, memory) {
        Ok(count) => Ok(Outcome::Done(buffer::bytes(py, &memory[..count])?)),
        Err(errno) => Ok(failed(errno)),
    }
}

fn try_receive_into<'py>(fd: Descriptor, memory: Borrowed<'_, 'py, PyAny>) -> PyResult<Outcome<'py>> {
    let py = memory.py();
    Ok(match buffer::with_writable(memory, |memory| receive_some(fd, memory))? {
        Ok(count) => Outcome::Done(PyInt::new(py, count).into_any()),
        Err(errno) => failed(errno),
    })
}

/// Sends what is behind `sent`.
fn try_send<'py>(
    py: Python<'py>,
    fd: Descriptor,
    data: Borrowed<'_, 'py, PyAny>,
    sent: usize,
) -> PyResult<Outcome<'py>> {
    buffer::with_bytes(data, |bytes| {
        let mut sent = sent;
        while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            match send_some(fd, rest) {
                Ok(count) => sent += count,
                Err(errno) if errno.kind() == ErrorKind::WouldBlock => return Outcome::Blocked(sent),
                Err(errno) => return failed(errno),
            }
        }
        Outcome::Done(py.None().into_bound(py))
    })
}

fn failed<'py>(errno: Errno) -> Outcome<'py> {
    if errno.kind() == ErrorKind::WouldBlock {
        Outcome::Blocked(0)
    } else {
        Outcome::Failed(Error::Io(errno.into()).into())
    }
}

/// Waits for the descriptor; returns the future of the call.
fn wait<'py>(
    loop_: Loop<'_, 'py>,
    socket: Borrowed<'_, 'py, PyAny>,
    fd: Descriptor,
    direction: Direction,
    call: Call,
) -> Reply<'py> {
    let py = loop_.py();
    readers::ensure_no_transport(loop_, PyInt::new(py, fd.number()).as_any().as_borrowed())?;
    let future = future::create(loop_)?;
    let state = State { future: Some(Owned::new(future.clone())), socket: Some(Owned::of(socket)), call, token: None };
    let operation = memory::create(py, Operation { state: LoopCell::new(state), fd, direction })?;
    let identity = Owned::new(pyo3::types::PyWeakrefReference::new(&socket)?.into_any());
    let work = Ready { object: Owned::new(operation.clone()), run };
    let operated = {
        let mut core = loop_.core.open(py);
        let Io { registry, sources, .. } = core.io.as_mut().ok_or(Error::Closed)?;
        sources.operate(registry, fd.number(), identity, direction, work)
    };
    let (token, left) = operated.map_err(Error::Io)?;
    drop(left.references);
    handle::cancel_all(py, left.work)?;
    of(&operation).state.open(py).token = Some(token);
    Ok(future)
}

fn of<'a, 'py>(object: &'a Bound<'py, PyAny>) -> This<'a, 'py, Operation> {
    This::<Operation>::of_exact(object.as_borrowed()).expect("the object is chosen with the function")
}

/// The descriptor may be ready.
fn run(loop_: Loop<'_, '_>, object: Owned) -> Result<(), Failure> {
    let this = of(object.bind(loop_.py()));
    this.go_on(loop_).map_err(|error| Failure::of_work(this.object(), error))
}

impl<'py> This<'_, 'py, Operation> {
    fn go_on(&self, loop_: Loop<'_, 'py>) -> PyResult<()> {
        let py = self.py();
        let (future, call) = {
            let mut state = self.state.open(py);
            let future = state.future.as_ref().map(|future| future.clone_ref(py));
            (future, std::mem::replace(&mut state.call, Call::Done))
        };
        let Some(future) = future else { return Ok(()) };
        let future = This::<Future>::of_exact(future.borrow(py)).map(AnyFuture::from).expect("made in `wait`");
        if !future.is_pending() {
            self.stop(loop_)?;
            return Ok(());
        }
        let outcome = match &call {
            Call::Receive(size) => try_receive(loop_, self.fd, *size),
            Call::ReceiveInto(memory) => try_receive_into(self.fd, memory.borrow(py)),
            Call::Send(data, sent) => try_send(py, self.fd, data.borrow(py), *sent),
            Call::Done => return Ok(()),
        };
        match outcome {
            Ok(Outcome::Blocked(sent)) => {
                let call = match call {
                    Call::Send(data, _) => Call::Send(data, sent),
                    call => call,
                };
                self.state.open(py).call = call;
                Ok(())
            }
            Ok(Outcome::Done(value)) => {
                self.stop(loop_)?;
                future.set_result(value.as_borrowed())
            }
            Ok(Outcome::Failed(error)) | Err(error) => {
                self.stop(loop_)?;
                if errors::ends_run(py, &error) {
                    return Err(error);
                }
                future.set_exception(error.into_value(py).bind(py).as_any().as_borrowed())
            }
        }
    }

    /// Waits no more.
    fn stop(&self, loop_: Loop<'_, 'py>) -> PyResult<()> {
        let py = self.py();
        let (token, rest) = {
            let mut state = self.state.open(py);
            let rest = (state.future.take(), state.socket.take(), std::mem::replace(&mut state.call, Call::Done));
            (state.token.take(), rest)
        };
        drop(rest);
        let Some(token) = token else { return Ok(()) };
        let (left, outcome) = {
            let mut core = loop_.core.open(py);
            let Some(Io { registry, sources, .. }) = core.io.as_mut() else { return Ok(()) };
            sources.finish(registry, token, self.direction, self.object())
        };
        drop(left);
        outcome.map_err(|error| Error::Io(error).into())
    }
}

/// `_sock_forget(sock, future)`: the coroutine that awaited the future was cancelled.
fn forget<'py>(loop_: Loop<'_, 'py>, args: Args<'_, 'py>) -> Reply<'py> {
    let py = loop_.py();
    let (socket, future) = (args.required("forget", 0, "sock")?, args.required("forget", 1, "future")?);
    let fd: i32 = socket.call_method0(&names(py).fileno)?.extract()?;
    let waiting = {
        let core = loop_.core.open(py);
        let token = core.io.as_ref().and_then(|io| Some((io, io.registry.token_of(fd)?)));
        token.map(|(io, token)| io.sources.waiting(py, token))
    };
    for work in waiting.into_iter().flatten() {
        let object = work.object.bind(py);
        let Some(operation) = This::<Operation>::of_exact(object.as_borrowed()) else { continue };
        let is_it = operation.state.open(py).future.as_ref().is_some_and(|own| own.as_ptr() == future.as_ptr());
        if is_it {
            operation.stop(loop_)?;
        }
    }
    reply::none(py)
}

impl Fields for Operation {
    fn class() -> &'static Class {
        &OPERATION
    }
    fn visit(&self, visit: Visit<'_>) -> Result<(), Stop> {
        let Some(state) = self.state.peek() else { return Ok(()) };
        visit.option(&state.future)?;
        visit.option(&state.socket)?;
        match &state.call {
            Call::ReceiveInto(memory) | Call::Send(memory, _) => visit.object(memory),
            Call::Receive(_) | Call::Done => Ok(()),
        }
    }
    fn take_references(&self, py: Python<'_>) -> Vec<Owned> {
        let mut state = self.state.open(py);
        let (future, socket) = (state.future.take(), state.socket.take());
        let call = std::mem::replace(&mut state.call, Call::Done);
        drop(state);
        let mut taken: Vec<Owned> = future.into_iter().chain(socket).collect();
        if let Call::ReceiveInto(memory) | Call::Send(memory, _) = call {
            taken.push(memory);
        }
        taken
    }
}
