//! The `bowstring` command as users run it: real processes against a real coordinator.

mod bench;
mod check;
mod config;
pub(crate) mod coordinator;
mod debug;
mod files;
mod lag;
mod logs;
mod refusals;
mod serving;
mod starts;
mod streams;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a finished command left behind.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: i32,
    stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// The output of a command that must have succeeded.
    pub(crate) fn done(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }

    /// What it printed, however it ended.
    fn stdout(&self) -> &str {
        &self.stdout
    }

    /// As [`Finished::done`], read as JSON.
    fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.done()).unwrap()
    }

    /// Fails unless the command ended with this exit code and said all these words on stderr.
    pub(crate) fn refused(self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        let missing: Vec<_> = words.iter().filter(|word| !self.stderr.contains(**word)).collect();
        assert!(missing.is_empty(), "{missing:?} is not in {self:?}");
    }
}

/// The command, with nothing of the tester's own settings.
pub(crate) fn bowstring(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bowstring"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("BOWSTRING_")) {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a command to its end.
pub(crate) fn finish(mut command: Command, stdin: Option<&[u8]>) -> Finished {
    if stdin.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().unwrap();
    if let Some(bytes) = stdin {
        child.stdin.take().unwrap().write_all(bytes).unwrap();
    }
    let output = child.wait_with_output().unwrap();
    Finished {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A path as an argument.
pub(crate) fn arg(path: &Path) -> &str {
    path.to_str().unwrap()
}
