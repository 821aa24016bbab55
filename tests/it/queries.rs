//! Subscriptions that ask a query: consumers get the answers, with the batches' offsets.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use bowstring::client::{Client, Consumer, ConsumerOptions, Delivered, ProducerOptions, Sharing, SubscribeOptions};
use bowstring::engine::{Code, Offset, PartitionId, Start, SubscriptionMode};
use bowstring::server::ServerConfig;
use bowstring::wire::proto::{SchemaPolicy, StreamOptions};
use bytes::Bytes;

use super::client_support::{connect, create, next, partitions, rest, server, server_with, soon};
use super::leases_support::LONG;
use super::server_support::{act, channel};
use super::transport::{Transport, on_each_transport};

on_each_transport! {
    consumers_get_the_answers_with_the_batches_offsets,
    columns_alone_are_taken_out_without_decoding,
}

const BUYS: &str = "SELECT user, page FROM clicks WHERE page LIKE '/buy%'";

/// Clicks of the users `first` to `first + 9`; every third buys.
fn clicks(first: i64) -> RecordBatch {
    let users = Int64Array::from_iter_values(first..first + 10);
    let pages =
        StringArray::from_iter_values((first..first + 10).map(|user| if user % 3 == 0 { format!("/buy/{user}") } else { "/".to_owned() }));
    let columns: Vec<(&str, ArrayRef)> =
        vec![("user", Arc::new(users)), ("page", Arc::new(pages)), ("agent", Arc::new(StringArray::from(vec!["Mozilla"; 10])))];
    RecordBatch::try_from_iter(columns).expect("columns of one length")
}

async fn append(client: &Client, batches: impl IntoIterator<Item = RecordBatch>) {
    let mut producer = client.producer("clicks", ProducerOptions::default()).expect("a producer");
    for batch in batches {
        soon(producer.append(&batch, Some(PartitionId(0)), Bytes::new())).await.expect("room");
    }
    soon(producer.close()).await.expect("stored");
}

fn asking(subscription: &str, query: &str) -> ConsumerOptions {
    ConsumerOptions { subscription: Some(subscription.to_owned()), query: Some(query.to_owned()), ..ConsumerOptions::default() }
}

async fn open(client: &Client, options: ConsumerOptions) -> Consumer {
    client.consumer("clicks", options).await.expect("a query of the stream")
}

