//! What consumers see: batches, their order and offsets, and when they go.

use std::collections::{BTreeMap, BTreeSet};

use bowstring::engine::{Command, FullPolicy, OnOverflow, Outcome, Start, StreamOptions, Visibility};
use proptest::prelude::*;

use crate::model::{Log, Model};
use crate::operations::{Operation, operations, options, options_of};
use crate::world::{Step, World};

proptest! {
    #[test]
    fn no_acked_batch_is_lost(options in options(), operations in operations()) {
        let drops_oldest = options.full_policy == FullPolicy::DropOldest;
        World::drive(options, &operations, |world, _| {
            for (partition, log) in world.model.logs.iter().enumerate() {
                let held: Vec<_> = world.readable(partition).into_iter().map(|(_, data)| data).collect();
                let expected: Vec<_> = log.batches[log.start..].iter().map(|batch| batch.data).collect();
                assert_eq!(held, expected, "what was confirmed is there, and nothing else");
                assert!(log.start == 0 || drops_oldest || acked_by_all(world, partition, log.start as u64));
            }
        });
    }

    #[test]
    fn order_within_a_partition_is_the_order_of_appends(options in options(), operations in operations()) {
        World::drive(options, &operations, |world, _| {
            for partition in world.all_readable() {
                let data: Vec<_> = partition.iter().map(|(_, data)| *data).collect();
                assert!(is_in_order(world, &data), "{data:?}");
            }
        });
    }

    #[test]
    fn offsets_are_consecutive_and_never_reused(options in options(), operations in operations()) {
        let mut given = BTreeMap::new();
        let mut ends = vec![0; options.partitions as usize];
        World::drive(options, &operations, |world, _| {
            for (partition, end) in ends.iter_mut().enumerate() {
                let readable = world.readable(partition);
                let (start, now) = world.range(partition);
                assert!(now.0 >= *end, "the end never moves back");
                *end = now.0;
                let offsets: Vec<_> = readable.iter().map(|(offset, _)| *offset).collect();
                assert_eq!(offsets, (start.0..now.0).collect::<Vec<_>>());
                for (offset, data) in readable {
                    assert_eq!(*given.entry((partition, offset)).or_insert(data), data, "offset {offset} was given to another batch");
                }
            }
        });
    }

    #[test]
    fn a_start_never_moves_back(options in options(), operations in operations()) {
        let mut starts = vec![0; options.partitions as usize];
        World::drive(options, &operations, |world, _| {
            for (partition, start) in starts.iter_mut().enumerate() {
                let now = world.range(partition).0.0;
                assert!(now >= *start);
                *start = now;
            }
        });
    }

    #[test]
    fn nothing_is_visible_before_its_epoch_commits(options in options(), operations in operations()) {
        let options = StreamOptions { visibility: Visibility::Committed, ..options };
        World::drive(options, &operations, |world, step| {
            for batch in world.model.logs.iter().flat_map(|log| &log.batches) {
                let Some(epoch) = batch.epoch else { continue };
                assert!(world.model.producers[&batch.producer].committed.is_some_and(|committed| epoch <= committed));
            }
            let commits = matches!(step.command, Command::CommitEpoch { .. });
            let ends = |model: &Model| -> Vec<_> {
                model.logs.iter().map(|log| log.batches.iter().filter(|batch| batch.epoch.is_some()).count()).collect()
            };
            assert!(commits || ends(&step.before) == ends(&world.model));
            assert_eq!(world.all_readable(), expected(world));
        });
    }

    #[test]
    fn an_epochs_batches_are_contiguous_in_a_partition(options in options(), operations in operations()) {
        let options = StreamOptions { visibility: Visibility::Committed, ..options };
        let world = World::drive(options, &operations, |_, _| ());
        for log in &world.model.logs {
            let mut runs: Vec<_> = log.batches.iter().map(|batch| batch.epoch.map(|epoch| (&batch.producer, epoch))).collect();
            runs.dedup();
            let epochs: Vec<_> = runs.into_iter().flatten().collect();
            let distinct: BTreeSet<_> = epochs.iter().collect();
            assert_eq!(distinct.len(), epochs.len(), "{epochs:?}");
        }
        for (partition, expected) in expected(&world).into_iter().enumerate() {
            assert_eq!(world.readable(partition), expected);
        }
    }

    #[test]
    fn a_batch_is_dropped_only_when_every_subscription_acked_it(
        options in prop_oneof![options_of(FullPolicy::Wait), options_of(FullPolicy::Reject)],
        operations in operations(),
    ) {
        World::drive(options, &operations, |world, step| {
            for partition in 0..world.model.logs.len() {
                let (start, end) = world.range(partition);
                let low = world.model.holders().map(|(_, cursors)| cursors[partition].acked).min();
                if low.is_none() && !world.model.evicted.is_empty() {
                    continue;
                }
                let kept = step.before.logs[partition].start as u64;
                assert_eq!(start.0, low.map_or(kept, |low| low.max(kept)), "what all have acked is gone, and only that");
                assert!(end >= start);
            }
            // One that just came may go at once, where somebody waits for its room.
            let gone = dropped(world, step) as u64;
            assert!(step.effects.dropped_batches == gone || (step.before.may_lose() && step.effects.dropped_batches > gone));
        });
    }

    #[test]
    fn drop_oldest_drops_the_oldest_and_only_to_make_room(
        options in options_of(FullPolicy::DropOldest),
        operations in operations(),
    ) {
        World::drive(options, &operations, |world, step| {
            let Command::Reserve { .. } = step.command else { return };
            if step.before.may_lose() {
                return;
            }
            let dropped = (0..world.model.logs.len()).flat_map(|partition| {
                let log = &world.model.logs[partition];
                &log.batches[step.before.logs[partition].start..log.start]
            });
            let newest_dropped = dropped.map(|batch| batch.age).max();
            let oldest_kept = (0..world.model.logs.len()).filter_map(|partition| world.model.visible(partition).first()).map(|batch| batch.age).min();
            if let Some(age) = newest_dropped {
                assert!(matches!(step.effects.outcome, Ok(Outcome::Reserved { .. })), "dropped for nothing: {:?}", step.effects);
                assert!(oldest_kept.is_none_or(|kept| age < kept));
            }
        });
    }

    #[test]
    fn the_lag_of_a_subscription_is_what_it_can_still_read(options in options(), operations in operations()) {
        World::drive(options, &operations, |world, _| {
            for subscription in world.stream.describe(world.now).subscriptions {
                let cursors = &world.model.subscriptions[&subscription.name];
                for (partition, place) in subscription.partitions.iter().enumerate() {
                    let log = &world.model.logs[partition];
                    let cursor = cursors[partition];
                    let unread = &log.batches[usize::try_from(cursor.acked).expect("an offset in the log")..];
                    assert_eq!((place.acked.0, place.planned.0, place.skipped), (cursor.acked, cursor.planned, cursor.skipped));
                    assert_eq!(world.stream.gap(&subscription.name, place.partition), Ok(cursor.gap));
                    // What an evicted one could still read is less than what it has not acked.
                    if world.model.evicted.contains(&subscription.name) {
                        continue;
                    }
                    assert_eq!(place.lag_batches, unread.len() as u64);
                    assert_eq!(place.lag_bytes, unread.iter().map(|batch| batch.bytes).sum::<u64>());
                    let counted = log.batches.iter().all(|batch| batch.rows < 1000);
                    assert!(!counted || place.lag_rows == unread.iter().map(|batch| batch.rows).sum::<u64>());
                }
            }
        });
    }

    #[test]
    fn readers_are_told_of_every_partition_with_new_batches_once(options in options(), operations in operations()) {
        World::drive(options, &operations, |world, step| {
            let grown = (0..world.model.logs.len()).filter(|partition| {
                world.model.logs[*partition].batches.len() > step.before.logs[*partition].batches.len()
            });
            let told: Vec<_> = step.effects.visible.iter().map(|partition| partition.index()).collect();
            assert_eq!(told, grown.collect::<Vec<_>>());
        });
    }

    #[test]
    fn a_first_subscription_finds_all_that_was_appended(options in options_of(FullPolicy::Wait), operations in operations()) {
        let producing: Vec<_> = operations.into_iter().filter(|operation| !matches!(operation, Operation::Subscribe { .. })).collect();
        let mut world = World::drive(options, &producing, |_, _| ());
        let subscription = crate::world::subscription_name(0);
        world.apply(Command::Subscribe { subscription: subscription.clone(), start: Start::Earliest, mode: None, on_overflow: OnOverflow::Hold, sharing: None, query: None });
        for (partition, end) in world.ends() {
            assert_eq!(world.stream.cursor(&subscription, partition).map(|offset| offset.0), Ok(0));
            assert_eq!(end.0, world.readable(partition.index()).len() as u64);
        }
    }
}

