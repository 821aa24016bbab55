//! A producer: appends batches to a stream, each visible as soon as it is stored.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use bytes::Bytes;

use super::appends::{AppendSettings, Appends};
use super::task::OwnedTask;
use super::watched::Watched;
use super::window::Window;
use super::{Client, Error, ProducerOptions, ProducerRun};
use crate::engine::{Code, PartitionId};
use crate::shared::random;
use crate::wire::batch::EncodedBatch;
use crate::wire::command::PutCommand;
use crate::wire::schema::StreamSchema;

/// How long [`Producer::fail`] waits for what was appended before to be stored.
pub(super) const FAIL_GRACE: Duration = Duration::from_secs(5);

/// Appends batches to a stream, exactly once: after a break it asks the coordinator where to go on, and sends
/// again only what is missing.
///
/// An append returns when the batch is in the window; [`Producer::flush`] returns when all are stored. An error may
/// thus belong to an earlier batch: those counted by [`Producer::stored`] are stored, later ones are not. Where
/// the error's `retry()` is not `Never`, the producer can be used again.
///
/// Dropping it without [`Producer::close`] gives up what is still in the window, and says no goodbye: with
/// `keep_alive`, readers learn that the producer is lost.
#[derive(Debug)]
pub struct Producer {
    pub(super) appends: Appends,
    run: ProducerRun,
    keep_alive: Option<OwnedTask>,
}

impl Producer {
    pub(super) fn new(client: &Client, stream: &str, options: ProducerOptions) -> Result<Self, Error> {
        let run = ProducerRun { producer: options.producer.unwrap_or_else(|| random::uuid().to_string()), run: random::uuid().to_string() };
        let command = PutCommand {
            stream: stream.to_owned(),
            producer: Some(run.producer.clone()),
            run: Some(run.run.clone()),
            ..PutCommand::default()
        };
        let settings = AppendSettings {
            partition: options.partition,
            schema: options.schema,
            window_batches: options.window_batches,
            window_bytes: options.window_bytes,
            append_timeout: options.append_timeout,
            keep_alive: options.keep_alive,
            compression: options.compression,
        };
        let appends = Appends::new(client.clone(), command, settings)?;
        let keep_alive = options.keep_alive.map(|lease| {
            let signs = signs_of_life(client.clone(), appends.window().clone(), stream.to_owned(), run.clone(), lease);
            OwnedTask::spawn(client.runtime(), signs, drop)
        });
        Ok(Self { appends, run, keep_alive })
    }

    /// The producer's identity.
    #[must_use]
    pub fn producer(&self) -> &str {
        &self.run.producer
    }

    /// Hands over a batch: returns when it is in the window, which may have to wait for acks. `partition` goes
    /// before the options'; `user` comes out at the reader as it is.
    ///
    /// # Errors
    /// About this batch: `message_too_large`, `schema_mismatch`, `invalid_argument`. About this or an earlier one:
    /// whatever the coordinator refuses. In either case this batch is not stored.
    ///
    /// # Cancel safety
    /// Dropped before it returns, the batch is not appended.
    pub async fn append(&mut self, batch: &RecordBatch, partition: Option<PartitionId>, user: Bytes) -> Result<(), Error> {
        let entry = self.appends.encode(batch, partition, user)?;
        self.appends.admit(entry).await
    }

    /// Hands over a batch that is encoded already, as it is: for pass-through. All batches of a producer have the
    /// same `schema` message.
    ///
    /// # Errors
    /// As [`Producer::append`].
    ///
    /// # Cancel safety
    /// Dropped before it returns, the batch is not appended.
    pub async fn append_encoded(
        &mut self,
        schema: &StreamSchema,
        batch: EncodedBatch,
        partition: Option<PartitionId>,
    ) -> Result<(), Error> {
        let entry = self.appends.take_encoded(schema, batch, partition)?;
        self.appends.admit(entry).await
    }

    /// How many batches of this producer are known to be stored, counted from its first.
    #[must_use]
    pub fn stored(&self) -> u64 {
        self.appends.window().with(|window| window.stored)
    }

    /// Waits until the coordinator has let the producer in: from then on older ones of its id are fenced. It is let in with its first
    /// batch, or, where the options have a schema, before.
    ///
    /// # Errors
    /// Whatever the coordinator refuses, or `unavailable` after `retry_deadline`.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn opened(&mut self) -> Result<(), Error> {
        self.appends.ensure_running();
        self.appends.window().wait(Window::opened).await
    }

    /// Whether all batches so far are stored; it does not wait for it.
    ///
    /// # Errors
    /// As [`Producer::flush`].
    pub fn try_flush(&mut self) -> Result<bool, Error> {
        self.appends.ensure_running();
        self.appends.hurry();
        self.appends.window().with(Window::settled).transpose().map(|settled| settled.is_some())
    }

    /// Waits until all batches so far are stored.
    ///
    /// # Errors
    /// Whatever the coordinator refuses, or `unavailable` after `retry_deadline`.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.appends.ensure_running();
        self.appends.settled().await
    }

    /// Flushes, ends the connection in good order and says goodbye. The stream stays open for other producers.
    ///
    /// # Errors
    /// As [`Producer::flush`].
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn close(&mut self) -> Result<(), Error> {
        if self.appends.close() {
            self.appends.finished().await?;
        }
        self.goodbye().await
    }

    /// Closes the producer and completes the stream: readers get what is there, then the end.
    ///
    /// # Errors
    /// As [`Producer::flush`], and those of [`Client::complete_stream`].
    pub async fn complete(&mut self) -> Result<(), Error> {
        if self.appends.close() {
            self.appends.finished().await?;
        }
        self.appends.client().complete_stream(self.appends.stream()).await?;
        self.goodbye().await
    }

    /// Ends the stream with an error: readers get what is there, then `reason`. Waits at most 5 s for what was
    /// appended before to be stored.
    ///
    /// # Errors
    /// Those of [`Client::fail_stream`].
    pub async fn fail(&mut self, reason: &str) -> Result<(), Error> {
        if tokio::time::timeout(FAIL_GRACE, self.flush()).await.is_err() {
            tracing::warn!(stream = self.appends.stream(), "failing the stream with appends under way");
        }
        self.appends.client().fail_stream(self.appends.stream(), reason).await?;
        self.goodbye().await
    }

    /// What a goodbye needs, once, if one is to be said; ends the signs of life.
    pub(super) fn take_goodbye(&mut self) -> Option<(Client, String, ProducerRun)> {
        self.keep_alive.take()?;
        Some((self.appends.client().clone(), self.appends.stream().to_owned(), self.run.clone()))
    }

    async fn goodbye(&mut self) -> Result<(), Error> {
        match self.take_goodbye() {
            Some((client, stream, run)) => say_goodbye(client, stream, run).await,
            None => Ok(()),
        }
    }
}

pub(super) async fn say_goodbye(client: Client, stream: String, run: ProducerRun) -> Result<(), Error> {
    match client.keep_producer(&stream, &run, Duration::ZERO).await {
        // Deleted meanwhile: nobody is left to say goodbye to.
        Err(error) if error.code() == Code::StreamNotFound => Ok(()),
        result => result,
    }
}

/// Signs of life from the moment the appender is open: before, the stream may not exist.
async fn signs_of_life(client: Client, window: Arc<Watched<Window>>, stream: String, run: ProducerRun, lease: Duration) {
    window.wait(|window| window.partitions).await;
    let mut ticks = tokio::time::interval((lease / 3).max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = client.keep_producer(&stream, &run, lease).await {
            tracing::warn!(stream, producer = run.producer, %error, "a sign of life was refused");
        }
    }
}
