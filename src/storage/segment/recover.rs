//! Recovery: what is in a segment that somebody else, or nobody in time, has closed.

use std::sync::Arc;

use super::damage::Damage;
use super::dictionaries::Dictionaries;
use super::facts::{Facts, Kind, Names};
use super::handle::Handle;
use super::index::{IndexWriter, Known};
use super::lines::Line;
use super::message;
use super::walk::{Found, Walk};
use super::window::Window;
use super::{Entry, FORMAT_VERSION, Segment, SegmentHead, index_path, segment_path};
use crate::storage::StorageError;
use crate::storage::disk::Disk;

/// A segment as it was found.
#[derive(Debug)]
pub struct Recovered {
    /// The segment, for readers.
    pub segment: Arc<Segment>,
    /// Its batches that are not known to be damaged, in the order of the file.
    pub entries: Vec<Entry>,
    /// What is damaged, in the order of the file.
    pub damage: Vec<Damage>,
    /// The file's length.
    pub end: u64,
    /// How much of it is durable, but for what is damaged.
    pub durable: u64,
    /// Whether it ends with the end-of-stream marker.
    pub is_sealed: bool,
    /// Bytes of a torn end that were cut off.
    pub cut_bytes: u64,
    /// For the writer that goes on.
    pub(super) index: Option<IndexWriter>,
}

/// Finds what is in a segment, checks what was not durable, cuts a torn end off, and repairs the index. Only the index is read
/// and what it does not know, or was not durable: the time it takes grows with the number of batches, not with their size. So what
/// was damaged later shows only when it is read, or by [`verify`](super::verify).
///
/// `durable` is what the caller knows from elsewhere to have been durable, in bytes from the file's start; 0 if nothing. The
/// index knows too, but may be lost.
///
/// None: the file does not even have its first message. It was being made, and nothing was in it; remove it.
///
/// # Errors
/// [`StorageError::File`]; [`StorageError::NewerFormat`]; [`StorageError::DamagedSegment`] if neither the segment nor the index says
/// whose it is.
pub fn recover(disk: &dyn Disk, folder: &str, number: u64, durable: u64) -> Result<Option<Recovered>, StorageError> {
    let handle = Handle::open(disk, &segment_path(folder, number))?;
    let index = Handle::open_or_create(disk, &index_path(folder, number))?;
    let len = handle.len()?;
    let mut names = Names::default();
    let mut look = || look(&handle, &index, len, durable, &mut names);
    let mut looked = look()?;
    if looked.lost(len) > 0 {
        let again = look()?;
        if again.lost(len) < looked.lost(len) {
            looked = again;
        }
    }
    let Looked { known, durable, found } = looked;
    if found.lines.is_empty() && found.damage.is_empty() {
        return Ok(None);
    }

    let lost = found.damage.iter().flat_map(|damage| &damage.lines);
    let mut lines: Vec<&Line> = found.lines.iter().chain(lost).collect();
    lines.sort_unstable_by_key(|line| line.message().start);
    let head = head(&handle, number, &lines)?;
    let durable = make_durable(&handle, &found, len, durable)?;
    let mut index = known.into_writer(index, &lines, durable);
    // What cannot be written now is written later, or read again at the next start.
    drop(index.flush());
    let segment = Arc::new(segment(handle, head, &found.lines, &lines)?);
    let Found { lines, damage, end, is_sealed } = found;
    let entries = entries(lines);
    let cut_bytes = len.saturating_sub(end);
    Ok(Some(Recovered { segment, entries, damage, end, durable, is_sealed, cut_bytes, index: Some(index) }))
}

impl Recovered {
    /// Drops all from the first damage on that is not known to have been durable: for who knows that nothing from there on
    /// counts. False: there is no such damage, and nothing has changed. Entries of what is dropped are of no more use. Blocks.
    ///
    /// # Errors
    /// [`StorageError::File`].
    pub fn cut_not_durable(&mut self) -> Result<bool, StorageError> {
        let Some(start) = self.damage.iter().find(|damage| !damage.was_durable).map(|damage| damage.range.start) else { return Ok(false) };
        self.cut(start)
    }

