//! A consumer that shares its subscription by leases: signs of life from a task of its own, however long its caller works on a
//! batch, and word of what it holds.

use std::sync::Arc;
use std::time::Duration;

use super::acks::Pending;
use super::options::ConsumerOptions;
use super::prefetch::Prefetch;
use super::task::OwnedTask;
use super::updates::{self, Of, Presence, Updates};
use super::watched::Watched;
use super::{Client, Error};
use crate::engine::{Code, ConsumerId, Holding, InFlight, LeaseId, LeasedOffset, Offset, PartitionId, Retry, StreamId};
use crate::shared::random;
use crate::wire::proto::{self, KeepConsumerRequest, StreamDescription};

/// Signs of life are given this many times as often as they have to be.
const SIGNS_PER_LEASE: u32 = 3;
/// What waits for the caller is renewed this many times as often as it has to be.
const RENEWALS_PER_LEASE: u32 = 4;
/// Longest time between two signs: what is wanted elsewhere is heard of at once, whatever this is.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// After a sign that was refused or got lost.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);
/// After which it is said once more: a last sign of life may have been overtaken by it.
const GOODBYE_AGAIN: Duration = Duration::from_millis(500);

/// Who shares which subscription, and how.
#[derive(Debug, Clone)]
pub(super) struct Membership {
    pub(super) stream: String,
    pub(super) stream_id: StreamId,
    pub(super) subscription: String,
    pub(super) consumer: ConsumerId,
    name: String,
    lease: Duration,
    in_flight: InFlight,
    /// Of a shared subscription.
    pub(super) sharing: Option<SharingTerms>,
}

/// On which terms a consumer shares.
#[derive(Debug, Clone)]
pub(super) struct SharingTerms {
    pub(super) ack_within: Duration,
    pub(super) max_rows: Option<u64>,
    /// Columns whose values say which rows belong together.
    pub(super) keys: Arc<[Arc<str>]>,
}

impl Membership {
    /// `keys`: those of a shared subscription, which may be none; nothing for another one.
    pub(super) fn new(
        description: &StreamDescription,
        subscription: &str,
        name: &str,
        options: &ConsumerOptions,
        keys: Option<Vec<Arc<str>>>,
    ) -> Self {
        let mut in_flight = options.in_flight;
        if keys.is_some() {
            let (batches, bytes) = (options.prefetch_batches as u64, options.prefetch_bytes);
            let batches = options.max_in_flight_batches.unwrap_or(if in_flight.batches == u64::MAX { batches } else { u64::MAX });
            let bytes = options.max_in_flight_bytes.unwrap_or(if in_flight.bytes == u64::MAX { bytes } else { u64::MAX });
            in_flight = InFlight { batches: in_flight.batches.min(batches).max(1), bytes: in_flight.bytes.min(bytes) };
        }
        let (ack_within, max_rows) = (options.ack_within, options.max_rows);
        Self {
            sharing: keys.map(|keys| SharingTerms { ack_within, max_rows, keys: keys.into() }),
            stream: description.stream.clone(),
            stream_id: StreamId(description.stream_id),
            subscription: subscription.to_owned(),
            consumer: ConsumerId(random::number()),
            name: name.to_owned(),
            lease: options.lease,
            in_flight,
        }
    }

    /// How many leases it has of a shared subscription, at most.
    pub(super) fn most(&self) -> u64 {
        self.in_flight.batches
    }

    /// Whose leases they are.
    pub(super) fn of(&self) -> Of {
        Of { stream: self.stream.clone(), stream_id: self.stream_id, subscription: self.subscription.clone(), consumer: self.consumer }
    }

    /// One sign of life. Answers at once if what is held is not what is known.
    async fn sign(
        &self,
        client: &Client,
        (known, is_stalled): (Vec<proto::Holding>, bool),
        wait: Duration,
    ) -> Result<proto::KeepConsumerResponse, Error> {
        let limit = |limit: u64| (limit != u64::MAX).then_some(limit);
        let request = KeepConsumerRequest {
            stream: self.stream.clone(),
            subscription: self.subscription.clone(),
            consumer_id: self.consumer.0,
            consumer: self.name.clone(),
            lease_millis: millis(self.lease),
            in_flight_batches: limit(self.in_flight.batches),
            in_flight_bytes: limit(self.in_flight.bytes),
            stream_id: self.stream_id.0,
            holdings: known,
            wait_millis: millis(wait),
            ack_within_millis: self.sharing.as_ref().map_or(0, |sharing| millis(sharing.ack_within)),
            max_rows: self.sharing.as_ref().and_then(|sharing| sharing.max_rows),
            is_stalled,
        };
        client.call(request, |mut control, request| async move { control.keep_consumer(request).await }).await
    }

