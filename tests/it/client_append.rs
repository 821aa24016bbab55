//! Appending: limits, refusals, deadlines, goodbyes.

use std::time::{Duration, Instant};

use bowstring::client::{Client, ClientOptions, ConsumerOptions, ProducerOptions};
use bowstring::engine::{Code, Offset, PartitionId, SchemaVersion, StoredState};
use bowstring::server::ServerConfig;
use bowstring::wire::proto::{FullPolicy, StreamOptions};
use bytes::Bytes;

use super::client_support::{create, next, number, numbered, partitions, rest, soon, subscribed};
use super::transport::{Transport, on_each_transport};

on_each_transport! {
    batches_go_where_they_say_else_where_the_producer_says_else_round_in_turn,
    an_append_past_the_window_waits_and_one_that_is_dropped_meanwhile_is_not_stored,
    an_append_timeout_is_told_within_a_second_and_the_producer_goes_on_after_it,
    a_stream_that_rejects_says_what_is_stored_and_takes_more_when_there_is_room,
    a_batch_that_no_message_holds_is_refused_before_anything_is_sent,
    what_the_coordinator_refuses_for_good_ends_the_producer_with_that_reason,
    a_second_run_of_a_producer_fences_the_first,
    encoded_batches_pass_through_as_they_are,
    a_batch_for_partition_0_goes_there_also_as_the_first_of_its_writer,
}

fn now() -> Instant {
    tokio::time::Instant::now().into()
}

fn batches(max: u64) -> StreamOptions {
    StreamOptions { max_buffered_batches: Some(max), ..StreamOptions::default() }
}

async fn batches_go_where_they_say_else_where_the_producer_says_else_round_in_turn(on: Transport) {
    let server = on.server(ServerConfig::default()).await;
    let client = on.client(&server).await;
    create(&client, "s", partitions(3)).await;
    let mut fixed =
        client.producer("s", ProducerOptions { partition: Some(PartitionId(2)), ..ProducerOptions::default() }).expect("a producer");
    fixed.append(&numbered(0, 1), None, Bytes::new()).await.expect("room");
    fixed.append(&numbered(1, 1), Some(PartitionId(0)), Bytes::new()).await.expect("room");
    soon(fixed.close()).await.expect("stored");
    let mut turns = client.producer("s", ProducerOptions::default()).expect("a producer");
    for index in 2..5 {
        turns.append(&numbered(index, 1), None, Bytes::new()).await.expect("room");
    }
    soon(turns.complete()).await.expect("stored");
    let mut consumer = client.consumer("s", ConsumerOptions::default()).await.expect("the stream is there");
    let mut got: Vec<_> = soon(rest(&mut consumer)).await.expect("reads").iter().map(|d| (number(d), d.partition.0)).collect();
    got.sort_unstable();
    assert_eq!(got, [(0, 2), (1, 0), (2, 0), (3, 1), (4, 2)]);
}

async fn an_append_past_the_window_waits_and_one_that_is_dropped_meanwhile_is_not_stored(on: Transport) {
    let server = on.server(ServerConfig::default()).await;
    let client = on.client(&server).await;
    create(&client, "s", batches(1)).await;
    let mut consumer = subscribed(&client, "s", "a").await;
    let mut producer = client.producer("s", ProducerOptions { window_batches: 1, ..ProducerOptions::default() }).expect("a producer");
    producer.append(&numbered(0, 1), None, Bytes::new()).await.expect("room");
    producer.append(&numbered(1, 1), None, Bytes::new()).await.expect("room");
    // The first is stored, the second waits in the window for room at the server, the third for room in the window.
    let start = now();
    let third = tokio::time::timeout(Duration::from_millis(200), producer.append(&numbered(2, 1), None, Bytes::new())).await;
    assert!(third.is_err(), "no room");
    assert!(start.elapsed() < Duration::from_secs(1));
    let delivered = next(&mut consumer).await;
    consumer.ack(delivered.partition, delivered.offset.plus(1)).expect("acks");
    soon(producer.flush()).await.expect("there is room now");
    assert_eq!(producer.stored(), 2);
    assert_eq!(number(&next(&mut consumer).await), 1);
}

