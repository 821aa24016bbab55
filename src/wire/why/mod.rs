//! Why: who waits for whom in a stream, and since when, in sentences, made from its description alone.

mod overflow;
mod room;
mod subscriptions;
#[cfg(test)]
mod tests;
mod words;

use std::fmt;
use std::time::Duration;

use crate::wire::proto::{StreamDescription, StreamState, WaitDescription};
use room::{Because, Full};
use words::{batches, bytes, micros, span};

/// Producers that are named one by one: they stand in one line, and wait for the same.
const WAITING_NAMED_MAX: usize = 20;

/// Who waits for whom in a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// The stream.
    pub stream: String,
    /// What is to be said, most pressing first: at least one sentence.
    pub reasons: Vec<Reason>,
}

/// One sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// What it is about.
    pub cause: Cause,
    /// The producer or consumer that waits; none where nobody does.
    pub waits: Option<String>,
    /// The subscription that is named; none where it is of none, or of several.
    pub subscription: Option<String>,
    /// How long it has waited, or what it speaks of has been so; none where that is not known.
    pub since: Option<Duration>,
    /// The sentence: lower case, no full stop.
    pub text: String,
}

/// What somebody waits for, or would.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A consumer has not acked.
    Consumer,
    /// A subscription was evicted.
    Evicted,
    /// A subscription has no consumer to ack.
    NoConsumer,
    /// Nobody subscribes, so that everything stays.
    NoSubscription,
    /// An epoch is open: what it has staged holds room, and nobody sees it.
    Epoch,
    /// The log: of a full disk, one that has failed, or an object store; or it is just being written.
    Log,
    /// Batches that others are sending: their room is reserved.
    OnTheWay,
    /// Nobody appends.
    NoBatches,
    /// The producer's signs of life have stopped.
    ProducerLost,
    /// The stream was completed.
    Completed,
    /// The stream has failed.
    Failed,
    /// Nobody waits for anything.
    Nobody,
}

impl Cause {
    /// Its stable name: "consumer", "no_consumer", ...
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Consumer => "consumer",
            Self::Evicted => "evicted",
            Self::NoConsumer => "no_consumer",
            Self::NoSubscription => "no_subscription",
            Self::Epoch => "epoch",
            Self::Log => "log",
            Self::OnTheWay => "on_the_way",
            Self::NoBatches => "no_batches",
            Self::ProducerLost => "producer_lost",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Nobody => "nobody",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, reason) in self.reasons.iter().enumerate() {
            write!(f, "{}{}", if index == 0 { "" } else { "\n" }, reason.text)?;
        }
        Ok(())
    }
}

/// Says who waits for whom. A description is of one moment: what it shows may have passed when it is read.
#[must_use]
pub fn why(stream: &StreamDescription) -> Why {
    let mut reasons = Vec::new();
    reasons.extend(log(stream));
    reasons.extend(ended(stream));
    // Who is named as holding back a producer is not named again as lagging.
    let mut named = None;
    if stream.waiting.is_empty() {
        let full = full(stream);
        named = full.as_ref().and_then(|(_, subscription)| *subscription);
        reasons.extend(full.map(|(reason, _)| reason));
    } else {
        for wait in stream.waiting.iter().take(WAITING_NAMED_MAX) {
            let (reason, subscription) = waiting(stream, wait);
            named = named.or(subscription);
            reasons.push(reason);
        }
        reasons.extend(more_waiting(stream));
    }
    if !reasons.iter().any(|reason| reason.cause == Cause::NoSubscription) {
        reasons.extend(no_subscription(stream));
    }
    reasons.extend(stream.subscriptions.iter().filter_map(overflow::evicted));
    let lagging = stream.subscriptions.iter().filter(|one| one.eviction.is_none() && Some(one.subscription.as_str()) != named);
    reasons.extend(lagging.filter_map(|subscription| subscriptions::reason(stream, subscription)));
    if reasons.is_empty() {
        reasons.push(nobody(stream));
    }
    Why { stream: stream.stream.clone(), reasons }
}

fn nobody(stream: &StreamDescription) -> Reason {
    let is_empty = stream.partitions.iter().all(|partition| partition.end == 0);
    let text = match is_empty {
        true => format!("nobody waits: nothing was ever appended to stream {}, and nobody reads it", stream.stream),
        false => format!("nobody waits: all that is in stream {} is acked, and nobody reads it", stream.stream),
    };
    Reason { cause: Cause::Nobody, waits: None, subscription: None, since: None, text }
}

/// "for 40 s".
fn since(time: u64) -> String {
    format!("for {}", micros(time))
}

/// A log that does not go on.
fn log(stream: &StreamDescription) -> Option<Reason> {
    let text = format!("{}; until then nothing that is appended is confirmed or delivered", log_text(stream)?);
    Some(Reason { cause: Cause::Log, waits: None, subscription: None, since: log_since(stream), text })
}

