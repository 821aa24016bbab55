//! The reading loop: one `DoGet`, from a ticket to framed batches.

mod by_epoch;
mod ending;
mod leased;
mod load;
mod range;
mod schemas;
mod slow;
mod unanswered;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use async_stream::try_stream;
use bytes::Bytes;
use futures::Stream;

use self::by_epoch::ByEpoch;
use self::ending::{Ending, stream_failed};
use self::leased::Leases;
use self::range::{Range, range, reads_for};
use self::schemas::Told;
use super::access::Usage;
use super::cell::{ReaderName, StreamCell, Watch};
use super::coordinator::Coordinator;
use super::error::Error;
use super::queries::Asking;
use super::shared::{Link, ReadLink, SharedPlace};
use super::trace::Delivering;
use crate::engine::{Batch, Code, Command, Generation, LeaseId, PartitionId, StreamState, SubscriptionName, Visibility};
use crate::storage::{StorageError, StoredBatch};
use crate::wire::batch::EncodedBatch;
use crate::wire::command::GetTarget;
use crate::wire::dictionary::DictionarySet;
use crate::wire::error::WireError;
use crate::wire::frame::FrameWriter;
use crate::wire::ipc::Body;
use crate::wire::metadata::BatchMetadata;
use crate::wire::proto::LeasedShare;
use crate::zoo::{self, Bug};

/// Most batches, and bytes of batches, that are taken out of a partition at a time. They are held until the
/// consumer's connection has taken them: a reader's share of memory beyond the stream's limits.
const BATCHES_AT_ONCE: usize = 64;
const BYTES_AT_ONCE: u64 = 8 << 20;

/// Serves one `DoGet` of `peer`, which has what `usage` says of its quota: the chunks of its response, which is driven by whoever asks for them. A consumer that
/// stops reading holds up nobody but itself.
///
/// # Errors
/// Before the first chunk: what is wrong with the ticket. After: why the stream cannot go on; everything that
/// was visible before has been sent by then.
pub(super) fn get(
    coordinator: Arc<Coordinator>,
    target: &GetTarget,
    peer: String,
    usage: Option<Arc<Usage>>,
    frames: FrameWriter,
) -> Result<impl Stream<Item = Result<Bytes, Error>> + use<>, Error> {
    coordinator.check_running()?;
    let mut reading = Reading { usage, ..Reading::open(coordinator, target, peer, frames)? };
    Ok(try_stream! {
        while reading.wait_for_schema().await? {}
        loop {
            let ending = reading.ending()?;
            let mut idle = true;
            for turn in 0..reading.turns() {
                if reading.must_slow() {
                    // Not what is said already.
                    reading.frames.flush();
                    while let Some(chunk) = reading.frames.next_chunk() {
                        yield chunk;
                    }
                    reading.slow().await?;
                }
                let work = reading.next_work(turn)?;
                let loaded = reading.load(&work).await?;
                let mut all: VecDeque<_> = work.into_iter().zip(loaded).collect();
                while let Some((mut work, loaded)) = all.pop_front() {
                    idle = false;
                    let loaded = match reading.turn_to(&mut work, loaded, &mut all).await {
                        Ok(Some(loaded)) => loaded,
                        Ok(None) => continue,
                        Err(error) => {
                            reading.give_back(work.shares.drain(..).chain(all.drain(..).flat_map(|(work, _)| work.shares)));
                            // What came before it is good.
                            reading.frames.flush();
                            while let Some(chunk) = reading.frames.next_chunk() {
                                yield chunk;
                            }
                            Err(error)?
                        }
                    };
                    if reading.must_wait() {
                        // Not for what is said already.
                        reading.frames.flush();
                        while let Some(chunk) = reading.frames.next_chunk() {
                            yield chunk;
                        }
                        reading.wait_for_taking().await;
                    }
                    reading.frame(&work, &loaded);
                    reading.watch.sent(turn, work.batch.offset.plus(1));
                    while let Some(chunk) = reading.frames.next_chunk() {
                        yield chunk;
                    }
                }
            }
            if (!idle || reading.must_look_again()) && !reading.is_done() {
                continue;
            }
            reading.frames.flush();
            while let Some(chunk) = reading.frames.next_chunk() {
                yield chunk;
            }
            if reading.is_done() {
                break;
            }
            match ending {
                Ending::GoesOn => reading.changed().await,
                Ending::Unsettled => reading.settled().await?,
                Ending::AllSent => {
                    for chunk in reading.all_sent() {
                        yield chunk;
                    }
                    reading.changed().await;
                }
                Ending::Ended(Ok(())) => break,
                Ending::Ended(Err(error)) => Err(error)?,
            }
        }
    })
}

