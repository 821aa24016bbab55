//! When to try again: growing pauses with jitter, up to a deadline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;

use super::Error;
use super::token::Credentials;
use crate::engine::{Code, Retry};
use crate::shared::random;

/// First pause. Short, because most breaks heal at once on a new connection.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
/// Longest pause: a coordinator that is back is noticed within this time.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Longest attempt at a control call; none of them waits for anything at the coordinator.
const ATTEMPT_MAX: Duration = Duration::from_secs(20);
/// A connection that held this long was no part of a series of failures.
pub(super) const STEADY: Duration = Duration::from_secs(5);

/// The client's one clock: the machine's, but for a simulation, whose runtime has its own.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Whether an error says something about the connection rather than about the call: then the client itself
/// tries again on a new one.
pub(super) fn is_transient(error: &Error) -> bool {
    match error.code() {
        Code::Unavailable if error.retry() == Retry::Never => false,
        Code::Unavailable | Code::ShuttingDown => true,
        code => code.retry() == Retry::Now,
    }
}

/// One series of attempts. It ends when the deadline has passed, counted from the first failure; a success
/// starts a new one.
#[derive(Debug)]
pub(super) struct Backoff {
    limit: Duration,
    failing_since: Option<Instant>,
    pause: Duration,
    credentials: Option<Arc<Credentials>>,
    /// The token that was refused when it was the newest: it is not tried again.
    refused: Option<HeaderValue>,
}

impl Backoff {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, failing_since: None, pause: PAUSE_FIRST, credentials: None, refused: None }
    }

    /// The same for calls that show a token: where one is refused, the newest is tried.
    pub(super) fn bearing(limit: Duration, credentials: Option<&Arc<Credentials>>) -> Self {
        Self { credentials: credentials.cloned(), ..Self::new(limit) }
    }

    /// Whether there is a token to try after one was refused.
    fn has_another_token(&mut self, error: &Error) -> bool {
        let Some(credentials) = self.credentials.as_ref().filter(|all| all.can_change()) else { return false };
        // Another one may let what this one does not.
        if !matches!(error.code(), Code::Unauthenticated | Code::PermissionDenied) {
            return false;
        }
        credentials.refresh();
        let newest = credentials.header().ok();
        let is_another = newest.is_some() && newest != self.refused;
        self.refused = newest;
        is_another
    }

    /// Forgets earlier failures: something has worked.
    pub(super) fn reset(&mut self) {
        self.failing_since = None;
        self.pause = PAUSE_FIRST;
        self.refused = None;
    }

    /// How long to wait after `error` before the next attempt.
    ///
    /// # Errors
    /// The error itself, where another attempt makes no sense or the deadline has passed.
    pub(super) fn pause_after(&mut self, error: Error, now: Instant) -> Result<Duration, Error> {
        if !is_transient(&error) && !self.has_another_token(&error) {
            return Err(error);
        }
        let since = *self.failing_since.get_or_insert(now);
        let left = self.limit.saturating_sub(now.saturating_duration_since(since));
        if left.is_zero() {
            return Err(error);
        }
        let pause = self.pause.mul_f64(random::half_to_whole());
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Ok(pause.min(left))
    }

    /// Waits after `error`, or gives it back.
    pub(super) async fn wait(&mut self, error: Error) -> Result<(), Error> {
        let pause = self.pause_after(error, now())?;
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Time for one attempt: what is left, but at least a second so that the last one has a chance, and not so
    /// much that a coordinator which takes calls and never answers uses all of it up.
    pub(super) fn attempt_timeout(&self) -> Duration {
        let spent = self.failing_since.map_or(Duration::ZERO, |since| now().saturating_duration_since(since));
        self.limit.saturating_sub(spent).clamp(Duration::from_secs(1), ATTEMPT_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost() -> Error {
        Error::ConnectionLost { url: "grpc://h:1".into(), reason: "reset".into() }
    }

    #[test]
    fn pauses_grow_with_jitter_and_never_pass_a_second() {
        let start = now();
        let mut backoff = Backoff::new(Duration::from_secs(60));
        let mut most = PAUSE_FIRST;
        for _ in 0..20 {
            let pause = backoff.pause_after(lost(), start).expect("the deadline is a minute off");
            assert!(pause <= most && pause >= most / 2, "{pause:?} is not between half and all of {most:?}");
            most = (most * 2).min(PAUSE_MAX);
        }
    }

    #[test]
    fn the_deadline_counts_from_the_first_failure_and_a_success_starts_anew() {
        let start = now();
        let mut backoff = Backoff::new(Duration::from_secs(5));
        assert!(backoff.pause_after(lost(), start).is_ok());
        assert!(backoff.pause_after(lost(), start + Duration::from_millis(4_999)).is_ok());
        assert!(backoff.pause_after(lost(), start + Duration::from_secs(5)).is_err());
        backoff.reset();
        assert!(backoff.pause_after(lost(), start + Duration::from_secs(60)).is_ok());
    }

    #[test]
    fn an_error_that_another_attempt_cannot_mend_is_given_back_at_once() {
        let mut backoff = Backoff::new(Duration::from_secs(5));
        let error = Error::MessageTooLarge { bytes: 2, limit: 1 };
        assert_eq!(backoff.pause_after(error, now()).expect_err("never retried").code(), Code::MessageTooLarge);
    }
}
