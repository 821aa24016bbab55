//! What producers rely on: epochs once, attempts that lost gone, zombies refused, resends harmless.

use std::collections::{BTreeMap, BTreeSet};

use bowstring::engine::{AppenderKind, Code, Command, EpochState, Error, Outcome, StreamOptions, Visibility};
use proptest::prelude::*;

use crate::model::{Model, named_appender, named_run};
use crate::operations::{operations, options};
use crate::world::{Step, World};

proptest! {
    #[test]
    fn a_replayed_epoch_changes_nothing(options in options(), operations in operations()) {
        let mut appearance = World::new(options.clone()).appearance();
        World::drive(options, &operations, |world, step| {
            let before = std::mem::replace(&mut appearance, world.appearance());
            let (Some(false), Some(true)) = (brings_new_run(step), replays(step)) else { return };
            match &step.effects.outcome {
                Ok(outcome) => assert_eq!(*outcome, Outcome::Epoch(EpochState::AlreadyCommitted)),
                Err(Error::StreamCompleted | Error::StreamFailed { .. }) => assert!(world.model.ended),
                Err(error) => assert_eq!(error.code(), Code::EpochCommitted),
            }
            assert_eq!(before, appearance);
        });
    }

    #[test]
    fn attempts_that_the_commit_does_not_name_vanish(options in options(), operations in operations()) {
        let options = StreamOptions { visibility: Visibility::Committed, ..options };
        let mut lost = BTreeSet::new();
        World::drive(options, &operations, |world, step| {
            if let (Command::CommitEpoch { producer, epoch, receipts, .. }, Ok(Outcome::Epoch(EpochState::Committed))) =
                (&step.command, &step.effects.outcome)
            {
                let staged = step.before.staged().filter(|batch| batch.producer == *producer && batch.epoch <= Some(*epoch));
                let wins = |batch: &crate::model::Held| batch.epoch == Some(*epoch) && batch.writer.is_some_and(|key| receipts.contains(&key));
                lost.extend(staged.filter(|batch| !wins(batch)).map(|batch| batch.data));
                let later = |model: &Model| model.producers[producer].epochs.keys().filter(|open| *open <= epoch).count();
                assert_eq!(later(&world.model), 0, "nothing of the epoch is held back");
            }
            assert!(world.all_readable().iter().flatten().all(|(_, data)| !lost.contains(data)));
        });
    }

    #[test]
    fn a_dropped_epoch_gives_back_its_room_and_its_writers_reservations(options in options(), operations in operations()) {
        World::drive(options, &operations, |world, step| {
            let orphaned = step.before.appenders.keys().filter(|id| step.before.may_go_on(**id) && !world.model.may_go_on(**id));
            for id in orphaned {
                assert_eq!(world.model.doing(*id), crate::model::Doing::Nothing);
            }
            let view = world.stream.describe(world.now);
            assert_eq!((view.buffered_bytes, view.spooled_bytes), (world.model.usage().memory_bytes, world.model.usage().spool_bytes));
        });
    }

    #[test]
    fn a_fenced_producer_is_refused(options in options(), operations in operations()) {
        let mut appearance = World::new(options.clone()).appearance();
        World::drive(options, &operations, |world, step| {
            let before = std::mem::replace(&mut appearance, world.appearance());
            let fenced = named_run(&step.command).is_some_and(|(producer, run)| {
                step.before.producers.get(producer).is_some_and(|state| state.fenced.contains(run))
            });
            if fenced {
                let opens = matches!(step.command, Command::OpenAppender { .. });
                assert!(is_fenced(step) || (opens && world.model.ended), "{:?}", step.effects.outcome);
                assert_eq!(before, appearance);
            }
        });
    }

    #[test]
    fn a_writer_that_comes_after_the_abort_is_refused(options in options(), operations in operations()) {
        World::drive(options, &operations, |world, step| {
            let Command::OpenAppender { kind: AppenderKind::Writer { producer, run, epoch, .. }, .. } = &step.command else { return };
            let Some(state) = step.before.producers.get(producer).filter(|state| state.run == *run) else { return };
            if state.aborted.contains(epoch) && state.committed < Some(*epoch) && !world.model.ended {
                let code = step.effects.outcome.as_ref().map_err(Error::code);
                assert_eq!(code, Err(Code::EpochNotOpen));
            }
        });
    }

    #[test]
    fn an_appender_that_was_taken_over_appends_nothing(options in options(), operations in operations()) {
        World::drive(options, &operations, |world, step| {
            let Some(id) = named_appender(&step.command) else { return };
            let closes = matches!(step.command, Command::CloseAppender { .. });
            if closes || step.before.may_go_on(id) {
                return;
            }
            assert!(step.effects.outcome.is_err(), "{:?}", step.effects.outcome);
            let partition_is_known = !matches!(step.effects.outcome, Err(Error::PartitionOutOfRange { .. }));
            let known = step.before.appenders.contains_key(&id) && !world.model.ended && partition_is_known;
            if known && of_older_run(&step.before, id) {
                assert!(is_fenced(step), "{:?}", step.effects.outcome);
            }
        });
    }

    #[test]
    fn a_failed_append_is_never_seen(options in options(), operations in operations()) {
        let mut failed = BTreeSet::new();
        World::drive(options, &operations, |world, step| {
            if let (Command::Append { data, .. }, Err(_)) = (&step.command, &step.effects.outcome) {
                failed.insert(*data);
            }
            assert!(world.all_readable().iter().flatten().all(|(_, data)| !failed.contains(data)));
        });
    }

    #[test]
    fn a_resend_is_stored_once(options in options(), operations in operations()) {
        let mut stored = BTreeMap::new();
        World::drive(options, &operations, |world, step| {
            let (Command::Append { appender, ordinal, data, .. }, Ok(_)) = (&step.command, &step.effects.outcome) else { return };
            let kind = step.before.appenders[appender].kind.clone();
            if kind.epoch().is_some() {
                return;
            }
            // Anonymous appenders have names of their own, direct ones are told apart by run.
            if stored.insert((format!("{kind:?}"), *ordinal), *data).is_some() {
                assert!(world.model.logs.iter().flat_map(|log| &log.batches).all(|batch| batch.data != *data));
                assert_eq!(step.effects.outcome, Ok(Outcome::Appended { offset: None, again: true }));
            }
        });
    }

    #[test]
    fn a_receipt_stays_true_until_the_commit(options in options(), operations in operations()) {
        let mut receipts = BTreeMap::new();
        World::drive(options, &operations, |world, step| {
            match (&step.command, &step.effects.outcome) {
                (Command::FinishWriter { appender }, Ok(Outcome::Receipt(receipt))) => {
                    let producer = step.before.appenders[appender].kind.producer().clone();
                    let run = step.before.producers[&producer].run.clone();
                    let key = (producer, run, receipt.epoch, receipt.task, receipt.attempt);
                    receipts.insert(key, receipt.clone());
                }
                (Command::AbortEpoch { producer, epoch, .. }, Ok(_)) => {
                    receipts.retain(|(of, _, number, ..), _| of != producer || number != epoch);
                }
                (Command::CommitEpoch { producer, run, epoch, receipts: named }, Ok(Outcome::Epoch(EpochState::Committed)))
                    if world.model.options.visibility == Visibility::Committed =>
                {
                    for (task, attempt) in named {
                        let receipt = &receipts[&(producer.clone(), run.clone(), *epoch, *task, *attempt)];
                        let log = world.model.logs.iter().flat_map(|log| &log.batches);
                        let shown: Vec<_> = log
                            .filter(|batch| batch.producer == *producer && batch.epoch == Some(*epoch))
                            .filter(|batch| batch.writer == Some((*task, *attempt)))
                            .collect();
                        assert_eq!(receipt.batches, shown.len() as u64);
                        assert_eq!(receipt.bytes, shown.iter().map(|batch| batch.bytes).sum::<u64>());
                    }
                }
                _ => (),
            }
        });
    }

    #[test]
    fn a_commit_with_unheld_receipts_changes_nothing(options in options(), operations in operations()) {
        let mut appearance = World::new(options.clone()).appearance();
        World::drive(options, &operations, |world, step| {
            let before = std::mem::replace(&mut appearance, world.appearance());
            if let Err(Error::ReceiptUnknown { .. } | Error::TaskNamedTwice { .. }) = step.effects.outcome
                && brings_new_run(step) == Some(false)
            {
                assert_eq!(before, appearance);
            }
        });
    }

    #[test]
    fn after_the_end_nothing_is_taken_in_and_all_is_still_there(options in options(), operations in operations()) {
        World::drive(options, &operations, |world, step| {
            if !step.before.ended {
                return;
            }
            for (now, before) in world.model.logs.iter().zip(&step.before.logs) {
                assert_eq!(now.batches.len(), before.batches.len());
            }
            assert_eq!(world.model.staged().count(), 0);
            assert!(world.model.line.is_empty());
            let appends = matches!(step.command, Command::Append { .. } | Command::Reserve { .. } | Command::OpenAppender { .. });
            assert!(!appends || step.effects.outcome.is_err());
        });
    }

    #[test]
    fn the_same_operations_give_the_same_effects(options in options(), operations in operations()) {
        let mut first = Vec::new();
        let mut second = Vec::new();
        let one = World::drive(options.clone(), &operations, |_, step| first.push(step.effects.clone()));
        let two = World::drive(options, &operations, |_, step| second.push(step.effects.clone()));
        assert_eq!(first, second);
        assert_eq!(one.appearance(), two.appearance());
    }
}

