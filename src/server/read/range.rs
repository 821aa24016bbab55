//! From where to where a partition is read.

use std::collections::BTreeMap;

use super::super::cell::StreamCell;
use super::super::error::Error;
use crate::engine::{FullPolicy, Offset, PartitionId};
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
}

/// Where reading a partition starts and ends.
pub(super) fn range(cell: &StreamCell, target: &GetTarget, partition: PartitionId) -> Result<Range, Error> {
    let (earliest, visible_end) = cell.range(partition)?;
    let given = |offsets: &Option<BTreeMap<PartitionId, Offset>>| offsets.as_ref().and_then(|offsets| offsets.get(&partition).copied());
    let next = match (given(&target.start), &target.subscription) {
        (Some(start), _) => start,
        (None, Some(subscription)) => cell.cursor(subscription, partition)?,
        (None, None) => earliest,
    };
    let is_exact = given(&target.start).is_some() && given(&target.end).is_some();
    let skips_gaps = !is_exact && cell.options().full_policy == FullPolicy::DropOldest;
    let end = given(&target.end).or((!target.follow).then_some(visible_end));
    if !target.follow && end.is_some_and(|end| end > visible_end) {
        let offset = end.unwrap_or(visible_end);
        return Err(Error::Engine(crate::engine::Error::OffsetAhead { partition, offset, end: visible_end }));
    }
    if next < earliest && !skips_gaps {
        return Err(Error::Engine(crate::engine::Error::OffsetGone { partition, offset: next, earliest }));
    }
    Ok(Range { partition, next, end, skips_gaps })
}