/// A batch to be sent.
#[derive(Debug)]
struct Work {
    partition: PartitionId,
    /// By which it is acked, if it is leased.
    lease: Option<LeaseId>,
    /// Which rows of it, if it is shared.
    shares: Vec<LeasedShare>,
    batch: Batch<StoredBatch>,
    /// Batches that were dropped before it: its consumer is told.
    skipped: u64,
    /// Its one share is answered without the batch's other rows, of which some have no answer.
    is_alone: bool,
}

/// What is known of its bytes.
type Loaded = Result<Arc<EncodedBatch>, StorageError>;

/// One `DoGet` under way.
struct Reading {
    coordinator: Arc<Coordinator>,
    cell: Arc<StreamCell>,
    watch: Watch,
    /// None if it reads by leases.
    ranges: Vec<Range>,
    leases: Option<Leases>,
    /// If its subscription asks a query.
    asks: Option<Asking>,
    /// Other partitions are watched since the last look for batches.
    has_moved: bool,
    /// The subscription that is read for, and which of its cursors.
    reads_for: Option<(SubscriptionName, Generation)>,
    /// Batches that may still be sent; none: no limit.
    batches_left: Option<u64>,
    told: Told,
    /// If epochs are not to be mixed.
    by_epoch: Option<ByEpoch>,
    /// What the consumer holds.
    dictionaries: Arc<DictionarySet>,
    frames: FrameWriter,
    /// Where bodies in shared memory are shown rather than sent.
    link: Option<ReadLink>,
    /// If its principal has a quota.
    usage: Option<Arc<Usage>>,
    /// If epochs are traced.
    span: Option<Delivering>,
}

impl Reading {
    fn open(coordinator: Arc<Coordinator>, target: &GetTarget, peer: String, frames: FrameWriter) -> Result<Self, Error> {
        let cell = coordinator.get(&target.stream)?;
        cell.check_id(target.stream_id)?;
        let partitions = match &target.partitions {
            _ if target.leased.is_some() => Vec::new(),
            Some(partitions) => partitions.clone(),
            None => (0..cell.options().partitions).map(PartitionId).collect(),
        };
        let named = [&target.start, &target.end].into_iter().flatten().flat_map(BTreeMap::keys);
        if target.by_epoch && cell.options().visibility == Visibility::Immediate {
            let stream = target.stream.clone();
            return Err(Error::Wire(WireError::Invalid {
                what: "ticket",
                reason: format!("stream {stream} is immediate, so its epochs are visible before they are whole; read it without by_epoch"),
            }));
        }
        if target.by_epoch && target.leased.is_some() {
            let reason = "consumers that share a subscription have a share of each epoch; read it without by_epoch".to_owned();
            return Err(Error::Wire(WireError::Invalid { what: "ticket", reason }));
        }
        // A start in a partition that the stream lacks would otherwise go unnoticed, and the read begin elsewhere.
        named.copied().try_for_each(|partition| cell.range(partition).map(drop))?;
        let without_leases = target.subscription.as_ref().filter(|_| target.leased.is_none());
        let reads_for = without_leases.map(|name| reads_for(&cell, name, target.generation)).transpose()?;
        let ranges = partitions.iter().map(|partition| range(&cell, target, *partition)).collect::<Result<Vec<_>, _>>();
        // A seek in between may have dropped what it was to begin with.
        let ranges = ranges.map_err(|error| cell.look(reads_for.as_ref()).moved.unwrap_or(error))?;
        let name = ReaderName {
            consumer: target.consumer.clone(),
            subscription: target.subscription.clone(),
            consumer_id: target.leased.as_ref().map(|leased| leased.consumer),
            peer,
        };
        tracing::debug!(
            stream = %cell.name(),
            subscription = name.subscription.as_ref().map(tracing::field::display),
            consumer = name.consumer.as_ref().map(tracing::field::display),
            peer = name.peer,
            "a read has begun"
        );
        let query = name.subscription.as_ref().map(|subscription| cell.query_of(subscription)).transpose()?.flatten();
        let asks = query.map(|query| Asking::begin(&cell, query));
        let span = Delivering::begin(coordinator.tracer(), &cell, &name);
        let watch = cell.watch(name, ranges.iter().map(|range| (range.partition, range.next)));
        Ok(Self {
            leases: Leases::open(&cell, target, &watch)?,
            asks,
            has_moved: false,
            watch,
            link: target.link.and_then(|link| coordinator.links().get(link)).and_then(Link::begin_reading),
            cell,
            coordinator,
            ranges,
            reads_for,
            batches_left: target.batches_max,
            told: Told::nothing(target),
            by_epoch: target.by_epoch.then(ByEpoch::default),
            dictionaries: DictionarySet::empty(),
            frames,
            usage: None,
            span,
        })
    }

