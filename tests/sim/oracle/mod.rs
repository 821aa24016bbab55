//! The oracle: what those who take part were told, and whether all of it is true.

mod facts;
mod shared;
mod sharing;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bowstring::client::{Delivered, Error};
use bowstring::engine::{Code, LeaseId, PartitionMove};
use bowstring::wire::proto::{OnOverflow, StreamDescription, SubscriptionDescription};
use parking_lot::Mutex;

use self::facts::StreamFacts;
pub(crate) use self::sharing::{Given, Letter, Said, Word};
use super::batches::name_of;
use super::plan::Plan;
use super::trace::{SimClock, Trace};

/// An ack that was confirmed so long before a crash survives it.
const ACK_LATE_MAX: Duration = Duration::from_millis(500);

/// All that is known of a run.
#[derive(Debug)]
pub(crate) struct Oracle {
    pub(crate) plan: Plan,
    pub(crate) clock: SimClock,
    pub(crate) trace: Trace,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    streams: BTreeMap<String, StreamFacts>,
    failures: Vec<String>,
    /// Those who write and are not done, by stream.
    writing: BTreeMap<String, usize>,
    /// Those who take part and are not done.
    working: usize,
    verifies: bool,
    /// When the coordinator last did.
    crashed_at: Option<Duration>,
}

/// What was sent for an epoch.
pub(crate) type Names = BTreeSet<String>;

impl Oracle {
    pub(crate) fn new(plan: Plan, clock: SimClock, prints: bool) -> Self {
        let writers = |stream: &super::plan::StreamPlan| (stream.name.clone(), stream.producers.len() + stream.queries.len());
        let known = Known { writing: plan.streams.iter().map(writers).collect(), ..Known::default() };
        Self { plan, trace: Trace::new(clock.clone(), prints), clock, known: Mutex::new(known) }
    }

    pub(crate) fn note(&self, line: impl AsRef<str>) {
        self.trace.note(line);
    }

    pub(crate) fn fail(&self, what: impl Into<String>) {
        let what = what.into();
        self.note(format!("FAILURE {what}"));
        self.known.lock().failures.push(what);
    }

    pub(crate) fn failures(&self) -> Vec<String> {
        self.known.lock().failures.clone()
    }

    /// An error that an actor met: most are expected while things go wrong, some never.
    pub(crate) fn met(&self, who: &str, what: &str, error: &Error) {
        self.note(format!("{who}: {what}: {:?}: {error}", error.code()));
        let is_expected = match error.code() {
            Code::Unavailable | Code::ShuttingDown | Code::Timeout => true,
            // A coordinator that is killed at a call of its disk says so in its last moment.
            Code::Storage => self
                .plan
                .faults
                .iter()
                .any(|(_, fault)| fault.is_of_disk() || matches!(fault, super::plan::Fault::Crash { calls: Some(_), .. })),
            Code::SpoolFull => self.plan.has_small_logs(),
            _ => false,
        };
        if !is_expected {
            self.fail(format!("{who}: {what}: {:?} is not to be expected: {error}", error.code()));
        }
    }

    pub(crate) fn begin_work(&self) {
        self.known.lock().working += 1;
    }

    pub(crate) fn end_work(&self, who: &str) {
        self.note(format!("{who}: done"));
        self.known.lock().working -= 1;
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.known.lock().working == 0
    }

    pub(crate) fn verify_now(&self) {
        self.known.lock().verifies = true;
    }

    pub(crate) fn verifies(&self) -> bool {
        self.known.lock().verifies
    }

    /// One of a stream's writers is done; whether it was the last.
    pub(crate) fn writer_done(&self, stream: &str) -> bool {
        let mut known = self.known.lock();
        let left = known.writing.get_mut(stream).expect("a stream of the plan");
        *left -= 1;
        *left == 0
    }

    pub(crate) fn has_writers(&self, stream: &str) -> bool {
        self.known.lock().writing.get(stream).is_some_and(|left| *left > 0)
    }

    /// A direct producer is about to append the next of its batches.
    pub(crate) fn sends(&self, stream: &str, producer: &str, name: String, partition: u32) {
        self.with(stream, |facts| facts.direct.entry(producer.to_owned()).or_default().sent.push((name, partition)));
    }

