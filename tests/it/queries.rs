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

/// The same with a column that came later.
fn with_country(first: i64) -> RecordBatch {
    let clicks = clicks(first);
    let columns = names(&clicks).into_iter().zip(clicks.columns().iter().cloned()).map(|(name, array)| (name, array, false));
    let country: ArrayRef = Arc::new(StringArray::from(vec!["is"; 10]));
    RecordBatch::try_from_iter_with_nullable(columns.chain([("country".to_owned(), country, true)])).expect("columns of one length")
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
    append(&client, [with_country(10)]).await;
    client.complete_stream("clicks").await.expect("completes");
    let mut consumer = open(&client, ConsumerOptions { query: None, ..asking("late", "") }).await;
    let got = soon(rest(&mut consumer)).await.expect("reads to the end");
    assert_eq!(users(&got), (5..20).collect::<Vec<_>>());
    assert_eq!(names(&got[0].batch), ["user", "page", "agent", "country"]);
    assert_eq!((got[0].batch.column(3).null_count(), got[1].batch.column(3).null_count()), (5, 0));
}

/// What is in a stream of dead letters: the numbers of its rows, and the reasons.
async fn letters(client: &Client, stream: &str) -> (Vec<i64>, Vec<String>) {
    let options = ConsumerOptions { follow: false, ..ConsumerOptions::default() };
    let mut letters = client.consumer(stream, options).await.expect("is there");
    let letters = soon(rest(&mut letters)).await.expect("reads");
    let reason = |one: &Delivered| one.batch.column_by_name("bowstring_reason").expect("is there").as_string::<i32>().value(0).to_owned();
    (users(&letters), letters.iter().map(reason).collect())
}

/// A consumer's work until all is done: the users of each delivery, all acked.
async fn worked(mut consumer: Consumer) -> Vec<i64> {
    let mut got = Vec::new();
    while let Some(delivered) = soon(consumer.next(None)).await.expect("goes on") {
        consumer.acker().ack_one(&delivered.unacked()).expect("is leased");
        got.extend(users(&[delivered]));
    }
    soon(consumer.close()).await.expect("acks");
    got.sort_unstable();
    got
}

const INVERSE: &str = "SELECT user, 100 / user AS part FROM clicks";

