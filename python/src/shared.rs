//! An object that several Python threads may use at once.

use std::time::{Duration, Instant};

use bowstring::client::Error;
use bowstring::client::blocking::Wait;
use bowstring::engine::{Code, Retry};
use parking_lot::{Mutex, MutexGuard};
use pyo3::prelude::*;

use crate::errors::{Raised, check_signals, deadline, now, raise};

/// Longest time without a look at signals, and that a verb which can be resumed keeps others out.
const SLICE: Duration = Duration::from_millis(100);

/// One thread at a time; the others wait without the GIL, up to their deadline, and Ctrl-C ends their wait.
pub(crate) struct Shared<T>(Mutex<T>);

impl<T: Send> Shared<T> {
    pub(crate) fn new(object: T) -> Self {
        Self(Mutex::new(object))
    }

    /// Runs what does not wait.
    pub(crate) fn with<R: Send>(&self, py: Python<'_>, verb: impl FnOnce(&mut T) -> Result<R, Error> + Send) -> PyResult<R> {
        self.wait(py, None, |object, _| Ok(verb(object)?))
    }

    /// Runs a blocking verb that cannot be resumed: others wait until it has ended.
    pub(crate) fn wait<R: Send>(
        &self,
        py: Python<'_>,
        timeout: Option<f64>,
        verb: impl FnOnce(&mut T, &mut Wait<'_, Raised>) -> Result<R, Raised> + Send,
    ) -> PyResult<R> {
        let deadline = deadline(timeout)?;
        let run = || verb(&mut *self.lock(deadline)?, &mut Wait::checked(deadline, &mut check_signals));
        py.detach(run).map_err(PyErr::from)
    }

    /// Runs a blocking verb that goes on where it was when it is called again: others, `close` among them, get
    /// their turn in between.
    pub(crate) fn wait_in_turns<R: Send>(
        &self,
        py: Python<'_>,
        timeout: Option<f64>,
        mut verb: impl FnMut(&mut T, &mut Wait<'_, Raised>) -> Result<R, Raised> + Send,
    ) -> PyResult<R> {
        let started = now();
        let deadline = deadline(timeout)?;
        let run = || loop {
            let mut object = self.lock(deadline)?;
            let slice = now() + SLICE;
            let until = deadline.map_or(slice, |deadline| deadline.min(slice));
            let is_last = deadline == Some(until);
            match verb(&mut object, &mut Wait::checked(Some(until), &mut check_signals).of_a_turn(!is_last)) {
                Err(Raised::TimedOut(mut error)) if deadline.is_some_and(|deadline| deadline <= now()) => {
                    if let Error::Timeout { waited, .. } | Error::InFlight { waited, .. } = &mut error {
                        *waited = now().saturating_duration_since(started);
                    }
                    return Err(error.into());
                }
                Err(Raised::TimedOut(_)) => MutexGuard::unlock_fair(object),
                done => return done,
            }
            check_signals()?;
        };
        py.detach(run).map_err(PyErr::from)
    }

    /// The object, once no other thread has it.
    pub(crate) fn lock(&self, deadline: Option<Instant>) -> Result<MutexGuard<'_, T>, Raised> {
        loop {
            if let Some(object) = self.0.try_lock_for(SLICE) {
                return Ok(object);
            }
            check_signals()?;
            if deadline.is_some_and(|deadline| deadline <= now()) {
                let text = "timed out: another thread waits with the same object; give each thread its own";
                return Err(Raised::Python(raise(Code::Timeout, Retry::After, text)));
            }
        }
    }
}
