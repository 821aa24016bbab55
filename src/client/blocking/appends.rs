//! Blocking producers and writers.

use arrow::array::RecordBatch;
use bytes::Bytes;

use super::Wait;
use super::client::run;
use super::process::OfProcess;
use crate::client::appends::Appends;
use crate::client::producer::{FAIL_GRACE, say_goodbye};
use crate::client::window::{Entry, Window};
use crate::client::{self as asynchronous, ColumnSlices, Error};
use crate::engine::{PartitionId, StoredState};
use crate::wire::batch::EncodedBatch;
use crate::wire::proto::Receipt;
use crate::wire::schema::StreamSchema;

/// A producer; see [`client::Producer`](crate::client::Producer).
#[derive(Debug)]
pub struct Producer {
    inner: OfProcess<asynchronous::Producer>,
}

impl Producer {
    pub(super) fn new(inner: asynchronous::Producer) -> Self {
        Self { inner: OfProcess::new(inner) }
    }

    /// The producer's identity.
    ///
    /// # Errors
    /// `invalid_argument` in a forked child.
    pub fn producer(&mut self) -> Result<&str, Error> {
        Ok(self.inner.get_mut()?.producer())
    }

    /// Hands over a batch: returns when it is in the window.
    ///
    /// # Errors
    /// As [`client::Producer::append`](crate::client::Producer::append), and `timeout`: the batch is not stored.
    pub fn append<E: From<Error>>(
        &mut self,
        batch: &RecordBatch,
        partition: Option<PartitionId>,
        user: Bytes,
        wait: &mut Wait<'_, E>,
    ) -> Result<(), E> {
        let appends = &mut self.inner.get_mut()?.appends;
        let entry = appends.encode(batch, partition, user)?;
        admit(appends, entry, wait)
    }

    /// Hands over a small batch whose columns are not in arrays. False if it has to be, for [`Producer::append`]: it is larger than
    /// 64 KiB, of other columns than [`PlainLayout`](crate::client::PlainLayout) has, to be compressed, the first one, or no
    /// batch of the schema.
    ///
    /// # Errors
    /// As [`Producer::append`].
    pub fn append_slices<E: From<Error>>(
        &mut self,
        rows: usize,
        columns: &[ColumnSlices<'_>],
        partition: Option<PartitionId>,
        wait: &mut Wait<'_, E>,
    ) -> Result<bool, E> {
        admit_slices(&mut self.inner.get_mut()?.appends, rows, columns, partition, wait)
    }

    /// Hands over a batch that is encoded already, as it is.
    ///
    /// # Errors
    /// As [`Producer::append`].
    pub fn append_encoded<E: From<Error>>(
        &mut self,
        schema: &StreamSchema,
        batch: EncodedBatch,
        partition: Option<PartitionId>,
        wait: &mut Wait<'_, E>,
    ) -> Result<(), E> {
        let appends = &mut self.inner.get_mut()?.appends;
        let entry = appends.take_encoded(schema, batch, partition)?;
        admit(appends, entry, wait)
    }

    /// How many batches of this producer are known to be stored, counted from its first.
    ///
    /// # Errors
    /// `invalid_argument` in a forked child.
    pub fn stored(&mut self) -> Result<u64, Error> {
        Ok(self.inner.get_mut()?.stored())
    }

    /// Waits until the coordinator has let the producer in.
    ///
    /// # Errors
    /// As [`client::Producer::opened`](crate::client::Producer::opened), and `timeout`.
    pub fn opened<E: From<Error>>(&mut self, wait: &mut Wait<'_, E>) -> Result<(), E> {
        let appends = &mut self.inner.get_mut()?.appends;
        appends.ensure_running();
        Ok(wait.on(appends.window(), "the coordinator to let the producer in", StoredState::No, Window::opened)??)
    }

    /// Whether all batches so far are stored; it does not wait for it.
    ///
    /// # Errors
    /// As [`client::Producer::flush`](crate::client::Producer::flush).
    pub fn try_flush(&mut self) -> Result<bool, Error> {
        self.inner.get_mut()?.try_flush()
    }

    /// Waits until all batches so far are stored.
    ///
    /// # Errors
    /// As [`client::Producer::flush`](crate::client::Producer::flush), and `timeout`: the batches are still under way.
    pub fn flush<E: From<Error>>(&mut self, wait: &mut Wait<'_, E>) -> Result<(), E> {
        settled(&mut self.inner.get_mut()?.appends, wait)
    }

    /// Flushes, ends the connection in good order and says goodbye.
    ///
    /// # Errors
    /// As [`Producer::flush`].
    pub fn close<E: From<Error>>(&mut self, wait: &mut Wait<'_, E>) -> Result<(), E> {
        finished(&mut self.inner.get_mut()?.appends, wait)?;
        self.goodbye(wait)
    }

    /// Closes the producer and completes the stream.
    ///
    /// # Errors
    /// As [`Producer::flush`].
    pub fn complete<E: From<Error>>(&mut self, wait: &mut Wait<'_, E>) -> Result<(), E> {
        let appends = &mut self.inner.get_mut()?.appends;
        finished(appends, wait)?;
        let (client, stream) = (appends.client().clone(), appends.stream().to_owned());
        run(wait, async move { client.complete_stream(&stream).await })?;
        self.goodbye(wait)
    }

    /// Ends the stream with an error: readers get what is there, then `reason`. Waits at most 5 s for what was
    /// appended before to be stored.
    ///
    /// # Errors
    /// Those of [`client::Client::fail_stream`](crate::client::Client::fail_stream).
    pub fn fail<E: From<Error>>(&mut self, reason: &str, wait: &mut Wait<'_, E>) -> Result<(), E> {
        let appends = &mut self.inner.get_mut()?.appends;
        let window = appends.window().clone();
        appends.ensure_running();
        run(wait, async move {
            // Whatever comes of it: the stream fails now.
            drop(tokio::time::timeout(FAIL_GRACE, window.wait(Window::settled)).await);
            Ok(())
        })?;
        let (client, stream, reason) = (appends.client().clone(), appends.stream().to_owned(), reason.to_owned());
        run(wait, async move { client.fail_stream(&stream, &reason).await })?;
        self.goodbye(wait)
    }

    fn goodbye<E: From<Error>>(&mut self, wait: &mut Wait<'_, E>) -> Result<(), E> {
        match self.inner.get_mut()?.take_goodbye() {
            Some((client, stream, id)) => run(wait, say_goodbye(client, stream, id)),
            None => Ok(()),
        }
    }
}

/// A writer; see [`client::EpochWriter`](crate::client::EpochWriter).
#[derive(Debug)]
pub struct EpochWriter {
    inner: OfProcess<asynchronous::EpochWriter>,
}

impl EpochWriter {
    pub(super) fn new(inner: asynchronous::EpochWriter) -> Self {
        Self { inner: OfProcess::new(inner) }
    }

