//! What is done while a log waits for room: what makes some.

use super::pending::Work;
use crate::engine::{PartitionId, ProducerId, ProducerSnapshot};
use crate::storage::StorageError;
use crate::storage::catalog::{Catalog, Change};
use crate::storage::log::{Appended, StreamLog};

/// Tells the catalog what does not follow from the batches that could not be written, which is left out of the work then; and
/// removes the segments that nobody needs by that. The reserve of the disk is for this. Blocks.
///
/// # Errors
/// [`StorageError`]; [`StorageError::NoRoom`] may be tried again.
pub(super) fn relieve(log: &mut StreamLog, catalog: &Catalog, work: &mut Work, dead: &[(PartitionId, u64)]) -> Result<(), StorageError> {
    let changes = changes(work);
    if !changes.is_empty() {
        catalog.commit(changes)?;
    }
    work.changes.retain(|change| !is_free(change));
    removable(work, dead).iter().try_for_each(|(partition, segment)| log.remove_segment(*partition, *segment))
}

/// What does not follow from the batches that could not be written.
pub(super) fn changes(work: &Work) -> Vec<Change> {
    let free = work.changes.iter().filter(|change| is_free(change)).cloned();
    let producers = work.changes.iter().filter(|_| are_producers_known(work)).filter_map(|change| match change {
        Change::Producer(stream, name, saved) => {
            let saved = saved.as_ref().map(|saved| as_far_as_written(name, saved, &work.appended));
            Some(Change::Producer(*stream, name.clone(), saved))
        }
        _ => None,
    });
    free.chain(producers).collect()
}

/// The segments that nobody needs by that: what a segment says of its producers has to be known to the catalog before it goes.
pub(super) fn removable<'a>(work: &Work, dead: &'a [(PartitionId, u64)]) -> &'a [(PartitionId, u64)] {
    if are_producers_known(work) && work.has_late { dead } else { &[] }
}

/// An epoch whose batches are still to be written is not to pass for committed.
fn are_producers_known(work: &Work) -> bool {
    work.shown.is_empty()
}

fn is_free(change: &Change) -> bool {
    matches!(change, Change::Partition(..) | Change::Subscription(..))
}

/// What a producer has appended, but for what is still to be written.
fn as_far_as_written<'a>(
    name: &ProducerId,
    saved: &ProducerSnapshot,
    unwritten: impl IntoIterator<Item = &'a Appended>,
) -> ProducerSnapshot {
    let is_its = |appended: &&Appended| {
        let facts = &appended.facts;
        facts.direct && facts.producer == *name && facts.run.as_ref() == Some(&saved.run)
    };
    let first = unwritten.into_iter().filter(is_its).map(|appended| appended.facts.ordinal).min();
    ProducerSnapshot { next_ordinal: first.map_or(saved.next_ordinal, |first| saved.next_ordinal.min(first)), ..saved.clone() }
}
