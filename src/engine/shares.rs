//! A shared subscription: any consumer is given the next rows, leased by themselves. What is not acked in time, or is given back, goes
//! to anybody; what fails too often goes to the dead letters.

mod settle;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub(super) use self::settle::Settled;
use super::given::Given;
use super::lanes::Lanes;
use super::lease::InFlight;
use super::leases::{Lost, Room};
use super::limits::PIECES_MAX;
use super::partition::Partition;
use super::pieces::{Piece, PieceKey, PieceState, Pieces};
use super::share::{ShareTerms, SharingRules, TakenShare, part_of};
use super::subscription::Cursor;
use super::{ConsumerId, ConsumerName, LeaseId, Offset, PartitionId, Share, ShareSnapshot, SharesSnapshot, Timestamp};
use crate::zoo::{self, Bug};

/// All that is shared. Leases do not outlive a restart; what was not acked by them comes again, with the failures it had.
#[derive(Debug)]
pub(super) struct Shares {
    pub(super) rules: SharingRules,
    pub(super) consumers: BTreeMap<ConsumerId, ShareMember>,
    pub(super) pieces: Pieces,
    /// One per partition.
    given: Vec<Given>,
    /// Where rows are shared by keys.
    lanes: Option<Lanes>,
    newest: LeaseId,
    /// Which partition is looked at first, before the modulo.
    turn: usize,
    /// The number of the next dead letter.
    next_number: u64,
    /// Leases that were ended by a word, the newest of them: a word that is said again, since its answer was lost, is not in vain.
    ended: BTreeSet<LeaseId>,
    /// Something was dropped that consumers had.
    has_dropped: bool,
}

/// A consumer of the subscription.
#[derive(Debug)]
pub(super) struct ShareMember {
    pub(super) name: ConsumerName,
    pub(super) joined_at: Timestamp,
    /// When it counts as dead, unless a sign of life comes before.
    pub(super) until: Timestamp,
    in_flight: InFlight,
    terms: ShareTerms,
    /// What it has.
    pub(super) leases: BTreeSet<LeaseId>,
    pub(super) under_way: InFlight,
    /// Those of them that may have ended a consumer: never two, so that what ends consumers is not taken for its neighbours.
    suspects: usize,
    /// Its newest `DoGet`: an older one gets nothing any more.
    reading: u64,
    /// Its last take ended at a limit.
    is_full: bool,
    /// It has let a lease run out, and is given nothing before it says that it goes on.
    pub(super) is_stalled: bool,
}

/// A sign of life, as far as it is about sharing.
#[derive(Debug, Clone)]
pub(super) struct Sign {
    pub(super) name: ConsumerName,
    pub(super) lease: Duration,
    pub(super) in_flight: InFlight,
    pub(super) terms: ShareTerms,
}

impl Shares {
    pub(super) fn new(rules: SharingRules, cursors: &[Cursor]) -> Self {
        let is_keyed = !rules.keys.is_empty();
        Self {
            consumers: BTreeMap::new(),
            pieces: Pieces::default(),
            given: cursors.iter().map(|cursor| Given::new(cursor.acked, is_keyed)).collect(),
            lanes: is_keyed.then(Lanes::new),
            rules,
            newest: LeaseId::default(),
            turn: 0,
            next_number: 0,
            ended: BTreeSet::new(),
            has_dropped: false,
        }
    }

    /// As a restart finds it: what was with consumers waits for anybody.
    pub(super) fn restore<D>(found: &SharesSnapshot, partitions: &[Partition<D>], newest: LeaseId, now: Timestamp) -> Self {
        let is_keyed = !found.rules.keys.is_empty();
        let given = partitions.iter().zip(&found.given).map(|(partition, places)| {
            let mut given = Given::restore(places, is_keyed);
            if zoo::has(Bug::SharedAcksForgotten) {
                let open = found.open.iter().filter(|open| open.partition == partition.id());
                given = Given::new(open.map(|open| open.offset).min().unwrap_or(given.next()), is_keyed);
            }
            given.drop_before(partition.start());
            given.end_at(partition.end());
            given
        });
        let mut shares = Self { given: given.collect(), next_number: found.next_number, newest, ..Self::new(found.rules.clone(), &[]) };
        for open in found.open.iter().filter(|_| !zoo::has(Bug::SharedAcksForgotten)) {
            let ShareSnapshot { partition, offset, share, failed, ref reason, dying } = *open;
            let Some(batch) = partitions.get(partition.index()).and_then(|partition| partition.find(offset)) else { continue };
            let failed = if zoo::has(Bug::TriesForgotten) { 0 } else { failed };
            let state = match dying {
                Some(number) => PieceState::Dying { number, since: now },
                None => PieceState::Waiting { due: now },
            };
            let (rows, bytes) = (share.rows_of(batch.facts.rows), share.bytes_of(batch.facts.rows, batch.facts.bytes));
            let piece = Piece { share, rows, bytes, failed, reason: reason.clone(), is_suspect: failed > 0, state };
            shares.pieces.insert(PieceKey::new(partition, offset, share), piece);
        }
        shares
    }

