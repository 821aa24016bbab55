//! Every error code over the wire: what a caller does, and the code that the refusal carries.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow_flight::FlightDescriptor;
use bowstring::engine::Code;
use bowstring::server::{Server, ServerConfig};
use bowstring::wire::metadata::AppendMetadata;
use bowstring::wire::proto::{
    AckRequest, AckResponse, CreateStreamRequest, FullPolicy, KeepProducerRequest, KeepProducerResponse, StreamDescription, StreamOptions,
    SubscribeRequest, SubscriptionDescription, SubscriptionMode,
};
use serde_json::json;
use tonic::transport::Channel;

use super::server_support::{DO_PUT, flight};
use super::server_support::{
    act, call, channel, command, create, messages, numbers, path, put, raw, read, refused, send, soon, start, stop,
};

/// Codes that no call over the wire can bring about at will, or that have a test of their own, and the test that does.
const ELSEWHERE: &[(Code, &str, &str)] = &[
    (Code::AppenderNotReady, "tests/engine/errors.rs", "AppenderNotReady: append("),
    (Code::Cancelled, "src/server/write.rs", "a_body_that_breaks_off_is_cancelled"),
    (Code::Unauthenticated, "tests/it/access/permissions.rs", "who_shows_no_token_that_counts_gets_health_and_nothing_else"),
    (Code::PermissionDenied, "tests/it/access/permissions.rs", "each_call_takes_its_verb_and_every_other_verb_is_refused"),
    (Code::QueryFailed, "tests/it/queries.rs", "a_batch_without_an_answer_is_named_and_the_subscription_goes_on_behind_it"),
    (Code::Internal, "src/server/error.rs", "a_defect_says_that_it_is_one"),
];

/// A batch may have 1,000 bytes; there is room for two batches, and no spool.
fn small() -> StreamOptions {
    StreamOptions { max_buffered_batches: Some(2), max_buffered_bytes: Some(1_000), max_spool_bytes: Some(0), ..Default::default() }
}

fn direct(stream: &str, run: &str) -> FlightDescriptor {
    command(json!({"stream": stream, "producer": "p", "run": run, "partition": 0}))
}

fn writer(epoch: u64) -> FlightDescriptor {
    command(json!({"stream": "epochs", "producer": "p", "run": "r", "epoch": epoch, "task": 0, "attempt": 0, "partition": 0}))
}

