//! Versions survive a restart, in memory, in the spool, in the log and in epochs.

use std::time::Duration;

use arrow_ipc::reader::StreamReader;
use bowstring::client::{Client, ConsumerOptions, ProducerRun, WriterId, WriterOptions};
use bowstring::engine::{Attempt, Code, Epoch, Task};
use bowstring::server::{Server, ServerConfig};
use bowstring::wire::proto::SchemaPolicy::Widening;
use bowstring::wire::proto::{Receipt, StreamOptions};
use bytes::Bytes;
use tempfile::TempDir;

use super::super::client_support::{connect, create, rest, server_with, soon, subscribed};
use super::super::durable_support::files;
use super::{append, batch, columns, ints, long, longs, nulls, policy, stream, texts, try_append};

async fn start(dir: &TempDir) -> (Server, Client) {
    let server = server_with(ServerConfig { data_dir: Some(dir.path().to_owned()), ..ServerConfig::default() }).await;
    let client = connect(&server.url()).await;
    (server, client)
}

async fn restart(server: Server, dir: &TempDir) -> (Server, Client) {
    server.shutdown(Duration::from_secs(5)).await;
    drop(server);
    start(dir).await
}

async fn all(client: &Client) -> Vec<(u64, Vec<i64>, usize)> {
    let options = ConsumerOptions { follow: false, ..ConsumerOptions::default() };
    let mut consumer = client.consumer("s", options).await.expect("is there");
    let found = soon(rest(&mut consumer)).await.expect("is read");
    found.iter().map(|one| (one.offset.0, long(&one.batch, "a"), nulls(&one.batch, "t"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_of_several_versions_are_there_after_restarts() {
    let dir = tempfile::tempdir().expect("a folder");
    let (server, client) = start(&dir).await;
    stream(&client, Widening).await;
    // Somebody who acks nothing.
    drop(subscribed(&client, "s", "c").await);
    append(&client, &[batch(&[("a", ints([0]))]), batch(&[("a", ints([1]))])]).await;
    append(&client, &[batch(&[("a", longs([1 << 40]))])]).await;
    append(&client, &[batch(&[("t", texts(&["x"])), ("a", ints([3]))])]).await;
    append(&client, &[batch(&[("a", ints([4]))])]).await;
    let mut expected = vec![(0, vec![0], 1), (1, vec![1], 1), (2, vec![1 << 40], 1), (3, vec![3], 0), (4, vec![4], 1)];
    assert_eq!(all(&client).await, expected);
    let (server, client) = restart(server, &dir).await;
    assert_eq!(all(&client).await, expected);
    let found = client.describe_stream("s").await.expect("is there");
    assert_eq!((found.schema_versions, found.options.expect("are there").schema_policy()), (3, Widening));
    let error = try_append(&client, &[batch(&[("a", texts(&["no number"]))])]).await.expect_err("does not fit");
    assert_eq!(error.code(), Code::SchemaMismatch);
    append(&client, &[batch(&[("a", longs([5]))])]).await;
    append(&client, &[batch(&[("u", ints([1])), ("a", longs([6]))])]).await;
    expected.extend([(5, vec![5], 1), (6, vec![6], 1)]);
    let (_server, client) = restart(server, &dir).await;
    assert_eq!(all(&client).await, expected);
    assert_eq!(client.describe_stream("s").await.expect("is there").schema_versions, 4);
    let segments = files(dir.path(), "arrows");
    assert_eq!(segments.len(), 6, "one for each run, and after each restart another");
    for segment in segments {
        let file = std::io::BufReader::new(std::fs::File::open(segment).expect("is there"));
        let batches: Result<Vec<_>, _> = StreamReader::try_new(file, None).expect("an Arrow stream").collect();
        assert!(!batches.expect("of one schema").is_empty());
    }
}

/// Two tasks of an epoch have staged two batches each, the second one's without a column and with a wider one.
async fn staged(client: &Client) -> (ProducerRun, Vec<Receipt>) {
    let run = ProducerRun { producer: "p".to_owned(), run: "r".to_owned() };
    let mut receipts = Vec::new();
    for (task, one) in [(0, batch(&[("a", ints([1])), ("t", texts(&["x"]))])), (1, batch(&[("a", longs([2]))]))] {
        let id = WriterId { producer: "p".to_owned(), run: "r".to_owned(), epoch: Epoch(0), task: Task(task), attempt: Attempt(0) };
        let mut writer = client.writer("s", id, WriterOptions::default()).expect("a writer");
        for _ in 0..2 {
            soon(writer.append(&one, None, Bytes::new())).await.expect("room");
        }
        receipts.extend(soon(writer.finish()).await.expect("staged"));
    }
    (run, receipts)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epochs_tasks_may_bring_versions_of_their_own() {
    let dir = tempfile::tempdir().expect("a folder");
    let (server, client) = start(&dir).await;
    stream(&client, Widening).await;
    drop(subscribed(&client, "s", "c").await);
    let (run, receipts) = staged(&client).await;
    client.commit_epoch("s", &run, Epoch(0), receipts).await.expect("is whole");
    let expected = vec![(0, vec![1], 0), (1, vec![1], 0), (2, vec![2], 1), (3, vec![2], 1)];
    assert_eq!(all(&client).await, expected);
    let (_server, client) = restart(server, &dir).await;
    assert_eq!(all(&client).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_spooled_keeps_its_version() {
    let server = server_with(ServerConfig::default()).await;
    let client = connect(&server.url()).await;
    create(&client, "s", StreamOptions { max_buffered_batches: Some(1), ..policy(Widening) }).await;
    let (run, receipts) = staged(&client).await;
    assert!(client.describe_stream("s").await.expect("is there").spooled_batches >= 3);
    client.commit_epoch("s", &run, Epoch(0), receipts).await.expect("is whole");
    assert_eq!(all(&client).await, [(0, vec![1], 0), (1, vec![1], 0), (2, vec![2], 1), (3, vec![2], 1)]);
    let options = ConsumerOptions { follow: false, ..ConsumerOptions::default() };
    let mut consumer = client.consumer("s", options).await.expect("is there");
    let found = soon(rest(&mut consumer)).await.expect("is read");
    assert!(found.iter().all(|one| columns(&one.batch) == columns(&found[0].batch)));
}
