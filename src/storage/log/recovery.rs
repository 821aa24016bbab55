//! A stream's log as a restart finds it: offsets to batches again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{LoggedBatch, STREAMS, StreamLog, partition_folder, remove_stream};
use crate::engine::{
    BatchFacts, Offset, PartitionId, PartitionSnapshot, ProducerId, ProducerSnapshot, StreamId, StreamSnapshot, Timestamp,
};
use crate::storage::StorageError;
use crate::storage::catalog::{self, FoundStream};
use crate::storage::disk::Disk;
use crate::storage::segment::{self, Damage, Entry, Recovered, Segment};
use crate::zoo::{self, Bug};

/// A stream that a restart has found.
#[derive(Debug)]
pub struct RecoveredStream {
    /// For its engine.
    pub snapshot: StreamSnapshot<Arc<LoggedBatch>>,
    /// For what is appended from now on.
    pub log: StreamLog,
    /// What is damaged, for people: one line each. Reading it fails, all the rest can be read.
    pub damage: Vec<String>,
}

/// What of a partition is where.
#[derive(Default)]
struct Offsets {
    batches: BTreeMap<Offset, (BatchFacts, Arc<LoggedBatch>)>,
    damage: Vec<String>,
}

/// Puts a stream together again from its catalog entry and its segments. Reads the segments' indexes, and what is behind them.
///
/// # Errors
/// [`StorageError`]: a file cannot be read or written at all.
pub fn recover_stream(disk: &Arc<dyn Disk>, reserve_bytes: u64, found: FoundStream) -> Result<RecoveredStream, StorageError> {
    let FoundStream { id, saved, partitions: starts, extents, subscriptions, producers } = found;
    let mut log = StreamLog::new(disk, reserve_bytes, id, saved.name.clone(), saved.options.partitions);
    let mut producers: BTreeMap<ProducerId, ProducerSnapshot> = producers.into_iter().collect();
    let mut starts: BTreeMap<PartitionId, PartitionSnapshot<()>> = starts.into_iter().collect();
    let of = |partition: PartitionId| extents.iter().filter(move |(owner, ..)| *owner == partition);
    let mut ordinals = Ordinals::default();
    let mut partitions = Vec::new();
    let mut damage = Vec::new();
    for partition in (0..saved.options.partitions).map(PartitionId) {
        let committed = of(partition).flat_map(|(.., extent)| extent.places());
        let mut segments = segments(&**disk, id, partition, &durable_of(committed))?;
        let PartitionSnapshot { start, rows_before, bytes_before, dropped, .. } = starts.remove(&partition).unwrap_or_default();
        let mut offsets = Offsets::default();
        segments.iter().for_each(|segment| offsets.add_direct(segment));
        for (_, first, extent) in of(partition) {
            offsets.add_extent(&segments, *first, extent.places(), start);
        }
        offsets.cut_unsettled(&mut segments, start, &producers)?;
        segments.iter().for_each(|segment| ordinals.add(&producers, segment));
        partitions.push(PartitionSnapshot { start, rows_before, bytes_before, dropped, batches: offsets.from(start) });
        damage.extend(offsets.damage.into_iter().map(|what| format!("stream {}, partition {partition}: {what}", saved.name)));
        // What the catalog knows of a segment that is missing must not be found in a new one.
        let named = of(partition).flat_map(|(.., extent)| extent.places()).map(|(segment, _)| segment).max();
        log.partitions[partition.index()].resume(segments.into_iter().map(|found| found.segment).collect(), named);
    }
    ordinals.count(&mut producers);
    let snapshot = StreamSnapshot {
        options: saved.options,
        schemas: saved.schemas,
        state: saved.state,
        epochs: saved.epochs,
        partitions,
        subscriptions,
        producers: producers.into_iter().collect(),
    };
    Ok(RecoveredStream { snapshot, log, damage })
}

