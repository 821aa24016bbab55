//! A sink: what a Spark task does with its rows, and what the driver does when all tasks are done.
//!
//! A task appends its batches as a writer of its own (epoch, task, attempt) and comes back with a receipt, or with none if its epoch is
//! committed already. The driver commits the epoch with the receipts that Spark says have won: what failed, speculative or repeated
//! attempts have staged vanishes with the commit.

use arrow::array::RecordBatch;
use bytes::Bytes;
use prost::Message;

use super::connections::{bytes_max, client_of, ensure_stream, partition_count};
use super::options::SinkOptions;
use super::pieces::Pieces;
use super::types::{self, Intervals};
use super::{Ended, Waiting};
use crate::client::blocking::{Client, EpochWriter};
use crate::client::{Error, ProducerRun, WriterId, WriterOptions};
use crate::engine::{Attempt, Code, Epoch, EpochState, Task};
use crate::shared::random;
use crate::wire::proto::Receipt;

/// A batch is cut so that it takes at most this many bytes, or a quarter of the stream's buffer.
const BATCH_BYTES_MAX: u64 = 64 << 20;

/// Whose epoch: a Spark query's id, its run's id, the micro-batch's number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochIdentity {
    /// The producer and its run.
    pub run: ProducerRun,
    /// The epoch.
    pub epoch: Epoch,
}

/// What a task has to know of its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// How many partitions it has.
    pub partitions: u32,
    /// Most bytes of a batch.
    pub batch_bytes_max: u64,
}

/// A sink on the driver.
#[derive(Debug)]
pub struct Sink {
    client: Client,
    options: SinkOptions,
}

impl Sink {
    /// Connects.
    ///
    /// # Errors
    /// Those of connecting.
    pub fn open(options: SinkOptions, wait: &mut Waiting<'_>) -> Result<Self, Ended> {
        let client = client_of(&options.place, wait)?;
        Ok(Self { client, options })
    }

    /// Creates the stream with the DataFrame's schema if need be. `schema` is Spark's, as JSON.
    ///
    /// # Errors
    /// `invalid_argument` for columns that Arrow has no types for or that the routing lacks, and those of creating a stream.
    pub fn prepare(&self, schema: &str, wait: &mut Waiting<'_>) -> Result<Target, Ended> {
        let schema = types::to_arrow(schema, Intervals::Taken)?;
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        self.options.routing.check(&names)?;
        let found = ensure_stream(&self.client, &self.options.place.stream, self.options.limits, &schema, wait)?;
        Ok(Target { partitions: partition_count(&found), batch_bytes_max: (bytes_max(&found) / 4).clamp(1, BATCH_BYTES_MAX) })
    }

    /// Makes the winners' batches visible, all at once. Repeating it changes nothing.
    ///
    /// # Errors
    /// Those of [`Client::commit_epoch`], and `invalid_argument` for bytes that are no receipt.
    pub fn commit(&self, identity: &EpochIdentity, receipts: &[Vec<u8>], wait: &mut Waiting<'_>) -> Result<EpochState, Ended> {
        let receipts = receipts
            .iter()
            .map(|bytes| Receipt::decode(bytes.as_slice()).map_err(|error| Error::invalid(format!("no receipt of a writer: {error}"))));
        let receipts = receipts.collect::<Result<Vec<_>, _>>()?;
        let client = self.client.within(self.options.context.clone());
        client.commit_epoch(&self.options.place.stream, &identity.run, identity.epoch, receipts, wait)
    }

    /// Gives back what a failed epoch has staged.
    ///
    /// # Errors
    /// Those of [`Client::abort_epoch`].
    pub fn abort(&self, identity: &EpochIdentity, wait: &mut Waiting<'_>) -> Result<EpochState, Ended> {
        self.client.abort_epoch(&self.options.place.stream, &identity.run, identity.epoch, wait)
    }
}

/// One task's attempt to write its rows, on an executor.
#[derive(Debug)]
pub struct TaskWriter {
    pieces: Pieces,
    /// None where the epoch is committed already: then nothing is sent.
    writer: Option<EpochWriter>,
}

impl TaskWriter {
    /// A writer for Spark's task of this number. It sends nothing before the first row.
    ///
    /// After the epoch was aborted it is refused, unless `reopen`: a task may come late, when its job has failed, and nobody would end
    /// what it stages. Where the epoch may be tried again within its run (a foreachBatch function that catches the failure) a late task
    /// cannot be told from the next try's, and what it stages goes with the query's next epoch.
    ///
    /// # Errors
    /// Those of connecting and of [`Client::open_epoch`].
    pub fn open(
        options: &SinkOptions,
        target: Target,
        identity: &EpochIdentity,
        task: u32,
        reopen: bool,
        wait: &mut Waiting<'_>,
    ) -> Result<Self, Ended> {
        let client = client_of(&options.place, wait)?;
        let stream = options.place.stream.as_str();
        let pieces = Pieces::new(options.routing.clone(), target, task);
        if reopen && client.open_epoch(stream, &identity.run, identity.epoch, wait)? == EpochState::AlreadyCommitted {
            return Ok(Self { pieces, writer: None });
        }
        let id = WriterId {
            producer: identity.run.producer.clone(),
            run: identity.run.run.clone(),
            epoch: identity.epoch,
            task: Task(task),
            // Spark's own attempt ids begin anew with each application, and a repeated write must not go on where a dead one has stopped.
            attempt: Attempt(random::number() >> 1),
        };
        let writing =
            WriterOptions { append_timeout: options.append_timeout, compression: options.compression, ..WriterOptions::default() };
        let writer = client.writer(stream, id, writing, wait)?;
        Ok(Self { pieces, writer: Some(writer) })
    }

    /// Appends the rows of a batch to the partitions that they belong to. It waits while other epochs' data fills the buffer.
    ///
    /// # Errors
    /// Those of [`EpochWriter::append`], and `invalid_argument` for what cannot be routed.
    pub fn append(&mut self, batch: &RecordBatch, wait: &mut Waiting<'_>) -> Result<(), Ended> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        for (partition, piece) in self.pieces.of(batch)? {
            match writer.append(&piece, Some(partition), Bytes::new(), wait) {
                Err(Ended::Failed(error)) if error.code() == Code::EpochCommitted => {
                    self.writer = None;
                    return Ok(());
                }
                appended => appended?,
            }
        }
        Ok(())
    }

    /// Waits until all is staged and gives the receipt that the commit names; none if there were no rows, or if the epoch was committed
    /// before.
    ///
    /// # Errors
    /// Those of [`EpochWriter::finish`].
    pub fn finish(&mut self, wait: &mut Waiting<'_>) -> Result<Option<Vec<u8>>, Ended> {
        let Some(writer) = &mut self.writer else { return Ok(None) };
        match writer.finish(wait) {
            Err(Ended::Failed(error)) if error.code() == Code::EpochCommitted => Ok(None),
            finished => Ok(finished?.map(|receipt| receipt.encode_to_vec())),
        }
    }
}
