//! A batch that has come and was not handed out yet: small ones are still as they came.

use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::Bytes;

use super::assemble::{assembled, checked, sliced};
use super::compact::memory_bytes;
use super::decode::caught;
use super::in_flight::{End, Unacked};
use super::plain::{SmallBatch, join};
use super::project::Shape;
use super::{Delivered, Error};
use crate::engine::{Epoch, Generation, LeaseId, Offset, PartitionId, Timestamp};

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
    /// Batches that were dropped before it.
    pub skipped: u64,
    /// The first offset whose rows it has.
    pub first_offset: Offset,
    /// Which rows, of one that was cut.
    pub slice: Option<Slice>,
    /// Of a read by epoch: whose epoch.
    pub producer: Option<Arc<str>>,
    /// Of a read by epoch: whether the epoch is complete with it.
    pub epoch_end: bool,
    /// Which delivery of these rows it is, 1 for the first; more only of a shared subscription.
    pub delivery: u32,
    /// Where it is in its epoch's trace, as the header `traceparent` of W3C Trace Context; none if the coordinator does not trace it.
    pub traceparent: Option<Arc<str>>,
}

/// Some rows of a batch that was cut, since it was larger than the consumer asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// Which rows.
    pub rows: Range<u64>,
    /// How many the batch has.
    pub of: u64,
}

impl Slice {
    /// Whether no rows of the batch come after these.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.rows.end == self.of
    }

    pub(super) fn range(&self) -> Range<usize> {
        let index = |row: u64| usize::try_from(row).unwrap_or(usize::MAX);
        index(self.rows.start)..index(self.rows.end)
    }
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
    Decoded {
        batch: RecordBatch,
        is_plain: bool,
    },
    Small(SmallBatch),
    /// To be put together.
    Run(Vec<Ready>),
    /// To be cut.
    Cut {
        content: Box<Content>,
        parts: u64,
    },
    /// The rows that the origin says, to be copied.
    Slice {
        batch: Arc<RecordBatch>,
        is_plain: bool,
    },
    /// What is wrong with it.
    Undecodable(Error),
}

impl Content {
    /// The batch in the schema that the consumer reads, and whether it is plain.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn decoded(self, origin: &Origin) -> Result<(RecordBatch, bool), Error> {
        match self {
            Self::Decoded { batch, is_plain } => Ok((batch, is_plain)),
            Self::Small(small) => Ok((origin.decoded(&small)?, small.shape.is_as_it_is())),
            Self::Undecodable(error) => Err(error),
            Self::Run(_) | Self::Cut { .. } | Self::Slice { .. } => Err(origin.malformed("it was not assembled".to_owned())),
        }
    }

    fn rows(&self) -> u64 {
        match self {
            Self::Decoded { batch, .. } => batch.num_rows() as u64,
            Self::Small(small) => small.rows() as u64,
            Self::Run(run) => run.iter().map(Ready::rows).sum(),
            Self::Cut { content, .. } => content.rows(),
            Self::Slice { batch, .. } => batch.num_rows() as u64,
            Self::Undecodable(_) => 0,
        }
    }
}

impl Ready {
    pub(super) fn rows(&self) -> u64 {
        self.content.rows()
    }

    /// Bytes that its arrays have in memory.
    pub(super) fn memory_bytes(&self) -> u64 {
        match &self.content {
            Content::Decoded { batch, .. } => memory_bytes(batch),
            Content::Small(small) => small.body.len() as u64,
            _ => self.origin.bytes,
        }
    }

    pub(super) fn schema(&self) -> Option<SchemaRef> {
        match &self.content {
            Content::Decoded { batch, .. } => Some(batch.schema()),
            Content::Small(small) => Some(small.shape.pinned().unwrap_or(&small.schema).clone()),
            _ => None,
        }
    }

    /// Batches of one partition that are to become one; at least one.
    pub(super) fn run(run: Vec<Self>) -> Option<Self> {
        let origins: Vec<_> = run.iter().map(|ready| ready.origin.clone()).collect();
        Some(Self { origin: Origin::of_all(&origins)?, content: Content::Run(run) })
    }

