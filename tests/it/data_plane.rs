//! The data plane as a stock Flight client sees it: real sockets, `arrow-flight`'s own client.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, DictionaryArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int32Type;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::{DictionaryHandling, FlightDataEncoderBuilder};
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Action, FlightData, FlightDescriptor, Ticket};
use bowstring::server::{Server, ServerConfig};
use futures::{StreamExt, TryStreamExt};
use tonic::transport::Channel;

/// A server on free ports of this machine, with these limits.
async fn server(max_buffered_batches: u64, max_buffered_bytes: u64) -> Server {
    let config = ServerConfig {
        listen: "127.0.0.1:0".parse().expect("an address"),
        http: None,
        max_buffered_batches,
        max_buffered_bytes,
        ..ServerConfig::default()
    };
    Server::start(config).await.expect("starts on a free port")
}

async fn client(server: &Server) -> FlightServiceClient<Channel> {
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", server.listen_addr())).expect("a url").connect().await;
    FlightServiceClient::new(channel.expect("the server is there")).max_decoding_message_size(usize::MAX)
}

fn numbers(values: impl IntoIterator<Item = i64>) -> RecordBatch {
    let column = Arc::new(Int64Array::from_iter_values(values)) as ArrayRef;
    RecordBatch::try_from_iter([("n", column)]).expect("one column")
}

async fn put_to(
    client: &mut FlightServiceClient<Channel>,
    descriptor: FlightDescriptor,
    batches: Vec<RecordBatch>,
) -> Result<(), tonic::Status> {
    let batches = futures::stream::iter(batches.into_iter().map(Ok));
    let encoder = FlightDataEncoderBuilder::new()
        .with_flight_descriptor(Some(descriptor))
        .with_dictionary_handling(DictionaryHandling::Resend)
        .with_max_flight_data_size(usize::MAX)
        .build(batches);
    let mut results = client.do_put(encoder.map(|data| data.expect("encodes"))).await?.into_inner();
    while results.message().await?.is_some() {}
    Ok(())
}

async fn put(client: &mut FlightServiceClient<Channel>, stream: &str, batches: Vec<RecordBatch>) -> Result<(), tonic::Status> {
    put_to(client, FlightDescriptor::new_path(vec![stream.to_owned()]), batches).await
}

/// Everything a ticket gives, to its end.
async fn read(client: &mut FlightServiceClient<Channel>, ticket: impl Into<Vec<u8>>) -> Result<Vec<RecordBatch>, FlightError> {
    let ticket = Ticket { ticket: ticket.into().into() };
    let data = client.do_get(ticket).await?.into_inner();
    FlightRecordBatchStream::new_from_flight_data(data.map_err(FlightError::from)).try_collect().await
}

