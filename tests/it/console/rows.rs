//! Rows of any type, bounded, of hostile batches too; and nothing moves.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, Decimal128Array, DictionaryArray, Float64Array, Int32Array, Int64Array, ListArray, MapBuilder, RecordBatch,
    StringArray, StringBuilder, StructArray, TimestampMicrosecondArray, UnionArray,
};
use arrow::datatypes::{DataType, Field, Int8Type, Int32Type, UnionFields};
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_ipc::CompressionType;
use arrow_ipc::writer::IpcWriteOptions;
use futures::TryStreamExt;
use serde_json::{Value, json};

use super::super::client_support::{connect, create, partitions};
use super::super::server_support::{messages, numbers, path, put, send, started, stop};
use super::{api, get, show};

/// The cells of a row.
fn cells(answer: &Value, row: usize) -> &Value {
    &answer["rows"][row]["cells"]
}

fn of(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).expect("columns")
}

/// A column of each kind: a row of values, and a row of nulls.
fn kinds() -> RecordBatch {
    let numbers: ArrayRef = Arc::new(Int32Array::from(vec![Some(7), None]));
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("<b>\"\n"), None]));
    let fields = vec![Arc::new(Field::new("n", DataType::Int32, true)), Arc::new(Field::new("t", DataType::Utf8, true))];
    let structure = StructArray::try_new(fields.into(), vec![numbers, texts], Some(vec![true, false].into())).expect("a structure");
    let mut map = MapBuilder::new(None, StringBuilder::new(), arrow::array::Int64Builder::new());
    map.keys().append_value("k");
    map.values().append_value(1);
    map.append(true).expect("an entry");
    map.append(false).expect("a null");
    let union_fields =
        UnionFields::try_new([3, 5], [Field::new("i", DataType::Int32, true), Field::new("s", DataType::Utf8, true)]).expect("fields");
    let children: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(vec![None, Some(1)])), Arc::new(StringArray::from(vec![Some("x"), None]))];
    let union = UnionArray::try_new(union_fields, vec![5, 3].into(), None, children).expect("a union");
    let micros = 1_793_536_215_123_456;
    of(vec![
        ("int64", Arc::new(Int64Array::from(vec![Some(i64::MAX), None]))),
        ("double", Arc::new(Float64Array::from(vec![Some(f64::NAN), None]))),
        ("decimal", Arc::new(Decimal128Array::from(vec![Some(-1), None]).with_precision_and_scale(38, 2).expect("fits"))),
        ("binary", Arc::new(BinaryArray::from(vec![Some(b"\x00\xff<".as_ref()), None]))),
        ("local", Arc::new(TimestampMicrosecondArray::from(vec![Some(micros), None]))),
        ("zoned", Arc::new(TimestampMicrosecondArray::from(vec![Some(micros), None]).with_timezone("Europe/Berlin"))),
        ("list", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]))),
        ("struct", Arc::new(structure)),
        ("map", Arc::new(map.finish())),
        ("dictionary", Arc::new([Some("red"), None].into_iter().collect::<DictionaryArray<Int8Type>>())),
        ("union", Arc::new(union)),
    ])
}

#[tokio::test]
async fn values_of_every_kind_say_exactly_what_they_are() {
    let (server, channel) = started().await;
    put(&channel, path("kinds"), vec![kinds()]).await.expect("appends");
    let rows = show(&server, "rows", &[("name", "kinds")]).await;
    let values = json!([
        "9223372036854775807",
        "NaN",
        "-0.01",
        "0x00ff3c",
        "2026-11-01T12:30:15.123456",
        "2026-11-01T12:30:15.123456Z",
        "[1, null]",
        "{\"n\": 7, \"t\": \"<b>\\\"\\n\"}",
        "{\"k\": 1}",
        "red",
        "{\"s\": \"x\"}",
    ]);
    assert_eq!(*cells(&rows, 0), values);
    // A union's value is not null itself: it has a null of one of its types.
    let nulls = json!([null, null, null, null, null, null, null, null, null, null, "{\"i\": 1}"]);
    assert_eq!(*cells(&rows, 1), nulls);
    assert_eq!(
        rows["columns"][5],
        json!({ "name": "zoned", "type": "timestamp[us, Europe/Berlin]", "nullable": true, "is_number": false })
    );
    stop(server).await;
}

