//! The lanes of a subscription whose rows are shared by keys: who has which. A lane goes over once nothing of it is leased.

use super::share::LANES;
use super::spread::evenly;
use super::{ConsumerId, Timestamp};
use crate::zoo::{self, Bug};

/// Who has which lane.
#[derive(Debug)]
pub(super) struct Lanes(Vec<Lane>);

#[derive(Debug, Clone, Copy, Default)]
struct Lane {
    owner: Option<ConsumerId>,
    /// Who has it next. Then the owner is given no more of it.
    next_owner: Option<ConsumerId>,
    /// Pieces with rows of it that are leased.
    leased: usize,
}

impl Lanes {
    pub(super) fn new() -> Self {
        Self(vec![Lane::default(); LANES as usize])
    }

    /// The lanes that a consumer may be given rows of.
    pub(super) fn of(&self, consumer: ConsumerId) -> u64 {
        let lanes = self.0.iter().enumerate();
        let own = lanes.filter(|(_, lane)| lane.owner == Some(consumer) && lane.next_owner.is_none());
        own.fold(0, |mask, (number, _)| mask | 1 << number)
    }

    /// Spreads them over these consumers.
    pub(super) fn spread(&mut self, consumers: &[(ConsumerId, Timestamp)]) {
        for lane in &mut self.0 {
            lane.owner = lane.owner.filter(|owner| consumers.iter().any(|(id, _)| id == owner) || lane.leased > 0);
        }
        let heirs: Vec<_> = self.0.iter().map(|lane| lane.next_owner.or(lane.owner)).collect();
        for (number, heir) in evenly(&heirs, consumers, |number| self.0[number].leased == 0) {
            let lane = &mut self.0[number];
            lane.next_owner = Some(heir).filter(|heir| lane.owner != Some(*heir));
        }
        self.hand_over(u64::MAX);
    }

    /// Rows of these lanes are leased.
    pub(super) fn lease(&mut self, mask: u64) {
        self.each(mask, |lane| lane.leased += 1);
    }

    /// They are not any more; whether a lane went over by that.
    pub(super) fn release(&mut self, mask: u64) -> bool {
        self.each(mask, |lane| lane.leased = lane.leased.saturating_sub(1));
        self.hand_over(mask)
    }

    fn hand_over(&mut self, mask: u64) -> bool {
        let mut any = false;
        self.each(mask, |lane| {
            if let Some(next) = lane.next_owner.filter(|_| lane.leased == 0 || zoo::has(Bug::KeysMoveUnacked)) {
                (lane.owner, lane.next_owner) = (Some(next), None);
                any = true;
            }
        });
        any
    }

    fn each(&mut self, mask: u64, mut change: impl FnMut(&mut Lane)) {
        let lanes = self.0.iter_mut().enumerate().filter(|(number, _)| mask & (1 << number) != 0);
        lanes.for_each(|(_, lane)| change(lane));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ConsumerId = ConsumerId(1);
    const B: ConsumerId = ConsumerId(2);

    #[test]
    fn a_lane_goes_over_once_nothing_of_it_is_leased() {
        let mut lanes = Lanes::new();
        lanes.spread(&[(A, Timestamp(1))]);
        assert_eq!(lanes.of(A), u64::MAX);
        lanes.lease(0b1);
        lanes.spread(&[(A, Timestamp(1)), (B, Timestamp(2))]);
        assert_eq!((lanes.of(A) | lanes.of(B), lanes.of(A) & lanes.of(B)), (u64::MAX, 0), "what is idle moves first");
        assert_eq!((lanes.of(A).count_ones(), lanes.of(B).count_ones()), (32, 32));
        lanes.spread(&[(B, Timestamp(2))]);
        assert_eq!(lanes.of(B), u64::MAX - 1, "what is leased waits for its end");
        assert!(lanes.release(0b1));
        assert_eq!(lanes.of(B), u64::MAX);
    }
}
