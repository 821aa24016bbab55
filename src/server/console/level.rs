//! How much a stream's reasons press.

use std::time::Duration;

use crate::wire::lag::Lag;
use crate::wire::proto::StreamDescription;
use crate::wire::why::{Cause, Reason};

/// A subscription that has not moved for so long stands.
const STANDS: Duration = Duration::from_secs(10);

/// How much somebody should look at a stream: the higher the more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// Nobody waits for anything that somebody else should do.
    Calm,
    /// There is something to ack, and it is being done.
    Busy,
    /// It will block, or loses something, if nobody does anything.
    Attention,
    /// Somebody is held up.
    Blocked,
}

impl Level {
    pub(super) const ALL: [Self; 4] = [Self::Blocked, Self::Attention, Self::Busy, Self::Calm];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Busy => "busy",
            Self::Attention => "attention",
            Self::Blocked => "blocked",
        }
    }

    /// That of a reason of the stream.
    pub(super) fn of(reason: &Reason, stream: &StreamDescription) -> Self {
        match reason.cause {
            Cause::Failed => Self::Blocked,
            Cause::Log if !stream.log_waits_for.is_empty() => Self::Blocked,
            _ if reason.waits.as_ref().is_some_and(|waits| stream.waiting.iter().any(|wait| wait.producer == *waits)) => Self::Blocked,
            Cause::Evicted | Cause::ProducerLost => Self::Attention,
            Cause::Consumer | Cause::NoConsumer | Cause::NoSubscription if reason.waits.is_none() && is_full(stream) => Self::Attention,
            Cause::Consumer | Cause::NoConsumer if reason.waits.is_none() => lagging(reason, stream),
            Cause::Consumer
            | Cause::NoConsumer
            | Cause::NoSubscription
            | Cause::Epoch
            | Cause::Log
            | Cause::OnTheWay
            | Cause::NoBatches
            | Cause::Completed
            | Cause::Nobody => Self::Calm,
        }
    }
}

/// Whether there is no room for another batch.
fn is_full(stream: &StreamDescription) -> bool {
    holds(stream, 1)
}

fn is_half_full(stream: &StreamDescription) -> bool {
    holds(stream, 2)
}

/// Whether so many times what it holds is all that it may hold, or more.
fn holds(stream: &StreamDescription, times: u64) -> bool {
    let options = stream.options.unwrap_or_default();
    let reaches = |used: u64, limit: u64| used.saturating_mul(times) >= limit;
    match stream.is_durable {
        true => reaches(stream.logged_bytes, options.max_disk_bytes()),
        false => {
            reaches(stream.buffered_batches, options.max_buffered_batches()) || reaches(stream.buffered_bytes, options.max_buffered_bytes())
        }
    }
}

/// That of a subscription with something to ack: it presses if it stands, does not drain, and has consumers that should ack, or holds
/// more than half of the room. A batch that lies there for somebody who comes later is nobody's trouble.
fn lagging(reason: &Reason, stream: &StreamDescription) -> Level {
    let of = |name: &String| stream.subscriptions.iter().find(|one| one.subscription == *name);
    match reason.subscription.as_ref().and_then(of).map(Lag::of) {
        Some(lag) if lag.drains_in.is_none() && lag.held_for >= STANDS => match reason.cause {
            Cause::NoConsumer if !is_half_full(stream) => Level::Busy,
            _ => Level::Attention,
        },
        _ => Level::Busy,
    }
}