#[tokio::test]
async fn a_text_that_says_null_is_no_null_and_a_long_one_is_cut() {
    let (server, channel) = started().await;
    let long = "ä".repeat(5000);
    let texts = StringArray::from(vec![Some("null"), Some(""), None, Some("<script>alert(1)</script>"), Some(&long)]);
    put(&channel, path("texts"), vec![of(vec![("t", Arc::new(texts))])]).await.expect("appends");
    let rows = show(&server, "rows", &[("name", "texts")]).await;
    let shown: Vec<_> = (0..4).map(|row| cells(&rows, row)[0].clone()).collect();
    assert_eq!(shown, [json!("null"), json!(""), Value::Null, json!("<script>alert(1)</script>")]);
    let cut = &cells(&rows, 4)[0];
    assert_eq!((&cut["is_cut"], cut["text"].as_str().map(str::len)), (&json!(true), Some(4096)));
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_goes_on_where_the_last_ended_and_moves_nothing() {
    let (server, channel) = started().await;
    let client = connect(&server.url()).await;
    create(&client, "s", partitions(1)).await;
    put(&channel, path("s"), vec![numbers(0..3), numbers(3..8)]).await.expect("appends");
    let before = show(&server, "stream", &[("name", "s")]).await;
    let (mut seen, mut place) = (Vec::new(), Some((0, 0)));
    while let Some((offset, row)) = place {
        let (offset, row) = (offset.to_string(), row.to_string());
        let rows = show(&server, "rows", &[("name", "s"), ("offset", &offset), ("row", &row), ("rows", "2")]).await;
        let shown = rows["rows"].as_array().expect("rows");
        assert!(shown.len() <= 2);
        seen.extend(shown.iter().map(|row| row["cells"][0].as_str().expect("a number").to_owned()));
        place = rows["next"]["offset"].as_u64().zip(rows["next"]["row"].as_u64());
    }
    assert_eq!(seen, ["0", "1", "2", "3", "4", "5", "6", "7"]);
    let newest = show(&server, "rows", &[("name", "s"), ("offset", "newest")]).await;
    assert_eq!((&newest["rows"][0]["offset"], newest["rows"].as_array().map(Vec::len)), (&json!(1), Some(5)));
    let after = show(&server, "stream", &[("name", "s")]).await;
    for what in ["delivered", "partitions", "subscriptions", "buffers"] {
        let without_time = |mut json: Value| {
            json.as_array_mut().into_iter().flatten().for_each(|one| one["idle_seconds"] = Value::Null);
            json
        };
        assert_eq!(without_time(before[what].clone()), without_time(after[what].clone()), "{what}");
    }
    for (name, wrong, refusal) in [
        ("partition", "1", (400, "partition_out_of_range")),
        ("partition", "x", (400, "invalid_argument")),
        ("rows", "201", (400, "invalid_argument")),
        ("offset", "3", (400, "offset_ahead")),
    ] {
        let (status, code) = get(&server, &api("rows", &[("name", "s"), (name, wrong)])).await.refusal();
        assert_eq!((status, code.as_str()), refusal, "{name}={wrong}");
    }
    client.subscribe("s", "a", &bowstring::engine::Start::Earliest).await.expect("subscribes");
    client.ack("s", "a", &[(bowstring::engine::PartitionId(0), bowstring::engine::Offset(1))].into(), None).await.expect("acks");
    let gone = get(&server, &api("rows", &[("name", "s"), ("offset", "0")])).await.refusal();
    assert_eq!(gone, (410, "offset_gone".to_owned()));
    stop(server).await;
}

#[tokio::test]
async fn a_batch_that_cannot_be_decoded_is_an_answer_and_those_before_it_are_shown() {
    let (server, channel) = started().await;
    let texts = |text: &str| of(vec![("t", Arc::new(StringArray::from(vec![text])))]);
    let mut all = messages(path("s"), vec![texts("good"), texts("evil")]);
    let mut body = all[2].data_body.to_vec();
    let at = body.windows(4).position(|bytes| bytes == b"evil").expect("its text");
    body[at] = 0xff;
    all[2].data_body = body.into();
    send(&channel, all).await.expect("its header is in order");
    let rows = show(&server, "rows", &[("name", "s")]).await;
    assert_eq!((cells(&rows, 0), &rows["next"]), (&json!(["good"]), &json!({ "offset": 1, "row": 0 })));
    let refused = get(&server, &api("rows", &[("name", "s"), ("offset", "1")])).await;
    assert_eq!(refused.refusal(), (422, "malformed_message".to_owned()));
    assert_eq!(show(&server, "health", &[]).await["status"], "ok");
    stop(server).await;
}

#[tokio::test]
async fn a_batch_that_would_become_too_large_is_refused_before_it_is_decoded() {
    let (server, channel) = started().await;
    let zeros = of(vec![("n", Arc::new(Int64Array::from(vec![0; 13 << 20])))]);
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME)).expect("is there");
    let encoder = FlightDataEncoderBuilder::new()
        .with_schema(zeros.schema())
        .with_options(options)
        .with_flight_descriptor(Some(path("s")))
        .with_max_flight_data_size(usize::MAX)
        .build(futures::stream::iter([Ok(zeros)]));
    let all: Vec<_> = encoder.try_collect().await.expect("encodes");
    assert!(all[1].data_body.len() < 4 << 20, "it is small as it is sent");
    send(&channel, all).await.expect("appends");
    let refused = get(&server, &api("rows", &[("name", "s")])).await;
    assert_eq!(refused.refusal(), (400, "invalid_argument".to_owned()));
    assert!(refused.body.contains("more than the 100663296 that a look at rows may"), "{}", refused.body);
    stop(server).await;
}

#[tokio::test]
async fn an_answer_ends_at_a_megabyte_and_says_where_it_goes_on() {
    let (server, channel) = started().await;
    let text = "x".repeat(4096);
    let wide: Vec<(String, ArrayRef)> =
        (0..300).map(|column| (format!("c{column}"), Arc::new(StringArray::from(vec![text.as_str(); 10])) as ArrayRef)).collect();
    let wide = RecordBatch::try_from_iter(wide).expect("columns");
    put(&channel, path("wide"), vec![wide]).await.expect("appends");
    let rows = show(&server, "rows", &[("name", "wide")]).await;
    assert_eq!((&rows["columns_total"], rows["columns"].as_array().map(Vec::len)), (&json!(300), Some(256)));
    assert_eq!((rows["rows"].as_array().map(Vec::len), &rows["next"]), (Some(1), &json!({ "offset": 0, "row": 1 })));
    stop(server).await;
}
