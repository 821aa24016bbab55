//! bowstring's own clients with the least that they need, and with tokens that change.

use std::sync::Arc;
use std::time::Duration;

use bowstring::client::{Client, ConsumerOptions, ProducerOptions, TokenSource, WriterId, WriterOptions};
use bowstring::engine::{Attempt, Code, Epoch, Task};
use bowstring::server::{AuthConfig, ServerConfig};
use bytes::Bytes;
use parking_lot::Mutex;

use super::super::client_support::{PATIENCE, number, numbered, subscribed};
use super::super::server_support::{start, stop};
use super::{Tokens, connect_as, function, options};

#[tokio::test]
async fn a_producer_needs_append_alone_and_a_consumer_read_alone() {
    let (tokens, _) = Tokens::new();
    let (append, read) = (tokens.issue("producer", &["append:s"]), tokens.issue("consumer", &["read:s"]));
    let server = tokens.server().await;
    let (producing, consuming) = (connect_as(&server, &append).await, connect_as(&server, &read).await);
    let mut producer =
        producing.producer("s", ProducerOptions { keep_alive: Some(Duration::from_secs(60)), ..Default::default() }).unwrap();
    producer.append(&numbered(0, 1), None, Bytes::new()).await.unwrap();
    producer.flush().await.unwrap();
    let mut consumer = subscribed(&consuming, "s", "a").await;
    let got = consumer.next(None).await.unwrap().unwrap();
    assert_eq!(number(&got), 0);
    consumer.ack(got.partition, got.offset).unwrap();
    let epoch = WriterId { producer: "spark".into(), run: "r".into(), epoch: Epoch(0), task: Task(0), attempt: Attempt(0) };
    let mut writer = producing.writer("s", epoch, WriterOptions::default()).unwrap();
    writer.append(&numbered(1, 1), None, Bytes::new()).await.unwrap();
    let receipt = writer.finish().await.unwrap();
    let run = bowstring::client::ProducerRun { producer: "spark".into(), run: "r".into() };
    producing.commit_epoch("s", &run, Epoch(0), vec![receipt.expect("it has written")]).await.unwrap();
    assert_eq!(number(&consumer.next(None).await.unwrap().unwrap()), 1);
    // What the other has is not theirs.
    let refused = producing.consumer("s", ConsumerOptions { subscription: Some("b".into()), ..Default::default() }).await;
    assert_eq!(refused.err().map(|error| error.code()), Some(Code::PermissionDenied));
    let mut other = consuming.producer("s", ProducerOptions::default()).unwrap();
    let appended = match other.append(&numbered(2, 1), None, Bytes::new()).await {
        Ok(()) => other.flush().await,
        refused => refused,
    };
    assert_eq!(appended.expect_err("may not").code(), Code::PermissionDenied);
    stop(server).await;
}

#[tokio::test]
async fn a_client_goes_on_with_the_newest_token_while_its_streams_run() {
    let (tokens, _) = Tokens::new();
    let permissions = ["append:s", "read:s"];
    let server = tokens.server().await;
    let file = tokens.folder.path().join("token");
    std::fs::write(&file, tokens.issue("old", &permissions).reveal()).unwrap();
    let cell = Arc::new(Mutex::new(tokens.issue("old", &permissions)));
    let file_client = Client::connect(&server.url(), options(TokenSource::File(file.clone()))).await;
    let function_client = Client::connect(&server.url(), options(function(&cell))).await.unwrap();
    // They are known within a second.
    let file_client = file_client.unwrap();
    wait_until_known(&file_client).await;
    let mut producer = file_client.producer("s", ProducerOptions::default()).unwrap();
    producer.append(&numbered(0, 1), None, Bytes::new()).await.unwrap();
    producer.flush().await.unwrap();
    let mut consumer = subscribed(&function_client, "s", "a").await;
    assert_eq!(number(&consumer.next(None).await.unwrap().unwrap()), 0);
    let (next, other) = (tokens.issue("new", &permissions), tokens.issue("new", &permissions));
    let before = cell.lock().clone();
    let (newest, old) = (connect_as(&server, &next).await, connect_as(&server, &before).await);
    wait_until_known(&newest).await;
    std::fs::write(&file, next.reveal()).unwrap();
    *cell.lock() = other;
    tokens.revoke("old");
    let refused = async {
        while old.list_streams().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.unwrap();
    for value in 1..20 {
        producer.append(&numbered(value, 1), None, Bytes::new()).await.unwrap();
    }
    tokio::time::timeout(PATIENCE, producer.flush()).await.unwrap().unwrap();
    for value in 1..20 {
        let got = tokio::time::timeout(PATIENCE, consumer.next(None)).await.unwrap().unwrap().unwrap();
        assert_eq!(number(&got), value);
        consumer.ack(got.partition, got.offset).unwrap();
    }
    stop(server).await;
}

/// The server looks at its file every second.
async fn wait_until_known(client: &Client) {
    let known = async {
        while client.list_streams().await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, known).await.unwrap();
}

#[tokio::test]
async fn a_client_in_the_process_needs_no_token_and_one_that_is_given_counts() {
    let (tokens, _) = Tokens::new();
    let weak = tokens.issue("weak", &["peek:other"]);
    let server = tokens.server().await;
    let within = async |token| Client::within_process(&server.url(), server.service(), options(token)).await.unwrap();
    let own = within(TokenSource::None).await;
    let mut producer = own.producer("s", ProducerOptions::default()).unwrap();
    producer.append(&numbered(0, 1), None, Bytes::new()).await.unwrap();
    producer.flush().await.unwrap();
    assert_eq!(own.list_streams().await.unwrap().len(), 1);
    let weak = within(TokenSource::Fixed(weak)).await;
    assert_eq!(weak.list_streams().await.unwrap().len(), 0);
    assert_eq!(weak.describe_stream("s").await.unwrap_err().code(), Code::PermissionDenied);
    stop(server).await;
}

#[tokio::test]
async fn a_server_whose_access_cannot_be_controlled_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let missing = AuthConfig { tokens: Some(folder.path().join("tokens.json")), ..AuthConfig::default() };
    let config = ServerConfig { listen: ([127, 0, 0, 1], 0).into(), http: None, auth: missing, ..ServerConfig::default() };
    let error = bowstring::server::Server::start(config).await.expect_err("no file").to_string();
    assert!(error.contains("tokens.json") && error.contains("bowstring token issue"), "{error}");
    let (tokens, operator) = Tokens::new();
    let server = start(tokens.config()).await;
    let good = std::fs::read(tokens.path()).unwrap();
    std::fs::write(tokens.path(), "no tokens").unwrap();
    // What is asked after it was looked at: a second and more.
    for _ in 0..30 {
        assert!(connect_as(&server, &operator).await.list_streams().await.is_ok(), "those of before still count");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    std::fs::write(tokens.path(), good).unwrap();
    let newest = tokens.issue("newest", &["read:*"]);
    wait_until_known(&connect_as(&server, &newest).await).await;
    stop(server).await;
}
