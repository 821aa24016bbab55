//! Consumers that share a partitioned subscription, and what each of them has got: checked after every step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bowstring::engine::{
    AppenderId, AppenderKind, Code, Command, ConsumerId, ConsumerName, Effects, Holding, InFlight, LeaseId, LeasedOffset, Offset,
    OnOverflow, Outcome, PartitionId, ProducerId, Retention, RunId, Start, Stream, StreamId, StreamName, StreamOptions, SubscriptionMode,
    SubscriptionName, Taken, Timestamp,
};

const LEASE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Append {
        partition: u32,
    },
    Keep {
        consumer: u64,
    },
    Leave {
        consumer: u64,
    },
    /// Its connection breaks, and it reads on from what it has got.
    Read {
        consumer: u64,
    },
    Take {
        consumer: u64,
        batches: u64,
    },
    /// Acks so many of those that it has of a partition.
    Ack {
        consumer: u64,
        partition: u32,
        batches: u64,
    },
    /// Acks by a lease that it had once.
    AckLate {
        nth: usize,
    },
    /// Gives back what is wanted elsewhere, but for so many.
    GiveBack {
        consumer: u64,
        keeps: u64,
    },
    Wait {
        seconds: u64,
    },
    Seek {
        offset: u64,
    },
}

/// What a consumer knows of a partition that it has got batches of.
#[derive(Debug, Clone, Copy)]
struct Got {
    lease: LeaseId,
    /// The first that it got by this lease and has not acked.
    first: Offset,
    next: Offset,
    is_given_back: bool,
}

#[derive(Debug, Default)]
struct Consumer {
    reading: Option<u64>,
    got: BTreeMap<PartitionId, Got>,
}

/// A stream, and what its consumers have got.
pub(crate) struct Team {
    stream: Stream<u64>,
    now: Timestamp,
    ordinal: u64,
    in_flight: InFlight,
    consumers: BTreeMap<u64, Consumer>,
    /// Until when a sign of life holds.
    alive: BTreeMap<u64, Timestamp>,
    /// Leases that were seen once.
    leases: Vec<LeasedOffset>,
    delivered: BTreeSet<(PartitionId, Offset)>,
}

pub(crate) fn subscription() -> SubscriptionName {
    SubscriptionName::new("team").expect("a valid name")
}

fn by(partition: PartitionId, lease: LeaseId, offset: Offset) -> LeasedOffset {
    LeasedOffset { partition, lease, offset }
}

impl Team {
    pub(crate) fn new(partitions: u32, in_flight: InFlight) -> Self {
        let options = StreamOptions { partitions, ..StreamOptions::default() };
        let options = StreamOptions { retention: Retention { time: Duration::MAX, bytes: 0 }, ..options };
        let name = StreamName::new("s").expect("a valid name");
        let mut team = Self {
            stream: Stream::new(name, StreamId(7), options).expect("some partitions"),
            now: Timestamp(1),
            ordinal: 0,
            in_flight,
            consumers: BTreeMap::new(),
            alive: BTreeMap::new(),
            leases: Vec::new(),
            delivered: BTreeSet::new(),
        };
        let kind =
            AppenderKind::Direct { producer: ProducerId::new("p").expect("a valid name"), run: RunId::new("r").expect("a valid name") };
        team.done(Command::OpenAppender { kind, connection: None });
        team.done(Command::Subscribe {
            subscription: subscription(),
            start: Start::Earliest,
            mode: Some(SubscriptionMode::Partitioned),
            on_overflow: OnOverflow::Hold,
            sharing: None,
            query: None,
        });
        team
    }

    pub(crate) fn apply(&mut self, command: Command<u64>) -> Effects {
        self.stream.apply(command, self.now)
    }

    fn done(&mut self, command: Command<u64>) -> Outcome {
        let shown = format!("{command:?}");
        self.apply(command).outcome.unwrap_or_else(|error| panic!("{shown}: {error}"))
    }

    fn cursor(&self, partition: PartitionId) -> Offset {
        self.stream.cursor(&subscription(), partition).expect("is there")
    }

