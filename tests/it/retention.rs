//! Batches that stay beyond their acks, to be read again.

use std::time::Duration;

use bowstring::client::{Client, ConsumerOptions, ProducerOptions};
use bowstring::engine::Start;
use bowstring::server::ServerConfig;
use bowstring::wire::proto::StreamOptions;
use bytes::Bytes;

use super::client_support::{connect, create, next, number, numbered, rest, server_with, soon, subscribed};
use super::server_support::until;

async fn append(client: &Client, numbers: std::ops::Range<i64>) {
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    for number in numbers {
        soon(producer.append(&numbered(number, 10), None, Bytes::new())).await.expect("room");
    }
    soon(producer.flush()).await.expect("stored");
}

/// Reads and acks so many batches.
async fn work(client: &Client, batches: usize) {
    let mut consumer = subscribed(client, "s", "worker").await;
    for _ in 0..batches {
        let delivered = next(&mut consumer).await;
        consumer.ack(delivered.partition, delivered.offset.plus(1)).expect("an offset");
    }
    soon(consumer.flush_acks()).await.expect("acked");
}

/// What a subscription of this name gets from the earliest offset on.
async fn replay(client: &Client, subscription: &str) -> Vec<i64> {
    client.subscribe("s", subscription, &Start::Earliest).await.expect("is new");
    let options = ConsumerOptions { subscription: Some(subscription.to_owned()), follow: false, ..ConsumerOptions::default() };
    let mut consumer = client.consumer("s", options).await.expect("is there");
    let numbers = soon(rest(&mut consumer)).await.expect("is read").iter().map(number).collect();
    client.unsubscribe("s", subscription).await.expect("is there");
    numbers
}

async fn start_of(client: &Client) -> u64 {
    client.describe_stream("s").await.expect("is there").partitions[0].start
}

#[tokio::test(flavor = "multi_thread")]
async fn what_everybody_has_acked_can_be_read_again_after_a_restart_too() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = || ServerConfig { data_dir: Some(dir.path().to_owned()), ..ServerConfig::default() };
    let server = server_with(config()).await;
    let client = connect(&server.url()).await;
    let options = StreamOptions { retain_ms: Some(3_600_000), ..StreamOptions::default() };
    create(&client, "s", options).await;
    append(&client, 0..20).await;
    work(&client, 20).await;
    assert_eq!(replay(&client, "again").await, (0..20).collect::<Vec<_>>());
    server.shutdown(Duration::from_secs(5)).await;
    drop(server);
    let server = server_with(config()).await;
    let client = connect(&server.url()).await;
    let described = client.describe_stream("s").await.expect("is there");
    assert_eq!(described.options.expect("options").retain_ms, Some(3_600_000));
    assert_eq!(replay(&client, "after a restart").await, (0..20).collect::<Vec<_>>());
    append(&client, 20..25).await;
    work(&client, 5).await;
    assert_eq!(start_of(&client).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_stayed_for_long_enough_goes() {
    let server = server_with(ServerConfig::default()).await;
    let client = connect(&server.url()).await;
    create(&client, "s", StreamOptions { retain_ms: Some(1), ..StreamOptions::default() }).await;
    append(&client, 0..10).await;
    work(&client, 10).await;
    until("the batches are gone", async || start_of(&client).await == 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_retained_gives_way_to_what_is_new() {
    let server = server_with(ServerConfig::default()).await;
    let client = connect(&server.url()).await;
    let options = StreamOptions { max_buffered_batches: Some(8), retain_bytes: Some(u64::MAX), ..StreamOptions::default() };
    create(&client, "s", options).await;
    for round in 0..5 {
        append(&client, 8 * round..8 * (round + 1)).await;
        work(&client, 8).await;
    }
    assert_eq!(replay(&client, "again").await, (32..40).collect::<Vec<_>>(), "as much as memory takes");
}

/// Otherwise a log that is full of what stays would take nothing more after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_retained_gives_way_after_a_restart_too() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = || ServerConfig { data_dir: Some(dir.path().to_owned()), ..ServerConfig::default() };
    let server = server_with(config()).await;
    let client = connect(&server.url()).await;
    let options = StreamOptions { max_disk_bytes: Some(10_000), retain_ms: Some(3_600_000), ..StreamOptions::default() };
    create(&client, "s", options).await;
    for round in 0..5 {
        append(&client, 8 * round..8 * (round + 1)).await;
        work(&client, 8).await;
    }
    assert!(start_of(&client).await > 0, "the log is full");
    server.shutdown(Duration::from_secs(5)).await;
    drop(server);
    let server = server_with(config()).await;
    let client = connect(&server.url()).await;
    append(&client, 40..48).await;
    work(&client, 8).await;
}
