//! What a restart finds of a stream's log.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::{Appended, LoggedBatch, StreamLog, recover_stream};
use crate::engine::{
    EpochTotals, Offset, PartitionId, ProducerId, ProducerSnapshot, RunId, StreamId, StreamName, StreamOptions, StreamState, Timestamp,
};
use crate::storage::catalog::{FoundStream, SavedStream};
use crate::storage::disk::{Disk, Folder};
use crate::storage::segment::EntryFacts;
use crate::storage::segment::testing::{encode, ints};
use arrow_ipc::writer::DictionaryHandling;

const ID: StreamId = StreamId(5);

fn producer(name: &str) -> ProducerId {
    ProducerId::new(name).expect("a name")
}

fn run() -> RunId {
    RunId::new("r").expect("a name")
}

/// Producers' batches as they were appended to partitions: of whom, and with which ordinal. Offsets follow from that.
fn write(disk: &Arc<dyn Disk>, partitions: &[&[(&str, u64)]]) -> Bytes {
    let (schema, batches) = encode(&[ints(&[1, 2, 3])], DictionaryHandling::Delta);
    let name = StreamName::new("s").expect("a name");
    let mut log = StreamLog::new(disk, 0, ID, name, u32::try_from(partitions.len()).expect("few"));
    for (partition, appended) in (0..).map(PartitionId).zip(partitions) {
        for (offset, (name, ordinal)) in (0..).zip(*appended) {
            let facts = EntryFacts {
                producer: producer(name),
                run: Some(run()),
                epoch: None,
                task: None,
                attempt: None,
                ordinal: *ordinal,
                offset: Some(Offset(offset)),
                appended_at: Timestamp(offset),
                direct: true,
                bytes: 7,
            };
            let one = Appended { partition, facts, batch: LoggedBatch::new(batches[0].clone()) };
            log.append(partition, &[schema.to_vec().into()], &[one]).expect("is written");
        }
        log.sync(partition).expect("is durable");
    }
    schema
}

/// Recovers, and gives each partition's end and each producer's next ordinal.
fn recovered(disk: &Arc<dyn Disk>, schema: &Bytes, partitions: u32, producers: &[(&str, u64)]) -> (Vec<usize>, Vec<u64>) {
    let saved = SavedStream {
        name: StreamName::new("s").expect("a name"),
        options: StreamOptions { partitions, ..StreamOptions::default() },
        schemas: vec![schema.to_vec().into()],
        state: StreamState::Open,
        epochs: EpochTotals::default(),
    };
    let known = |next_ordinal| ProducerSnapshot {
        run: run(),
        superseded: Vec::new(),
        committed: None,
        next_ordinal,
        stored_ahead: BTreeSet::new(),
        lease: None,
    };
    let producers = producers.iter().map(|(name, next_ordinal)| (producer(name), known(*next_ordinal))).collect();
    let found = FoundStream { id: ID, saved, partitions: Vec::new(), extents: Vec::new(), subscriptions: Vec::new(), producers };
    let recovered = recover_stream(disk, 0, found).expect("is found");
    assert_eq!(recovered.damage, Vec::<String>::new());
    let ends = recovered.snapshot.partitions.iter().map(|partition| partition.batches.len()).collect();
    (ends, recovered.snapshot.producers.iter().map(|(_, producer)| producer.next_ordinal).collect())
}

fn check(partitions: &[&[(&str, u64)]], producers: &[(&str, u64)], expected: (&[usize], &[u64])) {
    let dir = tempfile::tempdir().expect("a folder");
    let disk: Arc<dyn Disk> = Arc::new(Folder::open(dir.path()).expect("is there"));
    let schema = write(&disk, partitions);
    let count = u32::try_from(partitions.len()).expect("few");
    for again in 0..2 {
        let (ends, next) = recovered(&disk, &schema, count, producers);
        assert_eq!((&ends[..], &next[..]), expected, "start {again}");
    }
}

#[test]
fn what_is_whole_is_found_whole() {
    check(&[&[("a", 0), ("a", 2)], &[("a", 1)]], &[("a", 0)], (&[2, 1], &[3]));
    check(&[&[("a", 5)], &[]], &[("a", 5)], (&[1, 0], &[6]));
    check(&[&[], &[]], &[("a", 5)], (&[0, 0], &[5]));
}

#[test]
fn a_producer_goes_on_at_its_first_missing_ordinal() {
    // 1 is missing, then 3, then the first that the catalog does not know.
    check(&[&[("a", 0), ("a", 2), ("a", 4)], &[]], &[("a", 0)], (&[3, 0], &[1]));
    check(&[&[("a", 0), ("a", 2), ("a", 4)], &[("a", 1)]], &[("a", 0)], (&[3, 1], &[3]));
    check(&[&[("a", 8)], &[]], &[("a", 7)], (&[1, 0], &[7]));
}