async fn an_append_timeout_is_told_within_a_second_and_the_producer_goes_on_after_it(on: Transport) {
    let server = on.server(ServerConfig::default()).await;
    let client = on.client(&server).await;
    create(&client, "s", batches(1)).await;
    let mut consumer = subscribed(&client, "s", "a").await;
    let options = ProducerOptions { append_timeout: Some(Duration::from_millis(300)), ..ProducerOptions::default() };
    let mut producer = client.producer("s", options).expect("a producer");
    producer.append(&numbered(0, 1), None, Bytes::new()).await.expect("room");
    producer.append(&numbered(1, 1), None, Bytes::new()).await.expect("room in the window");
    let start = now();
    let error = soon(producer.flush()).await.expect_err("no room");
    assert_eq!((error.code(), error.stored()), (Code::Timeout, StoredState::No));
    assert!(start.elapsed() < Duration::from_millis(1_300), "{:?}", start.elapsed());
    assert_eq!(producer.stored(), 1);

    let delivered = next(&mut consumer).await;
    consumer.ack(delivered.partition, delivered.offset.plus(1)).expect("acks");
    soon(consumer.flush_acks()).await.expect("acked");
    producer.append(&numbered(2, 1), None, Bytes::new()).await.expect("room");
    soon(producer.flush()).await.expect("stored");
    let delivered = next(&mut consumer).await;
    assert_eq!((number(&delivered), delivered.offset), (2, Offset(1)), "the refused batch left no gap");
}

async fn a_stream_that_rejects_says_what_is_stored_and_takes_more_when_there_is_room(on: Transport) {
    let server = on.server(ServerConfig::default()).await;
    let client = on.client(&server).await;
    create(&client, "s", StreamOptions { full_policy: FullPolicy::Reject.into(), ..batches(3) }).await;
    let mut consumer = subscribed(&client, "s", "a").await;
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    let mut error = None;
    for index in 0..10 {
        if let Err(refused) = producer.append(&numbered(index, 1), None, Bytes::new()).await {
            error.get_or_insert(refused);
        }
    }
    let error = match error {
        Some(error) => error,
        None => soon(producer.flush()).await.expect_err("three fit"),
    };
    assert_eq!((error.code(), error.stored()), (Code::BufferFull, StoredState::No));
    drop(soon(producer.flush()).await);
    let stored = client.describe_stream("s").await.expect("the stream is there").partitions[0].end;
    assert_eq!((producer.stored(), stored), (3, 3));
    for expected in 0..3 {
        let delivered = next(&mut consumer).await;
        assert_eq!(delivered.offset, Offset(expected));
        consumer.ack(delivered.partition, delivered.offset.plus(1)).expect("acks");
    }
    soon(consumer.flush_acks()).await.expect("acked");
    producer.append(&numbered(99, 1), None, Bytes::new()).await.expect("room");
    soon(producer.flush()).await.expect("stored");
    assert_eq!(number(&next(&mut consumer).await), 99);
}

async fn a_batch_that_no_message_holds_is_refused_before_anything_is_sent(on: Transport) {
    let server = on.server(ServerConfig::default()).await;
    let options = ClientOptions { message_bytes_max: 100_000, ..ClientOptions::default() };
    let client = Client::connect(&server.url(), options).await.expect("the server is there");
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    let error = producer.append(&numbered(0, 12_500), None, Bytes::new()).await.expect_err("100,000 bytes and a header");
    assert_eq!(error.code(), Code::MessageTooLarge);
    assert!(error.to_string().contains("100000"), "{error}");
    assert_eq!(client.describe_stream("s").await.expect_err("nothing was sent").code(), Code::StreamNotFound);
    producer.append(&numbered(0, 11_000), None, Bytes::new()).await.expect("fits");
    soon(producer.close()).await.expect("stored");
}

