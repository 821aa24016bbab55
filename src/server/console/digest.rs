//! All streams at a glance: one line for each, made for everybody who looks within a second.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::cell::StreamCell;
use super::super::convert;
use super::super::error::Error;
use super::Console;
use super::access::Caller;
use super::history::Rates;
use super::level::Level;
use crate::engine::{StreamName, StreamTotals, Timestamp};
use crate::wire::lag::Lag;
use crate::wire::proto::{StreamDescription, StreamState};
use crate::wire::why::{Reason, why};

/// So long one look at all streams serves everybody.
const FRESH: Duration = Duration::from_secs(1);
/// Sentences of one stream that are kept: the most pressing ones.
const REASONS_MAX: usize = 3;

/// All streams at one moment, by name.
#[derive(Debug)]
pub(super) struct Digests {
    pub(super) at: Timestamp,
    pub(super) streams: Vec<Digest>,
}

/// A stream in a line.
#[derive(Debug)]
pub(super) struct Digest {
    pub(super) name: StreamName,
    pub(super) level: Level,
    /// The most pressing ones, with how much each presses.
    pub(super) reasons: Vec<(Level, Reason)>,
    pub(super) rates: Rates,
    pub(super) waiting: usize,
    pub(super) lag: Option<Lag>,
    pub(super) holds: Holds,
    pub(super) totals: StreamTotals,
    state: &'static str,
    is_durable: bool,
    partitions: usize,
    producers: usize,
    subscriptions: usize,
    consumers: usize,
}

/// What a stream holds against its limits.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Holds {
    pub(super) memory_batches: (u64, u64),
    pub(super) memory_bytes: (u64, u64),
    pub(super) spool_bytes: (u64, u64),
    /// Of a durable stream.
    pub(super) disk_bytes: Option<(u64, u64)>,
}

impl Console {
    /// All streams, as they were at most a second ago.
    ///
    /// # Errors
    /// `internal` if the task that looks has failed.
    pub(super) async fn digests(self: &Arc<Self>) -> Result<Arc<Digests>, Error> {
        let failed = |reason: String| Error::Task { reason };
        let _permit = self.looks.acquire().await.map_err(|error| failed(error.to_string()))?;
        if let Some(digests) = self.fresh() {
            return Ok(digests);
        }
        let console = self.clone();
        // Ten thousand streams take long enough to be in the way of others.
        let made = tokio::task::spawn_blocking(move || console.look_at_all()).await;
        let digests = Arc::new(made.map_err(|error| failed(error.to_string()))?);
        *self.digests.lock() = Some(digests.clone());
        Ok(digests)
    }

    fn fresh(&self) -> Option<Arc<Digests>> {
        let now = self.coordinator.now();
        self.digests.lock().clone().filter(|digests| now.since(digests.at) < FRESH)
    }

    /// Lets go of what nobody looks at any more.
    pub(super) fn forget_digests(&self) {
        if self.fresh().is_none() {
            *self.digests.lock() = None;
        }
    }

    fn look_at_all(&self) -> Digests {
        let at = self.coordinator.now();
        let digest = |cell: &Arc<StreamCell>| Digest::of(cell, self.history.lock().rates(cell.id()));
        Digests { at, streams: self.coordinator.list().iter().map(digest).collect() }
    }
}

impl Digests {
    /// Those that the caller may see.
    pub(super) fn seen_by<'a>(&'a self, caller: &'a Caller) -> impl Iterator<Item = &'a Digest> {
        self.streams.iter().filter(|digest| caller.sees(&digest.name))
    }
}

