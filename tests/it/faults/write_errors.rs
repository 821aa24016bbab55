//! Writes and reads of a segment that fail: by a full disk, by a broken one, or because a signal came.

use bowstring::client::{ConsumerOptions, ProducerOptions};
use bowstring::engine::{Code, Start};
use bytes::Bytes;
use tempfile::TempDir;

use super::strace::{self, Strace};
use super::{append_one, audit, impatient, is_stalled, killed_and_started, segment_of, serve};
use crate::cli::coordinator::{Coordinator, eventually};
use crate::client_support::{connect, create, number, numbered, partitions, rest, soon};
use crate::durable_support::{append, read};

/// A coordinator whose stream `s` has batches 0 to 19, kept for `audit`.
async fn with_twenty() -> (TempDir, Coordinator, bowstring::client::Client) {
    let dir = tempfile::tempdir().expect("a folder");
    let coordinator = serve(dir.path(), None);
    let client = connect(&coordinator.url()).await;
    create(&client, "s", partitions(1)).await;
    client.subscribe("s", "audit", &Start::Earliest).await.expect("is new");
    append(&client, "s", 0..20).await;
    (dir, coordinator, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_finds_the_disk_full_is_done_again_until_there_is_room() {
    if !strace::is_there() {
        return;
    }
    let (dir, coordinator, client) = with_twenty().await;
    let segment = segment_of(&client, dir.path(), "s", 0).await;
    let strace = Strace::attach(&coordinator, &[&segment], "pwritev:error=ENOSPC");
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    for number in 20..40 {
        producer.append(&numbered(number, 10), None, Bytes::new()).await.expect("room in the window");
    }
    eventually(|| is_stalled(&coordinator, "s"));
    assert_eq!(read(&client, "s").await.len(), 20, "nobody sees what is not written");
    assert_eq!(producer.stored(), 0);
    drop(strace);
    soon(producer.flush()).await.expect("there is room now");
    assert!(!is_stalled(&coordinator, "s"));
    assert_eq!(audit(&client, "s").await, (0..40).collect::<Vec<_>>());
    let _coordinator = killed_and_started(coordinator, dir.path());
    assert_eq!(audit(&client, "s").await, (0..40).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_fails_stops_the_log_and_confirms_nothing() {
    if !strace::is_there() {
        return;
    }
    let (dir, coordinator, client) = with_twenty().await;
    let in_haste = impatient(&coordinator).await;
    let segment = segment_of(&client, dir.path(), "s", 0).await;
    let strace = Strace::attach(&coordinator, &[&segment], "pwritev:error=EIO");
    let error = append_one(&in_haste, "s", 100).await.expect_err("is not written");
    drop(strace);
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.to_string().contains("cannot write to") && error.to_string().contains("Input/output error"), "{error}");
    assert!(is_stalled(&coordinator, "s"));
    assert_eq!(read(&client, "s").await.len(), 20);
    let _coordinator = killed_and_started(coordinator, dir.path());
    append(&client, "s", 20..30).await;
    assert_eq!(audit(&client, "s").await, (0..30).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_a_signal_has_interrupted_is_done_again() {
    if !strace::is_there() {
        return;
    }
    let (_dir, coordinator, client) = with_twenty().await;
    let strace = Strace::attach(&coordinator, &[], "pwritev:error=EINTR:when=1+2");
    append(&client, "s", 20..30).await;
    assert_eq!(audit(&client, "s").await, (0..30).collect::<Vec<_>>());
    drop(strace);
}

/// What cannot be read at the moment is not damaged.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_fails_is_told_to_its_consumer_and_is_no_damage() {
    if !strace::is_there() {
        return;
    }
    let (dir, coordinator, client) = with_twenty().await;
    // Started again it has nothing in memory.
    let coordinator = killed_and_started(coordinator, dir.path());
    let segment = segment_of(&client, dir.path(), "s", 0).await;
    let strace = Strace::attach(&coordinator, &[&segment], "pread64:error=EIO");
    let options = ConsumerOptions { follow: false, ..ConsumerOptions::default() };
    let mut consumer = client.consumer("s", options).await.expect("is there");
    let error = soon(consumer.next(None)).await.expect_err("cannot be read");
    assert_eq!(error.code(), Code::Storage);
    assert!(error.to_string().contains("cannot read") && error.to_string().contains("Input/output error"), "{error}");
    append(&client, "s", 20..25).await;
    drop(strace);
    let all = soon(rest(&mut consumer)).await.expect("is read now");
    assert_eq!(all.iter().map(number).collect::<Vec<_>>()[..20], (0..20).collect::<Vec<_>>());
    assert_eq!(audit(&client, "s").await, (0..25).collect::<Vec<_>>());
}
