//! An object store that fails: nothing is lost, nothing is there twice, and whoever waits knows why.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bowstring::client::{ClientOptions, ProducerOptions};
use bowstring::engine::Code;
use bytes::Bytes;

use super::faulty::Faulty;
use super::{config, folder, start};
use crate::client_support::{number, numbered, server_with, soon};
use crate::durable_support::{append, read};
use crate::server_support::until;
use crate::workload::Workload;

#[tokio::test(flavor = "multi_thread")]
async fn puts_that_fail_and_answers_that_are_lost_lose_nothing_and_store_nothing_twice() {
    let (store, url) = Faulty::new("faults");
    let dir = folder();
    let config = bowstring::server::ServerConfig { object_store_snapshot_commits: 20, ..config(&dir, &url) };
    let server = server_with(config).await;
    let workload = Workload::start(&server.url(), ClientOptions::default()).await;
    for (refused, answer_lost) in [(0, 30), (30, 0), (20, 20), (0, 60)] {
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
    let (server, _client) = start(&folder(), &url).await;
    assert_eq!(mine, of_audit(&server.url()).await);
}

/// All that is there, by partition and offset.
async fn of_audit(url: &str) -> Vec<(u32, u64, i64)> {
    let client = crate::client_support::connect(url).await;
    crate::durable_support::offsets(&read(&client, "s").await)
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
    append(&client, "s", 0..5).await;
    store.faults.is_away.store(true, Relaxed);
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    soon(producer.append(&numbered(5, 10), None, Bytes::new())).await.expect("room in the window");
    soon(server.shutdown(Duration::from_millis(100))).await;
    drop(server);
    let error = soon(producer.close()).await.expect_err("nobody is there");
    assert_eq!(error.code(), Code::Unavailable);
    store.faults.is_away.store(false, Relaxed);
    let (_server, client) = start(&dir, &url).await;
    assert_eq!(read(&client, "s").await.iter().map(number).collect::<Vec<_>>(), (0..5).collect::<Vec<_>>());
}
