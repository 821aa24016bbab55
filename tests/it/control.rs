//! The control service over tonic: streams, epochs, subscriptions, stats.

use bowstring::wire::proto::{
    AbortEpochRequest, AckRequest, AckResponse, CommitEpochRequest, CompleteStreamRequest, CompleteStreamResponse, CreateStreamRequest,
    DeleteStreamRequest, DeleteStreamResponse, DescribeStreamRequest, EpochResponse, EpochState, FailStreamRequest, FailStreamResponse,
    FullPolicy, ListStreamsRequest, ListStreamsResponse, OpenEpochRequest, PartitionOffset, PlanRequest, PlanResponse, Receipt,
    SeekRequest, SeekResponse, Start, StreamDescription, StreamOptions, StreamState, SubscribeRequest, SubscriptionDescription,
    UnsubscribeRequest, UnsubscribeResponse, Visibility,
};
use serde_json::json;
use tonic::Status;
use tonic::transport::Channel;

use super::server_support::{call, code, command, create, numbers, path, put, read, refused, started, stats, stop};

async fn describe(channel: &Channel, stream: &str) -> Result<StreamDescription, Status> {
    call(channel, "DescribeStream", DescribeStreamRequest { stream: stream.to_owned() }).await
}

async fn open(channel: &Channel, run: &str, epoch: u64) -> Result<EpochResponse, Status> {
    call(channel, "OpenEpoch", OpenEpochRequest { stream: "s".into(), producer: "p".into(), run: run.into(), epoch }).await
}

/// Appends `rows` rows as one attempt of a task; its receipt.
async fn write(channel: &Channel, run: &str, epoch: u64, (task, attempt): (u32, u64), rows: i64) -> Result<Receipt, Status> {
    let target = json!({"stream": "s", "producer": "p", "run": run, "epoch": epoch, "task": task, "attempt": attempt, "partition": 0});
    let results = put(channel, command(target), vec![numbers(0..rows)]).await?;
    Ok(results.last().expect("an answer").receipt.expect("the last answer has the receipt"))
}

async fn commit(channel: &Channel, run: &str, epoch: u64, receipts: Vec<Receipt>) -> Result<EpochResponse, Status> {
    let request = CommitEpochRequest { stream: "s".into(), producer: "p".into(), run: run.into(), epoch, receipts };
    call(channel, "CommitEpoch", request).await
}

async fn abort(channel: &Channel, run: &str, epoch: u64) -> Result<EpochResponse, Status> {
    call(channel, "AbortEpoch", AbortEpochRequest { stream: "s".into(), producer: "p".into(), run: run.into(), epoch }).await
}

async fn subscribe(channel: &Channel, name: &str, start: Start) -> SubscriptionDescription {
    let request = SubscribeRequest { stream: "s".into(), subscription: name.into(), start: start.into(), ..Default::default() };
    call(channel, "Subscribe", request).await.expect("subscribes")
}

fn cursor(subscription: &str, offset: u64) -> AckRequest {
    let offsets = vec![PartitionOffset { partition: 0, offset }];
    AckRequest { stream: "s".into(), subscription: subscription.into(), offsets, ..Default::default() }
}

async fn ack(channel: &Channel, subscription: &str, offset: u64) -> Result<AckResponse, Status> {
    call(channel, "Ack", cursor(subscription, offset)).await
}

/// Rows that are visible.
async fn rows(channel: &Channel) -> usize {
    read(channel, json!({"stream": "s"})).await.expect("reads").iter().map(|batch| batch.num_rows()).sum()
}

