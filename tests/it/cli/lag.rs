//! Subscriptions, their lag and what holds them up, and a look at rows that moves nothing.

use std::io::{BufRead as _, BufReader};
use std::time::Duration;

use super::coordinator::{Coordinator, eventually, signal, wait};

/// A coordinator with three batches of one row in stream `s`, of which `slow` has acked one.
fn lagging() -> Coordinator {
    let coordinator = Coordinator::start();
    coordinator.run_with(&["put", "s", "-", "--format", "csv", "--batch-rows", "1"], Some(b"n\n1\n2\n3\n")).done();
    coordinator.run(&["get", "s", "--subscription", "slow", "--ack", "--limit", "1"]).done();
    coordinator
}

#[test]
fn subscriptions_are_listed_described_and_deleted() {
    let coordinator = lagging();
    let listed = coordinator.run(&["subscription", "list", "s"]).done();
    assert!(listed.lines().next().unwrap().starts_with("SUBSCRIPTION  CONSUMERS"), "{listed}");
    assert!(listed.lines().nth(1).unwrap().starts_with("slow "), "{listed}");
    let listed = coordinator.run(&["subscription", "list", "s", "--json"]).json();
    assert_eq!((&listed[0]["subscription"], &listed[0]["partitions"][0]["lag_batches"]), (&"slow".into(), &2.into()));

    let mut follower = coordinator.command(&["get", "s", "--follow", "--subscription", "slow"]).spawn().unwrap();
    let describe = ["subscription", "describe", "s", "slow"];
    let described = || coordinator.run(&[&describe[..], &["--json"]].concat()).json();
    eventually(|| described()["consumers"][0]["partitions"][0]["sent"] == 3);
    let consumer = described()["consumers"][0].clone();
    let name = consumer["consumer"].as_str().unwrap();
    assert!(name.ends_with(&format!("/{}", follower.id())), "{consumer}");
    let said = coordinator.run(&describe).done();
    for words in ["subscription slow of stream s", "not acked: 2 batches, 2 rows", "held for ", "not draining", name, "unix", "0:3"] {
        assert!(said.contains(words), "{words} is not in\n{said}");
    }
    signal(&follower, "INT");
    assert_eq!(wait(&mut follower, Duration::from_secs(10)), 0);

    let delete = ["subscription", "delete", "s", "slow"];
    assert_eq!(coordinator.run(&delete).done(), "subscription slow of stream s is deleted\n");
    assert_eq!(coordinator.run(&[&delete[..], &["--if-exists"]].concat()).done(), "stream s has no subscription slow\n");
    coordinator.run(&delete).refused(3, &["error [subscription_not_found]", "slow", "hint: "]);
    coordinator.run(&describe).refused(3, &["error [subscription_not_found]: stream s has no subscription slow", "hint: "]);
    assert_eq!(coordinator.run(&["subscription", "list", "s", "--json"]).json(), serde_json::json!([]));
    for verb in [&["list", "nope"][..], &["describe", "nope", "slow"], &["delete", "nope", "slow"]] {
        coordinator.run(&[&["subscription"], verb].concat()).refused(3, &["error [stream_not_found]", "nope"]);
    }
}

#[test]
fn lag_is_shown_by_partition_and_over_all() {
    let coordinator = lagging();
    coordinator.run(&["stream", "create", "t", "--partitions", "2"]).done();
    coordinator.run(&["get", "t", "--subscription", "idle"]).done();
    let said = coordinator.run(&["lag"]).done();
    let cells: Vec<Vec<_>> = said.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(cells[0][..5], ["STREAM", "SUBSCRIPTION", "PARTITION", "ACKED", "BATCHES"], "{said}");
    assert_eq!(cells[1][..6], ["s", "slow", "0", "1", "2", "2"], "{said}");
    let idle: Vec<_> = cells[2..].iter().map(|cells| cells[..3].join(" ")).collect();
    assert_eq!(idle, ["t idle all", "t idle 0", "t idle 1"], "{said}");
    let json = coordinator.run(&["lag", "s", "--json"]).json();
    assert_eq!((&json[0]["total"]["rows"], &json[0]["partitions"][0]["acked"]), (&2.into(), &1.into()));
    assert!(json[0]["partitions"][0]["held_seconds"].as_f64().unwrap() > 0.0, "{json}");
    coordinator.run(&["lag", "nope"]).refused(3, &["error [stream_not_found]", "nope"]);

    let mut watching = coordinator.command(&["lag", "s", "--watch", "--interval", "50ms"]).spawn().unwrap();
    let lines = BufReader::new(watching.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.filter(|line| line.starts_with("s ")).take(3).count(), 3, "it looks again and again");
    signal(&watching, "INT");
    // The pipe is closed by now: either ends it, quietly.
    assert!([0, 130].contains(&wait(&mut watching, Duration::from_secs(10))));
}

#[test]
fn why_says_what_is_waited_for() {
    let coordinator = lagging();
    let said = coordinator.run(&["why", "s"]).done();
    assert!(said.starts_with("subscription slow has not acked 2 batches, 2 rows, "), "{said}");
    assert!(said.contains(": it has no consumer, and has been at offset 1 of partition 0 for "), "{said}");
    let json = coordinator.run(&["why", "s", "--json"]).json();
    assert_eq!((&json["stream"], &json["reasons"][0]["cause"]), (&"s".into(), &"no_consumer".into()));
    assert_eq!(json["reasons"][0]["waits"], serde_json::Value::Null);
    assert!(json["reasons"][0]["since_seconds"].is_f64(), "{json}");
    coordinator.run(&["why", "nope"]).refused(3, &["error [stream_not_found]", "nope", "hint: "]);
}

#[test]
fn a_peek_shows_rows_and_moves_nothing() {
    let coordinator = lagging();
    let before = coordinator.run(&["subscription", "list", "s", "--json"]).json()[0]["partitions"][0]["acked"].clone();
    let rows = |args: &[&str]| {
        let said = coordinator.run(&[&["peek", "s", "--json"], args].concat()).done();
        let row = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        said.lines().map(row).map(|row| (row["_offset"].as_u64().unwrap(), row["n"].as_u64().unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(rows(&[]), [(1, 2), (2, 3)], "what is acked by all is gone");
    assert_eq!(rows(&["--from", "2"]), [(2, 3)]);
    assert_eq!(rows(&["--partition", "0", "--from", "1", "--rows", "1"]), [(1, 2)]);
    assert_eq!(rows(&["--rows", "0"]), []);
    let table = coordinator.run(&["peek", "s"]).done();
    assert!(table.contains("| n | _partition | _offset | _epoch |"), "{table}");
    let listed = coordinator.run(&["subscription", "list", "s", "--json"]).json();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["partitions"][0]["acked"]), (1, &before));

    coordinator.run(&["peek", "s", "--from", "0"]).refused(1, &["error [offset_gone]", "hint: "]);
    coordinator.run(&["peek", "s", "--partition", "7"]).refused(2, &["error [partition_out_of_range]"]);
    coordinator.run(&["peek", "s", "--from", "first"]).refused(2, &["\"first\" is no start"]);
    coordinator.run(&["stream", "create", "t", "--partitions", "2"]).done();
    coordinator.run(&["peek", "t", "--from", "0"]).refused(2, &["error [invalid_argument]", "--partition"]);
    coordinator.run(&["peek", "t"]).done();
    coordinator.run(&["peek", "nope"]).refused(3, &["error [stream_not_found]", "nope"]);
}
