//! Queries of a build that has them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

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

/// A query's text, and the schema of what is asked.
type Key = (Arc<str>, Bytes);
/// Where the query is or will be, or why there is none.
type PlannedCell = Arc<OnceCell<Result<Arc<Query>, Arc<str>>>>;

/// The queries of a stream.
#[derive(Debug, Default)]
pub(in crate::server) struct Queries {
    planned: Mutex<BTreeMap<Key, PlannedCell>>,
    answers: Answers,
}

impl Queries {
    /// Plans a query of batches of this schema, unless it is planned already: once, however many ask at the same time.
    ///
    /// # Errors
    /// `invalid_argument`, which says what is wrong with it.
    pub(super) async fn plan(
        &self,
        coordinator: &Coordinator,
        stream: &StreamName,
        schema: &StreamSchema,
        query: &str,
    ) -> Result<Arc<Query>, Error> {
        let cell = self.ask((Arc::from(query), schema.header().clone()));
        let planned = cell.get_or_try_init(|| plan(coordinator, stream, schema, query)).await?;
        planned.clone().map_err(|reason| refused(&*reason))
    }

    /// Where a query is, or will be.
    fn ask(&self, key: Key) -> PlannedCell {
        let mut all = self.planned.lock();
        if all.len() >= PLANNED_MAX && !all.contains_key(&key) {
            all.clear();
        }
        all.entry(key).or_default().clone()
    }

    /// Lets go of what a query keeps from batch to batch.
    fn forget(&self, query: &str) {
        let planned = self.planned.lock();
        planned
            .iter()
            .filter(|((text, _), _)| **text == *query)
            .filter_map(|(_, planned)| planned.get()?.as_ref().ok())
            .for_each(|query| query.forget());
    }

