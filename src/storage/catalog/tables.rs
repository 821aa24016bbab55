//! The catalog's tables. Everything of a stream is under its id.

use redb::{Error, ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};

use super::saved::Saved;
use super::{Change, Extent, FoundStream, Marker};
use crate::engine::{Offset, PartitionId, ProducerId, ProducerSnapshot, StreamId, SubscriptionName};

/// Of the data directory as a whole. 1: the first.
pub(super) const FORMAT: u32 = 1;

const ABOUT: TableDefinition<&str, u32> = TableDefinition::new("about");
const STREAMS: TableDefinition<u64, &[u8]> = TableDefinition::new("streams");
const PARTITIONS: TableDefinition<(u64, u32), &[u8]> = TableDefinition::new("partitions");
const EXTENTS: TableDefinition<(u64, u32, u64), &[u8]> = TableDefinition::new("extents");
const SUBSCRIPTIONS: TableDefinition<(u64, &str), &[u8]> = TableDefinition::new("subscriptions");
const PRODUCERS: TableDefinition<(u64, &str), &[u8]> = TableDefinition::new("producers");

/// Which object store has all of it, if one has.
const MARKER: TableDefinition<&str, &str> = TableDefinition::new("object store");

/// The key of the format's version.
const VERSION: &str = "format";

/// Makes the tables of a new catalog. Gives the version of one that is newer than what is known here.
pub(super) fn check_format(writing: &WriteTransaction) -> Result<Option<u32>, Error> {
    let mut about = writing.open_table(ABOUT)?;
    let found = about.get(VERSION)?.map(|version| version.value());
    match found {
        Some(found) if found > FORMAT => return Ok(Some(found)),
        Some(_) => {}
        None => drop(about.insert(VERSION, FORMAT)?),
    }
    writing.open_table(STREAMS)?;
    writing.open_table(PARTITIONS)?;
    writing.open_table(EXTENTS)?;
    writing.open_table(SUBSCRIPTIONS)?;
    writing.open_table(PRODUCERS)?;
    writing.open_table(MARKER)?;
    Ok(None)
}

/// Removes all streams.
pub(super) fn clear(writing: &WriteTransaction) -> Result<(), Error> {
    writing.delete_table(STREAMS)?;
    writing.delete_table(PARTITIONS)?;
    writing.delete_table(EXTENTS)?;
    writing.delete_table(SUBSCRIPTIONS)?;
    writing.delete_table(PRODUCERS)?;
    Ok(())
}

pub(super) fn mark(writing: &WriteTransaction, Marker { store, owner, place }: &Marker) -> Result<(), Error> {
    let mut marker = writing.open_table(MARKER)?;
    for (key, value) in [("store", store), ("owner", owner), ("place", place)] {
        marker.insert(key, value.as_str())?;
    }
    Ok(())
}

pub(super) fn marker(reading: &ReadTransaction) -> Result<Option<Marker>, Error> {
    let marker = reading.open_table(MARKER)?;
    let text = |key| Ok::<_, Error>(marker.get(key)?.map(|value| value.value().to_owned()));
    let (store, owner, place) = (text("store")?, text("owner")?, text("place")?);
    Ok(store.zip(owner).zip(place).map(|((store, owner), place)| Marker { store, owner, place }))
}

