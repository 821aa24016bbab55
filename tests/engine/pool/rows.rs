//! What becomes of each row, plainly: one by one, or lane by lane of a batch.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bowstring::engine::{InFlight, LANES, LeaseId, PartitionId, Share, SharingRules, TakenShare, Timestamp};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// For anybody, from then on.
    Open(Timestamp),
    Leased(LeaseId),
    Dying(u64),
    Acked,
}

/// A row, or the rows of a lane; of a batch without rows there is one as well.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unit {
    pub(crate) state: State,
    pub(crate) failed: u32,
    pub(crate) is_suspect: bool,
}

#[derive(Debug)]
pub(crate) struct BatchRows {
    pub(crate) rows: u64,
    pub(crate) units: Vec<Unit>,
}

#[derive(Debug, Default)]
pub(crate) struct PartitionRows {
    /// What is before it was dropped.
    pub(crate) start: usize,
    /// By offset, those that were dropped too.
    pub(crate) batches: Vec<BatchRows>,
    /// Batches that were dropped and that nobody was told of.
    pub(crate) untold: u64,
}

/// What a consumer has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    pub(crate) consumer: u64,
    pub(crate) until: Timestamp,
    pub(crate) partition: usize,
    pub(crate) offset: usize,
    pub(crate) share: Share,
    pub(crate) is_suspect: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Member {
    pub(crate) until: Timestamp,
    pub(crate) reading: Option<u64>,
    pub(crate) is_stalled: bool,
    pub(crate) in_flight: InFlight,
    pub(crate) max_rows: u64,
}

#[derive(Debug)]
pub(crate) struct Rows {
    rules: SharingRules,
    pub(crate) partitions: Vec<PartitionRows>,
    pub(crate) leases: BTreeMap<LeaseId, Held>,
    pub(crate) lost: Vec<LeaseId>,
    /// Those of them that were ended by a word.
    pub(crate) ended: BTreeSet<LeaseId>,
    pub(crate) members: BTreeMap<u64, Member>,
    pub(crate) dying: BTreeMap<u64, (usize, usize, Share, u32)>,
    next_number: u64,
}

impl Rows {
    pub(crate) fn new(partitions: u32, rules: SharingRules) -> Self {
        let partitions = (0..partitions).map(|_| PartitionRows::default()).collect();
        let (leases, members, dying) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { rules, partitions, leases, lost: Vec::new(), ended: BTreeSet::new(), members, dying, next_number: 0 }
    }

    pub(crate) fn is_keyed(&self) -> bool {
        !self.rules.keys.is_empty()
    }

    pub(crate) fn append(&mut self, partition: u32, rows: u64) {
        let count = if self.is_keyed() { u64::from(LANES) } else { rows.max(1) };
        let unit = Unit { state: State::Open(Timestamp(0)), failed: 0, is_suspect: false };
        let batch = BatchRows { rows, units: vec![unit; usize::try_from(count).expect("few")] };
        self.partitions[partition as usize].batches.push(batch);
    }

    fn units(&mut self, (partition, offset, share): (usize, usize, Share)) -> Vec<&mut Unit> {
        let units = self.partitions[partition].batches[offset].units.iter_mut().enumerate();
        let is_in = |number: usize| match share {
            Share::Rows { start: 0, end: 0 } => number == 0,
            Share::Rows { start, end } => (start..end).contains(&(number as u64)),
            Share::Lanes(mask) => mask & (1 << number) != 0,
        };
        units.filter(|(number, _)| is_in(*number)).map(|(_, unit)| unit).collect()
    }

