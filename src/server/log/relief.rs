//! What is done while a log waits for room: what makes some.

use std::collections::BTreeSet;

use super::pending::Work;
use crate::engine::{PartitionId, ProducerId, ProducerSnapshot};
use crate::storage::StorageError;
use crate::storage::catalog::{Catalog, Change};
use crate::storage::log::{Appended, StreamLog};

/// Tells the catalog what does not follow from the batches that could not be written; and removes the segments that nobody needs by
/// that. The reserve of the disk is for this. Blocks.
///
/// # Errors
/// [`StorageError`]; [`StorageError::NoRoom`] may be tried again.
pub(super) fn relieve(log: &mut StreamLog, catalog: &Catalog, work: &mut Work, dead: &[(PartitionId, u64)]) -> Result<(), StorageError> {
    let changes = changes(catalog, work)?;
    if !changes.is_empty() {
        catalog.commit(changes)?;
    }
    work.changes.retain(|change| !is_free(change));
    for (partition, segment) in removable(work, dead) {
        if let Err(error) = log.remove_segment(*partition, *segment) {
            tracing::warn!(%error, "a segment that nobody needs is left");
        }
    }
    Ok(())
}

/// What does not follow from the batches that could not be written. Blocks.
pub(super) fn changes(catalog: &Catalog, work: &Work) -> Result<Vec<Change>, StorageError> {
    // An epoch whose batches are still to be written, or to be made durable, is not to pass for committed.
    let has_epochs = !work.shown.is_empty() || work.appended.iter().any(|appended| appended.facts.epoch.is_some());
    let mut changes: Vec<_> = work.changes.iter().filter(|change| is_free(change)).cloned().collect();
    for change in &work.changes {
        let Change::Producer(stream, name, saved) = change else { continue };
        let mut saved = saved.as_ref().map(|saved| as_far_as_written(name, saved, &work.appended));
        if let (Some(saved), true) = (&mut saved, has_epochs) {
            saved.committed = catalog.producer(*stream, name)?.and_then(|known| known.committed);
        }
        changes.push(Change::Producer(*stream, name.clone(), saved));
    }
    Ok(changes)
}

/// The segments that nobody needs by that: what a segment says of its producers has to be known to the catalog before it goes.
pub(super) fn removable<'a>(work: &Work, dead: &'a [(PartitionId, u64)]) -> &'a [(PartitionId, u64)] {
    if work.has_late { dead } else { &[] }
}

fn is_free(change: &Change) -> bool {
    matches!(change, Change::Partition(..) | Change::Subscription(..))
}

/// What a producer has appended, but for what is still to be written: what is behind that, in other partitions, is stored ahead.
fn as_far_as_written<'a>(
    name: &ProducerId,
    saved: &ProducerSnapshot,
    unwritten: impl IntoIterator<Item = &'a Appended>,
) -> ProducerSnapshot {
    let is_its = |appended: &&Appended| {
        let facts = &appended.facts;
        facts.direct && facts.producer == *name && facts.run.as_ref() == Some(&saved.run)
    };
    let unwritten: BTreeSet<u64> = unwritten.into_iter().filter(is_its).map(|appended| appended.facts.ordinal).collect();
    let Some(first) = unwritten.first().copied().filter(|first| *first < saved.next_ordinal) else { return saved.clone() };
    let behind = (first..saved.next_ordinal).filter(|ordinal| !unwritten.contains(ordinal));
    let stored_ahead = saved.stored_ahead.iter().copied().chain(behind).collect();
    ProducerSnapshot { next_ordinal: first, stored_ahead, ..saved.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Offset, RunId, Timestamp};
    use crate::storage::log::LoggedBatch;
    use crate::storage::segment::EntryFacts;
    use crate::storage::segment::testing::{encode, ints};

    fn run(name: &str) -> RunId {
        RunId::new(name).expect("a name")
    }

    fn appended(producer: &str, of: &str, ordinal: u64) -> Appended {
        let (_, batches) = encode(&[ints(&[1])], arrow_ipc::writer::DictionaryHandling::Delta);
        let facts = EntryFacts {
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
        };
        Appended { partition: PartitionId(0), facts, batch: LoggedBatch::new(batches[0].clone()) }
    }

    #[test]
    fn ordinals_behind_one_that_is_not_written_are_stored_ahead() {
        let saved = ProducerSnapshot {
            run: run("r"),
            superseded: Vec::new(),
            committed: None,
            next_ordinal: 7,
            stored_ahead: [9].into(),
            lease: None,
        };
        let name = ProducerId::new("p").expect("a name");
        let written = |unwritten: &[Appended]| {
            let found = as_far_as_written(&name, &saved, unwritten);
            (found.next_ordinal, found.stored_ahead.into_iter().collect::<Vec<_>>())
        };
        assert_eq!(written(&[]), (7, vec![9]));
        assert_eq!(written(&[appended("p", "r", 3), appended("p", "r", 5)]), (3, vec![4, 6, 9]));
        assert_eq!(written(&[appended("p", "former", 3), appended("q", "r", 3)]), (7, vec![9]), "somebody else's");
    }
}
