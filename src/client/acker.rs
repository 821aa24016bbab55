//! Acks of a consumer's batches, from any task or thread.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use super::acks::{Acked, Acks, Pending};
use super::in_flight::{InFlight, Unacked};
use super::options::Offsets;
use super::prefetch::Prefetch;
use super::shares::Shares;
use super::updates::{Updates, Verb};
use super::watched::Watched;
use super::{Client, Error};
use crate::engine::{ACK_WITHIN_MAX, ACK_WITHIN_MIN, LeaseId, Offset, PartitionId, StreamId};

/// Acks what a [`Consumer`](super::Consumer) has delivered, while that may be waiting for its next batch. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Acker {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: Client,
    stream: String,
    stream_id: StreamId,
    subscription: Option<String>,
    in_flight: Arc<Mutex<InFlight>>,
    /// Where the consumer waits, if too much is in flight.
    prefetch: Arc<Watched<Prefetch>>,
    /// What is to be acked. With the reader, which knows when the coordinator may have forgotten some.
    to_ack: Arc<Watched<Pending>>,
    /// What is said of a shared subscription's leases, in place of acks.
    updates: Option<Arc<Watched<Updates>>>,
    /// From the first ack on.
    acks: OnceLock<Acks>,
}

impl Acker {
    pub(super) fn new(
        client: Client,
        (stream, stream_id): (&str, StreamId),
        subscription: Option<String>,
        in_flight: Arc<Mutex<InFlight>>,
        prefetch: Arc<Watched<Prefetch>>,
        (to_ack, updates): (Arc<Watched<Pending>>, Option<Arc<Watched<Updates>>>),
    ) -> Self {
        let acks = OnceLock::new();
        let stream = stream.to_owned();
        Self { inner: Arc::new(Inner { client, stream, stream_id, subscription, in_flight, prefetch, to_ack, updates, acks }) }
    }

    /// See [`Consumer::ack`](super::Consumer::ack).
    ///
    /// # Errors
    /// As [`Consumer::ack`](super::Consumer::ack).
    pub fn ack(&self, partition: PartitionId, offset: Offset) -> Result<(), Error> {
        if self.is_shared() {
            return Err(Error::invalid(format!(
                "offset {offset} of partition {partition} was to be acked with all before it, but what comes of a shared subscription is acked one by one; use ack_one, or ack_through"
            )));
        }
        self.ack_with(|in_flight| in_flight.ack(partition, offset).into_iter().collect())
    }

    /// See [`Consumer::ack_by`](super::Consumer::ack_by).
    ///
    /// # Errors
    /// As [`Consumer::ack`](super::Consumer::ack).
    pub fn ack_by(&self, partition: PartitionId, offset: Offset, lease: Option<LeaseId>) -> Result<(), Error> {
        if self.is_shared() && lease.is_some() {
            return self.say(&Unacked::new(partition, offset, 0, None, lease), &Verb::Ack);
        }
        self.ack_with(|in_flight| in_flight.ack_by(partition, offset, lease).into_iter().collect())
    }

    /// The subscription is done with this batch and all of its partition before it; also with those parts of a batch that was cut
    /// which were delivered before.
    ///
    /// # Errors
    /// As [`Consumer::ack`](super::Consumer::ack).
    pub fn ack_through(&self, unacked: &Unacked) -> Result<(), Error> {
        if self.is_shared() {
            return self.with_shares(|shares| shares.ack_through(unacked));
        }
        self.ack_with(|in_flight| in_flight.ack_through(unacked).into_iter().collect())
    }

    /// As [`ack`](Self::ack) for several partitions, which the coordinator learns of at once: all of it is acked, or nothing.
    ///
    /// # Errors
    /// As [`Consumer::ack`](super::Consumer::ack).
    pub fn ack_all(&self, offsets: &Offsets) -> Result<(), Error> {
        if self.is_shared() {
            return offsets.iter().next().map_or(Ok(()), |(partition, offset)| self.ack(*partition, *offset));
        }
        self.ack_with(|in_flight| offsets.iter().filter_map(|(partition, offset)| in_flight.ack(*partition, *offset)).collect())
    }

    /// The subscription is done with this batch, whatever became of those before it. Its cursor moves once those are acked, too:
    /// until then the ack is kept here, and is lost if the consumer is, so that the batch comes again. Acking it once more, or
    /// what was delivered before a seek or by an older lease, does nothing.
    ///
    /// # Errors
    /// As [`Consumer::ack`](super::Consumer::ack).
    pub fn ack_one(&self, unacked: &Unacked) -> Result<(), Error> {
        if self.is_shared() {
            return self.say(unacked, &Verb::Ack);
        }
        self.ack_with(|in_flight| in_flight.ack_one(unacked).into_iter().collect())
    }

