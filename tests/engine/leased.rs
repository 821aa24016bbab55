//! Leases by hand: what consumers that share a partitioned subscription are told where something is in their way.

use std::time::Duration;

use bowstring::engine::{
    AppenderId, Command, ConsumerId, ConsumerName, Effects, Holding, InFlight, LeaseId, LeasedOffset, Offset, OnOverflow, Outcome,
    PartitionId, Standing, Start, Stream, StreamId, StreamName, StreamOptions, SubscriptionMode, SubscriptionName, Taken, Timestamp,
};

use crate::story::{anonymous, options};

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
        self.ask(Command::KeepConsumer { subscription: crew(), consumer: ConsumerId(consumer), name, lease, in_flight });
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
