//! A full stream: by what limit, and who holds the room.

use super::super::lag::{name, readers};
use super::words::{batches, bytes, count, micros};
use super::{Cause, since};
use crate::wire::proto::{
    EpochDescription, SharesDescription, StreamDescription, SubscriptionDescription, SubscriptionPartition, Visibility,
};
use std::time::Duration;

/// What there is none left of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Batches,
    Bytes,
}

/// A stream that has no room for a batch.
#[derive(Debug)]
pub(super) struct Full<'a> {
    stream: &'a StreamDescription,
    unit: Unit,
}

/// A subscription whose acks would make room, and the partition that it holds most of it in.
struct Holder<'a> {
    subscription: &'a SubscriptionDescription,
    partition: &'a SubscriptionPartition,
    /// Batches or bytes that it holds, over all partitions in which no cursor is lower.
    held: u64,
}

/// Who holds the room, in words.
#[derive(Debug)]
pub(super) struct Because<'a> {
    pub(super) cause: Cause,
    pub(super) text: String,
    /// How long that has been so, where it is known.
    pub(super) since: Option<Duration>,
    /// The subscription that is named.
    pub(super) subscription: Option<&'a str>,
}

impl<'a> Full<'a> {
    /// None if a batch of this size would find room, or waits for something else.
    pub(super) fn of(stream: &'a StreamDescription, batch_bytes: u64) -> Option<Self> {
        let options = stream.options.unwrap_or_default();
        let unit = match stream.is_durable {
            true => (stream.logged_bytes.saturating_add(batch_bytes) > options.max_disk_bytes()).then_some(Unit::Bytes),
            false if stream.buffered_batches >= options.max_buffered_batches() => Some(Unit::Batches),
            false => (stream.buffered_bytes.saturating_add(batch_bytes) > options.max_buffered_bytes()).then_some(Unit::Bytes),
        };
        Some(Self { stream, unit: unit? })
    }

    /// A stream that was full, and drains before it lets anybody in.
    pub(super) fn draining(stream: &'a StreamDescription) -> Option<Self> {
        stream.is_draining.then_some(Self { stream, unit: Unit::Bytes })
    }

    /// "stream clicks is full (64 of 64 batches)".
    pub(super) fn text(&self) -> String {
        let Self { stream, unit } = self;
        let options = stream.options.unwrap_or_default();
        let of = match (stream.is_durable, unit) {
            (true, _) => format!("{} of {} of its log", bytes(stream.logged_bytes), bytes(options.max_disk_bytes())),
            (false, Unit::Batches) => format!("{} of {}", count(stream.buffered_batches), batches(options.max_buffered_batches())),
            (false, Unit::Bytes) => format!("{} of {}", bytes(stream.buffered_bytes), bytes(options.max_buffered_bytes())),
        };
        format!("stream {} is full ({of})", stream.stream)
    }

    /// Who holds the room: the subscription with the lowest cursors where most of it is, an open epoch, or what waits for a subscription.
    /// None if nobody does: then it is given up when it is needed, or somebody's batch is on its way.
    pub(super) fn because(&self) -> Option<Because<'a>> {
        let (holder, staged) = (self.holder(), self.staged());
        match (holder, staged) {
            (Some(holder), Some((epoch, amount))) if amount > holder.held => {
                let Because { text, subscription, .. } = holder.because();
                let since = Some(Duration::from_micros(epoch.1.open_micros));
                Some(Because { cause: Cause::Epoch, text: format!("{}, and {text}", self.staged_text(epoch, amount)), since, subscription })
            }
            (Some(holder), _) => Some(holder.because()),
            (None, _) if self.stream.subscriptions.is_empty() && self.stream.partitions.iter().any(|one| one.end > one.start) => {
                let text = "it has no subscription, and keeps everything for the first one".to_owned();
                Some(Because { cause: Cause::NoSubscription, text, since: None, subscription: None })
            }
            (None, Some((epoch, amount))) => {
                let since = Some(Duration::from_micros(epoch.1.open_micros));
                Some(Because { cause: Cause::Epoch, text: self.staged_text(epoch, amount), since, subscription: None })
            }
            (None, None) => None,
        }
    }

    fn staged_text(&self, (producer, epoch): (&str, &EpochDescription), amount: u64) -> String {
        let amount = self.amount(amount);
        format!("epoch {} of producer {producer}, open for {}, has staged {amount}", epoch.epoch, micros(epoch.open_micros))
    }

    fn amount(&self, amount: u64) -> String {
        match self.unit {
            Unit::Batches => batches(amount),
            Unit::Bytes => bytes(amount),
        }
    }

    /// The open epoch that has staged most. What an epoch has appended under `immediate` visibility is visible, and not staged.
    fn staged(&self) -> Option<((&'a str, &'a EpochDescription), u64)> {
        if self.stream.options.unwrap_or_default().visibility() == Visibility::Immediate {
            return None;
        }
        let epochs = self.stream.producers.iter().flat_map(|one| one.epochs.iter().map(|epoch| (one.producer.as_str(), epoch)));
        let staged = epochs.map(|(producer, epoch)| match self.unit {
            Unit::Batches => ((producer, epoch), epoch.staged_batches),
            Unit::Bytes => ((producer, epoch), epoch.staged_bytes),
        });
        staged.max_by_key(|(_, amount)| *amount).filter(|(_, amount)| *amount > 0)
    }

    fn holder(&self) -> Option<Holder<'a>> {
        let holders =
            self.stream.subscriptions.iter().filter(|one| one.eviction.is_none()).filter_map(|subscription| self.held_by(subscription));
        holders.max_by_key(|holder| (holder.held, holder.partition.held_micros))
    }

    /// What this subscription holds where no cursor is lower than its own.
    fn held_by(&self, subscription: &'a SubscriptionDescription) -> Option<Holder<'a>> {
        let held = subscription.partitions.iter().map(|partition| (partition, self.held_in(partition)));
        let held: Vec<_> = held.filter(|(_, held)| *held > 0).collect();
        let (partition, _) = held.iter().max_by_key(|(partition, held)| (*held, partition.held_micros))?;
        Some(Holder { subscription, partition, held: held.iter().map(|(_, held)| held).sum() })
    }

    fn held_in(&self, own: &SubscriptionPartition) -> u64 {
        let Some(partition) = self.stream.partitions.iter().find(|one| one.partition == own.partition) else { return 0 };
        let others = self
            .stream
            .subscriptions
            .iter()
            .filter(|one| one.eviction.is_none())
            .flat_map(|one| &one.partitions)
            .filter(|one| one.partition == own.partition);
        let is_lowest = others.map(unblocked).min() == Some(unblocked(own));
        let holds_room = self.stream.is_durable || partition.buffered_batches > 0;
        let held = partition.end.saturating_sub(unblocked(own));
        match self.unit {
            _ if !is_lowest || !holds_room => 0,
            Unit::Batches => held,
            // What is planned counts no more: its share of the bytes, for their number is not known by batch.
            Unit::Bytes => {
                let share = u128::from(own.lag_bytes) * u128::from(held) / u128::from(own.lag_batches.max(1));
                u64::try_from(share).unwrap_or(u64::MAX)
            }
        }
    }
}

