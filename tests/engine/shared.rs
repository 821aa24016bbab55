//! Shared subscriptions by hand: who is given what, what becomes of it, and who is told.

mod keys;
mod room;

use std::time::Duration;

use bowstring::engine::{
    Code, Command, ConsumerId, Error, InFlight, LeaseUpdate, Offset, OnOverflow, Outcome, Part, PartitionId, Share, SharingRules, Start,
    SubscriptionMode, TakenShare, Timestamp,
};

use crate::pool::{self, ACK_WITHIN, P0, Pool, SIGN, Wants, nack, rules};
use crate::story::subscription;

const SECOND: Duration = Duration::from_secs(1);

fn rows(start: u64, end: u64) -> Share {
    Share::Rows { start, end }
}

/// Offsets, shares and deliveries.
fn told(taken: &[TakenShare]) -> Vec<(u64, Share, u32)> {
    taken.iter().map(|taken| (taken.offset.0, taken.share, taken.delivery)).collect()
}

fn at_most(max_rows: u64) -> Wants {
    Wants { max_rows, ..Wants::default() }
}

fn one_at_a_time() -> Wants {
    Wants { in_flight: InFlight { batches: 1, bytes: u64::MAX }, ..Wants::default() }
}

#[test]
fn a_batch_is_divided_and_goes_once_all_of_it_is_acked() {
    let mut pool = Pool::of(1, rules(5));
    assert!(pool.append(0, 10) && pool.append(0, 0));
    let reading = pool.join(1, at_most(4));
    let taken = pool.take(1, reading);
    assert_eq!(told(&taken), [(0, rows(0, 4), 1), (0, rows(4, 8), 1), (0, rows(8, 10), 1), (1, rows(0, 0), 1)]);
    assert_eq!(pool.take(1, reading), []);
    pool.ack(&taken[1..]);
    let place = &pool.view().partitions[0];
    assert_eq!((place.lag_batches, place.lag_rows, place.lag_bytes, place.acked), (1, 4, 256, Offset(0)));
    assert_eq!((pool.start(0), pool.cursor(0)), (0, 0));
    pool.ack(&taken[..1]);
    assert_eq!((pool.start(0), pool.cursor(0)), (2, 2));
    assert_eq!(pool.update(vec![LeaseUpdate::Ack(taken[0].lease)]), [], "it may be said again");
}

#[test]
fn what_failed_too_often_dies_in_the_order_of_its_failures_and_is_buried() {
    let mut pool = Pool::of(2, rules(2));
    assert!(pool.append(0, 3) && pool.append(1, 5));
    let reading = pool.join(1, Wants::default());
    for delivery in 1..=2 {
        let mut taken = pool.take(1, reading);
        assert_eq!(taken.iter().map(|taken| taken.delivery).collect::<Vec<_>>(), [delivery; 2]);
        taken.sort_by_key(|taken| taken.partition);
        // The second partition's first.
        assert_eq!(pool.update(taken.iter().rev().map(|taken| nack(taken.lease, SECOND)).collect()), []);
        assert_eq!(pool.take(1, reading), [], "not before its time");
        pool.wait(SECOND);
    }
    assert_eq!(pool.take(1, reading), []);
    let dying: Vec<_> = pool.dying().into_iter().map(|dying| (dying.number, dying.partition.0, dying.share, dying.deliveries)).collect();
    assert_eq!(dying, [(0, 1, rows(0, 5), 2), (1, 0, rows(0, 3), 2)]);
    assert_eq!((&*pool.dying()[0].reason, pool.stream.has_dying(), pool.shares(0).dying), ("no", true, 1));
    let saved = pool.apply(Command::SaveShares { subscription: pool::name() });
    assert_eq!(saved.touched, [Part::Subscription(pool::name())]);
    let standing = pool.standing(1, reading);
    assert!(standing.is_sent && !standing.is_acked, "nothing of it comes again, and it is not done with");

    pool.restart(&[]);
    assert_eq!(pool.dying().iter().map(|dying| dying.number).collect::<Vec<_>>(), [0, 1]);
    for number in [0, 0, 7] {
        pool.ask(Command::Bury { subscription: pool::name(), created_at: Timestamp(1), number });
        assert_eq!((pool.cursor(0), pool.cursor(1)), (0, 1), "the second time changes nothing");
    }
    pool.ask(Command::Bury { subscription: pool::name(), created_at: Timestamp(1), number: 1 });
    assert_eq!((pool.start(0), pool.stream.has_dying()), (1, false));

    assert!(pool.append(0, 1));
    let reading = pool.join(1, Wants::default());
    for _ in 0..2 {
        let lease = pool.take(1, reading)[0].lease;
        pool.update(vec![nack(lease, Duration::ZERO)]);
    }
    assert_eq!(pool.dying()[0].number, 2, "no number comes twice");
}

