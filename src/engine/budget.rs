//! What a stream holds against its limits. Reserve before the bytes come, settle when they are there.

use super::{Error, Limits};

/// Where a batch's bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In memory, counted against `max_buffered_batches` and `max_buffered_bytes`.
    Memory,
    /// In the spool, counted against `max_spool_bytes`.
    Spool,
}

/// Batches and bytes charged, memory and spool apart. Reservations are charged like batches, so that what is
/// still on its way in cannot overshoot a limit.
///
/// Invariant: `memory_batches <= max_buffered_batches`, `memory_bytes <= max_buffered_bytes`,
/// `spool_bytes <= max_spool_bytes`, always.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    limits: Limits,
    pub(super) memory_batches: u64,
    pub(super) memory_bytes: u64,
    pub(super) spool_batches: u64,
    pub(super) spool_bytes: u64,
}

impl Budget {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, memory_batches: 0, memory_bytes: 0, spool_batches: 0, spool_bytes: 0 }
    }

    /// Refuses a batch that could never fit, so that nobody waits for what cannot come.
    pub(super) fn check_size(&self, bytes: u64) -> Result<(), Error> {
        let limit = self.limits.max_buffered_bytes;
        if bytes > limit {
            return Err(Error::BatchTooLarge { bytes, limit });
        }
        if self.limits.max_buffered_batches == 0 {
            return Err(Error::BufferFull { bytes, buffered_batches: 0, buffered_bytes: self.memory_bytes, limits: self.limits });
        }
        Ok(())
    }

    pub(super) fn fits_memory(&self, bytes: u64) -> bool {
        self.memory_batches < self.limits.max_buffered_batches
            && self.memory_bytes.checked_add(bytes).is_some_and(|sum| sum <= self.limits.max_buffered_bytes)
    }

    pub(super) fn fits_spool(&self, bytes: u64) -> bool {
        self.spool_bytes.checked_add(bytes).is_some_and(|sum| sum <= self.limits.max_spool_bytes)
    }

    pub(super) fn charge(&mut self, place: Place, bytes: u64) {
        match place {
            Place::Memory => {
                self.memory_batches += 1;
                self.memory_bytes += bytes;
                debug_assert!(self.memory_batches <= self.limits.max_buffered_batches);
                debug_assert!(self.memory_bytes <= self.limits.max_buffered_bytes);
            }
            Place::Spool => {
                self.spool_batches += 1;
                self.spool_bytes += bytes;
                debug_assert!(self.spool_bytes <= self.limits.max_spool_bytes);
            }
        }
    }

    pub(super) fn release(&mut self, place: Place, bytes: u64) {
        match place {
            Place::Memory => {
                self.memory_batches -= 1;
                self.memory_bytes -= bytes;
            }
            Place::Spool => {
                self.spool_batches -= 1;
                self.spool_bytes -= bytes;
            }
        }
    }

    pub(super) fn full(&self, bytes: u64) -> Error {
        Error::BufferFull { bytes, buffered_batches: self.memory_batches, buffered_bytes: self.memory_bytes, limits: self.limits }
    }

    pub(super) fn spool_full(&self, bytes: u64) -> Error {
        Error::SpoolFull { bytes, spooled_bytes: self.spool_bytes, limit: self.limits.max_spool_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget() -> Budget {
        Budget::new(Limits { max_buffered_batches: 2, max_buffered_bytes: 10, max_spool_bytes: 10 })
    }

    #[test]
    fn both_limits_hold_to_the_last_batch_and_byte() {
        let mut budget = budget();
        assert!(budget.fits_memory(10));
        assert!(!budget.fits_memory(11));
        budget.charge(Place::Memory, 4);
        assert!(budget.fits_memory(6));
        assert!(!budget.fits_memory(7));
        budget.charge(Place::Memory, 0);
        assert!(!budget.fits_memory(0), "the third batch does not fit, however small");
        budget.release(Place::Memory, 4);
        assert!(budget.fits_memory(10));
    }

    #[test]
    fn a_batch_larger_than_the_limit_is_refused_and_one_of_the_limit_is_not() {
        assert!(budget().check_size(10).is_ok());
        assert_eq!(budget().check_size(11), Err(Error::BatchTooLarge { bytes: 11, limit: 10 }));
    }

    #[test]
    fn an_absurd_length_does_not_wrap_around() {
        let mut budget = budget();
        budget.charge(Place::Memory, 1);
        assert!(!budget.fits_memory(u64::MAX));
        assert!(!budget.fits_spool(u64::MAX));
    }
}
