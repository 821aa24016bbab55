//! A transport: how a call gets to its coordinator, by a connection or within the process.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::body::Body;
use tonic::transport::Channel;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Service, ServiceExt};

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

/// How a call gets there.
#[derive(Clone)]
pub(super) enum Transport {
    /// HTTP/2 over a socket.
    Connection(Channel),
    /// A function call: bodies are handed over as they are.
    Process(ProcessService),
}

impl Transport {
    pub(super) fn is_process(&self) -> bool {
        matches!(self, Self::Process(_))
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
            Self::Connection(channel) => channel.poll_ready(context).map_err(Into::into),
            Self::Process(service) => service.poll_ready(context),
        }
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match self {
            Self::Connection(channel) => {
                let answer = channel.call(request);
                Box::pin(async move { Ok(answer.await?) })
            }
            Self::Process(service) => {
                request.extensions_mut().insert(WithinProcess);
                service.call(request)
            }
        }
    }
}
