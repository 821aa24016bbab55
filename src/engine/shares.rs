//! A shared subscription: any consumer is given the next rows, leased by themselves. What is not acked in time, or is given back, goes
//! to anybody; what fails too often goes to the dead letters.

mod settle;
mod take;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub(super) use self::settle::Settled;
use super::given::Given;
use super::lanes::Lanes;
use super::lease::InFlight;
use super::leases::Lost;
use super::partition::Partition;
use super::pieces::{Piece, PieceKey, PieceState, Pieces};
use super::share::{ShareTerms, SharingRules};
use super::subscription::Cursor;
use super::{ConsumerId, ConsumerName, LeaseId, Offset, PartitionId, ShareSnapshot, SharesSnapshot, Timestamp};
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
    /// Nobody is dead before that for want of a sign of life.
    alive_until: Timestamp,
    /// How many have let a lease run out or pause, and do not go on.
    stalled: usize,
    /// Leases that were ended by a word, the newest of them: a word that is said again, since its answer was lost, is not in vain.
    ended: BTreeSet<LeaseId>,
    /// Deliveries that have failed, since the coordinator was started.
    pub(super) failed: u64,
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
            alive_until: Timestamp(u64::MAX),
            stalled: 0,
            ended: BTreeSet::new(),
            failed: 0,
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
            // As the cursors do.
            given.clamp_to(partition.end());
            given.drop_before(partition.start());
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
        self.alive_until = self.alive_until.min(until);
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

    /// Time makes it one that was never given, also before a restart.
    fn next_lease(&mut self, now: Timestamp) -> LeaseId {
        self.newest = LeaseId(now.0.max(self.newest.0.saturating_add(1)));
        self.newest
    }

    /// What lies before `start` in a partition was dropped: who has it may do with it what it likes. Whether others are to look again.
    pub(super) fn drop_before(&mut self, index: usize, start: Offset) -> bool {
        let (partition, next) = (PartitionId::of(index), self.given[index].next());
        let gone = self.pieces.of(partition).take_while(|(key, _)| key.offset < start);
        let gone: Vec<_> = gone.map(|(key, _)| *key).collect();
        let mut offsets: Vec<_> = gone.iter().map(|key| key.offset).filter(|offset| *offset < next).collect();
        offsets.dedup();
        gone.iter().for_each(|key| drop(self.take_out(*key)));
        let given = &mut self.given[index];
        given.skipped += offsets.len() as u64 + start.since(next);
        given.drop_before(start);
        !gone.is_empty()
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

    /// About how many rows and bytes of a partition nobody was given.
    pub(super) fn left<D>(&self, index: usize, partition: &Partition<D>) -> (u64, u64) {
        self.given[index].left(partition)
    }

    /// What is named is given anew from the cursors on; the rest comes by other leases, to those who read anew.
    pub(super) fn renew(&mut self, cursors: &[Cursor], is_named: impl Fn(&PartitionId) -> bool, now: Timestamp) {
        let keys: Vec<_> = self.pieces.iter().map(|(key, piece)| (*key, piece.lessee().is_some())).collect();
        for (key, is_leased) in keys {
            if is_named(&key.partition) {
                self.take_out(key);
            } else if let Some(mut piece) = is_leased.then(|| self.take_out(key).0).flatten() {
                piece.state = PieceState::Waiting { due: now };
                self.pieces.insert(key, piece);
            }
        }
        let is_keyed = self.lanes.is_some();
        for (index, cursor) in cursors.iter().enumerate().filter(|(index, _)| is_named(&PartitionId::of(*index))) {
            self.given[index] = Given::new(cursor.acked, is_keyed);
        }
        self.consumers.values_mut().for_each(|member| member.reading = 0);
    }
}
