//! Acks of a consumer's batches, from any task or thread.

use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::acks::{Acked, Acks, Pending};
use super::in_flight::{InFlight, Unacked};
use super::options::Offsets;
use super::prefetch::Prefetch;
use super::watched::Watched;
use super::{Client, Error};
use crate::engine::{LeaseId, Offset, PartitionId, StreamId};

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
        to_ack: Arc<Watched<Pending>>,
    ) -> Self {
        let acks = OnceLock::new();
        let stream = stream.to_owned();
        Self { inner: Arc::new(Inner { client, stream, stream_id, subscription, in_flight, prefetch, to_ack, acks }) }
    }

    /// See [`Consumer::ack`](super::Consumer::ack).
    ///
    /// # Errors
    /// As [`Consumer::ack`](super::Consumer::ack).
    pub fn ack(&self, partition: PartitionId, offset: Offset) -> Result<(), Error> {
        self.ack_with(|in_flight| in_flight.ack(partition, offset).into_iter().collect())
    }

    /// See [`Consumer::ack_by`](super::Consumer::ack_by).
    ///
    /// # Errors
    /// As [`Consumer::ack`](super::Consumer::ack).
    pub fn ack_by(&self, partition: PartitionId, offset: Offset, lease: Option<LeaseId>) -> Result<(), Error> {
        self.ack_with(|in_flight| in_flight.ack_by(partition, offset, lease).into_iter().collect())
    }

    /// The subscription is done with this batch and all of its partition before it; also with those parts of a batch that was cut
    /// which were delivered before.
    ///
    /// # Errors
    /// As [`Consumer::ack`](super::Consumer::ack).
    pub fn ack_through(&self, unacked: &Unacked) -> Result<(), Error> {
        self.ack_with(|in_flight| in_flight.ack_through(unacked).into_iter().collect())
    }

    /// As [`ack`](Self::ack) for several partitions, which the coordinator learns of at once: all of it is acked, or nothing.
    ///
    /// # Errors
    /// As [`Consumer::ack`](super::Consumer::ack).
    pub fn ack_all(&self, offsets: &Offsets) -> Result<(), Error> {
        self.ack_with(|in_flight| offsets.iter().filter_map(|(partition, offset)| in_flight.ack(*partition, *offset)).collect())
    }

    /// The subscription is done with this batch, whatever became of those before it. Its cursor moves once those are acked, too:
    /// until then the ack is kept here, and is lost if the consumer is, so that the batch comes again. Acking it once more, or
    /// what was delivered before a seek or by an older lease, does nothing.
    ///
    /// # Errors
    /// As [`Consumer::ack`](super::Consumer::ack).
    pub fn ack_one(&self, unacked: &Unacked) -> Result<(), Error> {
        self.ack_with(|in_flight| in_flight.ack_one(unacked).into_iter().collect())
    }

    /// The same for several, which the coordinator learns of at once: for an epoch, its last batch in each partition.
    ///
    /// # Errors
    /// As [`Consumer::ack`](super::Consumer::ack).
    pub fn ack_each(&self, unacked: &[Unacked]) -> Result<(), Error> {
        self.ack_with(|in_flight| unacked.iter().filter_map(|one| in_flight.ack_one(one)).collect())
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
