//! Shared memory: bodies stay where their producer put them, nobody's arrays change, and nothing stays lent for ever.

use std::process::Stdio;

use bowstring::client::{Client, ClientOptions, Consumer, ConsumerOptions, Delivered, Producer, ProducerOptions, WriterId, WriterOptions};
use bowstring::engine::{Attempt, Epoch, Task};
use bowstring::server::{Server, ServerConfig, SharedMemory, UnixSocket};
use bowstring::shared::{Frame, Said, VERSION, link};
use bowstring::wire::metadata::AppendMetadata;
use bowstring::wire::proto::{DescribeServerRequest, ServerDescription, SharedBody, StreamOptions, Visibility};
use bytes::Bytes;
use serde_json::json;
use tokio::net::UnixStream;

use super::cli::coordinator::{Coordinator, eventually, signal};
use super::client_support::{connect, create, next, number, numbered, partitions, server, server_with, soon, subscribed};
use super::server_support::{call, channel, command, messages, numbers, refused, send, until};

/// Rows of a batch of 800 kB.
const ROWS: usize = 100_000;
const ARENA: u64 = 256 << 20;

fn shared(server: &Server) -> SharedMemory {
    server.coordinator().shared_memory()
}

async fn producer(client: &Client, stream: &str) -> Producer {
    client.producer(stream, ProducerOptions::default()).expect("a producer")
}

async fn append(producer: &mut Producer, numbers: std::ops::Range<i64>) {
    for number in numbers {
        producer.append(&numbered(number, ROWS), None, Bytes::new()).await.expect("room");
    }
    soon(producer.flush()).await.expect("stored");
}

/// A producer whose arena the coordinator has taken.
async fn lending(server: &Server, client: &Client, stream: &str) -> Producer {
    let before = shared(server).lent_bytes;
    let mut producer = producer(client, stream).await;
    append(&mut producer, 0..1).await;
    until("its arena is lent", async || shared(server).lent_bytes == before + ARENA).await;
    producer
}

/// All of its values are the number that it was made with.
fn check(delivered: &Delivered, expected: i64) {
    assert!(delivered.batch == numbered(expected, ROWS), "batch {expected} is another");
}

async fn described(server: &Server) -> ServerDescription {
    call(&channel(server.listen_addr()).await, "DescribeServer", DescribeServerRequest {}).await.expect("answers")
}

