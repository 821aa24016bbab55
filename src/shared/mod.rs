//! Shared memory on one host: what client and coordinator say to each other about it, and how.
//!
//! Bodies of batches lie in [arenas](bowstring_arena::Arena) of the producers' processes. Beside the gRPC connections, a
//! **link** goes over a Unix socket of its own: descriptors of arenas travel there, and which slot is free. What is
//! in which slot travels with each batch's metadata (`SharedBody`), where its body would be.
//!
//! | module | noun |
//! | --- | --- |
//! | `frame` | one thing said on a link |
//! | `link` | a link's two directions, descriptors included |
//! | `outbox` | what is to be said, from wherever in the process |
//!
//! A slot is lent, not given. A producer's batch lies in its slot until the coordinator has dropped it *and* every
//! consumer that looks at it has given it back, by word or by the end of its link; only then the producer writes there
//! again. So nobody's arrays change under their eyes, and a process that is killed gives back what it looked at.

mod frame;
mod link;
mod outbox;
#[doc(hidden)]
pub mod random;

pub use frame::{Frame, VERSION};
pub use link::{LinkReader, LinkWriter, OpenLink, link};
pub use outbox::{Outbox, Said};

/// Bodies below this travel by the socket: from here on shared memory is twice as fast, at a quarter of it as fast, and what
/// a slot takes beyond its body is less than a quarter.
pub const BODY_BYTES_MIN: u64 = 16 << 10;
