//! A durable stream of which one subscription is shared: what its consumers say and are given, in short.

pub(crate) mod rows;

use std::time::Duration;

use bowstring::engine::{
    AppenderId, Command, ConsumerId, ConsumerName, Dying, Effects, InFlight, LeaseId, LeaseUpdate, LeasedOffset, Offset, OnOverflow,
    Outcome, Part, PartitionId, ProducerId, ShareTerms, ShareView, SharingRules, Standing, Start, Stream, StreamId, StreamName,
    StreamOptions, SubscriptionMode, SubscriptionName, SubscriptionSnapshot, SubscriptionView, TakenShare, Timestamp,
};

use crate::durable::snapshot;
use crate::story::{direct, subscription};

/// How long a sign of life lasts.
pub(crate) const SIGN: Duration = Duration::from_secs(60);
/// How long a consumer may have what it was given.
pub(crate) const ACK_WITHIN: Duration = Duration::from_secs(20);
pub(crate) const P0: PartitionId = PartitionId(0);

pub(crate) struct Pool {
    pub(crate) stream: Stream<u64>,
    pub(crate) now: Timestamp,
    ordinal: u64,
    /// As the catalog has it: from when something of it changed last.
    saved: SubscriptionSnapshot,
}

pub(crate) fn name() -> SubscriptionName {
    subscription("pool")
}

/// Dead letters after so many deliveries that failed.
pub(crate) fn rules(max_deliveries: u32) -> SharingRules {
    SharingRules { max_deliveries, ..SharingRules::new(StreamName::new("dead").expect("a name")) }
}

pub(crate) fn keyed() -> SharingRules {
    SharingRules { keys: vec!["key".into()], ..rules(5) }
}

/// What a consumer may have in flight, and how many rows at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wants {
    pub(crate) in_flight: InFlight,
    pub(crate) max_rows: u64,
}

impl Default for Wants {
    fn default() -> Self {
        Self { in_flight: InFlight::default(), max_rows: u64::MAX }
    }
}

pub(crate) fn nack(lease: LeaseId, delay: Duration) -> LeaseUpdate {
    LeaseUpdate::Nack { lease, delay, reason: "no".into() }
}

impl Pool {
    pub(crate) fn new(options: StreamOptions, sharing: SharingRules) -> Self {
        Self::with(options, sharing, OnOverflow::Hold)
    }

    pub(crate) fn with(options: StreamOptions, sharing: SharingRules, on_overflow: OnOverflow) -> Self {
        let mut stream = Stream::durable(StreamName::new("s").expect("a name"), StreamId(7), options).expect("some partitions");
        let now = Timestamp(1);
        let mode = Some(SubscriptionMode::Shared);
        let made =
            Command::Subscribe { subscription: name(), start: Start::Earliest, mode, on_overflow, sharing: Some(sharing), query: None };
        stream.apply(made, now).outcome.expect("a new one");
        let saved = stream.subscription_snapshot(&name()).expect("is there");
        let mut pool = Self { stream, now, ordinal: 0, saved };
        pool.ask(Command::OpenAppender { kind: direct("p", "r"), connection: None });
        pool
    }

    /// So many partitions, without a limit that matters.
    pub(crate) fn of(partitions: u32, sharing: SharingRules) -> Self {
        Self::new(StreamOptions { partitions, ..StreamOptions::default() }, sharing)
    }

    pub(crate) fn apply(&mut self, command: Command<u64>) -> Effects {
        let effects = self.stream.apply(command, self.now);
        if effects.touched.contains(&Part::Subscription(name())) {
            self.saved = self.stream.subscription_snapshot(&name()).expect("is there");
        }
        effects
    }

    pub(crate) fn ask(&mut self, command: Command<u64>) -> Outcome {
        let shown = format!("{command:?}");
        self.apply(command).outcome.unwrap_or_else(|error| panic!("{shown}: {error}"))
    }

    /// Appends a batch of 64 bytes a row, and of 64 if it has none; whether there was room.
    pub(crate) fn append(&mut self, partition: u32, rows: u64) -> bool {
        let (appender, ordinal, partition, bytes) = (AppenderId(0), self.ordinal, PartitionId(partition), 64 * rows.max(1));
        match self.apply(Command::Reserve { appender, bytes }).outcome {
            Ok(Outcome::Reserved { .. }) => {}
            _ => return false,
        }
        self.ask(Command::Append { appender, ordinal, partition, rows, bytes, data: ordinal });
        self.ordinal += 1;
        let durable = vec![(partition, self.stream.log_end(partition).expect("is there"))];
        self.ask(Command::Settle { batches: 1, bytes, durable });
        true
    }

    pub(crate) fn wait(&mut self, time: Duration) -> Effects {
        self.now = self.now.plus(time);
        self.apply(Command::Tick)
    }

