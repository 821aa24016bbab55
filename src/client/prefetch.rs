//! Batches read ahead of the caller. A plain state machine under the lock of a [`Watched`](super::watched::Watched).

use std::collections::VecDeque;

use arrow_schema::SchemaRef;

use super::Error;
use super::held::{HeldLeases, Receipt};
use super::options::Offsets;
use super::ready::{Origin, Ready};
use super::shares::Shares;
use super::updates::Update;
use crate::engine::{Generation, Holding, LeaseId, LeasedOffset, Offset, PartitionId, Retry};

/// Batches below this sum do not count against `prefetch_batches`: with small ones, a wait per batch is the cost.
const SMALL_BYTES: u64 = 1 << 20;
/// Taken by the caller under one lock: many small batches, or one large.
const TAKE_BYTES: u64 = 256 << 10;

/// What the caller's side has taken out.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) batches: VecDeque<Ready>,
    /// Which of the subscription's cursors they were read for: all of them for the same.
    pub(super) generation: Option<Generation>,
}

#[derive(Debug)]
pub(super) struct Prefetch {
    ready: VecDeque<Ready>,
    bytes: u64,
    batches_max: usize,
    bytes_max: u64,
    /// Per partition, one past the newest batch that came in: where a new connection goes on.
    pub(super) next: Offsets,
    /// Which of the subscription's cursors these batches are read for.
    pub(super) generation: Option<Generation>,
    pub(super) schema: Option<SchemaRef>,
    /// How the reader's task ended. Reported after the last ready batch; an error whose `retry()` allows another
    /// try is reported once, and then the reader starts again.
    ended: Option<Result<(), Error>>,
    running: bool,
    /// What is held, of a consumer that shares by leases.
    pub(super) leases: HeldLeases,
    /// What is here of a shared subscription.
    pub(super) shares: Option<Shares>,
    /// The stream has ended, and nothing more of it comes before consumers ack.
    all_sent: bool,
}

impl Prefetch {
    pub(super) fn new(
        (batches_max, bytes_max): (usize, u64),
        next: Offsets,
        generation: Option<Generation>,
        schema: Option<SchemaRef>,
    ) -> Self {
        Self {
            ready: VecDeque::new(),
            bytes: 0,
            batches_max: batches_max.max(1),
            bytes_max,
            next,
            generation,
            schema,
            ended: None,
            running: false,
            leases: HeldLeases::default(),
            shares: None,
            all_sent: false,
        }
    }

    /// Whether the reader's task is to be started.
    pub(super) fn start(&mut self) -> bool {
        let start = !self.running && self.ended.is_none();
        self.running = self.running || start;
        start
    }

    /// Whether a batch may come in beside what is there and `pending_batches` of `pending_bytes` that are about to
    /// come. A first one always, so that one larger than the limit is not stuck.
    pub(super) fn has_room(&self, pending_batches: usize, pending_bytes: u64, bytes: u64) -> bool {
        let batches = self.ready.len() + pending_batches;
        let sum = self.bytes.saturating_add(pending_bytes).saturating_add(bytes);
        // Of a shared subscription the coordinator bounds what is under way: what waited in the connection could not be renewed.
        batches == 0 || self.shares.is_some() || (sum <= self.bytes_max && (batches < self.batches_max || sum <= SMALL_BYTES))
    }

    /// Puts batches in, in order. One that came before (a resend after a reconnect) is dropped.
    pub(super) fn put(&mut self, batches: impl IntoIterator<Item = Ready>) {
        for batch in batches {
            let Origin { partition, offset, lease, .. } = batch.origin;
            if let Some(shares) = &mut self.shares {
                self.all_sent = false;
                if shares.receive(&batch.origin, batch.rows()) {
                    self.bytes += batch.origin.bytes;
                    self.ready.push_back(batch);
                }
                continue;
            }
            if let Some(lease) = lease {
                match self.leases.receive(partition, lease) {
                    Receipt::Stale => continue,
                    Receipt::First => self.forget(partition),
                    Receipt::Next => (),
                }
                self.all_sent = false;
            }
            if self.next.get(&partition).is_some_and(|next| offset < *next) {
                continue;
            }
            self.next.insert(partition, offset.plus(1));
            self.bytes += batch.origin.bytes;
            self.ready.push_back(batch);
        }
    }

    /// Hands out what is ready, if anything is.
    pub(super) fn take_ready(&mut self, taken: &mut Taken) -> bool {
        let mut bytes = 0;
        self.shares.iter_mut().for_each(Shares::caller_is_here);
        while let Some(batch) = self.ready.pop_front() {
            self.bytes -= batch.origin.bytes;
            bytes += batch.origin.bytes;
            taken.generation = self.generation;
            self.leases.hand_out(&batch.origin);
            self.shares.iter_mut().for_each(|shares| shares.hand_out(&batch.origin));
            // What is taken cannot be given back.
            let is_leased = batch.origin.lease.is_some();
            taken.batches.push_back(batch);
            if is_leased || self.ready.front().is_none_or(|next| bytes + next.origin.bytes > TAKE_BYTES) {
                return true;
            }
        }
        false
    }

