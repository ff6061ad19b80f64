//! Waiting for a transport's descriptor.
//!
//! A socket has one edge-triggered registration for the life of the connection: arming and disarming a direction is
//! this object's and `runtime/sources.rs`'s own business and costs no system call, so pausing, resuming and back pressure
//! cost none. A pipe is watched as by `add_reader` and `add_writer`. The descriptor stays its owner's.

use mioloop_core::poller::Token;
use pyo3::prelude::*;

use super::datagram::Datagram;
use super::stream::Stream;
use super::{Kind, Loop, Transport};
use crate::handle;
use crate::py::class::This;
use crate::py::errors::Error;
use crate::runtime::Io;
use crate::runtime::ready::Ready;
use crate::runtime::sources::{Direction, Left, Owner, Refused};

/// Tells those whose descriptor somebody else has closed: its number is another file's by now.
pub(crate) fn evict(py: Python<'_>, left: Left) -> PyResult<()> {
    for work in &left.work {
        let object = work.object.borrow(py);
        if let Some(stream) = This::<Transport<Stream>>::of_exact(object) {
            stream.lose_descriptor()?;
        } else if let Some(datagrams) = This::<Transport<Datagram>>::of_exact(object) {
            datagrams.lose_descriptor()?;
        }
    }
    handle::cancel_all(py, left.work)
}

impl<'py, K: Kind> This<'_, 'py, Transport<K>> {
    /// The registration, made the first time.
    fn register(&self, loop_: Loop<'_, 'py>) -> PyResult<Token> {
        let py = self.py();
        let (fd, token) = {
            let state = self.state.open(py);
            (state.fd, state.token)
        };
        if let Some(token) = token {
            return Ok(token);
        }
        let attached = {
            let mut core = loop_.core.open(py);
            let Io { registry, sources, .. } = core.io.as_mut().ok_or(Error::Closed)?;
            sources.attach(registry, fd.number(), Owner::Transport, K::TO_THE_END)
        };
        let (token, left) = attached.map_err(Error::Io)?;
        evict(py, left)?;
        self.state.open(py).token = Some(token);
        Ok(token)
    }

    /// Gives the registration up; the descriptor stays.
    pub(super) fn unregister(&self, loop_: Loop<'_, 'py>) -> PyResult<()> {
        let py = self.py();
        if K::IS_PIPE {
            self.unwatch(loop_, Direction::Read)?;
            return self.unwatch(loop_, Direction::Write);
        }
        let (token, is_unseen) = {
            let mut state = self.state.open(py);
            (state.token.take(), state.info.is_unseen())
        };
        let Some(token) = token else { return Ok(()) };
        let work = {
            let mut core = loop_.core.open(py);
            core.io.as_mut().map(|Io { registry, sources, .. }| {
                if is_unseen { sources.forget(registry, token) } else { sources.detach(registry, token) }
            })
        };
        drop(work);
        Ok(())
    }

    /// Waits for the descriptor in one direction.
    pub(super) fn arm(&self, loop_: Loop<'_, 'py>, direction: Direction) -> PyResult<()> {
        let py = self.py();
        let run = match direction {
            Direction::Read => K::READABLE,
            Direction::Write => K::WRITABLE,
        };
        let work = Ready { object: self.owned(), run };
        if K::IS_PIPE {
            return self.watch(loop_, direction, work);
        }
        let token = self.register(loop_)?;
        let armed = {
            let mut core = loop_.core.open(py);
            core.io.as_mut().map(|io| io.sources.arm(py, token, direction, work))
        };
        if let Some((replaced, now)) = armed {
            drop(replaced);
            if let Some(now) = now {
                loop_.enqueue(py, now);
            }
        }
        Ok(())
    }

    /// Waits no more in one direction.
    pub(super) fn disarm(&self, loop_: Loop<'_, 'py>, direction: Direction) -> PyResult<()> {
        let py = self.py();
        if K::IS_PIPE {
            return self.unwatch(loop_, direction);
        }
        let Some(token) = self.state.open(py).token else { return Ok(()) };
        let work = {
            let mut core = loop_.core.open(py);
            core.io.as_mut().and_then(|io| io.sources.disarm(token, direction))
        };
        drop(work);
        Ok(())
    }

    /// Waits for a pipe.
    fn watch(&self, loop_: Loop<'_, 'py>, direction: Direction, work: Ready) -> PyResult<()> {
        let py = self.py();
        let fd = self.state.open(py).fd;
        let watched = {
            let mut core = loop_.core.open(py);
            let Io { registry, sources, .. } = core.io.as_mut().ok_or(Error::Closed)?;
            sources.watch(registry, fd.number(), None, direction, work)
        };
        match watched {
            Ok(replaced) => handle::cancel_all(py, replaced),
            Err((refused, unused)) => {
                drop(unused);
                Err(match refused {
                    Refused::Transport(_) => {
                        Error::Runtime(format!("File descriptor {} is used by another transport", fd.number()))
                    }
                    Refused::Io(error) => Error::Io(error),
                }
                .into())
            }
        }
    }

    /// Waits for a pipe no more, unless somebody else does by now.
    fn unwatch(&self, loop_: Loop<'_, 'py>, direction: Direction) -> PyResult<()> {
        let py = self.py();
        let fd = self.state.open(py).fd.number();
        let finished = {
            let mut core = loop_.core.open(py);
            let Some(Io { registry, sources, .. }) = core.io.as_mut() else { return Ok(()) };
            let Some(token) = registry.token_of(fd) else { return Ok(()) };
            sources.finish(registry, token, direction, self.object())
        };
        // An error is that of a descriptor which was closed behind our back: it is not waited for any more.
        drop(finished);
        Ok(())
    }

    /// Reading is paused: what is there will be read when it is resumed.
    pub(super) fn miss(&self, loop_: Loop<'_, 'py>, ended: bool) {
        let token = self.state.open(self.py()).token;
        if let Some(token) = token
            && let Some(io) = loop_.core.open(self.py()).io.as_mut()
        {
            io.sources.miss(token, ended);
        }
    }

    pub(super) fn read_on(&self, loop_: Loop<'_, 'py>) -> PyResult<()> {
        self.arm(loop_, Direction::Read)
    }
}
