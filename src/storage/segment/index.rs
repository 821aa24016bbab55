//! The index: a line per message of the segment, and marks of how much of it is durable.
//!
//! A line is: its length and its CRC-32, four bytes each, little-endian, then a protobuf. The file is never made durable but
//! when the segment is sealed, so that it may lack its end, or have holes: a line that does not fit its checksum is looked
//! over, and reading goes on with the next one that does.

use prost::Message as _;

use super::facts::{Facts, Names};
use super::handle::Handle;
use super::lines::Line;
use super::message::MessageAt;
use super::window::Window;
use crate::storage::StorageError;
use crate::zoo::{self, Bug};

/// Length and checksum.
const PREFIX: usize = 8;
/// Longest line. Names, the longest part, have 256 bytes at most, and there are two in a line.
const LINE_BYTES_MAX: u64 = 4096;
/// Lines are written when there are so many bytes of them: a system call per batch would cost more than the batch.
const BUFFER_BYTES: usize = 64 << 10;

#[derive(Clone, PartialEq, prost::Message)]
struct IndexLine {
    #[prost(uint32, tag = "1")]
    header_bytes: u32,
    #[prost(uint32, tag = "2")]
    metadata_bytes: u32,
    #[prost(uint64, tag = "3")]
    body_bytes: u64,
    #[prost(fixed32, tag = "4")]
    crc: u32,
    /// Of the message, with where it starts.
    #[prost(message, optional, tag = "5")]
    facts: Option<Facts>,
    /// The segment is durable up to here. In a line of its own.
    #[prost(uint64, optional, tag = "6")]
    durable: Option<u64>,
}

/// Writes an index. Nothing is lost but time if it fails.
#[derive(Debug)]
pub(super) struct IndexWriter {
    handle: Handle,
    /// Where the buffer belongs in the file.
    at: u64,
    buffer: Vec<u8>,
    /// Older lines may lie behind those that are written next.
    has_rest: bool,
}

impl IndexWriter {
    /// Writes from `at` on; what is there goes.
    pub(super) fn new(handle: Handle, at: u64, has_rest: bool) -> Self {
        Self { handle, at, buffer: Vec::new(), has_rest }
    }

    pub(super) fn push(&mut self, message: &MessageAt, facts: Facts) {
        self.put(&IndexLine {
            header_bytes: message.header_bytes,
            metadata_bytes: message.metadata_bytes,
            body_bytes: message.body_bytes,
            crc: message.crc,
            facts: Some(facts.for_index()),
            durable: None,
        });
    }

    pub(super) fn push_durable(&mut self, durable: u64) {
        self.put(&IndexLine { durable: Some(durable), ..IndexLine::default() });
    }

    fn put(&mut self, line: &IndexLine) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[0; PREFIX]);
        line.encode_raw(&mut self.buffer);
        let (prefix, content) = self.buffer[start..].split_at_mut(PREFIX);
        let len = u32::try_from(content.len()).unwrap_or(u32::MAX);
        prefix[..4].copy_from_slice(&len.to_le_bytes());
        prefix[4..].copy_from_slice(&crc32fast::hash(content).to_le_bytes());
    }

    /// Writes the lines if there are many.
    ///
    /// # Errors
    /// The disk's. The lines are kept then.
    pub(super) fn make_room(&mut self) -> Result<(), StorageError> {
        if self.buffer.len() < BUFFER_BYTES { Ok(()) } else { self.flush() }
    }

    /// Writes the lines.
    ///
    /// # Errors
    /// The disk's. The lines are kept then.
    pub(super) fn flush(&mut self) -> Result<(), StorageError> {
        if !self.buffer.is_empty() {
            self.handle.write_at(&[&self.buffer], self.at)?;
            self.at += self.buffer.len() as u64;
            self.buffer.clear();
            // A rebuilt index is large once.
            self.buffer.shrink_to(2 * BUFFER_BYTES);
        }
        if self.has_rest {
            self.handle.set_len(self.at)?;
            // Or lines of messages that are gone come back when the power fails, between those that follow.
            self.handle.sync()?;
            self.has_rest = false;
        }
        Ok(())
    }

    /// From the start again: what is in the file goes.
    pub(super) fn begin_anew(self) -> Self {
        Self::new(self.handle, 0, true)
    }

    pub(super) fn sync(&self) -> Result<(), StorageError> {
        self.handle.sync()
    }
}

