//! What is known of one stream, and what follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bowstring::engine::LeaseId;
use bowstring::wire::proto::StreamDescription;

use super::Names;
use super::sharing::SharingFacts;

#[derive(Debug, Default)]
pub(super) struct StreamFacts {
    /// By partition and offset: the batch's name and epoch.
    seen: BTreeMap<(u32, u64), (String, Option<u64>)>,
    /// By name: where it is.
    places: BTreeMap<String, (u32, u64)>,
    /// Offsets that a subscription has been given, by partition.
    pub(super) seen_by: BTreeMap<(String, u32), BTreeSet<u64>>,
    /// Where partitions ended when a subscription's consumer left: what was never confirmed may come after that.
    pub(super) left: BTreeMap<(String, u32), u64>,
    /// By producer and its run.
    pub(super) direct: BTreeMap<String, Direct>,
    pub(super) epochs: BTreeMap<(String, u64), EpochFacts>,
    pub(super) cursors: BTreeMap<(String, u32), Cursor>,
    /// By partition: the newest lease by which a batch came.
    pub(super) newest_leases: BTreeMap<u32, LeaseId>,
    /// Who was given a batch by which lease, last, by partition and offset.
    given: BTreeMap<(u32, u64), (String, LeaseId)>,
    /// Consumers that have left, by crash or otherwise.
    pub(super) gone: BTreeSet<String>,
    /// By shared subscription.
    pub(super) sharings: BTreeMap<String, SharingFacts>,
    /// Subscriptions that were evicted, since when that is known.
    pub(super) evicted: BTreeMap<String, Duration>,
}

/// What one run of a producer appends directly.
#[derive(Debug, Default)]
pub(super) struct Direct {
    /// Names and partitions, in order.
    pub(super) sent: Vec<(String, u32)>,
    pub(super) confirmed: usize,
}

#[derive(Debug, Default)]
pub(super) struct EpochFacts {
    /// What it would have after each commit that was asked for.
    pub(super) asked: Vec<Names>,
    is_confirmed: bool,
    content: Option<Names>,
}

/// Where a subscription stands in a partition.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    /// Acks that were asked for go up to here.
    pub(super) asked: u64,
    asked_at: Duration,
    /// When a seek was done, and how far acks went before it.
    sought: Vec<(Duration, u64)>,
    confirmed: Vec<(Duration, u64)>,
    crashed_at: Option<Duration>,
    /// Since when it has to be at least where.
    floors: Vec<(Duration, u64)>,
}

impl Cursor {
    pub(super) fn ask(&mut self, now: Duration, before: u64) {
        if before > self.asked {
            (self.asked, self.asked_at) = (before, now);
        }
    }

    pub(super) fn confirm(&mut self, now: Duration, before: u64) {
        // A coordinator that has crashed since may have said so in its last moments, and forgotten it.
        if self.crashed_at.is_none_or(|crashed_at| crashed_at < self.asked_at) {
            self.confirmed.push((now, before));
        }
    }

    /// A seek puts it there; acks of before count no more.
    pub(super) fn seek(&mut self, now: Duration, to: u64) {
        self.sought.push((now, self.asked));
        self.asked = to;
        self.forget();
    }

    /// Nothing is sure to be acked.
    pub(super) fn forget(&mut self) {
        self.confirmed.clear();
        self.floors.clear();
    }

    /// Where it may be at most for who has asked at some time.
    pub(super) fn ceiling(&self, asked_at: Duration) -> u64 {
        self.sought.iter().filter(|(at, _)| asked_at <= *at).map(|(_, asked)| *asked).max().unwrap_or_default().max(self.asked)
    }

    /// Where it had to be at least at some time.
    pub(super) fn floor(&self, at: Duration) -> u64 {
        self.floors.iter().filter(|(since, _)| *since <= at).map(|(_, floor)| *floor).max().unwrap_or_default()
    }

