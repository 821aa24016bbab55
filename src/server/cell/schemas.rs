//! The versions of a stream's schema.

use std::sync::Arc;

use super::super::error::Error;
use super::StreamCell;
use crate::engine::{Command, Offset, PartitionId, SchemaVersion};
use crate::wire::evolution::Accepted;
use crate::wire::schema::StreamSchema;

/// Batches that are looked at under one lock.
const BATCHES_AT_ONCE: usize = 1024;

impl StreamCell {
    /// Finds the version of the stream's schema that this is, or gives the stream another, if its policy allows that. In a durable
    /// stream a new one is to be [durable](StreamCell::durable) before a batch of it is appended: a restart would not know it.
    ///
    /// # Errors
    /// `schema_mismatch`, naming what differs.
    pub(in crate::server) fn accept_schema(&self, schema: &StreamSchema) -> Result<Accepted, Error> {
        let now = self.clock.now();
        let mut inner = self.inner.lock();
        let accepted = inner.schemas.accept(schema)?;
        if accepted.is_new() {
            self.apply_locked(&mut inner, Command::AddSchema { schema: schema.header().to_vec().into() }, now)?;
            inner.schemas.add(&accepted);
        }
        Ok(accepted)
    }

    /// The stream's schema, once it has one: what has the columns of all versions.
    pub(in crate::server) fn schema(&self) -> Option<Arc<StreamSchema>> {
        self.inner.lock().schemas.merged().cloned()
    }

    /// The newest version of the stream's schema.
    pub(in crate::server) fn newest_schema(&self) -> Option<(SchemaVersion, Arc<StreamSchema>)> {
        self.inner.lock().schemas.newest().map(|(version, schema)| (version, schema.clone()))
    }

    /// One version of the stream's schema.
    pub(in crate::server) fn schema_of(&self, version: SchemaVersion) -> Option<Arc<StreamSchema>> {
        self.inner.lock().schemas.get(version).cloned()
    }

    /// How many versions its schema has.
    pub(in crate::server) fn schema_versions(&self) -> u32 {
        u32::try_from(self.inner.lock().schemas.count()).unwrap_or(u32::MAX)
    }

    /// The batches of a partition from `start` to `end`, in runs of one version each. Nothing where they cannot be read.
    pub(in crate::server) fn runs_of_schemas(&self, partition: PartitionId, start: Offset, end: Offset) -> Vec<(Offset, Offset)> {
        let (mut runs, mut next, mut last): (Vec<(Offset, Offset)>, _, _) = (Vec::new(), start, None);
        while next < end {
            let batches = self.read(partition, next, BATCHES_AT_ONCE, u64::MAX).unwrap_or_default();
            if batches.is_empty() {
                return Vec::new();
            }
            for batch in batches.iter().take_while(|batch| batch.offset < end) {
                // What cannot be read has no version, and ends the read that comes to it.
                let version = batch.data.schema().or(last);
                match runs.last_mut() {
                    Some((_, end)) if version == last => *end = batch.offset.plus(1),
                    _ => runs.push((batch.offset, batch.offset.plus(1))),
                }
                last = version;
                next = batch.offset.plus(1);
            }
        }
        runs
    }
}
