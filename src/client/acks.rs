//! Acks on their way: at most one call at a time, the newest offsets win, and those that come close together travel
//! together. A call costs both ends more than a small batch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::options::Offsets;
use super::retry::now;
use super::task::OwnedTask;
use super::watched::Watched;
use super::{Client, Error};
use crate::engine::{Code, Generation, Holding, LeaseId, LeasedOffset, Offset, PartitionId, Retry, StreamId};

/// How long after a call's answer acks wait for others to go with them; the timer makes up to two milliseconds of it.
/// The first one after a pause goes at once.
const LINGER: Duration = Duration::from_millis(1);
/// Buffers below this are acked without delay: a producer would feel it.
const LINGER_BUFFER_BYTES_MIN: u64 = 16 << 20;

/// How much is acked without delay: its room is worth more than the call.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Urgent {
    batches: u64,
    bytes: u64,
}

impl Urgent {
    /// For a stream with these limits: a quarter of either.
    pub(super) fn of(max_buffered_batches: u64, max_buffered_bytes: u64) -> Self {
        let batches = if max_buffered_bytes < LINGER_BUFFER_BYTES_MIN { 1 } else { (max_buffered_batches / 4).max(1) };
        Self { batches, bytes: max_buffered_bytes / 4 }
    }
}

/// All of a partition before an offset, by the lease by which it came, if by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Acked {
    pub(super) partition: PartitionId,
    pub(super) offset: Offset,
    pub(super) lease: Option<LeaseId>,
}

/// A consumer's acks, sent by a task of their own.
#[derive(Debug)]
pub(super) struct Acks {
    pending: Arc<Watched<Pending>>,
    _task: OwnedTask,
}

impl Acks {
    pub(super) fn new(client: Client, stream: String, subscription: String, stream_id: StreamId, pending: Arc<Watched<Pending>>) -> Self {
        let runtime = client.runtime().clone();
        let failing = pending.clone();
        let on_panic = move |error| failing.update(|pending| pending.answered(pending.generation, Offsets::new(), Err(error)));
        let task = OwnedTask::spawn(&runtime, send(client, stream, subscription, stream_id, pending.clone()), on_panic);
        Self { pending, _task: task }
    }

    /// `batch_bytes`: what a batch about there has. They are not counted one by one; batches that are near are often alike. What
    /// was read for cursors that are of no more use is left alone.
    pub(super) fn ack(&self, of: Option<Generation>, acked: &[Acked], batch_bytes: u64) -> Result<(), Error> {
        let (wakes, result) = self.pending.with(|pending| match pending.generation == of {
            true => pending.add_all(acked, batch_bytes),
            false => (false, Ok(())),
        });
        if wakes {
            self.pending.wake();
        }
        result
    }

    /// What is pending goes out now.
    pub(super) fn hurry(&self) {
        self.pending.update(|pending| pending.hurries = !pending.offsets.is_empty());
    }

    pub(super) async fn flush(&self) -> Result<(), Error> {
        self.hurry();
        self.pending.wait(Pending::settled).await
    }

    pub(super) fn pending(&self) -> &Arc<Watched<Pending>> {
        &self.pending
    }
}

async fn send(client: Client, stream: String, subscription: String, stream_id: StreamId, pending: Arc<Watched<Pending>>) {
    let mut last: Option<Instant> = None;
    loop {
        pending.wait(|pending| pending.is_ready().then_some(())).await;
        if let Some(last) = last {
            // The time is up, or it is urgent: both are a reason to go.
            let _ = pending.wait_until(Some(last + LINGER), |pending| pending.is_urgent().then_some(())).await;
        }
        let Some((offsets, generation, leased)) = pending.with(|pending| {
            let offsets = pending.take()?;
            let leased = pending.leased(&offsets);
            Some((offsets, pending.generation, leased))
        }) else {
            continue;
        };
        if !leased.is_empty() {
            let result = client.ack_leased(&stream, &subscription, &leased, Some(stream_id)).await;
            last = Some(now());
            pending.update(|pending| pending.answered_leased(offsets, &leased, result));
            continue;
        }
        let result = match client.ack_for(&stream, &subscription, generation, &offsets, Some(stream_id)).await {
            // What a seek has overruled is of no more use; the reader hears of it, too.
            Err(error) if error.code() == Code::SubscriptionMoved => Ok(()),
            result => result,
        };
        last = Some(now());
        pending.update(|pending| pending.answered(generation, offsets, result));
    }
}

