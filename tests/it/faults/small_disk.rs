//! A small disk of a test's own, that really gets full: memory, mounted where only the coordinator sees it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use super::{flags, skipped};
use crate::cli::coordinator::Coordinator;
use crate::cli::{arg, bowstring};

/// How a process gets mounts of its own: as root, or as anybody who may be root in a world of its own.
const WAYS: [&[&str]; 2] = [&["--mount"], &["--user", "--map-root-user", "--mount"]];

/// The disk, for as long as this is there; also a killed test leaves nothing mounted.
pub(super) struct SmallDisk {
    /// Holds the mount, and ends with its stdin.
    holder: Child,
    _stdin: ChildStdin,
    /// Where it is mounted.
    folder: tempfile::TempDir,
    has_users: bool,
}

impl SmallDisk {
    /// A disk of so many bytes; none, and a word why, where nobody may mount.
    pub(super) fn new(bytes: u64) -> Option<Self> {
        let mut refusals = String::new();
        for way in WAYS {
            match Self::mount(bytes, way) {
                Ok(disk) => return Some(disk),
                Err(refusal) => refusals = refusal,
            }
        }
        skipped(&format!("a disk cannot be mounted here ({refusals})"));
        None
    }

    fn mount(bytes: u64, way: &[&str]) -> Result<Self, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let script = "mount -t tmpfs -o \"size=$1\" bowstring \"$2\" && echo mounted && exec cat";
        let mut command = Command::new("unshare");
        command.args(way).args(["sh", "-c", script, "sh", &bytes.to_string(), arg(folder.path())]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut holder = command.spawn().map_err(|error| format!("unshare: {error}"))?;
        let (stdin, stdout) = (holder.stdin.take().unwrap(), holder.stdout.take().unwrap());
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        if line == "mounted\n" {
            return Ok(Self { holder, _stdin: stdin, folder, has_users: way.len() > 1 });
        }
        drop(stdin);
        let output = holder.wait_with_output().unwrap();
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }

    /// A coordinator whose data directory is on it.
    pub(super) fn serve(&self, listen: Option<&str>, more: &[&str]) -> Coordinator {
        let inside = bowstring(&["serve"]);
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--mount"]);
        if self.has_users {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg(inside.get_program()).args(inside.get_args());
        for (name, value) in inside.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let data_dir = self.data_dir();
        command.args(flags(&data_dir, listen)).args(more).stdin(Stdio::null()).stdout(Stdio::piped());
        Coordinator::spawn(command)
    }

    /// Kills it, and starts the next one at the same place.
    pub(super) fn killed_and_started(&self, coordinator: Coordinator, more: &[&str]) -> Coordinator {
        let listen = coordinator.listen.clone();
        coordinator.signal("KILL");
        drop(coordinator);
        self.serve(Some(&listen), more)
    }

    /// As the coordinator sees it.
    fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A path on the disk, as the test sees it.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        let folder = self.folder.path().strip_prefix("/").expect("is absolute");
        Path::new("/proc").join(self.holder.id().to_string()).join("root").join(folder).join(path)
    }

    /// Bytes that are left.
    pub(super) fn available(&self) -> u64 {
        let status = rustix::fs::statvfs(self.path("")).unwrap();
        status.f_bavail * status.f_frsize
    }

    /// Somebody else's file that leaves so many bytes; remove it to give them back.
    pub(super) fn fill_but(&self, left: u64) -> PathBuf {
        let (file, path) = tempfile::NamedTempFile::new_in(self.path("")).unwrap().keep().unwrap();
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, self.available() - left).unwrap();
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