    /// Gives back what is not wanted.
    async fn give_back(&self, client: &Client, from: &[LeasedOffset]) -> Result<(), Error> {
        let request = proto::GiveBackRequest {
            stream: self.stream.clone(),
            subscription: self.subscription.clone(),
            from: leased_messages(from),
            stream_id: self.stream_id.0,
        };
        client.call(request, |mut control, request| async move { control.give_back(request).await }).await.map(drop)
    }

    /// Before a new connection: nothing comes by any lease, so that all that are not held now are lost. Their numbers do not say: a
    /// coordinator whose clock has gone back over a restart gives lower ones than before.
    pub(super) async fn begin(&self, client: &Client, prefetch: &Watched<Prefetch>, to_ack: &Watched<Pending>) -> Result<(), Error> {
        let kept = self.sign(client, Known::default(), Duration::ZERO).await?;
        if self.sharing.is_some() {
            // What of it was lost meanwhile is found out by that.
            prefetch.update(|prefetch| {
                prefetch.note_stalled(kept.is_stalled);
                prefetch.renew(true);
            });
            return Ok(());
        }
        let holdings: Vec<_> = kept.holdings.iter().map(holding).collect();
        to_ack.update(|pending| pending.keep_leases(&holdings));
        self.hold(client, prefetch, &holdings, LeaseId(u64::MAX)).await
    }

    /// Takes note of what is held, and gives back what is wanted elsewhere.
    async fn hold(&self, client: &Client, prefetch: &Watched<Prefetch>, holdings: &[Holding], newest: LeaseId) -> Result<(), Error> {
        let wanted = prefetch.update(|prefetch| prefetch.hold(holdings, newest));
        if wanted.is_empty() { Ok(()) } else { self.give_back(client, &wanted).await }
    }

    /// Joins, and gives signs of life until what this gives is dropped; the others hear at once that it is gone then.
    ///
    /// # Errors
    /// What the first sign is refused with.
    pub(super) async fn join(
        self,
        client: &Client,
        prefetch: Arc<Watched<Prefetch>>,
        updates: Option<Arc<Watched<Updates>>>,
    ) -> Result<Kept, Error> {
        self.sign(client, Known::default(), Duration::ZERO).await?;
        let own = Arc::new(self);
        let failing = prefetch.clone();
        let on_panic = move |error| failing.update(|prefetch| prefetch.end(Err(error)));
        let (membership, keeper) = (own.clone(), client.clone());
        let watched = prefetch.clone();
        let task = OwnedTask::spawn(client.runtime(), async move { membership.run(&keeper, &watched).await }, on_panic);
        let renewing = own.sharing.as_ref().map(|sharing| renew(client, sharing.ack_within, prefetch.clone()));
        let updating =
            own.sharing.as_ref().zip(updates.clone()).map(|(_, updates)| updates::send(client, own.of(), updates, prefetch.clone()));
        let _tasks = [Some(task), renewing, updating].into_iter().flatten().collect();
        Ok(Kept { membership: own, client: client.clone(), prefetch, updates, says_goodbye: true, _tasks })
    }

