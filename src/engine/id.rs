//! Names and numbers of the domain, as types that cannot be mixed up.

use std::fmt;

/// Longest name of a stream, subscription, producer or run, in bytes: names are kept per connection and
/// printed as metric labels.
const NAME_BYTES_MAX: usize = 256;

/// A name that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name has no characters.
    #[error("a {noun} needs a name, but it is empty")]
    Empty {
        /// What was to be named.
        noun: &'static str,
    },
    /// The name is longer than 256 bytes.
    #[error("the name of a {noun} has at most {NAME_BYTES_MAX} bytes, but this one has {bytes}")]
    TooLong {
        /// What was to be named.
        noun: &'static str,
        /// Its length in bytes.
        bytes: usize,
    },
    /// The name has a control character.
    #[error("the name of a {noun} has no control characters, but this one has {character:?} at byte {at}")]
    Control {
        /// What was to be named.
        noun: &'static str,
        /// The offending character.
        character: char,
        /// Where it stands, in bytes from the start.
        at: usize,
    },
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $noun:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// Checks and wraps a name: 1 to 256 bytes, no control characters.
            ///
            /// # Errors
            /// [`NameError`] says what is wrong with the name.
            pub fn new(name: &str) -> Result<Self, NameError> {
                check_name($noun, name)?;
                Ok(Self(name.into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn check_name(noun: &'static str, name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty { noun });
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong { noun, bytes: name.len() });
    }
    match name.char_indices().find(|(_, character)| character.is_control()) {
        Some((at, character)) => Err(NameError::Control { noun, character, at }),
        None => Ok(()),
    }
}

name_type!(
    /// The name of a stream: unique within a coordinator.
    StreamName, "stream"
);
name_type!(
    /// The name of a subscription: unique within its stream.
    SubscriptionName, "subscription"
);
name_type!(
    /// What a consumer calls itself, for whoever looks who reads: "host/pid" unless told otherwise. It need not be unique.
    ConsumerName, "consumer"
);
name_type!(
    /// A producer's stable identity, for instance a Spark query id: the same after a restart.
    ProducerId, "producer"
);
name_type!(
    /// One run of a producer, for instance a Spark query's run id: new at every start. A newer run fences
    /// the older ones.
    RunId, "run"
);

macro_rules! number_type {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_type!(
    /// A version of a stream's schema: 0, 1, 2, ... in the order in which producers brought them.
    SchemaVersion(u32)
);

number_type!(
    /// A partition's number within its stream: 0 to partitions - 1.
    PartitionId(u32)
);
number_type!(
    /// A batch's number in its partition: 0, 1, 2, ... consecutive, never reused.
    Offset(u64)
);
number_type!(
    /// A producer's atomic unit; Spark's batch id. Grows within a producer, gaps are allowed.
    Epoch(u64)
);
number_type!(
    /// A task within an epoch; Spark's partition id.
    Task(u32)
);
number_type!(
    /// One try of a task; Spark's task attempt id.
    Attempt(u64)
);
number_type!(
    /// An open appender of a stream: what a `DoPut` holds. Never reused within a stream.
    AppenderId(u64)
);
number_type!(
    /// What tells a stream from another one of the same name, created later: drawn at random at creation.
    StreamId(u64)
);
number_type!(
    /// Tells a subscription's cursors apart: a new one when it is made, and with each seek. What an older one acked is of no
    /// more use.
    Generation(u64)
);
number_type!(
    /// A consumer that shares a subscription with others: drawn by its client at random.
    ConsumerId(u64)
);
number_type!(
    /// One lease: a new one each time that something is leased, never reused within a subscription. Who acks names it.
    LeaseId(u64)
);
number_type!(
    /// Microseconds since the Unix epoch, as the caller's clock says.
    Timestamp(u64)
);

impl PartitionId {
    /// The partition at an index of a list of partitions, of which there are at most 4096.
    pub(super) fn of(index: usize) -> Self {
        Self(u32::try_from(index).unwrap_or(u32::MAX))
    }

    /// The index into a list of partitions.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl Offset {
    /// The offset `batches` further on; saturates, since 2^64 batches are never reached.
    #[must_use]
    pub fn plus(self, batches: u64) -> Self {
        Self(self.0.saturating_add(batches))
    }

    /// How many batches lie in `[start, self)`; zero if `start` is ahead.
    #[must_use]
    pub fn since(self, start: Self) -> u64 {
        self.0.saturating_sub(start.0)
    }
}

impl Timestamp {
    /// Time passed since `earlier`; zero if the clock went back.
    #[must_use]
    pub fn since(self, earlier: Self) -> std::time::Duration {
        std::time::Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// The time `duration` later; saturates.
    #[must_use]
    pub fn plus(self, duration: std::time::Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_1_to_256_bytes_and_no_control_characters() {
        assert!(StreamName::new("s").is_ok());
        assert!(StreamName::new(&"x".repeat(256)).is_ok());
        assert_eq!(StreamName::new(""), Err(NameError::Empty { noun: "stream" }));
        assert_eq!(StreamName::new(&"x".repeat(257)), Err(NameError::TooLong { noun: "stream", bytes: 257 }));
        assert_eq!(SubscriptionName::new("a\nb"), Err(NameError::Control { noun: "subscription", character: '\n', at: 1 }));
    }
}