async fn what_the_coordinator_refuses_for_good_ends_the_producer_with_that_reason(on: Transport) {
    let server = on.server(ServerConfig { create_on_put: false, ..ServerConfig::default() }).await;
    let client = on.client(&server).await;
    let mut producer = client.producer("none", ProducerOptions::default()).expect("a producer");
    let appended = producer.append(&numbered(0, 1), None, Bytes::new()).await;
    assert!(appended.err().is_none_or(|error| error.code() == Code::StreamNotFound));
    assert_eq!(soon(producer.flush()).await.expect_err("no such stream").code(), Code::StreamNotFound);

    create(&client, "s", StreamOptions { max_buffered_bytes: Some(10_000), ..StreamOptions::default() }).await;
    let check = async |partition: Option<PartitionId>, rows: usize, code: Code| {
        let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
        // The refusal may come before this returns.
        let appended = producer.append(&numbered(0, rows), partition, Bytes::new()).await;
        assert!(appended.err().is_none_or(|error| error.code() == code));
        for _ in 0..2 {
            let error = soon(producer.flush()).await.expect_err("refused");
            assert_eq!((error.code(), error.stored()), (code, StoredState::No));
        }
        assert_eq!(producer.append(&numbered(1, 1), None, Bytes::new()).await.expect_err("ended").code(), code);
    };
    check(None, 5_000, Code::BatchTooLarge).await;
    check(Some(PartitionId(7)), 1, Code::PartitionOutOfRange).await;
    client.complete_stream("s").await.expect("completes");
    check(None, 1, Code::StreamCompleted).await;
}

async fn a_second_run_of_a_producer_fences_the_first(on: Transport) {
    let server = on.server(ServerConfig::default()).await;
    let client = on.client(&server).await;
    let options = || ProducerOptions { producer: Some("p".to_owned()), ..ProducerOptions::default() };
    let mut first = client.producer("s", options()).expect("a producer");
    first.append(&numbered(0, 1), None, Bytes::new()).await.expect("room");
    soon(first.flush()).await.expect("stored");
    let mut second = client.producer("s", options()).expect("a producer");
    second.append(&numbered(1, 1), None, Bytes::new()).await.expect("room");
    soon(second.flush()).await.expect("stored");
    let refused = async {
        loop {
            if let Err(error) = first.append(&numbered(2, 1), None, Bytes::new()).await {
                break error;
            }
            if let Err(error) = first.flush().await {
                break error;
            }
        }
    };
    assert_eq!(soon(refused).await.code(), Code::Fenced);
    soon(second.close()).await.expect("goes on");
}

async fn encoded_batches_pass_through_as_they_are(on: Transport) {
    let server = on.server(ServerConfig { max_buffered_batches: 1_000, ..ServerConfig::default() }).await;
    let client = on.client(&server).await;
    let schema = bowstring::wire::schema::StreamSchema::from_arrow(&numbered(0, 1).schema()).expect("encodable");
    let generator = arrow_ipc::writer::IpcDataGenerator::default();
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    for index in 0..10 {
        let options = arrow_ipc::writer::IpcWriteOptions::default();
        let mut tracker = arrow_ipc::writer::DictionaryTracker::new(false);
        let (_, data) = generator
            .encode(&numbered(index, 10), &mut tracker, &options, &mut arrow_ipc::writer::IpcWriteContext::default())
            .expect("encodable");
        let message = bowstring::wire::ipc::Message { header: data.ipc_message.into(), body: Bytes::from(data.arrow_data).into() };
        let dictionaries = bowstring::wire::dictionary::DictionarySet::empty();
        let batch = bowstring::wire::batch::EncodedBatch { message, dictionaries, schema: SchemaVersion(0), user: Bytes::new(), rows: 10 };
        producer.append_encoded(&schema, batch, None).await.expect("room");
    }
    let mixed = producer.append(&numbered(0, 1), None, Bytes::new()).await.expect_err("one or the other");
    assert_eq!(mixed.code(), Code::InvalidArgument);
    soon(producer.complete()).await.expect("stored");
    let mut consumer = client.consumer("s", ConsumerOptions::default()).await.expect("the stream is there");
    let delivered = soon(rest(&mut consumer)).await.expect("reads");
    assert_eq!(delivered.iter().map(number).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
}

async fn a_batch_for_partition_0_goes_there_also_as_the_first_of_its_writer(on: Transport) {
    let server = on.server(ServerConfig::default()).await;
    let client = on.client(&server).await;
    create(&client, "s", partitions(4)).await;
    for _ in 0..5 {
        let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
        producer.append(&numbered(0, 1), Some(PartitionId(0)), Bytes::new()).await.expect("room");
        soon(producer.close()).await.expect("stored");
    }
    let ends: Vec<_> = client.describe_stream("s").await.expect("is there").partitions.iter().map(|partition| partition.end).collect();
    assert_eq!(ends, [5, 0, 0, 0]);
}
