//! Reading: how it ends, where it starts, how far ahead it goes, and acks.

use std::time::{Duration, Instant};

use bowstring::client::{Client, ConsumerOptions, Offsets, ProducerOptions, ReadStart};
use bowstring::engine::{Code, Offset, PartitionId, Retry, Start};
use bowstring::server::ServerConfig;
use bytes::Bytes;

use super::client_support::{create, next, number, numbered, partitions, rest, soon, subscribed};
use super::transport::{Transport, on_each_transport};

on_each_transport! {
    end_failure_timeout_and_lost_producer_are_four_signals_and_what_is_there_comes_first,
    a_producer_that_keeps_alive_is_lost_when_dropped_but_not_when_closed,
    a_stream_can_be_waited_for_and_its_schema_too,
    a_bounded_read_gives_exactly_its_range_again_and_again,
    a_subscription_goes_on_after_its_last_ack_and_can_be_moved,
    acks_ahead_of_the_stream_are_refused_and_the_caller_learns_it,
    a_consumer_that_does_not_read_holds_only_its_prefetch_and_loses_nothing,
}

const P0: PartitionId = PartitionId(0);

/// A stream of one partition with batches 0 to `count`.
async fn filled(client: &Client, stream: &str, count: i64) {
    let mut producer = client.producer(stream, ProducerOptions::default()).expect("a producer");
    for index in 0..count {
        producer.append(&numbered(index, 1), None, Bytes::new()).await.expect("room");
    }
    soon(producer.close()).await.expect("stored");
}

fn in_ms(milliseconds: u64) -> Option<Instant> {
    Some((tokio::time::Instant::now() + Duration::from_millis(milliseconds)).into())
}

async fn end_failure_timeout_and_lost_producer_are_four_signals_and_what_is_there_comes_first(on: Transport) {
    let server = on.server(ServerConfig::default()).await;
    let client = on.client(&server).await;
    for stream in ["ends", "fails", "waits", "lost"] {
        filled(&client, stream, 2).await;
    }
    client.complete_stream("ends").await.expect("completes");
    client.fail_stream("fails", "the disk is on fire").await.expect("fails");
    let run = bowstring::client::ProducerRun { producer: "p".to_owned(), run: "r".to_owned() };
    client.keep_producer("lost", &run, Duration::from_millis(50)).await.expect("a sign of life");

    let mut ends = subscribed(&client, "ends", "a").await;
    let mut fails = subscribed(&client, "fails", "a").await;
    let mut waits = subscribed(&client, "waits", "a").await;
    let mut lost = subscribed(&client, "lost", "a").await;
    for consumer in [&mut ends, &mut fails, &mut waits, &mut lost] {
        assert_eq!([number(&next(consumer).await), number(&next(consumer).await)], [0, 1]);
    }
    assert!(soon(ends.next(None)).await.expect("no error").is_none());
    assert!(soon(ends.next(None)).await.expect("no error").is_none(), "and stays so");
    let error = soon(fails.next(None)).await.expect_err("failed");
    assert_eq!(error.code(), Code::StreamFailed);
    assert!(error.to_string().contains("the disk is on fire"), "{error}");
    assert_eq!(soon(fails.next(None)).await.expect_err("and stays so").code(), Code::StreamFailed);
    let start = Instant::from(tokio::time::Instant::now());
    let error = soon(waits.next(in_ms(200))).await.expect_err("nothing comes");
    assert_eq!(error.code(), Code::Timeout);
    assert!(start.elapsed() >= Duration::from_millis(200) && start.elapsed() < Duration::from_millis(1_200));
    let error = soon(lost.next(None)).await.expect_err("no sign of life");
    assert_eq!((error.code(), error.retry()), (Code::ProducerLost, Retry::After));

    client.keep_producer("lost", &run, Duration::from_secs(60)).await.expect("it is back");
    let mut producer = client.producer("lost", ProducerOptions::default()).expect("a producer");
    producer.append(&numbered(2, 1), None, Bytes::new()).await.expect("room");
    soon(producer.close()).await.expect("stored");
    assert_eq!(number(&next(&mut lost).await), 2, "the consumer reads on");
    filled(&client, "waits", 1).await;
    assert_eq!(number(&next(&mut waits).await), 0, "a timeout loses nothing");
}

