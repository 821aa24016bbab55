//! Waiting: only while there is a reason, always told of its end, never for ever.

use bowstring::engine::{
    AppenderId, AppenderKind, Command, FullPolicy, OnOverflow, Outcome, PartitionId, ProducerId, Start, StreamOptions,
};
use proptest::prelude::*;

use crate::model::{Doing, named_appender};
use crate::operations::{operations, options, options_of};
use crate::world::{World, subscription_name};

proptest! {
    #[test]
    fn nobody_waits_while_there_is_room(options in waiting(), operations in operations()) {
        World::drive(options, &operations, |world, _| {
            if let Some(first) = world.model.line.first() {
                let Doing::Waiting(bytes) = world.model.doing(*first) else { panic!("{first} is in the line and does not wait") };
                assert!(world.model.must_wait(bytes), "{first} waits for {bytes} bytes, and there is room");
            }
        });
    }

    #[test]
    fn the_line_is_first_come_first_served(options in waiting(), operations in operations()) {
        World::drive(options, &operations, |world, step| {
            let line: Vec<_> = world.stream.describe(world.now).waiting.iter().map(|wait| wait.appender).collect();
            assert_eq!(line, world.model.line);
            let left = |id: &AppenderId| !line.contains(id) || named_appender(&step.command) == Some(*id);
            let granted: Vec<_> = step.effects.granted.iter().map(|(id, _)| *id).collect();
            let in_line: Vec<_> = step.before.line.iter().copied().filter(|id| granted.contains(id)).collect();
            assert_eq!(granted, in_line);
            if let Some(last) = granted.last() {
                assert!(step.before.line.iter().take_while(|id| *id != last).all(left), "somebody was passed over");
            }
        });
    }

    #[test]
    fn every_end_of_a_wait_is_told_once(options in options(), operations in operations()) {
        World::drive(options, &operations, |world, step| {
            let line: Vec<_> = world.stream.describe(world.now).waiting.iter().map(|wait| wait.appender).collect();
            let granted = step.effects.granted.iter().map(|(id, _)| *id);
            let mut told: Vec<_> = granted.chain(step.effects.refused.iter().map(|(id, _)| *id)).collect();
            told.sort_unstable();
            let own = named_appender(&step.command);
            assert!(told.iter().all(|id| own != Some(*id)), "a command's own appender is answered by its outcome alone");
            let mut ended: Vec<_> = step.before.line.iter().copied().filter(|id| !line.contains(id) && own != Some(*id)).collect();
            ended.sort_unstable();
            assert_eq!(told, ended);
            let joined = line.iter().filter(|id| !step.before.line.contains(id));
            assert!(joined.into_iter().all(|id| own == Some(*id) && step.effects.outcome == Ok(Outcome::Waiting)));
        });
    }

    #[test]
    fn granted_room_takes_the_batch(options in options(), operations in operations()) {
        World::drive(options, &operations, |_, step| {
            let Command::Append { appender, ordinal, bytes, partition, .. } = &step.command else { return };
            let Doing::Reserved(_, room) = step.before.doing(*appender) else { return };
            let partition = partition.index() < step.before.logs.len();
            let expected = step.before.next_ordinal(*appender) == Some(*ordinal);
            let finished = matches!(step.effects.outcome, Err(bowstring::engine::Error::WriterFinished { .. }));
            if partition && expected && !finished && *bytes <= room && !step.before.ended {
                assert!(step.effects.outcome.is_ok(), "{:?}", step.effects.outcome);
            }
        });
    }

    #[test]
    fn waits_end_when_consumers_ack(options in waiting(), operations in operations()) {
        let mut world = World::drive(options, &operations, |_, _| ());
        ack_all(&mut world);
        // What is left waits behind a reservation, where the spool has no room either.
        while let Some(id) = passing(&world) {
            append_reserved(&mut world, id);
            ack_all(&mut world);
        }
        assert!(world.model.line.is_empty(), "{:?} wait for ever", world.model.line);
    }

    #[test]
    fn with_a_spool_waits_end_when_consumers_ack_whatever_other_producers_do(
        mut options in options_of(FullPolicy::Wait),
        operations in operations(),
    ) {
        options.limits.max_spool_bytes = 1 << 40;
        let mut world = World::drive(options, &operations, |_, _| ());
        ack_all(&mut world);
        assert!(world.model.line.is_empty(), "{:?} wait for ever", world.model.line);
    }

    #[test]
    fn with_everything_planned_an_append_never_waits(mut options in options_of(FullPolicy::Wait), operations in operations()) {
        options.limits.max_spool_bytes = 1 << 40;
        let mut world = World::drive(options, &operations, |_, _| ());
        prop_assume!(!world.model.ended);
        for subscription in subscriptions(&mut world) {
            let offsets = world.ends();
            world.apply(Command::Plan { subscription, offsets });
        }
        assert!(world.model.line.is_empty());
        let producer = ProducerId::new("source").expect("a valid name");
        let opened = world.apply(Command::OpenAppender { kind: AppenderKind::Anonymous { producer }, connection: None });
        let Ok(Outcome::Opened { appender, .. }) = opened.effects.outcome else { panic!("{:?}", opened.effects) };
        let reserved = world.apply(Command::Reserve { appender, bytes: 1 });
        assert!(matches!(reserved.effects.outcome, Ok(Outcome::Reserved { .. })), "{:?}", reserved.effects);
    }

    #[test]
    fn an_open_epoch_never_waits_for_itself(mut options in options(), operations in operations(), sizes in prop::collection::vec(1_u64..10, 1..40)) {
        options.limits.max_spool_bytes = 1 << 40;
        options.visibility = bowstring::engine::Visibility::Committed;
        options.limits.max_buffered_bytes = options.limits.max_buffered_bytes.max(10);
        let mut world = World::drive(options, &operations, |_, _| ());
        prop_assume!(!world.model.ended);
        ack_all(&mut world);
        let kind = crate::story::writer_of("a producer of its own", "run", 0, 0, 0);
        let opened = world.apply(Command::OpenAppender { kind, connection: None });
        let Ok(Outcome::Opened { appender, .. }) = opened.effects.outcome else { panic!("{:?}", opened.effects) };
        for (ordinal, bytes) in (0..).zip(sizes) {
            let reserved = world.apply(Command::Reserve { appender, bytes });
            assert!(matches!(reserved.effects.outcome, Ok(Outcome::Reserved { .. })), "{:?}", reserved.effects);
            let append = Command::Append { appender, ordinal, partition: PartitionId(0), rows: 1, bytes, data: ordinal };
            assert!(world.apply(append).effects.outcome.is_ok());
        }
    }
}

