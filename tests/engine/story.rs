//! Short stories by hand: the same stream and model, driven command by command.

use bowstring::engine::{
    AppenderId, AppenderKind, Attempt, Command, Effects, Epoch, Error, FullPolicy, Limits, Offset, OnOverflow, Outcome, PartitionId, Place,
    ProducerId, RunId, Start, StreamOptions, SubscriptionName, Task,
};

use crate::world::World;

/// A stream whose state is compared with the model's after every command.
pub(crate) struct Story {
    pub(crate) world: World,
}

impl Story {
    /// One partition, this much of everything, policy wait.
    pub(crate) fn new(max_buffered_batches: u64, max_buffered_bytes: u64, max_spool_bytes: u64) -> Self {
        Self::with(options(max_buffered_batches, max_buffered_bytes, max_spool_bytes))
    }

    pub(crate) fn with(options: StreamOptions) -> Self {
        Self { world: World::new(options) }
    }

    pub(crate) fn effects(&mut self, command: Command<u64>) -> Effects {
        let effects = self.world.apply(command).effects;
        let (view, usage) = (self.world.stream.describe(self.world.now), self.world.model.usage());
        assert_eq!((view.buffered_batches, view.buffered_bytes), (usage.memory_batches, usage.memory_bytes));
        assert_eq!((view.spooled_batches, view.spooled_bytes), (usage.spool_batches, usage.spool_bytes));
        assert_eq!(view.waiting.iter().map(|wait| wait.appender).collect::<Vec<_>>(), self.world.model.line);
        effects
    }

    pub(crate) fn ask(&mut self, command: Command<u64>) -> Result<Outcome, Error> {
        self.effects(command).outcome
    }

    pub(crate) fn open(&mut self, kind: AppenderKind) -> AppenderId {
        match self.ask(Command::OpenAppender { kind, connection: None }) {
            Ok(Outcome::Opened { appender, .. }) => appender,
            other => panic!("not opened: {other:?}"),
        }
    }

    pub(crate) fn reserve(&mut self, appender: AppenderId, bytes: u64) -> Result<Outcome, Error> {
        self.ask(Command::Reserve { appender, bytes })
    }

    /// Appends to partition 0; the batch's data is its ordinal.
    pub(crate) fn append(&mut self, appender: AppenderId, ordinal: u64, bytes: u64) -> Result<Outcome, Error> {
        self.ask(Command::Append { appender, ordinal, partition: PartitionId(0), rows: 1, bytes, data: ordinal })
    }

    /// Reserves and appends; says where the batch went.
    pub(crate) fn put(&mut self, appender: AppenderId, ordinal: u64, bytes: u64) -> Place {
        match self.reserve(appender, bytes) {
            Ok(Outcome::Reserved { place }) => {
                let appended = self.append(appender, ordinal, bytes);
                assert!(matches!(appended, Ok(Outcome::Appended { .. })), "{appended:?}");
                place
            }
            other => panic!("no room: {other:?}"),
        }
    }

    /// A writer's whole attempt, of batches of one byte.
    pub(crate) fn attempt(&mut self, kind: AppenderKind, batches: u64) -> AppenderId {
        let appender = self.open(kind);
        for ordinal in 0..batches {
            self.put(appender, ordinal, 1);
        }
        assert!(matches!(self.ask(Command::FinishWriter { appender }), Ok(Outcome::Receipt(_))));
        appender
    }

    pub(crate) fn commit(&mut self, epoch: u64, receipts: &[(u32, u64)]) -> Effects {
        let receipts = receipts.iter().map(|(task, attempt)| (Task(*task), Attempt(*attempt))).collect();
        self.effects(Command::CommitEpoch { producer: producer("p"), run: run("r"), epoch: Epoch(epoch), receipts })
    }

    pub(crate) fn subscribe(&mut self, name: &str) {
        let subscribed = self.ask(Command::Subscribe {
            subscription: subscription(name),
            start: Start::Earliest,
            mode: None,
            on_overflow: OnOverflow::Hold,
            sharing: None,
            query: None,
        });
        assert_eq!(subscribed, Ok(Outcome::Done));
    }

    /// Acks partition 0 up to an offset, that one not.
    pub(crate) fn ack(&mut self, name: &str, offset: u64) -> Effects {
        self.effects(Command::Ack { subscription: subscription(name), generation: None, offsets: vec![(PartitionId(0), Offset(offset))] })
    }

    /// Plans partition 0 up to an offset, that one not.
    pub(crate) fn plan(&mut self, name: &str, offset: u64) -> Effects {
        self.effects(Command::Plan { subscription: subscription(name), offsets: vec![(PartitionId(0), Offset(offset))] })
    }

    /// Data of what is visible in partition 0.
    pub(crate) fn visible(&self) -> Vec<u64> {
        self.world.readable(0).into_iter().map(|(_, data)| data).collect()
    }
}

pub(crate) fn options(max_buffered_batches: u64, max_buffered_bytes: u64, max_spool_bytes: u64) -> StreamOptions {
    StreamOptions {
        limits: Limits { max_buffered_batches, max_buffered_bytes, max_spool_bytes, ..Limits::default() },
        ..StreamOptions::default()
    }
}

pub(crate) fn drop_oldest(max_buffered_batches: u64, max_buffered_bytes: u64, max_spool_bytes: u64) -> StreamOptions {
    StreamOptions { full_policy: FullPolicy::DropOldest, ..options(max_buffered_batches, max_buffered_bytes, max_spool_bytes) }
}

pub(crate) fn reject(max_buffered_batches: u64, max_buffered_bytes: u64, max_spool_bytes: u64) -> StreamOptions {
    StreamOptions { full_policy: FullPolicy::Reject, ..options(max_buffered_batches, max_buffered_bytes, max_spool_bytes) }
}

pub(crate) fn reserved(place: Place) -> Result<Outcome, Error> {
    Ok(Outcome::Reserved { place })
}

pub(crate) fn anonymous(name: &str) -> AppenderKind {
    AppenderKind::Anonymous { producer: producer(name) }
}

pub(crate) fn direct(name: &str, of: &str) -> AppenderKind {
    AppenderKind::Direct { producer: producer(name), run: run(of) }
}

/// A writer of producer `p`, run `r`.
pub(crate) fn writer(epoch: u64, task: u32, attempt: u64) -> AppenderKind {
    writer_of("p", "r", epoch, task, attempt)
}

pub(crate) fn writer_of(name: &str, of: &str, epoch: u64, task: u32, attempt: u64) -> AppenderKind {
    AppenderKind::Writer { producer: producer(name), run: run(of), epoch: Epoch(epoch), task: Task(task), attempt: Attempt(attempt) }
}

/// Of producer `p`, run `r`.
pub(crate) fn open_epoch(epoch: u64) -> Command<u64> {
    Command::OpenEpoch { producer: producer("p"), run: run("r"), epoch: Epoch(epoch) }
}

pub(crate) fn producer(name: &str) -> ProducerId {
    ProducerId::new(name).expect("a valid name")
}

pub(crate) fn run(name: &str) -> RunId {
    RunId::new(name).expect("a valid name")
}

pub(crate) fn subscription(name: &str) -> SubscriptionName {
    SubscriptionName::new(name).expect("a valid name")
}