fn log_text(stream: &StreamDescription) -> Option<String> {
    let StreamDescription { stream: name, log_waits_for: why, .. } = stream;
    let waits = log_since(stream).map_or_else(String::new, |waited| format!(" {}", span(waited)));
    (!why.is_empty()).then(|| format!("the log of stream {name} waits{waits}: {why}"))
}

fn log_since(stream: &StreamDescription) -> Option<Duration> {
    (stream.log_waits_micros > 0).then(|| Duration::from_micros(stream.log_waits_micros))
}

fn ended(stream: &StreamDescription) -> Option<Reason> {
    let (cause, text) = match stream.state() {
        StreamState::Open | StreamState::Unspecified => return None,
        StreamState::Completed => (Cause::Completed, format!("stream {} is completed: nobody appends any more", stream.stream)),
        StreamState::Failed => (Cause::Failed, format!("stream {} has failed: {}", stream.stream, stream.reason)),
    };
    Some(Reason { cause, waits: None, subscription: None, since: None, text })
}

/// A producer that waits for room, and the subscription that is named.
fn waiting<'a>(stream: &'a StreamDescription, wait: &WaitDescription) -> (Reason, Option<&'a str>) {
    let waited = Duration::from_micros(wait.waiting_micros);
    let (cause, why, subscription) = for_room(stream, wait);
    let text = format!("producer {} waits {}: {why}", wait.producer, span(waited));
    let reason =
        Reason { cause, waits: Some(wait.producer.clone()), subscription: subscription.map(str::to_owned), since: Some(waited), text };
    (reason, subscription)
}

fn for_room<'a>(stream: &'a StreamDescription, wait: &WaitDescription) -> (Cause, String, Option<&'a str>) {
    if let Some(text) = log_text(stream) {
        return (Cause::Log, text, None);
    }
    // Whoever is not the first waits for those before, too.
    let first = stream.waiting.first().map_or(wait.bytes, |first| first.bytes);
    let Some(full) = Full::of(stream, first) else {
        if let Some(drain) = Full::draining(stream) {
            let text = format!("stream {} was full, and lets nobody in before {}", stream.stream, overflow::low(stream));
            return match drain.because() {
                Some(Because { cause, text: who, subscription, .. }) => (cause, format!("{text}: {who}"), subscription),
                None => (Cause::OnTheWay, text, None),
            };
        }
        return match stream.is_durable {
            true => (Cause::Log, format!("the log of stream {} has not written what came before", stream.stream), None),
            false => (Cause::OnTheWay, format!("stream {} has room again", stream.stream), None),
        };
    };
    match full.because() {
        Some(Because { cause, text, subscription, .. }) => (cause, format!("{}: {text}", full.text()), subscription),
        None => (Cause::OnTheWay, format!("{}: the room is reserved for batches that others are sending", full.text()), None),
    }
}

fn more_waiting(stream: &StreamDescription) -> Option<Reason> {
    let more = stream.waiting.get(WAITING_NAMED_MAX..)?;
    let longest = Duration::from_micros(more.iter().map(|wait| wait.waiting_micros).max()?);
    let (cause, _, _) = for_room(stream, more.first()?);
    let text = format!("{} more appends wait behind them, up to {}", more.len(), span(longest));
    Some(Reason { cause, waits: None, subscription: None, since: Some(longest), text })
}

/// A full stream for which nobody waits at the moment, and the subscription that is named.
fn full(stream: &StreamDescription) -> Option<(Reason, Option<&str>)> {
    // Room for not even one byte: what is refused for its size alone is not full.
    let full = Full::of(stream, 1).filter(|_| stream.state() == StreamState::Open)?;
    let Because { cause, text, since, subscription } = full.because()?;
    let options = stream.options.unwrap_or_default();
    let next = match (cause, subscription) {
        // Nobody's acks would make room: an open epoch does not wait for itself.
        (Cause::Epoch, None) if !stream.is_durable => {
            format!("what comes next goes to the spool, which has {} of {}", bytes(stream.spooled_bytes), bytes(options.max_spool_bytes()))
        }
        _ => overflow::next(stream, subscription),
    };
    let text = format!("nobody waits yet, but {}, and {next}: {text}", full.text());
    Some((Reason { cause, waits: None, subscription: subscription.map(str::to_owned), since, text }, subscription))
}

fn no_subscription(stream: &StreamDescription) -> Option<Reason> {
    let kept: u64 = stream.partitions.iter().map(|partition| partition.end.saturating_sub(partition.start)).sum();
    if kept == 0 || !stream.subscriptions.is_empty() {
        return None;
    }
    let text = format!("nobody waits: stream {} has no subscription, and keeps its {} for the first one", stream.stream, batches(kept));
    Some(Reason { cause: Cause::NoSubscription, waits: None, subscription: None, since: None, text })
}
