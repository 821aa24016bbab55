//! The console: its page and its API, which show everything and change nothing.

mod api;
mod guard;
mod rows;

use std::net::SocketAddr;

use bowstring::server::Server;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::form_urlencoded;

/// An answer: status, headers, body.
pub(crate) struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    /// The value of a header; empty if it is not there.
    fn header(&self, name: &str) -> &str {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// Status and code of a refusal.
    pub(crate) fn refusal(&self) -> (u16, String) {
        (self.status, self.json()["error"]["code"].as_str().expect("a code").to_owned())
    }
}

async fn ask(address: SocketAddr, method: &str, path: &str, host: &str) -> Answer {
    let mut connection = TcpStream::connect(address).await.expect("listens");
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.expect("sends");
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.expect("answers");
    let answer = String::from_utf8(answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

fn address(server: &Server) -> SocketAddr {
    server.http_addr().expect("is on")
}

async fn get(server: &Server, path: &str) -> Answer {
    ask(address(server), "GET", path, "localhost").await
}

/// The same by somebody who shows this token.
pub(crate) async fn get_as(server: &Server, path: &str, token: Option<&str>) -> Answer {
    let shown = token.map_or_else(String::new, |token| format!("\r\nAuthorization: Bearer {token}"));
    ask(address(server), "GET", path, &format!("localhost{shown}")).await
}

/// An address of the API with these parameters.
fn api(what: &str, parameters: &[(&str, &str)]) -> String {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    format!("/api/v1/{what}?{query}")
}

/// What the API answers, which is to succeed.
async fn show(server: &Server, what: &str, parameters: &[(&str, &str)]) -> Value {
    let answer = get(server, &api(what, parameters)).await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, "no-store"), "{}", answer.body);
    answer.json()
}
