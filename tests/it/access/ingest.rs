//! Rows over HTTP are taken from those who may append, within their quotas, and each decision is written down.

use arrow_schema::{DataType, Field, Schema};
use bowstring::engine::{StreamName, StreamOptions};
use bowstring::server::{AuditConfig, QuotaConfig, Server, ServerConfig};
use bowstring::wire::schema::StreamSchema;
use bowstring::wire::secret::Secret;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::ingest::{Answer, ask, config};
use super::super::server_support::{soon, start, stop};
use super::Tokens;

/// A server whose stream `s` takes rows, and the bad ones to `bad`.
async fn server(tokens: &Tokens, change: impl FnOnce(&mut ServerConfig)) -> Server {
    let declared = json!({"s": {"format": "json", "rejected_to": "bad"}, "t": {"format": "json"}});
    let mut config = ServerConfig { auth: tokens.config().auth, ..config(&declared) };
    change(&mut config);
    let server = start(config).await;
    let schema = StreamSchema::from_arrow(&Schema::new(vec![Field::new("n", DataType::Int64, false)])).unwrap();
    for stream in ["s", "t"] {
        server.coordinator().create(&StreamName::new(stream).unwrap(), StreamOptions::default(), Some(&schema), false).unwrap();
    }
    server
}

async fn post_as(server: &Server, token: Option<&Secret>, stream: &str, body: &str) -> Answer {
    let bearer = token.map(|token| format!("Bearer {}", token.reveal()));
    let headers: Vec<_> =
        [("Content-Type", "application/x-ndjson")].into_iter().chain(bearer.as_deref().map(|bearer| ("Authorization", bearer))).collect();
    ask(server, "POST", &format!("/streams/{stream}/rows"), &headers, body.as_bytes()).await
}

#[tokio::test]
async fn only_who_may_append_to_both_streams_sends_rows_and_each_decision_is_a_line() {
    let (tokens, operator) = Tokens::new();
    let log = tokens.folder.path().join("audit.log");
    let [both, one, reader] = [("both", &["append:s", "append:bad"][..]), ("one", &["append:s", "append:t"]), ("reader", &["read:*"])]
        .map(|(name, permissions)| tokens.issue(name, permissions));
    let server = server(&tokens, |config| config.audit = AuditConfig { file: Some(log.clone()) }).await;
    let rows = "{\"n\": 1}\n{}";
    let unknown = post_as(&server, None, "s", rows).await;
    assert_eq!(unknown.refusal(), (401, "unauthenticated"));
    assert!(unknown.head.to_lowercase().contains("www-authenticate: bearer"), "{}", unknown.head);
    assert_eq!(post_as(&server, Some(&Secret::new("bst_nobody")), "s", rows).await.refusal(), (401, "unauthenticated"));
    for (token, stream) in [(&reader, "s"), (&one, "s"), (&both, "t"), (&one, "nosuch")] {
        assert_eq!(post_as(&server, Some(token), stream, "{\"n\": 1}").await.refusal(), (403, "permission_denied"), "{stream}");
    }
    assert_eq!(server.coordinator().list().iter().map(|cell| cell.totals().batches).sum::<u64>(), 0);
    assert_eq!(post_as(&server, Some(&both), "s", rows).await.json, json!({"rows": 1, "rejected": 1}));
    assert_eq!(post_as(&server, Some(&one), "t", "{\"n\": 1}").await.json, json!({"rows": 1, "rejected": 0}));
    assert_eq!(post_as(&server, Some(&operator), "nosuch", rows).await.refusal(), (404, "stream_not_found"));
    stop(server).await;
    let lines: Vec<Value> = std::fs::read_to_string(&log).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |principal: Value, stream: &str| -> Vec<bool> {
        let found = lines.iter().filter(|line| line["principal"] == principal && line["stream"] == stream);
        found.map(|line| line["allowed"].as_bool().unwrap()).collect()
    };
    assert_eq!((of("both".into(), "s"), of("both".into(), "bad"), of("both".into(), "t")), (vec![true], vec![true], vec![false]));
    assert_eq!((of("one".into(), "bad"), of("one".into(), "t"), of("reader".into(), "s")), (vec![false], vec![true], vec![false]));
    assert_eq!(of(Value::Null, "").len(), 2, "{lines:?}");
}

#[tokio::test]
async fn quotas_of_memory_streams_and_connections_hold_for_rows_over_http() {
    let (tokens, _operator) = Tokens::new();
    let noisy = tokens.issue("noisy", &["append:*"]);
    let quota = QuotaConfig { streams: Some(1), buffered_bytes: Some(1 << 20), connections: Some(1), ..QuotaConfig::default() };
    let server = server(&tokens, |config| {
        config.append_timeout_ms = Some(100);
        config.auth.quotas.principals.insert("noisy".to_owned(), quota);
    })
    .await;
    let post = async |body: &str| post_as(&server, Some(&noisy), "s", body).await;
    assert_eq!(post("{}").await.json, json!({"rows": 0, "rejected": 1}), "the stream of the bad rows is its own");
    let rows = "{\"n\": 1}\n".repeat(20_000);
    let mut refused = post(&rows).await;
    while refused.status == 200 {
        refused = post(&rows).await;
    }
    assert_eq!(refused.refusal(), (503, "buffer_full"));
    assert!(refused.json["error"]["message"].as_str().unwrap().contains("auth.quotas.buffered_bytes"), "{}", refused.json);
    assert_eq!(post(&rows.repeat(10)).await.refusal(), (413, "batch_too_large"));

    // A connection that goes on counts until it is closed.
    let mut held = TcpStream::connect(server.http_addr().unwrap()).await.unwrap();
    let head = format!("POST /streams/s/rows HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n", noisy.reveal());
    held.write_all(format!("{head}Content-Type: text/plain\r\nContent-Length: 0\r\n\r\n").as_bytes()).await.unwrap();
    let mut some = [0; 12];
    soon(held.read_exact(&mut some)).await.unwrap();
    assert_eq!(&some, b"HTTP/1.1 415");
    assert_eq!(post("{}").await.refusal(), (503, "too_many"));
    drop(held);
    stop(server).await;
}
