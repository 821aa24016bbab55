//! The facts: what bowstring knows of a message, as it is written behind Arrow's flatbuffer and into the index.
//!
//! Tags are the format: they never change their meaning. What an older version does not know it skips.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::FORMAT_VERSION;
use crate::engine::{
    Attempt, Epoch, NameError, Offset, PartitionId, ProducerId, RunId, SchemaVersion, StreamId, StreamName, Task, Timestamp,
};

/// Names that are kept so that entries share them. Beyond that a name has a copy of its own.
const NAMES_MAX: usize = 1024;

/// Whose a segment is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentHead {
    /// The stream's name when the segment was made.
    pub stream: StreamName,
    /// The stream.
    pub stream_id: StreamId,
    /// The partition.
    pub partition: PartitionId,
    /// The segment's number in its partition.
    pub number: u64,
    /// Which version of the stream's schema all of its batches have.
    pub schema: SchemaVersion,
}

/// What is known of a batch beside its bytes: enough to put it back where it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryFacts {
    /// Who appended it.
    pub producer: ProducerId,
    /// The producer's run, if it said one.
    pub run: Option<RunId>,
    /// The epoch it came with, if it came with one.
    pub epoch: Option<Epoch>,
    /// The task within the epoch.
    pub task: Option<Task>,
    /// The try of the task.
    pub attempt: Option<Attempt>,
    /// The producer's own number for it.
    pub ordinal: u64,
    /// Its offset. A staged batch gets one when its epoch commits, which is not written here.
    pub offset: Option<Offset>,
    /// When the coordinator took it.
    pub appended_at: Timestamp,
    /// Whether it was appended to be seen at once, and not staged.
    pub direct: bool,
    /// What it counts for against the stream's limits.
    pub bytes: u64,
}

