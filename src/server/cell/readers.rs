//! Who reads a stream: registered for as long as a `DoGet` lasts, to be woken, and to be named in descriptions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Notify;

use super::StreamCell;
use crate::engine::{ConsumerId, ConsumerName, Offset, PartitionId, SubscriptionName, Timestamp};

/// Who reads, as far as it says so.
#[derive(Debug, Clone, Default)]
pub(in crate::server) struct ReaderName {
    pub(in crate::server) consumer: Option<ConsumerName>,
    pub(in crate::server) subscription: Option<SubscriptionName>,
    /// Of one that reads by leases.
    pub(in crate::server) consumer_id: Option<ConsumerId>,
    /// Where it comes from: an address, "unix" or "process"; empty if that is not known.
    pub(in crate::server) peer: String,
}

/// A reader as it is known to its stream.
#[derive(Debug)]
pub(super) struct Reader {
    name: ReaderName,
    since: Timestamp,
    /// What it reads, and the next offset to be sent of each.
    sent: Vec<(PartitionId, AtomicU64)>,
}

/// One consumer at one moment.
#[derive(Debug)]
pub(in crate::server) struct ConsumerView {
    pub(in crate::server) name: ReaderName,
    pub(in crate::server) reading_for: Duration,
    /// The partitions that it reads, and the next offset to be sent of each.
    pub(in crate::server) sent: Vec<(PartitionId, Offset)>,
}

/// A registered reader; forgotten when this is dropped.
#[derive(Debug)]
pub(in crate::server) struct Watch {
    cell: Arc<StreamCell>,
    reader: Arc<Reader>,
    notify: Arc<Notify>,
    /// It is woken when one of these has new batches.
    watched: Vec<PartitionId>,
}

impl StreamCell {
    /// Registers a reader of these partitions from these offsets on; it is woken when one of them has new batches, and when
    /// anything else that readers care for changes.
    pub(in crate::server) fn watch(self: &Arc<Self>, name: ReaderName, from: impl Iterator<Item = (PartitionId, Offset)>) -> Watch {
        let notify = Arc::new(Notify::new());
        let sent: Vec<_> = from.map(|(partition, offset)| (partition, AtomicU64::new(offset.0))).collect();
        let reader = Arc::new(Reader { name, since: self.now(), sent });
        let mut inner = self.inner.lock();
        for (partition, _) in &reader.sent {
            inner.readers[partition.index()].push(notify.clone());
        }
        drop(inner);
        self.readers.lock().push(reader.clone());
        self.counters.reader_opened();
        let watched = reader.sent.iter().map(|(partition, _)| *partition).collect();
        Watch { cell: self.clone(), reader, notify, watched }
    }

    /// Who reads for a subscription, in the order in which they came.
    pub(in crate::server) fn consumers(&self) -> Vec<ConsumerView> {
        let now = self.now();
        let readers = self.readers.lock();
        let of_subscriptions = readers.iter().filter(|reader| reader.name.subscription.is_some());
        of_subscriptions.map(|reader| reader.view(now)).collect()
    }
}

impl Reader {
    fn view(&self, now: Timestamp) -> ConsumerView {
        let sent = self.sent.iter().map(|(partition, next)| (*partition, Offset(next.load(Relaxed))));
        ConsumerView { name: self.name.clone(), reading_for: now.since(self.since), sent: sent.collect() }
    }
}

impl Watch {
    /// Ends when something has changed since the last call ended.
    pub(in crate::server) async fn changed(&self) {
        self.notify.notified().await;
    }

    /// Has itself woken for these partitions from now on, and no others.
    pub(in crate::server) fn watch(&mut self, partitions: Vec<PartitionId>) {
        let mut inner = self.cell.inner.lock();
        for partition in self.watched.drain(..) {
            inner.readers[partition.index()].retain(|reader| !Arc::ptr_eq(reader, &self.notify));
        }
        for partition in &partitions {
            inner.readers[partition.index()].push(self.notify.clone());
        }
        self.watched = partitions;
    }

    /// What wakes it.
    pub(in crate::server) fn notify(&self) -> Arc<Notify> {
        self.notify.clone()
    }

    /// `next` is the next to be sent of the partition that was the `index`th at registration.
    pub(in crate::server) fn sent(&self, index: usize, next: Offset) {
        self.reader.sent.get(index).into_iter().for_each(|(_, sent)| sent.store(next.0, Relaxed));
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.cell.readers.lock().retain(|reader| !Arc::ptr_eq(reader, &self.reader));
        let mut inner = self.cell.inner.lock();
        for partition in &self.watched {
            inner.readers[partition.index()].retain(|reader| !Arc::ptr_eq(reader, &self.notify));
        }
        drop(inner);
        self.cell.counters.reader_closed();
    }
}
