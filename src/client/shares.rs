//! What a consumer of a shared subscription has: the leases that came and are not done with. A plain state machine under the prefetch's
//! lock.
//!
//! A lease runs for its caller from when the caller got it: until then it is renewed here, and once more just after.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Error;
use super::in_flight::{End, Unacked};
use super::membership::SharingTerms;
use super::ready::Origin;
use super::retry::now;
use super::updates::{Update, Updates, Verb};
use super::watched::Watched;
use crate::engine::{LeaseId, LeasedOffset, PartitionId};

/// Lost leases that the caller has and has said nothing of.
const LOST_MAX: usize = 4096;

/// A lease that is here.
#[derive(Debug, Clone, Copy)]
struct Here {
    partition: PartitionId,
    end: End,
    /// When the caller got it, as a number that rises; none while it has not.
    handed: Option<u64>,
    /// Renewed since.
    is_renewed: bool,
    /// Others have it. The caller may still say something of it: that is refused, and it is told.
    is_lost: bool,
}

/// The leases of a consumer.
#[derive(Debug)]
pub(super) struct Shares {
    here: BTreeMap<LeaseId, Here>,
    handed: u64,
    ack_within: Duration,
    /// A consumer is leased the keys that it has, whether a batch has rows of them or not.
    is_keyed: bool,
    /// The coordinator has seen one of its leases run out, and gives it nothing before its caller is back.
    is_stalled: bool,
    /// When the caller last asked for more, or said something of what it has.
    caller_at: Instant,
    updates: Arc<Watched<Updates>>,
}

impl Shares {
    pub(super) fn new(terms: &SharingTerms, updates: Arc<Watched<Updates>>) -> Self {
        let (ack_within, is_keyed) = (terms.ack_within, !terms.keys.is_empty());
        Self { here: BTreeMap::new(), handed: 0, ack_within, is_keyed, is_stalled: false, caller_at: now(), updates }
    }

    /// A lease has come, of so many rows; whether the caller is to have what came by it.
    pub(super) fn receive(&mut self, origin: &Origin, rows: u64) -> bool {
        let Some(lease) = origin.lease else { return false };
        let here = Here { partition: origin.partition, end: origin.end(), handed: None, is_renewed: false, is_lost: false };
        if self.is_stalled {
            // Sent before the coordinator knew.
            self.say([(lease, here)], &Verb::Release);
            return false;
        }
        if self.is_keyed && rows == 0 && origin.skipped == 0 {
            // The batch has none of the keys: nobody has anything to do.
            self.say([(lease, here)], &Verb::Ack);
            return false;
        }
        let is_new = !self.here.contains_key(&lease);
        self.here.entry(lease).or_insert(here);
        is_new
    }

    /// The caller's side takes what came by it.
    pub(super) fn hand_out(&mut self, origin: &Origin) {
        self.handed += 1;
        if let Some(here) = origin.lease.and_then(|lease| self.here.get_mut(&lease)) {
            here.handed = Some(self.handed);
        }
    }

    /// The caller wants more: it goes on, whatever it has let run out.
    pub(super) fn caller_is_here(&mut self) {
        self.caller_at = now();
        if std::mem::take(&mut self.is_stalled) {
            self.updates.update(Updates::resume);
        }
    }

    /// What the coordinator says. What the caller does not have goes to others then; gives the leases.
    pub(super) fn note_stalled(&mut self, is_stalled: bool) -> Vec<LeaseId> {
        self.is_stalled = is_stalled;
        if is_stalled { self.release() } else { Vec::new() }
    }

    /// Gives back what the caller does not have.
    fn release(&mut self) -> Vec<LeaseId> {
        let unused = self.take_unused();
        let leases = unused.iter().map(|update| update.lease).collect();
        self.updates.update(|updates| updates.put(unused));
        leases
    }

    /// Forgets what the caller does not have, and what is to be said of it.
    pub(super) fn take_unused(&mut self) -> Vec<Update> {
        let own: Vec<_> = self.here.iter().filter(|(_, here)| here.handed.is_none()).map(|(lease, here)| (*lease, *here)).collect();
        own.iter().for_each(|(lease, _)| _ = self.here.remove(lease));
        self.updates_of(own, &Verb::Release)
    }

    /// As time passes: renews what the caller does not have, and once more what it has got since the last time. If the caller has not
    /// been heard of for as long as a lease lasts, others get what it does not have, and all that comes, until it is back; gives the
    /// leases.
    pub(super) fn keep(&mut self) -> Vec<LeaseId> {
        let waits = self.here.values().any(|here| here.handed.is_none());
        if !waits || now().saturating_duration_since(self.caller_at) <= self.ack_within {
            self.renew(false);
            return Vec::new();
        }
        self.is_stalled = true;
        self.updates.update(Updates::pause);
        let released = self.release();
        self.renew(false);
        released
    }

