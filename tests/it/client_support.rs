//! What the client's tests share: a server, batches, and a proxy whose connections can be cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use bowstring::client::{Client, ClientOptions, Consumer, ConsumerOptions, Delivered, Error};
use bowstring::server::{Server, ServerConfig};
use bowstring::wire::proto::{CreateStreamRequest, StreamOptions};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

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
    connections: Arc<Mutex<JoinSet<()>>>,
    upstream: Arc<Mutex<Option<SocketAddr>>>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn to(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("grpc://{}", listener.local_addr().expect("bound"));
        let connections: Arc<Mutex<JoinSet<()>>> = Arc::default();
        let upstream = Arc::new(Mutex::new(Some(server.listen_addr())));
        let accepting = tokio::spawn({
            let (connections, upstream) = (connections.clone(), upstream.clone());
            async move {
                while let Ok((mut client, _)) = listener.accept().await {
                    let Some(upstream) = *upstream.lock() else { continue };
                    connections.lock().spawn(async move {
                        if let Ok(mut server) = TcpStream::connect(upstream).await {
                            // However it ends: that is what the tests are about.
                            drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
                        }
                    });
                }
            }
        });
        Self { url, connections, upstream, accepting }
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
        *self.upstream.lock() = Some(server.listen_addr());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
