//! The control verbs, blocking; see [`client::Client`](crate::client::Client) for what each does.

use std::time::Duration;

use super::{Client, Wait};
use crate::client::{Error, Offsets, ProducerRun, SubscribeOptions, SubscriptionLag, Why};
use crate::engine::{Epoch, EpochState, PartitionMove, Start, StreamId};
use crate::wire::proto;

impl Client {
    /// Creates a stream.
    ///
    /// # Errors
    /// `stream_exists`, `invalid_argument`, `too_many`.
    pub fn create_stream<E: From<Error>>(
        &self,
        request: proto::CreateStreamRequest,
        wait: &mut Wait<'_, E>,
    ) -> Result<proto::StreamDescription, E> {
        self.call(wait, |client| async move { client.create_stream(request).await })
    }

    /// Everything that is known of a stream.
    ///
    /// # Errors
    /// `stream_not_found`.
    pub fn describe_stream<E: From<Error>>(&self, stream: &str, wait: &mut Wait<'_, E>) -> Result<proto::StreamDescription, E> {
        let stream = stream.to_owned();
        self.call(wait, |client| async move { client.describe_stream(&stream).await })
    }

    /// All streams, by name.
    ///
    /// # Errors
    /// Only where the coordinator cannot be reached.
    pub fn list_streams<E: From<Error>>(&self, wait: &mut Wait<'_, E>) -> Result<Vec<proto::StreamDescription>, E> {
        self.call(wait, |client| async move { client.list_streams().await })
    }

    /// Deletes a stream and all that it holds.
    ///
    /// # Errors
    /// `stream_not_found`.
    pub fn delete_stream<E: From<Error>>(&self, stream: &str, wait: &mut Wait<'_, E>) -> Result<(), E> {
        let stream = stream.to_owned();
        self.call(wait, |client| async move { client.delete_stream(&stream).await })
    }

    /// Ends a stream in good order: readers get what is there, then the end. Idempotent.
    ///
    /// # Errors
    /// `stream_not_found`, `stream_failed`.
    pub fn complete_stream<E: From<Error>>(&self, stream: &str, wait: &mut Wait<'_, E>) -> Result<(), E> {
        let stream = stream.to_owned();
        self.call(wait, |client| async move { client.complete_stream(&stream).await })
    }

    /// Ends a stream with an error: readers get what is there, then the error. Idempotent.
    ///
    /// # Errors
    /// `stream_not_found`, `stream_completed`.
    pub fn fail_stream<E: From<Error>>(&self, stream: &str, reason: &str, wait: &mut Wait<'_, E>) -> Result<(), E> {
        let (stream, reason) = (stream.to_owned(), reason.to_owned());
        self.call(wait, |client| async move { client.fail_stream(&stream, &reason).await })
    }

    /// Opens an epoch, or says that it is committed already.
    ///
    /// # Errors
    /// `stream_not_found`, `fenced`, `stream_completed`, `stream_failed`.
    pub fn open_epoch<E: From<Error>>(
        &self,
        stream: &str,
        run: &ProducerRun,
        epoch: Epoch,
        wait: &mut Wait<'_, E>,
    ) -> Result<EpochState, E> {
        let (stream, run) = (stream.to_owned(), run.clone());
        self.call(wait, |client| async move { client.open_epoch(&stream, &run, epoch).await })
    }

    /// Makes the batches of the named receipts visible, all at once. Idempotent.
    ///
    /// # Errors
    /// `receipt_unknown`, `epoch_not_open`, `fenced`, `stream_replaced`.
    pub fn commit_epoch<E: From<Error>>(
        &self,
        stream: &str,
        run: &ProducerRun,
        epoch: Epoch,
        receipts: Vec<proto::Receipt>,
        wait: &mut Wait<'_, E>,
    ) -> Result<EpochState, E> {
        let (stream, run) = (stream.to_owned(), run.clone());
        self.call(wait, |client| async move { client.commit_epoch(&stream, &run, epoch, receipts).await })
    }

    /// Drops what was staged for the epoch. Idempotent.
    ///
    /// # Errors
    /// `stream_not_found`, `fenced`.
    pub fn abort_epoch<E: From<Error>>(
        &self,
        stream: &str,
        run: &ProducerRun,
        epoch: Epoch,
        wait: &mut Wait<'_, E>,
    ) -> Result<EpochState, E> {
        let (stream, run) = (stream.to_owned(), run.clone());
        self.call(wait, |client| async move { client.abort_epoch(&stream, &run, epoch).await })
    }

    /// A producer's sign of life, valid for `lease`; zero says goodbye.
    ///
    /// # Errors
    /// `stream_not_found`, `fenced`.
    pub fn keep_producer<E: From<Error>>(&self, stream: &str, run: &ProducerRun, lease: Duration, wait: &mut Wait<'_, E>) -> Result<(), E> {
        let (stream, run) = (stream.to_owned(), run.clone());
        self.call(wait, |client| async move { client.keep_producer(&stream, &run, lease).await })
    }

