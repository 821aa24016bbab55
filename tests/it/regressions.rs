//! What peers were seen to get wrong, and no other file here shows: docs/regressions.md has the whole list.

use std::time::Duration;

use bowstring::client::{Client, ClientOptions, Consumer, Producer, ProducerOptions};
use bowstring::server::Server;
use bowstring::wire::proto::StreamOptions;
use bytes::Bytes;

use super::client_support::{create, next, number, numbered, server, soon, subscribed};

/// A stream that is full with batch 0, a producer with this deadline, and a consumer that has read the batch. Their client gives
/// a connection without a sign of life up after 200 ms.
async fn full(append_timeout: Option<Duration>) -> (Server, Producer, Consumer) {
    let server = server().await;
    let short = Duration::from_millis(200);
    let options = ClientOptions { ping_timeout: short, retry_deadline: short, local_socket: false, ..ClientOptions::default() };
    let client = Client::connect(&server.url(), options).await.expect("the server is there");
    create(&client, "s", StreamOptions { max_buffered_batches: Some(1), ..StreamOptions::default() }).await;
    let mut consumer = subscribed(&client, "s", "a").await;
    let mut producer = client.producer("s", ProducerOptions { append_timeout, ..ProducerOptions::default() }).expect("a producer");
    append(&mut producer, 0).await;
    soon(producer.flush()).await.expect("stored");
    assert_eq!(number(&next(&mut consumer).await), 0);
    (server, producer, consumer)
}

async fn append(producer: &mut Producer, number: i64) {
    soon(producer.append(&numbered(number, 1), None, Bytes::new())).await.expect("room in the window");
}

/// Acks batch 0, and reads what has waited for its room.
async fn make_room(consumer: &mut Consumer) -> i64 {
    consumer.ack(bowstring::engine::PartitionId(0), bowstring::engine::Offset(1)).expect("an offset");
    number(&next(consumer).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_room_is_not_taken_for_a_coordinator_that_does_not_answer() {
    let (_server, mut producer, mut consumer) = full(None).await;
    append(&mut producer, 1).await;
    let waited = tokio::time::timeout(Duration::from_millis(1_500), producer.flush()).await;
    assert!(waited.is_err(), "seven times as long as a silent coordinator has: {waited:?}");
    assert_eq!(make_room(&mut consumer).await, 1);
    soon(producer.flush()).await.expect("stored");
    assert_eq!(producer.stored(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_of_an_append_does_not_run_while_there_is_nothing_to_append() {
    let deadline = Duration::from_secs(2);
    let (_server, mut producer, mut consumer) = full(Some(deadline)).await;
    tokio::time::sleep(deadline + Duration::from_millis(200)).await;
    append(&mut producer, 1).await;
    let waited = tokio::time::timeout(Duration::from_millis(500), producer.flush()).await;
    assert!(waited.is_err(), "it has its own two seconds: {waited:?}");
    assert_eq!(make_room(&mut consumer).await, 1);
    soon(producer.flush()).await.expect("stored");
}
