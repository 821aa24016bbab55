//! How the model follows the engine, command by command.

use std::collections::{BTreeMap, BTreeSet};

use bowstring::engine::{
    AppenderId, AppenderKind, Attempt, Command, Effects, Epoch, EpochState, Error, FullPolicy, Offset, Outcome, PartitionId, ProducerId,
    Start, SubscriptionName, Task, Timestamp, Visibility,
};

use super::{Appender, Cursor, Doing, Held, Model, Producer, Writer, named_run};

impl Model {
    /// Takes note of what the engine did at that time. `starts` are the partitions' earliest offsets afterwards; only what
    /// `drop_oldest` has dropped is taken from them.
    pub(crate) fn note(&mut self, command: &Command<u64>, effects: &Effects, starts: &[u64], now: Timestamp) {
        self.now = now;
        self.note_run(command, &effects.outcome);
        self.note_command(command, &effects.outcome);
        for (id, place) in &effects.granted {
            if let Doing::Waiting(bytes) = self.doing(*id) {
                self.set(*id, Doing::Reserved(*place, bytes));
            }
        }
        for (id, _) in &effects.refused {
            self.set(*id, Doing::Nothing);
        }
        let stopped: Vec<_> = self.appenders.keys().copied().filter(|id| !self.may_go_on(*id)).collect();
        stopped.into_iter().for_each(|id| self.set(id, Doing::Nothing));
        self.drop_acked();
        if self.options.full_policy == FullPolicy::DropOldest {
            self.drop_oldest(starts);
        }
    }

    fn note_run(&mut self, command: &Command<u64>, outcome: &Result<Outcome, Error>) {
        let Some((producer, run)) = named_run(command) else { return };
        let opens = matches!(command, Command::OpenAppender { .. });
        if matches!(outcome, Err(Error::Fenced { .. })) || (opens && self.ended) {
            return;
        }
        let state = self.producers.entry(producer.clone()).or_insert_with(|| Producer {
            run: run.clone(),
            fenced: BTreeSet::new(),
            committed: None,
            epochs: BTreeMap::new(),
            aborted: BTreeSet::new(),
            direct: None,
            direct_next_ordinal: 0,
        });
        if state.run != *run {
            state.fenced.insert(std::mem::replace(&mut state.run, run.clone()));
            state.epochs.clear();
            state.aborted.clear();
            state.direct = None;
            state.direct_next_ordinal = 0;
        }
    }

    fn note_command(&mut self, command: &Command<u64>, outcome: &Result<Outcome, Error>) {
        match (command, outcome) {
            (Command::OpenAppender { kind, .. }, Ok(Outcome::Opened { appender, .. })) => self.open(*appender, kind),
            (Command::Reserve { appender, bytes }, outcome) => self.reserve(*appender, *bytes, outcome),
            (Command::Append { appender, ordinal, partition, rows, bytes, data }, outcome) => {
                self.append(*appender, *ordinal, *partition, (*rows, *bytes, *data), outcome);
            }
            (Command::FinishWriter { appender }, Ok(_)) => {
                if let Some(writer) = self.writer(*appender) {
                    writer.finished = true;
                }
            }
            (Command::CloseAppender { appender }, _) => self.close(*appender),
            (Command::OpenEpoch { producer, epoch, .. }, Ok(Outcome::Epoch(EpochState::Open))) => {
                self.producer(producer).epochs.entry(*epoch).or_default();
                self.producer(producer).aborted.remove(epoch);
            }
            (Command::CommitEpoch { producer, epoch, receipts, .. }, Ok(Outcome::Epoch(EpochState::Committed))) => {
                self.commit(producer, *epoch, receipts);
            }
            (Command::AbortEpoch { producer, epoch, .. }, Ok(Outcome::Epoch(EpochState::Aborted))) => {
                self.producer(producer).epochs.remove(epoch);
                self.producer(producer).aborted.insert(*epoch);
            }
            (Command::Subscribe { subscription, start, .. }, Ok(_)) => self.subscribe(subscription, start),
            (Command::Unsubscribe { subscription }, Ok(_)) => {
                self.subscriptions.remove(subscription);
            }
            (Command::Ack { subscription, offsets, .. }, Ok(_)) => {
                self.each_cursor(subscription, offsets, |cursor, offset| cursor.acked = cursor.acked.max(offset));
            }
            (Command::Plan { subscription, offsets }, Ok(_)) => {
                self.each_cursor(subscription, offsets, |cursor, offset| cursor.planned = cursor.planned.max(offset));
            }
            (Command::Seek { subscription, to, dry_run: false }, Ok(_)) => self.seek(subscription, to),
            (Command::Complete | Command::Fail { .. }, Ok(_)) => {
                self.ended = true;
                self.producers.values_mut().for_each(|producer| producer.epochs.clear());
            }
            _ => (),
        }
    }

