//! Offsets that are missing at a restart: those of a commit that nobody has learnt of are forgotten with what follows, and those that
//! were lost are said to be.

use std::sync::Arc;

use bytes::Bytes;

use super::{Appended, LoggedBatch, RecoveredStream, StreamLog, extent_of, partition_folder, recover_stream};
use crate::engine::{
    Attempt, Epoch, EpochTotals, Offset, PartitionId, ProducerId, StreamId, StreamName, StreamOptions, StreamState, Task, Timestamp,
};
use crate::storage::catalog::{Extent, FoundStream, SavedStream};
use crate::storage::disk::{Disk, Folder};
use crate::storage::segment::testing::{encode, ints};
use crate::storage::segment::{self, EntryFacts};
use crate::wire::batch::EncodedBatch;
use arrow_ipc::writer::DictionaryHandling;

const ID: StreamId = StreamId(5);
const P: PartitionId = PartitionId(0);

/// A stream of one partition, and what its catalog knows.
struct Restarted {
    disk: Arc<dyn Disk>,
    dir: tempfile::TempDir,
    schema: Bytes,
    batch: EncodedBatch,
    extents: Vec<(PartitionId, Offset, Extent)>,
}

impl Restarted {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let disk: Arc<dyn Disk> = Arc::new(Folder::open(dir.path()).expect("is there"));
        let (schema, mut batches) = encode(&[ints(&[1, 2, 3])], DictionaryHandling::Delta);
        Self { disk, dir, schema, batch: batches.remove(0), extents: Vec::new() }
    }

    fn recover(&self) -> RecoveredStream {
        let saved = SavedStream {
            name: StreamName::new("s").expect("a name"),
            options: StreamOptions::default(),
            schemas: vec![self.schema.to_vec().into()],
            state: StreamState::Open,
            epochs: EpochTotals::default(),
        };
        let extents = self.extents.clone();
        let found = FoundStream { id: ID, saved, partitions: Vec::new(), extents, subscriptions: Vec::new(), producers: Vec::new() };
        recover_stream(&self.disk, 0, found).expect("is found")
    }

    /// What a restart finds at each offset: whether it can be read.
    fn readable(&self) -> Vec<bool> {
        let RecoveredStream { snapshot, .. } = self.recover();
        snapshot.partitions[0].batches.iter().map(|(_, batch)| batch.read().is_ok()).collect()
    }

    /// Starts again, which begins a segment, and writes groups of batches, each made durable: those with an offset at once, and those
    /// without as an epoch's, that waits for its commit.
    fn write(&self, groups: &[&[Option<u64>]]) -> Vec<Arc<LoggedBatch>> {
        let mut log = self.recover().log;
        groups.iter().flat_map(|group| self.append(&mut log, group)).collect()
    }

    fn append(&self, log: &mut StreamLog, group: &[Option<u64>]) -> Vec<Arc<LoggedBatch>> {
        let staged = |offset: Option<u64>| offset.is_none().then_some(0);
        let appended = |(ordinal, offset): (u64, &Option<u64>)| Appended {
            partition: P,
            facts: EntryFacts {
                producer: ProducerId::new(if offset.is_some() { "direct" } else { "spark" }).expect("a name"),
                run: None,
                epoch: staged(*offset).map(Epoch),
                task: staged(*offset).map(|_| Task(0)),
                attempt: staged(*offset).map(Attempt),
                ordinal,
                offset: offset.map(Offset),
                appended_at: Timestamp(1),
                direct: offset.is_some(),
                bytes: 7,
            },
            batch: LoggedBatch::new(self.batch.clone()),
        };
        let batches: Vec<_> = (0..).zip(group).map(appended).collect();
        log.append(P, &[self.schema.to_vec().into()], &batches).expect("is written");
        log.sync(P).expect("is durable");
        batches.into_iter().map(|appended| appended.batch).collect()
    }

    /// Of a batch's segment, only what comes before it is left.
    fn cut_off(&self, batch: &LoggedBatch) {
        let (segment, start) = batch.place().expect("is written");
        let file = self.dir.path().join(partition_folder(ID, P)).join(format!("{segment:020}.arrows"));
        std::fs::OpenOptions::new().write(true).open(file).and_then(|file| file.set_len(start)).expect("is cut");
    }
}

#[test]
fn a_commit_that_the_catalog_has_not_learnt_of_is_forgotten_with_what_follows() {
    let stream = Restarted::new();
    // An epoch of two batches gets 1 and 2; a batch comes behind them; the power fails before the catalog knows.
    stream.write(&[&[Some(0), None, None], &[Some(3)]]);
    assert_eq!(stream.readable(), [true]);
    assert_eq!(stream.recover().damage, Vec::<String>::new());
}

#[test]
fn it_is_forgotten_also_if_more_was_made_durable_behind_it() {
    let stream = Restarted::new();
    stream.write(&[&[Some(0), None, None], &[Some(3)], &[Some(4)], &[Some(5), Some(6)]]);
    assert_eq!(stream.readable(), [true]);
    assert_eq!(stream.recover().damage, Vec::<String>::new());
}

#[test]
fn it_is_forgotten_also_where_something_older_is_damaged() {
    let stream = Restarted::new();
    let written = stream.write(&[&[Some(0)], &[Some(1)]]);
    stream.write(&[&[None], &[Some(3)]]);
    stream.cut_off(&written[1]);
    assert_eq!(stream.readable(), [true, false]);
}

#[test]
fn nothing_is_cut_behind_a_segment_that_is_missing() {
    for last in [&[&[Some(4)][..], &[Some(5)]][..], &[&[Some(4), Some(5)]]] {
        let stream = Restarted::new();
        stream.write(&[&[Some(0), Some(1)]]);
        let gone = stream.write(&[&[Some(2), Some(3)]]);
        // One of its batches waits for its epoch's commit.
        stream.write(&[&[None]]);
        stream.write(last);
        let (number, _) = gone[0].place().expect("is written");
        segment::remove(&*stream.disk, &partition_folder(ID, P), number).expect("was there");
        assert_eq!(stream.readable(), [true, true, false, false, true, true]);
        assert_eq!(stream.recover().damage.len(), 2);
    }
}

#[test]
fn what_is_known_of_a_missing_segment_is_not_found_in_a_new_one() {
    let mut stream = Restarted::new();
    let committed = stream.write(&[&[None]]);
    stream.extents.push((P, Offset(0), extent_of(&committed)));
    let (number, start) = committed[0].place().expect("is written");
    segment::remove(&*stream.disk, &partition_folder(ID, P), number).expect("was there");
    let next = stream.write(&[&[Some(1)]]);
    assert_ne!(next[0].place(), Some((number, start)));
    assert_eq!(stream.readable(), [false, true]);
}
