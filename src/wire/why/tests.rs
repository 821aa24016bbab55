//! Every state of a stream has its sentence; through a real server they are in `tests/it/why.rs`.

use super::*;
use crate::wire::proto::{
    ConsumerDescription, ConsumerPartition, EpochDescription, Eviction, FullPolicy, OnOverflow, PartitionDescription, ProducerDescription,
    SharesDescription, StreamOptions, SubscriptionDescription, SubscriptionPartition, Visibility,
};

const SECOND: u64 = 1_000_000;

/// A stream of two partitions with 10 batches each, every one of 1 MiB, of at most 64 batches and 64 MiB.
fn stream() -> StreamDescription {
    let partition = |partition| PartitionDescription {
        partition,
        end: 10,
        buffered_batches: 10,
        buffered_bytes: 10 << 20,
        idle_micros: Some(40 * SECOND),
        ..PartitionDescription::default()
    };
    StreamDescription {
        stream: "clicks".to_owned(),
        options: Some(StreamOptions {
            max_buffered_batches: Some(64),
            max_buffered_bytes: Some(64 << 20),
            max_spool_bytes: Some(1 << 30),
            max_disk_bytes: Some(100 << 20),
            ..StreamOptions::default()
        }),
        state: StreamState::Open.into(),
        partitions: vec![partition(0), partition(1)],
        buffered_batches: 20,
        buffered_bytes: 20 << 20,
        ..StreamDescription::default()
    }
}

/// A stream that is full by batches, and a producer that waits.
fn full() -> StreamDescription {
    let wait = WaitDescription { producer: "q".to_owned(), bytes: 1 << 20, waiting_micros: 12 * SECOND };
    StreamDescription { buffered_batches: 64, waiting: vec![wait], ..stream() }
}

/// A subscription that has acked so far in each partition and held the rest for 40 s; of each batch 100 rows and 1 MiB.
fn subscription(name: &str, acked: [u64; 2]) -> SubscriptionDescription {
    let place = |partition: u32, acked: u64| SubscriptionPartition {
        partition,
        acked,
        lag_batches: 10 - acked,
        lag_rows: (10 - acked) * 100,
        lag_bytes: (10 - acked) << 20,
        held_micros: if acked < 10 { 40 * SECOND } else { 0 },
        drain_micros: if acked < 10 { None } else { Some(0) },
        ..SubscriptionPartition::default()
    };
    SubscriptionDescription {
        subscription: name.to_owned(),
        partitions: vec![place(0, acked[0]), place(1, acked[1])],
        ..SubscriptionDescription::default()
    }
}

/// The same with a consumer of both partitions that was sent everything.
fn read(name: &str, acked: [u64; 2]) -> SubscriptionDescription {
    let partitions = (0..2).map(|partition| ConsumerPartition { partition, sent: 10 }).collect();
    let consumer = ConsumerDescription { consumer: "host-7/4211".to_owned(), partitions, ..ConsumerDescription::default() };
    SubscriptionDescription { consumers: vec![consumer], ..subscription(name, acked) }
}

fn with_epoch(staged: u64, mut stream: StreamDescription) -> StreamDescription {
    let epoch = EpochDescription {
        epoch: 7,
        open_micros: 5 * SECOND,
        staged_batches: staged,
        staged_rows: staged * 100,
        staged_bytes: staged << 20,
        ..EpochDescription::default()
    };
    stream.producers = vec![ProducerDescription { producer: "q".to_owned(), epochs: vec![epoch], ..ProducerDescription::default() }];
    stream
}

#[track_caller]
fn says(stream: &StreamDescription, expected: &[(Cause, &str)]) {
    let why = why(stream);
    let said: Vec<_> = why.reasons.iter().map(|reason| (reason.cause, reason.text.as_str())).collect();
    assert_eq!(said, expected);
}

