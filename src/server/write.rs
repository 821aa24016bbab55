//! The writing loop: one `DoPut`, from its bytes to appended batches.

mod confirmed;
mod incoming;
mod waits;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body::Body as HttpBody;
use tokio::sync::watch;
use tokio::time::Instant;

use self::confirmed::Confirmed;
use self::incoming::Incoming;
use self::waits::{tick_in_time, until};
use super::access::{Caller, Permit, Rpc};
use super::cell::{Appender, StreamCell};
use super::coordinator::Coordinator;
use super::error::Error;
use super::input::Input;
use super::trace::Appending;
use crate::engine::{AppenderKind, PartitionId, Place, ProducerId, Receipt, StoredState, Visibility};
use crate::shared::random;
use crate::storage::log::LoggedBatch;
use crate::storage::{SpoolFile, StoredBatch};
use crate::wire::batch::EncodedBatch;
use crate::wire::command::PutTarget;
use crate::wire::error::WireError;
use crate::wire::frame::FlightHead;
use crate::wire::ipc::{self, Kind, Message};
use crate::wire::metadata::{AppendMetadata, AppendResult};
use crate::wire::schema::StreamSchema;

/// How long a refusal waits for what came before it to be durable. A disk that takes longer is full, and the client is told
/// of less than is stored.
const SETTLE_TIME: Duration = Duration::from_secs(10);

/// Serves one `DoPut`: reads `body` to its end and appends what it carries.
///
/// `caller` is let append, or not, before anything of the stream is looked at. `progress` gets what is stored so far; slow readers of it see only the newest, which says everything.
///
/// # Errors
/// What was wrong, or which limit or deadline was hit: the batch it happened at is not stored, the ones
/// before it are. `stored_batches` of the last progress tells how many.
pub(super) async fn put<B>(
    coordinator: &Arc<Coordinator>,
    caller: &Caller,
    body: B,
    deadline: Option<Instant>,
    progress: &watch::Sender<Option<AppendResult>>,
) -> Result<(), Error>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let mut input = Input::new(body, coordinator.options().message_bytes_max);
    let Some(first) = input.head().await? else { return Err(Error::Wire(WireError::missing_descriptor())) };
    coordinator.check_running()?;
    // Before anything is told of the stream, or made.
    let target = PutTarget::from_descriptor(&first.descriptor)?;
    let permit = caller.permit(Rpc::DoPut, false, target.stream().as_str())?;
    if let Some(link) = target.link() {
        coordinator.links().claim(link, caller.name())?;
    }
    let mut writing = match Writing::open(coordinator, (&first, &target), permit, &mut input, deadline) {
        Err(error) => return Err(settled_refusal(coordinator, &first, error).await),
        Ok(writing) => writing,
    };
    let written = writing.run(&mut input, first, progress).await;
    let Writing { span, waits, .. } = &mut writing;
    span.iter_mut().for_each(|span| span.end(&written, *waits));
    if let Err(error) = &written {
        let (stream, producer) = (writing.cell.name(), writing.appender.kind().producer());
        tracing::debug!(%stream, %producer, code = error.code().as_str(), %error, "an append ended with an error");
    }
    written
}

/// Where an append's partition comes from.
#[derive(Debug, Clone, Copy)]
enum Route {
    /// The batch's own metadata.
    Metadata,
    /// The descriptor.
    Fixed(PartitionId),
    /// Each in turn, the stream's next one first.
    RoundRobin,
}

/// One `DoPut` under way.
struct Writing {
    cell: Arc<StreamCell>,
    appender: Appender,
    is_writer: bool,
    route: Route,
    /// A stock client's `PutResult`s may never be read: it gets one, at the end.
    reports_each: bool,
    incoming: Incoming,
    next_ordinal: u64,
    /// What of it the client may be told.
    confirmed: Confirmed,
    /// Whether batches have no offset before their epoch commits.
    is_staged: bool,
    /// Batches that have waited for room.
    waits: u64,
    spool: SpoolFile,
    append_timeout: Option<Duration>,
    deadline: Option<Instant>,
    /// Ends with the caller's token.
    permit: Permit,
    /// Its span, if it is a writer's and its epoch is traced.
    span: Option<Appending>,
    coordinator: Arc<Coordinator>,
}

