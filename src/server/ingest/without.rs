//! A server that was built without formats: it takes no rows, and says so when it is to.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;

use super::IngestError;
use crate::server::config::ServerConfig;
use crate::server::coordinator::Coordinator;

/// Nothing is declared.
#[derive(Debug)]
pub(in crate::server) struct Ingest;

impl Ingest {
    /// # Errors
    /// [`IngestError`] if anything is declared.
    pub(in crate::server) fn open(config: &ServerConfig) -> Result<Self, IngestError> {
        let reason = "this build has no formats; build it with the feature formats, or leave the setting out";
        let stream = config.ingest.keys().next();
        stream.map_or(Ok(Self), |stream| Err(IngestError { stream: stream.clone(), reason: reason.to_owned() }))
    }

    /// No routes.
    pub(in crate::server) fn router(self, _coordinator: &Arc<Coordinator>, _address: SocketAddr) -> Router {
        Router::new()
    }
}
