//! Spreading what is leased evenly over consumers, so that only what must move moves.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::{ConsumerId, Timestamp};

/// Who is to have each thing: as before unless that one has more than its share, or is none of `consumers`, which are given with
/// the times at which they joined. Things that are idle move first: they go over at once. Nothing without consumers.
pub(super) fn evenly(
    heirs: &[Option<ConsumerId>],
    consumers: &[(ConsumerId, Timestamp)],
    is_idle: impl Fn(usize) -> bool,
) -> Vec<(usize, ConsumerId)> {
    if consumers.is_empty() {
        return Vec::new();
    }
    let joined: BTreeMap<_, _> = consumers.iter().copied().collect();
    let mut shares: BTreeMap<ConsumerId, Vec<usize>> = joined.keys().map(|id| (*id, Vec::new())).collect();
    let mut free = Vec::new();
    for (index, heir) in heirs.iter().enumerate() {
        match heir.and_then(|heir| shares.get_mut(&heir)) {
            Some(share) => share.push(index),
            None => free.push(index),
        }
    }
    let (least, more) = (heirs.len() / shares.len(), heirs.len() % shares.len());
    let mut order: Vec<_> = shares.into_iter().collect();
    order.sort_by_key(|(id, share)| (Reverse(share.len()), joined.get(id).copied(), *id));
    let due = |turn: usize| least + usize::from(turn < more);
    for (turn, (_, share)) in order.iter_mut().enumerate() {
        share.sort_by_key(|index| is_idle(*index));
        let end = share.len().min(due(turn));
        free.extend(share.drain(end..));
    }
    let mut free = free.into_iter();
    let mut spread = Vec::with_capacity(heirs.len());
    for (turn, (consumer, share)) in order.into_iter().enumerate() {
        let missing = due(turn).saturating_sub(share.len());
        spread.extend(share.into_iter().chain(free.by_ref().take(missing)).map(|index| (index, consumer)));
    }
    debug_assert!(free.next().is_none(), "the shares add up");
    spread
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ConsumerId = ConsumerId(1);
    const B: ConsumerId = ConsumerId(2);

    #[test]
    fn only_what_must_move_moves_and_idle_things_first() {
        let both = [(A, Timestamp(1)), (B, Timestamp(2))];
        assert_eq!(evenly(&[None; 4], &[], |_| true), []);
        let mut spread = evenly(&[Some(A); 5], &both, |index| index == 1 || index == 3);
        spread.sort_unstable();
        assert_eq!(spread, [(0, A), (1, B), (2, A), (3, B), (4, A)]);
        let mut spread = evenly(&[Some(A), Some(B), Some(A), Some(B)], &[(B, Timestamp(2))], |_| false);
        spread.sort_unstable();
        assert_eq!(spread, [(0, B), (1, B), (2, B), (3, B)]);
    }
}
