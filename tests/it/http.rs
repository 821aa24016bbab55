//! What watches a coordinator sees: health, readiness, reflection, metrics.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bowstring::server::{METRICS, MetricKind, ServerConfig};
use bowstring::wire::proto::StreamOptions;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ExtensionRequest, ServerReflectionRequest};

use super::server_support::{act, channel, command, create, numbers, path, put, read, refused, soon, start, started, stop, until};

/// Status and body of an answer.
pub(crate) async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut connection = TcpStream::connect(address).await.expect("listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: bowstring\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.expect("sends");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.expect("answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.split(' ').nth(1).expect("a status").parse().expect("a number"), body.to_owned())
}

/// A scrape: every series with its labels in the order of the text, and the kinds.
struct Scrape {
    series: BTreeMap<String, f64>,
    kinds: BTreeMap<String, String>,
}

impl Scrape {
    /// Reads Prometheus' text format strictly: help and kind before each metric's series, no series twice.
    async fn of(address: SocketAddr) -> Self {
        let (status, text) = get(address, "/metrics").await;
        assert_eq!(status, 200);
        let (mut series, mut kinds, mut helps) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').expect("a help");
                assert_eq!(helps.insert(name.to_owned(), help.to_owned()), None, "{name} comes once");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a kind");
                kinds.insert(name.to_owned(), kind.to_owned());
            } else {
                let (name, value) = line.rsplit_once(' ').expect("a value");
                let family = name.split('{').next().expect("a name");
                let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| family.strip_suffix(end));
                assert!([Some(family), of_histogram].into_iter().flatten().any(|name| kinds.contains_key(name)), "{line}");
                assert_eq!(series.insert(name.to_owned(), value.parse().expect("a number")), None, "{name} comes once");
            }
        }
        assert!(text.ends_with('\n') && helps.len() == kinds.len());
        Self { series, kinds }
    }

    fn value(&self, series: &str) -> f64 {
        *self.series.get(series).unwrap_or_else(|| panic!("no {series} in {:#?}", self.series))
    }
}

