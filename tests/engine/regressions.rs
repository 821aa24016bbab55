//! Bugs that were found once, each as the shortest story that shows it.

use bowstring::engine::{
    AppenderId, Code, Command, Connection, Epoch, EpochState, Error, FullPolicy, OnOverflow, Outcome, PartitionId, Place, Start,
    StreamOptions, Visibility,
};

use crate::story::{
    Story, anonymous, direct, drop_oldest, open_epoch, options, producer, reject, reserved, run, subscription, writer, writer_of,
};

#[test]
fn the_last_epoch_number_commits_like_any_other() {
    let mut story = Story::new(4, 10, 10);
    story.attempt(writer(u64::MAX, 0, 0), 2);
    assert_eq!(story.commit(u64::MAX, &[(0, 0)]).outcome, Ok(Outcome::Epoch(EpochState::Committed)));
    assert_eq!(story.visible(), [0, 1], "it committed, and its batches stayed staged for ever");
}

#[test]
fn a_direct_appender_of_an_older_run_is_fenced() {
    let mut story = Story::new(4, 10, 10);
    let zombie = story.open(direct("p", "old"));
    story.put(zombie, 0, 1);
    assert_eq!(story.reserve(zombie, 1), reserved(Place::Memory));
    let heir = story.open(direct("p", "new"));
    assert_eq!(story.world.stream.describe(story.world.now).buffered_batches, 1, "the zombie's reservation is given back");
    let refused = story.append(zombie, 0, 1);
    assert_eq!(refused.map_err(|error| error.code()), Err(Code::Fenced), "it appended as if it were the new run");
    assert_eq!(story.reserve(zombie, 1).map_err(|error| error.code()), Err(Code::Fenced));
    story.put(heir, 0, 1);
    assert_eq!(story.visible().len(), 2);
}

#[test]
fn a_direct_appender_that_waits_is_told_that_it_is_fenced() {
    let mut story = Story::new(1, 10, 10);
    let (zombie, other) = (story.open(direct("p", "old")), story.open(anonymous("a")));
    story.put(other, 0, 1);
    assert_eq!(story.reserve(other, 1), Ok(Outcome::Waiting));
    assert_eq!(story.reserve(zombie, 1), Ok(Outcome::Waiting));
    let taken_over = story.effects(Command::KeepProducer { producer: producer("p"), run: run("new"), lease: std::time::Duration::ZERO });
    let fenced = Error::Fenced { producer: producer("p"), run: run("old"), current: run("new") };
    assert_eq!(taken_over.refused, [(zombie, fenced)], "it is not at the head of the line and waited on");
}

#[test]
fn a_superseded_appender_is_fenced_and_not_asked_to_open_again() {
    for kind in [direct("p", "r"), writer(0, 0, 0)] {
        let mut story = Story::new(4, 10, 10);
        let former = story.open(kind.clone());
        assert_eq!(story.reserve(former, 1), reserved(Place::Memory));
        let newer = story.open(kind);
        let refused = story.append(former, 0, 1);
        assert_eq!(refused, Err(Error::AppenderSuperseded { appender: former }), "two connections would take turns for ever");
        story.put(newer, 0, 1);
    }
}

#[test]
fn a_connection_that_was_given_up_does_not_push_out_the_one_that_followed_it() {
    for kind in [direct("p", "r"), writer(0, 0, 0)] {
        let mut story = Story::new(4, 10, 10);
        let mut open =
            |sender, number| story.ask(Command::OpenAppender { kind: kind.clone(), connection: Some(Connection { sender, number }) });
        assert!(open(7, 2).is_ok());
        let late = Error::ConnectionSuperseded { producer: producer("p"), number: 1, newest: 2 };
        assert_eq!(open(7, 1), Err(late), "its client has gone on with the other one");
        assert!(open(7, 3).is_ok());
        assert!(open(8, 1).is_ok(), "a new sender is another object, and the last one wins");
        assert!(open(8, 2).is_ok());
    }
}

