//! What becomes of leases: acks, failures, what runs out, and what goes to the dead letters.

use std::sync::Arc;
use std::time::Duration;

use super::super::limits::{HALVES_MAX, PIECES_MAX};
use super::super::pieces::{Piece, PieceKey, PieceState};
use super::super::share::LeaseUpdate;
use super::super::{ConsumerId, LeaseId, Share, Timestamp};
use super::Shares;
use crate::zoo::{self, Bug};

/// Leases that were ended by a word, of which is known that they were.
const ENDED_MAX: usize = 16_384;

/// What an update of leases has brought about.
#[derive(Debug, Default)]
pub(in crate::engine) struct Settled {
    /// Leases that were lost before: what was said of them changed nothing.
    pub(in crate::engine) lost: Vec<LeaseId>,
    /// Partitions of which something was acked.
    pub(in crate::engine) acked: Vec<usize>,
    /// Something failed, which a restart has to know.
    pub(in crate::engine) has_failed: bool,
    /// Something waits for anybody now.
    pub(in crate::engine) has_returned: bool,
    /// Who may be given more.
    pub(in crate::engine) wake: Vec<ConsumerId>,
}

impl Shares {
    /// What consumers say of their leases.
    pub(in crate::engine) fn update(&mut self, updates: &[LeaseUpdate], now: Timestamp) -> Settled {
        let mut settled = Settled::default();
        let was_full = self.pieces.len() >= PIECES_MAX;
        for update in updates {
            let lease = update.lease();
            let Some(key) = self.pieces.leased(lease) else {
                if !self.ended.contains(&lease) {
                    settled.lost.push(lease);
                }
                continue;
            };
            if !matches!(update, LeaseUpdate::Renew { .. }) {
                self.note_ended(lease);
            }
            match update {
                LeaseUpdate::Renew { lasts, .. } => self.pieces.renew(lease, now.plus(*lasts)),
                LeaseUpdate::Release(_) => {
                    settled.wake.extend(self.end_lease(lease, |piece| piece.state = PieceState::Waiting { due: now }));
                    settled.has_returned = true;
                }
                LeaseUpdate::Nack { delay, reason, .. } => {
                    settled.wake.extend(self.fail(key, reason.clone(), *delay, false, now));
                    settled.has_failed = true;
                    settled.has_returned = true;
                }
                LeaseUpdate::Ack(_) => {
                    settled.wake.extend(self.woken_by(key));
                    if self.take_out(key).1 {
                        settled.has_returned = true;
                    }
                    settled.acked.push(key.partition.index());
                }
            }
        }
        settled.acked.sort_unstable();
        settled.acked.dedup();
        // All had to wait for that.
        settled.has_returned |= was_full && self.pieces.len() < PIECES_MAX;
        settled
    }

    fn note_ended(&mut self, lease: LeaseId) {
        self.ended.insert(lease);
        if self.ended.len() > ENDED_MAX {
            self.ended.pop_first();
        }
    }

    /// A consumer is given nothing until it goes on; whether it was.
    pub(in crate::engine) fn pause(&mut self, consumer: ConsumerId) -> bool {
        let was_going = self.stall(consumer);
        if was_going {
            self.spread();
        }
        was_going
    }

    fn stall(&mut self, consumer: ConsumerId) -> bool {
        let going = self.consumers.get_mut(&consumer).filter(|member| !member.is_stalled);
        let was_going = going.map(|member| member.is_stalled = true).is_some();
        self.stalled += usize::from(was_going);
        was_going
    }

    /// A consumer that had let a lease run out goes on; whether it had.
    pub(in crate::engine) fn resume(&mut self, consumer: ConsumerId) -> bool {
        let stalled = self.consumers.get_mut(&consumer).filter(|member| member.is_stalled);
        let was_stalled = stalled.map(|member| member.is_stalled = false).is_some();
        if was_stalled {
            self.stalled -= 1;
            self.spread();
        }
        was_stalled
    }

    /// What time has ended: leases, and consumers that gave no sign of life.
    pub(in crate::engine) fn expire(&mut self, now: Timestamp) -> Settled {
        let mut settled = Settled::default();
        for key in self.pieces.overdue(now) {
            let Some((consumer, since)) = self.pieces.get(key).and_then(Piece::lessee) else { continue };
            let name = self.consumers.get(&consumer).map_or_else(String::new, |member| member.name.to_string());
            let reason = format!("consumer {name} did not ack it within {}", humantime::format_duration(now.since(since)));
            self.fail(key, reason.into(), Duration::ZERO, true, now);
            self.stall(consumer);
            (settled.has_failed, settled.has_returned) = (true, true);
        }
        let mut have_changed = settled.has_failed;
        if self.alive_until < now && !zoo::has(Bug::DeadKeepShares) {
            let dead: Vec<_> = self.consumers.iter().filter(|(_, member)| member.until < now).map(|(id, _)| *id).collect();
            for consumer in dead {
                settled.has_failed |= self.forget(consumer, "gave no sign of life and had it", now);
                (settled.has_returned, have_changed) = (true, true);
            }
            self.alive_until = self.consumers.values().map(|member| member.until).min().unwrap_or(Timestamp(u64::MAX));
        }
        if have_changed {
            self.spread();
        }
        self.pieces.ripen(now);
        settled
    }

