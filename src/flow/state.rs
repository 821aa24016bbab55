//! A flow's state: what its rows have come to, and the offsets up to which they are in it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use datafusion_common::Result;
use datafusion_common::arrow::array::RecordBatch;
use datafusion_common::arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use super::aggregation::Aggregation;
use super::join::Join;
use super::parts::Part;
use super::store::Store;
use super::watermarks::SavedWatermarks;
use super::{FlowError, OperatorSpec, rows};

/// So much is shown of what is different in another flow.
const DIFFERENCE_CHARS: usize = 120;

/// What is done with rows that has a state.
pub(super) trait Operator: Send + std::fmt::Debug {
    /// The schema of its results.
    fn schema(&self) -> &SchemaRef;
    /// What its state is made of.
    fn said(&self) -> String;
    /// Goes on from what was kept.
    fn restore(&mut self, progress: &Progress, parts: Vec<(i64, Part)>, now: Duration) -> Result<()>;
    /// Takes the rows of a batch of one of its inputs.
    fn push(&mut self, input: usize, partition: u32, batch: &RecordBatch, now: Duration, store: &mut Store) -> Result<()>;
    /// No row comes any more from these partitions.
    fn end(&mut self, partitions: &[u32]);
    /// The results that there are by now, or if `now` is none, of everything: no row comes any more.
    fn fire(&mut self, now: Option<Duration>, store: &mut Store) -> Result<Vec<RecordBatch>>;
    /// The rows that came late since this was asked last.
    fn take_late(&mut self) -> Vec<RecordBatch>;
    /// Makes parts of what there is.
    fn seal(&mut self, store: &mut Store) -> Result<()>;
    /// All parts, with the slice that they are of.
    fn parts(&mut self) -> Box<dyn Iterator<Item = (i64, &mut Part)> + '_>;
    /// Memory that is held, in bytes.
    fn bytes(&self) -> usize;
    /// Up to where it has come.
    fn progress(&self) -> Progress;
    /// Up to when all rows are taken to have come, in microseconds since 1970.
    fn watermark_micros(&self) -> Option<i64>;
}

/// Up to where an operator has come, as it is kept.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Of each input.
    pub(super) watermarks: Vec<SavedWatermarks>,
    /// Windows that end until then have had their results.
    pub(super) fired: Option<i64>,
    pub(super) late_rows: u64,
}

/// Batches of one schema, from these partitions.
#[derive(Debug, Clone)]
pub struct Input {
    /// Of the batches.
    pub schema: SchemaRef,
    /// No two inputs have the same one.
    pub partitions: Vec<u32>,
}

/// Up to where a flow has come.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Saved {
    /// What tells this state from one that began anew.
    pub identity: String,
    /// How often it was saved.
    pub epoch: u64,
    /// The next offset of each partition.
    pub offsets: BTreeMap<u32, u64>,
    /// What was made of the batches since the state before, and where it goes.
    pub outputs: Vec<(String, RecordBatch)>,
}

/// As it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Facts {
    flow: String,
    identity: String,
    epoch: u64,
    offsets: BTreeMap<u32, u64>,
    progress: Progress,
}

/// The state of a flow with an aggregation or a join, or of one without them the offsets and outputs alone. Everything that it has is
/// in memory, and kept in a directory by [`Self::save`].
#[derive(Debug)]
pub struct State {
    store: Store,
    /// What tells this flow from another.
    flow: String,
    operator: Option<Box<dyn Operator>>,
    /// Of its inputs.
    schemas: Vec<SchemaRef>,
}

impl State {
    /// Opens the state of a flow, and says up to where it had come. A join has two inputs, the left one first; everything else has one.
    ///
    /// `flow` says all that its results depend on; a state of another one is refused. `memory_bytes_max` is for what is held:
    /// with a directory, what is more waits there; without one the flow ends. `now` is of any clock that goes forward.
    ///
    /// # Errors
    /// [`FlowError::Refused`]; [`FlowError::State`].
    pub fn open(
        inputs: &[Input],
        spec: Option<&OperatorSpec>,
        flow: &str,
        directory: Option<&Path>,
        memory_bytes_max: usize,
        now: Duration,
    ) -> Result<(Self, Option<Saved>), FlowError> {
        let mut operator = spec.map(|spec| operator(inputs, spec, now)).transpose()?;
        let schemas = inputs.iter().map(|input| input.schema.clone()).collect();
        let mut store = Store::open(directory, memory_bytes_max)?;
        let flow = operator.as_ref().map_or_else(|| flow.to_owned(), |operator| format!("{flow} with a state of {}", operator.said()));
        let Some(kept) = store.kept()? else { return Ok((Self { store, flow, operator, schemas }, None)) };
        let facts: Facts = serde_json::from_slice(&kept.facts).map_err(|error| store.refused(error.to_string()))?;
        if facts.flow != flow {
            let (before, now) = differing(&facts.flow, &flow);
            let reason = format!("it is of another flow, which has {before} where this one has {now}; use another directory");
            return Err(store.refused(reason));
        }
        if let Some(operator) = &mut operator {
            operator.restore(&facts.progress, kept.parts, now)?;
        }
        let saved = Saved { identity: facts.identity, epoch: facts.epoch, offsets: facts.offsets, outputs: kept.outputs };
        Ok((Self { store, flow, operator, schemas }, Some(saved)))
    }