    pub(super) fn saved(&self) -> SharesSnapshot {
        let open = self.pieces.iter().map(|(key, piece)| ShareSnapshot {
            partition: key.partition,
            offset: key.offset,
            share: piece.share,
            failed: piece.failed,
            reason: piece.reason.clone(),
            dying: if let PieceState::Dying { number, .. } = piece.state { Some(number) } else { None },
        });
        SharesSnapshot {
            rules: self.rules.clone(),
            given: self.given.iter().map(Given::saved).collect(),
            open: open.collect(),
            next_number: self.next_number,
        }
    }

    /// A sign of life of a consumer, which joins with the first; whether others are to look again.
    pub(super) fn keep(&mut self, consumer: ConsumerId, sign: Sign, now: Timestamp) -> bool {
        let until = now.plus(sign.lease);
        let Sign { name, in_flight, terms, .. } = sign;
        if let Some(member) = self.consumers.get_mut(&consumer) {
            member.until = member.until.max(until);
            (member.name, member.in_flight, member.terms) = (name, in_flight, terms);
            return false;
        }
        let member = ShareMember {
            name,
            joined_at: now,
            until,
            in_flight,
            terms,
            leases: BTreeSet::new(),
            under_way: InFlight { batches: 0, bytes: 0 },
            suspects: 0,
            reading: 0,
            is_full: false,
            is_stalled: false,
        };
        self.consumers.insert(consumer, member);
        self.spread();
        true
    }

    /// Who has what lanes, among those that go on.
    fn spread(&mut self) {
        let Some(lanes) = &mut self.lanes else { return };
        let going = self.consumers.iter().filter(|(_, member)| !member.is_stalled);
        let going: Vec<_> = going.map(|(consumer, member)| (*consumer, member.joined_at)).collect();
        lanes.spread(&going);
    }

    /// A consumer reads anew: what it was given and has not got goes to anybody.
    pub(super) fn read(&mut self, consumer: ConsumerId, got: &[LeaseId], now: Timestamp) -> Result<u64, Lost> {
        let reading = self.next_lease(now).0;
        let member = self.consumers.get_mut(&consumer).ok_or(Lost::Consumer)?;
        member.reading = reading;
        let got: BTreeSet<_> = got.iter().collect();
        let lost: Vec<_> = member.leases.iter().filter(|lease| !got.contains(lease)).copied().collect();
        for lease in lost {
            self.end_lease(lease, |piece| piece.state = PieceState::Waiting { due: now });
        }
        Ok(reading)
    }

    /// Refuses a `DoGet` that gets nothing any more.
    pub(super) fn check(&self, consumer: ConsumerId, reading: u64) -> Result<(), Lost> {
        let member = self.consumers.get(&consumer).ok_or(Lost::Consumer)?;
        if member.reading == reading { Ok(()) } else { Err(Lost::Reading) }
    }

    /// The next shares for a consumer, within what it may have in flight and its share of all that there is.
    pub(super) fn take<D>(
        &mut self,
        consumer: ConsumerId,
        reading: u64,
        most: InFlight,
        partitions: &[Partition<D>],
        now: Timestamp,
    ) -> Result<Vec<TakenShare>, Lost> {
        self.check(consumer, reading)?;
        partitions.iter().enumerate().for_each(|(index, partition)| self.drop_before(index, partition.start()));
        let fair = self.fair_share(partitions);
        let lanes = self.lanes.as_ref().map_or(u64::MAX, |lanes| lanes.of(consumer));
        let Some(member) = self.consumers.get_mut(&consumer) else { return Err(Lost::Consumer) };
        if member.is_stalled {
            return Ok(Vec::new());
        }
        let allowed = InFlight { batches: member.in_flight.batches.min(fair), ..member.in_flight };
        let mut room = Room::new(most, allowed, member.under_way);
        let mut taken = Vec::new();
        self.take_waiting(consumer, lanes, &mut room, &mut taken, now);
        self.take_new(consumer, lanes, &mut room, &mut taken, partitions, now);
        self.consumers.entry(consumer).and_modify(|member| member.is_full |= room.is_full());
        self.turn = self.turn.wrapping_add(1);
        Ok(taken)
    }

