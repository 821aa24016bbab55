//! The HTTP port: `/metrics`, `/healthz`, `/readyz`, the console, and streams that take rows.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, State};
use axum::http::{Extensions, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::access::{Origin, Refusal, Seats, Verb};
use super::cell::StreamCell;
use super::connections::NotLetIn;
use super::coordinator::Coordinator;
use super::gate::Pass;
use super::greeting::{handshake, turn_away};
use super::listener::{Entrance, Setback};
use super::metrics;
use super::tls::{PeerCertificate, Port, certificate_of};
use crate::engine::Code;

/// Connections to the HTTP port, whatever `connections_max` says: a scraper, probes and some people.
pub(super) const CONNECTIONS_MAX: usize = 1_000;
/// What a request's line and headers may take together: 16 KiB, as elsewhere on the web.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Most headers of a request.
const HEADERS_MAX: usize = 100;
/// Where clients without a certificate may look although certificates are asked for: probes have none.
const OPEN_TO_ALL: [&str; 2] = ["/healthz", "/readyz"];

/// Serves until stopped, then ends the requests that are under way. `others` are the routes of the console and of what takes rows.
pub(super) async fn serve(
    listener: TcpListener,
    entrance: Entrance,
    coordinator: Arc<Coordinator>,
    others: Router,
    stopping: CancellationToken,
) {
    let router = Router::new()
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .with_state(coordinator)
        .merge(others);
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut setback = Setback::default();
    loop {
        let begun = tokio::select! {
            begun = next(&listener, &entrance, &mut setback) => begun,
            // Tasks that have ended are taken out.
            Some(_) = connections.join_next() => continue,
            () = stopping.cancelled() => break,
        };
        match begun {
            Some((tcp, Place::Free(pass))) => {
                connections.spawn(connection(tcp, pass, entrance.clone(), router.clone(), graceful.watcher()));
            }
            Some((tcp, Place::None(porter))) => {
                connections.spawn(send_away(tcp, porter, entrance.clone()));
            }
            None => {}
        }
    }
    drop(listener);
    graceful.shutdown().await;
    while connections.join_next().await.is_some() {}
}

/// Whether there is room for a connection.
enum Place {
    Free(Pass),
    None(OwnedSemaphorePermit),
}

/// # Cancel safety
/// No connection is lost.
async fn next(listener: &TcpListener, entrance: &Entrance, setback: &mut Setback) -> Option<(TcpStream, Place)> {
    let porter = entrance.gate.porter().await?;
    match listener.accept().await {
        Ok((tcp, _)) => {
            setback.over();
            let place = match entrance.gate.slot() {
                Some(slot) => Place::Free(entrance.let_in(&tcp, slot)?),
                None => Place::None(porter),
            };
            Some((tcp, place))
        }
        Err(error) => {
            setback.wait(&error, &entrance.counters).await;
            None
        }
    }
}

/// Tells one that there is no room for it.
async fn send_away(tcp: TcpStream, _porter: OwnedSemaphorePermit, entrance: Entrance) {
    entrance.counters.refuse(NotLetIn::Full);
    turn_away(tcp, entrance.tls.as_deref(), Port::Http).await;
}

/// One connection from its handshake to its end.
async fn connection(tcp: TcpStream, _pass: Pass, entrance: Entrance, router: Router, watcher: Watcher) {
    // Who was gone before it began has no address, and gets no answer.
    let Ok(address) = tcp.peer_addr() else { return };
    let router = router.layer(axum::Extension(ConnectInfo(address))).layer(axum::Extension(Arc::new(Seats::default())));
    let timeout = entrance.deadlines.greeting;
    let Some(tls) = &entrance.tls else {
        return requests(tcp, router, timeout, watcher).await;
    };
    match handshake(tcp, tls, Port::Http, Instant::now() + timeout).await {
        Ok(stream) => {
            let certificate = certificate_of(stream.get_ref().1);
            let router = if tls.asks_clients() { for_certified(router, certificate) } else { router };
            requests(stream, router, timeout, watcher).await;
        }
        Err(refusal) => entrance.counters.refuse(refusal),
    }
}

async fn requests(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router, timeout: Duration, watcher: Watcher) {
    let mut http = http1::Builder::new();
    // The time for headers counts from the end of the request before: it ends idle connections, too.
    http.timer(TokioTimer::new()).header_read_timeout(timeout).max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX);
    let served = watcher.watch(http.serve_connection(TokioIo::new(io), TowerToHyperService::new(router)));
    if let Err(error) = served.await {
        tracing::debug!(%error, "a connection to the HTTP port ended");
    }
}

