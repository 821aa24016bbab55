//! The window: batches that were handed over and are not acked yet. What makes a resend possible, and harmless.
//!
//! A plain state machine under the lock of a [`Watched`](super::watched::Watched); the sender's task, the body of the
//! open `DoPut` and the caller change it.

#[cfg(test)]
mod tests;
mod wire_speed;

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Instant;

use self::wire_speed::WireSpeed;
use super::Error;
use crate::engine::{Code, PartitionId, Retry, StreamId};
use crate::wire::batch::EncodedBatch;
use crate::wire::proto::Receipt;

/// While sent batches are not confirmed yet, smaller ones than this together wait for company (as bytes do in Nagle's
/// algorithm, RFC 896): sent one by one they cost both ends several times as much. The wait is a round trip at most.
const LINGER_BYTES: u64 = 64 << 10;

/// A batch on its way.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) batch: EncodedBatch,
    /// None: round robin by ordinal, so that a resend goes where the first try went.
    pub(super) partition: Option<PartitionId>,
    pub(super) bytes: u64,
}

/// What the open `DoPut` sends next.
#[derive(Debug)]
pub(super) enum Next {
    /// These, in order, with their ordinals.
    Batches(Vec<(u64, Entry)>),
    /// Nothing yet; the waker is kept.
    Wait,
    /// Nothing more: half-close.
    Close,
    /// Another connection has taken over.
    Superseded,
}

/// Where the appends stand, for those who wait.
#[derive(Debug, Clone)]
pub(super) enum Phase {
    /// No task runs: nothing was appended yet, or an error was reported.
    Idle,
    /// The sender's task runs.
    Running,
    /// All is stored and the stream's end was confirmed; a writer has its receipt.
    Finished(Option<Receipt>),
    /// The epoch is committed already: nothing has to be sent.
    Unneeded,
}

/// The connection that sends at the moment.
#[derive(Debug, Default)]
struct Lane {
    number: u64,
    /// Next ordinal to send; none until the coordinator has said where to resume.
    cursor: Option<u64>,
    /// Bytes of the batches from the cursor on.
    unsent_bytes: u64,
    waker: Option<Waker>,
}

#[derive(Debug)]
pub(super) struct Window {
    /// Invariant: their ordinals are `first .. first + entries.len()`, in order.
    entries: VecDeque<Entry>,
    first: u64,
    bytes: u64,
    batches_max: usize,
    bytes_max: u64,
    lane: Lane,
    /// No more will come: half-close after the last one.
    closing: bool,
    /// Somebody waits until all is stored: what is unsent goes without company.
    hurries: bool,
    pub(super) phase: Phase,
    /// Why the sender's task has ended. Reported once if `retry()` allows another try, else for ever.
    failed: Option<Error>,
    /// A refusal ends the appends whatever its `retry()` says: a writer whose batches were given up must not get a
    /// receipt for the rest.
    refusals_are_final: bool,
    /// The entries were given up after a refusal, so the coordinator alone knows the next ordinal.
    renumber: bool,
    /// Entries were sent whose fate is not known.
    in_doubt: bool,
    /// Known once the coordinator has opened the appender.
    pub(super) stream_id: Option<StreamId>,
    /// The number of the newest connection: each has a higher one than those before it, and than those of the client's
    /// producers that were made before.
    pub(super) connections: u64,
    /// Number of partitions; known like `stream_id`.
    pub(super) partitions: Option<u32>,
    /// Batches that the coordinator has confirmed, in order from the first.
    pub(super) stored: u64,
    /// The connection carries the batches' bytes: they do not stay where they are.
    pub(super) moves_bytes: bool,
    wire_speed: WireSpeed,
}

impl Window {
    pub(super) fn new(batches_max: usize, bytes_max: u64, refusals_are_final: bool) -> Self {
        Self {
            entries: VecDeque::new(),
            first: 0,
            bytes: 0,
            batches_max: batches_max.max(1),
            bytes_max,
            lane: Lane::default(),
            closing: false,
            hurries: false,
            phase: Phase::Idle,
            failed: None,
            refusals_are_final,
            renumber: false,
            in_doubt: false,
            stream_id: None,
            connections: 0,
            partitions: None,
            stored: 0,
            moves_bytes: true,
            wire_speed: WireSpeed::default(),
        }
    }