    /// The same, to be cut in so many parts.
    pub(super) fn cut(self, parts: u64) -> Self {
        Self { origin: self.origin, content: Content::Cut { content: Box::new(self.content), parts } }
    }

    /// Whether something is to be done before it can be handed out.
    pub(super) fn is_to_assemble(&self) -> bool {
        matches!(self.content, Content::Run(_) | Content::Cut { .. })
    }

    /// Says anew whether the epoch is complete with it.
    pub(super) fn set_epoch_end(&mut self, epoch_end: bool) {
        self.origin.epoch_end = epoch_end;
        if let Content::Run(run) = &mut self.content {
            run.iter_mut().for_each(|ready| ready.origin.epoch_end = false);
            run.iter_mut().next_back().into_iter().for_each(|last| last.origin.epoch_end = epoch_end);
        }
    }

    /// Bytes of the batch, or of the largest part of one that is to be cut.
    pub(super) fn bytes_at_once(&self) -> u64 {
        match self.content {
            Content::Cut { parts, .. } => self.origin.bytes.div_ceil(parts),
            _ => self.origin.bytes,
        }
    }

    /// The batch by itself.
    pub(super) fn deliver(self, unacked: Unacked) -> Result<Delivered, Error> {
        let (batch, is_plain) = match self.content {
            Content::Slice { batch, is_plain } => (sliced(&batch, &self.origin)?, is_plain),
            content => content.decoded(&self.origin)?,
        };
        let Origin {
            partition,
            offset,
            epoch,
            appended_at,
            user,
            bytes,
            lease,
            skipped,
            first_offset,
            slice,
            producer,
            epoch_end,
            delivery,
            traceparent,
        } = self.origin;
        Ok(Delivered {
            batch,
            partition,
            offset,
            epoch,
            appended_at,
            user,
            bytes,
            is_plain,
            lease,
            skipped,
            first_offset,
            slice,
            producer,
            epoch_end,
            delivery,
            traceparent,
            unacked,
        })
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

    /// Where the batch ends.
    pub(super) fn end(&self) -> End {
        match &self.slice {
            Some(slice) if !slice.is_last() => End { offset: self.offset, rows: slice.rows.end },
            _ => End { offset: self.offset.plus(1), rows: 0 },
        }
    }

    /// What names the batch to who acks it.
    pub(super) fn unacked(&self, generation: Option<Generation>) -> Unacked {
        Unacked { partition: self.partition, end: self.end(), generation, lease: self.lease }
    }

    /// That of batches that follow each other, put together; none of none.
    pub(super) fn of_all(origins: &[Self]) -> Option<Self> {
        let (first, last) = (origins.first()?, origins.last()?);
        let bytes = origins.iter().map(|origin| origin.bytes).sum();
        let appended_at = origins.iter().map(|origin| origin.appended_at).min()?;
        let skipped = origins.iter().map(|origin| origin.skipped).sum();
        Some(Self { bytes, appended_at, skipped, first_offset: first.first_offset, ..last.clone() })
    }

    /// That of some of its rows.
    pub(super) fn part(&self, slice: Slice) -> Self {
        let before = |rows: u64| u64::try_from(u128::from(self.bytes) * u128::from(rows) / u128::from(slice.of.max(1))).unwrap_or(0);
        let bytes = before(slice.rows.end) - before(slice.rows.start);
        // The first one tells of the gap.
        let skipped = if slice.rows.start == 0 { self.skipped } else { 0 };
        Self { bytes, skipped, epoch_end: self.epoch_end && slice.is_last(), slice: Some(slice), ..self.clone() }
    }

    pub(super) fn malformed(&self, reason: String) -> Error {
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
            Content::Slice { batch, .. } => {
                self.end_run()?;
                let batch = sliced(&batch, &ready.origin)?;
                self.done.push(Joined { parts: vec![(batch.num_rows(), ready.origin)], batch });
            }
            Content::Undecodable(error) => {
                self.end_run()?;
                return Err(error);
            }
            content @ (Content::Run(_) | Content::Cut { .. }) => {
                self.end_run()?;
                assembled(Ready { origin: ready.origin, content }).into_iter().try_for_each(|ready| self.add(ready))?;
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
