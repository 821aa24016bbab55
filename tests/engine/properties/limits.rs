//! Limits: never overshot, and charged with exactly what is there.

use bowstring::engine::{Command, FullPolicy, OnOverflow, Outcome, Place, StreamOptions, SubscriptionName, Visibility};
use proptest::prelude::*;

use crate::model::Usage;
use crate::operations::{all_of, operations, options};
use crate::world::World;

proptest! {
    #[test]
    fn limits_hold_to_the_batch_and_byte_at_every_step(options in options(), operations in operations()) {
        World::drive(options, &operations, |world, _| {
            let used = described(world);
            let limits = world.model.options.limits;
            assert_eq!(used, world.model.usage(), "the stream is charged with what it holds");
            assert!(used.memory_batches <= limits.max_buffered_batches);
            assert!(used.memory_bytes <= limits.max_buffered_bytes);
            assert!(used.spool_bytes <= limits.max_spool_bytes);
        });
    }

    #[test]
    fn a_partition_counts_its_visible_batches_in_memory(options in options(), operations in operations()) {
        World::drive(options, &operations, |world, _| {
            for (partition, view) in world.stream.describe(world.now).partitions.iter().enumerate() {
                let log = &world.model.logs[partition];
                let memory = || world.model.visible(partition).iter().filter(|batch| batch.place == Place::Memory);
                assert_eq!(view.buffered_batches, memory().count() as u64);
                assert_eq!(view.buffered_bytes, memory().map(|batch| batch.bytes).sum::<u64>());
                assert_eq!((view.start.0, view.end.0), (log.start as u64, log.batches.len() as u64));
                assert_eq!(view.bytes_total, log.batches.iter().map(|batch| batch.bytes).sum::<u64>());
                assert_eq!(view.rows_total, log.batches.iter().fold(0, |sum: u64, batch| sum.saturating_add(batch.rows)));
            }
        });
    }

    #[test]
    fn an_epoch_counts_what_its_writers_sent(options in options(), operations in operations()) {
        let options = StreamOptions { visibility: Visibility::Committed, ..options };
        World::drive(options, &operations, |world, _| {
            for view in world.stream.describe(world.now).producers {
                let producer = &world.model.producers[&view.producer];
                assert_eq!((&view.run, view.committed), (&producer.run, producer.committed));
                assert_eq!(view.epochs.len(), producer.epochs.len());
                for epoch in view.epochs {
                    let writers = &producer.epochs[&epoch.epoch];
                    let staged = || writers.values().flat_map(|writer| &writer.staged);
                    assert_eq!(epoch.writers, writers.len() as u64);
                    assert_eq!(epoch.staged_batches, staged().count() as u64);
                    assert_eq!(epoch.staged_bytes, staged().map(|batch| batch.bytes).sum::<u64>());
                    assert_eq!(epoch.staged_rows, staged().fold(0, |sum: u64, batch| sum.saturating_add(batch.rows)));
                }
            }
        });
    }

    #[test]
    fn a_batch_counts_once_however_many_subscriptions_hold_it(options in options(), operations in operations()) {
        // Of two that may lose batches one would be behind while the other acks.
        let operations = all_of(OnOverflow::Hold, operations);
        let mut twin = World::new(options.clone());
        World::drive(options, &operations, |world, step| {
            twin.now = world.now;
            let outcome = twin.apply(step.command.clone()).effects.outcome;
            if let Some(command) = for_shadow(&step.command) {
                assert_eq!(twin.apply(command).effects.outcome.is_ok(), outcome.is_ok());
            }
            assert_eq!(outcome, step.effects.outcome);
            assert_eq!(described(&twin), described(world));
            assert_eq!(twin.all_readable(), world.all_readable());
        });
    }

    #[test]
    fn memory_is_used_before_the_spool(options in options(), operations in operations()) {
        World::drive(options, &operations, |world, step| {
            let Command::Reserve { bytes, .. } = step.command else { return };
            // Afterwards: what the caller gave back may have let in others who waited, and they go first.
            let limits = world.model.options.limits;
            let used = world.model.usage();
            let fits = used.memory_batches < limits.max_buffered_batches
                && used.memory_bytes.saturating_add(bytes) <= limits.max_buffered_bytes;
            if let Ok(Outcome::Reserved { place }) = step.effects.outcome {
                assert!(place == Place::Memory || !fits);
            }
        });
    }

    #[test]
    fn only_the_policies_wait_and_spill_make_producers_wait(options in options(), operations in operations()) {
        World::drive(options, &operations, |world, step| {
            assert!(world.model.line.is_empty() || matches!(world.model.options.full_policy, FullPolicy::Wait | FullPolicy::Spill));
            let dropping = world.model.options.full_policy == FullPolicy::DropOldest || step.before.may_lose();
            let reserve = matches!(step.command, Command::Reserve { .. });
            assert!(!reserve || dropping || step.effects.dropped_batches == 0, "only drop_oldest drops to make room, and subscriptions that would rather lose batches");
        });
    }
}

fn described(world: &World) -> Usage {
    let view = world.stream.describe(world.now);
    Usage {
        memory_batches: view.buffered_batches,
        memory_bytes: view.buffered_bytes,
        spool_batches: view.spooled_batches,
        spool_bytes: view.spooled_bytes,
    }
}

/// The same command for a second subscription that does what the first one does.
fn for_shadow(command: &Command<u64>) -> Option<Command<u64>> {
    let shadow = |name: &SubscriptionName| SubscriptionName::new(&format!("shadow of {name}")).expect("a valid name");
    Some(match command {
        Command::Subscribe { subscription, start, on_overflow, .. } => Command::Subscribe {
            subscription: shadow(subscription),
            start: start.clone(),
            mode: None,
            on_overflow: *on_overflow,
            sharing: None,
            query: None,
        },
        Command::Unsubscribe { subscription } => Command::Unsubscribe { subscription: shadow(subscription) },
        Command::Ack { subscription, generation, offsets } => {
            Command::Ack { subscription: shadow(subscription), generation: *generation, offsets: offsets.clone() }
        }
        Command::Plan { subscription, offsets } => Command::Plan { subscription: shadow(subscription), offsets: offsets.clone() },
        Command::Seek { subscription, to, dry_run } => {
            Command::Seek { subscription: shadow(subscription), to: to.clone(), dry_run: *dry_run }
        }
        _ => return None,
    })
}
