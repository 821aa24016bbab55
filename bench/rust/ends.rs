//! Both ends of a relay with bowstring's Rust client.
use std::error::Error;
use clap::Args;
/// One end.
#[derive(Debug, Args)]
pub(crate) struct End {
    /// The coordinator's URL.
    url: String,
    /// The stream.
    stream: String,
    /// Rows of a batch.
    rows: usize,
    /// How many batches.
    batches: u64,
}
pub(crate) fn append(_end: &End) -> Result<(), Box<dyn Error>> { Ok(()) }
pub(crate) fn read(_end: &End) -> Result<(), Box<dyn Error>> { Ok(()) }
