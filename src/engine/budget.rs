//! What a stream holds against its limits. Reserve before the bytes come, settle when they are there.

use super::{Error, Fill, Limits};

/// Where a batch's bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In memory, counted against `max_buffered_batches` and `max_buffered_bytes`.
    Memory,
    /// In the spool, counted against `max_spool_bytes`.
    Spool,
    /// In the log of a durable stream, counted against `max_disk_bytes`; and in memory, counted against
    /// `max_buffered_bytes`, until it is written there.
    Log,
}

/// Batches and bytes, each place apart.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    pub(super) memory_batches: u64,
    pub(super) memory_bytes: u64,
    pub(super) spool_batches: u64,
    pub(super) spool_bytes: u64,
    pub(super) log_batches: u64,
    pub(super) log_bytes: u64,
}

impl Usage {
    pub(super) fn add(&mut self, place: Place, bytes: u64) {
        let (batches, sum) = self.of(place);
        *batches += 1;
        *sum += bytes;
    }

    pub(super) fn sub(&mut self, place: Place, bytes: u64) {
        let (batches, sum) = self.of(place);
        *batches -= 1;
        *sum -= bytes;
    }

    /// Two parts of one stream together.
    pub(super) fn with(mut self, other: &Self) -> Self {
        self.memory_batches += other.memory_batches;
        self.memory_bytes += other.memory_bytes;
        self.spool_batches += other.spool_batches;
        self.spool_bytes += other.spool_bytes;
        self.log_batches += other.log_batches;
        self.log_bytes += other.log_bytes;
        self
    }

    fn of(&mut self, place: Place) -> (&mut u64, &mut u64) {
        match place {
            Place::Memory => (&mut self.memory_batches, &mut self.memory_bytes),
            Place::Spool => (&mut self.spool_batches, &mut self.spool_bytes),
            Place::Log => (&mut self.log_batches, &mut self.log_bytes),
        }
    }
}

/// All that is charged against a stream's limits. Reservations are charged like batches, so that what is
/// still on its way in cannot overshoot a limit.
///
/// Invariant: `memory_batches <= max_buffered_batches`, `memory_bytes <= max_buffered_bytes`,
/// `spool_bytes <= max_spool_bytes`, always. Of a durable stream `log_bytes <= max_disk_bytes`, but for one that was restored
/// with more, and `memory_bytes`, of what is not written yet, as ever.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    limits: Limits,
    used: Usage,
}

