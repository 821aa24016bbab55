//! A subscription: what it has still to ack and who is to do it, or what its consumers wait for.

use std::time::Duration;

use super::super::lag::{Lag, name};
use super::room::stands;
use super::words::{batches, bytes, micros, rows, span};
use super::{Cause, Reason};
use crate::wire::proto::{EpochDescription, StreamDescription, StreamState, SubscriptionDescription, Visibility};

/// None if it has everything and nobody reads it: then nobody waits.
pub(super) fn reason(stream: &StreamDescription, subscription: &SubscriptionDescription) -> Option<Reason> {
    let lag = Lag::of(subscription);
    if lag.batches > 0 { lagging(subscription, &lag) } else { waiting(stream, subscription) }
}

/// It has something to ack.
fn lagging(subscription: &SubscriptionDescription, lag: &Lag) -> Option<Reason> {
    let behind = subscription.partitions.iter().filter(|partition| partition.lag_batches > 0);
    let partition = behind.max_by_key(|partition| partition.held_micros)?;
    let drains = match lag.drains_in {
        Some(time) => format!("as it went lately, it has caught up in {}", span(time)),
        None => "it is not draining: acks are not faster than appends".to_owned(),
    };
    let what = format!("{}, {}, {}", batches(lag.batches), rows(lag.rows), bytes(lag.bytes));
    let who = stands(subscription, partition);
    Some(Reason {
        cause: if subscription.consumers.is_empty() { Cause::NoConsumer } else { Cause::Consumer },
        waits: None,
        subscription: Some(subscription.subscription.clone()),
        since: Some(Duration::from_micros(partition.held_micros)),
        text: format!("subscription {} has not acked {what}: {who}; {drains}", subscription.subscription),
    })
}

/// It has everything: its consumers wait.
fn waiting(stream: &StreamDescription, subscription: &SubscriptionDescription) -> Option<Reason> {
    let first = subscription.consumers.first().filter(|_| stream.state() == StreamState::Open)?;
    let who = match subscription.consumers.len() {
        1 => format!("consumer {} of subscription {} has", name(first), subscription.subscription),
        many => format!("the {many} consumers of subscription {} have", subscription.subscription),
    };
    let (cause, why, since) = for_batches(stream);
    let text = format!("{who} everything{why}");
    Some(Reason { cause, waits: Some(name(first)), subscription: Some(subscription.subscription.clone()), since, text })
}

/// Why nothing comes.
fn for_batches(stream: &StreamDescription) -> (Cause, String, Option<Duration>) {
    if let Some(lost) = stream.producers.iter().find(|producer| producer.lost) {
        return (Cause::ProducerLost, format!(", and producer {} is lost: its signs of life have stopped", lost.producer), None);
    }
    if !stream.log_waits_for.is_empty() {
        return (Cause::Log, " that the log has made durable".to_owned(), super::log_since(stream));
    }
    if let Some((producer, epoch)) = uncommitted(stream) {
        let EpochDescription { epoch, open_micros, staged_batches, staged_rows, .. } = *epoch;
        let staged = format!("{} with {}", batches(staged_batches), rows(staged_rows));
        let why = format!(
            " but epoch {epoch} of producer {producer}, which has been open for {} and is not committed: {staged} are staged",
            micros(open_micros)
        );
        return (Cause::Epoch, why, Some(Duration::from_micros(open_micros)));
    }
    let idle = stream.partitions.iter().filter_map(|partition| partition.idle_micros).min().map(Duration::from_micros);
    let since = match idle {
        Some(idle) => format!("nobody has appended to stream {} for {}", stream.stream, span(idle)),
        None if stream.partitions.iter().all(|partition| partition.end == 0) => {
            format!("nobody has appended to stream {} yet", stream.stream)
        }
        None => format!("nobody has appended to stream {} since the coordinator was started", stream.stream),
    };
    (Cause::NoBatches, format!(": {since}"), idle)
}

/// The open epoch that has staged most, or else has been open for longest. With `immediate` visibility its batches are seen as they come.
fn uncommitted(stream: &StreamDescription) -> Option<(&str, &EpochDescription)> {
    if stream.options.unwrap_or_default().visibility() == Visibility::Immediate {
        return None;
    }
    let epochs = stream.producers.iter().flat_map(|one| one.epochs.iter().map(|epoch| (one.producer.as_str(), epoch)));
    epochs.max_by_key(|(_, epoch)| (epoch.staged_batches, epoch.open_micros))
}
