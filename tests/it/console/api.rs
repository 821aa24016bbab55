//! What the API says of streams, of who is held up, of the coordinator and of its settings.

use std::time::Duration;

use bowstring::client::{ConsumerOptions, ProducerOptions};
use bowstring::wire::proto::StreamOptions;
use serde_json::{Value, json};

use super::super::cli::coordinator::Coordinator;
use super::super::client_support::{self, connect, numbered, partitions, soon};
use super::super::server_support::{started, stop, until};
use super::{api, get, show};

/// Names of the streams that a list has.
fn names(list: &Value) -> Vec<&str> {
    list["streams"].as_array().expect("streams").iter().map(|stream| stream["name"].as_str().expect("a name")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_waits_is_seen_with_the_subscription_that_it_waits_for() {
    let (server, _channel) = started().await;
    let client = connect(&server.url()).await;
    client_support::create(&client, "clicks", StreamOptions { max_buffered_batches: Some(1), ..partitions(1) }).await;
    client_support::create(&client, "calm", partitions(1)).await;
    let options = ConsumerOptions { subscription: Some("train".to_owned()), ..ConsumerOptions::default() };
    let mut consumer = client.consumer("clicks", options).await.expect("subscribes");
    let producer = ProducerOptions { producer: Some("ingest".to_owned()), ..ProducerOptions::default() };
    let mut producer = client.producer("clicks", producer).expect("opens");
    for number in 0..2 {
        producer.append(&numbered(number, 3), None, bytes::Bytes::new()).await.expect("is sent");
    }
    // A consumer has subscribed before its read is there.
    let is_blocked = async || show(&server, "overview", &[]).await["reasons"][0]["cause"] == "consumer";
    until("the stream is blocked by its consumer", is_blocked).await;

    let overview = show(&server, "overview", &[]).await;
    let reason = &overview["reasons"][0];
    assert_eq!((&reason["stream"], &reason["level"], &reason["waits"]), (&json!("clicks"), &json!("blocked"), &json!("ingest")));
    assert_eq!((&reason["subscription"], &reason["cause"]), (&json!("train"), &json!("consumer")));
    assert!(reason["text"].as_str().is_some_and(|text| text.starts_with("producer ingest waits ")), "{reason}");
    assert_eq!((&overview["streams"], &overview["waiting_appenders"], &overview["foremost"][0]), (&json!(2), &json!(1), &json!("clicks")));
    assert_eq!(overview["buffers"]["memory_batches"], json!({ "used": 1, "limit": 65 }));
    assert_eq!(names(&show(&server, "streams", &[("level", "blocked")]).await), ["clicks"]);

    let stream = show(&server, "stream", &[("name", "clicks")]).await;
    assert_eq!((&stream["level"], &stream["waiting"][0]["producer"]), (&json!("blocked"), &json!("ingest")));
    assert_eq!(stream["schema"]["fields"][0]["type"], "int64");
    assert_eq!((&stream["partitions"][0]["end"], &stream["options"]["max_buffered_batches"]), (&json!(1), &json!(1)));
    let subscription = &stream["subscriptions"][0];
    assert_eq!(
        (&subscription["name"], &subscription["lag"]["batches"], &subscription["lag"]["rows"]),
        (&json!("train"), &json!(1), &json!(3))
    );
    assert_eq!(subscription["consumers"].as_array().map(Vec::len), Some(1));

    let delivered = soon(consumer.next(None)).await.expect("reads").expect("a batch");
    let end = bowstring::engine::Offset(delivered.offset.0 + 1);
    client.ack("clicks", "train", &[(delivered.partition, end)].into(), None).await.expect("acks");
    soon(producer.flush()).await.expect("there is room");
    let is_over = async || show(&server, "overview", &[]).await["levels"]["blocked"] == 0;
    until("nobody is blocked", is_over).await;
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_filtered_sorted_and_paged_by_the_server() {
    let (server, _channel) = started().await;
    let client = connect(&server.url()).await;
    for number in 0..120 {
        client_support::create(&client, &format!("stream-{number:03}"), partitions(1)).await;
    }
    let mut producer = client.producer("stream-077", ProducerOptions::default()).expect("opens");
    producer.append(&numbered(0, 3), None, bytes::Bytes::new()).await.expect("is sent");
    soon(producer.flush()).await.expect("is stored");
    let is_seen = async || show(&server, "streams", &[("sort", "buffered"), ("per_page", "1")]).await["streams"][0]["name"] == "stream-077";
    until("the stream that holds most comes first", is_seen).await;
    let page = show(&server, "streams", &[("per_page", "50"), ("page", "3")]).await;
    assert_eq!((&page["total"], &page["matching"], names(&page).len()), (&json!(120), &json!(120), 20));
    assert_eq!(names(&page)[0], "stream-100");
    let page = show(&server, "streams", &[("filter", "STREAM-01"), ("per_page", "4"), ("page", "2")]).await;
    assert_eq!((&page["matching"], names(&page)), (&json!(10), vec!["stream-014", "stream-015", "stream-016", "stream-017"]));
    assert!(names(&show(&server, "streams", &[("page", "9")]).await).is_empty());
    for sort in ["name", "level", "rows_in", "bytes_in", "rows_out", "bytes_out", "lag", "lag_seconds", "buffered"] {
        assert_eq!(names(&show(&server, "streams", &[("sort", sort)]).await).len(), 50, "{sort}");
    }
    for wrong in [("sort", "colour"), ("level", "angry"), ("page", "-1"), ("page", "x"), ("per_page", "201")] {
        let refused = get(&server, &api("streams", &[wrong])).await;
        assert_eq!(refused.refusal(), (400, "invalid_argument".to_owned()), "{wrong:?}");
        assert!(refused.body.contains(wrong.0) && refused.body.contains(wrong.1), "{}", refused.body);
    }
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_any_name_are_found_and_others_are_not() {
    let (server, _channel) = started().await;
    let client = connect(&server.url()).await;
    for name in ["<script>alert(1)</script>", "..", "a/b?c=d&e#f%2F", "\u{202e}x", "流れ", "a+b c"] {
        client_support::create(&client, name, partitions(1)).await;
        assert_eq!(show(&server, "stream", &[("name", name)]).await["name"], name);
        let is_listed = async || names(&show(&server, "streams", &[("filter", name)]).await) == [name];
        until("it is listed", is_listed).await;
        assert!(show(&server, "history", &[("name", name)]).await["times"].is_array());
    }
    for api_of in ["stream", "rows", "history"] {
        assert_eq!(get(&server, &api(api_of, &[("name", "nosuch")])).await.refusal(), (404, "stream_not_found".to_owned()));
    }
    assert_eq!(get(&server, "/api/v1/stream").await.refusal(), (400, "invalid_argument".to_owned()));
    assert_eq!(get(&server, "/api/v2/overview").await.status, 404);
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rates_and_history_follow_what_moves_and_the_sampler_ends_with_the_server() {
    let (server, _channel) = started().await;
    let client = connect(&server.url()).await;
    client_support::create(&client, "s", StreamOptions { max_buffered_batches: Some(100_000), ..partitions(1) }).await;
    let mut producer = client.producer("s", ProducerOptions::default()).expect("opens");
    let moving = async {
        for number in 0.. {
            producer.append(&numbered(number, 10), None, bytes::Bytes::new()).await.expect("is sent");
            if show(&server, "overview", &[]).await["rates"]["rows_in"].as_f64().is_some_and(|rate| rate > 0.0) {
                return;
            }
        }
    };
    soon(moving).await;
    assert_eq!(show(&server, "overview", &[]).await["foremost"], json!(["s"]));
    assert_eq!(show(&server, "history", &[]).await["interval_seconds"], 10);
    drop(producer);
    drop(client);
    tokio::time::timeout(Duration::from_secs(20), server.shutdown(Duration::from_secs(10))).await.expect("all tasks end");
}

#[test]
fn each_setting_says_where_it_was_given() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("bowstring.toml");
    std::fs::write(&file, "max_spool_bytes = \"1MiB\"\nmax_buffered_batches = 7\n").expect("writes");
    let flags =
        ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--max-buffered-batches", "9", "--config", file.to_str().expect("a path")];
    let coordinator = Coordinator::start_with(&flags, &[("BOWSTRING_MAX_WAIT", "3s")]);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let http = coordinator.http.as_deref().expect("is on").parse().expect("an address");
    let settings = runtime.block_on(super::ask(http, "GET", "/api/v1/configuration", "localhost")).json();
    let of = |name: &str| {
        let found = settings["settings"].as_array().expect("settings").iter().find(|setting| setting["name"] == name);
        let found = found.unwrap_or_else(|| panic!("no {name}"));
        (found["value"].clone(), found["source"].as_str().expect("a source").to_owned())
    };
    assert_eq!(of("max_buffered_batches"), (json!(9), "flag".to_owned()));
    assert_eq!(of("max_wait"), (json!(3000), "environment".to_owned()));
    assert_eq!(of("max_spool_bytes"), (json!(1 << 20), "file".to_owned()));
    assert_eq!(of("connections_max"), (json!(10_000), "default".to_owned()));
}

#[tokio::test]
async fn health_tells_what_the_coordinator_takes_and_which_errors_it_has_given() {
    let (server, channel) = started().await;
    super::super::server_support::refused(super::super::server_support::act(&channel, "describe_stream", r#"{"stream": "nosuch"}"#).await);
    let health = show(&server, "health", &[]).await;
    assert_eq!((&health["status"], &health["ready"], &health["storage"]), (&json!("ok"), &json!("ready"), &json!("memory")));
    assert!(health["resident_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20) && health["errors"].is_object());
    stop(server).await;
}