/// What the task that sends knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    #[default]
    Nothing,
    /// That there is something to send.
    Ready,
    /// That it is urgent.
    Urgent,
}

/// What is to be acked and what is known of the last call.
#[derive(Debug, Default)]
pub(super) struct Pending {
    offsets: Offsets,
    /// Which of the subscription's cursors they are for.
    generation: Option<Generation>,
    /// Batches by which the offsets have moved since the last call.
    batches: u64,
    /// About what those batches have.
    bytes: u64,
    /// So much is urgent.
    urgent: Urgent,
    /// Somebody waits for the confirmation.
    hurries: bool,
    /// Up to where each partition is acked, to tell how far the next ack moves it.
    newest: Offsets,
    /// What the task that sends was woken for since the last call.
    told: Told,
    in_flight: bool,
    /// By which lease each partition is acked, if by one.
    leases: BTreeMap<PartitionId, LeaseId>,
    /// Those that are lost for sure: any other is newer, also with a lower number.
    outdated: BTreeSet<PartitionId>,
    /// What was acked by leases that were lost: reported once, to who waits for the confirmation.
    lost: Vec<LeasedOffset>,
    /// Reported once if `retry()` allows another try, else for ever. Until then nothing is sent.
    failed: Option<Error>,
}

impl Pending {
    pub(super) fn new(urgent: Urgent, generation: Option<Generation>) -> Self {
        Self { urgent, generation, ..Self::default() }
    }

    /// The subscription goes on elsewhere: what was to be acked before is not.
    pub(super) fn move_to(&mut self, generation: Generation) {
        let Self { urgent, in_flight, .. } = *self;
        let failed = self.failed.take().filter(|error| error.retry() == Retry::Never);
        // The task that sends may be asleep: the next ack wakes it.
        *self = Self { urgent, in_flight, failed, generation: Some(generation), ..Self::default() };
    }

    /// Sends the newest acks once more: the coordinator may have been started again since, and have forgotten those of its last
    /// moments. Without this a log that is full of what was acked could wait for ever for acks that nobody has to send.
    ///
    /// Not of leases: it knows none of them then.
    pub(super) fn again(&mut self) {
        if !self.leases.is_empty() {
            return;
        }
        for (partition, offset) in self.newest.clone() {
            self.merge(partition, offset);
        }
    }

    /// By which lease the partition is acked from now on. What was to be acked by an older one is not.
    /// False if that is an older one.
    fn ack_by(&mut self, partition: PartitionId, lease: Option<LeaseId>) -> bool {
        let Some(lease) = lease else { return true };
        match self.leases.get(&partition) {
            Some(newest) if *newest == lease => return true,
            Some(newest) if *newest > lease && !self.outdated.contains(&partition) => return false,
            _ => {}
        }
        self.outdated.remove(&partition);
        self.leases.insert(partition, lease);
        self.newest.remove(&partition);
        self.offsets.remove(&partition);
        true
    }

    /// These are held, and all others are lost.
    pub(super) fn keep_leases(&mut self, holdings: &[Holding]) {
        let held: BTreeSet<_> = holdings.iter().map(|holding| (holding.partition, holding.lease)).collect();
        let lost = self.leases.iter().filter(|(partition, lease)| !held.contains(&(**partition, **lease)));
        self.outdated = lost.map(|(partition, _)| *partition).collect();
    }

    /// What is acked by leases.
    fn leased(&self, offsets: &Offsets) -> Vec<LeasedOffset> {
        let leased = |(partition, offset): (&PartitionId, &Offset)| {
            Some(LeasedOffset { partition: *partition, lease: *self.leases.get(partition)?, offset: *offset })
        };
        offsets.iter().filter_map(leased).collect()
    }