/// Delivers until nothing comes; whatever has one of these rows fails. Gives how many deliveries that took.
fn work(pool: &mut Pool, reading: u64, bad: &[u64]) -> usize {
    let mut deliveries = 0;
    while let Some(taken) = pool.take_one(1, reading) {
        deliveries += 1;
        assert!(deliveries < 1_000, "it does not come to an end");
        let Share::Rows { start, end } = taken.share else { panic!("{taken:?}") };
        let fails = bad.iter().any(|row| (start..end).contains(row));
        let update = if fails { nack(taken.lease, Duration::ZERO) } else { LeaseUpdate::Ack(taken.lease) };
        assert_eq!(pool.update(vec![update]), []);
    }
    deliveries
}

#[test]
fn halves_are_delivered_once_more_until_single_rows_are_left() {
    let halved = |bad: &[u64], max_deliveries, count| {
        let mut pool = Pool::of(1, SharingRules { bisect: true, ..rules(max_deliveries) });
        assert!(pool.append(0, count));
        let reading = pool.join(1, Wants::default());
        let deliveries = work(&mut pool, reading, bad);
        let dead: Vec<_> = pool.dying().iter().map(|dying| (dying.share, dying.deliveries)).collect();
        assert!(dead.iter().all(|(_, deliveries)| *deliveries >= max_deliveries));
        let mut dead: Vec<_> = dead.into_iter().map(|(share, _)| share).collect();
        dead.sort();
        assert_eq!(dead, bad.iter().map(|row| rows(*row, row + 1)).collect::<Vec<_>>());
        let place = &pool.view().partitions[0];
        assert_eq!((place.lag_rows, place.lag_bytes), (bad.len() as u64, 64 * bad.len() as u64), "and those alone are left");
        deliveries
    };
    assert_eq!(halved(&[5], 3, 8), 3 + 2 + 2 + 2);
    assert_eq!(halved(&[0, 7], 1, 8), 1 + 2 + 4 + 4);
    assert_eq!(halved(&[0, 1, 2, 3, 4, 5, 6], 2, 7), 2 + 12);
    assert_eq!(halved(&[0], 2, 1), 2);
}

#[test]
fn what_may_fail_for_ever_never_dies() {
    let mut pool = Pool::of(1, rules(0));
    assert!(pool.append(0, 1));
    let reading = pool.join(1, Wants::default());
    for delivery in 1..100 {
        let taken = pool.take(1, reading);
        assert_eq!(told(&taken), [(0, rows(0, 1), delivery)]);
        pool.update(vec![nack(taken[0].lease, Duration::ZERO)]);
    }
    assert!(!pool.stream.has_dying());
}