#[tokio::test]
async fn a_stream_has_the_options_it_was_created_with_and_the_defaults_for_the_rest() {
    let (server, channel) = started().await;
    let asked = StreamOptions {
        partitions: Some(3),
        max_buffered_bytes: Some(1000),
        visibility: Visibility::Immediate.into(),
        full_policy: FullPolicy::Reject.into(),
        ..StreamOptions::default()
    };
    let created = create(&channel, "s", asked).await;
    let options = created.options.expect("all of them");
    assert_eq!((options.partitions, options.max_buffered_batches, options.max_buffered_bytes), (Some(3), Some(64), Some(1000)));
    assert_eq!(
        (options.max_spool_bytes, options.visibility(), options.full_policy()),
        (Some(16 << 30), Visibility::Immediate, FullPolicy::Reject)
    );
    assert_eq!((created.partitions.len(), created.state(), created.schema.len()), (3, StreamState::Open, 0));
    assert_eq!(describe(&channel, "s").await.expect("is there"), created);

    let again = |if_not_exists, options| CreateStreamRequest { stream: "s".into(), options, if_not_exists, ..Default::default() };
    let taken: StreamDescription = call(&channel, "CreateStream", again(true, Some(asked))).await.expect("is the same");
    assert_eq!(taken.stream_id, created.stream_id);
    let refusals = [again(false, Some(asked)), again(true, Some(StreamOptions { partitions: Some(4), ..asked }))];
    for request in refusals {
        let status = call::<_, StreamDescription>(&channel, "CreateStream", request).await.expect_err("exists");
        assert_eq!(code(&status), "stream_exists");
    }
    stop(server).await;
}

#[tokio::test]
async fn options_that_no_append_could_satisfy_are_refused() {
    let (server, channel) = started().await;
    for options in [
        StreamOptions { partitions: Some(0), ..Default::default() },
        StreamOptions { partitions: Some(4097), ..Default::default() },
        StreamOptions { max_buffered_batches: Some(0), ..Default::default() },
        StreamOptions { max_buffered_bytes: Some(0), ..Default::default() },
    ] {
        let request = CreateStreamRequest { stream: "s".into(), options: Some(options), ..Default::default() };
        assert_eq!(refused(call::<_, StreamDescription>(&channel, "CreateStream", request).await), "invalid_argument", "{options:?}");
    }
    assert_eq!(refused(describe(&channel, "s").await), "stream_not_found");
    stop(server).await;
}

#[tokio::test]
async fn streams_are_listed_ended_and_deleted_and_one_of_the_same_name_is_another() {
    let (server, channel) = started().await;
    let first = create(&channel, "s", StreamOptions::default()).await;
    create(&channel, "t", StreamOptions::default()).await;
    put(&channel, path("s"), vec![numbers(0..3)]).await.expect("appends");
    let CompleteStreamResponse {} =
        call(&channel, "CompleteStream", CompleteStreamRequest { stream: "s".into() }).await.expect("completes");
    let failing = FailStreamRequest { stream: "t".into(), reason: "the source broke\nbadly: ünïcode".into() };
    let FailStreamResponse {} = call(&channel, "FailStream", failing).await.expect("fails");

    let ListStreamsResponse { streams } = call(&channel, "ListStreams", ListStreamsRequest {}).await.expect("lists");
    let states: Vec<_> = streams.iter().map(|stream| (stream.stream.as_str(), stream.state())).collect();
    assert_eq!(states, [("s", StreamState::Completed), ("t", StreamState::Failed)]);
    let status = read(&channel, json!({"stream": "t", "follow": true})).await.expect_err("has failed");
    assert!(code(&status) == "stream_failed" && status.message().contains("broke\nbadly: ünïcode"), "{status}");

    let delete = || DeleteStreamRequest { stream: "s".into() };
    let DeleteStreamResponse {} = call(&channel, "DeleteStream", delete()).await.expect("deletes");
    assert_eq!(refused(call::<_, DeleteStreamResponse>(&channel, "DeleteStream", delete()).await), "stream_not_found");
    let second = create(&channel, "s", StreamOptions::default()).await;
    assert_ne!(first.stream_id, second.stream_id);
    let stale = json!({"stream": "s", "stream_id": first.stream_id.to_string()});
    assert_eq!(refused(read(&channel, &stale).await), "stream_replaced");
    assert_eq!(refused(put(&channel, command(stale), vec![numbers(0..1)]).await), "stream_replaced");
    stop(server).await;
}

