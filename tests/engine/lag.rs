//! Since when a subscription holds a batch, and when its lag drains: time comes in as a parameter.

use std::time::Duration;

use bowstring::engine::{
    AppenderId, AppenderKind, Attempt, Command, Epoch, FullPolicy, Offset, OnOverflow, Outcome, PartitionId, ProducerId, RunId, Start,
    Stream, StreamId, StreamName, StreamOptions, SubscriptionName, SubscriptionPartitionView, Task, Timestamp,
};

use crate::story::options;

/// A stream of one partition, its subscription `a`, and a clock.
struct Timed {
    stream: Stream<u64>,
    now: Timestamp,
    appended: u64,
    appender: AppenderId,
}

impl Timed {
    fn new(options: StreamOptions, is_durable: bool) -> Self {
        let name = StreamName::new("s").expect("a name");
        let made = if is_durable { Stream::durable(name, StreamId(1), options) } else { Stream::new(name, StreamId(1), options) };
        // In the middle of a minute: windows do not begin with the test.
        let now = Timestamp(1_000_000_007 * 1_000_000);
        let mut timed = Self { stream: made.expect("one partition"), now, appended: 0, appender: AppenderId(0) };
        timed.appender = timed.open(AppenderKind::Anonymous { producer: ProducerId::new("p").expect("a name") });
        timed.apply(Command::Subscribe {
            subscription: subscription(),
            start: Start::Earliest,
            mode: None,
            on_overflow: OnOverflow::Hold,
            sharing: None,
            query: None,
        });
        timed
    }

    fn apply(&mut self, command: Command<u64>) -> Outcome {
        self.stream.apply(command, self.now).outcome.expect("is allowed")
    }

