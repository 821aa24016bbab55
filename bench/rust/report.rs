//! An end's words: it is ready, and what it has done.

use std::error::Error;
use std::io::{BufRead, stdin};
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};
use serde_json::json;

/// Runs from the word to go.
pub(crate) struct Meter {
    pub(crate) begun_ns: u64,
    cpu_ns: u64,
}

/// Connected: from here on the time runs.
pub(crate) fn wait_for_go() -> Result<Meter, Box<dyn Error>> {
    println!("ready");
    stdin().lock().read_line(&mut String::new())?;
    Ok(Meter { begun_ns: monotonic_ns(), cpu_ns: nanos(clock_gettime(ClockId::ProcessCPUTime)) })
}

impl Meter {
    /// Prints the report; `latencies` are nanoseconds, one per batch that was stamped.
    #[expect(clippy::cast_precision_loss, reason = "seconds with nine digits")]
    pub(crate) fn report(&self, batches: u64, bytes: u64, latencies: &[u64]) {
        let cpu_ns = nanos(clock_gettime(ClockId::ProcessCPUTime)) - self.cpu_ns;
        let latency: Vec<_> = latencies.iter().map(|latency| (latency, 1)).collect();
        let report = json!({
            "begun_ns": self.begun_ns,
            "ended_ns": monotonic_ns(),
            "cpu_seconds": cpu_ns as f64 / 1e9,
            "batches": batches,
            "bytes": bytes,
            "latency": latency,
        });
        println!("{report}");
    }
}

/// The machine's monotonic clock; the same in all of its processes.
pub(crate) fn monotonic_ns() -> u64 {
    nanos(clock_gettime(ClockId::Monotonic))
}

fn nanos(time: Timespec) -> u64 {
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Waits until a batch is due; gives its stamp, as `bowstring bench` does.
#[expect(clippy::disallowed_methods, reason = "tokio's timer is exact to a millisecond only")]
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "exact to a nanosecond for weeks")]
pub(crate) fn due(begun_ns: u64, number: u64, rate: f64, woke_ns: &mut u64) -> u64 {
    let due_ns = begun_ns + (number as f64 / rate * 1e9) as u64;
    let now_ns = monotonic_ns();
    if now_ns < due_ns {
        std::thread::sleep(Duration::from_nanos(due_ns - now_ns));
        *woke_ns = monotonic_ns();
    }
    due_ns.max(*woke_ns)
}
