//! Room for batches: reserve it, wait for it, give it back.

use super::super::appender::Progress;
use super::super::budget::Usage;
use super::super::{AppenderId, AppenderKind, Effects, Error, FullPolicy, Outcome, Place, Timestamp, Visibility};
use super::Stream;

impl<D: Clone> Stream<D> {
    pub(super) fn reserve(&mut self, id: AppenderId, bytes: u64, now: Timestamp, effects: &mut Effects) -> Result<Outcome, Error> {
        self.check_open()?;
        self.check_appender(id, bytes)?;
        self.release_room(id);
        // Whoever waits goes first into what was given back, so that this answer is the last word on the caller.
        self.serve_waiting(now, effects);
        self.budget.check_size(bytes, self.is_durable)?;
        let placed = match self.waiting.is_empty() {
            true => {
                self.draining = None;
                self.try_place(bytes, now, effects)?
            }
            false => None,
        };
        if let Some(place) = placed {
            self.hold_room(id, place, bytes);
            return Ok(Outcome::Reserved { place });
        }
        let turn = self.next_turn;
        self.next_turn += 1;
        self.waiting.insert(turn, id);
        self.set_progress(id, Progress::Waiting { bytes, since: now, turn });
        Ok(Outcome::Waiting)
    }

    /// Where a batch of this size goes now; none if it has to wait.
    ///
    /// Memory comes first. If it is full, laggards that would rather lose batches give way, if that is enough. What else can leave it
    /// without the help of whoever asks is worth waiting for: visible batches that some subscription neither acked nor planned. If there are none, the space is
    /// held by open epochs, or by what Spark has planned but commits only when it is given more: waiting
    /// could last for ever, so the batch is spooled. If the spool is full too, all that is worth waiting for is
    /// a reservation of somebody else, whose batch consumers will see as soon as it is there.
    fn try_place(&mut self, bytes: u64, now: Timestamp, effects: &mut Effects) -> Result<Option<Place>, Error> {
        if self.is_durable {
            return self.try_place_in_log(bytes, now, effects);
        }
        let policy = self.options.full_policy;
        if self.fits_drained(Place::Memory, bytes, now, effects) {
            return Ok(Some(Place::Memory));
        }
        let spills = policy == FullPolicy::Spill;
        if spills && self.fits_drained(Place::Spool, bytes, now, effects) {
            return Ok(Some(Place::Spool));
        }
        let places = if spills { &[Place::Memory, Place::Spool][..] } else { &[Place::Memory] };
        if let Some(place) = self.take_from_laggards(places, bytes, now, effects) {
            return Ok(Some(place));
        }
        if self.holds_back_producers() {
            match policy {
                FullPolicy::Wait | FullPolicy::Spill => {
                    self.begin_draining();
                    return Ok(None);
                }
                FullPolicy::Reject => return Err(self.budget.full(bytes)),
                FullPolicy::DropOldest => {
                    if let Some(place) = self.drop_for_room(&[Place::Memory, Place::Spool], bytes, now, effects) {
                        return Ok(Some(place));
                    }
                }
            }
        }
        if self.budget.fits(Place::Spool, bytes) {
            return Ok(Some(Place::Spool));
        }
        match policy {
            _ if self.passing == 0 => Err(self.budget.spool_full(bytes)),
            FullPolicy::Wait | FullPolicy::Spill => Ok(None),
            FullPolicy::Reject | FullPolicy::DropOldest => Err(self.budget.full(bytes)),
        }
    }

    /// The same for a durable stream: what is not yet written leaves memory by itself, what is in the log when consumers ack
    /// it. An open epoch that fills the log is refused at once, since nobody but itself could make room.
    fn try_place_in_log(&mut self, bytes: u64, now: Timestamp, effects: &mut Effects) -> Result<Option<Place>, Error> {
        let policy = self.options.full_policy;
        if !self.budget.fits_unwritten(bytes) {
            return if policy == FullPolicy::Reject { Err(self.budget.full(bytes)) } else { Ok(None) };
        }
        if self.fits_drained(Place::Log, bytes, now, effects) {
            return Ok(Some(Place::Log));
        }
        if let Some(place) = self.take_from_laggards(&[Place::Log], bytes, now, effects) {
            return Ok(Some(place));
        }
        let holds_back = self.holds_back_producers();
        match policy {
            _ if !holds_back && self.passing == 0 => Err(self.budget.disk_full(bytes)),
            FullPolicy::Wait | FullPolicy::Spill => {
                if holds_back {
                    self.begin_draining();
                }
                Ok(None)
            }
            FullPolicy::DropOldest if holds_back => match self.drop_for_room(&[Place::Log], bytes, now, effects) {
                None if self.passing == 0 => Err(self.budget.disk_full(bytes)),
                None => Err(self.budget.full(bytes)),
                // What is still to become visible cannot be dropped yet.
                Some(place) => Ok(Some(place).filter(|place| self.budget.fits(*place, bytes))),
            },
            FullPolicy::Reject | FullPolicy::DropOldest => Err(self.budget.full(bytes)),
        }
    }

