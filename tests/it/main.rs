//! One integration binary: a module per promise.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod access;
mod acks;
mod auto_compression;
mod body_sizes;
mod cli;
mod client_append;
mod client_blocking;
mod client_read;
mod client_resume;
mod client_support;
mod client_types;
mod codegen;
mod console;
mod control;
mod control_errors;
mod control_flight;
mod data_plane;
mod durable;
mod durable_support;
mod epochs;
#[cfg(target_os = "linux")]
mod faults;
#[cfg(target_os = "linux")]
mod floods;
mod full;
mod hostile;
mod hostile_limits;
mod http;
#[cfg(feature = "formats")]
mod ingest;
mod kill;
mod leases;
mod leases_support;
mod leases_waits;
mod memory;
mod object_store;
mod overflow;
mod put_messages;
mod queries;
mod regressions;
mod replay;
mod retention;
mod schemas;
mod server_support;
#[cfg(target_os = "linux")]
mod shared;
mod shared_leases;
mod shared_memory;
mod shutdown;
mod sizes;
mod small_batches;
mod stalls;
mod starts;
mod tidy;
mod tls;
mod tls_support;
mod traces;
mod transport;
mod undecodable;
mod unix_socket;
mod validation;
mod why;
mod wire;
mod within_process;
mod workload;
