//! Shared subscriptions: real clients over real sockets that take, ack, refuse, hang and die.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{Int64Type, UInt32Type, UInt64Type};
use bowstring::client::{Client, Consumer, ConsumerOptions, Delivered, Error, Sharing};
use bowstring::engine::{Code, SubscriptionMode};
use bowstring::server::ServerConfig;
use bowstring::wire::proto::{SharesDescription, StreamOptions};

use super::client_support::{create, next, number, numbered, server, soon};
use super::leases_support::{LONG, append, described, stream, until};
use super::transport::Transport;

pub(crate) fn options() -> ConsumerOptions {
    ConsumerOptions {
        subscription: Some("team".to_owned()),
        mode: Some(SubscriptionMode::Shared),
        lease: LONG,
        ack_within: LONG,
        ..ConsumerOptions::default()
    }
}

pub(crate) async fn open(client: &Client, options: ConsumerOptions) -> Consumer {
    client.consumer("s", options).await.expect("joins")
}

/// All rows up to the end, each batch acked by itself.
async fn work(mut consumer: Consumer) -> Result<Vec<i64>, Error> {
    let mut numbers = Vec::new();
    while let Some(delivered) = consumer.next(None).await? {
        numbers.extend(values(&delivered.batch));
        consumer.acker().ack_one(&delivered.unacked())?;
    }
    consumer.close().await?;
    Ok(numbers)
}

pub(crate) fn values(batch: &RecordBatch) -> Vec<i64> {
    batch.column(0).as_primitive::<Int64Type>().values().to_vec()
}

/// 100 keys.
fn keys() -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100));
    RecordBatch::try_from_iter([("n", column)]).expect("one column")
}

