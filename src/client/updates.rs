//! What a consumer of a shared subscription says of its leases, on its way: at most one call at a time, and acks that come close
//! together travel together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::prefetch::Prefetch;
use super::retry::now;
use super::task::OwnedTask;
use super::watched::Watched;
use super::{Client, Error};
use crate::engine::{ConsumerId, LeaseId, LeasedOffset, Offset, PartitionId, Retry, StreamId};
use crate::wire::proto::{self, LeaseVerb, UpdateLeasesRequest};

/// How long after a call's answer acks wait for others to go with them.
const LINGER: Duration = Duration::from_millis(1);
/// After a call that failed, whatever its own tries.
const PAUSE: Duration = Duration::from_millis(200);
/// Words in vain that are told: who never asks hears of so many.
const LOST_MAX: usize = 4096;
/// So much goes in one call.
const AT_ONCE_MAX: usize = 4096;

/// What becomes of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verb {
    Ack,
    Nack { delay: Duration, reason: String },
    Renew { lasts: Duration },
    Release,
}

impl Verb {
    /// Whether its caller cares if it counted.
    fn is_a_word(&self) -> bool {
        matches!(self, Self::Ack | Self::Nack { .. })
    }
}

/// The same of a certain one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Update {
    pub(super) lease: LeaseId,
    pub(super) partition: PartitionId,
    /// One past the batch of which it is.
    pub(super) offset: Offset,
    pub(super) verb: Verb,
}

/// What is said of the caller itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Presence {
    resumes: bool,
    pauses: bool,
}

/// What is to be said, and what is known of the last call.
#[derive(Debug, Default)]
pub(super) struct Updates {
    pending: Vec<Update>,
    /// The caller is back after a lease had run out.
    resumes: bool,
    /// The caller has not asked for more for so long that others get what there is.
    pauses: bool,
    /// Something is there that is not to wait.
    is_urgent: bool,
    /// So many acks are not to wait for more.
    urgent_acks: usize,
    in_flight: bool,
    /// What was acked or refused by leases that were lost: reported once, to who waits for the confirmation.
    lost: Vec<LeasedOffset>,
    /// Reported once if `retry()` allows another try, else for ever. Until then nothing is sent.
    failed: Option<Error>,
}

impl Updates {
    /// `in_flight`: how many leases there are at most, at a time.
    pub(super) fn new(in_flight: u64) -> Self {
        Self { urgent_acks: usize::try_from(in_flight / 4).unwrap_or(usize::MAX).clamp(1, 1024), ..Self::default() }
    }

    /// As [`put`](Self::put); and what an earlier word was refused with, if it was.
    pub(super) fn add(&mut self, updates: impl IntoIterator<Item = Update>) -> Result<(), Error> {
        self.put(updates);
        self.take_failure().map_or(Ok(()), Err)
    }

    /// That is to be said.
    pub(super) fn put(&mut self, updates: impl IntoIterator<Item = Update>) {
        let before = self.pending.len();
        self.pending.extend(updates);
        self.is_urgent |= self.pending[before..].iter().any(|update| update.verb != Verb::Ack) || self.pending.len() >= self.urgent_acks;
    }

    /// The caller has not asked for more for long.
    pub(super) fn pause(&mut self) {
        (self.resumes, self.pauses) = (false, true);
        self.is_urgent = true;
    }

    pub(super) fn resume(&mut self) {
        (self.resumes, self.pauses) = (true, false);
        self.is_urgent = true;
    }

    /// All that was to be said, for who says it by itself.
    pub(super) fn take_all(&mut self) -> Vec<Update> {
        std::mem::take(&mut self.pending)
    }

    /// What is pending goes out now.
    pub(super) fn hurry(&mut self) {
        self.is_urgent = true;
    }

    fn is_ready(&self) -> bool {
        // What could not be sent is tried again, whether the caller knows or not: renewals are of that.
        let is_over = self.failed.as_ref().is_some_and(|error| error.retry() == Retry::Never);
        (self.resumes || self.pauses || !self.pending.is_empty()) && !is_over
    }