    /// So many of its batches are confirmed.
    pub(crate) fn stored(&self, stream: &str, producer: &str, count: u64) {
        self.with(stream, |facts| {
            let direct = facts.direct.entry(producer.to_owned()).or_default();
            direct.confirmed = direct.confirmed.max(usize::try_from(count).expect("few"));
        });
    }

    /// A commit of an epoch is about to be asked for.
    pub(crate) fn commits(&self, stream: &str, producer: &str, epoch: u64, names: Names) {
        self.with(stream, |facts| facts.epochs.entry((producer.to_owned(), epoch)).or_default().asked.push(names));
    }

    /// An epoch was confirmed: with this content, or with one of those that were asked for before.
    pub(crate) fn committed(&self, stream: &str, producer: &str, epoch: u64, names: Option<Names>) {
        let key = (producer.to_owned(), epoch);
        let failure = self.with(stream, |facts| facts.epochs.entry(key).or_default().confirm(names));
        if let Err(failure) = failure {
            self.fail(format!("{stream} {producer} epoch {epoch}: {failure}"));
        }
    }

    /// A batch came; to a subscription's consumer, or to somebody else.
    pub(crate) fn delivered(&self, stream: &str, who: &str, subscription: Option<&str>, delivered: &Delivered) -> Option<String> {
        let (partition, offset) = (delivered.partition.0, delivered.offset.0);
        let name = match name_of(delivered) {
            Ok(name) => name,
            Err(failure) => {
                self.fail(format!("{stream}/{partition}@{offset}: {failure}"));
                return None;
            }
        };
        self.note(format!("{who}: {stream}/{partition}@{offset} {name}"));
        let epoch = delivered.epoch.map(|epoch| epoch.0);
        if let Err(failure) = self.with(stream, |facts| facts.see(partition, offset, &name, epoch, subscription)) {
            self.fail(format!("{stream}/{partition}@{offset}: {failure}"));
        }
        Some(name)
    }

    /// A batch came to one of those who share a subscription by leases.
    pub(crate) fn given(&self, stream: &str, who: &str, delivered: &Delivered) {
        let Some(lease) = delivered.lease else { return self.fail(format!("{who} was given a batch by no lease")) };
        let (is_faultless, place) = (self.plan.faults.is_empty(), (delivered.partition.0, delivered.offset.0));
        if let Err(failure) = self.with(stream, |facts| facts.give(who, place, lease, is_faultless)) {
            self.fail(format!("{stream}/{}@{}: {failure}", place.0, place.1));
        }
    }

    /// One of them has left.
    pub(crate) fn leaves_team(&self, stream: &str, who: &str) {
        self.with(stream, |facts| facts.gone.insert(who.to_owned()));
    }

    /// Whether a newer lease on the partition has been seen.
    pub(crate) fn is_superseded(&self, stream: &str, partition: u32, lease: LeaseId) -> bool {
        self.with(stream, |facts| facts.newest_leases.get(&partition).is_some_and(|newest| *newest > lease))
    }

    /// A subscription is about to ack all before an offset.
    pub(crate) fn acks(&self, stream: &str, subscription: &str, partition: u32, before: u64) {
        let now = self.clock.elapsed();
        self.with(stream, |facts| facts.cursor(subscription, partition).ask(now, before));
    }

    /// What was acked so far is confirmed, up to these offsets.
    pub(crate) fn acked(&self, stream: &str, subscription: &str, offsets: &BTreeMap<u32, u64>) {
        let now = self.clock.elapsed();
        self.with(stream, |facts| {
            for (partition, before) in offsets {
                facts.cursor(subscription, *partition).confirm(now, *before);
            }
        });
    }

    /// The coordinator has crashed: what was confirmed in the last moments may be forgotten.
    pub(crate) fn crashed(&self) {
        let (now, has_disk_faults) = (self.clock.elapsed(), self.plan.has_disk_faults());
        for facts in self.known.lock().streams.values_mut() {
            facts.sharings.values_mut().for_each(|sharing| sharing.crash(now, has_disk_faults));
        }
        if has_disk_faults {
            return;
        }
        self.known.lock().crashed_at = Some(now);
        for facts in self.known.lock().streams.values_mut() {
            facts.evicted.retain(|_, since| *since + ACK_LATE_MAX <= now);
            facts.cursors.values_mut().for_each(|cursor| cursor.crash(now, ACK_LATE_MAX));
        }
    }

