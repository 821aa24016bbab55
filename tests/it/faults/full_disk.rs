//! A disk that is really full. Producers wait, consumers go on, and once there is room again all goes on by itself.

use std::ops::Range;

use bowstring::client::{Cause, Client, Consumer, Error, ProducerOptions};
use bowstring::engine::Start;
use bytes::Bytes;
use tokio::task::JoinHandle;

use super::small_disk::SmallDisk;
use super::{audit, is_stalled};
use crate::cli::coordinator::{Coordinator, eventually};
use crate::client_support::{connect, create, number, numbered, partitions, soon, subscribed};
use crate::durable_support::read;

const MIB: u64 = 1 << 20;

/// Appends batches of 256 KiB, however long that takes.
fn append_large(client: &Client, numbers: Range<i64>) -> JoinHandle<Result<(), Error>> {
    let options = ProducerOptions { window_batches: 16, ..ProducerOptions::default() };
    let mut producer = client.producer("s", options).expect("a producer");
    tokio::spawn(async move {
        for number in numbers {
            producer.append(&numbered(number, 32 << 10), None, Bytes::new()).await?;
        }
        producer.flush().await
    })
}

async fn made(coordinator: &Coordinator, subscription: &str) -> Client {
    let client = connect(&coordinator.url()).await;
    create(&client, "s", partitions(1)).await;
    client.subscribe("s", subscription, &Start::Earliest).await.expect("is new");
    client
}

async fn ack_next(consumer: &mut Consumer, batches: i64) -> Vec<i64> {
    let mut numbers = Vec::new();
    for _ in 0..batches {
        let delivered = soon(consumer.next(None)).await.expect("is read").expect("goes on");
        numbers.push(number(&delivered));
        consumer.ack(delivered.partition, delivered.offset.plus(1)).expect("an offset");
    }
    soon(consumer.flush_acks()).await.expect("acked");
    numbers
}

