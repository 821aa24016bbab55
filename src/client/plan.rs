//! What a consumer reads, and where it begins.

use std::time::Duration;

use arrow_schema::SchemaRef;

use super::acks::Urgent;
use super::options::{Offsets, ReadStart};
use super::retry::now;
use super::{Client, ConsumerOptions, Error};
use crate::engine::{Code, ConsumerName, Generation, Offset, PartitionId, Start, StreamId};
use crate::wire::command::GetCommand;
use crate::wire::proto::{StreamDescription, Visibility};
use crate::wire::schema::StreamSchema;

/// How often a stream that does not exist yet is looked for.
const STREAM_WAIT_PAUSE: Duration = Duration::from_millis(100);

/// What is read: the same over all reconnects.
#[derive(Debug)]
pub(super) struct ReadPlan {
    /// Without `start` and `generation`, which change.
    pub(super) command: GetCommand,
    pub(super) stream_id: StreamId,
    pub(super) partitions: Vec<PartitionId>,
    pub(super) ends: Offsets,
    pub(super) acks_urgent: Urgent,
}

/// Where it begins.
#[derive(Debug)]
pub(super) struct Starts {
    pub(super) offsets: Offsets,
    /// Which of the subscription's cursors are read for.
    pub(super) generation: Option<Generation>,
}

/// Turns a consumer's options into a plan, the offsets to start from, and the schema if the stream has one.
/// Ends are fixed here, so that a reconnect cannot move them.
pub(super) async fn plan(client: &Client, stream: &str, options: ConsumerOptions) -> Result<(ReadPlan, Starts, Option<SchemaRef>), Error> {
    let consumer = ConsumerName::new(&options.consumer.clone().unwrap_or_else(own_name))
        .map_err(|error| Error::invalid(error.to_string()))?
        .to_string();
    let description = find_stream(client, stream, &options).await?;
    let all = description.partitions.iter().map(|partition| PartitionId(partition.partition));
    if options.by_epoch && description.options.as_ref().is_some_and(|options| options.visibility() == Visibility::Immediate) {
        let what = "is immediate, so that its epochs are visible before they are whole; read its batches, or make it a committed stream";
        return Err(Error::invalid(format!("stream {stream} {what}")));
    }
    let partitions = options.partitions.unwrap_or_else(|| all.collect());
    let count = u32::try_from(description.partitions.len()).unwrap_or(u32::MAX);
    let offsets = match &options.start {
        ReadStart::Offsets(offsets) => Some(offsets),
        ReadStart::Cursor(_) => None,
    };
    let named = offsets.into_iter().chain(&options.end).flat_map(Offsets::keys);
    if let Some(partition) = partitions.iter().chain(named).copied().find(|partition| partition.0 >= count) {
        return Err(crate::engine::Error::PartitionOutOfRange { partition, partitions: count }.into());
    }
    let starts = starts(client, &description, options.subscription.as_deref(), &options.start, &partitions).await?;
    let mut ends = options.end.unwrap_or_default();
    if !options.follow {
        for partition in &description.partitions {
            ends.entry(PartitionId(partition.partition)).or_insert(Offset(partition.end));
        }
    }
    ends.retain(|partition, _| partitions.contains(partition));
    let schema = match description.schema.is_empty() {
        true => None,
        false => Some(StreamSchema::parse(description.schema)?.arrow().clone()),
    };
    let command = GetCommand {
        stream: stream.to_owned(),
        follow: options.follow,
        partitions: Some(partitions.iter().map(|partition| partition.0).collect()),
        subscription: options.subscription,
        generation: None,
        start: None,
        end: (!ends.is_empty()).then(|| as_numbers(&ends)),
        stream_id: Some(description.stream_id),
        batches_max: None,
        by_epoch: options.by_epoch,
        consumer: Some(consumer),
        link: None,
    };
    let limits = description.options.unwrap_or_default();
    let acks_urgent = Urgent::of(limits.max_buffered_batches.unwrap_or(1), limits.max_buffered_bytes.unwrap_or_default());
    Ok((ReadPlan { command, stream_id: StreamId(description.stream_id), partitions, ends, acks_urgent }, starts, schema))
}

async fn find_stream(client: &Client, stream: &str, options: &ConsumerOptions) -> Result<StreamDescription, Error> {
    let deadline = now() + options.stream_wait;
    let description = loop {
        match client.describe_stream(stream).await {
            Err(error) if error.code() == Code::StreamNotFound && now() < deadline => tokio::time::sleep(STREAM_WAIT_PAUSE).await,
            result => break result?,
        }
    };
    match options.stream_id {
        Some(id) if id.0 != description.stream_id => Err(Error::StreamReplaced { stream: stream.to_owned(), noun: "consumer" }),
        _ => Ok(description),
    }
}

/// The offsets that are given to the coordinator: explicit ones. Where a subscription stands is left to it, since acks
/// of an earlier consumer may still be on their way.
async fn starts(
    client: &Client,
    description: &StreamDescription,
    subscription: Option<&str>,
    start: &ReadStart,
    partitions: &[PartitionId],
) -> Result<Starts, Error> {
    let (new, exact) = match start {
        ReadStart::Cursor(start) => (start, None),
        ReadStart::Offsets(offsets) => (&Start::Earliest, Some(offsets)),
    };
    let mut generation = None;
    let mut starts = match (subscription, new) {
        (Some(subscription), _) => {
            let found = client.subscribe(&description.stream, subscription, new).await?;
            // An older coordinator has none.
            generation = (found.generation != 0).then_some(Generation(found.generation));
            Offsets::new()
        }
        // Left to the coordinator, since the earliest may be dropped at any time.
        (None, Start::Earliest) => Offsets::new(),
        (None, Start::Latest) => description.partitions.iter().map(|one| (PartitionId(one.partition), Offset(one.end))).collect(),
        (None, start) => client.locate(&description.stream, start, Some(StreamId(description.stream_id))).await?,
    };
    starts.extend(exact.into_iter().flatten().map(|(partition, offset)| (*partition, *offset)));
    starts.retain(|partition, _| partitions.contains(partition));
    Ok(Starts { offsets: starts, generation })
}

/// This process as "host/pid".
fn own_name() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host}/{}", std::process::id())
}

pub(super) fn as_numbers(offsets: &Offsets) -> std::collections::BTreeMap<u32, u64> {
    offsets.iter().map(|(partition, offset)| (partition.0, offset.0)).collect()
}
