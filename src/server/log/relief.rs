//! What is done while a log waits for room: what makes some.

use std::collections::{BTreeMap, BTreeSet};

use super::pending::Work;
use super::write::remove;
use crate::engine::{Epoch, PartitionId, ProducerId, ProducerSnapshot};
use crate::storage::StorageError;
use crate::storage::catalog::{Catalog, Change};
use crate::storage::log::StreamLog;
use crate::storage::segment::EntryFacts;

/// Tells the catalog what does not follow from the batches that could not be written; and removes the segments that nobody needs by
/// that. The reserve of the disk is for this. Blocks.
///
/// # Errors
/// [`StorageError`]; [`StorageError::NoRoom`] may be tried again.
pub(super) fn relieve(log: &mut StreamLog, catalog: &Catalog, work: &mut Work, dead: &[(PartitionId, u64)]) -> Result<(), StorageError> {
    let producers = producers(catalog, work, &BTreeMap::new())?;
    let news = news(work, &producers, &work.said);
    if !news.is_empty() {
        catalog.commit(news)?;
    }
    work.said = producers;
    work.changes.retain(|change| !is_free(change));
    remove(log, removable(work, dead));
    Ok(())
}

/// What can be said of producers before the work is done: not more than a restart would find. Where somebody knows of a later epoch
/// than the catalog, `committed` has it. Blocks.
pub(super) fn producers(
    catalog: &Catalog,
    work: &Work,
    committed: &BTreeMap<ProducerId, Option<Epoch>>,
) -> Result<Vec<Change>, StorageError> {
    // An epoch whose batches are still to be written, or to be made durable, is not to pass for committed.
    let has_epochs = !work.shown.is_empty() || work.appended.iter().any(|appended| appended.facts.epoch.is_some());
    let mut changes = Vec::new();
    for change in &work.changes {
        let Change::Producer(stream, name, saved) = change else { continue };
        let unsettled = work.appended.iter().map(|appended| &appended.facts).chain(&work.hidden);
        let mut saved = saved.as_ref().map(|saved| as_far_as_settled(name, saved, unsettled));
        if let (Some(saved), true) = (&mut saved, has_epochs) {
            saved.committed = match committed.get(name) {
                Some(committed) => *committed,
                None => catalog.producer(*stream, name)?.and_then(|known| known.committed),
            };
        }
        changes.push(Change::Producer(*stream, name.clone(), saved));
    }
    Ok(changes)
}

/// What does not follow from the batches that could not be written, and was not said before.
pub(super) fn news(work: &Work, producers: &[Change], said: &[Change]) -> Vec<Change> {
    let of_producers = producers.iter().filter(|change| !said.contains(change));
    work.changes.iter().filter(|change| is_free(change)).chain(of_producers).cloned().collect()
}

/// The segments that nobody needs by that: what a segment says of its producers has to be known to the catalog before it goes.
pub(super) fn removable<'a>(work: &Work, dead: &'a [(PartitionId, u64)]) -> &'a [(PartitionId, u64)] {
    if work.has_late { dead } else { &[] }
}

fn is_free(change: &Change) -> bool {
    matches!(change, Change::Partition(..) | Change::Subscription(..))
}

