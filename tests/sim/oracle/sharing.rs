//! What is known of a shared subscription: who was given which rows by which lease, what was said of them, and what follows.
//!
//! Leases have rising numbers, and each is the microsecond in which it was given, or one of the next few: so the order of two leases of a
//! row is known, and about when each began, whatever the network did to what came by them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bowstring::engine::LeaseId;

use super::ACK_LATE_MAX;
use crate::plan::SharingPlan;
use crate::trace::EPOCH_MICROS;

/// How far the number of a lease may be ahead of the clock: so many are given at once at most.
const AHEAD_MAX: Duration = Duration::from_millis(1);

/// What a consumer says of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    Ack,
    Nack,
    Release,
}

/// That it did, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Said {
    pub(crate) lease: LeaseId,
    pub(crate) word: Word,
    pub(crate) at: Duration,
}

/// What a consumer was given.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    pub(crate) lease: LeaseId,
    /// Has a row that nobody can do.
    pub(crate) is_bad: bool,
}

/// A dead letter.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    pub(crate) name: String,
    pub(crate) rows: Vec<u64>,
    pub(crate) deliveries: u32,
    pub(crate) died_at: LeaseId,
}

/// A lease by which rows came.
#[derive(Debug)]
pub(super) struct Lease {
    who: String,
    partition: u32,
    offset: u64,
    rows: Vec<u64>,
    keys: u16,
    delivery: u32,
    /// When its consumer was done with it.
    let_go: Option<Duration>,
}

impl Lease {
    pub(super) fn new(who: String, (partition, offset): (u32, u64), rows: Vec<u64>, keys: u16, delivery: u32) -> Self {
        Self { who, partition, offset, rows, keys, delivery, let_go: None }
    }
}

/// What is known of a row.
#[derive(Debug, Clone, Copy, Default)]
struct Row {
    /// The newest lease by which it came.
    newest: LeaseId,
    /// Somebody has asked to ack it.
    is_asked: bool,
    acked: Option<Fact>,
    /// It has failed at least so often, less one: what a later delivery says, at least.
    tries: Option<(Fact, u32)>,
    /// The same, as no crash takes it back.
    tries_kept: Option<(Fact, u32)>,
}

/// What follows from a lease.
#[derive(Debug, Clone, Copy)]
struct Fact {
    by: LeaseId,
    since: Duration,
    /// No crash takes it back.
    is_kept: bool,
}

#[derive(Debug, Default)]
pub(super) struct SharingFacts {
    rows: BTreeMap<(u32, u64), Vec<Row>>,
    leases: BTreeMap<LeaseId, Lease>,
    crashed_at: Option<Duration>,
    /// Leases up to this are of before a seek.
    sought: LeaseId,
    seeks: usize,
    /// Where a seek has put partitions: what is before has gone, since all had acked it.
    begins: BTreeMap<u32, u64>,
    /// Where partitions ended when all was done.
    left: BTreeMap<u32, u64>,
}

impl SharingFacts {
    /// Rows came.
    pub(super) fn give(
        &mut self,
        plan: &SharingPlan,
        (lease, new): (LeaseId, Lease),
        now: Duration,
        is_timely: bool,
    ) -> Result<(), String> {
        let known = self.leases.iter().filter(|(other, _)| is_timely && **other != lease);
        for (other, known) in known {
            let is_same = (known.partition, known.offset) == (new.partition, new.offset);
            let has_same_rows = is_same && new.rows.iter().any(|row| known.rows.binary_search(row).is_ok());
            let has_same_keys = plan.is_keyed && known.who != new.who && known.keys & new.keys != 0;
            let (first, by, second) = if *other < lease { (other, known, lease) } else { (&lease, &new, *other) };
            if (has_same_rows || has_same_keys) && second > self.sought && self.is_open(*first, by, second, plan.ack_within) {
                let what = if has_same_rows { "rows" } else { "keys" };
                let after = time_of(second).saturating_sub(time_of(*first));
                let (holder, taker) = if *other < lease { (&known.who, &new.who) } else { (&new.who, &known.who) };
                return Err(format!("{taker} is given by {second:?}, {after:?} after {first:?}, {what} that {holder} has"));
            }
        }
        if lease > self.sought {
            // What was known when it was sent may be forgotten.
            let is_sure = self.crashed_at.is_none_or(|crashed_at| crashed_at < time_of(lease).saturating_sub(AHEAD_MAX));
            let rows = self.rows.entry((new.partition, new.offset)).or_default();
            for row in &new.rows {
                row_of(rows, *row).come((lease, new.delivery), now, is_sure, plan).map_err(|failure| format!("row {row}: {failure}"))?;
            }
        }
        match self.leases.insert(lease, new) {
            Some(known) => Err(format!("{lease:?} comes again: {} had it", known.who)),
            None => Ok(()),
        }
    }

