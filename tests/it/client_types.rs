//! Every Arrow type goes through a real server and comes back the same.

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::*;
use arrow_flight::Ticket;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use bowstring::client::{Compression, ConsumerOptions, Offsets, ProducerOptions};
use bowstring::engine::{Code, Offset, PartitionId};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use super::client_support::{connect, next, rest, server, soon};
use super::server_support::{flight, messages, path, send, started, stop};

/// One nullable column per type, some of them nested.
fn every_type() -> RecordBatch {
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
    let large_list = LargeListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1)]), None, Some(vec![Some(2), Some(3)])]);
    let fixed_list =
        FixedSizeListArray::from_iter_primitive::<Int8Type, _, _>([Some(vec![Some(1), Some(2)]), None, Some(vec![None, Some(3)])], 2);
    let list_view = ListViewArray::new(
        Arc::new(Field::new_list_field(DataType::Int32, true)),
        ScalarBuffer::from(vec![1, 0, 0]),
        ScalarBuffer::from(vec![1, 0, 2]),
        Arc::new(Int32Array::from(vec![7, 8])),
        Some(NullBuffer::from(vec![true, false, true])),
    );
    let structs = StructArray::new(
        vec![Field::new("a", DataType::Int32, true), Field::new("b", DataType::Utf8, true)].into(),
        vec![Arc::new(Int32Array::from(vec![Some(1), None, Some(3)])), Arc::new(StringArray::from(vec![None, Some("x"), Some("y")]))],
        Some(NullBuffer::from(vec![true, true, false])),
    );
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    map.keys().append_value("k");
    map.values().append_null();
    map.append(true).expect("equal lengths");
    map.append(false).expect("equal lengths");
    map.append(true).expect("equal lengths");
    let dictionary: DictionaryArray<Int16Type> = [Some("a"), None, Some("a")].into_iter().collect();
    let ordered = DictionaryArray::<UInt8Type>::new(UInt8Array::from(vec![0, 1, 0]), Arc::new(Decimal128Array::from(vec![10, 20])));
    let runs = RunArray::<Int32Type>::try_new(&Int32Array::from(vec![2, 3]), &StringArray::from(vec![Some("r"), None])).expect("runs");
    let union_fields =
        UnionFields::try_new(vec![0, 1], vec![Field::new("i", DataType::Int32, true), Field::new("f", DataType::Float64, true)]);
    let union_fields = union_fields.expect("two fields");
    let (ints, floats): (ArrayRef, ArrayRef) = (Arc::new(Int32Array::from(vec![1, 2])), Arc::new(Float64Array::from(vec![1.5])));
    let dense = UnionArray::try_new(union_fields.clone(), vec![0, 1, 0].into(), Some(vec![0, 0, 1].into()), vec![ints, floats]);
    let (ints, floats): (ArrayRef, ArrayRef) =
        (Arc::new(Int32Array::from(vec![1, 0, 2])), Arc::new(Float64Array::from(vec![0.0, 1.5, 0.0])));
    let sparse = UnionArray::try_new(union_fields, vec![0, 1, 0].into(), None, vec![ints, floats]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(NullArray::new(3)),
        Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
        Arc::new(Int8Array::from(vec![Some(1), None, Some(i8::MIN)])),
        Arc::new(Int16Array::from(vec![Some(1), None, Some(i16::MIN)])),
        Arc::new(Int32Array::from(vec![Some(1), None, Some(i32::MIN)])),
        Arc::new(Int64Array::from(vec![Some(1), None, Some(i64::MIN)])),
        Arc::new(UInt8Array::from(vec![Some(1), None, Some(u8::MAX)])),
        Arc::new(UInt16Array::from(vec![Some(1), None, Some(u16::MAX)])),
        Arc::new(UInt32Array::from(vec![Some(1), None, Some(u32::MAX)])),
        Arc::new(UInt64Array::from(vec![Some(1), None, Some(u64::MAX)])),
        Arc::new(Float16Array::from(vec![<Float16Type as ArrowPrimitiveType>::Native::from_f32(1.5); 3])),
        Arc::new(Float32Array::from(vec![Some(1.5), None, Some(f32::INFINITY)])),
        Arc::new(Float64Array::from(vec![Some(1.5), None, Some(f64::MIN)])),
        Arc::new(Decimal32Array::from(vec![Some(1), None, Some(-99)])),
        Arc::new(Decimal64Array::from(vec![Some(1), None, Some(-99)])),
        Arc::new(Decimal128Array::from(vec![Some(1), None, Some(-99)])),
        Arc::new(Decimal256Array::from(vec![Some(i256::from(1)), None, Some(i256::from(-99))])),
        Arc::new(Date32Array::from(vec![Some(1), None, Some(-1)])),
        Arc::new(Date64Array::from(vec![Some(86_400_000), None, Some(0)])),
        Arc::new(Time32SecondArray::from(vec![Some(1), None, Some(2)])),
        Arc::new(Time32MillisecondArray::from(vec![Some(1), None, Some(2)])),
        Arc::new(Time64MicrosecondArray::from(vec![Some(1), None, Some(2)])),
        Arc::new(Time64NanosecondArray::from(vec![Some(1), None, Some(2)])),
        Arc::new(TimestampSecondArray::from(vec![Some(1), None, Some(-2)])),
        Arc::new(TimestampMillisecondArray::from(vec![Some(1), None, Some(-2)]).with_timezone("+02:00")),
        Arc::new(TimestampMicrosecondArray::from(vec![Some(1), None, Some(-2)]).with_timezone("UTC")),
        Arc::new(TimestampNanosecondArray::from(vec![Some(1), None, Some(-2)])),
        Arc::new(DurationMicrosecondArray::from(vec![Some(1), None, Some(-2)])),
        Arc::new(IntervalYearMonthArray::from(vec![Some(1), None, Some(-2)])),
        Arc::new(IntervalDayTimeArray::from(vec![Some(IntervalDayTime::new(1, 2)), None, Some(IntervalDayTime::new(-1, 0))])),
        Arc::new(IntervalMonthDayNanoArray::from(vec![Some(IntervalMonthDayNano::new(1, 2, 3)), None, None])),
        Arc::new(StringArray::from(vec![Some("a"), None, Some("")])),
        Arc::new(LargeStringArray::from(vec![Some("a"), None, Some("ü")])),
        Arc::new(StringViewArray::from(vec![Some("short"), None, Some("longer than the twelve bytes of a view")])),
        Arc::new(BinaryArray::from(vec![Some(&b"a"[..]), None, Some(&[0xff][..])])),
        Arc::new(LargeBinaryArray::from(vec![Some(&b"a"[..]), None, Some(&b""[..])])),
        Arc::new(BinaryViewArray::from(vec![Some(&b"a"[..]), None, Some(&b"longer than the twelve bytes of a view"[..])])),
        Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size([Some(b"ab"), None, Some(b"cd")].into_iter(), 2).expect("two bytes")),
        Arc::new(list),
        Arc::new(large_list),
        Arc::new(fixed_list),
        Arc::new(list_view),
        Arc::new(structs),
        Arc::new(map.finish()),
        Arc::new(dictionary),
        Arc::new(ordered),
        Arc::new(runs),
        Arc::new(dense.expect("a union")),
        Arc::new(sparse.expect("a union")),
        Arc::new(ListArray::new(
            Arc::new(Field::new_list_field(DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8)), true)),
            OffsetBuffer::from_lengths([2, 0, 1]),
            Arc::new(["x", "y", "x"].into_iter().collect::<DictionaryArray<Int8Type>>()),
            None,
        )),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().enumerate().map(|(index, column)| (format!("c{index}"), column, true)))
        .expect("equal lengths")
}

