//! Descriptors and tickets: what a `DoPut` appends to, and what a `DoGet` reads.
//!
//! A stock Flight client uses a path, `[stream]` or `[stream, partition]`, or the JSON texts below as
//! command and ticket.

mod id_text;
mod leased;

use std::collections::BTreeMap;
use std::time::Duration;

use arrow_flight::FlightDescriptor;
use arrow_flight::flight_descriptor::DescriptorType;
use prost::Message;
use serde::{Deserialize, Serialize};

pub use self::leased::{GotCommand, LeasedTarget};
use super::error::WireError;
use crate::engine::{
    AppenderKind, Attempt, Connection, ConsumerName, Epoch, Generation, Offset, PartitionId, ProducerId, RunId, StreamId, StreamName,
    SubscriptionName, Task,
};

/// The JSON command of a `DoPut`'s descriptor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PutCommand {
    /// The stream.
    pub stream: String,
    /// The partition of all batches; without it each batch's metadata says, or they take turns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<u32>,
    /// The producer's stable id, with `run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub producer: Option<String>,
    /// The producer's run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Makes the `DoPut` a writer of this epoch, with `task` and `attempt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// The writer's task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<u32>,
    /// The writer's attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u64>,
    /// Who sends, drawn by each client; with `connection`.
    #[serde(default, with = "id_text", skip_serializing_if = "Option::is_none")]
    pub sender: Option<u64>,
    /// Rises with each producer or writer that the sender makes, and with each of its connections: one that is opened after a
    /// newer one is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<u64>,
    /// How long an append waits for room, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub append_timeout_ms: Option<u64>,
    /// Refused with `stream_replaced` unless it is the stream's.
    #[serde(default, with = "id_text", skip_serializing_if = "Option::is_none")]
    pub stream_id: Option<u64>,
    /// The link whose arenas bodies may lie in.
    #[serde(default, with = "id_text", skip_serializing_if = "Option::is_none")]
    pub link: Option<u64>,
}

/// The JSON ticket of a `DoGet`, and the JSON command of a `GetFlightInfo`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetCommand {
    /// The stream.
    pub stream: String,
    /// Goes on until the stream is completed; without it the read ends with what is visible at the call.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follow: bool,
    /// The partitions; without it all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<Vec<u32>>,
    /// Starts where this subscription's acks have come to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<String>,
    /// Ends with `subscription_moved` unless it is the subscription's, or once it is not any more.
    #[serde(default, with = "id_text", skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Per partition, the first offset; overrules the subscription.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<BTreeMap<u32, u64>>,
    /// Per partition, one past the last offset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<BTreeMap<u32, u64>>,
    /// Refused with `stream_replaced` unless it is the stream's.
    #[serde(default, with = "id_text", skip_serializing_if = "Option::is_none")]
    pub stream_id: Option<u64>,
    /// Ends after so many batches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batches_max: Option<u64>,
    /// All of an epoch, over all partitions, before anything of the next; each batch says how much of it is to come.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_epoch: bool,
    /// What the consumer calls itself, for descriptions of the subscription.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<String>,
    /// The link on which arenas may be shown, that bodies lie in.
    #[serde(default, with = "id_text", skip_serializing_if = "Option::is_none")]
    pub link: Option<u64>,
    /// The schema message comes again before each batch that has another version of the schema than the batch before it; without this
    /// the read ends there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub schema_changes: bool,
    /// Reads by the leases of this consumer of the subscription, which is partitioned and which it has joined. Then `follow` is set, and
    /// nothing else says what is read.
    #[serde(default, with = "id_text", skip_serializing_if = "Option::is_none")]
    pub consumer_id: Option<u64>,
    /// What the consumer has got already by the leases that it holds; of other partitions it gets what is not acked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub got: Vec<GotCommand>,
}

/// What a `DoPut` appends to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutTarget {
    /// A stock client's path.
    Path {
        /// The stream.
        stream: StreamName,
        /// The partition; without it the batches take turns.
        partition: Option<PartitionId>,
    },
    /// A JSON command.
    Command {
        /// The stream.
        stream: StreamName,
        /// The partition of all batches.
        partition: Option<PartitionId>,
        /// Who appends; without it a client that is forgotten when it closes.
        kind: Option<AppenderKind>,
        /// Which of its connections this is, if the client says so.
        connection: Option<Connection>,
        /// How long an append waits for room.
        append_timeout: Option<Duration>,
        /// The stream's id, if the client insists on it.
        stream_id: Option<StreamId>,
        /// The link whose arenas bodies may lie in.
        link: Option<u64>,
    },
}