    fn open(&mut self, id: AppenderId, kind: &AppenderKind) {
        self.appenders.insert(id, Appender { kind: kind.clone(), doing: Doing::Nothing, anonymous_next_ordinal: 0 });
        match kind {
            AppenderKind::Anonymous { .. } => (),
            AppenderKind::Direct { producer, .. } => self.producer(producer).direct = Some(id),
            AppenderKind::Writer { producer, epoch, task, attempt, .. } => {
                let new = Writer { appender: id, staged: Vec::new(), next_ordinal: 0, finished: false };
                let writers = self.producer(producer).epochs.entry(*epoch).or_default();
                writers.entry((*task, *attempt)).or_insert(new).appender = id;
            }
        }
    }

    fn reserve(&mut self, id: AppenderId, bytes: u64, outcome: &Result<Outcome, Error>) {
        if self.ended || !self.may_go_on(id) {
            return;
        }
        self.set(id, Doing::Nothing);
        match outcome {
            Ok(Outcome::Reserved { place }) => self.set(id, Doing::Reserved(*place, bytes)),
            Ok(Outcome::Waiting) => {
                self.set(id, Doing::Waiting(bytes));
                self.line.push(id);
            }
            _ => (),
        }
    }

    fn append(
        &mut self,
        id: AppenderId,
        ordinal: u64,
        partition: PartitionId,
        (rows, bytes, data): (u64, u64, u64),
        outcome: &Result<Outcome, Error>,
    ) {
        let doing = self.doing(id);
        let expected = self.next_ordinal(id);
        self.set(id, Doing::Nothing);
        let (Ok(_), Some(expected), Doing::Reserved(place, _)) = (outcome, expected, doing) else { return };
        if ordinal != expected {
            return;
        }
        let kind = self.appenders[&id].kind.clone();
        let (producer, epoch) = (kind.producer().clone(), kind.epoch());
        let writer = match &kind {
            AppenderKind::Writer { task, attempt, .. } => Some((*task, *attempt)),
            AppenderKind::Direct { .. } | AppenderKind::Anonymous { .. } => None,
        };
        let batch = Held { data, partition: partition.index(), rows, bytes, place, producer, epoch, appended_at: self.now, writer, age: 0 };
        let staged = epoch.is_some() && self.options.visibility == Visibility::Committed;
        match &kind {
            AppenderKind::Anonymous { .. } => self.appenders.get_mut(&id).expect("looked up above").anonymous_next_ordinal += 1,
            AppenderKind::Direct { producer, .. } => self.producer(producer).direct_next_ordinal += 1,
            AppenderKind::Writer { .. } => self.writer(id).expect("it has appended").next_ordinal += 1,
        }
        if staged {
            self.writer(id).expect("it has appended").staged.push(batch);
        } else {
            self.show(batch);
        }
    }

