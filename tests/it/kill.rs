//! `kill -9` of a real `bowstring serve` with a data directory, again and again, while it is written and read: nothing that was
//! confirmed is lost, nothing is there twice, and no offset ever changes what it has.
//!
//! `BOWSTRING_KILL_CYCLES` says how often; CI says 200.

use std::time::Duration;

use bowstring::client::{ClientOptions, ProducerOptions};
use bowstring::engine::Offset;
use bytes::Bytes;
use rand::Rng;

use super::client_support::{connect, create, next, numbered, partitions, soon, subscribed};
use super::faults::{killed_and_started, serve};
use super::server_support::until;
use super::workload::{Done, Workload};

const CYCLES: u32 = 20;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_confirmed_is_lost_and_nothing_is_there_twice_whenever_the_coordinator_is_killed() {
    let cycles = std::env::var("BOWSTRING_KILL_CYCLES").map_or(CYCLES, |cycles| cycles.parse().expect("a number"));
    let dir = tempfile::tempdir().expect("a folder");
    let mut coordinator = serve(dir.path(), None);
    let workload = Workload::start(&coordinator.url(), ClientOptions::default()).await;
    for _ in 0..cycles {
        let pause = rand::rng().random_range(20..250);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        coordinator = killed_and_started(coordinator, dir.path());
    }
    let Done { appended, epochs, delivered } = workload.finish().await;
    println!("{cycles} times killed: {appended} batches and {epochs} epochs confirmed, {delivered} batches there");
}

/// A log that is full of what was acked would otherwise wait for ever, for acks that nobody has to send.
#[tokio::test(flavor = "multi_thread")]
async fn acks_that_a_killed_coordinator_has_forgotten_are_sent_again_by_those_who_live_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut coordinator = serve(dir.path(), None);
    let client = connect(&coordinator.url()).await;
    create(&client, "s", partitions(1)).await;
    let mut consumer = subscribed(&client, "s", "c").await;
    let mut forgotten = 0;
    for round in 0..5_u64 {
        let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
        producer.append(&numbered(0, 20), None, Bytes::new()).await.expect("room");
        soon(producer.flush()).await.expect("stored");
        let delivered = next(&mut consumer).await;
        consumer.ack(delivered.partition, delivered.offset.plus(1)).expect("an offset");
        soon(consumer.flush_acks()).await.expect("acked");
        coordinator = killed_and_started(coordinator, dir.path());
        let acked = async || {
            let description = client.describe_stream("s").await.expect("is there");
            description.subscriptions[0].partitions[0].acked
        };
        forgotten += u64::from(acked().await <= round);
        until("the ack is there again", async || acked().await == round + 1).await;
    }
    println!("{forgotten} of 5 acks were forgotten, and sent again");
    assert!(forgotten > 0, "the coordinator was killed too late");
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_are_durable_though_somebody_appends_without_a_pause() {
    let dir = tempfile::tempdir().expect("a folder");
    let coordinator = serve(dir.path(), None);
    let client = connect(&coordinator.url()).await;
    create(&client, "s", partitions(1)).await;
    let mut consumer = subscribed(&client, "s", "c").await;
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    let appending = tokio::spawn(async move {
        for number in 0.. {
            if producer.append(&numbered(number, 20), None, Bytes::new()).await.is_err() {
                break;
            }
        }
    });
    let mut acked = 0;
    for _ in 0..3_000 {
        let delivered = next(&mut consumer).await;
        acked = delivered.offset.plus(1).0;
        consumer.ack(delivered.partition, Offset(acked)).expect("an offset");
    }
    soon(consumer.flush_acks()).await.expect("acked");
    drop(consumer);
    // Longer than they may linger.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let coordinator = killed_and_started(coordinator, dir.path());
    appending.abort();
    let found = connect(&coordinator.url()).await.describe_stream("s").await.expect("is there");
    assert_eq!(found.subscriptions[0].partitions[0].acked, acked);
}
