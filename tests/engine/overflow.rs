//! Where room runs out, by hand: who gives way, who waits until when, and what is told.

use std::collections::BTreeMap;
use std::time::Duration;

use bowstring::engine::{
    AppenderId, Code, Command, Error, FullPolicy, Offset, OnOverflow, Outcome, PartitionId, Place, Start, StreamOptions, Timestamp,
};

use crate::story::{Story, anonymous, drop_oldest, options, reserved, subscription, writer};

fn subscribe(story: &mut Story, name: &str, on_overflow: OnOverflow) {
    let subscribed = story.ask(Command::Subscribe {
        subscription: subscription(name),
        start: Start::Earliest,
        mode: None,
        on_overflow,
        sharing: None,
        query: None,
    });
    assert_eq!(subscribed, Ok(Outcome::Done));
}

/// A story with these subscriptions, and so many batches of one byte.
fn with(options: StreamOptions, subscriptions: &[(&str, OnOverflow)], batches: u64) -> (Story, AppenderId) {
    let mut story = Story::with(options);
    subscriptions.iter().for_each(|(name, on_overflow)| subscribe(&mut story, name, *on_overflow));
    let appender = story.open(anonymous("a"));
    (0..batches).for_each(|ordinal| assert_eq!(story.put(appender, ordinal, 1), Place::Memory));
    (story, appender)
}

fn gap(story: &Story, name: &str) -> u64 {
    story.world.stream.gap(&subscription(name), PartitionId(0)).expect("is there")
}

/// Who is evicted.
fn evicted(story: &Story) -> Vec<String> {
    let views = story.world.stream.describe(story.world.now).subscriptions;
    views.iter().filter(|view| view.eviction.is_some()).map(|view| view.name.to_string()).collect()
}

fn resuming(percent: u32, mut options: StreamOptions) -> StreamOptions {
    options.resume_percent = percent;
    options
}

#[test]
fn a_laggard_skips_what_it_alone_holds_and_its_gap_is_known_until_it_acks() {
    let (mut story, appender) = with(options(4, 100, 0), &[("keeps", OnOverflow::Hold), ("skips", OnOverflow::Skip)], 4);
    story.ack("keeps", 2);
    assert_eq!(story.put(appender, 4, 1), Place::Memory);
    assert_eq!(story.put(appender, 5, 1), Place::Memory);
    assert_eq!((story.visible(), gap(&story, "skips")), (vec![2, 3, 4, 5], 2));
    assert_eq!(story.reserve(appender, 1), Ok(Outcome::Waiting), "what both hold stays");
    story.ack("skips", 3);
    assert_eq!(gap(&story, "skips"), 0);
}

#[test]
fn nobody_loses_anything_for_what_would_not_fit_then_either() {
    let (mut story, appender) = with(options(8, 10, 0), &[("keeps", OnOverflow::Hold), ("goes", OnOverflow::Evict)], 8);
    story.ack("keeps", 2);
    assert_eq!(story.reserve(appender, 9), Ok(Outcome::Waiting));
    assert_eq!((evicted(&story), story.visible().len()), (Vec::new(), 8));
    let granted = story.ack("keeps", 7);
    assert_eq!((granted.granted, granted.evicted), (vec![(appender, Place::Memory)], vec![subscription("goes")]));
}

#[test]
fn who_has_planned_all_there_is_is_no_laggard() {
    let (mut story, appender) = with(options(2, 100, 10), &[("spark", OnOverflow::Evict)], 2);
    story.plan("spark", 2);
    assert_eq!(story.reserve(appender, 1), reserved(Place::Spool));
    assert_eq!(evicted(&story), Vec::<String>::new());
}

#[test]
fn one_that_keeps_up_is_not_evicted_with_one_that_does_not() {
    let (mut story, appender) = with(options(4, 100, 0), &[("near", OnOverflow::Evict), ("far", OnOverflow::Evict)], 4);
    story.ack("near", 3);
    assert_eq!(story.put(appender, 4, 1), Place::Memory);
    assert_eq!(evicted(&story), ["far"]);
    assert_eq!(story.visible(), [3, 4], "what the other has acked is gone");
}