    /// The consumer goes; whether it had anything.
    pub(in crate::engine) fn leave(&mut self, consumer: ConsumerId, now: Timestamp) -> bool {
        let had_any = self.forget(consumer, "left and had not acked it", now);
        self.spread();
        had_any
    }

    /// The consumer is gone. What it has failed, since nobody knows why it went; whether it had anything.
    fn forget(&mut self, consumer: ConsumerId, how: &str, now: Timestamp) -> bool {
        let Some(member) = self.consumers.get(&consumer) else { return false };
        self.stalled -= usize::from(member.is_stalled);
        let reason: Arc<str> = format!("consumer {} {how}", member.name).into();
        let keys: Vec<_> = member.leases.iter().filter_map(|lease| self.pieces.leased(*lease)).collect();
        let had_any = !keys.is_empty();
        for key in keys {
            self.fail(key, reason.clone(), Duration::ZERO, true, now);
        }
        self.consumers.remove(&consumer);
        had_any
    }

    /// A delivery has failed: the rows come again, by halves, or go to the dead letters. Gives who may be given more.
    fn fail(&mut self, key: PieceKey, reason: Arc<str>, delay: Duration, is_suspect: bool, now: Timestamp) -> Option<ConsumerId> {
        let woken = self.woken_by(key);
        let mut piece = self.take_out(key).0?;
        piece.failed = piece.failed.saturating_add(1);
        self.failed += 1;
        (piece.reason, piece.is_suspect) = (reason, is_suspect);
        piece.state = PieceState::Waiting { due: now.plus(delay) };
        if self.rules.max_deliveries == 0 || piece.failed < self.rules.max_deliveries {
            if !zoo::has(Bug::NackedIsLost) {
                self.pieces.insert(key, piece);
            }
            return woken;
        }
        let may_halve = self.rules.bisect && self.pieces.len() + 2 <= HALVES_MAX;
        match halves(piece.share).filter(|_| may_halve) {
            Some([first, rest]) => {
                let halves = piece.divided(first, rest);
                halves.into_iter().for_each(|half| self.pieces.insert(PieceKey::new(key.partition, key.offset, half.share), half));
            }
            None => {
                piece.state = PieceState::Dying { number: self.next_number, since: now };
                self.next_number += 1;
                self.pieces.insert(key, piece);
            }
        }
        woken
    }

    /// The dead letter is where it is to be, and its rows are done with; nothing if it is not there any more.
    pub(in crate::engine) fn bury(&mut self, number: u64) -> Option<Settled> {
        let key = self.pieces.dying_with(number)?;
        let has_returned = self.pieces.len() == PIECES_MAX;
        self.take_out(key);
        Some(Settled { acked: vec![key.partition.index()], has_returned, ..Settled::default() })
    }

    /// Ends a lease, and puts the piece back as it is changed; who may be given more.
    pub(super) fn end_lease(&mut self, lease: LeaseId, change: impl FnOnce(&mut Piece)) -> Option<ConsumerId> {
        let key = self.pieces.leased(lease)?;
        let woken = self.woken_by(key);
        let mut piece = self.take_out(key).0?;
        change(&mut piece);
        self.pieces.insert(key, piece);
        woken
    }

    /// Who waits for the end of this piece's lease, if anybody.
    fn woken_by(&mut self, key: PieceKey) -> Option<ConsumerId> {
        let (consumer, _) = self.pieces.get(key)?.lessee()?;
        std::mem::take(&mut self.consumers.get_mut(&consumer)?.is_full).then_some(consumer)
    }

    /// Takes a piece out, and from who has it; and whether lanes went over to others by that.
    pub(super) fn take_out(&mut self, key: PieceKey) -> (Option<Piece>, bool) {
        let Some(piece) = self.pieces.remove(key) else { return (None, false) };
        let PieceState::Leased { lease, consumer, .. } = piece.state else { return (Some(piece), false) };
        if let Some(member) = self.consumers.get_mut(&consumer) {
            member.leases.remove(&lease);
            member.under_way.batches = member.under_way.batches.saturating_sub(1);
            member.under_way.bytes = member.under_way.bytes.saturating_sub(piece.bytes);
            member.suspects = member.suspects.saturating_sub(usize::from(piece.is_suspect));
        }
        let has_moved = match (&mut self.lanes, piece.share) {
            (Some(lanes), Share::Lanes(mask)) => lanes.release(mask),
            _ => false,
        };
        (Some(piece), has_moved)
    }
}

/// Two halves of a share; none of one that has a single row or lane.
fn halves(share: Share) -> Option<[Share; 2]> {
    match share {
        Share::Rows { start, end } if end.saturating_sub(start) > 1 => {
            let middle = start + (end - start) / 2;
            Some([Share::Rows { start, end: middle }, Share::Rows { start: middle, end }])
        }
        Share::Lanes(mask) if mask.count_ones() > 1 => {
            let lower = (0..64).map(|bit| 1 << bit).filter(|bit| mask & bit != 0).take(mask.count_ones() as usize / 2).sum::<u64>();
            Some([Share::Lanes(lower), Share::Lanes(mask & !lower)])
        }
        Share::Rows { .. } | Share::Lanes(_) => None,
    }
}
