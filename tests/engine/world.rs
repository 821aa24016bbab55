//! A stream and its model side by side, driven by operations.

use std::sync::Arc;
use std::time::Duration;

use bowstring::engine::{
    AppenderId, AppenderKind, Attempt, Command, Effects, Epoch, Error, Offset, Outcome, PartitionId, ProducerId, RunId, Start, Stream,
    StreamId, StreamName, StreamOptions, SubscriptionName, Task, Timestamp,
};

use crate::model::{Doing, Model};
use crate::operations::{Begin, Number, Operation, Ordinal, Run, Size, Where, Winners};

/// One command and all that was seen of it.
pub(crate) struct Step {
    pub(crate) command: Command<u64>,
    pub(crate) effects: Effects,
    /// The model as it was.
    pub(crate) before: Model,
}

pub(crate) struct World {
    pub(crate) stream: Stream<u64>,
    pub(crate) model: Model,
    pub(crate) now: Timestamp,
    next_data: u64,
    next_anonymous: u64,
    /// Every appender that was ever opened, so that closed ones are tried too.
    opened: Vec<AppenderId>,
    /// Runs so far, per producer.
    runs: [u64; 2],
}

impl World {
    pub(crate) fn new(options: StreamOptions) -> Self {
        let name = StreamName::new("s").expect("a valid name");
        Self {
            stream: Stream::new(name, StreamId(7), options.clone()).expect("1 to 3 partitions"),
            model: Model::new(options),
            now: Timestamp(0),
            next_data: 0,
            next_anonymous: 0,
            opened: Vec::new(),
            runs: [0; 2],
        }
    }

    /// Runs the operations; `check` sees every step.
    pub(crate) fn drive(options: StreamOptions, operations: &[Operation], mut check: impl FnMut(&World, &Step)) -> Self {
        let mut world = Self::new(options);
        for operation in operations {
            world.run(operation, &mut check);
        }
        world
    }

    fn run(&mut self, operation: &Operation, check: &mut impl FnMut(&World, &Step)) {
        match operation {
            Operation::Put { appender, partition, bytes } => {
                if let Some(id) = self.appender(*appender, |model, id| model.doing(id) == Doing::Nothing) {
                    self.put(id, self.partition(*partition), *bytes, check);
                }
            }
            Operation::Attempt { producer, task, attempt, sizes } => {
                let (run, epoch) = (Run::Current, Number::Ahead(1));
                let open = Operation::OpenWriter { producer: *producer, run, epoch, task: *task, attempt: *attempt };
                let Some(open) = self.command(&open) else { return };
                let Ok(Outcome::Opened { appender, .. }) = self.step(open, check) else { return };
                for (number, bytes) in (0..).zip(sizes) {
                    self.put(appender, self.partition(number % 3), *bytes, check);
                }
                let _ = self.step(Command::FinishWriter { appender }, check);
            }
            simple => {
                if let Some(command) = self.command(simple) {
                    let _ = self.step(command, check);
                }
            }
        }
    }

    fn step(&mut self, command: Command<u64>, check: &mut impl FnMut(&World, &Step)) -> Result<Outcome, Error> {
        let step = self.apply(command);
        check(self, &step);
        step.effects.outcome
    }

    /// Reserves, and appends if there is room at once.
    fn put(&mut self, appender: AppenderId, partition: PartitionId, bytes: u64, check: &mut impl FnMut(&World, &Step)) {
        if let Ok(Outcome::Reserved { .. }) = self.step(Command::Reserve { appender, bytes }, check) {
            self.next_data += 1;
            let (ordinal, data) = (self.ordinal(appender, Ordinal::Expected), self.next_data);
            let _ = self.step(Command::Append { appender, ordinal, partition, rows: bytes % 4, bytes, data }, check);
        }
    }

    pub(crate) fn apply(&mut self, command: Command<u64>) -> Step {
        let before = self.model.clone();
        let effects = self.stream.apply(command.clone(), self.now);
        let starts: Vec<_> = (0..self.model.logs.len()).map(|partition| self.range(partition).0.0).collect();
        self.model.note(&command, &effects, &starts, self.now);
        if let Ok(Outcome::Opened { appender, .. }) = effects.outcome {
            self.opened.push(appender);
        }
        Step { command, effects, before }
    }

    pub(crate) fn range(&self, partition: usize) -> (Offset, Offset) {
        self.stream.range(partition_id(partition)).expect("it exists")
    }

    /// Offset and data of what can be read in a partition.
    pub(crate) fn readable(&self, partition: usize) -> Vec<(u64, u64)> {
        let (start, _) = self.range(partition);
        let batches = self.stream.read(partition_id(partition), start, usize::MAX, u64::MAX).expect("the start is kept");
        batches.into_iter().map(|batch| (batch.offset.0, batch.data)).collect()
    }

    pub(crate) fn all_readable(&self) -> Vec<Vec<(u64, u64)>> {
        (0..self.model.logs.len()).map(|partition| self.readable(partition)).collect()
    }

