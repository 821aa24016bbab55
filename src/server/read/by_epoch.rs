//! Reading epoch by epoch: all of one, over all partitions, before anything of the next.

use super::Range;
use crate::engine::{EpochSpan, Wanted};
use crate::server::cell::StreamCell;
use crate::server::error::Error;
use crate::wire::metadata::BatchMetadata;

/// The epoch that is being sent.
#[derive(Debug, Default)]
pub(super) struct ByEpoch {
    span: Option<EpochSpan>,
    /// Batches of it that are not framed yet.
    left: u64,
}

impl ByEpoch {
    /// How many batches of the `index`th range may be sent now; none while the rest of an epoch is to come from others.
    pub(super) fn batches_max(&mut self, cell: &StreamCell, ranges: &[Range], index: usize) -> Result<u64, Error> {
        let is_sent = |span: &EpochSpan| ranges.iter().all(|range| span.end(range.partition).is_none_or(|end| range.next >= end));
        if self.span.as_ref().is_none_or(is_sent) {
            let wanted: Vec<_> = ranges.iter().map(Range::wanted).collect();
            self.span = cell.next_epoch(&wanted)?;
            self.left = self.span.as_ref().map_or(0, |span| span.batches);
        }
        let Range { partition, next, .. } = ranges[index];
        Ok(self.span.as_ref().and_then(|span| span.end(partition)).map_or(0, |end| end.since(next)))
    }

    /// Some of the epoch was dropped before it was sent: what is left of it is looked for anew.
    pub(super) fn look_again(&mut self) {
        self.span = None;
    }

    /// Adds what a consumer has to know of each of its batches.
    pub(super) fn describe(&mut self, metadata: &mut BatchMetadata) {
        self.left = self.left.saturating_sub(1);
        metadata.epoch_left = Some(self.left);
        if let Some((producer, _)) = self.span.as_ref().and_then(|span| span.epoch.as_ref()) {
            producer.as_str().clone_into(&mut metadata.producer);
        }
    }
}

impl Range {
    fn wanted(&self) -> Wanted {
        let Self { partition, next, end, .. } = *self;
        Wanted { partition, next, end }
    }
}
