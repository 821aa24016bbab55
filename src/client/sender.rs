//! The task behind a producer or writer: keeps a `DoPut` open that sends the window, and resumes after breaks.

use std::sync::Arc;
use std::time::Duration;

use arrow_flight::{FlightDescriptor, PutResult};
use bytes::Bytes;
use prost::Message as _;

use super::call::{Answers, DO_PUT};
use super::put::PutBody;
use super::retry::{Backoff, STEADY, now};
use super::shared::Lender;
use super::watched::Watched;
use super::window::{Phase, Window};
use super::{Client, Error, ProducerRun};
use crate::engine::{Epoch, ProducerId, StreamId};
use crate::wire::command::PutCommand;
use crate::wire::frame::ProtoReader;
use crate::wire::metadata::AppendResult;
use crate::wire::proto::Receipt;

/// Largest answer: an `AppendResult` has some 50 bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// Ends the request body with its connection. Left alone it would wait for batches for ever, and keep the call open
/// with what the coordinator has taken of it: a batch that waits for room would be stored long after it was given up.
struct LaneGuard<'a> {
    client: &'a Client,
    window: &'a Watched<Window>,
    lender: Option<Arc<Lender>>,
}

impl Drop for LaneGuard<'_> {
    fn drop(&mut self) {
        let all_arrived = self.window.with(|window| {
            window.open_lane();
            window.is_empty()
        });
        if let Some(lender) = self.lender.as_ref().filter(|_| !all_arrived) {
            self.client.retire(lender);
        }
    }
}

/// What the task needs to know.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    pub(super) client: Client,
    pub(super) window: Arc<Watched<Window>>,
    /// The stream id is filled in once known, so that a resend never goes to another stream of the same name.
    pub(super) command: PutCommand,
    /// How long a sign of life holds, if the producer gives any.
    pub(super) keep_alive: Option<Duration>,
    pub(super) schema_header: Bytes,
}

impl Sender {
    /// Runs until all is sent and confirmed, or an error ends it; either way the window says so.
    pub(super) async fn run(self) {
        let mut backoff = Backoff::bearing(self.client.options().retry_deadline, self.client.connector().credentials());
        let result = loop {
            let started = now();
            let error = match self.connection(&mut backoff).await {
                Ok(receipt) => break Ok(receipt),
                Err(error) => error,
            };
            tracing::debug!(stream = self.command.stream, %error, "an append connection ended");
            self.client.connector().connection_broke();
            if now().saturating_duration_since(started) >= STEADY {
                backoff.reset();
            }
            if let Err(error) = backoff.wait(error).await {
                break Err(error);
            }
        };
        self.window.update(|window| match result {
            Ok(receipt) => window.phase = Phase::Finished(receipt),
            Err(error) => window.fail(error),
        });
    }

    /// One connection, until it ends: well only after the window was closed.
    async fn connection(&self, backoff: &mut Backoff) -> Result<Option<Receipt>, Error> {
        let connector = self.client.connector();
        let data = connector.connect_data().await?;
        let lender = self.client.lender(data.links.as_ref()).await;
        let moves_bytes = lender.is_none() && !data.transport.is_process();
        self.window.with(|window| window.moves_bytes = moves_bytes);
        let body = PutBody::new(
            self.window.clone(),
            &self.descriptor(lender.as_deref())?,
            &self.schema_header,
            lender.clone(),
            data.transport.is_process(),
        );
        let _lane = LaneGuard { client: &self.client, window: &self.window, lender };
        let mut answers = Answers::open(connector, data.transport, DO_PUT, tonic::body::Body::new(body)).await?;
        let mut results = ProtoReader::<PutResult>::new(ANSWER_BYTES_MAX);
        let mut opened = false;
        let mut receipt = None;
        while let Some(chunk) = answers.chunk().await? {
            results.push(chunk);
            while let Some(result) = results.next()? {
                let result = AppendResult::from_bytes(&result.app_metadata)?;
                if opened {
                    self.acked(&result, backoff)?;
                } else {
                    self.resume(result.next_ordinal).await?;
                    opened = true;
                }
                receipt = result.receipt.or(receipt);
            }
        }
        self.ended_well(receipt)
    }

    fn descriptor(&self, lender: Option<&Lender>) -> Result<Vec<u8>, Error> {
        let mut command = self.command.clone();
        command.link = lender.map(Lender::number);
        self.window.with(|window| {
            window.connections += 1;
            command.connection = Some(window.connections);
            command.stream_id = window.stream_id.map(|id| id.0);
        });
        let command = serde_json::to_vec(&command).map_err(|error| Error::protocol(error.to_string()))?;
        Ok(FlightDescriptor::new_cmd(command).encode_to_vec())
    }

    /// The coordinator has opened the appender. Now the stream exists: its id and partitions are looked up once.
    async fn resume(&self, next_ordinal: u64) -> Result<(), Error> {
        if self.window.with(|window| window.partitions.is_none()) {
            self.first_sign_of_life().await?;
            let stream = self.client.describe_stream(&self.command.stream).await?;
            self.window.with(|window| {
                window.stream_id = Some(StreamId(stream.stream_id));
                window.partitions = stream.options.and_then(|options| options.partitions);
            });
        }
        match self.window.update(|window| window.resume(next_ordinal, &self.command.stream)) {
            // The stream is the same, or the coordinator would have said so: a restart has forgotten what was staged.
            Err(Error::StreamReplaced { .. }) if self.command.epoch.is_some() => Err(self.epoch_forgotten()?),
            resumed => resumed,
        }
    }

    fn epoch_forgotten(&self) -> Result<Error, Error> {
        let (Some(producer), Some(epoch)) = (&self.command.producer, self.command.epoch) else {
            return Err(Error::protocol("a writer without a producer"));
        };
        let producer = ProducerId::new(producer).map_err(|error| Error::invalid(error.to_string()))?;
        Ok(crate::engine::Error::EpochNotOpen { producer, epoch: Epoch(epoch) }.into())
    }

    /// Before the first batch: a producer that dies right after it would not be missed otherwise.
    async fn first_sign_of_life(&self) -> Result<(), Error> {
        let (Some(lease), Some(producer), Some(run)) = (self.keep_alive, &self.command.producer, &self.command.run) else {
            return Ok(());
        };
        let run = ProducerRun { producer: producer.clone(), run: run.clone() };
        self.client.keep_producer(&self.command.stream, &run, lease).await
    }

    /// Only progress ends a series of failures: a batch that breaks the connection each time must not be sent for ever.
    fn acked(&self, result: &AppendResult, backoff: &mut Backoff) -> Result<(), Error> {
        if self.window.update(|window| window.acked(result.next_ordinal, result.waits, now()))? {
            backoff.reset();
        }
        Ok(())
    }

    fn ended_well(&self, receipt: Option<Receipt>) -> Result<Option<Receipt>, Error> {
        if self.window.with(|window| window.is_closing() && window.is_empty()) {
            return Ok(receipt);
        }
        Err(Error::ConnectionLost { url: self.client.connector().url.clone(), reason: "the coordinator ended the appends".into() })
    }
}