/// Looks whether there are streams that nobody knows because their catalog is gone. One is made before the first stream, so this is no
/// crash's doing.
///
/// # Errors
/// [`StorageError::CatalogGone`]; [`StorageError::File`].
pub fn check_has_catalog(disk: &dyn Disk) -> Result<(), StorageError> {
    let has_catalog = match disk.open(catalog::FILE).and_then(|file| file.is_empty()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        is_empty => !is_empty.map_err(|source| StorageError::file("look at", disk, catalog::FILE, source))?,
    };
    if has_catalog || stream_folders(disk)?.is_empty() {
        return Ok(());
    }
    Err(StorageError::CatalogGone { dir: disk.place() })
}

/// Removes the folders of streams that the catalog does not have: they were deleted, or never confirmed.
///
/// # Errors
/// [`StorageError`].
pub fn remove_unknown(disk: &dyn Disk, known: &BTreeSet<StreamId>) -> Result<(), StorageError> {
    stream_folders(disk)?.into_iter().filter(|id| !known.contains(id)).try_for_each(|id| remove_stream(disk, id))
}

fn stream_folders(disk: &dyn Disk) -> Result<Vec<StreamId>, StorageError> {
    let names = match disk.list(STREAMS) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        names => names.map_err(|source| StorageError::file("look at", disk, STREAMS, source))?,
    };
    Ok(names.iter().filter_map(|name| u64::from_str_radix(name, 16).ok()).map(StreamId).collect())
}

/// Of each segment, how much was durable by what a commit has said of it: all before the last of its batches, and that one's beginning.
fn durable_of(committed: impl Iterator<Item = (u64, u64)>) -> BTreeMap<u64, u64> {
    let mut durable = BTreeMap::new();
    for (segment, start) in committed {
        let known: &mut u64 = durable.entry(segment).or_default();
        *known = (*known).max(start + 1);
    }
    durable
}

/// A partition's segments, sealed or not: what comes goes into a new one. One that has nothing yet is removed.
fn segments(disk: &dyn Disk, id: StreamId, partition: PartitionId, durable: &BTreeMap<u64, u64>) -> Result<Vec<Recovered>, StorageError> {
    let folder = partition_folder(id, partition);
    let error = |what, source| StorageError::file(what, disk, &folder, source);
    let mut found = Vec::new();
    for number in segment::list(disk, &folder).map_err(|source| error("look at", source))? {
        match recover(disk, &folder, number, durable.get(&number).copied().unwrap_or_default())? {
            Some(recovered) => found.push(recovered),
            None => segment::remove(disk, &folder, number).map_err(|source| error("remove a segment of", source))?,
        }
    }
    Ok(found)
}

/// Finds what is in a segment. What is damaged and was not durable by anything that is known, its index, the catalog or what was
/// written behind it, was never confirmed: the power failed while it was written, and it is cut with all that is behind it.
fn recover(disk: &dyn Disk, folder: &str, number: u64, durable: u64) -> Result<Option<Recovered>, StorageError> {
    let Some(mut found) = segment::recover(disk, folder, number, durable)? else { return Ok(None) };
    let is_unsure = |found: &Recovered| found.damage.iter().any(|damage| !damage.was_durable);
    let said = found.entries.iter().map(|entry| entry.durable_before).max().unwrap_or_default();
    if is_unsure(&found) && said > durable {
        match segment::recover(disk, folder, number, said)? {
            Some(again) => found = again,
            None => return Ok(None),
        }
    }
    if is_unsure(&found) {
        found.cut_not_durable()?;
    }
    Ok(Some(found))
}

/// What producers appended after their entries in the catalog were written. Of batches that were made durable together a
/// crash may have kept some and lost those before them, in other partitions: nobody was told of any, and each is stored once.
#[derive(Default)]
struct Ordinals(BTreeMap<ProducerId, BTreeSet<u64>>);