fn epoch(number: u64) -> String {
    json!({"stream": "epochs", "producer": "p", "run": "r", "epoch": number}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_code_is_produced() {
    let spool = tempfile::tempdir().expect("a folder");
    let config = ServerConfig { spool_dir: Some(spool.path().join("spool")), message_bytes_max: 1 << 20, ..ServerConfig::default() };
    let server = start(config).await;
    let channel = channel(server.listen_addr()).await;
    let mut produced = BTreeSet::new();
    produced.extend(of_requests(&channel).await);
    produced.extend(of_appends(&channel).await);
    produced.extend(of_epochs(&channel).await);
    produced.extend(of_reads(&channel).await);
    std::fs::remove_dir_all(spool.path().join("spool")).expect("is there");
    produced.insert(of_storage(&channel).await);
    produced.extend(of_shutdown(server, &channel).await);

    for (code, file, test) in ELSEWHERE {
        let text = std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("is there");
        assert!(text.contains(test), "{file} has no {test}, which is to produce {}", code.as_str());
        assert!(produced.insert(code.as_str().to_owned()), "{} is produced here: it needs no other test", code.as_str());
    }
    let all: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str().to_owned()).collect();
    assert_eq!(produced, all);
}

async fn of_requests(channel: &Channel) -> Vec<String> {
    create(channel, "s", StreamOptions::default()).await;
    let again = CreateStreamRequest { stream: "s".into(), ..Default::default() };
    let mut codes = vec![refused(call::<_, StreamDescription>(channel, "CreateStream", again).await)];
    for number in 0..1024 {
        let subscription = number.to_string();
        let request = SubscribeRequest { stream: "s".into(), subscription, ..Default::default() };
        call::<_, SubscriptionDescription>(channel, "Subscribe", request).await.expect("fits");
    }
    let one_more = json!({"stream": "s", "subscription": "one more"}).to_string();
    codes.push(refused(act(channel, "subscribe", one_more).await));
    codes.push(refused(act(channel, "ack", r#"{"stream": "s", "subscription": "nobody", "offsets": {}}"#).await));
    codes.push(refused(act(channel, "ack", r#"{"stream": "s", "subscription": "0", "offsets": {"0": 1}}"#).await));
    let former = AckRequest { stream: "s".into(), subscription: "0".into(), generation: 1, ..Default::default() };
    codes.push(refused(call::<_, AckResponse>(channel, "Ack", former).await));
    let stranger = json!({"stream": "shared", "subscription": "team", "follow": true, "consumer_id": 7});
    let mode = SubscriptionMode::Partitioned.into();
    let team = SubscribeRequest { stream: "shared".into(), subscription: "team".into(), mode, ..Default::default() };
    create(channel, "shared", StreamOptions::default()).await;
    call::<_, SubscriptionDescription>(channel, "Subscribe", team).await.expect("a new one");
    codes.push(refused(read(channel, stranger).await));
    codes.push(of_an_eviction(channel).await);
    codes.push(refused(act(channel, "describe", "").await));
    codes.push(refused(act(channel, "describe", "nosuch").await));
    codes.push(refused(act(channel, "nosuch", "").await));
    assert_eq!(
        codes,
        [
            "stream_exists",
            "too_many",
            "subscription_not_found",
            "offset_ahead",
            "subscription_moved",
            "lease_lost",
            "subscription_evicted",
            "invalid_argument",
            "stream_not_found",
            "unimplemented"
        ]
    );
    codes
}

/// What the consumers of a subscription get that was evicted.
async fn of_an_eviction(channel: &Channel) -> String {
    create(channel, "evicts", small()).await;
    let subscribe = json!({"stream": "evicts", "subscription": "slow", "on_overflow": "evict"}).to_string();
    act(channel, "subscribe", subscribe).await.expect("subscribes");
    put(channel, path("evicts"), (0..3).map(|batch| numbers(batch..batch + 1)).collect()).await.expect("there is room at its cost");
    refused(act(channel, "ack", r#"{"stream": "evicts", "subscription": "slow", "offsets": {"0": 1}}"#).await)
}

async fn of_appends(channel: &Channel) -> Vec<String> {
    create(channel, "small", small()).await;
    let words = RecordBatch::try_from_iter([("n", Arc::new(StringArray::from(vec!["a"])) as ArrayRef)]).expect("one column");
    put(channel, path("small"), vec![numbers(0..3), numbers(3..6)]).await.expect("two fit");
    let mut codes = vec![refused(put(channel, path("small"), vec![words]).await)];
    codes.push(refused(put(channel, path("small"), vec![numbers(0..200)]).await));
    codes.push(refused(put(channel, path("small"), vec![numbers(0..200_000)]).await));
    let hurried = command(json!({"stream": "small", "append_timeout_ms": 1}));
    codes.push(refused(put(channel, hurried, vec![numbers(0..3)]).await));
    let second = FlightDescriptor::new_path(vec!["small".to_owned(), "1".to_owned()]);
    codes.push(refused(put(channel, second, vec![numbers(0..3)]).await));
    codes.push(raw(channel, DO_PUT, [vec![0, 0, 0, 0, 3, 0x0a].into()]).await);
    codes.push(refused(put(channel, command(json!({"stream": "small", "stream_id": 1})), vec![numbers(0..3)]).await));

    create(channel, "rejects", StreamOptions { full_policy: FullPolicy::Reject.into(), ..small() }).await;
    codes.push(refused(put(channel, path("rejects"), (0..3).map(|batch| numbers(batch..batch + 1)).collect()).await));
    act(channel, "complete", "rejects").await.expect("completes");
    codes.push(refused(put(channel, path("rejects"), vec![numbers(0..3)]).await));

    create(channel, "direct", StreamOptions::default()).await;
    put(channel, direct("direct", "old"), vec![numbers(0..1)]).await.expect("appends");
    put(channel, direct("direct", "new"), vec![numbers(0..1)]).await.expect("takes over");
    codes.push(refused(put(channel, direct("direct", "old"), vec![numbers(0..1)]).await));
    let mut gap = messages(direct("direct", "new"), vec![numbers(0..1)]);
    gap[1].app_metadata = AppendMetadata { partition: Some(0), ordinal: 7, ..AppendMetadata::default() }.to_bytes();
    codes.push(refused(send(channel, gap).await));
    codes.push(refused(put(channel, command(json!({"stream": "direct", "link": 1})), vec![numbers(0..1)]).await));
    let on = |number: u64| {
        let connection = json!({"stream": "direct", "producer": "p", "run": "new", "sender": "18446744073709551615", "connection": number});
        put(channel, command(connection), vec![numbers(0..1)])
    };
    on(2).await.expect("opens");
    codes.push(refused(on(1).await));
    let half = json!({"stream": "direct", "producer": "p", "run": "new", "sender": 7});
    codes.push(refused(put(channel, command(half), vec![numbers(0..1)]).await));
    assert_eq!(
        codes,
        [
            "schema_mismatch",
            "batch_too_large",
            "message_too_large",
            "timeout",
            "partition_out_of_range",
            "malformed_message",
            "stream_replaced",
            "buffer_full",
            "stream_completed",
            "fenced",
            "ordinal_gap",
            "unavailable",
            "fenced",
            "invalid_argument"
        ]
    );
    codes
}

async fn of_epochs(channel: &Channel) -> Vec<String> {
    create(channel, "epochs", small()).await;
    act(channel, "commit_epoch", epoch(0)).await.expect("an empty one");
    let mut codes = vec![refused(put(channel, writer(0), vec![numbers(0..1)]).await)];
    let three = (0..3).map(|batch| numbers(batch..batch + 1)).collect();
    codes.push(refused(put(channel, writer(1), three).await));
    let mut body: serde_json::Value = serde_json::from_str(&epoch(1)).expect("JSON");
    body["receipts"] =
        json!([{"stream_id": act(channel, "describe", "epochs").await.expect("is there")["stream_id"], "task": 9, "attempt": 0}]);
    codes.push(refused(act(channel, "commit_epoch", body.to_string()).await));
    codes.push(of_an_abort(channel).await);
    assert_eq!(codes, ["epoch_committed", "spool_full", "receipt_unknown", "epoch_not_open"]);
    codes
}

/// What a writer gets whose epoch is aborted between two of its batches.
async fn of_an_abort(channel: &Channel) -> String {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let mut batches = messages(writer(2), vec![numbers(0..1), numbers(1..2)]).into_iter();
    let requests = tokio_stream::wrappers::ReceiverStream::new(receiver);
    for message in batches.by_ref().take(1) {
        sender.send(message).await.expect("is read");
    }
    let mut results = soon(flight(channel).do_put(requests)).await.expect("begins").into_inner();
    soon(results.message()).await.expect("an answer").expect("says that it is open");
    act(channel, "abort_epoch", epoch(2)).await.expect("aborts");
    for message in batches {
        // It may have ended already.
        let _ = sender.send(message).await;
    }
    loop {
        match soon(results.message()).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a writer of an aborted epoch got a receipt"),
            Err(status) => return super::server_support::code(&status),
        }
    }
}

async fn of_reads(channel: &Channel) -> Vec<String> {
    create(channel, "gone", StreamOptions::default()).await;
    put(channel, path("gone"), vec![numbers(0..1), numbers(1..2)]).await.expect("appends");
    act(channel, "subscribe", r#"{"stream": "gone", "subscription": "a"}"#).await.expect("subscribes");
    act(channel, "ack", r#"{"stream": "gone", "subscription": "a", "offsets": {"0": 1}}"#).await.expect("acks");
    let mut codes = vec![refused(read(channel, json!({"stream": "gone", "start": {"0": 0}})).await)];
    let lease = KeepProducerRequest { stream: "gone".into(), producer: "p".into(), run: "r".into(), lease_millis: 1 };
    let KeepProducerResponse {} = call(channel, "KeepProducer", lease).await.expect("is alive");
    codes.push(refused(soon(read(channel, json!({"stream": "gone", "follow": true}))).await));
    act(channel, "fail", r#"{"stream": "gone", "reason": "the source broke"}"#).await.expect("fails");
    codes.push(refused(read(channel, json!({"stream": "gone", "follow": true})).await));
    assert_eq!(codes, ["offset_gone", "producer_lost", "stream_failed"]);
    codes
}

/// A spool whose folder is gone.
async fn of_storage(channel: &Channel) -> String {
    let options = StreamOptions { max_buffered_batches: Some(1), ..StreamOptions::default() };
    create(channel, "spools", options).await;
    let writer = command(json!({"stream": "spools", "producer": "p", "run": "r", "epoch": 0, "task": 0, "attempt": 0, "partition": 0}));
    let code = refused(put(channel, writer, vec![numbers(0..1), numbers(1..2)]).await);
    assert_eq!(code, "storage");
    code
}

async fn of_shutdown(server: Server, channel: &Channel) -> Vec<String> {
    let url = server.url();
    let following = tokio::spawn({
        let channel = channel.clone();
        async move { read(&channel, json!({"stream": "direct", "follow": true})).await }
    });
    super::server_support::until("the consumer reads", async || {
        let streams = super::server_support::stats(channel).await.streams;
        streams.iter().any(|stream| stream.readers == 1)
    })
    .await;
    stop(server).await;
    let told = refused(soon(following).await.expect("ends"));
    let client = bowstring::client::Client::connect(
        &url,
        bowstring::client::ClientOptions { connect_timeout: Duration::from_millis(50), ..Default::default() },
    );
    let unreachable = client.await.expect_err("nobody listens").code().as_str().to_owned();
    assert_eq!((told.as_str(), unreachable.as_str()), ("shutting_down", "unavailable"));
    vec![told, unreachable]
}
