//! A running server: bound, serving, and stopped in good order.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::server::Connected;
use tonic_health::server::HealthReporter;

use super::access::Access;
use super::authority::SocketAuthority;
use super::config::ServerConfig;
use super::console::{self, Console};
use super::control::ControlService;
use super::coordinator::Coordinator;
use super::dead_letters;
use super::gate::Gate;
use super::ingest::Ingest;
use super::listener::{Entrance, Listeners, connections};
use super::opening::open;
use super::services::{LocalService, end_health, services};
use super::start_error::StartError;
use super::store::Store;
use super::tls::ServerTls;
use super::unix::{self, SocketFile};
use super::{binding, http as http_port, shared};
use crate::shared::random;
use crate::storage::Spool;
use crate::wire::proto;

/// 16 MiB a stream keeps a wire of any speed busy. A producer that waits for room fills its stream's window; the
/// connection's (`connection_window_bytes`) has room for 31 of them beside calls that go on: with less, a few waiting
/// producers would hold up the very acks that make room.
const STREAM_WINDOW: u32 = 16 << 20;
/// HTTP/2's default of 16 KiB costs half of the throughput.
const FRAME_BYTES_MAX: u32 = 1 << 20;
/// A peer that does not answer for twice this long is gone.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// What a call's headers may take together: ours have some hundred bytes, a token some thousand.
const HEADER_BYTES_MAX: u32 = 32 << 10;
/// Calls that a peer has begun and cancelled before they were served, and errors of its own making, before its connection is
/// closed: an honest one is not even near.
const RESETS_MAX: usize = 256;
/// How long the runtime of a server is to keep a thread for blocking work that has none. tokio gives work to the one that has waited
/// longest, so that every thread stays which gets any in that time: as many as blocking calls come in it, however few are needed.
pub const BLOCKING_THREAD_STAYS: Duration = Duration::from_millis(100);
/// What requests under way at the HTTP port, and links, get to end, once all else has.
const LATE_GRACE: Duration = Duration::from_secs(1);
/// Connections that may wait to be accepted, as `TcpListener::bind` has it.
const BACKLOG: u32 = 1024;
/// How often time passes in the streams.
const TICK: Duration = Duration::from_secs(1);

/// A running server. Dropping it stops it at once; [`shutdown`](Self::shutdown) does so in good order.
pub struct Server {
    coordinator: Arc<Coordinator>,
    service: LocalService,
    listen: SocketAddr,
    unix: Option<PathBuf>,
    http: Option<SocketAddr>,
    tls: Option<Arc<ServerTls>>,
    advertise_host: Option<String>,
    stopping: CancellationToken,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Removed as soon as the server stops: clients look for another way at once.
    unix_files: Mutex<Vec<SocketFile>>,
    /// Ends the late tasks.
    calls_ended: CancellationToken,
    /// End after the others: `/readyz` says that the server is shutting down until it has, and calls that end may still show
    /// what lies in shared memory.
    late_tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("listen", &self.listen).field("unix", &self.unix).field("http", &self.http).finish_non_exhaustive()
    }
}