#[test]
fn what_is_released_or_was_not_got_has_not_failed() {
    let mut pool = Pool::of(1, rules(1));
    assert!(pool.append(0, 1) && pool.append(0, 1));
    let old = pool.join(1, Wants::default());
    let taken = pool.take(1, old);
    assert_eq!(pool.update(vec![LeaseUpdate::Release(taken[0].lease)]), []);
    assert_eq!(told(&pool.take(1, old)), [(0, rows(0, 1), 1)]);
    let reading = pool.read(1, &[taken[1].lease]).expect("it has joined");
    assert_eq!(told(&pool.take(1, reading)), [(0, rows(0, 1), 1)], "the other one it has got");
    let superseded = pool.try_take(1, old, InFlight::default()).outcome.expect_err("another one reads");
    assert!(matches!(superseded, Error::ConsumerSuperseded { .. }), "{superseded}");
    pool.restart(&[]);
    let reading = pool.join(1, Wants::default());
    assert_eq!(told(&pool.take(1, reading)), [(0, rows(0, 1), 1), (1, rows(0, 1), 1)]);
}

#[test]
fn a_lease_lasts_as_long_as_it_is_renewed_and_to_its_last_moment() {
    let mut pool = Pool::of(1, rules(9));
    assert!(pool.append(0, 1));
    let (reading, other) = (pool.join(1, Wants::default()), pool.join(2, Wants::default()));
    let lease = pool.take(1, reading)[0].lease;
    pool.wait(ACK_WITHIN);
    assert_eq!(pool.take(2, other), []);
    assert_eq!(pool.update(vec![LeaseUpdate::Renew { lease, lasts: SECOND }]), []);
    assert_eq!(pool.stream.next_due(&pool::name(), pool.now), Ok(Some(pool.now.plus(SECOND + Duration::from_micros(1)))));
    pool.wait(SECOND);
    assert_eq!(pool.take(2, other), []);
    pool.wait(Duration::from_micros(1));
    let again = pool.take(2, other);
    assert_eq!(told(&again), [(0, rows(0, 1), 2)]);
    for late in [LeaseUpdate::Ack(lease), LeaseUpdate::Renew { lease, lasts: SIGN }, LeaseUpdate::Release(lease), nack(lease, SECOND)] {
        assert_eq!(pool.update(vec![late]), [lease]);
    }
    assert_eq!(pool.cursor(0), 0);
    assert_eq!(pool.update(vec![LeaseUpdate::Ack(lease), LeaseUpdate::Ack(again[0].lease)]), [lease], "the rest counts");
    assert_eq!(pool.cursor(0), 1);
}

#[test]
fn who_lets_a_lease_run_out_gets_nothing_before_it_goes_on() {
    let mut pool = Pool::of(1, rules(9));
    assert!(pool.append(0, 1));
    let (reading, other) = (pool.join(1, Wants::default()), pool.join(2, Wants::default()));
    assert_eq!(pool.take(1, reading).len(), 1);
    let ran_out = pool.wait(ACK_WITHIN + SECOND);
    assert!(ran_out.changed && ran_out.touched.contains(&Part::Subscription(pool::name())));
    assert_eq!(pool.stream.is_stalled(&pool::name(), ConsumerId(1)), Ok(true));
    (0..3).for_each(|_| assert!(pool.append(0, 1)));
    assert_eq!(pool.take(1, reading), []);
    assert_eq!(pool.take(2, other).len(), 4, "all of it, since the other one does not share");
    assert!(pool.append(0, 1));
    assert!(pool.resume(1).changed && !pool.resume(1).changed, "once");
    assert_eq!(told(&pool.take(1, reading)), [(4, rows(0, 1), 1)]);
}

#[test]
fn who_pauses_gets_nothing_and_what_it_has_stays_with_it() {
    let mut pool = Pool::of(1, rules(9));
    assert!(pool.append(0, 1) && pool.append(0, 1));
    let (reading, other) = (pool.join(1, one_at_a_time()), pool.join(2, Wants::default()));
    let had = pool.take(1, reading);
    assert!(pool.pause(1).changed && !pool.pause(1).changed, "once");
    assert_eq!(told(&pool.take(2, other)), [(1, rows(0, 1), 1)]);
    pool.ack(&had);
    assert!(pool.append(0, 1));
    assert_eq!(pool.take(1, reading), []);
    assert!(pool.resume(1).changed);
    assert_eq!(told(&pool.take(1, reading)), [(2, rows(0, 1), 1)]);
}

