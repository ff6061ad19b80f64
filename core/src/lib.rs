//! The parts of mioloop that need no Python object: time, timers, the
//! cross-thread queue, the operating system's readiness queue, numeric
//! addresses and threads for calls that block.
//!
//! The extension crate builds the event loop out of these; each is generic
//! over what it carries, is tested by `cargo test` without an interpreter, and
//! contains no `unsafe`. Nothing here runs callbacks, prints, panics on what
//! the operating system answers, or knows that Python exists.
//!
//! | Module | What it is |
//! |---|---|
//! | [`address`] | numeric hosts and ports, as the C library reads them |
//! | [`clock`] | monotonic nanoseconds, and how a float of seconds becomes a deadline |
//! | [`timers`] | the deadline queue: O(1) cancel, first in first out among equals |
//! | [`inbox`] | work pushed by other threads, and whether they must wake the loop |
//! | [`poller`] | readiness of descriptors, wake-ups, precise waits |
//! | [`outgoing`] | the write backlog: partial writes, slices for a vectored write |
//! | [`records`] | which bytes of a backlog are TLS records of a kind of their own |
//! | [`watermarks`] | when a protocol must stop writing, and when it may go on |
//! | [`connection`] | the life of a connection, as legal transitions |
//! | [`pool`] | threads that come with the work and go without it |

#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[cfg(not(target_os = "linux"))]
compile_error!("mioloop runs on Linux only: it is built on epoll, timerfd and pidfd");

pub mod address;
pub mod clock;
pub mod connection;
pub mod inbox;
pub mod outgoing;
pub mod poller;
pub mod pool;
pub mod records;
pub mod timers;
pub mod watermarks;
