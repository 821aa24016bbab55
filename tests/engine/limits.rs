//! Both sides of every limit: the last that is taken, the first that is not.

use std::time::Duration;

use bowstring::engine::{
    Code, Command, Effects, Epoch, Error, FullPolicy, OnOverflow, Outcome, PartitionId, Place, Start, Stream, StreamId, StreamName,
    StreamOptions, Timestamp,
};

use crate::story::{Story, anonymous, direct, options, producer, run, subscription, writer};

const MEMORY: Result<Place, Code> = Ok(Place::Memory);
const SPOOL: Result<Place, Code> = Ok(Place::Spool);

/// What is appended to a stream of 3 batches, 10 bytes in memory and 5 in the spool, and what becomes of the
/// next reservation: nobody but the open epoch holds anything.
#[test]
fn an_open_epoch_fills_memory_then_the_spool_and_no_more() {
    let table: &[(&[u64], u64, Result<Place, Code>)] = &[
        (&[], 10, MEMORY),
        (&[], 11, Err(Code::BatchTooLarge)),
        (&[], u64::MAX, Err(Code::BatchTooLarge)),
        (&[1, 1], 8, MEMORY),
        (&[1, 1], 9, Err(Code::SpoolFull)),
        (&[1, 1], 5, MEMORY),
        (&[5, 5], 0, MEMORY),
        (&[5, 5], 1, SPOOL),
        (&[1, 1, 1], 0, SPOOL),
        (&[1, 1, 1], 5, SPOOL),
        (&[1, 1, 1], 6, Err(Code::SpoolFull)),
        (&[1, 1, 1, 5], 0, SPOOL),
        (&[1, 1, 1, 5], 1, Err(Code::SpoolFull)),
        (&[10, 5], 0, MEMORY),
        (&[10, 5], 1, Err(Code::SpoolFull)),
    ];
    for (before, bytes, expected) in table {
        let mut story = Story::new(3, 10, 5);
        let appender = story.open(writer(0, 0, 0));
        for (ordinal, bytes) in (0..).zip(*before) {
            story.put(appender, ordinal, *bytes);
        }
        let got = match story.reserve(appender, *bytes) {
            Ok(Outcome::Reserved { place }) => Ok(place),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.code()),
        };
        assert_eq!(got, *expected, "{bytes} bytes after {before:?}");
    }
}

/// The same with visible batches, of each policy: whether the next one fits, and how many are visible then.
#[test]
fn visible_batches_fill_memory_and_then_the_policy_decides() {
    let cases: &[(FullPolicy, &[u64], u64, &str, usize)] = &[
        (FullPolicy::Wait, &[1, 1], 8, "memory", 2),
        (FullPolicy::Wait, &[1, 1], 9, "waits", 2),
        (FullPolicy::Wait, &[1, 1, 1], 0, "waits", 3),
        (FullPolicy::Reject, &[1, 1], 8, "memory", 2),
        (FullPolicy::Reject, &[1, 1], 9, "refused", 2),
        (FullPolicy::Reject, &[1, 1, 1], 0, "refused", 3),
        (FullPolicy::DropOldest, &[1, 1], 8, "memory", 2),
        (FullPolicy::DropOldest, &[1, 1], 9, "memory", 1),
        (FullPolicy::DropOldest, &[1, 1], 10, "memory", 0),
        (FullPolicy::DropOldest, &[1, 1, 1], 0, "memory", 2),
    ];
    for (policy, before, bytes, expected, visible) in cases {
        let mut story = Story::with(StreamOptions { full_policy: *policy, ..options(3, 10, 5) });
        let appender = story.open(anonymous("a"));
        for (ordinal, bytes) in (0..).zip(*before) {
            story.put(appender, ordinal, *bytes);
        }
        let got = match story.reserve(appender, *bytes) {
            Ok(Outcome::Reserved { place: Place::Memory }) => "memory",
            Ok(Outcome::Waiting) => "waits",
            Err(Error::BufferFull { .. }) => "refused",
            other => panic!("{other:?}"),
        };
        assert_eq!((got, story.visible().len()), (*expected, *visible), "{policy:?}: {bytes} bytes after {before:?}");
    }
}

#[test]
fn a_batch_may_be_smaller_than_its_reservation_and_not_larger() {
    for (bytes, taken) in [(0, true), (4, true), (5, true), (6, false), (u64::MAX, false)] {
        let mut story = Story::new(3, 10, 0);
        let appender = story.open(anonymous("a"));
        assert!(story.reserve(appender, 5).is_ok());
        assert_eq!(story.append(appender, 0, bytes).is_ok(), taken, "{bytes} bytes into 5");
        let charged = if taken { bytes } else { 0 };
        assert_eq!(story.world.stream.describe(Timestamp(0)).buffered_bytes, charged);
    }
}

