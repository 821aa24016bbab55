//! System calls of a coordinator that fail, by `strace`.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::skipped;
use crate::cli::arg;
use crate::cli::coordinator::{Coordinator, eventually, signal, wait};

/// Lets calls fail for as long as it is there.
pub(super) struct Strace {
    child: Child,
}

/// Whether there is a `strace` that may do this; says so if not.
pub(super) fn is_there() -> bool {
    let inject = ["-f", "-qq", "-o", "/dev/null", "-e", "inject=fdatasync:error=EIO", "true"];
    match Command::new("strace").args(inject).stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            skipped(&format!("strace may not trace here ({})", String::from_utf8_lossy(&output.stderr).trim()));
            false
        }
        Err(error) => {
            skipped(&format!("strace cannot be run ({error})"));
            false
        }
    }
}

impl Strace {
    /// From now on calls fail as `inject` says: `fdatasync:error=EIO:when=2+`. Where there are `paths`, only those with these files.
    pub(super) fn attach(coordinator: &Coordinator, paths: &[&Path], inject: &str) -> Self {
        let pid = coordinator.pid().to_string();
        let mut command = Command::new("strace");
        let calls = inject.split(':').next().unwrap();
        // Calls that are not traced do not fail.
        let (trace, inject) = (format!("trace={calls}"), format!("inject={inject}"));
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject, "-p", &pid]);
        for path in paths {
            // strace compares with the names that the kernel has.
            let path = path.canonicalize().unwrap();
            command.args(["-P", arg(&path)]);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let tracer = format!("TracerPid:\t{}", child.id());
        eventually(|| threads(&pid).iter().all(|status| status.lines().any(|line| line == tracer)));
        Self { child }
    }
}

impl Drop for Strace {
    /// Lets go of the coordinator in good order: killed, it might leave a call half done.
    fn drop(&mut self) {
        signal(&self.child, "TERM");
        wait(&mut self.child, Duration::from_secs(10));
    }
}

/// What the kernel says of each thread.
fn threads(pid: &str) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let status = |task: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(task.unwrap().path().join("status"));
    // One that has ended meanwhile has none.
    tasks.filter_map(|task| status(task).ok()).collect()
}
