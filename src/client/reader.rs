//! The task behind a consumer: keeps a `DoGet` open that fills the prefetch, and resumes after breaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Release};
use std::time::Duration;

use arrow_buffer::{Buffer, MutableBuffer};
use arrow_flight::Ticket;
use arrow_schema::SchemaRef;
use bytes::Bytes;
use http_body_util::Full;

use super::acks::Pending;
use super::call::{Answers, DO_GET};
use super::decode::{BatchDecoder, Decoded, OWN_BYTES_MIN};
use super::plan::{ReadPlan, as_numbers};
use super::prefetch::Prefetch;
use super::project::Shape;
use super::ready::{Content, Origin, Ready};
use super::retry::{Backoff, STEADY, now};
use super::share::shared;
use super::shared::Borrower;
use super::watched::Watched;
use super::{Client, Error};
use crate::engine::{Code, Epoch, Generation, LeaseId, Offset, PartitionId, SubscriptionName, Timestamp};
use crate::wire::body::Body;
use crate::wire::command::{GetCommand, GotCommand};
use crate::wire::frame::{FlightHead, FrameReader, Small, frame_proto};
use crate::wire::metadata::BatchMetadata;
use crate::wire::proto::{LeasedShare, SharedBody};

/// Before a consumer whose leases were lost joins again.
const REJOIN_PAUSE: Duration = Duration::from_millis(50);

/// What the task needs to know.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) client: Client,
    pub(super) plan: Arc<ReadPlan>,
    pub(super) prefetch: Arc<Watched<Prefetch>>,
    pub(super) to_ack: Arc<Watched<Pending>>,
    /// The prefetch's generation, to be looked at without its lock; 0 for none.
    pub(super) generation: Arc<AtomicU64>,
}

impl Reader {
    /// Runs until the stream ends or an error ends it; either way the prefetch says so.
    pub(super) async fn run(self) {
        let mut backoff = Backoff::bearing(self.client.options().retry_deadline, self.client.connector().credentials());
        let mut uses_links = true;
        let result = loop {
            let started = now();
            let Err(error) = self.connection(&mut backoff, &mut uses_links).await else {
                break Ok(());
            };
            tracing::debug!(stream = self.plan.command.stream, %error, "a read connection ended");
            let error = match error.code() {
                Code::SubscriptionMoved => match self.follow_subscription().await {
                    Ok(()) => continue,
                    Err(error) => error,
                },
                // It is joined again then, unless it reads elsewhere.
                Code::LeaseLost => {
                    tokio::time::sleep(REJOIN_PAUSE).await;
                    continue;
                }
                _ => error,
            };
            self.client.connector().connection_broke();
            if now().saturating_duration_since(started) >= STEADY {
                backoff.reset();
            }
            if let Err(error) = backoff.wait(error).await {
                break Err(error);
            }
        };
        self.prefetch.update(|prefetch| prefetch.end(result));
    }

    /// Goes on where the subscription does now, and forgets what was read before.
    async fn follow_subscription(&self) -> Result<(), Error> {
        let GetCommand { stream, subscription, .. } = &self.plan.command;
        let found = self.client.describe_stream(stream).await?;
        if found.stream_id != self.plan.stream_id.0 {
            return Err(Error::StreamReplaced { stream: stream.clone(), noun: "consumer" });
        }
        let name = subscription.as_deref().unwrap_or_default();
        let Some(found) = found.subscriptions.iter().find(|found| found.subscription == name) else {
            let subscription = SubscriptionName::new(name).map_err(|error| Error::invalid(error.to_string()))?;
            return Err(crate::engine::Error::SubscriptionNotFound { subscription }.into());
        };
        let generation = Generation(found.generation);
        // In this order: acks of what the caller has go nowhere before it is given anything new.
        self.to_ack.update(|pending| pending.move_to(generation));
        self.prefetch.update(|prefetch| {
            prefetch.move_to(generation);
            self.generation.store(generation.0, Release);
        });
        Ok(())
    }

