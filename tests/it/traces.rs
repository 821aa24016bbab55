//! One trace per epoch, as a collector gets it: from the writers' appends over the commit to the acks, in every kind of subscription.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bowstring::client::{Client, ConsumerOptions, Delivered, ProducerRun, TraceContext, WriterId, WriterOptions};
use bowstring::engine::{Attempt, Code, Epoch, EpochState, PartitionId, SubscriptionMode, Task};
use bowstring::server::{Server, ServerConfig};
use bowstring::wire::proto::Receipt;
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use super::client_support::{connect, create, next, numbered, partitions, server_with, soon, subscribed};

/// An OTLP receiver.
#[derive(Debug, Clone, Default)]
struct Collector(Arc<Mutex<Vec<(String, Span)>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(&self, request: Request<ExportTraceServiceRequest>) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for of_resource in request.into_inner().resource_spans {
            let resource = of_resource.resource.unwrap_or_default();
            let name = resource.attributes.iter().find(|one| one.key == "service.name");
            let Some(Value::StringValue(service)) = name.and_then(|name| name.value.clone()?.value) else { panic!("no service.name") };
            let spans = of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.0.lock().extend(spans.map(|span| (service.clone(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Listens; gives its endpoint.
    async fn listen(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
        let service = TraceServiceServer::new(self.clone());
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
        endpoint
    }

    /// Its spans once the server has ended, which sends what is left.
    async fn after(&self, server: Server) -> Vec<Span> {
        soon(server.shutdown(Duration::from_secs(1))).await;
        let spans = std::mem::take(&mut *self.0.lock());
        spans.into_iter().inspect(|(service, _)| assert_eq!(service, "bowstring")).map(|(_, span)| span).collect()
    }
}

async fn traced() -> (Collector, Server, Client) {
    let collector = Collector::default();
    let config = ServerConfig { otlp_endpoint: Some(collector.listen().await), ..ServerConfig::default() };
    let server = server_with(config).await;
    let client = connect(&server.url()).await;
    (collector, server, client)
}

fn run() -> ProducerRun {
    ProducerRun { producer: "query".to_owned(), run: "r".to_owned() }
}

/// A task of an epoch appends a batch to a partition.
async fn write(client: &Client, epoch: u64, partition: u32, batches: u64) -> Receipt {
    let id =
        WriterId { producer: "query".to_owned(), run: "r".to_owned(), epoch: Epoch(epoch), task: Task(partition), attempt: Attempt(7) };
    let mut writer = client.writer("s", id, WriterOptions::default()).expect("a writer");
    for _ in 0..batches {
        writer.append(&numbered(epoch.cast_signed(), 3), Some(PartitionId(partition)), Bytes::new()).await.expect("room");
    }
    soon(writer.finish()).await.expect("staged").expect("a receipt")
}

async fn commit(client: &Client, epoch: u64, receipts: Vec<Receipt>) -> EpochState {
    client.commit_epoch("s", &run(), Epoch(epoch), receipts).await.expect("commits")
}

/// An attribute as text; empty if it is not there.
fn attribute(span: &Span, key: &str) -> String {
    match span.attributes.iter().find(|one| one.key == key).and_then(|one| one.value.clone()?.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(other) => panic!("{other:?}"),
        None => String::new(),
    }
}

fn named<'a>(spans: &'a [Span], operation: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == format!("{operation} s")).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The trace, and the span in it, of a batch's context.
fn context_of(delivered: &Delivered) -> (String, String) {
    let traceparent = delivered.traceparent.as_deref().expect("is traced");
    let parts: Vec<_> = traceparent.split('-').collect();
    assert_eq!((parts.len(), parts[0], parts[3]), (4, "00", "01"), "{traceparent}");
    (parts[1].to_owned(), parts[2].to_owned())
}

fn is_failed(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_is_one_trace_from_its_appends_to_its_acks() {
    let (collector, server, client) = traced().await;
    create(&client, "s", partitions(2)).await;
    let mut consumer = subscribed(&client, "s", "team").await;
    let mut contexts = BTreeMap::new();
    for epoch in [4, 5] {
        client.open_epoch("s", &run(), Epoch(epoch)).await.expect("opens");
        let receipts = vec![write(&client, epoch, 0, 2).await, write(&client, epoch, 1, 1).await];
        assert_eq!(commit(&client, epoch, receipts.clone()).await, EpochState::Committed);
        // As Spark does when it does not know whether it has committed.
        assert_eq!(commit(&client, epoch, receipts).await, EpochState::AlreadyCommitted);
        for _ in 0..3 {
            let delivered = next(&mut consumer).await;
            contexts.entry(epoch).or_insert_with(Vec::new).push((delivered.partition.0, context_of(&delivered)));
            consumer.acker().ack_one(&delivered.unacked()).expect("was given");
        }
    }
    soon(consumer.flush_acks()).await.expect("acked");
    drop(consumer);
    let spans = collector.after(server).await;

    for (epoch, contexts) in &contexts {
        let of_epoch: Vec<Span> = spans.iter().filter(|span| attribute(span, "bowstring.epoch") == epoch.to_string()).cloned().collect();
        let [whole] = named(&of_epoch, "epoch")[..] else { panic!("{of_epoch:?}") };
        assert!(whole.parent_span_id.is_empty());
        assert_eq!((attribute(whole, "messaging.batch.message_count"), attribute(whole, "bowstring.rows")), ("3".into(), "9".into()));
        for span in &of_epoch {
            assert_eq!(hex(&span.trace_id), hex(&whole.trace_id), "one trace: {}", span.name);
            assert!(span.start_time_unix_nano >= whole.start_time_unix_nano && span.end_time_unix_nano >= span.start_time_unix_nano);
            assert!(!is_failed(span), "{span:?}");
            for (key, value) in [("messaging.system", "bowstring"), ("messaging.destination.name", "s"), ("bowstring.producer", "query")] {
                assert_eq!(attribute(span, key), value);
            }
            if span.span_id != whole.span_id {
                assert_eq!(hex(&span.parent_span_id), hex(&whole.span_id));
            }
        }
        let appends = named(&of_epoch, "append").into_iter().map(|span| {
            let of = |key| attribute(span, key);
            (of("bowstring.task"), of("bowstring.attempt"), of("messaging.destination.partition.id"), of("messaging.batch.message_count"))
        });
        let mut appends: Vec<_> = appends.collect();
        appends.sort();
        let expected = [("0", "7", "0", "2"), ("1", "7", "1", "1")];
        assert_eq!(appends, expected.map(|(a, b, c, d)| (a.to_owned(), b.to_owned(), c.to_owned(), d.to_owned())));
        let mut states: Vec<_> = named(&of_epoch, "commit").into_iter().map(|span| attribute(span, "bowstring.epoch.state")).collect();
        states.sort();
        assert_eq!(states, ["already_committed", "committed"]);
        // What a consumer does with a batch belongs to its delivery.
        for (partition, (trace, span)) in contexts {
            assert_eq!(*trace, hex(&whole.trace_id));
            let delivery = of_epoch.iter().find(|one| hex(&one.span_id) == *span).expect("its delivery");
            assert_eq!(delivery.name, "deliver s");
            assert_eq!(attribute(delivery, "messaging.destination.partition.id"), partition.to_string());
            assert_eq!(attribute(delivery, "messaging.consumer.group.name"), "team");
            assert_eq!(attribute(delivery, "messaging.batch.message_count"), if *partition == 0 { "2" } else { "1" });
        }
        assert_eq!(named(&of_epoch, "deliver").len(), 2, "one per partition");
    }
    let mut traces: Vec<_> = spans.iter().map(|span| hex(&span.trace_id)).collect();
    traces.sort();
    traces.dedup();
    assert_eq!(traces.len(), 2, "one per epoch");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_try_and_another_delivery_of_an_epoch_are_in_its_trace() {
    let (collector, server, client) = traced().await;
    create(&client, "s", partitions(1)).await;
    client.open_epoch("s", &run(), Epoch(0)).await.expect("opens");
    write(&client, 0, 0, 1).await;
    assert_eq!(client.abort_epoch("s", &run(), Epoch(0)).await.expect("aborts"), EpochState::Aborted);
    client.open_epoch("s", &run(), Epoch(0)).await.expect("opens again");
    let receipt = write(&client, 0, 0, 1).await;
    commit(&client, 0, vec![receipt]).await;
    let mut first = subscribed(&client, "s", "team").await;
    let given = next(&mut first).await;
    // It goes away, and has acked nothing.
    drop(first);
    let mut second = subscribed(&client, "s", "team").await;
    let again = next(&mut second).await;
    assert_eq!(context_of(&given).0, context_of(&again).0, "one trace");
    assert_ne!(context_of(&given).1, context_of(&again).1, "two deliveries");
    second.acker().ack_one(&again.unacked()).expect("was given");
    soon(second.flush_acks()).await.expect("acked");
    let spans = collector.after(server).await;
    assert_eq!(named(&spans, "epoch").len(), 1, "only what is committed");
    assert_eq!(named(&spans, "append").len(), 2);
    assert_eq!(attribute(named(&spans, "abort")[0], "bowstring.epoch.state"), "aborted");
    let deliveries: BTreeMap<_, _> = named(&spans, "deliver").into_iter().map(|span| (hex(&span.span_id), is_failed(span))).collect();
    let expected = BTreeMap::from([(context_of(&given).1, true), (context_of(&again).1, false)]);
    assert_eq!(deliveries, expected, "the first has not acked it");
    assert!(spans.iter().all(|span| span.trace_id == spans[0].trace_id), "one trace");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_acked_and_what_is_refused_says_so() {
    let (collector, server, client) = traced().await;
    create(&client, "s", partitions(1)).await;
    client.open_epoch("s", &run(), Epoch(0)).await.expect("opens");
    let receipt = write(&client, 0, 0, 1).await;
    let unknown = Receipt { task: 9, ..receipt };
    let refused = client.commit_epoch("s", &run(), Epoch(0), vec![unknown]).await.expect_err("nobody has written that");
    assert_eq!(refused.code(), Code::ReceiptUnknown);
    commit(&client, 0, vec![receipt]).await;
    let mut consumer = subscribed(&client, "s", "team").await;
    next(&mut consumer).await;
    let spans = collector.after(server).await;
    let failed: BTreeMap<_, _> =
        spans.iter().filter(|span| is_failed(span)).map(|span| (&*span.name, &*span.status.as_ref().expect("failed").message)).collect();
    assert_eq!(failed, BTreeMap::from([("commit s", "receipt_unknown"), ("deliver s", "not acked")]));
    assert_eq!(named(&spans, "commit").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_that_share_a_subscription_have_deliveries_that_end_with_their_acks() {
    for mode in [SubscriptionMode::Partitioned, SubscriptionMode::Shared] {
        let (collector, server, client) = traced().await;
        create(&client, "s", partitions(1)).await;
        client.open_epoch("s", &run(), Epoch(0)).await.expect("opens");
        let receipt = write(&client, 0, 0, 2).await;
        commit(&client, 0, vec![receipt]).await;
        let options = ConsumerOptions { subscription: Some("team".to_owned()), mode: Some(mode), ..ConsumerOptions::default() };
        let mut consumer = client.consumer("s", options).await.expect("joins");
        for _ in 0..2 {
            let delivered = next(&mut consumer).await;
            context_of(&delivered);
            consumer.acker().ack_one(&delivered.unacked()).expect("was given");
        }
        soon(consumer.flush_acks()).await.expect("acked");
        let spans = collector.after(server).await;
        let deliveries = named(&spans, "deliver");
        assert!(deliveries.iter().all(|span| !is_failed(span)), "{mode:?}: {deliveries:?}");
        let batches: u64 = deliveries.iter().map(|span| attribute(span, "messaging.batch.message_count").parse::<u64>().unwrap()).sum();
        assert_eq!(batches, 2, "{mode:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_driver_works_at_is_linked_to_the_epochs_trace() {
    let (collector, server, client) = traced().await;
    create(&client, "s", partitions(1)).await;
    client.open_epoch("s", &run(), Epoch(0)).await.expect("opens");
    let receipt = write(&client, 0, 0, 1).await;
    let context = TraceContext::new("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").expect("a context");
    context.carried_by(commit(&client, 0, vec![receipt])).await;
    let spans = collector.after(server).await;
    for operation in ["epoch", "commit"] {
        let [span] = named(&spans, operation)[..] else { panic!("{spans:?}") };
        let [link] = &span.links[..] else { panic!("{span:?}") };
        assert_eq!((hex(&link.trace_id), hex(&link.span_id)), ("0af7651916cd43dd8448eb211c80319c".into(), "b7ad6b7169203331".into()));
        assert_ne!(hex(&span.trace_id), hex(&link.trace_id), "its own trace");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_that_is_not_sampled_and_a_batch_of_no_epoch_are_in_no_trace() {
    let collector = Collector::default();
    let endpoint = Some(collector.listen().await);
    let server = server_with(ServerConfig { otlp_endpoint: endpoint, trace_one_in: u64::MAX, ..ServerConfig::default() }).await;
    let client = connect(&server.url()).await;
    create(&client, "s", partitions(1)).await;
    client.open_epoch("s", &run(), Epoch(0)).await.expect("opens");
    let receipt = write(&client, 0, 0, 1).await;
    commit(&client, 0, vec![receipt]).await;
    let mut producer = client.producer("s", bowstring::client::ProducerOptions::default()).expect("a producer");
    producer.append(&numbered(1, 1), None, Bytes::new()).await.expect("room");
    soon(producer.flush()).await.expect("stored");
    let mut consumer = subscribed(&client, "s", "team").await;
    for _ in 0..2 {
        assert_eq!(next(&mut consumer).await.traceparent, None);
    }
    assert_eq!(collector.after(server).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acked_after_its_reader_has_read_on_is_acked() {
    let (collector, server, client) = traced().await;
    create(&client, "s", partitions(1)).await;
    for epoch in [0, 1] {
        client.open_epoch("s", &run(), Epoch(epoch)).await.expect("opens");
        let receipt = write(&client, epoch, 0, 1).await;
        commit(&client, epoch, vec![receipt]).await;
    }
    let mut consumer = subscribed(&client, "s", "team").await;
    let given = [next(&mut consumer).await, next(&mut consumer).await];
    // Longer than acks may come after a reader that is gone.
    tokio::time::sleep(Duration::from_secs(11)).await;
    for delivered in &given {
        consumer.acker().ack_one(&delivered.unacked()).expect("was given");
    }
    soon(consumer.flush_acks()).await.expect("acked");
    let spans = collector.after(server).await;
    let deliveries = named(&spans, "deliver");
    assert_eq!(deliveries.len(), 2);
    for span in deliveries {
        assert!(!is_failed(span), "{span:?}");
        assert!(span.end_time_unix_nano - span.start_time_unix_nano > 10_000_000_000, "until its ack: {span:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_never_answers_holds_up_nobody() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoint = format!("http://{}", silent.local_addr().expect("bound"));
    let taken = tokio::spawn(async move {
        let mut taken = Vec::new();
        while let Ok((connection, _)) = silent.accept().await {
            taken.push(connection);
        }
    });
    let server = server_with(ServerConfig { otlp_endpoint: Some(endpoint), ..ServerConfig::default() }).await;
    let client = connect(&server.url()).await;
    create(&client, "s", partitions(1)).await;
    // More spans than wait for it: two for each.
    let epochs = async {
        for epoch in 0..3_000 {
            assert_eq!(commit(&client, epoch, Vec::new()).await, EpochState::Committed);
        }
        client.open_epoch("s", &run(), Epoch(3_000)).await.expect("opens");
        let receipt = write(&client, 3_000, 0, 1).await;
        commit(&client, 3_000, vec![receipt]).await
    };
    // The collector has 10 s for each call.
    assert_eq!(tokio::time::timeout(Duration::from_secs(30), epochs).await.expect("does not wait for it"), EpochState::Committed);
    tokio::time::timeout(Duration::from_secs(15), server.shutdown(Duration::from_secs(1))).await.expect("waits 3 s for it");
    taken.abort();
}

#[tokio::test]
async fn an_endpoint_that_is_none_is_refused_without_its_password() {
    for (endpoint, reason) in [
        ("127.0.0.1:4317", "http://host:4317"),
        ("grpc://127.0.0.1:4317", "http://host:4317"),
        ("http://me:canary@127.0.0.1:4317", "OTEL_EXPORTER_OTLP_HEADERS"),
    ] {
        let config = ServerConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            http: None,
            otlp_endpoint: Some(endpoint.to_owned()),
            ..ServerConfig::default()
        };
        let error = Server::start(config).await.expect_err(endpoint).to_string();
        assert!(error.contains(reason) && !error.contains("canary"), "{error}");
    }
}
