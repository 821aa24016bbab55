//! What the tests of leases share: a stream, its consumers, and what is seen of them.

use std::collections::BTreeSet;
use std::time::Duration;

use bowstring::client::{Client, Consumer, ConsumerOptions, Delivered, Error, ProducerOptions, SubscribeOptions};
use bowstring::engine::{PartitionId, SubscriptionMode};
use bowstring::server::Server;
use bowstring::wire::proto::{ConsumerDescription, KeepConsumerRequest, KeepConsumerResponse, StreamOptions, SubscriptionDescription};
use bytes::Bytes;
use tonic::transport::Channel;

use super::client_support::{connect, create, number, numbered, soon};
use super::server_support::call;

pub(crate) const TEAM: &str = "team";
/// A lease that only its consumer's end ends.
pub(crate) const LONG: Duration = Duration::from_secs(3600);

/// A stream of so many partitions.
pub(crate) async fn stream(server: &Server, partitions: u32) -> Client {
    let client = connect(&server.url()).await;
    create(&client, "s", StreamOptions { partitions: Some(partitions), max_buffered_batches: Some(1_000), ..StreamOptions::default() })
        .await;
    client
}

/// Appends so many numbered batches, a turn for each partition.
pub(crate) async fn append(client: &Client, partitions: u32, numbers: std::ops::Range<i64>) {
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    for number in numbers {
        let partition = PartitionId(u32::try_from(number).expect("is small") % partitions);
        soon(producer.append(&numbered(number, 1), Some(partition), Bytes::new())).await.expect("room");
    }
    soon(producer.close()).await.expect("all is confirmed");
}

pub(crate) fn options() -> ConsumerOptions {
    ConsumerOptions {
        subscription: Some(TEAM.to_owned()),
        mode: Some(SubscriptionMode::Partitioned),
        lease: LONG,
        ..ConsumerOptions::default()
    }
}

pub(crate) async fn member(client: &Client, name: &str) -> Consumer {
    let options = ConsumerOptions { consumer: Some(name.to_owned()), ..options() };
    client.consumer("s", options).await.expect("joins")
}

pub(crate) fn ack(consumer: &mut Consumer, delivered: &Delivered) {
    consumer.ack_by(delivered.partition, delivered.offset.plus(1), delivered.lease).expect("not refused");
}

pub(crate) async fn described(client: &Client) -> SubscriptionDescription {
    let found = client.describe_stream("s").await.expect("is there").subscriptions;
    found.into_iter().find(|found| found.subscription == TEAM).unwrap_or_default()
}

pub(crate) async fn consumers(client: &Client) -> Vec<ConsumerDescription> {
    described(client).await.consumers
}

/// Waits until it is so.
pub(crate) async fn until(client: &Client, is_so: impl Fn(&SubscriptionDescription) -> bool) {
    let wait = async {
        while !is_so(&described(client).await) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(wait).await;
}

pub(crate) fn held(consumer: &ConsumerDescription) -> BTreeSet<u32> {
    consumer.partitions.iter().map(|partition| partition.partition).collect()
}

/// Takes and acks all up to the end.
pub(crate) async fn work(mut consumer: Consumer) -> Result<Vec<i64>, Error> {
    let mut numbers = Vec::new();
    while let Some(delivered) = consumer.next(None).await? {
        numbers.push(number(&delivered));
        ack(&mut consumer, &delivered);
    }
    consumer.close().await?;
    Ok(numbers)
}

/// A sign of life by hand: of a consumer that does nothing else.
pub(crate) async fn sign(channel: &Channel, consumer_id: u64, lease: Duration) -> KeepConsumerResponse {
    let request = KeepConsumerRequest {
        stream: "s".into(),
        subscription: TEAM.into(),
        consumer_id,
        consumer: format!("by hand {consumer_id}"),
        lease_millis: u64::try_from(lease.as_millis()).expect("is short"),
        ..KeepConsumerRequest::default()
    };
    call(channel, "KeepConsumer", request).await.expect("is taken")
}

/// For a new subscription.
pub(crate) fn of_mode(mode: SubscriptionMode) -> SubscribeOptions {
    SubscribeOptions { mode: Some(mode), ..SubscribeOptions::default() }
}