    /// One connection, until it ends: well only where the coordinator says that there is no more.
    async fn connection(&self, backoff: &mut Backoff, uses_links: &mut bool) -> Result<(), Error> {
        let is_bounded = self.plan.membership.is_none();
        if is_bounded && self.prefetch.with(|prefetch| prefetch.has_reached(&self.plan.partitions, &self.plan.ends)) {
            return Ok(());
        }
        if let Some(membership) = &self.plan.membership {
            membership.begin(&self.client, &self.prefetch, &self.to_ack).await?;
        }
        let connector = self.client.connector();
        let data = connector.connect_data().await?;
        let borrower = match &data.links {
            Some(links) if *uses_links => Borrower::open(links, self.client.runtime()).await,
            Some(_) | None => None,
        };
        let request = tonic::body::Body::new(Full::new(frame_proto(&self.ticket(borrower.as_deref())?)));
        let is_process = data.transport.is_process();
        let mut connection = Connection {
            answers: Answers::open(connector, data.transport, DO_GET, request).await?,
            borrower,
            url: connector.url.clone(),
            frames: FrameReader::new(connector.options.message_bytes_max, Small::Shared),
            decoder: BatchDecoder::new(self.prefetch.with(|prefetch| prefetch.schema.clone())),
            is_process,
            pending: Vec::new(),
            pending_bytes: 0,
            prefetch: &self.prefetch,
            plan: &self.plan,
        };
        self.to_ack.update(Pending::again);
        let result = connection.run(backoff).await;
        if result.is_err() && connection.borrower.as_ref().is_some_and(|borrower| borrower.is_unusable()) {
            *uses_links = false;
        }
        result
    }

    fn ticket(&self, borrower: Option<&Borrower>) -> Result<Ticket, Error> {
        let mut command = self.plan.command.clone();
        command.link = borrower.map(Borrower::number);
        self.prefetch.with(|prefetch| {
            if self.plan.membership.is_some() {
                let got = prefetch.got();
                command.got =
                    got.iter().map(|got| GotCommand { partition: got.partition.0, lease: got.lease.0, next: got.offset.0 }).collect();
                return;
            }
            command.start = Some(as_numbers(&prefetch.next));
            command.generation = prefetch.generation.map(|generation| generation.0);
        });
        let command = serde_json::to_vec(&command).map_err(|error| Error::protocol(error.to_string()))?;
        Ok(Ticket { ticket: command.into() })
    }
}

/// One open `DoGet`.
struct Connection<'a> {
    answers: Answers,
    /// Where bodies in shared memory are looked at.
    borrower: Option<Arc<Borrower>>,
    url: Arc<str>,
    frames: FrameReader,
    decoder: BatchDecoder,
    /// Bodies come from within the process, and are handed over as they are.
    is_process: bool,
    /// Not yet in the prefetch: small batches go there together. Empty whenever this waits.
    pending: Vec<Ready>,
    pending_bytes: u64,
    prefetch: &'a Watched<Prefetch>,
    plan: &'a ReadPlan,
}

