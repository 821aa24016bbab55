//! Epochs for consumers: whole, in the order of the commits, over restarts and breaks of the connection.

use std::time::Duration;

use bowstring::client::{Client, Consumer, ConsumerOptions, Delivered, Unacked, WriterId, WriterOptions};
use bowstring::engine::{Attempt, Code, Epoch, PartitionId, Task};
use bowstring::server::{Server, ServerConfig};
use bowstring::wire::proto::{StreamOptions, Visibility};
use bytes::Bytes;

use super::client_support::{Proxy, create, next, number, numbered, partitions, rest, server_with, soon};
use super::transport::{Transport, on_each_connection, on_each_transport};

on_each_transport! {
    epochs_of_two_producers_are_not_mixed_and_each_says_where_it_ends,
    the_acks_of_an_epoch_arrive_together_and_wait_for_the_epoch_before,
}

/// What is about connections.
mod breaks {
    use super::{a_broken_connection_goes_on_within_the_epoch, on_each_connection};

    on_each_connection! {
        a_broken_connection_goes_on_within_the_epoch,
    }
}

fn by_epoch() -> ConsumerOptions {
    ConsumerOptions { subscription: Some("a".to_owned()), by_epoch: true, ..ConsumerOptions::default() }
}

/// What a writer of an epoch would append: a batch for each of these partitions.
struct Staged {
    producer: &'static str,
    epoch: u64,
    receipt: bowstring::wire::proto::Receipt,
}

async fn staged(client: &Client, producer: &'static str, epoch: u64, of: &[u32]) -> Staged {
    let id = WriterId { producer: producer.to_owned(), run: "r".to_owned(), epoch: Epoch(epoch), task: Task(0), attempt: Attempt(0) };
    let mut writer = client.writer("s", id, WriterOptions::default()).expect("a writer");
    for partition in of {
        writer.append(&numbered(epoch.cast_signed(), 1), Some(PartitionId(*partition)), Bytes::new()).await.expect("room");
    }
    let receipt = soon(writer.finish()).await.expect("staged").expect("is needed");
    Staged { producer, epoch, receipt }
}

async fn commit(client: &Client, Staged { producer, epoch, receipt }: Staged) {
    let run = bowstring::client::ProducerRun { producer: producer.to_owned(), run: "r".to_owned() };
    client.commit_epoch("s", &run, Epoch(epoch), vec![receipt]).await.expect("commits");
}

/// Producer, epoch, batches.
type Found = (Option<String>, Option<u64>, usize);

/// What comes, by epoch; each must be whole.
fn found(delivered: &[Delivered]) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    let mut is_new = true;
    for one in delivered {
        let key = (one.producer.as_deref().map(str::to_owned), one.epoch.map(|epoch| epoch.0));
        match found.last_mut().filter(|_| !is_new) {
            Some(last) => {
                assert_eq!((&last.0, last.1), (&key.0, key.1), "of one epoch");
                last.2 += 1;
            }
            None => found.push((key.0, key.1, 1)),
        }
        is_new = one.epoch_end;
    }
    assert!(is_new, "the last one is whole");
    found
}

fn of(producer: &str, epoch: u64, batches: usize) -> Found {
    (Some(producer.to_owned()), Some(epoch), batches)
}

async fn epochs_of_two_producers_are_not_mixed_and_each_says_where_it_ends(on: Transport) {
    let server = on.server(ServerConfig::default()).await;
    let client = on.client(&server).await;
    create(&client, "s", partitions(3)).await;
    let mut consumer = client.consumer("s", by_epoch()).await.expect("is there");
    // Staged at the same time, and committed in another order than staged.
    let first = staged(&client, "p", 0, &[0, 1, 2, 2]).await;
    let second = staged(&client, "q", 7, &[2, 1, 1]).await;
    let third = staged(&client, "p", 1, &[0]).await;
    commit(&client, second).await;
    commit(&client, first).await;
    let mut producer = client.producer("s", bowstring::client::ProducerOptions::default()).expect("a producer");
    producer.append(&numbered(9, 1), Some(PartitionId(1)), Bytes::new()).await.expect("room");
    soon(producer.close()).await.expect("stored");
    commit(&client, third).await;
    client.complete_stream("s").await.expect("completes");
    let all = soon(rest(&mut consumer)).await.expect("to the end");
    assert_eq!(found(&all), [of("q", 7, 3), of("p", 0, 4), (None, None, 1), of("p", 1, 1)]);

    // One by one, for those who ask for batches of a size; and some partitions' share.
    let some = Some(vec![PartitionId(0), PartitionId(1)]);
    let sized = ConsumerOptions { target_rows: Some(10), linger: Duration::from_secs(3_600), partitions: some, ..by_epoch() };
    let mut consumer = client.consumer("s", sized).await.expect("is there");
    let all = soon(rest(&mut consumer)).await.expect("to the end");
    assert_eq!(found(&all), [of("q", 7, 1), of("p", 0, 2), (None, None, 1), of("p", 1, 1)]);
    let snapshot = ConsumerOptions { follow: false, subscription: None, ..by_epoch() };
    let mut consumer = client.consumer("s", snapshot).await.expect("is there");
    assert_eq!(found(&soon(rest(&mut consumer)).await.expect("to the end")).len(), 4);

    let immediate = StreamOptions { visibility: Visibility::Immediate.into(), ..partitions(1) };
    create(&client, "fast", immediate).await;
    let error = client.consumer("fast", by_epoch()).await.expect_err("no epoch is whole there");
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.to_string().contains("stream fast is immediate"), "{error}");
}

