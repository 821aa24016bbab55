//! What stays beyond its acks is there to be read again, and changes nothing else.

use std::time::Duration;

use bowstring::engine::{
    Code, Command, Generation, Offset, PartitionId, Retention, Start, Stream, StreamId, StreamName, StreamOptions, StreamView,
    SubscriptionName, Timestamp,
};
use proptest::prelude::*;

use crate::operations::{operations, options};
use crate::world::World;

/// The command for a stream that has been sought more often.
fn of_whatever_generation(command: &Command<u64>) -> Command<u64> {
    match command.clone() {
        Command::Ack { subscription, offsets, .. } => Command::Ack { subscription, generation: None, offsets },
        other => other,
    }
}

/// What producers and subscriptions notice, whatever was sought on the way: a seek there and back begins a generation
/// and a new count of how long a cursor has stood.
fn noticed(mut view: StreamView) -> String {
    for subscription in &mut view.subscriptions {
        subscription.generation = Generation(0);
        for partition in &mut subscription.partitions {
            (partition.held_for, partition.drains_in) = (Duration::ZERO, None);
        }
    }
    let partitions: Vec<_> = view.partitions.iter().map(|p| (p.end, p.rows_total, p.bytes_total)).collect();
    let epochs = (view.epochs_committed, view.epochs_aborted, view.epochs_replayed);
    format!("{:?} {epochs:?} {partitions:?} {:?} {:?} {:?}", view.state, view.subscriptions, view.producers, view.waiting)
}

/// Where each partition begins.
fn starts(stream: &Stream<u64>) -> Vec<(PartitionId, Offset)> {
    let partitions = (0..stream.options().partitions).map(PartitionId);
    partitions.map(|partition| (partition, stream.range(partition).expect("is there").0)).collect()
}

/// The oldest batch, if all subscriptions have acked it: when it was appended.
fn oldest_acked(stream: &Stream<u64>, subscriptions: &[SubscriptionName], partition: PartitionId) -> Option<(Timestamp, u64)> {
    let (start, end) = stream.range(partition).expect("is there");
    let acked = subscriptions.iter().map(|name| stream.cursor(name, partition).expect("is there")).min()?;
    if start >= acked.min(end) {
        return None;
    }
    let batch = stream.read(partition, start, 1, u64::MAX).expect("is there").pop()?;
    Some((batch.facts.appended_at, batch.facts.bytes))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn retention_changes_nothing_for_those_who_write_and_read_on(
        options in options(),
        operations in operations(),
        seconds in 0_u64..4,
        bytes in 0_u64..40,
    ) {
        let retention = Retention { time: Duration::from_secs(seconds), bytes };
        let name = StreamName::new("s").expect("a valid name");
        let mut keeping = Stream::new(name, StreamId(7), StreamOptions { retention, ..options }).expect("1 to 3 partitions");
        World::drive(options, &operations, |world, step| {
            let outcome = &step.effects.outcome;
            let is_start = matches!(step.command, Command::Subscribe { .. } | Command::Seek { .. });
            if is_start && outcome.as_ref().is_err_and(|error| error.code() == Code::OffsetGone) {
                return;
            }
            let begins_with_all = match &step.command {
                Command::Subscribe { subscription, start, .. } => {
                    keeping.cursor(subscription, PartitionId(0)).is_err() && matches!(start, Start::Earliest | Start::Offsets(_))
                }
                Command::Seek { to, dry_run, .. } => *to == Start::Earliest && !dry_run && outcome.is_ok(),
                _ => false,
            };
            let effects = keeping.apply(of_whatever_generation(&step.command), world.now);
            if let (Command::Subscribe { subscription, start, .. } | Command::Seek { subscription, to: start, .. }, true) =
                (&step.command, begins_with_all && outcome.is_ok())
            {
                // It begins with what has stayed: that is what it is for.
                let is_first = |(partition, first): &(PartitionId, Offset)| keeping.cursor(subscription, *partition) == Ok(*first);
                assert!(*start != Start::Earliest || starts(&keeping).iter().all(is_first));
                let cursors = world.ends().into_iter().map(|(partition, _)| (partition, world.stream.cursor(subscription, partition)));
                let to = Start::Offsets(cursors.map(|(partition, cursor)| (partition, cursor.expect("is there"))).collect());
                let _ = keeping.apply(Command::Seek { subscription: subscription.clone(), to, dry_run: false }, world.now);
            }
            assert_eq!(noticed(world.stream.describe(world.now)), noticed(keeping.describe(world.now)), "{:?}", step.command);
            assert_eq!(&step.effects.visible, &effects.visible);
            assert_eq!(format!("{:?}", step.effects.granted), format!("{:?}", effects.granted));
            for ((partition, start), (_, kept)) in starts(&world.stream).into_iter().zip(starts(&keeping)) {
                assert!(kept <= start, "all that is not acked is there");
                let read = |stream: &Stream<u64>| {
                    let batches = stream.read(partition, start, usize::MAX, u64::MAX).expect("is there");
                    batches.into_iter().map(|batch| (batch.offset, batch.data)).collect::<Vec<_>>()
                };
                assert_eq!(read(&world.stream), read(&keeping));
            }
        });
    }

    #[test]
    fn what_is_older_and_further_back_than_it_has_to_be_goes_with_the_next_tick(
        options in options(),
        operations in operations(),
        seconds in 0_u64..4,
        bytes in 0_u64..40,
    ) {
        let time = Duration::from_secs(seconds);
        let options = StreamOptions { retention: Retention { time, bytes }, ..options };
        let name = StreamName::new("s").expect("a valid name");
        let mut keeping = Stream::new(name, StreamId(7), options.clone()).expect("1 to 3 partitions");
        World::drive(StreamOptions { retention: Retention::default(), ..options }, &operations, |world, step| {
            let _ = keeping.apply(step.command.clone(), world.now);
            let before = keeping.describe(world.now);
            let _ = keeping.apply(Command::Tick, world.now);
            let view = keeping.describe(world.now);
            let held = view.buffered_bytes + view.spooled_bytes;
            let subscriptions: Vec<_> = view.subscriptions.iter().map(|view| view.name.clone()).collect();
            let oldest = starts(&keeping).into_iter().filter_map(|(partition, _)| oldest_acked(&keeping, &subscriptions, partition));
            let oldest: Vec<_> = oldest.collect();
            // The one that became visible first decides for all.
            let stays = |(appended_at, size): &(Timestamp, u64)| world.now.since(*appended_at) < time || held - size < bytes;
            assert!(oldest.is_empty() || oldest.iter().any(stays), "{held} bytes are held, {oldest:?} need not");
            // And what has to stay does.
            let dropped = before.buffered_bytes + before.spooled_bytes - held;
            assert!(dropped == 0 || held >= bytes.min(held + dropped), "{dropped} bytes were dropped of {}", held + dropped);
        });
    }
}