    /// Whether a lease cannot have ended when another one began: nobody had died of it, time had not ended it, and its consumer not.
    fn is_open(&self, first: LeaseId, lease: &Lease, second: LeaseId, ack_within: Duration) -> bool {
        let (began, until) = (time_of(first).saturating_sub(AHEAD_MAX), time_of(second));
        let has_crashed = self.crashed_at.is_some_and(|crashed_at| crashed_at >= began);
        !has_crashed && first > self.sought && until < began + ack_within && lease.let_go.is_none_or(|let_go| until < let_go)
    }

    /// A consumer says something of a lease.
    pub(super) fn says(&mut self, lease: LeaseId, word: Word, now: Duration) {
        let Some(known) = self.leases.get_mut(&lease) else { return };
        known.let_go.get_or_insert(now);
        // By which side of a seek it is is not always known: then it may count.
        if word == Word::Ack {
            let rows = self.rows.entry((known.partition, known.offset)).or_default();
            known.rows.iter().for_each(|row| row_of(rows, *row).is_asked = true);
        }
    }

    /// What it said has counted.
    pub(super) fn said(&mut self, said: &Said, now: Duration) -> Result<(), String> {
        // A coordinator that has crashed since may have said so in its last moments, and forgotten it.
        let is_sure = said.lease > self.sought && self.crashed_at.is_none_or(|crashed_at| crashed_at < said.at);
        let Some(known) = self.leases.get(&said.lease).filter(|_| is_sure) else { return Ok(()) };
        let rows = self.rows.entry((known.partition, known.offset)).or_default();
        let fact = Fact { by: said.lease, since: now, is_kept: false };
        for number in &known.rows {
            let row = row_of(rows, *number);
            match said.word {
                Word::Ack if row.newest > said.lease => {
                    return Err(format!("row {number} was acked by {:?}, and had been given by {:?}", said.lease, row.newest));
                }
                Word::Ack => row.acked = Some(fact),
                Word::Nack => row.try_again(fact, known.delivery + 1),
                Word::Release => {}
            }
        }
        Ok(())
    }

    /// A consumer is no more.
    pub(super) fn leave(&mut self, who: &str, now: Duration) {
        let own = self.leases.values_mut().filter(|lease| lease.who == who);
        own.for_each(|lease| _ = lease.let_go.get_or_insert(now));
    }

    /// The coordinator has crashed: what it was told in the last moments may be forgotten, or with a broken disk all.
    pub(super) fn crash(&mut self, now: Duration, has_disk_faults: bool) {
        self.crashed_at = Some(now);
        for row in self.rows.values_mut().flatten() {
            if has_disk_faults {
                *row = Row { is_asked: row.is_asked, newest: row.newest, ..Row::default() };
                continue;
            }
            let kept = |fact: &Fact| fact.is_kept || fact.since + ACK_LATE_MAX <= now;
            row.acked = row.acked.filter(kept).map(|fact| Fact { is_kept: true, ..fact });
            row.tries = row.tries.filter(|(fact, _)| kept(fact)).or(row.tries_kept);
            row.tries = row.tries.map(|(fact, tries)| (Fact { is_kept: true, ..fact }, tries));
            row.tries_kept = row.tries;
        }
    }

    /// A seek is about to be asked for, or was done: nothing of before counts.
    pub(super) fn seek(&mut self, until: LeaseId, is_done: bool) {
        self.sought = until;
        self.seeks += usize::from(!is_done);
        self.left.clear();
        for row in self.rows.values_mut().flatten() {
            // What is asked meanwhile may be of after it.
            *row = Row { is_asked: row.is_asked && is_done, newest: row.newest, ..Row::default() };
        }
    }

    /// A seek has put it there.
    pub(super) fn begin_at(&mut self, partition: u32, start: u64) {
        self.begins.insert(partition, start);
    }

    /// All up to there is done.
    pub(super) fn leave_at(&mut self, partition: u32, end: u64) {
        let left = self.left.entry(partition).or_default();
        *left = end.max(*left);
    }

