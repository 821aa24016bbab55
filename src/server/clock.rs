//! The server's clock: the one place that reads the time of day.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::engine::Timestamp;

/// Tells the time. A trait, so that tests can hold it still.
pub trait Clock: std::fmt::Debug + Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// The machine's clock, as it stood when this was made, and the time that has passed since: when the machine's clock
/// is set anew, no lease ends early or late.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    base: Timestamp,
    start: Instant,
}

impl Default for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the place that owns the clock")]
    fn default() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { base: Timestamp::default().plus(since_epoch), start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.base.plus(self.start.elapsed())
    }
}