#[test]
fn what_ended_a_consumer_is_given_alone() {
    let mut pool = Pool::of(1, rules(9));
    (0..4).for_each(|_| assert!(pool.append(0, 1)));
    let reading = pool.join(1, Wants::default());
    let refused = pool.take_one(1, reading).expect("is there").lease;
    pool.update(vec![nack(refused, Duration::ZERO)]);
    assert_eq!(pool.take(1, reading).len(), 4);
    assert!(pool.leave(1).touched.contains(&Part::Subscription(pool::name())), "it had something");
    assert!(pool.append(0, 1));
    let (reading, other) = (pool.join(2, Wants::default()), pool.join(3, Wants::default()));
    let taken = pool.take(2, reading);
    assert_eq!(told(&taken), [(0, rows(0, 1), 3), (4, rows(0, 1), 1)], "with what is not suspected");
    assert_eq!(told(&pool.take(3, other)), [(1, rows(0, 1), 2)]);
    assert_eq!(pool.take(2, reading), []);
    let acked = pool.apply(Command::UpdateLeases {
        subscription: pool::name(),
        updates: vec![LeaseUpdate::Ack(taken[0].lease), LeaseUpdate::Ack(taken[1].lease)],
        resumes: None,
        pauses: None,
    });
    assert_eq!(acked.consumers, [ConsumerId(2)], "it was kept from more, and is told once");
    let next = pool.take(2, reading);
    assert_eq!(told(&next), [(2, rows(0, 1), 2)]);
    pool.update(vec![nack(next[0].lease, Duration::ZERO)]);
    assert_eq!(told(&pool.take(2, reading)), [(2, rows(0, 1), 3), (3, rows(0, 1), 2)], "who refuses it lives");
}

#[test]
fn a_seek_gives_anew_what_it_names_and_nothing_else() {
    let mut pool = Pool::of(2, rules(9));
    for partition in [0, 0, 1, 1, 1] {
        assert!(pool.append(partition, 1));
    }
    pool.ask(Command::Subscribe {
        subscription: subscription("other"),
        start: Start::Earliest,
        mode: None,
        on_overflow: OnOverflow::Hold,
        sharing: None,
        query: None,
    });
    let reading = pool.join(1, Wants::default());
    let taken = pool.take(1, reading);
    let of = |partition, offset| {
        let found = taken.iter().find(|taken| (taken.partition, taken.offset) == (PartitionId(partition), Offset(offset)));
        found.expect("was taken").lease
    };
    pool.update(vec![LeaseUpdate::Ack(of(0, 0)), LeaseUpdate::Ack(of(1, 1)), nack(of(1, 0), Duration::ZERO)]);
    let to = Start::Offsets([(P0, Offset(0))].into());
    pool.ask(Command::Seek { subscription: pool::name(), to, dry_run: false });
    assert_eq!(pool.update(vec![LeaseUpdate::Ack(of(1, 2))]), [of(1, 2)], "all leases are lost");
    let reading = pool.read(1, &[]).expect("it has joined");
    let mut again: Vec<_> = pool.take(1, reading).iter().map(|taken| (taken.partition.0, taken.offset.0, taken.delivery)).collect();
    again.sort_unstable();
    assert_eq!(again, [(0, 0, 1), (0, 1, 1), (1, 0, 2), (1, 2, 1)]);
}