    /// How many pieces each consumer may have, so that the first does not take what there would be for all.
    fn fair_share<D>(&self, partitions: &[Partition<D>]) -> u64 {
        let going = self.consumers.values().filter(|member| !member.is_stalled);
        let rows_max = going.clone().map(|member| member.terms.max_rows).min().unwrap_or(u64::MAX).max(1);
        let ahead = partitions.iter().zip(&self.given).map(|(partition, given)| {
            let (next, end) = (given.next(), partition.visible_end());
            let rows = partition.totals_before(end).0.saturating_sub(partition.totals_before(next).0).saturating_sub(given.row());
            end.since(next).max(rows / rows_max)
        });
        let there = ahead.fold(0, u64::saturating_add).saturating_add(self.pieces.len() as u64);
        there.div_ceil((going.count() as u64).max(1)).max(1)
    }

    /// What came back, first.
    fn take_waiting(&mut self, consumer: ConsumerId, lanes: u64, room: &mut Room, taken: &mut Vec<TakenShare>, now: Timestamp) {
        let Some(member) = self.consumers.get_mut(&consumer) else { return };
        let (max_rows, mut suspects) = (member.terms.max_rows, member.suspects);
        let mut chosen = Vec::new();
        for (key, piece) in self.pieces.waiting(now) {
            let share = match piece.share {
                // At the limit nothing is divided: there would be more of them.
                Share::Rows { start, end } if self.pieces.len() + chosen.len() < PIECES_MAX => {
                    Share::Rows { start, end: end.min(start.saturating_add(max_rows.max(1))) }
                }
                rows @ Share::Rows { .. } => rows,
                Share::Lanes(mask) => Share::Lanes(mask & lanes),
            };
            if share == Share::Lanes(0) {
                continue;
            }
            if piece.is_suspect && suspects > 0 {
                // Until the one that it has is acked.
                member.is_full = true;
                continue;
            }
            if !room.admit(piece.bytes) {
                break;
            }
            suspects += usize::from(piece.is_suspect);
            chosen.push((key, share));
        }
        for (key, share) in chosen {
            let Some(piece) = self.pieces.remove(key) else { continue };
            let (given, rest) = divided(piece, share);
            rest.into_iter().for_each(|rest| self.pieces.insert(PieceKey::new(key.partition, key.offset, rest.share), rest));
            taken.push(self.lease(consumer, (key.partition, key.offset), given, now));
        }
    }

    /// What nobody was given yet.
    fn take_new<D>(
        &mut self,
        consumer: ConsumerId,
        lanes: u64,
        room: &mut Room,
        taken: &mut Vec<TakenShare>,
        partitions: &[Partition<D>],
        now: Timestamp,
    ) {
        let Some(max_rows) = self.consumers.get(&consumer).map(|member| member.terms.max_rows) else { return };
        for turn in 0..partitions.len() {
            let index = self.turn.wrapping_add(turn) % partitions.len();
            let partition = &partitions[index];
            while let Some((offset, lanes)) = self.given[index].next_of(lanes) {
                let Some(batch) = partition.get(offset) else { break };
                if self.pieces.len() >= PIECES_MAX {
                    self.consumers.entry(consumer).and_modify(|member| member.is_full = true);
                    break;
                }
                let (rows, bytes) = (batch.facts.rows, batch.facts.bytes);
                let share = self.given[index].share(lanes, rows, max_rows);
                if !room.admit(share.bytes_of(rows, bytes)) {
                    break;
                }
                self.given[index].give(share, rows);
                let state = PieceState::Waiting { due: now };
                let (rows, bytes) = (share.rows_of(rows), share.bytes_of(rows, bytes));
                let piece = Piece { share, rows, bytes, failed: 0, reason: Arc::from(""), is_suspect: false, state };
                taken.push(self.lease(consumer, (PartitionId::of(index), offset), piece, now));
            }
        }
    }

