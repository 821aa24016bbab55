//! Every error of the engine, produced by what a caller can do.

use std::collections::BTreeSet;
use std::time::Duration;

use bowstring::engine::{
    AppenderId, Command, Connection, ConsumerId, ConsumerName, Epoch, Error, Generation, InFlight, Offset, OnOverflow, Outcome,
    PartitionId, Start, Stream, StreamId, StreamName, StreamOptions, SubscriptionMode, Timestamp,
};

use crate::story::{Story, direct, producer, reject, run, subscription, writer};

/// Names every variant once, with what produces it: a new one does not compile until it is here.
macro_rules! every_error {
    ($($variant:ident: $produce:expr;)*) => {
        fn is_listed(error: &Error) {
            match error {
                $(Error::$variant { .. } => (),)*
            }
        }

        #[test]
        fn every_error_is_produced_and_says_what_to_do() {
            let mut texts = BTreeSet::new();
            $(
                let error: Error = $produce;
                assert!(matches!(error, Error::$variant { .. }), "{error:?} in place of {}", stringify!($variant));
                is_listed(&error);
                check_text(&error.to_string());
                assert!(texts.insert(error.to_string()));
            )*
        }
    };
}

every_error! {
    PartitionCount: partition_count();
    PartitionOutOfRange: append(&mut story(), 0, PartitionId(1));
    StreamCompleted: after(Command::Complete, Command::Complete, Command::Fail { reason: "late".into() });
    StreamFailed: after(Command::Tick, Command::Fail { reason: "the source broke".into() }, Command::Complete);
    BatchTooLarge: refused(&mut story(), Command::Reserve { appender: AppenderId(0), bytes: 11 });
    BufferFull: buffer_full();
    WaitedTooLong: waited_too_long();
    SpoolFull: spool_full();
    DiskFull: disk_full();
    Fenced: after(Command::OpenAppender { kind: direct("p", "newer"), connection: None }, Command::Tick, reserve());
    AppenderSuperseded: after(Command::OpenAppender { kind: direct("p", "r"), connection: None }, Command::Tick, reserve());
    ConnectionSuperseded: connection_superseded();
    EpochCommitted: after(open_writer(), commit(Vec::new()), open_writer());
    EpochNotOpen: after(open_writer(), abort(), Command::Reserve { appender: AppenderId(1), bytes: 1 });
    ReceiptUnknown: after(open_writer(), Command::Tick, commit(vec![0]));
    WriterFinished: writer_finished();
    TaskNamedTwice: after(open_writer(), Command::FinishWriter { appender: AppenderId(1) }, commit(vec![0, 0]));
    SubscriptionNotFound: refused(&mut story(), Command::Unsubscribe { subscription: subscription("nobody") });
    OffsetGone: offset_gone();
    OffsetAhead: after(subscribe(), Command::Tick, ack(1));
    TimeGone: gone(Start::Time(Timestamp(0)));
    EpochGone: gone(Start::Epoch { producer: Some(producer("p")), epoch: Epoch(0) });
    EpochAhead: gone(Start::Epoch { producer: None, epoch: Epoch(2) });
    EpochOfWhom: gone(Start::Epoch { producer: Some(producer("nobody")), epoch: Epoch(0) });
    SubscriptionEvicted: subscription_evicted();
    SubscriptionMoved: after(subscribe(), seek(Start::Latest), ack_of_old());
    OrdinalGap: append(&mut story(), 1, PartitionId(0));
    AppenderNotReady: append(&mut story(), 0, PartitionId(0));
    ProducerUnknown: producer_unknown();
    SubscriptionQuery: after(subscribe(), Command::Tick, asks("SELECT 1 FROM s"));
    SubscriptionMode: after(subscribe(), Command::Complete, keep(Duration::from_secs(1)));
    DeadLettersUnnamed: dead_letters_unnamed();
    ConsumerLost: consumer_lost();
    ConsumerSuperseded: consumer_superseded();
    TooMany: too_many();
}

/// A stream of 2 batches and 10 bytes; appender 0 is a direct one of run `r` of producer `p`.
fn story() -> Story {
    let mut story = Story::with(reject(2, 10, 0));
    assert_eq!(story.open(direct("p", "r")), AppenderId(0));
    story
}

fn refused(story: &mut Story, command: Command<u64>) -> Error {
    story.ask(command).expect_err("it is to be refused")
}

/// What the third command is refused with, after two that are not.
fn after(first: Command<u64>, second: Command<u64>, third: Command<u64>) -> Error {
    let mut story = story();
    for command in [first, second] {
        assert!(story.ask(command.clone()).is_ok(), "{command:?}");
    }
    refused(&mut story, third)
}

