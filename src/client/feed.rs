//! What a consumer has taken out of the read-ahead and not handed out yet: in the sizes that it asks for, and only while what it
//! holds unacked is within its limits.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use super::Error;
use super::assemble::assembled;
use super::in_flight::{InFlight, Unacked};
use super::prefetch::{Prefetch, Taken};
use super::ready::{Content, Origin, Ready};
use super::retry::now;
use super::sizing::{Sizing, Target};
use crate::engine::Generation;

/// What a look at the read-ahead has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Something can be handed out.
    Ready,
    /// Something waits for more to come, up to another time than was known.
    Lingers,
    /// The stream has ended, or nothing more of it comes before the caller acks what it has.
    End,
}

#[derive(Debug)]
pub(super) struct Feed {
    taken: Taken,
    sizing: Option<Sizing>,
    in_flight: Arc<Mutex<InFlight>>,
}

impl Feed {
    pub(super) fn new(target: Option<Target>, in_flight: Arc<Mutex<InFlight>>) -> Self {
        Self { taken: Taken::default(), sizing: target.map(Sizing::new), in_flight }
    }

    /// Which of the subscription's cursors what is here was read for.
    pub(super) fn generation(&self) -> Option<Generation> {
        self.taken.generation
    }

    /// Looks at the read-ahead; none: wait, at most until [`due`](Self::due). `due` is what the caller knows of that.
    pub(super) fn step(&mut self, prefetch: &mut Prefetch, due: Option<Instant>) -> Option<Result<Step, Error>> {
        if self.fill(prefetch) {
            return Some(Ok(Step::Ready));
        }
        // Who shares by leases and holds what is not acked would wait for itself.
        if self.has_nothing() && prefetch.is_all_sent() && self.has_unacked(prefetch) {
            return Some(Ok(Step::End));
        }
        if self.has_nothing()
            && let Some(end) = prefetch.take_end()
        {
            return Some(end.map(|()| Step::End));
        }
        (self.due() != due).then_some(Ok(Step::Lingers))
    }

    /// Takes what is there; whether something can be handed out.
    pub(super) fn fill(&mut self, prefetch: &mut Prefetch) -> bool {
        if self.taken.generation != prefetch.generation {
            // A seek: what was taken before is of no more use.
            self.clear();
            self.taken.generation = prefetch.generation;
        }
        self.drop_lost(prefetch);
        let Some(sizing) = &mut self.sizing else {
            return (!self.taken.batches.is_empty() || prefetch.take_ready(&mut self.taken)) && self.has_room(prefetch);
        };
        let mut raw = Taken::default();
        while self.taken.batches.is_empty() && prefetch.take_ready(&mut raw) {
            raw.batches.drain(..).for_each(|ready| sizing.put(ready, now(), &mut self.taken.batches));
        }
        if self.taken.batches.is_empty() && (prefetch.has_ended() || prefetch.is_all_sent()) {
            sizing.give_all(&mut self.taken.batches);
        }
        !self.taken.batches.is_empty() && self.has_room(prefetch)
    }

    /// Whether the next batch may be handed out: what came by leases that are lost takes up no room.
    fn has_room(&self, prefetch: &Prefetch) -> bool {
        if self.is_full() {
            self.release_lost(prefetch);
        }
        !self.is_full()
    }

    fn has_unacked(&self, prefetch: &Prefetch) -> bool {
        if let Some(shares) = &prefetch.shares {
            return shares.has_unacked();
        }
        self.release_lost(prefetch);
        self.in_flight.lock().has_unacked()
    }

    fn release_lost(&self, prefetch: &Prefetch) {
        self.in_flight.lock().release_lost(|partition, lease| prefetch.leases.holds(partition, lease));
    }

    /// Whether the next batch came by a lease.
    pub(super) fn is_leased(&self) -> bool {
        self.taken.batches.front().is_some_and(|next| next.origin.lease.is_some())
    }

    /// Drops what would be next but came by a lease that is lost.
    pub(super) fn drop_lost(&mut self, prefetch: &Prefetch) {
        let is_lost = |Origin { partition, lease, .. }: &Origin| lease.is_some_and(|lease| !prefetch.holds(*partition, lease));
        while self.taken.batches.front().is_some_and(|next| is_lost(&next.origin)) {
            self.taken.batches.pop_front();
        }
    }

    /// When something that waits for more to come is to be handed out as it is.
    pub(super) fn due(&self) -> Option<Instant> {
        self.sizing.as_ref().filter(|_| self.taken.batches.is_empty())?.due()
    }

    /// Nothing more is waited for: what has waited long enough can be handed out, or if nothing has, all.
    pub(super) fn stop_lingering(&mut self) {
        let Some(sizing) = &mut self.sizing else { return };
        sizing.give_due(now(), &mut self.taken.batches);
        if self.taken.batches.is_empty() {
            sizing.give_all(&mut self.taken.batches);
        }
    }

    /// Whether nothing is here, neither to be handed out nor to be put together.
    pub(super) fn has_nothing(&self) -> bool {
        self.taken.batches.is_empty() && self.sizing.as_ref().is_none_or(Sizing::is_empty)
    }

    /// Whether the next batch is here.
    pub(super) fn has_next(&self) -> bool {
        !self.taken.batches.is_empty()
    }

    /// Whether the next batch has to wait until something is acked.
    pub(super) fn is_full(&self) -> bool {
        let next = self.taken.batches.front();
        next.is_some_and(|next| self.in_flight.lock().is_full_for(next.bytes_at_once(), self.taken.generation))
    }

    pub(super) fn clear(&mut self) {
        self.taken.batches.clear();
        self.sizing.iter_mut().for_each(Sizing::clear);
    }

    /// The next batch, which is the caller's from here on; none if there is none, or it has to wait.
    pub(super) fn pop(&mut self) -> Option<(Ready, Unacked)> {
        while self.taken.batches.front()?.is_to_assemble() {
            if self.is_full() {
                return None;
            }
            let made = self.taken.batches.pop_front().map(assembled);
            made.into_iter().flatten().rev().for_each(|ready| self.taken.batches.push_front(ready));
        }
        let generation = self.taken.generation;
        let next = self.taken.batches.front()?;
        if let Content::Undecodable(_) = next.content {
            self.give_before_an_error();
        }
        let next = self.taken.batches.front()?;
        if next.is_to_assemble() {
            return self.pop();
        }
        let unacked = {
            let mut in_flight = self.in_flight.lock();
            if in_flight.is_full_for(next.origin.bytes, generation) {
                return None;
            }
            match next.content {
                Content::Undecodable(_) => next.origin.unacked(generation),
                _ => in_flight.hand_out(&next.origin, generation),
            }
        };
        self.taken.batches.pop_front().map(|ready| (ready, unacked))
    }

    /// What has come of other partitions and waits there is delivered before reading ends.
    fn give_before_an_error(&mut self) {
        let Some(sizing) = self.sizing.as_mut().filter(|sizing| !sizing.is_empty()) else { return };
        let Some(bad) = self.taken.batches.pop_front() else { return };
        self.taken.batches.clear();
        sizing.give_all_but(bad.origin.partition, &mut self.taken.batches);
        self.taken.batches.push_back(bad);
    }
}
