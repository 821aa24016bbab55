//! Where subscriptions and consumers start, and seeks: through the real server and client, and over restarts.

use std::time::Duration;

use bowstring::client::{Client, ConsumerOptions, Offsets, ProducerOptions, ProducerRun, ReadStart, WriterId, WriterOptions};
use bowstring::engine::{Attempt, Code, Epoch, Offset, PartitionId, PartitionMove, ProducerId, Start, Task, Timestamp};
use bowstring::server::{Server, ServerConfig};
use bowstring::wire::proto::StreamOptions;
use bytes::Bytes;

use super::client_support::{connect, create, next, number, numbered, partitions, rest, server, server_with, soon, subscribed};
use super::server_support::{read, refused, started as started_server};

/// Appends a batch with each of these numbers to a partition.
async fn append(client: &Client, partition: u32, numbers: std::ops::Range<i64>) {
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    for number in numbers {
        soon(producer.append(&numbered(number, 10), Some(PartitionId(partition)), Bytes::new())).await.expect("room");
    }
    soon(producer.close()).await.expect("stored");
}

/// An epoch of two batches, one in each partition, numbered 2 * epoch and 2 * epoch + 1.
pub(crate) async fn epoch(client: &Client, producer: &str, epoch: u64) {
    let run = ProducerRun { producer: producer.to_owned(), run: "r".to_owned() };
    let id = WriterId { producer: run.producer.clone(), run: run.run.clone(), epoch: Epoch(epoch), task: Task(0), attempt: Attempt(0) };
    let mut writer = client.writer("s", id, WriterOptions::default()).expect("a writer");
    for partition in 0..2 {
        let batch = numbered(2 * i64::try_from(epoch).expect("small") + i64::from(partition), 10);
        soon(writer.append(&batch, Some(PartitionId(partition)), Bytes::new())).await.expect("room");
    }
    let receipt = soon(writer.finish()).await.expect("staged").expect("it has written");
    client.commit_epoch("s", &run, Epoch(epoch), vec![receipt]).await.expect("commits");
}

/// The number of each batch and when it was appended, from a start on, without a subscription.
async fn read_from(client: &Client, start: Start) -> Vec<(i64, Timestamp)> {
    let options = ConsumerOptions { follow: false, start: ReadStart::Cursor(start), ..ConsumerOptions::default() };
    let mut consumer = client.consumer("s", options).await.expect("can start there");
    let mut found: Vec<_> = soon(rest(&mut consumer)).await.expect("is read").iter().map(|one| (number(one), one.appended_at)).collect();
    found.sort_unstable();
    found
}

async fn numbers_from(client: &Client, start: Start) -> Vec<i64> {
    read_from(client, start).await.into_iter().map(|(number, _)| number).collect()
}

/// Where a new subscription stands in each partition.
async fn subscribed_at(client: &Client, name: &str, start: &Start) -> Vec<u64> {
    let described = client.subscribe("s", name, start).await.expect("can start there");
    described.partitions.iter().map(|place| place.acked).collect()
}

fn offsets<const N: usize>(offsets: [(u32, u64); N]) -> Offsets {
    offsets.into_iter().map(|(partition, offset)| (PartitionId(partition), Offset(offset))).collect()
}

pub(crate) fn of(producer: &str, epoch: u64) -> Start {
    Start::Epoch { producer: Some(ProducerId::new(producer).expect("a name")), epoch: Epoch(epoch) }
}

fn moved(partition: u32, from: u64, to: u64, rows: u64) -> PartitionMove {
    let batches = from.abs_diff(to);
    PartitionMove { partition: PartitionId(partition), from: Offset(from), to: Offset(to), batches, rows, bytes: 0, gone_batches: 0 }
}

/// Without their bytes, which are the encoding's.
fn but_for_bytes(moves: Vec<PartitionMove>) -> Vec<PartitionMove> {
    assert!(moves.iter().all(|moved| (moved.bytes > 0) == (moved.batches > 0)), "{moves:?}");
    moves.into_iter().map(|moved| PartitionMove { bytes: 0, ..moved }).collect()
}

