//! Where room runs out: subscriptions that skip or are evicted and what their consumers are told, waits that end, spilling.

use std::time::Duration;

use bowstring::client::{Cause, Client, ConsumerOptions, Error, ProducerOptions, ReadStart, SubscribeOptions};
use bowstring::engine::{Code, Offset, OnOverflow, PartitionId, Start};
use bowstring::server::{Server, ServerConfig};
use bowstring::wire::proto::{FullPolicy, StreamOptions, SubscriptionDescription};
use bytes::Bytes;

use super::client_support::{connect, create, next, number, numbered, rest, server, server_with, soon, subscribed};
use super::durable_support::append;

/// A stream of four batches in memory.
fn four() -> StreamOptions {
    StreamOptions { max_buffered_batches: Some(4), ..StreamOptions::default() }
}

async fn started(options: StreamOptions) -> (Server, Client) {
    let server = server().await;
    let client = connect(&server.url()).await;
    create(&client, "s", options).await;
    (server, client)
}

async fn subscribe(client: &Client, name: &str, on_overflow: OnOverflow) {
    client
        .subscribe_with("s", name, &Start::Earliest, SubscribeOptions { on_overflow, ..SubscribeOptions::default() })
        .await
        .expect("is new");
}

async fn described(client: &Client, name: &str) -> SubscriptionDescription {
    let subscriptions = client.describe_stream("s").await.expect("is there").subscriptions;
    subscriptions.into_iter().find(|one| one.subscription == name).expect("is there")
}

/// Reads and acks all that there is.
async fn catch_up(client: &Client, name: &str) -> Vec<i64> {
    let options = ConsumerOptions { subscription: Some(name.to_owned()), follow: false, ..ConsumerOptions::default() };
    let mut consumer = client.consumer("s", options).await.expect("is there");
    let all = soon(rest(&mut consumer)).await.expect("is read");
    if let Some(last) = all.last() {
        consumer.ack(last.partition, last.offset.plus(1)).expect("an offset");
    }
    soon(consumer.flush_acks()).await.expect("acked");
    all.iter().map(number).collect()
}

/// What reading for a subscription ends with.
async fn refused(client: &Client, name: &str) -> Error {
    let mut consumer = subscribed(client, "s", name).await;
    soon(consumer.next(None)).await.expect_err("it is refused")
}