    /// Frames the schema as soon as there is one; true while it is to be asked again. A bounded read of a
    /// stream without a schema is empty.
    async fn wait_for_schema(&mut self) -> Result<bool, Error> {
        let ending = self.ending()?;
        if self.send_first_schema().await? {
            return Ok(false);
        }
        match ending {
            _ if self.is_done() => Ok(false),
            Ending::AllSent => Ok(false),
            Ending::Ended(end) => end.map(|()| false),
            Ending::Unsettled => self.settled().await.map(|()| true),
            Ending::GoesOn => {
                self.watch.changed().await;
                Ok(true)
            }
        }
    }

    /// All that was asked for has been sent.
    fn is_done(&self) -> bool {
        self.batches_left == Some(0)
            || self.leases.is_none() && self.ranges.iter().all(|range| range.end.is_some_and(|end| range.next >= end))
    }

    /// How often there is to be looked for batches until all partitions had their turn.
    fn turns(&self) -> usize {
        if self.leases.is_some() { 1 } else { self.ranges.len() }
    }

    /// The next batches: of a partition, or of all that are leased.
    fn next_work(&mut self, turn: usize) -> Result<Vec<Work>, Error> {
        if let Some(leases) = &mut self.leases {
            let (work, has_moved) = leases.take(&self.cell, &mut self.watch)?;
            self.has_moved = has_moved;
            return Ok(work);
        }
        let batches = self.take(turn)?;
        let Range { partition, ref mut skipped, .. } = self.ranges[turn];
        // The first one tells of the gap.
        let work = |batch| Work { partition, lease: None, shares: Vec::new(), batch, skipped: std::mem::take(skipped), is_alone: false };
        Ok(batches.into_iter().map(work).collect())
    }

    /// Whether batches may be there that nobody was woken for.
    fn must_look_again(&self) -> bool {
        self.has_moved
    }

    /// What tells a consumer that all is sent, if it has not been told.
    fn all_sent(&mut self) -> Vec<Bytes> {
        if self.leases.as_mut().is_some_and(Leases::tell) {
            let metadata = BatchMetadata { all_sent: true, ..BatchMetadata::default() };
            self.frames.push(&[], &[], &metadata.to_bytes(), &Body::default());
            self.frames.flush();
        }
        std::iter::from_fn(|| self.frames.next_chunk()).collect()
    }

