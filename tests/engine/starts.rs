//! Starts by hand: clocks and epochs out of order, what is half gone, and what an older version has left.

use bowstring::engine::{
    BatchFacts, Code, Command, Dropped, Epoch, EpochTotals, Error, Offset, Outcome, PartitionId, PartitionSnapshot, ProducerSnapshot,
    Start, Stream, StreamId, StreamName, StreamOptions, StreamSnapshot, StreamState, Timestamp, Visibility,
};

use crate::story::{Story, direct, options, producer, run, subscription, writer};

const P0: PartitionId = PartitionId(0);

fn located(story: &Story, start: &Start) -> Result<u64, Code> {
    story.world.stream.locate(start).map(|offsets| offsets[0].0).map_err(|error| error.code())
}

fn at(micros: u64) -> Start {
    Start::Time(Timestamp(micros))
}

fn epoch(epoch: u64) -> Start {
    Start::Epoch { producer: Some(producer("p")), epoch: Epoch(epoch) }
}

/// Offsets 0 to 3, appended at 20, 10 (staged then), 30 and 5: the clock went back.
fn out_of_order() -> Story {
    let mut story = Story::new(8, 80, 0);
    story.subscribe("s");
    story.world.now = Timestamp(10);
    let staged = story.attempt(writer(0, 0, 0), 1);
    let direct = story.open(direct("d", "r"));
    story.world.now = Timestamp(20);
    story.put(direct, 0, 1);
    assert!(story.commit(0, &[(0, 0)]).outcome.is_ok());
    story.world.now = Timestamp(30);
    story.put(direct, 1, 1);
    story.world.now = Timestamp(5);
    story.put(direct, 2, 1);
    story.effects(Command::CloseAppender { appender: staged });
    story
}

#[test]
fn a_time_lies_at_the_first_batch_that_is_not_older_whatever_comes_behind_it() {
    let story = out_of_order();
    for (time, offset) in [(0, 0), (10, 0), (20, 0), (21, 2), (30, 2), (31, 4), (u64::MAX, 4)] {
        assert_eq!(located(&story, &at(time)), Ok(offset), "{time}");
    }
}

#[test]
fn a_time_is_gone_with_the_newest_that_is_not_older() {
    let mut story = out_of_order();
    story.ack("s", 1);
    // The one of 10 is there, and that of 20 was before it.
    assert_eq!(located(&story, &at(10)), Err(Code::OffsetGone));
    assert_eq!(located(&story, &at(20)), Err(Code::OffsetGone));
    assert_eq!(located(&story, &at(21)), Ok(2));
    story.ack("s", 4);
    assert_eq!(located(&story, &at(30)), Err(Code::OffsetGone));
    assert_eq!(located(&story, &at(31)), Ok(4));
    let error = story.world.stream.locate(&at(5)).expect_err("is gone");
    let expected = Error::TimeGone { partition: P0, time: Timestamp(5), newest: Timestamp(30), earliest: Offset(4) };
    assert_eq!(error, expected);
    assert_eq!(located(&story, &Start::Earliest), Ok(4), "whoever asks for the earliest accepts the gap");
}

#[test]
fn an_epoch_that_is_half_gone_is_gone() {
    let mut story = Story::new(8, 80, 0);
    story.subscribe("s");
    for number in 0..2 {
        story.attempt(writer(number, 0, 0), 2);
        assert!(story.commit(number, &[(0, 0)]).outcome.is_ok());
    }
    assert_eq!((located(&story, &epoch(0)), located(&story, &epoch(1))), (Ok(0), Ok(2)));
    story.ack("s", 3);
    assert_eq!(located(&story, &epoch(1)), Err(Code::OffsetGone));
    assert_eq!(located(&story, &epoch(2)), Ok(4), "what comes next");
    assert_eq!(located(&story, &epoch(3)), Err(Code::OffsetAhead));
}

#[test]
fn an_epoch_that_is_read_before_it_commits_is_found_too() {
    let mut story = Story::with(StreamOptions { visibility: Visibility::Immediate, ..options(8, 80, 0) });
    story.attempt(writer(1, 0, 0), 1);
    story.attempt(writer(0, 0, 0), 2);
    assert_eq!(located(&story, &epoch(0)), Ok(0), "a later epoch came first");
    assert_eq!(located(&story, &epoch(1)), Err(Code::OffsetAhead), "nothing is committed");
    assert!(story.commit(0, &[(0, 0)]).outcome.is_ok());
    assert_eq!(located(&story, &epoch(1)), Ok(0));
}

