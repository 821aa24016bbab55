//! Errors on their way to Python, and waits that Python can interrupt.

use std::time::{Duration, Instant};

use bowstring::client::Error;
use bowstring::client::blocking::Wait;
use bowstring::engine::{Code, Retry};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// What ends a blocking verb.
pub(crate) enum Raised {
    /// The wait's own deadline; the coordinator's time-outs are exceptions like all others.
    TimedOut(Error),
    /// A Python exception, made from a client error or raised by a signal handler.
    Python(PyErr),
}

impl From<Error> for Raised {
    fn from(error: Error) -> Self {
        match error {
            Error::Timeout { .. } | Error::InFlight { .. } => Self::TimedOut(error),
            error => Self::Python(exception(&error)),
        }
    }
}

impl From<Raised> for PyErr {
    fn from(raised: Raised) -> Self {
        match raised {
            Raised::TimedOut(error) => exception(&error),
            Raised::Python(error) => error,
        }
    }
}

fn exception(error: &Error) -> PyErr {
    raise(error.code(), error.retry(), &error.to_string())
}

/// The exception of a code: made by `bowstring.errors`, which knows the classes.
pub(crate) fn raise(code: Code, retry: Retry, text: &str) -> PyErr {
    static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    Python::attach(|py| {
        let make = MAKE.get_or_try_init(py, || Ok::<_, PyErr>(py.import("bowstring.errors")?.getattr("make")?.unbind()));
        let made = make.and_then(|make| make.bind(py).call1((code.as_str(), retry != Retry::Never, text)));
        match made {
            Ok(exception) => PyErr::from_value(exception),
            Err(error) => error,
        }
    })
}

/// Runs a blocking verb without the GIL. Signal handlers, Ctrl-C among them, run at least every 100 ms.
///
/// `timeout` is in seconds; none: as long as it takes.
pub(crate) fn wait<R: Send>(
    py: Python<'_>,
    timeout: Option<f64>,
    verb: impl FnOnce(&mut Wait<'_, Raised>) -> Result<R, Raised> + Send,
) -> PyResult<R> {
    let deadline = deadline(timeout)?;
    py.detach(|| verb(&mut Wait::checked(deadline, &mut check_signals))).map_err(PyErr::from)
}

/// Lets Python's signal handlers run; the exception that one of them raises.
pub(crate) fn check_signals() -> Result<(), Raised> {
    Python::attach(|py| py.check_signals()).map_err(Raised::Python)
}

#[expect(clippy::disallowed_methods, reason = "a blocking caller's deadline begins at the call")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// When `timeout` seconds are over; none: never.
pub(crate) fn deadline(timeout: Option<f64>) -> PyResult<Option<Instant>> {
    let Some(seconds) = timeout else { return Ok(None) };
    Ok(now().checked_add(duration("timeout", seconds)?))
}

/// Seconds as Python gives them.
pub(crate) fn duration(what: &str, seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|error| {
        raise(Code::InvalidArgument, Retry::Never, &format!("{what} of {seconds} seconds: {error}; use a number of seconds from 0"))
    })
}

/// An object that was closed, or is used by two threads at once.
pub(crate) fn invalid(text: &str) -> PyErr {
    raise(Code::InvalidArgument, Retry::Never, text)
}

/// Anything that can only be a defect.
pub(crate) fn internal(error: impl std::fmt::Display) -> PyErr {
    PyRuntimeError::new_err(error.to_string())
}