/// Appends `batches` with one producer and reads them back.
async fn check(batches: Vec<RecordBatch>, compression: Compression) {
    let server = server().await;
    let client = connect(&server.url()).await;
    let mut producer = client.producer("s", ProducerOptions { compression, ..ProducerOptions::default() }).expect("a producer");
    for (index, batch) in batches.iter().enumerate() {
        producer.append(batch, None, Bytes::from(vec![u8::try_from(index).expect("few batches")])).await.expect("room");
    }
    soon(producer.complete()).await.expect("stored");
    let mut consumer = client.consumer("s", ConsumerOptions::default()).await.expect("the stream is there");
    let delivered = soon(rest(&mut consumer)).await.expect("reads");
    assert_eq!(delivered.len(), batches.len());
    for (index, (delivered, batch)) in delivered.iter().zip(&batches).enumerate() {
        assert_eq!(&delivered.batch, batch);
        assert_eq!(delivered.offset.0, index as u64);
        assert_eq!(delivered.user[..], [u8::try_from(index).expect("few batches")]);
        assert_eq!(delivered.epoch, None);
        assert!(delivered.appended_at.0 > 0);
    }
    let schema = consumer.schema(None).await.expect("known").expect("batches came");
    assert_eq!(schema, batches[0].schema());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_arrow_type_comes_back_as_it_was_appended() {
    let batch = every_type();
    check(vec![batch.clone(), batch.slice(1, 2), batch.slice(0, 0)], Compression::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_batches_pass_through_compressed_and_come_back_whole() {
    for compression in [Compression::Auto, Compression::Lz4, Compression::Zstd] {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values((0..50_000).map(|row| row % 10)));
        let large = RecordBatch::try_from_iter([("n", numbers)]).expect("one column");
        check(vec![large.clone(), large.slice(0, 1), large], compression).await;
        check(vec![every_type()], compression).await;
    }
}

/// As C++ and Java let one write it.
#[tokio::test(flavor = "multi_thread")]
async fn nulls_that_a_stock_client_sends_where_its_schema_promises_none_are_stored_and_no_reader_takes_them() {
    let (server, channel) = started().await;
    let batch = |nullable, value: Option<i64>| {
        let schema = Schema::new(vec![Field::new("n", DataType::Int64, nullable)]);
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(Int64Array::from(vec![value]))]).expect("one column")
    };
    let good = batch(false, Some(1));
    let mut all = messages(path("s"), vec![good.clone(), good.clone(), good.clone()]);
    all[2] = messages(path("s"), vec![batch(true, None)]).remove(1);
    assert_eq!(soon(send(&channel, all)).await.expect("its header is in order").len(), 1);

    let client = connect(&server.url()).await;
    let subscribed = async || super::client_support::subscribed(&client, "s", "a").await;
    let mut consumer = subscribed().await;
    assert_eq!(next(&mut consumer).await.batch, good);
    let error = soon(consumer.next(None)).await.expect_err("a null");
    assert_eq!(error.code(), Code::MalformedMessage);
    assert!(error.to_string().contains("batch 1 of partition 0") && error.to_string().contains("'n'"), "{error}");
    let stock = flight(&channel).do_get(Ticket { ticket: r#"{"stream": "s"}"#.into() }).await.expect("begins").into_inner();
    let mut stock = FlightRecordBatchStream::new_from_flight_data(stock.map_err(FlightError::from));
    assert_eq!(soon(stock.next()).await.expect("a batch").expect("readable"), good);
    assert!(soon(stock.next()).await.expect("a batch").is_err());

    // The way out: the subscription leaves it behind.
    client.ack("s", "a", &Offsets::from([(PartitionId(0), Offset(2))]), None).await.expect("acks");
    let delivered = next(&mut subscribed().await).await;
    assert_eq!((delivered.offset, delivered.batch), (Offset(2), good));
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn producers_with_dictionaries_of_their_own_do_not_mix_them_up() {
    let server = server().await;
    let client = connect(&server.url()).await;
    let words = |words: &[&str]| {
        let column: ArrayRef = Arc::new(words.iter().copied().collect::<DictionaryArray<Int32Type>>());
        RecordBatch::try_from_iter_with_nullable([("w", column, true)]).expect("one column")
    };
    let mut ours = [words(&["a", "b"]), words(&["a", "b", "c"]), words(&["z"])].into_iter();
    let mut theirs = [words(&["c", "b", "c"]), words(&["c", "b", "d"]), words(&["e", "e"])].into_iter();
    let mut one = client.producer("s", ProducerOptions::default()).expect("a producer");
    let mut other = client.producer("s", ProducerOptions::default()).expect("a producer");
    let mut expected = Vec::new();
    while let (Some(a), Some(b)) = (ours.next(), theirs.next()) {
        for (producer, batch) in [(&mut one, a), (&mut other, b)] {
            producer.append(&batch, None, Bytes::new()).await.expect("room");
            soon(producer.flush()).await.expect("stored");
            expected.push(batch);
        }
    }
    client.complete_stream("s").await.expect("the stream is there");
    let mut consumer = client.consumer("s", ConsumerOptions::default()).await.expect("the stream is there");
    let delivered: Vec<_> = soon(rest(&mut consumer)).await.expect("reads").into_iter().map(|delivered| delivered.batch).collect();
    assert_eq!(delivered, expected);
}
