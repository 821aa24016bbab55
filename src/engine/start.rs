//! Where a subscription or a consumer starts, and how that is written.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::{Epoch, NameError, Offset, PartitionId, ProducerId, Timestamp};

/// Where a subscription starts, or is put by a seek. As text: `earliest`, `latest`, `0:100,1:50` (partitions and offsets; `offsets`
/// alone names none), `epoch:7`, `epoch:7@PRODUCER`, or a time such as `2026-11-01T12:00:00Z`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Start {
    /// At the oldest batch that is still kept. The default.
    #[default]
    Earliest,
    /// After the newest visible batch.
    Latest,
    /// At these offsets, each still kept. Partitions that are not named start at the earliest; a seek leaves them where they are.
    Offsets(BTreeMap<PartitionId, Offset>),
    /// In each partition at the first batch that the coordinator took at or after this time; where there is none, after the
    /// newest visible batch. A batch counts by when it was appended, not by when its epoch was committed.
    Time(Timestamp),
    /// In each partition at the first batch of this or a later epoch; where there is none, after the newest visible batch.
    Epoch {
        /// Whose epoch. None: of the only producer that commits epochs.
        producer: Option<ProducerId>,
        /// The epoch, at most one past the last that is committed.
        epoch: Epoch,
    },
}

/// How a seek moves a subscription in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionMove {
    /// The partition.
    pub partition: PartitionId,
    /// Where the subscription stood: one past its last acked batch.
    pub from: Offset,
    /// Where it stands then. Before `from`: what lies between is read again. Behind it: that is skipped.
    pub to: Offset,
    /// Batches that lie between.
    pub batches: u64,
    /// Their rows.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of a seek to the earliest, batches that lie before `to`: they are not kept any more. Every other start that would need
    /// them is refused.
    pub gone_batches: u64,
}

/// A text that is no [`Start`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// It is none of the forms.
    #[error(
        "{text:?} is no start; write earliest, latest, partitions and offsets such as 0:100,1:50, an epoch such as epoch:7 or epoch:7@PRODUCER, or a time such as 2026-11-01T12:00:00Z"
    )]
    Unreadable {
        /// The text.
        text: Box<str>,
    },
    /// The producer of an epoch has no name that a producer can have.
    #[error("the producer of an epoch to start at cannot be used: {0}")]
    Producer(#[from] NameError),
}

impl FromStr for Start {
    type Err = StartError;

    fn from_str(text: &str) -> Result<Self, StartError> {
        let start = match text {
            "earliest" => Some(Self::Earliest),
            "latest" => Some(Self::Latest),
            "offsets" => Some(Self::Offsets(BTreeMap::new())),
            _ => match text.strip_prefix("epoch:") {
                Some(epoch) => read_epoch(epoch)?,
                None => Timestamp::from_rfc3339(text).map(Self::Time).or_else(|| read_offsets(text)),
            },
        };
        start.ok_or_else(|| StartError::Unreadable { text: text.into() })
    }
}

fn read_epoch(text: &str) -> Result<Option<Start>, StartError> {
    let (number, producer) = match text.split_once('@') {
        Some((number, producer)) => (number, Some(ProducerId::new(producer)?)),
        None => (text, None),
    };
    Ok(number.parse().ok().map(|epoch| Start::Epoch { producer, epoch: Epoch(epoch) }))
}

fn read_offsets(text: &str) -> Option<Start> {
    let mut offsets = BTreeMap::new();
    for pair in text.split(',') {
        let (partition, offset) = pair.split_once(':')?;
        let (partition, offset) = (partition.trim().parse().ok()?, offset.trim().parse().ok()?);
        // Two offsets of one partition: nobody knows which is meant.
        if offsets.insert(PartitionId(partition), Offset(offset)).is_some() {
            return None;
        }
    }
    Some(Start::Offsets(offsets))
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Earliest => f.write_str("earliest"),
            Self::Latest => f.write_str("latest"),
            Self::Offsets(offsets) if offsets.is_empty() => f.write_str("offsets"),
            Self::Offsets(offsets) => {
                for (index, (partition, offset)) in offsets.iter().enumerate() {
                    write!(f, "{}{partition}:{offset}", if index > 0 { "," } else { "" })?;
                }
                Ok(())
            }
            Self::Time(time) => time.rfc3339().fmt(f),
            Self::Epoch { producer: None, epoch } => write!(f, "epoch:{epoch}"),
            Self::Epoch { producer: Some(producer), epoch } => write!(f, "epoch:{epoch}@{producer}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets<const N: usize>(offsets: [(u32, u64); N]) -> Start {
        Start::Offsets(offsets.into_iter().map(|(partition, offset)| (PartitionId(partition), Offset(offset))).collect())
    }

    fn epoch(producer: Option<&str>, epoch: u64) -> Start {
        Start::Epoch { producer: producer.map(|name| ProducerId::new(name).expect("a name")), epoch: Epoch(epoch) }
    }

    #[test]
    fn every_start_has_a_text_that_says_it() {
        for (text, start) in [
            ("earliest", Start::Earliest),
            ("latest", Start::Latest),
            ("0:100,1:50", offsets([(0, 100), (1, 50)])),
            ("offsets", offsets([])),
            ("epoch:7", epoch(None, 7)),
            ("epoch:7@a query, at home@work", epoch(Some("a query, at home@work"), 7)),
            ("2026-11-01T12:00:00Z", Start::Time(Timestamp(1_793_534_400_000_000))),
            ("2026-11-01T12:00:00.000001Z", Start::Time(Timestamp(1_793_534_400_000_001))),
        ] {
            assert_eq!(text.parse(), Ok(start.clone()));
            assert_eq!(start.to_string(), text);
        }
        assert_eq!(" 0:100, 2:5".parse(), Ok(offsets([(0, 100), (2, 5)])));
        assert_eq!("2026-11-01T14:00:00+02:00".parse(), "2026-11-01T12:00:00Z".parse::<Start>());
    }

    #[test]
    fn other_texts_say_what_to_write() {
        for text in ["", "0", "0:x", "first", "0:1,", "0:1,0:2", "-1:0", "epoch", "epoch:", "epoch:x", "epoch:-1@p", "2026-11-01", "Latest"]
        {
            let error = text.parse::<Start>().expect_err(text);
            assert_eq!(error, StartError::Unreadable { text: text.into() });
            assert!(error.to_string().contains("; write earliest, latest,"), "{error}");
        }
        assert!(matches!("epoch:7@".parse::<Start>(), Err(StartError::Producer(NameError::Empty { .. }))));
    }
}
