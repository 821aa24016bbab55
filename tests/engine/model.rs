//! The plain model: what a stream should hold, kept in lists and worked out anew each time.
//!
//! The model takes the engine's word for what was admitted where; everything that follows from it (what is
//! visible, staged, reserved, dropped, waiting) it works out itself, without the engine's shortcuts.

mod note;
mod overflow;
mod start;

use std::collections::{BTreeMap, BTreeSet};

use bowstring::engine::{
    AppenderId, AppenderKind, Attempt, Command, Epoch, OnOverflow, Place, ProducerId, RunId, StreamOptions, SubscriptionName, Task,
    Timestamp, Visibility,
};

/// A batch that was taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) data: u64,
    pub(crate) partition: usize,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) place: Place,
    pub(crate) producer: ProducerId,
    pub(crate) epoch: Option<Epoch>,
    pub(crate) appended_at: Timestamp,
    pub(crate) writer: Option<(Task, Attempt)>,
    /// How many batches had become visible in the stream before it.
    pub(crate) age: usize,
}

/// Every batch that ever became visible in a partition; those before `start` are dropped.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    pub(crate) start: usize,
    pub(crate) batches: Vec<Held>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) acked: u64,
    pub(crate) planned: u64,
    pub(crate) skipped: u64,
    pub(crate) gap: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Writer {
    pub(crate) appender: AppenderId,
    pub(crate) staged: Vec<Held>,
    pub(crate) next_ordinal: u64,
    pub(crate) finished: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Producer {
    pub(crate) run: RunId,
    pub(crate) fenced: BTreeSet<RunId>,
    pub(crate) committed: Option<Epoch>,
    pub(crate) epochs: BTreeMap<Epoch, BTreeMap<(Task, Attempt), Writer>>,
    pub(crate) aborted: BTreeSet<Epoch>,
    pub(crate) direct: Option<AppenderId>,
    pub(crate) direct_next_ordinal: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doing {
    Nothing,
    Waiting(u64),
    Reserved(Place, u64),
}

#[derive(Debug, Clone)]
pub(crate) struct Appender {
    pub(crate) kind: AppenderKind,
    pub(crate) doing: Doing,
    pub(crate) anonymous_next_ordinal: u64,
}

/// Batches and bytes in memory, bytes in the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Usage {
    pub(crate) memory_batches: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) spool_batches: u64,
    pub(crate) spool_bytes: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) options: StreamOptions,
    pub(crate) logs: Vec<Log>,
    pub(crate) subscriptions: BTreeMap<SubscriptionName, Vec<Cursor>>,
    pub(crate) kinds: BTreeMap<SubscriptionName, OnOverflow>,
    pub(crate) evicted: BTreeSet<SubscriptionName>,
    pub(crate) producers: BTreeMap<ProducerId, Producer>,
    pub(crate) appenders: BTreeMap<AppenderId, Appender>,
    pub(crate) line: Vec<AppenderId>,
    pub(crate) ended: bool,
    shown: usize,
    now: Timestamp,
}

impl Model {
    pub(crate) fn new(options: StreamOptions) -> Self {
        Self {
            logs: vec![Log::default(); options.partitions as usize],
            options,
            subscriptions: BTreeMap::new(),
            kinds: BTreeMap::new(),
            evicted: BTreeSet::new(),
            producers: BTreeMap::new(),
            appenders: BTreeMap::new(),
            line: Vec::new(),
            ended: false,
            shown: 0,
            now: Timestamp(0),
        }
    }

    /// Whether an appender is open and nobody has taken its place.
    pub(crate) fn may_go_on(&self, id: AppenderId) -> bool {
        let Some(appender) = self.appenders.get(&id) else { return false };
        let Some(producer) = self.producers.get(appender.kind.producer()) else { return true };
        match &appender.kind {
            AppenderKind::Anonymous { .. } => true,
            AppenderKind::Direct { run, .. } => producer.run == *run && producer.direct == Some(id),
            AppenderKind::Writer { run, epoch, task, attempt, .. } => {
                let writer = producer.epochs.get(epoch).and_then(|writers| writers.get(&(*task, *attempt)));
                producer.run == *run && writer.is_some_and(|writer| writer.appender == id)
            }
        }
    }

