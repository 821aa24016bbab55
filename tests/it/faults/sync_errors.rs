//! The disk says that it could not make something durable. It says so once, and may have dropped what was written: nothing more
//! of that log is confirmed until the next start, whatever later syncs say.

use std::time::Duration;

use bowstring::client::{Client, ClientOptions, ConsumerOptions, ProducerOptions, ProducerRun, WriterId, WriterOptions};
use bowstring::engine::{Attempt, Code, Epoch, EpochState, Start, Task};
use bowstring::wire::proto::{CreateStreamRequest, Receipt, StreamOptions};
use bytes::Bytes;
use rand::Rng;

use super::strace::{self, Strace};
use super::{append_one, audit, health, impatient, is_stalled, killed_and_started, segment_of, serve};
use crate::cli::coordinator::eventually;
use crate::client_support::{connect, create, number, numbered, partitions, soon};
use crate::durable_support::{append, read};
use crate::workload::Workload;

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_stops_its_log_and_no_other_until_the_next_start() {
    sync_fails("EIO", "Input/output error").await;
}

/// Some file systems find out only then that they have no room: what was written is as lost, and room that comes back does not
/// bring it back.
#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_fails_for_want_of_room_is_no_better() {
    sync_fails("ENOSPC", "No space left on device").await;
}

async fn sync_fails(errno: &str, says: &str) {
    if !strace::is_there() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let coordinator = serve(dir.path(), None);
    let (client, in_haste) = (connect(&coordinator.url()).await, impatient(&coordinator).await);
    for stream in ["s", "t"] {
        create(&client, stream, partitions(1)).await;
        client.subscribe(stream, "audit", &Start::Earliest).await.expect("is new");
        append(&client, stream, 0..20).await;
    }
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    let mut follower = client.consumer("s", ConsumerOptions::default()).await.expect("is there");
    let segment = segment_of(&client, dir.path(), "s", 0).await;
    let strace = Strace::attach(&coordinator, &[&segment], &format!("fdatasync:error={errno}"));
    for number in 20..25 {
        producer.append(&numbered(number, 10), None, Bytes::new()).await.expect("room in the window");
    }
    eventually(|| is_stalled(&coordinator, "s"));
    drop(strace);
    // A sync would succeed now. It is not tried: the system may have dropped what it could not write.
    let error = append_one(&in_haste, "s", 100).await.expect_err("nothing is confirmed");
    assert_eq!(error.code(), Code::Unavailable);
    for words in ["the stream's log has failed", "until the coordinator is started again", "cannot make durable", says] {
        assert!(error.to_string().contains(words), "{error}");
    }
    assert_eq!(in_haste.subscribe("s", "late", &Start::Earliest).await.expect_err("is not confirmed").code(), Code::Unavailable);
    assert_eq!(producer.stored(), 0);
    let description = client.describe_stream("s").await.expect("is there");
    assert!(description.log_waits_for.contains("cannot make durable"), "{}", description.log_waits_for);
    let health = health(&coordinator);
    assert_eq!((&health["status"], health["stalled"].as_object().expect("by stream").len()), (&"stalled".into(), 1), "{health}");
    assert!(health["stalled"]["s"].as_str().expect("why").contains("cannot make durable"), "{health}");
    // What was confirmed is read on, and the other stream goes on.
    let delivered = soon(async {
        let mut numbers = Vec::new();
        while numbers.len() < 20 {
            numbers.push(number(&follower.next(None).await.expect("is read").expect("goes on")));
        }
        numbers
    });
    assert_eq!(delivered.await, (0..20).collect::<Vec<_>>());
    assert_eq!(read(&client, "s").await.len(), 20);
    append(&client, "t", 20..30).await;
    assert!(!is_stalled(&coordinator, "t"));

    let coordinator = killed_and_started(coordinator, dir.path());
    soon(producer.flush()).await.expect("is stored now");
    let audit = |stream| audit(&client, stream);
    assert_eq!(audit("t").await, (0..30).collect::<Vec<_>>());
    let mut numbers = audit("s").await;
    // This one is in doubt: it may be there, once.
    numbers.retain(|number| *number != 100);
    assert_eq!(numbers, (0..25).collect::<Vec<_>>());
    assert!(audit("s").await.iter().filter(|number| **number == 100).count() <= 1);
    assert!(!is_stalled(&coordinator, "s"));
}

