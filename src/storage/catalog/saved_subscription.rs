//! What a subscription is on disk.

use prost::Message;

use super::saved::Saved;
use crate::engine::{
    CursorSnapshot, Eviction, Generation, Offset, OnOverflow, PartitionId, Share, ShareSnapshot, SharesSnapshot, SharingRules, StreamName,
    SubscriptionMode, SubscriptionSnapshot, Timestamp,
};

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
    /// 1: partitioned, 2: shared. Others are of versions to come.
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
    /// Of a shared one.
    #[prost(message, optional, tag = "50")]
    shares: Option<SharesValue>,
    /// None of a version that knew none.
    #[prost(optional, string, tag = "60")]
    query: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct SharesValue {
    #[prost(uint32, tag = "1")]
    max_deliveries: u32,
    #[prost(bool, tag = "2")]
    bisect: bool,
    #[prost(string, tag = "3")]
    dead_letters: String,
    #[prost(string, repeated, tag = "4")]
    keys: Vec<String>,
    /// One per partition.
    #[prost(message, repeated, tag = "5")]
    given: Vec<GivenValue>,
    #[prost(message, repeated, tag = "6")]
    open: Vec<OpenValue>,
    #[prost(uint64, tag = "7")]
    next_number: u64,
}

#[derive(Clone, PartialEq, Message)]
struct GivenValue {
    #[prost(uint64, repeated, tag = "1")]
    offsets: Vec<u64>,
    #[prost(uint64, repeated, tag = "2")]
    rows: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct OpenValue {
    #[prost(uint32, tag = "1")]
    partition: u32,
    #[prost(uint64, tag = "2")]
    offset: u64,
    #[prost(uint64, tag = "3")]
    start: u64,
    #[prost(uint64, tag = "4")]
    end: u64,
    /// If not 0: in place of the rows.
    #[prost(uint64, tag = "5")]
    lanes: u64,
    #[prost(uint32, tag = "6")]
    failed: u32,
    #[prost(string, tag = "7")]
    reason: String,
    #[prost(optional, uint64, tag = "8")]
    dying: Option<u64>,
}

fn shares_value(shares: &SharesSnapshot) -> SharesValue {
    let given = |places: &Vec<(Offset, u64)>| GivenValue {
        offsets: places.iter().map(|(offset, _)| offset.0).collect(),
        rows: places.iter().map(|(_, row)| *row).collect(),
    };
    let open = |open: &ShareSnapshot| {
        let (start, end, lanes) = match open.share {
            Share::Rows { start, end } => (start, end, 0),
            Share::Lanes(mask) => (0, 0, mask),
        };
        let (partition, offset, reason) = (open.partition.0, open.offset.0, open.reason.to_string());
        OpenValue { partition, offset, start, end, lanes, failed: open.failed, reason, dying: open.dying }
    };
    SharesValue {
        max_deliveries: shares.rules.max_deliveries,
        bisect: shares.rules.bisect,
        dead_letters: shares.rules.dead_letters.to_string(),
        keys: shares.rules.keys.iter().map(ToString::to_string).collect(),
        given: shares.given.iter().map(given).collect(),
        open: shares.open.iter().map(open).collect(),
        next_number: shares.next_number,
    }
}

fn shares_of(value: SharesValue) -> Option<SharesSnapshot> {
    let given = |given: &GivenValue| given.offsets.iter().map(|offset| Offset(*offset)).zip(given.rows.iter().copied()).collect();
    let open = |open: OpenValue| ShareSnapshot {
        partition: PartitionId(open.partition),
        offset: Offset(open.offset),
        share: if open.lanes == 0 { Share::Rows { start: open.start, end: open.end } } else { Share::Lanes(open.lanes) },
        failed: open.failed,
        reason: open.reason.into(),
        dying: open.dying,
    };
    if value.open.iter().any(|open| open.start > open.end) {
        return None;
    }
    Some(SharesSnapshot {
        rules: SharingRules {
            max_deliveries: value.max_deliveries,
            bisect: value.bisect,
            dead_letters: StreamName::new(&value.dead_letters).ok()?,
            keys: value.keys.iter().map(|key| key.as_str().into()).collect(),
        },
        given: value.given.iter().map(given).collect(),
        open: value.open.into_iter().map(open).collect(),
        next_number: value.next_number,
    })
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
                SubscriptionMode::Shared => 2,
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
            shares: self.shares.as_ref().map(shares_value),
            query: self.query.as_deref().map(str::to_owned),
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
            2 => SubscriptionMode::Shared,
            _ => return None,
        };
        let shares = match value.shares {
            Some(shares) => Some(shares_of(shares)?),
            None => None,
        };
        let fits = |shares: &SharesSnapshot| shares.given.len() == value.acked.len();
        let is_whole = is_whole && shares.is_some() == (mode == SubscriptionMode::Shared) && shares.as_ref().is_none_or(fits);
        is_whole.then(|| Self {
            shares,
            on_overflow,
            query: value.query.map(Into::into),
            eviction,
            created_at: Timestamp(value.created_at_micros),
            generation: Generation(value.generation.unwrap_or(value.created_at_micros)),
            mode,
            cursors: cursors.collect(),
        })
    }
}