/// The next epoch: its number, and what acks it.
async fn epoch(consumer: &mut Consumer) -> (i64, Vec<Unacked>) {
    let mut last = std::collections::BTreeMap::new();
    loop {
        let one = next(consumer).await;
        last.insert(one.partition, one.unacked());
        if one.epoch_end {
            return (number(&one), last.into_values().collect());
        }
    }
}

async fn acked(client: &Client, consumer: &mut Consumer) -> Vec<u64> {
    soon(consumer.flush_acks()).await.expect("confirmed");
    let description = client.describe_stream("s").await.expect("is there");
    description.subscriptions[0].partitions.iter().map(|partition| partition.acked).collect()
}

async fn the_acks_of_an_epoch_arrive_together_and_wait_for_the_epoch_before(on: Transport) {
    let server = on.server(ServerConfig::default()).await;
    let client = on.client(&server).await;
    create(&client, "s", partitions(2)).await;
    for number in 0..3 {
        commit(&client, staged(&client, "p", number, &[0, 0, 1]).await).await;
    }
    let mut consumer = client.consumer("s", by_epoch()).await.expect("is there");
    let acker = consumer.acker();
    let mut epochs = Vec::new();
    for expected in 0..3 {
        let (number, ends) = epoch(&mut consumer).await;
        assert_eq!(number, expected);
        epochs.push(ends);
    }
    for (index, expected) in [(1, [0, 0]), (0, [4, 2]), (2, [6, 3])] {
        acker.ack_each(&epochs[index]).expect("acked");
        assert_eq!(acked(&client, &mut consumer).await, expected);
    }
}

async fn a_broken_connection_goes_on_within_the_epoch(on: Transport) {
    let server = on.server(ServerConfig::default()).await;
    let direct = on.client(&server).await;
    create(&direct, "s", partitions(2)).await;
    for number in 0..10 {
        commit(&direct, staged(&direct, "p", number, &[0, 0, 1, 1, 0]).await).await;
    }
    direct.complete_stream("s").await.expect("completes");
    let proxy = Proxy::to(on, &server).await;
    let client = super::client_support::connect(&proxy.url).await;
    let options = ConsumerOptions { prefetch_batches: 1, prefetch_bytes: 1, ..by_epoch() };
    let mut consumer = client.consumer("s", options).await.expect("is there");
    let mut all = vec![next(&mut consumer).await, next(&mut consumer).await];
    proxy.cut();
    all.extend(soon(rest(&mut consumer)).await.expect("to the end"));
    assert_eq!(found(&all), (0..10).map(|number| of("p", number, 5)).collect::<Vec<_>>());
}

/// Times of appends say nothing of the order of commits, and a restart has nothing else over all partitions.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_epochs_whole_though_they_were_staged_in_another_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = || ServerConfig { data_dir: Some(folder.path().to_path_buf()), ..ServerConfig::default() };
    let started = || async { server_with(config()).await };
    let first: Server = started().await;
    let client = super::client_support::connect(&first.url()).await;
    create(&client, "s", partitions(3)).await;
    client.subscribe("s", "a", &bowstring::engine::Start::Earliest).await.expect("subscribes");
    let early = staged(&client, "p", 0, &[0, 1, 1]).await;
    let other = staged(&client, "q", 0, &[1, 2, 0]).await;
    let late = staged(&client, "p", 1, &[2, 0]).await;
    for one in [other, early, late] {
        commit(&client, one).await;
    }
    drop(client);
    soon(first.shutdown(Duration::from_secs(10))).await;
    drop(first);

    let second = started().await;
    let client = super::client_support::connect(&second.url()).await;
    client.complete_stream("s").await.expect("completes");
    let mut consumer = client.consumer("s", by_epoch()).await.expect("is there");
    let all = soon(rest(&mut consumer)).await.expect("to the end");
    assert_eq!(found(&all), [of("q", 0, 3), of("p", 0, 3), of("p", 1, 2)]);
}
