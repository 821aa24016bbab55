//! What consumers of shared subscriptions tell the oracle.

use bowstring::client::Delivered;
use bowstring::engine::{LeaseId, PartitionMove};
use bowstring::wire::proto::StreamDescription;

use super::Oracle;
use super::sharing::{Given, Lease, Letter, Said, SharingFacts, Word};
use crate::batches::{bad_row, rows, rows_of};
use crate::plan::SharingPlan;
use crate::trace::EPOCH_MICROS;

impl Oracle {
    /// Rows came to one of those who share a subscription.
    pub(crate) fn shared(&self, stream: &str, plan: &SharingPlan, who: &str, delivered: &Delivered) -> Option<Given> {
        let (partition, offset) = (delivered.partition.0, delivered.offset.0);
        let given = self.share(stream, plan, who, delivered);
        given.map_err(|failure| self.fail(format!("{stream}/{partition}@{offset} of {}: {failure}", plan.subscription))).ok()
    }

    fn share(&self, stream: &str, plan: &SharingPlan, who: &str, delivered: &Delivered) -> Result<Given, String> {
        let (partition, offset, delivery) = (delivered.partition.0, delivered.offset.0, delivered.delivery);
        let lease = delivered.lease.ok_or("it came by no lease")?;
        let name = String::from_utf8(delivered.user.to_vec()).map_err(|error| error.to_string())?;
        let (found, keys) = rows_of(&delivered.batch, &name)?;
        let (first, count) = (found.first().copied().unwrap_or_default(), found.len());
        self.note(format!("{who}: {stream}/{partition}@{offset} {name}: {count} rows from {first}, delivery {delivery}, {lease:?}"));
        let slice = delivered.slice.clone().map_or(0..rows(&name), |slice| slice.rows);
        if !plan.is_keyed && !found.iter().copied().eq(slice.clone()) {
            return Err(format!("the rows {slice:?} are {found:?}"));
        }
        let is_bad = plan.has_bad_rows && bad_row(&name).is_some_and(|bad| found.contains(&bad));
        let epoch = delivered.epoch.map(|epoch| epoch.0);
        let new = Lease::new(who.to_owned(), (partition, offset), found, keys, delivery);
        let (now, is_timely) = (self.clock.elapsed(), !self.plan.has_network_faults());
        self.with(stream, |facts| {
            facts.see(partition, offset, &name, epoch, None)?;
            facts.sharings.entry(plan.subscription.clone()).or_default().give(plan, (lease, new), now, is_timely)
        })?;
        Ok(Given { lease, is_bad })
    }

    /// A consumer says something of a lease.
    pub(crate) fn says(&self, stream: &str, subscription: &str, lease: LeaseId, word: Word) {
        let now = self.clock.elapsed();
        self.with_sharing(stream, subscription, |sharing| sharing.says(lease, word, now));
    }

    /// What it said has counted.
    pub(crate) fn said(&self, stream: &str, subscription: &str, who: &str, said: &[Said]) {
        let now = self.clock.elapsed();
        for said in said {
            if let Err(failure) = self.with_sharing(stream, subscription, |sharing| sharing.said(said, now)) {
                self.fail(format!("{stream}: {who}: {failure}"));
            }
        }
    }

    /// A consumer is no more.
    pub(crate) fn leaves_sharing(&self, stream: &str, subscription: &str, who: &str) {
        let now = self.clock.elapsed();
        self.with_sharing(stream, subscription, |sharing| sharing.leave(who, now));
    }

    /// A seek is about to be asked for.
    pub(crate) fn seeks_sharing(&self, stream: &str, subscription: &str) {
        self.with_sharing(stream, subscription, |sharing| sharing.seek(LeaseId(u64::MAX), false));
    }

    /// It was done.
    pub(crate) fn sought_sharing(&self, stream: &str, subscription: &str, moves: &[PartitionMove]) {
        // Leases of after it that were given already are taken for ones of before: nothing follows from them.
        let now = u64::try_from(self.clock.elapsed().as_micros()).expect("a short time");
        self.with_sharing(stream, subscription, |sharing| {
            sharing.seek(LeaseId(EPOCH_MICROS + now + 1_000), true);
            moves.iter().for_each(|to| sharing.begin_at(to.partition.0, to.to.0));
        });
    }

    /// Whether all that a stream has is done with.
    pub(crate) fn has_done_all(&self, subscription: &str, description: &StreamDescription) -> bool {
        let found = description.subscriptions.iter().find(|found| found.subscription == subscription);
        let ends = || description.partitions.iter().map(|partition| partition.end);
        let is_done = found.is_some_and(|found| found.partitions.iter().map(|cursor| cursor.acked).eq(ends()));
        if is_done {
            self.with_sharing(&description.stream, subscription, |sharing| {
                description.partitions.iter().for_each(|partition| sharing.leave_at(partition.partition, partition.end));
            });
        }
        is_done
    }

    /// All is over, and these are the dead letters.
    pub(crate) fn check_sharing(&self, stream: &str, plan: &SharingPlan, letters: &[Letter]) {
        let checked = self.with(stream, |facts| {
            let batch = |partition, offset| {
                let name = facts.name_at(partition, offset)?;
                Some((name.to_owned(), rows(name), bad_row(name)))
            };
            facts.sharings.get(&plan.subscription).map_or(Ok(()), |sharing| sharing.check(plan, letters, batch))
        });
        if let Err(failure) = checked {
            self.fail(format!("{stream} subscription {}: {failure}", plan.subscription));
        }
    }

    fn with_sharing<T>(&self, stream: &str, subscription: &str, look: impl FnOnce(&mut SharingFacts) -> T) -> T {
        self.with(stream, |facts| look(facts.sharings.entry(subscription.to_owned()).or_default()))
    }
}
