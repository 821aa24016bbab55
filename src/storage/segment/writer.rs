//! The segment writer: one partition's newest segment, at whose end batches are appended.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::dictionaries::Dictionaries;
use super::facts::{EntryFacts, Facts};
use super::handle::Handle;
use super::index::IndexWriter;
use super::lines::DictionaryAt;
use super::message::{self, MessageAt};
use super::{END_OF_STREAM, Entry, Recovered, Segment, SegmentHead, index_path, remove, segment_path};
use crate::storage::StorageError;
use crate::storage::disk::Disk;
use crate::wire::batch::EncodedBatch;
use crate::wire::dictionary::DictionarySet;
use crate::wire::ipc::{self, Body, Kind, Message};
use crate::zoo::{self, Bug};

/// What is kept of the memory that heads are put together in: a large dictionary's, or a wide schema's, goes.
const SCRATCH_BYTES_KEPT: usize = 64 << 10;

/// Appends to a segment. There is one writer per segment.
#[derive(Debug)]
pub struct SegmentWriter {
    segment: Arc<Segment>,
    pub(super) index: IndexWriter,
    /// Behind the last message that counts.
    end: u64,
    /// Invariant: at most `end`.
    durable: u64,
    /// The dictionaries that a reader of the file holds at its end.
    held: Arc<DictionarySet>,
    /// Dictionary messages so far.
    dictionaries: u64,
    scratch: Vec<u8>,
    /// Bytes of an append that failed may lie behind the end.
    has_rest: bool,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The end marker is written and durable.
    Sealed,
    /// A sync has failed.
    Unsure,
}

/// Where the next message of an append comes, and what a reader holds there.
struct Place {
    end: u64,
    dictionaries: u64,
    held: Arc<DictionarySet>,
}

/// The messages of an append, before they are written. Ranges are of their heads, in the scratch memory.
struct Draft {
    dictionaries: Vec<(DictionaryAt, Arc<Message>, Range<usize>)>,
    entry: Entry,
    facts: Facts,
    head: Range<usize>,
}

impl Draft {
    fn pieces_max(&self, batch: &EncodedBatch) -> usize {
        2 * self.dictionaries.len() + 1 + batch.message.body.chunks().len()
    }

    /// What is written, one piece behind the other. Bodies are not copied.
    fn add_pieces<'a>(&'a self, batch: &'a EncodedBatch, scratch: &'a [u8], pieces: &mut Vec<&'a [u8]>) {
        let dictionaries = self.dictionaries.iter().map(|(_, message, head)| (&message.body, head));
        for (body, head) in dictionaries.chain([(&batch.message.body, &self.head)]) {
            pieces.push(&scratch[head.clone()]);
            pieces.extend(body.chunks().iter().map(Bytes::as_ref));
        }
    }
}

impl SegmentWriter {
    /// Makes a segment with its index and its first message, all of it durable, name included.
    ///
    /// # Errors
    /// [`StorageError::File`], also if there is a segment of this number; [`StorageError::NoRoom`]. Nothing is left behind then,
    /// if the disk lets it be removed.
    pub fn create(disk: &dyn Disk, folder: &str, head: SegmentHead, schema: &Bytes) -> Result<Self, StorageError> {
        let handle = Handle::create(disk, &segment_path(folder, head.number))?;
        let number = head.number;
        let created = Self::begin(disk, folder, handle, head, schema);
        if created.is_err() {
            // It would be in the way of the next try.
            drop(remove(disk, folder, number));
        }
        created
    }

    fn begin(disk: &dyn Disk, folder: &str, handle: Handle, head: SegmentHead, schema: &Bytes) -> Result<Self, StorageError> {
        let mut scratch = Vec::new();
        let facts = Facts::schema(&head);
        match ipc::inspect(schema, 0) {
            Ok(Kind::Schema) => {}
            Ok(_) => return Err(handle.unfit("a schema", "it is another message".to_owned())),
            Err(error) => return Err(handle.unfit("a schema", error.to_string())),
        }
        let message = message::put_head(&mut scratch, schema, &facts, &Body::new()).map_err(|why| handle.unfit("a schema", why))?;
        let index = Handle::open_or_create(disk, &index_path(folder, head.number))?;
        if index.len()? > 0 {
            // A segment that was removed has left it behind: gone before there is a segment that it might be taken for.
            index.set_len(0)?;
            index.sync()?;
        }
        handle.write_at(&[&scratch], 0)?;
        handle.sync()?;
        let mut index = IndexWriter::new(index, 0, false);
        index.push(&message, facts);
        index.push_durable(message.end());
        index.flush()?;
        if !zoo::has(Bug::NameNotSynced) {
            disk.sync_dir(folder).map_err(|source| StorageError::unsynced(disk, folder, source))?;
        }
        let segment = Segment { handle, head, schema: Some((message, schema.clone())), dictionaries: Dictionaries::default() };
        let end = message.end();
        Ok(Self::at_end(Arc::new(segment), index, end, end, 0))
    }