impl Server {
    /// Binds and serves.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: ServerConfig) -> Result<Self, StartError> {
        config.validate()?;
        binding::check(&config)?;
        // Before anybody could be let in.
        let access = Access::open(&config.auth, &config.audit)?;
        let ingest = Ingest::open(&config)?;
        // Before streams are taken over from somebody who serves: what they count is not looked at.
        config.tls.clone().map(|tls| ServerTls::load(tls, Arc::default())).transpose()?;
        let spool = Spool::new(config.spool_options()).map_err(StartError::Spool)?;
        // The addresses first: who cannot serve must not take streams over from somebody who does. Nobody is let in before they are there.
        let (tcp, listen) = bind(config.listen)?;
        let http = config.http.map(bind).transpose()?;
        let coordinator = open(&config, spool).await?;
        let counters = coordinator.connections();
        let tls = config.tls.clone().map(|tls| ServerTls::load(tls, counters.clone())).transpose()?.map(Arc::new);
        let entrance = |connections_max| Entrance {
            gate: Arc::new(Gate::new(connections_max, config.connections_per_peer_max)),
            tls: tls.clone(),
            deadlines: config.deadlines(),
            counters: counters.clone(),
        };
        let (access, audit_writer) = access.map_or((None, None), |(access, writer)| (Some(access), writer));
        if let Some(access) = &access {
            coordinator.control_access(access.clone());
        }
        let tcp = listen_on(tcp, listen)?;
        let server_id = random::uuid();
        let unix =
            unix::bind(&config.unix, &server_id.simple().to_string()).await.map_err(|(path, source)| StartError::Unix { path, source })?;
        let (unix, unix_file) = unix.map(|(listener, file)| ((listener, SocketAuthority::of(file.path())), file)).unzip();
        let unix_path = unix_file.as_ref().map(|file| file.path().to_path_buf());
        let links = match &unix_path {
            Some(path) if config.shared_memory && cfg!(target_os = "linux") => bind_links(path).await,
            Some(_) | None => None,
        };
        let (links, links_file) = links.unzip();
        let links_path = links_file.as_ref().map(|file| file.path().to_path_buf());
        let http = http.map(|(socket, address)| Ok::<_, StartError>((listen_on(socket, address)?, address))).transpose()?;
        let control = ControlService::new(coordinator.clone(), describe(server_id, listen, unix_path.as_deref(), links_path.as_deref()));
        let (routes, health) = services(&coordinator, control).await;
        let service = LocalService::new(routes.clone());
        let stopping = CancellationToken::new();
        let http_address = http.as_ref().map(|(_, address)| *address);
        let incoming = connections(Listeners { tcp, unix }, entrance(config.connections_max));
        let http2 = Http2Limits::of(&config);
        let mut tasks = vec![
            tokio::spawn(serve_incoming(incoming, (routes, health), http2, stopping.clone())),
            tokio::spawn(tick(coordinator.clone(), stopping.clone())),
        ];
        tasks.extend(tls.clone().map(|tls| tokio::spawn(tls.watch(stopping.clone()))));
        let calls_ended = CancellationToken::new();
        let mut late_tasks: Vec<JoinHandle<()>> = Vec::new();
        late_tasks.extend(coordinator.tracer().map(|tracer| tokio::spawn(tracer.clone().keep(calls_ended.clone()))));
        late_tasks.extend(access.map(|access| tokio::spawn(access.keep(calls_ended.clone()))));
        late_tasks.extend(audit_writer.map(|writer| tokio::spawn(writer.run(calls_ended.clone()))));
        if let Some((listener, address)) = http {
            let console = Console::new(coordinator.clone(), config.clone(), address);
            tasks.push(tokio::spawn(console::remember(console.clone(), stopping.clone())));
            let entrance = entrance(config.connections_max.min(http_port::CONNECTIONS_MAX));
            let others = console::router(console).merge(ingest.router(&coordinator, address));
            late_tasks.push(tokio::spawn(http_port::serve(listener, entrance, coordinator.clone(), others, calls_ended.clone())));
        }
        if let Some(listener) = links {
            let (links, until) = (coordinator.links().clone(), (stopping.clone(), calls_ended.clone()));
            late_tasks.push(tokio::spawn(shared::serve(listener, links, server_id.as_u128(), config.connections_max, until)));
        }
        let unix_shown = unix_path.as_deref().map(|path| tracing::field::display(path.display()));
        let (storage, what) = match (&config.data_dir, coordinator.store().and_then(Store::remote)) {
            (None, _) => ("memory".to_owned(), "nothing survives it"),
            (Some(path), None) => (path.display().to_string(), "what it confirms survives it"),
            (Some(_), Some(remote)) => (remote.place().to_owned(), "what it confirms survives its machine"),
        };
        tracing::info!(%listen, unix = unix_shown, storage, "the coordinator is ready; {what}");
        Ok(Self {
            coordinator,
            service,
            listen,
            unix: unix_path,
            http: http_address,
            tls,
            advertise_host: config.advertise_host,
            stopping,
            tasks: Mutex::new(tasks),
            unix_files: Mutex::new(unix_file.into_iter().chain(links_file).collect()),
            calls_ended,
            late_tasks: Mutex::new(late_tasks),
        })
    }

    /// Address of the data and control plane.
    #[must_use]
    pub fn listen_addr(&self) -> SocketAddr {
        self.listen
    }

    /// Absolute path of the Unix socket, if there is one.
    #[must_use]
    pub fn unix_path(&self) -> Option<&Path> {
        self.unix.as_deref()
    }

    /// Address of the HTTP port, if there is one.
    #[must_use]
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http
    }

    /// What clients connect to: `grpc://host:port`, or `grpc+tls://host:port`.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "grpc+tls" } else { "grpc" };
        match &self.advertise_host {
            Some(host) => format!("{scheme}://{host}:{}", self.listen.port()),
            None => format!("{scheme}://{}", self.listen),
        }
    }

    /// Where `/metrics` is, as a URL, if there is an HTTP port.
    #[must_use]
    pub fn http_url(&self) -> Option<String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        self.http.map(|address| format!("{scheme}://{address}"))
    }

    /// Reads the files of TLS again, which happens every few seconds by itself. Those that cannot be used change nothing, and
    /// are logged and counted. Blocks for as long as reading them takes.
    pub fn reload_tls(&self) {
        if let Some(tls) = &self.tls {
            tls.reload();
        }
    }

    /// What clients on this host may connect to as well: `grpc+unix:///path`, if there is a Unix socket.
    #[must_use]
    pub fn unix_url(&self) -> Option<String> {
        self.unix.as_ref().map(|path| format!("grpc+unix://{}", path.display()))
    }

    /// All of its services for a client in this process: `Client::within_process` takes it.
    #[must_use]
    pub fn service(&self) -> LocalService {
        self.service.clone()
    }

    /// The coordinator that is served.
    #[must_use]
    pub fn coordinator(&self) -> &Arc<Coordinator> {
        &self.coordinator
    }

    /// Stops in good order: new work is refused, readers and waiting producers are told `shutting_down`, and
    /// calls under way get `grace` to end. A second call does nothing.
    pub async fn shutdown(&self, grace: Duration) {
        self.coordinator.shut_down();
        self.stopping.cancel();
        drop(std::mem::take(&mut *self.unix_files.lock()));
        let tasks = std::mem::take(&mut *self.tasks.lock());
        if !end(tasks, grace).await {
            tracing::warn!(?grace, "some calls did not end in time and were cut");
        }
        self.service.end();
        self.coordinator.links().hush();
        self.calls_ended.cancel();
        let late_tasks = std::mem::take(&mut *self.late_tasks.lock());
        end(late_tasks, LATE_GRACE).await;
        if let Some(tracer) = self.coordinator.tracer() {
            tracer.end().await;
        }
        if let Some(store) = self.coordinator.store() {
            store.close().await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.coordinator.shut_down();
        self.service.end();
        self.coordinator.links().hush();
        self.coordinator.store().into_iter().for_each(Store::stop);
        self.tasks.lock().iter().chain(self.late_tasks.lock().iter()).for_each(JoinHandle::abort);
    }
}

