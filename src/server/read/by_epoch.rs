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
    /// Batches of it that are not taken out of their partitions yet.
    to_take: u64,
    /// Batches of it that are not framed yet.
    to_frame: u64,
    /// There was no epoch when this pass over the ranges looked: whatever comes meanwhile makes another pass.
    found_none: bool,
}

impl ByEpoch {
    /// How many batches of the `index`th range may be taken now; none while the rest of an epoch is to come from others.
    pub(super) fn batches_max(&mut self, cell: &StreamCell, ranges: &[Range], index: usize) -> Result<u64, Error> {
        self.found_none = self.found_none && index > 0;
        if self.to_take == 0 && !self.found_none {
            let wanted: Vec<_> = ranges.iter().map(Range::wanted).collect();
            self.span = cell.next_epoch(&wanted)?;
            self.found_none = self.span.is_none();
            self.to_take = self.span.as_ref().map_or(0, |span| span.batches);
            self.to_frame = self.to_take;
        }
        let Range { partition, next, .. } = ranges[index];
        let end = self.span.as_ref().filter(|_| self.to_take > 0).and_then(|span| span.ends.get(&partition));
        Ok(end.map_or(0, |end| end.since(next)))
    }

    /// So many batches were taken.
    pub(super) fn note_taken(&mut self, batches: usize) {
        self.to_take = self.to_take.saturating_sub(batches as u64);
    }

    /// Some of the epoch was dropped before it was taken: what is left of it is looked for anew.
    pub(super) fn look_again(&mut self) {
        *self = Self::default();
    }

    /// Adds what a consumer has to know of each of its batches.
    pub(super) fn describe(&mut self, metadata: &mut BatchMetadata) {
        self.to_frame = self.to_frame.saturating_sub(1);
        metadata.epoch_left = Some(self.to_frame);
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