    /// Whether nothing more comes, with an error or without.
    pub(super) fn has_ended(&self) -> bool {
        self.ready.is_empty() && self.ended.is_some()
    }

    /// How reading has ended, if it has and nothing is left; none: wait.
    pub(super) fn take_end(&mut self) -> Option<Result<(), Error>> {
        match &self.ended {
            Some(Err(error)) if error.retry() != Retry::Never => self.ended.take(),
            ended => ended.clone(),
        }
    }

    /// The schema, or that the stream ended without one; none: wait.
    pub(super) fn schema_or_end(&mut self) -> Option<Result<Option<SchemaRef>, Error>> {
        if let Some(schema) = &self.schema {
            return Some(Ok(Some(schema.clone())));
        }
        self.take_end().map(|ended| ended.map(|()| None))
    }

    /// Whether the stream has ended, nothing more of it comes before consumers ack, and nothing is here.
    pub(super) fn is_all_sent(&self) -> bool {
        self.all_sent && self.ready.is_empty()
    }

    /// The stream has ended, and nothing more of it comes before consumers ack.
    pub(super) fn note_all_sent(&mut self) {
        self.all_sent = true;
    }

    /// What the coordinator says that is held. What came by other leases is of no more use, and of what others want that is not
    /// handed out is to be given back.
    pub(super) fn hold(&mut self, holdings: &[Holding], newest: LeaseId) -> Vec<LeasedOffset> {
        let lost = self.leases.keep(holdings, newest);
        let wanted = self.leases.wanted(holdings);
        for partition in lost.into_iter().chain(wanted.iter().map(|given| given.partition)) {
            self.forget(partition);
        }
        wanted
    }

    /// Whether what came by this lease may still be handed out.
    pub(super) fn holds(&self, partition: PartitionId, lease: LeaseId) -> bool {
        self.shares.as_ref().map_or_else(|| self.leases.holds(partition, lease), |shares| shares.has(lease))
    }

    /// Leases of a shared subscription that were lost: what came by them and is ready is of no more use.
    pub(super) fn lose(&mut self, lost: &[LeaseId]) {
        self.shares.iter_mut().for_each(|shares| shares.lose(lost));
        self.drop_ready(lost);
    }

    /// The coordinator says whether a lease has run out with the caller, so that nothing more comes; then others get what is ready.
    pub(super) fn note_stalled(&mut self, is_stalled: bool) {
        let released = self.shares.as_mut().map(|shares| shares.note_stalled(is_stalled)).unwrap_or_default();
        self.drop_ready(&released);
    }

    /// As time passes: see [`Shares::keep`].
    pub(super) fn keep_shares(&mut self) {
        let released = self.shares.as_mut().map(Shares::keep).unwrap_or_default();
        self.drop_ready(&released);
    }

    /// Renews what is here of a shared subscription: see [`Shares::renew`].
    pub(super) fn renew(&mut self, all: bool) {
        self.shares.iter_mut().for_each(|shares| shares.renew(all));
    }

    /// What the caller does not have of a shared subscription, to be given back by the last call.
    pub(super) fn take_unused(&mut self) -> Vec<Update> {
        self.shares.as_mut().map(Shares::take_unused).unwrap_or_default()
    }

    fn drop_ready(&mut self, leases: &[LeaseId]) {
        if !leases.is_empty() {
            self.ready.retain(|batch| batch.origin.lease.is_none_or(|lease| !leases.contains(&lease)));
            self.bytes = self.ready.iter().map(|batch| batch.origin.bytes).sum();
        }
    }

    /// Forgets what is ready of a partition.
    fn forget(&mut self, partition: PartitionId) {
        self.next.remove(&partition);
        self.ready.retain(|batch| batch.origin.partition != partition);
        self.bytes = self.ready.iter().map(|batch| batch.origin.bytes).sum();
    }

    /// What has come by the leases that are held, for a new connection.
    pub(super) fn got(&mut self) -> Vec<LeasedOffset> {
        // It is said anew.
        self.all_sent = false;
        if let Some(shares) = &self.shares {
            return shares.got();
        }
        let got = |(partition, lease, given_back): (PartitionId, LeaseId, Option<Offset>)| {
            let offset = given_back.or_else(|| self.next.get(&partition).copied())?;
            Some(LeasedOffset { partition, lease, offset })
        };
        self.leases.receiving().filter_map(got).collect()
    }

    /// The subscription goes on elsewhere: what was read before is of no more use.
    pub(super) fn move_to(&mut self, generation: Generation) {
        self.ready.clear();
        self.bytes = 0;
        self.next.clear();
        self.generation = Some(generation);
    }

    /// The reader's task has ended.
    pub(super) fn end(&mut self, result: Result<(), Error>) {
        self.running = false;
        self.ended = Some(result);
    }

    /// Whether every one of `partitions` has been read up to its end.
    pub(super) fn has_reached(&self, partitions: &[PartitionId], ends: &Offsets) -> bool {
        let next = |partition| self.next.get(partition).copied().unwrap_or(Offset(0));
        partitions.iter().all(|partition| ends.get(partition).is_some_and(|end| next(partition) >= *end))
    }
}
