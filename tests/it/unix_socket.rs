//! The Unix socket: clients on the same host find it, mistake no other for it, and come by TCP where it cannot be used.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bowstring::client::{Client, ClientOptions, ConsumerOptions, Producer, ProducerOptions};
use bowstring::server::{Server, ServerConfig, StartError, UnixError, UnixSocket};
use bowstring::wire::proto::{DescribeServerRequest, GetStatsRequest, GetStatsResponse, ServerDescription};
use bytes::Bytes;
use serde_json::json;

use super::cli::coordinator::Coordinator;
use super::client_support::{PATIENCE, Proxy, connect, next, number, numbered, rest, server_with, soon, subscribed};
use super::server_support::{call, channel, numbers, path, put, read, stats, until};
use super::transport::{Transport, unix_endpoint};

async fn at(socket: &Path) -> Server {
    server_with(ServerConfig { unix: UnixSocket::At(socket.to_path_buf()), ..ServerConfig::default() }).await
}

/// A producer that has its connection: one batch is stored.
async fn producing(client: &Client, stream: &str) -> Producer {
    let mut producer = client.producer(stream, ProducerOptions::default()).expect("a producer");
    append(&mut producer, 0).await;
    producer
}

async fn append(producer: &mut Producer, index: i64) {
    producer.append(&numbered(index, 1), None, Bytes::new()).await.expect("room");
    soon(producer.flush()).await.expect("stored");
}

fn by_unix(server: &Server) -> u64 {
    server.coordinator().connections().open_unix()
}

async fn described(server: &Server) -> ServerDescription {
    let channel = channel(server.listen_addr()).await;
    call(&channel, "DescribeServer", DescribeServerRequest {}).await.expect("answers")
}

