//! A new subscription goes through a producer's epochs again, from one of them on, while retention holds them.

use std::time::Duration;

use bowstring::client::{Client, Consumer, ConsumerOptions};
use bowstring::engine::{Code, Start};
use bowstring::server::ServerConfig;
use bowstring::wire::proto::StreamOptions;

use super::client_support::{connect, create, number, partitions, rest, server, server_with, soon};
use super::starts::{epoch, of};

/// What every epoch of these tests has: a batch in each partition.
const PARTITIONS: u32 = 2;

async fn consumer(client: &Client, subscription: &str, by_epoch: bool) -> Consumer {
    let subscription = Some(subscription.to_owned());
    let options = ConsumerOptions { subscription, by_epoch, follow: false, ..ConsumerOptions::default() };
    client.consumer("s", options).await.expect("is there")
}

/// Reads and acks all there is, as the subscription that has the epochs first.
async fn work(client: &Client) {
    client.subscribe("s", "first", &Start::Earliest).await.expect("is new, or as it was");
    let mut consumer = consumer(client, "first", false).await;
    for delivered in soon(rest(&mut consumer)).await.expect("is read") {
        consumer.ack(delivered.partition, delivered.ack_offset()).expect("an offset");
    }
    soon(consumer.flush_acks()).await.expect("acked");
}

/// The epochs that a new subscription gets, from a start on, and the numbers of each: epoch by epoch, and batch by batch.
async fn replayed(client: &Client, name: &str, start: &Start) -> Vec<(u64, Vec<i64>)> {
    client.subscribe("s", name, start).await.expect("is kept");
    let mut epochs: Vec<(u64, Vec<i64>)> = Vec::new();
    let mut is_complete = true;
    for delivered in soon(rest(&mut consumer(client, name, true).await)).await.expect("is read") {
        assert_eq!(delivered.producer.as_deref(), Some("spark"));
        if is_complete {
            epochs.push((delivered.epoch.expect("came with one").0, Vec::new()));
        }
        let (epoch, numbers) = epochs.last_mut().expect("was begun");
        assert_eq!(delivered.epoch.map(|epoch| epoch.0), Some(*epoch), "nothing of another before its end");
        numbers.push(number(&delivered));
        is_complete = delivered.epoch_end;
    }
    assert!(is_complete, "{epochs:?}");
    epochs.iter_mut().for_each(|(_, numbers)| numbers.sort_unstable());

    // Nothing was acked, so that the same comes again: now as it lies, in order within each partition.
    let again = soon(rest(&mut consumer(client, name, false).await)).await.expect("is read");
    for partition in 0..PARTITIONS {
        let of_partition: Vec<_> = again.iter().filter(|one| one.partition.0 == partition).map(number).collect();
        let expected: Vec<_> = epochs.iter().map(|(epoch, _)| 2 * i64::try_from(*epoch).expect("small") + i64::from(partition)).collect();
        assert_eq!(of_partition, expected);
    }
    assert_eq!(again.len(), epochs.iter().map(|(_, numbers)| numbers.len()).sum::<usize>());
    epochs
}

/// These epochs, whole and in order.
fn whole(epochs: std::ops::Range<u64>) -> Vec<(u64, Vec<i64>)> {
    let numbers = |epoch| (2 * i64::try_from(epoch).expect("small")..).take(PARTITIONS as usize).collect();
    epochs.map(|epoch| (epoch, numbers(epoch))).collect()
}

fn retained() -> StreamOptions {
    StreamOptions { retain_ms: Some(3_600_000), ..partitions(PARTITIONS) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_subscription_gets_exactly_the_epochs_from_its_start_on_though_all_are_acked() {
    let server = server().await;
    let client = connect(&server.url()).await;
    create(&client, "s", retained()).await;
    for number in 0..6 {
        epoch(&client, "spark", number).await;
    }
    work(&client).await;
    for from in 0..=6 {
        assert_eq!(replayed(&client, &format!("from {from}"), &of("spark", from)).await, whole(from..6));
    }
    // What comes later comes to them as well, after what they have replayed.
    epoch(&client, "spark", 6).await;
    let mut late = consumer(&client, "from 4", true).await;
    let numbers: Vec<_> = soon(rest(&mut late)).await.expect("is read").iter().map(|one| one.epoch.map(|epoch| epoch.0)).collect();
    assert_eq!(numbers, [4, 4, 5, 5, 6, 6].map(Some));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_holds_is_replayed_after_a_restart_too() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = || ServerConfig { data_dir: Some(dir.path().to_owned()), ..ServerConfig::default() };
    let server = server_with(config()).await;
    let client = connect(&server.url()).await;
    create(&client, "s", retained()).await;
    for number in 0..4 {
        epoch(&client, "spark", number).await;
    }
    work(&client).await;
    assert_eq!(replayed(&client, "before", &of("spark", 1)).await, whole(1..4));
    server.shutdown(Duration::from_secs(5)).await;
    drop(server);
    let server = server_with(config()).await;
    let client = connect(&server.url()).await;
    assert_eq!(replayed(&client, "after", &of("spark", 2)).await, whole(2..4));
    epoch(&client, "spark", 4).await;
    work(&client).await;
    assert_eq!(replayed(&client, "later", &of("spark", 3)).await, whole(3..5));
}

/// Bytes of each of an epoch's batches, which are all alike.
async fn batch_bytes(client: &Client) -> u64 {
    let described = client.describe_stream("s").await.expect("is there");
    let batches: u64 = described.partitions.iter().map(|partition| partition.end - partition.start).sum();
    described.buffered_bytes / batches
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_that_retention_has_dropped_is_refused_with_what_was_asked_and_what_is_left() {
    let server = server().await;
    let client = connect(&server.url()).await;
    create(&client, "s", partitions(PARTITIONS)).await;
    epoch(&client, "spark", 0).await;
    let bytes = batch_bytes(&client).await;
    client.delete_stream("s").await.expect("is there");

    // Of eight epochs the last three are kept: a batch goes while as many bytes stay without it.
    create(&client, "s", StreamOptions { retain_bytes: Some(6 * bytes - bytes / 2), ..partitions(PARTITIONS) }).await;
    for number in 0..8 {
        epoch(&client, "spark", number).await;
        work(&client).await;
    }
    for asked in [0, 4] {
        let error = client.subscribe("s", "refused", &of("spark", asked)).await.expect_err("is not kept");
        assert_eq!(error.code(), Code::OffsetGone);
        let text = error.to_string();
        for said in [&format!("since epoch {asked} of producer spark"), "of epoch 4 some are gone", "before offset 5", "start at earliest"]
        {
            assert!(text.contains(said), "{said:?} is not in {text}");
        }
    }
    let names: Vec<_> =
        client.describe_stream("s").await.expect("is there").subscriptions.into_iter().map(|one| one.subscription).collect();
    assert_eq!(names, ["first"], "one that was refused is not made");
    assert_eq!(replayed(&client, "what is left", &of("spark", 5)).await, whole(5..8));
    assert_eq!(replayed(&client, "with the gap", &Start::Earliest).await, whole(5..8));
}
