//! Quotas bound exactly the principal that they are of.

use std::time::Duration;

use arrow_flight::{FlightData, PutResult, Ticket};
use bowstring::engine::StreamName;
use bowstring::server::{QuotaConfig, QuotasConfig, Server, ServerConfig, StartError};
use bowstring::wire::proto::{
    CreateStreamRequest, DeleteStreamRequest, DeleteStreamResponse, GetStatsRequest, GetStatsResponse, ListStreamsRequest,
    ListStreamsResponse, StreamDescription, StreamOptions, StreamStats,
};
use bowstring::wire::secret::Secret;
use futures::{StreamExt, TryStreamExt};
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::super::http::get;
use super::super::server_support::{channel, code, command, flight, messages, numbers, path, soon, start, stop, until};
use super::{Tokens, act_as, call_as, put_as, read_as, with};

/// A server on which `noisy` has a quota, and `quiet` and `operator` have none.
async fn server(quota: QuotaConfig) -> (Server, Tokens, [Secret; 3]) {
    let (tokens, operator) = Tokens::new();
    let [noisy, quiet] = ["noisy", "quiet"].map(|name| tokens.issue(name, &["append:*", "read:*"]));
    let mut config = tokens.config();
    config.auth.quotas.principals.insert("noisy".to_owned(), quota);
    (start(config).await, tokens, [operator, noisy, quiet])
}

async fn create_as(channel: &Channel, token: &Secret, stream: &str, if_not_exists: bool) -> Result<StreamDescription, Status> {
    let request = CreateStreamRequest { stream: stream.to_owned(), if_not_exists, ..CreateStreamRequest::default() };
    call_as(channel, Some(token.reveal()), "CreateStream", request).await
}

async fn list_as(channel: &Channel, token: &Secret) -> Result<ListStreamsResponse, Status> {
    call_as(channel, Some(token.reveal()), "ListStreams", ListStreamsRequest::default()).await
}

fn assert_over(result: Result<impl std::fmt::Debug, Status>, words: &str) {
    let status = result.expect_err("it is over its quota");
    assert_eq!((code(&status).as_str(), status.code()), ("too_many", tonic::Code::ResourceExhausted));
    assert!(status.message().contains(words) && status.message().contains("noisy"), "{status}");
}