    /// The offsets one past the last visible batch of every partition.
    pub(crate) fn ends(&self) -> Vec<(PartitionId, Offset)> {
        (0..self.model.logs.len()).map(|partition| (partition_id(partition), self.range(partition).1)).collect()
    }

    /// Everything that can be seen of the stream, as text, but for the counts of replays.
    pub(crate) fn appearance(&self) -> String {
        let mut view = self.stream.describe(self.now);
        view.epochs_replayed = 0;
        format!("{view:?} {:?}", self.all_readable())
    }

    fn command(&mut self, operation: &Operation) -> Option<Command<u64>> {
        Some(match operation {
            Operation::OpenAnonymous => {
                self.next_anonymous += 1;
                let producer = ProducerId::new(&format!("anonymous-{}", self.next_anonymous)).expect("a valid name");
                Command::OpenAppender { kind: AppenderKind::Anonymous { producer }, connection: None }
            }
            Operation::OpenDirect { producer, run } => {
                let run = self.resolve_run(*producer, *run);
                Command::OpenAppender { kind: AppenderKind::Direct { producer: producer_id(*producer), run }, connection: None }
            }
            Operation::OpenWriter { producer, run, epoch, task, attempt } => {
                let (run, epoch) = (self.resolve_run(*producer, *run), self.epoch(*producer, *epoch));
                let (producer, task, attempt) = (producer_id(*producer), Task(*task), Attempt(*attempt));
                Command::OpenAppender { kind: AppenderKind::Writer { producer, run, epoch, task, attempt }, connection: None }
            }
            Operation::Reserve { appender, bytes } => {
                let appender = self.appender(*appender, |model, id| model.doing(id) == Doing::Nothing)?;
                Command::Reserve { appender, bytes: *bytes }
            }
            Operation::Append { appender, ordinal, partition, rows, size } => {
                let appender = self.appender(*appender, |model, id| matches!(model.doing(id), Doing::Reserved(..)))?;
                self.next_data += 1;
                let (ordinal, bytes) = (self.ordinal(appender, *ordinal), self.size(appender, *size));
                Command::Append { appender, ordinal, partition: self.partition(*partition), rows: *rows, bytes, data: self.next_data }
            }
            Operation::Put { .. } | Operation::Attempt { .. } => unreachable!("`run` takes them apart"),
            Operation::Finish { appender } => {
                Command::FinishWriter { appender: self.appender(*appender, |model, id| model.appenders[&id].kind.epoch().is_some())? }
            }
            Operation::Close { appender } => Command::CloseAppender { appender: self.appender(*appender, |_, _| true)? },
            Operation::OpenEpoch { producer, run, epoch } => {
                let (run, epoch) = (self.resolve_run(*producer, *run), self.epoch(*producer, *epoch));
                Command::OpenEpoch { producer: producer_id(*producer), run, epoch }
            }
            Operation::Commit { producer, run, epoch, winners } => {
                let (run, epoch) = (self.resolve_run(*producer, *run), self.epoch(*producer, *epoch));
                let receipts = self.receipts(*producer, epoch, *winners);
                Command::CommitEpoch { producer: producer_id(*producer), run, epoch, receipts }
            }
            Operation::Abort { producer, run, epoch } => {
                let (run, epoch) = (self.resolve_run(*producer, *run), self.epoch(*producer, *epoch));
                Command::AbortEpoch { producer: producer_id(*producer), run, epoch }
            }
            Operation::Keep { producer, run, seconds } => {
                let run = self.resolve_run(*producer, *run);
                Command::KeepProducer { producer: producer_id(*producer), run, lease: Duration::from_secs(*seconds) }
            }
            Operation::Subscribe { subscription, start, on_overflow } => {
                let (subscription, on_overflow) = (subscription_name(*subscription), *on_overflow);
                Command::Subscribe { subscription, start: self.start(start), mode: None, on_overflow, sharing: None, query: None }
            }
            Operation::Unsubscribe { subscription } => Command::Unsubscribe { subscription: subscription_name(*subscription) },
            Operation::Ack { subscription, offsets } => {
                let subscription = subscription_name(*subscription);
                let generation = self.stream.generation(&subscription).ok();
                Command::Ack { subscription, generation, offsets: self.offsets(offsets) }
            }
            Operation::Plan { subscription, offsets } => {
                Command::Plan { subscription: subscription_name(*subscription), offsets: self.offsets(offsets) }
            }
            Operation::Seek { subscription, to, dry_run } => {
                Command::Seek { subscription: subscription_name(*subscription), to: self.start(to), dry_run: *dry_run }
            }
            Operation::Complete => Command::Complete,
            Operation::Fail => Command::Fail { reason: Arc::from("the source broke") },
            Operation::Tick { seconds } => {
                self.now = self.now.plus(Duration::from_secs(*seconds));
                Command::Tick
            }
        })
    }