impl PutTarget {
    /// Reads an encoded `FlightDescriptor`.
    ///
    /// # Errors
    /// [`WireError::Invalid`] says which part is wrong.
    pub fn from_descriptor(bytes: &[u8]) -> Result<Self, WireError> {
        if bytes.is_empty() {
            return Err(WireError::missing_descriptor());
        }
        let descriptor = FlightDescriptor::decode(bytes).map_err(|error| WireError::malformed(format!("the FlightDescriptor: {error}")))?;
        if descriptor.r#type == DescriptorType::Cmd as i32 {
            let command: PutCommand = from_json("command", &descriptor.cmd)?;
            return Self::from_command(&command);
        }
        let (stream, partition) = path_target(&descriptor.path)?;
        Ok(Self::Path { stream, partition })
    }

    fn from_command(command: &PutCommand) -> Result<Self, WireError> {
        Ok(Self::Command {
            stream: StreamName::new(&command.stream)?,
            partition: command.partition.map(PartitionId),
            kind: appender_kind(command)?,
            connection: connection(command)?,
            append_timeout: command.append_timeout_ms.map(Duration::from_millis),
            stream_id: command.stream_id.map(StreamId),
            link: command.link,
        })
    }

    /// The stream.
    #[must_use]
    pub fn stream(&self) -> &StreamName {
        match self {
            Self::Path { stream, .. } | Self::Command { stream, .. } => stream,
        }
    }

    /// The partition of all batches, if there is one.
    #[must_use]
    pub fn partition(&self) -> Option<PartitionId> {
        match self {
            Self::Path { partition, .. } | Self::Command { partition, .. } => *partition,
        }
    }

    /// Who appends, if it said so.
    #[must_use]
    pub fn kind(&self) -> Option<&AppenderKind> {
        match self {
            Self::Path { .. } => None,
            Self::Command { kind, .. } => kind.as_ref(),
        }
    }

    /// Which of the client's connections this is, if it said so.
    #[must_use]
    pub fn connection(&self) -> Option<Connection> {
        match self {
            Self::Path { .. } => None,
            Self::Command { connection, .. } => *connection,
        }
    }

    /// How long an append waits for room, if the client said so.
    #[must_use]
    pub fn append_timeout(&self) -> Option<Duration> {
        match self {
            Self::Path { .. } => None,
            Self::Command { append_timeout, .. } => *append_timeout,
        }
    }

    /// The stream's id, if the client insists on it.
    #[must_use]
    pub fn stream_id(&self) -> Option<StreamId> {
        match self {
            Self::Path { .. } => None,
            Self::Command { stream_id, .. } => *stream_id,
        }
    }

    /// The link whose arenas bodies may lie in.
    #[must_use]
    pub fn link(&self) -> Option<u64> {
        match self {
            Self::Path { .. } => None,
            Self::Command { link, .. } => *link,
        }
    }
}

/// The stream and partition of a path, `[stream]` or `[stream, partition]`.
///
/// # Errors
/// [`WireError::Invalid`] for any other path.
pub fn path_target(path: &[String]) -> Result<(StreamName, Option<PartitionId>), WireError> {
    match path {
        [stream] => Ok((StreamName::new(stream)?, None)),
        [stream, partition] => {
            let number = partition.parse().map_err(|_| WireError::Invalid {
                what: "descriptor",
                reason: format!("the second part of the path is {partition:?}; it is the partition's number, such as \"0\""),
            })?;
            Ok((StreamName::new(stream)?, Some(PartitionId(number))))
        }
        _ => Err(WireError::Invalid {
            what: "descriptor",
            reason: format!("its path has {} parts; set it to [stream] or [stream, partition]", path.len()),
        }),
    }
}

fn appender_kind(command: &PutCommand) -> Result<Option<AppenderKind>, WireError> {
    let invalid = |reason: &str| WireError::Invalid { what: "command", reason: reason.to_owned() };
    let producer = match (&command.producer, &command.run) {
        (Some(producer), Some(run)) => Some((ProducerId::new(producer)?, RunId::new(run)?)),
        (None, None) => None,
        _ => return Err(invalid("producer and run go together; give both or neither")),
    };
    match (producer, command.epoch, command.task, command.attempt) {
        (None, None, None, None) => Ok(None),
        (Some((producer, run)), None, None, None) => Ok(Some(AppenderKind::Direct { producer, run })),
        (Some((producer, run)), Some(epoch), Some(task), Some(attempt)) => {
            Ok(Some(AppenderKind::Writer { producer, run, epoch: Epoch(epoch), task: Task(task), attempt: Attempt(attempt) }))
        }
        _ => Err(invalid("a writer needs producer, run, epoch, task and attempt; give all five, or no epoch, task and attempt")),
    }
}

