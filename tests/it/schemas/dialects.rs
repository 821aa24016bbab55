//! A consumer asks for names and types of its own.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit, TimestampMillisecondType};
use bowstring::client::{Client, Consumer, ConsumerOptions, Dialect, Error, Strings};
use bowstring::engine::Code;
use bowstring::server::{Server, ServerConfig};
use bowstring::wire::proto::SchemaPolicy::{Additive, Strict};

use super::super::client_support::{connect, next, server};
use super::super::transport::{Transport, on_each_transport};
use super::{append, batch, columns, int, ints, long, longs, nulls, stream, take, texts};

on_each_transport!(a_dialect_is_spoken_for_small_batches_and_large_ones);

async fn started() -> (Server, Client) {
    let server = server().await;
    let client = connect(&server.url()).await;
    (server, client)
}

async fn try_reader(client: &Client, dialect: Dialect) -> Result<Consumer, Error> {
    client.consumer("s", ConsumerOptions { dialect, ..ConsumerOptions::default() }).await
}

async fn reader(client: &Client, dialect: Dialect) -> Consumer {
    try_reader(client, dialect).await.expect("can be had")
}

fn wants(columns: &[(&str, DataType)]) -> Dialect {
    let fields: Vec<_> = columns.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect();
    Dialect { schema: Some(Arc::new(Schema::new(fields))), ..Dialect::default() }
}

async fn a_dialect_is_spoken_for_small_batches_and_large_ones(on: Transport) {
    let server = on.server(ServerConfig::default()).await;
    let client = on.client(&server).await;
    stream(&client, Strict).await;
    for rows in [2_usize, 40_000] {
        let words: Vec<_> = (0..rows).map(|row| format!("word {row} that is no short one")).collect();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        append(&client, &[batch(&[("t", texts(&words))]), batch(&[("t", texts(&words))])]).await;
    }
    for (strings, data_type) in
        [(Strings::Plain, DataType::Utf8), (Strings::Large, DataType::LargeUtf8), (Strings::View, DataType::Utf8View)]
    {
        let mut consumer = reader(&client, Dialect { strings: Some(strings), ..Dialect::default() }).await;
        for (number, delivered) in take(&mut consumer, 4).await.iter().enumerate() {
            assert_eq!(columns(&delivered.batch), [("t".to_owned(), data_type.clone())]);
            let plain = arrow::compute::cast(delivered.batch.column(0), &DataType::Utf8).expect("text");
            let rows = if number < 2 { 2 } else { 40_000 };
            assert_eq!(
                (plain.len(), plain.as_string::<i32>().value(rows - 1)),
                (rows, &*format!("word {} that is no short one", rows - 1))
            );
        }
        assert_eq!(consumer.schema(None).await.expect("has one").expect("has one").field(0).data_type(), &data_type);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_names_become_one_whoever_writes_them() {
    let (_server, client) = started().await;
    stream(&client, Additive).await;
    for (name, number) in [("CustomerID", 1), ("customerId", 2), ("CustID", 3)] {
        append(&client, &[batch(&[(name, ints([number])), ("n", ints([number]))])]).await;
    }
    let aliases = [("customer_id".to_owned(), ["CustomerID", "customerId", "CustID"].map(str::to_owned).to_vec())];
    let mut consumer = reader(&client, Dialect { aliases: aliases.into(), ..Dialect::default() }).await;
    let found = take(&mut consumer, 3).await;
    assert_eq!(columns(&found[0].batch).into_iter().map(|(name, _)| name).collect::<Vec<_>>(), ["customer_id", "n"]);
    assert_eq!(found.iter().flat_map(|one| int(&one.batch, "customer_id")).collect::<Vec<_>>(), [1, 2, 3]);
    append(&client, &[batch(&[("CUSTOMER", ints([4])), ("n", ints([4]))])]).await;
    assert_eq!(nulls(&next(&mut consumer).await.batch, "customer_id"), 1, "a name that nobody named");
}

#[tokio::test(flavor = "multi_thread")]
async fn zones_and_units_are_those_asked_for() {
    let (_server, client) = started().await;
    stream(&client, Strict).await;
    let at: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1_234_567]).with_timezone("UTC"));
    append(&client, &[batch(&[("at", at)])]).await;
    let berlin = DataType::Timestamp(TimeUnit::Millisecond, Some("Europe/Berlin".into()));
    let short = Dialect { time_zone: Some("Europe/Berlin".into()), time_unit: Some(TimeUnit::Millisecond), ..Dialect::default() };
    for dialect in [short, wants(&[("at", berlin.clone())])] {
        let found = next(&mut reader(&client, dialect).await).await.batch;
        assert_eq!(found.column(0).data_type(), &berlin);
        assert_eq!(found.column(0).as_primitive::<TimestampMillisecondType>().value(0), 1_234);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_was_asked_for_is_known_before_the_stream_has_one() {
    let (_server, client) = started().await;
    stream(&client, Additive).await;
    let mut consumer = reader(&client, wants(&[("later", DataType::Utf8), ("a", DataType::Int64)])).await;
    let schema = consumer.schema(None).await.expect("asked for").expect("asked for");
    append(&client, &[batch(&[("a", ints([7]))])]).await;
    let found = next(&mut consumer).await.batch;
    assert_eq!(found.schema(), schema);
    assert_eq!((long(&found, "a"), nulls(&found, "later")), (vec![7], 1));
    append(&client, &[batch(&[("later", texts(&["now"])), ("a", ints([8]))])]).await;
    let found = next(&mut consumer).await.batch;
    assert_eq!(found.column(0).as_string::<i32>().value(0), "now");
    assert_eq!(found.column(1).as_primitive::<Int64Type>().value(0), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_had_is_refused_when_the_consumer_opens() {
    let (_server, client) = started().await;
    stream(&client, Strict).await;
    append(&client, &[batch(&[("a", longs([1])), ("t", texts(&["x"]))])]).await;
    let cases = [
        (wants(&[("t", DataType::Int64)]), "\"t\": the batches have Utf8"),
        (wants(&[("amount", DataType::Int64)]), "no column \"amount\""),
        (Dialect { strings: Some(Strings::View), ..wants(&[("a", DataType::Int64)]) }, "leave out strings"),
    ];
    for (dialect, part) in cases {
        let error = try_reader(&client, dialect).await.expect_err(part);
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.to_string().contains(part), "{part:?} is not in {error}");
    }
}
