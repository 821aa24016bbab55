//! Consumers that share a subscription by rows or by keys: whoever joins, leaves, dies, stalls, reads anew or refuses, each row is
//! with one of them at most, nothing acked comes again, and in the end all is acked or dead.

use std::time::Duration;

use bowstring::engine::{
    Code, Command, InFlight, LANES, LeaseId, LeaseUpdate, Offset, OnOverflow, Outcome, Share, Start, StreamOptions, SubscriptionName,
    Timestamp,
};
use proptest::prelude::*;

use crate::pool::rows::{Member, PartitionRows, Rows, State, number};
use crate::pool::{ACK_WITHIN, Pool, SIGN, Wants, keyed, nack, name, rules};
use crate::story::{drop_oldest, subscription};

#[derive(Debug, Clone)]
enum Step {
    Append { partition: u32, rows: u64 },
    Keep { consumer: u64, wants: Wants },
    Leave { consumer: u64 },
    Read { consumer: u64, keeps: bool },
    Take { consumer: u64, batches: u64 },
    Ack { nth: usize },
    Nack { nth: usize, seconds: u64 },
    Renew { nth: usize, seconds: u64 },
    Release { nth: usize },
    Late { nth: usize },
    Resume { consumer: u64 },
    Pause { consumer: u64 },
    Wait { seconds: u64 },
    Bury,
    AckOther { partition: u32, offset: u64 },
    Seek { partition: u32, offset: u64 },
    Restart,
}

fn wants() -> impl Strategy<Value = Wants> {
    let bytes = prop_oneof![2 => Just(u64::MAX), 1 => 64_u64..1_000];
    let batches = prop_oneof![1 => Just(u64::MAX), 1 => 1_u64..4];
    let max_rows = prop_oneof![1 => Just(u64::MAX), 1 => 1_u64..6];
    (batches, bytes, max_rows).prop_map(|(batches, bytes, max_rows)| Wants { in_flight: InFlight { batches, bytes }, max_rows })
}

fn step(partitions: u32) -> impl Strategy<Value = Step> {
    let consumer = 0_u64..5;
    let one = 0..partitions;
    prop_oneof![
        8 => (one.clone(), 0_u64..10).prop_map(|(partition, rows)| Step::Append { partition, rows }),
        4 => (consumer.clone(), wants()).prop_map(|(consumer, wants)| Step::Keep { consumer, wants }),
        1 => consumer.clone().prop_map(|consumer| Step::Leave { consumer }),
        2 => (consumer.clone(), any::<bool>()).prop_map(|(consumer, keeps)| Step::Read { consumer, keeps }),
        12 => (consumer.clone(), 1_u64..4).prop_map(|(consumer, batches)| Step::Take { consumer, batches }),
        8 => (0_usize..9).prop_map(|nth| Step::Ack { nth }),
        5 => (0_usize..9, 0_u64..9).prop_map(|(nth, seconds)| Step::Nack { nth, seconds }),
        1 => (0_usize..9, 0_u64..30).prop_map(|(nth, seconds)| Step::Renew { nth, seconds }),
        1 => (0_usize..9).prop_map(|nth| Step::Release { nth }),
        2 => (0_usize..9).prop_map(|nth| Step::Late { nth }),
        2 => consumer.clone().prop_map(|consumer| Step::Resume { consumer }),
        1 => consumer.prop_map(|consumer| Step::Pause { consumer }),
        3 => (1_u64..15).prop_map(|seconds| Step::Wait { seconds }),
        1 => Just(Step::Bury),
        2 => (one.clone(), 0_u64..9).prop_map(|(partition, offset)| Step::AckOther { partition, offset }),
        1 => (one, 0_u64..9).prop_map(|(partition, offset)| Step::Seek { partition, offset }),
        1 => Just(Step::Restart),
    ]
}

fn other() -> SubscriptionName {
    subscription("other")
}

/// The engine and the plain rows.
struct Both {
    pool: Pool,
    rows: Rows,
    /// The cursors of a second subscription, which is not shared.
    other: Vec<u64>,
}

impl Both {
    fn new(partitions: u32, sharing: bowstring::engine::SharingRules, room: Option<u64>) -> Self {
        let mut options = StreamOptions { partitions, ..StreamOptions::default() };
        if let Some(bytes) = room.map(|bytes| if sharing.keys.is_empty() { bytes } else { bytes * u64::from(LANES) }) {
            options = StreamOptions { partitions, ..drop_oldest(u64::MAX, u64::MAX, 0) };
            options.limits.max_disk_bytes = bytes;
        }
        let mut pool = Pool::new(options, sharing.clone());
        let (start, on_overflow) = (Start::Earliest, OnOverflow::Hold);
        pool.ask(Command::Subscribe { subscription: other(), start, mode: None, on_overflow, sharing: None, query: None });
        Self { pool, rows: Rows::new(partitions, sharing), other: vec![0; partitions as usize] }
    }

