//! The catalog's own tests: what is committed is found again, and nothing else.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::*;
use crate::engine::{
    CursorSnapshot, Dropped, Epoch, EpochTotals, Eviction, FullPolicy, Generation, Limits, OnOverflow, Retention, RunId, SchemaPolicy,
    StreamName, StreamOptions, StreamState, SubscriptionMode, Timestamp, Visibility,
};
use crate::storage::disk::Folder;
use crate::storage::segment::testing::MemoryDisk;

fn disk(dir: &tempfile::TempDir) -> Arc<dyn Disk> {
    Arc::new(Folder::open(dir.path()).expect("a folder"))
}

fn saved(name: &str, state: StreamState) -> SavedStream {
    SavedStream {
        name: StreamName::new(name).expect("a name"),
        options: StreamOptions {
            partitions: 3,
            limits: Limits { max_buffered_batches: 1, max_buffered_bytes: 2, max_spool_bytes: 3, max_disk_bytes: 4 },
            visibility: Visibility::Immediate,
            full_policy: FullPolicy::DropOldest,
            retention: Retention { time: Duration::from_millis(1_500), bytes: 7 },
            max_wait: Some(Duration::from_micros(1_500)),
            resume_percent: 40,
            schema_policy: SchemaPolicy::Widening,
        },
        schemas: vec![[1, 2, 3].into(), [4].into()],
        state,
        epochs: EpochTotals { committed: 5, aborted: 6, replayed: 7 },
    }
}

fn partition(start: u64) -> PartitionSnapshot<()> {
    let dropped = Dropped { newest_at: Some(Timestamp(start)), epochs: [(names("p").1, Epoch(start))].into(), others: Some(Epoch(2)) };
    PartitionSnapshot { start: Offset(start), rows_before: 10 * start, bytes_before: 100 * start, dropped, batches: Vec::new() }
}

fn subscription(acked: u64) -> SubscriptionSnapshot {
    let cursor = CursorSnapshot { acked: Offset(acked), planned: Offset(acked + 1), skipped: 2, gap: 1 };
    let eviction = Some(Eviction { at: Timestamp(12), lag_batches: 13, lag_bytes: 14, needed_bytes: 15 });
    let on_overflow = OnOverflow::Evict;
    let (generation, mode) = (Generation(11), SubscriptionMode::Partitioned);
    SubscriptionSnapshot {
        created_at: Timestamp(9),
        generation,
        mode,
        on_overflow,
        query: Some("SELECT a FROM s".into()),
        eviction,
        cursors: vec![cursor; 3],
        shares: None,
    }
}

fn producer(run: &str) -> ProducerSnapshot {
    ProducerSnapshot {
        run: RunId::new(run).expect("a name"),
        superseded: vec![RunId::new("former").expect("a name")],
        committed: Some(Epoch(0)),
        next_ordinal: 8,
        stored_ahead: [10, 11].into(),
        lease: Some(Duration::from_millis(1500)),
    }
}

/// Of batches' segments and starts.
fn extent(places: &[(u64, u64)]) -> Extent {
    let mut extent = Extent::default();
    places.iter().for_each(|(segment, start)| extent.push(*segment, *start));
    extent
}

fn names(name: &str) -> (SubscriptionName, ProducerId) {
    (SubscriptionName::new(name).expect("a name"), ProducerId::new(name).expect("a name"))
}

fn everything_of(id: StreamId, name: &str) -> Vec<Change> {
    let (reads, writes) = names(name);
    vec![
        Change::Stream(id, saved(name, StreamState::Failed { reason: "why".into() })),
        Change::Partition(id, PartitionId(2), partition(4)),
        Change::Extent(id, PartitionId(2), Offset(4), extent(&[(0, 64), (0, 128)])),
        Change::Subscription(id, reads, Some(subscription(4))),
        Change::Producer(id, writes, Some(producer("run"))),
    ]
}

#[test]
fn what_is_committed_is_found_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let catalog = Catalog::open(&disk(&dir)).expect("is made");
    assert!(catalog.load().expect("is read").is_empty());
    for (id, name) in [(7, "a"), (8, "b"), (u64::MAX - 1, "c")] {
        catalog.commit(everything_of(StreamId(id), name)).expect("is committed");
    }
    drop(catalog);
    let found = Catalog::open(&disk(&dir)).expect("is there").load().expect("is read");
    assert_eq!(found.iter().map(|stream| stream.saved.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    for stream in found {
        let expected = saved(stream.saved.name.as_str(), StreamState::Failed { reason: "why".into() });
        let (reads, writes) = names(stream.saved.name.as_str());
        assert_eq!((stream.saved.options, stream.saved.state), (expected.options, expected.state));
        assert_eq!((stream.saved.schemas, stream.saved.epochs), (expected.schemas, expected.epochs));
        assert_eq!(stream.partitions, [(PartitionId(2), partition(4))]);
        assert_eq!(stream.extents, [(PartitionId(2), Offset(4), extent(&[(0, 64), (0, 128)]))]);
        assert_eq!(stream.subscriptions, [(reads, subscription(4))]);
        assert_eq!(stream.producers, [(writes, producer("run"))]);
    }
}

#[test]
fn a_deleted_stream_takes_all_of_its_own_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a folder");
    let catalog = Catalog::open(&disk(&dir)).expect("is made");
    let changes = [(6, "a"), (7, "b"), (8, "c")].into_iter().flat_map(|(id, name)| everything_of(StreamId(id), name));
    catalog.commit(changes.collect()).expect("is committed");
    catalog.commit(vec![Change::Delete(StreamId(7))]).expect("is committed");
    catalog.commit(vec![Change::Stream(StreamId(7), saved("b again", StreamState::Open))]).expect("is committed");
    let found = catalog.load().expect("is read");
    let counts: Vec<_> = found
        .iter()
        .map(|stream| (stream.partitions.len(), stream.extents.len(), stream.subscriptions.len(), stream.producers.len()))
        .collect();
    assert_eq!(counts, [(1, 1, 1, 1), (0, 0, 0, 0), (1, 1, 1, 1)]);
}