#[tokio::test]
async fn healthy_and_ready_are_told_over_http_and_wrong_paths_are_not_found() {
    let (server, _channel) = started().await;
    let address = server.http_addr().expect("is on");
    let (status, health) = get(address, "/healthz").await;
    assert_eq!((status, serde_json::from_str::<serde_json::Value>(&health).expect("JSON")["status"].as_str()), (200, Some("ok")));
    let (status, ready) = get(address, "/readyz").await;
    assert_eq!((status, ready.as_str()), (200, r#"{"status":"ready"}"#));
    assert_eq!(get(address, "/nosuch").await.0, 404);
    stop(server).await;
}

#[tokio::test]
async fn not_ready_is_told_while_the_last_calls_end() {
    let (server, channel) = started().await;
    let address = server.http_addr().expect("is on");
    put(&channel, path("s"), (0..8).map(|batch| numbers(batch * 500_000..(batch + 1) * 500_000)).collect()).await.expect("appends");
    let ticket = arrow_flight::Ticket { ticket: r#"{"stream": "s"}"#.into() };
    let mut stalled = super::server_support::flight(&channel).do_get(ticket).await.expect("begins").into_inner();
    stalled.message().await.expect("one").expect("the schema");
    let mut health = HealthClient::new(channel.clone()).watch(HealthCheckRequest::default()).await.expect("watches").into_inner();
    let serving = health.message().await.expect("one").expect("a status").status;
    assert_eq!(serving, ServingStatus::Serving as i32);

    let stopping = tokio::spawn(async move { server.shutdown(Duration::from_secs(30)).await });
    assert_eq!(soon(health.message()).await.expect("one").expect("a status").status, ServingStatus::NotServing as i32);
    assert_eq!(soon(health.message()).await.expect("ends in good order"), None);
    assert_eq!(get(address, "/readyz").await, (503, r#"{"status":"shutting_down"}"#.to_owned()));
    assert_eq!(Scrape::of(address).await.value("bowstring_ready"), 0.0);
    assert_eq!(get(address, "/healthz").await.0, 200);
    drop(stalled);
    soon(stopping).await.expect("ends as soon as the last call has ended");
    assert!(TcpStream::connect(address).await.is_err(), "the port is closed");
}

#[tokio::test]
async fn grpc_health_knows_the_services() {
    let (server, channel) = started().await;
    let mut health = HealthClient::new(channel);
    for service in ["", "bowstring.v1.Control", "arrow.flight.protocol.FlightService"] {
        let answer = health.check(HealthCheckRequest { service: service.to_owned() }).await.expect("is known");
        assert_eq!(answer.into_inner().status, ServingStatus::Serving as i32, "{service}");
    }
    let unknown = health.check(HealthCheckRequest { service: "nosuch".to_owned() }).await.expect_err("is unknown");
    assert_eq!(unknown.code(), tonic::Code::NotFound);
    stop(server).await;
}

#[tokio::test]
async fn reflection_lists_the_services_and_describes_their_calls() {
    let (server, channel) = started().await;
    let ask = |request| ServerReflectionRequest { host: String::new(), message_request: Some(request) };
    let requests = [
        MessageRequest::ListServices(String::new()),
        MessageRequest::FileContainingSymbol("bowstring.v1.Control".to_owned()),
        MessageRequest::FileContainingSymbol("grpc.health.v1.Health".to_owned()),
        MessageRequest::FileContainingExtension(ExtensionRequest::default()),
    ];
    let mut client = ServerReflectionClient::new(channel);
    let mut answers = client.server_reflection_info(futures::stream::iter(requests.map(ask))).await.expect("begins").into_inner();
    let mut next = async || answers.message().await.map(|answer| answer.expect("an answer").message_response.expect("a message"));
    let MessageResponse::ListServicesResponse(list) = next().await.expect("lists") else { panic!("no list") };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in ["bowstring.v1.Control", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{names:?}");
        let MessageResponse::FileDescriptorResponse(file) = next().await.expect("describes") else { panic!("no file") };
        assert!(!file.file_descriptor_proto.is_empty());
    }
    assert!(next().await.is_err(), "extensions are not offered");
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_show_what_happened() {
    let server = start(ServerConfig::default()).await;
    let (control, data) = (channel(server.listen_addr()).await, channel(server.listen_addr()).await);
    let address = server.http_addr().expect("is on");
    until("both are counted", async || Scrape::of(address).await.value("bowstring_open_connections") == 2.0).await;
    let before = Scrape::of(address).await;

    // A name that needs escaping, in the text format and in JSON.
    let stream = r#"a "b" \ ü"#;
    create(&control, stream, StreamOptions { max_buffered_batches: Some(2), ..Default::default() }).await;
    let put_one = async |rows: i64| put(&data, path(stream), vec![numbers(0..rows)]).await;
    put_one(3).await.expect("appends");
    put_one(4).await.expect("appends");
    let cursor = |offset: u64| json!({"stream": stream, "subscription": "x", "offsets": {"0": offset}}).to_string();
    act(&control, "subscribe", json!({"stream": stream, "subscription": "x"}).to_string()).await.expect("subscribes");
    assert_eq!(read(&data, json!({"stream": stream})).await.expect("reads").len(), 2);
    let waiting = put_one(5);
    let release = async {
        let waits = format!("bowstring_waiting_appenders{{stream=\"{}\"}}", escaped(stream));
        until("the third waits", async || Scrape::of(address).await.value(&waits) == 1.0).await;
        act(&control, "ack", cursor(1)).await.expect("acks");
    };
    let (waited, ()) = tokio::join!(waiting, release);
    waited.expect("there is room now");
    act(&control, "ack", cursor(3)).await.expect("acks");

    let epoch = |number: u64| json!({"stream": stream, "producer": "p", "run": "r", "epoch": number});
    act(&control, "open_epoch", epoch(0).to_string()).await.expect("opens");
    act(&control, "commit_epoch", epoch(0).to_string()).await.expect("commits");
    act(&control, "commit_epoch", epoch(0).to_string()).await.expect("replays");
    let mut writer = epoch(1);
    writer.as_object_mut().expect("an object").extend([("task".to_owned(), 0.into()), ("attempt".to_owned(), 0.into())]);
    put(&data, command(writer), vec![numbers(0..9)]).await.expect("stages");
    act(&control, "abort_epoch", epoch(1).to_string()).await.expect("aborts");
    assert_eq!(refused(act(&control, "describe", "nosuch").await), "stream_not_found");
    put_one(6).await.expect("appends");

    let scrape = Scrape::of(address).await;
    check_kinds(&scrape);
    let of_stream = |name: &str, labels: &str| scrape.value(&format!("bowstring_{name}{{stream=\"{}\"{labels}}}", escaped(stream)));
    let of_partition = |name: &str| of_stream(name, ",partition=\"0\"");
    let of_subscription =
        |name: &str| scrape.value(&format!("bowstring_{name}{{stream=\"{}\",subscription=\"x\",partition=\"0\"}}", escaped(stream)));
    assert_eq!((of_stream("buffered_batches", ""), of_stream("buffered_batches_limit", "")), (1.0, 2.0));
    assert_eq!(of_stream("buffered_bytes", ""), of_partition("partition_buffered_bytes"));
    assert_eq!(
        (of_stream("buffered_bytes_limit", ""), of_stream("spooled_bytes_limit", "")),
        ((2_u64 << 30) as f64, (16_u64 << 30) as f64)
    );
    assert_eq!((of_stream("spooled_batches", ""), of_stream("spooled_bytes", "")), (0.0, 0.0));
    assert_eq!((of_partition("appended_batches_total"), of_partition("appended_rows_total")), (4.0, 18.0));
    assert_eq!((of_partition("delivered_batches_total"), of_partition("delivered_rows_total")), (2.0, 7.0));
    assert!(of_partition("appended_bytes_total") > of_partition("delivered_bytes_total"));
    assert!(of_partition("delivered_bytes_total") > 7.0 * 8.0);
    assert_eq!(of_partition("partition_buffered_batches"), 1.0);
    assert_eq!((of_subscription("acked_batches_total"), of_subscription("acked_rows_total")), (3.0, 12.0));
    assert_eq!((of_subscription("subscription_lag_batches"), of_subscription("subscription_lag_rows")), (1.0, 6.0));
    assert_eq!(of_subscription("subscription_lag_bytes"), of_partition("partition_buffered_bytes"));
    assert_eq!(of_subscription("acked_bytes_total") + of_subscription("subscription_lag_bytes"), of_partition("appended_bytes_total"));
    assert!((0.0..20.0).contains(&of_subscription("subscription_lag_seconds")));
    assert!((0.0..=of_subscription("subscription_lag_seconds")).contains(&of_subscription("subscription_held_seconds")));
    assert_eq!(
        (of_stream("epochs_committed_total", ""), of_stream("epochs_aborted_total", ""), of_stream("epochs_replayed_total", "")),
        (1.0, 1.0, 1.0)
    );
    let blocked = of_stream("producer_blocked_seconds_total", "");
    assert!(blocked > 0.0 && blocked < 20.0, "{blocked}");
    assert_eq!((of_stream("waiting_appenders", ""), of_stream("open_appenders", ""), of_stream("open_readers", "")), (0.0, 0.0, 0.0));
    assert_eq!(of_stream("delivery_latency_seconds_count", ""), 2.0);
    assert!(of_stream("delivery_latency_seconds_sum", "") < 20.0);
    assert_eq!(scrape.value(&format!("bowstring_delivery_latency_seconds_bucket{{stream=\"{}\",le=\"+Inf\"}}", escaped(stream))), 2.0);
    assert_eq!(scrape.value("bowstring_errors_total{code=\"stream_not_found\"}"), 1.0);
    assert_eq!(scrape.value("bowstring_errors_total{code=\"internal\"}"), 0.0);
    assert!(scrape.value("process_cpu_seconds_total") > before.value("process_cpu_seconds_total"));
    assert!(scrape.value("process_resident_memory_bytes") > 1e6);
    check_host(&scrape);
    assert!(scrape.value("bowstring_uptime_seconds") > before.value("bowstring_uptime_seconds"));

    act(&control, "delete_stream", json!({"stream": stream}).to_string()).await.expect("deletes");
    let after = Scrape::of(address).await;
    assert!(!after.series.keys().any(|series| series.contains("stream=")), "a deleted stream takes its series with it");
    drop((control, data));
    until("the connections are closed", async || Scrape::of(address).await.value("bowstring_open_connections") == 0.0).await;
    stop(server).await;
}

/// Every documented metric is shown, as what it is documented; but for those of TLS, which there is none of.
fn check_kinds(scrape: &Scrape) {
    let kind = |kind: MetricKind| format!("{kind:?}").to_lowercase();
    let documented: BTreeMap<_, _> = METRICS
        .iter()
        .filter(|metric| !metric.name.starts_with("bowstring_tls_"))
        .map(|metric| (metric.name.to_owned(), kind(metric.kind)))
        .collect();
    assert_eq!(scrape.kinds, documented);
}

/// What is shown of the version, the process and its limits.
fn check_host(scrape: &Scrape) {
    assert_eq!(scrape.value("bowstring_ready"), 1.0);
    assert_eq!(scrape.value(&format!("bowstring_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"))), 1.0);
    assert_eq!(scrape.value("bowstring_open_connections_limit"), 10_000.0);
    let open = scrape.value("process_open_fds");
    assert!(open > 5.0 && open <= scrape.value("process_max_fds"), "{open}");
    assert!(scrape.value("process_threads") > 1.0);
    let room = rustix::fs::statvfs(std::env::temp_dir()).expect("is there");
    let (shown, total) = (scrape.value("bowstring_disk_free_bytes{dir=\"spool_dir\"}"), (room.f_blocks * room.f_frsize) as f64);
    assert!(shown > 0.0 && shown <= total, "{shown} of {total}");
    assert!(!scrape.series.contains_key("bowstring_disk_free_bytes{dir=\"data_dir\"}"), "nothing is durable");
}

/// A label's value as the text format writes it.
fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"")
}