#[test]
fn the_last_epoch_number_can_be_started_at() {
    let mut story = Story::new(8, 80, 0);
    story.attempt(writer(u64::MAX, 0, 0), 1);
    assert!(story.commit(u64::MAX, &[(0, 0)]).outcome.is_ok());
    assert_eq!(located(&story, &epoch(u64::MAX)), Ok(0));
}

#[test]
fn an_epoch_of_the_only_producer_that_commits_needs_no_name() {
    let mut story = Story::new(8, 80, 0);
    let unnamed = Start::Epoch { producer: None, epoch: Epoch(0) };
    story.open(direct("d", "r"));
    let nobody = story.world.stream.locate(&unnamed).expect_err("nobody commits");
    assert!(matches!(&nobody, Error::EpochOfWhom { asked: None, known } if known.is_empty()), "{nobody:?}");
    story.attempt(writer(0, 0, 0), 1);
    assert!(story.commit(0, &[(0, 0)]).outcome.is_ok());
    assert_eq!(located(&story, &unnamed), Ok(0));
    for number in 0..12 {
        let (producer, run) = (producer(&format!("q{number:02}")), run("r"));
        let commit = Command::CommitEpoch { producer, run, epoch: Epoch(0), receipts: Vec::new() };
        assert!(story.ask(commit).is_ok());
    }
    let text = story.world.stream.locate(&unnamed).expect_err("13 commit").to_string();
    assert!(text.ends_with("commits epochs: p, q00, q01, q02, q03, q04, q05, q06, q07, q08 and 3 more"), "{text}");
}

#[test]
fn a_seek_leaves_what_is_planned_where_it_names_nothing() {
    let mut story = Story::with(StreamOptions { partitions: 2, ..options(8, 80, 0) });
    story.subscribe("s");
    let appender = story.open(direct("d", "r"));
    for ordinal in 0..3 {
        story.put(appender, ordinal, 1);
    }
    story.plan("s", 3);
    let seek = |to| Command::Seek { subscription: subscription("s"), to, dry_run: false };
    assert!(matches!(story.ask(seek(Start::Offsets([(PartitionId(1), Offset(0))].into()))), Ok(Outcome::Moved(_))));
    let planned = |story: &Story| story.world.stream.describe(story.world.now).subscriptions[0].partitions[0].planned;
    assert_eq!(planned(&story), Offset(3));
    assert!(story.ask(seek(Start::Offsets([(P0, Offset(0))].into()))).is_ok());
    assert_eq!(planned(&story), Offset(0), "it is delivered again, and holds back producers again");
}

#[test]
fn a_start_of_a_durable_stream_stays_before_what_is_not_visible() {
    let name = StreamName::new("s").expect("a valid name");
    let mut stream = Stream::<u64>::durable(name, StreamId(1), StreamOptions::default()).expect("one partition");
    let mut apply = |command| assert!(stream.apply(command, Timestamp(7)).outcome.is_ok());
    apply(Command::OpenAppender { kind: writer(0, 0, 0), connection: None });
    let appender = bowstring::engine::AppenderId(0);
    apply(Command::Reserve { appender, bytes: 1 });
    apply(Command::Append { appender, ordinal: 0, partition: P0, rows: 1, bytes: 1, data: 0 });
    apply(Command::FinishWriter { appender });
    let receipts = vec![(bowstring::engine::Task(0), bowstring::engine::Attempt(0))];
    apply(Command::CommitEpoch { producer: producer("p"), run: run("r"), epoch: Epoch(0), receipts });
    for start in [at(0), at(8), epoch(0), epoch(1), Start::Latest] {
        assert_eq!(stream.locate(&start), Ok(vec![Offset(0)]), "{start}");
    }
    let settle = Command::Settle { batches: 1, bytes: 1, durable: vec![(P0, Offset(1))] };
    assert!(stream.apply(settle, Timestamp(8)).outcome.is_ok());
    assert_eq!(stream.locate(&at(8)), Ok(vec![Offset(1)]));
}

