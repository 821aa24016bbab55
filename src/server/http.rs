//! The HTTP port: `/metrics`, `/healthz`, `/readyz`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::cell::StreamCell;
use super::coordinator::Coordinator;
use super::metrics;

/// Serves until stopped.
pub(super) async fn serve(listener: TcpListener, coordinator: Arc<Coordinator>, stopping: CancellationToken) {
    let router = Router::new()
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .with_state(coordinator);
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopping.cancelled_owned()).await {
        tracing::error!(%error, "the HTTP port stopped");
    }
}

async fn show_metrics(State(coordinator): State<Arc<Coordinator>>) -> Response {
    match metrics::render(&coordinator) {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// The process is alive; says in which mode, and which streams' logs do not go on, and why.
async fn health(State(coordinator): State<Arc<Coordinator>>) -> Json<serde_json::Value> {
    let storage = coordinator.storage();
    let why = |cell: &Arc<StreamCell>| Some((cell.name().to_string(), cell.log()?.waits_for()?.to_string().into()));
    let stalled: serde_json::Map<_, serde_json::Value> = coordinator.list().iter().filter_map(why).collect();
    let status = if stalled.is_empty() { "ok" } else { "stalled" };
    Json(json!({ "status": status, "storage": storage, "stalled": stalled, "version": env!("CARGO_PKG_VERSION") }))
}

/// New work is welcome.
async fn ready(State(coordinator): State<Arc<Coordinator>>) -> (StatusCode, Json<serde_json::Value>) {
    let fenced = coordinator.store().and_then(|store| store.remote()?.fenced_by());
    match coordinator.check_running() {
        Ok(()) if fenced.is_some() => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "fenced" }))),
        Ok(()) => (StatusCode::OK, Json(json!({ "status": "ready" }))),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": error.code().as_str() }))),
    }
}