/// What stands behind the flatbuffer.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Facts {
    /// Where the message starts in its file: a user's bytes that look like a message are none.
    #[prost(uint64, tag = "1")]
    pub(super) at: u64,
    #[prost(oneof = "Kind", tags = "2, 3, 4")]
    pub(super) kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Kind {
    #[prost(message, tag = "2")]
    Schema(SchemaFacts),
    #[prost(message, tag = "3")]
    Dictionary(DictionaryFacts),
    #[prost(message, tag = "4")]
    Batch(BatchFacts),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SchemaFacts {
    #[prost(uint32, tag = "1")]
    pub(super) format_version: u32,
    #[prost(string, tag = "2")]
    pub(super) stream: String,
    #[prost(fixed64, tag = "3")]
    pub(super) stream_id: u64,
    #[prost(uint32, tag = "4")]
    pub(super) partition: u32,
    #[prost(uint64, tag = "5")]
    pub(super) number: u64,
    #[prost(uint32, tag = "20")]
    pub(super) schema_version: u32,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct DictionaryFacts {
    #[prost(int64, tag = "1")]
    pub(super) id: i64,
    #[prost(bool, tag = "2")]
    pub(super) delta: bool,
    /// Its number among the dictionary messages of the segment, from 1: where one is lost, that shows.
    #[prost(uint64, tag = "3")]
    pub(super) number: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct BatchFacts {
    #[prost(string, tag = "1")]
    pub(super) producer: String,
    #[prost(string, optional, tag = "2")]
    pub(super) run: Option<String>,
    #[prost(uint64, optional, tag = "3")]
    pub(super) epoch: Option<u64>,
    #[prost(uint32, optional, tag = "4")]
    pub(super) task: Option<u32>,
    #[prost(uint64, optional, tag = "5")]
    pub(super) attempt: Option<u64>,
    #[prost(uint64, tag = "6")]
    pub(super) ordinal: u64,
    #[prost(uint64, optional, tag = "7")]
    pub(super) offset: Option<u64>,
    #[prost(uint64, tag = "8")]
    pub(super) appended_at_micros: u64,
    #[prost(uint64, tag = "9")]
    pub(super) rows: u64,
    /// How many dictionary messages stand before it in the segment.
    #[prost(uint64, tag = "10")]
    pub(super) dictionaries: u64,
    #[prost(bool, tag = "11")]
    pub(super) direct: bool,
    /// The user's metadata. Not in the index.
    #[prost(bytes = "bytes", tag = "12")]
    pub(super) user: Bytes,
    /// How much of the segment was durable when this was written: what is missing before that was lost later.
    #[prost(uint64, tag = "13")]
    pub(super) durable_before: u64,
    #[prost(uint64, tag = "14")]
    pub(super) bytes: u64,
}

impl Facts {
    pub(super) fn schema(head: &SegmentHead) -> Self {
        let facts = SchemaFacts {
            // Who knows of no versions would take the batches for version 0.
            format_version: if head.schema == SchemaVersion(0) { 1 } else { FORMAT_VERSION },
            stream: head.stream.as_str().to_owned(),
            stream_id: head.stream_id.0,
            partition: head.partition.0,
            number: head.number,
            schema_version: head.schema.0,
        };
        Self { at: 0, kind: Some(Kind::Schema(facts)) }
    }

    pub(super) fn dictionary(at: u64, number: u64, id: i64, delta: bool) -> Self {
        Self { at, kind: Some(Kind::Dictionary(DictionaryFacts { id, delta, number })) }
    }

    pub(super) fn batch(at: u64, (rows, dictionaries, durable_before): (u64, u64, u64), facts: &EntryFacts, user: Bytes) -> Self {
        let facts = BatchFacts {
            producer: facts.producer.as_str().to_owned(),
            run: facts.run.as_ref().map(|run| run.as_str().to_owned()),
            epoch: facts.epoch.map(|epoch| epoch.0),
            task: facts.task.map(|task| task.0),
            attempt: facts.attempt.map(|attempt| attempt.0),
            ordinal: facts.ordinal,
            offset: facts.offset.map(|offset| offset.0),
            appended_at_micros: facts.appended_at.0,
            rows,
            dictionaries,
            direct: facts.direct,
            user,
            durable_before,
            bytes: facts.bytes,
        };
        Self { at, kind: Some(Kind::Batch(facts)) }
    }

    /// Without what the index leaves out.
    pub(super) fn for_index(mut self) -> Self {
        if let Some(Kind::Batch(batch)) = &mut self.kind {
            batch.user = Bytes::new();
        }
        self
    }
}

impl SchemaFacts {
    pub(super) fn head(&self) -> Result<SegmentHead, NameError> {
        Ok(SegmentHead {
            stream: StreamName::new(&self.stream)?,
            stream_id: StreamId(self.stream_id),
            partition: PartitionId(self.partition),
            number: self.number,
            schema: SchemaVersion(self.schema_version),
        })
    }
}

impl BatchFacts {
    pub(super) fn entry_facts(&self, names: &mut Names) -> Result<EntryFacts, NameError> {
        Ok(EntryFacts {
            producer: shared(&mut names.producers, &self.producer, ProducerId::new)?,
            run: self.run.as_ref().map(|run| shared(&mut names.runs, run, RunId::new)).transpose()?,
            epoch: self.epoch.map(Epoch),
            task: self.task.map(Task),
            attempt: self.attempt.map(Attempt),
            ordinal: self.ordinal,
            offset: self.offset.map(Offset),
            appended_at: Timestamp(self.appended_at_micros),
            direct: self.direct,
            bytes: self.bytes,
        })
    }
}

/// Names that were read before: a segment has many batches of few producers.
#[derive(Debug, Default)]
pub(super) struct Names {
    producers: BTreeMap<String, ProducerId>,
    runs: BTreeMap<String, RunId>,
}

fn shared<N: Clone>(known: &mut BTreeMap<String, N>, text: &str, new: fn(&str) -> Result<N, NameError>) -> Result<N, NameError> {
    if let Some(name) = known.get(text) {
        return Ok(name.clone());
    }
    let name = new(text)?;
    if known.len() < NAMES_MAX {
        known.insert(text.to_owned(), name.clone());
    }
    Ok(name)
}
