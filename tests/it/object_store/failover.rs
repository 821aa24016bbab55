//! Another coordinator goes on: all that was confirmed is there, and the one before confirms nothing any more.

use std::time::Duration;

use bowstring::client::{Client, ClientOptions, ProducerOptions, ProducerRun, WriterId, WriterOptions};
use bowstring::engine::{Attempt, Code, Epoch, EpochState, Task};
use bowstring::server::{Server, ServerConfig};
use bowstring::wire::proto::Receipt;
use bytes::Bytes;
use rand::Rng;

use super::faulty::Faulty;
use super::{config, file_url, folder, start};
use crate::cli::coordinator::Coordinator;
use crate::client_support::{create, next, numbered, partitions, soon, subscribed};
use crate::durable_support::{append, files, offsets, read};
use crate::server_support::until;
use crate::workload::{Done, Workload};

const CYCLES: u32 = 20;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_confirmed_is_lost_when_coordinators_are_killed_and_others_start_on_other_machines() {
    let cycles = std::env::var("BOWSTRING_FAILOVER_CYCLES").map_or(CYCLES, |cycles| cycles.parse().expect("a number"));
    let objects = folder();
    let url = file_url(objects.path());
    let mut dir = folder();
    let serve = |dir: &tempfile::TempDir, listen: &str| {
        let data_dir = dir.path().to_str().expect("UTF-8");
        Coordinator::start_with(
            &["--data-dir", data_dir, "--object-store", &url, "--listen", listen, "--http", "off", "--unix", "off"],
            &[],
        )
    };
    let mut coordinator = serve(&dir, "127.0.0.1:0");
    let listen = coordinator.listen.clone();
    let workload = Workload::start(&coordinator.url(), ClientOptions::default()).await;
    for cycle in 0..cycles {
        if cycle % 4 == 0 {
            workload.goes_on().await;
        }
        let pause = rand::rng().random_range(20..250);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        coordinator.signal("KILL");
        drop(coordinator);
        if cycle % 3 != 2 {
            // Another machine: it has nothing.
            dir = folder();
        }
        coordinator = serve(&dir, &listen);
    }
    let Done { appended, epochs, delivered } = workload.finish().await;
    println!("{cycles} times killed: {appended} batches and {epochs} epochs confirmed, {delivered} batches there");
}

fn run(run: &str) -> ProducerRun {
    ProducerRun { producer: "p".to_owned(), run: run.to_owned() }
}

