//! Consumers that share a subscription by leases: what they are sent, and whom to wake.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::super::error::Error;
use super::super::queries::Queries;
use super::StreamCell;
use crate::engine::{
    Batch, Command, ConsumerId, ConsumerName, Holding, InFlight, LeaseId, LeasedOffset, Outcome, PartitionId, ShareTerms, Standing,
    SubscriptionMode, SubscriptionName,
};
use crate::storage::StoredBatch;
use crate::wire::proto::LeasedShare;

/// Who reads by leases.
#[derive(Debug, Clone)]
pub(in crate::server) struct LeasedReader {
    pub(in crate::server) subscription: SubscriptionName,
    pub(in crate::server) consumer: ConsumerId,
    /// Which of its `DoGet`s.
    reading: u64,
    /// The newest lease when its partitions were last looked at; none before.
    seen: Option<LeaseId>,
}

/// A batch that a consumer is sent, by its lease.
#[derive(Debug)]
pub(in crate::server) struct Leased {
    /// Of a partitioned subscription.
    pub(in crate::server) lease: Option<LeaseId>,
    /// Of a shared one.
    pub(in crate::server) shares: Vec<LeasedShare>,
    pub(in crate::server) partition: PartitionId,
    pub(in crate::server) batch: Batch<StoredBatch>,
    /// Batches that were dropped before it.
    pub(in crate::server) skipped: u64,
}

/// What a consumer says of itself with a sign of life.
#[derive(Debug, Clone)]
pub(in crate::server) struct SignOfLife {
    pub(in crate::server) subscription: SubscriptionName,
    pub(in crate::server) consumer: ConsumerId,
    pub(in crate::server) name: ConsumerName,
    pub(in crate::server) lease: Duration,
    pub(in crate::server) in_flight: InFlight,
    pub(in crate::server) terms: ShareTerms,
}

/// Woken for a consumer's sake as long as it reads.
#[derive(Debug)]
pub(in crate::server) struct ConsumerWatch {
    cell: Arc<StreamCell>,
    consumer: ConsumerId,
    notify: Arc<Notify>,
}

/// Woken when leases change, or anything else that all readers care for.
#[derive(Debug)]
pub(in crate::server) struct ChangeWatch {
    cell: Arc<StreamCell>,
    notify: Arc<Notify>,
}

impl StreamCell {
    /// Refuses a call that is for subscriptions of another mode.
    ///
    /// # Errors
    /// `subscription_not_found`, `invalid_argument`.
    pub(in crate::server) fn check_mode(&self, subscription: &SubscriptionName, asked: SubscriptionMode) -> Result<(), Error> {
        Ok(self.inner.lock().stream.check_mode(subscription, asked)?)
    }

    /// What a subscription asks of each batch, if it does.
    ///
    /// # Errors
    /// `subscription_not_found`.
    pub(in crate::server) fn query_of(&self, subscription: &SubscriptionName) -> Result<Option<Arc<str>>, Error> {
        Ok(self.inner.lock().stream.query(subscription)?)
    }

    /// The queries of its subscriptions.
    pub(in crate::server) fn queries(&self) -> &Queries {
        &self.queries
    }

    /// Begins to read by leases; what the consumer read by before gets nothing any more.
    ///
    /// # Errors
    /// `subscription_not_found`, `invalid_argument`, `lease_lost`.
    pub(in crate::server) fn read_leased(
        &self,
        subscription: &SubscriptionName,
        consumer: ConsumerId,
        got: Vec<LeasedOffset>,
    ) -> Result<LeasedReader, Error> {
        match self.apply(Command::ReadLeased { subscription: subscription.clone(), consumer, got })? {
            Outcome::Reads(reading) => Ok(LeasedReader { subscription: subscription.clone(), consumer, reading, seen: None }),
            other => Err(Error::unexpected(&other)),
        }
    }

    /// How far the consumers have come together.
    ///
    /// # Errors
    /// `lease_lost`, `subscription_not_found`.
    pub(in crate::server) fn standing(&self, reader: &LeasedReader) -> Result<Standing, Error> {
        Ok(self.inner.lock().stream.standing(&reader.subscription, reader.consumer, reader.reading)?)
    }

