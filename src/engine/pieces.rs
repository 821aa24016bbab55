//! The shares of batches that were given to somebody and are not acked: who has which until when, and which wait for whom.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::share::part_of;
use super::{ConsumerId, LeaseId, Offset, PartitionId, Share, Timestamp};

/// Names a piece: its partition, offset and the order of its share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PieceKey {
    pub(super) partition: PartitionId,
    pub(super) offset: Offset,
    order: u64,
}

impl PieceKey {
    pub(super) fn new(partition: PartitionId, offset: Offset, share: Share) -> Self {
        Self { partition, offset, order: share.order() }
    }

    fn first_of(partition: PartitionId) -> Self {
        Self { partition, offset: Offset(0), order: 0 }
    }
}

/// Some rows of a batch that are not acked.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) share: Share,
    /// About what it has of its batch.
    pub(super) rows: u64,
    pub(super) bytes: u64,
    /// Deliveries that failed.
    pub(super) failed: u32,
    /// Why the last one did.
    pub(super) reason: Arc<str>,
    /// Its last delivery ended without a word: it may be what ended its consumer, and what was beside it may not.
    pub(super) is_suspect: bool,
    pub(super) state: PieceState,
}

impl Piece {
    /// Its rows as two pieces.
    pub(super) fn divided(self, first: Share, rest: Share) -> [Self; 2] {
        let part = |amount| part_of(amount, first.count(), self.share.count());
        let (rows, bytes) = (part(self.rows), part(self.bytes));
        let rest = Self { share: rest, rows: self.rows - rows, bytes: self.bytes - bytes, ..self.clone() };
        [Self { share: first, rows, bytes, ..self }, rest]
    }

    /// About how many bytes a part of it has.
    pub(super) fn bytes_of(&self, part: Share) -> u64 {
        if part == self.share { self.bytes } else { part_of(self.bytes, part.count(), self.share.count()) }
    }

    /// Who has it, and since when.
    pub(super) fn lessee(&self) -> Option<(ConsumerId, Timestamp)> {
        if let PieceState::Leased { consumer, since, .. } = self.state { Some((consumer, since)) } else { None }
    }

    /// Pieces for the same consumers lie together.
    fn bin(&self) -> Bin {
        (if let Share::Lanes(mask) = self.share { mask } else { u64::MAX }, self.is_suspect)
    }
}

/// For whom it is that waits: a mask of lanes, and whether it is suspect.
type Bin = (u64, bool);

/// Where a piece is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PieceState {
    Leased {
        lease: LeaseId,
        consumer: ConsumerId,
        until: Timestamp,
        since: Timestamp,
    },
    /// For anybody, from then on.
    Waiting {
        due: Timestamp,
    },
    /// To go to the dead letters.
    Dying {
        number: u64,
        since: Timestamp,
    },
}

/// All pieces of a subscription. Invariant: the indexes say what the pieces' states say.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    all: BTreeMap<PieceKey, Piece>,
    leases: BTreeMap<LeaseId, PieceKey>,
    deadlines: BTreeSet<(Timestamp, LeaseId)>,
    /// Those that wait for their time, or did when this was looked at last.
    delayed: BTreeSet<(Timestamp, PieceKey)>,
    /// Those that wait for a consumer. Invariant: no bin is empty.
    ready: BTreeMap<Bin, BTreeSet<(Timestamp, PieceKey)>>,
    ready_len: usize,
    dying: BTreeMap<u64, PieceKey>,
}

impl Pieces {
    pub(super) fn insert(&mut self, key: PieceKey, piece: Piece) {
        match piece.state {
            PieceState::Leased { lease, until, .. } => {
                self.leases.insert(lease, key);
                self.deadlines.insert((until, lease));
            }
            PieceState::Waiting { due } => drop(self.delayed.insert((due, key))),
            PieceState::Dying { number, .. } => drop(self.dying.insert(number, key)),
        }
        self.all.insert(key, piece);
    }

    pub(super) fn remove(&mut self, key: PieceKey) -> Option<Piece> {
        let piece = self.all.remove(&key)?;
        match piece.state {
            PieceState::Leased { lease, until, .. } => {
                self.leases.remove(&lease);
                self.deadlines.remove(&(until, lease));
            }
            PieceState::Waiting { due } if self.delayed.remove(&(due, key)) => {}
            PieceState::Waiting { due } => self.remove_ready(piece.bin(), (due, key)),
            PieceState::Dying { number, .. } => drop(self.dying.remove(&number)),
        }
        Some(piece)
    }

