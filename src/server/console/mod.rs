//! The console: one page at `/` of the HTTP port and its JSON API under `/api/v1/`, both read-only. docs/console.md describes them.

mod access;
mod answer;
mod cells;
mod configuration;
mod digest;
mod guard;
mod health;
mod history;
mod level;
mod list;
mod overview;
mod page;
mod query;
mod rows;
mod stream;
mod types;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware;
use axum::routing::get;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use self::configuration::{ShownSetting, url_without_secrets};
use self::digest::Digests;
#[cfg(feature = "formats")]
pub(super) use self::guard::is_meant;
use self::history::History;
use super::config::ServerConfig;
use super::coordinator::Coordinator;

/// How often rates are taken.
const LOOK: Duration = Duration::from_secs(2);
/// Looks at all streams that go on at once: each costs some microseconds for each stream.
const LOOKS_AT_ONCE: usize = 2;

/// What the console knows beside the coordinator.
#[derive(Debug)]
pub(super) struct Console {
    coordinator: Arc<Coordinator>,
    config: ServerConfig,
    /// Where the HTTP port listens.
    address: SocketAddr,
    history: Mutex<History>,
    digests: Mutex<Option<Arc<Digests>>>,
    looks: Semaphore,
    /// One peek at a time decodes.
    peeks: Arc<Semaphore>,
}

impl Console {
    pub(super) fn new(coordinator: Arc<Coordinator>, config: ServerConfig, address: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            coordinator,
            config,
            address,
            history: Mutex::default(),
            digests: Mutex::default(),
            looks: Semaphore::new(LOOKS_AT_ONCE),
            peeks: Arc::new(Semaphore::new(1)),
        })
    }
}

/// The page and its API.
pub(super) fn router(console: Arc<Console>) -> Router {
    Router::new()
        .route("/", get(page::index))
        .route("/console/{file}", get(page::file))
        .route("/api/v1/overview", get(overview::overview))
        .route("/api/v1/streams", get(list::list))
        .route("/api/v1/stream", get(stream::stream))
        .route("/api/v1/rows", get(rows::rows))
        .route("/api/v1/history", get(history::show))
        .route("/api/v1/configuration", get(configuration::configuration))
        .route("/api/v1/health", get(health::show))
        .route("/api/{*rest}", get(answer::not_found))
        .route_layer(middleware::from_fn_with_state(console.clone(), guard::guard))
        .with_state(console)
}

/// Takes the hour of history until `stopping`.
pub(super) async fn remember(console: Arc<Console>, stopping: CancellationToken) {
    let mut interval = tokio::time::interval(LOOK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stopping.cancelled() => return,
            _ = interval.tick() => console.look(),
        }
    }
}
