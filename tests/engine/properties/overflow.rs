//! Overflow: who loses what where room runs out, who is let in when, and that no wait lasts for ever.

use std::time::Duration;

use bowstring::engine::{Command, Error, FullPolicy, OnOverflow, Place};
use proptest::prelude::*;

use crate::model::{Doing, Model, Usage};
use crate::operations::{operations, options, options_of};
use crate::world::{Step, World};

/// Whether somebody has lost batches in a step.
fn has_lost(world: &World, step: &Step) -> bool {
    let skipped = |model: &Model| model.subscriptions.values().flatten().map(|cursor| cursor.skipped).sum::<u64>();
    !step.effects.evicted.is_empty() || skipped(&world.model) != skipped(&step.before)
}

/// What is held, but for room that was granted in this step.
fn without_granted(world: &World, step: &Step) -> Usage {
    let mut usage = world.model.usage();
    for (id, place) in &step.effects.granted {
        let Doing::Reserved(_, bytes) = world.model.doing(*id) else { continue };
        match place {
            Place::Memory => (usage.memory_batches, usage.memory_bytes) = (usage.memory_batches - 1, usage.memory_bytes - bytes),
            Place::Spool => usage.spool_bytes -= bytes,
            Place::Log => panic!("the model is of streams in memory"),
        }
    }
    usage
}

