//! The control verbs: streams, epochs, subscriptions, acks, stats. They mirror `proto/`'s control service.

use std::future::Future;
use std::time::Duration;

use tonic::{Response, Status};

use super::generated::control_client::ControlClient;
use super::options::{Offsets, SubscribeOptions};
use super::retry::Backoff;
use super::transport::Transport;
use super::{Client, Error, SubscriptionLag, Why, why};
use crate::engine::{Epoch, EpochState, Generation, Offset, PartitionId, PartitionMove, Start, StreamId, SubscriptionMode};
use crate::wire::start::offset_messages;
use crate::wire::{self, proto};

/// A producer and one run of it, as epochs need them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerRun {
    /// The producer, for instance a Spark query's id.
    pub producer: String,
    /// Its run, for instance a Spark query's run id; a new one fences the former.
    pub run: String,
}

impl Client {
    /// Creates a stream. A create whose first answer was lost on the way is tried again and may then report
    /// `stream_exists`; set `if_not_exists` where that matters.
    ///
    /// # Errors
    /// `stream_exists`, `invalid_argument`, `too_many`.
    pub async fn create_stream(&self, request: proto::CreateStreamRequest) -> Result<proto::StreamDescription, Error> {
        self.call(request, |mut control, request| async move { control.create_stream(request).await }).await
    }

    /// Everything that is known of a stream.
    ///
    /// # Errors
    /// `stream_not_found`.
    pub async fn describe_stream(&self, stream: &str) -> Result<proto::StreamDescription, Error> {
        let request = proto::DescribeStreamRequest { stream: stream.to_owned() };
        self.call(request, |mut control, request| async move { control.describe_stream(request).await }).await
    }

    /// All streams, by name.
    ///
    /// # Errors
    /// Only where the coordinator cannot be reached.
    pub async fn list_streams(&self) -> Result<Vec<proto::StreamDescription>, Error> {
        let request = proto::ListStreamsRequest {};
        let response = self.call(request, |mut control, request| async move { control.list_streams(request).await }).await?;
        Ok(response.streams)
    }

    /// Deletes a stream and all that it holds.
    ///
    /// # Errors
    /// `stream_not_found`.
    pub async fn delete_stream(&self, stream: &str) -> Result<(), Error> {
        let request = proto::DeleteStreamRequest { stream: stream.to_owned() };
        self.call(request, |mut control, request| async move { control.delete_stream(request).await }).await.map(drop)
    }

    /// Ends a stream in good order: readers get what is there, then the end. Idempotent.
    ///
    /// # Errors
    /// `stream_not_found`, `stream_failed`.
    pub async fn complete_stream(&self, stream: &str) -> Result<(), Error> {
        let request = proto::CompleteStreamRequest { stream: stream.to_owned() };
        self.call(request, |mut control, request| async move { control.complete_stream(request).await }).await.map(drop)
    }

    /// Ends a stream with an error: readers get what is there, then the error. Idempotent.
    ///
    /// # Errors
    /// `stream_not_found`, `stream_completed`.
    pub async fn fail_stream(&self, stream: &str, reason: &str) -> Result<(), Error> {
        let request = proto::FailStreamRequest { stream: stream.to_owned(), reason: reason.to_owned() };
        self.call(request, |mut control, request| async move { control.fail_stream(request).await }).await.map(drop)
    }

    /// Opens an epoch, also one that was aborted, or says that it is committed already: then nothing has to be sent.
    ///
    /// # Errors
    /// `stream_not_found`, `fenced`, `stream_completed`, `stream_failed`.
    pub async fn open_epoch(&self, stream: &str, run: &ProducerRun, epoch: Epoch) -> Result<EpochState, Error> {
        let request =
            proto::OpenEpochRequest { stream: stream.to_owned(), producer: run.producer.clone(), run: run.run.clone(), epoch: epoch.0 };
        epoch_state(&self.call(request, |mut control, request| async move { control.open_epoch(request).await }).await?)
    }

    /// Makes the batches of the named receipts visible, all at once. Idempotent.
    ///
    /// # Errors
    /// `receipt_unknown`, `epoch_not_open`, `fenced`, `stream_replaced`.
    pub async fn commit_epoch(
        &self,
        stream: &str,
        run: &ProducerRun,
        epoch: Epoch,
        receipts: Vec<proto::Receipt>,
    ) -> Result<EpochState, Error> {
        let request = proto::CommitEpochRequest {
            stream: stream.to_owned(),
            producer: run.producer.clone(),
            run: run.run.clone(),
            epoch: epoch.0,
            receipts,
        };
        epoch_state(&self.call(request, |mut control, request| async move { control.commit_epoch(request).await }).await?)
    }

    /// Drops what was staged for the epoch. Writers of this run get `epoch_not_open` until it is opened again. Idempotent.
    ///
    /// # Errors
    /// `stream_not_found`, `fenced`.
    pub async fn abort_epoch(&self, stream: &str, run: &ProducerRun, epoch: Epoch) -> Result<EpochState, Error> {
        let request =
            proto::AbortEpochRequest { stream: stream.to_owned(), producer: run.producer.clone(), run: run.run.clone(), epoch: epoch.0 };
        epoch_state(&self.call(request, |mut control, request| async move { control.abort_epoch(request).await }).await?)
    }