    pub(crate) fn sign(&mut self, consumer: u64, lease: Duration, wants: Wants) -> Effects {
        self.apply(Command::KeepConsumer {
            subscription: name(),
            consumer: ConsumerId(consumer),
            name: ConsumerName::new(&format!("c{consumer}")).expect("a name"),
            lease,
            in_flight: wants.in_flight,
            terms: ShareTerms { ack_within: ACK_WITHIN, max_rows: wants.max_rows },
        })
    }

    pub(crate) fn keep(&mut self, consumer: u64, wants: Wants) {
        self.sign(consumer, SIGN, wants).outcome.expect("there is room for it");
    }

    pub(crate) fn leave(&mut self, consumer: u64) -> Effects {
        self.sign(consumer, Duration::ZERO, Wants::default())
    }

    pub(crate) fn read(&mut self, consumer: u64, got: &[LeaseId]) -> Option<u64> {
        let got = got.iter().map(|lease| LeasedOffset { partition: P0, lease: *lease, offset: Offset(0) }).collect();
        match self.apply(Command::ReadLeased { subscription: name(), consumer: ConsumerId(consumer), got }).outcome {
            Ok(Outcome::Reads(reading)) => Some(reading),
            Ok(other) => panic!("{other:?}"),
            Err(_) => None,
        }
    }

    /// Joins, and begins to read; gives by which number.
    pub(crate) fn join(&mut self, consumer: u64, wants: Wants) -> u64 {
        self.keep(consumer, wants);
        self.read(consumer, &[]).expect("it has joined")
    }

    pub(crate) fn try_take(&mut self, consumer: u64, reading: u64, most: InFlight) -> Effects {
        self.apply(Command::TakeLeased { subscription: name(), consumer: ConsumerId(consumer), reading, most })
    }

    /// All that it is given.
    pub(crate) fn take(&mut self, consumer: u64, reading: u64) -> Vec<TakenShare> {
        match self.try_take(consumer, reading, InFlight::default()).outcome {
            Ok(Outcome::TakenShares(taken)) => taken,
            other => panic!("{other:?}"),
        }
    }

    /// One share at most.
    pub(crate) fn take_one(&mut self, consumer: u64, reading: u64) -> Option<TakenShare> {
        match self.try_take(consumer, reading, InFlight { batches: 1, bytes: u64::MAX }).outcome {
            Ok(Outcome::TakenShares(taken)) => taken.first().copied(),
            other => panic!("{other:?}"),
        }
    }

    /// Says what becomes of leases; gives those that are lost.
    pub(crate) fn update(&mut self, updates: Vec<LeaseUpdate>) -> Vec<LeaseId> {
        match self.ask(Command::UpdateLeases { subscription: name(), updates, resumes: None, pauses: None }) {
            Outcome::Updated { lost } => lost,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn ack(&mut self, taken: &[TakenShare]) {
        let lost = self.update(taken.iter().map(|taken| LeaseUpdate::Ack(taken.lease)).collect());
        assert_eq!(lost, [], "nobody has taken them away");
    }

    pub(crate) fn resume(&mut self, consumer: u64) -> Effects {
        self.apply(Command::UpdateLeases { subscription: name(), updates: Vec::new(), resumes: Some(ConsumerId(consumer)), pauses: None })
    }

    pub(crate) fn pause(&mut self, consumer: u64) -> Effects {
        self.apply(Command::UpdateLeases { subscription: name(), updates: Vec::new(), resumes: None, pauses: Some(ConsumerId(consumer)) })
    }

    pub(crate) fn cursor(&self, partition: u32) -> u64 {
        self.stream.cursor(&name(), PartitionId(partition)).expect("is there").0
    }

    pub(crate) fn start(&self, partition: u32) -> u64 {
        self.stream.range(PartitionId(partition)).expect("is there").0.0
    }

    pub(crate) fn dying(&self) -> Vec<Dying> {
        self.stream.dying()
    }

    pub(crate) fn standing(&self, consumer: u64, reading: u64) -> Standing {
        self.stream.standing(&name(), ConsumerId(consumer), reading).expect("it reads")
    }

    pub(crate) fn view(&self) -> SubscriptionView {
        let views = self.stream.describe(self.now).subscriptions;
        views.into_iter().find(|view| view.name == name()).expect("is there")
    }

    pub(crate) fn shares(&self, partition: usize) -> ShareView {
        self.view().partitions[partition].shares.expect("of a shared one")
    }

    /// Kills the coordinator: of the subscription it finds what was touched last.
    pub(crate) fn restart(&mut self, others: &[SubscriptionName]) {
        let mut found = snapshot(&self.stream, (others, &[ProducerId::new("p").expect("a name")]));
        found.subscriptions.push((name(), self.saved.clone()));
        // That takes longer than numbers of leases, which are times, may have run ahead.
        self.now = self.now.plus(Duration::from_millis(100));
        self.stream = Stream::restore(self.stream.name().clone(), self.stream.id(), found, self.now).expect("some partitions");
        match self.ask(Command::OpenAppender { kind: direct("p", "r"), connection: None }) {
            Outcome::Opened { appender: AppenderId(0), next_ordinal } => self.ordinal = next_ordinal,
            other => panic!("{other:?}"),
        }
    }
}
