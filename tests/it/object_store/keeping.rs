//! What is in the object store does not grow for ever: commits are summed up, and segments that nobody needs are removed.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt8Array};
use arrow::datatypes::UInt8Type;
use bowstring::client::{Client, ClientOptions, ProducerOptions};
use bowstring::engine::Offset;
use bowstring::server::{Server, ServerConfig};
use bytes::Bytes;

use super::faulty::Faulty;
use super::{config, folder};
use crate::client_support::{connect, create, next, number, numbered, partitions, server_with, soon, subscribed};
use crate::durable_support::{append, read};
use crate::server_support::until;

async fn start(dir: &tempfile::TempDir, url: &str) -> (Server, Client) {
    let server = server_with(ServerConfig { object_store_snapshot_commits: 10, ..config(dir, url) }).await;
    let client = connect(&server.url()).await;
    (server, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_are_summed_up_and_a_start_finds_all_of_it() {
    let (store, url) = Faulty::new("summed-up");
    let mut dir = folder();
    for round in 0..4 {
        let (server, client) = start(&dir, &url).await;
        for number in 0..40 {
            let stream = if number % 10 == 0 { "rare" } else { "s" };
            append(&client, stream, round * 40 + number..round * 40 + number + 1).await;
        }
        until("few are left", async || store.names("commits").await.len() < 30 + 2 * usize::try_from(round).expect("small")).await;
        assert!(store.names("catalogs").await.len() <= 3);
        if round == 1 {
            server.shutdown(Duration::from_secs(5)).await;
        }
        drop(server);
        dir = folder();
    }
    let (_server, client) = start(&dir, &url).await;
    let rare: Vec<_> = read(&client, "rare").await.iter().map(number).collect();
    assert_eq!(rare, (0..160).step_by(10).collect::<Vec<_>>());
    assert_eq!(read(&client, "s").await.len(), 144);
}

pub(super) fn large(byte: u8) -> RecordBatch {
    RecordBatch::try_from_iter([("b", Arc::new(UInt8Array::from(vec![byte; 8 << 20])) as ArrayRef)]).expect("one column")
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_that_nobody_needs_are_removed_and_the_others_are_found() {
    let (store, url) = Faulty::new("dead-segments");
    let dir = folder();
    let (server, client) = start(&dir, &url).await;
    create(&client, "s", partitions(1)).await;
    let mut consumer = subscribed(&client, "s", "c").await;
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    // 160 MiB, in segments of 64 MiB.
    for byte in 0..20 {
        soon(producer.append(&large(byte), None, Bytes::new())).await.expect("room");
    }
    soon(producer.flush()).await.expect("stored");
    let all = store.names("segments").await.len();
    assert!(all >= 10, "{all} objects for 160 MiB");
    for _ in 0..18 {
        let delivered = next(&mut consumer).await;
        consumer.ack(delivered.partition, delivered.offset.plus(1)).expect("an offset");
    }
    soon(consumer.flush_acks()).await.expect("acked");
    until("two segments are gone", async || store.names("segments").await.len() <= all / 3).await;
    drop(server);
    let other = folder();
    let (_server, client) = start(&other, &url).await;
    let left = read(&client, "s").await;
    assert_eq!(left.iter().map(|one| one.offset).collect::<Vec<_>>(), [Offset(18), Offset(19)]);
    for (one, byte) in left.iter().zip([18, 19]) {
        assert!(one.batch.column(0).as_primitive::<UInt8Type>().values().iter().all(|found| *found == byte));
    }
}

/// A client of a coordinator that does not wait for another one.
async fn impatient(server: &Server) -> Client {
    let options = ClientOptions { retry_deadline: Duration::from_secs(1), ..ClientOptions::default() };
    Client::connect(&server.url(), options).await.expect("is there")
}

/// Somebody has taken over from this client's coordinator: it confirms nothing, and says so.
async fn is_fenced(impatient: Client) {
    let mut producer = impatient.producer("s", ProducerOptions::default()).expect("a producer");
    let appended = async {
        producer.append(&numbered(99, 1), None, Bytes::new()).await?;
        producer.flush().await
    };
    let error = soon(appended).await.expect_err("is fenced");
    assert!(error.to_string().contains("has taken over"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_cut_off_meets_the_takeover_also_when_everything_else_was_removed() {
    let (store, url) = Faulty::new("cut-off");
    let (way, former_url) = store.other_way("cut-off-former");
    let (dir, other) = (folder(), folder());
    let (former, client) = start(&dir, &former_url).await;
    append(&client, "s", 0..5).await;
    way.faults.is_away.store(true, Relaxed);
    let (_latter, heir) = start(&other, &url).await;
    for number in 5..50 {
        append(&heir, "s", number..number + 1).await;
    }
    until("few are left", async || store.names("commits").await.len() < 20).await;
    let impatient = impatient(&former).await;
    way.faults.is_away.store(false, Relaxed);
    is_fenced(impatient).await;
    assert_eq!(read(&heir, "s").await.len(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_stream_leaves_nothing() {
    let (store, url) = Faulty::new("deleted");
    let dir = folder();
    let (_server, client) = start(&dir, &url).await;
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    soon(producer.append(&large(1), None, Bytes::new())).await.expect("room");
    soon(producer.flush()).await.expect("stored");
    append(&client, "t", 0..3).await;
    assert!(!store.names("segments").await.is_empty());
    client.delete_stream("s").await.expect("is there");
    until("its objects are gone", async || store.names("segments").await.iter().all(|name| !name.contains("-0000000000000000-"))).await;
    let other = folder();
    let (_server, client) = start(&other, &url).await;
    assert_eq!(client.list_streams().await.expect("one").len(), 1);
    assert_eq!(read(&client, "t").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_former_coordinator_has_left_is_removed_and_what_a_later_one_writes_is_not() {
    let (dir, objects) = (folder(), folder());
    let url = super::file_url(objects.path());
    let (server, client) = start(&dir, &url).await;
    append(&client, "s", 0..3).await;
    server.shutdown(Duration::from_secs(5)).await;
    let left = objects.path().join("segments/00000000000000aa/0000");
    let name = |term: u64| left.join(format!("{:020}-{:016}-{term:020}", 0, 0));
    std::fs::create_dir_all(&left).expect("is made");
    for term in [1, 1_000_000] {
        std::fs::write(name(term), "left").expect("is written");
    }
    drop(server);
    let (_server, client) = start(&dir, &url).await;
    until("it is gone", async || !name(1).exists()).await;
    assert!(name(1_000_000).exists());
    assert_eq!(read(&client, "s").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_that_comes_so_late_that_its_number_was_used_and_removed_is_none() {
    let (store, url) = Faulty::new("late-takeover");
    let (way, late_url) = store.other_way("late-takeover-late");
    let (dir, other) = (folder(), folder());
    let (former, client) = start(&dir, &url).await;
    append(&client, "s", 0..3).await;
    way.faults.holds_new.store(true, Relaxed);
    let late = tokio::spawn(async move {
        let (server, client) = start(&other, &late_url).await;
        (server, client, other)
    });
    until("it is about to take over", async || way.faults.held.load(Relaxed) > 0).await;
    // Its number is used and, once a snapshot has what was in it, free again.
    let last = store.names("commits").await.len();
    for number in 3..60 {
        append(&client, "s", number..number + 1).await;
    }
    until("commits are removed", async || store.names("commits").await.len() < last + 30).await;
    way.faults.holds_new.store(false, Relaxed);
    let (_latter, heir, _other) = soon(late).await.expect("starts");
    assert_eq!(read(&heir, "s").await.len(), 60, "what the former had confirmed");
    is_fenced(impatient(&former).await).await;
    append(&heir, "s", 60..61).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_are_summed_up_as_they_were_stored_whatever_the_disk_has() {
    let (store, url) = Faulty::new("rotten-disk");
    let dir = folder();
    let (server, client) = start(&dir, &url).await;
    append(&client, "s", 0..4).await;
    for path in crate::durable_support::files(dir.path(), "arrows") {
        let mut bytes = std::fs::read(&path).expect("is there");
        let last = bytes.len() - 20;
        bytes[last] ^= 1;
        std::fs::write(&path, bytes).expect("is written");
    }
    let parts = store.names("segments").await.len();
    for number in 4..40 {
        append(&client, "other", number..number + 1).await;
    }
    until("it is an object of its own", async || store.names("segments").await.len() > parts).await;
    until("few commits are left", async || store.names("commits").await.len() < 20).await;
    drop(server);
    let other = folder();
    let (_server, client) = start(&other, &url).await;
    assert_eq!(read(&client, "s").await.iter().map(number).collect::<Vec<_>>(), [0, 1, 2, 3]);
}