/// Streams whose producers wait.
fn waiting() -> impl Strategy<Value = StreamOptions> {
    prop_oneof![options_of(FullPolicy::Wait), options_of(FullPolicy::Spill)]
}

/// All subscriptions ack all that is visible; one is made if there is none.
fn ack_all(world: &mut World) {
    for subscription in subscriptions(world) {
        let offsets = world.ends();
        // Somebody's ack may have let in who needs the room that another holds.
        let was_evicted = world.model.evicted.contains(&subscription);
        let acked = world.apply(Command::Ack { subscription, generation: None, offsets });
        assert_eq!(acked.effects.outcome.is_ok(), !was_evicted);
    }
}

fn subscriptions(world: &mut World) -> Vec<bowstring::engine::SubscriptionName> {
    if world.model.subscriptions.is_empty() {
        world.apply(Command::Subscribe {
            subscription: subscription_name(0),
            start: Start::Earliest,
            mode: None,
            on_overflow: OnOverflow::Hold,
            sharing: None,
            query: None,
        });
    }
    world.model.holders().map(|(name, _)| name.clone()).collect()
}

fn passing(world: &World) -> Option<AppenderId> {
    let mut reserved = world.model.appenders.iter().filter(|(_, appender)| matches!(appender.doing, Doing::Reserved(..)));
    reserved.find(|_| !world.model.line.is_empty()).map(|(id, _)| *id)
}

fn append_reserved(world: &mut World, appender: AppenderId) {
    let Doing::Reserved(_, bytes) = world.model.doing(appender) else { return };
    let ordinal = world.model.next_ordinal(appender).expect("it holds a reservation");
    world.apply(Command::Append { appender, ordinal, partition: PartitionId(0), rows: 1, bytes, data: u64::MAX });
}