    /// Every row was acked or has died, once. `names`: of the batches that were seen, with how many rows and the bad one.
    pub(super) fn check(
        &self,
        plan: &SharingPlan,
        letters: &[Letter],
        batches: impl Fn(u32, u64) -> Option<(String, u64, Option<u64>)>,
    ) -> Result<(), String> {
        let mut dead: BTreeMap<(u32, u64), BTreeMap<u64, usize>> = BTreeMap::new();
        for letter in letters {
            let at = format!("the dead letter of {}@{} rows {:?}", letter.partition, letter.offset, letter.rows);
            let batch = batches(letter.partition, letter.offset);
            if batch.as_ref().is_none_or(|(name, ..)| *name != letter.name) {
                return Err(format!("{at} has rows of {}, not of {batch:?}", letter.name));
            }
            if plan.max_deliveries == 0 || letter.deliveries < plan.max_deliveries {
                return Err(format!("{at} had {} deliveries", letter.deliveries));
            }
            if plan.bisect && !plan.is_keyed && letter.rows.len() != 1 {
                return Err(format!("{at} was to be halved"));
            }
            let rows = self.rows.get(&(letter.partition, letter.offset));
            for row in &letter.rows {
                let found = dead.entry((letter.partition, letter.offset)).or_default().entry(*row).or_default();
                *found += 1;
                if *found > 1 + self.seeks {
                    return Err(format!("{at}: {row} is there {found} times"));
                }
                let known = rows.and_then(|rows| rows.get(usize::try_from(*row).expect("few"))).copied().unwrap_or_default();
                // After a seek it begins anew.
                if let Some(acked) = known.acked.filter(|_| self.seeks == 0) {
                    return Err(format!("{at}: {row} was acked by {:?}", acked.by));
                }
                if self.seeks == 0 && time_of(known.newest) > time_of(letter.died_at) + AHEAD_MAX {
                    return Err(format!("{at}: {row} was given by {:?} after that", known.newest));
                }
            }
        }
        for (partition, end) in &self.left {
            for offset in self.begins.get(partition).copied().unwrap_or_default()..*end {
                let Some((name, count, bad)) = batches(*partition, offset) else { continue };
                let (dead, rows) = (dead.get(&(*partition, offset)), self.rows.get(&(*partition, offset)));
                let is_dead = |row: u64| dead.is_some_and(|dead| dead.contains_key(&row));
                let is_asked =
                    |row: u64| rows.and_then(|rows| rows.get(usize::try_from(row).expect("few"))).is_some_and(|row| row.is_asked);
                let lost: BTreeSet<_> = (0..count).filter(|row| !is_dead(*row) && !is_asked(*row)).collect();
                if !lost.is_empty() {
                    return Err(format!("{name} at {partition}@{offset}: rows {lost:?} are done with, but neither acked nor dead letters"));
                }
                if let Some(bad) = bad.filter(|bad| plan.has_bad_rows && !is_dead(*bad)) {
                    return Err(format!("{name} at {partition}@{offset}: row {bad} always failed, and is no dead letter"));
                }
            }
        }
        Ok(())
    }
}

impl Row {
    /// It came, for the so many-th time.
    fn come(&mut self, (lease, delivery): (LeaseId, u32), now: Duration, is_sure: bool, plan: &SharingPlan) -> Result<(), String> {
        if let Some(acked) = self.acked.filter(|acked| lease > acked.by) {
            return Err(format!("it was acked by {:?}, and comes by {lease:?}", acked.by));
        }
        if let Some((fact, tries)) = self.tries.filter(|(fact, tries)| lease > fact.by && delivery < *tries) {
            return Err(format!(
                "it comes by {lease:?} for the {delivery}. time; by {:?} it was known that the next one is {tries}",
                fact.by
            ));
        }
        // Halves are delivered once more.
        if plan.max_deliveries > 0 && !plan.bisect && delivery > plan.max_deliveries {
            return Err(format!("it comes for the {delivery}. time, and was to come {} times", plan.max_deliveries));
        }
        if lease > self.newest {
            self.newest = lease;
            if is_sure {
                self.try_again(Fact { by: lease, since: now, is_kept: false }, delivery);
            }
        }
        Ok(())
    }

    /// It fails.
    fn try_again(&mut self, fact: Fact, tries: u32) {
        if let Some((known, _)) = self.tries {
            if known.by > fact.by {
                return;
            }
            if known.is_kept || known.since + ACK_LATE_MAX <= fact.since {
                self.tries_kept = self.tries;
            }
        }
        self.tries = Some((fact, tries));
    }
}

fn row_of(rows: &mut Vec<Row>, row: u64) -> &mut Row {
    let index = usize::try_from(row).expect("few");
    if rows.len() <= index {
        rows.resize(index + 1, Row::default());
    }
    &mut rows[index]
}

/// When a lease began, or a little later.
fn time_of(lease: LeaseId) -> Duration {
    Duration::from_micros(lease.0.saturating_sub(EPOCH_MICROS))
}
