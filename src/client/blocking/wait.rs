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
    /// The caller goes on waiting after the deadline.
    is_turn: bool,
    check: Option<&'a mut dyn FnMut() -> Result<(), E>>,
}

/// Why a wait has ended without a result.
#[derive(Debug)]
pub(super) enum Ended<E> {
    /// What was there is due.
    Due,
    /// The deadline has passed, after so long.
    Deadline(Duration),
    /// The check says so.
    Interrupted(E),
}

impl Wait<'static, Error> {
    /// Waits as long as it takes.
    #[must_use]
    pub fn forever() -> Self {
        Self { deadline: None, is_turn: false, check: None }
    }

    /// Waits up to `deadline`, then fails with `timeout`.
    #[must_use]
    pub fn until(deadline: Instant) -> Self {
        Self { deadline: Some(deadline), is_turn: false, check: None }
    }

    /// Waits for at most `duration` from now, then fails with `timeout`.
    #[must_use]
    pub fn at_most(duration: Duration) -> Self {
        Self { deadline: now().checked_add(duration), is_turn: false, check: None }
    }
}

impl<'a, E: From<Error>> Wait<'a, E> {
    /// Waits up to `deadline`, or for ever, and calls `check` meanwhile.
    pub fn checked(deadline: Option<Instant>, check: &'a mut dyn FnMut() -> Result<(), E>) -> Self {
        Self { deadline, is_turn: false, check: Some(check) }
    }

    /// The same, perhaps of a caller who lets others in at `deadline` and then waits on: nothing is handed out then only because
    /// that has passed.
    #[must_use]
    pub fn of_a_turn(self, is_turn: bool) -> Self {
        Self { is_turn, ..self }
    }

    /// Blocks until `f` gives something.
    pub(super) fn on<T, R>(
        &mut self,
        watched: &Watched<T>,
        what: &'static str,
        stored: StoredState,
        f: impl FnMut(&mut T) -> Option<R>,
    ) -> Result<R, E> {
        self.on_until(watched, None, f).map_err(|ended| match ended {
            Ended::Interrupted(error) => error,
            Ended::Deadline(waited) => Error::Timeout { what, waited, stored }.into(),
            Ended::Due => Error::Timeout { what, waited: Duration::ZERO, stored }.into(),
        })
    }

    /// Blocks until `f` gives something, or until `due`, if there is anything that becomes due: then by the deadline at the latest.
    pub(super) fn on_until<T, R>(
        &mut self,
        watched: &Watched<T>,
        due: Option<Instant>,
        mut f: impl FnMut(&mut T) -> Option<R>,
    ) -> Result<R, Ended<E>> {
        if let Some(result) = watched.with(&mut f) {
            return Ok(result);
        }
        let started = now();
        loop {
            let time = now();
            if due.is_some_and(|due| due <= time) {
                return Err(Ended::Due);
            }
            if self.deadline.is_some_and(|deadline| deadline <= time) {
                let is_due = due.is_some() && !self.is_turn;
                return Err(if is_due { Ended::Due } else { Ended::Deadline(time.saturating_duration_since(started)) });
            }
            let until = [self.deadline, due].into_iter().flatten().fold(time + CHECK_INTERVAL, Instant::min);
            if let Ok(result) = watched.block_until(until, &mut f) {
                return Ok(result);
            }
            if let Some(check) = &mut self.check {
                check().map_err(Ended::Interrupted)?;
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
