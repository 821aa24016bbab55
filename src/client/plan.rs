//! What a consumer reads, and where it begins.

use std::collections::HashSet;
use std::time::Duration;

use arrow_schema::SchemaRef;
use bytes::Bytes;

use super::acks::Urgent;
use super::membership::Membership;
use super::options::{Offsets, ReadStart, SubscribeOptions};
use super::project::Projection;
use super::retry::now;
use super::{Client, ConsumerOptions, Dialect, Error};
use crate::engine::{Code, ConsumerName, Generation, LEASE_MIN, Offset, PartitionId, Start, StreamId, SubscriptionMode};
use crate::wire::command::GetCommand;
use crate::wire::proto::{self, SchemaPolicy, StreamDescription, SubscriptionDescription, Visibility};
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
    pub(super) dialect: Dialect,
    pub(super) schema_policy: SchemaPolicy,
    /// Of a consumer that shares its subscription by leases.
    pub(super) membership: Option<Membership>,
}

/// Where it begins.
#[derive(Debug)]
pub(super) struct Starts {
    pub(super) offsets: Offsets,
    /// Which of the subscription's cursors are read for.
    pub(super) generation: Option<Generation>,
    mode: SubscriptionMode,
    /// How it is shared, if it is.
    keys: Option<Vec<std::sync::Arc<str>>>,
    /// Of what is read: the stream's, or the answers' to a query.
    schema: Bytes,
}

/// Turns a consumer's options into a plan, the offsets to start from, and the schema if the stream has one.
/// Ends are fixed here, so that a reconnect cannot move them.
pub(super) async fn plan(client: &Client, stream: &str, options: ConsumerOptions) -> Result<(ReadPlan, Starts, Option<SchemaRef>), Error> {
    options.dialect.check()?;
    let consumer = ConsumerName::new(&options.consumer.clone().unwrap_or_else(own_name))
        .map_err(|error| Error::invalid(error.to_string()))?
        .to_string();
    let description = find_stream(client, stream, &options).await?;
    let all = description.partitions.iter().map(|partition| PartitionId(partition.partition));
    if options.by_epoch && description.options.as_ref().is_some_and(|options| options.visibility() == Visibility::Immediate) {
        let what = "is immediate, so that its epochs are visible before they are whole; read its batches, or make it a committed stream";
        return Err(Error::invalid(format!("stream {stream} {what}")));
    }
    let partitions = options.partitions.clone().unwrap_or_else(|| all.collect());
    let count = u32::try_from(description.partitions.len()).unwrap_or(u32::MAX);
    let offsets = match &options.start {
        ReadStart::Offsets(offsets) => Some(offsets),
        ReadStart::Cursor(_) => None,
    };
    let named = offsets.into_iter().chain(&options.end).flat_map(Offsets::keys);
    if let Some(partition) = partitions.iter().chain(named).copied().find(|partition| partition.0 >= count) {
        return Err(crate::engine::Error::PartitionOutOfRange { partition, partitions: count }.into());
    }
    check_shared(&options)?;
    let starts = starts(client, &description, &options, &partitions).await?;
    let membership = match (&options.subscription, starts.mode) {
        (Some(subscription), SubscriptionMode::Partitioned | SubscriptionMode::Shared) => {
            check_shared(&ConsumerOptions { mode: Some(starts.mode), ..options.clone() })?;
            Some(Membership::new(&description, subscription, &consumer, &options, starts.keys.clone()))
        }
        _ => None,
    };
    let partitions = if membership.is_some() { Vec::new() } else { partitions };
    let mut ends = options.end.unwrap_or_default();
    if !options.follow {
        for partition in &description.partitions {
            ends.entry(PartitionId(partition.partition)).or_insert(Offset(partition.end));
        }
    }
    ends.retain(|partition, _| partitions.contains(partition));
    let limits = description.options.unwrap_or_default();
    let schema = pinned(&options.dialect, starts.schema.clone(), limits.schema_policy())?;
    let command = GetCommand {
        stream: stream.to_owned(),
        follow: options.follow,
        partitions: membership.is_none().then(|| partitions.iter().map(|partition| partition.0).collect()),
        subscription: options.subscription,
        generation: None,
        start: None,
        end: (!ends.is_empty()).then(|| as_numbers(&ends)),
        stream_id: Some(description.stream_id),
        batches_max: None,
        by_epoch: options.by_epoch,
        consumer: Some(consumer),
        link: None,
        schema_changes: true,
        consumer_id: membership.as_ref().map(|membership| membership.consumer.0),
        got: Vec::new(),
    };
    let acks_urgent = Urgent::of(limits.max_buffered_batches.unwrap_or(1), limits.max_buffered_bytes.unwrap_or_default());
    let (stream_id, dialect, schema_policy) = (StreamId(description.stream_id), options.dialect, limits.schema_policy());
    Ok((ReadPlan { command, stream_id, partitions, ends, acks_urgent, membership, dialect, schema_policy }, starts, schema))
}