    /// What a consumer is given is nobody else's, was not acked, and is as it was delivered before.
    pub(crate) fn receive(&mut self, consumer: u64, taken: &TakenShare, until: Timestamp, now: Timestamp) {
        let TakenShare { lease, partition, offset, share, delivery, skipped } = *taken;
        let place = (partition.index(), usize::try_from(offset.0).expect("few"), share);
        assert!(place.1 >= self.partitions[place.0].start, "it is gone");
        assert_eq!(skipped, std::mem::take(&mut self.partitions[place.0].untold), "of {partition:?}, before {offset:?}");
        let max_rows = self.members[&consumer].max_rows;
        match share {
            Share::Rows { start, end } => {
                assert!(!self.is_keyed() && end - start <= max_rows, "{share:?}");
                assert!(start < end || self.partitions[place.0].batches[place.1].rows == 0, "{share:?}");
            }
            Share::Lanes(mask) => {
                assert!(self.is_keyed() && mask != 0, "{share:?}");
                let others = self.leases.values().filter(|held| held.consumer != consumer);
                let with_others = others.map(|held| if let Share::Lanes(mask) = held.share { mask } else { 0 }).fold(0, |all, of| all | of);
                assert_eq!(with_others & mask, 0, "a lane is with one consumer");
            }
        }
        let units = self.units(place);
        let (failed, is_suspect) = (units[0].failed, units[0].is_suspect);
        for unit in units {
            assert!(matches!(unit.state, State::Open(due) if due <= now), "{unit:?} is given as {taken:?} at {now:?}");
            assert_eq!((unit.failed + 1, unit.is_suspect), (delivery, is_suspect), "of all its rows");
            unit.state = State::Leased(lease);
        }
        assert_eq!(delivery, failed + 1);
        let held = Held { consumer, until, partition: place.0, offset: place.1, share, is_suspect };
        assert!(self.leases.insert(lease, held).is_none() && !self.lost.contains(&lease), "each lease is another one");
        assert!(self.of(consumer).filter(|(_, held)| held.is_suspect).count() <= 1, "one may end the consumer, and another is beside it");
    }

    /// What a consumer has, by lease.
    pub(crate) fn of(&self, consumer: u64) -> impl Iterator<Item = (LeaseId, Held)> {
        self.leases.iter().filter(move |(_, held)| held.consumer == consumer).map(|(lease, held)| (*lease, *held))
    }

    /// What a consumer has in flight.
    pub(crate) fn in_flight(&self, consumer: u64) -> InFlight {
        let bytes = |held: &Held| self.bytes_of(held);
        self.of(consumer).fold(InFlight { batches: 0, bytes: 0 }, |sum, (_, held)| InFlight {
            batches: sum.batches + 1,
            bytes: sum.bytes + bytes(&held),
        })
    }

    fn bytes_of(&self, held: &Held) -> u64 {
        let rows = self.partitions[held.partition].batches[held.offset].rows;
        match held.share {
            Share::Rows { start, end } if rows > 0 => 64 * (end - start),
            Share::Rows { .. } => 64,
            Share::Lanes(mask) => rows.max(1) * u64::from(mask.count_ones()),
        }
    }

    fn end(&mut self, lease: LeaseId, mut change: impl FnMut(&mut Unit)) -> Option<Held> {
        let held = self.leases.remove(&lease)?;
        self.lost.push(lease);
        self.units((held.partition, held.offset, held.share)).into_iter().for_each(&mut change);
        Some(held)
    }

    pub(crate) fn ack(&mut self, lease: LeaseId) {
        self.end(lease, |unit| unit.state = State::Acked);
    }

    pub(crate) fn release(&mut self, lease: LeaseId, now: Timestamp) {
        self.end(lease, |unit| unit.state = State::Open(now));
    }

    pub(crate) fn fail(&mut self, lease: LeaseId, delay: Duration, is_suspect: bool, now: Timestamp) {
        let Some(held) = self.leases.get(&lease).copied() else { return };
        let place = (held.partition, held.offset, held.share);
        let (max, number) = (self.rules.max_deliveries, self.next_number);
        let units = self.units(place);
        let (failed, is_single) = (units[0].failed + 1, units.len() == 1);
        let comes_again = max == 0 || failed < max || (self.rules.bisect && !is_single);
        let state = if comes_again { State::Open(now.plus(delay)) } else { State::Dying(number) };
        if state == State::Dying(number) {
            self.next_number += 1;
            self.dying.insert(number, (place.0, place.1, place.2, failed));
        }
        self.end(lease, |unit| *unit = Unit { state, failed, is_suspect });
    }

    pub(crate) fn expire(&mut self, now: Timestamp) {
        let mut overdue: Vec<_> = self.leases.iter().filter(|(_, held)| held.until < now).map(|(id, held)| (held.until, *id)).collect();
        overdue.sort_unstable();
        for (_, lease) in overdue {
            let consumer = self.leases[&lease].consumer;
            self.fail(lease, Duration::ZERO, true, now);
            self.members.entry(consumer).and_modify(|member| member.is_stalled = true);
        }
        let dead: Vec<_> = self.members.iter().filter(|(_, member)| member.until < now).map(|(id, _)| *id).collect();
        dead.into_iter().for_each(|consumer| self.forget(consumer, now));
    }