#[test]
fn a_waiting_producer_is_told_who_holds_the_room() {
    let held = "producer q waits 12 s: stream clicks is full (64 of 64 batches): subscription train holds it back: ";
    let of = |subscription| StreamDescription { subscriptions: vec![subscription], ..full() };
    let holds = format!("{held}consumer host-7/4211 has held partition 1 at offset 3 for 40 s");
    says(&of(read("train", [8, 3])), &[(Cause::Consumer, &holds)]);
    let alone = format!("{held}it has no consumer, and has been at offset 3 of partition 1 for 40 s");
    says(&of(subscription("train", [8, 3])), &[(Cause::NoConsumer, &alone)]);

    let mut elsewhere = read("train", [8, 3]);
    elsewhere.consumers[0].partitions.truncate(1);
    let nobody = format!("{held}none of its 1 consumers reads partition 1, which has been at offset 3 for 40 s");
    says(&of(elsewhere), &[(Cause::Consumer, &nobody)]);

    let mut stuck = read("train", [8, 3]);
    stuck.consumers[0].partitions[1].sent = 3;
    let untaken = format!("{held}consumer host-7/4211 has not taken offset 3 of partition 1 for 40 s");
    says(&of(stuck), &[(Cause::Consumer, &untaken)]);
}

#[test]
fn a_reason_names_the_subscription_that_it_is_about() {
    let named = |stream: &StreamDescription| why(stream).reasons.into_iter().map(|reason| reason.subscription).collect::<Vec<_>>();
    let held = StreamDescription { subscriptions: vec![read("train", [8, 3])], ..full() };
    assert_eq!(named(&held), [Some("train".to_owned())]);
    let lagging = StreamDescription { subscriptions: vec![read("train", [8, 3]), read("other", [10, 10])], ..stream() };
    assert_eq!(named(&lagging), [Some("train".to_owned()), Some("other".to_owned())]);
    assert_eq!(named(&stream()), [None]);
}

#[test]
fn the_subscription_that_really_holds_back_is_named_by_what_there_is_none_left_of() {
    // By batches fast holds most: partition 1 alone. By bytes slow does: its two batches of partition 0 are large.
    let (mut slow, mut fast) = (subscription("slow", [8, 10]), subscription("fast", [10, 3]));
    slow.partitions[0].lag_bytes = 50 << 20;
    fast.partitions[1].lag_bytes = 7 << 10;
    let names = |stream: &StreamDescription| why(stream).reasons[0].text.clone();
    let by_batches = StreamDescription { subscriptions: vec![slow.clone(), fast.clone()], ..full() };
    assert!(names(&by_batches).contains("64 of 64 batches): subscription fast holds it back"), "{}", names(&by_batches));
    let by_bytes = StreamDescription { buffered_batches: 9, buffered_bytes: 64 << 20, ..by_batches };
    assert!(names(&by_bytes).contains("64.0 MiB of 64.0 MiB): subscription slow holds it back"), "{}", names(&by_bytes));
}

#[test]
fn who_has_planned_what_it_has_not_acked_holds_nobody_back() {
    let (mut spark, late) = (subscription("spark", [0, 0]), subscription("late", [9, 10]));
    spark.partitions.iter_mut().for_each(|partition| partition.planned = 10);
    let text = why(&StreamDescription { subscriptions: vec![spark, late], ..full() }).reasons.remove(0).text;
    assert!(text.contains("subscription late holds it back"), "{text}");
}

#[test]
fn room_that_no_subscription_holds_is_held_by_epochs_by_nobodys_subscription_or_by_what_is_on_its_way() {
    let done = || StreamDescription { subscriptions: vec![read("train", [10, 10])], ..full() };
    let begin = "producer q waits 12 s: stream clicks is full (64 of 64 batches)";
    let epoch = format!("{begin}: epoch 7 of producer q, open for 5.0 s, has staged 60 batches");
    assert_eq!(why(&with_epoch(60, done())).reasons[0].text, epoch);
    let both = with_epoch(60, StreamDescription { subscriptions: vec![read("train", [9, 10])], ..full() });
    let rest = "consumer host-7/4211 has held partition 0 at offset 9 for 40 s";
    assert_eq!(why(&both).reasons[0].text, format!("{epoch}, and subscription train holds it back: {rest}"));
    assert_eq!(why(&done()).reasons[0].cause, Cause::OnTheWay);
    says(&full(), &[(Cause::NoSubscription, &format!("{begin}: it has no subscription, and keeps everything for the first one"))]);
}