#[test]
fn with_all_evicted_appends_never_wait_and_a_seek_finds_the_newest() {
    let (mut story, appender) = with(options(4, 100, 0), &[("goes", OnOverflow::Evict)], 4);
    (4..20).for_each(|ordinal| assert_eq!(story.put(appender, ordinal, 1), Place::Memory));
    assert_eq!(story.visible(), [16, 17, 18, 19]);
    let ack = Command::Ack { subscription: subscription("goes"), generation: None, offsets: Vec::new() };
    let Err(Error::SubscriptionEvicted { eviction, .. }) = story.ask(ack) else { panic!("it is evicted") };
    assert_eq!((eviction.lag_batches, eviction.lag_bytes, eviction.needed_bytes), (4, 4, 1));
    let seek = Command::Seek { subscription: subscription("goes"), to: Start::Earliest, dry_run: false };
    assert!(story.ask(seek).is_ok());
    assert_eq!((evicted(&story), gap(&story, "goes")), (Vec::new(), 0), "whoever seeks knows where it is");
    assert_eq!(story.ack("goes", 20).outcome, Ok(Outcome::Done));
}

#[test]
fn a_seek_in_one_partition_takes_up_the_others_where_they_begin() {
    let mut story = Story::with(StreamOptions { partitions: 2, ..options(4, 100, 0) });
    subscribe(&mut story, "goes", OnOverflow::Evict);
    let appender = story.open(anonymous("a"));
    for ordinal in 0..8 {
        assert_eq!(story.reserve(appender, 1), reserved(Place::Memory));
        let partition = PartitionId(u32::from(ordinal % 2 == 1));
        let append = Command::Append { appender, ordinal, partition, rows: 1, bytes: 1, data: ordinal };
        assert!(story.ask(append).is_ok());
    }
    assert_eq!(evicted(&story), ["goes"]);
    let to = Start::Offsets(BTreeMap::from([(PartitionId(0), Offset(3))]));
    let Ok(Outcome::Moved(moves)) = story.ask(Command::Seek { subscription: subscription("goes"), to, dry_run: false }) else {
        panic!("it is there")
    };
    assert_eq!(moves.iter().map(|moved| (moved.from.0, moved.to.0)).collect::<Vec<_>>(), [(0, 3), (0, 2)]);
    let stream = &story.world.stream;
    assert_eq!(stream.cursor(&subscription("goes"), PartitionId(1)), Ok(Offset(2)));
    assert_eq!(stream.gap(&subscription("goes"), PartitionId(1)), Ok(2));
}

/// Both sides of the low watermark: half of 8 batches, and half of 16 bytes.
#[test]
fn who_waits_is_let_in_at_the_low_watermark_and_then_until_it_is_full_again() {
    let (mut story, appender) = with(resuming(50, options(8, 16, 0)), &[("s", OnOverflow::Hold)], 8);
    assert_eq!(story.reserve(appender, 1), Ok(Outcome::Waiting));
    let second = story.open(anonymous("b"));
    assert_eq!(story.reserve(second, 1), Ok(Outcome::Waiting));
    assert_eq!(story.ack("s", 3).granted, []);
    assert!(story.world.stream.describe(Timestamp(0)).is_draining);
    assert_eq!(story.ack("s", 4).granted, [(appender, Place::Memory), (second, Place::Memory)]);
    assert!(!story.world.stream.describe(Timestamp(0)).is_draining);
    let third = story.open(anonymous("c"));
    assert_eq!(story.reserve(third, 1), reserved(Place::Memory), "until it is full again");
}

#[test]
fn a_batch_larger_than_the_low_watermark_is_let_in_when_it_fits() {
    let (mut story, appender) = with(resuming(50, options(8, 8, 0)), &[("s", OnOverflow::Hold)], 8);
    assert_eq!(story.reserve(appender, 7), Ok(Outcome::Waiting));
    assert_eq!(story.ack("s", 6).granted, []);
    assert_eq!(story.ack("s", 7).granted, [(appender, Place::Memory)]);
}

#[test]
fn what_is_staged_keeps_nobody_from_the_low_watermark() {
    let mut story = Story::with(resuming(25, options(8, 100, 0)));
    story.subscribe("s");
    story.attempt(writer(0, 0, 0), 6);
    let appender = story.open(anonymous("a"));
    (0..2).for_each(|ordinal| assert_eq!(story.put(appender, ordinal, 1), Place::Memory));
    assert_eq!(story.reserve(appender, 1), Ok(Outcome::Waiting));
    assert_eq!(story.ack("s", 1).granted, []);
    assert_eq!(story.ack("s", 2).granted, [(appender, Place::Memory)], "nothing that consumers could ack is left");
}

#[test]
fn a_second_without_an_ack_ends_a_drain() {
    let (mut story, appender) = with(resuming(0, options(4, 100, 0)), &[("s", OnOverflow::Hold)], 4);
    assert_eq!(story.reserve(appender, 1), Ok(Outcome::Waiting));
    assert_eq!(story.ack("s", 3).granted, []);
    for (micros, granted) in [(0, 0), (999_999, 0), (1_000_000, 1)] {
        story.world.now = Timestamp(5_000_000 + micros);
        assert_eq!(story.effects(Command::Tick).granted.len(), granted, "{micros} us");
    }
}

