//! Answers that are there for all who ask the same of a batch.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::super::error::Error;
use crate::engine::{Offset, PartitionId};
use crate::query::Answer;

/// Most bytes of answers that are kept for others who ask the same query of a stream.
const KEPT_BYTES_MAX: u64 = 16 << 20;
/// Most answers that are.
const KEPT_MAX: usize = 256;

/// Which batch.
type Place = (PartitionId, Offset);
/// Where its answer is, or will be.
type AnswerCell = Arc<OnceCell<Arc<Answer>>>;

/// What is asked of a stream's batches, by text.
#[derive(Debug, Default)]
pub(super) struct Answers(Mutex<BTreeMap<Arc<str>, Weak<AskedByAll>>>);

impl Answers {
    /// For one more reader who asks this.
    pub(super) fn ask(&self, query: Arc<str>) -> Asked {
        let mut all = self.0.lock();
        all.retain(|_, asked| asked.strong_count() > 0);
        if let Some(asked) = all.get(&query).and_then(Weak::upgrade) {
            return Asked(asked);
        }
        let asked = Arc::new(AskedByAll { query: query.clone(), kept: Mutex::default() });
        all.insert(query, Arc::downgrade(&asked));
        Asked(asked)
    }
}

#[derive(Debug)]
struct AskedByAll {
    query: Arc<str>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// With the bytes that are counted of each.
    answers: BTreeMap<Place, (AnswerCell, u64)>,
    /// In the order in which they were asked first.
    order: VecDeque<Place>,
    /// All that are counted.
    bytes: u64,
}

/// A query that a reader asks, maybe with others.
#[derive(Debug)]
pub(super) struct Asked(Arc<AskedByAll>);

impl Asked {
    /// Its text.
    pub(super) fn query(&self) -> &Arc<str> {
        &self.0.query
    }

    /// Whether nobody else asks it.
    pub(super) fn is_alone(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// The answer for a batch: another reader's, if there is one, or else `answering`.
    ///
    /// # Errors
    /// Those of `answering`, which the next reader tries again.
    pub(super) async fn once(&self, place: Place, answering: impl Future<Output = Result<Answer, Error>>) -> Result<Arc<Answer>, Error> {
        if self.is_alone() {
            return answering.await.map(Arc::new);
        }
        let cell = self.0.kept.lock().ask(place);
        let mut is_new = false;
        let answered = cell.get_or_try_init(|| async {
            is_new = true;
            answering.await.map(Arc::new)
        });
        let answer = answered.await?.clone();
        if is_new {
            let bytes = answer.batch.bytes() + answer.batch.dictionaries.bytes();
            self.0.kept.lock().count(place, &cell, bytes);
        }
        Ok(answer)
    }
}

impl Kept {
    /// Where the answer for a batch is, or will be.
    fn ask(&mut self, place: Place) -> AnswerCell {
        if let Some((cell, _)) = self.answers.get(&place) {
            return cell.clone();
        }
        self.order.push_back(place);
        while self.order.len() > KEPT_MAX {
            self.drop_oldest();
        }
        self.answers.entry(place).or_default().0.clone()
    }

    /// Counts an answer that is there now, unless its place was dropped meanwhile.
    fn count(&mut self, place: Place, cell: &AnswerCell, bytes: u64) {
        if let Some((_, counted)) = self.answers.get_mut(&place).filter(|(kept, _)| Arc::ptr_eq(kept, cell)) {
            *counted = bytes;
            self.bytes += bytes;
            while self.bytes > KEPT_BYTES_MAX {
                self.drop_oldest();
            }
        }
    }

    fn drop_oldest(&mut self) {
        let oldest = self.order.pop_front().and_then(|place| self.answers.remove(&place));
        self.bytes -= oldest.map_or(0, |(_, counted)| counted);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use arrow::array::RecordBatch;
    use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
    use arrow_schema::Schema;

    use super::*;
    use crate::engine::SchemaVersion;
    use crate::query::Query;
    use crate::wire::batch::EncodedBatch;
    use crate::wire::body::Body;
    use crate::wire::dictionary::DictionarySet;
    use crate::wire::ipc::Message;
    use crate::wire::schema::StreamSchema;

    /// A batch without rows and columns, and an answer to it.
    fn answer() -> Answer {
        let batch = RecordBatch::new_empty(Arc::new(Schema::empty()));
        let (mut tracker, mut context) = (DictionaryTracker::new(false), IpcWriteContext::default());
        let encoded = IpcDataGenerator::default().encode(&batch, &mut tracker, &IpcWriteOptions::default(), &mut context);
        let message = Message { header: encoded.expect("can be encoded").1.ipc_message.into(), body: Body::new() };
        let (dictionaries, schema) = (DictionarySet::empty(), SchemaVersion(0));
        let batch = EncodedBatch { message, dictionaries, schema, user: bytes::Bytes::new(), rows: 0 };
        let schema = StreamSchema::from_arrow(&Schema::empty()).expect("a schema");
        let query = Query::new("s", &schema, "SELECT 1 AS one FROM s").expect("a query");
        query.answer(0, &batch, u64::MAX).expect("an answer")
    }

    #[tokio::test]
    async fn who_asks_the_same_gets_the_same_and_who_is_alone_keeps_nothing() {
        let (all, count) = (Answers::default(), AtomicU32::new(0));
        let answering = || async {
            count.fetch_add(1, Relaxed);
            Ok(answer())
        };
        let place = |offset| (PartitionId(0), Offset(offset));
        let one = all.ask("q".into());
        one.once(place(0), answering()).await.expect("an answer");
        one.once(place(0), answering()).await.expect("an answer");
        assert_eq!(count.load(Relaxed), 2, "nobody else asks");
        let other = all.ask("q".into());
        let (first, second) = tokio::join!(one.once(place(1), answering()), other.once(place(1), answering()));
        assert!(Arc::ptr_eq(&first.expect("an answer"), &second.expect("an answer")));
        assert_eq!(count.load(Relaxed), 3);
        let failed = one.once(place(2), async { Err(Error::ShuttingDown) }).await;
        assert!(failed.is_err());
        other.once(place(2), answering()).await.expect("is tried again");
        let different = all.ask("other".into());
        different.once(place(1), answering()).await.expect("an answer");
        assert_eq!(count.load(Relaxed), 5);
        for offset in 0..1000 {
            one.once(place(offset), answering()).await.expect("an answer");
        }
        assert!(one.0.kept.lock().answers.len() <= KEPT_MAX);
    }
}