#[test]
fn at_the_end_of_a_stream_consumers_are_told_when_all_is_sent_and_when_all_is_acked() {
    let mut pool = Pool::of(1, rules(9));
    assert!(pool.append(0, 2) && pool.append(0, 2));
    let (one, two) = (pool.join(1, one_at_a_time()), pool.join(2, one_at_a_time()));
    pool.ask(Command::Complete);
    let standing = |pool: &Pool| (pool.standing(2, two).is_sent, pool.standing(2, two).is_acked);
    assert!(pool.try_take(1, one, InFlight::default()).changed, "the others may have waited for that");
    assert_eq!(standing(&pool), (false, false));
    let taken = pool.take(2, two);
    assert_eq!(standing(&pool), (true, false));
    let refused =
        Command::UpdateLeases { subscription: pool::name(), updates: vec![nack(taken[0].lease, SECOND)], resumes: None, pauses: None };
    assert!(pool.apply(refused).changed);
    assert_eq!(standing(&pool), (false, false), "it comes again");
    pool.wait(SECOND);
    let taken = pool.take(2, two);
    pool.ack(&taken);
    assert!(pool.leave(1).changed);
    let taken = pool.take(2, two);
    let acked =
        Command::UpdateLeases { subscription: pool::name(), updates: vec![LeaseUpdate::Ack(taken[0].lease)], resumes: None, pauses: None };
    assert!(pool.apply(acked).changed);
    assert_eq!(standing(&pool), (true, true));
}

#[test]
fn commands_of_another_mode_are_refused() {
    let mut pool = Pool::of(1, rules(9));
    for (name, mode) in [("static", None), ("partitioned", Some(SubscriptionMode::Partitioned))] {
        let (start, on_overflow) = (Start::Earliest, OnOverflow::Hold);
        pool.ask(Command::Subscribe { subscription: subscription(name), start, mode, on_overflow, sharing: None, query: None });
        let subscription = || subscription(name);
        let (updates, resumes, pauses) = (Vec::new(), None, None);
        let update = Command::UpdateLeases { subscription: subscription(), updates, resumes, pauses };
        for command in [
            update,
            Command::SaveShares { subscription: subscription() },
            Command::Bury { subscription: subscription(), created_at: Timestamp(1), number: 0 },
        ] {
            assert!(matches!(pool.apply(command).outcome, Err(Error::SubscriptionMode { .. })));
        }
        assert_eq!(pool.stream.sharing(&subscription()), Ok(None));
    }
    let subscription = pool::name;
    for command in [
        Command::Ack { subscription: subscription(), generation: None, offsets: vec![(P0, Offset(0))] },
        Command::AckLeased { subscription: subscription(), acks: Vec::new() },
        Command::GiveBack { subscription: subscription(), from: Vec::new() },
    ] {
        assert!(matches!(pool.apply(command).outcome, Err(Error::SubscriptionMode { .. })));
    }
    let unknown = pool.try_take(1, 0, InFlight::default()).outcome.expect_err("nobody has joined");
    assert!(matches!(unknown, Error::ConsumerLost { .. }), "{unknown}");
    assert_eq!(pool.read(1, &[]), None);
}

#[test]
fn consumers_of_a_shared_subscription_that_is_deleted_are_woken() {
    let mut pool = Pool::of(1, rules(9));
    let reading = pool.join(1, Wants::default());
    let deleted = pool.stream.apply(Command::Unsubscribe { subscription: pool::name() }, pool.now);
    assert!(deleted.changed);
    let gone = pool.try_take(1, reading, InFlight::default()).outcome.expect_err("is deleted");
    assert_eq!(gone.code(), Code::SubscriptionNotFound);
}

#[test]
fn an_update_of_nothing_says_nothing() {
    let mut pool = Pool::of(1, rules(9));
    let nothing =
        pool.apply(Command::UpdateLeases { subscription: pool::name(), updates: Vec::new(), resumes: Some(ConsumerId(4)), pauses: None });
    assert_eq!(nothing.outcome, Ok(Outcome::Updated { lost: Vec::new() }));
    assert!(!nothing.changed && nothing.touched.is_empty() && nothing.consumers.is_empty());
}
