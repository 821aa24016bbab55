//! Rows that are shared by keys: a lane is with one consumer at a time, and goes to another with whoever had it.

use super::{Pool, SECOND, Share, TakenShare, Wants};
use crate::pool::{ACK_WITHIN, keyed};

fn mask(taken: &TakenShare) -> u64 {
    if let Share::Lanes(mask) = taken.share { mask } else { panic!("{taken:?}") }
}

/// All lanes of these.
fn lanes(taken: &[TakenShare]) -> u64 {
    taken.iter().fold(0, |all, taken| all | mask(taken))
}

#[test]
fn each_gets_its_lanes_of_all_batches_at_once() {
    let mut pool = Pool::of(2, keyed());
    for partition in [0, 1, 0] {
        assert!(pool.append(partition, 64));
    }
    let readings = [1, 2, 3].map(|consumer| (consumer, pool.join(consumer, Wants::default())));
    let taken = readings.map(|(consumer, reading)| pool.take(consumer, reading));
    assert!(taken.iter().all(|taken| taken.len() == 3), "nobody else could have them");
    assert_eq!(taken.iter().map(|taken| lanes(taken)).fold(0, |all, of| all | of), u64::MAX);
    assert_eq!(taken.iter().map(|taken| lanes(taken).count_ones()).sum::<u32>(), 64);
    let place = &pool.view().partitions[0];
    assert_eq!((place.lag_batches, place.lag_rows, place.lag_bytes), (2, 128, 128 * 64));
    pool.ack(&taken[0]);
    let place = &pool.view().partitions[0];
    let left = u64::from(64 - lanes(&taken[0]).count_ones());
    assert_eq!((place.lag_batches, place.lag_rows, place.lag_bytes), (2, 2 * left, 2 * left * 64));
    pool.ack(&taken[1]);
    pool.ack(&taken[2]);
    assert_eq!((pool.start(0), pool.start(1)), (2, 1));
}

#[test]
fn what_is_given_in_part_counts_once_as_lag() {
    let mut pool = Pool::of(1, keyed());
    assert!(pool.append(0, 64) && pool.append(0, 0));
    let (one, _) = (pool.join(1, Wants::default()), pool.join(2, Wants::default()));
    assert_eq!(pool.take(1, one).len(), 2);
    let view = pool.view();
    assert_eq!((view.partitions[0].lag_batches, view.partitions[0].lag_rows, view.partitions[0].lag_bytes), (2, 64, 65 * 64));
    let of_one: Vec<_> = view.consumers.iter().map(|seen| seen.in_flight_bytes).collect();
    assert_eq!(of_one, [32 * 65, 0], "the batch without rows weighs as much as it has lanes");
}

#[test]
fn a_lane_goes_over_when_nothing_of_it_is_with_another_and_others_are_told() {
    let mut pool = Pool::of(1, keyed());
    assert!(pool.append(0, 64));
    let one = pool.join(1, Wants::default());
    let first = pool.take(1, one);
    assert_eq!(lanes(&first), u64::MAX);
    let two = pool.join(2, Wants::default());
    assert!(pool.append(0, 64));
    assert_eq!(pool.take(2, two), [], "all lanes are with the other one");
    let before = pool.take(1, one);
    assert_eq!(lanes(&before).count_ones(), 32, "it is given no more of what is to go");
    let updates = vec![bowstring::engine::LeaseUpdate::Ack(first[0].lease)];
    let acked =
        pool.apply(bowstring::engine::Command::UpdateLeases { subscription: crate::pool::pool(), updates, resumes: None, pauses: None });
    assert!(acked.changed);
    let after = pool.take(2, two);
    assert_eq!((lanes(&after), lanes(&after) & lanes(&before)), (!lanes(&before), 0));
}

#[test]
fn lanes_of_the_leaving_the_dead_and_the_stalled_go_to_others() {
    for how in ["leaves", "dies", "stalls"] {
        let mut pool = Pool::of(1, keyed());
        assert!(pool.append(0, 64));
        let one = pool.join(1, Wants::default());
        let two = pool.join(2, Wants::default());
        let had = pool.take(1, one);
        assert_eq!(lanes(&had).count_ones(), 32);
        match how {
            "leaves" => assert!(pool.leave(1).changed),
            "dies" => {
                pool.wait(ACK_WITHIN);
                pool.keep(2, Wants::default());
                pool.wait(ACK_WITHIN * 2 + SECOND);
            }
            _ => assert!(pool.wait(ACK_WITHIN + SECOND).changed),
        }
        let taken = pool.take(2, two);
        assert_eq!(lanes(&taken), u64::MAX, "if it {how}");
        assert!(taken.iter().all(|of| (of.delivery == 2) == (mask(of) & lanes(&had) != 0)), "{taken:?}");
        pool.ack(&taken);
        assert_eq!(pool.start(0), 1);
        if how == "stalls" {
            pool.resume(1);
            assert!(pool.append(0, 64));
            assert_eq!(lanes(&pool.take(1, one)).count_ones(), 32, "it takes part again");
        }
    }
}

/// Both have a part of it: what came back has its failures in both.
#[test]
fn what_came_back_is_divided_among_those_who_have_its_lanes() {
    let mut pool = Pool::of(1, keyed());
    assert!(pool.append(0, 640));
    let one = pool.join(1, Wants::default());
    let refused = pool.take(1, one);
    let two = pool.join(2, Wants::default());
    pool.update(vec![super::nack(refused[0].lease, std::time::Duration::ZERO)]);
    let parts = [pool.take(1, one), pool.take(2, two)];
    assert!(parts.iter().all(|part| part.len() == 1 && part[0].delivery == 2 && mask(&part[0]).count_ones() == 32));
    assert_eq!(mask(&parts[0][0]) & mask(&parts[1][0]), 0);
    let seen: Vec<_> = pool.view().consumers.iter().map(|seen| seen.in_flight_bytes).collect();
    assert_eq!((seen, pool.view().partitions[0].lag_rows), (vec![320 * 64; 2], 640));
}

#[test]
fn more_consumers_than_lanes_wait_and_take_over() {
    let mut pool = Pool::of(1, keyed());
    let readings: Vec<_> = (0..65).map(|consumer| (consumer, pool.join(consumer, Wants::default()))).collect();
    assert!(pool.append(0, 64));
    let taken: Vec<_> = readings.iter().map(|(consumer, reading)| pool.take(*consumer, *reading)).collect();
    assert_eq!(taken.iter().map(Vec::len).sum::<usize>(), 64);
    let idle = taken.iter().position(Vec::is_empty).expect("one has none");
    pool.leave(if idle == 0 { 1 } else { 0 });
    assert_eq!(pool.take(readings[idle].0, readings[idle].1).len(), 1);
}
