//! Consumers that share a partitioned subscription: whoever joins, leaves, dies, stalls or reads anew, each partition has one owner,
//! nothing is with two at once that both could ack, nothing acked comes again, and in the end all is acked.

use std::collections::BTreeMap;

use bowstring::engine::{Command, ConsumerId, Holding, InFlight, LeasedOffset, Offset, Outcome, PartitionId};
use proptest::prelude::*;

use crate::team::{Step, Team, subscription};

fn step(partitions: u32) -> impl Strategy<Value = Step> {
    let consumer = 0_u64..5;
    prop_oneof![
        6 => (0..partitions).prop_map(|partition| Step::Append { partition }),
        3 => consumer.clone().prop_map(|consumer| Step::Keep { consumer }),
        1 => consumer.clone().prop_map(|consumer| Step::Leave { consumer }),
        1 => consumer.clone().prop_map(|consumer| Step::Read { consumer }),
        6 => (consumer.clone(), 1_u64..4).prop_map(|(consumer, batches)| Step::Take { consumer, batches }),
        6 => (consumer.clone(), 0..partitions, 1_u64..4)
            .prop_map(|(consumer, partition, batches)| Step::Ack { consumer, partition, batches }),
        1 => (0_usize..8).prop_map(|nth| Step::AckLate { nth }),
        2 => (consumer, 0_u64..2).prop_map(|(consumer, keeps)| Step::GiveBack { consumer, keeps }),
        2 => (1_u64..8).prop_map(|seconds| Step::Wait { seconds }),
        1 => (0_u64..4).prop_map(|offset| Step::Seek { offset }),
    ]
}

fn in_flight() -> impl Strategy<Value = InFlight> {
    prop_oneof![2 => Just(InFlight::default()), 1 => (1_u64..5).prop_map(|batches| InFlight { batches, bytes: u64::MAX })]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn consumers_that_share_by_leases_get_all_and_nothing_twice_at_once(
        (partitions, in_flight, steps) in (1_u32..6).prop_flat_map(|partitions| {
            (Just(partitions), in_flight(), prop::collection::vec(step(partitions), 1..120))
        }),
    ) {
        let mut team = Team::new(partitions, in_flight);
        let appends = steps.iter().filter(|step| matches!(step, Step::Append { .. })).count();
        prop_assume!(appends < 64);
        for step in &steps {
            team.run(step);
        }
        team.finish();
    }

    #[test]
    fn only_what_has_to_move_moves(partitions in 1_u32..40, members in 1_u64..12, leaver in 0_u64..12) {
        let mut team = Team::new(partitions, InFlight::default());
        (0..members).for_each(|consumer| drop(team.keep(consumer)));
        let owners = |team: &Team| -> BTreeMap<PartitionId, u64> {
            let held = team.consumers_of_view().into_iter();
            held.flat_map(|(consumer, held)| held.into_iter().map(move |partition| (partition, consumer))).collect()
        };
        let before = owners(&team);
        team.keep(members);
        let joined = owners(&team);
        let moved: u64 = joined.iter().filter(|(partition, owner)| before[partition] != **owner).map(|_| 1).sum();
        assert_eq!(moved, u64::from(partitions) / (members + 1), "to the new one its share, and nothing among the others");
        let leaver = leaver % (members + 1);
        team.leave(leaver);
        let left = owners(&team);
        assert!(left.iter().all(|(partition, owner)| joined[partition] == *owner || joined[partition] == leaver));
        team.check_spread();
    }
}

/// The others wait for it: they may be told of the end then.
#[test]
fn who_is_sent_the_last_of_an_ended_stream_wakes_the_others() {
    let mut team = Team::new(1, InFlight::default());
    team.run(&Step::Keep { consumer: 0 });
    team.run(&Step::Append { partition: 0 });
    let Ok(Outcome::Reads(reading)) =
        team.apply(Command::ReadLeased { subscription: subscription(), consumer: ConsumerId(0), got: Vec::new() }).outcome
    else {
        panic!("it has joined");
    };
    let take =
        || Command::TakeLeased { subscription: subscription(), consumer: ConsumerId(0), reading, most: InFlight { batches: 1, bytes: 1 } };
    assert!(!team.apply(take()).changed, "more may come");
    team.run(&Step::Append { partition: 0 });
    assert!(team.apply(Command::Complete).outcome.is_ok());
    assert!(team.apply(take()).changed);
    assert!(!team.apply(take()).changed, "there was nothing");
}

/// It has less under way then, and may be sent more of other partitions.
#[test]
fn who_gives_back_is_woken() {
    let mut team = Team::new(2, InFlight { batches: 2, bytes: u64::MAX });
    team.run(&Step::Keep { consumer: 0 });
    for partition in [0, 0, 1, 1] {
        team.run(&Step::Append { partition });
    }
    team.run(&Step::Take { consumer: 0, batches: 2 });
    team.run(&Step::Keep { consumer: 1 });
    let wanted: Vec<_> = team.keep(0).into_iter().filter(|holding| holding.is_wanted).collect();
    let from = |holding: &Holding| LeasedOffset { partition: holding.partition, lease: holding.lease, offset: Offset(1) };
    let given = team.apply(Command::GiveBack { subscription: subscription(), from: wanted.iter().map(from).collect() });
    assert_eq!(given.consumers, vec![ConsumerId(0); wanted.len()]);
}
