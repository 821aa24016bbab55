//! Stock Flight clients: each read has one schema, and says where another begins.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};
use arrow_flight::error::FlightError;
use bowstring::wire::proto::SchemaPolicy::Additive;
use bowstring::wire::proto::{FullPolicy, SchemaPolicy, StreamDescription, StreamOptions};
use futures::{StreamExt, TryStreamExt};
use serde_json::json;
use tonic::transport::Channel;

use super::super::server_support::{act, call, code, command, create, flight, messages, path, put, read, refused, send, started, stop};
use super::{batch, columns, ints, longs, policy, texts};

fn old(number: i64) -> RecordBatch {
    batch(&[("n", longs([number]))])
}

fn new(number: i64) -> RecordBatch {
    batch(&[("n", longs([number])), ("t", texts(&["x"]))])
}

/// Offsets 0 and 1 of version 0, 2 to 4 of version 1, 5 of version 0.
async fn filled(channel: &Channel) -> StreamDescription {
    create(channel, "s", policy(Additive)).await;
    for batches in [vec![old(0), old(1)], vec![new(2), new(3), new(4)], vec![old(5)]] {
        put(channel, path("s"), batches).await.expect("stored");
    }
    call(channel, "DescribeStream", bowstring::wire::proto::DescribeStreamRequest { stream: "s".into() }).await.expect("is there")
}

fn numbers(batches: &[RecordBatch]) -> Vec<i64> {
    batches.iter().flat_map(|batch| batch.column_by_name("n").expect("is there").as_primitive::<Int64Type>().values().to_vec()).collect()
}

#[tokio::test]
async fn a_snapshot_has_an_endpoint_for_each_run_of_a_version() {
    let (server, channel) = started().await;
    assert_eq!(filled(&channel).await.schema_versions, 2);
    let mut found = Vec::new();
    let info = flight(&channel).get_flight_info(path("s")).await.expect("is there").into_inner();
    for endpoint in info.endpoint {
        let ticket = String::from_utf8(endpoint.ticket.expect("has one").ticket.to_vec()).expect("JSON");
        let batches = read(&channel, ticket).await.expect("one schema each");
        found.push((numbers(&batches), columns(&batches[0]).len()));
    }
    assert_eq!(found, [(vec![0, 1], 1), (vec![2, 3, 4], 2), (vec![5], 1)]);
    let part = command(json!({"stream": "s", "start": {"0": 3}, "end": {"0": 6}}));
    let info = flight(&channel).get_flight_info(part).await.expect("is there").into_inner();
    assert_eq!(info.endpoint.len(), 2, "the rest of version 1, and version 0");
    let follow = command(json!({"stream": "s", "follow": true}));
    let info = flight(&channel).get_flight_info(follow).await.expect("is there").into_inner();
    assert_eq!(info.endpoint.len(), 1, "what follows the stream is one read");
    stop(server).await;
}

#[tokio::test]
async fn a_read_ends_where_another_version_begins_and_says_how_to_go_on() {
    let (server, channel) = started().await;
    filled(&channel).await;
    let mut found = Vec::new();
    let mut start = 0;
    for end in [2, 5] {
        let ticket = json!({"stream": "s", "follow": true, "start": {"0": start}}).to_string();
        let data = flight(&channel).do_get(arrow_flight::Ticket { ticket: ticket.into() }).await.expect("is there").into_inner();
        let mut data = arrow_flight::decode::FlightRecordBatchStream::new_from_flight_data(data.map_err(FlightError::from));
        let error = loop {
            match data.next().await.expect("it ends with an error") {
                Ok(batch) => found.push(batch),
                Err(FlightError::Tonic(status)) => break status,
                Err(other) => panic!("{other}"),
            }
        };
        assert_eq!(code(&error), "schema_mismatch");
        let go_on = format!("{{\"0\": {end}}}");
        assert!(error.message().contains(&go_on), "{go_on} is not in {}", error.message());
        start = end;
    }
    assert_eq!(numbers(&found), [0, 1, 2, 3, 4], "all that came before is there");
    let rest = read(&channel, json!({"stream": "s", "start": {"0": 5}})).await.expect("one version");
    assert_eq!(numbers(&rest), [5]);
    let whole = read(&channel, json!({"stream": "s"})).await;
    assert_eq!(refused(whole), "schema_mismatch", "a snapshot that is cut short says so");
    stop(server).await;
}