    /// A producer's sign of life: unless the next comes within `lease` (at most an hour), readers learn that it
    /// is lost. Zero says goodbye.
    ///
    /// # Errors
    /// `stream_not_found`, `fenced`.
    pub async fn keep_producer(&self, stream: &str, run: &ProducerRun, lease: Duration) -> Result<(), Error> {
        let request = proto::KeepProducerRequest {
            stream: stream.to_owned(),
            producer: run.producer.clone(),
            run: run.run.clone(),
            lease_millis: u64::try_from(lease.as_millis()).unwrap_or(u64::MAX),
        };
        self.call(request, |mut control, request| async move { control.keep_producer(request).await }).await.map(drop)
    }

    /// Creates a subscription; one that exists stays as it is.
    ///
    /// # Errors
    /// `stream_not_found`, `too_many`; `offset_gone` if something behind the start is no longer kept, `offset_ahead` beyond the
    /// end or the next epoch, `partition_out_of_range`, `invalid_argument` for an epoch of nobody knows whom.
    pub async fn subscribe(&self, stream: &str, subscription: &str, start: &Start) -> Result<proto::SubscriptionDescription, Error> {
        self.subscribe_with(stream, subscription, start, SubscribeOptions::default()).await
    }

    /// The same, and says what a new one is like.
    ///
    /// # Errors
    /// As [`Client::subscribe`], and `invalid_argument` if one exists whose consumers divide its batches otherwise, or that asks
    /// something else, or for a query that is no query of this stream; the text says why.
    pub async fn subscribe_with(
        &self,
        stream: &str,
        subscription: &str,
        start: &Start,
        SubscribeOptions { mode, on_overflow, sharing, query }: SubscribeOptions,
    ) -> Result<proto::SubscriptionDescription, Error> {
        // What a server takes that knows no other starts.
        let named = if *start == Start::Latest { proto::Start::Latest } else { proto::Start::Earliest };
        let request = proto::SubscribeRequest {
            stream: stream.to_owned(),
            subscription: subscription.to_owned(),
            start: named.into(),
            start_at: Some(wire::start::message(start)),
            mode: match mode {
                None => proto::SubscriptionMode::Unspecified,
                Some(SubscriptionMode::Static) => proto::SubscriptionMode::Static,
                Some(SubscriptionMode::Partitioned) => proto::SubscriptionMode::Partitioned,
                Some(SubscriptionMode::Shared) => proto::SubscriptionMode::Shared,
            }
            .into(),
            sharing: sharing.map(|sharing| proto::Sharing {
                max_deliveries: sharing.max_deliveries,
                bisect: sharing.bisect,
                dead_letters: sharing.dead_letters.unwrap_or_default(),
                keys: sharing.keys,
            }),
            on_overflow: wire::overflow::message(on_overflow).into(),
            query: query.unwrap_or_default(),
        };
        self.call(request, |mut control, request| async move { control.subscribe(request).await }).await
    }

    /// Removes a subscription; what only it held back is dropped.
    ///
    /// # Errors
    /// `stream_not_found`, `subscription_not_found`.
    pub async fn unsubscribe(&self, stream: &str, subscription: &str) -> Result<(), Error> {
        let request = proto::UnsubscribeRequest { stream: stream.to_owned(), subscription: subscription.to_owned() };
        self.call(request, |mut control, request| async move { control.unsubscribe(request).await }).await.map(drop)
    }

    /// The subscription is done with all batches before `offsets`. Idempotent; never moves back.
    ///
    /// # Errors
    /// `subscription_not_found`, `offset_ahead`, `stream_replaced` if the stream is not `stream_id`'s.
    pub async fn ack(&self, stream: &str, subscription: &str, offsets: &Offsets, stream_id: Option<StreamId>) -> Result<(), Error> {
        self.ack_for(stream, subscription, None, offsets, stream_id).await
    }

    /// The same for a subscription that was not moved since, else `subscription_moved`.
    pub(super) async fn ack_for(
        &self,
        stream: &str,
        subscription: &str,
        generation: Option<Generation>,
        offsets: &Offsets,
        stream_id: Option<StreamId>,
    ) -> Result<(), Error> {
        let request = proto::AckRequest {
            stream: stream.to_owned(),
            subscription: subscription.to_owned(),
            offsets: offset_messages(offsets),
            stream_id: stream_id.map_or(0, |id| id.0),
            generation: generation.map_or(0, |generation| generation.0),
            leased: Vec::new(),
        };
        self.call(request, |mut control, request| async move { control.ack(request).await }).await.map(drop)
    }

    /// The subscription has planned to read all batches before `offsets`: they no longer hold back producers,
    /// though they are acked only later.
    ///
    /// # Errors
    /// As [`Client::ack`].
    pub async fn plan(&self, stream: &str, subscription: &str, offsets: &Offsets, stream_id: Option<StreamId>) -> Result<(), Error> {
        let request = proto::PlanRequest {
            stream: stream.to_owned(),
            subscription: subscription.to_owned(),
            offsets: offset_messages(offsets),
            stream_id: stream_id.map_or(0, |id| id.0),
        };
        self.call(request, |mut control, request| async move { control.plan(request).await }).await.map(drop)
    }

