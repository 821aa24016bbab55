//! `POST /streams/{name}/rows`: from the request to its answer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;

use super::answer::{Refused, Taken};
use super::append::{Targets, Writers};
use super::config::IngestError;
use super::declared::Declared;
use super::decoding::{self, Ready};
use super::epoch::{Given, Opened, Turns, Writer};
use super::media::{self, Layout};
use super::room::{Claim, Room};
use super::{body, guard, split};
use crate::engine::{Attempt, Code};
use crate::formats::RowDecoder;
use crate::server::access::{Caller, Seats};
use crate::server::config::ServerConfig;
use crate::server::coordinator::Coordinator;
use crate::server::error::Error;
use crate::server::http::origin_of;

/// The streams that take rows.
#[derive(Debug)]
pub(in crate::server) struct Ingest(BTreeMap<String, Declared>);

impl Ingest {
    /// Reads the files that the configuration names. Blocks.
    ///
    /// # Errors
    /// [`IngestError`] names the stream and what to change.
    pub(in crate::server) fn open(config: &ServerConfig) -> Result<Self, IngestError> {
        if let (Some(stream), None) = (config.ingest.keys().next(), config.http) {
            let reason = "rows come by the HTTP port, which is off; give its address (http), or leave the setting out".to_owned();
            return Err(IngestError { stream: stream.clone(), reason });
        }
        let one = |(stream, of): (&String, _)| Ok((stream.clone(), Declared::open(stream, of)?));
        config.ingest.iter().map(one).collect::<Result<_, _>>().map(Self)
    }

    /// The routes.
    pub(in crate::server) fn router(self, coordinator: &Arc<Coordinator>, address: SocketAddr) -> Router {
        let Self(streams) = self;
        let serving = Serving { coordinator: coordinator.clone(), address, streams, room: Room::new(), turns: Turns::default() };
        Router::new().route("/streams/{name}/rows", post(take)).with_state(Arc::new(serving))
    }
}

/// What requests share.
#[derive(Debug)]
struct Serving {
    coordinator: Arc<Coordinator>,
    /// Where the HTTP port listens.
    address: SocketAddr,
    streams: BTreeMap<String, Declared>,
    room: Room,
    turns: Turns,
}

async fn take(State(serving): State<Arc<Serving>>, Path(stream): Path<String>, request: Request) -> Response {
    let (parts, mut body) = request.into_parts();
    match serving.take(&stream, &parts, &mut body).await {
        Ok(taken) => taken.into_response(),
        Err(refused) => {
            serving.coordinator.count_error(refused.code);
            body::skip(&parts.headers, &mut body).await;
            refused.into_response()
        }
    }
}

impl Serving {
    /// Whoever may not is told so before anything of the stream or the body is looked at.
    async fn take(&self, stream: &str, parts: &Parts, body: &mut Body) -> Result<Taken, Refused> {
        guard::check(&parts.headers, self.address)?;
        self.coordinator.check_running()?;
        let caller = self.caller(parts)?;
        caller.check_append(stream)?;
        let declared = self.streams.get(stream).ok_or_else(|| not_declared(stream))?;
        if let Some(rejected_to) = &declared.rejected_to {
            caller.check_append(rejected_to.as_str())?;
        }
        let layout = media::layout(&parts.headers, declared.of)?;
        let given = Given::of(&parts.headers)?;
        let cell = self.coordinator.get(&declared.stream)?;
        let decoder = declared.decoder(&cell)?;
        let mut claim = self.room.claim();
        let body = body::read(&parts.headers, body, &mut claim).await?;

        let turn = given.as_ref().map(|given| self.turns.take(cell.id(), given.producer()?)).transpose()?;
        let epoch = match given {
            None => None,
            Some(given) => {
                let attempt = Attempt(cell.now().0);
                let good = Writer::new(given.producer()?, given.epoch, attempt)?;
                let bad = Writer::new(given.producer_of_rejected(cell.id())?, given.epoch, attempt)?;
                match Opened::open(&cell, good.clone()).await? {
                    Some(opened) => Some((opened, Writers { good, bad })),
                    None => return Ok(Taken { is_duplicate: true, ..Taken::default() }),
                }
            }
        };
        let targets = Targets { cell, partition: declared.partition, rejected_to: declared.rejected_to.clone(), epoch };
        let ready = self.decode(declared, decoder, (body, layout), &targets, &mut claim).await?;
        let taken = targets.append(&self.coordinator, &caller, ready).await;
        drop(turn);
        taken
    }

    fn caller(&self, parts: &Parts) -> Result<Caller, Refused> {
        let Some(access) = self.coordinator.access() else { return Ok(Caller::default()) };
        let seats = parts.extensions.get::<Arc<Seats>>();
        Ok(access.caller_http(&parts.headers, &origin_of(&parts.extensions), seats.map(|seats| &**seats))?)
    }

    /// Decodes on a thread that may block: a small body may take long.
    async fn decode(
        &self,
        declared: &Declared,
        decoder: Arc<RowDecoder>,
        (body, layout): (Bytes, Layout),
        targets: &Targets,
        claim: &mut Claim,
    ) -> Result<Ready, Refused> {
        let rows = split::rows(&body, layout)?.len();
        claim.resize(decoding::bytes(&body, rows, layout, decoder.schema(), declared.aliases)?)?;
        let commands = targets.commands(&self.coordinator)?;
        let thread = self.room.thread().await?;
        let work = move || {
            let ready = decoding::decode(&decoder, &body, layout, commands);
            drop(thread);
            ready
        };
        let ready = tokio::task::spawn_blocking(work).await.map_err(|error| Error::Task { reason: error.to_string() })??;
        if let (None, Some(first)) = (&declared.rejected_to, &ready.reason) {
            let (bad, all) = (ready.bad.0, ready.bad.0 + ready.good.0);
            let text = format!(
                "{bad} of {all} rows are bad, and the stream has no rejected_to for them, so that none was taken; row {}: {}",
                first.index, first.reason
            );
            return Err(Refused::new(StatusCode::UNPROCESSABLE_ENTITY, Code::InvalidArgument, text));
        }
        claim.resize(ready.bytes())?;
        Ok(ready)
    }
}

fn not_declared(stream: &str) -> Refused {
    let shown: String = stream.chars().take(256).collect();
    let text = format!(
        "no rows are taken over HTTP for stream {shown:?}: declare their format in the coordinator's configuration, in the table \
         [ingest.{shown:?}], or StreamCoordinator(ingest={{...}}); docs/formats.md says how"
    );
    Refused::new(StatusCode::NOT_FOUND, Code::StreamNotFound, text)
}