    pub(super) fn get(&self, key: PieceKey) -> Option<&Piece> {
        self.all.get(&key)
    }

    /// What is leased by this.
    pub(super) fn leased(&self, lease: LeaseId) -> Option<PieceKey> {
        self.leases.get(&lease).copied()
    }

    /// The lease lasts until then.
    pub(super) fn renew(&mut self, lease: LeaseId, until: Timestamp) {
        let Some(piece) = self.leases.get(&lease).and_then(|key| self.all.get_mut(key)) else { return };
        if let PieceState::Leased { until: known, .. } = &mut piece.state {
            self.deadlines.remove(&(*known, lease));
            // Never shorter: its holder may have asked for longer.
            *known = until.max(*known);
            let until = *known;
            self.deadlines.insert((until, lease));
        }
    }

    /// Those whose leases have run out.
    pub(super) fn overdue(&self, now: Timestamp) -> Vec<PieceKey> {
        let overdue = self.deadlines.iter().take_while(|(until, _)| *until < now);
        overdue.filter_map(|(_, lease)| self.leased(*lease)).collect()
    }

    /// Those whose time has come wait for a consumer from now on.
    pub(super) fn ripen(&mut self, now: Timestamp) {
        while let Some((due, key)) = self.delayed.first().copied().filter(|(due, _)| *due <= now) {
            self.delayed.remove(&(due, key));
            if let Some(piece) = self.all.get(&key) {
                self.ready.entry(piece.bin()).or_default().insert((due, key));
                self.ready_len += 1;
            }
        }
    }

    fn remove_ready(&mut self, bin: Bin, waiting: (Timestamp, PieceKey)) {
        let Some(pieces) = self.ready.get_mut(&bin) else { return };
        self.ready_len -= usize::from(pieces.remove(&waiting));
        if pieces.is_empty() {
            self.ready.remove(&bin);
        }
    }

    /// Those that wait for a consumer of any of these lanes, in parts of the same kind: whether they are suspect, and which they are,
    /// first due first.
    pub(super) fn ready(&self, lanes: u64) -> impl Iterator<Item = (bool, impl Iterator<Item = (Timestamp, PieceKey)>)> {
        let bins = self.ready.iter().filter(move |((mask, _), _)| mask & lanes != 0);
        bins.map(|((_, is_suspect), pieces)| (*is_suspect, pieces.iter().copied()))
    }

    /// When there is something to do by time alone. What is due already waits for a consumer that may have it.
    pub(super) fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        let overdue = self.deadlines.first().map(|(until, _)| Timestamp(until.0.saturating_add(1)));
        let last = PieceKey { partition: PartitionId(u32::MAX), offset: Offset(u64::MAX), order: u64::MAX };
        let delayed = self.delayed.range((Bound::Excluded((now, last)), Bound::Unbounded)).next().map(|(due, _)| *due);
        overdue.into_iter().chain(delayed).min()
    }

    /// The lowest offset of a partition that is not acked.
    pub(super) fn lowest(&self, partition: PartitionId) -> Option<Offset> {
        self.of(partition).next().map(|(key, _)| key.offset)
    }

    /// The pieces of a partition, in order.
    pub(super) fn of(&self, partition: PartitionId) -> impl Iterator<Item = (&PieceKey, &Piece)> {
        self.all.range(PieceKey::first_of(partition)..).take_while(move |(key, _)| key.partition == partition)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&PieceKey, &Piece)> {
        self.all.iter()
    }

    /// Those that are to go to the dead letters, in the order of their numbers.
    pub(super) fn dying(&self) -> impl Iterator<Item = (&PieceKey, &Piece)> {
        self.dying.values().filter_map(|key| self.all.get_key_value(key))
    }

    /// The one with this number.
    pub(super) fn dying_with(&self, number: u64) -> Option<PieceKey> {
        self.dying.get(&number).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Those that wait, for whatever.
    pub(super) fn waiting_len(&self) -> usize {
        self.ready_len + self.delayed.len()
    }

    /// Those that are with consumers, or could be now.
    pub(super) fn at_work_len(&self) -> usize {
        self.ready_len + self.leases.len()
    }

    pub(super) fn dying_len(&self) -> usize {
        self.dying.len()
    }
}