#[test]
fn a_log_that_does_not_go_on_is_what_everybody_waits_for() {
    let stream = StreamDescription {
        is_durable: true,
        log_waits_for: "the disk is full".to_owned(),
        log_waits_micros: 30 * SECOND,
        subscriptions: vec![read("train", [10, 10])],
        ..full()
    };
    let waits = "the log of stream clicks waits 30 s: the disk is full";
    says(
        &stream,
        &[
            (Cause::Log, &format!("{waits}; until then nothing that is appended is confirmed or delivered")),
            (Cause::Log, &format!("producer q waits 12 s: {waits}")),
            (Cause::Log, "consumer host-7/4211 of subscription train has everything that the log has made durable"),
        ],
    );
    let busy = StreamDescription { log_waits_for: String::new(), ..stream };
    assert_eq!(why(&busy).reasons[0].text, "producer q waits 12 s: the log of stream clicks has not written what came before");
    let full = StreamDescription { logged_bytes: 100 << 20, subscriptions: vec![subscription("train", [3, 10])], ..busy };
    let text = "producer q waits 12 s: stream clicks is full (100.0 MiB of 100.0 MiB of its log): subscription train holds it back: ";
    assert!(why(&full).reasons[0].text.starts_with(text), "{}", why(&full));
}

#[test]
fn a_stream_that_is_full_says_what_the_next_append_meets() {
    let of = |policy: FullPolicy| {
        let mut stream = StreamDescription { waiting: Vec::new(), subscriptions: vec![read("train", [3, 10])], ..full() };
        stream.options.as_mut().expect("is set").full_policy = policy.into();
        why(&stream).reasons.remove(0).text
    };
    for (policy, meets) in [
        (FullPolicy::Wait, "the next append waits"),
        (FullPolicy::Reject, "the next append is refused"),
        (FullPolicy::DropOldest, "the next append drops the oldest batches"),
    ] {
        let begin = format!("nobody waits yet, but stream clicks is full (64 of 64 batches), and {meets}: subscription train holds");
        assert!(of(policy).starts_with(&begin), "{}", of(policy));
    }
    let epoch = with_epoch(60, StreamDescription { waiting: Vec::new(), subscriptions: vec![read("train", [10, 10])], ..full() });
    assert!(
        why(&epoch).reasons[0].text.contains("what comes next goes to the spool, which has 0 B of 1.0 GiB: epoch 7"),
        "{}",
        why(&epoch)
    );
}

#[test]
fn a_subscription_says_how_far_it_is_behind_and_whether_it_drains() {
    let begin = "subscription train has not acked 9 batches, 900 rows, 9.0 MiB: ";
    let mut lagging = read("train", [8, 3]);
    let of = |subscription: &SubscriptionDescription| StreamDescription { subscriptions: vec![subscription.clone()], ..stream() };
    let holds = "consumer host-7/4211 has held partition 1 at offset 3 for 40 s";
    let text = format!("{begin}{holds}; it is not draining: acks are not faster than appends");
    says(&of(&lagging), &[(Cause::Consumer, &text)]);
    lagging.partitions.iter_mut().zip([3, 250]).for_each(|(partition, seconds)| partition.drain_micros = Some(seconds * SECOND));
    says(&of(&lagging), &[(Cause::Consumer, &format!("{begin}{holds}; as it went lately, it has caught up in 4 min 10 s"))]);
    assert_eq!(why(&of(&subscription("train", [8, 3]))).reasons[0].cause, Cause::NoConsumer);
}

