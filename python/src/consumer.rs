//! Reading.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use bowstring::client::blocking;
use bowstring::client::{ConsumerOptions, Delivered, Error, ReadStart};
use bowstring::engine::{Offset, PartitionId, Start, StreamId};
use pyo3::prelude::*;

use crate::arrow_ffi::{Batches, SchemaCapsule};
use crate::errors::{Raised, duration, internal, invalid};
use crate::shared::Shared;

/// Batches, and bytes, that cross to Python together at most: the rest waits in the read-ahead.
const BATCHES_AT_ONCE: usize = 64;
const BYTES_AT_ONCE: u64 = 1 << 20;
/// Plain batches of at most so many bytes are joined before they cross, up to so many bytes together, and Python makes
/// slices: a slice costs an eighth of a crossing. Whoever keeps a slice keeps its neighbours in memory, and pickles them.
const SMALL_BYTES_MAX: u64 = 4 << 10;
const JOINED_BYTES_MAX: u64 = 32 << 10;

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

/// Where a batch is among those that cross: the index, the first row and the number of rows. Then its partition, offset,
/// epoch and append time (microseconds since the Unix epoch).
type Facts = (usize, usize, usize, u32, u64, Option<u64>, u64);

/// What crosses: small batches joined.
struct Crossing {
    batches: Vec<RecordBatch>,
    facts: Vec<Facts>,
}

impl Crossing {
    fn new(taken: Vec<Delivered>) -> Result<Self, Raised> {
        let mut crossing = Self { batches: Vec::new(), facts: Vec::with_capacity(taken.len()) };
        let (mut run, mut rows, mut bytes) = (Vec::new(), 0, 0);
        for one in taken {
            let is_small = one.is_plain && one.bytes <= SMALL_BYTES_MAX;
            if !is_small || bytes + one.bytes > JOINED_BYTES_MAX {
                crossing.end(&mut run)?;
            }
            if run.is_empty() {
                (rows, bytes) = (0, 0);
            }
            let here = one.batch.num_rows();
            let index = crossing.batches.len();
            crossing.facts.push((index, rows, here, one.partition.0, one.offset.0, one.epoch.map(|epoch| epoch.0), one.appended_at.0));
            rows += here;
            bytes += one.bytes;
            run.push(one.batch);
            if !is_small {
                crossing.end(&mut run)?;
            }
        }
        crossing.end(&mut run)?;
        Ok(crossing)
    }

    /// Joins the batches of a run. Plain ones of a few KiB can always be joined.
    fn end(&mut self, run: &mut Vec<RecordBatch>) -> Result<(), Raised> {
        let joined = match run.as_slice() {
            [] => return Ok(()),
            [_] => run.swap_remove(0),
            many => concat_batches(&many[0].schema(), many).map_err(|error| Raised::Python(internal(error)))?,
        };
        run.clear();
        self.batches.push(joined);
        Ok(())
    }
}

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
        let mut bytes = first.bytes;
        let mut taken = vec![first];
        while taken.len() < BATCHES_AT_ONCE && bytes < BYTES_AT_ONCE {
            match self.consumer.try_next() {
                Ok(Some(delivered)) => {
                    bytes += delivered.bytes;
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
        let Crossing { batches, facts } = self.0.wait_in_turns(py, timeout, |reading, wait| reading.take(wait).and_then(Crossing::new))?;
        let Some(schema) = batches.first().map(RecordBatch::schema) else { return Ok(None) };
        Ok(Some((Batches::new(schema, batches), facts)))
    }

    /// The stream's schema as soon as it has one; none if it ended without.
    #[pyo3(signature = (timeout=None))]
    fn schema(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<SchemaCapsule>> {
        self.0.wait_in_turns(py, timeout, |reading, wait| reading.consumer.schema(wait)).map(|schema| schema.map(SchemaCapsule))
    }

    /// Done with all batches of the partition before `offset`. Returns at once.
    fn ack(&self, py: Python<'_>, partition: u32, offset: u64) -> PyResult<()> {
        self.0.with_gil(py, |reading| reading.consumer.ack(PartitionId(partition), Offset(offset)))
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