#[tokio::test]
async fn a_read_of_several_partitions_says_where_each_of_them_goes_on() {
    let (server, channel) = started().await;
    create(&channel, "s", StreamOptions { partitions: Some(2), ..policy(Additive) }).await;
    for (partition, batches) in [(0, vec![old(0), old(1)]), (1, vec![old(2), new(3)])] {
        put(&channel, command(json!({"stream": "s", "partition": partition})), batches[..1].to_vec()).await.expect("stored");
        put(&channel, command(json!({"stream": "s", "partition": partition})), batches[1..].to_vec()).await.expect("stored");
    }
    let error = read(&channel, json!({"stream": "s"})).await.expect_err("two versions");
    assert!(error.message().contains("start is {\"0\": 2, \"1\": 1}"), "{}", error.message());
    let rest = read(&channel, json!({"stream": "s", "start": {"0": 2, "1": 1}})).await.expect("one version");
    assert_eq!(numbers(&rest), [3]);
    stop(server).await;
}

#[tokio::test]
async fn a_read_behind_what_was_dropped_begins_with_the_version_that_is_left() {
    let (server, channel) = started().await;
    let options = StreamOptions { max_buffered_batches: Some(2), full_policy: FullPolicy::DropOldest.into(), ..policy(Additive) };
    create(&channel, "s", options).await;
    for batches in [vec![old(0)], vec![new(1)], vec![old(2)]] {
        put(&channel, path("s"), batches).await.expect("stored");
    }
    put(&channel, path("s"), vec![old(3)]).await.expect("stored");
    let found = read(&channel, json!({"stream": "s", "start": {"0": 0}})).await.expect("one version is left");
    assert_eq!((numbers(&found), columns(&found[0]).len()), (vec![2, 3], 1));
    stop(server).await;
}

#[tokio::test]
async fn a_put_that_sends_another_schema_goes_on_with_another_version() {
    let (server, channel) = started().await;
    create(&channel, "s", policy(SchemaPolicy::Widening)).await;
    let mut all = messages(path("s"), vec![batch(&[("n", ints([1]))])]);
    all.extend(messages(path("s"), vec![old(2), old(3)]));
    all.extend(messages(path("s"), vec![batch(&[("n", ints([4]))])]));
    send(&channel, all).await.expect("stored");
    let of = async |start: u64, end: u64| {
        let batches = read(&channel, json!({"stream": "s", "start": {"0": start}, "end": {"0": end}})).await.expect("one version");
        columns(&batches[0])[0].1.clone()
    };
    assert_eq!([of(0, 1).await, of(1, 3).await, of(3, 4).await], [DataType::Int32, DataType::Int64, DataType::Int32]);
    let mut wrong = messages(path("s"), vec![old(5)]);
    wrong.extend(messages(path("s"), vec![batch(&[("n", texts(&["6"]))])]));
    assert_eq!(refused(send(&channel, wrong).await), "schema_mismatch");
    assert_eq!(columns(&read(&channel, json!({"stream": "s", "start": {"0": 4}})).await.expect("is stored")[0])[0].1, DataType::Int64);
    stop(server).await;
}

#[tokio::test]
async fn a_stream_that_an_action_creates_has_the_policy_that_it_names() {
    let (server, channel) = started().await;
    let create = async |policy: &str| act(&channel, "create_stream", json!({"stream": "s", "schema_policy": policy}).to_string()).await;
    assert_eq!(refused(create("loose").await), "invalid_argument");
    create("additive").await.expect("is new");
    put(&channel, path("s"), vec![old(0)]).await.expect("stored");
    put(&channel, path("s"), vec![new(1)]).await.expect("it may add a column");
    put(&channel, path("t"), vec![old(0)]).await.expect("stored");
    assert_eq!(refused(put(&channel, path("t"), vec![new(1)]).await), "schema_mismatch", "strict by default");
    stop(server).await;
}
