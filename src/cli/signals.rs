//! SIGTERM and Ctrl-C, listened to once per command: between two listeners a signal would be lost.

use std::future::Future;

use super::error::CliError;

/// From its creation on, signals no longer end the process by themselves; they wait to be asked for.
pub(super) struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
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
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
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

    #[cfg(windows)]
    pub(super) fn listen() -> Result<Self, CliError> {
        Ok(Self { ctrl_c: tokio::signal::windows::ctrl_c().map_err(failed)? })
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