    fn append(&mut self, partition: u32) {
        let appender = AppenderId(0);
        let reserved = self.apply(Command::Reserve { appender, bytes: 1 });
        if reserved.outcome == Ok(Outcome::Waiting) {
            // Full: this one is not sent then.
            self.done(Command::CloseAppender { appender });
            panic!("64 batches are enough for these tests");
        }
        let (ordinal, partition) = (self.ordinal, PartitionId(partition));
        self.done(Command::Append { appender, ordinal, partition, rows: 1, bytes: 1, data: ordinal });
        self.ordinal += 1;
    }

    pub(crate) fn keep(&mut self, consumer: u64) -> Vec<Holding> {
        self.alive.insert(consumer, self.now.plus(LEASE));
        let command = Command::KeepConsumer {
            subscription: subscription(),
            consumer: ConsumerId(consumer),
            name: ConsumerName::new("c").expect("a valid name"),
            lease: LEASE,
            in_flight: self.in_flight,
            terms: bowstring::engine::ShareTerms::default(),
        };
        self.done(command);
        self.stream.holdings(&subscription(), ConsumerId(consumer)).expect("is there").1
    }

    pub(crate) fn leave(&mut self, consumer: u64) {
        self.alive.remove(&consumer);
        self.consumers.remove(&consumer);
        self.done(Command::KeepConsumer {
            subscription: subscription(),
            consumer: ConsumerId(consumer),
            name: ConsumerName::new("c").expect("a valid name"),
            lease: Duration::ZERO,
            in_flight: self.in_flight,
            terms: bowstring::engine::ShareTerms::default(),
        });
    }