    fn open(&mut self, kind: AppenderKind) -> AppenderId {
        match self.apply(Command::OpenAppender { kind, connection: None }) {
            Outcome::Opened { appender, .. } => appender,
            other => panic!("{other:?}"),
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now.plus(Duration::from_secs(seconds));
    }

    fn append(&mut self) {
        let ordinal = self.appended;
        self.appended += 1;
        self.append_by(self.appender, ordinal);
    }

    fn append_by(&mut self, appender: AppenderId, ordinal: u64) {
        self.apply(Command::Reserve { appender, bytes: 10 });
        self.apply(Command::Append { appender, ordinal, partition: PartitionId(0), rows: 1, bytes: 10, data: ordinal });
    }

    fn ack(&mut self, offset: u64) {
        self.apply(Command::Ack { subscription: subscription(), generation: None, offsets: vec![(PartitionId(0), Offset(offset))] });
    }

    fn seek(&mut self, offset: u64) {
        self.apply(Command::Seek {
            subscription: subscription(),
            to: Start::Offsets([(PartitionId(0), Offset(offset))].into()),
            dry_run: false,
        });
    }

    fn view(&self) -> SubscriptionPartitionView {
        self.stream.describe(self.now).subscriptions[0].partitions[0].clone()
    }

    fn held(&self) -> u64 {
        self.view().held_for.as_secs()
    }

    fn idle(&self) -> Option<u64> {
        self.stream.describe(self.now).partitions[0].idle_for.map(|idle| idle.as_secs())
    }
}

fn subscription() -> SubscriptionName {
    SubscriptionName::new("a").expect("a name")
}

fn roomy() -> StreamOptions {
    options(1_000_000, u64::MAX, 0)
}

#[test]
fn a_batch_is_held_since_it_became_visible_or_the_cursor_came_to_it() {
    let mut timed = Timed::new(roomy(), false);
    timed.pass(5);
    assert_eq!((timed.held(), timed.idle()), (0, None), "there is nothing to hold");
    timed.append();
    timed.pass(3);
    timed.append();
    assert_eq!((timed.held(), timed.idle()), (3, Some(0)));
    timed.pass(4);
    timed.ack(1);
    assert_eq!(timed.held(), 0, "the second one could not be acked before the first");
    timed.pass(2);
    assert_eq!((timed.held(), timed.view().lag_age.as_secs(), timed.idle()), (2, 6, Some(6)));
    timed.ack(1);
    timed.ack(0);
    assert_eq!(timed.held(), 2, "an ack that moves nothing is no progress");
    timed.ack(2);
    timed.pass(9);
    assert_eq!(timed.held(), 0);
    timed.append();
    timed.pass(1);
    assert_eq!(timed.held(), 1, "it came long after the cursor moved");
}

#[test]
fn a_seek_that_moves_the_cursor_begins_anew_and_one_that_does_not_leaves_it() {
    let mut timed = Timed::new(roomy(), false);
    timed.append();
    timed.append();
    timed.pass(3);
    timed.seek(0);
    assert_eq!(timed.held(), 3);
    timed.seek(1);
    assert_eq!(timed.held(), 0);
    timed.pass(2);
    assert_eq!(timed.held(), 2);
}

#[test]
fn what_is_dropped_under_a_cursor_is_no_progress_of_its_consumer() {
    let mut timed = Timed::new(StreamOptions { full_policy: FullPolicy::DropOldest, ..options(2, u64::MAX, 0) }, false);
    timed.append();
    timed.append();
    timed.pass(7);
    timed.append();
    let view = timed.view();
    assert_eq!((view.acked, view.skipped, view.held_for.as_secs()), (Offset(1), 1, 7));
}

#[test]
fn batches_of_an_epoch_are_held_since_its_commit() {
    let mut timed = Timed::new(roomy(), false);
    let (producer, run) = (ProducerId::new("q").expect("a name"), RunId::new("r").expect("a name"));
    let (epoch, task, attempt) = (Epoch(1), Task(0), Attempt(0));
    let writer = timed.open(AppenderKind::Writer { producer: producer.clone(), run: run.clone(), epoch, task, attempt });
    timed.append_by(writer, 0);
    timed.apply(Command::FinishWriter { appender: writer });
    timed.pass(6);
    timed.apply(Command::CommitEpoch { producer, run, epoch, receipts: vec![(task, attempt)] });
    timed.pass(2);
    assert_eq!((timed.held(), timed.view().lag_age.as_secs(), timed.idle()), (2, 8, Some(2)));
}

#[test]
fn batches_of_a_durable_stream_are_held_since_they_are_durable() {
    let mut timed = Timed::new(roomy(), true);
    for _ in 0..3 {
        timed.append();
    }
    timed.pass(4);
    timed.apply(Command::Settle { batches: 2, bytes: 20, durable: vec![(PartitionId(0), Offset(2))] });
    assert_eq!((timed.held(), timed.idle()), (0, Some(0)));
    timed.pass(1);
    timed.apply(Command::Settle { batches: 1, bytes: 10, durable: vec![(PartitionId(0), Offset(3))] });
    timed.pass(1);
    assert_eq!((timed.held(), timed.view().lag_batches), (2, 3));
    timed.ack(1);
    timed.pass(5);
    timed.ack(2);
    assert_eq!(timed.held(), 0);
}

#[test]
fn a_lag_drains_at_the_difference_of_acks_and_appends() {
    let mut timed = Timed::new(roomy(), false);
    for _ in 0..100 {
        timed.append();
    }
    assert_eq!(timed.view().drains_in, None, "nothing was acked");
    // Two windows go by, of which the first batches are not.
    timed.pass(20);
    for second in 0..20 {
        timed.pass(1);
        timed.append();
        timed.ack(3 * second + 3);
    }
    let view = timed.view();
    assert_eq!(view.lag_batches, 60);
    assert!((27..=33).contains(&view.drains_in.expect("it drains").as_secs()), "{:?}", view.drains_in);
    // As fast, and slower: it never drains.
    for acked_each in [1, 0] {
        for _ in 0..20 {
            timed.pass(1);
            timed.append();
            let acked = timed.view().acked.0;
            timed.ack(acked + acked_each);
        }
        assert_eq!(timed.view().drains_in, None, "{acked_each}");
    }
    let end = timed.stream.range(PartitionId(0)).expect("is there").1;
    timed.ack(end.0);
    assert_eq!(timed.view().drains_in, Some(Duration::ZERO));
}