#[test]
fn a_run_whose_first_connection_comes_after_the_next_runs_does_not_take_over() {
    let mut story = Story::new(4, 10, 10);
    let mut open = |run: &str, sender, number| {
        story.ask(Command::OpenAppender { kind: direct("p", run), connection: Some(Connection { sender, number }) })
    };
    assert!(open("second", 7, 2 << 32).is_ok());
    let late = Error::Fenced { producer: producer("p"), run: run("first"), current: run("second") };
    assert_eq!(open("first", 7, 1 << 32 | 5), Err(late), "its client has made the second after it");
    assert!(open("second", 7, 2 << 32 | 1).is_ok(), "which goes on");
    assert!(open("third", 8, 1).is_ok(), "of another client the last one wins");
}

#[test]
fn an_appender_of_an_aborted_epoch_does_not_feed_its_successor() {
    let mut story = Story::new(4, 10, 10);
    let zombie = story.open(writer(0, 0, 0));
    let aborted = story.ask(Command::AbortEpoch { producer: producer("p"), run: run("r"), epoch: Epoch(0) });
    assert_eq!(aborted, Ok(Outcome::Epoch(EpochState::Aborted)));
    assert_eq!(story.ask(open_epoch(0)), Ok(Outcome::Epoch(EpochState::Open)));
    let successor = story.open(writer(0, 0, 0));
    assert_eq!(story.reserve(zombie, 1), Err(Error::AppenderSuperseded { appender: zombie }));
    story.put(successor, 0, 1);
}

#[test]
fn a_writer_that_comes_after_the_abort_is_refused() {
    for opened in [false, true] {
        let mut story = Story::new(4, 10, 10);
        if opened {
            assert_eq!(story.ask(open_epoch(0)), Ok(Outcome::Epoch(EpochState::Open)));
        }
        let aborted = story.ask(Command::AbortEpoch { producer: producer("p"), run: run("r"), epoch: Epoch(0) });
        assert_eq!(aborted, Ok(Outcome::Epoch(EpochState::Aborted)));
        let late = story.ask(Command::OpenAppender { kind: writer(0, 0, 0), connection: None });
        let refused = Error::EpochNotOpen { producer: producer("p"), epoch: Epoch(0) };
        assert_eq!(late, Err(refused), "nobody would end what it stages");
        story.open(writer(1, 0, 0));
        assert_eq!(story.ask(open_epoch(0)), Ok(Outcome::Epoch(EpochState::Open)));
        story.open(writer(0, 0, 0));
    }
}

#[test]
fn an_appender_that_has_closed_is_not_told_of_its_successor() {
    let mut story = Story::new(4, 10, 10);
    let closed = story.open(writer(0, 0, 0));
    story.put(closed, 0, 1);
    assert_eq!(story.ask(Command::CloseAppender { appender: closed }), Ok(Outcome::Done));
    let opened = story.effects(Command::OpenAppender { kind: writer(0, 0, 0), connection: None });
    assert_eq!(opened.outcome, Ok(Outcome::Opened { appender: AppenderId(1), next_ordinal: 1 }));
    assert_eq!(opened.refused, []);
}

#[test]
fn a_writer_that_has_its_receipt_takes_no_more_batches() {
    let mut story = Story::new(4, 10, 10);
    let finished = story.attempt(writer(0, 0, 0), 1);
    assert_eq!(story.reserve(finished, 1), reserved(Place::Memory), "a resend is still welcome");
    assert_eq!(story.append(finished, 0, 1), Ok(Outcome::Appended { offset: None, again: true }));
    let again = story.open(writer(0, 0, 0));
    assert_eq!(story.reserve(again, 1), reserved(Place::Memory));
    let refused = story.append(again, 1, 1);
    assert_eq!(refused.map_err(|error| error.code()), Err(Code::InvalidArgument), "the commit would show more than the receipt says");
    story.commit(0, &[(0, 0)]);
    assert_eq!(story.visible(), [0]);
}

#[test]
fn rows_that_nobody_can_count_saturate() {
    let mut story = Story::new(4, 10, 10);
    story.subscribe("s");
    let appender = story.open(anonymous("a"));
    for ordinal in 0..3 {
        assert_eq!(story.reserve(appender, 1), reserved(Place::Memory));
        let append = Command::Append { appender, ordinal, partition: PartitionId(0), rows: u64::MAX, bytes: 1, data: ordinal };
        assert!(story.ask(append).is_ok(), "a batch of nulls may claim any number of rows");
    }
    story.ack("s", 2);
    let view = story.world.stream.describe(story.world.now);
    assert_eq!(view.partitions[0].rows_total, u64::MAX);
    assert_eq!(view.subscriptions[0].partitions[0].lag_batches, 1);
}