impl Ordinals {
    fn add(&mut self, producers: &BTreeMap<ProducerId, ProducerSnapshot>, segment: &Recovered) {
        // What is damaged was stored, too.
        let entries = segment.entries.iter().chain(segment.damage.iter().flat_map(Damage::entries));
        for Entry { facts, .. } in entries.filter(|entry| entry.facts.direct && entry.facts.epoch.is_none()) {
            if let Some(producer) = producers.get(&facts.producer)
                && facts.run.as_ref() == Some(&producer.run)
                && facts.ordinal >= producer.next_ordinal
            {
                self.0.entry(facts.producer.clone()).or_default().insert(facts.ordinal);
            }
        }
    }

    fn count(self, producers: &mut BTreeMap<ProducerId, ProducerSnapshot>) {
        for (name, found) in self.0 {
            let Some(producer) = producers.get_mut(&name) else { continue };
            producer.stored_ahead.extend(found);
            if zoo::has(Bug::HighestOrdinalCounts) {
                producer.next_ordinal = producer.stored_ahead.pop_last().map_or(producer.next_ordinal, |last| last + 1);
                producer.stored_ahead.clear();
            }
            while producer.stored_ahead.remove(&producer.next_ordinal) {
                producer.next_ordinal += 1;
            }
        }
    }
}

impl Offsets {
    /// Batches that had their offsets when they were written.
    fn add_direct(&mut self, segment: &Recovered) {
        for entry in &segment.entries {
            if let Some(offset) = entry.facts.offset {
                self.add(offset, &segment.segment, entry);
            }
        }
        for damage in &segment.damage {
            self.damage.push(damage.to_string());
            for entry in damage.entries() {
                if let Some(offset) = entry.facts.offset {
                    self.lose(offset, Some(entry), damaged(damage, entry));
                }
            }
        }
    }

    /// Batches that got theirs when their epoch was committed.
    fn add_extent(&mut self, segments: &[Recovered], first: Offset, places: impl Iterator<Item = (u64, u64)>, kept_from: Offset) {
        for (index, (number, start)) in (0..).zip(places) {
            let offset = first.plus(index);
            if offset < kept_from {
                // Dropped, and its segment may be removed.
                continue;
            }
            let segment = segments.iter().find(|segment| segment.segment.head().number == number);
            let entry = segment.and_then(|segment| {
                let at = segment.entries.binary_search_by_key(&start, |entry| entry.message.start).ok()?;
                Some((&segment.segment, &segment.entries[at]))
            });
            match entry {
                Some((segment, entry)) => self.add(offset, segment, entry),
                None => {
                    let known = segment.and_then(|segment| {
                        segment
                            .damage
                            .iter()
                            .find_map(|damage| Some((damage, damage.entries().find(|entry| entry.message.start == start)?)))
                    });
                    match known {
                        Some((damage, entry)) => self.lose(offset, Some(entry), damaged(damage, entry)),
                        None => self.lose(offset, None, StorageError::Missing { segment: number, at: start }),
                    }
                }
            }
        }
    }

    /// Cuts off what was written behind a commit that the catalog has not learnt of: none of both was ever visible or confirmed,
    /// and the commit's offsets would be missing for ever.
    fn cut_unsettled(
        &mut self,
        segments: &mut [Recovered],
        start: Offset,
        producers: &BTreeMap<ProducerId, ProducerSnapshot>,
    ) -> Result<(), StorageError> {
        let Some(behind) = self.unsettled(segments, start, producers) else { return Ok(()) };
        for segment in segments {
            if let Some(first) = segment.entries.iter().find(|entry| is_from(entry, behind)).map(|entry| entry.message.start) {
                segment.cut(first)?;
            }
        }
        drop(self.batches.split_off(&behind));
        Ok(())
    }

