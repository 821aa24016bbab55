//! Shared memory, the coordinator's side: links, the arenas that producers lend over them, and what consumers look at.
//!
//! The coordinator maps each arena once, to look at. A body in an arena is like any other: bytes that are verified,
//! counted against the stream's limits, spooled, and sent to who comes by TCP. A reader with a link is told instead where
//! the body lies.

mod accept;
mod arena;
mod link;

pub(super) use accept::{Links, bind, serve};
pub(super) use arena::SharedPlace;
pub(super) use link::{Link, ReadLink};

/// Memory that processes of this host share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedMemory {
    /// Connections of clients over which it goes.
    pub links: u64,
    /// Size of the arenas that producers lend, or that batches lie in; they take memory only where they are used.
    pub lent_bytes: u64,
    /// What consumers look at, acked or not.
    pub looked_at_bytes: u64,
}
