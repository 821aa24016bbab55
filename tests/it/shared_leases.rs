//! What becomes of the leases of shared subscriptions: callers that do not come back, words that are refused or said twice, restarts.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::RecordBatch;
use bowstring::client::{ConsumerOptions, ProducerOptions, Sharing, SubscribeOptions};
use bowstring::engine::{Code, Start, SubscriptionMode};
use bowstring::server::ServerConfig;
use bowstring::wire::proto::{SchemaPolicy, StreamOptions};
use bytes::Bytes;

use super::client_support::{connect, create, next, number, numbered, server, server_with, soon};
use super::leases_support::{LONG, TEAM, append, sign, stream, until};
use super::server_support::{channel, read, refused};
use super::shared::{only_letter, open, options, shares, values};

#[tokio::test(flavor = "multi_thread")]
async fn what_the_caller_has_not_begun_with_goes_to_others_when_it_does_not_come_back() {
    let server = server().await;
    let client = stream(&server, 1).await;
    let mut away = open(&client, ConsumerOptions { ack_within: Duration::from_millis(300), ..options() }).await;
    append(&client, 1, 0..4).await;
    let first = next(&mut away).await;
    away.acker().ack_one(&first.unacked()).expect("is leased");
    // It holds nothing that could run out, and yet it has three batches.
    let mut other = open(&client, options()).await;
    for _ in 0..3 {
        let delivered = next(&mut other).await;
        assert_eq!(delivered.delivery, 1, "nobody had begun with it");
        other.acker().ack_one(&delivered.unacked()).expect("is leased");
    }
    soon(other.close()).await.expect("all is confirmed");
    append(&client, 1, 4..5).await;
    assert_eq!(number(&next(&mut away).await), 4, "it is back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_that_cannot_be_meant_is_refused_and_stops_no_other() {
    let server = server().await;
    let client = stream(&server, 1).await;
    let mut member = open(&client, options()).await;
    append(&client, 1, 0..2).await;
    let (first, second) = (next(&mut member).await, next(&mut member).await);
    let day = Duration::from_hours(24);
    for refused in [
        member.acker().nack(&first.unacked(), day + Duration::from_millis(1), ""),
        member.acker().renew(&first.unacked(), day + Duration::from_millis(1)),
        member.acker().renew(&first.unacked(), Duration::from_millis(99)),
        member.ack(first.partition, first.offset.plus(1)),
    ] {
        assert_eq!(refused.expect_err("out of range").code(), Code::InvalidArgument);
    }
    member.acker().renew(&first.unacked(), day).expect("the longest");
    member.ack_by(first.partition, first.offset.plus(1), first.lease).expect("is leased");
    member.acker().ack_through(&second.unacked()).expect("is leased");
    member.acker().ack_one(&second.unacked()).expect("twice is once");
    soon(member.flush_acks()).await.expect("nothing was in vain");
    until(&client, |found| found.partitions[0].acked == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_longer_renewal_is_not_cut_short_by_the_clients_own() {
    let server = server().await;
    let client = stream(&server, 1).await;
    let mut member = open(&client, ConsumerOptions { ack_within: Duration::from_millis(200), ..options() }).await;
    append(&client, 1, 0..1).await;
    let first = next(&mut member).await;
    member.acker().renew(&first.unacked(), LONG).expect("is leased");
    tokio::time::sleep(Duration::from_millis(600)).await;
    member.acker().ack_one(&first.unacked()).expect("is leased");
    soon(member.flush_acks()).await.expect("it was not lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_failures_and_dead_letters_survive_the_coordinator() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let config = || ServerConfig { data_dir: Some(dir.path().to_path_buf()), ..ServerConfig::default() };
    let server = server_with(config()).await;
    let client = stream(&server, 1).await;
    let sharing = Sharing { max_deliveries: Some(3), ..Sharing::default() };
    let mut member = open(&client, ConsumerOptions { sharing: Some(sharing), ..options() }).await;
    append(&client, 1, 0..4).await;
    // 0 is not acked, 1 is, 2 fails once and is with its consumer, 3 fails until it is dead.
    let (mut failed, mut again) = (0, false);
    while failed < 3 || !again {
        let delivered = next(&mut member).await;
        let (acker, unacked) = (member.acker(), delivered.unacked());
        match (number(&delivered), delivered.delivery) {
            (1, _) => acker.ack_one(&unacked).expect("is leased"),
            (2, 1) => acker.nack(&unacked, Duration::ZERO, "once").expect("is leased"),
            (2, _) => again = true,
            (3, _) => {
                failed += 1;
                acker.nack(&unacked, Duration::ZERO, "always").expect("is leased");
            }
            _ => {}
        }
    }
    soon(member.flush_acks()).await.expect("all is confirmed");
    let letter = async {
        while client.describe_stream("s.dead-letters").await.is_err() || shares(&client).await.dying > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(letter).await;
    member.crash();
    server.shutdown(Duration::from_secs(5)).await;
    drop((server, client));
    let server = server_with(config()).await;
    let client = connect(&server.url()).await;
    let mut member = open(&client, ConsumerOptions { mode: None, ..options() }).await;
    client.complete_stream("s").await.expect("is open");
    let mut deliveries = BTreeMap::new();
    while let Some(delivered) = soon(member.next(None)).await.expect("reads") {
        deliveries.insert(number(&delivered), delivered.delivery);
        member.acker().ack_one(&delivered.unacked()).expect("is leased");
    }
    assert_eq!(deliveries, BTreeMap::from([(0, 1), (2, 2)]), "with the failures that they had");
    assert_eq!(values(&only_letter(&client, "s.dead-letters").await.batch), [3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_read_ends_at_goes_to_others_at_once() {
    let server = server().await;
    let client = connect(&server.url()).await;
    create(&client, "s", StreamOptions { schema_policy: SchemaPolicy::Additive.into(), ..StreamOptions::default() }).await;
    let shared = SubscribeOptions { mode: Some(SubscriptionMode::Shared), ..SubscribeOptions::default() };
    client.subscribe_with("s", TEAM, &Start::Earliest, shared).await.expect("subscribes");
    append(&client, 1, 0..1).await;
    let column = numbered(1, 1).column(0).clone();
    let later = RecordBatch::try_from_iter_with_nullable([("n", column.clone(), false), ("more", column, true)]);
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    soon(producer.append(&later.expect("two columns"), None, Bytes::new())).await.expect("room");
    soon(producer.close()).await.expect("all is confirmed");
    // One that knows nothing of several schemas is given both batches; it is told the newest, and its read ends at the first.
    let channel = channel(server.listen_addr()).await;
    sign(&channel, 7, LONG).await;
    let ticket = r#"{"stream": "s", "subscription": "team", "consumer_id": 7, "follow": true}"#;
    assert_eq!(refused(read(&channel, ticket).await), "schema_mismatch");
    let mut other = open(&client, options()).await;
    let delivered = next(&mut other).await;
    assert_eq!((number(&delivered), delivered.delivery), (0, 1), "it was not sent, and has not failed");
}
