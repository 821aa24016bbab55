//! Simulated time for what reads the system's clock: h2 forgets a stream that it has reset after a second of
//! [`std::time::Instant`], and what comes for it later is answered otherwise; with real time under a simulation, a run would
//! not come out the same on a machine that stalls for a second.
//!
//! This crate's `clock_gettime` stands before the C library's in the program that it is linked into, as in
//! [madsim](https://docs.rs/madsim). Threads without a simulated time have the system's.

use std::cell::Cell;
use std::time::Duration;

#[cfg(target_os = "linux")]
use libc::{c_int, clockid_t, timespec};
#[cfg(target_os = "linux")]
use rustix::time::ClockId;

thread_local! {
    static SIMULATED: Cell<Option<Duration>> = const { Cell::new(None) };
}

/// What this thread's clocks show from now on, both the monotonic one and the one of the day: a time since the Unix epoch. With none,
/// the system's time. On Linux alone: elsewhere nothing changes.
pub fn set(time: Option<Duration>) {
    #[cfg(target_os = "linux")]
    // What is referred to is linked in.
    std::hint::black_box(clock_gettime as unsafe extern "C" fn(clockid_t, *mut timespec) -> c_int);
    SIMULATED.set(time);
}

/// The C library's function of this name.
///
/// # Safety
/// `time` is null or may be written to.
#[cfg(target_os = "linux")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    // Past the C library, which would come back here.
    let (seconds, nanos) = match (clock, SIMULATED.get()) {
        (libc::CLOCK_MONOTONIC | libc::CLOCK_REALTIME, Some(simulated)) => {
            (simulated.as_secs().cast_signed(), i64::from(simulated.subsec_nanos()))
        }
        (libc::CLOCK_MONOTONIC, None) => parts(ClockId::Monotonic),
        (libc::CLOCK_REALTIME, None) => parts(ClockId::Realtime),
        // SAFETY: the arguments are those of this call.
        _ => return c_int::try_from(unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) }).unwrap_or(-1),
    };
    if !time.is_null() {
        // SAFETY: the caller says so.
        unsafe { time.write(timespec { tv_sec: seconds, tv_nsec: nanos }) };
    }
    0
}

#[cfg(target_os = "linux")]
fn parts(clock: ClockId) -> (i64, i64) {
    let time = rustix::time::clock_gettime(clock);
    (time.tv_sec, time.tv_nsec)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::{Instant, SystemTime, UNIX_EPOCH};

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "these are what is simulated")]
    #[test]
    fn simulated_time_stands_still_until_it_is_set_and_in_its_own_thread_alone() {
        let (day, real) = (Duration::from_secs(86_400), Instant::now());
        set(Some(day));
        let first = Instant::now();
        assert_eq!(SystemTime::now().duration_since(UNIX_EPOCH).expect("later"), day);
        set(Some(day + Duration::from_millis(1)));
        assert_eq!(Instant::now() - first, Duration::from_millis(1));
        let elsewhere = std::thread::spawn(SystemTime::now).join().expect("reads a clock");
        assert!(elsewhere.duration_since(UNIX_EPOCH).expect("later") > day * 365);
        set(None);
        assert!(Instant::now() >= real);
    }
}