pub(super) fn apply(writing: &WriteTransaction, changes: &[Change]) -> Result<(), Error> {
    let mut streams = writing.open_table(STREAMS)?;
    let mut partitions = writing.open_table(PARTITIONS)?;
    let mut extents = writing.open_table(EXTENTS)?;
    let mut subscriptions = writing.open_table(SUBSCRIPTIONS)?;
    let mut producers = writing.open_table(PRODUCERS)?;
    for change in changes {
        match change {
            Change::Stream(id, saved) => drop(streams.insert(id.0, &saved.to_value()[..])?),
            Change::Delete(StreamId(id)) => {
                streams.remove(id)?;
                partitions.retain_in((*id, 0)..=(*id, u32::MAX), |_, _| false)?;
                extents.retain_in((*id, 0, 0)..=(*id, u32::MAX, u64::MAX), |_, _| false)?;
                subscriptions.retain_in((*id, "")..(id.saturating_add(1), ""), |_, _| false)?;
                producers.retain_in((*id, "")..(id.saturating_add(1), ""), |_, _| false)?;
            }
            Change::Partition(StreamId(id), PartitionId(number), saved) => {
                partitions.insert((*id, *number), &saved.to_value()[..])?;
                // An extent that is wholly before the start. One that the start lies in stays.
                let start = saved.start.0;
                let is_before = |key: (u64, u32, u64), value: &[u8]| {
                    Extent::from_value(value).is_some_and(|extent| key.2.saturating_add(extent.count()) <= start)
                };
                extents.retain_in((*id, *number, 0)..(*id, *number, start), |key, value| !is_before(key, value))?;
            }
            Change::Extent(StreamId(id), PartitionId(number), Offset(first), extent) => {
                extents.insert((*id, *number, *first), &extent.to_value()[..])?;
            }
            Change::Subscription(StreamId(id), name, Some(saved)) => {
                subscriptions.insert((*id, name.as_str()), &saved.to_value()[..])?;
            }
            Change::Subscription(StreamId(id), name, None) => drop(subscriptions.remove((*id, name.as_str()))?),
            Change::Producer(StreamId(id), name, Some(saved)) => drop(producers.insert((*id, name.as_str()), &saved.to_value()[..])?),
            Change::Producer(StreamId(id), name, None) => drop(producers.remove((*id, name.as_str()))?),
        }
    }
    Ok(())
}

pub(super) fn load(reading: &ReadTransaction) -> Result<Vec<FoundStream>, Error> {
    let streams = reading.open_table(STREAMS)?;
    let partitions = reading.open_table(PARTITIONS)?;
    let extents = reading.open_table(EXTENTS)?;
    let subscriptions = reading.open_table(SUBSCRIPTIONS)?;
    let producers = reading.open_table(PRODUCERS)?;
    let mut found = Vec::new();
    for stream in streams.iter()? {
        let (key, value) = stream?;
        let id = key.value();
        let mut stream = FoundStream {
            id: StreamId(id),
            saved: read(value.value())?,
            partitions: Vec::new(),
            extents: Vec::new(),
            subscriptions: Vec::new(),
            producers: Vec::new(),
        };
        for partition in partitions.range((id, 0)..=(id, u32::MAX))? {
            let (key, value) = partition?;
            stream.partitions.push((PartitionId(key.value().1), read(value.value())?));
        }
        for extent in extents.range((id, 0, 0)..=(id, u32::MAX, u64::MAX))? {
            let (key, value) = extent?;
            let (_, number, first) = key.value();
            stream.extents.push((PartitionId(number), Offset(first), read(value.value())?));
        }
        for subscription in subscriptions.range((id, "")..)? {
            let (key, value) = subscription?;
            let (owner, name) = key.value();
            if owner != id {
                break;
            }
            stream.subscriptions.push((SubscriptionName::new(name).map_err(|_| unreadable())?, read(value.value())?));
        }
        for producer in producers.range((id, "")..)? {
            let (key, value) = producer?;
            let (owner, name) = key.value();
            if owner != id {
                break;
            }
            stream.producers.push((ProducerId::new(name).map_err(|_| unreadable())?, read(value.value())?));
        }
        found.push(stream);
    }
    Ok(found)
}

pub(super) fn producer(reading: &ReadTransaction, stream: StreamId, name: &ProducerId) -> Result<Option<ProducerSnapshot>, Error> {
    let found = reading.open_table(PRODUCERS)?.get((stream.0, name.as_str()))?;
    found.map(|value| read(value.value())).transpose()
}

fn read<T: Saved>(value: &[u8]) -> Result<T, Error> {
    T::from_value(value).ok_or_else(unreadable)
}

fn unreadable() -> Error {
    Error::Corrupted("a value of bowstring's that cannot be read".to_owned())
}
