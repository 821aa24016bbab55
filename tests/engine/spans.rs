//! Epochs are read in the order of their commits, over all partitions, before and after a restart.

use bowstring::engine::{
    Attempt, BatchFacts, Command, Dropped, Epoch, EpochSpan, EpochTotals, Limits, Offset, Outcome, PartitionId, PartitionSnapshot,
    ProducerId, Stream, StreamId, StreamName, StreamOptions, StreamSnapshot, StreamState, Task, Timestamp, Visibility, Wanted,
};
use proptest::prelude::*;

use crate::story::{producer, run, writer_of};

const NOW: Timestamp = Timestamp(1_000);

/// Who and which epoch, and the partitions of its batches; in the order of the commits.
type Epochs = Vec<(u8, Vec<u32>)>;

fn epochs() -> impl Strategy<Value = Epochs> {
    prop::collection::vec((0..2_u8, prop::collection::vec(0..3_u32, 0..6)), 0..12)
}

fn options() -> StreamOptions {
    let limits = Limits { max_buffered_batches: 1_000, ..Limits::default() };
    StreamOptions { partitions: 3, visibility: Visibility::Committed, limits, ..StreamOptions::default() }
}

fn name() -> StreamName {
    StreamName::new("s").expect("a valid name")
}

/// A stream in which these epochs were staged all at once, and committed one after the other.
fn committed(stream: &mut Stream<u64>, epochs: &Epochs) -> Vec<(ProducerId, Epoch, Vec<u32>)> {
    let mut numbers = [0_u64; 2];
    let mut all = Vec::new();
    for (who, batches) in epochs {
        let epoch = Epoch(numbers[usize::from(*who)]);
        numbers[usize::from(*who)] += 1;
        let name = ["p", "q"][usize::from(*who)];
        let producer = producer(name);
        let kind = writer_of(name, "r", epoch.0, 0, 0);
        let opened = stream.apply(Command::OpenAppender { kind, connection: None }, NOW).outcome;
        let Ok(Outcome::Opened { appender, .. }) = opened else { panic!("{opened:?}") };
        for (ordinal, partition) in (0..).zip(batches) {
            let partition = PartitionId(*partition);
            stream.apply(Command::Reserve { appender, bytes: 1 }, NOW).outcome.expect("room");
            let append = Command::Append { appender, ordinal, partition, rows: 1, bytes: 1, data: 0 };
            stream.apply(append, NOW).outcome.expect("appended");
        }
        stream.apply(Command::FinishWriter { appender }, NOW).outcome.expect("finished");
        let receipts = vec![(Task(0), Attempt(0))];
        let commit = Command::CommitEpoch { producer: producer.clone(), run: run("r"), epoch, receipts };
        stream.apply(commit, NOW).outcome.expect("committed");
        all.push((producer, epoch, batches.clone()));
    }
    all
}

/// Reads all spans from the start on.
fn spans(stream: &Stream<u64>, mut next: [u64; 3]) -> Vec<EpochSpan> {
    let mut found = Vec::new();
    loop {
        let wanted = [0, 1, 2].map(|index: u32| Wanted { partition: PartitionId(index), next: Offset(next[index as usize]), end: None });
        let Some(span) = stream.next_epoch(&wanted).expect("three partitions") else { return found };
        for (partition, end) in &span.ends {
            next[partition.0 as usize] = end.0;
        }
        found.push(span);
    }
}

fn restored(partitions: Vec<PartitionSnapshot<u64>>) -> Stream<u64> {
    let snapshot = StreamSnapshot {
        options: options(),
        schemas: Vec::new(),
        state: StreamState::Open,
        epochs: EpochTotals::default(),
        partitions,
        subscriptions: Vec::new(),
        producers: Vec::new(),
    };
    Stream::restore(name(), StreamId(7), snapshot, NOW).expect("three partitions")
}

fn check(stream: &Stream<u64>, expected: &[(ProducerId, Epoch, Vec<u32>)]) {
    let expected: Vec<_> = expected.iter().filter(|(_, _, batches)| !batches.is_empty()).collect();
    let found = spans(stream, [0; 3]);
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (span, (producer, epoch, batches)) in found.iter().zip(expected) {
        assert_eq!(span.epoch, Some((producer.clone(), *epoch)));
        assert_eq!(span.batches, batches.len() as u64);
    }
}

