//! Messages within a `DoPut` that are not the next batch of the same kind: schemas, and headers that were seen before.

use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use arrow_flight::{FlightData, FlightDescriptor};
use bowstring::wire::metadata::AppendResult;
use bytes::{BufMut, Bytes, BytesMut};
use futures::TryStreamExt;
use prost::Message as _;
use serde_json::json;
use tonic::Status;
use tonic::transport::Channel;

use super::hostile::{framed, goes_on};
use super::server_support::{DO_PUT, code, command, flight, messages, numbers, path, put, raw, read, refused, send, soon, started, stop};

fn column(name: &str, nullable: bool, array: ArrayRef) -> RecordBatch {
    let schema = Schema::new(vec![Field::new(name, array.data_type().clone(), nullable)]);
    RecordBatch::try_new(Arc::new(schema), vec![array]).expect("one column")
}

/// Both kinds of descriptors: a stock client's, and bowstring's own.
fn descriptors(stream: &str) -> [FlightDescriptor; 2] {
    [path(stream), command(json!({"stream": stream}))]
}

/// A schema's message.
fn schema_of(batch: &RecordBatch) -> FlightData {
    FlightData { flight_descriptor: None, ..messages(path("any"), vec![batch.clone()]).remove(0) }
}

/// What is answered before the end, and the end.
async fn answers(channel: &Channel, messages: Vec<FlightData>) -> (Vec<AppendResult>, Result<(), Status>) {
    let mut results = match flight(channel).do_put(futures::stream::iter(messages)).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => return (Vec::new(), Err(status)),
    };
    let mut answers = Vec::new();
    loop {
        match results.try_next().await {
            Ok(Some(result)) => answers.push(AppendResult::from_bytes(&result.app_metadata).expect("a result")),
            Ok(None) => return (answers, Ok(())),
            Err(status) => return (answers, Err(status)),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_schema_may_come_again_within_a_connection() {
    let (server, channel) = started().await;
    for (index, descriptor) in descriptors("s").into_iter().enumerate() {
        let batches = [numbers(0..10), numbers(10..20), numbers(20..40)];
        let mut all = messages(descriptor.clone(), batches.to_vec());
        let with_descriptor = all[0].clone();
        all.insert(2, schema_of(&batches[0]));
        all.insert(4, with_descriptor);
        all.push(schema_of(&batches[0]));
        let answers = soon(send(&channel, all)).await.expect("accepted");
        assert_eq!(answers.last().expect("one at least").next_ordinal, 3);
        let stored = read(&channel, json!({"stream": "s"})).await.expect("reads");
        assert_eq!(stored[3 * index..], batches);
    }
    goes_on(&server, &channel).await;
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_fits_the_streams_may_come_within_a_connection_and_the_batches_read_by_the_streams() {
    let (server, channel) = started().await;
    let ours = column("n", true, Arc::new(Int64Array::from(vec![Some(1), None])));
    let never_null = column("n", false, Arc::new(Int64Array::from(vec![2, 3])));
    let mut all = messages(path("s"), vec![ours.clone()]);
    all.extend([schema_of(&never_null), messages(path("any"), vec![never_null.clone()]).remove(1)]);
    soon(send(&channel, all)).await.expect("accepted");
    let read = read(&channel, json!({"stream": "s"})).await.expect("reads");
    assert_eq!(read, [ours.clone(), never_null.with_schema(ours.schema()).expect("fits")]);
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dictionaries_outlive_a_schema_that_comes_again() {
    let (server, channel) = started().await;
    let words = |words: &[&str]| column("w", true, Arc::new(words.iter().copied().collect::<DictionaryArray<Int32Type>>()));
    let [first, second] = [words(&["a", "b", "a"]), words(&["c"])];
    let mut all = messages(path("s"), vec![first.clone(), first.clone(), second.clone()]);
    assert_eq!(all.len(), 6, "schema, dictionary, two batches, another dictionary and its batch");
    all.insert(3, schema_of(&first));
    all.insert(5, schema_of(&first));
    soon(send(&channel, all)).await.expect("accepted");
    let text = |batch: &RecordBatch| arrow::compute::cast(batch.column(0), &DataType::Utf8).expect("casts");
    let read = read(&channel, json!({"stream": "s"})).await.expect("reads");
    assert_eq!(read.iter().map(text).collect::<Vec<_>>(), [&first, &first, &second].map(text));
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_schema_within_a_connection_is_refused_by_name_and_what_was_stored_before_stays() {
    let (server, channel) = started().await;
    let good = [numbers(0..10), numbers(10..20)];
    let words: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
    let mut damaged = schema_of(&good[0]);
    damaged.data_header = damaged.data_header.slice(..20);
    let mut with_body = schema_of(&good[0]);
    with_body.data_body = Bytes::from_static(&[0; 8]);
    for (name, other, refusal, word) in [
        ("another type", schema_of(&column("n", false, words.clone())), "schema_mismatch", "Utf8"),
        ("another name", schema_of(&column("m", false, Arc::new(Int64Array::from(vec![1])))), "schema_mismatch", "\"n\""),
        ("nulls", schema_of(&column("n", true, Arc::new(Int64Array::from(vec![1])))), "schema_mismatch", "nulls"),
        ("no schema", damaged, "malformed_message", "header"),
        ("a schema with a body", with_body, "malformed_message", "8"),
    ] {
        for (index, descriptor) in descriptors(name).into_iter().enumerate() {
            let mut all = messages(descriptor, good.to_vec());
            all.extend([other.clone(), all[1].clone()]);
            let (answers, end) = soon(answers(&channel, all)).await;
            let status = end.expect_err("it is to be refused");
            assert_eq!(code(&status), refusal, "{name}: {status}");
            assert!(status.message().contains(word), "{name}: {}", status.message());
            let stored = read(&channel, json!({"stream": name})).await.expect("reads");
            assert_eq!(stored.len(), 2 * (index + 1), "{name}");
            assert_eq!(stored[2 * index..], good, "{name}");
            // A client that is told each time knows what is stored.
            let told = answers.last().map(|answer| answer.next_ordinal);
            assert_eq!(told, if index == 0 { None } else { Some(2) }, "{name}");
        }
    }
    goes_on(&server, &channel).await;
    stop(server).await;
}

/// Batches whose headers are kept, of which the body comes with its head or after it, and one whose header is too long to be kept.
fn shapes() -> [(&'static str, RecordBatch); 3] {
    let one: ArrayRef = Arc::new(Int64Array::from_iter_values(0..10));
    let wide = RecordBatch::try_from_iter((0..300).map(|index| (format!("c{index}"), one.clone()))).expect("equal lengths");
    [("small", numbers(0..100)), ("large", numbers(0..10_000)), ("wide", wide)]
}

/// Bodies of other lengths than the batch's own.
fn other_bodies(own: &Bytes) -> Vec<Bytes> {
    let mut longer = own.to_vec();
    longer.extend_from_slice(own);
    let longer = Bytes::from(longer);
    [0, 1, own.len() - 64, own.len() - 8, own.len() - 1, own.len() + 1, own.len() + 8, 2 * own.len()]
        .map(|length| longer.slice(..length))
        .to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_header_with_a_body_of_another_length_is_refused_and_what_was_stored_before_stays() {
    let (server, channel) = started().await;
    for (shape, batch) in shapes() {
        let good = messages(path(shape), vec![batch.clone(), batch.clone()]);
        let bodies = other_bodies(&good[1].data_body);
        for body in &bodies {
            let mut all = good.clone();
            all.extend([FlightData { data_body: body.clone(), ..good[1].clone() }, good[1].clone()]);
            assert_eq!(refused(soon(send(&channel, all)).await), "malformed_message", "{shape}: {} bytes", body.len());
        }
        let stored = read(&channel, json!({"stream": shape})).await.expect("reads");
        assert_eq!(stored.len(), 2 * bodies.len(), "{shape}");
        assert!(stored.iter().all(|stored| *stored == batch), "{shape}");
    }
    goes_on(&server, &channel).await;
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_headers_other_length_is_refused_whatever_the_order_of_the_fields_is() {
    let (server, channel) = started().await;
    // Fields 1000 and 2 by hand: prost writes them in the order of their numbers.
    let body_first = |header: &Bytes, body: &Bytes| {
        let mut bytes = BytesMut::new();
        for (tag, field) in [(&[0xc2, 0x3e][..], body), (&[0x12][..], header)] {
            bytes.put_slice(tag);
            prost::encoding::encode_varint(field.len() as u64, &mut bytes);
            bytes.put_slice(field);
        }
        framed(&bytes)
    };
    for (shape, batch) in shapes() {
        let good = messages(path(shape), vec![batch.clone()]);
        let (header, body) = (&good[1].data_header, &good[1].data_body);
        let open = [framed(&good[0].encode_to_vec()), framed(&good[1].encode_to_vec())];
        let send = async |message: Bytes| soon(raw(&channel, DO_PUT, open.iter().cloned().chain([message]))).await;
        assert_eq!(send(body_first(header, body)).await, "ok", "{shape}");
        for other in other_bodies(body) {
            assert_eq!(send(body_first(header, &other)).await, "malformed_message", "{shape}: {} bytes", other.len());
        }
    }
    goes_on(&server, &channel).await;
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_differs_from_the_known_one_in_a_number_is_looked_at_anew() {
    let (server, channel) = started().await;
    let good = messages(path("s"), vec![numbers(0..100), numbers(100..200)]);
    for (instead_of, number) in [(100_i64, 101_i64), (100, -1), (800, 792), (800, 1 << 40)] {
        let mut header = good[1].data_header.to_vec();
        let at = header.windows(8).position(|bytes| bytes == instead_of.to_le_bytes()).expect("it says so");
        header[at..at + 8].copy_from_slice(&number.to_le_bytes());
        let mut all = good.clone();
        all.push(FlightData { data_header: header.into(), ..good[1].clone() });
        assert_eq!(refused(soon(send(&channel, all)).await), "malformed_message", "{number} instead of {instead_of}");
    }
    assert_eq!(read(&channel, json!({"stream": "s"})).await.expect("reads").len(), 8);
    goes_on(&server, &channel).await;
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_header_is_looked_at_anew_on_the_next_connection_with_its_stream() {
    let (server, channel) = started().await;
    put(&channel, path("one"), vec![numbers(0..100)]).await.expect("appends");
    let two = RecordBatch::try_from_iter([("a", numbers(0..1).column(0).clone()), ("b", numbers(0..1).column(0).clone())]);
    let mut all = messages(path("two"), vec![two.expect("two columns")]);
    all[1] = messages(path("one"), vec![numbers(0..100)]).remove(1);
    assert_eq!(refused(soon(send(&channel, all)).await), "malformed_message");
    stop(server).await;
}

/// Bodies in shared memory have their length from the metadata, not from the message.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_known_header_with_another_length_in_shared_memory_is_refused() {
    use bowstring::shared::{Frame, Said, VERSION, link};
    use bowstring::wire::metadata::AppendMetadata;
    use bowstring::wire::proto::{DescribeServerRequest, ServerDescription, SharedBody};

    use super::server_support::call;

    let server = super::client_support::server().await;
    let channel = super::server_support::channel(server.listen_addr()).await;
    let described: ServerDescription = call(&channel, "DescribeServer", DescribeServerRequest {}).await.expect("answers");
    let (mut reader, writer) = link(tokio::net::UnixStream::connect(&described.shared_memory_path).await.expect("is there"));
    writer.send(&[Said::Word(Frame::Hello { version: VERSION })]).await.expect("sends");
    let Some((Frame::Welcome { link, .. }, None)) = soon(reader.next()).await.expect("answers") else { panic!("no welcome") };
    let arena = bowstring_arena::Arena::create(1 << 20).expect("memory");
    writer.send(&[Said::Offer(Frame::Offer { arena: 5 }, arena)]).await.expect("sends");
    assert_eq!(soon(reader.next()).await.expect("answers").expect("goes on").0, Frame::Taken { arena: 5 });

    // An arena is zeros at first.
    let zeros = numbers(std::iter::repeat_n(0, 4_000));
    let mut free_from = 0;
    let mut lent = |message: &FlightData, ordinal: u64, bytes: u64| {
        let shared = Some(SharedBody { arena: 5, start: free_from, bytes });
        free_from += 64 << 10;
        let metadata = AppendMetadata { partition: Some(0), ordinal, shared, ..AppendMetadata::default() };
        FlightData { app_metadata: metadata.to_bytes(), data_body: Bytes::new(), ..message.clone() }
    };
    let good = messages(command(json!({"stream": "s", "link": link.to_string()})), vec![zeros.clone()]);
    let own = good[1].data_body.len() as u64;
    for (index, other) in [own - 64, own - 8, own + 8, own + 64].into_iter().enumerate() {
        let all = vec![good[0].clone(), lent(&good[1], 0, own), lent(&good[1], 1, other)];
        assert_eq!(refused(soon(send(&channel, all)).await), "malformed_message", "{other} bytes");
        assert_eq!(read(&channel, json!({"stream": "s"})).await.expect("reads"), vec![zeros.clone(); index + 1]);
    }
    stop(server).await;
}
