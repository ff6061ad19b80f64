//! From poll token to `Source`: what to queue when a descriptor is ready.
//!
//! One source per registered descriptor, one unit of work per direction. `add_reader` and its kin are level-triggered;
//! transports, servers and `sock_*` keep one edge-triggered registration for the life of the descriptor and arm or
//! disarm it here, without a system call. Descriptors stay their owners'; this table only refers to them by number. Loop
//! thread only, inside `Core`. Whatever a method takes out it returns: dropping it may run Python code.

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;

use mioloop_core::poller::{Interest, Readiness, Registry, Token, Trigger};
use pyo3::prelude::*;
use smallvec::SmallVec;

use super::ready::{Ready, Run};
use crate::py::object::Owned;

/// One direction of a descriptor.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// Who registered a descriptor.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// `add_reader`, `add_writer`: level-triggered.
    Callbacks,
    /// `sock_*` on a socket of the user's.
    Operations,
    /// A transport: nobody else may watch the descriptor.
    Transport,
    /// A listening socket.
    Server,
}

struct Source {
    token: Token,
    owner: Owner,
    read: Option<Ready>,
    write: Option<Ready>,
    /// Runs instead of the reading work when input has ended, so that it reads to the very end.
    drain: Option<Run>,
    missed: Missed,
    /// `sock_*`: a weak reference to the socket. Another one with the same number is not this registration's.
    identity: Option<Owned>,
    /// `add_reader`, `add_writer`: the object that was given for the descriptor. It is kept, and finds the
    /// registration when it is closed and knows its number no more.
    file: Option<Owned>,
}

/// What a registration has left behind, seldom more than it has room for here; dropping it may run Python code.
#[derive(Default)]
pub(crate) struct Left {
    pub(crate) work: SmallVec<[Ready; 2]>,
    pub(crate) references: SmallVec<[Owned; 2]>,
}

/// Edge-triggered: readiness to read that came while nobody waited for it. (To write needs none: whoever arms writing
/// has just been told that the kernel takes no more.)
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missed {
    Nothing,
    Input,
    EndOfInput,
}

/// Both directions, for the life of a descriptor.
const BOTH: Interest = Interest { readable: true, writable: true };

impl Source {
    fn new(token: Token, owner: Owner) -> Self {
        Source {
            token,
            owner,
            read: None,
            write: None,
            drain: None,
            missed: Missed::Nothing,
            identity: None,
            file: None,
        }
    }

    fn interest(&self) -> Interest {
        match self.owner {
            Owner::Callbacks => Interest { readable: self.read.is_some(), writable: self.write.is_some() },
            _ => BOTH,
        }
    }

    fn slot(&mut self, direction: Direction) -> &mut Option<Ready> {
        match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        }
    }

    fn leave(self, left: &mut Left) {
        left.work.extend(self.read.into_iter().chain(self.write));
        left.references.extend(self.identity.into_iter().chain(self.file));
    }

    /// The reading work, in the form for input that has ended if it has.
    fn reading(&self, py: Python<'_>, ended: bool) -> Option<Ready> {
        let work = self.read.as_ref()?;
        let run = self.drain.filter(|_| ended).unwrap_or(work.run);
        Some(Ready { object: work.object.clone_ref(py), run })
    }
}

/// Why a descriptor cannot be watched.
pub(crate) enum Refused {
    /// A transport has it, by this registration.
    Transport(Token),
    Io(io::Error),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Refused::Io(error)
    }
}

/// The table.
pub(crate) struct Sources {
    /// By the token's index.
    slots: Vec<Option<Source>>,
}

impl Sources {
    pub(crate) fn new() -> Self {
        Sources { slots: Vec::new() }
    }