proptest! {
    #[test]
    fn epochs_come_whole_and_in_the_order_of_their_commits(epochs in epochs()) {
        let mut stream = Stream::new(name(), StreamId(7), options()).expect("three partitions");
        let expected = committed(&mut stream, &epochs);
        check(&stream, &expected);
    }

    /// After a restart what is known is the order within each partition, and when each batch was appended: in any order.
    #[test]
    fn after_a_restart_each_epoch_is_still_read_whole(epochs in epochs(), times in prop::collection::vec(0..9_u64, 80)) {
        let mut before = Stream::new(name(), StreamId(7), options()).expect("three partitions");
        let expected = committed(&mut before, &epochs);
        let mut times = times.into_iter().cycle();
        let partition = |partition| {
            let batches = before.read(PartitionId(partition), Offset(0), usize::MAX, u64::MAX).expect("is there");
            let facts = batches.into_iter().map(|batch| {
                let appended_at = Timestamp(times.next().expect("for ever"));
                (BatchFacts { appended_at, ..batch.facts }, batch.data)
            });
            PartitionSnapshot { start: Offset(0), rows_before: 0, bytes_before: 0, dropped: Dropped::default(), batches: facts.collect() }
        };
        let partitions: Vec<_> = (0..3).map(partition).collect();
        let after = restored(partitions);
        let found = spans(&after, [0; 3]);
        let whole: Vec<_> = expected.iter().filter(|(_, _, batches)| !batches.is_empty()).collect();
        prop_assert_eq!(found.len(), whole.len(), "none is cut in two");
        for span in &found {
            let (producer, epoch) = span.epoch.clone().expect("all came with one");
            let (_, _, batches) = whole.iter().find(|(other, of, _)| (other, of) == (&producer, &epoch)).expect("was committed");
            prop_assert_eq!(span.batches, batches.len() as u64);
        }
    }
}

#[test]
fn an_epoch_that_was_read_in_part_has_the_rest_and_nothing_more() {
    let mut stream = Stream::new(name(), StreamId(7), options()).expect("three partitions");
    committed(&mut stream, &vec![(0, vec![0, 0, 1]), (1, vec![0, 2]), (0, vec![1])]);
    let found = spans(&stream, [1, 0, 0]);
    assert_eq!(found.iter().map(|span| span.batches).collect::<Vec<_>>(), [2, 2, 1]);
    let found = spans(&stream, [2, 0, 1]);
    assert_eq!(found.iter().map(|span| span.batches).collect::<Vec<_>>(), [1, 1, 1], "the second without partition 2");
    let wanted = Wanted { partition: PartitionId(0), next: Offset(0), end: Some(Offset(1)) };
    let span = stream.next_epoch(&[wanted]).expect("is there").expect("one batch");
    assert_eq!((span.batches, span.ends), (1, [(PartitionId(0), Offset(1))].into()));
}

#[test]
fn nothing_of_an_epoch_is_read_before_all_of_it_is_visible() {
    let mut stream = Stream::durable(name(), StreamId(7), options()).expect("three partitions");
    committed(&mut stream, &vec![(0, vec![0, 1])]);
    assert!(spans(&stream, [0; 3]).is_empty());
    let settle = |partition| Command::Settle { batches: 1, bytes: 1, durable: vec![(PartitionId(partition), Offset(1))] };
    stream.apply(settle(0), NOW).outcome.expect("settled");
    assert!(spans(&stream, [0; 3]).is_empty(), "half of it");
    stream.apply(settle(1), NOW).outcome.expect("settled");
    assert_eq!(spans(&stream, [0; 3]).len(), 1);
}

/// No commits make such an order; a restart must neither hang on it nor lose anything.
#[test]
fn a_restart_that_finds_epochs_in_contrary_orders_has_all_of_their_batches() {
    let partition = |epochs: &[u64]| PartitionSnapshot {
        start: Offset(0),
        rows_before: 0,
        bytes_before: 0,
        dropped: Dropped::default(),
        batches: epochs
            .iter()
            .map(|epoch| {
                let facts = BatchFacts { rows: 1, bytes: 1, producer: producer("p"), epoch: Some(Epoch(*epoch)), appended_at: NOW };
                (facts, *epoch)
            })
            .collect(),
    };
    let stream = restored(vec![partition(&[0, 1, 2]), partition(&[1, 0, 0]), partition(&[2, 1, 0])]);
    for (index, expected) in [(0, [0, 1, 2]), (1, [1, 0, 0]), (2, [2, 1, 0])] {
        let batches = stream.read(PartitionId(index), Offset(0), usize::MAX, u64::MAX).expect("is there");
        assert_eq!(batches.iter().map(|batch| batch.data).collect::<Vec<_>>(), expected);
    }
    assert_eq!(spans(&stream, [0; 3]).iter().map(|span| span.batches).sum::<u64>(), 9);
}
