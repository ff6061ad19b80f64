//! The only rooms with `unsafe` in them: raw CPython calls behind safe types.
//!
//! Everything above speaks `Owned`, `This`, `Args` and `LoopCell`; nothing above this folder sees a raw pointer.
//! Nothing here knows what a task, a future or a loop is.

pub(crate) mod awaiting;
mod bio;
pub(crate) mod buffer;
pub(crate) mod call;
pub(crate) mod cell;
pub(crate) mod class;
pub(crate) mod clients;
pub(crate) mod compat;
pub(crate) mod context;
pub(crate) mod descriptor;
pub(crate) mod errors;
pub(crate) mod introspection;
pub(crate) mod kernel_tls;
pub(crate) mod known;
mod layout;
pub(crate) mod libssl;
pub(crate) mod memory;
pub(crate) mod method;
pub(crate) mod names;
pub(crate) mod object;
pub(crate) mod places;
pub(crate) mod registry;
pub(crate) mod reply;
pub(crate) mod resolver;
#[cfg(io_uring)]
pub(crate) mod ring;
#[cfg(not(io_uring))]
#[path = "no_ring.rs"]
pub(crate) mod ring;
pub(crate) mod socket;
pub(crate) mod thread;
pub(crate) mod unpatched;