#[test]
fn what_is_gone_is_gone() {
    let dir = tempfile::tempdir().expect("a folder");
    let catalog = Catalog::open(&disk(&dir)).expect("is made");
    let (id, (reads, writes)) = (StreamId(1), names("a"));
    catalog.commit(everything_of(id, "a")).expect("is committed");
    catalog.commit(vec![Change::Subscription(id, reads, None), Change::Producer(id, writes, None)]).expect("is committed");
    let found = catalog.load().expect("is read");
    assert!(found[0].subscriptions.is_empty() && found[0].producers.is_empty());
}

/// Extents of 2 batches at 0, 2, 4 and of another partition; the partition then begins at 3.
#[test]
fn extents_go_once_the_partition_begins_behind_them() {
    let dir = tempfile::tempdir().expect("a folder");
    let catalog = Catalog::open(&disk(&dir)).expect("is made");
    let id = StreamId(1);
    let mut changes = vec![Change::Stream(id, saved("s", StreamState::Open))];
    changes.extend([0, 2, 4].map(|first| Change::Extent(id, PartitionId(1), Offset(first), extent(&[(0, first), (1, 64)]))));
    changes.push(Change::Extent(id, PartitionId(0), Offset(0), extent(&[(0, 0)])));
    catalog.commit(changes).expect("is committed");
    catalog.commit(vec![Change::Partition(id, PartitionId(1), partition(3))]).expect("is committed");
    let left: Vec<_> = catalog.load().expect("is read")[0].extents.iter().map(|(number, first, _)| (number.0, first.0)).collect();
    assert_eq!(left, [(0, 0), (1, 2), (1, 4)], "the start lies in the one at 2");
}

#[test]
fn batches_of_one_segment_share_its_number() {
    let places = [(0, 64), (0, 128), (0, 100), (1, 0), (0, 192)];
    let found = extent(&places);
    assert_eq!((found.count(), found.runs.len()), (5, 3));
    assert!(found.places().eq(places));
}

#[test]
fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let catalog = Catalog::open(&disk(&dir)).expect("is made");
    let newer = |writing: &redb::WriteTransaction| {
        writing.open_table(redb::TableDefinition::<&str, u32>::new("about"))?.insert("format", 2)?;
        Ok(())
    };
    catalog.writer.lock().opened.as_ref().expect("is open").transaction(newer).expect("is committed");
    drop(catalog);
    let error = Catalog::open(&disk(&dir)).expect_err("is newer");
    assert!(matches!(error, StorageError::NewerFormat { found: 2, supported: 1, .. }), "{error}");
}

#[test]
fn calls_of_many_threads_are_all_durable() {
    let dir = tempfile::tempdir().expect("a folder");
    let catalog = Catalog::open(&disk(&dir)).expect("is made");
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let catalog = &catalog;
            scope.spawn(move || {
                for number in 0..10 {
                    let id = StreamId(100 * thread + number);
                    catalog.commit(vec![Change::Stream(id, saved("s", StreamState::Open))]).expect("is committed");
                    assert!(catalog.load().expect("is read").iter().any(|stream| stream.id == id));
                }
            });
        }
    });
    assert_eq!(catalog.load().expect("is read").len(), 80);
}

/// The id and state of every stream.
fn streams(catalog: &Catalog) -> Vec<u64> {
    catalog.load().expect("is read").iter().map(|stream| stream.id.0).collect()
}

