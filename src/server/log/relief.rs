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
    // An epoch whose batches are still to be written is not to pass for committed.
    let are_producers_known = work.shown.is_empty();
    let is_free = |change: &Change| matches!(change, Change::Partition(..) | Change::Subscription(..));
    let free = work.changes.iter().filter(|change| is_free(change)).cloned();
    let producers = work.changes.iter().filter(|_| are_producers_known).filter_map(|change| match change {
        Change::Producer(stream, name, saved) => {
            let saved = saved.as_ref().map(|saved| as_far_as_written(name, saved, &work.appended));
            Some(Change::Producer(*stream, name.clone(), saved))
        }
        _ => None,
    });
    let changes: Vec<_> = free.chain(producers).collect();
    if !changes.is_empty() {
        catalog.commit(changes)?;
    }
    work.changes.retain(|change| !is_free(change));
    // What a segment says of its producers has to be known to the catalog before it goes.
    for (partition, segment) in dead.iter().filter(|_| are_producers_known && work.has_late) {
        log.remove_segment(*partition, *segment)?;
    }
    Ok(())
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
