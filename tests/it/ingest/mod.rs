//! Rows that come over HTTP: what is taken and what becomes of it, who may, and what is refused.

mod formats;
mod guard;
mod limits;
mod once;
mod rows;

use arrow::array::RecordBatch;
use arrow_schema::{DataType, Field, Schema};
use bowstring::engine::{StreamName, StreamOptions};
use bowstring::server::{IngestConfig, Server, ServerConfig};
use bowstring::wire::schema::StreamSchema;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::Channel;

use super::server_support::{channel, read, soon, start};

/// An answer: status, headers, body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) json: Value,
}

impl Answer {
    /// The value of a header; empty if it is not there.
    fn header(&self, name: &str) -> &str {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    /// Status and code of a refusal, which says what to do.
    pub(crate) fn refusal(&self) -> (u16, &str) {
        assert!(self.json["error"]["message"].as_str().is_some_and(|text| text.len() > 20), "{}", self.json);
        (self.status, self.json["error"]["code"].as_str().expect("a code"))
    }

    fn says(&self, words: &str) -> bool {
        self.json["error"]["message"].as_str().expect("a message").contains(words)
    }
}

/// A request with these headers and this body.
pub(crate) async fn ask(server: &Server, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut connection = TcpStream::connect(server.http_addr().expect("is on")).await.expect("listens");
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    let host = headers.iter().any(|(name, _)| *name == "Host");
    let all = (!host).then_some(&("Host", "localhost")).into_iter().chain(headers);
    all.for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    connection.write_all(&[head.as_bytes(), b"\r\n", body].concat()).await.expect("sends");
    let mut answer = Vec::new();
    soon(connection.read_to_end(&mut answer)).await.expect("answers");
    let answer = String::from_utf8(answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
    Answer { status, head: head.to_owned(), json: serde_json::from_str(body).unwrap_or_default() }
}

/// Sends rows to a stream.
pub(crate) async fn post(server: &Server, stream: &str, content_type: &str, body: impl AsRef<[u8]>) -> Answer {
    ask(server, "POST", &format!("/streams/{stream}/rows"), &[("Content-Type", content_type)], body.as_ref()).await
}

const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";

fn name(stream: &str) -> StreamName {
    StreamName::new(stream).expect("a name")
}

/// A user's number, which must be there, and a page.
fn clicks() -> Schema {
    Schema::new(vec![Field::new("user", DataType::Int64, false), Field::new("page", DataType::Utf8, true)])
}

fn create(server: &Server, stream: &str, options: StreamOptions) {
    let schema = StreamSchema::from_arrow(&clicks()).expect("a schema");
    server.coordinator().create(&name(stream), options, Some(&schema), false).expect("a new stream");
}

pub(crate) fn config(declared: &Value) -> ServerConfig {
    ServerConfig { ingest: IngestConfig::from_json(&declared.to_string()).expect("is declared well"), ..ServerConfig::default() }
}

/// A server whose stream `clicks` takes rows in JSON, and the bad ones to `clicks.bad`.
async fn taking(of_clicks: Value) -> (Server, Channel) {
    let mut declared = json!({"format": "json", "rejected_to": "clicks.bad"});
    declared.as_object_mut().expect("a table").extend(of_clicks.as_object().expect("a table").clone());
    let server = start(config(&json!({ "clicks": declared }))).await;
    create(&server, "clicks", StreamOptions::default());
    let channel = channel(server.listen_addr()).await;
    (server, channel)
}

/// All batches of a stream that are visible.
async fn all(channel: &Channel, stream: &str) -> Vec<RecordBatch> {
    read(channel, json!({ "stream": stream })).await.expect("can be read")
}

/// Their rows, as JSON.
async fn rows(channel: &Channel, stream: &str) -> Vec<Value> {
    let batches = all(channel, stream).await;
    let mut writer = arrow::json::ArrayWriter::new(Vec::new());
    writer.write_batches(&batches.iter().collect::<Vec<_>>()).expect("writes");
    writer.finish().expect("ends");
    let text = writer.into_inner();
    if text.is_empty() { Vec::new() } else { serde_json::from_slice(&text).expect("JSON") }
}
