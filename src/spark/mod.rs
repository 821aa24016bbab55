//! What a Spark connector does beyond the client's verbs, once for all bindings: a sink's and a source's steps, their options,
//! Spark's types, and which rows go to which partition. Spark's own classes are the bindings' matter.
//!
//! | module | noun |
//! | --- | --- |
//! | `options` | what `format("bowstring")` takes |
//! | `catalog` | the streams of a coordinator, as tables of SQL |
//! | `connections` | one client per process and coordinator |
//! | `sink` | a micro-batch or a batch write: what a task does, what the driver does when all are done |
//! | `real_time` | a task in Spark's Real-time Mode, whose rows go out as they come |
//! | `pieces` | a task's batches, by partition and size |
//! | `source` | a streaming query's offsets and plans, a batch read's ranges |
//! | `range` | what one task reads |
//! | `types` | Spark's types in Arrow, and Arrow's in Spark |
//! | `routing` | which partition each row of a task goes to |

mod catalog;
mod connections;
mod hash;
mod names;
mod options;
mod pieces;
mod range;
mod real_time;
pub mod routing;
mod sink;
mod source;
pub mod types;

use crate::client::Error;
use crate::client::blocking::Wait;

pub use catalog::Catalog;
pub use options::{Bound, Place, SINK_NAMES, SOURCE_NAMES, SinkOptions, SourceOptions, StreamLimits};
pub use range::{RangeReader, StreamRange};
pub use real_time::RealTimeWriter;
pub use sink::{EpochIdentity, Sink, Target, TaskWriter};
pub use source::{Latest, Source, SourceOffset};

/// Why a step has ended without a result.
#[derive(Debug)]
pub enum Ended {
    /// It failed.
    Failed(Error),
    /// Whoever waited for it does so no more: a task was killed, a query stopped.
    Cancelled,
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// How long a step may wait, and whether it still has to.
pub type Waiting<'a> = Wait<'a, Ended>;
