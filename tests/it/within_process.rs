//! Clients of a coordinator in their own process: no socket, and no copy on the way out.

use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use bowstring::client::{Client, ClientOptions, ConsumerOptions, ProducerOptions};
use bowstring::engine::Code;
use bowstring::server::{Server, ServerConfig};
use bytes::Bytes;

use super::client_support::{next, number, numbered, soon, subscribed};
use super::transport::Transport;

const ROWS: usize = 100_000;

async fn started(options: ClientOptions) -> (Server, Client) {
    let server = Transport::Process.server(ServerConfig::default()).await;
    let client = Client::within_process(&server.url(), server.service(), options).await.expect("is here");
    (server, client)
}

fn place(batch: &RecordBatch) -> *const i64 {
    batch.column(0).as_primitive::<Int64Type>().values().as_ptr()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_copied_once_on_its_way_in_and_shared_by_all_who_read_it() {
    let (server, client) = started(ClientOptions::default()).await;
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    let batch = numbered(7, ROWS);
    producer.append(&batch, None, Bytes::new()).await.expect("room");
    soon(producer.flush()).await.expect("stored");
    let (mut one, mut other) = (subscribed(&client, "s", "one").await, subscribed(&client, "s", "other").await);
    let (first, second) = (next(&mut one).await, next(&mut other).await);
    assert_eq!(first.batch, batch);
    assert_eq!(place(&first.batch), place(&second.batch), "the same memory");
    assert_ne!(place(&first.batch), place(&batch), "the producer may write its own again");
    assert_eq!(server.coordinator().connections().open(), 0);
    let large = server.coordinator().list()[0].describe().buffered_bytes;
    assert!(large >= 8 * ROWS as u64, "it counts as ever: {large}");
    // It is memory of its own, no part of anything larger.
    assert!(first.batch.column(0).get_buffer_memory_size() < 9 * ROWS);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_server_ends_its_clients_are_told_and_hold_nothing_of_it() {
    let (server, client) = started(ClientOptions { retry_deadline: Duration::from_millis(300), ..ClientOptions::default() }).await;
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    producer.append(&numbered(0, ROWS), None, Bytes::new()).await.expect("room");
    soon(producer.flush()).await.expect("stored");
    let mut consumer = subscribed(&client, "s", "a").await;
    let delivered = next(&mut consumer).await;
    let coordinator = std::sync::Arc::downgrade(server.coordinator());
    server.shutdown(Duration::from_secs(5)).await;
    drop(server);
    for error in [
        soon(consumer.next(None)).await.expect_err("has ended"),
        soon(client.describe_stream("s")).await.expect_err("has ended"),
        soon(producer.flush()).await.err().unwrap_or(soon(client.list_streams()).await.expect_err("has ended")),
    ] {
        assert!(matches!(error.code(), Code::Unavailable | Code::ShuttingDown), "{error}");
    }
    assert_eq!(number(&delivered), 0);
    super::server_support::until("nobody holds it", async || coordinator.strong_count() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stands_still_holds_nothing_of_a_server_that_has_ended() {
    let (server, client) = started(ClientOptions { retry_deadline: Duration::from_millis(300), ..ClientOptions::default() }).await;
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    for index in 0..50 {
        producer.append(&numbered(index, ROWS), None, Bytes::new()).await.expect("room");
    }
    soon(producer.flush()).await.expect("stored");
    let options = ConsumerOptions { prefetch_batches: 2, ..ConsumerOptions::default() };
    let mut consumer = client.consumer("s", options).await.expect("the stream is there");
    assert_eq!(number(&next(&mut consumer).await), 0);
    let delivered = async || client.stats(Some("s")).await.expect("answers").streams[0].delivered_batches;
    super::server_support::until("it reads ahead", async || delivered().await >= 3).await;
    let coordinator = std::sync::Arc::downgrade(server.coordinator());
    server.shutdown(Duration::from_secs(5)).await;
    drop(server);
    super::server_support::until("nobody holds it", async || coordinator.strong_count() == 0).await;
    // What it has read ahead is its own.
    assert_eq!(number(&next(&mut consumer).await), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_is_started_anew_where_it_was_is_found_by_a_socket() {
    let (first, client) = started(ClientOptions::default()).await;
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    producer.append(&numbered(0, 1), None, Bytes::new()).await.expect("room");
    soon(producer.flush()).await.expect("stored");
    let listen = first.listen_addr();
    first.shutdown(Duration::from_secs(5)).await;
    drop(first);
    let second = Server::start(ServerConfig { listen, http: None, ..ServerConfig::default() }).await.expect("the port is free again");
    assert!(soon(client.list_streams()).await.expect("answers").is_empty());
    let mut producer = client.producer("another", ProducerOptions::default()).expect("a producer");
    producer.append(&numbered(5, ROWS), None, Bytes::new()).await.expect("room");
    soon(producer.flush()).await.expect("stored");
    assert_eq!(number(&next(&mut subscribed(&client, "another", "a").await).await), 5);
    assert!(second.coordinator().connections().open() > 0);
}