#[test]
fn a_wait_ends_at_its_time_and_says_whose_ack_it_was_for() {
    let max_wait = Some(Duration::from_secs(2));
    let (mut story, appender) =
        with(StreamOptions { max_wait, ..options(4, 100, 0) }, &[("near", OnOverflow::Hold), ("far", OnOverflow::Hold)], 4);
    story.ack("near", 3);
    assert_eq!(story.reserve(appender, 1), Ok(Outcome::Waiting));
    story.world.now = Timestamp(1_999_999);
    assert_eq!(story.effects(Command::Tick).refused, []);
    story.world.now = Timestamp(2_000_000);
    let mut refused = story.effects(Command::Tick).refused;
    let Some((who, Error::WaitedTooLong { held_by: Some(held_by), waited, .. })) = refused.pop() else { panic!("{refused:?}") };
    assert_eq!((who, waited, held_by.subscription.as_str(), held_by.offset), (appender, Duration::from_secs(2), "far", Offset(0)));
    assert_eq!(held_by.held_for, Duration::from_secs(2));
    assert_eq!(story.reserve(appender, 1), Ok(Outcome::Waiting), "it may ask again");
}

#[test]
fn what_is_dropped_for_room_is_dropped_to_the_low_watermark() {
    let (mut story, appender) = with(resuming(50, drop_oldest(8, 100, 0)), &[("s", OnOverflow::Hold)], 8);
    assert_eq!(story.put(appender, 8, 1), Place::Memory);
    assert_eq!((story.visible(), gap(&story, "s")), (vec![4, 5, 6, 7, 8], 4));
    let (mut story, appender) = with(resuming(50, options(8, 100, 0)), &[("s", OnOverflow::Skip)], 8);
    assert_eq!(story.put(appender, 8, 1), Place::Memory);
    assert_eq!((story.visible(), gap(&story, "s")), (vec![4, 5, 6, 7, 8], 4));
}

#[test]
fn spilling_takes_the_spool_before_a_laggards_batches_and_waits_when_both_are_full() {
    let spill = |max_spool_bytes| StreamOptions { full_policy: FullPolicy::Spill, ..options(2, 100, max_spool_bytes) };
    let (mut story, appender) = with(spill(1), &[("skips", OnOverflow::Skip)], 2);
    assert_eq!(story.put(appender, 2, 1), Place::Spool);
    assert_eq!(gap(&story, "skips"), 0);
    assert_eq!(story.put(appender, 3, 1), Place::Memory);
    assert_eq!(gap(&story, "skips"), 1);
    let (mut story, appender) = with(spill(1), &[("keeps", OnOverflow::Hold)], 2);
    assert_eq!(story.put(appender, 2, 1), Place::Spool);
    assert_eq!(story.reserve(appender, 1), Ok(Outcome::Waiting));
    assert_eq!(story.ack("keeps", 1).granted, [(appender, Place::Memory)]);
}

#[test]
fn a_stream_that_rejects_asks_laggards_first() {
    let reject = StreamOptions { full_policy: FullPolicy::Reject, ..options(2, 100, 0) };
    let (mut story, appender) = with(reject.clone(), &[("skips", OnOverflow::Skip)], 2);
    assert_eq!(story.put(appender, 2, 1), Place::Memory);
    let (mut story, appender) = with(reject, &[("keeps", OnOverflow::Hold), ("skips", OnOverflow::Skip)], 2);
    assert_eq!(story.reserve(appender, 1).map_err(|error| error.code()), Err(Code::BufferFull));
}

#[test]
fn an_open_epoch_waits_for_no_laggard_whose_room_is_not_enough() {
    let mut story = Story::with(options(8, 10, 100));
    subscribe(&mut story, "dead", OnOverflow::Evict);
    let appender = story.open(anonymous("a"));
    assert_eq!(story.put(appender, 0, 1), Place::Memory);
    let writer = story.open(writer(0, 0, 0));
    assert_eq!(story.put(writer, 0, 8), Place::Memory);
    assert_eq!(story.put(writer, 1, 5), Place::Spool);
    assert_eq!(evicted(&story), Vec::<String>::new(), "its batch is too small to help");
    assert_eq!(story.put(writer, 2, 2), Place::Memory);
    assert_eq!(evicted(&story), ["dead"]);
}
