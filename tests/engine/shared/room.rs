//! How much of a shared subscription is with whom: fair shares, bounds in flight, the most pieces, and what is dropped meanwhile.

use std::time::Duration;

use bowstring::engine::{
    Code, Command, ConsumerId, Effects, InFlight, LeaseUpdate, OnOverflow, SharingRules, StreamOptions, TakenShare, Timestamp,
};

use super::{ACK_WITHIN, Pool, SECOND, Wants, at_most, nack, one_at_a_time, pool, rows, rules, told};
use crate::story::drop_oldest;

/// As many as the engine has at most.
const PIECES_MAX: u64 = 16_384;
const CONSUMERS_MAX: u64 = 16_384;

fn settle(pool: &mut Pool, updates: Vec<LeaseUpdate>) -> Effects {
    pool.apply(Command::UpdateLeases { subscription: pool::name(), updates, resumes: None, pauses: None })
}

fn skipped(taken: &[TakenShare]) -> Vec<(u64, u64)> {
    taken.iter().map(|taken| (taken.offset.0, taken.skipped)).collect()
}

#[test]
fn of_little_work_each_gets_its_share() {
    let counts = |pool: &mut Pool, readings: &[(u64, u64)]| -> Vec<usize> {
        readings.iter().map(|(consumer, reading)| pool.take(*consumer, *reading).len()).collect()
    };
    let joined = |pool: &mut Pool, wants: &[Wants]| -> Vec<(u64, u64)> {
        (0..).zip(wants).map(|(consumer, wants)| (consumer, pool.join(consumer, *wants))).collect()
    };
    let mut pool = Pool::of(2, rules(1));
    let readings = joined(&mut pool, &[Wants::default(); 5]);
    (0..10).for_each(|number| assert!(pool.append(number % 2, 1)));
    assert_eq!(counts(&mut pool, &readings), [2; 5]);

    // What is dead or has to wait is nobody's work.
    let mut pool = Pool::of(1, rules(1));
    let reading = pool.join(9, Wants::default());
    (0..20).for_each(|_| assert!(pool.append(0, 1)));
    let taken = pool.take(9, reading);
    settle(&mut pool, taken.iter().map(|taken| nack(taken.lease, Duration::ZERO)).collect());
    pool.leave(9);
    let readings = joined(&mut pool, &[Wants::default(); 4]);
    (0..4).for_each(|_| assert!(pool.append(0, 1)));
    assert_eq!(counts(&mut pool, &readings), [1; 4]);

    let mut pool = Pool::of(1, rules(2));
    let reading = pool.join(9, Wants::default());
    (0..20).for_each(|_| assert!(pool.append(0, 1)));
    let taken = pool.take(9, reading);
    settle(&mut pool, taken.iter().map(|taken| nack(taken.lease, SECOND)).collect());
    pool.leave(9);
    let readings = joined(&mut pool, &[Wants::default(); 4]);
    (0..4).for_each(|_| assert!(pool.append(0, 1)));
    assert_eq!(counts(&mut pool, &readings), [1; 4]);

    // Rows are divided as each takes them.
    let mut pool = Pool::of(1, rules(1));
    let readings = joined(&mut pool, &[Wants::default(), Wants::default(), at_most(1), at_most(5)]);
    (0..4).for_each(|_| assert!(pool.append(0, 10)));
    assert_eq!(counts(&mut pool, &readings)[..2], [1, 1]);
}

#[test]
fn what_is_in_flight_stays_within_its_bounds_and_one_is_always_given() {
    let mut pool = Pool::of(1, rules(9));
    [9, 1, 1, 1, 3].into_iter().for_each(|rows| assert!(pool.append(0, rows)));
    let wants = |batches, bytes| Wants { in_flight: InFlight { batches, bytes }, max_rows: u64::MAX };
    let reading = pool.join(1, wants(2, 128));
    let large = pool.take(1, reading);
    assert_eq!(told(&large), [(0, rows(0, 9), 1)], "though it is too large");
    assert_eq!(pool.take(1, reading), []);
    assert_eq!(settle(&mut pool, vec![LeaseUpdate::Ack(large[0].lease)]).consumers, [ConsumerId(1)]);
    let two = pool.take(1, reading);
    assert_eq!(told(&two), [(1, rows(0, 1), 1), (2, rows(0, 1), 1)]);
    pool.keep(1, wants(3, 128));
    assert_eq!(pool.take(1, reading), [], "of so many bytes");
    pool.keep(1, wants(3, 192));
    assert_eq!(told(&pool.take(1, reading)), [(3, rows(0, 1), 1)]);
    pool.keep(1, wants(0, 0));
    pool.ack(&two);
    assert_eq!(pool.take(1, reading), []);
    let seen = &pool.view().consumers[0];
    assert_eq!((seen.in_flight_batches, seen.in_flight_bytes), (1, 64));
}

