//! Batches of the size that the consumer asks for, and how many of them it may hold unacked.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::{Array, ArrayData, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use bowstring::client::{Client, Consumer, ConsumerOptions, Delivered, ProducerOptions};
use bowstring::engine::{Code, PartitionId};
use bowstring::server::ServerConfig;
use bytes::Bytes;

use super::client_support::{create, next, numbered, partitions, rest, soon, subscribed};
use super::transport::{Transport, on_each_transport};

on_each_transport! {
    small_batches_are_put_together_and_large_ones_cut_and_no_row_is_lost,
    a_slice_holds_on_to_its_own_rows_only,
    a_batch_waits_for_others_no_longer_than_the_linger_the_deadline_or_the_end,
    an_offset_is_acked_with_its_last_part_and_comes_again_whole_before,
    no_more_is_handed_out_than_may_be_in_flight_and_the_timeout_says_so,
    single_acks_in_any_order_move_the_cursor_when_the_gap_closes,
}

const P0: PartitionId = PartitionId(0);
const AN_HOUR: Duration = Duration::from_secs(3_600);

fn options() -> ConsumerOptions {
    ConsumerOptions { subscription: Some("a".to_owned()), linger: AN_HOUR, ..ConsumerOptions::default() }
}

/// Batches with so many rows in partition 0, whose numbers are their offsets.
async fn filled(client: &Client, stream: &str, rows: impl IntoIterator<Item = usize>) {
    let mut producer = client.producer(stream, ProducerOptions::default()).expect("a producer");
    for (offset, rows) in (0..).zip(rows) {
        producer.append(&numbered(offset, rows), Some(P0), Bytes::new()).await.expect("room");
    }
    soon(producer.close()).await.expect("stored");
}

fn in_ms(milliseconds: u64) -> Option<std::time::Instant> {
    Some((tokio::time::Instant::now() + Duration::from_millis(milliseconds)).into())
}

/// First and last offset, rows.
fn facts(delivered: &Delivered) -> (u64, u64, usize) {
    (delivered.first_offset.0, delivered.offset.0, delivered.batch.num_rows())
}

/// Where the subscription stands in partition 0, once its acks are confirmed.
async fn acked(client: &Client, stream: &str, consumer: &mut Consumer) -> u64 {
    soon(consumer.flush_acks()).await.expect("confirmed");
    client.describe_stream(stream).await.expect("is there").subscriptions[0].partitions[0].acked
}

async fn small_batches_are_put_together_and_large_ones_cut_and_no_row_is_lost(on: Transport) {
    let server = on.server(ServerConfig::default()).await;
    let client = on.client(&server).await;
    create(&client, "s", partitions(3)).await;
    // From a row to 640 KiB: such as are decoded when they are taken, and such as lie in shared memory.
    let sizes = [1, 2, 3, 80_000, 5, 40_000, 1, 1, 1, 9_000, 1_000, 1];
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    let mut expected = BTreeMap::<i64, usize>::new();
    let in_turn = [0, 1, 2].into_iter().cycle();
    for ((number, rows), partition) in (0..60).zip(sizes.into_iter().cycle()).zip(in_turn) {
        expected.insert(number, rows);
        producer.append(&numbered(number, rows), Some(PartitionId(partition)), Bytes::new()).await.expect("room");
    }
    soon(producer.close()).await.expect("stored");
    client.complete_stream("s").await.expect("completes");
    let mut consumer = client.consumer("s", ConsumerOptions { target_rows: Some(10_000), ..options() }).await.expect("is there");
    let (mut found, mut ends) = (BTreeMap::<i64, usize>::new(), BTreeMap::new());
    for one in soon(rest(&mut consumer)).await.expect("to the end") {
        assert!(one.batch.num_rows() <= 10_000, "{:?}", facts(&one));
        let is_next = match &one.slice {
            Some(slice) => slice.rows.start > 0 || one.first_offset.0 == ends.get(&one.partition).copied().unwrap_or(0),
            None => one.first_offset.0 == ends.get(&one.partition).copied().unwrap_or(0),
        };
        assert!(is_next, "{:?} of partition {} after {:?}", facts(&one), one.partition, ends);
        ends.insert(one.partition, one.ack_offset().0);
        for value in one.batch.column(0).as_primitive::<Int64Type>().values() {
            *found.entry(*value).or_default() += 1;
        }
    }
    assert_eq!(found, expected);
    assert_eq!(ends.values().copied().collect::<Vec<_>>(), [20, 20, 20]);
}

/// All memory that a batch holds on to.
fn memory(batch: &RecordBatch) -> usize {
    fn of(data: &ArrayData) -> usize {
        data.buffers().iter().map(|buffer| buffer.capacity()).sum::<usize>() + data.child_data().iter().map(of).sum::<usize>()
    }
    batch.columns().iter().map(|column| of(&column.to_data())).sum()
}

async fn a_slice_holds_on_to_its_own_rows_only(on: Transport) {
    let server = on.server(ServerConfig::default()).await;
    let client = on.client(&server).await;
    filled(&client, "s", [1 << 19]).await;
    client.complete_stream("s").await.expect("completes");
    let mut consumer = client.consumer("s", ConsumerOptions { target_bytes: Some(64), ..options() }).await.expect("is there");
    let first = next(&mut consumer).await;
    assert_eq!((first.batch.num_rows(), first.slice.as_ref().map(|slice| slice.of)), (8, Some(1 << 19)));
    assert!(memory(&first.batch) <= 128, "{} bytes of 4 MiB", memory(&first.batch));
}