    fn nth(&self, nth: usize) -> Option<LeaseId> {
        self.rows.leases.keys().copied().nth(nth % self.rows.leases.len().max(1))
    }

    fn update(&mut self, update: LeaseUpdate) {
        let lease = update.lease();
        let expected = if self.rows.leases.contains_key(&lease) || self.rows.ended.contains(&lease) { Vec::new() } else { vec![lease] };
        let ends = !matches!(update, LeaseUpdate::Renew { .. }) && expected.is_empty();
        assert_eq!(self.pool.update(vec![update]), expected);
        self.rows.ended.extend(ends.then_some(lease));
    }

    fn take(&mut self, consumer: u64, batches: u64) -> usize {
        let now = self.pool.now;
        let most = InFlight { batches, bytes: u64::MAX };
        let reading = self.rows.members.get(&consumer).and_then(|member| member.reading).unwrap_or(u64::MAX);
        let outcome = self.pool.try_take(consumer, reading, most).outcome;
        self.rows.expire(now);
        let Some(member) = self.rows.members.get(&consumer).copied().filter(|member| member.reading.is_some()) else {
            assert_eq!(outcome.map_err(|error| error.code()), Err(Code::LeaseLost));
            return 0;
        };
        let Ok(Outcome::TakenShares(taken)) = outcome else { panic!("{outcome:?}") };
        let had_none = self.rows.of(consumer).next().is_none();
        assert!(taken.is_empty() || !member.is_stalled, "it does not go on");
        if taken.is_empty() && had_none && !member.is_stalled && !self.rows.is_keyed() {
            assert!(!self.rows.has_open(now), "there is something for {consumer}, who has nothing");
        }
        assert!(taken.len() as u64 <= batches);
        let before = self.rows.in_flight(consumer);
        taken.iter().for_each(|taken| self.rows.receive(consumer, taken, now.plus(ACK_WITHIN), now));
        let held = self.rows.in_flight(consumer);
        let is_within = held.batches <= member.in_flight.batches && held.bytes <= member.in_flight.bytes;
        assert!(held == before || held.batches == 1 || is_within, "{held:?} of {member:?}");
        taken.len()
    }

    fn run(&mut self, step: &Step) {
        let now = self.pool.now;
        match *step {
            Step::Append { partition, rows } => {
                // As many in each lane.
                let rows = if self.rows.is_keyed() { rows * u64::from(LANES) } else { rows };
                if self.pool.append(partition, rows) {
                    self.rows.append(partition, rows);
                }
            }
            Step::Keep { consumer, wants } => {
                let until = now.plus(SIGN);
                let is_new = !self.rows.members.contains_key(&consumer);
                self.pool.keep(consumer, wants);
                let member = Member { until, reading: None, is_stalled: false, in_flight: wants.in_flight, max_rows: wants.max_rows };
                let member = self.rows.members.entry(consumer).or_insert(member);
                (member.until, member.in_flight, member.max_rows) = (until, wants.in_flight, wants.max_rows);
                if is_new {
                    self.run(&Step::Read { consumer, keeps: false });
                }
            }
            Step::Leave { consumer } => {
                self.pool.leave(consumer);
                self.rows.forget(consumer, now);
            }
            Step::Read { consumer, keeps } => {
                let got: Vec<_> = self.rows.of(consumer).map(|(lease, _)| lease).collect();
                let (got, lost) = got.split_at(if keeps { got.len() / 2 } else { 0 });
                let reading = self.pool.read(consumer, got);
                assert_eq!(reading.is_some(), self.rows.members.contains_key(&consumer));
                self.rows.members.entry(consumer).and_modify(|member| member.reading = reading);
                lost.iter().for_each(|lease| self.rows.release(*lease, now));
            }
            Step::Take { consumer, batches } => drop(self.take(consumer, batches)),
            Step::Ack { nth } => {
                let Some(lease) = self.nth(nth) else { return };
                self.update(LeaseUpdate::Ack(lease));
                self.rows.ack(lease);
            }
            Step::Nack { nth, seconds } => {
                let (Some(lease), delay) = (self.nth(nth), Duration::from_secs(seconds)) else { return };
                self.update(nack(lease, delay));
                self.rows.fail(lease, delay, false, now);
            }
            Step::Renew { nth, seconds } => {
                let (Some(lease), lasts) = (self.nth(nth), Duration::from_secs(seconds)) else { return };
                self.update(LeaseUpdate::Renew { lease, lasts });
                self.rows.leases.entry(lease).and_modify(|held| held.until = held.until.max(now.plus(lasts)));
            }
            Step::Release { nth } => {
                let Some(lease) = self.nth(nth) else { return };
                self.update(LeaseUpdate::Release(lease));
                self.rows.release(lease, now);
            }
            Step::Late { nth } => {
                let Some(lease) = self.rows.lost.iter().rev().nth(nth).copied() else { return };
                let update = [LeaseUpdate::Ack(lease), LeaseUpdate::Release(lease), nack(lease, Duration::ZERO)].into_iter().nth(nth % 3);
                update.into_iter().for_each(|update| self.update(update));
            }
            Step::Resume { consumer } => {
                self.pool.resume(consumer);
                self.rows.members.entry(consumer).and_modify(|member| member.is_stalled = false);
            }
            Step::Pause { consumer } => {
                self.pool.pause(consumer);
                self.rows.members.entry(consumer).and_modify(|member| member.is_stalled = true);
            }
            Step::Wait { seconds } => {
                self.pool.wait(Duration::from_secs(seconds));
                self.rows.expire(self.pool.now);
                let due = self.pool.stream.next_due(&name(), self.pool.now).expect("is there");
                assert!(due.is_none_or(|due| due > self.pool.now), "it would be looked at again and again");
            }
            Step::Bury => {
                let Some(number) = self.rows.dying.keys().next().copied() else { return };
                self.pool.ask(Command::Bury { subscription: name(), created_at: Timestamp(1), number });
                self.rows.bury(number);
            }
            Step::AckOther { partition, offset } => self.ack_other(partition, offset),
            Step::Seek { partition, offset } => self.seek(partition, offset),
            Step::Restart => {
                self.pool.restart(&[other()]);
                self.rows.restart(self.pool.now);
            }
        }
        self.check();
    }

