//! Lag: what a subscription has not acked yet, by partition and over all of them.

use std::time::Duration;

use crate::wire::proto::{ConsumerDescription, SubscriptionDescription, SubscriptionPartition};

/// What is not acked, of one partition or of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// Batches.
    pub batches: u64,
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
    /// Age of the oldest batch; zero if there is none.
    pub age: Duration,
    /// How long the oldest batch could have been acked: since it became visible or the cursor last moved, whichever was later. Of
    /// several partitions, the longest. A restart of the coordinator counts anew.
    pub held_for: Duration,
    /// When all of it will be acked, if acks and appends go on as in the last 10 to 20 seconds. None: it is not draining, for acks
    /// are not faster than appends. Of several partitions, the last.
    pub drains_in: Option<Duration>,
    /// Batches that were dropped before they were acked, which `full_policy` allows.
    pub skipped: u64,
}

/// A subscription's lag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionLag {
    /// The subscription.
    pub subscription: String,
    /// Over all partitions.
    pub total: Lag,
    /// One per partition.
    pub partitions: Vec<PartitionLag>,
}

/// A subscription's lag in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionLag {
    /// The partition.
    pub partition: u32,
    /// The subscription's cursor: one past the last batch that it has acked.
    pub offset: u64,
    /// What it has not acked.
    pub lag: Lag,
    /// The names of those who read the partition now, in the order in which they came.
    pub consumers: Vec<String>,
}

impl Lag {
    /// That of all of a subscription's partitions.
    #[must_use]
    pub fn of(subscription: &SubscriptionDescription) -> Self {
        subscription.partitions.iter().map(Self::of_partition).fold(Self::none(), Self::with)
    }

    /// That of one partition.
    #[must_use]
    pub fn of_partition(partition: &SubscriptionPartition) -> Self {
        Self {
            batches: partition.lag_batches,
            rows: partition.lag_rows,
            bytes: partition.lag_bytes,
            age: Duration::from_micros(partition.lag_age_micros),
            held_for: Duration::from_micros(partition.held_micros),
            drains_in: partition.drain_micros.map(Duration::from_micros),
            skipped: partition.skipped,
        }
    }

    fn none() -> Self {
        let zero = Duration::ZERO;
        Self { batches: 0, rows: 0, bytes: 0, age: zero, held_for: zero, drains_in: Some(zero), skipped: 0 }
    }

    fn with(self, other: Self) -> Self {
        Self {
            batches: self.batches.saturating_add(other.batches),
            rows: self.rows.saturating_add(other.rows),
            bytes: self.bytes.saturating_add(other.bytes),
            age: self.age.max(other.age),
            held_for: self.held_for.max(other.held_for),
            drains_in: self.drains_in.zip(other.drains_in).map(|(one, another)| one.max(another)),
            skipped: self.skipped.saturating_add(other.skipped),
        }
    }
}

impl SubscriptionLag {
    /// That of a subscription, as its description says.
    #[must_use]
    pub fn of(subscription: &SubscriptionDescription) -> Self {
        let partition = |partition: &SubscriptionPartition| PartitionLag {
            partition: partition.partition,
            offset: partition.acked,
            lag: Lag::of_partition(partition),
            consumers: readers(subscription, partition.partition).map(|(consumer, _)| name(consumer)).collect(),
        };
        Self {
            subscription: subscription.subscription.clone(),
            total: Lag::of(subscription),
            partitions: subscription.partitions.iter().map(partition).collect(),
        }
    }
}

/// Who reads a partition for a subscription, and the next offset to be sent to each.
pub(super) fn readers(subscription: &SubscriptionDescription, partition: u32) -> impl Iterator<Item = (&ConsumerDescription, u64)> {
    let sent = move |consumer: &ConsumerDescription| consumer.partitions.iter().find(|one| one.partition == partition).map(|one| one.sent);
    subscription.consumers.iter().filter_map(move |consumer| Some((consumer, sent(consumer)?)))
}

/// What to call a consumer: its own name, or where it comes from if it gives none.
pub(super) fn name(consumer: &ConsumerDescription) -> String {
    match (consumer.consumer.as_str(), consumer.peer.as_str()) {
        ("", "") => "unknown".to_owned(),
        ("", peer) => format!("at {peer}"),
        (name, _) => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::proto::ConsumerPartition;

    #[test]
    fn a_subscription_drains_when_its_last_partition_does_and_not_at_all_while_one_does_not() {
        let partition = |partition, drain_micros| SubscriptionPartition {
            partition,
            lag_batches: 2,
            lag_age_micros: 9 - u64::from(partition),
            held_micros: u64::from(partition),
            drain_micros,
            ..SubscriptionPartition::default()
        };
        let of = |partitions: Vec<_>| Lag::of(&SubscriptionDescription { partitions, ..SubscriptionDescription::default() });
        let lag = of(vec![partition(0, Some(5)), partition(1, Some(3))]);
        assert_eq!((lag.batches, lag.age.as_micros(), lag.held_for.as_micros()), (4, 9, 1));
        assert_eq!(lag.drains_in, Some(Duration::from_micros(5)));
        assert_eq!(of(vec![partition(0, Some(5)), partition(1, None)]).drains_in, None);
        assert_eq!(of(Vec::new()).drains_in, Some(Duration::ZERO));
    }

    #[test]
    fn each_partition_names_those_who_read_it() {
        let consumer = |name: &str, peer: &str, partition| ConsumerDescription {
            consumer: name.to_owned(),
            peer: peer.to_owned(),
            partitions: vec![ConsumerPartition { partition, sent: 1 }],
            ..ConsumerDescription::default()
        };
        let lag = SubscriptionLag::of(&SubscriptionDescription {
            partitions: (0..3).map(|partition| SubscriptionPartition { partition, ..SubscriptionPartition::default() }).collect(),
            consumers: vec![consumer("a", "unix", 0), consumer("", "1.2.3.4:5", 1), consumer("b", "unix", 0)],
            ..SubscriptionDescription::default()
        });
        let names: Vec<_> = lag.partitions.iter().map(|partition| partition.consumers.join(" ")).collect();
        assert_eq!(names, ["a b", "at 1.2.3.4:5", ""]);
    }
}