async fn read(consumer: &mut Consumer, numbers: std::ops::Range<i64>) -> Vec<Delivered> {
    let mut all = Vec::new();
    for number in numbers {
        let delivered = next(consumer).await;
        check(&delivered, number);
        all.push(delivered);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_batch_is_looked_at_where_its_producer_put_it_and_its_slot_is_used_again() {
    let server = server().await;
    let client = connect(&server.url()).await;
    let mut producer = lending(&server, &client, "s").await;
    let mut consumer = subscribed(&client, "s", "a").await;
    let first = next(&mut consumer).await;
    consumer.ack(first.partition, first.offset.plus(1)).expect("not refused");
    drop(first);
    // More than the arena holds: without another use of its slots they would not all fit.
    for number in 1..400 {
        append(&mut producer, number..number + 1).await;
        let delivered = next(&mut consumer).await;
        check(&delivered, number);
        assert!(shared(&server).looked_at_bytes >= 8 * ROWS as u64, "batch {number} came by the socket");
        consumer.ack(delivered.partition, delivered.offset.plus(1)).expect("not refused");
    }
    assert_eq!(shared(&server).lent_bytes, ARENA);
    until("nobody looks any more", async || shared(&server).looked_at_bytes == 0).await;
    soon(consumer.close()).await.expect("acked");
    drop((producer, client));
    until("nothing is lent any more", async || shared(&server).lent_bytes == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_consumer_holds_stays_as_it_is_acked_or_not_and_after_its_connection_has_ended() {
    let server = server().await;
    let client = connect(&server.url()).await;
    let mut producer = lending(&server, &client, "s").await;
    let mut consumer = subscribed(&client, "s", "a").await;
    read(&mut consumer, 0..1).await;
    append(&mut producer, 1..40).await;
    let held = read(&mut consumer, 1..40).await;
    consumer.ack(held[38].partition, held[38].offset.plus(1)).expect("not refused");
    soon(consumer.close()).await.expect("acked");
    assert_eq!(shared(&server).looked_at_bytes, held.iter().map(|delivered| delivered.bytes).sum::<u64>() - headers(&held));

    let mut others = subscribed(&client, "s", "a").await;
    for number in 40..200 {
        append(&mut producer, number..number + 1).await;
        let delivered = read(&mut others, number..number + 1).await;
        others.ack(delivered[0].partition, delivered[0].offset.plus(1)).expect("not refused");
    }
    held.iter().zip(1..).for_each(|(delivered, number)| check(delivered, number));
    drop((held, others));
    until("all is given back", async || shared(&server).looked_at_bytes == 0).await;
}

/// Bytes of headers, which do not lie in shared memory.
fn headers(all: &[Delivered]) -> u64 {
    all.iter().map(|delivered| delivered.bytes - 8 * ROWS as u64).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_outlive_the_producer_and_its_memory() {
    let server = server().await;
    let client = connect(&server.url()).await;
    let mut producer = lending(&server, &client, "s").await;
    append(&mut producer, 1..30).await;
    drop((producer, client));
    until("its link has ended", async || shared(&server).links == 0).await;
    assert_eq!(shared(&server).lent_bytes, ARENA, "batches lie there");
    let mut consumer = subscribed(&connect(&server.url()).await, "s", "a").await;
    let held = read(&mut consumer, 0..30).await;
    assert!(shared(&server).looked_at_bytes > 20 * 8 * ROWS as u64);
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_by_tcp_gets_the_bytes_of_what_lies_in_shared_memory() {
    let server = server().await;
    let mut producer = lending(&server, &connect(&server.url()).await, "s").await;
    append(&mut producer, 1..10).await;
    for options in [
        ClientOptions { shared_memory: false, ..ClientOptions::default() },
        ClientOptions { local_socket: false, ..ClientOptions::default() },
    ] {
        let client = Client::connect(&server.url(), options).await.expect("is there");
        let mut consumer = client.consumer("s", ConsumerOptions::default()).await.expect("the stream is there");
        let held = read(&mut consumer, 0..10).await;
        assert_eq!(shared(&server).looked_at_bytes, 0);
        drop(held);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_into_memory_is_spooled_and_its_slots_are_free() {
    let server = server_with(ServerConfig { max_buffered_batches: 2, ..ServerConfig::default() }).await;
    let client = connect(&server.url()).await;
    create(&client, "s", StreamOptions { visibility: Visibility::Committed.into(), ..partitions(1) }).await;
    let run = bowstring::client::ProducerRun { producer: "p".into(), run: "r".into() };
    let id = WriterId { producer: "p".into(), run: "r".into(), epoch: Epoch(0), task: Task(0), attempt: Attempt(0) };
    let mut writer = client.writer("s", id, WriterOptions::default()).expect("a writer");
    for number in 0..500 {
        writer.append(&numbered(number, ROWS), None, Bytes::new()).await.expect("spooled");
    }
    let receipt = soon(writer.finish()).await.expect("staged").expect("a receipt");
    assert_eq!(shared(&server).lent_bytes, ARENA);
    client.commit_epoch("s", &run, Epoch(0), vec![receipt]).await.expect("commits");
    let mut consumer = subscribed(&client, "s", "a").await;
    for number in 0..500 {
        read(&mut consumer, number..number + 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn small_batches_go_by_the_socket() {
    let server = server().await;
    let mut producer = producer(&connect(&server.url()).await, "s").await;
    for index in 0..50 {
        producer.append(&numbered(index, 1_900), None, Bytes::new()).await.expect("room");
        soon(producer.flush()).await.expect("stored");
    }
    assert_eq!((shared(&server).lent_bytes, shared(&server).looked_at_bytes), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_arena_that_is_full_of_what_is_held_makes_bodies_go_by_the_socket_not_wait() {
    let server = server_with(ServerConfig { max_buffered_batches: 16, ..ServerConfig::default() }).await;
    let client = connect(&server.url()).await;
    let mut producer = producer(&client, "s").await;
    append(&mut producer, 0..1).await;
    let mut consumer = subscribed(&client, "s", "a").await;
    let mut held = Vec::new();
    // 2.4 GB of arrays that are held, where a producer lends 2 GiB.
    for number in 0..3_000 {
        let delivered = next(&mut consumer).await;
        assert_eq!(number, self::number(&delivered));
        consumer.ack(delivered.partition, delivered.offset.plus(1)).expect("not refused");
        held.push(delivered);
        append(&mut producer, number + 1..number + 2).await;
    }
    assert_eq!(shared(&server).lent_bytes, 2 << 30);
    held.iter().zip(0..).for_each(|(delivered, number)| check(delivered, number));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_shared_memory_offers_none_and_one_that_is_another_is_not_taken_for_it() {
    let without = server_with(ServerConfig { shared_memory: false, ..ServerConfig::default() }).await;
    assert_eq!(described(&without).await.shared_memory_path, "");
    let folder = tempfile::tempdir().expect("a folder");
    let config = |name: &str| ServerConfig { unix: UnixSocket::At(folder.path().join(name)), ..ServerConfig::default() };
    let (one, other) = (server_with(config("one")).await, server_with(config("other")).await);
    let (path, others) = (described(&one).await.shared_memory_path, described(&other).await.shared_memory_path);
    std::fs::rename(others, path).expect("are ours");
    let mut producer = producer(&connect(&one.url()).await, "s").await;
    append(&mut producer, 0..20).await;
    assert_eq!((shared(&one).lent_bytes, shared(&other).lent_bytes), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_is_started_anew_is_lent_new_memory_and_what_is_held_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = || ServerConfig { unix: UnixSocket::At(folder.path().join("s")), ..ServerConfig::default() };
    let first = server_with(config()).await;
    let client = connect(&first.unix_url().expect("has one")).await;
    let mut producer = lending(&first, &client, "s").await;
    append(&mut producer, 1..20).await;
    let mut consumer = subscribed(&client, "s", "a").await;
    let held = read(&mut consumer, 0..20).await;
    first.shutdown(std::time::Duration::from_secs(5)).await;
    drop(first);

    let second = server_with(config()).await;
    let mut producer = lending(&second, &client, "another").await;
    append(&mut producer, 100..150).await;
    let mut others = subscribed(&client, "another", "a").await;
    read(&mut others, 0..1).await;
    read(&mut others, 100..150).await;
    held.iter().zip(0..).for_each(|(delivered, number)| check(delivered, number));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_lies_nowhere_is_refused_and_the_server_goes_on() {
    let server = server().await;
    let path = described(&server).await.shared_memory_path;
    let (mut reader, writer) = link(UnixStream::connect(&path).await.expect("is there"));
    writer.send(&[Said::Word(Frame::Hello { version: VERSION })]).await.expect("sends");
    let Some((Frame::Welcome { link, .. }, None)) = soon(reader.next()).await.expect("answers") else { panic!("no welcome") };
    let arena = bowstring_arena::Arena::create(1 << 20).expect("memory");
    writer.send(&[Said::Offer(Frame::Offer { arena: 5 }, arena)]).await.expect("sends");
    assert_eq!(soon(reader.next()).await.expect("answers").expect("goes on").0, Frame::Taken { arena: 5 });

    let channel = channel(server.listen_addr()).await;
    for (arena, start, bytes) in [(4, 0, 1_000), (5, 0, (1 << 20) + 1), (5, u64::MAX, 1), (5, 1 << 20, 1 << 20), (5, 8, 1_000)] {
        let mut lying = messages(command(json!({"stream": "s", "link": link.to_string()})), vec![numbers(0..10)]);
        let shared = Some(SharedBody { arena, start, bytes });
        lying[1].app_metadata = AppendMetadata { partition: Some(0), shared, ..AppendMetadata::default() }.to_bytes();
        lying[1].data_body = Bytes::new();
        assert_eq!(refused(send(&channel, lying).await), "malformed_message", "{bytes} at {start} of {arena}");
    }
    let mut large = messages(command(json!({"stream": "s", "link": link.to_string()})), vec![numbers(0..10)]);
    let shared = Some(SharedBody { arena: 5, start: 0, bytes: 1 << 30 });
    large[1].app_metadata = AppendMetadata { partition: Some(0), shared, ..AppendMetadata::default() }.to_bytes();
    large[1].data_body = Bytes::new();
    assert_eq!(refused(send(&channel, large).await), "message_too_large");
    append(&mut producer(&connect(&server.url()).await, "s2").await, 0..3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_of_appends_that_were_given_up_do_not_stay_lent() {
    let server = server_with(ServerConfig { max_buffered_batches: 4, ..ServerConfig::default() }).await;
    let client = connect(&server.url()).await;
    let mut first = lending(&server, &client, "s").await;
    // It hears that its arena was taken while these come and go; one without batches would be gone with the link.
    append(&mut first, 1..3).await;
    // More than there is room for: what was lent of it and has not arrived is given up with its producer.
    for number in 3..40 {
        first.append(&numbered(number, ROWS), None, Bytes::new()).await.expect("fits into the window");
    }
    until("it waits for room", async || client.describe_stream("s").await.expect("is there").waiting.len() == 1).await;
    drop(first);
    until("its link has ended", async || shared(&server).links == 0).await;
    let mut second = lending(&server, &client, "another").await;
    append(&mut second, 1..3).await;
    client.delete_stream("s").await.expect("is there");
    until("the first one's memory is free", async || shared(&server).lent_bytes == ARENA).await;
}

#[test]
fn arrays_may_outlive_the_client_and_its_threads() {
    let runtime = tokio::runtime::Runtime::new().expect("starts");
    let server = runtime.block_on(server());
    let clients = tokio::runtime::Runtime::new().expect("starts");
    let (mut producer, held) = runtime.block_on(async {
        let mut producer = lending(&server, &connect(&server.url()).await, "s").await;
        append(&mut producer, 1..30).await;
        let url = server.url();
        let reading = clients.spawn(async move {
            let mut consumer = subscribed(&connect(&url).await, "s", "a").await;
            let held = read(&mut consumer, 0..30).await;
            consumer.ack(held[29].partition, held[29].offset.plus(1)).expect("not refused");
            consumer.close().await.expect("acked");
            held
        });
        (producer, reading.await.expect("reads"))
    });
    clients.shutdown_background();
    runtime.block_on(async {
        let mut others = subscribed(&connect(&server.url()).await, "s", "a").await;
        for number in 30..100 {
            append(&mut producer, number..number + 1).await;
            let delivered = read(&mut others, number..number + 1).await;
            others.ack(delivered[0].partition, delivered[0].offset.plus(1)).expect("not refused");
        }
        held.iter().zip(0..).for_each(|(delivered, number)| check(delivered, number));
        drop((held, others));
        until("the last array has ended the link", async || shared(&server).looked_at_bytes == 0).await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn arrays_may_outlive_the_server() {
    let server = server().await;
    let client = connect(&server.url()).await;
    let mut producer = lending(&server, &client, "s").await;
    append(&mut producer, 1..30).await;
    let mut consumer = subscribed(&client, "s", "a").await;
    let held = read(&mut consumer, 0..30).await;
    drop(server);
    drop((producer, client));
    held.iter().zip(0..).for_each(|(delivered, number)| check(delivered, number));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_links_are_all_in_use_shuts_down_at_once() {
    let server = server_with(ServerConfig { connections_max: 3, ..ServerConfig::default() }).await;
    let path = described(&server).await.shared_memory_path;
    let mut links = Vec::new();
    for _ in 0..3 {
        let (mut reader, writer) = link(UnixStream::connect(&path).await.expect("is there"));
        writer.send(&[Said::Word(Frame::Hello { version: VERSION })]).await.expect("sends");
        soon(reader.next()).await.expect("answers").expect("welcome");
        links.push((reader, writer));
    }
    let grace = std::time::Duration::from_secs(3_600);
    soon(server.shutdown(grace)).await;
    for (mut reader, _writer) in links {
        assert!(soon(reader.next()).await.expect("ends well").is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_breaks_the_rules_is_ended() {
    let server = server().await;
    let path = described(&server).await.shared_memory_path;
    let hello = |version| Said::Word(Frame::Hello { version });
    for said in [
        vec![hello(VERSION + 1)],
        vec![Said::Word(Frame::Release { arena: 1, start: 1 })],
        vec![hello(VERSION), Said::Word(Frame::Free { arena: 1, start: 1 })],
        vec![hello(VERSION), hello(VERSION)],
    ] {
        let (mut reader, writer) = link(UnixStream::connect(&path).await.expect("is there"));
        writer.send(&said).await.expect("sends");
        while let Some((frame, _)) = soon(reader.next()).await.expect("well formed") {
            assert!(matches!(frame, Frame::Welcome { .. }));
        }
    }
}

#[test]
fn a_consumer_that_is_killed_gives_back_what_it_looked_at() {
    let coordinator = Coordinator::start();
    let runtime = tokio::runtime::Runtime::new().expect("starts");
    runtime.block_on(async {
        let client = connect(&coordinator.url()).await;
        let mut producer = producer(&client, "s").await;
        append(&mut producer, 0..1).await;
        eventually(|| coordinator.metric("bowstring_shared_memory_lent_bytes") > Some(0.0));
        append(&mut producer, 1..40).await;
        // Nobody reads what it prints: it stands still, with what it has read ahead.
        let mut consumer =
            coordinator.command(&["get", "s", "--follow", "--format", "csv"]).stdout(Stdio::piped()).spawn().expect("starts");
        eventually(|| coordinator.metric("bowstring_shared_memory_looked_at_bytes") > Some(2e6));
        signal(&consumer, "KILL");
        consumer.wait().expect("is dead");
        eventually(|| coordinator.metric("bowstring_shared_memory_looked_at_bytes") == Some(0.0));
        let mut consumer = subscribed(&client, "s", "a").await;
        read(&mut consumer, 0..40).await;
    });
}
