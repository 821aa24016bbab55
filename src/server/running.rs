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

use super::authority::SocketAuthority;
use super::clock::SystemClock;
use super::config::{ConfigError, ServerConfig};
use super::control::ControlService;
use super::coordinator::Coordinator;
use super::dead_letters;
use super::listener::{Listeners, connections};
use super::services::{LocalService, end_health, services};
use super::store::{Store, StoreError};
use super::unix::{self, SocketFile, UnixError};
use super::{http as http_port, shared};
use crate::shared::random;
use crate::storage::Spool;
use crate::wire::proto;

/// Receive windows: 16 MiB a stream keeps a wire of any speed busy. A producer that waits for room fills its
/// stream's window; the connection's has room for 31 of them beside calls that go on: with less, a few waiting
/// producers would hold up the very acks that make room. They bound what a connection costs beyond the streams'
/// limits.
const STREAM_WINDOW: u32 = 16 << 20;
const CONNECTION_WINDOW: u32 = 512 << 20;
/// HTTP/2's default of 16 KiB costs half of the throughput.
const FRAME_BYTES_MAX: u32 = 1 << 20;
/// A peer that does not answer for twice this long is gone.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Calls that may be open on one connection.
const CALLS_PER_CONNECTION_MAX: u32 = 65_536;
/// What requests under way at the HTTP port, and links, get to end, once all else has.
const LATE_GRACE: Duration = Duration::from_secs(1);
/// Connections that may wait to be accepted, as `TcpListener::bind` has it.
const BACKLOG: u32 = 1024;
/// How often time passes in the streams.
const TICK: Duration = Duration::from_secs(1);

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A number of the configuration is out of range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another address, or port 0 for a free one")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A Unix socket that was named cannot be listened on.
    #[error("cannot listen on the Unix socket {}: {source}; name another path, or turn it off with unix = \"off\"", path.display())]
    Unix {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: UnixError,
    },
    /// The folder for spooled batches cannot be made.
    #[error("cannot use the spool folder: {0}; choose another spool_dir")]
    Spool(#[source] std::io::Error),
    /// There is an object store and no data directory.
    #[error("object_store needs a data_dir: what is not in the object store yet is there, and readers read from it; name an empty folder")]
    NoDataDir,
    /// The data directory cannot be used.
    #[error("cannot use the data directory {}: {source}", path.display())]
    Data {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: StoreError,
    },
}

/// A running server. Dropping it stops it at once; [`shutdown`](Self::shutdown) does so in good order.
pub struct Server {
    coordinator: Arc<Coordinator>,
    service: LocalService,
    listen: SocketAddr,
    unix: Option<PathBuf>,
    http: Option<SocketAddr>,
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
        let spool = Spool::new(config.spool_options()).map_err(StartError::Spool)?;
        // The addresses first: who cannot serve must not take streams over from somebody who does. Nobody is let in before they are there.
        let (tcp, listen) = bind(config.listen)?;
        let http = config.http.map(bind).transpose()?;
        let coordinator = open(&config, spool).await?;
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
        let tasks = vec![
            tokio::spawn(serve(Listeners { tcp, unix }, config.connections_max, (routes, health), coordinator.clone(), stopping.clone())),
            tokio::spawn(tick(coordinator.clone(), stopping.clone())),
        ];
        let calls_ended = CancellationToken::new();
        let mut late_tasks = Vec::new();
        if let Some((listener, _)) = http {
            late_tasks.push(tokio::spawn(http_port::serve(listener, coordinator.clone(), calls_ended.clone())));
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

    /// What clients connect to: `grpc://host:port`.
    #[must_use]
    pub fn url(&self) -> String {
        match &self.advertise_host {
            Some(host) => format!("grpc://{host}:{}", self.listen.port()),
            None => format!("grpc://{}", self.listen),
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

/// The coordinator, with the streams that it has on disk.
async fn open(config: &ServerConfig, spool: Spool) -> Result<Arc<Coordinator>, StartError> {
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

async fn serve(
    listeners: Listeners,
    connections_max: usize,
    (routes, health): (Routes, HealthReporter),
    coordinator: Arc<Coordinator>,
    stopping: CancellationToken,
) {
    let incoming = connections(listeners, connections_max, coordinator);
    serve_incoming(incoming, (routes, health), stopping).await;
}

async fn serve_incoming<I, IO>(incoming: I, (routes, health): (Routes, HealthReporter), stopping: CancellationToken)
where
    I: Stream<Item = std::io::Result<IO>>,
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let router = tonic::transport::Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_concurrent_streams(CALLS_PER_CONNECTION_MAX)
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
        () = serve_incoming(incoming, served, stopping.clone()) => (),
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
