//! Reading.

use std::sync::Arc;

use arrow::datatypes::TimeUnit;
use bowstring::client::blocking;
use bowstring::client::{Acker, ConsumerOptions, Dialect, Error, Joined, Origin, ReadStart, Sharing, Unacked};
use bowstring::engine::{Generation, LeaseId, ModeError, Offset, PartitionId, Start, StartError, StreamId, SubscriptionMode};
use pyo3::prelude::*;

use crate::arrow_ffi::{self, Batches, SchemaCapsule};
use crate::errors::{Raised, duration, invalid};
use crate::shared::Shared;

/// Batches, and bytes, that cross to Python together at most: the rest waits in the read-ahead.
const BATCHES_AT_ONCE: usize = 64;
const BYTES_AT_ONCE: u64 = 1 << 20;
/// What Python may ask for; see `bowstring.client.Client.iterator` for what the fields mean.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct ConsumerArguments<'py> {
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
    consumer: Option<String>,
    mode: Option<String>,
    lease: f64,
    sharing: Option<SharingArguments>,
    query: Option<String>,
    ack_within: f64,
    max_rows: Option<u64>,
    dialect: DialectArguments<'py>,
    target_rows: Option<u64>,
    target_bytes: Option<u64>,
    linger: f64,
    max_in_flight_batches: Option<u64>,
    max_in_flight_bytes: Option<u64>,
    by_epoch: bool,
}

/// See `bowstring.Sharing`.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct SharingArguments {
    max_deliveries: Option<u32>,
    bisect: bool,
    dead_letters: Option<String>,
    keys: Vec<String>,
}

impl From<SharingArguments> for Sharing {
    fn from(SharingArguments { max_deliveries, bisect, dead_letters, keys }: SharingArguments) -> Self {
        Self { max_deliveries, bisect, dead_letters, keys }
    }
}

/// See `bowstring.dialect`.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct DialectArguments<'py> {
    schema: Option<Bound<'py, PyAny>>,
    aliases: std::collections::BTreeMap<String, Vec<String>>,
    strings: Option<String>,
    time_zone: Option<String>,
    time_unit: Option<String>,
}

impl DialectArguments<'_> {
    fn dialect(self) -> PyResult<Dialect> {
        let strings = |name: String| name.parse().map_err(|error| PyErr::from(Raised::from(error)));
        Ok(Dialect {
            schema: self.schema.map(|schema| arrow_ffi::schema(&schema).map(Arc::new)).transpose()?,
            aliases: self.aliases,
            strings: self.strings.map(strings).transpose()?,
            time_zone: self.time_zone.map(Into::into),
            time_unit: self.time_unit.as_deref().map(time_unit).transpose()?,
        })
    }
}

fn time_unit(name: &str) -> PyResult<TimeUnit> {
    match name {
        "s" => Ok(TimeUnit::Second),
        "ms" => Ok(TimeUnit::Millisecond),
        "us" => Ok(TimeUnit::Microsecond),
        "ns" => Ok(TimeUnit::Nanosecond),
        other => Err(invalid(&format!("time_unit is {other:?}; use \"s\", \"ms\", \"us\" or \"ns\""))),
    }
}

impl ConsumerArguments<'_> {
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
            consumer: self.consumer,
            mode: self.mode.as_deref().map(mode).transpose()?,
            lease: duration("lease", self.lease)?,
            sharing: self.sharing.map(Into::into),
            query: self.query,
            ack_within: duration("ack_within", self.ack_within)?,
            max_rows: self.max_rows,
            dialect: self.dialect.dialect()?,
            target_rows: self.target_rows,
            target_bytes: self.target_bytes,
            linger: duration("linger", self.linger)?,
            max_in_flight_batches: self.max_in_flight_batches,
            max_in_flight_bytes: self.max_in_flight_bytes,
            by_epoch: self.by_epoch,
            ..ConsumerOptions::default()
        })
    }
}

