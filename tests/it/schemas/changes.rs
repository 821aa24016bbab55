//! Producers change the schema under readers that run.

use std::time::Duration;

use arrow::array::{AsArray, DictionaryArray, RecordBatch};
use arrow::datatypes::{DataType, Int32Type};
use bowstring::client::{Client, ConsumerOptions, Delivered, ProducerOptions};
use bowstring::engine::{Code, Offset, PartitionId};
use bowstring::server::ServerConfig;
use bowstring::wire::proto::SchemaPolicy::{Additive, Strict, Widening};
use bowstring::wire::proto::StreamOptions;
use bytes::Bytes;

use super::super::client_support::{Proxy, connect, create, next, rest, soon, subscribed};
use super::super::server_support::until;
use super::super::transport::{Transport, on_each_transport};
use super::{append, batch, columns, int, ints, long, longs, nulls, policy, reader, stream, take, texts, try_append};

on_each_transport!(
    a_new_column_is_nobodys_who_did_not_ask_for_it,
    producers_of_two_versions_take_turns,
    dictionaries_are_those_of_their_version,
);

async fn a_new_column_is_nobodys_who_did_not_ask_for_it(on: Transport) {
    let server = on.server(ServerConfig::default()).await;
    let client = on.client(&server).await;
    stream(&client, Additive).await;
    let (old, new) = (batch(&[("a", ints([1, 2]))]), batch(&[("b", texts(&["x", "y"])), ("a", ints([3, 4]))]));
    append(&client, std::slice::from_ref(&old)).await;
    let mut running = reader(&client).await;
    assert_eq!(next(&mut running).await.batch, old);
    append(&client, &[new.clone(), new.clone()]).await;
    append(&client, std::slice::from_ref(&old)).await;
    for (delivered, expected) in take(&mut running, 3).await.iter().zip([[3, 4], [3, 4], [1, 2]]) {
        assert_eq!(delivered.batch.schema(), old.schema());
        assert_eq!(int(&delivered.batch, "a"), expected);
    }
    let mut late = reader(&client).await;
    let found = take(&mut late, 4).await;
    assert_eq!(columns(&found[0].batch), [("a".to_owned(), DataType::Int32), ("b".to_owned(), DataType::Utf8)]);
    assert!(found.iter().all(|one| one.batch.schema() == found[0].batch.schema()));
    assert_eq!(found.iter().map(|one| nulls(&one.batch, "b")).collect::<Vec<_>>(), [2, 0, 0, 2]);
    let described = client.describe_stream("s").await.expect("is there");
    assert_eq!((described.schema_versions, described.options.expect("are there").schema_policy()), (2, Additive));
}

/// Small batches, which are joined, and large ones, which shared memory carries.
async fn producers_of_two_versions_take_turns(on: Transport) {
    let server = on.server(ServerConfig::default()).await;
    let client = on.client(&server).await;
    create(&client, "s", StreamOptions { max_buffered_batches: Some(1000), ..policy(Widening) }).await;
    for rows in [3_i32, 50_000] {
        let mut consumer = subscribed(&client, "s", "c").await;
        let mut old = client.producer("s", ProducerOptions::default()).expect("a producer");
        let mut new = client.producer("s", ProducerOptions::default()).expect("a producer");
        for turn in 0..20 {
            let (narrow, wide) = (batch(&[("a", ints(turn..turn + rows))]), batch(&[("a", longs((turn..turn + rows).map(i64::from)))]));
            for _ in 0..=turn % 3 {
                soon(old.append(&narrow, None, Bytes::new())).await.expect("room");
            }
            soon(old.flush()).await.expect("stored");
            soon(new.append(&wide, None, Bytes::new())).await.expect("room");
            soon(new.flush()).await.expect("stored");
        }
        let count = 20 + (0..20).map(|turn| turn % 3 + 1).sum::<usize>();
        let found = take(&mut consumer, count).await;
        let first = found[0].batch.schema();
        let expected = (0..20).flat_map(|turn| std::iter::repeat_n(turn, usize::try_from(turn % 3).expect("small") + 2));
        for (one, turn) in found.iter().zip(expected) {
            assert_eq!(one.batch.schema(), first, "one schema for all");
            let values: Vec<i64> = match first.field(0).data_type() {
                DataType::Int32 => int(&one.batch, "a").into_iter().map(i64::from).collect(),
                _ => long(&one.batch, "a"),
            };
            assert!(values.iter().copied().eq(turn..turn + i64::from(rows)), "of turn {turn}");
        }
        let last = found.last().expect("many");
        consumer.ack(last.partition, last.offset.plus(1)).expect("is acked");
        soon(consumer.close()).await.expect("is acked");
    }
}

