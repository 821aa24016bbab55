//! The engine: bowstring's domain as a deterministic state machine.
//!
//! No I/O, no async, no clock, no locks: time comes in as a parameter, and what has to happen outside
//! (wake a reader, grant a waiting producer) comes out as [`Effects`]. The engine never looks into a
//! batch: `D` is whatever handle the caller uses for the bytes (the server's is
//! `storage::StoredBatch`, the tests' is an integer).
//!
//! One way in: [`Stream::apply`]. Everything else on [`Stream`] reads.

mod appender;
mod batch;
mod budget;
mod code;
mod command;
mod dropped;
mod epoch;
mod error;
mod given;
mod id;
mod lanes;
mod lease;
mod leases;
mod limits;
mod meter;
mod overflow;
mod partition;
mod pieces;
mod share;
mod shares;
mod snapshot;
mod spread;
mod start;
mod stream;
mod subscription;
mod time;
mod view;

pub use appender::{AppenderKind, Connection};
pub use batch::{Batch, BatchFacts};
pub use budget::Place;
pub use code::{Code, Retry, StoredState};
pub use command::{Command, Effects, Outcome, Part};
pub use dropped::Dropped;
pub use epoch::{EpochState, Receipt};
pub use error::Error;
pub use id::{
    AppenderId, Attempt, ConsumerId, ConsumerName, Epoch, Generation, LeaseId, NameError, Offset, PartitionId, ProducerId, RunId,
    SchemaVersion, StreamId, StreamName, SubscriptionName, Task, Timestamp,
};
pub use lease::{Holding, InFlight, LeasedOffset, ModeError, SubscriptionMode, Taken};
pub use limits::{FullPolicy, LEASE_MIN, Limits, PARTITIONS_MAX, Retention, SchemaPolicy, StreamOptions, Visibility};
pub use overflow::{Eviction, Fill, HeldBy, OnOverflow};
pub use share::{
    ACK_WITHIN_MAX, ACK_WITHIN_MIN, Dying, LANES, LeaseUpdate, MAX_DELIVERIES, Share, ShareSnapshot, ShareTerms, SharesSnapshot,
    SharingRules, TakenShare,
};
pub use snapshot::{CursorSnapshot, EpochTotals, PartitionSnapshot, ProducerSnapshot, StreamSnapshot, SubscriptionSnapshot};
pub use start::{PartitionMove, Start, StartError};
pub use stream::{EpochSpan, Standing, Stream, StreamState, Wanted};
pub use view::{
    ConsumerView, EpochView, PartitionView, ProducerView, ShareView, StreamTotals, StreamView, SubscriptionPartitionView, SubscriptionView,
    WaitView,
};
