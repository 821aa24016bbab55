//! What overflow does and has done: subscriptions that were evicted, a stream that drains, and what the next append meets.

use super::words::{batches, bytes, count};
use super::{Cause, Reason};
use crate::engine::Timestamp;
use crate::wire::proto::{Eviction, FullPolicy, OnOverflow, StreamDescription, SubscriptionDescription};

/// That a subscription was evicted, if it was.
pub(super) fn evicted(subscription: &SubscriptionDescription) -> Option<Reason> {
    let Eviction { at_micros, lag_batches, lag_bytes, needed_bytes } = subscription.eviction?;
    let text = format!(
        "subscription {} was evicted at {}: an append needed {} of room, and it alone held some of the {}, {}, that it had not acked; its consumers are refused until a seek puts it somewhere, or it is deleted",
        subscription.subscription,
        Timestamp(at_micros).rfc3339(),
        bytes(needed_bytes),
        batches(lag_batches),
        bytes(lag_bytes)
    );
    Some(Reason { cause: Cause::Evicted, waits: None, subscription: Some(subscription.subscription.clone()), since: None, text })
}

/// "it has fallen from 40 batches to 32": what is still above the low watermark.
pub(super) fn low(stream: &StreamDescription) -> String {
    let options = stream.options.unwrap_or_default();
    let percent = u128::from(options.resume_percent());
    let part = |limit: u64| u64::try_from(u128::from(limit) * percent / 100).unwrap_or(u64::MAX);
    if stream.is_durable {
        return format!("its log has fallen from {} to {}", bytes(stream.logged_bytes), bytes(part(options.max_disk_bytes())));
    }
    let (batches_low, bytes_low) = (part(options.max_buffered_batches()), part(options.max_buffered_bytes()));
    let of_batches = format!("from {} to {}", batches(stream.buffered_batches), count(batches_low));
    let of_bytes = format!("from {} to {}", bytes(stream.buffered_bytes), bytes(bytes_low));
    match (stream.buffered_batches > batches_low, stream.buffered_bytes > bytes_low) {
        (true, true) => format!("it has fallen {of_batches}, and {of_bytes}"),
        (false, true) => format!("it has fallen {of_bytes}"),
        (_, false) => format!("it has fallen {of_batches}"),
    }
}

/// What the next append of a full stream meets, where a subscription holds the room or nobody is known to.
pub(super) fn next(stream: &StreamDescription, subscription: Option<&str>) -> String {
    let options = stream.options.unwrap_or_default();
    let holder = stream.subscriptions.iter().find(|one| Some(one.subscription.as_str()) == subscription);
    let spool = || format!("{} of {}", bytes(stream.spooled_bytes), bytes(options.max_spool_bytes()));
    match (options.full_policy(), holder.filter(|one| holds_alone(stream, one)).map(|one| one.on_overflow())) {
        (FullPolicy::Spill, _) if !stream.is_durable && stream.spooled_bytes < options.max_spool_bytes() => {
            format!("what comes next goes to the spool, which has {}", spool())
        }
        (_, Some(OnOverflow::Evict)) => "the next append evicts it".to_owned(),
        (_, Some(OnOverflow::Skip)) => "the next append makes it skip the oldest batches".to_owned(),
        (FullPolicy::Unspecified | FullPolicy::Wait | FullPolicy::Spill, _) => "the next append waits".to_owned(),
        (FullPolicy::Reject, _) => "the next append is refused".to_owned(),
        (FullPolicy::DropOldest, _) => "the next append drops the oldest batches".to_owned(),
    }
}

/// Whether in some partition everybody else who would hold it back has acked more.
fn holds_alone(stream: &StreamDescription, subscription: &SubscriptionDescription) -> bool {
    let others = || {
        let others = stream.subscriptions.iter().filter(|one| one.eviction.is_none() && one.subscription != subscription.subscription);
        others.filter(|one| matches!(one.on_overflow(), OnOverflow::Hold | OnOverflow::Unspecified))
    };
    subscription
        .partitions
        .iter()
        .filter(|own| own.lag_batches > 0)
        .any(|own| others().flat_map(|one| &one.partitions).filter(|one| one.partition == own.partition).all(|one| one.acked > own.acked))
}