    pub(super) fn take(&mut self) -> Option<(Vec<Update>, Presence)> {
        if !self.is_ready() {
            return None;
        }
        self.in_flight = true;
        let rest = self.pending.split_off(self.pending.len().min(AT_ONCE_MAX));
        self.is_urgent = !rest.is_empty();
        let presence = Presence { resumes: std::mem::take(&mut self.resumes), pauses: std::mem::take(&mut self.pauses) };
        Some((std::mem::replace(&mut self.pending, rest), presence))
    }

    /// The leases that were lost.
    fn answered(&mut self, mut sent: Vec<Update>, said: Presence, result: Result<Vec<u64>, Error>) -> Vec<LeaseId> {
        self.in_flight = false;
        match result {
            Ok(lost) => {
                let is_lost = |update: &&Update| lost.contains(&update.lease.0);
                let in_vain = sent.iter().filter(is_lost).filter(|update| update.verb.is_a_word());
                let named = |update: &Update| LeasedOffset { partition: update.partition, lease: update.lease, offset: update.offset };
                self.lost.extend(in_vain.map(named));
                self.lost.truncate(LOST_MAX);
                lost.into_iter().map(LeaseId).collect()
            }
            Err(error) => {
                if error.retry() != Retry::Never {
                    sent.append(&mut self.pending);
                    self.pending = sent;
                    // What was said since counts.
                    let is_said = self.resumes || self.pauses;
                    self.resumes |= said.resumes && !is_said;
                    self.pauses |= said.pauses && !is_said;
                }
                self.failed = Some(error);
                Vec::new()
            }
        }
    }

    /// Whether all is confirmed; none: wait.
    pub(super) fn settled(&mut self) -> Option<Result<(), Error>> {
        if let Some(error) = self.take_failure() {
            return Some(Err(error));
        }
        (self.pending.is_empty() && !self.in_flight).then(|| match std::mem::take(&mut self.lost) {
            lost if lost.is_empty() => Ok(()),
            lost => Err(Error::LeaseLost { lost }),
        })
    }

    fn take_failure(&mut self) -> Option<Error> {
        match &self.failed {
            Some(error) if error.retry() == Retry::Never => Some(error.clone()),
            _ => self.failed.take(),
        }
    }
}

impl Watched<Updates> {
    /// Waits until all so far is confirmed.
    pub(super) async fn flush(&self) -> Result<(), Error> {
        self.update(Updates::hurry);
        self.wait(Updates::settled).await
    }
}

/// Whose leases they are.
#[derive(Debug, Clone)]
pub(super) struct Of {
    pub(super) stream: String,
    pub(super) stream_id: StreamId,
    pub(super) subscription: String,
    pub(super) consumer: ConsumerId,
}

/// Sends what is to be said, until what this gives is dropped.
pub(super) fn send(client: &Client, of: Of, updates: Arc<Watched<Updates>>, prefetch: Arc<Watched<Prefetch>>) -> OwnedTask {
    let failing = updates.clone();
    let on_panic = move |error| failing.update(|updates| updates.failed = Some(error));
    let (runtime, client) = (client.runtime().clone(), client.clone());
    OwnedTask::spawn(&runtime, async move { run(client, of, updates, prefetch).await }, on_panic)
}

async fn run(client: Client, of: Of, updates: Arc<Watched<Updates>>, prefetch: Arc<Watched<Prefetch>>) {
    let mut last: Option<Instant> = None;
    loop {
        updates.wait(|updates| updates.is_ready().then_some(())).await;
        if let Some(last) = last {
            // The time is up, or it is urgent: both are a reason to go.
            let _ = updates.wait_until(Some(last + LINGER), |updates| updates.is_urgent.then_some(())).await;
        }
        let Some((sent, said)) = updates.with(Updates::take) else { continue };
        let result = client.update_leases(&of, &sent, said).await;
        last = Some(now());
        let has_failed = result.is_err();
        let lost = updates.update(|updates| updates.answered(sent, said, result));
        if has_failed {
            tokio::time::sleep(PAUSE).await;
        }
        if !lost.is_empty() {
            prefetch.update(|prefetch| prefetch.lose(&lost));
        }
    }
}