    /// The consumer gets the piece.
    fn lease(&mut self, consumer: ConsumerId, (partition, offset): (PartitionId, Offset), mut piece: Piece, now: Timestamp) -> TakenShare {
        let lease = self.next_lease(now);
        let key = PieceKey::new(partition, offset, piece.share);
        if let Some(member) = self.consumers.get_mut(&consumer) {
            piece.state = PieceState::Leased { lease, consumer, until: now.plus(member.terms.ack_within), since: now };
            member.leases.insert(lease);
            member.under_way.batches += 1;
            member.under_way.bytes = member.under_way.bytes.saturating_add(piece.bytes);
            member.suspects += usize::from(piece.is_suspect);
        }
        if let (Some(lanes), Share::Lanes(mask)) = (&mut self.lanes, piece.share) {
            lanes.lease(mask);
        }
        let (share, delivery) = (piece.share, piece.failed.saturating_add(1));
        self.pieces.insert(key, piece);
        let skipped = std::mem::take(&mut self.given[partition.index()].skipped);
        TakenShare { lease, partition, offset, share, delivery, skipped }
    }

    /// Time makes it one that was never given, also before a restart.
    fn next_lease(&mut self, now: Timestamp) -> LeaseId {
        self.newest = LeaseId(now.0.max(self.newest.0.saturating_add(1)));
        self.newest
    }

    /// What lies before `start` in a partition was dropped: who has it may do with it what it likes.
    pub(super) fn drop_before(&mut self, index: usize, start: Offset) {
        let partition = PartitionId::of(index);
        let lowest = self.pieces.lowest(partition);
        if lowest.is_none_or(|lowest| lowest >= start) && self.given[index].next() >= start {
            return;
        }
        let gone: Vec<_> = self.pieces.of(partition).map(|(key, _)| *key).take_while(|key| key.offset < start).collect();
        let next = self.given[index].next();
        let mut offsets: Vec<_> = gone.iter().map(|key| key.offset).filter(|offset| *offset < next).collect();
        offsets.dedup();
        self.has_dropped |= !gone.is_empty();
        gone.into_iter().for_each(|key| drop(self.take_out(key)));
        let given = &mut self.given[index];
        given.skipped += offsets.len() as u64 + start.since(next);
        given.drop_before(start);
    }

    /// Whether something was dropped that consumers had, since this was asked last.
    pub(super) fn has_dropped(&mut self) -> bool {
        std::mem::take(&mut self.has_dropped)
    }

    /// The first offset of a partition that is not acked.
    pub(super) fn acked(&self, index: usize) -> Offset {
        let next = self.given[index].next();
        self.pieces.lowest(PartitionId::of(index)).map_or(next, |lowest| lowest.min(next))
    }

    /// The next offset of a partition that somebody will be given for the first time.
    pub(super) fn next(&self, index: usize) -> Offset {
        self.given[index].next()
    }

    /// Rows of that one that were given already.
    pub(super) fn row(&self, index: usize) -> u64 {
        self.given[index].row()
    }

    /// These partitions are given anew from the cursors on: by other leases, to those who read anew.
    pub(super) fn renew(&mut self, cursors: &[Cursor], is_meant: impl Fn(usize) -> bool) {
        let keys = self.pieces.iter().map(|(key, _)| *key).filter(|key| is_meant(key.partition.index()));
        keys.collect::<Vec<_>>().into_iter().for_each(|key| drop(self.take_out(key)));
        let is_keyed = self.lanes.is_some();
        for (_, (given, cursor)) in self.given.iter_mut().zip(cursors).enumerate().filter(|(index, _)| is_meant(*index)) {
            *given = Given::new(cursor.acked, is_keyed);
        }
        self.consumers.values_mut().for_each(|member| member.reading = 0);
    }
}

/// The part of a piece that is given, and what is left of it.
fn divided(piece: Piece, share: Share) -> (Piece, Option<Piece>) {
    let rest = match (piece.share, share) {
        (Share::Rows { end: whole, .. }, Share::Rows { end, .. }) if end < whole => Share::Rows { start: end, end: whole },
        (Share::Lanes(whole), Share::Lanes(mask)) if mask != whole => Share::Lanes(whole & !mask),
        _ => return (piece, None),
    };
    let part = |share: Share| {
        let (rows, bytes) = match share {
            Share::Rows { start, end } => (end - start, share.bytes_of(piece.rows, piece.bytes)),
            Share::Lanes(mask) => {
                let part = |amount: u64| {
                    let whole = if let Share::Lanes(whole) = piece.share { whole.count_ones() } else { 1 };
                    part_of(amount, u64::from(mask.count_ones()), u64::from(whole))
                };
                (part(piece.rows), part(piece.bytes))
            }
        };
        Piece { share, rows, bytes, ..piece.clone() }
    };
    (part(share), Some(part(rest)))
}
