//! The addresses that a datagram socket has met lately, as the kernel and as Python see them.
//!
//! Making the Python object of an address, or reading one, costs more than the rest of a small datagram. So the objects
//! are kept: one while there is one peer, else in a table where each has one possible place and a newcomer takes it.
//! Used by `transport/datagram.rs` (found by address) and `transport/sendto.rs` (found by object). Objects are immutable.

use std::net::{SocketAddrV4, SocketAddrV6};

use crate::address::{Address, UnixName};
use crate::py::class::{Stop, Visit};
use crate::py::object::Owned;

/// Places once there is more than one peer: a power of two.
const PLACES: usize = 128;
/// Knuth's multiplier, the golden ratio as a fraction of 2^64.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// One address.
pub(super) struct Peer {
    /// Says where its place is.
    pub(super) key: u64,
    pub(super) address: Address,
    pub(super) shown: Owned,
}

/// Loop thread only.
#[derive(Default)]
pub(super) struct Peers {
    /// None of them, one, or `PLACES`.
    places: Vec<Option<Peer>>,
    /// Where the last one is.
    last: usize,
}

impl Peers {
    /// The one whose place this is, if it is the one.
    #[inline]
    pub(super) fn find(&mut self, key: u64, is_it: impl FnOnce(&Peer) -> bool) -> Option<&Peer> {
        let place = self.place(key);
        let found = self.places.get(place)?.as_ref().filter(|peer| is_it(peer))?;
        self.last = place;
        Some(found)
    }

    /// The one that was found or came last.
    #[inline]
    pub(super) fn last(&self) -> Option<&Peer> {
        self.places.get(self.last)?.as_ref()
    }

    /// Gives a peer its place. The caller drops whom it displaces.
    pub(super) fn insert(&mut self, peer: Peer) -> Option<Peer> {
        match self.places.len() {
            0 => self.places.push(None),
            1 => {
                let only = self.places.pop().flatten();
                self.places.resize_with(PLACES, || None);
                if let Some(only) = only {
                    let place = self.place(only.key);
                    self.places[place] = Some(only);
                }
            }
            _ => {}
        }
        self.last = self.place(peer.key);
        self.places[self.last].replace(peer)
    }

    fn place(&self, key: u64) -> usize {
        // The upper bits are the well mixed ones; a single place is number 0.
        (key.wrapping_mul(SPREAD) >> 32) as usize & self.places.len().saturating_sub(1)
    }

    pub(super) fn visit(&self, visit: Visit<'_>) -> Result<(), Stop> {
        self.places.iter().flatten().try_for_each(|peer| visit.object(&peer.shown))
    }

    pub(super) fn take_references(&mut self) -> impl Iterator<Item = Owned> + use<> {
        std::mem::take(&mut self.places).into_iter().flatten().map(|peer| peer.shown)
    }
}

/// The key of who is found by address.
#[inline]
pub(super) fn key_of_address(address: &Address) -> u64 {
    match address {
        Address::V4(address) => key_of_v4(address),
        Address::V6(address) => key_of_v6(address),
        Address::Unix(Some(UnixName::Path(name) | UnixName::Abstract(name))) => {
            name.iter().fold(0, |key, byte| (key ^ u64::from(*byte)).wrapping_mul(SPREAD))
        }
        Address::Unix(None) => 0,
    }
}

fn key_of_v4(address: &SocketAddrV4) -> u64 {
    u64::from(address.ip().to_bits()) << 16 | u64::from(address.port())
}

fn key_of_v6(address: &SocketAddrV6) -> u64 {
    let bits = address.ip().to_bits();
    (bits >> 64) as u64 ^ (bits as u64).wrapping_mul(SPREAD) ^ u64::from(address.port())
}

/// The key of who is found by object.
#[inline]
pub(super) fn key_of_object(object: *mut pyo3::ffi::PyObject) -> u64 {
    object.addr() as u64 >> 4
}