    fn ack_other(&mut self, partition: u32, offset: u64) {
        let cursor = self.other[partition as usize];
        let offset = (cursor + offset).min(self.rows.partitions[partition as usize].batches.len() as u64);
        let offsets = vec![(number(partition as usize), Offset(offset))];
        self.pool.ask(Command::Ack { subscription: other(), generation: None, offsets });
    }

    /// Within what is kept.
    fn seek(&mut self, partition: u32, offset: u64) {
        let PartitionRows { start, batches, .. } = &self.rows.partitions[partition as usize];
        let to = (start + usize::try_from(offset).expect("few")).min(batches.len());
        let offsets = [(number(partition as usize), Offset(to as u64))].into();
        self.pool.ask(Command::Seek { subscription: name(), to: Start::Offsets(offsets), dry_run: false });
        self.rows.seek(partition as usize, to, self.pool.now);
    }

    fn check(&mut self) {
        let view = self.pool.view();
        for index in 0..self.rows.partitions.len() {
            let (start, other) = (self.pool.start(number(index).0), self.pool.stream.cursor(&other(), number(index)).expect("is there").0);
            self.rows.drop_before(index, usize::try_from(start).expect("few"));
            self.other[index] = other;
            let cursor = self.rows.cursor(index);
            assert_eq!(self.pool.cursor(number(index).0), cursor, "of partition {index}");
            assert_eq!(start, cursor.min(other), "what all have acked goes, and nothing else");
            let seen = &view.partitions[index];
            let lag = self.rows.lag(index);
            assert_eq!((seen.lag_batches, seen.lag_rows), (lag.0, lag.1), "of partition {index}");
            assert_eq!(seen.lag_bytes, lag.2, "of partition {index}");
        }
        let dying = self.pool.dying().into_iter();
        let place =
            |of: &bowstring::engine::Dying| (of.partition.index(), usize::try_from(of.offset.0).expect("few"), of.share, of.deliveries);
        let dying: Vec<_> = dying.map(|dying| (dying.number, place(&dying))).collect();
        assert_eq!(dying, self.rows.dying.iter().map(|(number, place)| (*number, *place)).collect::<Vec<_>>());
        let seen: Vec<_> = view.consumers.iter().map(|seen| (seen.consumer.0, seen.in_flight_batches, seen.is_stalled)).collect();
        let mut seen_by_id = seen;
        seen_by_id.sort_unstable();
        let members = self.rows.members.iter().map(|(id, member)| (*id, self.rows.in_flight(*id).batches, member.is_stalled));
        assert_eq!(seen_by_id, members.collect::<Vec<_>>());
        self.check_standing();
    }

