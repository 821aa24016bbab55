//! From where to where a partition is read.

use std::collections::BTreeMap;

use super::super::cell::StreamCell;
use super::super::error::Error;
use crate::engine::{FullPolicy, Generation, Offset, PartitionId, SubscriptionName};
use crate::wire::command::GetTarget;

/// What is to be read of one partition.
#[derive(Debug)]
pub(super) struct Range {
    pub(super) partition: PartitionId,
    pub(super) next: Offset,
    /// Exclusive; none: follows the stream.
    pub(super) end: Option<Offset>,
    /// Whether reading goes on after batches that the stream has dropped by policy. A reader that named the start and the
    /// end itself wants those batches and no others.
    pub(super) skips_gaps: bool,
    /// Batches that were dropped before the next one to be sent: its consumer is told.
    pub(super) skipped: u64,
}

/// Where reading a partition starts and ends.
pub(super) fn range(cell: &StreamCell, target: &GetTarget, partition: PartitionId) -> Result<Range, Error> {
    let (earliest, visible_end) = cell.range(partition)?;
    let given = |offsets: &Option<BTreeMap<PartitionId, Offset>>| offsets.as_ref().and_then(|offsets| offsets.get(&partition).copied());
    let (next, skipped) = match (given(&target.start), &target.subscription) {
        (Some(start), _) => (start, 0),
        (None, Some(subscription)) => cell.place(subscription, partition)?,
        (None, None) => (earliest, 0),
    };
    let is_exact = given(&target.start).is_some() && given(&target.end).is_some();
    let may_skip = target.subscription.as_ref().is_some_and(|name| cell.may_skip(name));
    let skips_gaps = !is_exact && (may_skip || cell.options().full_policy == FullPolicy::DropOldest);
    let end = given(&target.end).or((!target.follow).then_some(visible_end));
    if !target.follow && end.is_some_and(|end| end > visible_end) {
        let offset = end.unwrap_or(visible_end);
        return Err(Error::Engine(crate::engine::Error::OffsetAhead { partition, offset, end: visible_end }));
    }
    if next < earliest && !skips_gaps {
        return Err(Error::Engine(crate::engine::Error::OffsetGone { partition, offset: next, earliest }));
    }
    Ok(Range { partition, next, end, skips_gaps, skipped })
}

/// Which of the subscription's cursors are read for: those that were asked for, or else those that it has now.
pub(super) fn reads_for(
    cell: &StreamCell,
    name: &SubscriptionName,
    asked: Option<Generation>,
) -> Result<(SubscriptionName, Generation), Error> {
    let generation = match asked {
        Some(asked) => cell.check_generation(name, asked).map(|()| asked)?,
        None => cell.generation(name)?,
    };
    Ok((name.clone(), generation))
}
