//! The shares of batches that were given to somebody and are not acked: who has which until when, and which wait for whom.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

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
    waiting: BTreeSet<(Timestamp, PieceKey)>,
    dying: BTreeMap<u64, PieceKey>,
}

impl Pieces {
    pub(super) fn insert(&mut self, key: PieceKey, piece: Piece) {
        match piece.state {
            PieceState::Leased { lease, until, .. } => {
                self.leases.insert(lease, key);
                self.deadlines.insert((until, lease));
            }
            PieceState::Waiting { due } => drop(self.waiting.insert((due, key))),
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
            PieceState::Waiting { due } => drop(self.waiting.remove(&(due, key))),
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

    /// Those that wait for anybody, first due first.
    pub(super) fn waiting(&self, now: Timestamp) -> impl Iterator<Item = (PieceKey, &Piece)> {
        let due = self.waiting.iter().take_while(move |(due, _)| *due <= now);
        due.filter_map(|(_, key)| Some((*key, self.all.get(key)?)))
    }

    /// When there is something to do by time alone. What is due already waits for a consumer that may have it.
    pub(super) fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        let overdue = self.deadlines.first().map(|(until, _)| Timestamp(until.0.saturating_add(1)));
        let last = PieceKey { partition: PartitionId(u32::MAX), offset: Offset(u64::MAX), order: u64::MAX };
        let waiting = self.waiting.range((Bound::Excluded((now, last)), Bound::Unbounded)).next().map(|(due, _)| *due);
        overdue.into_iter().chain(waiting).min()
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

    pub(super) fn waiting_len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn dying_len(&self) -> usize {
        self.dying.len()
    }
}