#[tokio::test]
async fn an_epoch_is_visible_when_it_commits_and_a_replay_changes_nothing() {
    let (server, channel) = started().await;
    create(&channel, "s", StreamOptions::default()).await;
    assert_eq!(open(&channel, "r", 0).await.expect("opens").state(), EpochState::Open);
    let first = write(&channel, "r", 0, (0, 0), 5).await.expect("staged");
    let speculative = write(&channel, "r", 0, (0, 1), 5).await.expect("staged");
    let other = write(&channel, "r", 0, (1, 0), 7).await.expect("staged");
    assert_eq!((first.batches, first.rows, speculative.attempt, other.task), (1, 5, 1, 1));
    let producer = describe(&channel, "s").await.expect("is there").producers.remove(0);
    assert_eq!((producer.epochs[0].writers, producer.epochs[0].staged_rows, producer.committed_epoch), (3, 17, None));
    assert_eq!(rows(&channel).await, 0, "nothing is visible before the commit");

    let receipts = vec![speculative, other];
    assert_eq!(commit(&channel, "r", 0, receipts.clone()).await.expect("commits").state(), EpochState::Committed);
    assert_eq!(rows(&channel).await, 12, "the attempt that the commit does not name vanished");
    for _ in 0..2 {
        assert_eq!(open(&channel, "r", 0).await.expect("says so").state(), EpochState::AlreadyCommitted);
        assert_eq!(commit(&channel, "r", 0, receipts.clone()).await.expect("says so").state(), EpochState::AlreadyCommitted);
        assert_eq!(refused(write(&channel, "r", 0, (0, 2), 5).await), "epoch_committed");
    }
    assert_eq!(rows(&channel).await, 12);
    let description = describe(&channel, "s").await.expect("is there");
    assert_eq!((description.epochs_committed, description.epochs_replayed, description.buffered_batches), (1, 4, 2));
    stop(server).await;
}

#[tokio::test]
async fn an_aborted_epoch_vanishes_and_may_run_again() {
    let (server, channel) = started().await;
    create(&channel, "s", StreamOptions::default()).await;
    open(&channel, "r", 4).await.expect("opens");
    let receipt = write(&channel, "r", 4, (0, 0), 5).await.expect("staged");
    assert_eq!(abort(&channel, "r", 4).await.expect("aborts").state(), EpochState::Aborted);
    assert_eq!(abort(&channel, "r", 4).await.expect("again").state(), EpochState::Aborted);
    open(&channel, "r", 4).await.expect("opens anew");
    assert_eq!(refused(commit(&channel, "r", 4, vec![receipt]).await), "receipt_unknown");
    let receipt = write(&channel, "r", 4, (0, 0), 6).await.expect("staged");
    commit(&channel, "r", 4, vec![receipt]).await.expect("commits");
    assert_eq!(rows(&channel).await, 6);
    assert_eq!(abort(&channel, "r", 4).await.expect("says what is").state(), EpochState::AlreadyCommitted);
    stop(server).await;
}

#[tokio::test]
async fn a_newer_run_fences_the_older_and_drops_its_open_epoch() {
    let (server, channel) = started().await;
    create(&channel, "s", StreamOptions::default()).await;
    open(&channel, "old", 0).await.expect("opens");
    let zombie = write(&channel, "old", 0, (0, 0), 5).await.expect("staged");
    open(&channel, "new", 0).await.expect("takes over");
    assert_eq!(refused(write(&channel, "old", 0, (1, 0), 5).await), "fenced");
    assert_eq!(refused(commit(&channel, "old", 0, vec![zombie]).await), "fenced");
    assert_eq!(refused(open(&channel, "old", 1).await), "fenced");
    assert_eq!(refused(abort(&channel, "old", 0).await), "fenced");
    assert_eq!(refused(commit(&channel, "new", 0, vec![zombie]).await), "receipt_unknown");
    let receipt = write(&channel, "new", 0, (0, 0), 6).await.expect("staged");
    commit(&channel, "new", 0, vec![receipt]).await.expect("commits");
    assert_eq!((rows(&channel).await, describe(&channel, "s").await.expect("is there").epochs_aborted), (6, 1));
    stop(server).await;
}