    /// Goes on with a segment where recovery has found its end. The first batch brings its dictionaries again.
    ///
    /// # Errors
    /// [`StorageError::NotWritable`] if it is sealed, damaged, or gone on with already.
    pub fn resume(recovered: &mut Recovered) -> Result<Self, StorageError> {
        let why = if recovered.is_sealed {
            "it is sealed"
        } else if recovered.damage.is_empty() {
            "it has a writer"
        } else {
            "a part of it is damaged"
        };
        let index = if recovered.is_sealed || !recovered.damage.is_empty() { None } else { recovered.index.take() };
        let Some(index) = index else {
            return Err(StorageError::NotWritable { file: recovered.segment.name().to_owned(), why });
        };
        let dictionaries = recovered.segment.dictionaries.all().last().map_or(0, |last| last.number);
        Ok(Self::at_end(recovered.segment.clone(), index, recovered.end, recovered.durable, dictionaries))
    }

    fn at_end(segment: Arc<Segment>, index: IndexWriter, end: u64, durable: u64, dictionaries: u64) -> Self {
        let held = DictionarySet::empty();
        Self { segment, index, end, durable, held, dictionaries, scratch: Vec::new(), has_rest: false, state: State::Open }
    }

    /// The segment, for readers.
    #[must_use]
    pub fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Whether there is anything behind the schema.
    #[must_use]
    pub fn has_batches(&self) -> bool {
        self.segment.schema.as_ref().is_none_or(|(schema, _)| self.end > schema.end())
    }

    /// Behind the last message: the file's length, but for what a failed append has left.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// How much of it is durable. At most [`end`](Self::end).
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// Appends a batch, after the dictionaries that the file lacks. It can be read at once, and is durable after
    /// [`sync`](Self::sync). Blocks.
    ///
    /// # Errors
    /// [`StorageError::NoRoom`], [`StorageError::File`], [`StorageError::Unfit`]: nothing is appended then, and it may be tried
    /// again. [`StorageError::NotWritable`], [`StorageError::Unsure`]: this segment takes no more.
    pub fn append(&mut self, batch: &EncodedBatch, facts: EntryFacts) -> Result<Entry, StorageError> {
        let mut entry = None;
        self.append_all([(batch, facts)], |_, appended| entry = Some(appended))?;
        Ok(entry.expect("one batch has one entry"))
    }

    /// Appends several batches with one write: each for itself costs small ones more than their bytes. `take` gets each one's
    /// place among them and its entry. All are appended, or none. Blocks.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_all<'a>(
        &mut self,
        batches: impl IntoIterator<Item = (&'a EncodedBatch, EntryFacts)>,
        mut take: impl FnMut(usize, Entry),
    ) -> Result<(), StorageError> {
        self.check_open()?;
        self.index.make_room()?;
        self.cut_rest()?;
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let mut place = Place { end: self.end, dictionaries: self.dictionaries, held: self.held.clone() };
        let drafts = batches.into_iter().map(|(batch, facts)| Ok((batch, self.draft(&mut place, batch, facts, &mut scratch)?)));
        let drafts = drafts.collect::<Result<Vec<_>, StorageError>>()?;
        let mut pieces = Vec::with_capacity(drafts.iter().map(|(batch, draft)| draft.pieces_max(batch)).sum());
        drafts.iter().for_each(|(batch, draft)| draft.add_pieces(batch, &scratch, &mut pieces));
        let written = self.segment.handle.write_at(&pieces, self.end);
        drop(pieces);
        if let Err(error) = written {
            self.has_rest = true;
            // Or else before the next append: a whole message of these must not be found behind a shorter one.
            drop(self.cut_rest());
            return Err(error);
        }
        if scratch.capacity() <= SCRATCH_BYTES_KEPT {
            self.scratch = scratch;
        }
        for (index, (batch, draft)) in drafts.into_iter().enumerate() {
            take(index, self.take(batch, draft));
        }
        Ok(())
    }

    /// The messages that an append writes at a place, which is then behind them. Changes nothing else.
    fn draft(&self, place: &mut Place, batch: &EncodedBatch, facts: EntryFacts, scratch: &mut Vec<u8>) -> Result<Draft, StorageError> {
        let handle = &self.segment.handle;
        let missing = batch.dictionaries.missing_from(&place.held);
        let (mut end, mut number) = (place.end, place.dictionaries);
        let mut dictionaries = Vec::with_capacity(missing.len());
        for message in missing {
            let (id, delta) = dictionary_id(handle, &message)?;
            number += 1;
            let facts = Facts::dictionary(end, number, id, delta);
            let (part, head) = put(scratch, &message, &facts).map_err(|why| handle.unfit("a dictionary", why))?;
            end = part.end();
            dictionaries.push((DictionaryAt { message: part, number, id, delta }, message, head));
        }
        check_batch(handle, batch)?;
        let batch_facts = Facts::batch(end, (batch.rows, number, self.durable), &facts, batch.user.clone());
        let (message, head) = put(scratch, &batch.message, &batch_facts).map_err(|why| handle.unfit("a batch", why))?;
        let entry = Entry { message, rows: batch.rows, dictionaries: number, durable_before: self.durable, facts };
        *place = Place { end: message.end(), dictionaries: number, held: batch.dictionaries.clone() };
        Ok(Draft { dictionaries, entry, facts: batch_facts, head })
    }

