//! Parts of the state: what groups had come to at some time, never changed again; states of the same key in several parts are merged.

use std::sync::Arc;

use datafusion_common::Result;
use datafusion_common::arrow::array::{RecordBatch, UInt32Array};

use super::aggregates::Aggregates;
use super::groups::{Groups, hashes, rows_of};
use super::store::Store;

/// So many parts of the same rows are made one.
const PARTS_MAX: usize = 8;

/// One of them, in memory, on the disk, or both.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) number: u64,
    pub(super) rows: usize,
    /// What it takes in memory, in bytes, or on the disk.
    pub(super) bytes: usize,
    /// Invariant: there, unless it is stored.
    pub(super) batch: Option<RecordBatch>,
    pub(super) is_stored: bool,
}

impl Part {
    /// What it takes in memory, in bytes.
    pub(super) fn held(&self) -> usize {
        if self.batch.is_some() { self.bytes } else { 0 }
    }
}

/// What batches take in memory, in bytes.
pub(super) fn held(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::get_array_memory_size).sum()
}

/// From which of these sizes on it is time to make them one.
pub(super) fn behind(sizes: &[usize]) -> usize {
    // The larger ones are left alone until those behind them are as large: each row is merged a logarithmic number of times.
    let (mut from, mut rows) = (sizes.len(), 0);
    while from > 0 && (sizes.len() - from < 2 || rows * 2 >= sizes[from - 1] || from > PARTS_MAX) {
        from -= 1;
        rows += sizes[from];
    }
    from
}

/// The parts of the same rows.
#[derive(Debug, Default)]
pub(super) struct Parts {
    all: Vec<Part>,
    /// What they were when they were last merged share by share, in bytes.
    merged_bytes: usize,
}

impl Parts {
    pub(super) fn push(&mut self, part: Part) {
        self.all.push(part);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Part> {
        self.all.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Part> {
        self.all.iter_mut()
    }

    /// What is held in memory, in bytes.
    pub(super) fn held(&self) -> usize {
        self.all.iter().map(Part::held).sum()
    }

    /// Merges parts of which many are small into one, of so many as fit in memory; all of them share by share of their keys once they
    /// have become twice what they were then.
    pub(super) fn compact(&mut self, plan: &Arc<Aggregates>, store: &mut Store) -> Result<()> {
        let room = store.working_bytes();
        let mut from = behind(&self.all.iter().map(|part| part.rows).collect::<Vec<_>>());
        let mut bytes = self.all[from..].iter().map(|part| part.bytes).sum::<usize>();
        while bytes > room && from < self.all.len() {
            bytes -= self.all[from].bytes;
            from += 1;
        }
        if self.all.len() - from >= 2 {
            let mut groups = Groups::new(plan)?;
            for part in self.all.drain(from..) {
                groups.merge(&store.read(&part)?)?;
                store.discard(&part);
            }
            let merged = groups.seal()?;
            self.all.push(store.add(merged));
        }
        let bytes = self.all.iter().map(|part| part.bytes).sum::<usize>();
        if bytes > room && self.all.len() > PARTS_MAX && bytes / 2 > self.merged_bytes {
            let parts: Vec<&Part> = self.all.iter().collect();
            let mut shares = Vec::new();
            merged(plan, &parts, store, |groups| {
                shares.push(groups.seal()?);
                Ok(())
            })?;
            self.all.drain(..).for_each(|part| store.discard(&part));
            self.all.extend(shares.into_iter().map(|share| store.add(share)));
            self.merged_bytes = self.all.iter().map(|part| part.bytes).sum();
        }
        Ok(())
    }
}

/// Calls `work` with the groups of all parts: with all at once, or with one share of the keys after the other if they do not fit in memory.
pub(super) fn merged(plan: &Arc<Aggregates>, parts: &[&Part], store: &Store, mut work: impl FnMut(Groups) -> Result<()>) -> Result<()> {
    let bytes: usize = parts.iter().map(|part| part.bytes).sum();
    let shares = if plan.keys() == 0 { 1 } else { bytes.div_ceil(store.working_bytes()).max(1) };
    for share in 0..shares {
        let mut groups = Groups::new(plan)?;
        for part in parts {
            let batch = store.read(part)?;
            groups.merge(&if shares == 1 { batch } else { share_of(plan, &batch, share, shares)? })?;
        }
        if !groups.is_empty() {
            work(groups)?;
        }
    }
    Ok(())
}

/// The rows whose keys are of one share of several.
fn share_of(plan: &Aggregates, batch: &RecordBatch, share: usize, shares: usize) -> Result<RecordBatch> {
    let hashes = hashes(&batch.columns()[..plan.keys()], batch.num_rows())?;
    let is_own = |hash: &u64| usize::try_from(hash % shares as u64).unwrap_or(0) == share;
    let rows = hashes.iter().zip(0_u32..).filter(|(hash, _)| is_own(hash)).map(|(_, row)| row);
    rows_of(batch, &UInt32Array::from_iter_values(rows))
}