/// Waits for tasks to end; cuts them when the time is over, and says whether that was not needed.
async fn end(tasks: Vec<JoinHandle<()>>, grace: Duration) -> bool {
    let aborts: Vec<_> = tasks.iter().map(JoinHandle::abort_handle).collect();
    let in_time = tokio::time::timeout(grace, futures::future::join_all(tasks)).await.is_ok();
    aborts.iter().for_each(AbortHandle::abort);
    in_time
}

/// An address of its own, on which nobody can connect yet.
fn bind(address: SocketAddr) -> Result<(TcpSocket, SocketAddr), StartError> {
    let bound = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // As `TcpListener::bind` does: the connections of one that has just ended are no reason to wait.
        #[cfg(not(windows))]
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let bound = socket.local_addr()?;
        Ok((socket, bound))
    };
    bound().map_err(|source| StartError::Bind { address, source })
}

fn listen_on(socket: TcpSocket, address: SocketAddr) -> Result<TcpListener, StartError> {
    socket.listen(BACKLOG).map_err(|source| StartError::Bind { address, source })
}

/// Listens for links beside the Unix socket. Without them everything goes, by that socket.
async fn bind_links(unix: &Path) -> Option<(UnixListener, SocketFile)> {
    match shared::bind(unix).await {
        Ok(listening) => Some(listening),
        Err(error) => {
            tracing::warn!(%error, unix = %unix.display(), "no shared memory: its socket beside the Unix socket cannot be listened on");
            None
        }
    }
}

