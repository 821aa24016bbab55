//! The server: thin. Decode the request, call the engine, wake whom it concerns.

mod actions;
mod authority;
mod cell;
mod clock;
mod config;
mod consumers;
mod control;
mod convert;
mod coordinator;
mod counters;
mod dead_letters;
mod dictionaries;
mod durable;
mod error;
mod flight;
mod http;
mod input;
mod listener;
mod log;
mod metrics;
mod plane;
mod process;
mod read;
mod running;
mod services;
mod shared;
mod sharing;
mod status;
mod store;
mod unix;
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
    /// All of `proto/`, for reflection.
    pub(super) const DESCRIPTOR: &[u8] = include_bytes!("generated/descriptor.bin");
}

pub use cell::StreamCell;
pub use clock::{Clock, SystemClock};
pub use config::{ConfigError, ServerConfig, UnixSocket};
pub use coordinator::{Coordinator, CoordinatorOptions, OpenConnection, SharedMemory};
pub use counters::{ErrorCounters, LATENCY_BOUNDS, LatencyView, StreamCounters, Totals};
pub use error::Error;
pub use metrics::{METRICS, MetricDoc, MetricKind};
#[doc(hidden)]
pub use running::serve_connections;
pub use running::{Server, StartError};
pub use services::{Ended, LocalService};
#[doc(hidden)]
pub use store::{Store, StoreError};
pub use unix::UnixError;
