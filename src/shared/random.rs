//! Random numbers: the system's, or of a seed where a simulation has to come out the same each time.

use std::cell::RefCell;

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use uuid::Uuid;

thread_local! {
    static SEEDED: RefCell<Option<StdRng>> = const { RefCell::new(None) };
}

/// From now on this thread's numbers follow from the seed.
pub fn seed_thread(seed: u64) {
    SEEDED.set(Some(StdRng::seed_from_u64(seed)));
}

/// An id that nobody else has.
#[must_use]
pub fn uuid() -> Uuid {
    with(|random| {
        let mut bytes = [0; 16];
        random.fill_bytes(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    })
}

/// A number that most likely nobody else draws.
#[must_use]
pub fn number() -> u64 {
    with(|random| random.next_u64())
}

/// A part of a whole: from a half up to all of it.
#[must_use]
pub fn half_to_whole() -> f64 {
    with(|random| random.random_range(0.5..1.0))
}

fn with<T>(draw: impl FnOnce(&mut dyn RngCore) -> T) -> T {
    SEEDED.with_borrow_mut(|seeded| match seeded {
        Some(seeded) => draw(seeded),
        None => draw(&mut rand::rng()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_again() {
        let drawn = || {
            std::thread::spawn(|| {
                seed_thread(7);
                (uuid(), half_to_whole().to_bits())
            })
        };
        assert_eq!(drawn().join().expect("draws"), drawn().join().expect("draws"));
        assert_ne!(uuid(), uuid());
        assert_eq!(uuid().get_version_num(), 4);
    }
}
