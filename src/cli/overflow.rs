//! What happens where room runs out, as arguments and in words.

use clap::ValueEnum;
use serde_json::{Value, json};

use super::quantity::{Span, batches, bytes};
use super::report;
use crate::engine::{OnOverflow, Timestamp};
use crate::wire;
use crate::wire::proto::{Eviction, StreamOptions, SubscriptionDescription};

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum OnOverflowArg {
    /// It holds back producers, as far as the stream's full policy allows
    Hold,
    /// The oldest batches are dropped for it alone, and its consumers told of the gap
    Skip,
    /// It is evicted, and its consumers are refused until a seek
    Evict,
}

impl OnOverflowArg {
    pub(super) fn asked(self) -> OnOverflow {
        match self {
            Self::Hold => OnOverflow::Hold,
            Self::Skip => OnOverflow::Skip,
            Self::Evict => OnOverflow::Evict,
        }
    }
}

/// "hold", "skip" or "evict".
pub(super) fn name(subscription: &SubscriptionDescription) -> &'static str {
    wire::overflow::on_overflow(subscription.on_overflow()).as_str()
}

pub(super) fn eviction_json(eviction: &Eviction) -> Value {
    json!({
        "at": Timestamp(eviction.at_micros).rfc3339().to_string(),
        "lag_batches": eviction.lag_batches,
        "lag_bytes": eviction.lag_bytes,
        "needed_bytes": eviction.needed_bytes,
    })
}

/// "wait, for 2s at most; goes on at 50%".
pub(super) fn policy(options: &StreamOptions) -> String {
    let wait = match options.max_wait_ms() {
        0 => String::new(),
        ms => format!(", for {} at most", Span(std::time::Duration::from_millis(ms))),
    };
    let resume = match options.resume_percent {
        None | Some(100) => String::new(),
        Some(percent) => format!("; goes on at {percent}%"),
    };
    format!("{}{wait}{resume}", report::full_policy(options))
}

/// What a subscription does that holds room which is needed, and whether it was evicted.
pub(super) fn line(subscription: &SubscriptionDescription) -> String {
    let does = name(subscription);
    match &subscription.eviction {
        None => format!("  on overflow: {does}"),
        Some(Eviction { at_micros, lag_batches, lag_bytes, .. }) => format!(
            "  on overflow: {does}; evicted at {}, {}, {} behind",
            Timestamp(*at_micros).rfc3339(),
            batches(*lag_batches),
            bytes(*lag_bytes)
        ),
    }
}