impl Writing {
    /// Opens what the first message's descriptor names, with its schema.
    fn open<B>(
        coordinator: &Arc<Coordinator>,
        (first, target): (&FlightHead, &PutTarget),
        permit: Permit,
        input: &mut Input<B>,
        deadline: Option<Instant>,
    ) -> Result<Self, Error> {
        if let Some(link) = target.link() {
            input.use_link(coordinator.links().get(link).ok_or(Error::LinkEnded)?);
        }
        if !matches!(ipc::inspect(&first.header, first.body_len)?, Kind::Schema) {
            return Err(Error::Wire(WireError::missing_schema()));
        }
        let producer_schema = StreamSchema::parse(first.header.clone())?;
        // Whoever knows the stream's id means that one: after it is gone there is nothing to create.
        let cell = match target.stream_id() {
            Some(_) => coordinator.get(target.stream())?,
            None => coordinator.get_or_create(permit.usage(), target.stream())?,
        };
        cell.check_id(target.stream_id())?;
        let route = match (target, target.partition()) {
            (_, Some(partition)) => Route::Fixed(partition),
            (PutTarget::Path { .. }, None) => Route::RoundRobin,
            (PutTarget::Command { .. }, None) => Route::Metadata,
        };
        if let Route::Fixed(partition) = route {
            cell.range(partition)?;
        }
        let kind = target.kind().cloned().map_or_else(anonymous, Ok)?;
        let is_writer = kind.epoch().is_some();
        let accepted = cell.accept_schema(&producer_schema)?;
        let (appender, next_ordinal) = cell.open_appender(kind, target.connection())?;
        tracing::debug!(
            stream = %cell.name(),
            producer = %appender.kind().producer(),
            epoch = appender.kind().epoch().map(|epoch| epoch.0),
            "an append has begun"
        );
        Ok(Self {
            is_writer,
            route,
            reports_each: matches!(target, PutTarget::Command { .. }),
            incoming: Incoming::new(coordinator.clone(), accepted),
            next_ordinal,
            confirmed: Confirmed::new(next_ordinal),
            is_staged: is_writer && cell.options().visibility == Visibility::Committed,
            waits: 0,
            spool: coordinator.spool().file(),
            append_timeout: target.append_timeout().or(coordinator.options().append_timeout),
            deadline,
            permit,
            span: Appending::begin(coordinator.tracer(), &cell, appender.kind()),
            appender,
            cell,
            coordinator: coordinator.clone(),
        })
    }