#[tokio::test(flavor = "multi_thread")]
async fn who_skips_is_told_of_the_gap_and_nobody_else_loses_anything() {
    let (_server, client) = started(four()).await;
    subscribe(&client, "keeps", OnOverflow::Hold).await;
    subscribe(&client, "skips", OnOverflow::Skip).await;
    append(&client, "s", 0..4).await;
    assert_eq!(catch_up(&client, "keeps").await, (0..4).collect::<Vec<_>>());
    append(&client, "s", 4..7).await;
    assert_eq!(catch_up(&client, "keeps").await, [4, 5, 6]);

    let mut consumer = subscribed(&client, "s", "skips").await;
    let first = next(&mut consumer).await;
    assert_eq!((first.offset, first.skipped, number(&first)), (Offset(3), 3, 3));
    assert_eq!(next(&mut consumer).await.skipped, 0);
    assert_eq!(described(&client, "skips").await.partitions[0].skipped, 3);

    // Whoever begins again at what was dropped meanwhile is told from there on.
    let start = ReadStart::Offsets([(PartitionId(0), Offset(1))].into());
    let options = ConsumerOptions { subscription: Some("skips".to_owned()), start, ..ConsumerOptions::default() };
    let mut consumer = client.consumer("s", options).await.expect("is there");
    let first = next(&mut consumer).await;
    assert_eq!((first.offset, first.skipped), (Offset(3), 2));

    // What is acked is no gap any more.
    consumer.ack(PartitionId(0), Offset(5)).expect("an offset");
    soon(consumer.flush_acks()).await.expect("acked");
    drop(consumer);
    let first = next(&mut subscribed(&client, "s", "skips").await).await;
    assert_eq!((first.offset, first.skipped), (Offset(5), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evicted_subscription_stays_so_until_a_seek_and_over_restarts() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = || ServerConfig { data_dir: Some(dir.path().to_owned()), ..ServerConfig::default() };
    let server = server_with(config()).await;
    let client = connect(&server.url()).await;
    create(
        &client,
        "s",
        StreamOptions { max_disk_bytes: Some(3_000), max_wait_ms: Some(60_000), resume_percent: Some(75), ..Default::default() },
    )
    .await;
    subscribe(&client, "keeps", OnOverflow::Hold).await;
    subscribe(&client, "goes", OnOverflow::Evict).await;
    subscribe(&client, "skips", OnOverflow::Skip).await;
    let mut end = 0;
    while described(&client, "goes").await.eviction.is_none() {
        append(&client, "s", end..end + 1).await;
        catch_up(&client, "keeps").await;
        end += 1;
        assert!(end < 1_000, "a log of 3,000 bytes is full by then");
    }
    let (evicted, skips) = (described(&client, "goes").await, described(&client, "skips").await);
    let eviction = evicted.eviction.expect("is evicted");
    assert!(eviction.lag_batches > 0 && eviction.needed_bytes > 0, "{eviction:?}");
    assert!(skips.partitions[0].skipped > 0, "{skips:?}");
    let error = refused(&client, "goes").await;
    assert_eq!(error.code(), Code::SubscriptionEvicted);
    assert!(error.to_string().contains("seek it"), "{error}");
    let why = client.why("s").await.expect("is there");
    assert!(
        why.reasons.iter().any(|reason| reason.cause == Cause::Evicted && reason.text.contains("subscription goes was evicted")),
        "{why}"
    );
    server.shutdown(Duration::from_secs(5)).await;
    drop(server);

    let server = server_with(config()).await;
    let client = connect(&server.url()).await;
    let options = client.describe_stream("s").await.expect("is there").options.expect("options");
    assert_eq!((options.max_wait_ms, options.resume_percent), (Some(60_000), Some(75)));
    let found = described(&client, "goes").await;
    assert_eq!((found.eviction, found.on_overflow), (Some(eviction), evicted.on_overflow));
    assert_eq!(refused(&client, "goes").await.code(), Code::SubscriptionEvicted);
    let first = next(&mut subscribed(&client, "s", "skips").await).await;
    assert_eq!(first.skipped, skips.partitions[0].skipped, "the gap is told after a restart, too");

    client.seek("s", "goes", &Start::Earliest, None, false).await.expect("is there");
    assert_eq!(described(&client, "goes").await.eviction, None);
    let start = client.describe_stream("s").await.expect("is there").partitions[0].start;
    let kept: Vec<_> = (i64::try_from(start).expect("is small")..end).collect();
    assert_eq!(catch_up(&client, "goes").await, kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_when_it_is_evicted_is_told_at_once() {
    let (_server, client) = started(four()).await;
    subscribe(&client, "goes", OnOverflow::Evict).await;
    append(&client, "s", 0..1).await;
    let mut consumer = subscribed(&client, "s", "goes").await;
    next(&mut consumer).await;
    append(&client, "s", 1..9).await;
    let ended = async {
        loop {
            if let Err(error) = consumer.next(None).await {
                return error.code();
            }
        }
    };
    assert_eq!(soon(ended).await, Code::SubscriptionEvicted);
    let acked = async {
        loop {
            consumer.ack(PartitionId(0), Offset(1))?;
            consumer.flush_acks().await?;
        }
    };
    let refused: Result<(), Error> = soon(acked).await;
    assert_eq!(refused.expect_err("an ack is refused, too").code(), Code::SubscriptionEvicted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_with_who_is_to_blame_and_nothing_is_lost() {
    let (_server, client) = started(StreamOptions { max_wait_ms: Some(1), ..four() }).await;
    subscribe(&client, "slow", OnOverflow::Hold).await;
    append(&client, "s", 0..4).await;
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    let appended = async {
        producer.append(&numbered(4, 10), None, Bytes::new()).await?;
        producer.flush().await
    };
    let error = soon(appended).await.expect_err("there is no room");
    assert_eq!(error.code(), Code::BufferFull);
    let text = error.to_string();
    assert!(text.contains("(max_wait)") && text.contains("subscription slow has held offset 0 of partition 0"), "{text}");
    assert_eq!(catch_up(&client, "slow").await, (0..4).collect::<Vec<_>>());
    append(&client, "s", 4..5).await;
    assert_eq!(catch_up(&client, "slow").await, [4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_spills_is_read_in_order_and_nobody_waits_for_consumers() {
    let (_server, client) = started(StreamOptions { full_policy: FullPolicy::Spill.into(), ..four() }).await;
    subscribe(&client, "slow", OnOverflow::Hold).await;
    append(&client, "s", 0..40).await;
    let stream = client.describe_stream("s").await.expect("is there");
    assert_eq!((stream.buffered_batches, stream.spooled_batches), (4, 36));
    assert_eq!(catch_up(&client, "slow").await, (0..40).collect::<Vec<_>>());
    let stream = client.describe_stream("s").await.expect("is there");
    assert_eq!((stream.buffered_batches, stream.spooled_batches), (0, 0));
}

/// Windows of three of four batches: what is left after the first is more than the low watermark.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_acks_only_when_it_is_given_more_is_given_more() {
    let (_server, client) = started(StreamOptions { resume_percent: Some(0), ..four() }).await;
    let mut consumer = subscribed(&client, "s", "windows").await;
    let appending = tokio::spawn({
        let client = client.clone();
        async move { append(&client, "s", 0..9).await }
    });
    for window in 0..3 {
        for place in 0..3 {
            assert_eq!(number(&next(&mut consumer).await), window * 3 + place);
        }
        consumer.ack(PartitionId(0), Offset(u64::try_from(window).expect("is small") * 3 + 3)).expect("an offset");
    }
    soon(appending).await.expect("all found room");
}

#[tokio::test(flavor = "multi_thread")]
async fn options_that_cannot_be_used_are_refused() {
    let (_server, client) = started(four()).await;
    let options = StreamOptions { resume_percent: Some(101), ..four() };
    let request = bowstring::wire::proto::CreateStreamRequest { stream: "t".to_owned(), options: Some(options), ..Default::default() };
    let error = client.create_stream(request).await.expect_err("more than 100 percent");
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.to_string().contains("resume_percent"), "{error}");
}
