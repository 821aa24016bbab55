//! One integration binary: a module per promise.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cli;
mod codegen;
mod data_plane;
mod tidy;