    /// Takes all that comes, and says what is stored.
    async fn run<B>(&mut self, input: &mut Input<B>, first: FlightHead, progress: &watch::Sender<Option<AppendResult>>) -> Result<(), Error>
    where
        B: HttpBody<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        // A run that takes over must have done so for good before a batch of it is stored.
        self.cell.durable().await?;
        self.report(progress);
        if let Err(error) = self.take_all(input, first, progress).await {
            // What is stored is said before the refusal: the client takes the rest for not stored.
            drop(tokio::time::timeout(SETTLE_TIME, self.cell.durable()).await);
            self.report(progress);
            return Err(error);
        }
        self.cell.durable().await?;
        self.finish(progress)
    }

    /// The next message; what is stored so far is reported before waiting for it.
    async fn next<B>(&mut self, input: &mut Input<B>, progress: &watch::Sender<Option<AppendResult>>) -> Result<Option<FlightHead>, Error>
    where
        B: HttpBody<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        self.permit.check()?;
        if let Some(head) = input.ready()? {
            return Ok(Some(head));
        }
        self.meanwhile(progress, input.head()).await
    }

    fn report(&self, progress: &watch::Sender<Option<AppendResult>>) {
        if self.reports_each {
            let next_ordinal = self.confirmed.next_ordinal(self.cell.log());
            progress.send_replace(Some(AppendResult { next_ordinal, receipt: None, waits: self.waits }));
        }
    }

    /// Takes the first message and all that follow, to the end of the request.
    async fn take_all<B>(
        &mut self,
        input: &mut Input<B>,
        first: FlightHead,
        progress: &watch::Sender<Option<AppendResult>>,
    ) -> Result<(), Error>
    where
        B: HttpBody<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let mut number: u64 = 0;
        let in_message = |error, number: u64| match error {
            Error::Wire(error) => Error::Wire(error.within(format_args!("message {number} of the call"))),
            other => other,
        };
        self.take(input, first, progress).await.map_err(|error| in_message(error, number))?;
        while let Some(head) = self.next(input, progress).await? {
            number += 1;
            tokio::task::coop::consume_budget().await;
            self.take(input, head, progress).await.map_err(|error| in_message(error, number))?;
        }
        Ok(())
    }

    async fn take<B>(&mut self, input: &mut Input<B>, head: FlightHead, progress: &watch::Sender<Option<AppendResult>>) -> Result<(), Error>
    where
        B: HttpBody<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let kind = self.incoming.inspect(&head)?;
        self.slow(held_bytes(&head), progress).await?;
        match kind {
            Kind::Empty => input.body().await.map(drop),
            Kind::Schema => {
                let accepted = self.cell.accept_schema(&StreamSchema::parse(head.header)?)?;
                if self.incoming.turn_to(accepted) {
                    // A restart has to know it before it finds a batch of it.
                    self.cell.durable().await?;
                }
                input.body().await.map(drop)
            }
            Kind::Dictionary { id, delta } => {
                let charge = Arc::new(self.cell.dictionaries().charge(held_bytes(&head))?);
                let message = Message { header: head.header, body: input.body().await? };
                self.incoming.take_dictionary(id, delta, &message, &charge)
            }
            Kind::Batch { rows, compressed } => self.take_batch(input, head, rows, compressed, progress).await,
        }
    }

    /// Room first, then the body: what waits for room stays in the client and in the connection's window, but for one small
    /// message.
    async fn take_batch<B>(
        &mut self,
        input: &mut Input<B>,
        head: FlightHead,
        rows: u64,
        compressed: bool,
        progress: &watch::Sender<Option<AppendResult>>,
    ) -> Result<(), Error>
    where
        B: HttpBody<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        self.incoming.check_dictionaries()?;
        let metadata = self.metadata(&head)?;
        let bytes = held_bytes(&head);
        let held = self.hold(bytes, progress).await?;
        let place = self.reserve(bytes, progress).await?;
        // What goes to a disk is not held in memory by being there.
        let header = match held.filter(|_| matches!(place, Place::Memory)) {
            Some(held) => held.attach(head.header),
            None => head.header,
        };
        let message = Message { header, body: input.body().await? };
        let batch = self.incoming.batch(message, compressed, metadata.user, rows, self.cell.dictionaries()).await?;
        let data = match place {
            Place::Memory => StoredBatch::Memory(Arc::new(batch)),
            Place::Spool => self.spooled(batch).await?,
            Place::Log => StoredBatch::Logged { batch: LoggedBatch::new(batch), is_staged: self.is_staged },
        };
        let partition = metadata.partition.map_or_else(|| self.cell.next_partition(), PartitionId);
        let is_new = self.appender.append(metadata.ordinal, partition, rows, bytes, data)?;
        tracing::trace!(stream = %self.cell.name(), producer = %self.appender.kind().producer(), %partition, rows, bytes, "a batch came");
        self.span.iter_mut().filter(|_| is_new).for_each(|span| span.count(partition, rows, bytes));
        self.next_ordinal = self.next_ordinal.max(metadata.ordinal.saturating_add(1));
        self.confirmed.appended(self.cell.work_so_far().map(|(_, number)| number), self.next_ordinal);
        Ok(())
    }

    fn metadata(&self, head: &FlightHead) -> Result<AppendMetadata, Error> {
        let stock = |partition: PartitionId| AppendMetadata {
            partition: Some(partition.0),
            ordinal: self.next_ordinal,
            user: head.metadata.clone(),
            shared: None,
        };
        match self.route {
            Route::RoundRobin => Ok(stock(self.cell.next_partition())),
            Route::Fixed(partition) if !self.reports_each => Ok(stock(partition)),
            // A client that speaks JSON but sends no metadata (a stock one) gets what its descriptor says.
            Route::Fixed(partition) if head.metadata.is_empty() => Ok(stock(partition)),
            Route::Fixed(partition) => Ok(AppendMetadata { partition: Some(partition.0), ..AppendMetadata::from_bytes(&head.metadata)? }),
            Route::Metadata if head.metadata.is_empty() => Ok(stock(self.cell.next_partition())),
            Route::Metadata => Ok(AppendMetadata::from_bytes(&head.metadata)?),
        }
    }

    /// Waits for room until the append's own time or the call's deadline is over, or the server shuts down.
    async fn reserve(&mut self, bytes: u64, progress: &watch::Sender<Option<AppendResult>>) -> Result<Place, Error> {
        let reserved = self.appender.reserve(bytes);
        tokio::pin!(reserved);
        // Most appends have room at once, and need neither a report nor a timer.
        if let std::task::Poll::Ready(place) = futures::poll!(&mut reserved) {
            return place;
        }
        self.waits += 1;
        self.report(progress);
        let started = self.cell.now();
        tokio::select! {
            biased;
            place = reserved => place,
            never = tick_in_time(&self.cell) => match never {},
            () = until(self.append_timeout, self.deadline) => Err(Error::AppendTimeout { bytes, waited: self.cell.now().since(started) }),
            () = self.coordinator.shutdown().cancelled() => Err(Error::ShuttingDown),
            refusal = self.permit.ended() => Err(refusal.into()),
        }
    }

    async fn spooled(&self, batch: EncodedBatch) -> Result<StoredBatch, Error> {
        let file = self.spool.clone();
        let written = tokio::task::spawn_blocking(move || file.write(batch)).await;
        let spooled = written.map_err(|error| Error::Task { reason: error.to_string() })??;
        Ok(StoredBatch::Spooled(Arc::new(spooled)))
    }

    fn finish(&self, progress: &watch::Sender<Option<AppendResult>>) -> Result<(), Error> {
        let receipt = if self.is_writer { Some(self.appender.finish_writer()?) } else { None };
        let receipt = receipt.map(|Receipt { epoch, task, attempt, batches, rows, bytes, opened_at }| crate::wire::proto::Receipt {
            stream_id: self.cell.id().0,
            epoch: epoch.0,
            task: task.0,
            attempt: attempt.0,
            batches,
            rows,
            bytes,
            opened_at_micros: opened_at.0,
        });
        progress.send_replace(Some(AppendResult { next_ordinal: self.next_ordinal, receipt, waits: self.waits }));
        Ok(())
    }
}

