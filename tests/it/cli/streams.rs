//! Streams from their creation to their end, and what `stats` and `top` tell of them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;
use std::time::Duration;

use super::coordinator::{Coordinator, eventually, signal, wait};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_stream_is_created_listed_described_completed_and_deleted() {
    let coordinator = Coordinator::start();
    let create = ["stream", "create", "s", "--partitions", "3", "--max-buffered-batches", "9", "--max-buffered-bytes", "5MiB"];
    let said = coordinator.run(&create).done();
    assert_eq!(said, "stream s: 3 partitions, 9 batches, 5.0 MiB in memory\n");
    coordinator.run(&[&create[..], &["--if-not-exists"]].concat()).done();
    coordinator.run_with(&["put", "s", "-", "--format", "csv"], Some(b"n,t\n1,one\n")).done();

    let listed = coordinator.run(&["stream", "list"]).done();
    assert!(listed.lines().next().unwrap().starts_with("STREAM"), "{listed}");
    assert!(listed.lines().nth(1).unwrap().starts_with("s "), "{listed}");
    assert_eq!(coordinator.run(&["stream", "list", "--json"]).json()[0]["stream"], "s");

    let described = coordinator.run(&["stream", "describe", "s"]).done();
    for words in ["stream s", "is open", "9 batches, 5.0 MiB", "n       Int64", "t       Utf8", "subscriptions: none"] {
        assert!(described.contains(words), "{words} is not in\n{described}");
    }
    let described = coordinator.run(&["stream", "describe", "s", "--json"]).json();
    assert_eq!(described["options"]["max_buffered_bytes"], 5 << 20);
    assert_eq!(described["partitions"].as_array().unwrap().len(), 3);

    assert_eq!(coordinator.run(&["stream", "complete", "s"]).done(), "stream s is complete\n");
    assert_eq!(coordinator.run(&["stream", "describe", "s", "--json"]).json()["state"], "completed");
    assert_eq!(coordinator.run(&["stream", "delete", "s"]).done(), "stream s is deleted\n");
    assert_eq!(coordinator.run(&["stream", "delete", "s", "--if-exists"]).done(), "there is no stream s\n");
    assert_eq!(coordinator.run(&["stream", "list", "--json"]).json(), serde_json::json!([]));
}

#[test]
fn a_stream_whose_schema_may_grow_is_put_and_got_as_one_table() {
    let coordinator = Coordinator::start();
    coordinator.run(&["stream", "create", "s", "--schema-policy", "widening"]).done();
    coordinator.run_with(&["put", "s", "-", "--format", "csv"], Some(b"n\n1\n")).done();
    let described = coordinator.run(&["stream", "describe", "s"]).done();
    assert!(described.contains("schema policy: widening, versions: 1"), "{described}");
    // Texts are read by the stream's columns; a file of Arrow's has its own.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wider.arrows");
    coordinator.run_with(&["put", "other", "-", "--format", "csv"], Some(b"t,n\ntwo,2\n")).done();
    coordinator.run(&["get", "other", "-o", super::arg(&file)]).done();
    coordinator.run(&["put", "s", super::arg(&file)]).done();
    assert_eq!(coordinator.run(&["get", "s", "--format", "csv"]).done(), "n,t\n1,\n2,two\n");
    let described = coordinator.run(&["stream", "describe", "s", "--json"]).json();
    assert_eq!((&described["schema_versions"], &described["options"]["schema_policy"]), (&2.into(), &"widening".into()));
}

#[test]
fn a_subscription_goes_on_after_what_was_acked() {
    let coordinator = Coordinator::start();
    coordinator.run_with(&["put", "s", "-", "--format", "csv", "--batch-rows", "2"], Some(b"n\n1\n2\n3\n4\n5\n")).done();
    let get = |more: &[&str]| coordinator.run(&[&["get", "s", "--subscription", "copy", "--format", "csv"], more].concat()).done();
    // The second batch is cut: not acked.
    assert_eq!(get(&["--ack", "--limit", "3"]), "n\n1\n2\n3\n");
    assert_eq!(get(&[]), "n\n3\n4\n5\n");
    assert_eq!(get(&["--ack"]), "n\n3\n4\n5\n");
    assert_eq!(get(&[]), "n\n");
    let stats = coordinator.run(&["stats", "s", "--json"]).json();
    assert_eq!(stats["streams"][0]["subscriptions"][0]["partitions"][0]["acked"], 3);
    assert_eq!(stats["streams"][0]["buffered_batches"], 0, "what every subscription has acked is dropped");
}