/// Whether the command's run takes over or is the first; none for commands that name no run.
fn brings_new_run(step: &Step) -> Option<bool> {
    let (producer, run) = named_run(&step.command)?;
    Some(step.before.producers.get(producer).is_none_or(|state| state.run != *run))
}

/// Whether the command is for an epoch that is committed already.
fn replays(step: &Step) -> Option<bool> {
    use bowstring::engine::AppenderKind::Writer;
    let (producer, epoch) = match &step.command {
        Command::OpenEpoch { producer, epoch, .. }
        | Command::CommitEpoch { producer, epoch, .. }
        | Command::AbortEpoch { producer, epoch, .. }
        | Command::OpenAppender { kind: Writer { producer, epoch, .. }, .. } => (producer, *epoch),
        _ => return None,
    };
    Some(step.before.producers.get(producer)?.committed.is_some_and(|committed| epoch <= committed))
}

fn of_older_run(model: &Model, id: bowstring::engine::AppenderId) -> bool {
    use bowstring::engine::AppenderKind::{Anonymous, Direct, Writer};
    match &model.appenders[&id].kind {
        Anonymous { .. } => false,
        Direct { producer, run } | Writer { producer, run, .. } => model.producers[producer].fenced.contains(run),
    }
}

fn is_fenced(step: &Step) -> bool {
    step.effects.outcome.as_ref().is_err_and(|error| error.code() == Code::Fenced)
}
