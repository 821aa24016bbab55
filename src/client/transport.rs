//! A transport: how a call gets to its coordinator, by a connection or within the process.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use http::header::AUTHORIZATION;
use http::{Request, Response};
use tonic::body::Body;
use tonic::transport::Channel;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Service, ServiceExt};

use super::token::Credentials;
use super::trace;
use crate::wire::frame::WithinProcess;

/// A coordinator in this process: what it serves, without a socket.
pub(super) type ProcessService = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

/// Boxes what a server gives.
pub(super) fn process_service<S>(service: S) -> ProcessService
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    BoxCloneSyncService::new(service.map_err(Into::into))
}

/// A coordinator in this process, and whether it still is.
#[derive(Clone)]
pub(super) struct Process {
    service: ProcessService,
    /// It has ended; another may be reached where it was.
    gone: Arc<AtomicBool>,
}

impl Process {
    pub(super) fn new(service: ProcessService) -> Self {
        Self { service, gone: Arc::default() }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Relaxed)
    }
}

/// How a call gets there.
#[derive(Clone)]
pub(super) enum Transport {
    /// HTTP/2 over a socket.
    Connection(Channel),
    /// Any of these, its calls with a token.
    Bearing(Box<Transport>, Arc<Credentials>),
    /// A function call: bodies are handed over as they are. Once the coordinator has ended, the other way.
    Process(Process, Channel),
}

impl Transport {
    pub(super) fn is_process(&self) -> bool {
        match self {
            Self::Connection(_) => false,
            Self::Process(process, _) => !process.is_gone(),
            Self::Bearing(inner, _) => inner.is_process(),
        }
    }

    /// Its calls show the token, if there is one.
    pub(super) fn bearing(self, credentials: Option<&Arc<Credentials>>) -> Self {
        match credentials {
            Some(credentials) => Self::Bearing(Box::new(self), credentials.clone()),
            None => self,
        }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_process() { "Process" } else { "Connection" })
    }
}

impl Service<Request<Body>> for Transport {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self {
            Self::Process(process, _) if !process.is_gone() => process.service.poll_ready(context),
            Self::Connection(channel) | Self::Process(_, channel) => channel.poll_ready(context).map_err(Into::into),
            Self::Bearing(inner, _) => inner.poll_ready(context),
        }
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(context) = trace::current() {
            request.headers_mut().insert("traceparent", context);
        }
        match self {
            Self::Process(process, _) if !process.is_gone() => {
                request.extensions_mut().insert(WithinProcess);
                let (answer, gone) = (process.service.call(request), process.gone.clone());
                Box::pin(async move { answer.await.inspect_err(|_| gone.store(true, Relaxed)) })
            }
            Self::Bearing(inner, credentials) => {
                // This process has what the environment has, and is asked for less.
                if !(inner.is_process() && credentials.is_of_environment) {
                    match credentials.header() {
                        Ok(bearer) => drop(request.headers_mut().insert(AUTHORIZATION, bearer)),
                        Err(error) => return Box::pin(std::future::ready(Err(error.into()))),
                    }
                }
                inner.call(request)
            }
            Self::Connection(channel) | Self::Process(_, channel) => {
                let answer = channel.call(request);
                Box::pin(async move { Ok(answer.await?) })
            }
        }
    }
}