/// A producer that waits for room when it happens would wait for ever.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_room_is_told_that_the_log_has_failed_and_its_name_stays_taken() {
    if !strace::is_there() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let coordinator = serve(dir.path(), None);
    let (client, in_haste) = (connect(&coordinator.url()).await, impatient(&coordinator).await);
    create(&client, "s", StreamOptions { max_buffered_bytes: Some(200_000), ..partitions(1) }).await;
    append(&client, "s", 0..1).await;
    let segment = segment_of(&client, dir.path(), "s", 0).await;
    let _strace = Strace::attach(&coordinator, &[&segment], "fdatasync:error=EIO:delay_enter=1000000");
    let mut producer = in_haste.producer("s", ProducerOptions::default()).expect("a producer");
    for number in 1..4 {
        // Of 160 KB each: one is on its way to the disk, the next one waits.
        soon(producer.append(&numbered(number, 20_000), None, Bytes::new())).await.expect("room in the window");
    }
    let error = soon(producer.flush()).await.expect_err("is told");
    assert!(error.code() == Code::Unavailable && error.to_string().contains("log has failed"), "{error}");
    // The next start finds the stream: it would find two.
    assert!(in_haste.delete_stream("s").await.is_err());
    let again = CreateStreamRequest { stream: "s".to_owned(), ..CreateStreamRequest::default() };
    assert_eq!(in_haste.create_stream(again).await.expect_err("is not gone").code(), Code::Unavailable);
}

fn run() -> ProducerRun {
    ProducerRun { producer: "p".to_owned(), run: "r".to_owned() }
}

async fn write(client: &Client, epoch: u64, attempt: u64) -> Vec<Receipt> {
    let id = WriterId { producer: "p".to_owned(), run: "r".to_owned(), epoch: Epoch(epoch), task: Task(0), attempt: Attempt(attempt) };
    let mut writer = client.writer("s", id, WriterOptions::default()).expect("a writer");
    soon(writer.append(&numbered(i64::try_from(epoch).expect("small"), 10), None, Bytes::new())).await.expect("room");
    soon(writer.finish()).await.expect("is staged").into_iter().collect()
}

/// The first sync of a commit makes the batches durable, the next ones are the catalog's.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_sync_fails_is_not_confirmed_and_is_whole_or_not_there_after_the_start() {
    if !strace::is_there() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let mut coordinator = serve(dir.path(), None);
    let client = connect(&coordinator.url()).await;
    create(&client, "s", partitions(1)).await;
    client.subscribe("s", "audit", &Start::Earliest).await.expect("is new");
    let mut epoch = 0;
    for failing in 1..=4 {
        // The first makes the segment of this start.
        for _ in 0..2 {
            let receipts = write(&client, epoch, 0).await;
            assert_eq!(client.commit_epoch("s", &run(), Epoch(epoch), receipts).await.expect("commits"), EpochState::Committed);
            epoch += 1;
        }
        let in_haste = impatient(&coordinator).await;
        let receipts = write(&client, epoch, 0).await;
        let strace = Strace::attach(&coordinator, &[], &format!("fdatasync,fsync:error=EIO:when={failing}"));
        let committed = in_haste.commit_epoch("s", &run(), Epoch(epoch), receipts.clone()).await;
        drop(strace);
        match committed {
            Ok(state) => assert!(state == EpochState::Committed && failing > 2, "{state:?} though sync {failing} failed"),
            Err(error) => {
                assert_eq!(error.code(), Code::Unavailable, "{error}");
                let seen: Vec<_> = read(&in_haste, "s").await.iter().map(number).collect();
                assert!(!seen.contains(&i64::try_from(epoch).expect("small")), "it is not confirmed, and is seen: {seen:?}");
            }
        }
        coordinator = killed_and_started(coordinator, dir.path());
        match client.commit_epoch("s", &run(), Epoch(epoch), receipts).await {
            Ok(state) => assert_eq!(state, EpochState::AlreadyCommitted),
            Err(error) => {
                assert_eq!(error.code(), Code::ReceiptUnknown, "{error}");
                let receipts = write(&client, epoch, 1).await;
                assert_eq!(client.commit_epoch("s", &run(), Epoch(epoch), receipts).await.expect("commits"), EpochState::Committed);
            }
        }
        epoch += 1;
        assert_eq!(audit(&client, "s").await, (0..i64::try_from(epoch).expect("small")).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_sync_fails_while_it_is_written_and_read_nothing_confirmed_is_lost_or_there_twice() {
    if !strace::is_there() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let mut coordinator = serve(dir.path(), None);
    let workload = Workload::start(&coordinator.url(), ClientOptions::default()).await;
    for _ in 0..4 {
        workload.goes_on().await;
        let failing = rand::rng().random_range(1..60);
        let strace = Strace::attach(&coordinator, &[], &format!("fdatasync,fsync:error=EIO:when={failing}"));
        eventually(|| is_stalled(&coordinator, "s"));
        drop(strace);
        tokio::time::sleep(Duration::from_millis(100)).await;
        coordinator = killed_and_started(coordinator, dir.path());
    }
    workload.goes_on().await;
    workload.finish().await;
}
