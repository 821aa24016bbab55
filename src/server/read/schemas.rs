//! Which version of the schema a reader has been sent.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::super::error::Error;
use super::{Loaded, Range, Reading, Work};
use crate::engine::{Offset, PartitionId, SchemaVersion};
use crate::wire::batch::EncodedBatch;
use crate::wire::command::GetTarget;
use crate::wire::dictionary::DictionarySet;
use crate::wire::ipc::Body;
use crate::wire::schema::StreamSchema;

/// What the reader knows of the schema.
pub(super) struct Told {
    /// The version that was sent last.
    version: Option<SchemaVersion>,
    /// Whether another one may be sent.
    takes_changes: bool,
}

impl Told {
    pub(super) fn nothing(target: &GetTarget) -> Self {
        Self { version: None, takes_changes: target.schema_changes }
    }
}

impl Reading {
    /// Frames the schema of the first batch that is there, or else the newest; false if the stream has none. The newest may be one that the
    /// subscription's query is none of, while older batches are leased again or yet to come: then the first batch tells the schema, or
    /// the end.
    ///
    /// # Errors
    /// `query_failed`, if the first batch has not what the subscription asks for.
    pub(super) async fn send_first_schema(&mut self) -> Result<bool, Error> {
        let Some((newest, schema)) = self.cell.newest_schema() else { return Ok(false) };
        let first = if newest == SchemaVersion(0) { Some(newest) } else { self.first_version() };
        let version = first.unwrap_or(newest);
        match self.send_schema(version, &self.cell.schema_of(version).unwrap_or(schema)).await {
            // A build without queries has no answer to any batch: no row is to become a dead letter by that.
            Err(Error::Unanswered { .. }) if first.is_none() && cfg!(feature = "query") => Ok(true),
            sent => sent.map(|()| true),
        }
    }

    /// The version of the first batch that is there.
    fn first_version(&self) -> Option<SchemaVersion> {
        let first = |range: &Range| {
            // What is dropped by policy is skipped.
            let (earliest, _) = self.cell.range(range.partition).ok()?;
            self.cell.read(range.partition, range.next.max(earliest), 1, u64::MAX).ok()?.first()?.data.schema()
        };
        self.ranges.iter().find_map(first)
    }

    async fn send_schema(&mut self, version: SchemaVersion, schema: &StreamSchema) -> Result<(), Error> {
        let header = match &mut self.asks {
            Some(asks) => asks.schema(&self.coordinator, version).await?.header().clone(),
            None => schema.header().clone(),
        };
        self.frames.push(&[], &header, &[], &Body::default());
        self.told.version = Some(version);
        // They are of the schema before.
        self.dictionaries = DictionarySet::empty();
        Ok(())
    }

    /// A batch that was loaded, or its answer to what the subscription asks, once the consumer has its schema. None if it has none: then
    /// it is [set aside](Self::set_aside), or its shares come first in `all`, to be answered one by one.
    pub(super) async fn turn_to(
        &mut self,
        work: &mut Work,
        loaded: Loaded,
        all: &mut VecDeque<(Work, Loaded)>,
    ) -> Result<Option<Arc<EncodedBatch>>, Error> {
        let (partition, offset) = (work.partition, work.batch.offset);
        let loaded = loaded.map_err(|source| Error::Unreadable { partition, offset, source })?;
        match self.turned_to(work, loaded.clone()).await {
            Ok(turned) => Ok(Some(turned)),
            Err(error) if work.may_be_divided(&error) => {
                work.divided().into_iter().rev().for_each(|work| all.push_front((work, Ok(loaded.clone()))));
                Ok(None)
            }
            Err(error) => {
                self.set_aside(work, error)?;
                // One after the other may have none, and nothing is sent meanwhile.
                tokio::task::consume_budget().await;
                Ok(None)
            }
        }
    }

    async fn turned_to(&mut self, work: &mut Work, loaded: Arc<EncodedBatch>) -> Result<Arc<EncodedBatch>, Error> {
        let (partition, offset) = (work.partition, work.batch.offset);
        let version = loaded.schema;
        match self.told.version {
            Some(sent) if sent == version => {}
            Some(sent) if !self.told.takes_changes => {
                let start = self.start_at(partition, offset);
                return Err(Error::SchemaChanged { partition, offset, version, sent, start });
            }
            _ => {
                let missing = || Error::Task { reason: format!("version {version} of the schema is not known") };
                let schema = self.cell.schema_of(version).ok_or_else(missing)?;
                self.send_schema(version, &schema).await?;
            }
        }
        match &mut self.asks {
            Some(asks) => asks.answer(&self.coordinator, (partition, offset), loaded, &mut work.shares, work.is_alone).await,
            None => Ok(loaded),
        }
    }

    /// Where another read goes on, as a ticket has it: of a partition here, of the others with what was not sent yet.
    fn start_at(&self, partition: PartitionId, offset: Offset) -> String {
        let others = self.ranges.iter().filter(|range| range.partition != partition).map(|range| (range.partition, range.next));
        let starts: BTreeMap<_, _> = others.chain([(partition, offset)]).collect();
        let starts: Vec<_> = starts.iter().map(|(partition, next)| format!("\"{partition}\": {next}")).collect();
        format!("{{{}}}", starts.join(", "))
    }
}
