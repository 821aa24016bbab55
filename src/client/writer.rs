//! A writer: one task attempt within an epoch. What it appends becomes visible when the epoch's commit names its receipt.

use arrow::array::RecordBatch;
use bytes::Bytes;

use super::appends::{AppendSettings, Appends};
use super::{Client, Error, WriterId, WriterOptions};
use crate::engine::PartitionId;
use crate::wire::batch::EncodedBatch;
use crate::wire::command::PutCommand;
use crate::wire::proto::Receipt;
use crate::wire::schema::StreamSchema;

/// Appends a task attempt's batches to an epoch. Resumes after a break without loss or duplicates.
///
/// What the coordinator refuses ends the writer for good: only a new attempt of the task can go on.
///
/// Dropping it without [`EpochWriter::finish`] leaves what was staged to the epoch's end: no commit can name it.
#[derive(Debug)]
pub struct EpochWriter {
    pub(super) appends: Appends,
}

impl EpochWriter {
    pub(super) fn new(client: Client, stream: &str, id: WriterId, options: WriterOptions) -> Result<Self, Error> {
        let command = PutCommand {
            stream: stream.to_owned(),
            producer: Some(id.producer),
            run: Some(id.run),
            epoch: Some(id.epoch.0),
            task: Some(id.task.0),
            attempt: Some(id.attempt.0),
            ..PutCommand::default()
        };
        let settings = AppendSettings {
            partition: options.partition,
            schema: options.schema,
            window_batches: options.window_batches,
            window_bytes: options.window_bytes,
            append_timeout: options.append_timeout,
            keep_alive: None,
            compression: options.compression,
        };
        Ok(Self { appends: Appends::new(client, command, settings)? })
    }

    /// Hands over a batch: returns when it is in the window.
    ///
    /// # Errors
    /// `spool_full`, `fenced`, `epoch_not_open`, and those of [`Producer::append`](super::Producer::append).
    ///
    /// # Cancel safety
    /// Dropped before it returns, the batch is not appended.
    pub async fn append(&mut self, batch: &RecordBatch, partition: Option<PartitionId>, user: Bytes) -> Result<(), Error> {
        let entry = self.appends.encode(batch, partition, user)?;
        self.appends.admit(entry).await
    }

    /// Hands over a batch that is encoded already, as it is.
    ///
    /// # Errors
    /// As [`EpochWriter::append`].
    ///
    /// # Cancel safety
    /// Dropped before it returns, the batch is not appended.
    pub async fn append_encoded(
        &mut self,
        schema: &StreamSchema,
        batch: EncodedBatch,
        partition: Option<PartitionId>,
    ) -> Result<(), Error> {
        let entry = self.appends.take_encoded(schema, batch, partition)?;
        self.appends.admit(entry).await
    }

    /// Whether the coordinator has said that the epoch is committed already: then what is appended is dropped.
    #[must_use]
    pub fn is_unneeded(&self) -> bool {
        self.appends.is_unneeded()
    }

    /// Waits until all is staged and gives the receipt that the epoch's commit names. None if there is nothing to
    /// name: no batch was appended, or the epoch is committed already.
    ///
    /// # Errors
    /// As [`EpochWriter::append`].
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn finish(&mut self) -> Result<Option<Receipt>, Error> {
        if !self.appends.close() {
            return Ok(None);
        }
        self.appends.finished().await
    }
}