impl Connection<'_> {
    async fn run(&mut self, backoff: &mut Backoff) -> Result<(), Error> {
        loop {
            let result = self.messages().await;
            if self.hand_over() {
                backoff.reset();
            }
            result?;
            match self.answers.chunk().await? {
                Some(chunk) => self.frames.push(chunk),
                None => return Ok(()),
            }
        }
    }

    /// Takes all messages that are there, and waits for room and for the rest of a body that has begun.
    async fn messages(&mut self) -> Result<(), Error> {
        while let Some(head) = self.frames.head()? {
            let metadata = match head.metadata.is_empty() {
                true => None,
                false => Some(BatchMetadata::from_bytes(&head.metadata)?),
            };
            let shared = metadata.as_ref().and_then(|metadata| metadata.shared);
            self.make_room(shared.map_or(head.body_len, |shared| shared.bytes)).await;
            let mut body = match self.is_process || head.body_len < OWN_BYTES_MIN {
                true => self.body().await?,
                false => self.own_body(head.body_len).await?,
            };
            if let Some(shared) = shared {
                body = self.borrow(&shared).await?;
            }
            self.take(&head, metadata, &body)?;
        }
        Ok(())
    }

    async fn body(&mut self) -> Result<Body, Error> {
        loop {
            if let Some(body) = self.frames.body()? {
                return Ok(body);
            }
            self.rest().await?;
        }
    }

    /// The body in the aligned memory that its arrays will point to, each piece copied there as it comes: once the last is
    /// there, the first ones have left the processor's cache.
    async fn own_body(&mut self, len: u64) -> Result<Body, Error> {
        let mut own = MutableBuffer::with_capacity(usize::try_from(len).unwrap_or(usize::MAX));
        while !self.frames.body_pieces(|piece| own.extend_from_slice(piece))? {
            self.rest().await?;
        }
        Ok(Body::from(Bytes::from_owner(Buffer::from(own))))
    }

    /// Receives more of a message that has begun.
    async fn rest(&mut self) -> Result<(), Error> {
        self.hand_over();
        let chunk = self.answers.chunk().await?.ok_or_else(|| Error::protocol("the answer ended within a message"))?;
        self.frames.push(chunk);
        Ok(())
    }

    /// The body in shared memory; waits for its arena, which comes another way.
    async fn borrow(&mut self, shared: &SharedBody) -> Result<Body, Error> {
        let borrower = self.borrower.clone().ok_or_else(|| Error::protocol("a body in shared memory without a link"))?;
        if !borrower.has_shown(shared) {
            self.hand_over();
        }
        borrower.body(shared, &self.url).await
    }

    async fn make_room(&mut self, bytes: u64) {
        let (batches, sum) = (self.pending.len(), self.pending_bytes);
        if self.prefetch.with(|prefetch| prefetch.has_room(batches, sum, bytes)) {
            return;
        }
        self.hand_over();
        self.prefetch.wait(|prefetch| prefetch.has_room(0, 0, bytes).then_some(())).await;
    }

    fn take(&mut self, head: &FlightHead, metadata: Option<BatchMetadata>, body: &Body) -> Result<(), Error> {
        if head.header.is_empty() {
            if metadata.is_some_and(|metadata| metadata.all_sent) {
                self.hand_over();
                self.prefetch.update(Prefetch::note_all_sent);
            }
            return Ok(());
        }
        let Some(metadata) = metadata else {
            return match self.decoder.decode(&head.header, body) {
                Ok(Decoded::Schema(schema)) => self.turn_to(&schema),
                Ok(Decoded::Dictionary) => Ok(()),
                Ok(Decoded::Batch(_)) => Err(Error::protocol("a batch without an offset")),
                Err(reason) => Err(Error::protocol(reason)),
            };
        };
        let partition = PartitionId(metadata.partition);
        let origin = Origin {
            partition,
            offset: Offset(metadata.offset),
            epoch: metadata.epoch.map(Epoch),
            appended_at: Timestamp(metadata.appended_at_micros),
            user: Bytes::copy_from_slice(&metadata.user),
            lease: (metadata.lease != 0).then_some(LeaseId(metadata.lease)),
            bytes: u64::try_from(head.header.len()).unwrap_or(u64::MAX).saturating_add(body.len()),
            skipped: metadata.skipped_before,
            first_offset: Offset(metadata.offset),
            slice: None,
            producer: (!metadata.producer.is_empty()).then(|| metadata.producer.into()),
            epoch_end: metadata.epoch_left == Some(0),
            delivery: 1,
            traceparent: (!metadata.traceparent.is_empty()).then(|| metadata.traceparent.into()),
        };
        if !metadata.shares.is_empty() {
            return self.take_shares(head, body, &origin, &metadata.shares);
        }
        let content = match self.decoder.small(&head.header, body) {
            Some(small) => Content::Small(small),
            None => match self.decoder.decode(&head.header, body) {
                Ok(Decoded::Batch(batch)) => {
                    let shape = &self.decoder.shape;
                    Content::Decoded { batch: origin.shaped(shape, batch)?, is_plain: self.decoder.is_plain() && shape.is_as_it_is() }
                }
                Ok(Decoded::Schema(_) | Decoded::Dictionary) => return Ok(()),
                Err(reason) => return Err(Error::Decode { partition, offset: metadata.offset, reason }),
            },
        };
        self.pending_bytes += origin.bytes;
        self.pending.push(Ready { origin, content });
        Ok(())
    }

    /// A batch of which this consumer is given some rows, each share by a lease of its own.
    fn take_shares(&mut self, head: &FlightHead, body: &Body, origin: &Origin, shares: &[LeasedShare]) -> Result<(), Error> {
        let batch = match self.decoder.decode(&head.header, body) {
            Ok(Decoded::Batch(batch)) => batch,
            Ok(Decoded::Schema(_) | Decoded::Dictionary) => return Ok(()),
            Err(reason) => return Err(origin.malformed(reason)),
        };
        let keys = self.plan.membership.as_ref().and_then(|membership| membership.sharing.as_ref()).map(|sharing| &sharing.keys);
        let is_plain = self.decoder.is_plain();
        for ready in shared(&batch, origin, shares, (keys.map_or(&[], |keys| keys), &self.decoder.shape, is_plain))? {
            self.pending_bytes += ready.origin.bytes;
            self.pending.push(ready);
        }
        Ok(())
    }

    /// Batches of this schema come next. The consumer's own is the first, if it has none yet.
    fn turn_to(&mut self, schema: &SchemaRef) -> Result<(), Error> {
        let pinned = match self.prefetch.with(|prefetch| prefetch.schema.clone()) {
            Some(pinned) => pinned,
            None => {
                let pinned = self.plan.dialect.pin(schema, self.plan.schema_policy)?;
                self.prefetch.update(|prefetch| prefetch.schema = Some(pinned.clone()));
                pinned
            }
        };
        self.decoder.shape = Shape::of(schema, &pinned, &self.plan.dialect);
        Ok(())
    }

    /// Puts what is pending into the prefetch; whether there was anything.
    fn hand_over(&mut self) -> bool {
        if self.pending.is_empty() {
            return false;
        }
        self.pending_bytes = 0;
        let pending = self.pending.drain(..);
        self.prefetch.update(|prefetch| prefetch.put(pending));
        true
    }
}