/// The schema that all batches get, if it is known by now.
fn pinned(dialect: &Dialect, header: Bytes, policy: SchemaPolicy) -> Result<Option<SchemaRef>, Error> {
    if header.is_empty() {
        return Ok(dialect.schema.clone());
    }
    let stream = StreamSchema::parse(header)?.arrow().clone();
    let pinned = dialect.pin(&stream, policy)?;
    let refused = |reason| Error::invalid(format!("the stream cannot be read in the schema that was asked for: {reason}"));
    Projection::new(&stream, &pinned, dialect).map_err(refused)?;
    // In a stream that takes no other schema it would be null for ever.
    let names: HashSet<&str> = stream.fields().iter().map(|field| field.name().as_str()).collect();
    let is_there = |name: &str| dialect.names_of(name).any(|name| names.contains(name));
    match pinned.fields().iter().find(|field| policy == SchemaPolicy::Strict && !is_there(field.name())) {
        Some(field) => Err(refused(format!("it has no column {:?}, and its schema_policy is strict", field.name()))),
        None => Ok(Some(pinned)),
    }
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
    options: &ConsumerOptions,
    partitions: &[PartitionId],
) -> Result<Starts, Error> {
    let (new, exact) = match &options.start {
        ReadStart::Cursor(start) => (start, None),
        ReadStart::Offsets(offsets) => (&Start::Earliest, Some(offsets)),
    };
    let (mut generation, mut mode, mut keys, mut schema) = (None, SubscriptionMode::Static, None, description.schema.clone());
    let mut starts = match (options.subscription.as_deref(), new) {
        (Some(subscription), _) => {
            let found = client
                .subscribe_with(
                    &description.stream,
                    subscription,
                    new,
                    SubscribeOptions {
                        mode: options.mode,
                        sharing: options.sharing.clone(),
                        query: options.query.clone(),
                        ..SubscribeOptions::default()
                    },
                )
                .await?;
            mode = mode_of(&found)?;
            if !found.query.is_empty() {
                schema = found.query_schema;
            }
            keys = found.sharing.map(|sharing| sharing.keys.iter().map(|key| key.as_str().into()).collect());
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
    // The leases tell one seek from the next.
    let generation = generation.filter(|_| mode == SubscriptionMode::Static);
    Ok(Starts { offsets: starts, generation, mode, keys, schema })
}

fn mode_of(found: &SubscriptionDescription) -> Result<SubscriptionMode, Error> {
    match found.mode() {
        proto::SubscriptionMode::Unspecified | proto::SubscriptionMode::Static => Ok(SubscriptionMode::Static),
        proto::SubscriptionMode::Partitioned => Ok(SubscriptionMode::Partitioned),
        proto::SubscriptionMode::Shared => Ok(SubscriptionMode::Shared),
    }
}

/// What leases say is not for the consumer to say.
fn check_shared(options: &ConsumerOptions) -> Result<(), Error> {
    if options.query.is_some() && options.subscription.is_none() {
        return Err(Error::invalid("only a subscription asks a query; name one, or leave the query out"));
    }
    if options.sharing.is_some() && options.mode != Some(SubscriptionMode::Shared) {
        return Err(Error::invalid("only a shared subscription has rules of sharing; ask for mode shared, or leave them out"));
    }
    if matches!(options.mode, None | Some(SubscriptionMode::Static)) {
        return Ok(());
    }
    let refused = match options {
        ConsumerOptions { subscription: None, .. } => "a mode is a subscription's, and none is named; name one",
        ConsumerOptions { partitions: Some(_), .. } => {
            "what the consumers of a partitioned or shared subscription read is leased to them; name no partitions"
        }
        ConsumerOptions { start: ReadStart::Offsets(_), .. } => {
            "the consumers of a partitioned or shared subscription read on where it stands; seek it to start elsewhere"
        }
        ConsumerOptions { end: Some(_), .. } | ConsumerOptions { follow: false, .. } => {
            "the consumers of a partitioned or shared subscription read until the stream ends; leave follow on and the end out"
        }
        ConsumerOptions { by_epoch: true, .. } => {
            "the consumers of a partitioned or shared subscription have a share of each epoch, so none can read it whole; leave by_epoch out"
        }
        ConsumerOptions { lease, .. } if *lease < LEASE_MIN => {
            return Err(Error::invalid(format!(
                "the lease is {lease:?}, and any delay would lose it; use {LEASE_MIN:?} at least, or better some seconds"
            )));
        }
        ConsumerOptions { mode: Some(SubscriptionMode::Shared), target_rows, target_bytes, .. }
            if target_rows.is_some() || target_bytes.is_some() =>
        {
            "the batches of a shared subscription are acked one by one, and are not put together or cut; use max_rows to divide large ones"
        }
        ConsumerOptions { max_rows: Some(0), .. } => "max_rows is 0; use a number from 1, or none for whole batches",
        _ => return Ok(()),
    };
    Err(Error::invalid(refused))
}

/// This process as "host/pid".
fn own_name() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host}/{}", std::process::id())
}

pub(super) fn as_numbers(offsets: &Offsets) -> std::collections::BTreeMap<u32, u64> {
    offsets.iter().map(|(partition, offset)| (partition.0, offset.0)).collect()
}
