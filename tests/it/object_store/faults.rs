//! An object store that fails: nothing is lost, nothing is there twice, and whoever waits knows why.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::UInt8Type;
use bowstring::client::{Client, ClientOptions, ConsumerOptions, ProducerOptions, ProducerRun, WriterId, WriterOptions};
use bowstring::engine::{Attempt, Code, Epoch, Offset, PartitionId, Start, Task};
use bowstring::wire::proto::StreamState;
use bytes::Bytes;

use super::faulty::Faulty;
use super::keeping::large;
use super::{config, folder, start};
use crate::client_support::{create, number, numbered, partitions, server_with, soon};
use crate::durable_support::{append, files, read};
use crate::server_support::until;
use crate::workload::Workload;

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_confirmed_once_it_is_durable() {
    let (store, url) = Faulty::new("plan");
    let dir = folder();
    let (server, client) = start(&dir, &url).await;
    append(&client, "s", 0..3).await;
    client.subscribe("s", "spark", &Start::Earliest).await.expect("is new");
    store.faults.holds_new.store(true, Relaxed);
    let planning = tokio::spawn({
        let client = client.clone();
        async move { client.plan("s", "spark", &[(PartitionId(0), Offset(2))].into(), None).await }
    });
    until("the plan waits to be durable", async || store.faults.held.load(Relaxed) > 0).await;
    assert!(!planning.is_finished(), "a crash would forget it, and producers would wait for an ack that comes only with more to read");
    store.faults.holds_new.store(false, Relaxed);
    soon(planning).await.expect("no panic").expect("planned");
    drop(server);
    let other = folder();
    let (_server, client) = start(&other, &url).await;
    let found = client.describe_stream("s").await.expect("is there");
    assert_eq!(found.subscriptions[0].partitions[0].planned, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn puts_that_fail_and_answers_that_are_lost_lose_nothing_and_store_nothing_twice() {
    let (store, url) = Faulty::new("faults");
    let dir = folder();
    let config = bowstring::server::ServerConfig { object_store_snapshot_commits: 20, ..config(&dir, &url) };
    let server = server_with(config).await;
    let workload = Workload::start(&server.url(), ClientOptions::default()).await;
    for (refused, answer_lost) in [(0, 30), (30, 0), (15, 15)] {
        store.faults.refused.store(refused, Relaxed);
        store.faults.answer_lost.store(answer_lost, Relaxed);
        workload.goes_on().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    store.faults.is_away.store(true, Relaxed);
    tokio::time::sleep(Duration::from_millis(300)).await;
    store.faults.is_away.store(false, Relaxed);
    workload.goes_on().await;
    let done = workload.finish().await;
    println!("{done:?}, {} faults", store.faults.count.load(Relaxed));
    assert!(store.faults.count.load(Relaxed) > 10);
    // What another machine finds is the same.
    store.faults.refused.store(0, Relaxed);
    store.faults.answer_lost.store(0, Relaxed);
    let mine: Vec<_> = of_audit(&server.url()).await;
    drop(server);
    let other = folder();
    let (server, _client) = start(&other, &url).await;
    assert_eq!(mine, of_audit(&server.url()).await);
}

/// All that is there, by partition and offset.
async fn of_audit(url: &str) -> Vec<(u32, u64, i64)> {
    let client = crate::client_support::connect(url).await;
    crate::durable_support::offsets(&read(&client, "s").await)
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_are_told_the_end_once_it_is_durable_and_after_what_came_before_it() {
    let (store, url) = Faulty::new("end");
    let dir = folder();
    let (_server, client) = start(&dir, &url).await;
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    soon(producer.append(&numbered(0, 10), None, Bytes::new())).await.expect("room in the window");
    soon(producer.flush()).await.expect("stored");
    let mut consumer = client.consumer("s", ConsumerOptions::default()).await.expect("is there");
    assert_eq!(number(&soon(consumer.next(None)).await.expect("is read").expect("goes on")), 0);
    let held = async || {
        let found = client.describe_stream("s").await.expect("is there");
        found.buffered_batches + found.logged_batches
    };
    let before = held().await;
    store.faults.holds_new.store(true, Relaxed);
    soon(producer.append(&numbered(1, 10), None, Bytes::new())).await.expect("room in the window");
    until("the coordinator has the batch", async || held().await > before).await;
    until("something waits to be durable", async || store.faults.held.load(Relaxed) > 0).await;
    let completing = tokio::spawn({
        let client = client.clone();
        async move { client.complete_stream("s").await }
    });
    until("it is complete", async || client.describe_stream("s").await.expect("is there").state() == StreamState::Completed).await;
    let deadline = (tokio::time::Instant::now() + Duration::from_millis(500)).into_std();
    let waited = consumer.next(Some(deadline)).await.map(|next| next.as_ref().map(number));
    assert_eq!(waited.map_err(|error| error.code()), Err(Code::Timeout), "a crash may take back the end, and what came before it");
    store.faults.holds_new.store(false, Relaxed);
    assert_eq!(number(&soon(consumer.next(None)).await.expect("is read").expect("is stored before the end")), 1);
    assert!(soon(consumer.next(None)).await.expect("in good order").is_none());
    soon(completing).await.expect("no panic").expect("completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_object_store_is_away_producers_wait_and_the_log_says_why() {
    let (store, url) = Faulty::new("away");
    let dir = folder();
    let (_server, client) = start(&dir, &url).await;
    append(&client, "s", 0..5).await;
    store.faults.is_away.store(true, Relaxed);
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    soon(producer.append(&numbered(5, 10), None, Bytes::new())).await.expect("room in the window");
    let flush = async {
        producer.flush().await.expect("stored at last");
        producer.stored()
    };
    tokio::pin!(flush);
    let waits_for = async || client.describe_stream("s").await.expect("is there").log_waits_for;
    let why = async {
        until("the log says why", async || waits_for().await.contains("the network is away")).await;
        waits_for().await
    };
    let why = tokio::select! {
        _ = &mut flush => panic!("it was confirmed, and is nowhere but on one disk"),
        why = why => why,
    };
    assert!(why.contains("cannot write memory:///away/commits/") && why.contains("credentials"), "{why}");
    // Nothing of it is seen, and what was seen before still is.
    assert_eq!(read(&client, "s").await.iter().map(number).collect::<Vec<_>>(), (0..5).collect::<Vec<_>>());
    store.faults.is_away.store(false, Relaxed);
    assert_eq!(soon(flush).await, 1);
    assert_eq!(read(&client, "s").await.len(), 6);
    until("it goes on", async || waits_for().await.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_stops_while_the_object_store_is_away_ends_and_what_it_had_not_confirmed_is_in_doubt() {
    let (store, url) = Faulty::new("stops");
    let dir = folder();
    let (server, client) = start(&dir, &url).await;
    append(&client, "s", 0..4).await;
    let options = ClientOptions { retry_deadline: Duration::from_secs(1), ..ClientOptions::default() };
    let impatient = Client::connect(&server.url(), options).await.expect("is there");
    let mut producer = impatient.producer("s", ProducerOptions::default()).expect("a producer");
    soon(producer.append(&numbered(4, 10), None, Bytes::new())).await.expect("room");
    soon(producer.flush()).await.expect("stored");
    let on_disk = || files(dir.path(), "arrows").iter().map(|path| std::fs::metadata(path).expect("is there").len()).sum::<u64>();
    let before = on_disk();
    store.faults.is_away.store(true, Relaxed);
    soon(producer.append(&numbered(5, 10), None, Bytes::new())).await.expect("room in the window");
    let waits_for = async || client.describe_stream("s").await.expect("is there").log_waits_for;
    until("the log waits", async || waits_for().await.contains("the network is away")).await;
    until("it is on the disk, and nowhere else", async || on_disk() > before).await;
    soon(server.shutdown(Duration::from_millis(100))).await;
    drop(server);
    let error = soon(producer.close()).await.expect_err("nobody is there");
    assert_eq!(error.code(), Code::Unavailable);
    store.faults.is_away.store(false, Relaxed);
    let (_server, client) = start(&dir, &url).await;
    assert_eq!(read(&client, "s").await.iter().map(number).collect::<Vec<_>>(), (0..5).collect::<Vec<_>>());
}

/// Batches behind a commit that is not there have offsets that nobody may see: a start drops them, and the next one must not find them.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_start_has_dropped_stays_dropped() {
    let (store, url) = Faulty::new("dropped");
    let dir = folder();
    let (server, client) = start(&dir, &url).await;
    create(&client, "s", partitions(1)).await;
    let options = ProducerOptions { window_bytes: 1 << 30, ..ProducerOptions::default() };
    let mut producer = client.producer("s", options).expect("a producer");
    soon(producer.append(&large(0), None, Bytes::new())).await.expect("room");
    soon(producer.flush()).await.expect("stored");
    let id = WriterId { producer: "p".to_owned(), run: "r".to_owned(), epoch: Epoch(0), task: Task(0), attempt: Attempt(0) };
    let mut writer = client.writer("s", id, WriterOptions::default()).expect("a writer");
    soon(writer.append(&large(1), None, Bytes::new())).await.expect("room");
    let receipts: Vec<_> = soon(writer.finish()).await.expect("staged").into_iter().collect();
    // All of this waits, and is done together: more than one step takes.
    store.faults.is_away.store(true, Relaxed);
    soon(producer.append(&large(2), None, Bytes::new())).await.expect("room");
    let waits_for = async || client.describe_stream("s").await.expect("is there").log_waits_for;
    until("the log waits", async || waits_for().await.contains("the network is away")).await;
    let committing = {
        let client = client.clone();
        let run = ProducerRun { producer: "p".to_owned(), run: "r".to_owned() };
        tokio::spawn(async move { client.commit_epoch("s", &run, Epoch(0), receipts).await })
    };
    until("the epoch waits", async || client.describe_stream("s").await.expect("is there").epochs_committed == 1).await;
    for byte in 10..22 {
        soon(producer.append(&large(byte), None, Bytes::new())).await.expect("room");
    }
    let logged = async || client.describe_stream("s").await.expect("is there").logged_batches;
    until("all of it is there", async || logged().await == 15).await;
    let before = store.names("commits").await.len();
    store.faults.slow_millis.store(100, Relaxed);
    store.faults.is_away.store(false, Relaxed);
    until("the first step is done", async || store.names("commits").await.len() >= before + 2).await;
    store.faults.is_away.store(true, Relaxed);
    assert_eq!(store.names("commits").await.len(), before + 2);
    drop((server, client));
    committing.abort();
    store.faults.slow_millis.store(0, Relaxed);
    store.faults.is_away.store(false, Relaxed);

    let other = folder();
    let (server, client) = start(&other, &url).await;
    assert_eq!(read(&client, "s").await.len(), 2);
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    soon(producer.append(&large(30), None, Bytes::new())).await.expect("room");
    soon(producer.flush()).await.expect("stored");
    drop(server);
    let other = folder();
    let (_server, client) = start(&other, &url).await;
    let first = |one: &bowstring::client::Delivered| one.batch.column(0).as_primitive::<UInt8Type>().value(0);
    assert_eq!(read(&client, "s").await.iter().map(first).collect::<Vec<_>>(), [0, 2, 30]);
}