    pub(super) fn crash(&mut self, now: Duration, late_max: Duration) {
        let kept = self.confirmed.iter().filter(|(at, _)| *at + late_max <= now).map(|(_, before)| *before).max();
        self.floors.extend(kept.map(|kept| (now, kept)));
        self.confirmed.clear();
        self.crashed_at = Some(now);
    }
}

impl EpochFacts {
    pub(super) fn confirm(&mut self, names: Option<Names>) -> Result<(), String> {
        self.is_confirmed = true;
        match (names, &self.content) {
            (Some(names), Some(content)) if names != *content => Err("it was committed twice, with different batches".to_owned()),
            (Some(names), None) => {
                self.content = Some(names);
                Ok(())
            }
            (None, _) if self.asked.is_empty() => Err("it is said to be committed, but nobody asked for it".to_owned()),
            _ => Ok(()),
        }
    }

    /// Whether exactly these batches may be there.
    fn allows(&self, found: &Names) -> bool {
        match &self.content {
            Some(content) => content == found,
            None => !self.is_confirmed && found.is_empty() || self.asked.contains(found),
        }
    }
}

impl StreamFacts {
    pub(super) fn cursor(&mut self, subscription: &str, partition: u32) -> &mut Cursor {
        self.cursors.entry((subscription.to_owned(), partition)).or_default()
    }

    /// The subscription begins again there, and has to be given all of it once more.
    pub(super) fn seek(&mut self, subscription: &str, partition: u32, now: Duration, to: u64) {
        self.cursor(subscription, partition).seek(now, to);
        if let Some(seen) = self.seen_by.get_mut(&(subscription.to_owned(), partition)) {
            seen.retain(|offset| *offset < to);
        }
    }

    /// The name of a batch that came.
    pub(super) fn name_at(&self, partition: u32, offset: u64) -> Option<&str> {
        self.seen.get(&(partition, offset)).map(|(name, _)| name.as_str())
    }

    /// A batch came by a lease. In a run without faults nobody is given what somebody else has who is still there.
    pub(super) fn give(&mut self, who: &str, (partition, offset): (u32, u64), lease: LeaseId, is_faultless: bool) -> Result<(), String> {
        let newest = self.newest_leases.entry(partition).or_default();
        *newest = lease.max(*newest);
        match self.given.insert((partition, offset), (who.to_owned(), lease)) {
            Some((former, by)) if is_faultless && by != lease && !self.gone.contains(&former) => {
                Err(format!("{who} is given by lease {lease} what {former} has by lease {by}"))
            }
            Some((former, by)) if by == lease && former != who => Err(format!("lease {lease} is of {former} and of {who}")),
            _ => Ok(()),
        }
    }

    /// A batch came.
    pub(super) fn see(
        &mut self,
        partition: u32,
        offset: u64,
        name: &str,
        epoch: Option<u64>,
        subscription: Option<&str>,
    ) -> Result<(), String> {
        if let Some(subscription) = subscription {
            self.seen_by.entry((subscription.to_owned(), partition)).or_default().insert(offset);
        }
        let before = self.seen.entry((partition, offset)).or_insert_with(|| (name.to_owned(), epoch));
        if before.0 != name || before.1 != epoch {
            return Err(format!("it is {name} of epoch {epoch:?}, but was {} of epoch {:?}", before.0, before.1));
        }
        match self.places.insert(name.to_owned(), (partition, offset)) {
            Some(place) if place != (partition, offset) => Err(format!("{name} is at {}@{} too", place.0, place.1)),
            _ => Ok(()),
        }
    }

