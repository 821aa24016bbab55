//! Queries over the batches of a stream: SQL that chooses columns and rows and computes from each row alone, answered batch by
//! batch. DataFusion plans and evaluates it.
//!
//! DataFusion has an Arrow of its own version, which sees a batch as the IPC message that it is, and gives one back: nothing of it is
//! in this room's signatures.

mod answer;
mod codec;
pub(crate) mod error;
mod functions;
mod grammar;
mod growth;
mod measure;
pub(crate) mod plan;
pub(crate) mod steps;
pub(crate) mod table;
#[cfg(test)]
mod tests;

pub use self::answer::{Answer, Query};
pub use self::error::QueryError;

/// Longest text of a query, in bytes.
pub const QUERY_BYTES_MAX: usize = 16 << 10;
