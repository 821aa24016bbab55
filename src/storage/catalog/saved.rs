//! What the catalog's values are on disk: protobuf, so that a newer version may add fields. Tags are forever.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;

use crate::engine::{
    Dropped, Epoch, EpochTotals, FullPolicy, Limits, Offset, PartitionSnapshot, ProducerId, ProducerSnapshot, Retention, RunId,
    SchemaPolicy, StreamName, StreamOptions, StreamState, Timestamp, Visibility,
};

/// A stream but for its partitions, subscriptions and producers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedStream {
    /// Its name.
    pub name: StreamName,
    /// Its options.
    pub options: StreamOptions,
    /// Its encoded schema messages, by version.
    pub schemas: Vec<Arc<[u8]>>,
    /// Whether it goes on.
    pub state: StreamState,
    /// Its epochs.
    pub epochs: EpochTotals,
}

/// Where batches with consecutive offsets lie.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Extent {
    /// One behind the other.
    #[prost(message, repeated, tag = "1")]
    pub runs: Vec<Run>,
}

/// Batches of one segment.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Run {
    /// The segment's number.
    #[prost(uint64, tag = "1")]
    pub segment: u64,
    /// Where each of them begins in the segment, in the order of their offsets.
    #[prost(uint64, repeated, tag = "2")]
    pub starts: Vec<u64>,
}

impl Extent {
    /// How many batches there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.runs.iter().map(|run| run.starts.len() as u64).sum()
    }

    /// Adds the next batch.
    pub fn push(&mut self, segment: u64, start: u64) {
        match self.runs.last_mut() {
            Some(run) if run.segment == segment => run.starts.push(start),
            _ => self.runs.push(Run { segment, starts: vec![start] }),
        }
    }

    /// Each batch's segment and start.
    pub fn places(&self) -> impl Iterator<Item = (u64, u64)> {
        self.runs.iter().flat_map(|run| run.starts.iter().map(|start| (run.segment, *start)))
    }
}

#[derive(Clone, PartialEq, Message)]
struct StreamValue {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "2")]
    partitions: u32,
    #[prost(uint64, tag = "3")]
    max_buffered_batches: u64,
    #[prost(uint64, tag = "4")]
    max_buffered_bytes: u64,
    #[prost(uint64, tag = "5")]
    max_spool_bytes: u64,
    #[prost(uint64, tag = "6")]
    max_disk_bytes: u64,
    #[prost(bool, tag = "7")]
    is_immediate: bool,
    /// 0 waits, 1 rejects, 2 drops the oldest, 3 spills.
    #[prost(uint32, tag = "8")]
    full_policy: u32,
    #[prost(bytes = "vec", optional, tag = "9")]
    first_schema: Option<Vec<u8>>,
    #[prost(bool, tag = "10")]
    is_completed: bool,
    #[prost(string, optional, tag = "11")]
    failed: Option<String>,
    #[prost(uint64, tag = "12")]
    epochs_committed: u64,
    #[prost(uint64, tag = "13")]
    epochs_aborted: u64,
    #[prost(uint64, tag = "14")]
    epochs_replayed: u64,
    #[prost(uint64, tag = "15")]
    retain_ms: u64,
    #[prost(uint64, tag = "16")]
    retain_bytes: u64,
    /// None: as long as its client does.
    #[prost(uint64, optional, tag = "40")]
    max_wait_micros: Option<u64>,
    /// None: of a version that knew none.
    #[prost(uint32, optional, tag = "41")]
    resume_percent: Option<u32>,
    /// Versions 1 and on.
    #[prost(bytes = "vec", repeated, tag = "20")]
    later_schemas: Vec<Vec<u8>>,
    /// 0 strict, 1 additive, 2 widening.
    #[prost(uint32, tag = "21")]
    schema_policy: u32,
}