    fn answered_leased(&mut self, mut offsets: Offsets, sent: &[LeasedOffset], result: Result<Vec<LeasedOffset>, Error>) {
        // What was sent by a lease that is not the newest any more does not go out again by that.
        offsets
            .retain(|partition, _| sent.iter().any(|sent| sent.partition == *partition && self.leases.get(partition) == Some(&sent.lease)));
        let result = result.map(|lost| self.lost.extend(lost));
        self.answered(self.generation, offsets, result);
    }

    /// As [`add`](Self::add), for offsets that go out together. Without any, only what an earlier ack was refused with.
    fn add_all(&mut self, acked: &[Acked], batch_bytes: u64) -> (bool, Result<(), Error>) {
        let added = acked.iter().map(|acked| match self.ack_by(acked.partition, acked.lease) {
            true => self.add(acked.partition, acked.offset, batch_bytes),
            false => (false, Ok(())),
        });
        let added = added.reduce(|(wakes, result), (also, other)| (wakes || also, result.and(other)));
        added.unwrap_or_else(|| (false, self.take_failure().map_or(Ok(()), Err)))
    }

    /// Whether the task that sends is to be woken, and what an earlier ack was refused with.
    fn add(&mut self, partition: PartitionId, offset: Offset, batch_bytes: u64) -> (bool, Result<(), Error>) {
        let newest = self.newest.entry(partition).or_default();
        let batches = offset.since(*newest);
        self.batches = self.batches.saturating_add(batches);
        self.bytes = self.bytes.saturating_add(batches.saturating_mul(batch_bytes));
        *newest = offset.max(*newest);
        self.merge(partition, offset);
        let result = self.take_failure().map_or(Ok(()), Err);
        let tell = match self.is_ready() {
            false => Told::Nothing,
            true if self.is_urgent() => Told::Urgent,
            true => Told::Ready,
        };
        let wakes = tell > self.told;
        self.told = self.told.max(tell);
        (wakes, result)
    }

    fn is_ready(&self) -> bool {
        !self.offsets.is_empty() && self.failed.is_none()
    }

    fn is_urgent(&self) -> bool {
        self.hurries || self.batches >= self.urgent.batches || self.bytes >= self.urgent.bytes
    }

    fn merge(&mut self, partition: PartitionId, offset: Offset) {
        let newest = self.offsets.entry(partition).or_default();
        *newest = offset.max(*newest);
    }

    /// Everything that is to be acked, for one call; none: wait.
    fn take(&mut self) -> Option<Offsets> {
        if !self.is_ready() {
            return None;
        }
        self.in_flight = true;
        self.hurries = false;
        self.batches = 0;
        self.bytes = 0;
        self.told = Told::Nothing;
        Some(std::mem::take(&mut self.offsets))
    }

    fn answered(&mut self, of: Option<Generation>, offsets: Offsets, result: Result<(), Error>) {
        self.in_flight = false;
        let Err(error) = result else {
            return;
        };
        // What became of acks that are of no more use is of none, either.
        if of != self.generation {
            return;
        }
        if error.retry() != Retry::Never {
            for (partition, offset) in offsets {
                self.merge(partition, offset);
            }
        }
        self.failed = Some(error);
    }

    /// Whether all is confirmed; none: wait.
    pub(super) fn settled(&mut self) -> Option<Result<(), Error>> {
        if let Some(error) = self.take_failure() {
            return Some(Err(error));
        }
        (self.offsets.is_empty() && !self.in_flight).then(|| match std::mem::take(&mut self.lost) {
            lost if lost.is_empty() => Ok(()),
            lost => Err(Error::LeaseLost { lost }),
        })
    }