    /// The same for several, which the coordinator learns of at once: for an epoch, its last batch in each partition.
    ///
    /// # Errors
    /// As [`Consumer::ack`](super::Consumer::ack).
    pub fn ack_each(&self, unacked: &[Unacked]) -> Result<(), Error> {
        if self.is_shared() {
            return self.with_shares(|shares| shares.finish(unacked, &Verb::Ack));
        }
        self.ack_with(|in_flight| unacked.iter().filter_map(|one| in_flight.ack_one(one)).collect())
    }

    /// The caller could not do what it was given: it goes to anybody, not before `delay`, and to the dead letters if that was too
    /// often. The reason goes with it. For a shared subscription. What is said of rows that are acked, or whose lease was lost, does
    /// nothing.
    ///
    /// # Errors
    /// `invalid_argument` for a subscription that is not shared; what an earlier word was refused with.
    pub fn nack(&self, unacked: &Unacked, delay: Duration, reason: &str) -> Result<(), Error> {
        self.say(unacked, &Verb::Nack { delay, reason: reason.to_owned() })
    }

    /// The caller needs longer: it has what it was given for so long from now on. As [`nack`](Self::nack).
    ///
    /// # Errors
    /// As [`nack`](Self::nack).
    pub fn renew(&self, unacked: &Unacked, lasts: Duration) -> Result<(), Error> {
        self.say(unacked, &Verb::Renew { lasts })
    }

    /// The caller has not begun with what it was given: it goes to anybody, and that is no failure. As [`nack`](Self::nack).
    ///
    /// # Errors
    /// As [`nack`](Self::nack).
    pub fn release(&self, unacked: &Unacked) -> Result<(), Error> {
        self.say(unacked, &Verb::Release)
    }

    /// Whether the subscription is shared: then what was delivered can be given back and renewed by itself.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.inner.updates.is_some()
    }

    fn say(&self, unacked: &Unacked, verb: &Verb) -> Result<(), Error> {
        if !self.is_shared() {
            return Err(Error::invalid(
                "only what comes of a shared subscription can be given back or renewed by itself; ack it, or leave it: it comes again when this consumer ends",
            ));
        }
        let (name, time, least) = match verb {
            Verb::Nack { delay, .. } => ("delay", *delay, Duration::ZERO),
            Verb::Renew { lasts } => ("lasts", *lasts, ACK_WITHIN_MIN),
            Verb::Ack | Verb::Release => ("", ACK_WITHIN_MIN, ACK_WITHIN_MIN),
        };
        if !(least..=ACK_WITHIN_MAX).contains(&time) {
            return Err(Error::invalid(format!("{name} is {time:?}; use {least:?} to {ACK_WITHIN_MAX:?}")));
        }
        self.with_shares(|shares| shares.finish(std::slice::from_ref(unacked), verb))
    }

    fn with_shares(&self, say: impl FnOnce(&mut Shares) -> Result<(), Error>) -> Result<(), Error> {
        // Who waits for the end of the stream may have waited for this.
        self.inner.prefetch.update(|prefetch| prefetch.shares.as_mut().map_or(Ok(()), say))
    }

    /// Waits until all is confirmed.
    pub(super) async fn flush(&self) -> Result<(), Error> {
        match (&self.inner.updates, self.inner.acks.get()) {
            (Some(updates), _) => updates.flush().await,
            (None, Some(acks)) => acks.flush().await,
            (None, None) => Ok(()),
        }
    }

    fn ack_with(&self, release: impl FnOnce(&mut InFlight) -> Vec<Acked>) -> Result<(), Error> {
        let acks = self.acks()?;
        let mut in_flight = self.inner.in_flight.lock();
        let held = in_flight.held();
        let acked = release(&mut in_flight);
        let (of, batch_bytes) = (in_flight.generation(), in_flight.batch_bytes());
        let waits = held.is_limited() && in_flight.held() != held;
        drop(in_flight);
        let result = acks.ack(of, &acked, batch_bytes);
        if waits {
            // Under the lock, so that it is not missed by who is about to wait.
            self.inner.prefetch.update(|_| ());
        }
        result
    }

    pub(super) fn updates(&self) -> Option<&Arc<Watched<Updates>>> {
        self.inner.updates.as_ref()
    }

    pub(super) fn open_acks(&self) -> Option<&Acks> {
        self.inner.acks.get()
    }

    fn acks(&self) -> Result<&Acks, Error> {
        let Inner { client, stream, stream_id, subscription, to_ack, acks, .. } = &*self.inner;
        let Some(subscription) = subscription else {
            return Err(Error::invalid("this consumer reads without a subscription, so there is nothing to ack; name one when opening it"));
        };
        Ok(acks.get_or_init(|| Acks::new(client.clone(), stream.clone(), subscription.clone(), *stream_id, to_ack.clone())))
    }
}