#[test]
fn a_stream_has_1_to_4096_partitions() {
    for (partitions, taken) in [(0, false), (1, true), (4096, true), (4097, false), (u32::MAX, false)] {
        let options = StreamOptions { partitions, ..StreamOptions::default() };
        assert_eq!(Stream::<u64>::new(name(), StreamId(0), options).is_ok(), taken, "{partitions}");
    }
}

#[test]
fn hostile_numbers_are_refused_and_change_nothing() {
    let mut story = Story::new(4, 10, 10);
    story.subscribe("s");
    let appender = story.open(direct("p", "r"));
    story.put(appender, 0, 1);
    let before = story.world.appearance();
    let offsets = |offset| vec![(PartitionId(0), bowstring::engine::Offset(offset))];
    let table = [
        (Command::Ack { subscription: subscription("s"), generation: None, offsets: offsets(u64::MAX) }, Code::OffsetAhead),
        (Command::Plan { subscription: subscription("s"), offsets: offsets(2) }, Code::OffsetAhead),
        (
            Command::Seek { subscription: subscription("s"), to: Start::Offsets(offsets(u64::MAX).into_iter().collect()), dry_run: false },
            Code::OffsetAhead,
        ),
        (Command::Reserve { appender, bytes: u64::MAX }, Code::BatchTooLarge),
        (append(appender, u64::MAX, PartitionId(0)), Code::OrdinalGap),
        (append(appender, 1, PartitionId(u32::MAX)), Code::PartitionOutOfRange),
        (append(appender, 1, PartitionId(1)), Code::PartitionOutOfRange),
        (append(bowstring::engine::AppenderId(u64::MAX), 0, PartitionId(0)), Code::AppenderNotReady),
    ];
    for (command, code) in table {
        let refused = story.ask(command.clone()).map_err(|error| error.code());
        assert_eq!(refused, Err(code), "{command:?}");
        assert_eq!(story.world.appearance(), before, "{command:?}");
    }
}

#[test]
fn a_producer_is_lost_when_its_lease_is_over_and_not_before() {
    for (micros, lost) in [(4_999_999, false), (5_000_000, false), (5_000_001, true), (u64::MAX, true)] {
        let mut stream = stream();
        let keep = |lease| Command::KeepProducer { producer: producer("p"), run: run("r"), lease };
        assert!(apply(&mut stream, keep(Duration::from_secs(5))).outcome.is_ok());
        let ticked = stream.apply(Command::Tick, Timestamp(micros));
        assert_eq!((ticked.changed, stream.lost_producer().is_some()), (lost, lost), "after {micros} us");
        assert!(apply(&mut stream, keep(Duration::MAX)).outcome.is_ok(), "it is back, for ever");
        assert!(!stream.apply(Command::Tick, Timestamp(u64::MAX)).changed);
        assert!(apply(&mut stream, keep(Duration::ZERO)).outcome.is_ok(), "it says goodbye");
        assert_eq!(stream.lost_producer(), None);
    }
}

#[test]
fn a_producer_remembers_64_superseded_runs() {
    for (newer, fenced) in [(64, true), (65, false)] {
        let mut stream = stream();
        let open = |number: u32| Command::OpenEpoch { producer: producer("p"), run: run(&format!("run {number}")), epoch: Epoch(0) };
        (0..=newer).for_each(|number| assert!(apply(&mut stream, open(number)).outcome.is_ok()));
        let first = apply(&mut stream, open(0)).outcome.map_err(|error| error.code());
        assert_eq!(first.is_err_and(|code| code == Code::Fenced), fenced, "the first of {} runs", newer + 1);
    }
}

#[test]
fn a_stream_holds_1024_subscriptions() {
    let mut stream = stream();
    fill(&mut stream, 1024, |number| Command::Subscribe {
        subscription: subscription(&format!("subscription {number}")),
        start: Start::Earliest,
        mode: None,
        on_overflow: OnOverflow::Hold,
        sharing: None,
        query: None,
    });
    let existing = Command::Subscribe {
        subscription: subscription("subscription 7"),
        start: Start::Earliest,
        mode: None,
        on_overflow: OnOverflow::Hold,
        sharing: None,
        query: None,
    };
    assert!(apply(&mut stream, existing).outcome.is_ok(), "one that exists is no new one");
}

