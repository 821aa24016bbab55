//! Queries of a build that has none: they are refused.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;

use super::super::cell::StreamCell;
use super::super::coordinator::Coordinator;
use super::super::error::Error;
use super::refused;
use crate::engine::{Code, Offset, PartitionId, SchemaVersion, StreamName};
use crate::wire::batch::EncodedBatch;
use crate::wire::proto::LeasedShare;
use crate::wire::schema::StreamSchema;

const NONE: &str = "this coordinator is built without queries (the feature `query`); read without one, and choose rows at the consumer";

/// The queries of a stream.
#[derive(Debug, Default)]
pub(in crate::server) struct Queries(());

impl Queries {
    /// Refuses it.
    ///
    /// # Errors
    /// `invalid_argument`.
    #[expect(clippy::unused_async, reason = "as with queries")]
    pub(super) async fn plan(
        &self,
        _coordinator: &Coordinator,
        _stream: &StreamName,
        _schema: &StreamSchema,
        _query: &str,
    ) -> Result<Infallible, Error> {
        Err(refused(NONE))
    }

    /// Not known.
    #[expect(clippy::unused_async, reason = "as with queries")]
    pub(super) async fn schema(&self, _coordinator: &Coordinator, _cell: &StreamCell, _query: &str) -> Bytes {
        Bytes::new()
    }
}

/// What a reader asks of each batch: a subscription of a build that has queries may be found on the disk.
#[derive(Debug)]
pub(in crate::server) struct Asking(Arc<str>);

impl Asking {
    /// For a reader of a subscription that asks this.
    pub(in crate::server) fn begin(_cell: &Arc<StreamCell>, query: Arc<str>) -> Self {
        Self(query)
    }

    /// Not known.
    ///
    /// # Errors
    /// `query_failed`.
    #[expect(clippy::unused_async, reason = "as with queries")]
    pub(in crate::server) async fn schema(&mut self, _coordinator: &Coordinator, version: SchemaVersion) -> Result<StreamSchema, Error> {
        Err(self.unanswered(format!("version {version} of the stream's schema")))
    }

    /// Not known.
    ///
    /// # Errors
    /// `query_failed`.
    #[expect(clippy::unused_async, reason = "as with queries")]
    pub(in crate::server) async fn answer(
        &mut self,
        _coordinator: &Coordinator,
        (partition, offset): (PartitionId, Offset),
        _batch: Arc<EncodedBatch>,
        _shares: &mut [LeasedShare],
        _alone: bool,
    ) -> Result<Arc<EncodedBatch>, Error> {
        Err(self.unanswered(format!("partition {partition}, offset {offset}")))
    }

    fn unanswered(&self, what: String) -> Error {
        Error::Unanswered { what, query: self.0.clone(), code: Code::QueryFailed, reason: NONE.to_owned() }
    }
}
