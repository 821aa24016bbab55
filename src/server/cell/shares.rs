//! Consumers of a shared subscription: what they are sent.

use std::time::Duration;

use super::super::error::Error;
use super::super::sharing::share_message;
use super::leases::{Leased, LeasedReader};
use super::{Inner, StreamCell};
use crate::engine::{ConsumerId, Dying, SharingRules, SubscriptionName, TakenShare, Timestamp};

/// After a dead letter could not be written, it is tried again after so long, and each time after twice that.
const TRY_AGAIN: Duration = Duration::from_millis(250);
const TRY_AGAIN_MAX: Duration = Duration::from_secs(30);

/// Why the dead letters of a subscription cannot be written.
#[derive(Debug)]
pub(super) struct Burial {
    trouble: String,
    tries: u32,
    again: Timestamp,
}

impl StreamCell {
    /// How long until a shared subscription has something to do by time alone.
    pub(in crate::server) fn next_due(&self, reader: &LeasedReader) -> Option<Duration> {
        let now = self.now();
        let due: Option<Timestamp> = self.inner.lock().stream.next_due(&reader.subscription, now).ok()?;
        due.map(|due| due.since(now))
    }

    /// Whether a consumer has let a lease run out, and has not said that it goes on.
    ///
    /// # Errors
    /// `subscription_not_found`.
    pub(in crate::server) fn is_stalled(&self, subscription: &SubscriptionName, consumer: ConsumerId) -> Result<bool, Error> {
        Ok(self.inner.lock().stream.is_stalled(subscription, consumer)?)
    }

    /// After how many failed deliveries rows of a shared subscription go to the dead letters; 0: never.
    ///
    /// # Errors
    /// `subscription_not_found`.
    pub(in crate::server) fn max_deliveries(&self, subscription: &SubscriptionName) -> Result<u32, Error> {
        Ok(self.inner.lock().stream.sharing(subscription)?.map_or(0, |rules| rules.max_deliveries))
    }

    /// Whether anything is to go to the dead letters.
    pub(in crate::server) fn has_dying(&self) -> bool {
        self.inner.lock().stream.has_dying()
    }

    /// Why the dead letters of a subscription cannot be written, if they cannot.
    pub(in crate::server) fn note_burial(&self, subscription: &SubscriptionName, trouble: Option<String>) {
        let mut burials = self.burials.lock();
        match trouble {
            Some(trouble) => {
                let tries = burials.get(subscription).map_or(0, |burial| burial.tries.saturating_add(1));
                let again = self.now().plus(TRY_AGAIN.saturating_mul(1 << tries.min(7)).min(TRY_AGAIN_MAX));
                burials.insert(subscription.clone(), Burial { trouble, tries, again });
            }
            None => drop(burials.remove(subscription)),
        }
    }

    /// Whether there is no use in trying yet, after it could not be done.
    pub(in crate::server) fn burial_waits(&self, subscription: &SubscriptionName) -> bool {
        self.burials.lock().get(subscription).is_some_and(|burial| self.now() < burial.again)
    }

    /// What was noted of it last.
    pub(in crate::server) fn burial_trouble(&self, subscription: &SubscriptionName) -> Option<String> {
        self.burials.lock().get(subscription).map(|burial| burial.trouble.clone())
    }

    /// What is to go to the dead letters, and how each subscription with any is shared.
    pub(in crate::server) fn dying(&self) -> Vec<(Dying, SharingRules)> {
        let inner = self.inner.lock();
        if !inner.stream.has_dying() {
            return Vec::new();
        }
        let with_rules = |dying: Dying| {
            let rules = inner.stream.sharing(&dying.subscription).ok()??.clone();
            Some((dying, rules))
        };
        inner.stream.dying().into_iter().filter_map(with_rules).collect()
    }
}

impl Inner {
    /// The batches of these shares, each once.
    pub(super) fn shared_batches(&self, mut taken: Vec<TakenShare>) -> Result<Vec<Leased>, Error> {
        taken.sort_by_key(|taken| (taken.partition, taken.offset));
        let mut batches: Vec<Leased> = Vec::new();
        for share in taken {
            let message = share_message(&share);
            match batches.last_mut().filter(|last| (last.partition, last.batch.offset) == (share.partition, share.offset)) {
                Some(last) => {
                    last.skipped += share.skipped;
                    last.shares.push(message);
                }
                None => {
                    let found = self.stream.read(share.partition, share.offset, 1, u64::MAX)?;
                    let leased =
                        |batch| Leased { lease: None, shares: vec![message], partition: share.partition, batch, skipped: share.skipped };
                    batches.extend(found.into_iter().map(leased));
                }
            }
        }
        Ok(batches)
    }
}
