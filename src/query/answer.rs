//! A query of one schema, and its answers to batches.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use datafusion_common::Result;
use datafusion_common::arrow::array::{Array, ArrayRef, AsArray as _, RecordBatch};
use datafusion_common::arrow::compute::filter_record_batch;
use datafusion_common::arrow::datatypes::{DataType, Schema};
use parking_lot::Mutex;

use super::codec::{self, Decoder, Encoder};
use super::error::QueryError;
use super::measure;
use super::plan::Plan;
use super::steps::{self, Step, with_columns};
use crate::wire::batch::EncodedBatch;
use crate::wire::dictionary::DictionarySet;
use crate::wire::ipc::{self, Message};
use crate::wire::limits::HEAD_BYTES_MAX;
use crate::wire::schema::StreamSchema;

/// Most bytes of an answer, unless its batch has more: Arrow's and gRPC's readers take no message of more than 2 GiB.
const MESSAGE_BYTES_MAX: u64 = 1 << 30;

/// A query of batches of one version of a stream's schema.
#[derive(Debug)]
pub struct Query {
    stream: StreamSchema,
    plan: Plan,
    schema: StreamSchema,
    has_dictionaries: bool,
    /// How many times their bodies what batches hold is, where values are for many rows: the most that was found, rounded up.
    held_times: AtomicU64,
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
        Ok(Self { stream: schema.clone(), plan, schema: results, has_dictionaries, held_times: AtomicU64::new(1), kept: Mutex::default() })
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

    /// Memory that answering takes, in bytes, by the batch's header and the batches before. It may turn out to be more.
    ///
    /// # Errors
    /// As [`ipc::check_compressed`].
    pub fn bytes(&self, batch: &EncodedBatch) -> Result<u64, QueryError> {
        if self.is_projection() {
            return Ok(0);
        }
        let (decoding, body) = self.decoding(batch)?;
        let held = body.saturating_mul(self.held_times.load(Relaxed));
        Ok(decoding.saturating_add(self.plan.growth.bytes_of_body(batch.rows, held)))
    }

    /// What decoding takes, and the body's bytes without compression.
    fn decoding(&self, batch: &EncodedBatch) -> Result<(u64, u64), QueryError> {
        let decompressed = ipc::decompressed_bytes(&ipc::parse(&batch.message.header)?, &batch.message.body)?;
        let body = decompressed.unwrap_or_else(|| batch.message.body.len());
        let mut dictionaries = 0_u64;
        for message in batch.dictionaries.missing_from(&DictionarySet::empty()) {
            let decompressed = ipc::decompressed_bytes(&ipc::parse(&message.header)?, &message.body)?;
            dictionaries = dictionaries.saturating_add(decompressed.unwrap_or_else(|| message.body.len()));
        }
        // In one piece, without compression; dictionaries are encoded again.
        Ok((body.saturating_mul(2).saturating_add(dictionaries.saturating_mul(3)), body))
    }

    /// The answer for a batch of a partition, with so much memory set aside for it, in bytes.
    ///
    /// # Errors
    /// [`QueryError::Memory`] if it takes more; [`QueryError::Failed`], [`QueryError::Wire`].
    pub fn answer(&self, partition: u32, batch: &EncodedBatch, memory: u64) -> Result<Answer, QueryError> {
        self.answer_rows(partition, batch, None, memory)
    }

    /// The same for some rows of the batch, whatever its other rows are. Where only columns are chosen, it is for all of them.
    ///
    /// # Errors
    /// As [`answer`](Self::answer).
    pub fn answer_rows(&self, partition: u32, batch: &EncodedBatch, rows: Option<&Range<u32>>, memory: u64) -> Result<Answer, QueryError> {
        let answer = self.unbounded(partition, batch, rows, memory)?;
        let Message { header, body } = &answer.batch.message;
        let bytes_max = MESSAGE_BYTES_MAX.max(batch.message.body.len());
        if header.len() as u64 > HEAD_BYTES_MAX || body.len() > bytes_max {
            let bytes = body.len() + header.len() as u64;
            return Err(QueryError::Failed {
                reason: format!("the answer has {bytes} bytes, and {bytes_max} are allowed; append smaller batches"),
            });
        }
        Ok(answer)
    }