async fn a_batch_waits_for_others_no_longer_than_the_linger_the_deadline_or_the_end(on: Transport) {
    let server = on.server(ServerConfig::default()).await;
    let client = on.client(&server).await;
    filled(&client, "s", [1, 1]).await;
    let sized = |linger| ConsumerOptions { target_rows: Some(100), linger, subscription: None, ..ConsumerOptions::default() };
    let mut by_deadline = client.consumer("s", sized(AN_HOUR)).await.expect("is there");
    let given = soon(by_deadline.next(in_ms(300))).await.expect("rather than a timeout").expect("goes on");
    assert_eq!(facts(&given), (0, 1, 2));
    assert_eq!(soon(by_deadline.next(in_ms(50))).await.expect_err("nothing is left").code(), Code::Timeout);
    let mut by_linger = client.consumer("s", sized(Duration::from_millis(200))).await.expect("is there");
    assert_eq!(facts(&soon(by_linger.next(None)).await.expect("a batch").expect("goes on")), (0, 1, 2));
    let mut by_end = client.consumer("s", sized(AN_HOUR)).await.expect("is there");
    let end = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        client.fail_stream("s", "on purpose").await.expect("fails");
    };
    let (given, ()) = tokio::join!(soon(by_end.next(None)), end);
    assert_eq!(facts(&given.expect("what was there comes first").expect("a batch")), (0, 1, 2));
    assert_eq!(soon(by_end.next(None)).await.expect_err("then the failure").code(), Code::StreamFailed);
}

async fn an_offset_is_acked_with_its_last_part_and_comes_again_whole_before(on: Transport) {
    let server = on.server(ServerConfig::default()).await;
    let client = on.client(&server).await;
    filled(&client, "s", [1, 30]).await;
    let sized = || ConsumerOptions { target_rows: Some(10), ..options() };
    let mut consumer = client.consumer("s", sized()).await.expect("is there");
    for expected in [1, 1, 1] {
        let one = next(&mut consumer).await;
        consumer.ack(one.partition, one.ack_offset()).expect("acked");
        assert_eq!(acked(&client, "s", &mut consumer).await, expected);
    }
    drop(consumer);
    let mut again = client.consumer("s", sized()).await.expect("is there");
    for expected in [1, 1, 2] {
        let one = next(&mut again).await;
        assert_eq!(facts(&one), (1, 1, 10));
        again.acker().ack_one(&one.unacked()).expect("acked");
        assert_eq!(acked(&client, "s", &mut again).await, expected);
    }
}

async fn no_more_is_handed_out_than_may_be_in_flight_and_the_timeout_says_so(on: Transport) {
    let server = on.server(ServerConfig::default()).await;
    let client = on.client(&server).await;
    filled(&client, "s", [1, 1, 1, 1, 1]).await;
    client.complete_stream("s").await.expect("completes");
    let limited = ConsumerOptions { max_in_flight_batches: Some(2), ..options() };
    let mut consumer = client.consumer("s", limited).await.expect("is there");
    let held = [next(&mut consumer).await, next(&mut consumer).await];
    let error = soon(consumer.next(in_ms(100))).await.expect_err("two are held");
    assert_eq!(error.code(), Code::Timeout);
    let text = error.to_string();
    assert!(text.contains("2 batches of ") && text.contains("max_in_flight_batches is 2"), "{text}");
    assert!(consumer.try_next().expect("no error").is_none());
    let acker = consumer.acker();
    let ack = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        acker.ack_one(&held[1].unacked()).expect("acked");
    };
    let (third, ()) = tokio::join!(soon(consumer.next(None)), ack);
    let third = third.expect("one is done").expect("goes on");
    assert_eq!(third.offset.0, 2);
    consumer.ack(third.partition, third.ack_offset()).expect("all three");
    assert_eq!([next(&mut consumer).await.offset.0, next(&mut consumer).await.offset.0], [3, 4]);
    assert!(soon(consumer.next(None)).await.expect("the end waits for no ack").is_none());

    let by_bytes = ConsumerOptions { max_in_flight_bytes: Some(1), ..options() };
    let mut consumer = client.consumer("s", by_bytes).await.expect("is there");
    next(&mut consumer).await;
    let error = soon(consumer.next(in_ms(50))).await.expect_err("one is held");
    assert!(error.to_string().contains("max_in_flight_bytes is 1"), "{error}");

    for (wrong, word) in [
        (ConsumerOptions { subscription: None, max_in_flight_bytes: Some(1), ..options() }, "without a subscription"),
        (ConsumerOptions { max_in_flight_batches: Some(0), ..options() }, "max_in_flight_batches is 0"),
        (ConsumerOptions { target_rows: Some(0), ..options() }, "target_rows is 0"),
    ] {
        let error = client.consumer("s", wrong).await.expect_err("cannot be meant");
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.to_string().contains(word), "{error}");
    }
}

async fn single_acks_in_any_order_move_the_cursor_when_the_gap_closes(on: Transport) {
    let server = on.server(ServerConfig::default()).await;
    let client = on.client(&server).await;
    filled(&client, "s", [1, 1, 1]).await;
    let mut consumer = subscribed(&client, "s", "a").await;
    let acker = consumer.acker();
    let batches = [next(&mut consumer).await, next(&mut consumer).await, next(&mut consumer).await];
    for (index, expected) in [(2, 0), (0, 1), (0, 1), (1, 3)] {
        acker.ack_one(&batches[index].unacked()).expect("acked");
        assert_eq!(acked(&client, "s", &mut consumer).await, expected);
    }
    let without = client.consumer("s", ConsumerOptions::default()).await.expect("is there");
    assert_eq!(without.acker().ack(P0, batches[0].ack_offset()).expect_err("no subscription").code(), Code::InvalidArgument);
}
