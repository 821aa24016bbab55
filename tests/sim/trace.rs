//! What happens in a run, in order, and its digest.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bowstring::engine::Timestamp;
use bowstring::server::Clock;
use parking_lot::Mutex;

/// Lines that a failure shows.
const TAIL: usize = 120;

/// When all runs begin, in microseconds since the Unix epoch.
pub(crate) const EPOCH_MICROS: u64 = 1_700_000_000_000_000;

/// Simulated time, the same for all hosts.
#[derive(Debug, Clone)]
pub(crate) struct SimClock(Arc<AtomicU64>);

impl SimClock {
    /// The time of what this thread runs, in libraries that ask the system, too.
    #[expect(clippy::disallowed_methods, reason = "it is simulated here, which is what is checked")]
    pub(crate) fn of_this_thread() -> Self {
        let clock = Self(Arc::default());
        clock.advance(Duration::ZERO);
        let shown = SystemTime::now().duration_since(UNIX_EPOCH).expect("later");
        assert!(!cfg!(target_os = "linux") || shown == Duration::from_micros(EPOCH_MICROS), "the system's clock shows {shown:?}");
        clock
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_micros()).expect("a short time"), Relaxed);
        bowstring_sim_time::set(Some(Duration::from_micros(EPOCH_MICROS) + self.elapsed()));
    }

    pub(crate) fn elapsed(&self) -> Duration {
        Duration::from_micros(self.0.load(Relaxed))
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp(EPOCH_MICROS).plus(self.elapsed())
    }
}

/// The trace of a run.
#[derive(Debug)]
pub(crate) struct Trace {
    clock: SimClock,
    lines: Mutex<(VecDeque<String>, DefaultHasher)>,
    prints: bool,
}

impl Trace {
    pub(crate) fn new(clock: SimClock, prints: bool) -> Self {
        Self { clock, lines: Mutex::default(), prints }
    }

    pub(crate) fn note(&self, line: impl AsRef<str>) {
        let line = format!("{:9.3} {}", self.clock.elapsed().as_secs_f64(), line.as_ref());
        if self.prints {
            eprintln!("{line}");
        }
        let (tail, digest) = &mut *self.lines.lock();
        line.hash(digest);
        tail.push_back(line);
        if tail.len() > TAIL {
            tail.pop_front();
        }
    }

    pub(crate) fn digest(&self) -> u64 {
        self.lines.lock().1.finish()
    }

    pub(crate) fn tail(&self) -> String {
        self.lines.lock().0.iter().map(|line| format!("  {line}\n")).collect()
    }
}
