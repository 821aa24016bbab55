//! The server: thin. Decode the request, call the engine, wake whom it concerns.

mod access;
mod actions;
mod authority;
mod binding;
mod cell;
mod clock;
mod config;
mod connection;
mod connections;
mod console;
mod consumers;
mod control;
mod convert;
mod coordinator;
mod counters;
mod dead_letters;
mod decode;
mod dictionaries;
mod disks;
mod durable;
mod error;
mod flight;
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod greeting;
mod http;
mod ingest;
mod input;
mod listener;
mod log;
mod metrics;
mod opening;
mod plane;
mod process;
mod queries;
mod read;
mod running;
mod same;
mod services;
mod shared;
mod sharing;
mod start_error;
mod status;
mod store;
mod tls;
mod trace;
mod unix;
mod validation;
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

pub use access::{
    Access, AccessError, AuditConfig, AuthConfig, JwtConfig, JwtError, Origin, Permission, PermissionError, Permissions, Principal,
    QuotaConfig, QuotasConfig, Refusal, TokenEntry, TokensError, Verb, issue_token, list_tokens, revoke_token,
};
pub use binding::Unprotected;
pub use cell::StreamCell;
pub use clock::{Clock, SystemClock};
pub use config::{ConfigError, ServerConfig, UnixSocket};
pub use connections::{ConnectionCounters, NotLetIn, OpenConnection};
pub use console::{ShownSetting, url_without_secrets};
pub use coordinator::{Coordinator, CoordinatorOptions};
pub use counters::{ErrorCounters, LATENCY_BOUNDS, LatencyView, StreamCounters, Totals};
pub use error::Error;
pub use ingest::{IngestConfig, IngestError, IngestFormat, WriterSchemaFiles};
pub use metrics::{METRICS, MetricDoc, MetricKind};
#[doc(hidden)]
pub use running::serve_connections;
pub use running::{BLOCKING_THREAD_STAYS, Server};
pub use services::{Ended, LocalService};
pub use shared::SharedMemory;
pub use start_error::StartError;
#[doc(hidden)]
pub use store::{Store, StoreError};
pub use tls::{PeerCertificate, TlsConfig, TlsError};
pub use trace::TraceError;
pub use unix::UnixError;
pub use validation::Validation;
