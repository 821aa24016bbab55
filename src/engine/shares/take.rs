//! What a consumer is given next: what came back, then what nobody was given yet.

use std::sync::Arc;

use super::super::lease::InFlight;
use super::super::leases::{Lost, Room};
use super::super::limits::PIECES_MAX;
use super::super::partition::Partition;
use super::super::pieces::{Piece, PieceKey, PieceState};
use super::super::share::TakenShare;
use super::super::{ConsumerId, Offset, PartitionId, Share, Timestamp};
use super::Shares;

/// Who takes, and what it may have.
#[derive(Debug)]
struct Taking {
    consumer: ConsumerId,
    lanes: u64,
    max_rows: u64,
    room: Room,
    taken: Vec<TakenShare>,
    now: Timestamp,
}

impl Shares {
    /// The next shares for a consumer, within what it may have in flight and its share of all that there is.
    pub(in crate::engine) fn take<D>(
        &mut self,
        consumer: ConsumerId,
        reading: u64,
        most: InFlight,
        partitions: &[Partition<D>],
        now: Timestamp,
    ) -> Result<Vec<TakenShare>, Lost> {
        self.check(consumer, reading)?;
        let Some(member) = self.consumers.get(&consumer) else { return Err(Lost::Consumer) };
        if member.is_stalled {
            return Ok(Vec::new());
        }
        let (max_rows, under_way, in_flight) = (member.terms.max_rows.max(1), member.under_way, member.in_flight);
        let enough = in_flight.batches.min(under_way.batches.saturating_add(most.batches));
        let allowed = InFlight { batches: in_flight.batches.min(self.fair_share(max_rows, enough, partitions)), ..in_flight };
        let (room, lanes) = (Room::new(most, allowed, under_way), self.lanes.as_ref().map_or(u64::MAX, |lanes| lanes.of(consumer)));
        let mut taking = Taking { consumer, lanes, max_rows, room, taken: Vec::new(), now };
        let waits = self.take_ready(&mut taking);
        self.take_new(&mut taking, partitions);
        self.consumers.entry(consumer).and_modify(|member| member.is_full |= waits || taking.room.is_full());
        self.turn = self.turn.wrapping_add(1);
        Ok(taking.taken)
    }

    /// How many pieces a consumer may have that takes so many rows at once, so that the first does not take what there would be for
    /// all; no matter how many if that is `enough`. Where rows are shared by keys their lanes are what is shared.
    fn fair_share<D>(&self, max_rows: u64, enough: u64, partitions: &[Partition<D>]) -> u64 {
        let going = self.consumers.len().saturating_sub(self.stalled) as u64;
        if self.lanes.is_some() || going <= 1 {
            return u64::MAX;
        }
        let mut there = self.pieces.at_work_len() as u64;
        for (partition, given) in partitions.iter().zip(&self.given) {
            if there >= enough.saturating_mul(going) {
                return enough;
            }
            let batches = partition.visible_end().since(given.next());
            if batches > 0 {
                there = there.saturating_add(batches.max(given.left(partition).0.div_ceil(max_rows)));
            }
        }
        there.div_ceil(going).max(1)
    }

    /// What came back, first due first; whether something waits for the end of what the consumer has.
    fn take_ready(&mut self, taking: &mut Taking) -> bool {
        let mut may_be_suspect = self.consumers.get(&taking.consumer).is_some_and(|member| member.suspects == 0);
        let mut bins: Vec<_> = self.pieces.ready(taking.lanes).map(|(is_suspect, pieces)| (is_suspect, pieces.peekable())).collect();
        let (mut chosen, mut waits) = (Vec::new(), false);
        loop {
            let heads = bins.iter_mut().enumerate().filter(|(_, (is_suspect, _))| may_be_suspect || !is_suspect);
            let heads = heads.filter_map(|(bin, (_, pieces))| Some((*pieces.peek()?, bin)));
            let Some(((_, key), bin)) = heads.min() else { break };
            let (is_suspect, pieces) = &mut bins[bin];
            pieces.next();
            let Some(piece) = self.pieces.get(key) else { continue };
            let part = taking.part_of(piece.share);
            let is_divided = part != piece.share;
            // One that has nothing gets something, whatever there is already.
            if is_divided && self.pieces.len() + chosen.len() >= PIECES_MAX && !taking.room.is_empty() {
                waits = true;
                continue;
            }
            if !taking.room.admit(piece.bytes_of(part)) {
                break;
            }
            may_be_suspect &= !*is_suspect;
            chosen.push((key, part));
        }
        // Until the one that it has is acked.
        waits |= !may_be_suspect && bins.iter_mut().any(|(is_suspect, pieces)| *is_suspect && pieces.peek().is_some());
        drop(bins);
        for (key, part) in chosen {
            let Some(mut piece) = self.pieces.remove(key) else { continue };
            if let Some(rest) = rest_of(piece.share, part) {
                let [first, rest] = piece.divided(part, rest);
                self.pieces.insert(PieceKey::new(key.partition, key.offset, rest.share), rest);
                piece = first;
            }
            self.lease(taking, (key.partition, key.offset), piece);
        }
        waits
    }

    /// What nobody was given yet.
    fn take_new<D>(&mut self, taking: &mut Taking, partitions: &[Partition<D>]) {
        for turn in 0..partitions.len() {
            let index = self.turn.wrapping_add(turn) % partitions.len();
            let partition = &partitions[index];
            if self.given[index].next() >= partition.visible_end() {
                continue;
            }
            while let Some((offset, lanes)) = self.given[index].next_of(taking.lanes) {
                let Some(batch) = partition.get(offset).filter(|_| self.pieces.len() < PIECES_MAX) else { break };
                let (rows, bytes) = (batch.facts.rows, batch.facts.bytes);
                let share = self.given[index].share(lanes, rows, taking.max_rows);
                if !taking.room.admit(share.bytes_of(rows, bytes)) {
                    break;
                }
                self.given[index].give(share, rows);
                let state = PieceState::Waiting { due: taking.now };
                let (rows, bytes) = (share.rows_of(rows), share.bytes_of(rows, bytes));
                let piece = Piece { share, rows, bytes, failed: 0, reason: Arc::from(""), is_suspect: false, state };
                self.lease(taking, (PartitionId::of(index), offset), piece);
            }
        }
    }

    /// The consumer gets the piece.
    fn lease(&mut self, taking: &mut Taking, (partition, offset): (PartitionId, Offset), mut piece: Piece) {
        let Taking { consumer, now, .. } = *taking;
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
        taking.taken.push(TakenShare { lease, partition, offset, share, delivery, skipped });
    }
}

impl Taking {
    /// What of a share it may be given.
    fn part_of(&self, share: Share) -> Share {
        match share {
            Share::Rows { start, end } => Share::Rows { start, end: end.min(start.saturating_add(self.max_rows)) },
            Share::Lanes(mask) => Share::Lanes(mask & self.lanes),
        }
    }
}

/// What is left of a share without its first part.
fn rest_of(whole: Share, part: Share) -> Option<Share> {
    match (whole, part) {
        (Share::Rows { end: whole, .. }, Share::Rows { end, .. }) if end < whole => Some(Share::Rows { start: end, end: whole }),
        (Share::Lanes(whole), Share::Lanes(mask)) if mask != whole => Some(Share::Lanes(whole & !mask)),
        _ => None,
    }
}