#[derive(Clone, PartialEq, Message)]
struct PartitionValue {
    #[prost(uint64, tag = "1")]
    start: u64,
    #[prost(uint64, tag = "2")]
    rows_before: u64,
    #[prost(uint64, tag = "3")]
    bytes_before: u64,
    /// None: nothing was dropped, or by a version that kept no account of it.
    #[prost(uint64, optional, tag = "4")]
    dropped_newest_at_micros: Option<u64>,
    #[prost(message, repeated, tag = "5")]
    dropped_epochs: Vec<DroppedEpoch>,
    /// Of producers that have no entry of their own.
    #[prost(uint64, optional, tag = "6")]
    dropped_epoch_of_others: Option<u64>,
}

/// The newest epoch of a producer of which something was dropped.
#[derive(Clone, PartialEq, Message)]
struct DroppedEpoch {
    #[prost(string, tag = "1")]
    producer: String,
    #[prost(uint64, tag = "2")]
    epoch: u64,
}

#[derive(Clone, PartialEq, Message)]
struct ProducerValue {
    #[prost(string, tag = "1")]
    run: String,
    #[prost(string, repeated, tag = "2")]
    superseded: Vec<String>,
    #[prost(uint64, optional, tag = "3")]
    committed: Option<u64>,
    #[prost(uint64, tag = "4")]
    next_ordinal: u64,
    #[prost(uint64, optional, tag = "5")]
    lease_micros: Option<u64>,
    #[prost(uint64, repeated, tag = "6")]
    stored_ahead: Vec<u64>,
}

/// What is written as one value, and read back. None: it is not what this version writes.
pub(super) trait Saved: Sized {
    fn to_value(&self) -> Vec<u8>;
    fn from_value(value: &[u8]) -> Option<Self>;
}

impl Saved for SavedStream {
    fn to_value(&self) -> Vec<u8> {
        let StreamOptions { partitions, limits, visibility, full_policy, retention, max_wait, resume_percent, schema_policy } =
            &self.options;
        StreamValue {
            name: self.name.as_str().to_owned(),
            partitions: *partitions,
            max_buffered_batches: limits.max_buffered_batches,
            max_buffered_bytes: limits.max_buffered_bytes,
            max_spool_bytes: limits.max_spool_bytes,
            max_disk_bytes: limits.max_disk_bytes,
            is_immediate: *visibility == Visibility::Immediate,
            full_policy: match full_policy {
                FullPolicy::Wait => 0,
                FullPolicy::Reject => 1,
                FullPolicy::DropOldest => 2,
                FullPolicy::Spill => 3,
            },
            first_schema: self.schemas.first().map(|schema| schema.to_vec()),
            is_completed: self.state == StreamState::Completed,
            failed: match &self.state {
                StreamState::Failed { reason } => Some(reason.to_string()),
                StreamState::Open | StreamState::Completed => None,
            },
            epochs_committed: self.epochs.committed,
            epochs_aborted: self.epochs.aborted,
            epochs_replayed: self.epochs.replayed,
            retain_ms: u64::try_from(retention.time.as_millis()).unwrap_or(u64::MAX),
            retain_bytes: retention.bytes,
            max_wait_micros: max_wait.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
            resume_percent: Some(*resume_percent),
            later_schemas: self.schemas.iter().skip(1).map(|schema| schema.to_vec()).collect(),
            schema_policy: match schema_policy {
                SchemaPolicy::Strict => 0,
                SchemaPolicy::Additive => 1,
                SchemaPolicy::Widening => 2,
            },
        }
        .encode_to_vec()
    }

    fn from_value(value: &[u8]) -> Option<Self> {
        let value = StreamValue::decode(value).ok()?;
        Some(Self {
            name: StreamName::new(&value.name).ok()?,
            options: StreamOptions {
                partitions: value.partitions,
                limits: Limits {
                    max_buffered_batches: value.max_buffered_batches,
                    max_buffered_bytes: value.max_buffered_bytes,
                    max_spool_bytes: value.max_spool_bytes,
                    max_disk_bytes: value.max_disk_bytes,
                },
                visibility: if value.is_immediate { Visibility::Immediate } else { Visibility::Committed },
                full_policy: match value.full_policy {
                    0 => FullPolicy::Wait,
                    1 => FullPolicy::Reject,
                    2 => FullPolicy::DropOldest,
                    3 => FullPolicy::Spill,
                    _ => return None,
                },
                retention: Retention { time: Duration::from_millis(value.retain_ms), bytes: value.retain_bytes },
                max_wait: value.max_wait_micros.map(Duration::from_micros),
                resume_percent: value.resume_percent.unwrap_or(StreamOptions::default().resume_percent),
                schema_policy: match value.schema_policy {
                    0 => SchemaPolicy::Strict,
                    1 => SchemaPolicy::Additive,
                    2 => SchemaPolicy::Widening,
                    _ => return None,
                },
            },
            schemas: value.first_schema.into_iter().chain(value.later_schemas).map(Into::into).collect(),
            state: match value.failed {
                Some(reason) => StreamState::Failed { reason: reason.into() },
                None if value.is_completed => StreamState::Completed,
                None => StreamState::Open,
            },
            epochs: EpochTotals { committed: value.epochs_committed, aborted: value.epochs_aborted, replayed: value.epochs_replayed },
        })
    }
}

