//! Flight's own calls beside the data plane: actions, schemas, what there is to read.

use arrow_flight::{Criteria, Empty, FlightDescriptor, FlightInfo, HandshakeRequest, IpcMessage, SchemaAsIpc, SchemaResult};
use bowstring::wire::proto::StreamOptions;
use futures::TryStreamExt;
use serde_json::json;
use tonic::transport::Channel;

use super::server_support::{act, call, command, create, flight, numbers, path, put, read, refused, started, stop};

fn partitions(count: u32) -> StreamOptions {
    StreamOptions { partitions: Some(count), ..StreamOptions::default() }
}

async fn list(channel: &Channel, prefix: &str) -> Vec<FlightInfo> {
    let criteria = Criteria { expression: prefix.as_bytes().to_vec().into() };
    flight(channel).list_flights(criteria).await.expect("lists").into_inner().try_collect().await.expect("to its end")
}

/// What the endpoints of a descriptor give, one list per endpoint.
async fn endpoints(channel: &Channel, descriptor: FlightDescriptor) -> Vec<Vec<i64>> {
    let info = flight(channel).get_flight_info(descriptor).await.expect("is there").into_inner();
    let mut all = Vec::new();
    for endpoint in info.endpoint {
        let ticket = String::from_utf8(endpoint.ticket.expect("has one").ticket.to_vec()).expect("JSON");
        let batches = read(channel, ticket).await.expect("reads");
        all.push(batches.iter().map(|batch| i64::try_from(batch.num_rows()).expect("few")).collect());
    }
    all
}