    /// Drops all from a message on, by where it begins: for who knows that nothing from there on counts. False: somebody goes on with
    /// the segment already. Blocks.
    ///
    /// # Errors
    /// [`StorageError::File`].
    pub fn cut(&mut self, start: u64) -> Result<bool, StorageError> {
        let Some(index) = self.index.take() else { return Ok(false) };
        self.segment.handle.set_len(start)?;
        self.segment.handle.sync()?;
        self.cut_bytes += self.end.saturating_sub(start);
        (self.end, self.durable, self.is_sealed) = (start, start, false);
        self.entries.retain(|entry| entry.message.start < start);
        self.damage.retain(|damage| damage.range.start < start);
        self.segment.dictionaries.cut(start);
        let mut lines = self.segment.lines(&self.entries);
        // A damaged dictionary is among both.
        let lost = self.damage.iter().flat_map(|damage| &damage.lines).filter(|line| !matches!(line, Line::Dictionary(_)));
        lines.extend(lost.cloned());
        lines.sort_unstable_by_key(|line| line.message().start);
        let mut index = index.begin_anew();
        lines.iter().for_each(|line| index.push(line.message(), line.facts()));
        index.push_durable(start);
        drop(index.flush());
        self.index = Some(index);
        Ok(true)
    }
}

/// What one look at a segment and its index has given.
struct Looked {
    known: Known,
    durable: u64,
    found: Found,
}

impl Looked {
    /// Bytes that are damaged or to be cut.
    fn lost(&self, len: u64) -> u64 {
        let damaged = self.found.damage.iter().map(|damage| damage.range.end - damage.range.start).sum::<u64>();
        damaged + len.saturating_sub(self.found.end)
    }
}

/// Reads what is there. Before anything is cut or called damaged this is done twice: what was read wrong once is often right the
/// next time.
fn look(handle: &Handle, index: &Handle, len: u64, durable: u64, names: &mut Names) -> Result<Looked, StorageError> {
    let mut known = Known::read(index, names)?;
    let mut window = Window::new(handle, len);
    check_head(handle, &mut window, &mut known, names)?;
    let durable = durable.max(known.durable);
    let found = Walk { window, file: handle.name(), known: &known.lines, durable, names }.run()?;
    Ok(Looked { known, durable, found })
}

/// Looks at the first message: whether this version can read what follows, and whether the index is this segment's.
fn check_head(handle: &Handle, window: &mut Window<'_>, known: &mut Known, names: &mut Names) -> Result<(), StorageError> {
    let Ok((message, facts)) = message::check(window, 0)? else { return Ok(()) };
    if let Facts { kind: Some(Kind::Schema(schema)), .. } = &facts
        && schema.format_version > FORMAT_VERSION
    {
        let file = handle.name().to_owned();
        return Err(StorageError::NewerFormat { file, found: schema.format_version, supported: FORMAT_VERSION });
    }
    let first = known.lines.first().filter(|first| first.message().start == 0);
    if first.is_some_and(|first| Line::new(message, &facts, names).ok().as_ref() != Some(first)) {
        known.forget();
    }
    Ok(())
}

/// Whose the segment is: what its first message says, or the index if that is damaged.
fn head(handle: &Handle, number: u64, lines: &[&Line]) -> Result<SegmentHead, StorageError> {
    let damaged = |why: String| handle.damaged("the schema".to_owned(), 0, why);
    match lines.first() {
        Some(Line::Schema { head, .. }) if head.number == number => Ok(head.clone()),
        Some(Line::Schema { head, .. }) => Err(damaged(format!("it is of segment {}, not {number}", head.number))),
        _ => Err(damaged("it cannot be read, and the index does not have it".to_owned())),
    }
}

/// Cuts a torn end off and makes durable what was found, and says how much is.
fn make_durable(handle: &Handle, found: &Found, len: u64, durable: u64) -> Result<u64, StorageError> {
    if found.end < len {
        handle.set_len(found.end)?;
    }
    if found.end < len || found.end > durable {
        handle.sync()?;
    }
    // What was lost before it was durable must not pass for durable the next time.
    let first_lost = found.damage.iter().find(|damage| !damage.was_durable).map(|damage| damage.range.start);
    Ok(first_lost.unwrap_or(found.end).max(durable))
}

/// `valid` is what can be read; `lines` has what is damaged, too.
fn segment(handle: Handle, head: SegmentHead, valid: &[Line], lines: &[&Line]) -> Result<Segment, StorageError> {
    let schema = match valid.first() {
        Some(Line::Schema { message, .. }) => Some((*message, message::read(&handle, message, || "the schema".to_owned())?.0.header)),
        _ => None,
    };
    let dictionaries = Dictionaries::default();
    for line in lines {
        if let Line::Dictionary(dictionary) = line {
            dictionaries.add(*dictionary);
        }
    }
    Ok(Segment { handle, head, schema, dictionaries })
}

fn entries(valid: Vec<Line>) -> Vec<Entry> {
    let batch = |line| match line {
        Line::Batch(entry) => Some(entry),
        Line::Schema { .. } | Line::Dictionary(_) => None,
    };
    valid.into_iter().filter_map(batch).collect()
}
