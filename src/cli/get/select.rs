//! Where to start reading, as it is written on the command line.

use std::str::FromStr;

use crate::client::ReadStart;
use crate::engine::{Start, StartError};

/// `PARTITION:OFFSET,...`, whatever the subscription has acked; or another start, of a new subscription or of none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct From(pub(in crate::cli) ReadStart);

impl FromStr for From {
    type Err = StartError;

    fn from_str(text: &str) -> Result<Self, StartError> {
        Ok(Self(match text.parse()? {
            Start::Offsets(offsets) => ReadStart::Offsets(offsets),
            start => ReadStart::Cursor(start),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Offsets;
    use crate::engine::{Epoch, Offset, PartitionId};

    #[test]
    fn a_start_is_a_word_or_offsets() {
        assert_eq!("latest".parse(), Ok(From(ReadStart::Cursor(Start::Latest))));
        let offsets = Offsets::from([(PartitionId(0), Offset(100)), (PartitionId(2), Offset(5))]);
        assert_eq!("0:100, 2:5".parse(), Ok(From(ReadStart::Offsets(offsets))));
        assert_eq!("epoch:7".parse(), Ok(From(ReadStart::Cursor(Start::Epoch { producer: None, epoch: Epoch(7) }))));
        for wrong in ["", "0", "0:x", "first", "0:1,"] {
            assert!(wrong.parse::<From>().is_err(), "{wrong}");
        }
    }
}
