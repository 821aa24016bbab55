//! A process that a benchmark starts: the same command, as an end or as a coordinator. Killed when dropped.

use std::ffi::OsStr;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};

use super::meter::Report;
use crate::cli::error::CliError;

/// A running child; what it logs goes to this process's stderr.
pub(super) struct Child {
    name: String,
    process: tokio::process::Child,
    stdin: Option<ChildStdin>,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Child {
    pub(super) fn start(program: &OsStr, name: impl Into<String>, args: &[String]) -> Result<Self, CliError> {
        let name = name.into();
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command
            .spawn()
            .map_err(|reason| CliError::Bench { reason: format!("{name} could not be started: {}: {reason}", program.display()) })?;
        let stdout = process.stdout.take().ok_or_else(|| CliError::Bench { reason: format!("{name} has no output") })?;
        Ok(Self { name, stdin: process.stdin.take(), stdout: BufReader::new(stdout).lines(), process })
    }

    /// Its next line.
    pub(super) async fn line(&mut self) -> Result<String, CliError> {
        match self.stdout.next_line().await {
            Ok(Some(line)) => Ok(line),
            Ok(None) => Err(self.ended().await),
            Err(reason) => Err(CliError::Bench { reason: format!("{} cannot be heard: {reason}", self.name) }),
        }
    }

    /// Waits until it is connected.
    pub(super) async fn ready(&mut self) -> Result<(), CliError> {
        match self.line().await?.as_str() {
            "ready" => Ok(()),
            other => Err(CliError::Bench { reason: format!("{} said {other:?} instead of being ready", self.name) }),
        }
    }

    /// Lets it begin.
    pub(super) async fn go(&mut self) -> Result<(), CliError> {
        let Some(stdin) = &mut self.stdin else { return Ok(()) };
        match stdin.write_all(b"go\n").await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.ended().await),
        }
    }

    /// What it has done, once it is done.
    pub(super) async fn report(mut self) -> Result<Report, CliError> {
        let line = self.line().await?;
        let report = serde_json::from_str(&line);
        let report = report.map_err(|error| CliError::Bench { reason: format!("{} reported {line:?}: {error}", self.name) })?;
        match self.process.wait().await {
            Ok(status) if status.success() => Ok(report),
            _ => Err(self.ended().await),
        }
    }

    /// Why there is nothing more to hear; what it said on stderr has been shown already.
    async fn ended(&mut self) -> CliError {
        let status = self.process.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string());
        CliError::Bench { reason: format!("{} ended with {status} before it was done", self.name) }
    }
}
