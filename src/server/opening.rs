//! The coordinator of a server that starts, with the streams that are there already.

use std::sync::Arc;

use super::clock::SystemClock;
use super::config::ServerConfig;
use super::coordinator::Coordinator;
use super::start_error::StartError;
use super::store::Store;
use super::trace::Tracer;
use crate::storage::Spool;

/// The coordinator, with the streams that it has on disk.
pub(super) async fn open(config: &ServerConfig, spool: Spool) -> Result<Arc<Coordinator>, StartError> {
    // First: who cannot serve must not take streams over from somebody who does.
    let tracer = Tracer::open(config)?;
    let coordinator = with_streams(config, spool).await?;
    if let Some(tracer) = tracer {
        let set = coordinator.tracer.set(tracer);
        debug_assert!(set.is_ok(), "a coordinator has one tracer");
    }
    Ok(coordinator)
}

async fn with_streams(config: &ServerConfig, spool: Spool) -> Result<Arc<Coordinator>, StartError> {
    let options = config.coordinator_options();
    let Some(path) = &config.data_dir else {
        return match &config.object_store {
            Some(_) => Err(StartError::NoDataDir),
            None => Ok(Coordinator::new(options, spool)),
        };
    };
    let failed = |source| StartError::Data { path: path.clone(), source };
    let object_store = config.object_store_options();
    let store = Store::open(path, config.spool_reserve_bytes, object_store.as_ref()).await.map_err(failed)?;
    let opened = tokio::task::spawn_blocking(move || Coordinator::with_store(options, spool, Arc::new(SystemClock::default()), store));
    opened.await.map_err(|error| failed(std::io::Error::other(error).into()))?.map_err(failed)
}