    /// Counts what was written.
    fn take(&mut self, batch: &EncodedBatch, draft: Draft) -> Entry {
        let Draft { dictionaries, entry, facts, .. } = draft;
        for (dictionary, ..) in dictionaries {
            self.index.push(&dictionary.message, dictionary.facts());
            self.segment.dictionaries.add(dictionary);
        }
        self.index.push(&entry.message, facts);
        self.end = entry.message.end();
        self.dictionaries = entry.dictionaries;
        if !Arc::ptr_eq(&self.held, &batch.dictionaries) {
            self.segment.dictionaries.hold(entry.dictionaries, &batch.dictionaries);
            self.held = batch.dictionaries.clone();
        }
        entry
    }

    /// Makes durable what was appended. Blocks.
    ///
    /// # Errors
    /// [`StorageError::File`], and from then on [`StorageError::Unsure`]: nobody knows what is durable, and trying again would
    /// only seem to help.
    pub fn sync(&mut self) -> Result<(), StorageError> {
        if self.state == State::Sealed || (self.state == State::Open && self.durable == self.end) {
            return Ok(());
        }
        self.check_open()?;
        self.cut_rest()?;
        self.sync_segment()?;
        // The index only saves time. What cannot be written now is kept, and no more is appended when there is much of it.
        drop(self.index.flush());
        Ok(())
    }

    /// Ends the segment with the end-of-stream marker, and makes it and its index durable. May be tried again. Blocks.
    ///
    /// # Errors
    /// [`StorageError::NoRoom`], [`StorageError::File`], [`StorageError::Unsure`].
    pub fn seal(&mut self) -> Result<(), StorageError> {
        if self.state != State::Sealed {
            self.check_open()?;
            self.cut_rest()?;
            if let Err(error) = self.segment.handle.write_at(&[&END_OF_STREAM], self.end) {
                self.has_rest = true;
                return Err(error);
            }
            self.end += END_OF_STREAM.len() as u64;
            self.sync_segment()?;
            self.state = State::Sealed;
        }
        self.index.flush()?;
        self.index.sync()
    }

    fn sync_segment(&mut self) -> Result<(), StorageError> {
        if let Err(error) = self.segment.handle.sync()
            && !zoo::has(Bug::FailedSyncIgnored)
        {
            self.state = State::Unsure;
            return Err(error);
        }
        self.durable = self.end;
        self.index.push_durable(self.end);
        Ok(())
    }

    fn check_open(&self) -> Result<(), StorageError> {
        let file = || self.segment.name().to_owned();
        match self.state {
            State::Open => Ok(()),
            State::Sealed => Err(StorageError::NotWritable { file: file(), why: "it is sealed" }),
            State::Unsure => Err(StorageError::Unsure { file: file() }),
        }
    }

    fn cut_rest(&mut self) -> Result<(), StorageError> {
        if self.has_rest {
            self.segment.handle.set_len(self.end)?;
            self.has_rest = false;
        }
        Ok(())
    }
}

fn put(scratch: &mut Vec<u8>, message: &Message, facts: &Facts) -> Result<(MessageAt, Range<usize>), String> {
    let start = scratch.len();
    let at = message::put_head(scratch, &message.header, facts, &message.body)?;
    Ok((at, start..scratch.len()))
}

/// A header that does not fit its body would hide all that follows it from other readers.
fn check_batch(handle: &Handle, batch: &EncodedBatch) -> Result<(), StorageError> {
    match ipc::inspect(&batch.message.header, batch.message.body.len()) {
        Ok(Kind::Batch { rows, .. }) if rows == batch.rows => Ok(()),
        Ok(other) => Err(handle.unfit("a batch", format!("{} rows were announced, but its header is of {other:?}", batch.rows))),
        Err(error) => Err(handle.unfit("a batch", error.to_string())),
    }
}

fn dictionary_id(handle: &Handle, message: &Message) -> Result<(i64, bool), StorageError> {
    match ipc::inspect(&message.header, message.body.len()) {
        Ok(Kind::Dictionary { id, delta }) => Ok((id, delta)),
        Ok(other) => Err(handle.unfit("a dictionary", format!("its header is of {other:?}"))),
        Err(error) => Err(handle.unfit("a dictionary", error.to_string())),
    }
}
