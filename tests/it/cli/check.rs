//! Whether a coordinator needs attention: one problem of each kind that the command looks for, and both sides of its limits.

use std::time::Duration;

use bowstring::client::ClientOptions;
use bowstring::client::blocking::{Client, Wait};
use serde_json::Value;

use super::bowstring;
use super::coordinator::{Coordinator, eventually};

/// The names of the problems that are found.
fn problems(coordinator: &Coordinator, args: &[&str]) -> Vec<String> {
    let found = coordinator.run(&[&["check", "--json"], args].concat());
    let said: Value = serde_json::from_str(found.stdout()).unwrap();
    let names: Vec<_> = said["problems"].as_array().unwrap().iter().map(|one| one["problem"].as_str().unwrap().to_owned()).collect();
    assert_eq!(found.code, i32::from(!names.is_empty()), "{found:?}");
    names
}

#[test]
fn a_coordinator_without_problems_says_nothing_and_one_that_is_away_is_another_exit_code() {
    let coordinator = Coordinator::start();
    coordinator.run_with(&["put", "s", "-", "--format", "csv"], Some(b"n\n1\n")).done();
    assert_eq!(coordinator.run(&["check"]).done(), "");
    assert_eq!(coordinator.run(&["check", "s"]).done(), "");
    coordinator.run(&["check", "nope"]).refused(3, &["error [stream_not_found]", "nope"]);
    let away = super::finish(bowstring(&["check", "--url", "grpc://127.0.0.1:1", "--connect-timeout", "100ms"]), None);
    away.refused(5, &["error [unavailable]"]);
}

#[test]
fn lag_is_a_problem_beyond_its_limits_only() {
    let coordinator = Coordinator::start();
    coordinator.run_with(&["put", "s", "-", "--format", "csv", "--batch-rows", "1"], Some(b"n\n1\n2\n3\n")).done();
    coordinator.run(&["get", "s", "--subscription", "slow", "--ack", "--limit", "1"]).done();
    assert_eq!(problems(&coordinator, &["--max-lag-batches", "2"]), [""; 0]);
    assert_eq!(problems(&coordinator, &["--max-lag-batches", "1"]), ["lag_batches"]);
    assert_eq!(problems(&coordinator, &["--max-lag", "1h"]), [""; 0]);
    eventually(|| problems(&coordinator, &["--max-lag", "1ms"]) == ["lag"]);
    let said = coordinator.run(&["check", "--max-lag-batches", "0"]);
    assert_eq!(said.stdout(), "lag_batches: subscription slow of stream s has not acked 2 batches\n");
    said.refused(1, &["error [needs_attention]: 1 thing needs attention"]);
}

#[test]
fn a_producer_that_waits_for_too_long_is_a_problem_and_so_is_a_stream_that_has_failed() {
    let coordinator = Coordinator::start();
    let wait = &mut Wait::at_most(Duration::from_secs(20));
    coordinator.run(&["stream", "create", "full", "--max-buffered-batches", "1"]).done();
    coordinator.run(&["subscription", "create", "full", "slow"]).done();
    let mut waiting = coordinator.command(&["put", "full", "-", "--format", "csv", "--batch-rows", "1"]);
    let mut waiting = waiting.stdin(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut waiting.stdin.take().unwrap(), b"n\n1\n2\n3\n").unwrap();
    eventually(|| problems(&coordinator, &["--max-wait", "1ms"]) == ["producer_waits"]);
    assert_eq!(problems(&coordinator, &["--max-wait", "1h"]), [""; 0]);
    let client = Client::connect(&coordinator.url(), ClientOptions::default(), wait).unwrap();
    client.fail_stream("full", "the source is gone", wait).unwrap();
    let said = coordinator.run(&["check"]);
    assert_eq!(said.stdout(), "stream_failed: stream full has failed: the source is gone\n");
    waiting.wait().unwrap();
}
