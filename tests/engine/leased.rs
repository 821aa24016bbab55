//! Leases by hand: what consumers that share a partitioned subscription are told where something is in their way.

use std::time::Duration;

use bowstring::engine::{
    AppenderId, BatchFacts, Code, Command, ConsumerId, ConsumerName, CursorSnapshot, Effects, EpochTotals, Generation, Holding, InFlight,
    LeaseId, LeasedOffset, Offset, OnOverflow, Outcome, PartitionId, PartitionSnapshot, Standing, Start, Stream, StreamId, StreamName,
    StreamOptions, StreamSnapshot, StreamState, SubscriptionMode, SubscriptionName, SubscriptionSnapshot, Taken, Timestamp,
};

use crate::story::{anonymous, drop_oldest, options, producer};

const LEASE: Duration = Duration::from_secs(10);

/// A stream whose consumers share one subscription.
struct Crew {
    stream: Stream<u64>,
    now: Timestamp,
    ordinal: u64,
}

fn crew() -> SubscriptionName {
    SubscriptionName::new("crew").expect("a valid name")
}

fn stream_name() -> StreamName {
    StreamName::new("s").expect("a valid name")
}

fn by(partition: PartitionId, lease: LeaseId, offset: u64) -> LeasedOffset {
    LeasedOffset { partition, lease, offset: Offset(offset) }
}

impl Crew {
    fn new(options: StreamOptions) -> Self {
        let stream = Stream::new(stream_name(), StreamId(7), options).expect("some partitions");
        let mut crew = Self { stream, now: Timestamp(1), ordinal: 0 };
        crew.ask(Command::OpenAppender { kind: anonymous("p"), connection: None });
        crew.ask(Command::Subscribe {
            subscription: self::crew(),
            start: Start::Earliest,
            mode: Some(SubscriptionMode::Partitioned),
            on_overflow: OnOverflow::Hold,
            sharing: None,
            query: None,
        });
        crew
    }

    fn apply(&mut self, command: Command<u64>) -> Effects {
        self.stream.apply(command, self.now)
    }

    fn ask(&mut self, command: Command<u64>) -> Outcome {
        let shown = format!("{command:?}");
        self.apply(command).outcome.unwrap_or_else(|error| panic!("{shown}: {error}"))
    }

    /// Appends a batch of one byte to each partition, so often.
    fn append(&mut self, times: u64) {
        for _ in 0..times {
            for partition in (0..self.stream.options().partitions).map(PartitionId) {
                let (appender, ordinal) = (AppenderId(0), self.ordinal);
                self.ordinal += 1;
                assert!(matches!(self.ask(Command::Reserve { appender, bytes: 1 }), Outcome::Reserved { .. }));
                self.ask(Command::Append { appender, ordinal, partition, rows: 1, bytes: 1, data: ordinal });
            }
        }
    }

    fn keep(&mut self, consumer: u64, lease: Duration) -> Vec<Holding> {
        let name = ConsumerName::new("c").expect("a valid name");
        let in_flight = InFlight::default();
        self.ask(Command::KeepConsumer {
            subscription: crew(),
            consumer: ConsumerId(consumer),
            name,
            lease,
            in_flight,
            terms: bowstring::engine::ShareTerms::default(),
        });
        self.stream.holdings(&crew(), ConsumerId(consumer)).expect("is there").1
    }

    /// Joins, and begins to read.
    fn join(&mut self, consumer: u64) -> u64 {
        self.keep(consumer, LEASE);
        self.read(consumer, Vec::new())
    }

    fn read(&mut self, consumer: u64, got: Vec<LeasedOffset>) -> u64 {
        match self.ask(Command::ReadLeased { subscription: crew(), consumer: ConsumerId(consumer), got }) {
            Outcome::Reads(reading) => reading,
            other => panic!("{other:?}"),
        }
    }

    fn take(&mut self, consumer: u64, reading: u64, batches: u64) -> Vec<Taken> {
        let most = InFlight { batches, bytes: u64::MAX };
        match self.ask(Command::TakeLeased { subscription: crew(), consumer: ConsumerId(consumer), reading, most }) {
            Outcome::Taken(taken) => taken,
            other => panic!("{other:?}"),
        }
    }

    fn wanted(&mut self, consumer: u64) -> Vec<Holding> {
        self.keep(consumer, LEASE).into_iter().filter(|holding| holding.is_wanted).collect()
    }

    /// Gives back all but the first batch of what others want.
    fn give_back(&mut self, consumer: u64) -> Effects {
        let from = self.wanted(consumer).iter().map(|wanted| by(wanted.partition, wanted.lease, 1)).collect();
        self.apply(Command::GiveBack { subscription: crew(), from })
    }

    fn standing(&self, consumer: u64, reading: u64) -> Standing {
        self.stream.standing(&crew(), ConsumerId(consumer), reading).expect("it reads")
    }
}

fn partitioned(partitions: u32) -> StreamOptions {
    StreamOptions { partitions, ..options(1_000, 1_000, 0) }
}