    pub(crate) fn forget(&mut self, consumer: u64, now: Timestamp) {
        let leases: Vec<_> = self.of(consumer).map(|(lease, _)| lease).collect();
        leases.into_iter().for_each(|lease| self.fail(lease, Duration::ZERO, true, now));
        self.members.remove(&consumer);
    }

    pub(crate) fn bury(&mut self, number: u64) {
        let Some((partition, offset, share, _)) = self.dying.remove(&number) else { return };
        self.units((partition, offset, share)).into_iter().for_each(|unit| unit.state = State::Acked);
    }

    /// A partition begins here now.
    pub(crate) fn drop_before(&mut self, partition: usize, start: usize) {
        let gone = self.partitions[partition].start..start;
        for offset in gone {
            let batch = &mut self.partitions[partition].batches[offset];
            let is_missed = batch.units.iter().any(|unit| unit.state != State::Acked);
            batch.units.iter_mut().for_each(|unit| unit.state = State::Acked);
            self.partitions[partition].untold += u64::from(is_missed);
            self.lose(|held| (held.partition, held.offset) == (partition, offset));
            self.dying.retain(|_, place| (place.0, place.1) != (partition, offset));
        }
        self.partitions[partition].start = start;
    }

    fn lose(&mut self, which: impl Fn(&Held) -> bool) {
        let lost: Vec<_> = self.leases.iter().filter(|(_, held)| which(held)).map(|(lease, _)| *lease).collect();
        self.leases.retain(|lease, _| !lost.contains(lease));
        self.lost.extend(lost);
    }

    /// What is named begins anew there; the rest goes on, by other leases.
    pub(crate) fn seek(&mut self, partition: usize, to: usize, now: Timestamp) {
        let leases: Vec<_> = self.leases.keys().copied().collect();
        leases.into_iter().for_each(|lease| self.release(lease, now));
        self.members.values_mut().for_each(|member| member.reading = None);
        self.dying.retain(|_, place| place.0 != partition);
        let sought = &mut self.partitions[partition];
        sought.untold = 0;
        for (offset, batch) in sought.batches.iter_mut().enumerate() {
            let state = if offset < to { State::Acked } else { State::Open(now) };
            batch.units.iter_mut().for_each(|unit| *unit = Unit { state, failed: 0, is_suspect: false });
        }
    }

    pub(crate) fn restart(&mut self, now: Timestamp) {
        let leases: Vec<_> = self.leases.keys().copied().collect();
        leases.into_iter().for_each(|lease| self.release(lease, now));
        self.members.clear();
        // Nobody knows which were ended.
        self.ended.clear();
        for partition in &mut self.partitions {
            partition.untold = 0;
            for unit in partition.batches.iter_mut().flat_map(|batch| &mut batch.units) {
                unit.is_suspect = unit.failed > 0;
                if let State::Open(due) = &mut unit.state {
                    *due = now;
                }
            }
        }
    }

    /// The first offset of which something is not acked.
    pub(crate) fn cursor(&self, partition: usize) -> u64 {
        let batches = &self.partitions[partition].batches;
        let is_acked = |batch: &BatchRows| batch.units.iter().all(|unit| unit.state == State::Acked);
        batches.iter().take_while(|batch| is_acked(batch)).count() as u64
    }

    /// Batches and rows that are not acked, and their bytes.
    pub(crate) fn lag(&self, partition: usize) -> (u64, u64, u64) {
        let mut lag = (0, 0, 0);
        for batch in &self.partitions[partition].batches {
            let left = batch.units.iter().filter(|unit| unit.state != State::Acked).count() as u64;
            let (rows, bytes) = match self.is_keyed() {
                true => (left * batch.rows / u64::from(LANES), left * batch.rows.max(1)),
                false => (left.min(batch.rows), 64 * left),
            };
            lag = (lag.0 + u64::from(left > 0), lag.1 + rows, lag.2 + bytes);
        }
        lag
    }

    pub(crate) fn units_of_all(&self) -> impl Iterator<Item = &Unit> {
        self.partitions.iter().flat_map(|partition| &partition.batches).flat_map(|batch| &batch.units)
    }

    /// Whether anything is for anybody.
    pub(crate) fn has_open(&self, now: Timestamp) -> bool {
        self.units_of_all().any(|unit| matches!(unit.state, State::Open(due) if due <= now))
    }
}

pub(crate) fn number(partition: usize) -> PartitionId {
    PartitionId(u32::try_from(partition).expect("few"))
}
