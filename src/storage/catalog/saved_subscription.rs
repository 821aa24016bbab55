//! What a subscription is on disk.

use prost::Message;

use super::saved::Saved;
use crate::engine::{CursorSnapshot, Eviction, Generation, Offset, OnOverflow, SubscriptionMode, SubscriptionSnapshot, Timestamp};

#[derive(Clone, PartialEq, Message)]
struct SubscriptionValue {
    #[prost(uint64, tag = "1")]
    created_at_micros: u64,
    #[prost(uint64, repeated, tag = "2")]
    acked: Vec<u64>,
    #[prost(uint64, repeated, tag = "3")]
    planned: Vec<u64>,
    #[prost(uint64, repeated, tag = "4")]
    skipped: Vec<u64>,
    /// Of a catalog that did not know it: when it was created.
    #[prost(optional, uint64, tag = "5")]
    generation: Option<u64>,
    /// 1: partitioned. Others are of versions to come.
    #[prost(uint32, tag = "6")]
    mode: u32,
    /// 0 holds, 1 skips, 2 is evicted.
    #[prost(uint32, tag = "40")]
    on_overflow: u32,
    #[prost(message, optional, tag = "41")]
    eviction: Option<EvictionValue>,
    /// None of a version that knew none.
    #[prost(uint64, repeated, tag = "42")]
    gaps: Vec<u64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct EvictionValue {
    #[prost(uint64, tag = "1")]
    at_micros: u64,
    #[prost(uint64, tag = "2")]
    lag_batches: u64,
    #[prost(uint64, tag = "3")]
    lag_bytes: u64,
    #[prost(uint64, tag = "4")]
    needed_bytes: u64,
}

impl Saved for SubscriptionSnapshot {
    fn to_value(&self) -> Vec<u8> {
        SubscriptionValue {
            created_at_micros: self.created_at.0,
            acked: self.cursors.iter().map(|cursor| cursor.acked.0).collect(),
            planned: self.cursors.iter().map(|cursor| cursor.planned.0).collect(),
            skipped: self.cursors.iter().map(|cursor| cursor.skipped).collect(),
            generation: Some(self.generation.0),
            mode: match self.mode {
                SubscriptionMode::Static => 0,
                SubscriptionMode::Partitioned => 1,
            },
            on_overflow: match self.on_overflow {
                OnOverflow::Hold => 0,
                OnOverflow::Skip => 1,
                OnOverflow::Evict => 2,
            },
            eviction: self.eviction.map(|Eviction { at, lag_batches, lag_bytes, needed_bytes }| EvictionValue {
                at_micros: at.0,
                lag_batches,
                lag_bytes,
                needed_bytes,
            }),
            gaps: self.cursors.iter().map(|cursor| cursor.gap).collect(),
        }
        .encode_to_vec()
    }

    fn from_value(value: &[u8]) -> Option<Self> {
        let value = SubscriptionValue::decode(value).ok()?;
        let is_whole = value.acked.len() == value.planned.len() && value.acked.len() == value.skipped.len();
        let gaps = value.gaps.iter().copied().chain(std::iter::repeat(0));
        let places = value.acked.iter().zip(&value.planned).zip(&value.skipped).zip(gaps);
        let cursors = places.map(|(((acked, planned), skipped), gap)| CursorSnapshot {
            acked: Offset(*acked),
            planned: Offset(*planned),
            skipped: *skipped,
            gap,
        });
        let on_overflow = match value.on_overflow {
            0 => OnOverflow::Hold,
            1 => OnOverflow::Skip,
            2 => OnOverflow::Evict,
            _ => return None,
        };
        let eviction = value.eviction.map(|EvictionValue { at_micros, lag_batches, lag_bytes, needed_bytes }| Eviction {
            at: Timestamp(at_micros),
            lag_batches,
            lag_bytes,
            needed_bytes,
        });
        let mode = match value.mode {
            0 => SubscriptionMode::Static,
            1 => SubscriptionMode::Partitioned,
            _ => return None,
        };
        is_whole.then(|| Self {
            on_overflow,
            eviction,
            created_at: Timestamp(value.created_at_micros),
            generation: Generation(value.generation.unwrap_or(value.created_at_micros)),
            mode,
            cursors: cursors.collect(),
        })
    }
}