pub(crate) async fn shares(client: &Client) -> SharesDescription {
    described(client).await.partitions[0].shares.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn more_consumers_than_partitions_share_a_stream_and_each_batch_comes_once() {
    for on in [Transport::Tcp, Transport::Unix, Transport::Shared, Transport::Process] {
        let server = on.server(ServerConfig::default()).await;
        let client = on.client(&server).await;
        create(&client, "s", StreamOptions { partitions: Some(2), max_buffered_batches: Some(1_000), ..StreamOptions::default() }).await;
        let mut members = Vec::new();
        for _ in 0..5 {
            members.push(open(&client, options()).await);
        }
        let working: Vec<_> = members.into_iter().map(|member| tokio::spawn(work(member))).collect();
        append(&client, 2, 0..200).await;
        client.complete_stream("s").await.expect("is open");
        let mut numbers = Vec::new();
        for worked in working {
            numbers.extend(soon(worked).await.expect("no panic").expect("reads to the end"));
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (0..200).collect::<Vec<_>>(), "{on:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_batch_is_divided_among_consumers() {
    let server = server().await;
    let client = stream(&server, 1).await;
    let mut members = Vec::new();
    for _ in 0..4 {
        members.push(open(&client, ConsumerOptions { max_rows: Some(100), ..options() }).await);
    }
    let mut producer = client.producer("s", bowstring::client::ProducerOptions::default()).expect("a producer");
    soon(producer.append(&numbered(0, 1_000), None, bytes::Bytes::new())).await.expect("room");
    soon(producer.close()).await.expect("all is confirmed");
    client.complete_stream("s").await.expect("is open");
    let mut taken = Vec::new();
    for member in &mut members {
        let delivered = next(member).await;
        assert_eq!(delivered.batch.num_rows(), 100);
        let slice = delivered.slice.clone().expect("a part");
        assert_eq!((slice.rows.end - slice.rows.start, slice.of), (100, 1_000));
        taken.push(delivered);
    }
    let firsts: BTreeSet<_> = taken.iter().map(|delivered| delivered.slice.as_ref().map(|slice| slice.rows.start)).collect();
    assert_eq!(firsts.len(), 4, "all four work on it at once");
    let mut rows = 0;
    for (member, delivered) in members.iter().zip(&taken) {
        rows += delivered.batch.num_rows();
        member.acker().ack_one(&delivered.unacked()).expect("is leased");
    }
    let working: Vec<_> = members.into_iter().map(|member| tokio::spawn(work(member))).collect();
    for worked in working {
        rows += soon(worked).await.expect("no panic").expect("reads to the end").len();
    }
    assert_eq!(rows, 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_comes_again_and_then_goes_to_the_dead_letters() {
    let server = server().await;
    let client = stream(&server, 1).await;
    let sharing = Sharing { max_deliveries: Some(2), ..Sharing::default() };
    let mut member = open(&client, ConsumerOptions { sharing: Some(sharing), ..options() }).await;
    append(&client, 1, 0..3).await;
    client.complete_stream("s").await.expect("is open");
    let mut done = Vec::new();
    let mut refused = Vec::new();
    while let Some(delivered) = soon(member.next(None)).await.expect("reads") {
        if number(&delivered) == 1 {
            refused.push(delivered.delivery);
            member.acker().nack(&delivered.unacked(), Duration::ZERO, "the number is odd").expect("is leased");
        } else {
            done.push(number(&delivered));
            member.acker().ack_one(&delivered.unacked()).expect("is leased");
        }
    }
    soon(member.close()).await.expect("all is confirmed");
    assert_eq!((done, refused), (vec![0, 2], vec![1, 2]));
    let letter = only_letter(&client, "s.dead-letters").await;
    let batch = &letter.batch;
    let text = |name: &str| batch.column_by_name(name).expect("is there").as_string::<i32>().value(0).to_owned();
    let number_of = |name: &str| batch.column_by_name(name).expect("is there").as_primitive::<UInt64Type>().value(0);
    assert_eq!(values(batch), [1]);
    assert_eq!(text("bowstring_reason"), "the number is odd");
    assert_eq!((text("bowstring_stream"), text("bowstring_subscription")), ("s".to_owned(), "team".to_owned()));
    assert_eq!((number_of("bowstring_offset"), number_of("bowstring_row")), (1, 0));
    let deliveries = batch.column_by_name("bowstring_deliveries").expect("is there").as_primitive::<UInt32Type>().value(0);
    assert_eq!(deliveries, 2);
}

pub(crate) async fn only_letter(client: &Client, stream: &str) -> Delivered {
    let mut letters = client.consumer(stream, ConsumerOptions { follow: false, ..ConsumerOptions::default() }).await.expect("is there");
    let letter = next(&mut letters).await;
    assert!(soon(letters.next(None)).await.expect("reads").is_none(), "only one");
    letter
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_batch_is_halved_until_the_bad_rows_alone_are_dead_letters() {
    let server = server().await;
    let client = stream(&server, 1).await;
    let sharing = Sharing { max_deliveries: Some(1), bisect: true, dead_letters: Some("bad".to_owned()), ..Sharing::default() };
    let mut member = open(&client, ConsumerOptions { sharing: Some(sharing), ..options() }).await;
    let mut producer = client.producer("s", bowstring::client::ProducerOptions::default()).expect("a producer");
    soon(producer.append(&numbered(0, 64), None, bytes::Bytes::new())).await.expect("room");
    soon(producer.close()).await.expect("all is confirmed");
    client.complete_stream("s").await.expect("is open");
    let (mut good, mut deliveries) = (0, 0);
    while let Some(delivered) = soon(member.next(None)).await.expect("reads") {
        deliveries += 1;
        let slice = delivered.slice.clone().map_or(0..64, |slice| slice.rows);
        if slice.contains(&37) {
            member.acker().nack(&delivered.unacked(), Duration::ZERO, "row 37").expect("is leased");
        } else {
            good += delivered.batch.num_rows();
            member.acker().ack_one(&delivered.unacked()).expect("is leased");
        }
    }
    assert_eq!((good, deliveries), (63, 13), "one delivery of all, and two of each of six halves");
    let letter = only_letter(&client, "bad").await;
    assert_eq!(letter.batch.num_rows(), 1);
    assert_eq!(letter.batch.column_by_name("bowstring_row").expect("is there").as_primitive::<UInt64Type>().value(0), 37);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_hanging_consumer_has_goes_to_the_others_and_it_gets_nothing_before_it_is_back() {
    let server = server().await;
    let client = stream(&server, 1).await;
    let within = |ack_within| ConsumerOptions { ack_within, prefetch_batches: 4, ..options() };
    let mut hanging = open(&client, ConsumerOptions { consumer: Some("hanging".to_owned()), ..within(Duration::from_millis(300)) }).await;
    append(&client, 1, 0..8).await;
    let stuck = next(&mut hanging).await;
    let other = open(&client, within(LONG)).await;
    client.complete_stream("s").await.expect("is open");
    let numbers = soon(work(other)).await.expect("reads to the end");
    let mut sorted = numbers.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..8).collect::<Vec<_>>(), "what it had came to the other, and what it had not begun with, too: {numbers:?}");
    hanging.acker().ack_one(&stuck.unacked()).expect("not refused yet");
    let Err(Error::LeaseLost { lost }) = soon(hanging.flush_acks()).await else { panic!("it was lost") };
    assert_eq!(lost.iter().map(|lost| lost.lease).collect::<Vec<_>>(), [stuck.lease.expect("is leased")]);
    assert!(soon(hanging.next(None)).await.expect("reads").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_was_stuck_goes_on_when_its_caller_asks_for_more() {
    let server = server().await;
    let client = stream(&server, 1).await;
    let mut member = open(&client, ConsumerOptions { ack_within: Duration::from_millis(200), ..options() }).await;
    append(&client, 1, 0..3).await;
    let first = next(&mut member).await;
    until(&client, |found| found.consumers[0].is_stalled).await;
    let mut numbers = BTreeMap::new();
    for _ in 0..3 {
        let delivered = next(&mut member).await;
        numbers.insert(number(&delivered), delivered.delivery);
        member.acker().ack_one(&delivered.unacked()).expect("is leased");
    }
    assert_eq!(numbers, BTreeMap::from([(0, 2), (1, 1), (2, 1)]), "{}", number(&first));
    soon(member.flush_acks()).await.expect("all is confirmed");
    until(&client, |found| !found.consumers[0].is_stalled && found.partitions[0].acked == 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_renewed_while_its_batch_waits_for_its_caller_and_whenever_the_caller_says() {
    let server = server().await;
    let client = stream(&server, 1).await;
    let mut member = open(&client, ConsumerOptions { ack_within: Duration::from_millis(400), ..options() }).await;
    append(&client, 1, 0..2).await;
    let first = next(&mut member).await;
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        member.acker().renew(&first.unacked(), Duration::from_millis(400)).expect("is leased");
    }
    member.acker().ack_one(&first.unacked()).expect("is leased");
    let second = next(&mut member).await;
    assert_eq!((number(&second), second.delivery), (1, 1), "it was there all the time");
    member.acker().ack_one(&second.unacked()).expect("is leased");
    soon(member.flush_acks()).await.expect("nothing was lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delay_holds_and_what_is_released_is_no_failure() {
    let server = server().await;
    let client = stream(&server, 1).await;
    let mut member = open(&client, options()).await;
    append(&client, 1, 0..1).await;
    let first = next(&mut member).await;
    member.acker().release(&first.unacked()).expect("is leased");
    let again = next(&mut member).await;
    assert_eq!(again.delivery, 1);
    let refused_at = tokio::time::Instant::now();
    member.acker().nack(&again.unacked(), Duration::from_millis(700), "not yet").expect("is leased");
    let third = next(&mut member).await;
    assert_eq!(third.delivery, 2);
    assert!(refused_at.elapsed() >= Duration::from_millis(690));
    assert_eq!(shares(&client).await.leased, 1);
    // The nack has failed, and what was released has not.
    assert_eq!(client.describe_stream("s").await.expect("is there").subscriptions[0].failed_deliveries, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_one_key_are_never_with_two_consumers_at_once() {
    let server = server().await;
    let client = stream(&server, 2).await;
    let sharing = Sharing { keys: vec!["n".to_owned()], ..Sharing::default() };
    let options = ConsumerOptions { sharing: Some(sharing), ..options() };
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(open(&client, options.clone()).await);
    }
    let mut producer = client.producer("s", bowstring::client::ProducerOptions::default()).expect("a producer");
    for turn in 0..20 {
        let partition = Some(bowstring::engine::PartitionId(turn % 2));
        soon(producer.append(&keys(), partition, bytes::Bytes::new())).await.expect("room");
    }
    soon(producer.close()).await.expect("all is confirmed");
    client.complete_stream("s").await.expect("is open");
    let working: Vec<_> = members.into_iter().map(|member| tokio::spawn(work(member))).collect();
    let mut owners: BTreeMap<i64, BTreeSet<usize>> = BTreeMap::new();
    let mut rows = 0;
    for (owner, worked) in working.into_iter().enumerate() {
        for key in soon(worked).await.expect("no panic").expect("reads to the end") {
            owners.entry(key).or_default().insert(owner);
            rows += 1;
        }
    }
    assert_eq!((rows, owners.len()), (2_000, 100));
    assert!(owners.values().all(|owners| owners.len() == 1), "nobody came or left: {owners:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_for_other_modes_is_refused() {
    let server = server().await;
    let client = stream(&server, 1).await;
    let refused = |options: ConsumerOptions| {
        let client = client.clone();
        async move { client.consumer("s", options).await.expect_err("cannot be meant").code() }
    };
    let sharing = Some(Sharing::default());
    assert_eq!(refused(ConsumerOptions { mode: None, sharing: sharing.clone(), ..options() }).await, Code::InvalidArgument);
    assert_eq!(refused(ConsumerOptions { max_rows: Some(0), ..options() }).await, Code::InvalidArgument);
    assert_eq!(refused(ConsumerOptions { target_rows: Some(7), ..options() }).await, Code::InvalidArgument);
    let itself = Some(Sharing { dead_letters: Some("s".to_owned()), ..Sharing::default() });
    assert_eq!(refused(ConsumerOptions { sharing: itself, ..options() }).await, Code::InvalidArgument);
    assert_eq!(refused(ConsumerOptions { ack_within: Duration::from_millis(99), ..options() }).await, Code::InvalidArgument);
    append(&client, 1, 0..1).await;
    let unknown = Some(Sharing { keys: vec!["m".to_owned()], ..Sharing::default() });
    assert_eq!(refused(ConsumerOptions { sharing: unknown, ..options() }).await, Code::InvalidArgument);
    let other = ConsumerOptions { subscription: Some("alone".to_owned()), mode: None, ..options() };
    let mut alone = open(&client, other).await;
    let delivered = next(&mut alone).await;
    let error = alone.acker().nack(&delivered.unacked(), Duration::ZERO, "").expect_err("not shared");
    assert_eq!(error.code(), Code::InvalidArgument);
}
