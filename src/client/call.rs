//! A hand-framed gRPC call: request and response bodies are the chunks of the wire, with no decoding in between.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::BodyExt;
use tower::Service;

use super::Error;
use super::connection::Connector;
use super::transport::Transport;

/// Path of Flight's `DoPut`.
pub(super) const DO_PUT: &str = "/arrow.flight.protocol.FlightService/DoPut";
/// Path of Flight's `DoGet`.
pub(super) const DO_GET: &str = "/arrow.flight.protocol.FlightService/DoGet";

/// The response body of an open call. It owns its connection: dropping it ends both.
#[derive(Debug)]
pub(super) struct Answers {
    body: tonic::body::Body,
    url: Arc<str>,
    _transport: Transport,
}

impl Answers {
    /// Starts a call; gives its answers once the response's headers are there. A coordinator sends them before it looks
    /// for batches or room: one that takes longer than `ping_timeout` takes connections and serves none.
    ///
    /// # Errors
    /// The call's status; `unavailable` if the connection breaks, or the answer does not begin in time.
    pub(super) async fn open(
        connector: &Connector,
        transport: Transport,
        path: &'static str,
        body: tonic::body::Body,
    ) -> Result<Self, Error> {
        let (url, limit) = (&connector.url, connector.options.ping_timeout);
        let opened = tokio::time::timeout(limit, Self::begin(transport.bearing(connector.credentials()), path, body, url.clone())).await;
        opened.unwrap_or_else(|_| Err(Error::ConnectionLost { url: url.clone(), reason: format!("no answer within {limit:?}").into() }))
    }

    async fn begin(mut transport: Transport, path: &'static str, body: tonic::body::Body, url: Arc<str>) -> Result<Self, Error> {
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .body(body)
            .map_err(|error| Error::protocol(error.to_string()))?;
        std::future::poll_fn(|context| transport.poll_ready(context)).await.map_err(|error| Error::lost(&url, &*error))?;
        let response = transport.call(request).await.map_err(|error| Error::lost(&url, &*error))?;
        if let Some(error) = Error::from_trailers(response.headers(), &url) {
            return Err(error);
        }
        if response.status() != http::StatusCode::OK {
            return Err(Error::protocol(format!("HTTP status {}", response.status())));
        }
        Ok(Self { body: response.into_body(), url, _transport: transport })
    }

    /// The next chunk; none when the call has ended well.
    ///
    /// # Errors
    /// The call's status, or that the connection broke.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        // Within the process there is always another chunk, and no socket that would let others go on.
        tokio::task::coop::consume_budget().await;
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|status| Error::from_status(&status, &self.url))?;
            match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Ok(Some(data)),
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        return Error::from_trailers(&trailers, &self.url).map_or(Ok(None), Err);
                    }
                }
            }
        }
        Err(Error::ConnectionLost { url: self.url.clone(), reason: "the answer ended without a status".into() })
    }
}
