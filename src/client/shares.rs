//! What a consumer of a shared subscription has: the leases that came and are not done with. A plain state machine under the prefetch's
//! lock.
//!
//! A lease runs for its caller from when the caller got it: until then it is renewed here, and once more just after.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Error;
use super::in_flight::{End, Unacked};
use super::membership::SharingTerms;
use super::ready::Origin;
use super::updates::{Update, Updates, Verb};
use super::watched::Watched;
use crate::engine::{LeaseId, LeasedOffset, PartitionId};

/// A lease that is here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Here {
    pub(super) partition: PartitionId,
    pub(super) end: End,
    /// When the caller got it, as a number that rises; none while it has not.
    handed: Option<u64>,
    /// Renewed since.
    is_renewed: bool,
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
    updates: Arc<Watched<Updates>>,
}

impl Shares {
    pub(super) fn new(terms: &SharingTerms, updates: Arc<Watched<Updates>>) -> Self {
        let (ack_within, is_keyed) = (terms.ack_within, !terms.keys.is_empty());
        Self { here: BTreeMap::new(), handed: 0, ack_within, is_keyed, is_stalled: false, updates }
    }

    /// A lease has come, of so many rows; whether the caller is to have what came by it.
    pub(super) fn receive(&mut self, origin: &Origin, rows: u64) -> bool {
        let Some(lease) = origin.lease else { return false };
        let here = Here { partition: origin.partition, end: origin.end(), handed: None, is_renewed: false };
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
        self.here.insert(lease, here).is_none()
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

    /// Renews what the caller does not have, and once more what it has got since the last time; all of it after a reconnect.
    pub(super) fn renew(&mut self, all: bool) {
        let mut own = Vec::new();
        for (lease, here) in &mut self.here {
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
        self.here.iter().map(|(lease, here)| LeasedOffset { partition: here.partition, lease: *lease, offset: here.end.offset }).collect()
    }

    pub(super) fn has(&self, lease: LeaseId) -> bool {
        self.here.contains_key(&lease)
    }

    /// Whether the caller has something that is not done with.
    pub(super) fn has_unacked(&self) -> bool {
        self.here.values().any(|here| here.handed.is_some())
    }

    /// These were lost. What the caller has it may still say something of: that is refused, and it is told.
    pub(super) fn lose(&mut self, leases: &[LeaseId]) {
        self.here.retain(|lease, here| here.handed.is_some() || !leases.contains(lease));
    }

    /// The partitions of which something is here.
    pub(super) fn partitions(&self) -> Vec<PartitionId> {
        let all: std::collections::BTreeSet<_> = self.here.values().map(|here| here.partition).collect();
        all.into_iter().collect()
    }

    /// What the caller says of one.
    pub(super) fn finish(&mut self, unacked: &Unacked, verb: &Verb) -> Result<(), Error> {
        let is_open = |lease: &LeaseId| self.here.get(lease).is_some_and(|here| here.handed.is_some());
        let Some(lease) = unacked.lease.filter(is_open) else { return self.updates.update(|updates| updates.add([])) };
        let here = match verb {
            Verb::Renew { .. } => self.here.get(&lease).copied(),
            Verb::Ack | Verb::Nack { .. } | Verb::Release => self.here.remove(&lease),
        };
        self.try_say(here.map(|here| (lease, here)), verb)
    }

    /// Acks this one, and those of its partition that the caller got before it.
    pub(super) fn ack_through(&mut self, unacked: &Unacked) -> Result<(), Error> {
        let reached = unacked.lease.and_then(|lease| self.here.get(&lease)).and_then(|here| here.handed);
        self.ack_where(|here| here.partition == unacked.partition && here.handed <= reached)
    }

    /// Acks what the caller has of these batches.
    pub(super) fn ack_where(&mut self, is_meant: impl Fn(&Here) -> bool) -> Result<(), Error> {
        let meant = self.here.iter().filter(|(_, here)| here.handed.is_some() && is_meant(here));
        let meant: Vec<_> = meant.map(|(lease, here)| (*lease, *here)).collect();
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
