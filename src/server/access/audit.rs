//! The audit log: who was let do what, a line of JSON for each call.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

use serde_json::json;
use tokio::sync::mpsc;

/// Lines that wait to be written: some hundred bytes each. What comes while all of these wait is counted and dropped.
const LINES_MAX: usize = 8192;
/// Lines that are written at once.
const LINES_AT_ONCE: usize = 1024;
/// Longest name that is written.
const NAME_BYTES_MAX: usize = 256;

/// One decision.
#[derive(Debug)]
pub(super) struct Decision {
    pub(super) at: SystemTime,
    /// Who calls; none if that is not known.
    pub(super) principal: Option<Arc<str>>,
    pub(super) by: &'static str,
    pub(super) peer: Arc<str>,
    pub(super) rpc: String,
    pub(super) verb: Option<&'static str>,
    pub(super) stream: String,
    /// The code of a refusal.
    pub(super) code: Option<&'static str>,
}

impl Decision {
    fn line(&self) -> String {
        let line = json!({
            "time": humantime::format_rfc3339_micros(self.at).to_string(),
            "principal": self.principal.as_deref(),
            "by": self.by,
            "peer": &*self.peer,
            "verb": self.verb,
            "stream": cut(&self.stream),
            "rpc": cut(&self.rpc),
            "allowed": self.code.is_none(),
            "code": self.code.unwrap_or("ok"),
        });
        format!("{line}\n")
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(NAME_BYTES_MAX)]
}

/// Takes decisions, and never waits.
#[derive(Debug)]
pub(super) struct Audit {
    sender: mpsc::Sender<Decision>,
    counters: Arc<AuditCounters>,
}

/// What became of decisions.
#[derive(Debug, Default)]
pub(in crate::server) struct AuditCounters {
    pub(in crate::server) written: AtomicU64,
    pub(in crate::server) dropped: AtomicU64,
    reopen: AtomicBool,
}

impl AuditCounters {
    /// The file is opened anew before the next line.
    pub(in crate::server) fn reopen(&self) {
        self.reopen.store(true, Relaxed);
    }
}

/// Where lines go.
#[derive(Debug)]
pub(super) struct AuditFile {
    /// None: standard error.
    path: Option<PathBuf>,
    file: Option<File>,
}

impl AuditFile {
    /// Opens the file, so that a path that cannot be written is known at the start.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if path.as_os_str() == "stderr" {
            return Ok(Self { path: None, file: None });
        }
        Ok(Self { path: Some(path.to_path_buf()), file: Some(append(path)?) })
    }

    fn write(&mut self, lines: &[u8], reopen: bool) -> io::Result<()> {
        let Some(path) = &self.path else { return io::stderr().write_all(lines) };
        let is_there = |file: &File| same(file, path).unwrap_or(false);
        if reopen || !self.file.as_ref().is_some_and(is_there) {
            self.file = None;
            self.file = Some(append(path)?);
        }
        self.file.as_mut().map_or(Ok(()), |file| file.write_all(lines))
    }
}

/// For its owner alone: names are told there.
fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Whether the path still names the file: somebody may have renamed it, to begin another.
fn same(file: &File, path: &Path) -> io::Result<bool> {
    let (ours, there) = (file.metadata()?, std::fs::metadata(path)?);
    Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino()))
}

impl Audit {
    /// The log, and what writes it: a task of the server's runs that until it is dropped.
    pub(super) fn new(file: AuditFile) -> (Self, AuditWriter) {
        let (sender, receiver) = mpsc::channel(LINES_MAX);
        let counters = Arc::new(AuditCounters::default());
        (Self { sender, counters: counters.clone() }, AuditWriter { receiver, file, counters })
    }

    /// Puts a decision down, or counts that there was no room for it.
    pub(super) fn note(&self, decision: Decision) {
        if self.sender.try_send(decision).is_err() {
            self.counters.dropped.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn counters(&self) -> &Arc<AuditCounters> {
        &self.counters
    }
}

/// Writes what was put down.
#[derive(Debug)]
pub(in crate::server) struct AuditWriter {
    receiver: mpsc::Receiver<Decision>,
    file: AuditFile,
    counters: Arc<AuditCounters>,
}

impl AuditWriter {
    /// Writes until the server is gone, and then what is left. On a disk that fails the lines are dropped and counted.
    pub(in crate::server) async fn run(mut self, stopping: tokio_util::sync::CancellationToken) {
        let mut failing = false;
        loop {
            let mut decisions = Vec::with_capacity(LINES_AT_ONCE);
            tokio::select! {
                biased;
                _ = self.receiver.recv_many(&mut decisions, LINES_AT_ONCE) => {}
                () = stopping.cancelled() => {}
            }
            if decisions.is_empty() {
                return;
            }
            let count = decisions.len() as u64;
            let (mut file, counters) = (self.file, self.counters.clone());
            let written = tokio::task::spawn_blocking(move || {
                let lines: String = decisions.iter().map(Decision::line).collect();
                let written = file.write(lines.as_bytes(), counters.reopen.swap(false, Relaxed));
                (file, written)
            });
            let Ok((file, written)) = written.await else { return };
            self.file = file;
            let counter = if written.is_ok() { &self.counters.written } else { &self.counters.dropped };
            counter.fetch_add(count, Relaxed);
            if let Err(error) = &written
                && !failing
            {
                tracing::error!(%error, "the audit log cannot be written; its lines are dropped and counted in bowstring_audit_dropped_total");
            }
            failing = written.is_err();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(stream: &str) -> Decision {
        let (peer, rpc) = ("127.0.0.1:1".into(), "DoPut".to_owned());
        let (at, code) = (SystemTime::UNIX_EPOCH, Some("permission_denied"));
        Decision { at, principal: Some("alice".into()), by: "token", peer, rpc, verb: Some("append"), stream: stream.to_owned(), code }
    }

    #[test]
    fn a_line_is_json_and_as_long_as_names_may_be() {
        let line: serde_json::Value = serde_json::from_str(&decision(&"ü\n\"".repeat(1000)).line()).expect("JSON");
        assert_eq!(line["time"], "1970-01-01T00:00:00.000000Z");
        assert_eq!((&line["allowed"], &line["code"]), (&json!(false), &json!("permission_denied")));
        assert!(line["stream"].as_str().expect("a text").len() <= NAME_BYTES_MAX);
    }

    #[tokio::test]
    async fn what_finds_no_room_is_dropped_and_counted_and_nobody_waits() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.log");
        let (audit, writer) = Audit::new(AuditFile::open(&path).expect("can be made"));
        (0..LINES_MAX + 5).for_each(|_| audit.note(decision("s")));
        assert_eq!(audit.counters().dropped.load(Relaxed), 5);
        let stopping = tokio_util::sync::CancellationToken::new();
        stopping.cancel();
        writer.run(stopping).await;
        assert_eq!(audit.counters().written.load(Relaxed), LINES_MAX as u64);
        assert_eq!(std::fs::read_to_string(&path).expect("is there").lines().count(), LINES_MAX);
    }

    #[test]
    fn a_file_that_was_renamed_is_begun_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, old) = (folder.path().join("audit.log"), folder.path().join("audit.log.1"));
        let mut file = AuditFile::open(&path).expect("can be made");
        file.write(b"1\n", false).expect("writes");
        std::fs::rename(&path, &old).expect("is ours");
        file.write(b"2\n", false).expect("writes");
        file.write(b"3\n", true).expect("writes");
        assert_eq!(std::fs::read_to_string(&old).expect("is there"), "1\n");
        assert_eq!(std::fs::read_to_string(&path).expect("is there"), "2\n3\n");
    }
}