#[test]
fn following_ends_with_the_stream_and_not_before() {
    let coordinator = Coordinator::start();
    let mut follower = coordinator.command(&["get", "s", "--follow", "--wait", "30s"]).spawn().unwrap();
    coordinator.run_with(&["put", "s", "-", "--format", "csv"], Some(b"n\n1\n")).done();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "{\"n\":1}", "each batch is written as it comes");
    coordinator.run_with(&["put", "s", "-", "--format", "csv", "--complete"], Some(b"n\n2\n")).done();
    assert_eq!(lines.collect::<Vec<_>>(), ["{\"n\":2}"]);
    assert_eq!(wait(&mut follower, SOON), 0);
}

#[test]
fn an_interrupted_follower_leaves_a_file_that_can_be_read() {
    let coordinator = Coordinator::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("got.arrows");
    coordinator.run_with(&["put", "s", "-", "--format", "csv"], Some(b"n\n1\n2\n")).done();
    let args = ["get", "s", "--follow", "--subscription", "copy", "--ack", "-o", super::arg(&file)];
    let mut follower = coordinator.command(&args).spawn().unwrap();
    let acked = || coordinator.run(&["stats", "s", "--json"]).json()["streams"][0]["subscriptions"][0]["partitions"][0]["acked"] == 1;
    eventually(acked);
    signal(&follower, "INT");
    assert_eq!(wait(&mut follower, SOON), 0);
    coordinator.run(&["put", "again", super::arg(&file)]).done();
    assert_eq!(coordinator.run(&["get", "again", "--format", "csv"]).done(), "n\n1\n2\n");
}

#[test]
fn an_interrupted_put_keeps_what_it_has_read() {
    let coordinator = Coordinator::start();
    let args = ["put", "s", "-", "--format", "json", "--batch-rows", "1", "--infer-rows", "1"];
    let mut put = coordinator.command(&args).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = put.stdin.take().unwrap();
    stdin.write_all(b"{\"n\":1}\n{\"n\":2}\n").unwrap();
    let rows = || coordinator.run(&["stream", "list", "--json"]).json()[0]["partitions"][0]["rows_total"].as_u64();
    eventually(|| rows() == Some(2));
    signal(&put, "INT");
    assert_eq!(wait(&mut put, SOON), 130);
    drop(stdin);
    assert_eq!(coordinator.run(&["get", "s"]).done(), "{\"n\":1}\n{\"n\":2}\n");
}

#[test]
fn stats_tell_what_is_held_and_who_lags() {
    let coordinator = Coordinator::start();
    coordinator.run_with(&["put", "s", "-", "--format", "csv", "--batch-rows", "1"], Some(b"n\n1\n2\n3\n")).done();
    coordinator.run(&["get", "s", "--subscription", "slow", "--ack", "--limit", "1"]).done();
    let said = coordinator.run(&["stats"]).done();
    for words in ["1 streams", "s: open, 1 partition", "2 of 64 batches", "appended   3 batches, 3 rows", "slow: 2 batches, 2 rows"] {
        assert!(said.contains(words), "{words} is not in\n{said}");
    }
    let stats = coordinator.run(&["stats", "--json"]).json();
    assert_eq!(stats["streams"][0]["appended_rows"], 3);
    assert!(stats["uptime_seconds"].as_f64().unwrap() > 0.0);
}

#[test]
fn stats_and_top_go_on_until_interrupted() {
    let coordinator = Coordinator::start();
    coordinator.run(&["stream", "create", "s"]).done();
    for args in [&["stats", "--interval", "50ms"][..], &["top", "--interval", "50ms"]] {
        let mut child = coordinator.command(args).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let rates = lines.filter(|line| line.contains("rows/s")).take(4).count();
        assert_eq!(rates, 4, "{args:?}");
        signal(&child, "INT");
        // The pipe is closed by now: either ends it, quietly.
        assert!([0, 130].contains(&wait(&mut child, SOON)), "{args:?}");
    }
}
