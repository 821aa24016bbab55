//! One OpenTelemetry trace per epoch: from its producer's first word of it through its batches to their acks.
//!
//! The ids of an epoch's trace follow from the epoch alone ([`context::of_epoch`]). So whatever is done for it, by another attempt, by a
//! coordinator that was started again, or elsewhere, is in the same trace, and nothing has to be kept with batches. Readers are told in
//! each batch's metadata (`BatchMetadata.traceparent`), so that what they do with it can be in the trace as well.
//!
//! A span is made when what it tells of is over, on the stream's clock.

mod append;
mod context;
mod delivery;
mod ending;
mod export;
mod span;

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::SpanContext;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(super) use self::append::Appending;
pub(super) use self::context::of_caller;
use self::delivery::Deliveries;
pub(super) use self::delivery::Delivering;
pub(super) use self::ending::Ending;
use self::export::Exporter;
pub use self::export::TraceError;
use super::cell::StreamCell;
use super::config::ServerConfig;
use crate::engine::{Epoch, ProducerId, StreamId, SubscriptionName};

/// How often deliveries are looked at: a span may come so much later, with the times as they were.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long the end waits for a collector that does not answer.
const END_TIMEOUT: Duration = Duration::from_secs(3);
/// How long it waits for commits that are not durable yet.
const ENDINGS_TIMEOUT: Duration = Duration::from_secs(1);

/// Makes the spans of the epochs that are sampled.
#[derive(Debug)]
pub(super) struct Tracer {
    exporter: Exporter,
    /// One epoch of so many is sampled.
    one_in: u64,
    deliveries: Mutex<Deliveries>,
    /// Commits and aborts that are not durable yet.
    endings: TaskTracker,
}

impl Tracer {
    /// One that sends its spans to the configured collector; none if there is none. Within a tokio runtime.
    ///
    /// # Errors
    /// [`TraceError`] if the endpoint cannot be one.
    pub(super) fn open(config: &ServerConfig) -> Result<Option<Arc<Self>>, TraceError> {
        let Some(endpoint) = &config.otlp_endpoint else { return Ok(None) };
        let exporter = Exporter::open(endpoint)?;
        Ok(Some(Arc::new(Self { exporter, one_in: config.trace_one_in, deliveries: Mutex::default(), endings: TaskTracker::new() })))
    }

    /// Looks after what is delivered until `stopping`.
    pub(super) async fn keep(self: Arc<Self>, stopping: CancellationToken) {
        let mut interval = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                _ = interval.tick() => {}
                () = stopping.cancelled() => break,
            }
            self.end_deliveries(false);
        }
    }

    /// Sends what is left, once all calls have ended, and waits until the collector has it or does not answer in [`END_TIMEOUT`].
    pub(super) async fn end(self: &Arc<Self>) {
        self.endings.close();
        // What is not durable by now is not going to be.
        drop(tokio::time::timeout(ENDINGS_TIMEOUT, self.endings.wait()).await);
        self.end_deliveries(true);
        let tracer = self.clone();
        drop(tokio::task::spawn_blocking(move || tracer.exporter.end(END_TIMEOUT)).await);
    }

    fn end_deliveries(&self, all: bool) {
        // Streams are asked without the lock that readers take.
        let asked = self.deliveries.lock().not_acked(None);
        let acked = delivery::acked(asked);
        let ended = self.deliveries.lock().take_ended(acked, all);
        ended.into_iter().for_each(|span| self.exporter.send(span));
    }

    /// The context of an epoch's own span, if it is sampled.
    fn sampled(&self, stream: StreamId, producer: &ProducerId, epoch: Epoch) -> Option<SpanContext> {
        Some(context::of_epoch(stream, producer, epoch)).filter(|context| context::is_sampled(context, self.one_in))
    }

    /// Something of a subscription was acked: what was delivered for it may be done with.
    pub(super) fn acked(&self, cell: &StreamCell, subscription: &SubscriptionName) {
        let asked = self.deliveries.lock().not_acked(Some(&(cell.id(), Some(subscription.clone()))));
        if !asked.is_empty() {
            let acked = delivery::acked(asked);
            self.deliveries.lock().note_acked(acked);
        }
    }
}