#[tokio::test(flavor = "multi_thread")]
async fn data_goes_by_the_unix_socket_of_a_coordinator_on_the_same_host_and_control_calls_by_tcp() {
    let server = server_with(ServerConfig::default()).await;
    for host in ["127.0.0.1", "localhost"] {
        let client = connect(&format!("grpc://{host}:{}", server.listen_addr().port())).await;
        assert_eq!(by_unix(&server), 0, "control calls");
        let mut producer = producing(&client, "s").await;
        assert_eq!(by_unix(&server), 1, "one producer by {host}");
        let mut consumer = subscribed(&client, "s", host).await;
        assert_eq!(number(&next(&mut consumer).await), 0);
        assert_eq!(by_unix(&server), 2, "and one consumer");
        assert_eq!(client.stats(None).await.expect("stats").open_unix_connections, 2);
        soon(producer.close()).await.expect("stored");
        drop(consumer);
        until("both are closed", async || by_unix(&server) == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_is_asked_for_its_socket_once_and_each_connection_costs_one_connection() {
    let server = server_with(ServerConfig::default()).await;
    let client = connect(&server.url()).await;
    drop(producing(&client, "s").await);
    until("only control calls are left", async || server.coordinator().connections().open() == 1).await;
    let _producers = [producing(&client, "s").await, producing(&client, "s").await];
    assert_eq!((by_unix(&server), server.coordinator().connections().open()), (2, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_want_the_socket_or_comes_through_a_proxy_stays_with_tcp() {
    let server = server_with(ServerConfig::default()).await;
    let options = ClientOptions { local_socket: false, ..ClientOptions::default() };
    let client = Client::connect(&server.url(), options).await.expect("the server is there");
    let _producer = producing(&client, "s").await;
    let proxy = Proxy::to(Transport::Tcp, &server).await;
    let _through_proxy = producing(&connect(&proxy.url).await, "s").await;
    assert_eq!(by_unix(&server), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_socket_and_one_whose_file_is_gone_are_reached_by_tcp() {
    let off = Transport::Tcp.server(ServerConfig::default()).await;
    assert_eq!((off.unix_path(), off.unix_url()), (None, None));
    assert_eq!(described(&off).await.unix_path, "");
    producing(&connect(&off.url()).await, "s").await;

    let server = server_with(ServerConfig::default()).await;
    let client = connect(&server.url()).await;
    let _before = producing(&client, "s").await;
    assert_eq!(by_unix(&server), 1);
    std::fs::remove_file(server.unix_path().expect("is there")).expect("is ours");
    let _after = producing(&client, "s").await;
    let _other = producing(&connect(&server.url()).await, "s").await;
    assert_eq!(by_unix(&server), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_at_the_same_path_is_not_mistaken_for_the_coordinator() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("s");
    let server = at(&path).await;
    let known = connect(&server.url()).await;
    let _known_before = producing(&known, "s").await;
    assert_eq!(by_unix(&server), 1);
    // As in another container, whose folder is not this one: the same path, another server.
    std::fs::rename(&path, folder.path().join("away")).expect("is ours");
    let other = at(&path).await;
    let _known_after = producing(&known, "s").await;
    let _new = producing(&connect(&server.url()).await, "s").await;
    until("it was asked who it is, no more", async || by_unix(&other) == 0).await;
    assert_eq!(by_unix(&server), 1);
    assert_eq!(server.coordinator().list()[0].describe().partitions[0].end.0, 3, "all three batches");
    assert!(other.coordinator().list().is_empty());
    drop(server);
    assert!(path.exists(), "it is the other one's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_is_started_anew_on_its_port_is_found_again_with_its_new_socket() {
    let first = server_with(ServerConfig::default()).await;
    let client = connect(&first.url()).await;
    // What it holds is gone with it; but this client knows its socket.
    let _before = producing(&client, "before").await;
    assert_eq!(by_unix(&first), 1);
    let (listen, id) = (first.listen_addr(), described(&first).await.server_id);
    let path = first.unix_path().expect("has one").to_path_buf();
    first.shutdown(std::time::Duration::from_millis(10)).await;
    assert!(!path.exists());
    drop(first);

    let second = Server::start(ServerConfig { listen, http: None, ..ServerConfig::default() }).await.expect("the port is free");
    assert_ne!(described(&second).await.server_id, id);
    assert_ne!(second.unix_path(), Some(path.as_path()));
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    for index in 0..300 {
        producer.append(&numbered(index, 100), None, Bytes::new()).await.expect("room");
    }
    let mut consumer = {
        let options = ConsumerOptions { subscription: Some("a".to_owned()), stream_wait: PATIENCE, ..ConsumerOptions::default() };
        soon(client.consumer("s", options)).await.expect("comes")
    };
    let completing = tokio::spawn(async move {
        let completed = producer.complete().await;
        (completed, producer)
    });
    for index in 0..300 {
        let delivered = next(&mut consumer).await;
        assert_eq!(number(&delivered), index);
        if index == 10 {
            assert_eq!(by_unix(&second), 2, "both have found the new socket");
        }
        consumer.ack(delivered.partition, delivered.offset.plus(1)).expect("acks");
    }
    assert!(soon(rest(&mut consumer)).await.expect("ends").is_empty());
    soon(completing).await.expect("ends").0.expect("stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_client_appends_and_reads_by_the_socket() {
    let server = server_with(ServerConfig::default()).await;
    let channel = unix_endpoint(server.unix_path().expect("has one")).connect().await.expect("the server is there");
    put(&channel, path("s"), vec![numbers(0..9)]).await.expect("appends");
    assert_eq!(read(&channel, json!({"stream": "s"})).await.expect("reads"), [numbers(0..9)]);
    let counted = stats(&channel).await;
    assert_eq!((counted.open_connections, counted.open_unix_connections), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn both_transports_share_the_limit_of_connections() {
    let server = server_with(ServerConfig { connections_max: 2, ..ServerConfig::default() }).await;
    let tcp = channel(server.listen_addr()).await;
    let unix = unix_endpoint(server.unix_path().expect("has one")).connect().await.expect("there is room");
    assert_eq!(stats(&unix).await.open_connections, 2);
    let third = unix_endpoint(server.unix_path().expect("has one")).connect().await.expect("is accepted");
    let error = call::<_, GetStatsResponse>(&third, "GetStats", GetStatsRequest::default()).await.expect_err("there is no room");
    assert_eq!(error.code(), tonic::Code::ResourceExhausted, "{error}");
    drop((unix, third));
    until("there is room", async || stats(&tcp).await.open_connections == 1).await;
    let fourth = unix_endpoint(server.unix_path().expect("has one")).connect().await.expect("there is room");
    assert_eq!(stats(&fourth).await.open_unix_connections, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_is_the_users_alone_and_its_file_goes_with_the_server() {
    for in_order in [true, false] {
        let server = server_with(ServerConfig::default()).await;
        let path = server.unix_path().expect("has one").to_path_buf();
        let folder = path.parent().expect("a folder").metadata().expect("is there");
        assert_eq!(folder.permissions().mode() & 0o777, 0o700);
        if in_order {
            server.shutdown(std::time::Duration::from_secs(1)).await;
        } else {
            drop(server);
        }
        assert!(!path.exists(), "in order: {in_order}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_in_use_one_that_is_too_long_and_one_in_no_folder_are_refused_with_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let living = folder.path().join("living");
    let _server = at(&living).await;
    let refused = async |path: &Path| {
        let config = ServerConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            http: None,
            unix: UnixSocket::At(path.to_path_buf()),
            ..ServerConfig::default()
        };
        let error = Server::start(config).await.expect_err("cannot be listened on");
        let text = error.to_string();
        assert!(text.contains(path.to_str().expect("UTF-8")) && text.contains("name another path"), "{text}");
        match error {
            StartError::Unix { source, .. } => source,
            other => panic!("{other}"),
        }
    };
    assert!(matches!(refused(&living).await, UnixError::InUse));
    assert!(matches!(refused(&folder.path().join("x".repeat(120))).await, UnixError::PathTooLong { bytes } if bytes > 120));
    assert!(matches!(refused(&folder.path().join("none/s")).await, UnixError::Io(_)));
}

#[test]
fn a_killed_servers_socket_is_replaced_by_the_next_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("s");
    let serve = ["--listen", "127.0.0.1:0", "--http", "off", "--unix", socket.to_str().expect("UTF-8")];
    let killed = Coordinator::start_with(&serve, &[]);
    assert_eq!(killed.unix.as_deref(), socket.to_str());
    drop(killed);
    assert!(socket.exists(), "a killed server removes nothing");
    let next = Coordinator::start_with(&serve, &[]);
    next.run(&["stream", "create", "s", "--url", &format!("grpc+unix://{}", socket.display())]).done();
    next.run(&["stream", "describe", "s"]).done();
    next.signal("TERM");
    assert_eq!(next.wait(std::time::Duration::from_secs(10)).code, 0);
    assert!(!socket.exists());
}
