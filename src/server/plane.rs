//! The data plane: `DoPut` and `DoGet` framed by hand, everything else handed to the Flight service.
//!
//! A tonic codec's buffer is contiguous, so that each body would be copied twice. Here the chunks that the
//! connection delivers become the batch's body as they are, and leave the same way.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_stream::stream;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

use super::access::{Caller, Origin, Rpc};
use super::coordinator::Coordinator;
use super::error::Error;
use super::status::{ok_trailers, trailers};
use super::{read, write};
use crate::wire::command::GetTarget;
use crate::wire::frame::{FrameWriter, ProtoReader, WithinProcess, frame_proto};

const DO_PUT: &str = "/arrow.flight.protocol.FlightService/DoPut";
const DO_GET: &str = "/arrow.flight.protocol.FlightService/DoGet";
/// A ticket is a small JSON text; anything near this is hostile.
const TICKET_BYTES_MAX: u64 = 1 << 20;

/// The Flight service with its two streaming calls replaced.
#[derive(Debug, Clone)]
pub(super) struct Plane<S> {
    coordinator: Arc<Coordinator>,
    inner: S,
}

impl<S> Plane<S> {
    pub(super) fn new(coordinator: Arc<Coordinator>, inner: S) -> Self {
        Self { coordinator, inner }
    }
}

impl<S: NamedService> NamedService for Plane<S> {
    const NAME: &'static str = S::NAME;
}

type ResponseFuture = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl<S> Service<Request<Body>> for Plane<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> ResponseFuture {
        let coordinator = self.coordinator.clone();
        match request.uri().path() {
            DO_PUT => Box::pin(async move { Ok(respond(put_frames(coordinator, request))) }),
            DO_GET => Box::pin(async move { Ok(get_response(coordinator, request).await) }),
            _ => Box::pin(self.inner.call(request)),
        }
    }
}

/// Runs the writing loop and answers with what it stores; ends it when the client goes away.
fn put_frames(coordinator: Arc<Coordinator>, request: Request<Body>) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> {
    let deadline = deadline(request.headers());
    let caller = Caller::of(request.extensions(), coordinator.access());
    let (sender, mut progress) = watch::channel(None);
    // A task of its own: a client that never reads its results must not hold up its appends.
    let writing = {
        let coordinator = coordinator.clone();
        AbortOnDrop(tokio::spawn(async move { write::put(&coordinator, &caller?, request.into_body(), deadline, &sender).await }))
    };
    stream! {
        let mut writing = writing;
        while progress.changed().await.is_ok() {
            let result = *progress.borrow_and_update();
            if let Some(result) = result {
                yield Ok(Frame::data(frame_proto(&arrow_flight::PutResult { app_metadata: result.to_bytes() })));
            }
        }
        let written = (&mut writing.0).await.unwrap_or_else(|error| Err(Error::Task { reason: error.to_string() }));
        yield Ok(Frame::trailers(closing(&coordinator, written)));
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<Result<(), Error>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn get_response(coordinator: Arc<Coordinator>, request: Request<Body>) -> Response<Body> {
    let frames = match request.extensions().get::<WithinProcess>() {
        Some(_) => FrameWriter::within_process(),
        None => FrameWriter::new(),
    };
    let peer = Origin::of(request.extensions()).peer.to_string();
    let caller = Caller::of(request.extensions(), coordinator.access());
    let opened = ticket(request).await.and_then(|target| {
        let caller = caller?;
        let permit = caller.permit(Rpc::DoGet, target.subscription.is_some() || target.leased.is_some(), target.stream.as_str())?;
        if let Some(link) = target.link {
            coordinator.links().claim(link, caller.name())?;
        }
        let usage = permit.usage().cloned();
        Ok((permit, read::get(coordinator.clone(), &target, peer, usage, frames)?))
    });
    let (permit, chunks) = match opened {
        Ok(opened) => opened,
        Err(error) => return respond(futures::stream::once(async move { Ok(Frame::trailers(closing(&coordinator, Err(error)))) })),
    };
    respond(stream! {
        let mut chunks = std::pin::pin!(chunks);
        let mut permit_ended = std::pin::pin!(permit.ended());
        let mut ended = Ok(());
        loop {
            let chunk = tokio::select! {
                biased;
                refusal = &mut permit_ended => Some(Err(refusal.into())),
                chunk = chunks.next() => chunk,
            };
            match chunk {
                Some(Ok(chunk)) => yield Ok(Frame::data(chunk)),
                Some(Err(error)) => {
                    ended = Err(error);
                    break;
                }
                None => break,
            }
        }
        yield Ok(Frame::trailers(closing(&coordinator, ended)));
    })
}

/// The one message that a `DoGet` request carries.
async fn ticket(request: Request<Body>) -> Result<GetTarget, Error> {
    let mut body = request.into_body();
    let mut reader = ProtoReader::<arrow_flight::Ticket>::new(TICKET_BYTES_MAX);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Error::Disconnected { reason: error.to_string() })?;
        if let Ok(data) = frame.into_data() {
            reader.push(data);
        }
        if let Some(ticket) = reader.next()? {
            return Ok(GetTarget::from_json(&ticket.ticket)?);
        }
    }
    Err(Error::Wire(crate::wire::error::WireError::cut_short()))
}

fn closing(coordinator: &Coordinator, ended: Result<(), Error>) -> HeaderMap {
    match ended {
        Ok(()) => ok_trailers(),
        Err(error) => {
            coordinator.count_error(error.code());
            tracing::debug!(code = error.code().as_str(), %error, "a data call ended with an error");
            trailers(&error)
        }
    }
}

fn respond(frames: impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + 'static) -> Response<Body> {
    let mut response = Response::new(Body::new(StreamBody::new(frames)));
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/grpc"));
    response
}

/// The call's deadline, from the header `grpc-timeout`: a number of up to 8 digits and a unit.
fn deadline(headers: &HeaderMap) -> Option<Instant> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok()?;
    let timeout = match unit {
        "H" => std::time::Duration::from_secs(number.checked_mul(3600)?),
        "M" => std::time::Duration::from_secs(number.checked_mul(60)?),
        "S" => std::time::Duration::from_secs(number),
        "m" => std::time::Duration::from_millis(number),
        "u" => std::time::Duration::from_micros(number),
        "n" => std::time::Duration::from_nanos(number),
        _ => return None,
    };
    Instant::now().checked_add(timeout)
}
