//! The allocator of the command and the wheel. It recycles what batches are received into: with the system's
//! allocator a relay spends its time in page faults.
//!
//! A crate of its own, because setting mimalloc's option is the only `unsafe` that the command needs.

use std::ffi::{c_int, c_long};

pub use mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc 3: the crate exports no name for it. A test holds it to its default.
const PURGE_DELAY: c_int = 15;

/// How long memory that is free stays with the process, in milliseconds. With mimalloc's own second, a coordinator
/// whose micro-batches are seconds apart touches all of its buffer's pages anew each time, which costs more than
/// everything else that it does. What it keeps is bounded by what its streams may buffer.
const KEPT_MILLIS: c_long = 60_000;

/// Makes the allocator keep free memory for a minute; `MIMALLOC_PURGE_DELAY` in the environment has precedence.
/// To be called once, before there are other threads.
pub fn keep_free_memory() {
    // SAFETY: the option exists, and no other thread reads it at the same time.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, KEPT_MILLIS) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_is_the_delay_of_purges() {
        // SAFETY: the option exists, and this is the only test.
        let value = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        assert_eq!(value(), 1000, "mimalloc's default; another value means another option");
        keep_free_memory();
        assert_eq!(value(), KEPT_MILLIS);
    }
}