    fn take_failure(&mut self) -> Option<Error> {
        match &self.failed {
            Some(error) if error.retry() == Retry::Never => Some(error.clone()),
            Some(_) => {
                // From here on acks go out again.
                self.told = Told::Nothing;
                self.failed.take()
            }
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: PartitionId = PartitionId(0);

    fn refused(code: Code) -> Error {
        Error::Refused { code, retry: code.retry(), stored: code.stored(), text: "no".into() }
    }

    #[test]
    fn acks_made_during_a_call_go_out_together_and_the_newest_offset_wins() {
        let mut pending = Pending::default();
        pending.add(P, Offset(1), 1).1.expect("nothing has failed");
        assert_eq!(pending.take(), Some(Offsets::from([(P, Offset(1))])));
        for offset in [2, 5, 3] {
            pending.add(P, Offset(offset), 1).1.expect("nothing has failed");
        }
        pending.add(PartitionId(1), Offset(7), 1).1.expect("nothing has failed");
        assert!(pending.settled().is_none());
        pending.answered(None, Offsets::from([(P, Offset(1))]), Ok(()));
        assert_eq!(pending.take(), Some(Offsets::from([(P, Offset(5)), (PartitionId(1), Offset(7))])));
        assert_eq!(pending.take(), None);
        pending.answered(None, Offsets::new(), Ok(()));
        assert!(pending.settled().expect("all is confirmed").is_ok());
    }

    #[test]
    fn acks_that_could_not_be_sent_are_sent_again_once_the_caller_knows() {
        let mut pending = Pending::default();
        pending.add(P, Offset(4), 1).1.expect("nothing has failed");
        let offsets = pending.take().expect("one to send");
        pending.answered(None, offsets, Err(refused(Code::Unavailable)));
        assert_eq!(pending.take(), None, "not before the error was reported");
        pending.hurries = true;
        assert_eq!(pending.settled().expect("known").expect_err("not reached").code(), Code::Unavailable);
        assert!(pending.add(P, Offset(5), 1).0, "the task has gone to sleep");
        assert_eq!(pending.take(), Some(Offsets::from([(P, Offset(5))])));
    }

    #[test]
    fn confirmed_acks_go_out_again_with_the_newer_ones_when_they_may_have_been_forgotten() {
        let mut pending = Pending::default();
        pending.again();
        assert_eq!(pending.take(), None, "there is none");
        for (partition, offset) in [(0, 4), (1, 2)] {
            pending.add(PartitionId(partition), Offset(offset), 1).1.expect("nothing has failed");
        }
        let offsets = pending.take().expect("two to send");
        pending.answered(None, offsets, Ok(()));
        pending.add(P, Offset(5), 1).1.expect("nothing has failed");
        pending.again();
        assert!(pending.settled().is_none());
        assert_eq!(pending.take(), Some(Offsets::from([(P, Offset(5)), (PartitionId(1), Offset(2))])));
    }

    #[test]
    fn leases_with_lower_numbers_ack_once_the_former_are_known_to_be_lost() {
        let mut pending = Pending::default();
        let by = |lease, offset| [Acked { partition: P, offset: Offset(offset), lease: Some(LeaseId(lease)) }];
        let ack = |pending: &mut Pending, lease, offset| {
            pending.add_all(&by(lease, offset), 1).1.expect("nothing has failed");
            let offsets = pending.take()?;
            let sent = pending.leased(&offsets);
            pending.answered_leased(offsets, &sent, Ok(Vec::new()));
            sent.first().map(|sent| (sent.lease.0, sent.offset.0))
        };
        assert_eq!(ack(&mut pending, 90, 4), Some((90, 4)));
        assert_eq!(ack(&mut pending, 7, 5), None, "it may be an older one");
        let holding = |lease| Holding { partition: P, lease: LeaseId(lease), is_wanted: false };
        pending.keep_leases(&[holding(90)]);
        assert_eq!(ack(&mut pending, 7, 5), None);
        // The coordinator has been started again, by a clock that has gone back.
        pending.keep_leases(&[holding(7)]);
        assert_eq!(ack(&mut pending, 7, 5), Some((7, 5)));
        assert_eq!(ack(&mut pending, 6, 6), None);
    }

    #[test]
    fn what_was_acked_before_a_seek_is_not_sent_and_not_sent_again() {
        let mut pending = Pending::default();
        pending.add(P, Offset(4), 1).1.expect("nothing has failed");
        let offsets = pending.take().expect("one to send");
        pending.answered(None, offsets, Ok(()));
        pending.add(P, Offset(5), 1).1.expect("nothing has failed");
        pending.move_to(Generation(7));
        pending.again();
        assert_eq!(pending.take(), None);
        assert!(pending.settled().expect("all is confirmed").is_ok());
        assert!(pending.add(P, Offset(2), 1).0, "the task has found nothing and gone to sleep");
        assert_eq!((pending.take(), pending.generation), (Some(Offsets::from([(P, Offset(2))])), Some(Generation(7))));
    }

    #[test]
    fn acks_that_a_seek_has_overtaken_on_their_way_do_not_come_back() {
        let mut pending = Pending::default();
        pending.add(P, Offset(4), 1).1.expect("nothing has failed");
        let offsets = pending.take().expect("one to send");
        pending.move_to(Generation(7));
        assert!(pending.settled().is_none(), "the call is still on its way");
        pending.answered(None, offsets, Err(refused(Code::Unavailable)));
        assert_eq!(pending.take(), None);
        assert!(pending.settled().expect("all is confirmed").is_ok());
    }

    #[test]
    fn a_refusal_for_good_is_reported_every_time() {
        let mut pending = Pending::default();
        pending.add(P, Offset(4), 1).1.expect("nothing has failed");
        let offsets = pending.take().expect("one to send");
        pending.answered(None, offsets, Err(refused(Code::SubscriptionNotFound)));
        for _ in 0..2 {
            assert_eq!(pending.add(P, Offset(5), 1).1.expect_err("refused").code(), Code::SubscriptionNotFound);
        }
    }

    #[test]
    fn the_first_ack_and_the_urgent_ones_wake_the_task_and_those_between_do_not() {
        let mut pending = Pending { urgent: Urgent { batches: 4, bytes: u64::MAX }, ..Pending::default() };
        let wakes = |pending: &mut Pending, offset| pending.add(P, Offset(offset), 1).0;
        assert_eq!([1, 2, 3, 4, 5].map(|offset| wakes(&mut pending, offset)), [true, false, false, true, false]);
        assert!(pending.is_urgent());
        assert_eq!(pending.take(), Some(Offsets::from([(P, Offset(5))])));
        assert_eq!([6, 6, 3, 8].map(|offset| wakes(&mut pending, offset)), [true, false, false, false]);
        assert!(!pending.is_urgent(), "three batches");
        pending.hurries = true;
        assert!(pending.is_urgent());
    }

    #[test]
    fn a_small_buffers_acks_do_not_wait() {
        for (batches, bytes, urgent) in [(64, 2 << 30, 16), (3, 2 << 30, 1), (u64::MAX, 16 << 20, u64::MAX / 4), (64, (16 << 20) - 1, 1)] {
            assert_eq!(Urgent::of(batches, bytes).batches, urgent);
        }
    }

    #[test]
    fn acks_of_a_quarter_of_the_buffers_bytes_do_not_wait_however_few_batches_they_are_of() {
        const MIB: u64 = 1 << 20;
        let urgent_with = |batches, batch_bytes| {
            let mut pending = Pending { urgent: Urgent::of(1_024, 64 * MIB), ..Pending::default() };
            (1..=batches)
                .map(|offset| pending.add(P, Offset(offset), batch_bytes))
                .for_each(|(_, result)| result.expect("nothing has failed"));
            pending.is_urgent()
        };
        for (batches, batch_bytes, urgent) in [
            (1, 16 * MIB, true),
            (1, 16 * MIB - 1, false),
            (1, u64::MAX, true),
            (3, 4 * MIB, false),
            (4, 4 * MIB, true),
            (255, 1_000, false),
            (256, 0, true),
        ] {
            assert_eq!(urgent_with(batches, batch_bytes), urgent, "{batches} of {batch_bytes} bytes");
        }
    }

    #[test]
    fn bytes_count_once_and_anew_for_each_call() {
        let mut pending = Pending { urgent: Urgent { batches: u64::MAX, bytes: 100 }, ..Pending::default() };
        let add = |pending: &mut Pending, partition, offset| pending.add(PartitionId(partition), Offset(offset), 40).0;
        assert_eq!(
            [(0, 1), (0, 1), (0, 2), (1, 1)].map(|(partition, offset)| add(&mut pending, partition, offset)),
            [true, false, false, true]
        );
        assert!(pending.is_urgent());
        pending.take().expect("some to send");
        assert!(add(&mut pending, 0, 4), "the first of the next call");
        assert!(!pending.is_urgent(), "80 bytes");
    }
}
