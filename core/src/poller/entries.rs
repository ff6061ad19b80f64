//! The table of registrations: which token stands for which descriptor, and
//! what its owner wants to hear of. The poller's registry is its only user.
//!
//! A slot is reused under a new generation, so a token outlives its
//! registration without ever meaning another one. The table makes no system
//! call and cannot tell whether a descriptor is open.

use std::io;
use std::os::fd::RawFd;

use rustc_hash::FxHashMap;

/// The low half of a token is the slot, the high half its generation. Slots on
/// 32-bit systems get a bit more than half: 20 bits are a million descriptors.
const INDEX_BITS: u32 = if usize::BITS >= 64 { 32 } else { 20 };
const INDEX_MASK: usize = (1 << INDEX_BITS) - 1;

/// The directions in which an owner waits for a descriptor.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Interest {
    /// Input, the end of input, or something to accept.
    pub readable: bool,
    /// Room for output, or a connection made.
    pub writable: bool,
}

impl Interest {
    pub(super) const fn is_empty(self) -> bool {
        !self.readable && !self.writable
    }
}

/// How often a ready descriptor reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// At every poll while it is ready.
    Level,
    /// When it becomes ready, and once more after `set_interest`.
    Edge,
}

/// Names one registration of one descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token {
    packed: usize,
}

impl Token {
    /// A small number, of no other registration at the same time; later ones
    /// reuse it.
    #[inline]
    pub const fn index(self) -> usize {
        self.packed & INDEX_MASK
    }

    pub(super) const fn packed(self) -> usize {
        self.packed
    }

    pub(super) const fn from_packed(packed: usize) -> Token {
        Token { packed }
    }

    const fn new(index: usize, generation: usize) -> Token {
        Token { packed: generation << INDEX_BITS | index }
    }

    const fn generation(self) -> usize {
        self.packed >> INDEX_BITS
    }
}

/// What the kernel says of a descriptor; the registry must accept it first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawReadiness {
    /// Whose event it is, or was.
    pub token: Token,
    /// Reading would not block.
    pub readable: bool,
    /// Writing would not block.
    pub writable: bool,
    /// Input has ended, or the descriptor is broken: a short read is not the last one.
    pub ended: bool,
}

/// What a registration's owner is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    /// Whose event it is.
    pub token: Token,
    /// Reading would not block, and the owner wants to.
    pub readable: bool,
    /// Writing would not block, and the owner wants to.
    pub writable: bool,
    /// Input has ended, or the descriptor is broken: a short read is not the last one.
    pub ended: bool,
}

/// Whether the kernel's list has an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    /// It has.
    Present,
    /// It has not, because the owner waits for nothing.
    Absent,
    /// The descriptor was closed behind our back, and its number may be another
    /// registration's: the kernel is not asked about it any more.
    Disowned,
}

/// One registration.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) fd: RawFd,
    pub(super) interest: Interest,
    pub(super) trigger: Trigger,
    pub(super) kernel: Kernel,
    /// Level-triggered and reported since it was last armed.
    pub(super) delivered: bool,
}

impl Entry {
    pub(super) const fn new(fd: RawFd, interest: Interest, trigger: Trigger, kernel: Kernel) -> Entry {
        Entry { fd, interest, trigger, kernel, delivered: false }
    }
}

#[derive(Debug)]
struct Slot {
    generation: usize,
    entry: Option<Entry>,
}

#[derive(Debug, Default)]
pub(super) struct Entries {
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// Which registration a number means: there may be disowned ones besides.
    by_fd: FxHashMap<RawFd, Token>,
}

impl Entries {
    /// The token that the next `fill` takes; asking reserves nothing.
    pub(super) fn next_token(&self) -> io::Result<Token> {
        if let Some(&index) = self.free.last() {
            return Ok(Token::new(index, self.slots[index].generation));
        }
        // The last two indices are left to the poller's own tokens.
        if self.slots.len() >= INDEX_MASK - 1 {
            return Err(rustix::io::Errno::NOMEM.into());
        }
        Ok(Token::new(self.slots.len(), 0))
    }

    /// Stores an entry under the token that `next_token` has just named.
    pub(super) fn fill(&mut self, token: Token, entry: Entry) {
        self.by_fd.insert(entry.fd, token);
        if self.free.pop().is_none() {
            self.slots.push(Slot { generation: 0, entry: None });
        }
        self.slots[token.index()].entry = Some(entry);
    }

    #[inline]
    pub(super) fn get(&self, token: Token) -> Option<&Entry> {
        let slot = self.slots.get(token.index())?;
        if slot.generation != token.generation() {
            return None;
        }
        slot.entry.as_ref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, token: Token) -> Option<&mut Entry> {
        let slot = self.slots.get_mut(token.index())?;
        if slot.generation != token.generation() {
            return None;
        }
        slot.entry.as_mut()
    }

    /// The registration that a descriptor number stands for at present.
    pub(super) fn owner_of(&self, fd: RawFd) -> Option<Token> {
        self.by_fd.get(&fd).copied()
    }

    pub(super) fn update(&mut self, token: Token, interest: Interest, kernel: Kernel) {
        if let Some(entry) = self.get_mut(token) {
            entry.interest = interest;
            entry.kernel = kernel;
            entry.delivered = false;
        }
    }

    /// The registration stays, but its number is no longer its own.
    pub(super) fn disown(&mut self, token: Token) {
        let Some(entry) = self.get_mut(token) else {
            return;
        };
        entry.kernel = Kernel::Disowned;
        let fd = entry.fd;
        self.forget_number(fd, token);
    }

    pub(super) fn remove(&mut self, token: Token) -> Option<Entry> {
        self.get(token)?;
        let slot = &mut self.slots[token.index()];
        let entry = slot.entry.take()?;
        slot.generation = (slot.generation + 1) & (usize::MAX >> INDEX_BITS);
        self.free.push(token.index());
        self.forget_number(entry.fd, token);
        Some(entry)
    }

    /// Every registration that the kernel's list has.
    pub(super) fn in_kernel(&self) -> impl Iterator<Item = (Token, &Entry)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let entry = slot.entry.as_ref()?;
            let token = Token::new(index, slot.generation);
            (entry.kernel == Kernel::Present).then_some((token, entry))
        })
    }

    fn forget_number(&mut self, fd: RawFd, token: Token) {
        if self.owner_of(fd) == Some(token) {
            self.by_fd.remove(&fd);
        }
    }
}