    /// The next batches of a partition.
    fn take(&mut self, index: usize) -> Result<Vec<Batch<StoredBatch>>, Error> {
        let of_epoch = self.by_epoch.as_mut().map(|by_epoch| by_epoch.batches_max(&self.cell, &self.ranges, index)).transpose()?;
        let range = &mut self.ranges[index];
        let left = range.end.map_or(u64::MAX, |end| end.since(range.next)).min(self.batches_left.unwrap_or(u64::MAX));
        let left = left.min(of_epoch.unwrap_or(u64::MAX));
        let batches_max = usize::try_from(left).unwrap_or(usize::MAX).min(BATCHES_AT_ONCE);
        if batches_max == 0 {
            return Ok(Vec::new());
        }
        let read = match self.cell.read(range.partition, range.next, batches_max, BYTES_AT_ONCE) {
            Err(error) if error.code() == Code::OffsetGone && range.skips_gaps => {
                let earliest = self.cell.range(range.partition)?.0;
                range.skipped += earliest.since(range.next);
                range.next = range.end.map_or(earliest, |end| end.min(earliest));
                self.by_epoch.iter_mut().for_each(ByEpoch::look_again);
                return self.take(index);
            }
            read => read,
        };
        // A start that was given explicitly may lie ahead of what is visible: it will come.
        let batches = match read {
            Err(error) if error.code() == Code::OffsetAhead && range.end.is_none() => Vec::new(),
            // Of a stream that was deleted meanwhile nothing is there.
            Err(error) => match (self.ending()?, self.cell.state()) {
                (Ending::Ended(Err(end)), _) => return Err(end),
                (_, StreamState::Failed { reason }) => return Err(stream_failed(reason)),
                _ => return Err(error),
            },
            Ok(batches) => batches,
        };
        range.next = range.next.plus(batches.len() as u64);
        self.by_epoch.iter_mut().for_each(|by_epoch| by_epoch.note_taken(batches.len()));
        self.batches_left = self.batches_left.map(|left| left.saturating_sub(batches.len() as u64));
        Ok(batches)
    }

    /// Whether more is under way to the consumer than is good.
    fn must_wait(&self) -> bool {
        self.link.as_ref().is_some_and(ReadLink::is_full)
    }

    /// Waits until the consumer has taken some of it.
    async fn wait_for_taking(&self) {
        if let Some(link) = &self.link {
            link.has_room().await;
        }
    }

    /// Frames a batch, after the dictionaries that the consumer lacks.
    fn frame(&mut self, work: &Work, loaded: &EncodedBatch) {
        let Work { partition, lease, shares, batch, skipped, .. } = work;
        // Of an answer to a query, what it has.
        let (rows, bytes) = if self.asks.is_some() { (loaded.rows, loaded.bytes()) } else { (batch.facts.rows, batch.facts.bytes) };
        self.charge(bytes);
        for dictionary in loaded.dictionaries.missing_from(&self.dictionaries) {
            self.charge(dictionary.header.len() as u64 + dictionary.body.len());
            self.frames.push(&[], &dictionary.header, &[], &dictionary.body);
        }
        self.dictionaries = loaded.dictionaries.clone();
        let body = &loaded.message.body;
        let shared = self.link.as_ref().and_then(|link| link.look_at(&body.place::<SharedPlace>()?));
        let sent = if shared.is_some() { &Body::new() } else { body };
        let mut metadata = BatchMetadata {
            partition: partition.0,
            offset: batch.offset.0,
            epoch: batch.facts.epoch.map(|epoch| epoch.0),
            appended_at_micros: batch.facts.appended_at.0,
            user: loaded.user.clone(),
            shared,
            lease: lease.map_or(0, |lease| lease.0),
            shares: shares.clone(),
            traceparent: self.span.as_mut().map_or_else(String::new, |span| span.sent(*partition, batch, !shares.is_empty())),
            skipped_before: if zoo::has(Bug::GapNotTold) { 0 } else { *skipped },
            ..BatchMetadata::default()
        };
        self.by_epoch.iter_mut().for_each(|by_epoch| by_epoch.describe(&mut metadata));
        self.frames.push(&[], &loaded.message.header, &metadata.to_bytes(), sent);
        if zoo::has(Bug::CursorMovesAtSend) {
            for subscription in self.cell.describe().subscriptions {
                let offsets = vec![(*partition, batch.offset.plus(1))];
                drop(self.cell.apply(Command::Ack { subscription: subscription.name, generation: None, offsets }));
            }
        }
        let latency = self.cell.now().since(batch.facts.appended_at);
        self.cell.counters().count_delivered(*partition, rows, bytes, latency);
    }
}
