//! The wire: bytes to and from the engine's types. No tokio, no tonic.

pub mod batch;
pub mod body;
pub mod command;
mod compare;
mod compression;
pub mod dictionary;
mod dictionary_ids;
pub mod error;
pub mod evolution;
#[cfg(test)]
mod evolution_tests;
pub mod frame;
pub mod ipc;
pub mod keys;
pub mod lag;
mod layout;
pub mod limits;
pub mod metadata;
pub mod offsets;
pub mod overflow;
mod prune;
#[cfg(test)]
mod prune_tests;
pub mod report;
pub mod schema;
pub mod secret;
pub mod start;
pub mod validate;
pub mod why;
pub mod widening;

/// The messages of `proto/`, generated; `tests/it/codegen.rs` checks that they are current.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub, reason = "generated code")]
pub mod proto {
    include!("proto/bowstring.v1.rs");
}
