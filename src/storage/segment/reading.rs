//! A segment open for reading.

use bytes::Bytes;

use super::dictionaries::Dictionaries;
use super::facts::Kind;
use super::handle::Handle;
use super::lines::Line;
use super::message::{self, MessageAt};
use super::{Entry, SegmentHead};
use crate::storage::StorageError;
use crate::wire::batch::EncodedBatch;

/// A segment, shared by who writes it and who reads it. Its file stays readable while this is there, also when it was
/// removed.
#[derive(Debug)]
pub struct Segment {
    pub(super) handle: Handle,
    pub(super) head: SegmentHead,
    /// The schema message, if it is not damaged.
    pub(super) schema: Option<(MessageAt, Bytes)>,
    pub(super) dictionaries: Dictionaries,
}

impl Segment {
    /// Says that nobody is expected to read it soon.
    pub fn let_go(&self) {
        self.handle.let_go();
    }

    /// Whose it is.
    #[must_use]
    pub fn head(&self) -> &SegmentHead {
        &self.head
    }

    /// The schema message's flatbuffer; none if it is damaged.
    #[must_use]
    pub fn schema(&self) -> Option<&Bytes> {
        self.schema.as_ref().map(|(_, header)| header)
    }

    /// The file, for people.
    #[must_use]
    pub fn name(&self) -> &str {
        self.handle.name()
    }

    /// Reads a batch with one read, and its dictionaries if nobody has them. Header, body and user's metadata are slices of
    /// one piece of memory, the body aligned to 64 bytes. Batches with the same dictionaries share the set of them. Blocks.
    ///
    /// # Errors
    /// [`StorageError::File`], [`StorageError::DamagedSegment`].
    pub fn read(&self, entry: &Entry) -> Result<EncodedBatch, StorageError> {
        let (message, facts) = message::read(&self.handle, &entry.message, || entry.to_string())?;
        let Some(Kind::Batch(batch)) = facts.kind else {
            return Err(self.handle.damaged(entry.to_string(), entry.message.start, "another message is there".to_owned()));
        };
        let dictionaries = self.dictionaries.set(entry.dictionaries, &self.handle, self.schema())?;
        Ok(EncodedBatch { message, dictionaries, schema: self.head.schema, user: batch.user, rows: entry.rows })
    }

    /// The file's bytes between two places. Blocks.
    ///
    /// # Errors
    /// [`StorageError::File`].
    pub fn raw(&self, at: u64, end: u64) -> Result<Bytes, StorageError> {
        let mut bytes = vec![0; usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX)];
        self.handle.read_at(&mut bytes, at)?;
        Ok(bytes.into())
    }

    /// All messages that are known, in the order of the file, `entries` being the batches.
    pub(super) fn lines(&self, entries: &[Entry]) -> Vec<Line> {
        let schema = self.schema.as_ref().map(|(message, _)| Line::Schema { message: *message, head: self.head.clone() });
        let dictionaries = self.dictionaries.all().into_iter().map(Line::Dictionary);
        let mut lines: Vec<Line> = schema.into_iter().chain(dictionaries).chain(entries.iter().cloned().map(Line::Batch)).collect();
        lines.sort_unstable_by_key(|line| line.message().start);
        lines
    }
}