    async fn run(&self, client: &Client, prefetch: &Watched<Prefetch>) {
        let wait = (self.lease / SIGNS_PER_LEASE).min(WAIT_MAX);
        let mut known = Known::default();
        loop {
            let signed = match self.sign(client, known, wait).await {
                Ok(kept) => {
                    let holdings: Vec<_> = kept.holdings.iter().map(holding).collect();
                    prefetch.update(|prefetch| prefetch.note_stalled(kept.is_stalled));
                    let held = self.hold(client, prefetch, &holdings, LeaseId(kept.newest_lease)).await;
                    known = (kept.holdings, kept.is_stalled);
                    held
                }
                Err(error) => {
                    known = Known::default();
                    Err(error)
                }
            };
            match signed {
                Ok(()) => (),
                // A coordinator that is away comes back, or reading says that it does not.
                Err(error) if error.retry() != Retry::Never || error.code() == Code::LeaseLost => {
                    tracing::debug!(stream = self.stream, %error, "a sign of life was not taken");
                    tokio::time::sleep(PAUSE.min(wait)).await;
                }
                Err(error) => return prefetch.update(|prefetch| prefetch.end(Err(error))),
            }
        }
    }
}

/// A consumer's signs of life; ends them when dropped, and says goodbye.
#[derive(Debug)]
pub(super) struct Kept {
    membership: Arc<Membership>,
    client: Client,
    prefetch: Arc<Watched<Prefetch>>,
    updates: Option<Arc<Watched<Updates>>>,
    says_goodbye: bool,
    _tasks: Vec<OwnedTask>,
}

impl Kept {
    /// Ends as a crash would.
    pub(super) fn crash(mut self) {
        self.says_goodbye = false;
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if !self.says_goodbye {
            return;
        }
        let goodbye = Membership { lease: Duration::ZERO, ..(*self.membership).clone() };
        let client = self.client.clone();
        // What the caller never had is no failure of anybody, and what it has acked less so.
        let mut words = self.prefetch.with(Prefetch::take_unused);
        words.extend(self.updates.iter().flat_map(|updates| updates.with(Updates::take_all)));
        // Without it the others wait for the lease to run out. It ends by itself, well within a lease.
        drop(self.client.runtime().spawn(async move {
            let say = async {
                if !words.is_empty() {
                    drop(client.update_leases(&goodbye.of(), &words, Presence::default()).await);
                }
                drop(goodbye.sign(&client, Known::default(), Duration::ZERO).await);
                tokio::time::sleep(GOODBYE_AGAIN).await;
                drop(goodbye.sign(&client, Known::default(), Duration::ZERO).await);
            };
            drop(tokio::time::timeout(GOODBYE, say).await);
        }));
    }
}

/// Renews what the caller does not have yet, and what it has just got, until what this gives is dropped.
fn renew(client: &Client, ack_within: Duration, prefetch: Arc<Watched<Prefetch>>) -> OwnedTask {
    let renew = async move {
        loop {
            tokio::time::sleep(ack_within / RENEWALS_PER_LEASE).await;
            prefetch.with(Prefetch::keep_shares);
        }
    };
    OwnedTask::spawn(client.runtime(), renew, |_| ())
}

/// What is known that is held, and whether it is that the consumer has stalled.
type Known = (Vec<proto::Holding>, bool);

impl Client {
    /// Acks by leases; gives those that changed nothing, since their leases are lost.
    pub(super) async fn ack_leased(
        &self,
        stream: &str,
        subscription: &str,
        leased: &[LeasedOffset],
        stream_id: Option<StreamId>,
    ) -> Result<Vec<LeasedOffset>, Error> {
        let request = proto::AckRequest {
            stream: stream.to_owned(),
            subscription: subscription.to_owned(),
            stream_id: stream_id.map_or(0, |id| id.0),
            leased: leased_messages(leased),
            ..proto::AckRequest::default()
        };
        let response = self.call(request, |mut control, request| async move { control.ack(request).await }).await?;
        let lost = |lost: &proto::LeasedOffset| LeasedOffset {
            partition: PartitionId(lost.partition),
            lease: LeaseId(lost.lease),
            offset: Offset(lost.offset),
        };
        Ok(response.lost.iter().map(lost).collect())
    }
}

fn leased_messages(offsets: &[LeasedOffset]) -> Vec<proto::LeasedOffset> {
    let message =
        |leased: &LeasedOffset| proto::LeasedOffset { partition: leased.partition.0, lease: leased.lease.0, offset: leased.offset.0 };
    offsets.iter().map(message).collect()
}

fn holding(message: &proto::Holding) -> Holding {
    Holding { partition: PartitionId(message.partition), lease: LeaseId(message.lease), is_wanted: message.is_wanted }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