#[test]
fn drop_oldest_drops_nothing_where_that_makes_no_room() {
    let mut story = Story::with(drop_oldest(2, 10, 4));
    let first = story.open(writer(0, 0, 0));
    (0..2).for_each(|ordinal| assert_eq!(story.put(first, ordinal, 1), Place::Memory));
    let second = story.open(writer_of("q", "r", 0, 0, 0));
    assert_eq!(story.put(second, 0, 1), Place::Spool);
    assert!(story.ask(Command::FinishWriter { appender: second }).is_ok());
    let receipts = vec![(bowstring::engine::Task(0), bowstring::engine::Attempt(0))];
    let commit = Command::CommitEpoch { producer: producer("q"), run: run("r"), epoch: Epoch(0), receipts };
    assert_eq!(story.ask(commit), Ok(Outcome::Epoch(EpochState::Committed)));
    // Memory is the open epoch's, the visible batch is in the spool: dropping it would free no memory.
    assert_eq!(story.put(first, 2, 1), Place::Spool);
    assert_eq!(story.visible(), [0]);
    // With the spool full too, it makes room there.
    assert_eq!(story.put(first, 3, 3), Place::Spool);
    assert_eq!(story.visible(), [0; 0]);
}

#[test]
fn closing_an_anonymous_appender_leaves_the_producer_of_that_name() {
    let mut story = Story::new(4, 10, 10);
    let nameless = story.open(anonymous("p"));
    story.attempt(writer(0, 0, 0), 1);
    assert_eq!(story.ask(Command::CloseAppender { appender: nameless }), Ok(Outcome::Done));
    assert_eq!(story.commit(0, &[(0, 0)]).outcome, Ok(Outcome::Epoch(EpochState::Committed)), "its epoch and room were lost");
    assert_eq!(story.visible(), [0]);
}

#[test]
fn a_first_subscription_at_the_latest_batch_makes_room() {
    let mut story = Story::new(1, 10, 0);
    let appender = story.open(anonymous("a"));
    story.put(appender, 0, 1);
    assert_eq!(story.reserve(appender, 1), Ok(Outcome::Waiting));
    let subscribed = story.effects(Command::Subscribe {
        subscription: subscription("s"),
        start: Start::Latest,
        mode: None,
        on_overflow: OnOverflow::Hold,
        sharing: None,
        query: None,
    });
    assert_eq!(subscribed.granted, [(appender, Place::Memory)], "nobody held the batch, and nobody dropped it");
}

#[test]
fn a_reserve_that_waits_is_not_granted_by_itself() {
    let mut story = Story::new(2, 10, 0);
    let (first, second) = (story.open(anonymous("a")), story.open(anonymous("b")));
    story.put(first, 0, 5);
    assert_eq!(story.reserve(first, 6), Ok(Outcome::Waiting));
    assert_eq!(story.reserve(second, 5), Ok(Outcome::Waiting));
    // What the first one asks for now fits once the second one, next in line, is served.
    let mut smaller = story.effects(Command::Reserve { appender: first, bytes: 0 });
    assert_eq!(smaller.granted, [(second, Place::Memory)]);
    assert_eq!(smaller.outcome, Ok(Outcome::Waiting));
    smaller = story.effects(Command::CloseAppender { appender: second });
    assert_eq!(smaller.granted, [(first, Place::Memory)]);
}

#[test]
fn without_a_spool_producers_wait_for_a_reservation_that_will_be_visible() {
    let mut story = Story::new(1, 10, 0);
    story.subscribe("s");
    let (first, second) = (story.open(direct("p", "r")), story.open(direct("q", "r")));
    assert_eq!(story.reserve(first, 1), reserved(Place::Memory));
    assert_eq!(story.reserve(second, 1), Ok(Outcome::Waiting), "it was told that the spool is full, never to try again");
    assert!(story.append(first, 0, 1).is_ok());
    assert_eq!(story.ack("s", 1).granted, [(second, Place::Memory)]);
    let mut story = Story::with(reject(1, 10, 0));
    let (first, second) = (story.open(direct("p", "r")), story.open(direct("q", "r")));
    assert_eq!(story.reserve(first, 1), reserved(Place::Memory));
    assert_eq!(story.reserve(second, 1).map_err(|error| error.code()), Err(Code::BufferFull), "which passes");
}

