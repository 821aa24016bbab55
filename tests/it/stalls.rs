//! Clients that stand still or vanish: they hold up nobody else, and leave nothing behind.

use std::time::Duration;

use arrow_flight::{FlightData, Ticket};
use bowstring::server::ServerConfig;
use bowstring::wire::proto::{StreamOptions, StreamStats};
use serde_json::json;
use tonic::Streaming;
use tonic::transport::Channel;

use super::server_support::{act, create, flight, messages, numbers, path, put, read, refused, soon, stats, stop, until};
use super::transport::{Transport, on_each_socket};

on_each_socket! {
    a_stalled_consumer_holds_up_nobody_on_other_connections,
    stalled_consumers_hold_up_nobody_on_their_connection_while_its_window_is_larger_than_theirs_together,
    producers_that_wait_hold_up_neither_acks_nor_others_on_their_connection,
    refused_appends_give_back_their_share_of_the_connection,
    clients_that_vanish_leave_nothing_open_and_their_room_to_others,
    a_stream_that_is_deleted_tells_everybody_who_uses_it,
    a_deadline_that_passes_while_waiting_for_room_frees_the_place_in_the_line,
}

/// A batch of 4 MB.
fn large(number: i64) -> arrow::array::RecordBatch {
    numbers(number..number + 500_000)
}

/// Opens a `DoGet`, reads the schema, and then nothing.
pub(crate) async fn stall(channel: &Channel, stream: &str) -> Streaming<FlightData> {
    let ticket = Ticket { ticket: json!({"stream": stream, "follow": true}).to_string().into() };
    let mut unread = flight(channel).do_get(ticket).await.expect("begins").into_inner();
    unread.message().await.expect("one").expect("the schema");
    unread
}

async fn of_stream(channel: &Channel, stream: &str) -> StreamStats {
    let is = |stats: &StreamStats| stats.description.as_ref().is_some_and(|description| description.stream == stream);
    stats(channel).await.streams.into_iter().find(is).expect("is there")
}

/// Starts a `DoPut` of one batch that waits for room.
async fn wait_for_room(channel: &Channel, stream: &str, number: i64) -> tokio::task::JoinHandle<Result<(), tonic::Status>> {
    let before = of_stream(channel, stream).await.description.expect("is set").waiting.len();
    let waiting = tokio::spawn({
        let (channel, stream) = (channel.clone(), stream.to_owned());
        async move { put(&channel, path(&stream), (number..number + 5).map(large).collect()).await.map(drop) }
    });
    until("it waits", async || of_stream(channel, stream).await.description.expect("is set").waiting.len() > before).await;
    waiting
}

fn one_batch() -> StreamOptions {
    StreamOptions { max_buffered_batches: Some(1), ..Default::default() }
}

async fn a_stalled_consumer_holds_up_nobody_on_other_connections(on: Transport) {
    let (server, producer) = on.started().await;
    put(&producer, path("s"), (0..8).map(large).collect()).await.expect("appends");
    let elsewhere = on.channel(&server).await;
    let _stalled = stall(&elsewhere, "s").await;
    let consumer = on.channel(&server).await;
    assert_eq!(soon(read(&consumer, json!({"stream": "s"}))).await.expect("reads").len(), 8);
    soon(put(&producer, path("s"), vec![large(8)])).await.expect("appends");
    soon(put(&producer, path("t"), vec![large(0)])).await.expect("appends");
    assert_eq!(soon(read(&consumer, json!({"stream": "t"}))).await.expect("reads"), [large(0)]);
    stop_cut(server).await;
}

/// Ends without waiting for calls that stand still.
async fn stop_cut(server: bowstring::server::Server) {
    server.shutdown(Duration::from_millis(10)).await;
}

async fn stalled_consumers_hold_up_nobody_on_their_connection_while_its_window_is_larger_than_theirs_together(on: Transport) {
    let (server, producer) = on.started().await;
    put(&producer, path("s"), (0..8).map(large).collect()).await.expect("appends");
    let shared = on
        .endpoint(&server)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .connect()
        .await
        .expect("the server is there");
    let mut stalled = Vec::new();
    for _ in 0..3 {
        stalled.push(stall(&shared, "s").await);
    }
    assert_eq!(soon(read(&shared, json!({"stream": "s"}))).await.expect("reads").len(), 8);
    soon(act(&shared, "describe", "s")).await.expect("answers");
    drop(stalled);
    stop_cut(server).await;
}

