//! A blocking consumer.

use arrow_schema::SchemaRef;

use super::Wait;
use super::process::OfProcess;
use super::wait::Ended;
use crate::client::acks::Pending;
use crate::client::feed::Step;
use crate::client::prefetch::Prefetch;
use crate::client::updates::Updates;
use crate::client::{self as asynchronous, Delivered, Error, Joined};
use crate::engine::{Generation, LeaseId, Offset, PartitionId, StoredState, StreamId};

/// Acks from any thread; see [`client::Acker`](crate::client::Acker).
#[derive(Debug)]
pub struct Acker {
    inner: OfProcess<asynchronous::Acker>,
}

impl Acker {
    /// This process's.
    ///
    /// # Errors
    /// `invalid_argument` in a forked child.
    pub fn get(&self) -> Result<&asynchronous::Acker, Error> {
        self.inner.get().ok_or_else(|| Error::invalid("it was made before this process was forked; make a new one after the fork"))
    }
}

/// A consumer; see [`client::Consumer`](crate::client::Consumer).
#[derive(Debug)]
pub struct Consumer {
    inner: OfProcess<asynchronous::Consumer>,
}

impl Consumer {
    pub(super) fn new(inner: asynchronous::Consumer) -> Self {
        Self { inner: OfProcess::new(inner) }
    }

    /// The stream's id.
    ///
    /// # Errors
    /// `invalid_argument` in a forked child.
    pub fn stream_id(&mut self) -> Result<StreamId, Error> {
        Ok(self.inner.get_mut()?.stream_id())
    }

    /// The partitions that are read.
    ///
    /// # Errors
    /// `invalid_argument` in a forked child.
    pub fn partitions(&mut self) -> Result<Vec<PartitionId>, Error> {
        Ok(self.inner.get_mut()?.partitions())
    }

    /// The next batch; none at the end of the stream, or for now as [`client::Consumer::next`](crate::client::Consumer::next) says. One
    /// that is there already costs no wait and no system call.
    ///
    /// # Errors
    /// As [`client::Consumer::next`](crate::client::Consumer::next).
    pub fn next<E: From<Error>>(&mut self, wait: &mut Wait<'_, E>) -> Result<Option<Delivered>, E> {
        loop {
            if let Some(delivered) = self.inner.peek_mut().and_then(asynchronous::Consumer::hand_out) {
                return Ok(delivered.map(Some)?);
            }
            if !self.take(wait)? {
                return Ok(None);
            }
        }
    }

    /// Waits for what can be handed out; false at the end of the stream.
    fn take<E: From<Error>>(&mut self, wait: &mut Wait<'_, E>) -> Result<bool, E> {
        loop {
            let consumer = self.inner.get_mut()?;
            consumer.ensure_reading();
            let (prefetch, due) = (consumer.prefetch().clone(), consumer.feed.due());
            let feed = &mut consumer.feed;
            match wait.on_until(&prefetch, due, |prefetch| feed.step(prefetch, due)) {
                Ok(step) => match step? {
                    Step::Ready => {
                        prefetch.wake();
                        return Ok(true);
                    }
                    Step::End => return Ok(false),
                    Step::Lingers => {}
                },
                Err(Ended::Due) => consumer.feed.stop_lingering(),
                Err(Ended::Deadline(waited)) => return Err(consumer.timeout(waited).into()),
                Err(Ended::Interrupted(error)) => return Err(error),
            }
        }
    }

    /// See [`client::Consumer::has_ended`](crate::client::Consumer::has_ended).
    ///
    /// # Errors
    /// `invalid_argument` in a forked child.
    pub fn has_ended(&mut self) -> Result<bool, Error> {
        Ok(self.inner.get_mut()?.has_ended())
    }

    /// The next batch if one is there already; never waits.
    ///
    /// # Errors
    /// As [`client::Consumer::try_next`](crate::client::Consumer::try_next).
    pub fn try_next(&mut self) -> Result<Option<Delivered>, Error> {
        if let Some(delivered) = self.inner.peek_mut().and_then(asynchronous::Consumer::hand_out) {
            return delivered.map(Some);
        }
        self.inner.get_mut()?.try_next()
    }