impl Budget {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, used: Usage::default() }
    }

    pub(super) fn used(&self) -> &Usage {
        &self.used
    }

    /// Refuses a batch that could never fit, so that nobody waits for what cannot come.
    pub(super) fn check_size(&self, bytes: u64, is_durable: bool) -> Result<(), Error> {
        if is_durable && bytes > self.limits.max_disk_bytes {
            return Err(self.disk_full(bytes));
        }
        let limit = self.limits.max_buffered_bytes;
        if bytes > limit {
            return Err(Error::BatchTooLarge { bytes, limit });
        }
        if self.limits.max_buffered_batches == 0 && !is_durable {
            return Err(self.full(bytes));
        }
        Ok(())
    }

    pub(super) fn fits(&self, place: Place, bytes: u64) -> bool {
        self.fits_without(&Usage::default(), place, bytes)
    }

    /// Bytes of the stream, wherever they are.
    pub(super) fn bytes(&self, is_durable: bool) -> u64 {
        match is_durable {
            true => self.used.log_bytes,
            false => self.used.memory_bytes.saturating_add(self.used.spool_bytes),
        }
    }

    /// Whether a batch would fit if `gone`, a part of what is charged, were dropped.
    pub(super) fn fits_without(&self, gone: &Usage, place: Place, bytes: u64) -> bool {
        let Self { limits, used } = self;
        let below = |held: u64, limit: u64| held.checked_add(bytes).is_some_and(|sum| sum <= limit);
        match place {
            Place::Memory => {
                used.memory_batches - gone.memory_batches < limits.max_buffered_batches
                    && below(used.memory_bytes - gone.memory_bytes, limits.max_buffered_bytes)
            }
            Place::Spool => below(used.spool_bytes - gone.spool_bytes, limits.max_spool_bytes),
            Place::Log => below(used.log_bytes - gone.log_bytes, limits.max_disk_bytes),
        }
    }

    /// Whether memory has room for a batch on its way to the log. Their number is not limited: they leave by themselves.
    pub(super) fn fits_unwritten(&self, bytes: u64) -> bool {
        self.used.memory_bytes.checked_add(bytes).is_some_and(|sum| sum <= self.limits.max_buffered_bytes)
    }

    /// Whether a place would hold at most so many percent of its limits if `gone`, a part of what is charged, were dropped.
    pub(super) fn is_low_without(&self, gone: &Usage, place: Place, percent: u32) -> bool {
        let Self { limits, used } = self;
        let low = |limit: u64| u64::try_from(u128::from(limit) * u128::from(percent) / 100).unwrap_or(u64::MAX);
        match place {
            Place::Memory => {
                used.memory_batches - gone.memory_batches <= low(limits.max_buffered_batches)
                    && used.memory_bytes - gone.memory_bytes <= low(limits.max_buffered_bytes)
            }
            Place::Spool => used.spool_bytes - gone.spool_bytes <= low(limits.max_spool_bytes),
            Place::Log => used.log_bytes - gone.log_bytes <= low(limits.max_disk_bytes),
        }
    }

    /// How full it is, for people.
    pub(super) fn fill(&self, is_durable: bool) -> Fill {
        let Self { limits, used } = self;
        match is_durable {
            true => Fill { bytes: used.log_bytes, bytes_max: limits.max_disk_bytes, batches: None },
            false => Fill {
                bytes: used.memory_bytes,
                bytes_max: limits.max_buffered_bytes,
                batches: Some((used.memory_batches, limits.max_buffered_batches)),
            },
        }
    }

    /// What a restart has found, whether it fits or not.
    pub(super) fn restore(&mut self, used: &Usage) {
        self.used = self.used.with(used);
    }

    /// Batches have been written to the log.
    pub(super) fn written(&mut self, batches: u64, bytes: u64) {
        // Of a stream that was deleted meanwhile nothing is charged any more.
        self.used.memory_batches = self.used.memory_batches.saturating_sub(batches);
        self.used.memory_bytes = self.used.memory_bytes.saturating_sub(bytes);
    }

    /// Charges a reservation, or a batch that is to come into its room.
    pub(super) fn charge(&mut self, place: Place, bytes: u64) {
        debug_assert!(self.fits(place, bytes), "whoever charges has asked whether it fits");
        self.used.add(place, bytes);
        if place == Place::Log {
            self.used.add(Place::Memory, bytes);
        }
    }

    /// Gives back what was reserved.
    pub(super) fn unreserve(&mut self, place: Place, bytes: u64) {
        self.used.sub(place, bytes);
        if place == Place::Log {
            self.used.sub(Place::Memory, bytes);
        }
    }

    /// A batch is dropped.
    pub(super) fn release(&mut self, place: Place, bytes: u64) {
        self.used.sub(place, bytes);
    }

    pub(super) fn full(&self, bytes: u64) -> Error {
        let Usage { memory_batches, memory_bytes, .. } = self.used;
        Error::BufferFull { bytes, buffered_batches: memory_batches, buffered_bytes: memory_bytes, limits: self.limits }
    }

    pub(super) fn disk_full(&self, bytes: u64) -> Error {
        Error::DiskFull { bytes, logged_bytes: self.used.log_bytes, limit: self.limits.max_disk_bytes }
    }

    pub(super) fn spool_full(&self, bytes: u64) -> Error {
        Error::SpoolFull { bytes, spooled_bytes: self.used.spool_bytes, limit: self.limits.max_spool_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget() -> Budget {
        Budget::new(Limits { max_buffered_batches: 2, max_buffered_bytes: 10, max_spool_bytes: 10, max_disk_bytes: 10 })
    }

    /// What is charged already, a batch, and whether it fits: both sides of every limit.
    #[test]
    fn limits_hold_to_the_last_batch_and_byte() {
        use Place::{Memory, Spool};
        type Charge = (Place, u64);
        let table: &[(&[Charge], Charge, bool)] = &[
            (&[], (Memory, 10), true),
            (&[], (Memory, 11), false),
            (&[(Memory, 4)], (Memory, 6), true),
            (&[(Memory, 4)], (Memory, 7), false),
            (&[(Memory, 1), (Memory, 1)], (Memory, 0), false),
            (&[(Memory, 10)], (Memory, 0), true),
            (&[(Memory, 10)], (Memory, 1), false),
            (&[(Spool, 10)], (Memory, 10), true),
            (&[], (Spool, 10), true),
            (&[], (Spool, 11), false),
            (&[(Spool, 4)], (Spool, 6), true),
            (&[(Spool, 4)], (Spool, 7), false),
            (&[(Spool, 1), (Spool, 1), (Spool, 1)], (Spool, 7), true),
            (&[(Memory, 1)], (Memory, u64::MAX), false),
            (&[(Spool, 1)], (Spool, u64::MAX), false),
        ];
        for (charged, (place, bytes), fits) in table {
            let mut budget = budget();
            charged.iter().for_each(|(place, bytes)| budget.charge(*place, *bytes));
            assert_eq!(budget.fits(*place, *bytes), *fits, "{bytes} bytes into {place:?} beside {charged:?}");
        }
    }

    #[test]
    fn released_room_can_be_charged_again() {
        let mut budget = budget();
        budget.charge(Place::Memory, 10);
        assert!(!budget.fits(Place::Memory, 1));
        budget.release(Place::Memory, 10);
        assert!(budget.fits(Place::Memory, 10));
    }

    #[test]
    fn what_would_be_dropped_does_not_count() {
        let mut budget = budget();
        budget.charge(Place::Memory, 4);
        budget.charge(Place::Memory, 6);
        let mut gone = Usage::default();
        gone.add(Place::Memory, 6);
        assert!(budget.fits_without(&gone, Place::Memory, 6));
        assert!(!budget.fits_without(&gone, Place::Memory, 7));
    }

    #[test]
    fn a_batch_larger_than_the_limit_is_refused_and_one_of_the_limit_is_not() {
        assert!(budget().check_size(10, false).is_ok());
        assert_eq!(budget().check_size(11, false), Err(Error::BatchTooLarge { bytes: 11, limit: 10 }));
    }

    #[test]
    fn a_buffer_of_no_batches_refuses_everything() {
        let limits = Limits { max_buffered_batches: 0, max_buffered_bytes: 10, max_spool_bytes: 10, max_disk_bytes: 10 };
        assert_eq!(
            Budget::new(limits).check_size(0, false),
            Err(Error::BufferFull { bytes: 0, buffered_batches: 0, buffered_bytes: 0, limits })
        );
    }
}