    /// The ordinal that an appender is to append next, if it may append.
    pub(crate) fn next_ordinal(&self, id: AppenderId) -> Option<u64> {
        let appender = self.appenders.get(&id).filter(|_| self.may_go_on(id))?;
        match &appender.kind {
            AppenderKind::Anonymous { .. } => Some(appender.anonymous_next_ordinal),
            AppenderKind::Direct { producer, .. } => Some(self.producers[producer].direct_next_ordinal),
            AppenderKind::Writer { producer, epoch, task, attempt, .. } => {
                Some(self.producers[producer].epochs[epoch][&(*task, *attempt)].next_ordinal)
            }
        }
    }

    pub(crate) fn doing(&self, id: AppenderId) -> Doing {
        self.appenders.get(&id).map_or(Doing::Nothing, |appender| appender.doing)
    }

    /// What is visible in a partition, oldest first.
    pub(crate) fn visible(&self, partition: usize) -> &[Held] {
        &self.logs[partition].batches[self.logs[partition].start..]
    }

    pub(crate) fn staged(&self) -> impl Iterator<Item = &Held> {
        let epochs = self.producers.values().flat_map(|producer| producer.epochs.values());
        epochs.flat_map(|writers| writers.values()).flat_map(|writer| &writer.staged)
    }

    /// Everything that takes room, added up from nothing.
    pub(crate) fn usage(&self) -> Usage {
        let visible = (0..self.logs.len()).flat_map(|partition| self.visible(partition));
        let batches = visible.chain(self.staged()).map(|batch| (batch.place, batch.bytes));
        let reserved = self.appenders.values().filter_map(|appender| match appender.doing {
            Doing::Reserved(place, bytes) => Some((place, bytes)),
            Doing::Nothing | Doing::Waiting(_) => None,
        });
        let mut usage = Usage::default();
        for (place, bytes) in batches.chain(reserved) {
            match place {
                Place::Memory => (usage.memory_batches, usage.memory_bytes) = (usage.memory_batches + 1, usage.memory_bytes + bytes),
                Place::Spool => (usage.spool_batches, usage.spool_bytes) = (usage.spool_batches + 1, usage.spool_bytes + bytes),
                Place::Log => panic!("the model is of streams in memory"),
            }
        }
        usage
    }

    /// Whether every visible batch is acked or planned by every subscription that does not give way, and there is any subscription.
    pub(crate) fn all_unblocked(&self) -> bool {
        self.logs.iter().enumerate().all(|(index, log)| {
            let reached = |cursors: &Vec<Cursor>| cursors[index].acked.max(cursors[index].planned) >= log.batches.len() as u64;
            self.visible(index).is_empty() || (!self.subscriptions.is_empty() && self.firm().all(reached))
        })
    }

    /// Whether somebody holds a reservation whose batch will be visible as soon as it comes.
    pub(crate) fn is_passing(&self) -> bool {
        self.appenders.values().any(|appender| {
            let visible = appender.kind.epoch().is_none() || self.options.visibility == Visibility::Immediate;
            visible && matches!(appender.doing, Doing::Reserved(..))
        })
    }
}

/// The producer and run that a command names.
pub(crate) fn named_run(command: &Command<u64>) -> Option<(&ProducerId, &RunId)> {
    match command {
        Command::OpenAppender { kind: AppenderKind::Direct { producer, run } | AppenderKind::Writer { producer, run, .. }, .. }
        | Command::OpenEpoch { producer, run, .. }
        | Command::CommitEpoch { producer, run, .. }
        | Command::AbortEpoch { producer, run, .. }
        | Command::KeepProducer { producer, run, .. } => Some((producer, run)),
        _ => None,
    }
}

/// The appender that a command speaks for.
pub(crate) fn named_appender(command: &Command<u64>) -> Option<AppenderId> {
    match command {
        Command::Reserve { appender, .. }
        | Command::Append { appender, .. }
        | Command::FinishWriter { appender }
        | Command::CloseAppender { appender } => Some(*appender),
        _ => None,
    }
}