    /// The next batches: waits for one, and takes those behind it that are there already, up to `batches_max` and about
    /// `bytes_max` bytes. Plain ones of up to 16 KiB that follow each other are joined, up to 32 KiB: to make one batch of many
    /// costs a fraction of making each. None at the end of the stream.
    ///
    /// # Errors
    /// As [`Consumer::next`], after the batches before it.
    pub fn next_joined<E: From<Error>>(&mut self, batches_max: usize, bytes_max: u64, wait: &mut Wait<'_, E>) -> Result<Vec<Joined>, E> {
        loop {
            if !self.inner.get_mut()?.has_taken() && !self.take(wait)? {
                return Ok(Vec::new());
            }
            let joined = self.inner.get_mut()?.hand_out_joined(batches_max.max(1), bytes_max.max(1))?;
            // A seek may have come in between.
            if !joined.is_empty() {
                return Ok(joined);
            }
        }
    }

    /// Which of the subscription's cursors the batches were read for that were handed out last; none without a subscription.
    ///
    /// # Errors
    /// As [`Consumer::next`] in a forked child.
    pub fn generation(&mut self) -> Result<Option<Generation>, Error> {
        Ok(self.inner.get_mut()?.generation())
    }

    /// The stream's schema, as soon as it has one; none if it ended without.
    ///
    /// # Errors
    /// As [`Consumer::next`].
    pub fn schema<E: From<Error>>(&mut self, wait: &mut Wait<'_, E>) -> Result<Option<SchemaRef>, E> {
        let consumer = self.inner.get_mut()?;
        consumer.ensure_reading();
        Ok(wait.on(consumer.prefetch(), "the stream's schema", StoredState::No, Prefetch::schema_or_end)??)
    }

    /// The subscription is done with all batches of the partition before `offset`. Returns at once.
    ///
    /// # Errors
    /// As [`client::Consumer::ack`](crate::client::Consumer::ack).
    pub fn ack(&mut self, partition: PartitionId, offset: Offset) -> Result<(), Error> {
        self.inner.get_mut()?.ack(partition, offset)
    }

    /// The same for batches that came by this lease.
    ///
    /// # Errors
    /// As [`client::Consumer::ack_by`](crate::client::Consumer::ack_by).
    pub fn ack_by(&mut self, partition: PartitionId, offset: Offset, lease: Option<LeaseId>) -> Result<(), Error> {
        self.inner.get_mut()?.ack_by(partition, offset, lease)
    }

    /// Acks batches from any thread, without a wait for one that is about to read.
    ///
    /// # Errors
    /// `invalid_argument` in a forked child.
    pub fn acker(&mut self) -> Result<Acker, Error> {
        Ok(Acker { inner: OfProcess::new(self.inner.get_mut()?.acker()) })
    }

    /// Waits until all acks so far are confirmed.
    ///
    /// # Errors
    /// As [`client::Consumer::flush_acks`](crate::client::Consumer::flush_acks), and `timeout`.
    pub fn flush_acks<E: From<Error>>(&mut self, wait: &mut Wait<'_, E>) -> Result<(), E> {
        let consumer = self.inner.get_mut()?;
        if let Some(updates) = consumer.updates() {
            updates.update(Updates::hurry);
            return Ok(wait.on(updates, "acks to be confirmed", StoredState::Unknown, Updates::settled)??);
        }
        match consumer.open_acks() {
            Some(acks) => {
                acks.hurry();
                Ok(wait.on(acks.pending(), "acks to be confirmed", StoredState::Unknown, Pending::settled)??)
            }
            None => Ok(()),
        }
    }

    /// Flushes the acks and ends reading. Closed already: nothing happens.
    ///
    /// # Errors
    /// As [`Consumer::flush_acks`]; reading has ended all the same.
    pub fn close<E: From<Error>>(&mut self, wait: &mut Wait<'_, E>) -> Result<(), E> {
        if self.inner.peek_mut().is_none() {
            return Ok(());
        }
        let flushed = self.flush_acks(wait);
        drop(self.inner.take()?);
        flushed
    }
}
