//! The end of a transport: `close()`, `abort()`, errors, `connection_lost`, and giving everything up.
//!
//! Called by the kinds and by `transport/methods.rs`. `connection_lost` comes from the loop, never from inside a call.
//! Follows `_SelectorTransport` of asyncio.selector_events.

use mioloop_core::connection::Next;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rustix::io::Errno;

use super::{Kind, Loop, Transport, of};
use crate::py::class::This;
use crate::py::clients;
use crate::py::errors::{self, Error};
use crate::py::names::names;
use crate::py::object::Owned;
use crate::runtime::ready::{Failure, Ready};
use crate::runtime::sources::Direction;

/// Calls `connection_lost` and gives everything up.
fn lose<K: Kind>(loop_: Loop<'_, '_>, object: Owned) -> Result<(), Failure> {
    let this = of::<K>(&object, loop_.py());
    this.lose(loop_).map_err(|error| Failure::of_work(this.object(), error))
}

impl<'py, K: Kind> This<'_, 'py, Transport<K>> {
    /// `close()`: what is written already still goes.
    pub(super) fn close(&self) -> PyResult<()> {
        K::settle(*self)?;
        let next = {
            let mut state = self.state.open(self.py());
            let has_backlog = state.own.has_backlog();
            state.phase.close(has_backlog)
        };
        self.go_on(next, None)
    }

    /// `abort()` and `_force_close(error)`: what is written is given up.
    pub(super) fn force_close(&self, error: Option<Bound<'py, PyAny>>) -> PyResult<()> {
        let next = self.state.open(self.py()).phase.abort();
        self.go_on(next, error)
    }

    fn go_on(&self, next: Next, error: Option<Bound<'py, PyAny>>) -> PyResult<()> {
        match next {
            Next::Nothing => Ok(()),
            Next::Flush if K::LISTENS_TO_THE_END => Ok(()),
            Next::Flush => self.with_loop(|loop_| self.disarm(loop_, Direction::Read)),
            Next::End => self.with_loop(|loop_| self.end(loop_, error)),
        }
    }

    /// Gives the registration up and schedules `connection_lost`.
    pub(super) fn end(&self, loop_: Loop<'_, 'py>, error: Option<Bound<'py, PyAny>>) -> PyResult<()> {
        let py = self.py();
        let given_up = {
            let mut state = self.state.open(py);
            state.error = error.filter(|error| !error.is_none()).map(Owned::new);
            state.own.take_backlog()
        };
        drop(given_up);
        self.unregister(loop_)?;
        loop_.schedule(py, Ready { object: self.owned(), run: lose::<K> })?;
        Ok(())
    }

    fn lose(&self, loop_: Loop<'_, 'py>) -> PyResult<()> {
        let py = self.py();
        loop_.leave_task()?;
        let (first, error) = {
            let mut state = self.state.open(py);
            (state.phase.end(), state.error.take())
        };
        if !first {
            return Ok(());
        }
        let told = match self.protocol() {
            Some(protocol) => {
                let error = error.map(|error| error.into_bound(py));
                self.in_context(|| protocol.call_method1(&names(py).connection_lost, (error,)).map(|_| ()))
            }
            None => Ok(()),
        };
        let given_up = self.give_up();
        told.and(given_up)
    }

    /// Ends without touching the descriptor, whose number is another file's by now.
    pub(super) fn lose_descriptor(&self) -> PyResult<()> {
        let py = self.py();
        let socket = {
            let mut state = self.state.open(py);
            state.token = None;
            state.info.disown(py)
        };
        if let Some(socket) = socket {
            socket.bind(py).call_method0("detach")?;
        }
        let error = PyErr::from(Error::Io(Errno::BADF.into()));
        self.force_close(Some(error.into_value(py).into_bound(py).into_any()))
    }

    /// Closes the socket and lets everything go.
    pub(super) fn give_up(&self) -> PyResult<()> {
        let py = self.py();
        self.look_soon()?;
        let (socket, server, rest) = {
            let mut state = self.state.open(py);
            let fd = state.fd;
            if !K::IS_PIPE {
                state.info.keep_sockname(fd);
            }
            let rest = [state.protocol.take(), state.loop_.take(), state.context.take(), state.waiter.take()];
            (state.info.close(py), state.server.take(), rest)
        };
        drop(rest);
        let closed = match socket {
            Some(socket) => socket.bind(py).call_method0(&names(py).close).map(|_| ()),
            None => Ok(()),
        };
        if let Some(server) = server {
            clients::detach(server.bind(py), &self.object())?;
        }
        K::ended(*self)?;
        closed
    }

    /// `__del__`: nobody closed it.
    pub(super) fn report_unclosed(&self) {
        let py = self.py();
        let end = || -> PyResult<()> {
            errors::warn_of_resource(&self.object(), &format!("unclosed transport {}", self.object().repr()?))?;
            self.with_loop(|loop_| self.unregister(loop_))
        };
        if let Err(error) = end() {
            error.write_unraisable(py, Some(&self.object()));
        }
        if let Err(error) = self.give_up() {
            error.write_unraisable(py, Some(&self.object()));
        }
    }
}

impl<'py, K: Kind> This<'_, 'py, Transport<K>> {
    /// An error in a callback or a system call ends the connection. asyncio's `_fatal_error`.
    pub(super) fn fatal_error(&self, error: PyErr, message: &str) -> PyResult<()> {
        let py = self.py();
        if errors::ends_run(py, &error) {
            return Err(error);
        }
        let exception = error.into_value(py).into_bound(py).into_any();
        if K::is_usual(&exception) {
            self.log_debug(&format!("%r: {message}"), Some(&exception))?;
        } else {
            self.report(message, &exception)?;
        }
        self.force_close(Some(exception))
    }

    /// Tells the loop's exception handler.
    pub(super) fn report(&self, message: &str, exception: &Bound<'py, PyAny>) -> PyResult<()> {
        let py = self.py();
        let names = names(py);
        let context = PyDict::new(py);
        context.set_item(&names.message, message)?;
        context.set_item(&names.exception, exception)?;
        context.set_item(&names.transport, self.object())?;
        context.set_item(&names.protocol, self.protocol())?;
        match self.loop_object() {
            Some(loop_) => loop_.bind(py).call_method1(&names.call_exception_handler, (context,)).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Debug mode: a line in asyncio's log.
    pub(super) fn log_debug(&self, format: &str, exception: Option<&Bound<'py, PyAny>>) -> PyResult<()> {
        let py = self.py();
        let debug = |loop_: Loop<'_, 'py>| Ok(loop_.is_debug());
        if !self.with_loop(debug)? {
            return Ok(());
        }
        let keywords = PyDict::new(py);
        keywords.set_item("exc_info", exception)?;
        names(py).logger.bind(py).call_method(&names(py).debug, (format, self.object()), Some(&keywords))?;
        Ok(())
    }
}
