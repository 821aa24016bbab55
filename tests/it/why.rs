//! Who waits for whom: every sentence of `why` through a real server, and who the server says reads.

use bowstring::client::{Cause, Client, ConsumerOptions, EpochWriter, Error, ProducerOptions, ProducerRun, WriterId, WriterOptions};
use bowstring::engine::{Attempt, Code, Epoch, Offset, PartitionId, Start, Task};
use bowstring::server::Server;
use bowstring::wire::proto::{ConsumerDescription, FullPolicy, StreamOptions, SubscriptionDescription, Visibility};
use bytes::Bytes;
use tokio::task::JoinHandle;

use super::client_support::{connect, create, next, number, numbered, server, soon, subscribed};
use super::server_support::until;

const NAME: &str = "host-7/4211";

async fn started(options: StreamOptions) -> (Server, Client) {
    let server = server().await;
    let client = connect(&server.url()).await;
    create(&client, "clicks", options).await;
    (server, client)
}

fn batches(count: u64) -> StreamOptions {
    StreamOptions { partitions: Some(4), max_buffered_batches: Some(count), ..StreamOptions::default() }
}

async fn subscribe(client: &Client, name: &str) {
    client.subscribe("clicks", name, &Start::Earliest).await.expect("is new");
}

fn named(subscription: &str) -> ConsumerOptions {
    ConsumerOptions { subscription: Some(subscription.to_owned()), consumer: Some(NAME.to_owned()), ..ConsumerOptions::default() }
}

/// Appends to a partition as producer `q`; what waits for room ends when the handle is aborted.
fn append(client: &Client, partition: u32, count: i64, rows: usize) -> JoinHandle<Result<(), Error>> {
    let options = ProducerOptions { producer: Some("q".to_owned()), ..ProducerOptions::default() };
    let mut producer = client.producer("clicks", options).expect("a producer");
    tokio::spawn(async move {
        for number in 0..count {
            producer.append(&numbered(number, rows), Some(PartitionId(partition)), Bytes::new()).await?;
        }
        producer.flush().await
    })
}

async fn appended(client: &Client, partition: u32, count: i64, rows: usize) {
    soon(append(client, partition, count, rows)).await.expect("ends").expect("there is room");
}

fn writer(client: &Client) -> EpochWriter {
    let id = WriterId { producer: "w".to_owned(), run: "r".to_owned(), epoch: Epoch(7), task: Task(0), attempt: Attempt(0) };
    client.writer("clicks", id, WriterOptions::default()).expect("a writer")
}

/// Stages batches of an epoch that nobody commits.
async fn stage(client: &Client, count: i64) {
    client.open_epoch("clicks", &ProducerRun { producer: "w".to_owned(), run: "r".to_owned() }, Epoch(7)).await.expect("opens");
    let mut writer = writer(client);
    for number in 0..count {
        soon(writer.append(&numbered(number, 10), Some(PartitionId(0)), Bytes::new())).await.expect("is staged");
    }
    soon(writer.finish()).await.expect("has its receipt");
}

/// The sentences, with T for every time.
async fn said(client: &Client) -> Vec<(Cause, String)> {
    let why = client.why("clicks").await.expect("is there");
    why.reasons.into_iter().map(|reason| (reason.cause, timeless(&reason.text))).collect()
}

fn timeless(text: &str) -> String {
    let mut words: Vec<&str> = Vec::new();
    for word in text.split(' ') {
        let unit = word.trim_end_matches([':', ',', ';']);
        let is_time = ["ms", "s", "min"].contains(&unit) && words.last().is_some_and(|word| word.parse::<f64>().is_ok());
        if is_time {
            words.pop();
            words.push(match word.len() - unit.len() {
                0 => "T",
                _ if word.ends_with(':') => "T:",
                _ if word.ends_with(',') => "T,",
                _ => "T;",
            });
        } else {
            words.push(word);
        }
    }
    words.join(" ")
}