/// How the consumers of a subscription divide its batches.
pub(crate) fn mode(name: &str) -> PyResult<SubscriptionMode> {
    name.parse().map_err(|error: ModeError| invalid(&error.to_string()))
}

pub(crate) fn start(text: &str) -> PyResult<Start> {
    text.parse().map_err(|error: StartError| invalid(&error.to_string()))
}

/// Of a batch that was put together or is a part of one: its first offset, what to ack (an offset, and rows of it), and its rows
/// of the last offset (first, and one past the last), which are 0 and 0 if it is no part.
type Extent = (u64, u64, u64, u64, u64);

/// Where a batch comes from: partition, offset, epoch, append time (microseconds since the Unix epoch), what is unusual, and of a
/// read by epoch whose epoch it is (empty if it came without one) and whether that is complete with it; how many batches were
/// dropped before; the lease by which it came, if by one; which delivery of it this is; and where it is in its epoch's trace.
type Facts = (u32, u64, Option<u64>, u64, Option<Extent>, Option<(String, bool)>, u64, Option<u64>, u32, Option<String>);

/// What to ack to be done with a batch: its partition, an offset, rows of that, and the lease by which it came.
type End = (u32, u64, u64, Option<u64>);

/// What crosses: batches, small ones joined; of how many each is made; of each of those the rows and where it comes from; and which
/// of the subscription's cursors all of them were read for, another one after a seek.
type Crossing = (Batches, Vec<usize>, Vec<usize>, Vec<Facts>, Option<u64>);

/// A consumer, its acks, and whether it reads by epoch.
#[pyclass(module = "bowstring._native", frozen)]
pub(crate) struct Consumer(Shared<blocking::Consumer>, blocking::Acker, bool);

impl Consumer {
    pub(crate) fn new(mut consumer: blocking::Consumer, by_epoch: bool) -> Result<Self, Error> {
        let acker = consumer.acker()?;
        Ok(Self(Shared::new(consumer), acker, by_epoch))
    }

    fn acker(&self) -> PyResult<&Acker> {
        self.1.get().map_err(raised)
    }
}

fn raised(error: Error) -> PyErr {
    PyErr::from(Raised::from(error))
}

/// None if there is nothing. Of what is joined Python makes slices, which cost an eighth of a crossing; whoever keeps a slice
/// keeps its neighbours in memory, and pickles them.
fn crossing(joined: Vec<Joined>, generation: Option<Generation>, by_epoch: bool) -> Option<Crossing> {
    let schema = joined.first()?.batch.schema();
    let counts = joined.iter().map(|joined| joined.parts.len()).collect();
    let (mut batches, mut rows, mut facts) = (Vec::with_capacity(joined.len()), Vec::new(), Vec::new());
    for Joined { batch, parts } in joined {
        batches.push(batch);
        for (size, origin) in parts {
            rows.push(size);
            let of_epoch = by_epoch.then(|| (origin.producer.as_deref().unwrap_or_default().to_owned(), origin.epoch_end));
            let extent = extent(&origin);
            let Origin { partition, offset, epoch, appended_at, skipped, lease, delivery, traceparent, .. } = origin;
            let (epoch, lease) = (epoch.map(|epoch| epoch.0), lease.map(|lease| lease.0));
            let traceparent = traceparent.map(|traceparent| traceparent.to_string());
            facts.push((partition.0, offset.0, epoch, appended_at.0, extent, of_epoch, skipped, lease, delivery, traceparent));
        }
    }
    Some((Batches::new(schema, batches), counts, rows, facts, generation.map(|generation| generation.0)))
}

fn extent(origin: &Origin) -> Option<Extent> {
    let Origin { offset, first_offset, .. } = *origin;
    match &origin.slice {
        Some(slice) => {
            let (offset, rows) = if slice.is_last() { (offset.0 + 1, 0) } else { (offset.0, slice.rows.end) };
            Some((first_offset.0, offset, rows, slice.rows.start, slice.rows.end))
        }
        None => (first_offset != offset).then_some((first_offset.0, offset.0 + 1, 0, 0, 0)),
    }
}

