//! What cannot be done ends with a code, a text that helps and the documented exit code.

use std::time::Duration;

use super::coordinator::Coordinator;
use super::{arg, bowstring, finish};

#[test]
fn what_does_not_exist_is_named() {
    let coordinator = Coordinator::start();
    for args in [&["get", "nope"][..], &["stream", "describe", "nope"], &["stream", "delete", "nope"], &["stats", "nope"]] {
        coordinator.run(args).refused(3, &["error [stream_not_found]: ", "nope", "hint: `bowstring stream list`"]);
    }
    coordinator.run(&["put", "s", "missing.csv"]).refused(3, &["error [file_not_found]: missing.csv does not exist"]);
    coordinator.run(&["put", "s", "--config", "missing.toml", "a.csv"]).refused(3, &["file_not_found", "missing.toml"]);
}

#[test]
fn files_of_another_format_are_refused_with_their_name() {
    let coordinator = Coordinator::start();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let text = file("text.parquet", "these are words");
    for format in ["parquet", "arrow", "arrow-stream", "json"] {
        coordinator.run(&["put", "s", arg(&text), "--format", format]).refused(1, &["error [malformed_file]", "text.parquet", "hint: "]);
    }
    coordinator.run(&["put", "s", arg(&file("words.txt", "a"))]).refused(2, &["error [format_unknown]", "words.txt", "--format"]);
    coordinator.run(&["put", "s", arg(&file("empty.csv", ""))]).refused(1, &["malformed_file", "no columns"]);
    let changing = file("changing.csv", "n\n1\n2\nthree\n");
    coordinator.run(&["put", "s", arg(&changing), "--infer-rows", "1"]).refused(1, &["malformed_file", "three", "--infer-rows"]);
    let keys = file("keys.jsonl", "{\"a\":1}\n{\"b\":2}\n");
    coordinator.run(&["put", "k", arg(&keys), "--infer-rows", "1"]).refused(1, &["malformed_file", "'b'", "--infer-rows"]);
    coordinator.run(&["put", "s", arg(folder.path()), "--format", "csv"]).refused(1, &["file_error", "directory"]);
}

#[test]
fn wrong_usage_says_what_would_be_right() {
    let coordinator = Coordinator::start();
    coordinator.run(&["get"]).refused(2, &["<STREAM>"]);
    coordinator.run(&["get", "s", "--ack"]).refused(2, &["--subscription"]);
    let endless = ["get", "s", "--follow", "--subscription", "a", "--ack", "-o", "s.parquet"];
    coordinator.run(&endless).refused(2, &["safe at the end only", "--format arrow-stream, csv or json"]);
    coordinator.run(&["get", "s", "--from", "0"]).refused(2, &["earliest, latest", "0:100"]);
    coordinator.run(&["get", "s", "--timeout", "5"]).refused(2, &["\"5\" is no duration", "30s"]);
    coordinator.run(&["stream", "create", "s", "--max-buffered-bytes", "lots"]).refused(2, &["\"lots\" is no size", "2GiB"]);
    coordinator.run(&["stream", "create", ""]).refused(2, &["error [invalid_argument]", "empty"]);
    coordinator.run(&["stats", "--url", "here"]).refused(2, &["error [invalid_argument]", "grpc://host:port"]);
    let help = coordinator.run(&["put", "--help"]).done();
    assert!(help.contains("Examples:") && help.contains("--complete"), "{help}");
    let help = coordinator.run(&["--help"]).done();
    assert!(help.contains("Exit codes: 0 done, 1 failed, 2 wrong usage"), "{help}");
}

#[test]
fn a_coordinator_that_is_not_there_is_exit_code_5() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let command = bowstring(&["stats", "--url", &format!("grpc://{free}"), "--connect-timeout", "200ms"]);
    finish(command, None).refused(5, &["error [unavailable]: ", &free.to_string(), "--url"]);
}

#[test]
fn a_stream_that_says_no_keeps_its_word() {
    let coordinator = Coordinator::start();
    let put =
        |args: &[&str], text: &str| coordinator.run_with(&[&["put"], args, &["-", "--format", "csv"]].concat(), Some(text.as_bytes()));
    coordinator.run(&["stream", "create", "s"]).done();
    coordinator.run(&["stream", "create", "s"]).refused(1, &["error [stream_exists]", "--if-not-exists"]);
    put(&["s", "--partition", "7"], "n\n1\n").refused(2, &["error [partition_out_of_range]", "none of it is stored"]);
    put(&["s", "--complete"], "n\n1\n").done();
    put(&["s"], "n\n2\n").refused(1, &["error [stream_completed]", "none of it is stored"]);
    coordinator.run(&["get", "s", "--partitions", "3"]).refused(2, &["error [partition_out_of_range]"]);

    coordinator.run(&["stream", "create", "small", "--max-buffered-batches", "2"]).done();
    let timed = put(&["small", "--batch-rows", "1", "--append-timeout", "200ms"], "n\n1\n2\n3\n4\n");
    timed.refused(4, &["error [timeout]", "the first 2 batches of it are stored", "`bowstring stats`"]);
    coordinator.run(&["get", "small", "--follow", "--timeout", "200ms"]).refused(4, &["error [timeout]: no batch came for 200ms"]);

    coordinator.run(&["stream", "create", "tiny", "--max-buffered-bytes", "100B"]).done();
    put(&["tiny"], "n\n1\n").refused(1, &["error [batch_too_large]", "--batch-rows"]);
}

#[test]
fn formats_that_cannot_hold_the_rows_are_refused() {
    let coordinator = Coordinator::start();
    let folder = tempfile::tempdir().unwrap();
    coordinator.run(&["stream", "create", "empty"]).done();
    let file = folder.path().join("got.parquet");
    coordinator.run(&["get", "empty", "-o", arg(&file)]).refused(1, &["error [no_schema]"]);
    assert!(!file.exists(), "nothing is left behind");
    assert_eq!(coordinator.run(&["get", "empty"]).done(), "");
    coordinator.run_with(&["put", "nested", "-", "--format", "json"], Some(b"{\"a\":{\"b\":1}}\n")).done();
    coordinator.run(&["get", "nested", "--format", "csv"]).refused(1, &["error [unwritable]", "csv", "json, parquet or arrow"]);
    let nowhere = folder.path().join("no/such/folder.csv");
    coordinator.run(&["get", "nested", "-o", arg(&nowhere)]).refused(3, &["error [file_not_found]"]);
}

#[test]
fn an_output_that_is_closed_ends_get_quietly() {
    let coordinator = Coordinator::start();
    let rows: String = (0..200_000).map(|n| format!("{n}\n")).collect();
    coordinator.run_with(&["put", "s", "-", "--format", "csv", "--batch-rows", "10000"], Some(format!("n\n{rows}").as_bytes())).done();
    let mut child = coordinator.command(&["get", "s", "--format", "csv"]).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(super::coordinator::wait(&mut child, Duration::from_secs(10)), 0);
}