/// The rest of it is not in the way.
#[test]
fn what_came_back_weighs_as_much_as_is_given_of_it() {
    let mut pool = Pool::of(1, rules(9));
    assert!(pool.append(0, 8) && pool.append(0, 1));
    let reading = pool.join(1, Wants::default());
    let taken = pool.take(1, reading);
    settle(&mut pool, vec![LeaseUpdate::Release(taken[0].lease), LeaseUpdate::Ack(taken[1].lease)]);
    pool.keep(1, Wants { in_flight: InFlight { batches: 9, bytes: 256 }, max_rows: 2 });
    let mut again = Vec::new();
    for _ in 0..3 {
        again.extend(pool.take(1, reading));
    }
    assert_eq!(told(&again), [(0, rows(0, 2), 1), (0, rows(2, 4), 1)]);
    assert_eq!(pool.view().partitions[0].lag_bytes, 512);
}

#[test]
fn beyond_the_most_pieces_nobody_is_given_more_before_some_are_acked() {
    let mut pool = Pool::of(1, rules(9));
    assert!(pool.append(0, PIECES_MAX + 9));
    let reading = pool.join(1, at_most(1));
    let taken = pool.take(1, reading);
    assert_eq!(pool.shares(0).leased, PIECES_MAX);
    let three = pool.join(3, at_most(1));
    assert_eq!(pool.take(3, three), []);
    let acked = settle(&mut pool, vec![LeaseUpdate::Ack(taken[0].lease)]);
    assert!(acked.changed, "anybody may be given more now");
    assert!(!settle(&mut pool, vec![LeaseUpdate::Ack(taken[1].lease)]).changed, "and could before");
    assert_eq!(pool.take(3, three).len(), 2);
    assert_eq!(pool.take(3, three), []);
}

/// Who has nothing is given something all the same.
#[test]
fn there_is_a_limit_to_dividing_what_came_back() {
    let mut pool = Pool::of(1, rules(9));
    assert!(pool.append(0, 10) && pool.append(0, PIECES_MAX));
    let reading = pool.join(1, Wants::default());
    let whole = pool.take_one(1, reading).expect("is there");
    pool.keep(1, at_most(1));
    let taken = pool.take(1, reading);
    assert_eq!(taken.len() as u64, PIECES_MAX - 1);
    assert_eq!(pool.update(vec![LeaseUpdate::Release(whole.lease)]), []);
    pool.keep(1, at_most(2));
    assert_eq!(pool.take(1, reading), []);
    let two = pool.join(2, at_most(2));
    assert_eq!(told(&pool.take(2, two)), [(0, rows(0, 2), 1)]);
    assert_eq!(pool.take(2, two), []);
    assert_eq!(settle(&mut pool, vec![LeaseUpdate::Ack(taken[0].lease), LeaseUpdate::Ack(taken[1].lease)]).consumers, [ConsumerId(1)]);
    assert_eq!(told(&pool.take(2, two))[0], (0, rows(2, 4), 1));
}

#[test]
fn there_is_a_limit_to_halving_and_what_is_beyond_dies_as_it_is() {
    let mut pool = Pool::of(1, SharingRules { bisect: true, ..rules(1) });
    assert!(pool.append(0, 4 * PIECES_MAX));
    let reading = pool.join(1, at_most(4));
    let mut taken = pool.take(1, reading);
    assert_eq!(taken.len() as u64, PIECES_MAX);
    pool.keep(1, Wants::default());
    for _ in 0..2 {
        assert!(!pool.stream.has_dying());
        settle(&mut pool, taken.iter().map(|taken| nack(taken.lease, Duration::ZERO)).collect());
        taken = pool.take(1, reading);
    }
    assert_eq!(taken, []);
    let dying = pool.dying();
    assert_eq!(dying.len() as u64, 2 * PIECES_MAX);
    assert!(dying.iter().all(|dying| dying.share.clone() != rows(0, 1)));
}

#[test]
fn of_consumers_there_are_so_many_at_most() {
    let mut pool = Pool::of(1, rules(9));
    (0..CONSUMERS_MAX).for_each(|consumer| pool.keep(consumer, Wants::default()));
    pool.keep(0, Wants::default());
    let refused = pool.sign(CONSUMERS_MAX, SECOND, Wants::default()).outcome.expect_err("one too many");
    assert_eq!(refused.code(), Code::TooMany);
    pool.leave(7);
    pool.keep(CONSUMERS_MAX, Wants::default());
}