    /// Hands over a batch: returns when it is in the window.
    ///
    /// # Errors
    /// As [`client::EpochWriter::append`](crate::client::EpochWriter::append), and `timeout`: the batch is not staged.
    pub fn append<E: From<Error>>(
        &mut self,
        batch: &RecordBatch,
        partition: Option<PartitionId>,
        user: Bytes,
        wait: &mut Wait<'_, E>,
    ) -> Result<(), E> {
        let appends = &mut self.inner.get_mut()?.appends;
        let entry = appends.encode(batch, partition, user)?;
        admit(appends, entry, wait)
    }

    /// Hands over a small batch whose columns are not in arrays; see [`Producer::append_slices`].
    ///
    /// # Errors
    /// As [`EpochWriter::append`].
    pub fn append_slices<E: From<Error>>(
        &mut self,
        rows: usize,
        columns: &[ColumnSlices<'_>],
        partition: Option<PartitionId>,
        wait: &mut Wait<'_, E>,
    ) -> Result<bool, E> {
        admit_slices(&mut self.inner.get_mut()?.appends, rows, columns, partition, wait)
    }

    /// Hands over a batch that is encoded already, as it is.
    ///
    /// # Errors
    /// As [`EpochWriter::append`].
    pub fn append_encoded<E: From<Error>>(
        &mut self,
        schema: &StreamSchema,
        batch: EncodedBatch,
        partition: Option<PartitionId>,
        wait: &mut Wait<'_, E>,
    ) -> Result<(), E> {
        let appends = &mut self.inner.get_mut()?.appends;
        let entry = appends.take_encoded(schema, batch, partition)?;
        admit(appends, entry, wait)
    }

    /// Whether the coordinator has said that the epoch is committed already: then what is appended is dropped.
    ///
    /// # Errors
    /// `invalid_argument` in a forked child.
    pub fn is_unneeded(&mut self) -> Result<bool, Error> {
        Ok(self.inner.get_mut()?.is_unneeded())
    }

    /// Waits until all is staged and gives the receipt that the epoch's commit names; none if there is nothing to
    /// name.
    ///
    /// # Errors
    /// As [`client::EpochWriter::finish`](crate::client::EpochWriter::finish), and `timeout`: it may be called again.
    pub fn finish<E: From<Error>>(&mut self, wait: &mut Wait<'_, E>) -> Result<Option<Receipt>, E> {
        finished(&mut self.inner.get_mut()?.appends, wait)
    }
}

fn admit<E: From<Error>>(appends: &Appends, entry: Entry, wait: &mut Wait<'_, E>) -> Result<(), E> {
    let mut entry = Some(entry);
    let waker = wait.on(appends.window(), "room for the batch", StoredState::No, |window| window.admit(&mut entry))??;
    if let Some(waker) = waker {
        waker.wake();
    }
    Ok(())
}

/// Whether the batch was taken; see [`Producer::append_slices`].
fn admit_slices<E: From<Error>>(
    appends: &mut Appends,
    rows: usize,
    columns: &[ColumnSlices<'_>],
    partition: Option<PartitionId>,
    wait: &mut Wait<'_, E>,
) -> Result<bool, E> {
    match appends.encode_slices(rows, columns, partition)? {
        Some(entry) => admit(appends, entry, wait).map(|()| true),
        None => Ok(false),
    }
}

fn settled<E: From<Error>>(appends: &mut Appends, wait: &mut Wait<'_, E>) -> Result<(), E> {
    appends.ensure_running();
    appends.hurry();
    Ok(wait.on(appends.window(), "the appended batches to be stored", StoredState::Unknown, Window::settled)??)
}

fn finished<E: From<Error>>(appends: &mut Appends, wait: &mut Wait<'_, E>) -> Result<Option<Receipt>, E> {
    if !appends.close() {
        return Ok(None);
    }
    Ok(wait.on(appends.window(), "the appended batches to be stored", StoredState::Unknown, Window::finished)??)
}