/// A task with two batches.
async fn write(client: &Client, name: &str, epoch: u64) -> Result<Vec<Receipt>, bowstring::client::Error> {
    let ProducerRun { producer, run } = run(name);
    let id = WriterId { producer, run, epoch: Epoch(epoch), task: Task(0), attempt: Attempt(0) };
    let mut writer = client.writer("s", id, WriterOptions::default()).expect("a writer");
    for batch in 0..2 {
        soon(writer.append(&numbered(i64::try_from(epoch).expect("small") * 100 + batch, 5), None, Bytes::new())).await?;
    }
    Ok(soon(writer.finish()).await?.into_iter().collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_epochs_cursors_and_fences_are_there_on_another_machine() {
    let (dir, other, objects) = (folder(), folder(), folder());
    let url = file_url(objects.path());
    let (server, client) = start(&dir, &url).await;
    create(&client, "s", partitions(2)).await;
    append(&client, "s", 0..30).await;
    let receipts = write(&client, "one", 0).await.expect("staged");
    assert_eq!(client.commit_epoch("s", &run("one"), Epoch(0), receipts.clone()).await.expect("commits"), EpochState::Committed);
    let receipts = write(&client, "two", 1).await.expect("staged");
    client.commit_epoch("s", &run("two"), Epoch(1), receipts.clone()).await.expect("commits");
    let mut consumer = subscribed(&client, "s", "c").await;
    let mut acked = [0, 0];
    for _ in 0..10 {
        let delivered = next(&mut consumer).await;
        acked[delivered.partition.index()] = delivered.offset.0 + 1;
        consumer.ack(delivered.partition, delivered.offset.plus(1)).expect("an offset");
    }
    soon(consumer.flush_acks()).await.expect("acked");
    let before = read(&client, "s").await;
    assert!(before.len() >= 24, "{}", before.len());
    let staged = write(&client, "two", 2).await.expect("staged");
    server.shutdown(Duration::from_secs(5)).await;
    drop(server);

    let (_server, client) = start(&other, &url).await;
    let after = read(&client, "s").await;
    let kept: Vec<_> = offsets(&before).into_iter().filter(|(partition, offset, _)| *offset >= acked[*partition as usize]).collect();
    assert_eq!(kept, offsets(&after));
    assert!(after.iter().zip(&before).all(|(after, before)| after.batch.num_rows() == before.batch.num_rows()));
    let found = client.describe_stream("s").await.expect("is there");
    assert_eq!(found.subscriptions[0].partitions.iter().map(|cursor| cursor.acked).collect::<Vec<_>>(), acked);
    assert_eq!(client.commit_epoch("s", &run("two"), Epoch(1), receipts).await.expect("again"), EpochState::AlreadyCommitted);
    assert_eq!(write(&client, "one", 3).await.expect_err("a run that was taken over").code(), Code::Fenced);
    assert_eq!(client.commit_epoch("s", &run("two"), Epoch(2), staged).await.expect_err("is gone").code(), Code::ReceiptUnknown);
    append(&client, "s", 30..35).await;
    let again = write(&client, "two", 2).await.expect("staged");
    assert_eq!(client.commit_epoch("s", &run("two"), Epoch(2), again).await.expect("commits"), EpochState::Committed);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_one_before_confirms_nothing_more_and_nothing_that_it_does_appears() {
    let (dir, other) = (folder(), folder());
    let (_store, url) = Faulty::new("both-alive");
    let (former, client) = start(&dir, &url).await;
    create(&client, "s", partitions(1)).await;
    create(&client, "idle", partitions(1)).await;
    append(&client, "s", 0..10).await;
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    soon(producer.append(&numbered(10, 10), None, Bytes::new())).await.expect("room");
    soon(producer.flush()).await.expect("stored");
    let receipts = write(&client, "one", 0).await.expect("staged");

    let (_latter, latter) = start(&other, &url).await;
    let before = read(&latter, "s").await;
    assert_eq!(before.len(), 11);
    soon(producer.append(&numbered(11, 10), None, Bytes::new())).await.expect("room in the window");
    let says_why = |error: bowstring::client::Error| {
        let text = error.to_string();
        assert!(error.code() == Code::Unavailable && text.contains("has taken over") && text.contains("memory:///both-alive"), "{text}");
    };
    let run = run("one");
    let committed = soon(client.commit_epoch("s", &run, Epoch(0), receipts));
    let options = ClientOptions { retry_deadline: Duration::from_secs(1), ..ClientOptions::default() };
    let impatient = Client::connect(&former.url(), options).await.expect("is there");
    let mut appending = impatient.producer("s", ProducerOptions::default()).expect("a producer");
    let appended = async {
        appending.append(&numbered(12, 10), None, Bytes::new()).await?;
        appending.flush().await
    };
    let (appended, committed) = tokio::join!(soon(appended), async { tokio::time::timeout(Duration::from_secs(2), committed).await });
    says_why(appended.expect_err("is fenced"));
    if let Ok(committed) = committed {
        says_why(committed.expect_err("is fenced"));
    }
    assert_eq!(offsets(&before), offsets(&read(&client, "s").await), "readers of the one before see what was confirmed, and no more");
    // One that nobody writes to says so, too.
    let waits_for = async |stream| client.describe_stream(stream).await.expect("is there").log_waits_for;
    until("every log says it", async || waits_for("idle").await.contains("has taken over")).await;
    assert!(waits_for("s").await.contains("let clients connect to the other"));
    assert_eq!(offsets(&before), offsets(&read(&latter, "s").await));
    append(&latter, "s", 20..25).await;
    former.shutdown(Duration::from_secs(1)).await;
    assert_eq!(read(&latter, "s").await.len(), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_does_nothing_notices_too() {
    let (dir, other) = (folder(), folder());
    let (store, url) = Faulty::new("idle");
    let (_former, client) = start(&dir, &url).await;
    append(&client, "s", 0..3).await;
    // What may come late comes within a second.
    let seen = parking_lot::Mutex::new((0, tokio::time::Instant::now()));
    until("it has nothing to do", async || {
        let now = store.names("commits").await.len();
        let mut seen = seen.lock();
        if seen.0 != now {
            *seen = (now, tokio::time::Instant::now());
        }
        seen.1.elapsed() > Duration::from_millis(1500)
    })
    .await;
    let (_latter, _client) = start(&other, &url).await;
    let waits_for = async || client.describe_stream("s").await.expect("is there").log_waits_for;
    until("it says so", async || waits_for().await.contains("has taken over")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_that_start_at_once_one_survives() {
    let (store, url) = Faulty::new("at-once");
    let (dir, dirs) = (folder(), [folder(), folder(), folder()]);
    let (server, client) = start(&dir, &url).await;
    append(&client, "s", 0..10).await;
    server.shutdown(Duration::from_secs(5)).await;
    store.faults.slow_millis.store(5, std::sync::atomic::Ordering::Relaxed);
    let [a, b, c] = &dirs;
    let started = tokio::join!(start(a, &url), start(b, &url), start(c, &url));
    let all = [started.0, started.1, started.2];
    let options = ClientOptions { retry_deadline: Duration::from_millis(500), ..ClientOptions::default() };
    let mut survivors = Vec::new();
    for (number, (server, client)) in (100..).zip(&all) {
        let impatient = Client::connect(&server.url(), options.clone()).await.expect("is there");
        let mut producer = impatient.producer("s", ProducerOptions::default()).expect("a producer");
        let appended = async {
            producer.append(&numbered(number, 1), None, Bytes::new()).await?;
            producer.flush().await
        };
        if soon(appended).await.is_ok() {
            survivors.push((client, number));
        }
    }
    assert_eq!(survivors.len(), 1);
    let (client, number) = survivors[0];
    let there: Vec<_> = read(client, "s").await.iter().map(crate::client_support::number).collect();
    assert_eq!(there, (0..10).chain([number]).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_the_disk_is_not_read_again() {
    let (dir, objects) = (folder(), folder());
    let url = file_url(objects.path());
    let (server, client) = start(&dir, &url).await;
    append(&client, "s", 0..20).await;
    server.shutdown(Duration::from_secs(5)).await;
    drop(server);
    let written = |path: &std::path::Path| std::fs::metadata(path).and_then(|found| found.modified()).expect("is there");
    let segments = files(dir.path(), "arrows");
    let before: Vec<_> = segments.iter().map(|path| written(path)).collect();
    let (server, client) = start(&dir, &url).await;
    assert_eq!(read(&client, "s").await.len(), 20);
    assert_eq!(segments.iter().map(|path| written(path)).collect::<Vec<_>>(), before);
    append(&client, "s", 20..25).await;
    // Not in good order: what was written and not confirmed goes, the rest stays.
    drop(server);
    let (_server, client) = start(&dir, &url).await;
    assert_eq!(read(&client, "s").await.len(), 25);
    assert_eq!(segments.iter().map(|path| written(path)).collect::<Vec<_>>(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_disk_has_lost_of_its_end_is_read_from_the_store() {
    let (dir, objects) = (folder(), folder());
    let url = file_url(objects.path());
    let (server, client) = start(&dir, &url).await;
    append(&client, "s", 0..20).await;
    server.shutdown(Duration::from_secs(5)).await;
    drop(server);
    // As a disk leaves it that says that it has synced, and has not: the index is gone, and the end reads as zeros.
    files(dir.path(), "index").iter().for_each(|path| std::fs::remove_file(path).expect("was there"));
    for path in files(dir.path(), "arrows") {
        let mut bytes = std::fs::read(&path).expect("is there");
        let kept = bytes.len() / 2;
        bytes[kept..].fill(0);
        std::fs::write(&path, bytes).expect("is written");
    }
    let (server, client) = start(&dir, &url).await;
    assert_eq!(read(&client, "s").await.len(), 20);
    drop(server);
    let other = folder();
    let (_server, client) = start(&other, &url).await;
    assert_eq!(read(&client, "s").await.len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_cannot_listen_takes_nothing_over() {
    let (dir, other, objects) = (folder(), folder(), folder());
    let url = file_url(objects.path());
    let (server, client) = start(&dir, &url).await;
    append(&client, "s", 0..5).await;
    let config = ServerConfig { listen: server.listen_addr(), ..config(&other, &url) };
    let error = Server::start(config).await.expect_err("the port is taken");
    assert!(error.to_string().contains("cannot listen on"), "{error}");
    append(&client, "s", 5..10).await;
}
