//! The client: a handle on one coordinator, from which everything else is made.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use http::{Request, Response};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tonic::body::Body;
use tower::{BoxError, Service};

use super::connection::{Connector, Dial};
use super::generated::control_client::ControlClient;
use super::shared::{Lender, LinkAddress};
use super::transport::{Transport, process_service};
use super::{ClientOptions, Consumer, ConsumerOptions, EpochWriter, Error, Producer, ProducerOptions, WriterId, WriterOptions};
use crate::shared::random;

/// A connection to a coordinator. Cheap to clone; clones share one connection for control calls. Each producer,
/// writer and consumer has a connection of its own for its data.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    connector: Connector,
    control: ControlClient<Transport>,
    /// What its producers lend. One for all: memory that one has used is warm for the next.
    lender: Mutex<Option<Arc<Lender>>>,
    /// Tells its connections from those of all other clients.
    sender: u64,
    /// Producers and writers made so far.
    made: AtomicU64,
    /// Where background tasks run: the runtime that `connect` was called in.
    runtime: Handle,
}

impl Client {
    /// Connects to the coordinator at `url` (`grpc://host:port`, `grpc+unix:///path`); keeps trying until `connect_timeout`.
    ///
    /// # Errors
    /// `unavailable` if it cannot be reached in time, `invalid_argument` if the URL is none.
    ///
    /// # Panics
    /// Outside a tokio runtime; [`blocking`](super::blocking) brings its own.
    pub async fn connect(url: &str, options: ClientOptions) -> Result<Self, Error> {
        Self::over(Connector::new(url, options)?).await
    }

    /// A client of a coordinator in this process, as `Server::service` gives it: calls go by no socket, and a batch is copied
    /// once on its way in and not at all on its way out. `url` is the coordinator's for others: where its successor is looked
    /// for once it has ended.
    ///
    /// # Errors
    /// `invalid_argument` if the URL is none.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn within_process<S>(url: &str, service: S, options: ClientOptions) -> Result<Self, Error>
    where
        S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        Self::over(Connector::within_process(url, process_service(service), options)?).await
    }

    /// The same as [`connect`](Self::connect), over a network of the caller's: for simulations.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    #[doc(hidden)]
    pub async fn connect_by(url: &str, dial: Dial, options: ClientOptions) -> Result<Self, Error> {
        Self::over(Connector::by(url, dial, options)?).await
    }

    async fn over(connector: Connector) -> Result<Self, Error> {
        let transport = connector.connect().await?.bearing(connector.credentials());
        let bytes_max = usize::try_from(connector.options.message_bytes_max).unwrap_or(usize::MAX);
        let control = ControlClient::new(transport).max_decoding_message_size(bytes_max).max_encoding_message_size(bytes_max);
        Ok(Self {
            inner: Arc::new(Inner {
                connector,
                control,
                lender: Mutex::default(),
                sender: random::number(),
                made: AtomicU64::new(0),
                runtime: Handle::current(),
            }),
        })
    }

    /// The URL that was connected to.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.inner.connector.url
    }

    /// The options that were connected with.
    #[must_use]
    pub fn options(&self) -> &ClientOptions {
        &self.inner.connector.options
    }

    /// A producer for `stream`. With `options.schema` it connects at once, in the background; else with the first
    /// append. A stream that does not exist is created with the batches' schema, if the coordinator allows it.
    ///
    /// # Errors
    /// `invalid_argument` if the schema cannot be sent.
    pub fn producer(&self, stream: &str, options: ProducerOptions) -> Result<Producer, Error> {
        Producer::new(self, stream, options)
    }

    /// A writer: one task attempt of an epoch, which the producer's driver has opened or the first writer opens.
    ///
    /// # Errors
    /// `invalid_argument` if the schema cannot be sent.
    pub fn writer(&self, stream: &str, id: WriterId, options: WriterOptions) -> Result<EpochWriter, Error> {
        EpochWriter::new(self.clone(), stream, id, options)
    }

    /// A consumer of `stream`, which starts to read ahead at once. Waits up to `options.stream_wait` for the stream
    /// to be created.
    ///
    /// # Errors
    /// `stream_not_found`, `stream_replaced`, `partition_out_of_range`.
    pub async fn consumer(&self, stream: &str, options: ConsumerOptions) -> Result<Consumer, Error> {
        Consumer::open(self.clone(), stream, options).await
    }

    pub(super) fn connector(&self) -> &Connector {
        &self.inner.connector
    }

    pub(super) fn control(&self) -> ControlClient<Transport> {
        self.inner.control.clone()
    }

    /// For a new producer or writer: who sends, and the number that its connections' numbers begin after. They are higher than
    /// those of all that were made before, however often they connect.
    pub(super) fn next_sender(&self) -> (u64, u64) {
        (self.inner.sender, self.inner.made.fetch_add(1, Relaxed) << 32)
    }

    pub(super) fn url_arc(&self) -> &Arc<str> {
        &self.inner.connector.url
    }

    /// A lender to the coordinator; none: send the bytes.
    pub(super) async fn lender(&self, links: Option<&LinkAddress>) -> Option<Arc<Lender>> {
        let links = links?;
        let known = self.inner.lender.lock().clone().filter(|lender| lender.is_for(links));
        if known.is_some() {
            return known;
        }
        let opened = Lender::open(links, self.runtime()).await;
        self.inner.lender.lock().clone_from(&opened);
        opened
    }

    /// See [`Lender::retire`].
    pub(super) fn retire(&self, lender: &Arc<Lender>) {
        lender.retire();
        let mut current = self.inner.lender.lock();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, lender)) {
            *current = None;
        }
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.inner.runtime
    }
}