    /// Whether the sender's task is to be started: it does not run, and no error waits to be reported.
    pub(super) fn start(&mut self) -> bool {
        let start = matches!(self.phase, Phase::Idle) && self.failed.is_none();
        if start {
            self.phase = Phase::Running;
        }
        start
    }

    /// Whether a batch may come in: a first one always, so that one larger than the window is not stuck.
    fn has_room(&self, bytes: u64) -> bool {
        self.entries.is_empty() || (self.entries.len() < self.batches_max && self.bytes.saturating_add(bytes) <= self.bytes_max)
    }

    /// Takes the entry in if there is room; none: wait. Gives the lane's waker along, to be woken after the lock.
    pub(super) fn admit(&mut self, entry: &mut Option<Entry>) -> Option<Result<Option<Waker>, Error>> {
        if let Some(error) = self.take_failure() {
            return Some(Err(error));
        }
        if matches!(self.phase, Phase::Unneeded) {
            *entry = None;
            return Some(Ok(None));
        }
        if self.closing {
            return Some(Err(Error::invalid("it is closed and takes no more batches; open a new one")));
        }
        if !self.has_room(entry.as_ref().map_or(0, |entry| entry.bytes)) {
            return None;
        }
        if let Some(entry) = entry.take() {
            self.bytes += entry.bytes;
            self.lane.unsent_bytes += entry.bytes;
            self.entries.push_back(entry);
        }
        Some(Ok(if self.is_due() { self.lane.waker.take() } else { None }))
    }

    /// Whether what is unsent goes now, or waits for company.
    fn is_due(&self) -> bool {
        let in_flight = self.lane.cursor.is_some_and(|cursor| cursor > self.first);
        !in_flight || self.closing || self.hurries || self.lane.unsent_bytes >= LINGER_BYTES
    }

    /// The error to report, if there is one; see `failed`.
    pub(super) fn take_failure(&mut self) -> Option<Error> {
        match &self.failed {
            Some(error) if error.retry() == Retry::Never => Some(error.clone()),
            Some(error) if self.refusals_are_final && !is_unreached(error) => Some(error.clone()),
            Some(_) => self.failed.take(),
            None => None,
        }
    }

    /// Whether all that came in is stored; none: wait.
    pub(super) fn settled(&mut self) -> Option<Result<(), Error>> {
        if let Some(error) = self.take_failure() {
            return Some(Err(error));
        }
        self.entries.is_empty().then_some(Ok(()))
    }

    /// Whether the coordinator has let the producer in; none: wait.
    pub(super) fn opened(&mut self) -> Option<Result<(), Error>> {
        if let Some(error) = self.take_failure() {
            return Some(Err(error));
        }
        self.partitions.is_some().then_some(Ok(()))
    }

    /// How it ended, after [`Window::close`]; none: wait.
    pub(super) fn finished(&mut self) -> Option<Result<Option<Receipt>, Error>> {
        match &self.phase {
            Phase::Finished(receipt) => Some(Ok(*receipt)),
            Phase::Unneeded => Some(Ok(None)),
            Phase::Idle | Phase::Running => self.take_failure().map(Err),
        }
    }

    /// No more will come.
    pub(super) fn close(&mut self) -> Option<Waker> {
        self.closing = true;
        self.lane.waker.take()
    }