#[tokio::test]
async fn every_action_that_is_listed_does_what_the_control_call_does() {
    let (server, channel) = started().await;
    let do_it = async |action: &str, body: serde_json::Value| act(&channel, action, body.to_string()).await.expect(action);
    let mut done = vec!["create_stream", "describe", "subscribe", "open_epoch", "commit_epoch", "abort_epoch", "stats"];

    let created = do_it("create_stream", json!({"stream": "s", "partitions": 2, "max_buffered_batches": 5})).await;
    assert_eq!(
        do_it("create_stream", json!({"stream": "s", "partitions": 2, "max_buffered_batches": 5, "if_not_exists": true})).await,
        created
    );
    assert_eq!(act(&channel, "describe", "s").await.expect("a bare name will do"), created);
    do_it("subscribe", json!({"stream": "s", "subscription": "a", "start": "earliest"})).await;

    let run = json!({"stream": "s", "producer": "p", "run": "r", "epoch": 0});
    let opened = do_it("open_epoch", run.clone()).await;
    assert_eq!(opened["state"], "open");
    let mut writer = run.clone();
    writer.as_object_mut().expect("an object").extend([
        ("task".into(), 0.into()),
        ("attempt".into(), 0.into()),
        ("partition".into(), 1.into()),
    ]);
    put(&channel, command(writer), vec![numbers(0..3), numbers(3..4)]).await.expect("staged");
    let mut commit = run.clone();
    commit["receipts"] = json!([{"stream_id": opened["stream_id"], "task": 0, "attempt": 0}]);
    assert_eq!(do_it("commit_epoch", commit.clone()).await["state"], "committed");
    assert_eq!(do_it("commit_epoch", commit).await["state"], "already_committed");
    let mut next = run.clone();
    next["epoch"] = 1.into();
    do_it("open_epoch", next.clone()).await;
    assert_eq!(do_it("abort_epoch", next).await["state"], "aborted");

    for (action, offset) in [("plan", 2), ("ack", 2), ("seek", 2)] {
        do_it(action, json!({"stream": "s", "subscription": "a", "offsets": {"1": offset}})).await;
        done.push(action);
    }
    let description: bowstring::wire::proto::StreamDescription =
        call(&channel, "DescribeStream", bowstring::wire::proto::DescribeStreamRequest { stream: "s".into() }).await.expect("is there");
    assert_eq!((description.subscriptions[0].partitions[1].acked, description.partitions[1].start), (2, 2));
    assert_eq!(do_it("locate", json!({"stream": "s", "start": "epoch:1@p"})).await["offsets"], json!({"0": 0, "1": 2}));
    do_it("subscribe", json!({"stream": "s", "subscription": "b", "start": "1:2"})).await;
    let seek = json!({"stream": "s", "subscription": "b", "start": "earliest", "dry_run": true});
    let moved = json!({"partition": 1, "from": 2, "to": 2, "batches": 0, "rows": 0, "bytes": 0, "gone_batches": 2});
    assert_eq!(do_it("seek", seek).await["moves"][1], moved);
    let body = json!({"stream": "s", "subscription": "b", "start": "first"}).to_string();
    assert_eq!(refused(act(&channel, "seek", body).await), "invalid_argument");
    let stats = do_it("stats", json!({"stream": "s"})).await;
    assert_eq!(act(&channel, "stats", "").await.expect("of all"), stats);
    do_it("unsubscribe", json!({"stream": "s", "subscription": "a"})).await;
    do_it("complete", json!({"stream": "s"})).await;
    create(&channel, "t", StreamOptions::default()).await;
    do_it("fail", json!({"stream": "t", "reason": "why"})).await;
    assert_eq!(refused(put(&channel, path("t"), vec![numbers(0..1)]).await), "stream_failed");
    act(&channel, "delete_stream", "s").await.expect("deletes");
    done.extend(["locate", "unsubscribe", "complete", "fail", "delete_stream"]);

    let listed: Vec<_> =
        flight(&channel).list_actions(Empty {}).await.expect("lists").into_inner().try_collect().await.expect("to its end");
    let mut names: Vec<_> = listed.iter().map(|action| action.r#type.as_str()).collect();
    assert!(listed.iter().all(|action| action.description.len() > 10));
    names.sort_unstable();
    done.sort_unstable();
    assert_eq!(names, done);
    stop(server).await;
}

#[tokio::test]
async fn actions_with_bodies_that_are_not_theirs_are_refused() {
    let (server, channel) = started().await;
    create(&channel, "s", StreamOptions::default()).await;
    for (action, body, code) in [
        ("nonsense", "{}", "unimplemented"),
        ("create_stream", "{", "invalid_argument"),
        ("create_stream", r#"{"stream": "u", "partitoins": 2}"#, "invalid_argument"),
        ("create_stream", r#"{"stream": "u", "partitions": -1}"#, "invalid_argument"),
        ("describe", "", "invalid_argument"),
        ("describe", "\u{7}", "invalid_argument"),
        ("fail", "s", "invalid_argument"),
        ("ack", r#"{"stream": "s", "subscription": "a", "offsets": {"x": 1}}"#, "invalid_argument"),
        ("ack", r#"{"stream": "s", "subscription": "a", "offsets": {"0": 1}}"#, "subscription_not_found"),
        (
            "commit_epoch",
            r#"{"stream": "s", "producer": "p", "run": "r", "epoch": 0, "receipts": [{"stream_id": "x", "task": 0, "attempt": 0}]}"#,
            "invalid_argument",
        ),
        ("stats", "nosuch", "stream_not_found"),
    ] {
        assert_eq!(refused(act(&channel, action, body).await), code, "{action} {body}");
    }
    let deep = format!("{{\"stream\": {}", "[".repeat(100_000));
    assert_eq!(refused(act(&channel, "describe", deep).await), "invalid_argument");
    assert_eq!(refused(act(&channel, "describe", vec![b'{', 0xff, 0xfe]).await), "invalid_argument");
    assert_eq!(refused(act(&channel, "describe", vec![0xff, 0xfe]).await), "invalid_argument", "no UTF-8");
    stop(server).await;
}

#[tokio::test]
async fn get_schema_gives_the_schema_once_there_is_one() {
    let (server, channel) = started().await;
    create(&channel, "s", StreamOptions::default()).await;
    let schema = async |descriptor| flight(&channel).get_schema(descriptor).await.map(tonic::Response::into_inner);
    assert_eq!(refused(schema(path("s")).await), "invalid_argument");
    assert_eq!(refused(schema(path("nosuch")).await), "stream_not_found");
    put(&channel, path("s"), vec![numbers(0..3)]).await.expect("appends");
    for descriptor in [path("s"), command(json!({"stream": "s"}))] {
        let SchemaResult { schema } = schema(descriptor).await.expect("there is one");
        let arrow: arrow::datatypes::Schema = IpcMessage(schema.clone()).try_into().expect("a schema");
        assert_eq!(&arrow, numbers(0..1).schema().as_ref());
        let options = arrow_ipc::writer::IpcWriteOptions::default();
        let IpcMessage(stock) = SchemaAsIpc::new(&arrow, &options).try_into().expect("encodes");
        assert_eq!(schema.len(), stock.len(), "framed as stock servers frame it");
    }
    stop(server).await;
}

#[tokio::test]
async fn flights_are_the_streams_whose_names_begin_so() {
    let (server, channel) = started().await;
    for stream in ["clicks", "clicks-2", "views"] {
        put(&channel, path(stream), vec![numbers(0..3)]).await.expect("appends");
    }
    let names = |flights: Vec<FlightInfo>| -> Vec<String> {
        flights.into_iter().map(|info| info.flight_descriptor.expect("has one").path.remove(0)).collect()
    };
    assert_eq!(names(list(&channel, "").await), ["clicks", "clicks-2", "views"]);
    assert_eq!(names(list(&channel, "clicks").await), ["clicks", "clicks-2"]);
    assert_eq!(names(list(&channel, "x").await), [""; 0]);
    stop(server).await;
}

#[tokio::test]
async fn a_stream_has_one_endpoint_per_partition_and_together_they_give_all_of_it_once() {
    let (server, channel) = started().await;
    create(&channel, "s", partitions(3)).await;
    // Batches of 1, 2, ... 7 rows, in turn.
    put(&channel, path("s"), (1..8).map(|rows| numbers(0..rows)).collect()).await.expect("appends");
    assert_eq!(endpoints(&channel, path("s")).await, [vec![1, 4, 7], vec![2, 5], vec![3, 6]]);
    let one = FlightDescriptor::new_path(vec!["s".to_owned(), "1".to_owned()]);
    assert_eq!(endpoints(&channel, one).await, [vec![2, 5]]);
    let some = json!({"stream": "s", "partitions": [2, 0, 2], "start": {"0": 1}, "end": {"2": 1}});
    assert_eq!(endpoints(&channel, command(some)).await, [vec![4, 7], vec![3]]);
    act(&channel, "subscribe", r#"{"stream": "s", "subscription": "a"}"#).await.expect("subscribes");
    act(&channel, "ack", r#"{"stream": "s", "subscription": "a", "offsets": {"0": 2}}"#).await.expect("acks");
    let rest = json!({"stream": "s", "subscription": "a", "batches_max": 1});
    assert_eq!(endpoints(&channel, command(rest)).await, [vec![7], vec![2], vec![3]]);

    let info = async |descriptor| flight(&channel).get_flight_info(descriptor).await.map(tonic::Response::into_inner);
    let none = FlightDescriptor::new_path(vec!["s".to_owned(), "3".to_owned()]);
    assert_eq!(refused(info(none).await), "partition_out_of_range");
    assert_eq!(refused(info(path("nosuch")).await), "stream_not_found");
    let nobody = command(json!({"stream": "s", "subscription": "nobody"}));
    assert_eq!(refused(info(nobody).await), "subscription_not_found");
    stop(server).await;
}

#[tokio::test]
async fn the_rows_of_a_flight_are_said_where_they_are_known() {
    let (server, channel) = started().await;
    create(&channel, "s", partitions(2)).await;
    put(&channel, path("s"), vec![numbers(0..1), numbers(0..2)]).await.expect("appends");
    let rows = async |descriptor| flight(&channel).get_flight_info(descriptor).await.expect("is there").into_inner().total_records;
    let second = || FlightDescriptor::new_path(vec!["s".to_owned(), "1".to_owned()]);
    assert_eq!(rows(path("s")).await, -1, "more may come");
    act(&channel, "complete", "s").await.expect("completes");
    assert_eq!((rows(path("s")).await, rows(second()).await), (3, 2));
    assert_eq!(rows(command(json!({"stream": "s", "start": {"0": 1}}))).await, -1, "of a part");
    act(&channel, "subscribe", r#"{"stream": "s", "subscription": "a"}"#).await.expect("subscribes");
    act(&channel, "ack", r#"{"stream": "s", "subscription": "a", "offsets": {"0": 1}}"#).await.expect("acks");
    assert_eq!((rows(path("s")).await, rows(second()).await), (-1, 2), "some are gone");
    stop(server).await;
}

#[tokio::test]
async fn calls_that_are_not_offered_say_what_to_use_instead() {
    let (server, channel) = started().await;
    let mut client = flight(&channel);
    let hello = futures::stream::iter([HandshakeRequest::default()]);
    assert_eq!(refused(client.handshake(hello).await.map(drop)), "unimplemented");
    let status = client.poll_flight_info(path("s")).await.expect_err("is not offered");
    assert!(status.message().contains("GetFlightInfo"), "{status}");
    let exchange = client.do_exchange(futures::stream::iter([])).await.map(drop);
    assert_eq!(refused(exchange), "unimplemented");
    stop(server).await;
}