    /// Queues `work` whenever `fd` is ready in this direction, level-triggered. `file` is what stands for the descriptor
    /// if that is no number. Returns the work it replaces; on error also the new work, so that the caller may drop it.
    pub(crate) fn watch(
        &mut self,
        registry: &mut Registry,
        fd: RawFd,
        file: Option<Borrowed<'_, '_, PyAny>>,
        direction: Direction,
        work: Ready,
    ) -> Result<Option<Ready>, (Refused, Ready)> {
        let (token, is_new) = match self.level_token(registry, fd, direction) {
            Ok(found) => found,
            Err(refused) => return Err((refused, work)),
        };
        let source = self.get_mut(token).expect("level_token found or made it");
        if source.file.is_none() {
            source.file = file.map(Owned::of);
        }
        let replaced = source.slot(direction).replace(work);
        if is_new || replaced.is_some() {
            return Ok(replaced);
        }
        let interest = source.interest();
        match registry.set_interest(token, interest) {
            Ok(()) => Ok(None),
            Err(error) => {
                let work = source.slot(direction).take().expect("it was put there above");
                Err((error.into(), work))
            }
        }
    }

    /// Stops watching one direction; returns its work if there was any, on an error too.
    pub(crate) fn unwatch(
        &mut self,
        registry: &mut Registry,
        token: Token,
        direction: Direction,
    ) -> (Left, io::Result<()>) {
        let mut left = Left::default();
        let Some(source) = self.get_mut(token) else { return (left, Ok(())) };
        let level = source.owner == Owner::Callbacks;
        let Some(work) = source.slot(direction).take() else { return (left, Ok(())) };
        left.work.push(work);
        let interest = source.interest();
        let outcome = if source.read.is_some() || source.write.is_some() {
            let outcome = if level { registry.set_interest(token, interest) } else { Ok(()) };
            if outcome.is_err() {
                // The descriptor was closed behind our back. As in `selectors`, that is the end of it.
                let _ = self.end(registry, token, &mut left);
            }
            outcome
        } else if level || source.owner == Owner::Server {
            self.end(registry, token, &mut left)
        } else {
            Ok(())
        };
        (left, outcome)
    }

    /// The registration that was made with `file`.
    pub(crate) fn token_of_file(&self, file: Borrowed<'_, '_, PyAny>) -> Option<Token> {
        let is_same = |kept: &Owned| kept.as_ptr() == file.as_ptr();
        self.slots.iter().flatten().find(|source| source.file.as_ref().is_some_and(is_same)).map(|source| source.token)
    }

    /// The level-triggered registration of `fd`, made if it is not there, and whether it was: then it waits in this
    /// direction already. What `sock_*` waits for moves along.
    fn level_token(
        &mut self,
        registry: &mut Registry,
        fd: RawFd,
        direction: Direction,
    ) -> Result<(Token, bool), Refused> {
        let Some(source) = registry.token_of(fd).and_then(|token| self.get_mut(token)) else {
            let interest = Interest { readable: direction == Direction::Read, writable: direction == Direction::Write };
            let token = registry.register(fd, interest, Trigger::Level)?;
            self.insert(Source::new(token, Owner::Callbacks));
            return Ok((token, true));
        };
        let former = source.token;
        match source.owner {
            Owner::Callbacks => return Ok((former, false)),
            Owner::Transport => return Err(Refused::Transport(former)),
            Owner::Operations | Owner::Server => {}
        }
        let source = self.remove(former).expect("it was there above");
        registry.deregister(former)?;
        let interest = Interest {
            readable: source.read.is_some() || direction == Direction::Read,
            writable: source.write.is_some() || direction == Direction::Write,
        };
        let token = registry.register(fd, interest, Trigger::Level)?;
        // The weak reference stays: its end, here, would be nothing but memory.
        self.insert(Source { token, owner: Owner::Callbacks, ..source });
        Ok((token, true))
    }

    /// Registers a descriptor for its life, edge-triggered. Returns with the token the work that a former owner of the
    /// number has left behind.
    pub(crate) fn attach(
        &mut self,
        registry: &mut Registry,
        fd: RawFd,
        owner: Owner,
        drain: Option<Run>,
    ) -> io::Result<(Token, Left)> {
        let mut left = Left::default();
        let former = registry.token_of(fd).filter(|former| self.owner_of(*former).is_some());
        if let Some(former) = former
            && self.owner_of(former) != Some(Owner::Transport)
        {
            self.end(registry, former, &mut left)?;
        }
        let token = registry.register(fd, BOTH, Trigger::Edge)?;
        // The kernel takes the number as new, so the descriptor of a transport that has it was closed behind its back.
        if let Some(former) = former {
            self.end(registry, former, &mut left)?;
        }
        self.insert(Source { drain, ..Source::new(token, owner) });
        Ok((token, left))
    }

