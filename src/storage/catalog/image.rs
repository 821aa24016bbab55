//! The catalog in memory, as the object store has it: every change as it is sent there, and what the changes so far add up to.

use std::collections::BTreeMap;

use prost::Message;

use super::saved::{Extent, Saved, SavedStream};
use super::{Change, StreamId};
use crate::engine::{Offset, PartitionId, PartitionSnapshot, ProducerId, ProducerSnapshot, SubscriptionName, SubscriptionSnapshot};

const STREAM: u32 = 1;
const DELETE: u32 = 2;
const PARTITION: u32 = 3;
const EXTENT: u32 = 4;
const SUBSCRIPTION: u32 = 5;
const PRODUCER: u32 = 6;

/// A change as bytes. Tags are forever.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SavedChange {
    /// Whose it is.
    #[prost(fixed64, tag = "1")]
    pub stream: u64,
    /// 1 the stream, 2 its end, 3 a partition, 4 an extent, 5 a subscription, 6 a producer.
    #[prost(uint32, tag = "2")]
    pub what: u32,
    /// The partition's number, where there is one.
    #[prost(uint32, tag = "3")]
    pub partition: u32,
    /// An extent's first offset.
    #[prost(uint64, tag = "4")]
    pub offset: u64,
    /// A subscription's or a producer's name.
    #[prost(string, tag = "5")]
    pub name: String,
    /// What the catalog keeps of it; none: it is gone.
    #[prost(bytes = "vec", optional, tag = "6")]
    pub value: Option<Vec<u8>>,
}

impl SavedChange {
    fn of(stream: StreamId, what: u32, value: Option<Vec<u8>>) -> Self {
        Self { stream: stream.0, what, value, ..Self::default() }
    }
}

impl From<&Change> for SavedChange {
    fn from(change: &Change) -> Self {
        match change {
            Change::Stream(id, saved) => Self::of(*id, STREAM, Some(saved.to_value())),
            Change::Delete(id) => Self::of(*id, DELETE, None),
            Change::Partition(id, partition, saved) => Self { partition: partition.0, ..Self::of(*id, PARTITION, Some(saved.to_value())) },
            Change::Extent(id, partition, first, extent) => {
                Self { partition: partition.0, offset: first.0, ..Self::of(*id, EXTENT, Some(extent.to_value())) }
            }
            Change::Subscription(id, name, saved) => {
                Self { name: name.as_str().to_owned(), ..Self::of(*id, SUBSCRIPTION, saved.as_ref().map(Saved::to_value)) }
            }
            Change::Producer(id, name, saved) => {
                Self { name: name.as_str().to_owned(), ..Self::of(*id, PRODUCER, saved.as_ref().map(Saved::to_value)) }
            }
        }
    }
}

impl TryFrom<&SavedChange> for Change {
    type Error = Unreadable;

    fn try_from(saved: &SavedChange) -> Result<Self, Unreadable> {
        let (id, partition, offset) = (StreamId(saved.stream), PartitionId(saved.partition), Offset(saved.offset));
        let bytes = saved.value.as_deref();
        Ok(match saved.what {
            STREAM => Self::Stream(id, value::<SavedStream>(bytes)?.ok_or(Unreadable)?),
            DELETE => Self::Delete(id),
            PARTITION => Self::Partition(id, partition, value::<PartitionSnapshot<()>>(bytes)?.ok_or(Unreadable)?),
            EXTENT => Self::Extent(id, partition, offset, value(bytes)?.ok_or(Unreadable)?),
            SUBSCRIPTION => {
                let name = SubscriptionName::new(&saved.name).map_err(|_| Unreadable)?;
                Self::Subscription(id, name, value::<SubscriptionSnapshot>(bytes)?)
            }
            PRODUCER => {
                let name = ProducerId::new(&saved.name).map_err(|_| Unreadable)?;
                Self::Producer(id, name, value::<ProducerSnapshot>(bytes)?)
            }
            _ => return Err(Unreadable),
        })
    }
}

/// A change that this version does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a change of the catalog cannot be read")]
pub struct Unreadable;

fn value<T: Saved>(bytes: Option<&[u8]>) -> Result<Option<T>, Unreadable> {
    bytes.map(|bytes| T::from_value(bytes).ok_or(Unreadable)).transpose()
}

/// What changes so far add up to: of everything that is there, the newest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    /// By stream, what, partition, offset and name.
    values: BTreeMap<(u64, u32, u32, u64, String), Vec<u8>>,
}

impl Image {
    /// Takes one more. The same one twice changes nothing.
    pub fn apply(&mut self, change: &SavedChange) {
        let SavedChange { stream, what, partition, offset, name, value } = change;
        if *what == DELETE {
            self.remove_within((*stream, 0, 0, 0), (*stream, u32::MAX, u32::MAX, u64::MAX), |_, _| true);
            return;
        }
        let key = (*stream, *what, *partition, *offset, name.clone());
        match value {
            None => drop(self.values.remove(&key)),
            Some(value) => {
                if *what == PARTITION
                    && let Some(PartitionSnapshot { start, .. }) = PartitionSnapshot::<()>::from_value(value)
                {
                    self.drop_extents(*stream, *partition, start.0);
                }
                self.values.insert(key, value.clone());
            }
        }
    }

    /// All that is there, in an order in which it can be applied.
    pub fn changes(&self) -> impl Iterator<Item = SavedChange> {
        self.values.iter().map(|((stream, what, partition, offset, name), value)| SavedChange {
            stream: *stream,
            what: *what,
            partition: *partition,
            offset: *offset,
            name: name.clone(),
            value: Some(value.clone()),
        })
    }

    /// Whether there is such a stream.
    #[must_use]
    pub fn has_stream(&self, id: StreamId) -> bool {
        self.values.contains_key(&(id.0, STREAM, 0, 0, String::new()))
    }

    /// Extents that are wholly before the start. One that the start lies in stays.
    fn drop_extents(&mut self, stream: u64, partition: u32, start: u64) {
        let is_before =
            |first: u64, value: &[u8]| Extent::from_value(value).is_some_and(|extent| first.saturating_add(extent.count()) <= start);
        if let Some(last) = start.checked_sub(1) {
            self.remove_within((stream, EXTENT, partition, 0), (stream, EXTENT, partition, last), is_before);
        }
    }

    /// Removes what is asked for between two keys, both included.
    fn remove_within(&mut self, from: (u64, u32, u32, u64), to: (u64, u32, u32, u64), is_gone: impl Fn(u64, &[u8]) -> bool) {
        let key = |(stream, what, partition, offset)| (stream, what, partition, offset, String::new());
        let gone = self.values.range(key(from)..).take_while(|((a, b, c, d, _), _)| (*a, *b, *c, *d) <= to);
        let gone: Vec<_> = gone.filter(|(key, value)| is_gone(key.3, value)).map(|(key, _)| key.clone()).collect();
        gone.iter().for_each(|key| drop(self.values.remove(key)));
    }
}