impl Saved for PartitionSnapshot<()> {
    fn to_value(&self) -> Vec<u8> {
        let Dropped { newest_at, epochs, others } = &self.dropped;
        let epochs = epochs.iter().map(|(producer, epoch)| DroppedEpoch { producer: producer.as_str().to_owned(), epoch: epoch.0 });
        PartitionValue {
            start: self.start.0,
            rows_before: self.rows_before,
            bytes_before: self.bytes_before,
            dropped_newest_at_micros: newest_at.map(|time| time.0),
            dropped_epochs: epochs.collect(),
            dropped_epoch_of_others: others.map(|epoch| epoch.0),
        }
        .encode_to_vec()
    }

    fn from_value(value: &[u8]) -> Option<Self> {
        let value = PartitionValue::decode(value).ok()?;
        let epoch = |dropped: &DroppedEpoch| Some((ProducerId::new(&dropped.producer).ok()?, Epoch(dropped.epoch)));
        let dropped = Dropped {
            newest_at: value.dropped_newest_at_micros.map(Timestamp),
            epochs: value.dropped_epochs.iter().map(epoch).collect::<Option<_>>()?,
            others: value.dropped_epoch_of_others.map(Epoch),
        };
        let PartitionValue { start, rows_before, bytes_before, .. } = value;
        Some(Self { start: Offset(start), rows_before, bytes_before, dropped, batches: Vec::new() })
    }
}

impl Saved for Extent {
    fn to_value(&self) -> Vec<u8> {
        self.encode_to_vec()
    }

    fn from_value(value: &[u8]) -> Option<Self> {
        Self::decode(value).ok()
    }
}

impl Saved for ProducerSnapshot {
    fn to_value(&self) -> Vec<u8> {
        ProducerValue {
            run: self.run.as_str().to_owned(),
            superseded: self.superseded.iter().map(|run| run.as_str().to_owned()).collect(),
            committed: self.committed.map(|epoch| epoch.0),
            next_ordinal: self.next_ordinal,
            stored_ahead: self.stored_ahead.iter().copied().collect(),
            lease_micros: self.lease.map(|lease| u64::try_from(lease.as_micros()).unwrap_or(u64::MAX)),
        }
        .encode_to_vec()
    }

    fn from_value(value: &[u8]) -> Option<Self> {
        let value = ProducerValue::decode(value).ok()?;
        Some(Self {
            run: RunId::new(&value.run).ok()?,
            superseded: value.superseded.iter().map(|run| RunId::new(run).ok()).collect::<Option<_>>()?,
            committed: value.committed.map(Epoch),
            next_ordinal: value.next_ordinal,
            stored_ahead: value.stored_ahead.into_iter().collect(),
            lease: value.lease_micros.map(Duration::from_micros),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tags 1 to 3 are all that versions wrote that kept no account of what they dropped.
    #[test]
    fn a_partition_of_an_older_version_can_be_read() {
        let older = [0x08, 7, 0x10, 70, 0x18, 100];
        let found = PartitionSnapshot::<()>::from_value(&older).expect("is read");
        let start = PartitionSnapshot { start: Offset(7), rows_before: 70, bytes_before: 100, ..PartitionSnapshot::default() };
        assert_eq!(found, start);
        assert_eq!(found.to_value(), older, "what is not known is not written");
    }
}
