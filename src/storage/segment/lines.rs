//! What is known of a segment's messages: one line each, in the index and in memory.

use std::fmt;

use super::facts::{Facts, Kind, Names};
use super::message::MessageAt;
use super::{EntryFacts, FORMAT_VERSION, SegmentHead};

/// A batch in a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub message: MessageAt,
    /// Number of rows.
    pub rows: u64,
    /// How many dictionary messages stand before it: batches of the same number have the same dictionaries.
    pub dictionaries: u64,
    /// How much of the segment was durable when it was written.
    pub durable_before: u64,
    /// What else is known of it.
    pub facts: EntryFacts,
}

impl Entry {
    /// Bytes that the batch counts for: header and body, as in [`EncodedBatch::bytes`](crate::wire::batch::EncodedBatch::bytes).
    #[must_use]
    pub fn bytes(&self) -> u64 {
        u64::from(self.message.header_bytes) + self.message.body_bytes
    }
}

/// A batch's names, for people.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let EntryFacts { producer, epoch, task, attempt, ordinal, offset, .. } = &self.facts;
        match offset {
            Some(offset) => write!(f, "the batch of offset {offset} (ordinal {ordinal} of producer {producer}")?,
            None => write!(f, "the batch of ordinal {ordinal} of producer {producer} (no offset yet")?,
        }
        epoch.map_or(Ok(()), |epoch| write!(f, ", epoch {epoch}"))?;
        task.map_or(Ok(()), |task| write!(f, ", task {task}"))?;
        attempt.map_or(Ok(()), |attempt| write!(f, ", attempt {attempt}"))?;
        f.write_str(")")
    }
}

/// A message of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    Schema { message: MessageAt, head: SegmentHead },
    Dictionary(DictionaryAt),
    Batch(Entry),
}

/// A dictionary message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DictionaryAt {
    pub(super) message: MessageAt,
    /// From 1, within the segment.
    pub(super) number: u64,
    pub(super) id: i64,
    pub(super) delta: bool,
}

impl DictionaryAt {
    pub(super) fn facts(&self) -> Facts {
        Facts::dictionary(self.message.start, self.number, self.id, self.delta)
    }
}

impl fmt::Display for DictionaryAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", if self.delta { "the delta to dictionary" } else { "the dictionary" }, self.id)
    }
}

impl Line {
    /// # Errors
    /// What is wrong with the facts.
    pub(super) fn new(message: MessageAt, facts: &Facts, names: &mut Names) -> Result<Self, String> {
        Ok(match &facts.kind {
            Some(Kind::Schema(schema)) if schema.format_version > FORMAT_VERSION => {
                return Err(format!("it is of format version {}", schema.format_version));
            }
            Some(Kind::Schema(schema)) => Self::Schema { message, head: schema.head().map_err(|error| error.to_string())? },
            Some(Kind::Dictionary(dictionary)) => {
                Self::Dictionary(DictionaryAt { message, number: dictionary.number, id: dictionary.id, delta: dictionary.delta })
            }
            Some(Kind::Batch(batch)) => {
                let facts = batch.entry_facts(names).map_err(|error| error.to_string())?;
                Self::Batch(Entry {
                    message,
                    rows: batch.rows,
                    dictionaries: batch.dictionaries,
                    durable_before: batch.durable_before,
                    facts,
                })
            }
            None => return Err("it is of a kind that this version does not know".to_owned()),
        })
    }

    pub(super) fn message(&self) -> &MessageAt {
        match self {
            Self::Schema { message, .. } => message,
            Self::Dictionary(dictionary) => &dictionary.message,
            Self::Batch(entry) => &entry.message,
        }
    }

    /// The facts as the index has them.
    pub(super) fn facts(&self) -> Facts {
        match self {
            Self::Schema { head, .. } => Facts::schema(head),
            Self::Dictionary(dictionary) => dictionary.facts(),
            Self::Batch(entry) => {
                Facts::batch(entry.message.start, (entry.rows, entry.dictionaries, entry.durable_before), &entry.facts, bytes::Bytes::new())
            }
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Schema { .. } => f.write_str("the schema"),
            Self::Dictionary(dictionary) => dictionary.fmt(f),
            Self::Batch(entry) => entry.fmt(f),
        }
    }
}