#[tokio::test]
async fn streams_beyond_the_quota_are_refused_however_they_are_made_until_one_is_deleted() {
    let (server, _tokens, [operator, noisy, quiet]) = server(QuotaConfig { streams: Some(2), ..QuotaConfig::default() }).await;
    let channel = channel(server.listen_addr()).await;
    create_as(&channel, &noisy, "one", false).await.unwrap();
    put_as(&channel, Some(noisy.reveal()), "two").await.unwrap();
    let words = "has 2 streams";
    assert_over(create_as(&channel, &noisy, "three", false).await, words);
    assert_over(put_as(&channel, Some(noisy.reveal()), "three").await, words);
    assert_over(act_as(&channel, Some(noisy.reveal()), "create_stream", r#"{"stream": "three"}"#).await, words);
    // Nothing is left of the attempts; what is there is used as ever.
    create_as(&channel, &quiet, "three", false).await.unwrap();
    create_as(&channel, &noisy, "three", true).await.unwrap();
    put_as(&channel, Some(noisy.reveal()), "three").await.unwrap();
    for stream in ["four", "five", "six"] {
        create_as(&channel, &quiet, stream, false).await.unwrap();
    }
    let delete = DeleteStreamRequest { stream: "one".to_owned() };
    call_as::<_, DeleteStreamResponse>(&channel, Some(operator.reveal()), "DeleteStream", delete).await.unwrap();
    create_as(&channel, &noisy, "seven", false).await.unwrap();
    assert_over(create_as(&channel, &noisy, "eight", false).await, words);
    stop(server).await;
}

#[tokio::test]
async fn calls_on_a_connection_beyond_the_quota_are_refused_until_another_is_closed() {
    let (server, _tokens, [_, noisy, quiet]) = server(QuotaConfig { connections: Some(2), ..QuotaConfig::default() }).await;
    let mut channels = Vec::new();
    for _ in 0..3 {
        channels.push(channel(server.listen_addr()).await);
    }
    for channel in &channels[..2] {
        // However often: a connection counts once.
        list_as(channel, &noisy).await.unwrap();
        put_as(channel, Some(noisy.reveal()), "s").await.unwrap();
    }
    let words = "has 2 connections";
    assert_over(list_as(&channels[2], &noisy).await, words);
    assert_over(put_as(&channels[2], Some(noisy.reveal()), "s").await, words);
    for channel in &channels {
        list_as(channel, &quiet).await.unwrap();
    }
    drop(channels.remove(0));
    until("the connection that is gone counts no more", || async { list_as(&channels[1], &noisy).await.is_ok() }).await;
    list_as(&channels[0], &noisy).await.unwrap();
    stop(server).await;
}

#[tokio::test]
async fn quotas_that_cannot_be_held_are_refused_at_the_start() {
    let (tokens, _operator) = Tokens::new();
    let quotas = |quota: QuotaConfig| QuotasConfig { principals: [("noisy".to_owned(), quota)].into(), ..QuotasConfig::default() };
    let mut config = tokens.config();
    for (quota, words) in [
        (QuotaConfig { connections: Some(0), ..QuotaConfig::default() }, "auth.quotas.connections is 0"),
        (QuotaConfig { append_bytes_per_second: Some(1023), ..QuotaConfig::default() }, "auth.quotas.append_bytes_per_second is 1023"),
        (QuotaConfig { read_bytes_per_second: Some(0), ..QuotaConfig::default() }, "auth.quotas.read_bytes_per_second is 0"),
        (QuotaConfig { buffered_bytes: Some(1), ..QuotaConfig::default() }, "auth.quotas.buffered_bytes is 1"),
    ] {
        config.auth.quotas = quotas(quota);
        let error = Server::start(config.clone()).await.unwrap_err();
        assert!(matches!(error, StartError::Config(_)) && error.to_string().contains(words), "{error}");
    }
    let mut config = ServerConfig::default();
    config.auth.quotas = quotas(QuotaConfig { streams: Some(1), ..QuotaConfig::default() });
    let error = Server::start(config).await.unwrap_err();
    assert!(matches!(error, StartError::Access(_)) && error.to_string().contains("auth.tokens"), "{error}");
}

/// The lowest rate: what a batch of `LARGE` rows owes by it is not over before the test is.
const RATE: u64 = 1024;
const LARGE: i64 = 200_000;

async fn stats_as(channel: &Channel, token: &Secret, stream: &str) -> StreamStats {
    let request = GetStatsRequest { stream: stream.to_owned() };
    let stats: GetStatsResponse = call_as(channel, Some(token.reveal()), "GetStats", request).await.unwrap();
    stats.streams.into_iter().next().unwrap()
}

type Put = JoinHandle<Result<Vec<PutResult>, Status>>;

/// Sends one batch after the other, and waits for the end of the call.
fn put_all(channel: &Channel, request: Request<Vec<FlightData>>) -> Put {
    let mut flight = flight(channel);
    tokio::spawn(async move { flight.do_put(request.map(futures::stream::iter)).await?.into_inner().try_collect().await })
}

#[tokio::test]
async fn who_appends_more_than_its_quota_waits_with_all_its_calls_and_nobody_else_does() {
    let (server, tokens, [operator, noisy, quiet]) =
        server(QuotaConfig { append_bytes_per_second: Some(RATE), ..QuotaConfig::default() }).await;
    // Another token, the same principal.
    let other = tokens.issue("noisy", &["append:*"]);
    let channel = channel(server.listen_addr()).await;
    until("the server has read the other token", || async {
        list_as(&channel, &other).await.map_or_else(|status| code(&status) != "unauthenticated", |_| true)
    })
    .await;
    let sent = |token: &Secret, stream, batches| with(Some(token.reveal()), messages(path(stream), batches));
    let mut waiting = put_all(&channel, sent(&noisy, "n", vec![numbers(0..LARGE), numbers(0..3), numbers(0..3)]));
    until("the first batch is there, however large", || async {
        let exists = !list_as(&channel, &operator).await.unwrap().streams.is_empty();
        exists && stats_as(&channel, &operator, "n").await.appended_batches == 1
    })
    .await;
    let mut also_waiting = put_all(&channel, sent(&other, "n", vec![numbers(0..3)]));
    for _ in 0..50 {
        put_as(&channel, Some(quiet.reveal()), "q").await.unwrap();
    }
    // Calls that carry no batches are not slowed: a producer that waits still gives its signs of life.
    list_as(&channel, &noisy).await.unwrap();
    create_as(&channel, &noisy, "more", false).await.unwrap();
    // The call's own deadline ends the wait, in the server as in the client, which may be first.
    let status = loop {
        let mut timely = sent(&other, "n", vec![numbers(0..3)]);
        timely.set_timeout(Duration::from_millis(200));
        let status = soon(put_all(&channel, timely)).await.unwrap().unwrap_err();
        if status.metadata().contains_key("bowstring-code") {
            break status;
        }
    };
    assert_eq!(code(&status), "timeout", "{status}");
    assert!(status.message().contains("noisy") && status.message().contains("1024 bytes per second"), "{status}");
    assert_eq!(stats_as(&channel, &operator, "q").await.appended_batches, 50);
    assert_eq!(stats_as(&channel, &operator, "n").await.appended_batches, 1);
    for put in [&mut waiting, &mut also_waiting] {
        assert!(!put.is_finished(), "{:?}", put.await);
    }
    // And so does the end of its token.
    tokens.revoke("noisy");
    for put in [waiting, also_waiting] {
        assert_eq!(code(&soon(put).await.unwrap().unwrap_err()), "unauthenticated");
    }
    assert_eq!(stats_as(&channel, &operator, "n").await.appended_batches, 1);
    stop(server).await;
}

#[tokio::test]
async fn who_reads_more_than_its_quota_waits_and_nobody_else_does() {
    let (server, _tokens, [operator, noisy, quiet]) =
        server(QuotaConfig { read_bytes_per_second: Some(RATE), ..QuotaConfig::default() }).await;
    let channel = channel(server.listen_addr()).await;
    let options = StreamOptions { max_buffered_batches: Some(1000), ..StreamOptions::default() };
    let create = CreateStreamRequest { stream: "s".to_owned(), options: Some(options), ..CreateStreamRequest::default() };
    call_as::<_, StreamDescription>(&channel, Some(quiet.reveal()), "CreateStream", create).await.unwrap();
    // What is taken at once is 64 batches: they go out whole, and are owed.
    let (at_once, rest) = (64, 7);
    let batches = std::iter::once(LARGE).chain(std::iter::repeat_n(3, at_once - 1 + rest)).map(|rows| numbers(0..rows));
    let all = with(Some(noisy.reveal()), messages(path("s"), batches.collect()));
    put_all(&channel, all).await.unwrap().unwrap();
    let ticket = || Ticket { ticket: r#"{"stream": "s"}"#.into() };
    let mut read = flight(&channel).do_get(with(Some(noisy.reveal()), ticket())).await.unwrap().into_inner();
    let first: Vec<_> = soon(read.by_ref().take(1 + at_once).try_collect()).await.unwrap();
    assert_eq!(first.len(), 1 + at_once);
    let mut also = flight(&channel).do_get(with(Some(noisy.reveal()), ticket())).await.unwrap().into_inner();
    // The schema.
    soon(also.next()).await.unwrap().unwrap();
    for _ in 0..3 {
        soon(read_as(&channel, Some(quiet.reveal()), r#"{"stream": "s"}"#)).await.unwrap();
    }
    let delivered = at_once + 3 * (at_once + rest);
    assert_eq!(stats_as(&channel, &operator, "s").await.delivered_batches, delivered as u64);
    stop(server).await;
    for read in [read, also] {
        let ended: Result<Vec<_>, Status> = soon(read.try_collect()).await;
        assert_eq!(code(&ended.unwrap_err()), "shutting_down");
    }
}

#[tokio::test]
async fn what_is_slowed_is_stored_all_the_same_and_metrics_say_how_long_it_has_waited() {
    let (tokens, _operator) = Tokens::new();
    let [noisy, unnamed] = ["noisy", "unnamed"].map(|name| tokens.issue(name, &["append:*"]));
    let mut config = tokens.config();
    let quota = QuotaConfig { append_bytes_per_second: Some(4 * RATE), ..QuotaConfig::default() };
    config.auth.quotas.principals.insert("noisy".to_owned(), quota);
    config.auth.quotas.append_bytes_per_second = Some(1 << 40);
    config.auth.open_metrics = true;
    let server = start(config).await;
    let channel = channel(server.listen_addr()).await;
    for token in [&noisy, &unnamed] {
        let batches = std::iter::repeat_with(|| numbers(0..100)).take(8).collect();
        let put = put_all(&channel, with(Some(token.reveal()), messages(path("s"), batches)));
        soon(put).await.unwrap().unwrap();
    }
    let name = StreamName::new("s").unwrap();
    assert_eq!(server.coordinator().get(&name).unwrap().describe().partitions[0].end.0, 16);
    let (_, text) = get(server.http_addr().unwrap(), "/metrics").await;
    let slowed = |principal: &str| -> f64 {
        let series = format!("bowstring_quota_slowed_seconds_total{{principal=\"{principal}\",quota=\"append_bytes_per_second\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&series)).expect(principal).parse().unwrap()
    };
    assert!(slowed("noisy") > 0.1 && slowed("other") < slowed("noisy"), "{} {}", slowed("noisy"), slowed("other"));
    assert!(!text.contains("unnamed"), "a name that the configuration does not have is no label");
    stop(server).await;
}

#[tokio::test]
async fn who_has_more_in_memory_than_its_quota_waits_until_some_is_acked_and_nobody_else_does() {
    let (server, _tokens, [operator, noisy, quiet]) = server(QuotaConfig { buffered_bytes: Some(1 << 20), ..QuotaConfig::default() }).await;
    let channel = channel(server.listen_addr()).await;
    create_as(&channel, &noisy, "n", false).await.unwrap();
    let subscribe = r#"{"stream": "n", "subscription": "a", "start": "earliest"}"#;
    act_as(&channel, Some(operator.reveal()), "subscribe", subscribe).await.unwrap();
    let operator_token = &operator;
    let appended = |stream: &'static str| {
        let channel = channel.clone();
        async move { stats_as(&channel, operator_token, stream).await.appended_batches }
    };
    // 400 kB each: two of them fit.
    let large = |count: usize| std::iter::repeat_with(|| numbers(0..50_000)).take(count).collect::<Vec<_>>();
    let put = |token: &Secret, to, batches| put_all(&channel, with(Some(token.reveal()), messages(to, batches)));
    let waiting = put(&noisy, path("n"), large(5));
    until("two batches are there", || async { appended("n").await == 2 }).await;
    soon(put(&quiet, path("q"), large(10))).await.unwrap().unwrap();
    // Another stream is no way around it, and what waits is told when its time is over.
    let mut timely = with(Some(noisy.reveal()), messages(path("m"), large(1)));
    timely.set_timeout(Duration::from_millis(200));
    let refusals = [
        (soon(put_all(&channel, timely)).await, "buffer_full", "noisy may have 1048576 bytes"),
        (soon(put(&noisy, path("m"), vec![numbers(0..LARGE)])).await, "batch_too_large", "noisy may have 1048576"),
    ];
    for (refused, expected, words) in refusals {
        let status = refused.unwrap().unwrap_err();
        assert_eq!(code(&status), expected, "{status}");
        assert!(status.message().contains(words), "{status}");
    }
    assert_eq!((appended("n").await, appended("m").await, appended("q").await), (2, 0, 10));
    assert!(!waiting.is_finished());
    for acked in 1..=3 {
        let ack = format!(r#"{{"stream": "n", "subscription": "a", "offsets": {{"0": {acked}}}}}"#);
        act_as(&channel, Some(operator.reveal()), "ack", &ack).await.unwrap();
        until("one is acked and one has come", || async { appended("n").await == acked + 2 }).await;
    }
    soon(waiting).await.unwrap().unwrap();
    stop(server).await;
}

#[tokio::test]
async fn an_open_epoch_never_waits_for_what_it_holds_itself() {
    let (server, _tokens, [_, noisy, _]) = server(QuotaConfig { buffered_bytes: Some(1 << 20), ..QuotaConfig::default() }).await;
    let channel = channel(server.listen_addr()).await;
    create_as(&channel, &noisy, "e", false).await.unwrap();
    let epoch = r#"{"stream": "e", "producer": "p", "run": "r", "epoch": 0}"#;
    act_as(&channel, Some(noisy.reveal()), "open_epoch", epoch).await.unwrap();
    let writer = r#"{"stream": "e", "producer": "p", "run": "r", "epoch": 0, "task": 0, "attempt": 0, "partition": 0}"#;
    let batches = std::iter::repeat_with(|| numbers(0..50_000)).take(3).collect();
    let refused = soon(put_all(&channel, with(Some(noisy.reveal()), messages(command(writer), batches)))).await.unwrap();
    assert_eq!(code(&refused.unwrap_err()), "buffer_full");
    stop(server).await;
}