fn acked_by_all(world: &World, partition: usize, offset: u64) -> bool {
    // Whoever acked may have sought back since, though never before the start, or have gone.
    world.model.holders().all(|(_, cursors)| cursors[partition].acked >= offset)
}

/// Data grows with each append: whoever sent two batches of a partition sent the smaller one first. Tasks of an
/// epoch come in their order.
fn is_in_order(world: &World, data: &[u64]) -> bool {
    let batches = world.model.logs.iter().flat_map(|log| &log.batches);
    let batches: BTreeMap<_, _> = batches.map(|batch| (batch.data, batch)).collect();
    let staged = world.model.options.visibility == Visibility::Committed;
    let mut last = BTreeMap::new();
    data.iter().all(|data| {
        let batch = batches[data];
        let source = (batch.epoch.filter(|_| staged), batch.epoch.map(|_| &batch.producer).filter(|_| staged));
        let place = (batch.writer.filter(|_| staged), *data);
        last.insert(source, place).is_none_or(|before| before < place)
    })
}

fn expected(world: &World) -> Vec<Vec<(u64, u64)>> {
    let log = |log: &Log| (log.start as u64..).zip(log.batches[log.start..].iter().map(|batch| batch.data)).collect();
    world.model.logs.iter().map(log).collect()
}

/// Batches that were staged or visible before the step and are neither any more.
fn dropped(world: &World, step: &Step) -> usize {
    let held = |model: &Model| -> BTreeSet<u64> {
        let visible = (0..model.logs.len()).flat_map(|partition| model.visible(partition));
        visible.chain(model.staged()).map(|batch| batch.data).collect()
    };
    held(&step.before).difference(&held(&world.model)).count()
}