fn sharing_inverse(sharing: Sharing) -> ConsumerOptions {
    ConsumerOptions { mode: Some(SubscriptionMode::Shared), sharing: Some(sharing), ack_within: LONG, ..asking("team", INVERSE) }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_shared_subscription_a_batch_without_an_answer_becomes_a_dead_letter_and_the_rest_is_delivered_once() {
    let server = server().await;
    let client = connect(&server.url()).await;
    create(&client, "clicks", partitions(1)).await;
    append(&client, [clicks(1), clicks(0), clicks(11), clicks(21)]).await;
    let consumer = open(&client, sharing_inverse(Sharing { max_deliveries: Some(2), ..Sharing::default() })).await;
    client.complete_stream("clicks").await.expect("completes");
    assert_eq!(worked(consumer).await, (1..31).collect::<Vec<_>>(), "all but the batch with user 0");
    let (rows, reasons) = letters(&client, "clicks.dead-letters").await;
    assert_eq!(rows, (0..10).collect::<Vec<_>>());
    assert!(reasons.iter().all(|reason| reason.contains("no answer") && reason.to_lowercase().contains("divide by zero")), "{reasons:?}");
    let failed = client.describe_stream("clicks").await.expect("is there").subscriptions[0].failed_deliveries;
    assert_eq!(failed, 2, "its own deliveries alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_batch_without_an_answer_the_shares_that_have_one_are_delivered() {
    let server = server().await;
    let client = connect(&server.url()).await;
    create(&client, "clicks", partitions(1)).await;
    append(&client, [clicks(-4), clicks(11)]).await;
    let sharing = Sharing { max_deliveries: Some(1), bisect: true, dead_letters: Some("bad".to_owned()), ..Sharing::default() };
    let one = open(&client, ConsumerOptions { max_rows: Some(4), ..sharing_inverse(sharing) }).await;
    client.complete_stream("clicks").await.expect("completes");
    let got = worked(one).await;
    assert_eq!(got, (-4..0).chain(1..6).chain(11..21).collect::<Vec<_>>(), "all but user 0");
    assert_eq!(letters(&client, "bad").await.0, [0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_becomes_a_dead_letter_a_batch_without_an_answer_ends_its_consumer_and_fails_alone() {
    let server = server().await;
    let client = connect(&server.url()).await;
    create(&client, "clicks", partitions(1)).await;
    append(&client, [clicks(0), clicks(11), clicks(21)]).await;
    let options = sharing_inverse(Sharing { max_deliveries: Some(0), ..Sharing::default() });
    let mut consumer = open(&client, options.clone()).await;
    let error = soon(consumer.next(None)).await.expect_err("user 0");
    assert_eq!(error.code(), Code::QueryFailed, "{error}");
    assert!(error.to_string().contains("offset 0"), "{error}");
    drop(consumer.close().await);
    let described = client.describe_stream("clicks").await.expect("is there").subscriptions.remove(0);
    assert_eq!(described.failed_deliveries, 1, "what was taken beside it was given back");
}

/// No query of a stream that has the column already.
const COUNTRY: &str = "SELECT *, upper(page) AS country FROM clicks";

/// A stream with two batches, and a third one that this is no query of.
async fn outgrown(client: &Client, subscriptions: &[(&str, SubscribeOptions)]) {
    create(client, "clicks", StreamOptions { schema_policy: SchemaPolicy::Additive.into(), ..partitions(1) }).await;
    append(client, [clicks(0), clicks(10)]).await;
    for (name, options) in subscriptions {
        let options = SubscribeOptions { query: Some(COUNTRY.to_owned()), ..options.clone() };
        client.subscribe_with("clicks", name, &Start::Earliest, options).await.expect("a query");
    }
    append(client, [with_country(20)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_schema_that_is_not_asked_for_ends_who_reaches_it_and_nobody_else() {
    let server = server().await;
    let client = connect(&server.url()).await;
    outgrown(&client, &[("one", SubscribeOptions::default()), ("behind", SubscribeOptions::default())]).await;
    let refused = client.consumer("clicks", asking("new", COUNTRY)).await.expect_err("is no query of it now");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let mut consumer = open(&client, asking("one", COUNTRY)).await;
    let got = [next(&mut consumer).await, next(&mut consumer).await];
    assert_eq!(users(&got), (0..20).collect::<Vec<_>>());
    let error = soon(consumer.next(None)).await.expect_err("has two of one name");
    assert_eq!(error.code(), Code::QueryFailed, "{error}");
    assert!(error.to_string().contains("version 1 of the stream's schema"), "{error}");
    // Who has nothing to read has not reached it, and a producer of the older version may be there.
    client.seek("clicks", "behind", &Start::Offsets([(PartitionId(0), Offset(3))].into()), None, false).await.expect("moves");
    let channel = channel(server.listen_addr()).await;
    let nothing = r#"{"stream": "clicks", "subscription": "behind", "follow": false}"#;
    assert!(super::server_support::read(&channel, nothing).await.expect("has not failed").is_empty());
    append(&client, [clicks(30)]).await;
    let mut consumer = open(&client, asking("behind", COUNTRY)).await;
    assert_eq!(users(&[next(&mut consumer).await]), (30..40).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn leased_readers_of_older_batches_go_on_where_a_later_schema_is_not_asked_for() {
    let server = server().await;
    let client = connect(&server.url()).await;
    let sharing = Some(Sharing { max_deliveries: Some(1), ..Sharing::default() });
    let shared = SubscribeOptions { mode: Some(SubscriptionMode::Shared), sharing, ..SubscribeOptions::default() };
    let partitioned = SubscribeOptions { mode: Some(SubscriptionMode::Partitioned), ..SubscribeOptions::default() };
    outgrown(&client, &[("team", shared), ("parts", partitioned)]).await;
    append(&client, [clicks(30)]).await;
    client.complete_stream("clicks").await.expect("completes");
    let options = |name: &str, mode| ConsumerOptions { mode: Some(mode), ack_within: LONG, query: None, ..asking(name, "") };
    let mut parts = open(&client, options("parts", SubscriptionMode::Partitioned)).await;
    assert_eq!(users(&[next(&mut parts).await, next(&mut parts).await]), (0..20).collect::<Vec<_>>());
    let error = soon(parts.next(None)).await.expect_err("reaches the later schema");
    assert_eq!(error.code(), Code::QueryFailed, "{error}");
    let team = open(&client, options("team", SubscriptionMode::Shared)).await;
    assert_eq!(worked(team).await, (0..20).chain(30..40).collect::<Vec<_>>(), "all but the batch of the later schema");
    assert_eq!(letters(&client, "clicks.dead-letters").await.0, (20..30).collect::<Vec<_>>());
}