    /// `sock_*` waits in one direction, on a socket that has waited before: its registration is there, edge-triggered, and
    /// stays until the socket goes. Returns the work it replaces. On error, the new work: this is the first time.
    #[inline]
    pub(crate) fn wait_again(
        &mut self,
        registry: &Registry,
        fd: RawFd,
        socket: Borrowed<'_, '_, PyAny>,
        direction: Direction,
        work: Ready,
    ) -> Result<(Token, Option<Ready>), Ready> {
        let known = registry.token_of(fd).and_then(|token| self.get_mut(token));
        let is_same = |source: &&mut Source| {
            source.owner == Owner::Operations
                && source.identity.as_ref().is_some_and(|identity| identity.is_weak_reference_to(socket))
        };
        match known.filter(is_same) {
            Some(source) => Ok((source.token, source.slot(direction).replace(work))),
            None => Err(work),
        }
    }

    /// As `wait_again`, the first time. `identity`: a weak reference to the socket.
    pub(crate) fn operate(
        &mut self,
        registry: &mut Registry,
        fd: RawFd,
        identity: Owned,
        direction: Direction,
        work: Ready,
    ) -> io::Result<(Token, Left)> {
        let mut left = Left::default();
        let known = registry.token_of(fd).and_then(|token| self.get_mut(token));
        if let Some(source) = known {
            let token = source.token;
            if source.owner == Owner::Callbacks {
                left.work.extend(source.slot(direction).replace(work));
                left.references.push(identity);
                let interest = source.interest();
                registry.set_interest(token, interest)?;
                return Ok((token, left));
            }
            self.end(registry, token, &mut left)?;
        }
        let token = registry.register(fd, BOTH, Trigger::Edge)?;
        let mut source = Source { identity: Some(identity), ..Source::new(token, Owner::Operations) };
        *source.slot(direction) = Some(work);
        self.insert(source);
        Ok((token, left))
    }

    /// `sock_*` waits no more in this direction. None if that is so already: the descriptor was ready, or another call has
    /// taken its place.
    #[inline]
    pub(crate) fn finish(
        &mut self,
        registry: &mut Registry,
        token: Token,
        direction: Direction,
        object: Borrowed<'_, '_, PyAny>,
    ) -> Option<(Left, io::Result<()>)> {
        let source = self.get_mut(token)?;
        let work = source.slot(direction).take_if(|work| work.object.as_ptr() == object.as_ptr())?;
        let mut left = Left::default();
        left.work.push(work);
        if source.owner != Owner::Callbacks {
            return Some((left, Ok(())));
        }
        let interest = source.interest();
        let outcome = if interest.readable || interest.writable {
            registry.set_interest(token, interest)
        } else {
            self.end(registry, token, &mut left)
        };
        Some((left, outcome))
    }

    /// Ends a registration; returns its work.
    pub(crate) fn detach(&mut self, registry: &mut Registry, token: Token) -> Left {
        let mut left = Left::default();
        // The descriptor goes away: an error here has nobody to matter to.
        let _ = self.end(registry, token, &mut left);
        left
    }

    /// As `detach`, for a descriptor that its only owner closes next.
    pub(crate) fn forget(&mut self, registry: &mut Registry, token: Token) -> Left {
        let mut left = Left::default();
        if let Some(source) = self.remove(token) {
            source.leave(&mut left);
        }
        registry.forget(token);
        left
    }