/// The routes for a client of whom a certificate is wanted.
fn for_certified(router: Router, certificate: Option<PeerCertificate>) -> Router {
    match certificate {
        Some(certificate) => router.layer(axum::Extension(certificate)),
        None => router.layer(axum::middleware::from_fn(refuse_without_certificate)),
    }
}

async fn refuse_without_certificate(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    if OPEN_TO_ALL.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let text = "this coordinator asks for a client certificate: give one that a CA of its tls.client_ca has signed\n";
    (StatusCode::FORBIDDEN, text).into_response()
}

async fn show_metrics(State(coordinator): State<Arc<Coordinator>>, request: axum::extract::Request) -> Response {
    let access = coordinator.access().filter(|access| !access.shows_metrics_to_all());
    let origin = origin_of(request.extensions());
    if let Some(Err(refusal)) = access.map(|access| access.allow_http(request.headers(), &origin, Verb::Metrics, "*")) {
        coordinator.count_error(refusal.code());
        return refusal_response(&refusal);
    }
    let room = coordinator.disks().look(&coordinator).await;
    match metrics::render(&coordinator, &room) {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Where a request to the HTTP port comes from.
pub(super) fn origin_of(extensions: &Extensions) -> Origin {
    let peer = extensions.get::<ConnectInfo<SocketAddr>>().map_or_else(|| "".into(), |ConnectInfo(address)| address.to_string().into());
    let certificate = extensions.get::<PeerCertificate>().and_then(PeerCertificate::name).map(Into::into);
    Origin { is_within_process: false, peer, certificate }
}

/// A refusal as HTTP says it.
fn refusal_response(refusal: &Refusal) -> Response {
    let text = format!("[{}] {refusal}\n", refusal.code().as_str());
    match refusal.code() {
        Code::Unauthenticated => (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], text).into_response(),
        _ => (StatusCode::FORBIDDEN, text).into_response(),
    }
}

/// The process is alive; says in which mode, and which streams' logs do not go on, and why.
async fn health(State(coordinator): State<Arc<Coordinator>>) -> Json<Value> {
    let mut health = health_of(&coordinator);
    if coordinator.access().is_some_and(|access| !access.shows_metrics_to_all()) {
        // Everybody may ask, and not everybody may know which streams there are.
        health["stalled"] = json!({});
    }
    Json(health)
}

/// The same, with the streams' names for who may know them.
pub(super) fn health_of(coordinator: &Coordinator) -> Value {
    let storage = coordinator.storage();
    let why = |cell: &Arc<StreamCell>| Some((cell.name().to_string(), cell.log()?.waits_for()?.to_string().into()));
    let stalled: serde_json::Map<_, Value> = coordinator.list().iter().filter_map(why).collect();
    let status = if stalled.is_empty() { "ok" } else { "stalled" };
    json!({ "status": status, "storage": storage, "stalled": stalled, "version": env!("CARGO_PKG_VERSION") })
}

async fn ready(State(coordinator): State<Arc<Coordinator>>) -> (StatusCode, Json<Value>) {
    let status = readiness(&coordinator);
    let code = if status == READY { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(json!({ "status": status })))
}

const READY: &str = "ready";

/// Whether `/readyz` answers 200.
pub(super) fn is_ready(coordinator: &Coordinator) -> bool {
    readiness(coordinator) == READY
}

/// Whether new work is welcome: "ready", or why it is not.
pub(super) fn readiness(coordinator: &Coordinator) -> &'static str {
    let fenced = coordinator.store().and_then(|store| store.remote()?.fenced_by());
    match coordinator.check_running() {
        Ok(()) if fenced.is_some() => "fenced",
        Ok(()) => READY,
        Err(error) => error.code().as_str(),
    }
}