    /// Mostly one that may go on and is `fit`; now and then any that ever was.
    fn appender(&self, pick: u16, fit: impl Fn(&Model, AppenderId) -> bool) -> Option<AppenderId> {
        let open = self.model.appenders.keys().copied().filter(|id| self.model.may_go_on(*id));
        let fit: Vec<_> = open.filter(|id| fit(&self.model, *id)).collect();
        let among = if pick.is_multiple_of(16) { &self.opened } else { &fit };
        (!among.is_empty()).then(|| among[usize::from(pick / 16) % among.len()])
    }

    fn partition(&self, number: u32) -> PartitionId {
        PartitionId(if number < 3 { number % self.model.options.partitions } else { number })
    }

    fn resolve_run(&mut self, producer: u8, run: Run) -> RunId {
        let runs = &mut self.runs[usize::from(producer)];
        let number = match run {
            Run::Current => *runs,
            Run::Next => {
                *runs += 1;
                *runs
            }
            Run::Stale => runs.saturating_sub(1),
        };
        RunId::new(&format!("run-{number}")).expect("a valid name")
    }

    fn epoch(&self, producer: u8, number: Number) -> Epoch {
        let committed = self.model.producers.get(&producer_id(producer)).and_then(|state| state.committed);
        let next = committed.map_or(0, |epoch| epoch.0.saturating_add(1));
        match number {
            Number::Ahead(by) => Epoch(next.saturating_add(by - 1)),
            Number::Committed => committed.unwrap_or_default(),
            Number::Largest => Epoch(u64::MAX),
        }
    }

    fn ordinal(&self, appender: AppenderId, ordinal: Ordinal) -> u64 {
        let expected = self.model.next_ordinal(appender).unwrap_or(0);
        match ordinal {
            Ordinal::Expected => expected,
            Ordinal::Resend => expected.saturating_sub(1),
            Ordinal::Gap => expected + 1,
            Ordinal::Largest => u64::MAX,
        }
    }

    fn size(&self, appender: AppenderId, size: Size) -> u64 {
        let Doing::Reserved(_, reserved) = self.model.doing(appender) else { return 1 };
        match size {
            Size::Reserved => reserved,
            Size::OneLess => reserved.saturating_sub(1),
            Size::OneMore => reserved + 1,
        }
    }

    fn receipts(&self, producer: u8, epoch: Epoch, winners: Winners) -> Vec<(Task, Attempt)> {
        let writers = self.model.producers.get(&producer_id(producer)).and_then(|state| state.epochs.get(&epoch));
        let finished = writers.into_iter().flatten().filter(|(_, writer)| writer.finished).map(|(key, _)| *key);
        let mut finished: Vec<_> = finished.collect();
        if let Winners::Finished(1) = winners {
            finished.reverse();
        }
        finished.dedup_by_key(|(task, _)| *task);
        match winners {
            Winners::Finished(_) => (),
            Winners::AllButOne => drop(finished.pop()),
            Winners::Unknown => finished.push((Task(9), Attempt(9))),
            Winners::Twice => finished.extend_from_within(..),
        }
        finished
    }

    fn start(&self, begin: &Begin) -> Start {
        match begin {
            Begin::Earliest => Start::Earliest,
            Begin::Latest => Start::Latest,
            Begin::Offsets(offsets) => Start::Offsets(self.offsets(offsets).into_iter().collect()),
            Begin::Ago(seconds) => Start::Time(Timestamp(self.now.0.saturating_sub(seconds * 1_000_000))),
            Begin::Epoch { producer, back } => {
                let next = self.epoch(producer.unwrap_or_default(), Number::Ahead(2));
                Start::Epoch { producer: producer.map(producer_id), epoch: Epoch(next.0.saturating_sub(*back)) }
            }
        }
    }

    fn offsets(&self, offsets: &[(u32, Where)]) -> Vec<(PartitionId, Offset)> {
        let resolve = |(partition, place): &(u32, Where)| {
            let partition = self.partition(*partition);
            let (start, end) = self.stream.range(partition).unwrap_or_default();
            let offset = match place {
                Where::Within(hundredths) => start.plus(end.since(start) * hundredths / 100),
                Where::End => end,
                Where::BeforeStart => Offset(start.0.saturating_sub(1)),
                Where::Ahead => end.plus(1),
                Where::Largest => Offset(u64::MAX),
            };
            (partition, offset)
        };
        offsets.iter().map(resolve).collect()
    }
}

fn partition_id(index: usize) -> PartitionId {
    PartitionId(u32::try_from(index).expect("at most three partitions"))
}

fn producer_id(number: u8) -> ProducerId {
    ProducerId::new(&format!("producer-{number}")).expect("a valid name")
}

pub(crate) fn subscription_name(number: u8) -> SubscriptionName {
    SubscriptionName::new(&format!("subscription-{number}")).expect("a valid name")
}