#[tokio::test]
async fn acks_free_what_all_subscriptions_are_done_with_and_seeks_go_both_ways() {
    let (server, channel) = started().await;
    create(&channel, "s", StreamOptions::default()).await;
    put(&channel, path("s"), (0..4).map(|batch| numbers(batch..batch + 1)).collect()).await.expect("appends");
    assert_eq!(subscribe(&channel, "a", Start::Earliest).await.partitions[0].lag_batches, 4);
    assert_eq!(subscribe(&channel, "b", Start::Latest).await.partitions[0].acked, 4);
    assert_eq!(subscribe(&channel, "b", Start::Earliest).await.partitions[0].acked, 4, "one that exists stays as it is");

    ack(&channel, "a", 2).await.expect("acks");
    ack(&channel, "a", 1).await.expect("never moves back");
    let description = describe(&channel, "s").await.expect("is there");
    assert_eq!((description.partitions[0].start, description.partitions[0].end, description.buffered_batches), (2, 4, 2));
    assert_eq!((description.subscriptions[0].partitions[0].acked, description.subscriptions[0].partitions[0].lag_rows), (2, 2));

    let seek = |offset| {
        let AckRequest { stream, subscription, offsets, stream_id, .. } = cursor("b", offset);
        SeekRequest { stream, subscription, offsets, stream_id, ..SeekRequest::default() }
    };
    let SeekResponse { moves } = call(&channel, "Seek", seek(3)).await.expect("goes back");
    assert_eq!((moves[0].from, moves[0].to, moves[0].batches, moves[0].rows), (4, 3, 1, 1));
    assert_eq!(read(&channel, json!({"stream": "s", "subscription": "b"})).await.expect("reads"), [numbers(3..4)]);
    assert_eq!(refused(call::<_, SeekResponse>(&channel, "Seek", seek(1)).await), "offset_gone");
    assert_eq!(refused(call::<_, SeekResponse>(&channel, "Seek", seek(5)).await), "offset_ahead");
    assert_eq!(refused(ack(&channel, "a", 5).await), "offset_ahead");

    let AckRequest { stream, subscription, offsets, stream_id, .. } = cursor("a", 3);
    let PlanResponse {} = call(&channel, "Plan", PlanRequest { stream, subscription, offsets, stream_id }).await.expect("plans");
    let planned = describe(&channel, "s").await.expect("is there").subscriptions.remove(0).partitions.remove(0);
    assert_eq!((planned.acked, planned.planned), (2, 3));

    let leave = |subscription: &str| UnsubscribeRequest { stream: "s".into(), subscription: subscription.into() };
    let UnsubscribeResponse {} = call(&channel, "Unsubscribe", leave("a")).await.expect("leaves");
    assert_eq!(describe(&channel, "s").await.expect("is there").partitions[0].start, 3, "what only it held back is dropped");
    assert_eq!(refused(call::<_, UnsubscribeResponse>(&channel, "Unsubscribe", leave("a")).await), "subscription_not_found");
    assert_eq!(refused(ack(&channel, "a", 3).await), "subscription_not_found");
    let replaced = AckRequest { stream_id: 17, ..cursor("b", 4) };
    assert_eq!(refused(call::<_, AckResponse>(&channel, "Ack", replaced).await), "stream_replaced");
    stop(server).await;
}

#[tokio::test]
async fn stats_say_what_was_appended_delivered_and_dropped() {
    let (server, channel) = started().await;
    create(&channel, "s", StreamOptions::default()).await;
    create(&channel, "t", StreamOptions::default()).await;
    put(&channel, path("s"), vec![numbers(0..3), numbers(3..10)]).await.expect("appends");
    rows(&channel).await;
    rows(&channel).await;
    subscribe(&channel, "a", Start::Earliest).await;
    ack(&channel, "a", 1).await.expect("acks");
    let all = stats(&channel).await;
    let [s, t] = all.streams.as_slice() else { panic!("two streams: {all:?}") };
    assert_eq!((s.appended_batches, s.appended_rows, s.delivered_batches, s.delivered_rows, s.dropped_batches), (2, 10, 4, 20, 1));
    assert!(s.appended_bytes > 80 && s.delivered_bytes == 2 * s.appended_bytes, "{s:?}");
    assert_eq!((t.appended_batches, t.delivered_batches, t.appenders, t.readers), (0, 0, 0, 0));
    assert_eq!((all.open_connections, all.version.as_str()), (1, env!("CARGO_PKG_VERSION")));
    assert!(all.uptime_micros > 0);
    stop(server).await;
}