    /// Waits in one direction. Returns the work it replaces and, if the descriptor has become ready in the meantime, the
    /// work to queue now.
    pub(crate) fn arm(
        &mut self,
        py: Python<'_>,
        token: Token,
        direction: Direction,
        work: Ready,
    ) -> (Option<Ready>, Option<Ready>) {
        let Some(source) = self.get_mut(token) else { return (Some(work), None) };
        let replaced = source.slot(direction).replace(work);
        let missed = match direction {
            Direction::Read => std::mem::replace(&mut source.missed, Missed::Nothing),
            Direction::Write => Missed::Nothing,
        };
        let now = match missed {
            Missed::Nothing => None,
            Missed::Input => source.reading(py, false),
            Missed::EndOfInput => source.reading(py, true),
        };
        (replaced, now)
    }

    /// Waits no more in one direction; returns its work.
    pub(crate) fn disarm(&mut self, token: Token, direction: Direction) -> Option<Ready> {
        self.get_mut(token)?.slot(direction).take()
    }

    /// There is more to read than was read: as if the edge came only now.
    pub(crate) fn miss(&mut self, token: Token, ended: bool) {
        if let Some(source) = self.get_mut(token) {
            source.note(ended);
        }
    }

    /// Whose registration a number is at present.
    pub(crate) fn owner_of(&self, token: Token) -> Option<Owner> {
        self.get(token).map(|source| source.owner)
    }

    /// A reference to the transport, if it waits for anything.
    pub(crate) fn waiter_of(&self, py: Python<'_>, token: Token) -> Option<Ready> {
        let source = self.get(token)?;
        source.read.as_ref().or(source.write.as_ref()).map(|work| work.clone_ref(py))
    }

    /// Queues what one readiness calls for, reading before writing.
    #[inline]
    pub(crate) fn dispatch(&mut self, py: Python<'_>, readiness: Readiness, ready: &mut VecDeque<Ready>) {
        let Some(source) = self.get_mut(readiness.token) else { return };
        // What `sock_*` waits for it waits for once.
        let once = source.owner == Owner::Operations;
        if readiness.readable {
            let work = if once { source.read.take() } else { source.reading(py, readiness.ended) };
            match work {
                Some(work) => ready.push_back(work),
                None => source.note(readiness.ended),
            }
        }
        if readiness.writable {
            let work = if once { source.write.take() } else { source.write.as_ref().map(|work| work.clone_ref(py)) };
            ready.extend(work);
        }
    }

    /// The objects that stand for descriptors.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Owned> {
        self.slots.iter().flatten().flat_map(|source| &source.file)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Ready> {
        self.slots.iter().flatten().flat_map(|source| source.read.iter().chain(&source.write))
    }

    pub(crate) fn clear(&mut self, registry: &mut Registry) -> Left {
        let mut left = Left::default();
        for source in self.slots.drain(..).flatten() {
            // The loop goes away with its registrations: an error here has nobody to matter to.
            let _ = registry.deregister(source.token);
            source.leave(&mut left);
        }
        left
    }

    fn get(&self, token: Token) -> Option<&Source> {
        self.slots.get(token.index())?.as_ref().filter(|source| source.token == token)
    }

    #[inline]
    fn get_mut(&mut self, token: Token) -> Option<&mut Source> {
        self.slots.get_mut(token.index())?.as_mut().filter(|source| source.token == token)
    }

    fn insert(&mut self, source: Source) {
        let index = source.token.index();
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || None);
        }
        self.slots[index] = Some(source);
    }

    /// Takes a registration out of both tables.
    fn end(&mut self, registry: &mut Registry, token: Token, left: &mut Left) -> io::Result<()> {
        if let Some(source) = self.remove(token) {
            source.leave(left);
        }
        registry.deregister(token)
    }

    fn remove(&mut self, token: Token) -> Option<Source> {
        self.get(token)?;
        self.slots[token.index()].take()
    }
}

impl Source {
    /// Remembers readiness to read that nobody waits for; level-triggered sources are told again anyway.
    fn note(&mut self, ended: bool) {
        if self.owner != Owner::Callbacks && self.missed != Missed::EndOfInput {
            self.missed = if ended { Missed::EndOfInput } else { Missed::Input };
        }
    }
}
