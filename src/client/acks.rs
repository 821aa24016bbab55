//! Acks on their way: at most one call at a time, and the newest offsets win.

use std::sync::Arc;

use super::options::Offsets;
use super::task::OwnedTask;
use super::watched::Watched;
use super::{Client, Error};
use crate::engine::{Offset, PartitionId, Retry, StreamId};

/// A consumer's acks, sent by a task of their own.
#[derive(Debug)]
pub(super) struct Acks {
    pending: Arc<Watched<Pending>>,
    _task: OwnedTask,
}

impl Acks {
    pub(super) fn new(client: Client, stream: String, subscription: String, stream_id: StreamId) -> Self {
        let pending = Arc::new(Watched::new(Pending::default()));
        let runtime = client.runtime().clone();
        let failing = pending.clone();
        let on_panic = move |error| failing.update(|pending| pending.answered(Offsets::new(), Err(error)));
        let task = OwnedTask::spawn(&runtime, send(client, stream, subscription, stream_id, pending.clone()), on_panic);
        Self { pending, _task: task }
    }

    pub(super) fn ack(&self, partition: PartitionId, offset: Offset) -> Result<(), Error> {
        self.pending.update(|pending| pending.add(partition, offset))
    }

    pub(super) async fn flush(&self) -> Result<(), Error> {
        self.pending.wait(Pending::settled).await
    }

    pub(super) fn pending(&self) -> &Arc<Watched<Pending>> {
        &self.pending
    }
}

async fn send(client: Client, stream: String, subscription: String, stream_id: StreamId, pending: Arc<Watched<Pending>>) {
    loop {
        let offsets = pending.wait(Pending::take).await;
        let result = client.ack(&stream, &subscription, &offsets, Some(stream_id)).await;
        pending.update(|pending| pending.answered(offsets, result));
    }
}

/// What is to be acked and what is known of the last call.
#[derive(Debug, Default)]
pub(super) struct Pending {
    offsets: Offsets,
    in_flight: bool,
    /// Reported once if `retry()` allows another try, else for ever. Until then nothing is sent.
    failed: Option<Error>,
}

impl Pending {
    fn add(&mut self, partition: PartitionId, offset: Offset) -> Result<(), Error> {
        self.merge(partition, offset);
        self.take_failure().map_or(Ok(()), Err)
    }

    fn merge(&mut self, partition: PartitionId, offset: Offset) {
        let newest = self.offsets.entry(partition).or_default();
        *newest = offset.max(*newest);
    }

    /// Everything that is to be acked, for one call; none: wait.
    fn take(&mut self) -> Option<Offsets> {
        if self.offsets.is_empty() || self.failed.is_some() {
            return None;
        }
        self.in_flight = true;
        Some(std::mem::take(&mut self.offsets))
    }

    fn answered(&mut self, offsets: Offsets, result: Result<(), Error>) {
        self.in_flight = false;
        let Err(error) = result else {
            return;
        };
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
        (self.offsets.is_empty() && !self.in_flight).then_some(Ok(()))
    }

    fn take_failure(&mut self) -> Option<Error> {
        match &self.failed {
            Some(error) if error.retry() == Retry::Never => Some(error.clone()),
            Some(_) => self.failed.take(),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Code;

    const P: PartitionId = PartitionId(0);

    fn refused(code: Code) -> Error {
        Error::Refused { code, retry: code.retry(), stored: code.stored(), text: "no".into() }
    }

    #[test]
    fn acks_made_during_a_call_go_out_together_and_the_newest_offset_wins() {
        let mut pending = Pending::default();
        pending.add(P, Offset(1)).expect("nothing has failed");
        assert_eq!(pending.take(), Some(Offsets::from([(P, Offset(1))])));
        for offset in [2, 5, 3] {
            pending.add(P, Offset(offset)).expect("nothing has failed");
        }
        pending.add(PartitionId(1), Offset(7)).expect("nothing has failed");
        assert!(pending.settled().is_none());
        pending.answered(Offsets::from([(P, Offset(1))]), Ok(()));
        assert_eq!(pending.take(), Some(Offsets::from([(P, Offset(5)), (PartitionId(1), Offset(7))])));
        assert_eq!(pending.take(), None);
        pending.answered(Offsets::new(), Ok(()));
        assert!(pending.settled().expect("all is confirmed").is_ok());
    }

    #[test]
    fn acks_that_could_not_be_sent_are_sent_again_once_the_caller_knows() {
        let mut pending = Pending::default();
        pending.add(P, Offset(4)).expect("nothing has failed");
        let offsets = pending.take().expect("one to send");
        pending.answered(offsets, Err(refused(Code::Unavailable)));
        assert_eq!(pending.take(), None, "not before the error was reported");
        assert_eq!(pending.settled().expect("known").expect_err("not reached").code(), Code::Unavailable);
        assert_eq!(pending.take(), Some(Offsets::from([(P, Offset(4))])));
    }

    #[test]
    fn a_refusal_for_good_is_reported_every_time() {
        let mut pending = Pending::default();
        pending.add(P, Offset(4)).expect("nothing has failed");
        let offsets = pending.take().expect("one to send");
        pending.answered(offsets, Err(refused(Code::SubscriptionNotFound)));
        for _ in 0..2 {
            assert_eq!(pending.add(P, Offset(5)).expect_err("refused").code(), Code::SubscriptionNotFound);
        }
    }
}
