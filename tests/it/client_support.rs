//! What the client's tests share: a server, batches, and a proxy whose connections can be cut.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use bowstring::client::{Client, ClientOptions, Consumer, ConsumerOptions, Delivered, Error};
use bowstring::server::{Server, ServerConfig};
use bowstring::wire::proto::{CreateStreamRequest, StreamOptions};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::either::Either;

use super::transport::Transport;

/// What a test may wait for anything: far more than it takes, so that only a hang fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn server() -> Server {
    server_with(ServerConfig::default()).await
}

pub(crate) async fn server_with(config: ServerConfig) -> Server {
    Server::start(ServerConfig { listen: ([127, 0, 0, 1], 0).into(), http: None, ..config }).await.expect("starts on a free port")
}

pub(crate) async fn connect(url: &str) -> Client {
    Client::connect(url, ClientOptions::default()).await.expect("the server is there")
}

/// Creates a stream with these options.
pub(crate) async fn create(client: &Client, stream: &str, options: StreamOptions) -> u64 {
    let request = CreateStreamRequest { stream: stream.to_owned(), options: Some(options), ..CreateStreamRequest::default() };
    client.create_stream(request).await.expect("a new stream").stream_id
}

pub(crate) fn partitions(count: u32) -> StreamOptions {
    StreamOptions { partitions: Some(count), ..StreamOptions::default() }
}

/// A batch whose first value tells it from the others.
pub(crate) fn numbered(number: i64, rows: usize) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(std::iter::repeat_n(number, rows.max(1))));
    RecordBatch::try_from_iter([("n", column)]).expect("one column")
}

/// The number that `numbered` gave it.
pub(crate) fn number(delivered: &Delivered) -> i64 {
    delivered.batch.column(0).as_primitive::<Int64Type>().value(0)
}

/// A consumer that follows all partitions with this subscription.
pub(crate) async fn subscribed(client: &Client, stream: &str, subscription: &str) -> Consumer {
    let options = ConsumerOptions { subscription: Some(subscription.to_owned()), ..ConsumerOptions::default() };
    client.consumer(stream, options).await.expect("the stream is there")
}

/// The next batch, which must come.
pub(crate) async fn next(consumer: &mut Consumer) -> Delivered {
    let deadline = std::time::Instant::from(tokio::time::Instant::now() + PATIENCE);
    consumer.next(Some(deadline)).await.expect("a batch").expect("the stream goes on")
}

/// Everything up to the end of the stream.
pub(crate) async fn rest(consumer: &mut Consumer) -> Result<Vec<Delivered>, Error> {
    let mut all = Vec::new();
    while let Some(delivered) = consumer.next(None).await? {
        all.push(delivered);
    }
    Ok(all)
}

/// Waits for `future`, and fails the test rather than to hang.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("does not hang")
}

/// Passes connections on to a server until they are cut.
pub(crate) struct Proxy {
    pub(crate) url: String,
    on: Transport,
    connections: Arc<Mutex<JoinSet<()>>>,
    upstream: Arc<Mutex<Option<Upstream>>>,
    accepting: tokio::task::JoinHandle<()>,
    /// Of a proxy by Unix socket: where that is.
    _folder: Option<tempfile::TempDir>,
}

#[derive(Clone)]
enum Upstream {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Upstream {
    fn of(on: Transport, server: &Server) -> Self {
        match on {
            Transport::Tcp | Transport::Process => Self::Tcp(server.listen_addr()),
            Transport::Unix | Transport::Shared => Self::Unix(server.unix_path().expect("has a Unix socket").to_path_buf()),
        }
    }

    async fn connect(&self) -> std::io::Result<Either<TcpStream, UnixStream>> {
        match self {
            Self::Tcp(address) => TcpStream::connect(address).await.map(Either::Left),
            Self::Unix(path) => UnixStream::connect(path).await.map(Either::Right),
        }
    }
}

impl Proxy {
    pub(crate) async fn to(on: Transport, server: &Server) -> Self {
        let connections: Arc<Mutex<JoinSet<()>>> = Arc::default();
        let upstream = Arc::new(Mutex::new(Some(Upstream::of(on, server))));
        let pass_on = {
            let (connections, upstream) = (connections.clone(), upstream.clone());
            move |mut client| {
                let Some(upstream) = upstream.lock().clone() else { return };
                connections.lock().spawn(async move {
                    if let Ok(mut server) = upstream.connect().await {
                        // However it ends: that is what the tests are about.
                        drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
                    }
                });
            }
        };
        let (url, accepting, folder) = match on {
            Transport::Tcp | Transport::Process => {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                let url = format!("grpc://{}", listener.local_addr().expect("bound"));
                let accept = async move {
                    while let Ok((client, _)) = listener.accept().await {
                        pass_on(Either::Left(client));
                    }
                };
                (url, tokio::spawn(accept), None)
            }
            Transport::Unix | Transport::Shared => {
                let folder = tempfile::tempdir().expect("a folder");
                let path = folder.path().join("proxy");
                let listener = UnixListener::bind(&path).expect("a short path");
                let accept = async move {
                    while let Ok((client, _)) = listener.accept().await {
                        pass_on(Either::Right(client));
                    }
                };
                (format!("grpc+unix://{}", path.display()), tokio::spawn(accept), Some(folder))
            }
        };
        Self { url, on, connections, upstream, accepting, _folder: folder }
    }

    /// Cuts all connections; new ones are welcome.
    pub(crate) fn cut(&self) {
        self.connections.lock().abort_all();
    }

    /// Cuts all connections and closes new ones at once, until [`Proxy::restore`].
    pub(crate) fn block(&self) {
        *self.upstream.lock() = None;
        self.cut();
    }

    pub(crate) fn restore(&self, server: &Server) {
        *self.upstream.lock() = Some(Upstream::of(self.on, server));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