async fn refused_start(client: &Client, start: &Start) -> (Code, String) {
    let error = client.subscribe("s", "refused", start).await.expect_err("cannot start there");
    let located = client.locate("s", start, None).await.expect_err("the same");
    assert_eq!((error.code(), error.to_string()), (located.code(), located.to_string()));
    (error.code(), error.to_string())
}

/// A subscription that holds everything.
async fn started(on: &Server) -> Client {
    let client = connect(&on.url()).await;
    create(&client, "s", partitions(2)).await;
    client.subscribe("s", "holds", &Start::Earliest).await.expect("is new");
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_starts_at_offsets_and_what_is_not_named_at_the_earliest() {
    let server = server().await;
    let client = started(&server).await;
    append(&client, 0, 0..5).await;
    append(&client, 1, 10..13).await;
    assert_eq!(subscribed_at(&client, "a", &Start::Offsets(offsets([(1, 2)]))).await, [0, 2]);
    assert_eq!(subscribed_at(&client, "a", &Start::Latest).await, [0, 2], "one that exists stays as it is");
    assert_eq!(subscribed_at(&client, "b", &Start::Offsets(offsets([(0, 5), (1, 0)]))).await, [5, 0]);
    assert_eq!(numbers_from(&client, Start::Offsets(offsets([(0, 4)]))).await, [4, 10, 11, 12]);
    let (ahead, _) = refused_start(&client, &Start::Offsets(offsets([(0, 6)]))).await;
    let (out_of_range, _) = refused_start(&client, &Start::Offsets(offsets([(2, 0)]))).await;
    assert_eq!((ahead, out_of_range), (Code::OffsetAhead, Code::PartitionOutOfRange));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_and_a_consumer_start_at_a_time() {
    let server = server().await;
    let client = started(&server).await;
    append(&client, 0, 0..3).await;
    append(&client, 1, 3..6).await;
    let all = read_from(&client, Start::Earliest).await;
    assert_eq!(all.len(), 6);
    for (_, time) in &all {
        let since: Vec<_> = all.iter().filter(|(_, at)| at >= time).copied().collect();
        assert_eq!(read_from(&client, Start::Time(*time)).await, since);
    }
    let newest = all.iter().map(|(_, at)| *at).max().expect("six");
    let later = Start::Time(newest.plus(Duration::from_secs(3600)));
    assert_eq!(subscribed_at(&client, "later", &later).await, [3, 3], "what comes next, though it comes before that time");
    assert_eq!(subscribed_at(&client, "all", &Start::Time(Timestamp(0))).await, [0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_and_a_consumer_start_at_an_epoch() {
    let server = server().await;
    let client = started(&server).await;
    let (code, text) = refused_start(&client, &Start::Epoch { producer: None, epoch: Epoch(0) }).await;
    assert_eq!(code, Code::InvalidArgument);
    assert!(text.contains("no producer has committed epochs"), "{text}");
    for number in 0..4 {
        epoch(&client, "spark", number).await;
    }
    assert_eq!(numbers_from(&client, Start::Epoch { producer: None, epoch: Epoch(2) }).await, [4, 5, 6, 7]);
    assert_eq!(subscribed_at(&client, "next", &of("spark", 4)).await, [4, 4], "the one that comes next");
    let (code, text) = refused_start(&client, &of("spark", 5)).await;
    assert_eq!(code, Code::OffsetAhead);
    assert!(text.contains("the last that is committed is 3; start at epoch 4 at most"), "{text}");
    let (code, text) = refused_start(&client, &of("nobody", 0)).await;
    assert_eq!(code, Code::InvalidArgument);
    assert!(text.contains("producer nobody is not known") && text.contains("epochs: spark"), "{text}");

    epoch(&client, "other", 0).await;
    let (code, text) = refused_start(&client, &Start::Epoch { producer: None, epoch: Epoch(2) }).await;
    assert_eq!(code, Code::InvalidArgument);
    assert!(text.contains("name one that commits epochs: other, spark"), "{text}");
    assert_eq!(subscribed_at(&client, "of other", &of("other", 0)).await, [4, 4]);
    assert_eq!(subscribed_at(&client, "of spark", &of("spark", 3)).await, [3, 3]);
}

/// Both epochs 0 and 1 of partition 0 are dropped, and epoch 0 of partition 1.
async fn check_gap(client: &Client, time: Timestamp) {
    for (start, partition) in [(of("spark", 1), 0), (of("spark", 0), 0), (Start::Time(time), 0)] {
        let (code, text) = refused_start(client, &start).await;
        assert_eq!(code, Code::OffsetGone, "{start}");
        let gap = format!("of partition {partition} since ");
        assert!(text.contains(&gap) && text.contains("before offset 2; start at earliest"), "{start}: {text}");
    }
    let (code, _) = refused_start(client, &Start::Offsets(offsets([(0, 1)]))).await;
    assert_eq!(code, Code::OffsetGone);
    assert_eq!(numbers_from(client, of("spark", 2)).await, [4, 5]);
    assert_eq!(numbers_from(client, Start::Earliest).await, [3, 4, 5]);
    let seek = client.seek("s", "holds", &of("spark", 1), None, true).await.expect_err("the same");
    assert_eq!(seek.code(), Code::OffsetGone);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_behind_what_is_kept_names_the_gap_also_after_restarts() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = || ServerConfig { data_dir: Some(dir.path().to_owned()), ..ServerConfig::default() };
    let mut server = server_with(config()).await;
    let client = started(&server).await;
    for number in 0..3 {
        epoch(&client, "spark", number).await;
    }
    let all = read_from(&client, Start::Earliest).await;
    // Of partition 0, whose numbers are even.
    let time = all.iter().find(|(number, _)| *number == 2).expect("is there").1;
    client.ack("s", "holds", &offsets([(0, 2), (1, 1)]), None).await.expect("acks");
    check_gap(&client, time).await;
    for _ in 0..2 {
        server.shutdown(Duration::from_secs(5)).await;
        drop(server);
        server = server_with(config()).await;
        check_gap(&connect(&server.url()).await, time).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_a_seek_moves_and_a_seek_does_it() {
    let server = server().await;
    let client = started(&server).await;
    append(&client, 0, 0..5).await;
    append(&client, 1, 10..13).await;
    client.subscribe("s", "a", &Start::Earliest).await.expect("is new");
    client.ack("s", "a", &offsets([(0, 4), (1, 1)]), None).await.expect("acks");
    let to = Start::Offsets(offsets([(0, 1)]));
    let expected = [moved(0, 4, 1, 30), moved(1, 1, 1, 0)];
    for dry_run in [true, true, false] {
        assert_eq!(but_for_bytes(client.seek("s", "a", &to, None, dry_run).await.expect("is kept")), expected);
    }
    let on = client.seek("s", "a", &Start::Latest, None, false).await.expect("is there");
    assert_eq!(but_for_bytes(on), [moved(0, 1, 5, 40), moved(1, 1, 3, 20)], "it stood where the seek had put it");
    // Both have acked these: they go.
    client.ack("s", "holds", &offsets([(0, 3)]), None).await.expect("acks");
    let back = client.seek("s", "a", &Start::Earliest, None, true).await.expect("is there");
    let gone = PartitionMove { gone_batches: 3, ..moved(0, 5, 3, 20) };
    assert_eq!(but_for_bytes(back), [gone, moved(1, 3, 0, 30)]);
    let nobody = client.seek("s", "nobody", &Start::Earliest, None, true).await.expect_err("there is none");
    assert_eq!(nobody.code(), Code::SubscriptionNotFound);
    let replaced = client.seek("s", "a", &Start::Earliest, Some(bowstring::engine::StreamId(1)), false).await.expect_err("another");
    assert_eq!(replaced.code(), Code::StreamReplaced);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seek_of_a_durable_stream_survives_a_restart_and_a_dry_run_leaves_no_trace() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = || ServerConfig { data_dir: Some(dir.path().to_owned()), ..ServerConfig::default() };
    let server = server_with(config()).await;
    let client = connect(&server.url()).await;
    create(&client, "s", StreamOptions { retain_ms: Some(3_600_000), ..partitions(2) }).await;
    for number in 0..4 {
        epoch(&client, "spark", number).await;
    }
    assert_eq!(subscribed_at(&client, "a", &of("spark", 3)).await, [3, 3]);
    client.seek("s", "a", &of("spark", 1), None, false).await.expect("is retained");
    client.seek("s", "a", &Start::Latest, None, true).await.expect("changes nothing");
    server.shutdown(Duration::from_secs(5)).await;
    drop(server);
    let server = server_with(config()).await;
    let client = connect(&server.url()).await;
    let options = ConsumerOptions { subscription: Some("a".to_owned()), follow: false, ..ConsumerOptions::default() };
    let mut consumer = client.consumer("s", options).await.expect("is there");
    let mut numbers: Vec<_> = soon(rest(&mut consumer)).await.expect("is read").iter().map(number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [2, 3, 4, 5, 6, 7]);
    let back = client.seek("s", "a", &Start::Earliest, None, true).await.expect("is retained");
    assert_eq!(but_for_bytes(back), [moved(0, 1, 0, 10), moved(1, 1, 0, 10)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seek_takes_those_who_read_along_and_what_they_had_before_is_not_acked() {
    let server = server().await;
    let client = connect(&server.url()).await;
    create(&client, "s", partitions(1)).await;
    append(&client, 0, 0..10).await;
    client.subscribe("s", "keeper", &Start::Earliest).await.expect("is new");
    let mut consumer = subscribed(&client, "s", "a").await;
    for expected in 0..6 {
        assert_eq!(number(&next(&mut consumer).await), expected);
    }
    consumer.ack(PartitionId(0), Offset(4)).expect("an offset");
    soon(consumer.flush_acks()).await.expect("acked");
    client.seek("s", "a", &Start::Offsets(offsets([(0, 2)])), None, false).await.expect("is kept");
    let acked = async || client.describe_stream("s").await.expect("is there").subscriptions[0].partitions[0].acked;
    // What it has read ahead comes until it hears of the seek. Acks of that count no more, now and later.
    loop {
        let delivered = next(&mut consumer).await;
        if number(&delivered) == 2 {
            break;
        }
        assert!(number(&delivered) >= 6);
        consumer.ack(PartitionId(0), delivered.offset.plus(1)).expect("an offset");
    }
    consumer.ack(PartitionId(0), Offset(9)).expect("an offset");
    soon(consumer.flush_acks()).await.expect("nothing is left");
    assert_eq!(acked().await, 2);
    for expected in 3..10 {
        assert_eq!(number(&next(&mut consumer).await), expected);
    }
    consumer.ack(PartitionId(0), Offset(9)).expect("an offset");
    soon(consumer.flush_acks()).await.expect("acked");
    assert_eq!(acked().await, 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_a_former_place_of_the_subscription_is_told_that_it_moved() {
    let (server, channel) = started_server().await;
    let client = connect(&server.url()).await;
    create(&client, "s", partitions(1)).await;
    append(&client, 0, 0..3).await;
    let former = client.subscribe("s", "a", &Start::Earliest).await.expect("is new").generation;
    client.seek("s", "a", &Start::Latest, None, false).await.expect("is there");
    let ticket = serde_json::json!({"stream": "s", "subscription": "a", "generation": former.to_string()});
    assert_eq!(refused(read(&channel, ticket).await), "subscription_moved");
    let current = client.describe_stream("s").await.expect("is there").subscriptions[0].generation;
    assert!(current > former);
    let ticket = serde_json::json!({"stream": "s", "subscription": "a", "generation": current.to_string()});
    assert_eq!(read(&channel, ticket).await.expect("is read").len(), 0);
}
