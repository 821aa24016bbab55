//! A range: what one Spark task reads, batches [start, end) of one partition.

use arrow::array::RecordBatch;
use arrow_schema::SchemaRef;

use super::connections::client_of;
use super::options::Place;
use super::{Ended, Waiting};
use crate::client::blocking::Consumer;
use crate::client::{ConsumerOptions, Dialect, ReadStart};
use crate::engine::{Offset, PartitionId, StreamId};

/// Batches [start, end) of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamRange {
    /// The partition.
    pub partition: PartitionId,
    /// The first offset.
    pub start: Offset,
    /// One past the last.
    pub end: Offset,
    /// The stream that they are offsets of.
    pub stream_id: StreamId,
}

/// Reads a range, on an executor, in the schema that Spark wants.
#[derive(Debug)]
pub struct RangeReader {
    consumer: Consumer,
}

impl RangeReader {
    /// A reader that gives batches of `schema`, whatever they were appended as; see [`types::to_arrow`](super::types::to_arrow).
    ///
    /// # Errors
    /// `stream_not_found`, `stream_replaced`, and those of connecting.
    pub fn open(place: &Place, range: StreamRange, schema: SchemaRef, wait: &mut Waiting<'_>) -> Result<Self, Ended> {
        let client = client_of(place, wait)?;
        let options = ConsumerOptions {
            partitions: Some(vec![range.partition]),
            follow: false,
            start: ReadStart::Offsets([(range.partition, range.start)].into()),
            end: Some([(range.partition, range.end)].into()),
            stream_id: Some(range.stream_id),
            dialect: Dialect { schema: Some(schema), ..Dialect::default() },
            ..ConsumerOptions::default()
        };
        Ok(Self { consumer: client.consumer(&place.stream, options, wait)? })
    }

    /// The next batch that has rows; none after the last.
    ///
    /// # Errors
    /// `offset_gone` if they are not all there, `schema_mismatch` for what Spark's schema cannot hold.
    pub fn next(&mut self, wait: &mut Waiting<'_>) -> Result<Option<RecordBatch>, Ended> {
        loop {
            match self.consumer.next(wait)? {
                Some(delivered) if delivered.batch.num_rows() == 0 => {}
                Some(delivered) => return Ok(Some(delivered.batch)),
                None => return Ok(None),
            }
        }
    }

    /// Ends the read.
    ///
    /// # Errors
    /// None that matter to a reader that has read.
    pub fn close(mut self, wait: &mut Waiting<'_>) -> Result<(), Ended> {
        self.consumer.close(wait)
    }
}
