//! The blocking client.

use std::future::Future;
use std::sync::Arc;

use http::{Request, Response};
use parking_lot::Mutex;
use tonic::body::Body;
use tower::{BoxError, Service};

use super::process::{OfProcess, runtime};
use super::{Consumer, EpochWriter, Producer, Wait};
use crate::client::task::OwnedTask;
use crate::client::transport::{ProcessService, process_service};
use crate::client::watched::Watched;
use crate::client::{self as asynchronous, ClientOptions, ConsumerOptions, Error, ProducerOptions, TraceContext, WriterId, WriterOptions};
use crate::engine::StoredState;

/// A connection to a coordinator; see [`client::Client`](crate::client::Client). In a forked child it connects anew by
/// itself; producers, writers and consumers have to be made anew there.
#[derive(Debug, Clone)]
pub struct Client {
    url: Arc<str>,
    options: ClientOptions,
    /// The coordinator, if it is in this process; a forked child has a copy that does not live.
    local: Arc<OfProcess<Option<ProcessService>>>,
    current: Arc<Mutex<Option<OfProcess<asynchronous::Client>>>>,
    /// What its calls carry.
    context: Option<TraceContext>,
}

impl Client {
    /// Connects to the coordinator at `url` (`grpc://host:port`, `grpc+unix:///path`); keeps trying until `connect_timeout`.
    ///
    /// # Errors
    /// `unavailable` if it cannot be reached in time, `invalid_argument` if the URL is none.
    pub fn connect<E: From<Error>>(url: &str, options: ClientOptions, wait: &mut Wait<'_, E>) -> Result<Self, E> {
        Self::over(url, None, options, wait)
    }

    /// A client of a coordinator in this process; see [`client::Client::within_process`](crate::client::Client::within_process).
    /// In a forked child it connects to the URL.
    ///
    /// # Errors
    /// `invalid_argument` if the URL is none.
    pub fn within_process<S, E>(url: &str, service: S, options: ClientOptions, wait: &mut Wait<'_, E>) -> Result<Self, E>
    where
        S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        E: From<Error>,
    {
        Self::over(url, Some(process_service(service)), options, wait)
    }

    fn over<E: From<Error>>(url: &str, local: Option<ProcessService>, options: ClientOptions, wait: &mut Wait<'_, E>) -> Result<Self, E> {
        let client = Self { url: url.into(), options, local: Arc::new(OfProcess::new(local)), current: Arc::default(), context: None };
        client.get(wait)?;
        Ok(client)
    }

    /// The URL that was connected to.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A producer for `stream`; see [`client::Client::producer`](crate::client::Client::producer).
    ///
    /// # Errors
    /// `invalid_argument` if the schema cannot be sent.
    pub fn producer<E: From<Error>>(&self, stream: &str, options: ProducerOptions, wait: &mut Wait<'_, E>) -> Result<Producer, E> {
        Ok(Producer::new(self.get(wait)?.producer(stream, options)?))
    }

    /// A writer: one task attempt of an epoch; see [`client::Client::writer`](crate::client::Client::writer).
    ///
    /// # Errors
    /// `invalid_argument` if the schema cannot be sent.
    pub fn writer<E: From<Error>>(
        &self,
        stream: &str,
        id: WriterId,
        options: WriterOptions,
        wait: &mut Wait<'_, E>,
    ) -> Result<EpochWriter, E> {
        Ok(EpochWriter::new(self.get(wait)?.writer(stream, id, options)?))
    }

    /// A consumer of `stream`; see [`client::Client::consumer`](crate::client::Client::consumer).
    ///
    /// # Errors
    /// `stream_not_found`, `stream_replaced`, `partition_out_of_range`.
    pub fn consumer<E: From<Error>>(&self, stream: &str, options: ConsumerOptions, wait: &mut Wait<'_, E>) -> Result<Consumer, E> {
        let stream = stream.to_owned();
        let consumer = self.call(wait, |client| async move { client.consumer(&stream, options).await })?;
        Ok(Consumer::new(consumer))
    }

    /// Runs a verb of the async client.
    pub(super) fn call<T, F, E>(&self, wait: &mut Wait<'_, E>, verb: impl FnOnce(asynchronous::Client) -> F) -> Result<T, E>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
        E: From<Error>,
    {
        let client = self.get(wait)?;
        match self.context.clone() {
            Some(context) => run(wait, context.carried_by(verb(client))),
            None => run(wait, verb(client)),
        }
    }

    /// The same client, whose control calls carry this context; without one, none.
    #[must_use]
    pub fn within(&self, context: Option<TraceContext>) -> Self {
        Self { context, ..self.clone() }
    }

    /// This process's connection.
    fn get<E: From<Error>>(&self, wait: &mut Wait<'_, E>) -> Result<asynchronous::Client, E> {
        if let Some(client) = self.current.lock().as_ref().and_then(OfProcess::get) {
            return Ok(client.clone());
        }
        let (url, options) = (self.url.clone(), self.options.clone());
        let local = self.local.get().cloned().flatten();
        let client = run(wait, async move {
            match local {
                Some(service) => asynchronous::Client::within_process(&url, service, options).await,
                None => asynchronous::Client::connect(&url, options).await,
            }
        })?;
        *self.current.lock() = Some(OfProcess::new(client.clone()));
        Ok(client)
    }
}

/// Runs a future on the background runtime; it ends with the wait, whichever way that ends.
pub(super) fn run<T, E>(wait: &mut Wait<'_, E>, future: impl Future<Output = Result<T, Error>> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<Error>,
{
    let answer = Arc::new(Watched::new(None));
    let (set, set_panic) = (answer.clone(), answer.clone());
    let work = async move {
        let result = future.await;
        set.update(|answer| *answer = Some(result));
    };
    let _task = OwnedTask::spawn(&runtime()?, work, move |error| set_panic.update(|answer| *answer = Some(Err(error))));
    Ok(wait.on(&answer, "the coordinator's answer", StoredState::Unknown, Option::take)??)
}