#[test]
fn who_keeps_others_from_what_is_left_of_an_ended_stream_is_told() {
    let mut crew = Crew::new(partitioned(4));
    let readings = [crew.join(0), crew.join(1)];
    crew.append(3);
    // Each has the first batch of each of its two partitions.
    for (consumer, reading) in (0..).zip(readings) {
        (0..2).for_each(|_| assert_eq!(crew.take(consumer, reading, 1).len(), 1));
    }
    let late = [crew.join(2), crew.join(3)];
    assert!([0, 1].iter().all(|consumer| crew.wanted(*consumer).len() == 1), "each is to give one away");
    crew.ask(Command::Complete);
    for (consumer, reading) in (0..).zip(readings) {
        assert_eq!(crew.take(consumer, reading, 100).iter().map(|taken| taken.batches).sum::<u64>(), 2);
        assert!(!crew.standing(consumer, reading).needs_acks, "something may be given back, and go over at once");
    }
    assert!(crew.give_back(0).changed, "the others may have waited for that");
    assert!(!crew.standing(0, readings[0]).needs_acks, "the other may give back all it has of its own");
    crew.give_back(1);
    for (consumer, reading) in (0..).zip(readings) {
        let standing = crew.standing(consumer, reading);
        assert_eq!((standing.is_sent, standing.is_acked, standing.needs_acks), (false, false, true), "they would wait for each other");
    }
    for (consumer, reading) in (2..).zip(late) {
        assert!(!crew.standing(consumer, reading).needs_acks, "who holds up nobody gets more");
    }
    let acks = crew.wanted(0).iter().map(|wanted| by(wanted.partition, wanted.lease, 1)).collect();
    assert!(matches!(crew.ask(Command::AckLeased { subscription: self::crew(), acks }), Outcome::Acked { lost } if lost.is_empty()));
    assert!(!crew.standing(0, readings[0]).needs_acks);
    assert!(!crew.standing(1, readings[1]).needs_acks, "something is under way to a third");
    assert_eq!(crew.take(2, late[0], 100).len() + crew.take(3, late[1], 100).len(), 1);
    assert!(crew.standing(1, readings[1]).needs_acks);
}

#[test]
fn what_comes_back_to_who_has_given_it_back_is_told_as_well() {
    let mut crew = Crew::new(partitioned(2));
    let reading = crew.join(0);
    crew.append(3);
    (0..2).for_each(|_| assert_eq!(crew.take(0, reading, 1).len(), 1));
    crew.join(1);
    crew.ask(Command::Complete);
    crew.give_back(0);
    crew.keep(1, Duration::ZERO);
    assert_eq!(crew.take(0, reading, 100).len(), 1, "of the other partition");
    assert!(crew.standing(0, reading).needs_acks, "it waits for itself");
}

#[test]
fn consumers_of_a_subscription_that_is_deleted_are_woken() {
    let mut crew = Crew::new(partitioned(1));
    let reading = crew.join(0);
    assert!(crew.apply(Command::Unsubscribe { subscription: self::crew() }).changed);
    let most = InFlight { batches: 1, bytes: 1 };
    let take = crew.apply(Command::TakeLeased { subscription: self::crew(), consumer: ConsumerId(0), reading, most });
    assert_eq!(take.outcome.expect_err("is deleted").code(), Code::SubscriptionNotFound);
    for (mode, wakes) in [(SubscriptionMode::Shared, true), (SubscriptionMode::Static, false)] {
        let subscription = SubscriptionName::new("other").expect("a valid name");
        let (start, mode, on_overflow) = (Start::Earliest, Some(mode), OnOverflow::Hold);
        crew.ask(Command::Subscribe { subscription: subscription.clone(), start, mode, on_overflow, sharing: None, query: None });
        assert_eq!(crew.apply(Command::Unsubscribe { subscription }).changed, wakes, "who reads by itself reads on: {mode:?}");
    }
}

/// What was dropped and not sent, whatever happened between.
#[test]
fn what_is_dropped_under_batches_in_flight_is_told() {
    let dropping = || {
        let mut crew = Crew::new(drop_oldest(4, 1_000, 0));
        let reading = crew.join(0);
        crew.append(4);
        (crew, reading)
    };
    let told = |taken: &[Taken]| taken.iter().map(|taken| (taken.first.0, taken.skipped, taken.batches)).collect::<Vec<_>>();

    // Its connection breaks after the first batch, and the next two are dropped.
    let (mut crew, reading) = dropping();
    let lease = crew.take(0, reading, 3)[0].lease;
    crew.append(3);
    let reading = crew.read(0, vec![by(PartitionId(0), lease, 1)]);
    assert_eq!(told(&crew.take(0, reading, 100)), [(3, 2, 4)]);
    let reading = crew.read(0, vec![by(PartitionId(0), lease, 7)]);
    assert_eq!(told(&crew.take(0, reading, 100)), [], "what it has got is not told anew");
    assert_eq!(
        told(&{
            let reading = crew.read(0, Vec::new());
            crew.take(0, reading, 100)
        }),
        [(3, 3, 4)],
        "none of it is acked"
    );

    // It dies, and another has the partition.
    let (mut crew, reading) = dropping();
    crew.take(0, reading, 3);
    crew.append(2);
    crew.keep(0, Duration::ZERO);
    let reading = crew.join(1);
    assert_eq!(told(&crew.take(1, reading, 100)), [(2, 2, 4)]);
    let lease = crew.keep(1, LEASE)[0].lease;
    crew.ask(Command::AckLeased { subscription: self::crew(), acks: vec![by(PartitionId(0), lease, 3)] });
    let reading = crew.read(1, Vec::new());
    assert_eq!(told(&crew.take(1, reading, 100)), [(3, 0, 3)], "an ack is beyond it");

    // It gives back what it was sent, and that is dropped meanwhile.
    let mut crew = Crew::new(StreamOptions { partitions: 2, ..drop_oldest(8, 1_000, 0) });
    let reading = crew.join(0);
    crew.append(4);
    (0..2).for_each(|_| assert_eq!(crew.take(0, reading, 3)[0].batches, 3));
    let other = crew.join(1);
    crew.append(2);
    crew.give_back(0);
    assert_eq!(told(&crew.take(1, other, 100)), [(2, 2, 4)], "nobody has acked them");
}