impl Digest {
    fn of(cell: &Arc<StreamCell>, rates: Rates) -> Self {
        let stream = convert::description(cell);
        let mut reasons = reasons(&stream);
        reasons.truncate(REASONS_MAX);
        Self {
            name: cell.name().clone(),
            level: reasons.first().map_or(Level::Calm, |(level, _)| *level),
            reasons,
            rates,
            waiting: stream.waiting.len(),
            lag: stream.subscriptions.iter().map(Lag::of).max_by_key(|lag| (lag.batches, lag.age)),
            holds: Holds::of(&stream),
            totals: cell.totals(),
            state: state(&stream),
            is_durable: stream.is_durable,
            partitions: stream.partitions.len(),
            producers: stream.producers.len(),
            subscriptions: stream.subscriptions.len(),
            consumers: stream.subscriptions.iter().map(|subscription| subscription.consumers.len()).sum(),
        }
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "name": self.name.as_str(),
            "state": self.state,
            "level": self.level.as_str(),
            "reason": self.reasons.first().map(|(level, reason)| reason_json(*level, reason)),
            "is_durable": self.is_durable,
            "partitions": self.partitions,
            "producers": self.producers,
            "subscriptions": self.subscriptions,
            "consumers": self.consumers,
            "waiting": self.waiting,
            "rates": self.rates.json(),
            "appended": totals_json(&self.totals),
            "lag": self.lag.as_ref().map(lag_json),
            "buffers": self.holds.json(),
        })
    }
}

impl Holds {
    pub(super) fn of(stream: &StreamDescription) -> Self {
        let options = stream.options.unwrap_or_default();
        Self {
            memory_batches: (stream.buffered_batches, options.max_buffered_batches()),
            memory_bytes: (stream.buffered_bytes, options.max_buffered_bytes()),
            spool_bytes: (stream.spooled_bytes, options.max_spool_bytes()),
            disk_bytes: stream.is_durable.then(|| (stream.logged_bytes, options.max_disk_bytes())),
        }
    }

    /// Together with those of another stream.
    pub(super) fn with(self, other: Self) -> Self {
        let sum = |(used, limit): (u64, u64), (more, further): (u64, u64)| (used.saturating_add(more), limit.saturating_add(further));
        let disk_bytes = match (self.disk_bytes, other.disk_bytes) {
            (Some(own), Some(others)) => Some(sum(own, others)),
            (own, others) => own.or(others),
        };
        Self {
            memory_batches: sum(self.memory_batches, other.memory_batches),
            memory_bytes: sum(self.memory_bytes, other.memory_bytes),
            spool_bytes: sum(self.spool_bytes, other.spool_bytes),
            disk_bytes,
        }
    }

    pub(super) fn json(&self) -> Value {
        let of = |(used, limit): (u64, u64)| json!({ "used": used, "limit": limit });
        json!({
            "memory_batches": of(self.memory_batches),
            "memory_bytes": of(self.memory_bytes),
            "spool_bytes": of(self.spool_bytes),
            "disk_bytes": self.disk_bytes.map(of),
        })
    }
}

/// What is to be said of a stream, most pressing first.
pub(super) fn reasons(stream: &StreamDescription) -> Vec<(Level, Reason)> {
    let mut reasons: Vec<_> = why(stream).reasons.into_iter().map(|reason| (Level::of(&reason, stream), reason)).collect();
    reasons.sort_by_key(|(level, _)| std::cmp::Reverse(*level));
    reasons
}

pub(super) fn reason_json(level: Level, reason: &Reason) -> Value {
    json!({
        "level": level.as_str(),
        "cause": reason.cause.as_str(),
        "waits": reason.waits,
        "subscription": reason.subscription,
        "since_seconds": reason.since.map(|since| since.as_secs_f64()),
        "text": reason.text,
    })
}

pub(super) fn lag_json(lag: &Lag) -> Value {
    json!({
        "batches": lag.batches,
        "rows": lag.rows,
        "bytes": lag.bytes,
        "age_seconds": lag.age.as_secs_f64(),
        "held_seconds": lag.held_for.as_secs_f64(),
        "drains_in_seconds": lag.drains_in.map(|time| time.as_secs_f64()),
        "skipped_batches": lag.skipped,
    })
}

pub(super) fn totals_json(totals: &StreamTotals) -> Value {
    json!({ "batches": totals.batches, "rows": totals.rows, "bytes": totals.bytes })
}

pub(super) fn state(stream: &StreamDescription) -> &'static str {
    match stream.state() {
        StreamState::Open | StreamState::Unspecified => "open",
        StreamState::Completed => "completed",
        StreamState::Failed => "failed",
    }
}