/// What was confirmed before the disk was full is read; what waits is seen by nobody.
async fn visible(client: &Client) -> i64 {
    let seen: Vec<_> = read(client, "s").await.iter().map(number).collect();
    let count = i64::try_from(seen.len()).expect("small");
    assert_eq!(seen, (0..count).collect::<Vec<_>>());
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn producers_wait_for_a_disk_that_others_have_filled_and_go_on_by_themselves() {
    let Some(disk) = SmallDisk::new(64 * MIB) else { return };
    let coordinator = disk.serve(None, &["--spool-reserve-bytes", "0"]);
    let client = made(&coordinator, "audit").await;
    soon(append_large(&client, 0..8)).await.expect("appends").expect("there is room");
    let filler = disk.fill_but(MIB);
    let appending = append_large(&client, 8..48);
    eventually(|| is_stalled(&coordinator, "s"));
    let why = client.describe_stream("s").await.expect("is there").log_waits_for;
    assert!(why.contains("no room") && why.contains("free some of the disk"), "{why}");
    let reason = client.why("s").await.expect("is there").reasons.remove(0);
    assert!(reason.cause == Cause::Log && reason.since.is_some(), "{reason:?}");
    assert!(reason.text.starts_with("the log of stream s waits ") && reason.text.contains(&why), "{}", reason.text);
    assert!(visible(&client).await >= 8 && !appending.is_finished());
    std::fs::remove_file(filler).expect("is there");
    soon(appending).await.expect("appends").expect("there is room now");
    assert!(!is_stalled(&coordinator, "s"));
    assert_eq!(audit(&client, "s").await, (0..48).collect::<Vec<_>>());
    let _coordinator = disk.killed_and_started(coordinator, &[]);
    assert_eq!(audit(&client, "s").await, (0..48).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reserve_stays_free_for_acks_while_producers_wait() {
    let Some(disk) = SmallDisk::new(64 * MIB) else { return };
    let coordinator = disk.serve(None, &["--spool-reserve-bytes", "56MiB"]);
    let client = made(&coordinator, "audit").await;
    let appending = append_large(&client, 0..48);
    eventually(|| is_stalled(&coordinator, "s"));
    assert!(disk.available() >= 56 * MIB, "{} bytes are left", disk.available());
    let why = client.describe_stream("s").await.expect("is there").log_waits_for;
    assert!(why.contains("are kept in reserve"), "{why}");
    let seen = visible(&client).await;
    assert!(seen > 0 && seen < 48 && !appending.is_finished(), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_is_killed_on_a_full_disk_starts_there_and_gives_what_it_has() {
    let Some(disk) = SmallDisk::new(64 * MIB) else { return };
    let coordinator = disk.serve(None, &["--spool-reserve-bytes", "0"]);
    let client = made(&coordinator, "audit").await;
    soon(append_large(&client, 0..8)).await.expect("appends").expect("there is room");
    let filler = disk.fill_but(MIB);
    let appending = append_large(&client, 8..48);
    eventually(|| is_stalled(&coordinator, "s"));
    disk.fill_but(0);
    let _coordinator = disk.killed_and_started(coordinator, &["--spool-reserve-bytes", "0"]);
    assert!(visible(&client).await >= 8);
    std::fs::remove_file(filler).expect("is there");
    soon(appending).await.expect("appends").expect("there is room now");
    assert_eq!(audit(&client, "s").await, (0..48).collect::<Vec<_>>());
}

/// A log that waits for room is not to keep those from the stream who could make room.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_joins_its_subscription_on_a_full_disk() {
    let Some(disk) = SmallDisk::new(64 * MIB) else { return };
    let coordinator = disk.serve(None, &["--spool-reserve-bytes", "48MiB"]);
    let client = made(&coordinator, "c").await;
    soon(append_large(&client, 0..8)).await.expect("appends").expect("there is room");
    let _appending = append_large(&client, 8..96);
    eventually(|| is_stalled(&coordinator, "s"));
    let mut consumer = subscribed(&client, "s", "c").await;
    assert_eq!(ack_next(&mut consumer, 8).await, (0..8).collect::<Vec<_>>());
}

/// So many batches of 256 KiB go through a disk of this size, of which 8 MiB are the reserve.
async fn acks_make_room(disk_bytes: u64, batches: i64) {
    let Some(disk) = SmallDisk::new(disk_bytes) else { return };
    let coordinator = disk.serve(None, &["--spool-reserve-bytes", "8MiB"]);
    let client = made(&coordinator, "c").await;
    let mut consumer = subscribed(&client, "s", "c").await;
    let appending = append_large(&client, 0..batches);
    eventually(|| is_stalled(&coordinator, "s"));
    assert_eq!(ack_next(&mut consumer, batches).await, (0..batches).collect::<Vec<_>>());
    soon(appending).await.expect("appends").expect("there is room");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_consumers_ack_makes_room_on_a_full_disk() {
    // Segments are of 64 MiB.
    acks_make_room(160 * MIB, 1024).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_consumers_ack_makes_room_on_a_disk_that_is_smaller_than_a_segment() {
    acks_make_room(32 * MIB, 256).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_waits_for_room_too() {
    let Some(disk) = SmallDisk::new(64 * MIB) else { return };
    let coordinator = disk.serve(None, &["--spool-reserve-bytes", "0"]);
    let client = made(&coordinator, "audit").await;
    append_large(&client, 0..4).await.expect("appends").expect("there is room");
    let filler = disk.fill_but(0);
    let subscribing = tokio::spawn({
        let client = client.clone();
        async move {
            for number in 0..500 {
                client.subscribe("s", &format!("one of many, number {number:0200}"), &Start::Earliest).await?;
            }
            Ok::<_, Error>(())
        }
    });
    eventually(|| is_stalled(&coordinator, "s"));
    assert_eq!(visible(&client).await, 4);
    std::fs::remove_file(filler).expect("is there");
    soon(subscribing).await.expect("subscribes").expect("there is room now");
    assert_eq!(client.describe_stream("s").await.expect("is there").subscriptions.len(), 501);
    append_large(&client, 4..8).await.expect("appends").expect("there is room");
    assert_eq!(audit(&client, "s").await, (0..8).collect::<Vec<_>>());
}