/// What an index says.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// In the order of the segment, without overlap.
    pub(super) lines: Vec<Line>,
    /// Where each of them starts in the index.
    starts: Vec<u64>,
    /// How far the index is as it was written, without a gap.
    clean: u64,
    /// The index's length.
    len: u64,
    /// The segment is durable up to here, at least.
    pub(super) durable: u64,
}

impl Known {
    /// Reads all that can be read.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn read(handle: &Handle, names: &mut Names) -> Result<Self, StorageError> {
        let len = handle.len()?;
        let mut window = Window::new(handle, len);
        let mut known = Self { len, ..Self::default() };
        let mut is_clean = true;
        let mut at = 0;
        while at < len {
            let step = match line(&mut window, at)? {
                Some((line, bytes)) if known.take(&line, at, names) => bytes,
                _ => {
                    is_clean = false;
                    1
                }
            };
            at += step;
            if is_clean {
                known.clean = at;
            }
        }
        Ok(known)
    }

    /// It belongs to another segment.
    pub(super) fn forget(&mut self) {
        *self = Self { len: self.len, ..Self::default() };
    }

    /// Whether the line continues what is known.
    fn take(&mut self, line: &IndexLine, at: u64, names: &mut Names) -> bool {
        if let Some(durable) = line.durable {
            self.durable = self.durable.max(durable);
            return true;
        }
        let Some(facts) = &line.facts else { return false };
        let message = MessageAt {
            start: facts.at,
            header_bytes: line.header_bytes,
            metadata_bytes: line.metadata_bytes,
            body_bytes: line.body_bytes,
            crc: line.crc,
        };
        let free_from = self.lines.last().map_or(0, |last| last.message().end());
        match Line::new(message, facts, names) {
            Ok(line) if message.start >= free_from => {
                self.lines.push(line);
                self.starts.push(at);
                true
            }
            _ => false,
        }
    }

    /// An index that has `lines` and says that the segment is durable up to `durable`: what is there already stays.
    pub(super) fn into_writer(self, handle: Handle, lines: &[&Line], durable: u64) -> IndexWriter {
        let same = self.lines.iter().zip(lines).take_while(|(known, line)| known == *line).count();
        let at = self.starts.get(same).map_or(self.clean, |start| self.clean.min(*start));
        // What was read behind a gap is written again.
        let again = self.starts[..same].iter().position(|start| *start >= at).unwrap_or(same);
        let mut writer = IndexWriter::new(handle, at, self.len > at);
        lines[again..].iter().for_each(|line| writer.push(line.message(), line.facts()));
        if durable > 0 && (at < self.len || durable != self.durable) {
            writer.push_durable(durable);
        }
        writer
    }
}

/// The line at `at` and its length in the file; none if there is none.
fn line(window: &mut Window<'_>, at: u64) -> Result<Option<(IndexLine, u64)>, StorageError> {
    let Some(prefix) = window.get(at, PREFIX as u64)? else { return Ok(None) };
    let number = |from: usize| u32::from_le_bytes([prefix[from], prefix[from + 1], prefix[from + 2], prefix[from + 3]]);
    let (len, crc) = (u64::from(number(0)), number(4));
    if !(1..=LINE_BYTES_MAX).contains(&len) {
        return Ok(None);
    }
    let Some(content) = window.get(at + PREFIX as u64, len)? else { return Ok(None) };
    if crc32fast::hash(content) != crc && !zoo::has(Bug::IndexTrusted) {
        return Ok(None);
    }
    Ok(IndexLine::decode(content).ok().map(|line| (line, PREFIX as u64 + len)))
}