#[test]
fn a_producer_holds_1024_open_epochs() {
    let mut stream = stream();
    let open = |number: u32| Command::OpenEpoch { producer: producer("p"), run: run("r"), epoch: Epoch(u64::from(number)) };
    fill(&mut stream, 1024, open);
    assert!(apply(&mut stream, open(7)).outcome.is_ok(), "one that is open is no new one");
    assert!(apply(&mut stream, Command::OpenAppender { kind: writer(7, 0, 0), connection: None }).outcome.is_ok());
    assert_eq!(too_many(&apply(&mut stream, Command::OpenAppender { kind: writer(1024, 0, 0), connection: None })), Some(1024));
    let commit = Command::CommitEpoch { producer: producer("p"), run: run("r"), epoch: Epoch(1023), receipts: Vec::new() };
    assert!(apply(&mut stream, commit).outcome.is_ok());
    assert!(apply(&mut stream, open(1024)).outcome.is_ok(), "the commit made room");
}

#[test]
fn a_stream_remembers_16384_producers_and_forgets_idle_ones_first() {
    let mut stream = stream();
    let name = |number: u32| producer(&format!("producer {number}"));
    fill(&mut stream, 16_384, |number| Command::OpenEpoch { producer: name(number), run: run("r"), epoch: Epoch(0) });
    let abort = Command::AbortEpoch { producer: name(3), run: run("r"), epoch: Epoch(0) };
    assert!(apply(&mut stream, abort).outcome.is_ok());
    let another = Command::OpenEpoch { producer: producer("another"), run: run("r"), epoch: Epoch(0) };
    assert!(apply(&mut stream, another.clone()).outcome.is_ok(), "one that holds nothing is forgotten for it");
    assert!(apply(&mut stream, another).outcome.is_ok());
    let nameless = Command::OpenAppender { kind: anonymous("a"), connection: None };
    assert!(apply(&mut stream, nameless).outcome.is_ok(), "clients without a name are not remembered, so there is room");
}

#[test]
fn a_stream_holds_65536_appenders_open() {
    let mut stream = stream();
    fill(&mut stream, 65_536, |number| Command::OpenAppender { kind: anonymous(&format!("appender {number}")), connection: None });
    let closed = Command::CloseAppender { appender: bowstring::engine::AppenderId(0) };
    assert!(apply(&mut stream, closed).outcome.is_ok());
    assert!(apply(&mut stream, Command::OpenAppender { kind: direct("p", "r"), connection: None }).outcome.is_ok());
}

#[test]
fn a_stream_keeps_65536_writers_of_open_epochs_closed_ones_too() {
    let mut stream = stream();
    let mut open = |number: u32| {
        let opened = apply(&mut stream, Command::OpenAppender { kind: writer(0, number, 0), connection: None });
        if let Ok(Outcome::Opened { appender, .. }) = opened.outcome {
            assert!(apply(&mut stream, Command::CloseAppender { appender }).outcome.is_ok());
        }
        opened
    };
    (0..65_536).for_each(|number| assert!(open(number).outcome.is_ok()));
    assert_eq!(too_many(&open(65_536)), Some(65_536));
    assert!(open(7).outcome.is_ok(), "one that is known may resume");
    let abort = Command::AbortEpoch { producer: producer("p"), run: run("r"), epoch: Epoch(0) };
    assert!(apply(&mut stream, abort).outcome.is_ok());
    assert!(apply(&mut stream, Command::OpenAppender { kind: writer(1, 65_536, 0), connection: None }).outcome.is_ok());
}

/// The first `limit` are taken, the next is not.
fn fill(stream: &mut Stream<u64>, limit: u32, command: impl Fn(u32) -> Command<u64>) {
    (0..limit).for_each(|number| assert!(apply(stream, command(number)).outcome.is_ok(), "{number}"));
    assert_eq!(too_many(&apply(stream, command(limit))), Some(limit as usize));
}

fn too_many(effects: &Effects) -> Option<usize> {
    match effects.outcome {
        Err(Error::TooMany { limit, .. }) => Some(limit),
        _ => None,
    }
}

fn append(appender: bowstring::engine::AppenderId, ordinal: u64, partition: PartitionId) -> Command<u64> {
    Command::Append { appender, ordinal, partition, rows: 1, bytes: 1, data: 0 }
}

fn apply(stream: &mut Stream<u64>, command: Command<u64>) -> Effects {
    stream.apply(command, Timestamp(0))
}

fn stream() -> Stream<u64> {
    Stream::new(name(), StreamId(0), StreamOptions::default()).expect("one partition")
}

fn name() -> StreamName {
    StreamName::new("s").expect("a valid name")
}