    /// Puts the subscription's cursors elsewhere, forwards or backwards, and says how each has moved; with `dry_run` only how it
    /// would. Partitions that [`Start::Offsets`] does not name stay where they are. Consumers of the subscription start over from
    /// there, but for those that have come to the stream's end already, and what they ack of before does nothing. A seek whose
    /// first answer was lost on the way is tried again, and then says that nothing has moved.
    ///
    /// # Errors
    /// `subscription_not_found`, `stream_replaced`, and those of [`Client::subscribe`] for a start.
    pub async fn seek(
        &self,
        stream: &str,
        subscription: &str,
        to: &Start,
        stream_id: Option<StreamId>,
        dry_run: bool,
    ) -> Result<Vec<PartitionMove>, Error> {
        let request = proto::SeekRequest {
            stream: stream.to_owned(),
            subscription: subscription.to_owned(),
            offsets: Vec::new(),
            stream_id: stream_id.map_or(0, |id| id.0),
            start_at: Some(wire::start::message(to)),
            dry_run,
        };
        let response = self.call(request, |mut control, request| async move { control.seek(request).await }).await?;
        if response.moves.is_empty() {
            return Err(Error::protocol(
                "an answer to a seek that names no partition, as of an older coordinator, which has moved nothing",
            ));
        }
        Ok(wire::start::moves(&response.moves))
    }

    /// The offsets at which a start lies, of every partition: what a consumer without a subscription begins with.
    ///
    /// # Errors
    /// `stream_not_found`, `stream_replaced` if the stream is not `stream_id`'s, and those of [`Client::subscribe`] for a start.
    pub async fn locate(&self, stream: &str, start: &Start, stream_id: Option<StreamId>) -> Result<Offsets, Error> {
        let request = proto::LocateRequest {
            stream: stream.to_owned(),
            start_at: Some(wire::start::message(start)),
            stream_id: stream_id.map_or(0, |id| id.0),
        };
        let response = self.call(request, |mut control, request| async move { control.locate(request).await }).await?;
        Ok(response.offsets.iter().map(|at| (PartitionId(at.partition), Offset(at.offset))).collect())
    }

    /// What each subscription of a stream has not acked, by name.
    ///
    /// # Errors
    /// `stream_not_found`.
    pub async fn lag(&self, stream: &str) -> Result<Vec<SubscriptionLag>, Error> {
        Ok(self.describe_stream(stream).await?.subscriptions.iter().map(SubscriptionLag::of).collect())
    }

    /// Who waits for whom in a stream, and since when, in sentences.
    ///
    /// # Errors
    /// `stream_not_found`.
    pub async fn why(&self, stream: &str) -> Result<Why, Error> {
        Ok(why(&self.describe_stream(stream).await?))
    }

    /// Statistics of one stream, or of all.
    ///
    /// # Errors
    /// `stream_not_found`.
    pub async fn stats(&self, stream: Option<&str>) -> Result<proto::GetStatsResponse, Error> {
        let request = proto::GetStatsRequest { stream: stream.unwrap_or_default().to_owned() };
        self.call(request, |mut control, request| async move { control.get_stats(request).await }).await
    }

    /// What the coordinator says of itself: its id of this start, and where it listens on its host.
    ///
    /// # Errors
    /// `unavailable` if it cannot be reached, and those of a coordinator that asks who calls.
    pub async fn describe_server(&self) -> Result<proto::ServerDescription, Error> {
        self.call(proto::DescribeServerRequest {}, |mut control, request| async move { control.describe_server(request).await }).await
    }

    /// One control call, tried again while the coordinator cannot be reached. All but `create_stream` and
    /// `delete_stream` change nothing when they are repeated.
    pub(super) async fn call<Q, A, F>(&self, request: Q, verb: impl Fn(ControlClient<Transport>, Q) -> F) -> Result<A, Error>
    where
        Q: Clone,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let mut backoff = Backoff::bearing(self.options().retry_deadline, self.connector().credentials());
        loop {
            let attempt = verb(self.control(), request.clone());
            let error = match tokio::time::timeout(backoff.attempt_timeout(), attempt).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => Error::from_status(&status, self.url_arc()),
                Err(_) => Error::ConnectionLost { url: self.url_arc().clone(), reason: "no answer in time".into() },
            };
            backoff.wait(error).await?;
        }
    }
}

fn epoch_state(response: &proto::EpochResponse) -> Result<EpochState, Error> {
    match response.state() {
        proto::EpochState::Open => Ok(EpochState::Open),
        proto::EpochState::Committed => Ok(EpochState::Committed),
        proto::EpochState::AlreadyCommitted => Ok(EpochState::AlreadyCommitted),
        proto::EpochState::Aborted => Ok(EpochState::Aborted),
        proto::EpochState::Unspecified => Err(Error::protocol("an epoch without a state")),
    }
}
