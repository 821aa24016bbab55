//! The server: thin. Decode the request, call the engine, wake whom it concerns.

mod cell;
mod clock;
mod coordinator;
mod counters;
mod error;
mod plane;
mod read;
mod status;
mod write;

/// The control service of `proto/`, generated; `tests/it/codegen.rs` checks that it is current.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
mod generated {
    include!("generated/bowstring.v1.rs");
}

pub use cell::StreamCell;
pub use clock::{Clock, SystemClock};
pub use coordinator::{Coordinator, CoordinatorOptions, OpenConnection};
pub use counters::{ErrorCounters, LATENCY_BOUNDS, LatencyView, StreamCounters, Totals};
pub use error::Error;
