//! Batches of the size that a consumer asks for: small ones are put together, large ones are cut.
//!
//! Put together are whole batches with consecutive offsets of one partition, one epoch, one schema and the same `user`; cut is
//! one batch, in parts of about the same number of rows. Nothing is both, so that what is delivered is either the offsets
//! `first_offset..=offset`, or some rows of one offset. Here is only decided what goes together: what costs time is done when
//! it is handed out, and no lock is held.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_schema::SchemaRef;

use super::ready::Ready;
use crate::engine::PartitionId;

/// What is asked for; at least one of rows and bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    rows: u64,
    bytes: u64,
    linger: Duration,
    /// Most bytes that wait for others to be put together with.
    held_bytes_max: u64,
}

impl Target {
    /// None if neither rows nor bytes are asked for.
    pub(super) fn new(rows: Option<u64>, bytes: Option<u64>, linger: Duration, held_bytes_max: u64) -> Option<Self> {
        (rows.is_some() || bytes.is_some()).then(|| Self {
            rows: rows.unwrap_or(u64::MAX).max(1),
            bytes: bytes.unwrap_or(u64::MAX).max(1),
            linger,
            held_bytes_max,
        })
    }

    fn holds(&self, rows: u64, bytes: u64) -> bool {
        rows <= self.rows && bytes <= self.bytes
    }

    fn is_reached(&self, rows: u64, bytes: u64) -> bool {
        rows >= self.rows || bytes >= self.bytes
    }

    /// In how many parts a batch is to be cut: each has a row at least.
    fn parts(&self, rows: u64, bytes: u64) -> u64 {
        rows.div_ceil(self.rows).max(bytes.div_ceil(self.bytes)).min(rows).max(1)
    }
}

/// Batches of one partition that wait to be put together.
#[derive(Debug)]
struct Run {
    batches: Vec<Ready>,
    rows: u64,
    bytes: u64,
    until: Instant,
}

/// What waits to be put together, by partition.
#[derive(Debug)]
pub(super) struct Sizing {
    target: Target,
    runs: BTreeMap<PartitionId, Run>,
    held_bytes: u64,
}

impl Sizing {
    pub(super) fn new(target: Target) -> Self {
        Self { target, runs: BTreeMap::new(), held_bytes: 0 }
    }

    /// When the first of them is to be handed out as it is.
    pub(super) fn due(&self) -> Option<Instant> {
        self.runs.values().map(|run| run.until).min()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.runs.clear();
        self.held_bytes = 0;
    }

    /// Takes a batch in, in the order of its partition; `out` gets what is complete by it.
    pub(super) fn put(&mut self, ready: Ready, now: Instant, out: &mut VecDeque<Ready>) {
        let (rows, bytes) = (ready.rows(), ready.memory_bytes());
        let partition = ready.origin.partition;
        let goes_on = self.runs.get(&partition).is_none_or(|run| {
            let last = run.batches.last().expect("a run is never empty");
            self.target.holds(run.rows.saturating_add(rows), run.bytes.saturating_add(bytes)) && is_followed_by(last, &ready)
        });
        let ended = ready.origin.epoch_end.then(|| (ready.origin.producer.clone(), ready.origin.epoch));
        if !goes_on {
            self.give(partition, out);
        }
        self.put_in(ready, rows, bytes, now, out);
        if let Some((producer, epoch)) = ended {
            // Whatever partitions the rest of it is of: with the last of them it is complete.
            self.give_all(out);
            let of_it =
                out.iter_mut().filter(|ready| epoch.is_some() && (&ready.origin.producer, ready.origin.epoch) == (&producer, epoch));
            of_it.for_each(|ready| ready.set_epoch_end(false));
            out.iter_mut().next_back().into_iter().for_each(|last| last.set_epoch_end(true));
        }
    }

    fn put_in(&mut self, ready: Ready, rows: u64, bytes: u64, now: Instant, out: &mut VecDeque<Ready>) {
        let partition = ready.origin.partition;
        if self.target.is_reached(rows, bytes) && !self.runs.contains_key(&partition) {
            let parts = self.target.parts(rows, bytes);
            return out.push_back(if parts > 1 { ready.cut(parts) } else { ready });
        }
        self.held_bytes += ready.origin.bytes;
        let until = now + self.target.linger;
        let run = self.runs.entry(partition).or_insert_with(|| Run { batches: Vec::new(), rows: 0, bytes: 0, until });
        run.rows = run.rows.saturating_add(rows);
        run.bytes = run.bytes.saturating_add(bytes);
        run.batches.push(ready);
        if self.target.is_reached(run.rows, run.bytes) {
            self.give(partition, out);
        }
        if self.held_bytes > self.target.held_bytes_max {
            self.give_all(out);
        }
    }

