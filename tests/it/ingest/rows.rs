//! What becomes of rows.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use bowstring::engine::StreamOptions;
use bowstring::server::{IngestConfig, Server, ServerConfig, StartError};
use serde_json::{Value, json};

use super::super::server_support::{numbers, path, put, start, stop};
use super::{JSON, LINES, all, ask, config, create, name, post, rows, taking};

#[tokio::test]
async fn good_rows_of_a_request_are_one_batch_and_bad_ones_go_to_another_stream_with_the_reason() {
    let (server, channel) = taking(json!({"aliases": {"user": ["uid", "userId"], "page": ["url"]}})).await;
    let body =
        b"{\"user\": 1, \"page\": \"/\"}\n{\"uid\": 2, \"url\": \"/a\", \"more\": [1]}\r\n\n{\"uid\": \"3\"}\n{\"userId\": 4}\nnothing";
    let answer = post(&server, "clicks", LINES, body).await;
    assert_eq!((answer.status, &answer.json), (200, &json!({"rows": 3, "rejected": 2})));
    assert_eq!((answer.header("cache-control"), answer.header("access-control-allow-origin")), ("no-store", ""));
    assert_eq!(all(&channel, "clicks").await.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [3]);
    assert_eq!(rows(&channel, "clicks").await, [json!({"user": 1, "page": "/"}), json!({"user": 2, "page": "/a"}), json!({"user": 4})]);

    let bad = all(&channel, "clicks.bad").await;
    let fields = [
        Field::new("index", DataType::Int64, false),
        Field::new("reason", DataType::Utf8, false),
        Field::new("row", DataType::LargeBinary, true),
    ];
    assert_eq!((bad.len(), bad[0].schema()), (1, Arc::new(Schema::new(fields.to_vec()))));
    let column = |name: &str| bad[0].column_by_name(name).expect("is there").clone();
    assert_eq!(column("index").as_primitive::<arrow::datatypes::Int64Type>().values(), &[2, 4]);
    assert!(column("reason").as_string::<i32>().value(0).contains("uid"), "{:?}", column("reason"));
    assert_eq!(column("row").as_binary::<i64>().iter().flatten().collect::<Vec<_>>(), [b"{\"uid\": \"3\"}".as_slice(), b"nothing"]);
    // The stream is there now.
    assert_eq!(post(&server, "clicks", LINES, "1\n2").await.json, json!({"rows": 0, "rejected": 2}));
    assert_eq!((all(&channel, "clicks").await.len(), all(&channel, "clicks.bad").await.len()), (1, 2));
    stop(server).await;
}

