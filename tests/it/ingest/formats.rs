//! Rows in Avro and in Protobuf, alone and after their lengths.

use bowstring::engine::StreamOptions;
use bowstring::server::Server;
use prost::Message;
use serde_json::{Value, json};

use super::super::server_support::{channel, start, stop};
use super::{config, create, post, rows};

const AVSC: &str =
    r#"{"type": "record", "name": "Click", "fields": [{"name": "uid", "type": "long"}, {"name": "page", "type": "string"}]}"#;
const PROTO: &str = "syntax = \"proto3\"; package shop; message Click { int64 uid = 1; string page = 2; }";

/// Rows, each after its length, which are short.
fn delimited(rows: &[&[u8]]) -> Vec<u8> {
    rows.iter().flat_map(|row| std::iter::once(u8::try_from(row.len()).expect("is short")).chain(row.iter().copied())).collect()
}

async fn taking(declared: Value) -> (Server, tonic::transport::Channel) {
    let server = start(config(&json!({ "clicks": declared }))).await;
    create(&server, "clicks", StreamOptions::default());
    let channel = channel(server.listen_addr()).await;
    (server, channel)
}

#[tokio::test]
async fn rows_in_avro_are_of_the_schema_in_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("click.avsc");
    std::fs::write(&file, AVSC).expect("writes");
    let declared =
        |files: Value| json!({"format": "avro", "writer_schema_file": files, "aliases": {"user": ["uid"]}, "rejected_to": "bad"});
    let (server, channel) = taking(declared(json!(file))).await;
    // 21 and -1 in zigzag, and a text after its length.
    let (first, second) = (b"\x2a\x02/".as_slice(), b"\x01\x04/a".as_slice());
    assert_eq!(post(&server, "clicks", "application/avro", first).await.json, json!({"rows": 1, "rejected": 0}));
    let body = delimited(&[first, b"\x2a", second]);
    let answer = post(&server, "clicks", "application/avro; encoding=delimited", &body).await;
    assert_eq!(answer.json, json!({"rows": 2, "rejected": 1}));
    let refused = post(&server, "clicks", "avro/binary; encoding=delimited", &body[..body.len() - 1]).await;
    assert_eq!(refused.refusal(), (400, "invalid_argument"));
    let (one, other) = (json!({"user": 21, "page": "/"}), json!({"user": -1, "page": "/a"}));
    assert_eq!(rows(&channel, "clicks").await, [one.clone(), one.clone(), other]);
    stop(server).await;

    let (server, channel) = taking(declared(json!({ "7": file }))).await;
    let body = delimited(&[&[b"\0\0\0\0\x07", first].concat(), &[b"\0\0\0\0\x08", first].concat()]);
    let answer = post(&server, "clicks", "application/avro; encoding=delimited", &body).await;
    assert_eq!(answer.json, json!({"rows": 1, "rejected": 1}));
    assert_eq!(rows(&channel, "clicks").await, [one]);
    stop(server).await;
}

#[tokio::test]
async fn rows_in_protobuf_are_of_the_message_in_the_descriptors() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("shop.proto"), PROTO).expect("writes");
    let descriptors = protox::compile(["shop.proto"], [folder.path()]).expect("compiles").encode_to_vec();
    let file = folder.path().join("shop.pb");
    std::fs::write(&file, descriptors).expect("writes");
    let declared = json!({"format": "protobuf", "descriptors_file": file, "message": "shop.Click", "aliases": {"user": ["uid"]}, "rejected_to": "bad"});
    let (server, channel) = taking(declared).await;
    let row = b"\x08\x15\x12\x01/".as_slice();
    assert_eq!(post(&server, "clicks", "application/x-protobuf", row).await.json, json!({"rows": 1, "rejected": 0}));
    // A message without any field is one of zeros and empty texts.
    assert_eq!(post(&server, "clicks", "application/protobuf", b"").await.json, json!({"rows": 1, "rejected": 0}));
    let body = delimited(&[row, b"\x08", b""]);
    let answer = post(&server, "clicks", "application/x-protobuf; encoding=delimited", body).await;
    assert_eq!(answer.json, json!({"rows": 2, "rejected": 1}));
    let (full, empty) = (json!({"user": 21, "page": "/"}), json!({"user": 0, "page": ""}));
    assert_eq!(rows(&channel, "clicks").await, [full.clone(), empty.clone(), full, empty]);
    stop(server).await;
}