    pub(super) fn check(&self, description: &StreamDescription) -> Vec<String> {
        let mut failures = Vec::new();
        for partition in &description.partitions {
            let number = partition.partition;
            if let Some(((_, offset), (name, _))) = self.seen.range((number, partition.end)..=(number, u64::MAX)).next() {
                failures.push(format!("partition {number} ends at {}, but {name} was delivered at {offset}", partition.end));
            }
            let missing = (0..partition.end).find(|offset| !self.seen.contains_key(&(number, *offset)));
            failures.extend(missing.map(|offset| format!("nobody was given offset {offset} of partition {number}")));
            let acked = self.cursors.iter().filter(|((_, owner), _)| *owner == number).map(|(_, cursor)| cursor.asked).min();
            if acked.is_some_and(|acked| partition.start > acked) {
                failures.push(format!("partition {number} begins at {}, but only {acked:?} is acked", partition.start));
            }
        }
        let subscriptions: BTreeSet<_> = self.seen_by.keys().map(|(subscription, _)| subscription).collect();
        for subscription in subscriptions {
            for partition in &description.partitions {
                let seen = self.seen_by.get(&(subscription.clone(), partition.partition));
                let end = self.left.get(&(subscription.clone(), partition.partition)).copied().unwrap_or(partition.end);
                let missing = (0..end).find(|offset| seen.is_none_or(|seen| !seen.contains(offset)));
                let missing =
                    missing.map(|offset| format!("{subscription} was not given offset {offset} of partition {}", partition.partition));
                failures.extend(missing);
            }
        }
        failures
            .extend(self.direct.iter().filter_map(|(producer, direct)| Some(format!("{producer}: {}", self.check_direct(direct).err()?))));
        for ((producer, epoch), facts) in &self.epochs {
            let failure = self.check_epoch(producer, *epoch, facts).err();
            failures.extend(failure.map(|failure| format!("{producer} epoch {epoch}: {failure}")));
        }
        let known = self.direct.values().flat_map(|direct| direct.sent.iter().map(|(name, _)| name));
        let known: BTreeSet<_> = known.chain(self.epochs.values().flat_map(|epoch| epoch.asked.iter().flatten())).collect();
        failures.extend(self.places.keys().filter(|name| !known.contains(name)).map(|name| format!("{name} was never to become visible")));
        failures
    }

    /// What is there of a producer's run is, in each partition, the beginning of it, in order, and all that was confirmed.
    fn check_direct(&self, direct: &Direct) -> Result<(), String> {
        let lost = direct.sent[..direct.confirmed].iter().find(|(name, _)| !self.places.contains_key(name));
        if let Some((name, _)) = lost {
            return Err(format!("{name} was confirmed, and is lost"));
        }
        let mut ends: BTreeMap<u32, &str> = BTreeMap::new();
        let mut last: BTreeMap<u32, u64> = BTreeMap::new();
        for (name, partition) in &direct.sent {
            let Some(&(found, offset)) = self.places.get(name) else {
                ends.entry(*partition).or_insert(name);
                continue;
            };
            if let Some(end) = ends.get(partition) {
                return Err(format!("{name} is there, but {end} before it in partition {partition} is not"));
            }
            if found != *partition || last.insert(found, offset).is_some_and(|last| last >= offset) {
                return Err(format!("{name} is at {found}@{offset}: in another partition or order than it was sent"));
            }
        }
        Ok(())
    }

    /// All of it is there or nothing, once, in order, and together.
    fn check_epoch(&self, producer: &str, epoch: u64, facts: &EpochFacts) -> Result<(), String> {
        let prefix = format!("{producer}:{epoch}:");
        let found: BTreeMap<_, _> = self.places.iter().filter(|(name, _)| name.starts_with(&prefix)).collect();
        let names: Names = found.keys().map(|name| (*name).clone()).collect();
        if !facts.allows(&names) {
            let expected = facts.content.as_ref().or(facts.asked.last());
            return Err(format!("confirmed: {}; there is {names:?}, expected {expected:?}", facts.is_confirmed));
        }
        let mut offsets: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for (name, (partition, offset)) in found {
            offsets.entry(*partition).or_default().push(*offset);
            if self.seen[&(*partition, *offset)].1 != Some(epoch) {
                return Err(format!("{name} is of epoch {:?}", self.seen[&(*partition, *offset)].1));
            }
        }
        for (partition, offsets) in &mut offsets {
            // Names sort by task and batch, as the batches of an epoch do.
            if offsets.windows(2).any(|pair| pair[1] != pair[0] + 1) {
                return Err(format!("its offsets in partition {partition} are {offsets:?}"));
            }
        }
        Ok(())
    }
}