/// Waits until just this is said, for what leads to it happens elsewhere.
async fn says(client: &Client, expected: &[(Cause, &str)]) {
    let expected: Vec<_> = expected.iter().map(|(cause, text)| (*cause, (*text).to_owned())).collect();
    let mut last = Vec::new();
    for _ in 0..500 {
        last = said(client).await;
        if last == expected {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(last, expected);
}

async fn subscription(client: &Client, name: &str) -> SubscriptionDescription {
    let described = client.describe_stream("clicks").await.expect("is there").subscriptions;
    described.into_iter().find(|one| one.subscription == name).expect("is there")
}

#[tokio::test]
async fn a_producer_that_waits_is_told_which_consumer_holds_which_batch() {
    let (_server, client) = started(batches(4)).await;
    subscribe(&client, "fast").await;
    let mut train = client.consumer("clicks", named("train")).await.expect("opens");
    appended(&client, 3, 4, 10).await;
    client.ack("clicks", "fast", &[(PartitionId(3), Offset(4))].into(), None).await.expect("acks");
    // Done with one of them: its room goes to the next batch, and then there is none left.
    let first = next(&mut train).await;
    train.ack(first.partition, first.offset.plus(1)).expect("acks");
    soon(train.flush_acks()).await.expect("acked");
    let waiting = append(&client, 3, 2, 10);
    let begin = "producer q waits T: stream clicks is full (4 of 4 batches): subscription train holds it back:";
    let behind = "subscription fast has not acked 1 batch, 10 rows, ";
    until("it waits", async || said(&client).await[0].1 == format!("{begin} consumer {NAME} has held partition 3 at offset 1 for T")).await;
    let reasons = client.why("clicks").await.expect("is there").reasons;
    assert_eq!((reasons[0].cause, reasons[0].waits.as_deref()), (Cause::Consumer, Some("q")));
    assert!(reasons[0].since.is_some());
    assert!(reasons[1].text.starts_with(behind), "{}", reasons[1].text);

    drop(train);
    let alone = format!("{begin} it has no consumer, and has been at offset 1 of partition 3 for T");
    until("nobody reads", async || said(&client).await[0] == (Cause::NoConsumer, alone.clone())).await;
    client.unsubscribe("clicks", "train").await.expect("is there");
    soon(waiting).await.expect("ends").expect("there is room");
}

#[tokio::test]
async fn a_consumer_of_other_partitions_is_not_blamed() {
    let (_server, client) = started(batches(2)).await;
    let options = ConsumerOptions { partitions: Some(vec![PartitionId(0)]), ..named("train") };
    let _train = client.consumer("clicks", options).await.expect("opens");
    until("it reads", async || subscription(&client, "train").await.consumers.len() == 1).await;
    appended(&client, 1, 2, 10).await;
    let waiting = append(&client, 1, 1, 10);
    says(
        &client,
        &[(
            Cause::Consumer,
            "producer q waits T: stream clicks is full (2 of 2 batches): subscription train holds it back: \
             none of its 1 consumers reads partition 1, which has been at offset 0 for T",
        )],
    )
    .await;
    waiting.abort();
}

#[tokio::test]
async fn of_full_bytes_the_laggard_in_bytes_is_named() {
    let limit = 1 << 20;
    let (_server, client) = started(StreamOptions { max_buffered_bytes: Some(limit), ..batches(1000) }).await;
    for name in ["many", "large"] {
        subscribe(&client, name).await;
    }
    // 20 small batches that only many has not acked, and one of 900 kB that only large has not.
    appended(&client, 0, 20, 10).await;
    appended(&client, 1, 1, 112_500).await;
    client.ack("clicks", "large", &[(PartitionId(0), Offset(20))].into(), None).await.expect("acks");
    client.ack("clicks", "many", &[(PartitionId(1), Offset(1))].into(), None).await.expect("acks");
    let waiting = append(&client, 2, 1, 40_000);
    let text = "subscription large holds it back: it has no consumer, and has been at offset 0 of partition 1 for T";
    until("it waits", async || said(&client).await[0].1.ends_with(text)).await;
    assert!(said(&client).await[0].1.contains("KiB of 1.0 MiB)"));
    waiting.abort();
}

#[tokio::test]
async fn room_that_an_open_epoch_holds_is_told_from_what_a_subscription_holds() {
    let (_server, client) = started(batches(4)).await;
    subscribe(&client, "train").await;
    stage(&client, 3).await;
    appended(&client, 0, 1, 10).await;
    let epoch = "epoch 7 of producer w, open for T, has staged 3 batches";
    let train = "subscription train holds it back: it has no consumer, and has been at offset 0 of partition 0 for T";
    says(
        &client,
        &[(
            Cause::Epoch,
            &format!("nobody waits yet, but stream clicks is full (4 of 4 batches), and the next append waits: {epoch}, and {train}"),
        )],
    )
    .await;
    let waiting = append(&client, 0, 1, 10);
    let waits = format!("producer q waits T: stream clicks is full (4 of 4 batches): {epoch}, and {train}");
    says(&client, &[(Cause::Epoch, &waits)]).await;
    // With that acked nobody waits for the epoch: what comes is spooled.
    client.ack("clicks", "train", &[(PartitionId(0), Offset(1))].into(), None).await.expect("acks");
    soon(waiting).await.expect("ends").expect("there is room");
    client.ack("clicks", "train", &[(PartitionId(0), Offset(2))].into(), None).await.expect("acks");
    stage_more(&client).await;
    says(
        &client,
        &[(
            Cause::Epoch,
            "nobody waits yet, but stream clicks is full (4 of 4 batches), and what comes next goes to the spool, which has 0 B of 16.0 GiB: \
             epoch 7 of producer w, open for T, has staged 4 batches",
        )],
    )
    .await;
}

/// One batch more, by another attempt of the same epoch.
async fn stage_more(client: &Client) {
    let id = WriterId { producer: "w".to_owned(), run: "r".to_owned(), epoch: Epoch(7), task: Task(1), attempt: Attempt(0) };
    let mut writer = client.writer("clicks", id, WriterOptions::default()).expect("a writer");
    soon(writer.append(&numbered(0, 10), Some(PartitionId(0)), Bytes::new())).await.expect("is staged");
    soon(writer.finish()).await.expect("has its receipt");
}

#[tokio::test]
async fn a_stream_that_nobody_subscribes_to_keeps_everything() {
    let (_server, client) = started(batches(2)).await;
    says(&client, &[(Cause::Nobody, "nobody waits: nothing was ever appended to stream clicks, and nobody reads it")]).await;
    appended(&client, 0, 1, 10).await;
    says(&client, &[(Cause::NoSubscription, "nobody waits: stream clicks has no subscription, and keeps its 1 batch for the first one")])
        .await;
    appended(&client, 0, 1, 10).await;
    let full = "stream clicks is full (2 of 2 batches)";
    let keeps = "it has no subscription, and keeps everything for the first one";
    says(&client, &[(Cause::NoSubscription, &format!("nobody waits yet, but {full}, and the next append waits: {keeps}"))]).await;
    let waiting = append(&client, 0, 1, 10);
    says(&client, &[(Cause::NoSubscription, &format!("producer q waits T: {full}: {keeps}"))]).await;
    waiting.abort();
}

#[tokio::test]
async fn what_the_next_append_meets_is_as_the_stream_says() {
    for (policy, meets) in [(FullPolicy::Reject, "is refused"), (FullPolicy::DropOldest, "drops the oldest batches")] {
        let (_server, client) = started(StreamOptions { full_policy: policy.into(), ..batches(1) }).await;
        subscribe(&client, "train").await;
        appended(&client, 0, 1, 10).await;
        let holds = "subscription train holds it back: it has no consumer, and has been at offset 0 of partition 0 for T";
        let text = format!("nobody waits yet, but stream clicks is full (1 of 1 batch), and the next append {meets}: {holds}");
        says(&client, &[(Cause::NoConsumer, &text)]).await;
    }
}

#[tokio::test]
async fn a_subscription_that_lags_says_who_is_to_ack_and_whether_it_drains() {
    let (_server, client) = started(batches(64)).await;
    let mut train = client.consumer("clicks", named("train")).await.expect("opens");
    appended(&client, 2, 3, 10).await;
    let bytes = subscription(&client, "train").await.partitions[2].lag_bytes;
    assert!(bytes < 1 << 20, "{bytes}");
    let first = next(&mut train).await;
    assert_eq!(number(&first), 0);
    until("it is behind", async || said(&client).await[0].0 == Cause::Consumer).await;
    let text = &said(&client).await[0].1;
    let begin = "subscription train has not acked 3 batches, 30 rows, ";
    let end = format!(": consumer {NAME} has held partition 2 at offset 0 for T; it is not draining: acks are not faster than appends");
    assert!(text.starts_with(begin) && text.ends_with(&end), "{text}");
    drop(train);
    until("nobody reads", async || said(&client).await[0].0 == Cause::NoConsumer).await;
    assert!(said(&client).await[0].1.contains(": it has no consumer, and has been at offset 0 of partition 2 for T; "));
}

#[tokio::test]
async fn a_consumer_that_has_everything_waits_for_batches_or_for_a_commit() {
    let (_server, client) = started(batches(64)).await;
    let mut train = client.consumer("clicks", named("train")).await.expect("opens");
    let who = format!("consumer {NAME} of subscription train has everything");
    says(&client, &[(Cause::NoBatches, &format!("{who}: nobody has appended to stream clicks yet"))]).await;
    appended(&client, 0, 1, 10).await;
    let first = next(&mut train).await;
    train.ack(first.partition, first.offset.plus(1)).expect("acks");
    says(&client, &[(Cause::NoBatches, &format!("{who}: nobody has appended to stream clicks for T"))]).await;
    let reason = client.why("clicks").await.expect("is there").reasons.remove(0);
    assert_eq!((reason.waits.as_deref(), reason.since.is_some()), (Some(NAME), true));
    stage(&client, 2).await;
    let epoch = "but epoch 7 of producer w, which has been open for T and is not committed: 2 batches with 20 rows are staged";
    says(&client, &[(Cause::Epoch, &format!("{who} {epoch}"))]).await;
    let run = ProducerRun { producer: "w".to_owned(), run: "r".to_owned() };
    client.keep_producer("clicks", &run, std::time::Duration::from_millis(1)).await.expect("lives");
    until("it is lost", async || client.describe_stream("clicks").await.expect("is there").producers.iter().any(|one| one.lost)).await;
    drop(train);
    says(&client, &[(Cause::Nobody, "nobody waits: all that is in stream clicks is acked, and nobody reads it")]).await;
}

#[tokio::test]
async fn batches_of_an_open_epoch_that_are_seen_at_once_are_not_waited_for() {
    let (_server, client) = started(StreamOptions { visibility: Visibility::Immediate.into(), ..batches(64) }).await;
    let mut train = client.consumer("clicks", named("train")).await.expect("opens");
    stage(&client, 1).await;
    let first = next(&mut train).await;
    train.ack(first.partition, first.offset.plus(1)).expect("acks");
    until("all is acked", async || said(&client).await[0].0 == Cause::NoBatches).await;
}

#[tokio::test]
async fn a_stream_that_has_ended_says_how_and_who_has_not_acked_it() {
    let (_server, client) = started(batches(64)).await;
    subscribe(&client, "train").await;
    appended(&client, 0, 1, 10).await;
    client.complete_stream("clicks").await.expect("completes");
    let reasons = said(&client).await;
    assert_eq!(reasons[0], (Cause::Completed, "stream clicks is completed: nobody appends any more".to_owned()));
    assert!(reasons[1].1.starts_with("subscription train has not acked 1 batch, 10 rows"), "{}", reasons[1].1);
    client.delete_stream("clicks").await.expect("deletes");
    create(&client, "clicks", batches(1)).await;
    client.fail_stream("clicks", "out of flights").await.expect("fails");
    says(&client, &[(Cause::Failed, "stream clicks has failed: out of flights")]).await;
    client.delete_stream("clicks").await.expect("deletes");
    assert_eq!(client.why("clicks").await.expect_err("is gone").code(), Code::StreamNotFound);
    assert_eq!(client.lag("clicks").await.expect_err("is gone").code(), Code::StreamNotFound);
}

#[tokio::test]
async fn a_description_names_who_reads_what_and_how_much_it_was_sent() {
    let (server, client) = started(batches(64)).await;
    let options = ConsumerOptions { partitions: Some(vec![PartitionId(1), PartitionId(3)]), ..named("train") };
    let train = client.consumer("clicks", options).await.expect("opens");
    let _other = subscribed(&client, "clicks", "other").await;
    appended(&client, 3, 2, 10).await;
    let sent = |consumer: &ConsumerDescription| consumer.partitions.iter().map(|one| (one.partition, one.sent)).collect::<Vec<_>>();
    until("it is sent", async || subscription(&client, "train").await.consumers.iter().any(|one| sent(one) == [(1, 0), (3, 2)])).await;
    let consumers = subscription(&client, "train").await.consumers;
    assert_eq!((consumers.len(), consumers[0].consumer.as_str(), consumers[0].peer.as_str()), (1, NAME, "unix"));
    let other = subscription(&client, "other").await.consumers.remove(0);
    assert!(other.consumer.ends_with(&format!("/{}", std::process::id())), "{}", other.consumer);

    // By TCP, one that gives no name.
    let channel = super::server_support::channel(server.listen_addr()).await;
    let ticket = r#"{"stream": "clicks", "follow": true, "subscription": "train"}"#;
    let stock = tokio::spawn(async move { super::server_support::read(&channel, ticket).await.map(drop) });
    until("it reads", async || subscription(&client, "train").await.consumers.len() == 2).await;
    let unnamed = subscription(&client, "train").await.consumers.remove(1);
    assert!(unnamed.consumer.is_empty() && unnamed.peer.starts_with("127.0.0.1:"), "{unnamed:?}");
    let lag = client.lag("clicks").await.expect("is there").into_iter().find(|lag| lag.subscription == "train").expect("is there");
    assert_eq!(lag.partitions[3].consumers, [NAME.to_owned(), format!("at {}", unnamed.peer)]);
    assert_eq!((lag.total.batches, lag.partitions[3].lag.batches, lag.partitions[0].lag.batches), (2, 2, 0));

    // Whoever goes is forgotten.
    stock.abort();
    drop(train);
    until("both are gone", async || subscription(&client, "train").await.consumers.is_empty()).await;
}

#[tokio::test]
async fn a_name_that_cannot_be_is_refused_when_the_consumer_is_opened() {
    let (_server, client) = started(batches(64)).await;
    for name in ["", "a\nb", &"x".repeat(257)] {
        let options = ConsumerOptions { consumer: Some(name.to_owned()), ..named("train") };
        let error = client.consumer("clicks", options).await.expect_err("is no name");
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    }
}
