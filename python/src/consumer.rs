//! Reading.

use bowstring::client::blocking;
use bowstring::client::{ConsumerOptions, Delivered, Error, ReadStart};
use bowstring::engine::{Offset, PartitionId, Start, StreamId};
use pyo3::prelude::*;

use crate::arrow_ffi::{Batches, SchemaCapsule};
use crate::errors::{Raised, duration, invalid};
use crate::shared::Shared;

/// Batches, and bytes, that cross to Python together at most: the rest waits in the read-ahead.
const BATCHES_AT_ONCE: usize = 64;
const BYTES_AT_ONCE: usize = 1 << 20;

/// What Python may ask for; see `bowstring.client.Client.iterator` for what the fields mean.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct ConsumerArguments {
    subscription: Option<String>,
    partitions: Option<Vec<u32>>,
    follow: bool,
    start: String,
    offsets: Option<std::collections::BTreeMap<u32, u64>>,
    end: Option<std::collections::BTreeMap<u32, u64>>,
    stream_id: Option<u64>,
    prefetch_batches: usize,
    prefetch_bytes: u64,
    stream_wait: f64,
}

impl ConsumerArguments {
    pub(crate) fn options(self) -> PyResult<ConsumerOptions> {
        let offsets =
            |offsets: std::collections::BTreeMap<u32, u64>| offsets.into_iter().map(|(p, o)| (PartitionId(p), Offset(o))).collect();
        let start = match self.offsets {
            Some(given) => ReadStart::Offsets(offsets(given)),
            None => ReadStart::Cursor(start(&self.start)?),
        };
        Ok(ConsumerOptions {
            subscription: self.subscription,
            partitions: self.partitions.map(|partitions| partitions.into_iter().map(PartitionId).collect()),
            follow: self.follow,
            start,
            end: self.end.map(offsets),
            stream_id: self.stream_id.map(StreamId),
            prefetch_batches: self.prefetch_batches,
            prefetch_bytes: self.prefetch_bytes,
            stream_wait: duration("stream_wait", self.stream_wait)?,
        })
    }
}

pub(crate) fn start(text: &str) -> PyResult<Start> {
    match text {
        "earliest" => Ok(Start::Earliest),
        "latest" => Ok(Start::Latest),
        other => Err(invalid(&format!("start is \"earliest\" or \"latest\", not {other:?}"))),
    }
}

/// Partition, offset, epoch and append time (microseconds since the Unix epoch) of a batch.
type Facts = (u32, u64, Option<u64>, u64);

/// A consumer.
#[pyclass(module = "bowstring._native", frozen)]
pub(crate) struct Consumer(Shared<Reading>);

struct Reading {
    consumer: blocking::Consumer,
    /// Met after batches that had to be handed over first.
    pending: Option<Error>,
}

impl Consumer {
    pub(crate) fn new(consumer: blocking::Consumer) -> Self {
        Self(Shared::new(Reading { consumer, pending: None }))
    }
}

impl Reading {
    /// The next batch, and those behind it that are there already.
    fn take(&mut self, wait: &mut blocking::Wait<'_, Raised>) -> Result<Vec<Delivered>, Raised> {
        if let Some(error) = self.pending.take() {
            return Err(error.into());
        }
        let Some(first) = self.consumer.next(wait)? else { return Ok(Vec::new()) };
        let mut bytes = first.batch.get_array_memory_size();
        let mut taken = vec![first];
        while taken.len() < BATCHES_AT_ONCE && bytes < BYTES_AT_ONCE {
            match self.consumer.try_next() {
                Ok(Some(delivered)) => {
                    bytes += delivered.batch.get_array_memory_size();
                    taken.push(delivered);
                }
                Ok(None) => break,
                Err(error) => {
                    self.pending = Some(error);
                    break;
                }
            }
        }
        Ok(taken)
    }
}

#[pymethods]
impl Consumer {
    /// The stream's id.
    #[getter]
    fn stream_id(&self, py: Python<'_>) -> PyResult<u64> {
        self.0.with(py, |reading| reading.consumer.stream_id()).map(|id| id.0)
    }

    /// The partitions that are read.
    #[getter]
    fn partitions(&self, py: Python<'_>) -> PyResult<Vec<u32>> {
        let partitions = self.0.with(py, |reading| reading.consumer.partitions().map(<[PartitionId]>::to_vec))?;
        Ok(partitions.iter().map(|partition| partition.0).collect())
    }

    /// Waits for the next batch; gives it and those behind it that are there already, with their facts. None at
    /// the end of the stream.
    #[pyo3(signature = (timeout=None))]
    fn take(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<(Batches, Vec<Facts>)>> {
        let taken = self.0.wait_in_turns(py, timeout, Reading::take)?;
        let Some(first) = taken.first() else { return Ok(None) };
        let schema = first.batch.schema();
        let facts = taken.iter().map(|one| (one.partition.0, one.offset.0, one.epoch.map(|epoch| epoch.0), one.appended_at.0)).collect();
        Ok(Some((Batches::new(schema, taken.into_iter().map(|one| one.batch).collect()), facts)))
    }

    /// The stream's schema as soon as it has one; none if it ended without.
    #[pyo3(signature = (timeout=None))]
    fn schema(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<SchemaCapsule>> {
        self.0.wait_in_turns(py, timeout, |reading, wait| reading.consumer.schema(wait)).map(|schema| schema.map(SchemaCapsule))
    }

    /// Done with all batches of the partition before `offset`. Returns at once.
    fn ack(&self, py: Python<'_>, partition: u32, offset: u64) -> PyResult<()> {
        self.0.with(py, |reading| reading.consumer.ack(PartitionId(partition), Offset(offset)))
    }

    /// Waits until all acks so far are confirmed.
    #[pyo3(signature = (timeout=None))]
    fn flush_acks(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        self.0.wait_in_turns(py, timeout, |reading, wait| reading.consumer.flush_acks(wait))
    }

    /// Flushes the acks and ends reading.
    #[pyo3(signature = (timeout=None))]
    fn close(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        self.0.wait(py, timeout, |reading, wait| reading.consumer.close(wait))
    }
}