    fn check_standing(&self) {
        let Some((consumer, reading)) = self.rows.members.iter().find_map(|(id, member)| Some((*id, member.reading?))) else { return };
        let standing = self.pool.standing(consumer, reading);
        let is_acked = self.rows.units_of_all().all(|unit| unit.state == State::Acked);
        let is_open = self.rows.units_of_all().any(|unit| matches!(unit.state, State::Open(_)));
        assert_eq!((standing.is_acked, standing.is_sent), (is_acked, is_acked || !is_open));
    }

    /// Some go on, in any order, and nobody dies any more.
    fn finish(&mut self, turns: &[u8]) {
        for consumer in 0..3 {
            self.run(&Step::Keep { consumer, wants: Wants { max_rows: 1 + 3 * consumer, ..Wants::default() } });
        }
        let members: Vec<_> = self.rows.members.keys().copied().collect();
        for consumer in &members {
            self.run(&Step::Resume { consumer: *consumer });
            self.run(&Step::Read { consumer: *consumer, keeps: true });
        }
        for turn in 0..3_000 {
            if self.rows.units_of_all().all(|unit| matches!(unit.state, State::Acked | State::Dying(_))) {
                return self.bury_all();
            }
            let die = (usize::from(turns[turn % turns.len()]) + turn).wrapping_mul(2_654_435_761) >> 8;
            let (consumer, die) = (members[die % members.len()], die / members.len());
            self.run(&Step::Keep { consumer, wants: Wants::default() });
            let first = self.rows.of(consumer).next();
            match first {
                Some((lease, _)) if die % 3 > 0 => {
                    self.update(LeaseUpdate::Ack(lease));
                    self.rows.ack(lease);
                    self.check();
                }
                _ => drop(self.take(consumer, 2)),
            }
            if die % 5 == 0 {
                self.run(&Step::Wait { seconds: 1 });
                members.iter().for_each(|consumer| self.run(&Step::Resume { consumer: *consumer }));
            }
        }
        panic!("it does not come to an end");
    }

    fn bury_all(&mut self) {
        while !self.rows.dying.is_empty() {
            self.run(&Step::Bury);
        }
        assert!(self.rows.units_of_all().all(|unit| unit.state == State::Acked));
        assert!(!self.pool.stream.has_dying());
        let all_acked = (0..self.rows.partitions.len()).all(|index| {
            let (cursor, end) = (self.pool.cursor(number(index).0), self.rows.partitions[index].batches.len() as u64);
            cursor == end
        });
        assert!(all_acked);
    }
}

fn sharing() -> impl Strategy<Value = bowstring::engine::SharingRules> {
    (0_u32..4, any::<bool>(), any::<bool>()).prop_map(|(max_deliveries, bisect, is_keyed)| {
        let rules = if is_keyed { keyed() } else { rules(0) };
        bowstring::engine::SharingRules { max_deliveries, bisect, ..rules }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn each_row_is_with_one_consumer_at_a_time_until_it_is_acked_or_dead(
        (partitions, steps) in (1_u32..4).prop_flat_map(|partitions| (Just(partitions), prop::collection::vec(step(partitions), 1..120))),
        sharing in sharing(),
        room in prop_oneof![3 => Just(None), 1 => (800_u64..3_000).prop_map(Some)],
        turns in prop::collection::vec(any::<u8>(), 1..40),
    ) {
        let mut both = Both::new(partitions, sharing, room);
        for step in &steps {
            both.run(step);
        }
        both.finish(&turns);
    }

    /// A lane's rows go to one consumer, and each has about as many lanes as another.
    #[test]
    fn lanes_are_spread_evenly(members in 1_u64..80, leavers in prop::collection::vec(0_u64..80, 0..20)) {
        let mut pool = Pool::of(1, keyed());
        let mut readings: Vec<_> = (0..members).map(|consumer| (consumer, pool.join(consumer, Wants::default()))).collect();
        for leaver in leavers {
            if readings.len() > 1 && readings.iter().any(|(consumer, _)| *consumer == leaver) {
                pool.leave(leaver);
                readings.retain(|(consumer, _)| *consumer != leaver);
            }
        }
        prop_assert!(pool.append(0, 64));
        let masks: Vec<u64> = readings
            .iter()
            .map(|(consumer, reading)| match pool.take(*consumer, *reading).as_slice() {
                [] => 0,
                [taken] => if let Share::Lanes(mask) = taken.share { mask } else { panic!("{taken:?}") },
                many => panic!("{many:?}"),
            })
            .collect();
        prop_assert_eq!(masks.iter().fold(0, |all, mask| all | mask), u64::MAX);
        let counts: Vec<_> = masks.iter().map(|mask| mask.count_ones()).collect();
        prop_assert_eq!(counts.iter().sum::<u32>(), 64);
        prop_assert!(counts.iter().max().unwrap_or(&0) - counts.iter().min().unwrap_or(&0) <= 1);
    }
}