    /// The first offset behind a commit that the catalog has not learnt of. None if there is none, or if it may be that damage has
    /// left the gap: a segment is missing, or parts of one of which nobody knows what they were, or too little was written before
    /// that waits for its commit.
    fn unsettled(&self, segments: &[Recovered], start: Offset, producers: &BTreeMap<ProducerId, ProducerSnapshot>) -> Option<Offset> {
        let there: Vec<Offset> = self.batches.range(start..).map(|(offset, _)| *offset).collect();
        let (gap, behind) = (start.0..).map(Offset).zip(there.iter().copied()).find(|(expected, offset)| expected != offset)?;
        let missing = there.last()?.plus(1).since(start) - there.len() as u64;
        let first_behind = segments.iter().position(|segment| segment.entries.iter().any(|entry| is_from(entry, behind)))?;
        let last_before = self.batches.range(..gap).next_back().and_then(|(_, (_, batch))| Some(batch.place()?.0)).unwrap_or_default();
        let numbers = segments[..=first_behind].iter().map(|segment| segment.segment.head().number);
        let around: Vec<u64> = numbers.filter(|number| *number >= last_before).collect();
        let is_whole = around.windows(2).all(|pair| pair[0] + 1 == pair[1]);
        let is_known = segments.iter().flat_map(|segment| &segment.damage).all(Damage::is_known);
        let is_uncommitted = |entry: &&Entry| {
            let committed = producers.get(&entry.facts.producer).and_then(|producer| producer.committed);
            entry.facts.offset.is_none() && entry.facts.epoch > committed
        };
        let entries = || segments.iter().flat_map(|segment| &segment.entries);
        let uncommitted = entries().take_while(|entry| !is_from(entry, behind)).filter(is_uncommitted).count() as u64;
        let direct = entries().filter(|entry| is_from(entry, behind)).count();
        let is_all_direct = direct == self.batches.range(behind..).count();
        (is_whole && is_known && missing <= uncommitted && is_all_direct).then_some(behind)
    }

    fn add(&mut self, offset: Offset, segment: &Arc<Segment>, entry: &Entry) {
        self.batches.insert(offset, (facts(entry), LoggedBatch::found(segment.clone(), entry.clone())));
    }

    fn lose(&mut self, offset: Offset, entry: Option<&Entry>, why: StorageError) {
        self.damage.push(format!("offset {offset} cannot be read: {why}"));
        self.batches.insert(offset, (entry.map_or_else(unknown, facts), LoggedBatch::lost(why)));
    }

    /// All from `start` on. An offset that nothing is known of, before one that is there, is damaged too.
    fn from(&mut self, start: Offset) -> Vec<(BatchFacts, Arc<LoggedBatch>)> {
        let mut batches = self.batches.split_off(&start);
        let end = batches.last_key_value().map_or(start, |(last, _)| last.plus(1));
        let offsets = (start.0..end.0).map(Offset);
        let batch = |offset| {
            batches.remove(&offset).unwrap_or_else(|| {
                let why = StorageError::Gone { offset };
                self.damage.push(why.to_string());
                (unknown(), LoggedBatch::lost(why))
            })
        };
        offsets.map(batch).collect()
    }
}

/// Whether a batch had its offset when it was written, and that is this one or a later one.
fn is_from(entry: &Entry, first: Offset) -> bool {
    entry.facts.offset.is_some_and(|offset| offset >= first)
}

fn damaged(damage: &Damage, entry: &Entry) -> StorageError {
    let Damage { file, range, why, .. } = damage;
    let why = format!("of bytes {} to {}, {why}", range.start, range.end);
    StorageError::DamagedSegment { what: entry.to_string(), file: file.clone(), at: entry.message.start, why }
}

fn facts(entry: &Entry) -> BatchFacts {
    let facts = &entry.facts;
    BatchFacts {
        rows: entry.rows,
        bytes: facts.bytes,
        producer: facts.producer.clone(),
        epoch: facts.epoch,
        appended_at: facts.appended_at,
    }
}

fn unknown() -> BatchFacts {
    let producer = ProducerId::new("unknown").expect("a name without control characters");
    BatchFacts { rows: 0, bytes: 0, producer, epoch: None, appended_at: Timestamp::default() }
}
