//! Beyond `connections_max`: a clear refusal at each port and by each transport, and room again once another is gone.

use std::time::Duration;

use bowstring::client::{Client, ClientOptions, TlsOptions};
use bowstring::engine::{Code, Retry};
use bowstring::server::{NotLetIn, Server, ServerConfig, TlsConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::server_support::{channel, soon, start, stats, stop, until};
use super::tls_support::{Authority, options};

const MAX: usize = 2;

async fn full_server(tls: Option<TlsConfig>) -> Server {
    start(ServerConfig { connections_max: MAX, tls, ..ServerConfig::default() }).await
}

/// Connections that say nothing yet, as many as there may be.
async fn fill(server: &Server) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..MAX {
        held.push(TcpStream::connect(server.listen_addr()).await.expect("is taken"));
    }
    until("all are let in", async || server.coordinator().connections().open() == MAX as u64).await;
    held
}

/// What a client that gives up early says, and that one with patience comes in.
async fn is_told_and_comes_in_later(server: &Server, held: Vec<TcpStream>, url: &str, tls: TlsOptions) {
    let refused = || server.coordinator().connections().refused(NotLetIn::Full);
    let early = ClientOptions { retry_deadline: Duration::from_millis(200), local_socket: false, ..options(tls.clone()) };
    let error = match Client::connect(url, early).await {
        Ok(client) => soon(client.stats(None)).await.expect_err("there is no room"),
        Err(error) => error,
    };
    assert_eq!((error.code(), error.retry()), (Code::Unavailable, Retry::After), "{error}");
    assert!(error.to_string().contains("connections_max"), "{error}");
    let before = refused();
    assert!(before > 0);
    let patient = ClientOptions { local_socket: false, ..options(tls) };
    let url = url.to_owned();
    let waiting = tokio::spawn(async move { Client::connect(&url, patient).await?.stats(None).await });
    until("it was turned away, too", async || refused() > before).await;
    drop(held);
    soon(waiting).await.expect("does not panic").expect("comes in");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_told_and_tries_until_there_is_room() {
    let server = full_server(None).await;
    let held = fill(&server).await;
    is_told_and_comes_in_later(&server, held, &server.url(), TlsOptions::default()).await;
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_tls_it_is_told_after_the_handshake() {
    let authority = Authority::new();
    let server = full_server(Some(authority.server().config(None))).await;
    // Of the Unix socket, which share the limit: by TCP there would have to be a handshake.
    let mut held = Vec::new();
    for _ in 0..MAX {
        held.push(UnixStream::connect(server.unix_path().expect("has one")).await.expect("is taken"));
    }
    until("all are let in", async || server.coordinator().connections().open() == MAX as u64).await;
    let url = server.url();
    let early = ClientOptions { retry_deadline: Duration::from_millis(200), local_socket: false, ..options(authority.trusted()) };
    let error = match Client::connect(&url, early).await {
        Ok(client) => soon(client.stats(None)).await.expect_err("there is no room"),
        Err(error) => error,
    };
    assert!(error.to_string().contains("connections_max"), "{error}");
    drop(held);
    until("they are gone", async || server.coordinator().connections().open() == 0).await;
    let patient = ClientOptions { local_socket: false, ..options(authority.trusted()) };
    Client::connect(&url, patient).await.expect("connects").stats(None).await.expect("there is room");
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_else_reads_why() {
    let server = full_server(None).await;
    let held = fill(&server).await;
    let mut said = Vec::new();
    let mut unix = UnixStream::connect(server.unix_path().expect("has one")).await.expect("is accepted");
    soon(unix.read_to_end(&mut said)).await.expect("reads");
    assert!(String::from_utf8_lossy(&said).ends_with("this port has connections_max open: close some, raise it, or come later"));
    let http = server.http_addr().expect("is on");
    let mut pages = Vec::new();
    for _ in 0..MAX {
        let mut page = TcpStream::connect(http).await.expect("is taken");
        page.write_all(b"GET /healthz HTTP/1.1\r\nhost: h\r\n\r\n").await.expect("sends");
        assert!(page.read(&mut [0; 512]).await.expect("answers") > 0);
        pages.push(page);
    }
    let mut third = TcpStream::connect(http).await.expect("is accepted");
    third.write_all(b"GET /healthz HTTP/1.1\r\nhost: h\r\n\r\n").await.expect("sends");
    let mut said = String::new();
    soon(third.read_to_string(&mut said)).await.expect("reads");
    assert!(said.starts_with("HTTP/1.1 503 ") && said.contains("connections_max"), "{said}");
    drop(held);
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_is_turned_away_leaves_those_within_alone() {
    let server = full_server(None).await;
    let good = channel(server.listen_addr()).await;
    let within = stats(&good).await;
    assert_eq!(within.open_connections, 1);
    let _held = TcpStream::connect(server.listen_addr()).await.expect("is taken");
    until("both are let in", async || server.coordinator().connections().open() == MAX as u64).await;
    // More than are told at once: the others wait in the system's backlog, until it is their turn.
    let crowd: Vec<_> = futures::future::join_all((0..200).map(|_| TcpStream::connect(server.listen_addr()))).await;
    assert_eq!(stats(&good).await.open_connections, MAX as u64);
    for one in crowd {
        let mut said = Vec::new();
        soon(one.expect("connects").read_to_end(&mut said)).await.expect("reads");
        assert!(!said.is_empty());
    }
    assert_eq!(server.coordinator().connections().refused(NotLetIn::Full), 200);
    stop(server).await;
}
