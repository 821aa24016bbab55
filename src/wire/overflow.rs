//! What subscriptions do where room runs out, to and from the messages of `proto/`.

use super::error::WireError;
use super::proto;
use crate::engine::{Eviction, OnOverflow, Timestamp};

/// What a request asks for.
#[must_use]
pub fn on_overflow(asked: proto::OnOverflow) -> OnOverflow {
    match asked {
        proto::OnOverflow::Unspecified | proto::OnOverflow::Hold => OnOverflow::Hold,
        proto::OnOverflow::Skip => OnOverflow::Skip,
        proto::OnOverflow::Evict => OnOverflow::Evict,
    }
}

/// What a text asks for; none: to hold.
///
/// # Errors
/// `invalid_argument` for any other name.
pub fn named(name: Option<&str>) -> Result<proto::OnOverflow, WireError> {
    let Some(name) = name else { return Ok(proto::OnOverflow::Unspecified) };
    let unknown = || WireError::Invalid { what: "on_overflow", reason: format!("it is {name:?}; use \"hold\", \"skip\" or \"evict\"") };
    OnOverflow::from_name(name).map(message).ok_or_else(unknown)
}

/// The same as a message.
#[must_use]
pub fn message(asked: OnOverflow) -> proto::OnOverflow {
    match asked {
        OnOverflow::Hold => proto::OnOverflow::Hold,
        OnOverflow::Skip => proto::OnOverflow::Skip,
        OnOverflow::Evict => proto::OnOverflow::Evict,
    }
}

/// An eviction as a message.
#[must_use]
pub fn eviction_message(eviction: Eviction) -> proto::Eviction {
    let Eviction { at: Timestamp(at_micros), lag_batches, lag_bytes, needed_bytes } = eviction;
    proto::Eviction { at_micros, lag_batches, lag_bytes, needed_bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_comes_back_as_it_was() {
        for asked in [OnOverflow::Hold, OnOverflow::Skip, OnOverflow::Evict] {
            assert_eq!(on_overflow(message(asked)), asked);
            assert_eq!(named(Some(asked.as_str())), Ok(message(asked)));
        }
        assert_eq!(named(None).map(on_overflow), Ok(OnOverflow::default()));
        let refused = named(Some("drop")).expect_err("is none");
        assert!(refused.to_string().contains("\"drop\""), "{refused}");
    }
}