    /// The schema of its results; none without an aggregation or a join.
    #[must_use]
    pub fn schema(&self) -> Option<&SchemaRef> {
        self.operator.as_ref().map(|operator| operator.schema())
    }

    /// Up to when all rows are taken to have come, in microseconds since 1970.
    #[must_use]
    pub fn watermark_micros(&self) -> Option<i64> {
        self.operator.as_ref()?.watermark_micros()
    }

    /// How many rows came late since the flow's beginning, those without an event time included.
    #[must_use]
    pub fn late_rows(&self) -> u64 {
        self.operator.as_ref().map_or(0, |operator| operator.progress().late_rows)
    }

    /// Adds the rows of a batch of one of its inputs. After an error it is of no more use: open it again.
    ///
    /// # Errors
    /// [`FlowError::Failed`] if an expression has no value for a row.
    pub fn push(&mut self, input: usize, partition: u32, batch: &RecordBatch, now: Duration) -> Result<(), FlowError> {
        let (Some(operator), Some(schema)) = (&mut self.operator, self.schemas.get(input)) else { return Ok(()) };
        rows::check(schema, batch)?;
        Ok(operator.push(input, partition, batch, now, &mut self.store)?)
    }

    /// No row comes any more from these partitions: nothing waits for them.
    pub fn end(&mut self, partitions: &[u32]) {
        if let Some(operator) = &mut self.operator {
            operator.end(partitions);
        }
    }

    /// The results of what is over by now.
    ///
    /// # Errors
    /// [`FlowError::Failed`].
    pub fn fire(&mut self, now: Duration) -> Result<Vec<RecordBatch>, FlowError> {
        let Some(operator) = &mut self.operator else { return Ok(Vec::new()) };
        Ok(operator.fire(Some(now), &mut self.store)?)
    }

    /// The results of everything: no row comes any more.
    ///
    /// # Errors
    /// [`FlowError::Failed`].
    pub fn finish(&mut self) -> Result<Vec<RecordBatch>, FlowError> {
        let Some(operator) = &mut self.operator else { return Ok(Vec::new()) };
        Ok(operator.fire(None, &mut self.store)?)
    }

    /// The rows that came late since this was asked last, with how late they were, as `late_by_micros`.
    pub fn take_late(&mut self) -> Vec<RecordBatch> {
        self.operator.as_mut().map(|operator| operator.take_late()).unwrap_or_default()
    }

    /// Memory that is held, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.operator.as_ref().map_or(0, |operator| operator.bytes())
    }

    /// How many parts there are.
    #[cfg(test)]
    pub(super) fn parts(&mut self) -> usize {
        self.operator.as_mut().map_or(0, |operator| operator.parts().count())
    }

    /// Whether it holds more than it may: fire and save then.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.store.is_full(self.bytes())
    }

    /// Keeps the state, with the offsets that it reflects and what was made of them, all of it or nothing. What has been
    /// fired must be among the outputs. Without a directory, nothing is kept.
    ///
    /// # Errors
    /// [`FlowError::State`]; then what was kept before is.
    pub fn save(&mut self, saved: &Saved) -> Result<(), FlowError> {
        if let Some(operator) = self.operator.as_mut().filter(|_| self.store.is_kept()) {
            operator.seal(&mut self.store)?;
        }
        let facts = Facts {
            flow: self.flow.clone(),
            identity: saved.identity.clone(),
            epoch: saved.epoch,
            offsets: saved.offsets.clone(),
            progress: self.operator.as_ref().map(|operator| operator.progress()).unwrap_or_default(),
        };
        let facts = serde_json::to_vec(&facts).map_err(|error| self.store.refused(error.to_string()))?;
        match &mut self.operator {
            Some(operator) => self.store.save(&facts, &saved.outputs, &mut operator.parts())?,
            None => self.store.save(&facts, &saved.outputs, &mut std::iter::empty())?,
        }
        if !self.store.is_kept() && self.is_full() {
            let (held, allowed) = (self.bytes(), self.store.memory_bytes_max());
            let reason = format!("its state has come to {held} bytes, and {allowed} are allowed; give it a directory for its state");
            return Err(FlowError::Failed { reason });
        }
        Ok(())
    }
}

/// What two descriptions have from where they differ.
fn differing<'a>(one: &'a str, other: &'a str) -> (&'a str, &'a str) {
    let same: usize = one.chars().zip(other.chars()).take_while(|(one, other)| one == other).map(|(one, _)| one.len_utf8()).sum();
    // From the beginning of the part on.
    let from = one[..same].rfind([',', ';', '(', '[']).map_or(0, |at| at + 1);
    let shown = |text: &'a str| match text[from..].char_indices().nth(DIFFERENCE_CHARS) {
        Some((end, _)) => text[from..from + end].trim(),
        None if text.len() == from => "nothing",
        None => text[from..].trim(),
    };
    (shown(one), shown(other))
}

fn operator(inputs: &[Input], spec: &OperatorSpec, now: Duration) -> Result<Box<dyn Operator>, FlowError> {
    match (spec, inputs) {
        (OperatorSpec::Aggregation(spec), [input]) => Ok(Box::new(Aggregation::new(input, spec, now)?)),
        (OperatorSpec::Join(spec), [left, right]) => Ok(Box::new(Join::new(left, right, spec, now)?)),
        (_, inputs) => Err(FlowError::refused(format!("{} inputs; a join has two, an aggregation one", inputs.len()))),
    }
}