#[pymethods]
impl Consumer {
    /// The stream's id.
    #[getter]
    fn stream_id(&self, py: Python<'_>) -> PyResult<u64> {
        self.0.with(py, |consumer| consumer.stream_id()).map(|id| id.0)
    }

    /// The partitions that are read.
    #[getter]
    fn partitions(&self, py: Python<'_>) -> PyResult<Vec<u32>> {
        let partitions = self.0.with(py, |consumer| consumer.partitions())?;
        Ok(partitions.iter().map(|partition| partition.0).collect())
    }

    /// Whether nothing more comes, whatever is acked.
    #[getter]
    fn has_ended(&self, py: Python<'_>) -> PyResult<bool> {
        self.0.with(py, |consumer| consumer.has_ended())
    }

    /// Waits for the next batch; gives it and those behind it that are there already, with their facts. None at
    /// the end of the stream, and while nothing comes before what was given is acked.
    #[pyo3(signature = (timeout=None))]
    fn take(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Crossing>> {
        let (joined, generation) = self.0.wait_in_turns(py, timeout, |consumer, wait| {
            let joined = consumer.next_joined(BATCHES_AT_ONCE, BYTES_AT_ONCE, wait)?;
            Ok((joined, consumer.generation()?))
        })?;
        Ok(crossing(joined, generation, self.2))
    }

    /// The stream's schema as soon as it has one; none if it ended without.
    #[pyo3(signature = (timeout=None))]
    fn schema(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<SchemaCapsule>> {
        self.0.wait_in_turns(py, timeout, |consumer, wait| consumer.schema(wait)).map(|schema| schema.map(SchemaCapsule))
    }

    /// Done with the batch that ends there and all of its partition before it, if it was read for `generation`. Returns at once, whoever
    /// waits for the next batch meanwhile.
    fn ack_through(&self, end: End, generation: Option<u64>) -> PyResult<()> {
        self.acker()?.ack_through(&unacked(end, generation)).map_err(raised)
    }

    /// The same for that batch alone.
    fn ack_one(&self, end: End, generation: Option<u64>) -> PyResult<()> {
        self.acker()?.ack_one(&unacked(end, generation)).map_err(raised)
    }

    /// The same for several batches together.
    fn ack_each(&self, ends: Vec<End>, generation: Option<u64>) -> PyResult<()> {
        let each: Vec<_> = ends.into_iter().map(|end| unacked(end, generation)).collect();
        self.acker()?.ack_each(&each).map_err(raised)
    }

    /// Whether its subscription is shared.
    #[getter]
    fn is_shared(&self) -> PyResult<bool> {
        Ok(self.acker()?.is_shared())
    }

    /// The batch comes again, to anybody, not before `delay` seconds.
    fn nack(&self, end: End, delay: f64, reason: &str) -> PyResult<()> {
        self.acker()?.nack(&unacked(end, None), duration("delay", delay)?, reason).map_err(raised)
    }

    /// The caller has the batch for `lasts` seconds from now on.
    fn renew(&self, end: End, lasts: f64) -> PyResult<()> {
        self.acker()?.renew(&unacked(end, None), duration("lasts", lasts)?).map_err(raised)
    }

    /// The batch goes to anybody, and that is no failure.
    fn release(&self, end: End) -> PyResult<()> {
        self.acker()?.release(&unacked(end, None)).map_err(raised)
    }

    /// Waits until all acks so far are confirmed.
    #[pyo3(signature = (timeout=None))]
    fn flush_acks(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        self.0.wait_in_turns(py, timeout, |consumer, wait| consumer.flush_acks(wait))
    }

    /// Flushes the acks and ends reading.
    #[pyo3(signature = (timeout=None))]
    fn close(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        self.0.wait(py, timeout, |consumer, wait| consumer.close(wait))
    }
}

fn unacked((partition, offset, rows, lease): End, generation: Option<u64>) -> Unacked {
    Unacked::new(PartitionId(partition), Offset(offset), rows, generation.map(Generation), lease.map(LeaseId))
}