async fn producers_that_wait_hold_up_neither_acks_nor_others_on_their_connection(on: Transport) {
    let (server, shared) = on.started().await;
    create(&shared, "s", one_batch()).await;
    act(&shared, "subscribe", r#"{"stream": "s", "subscription": "a"}"#).await.expect("subscribes");
    put(&shared, path("s"), vec![large(0)]).await.expect("one fits");
    let mut waiting = Vec::new();
    for number in 0..6 {
        waiting.push(wait_for_room(&shared, "s", number * 5).await);
    }
    soon(put(&shared, path("t"), vec![large(0)])).await.expect("another stream has room");
    for offset in 1..31 {
        let ack = json!({"stream": "s", "subscription": "a", "offsets": {"0": offset}}).to_string();
        soon(act(&shared, "ack", ack)).await.expect("acks");
        until("the next is in", async || of_stream(&shared, "s").await.appended_batches > offset).await;
    }
    for waiting in waiting {
        soon(waiting).await.expect("ends").expect("is stored");
    }
    stop(server).await;
}

async fn refused_appends_give_back_their_share_of_the_connection(on: Transport) {
    let server = on.server(ServerConfig { max_buffered_bytes: 1 << 20, ..ServerConfig::default() }).await;
    let shared = on.channel(&server).await;
    for number in 0..20 {
        assert_eq!(refused(soon(put(&shared, path("s"), vec![large(number)])).await), "batch_too_large");
    }
    soon(put(&shared, path("s"), vec![numbers(0..1000)])).await.expect("appends");
    stop(server).await;
}

async fn clients_that_vanish_leave_nothing_open_and_their_room_to_others(on: Transport) {
    let (server, observer) = on.started().await;
    create(&observer, "s", one_batch()).await;
    act(&observer, "subscribe", r#"{"stream": "s", "subscription": "a"}"#).await.expect("subscribes");
    put(&observer, path("s"), vec![large(0)]).await.expect("one fits");

    let gone = on.channel(&server).await;
    let waiting = wait_for_room(&gone, "s", 0).await;
    let unread = stall(&gone, "s").await;
    // A writer in the middle of a message, whose room is reserved: here on another stream, which has some.
    let half = half_a_message(&gone).await;
    until("that stream is there", async || stats(&observer).await.streams.len() == 2).await;
    let following = tokio::spawn({
        let gone = gone.clone();
        async move { read(&gone, json!({"stream": "s", "follow": true, "start": {"0": 1}})).await }
    });
    until("all are open", async || {
        let (s, t) = (of_stream(&observer, "s").await, of_stream(&observer, "t").await);
        (s.appenders, s.readers, t.appenders, t.description.expect("is set").buffered_batches) == (1, 2, 1, 1)
    })
    .await;
    assert_eq!(stats(&observer).await.open_connections, 2);

    waiting.abort();
    following.abort();
    half.abort();
    drop(unread);
    until("cancelled calls have ended", async || {
        let (s, t) = (of_stream(&observer, "s").await, of_stream(&observer, "t").await);
        let (waiting, held) = (s.description.expect("is set").waiting.len(), t.description.expect("is set").buffered_batches);
        (s.appenders, s.readers, t.appenders, waiting, held) == (0, 0, 0, 0, 0)
    })
    .await;
    drop(gone);
    until("the connection is closed", async || stats(&observer).await.open_connections == 1).await;
    act(&observer, "ack", r#"{"stream": "s", "subscription": "a", "offsets": {"0": 1}}"#).await.expect("acks");
    soon(put(&observer, path("s"), vec![large(1)])).await.expect("the room is there, nobody stands in line");
    stop(server).await;
}

/// A `DoPut` to stream `t` that stops in the middle of a batch; it ends when the answer is dropped.
async fn half_a_message(channel: &Channel) -> tokio::task::JoinHandle<()> {
    use prost::Message as _;
    let bytes: Vec<u8> = messages(path("t"), vec![large(0)])
        .iter()
        .flat_map(|message| {
            let encoded = message.encode_to_vec();
            let length = u32::try_from(encoded.len()).expect("small");
            [vec![0], length.to_be_bytes().to_vec(), encoded].concat()
        })
        .collect();
    let half = bytes::Bytes::copy_from_slice(&bytes[..bytes.len() / 2]);
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let body = http_body_util::StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(receiver));
    let request = http::Request::post(super::server_support::DO_PUT).header("content-type", "application/grpc");
    let request = request.body(tonic::body::Body::new(body)).expect("a request");
    let answer = tokio::spawn(tower::ServiceExt::oneshot(channel.clone(), request));
    sender.send(Ok::<_, tonic::Status>(http_body::Frame::data(half))).await.expect("is read");
    let answer = answer.await.expect("ends").expect("begins");
    let both = (answer, sender);
    tokio::spawn(async move {
        let _both = both;
        std::future::pending::<()>().await;
    })
}

async fn a_stream_that_is_deleted_tells_everybody_who_uses_it(on: Transport) {
    let (server, channel) = on.started().await;
    create(&channel, "s", one_batch()).await;
    put(&channel, path("s"), vec![large(0)]).await.expect("one fits");
    let waiting = wait_for_room(&channel, "s", 0).await;
    let follow = |start: u64, end: Option<u64>| {
        let mut ticket = json!({"stream": "s", "follow": true, "start": {"0": start}});
        if let Some(end) = end {
            ticket["end"] = json!({"0": end});
        }
        let channel = channel.clone();
        tokio::spawn(async move { read(&channel, ticket).await.map(drop) })
    };
    let readers = [follow(0, None), follow(0, Some(9)), follow(1, None), follow(1, Some(9))];
    until("all read", async || {
        let s = of_stream(&channel, "s").await;
        (s.readers, s.delivered_batches) == (4, 2)
    })
    .await;
    act(&channel, "delete_stream", "s").await.expect("deletes");
    for call in readers.into_iter().chain([waiting]) {
        let status = soon(call).await.expect("ends").expect_err("is told");
        assert!(super::server_support::code(&status) == "stream_failed" && status.message().contains("deleted"), "{status}");
    }
    stop(server).await;
}

async fn a_deadline_that_passes_while_waiting_for_room_frees_the_place_in_the_line(on: Transport) {
    let (server, channel) = on.started().await;
    create(&channel, "s", one_batch()).await;
    put(&channel, path("s"), vec![numbers(0..1)]).await.expect("one fits");
    let mut request = tonic::Request::new(futures::stream::iter(messages(path("s"), vec![numbers(1..2)])));
    request.set_timeout(Duration::from_millis(100));
    let answer = soon(flight(&channel).do_put(request)).await;
    let ended = match answer {
        Ok(results) => futures::TryStreamExt::try_collect::<Vec<_>>(results.into_inner()).await.map(drop),
        Err(status) => Err(status),
    };
    assert!(ended.is_err(), "there is no room");
    until("nobody waits", async || of_stream(&channel, "s").await.description.expect("is set").waiting.is_empty()).await;
    assert_eq!(of_stream(&channel, "s").await.appenders, 0);
    stop(server).await;
}