    /// What is there now is waited for.
    pub(super) fn hurry(&mut self) -> Option<Waker> {
        self.hurries = self.lane.unsent_bytes > 0;
        if self.hurries { self.lane.waker.take() } else { None }
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A new connection takes over: gives its number.
    pub(super) fn open_lane(&mut self) -> u64 {
        let waker = self.lane.waker.take();
        self.lane = Lane { number: self.lane.number + 1, ..Lane::default() };
        self.wire_speed.reconnect();
        if let Some(waker) = waker {
            waker.wake();
        }
        self.lane.number
    }

    /// The coordinator has everything before `next_ordinal` and expects that next.
    ///
    /// # Errors
    /// `stream_replaced` if it has forgotten what it had acked, `fenced` if somebody else appends in this name.
    pub(super) fn resume(&mut self, next_ordinal: u64, stream: &str) -> Result<(), Error> {
        if std::mem::take(&mut self.renumber) {
            self.first = next_ordinal;
        }
        if next_ordinal < self.first {
            return Err(Error::StreamReplaced { stream: stream.to_owned(), noun: "producer" });
        }
        self.advance(next_ordinal)?;
        self.lane.cursor = Some(next_ordinal);
        self.lane.unsent_bytes = self.bytes;
        if let Some(waker) = self.lane.waker.take() {
            waker.wake();
        }
        Ok(())
    }

    /// All batches before `next_ordinal` are stored; `waits` of this connection have waited for room. Whether that is news.
    pub(super) fn acked(&mut self, next_ordinal: u64, waits: u64, now: Instant) -> Result<bool, Error> {
        let bytes = self.bytes;
        let was_ahead = self.entries.len() >= self.batches_max / 2 || bytes >= self.bytes_max / 2;
        let is_news = self.advance(next_ordinal)?;
        self.wire_speed.acked(bytes - self.bytes, was_ahead && !self.entries.is_empty(), waits, now);
        Ok(is_news)
    }

    /// How many bytes per second the connection takes, if it takes any and that is known.
    pub(super) fn wire_speed(&self, now: Instant) -> Option<f64> {
        self.wire_speed.get(now).filter(|_| self.moves_bytes)
    }

    fn advance(&mut self, next_ordinal: u64) -> Result<bool, Error> {
        let news = next_ordinal.saturating_sub(self.first);
        for _ in 0..news {
            let entry = self.entries.pop_front().ok_or_else(|| {
                Error::protocol(format!("it confirms {next_ordinal} batches, but this producer's run has sent {}", self.first))
            })?;
            self.first += 1;
            self.bytes -= entry.bytes;
            self.stored += 1;
        }
        self.in_doubt &= !self.entries.is_empty();
        if self.is_due()
            && let Some(waker) = self.lane.waker.take()
        {
            waker.wake();
        }
        Ok(news > 0)
    }

    /// What lane `number` sends next: at most about `bytes_max` bytes, at least one batch.
    pub(super) fn next_unsent(&mut self, number: u64, bytes_max: u64, waker: &Waker) -> Next {
        if number != self.lane.number {
            return Next::Superseded;
        }
        let Some(cursor) = self.lane.cursor else {
            self.lane.waker = Some(waker.clone());
            return Next::Wait;
        };
        if !self.is_due() {
            self.lane.waker = Some(waker.clone());
            return Next::Wait;
        }
        let skip = usize::try_from(cursor.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let mut batches = Vec::new();
        for (ordinal, entry) in (cursor..).zip(self.entries.iter().skip(skip)) {
            batches.push((ordinal, entry.clone()));
            bytes += entry.bytes;
            if bytes >= bytes_max {
                break;
            }
        }
        if !batches.is_empty() {
            self.in_doubt = true;
            self.lane.unsent_bytes -= bytes;
            self.hurries &= self.lane.unsent_bytes > 0;
            self.lane.cursor = batches.last().map(|(ordinal, _)| ordinal + 1);
            return Next::Batches(batches);
        }
        if self.closing {
            return Next::Close;
        }
        self.lane.waker = Some(waker.clone());
        Next::Wait
    }

    /// The sender's task has ended with `error`. Where the coordinator refused, what is left is not stored and is
    /// given up; where it could not be reached, the batches stay and another call goes on with them.
    pub(super) fn fail(&mut self, error: Error) {
        self.phase = Phase::Idle;
        match error.code() {
            Code::EpochCommitted => {
                self.phase = Phase::Unneeded;
                self.clear();
            }
            _ if is_unreached(&error) => self.failed = Some(if self.in_doubt { error.in_doubt() } else { error }),
            _ => {
                self.clear();
                self.renumber = true;
                self.failed = Some(error);
            }
        }
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
        self.lane.unsent_bytes = 0;
        self.hurries = false;
        self.in_doubt = false;
    }
}

/// Whether the coordinator was not there to refuse anything.
fn is_unreached(error: &Error) -> bool {
    matches!(error.code(), Code::Unavailable | Code::ShuttingDown)
}