/// A refusal that says what is stored says so once that is durable.
async fn settled_refusal(coordinator: &Coordinator, first: &FlightHead, refusal: Error) -> Error {
    let cell = PutTarget::from_descriptor(&first.descriptor).ok().and_then(|target| coordinator.get(target.stream()).ok());
    match cell {
        Some(cell) if refusal.code().stored() == StoredState::Yes => cell.durable().await.err().unwrap_or(refusal),
        _ => refusal,
    }
}

/// What a message holds in memory: its metadata too, which the reader gets back.
fn held_bytes(head: &FlightHead) -> u64 {
    ((head.header.len() + head.metadata.len()) as u64).saturating_add(head.body_len)
}

/// The appender of a client that says nothing of itself.
fn anonymous() -> Result<AppenderKind, Error> {
    Ok(AppenderKind::Anonymous { producer: ProducerId::new(&format!("anonymous-{}", random::uuid())).map_err(Error::Name)? })
}

#[cfg(test)]
mod tests {
    use http_body_util::StreamBody;

    use super::super::config::ServerConfig;
    use super::*;
    use crate::engine::Code;
    use crate::storage::{Spool, SpoolOptions};

    #[tokio::test]
    async fn a_body_that_breaks_off_is_cancelled() {
        let spool = Spool::new(SpoolOptions::default()).expect("the system's folder is there");
        let coordinator = Coordinator::new(ServerConfig::default().coordinator_options(), spool);
        let begun = http_body::Frame::data(Bytes::from_static(&[0, 0, 0]));
        let body = StreamBody::new(futures::stream::iter([Ok(begun), Err("connection reset")]));
        let error = put(&coordinator, &Caller::default(), body, None, &watch::Sender::new(None)).await.expect_err("it breaks off");
        assert_eq!(error.code(), Code::Cancelled);
        assert!(error.to_string().contains("connection reset"), "{error}");
    }
}