    /// The schema of a query's answers, as a message; empty if the stream has none, or one that it is no query of.
    pub(super) async fn schema(&self, coordinator: &Coordinator, cell: &StreamCell, query: &str) -> Bytes {
        let Some(schema) = cell.schema() else { return Bytes::new() };
        let planned = self.plan(coordinator, cell.name(), &schema, query).await;
        planned.map_or_else(|_| Bytes::new(), |planned| planned.schema().header().clone())
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
    async fn of(&mut self, coordinator: &Coordinator, version: SchemaVersion) -> Result<Arc<Query>, Error> {
        if let Some((_, query)) = self.planned.as_ref().filter(|(planned, _)| *planned == version) {
            return Ok(query.clone());
        }
        let missing = || Error::Task { reason: format!("version {version} of the schema is not known") };
        let schema = self.cell.schema_of(version).ok_or_else(missing)?;
        let planned = self.cell.queries().plan(coordinator, self.cell.name(), &schema, self.asked.query()).await;
        let query = planned.map_err(|error| match error {
            Error::InvalidArgument { .. } => Error::Unanswered {
                what: format!("version {version} of the stream's schema"),
                query: self.asked.query().clone(),
                code: Code::QueryFailed,
                reason: error.to_string(),
            },
            // It says nothing of the query.
            other => other,
        })?;
        self.planned = Some((version, query.clone()));
        Ok(query)
    }

    /// The schema of its answers to batches of a version.
    ///
    /// # Errors
    /// `query_failed`.
    pub(in crate::server) async fn schema(&mut self, coordinator: &Coordinator, version: SchemaVersion) -> Result<StreamSchema, Error> {
        Ok(self.of(coordinator, version).await?.schema().clone())
    }

    /// The answer for a batch, or for one share of it `alone`; the shares of it that its reader is given become those of the answer.
    ///
    /// # Errors
    /// `query_failed`, `malformed_message`.
    pub(in crate::server) async fn answer(
        &mut self,
        coordinator: &Coordinator,
        (partition, offset): (PartitionId, Offset),
        batch: Arc<EncodedBatch>,
        shares: &mut [LeasedShare],
        alone: bool,
    ) -> Result<Arc<EncodedBatch>, Error> {
        let query = self.of(coordinator, batch.schema).await?;
        let unanswered = |error: &QueryError| Error::Unanswered {
            what: format!("partition {partition}, offset {offset}"),
            query: self.asked.query().clone(),
            code: error.code(),
            reason: error.to_string(),
        };
        let row = |row: u64| u32::try_from(row).unwrap_or(u32::MAX);
        let rows = shares.first().filter(|_| alone).map(|share| row(share.start)..row(share.end));
        let answer = if query.is_projection() {
            Arc::new(query.answer(partition.0, &batch, 0).map_err(|error| unanswered(&error))?)
        } else {
            let answering = async { answer(coordinator, query, partition, batch, rows).await?.map_err(|error| unanswered(&error)) };
            if alone { Arc::new(answering.await?) } else { self.asked.once((partition, offset), answering).await? }
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

/// Plans on a thread that may block, which goes on when who asks is gone, and holds what it takes.
///
/// # Errors
/// What has nothing to do with the query: who asks next tries again.
async fn plan(
    coordinator: &Coordinator,
    stream: &StreamName,
    schema: &StreamSchema,
    query: &str,
) -> Result<Result<Arc<Query>, Arc<str>>, Error> {
    let (stream, schema, query) = (stream.clone(), schema.clone(), query.to_owned());
    let planning = move || {
        let planned = Query::new(stream.as_str(), &schema, &query);
        planned.map(Arc::new).map_err(|error| Arc::from(error.to_string()))
    };
    if coordinator.store().is_some_and(|store| !store.is_real()) {
        return Ok(planning());
    }
    let taken = coordinator.validation_room().plan().await?;
    let planned = tokio::task::spawn_blocking(move || (planning(), taken).0).await;
    planned.map_err(|error| Error::Task { reason: error.to_string() })
}

/// Answers where it does not keep others waiting: small batches at once, larger ones on a thread of their own, as many at a time as
/// there are cores, and within the memory that looking closely at batches may take.
async fn answer(
    coordinator: &Coordinator,
    query: Arc<Query>,
    partition: PartitionId,
    batch: Arc<EncodedBatch>,
    rows: Option<Range<u32>>,
) -> Result<Result<Answer, QueryError>, Error> {
    let is_simulated = coordinator.store().is_some_and(|store| !store.is_real());
    // Until it is decoded, what it takes is known by what batches before took.
    let mut bytes = match query.bytes(&batch) {
        Ok(bytes) => bytes.min(ANSWER_BYTES_MAX),
        Err(error) => return Ok(Err(error)),
    };
    loop {
        let answered = if bytes <= AT_ONCE_BYTES || is_simulated {
            query.answer_rows(partition.0, &batch, rows.as_ref(), bytes)
        } else {
            let taken = coordinator.validation_room().take(bytes).await?;
            let (query, batch, rows) = (query.clone(), batch.clone(), rows.clone());
            let answering = move || (query.answer_rows(partition.0, &batch, rows.as_ref(), bytes), taken).0;
            let answered = tokio::task::spawn_blocking(answering).await;
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

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::mpsc;

    use arrow_schema::{DataType, Field, Schema};
    use futures::FutureExt;
    use tokio::runtime::{Builder, Runtime};
    use tokio::sync::OwnedSemaphorePermit;

    use super::super::super::config::ServerConfig;
    use super::*;
    use crate::storage::{Spool, SpoolOptions};

    /// A stream that queries are asked of.
    struct World {
        coordinator: Arc<Coordinator>,
        queries: Queries,
        stream: StreamName,
        schema: StreamSchema,
    }

    impl World {
        fn new() -> Self {
            let spool = Spool::new(SpoolOptions::default()).expect("the system's folder is there");
            let schema = Schema::new(vec![Field::new("a", DataType::Int64, false)]);
            Self {
                coordinator: Coordinator::new(ServerConfig::default().coordinator_options(), spool),
                queries: Queries::default(),
                stream: StreamName::new("s").expect("a name"),
                schema: StreamSchema::from_arrow(&schema).expect("a schema"),
            }
        }

        async fn plan(&self, query: &str) -> Result<Arc<Query>, Error> {
            self.queries.plan(&self.coordinator, &self.stream, &self.schema, query).await
        }

        /// All the room that is left to plan in.
        fn all_room(&self) -> Vec<OwnedSemaphorePermit> {
            let room = || self.coordinator.validation_room().plan().now_or_never()?.ok();
            std::iter::from_fn(room).collect()
        }
    }

    const GOOD: &str = "SELECT a FROM s WHERE a > 1";
    const BAD: &str = "SELECT nothing FROM s";

    /// With one thread that may block.
    fn runtime() -> Runtime {
        Builder::new_current_thread().max_blocking_threads(1).build().expect("a runtime")
    }

    #[test]
    fn a_query_is_planned_off_the_runtimes_threads() {
        runtime().block_on(async {
            let world = World::new();
            let (done, working) = mpsc::sync_channel::<()>(1);
            let other = tokio::task::spawn_blocking(move || working.recv());
            let mut plan = pin!(world.plan(GOOD));
            assert!(plan.as_mut().now_or_never().is_none(), "the only thread that may plan is at other work");
            assert!(world.plan(GOOD).now_or_never().is_none(), "and whoever asks the same waits for that plan");
            drop(done);
            let planned = plan.await.expect("a query");
            assert!(other.await.expect("ends").is_err());
            let again = world.plan(GOOD).now_or_never().expect("is there").expect("a query");
            assert!(Arc::ptr_eq(&planned, &again));
        });
    }

    #[tokio::test]
    async fn those_who_ask_at_the_same_time_get_one_plan_once_there_is_room() {
        let world = World::new();
        let room = world.all_room();
        let most = std::thread::available_parallelism().map_or(1, usize::from).div_ceil(2);
        assert_eq!(room.len(), most, "others are to be served meanwhile");
        let (mut one, mut other) = (pin!(world.plan(GOOD)), pin!(world.plan(GOOD)));
        let mut bad = pin!(world.plan(BAD));
        assert!(one.as_mut().now_or_never().is_none());
        assert!(other.as_mut().now_or_never().is_none());
        assert!(bad.as_mut().now_or_never().is_none(), "whether it is one is not known either");
        drop(room);
        let (one, other, bad) = tokio::join!(one, other, bad);
        assert!(Arc::ptr_eq(&one.expect("a query"), &other.expect("a query")));
        let again = world.plan(BAD).now_or_never().expect("is known").expect_err("has no such column");
        assert_eq!(bad.expect_err("has no such column").to_string(), again.to_string());
        assert_eq!(again.code(), Code::InvalidArgument);
        assert_eq!(world.all_room().len(), most, "all of it was given back");
    }

    #[tokio::test]
    async fn who_waits_for_room_and_goes_leaves_the_plan_to_the_next() {
        let world = World::new();
        let room = world.all_room();
        let mut gone = Box::pin(world.plan(GOOD));
        let mut next = pin!(world.plan(GOOD));
        assert!(gone.as_mut().now_or_never().is_none());
        assert!(next.as_mut().now_or_never().is_none());
        drop(gone);
        assert!(next.as_mut().now_or_never().is_none(), "there is no room yet");
        drop(room);
        next.await.expect("a query");
    }

    #[test]
    fn who_goes_while_it_is_planned_leaves_the_plan_to_the_next_and_no_room_is_lost() {
        runtime().block_on(async {
            let world = World::new();
            let most = world.all_room().len();
            let (done, working) = mpsc::sync_channel::<()>(1);
            let other = tokio::task::spawn_blocking(move || working.recv());
            let mut gone = Box::pin(world.plan(GOOD));
            let mut next = pin!(world.plan(GOOD));
            assert!(gone.as_mut().now_or_never().is_none());
            assert!(next.as_mut().now_or_never().is_none());
            drop(gone);
            assert_eq!(world.all_room().len(), most - 1, "what is planned for nobody takes its room until it is done");
            assert!(next.as_mut().now_or_never().is_none());
            drop(done);
            next.await.expect("a query");
            assert!(other.await.expect("ends").is_err());
            assert_eq!(world.all_room().len(), most);
        });
    }

    #[test]
    fn plans_that_are_kept_are_limited() {
        let queries = Queries::default();
        let ask = |number: usize| queries.ask((number.to_string().into(), Bytes::new()));
        let first = ask(0);
        (1..PLANNED_MAX).for_each(|number| drop(ask(number)));
        assert!(Arc::ptr_eq(&ask(0), &first), "one that is there takes no more room");
        assert_eq!(queries.planned.lock().len(), PLANNED_MAX);
        ask(PLANNED_MAX);
        assert!(!Arc::ptr_eq(&ask(0), &first));
        assert_eq!(queries.planned.lock().len(), 2);
    }
}