/// A stream that a restart finds at 100: one batch dropped, one of epoch 5 left that was appended at 50.
fn restored(dropped: Dropped) -> Stream<u64> {
    let facts = BatchFacts { rows: 1, bytes: 1, producer: producer("p"), epoch: Some(Epoch(5)), appended_at: Timestamp(50) };
    let partition = PartitionSnapshot { start: Offset(1), rows_before: 1, bytes_before: 1, dropped, batches: vec![(facts, 0)] };
    let committed = ProducerSnapshot {
        run: run("r"),
        superseded: Vec::new(),
        committed: Some(Epoch(5)),
        next_ordinal: 0,
        stored_ahead: [].into(),
        lease: None,
    };
    let snapshot = StreamSnapshot {
        options: StreamOptions::default(),
        schemas: Vec::new(),
        state: StreamState::Open,
        epochs: EpochTotals::default(),
        partitions: vec![partition],
        subscriptions: Vec::new(),
        producers: vec![(producer("p"), committed)],
    };
    Stream::restore(StreamName::new("s").expect("a valid name"), StreamId(1), snapshot, Timestamp(100)).expect("one partition")
}

#[test]
fn of_what_an_older_version_dropped_it_is_known_only_that_it_came_before_the_restart() {
    let stream = restored(Dropped::default());
    let code = |start: &Start| stream.locate(start).map_err(|error| error.code());
    assert_eq!((code(&at(50)), code(&at(100))), (Err(Code::OffsetGone), Err(Code::OffsetGone)));
    assert_eq!((code(&at(101)), code(&Start::Earliest)), (Ok(vec![Offset(2)]), Ok(vec![Offset(1)])));
    assert_eq!((code(&epoch(5)), code(&epoch(6))), (Err(Code::OffsetGone), Ok(vec![Offset(2)])));

    let known = Dropped { newest_at: Some(Timestamp(40)), epochs: [(producer("p"), Epoch(4))].into(), others: None };
    let stream = restored(known.clone());
    assert_eq!(stream.locate(&at(41)), Ok(vec![Offset(1)]));
    assert_eq!(stream.locate(&epoch(5)), Ok(vec![Offset(1)]));
    assert_eq!(stream.partition_snapshot(P0).expect("is there").dropped, known);
}

#[test]
fn an_ack_of_before_a_seek_or_of_a_former_subscription_of_the_name_is_refused_and_changes_nothing() {
    let mut story = Story::new(4, 10, 10);
    let appender = story.open(direct("p", "r"));
    for ordinal in 0..4 {
        story.put(appender, ordinal, 1);
    }
    story.subscribe("keeper");
    story.subscribe("s");
    let ack = |generation, offset| Command::Ack { subscription: subscription("s"), generation, offsets: vec![(P0, Offset(offset))] };
    let current = |story: &Story| story.world.stream.generation(&subscription("s")).expect("is there");
    let cursor = |story: &Story| story.world.stream.cursor(&subscription("s"), P0).expect("is there");
    let first = current(&story);
    assert!(story.ask(ack(Some(first), 3)).is_ok());
    let seek = Command::Seek { subscription: subscription("s"), to: Start::Offsets([(P0, Offset(1))].into()), dry_run: false };
    assert!(story.effects(seek).changed, "who reads looks again");
    let second = current(&story);
    let moved = |current| Error::SubscriptionMoved { subscription: subscription("s"), asked: first, current };
    assert_eq!(story.ask(ack(Some(first), 4)), Err(moved(second)));
    assert_eq!(cursor(&story), Offset(1));
    assert!(story.ask(ack(Some(second), 2)).is_ok());
    assert!(story.ask(ack(None, 3)).is_ok(), "who does not say whose cursors it means acks those that are there");
    let dry_run = Command::Seek { subscription: subscription("s"), to: Start::Earliest, dry_run: true };
    assert!(story.ask(dry_run).is_ok());
    let nowhere = Command::Seek { subscription: subscription("s"), to: Start::Offsets([].into()), dry_run: false };
    assert!(story.ask(nowhere).is_ok());
    assert_eq!(current(&story), second, "nothing has moved");
    assert!(story.ask(Command::Unsubscribe { subscription: subscription("s") }).is_ok());
    story.ask(Command::Tick).expect("time passes");
    story.world.now = story.world.now.plus(std::time::Duration::from_secs(1));
    story.subscribe("s");
    let third = current(&story);
    assert!(third != first && third != second);
    assert_eq!(story.ask(ack(Some(first), 4)), Err(moved(third)));
    assert_eq!(cursor(&story), Offset(0));
}