#[test]
fn a_consumer_that_has_everything_waits_for_an_epoch_a_producer_or_batches() {
    let done = StreamDescription { subscriptions: vec![read("train", [10, 10])], ..stream() };
    let who = "consumer host-7/4211 of subscription train has everything";
    says(&done, &[(Cause::NoBatches, &format!("{who}: nobody has appended to stream clicks for 40 s"))]);
    let open = with_epoch(5, done.clone());
    let epoch = "but epoch 7 of producer q, which has been open for 5.0 s and is not committed: 5 batches with 500 rows are staged";
    says(&open, &[(Cause::Epoch, &format!("{who} {epoch}"))]);
    let mut immediate = open;
    immediate.options.as_mut().expect("is set").visibility = Visibility::Immediate.into();
    assert_eq!(why(&immediate).reasons[0].cause, Cause::NoBatches, "what it has appended is seen already");
    let mut lost = done.clone();
    lost.producers = vec![ProducerDescription { producer: "q".to_owned(), lost: true, ..ProducerDescription::default() }];
    says(&lost, &[(Cause::ProducerLost, &format!("{who}, and producer q is lost: its signs of life have stopped"))]);
    let mut restarted = done.clone();
    restarted.partitions.iter_mut().for_each(|partition| partition.idle_micros = None);
    assert!(why(&restarted).reasons[0].text.ends_with("since the coordinator was started"));
    let mut two = done;
    two.subscriptions[0].consumers.push(ConsumerDescription::default());
    assert!(why(&two).reasons[0].text.starts_with("the 2 consumers of subscription train have everything"));
}

#[test]
fn where_nobody_waits_it_says_so() {
    let done = StreamDescription { subscriptions: vec![subscription("train", [10, 10])], ..stream() };
    says(&done, &[(Cause::Nobody, "nobody waits: all that is in stream clicks is acked, and nobody reads it")]);
    let mut empty = done.clone();
    empty.partitions.iter_mut().for_each(|partition| partition.end = 0);
    says(&empty, &[(Cause::Nobody, "nobody waits: nothing was ever appended to stream clicks, and nobody reads it")]);
    says(
        &stream(),
        &[(Cause::NoSubscription, "nobody waits: stream clicks has no subscription, and keeps its 20 batches for the first one")],
    );
    let completed = StreamDescription { state: StreamState::Completed.into(), ..done.clone() };
    says(&completed, &[(Cause::Completed, "stream clicks is completed: nobody appends any more")]);
    let failed = StreamDescription { state: StreamState::Failed.into(), reason: "out of flights".to_owned(), ..done };
    says(&failed, &[(Cause::Failed, "stream clicks has failed: out of flights")]);
}

#[test]
fn a_long_line_of_producers_ends_in_one_sentence() {
    let mut stream = full();
    stream.waiting = vec![stream.waiting[0].clone(); WAITING_NAMED_MAX + 3];
    let why = why(&stream);
    assert_eq!(why.reasons.len(), WAITING_NAMED_MAX + 1);
    assert_eq!(why.reasons[WAITING_NAMED_MAX].text, "3 more appends wait behind them, up to 12 s");
    assert_eq!(why.to_string().lines().count(), WAITING_NAMED_MAX + 1);
}

fn first(stream: &StreamDescription) -> String {
    why(stream).reasons.remove(0).text
}

#[test]
fn what_the_next_append_does_to_a_subscription_that_gives_way_is_said() {
    let of = |on_overflow: OnOverflow, others: Vec<SubscriptionDescription>| {
        let mut slow = read("slow", [3, 10]);
        slow.set_on_overflow(on_overflow);
        first(&StreamDescription { waiting: Vec::new(), subscriptions: [vec![slow], others].concat(), ..full() })
    };
    let alone = |on_overflow| of(on_overflow, vec![subscription("fast", [10, 10])]);
    assert!(
        alone(OnOverflow::Evict).contains("and the next append evicts it: subscription slow holds it back"),
        "{}",
        alone(OnOverflow::Evict)
    );
    assert!(alone(OnOverflow::Skip).contains("and the next append makes it skip the oldest batches: "), "{}", alone(OnOverflow::Skip));
    assert!(of(OnOverflow::Evict, vec![subscription("beside", [3, 10])]).contains("and the next append waits: "));
    let mut spilling = StreamDescription { waiting: Vec::new(), subscriptions: vec![read("slow", [3, 10])], ..full() };
    spilling.options.as_mut().expect("is set").set_full_policy(FullPolicy::Spill);
    assert!(first(&spilling).contains("and what comes next goes to the spool, which has 0 B of 1.0 GiB: "), "{}", first(&spilling));
    spilling.spooled_bytes = 1 << 30;
    assert!(first(&spilling).contains("and the next append waits: "), "{}", first(&spilling));
}

