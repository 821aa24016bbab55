//! What is too much, too slow, or has no room: refused, with when to come again; nothing is lost and nothing half taken.

use bowstring::engine::{Limits, StreamOptions};
use bowstring::server::{Server, ServerConfig};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::server_support::{act, channel, soon, start, stop};
use super::{JSON, LINES, all, ask, config, create, post, rows, taking};

/// Sends this, and nothing more; what is answered.
async fn raw(server: &Server, request: &[u8]) -> String {
    let mut connection = TcpStream::connect(server.http_addr().expect("is on")).await.expect("listens");
    connection.write_all(request).await.expect("sends");
    let mut answer = String::new();
    soon(connection.read_to_string(&mut answer)).await.expect("answers");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_refused_however_its_length_is_said() {
    let (server, channel) = taking(json!({})).await;
    let row = br#"{"user": 1}"#;
    let full = [row.as_slice(), &vec![b' '; (16 << 20) - row.len()]].concat();
    assert_eq!(post(&server, "clicks", JSON, &full).await.json, json!({"rows": 1, "rejected": 0}));
    let more = [full, b" ".to_vec()].concat();
    let refused = post(&server, "clicks", JSON, &more).await;
    assert_eq!(refused.refusal(), (413, "message_too_large"));
    let head = "POST /streams/clicks/rows HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n";
    let chunked = [format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", more.len()).as_bytes(), &more, b"\r\n0\r\n\r\n"].concat();
    assert!(raw(&server, &chunked).await.starts_with("HTTP/1.1 413"));
    // Who asks first is told before it sends any.
    let asking = format!("{head}Content-Length: {}\r\nExpect: 100-continue\r\n\r\n", more.len());
    assert!(raw(&server, asking.as_bytes()).await.starts_with("HTTP/1.1 413"));
    let asking = format!("{head}Content-Length: 11\r\nExpect: 100-continue\r\n\r\n");
    assert!(raw(&server, &[asking.as_bytes(), row].concat()).await.contains("200 OK"));
    assert_eq!(rows(&channel, "clicks").await.len(), 2);
    stop(server).await;
}

#[tokio::test]
async fn rows_that_would_fill_the_memory_are_refused() {
    let (server, channel) = taking(json!({})).await;
    let refused = post(&server, "clicks", LINES, "1\n".repeat((1 << 20) + 1)).await;
    assert_eq!(refused.refusal(), (413, "message_too_large"));
    assert!(refused.says("several requests"), "{}", refused.json);
    assert!(all(&channel, "clicks").await.is_empty() && server.coordinator().list().len() == 1);
    stop(server).await;
}

#[tokio::test]
async fn compressed_bodies_and_those_of_another_format_are_refused() {
    let (server, channel) = taking(json!({})).await;
    let headers = [("Content-Type", JSON), ("Content-Encoding", "gzip")];
    let refused = ask(&server, "POST", "/streams/clicks/rows", &headers, b"{\"user\": 1}").await;
    assert_eq!(refused.refusal(), (415, "invalid_argument"));
    for kind in ["application/avro", "application/x-protobuf", "text/json", "application/json; charset=latin1"] {
        let refused = post(&server, "clicks", kind, "{\"user\": 1}").await;
        assert_eq!(refused.refusal(), (415, "invalid_argument"), "{kind}");
    }
    assert!(all(&channel, "clicks").await.is_empty());
    stop(server).await;
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_taken() {
    let (server, channel) = taking(json!({})).await;
    let mut connection = TcpStream::connect(server.http_addr().expect("is on")).await.expect("listens");
    let head = "POST /streams/clicks/rows HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\nContent-Length: 24\r\n\r\n";
    connection.write_all(format!("{head}{{\"user\": 1}}\n").as_bytes()).await.expect("sends");
    connection.shutdown().await.expect("ends");
    let mut answer = Vec::new();
    drop(soon(connection.read_to_end(&mut answer)).await);
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    assert!(all(&channel, "clicks").await.is_empty());
    stop(server).await;
}

#[tokio::test]
async fn rows_wait_for_room_then_the_client_is_told_to_come_again_and_nothing_is_lost() {
    let server =
        start(ServerConfig { append_timeout_ms: Some(100), ..config(&json!({"s": {"format": "json", "rejected_to": "bad"}})) }).await;
    let channel = channel(server.listen_addr()).await;
    let limits = Limits { max_buffered_batches: 1, ..Limits::default() };
    create(&server, "s", StreamOptions { limits, ..StreamOptions::default() });
    act(&channel, "subscribe", json!({"stream": "s", "subscription": "reader"}).to_string()).await.expect("subscribes");
    assert_eq!(post(&server, "s", LINES, "{\"user\": 1}").await.status, 200);
    let once = [("Content-Type", LINES), ("Bowstring-Producer", "a"), ("Bowstring-Epoch", "1")];
    let send = async || ask(&server, "POST", "/streams/s/rows", &once, b"{\"user\": 2}\n{}").await;
    for refused in [post(&server, "s", LINES, "{\"user\": 3}").await, send().await, send().await] {
        assert_eq!((refused.refusal(), refused.header("retry-after")), ((503, "timeout"), "1"));
    }
    assert_eq!(all(&channel, "s").await.len(), 1);
    let ack = json!({"stream": "s", "subscription": "reader", "offsets": {"0": 1}});
    act(&channel, "ack", ack.to_string()).await.expect("acks");
    assert_eq!(send().await.json, json!({"rows": 1, "rejected": 1}));
    assert_eq!(send().await.json["duplicate"], true);
    assert_eq!(rows(&channel, "s").await, [json!({"user": 2})]);
    assert_eq!(rows(&channel, "bad").await.len(), 1, "the bad row came with the first try, and not again");
    stop(server).await;
}

#[tokio::test]
async fn a_coordinator_that_shuts_down_takes_no_more_rows() {
    let (server, _channel) = taking(json!({})).await;
    server.coordinator().shut_down();
    let refused = post(&server, "clicks", LINES, "{\"user\": 1}").await;
    assert_eq!((refused.refusal(), refused.header("retry-after")), ((503, "shutting_down"), "1"));
    stop(server).await;
}