    /// Drops the oldest visible batches until one of this size fits, and down to the low watermark if that is all it takes. None, and nothing is dropped, if open
    /// epochs and reservations hold so much that it would not fit even then.
    fn drop_for_room(&mut self, places: &[Place], bytes: u64, now: Timestamp, effects: &mut Effects) -> Option<Place> {
        let visible = self.partitions.iter().fold(Usage::default(), |sum, partition| sum.with(partition.used()));
        let fits = |place: &Place| self.budget.fits_without(&visible, *place, bytes);
        let place = places.iter().copied().find(fits)?;
        let drains = self.is_low_without(&visible, place);
        while !(self.budget.fits(place, bytes) && (!drains || self.is_low_in(place))) && self.drop_oldest(now, effects) {}
        Some(place)
    }

    /// Whether a batch fits, and need not wait for the stream to drain. What nobody needs any more gives way first.
    fn fits_drained(&mut self, place: Place, bytes: u64, now: Timestamp, effects: &mut Effects) -> bool {
        let is_enough = |stream: &Self| stream.budget.fits(place, bytes) && (stream.draining.is_none() || stream.is_low_in(place));
        while !is_enough(self) && self.drop_unheld(now, effects) {}
        self.budget.fits(place, bytes) && self.has_drained()
    }

    /// Drops the oldest batch that no subscription holds; false if there is none.
    fn drop_unheld(&mut self, now: Timestamp, effects: &mut Effects) -> bool {
        if self.all_are_evicted() { self.drop_oldest(now, effects) } else { self.drop_oldest_acked(effects) }
    }

    fn hold_room(&mut self, id: AppenderId, place: Place, bytes: u64) {
        self.budget.charge(place, bytes);
        self.passing += usize::from(self.appends_visibly(id));
        self.set_progress(id, Progress::Reserved { place, bytes });
    }

    /// Gives back what the appender has reserved; ends its wait, if it waits.
    pub(super) fn release_room(&mut self, id: AppenderId) -> Option<(Place, u64)> {
        match self.set_progress(id, Progress::Idle)? {
            Progress::Idle => None,
            Progress::Waiting { turn, .. } => {
                self.waiting.remove(&turn);
                None
            }
            Progress::Reserved { place, bytes } => {
                self.budget.unreserve(place, bytes);
                self.passing -= usize::from(self.appends_visibly(id));
                Some((place, bytes))
            }
        }
    }

    fn set_progress(&mut self, id: AppenderId, progress: Progress) -> Option<Progress> {
        self.appenders.get_mut(&id).map(|appender| std::mem::replace(&mut appender.progress, progress))
    }

    /// Whether the appender's batches are visible as soon as they come, not staged.
    fn appends_visibly(&self, id: AppenderId) -> bool {
        self.appenders.get(&id).is_some_and(|appender| self.is_visible_at_once(&appender.kind))
    }

    pub(super) fn is_visible_at_once(&self, kind: &AppenderKind) -> bool {
        kind.epoch().is_none() || self.options.visibility == Visibility::Immediate
    }

    /// Lets in those at the head of the line that now fit, and sends away those that no longer can.
    pub(super) fn serve_waiting(&mut self, now: Timestamp, effects: &mut Effects) {
        while let Some((&turn, &id)) = self.waiting.first_key_value() {
            let Some(Progress::Waiting { bytes, .. }) = self.appenders.get(&id).map(|appender| appender.progress) else {
                debug_assert!(false, "whoever is in the line waits");
                self.waiting.remove(&turn);
                continue;
            };
            let placed = self.check_open().and_then(|()| self.check_appender(id, bytes)).and_then(|()| self.try_place(bytes, now, effects));
            match placed {
                Ok(None) => return,
                Ok(Some(place)) => {
                    self.waiting.remove(&turn);
                    self.hold_room(id, place, bytes);
                    effects.granted.push((id, place));
                }
                Err(error) => self.refuse_wait(id, error, effects),
            }
        }
    }
}