#[test]
fn an_evicted_subscription_says_when_and_why_and_holds_back_nobody() {
    let mut gone = subscription("slow", [3, 3]);
    gone.eviction = Some(Eviction { at_micros: 1_793_534_400_000_000, lag_batches: 14, lag_bytes: 14 << 20, needed_bytes: 1 << 20 });
    let stream = StreamDescription { subscriptions: vec![gone, read("train", [3, 10])], ..full() };
    let reasons = why(&stream).reasons;
    assert!(reasons[0].text.contains("subscription train holds it back"), "{}", reasons[0].text);
    assert_eq!(reasons[1].cause, Cause::Evicted);
    let text = "subscription slow was evicted at 2026-11-01T12:00:00Z: an append needed 1.0 MiB of room, and it alone held some of the 14 batches, 14.0 MiB, that it had not acked; its consumers are refused until a seek puts it somewhere, or it is deleted";
    assert_eq!(reasons[1].text, text);
    assert_eq!(reasons.len(), 2);
}

#[test]
fn a_producer_that_waits_for_a_stream_to_drain_is_told_how_far() {
    let mut stream = StreamDescription { buffered_batches: 40, is_draining: true, subscriptions: vec![read("train", [3, 10])], ..full() };
    stream.options.as_mut().expect("is set").resume_percent = Some(50);
    let text = "producer q waits 12 s: stream clicks was full, and lets nobody in before it has fallen from 40 batches to 32: subscription train holds it back: ";
    assert!(first(&stream).starts_with(text), "{}", first(&stream));
}

#[test]
fn of_a_shared_subscription_it_is_said_who_has_the_oldest_piece_or_why_nobody_has_any() {
    let consumer = |consumer_id: u64, is_stalled| ConsumerDescription {
        consumer: format!("host-{consumer_id}/1"),
        consumer_id,
        is_stalled,
        ..ConsumerDescription::default()
    };
    let said = |shares: SharesDescription, consumers: Vec<ConsumerDescription>, waits_for: &str| {
        let mut shared =
            SubscriptionDescription { consumers, dead_letters_wait_for: waits_for.to_owned(), ..subscription("team", [3, 10]) };
        shared.partitions[0].shares = Some(shares);
        let text = why(&StreamDescription { subscriptions: vec![shared], ..stream() }).to_string();
        text.split("bytes: ").last().unwrap_or_default().split("; it is not").next().unwrap_or_default().to_owned()
    };
    let both = || vec![consumer(1, false), consumer(2, true)];
    let leased = SharesDescription { leased: 4, oldest_consumer_id: 2, oldest_micros: 35 * SECOND, waiting: 1, ..Default::default() };
    let place = "partition 0 has been at offset 3 for 40 s";
    assert!(
        said(leased, both(), "")
            .contains(&format!("{place}: 4 pieces are with consumers, of which consumer host-2/1 has had the oldest for 35 s"))
    );
    let waiting = SharesDescription { waiting: 1, ..Default::default() };
    assert!(
        said(waiting, both(), "").contains(&format!("{place}: 1 piece is back, and waiting for its 2 consumers")),
        "{}",
        said(waiting, both(), "")
    );
    let stalled = vec![consumer(2, true)];
    assert!(said(waiting, stalled, "").contains("all of its 1 consumers have let a lease run out, and not asked for more since"));
    let dying = SharesDescription { dying: 2, dying_micros: 90 * SECOND, ..Default::default() };
    let text = said(dying, both(), "no room");
    assert!(text.contains("2 pieces are to go to the dead letters, which cannot be written: no room, since 1 min 30 s"), "{text}");
    assert!(said(dying, both(), "").contains("which are being written, since"));
}