fn words(words: &[&str]) -> arrow::array::ArrayRef {
    let array: DictionaryArray<Int32Type> = words.iter().copied().collect();
    std::sync::Arc::new(array)
}

fn word(delivered: &Delivered) -> Vec<String> {
    let plain = arrow::compute::cast(delivered.batch.column_by_name("w").expect("the column"), &DataType::Utf8).expect("text");
    plain.as_string::<i32>().iter().flatten().map(str::to_owned).collect()
}

async fn dictionaries_are_those_of_their_version(on: Transport) {
    let server = on.server(ServerConfig::default()).await;
    let client = on.client(&server).await;
    stream(&client, Additive).await;
    let mut consumer = reader(&client).await;
    for turn in 0..3 {
        append(&client, &[batch(&[("w", words(&["a", "b", "a"]))])]).await;
        append(&client, &[batch(&[("v", words(&["x", "y", "z"])), ("w", words(&["c", "c", "d"]))])]).await;
        let found = take(&mut consumer, 2).await;
        assert_eq!([word(&found[0]), word(&found[1])], [["a", "b", "a"], ["c", "c", "d"]], "turn {turn}");
    }
}

async fn started() -> (bowstring::server::Server, Client) {
    let server = super::super::client_support::server().await;
    let client = connect(&server.url()).await;
    (server, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn wider_values_come_in_the_narrow_type_while_they_fit_and_then_are_named() {
    let (_server, client) = started().await;
    stream(&client, Widening).await;
    append(&client, &[batch(&[("a", ints([1]))])]).await;
    let mut narrow = subscribed(&client, "s", "narrow").await;
    append(&client, &[batch(&[("a", longs([2]))]), batch(&[("a", longs([1 << 40]))])]).await;
    let found = take(&mut narrow, 2).await;
    assert_eq!(found.iter().map(|one| int(&one.batch, "a")).collect::<Vec<_>>(), [[1], [2]]);
    narrow.ack(PartitionId(0), Offset(2)).expect("is acked");
    let error = soon(narrow.next(None)).await.expect_err("does not fit");
    assert_eq!(error.code(), Code::SchemaMismatch);
    let text = error.to_string();
    assert!(["batch 2 of partition 0", "\"a\"", "1099511627776", "Int32"].iter().all(|part| text.contains(part)), "{text}");
    soon(narrow.close()).await.expect("is acked");
    let mut wide = subscribed(&client, "s", "narrow").await;
    assert_eq!(long(&next(&mut wide).await.batch, "a"), [1 << 40], "nothing is lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_a_producer_leaves_out_is_null_for_who_has_pinned_it() {
    let (_server, client) = started().await;
    stream(&client, Widening).await;
    let strict = RecordBatch::try_from_iter([("k", ints([1])), ("v", ints([2]))]).expect("columns");
    append(&client, std::slice::from_ref(&strict)).await;
    let mut running = reader(&client).await;
    append(&client, &[batch(&[("v", ints([3]))])]).await;
    let found = take(&mut running, 2).await;
    assert_eq!((int(&found[0].batch, "k"), nulls(&found[1].batch, "k")), (vec![1], 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_policy_does_not_allow_is_refused_naming_the_columns() {
    let (_server, client) = started().await;
    let first = batch(&[("a", ints([1])), ("b", texts(&["x"]))]);
    for (number, (of, parts)) in [
        (Strict, ["schema_policy is strict", "\"a\"", "another stream"]),
        (
            Additive,
            ["schema_policy is additive", "column \"a\": the stream has Int32, the batches have Int64; column \"b\"", "docs/schemas.md"],
        ),
        (Widening, ["schema_policy is widening", "column \"b\": the stream has Utf8, the batches have Int32", "docs/schemas.md"]),
    ]
    .into_iter()
    .enumerate()
    {
        if number > 0 {
            client.delete_stream("s").await.expect("was there");
        }
        stream(&client, of).await;
        append(&client, std::slice::from_ref(&first)).await;
        let error = try_append(&client, &[batch(&[("a", longs([1])), ("b", ints([1]))])]).await.expect_err("does not fit");
        assert_eq!(error.code(), Code::SchemaMismatch);
        parts.iter().for_each(|part| assert!(error.to_string().contains(part), "{part:?} is not in {error}"));
        append(&client, std::slice::from_ref(&first)).await;
        assert_eq!(client.describe_stream("s").await.expect("is there").schema_versions, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_keeps_its_schema_over_a_break_and_a_change_meanwhile() {
    let (server, client) = started().await;
    stream(&client, Additive).await;
    append(&client, &[batch(&[("a", ints([1]))])]).await;
    let proxy = Proxy::to(Transport::Tcp, &server).await;
    let mut consumer = reader(&connect(&proxy.url).await).await;
    assert_eq!(columns(&next(&mut consumer).await.batch).len(), 1);
    proxy.block();
    append(&client, &[batch(&[("b", texts(&["x"])), ("a", ints([2]))])]).await;
    proxy.restore(&server);
    let found = next(&mut consumer).await;
    assert_eq!((columns(&found.batch).len(), int(&found.batch, "a")), (1, vec![2]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_was_there_before_any_schema_reads_the_first_one() {
    let (_server, client) = started().await;
    stream(&client, Additive).await;
    let mut consumer = reader(&client).await;
    append(&client, &[batch(&[("a", ints([1]))])]).await;
    assert_eq!(columns(&next(&mut consumer).await.batch).len(), 1);
    append(&client, &[batch(&[("a", ints([2])), ("b", ints([3]))])]).await;
    client.complete_stream("s").await.expect("is there");
    let rest = soon(rest(&mut consumer)).await.expect("is read");
    assert_eq!(rest.iter().map(|one| (columns(&one.batch).len(), int(&one.batch, "a"))).collect::<Vec<_>>(), [(1, vec![2])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_is_resent_after_a_break_keeps_its_version() {
    let (server, client) = started().await;
    create(&client, "s", StreamOptions { max_buffered_batches: Some(1), ..policy(Widening) }).await;
    append(&client, &[batch(&[("a", longs([0]))])]).await;
    let proxy = Proxy::to(Transport::Tcp, &server).await;
    let mut old = connect(&proxy.url).await.producer("s", ProducerOptions::default()).expect("a producer");
    for number in 1..4 {
        old.append(&batch(&[("a", ints([number]))]), None, Bytes::new()).await.expect("room in the window");
    }
    until("the buffer is full", async || !client.describe_stream("s").await.expect("is there").waiting.is_empty()).await;
    proxy.cut();
    let mut consumer = subscribed(&client, "s", "c").await;
    for number in 0..4 {
        let found = next(&mut consumer).await;
        assert_eq!(long(&found.batch, "a"), [number]);
        consumer.ack(found.partition, found.offset.plus(1)).expect("is acked");
    }
    soon(old.close()).await.expect("all is stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_ends_gives_all_versions_before_it() {
    let (_server, client) = started().await;
    stream(&client, Additive).await;
    for number in 0..5 {
        append(&client, &[batch(&[("a", ints([number])), (["b", "c"][usize::from(number % 2 == 0)], ints([number]))])]).await;
    }
    let options = ConsumerOptions { follow: false, stream_wait: Duration::ZERO, ..ConsumerOptions::default() };
    let mut consumer = client.consumer("s", options).await.expect("is there");
    let found = soon(rest(&mut consumer)).await.expect("is read");
    assert_eq!(found.iter().flat_map(|one| int(&one.batch, "a")).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!(found.iter().map(|one| nulls(&one.batch, "b")).collect::<Vec<_>>(), [1, 0, 1, 0, 1]);
}