fn append(story: &mut Story, ordinal: u64, partition: PartitionId) -> Error {
    refused(story, Command::Append { appender: AppenderId(0), ordinal, partition, rows: 1, bytes: 1, data: 0 })
}

fn reserve() -> Command<u64> {
    Command::Reserve { appender: AppenderId(0), bytes: 1 }
}

fn open_writer() -> Command<u64> {
    Command::OpenAppender { kind: writer(0, 0, 0), connection: None }
}

fn commit(tasks: Vec<u32>) -> Command<u64> {
    let receipts = tasks.into_iter().map(|task| (bowstring::engine::Task(task), bowstring::engine::Attempt(0))).collect();
    Command::CommitEpoch { producer: producer("p"), run: run("r"), epoch: Epoch(0), receipts }
}

fn abort() -> Command<u64> {
    Command::AbortEpoch { producer: producer("p"), run: run("r"), epoch: Epoch(0) }
}

fn subscribe() -> Command<u64> {
    Command::Subscribe {
        subscription: subscription("s"),
        start: Start::Earliest,
        mode: None,
        on_overflow: OnOverflow::Hold,
        sharing: None,
        query: None,
    }
}

fn asks(query: &str) -> Command<u64> {
    let Command::Subscribe { subscription, start, mode, on_overflow, sharing, .. } = subscribe() else { unreachable!("it is one") };
    Command::Subscribe { subscription, start, mode, on_overflow, sharing, query: Some(query.into()) }
}

fn dead_letters_unnamed() -> Error {
    let name = StreamName::new(&"x".repeat(250)).expect("a name");
    let options = StreamOptions::default();
    let mut stream = Stream::<u64>::new(name, StreamId(1), options).expect("a stream");
    let shared = Command::Subscribe {
        subscription: subscription("s"),
        start: Start::Earliest,
        mode: Some(SubscriptionMode::Shared),
        on_overflow: OnOverflow::Hold,
        sharing: None,
        query: None,
    };
    stream.apply(shared, Timestamp(0)).outcome.expect_err("its name leaves no room")
}

fn ack(offset: u64) -> Command<u64> {
    Command::Ack { subscription: subscription("s"), generation: None, offsets: vec![(PartitionId(0), Offset(offset))] }
}

fn ack_of_old() -> Command<u64> {
    Command::Ack { subscription: subscription("s"), generation: Some(Generation(u64::MAX)), offsets: Vec::new() }
}

fn subscribe_partitioned() -> Command<u64> {
    Command::Subscribe {
        subscription: subscription("s"),
        start: Start::Earliest,
        mode: Some(SubscriptionMode::Partitioned),
        on_overflow: OnOverflow::Hold,
        sharing: None,
        query: None,
    }
}

fn keep(lease: Duration) -> Command<u64> {
    let name = ConsumerName::new("c").expect("a valid name");
    Command::KeepConsumer {
        subscription: subscription("s"),
        consumer: ConsumerId(1),
        name,
        lease,
        in_flight: InFlight::default(),
        terms: bowstring::engine::ShareTerms::default(),
    }
}

fn read_leased() -> Command<u64> {
    Command::ReadLeased { subscription: subscription("s"), consumer: ConsumerId(1), got: Vec::new() }
}

fn consumer_lost() -> Error {
    let mut story = story();
    assert!(story.ask(subscribe_partitioned()).is_ok());
    assert!(story.ask(keep(Duration::from_secs(1))).is_ok());
    assert!(story.ask(keep(Duration::ZERO)).is_ok(), "it says goodbye");
    refused(&mut story, read_leased())
}

fn consumer_superseded() -> Error {
    let mut story = story();
    assert!(story.ask(subscribe_partitioned()).is_ok());
    assert!(story.ask(keep(Duration::from_secs(1))).is_ok());
    let Ok(Outcome::Reads(reading)) = story.ask(read_leased()) else { panic!("it reads") };
    assert!(story.ask(read_leased()).is_ok(), "and reads again");
    let most = InFlight::default();
    refused(&mut story, Command::TakeLeased { subscription: subscription("s"), consumer: ConsumerId(1), reading, most })
}

fn partition_count() -> Error {
    let options = StreamOptions { partitions: 0, ..StreamOptions::default() };
    Stream::<u64>::new(name(), StreamId(0), options).expect_err("a stream has partitions")
}

fn disk_full() -> Error {
    let mut options = StreamOptions::default();
    options.limits.max_disk_bytes = 10;
    let mut stream = Stream::<u64>::durable(name(), StreamId(0), options).expect("one partition");
    assert!(stream.apply(Command::OpenAppender { kind: direct("p", "r"), connection: None }, Timestamp(0)).outcome.is_ok());
    stream.apply(Command::Reserve { appender: AppenderId(0), bytes: 11 }, Timestamp(0)).outcome.expect_err("it can never fit")
}

