//! A data directory that cannot be used is refused at the start, with the reason and what to do; nothing in it is changed.

use std::path::Path;
use std::process::Command;

use redb::{Database, TableDefinition};

use super::{flags, serve, skipped};
use crate::cli::coordinator::Coordinator;
use crate::cli::{Finished, arg, bowstring};
use crate::client_support::connect;
use crate::durable_support::{append, files, read};

/// What a start says that is refused; fails if it is not.
fn refused_start(data_dir: &Path) -> Finished {
    Coordinator::refused(bowstring(&[&["serve"], &flags(data_dir, None)[..]].concat()))
}

async fn with_a_stream(data_dir: &Path) -> Coordinator {
    let coordinator = serve(data_dir, None);
    append(&connect(&coordinator.url()).await, "s", 0..10).await;
    coordinator
}

async fn has_all(coordinator: &Coordinator) -> bool {
    read(&connect(&coordinator.url()).await, "s").await.len() == 10
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_coordinator_is_refused_and_the_first_goes_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let first = with_a_stream(dir.path()).await;
    refused_start(dir.path()).refused(1, &["error [start_failed]", arg(dir.path()), "another coordinator uses it", "stop that one"]);
    assert!(has_all(&first).await);
    // One that was killed is in nobody's way.
    let _next = super::killed_and_started(first, dir.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_of_a_newer_version_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().expect("a folder");
    drop(with_a_stream(dir.path()).await);
    let catalog = dir.path().join("catalog.redb");
    let set_format = |format: u32| {
        let database = Database::open(&catalog).expect("a catalog");
        let writing = database.begin_write().expect("begins");
        let about: TableDefinition<'_, &str, u32> = TableDefinition::new("about");
        writing.open_table(about).expect("is there").insert("format", format).expect("is set");
        writing.commit().expect("is committed");
    };
    set_format(2);
    refused_start(dir.path()).refused(1, &["error [start_failed]", "catalog.redb", "format version 2", "knows 1 and older", "upgrade it"]);
    set_format(1);
    assert!(has_all(&serve(dir.path(), None)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_that_is_cut_or_is_something_else_is_refused_and_no_stream_is_removed() {
    let dir = tempfile::tempdir().expect("a folder");
    drop(with_a_stream(dir.path()).await);
    let catalog = dir.path().join("catalog.redb");
    let good = std::fs::read(&catalog).expect("is there");
    let garbage = b"This is no catalog. ".repeat(good.len() / 20);
    for (what, bytes) in [("half of it", &good[..good.len() / 2]), ("a page", &good[..4096]), ("garbage", &garbage)] {
        std::fs::write(&catalog, bytes).expect("is written");
        refused_start(dir.path()).refused(1, &["error [start_failed]", "catalog.redb", "cannot be used"]);
        assert_eq!(files(dir.path(), "arrows").len(), 1, "{what}");
    }
    std::fs::write(&catalog, &good).expect("is written");
    assert!(has_all(&serve(dir.path(), None)).await);
}

/// An empty catalog would make every stream one that nobody knows, and its segments rubbish.
#[tokio::test(flavor = "multi_thread")]
async fn streams_without_a_catalog_are_not_removed() {
    let dir = tempfile::tempdir().expect("a folder");
    drop(with_a_stream(dir.path()).await);
    let catalog = dir.path().join("catalog.redb");
    let good = std::fs::read(&catalog).expect("is there");
    std::fs::remove_file(&catalog).expect("is there");
    let words = ["error [start_failed]", "no catalog.redb that knows them", "restore it from a copy"];
    refused_start(dir.path()).refused(1, &words);
    std::fs::write(&catalog, b"").expect("is written");
    refused_start(dir.path()).refused(1, &words);
    assert_eq!(files(dir.path(), "arrows").len(), 1);
    std::fs::write(&catalog, &good).expect("is written");
    assert!(has_all(&serve(dir.path(), None)).await);
}

/// Root may write where nobody may: only a mount stops it.
#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_cannot_be_written_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    drop(with_a_stream(dir.path()).await);
    let script = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" || { echo no mount >&2; exit 99; }; shift; exec \"$@\"";
    let inside = bowstring(&[&["serve"], &flags(dir.path(), None)[..]].concat());
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh", arg(dir.path())]).arg(inside.get_program()).args(inside.get_args());
    let output = command.output();
    match output {
        Ok(output) if String::from_utf8_lossy(&output.stderr).contains("error [") => {
            let stderr = String::from_utf8_lossy(&output.stderr);
            let words = ["error [start_failed]", arg(dir.path()), "Read-only file system", "check the path and its permissions"];
            assert!(words.iter().all(|word| stderr.contains(word)), "{stderr}");
        }
        Ok(output) => skipped(&format!("nothing can be mounted here ({})", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => skipped(&format!("unshare cannot be run ({error})")),
    }
    let file = tempfile::NamedTempFile::new().expect("a file");
    refused_start(file.path()).refused(1, &["error [start_failed]", arg(file.path()), "check the path"]);
}
