//! A damaged part of a segment, and what was in it.

use std::fmt;
use std::ops::Range;

use super::Entry;
use super::lines::Line;

/// Bytes of a segment that are not what was written, and that something valid or durable follows: no torn end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The segment's file.
    pub file: String,
    /// Where, in bytes from the file's start. Beyond the file's end if that is missing.
    pub range: Range<u64>,
    /// How it shows.
    pub why: String,
    /// Whether it is known to have been durable. If not, it may be that the power failed before it was, and that the system had
    /// written what follows first.
    pub was_durable: bool,
    /// What the index knows of it.
    pub(super) lines: Vec<Line>,
}

impl Damage {
    /// The batches that the index knows to have been there.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.lines.iter().filter_map(|line| match line {
            Line::Batch(entry) => Some(entry),
            Line::Schema { .. } | Line::Dictionary(_) => None,
        })
    }

    /// Whether the index knows of every byte what was there.
    pub fn is_known(&self) -> bool {
        let mut at = self.range.start;
        self.lines.iter().all(|line| std::mem::replace(&mut at, line.message().end()) == line.message().start) && at >= self.range.end
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, range, why, was_durable, lines } = self;
        write!(f, "{file} is damaged from byte {} to {}: {why}; ", range.start, range.end)?;
        match lines.as_slice() {
            [] => f.write_str("the index does not know what was there")?,
            [one] => write!(f, "{one} was there")?,
            [first, .., last] => write!(f, "{} messages were there, from {first} to {last}", lines.len())?,
        }
        f.write_str(if *was_durable { "" } else { ", and was not known to be durable" })
    }
}