impl<'a> Holder<'a> {
    fn because(&self) -> Because<'a> {
        let (subscription, partition) = (self.subscription, self.partition);
        let text = format!("subscription {} holds it back: {}", subscription.subscription, stands(subscription, partition));
        Because {
            cause: if subscription.consumers.is_empty() { Cause::NoConsumer } else { Cause::Consumer },
            text,
            since: Some(Duration::from_micros(partition.held_micros)),
            subscription: Some(&subscription.subscription),
        }
    }
}

/// One past the last batch that no longer holds back producers.
fn unblocked(partition: &SubscriptionPartition) -> u64 {
    partition.acked.max(partition.planned)
}

/// Who is to ack the oldest batch of this partition, and for how long has not: "consumer host-7/4211 has held partition 3 at offset
/// 991 for 40 s".
pub(super) fn stands(subscription: &SubscriptionDescription, partition: &SubscriptionPartition) -> String {
    let SubscriptionPartition { partition: number, acked, .. } = *partition;
    let held = since(partition.held_micros);
    if let Some(shares) = partition.shares.as_ref().filter(|_| !subscription.consumers.is_empty()) {
        return shared(subscription, (number, acked, &held), shares);
    }
    let mut reading: Vec<_> = readers(subscription, number).collect();
    // Whoever was sent most: if several read it, that is who could ack first.
    reading.sort_by_key(|(_, sent)| std::cmp::Reverse(*sent));
    let others = if reading.len() > 1 { format!(" (one of {} that read it)", reading.len()) } else { String::new() };
    match reading.first() {
        None if subscription.consumers.is_empty() => {
            format!("it has no consumer, and has been at offset {acked} of partition {number} {held}")
        }
        None => format!(
            "none of its {} consumers reads partition {number}, which has been at offset {acked} {held}",
            subscription.consumers.len()
        ),
        Some((consumer, sent)) if *sent > acked => {
            format!("consumer {}{others} has held partition {number} at offset {acked} {held}", name(consumer))
        }
        Some((consumer, _)) => {
            format!("consumer {}{others} has not taken offset {acked} of partition {number} {held}", name(consumer))
        }
    }
}

/// The same of a shared subscription: who has the oldest of what is leased, or why nobody has anything.
fn shared(subscription: &SubscriptionDescription, (number, acked, held): (u32, u64, &str), shares: &SharesDescription) -> String {
    let place = format!("partition {number} has been at offset {acked} {held}");
    if shares.dying > 0 {
        let waits = match subscription.dead_letters_wait_for.as_str() {
            "" => "are being written".to_owned(),
            why => format!("cannot be written: {why}"),
        };
        return format!(
            "{place}: {} to go to the dead letters, which {waits}, since {}",
            pieces(shares.dying),
            micros(shares.dying_micros)
        );
    }
    let oldest = subscription.consumers.iter().find(|consumer| consumer.consumer_id == shares.oldest_consumer_id);
    let stalled = subscription.consumers.iter().filter(|consumer| consumer.is_stalled).count();
    match oldest {
        Some(consumer) => {
            let oldest = format!("{} has had the oldest for {}", name(consumer), micros(shares.oldest_micros));
            format!("{place}: {} with consumers, of which consumer {oldest}", pieces(shares.leased))
        }
        None if stalled == subscription.consumers.len() => {
            format!("{place}: all of its {stalled} consumers have let a lease run out, and not asked for more since")
        }
        None => format!("{place}: {} back, and waiting for its {} consumers", pieces(shares.waiting), subscription.consumers.len()),
    }
}

fn pieces(number: u64) -> String {
    format!("{} {}", count(number), if number == 1 { "piece is" } else { "pieces are" })
}
