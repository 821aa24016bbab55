//! How long a blocking verb may wait, and who may interrupt it.

use std::time::{Duration, Instant};

use crate::client::Error;
use crate::client::retry::now;
use crate::client::watched::Watched;
use crate::engine::StoredState;

/// Longest time between two checks.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// A deadline, and a check that is called at least every 100 ms while a verb waits. `E` is the caller's error: what
/// the check gives back ends the verb.
pub struct Wait<'a, E = Error> {
    deadline: Option<Instant>,
    check: Option<&'a mut dyn FnMut() -> Result<(), E>>,
}

impl Wait<'static, Error> {
    /// Waits as long as it takes.
    #[must_use]
    pub fn forever() -> Self {
        Self { deadline: None, check: None }
    }

    /// Waits up to `deadline`, then fails with `timeout`.
    #[must_use]
    pub fn until(deadline: Instant) -> Self {
        Self { deadline: Some(deadline), check: None }
    }

    /// Waits for at most `duration` from now, then fails with `timeout`.
    #[must_use]
    pub fn at_most(duration: Duration) -> Self {
        Self { deadline: now().checked_add(duration), check: None }
    }
}

impl<'a, E: From<Error>> Wait<'a, E> {
    /// Waits up to `deadline`, or for ever, and calls `check` meanwhile.
    pub fn checked(deadline: Option<Instant>, check: &'a mut dyn FnMut() -> Result<(), E>) -> Self {
        Self { deadline, check: Some(check) }
    }

    /// Blocks until `f` gives something.
    pub(super) fn on<T, R>(
        &mut self,
        watched: &Watched<T>,
        what: &'static str,
        stored: StoredState,
        mut f: impl FnMut(&mut T) -> Option<R>,
    ) -> Result<R, E> {
        if let Some(result) = watched.with(&mut f) {
            return Ok(result);
        }
        let started = now();
        loop {
            let time = now();
            if self.deadline.is_some_and(|deadline| deadline <= time) {
                return Err(Error::Timeout { what, waited: time.saturating_duration_since(started), stored }.into());
            }
            let slice = time + CHECK_INTERVAL;
            let until = self.deadline.map_or(slice, |deadline| deadline.min(slice));
            if let Ok(result) = watched.block_until(until, &mut f) {
                return Ok(result);
            }
            if let Some(check) = &mut self.check {
                check()?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Code;

    /// What a caller's check raises.
    #[derive(Debug)]
    enum Caller {
        Interrupted,
        Failed(Error),
    }

    impl From<Error> for Caller {
        fn from(error: Error) -> Self {
            Self::Failed(error)
        }
    }

    #[test]
    fn a_check_that_fails_ends_the_wait_within_a_second() {
        let watched = Watched::new(());
        let start = now();
        let mut calls = 0;
        let mut check = || {
            calls += 1;
            if calls == 2 { Err(Caller::Interrupted) } else { Ok(()) }
        };
        let result = Wait::checked(None, &mut check).on(&watched, "nothing", StoredState::No, |()| None::<()>);
        assert!(matches!(result, Err(Caller::Interrupted)));
        assert!(start.elapsed() < Duration::from_secs(1));
    }

    #[test]
    fn a_deadline_ends_the_wait_but_not_where_the_result_is_there() {
        let watched = Watched::new(());
        let past = now();
        assert_eq!(Wait::until(past).on(&watched, "something", StoredState::No, |()| Some(1)).expect("it is there"), 1);
        let mut check = || Ok(());
        match Wait::<Caller>::checked(Some(past), &mut check).on(&watched, "nothing", StoredState::No, |()| None::<()>) {
            Err(Caller::Failed(error)) => assert_eq!(error.code(), Code::Timeout),
            other => panic!("no timeout but {other:?}"),
        }
    }
}
