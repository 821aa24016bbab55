//! A query of one schema, and its answers to batches.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use datafusion_common::arrow::array::{Array, BooleanArray, RecordBatch, RecordBatchOptions};
use datafusion_common::arrow::compute::{filter_record_batch, prep_null_mask_filter};
use datafusion_common::arrow::datatypes::Schema;
use datafusion_common::cast::as_boolean_array;
use datafusion_common::{DataFusionError, Result};
use parking_lot::Mutex;

use super::codec::{self, Decoder, Encoder};
use super::error::QueryError;
use super::plan::{Plan, Step};
use crate::wire::batch::EncodedBatch;
use crate::wire::dictionary::DictionarySet;
use crate::wire::ipc::{self, Message};
use crate::wire::schema::StreamSchema;

/// A query of batches of one version of a stream's schema.
#[derive(Debug)]
pub struct Query {
    stream: StreamSchema,
    plan: Plan,
    schema: StreamSchema,
    has_dictionaries: bool,
    /// What is kept from one batch of a partition to the next.
    kept: Mutex<BTreeMap<u32, Kept>>,
}

#[derive(Debug)]
struct Kept {
    decoder: Decoder,
    encoder: Encoder,
}

/// What a query gives for a batch.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The results; its `schema` is the batch's own.
    pub batch: EncodedBatch,
    /// The numbers of the batch's rows that are left, in order; none: all are.
    rows: Option<Arc<[u32]>>,
}

impl Answer {
    /// Where the rows from `start` to before `end` of the batch are in the results.
    #[must_use]
    pub fn rows_of(&self, start: u64, end: u64) -> (u64, u64) {
        let Some(rows) = &self.rows else { return (start, end) };
        let place = |row: u64| rows.partition_point(|kept| u64::from(*kept) < row) as u64;
        (place(start), place(end))
    }
}

impl Query {
    /// Plans a query of a stream.
    ///
    /// # Errors
    /// [`QueryError::Refused`].
    pub fn new(stream: &str, schema: &StreamSchema, sql: &str) -> Result<Self, QueryError> {
        let plan = Plan::new(stream, &Arc::new(codec::schema_of(schema)?), sql)?;
        let results = codec::message_of(&plan.results)?;
        let has_dictionaries = results.has_dictionaries();
        Ok(Self { stream: schema.clone(), plan, schema: results, has_dictionaries, kept: Mutex::default() })
    }

    /// The schema of its results.
    #[must_use]
    pub fn schema(&self) -> &StreamSchema {
        &self.schema
    }

    /// Whether it only chooses columns: then a batch's header is all that is looked at.
    #[must_use]
    pub fn is_projection(&self) -> bool {
        self.plan.chosen.is_some() && !self.has_dictionaries
    }

    /// Most memory that answering takes, in bytes.
    ///
    /// # Errors
    /// As [`ipc::check_compressed`].
    pub fn bytes(&self, batch: &EncodedBatch) -> Result<u64, QueryError> {
        if self.is_projection() {
            return Ok(0);
        }
        let decompressed = ipc::decompressed_bytes(&ipc::parse(&batch.message.header)?, &batch.message.body)?;
        Ok(self.plan.growth.bytes(batch.rows, decompressed.unwrap_or_else(|| batch.message.body.len())))
    }

    /// The answer for a batch of a partition.
    ///
    /// # Errors
    /// [`QueryError::Failed`], [`QueryError::Wire`].
    pub fn answer(&self, partition: u32, batch: &EncodedBatch) -> Result<Answer, QueryError> {
        if let Some(chosen) = self.plan.chosen.as_ref().filter(|_| !self.has_dictionaries) {
            let message = self.stream.prune(&batch.message, chosen)?;
            return Ok(Answer { batch: self.encoded(batch, message), rows: None });
        }
        let pruned = self.stream.prune(&batch.message, &self.plan.columns)?;
        let kept = self.kept.lock().remove(&partition);
        let mut kept = kept.unwrap_or_else(|| Kept { decoder: Decoder::default(), encoder: Encoder::new(&self.plan.results) });
        kept.decoder.take_dictionaries(&batch.dictionaries, &self.plan.scanned, self.stream.has_nested_dictionaries())?;
        let decoded = kept.decoder.decode(&pruned, &self.plan.scanned)?;
        // What a function does with a value that it was not made for is its own affair, and no reason to end a connection.
        let evaluated = catch_unwind(AssertUnwindSafe(|| self.run(decoded)));
        let (results, rows) = match evaluated {
            Ok(evaluated) => evaluated.map_err(|error| QueryError::failed(&error))?,
            Err(_) => return Err(QueryError::Failed { reason: "DataFusion gave up on it".to_owned() }),
        };
        let encoded = kept.encoder.encode(&results, batch)?;
        // Without dictionaries nothing is worth keeping.
        if self.has_dictionaries || self.stream.has_dictionaries() {
            self.kept.lock().insert(partition, kept);
        }
        Ok(Answer { batch: EncodedBatch { schema: batch.schema, ..encoded }, rows })
    }

    fn encoded(&self, batch: &EncodedBatch, message: Message) -> EncodedBatch {
        EncodedBatch { message, dictionaries: DictionarySet::empty(), ..batch.clone() }
    }

    fn run(&self, mut batch: RecordBatch) -> Result<(RecordBatch, Option<Arc<[u32]>>)> {
        let mut rows: Option<Vec<u32>> = None;
        for step in &self.plan.steps {
            match step {
                Step::Filter(predicate) => {
                    let chosen = predicate.evaluate(&batch)?.into_array(batch.num_rows())?;
                    let chosen = without_nulls(as_boolean_array(&chosen)?);
                    if chosen.true_count() == chosen.len() {
                        continue;
                    }
                    let indices = chosen.values().set_indices();
                    rows = Some(match rows {
                        Some(rows) => indices.map(|index| rows[index]).collect(),
                        None => indices.map(|index| u32::try_from(index).unwrap_or(u32::MAX)).collect(),
                    });
                    batch = filter_record_batch(&batch, &chosen)?;
                }
                Step::Project(exprs, schema) => {
                    let count = batch.num_rows();
                    let column = |expr: &Arc<dyn datafusion_physical_expr::PhysicalExpr>| expr.evaluate(&batch)?.into_array(count);
                    let columns = exprs.iter().map(column).collect::<Result<_>>()?;
                    let options = RecordBatchOptions::new().with_row_count(Some(count));
                    batch = RecordBatch::try_new_with_options(schema.clone(), columns, &options)?;
                }
            }
        }
        Ok((with_schema(&batch, &self.plan.results)?, rows.map(Into::into)))
    }
}

/// What is neither true nor false is not chosen.
fn without_nulls(chosen: &BooleanArray) -> BooleanArray {
    if chosen.null_count() > 0 { prep_null_mask_filter(chosen) } else { chosen.clone() }
}

/// The same columns with the names of the results.
fn with_schema(batch: &RecordBatch, schema: &Arc<Schema>) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), batch.columns().to_vec(), &options).map_err(DataFusionError::from)
}