    /// Gives what has waited long enough.
    pub(super) fn give_due(&mut self, now: Instant, out: &mut VecDeque<Ready>) {
        let due: Vec<_> = self.runs.iter().filter(|(_, run)| run.until <= now).map(|(partition, _)| *partition).collect();
        due.into_iter().for_each(|partition| self.give(partition, out));
    }

    /// Gives all that waits.
    pub(super) fn give_all(&mut self, out: &mut VecDeque<Ready>) {
        while let Some(partition) = self.runs.keys().next().copied() {
            self.give(partition, out);
        }
    }

    /// Gives all that waits but for a partition's, which is forgotten.
    pub(super) fn give_all_but(&mut self, partition: PartitionId, out: &mut VecDeque<Ready>) {
        self.runs.remove(&partition);
        self.give_all(out);
        self.held_bytes = 0;
    }

    fn give(&mut self, partition: PartitionId, out: &mut VecDeque<Ready>) {
        let Some(mut run) = self.runs.remove(&partition) else { return };
        self.held_bytes -= run.batches.iter().map(|ready| ready.origin.bytes).sum::<u64>();
        match run.batches.len() {
            1 => out.extend(run.batches.pop()),
            _ => out.extend(Ready::run(run.batches)),
        }
    }
}

/// Whether two batches of a partition may become one.
fn is_followed_by(last: &Ready, next: &Ready) -> bool {
    let same_schema = |one: Option<SchemaRef>, other: Option<SchemaRef>| {
        one.zip(other).is_some_and(|(one, other)| Arc::ptr_eq(&one, &other) || one == other)
    };
    last.origin.offset.plus(1) == next.origin.first_offset
        && last.origin.epoch == next.origin.epoch
        && last.origin.producer == next.origin.producer
        && last.origin.lease == next.origin.lease
        && last.origin.user == next.origin.user
        && same_schema(last.schema(), next.schema())
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use arrow_schema::Schema;
    use bytes::Bytes;

    use super::super::assemble::assembled;
    use super::super::in_flight::{End, Unacked};
    use super::super::ready::{Content, Origin};
    use super::super::retry::now;
    use super::*;
    use crate::engine::{Epoch, Offset, Timestamp};

    const LINGER: Duration = Duration::from_secs(1);

    fn target(rows: Option<u64>, bytes: Option<u64>) -> Sizing {
        Sizing::new(Target::new(rows, bytes, LINGER, 1 << 20).expect("something is asked for"))
    }

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![arrow_schema::Field::new("n", arrow_schema::DataType::Int64, true)]))
    }

    /// A batch whose rows say where they are from.
    fn ready(partition: u32, offset: u64, rows: u32) -> Ready {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values((0..i64::from(rows)).map(|row| offset.cast_signed() * 1_000 + row)));
        let batch = RecordBatch::try_new(schema(), vec![column]).expect("one column");
        let origin = Origin {
            partition: PartitionId(partition),
            offset: Offset(offset),
            epoch: None,
            appended_at: Timestamp(offset),
            user: Bytes::new(),
            bytes: 8 * u64::from(rows),
            lease: None,
            skipped: 0,
            first_offset: Offset(offset),
            slice: None,
            producer: None,
            epoch_end: false,
            delivery: 1,
            traceparent: None,
        };
        Ready { origin, content: Content::Decoded { batch, is_plain: true } }
    }

    /// Partition, first and last offset, rows of a slice, rows.
    type Given = (u32, u64, u64, Option<(u64, u64)>, usize);

    fn given(out: &mut VecDeque<Ready>) -> Vec<Given> {
        let each = out.drain(..).flat_map(assembled).map(|ready| {
            let unacked = Unacked { partition: ready.origin.partition, end: End::default(), generation: None, lease: None };
            let one = ready.deliver(unacked).expect("is good");
            let slice = one.slice.map(|slice| (slice.rows.start, slice.rows.end));
            (one.partition.0, one.first_offset.0, one.offset.0, slice, one.batch.num_rows())
        });
        each.collect()
    }

    fn put(sizing: &mut Sizing, batches: impl IntoIterator<Item = Ready>) -> Vec<Given> {
        let (mut out, now) = (VecDeque::new(), now());
        batches.into_iter().for_each(|ready| sizing.put(ready, now, &mut out));
        given(&mut out)
    }

    #[test]
    fn small_ones_of_a_partition_are_put_together_as_long_as_they_fit() {
        let mut sizing = target(Some(10), None);
        let both = (0..4).flat_map(|offset| [ready(0, offset, 4), ready(1, offset, 5)]);
        assert_eq!(put(&mut sizing, both), [(1, 0, 1, None, 10), (0, 0, 1, None, 8), (1, 2, 3, None, 10)]);
        assert!(!sizing.is_empty(), "two of partition 0 wait");
        let mut out = VecDeque::new();
        sizing.give_all(&mut out);
        assert_eq!(given(&mut out), [(0, 2, 3, None, 8)]);
        assert!(sizing.is_empty());
    }

    #[test]
    fn large_ones_are_cut_in_even_parts_and_nothing_is_put_to_them() {
        let mut sizing = target(Some(10), None);
        let batches = [ready(0, 0, 3), ready(0, 1, 21), ready(0, 2, 10), ready(0, 3, 3)];
        let expected = [
            (0, 0, 0, None, 3),
            (0, 1, 1, Some((0, 7)), 7),
            (0, 1, 1, Some((7, 14)), 7),
            (0, 1, 1, Some((14, 21)), 7),
            (0, 2, 2, None, 10),
        ];
        assert_eq!(put(&mut sizing, batches), expected);
    }

    #[test]
    fn bytes_count_as_rows_do_and_a_row_is_never_cut() {
        let mut sizing = target(None, Some(32));
        assert_eq!(put(&mut sizing, [ready(0, 0, 3), ready(0, 1, 1), ready(0, 2, 1)]), [(0, 0, 1, None, 4)]);
        assert_eq!(put(&mut sizing, [ready(0, 3, 6)]), [(0, 2, 2, None, 1), (0, 3, 3, Some((0, 3)), 3), (0, 3, 3, Some((3, 6)), 3)]);
        let mut sizing = target(None, Some(1));
        assert_eq!(put(&mut sizing, [ready(0, 0, 2)]), [(0, 0, 0, Some((0, 1)), 1), (0, 0, 0, Some((1, 2)), 1)]);
    }

    #[test]
    fn what_differs_or_has_a_gap_before_it_stays_apart() {
        let mut sizing = target(Some(100), None);
        let mut other_epoch = ready(0, 1, 1);
        other_epoch.origin.epoch = Some(Epoch(7));
        let mut other_user = ready(0, 2, 1);
        other_user.origin.epoch = Some(Epoch(7));
        other_user.origin.user = Bytes::from_static(b"u");
        let batches = [ready(0, 0, 1), other_epoch, other_user, ready(0, 3, 1), ready(0, 5, 1)];
        assert_eq!(put(&mut sizing, batches), [(0, 0, 0, None, 1), (0, 1, 1, None, 1), (0, 2, 2, None, 1), (0, 3, 3, None, 1)]);
    }

    #[test]
    fn an_epoch_ends_with_the_last_of_it_whatever_partitions_it_is_of() {
        let (mut sizing, mut out) = (target(Some(10), None), VecDeque::new());
        let of_epoch = |partition, offset, rows, epoch, epoch_end| {
            let mut ready = ready(partition, offset, rows);
            ready.origin.producer = Some("p".into());
            (ready.origin.epoch, ready.origin.epoch_end) = (Some(Epoch(epoch)), epoch_end);
            ready
        };
        let first = [of_epoch(1, 0, 2, 1, false), of_epoch(0, 0, 2, 1, false), of_epoch(0, 1, 2, 1, true)];
        let second = [of_epoch(0, 2, 2, 2, false), of_epoch(1, 1, 25, 2, true)];
        first.into_iter().chain(second).for_each(|ready| sizing.put(ready, now(), &mut out));
        let each = out.drain(..).flat_map(assembled).map(|ready| (ready.origin.epoch.map(|epoch| epoch.0), ready.origin.epoch_end));
        let (one, two) = (Some(1), Some(2));
        assert_eq!(each.collect::<Vec<_>>(), [(one, false), (one, true), (two, false), (two, false), (two, false), (two, true)]);
    }

    #[test]
    fn empty_batches_travel_with_the_others() {
        let mut sizing = target(Some(4), None);
        let batches = [ready(0, 0, 0), ready(0, 1, 2), ready(0, 2, 0), ready(0, 3, 2)];
        assert_eq!(put(&mut sizing, batches), [(0, 0, 3, None, 4)]);
    }

    #[test]
    fn each_waits_for_the_linger_and_no_longer() {
        let (mut sizing, mut out, start) = (target(Some(10), None), VecDeque::new(), now());
        sizing.put(ready(0, 0, 1), start, &mut out);
        sizing.put(ready(1, 0, 1), start + LINGER / 2, &mut out);
        sizing.put(ready(0, 1, 1), start + LINGER / 2, &mut out);
        assert_eq!(sizing.due(), Some(start + LINGER));
        sizing.give_due(start + LINGER, &mut out);
        assert_eq!(given(&mut out), [(0, 0, 1, None, 2)]);
        assert_eq!(sizing.due(), Some(start + LINGER * 3 / 2));
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut sizing = Sizing::new(Target::new(Some(1_000), None, LINGER, 100).expect("rows"));
        let batches = [ready(0, 0, 6), ready(1, 0, 6), ready(0, 1, 6)];
        assert_eq!(put(&mut sizing, batches), [(0, 0, 1, None, 12), (1, 0, 0, None, 6)], "144 bytes");
    }
}