    fn unbounded(&self, partition: u32, batch: &EncodedBatch, rows: Option<&Range<u32>>, memory: u64) -> Result<Answer, QueryError> {
        if let Some(chosen) = self.plan.chosen.as_ref().filter(|_| !self.has_dictionaries) {
            let message = self.stream.prune(&batch.message, chosen)?;
            return Ok(Answer { batch: self.encoded(batch, message), rows: None });
        }
        let (decoding, body) = self.decoding(batch)?;
        if decoding > memory {
            return Err(QueryError::Memory { bytes: decoding });
        }
        let pruned = self.stream.prune(&batch.message, &self.plan.columns)?;
        let kept = self.kept.lock().remove(&partition);
        let mut kept = kept.unwrap_or_else(|| Kept { decoder: Decoder::default(), encoder: Encoder::new(&self.plan.results) });
        kept.decoder.take_dictionaries(&batch.dictionaries, &self.plan.scanned, self.stream.has_nested_dictionaries())?;
        let decoded = kept.decoder.decode(&pruned, &self.plan.scanned)?;
        self.check_memory(&decoded, (decoding, body), memory)?;
        // What a function does with a value that it was not made for is its own affair, and no reason to end a connection.
        let evaluated = catch_unwind(AssertUnwindSafe(|| {
            let (results, rows) = self.run(decoded, rows).map_err(|error| QueryError::failed(&error))?;
            Ok((kept.encoder.encode(&results, batch)?, rows))
        }));
        let (encoded, rows) = evaluated.unwrap_or_else(|_| Err(QueryError::Failed { reason: "DataFusion gave up on it".to_owned() }))?;
        // Without dictionaries nothing is worth keeping.
        if self.has_dictionaries || self.stream.has_dictionaries() {
            self.kept.lock().insert(partition, kept);
        }
        Ok(Answer { batch: EncodedBatch { schema: batch.schema, ..encoded }, rows })
    }

    /// Whether answering takes no more than was set aside, now that what the columns hold can be seen.
    fn check_memory(&self, decoded: &RecordBatch, (decoding, body): (u64, u64), memory: u64) -> Result<(), QueryError> {
        let held: Vec<u64> = decoded.columns().iter().map(|column| measure::flat(column)).collect();
        let bytes = decoding.saturating_add(self.plan.growth.bytes(decoded.num_rows() as u64, &held));
        if bytes <= memory {
            return Ok(());
        }
        let all = held.iter().copied().fold(0, u64::saturating_add);
        self.held_times.fetch_max(all.div_ceil(body.max(1)).max(1), Relaxed);
        Err(QueryError::Memory { bytes })
    }

    /// Lets go of what is kept from batch to batch: nobody asks any more.
    pub fn forget(&self) {
        self.kept.lock().clear();
    }

    fn encoded(&self, batch: &EncodedBatch, message: Message) -> EncodedBatch {
        EncodedBatch { message, dictionaries: DictionarySet::empty(), ..batch.clone() }
    }

    fn run(&self, mut batch: RecordBatch, of: Option<&Range<u32>>) -> Result<(RecordBatch, Option<Arc<[u32]>>)> {
        let mut rows: Option<Vec<u32>> = None;
        if let Some(of) = of {
            let (start, end) = (of.start.min(count_of(&batch)), of.end.min(count_of(&batch)));
            batch = batch.slice(start as usize, end.saturating_sub(start) as usize);
            rows = Some((start..end).collect());
        }
        for step in &self.plan.steps {
            match step {
                Step::Filter(predicate) => {
                    let chosen = steps::chosen(predicate, &batch)?;
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
                Step::Project(exprs, schema) => batch = steps::projected(exprs, schema, &batch)?,
            }
        }
        let batch = if rows.is_some() { without_the_rest(&batch)? } else { batch };
        Ok((with_schema(&batch, &self.plan.results)?, rows.map(Into::into)))
    }
}

fn count_of(batch: &RecordBatch) -> u32 {
    u32::try_from(batch.num_rows()).unwrap_or(u32::MAX)
}

/// Views without the bytes of the rows that are gone.
fn without_the_rest(batch: &RecordBatch) -> Result<RecordBatch> {
    let column = |column: &ArrayRef| -> ArrayRef {
        match column.data_type() {
            DataType::Utf8View => Arc::new(column.as_string_view().gc()),
            DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
            _ => column.clone(),
        }
    };
    with_columns(batch.schema_ref(), batch.columns().iter().map(column).collect(), batch.num_rows())
}

/// The same columns with the names of the results.
fn with_schema(batch: &RecordBatch, schema: &Arc<Schema>) -> Result<RecordBatch> {
    with_columns(schema, batch.columns().to_vec(), batch.num_rows())
}