async fn act(client: &mut FlightServiceClient<Channel>, action: &str, body: &str) -> Result<(), tonic::Status> {
    let action = Action { r#type: action.to_owned(), body: body.to_owned().into() };
    client.do_action(action).await?.into_inner().try_collect::<Vec<_>>().await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_client_appends_and_reads_back_what_it_appended() {
    let server = server(64, 1 << 30).await;
    let mut client = client(&server).await;
    let batches = vec![numbers(0..10), numbers(10..1000)];
    put(&mut client, "s", batches.clone()).await.expect("appends");
    assert_eq!(read(&mut client, r#"{"stream": "s"}"#).await.expect("reads"), batches);
    server.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dictionaries_that_differ_between_producers_come_back_right() {
    let server = server(64, 1 << 30).await;
    let mut client = client(&server).await;
    let words = |words: &[&str]| {
        let column: DictionaryArray<Int32Type> = words.iter().copied().collect();
        RecordBatch::try_from_iter([("w", Arc::new(column) as ArrayRef)]).expect("one column")
    };
    let batches = vec![words(&["a", "b", "a"]), words(&["c", "c", "d"]), words(&["b", "a", "e"])];
    for batch in &batches {
        put(&mut client, "s", vec![batch.clone()]).await.expect("appends");
    }
    let plain = |batches: &[RecordBatch]| -> Vec<Vec<Option<String>>> {
        let cast = |batch: &RecordBatch| arrow::compute::cast(batch.column(0), &arrow::datatypes::DataType::Utf8).expect("casts");
        let text = |batch| {
            cast(batch).as_any().downcast_ref::<StringArray>().expect("strings").iter().map(|word| word.map(str::to_owned)).collect()
        };
        batches.iter().map(text).collect()
    };
    let got = read(&mut client, r#"{"stream": "s"}"#).await.expect("reads");
    assert_eq!(plain(&got), plain(&batches));
    server.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_follows_ends_when_the_stream_is_completed() {
    let server = server(64, 1 << 30).await;
    let mut producer = client(&server).await;
    let mut consumer = client(&server).await;
    put(&mut producer, "s", vec![numbers(0..3)]).await.expect("appends");
    let reading = tokio::spawn(async move { read(&mut consumer, r#"{"stream": "s", "follow": true}"#).await });
    put(&mut producer, "s", vec![numbers(3..6)]).await.expect("appends");
    act(&mut producer, "complete", "s").await.expect("completes");
    let got = reading.await.expect("ends").expect("reads");
    assert_eq!(got, [numbers(0..3), numbers(3..6)]);
    let refused = put(&mut producer, "s", vec![numbers(0..1)]).await.expect_err("is complete");
    assert!(refused.message().contains("stream_completed"), "{refused}");
    server.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_buffer_makes_a_producer_wait_until_consumers_ack_and_a_deadline_ends_the_wait() {
    let server = server(2, 1 << 30).await;
    let mut producer = client(&server).await;
    put(&mut producer, "s", vec![numbers(0..1), numbers(1..2)]).await.expect("two fit");

    let mut late = tonic::Request::new(futures::stream::iter(encoded("s", numbers(2..3))));
    late.set_timeout(Duration::from_millis(300));
    let ended = match producer.do_put(late).await {
        Ok(results) => results.into_inner().try_collect::<Vec<_>>().await.map(drop),
        Err(status) => Err(status),
    };
    assert!(ended.is_err(), "the third does not fit while nobody reads");

    let mut other = client(&server).await;
    let waiting = tokio::spawn(async move { put(&mut other, "s", vec![numbers(3..4)]).await });
    act(&mut producer, "subscribe", r#"{"stream": "s", "subscription": "all"}"#).await.expect("subscribes");
    act(&mut producer, "ack", r#"{"stream": "s", "subscription": "all", "offsets": {"0": 1}}"#).await.expect("acks");
    waiting.await.expect("ends").expect("room came free");
    let got = read(&mut producer, r#"{"stream": "s"}"#).await.expect("reads");
    assert_eq!(got, [numbers(1..2), numbers(3..4)], "what timed out is not stored");
    server.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_over_the_byte_limit_is_refused_at_once_and_the_server_goes_on() {
    let server = server(64, 1000).await;
    let mut client = client(&server).await;
    let refused = put(&mut client, "s", vec![numbers(0..1000)]).await.expect_err("8,000 bytes into 1,000");
    assert!(refused.message().contains("batch_too_large") && refused.message().contains("1000"), "{refused}");
    put(&mut client, "s", vec![numbers(0..10)]).await.expect("a small one fits");
    server.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_gets_a_code_and_the_server_goes_on() {
    let server = server(64, 1 << 30).await;
    let mut client = client(&server).await;
    put(&mut client, "s", vec![numbers(0..3)]).await.expect("appends");

    let words = RecordBatch::try_from_iter([("n", Arc::new(StringArray::from(vec!["a"])) as ArrayRef)]).expect("one column");
    let bad_partition = FlightDescriptor::new_path(vec!["s".to_owned(), "7".to_owned()]);
    let mut damaged = encoded("s", numbers(0..3));
    damaged[1].data_header = damaged[1].data_header.slice(..20);
    let mut cut = encoded("s", numbers(0..3));
    cut[1].data_body = cut[1].data_body.slice(..8);

    let mut codes = vec![];
    codes.push(put(&mut client, "s", vec![words]).await.expect_err("another schema"));
    codes.push(put_to(&mut client, bad_partition, vec![numbers(0..1)]).await.expect_err("no partition 7"));
    for data in [damaged, cut] {
        let ended = match client.do_put(futures::stream::iter(data)).await {
            Ok(results) => results.into_inner().try_collect::<Vec<_>>().await.map(drop),
            Err(status) => Err(status),
        };
        codes.push(ended.expect_err("malformed"));
    }
    codes.push(act(&mut client, "complete", "unknown").await.expect_err("no such stream"));
    let code = |status: &tonic::Status| status.metadata().get("bowstring-code").map(|code| code.to_str().expect("ascii").to_owned());
    let codes: Vec<_> = codes.iter().map(|status| code(status).unwrap_or_else(|| status.to_string())).collect();
    assert_eq!(codes, ["schema_mismatch", "partition_out_of_range", "malformed_message", "malformed_message", "stream_not_found"]);
    for (ticket, code) in [(r#"{"stream": "unknown"}"#, "stream_not_found"), ("nonsense", "invalid_argument")] {
        let error = read(&mut client, ticket).await.expect_err("a bad ticket").to_string();
        assert!(error.contains(code), "{error}");
    }
    assert_eq!(read(&mut client, r#"{"stream": "s"}"#).await.expect("reads"), [numbers(0..3)]);
    server.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_consumer_holds_up_neither_another_consumer_nor_another_stream() {
    let server = server(64, 1 << 30).await;
    let mut producer = client(&server).await;
    let batches: Vec<_> = (0..16).map(|batch| numbers(batch * 500_000..(batch + 1) * 500_000)).collect();
    put(&mut producer, "s", batches.clone()).await.expect("appends 64 MB");
    put(&mut producer, "t", vec![numbers(0..3)]).await.expect("appends");

    let mut stalled = client(&server).await;
    let ticket = Ticket { ticket: r#"{"stream": "s", "follow": true}"#.into() };
    let mut unread = stalled.do_get(ticket).await.expect("starts").into_inner();
    unread.message().await.expect("one message").expect("the schema");

    let mut consumer = client(&server).await;
    assert_eq!(read(&mut consumer, r#"{"stream": "s"}"#).await.expect("reads"), batches);
    assert_eq!(read(&mut consumer, r#"{"stream": "t"}"#).await.expect("reads"), [numbers(0..3)]);
    drop(unread);
    server.shutdown(Duration::from_secs(1)).await;
}

/// A batch as the Flight messages of one `DoPut`: schema, then batch.
fn encoded(stream: &str, batch: RecordBatch) -> Vec<FlightData> {
    let descriptor = FlightDescriptor::new_path(vec![stream.to_owned()]);
    let encoder = FlightDataEncoderBuilder::new().with_flight_descriptor(Some(descriptor)).build(futures::stream::iter([Ok(batch)]));
    futures::executor::block_on(encoder.try_collect()).expect("encodes")
}
