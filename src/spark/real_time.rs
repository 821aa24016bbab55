//! Rows that go out as they come, for Spark's Real-time Mode, in which a batch lasts for minutes.
//!
//! Its batches cannot be epochs. Nothing of an epoch is visible before its end; and a batch that Spark runs again begins where it began,
//! but may end elsewhere, so that dropping a repetition would drop rows. So each task appends as a producer of its own, whose batches are
//! visible as they arrive. What a batch has appended before it failed comes again: at least once.

use arrow::array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::Bytes;

use super::connections::client_of;
use super::options::SinkOptions;
use super::pieces::Pieces;
use super::sink::Target;
use super::{Ended, Waiting};
use crate::client::blocking::Producer;
use crate::client::{Error, ProducerOptions};

/// One task's attempt to write its rows, on an executor.
#[derive(Debug)]
pub struct RealTimeWriter {
    producer: Producer,
    pieces: Pieces,
    /// What has been refused is not sent again, so that nothing may be taken for stored from then on.
    failed: Option<Error>,
}

impl RealTimeWriter {
    /// A writer for the task of this number of `query`, as the producer `<query>-<task>`. When this returns, older attempts of the task,
    /// of this run of the query and of those before, are fenced.
    ///
    /// # Errors
    /// Those of connecting and of [`Producer::opened`].
    pub fn open(
        options: &SinkOptions,
        target: Target,
        query: &str,
        task: u32,
        schema: SchemaRef,
        wait: &mut Waiting<'_>,
    ) -> Result<Self, Ended> {
        let producing = ProducerOptions {
            producer: Some(format!("{query}-{task}")),
            schema: Some(schema),
            append_timeout: options.append_timeout,
            compression: options.compression,
            ..ProducerOptions::default()
        };
        let mut producer = client_of(&options.place, wait)?.producer(&options.place.stream, producing, wait)?;
        producer.opened(wait)?;
        Ok(Self { producer, pieces: Pieces::new(options.routing.clone(), target, task), failed: None })
    }

    /// Hands the rows of a batch over to the partitions that they belong to. It waits while as much as the producer's window holds is on
    /// its way.
    ///
    /// # Errors
    /// Those of [`Producer::append`], about this batch or an earlier one, and `invalid_argument` for what cannot be routed. From then on
    /// everything fails.
    pub fn append(&mut self, batch: &RecordBatch, wait: &mut Waiting<'_>) -> Result<(), Ended> {
        self.unless_failed(|writer| {
            for (partition, piece) in writer.pieces.of(batch)? {
                writer.producer.append(&piece, Some(partition), Bytes::new(), wait)?;
            }
            Ok(())
        })
    }

    /// Whether all is stored that was appended; it does not wait for it.
    ///
    /// # Errors
    /// As [`RealTimeWriter::append`].
    pub fn is_stored(&mut self) -> Result<bool, Ended> {
        self.unless_failed(|writer| Ok(writer.producer.try_flush()?))
    }

    /// Waits until all is stored, and ends the connection.
    ///
    /// # Errors
    /// As [`RealTimeWriter::append`].
    pub fn finish(&mut self, wait: &mut Waiting<'_>) -> Result<(), Ended> {
        self.unless_failed(|writer| writer.producer.close(wait))
    }

    fn unless_failed<T>(&mut self, step: impl FnOnce(&mut Self) -> Result<T, Ended>) -> Result<T, Ended> {
        if let Some(error) = &self.failed {
            return Err(Ended::Failed(error.clone()));
        }
        let done = step(self);
        self.failed = match &done {
            Ok(_) => None,
            Err(Ended::Failed(error)) => Some(error.clone()),
            Err(Ended::Cancelled) => Some(Error::invalid("a step of this writer was interrupted; write its rows again with another one")),
        };
        done
    }
}