impl Client {
    /// Says what becomes of leases; gives those that were lost before.
    pub(super) async fn update_leases(&self, of: &Of, updates: &[Update], said: Presence) -> Result<Vec<u64>, Error> {
        let message = |update: &Update| {
            let (verb, time, reason) = match &update.verb {
                Verb::Ack => (LeaseVerb::Ack, Duration::ZERO, ""),
                Verb::Release => (LeaseVerb::Release, Duration::ZERO, ""),
                Verb::Renew { lasts } => (LeaseVerb::Renew, *lasts, ""),
                Verb::Nack { delay, reason } => (LeaseVerb::Nack, *delay, reason.as_str()),
            };
            let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            proto::LeaseUpdate { lease: update.lease.0, verb: verb.into(), millis, reason: reason.to_owned() }
        };
        let request = UpdateLeasesRequest {
            stream: of.stream.clone(),
            subscription: of.subscription.clone(),
            stream_id: of.stream_id.0,
            updates: updates.iter().map(message).collect(),
            resumes: if said.resumes { of.consumer.0 } else { 0 },
            pauses: if said.pauses { of.consumer.0 } else { 0 },
        };
        let response = self.call(request, |mut control, request| async move { control.update_leases(request).await }).await?;
        Ok(response.lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Code;

    fn ack(lease: u64) -> Update {
        Update { lease: LeaseId(lease), partition: PartitionId(0), offset: Offset(lease + 1), verb: Verb::Ack }
    }

    fn refused(code: Code) -> Error {
        Error::Refused { code, retry: code.retry(), stored: code.stored(), text: "no".into() }
    }

    #[test]
    fn acks_wait_for_others_until_a_quarter_is_there_and_other_words_do_not() {
        let mut updates = Updates::new(8);
        updates.add([ack(1)]).expect("nothing has failed");
        assert!(updates.is_ready() && !updates.is_urgent);
        updates.add([ack(2)]).expect("nothing has failed");
        assert!(updates.is_urgent, "two of eight");
        assert_eq!(updates.take(), Some((vec![ack(1), ack(2)], Presence::default())));
        updates.add([Update { verb: Verb::Release, ..ack(3) }]).expect("nothing has failed");
        assert!(updates.is_urgent);
        assert!(updates.settled().is_none(), "a call is on its way");
    }

    #[test]
    fn what_was_acked_by_lost_leases_is_told_once_and_lost_renewals_are_not() {
        let mut updates = Updates::new(8);
        let renewal = Update { verb: Verb::Renew { lasts: Duration::from_secs(1) }, ..ack(2) };
        updates.add([ack(1), renewal, ack(3)]).expect("nothing has failed");
        let (sent, said) = updates.take().expect("three to send");
        assert_eq!(updates.answered(sent, said, Ok(vec![1, 2])), [LeaseId(1), LeaseId(2)]);
        let Some(Err(Error::LeaseLost { lost })) = updates.settled() else { panic!("one ack was in vain") };
        assert_eq!(lost.iter().map(|lost| lost.lease).collect::<Vec<_>>(), [LeaseId(1)]);
        assert!(updates.settled().expect("all is confirmed").is_ok());
    }

    #[test]
    fn what_could_not_be_sent_is_sent_again_and_the_caller_is_told_once() {
        let mut updates = Updates::new(8);
        updates.resume();
        updates.add([ack(1)]).expect("nothing has failed");
        let (sent, said) = updates.take().expect("one to send");
        updates.answered(sent, said, Err(refused(Code::Unavailable)));
        assert_eq!(updates.add([ack(2)]).expect_err("not reached").code(), Code::Unavailable);
        let resumes = Presence { resumes: true, pauses: false };
        assert_eq!(updates.take(), Some((vec![ack(1), ack(2)], resumes)));
        updates.pause();
        updates.answered(Vec::new(), resumes, Err(refused(Code::Unavailable)));
        assert_eq!(updates.take(), Some((Vec::new(), Presence { resumes: false, pauses: true })), "what was said since counts");
        updates.answered(Vec::new(), Presence::default(), Err(refused(Code::SubscriptionNotFound)));
        for _ in 0..2 {
            assert!(updates.settled().expect("known").is_err(), "for ever");
        }
    }
}
