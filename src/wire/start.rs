//! Where a subscription starts, and how a seek moves it, to and from the messages of `proto/`.

use super::error::WireError;
use super::proto;
use super::proto::start_at::At;
use crate::engine::{Epoch, Offset, PartitionId, PartitionMove, ProducerId, Start, Timestamp};

/// The message of a start.
#[must_use]
pub fn message(start: &Start) -> proto::StartAt {
    let at = match start {
        Start::Earliest => At::Named(proto::Start::Earliest.into()),
        Start::Latest => At::Named(proto::Start::Latest.into()),
        Start::Offsets(offsets) => At::Offsets(proto::PartitionOffsets { offsets: offset_messages(offsets) }),
        Start::Time(time) => At::TimeMicros(time.0),
        Start::Epoch { producer, epoch } => {
            let producer = producer.as_ref().map_or_else(String::new, |producer| producer.as_str().to_owned());
            At::Epoch(proto::EpochStart { epoch: epoch.0, producer })
        }
    };
    proto::StartAt { at: Some(at) }
}

/// The start of a message.
///
/// # Errors
/// [`WireError::Invalid`] if it is of a newer version; [`WireError::Name`].
pub fn start(message: &proto::StartAt) -> Result<Start, WireError> {
    Ok(match &message.at {
        Some(At::Named(named)) => match proto::Start::try_from(*named) {
            Ok(named) => named_start(named),
            Err(_) => return Err(unknown()),
        },
        Some(At::Offsets(proto::PartitionOffsets { offsets })) => {
            Start::Offsets(offsets.iter().map(|at| (PartitionId(at.partition), Offset(at.offset))).collect())
        }
        Some(At::TimeMicros(time)) => Start::Time(Timestamp(*time)),
        Some(At::Epoch(proto::EpochStart { epoch, producer })) => {
            let producer = if producer.is_empty() { None } else { Some(ProducerId::new(producer)?) };
            Start::Epoch { producer, epoch: Epoch(*epoch) }
        }
        None => return Err(unknown()),
    })
}

/// A start that has a name.
#[must_use]
pub fn named_start(named: proto::Start) -> Start {
    match named {
        proto::Start::Unspecified | proto::Start::Earliest => Start::Earliest,
        proto::Start::Latest => Start::Latest,
    }
}

/// Offsets as messages.
pub fn offset_messages<'a>(offsets: impl IntoIterator<Item = (&'a PartitionId, &'a Offset)>) -> Vec<proto::PartitionOffset> {
    let message = |(partition, offset): (&PartitionId, &Offset)| proto::PartitionOffset { partition: partition.0, offset: offset.0 };
    offsets.into_iter().map(message).collect()
}

/// The messages of what a seek moves.
#[must_use]
pub fn move_messages(moves: &[PartitionMove]) -> Vec<proto::PartitionMove> {
    let message = |moved: &PartitionMove| proto::PartitionMove {
        partition: moved.partition.0,
        from: moved.from.0,
        to: moved.to.0,
        batches: moved.batches,
        rows: moved.rows,
        bytes: moved.bytes,
        gone_batches: moved.gone_batches,
    };
    moves.iter().map(message).collect()
}

/// What such messages say.
#[must_use]
pub fn moves(messages: &[proto::PartitionMove]) -> Vec<PartitionMove> {
    let moved = |message: &proto::PartitionMove| PartitionMove {
        partition: PartitionId(message.partition),
        from: Offset(message.from),
        to: Offset(message.to),
        batches: message.batches,
        rows: message.rows,
        bytes: message.bytes,
        gone_batches: message.gone_batches,
    };
    messages.iter().map(moved).collect()
}

fn unknown() -> WireError {
    WireError::Invalid { what: "start_at", reason: "it has no start that this version knows; set one of its fields".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_comes_out_as_it_went_in() {
        for text in ["earliest", "latest", "0:100,7:0", "offsets", "epoch:7", "epoch:0@a query", "2026-11-01T12:00:00.000001Z"] {
            let expected: Start = text.parse().expect(text);
            assert_eq!(start(&message(&expected)), Ok(expected));
        }
    }

    #[test]
    fn a_start_of_a_newer_version_is_refused() {
        for at in [None, Some(At::Named(99))] {
            let error = start(&proto::StartAt { at }).expect_err("nobody knows what it means");
            assert!(error.to_string().starts_with("invalid start_at: "), "{error}");
        }
        let bad_name = At::Epoch(proto::EpochStart { epoch: 1, producer: "a\nb".to_owned() });
        assert!(matches!(start(&proto::StartAt { at: Some(bad_name) }), Err(WireError::Name(_))));
    }

    #[test]
    fn a_move_comes_out_as_it_went_in() {
        let moved =
            PartitionMove { partition: PartitionId(1), from: Offset(2), to: Offset(3), batches: 4, rows: 5, bytes: 6, gone_batches: 7 };
        assert_eq!(moves(&move_messages(&[moved])), [moved]);
    }
}
