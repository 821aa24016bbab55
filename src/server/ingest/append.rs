//! How rows are appended: as a producer over Flight does it, by the same permissions, quotas, limits and confirmations.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::answer::{Refused, Taken};
use super::decoding::{Commands, Ready, rejected_schema};
use super::epoch::{Opened, Writer};
use crate::engine::{Code, StreamName};
use crate::server::access::Caller;
use crate::server::cell::StreamCell;
use crate::server::coordinator::Coordinator;
use crate::server::error::Error;
use crate::server::write::put;
use crate::wire::command::PutCommand;
use crate::wire::proto::Receipt;
use crate::wire::schema::StreamSchema;

/// How long rows wait for room in their stream, or for their principal's quota, if `append_timeout` is not less. Then the client is to
/// come again: it knows more of what it can hold back than the coordinator does.
const ROOM_WAIT: Duration = Duration::from_secs(10);
/// How long it may take altogether until rows are confirmed.
const CONFIRM_WAIT: Duration = Duration::from_secs(30);

/// Where a request's rows go, and as what.
#[derive(Debug)]
pub(super) struct Targets {
    pub(super) cell: Arc<StreamCell>,
    pub(super) partition: Option<u32>,
    pub(super) rejected_to: Option<StreamName>,
    /// The epoch that is open for the good rows, if the request is one.
    pub(super) epoch: Option<(Opened, Writers)>,
}

/// Who writes the epoch: the good rows, and the bad ones.
#[derive(Debug, Clone)]
pub(super) struct Writers {
    pub(super) good: Writer,
    pub(super) bad: Writer,
}

impl Targets {
    /// The commands of the two `DoPut`s.
    pub(super) fn commands(&self, coordinator: &Coordinator) -> Result<Commands, Error> {
        let wait = coordinator.options().append_timeout.map_or(ROOM_WAIT, |timeout| timeout.min(ROOM_WAIT));
        let writers = self.epoch.as_ref().map(|(_, writers)| writers);
        let good = PutCommand { partition: self.partition, stream_id: Some(self.cell.id().0), ..command(self.cell.name(), wait) };
        let bad = self.rejected_to.as_ref().map(|stream| command(stream, wait)).unwrap_or_default();
        Ok(Commands {
            good: as_json(&written_by(good, writers.map(|writers| &writers.good)))?,
            bad: as_json(&written_by(bad, writers.map(|writers| &writers.bad)))?,
        })
    }

    /// Appends the bad rows, then the good ones: what fails in between is sent again, and a bad row that is there twice does less harm
    /// than a good one. In an epoch neither is.
    ///
    /// # Errors
    /// Whatever a producer over Flight is told; 503 if it cannot be told in time, so that the rows may be stored.
    pub(super) async fn append(self, coordinator: &Arc<Coordinator>, caller: &Caller, ready: Ready) -> Result<Taken, Refused> {
        match timeout(CONFIRM_WAIT, self.append_all(coordinator, caller, ready)).await {
            Ok(appended) => Ok(appended?),
            Err(_) => {
                let text = format!(
                    "the rows were not confirmed within {} s and may be stored or not: the coordinator's disk is slow or full; send them again, \
                     with the same Bowstring-Epoch if they have one",
                    CONFIRM_WAIT.as_secs()
                );
                Err(Refused::for_now(Code::Unavailable, text))
            }
        }
    }

    async fn append_all(self, coordinator: &Arc<Coordinator>, caller: &Caller, ready: Ready) -> Result<Taken, Error> {
        let taken = Taken { rows: ready.good.0, rejected: ready.bad.0, is_duplicate: false };
        if let (Some(stream), 1..) = (&self.rejected_to, ready.bad.0) {
            let letters = stream_of_rejected(coordinator, caller, stream)?;
            match &self.epoch {
                None => drop(send(coordinator, caller, ready.bad.1).await?),
                Some((_, writers)) => {
                    // None: they came to this with the try before, and the good ones did not.
                    if let Some(epoch) = Opened::open(&letters, writers.bad.clone()).await? {
                        let receipt = send(coordinator, caller, ready.bad.1).await?;
                        epoch.commit(receipt).await?;
                    }
                }
            }
        }
        let receipt = if ready.good.0 > 0 { send(coordinator, caller, ready.good.1).await? } else { None };
        if let Some((epoch, _)) = self.epoch {
            epoch.commit(receipt).await?;
        }
        Ok(taken)
    }
}

fn command(stream: &StreamName, wait: Duration) -> PutCommand {
    let append_timeout_ms = Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    PutCommand { stream: stream.to_string(), append_timeout_ms, ..PutCommand::default() }
}

fn written_by(command: PutCommand, writer: Option<&Writer>) -> PutCommand {
    let Some(Writer { producer, run, epoch, attempt }) = writer else { return command };
    PutCommand {
        producer: Some(producer.to_string()),
        run: Some(run.to_string()),
        epoch: Some(epoch.0),
        task: Some(0),
        attempt: Some(attempt.0),
        ..command
    }
}

fn as_json(command: &PutCommand) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(command).map_err(|error| Error::Task { reason: error.to_string() })
}

/// One `DoPut`, to its confirmation.
async fn send(coordinator: &Arc<Coordinator>, caller: &Caller, frames: Bytes) -> Result<Option<Receipt>, Error> {
    let progress = watch::Sender::new(None);
    put(coordinator, caller, Full::new(frames), Some(Instant::now() + ROOM_WAIT), &progress).await?;
    let receipt = progress.borrow().as_ref().and_then(|result| result.receipt);
    Ok(receipt)
}

/// The stream of the bad rows, which is made with the first.
fn stream_of_rejected(coordinator: &Coordinator, caller: &Caller, name: &StreamName) -> Result<Arc<StreamCell>, Error> {
    if let Ok(found) = coordinator.get(name) {
        return Ok(found);
    }
    let schema = StreamSchema::from_arrow(&rejected_schema())?;
    let options = coordinator.options().stream_defaults.clone();
    coordinator.create_for(caller.usage(), name, options, Some(&schema), true)
}