#[test]
fn a_full_disk_is_waited_for_wherever_it_stops_a_commit() {
    let memory = Arc::new(MemoryDisk::default());
    let disk: Arc<dyn Disk> = memory.clone();
    let catalog = Catalog::open(&disk).expect("is made");
    let mut refused = 0;
    for (id, room) in (0..400).zip((0..).step_by(97)) {
        let change = || vec![Change::Stream(StreamId(id), saved("s", StreamState::Open))];
        memory.set_room(room);
        if let Err(error) = catalog.commit(change()) {
            assert!(error.is_no_room(), "{error}");
            assert!(error.to_string().contains("no room for"), "{error}");
            refused += 1;
            // Tried again while it is still full, as the log's task does.
            if let Err(error) = catalog.commit(change()) {
                assert!(error.is_no_room(), "{error}");
            }
            memory.set_room(u64::MAX);
            catalog.commit(change()).expect("there is room again");
        }
        memory.set_room(u64::MAX);
        assert_eq!(streams(&catalog), (0..=id).collect::<Vec<_>>(), "nothing is lost and nothing is half there");
    }
    assert!(refused > 50, "{refused} commits have met the full disk");
    drop(catalog);
    assert_eq!(streams(&Catalog::open(&disk).expect("is there")).len(), 400);
}

#[test]
fn everybody_in_a_commit_that_a_full_disk_stops_is_told() {
    let memory = Arc::new(MemoryDisk::default());
    let disk: Arc<dyn Disk> = memory.clone();
    let catalog = Catalog::open(&disk).expect("is made");
    memory.set_room(0);
    let met = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let commits: Vec<_> = (0..8_u64)
            .map(|id| {
                let (catalog, met) = (&catalog, &met);
                scope.spawn(move || {
                    let mut refusals = 0;
                    while let Err(error) = catalog.commit(vec![Change::Stream(StreamId(id), saved("s", StreamState::Open))]) {
                        assert!(error.is_no_room(), "{error}");
                        met.fetch_add(u64::from(refusals == 0), Ordering::Relaxed);
                        refusals += 1;
                    }
                    assert!(catalog.load().expect("is read").iter().any(|stream| stream.id.0 == id), "what is confirmed is there");
                    refusals
                })
            })
            .collect();
        while met.load(Ordering::Relaxed) < 8 {
            std::thread::yield_now();
        }
        memory.set_room(u64::MAX);
        assert!(commits.into_iter().all(|commit| commit.join().expect("ends") > 0), "each has met the full disk");
    });
}

#[test]
fn a_sync_that_fails_breaks_the_catalog_for_good() {
    let memory = Arc::new(MemoryDisk::default());
    let disk: Arc<dyn Disk> = memory.clone();
    let catalog = Catalog::open(&disk).expect("is made");
    memory.fail_syncs(true);
    let change = || vec![Change::Stream(StreamId(1), saved("s", StreamState::Open))];
    assert!(matches!(catalog.commit(change()), Err(StorageError::Catalog { .. })));
    memory.fail_syncs(false);
    let error = catalog.commit(change()).expect_err("nobody knows what is there");
    assert!(matches!(error, StorageError::Catalog { .. }), "{error}");
    assert!(Catalog::open(&disk).is_ok(), "a new start reads what is there");
}

/// What a flipped bit does to a catalog that was closed in good order: nothing at all, or it is refused.
#[test]
fn a_flipped_bit_changes_nothing_or_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let catalog = Catalog::open(&disk(&dir)).expect("is made");
    for id in 0..20 {
        let mut changes = vec![Change::Stream(StreamId(id), saved("s", StreamState::Open))];
        changes.push(Change::Producer(StreamId(id), ProducerId::new("p").expect("a name"), Some(producer("r"))));
        changes.push(Change::Subscription(StreamId(id), SubscriptionName::new("c").expect("a name"), Some(subscription(id))));
        changes.push(Change::Extent(StreamId(id), PartitionId(1), Offset(0), extent(&[(0, 64), (1, 128)])));
        catalog.commit(changes).expect("is committed");
    }
    let content = |catalog: &Catalog| format!("{:?}", catalog.load());
    let expected = content(&catalog);
    drop(catalog);
    let sound = std::fs::read(dir.path().join(FILE)).expect("is read");
    let used: Vec<_> = (0..sound.len()).filter(|at| sound[*at] != 0).collect();
    let (mut same, mut refused) = (0, 0);
    for number in 0..400 {
        let mut bytes = sound.clone();
        bytes[used[number * 7919 % used.len()]] ^= 1 << (number % 8);
        std::fs::write(dir.path().join(FILE), bytes).expect("is written");
        match Catalog::open(&disk(&dir)) {
            Ok(catalog) => {
                assert_eq!(content(&catalog), expected, "flip {number}");
                same += 1;
            }
            Err(StorageError::Catalog { .. } | StorageError::NewerFormat { .. }) => refused += 1,
            Err(other) => panic!("flip {number}: {other}"),
        }
    }
    assert!(same > 0 && refused > 0, "{same} changed nothing, {refused} were refused");
}

#[test]
fn what_a_partition_remembers_of_dropped_batches_goes_to_the_object_store_as_well() {
    let change = Change::Partition(StreamId(7), PartitionId(2), partition(4));
    let mut image = Image::default();
    image.apply(&SavedChange::from(&change));
    let found: Vec<_> = image.changes().map(|saved| Change::try_from(&saved)).collect();
    assert_eq!(found, [Ok(change)]);
}
