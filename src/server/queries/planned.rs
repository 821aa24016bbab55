//! Queries of a build that has them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::super::cell::StreamCell;
use super::super::coordinator::Coordinator;
use super::super::error::Error;
use super::super::validation::AT_ONCE_BYTES;
use super::answers::{Answers, Asked};
use super::refused;
use crate::engine::{Code, Offset, PartitionId, SchemaVersion, StreamName};
use crate::query::{Answer, Query, QueryError};
use crate::wire::batch::EncodedBatch;
use crate::wire::proto::LeasedShare;
use crate::wire::schema::StreamSchema;

/// Most memory that answering may take by its plan's estimate, which is of the worst case.
const ANSWER_BYTES_MAX: u64 = 1 << 30;
/// Plans that are kept; beyond them all are made anew.
const PLANNED_MAX: usize = 256;

/// Queries by their text and the schema of what they are asked, and why there is none.
type Planned = BTreeMap<(Arc<str>, Bytes), Result<Arc<Query>, Arc<str>>>;

/// The queries of a stream.
#[derive(Debug, Default)]
pub(in crate::server) struct Queries {
    planned: Mutex<Planned>,
    answers: Answers,
}

impl Queries {
    /// Plans a query of batches of this schema, unless it is planned already.
    ///
    /// # Errors
    /// `invalid_argument`, which says what is wrong with it.
    pub(super) fn plan(&self, stream: &StreamName, schema: &StreamSchema, query: &str) -> Result<Arc<Query>, Error> {
        let key = (Arc::from(query), schema.header().clone());
        if let Some(planned) = self.planned.lock().get(&key) {
            return planned.clone().map_err(|reason| refused(&*reason));
        }
        let planned = Query::new(stream.as_str(), schema, query).map(Arc::new).map_err(|error| Arc::from(error.to_string()));
        let mut all = self.planned.lock();
        if all.len() >= PLANNED_MAX {
            all.clear();
        }
        all.insert(key, planned.clone());
        planned.map_err(|reason| refused(&*reason))
    }

    /// Lets go of what a query keeps from batch to batch.
    fn forget(&self, query: &str) {
        let planned = self.planned.lock();
        planned
            .iter()
            .filter(|((text, _), _)| **text == *query)
            .filter_map(|(_, planned)| planned.as_ref().ok())
            .for_each(|query| query.forget());
    }

    /// The schema of a query's answers, as a message; empty if the stream has none, or one that it is no query of.
    pub(in crate::server) fn schema(&self, cell: &StreamCell, query: &str) -> Bytes {
        let planned = cell.schema().and_then(|schema| self.plan(cell.name(), &schema, query).ok());
        planned.map_or_else(Bytes::new, |planned| planned.schema().header().clone())
    }
}

/// What a reader asks of each batch.
#[derive(Debug)]
pub(in crate::server) struct Asking {
    cell: Arc<StreamCell>,
    asked: Asked,
    /// Of the version of the schema that came last.
    planned: Option<(SchemaVersion, Arc<Query>)>,
}

impl Asking {
    /// For a reader of a subscription that asks this.
    pub(in crate::server) fn begin(cell: &Arc<StreamCell>, query: Arc<str>) -> Self {
        Self { asked: cell.queries().answers.ask(query), cell: cell.clone(), planned: None }
    }

    /// The query of batches of this version of the stream's schema.
    ///
    /// # Errors
    /// `query_failed`: a version that came later has not what it asks for.
    fn of(&mut self, version: SchemaVersion) -> Result<Arc<Query>, Error> {
        if let Some((_, query)) = self.planned.as_ref().filter(|(planned, _)| *planned == version) {
            return Ok(query.clone());
        }
        let missing = || Error::Task { reason: format!("version {version} of the schema is not known") };
        let schema = self.cell.schema_of(version).ok_or_else(missing)?;
        let planned = self.cell.queries().plan(self.cell.name(), &schema, self.asked.query());
        let query = planned.map_err(|error| Error::Unanswered {
            what: format!("version {version} of the stream's schema"),
            query: self.asked.query().clone(),
            code: Code::QueryFailed,
            reason: error.to_string(),
        })?;
        self.planned = Some((version, query.clone()));
        Ok(query)
    }

    /// The schema of its answers to batches of a version.
    ///
    /// # Errors
    /// `query_failed`.
    pub(in crate::server) fn schema(&mut self, version: SchemaVersion) -> Result<StreamSchema, Error> {
        Ok(self.of(version)?.schema().clone())
    }

    /// The answer for a batch; the shares of it that its reader is given become those of the answer.
    ///
    /// # Errors
    /// `query_failed`, `malformed_message`.
    pub(in crate::server) async fn answer(
        &mut self,
        coordinator: &Coordinator,
        (partition, offset): (PartitionId, Offset),
        batch: Arc<EncodedBatch>,
        shares: &mut [LeasedShare],
    ) -> Result<Arc<EncodedBatch>, Error> {
        let query = self.of(batch.schema)?;
        let unanswered = |error: &QueryError| Error::Unanswered {
            what: format!("partition {partition}, offset {offset}"),
            query: self.asked.query().clone(),
            code: error.code(),
            reason: error.to_string(),
        };
        let answer = if query.is_projection() {
            Arc::new(query.answer(partition.0, &batch, 0).map_err(|error| unanswered(&error))?)
        } else {
            let answering = async { answer(coordinator, query, partition, batch).await?.map_err(|error| unanswered(&error)) };
            self.asked.once((partition, offset), answering).await?
        };
        for share in shares {
            (share.start, share.end) = answer.rows_of(share.start, share.end);
        }
        Ok(Arc::new(answer.batch.clone()))
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if self.asked.is_alone() {
            self.cell.queries().forget(self.asked.query());
        }
    }
}

/// Answers where it does not keep others waiting: small batches at once, larger ones on a thread of their own, as many at a time as
/// there are cores, and within the memory that looking closely at batches may take.
async fn answer(
    coordinator: &Coordinator,
    query: Arc<Query>,
    partition: PartitionId,
    batch: Arc<EncodedBatch>,
) -> Result<Result<Answer, QueryError>, Error> {
    let is_simulated = coordinator.store().is_some_and(|store| !store.is_real());
    // Until it is decoded, what it takes is known by what batches before took.
    let mut bytes = match query.bytes(&batch) {
        Ok(bytes) => bytes.min(ANSWER_BYTES_MAX),
        Err(error) => return Ok(Err(error)),
    };
    loop {
        let answered = if bytes <= AT_ONCE_BYTES || is_simulated {
            query.answer(partition.0, &batch, bytes)
        } else {
            let taken = coordinator.validation_room().take(bytes).await?;
            let (query, batch) = (query.clone(), batch.clone());
            let answered = tokio::task::spawn_blocking(move || (query.answer(partition.0, &batch, bytes), taken).0).await;
            answered.map_err(|error| Error::Task { reason: error.to_string() })?
        };
        match answered {
            Err(QueryError::Memory { bytes: more }) if more <= ANSWER_BYTES_MAX => bytes = more,
            Err(error @ QueryError::Memory { .. }) => {
                let reason = format!("{error}, and {ANSWER_BYTES_MAX} are allowed; append smaller batches");
                return Ok(Err(QueryError::Failed { reason }));
            }
            answered => return Ok(answered),
        }
    }
}