/// A stream of one partition as a restart at 5 finds it: when its subscription was created and put elsewhere, its cursor, when its
/// batches were appended, and the newest that were dropped.
fn restored(created_at: u64, generation: u64, (acked, gap): (u64, u64), appended_at: &[u64], dropped_at: u64) -> Crew {
    let facts = |at| BatchFacts { rows: 1, bytes: 1, producer: producer("p"), epoch: None, appended_at: Timestamp(at) };
    let subscription = SubscriptionSnapshot {
        created_at: Timestamp(created_at),
        generation: Generation(generation),
        mode: SubscriptionMode::Partitioned,
        on_overflow: OnOverflow::Hold,
        query: None,
        eviction: None,
        cursors: vec![CursorSnapshot { acked: Offset(acked), planned: Offset(0), skipped: gap, gap }],
        shares: None,
    };
    let batches = appended_at.iter().map(|at| (facts(*at), *at)).collect();
    let mut partition = PartitionSnapshot { batches, ..PartitionSnapshot::default() };
    partition.dropped.newest_at = Some(Timestamp(dropped_at));
    let snapshot = StreamSnapshot {
        options: partitioned(1),
        schemas: Vec::new(),
        state: StreamState::Open,
        epochs: EpochTotals::default(),
        partitions: vec![partition],
        subscriptions: vec![(crew(), subscription)],
        producers: Vec::new(),
    };
    let stream = Stream::restore(stream_name(), StreamId(1), snapshot, Timestamp(5)).expect("one partition");
    Crew { stream, now: Timestamp(5), ordinal: 0 }
}

/// What it has skipped may be there again: the log does not drop it at once.
#[test]
fn what_was_skipped_before_a_restart_is_told_after_it_and_does_not_come() {
    let mut crew = restored(1, 1, (3, 2), &[1, 2, 3, 4], 0);
    let reading = crew.join(0);
    let taken = crew.take(0, reading, 100);
    assert_eq!((taken[0].first, taken[0].skipped, taken[0].batches), (Offset(3), 2, 1));
}

#[test]
fn leases_after_a_restart_are_newer_than_all_that_is_known_of_before_though_the_clock_goes_back() {
    let lease = |created_at, generation, appended_at: &[u64], dropped_at| {
        restored(created_at, generation, (0, 0), appended_at, dropped_at).keep(0, LEASE)[0].lease.0
    };
    assert_eq!(lease(1, 1, &[], 1), 5, "time goes on");
    assert_eq!(lease(90, 1, &[2], 3), 91, "created");
    assert_eq!(lease(1, 90, &[2], 3), 91, "put elsewhere");
    assert_eq!(lease(1, 1, &[90, 7], 3), 91, "appended");
    assert_eq!(lease(1, 1, &[2], 90), 91, "appended and dropped since");
}

#[test]
fn who_reads_anew_goes_on_in_each_of_its_partitions_where_it_was() {
    let mut crew = Crew::new(partitioned(3));
    let reading = crew.join(0);
    crew.append(4);
    let taken = crew.take(0, reading, 100);
    let lease = |partition| taken.iter().find(|taken| taken.partition == PartitionId(partition)).expect("was taken").lease;
    // By another lease it has got nothing, nor of a partition that there is none of.
    let stale = LeaseId(lease(1).0.saturating_sub(1_000));
    let got = vec![
        by(PartitionId(2), lease(2), 3),
        by(PartitionId(1), stale, 4),
        by(PartitionId(0), lease(0), 2),
        by(PartitionId(9), lease(0), 2),
    ];
    let reading = crew.read(0, got);
    let mut again: Vec<_> = crew.take(0, reading, 100).iter().map(|taken| (taken.partition.0, taken.first.0, taken.batches)).collect();
    again.sort_unstable();
    assert_eq!(again, [(0, 2, 2), (1, 0, 4), (2, 3, 1)]);
}
