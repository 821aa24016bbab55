//! Too much of something: bombs, rows without bytes, columns, streams, connections.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, NullArray, RecordBatch, StructArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow_flight::FlightData;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_ipc::CompressionType;
use arrow_ipc::writer::IpcWriteOptions;
use bowstring::engine::{StreamName, StreamOptions};
use bowstring::wire::proto::{CreateStreamRequest, StreamDescription};
use futures::TryStreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use super::hostile::goes_on;
use super::server_support::{call, messages, numbers, path, put, read, refused, send, soon, started, stop};

fn column(array: ArrayRef) -> RecordBatch {
    RecordBatch::try_from_iter([("c", array)]).expect("one column")
}

fn compressed(batch: RecordBatch, codec: CompressionType) -> Vec<FlightData> {
    let options = IpcWriteOptions::default().try_with_compression(Some(codec)).expect("is supported");
    let encoder = FlightDataEncoderBuilder::new().with_options(options).with_flight_descriptor(Some(path("s")));
    futures::executor::block_on(encoder.build(futures::stream::iter([Ok(batch)])).try_collect()).expect("encodes")
}

/// Says another decompressed length in front of the first buffer.
fn claiming(mut messages: Vec<FlightData>, length: i64) -> Vec<FlightData> {
    let mut body = messages[1].data_body.to_vec();
    body[..8].copy_from_slice(&length.to_le_bytes());
    messages[1].data_body = body.into();
    messages
}

/// Puts a number in place of another, wherever it stands in the batch's header.
fn saying(mut messages: Vec<FlightData>, instead_of: i64, number: i64) -> Vec<FlightData> {
    let mut header = messages[1].data_header.to_vec();
    let places: Vec<_> = (0..header.len() - 7).filter(|at| header[*at..at + 8] == instead_of.to_le_bytes()).collect();
    assert!(!places.is_empty(), "{instead_of} is in the header");
    places.iter().for_each(|at| header[*at..at + 8].copy_from_slice(&number.to_le_bytes()));
    messages[1].data_header = header.into();
    messages
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_claim_to_become_huge_are_refused() {
    let (server, channel) = started().await;
    let zeros = || column(Arc::new(Int64Array::from(vec![0; 100])));
    let noise = || {
        let mut random = StdRng::seed_from_u64(3);
        column(Arc::new(Int64Array::from_iter_values((0..16_000).map(|_| i64::from(random.random::<u32>())))))
    };
    for (name, messages, code) in [
        ("lz4 with a false length", claiming(compressed(zeros(), CompressionType::LZ4_FRAME), 1 << 40), "malformed_message"),
        ("lz4 with a negative length", claiming(compressed(zeros(), CompressionType::LZ4_FRAME), -2), "malformed_message"),
        ("zstd with a false length", claiming(compressed(zeros(), CompressionType::ZSTD), 1 << 40), "malformed_message"),
        ("zstd that becomes less than its array", claiming(compressed(zeros(), CompressionType::ZSTD), 8), "malformed_message"),
        ("zstd that becomes 2 GiB", claiming(compressed(noise(), CompressionType::ZSTD), 2 << 30), "message_too_large"),
        ("lz4 that is not compressed but too short", claiming(compressed(zeros(), CompressionType::LZ4_FRAME), -1), "malformed_message"),
    ] {
        assert_eq!(refused(soon(send(&channel, messages)).await), code, "{name}");
    }
    send(&channel, compressed(noise(), CompressionType::ZSTD)).await.expect("an honest one");
    assert_eq!(read(&channel, json!({"stream": "s"})).await.expect("reads"), [noise()]);
    goes_on(&server, &channel).await;
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_and_arrays_that_cannot_be_are_refused() {
    let (server, channel) = started().await;
    const ROWS: i64 = 1_234_567;
    let nulls = || messages(path("s"), vec![column(Arc::new(NullArray::new(1_234_567)))]);
    for rows in [1 << 62, i64::from(i32::MAX) + 1, -1, i64::MIN] {
        assert_eq!(refused(soon(send(&channel, saying(nulls(), ROWS, rows))).await), "malformed_message", "{rows} rows");
    }
    send(&channel, saying(nulls(), ROWS, i64::from(i32::MAX))).await.expect("as many as Arrow's Java can hold");
    let hundred = || messages(path("t"), vec![numbers(0..100)]);
    for (instead_of, number) in [(100, 101), (100, 1 << 40), (800, 792), (800, 1 << 62), (800, -8)] {
        assert_eq!(refused(soon(send(&channel, saying(hundred(), instead_of, number))).await), "malformed_message", "{number}");
    }
    goes_on(&server, &channel).await;
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_of_too_many_columns_or_too_deep_are_refused() {
    let (server, channel) = started().await;
    let wide = |columns: usize| {
        let fields: Vec<_> = (0..columns).map(|_| Field::new("", DataType::Null, true)).collect();
        let nulls: Vec<ArrayRef> = (0..columns).map(|_| Arc::new(NullArray::new(1)) as ArrayRef).collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), nulls).expect("equal lengths")
    };
    let deep = |depth: usize| {
        let leaf: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        column((0..depth).fold(leaf, |inner, _| {
            let field = Arc::new(Field::new("f", inner.data_type().clone(), true));
            Arc::new(StructArray::from(vec![(field, inner)]))
        }))
    };
    assert_eq!(refused(soon(put(&channel, path("wide"), vec![wide(65_537)])).await), "malformed_message");
    assert_eq!(refused(soon(put(&channel, path("deep"), vec![deep(64)])).await), "malformed_message");
    soon(put(&channel, path("deep"), vec![deep(63)])).await.expect("fits");
    soon(put(&channel, path("wide"), vec![wide(3_000)])).await.expect("fits");
    goes_on(&server, &channel).await;
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_streams_than_the_limit_are_refused_and_a_deleted_one_makes_room() {
    let (server, channel) = started().await;
    let create = |name: &str| CreateStreamRequest { stream: name.to_owned(), ..Default::default() };
    for number in 1..10_000 {
        let name = StreamName::new(&number.to_string()).expect("a name");
        server.coordinator().create(&name, StreamOptions::default(), None, false).expect("fits");
    }
    call::<_, StreamDescription>(&channel, "CreateStream", create("last")).await.expect("the 10,000th fits");
    assert_eq!(refused(call::<_, StreamDescription>(&channel, "CreateStream", create("one more")).await), "too_many");
    assert_eq!(refused(put(&channel, path("one more"), vec![numbers(0..1)]).await), "too_many");
    server.coordinator().delete(&StreamName::new("1").expect("a name")).expect("is there");
    call::<_, StreamDescription>(&channel, "CreateStream", create("one more")).await.expect("there is room");
    stop(server).await;
}
