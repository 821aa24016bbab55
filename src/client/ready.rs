//! A batch that has come and was not handed out yet: small ones are still as they came.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow_schema::ArrowError;
use bytes::Bytes;

use super::decode::caught;
use super::plain::{SmallBatch, join};
use super::project::Shape;
use super::{Delivered, Error};
use crate::engine::{Epoch, LeaseId, Offset, PartitionId, Timestamp};

/// Most bytes of batches that are joined: whoever keeps a part keeps its neighbours in memory.
const JOINED_BYTES_MAX: u64 = 32 << 10;

/// Where a batch comes from; see [`Delivered`] for what the fields mean.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Its partition.
    pub partition: PartitionId,
    /// Its offset.
    pub offset: Offset,
    /// Its epoch.
    pub epoch: Option<Epoch>,
    /// When the coordinator took it.
    pub appended_at: Timestamp,
    /// What its producer sent along.
    pub user: Bytes,
    /// Bytes of the encoded batch.
    pub bytes: u64,
    /// The lease by which it came, if it came by one.
    pub lease: Option<LeaseId>,
}

/// Batches that were delivered one after the other, as one where they are small and plain: see
/// [`blocking::Consumer::next_joined`](super::blocking::Consumer::next_joined).
#[derive(Debug, Clone)]
pub struct Joined {
    /// The rows of all of them, in order.
    pub batch: RecordBatch,
    /// How many rows each has, and where it comes from.
    pub parts: Vec<(usize, Origin)>,
}

#[derive(Debug)]
pub(super) struct Ready {
    pub(super) origin: Origin,
    pub(super) content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    Decoded { batch: RecordBatch, is_plain: bool },
    Small(SmallBatch),
}

impl Ready {
    /// The batch by itself.
    pub(super) fn deliver(self) -> Result<Delivered, Error> {
        let (batch, is_plain) = match self.content {
            Content::Decoded { batch, is_plain } => (batch, is_plain),
            Content::Small(small) => (self.origin.decoded(&small)?, small.shape.is_as_it_is()),
        };
        let Origin { partition, offset, epoch, appended_at, user, bytes, lease } = self.origin;
        Ok(Delivered { batch, partition, offset, epoch, appended_at, user, bytes, is_plain, lease })
    }
}

impl Origin {
    /// The batch in the schema that the consumer reads.
    fn decoded(&self, small: &SmallBatch) -> Result<RecordBatch, Error> {
        let batch = checked(|| small.decode()).map_err(|reason| self.malformed(reason))?;
        self.shaped(&small.shape, batch)
    }

    /// The same of a batch that is decoded.
    pub(super) fn shaped(&self, shape: &Shape, batch: RecordBatch) -> Result<RecordBatch, Error> {
        let unfit = |reason| Error::Unfit { partition: self.partition, offset: self.offset.0, reason };
        match shape {
            Shape::AsTheyAre => Ok(batch),
            // Casts of values that nobody has looked at.
            other => caught(AssertUnwindSafe(|| other.apply(batch))).map_err(unfit),
        }
    }

    fn malformed(&self, reason: String) -> Error {
        Error::Decode { partition: self.partition, offset: self.offset.0, reason }
    }
}

/// Joins what can be joined. What comes before a batch that cannot be decoded is delivered.
pub(super) fn joined(batches: impl IntoIterator<Item = Ready>) -> (Vec<Joined>, Result<(), Error>) {
    let mut joining = Joining::default();
    let result = batches.into_iter().try_for_each(|ready| joining.add(ready)).and_then(|()| joining.end_run());
    (joining.done, result)
}

#[derive(Default)]
struct Joining {
    done: Vec<Joined>,
    /// Small ones in a row.
    run: Vec<SmallBatch>,
    origins: Vec<Origin>,
    bytes: u64,
}

impl Joining {
    fn add(&mut self, ready: Ready) -> Result<(), Error> {
        match ready.content {
            Content::Decoded { batch, .. } => {
                self.end_run()?;
                self.done.push(Joined { parts: vec![(batch.num_rows(), ready.origin)], batch });
            }
            Content::Small(small) => {
                let goes_on = self.run.last().is_none_or(|last| Arc::ptr_eq(&last.schema, &small.schema));
                if !goes_on || self.bytes + ready.origin.bytes > JOINED_BYTES_MAX {
                    self.end_run()?;
                }
                self.bytes += ready.origin.bytes;
                self.run.push(small);
                self.origins.push(ready.origin);
            }
        }
        Ok(())
    }

    fn end_run(&mut self) -> Result<(), Error> {
        self.bytes = 0;
        let (run, origins) = (std::mem::take(&mut self.run), std::mem::take(&mut self.origins));
        let joined = match run.as_slice() {
            [] => return Ok(()),
            [one] => checked(|| one.decode()),
            many => checked(|| join(many)),
        };
        let shape = run.first().map(|first| first.shape.clone()).unwrap_or_default();
        match joined.and_then(|batch| caught(AssertUnwindSafe(|| shape.apply(batch)))) {
            Ok(batch) => {
                let rows = run.iter().map(SmallBatch::rows);
                self.done.push(Joined { batch, parts: rows.zip(origins).collect() });
                Ok(())
            }
            Err(_) => self.one_by_one(run, origins),
        }
    }

    /// Somewhere in the run is one that cannot be decoded.
    fn one_by_one(&mut self, run: Vec<SmallBatch>, origins: Vec<Origin>) -> Result<(), Error> {
        for (small, origin) in run.into_iter().zip(origins) {
            let batch = origin.decoded(&small)?;
            self.done.push(Joined { parts: vec![(batch.num_rows(), origin)], batch });
        }
        Ok(())
    }
}

fn checked(decode: impl FnOnce() -> Result<RecordBatch, ArrowError>) -> Result<RecordBatch, String> {
    caught(AssertUnwindSafe(|| decode().map_err(|error| error.to_string())))
}