fn buffer_full() -> Error {
    let mut story = story();
    for ordinal in 0..2 {
        story.put(AppenderId(0), ordinal, 1);
    }
    refused(&mut story, reserve())
}

fn spool_full() -> Error {
    let mut story = story();
    let appender = story.open(writer(0, 0, 0));
    for ordinal in 0..2 {
        story.put(appender, ordinal, 1);
    }
    refused(&mut story, Command::Reserve { appender, bytes: 1 })
}

fn writer_finished() -> Error {
    let mut story = story();
    let appender = story.attempt(writer(0, 0, 0), 0);
    assert!(story.reserve(appender, 1).is_ok());
    refused(&mut story, Command::Append { appender, ordinal: 0, partition: PartitionId(0), rows: 1, bytes: 1, data: 0 })
}

fn offset_gone() -> Error {
    let mut story = story();
    story.put(AppenderId(0), 0, 1);
    assert!(story.ask(subscribe()).is_ok());
    assert!(story.ask(ack(1)).is_ok());
    assert!(story.world.stream.read(PartitionId(0), Offset(0), 1, 1).is_err());
    refused(&mut story, seek(Start::Offsets([(PartitionId(0), Offset(0))].into())))
}

fn seek(to: Start) -> Command<u64> {
    Command::Seek { subscription: subscription("s"), to, dry_run: false }
}

/// A seek after a batch of epoch 0 has been dropped.
fn gone(to: Start) -> Error {
    let mut story = story();
    story.attempt(writer(0, 0, 0), 1);
    assert!(story.commit(0, &[(0, 0)]).outcome.is_ok());
    story.subscribe("s");
    story.ack("s", 1);
    refused(&mut story, seek(to))
}

fn connection_superseded() -> Error {
    let open = |number| Command::OpenAppender { kind: direct("p", "r"), connection: Some(Connection { sender: 7, number }) };
    after(open(2), Command::Tick, open(1))
}

/// A producer whose last epoch was aborted is forgotten when 16,384 others come; its writer's appender is not.
fn producer_unknown() -> Error {
    let mut stream: Stream<u64> = Stream::new(name(), StreamId(0), StreamOptions::default()).expect("one partition");
    let mut apply = |command| stream.apply(command, Timestamp(0)).outcome;
    assert!(apply(open_writer()).is_ok());
    assert!(apply(abort()).is_ok());
    for number in 0..16_384 {
        let other = producer(&format!("other {number}"));
        assert!(apply(Command::OpenEpoch { producer: other, run: run("r"), epoch: Epoch(0) }).is_ok());
    }
    apply(reserve()).expect_err("it is to be refused")
}

fn too_many() -> Error {
    let mut stream: Stream<u64> = Stream::new(name(), StreamId(0), StreamOptions::default()).expect("one partition");
    let mut open = |number| {
        let open = Command::OpenEpoch { producer: producer("p"), run: run("r"), epoch: Epoch(number) };
        stream.apply(open, Timestamp(0)).outcome
    };
    (0..1024).for_each(|number| assert!(open(number).is_ok()));
    open(1024).expect_err("it is to be refused")
}

/// What was asked or is the case, then what to do: one line without a capital or a full stop.
fn check_text(text: &str) {
    let first = text.chars().next().expect("a text");
    assert!(!first.is_uppercase(), "{text}");
    assert!(!text.ends_with('.') && !text.contains('\n'), "{text}");
    assert!(text.contains("; ") || text.contains(": "), "it does not say what to do: {text}");
}

fn name() -> StreamName {
    StreamName::new("s").expect("a valid name")
}

/// What ends a wait of a second that a subscription is to blame for.
fn waited_too_long() -> Error {
    let max_wait = Some(Duration::from_secs(1));
    let mut story = Story::with(StreamOptions { max_wait, ..crate::story::options(1, 10, 0) });
    let appender = story.open(direct("p", "r"));
    story.subscribe("s");
    story.put(appender, 0, 1);
    assert_eq!(story.reserve(appender, 1), Ok(Outcome::Waiting));
    story.world.now = Timestamp(1_000_000);
    story.effects(Command::Tick).refused.pop().expect("it has waited for a second").1
}

fn subscription_evicted() -> Error {
    let mut story = story();
    story
        .ask(Command::Subscribe {
            subscription: subscription("s"),
            start: Start::Earliest,
            mode: None,
            on_overflow: OnOverflow::Evict,
            sharing: None,
            query: None,
        })
        .expect("subscribes");
    for ordinal in 0..3 {
        story.put(AppenderId(0), ordinal, 1);
    }
    refused(&mut story, ack(3))
}
