//! Consumers that share a partitioned subscription, and what they wait for: how each wait ends, and how long a lease lasts.

use std::time::Duration;

use bowstring::client::ConsumerOptions;
use bowstring::engine::{Code, PartitionId, Start, SubscriptionMode};
use bowstring::wire::proto::{KeepConsumerRequest, KeepConsumerResponse};
use serde_json::json;

use super::client_support::{next, number, server, soon};
use super::leases_support::{LONG, TEAM, ack, append, consumers, member, of_mode, options, sign, stream, until, work};
use super::server_support::{call, channel, read, refused};

#[tokio::test(flavor = "multi_thread")]
async fn who_holds_what_others_wait_for_at_the_end_is_told_of_it_and_goes_on_after_its_acks() {
    let server = server().await;
    let client = stream(&server, 2).await;
    append(&client, 2, 0..6).await;
    let mut first = member(&client, "first").await;
    let mut have = Vec::new();
    for _ in 0..4 {
        have.push(next(&mut first).await);
    }
    assert_eq!(have.iter().map(|one| one.partition.0).collect::<Vec<_>>(), [0, 0, 0, 1]);
    // The second partition is wanted: the first consumer gives back two of it, and would wait for what it gets only after its ack.
    let second = member(&client, "second").await;
    until(&client, |found| found.consumers.len() == 2 && found.consumers[0].in_flight_batches == 4).await;
    client.complete_stream("s").await.expect("is open");
    assert!(soon(first.next(None)).await.expect("is told").is_none());
    assert!(!first.has_ended(), "others may leave it theirs");
    have.iter().for_each(|one| ack(&mut first, one));
    let rest = tokio::spawn(work(second));
    assert!(soon(first.next(None)).await.expect("the end").is_none());
    assert!(first.has_ended());
    assert_eq!(soon(rest).await.expect("no panic").expect("reads to the end"), [3, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_is_deleted_ends_its_consumers_at_once() {
    let server = server().await;
    let client = stream(&server, 1).await;
    let channel = channel(server.listen_addr()).await;
    client.subscribe_with("s", TEAM, &Start::Earliest, of_mode(SubscriptionMode::Partitioned)).await.expect("a new one");
    // It reads by a lease that it keeps by hand: nothing but its `DoGet` tells it.
    assert_eq!(sign(&channel, 7, LONG).await.holdings.len(), 1);
    append(&client, 1, 0..1).await;
    let ticket = json!({"stream": "s", "subscription": TEAM, "follow": true, "consumer_id": 7});
    let reading = tokio::spawn(async move { read(&channel, ticket).await });
    until(&client, |found| found.consumers[0].in_flight_batches == 1).await;
    let mut consumer = member(&client, "waits").await;
    let waiting = tokio::spawn(async move { consumer.next(None).await.map(drop) });
    until(&client, |found| found.consumers.len() == 2).await;
    client.unsubscribe("s", TEAM).await.expect("is there");
    assert_eq!(refused(soon(reading).await.expect("no panic")), "subscription_not_found");
    assert_eq!(soon(waiting).await.expect("no panic").expect_err("is deleted").code(), Code::SubscriptionNotFound);
}

/// Both sides of both limits.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_lasts_from_a_tenth_of_a_second_to_an_hour() {
    let server = server().await;
    let client = stream(&server, 1).await;
    let channel = channel(server.listen_addr()).await;
    client.subscribe_with("s", TEAM, &Start::Earliest, of_mode(SubscriptionMode::Partitioned)).await.expect("a new one");
    let by_hand = |lease_millis| {
        let request = KeepConsumerRequest {
            stream: "s".into(),
            subscription: TEAM.into(),
            consumer_id: 7,
            consumer: "by hand".into(),
            lease_millis,
            ..KeepConsumerRequest::default()
        };
        let channel = channel.clone();
        async move { call::<_, KeepConsumerResponse>(&channel, "KeepConsumer", request).await }
    };
    for too_long_or_short in [1, 99, 3_600_001] {
        assert_eq!(refused(by_hand(too_long_or_short).await), "invalid_argument", "{too_long_or_short} ms");
    }
    let error = by_hand(99).await.expect_err("is too short");
    assert!(error.message().contains("99ms") && error.message().contains("100ms"), "{error}");
    for taken in [100, 3_600_000, 0] {
        assert!(by_hand(taken).await.is_ok(), "{taken} ms");
    }
    for mode in [Some(SubscriptionMode::Partitioned), None] {
        let lasting = |lease| ConsumerOptions { lease, mode, ..options() };
        let error = client.consumer("s", lasting(Duration::from_micros(99_999))).await.expect_err("is too short");
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.to_string().contains("100ms"), "{error}");
        client.consumer("s", lasting(Duration::from_millis(100))).await.expect("joins");
    }
    // Who reads by itself has no lease.
    client.subscribe("s", "alone", &Start::Earliest).await.expect("a new one");
    let alone = ConsumerOptions { subscription: Some("alone".to_owned()), mode: None, lease: Duration::ZERO, ..options() };
    client.consumer("s", alone).await.expect("reads");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_by_a_lost_lease_leaves_room_for_what_comes_by_another() {
    let server = server().await;
    let client = stream(&server, 2).await;
    let channel = channel(server.listen_addr()).await;
    append(&client, 2, 0..4).await;
    for (max_in_flight_batches, max_in_flight_bytes) in [(Some(1), None), (None, Some(1))] {
        let mut consumer =
            client.consumer("s", ConsumerOptions { max_in_flight_batches, max_in_flight_bytes, ..options() }).await.expect("joins");
        let first = next(&mut consumer).await;
        assert_eq!(number(&first), 0);
        // Another one has all of it, until the first is heard of again: then it has the other partition.
        let own = consumers(&client).await[0].consumer_id;
        sign(&channel, 7, LONG).await;
        sign(&channel, own, Duration::ZERO).await;
        let other = next(&mut consumer).await;
        assert_eq!((other.partition, number(&other)), (PartitionId(1), 1));
        // The same if it is the same partition, by another lease.
        client.seek("s", TEAM, &Start::Earliest, None, false).await.expect("is there");
        let again = next(&mut consumer).await;
        assert_eq!((again.partition, number(&again)), (PartitionId(1), 1));
        ack(&mut consumer, &first);
        soon(consumer.flush_acks()).await.expect_err("is lost");
        soon(consumer.close()).await.expect("it is said once");
        sign(&channel, 7, Duration::ZERO).await;
        until(&client, |found| found.consumers.is_empty()).await;
    }
}
