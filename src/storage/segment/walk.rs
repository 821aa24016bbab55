//! The walk over a segment from its start to its end: message by message, around what is damaged.

use super::END_OF_STREAM;
use super::damage::Damage;
use super::facts::Names;
use super::lines::Line;
use super::message::{self, Fault, MessageAt};
use super::window::Window;
use crate::storage::StorageError;
use crate::zoo::{self, Bug};

/// What a walk needs to know.
pub(super) struct Walk<'a> {
    pub(super) window: Window<'a>,
    /// The segment's file, for people.
    pub(super) file: &'a str,
    /// What the index says.
    pub(super) known: &'a [Line],
    /// All before this was durable once.
    pub(super) durable: u64,
    pub(super) names: &'a mut Names,
}

/// What a walk has found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// In the order of the file.
    pub(super) lines: Vec<Line>,
    pub(super) damage: Vec<Damage>,
    /// Behind the last message, or the end marker. What the file has beyond is torn.
    pub(super) end: u64,
    pub(super) is_sealed: bool,
}

impl Walk<'_> {
    /// Walks. What the index knows, and was durable, is not read.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn run(mut self) -> Result<Found, StorageError> {
        let mut found = Found::default();
        let len = self.window.len();
        loop {
            let at = found.end;
            if at >= len || self.is_end_marker(at)? {
                found.is_sealed = at < len;
                found.end = at.max(len);
                if found.end < self.durable {
                    let why = format!("the file ends at byte {len}, but {} bytes of it were durable", self.durable);
                    found.damage.push(self.damage(found.end, self.durable, why));
                }
                return Ok(found);
            }
            match self.line_at(at)? {
                Ok(line) => {
                    found.end = line.message().end();
                    found.lines.push(line);
                }
                Err(fault) => match self.next_after(at, &fault)? {
                    Some(next) => {
                        let why = self.why(fault);
                        found.damage.push(self.damage(at, next, why));
                        found.end = next;
                    }
                    None if at < self.durable => {
                        let why = self.why(fault);
                        found.end = len;
                        found.damage.push(self.damage(at, len.max(self.durable), why));
                        return Ok(found);
                    }
                    None => return Ok(found),
                },
            }
        }
    }

    /// The message at `at`. The schema is always read: it says whether the index belongs to it.
    fn line_at(&mut self, at: u64) -> Result<Result<Line, Fault>, StorageError> {
        let trusted = if zoo::has(Bug::IndexTrusted) { self.window.len() } else { self.durable.min(self.window.len()) };
        if let Some(known) = self.known_at(at).filter(|known| at > 0 && known.message().end() <= trusted) {
            return Ok(Ok(known.clone()));
        }
        let (message, facts) = match message::check(&mut self.window, at)? {
            Ok(checked) => checked,
            Err(fault) => return Ok(Err(fault)),
        };
        let line = Line::new(message, &facts, self.names);
        Ok(line.map_err(|why| Fault { why, declared: Some(Box::new((message.end(), facts))) }))
    }

    fn known_at(&self, at: u64) -> Option<&Line> {
        let index = self.known.binary_search_by_key(&at, |line| line.message().start).ok()?;
        self.known.get(index)
    }

    /// Where something valid begins behind a message that is not. First where the message should end: what its body looks
    /// like does not matter then.
    fn next_after(&mut self, at: u64, fault: &Fault) -> Result<Option<u64>, StorageError> {
        let len = self.window.len();
        let declared = fault.declared.as_ref().map(|declared| declared.0);
        let known = self.known_at(at).map(|line| line.message().end());
        for end in [known, declared].into_iter().flatten().filter(|end| *end > at) {
            let is_durable_end = end == len && len <= self.durable;
            if is_durable_end || self.is_durable_end_marker(end)? || self.line_at(end)?.is_ok() {
                return Ok(Some(end));
            }
        }
        let from_index = self.next_known(at)?;
        if let Some(found) = self.scan(at + 1, from_index.unwrap_or(len))? {
            return Ok(Some(found));
        }
        if from_index.is_some() {
            return Ok(from_index);
        }
        let last = len.saturating_sub(END_OF_STREAM.len() as u64);
        Ok(if last > at && self.is_durable_end_marker(last)? { Some(last) } else { None })
    }

    /// The next message that the index knows and that is there.
    fn next_known(&mut self, at: u64) -> Result<Option<u64>, StorageError> {
        let first = self.known.partition_point(|line| line.message().start <= at);
        for line in &self.known[first..] {
            let start = line.message().start;
            if self.line_at(start)?.is_ok() {
                return Ok(Some(start));
            }
        }
        Ok(None)
    }

    /// The first message in `[from, until)`. Bodies may have any length, and so messages any place.
    fn scan(&mut self, from: u64, until: u64) -> Result<Option<u64>, StorageError> {
        let mut at = from;
        while at < until {
            let there = self.window.some(at)?;
            let Some(skip) = there.windows(END_OF_STREAM.len()).position(message::is_prefix) else {
                // A prefix may begin in the last bytes.
                at += (there.len() as u64).saturating_sub(END_OF_STREAM.len() as u64 - 1).max(1);
                continue;
            };
            at += skip as u64;
            if at < until && self.line_at(at)?.is_ok() {
                return Ok(Some(at));
            }
            at += 1;
        }
        Ok(None)
    }

    /// Whether the end marker is there, and nothing behind it.
    fn is_end_marker(&mut self, at: u64) -> Result<bool, StorageError> {
        let is_last = at.checked_add(END_OF_STREAM.len() as u64) == Some(self.window.len());
        Ok(is_last && self.window.get(at, END_OF_STREAM.len() as u64)? == Some(&END_OF_STREAM))
    }

    /// The same behind something damaged: eight bytes of a torn body may look like it.
    fn is_durable_end_marker(&mut self, at: u64) -> Result<bool, StorageError> {
        Ok(self.window.len() <= self.durable && self.is_end_marker(at)?)
    }

    /// With what the message says of itself, which may be the damage.
    fn why(&mut self, fault: Fault) -> String {
        let Fault { why, declared } = fault;
        let unknown = MessageAt { start: 0, header_bytes: 0, metadata_bytes: 0, body_bytes: 0, crc: 0 };
        match declared.and_then(|declared| Line::new(unknown, &declared.1, self.names).ok()) {
            Some(line) => format!("{why}, and says of itself that it is {line}"),
            None => why,
        }
    }

    fn damage(&self, start: u64, end: u64, why: String) -> Damage {
        let [first, after] = [start, end].map(|place| self.known.partition_point(|line| line.message().start < place));
        let lines = self.known[first..after].to_vec();
        Damage { file: self.file.to_owned(), range: start..end, why, was_durable: start < self.durable, lines }
    }
}