#[tokio::test]
async fn a_document_is_an_object_or_an_array_of_them() {
    let (server, channel) = taking(json!({})).await;
    for (body, taken) in [
        (r#" {"user": 1} "#, json!({"rows": 1, "rejected": 0})),
        (r#"[{"user": 2}, {"user": 3, "page": "],["}]"#, json!({"rows": 2, "rejected": 0})),
        ("[]", json!({"rows": 0, "rejected": 0})),
    ] {
        let answer = post(&server, "clicks", JSON, body).await;
        assert_eq!((answer.status, answer.json), (200, taken), "{body}");
    }
    for body in ["", "[", r#"[{"user": 4}"#, r#"[{"user": 4},]"#, r#"[{"user": 4}] 5"#] {
        let answer = post(&server, "clicks", JSON, body).await;
        assert_eq!(answer.refusal(), (400, "invalid_argument"), "{body}");
    }
    assert_eq!(post(&server, "clicks", LINES, "").await.json, json!({"rows": 0, "rejected": 0}));
    assert_eq!(all(&channel, "clicks").await.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [1, 2], "nothing else was taken");
    stop(server).await;
}

#[tokio::test]
async fn casts_and_strictness_are_those_that_are_declared() {
    let (server, channel) = taking(json!({"lenient": true, "refuse_unknown": true})).await;
    let body = r#"[{"user": "7", "page": 8}, {"user": 9, "colour": "red"}]"#;
    assert_eq!(post(&server, "clicks", JSON, body).await.json, json!({"rows": 1, "rejected": 1}));
    assert_eq!(rows(&channel, "clicks").await, [json!({"user": 7, "page": "8"})]);
    assert!(rows(&channel, "clicks.bad").await[0]["reason"].as_str().is_some_and(|reason| reason.contains("colour")));
    stop(server).await;
}

#[tokio::test]
async fn without_a_stream_for_bad_rows_a_request_with_one_is_refused_whole() {
    let (server, channel) = taking(json!({ "rejected_to": null })).await;
    let answer = post(&server, "clicks", LINES, "{\"user\": 1}\n{}\n{}").await;
    assert_eq!(answer.refusal(), (422, "invalid_argument"));
    assert!(answer.says("2 of 3 rows") && answer.says("row 1") && answer.says("rejected_to"), "{}", answer.json);
    assert!(all(&channel, "clicks").await.is_empty());
    assert_eq!(post(&server, "clicks", LINES, "{\"user\": 1}").await.json, json!({"rows": 1, "rejected": 0}));
    stop(server).await;
}

#[tokio::test]
async fn requests_take_turns_in_the_partitions_or_go_to_the_one_that_is_declared() {
    for (declared, ends) in [(json!({}), [2, 2]), (json!({"partition": 1}), [0, 4])] {
        let server = start(config(&json!({"s": {"format": "json", "partition": declared["partition"]}}))).await;
        create(&server, "s", StreamOptions { partitions: 2, ..StreamOptions::default() });
        for _ in 0..4 {
            assert_eq!(post(&server, "s", LINES, "{\"user\": 1}\n{\"user\": 2}").await.status, 200);
        }
        let view = server.coordinator().get(&name("s")).expect("is there").describe();
        assert_eq!(view.partitions.iter().map(|partition| partition.end.0).collect::<Vec<_>>(), ends);
        stop(server).await;
    }
    let server = start(config(&json!({"s": {"format": "json", "partition": 1}}))).await;
    create(&server, "s", StreamOptions::default());
    assert_eq!(post(&server, "s", JSON, "{\"user\": 1}").await.refusal(), (400, "partition_out_of_range"));
    stop(server).await;
}

#[tokio::test]
async fn a_stream_that_is_not_declared_not_there_or_without_a_schema_takes_no_rows_and_is_not_made() {
    let server = start(config(&json!({"s": {"format": "json"}, "a b/c": {"format": "json"}}))).await;
    let unknown = post(&server, "t", JSON, "{}").await;
    assert_eq!(unknown.refusal(), (404, "stream_not_found"));
    assert!(unknown.says("[ingest.\"t\"]") && unknown.says("docs/formats.md"), "{}", unknown.json);
    assert_eq!(post(&server, "s", JSON, "{}").await.refusal(), (404, "stream_not_found"));
    assert!(server.coordinator().list().is_empty());
    server.coordinator().create(&name("s"), StreamOptions::default(), None, false).expect("a new stream");
    let without = post(&server, "s", JSON, "{}").await;
    assert_eq!(without.refusal(), (400, "invalid_argument"));
    assert!(without.says("has no schema yet"), "{}", without.json);
    create(&server, "a b/c", StreamOptions::default());
    assert_eq!(post(&server, "a%20b%2Fc", JSON, "{\"user\": 1}").await.json, json!({"rows": 1, "rejected": 0}));
    stop(server).await;
}

#[tokio::test]
async fn what_does_not_fit_the_stream_is_said_at_the_first_request_and_a_stream_made_anew_has_its_own_schema() {
    let server = start(config(&json!({"s": {"format": "json", "aliases": {"page": ["url"]}}}))).await;
    let channel = super::super::server_support::channel(server.listen_addr()).await;
    put(&channel, path("s"), vec![numbers(0..1)]).await.expect("appends");
    let misfit = post(&server, "s", JSON, "{\"n\": 1}").await;
    assert_eq!(misfit.refusal(), (400, "invalid_argument"));
    assert!(misfit.says("page") && misfit.says("ingest"), "{}", misfit.json);
    server.coordinator().delete(&name("s")).expect("was there");
    create(&server, "s", StreamOptions::default());
    assert_eq!(post(&server, "s", JSON, "{\"user\": 1, \"url\": \"/\"}").await.status, 200);
    assert_eq!(rows(&channel, "s").await, [json!({"user": 1, "page": "/"})]);
    stop(server).await;
}

#[tokio::test]
async fn a_stream_that_ended_and_a_stream_for_bad_rows_that_does_not_fit_are_refused() {
    let (server, channel) = taking(json!({})).await;
    put(&channel, path("clicks.bad"), vec![numbers(0..1)]).await.expect("appends");
    assert_eq!(post(&server, "clicks", LINES, "{\"user\": 1}\n{}").await.refusal(), (409, "schema_mismatch"));
    assert!(all(&channel, "clicks").await.is_empty(), "the bad rows go first");
    server.coordinator().get(&name("clicks")).expect("is there").apply(bowstring::engine::Command::Complete).expect("completes");
    assert_eq!(post(&server, "clicks", LINES, "{\"user\": 1}").await.refusal(), (409, "stream_completed"));
    stop(server).await;
}

#[tokio::test]
async fn the_server_does_not_start_with_what_cannot_be_used() {
    let refused = async |declared: Value| -> String {
        let free = ([127, 0, 0, 1], 0).into();
        match Server::start(ServerConfig { listen: free, http: Some(free), ..config(&json!({ "s": declared })) }).await {
            Err(error @ StartError::Ingest(_)) => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    for (declared, words) in [
        (json!({"format": "json", "rejected_to": "s"}), "rejected_to is the stream itself"),
        (json!({"format": "json", "rejected_to": ""}), "empty"),
        (json!({"format": "json", "message": "shop.Click"}), "of format protobuf"),
        (json!({"format": "protobuf", "writer_schema_file": "a"}), "of format avro"),
        (json!({"format": "avro"}), "needs writer_schema_file"),
        (json!({"format": "avro", "writer_schema_file": []}), "has no file"),
        (json!({"format": "avro", "writer_schema_file": {"x": "/nosuch"}}), "the registry gave"),
        (json!({"format": "avro", "writer_schema_file": "/nosuch.avsc"}), "/nosuch.avsc cannot be read"),
        (json!({"format": "protobuf", "message": "shop.Click"}), "needs descriptors_file and message"),
    ] {
        let text = refused(declared).await;
        assert!(text.contains(words) && text.contains("stream \"s\""), "{text}");
    }
    let off = ServerConfig { listen: ([127, 0, 0, 1], 0).into(), http: None, ..config(&json!({"s": {"format": "json"}})) };
    assert!(Server::start(off).await.expect_err("rows have no way").to_string().contains("HTTP port"));
    for wrong in [r#"{"s": {}}"#, r#"{"s": {"format": "xml"}}"#, r#"{"s": {"format": "json", "rejected": "t"}}"#, "[]"] {
        let error = IngestConfig::from_json(wrong).expect_err("is wrong");
        assert!(error.starts_with("ingest: "), "{error}");
    }
}

#[tokio::test]
async fn other_methods_are_not_allowed_and_nothing_is_declared_by_default() {
    let (server, _channel) = taking(json!({})).await;
    for method in ["GET", "PUT", "DELETE", "PATCH"] {
        assert_eq!(ask(&server, method, "/streams/clicks/rows", &[], b"").await.status, 405, "{method}");
    }
    assert_eq!(ask(&server, "POST", "/streams/clicks", &[], b"").await.status, 404);
    stop(server).await;
    let server = start(ServerConfig::default()).await;
    create(&server, "clicks", StreamOptions::default());
    assert_eq!(post(&server, "clicks", JSON, "{\"user\": 1}").await.refusal(), (404, "stream_not_found"));
    stop(server).await;
}