    /// A seek is about to be asked for: what was acked before is no longer sure.
    pub(crate) fn seeks(&self, stream: &str, subscription: &str, partitions: u32) {
        for partition in 0..partitions {
            self.with(stream, |facts| facts.cursor(subscription, partition).forget());
        }
    }

    /// It was done: the subscription is there, and what was acked before is not acked.
    pub(crate) fn sought(&self, stream: &str, subscription: &str, moves: &[PartitionMove]) {
        let now = self.clock.elapsed();
        for PartitionMove { partition, to, .. } in moves {
            self.with(stream, |facts| facts.seek(subscription, partition.0, now, to.0));
        }
    }

    /// How the coordinator describes a stream, after it was asked to at a time.
    pub(crate) fn described(&self, description: &StreamDescription, asked_at: Duration) {
        let stream = &description.stream;
        for subscription in &description.subscriptions {
            self.described_overflow(stream, subscription, asked_at);
            // Of a shared one each row is looked after by itself.
            if subscription.on_overflow() != OnOverflow::Hold || subscription.sharing.is_some() {
                continue;
            }
            for cursor in &subscription.partitions {
                let failure = self.with(stream, |facts| {
                    let known = facts.cursor(&subscription.subscription, cursor.partition);
                    let (asked, floor) = (known.ceiling(asked_at), known.floor(asked_at));
                    (cursor.acked > asked || cursor.acked < floor).then(|| format!("acked {}, not {floor} to {asked}", cursor.acked))
                });
                if let Some(failure) = failure {
                    self.fail(format!("{stream}/{} subscription {}: {failure}", cursor.partition, subscription.subscription));
                }
            }
        }
    }

    /// A subscription was evicted, as was described after it was asked for at a time: that stays so until somebody seeks.
    pub(crate) fn evicted(&self, stream: &str, subscription: &str, asked_at: Duration) {
        // One that crashes within that time may forget it.
        let is_sure = self.known.lock().crashed_at.is_none_or(|crashed_at| crashed_at < asked_at);
        if is_sure && !self.plan.has_disk_faults() {
            let now = self.clock.elapsed();
            self.with(stream, |facts| *facts.evicted.entry(subscription.to_owned()).or_insert(now));
        }
    }

    /// It is about to be put somewhere.
    pub(crate) fn revives(&self, stream: &str, subscription: &str) {
        self.with(stream, |facts| facts.evicted.remove(subscription));
    }

    /// Who holds loses nothing, and who was evicted is.
    fn described_overflow(&self, stream: &str, subscription: &SubscriptionDescription, asked_at: Duration) {
        let name = &subscription.subscription;
        let has_lost = subscription.eviction.is_some() || subscription.partitions.iter().any(|cursor| cursor.skipped > 0);
        if subscription.on_overflow() == OnOverflow::Hold && has_lost {
            self.fail(format!("{stream}: subscription {name} holds, and has lost something: {subscription:?}"));
        }
        let is_known = self.with(stream, |facts| facts.evicted.get(name).is_some_and(|since| *since <= asked_at));
        if is_known && subscription.eviction.is_none() {
            self.fail(format!("{stream}: subscription {name} was evicted, and nobody has put it anywhere since"));
        }
    }

    /// Whether a subscription has seen all that a stream has.
    pub(crate) fn has_seen_all(&self, subscription: &str, description: &StreamDescription) -> bool {
        self.with(&description.stream, |facts| {
            let has_all = description.partitions.iter().all(|partition| {
                let seen = facts.seen_by.get(&(subscription.to_owned(), partition.partition));
                seen.map_or(0, |seen| seen.range(..partition.end).count() as u64) == partition.end
            });
            if has_all {
                for partition in &description.partitions {
                    facts.left.insert((subscription.to_owned(), partition.partition), partition.end);
                }
            }
            has_all
        })
    }

    /// All is over, and the stream was read again after a last power loss.
    pub(crate) fn check(&self, description: &StreamDescription) {
        let stream = &description.stream;
        for failure in self.with(stream, |facts| facts.check(description)) {
            self.fail(format!("{stream}: {failure}"));
        }
    }

    fn with<T>(&self, stream: &str, look: impl FnOnce(&mut StreamFacts) -> T) -> T {
        look(self.known.lock().streams.entry(stream.to_owned()).or_default())
    }
}