/// What clients are told of the server.
fn describe(server_id: uuid::Uuid, listen: SocketAddr, unix: Option<&Path>, links: Option<&Path>) -> proto::ServerDescription {
    let text = |path: Option<&Path>| path.and_then(Path::to_str).unwrap_or_default().to_owned();
    proto::ServerDescription {
        server_id: server_id.simple().to_string(),
        port: listen.port().into(),
        unix_path: text(unix),
        shared_memory_path: text(links),
    }
}

/// What one HTTP/2 connection may cost.
#[derive(Debug, Clone, Copy)]
struct Http2Limits {
    calls_max: u32,
    window_bytes: u32,
}

impl Http2Limits {
    fn of(config: &ServerConfig) -> Self {
        Self { calls_max: config.calls_per_connection_max, window_bytes: config.connection_window_bytes }
    }
}

async fn serve_incoming<I, IO>(incoming: I, (routes, health): (Routes, HealthReporter), http2: Http2Limits, stopping: CancellationToken)
where
    I: Stream<Item = std::io::Result<IO>>,
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let router = tonic::transport::Server::builder()
        .initial_stream_window_size(STREAM_WINDOW.min(http2.window_bytes))
        .initial_connection_window_size(http2.window_bytes)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_concurrent_streams(http2.calls_max)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_max_pending_accept_reset_streams(Some(RESETS_MAX))
        .http2_max_local_error_reset_streams(Some(RESETS_MAX))
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .add_routes(routes);
    let signal = async move {
        stopping.cancelled().await;
        end_health(health).await;
    };
    if let Err(error) = router.serve_with_incoming_shutdown(incoming, signal).await {
        tracing::error!(%error, "the server stopped");
    }
}

/// Serves a coordinator on connections that come from anywhere, until it is told to stop: for simulations.
#[doc(hidden)]
pub async fn serve_connections<I, IO>(coordinator: Arc<Coordinator>, incoming: I, stopping: CancellationToken)
where
    I: Stream<Item = std::io::Result<IO>>,
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
    let control = ControlService::new(coordinator.clone(), describe(random::uuid(), unknown, None, None));
    let served = services(&coordinator, control).await;
    tokio::select! {
        biased;
        () = serve_incoming(incoming, served, Http2Limits::of(&ServerConfig::default()), stopping.clone()) => (),
        () = tick(coordinator, stopping) => (),
    }
}

async fn tick(coordinator: Arc<Coordinator>, stopping: CancellationToken) {
    let burials = dead_letters::run(coordinator.clone(), stopping.clone());
    tokio::join!(burials, pass_time(coordinator, stopping));
}

async fn pass_time(coordinator: Arc<Coordinator>, stopping: CancellationToken) {
    let mut interval = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            _ = interval.tick() => coordinator.tick(),
            () = stopping.cancelled() => return,
        }
    }
}
