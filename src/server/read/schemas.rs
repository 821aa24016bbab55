//! Which version of the schema a reader has been sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::error::Error;
use super::{Range, Reading, Work};
use crate::engine::{Offset, PartitionId, SchemaVersion};
use crate::storage::StorageError;
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
    /// Frames the schema of the first batch that is there, or else the newest; false if the stream has none.
    ///
    /// # Errors
    /// `query_failed`, if it has not what the subscription asks for.
    pub(super) fn send_first_schema(&mut self) -> Result<bool, Error> {
        let Some((newest, schema)) = self.cell.newest_schema() else { return Ok(false) };
        let first = if newest == SchemaVersion(0) { newest } else { self.first_version().unwrap_or(newest) };
        self.send_schema(first, &self.cell.schema_of(first).unwrap_or(schema))?;
        Ok(true)
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

    fn send_schema(&mut self, version: SchemaVersion, schema: &StreamSchema) -> Result<(), Error> {
        let header = match &mut self.asks {
            Some(asks) => asks.schema(version)?.header().clone(),
            None => schema.header().clone(),
        };
        self.frames.push(&[], &header, &[], &Body::default());
        self.told.version = Some(version);
        // They are of the schema before.
        self.dictionaries = DictionarySet::empty();
        Ok(())
    }

    /// A batch that was loaded, or its answer to what the subscription asks, once the consumer has its schema.
    pub(super) async fn turn_to(
        &mut self,
        work: &mut Work,
        loaded: Result<Arc<EncodedBatch>, StorageError>,
    ) -> Result<Arc<EncodedBatch>, Error> {
        let (partition, offset) = (work.partition, work.batch.offset);
        let loaded = loaded.map_err(|source| Error::Unreadable { partition, offset, source })?;
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
                self.send_schema(version, &schema)?;
            }
        }
        match &mut self.asks {
            Some(asks) => asks.answer(&self.coordinator, (partition, offset), loaded, &mut work.shares).await,
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
