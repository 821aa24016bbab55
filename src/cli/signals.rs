//! SIGTERM and Ctrl-C, listened to once per command: between two listeners a signal would be lost.

use std::future::Future;

use super::error::CliError;

/// From its creation on, signals no longer end the process by themselves; they wait to be asked for.
pub(super) struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    /// None: a terminal that hangs up ends the process, as ever.
    #[cfg(unix)]
    hang_up: Option<tokio::signal::unix::Signal>,
    #[cfg(windows)]
    ctrl_c: tokio::signal::windows::CtrlC,
}

impl Signals {
    /// Ends `work` at the next signal.
    pub(super) async fn interrupt<T>(&mut self, work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
        tokio::select! {
            result = work => result,
            _ = self.next() => Err(CliError::Interrupted),
        }
    }

    #[cfg(unix)]
    pub(super) fn listen() -> Result<Self, CliError> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| signal(kind).map_err(failed);
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())?, hang_up: None })
    }

    /// The next signal's name.
    ///
    /// # Cancel safety
    /// No signal is lost.
    #[cfg(unix)]
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// From now on SIGHUP no longer ends the process; see [`next_or_hang_up`](Self::next_or_hang_up).
    #[cfg(unix)]
    pub(super) fn listen_to_hang_up(&mut self) -> Result<(), CliError> {
        self.hang_up = Some(tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).map_err(failed)?);
        Ok(())
    }

    #[cfg(windows)]
    pub(super) fn listen() -> Result<Self, CliError> {
        Ok(Self { ctrl_c: tokio::signal::windows::ctrl_c().map_err(failed)? })
    }

    /// The next signal's name; none for SIGHUP, if it is listened to.
    ///
    /// # Cancel safety
    /// No signal is lost.
    #[cfg(unix)]
    pub(super) async fn next_or_hang_up(&mut self) -> Option<&'static str> {
        let Some(hang_up) = &mut self.hang_up else { return Some(self.next().await) };
        tokio::select! {
            _ = self.terminate.recv() => Some("SIGTERM"),
            _ = self.interrupt.recv() => Some("SIGINT"),
            _ = hang_up.recv() => None,
        }
    }

    #[cfg(windows)]
    pub(super) async fn next_or_hang_up(&mut self) -> Option<&'static str> {
        Some(self.next().await)
    }

    #[cfg(windows)]
    pub(super) fn listen_to_hang_up(&mut self) -> Result<(), CliError> {
        Ok(())
    }

    /// The next signal's name.
    #[cfg(windows)]
    pub(super) async fn next(&mut self) -> &'static str {
        self.ctrl_c.recv().await;
        "Ctrl-C"
    }
}

fn failed(reason: std::io::Error) -> CliError {
    CliError::Io { doing: "listening for signals", reason }
}
