//! A request that is an epoch of its producer is taken once, however often it is sent.

use bowstring::engine::{Limits, StreamOptions, Visibility};
use bowstring::server::{Server, ServerConfig};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::super::server_support::{channel, start, stop, until};
use super::{Answer, LINES, all, ask, config, create, rows, taking};

async fn send(server: &Server, stream: &str, producer: &str, epoch: u64, body: &str) -> Answer {
    let epoch = epoch.to_string();
    let headers = [("Content-Type", LINES), ("Bowstring-Producer", producer), ("Bowstring-Epoch", &epoch)];
    ask(server, "POST", &format!("/streams/{stream}/rows"), &headers, body.as_bytes()).await
}

fn taken(rows: u64, rejected: u64) -> Value {
    json!({"rows": rows, "rejected": rejected})
}

fn duplicate() -> Value {
    json!({"rows": 0, "rejected": 0, "duplicate": true})
}

#[tokio::test]
async fn an_epoch_that_is_sent_again_changes_nothing() {
    let (server, channel) = taking(json!({})).await;
    let body = "{\"user\": 1}\n{}\n{\"user\": 2}";
    assert_eq!(send(&server, "clicks", "a", 7, body).await.json, taken(2, 1));
    for epoch in [7, 7, 3] {
        let again = send(&server, "clicks", "a", epoch, body).await;
        assert_eq!((again.status, again.json), (200, duplicate()), "{epoch}");
    }
    assert_eq!((all(&channel, "clicks").await.len(), all(&channel, "clicks.bad").await.len()), (1, 1));
    // Another producer's epochs are its own, and so are those without good rows, or without any.
    assert_eq!(send(&server, "clicks", "b", 7, body).await.json, taken(2, 1));
    assert_eq!(send(&server, "clicks", "a", 8, "{}").await.json, taken(0, 1));
    assert_eq!(send(&server, "clicks", "a", 8, "{}").await.json, duplicate());
    assert_eq!(send(&server, "clicks", "a", 9, "").await.json, taken(0, 0));
    assert_eq!(send(&server, "clicks", "a", 9, "{\"user\": 3}").await.json, duplicate());
    assert_eq!((all(&channel, "clicks").await.len(), all(&channel, "clicks.bad").await.len()), (2, 3));
    stop(server).await;
}

#[tokio::test]
async fn bad_rows_of_several_streams_may_go_to_one() {
    let declared = json!({"format": "json", "rejected_to": "bad"});
    let server = start(config(&json!({"s": declared, "t": declared}))).await;
    let channel = channel(server.listen_addr()).await;
    for stream in ["s", "t"] {
        create(&server, stream, StreamOptions::default());
        assert_eq!(send(&server, stream, "a", 1, "{}").await.json, taken(0, 1));
        assert_eq!(send(&server, stream, "a", 1, "{}").await.json, duplicate());
    }
    assert_eq!(rows(&channel, "bad").await.len(), 2);
    stop(server).await;
}

#[tokio::test]
async fn what_was_refused_can_be_sent_again_in_the_same_epoch() {
    let (server, channel) = taking(json!({ "rejected_to": null })).await;
    assert_eq!(send(&server, "clicks", "a", 1, "{\"user\": 1}\n{}").await.refusal(), (422, "invalid_argument"));
    assert_eq!(send(&server, "clicks", "a", 1, "{\"user\": 1}").await.json, taken(1, 0));
    assert_eq!(rows(&channel, "clicks").await, [json!({"user": 1})]);
    let view = server.coordinator().list()[0].describe();
    assert!(view.producers.iter().all(|producer| producer.epochs.is_empty()), "nothing is left open: {view:?}");
    stop(server).await;
}

#[tokio::test]
async fn an_epoch_is_told_from_a_restart_and_rows_are_there_after_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let declared = || ServerConfig {
        data_dir: Some(folder.path().to_owned()),
        ..config(&json!({"clicks": {"format": "json", "rejected_to": "clicks.bad"}}))
    };
    let server = start(declared()).await;
    create(&server, "clicks", StreamOptions::default());
    let body = "{\"user\": 1}\n{}";
    assert_eq!(send(&server, "clicks", "a", 1, body).await.json, taken(1, 1));
    assert_eq!(super::post(&server, "clicks", LINES, "{\"user\": 2}").await.json, taken(1, 0));
    stop(server).await;
    let server = start(declared()).await;
    let channel = channel(server.listen_addr()).await;
    assert_eq!(send(&server, "clicks", "a", 1, body).await.json, duplicate());
    assert_eq!(send(&server, "clicks", "a", 2, body).await.json, taken(1, 1));
    let found = rows(&channel, "clicks").await;
    assert_eq!(found, [json!({"user": 1}), json!({"user": 2}), json!({"user": 1})]);
    assert_eq!(rows(&channel, "clicks.bad").await.len(), 2);
    stop(server).await;
}

#[tokio::test]
async fn requests_of_one_producer_do_not_overlap_and_one_whose_client_went_away_leaves_nothing() {
    let server = start(config(&json!({"s": {"format": "json"}}))).await;
    let limits = Limits { max_buffered_batches: 1, ..Limits::default() };
    create(&server, "s", StreamOptions { limits, ..StreamOptions::default() });
    assert_eq!(super::post(&server, "s", LINES, "{\"user\": 1}").await.json, taken(1, 0));
    let cell = server.coordinator().list().remove(0);
    let mut waiting = TcpStream::connect(server.http_addr().expect("is on")).await.expect("listens");
    let head = "POST /streams/s/rows HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\nContent-Length: 11";
    let request = format!("{head}\r\nBowstring-Producer: a\r\nBowstring-Epoch: 1\r\n\r\n{{\"user\": 2}}");
    waiting.write_all(request.as_bytes()).await.expect("sends");
    until("it waits for room", async || cell.totals().waiting == 1).await;
    let other = send(&server, "s", "a", 2, "{\"user\": 3}").await;
    assert_eq!((other.refusal(), other.header("retry-after")), ((409, "appender_not_ready"), "1"));
    drop(waiting);
    until("nobody waits", async || cell.totals().waiting == 0).await;
    until("no epoch is open", async || cell.describe().producers.iter().all(|producer| producer.epochs.is_empty())).await;
    // The turn is free again, and the epoch too: it has no good rows now, which need no room.
    assert_eq!(send(&server, "s", "a", 1, "").await.json, taken(0, 0));
    stop(server).await;
}

#[tokio::test]
async fn epochs_that_cannot_be_kept_are_refused() {
    let (server, channel) = taking(json!({})).await;
    for headers in
        [&[("Bowstring-Epoch", "1")][..], &[("Bowstring-Producer", "a")], &[("Bowstring-Producer", "a"), ("Bowstring-Epoch", "x")]]
    {
        let headers = [&[("Content-Type", LINES)][..], headers].concat();
        let refused = ask(&server, "POST", "/streams/clicks/rows", &headers, b"{\"user\": 1}").await;
        assert_eq!(refused.refusal(), (400, "invalid_argument"), "{headers:?}");
    }
    assert!(all(&channel, "clicks").await.is_empty());
    stop(server).await;
    let server = start(config(&json!({"s": {"format": "json"}}))).await;
    create(&server, "s", StreamOptions { visibility: Visibility::Immediate, ..StreamOptions::default() });
    let refused = send(&server, "s", "a", 1, "{\"user\": 1}").await;
    assert_eq!(refused.refusal(), (400, "invalid_argument"));
    assert!(refused.says("immediate"), "{}", refused.json);
    stop(server).await;
}
