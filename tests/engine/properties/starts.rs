//! Where subscriptions start and where seeks put them.

use bowstring::engine::{Command, Outcome, PartitionMove, Start};
use proptest::prelude::*;

use crate::model::Log;
use crate::operations::{operations, options};
use crate::world::World;

/// What the first batches of a log have added up to.
fn totals(log: &Log, offset: u64) -> (u64, u64) {
    let batches = &log.batches[..usize::try_from(offset).expect("an offset within the log")];
    let rows = batches.iter().fold(0_u64, |sum, batch| sum.saturating_add(batch.rows));
    (rows, batches.iter().map(|batch| batch.bytes).sum())
}

/// Whether rows can be summed up: a batch of nulls may claim any number of them.
fn is_countable(log: &Log) -> bool {
    log.batches.iter().all(|batch| batch.rows < 1000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_start_lies_at_the_first_batch_it_means_or_is_refused(options in options(), operations in operations()) {
        World::drive(options, &operations, |world, step| {
            let (name, expected) = match &step.command {
                Command::Subscribe { subscription, start, .. } if !step.before.subscriptions.contains_key(subscription) => {
                    (subscription, step.before.locate(start, None))
                }
                Command::Seek { subscription, to, dry_run: false } if step.before.subscriptions.contains_key(subscription) => {
                    (subscription, step.before.locate(to, Some(subscription)))
                }
                _ => return,
            };
            match (&step.effects.outcome, expected) {
                (Ok(_), Ok(expected)) => {
                    let found = world.ends().into_iter().map(|(partition, _)| world.stream.cursor(name, partition).expect("is there").0);
                    assert_eq!(found.collect::<Vec<_>>(), expected, "{:?}", step.command);
                }
                (Err(error), Err(code)) => assert_eq!(error.code(), code, "{:?}", step.command),
                (outcome, expected) => panic!("{outcome:?} in place of {expected:?} for {:?}", step.command),
            }
        });
    }

    #[test]
    fn a_seek_says_what_it_moves(options in options(), operations in operations()) {
        World::drive(options, &operations, |_, step| {
            let (Command::Seek { subscription, to, .. }, Ok(outcome)) = (&step.command, &step.effects.outcome) else { return };
            let Outcome::Moved(moves) = outcome else { panic!("{outcome:?}") };
            let targets = step.before.locate(to, Some(subscription)).expect("it was not refused");
            assert_eq!(moves.len(), targets.len());
            for ((moved, target), (index, log)) in moves.iter().zip(targets).zip(step.before.logs.iter().enumerate()) {
                let PartitionMove { partition, from, to: reached, batches, rows, bytes, gone_batches } = *moved;
                let acked = step.before.subscriptions[subscription][index].acked;
                assert_eq!((partition.index(), from.0, reached.0), (index, acked, target));
                let (before, behind) = (totals(log, from.0.min(reached.0)), totals(log, from.0.max(reached.0)));
                assert_eq!((batches, bytes), (from.0.abs_diff(reached.0), behind.1 - before.1));
                assert!(!is_countable(log) || rows == behind.0 - before.0);
                assert_eq!(gone_batches, if *to == Start::Earliest { log.start as u64 } else { 0 });
            }
        });
    }

    #[test]
    fn a_dry_run_says_the_same_and_changes_nothing(options in options(), operations in operations()) {
        let mut appearance = World::new(options.clone()).appearance();
        World::drive(options, &operations, |world, step| {
            if let Command::Seek { subscription, to, dry_run: true } = &step.command {
                assert_eq!(world.appearance(), appearance, "{:?}", step.command);
                assert_eq!(step.effects.dropped_batches, 0);
                if let Ok(Outcome::Moved(moves)) = &step.effects.outcome {
                    let targets = step.before.locate(to, Some(subscription)).expect("it was not refused");
                    assert_eq!(moves.iter().map(|moved| moved.to.0).collect::<Vec<_>>(), targets);
                }
            }
            appearance = world.appearance();
        });
    }

    #[test]
    fn what_is_located_is_where_a_subscription_would_start(options in options(), operations in operations()) {
        World::drive(options, &operations, |world, step| {
            let (Command::Subscribe { start, .. } | Command::Seek { to: start, .. }) = &step.command else { return };
            let found = world.stream.locate(start).map(|offsets| offsets.iter().map(|offset| offset.0).collect::<Vec<_>>());
            assert_eq!(found.map_err(|error| error.code()), world.model.locate(start, None));
        });
    }
}