    /// Creates a subscription; one that exists stays as it is.
    ///
    /// # Errors
    /// `stream_not_found`, `too_many`, `offset_gone`, `offset_ahead`, `partition_out_of_range`, `invalid_argument`.
    pub fn subscribe<E: From<Error>>(
        &self,
        stream: &str,
        subscription: &str,
        start: &Start,
        wait: &mut Wait<'_, E>,
    ) -> Result<proto::SubscriptionDescription, E> {
        self.subscribe_with(stream, subscription, start, SubscribeOptions::default(), wait)
    }

    /// The same, and says what a new one is like.
    ///
    /// # Errors
    /// As [`client::Client::subscribe_with`](crate::client::Client::subscribe_with).
    pub fn subscribe_with<E: From<Error>>(
        &self,
        stream: &str,
        subscription: &str,
        start: &Start,
        options: SubscribeOptions,
        wait: &mut Wait<'_, E>,
    ) -> Result<proto::SubscriptionDescription, E> {
        let (stream, subscription, start) = (stream.to_owned(), subscription.to_owned(), start.clone());
        self.call(wait, |client| async move { client.subscribe_with(&stream, &subscription, &start, options).await })
    }

    /// Removes a subscription; what only it held back is dropped.
    ///
    /// # Errors
    /// `stream_not_found`, `subscription_not_found`.
    pub fn unsubscribe<E: From<Error>>(&self, stream: &str, subscription: &str, wait: &mut Wait<'_, E>) -> Result<(), E> {
        let (stream, subscription) = (stream.to_owned(), subscription.to_owned());
        self.call(wait, |client| async move { client.unsubscribe(&stream, &subscription).await })
    }

    /// The subscription is done with all batches before `offsets`. Idempotent; never moves back.
    ///
    /// # Errors
    /// `subscription_not_found`, `offset_ahead`, `stream_replaced`.
    pub fn ack<E: From<Error>>(
        &self,
        stream: &str,
        subscription: &str,
        offsets: &Offsets,
        stream_id: Option<StreamId>,
        wait: &mut Wait<'_, E>,
    ) -> Result<(), E> {
        let (stream, subscription, offsets) = (stream.to_owned(), subscription.to_owned(), offsets.clone());
        self.call(wait, |client| async move { client.ack(&stream, &subscription, &offsets, stream_id).await })
    }

    /// The subscription has planned to read all batches before `offsets`: they no longer hold back producers.
    ///
    /// # Errors
    /// As [`Client::ack`].
    pub fn plan<E: From<Error>>(
        &self,
        stream: &str,
        subscription: &str,
        offsets: &Offsets,
        stream_id: Option<StreamId>,
        wait: &mut Wait<'_, E>,
    ) -> Result<(), E> {
        let (stream, subscription, offsets) = (stream.to_owned(), subscription.to_owned(), offsets.clone());
        self.call(wait, |client| async move { client.plan(&stream, &subscription, &offsets, stream_id).await })
    }

    /// Puts the subscription's cursors elsewhere and says how each has moved; with `dry_run` only how it would.
    ///
    /// # Errors
    /// `subscription_not_found`, `stream_replaced`, and those of [`Client::subscribe`] for a start.
    pub fn seek<E: From<Error>>(
        &self,
        stream: &str,
        subscription: &str,
        to: &Start,
        stream_id: Option<StreamId>,
        dry_run: bool,
        wait: &mut Wait<'_, E>,
    ) -> Result<Vec<PartitionMove>, E> {
        let (stream, subscription, to) = (stream.to_owned(), subscription.to_owned(), to.clone());
        self.call(wait, |client| async move { client.seek(&stream, &subscription, &to, stream_id, dry_run).await })
    }

    /// The offsets at which a start lies, of every partition.
    ///
    /// # Errors
    /// `stream_not_found`, `stream_replaced`, and those of [`Client::subscribe`] for a start.
    pub fn locate<E: From<Error>>(
        &self,
        stream: &str,
        start: &Start,
        stream_id: Option<StreamId>,
        wait: &mut Wait<'_, E>,
    ) -> Result<Offsets, E> {
        let (stream, start) = (stream.to_owned(), start.clone());
        self.call(wait, |client| async move { client.locate(&stream, &start, stream_id).await })
    }

    /// What each subscription of a stream has not acked, by name.
    ///
    /// # Errors
    /// `stream_not_found`.
    pub fn lag<E: From<Error>>(&self, stream: &str, wait: &mut Wait<'_, E>) -> Result<Vec<SubscriptionLag>, E> {
        let stream = stream.to_owned();
        self.call(wait, |client| async move { client.lag(&stream).await })
    }

    /// Who waits for whom in a stream, and since when, in sentences.
    ///
    /// # Errors
    /// `stream_not_found`.
    pub fn why<E: From<Error>>(&self, stream: &str, wait: &mut Wait<'_, E>) -> Result<Why, E> {
        let stream = stream.to_owned();
        self.call(wait, |client| async move { client.why(&stream).await })
    }

    /// Statistics of one stream, or of all.
    ///
    /// # Errors
    /// `stream_not_found`.
    pub fn stats<E: From<Error>>(&self, stream: Option<&str>, wait: &mut Wait<'_, E>) -> Result<proto::GetStatsResponse, E> {
        let stream = stream.map(str::to_owned);
        self.call(wait, |client| async move { client.stats(stream.as_deref()).await })
    }
}