    /// Renews what the caller does not have, and what it has got since the last time; all of it after a reconnect.
    pub(super) fn renew(&mut self, all: bool) {
        let mut own = Vec::new();
        for (lease, here) in self.here.iter_mut().filter(|(_, here)| !here.is_lost) {
            if all || here.handed.is_none() || !here.is_renewed {
                here.is_renewed = here.handed.is_some();
                own.push((*lease, *here));
            }
        }
        let lasts = self.ack_within;
        self.say(own, &Verb::Renew { lasts });
    }

    /// What is here, for a new connection.
    pub(super) fn got(&self) -> Vec<LeasedOffset> {
        let held = self.here.iter().filter(|(_, here)| !here.is_lost);
        held.map(|(lease, here)| LeasedOffset { partition: here.partition, lease: *lease, offset: here.end.offset }).collect()
    }

    /// Whether what came by it may be handed out.
    pub(super) fn has(&self, lease: LeaseId) -> bool {
        self.here.get(&lease).is_some_and(|here| !here.is_lost)
    }

    /// Whether the caller has something that is not done with.
    pub(super) fn has_unacked(&self) -> bool {
        self.here.values().any(|here| here.handed.is_some() && !here.is_lost)
    }

    /// These were lost.
    pub(super) fn lose(&mut self, leases: &[LeaseId]) {
        for lease in leases {
            if let Some(here) = self.here.get_mut(lease) {
                here.is_lost = true;
            }
        }
        let mut lost = self.here.values().filter(|here| here.is_lost).count();
        self.here.retain(|_, here| {
            let is_kept = !here.is_lost || here.handed.is_some() && lost <= LOST_MAX;
            lost -= usize::from(!is_kept);
            is_kept
        });
    }

    /// The partitions of which something is here.
    pub(super) fn partitions(&self) -> Vec<PartitionId> {
        let all: std::collections::BTreeSet<_> = self.here.values().map(|here| here.partition).collect();
        all.into_iter().collect()
    }

    /// What the caller says of some.
    pub(super) fn finish(&mut self, unacked: &[Unacked], verb: &Verb) -> Result<(), Error> {
        self.caller_at = now();
        let mut own = Vec::with_capacity(unacked.len());
        for lease in unacked.iter().filter_map(|unacked| unacked.lease) {
            let Some(here) = self.here.get(&lease).copied().filter(|here| here.handed.is_some()) else { continue };
            if !matches!(verb, Verb::Renew { .. }) {
                self.here.remove(&lease);
            }
            own.push((lease, here));
        }
        self.try_say(own, verb)
    }

    /// Acks this one, and those of its partition that the caller got before it.
    pub(super) fn ack_through(&mut self, unacked: &Unacked) -> Result<(), Error> {
        self.caller_at = now();
        let reached = unacked.lease.and_then(|lease| self.here.get(&lease)).and_then(|here| here.handed);
        let is_meant = |here: &Here| here.partition == unacked.partition && here.handed.is_some() && here.handed <= reached;
        let meant: Vec<_> = self.here.iter().filter(|(_, here)| is_meant(here)).map(|(lease, here)| (*lease, *here)).collect();
        meant.iter().for_each(|(lease, _)| _ = self.here.remove(lease));
        self.try_say(meant, &Verb::Ack)
    }

    fn say(&self, leases: impl IntoIterator<Item = (LeaseId, Here)>, verb: &Verb) {
        // What is refused is told to the caller with its next word.
        let updates: Vec<_> = self.updates_of(leases, verb);
        if !updates.is_empty() {
            self.updates.update(|known| known.put(updates));
        }
    }

    fn try_say(&self, leases: impl IntoIterator<Item = (LeaseId, Here)>, verb: &Verb) -> Result<(), Error> {
        let updates = self.updates_of(leases, verb);
        self.updates.update(|known| known.add(updates))
    }

    fn updates_of(&self, leases: impl IntoIterator<Item = (LeaseId, Here)>, verb: &Verb) -> Vec<Update> {
        let update = |(lease, here): (LeaseId, Here)| {
            let offset = if here.end.rows == 0 { here.end.offset } else { here.end.offset.plus(1) };
            Update { lease, partition: here.partition, offset, verb: verb.clone() }
        };
        leases.into_iter().map(update).collect()
    }
}