    /// Reads on from what it has got, under the leases that it knows.
    fn read(&mut self, consumer: u64) {
        let known = &self.consumers.entry(consumer).or_default().got;
        let got = known.iter().filter(|(_, got)| !got.is_given_back).map(|(partition, got)| by(*partition, got.lease, got.next)).collect();
        let read = self.apply(Command::ReadLeased { subscription: subscription(), consumer: ConsumerId(consumer), got }).outcome;
        let state = self.consumers.entry(consumer).or_default();
        match read {
            Ok(Outcome::Reads(reading)) => state.reading = Some(reading),
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                assert_eq!(error.code(), Code::LeaseLost);
                *state = Consumer::default();
            }
        }
    }

    fn take(&mut self, consumer: u64, batches: u64) -> u64 {
        let Some(reading) = self.consumers.get(&consumer).and_then(|consumer| consumer.reading) else { return 0 };
        let most = InFlight { batches, bytes: u64::MAX };
        let command = Command::TakeLeased { subscription: subscription(), consumer: ConsumerId(consumer), reading, most };
        match self.apply(command).outcome {
            Ok(Outcome::Taken(taken)) => {
                let count = taken.iter().map(|taken| taken.batches).sum();
                assert!(count <= batches);
                taken.into_iter().for_each(|taken| self.receive(consumer, taken));
                let held: u64 = self.consumers[&consumer].got.values().map(|got| got.next.since(got.first)).sum();
                assert!(count == 0 || held <= self.in_flight.batches.max(1), "{held} are under way");
                count
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                assert_eq!(error.code(), Code::LeaseLost);
                self.consumers.remove(&consumer);
                0
            }
        }
    }

    fn receive(&mut self, consumer: u64, taken: Taken) {
        let Taken { lease, partition, first, skipped, batches } = taken;
        assert_eq!(skipped, 0, "nothing is dropped here");
        let cursor = self.cursor(partition);
        for (other, state) in self.consumers.iter().filter(|(other, _)| **other != consumer) {
            let Some(got) = state.got.get(&partition) else { continue };
            assert_ne!(got.lease, lease, "a lease is one consumer's");
            let is_alive = self.alive.get(other).is_some_and(|until| *until >= self.now);
            let could_ack = self.holds(*other, partition, got.lease);
            assert!(!could_ack, "{other} may ack what {consumer} gets as well");
            assert!(!is_alive || got.lease < lease);
        }
        let state = self.consumers.entry(consumer).or_default();
        let expected = state.got.get(&partition).filter(|got| got.lease == lease).map_or(cursor, |got| got.next.max(cursor));
        assert_eq!(first, expected, "nothing is left out, nothing acked comes again, and nothing twice by one lease");
        let next = first.plus(batches);
        let earliest = state.got.get(&partition).filter(|got| got.lease == lease).map_or(first, |got| got.first);
        state.got.insert(partition, Got { lease, first: earliest, next, is_given_back: false });
        self.leases.push(by(partition, lease, next));
        self.delivered.extend((first.0..next.0).map(|offset| (partition, Offset(offset))));
    }

    fn holds(&self, consumer: u64, partition: PartitionId, lease: LeaseId) -> bool {
        let mut probe = self.consumers_of_view();
        probe.remove(&consumer).is_some_and(|held| held.contains(&partition)) && {
            let known = self.leases.iter().rev().find(|known| known.partition == partition).map(|known| known.lease);
            known == Some(lease)
        }
    }

    pub(crate) fn consumers_of_view(&self) -> BTreeMap<u64, Vec<PartitionId>> {
        let view = self.stream.describe(self.now).subscriptions.remove(0);
        view.consumers.into_iter().map(|view| (view.consumer.0, view.partitions.into_iter().map(|(id, _)| id).collect())).collect()
    }

    fn ack(&mut self, consumer: u64, partition: PartitionId, batches: u64) {
        let Some(got) = self.consumers.get(&consumer).and_then(|state| state.got.get(&partition)).copied() else { return };
        let offset = got.first.plus(batches).min(got.next);
        let before = self.cursor(partition);
        let is_owner = self.consumers_of_view().get(&consumer).is_some_and(|held| held.contains(&partition));
        match self.done(Command::AckLeased { subscription: subscription(), acks: vec![by(partition, got.lease, offset)] }) {
            Outcome::Acked { lost } if lost.is_empty() => {
                assert!(is_owner, "who does not hold it acks nothing");
                assert_eq!(self.cursor(partition), offset.max(before));
                if let Some(got) = self.consumers.get_mut(&consumer).and_then(|state| state.got.get_mut(&partition)) {
                    got.first = offset;
                }
            }
            Outcome::Acked { .. } => {
                assert_eq!(self.cursor(partition), before, "a lost lease acks nothing");
                self.consumers.entry(consumer).and_modify(|state| {
                    state.got.remove(&partition);
                });
            }
            other => panic!("{other:?}"),
        }
    }

    /// What is acked by a lease that is not the partition's newest changes nothing.
    fn ack_late(&mut self, nth: usize) {
        let Some(late) = self.leases.iter().rev().nth(nth).copied() else { return };
        let is_newest = self.leases.iter().filter(|known| known.partition == late.partition).all(|known| known.lease <= late.lease);
        if is_newest {
            return;
        }
        let before = self.cursor(late.partition);
        let lost = self.done(Command::AckLeased { subscription: subscription(), acks: vec![late] });
        assert_eq!(lost, Outcome::Acked { lost: vec![late] });
        assert_eq!(self.cursor(late.partition), before);
    }

    fn give_back(&mut self, consumer: u64, keeps: u64) {
        if !self.consumers.contains_key(&consumer) || !self.consumers_of_view().contains_key(&consumer) {
            return;
        }
        let wanted: Vec<_> = self.keep(consumer).into_iter().filter(|holding| holding.is_wanted).collect();
        let state = self.consumers.entry(consumer).or_default();
        let mut from = Vec::new();
        for Holding { partition, lease, .. } in wanted {
            let Some(got) = state.got.get_mut(&partition).filter(|got| got.lease == lease) else { continue };
            got.next = got.first.plus(keeps).min(got.next);
            got.is_given_back = true;
            from.push(by(partition, lease, got.next));
        }
        self.done(Command::GiveBack { subscription: subscription(), from });
    }

    fn wait(&mut self, seconds: u64) {
        self.now = self.now.plus(Duration::from_secs(seconds));
        self.done(Command::Tick);
        let now = self.now;
        self.alive.retain(|_, until| *until >= now);
        let known: BTreeSet<_> = self.consumers_of_view().into_keys().collect();
        assert_eq!(known, self.alive.keys().copied().collect(), "who gave a sign of life in time is there, and nobody else");
    }

    fn seek(&mut self, offset: u64) {
        // Never forwards: what is skipped never comes.
        let to = Start::Offsets([(PartitionId(0), Offset(offset).min(self.cursor(PartitionId(0))))].into());
        self.done(Command::Seek { subscription: subscription(), to, dry_run: false });
        // All leases are new ones.
        self.consumers.values_mut().for_each(|state| state.got.clear());
        self.leases.clear();
    }

    pub(crate) fn run(&mut self, step: &Step) {
        match *step {
            Step::Append { partition } => self.append(partition),
            Step::Keep { consumer } => {
                let is_new = !self.alive.contains_key(&consumer);
                self.keep(consumer);
                if is_new {
                    self.consumers.insert(consumer, Consumer::default());
                    self.read(consumer);
                }
            }
            Step::Leave { consumer } => self.leave(consumer),
            Step::Read { consumer } => self.read(consumer),
            Step::Take { consumer, batches } => drop(self.take(consumer, batches)),
            Step::Ack { consumer, partition, batches } => self.ack(consumer, PartitionId(partition), batches),
            Step::AckLate { nth } => self.ack_late(nth),
            Step::GiveBack { consumer, keeps } => self.give_back(consumer, keeps),
            Step::Wait { seconds } => self.wait(seconds),
            Step::Seek { offset } => self.seek(offset),
        }
        self.check();
    }

    /// Every partition has one owner as soon as there is any consumer.
    fn check(&self) {
        let held: Vec<_> = self.consumers_of_view().into_values().flatten().collect();
        let distinct: BTreeSet<_> = held.iter().collect();
        assert_eq!(distinct.len(), held.len(), "no partition has two owners");
        let partitions = self.stream.options().partitions as usize;
        assert!(held.len() == partitions || self.consumers_of_view().is_empty(), "every partition has one");
    }

    /// Everybody who is there works until nothing is left.
    pub(crate) fn finish(&mut self) {
        if self.consumers_of_view().is_empty() {
            self.run(&Step::Keep { consumer: 9 });
        }
        for consumer in self.consumers_of_view().into_keys() {
            self.consumers.entry(consumer).or_default();
            self.read(consumer);
        }
        for _ in 0..200 {
            let mut moved = 0;
            for consumer in self.consumers_of_view().into_keys() {
                self.give_back(consumer, 1);
                moved += self.take(consumer, 2);
                for partition in 0..self.stream.options().partitions {
                    self.ack(consumer, PartitionId(partition), 2);
                }
            }
            self.check();
            let ends = (0..self.stream.options().partitions).map(PartitionId);
            if moved == 0 && ends.clone().all(|partition| Ok(self.cursor(partition)) == self.stream.range(partition).map(|(_, end)| end)) {
                return self.check_spread();
            }
        }
        panic!("it does not come to an end");
    }

    pub(crate) fn check_spread(&self) {
        let counts: Vec<_> = self.consumers_of_view().into_values().map(|held| held.len()).collect();
        let (least, most) = (counts.iter().min().copied().unwrap_or(0), counts.iter().max().copied().unwrap_or(0));
        assert!(most - least <= 1, "{counts:?} is not even");
        for partition in (0..self.stream.options().partitions).map(PartitionId) {
            let (_, end) = self.stream.range(partition).expect("is there");
            let missing: Vec<_> = (0..end.0).filter(|offset| !self.delivered.contains(&(partition, Offset(*offset)))).collect();
            assert!(missing.is_empty(), "{missing:?} of {partition} never came");
        }
    }
}
