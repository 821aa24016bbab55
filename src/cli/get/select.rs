//! Where to start reading, as it is written on the command line.

use std::str::FromStr;

use crate::client::{Offsets, ReadStart};
use crate::engine::{Offset, PartitionId, Start};

/// `earliest`, `latest` or `PARTITION:OFFSET,...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct From(pub(in crate::cli) ReadStart);

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "earliest" => Ok(Self(ReadStart::Cursor(Start::Earliest))),
            "latest" => Ok(Self(ReadStart::Cursor(Start::Latest))),
            _ => offsets(text)
                .map(|offsets| Self(ReadStart::Offsets(offsets)))
                .ok_or_else(|| format!("{text:?} is no start; write earliest, latest, or partitions and offsets such as 0:100,1:50")),
        }
    }
}

fn offsets(text: &str) -> Option<Offsets> {
    let pair = |pair: &str| {
        let (partition, offset) = pair.split_once(':')?;
        Some((PartitionId(partition.trim().parse().ok()?), Offset(offset.trim().parse().ok()?)))
    };
    text.split(',').map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_a_word_or_offsets() {
        assert_eq!("latest".parse(), Ok(From(ReadStart::Cursor(Start::Latest))));
        let offsets = Offsets::from([(PartitionId(0), Offset(100)), (PartitionId(2), Offset(5))]);
        assert_eq!("0:100, 2:5".parse(), Ok(From(ReadStart::Offsets(offsets))));
        for wrong in ["", "0", "0:x", "first", "0:1,"] {
            assert!(wrong.parse::<From>().is_err(), "{wrong}");
        }
    }
}