async fn a_producer_that_keeps_alive_is_lost_when_dropped_but_not_when_closed(on: Transport) {
    let server = on.server(ServerConfig::default()).await;
    let client = on.client(&server).await;
    let options = || ProducerOptions { keep_alive: Some(Duration::from_millis(600)), ..ProducerOptions::default() };
    for stream in ["closed", "dropped"] {
        let mut producer = client.producer(stream, options()).expect("a producer");
        producer.append(&numbered(0, 1), None, Bytes::new()).await.expect("room");
        soon(producer.flush()).await.expect("stored");
        // Until a sign of life has come: a producer without any cannot be lost.
        soon(async {
            while client.describe_stream(stream).await.expect("the stream is there").producers.is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        if stream == "closed" {
            soon(producer.close()).await.expect("says goodbye");
        }
    }
    let mut dropped = subscribed(&client, "dropped", "a").await;
    next(&mut dropped).await;
    assert_eq!(soon(dropped.next(None)).await.expect_err("lost").code(), Code::ProducerLost);
    let mut closed = subscribed(&client, "closed", "a").await;
    next(&mut closed).await;
    assert_eq!(soon(closed.next(in_ms(1_000))).await.expect_err("only quiet").code(), Code::Timeout);
}

async fn a_stream_can_be_waited_for_and_its_schema_too(on: Transport) {
    let server = on.server(ServerConfig::default()).await;
    let client = on.client(&server).await;
    let error = client.consumer("later", ConsumerOptions::default()).await.expect_err("not there");
    assert_eq!(error.code(), Code::StreamNotFound);
    let opening = tokio::spawn({
        let client = client.clone();
        async move {
            let options = ConsumerOptions { stream_wait: Duration::from_secs(30), ..ConsumerOptions::default() };
            let mut consumer = client.consumer("later", options).await?;
            consumer.schema(None).await
        }
    });
    tokio::task::yield_now().await;
    create(&client, "later", partitions(1)).await;
    filled(&client, "later", 1).await;
    let schema = soon(opening).await.expect("ends").expect("the stream came").expect("its schema came");
    assert_eq!(schema, numbered(0, 1).schema());
    create(&client, "empty", partitions(1)).await;
    let mut consumer = client.consumer("empty", ConsumerOptions::default()).await.expect("the stream is there");
    client.complete_stream("empty").await.expect("completes");
    assert!(soon(consumer.schema(None)).await.expect("no error").is_none());
    assert!(soon(consumer.next(None)).await.expect("no error").is_none());
}

async fn a_bounded_read_gives_exactly_its_range_again_and_again(on: Transport) {
    let server = on.server(ServerConfig::default()).await;
    let client = on.client(&server).await;
    filled(&client, "s", 10).await;
    let options = || ConsumerOptions {
        partitions: Some(vec![P0]),
        follow: false,
        start: ReadStart::Offsets(Offsets::from([(P0, Offset(3))])),
        end: Some(Offsets::from([(P0, Offset(7))])),
        ..ConsumerOptions::default()
    };
    for _ in 0..2 {
        let mut consumer = client.consumer("s", options()).await.expect("the stream is there");
        let numbers: Vec<_> = soon(rest(&mut consumer)).await.expect("reads").iter().map(number).collect();
        assert_eq!(numbers, [3, 4, 5, 6]);
    }
    let snapshot = ConsumerOptions { follow: false, ..ConsumerOptions::default() };
    let mut consumer = client.consumer("s", snapshot).await.expect("the stream is there");
    filled(&client, "s", 5).await;
    assert_eq!(soon(rest(&mut consumer)).await.expect("reads").len(), 10, "what is appended later is not in it");
    let latest = ConsumerOptions { start: ReadStart::Cursor(Start::Latest), ..ConsumerOptions::default() };
    let mut consumer = client.consumer("s", latest).await.expect("the stream is there");
    assert_eq!(soon(consumer.next(in_ms(100))).await.expect_err("nothing new").code(), Code::Timeout);
    let wrong = ConsumerOptions { partitions: Some(vec![PartitionId(1)]), ..ConsumerOptions::default() };
    assert_eq!(client.consumer("s", wrong).await.expect_err("one partition").code(), Code::PartitionOutOfRange);
}

async fn a_subscription_goes_on_after_its_last_ack_and_can_be_moved(on: Transport) {
    let server = on.server(ServerConfig::default()).await;
    let client = on.client(&server).await;
    filled(&client, "s", 10).await;
    client.subscribe("s", "keeps", &Start::Earliest).await.expect("subscribes");
    let mut consumer = subscribed(&client, "s", "a").await;
    for _ in 0..4 {
        let delivered = next(&mut consumer).await;
        consumer.ack(delivered.partition, delivered.offset.plus(1)).expect("acks");
    }
    assert_eq!(number(&next(&mut consumer).await), 4, "read, but not acked");
    soon(consumer.close()).await.expect("acked");
    let mut consumer = subscribed(&client, "s", "a").await;
    assert_eq!(number(&next(&mut consumer).await), 4);
    drop(consumer);
    client.seek("s", "a", &Start::Offsets([(P0, Offset(2))].into()), None, false).await.expect("still kept by the other subscription");
    let mut consumer = subscribed(&client, "s", "a").await;
    assert_eq!(number(&next(&mut consumer).await), 2);
    let plain = client.consumer("s", ConsumerOptions::default()).await;
    let mut plain = plain.expect("the stream is there");
    assert_eq!(plain.ack(P0, Offset(1)).expect_err("no subscription").code(), Code::InvalidArgument);
}

async fn acks_ahead_of_the_stream_are_refused_and_the_caller_learns_it(on: Transport) {
    let server = on.server(ServerConfig::default()).await;
    let client = on.client(&server).await;
    filled(&client, "s", 1).await;
    let mut consumer = subscribed(&client, "s", "a").await;
    consumer.ack(P0, Offset(100)).expect("not known yet");
    assert_eq!(soon(consumer.flush_acks()).await.expect_err("refused").code(), Code::OffsetAhead);
}

async fn a_consumer_that_does_not_read_holds_only_its_prefetch_and_loses_nothing(on: Transport) {
    let server = on.server(ServerConfig { max_buffered_batches: 1_000, ..ServerConfig::default() }).await;
    let client = on.client(&server).await;
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    // 400 MB: more than the prefetch and the connection's windows hold.
    for index in 0..400 {
        producer.append(&numbered(index, 125_000), None, Bytes::new()).await.expect("room");
    }
    soon(producer.complete()).await.expect("stored");
    let options = ConsumerOptions { prefetch_batches: 2, ..ConsumerOptions::default() };
    let mut consumer = client.consumer("s", options).await.expect("the stream is there");
    let delivered = async || client.stats(Some("s")).await.expect("stats").streams[0].delivered_batches;
    // Until the reader stands still.
    let mut seen = delivered().await;
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = delivered().await;
        if now == seen && now > 0 {
            break;
        }
        seen = now;
    }
    assert!(seen < 150, "{seen} of 400 batches have left the server though nobody reads them");
    let numbers: Vec<_> = soon(rest(&mut consumer)).await.expect("reads").iter().map(number).collect();
    assert_eq!(numbers, (0..400).collect::<Vec<_>>());
}