proptest! {

    #[test]
    fn who_holds_loses_nothing(options in options(), operations in operations()) {
        prop_assume!(options.full_policy != FullPolicy::DropOldest);
        World::drive(options, &operations, |world, _| {
            for subscription in world.stream.describe(world.now).subscriptions {
                if subscription.on_overflow == OnOverflow::Hold {
                    assert_eq!(subscription.eviction, None);
                    assert!(subscription.partitions.iter().all(|place| place.skipped == 0 && place.acked >= world.range(place.partition.index()).0));
                }
            }
        });
    }

    #[test]
    fn only_who_is_behind_is_evicted_and_only_for_room_that_there_is_not(options in options(), operations in operations()) {
        World::drive(options, &operations, |world, step| {
            let view = world.stream.describe(world.now);
            for name in &step.effects.evicted {
                let evicted = view.subscriptions.iter().find(|view| view.name == *name).expect("it is there");
                let eviction = evicted.eviction.expect("it says when and why");
                assert_eq!((evicted.on_overflow, eviction.at), (OnOverflow::Evict, world.now));
                let behind = evicted.partitions.iter().any(|place| world.range(place.partition.index()).0 > place.acked);
                assert!(behind, "{name} had acked all that has gone");
                assert!(eviction.lag_batches > 0);
                if let (Command::Reserve { bytes, .. }, true) = (&step.command, step.before.line.is_empty()) {
                    assert_eq!(eviction.needed_bytes, *bytes);
                    assert!(!step.before.fits(&step.before.usage(), *bytes).0, "there was room");
                }
            }
            let is_evicted = |name: &bowstring::engine::SubscriptionName| view.subscriptions.iter().any(|view| view.name == *name && view.eviction.is_some());
            assert!(world.model.evicted.iter().all(is_evicted));
        });
    }

    #[test]
    fn whoever_loses_something_makes_enough_room_by_it(options in options(), operations in operations()) {
        prop_assume!(options.full_policy != FullPolicy::DropOldest);
        World::drive(options, &operations, |world, step| {
            if let (Command::Reserve { .. }, true) = (&step.command, step.before.line.is_empty() && has_lost(world, step)) {
                assert!(matches!(step.effects.outcome, Ok(bowstring::engine::Outcome::Reserved { .. })), "{:?}", step.effects);
            }
        });
    }

    #[test]
    fn who_waits_for_a_stream_to_drain_is_let_in_when_it_has(options in options(), operations in operations()) {
        let mut was_draining = false;
        World::drive(options, &operations, |world, step| {
            let is_tick = matches!(step.command, Command::Tick);
            if was_draining && !step.effects.granted.is_empty() && !is_tick && !has_lost(world, step) {
                let is_low = world.model.is_low_with(&without_granted(world, step));
                assert!(is_low || world.model.all_unblocked(), "{:?} were let in", step.effects.granted);
            }
            was_draining = world.stream.describe(world.now).is_draining;
            assert!(!was_draining || world.model.options.resume_percent < 100);
        });
    }

    #[test]
    fn a_consumer_that_acks_no_more_does_not_keep_a_stream_draining(
        options in prop_oneof![options_of(FullPolicy::Wait), options_of(FullPolicy::Spill)],
        operations in operations(),
    ) {
        let mut world = World::drive(options, &operations, |_, _| ());
        for _ in 0..3 {
            world.now = world.now.plus(Duration::from_secs(1));
            world.apply(Command::Tick);
        }
        if let Some(first) = world.model.line.first() {
            let Doing::Waiting(bytes) = world.model.doing(*first) else { panic!("{first} is in the line") };
            assert!(!world.model.fits(&world.model.usage(), bytes).0, "{first} waits while there is room");
        }
    }

    #[test]
    fn no_wait_lasts_longer_than_it_may_and_none_ends_before(options in options(), operations in operations()) {
        let max_wait = options.max_wait;
        World::drive(options, &operations, |world, step| {
            if let (Command::Tick, Some(max_wait)) = (&step.command, max_wait) {
                assert!(world.stream.describe(world.now).waiting.iter().all(|wait| wait.waiting_for < max_wait));
            }
            for (id, error) in &step.effects.refused {
                let Error::WaitedTooLong { bytes, waited, held_by, .. } = error else { continue };
                assert_eq!(step.before.doing(*id), Doing::Waiting(*bytes));
                assert!(max_wait.is_some_and(|max_wait| *waited >= max_wait));
                if let Some(held_by) = held_by {
                    let cursor = step.before.subscriptions[&held_by.subscription][held_by.partition.index()];
                    assert_eq!(held_by.offset.0, cursor.acked.max(cursor.planned));
                }
                assert_eq!(held_by.is_none(), step.before.all_unblocked() || step.before.subscriptions.is_empty());
            }
        });
    }

    #[test]
    fn spilling_makes_nobody_wait_while_the_spool_has_room(options in options_of(FullPolicy::Spill), operations in operations()) {
        World::drive(options, &operations, |world, _| {
            let Some(first) = world.model.line.first() else { return };
            let Doing::Waiting(bytes) = world.model.doing(*first) else { panic!("{first} is in the line") };
            let drains = world.stream.describe(world.now).is_draining;
            assert!(drains || !world.model.fits(&world.model.usage(), bytes).1, "{first} waits, and the spool has room");
        });
    }

    #[test]
    fn dropping_the_oldest_goes_down_to_the_low_watermark(options in options_of(FullPolicy::DropOldest), operations in operations()) {
        World::drive(options, &operations, |world, step| {
            let Command::Reserve { bytes, .. } = step.command else { return };
            let dropped = step.effects.dropped_batches > 0 && !step.before.may_lose();
            let Ok(bowstring::engine::Outcome::Reserved { place: Place::Memory }) = step.effects.outcome else { return };
            let is_empty = (0..world.model.logs.len()).all(|partition| world.model.visible(partition).is_empty());
            let mut before = world.model.usage();
            (before.memory_batches, before.memory_bytes) = (before.memory_batches - 1, before.memory_bytes - bytes);
            let mut staged = world.model.clone();
            staged.logs.iter_mut().for_each(|log| log.start = log.batches.len());
            let mut unreachable = staged.usage();
            (unreachable.memory_batches, unreachable.memory_bytes) = (unreachable.memory_batches - 1, unreachable.memory_bytes - bytes);
            let reaches = world.model.is_low_with(&unreachable);
            assert!(!dropped || is_empty || !reaches || world.model.is_low_with(&before), "{before:?}");
        });
    }
}