#[test]
fn an_open_epoch_does_not_wait_for_its_own_reservations() {
    let mut story = Story::new(1, 10, 0);
    let (first, second) = (story.open(writer(0, 0, 0)), story.open(writer(0, 1, 0)));
    assert_eq!(story.reserve(first, 1), reserved(Place::Memory));
    assert_eq!(story.reserve(second, 1), Err(Error::SpoolFull { bytes: 1, spooled_bytes: 0, limit: 0 }));
}

#[test]
fn a_commit_names_each_partition_once() {
    let mut story = Story::with(StreamOptions { partitions: 2, ..options(8, 10, 10) });
    let appender = story.open(writer(0, 0, 0));
    for ordinal in 0..6 {
        assert_eq!(story.reserve(appender, 1), reserved(Place::Memory));
        let partition = PartitionId(u32::from(ordinal % 2 == 0));
        assert!(story.ask(Command::Append { appender, ordinal, partition, rows: 1, bytes: 1, data: ordinal }).is_ok());
    }
    assert!(story.ask(Command::FinishWriter { appender }).is_ok());
    assert_eq!(story.commit(0, &[(0, 0)]).visible, [PartitionId(0), PartitionId(1)]);
}

#[test]
fn every_epoch_that_ends_without_its_commit_counts_as_aborted() {
    let mut story = Story::new(4, 10, 10);
    story.attempt(writer(0, 0, 0), 1);
    story.attempt(writer(1, 0, 0), 1);
    story.commit(1, &[(0, 0)]);
    story.open(writer(2, 0, 0));
    assert_eq!(story.ask(Command::Complete), Ok(Outcome::Done));
    let view = story.world.stream.describe(story.world.now);
    assert_eq!((view.epochs_committed, view.epochs_aborted), (1, 2), "0 by the commit of 1, 2 by the end");
}

#[test]
fn an_epoch_with_immediate_visibility_counts_batches_as_it_counts_rows() {
    let mut story = Story::with(StreamOptions { visibility: Visibility::Immediate, ..options(4, 10, 10) });
    story.attempt(writer(0, 0, 0), 2);
    let epoch = &story.world.stream.describe(story.world.now).producers[0].epochs[0];
    assert_eq!((epoch.staged_batches, epoch.staged_rows, epoch.staged_bytes), (2, 2, 2));
}

/// Quadratic work takes minutes here.
#[test]
fn a_long_line_ends_quickly_one_by_one_and_at_once() {
    use bowstring::engine::{Stream, StreamId, StreamName, Timestamp};
    const MANY: u32 = 60_000;
    let options = StreamOptions { full_policy: FullPolicy::Wait, ..options(1, 10, 0) };
    let mut stream: Stream<u64> = Stream::new(StreamName::new("s").expect("valid"), StreamId(0), options).expect("one partition");
    let mut apply = |command| stream.apply(command, Timestamp(0));
    let open = |effects: bowstring::engine::Effects| match effects.outcome {
        Ok(Outcome::Opened { appender, .. }) => appender,
        other => panic!("not opened: {other:?}"),
    };
    let full = open(apply(Command::OpenAppender { kind: anonymous("a"), connection: None }));
    assert!(apply(Command::Reserve { appender: full, bytes: 1 }).outcome.is_ok());
    assert!(apply(Command::Append { appender: full, ordinal: 0, partition: PartitionId(0), rows: 1, bytes: 1, data: 0 }).outcome.is_ok());
    let mut waiting = Vec::new();
    for task in 0..MANY {
        let appender = open(apply(Command::OpenAppender { kind: writer(0, task, 0), connection: None }));
        assert_eq!(apply(Command::Reserve { appender, bytes: 1 }).outcome, Ok(Outcome::Waiting));
        waiting.push(appender);
    }
    for appender in waiting.split_off(waiting.len() / 2) {
        assert_eq!(apply(Command::CloseAppender { appender }).outcome, Ok(Outcome::Done));
    }
    let aborted = apply(Command::AbortEpoch { producer: producer("p"), run: run("r"), epoch: Epoch(0) });
    assert_eq!(aborted.refused.len(), waiting.len());
}