fn connection(command: &PutCommand) -> Result<Option<Connection>, WireError> {
    match (command.sender, command.connection, &command.producer) {
        (None, None, _) => Ok(None),
        (Some(sender), Some(number), Some(_)) => Ok(Some(Connection { sender, number })),
        _ => Err(WireError::Invalid {
            what: "command",
            reason: "sender and connection go together, and with a producer; give all or neither".to_owned(),
        }),
    }
}

/// What a `DoGet` reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetTarget {
    /// The stream.
    pub stream: StreamName,
    /// Goes on until the stream is completed.
    pub follow: bool,
    /// The partitions, each once; none: all.
    pub partitions: Option<Vec<PartitionId>>,
    /// Starts where this subscription's acks have come to.
    pub subscription: Option<SubscriptionName>,
    /// Which of the subscription's cursors are meant.
    pub generation: Option<Generation>,
    /// Per partition, the first offset.
    pub start: Option<BTreeMap<PartitionId, Offset>>,
    /// Per partition, one past the last offset.
    pub end: Option<BTreeMap<PartitionId, Offset>>,
    /// The stream's id, if the client insists on it.
    pub stream_id: Option<StreamId>,
    /// Ends after so many batches.
    pub batches_max: Option<u64>,
    /// Epochs are not mixed.
    pub by_epoch: bool,
    /// What the consumer calls itself.
    pub consumer: Option<ConsumerName>,
    /// The link on which arenas may be shown.
    pub link: Option<u64>,
    /// Whether the reader takes several versions of the schema.
    pub schema_changes: bool,
    /// Reads by leases.
    pub leased: Option<LeasedTarget>,
}

impl GetTarget {
    /// Reads a ticket or a `GetFlightInfo` command.
    ///
    /// # Errors
    /// [`WireError::Invalid`] says which part is wrong.
    pub fn from_json(text: &[u8]) -> Result<Self, WireError> {
        let command: GetCommand = from_json("ticket", text)?;
        let leased = LeasedTarget::of(&command)?;
        let partitions = command.partitions.map(|partitions| {
            let once: std::collections::BTreeSet<u32> = partitions.into_iter().collect();
            once.into_iter().map(PartitionId).collect()
        });
        let offsets =
            |offsets: BTreeMap<u32, u64>| offsets.into_iter().map(|(partition, offset)| (PartitionId(partition), Offset(offset))).collect();
        Ok(Self {
            stream: StreamName::new(&command.stream)?,
            follow: command.follow,
            partitions,
            subscription: command.subscription.as_deref().map(SubscriptionName::new).transpose()?,
            generation: command.generation.map(Generation),
            start: command.start.map(offsets),
            end: command.end.map(offsets),
            stream_id: command.stream_id.map(StreamId),
            batches_max: command.batches_max,
            by_epoch: command.by_epoch,
            consumer: command.consumer.as_deref().map(ConsumerName::new).transpose()?,
            link: command.link,
            schema_changes: command.schema_changes,
            leased,
        })
    }
}

impl PutCommand {
    /// The encoded `FlightDescriptor` that carries it.
    #[must_use]
    pub fn to_descriptor(&self) -> bytes::Bytes {
        FlightDescriptor::new_cmd(to_json(self)).encode_to_vec().into()
    }
}

impl GetCommand {
    /// The ticket that carries it.
    #[must_use]
    pub fn to_ticket(&self) -> bytes::Bytes {
        to_json(self).into()
    }
}

fn to_json(command: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(command).expect("structs of numbers, texts and maps with number keys always have a JSON form")
}

fn from_json<T: serde::de::DeserializeOwned>(what: &'static str, text: &[u8]) -> Result<T, WireError> {
    let invalid = |reason| WireError::Invalid { what, reason };
    let mut json = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { String::new() } else { format!("field `{path}`: ") };
        invalid(format!("{field}{}; {HINT}", error.inner()))
    })?;
    json.end().map_err(|error| invalid(format!("{error}; {HINT}")))?;
    Ok(value)
}

/// What to do about a text that cannot be used.
const HINT: &str = "send a JSON object such as {\"stream\": \"s\"} (docs/flight.md lists its fields)";