    fn close(&mut self, id: AppenderId) {
        self.set(id, Doing::Nothing);
        self.appenders.remove(&id);
        self.producers.values_mut().filter(|producer| producer.direct == Some(id)).for_each(|producer| producer.direct = None);
    }

    fn commit(&mut self, producer: &ProducerId, epoch: Epoch, receipts: &[(Task, Attempt)]) {
        let state = self.producer(producer);
        state.committed = Some(epoch);
        let ended: Vec<_> = state.epochs.keys().copied().filter(|open| *open <= epoch).collect();
        for number in ended {
            let writers = self.producer(producer).epochs.remove(&number).unwrap_or_default();
            let winners = writers.into_iter().filter(|(key, _)| number == epoch && receipts.contains(key));
            for batch in winners.flat_map(|(_, writer)| writer.staged) {
                self.show(batch);
            }
        }
    }

    fn subscribe(&mut self, name: &SubscriptionName, start: &Start) {
        if self.subscriptions.contains_key(name) {
            return;
        }
        let offsets = self.locate(start, None).expect("the engine has found it");
        let cursors = offsets.into_iter().map(|offset| Cursor { acked: offset, planned: offset, skipped: 0 });
        self.subscriptions.insert(name.clone(), cursors.collect());
    }

    fn seek(&mut self, name: &SubscriptionName, to: &Start) {
        let offsets = self.locate(to, Some(name)).expect("the engine has found it");
        let numbered = (0..).map(PartitionId).zip(offsets.into_iter().map(Offset));
        let is_named = |partition: &PartitionId| !matches!(to, Start::Offsets(named) if !named.contains_key(partition));
        let moved: Vec<_> = numbered.filter(|(partition, _)| is_named(partition)).collect();
        self.each_cursor(name, &moved, |cursor, offset| (cursor.acked, cursor.planned) = (offset, offset));
    }

    fn each_cursor(&mut self, name: &SubscriptionName, offsets: &[(PartitionId, Offset)], change: impl Fn(&mut Cursor, u64)) {
        let cursors = self.subscriptions.get_mut(name).expect("the engine knows it");
        offsets.iter().for_each(|(partition, offset)| change(&mut cursors[partition.index()], offset.0));
    }

    fn show(&mut self, mut batch: Held) {
        batch.age = self.shown;
        self.shown += 1;
        self.logs[batch.partition].batches.push(batch);
    }

    /// What every subscription has acked is gone; without subscriptions everything stays.
    fn drop_acked(&mut self) {
        for (index, log) in self.logs.iter_mut().enumerate() {
            if let Some(low) = self.subscriptions.values().map(|cursors| cursors[index].acked).min() {
                log.start = log.start.max(usize::try_from(low).expect("an offset within the log"));
            }
        }
    }

    fn drop_oldest(&mut self, starts: &[u64]) {
        for (index, start) in starts.iter().enumerate() {
            self.logs[index].start = self.logs[index].start.max(usize::try_from(*start).expect("an offset within the log"));
            for cursors in self.subscriptions.values_mut() {
                cursors[index].skipped += start.saturating_sub(cursors[index].acked);
                cursors[index].acked = cursors[index].acked.max(*start);
            }
        }
    }

    fn set(&mut self, id: AppenderId, doing: Doing) {
        if let Some(appender) = self.appenders.get_mut(&id) {
            appender.doing = doing;
        }
        if !matches!(doing, Doing::Waiting(_)) {
            self.line.retain(|waiting| *waiting != id);
        }
    }

    fn producer(&mut self, producer: &ProducerId) -> &mut Producer {
        self.producers.get_mut(producer).expect("its run was let in")
    }

    fn writer(&mut self, id: AppenderId) -> Option<&mut Writer> {
        let AppenderKind::Writer { producer, epoch, task, attempt, .. } = self.appenders.get(&id)?.kind.clone() else { return None };
        self.producer(&producer).epochs.get_mut(&epoch)?.get_mut(&(task, attempt))
    }
}
