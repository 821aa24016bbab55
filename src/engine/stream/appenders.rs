//! Appenders: open, check, stop, close; and letting in the run that they belong to.

use super::super::appender::{Appender, Progress};
use super::super::epoch::{Producer, Writer};
use super::super::limits::{APPENDERS_MAX, PRODUCERS_MAX, WRITERS_MAX};
use super::super::{
    AppenderId, AppenderKind, Attempt, Connection, Effects, Epoch, Error, Outcome, Part, ProducerId, RunId, Task, Timestamp,
};
use super::Stream;

/// Refuses a connection whose client has given it up for a newer one.
fn check_not_late(producer: &ProducerId, connection: Option<Connection>, newest: Option<Connection>) -> Result<(), Error> {
    match (connection, newest) {
        (Some(late), Some(newest)) if late.is_late(newest) => {
            Err(Error::ConnectionSuperseded { producer: producer.clone(), number: late.number, newest: newest.number })
        }
        _ => Ok(()),
    }
}

impl<D: Clone> Stream<D> {
    pub(super) fn open_appender(
        &mut self,
        kind: AppenderKind,
        connection: Option<Connection>,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<Outcome, Error> {
        self.check_open()?;
        if self.appenders.len() >= APPENDERS_MAX {
            return Err(Error::TooMany { what: "appenders", limit: APPENDERS_MAX });
        }
        let id = AppenderId(self.next_appender);
        let (next_ordinal, former) = match &kind {
            AppenderKind::Anonymous { .. } => (0, None),
            AppenderKind::Direct { producer, run } => {
                self.check_not_of_former_run(producer, run, connection)?;
                let state = self.enter_producer(producer, run, now, effects)?;
                check_not_late(producer, connection, state.direct_connection)?;
                state.direct_connection = connection;
                (state.direct_next_ordinal, state.direct.replace(id))
            }
            AppenderKind::Writer { producer, run, epoch, task, attempt } => {
                self.enter_producer(producer, run, now, effects)?;
                self.open_writer(producer, *epoch, (*task, *attempt), (id, connection), now)?
            }
        };
        self.next_appender += 1;
        self.appenders.insert(id, Appender::new(kind));
        self.stop_appenders(former, effects);
        Ok(Outcome::Opened { appender: id, next_ordinal })
    }

    /// Refuses the first connection of a run whose client has connected a later one of the same producer meanwhile: it is
    /// not a newer run, though it was not seen before.
    fn check_not_of_former_run(&self, producer: &ProducerId, run: &RunId, connection: Option<Connection>) -> Result<(), Error> {
        let Some(state) = self.producers.get(producer).filter(|state| state.run != *run) else { return Ok(()) };
        match check_not_late(producer, connection, state.direct_connection) {
            Err(_) => Err(Error::Fenced { producer: producer.clone(), run: run.clone(), current: state.run.clone() }),
            Ok(()) => Ok(()),
        }
    }

    /// Puts `id` in charge of a writer, a new one if there is none. Returns what it appends next, and the
    /// appender that was in charge.
    fn open_writer(
        &mut self,
        producer: &ProducerId,
        epoch: Epoch,
        key: (Task, Attempt),
        (id, connection): (AppenderId, Option<Connection>),
        now: Timestamp,
    ) -> Result<(u64, Option<AppenderId>), Error> {
        let state = self.producers.get_mut(producer).ok_or_else(|| Error::ProducerUnknown { producer: producer.clone() })?;
        state.check_uncommitted(producer, epoch)?;
        state.check_unaborted(producer, epoch)?;
        let writers = &mut state.open_epoch(epoch, now)?.writers;
        if let Some(writer) = writers.get_mut(&key) {
            check_not_late(producer, connection, writer.connection)?;
            writer.connection = connection;
            return Ok((writer.next_ordinal, Some(std::mem::replace(&mut writer.appender, id))));
        }
        if self.writers >= WRITERS_MAX {
            return Err(Error::TooMany { what: "writers in open epochs", limit: WRITERS_MAX });
        }
        self.writers += 1;
        writers.insert(key, Writer::new(id, connection));
        Ok((0, None))
    }

    /// The producer's state, after its run was let in.
    pub(super) fn enter_producer(
        &mut self,
        producer: &ProducerId,
        run: &RunId,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<&mut Producer<D>, Error> {
        let is_new = !self.producers.contains_key(producer);
        if is_new {
            self.make_room_for_producer(effects)?;
            self.producers.insert(producer.clone(), Producer::new(run.clone(), now));
        }
        let state = self.producers.get_mut(producer).expect("inserted above if it was missing");
        let was_lost = state.lost;
        let mut is_new_run = is_new;
        if let Some(former) = state.enter(producer, run, now)? {
            is_new_run = true;
            effects.changed |= was_lost;
            self.abort_epochs(former.epochs.into_values(), effects);
            self.stop_appenders(former.direct, effects);
        }
        if is_new_run {
            self.touch(Part::Producer(producer.clone()), effects);
        }
        Ok(self.producers.get_mut(producer).expect("looked up above"))
    }

    fn make_room_for_producer(&mut self, effects: &mut Effects) -> Result<(), Error> {
        if self.producers.len() < PRODUCERS_MAX {
            return Ok(());
        }
        let idle = self.producers.iter().filter(|(_, state)| state.is_forgettable()).min_by_key(|(_, state)| state.last_seen);
        let Some(name) = idle.map(|(name, _)| name.clone()) else {
            return Err(Error::TooMany { what: "producers", limit: PRODUCERS_MAX });
        };
        self.producers.remove(&name);
        self.touch(Part::Producer(name), effects);
        Ok(())
    }

    /// Refuses an appender that is not open, was taken over, or whose epoch is no longer open.
    pub(super) fn check_appender(&self, id: AppenderId, bytes: u64) -> Result<(), Error> {
        let kind = &self.appenders.get(&id).ok_or(Error::AppenderNotReady { appender: id, bytes })?.kind;
        match (kind, self.producers.get(kind.producer())) {
            (AppenderKind::Anonymous { .. }, _) => Ok(()),
            (_, Some(state)) => state.check_appender(id, kind),
            (_, None) => Err(Error::ProducerUnknown { producer: kind.producer().clone() }),
        }
    }

    /// Ends the waits and reservations of appenders that may not go on, wherever they stand in the line, and
    /// tells those that wait. They stay open, refused, until their connections close them.
    pub(super) fn stop_appenders(&mut self, ids: impl IntoIterator<Item = AppenderId>, effects: &mut Effects) {
        for id in ids {
            let waits = matches!(self.appenders.get(&id).map(|appender| appender.progress), Some(Progress::Waiting { .. }));
            self.release_room(id);
            if waits && let Err(error) = self.check_open().and_then(|()| self.check_appender(id, 0)) {
                effects.refused.push((id, error));
            }
        }
    }

    pub(super) fn close_appender(&mut self, id: AppenderId) -> Result<Outcome, Error> {
        self.release_room(id);
        let Some(Appender { kind, .. }) = self.appenders.remove(&id) else { return Ok(Outcome::Done) };
        if let Some(state) = self.producers.get_mut(kind.producer())
            && state.direct == Some(id)
        {
            state.direct = None;
        }
        Ok(Outcome::Done)
    }
}