fn dropping(sharing: SharingRules, on_overflow: OnOverflow) -> Pool {
    let mut options = match on_overflow {
        OnOverflow::Hold => drop_oldest(u64::MAX, u64::MAX, 0),
        OnOverflow::Skip | OnOverflow::Evict => StreamOptions::default(),
    };
    options.limits.max_disk_bytes = 4 * 64;
    Pool::with(options, sharing, on_overflow)
}

#[test]
fn what_is_dropped_under_consumers_is_lost_to_them_and_told() {
    for on_overflow in [OnOverflow::Hold, OnOverflow::Skip] {
        let mut pool = dropping(rules(9), on_overflow);
        (0..4).for_each(|_| assert!(pool.append(0, 1)));
        let reading = pool.join(1, Wants::default());
        let taken: Vec<_> = (0..3).filter_map(|_| pool.take_one(1, reading)).collect();
        settle(&mut pool, vec![nack(taken[1].lease, ACK_WITHIN), LeaseUpdate::Ack(taken[2].lease)]);
        assert!(pool.append(0, 1));
        assert_eq!((pool.start(0), pool.cursor(0)), (1, 1));
        assert_eq!(pool.update(vec![LeaseUpdate::Ack(taken[0].lease)]), [taken[0].lease]);
        assert_eq!(pool.view().consumers[0].in_flight_batches, 0);
        assert!(pool.append(0, 1));
        assert_eq!((pool.start(0), pool.cursor(0)), (3, 3), "what follows is acked already");
        let place = &pool.view().partitions[0];
        assert_eq!((place.lag_batches, place.lag_rows, place.skipped), (3, 3, 2));
        assert_eq!(skipped(&pool.take(1, reading)), [(3, 2), (4, 0), (5, 0)]);
        (0..6).for_each(|_| assert!(pool.append(0, 1)));
        let reading = pool.read(1, &[]).expect("it has joined");
        assert_eq!(skipped(&pool.take(1, reading)), [(8, 5), (9, 0), (10, 0), (11, 0)]);
    }
}

#[test]
fn who_is_evicted_is_refused_and_its_dead_are_left_alone() {
    let mut pool = dropping(rules(1), OnOverflow::Evict);
    (0..4).for_each(|_| assert!(pool.append(0, 1)));
    let reading = pool.join(1, Wants::default());
    let taken = pool.take(1, reading);
    settle(&mut pool, vec![nack(taken[3].lease, Duration::ZERO)]);
    assert!(pool.stream.has_dying());
    assert!(pool.append(0, 1));
    assert!(!pool.stream.has_dying() && pool.dying().is_empty());
    let subscription = pool::name;
    for command in [
        Command::UpdateLeases {
            subscription: subscription(),
            updates: vec![LeaseUpdate::Ack(taken[0].lease)],
            resumes: None,
            pauses: None,
        },
        Command::SaveShares { subscription: subscription() },
        Command::Bury { subscription: subscription(), created_at: Timestamp(1), number: 0 },
        Command::TakeLeased { subscription: subscription(), consumer: ConsumerId(1), reading, most: InFlight::default() },
    ] {
        assert_eq!(pool.apply(command).outcome.map_err(|error| error.code()), Err(Code::SubscriptionEvicted));
    }
    pool.ask(Command::Seek { subscription: subscription(), to: bowstring::engine::Start::Earliest, dry_run: false });
    let reading = pool.read(1, &[]).expect("it has joined");
    assert_eq!(pool.take(1, reading).first().map(|taken| (taken.offset.0, taken.delivery)), Some((pool.start(0), 1)));
}

#[test]
fn who_was_full_is_woken_by_an_ack_and_nobody_else() {
    let mut pool = Pool::of(1, rules(9));
    (0..3).for_each(|_| assert!(pool.append(0, 1)));
    let (one, two) = (pool.join(1, one_at_a_time()), pool.join(2, Wants::default()));
    let mine = pool.take(1, one);
    let others = pool.take_one(2, two).expect("is there");
    let acked = settle(&mut pool, vec![LeaseUpdate::Ack(others.lease)]);
    assert_eq!((acked.consumers, acked.changed), (Vec::new(), false), "it knows what it may take");
    assert_eq!(settle(&mut pool, vec![LeaseUpdate::Ack(mine[0].lease)]).consumers, [ConsumerId(1)]);
}