fn users(delivered: &[Delivered]) -> Vec<i64> {
    delivered.iter().flat_map(|one| one.batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

fn names(batch: &RecordBatch) -> Vec<String> {
    batch.schema().fields().iter().map(|field| field.name().clone()).collect()
}

async fn consumers_get_the_answers_with_the_batches_offsets(on: Transport) {
    let server = on.server(ServerConfig::default()).await;
    let client = on.client(&server).await;
    create(&client, "clicks", partitions(2)).await;
    append(&client, [clicks(0), clicks(1).slice(0, 2), clicks(10)]).await;
    client.subscribe("clicks", "all", &Start::Earliest).await.expect("asks nothing");
    let mut consumer = open(&client, asking("buys", BUYS)).await;
    assert_eq!(soon(consumer.schema(None)).await.expect("is known").expect("is there").fields().len(), 2);
    let mut got = vec![next(&mut consumer).await, next(&mut consumer).await];
    consumer.acker().ack(PartitionId(0), Offset(2)).expect("reads for a subscription");
    client.complete_stream("clicks").await.expect("completes");
    got.extend(soon(rest(&mut consumer)).await.expect("reads to the end"));
    assert_eq!(users(&got), [0, 3, 6, 9, 12, 15, 18]);
    let places: Vec<_> = got.iter().map(|one| (one.offset.0, one.batch.num_rows())).collect();
    assert_eq!(places, [(0, 4), (1, 0), (2, 3)], "a batch without rows that are asked for comes without rows");
    assert_eq!(names(&got[0].batch), ["user", "page"]);
    soon(consumer.close()).await.expect("acks");
    let lag = client.describe_stream("clicks").await.expect("is there").subscriptions.remove(1);
    assert_eq!((lag.query.as_str(), lag.partitions[0].acked), (BUYS, 2));
    // Who asks nothing gets all of it.
    let mut whole = client
        .consumer("clicks", ConsumerOptions { subscription: Some("all".to_owned()), ..ConsumerOptions::default() })
        .await
        .expect("joins");
    assert_eq!(next(&mut whole).await.batch, clicks(0));
}

async fn columns_alone_are_taken_out_without_decoding(on: Transport) {
    let server = on.server(ServerConfig::default()).await;
    let client = on.client(&server).await;
    create(&client, "clicks", partitions(1)).await;
    append(&client, (0..20).map(|number| clicks(number * 10))).await;
    client.complete_stream("clicks").await.expect("completes");
    let mut consumer = open(&client, asking("users", "SELECT user AS who FROM clicks")).await;
    let got = soon(rest(&mut consumer)).await.expect("reads to the end");
    assert_eq!(users(&got), (0..200).collect::<Vec<_>>());
    assert_eq!(names(&got[0].batch), ["who"]);
    let stats = client.stats(Some("clicks")).await.expect("is there").streams.remove(0);
    let (sent, stored) = (stats.delivered_bytes, stats.appended_bytes);
    assert!(sent * 2 < stored, "{sent} bytes were sent of {stored}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_query_is_said_when_it_is_subscribed_and_leaves_nothing() {
    let server = server().await;
    let client = connect(&server.url()).await;
    create(&client, "clicks", partitions(1)).await;
    let subscribe = async |name: &str, query: &str, sharing: Option<Sharing>| {
        let mode = sharing.is_some().then_some(SubscriptionMode::Shared);
        let options = SubscribeOptions { query: Some(query.to_owned()), mode, sharing, ..SubscribeOptions::default() };
        client.subscribe_with("clicks", name, &Start::Earliest, options).await
    };
    let refused = async |query: &str, sharing: Option<Sharing>| {
        let error = subscribe("bad", query, sharing).await.expect_err(query);
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        error.to_string()
    };
    assert!(refused(BUYS, None).await.contains("no schema yet"));
    append(&client, [clicks(0)]).await;
    assert!(refused("SELECT nobody FROM clicks", None).await.contains("nobody"));
    assert!(refused("SELECT user FROM taps", None).await.contains("FROM \"clicks\""));
    assert!(refused("SELECT page, count(*) FROM clicks GROUP BY page", None).await.contains("GROUP BY"));
    assert!(refused(BUYS, Some(Sharing { keys: vec!["user".to_owned()], ..Sharing::default() })).await.contains("keys"));
    let without = client.consumer("clicks", ConsumerOptions { query: Some(BUYS.to_owned()), ..ConsumerOptions::default() }).await;
    assert!(without.expect_err("asks for no subscription").to_string().contains("only a subscription asks"));
    assert!(client.describe_stream("clicks").await.expect("is there").subscriptions.is_empty());

    let made = subscribe("good", &format!("  {BUYS}\n"), None).await.expect("a query");
    assert_eq!(made.query, BUYS);
    assert!(!made.query_schema.is_empty());
    subscribe("good", BUYS, None).await.expect("asks the same");
    subscribe("good", "", None).await.expect("asks what it asks");
    let error = subscribe("good", "SELECT user FROM clicks", None).await.expect_err("asks something else");
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.to_string().contains("/buy%") && error.to_string().contains("another subscription"), "{error}");
    // As stock Flight clients subscribe.
    let channel = channel(server.listen_addr()).await;
    let body = r#"{"stream": "clicks", "subscription": "stock", "query": "SELECT page FROM clicks"}"#;
    act(&channel, "subscribe", body).await.expect("a query");
    let read =
        super::server_support::read(&channel, r#"{"stream": "clicks", "subscription": "stock", "follow": false}"#).await.expect("is read");
    assert_eq!(names(&read[0]), ["page"]);
    server.shutdown(LONG).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_of_batches_are_shares_of_their_answers_and_each_row_comes_once() {
    let server = server().await;
    let client = connect(&server.url()).await;
    create(&client, "clicks", partitions(1)).await;
    append(&client, (0..30).map(|number| clicks(number * 10))).await;
    let options = ConsumerOptions { mode: Some(SubscriptionMode::Shared), max_rows: Some(3), ack_within: LONG, ..asking("team", BUYS) };
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(open(&client, options.clone()).await);
    }
    client.complete_stream("clicks").await.expect("completes");
    let work = async |mut consumer: Consumer| {
        let mut got = Vec::new();
        let mut is_first = true;
        while let Some(delivered) = consumer.next(None).await.expect("reads to the end") {
            assert!(delivered.batch.num_rows() <= 3);
            let unacked = delivered.unacked();
            if std::mem::take(&mut is_first) {
                consumer.acker().nack(&unacked, std::time::Duration::ZERO, "once more").expect("is leased");
                continue;
            }
            got.extend(users(&[delivered]));
            consumer.acker().ack_one(&unacked).expect("is leased");
        }
        consumer.close().await.expect("acks");
        got
    };
    let (first, second, third) = {
        let mut members = members.into_iter();
        let mut member = || members.next().expect("there are three");
        let (one, two, three) = (member(), member(), member());
        soon(async { tokio::join!(work(one), work(two), work(three)) }).await
    };
    let mut all: Vec<_> = [first, second, third].concat();
    all.sort_unstable();
    assert_eq!(all, (0..300).filter(|user| user % 3 == 0).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_without_an_answer_is_named_and_the_subscription_goes_on_behind_it() {
    let server = server().await;
    let client = connect(&server.url()).await;
    create(&client, "clicks", partitions(1)).await;
    append(&client, [clicks(1), clicks(0), clicks(11)]).await;
    let mut consumer = open(&client, asking("parts", "SELECT 100 / user AS part FROM clicks")).await;
    assert_eq!(users(&[next(&mut consumer).await])[..2], [100, 50]);
    let error = soon(consumer.next(None)).await.expect_err("user 0");
    assert_eq!(error.code(), Code::QueryFailed, "{error}");
    assert!(error.to_string().contains("offset 1") && error.to_string().contains("seek past it"), "{error}");
    client.seek("clicks", "parts", &Start::Offsets([(PartitionId(0), Offset(2))].into()), None, false).await.expect("moves");
    let mut consumer = open(&client, asking("parts", "SELECT 100 / user AS part FROM clicks")).await;
    assert_eq!(next(&mut consumer).await.offset, Offset(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_survives_a_restart_and_follows_the_stream_s_schema() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = || ServerConfig { data_dir: Some(dir.path().to_owned()), ..ServerConfig::default() };
    let server = server_with(config()).await;
    let client = connect(&server.url()).await;
    let policy = SchemaPolicy::Additive.into();
    create(&client, "clicks", StreamOptions { schema_policy: policy, ..partitions(1) }).await;
    append(&client, [clicks(0)]).await;
    let query = "SELECT * FROM clicks WHERE user > 4";
    let options = SubscribeOptions { query: Some(query.to_owned()), ..SubscribeOptions::default() };
    client.subscribe_with("clicks", "late", &Start::Earliest, options).await.expect("a query");
    drop(client);
    server.shutdown(LONG).await;
    drop(server);

    let server = server_with(config()).await;
    let client = connect(&server.url()).await;
    let more = clicks(10);
    let mut columns: Vec<(String, ArrayRef)> = names(&more).into_iter().zip(more.columns().iter().cloned()).collect();
    columns.push(("country".to_owned(), Arc::new(StringArray::from(vec![Some("is"); 10]))));
    let more = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| {
        let nullable = name == "country";
        (name, array, nullable)
    }));
    append(&client, [more.expect("columns of one length")]).await;
    client.complete_stream("clicks").await.expect("completes");
    let mut consumer = open(&client, ConsumerOptions { query: None, ..asking("late", "") }).await;
    let got = soon(rest(&mut consumer)).await.expect("reads to the end");
    assert_eq!(users(&got), (5..20).collect::<Vec<_>>());
    assert_eq!(names(&got[0].batch), ["user", "page", "agent", "country"]);
    assert_eq!((got[0].batch.column(3).null_count(), got[1].batch.column(3).null_count()), (5, 0));
}