/// What a producer has appended, but for what is still to be written, or to be settled: what is behind that, in other partitions, is
/// stored ahead.
fn as_far_as_settled<'a>(
    name: &ProducerId,
    saved: &ProducerSnapshot,
    unsettled: impl IntoIterator<Item = &'a EntryFacts>,
) -> ProducerSnapshot {
    let is_its = |facts: &&EntryFacts| facts.direct && facts.producer == *name && facts.run.as_ref() == Some(&saved.run);
    let unsettled: BTreeSet<u64> = unsettled.into_iter().filter(is_its).map(|facts| facts.ordinal).collect();
    let Some(first) = unsettled.first().copied().filter(|first| *first < saved.next_ordinal) else { return saved.clone() };
    let behind = (first..saved.next_ordinal).filter(|ordinal| !unsettled.contains(ordinal));
    let stored_ahead = saved.stored_ahead.iter().copied().chain(behind).collect();
    ProducerSnapshot { next_ordinal: first, stored_ahead, ..saved.clone() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::{Offset, RunId, StreamId, StreamName, Timestamp};
    use crate::server::log::write::written;
    use crate::storage::disk::{Disk, Folder};
    use crate::storage::log::{Appended, LoggedBatch, Shown};
    use crate::storage::segment::testing::{encode, ints};

    fn run(name: &str) -> RunId {
        RunId::new(name).expect("a name")
    }

    fn facts(producer: &str, of: &str, ordinal: u64) -> EntryFacts {
        EntryFacts {
            producer: ProducerId::new(producer).expect("a name"),
            run: Some(run(of)),
            epoch: None,
            task: None,
            attempt: None,
            ordinal,
            offset: Some(Offset(ordinal)),
            appended_at: Timestamp(0),
            direct: true,
            bytes: 1,
        }
    }

    #[test]
    fn ordinals_behind_one_that_is_not_settled_are_stored_ahead() {
        let saved = ProducerSnapshot {
            run: run("r"),
            superseded: Vec::new(),
            committed: None,
            next_ordinal: 7,
            stored_ahead: [9].into(),
            lease: None,
        };
        let name = ProducerId::new("p").expect("a name");
        let settled = |unsettled: &[EntryFacts]| {
            let found = as_far_as_settled(&name, &saved, unsettled);
            (found.next_ordinal, found.stored_ahead.into_iter().collect::<Vec<_>>())
        };
        assert_eq!(settled(&[]), (7, vec![9]));
        assert_eq!(settled(&[facts("p", "r", 3), facts("p", "r", 5)]), (3, vec![4, 6, 9]));
        assert_eq!(settled(&[facts("p", "former", 3), facts("q", "r", 3)]), (7, vec![9]), "somebody else's");
    }

    #[test]
    fn what_is_behind_an_unsettled_commit_is_not_said_to_be_stored() {
        let dir = tempfile::tempdir().expect("a folder");
        let disk: Arc<dyn Disk> = Arc::new(Folder::open(dir.path()).expect("is there"));
        let catalog = Catalog::open(&disk).expect("is new");
        let mut log = StreamLog::new(&disk, 0, StreamId(1), StreamName::new("s").expect("a name"), 1);
        let (schema, batches) = encode(&[ints(&[1])], arrow_ipc::writer::DictionaryHandling::Delta);
        let batch = || LoggedBatch::new(batches[0].clone());
        let committed = vec![batch(), batch()];
        let staged = |batch: &Arc<LoggedBatch>, ordinal| {
            let facts = EntryFacts { epoch: Some(Epoch(5)), offset: None, direct: false, ..facts("q", "r", ordinal) };
            Appended { partition: PartitionId(0), facts, batch: batch.clone() }
        };
        let direct = EntryFacts { offset: Some(Offset(12)), ..facts("p", "r", 7) };
        let snapshot = |committed, next_ordinal| ProducerSnapshot {
            run: run("r"),
            superseded: Vec::new(),
            committed,
            next_ordinal,
            stored_ahead: BTreeSet::new(),
            lease: None,
        };
        let [p, q] = ["p", "q"].map(|name| ProducerId::new(name).expect("a name"));
        let mut pending = Work {
            number: 1,
            schemas: vec![schema.to_vec().into()],
            appended: [
                staged(&committed[0], 0),
                staged(&committed[1], 1),
                Appended { partition: PartitionId(0), facts: direct, batch: batch() },
            ]
            .into(),
            changes: vec![
                Change::Producer(StreamId(1), p, Some(snapshot(None, 8))),
                Change::Producer(StreamId(1), q.clone(), Some(snapshot(Some(Epoch(5)), 0))),
            ],
            has_late: true,
            shown: vec![Shown { partition: PartitionId(0), first: Offset(10), batches: committed }],
            ends: vec![(PartitionId(0), Offset(13))],
            is_deleted: false,
            hidden: Vec::new(),
            is_stored: false,
            committed_elsewhere: BTreeMap::new(),
            said: Vec::new(),
            said_elsewhere: Vec::new(),
        };
        // All is written and durable, and the catalog has no room.
        let (step, result) = written(&mut log, &mut pending);
        result.expect("there is room for the log");
        assert!(step.is_written);
        assert_eq!(step.durable[&PartitionId(0)], Offset(10), "nobody sees what is behind");
        let said = |committed: &BTreeMap<ProducerId, Option<Epoch>>| {
            let found = producers(&catalog, &pending, committed).expect("is read").into_iter().map(|change| match change {
                Change::Producer(_, _, Some(saved)) => (saved.next_ordinal, saved.committed),
                other => panic!("{other:?}"),
            });
            found.collect::<Vec<_>>()
        };
        assert_eq!(said(&BTreeMap::new()), [(7, None), (0, None)], "a restart forgets the commit and what is behind it");
        let elsewhere = BTreeMap::from([(q, Some(Epoch(5)))]);
        assert_eq!(said(&elsewhere), [(7, None), (0, Some(Epoch(5)))], "the object store has the commit, and keeps it");
    }
}