    /// The next batches for a consumer, at most so much; and its partitions, if leases have changed since it was last told.
    ///
    /// # Errors
    /// `lease_lost`, `subscription_not_found`.
    pub(in crate::server) fn take_leased(
        &self,
        reader: &mut LeasedReader,
        most: InFlight,
    ) -> Result<(Vec<Leased>, Option<Vec<PartitionId>>), Error> {
        let now = self.now();
        let mut inner = self.inner.lock();
        let LeasedReader { subscription, consumer, reading, .. } = reader.clone();
        let take = Command::TakeLeased { subscription, consumer, reading, most };
        let taken = match self.apply_locked(&mut inner, take, now)? {
            Outcome::Taken(taken) => taken,
            Outcome::TakenShares(taken) => {
                let all = || (0..self.options.partitions).map(PartitionId).collect();
                let partitions = reader.seen.replace(LeaseId::default()).is_none().then(all);
                return Ok((inner.shared_batches(taken)?, partitions));
            }
            other => return Err(Error::unexpected(&other)),
        };
        let mut batches = Vec::new();
        for taken in taken {
            let found = inner.stream.read(taken.partition, taken.first, usize::try_from(taken.batches).unwrap_or(usize::MAX), u64::MAX)?;
            let mut skipped = taken.skipped;
            let leased = |batch| Leased {
                lease: Some(taken.lease),
                shares: Vec::new(),
                partition: taken.partition,
                batch,
                skipped: std::mem::take(&mut skipped),
            };
            batches.extend(found.into_iter().map(leased));
        }
        let newest = inner.stream.newest_lease(&reader.subscription)?;
        if reader.seen.replace(newest) == Some(newest) {
            return Ok((batches, None));
        }
        let (_, holdings) = inner.stream.holdings(&reader.subscription, consumer)?;
        Ok((batches, Some(holdings.into_iter().map(|holding| holding.partition).collect())))
    }

    /// A consumer is alive, or says goodbye.
    ///
    /// # Errors
    /// `subscription_not_found`, `invalid_argument`, `too_many`.
    pub(in crate::server) fn keep_consumer(&self, sign: SignOfLife) -> Result<(), Error> {
        let SignOfLife { subscription, consumer, name, lease, in_flight, terms } = sign;
        self.apply(Command::KeepConsumer { subscription, consumer, name, lease, in_flight, terms }).map(drop)
    }

    /// What a consumer holds, and the subscription's newest lease.
    ///
    /// # Errors
    /// `subscription_not_found`.
    pub(in crate::server) fn holdings(
        &self,
        subscription: &SubscriptionName,
        consumer: ConsumerId,
    ) -> Result<(LeaseId, Vec<Holding>), Error> {
        Ok(self.inner.lock().stream.holdings(subscription, consumer)?)
    }

    /// Wakes whoever waits for changes, from now on.
    pub(in crate::server) fn watch_changes(self: &Arc<Self>) -> ChangeWatch {
        let notify = Arc::new(Notify::new());
        self.inner.lock().watchers.push(notify.clone());
        ChangeWatch { cell: self.clone(), notify }
    }

    /// Has this woken when the consumer may be sent more, in place of what it read by before.
    pub(in crate::server) fn watch_consumer(self: &Arc<Self>, consumer: ConsumerId, notify: Arc<Notify>) -> ConsumerWatch {
        self.inner.lock().consumers.insert(consumer, notify.clone());
        ConsumerWatch { cell: self.clone(), consumer, notify }
    }
}

impl ChangeWatch {
    /// Ends when something has changed since the last call ended.
    pub(in crate::server) async fn changed(&self) {
        self.notify.notified().await;
    }
}

impl Drop for ChangeWatch {
    fn drop(&mut self) {
        self.cell.inner.lock().watchers.retain(|watcher| !Arc::ptr_eq(watcher, &self.notify));
    }
}

impl Drop for ConsumerWatch {
    fn drop(&mut self) {
        let mut inner = self.cell.inner.lock();
        if inner.consumers.get(&self.consumer).is_some_and(|notify| Arc::ptr_eq(notify, &self.notify)) {
            inner.consumers.remove(&self.consumer);
        }
    }
}
