//! `bowstring bench`: each kind of work through real processes, small, with what it reports checked.

use std::time::Duration;

use serde_json::Value;

use super::coordinator::{Coordinator, eventually, signal, wait};
use super::{Finished, arg, bowstring, finish};

/// As far as debug builds go in little time.
fn bench(args: &[&str]) -> Finished {
    finish(bowstring(&[&["bench"], args].concat()), None)
}

fn cases(report: &Value) -> Vec<(&str, &Value)> {
    let cases = report["cases"].as_array().unwrap();
    cases.iter().map(|case| (case["work"].as_str().unwrap(), &case["rounds"][0])).collect()
}

#[test]
fn every_kind_of_work_carries_what_it_was_told_to() {
    let report = bench(&["put", "get", "relay", "--batch-bytes", "64KiB", "--bytes", "1MiB", "--rounds", "1", "--json", "-"]).json();
    assert_eq!(report["coordinator"], "own");
    let cases = cases(&report);
    assert_eq!(cases.iter().map(|(work, _)| *work).collect::<Vec<_>>(), ["put", "get", "relay"]);
    for (work, round) in cases {
        assert_eq!((round["batches"].as_u64(), round["bytes"].as_u64()), (Some(16), Some(1 << 20)), "{work}: {round}");
        assert!(round["mb_per_s"].as_f64().unwrap() > 0.0 && round["batches_per_s"].as_f64().unwrap() > 0.0, "{work}: {round}");
        let cpu = |part: &str| round["cpu_s_per_gb"][part].as_f64();
        assert!(cpu("coordinator").unwrap() > 0.0 && round["coordinator_resident_bytes"].as_f64().unwrap() > 1e6, "{work}: {round}");
        assert_eq!((cpu("producer").is_some(), cpu("consumers").is_some()), (work != "get", work != "put"), "{work}: {round}");
        assert_eq!(round["latency_us"], Value::Null);
    }
}

#[test]
fn fan_out_delivers_everything_to_each_consumer_over_partitions_and_streams() {
    let shape = ["--consumers", "2", "--partitions", "3", "--streams", "2", "--columns", "string,nested"];
    let report = bench(&[&["fan-out", "--batch-bytes", "4KiB", "--bytes", "64KiB", "--rounds", "1", "--json", "-"], &shape[..]].concat());
    let report = report.json();
    assert_eq!(report["cases"].as_array().unwrap().len(), 2);
    for (case, (_, round)) in report["cases"].as_array().unwrap().iter().zip(cases(&report)) {
        assert_eq!((case["consumers"].as_u64(), case["partitions"].as_u64(), case["streams"].as_u64()), (Some(2), Some(3), Some(2)));
        let (bytes, batches) = (round["bytes"].as_u64().unwrap(), round["batches"].as_u64().unwrap());
        assert!((32..=40).contains(&batches) && (120 << 10..150 << 10).contains(&bytes), "{round}");
    }
}

#[test]
fn latency_is_of_batches_at_the_rate_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("figures.json");
    let table = bench(&["latency", "--rate", "200", "--seconds", "0.5", "--rounds", "2", "--json", arg(&file)]).done();
    for word in ["latency 1.0 KiB fixed, 200/s", "MB/S", "COORDINATOR", "CPU seconds per GB", "P50", "P99.9"] {
        assert!(table.contains(word), "{word} is not in {table}");
    }
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let rounds = report["cases"][0]["rounds"].as_array().unwrap();
    assert_eq!(rounds.len(), 2);
    for round in rounds {
        // All hundred, unless the machine stalls at the end of the half second.
        assert!((80..=100).contains(&round["batches"].as_u64().unwrap()), "{round}");
        let at = |quantile: &str| round["latency_us"][quantile].as_f64().unwrap();
        assert!(at("p50") > 1.0 && at("p50") <= at("p99") && at("p99") <= at("p99.9") && at("p99.9") <= at("max"), "{round}");
    }
}

#[test]
fn a_reading_end_has_several_subscriptions_or_shares_one_by_its_mode() {
    let coordinator = Coordinator::start();
    coordinator.run(&["stream", "create", "s-0", "--partitions", "2"]).done();
    for (name, mode) in [("each-0", "static"), ("each-1", "static"), ("named", "static"), ("team", "partitioned")] {
        coordinator.run(&["subscription", "create", "s-0", name, "--mode", mode]).done();
    }
    let end = |flags: &[&str]| {
        let url = coordinator.url();
        let shape = ["--url", &url, "--stream", "s", "--batch-bytes", "1KiB", "--batches", "8"];
        let said = finish(bowstring(&[&["bench-end"], flags, &shape].concat()), Some(b"go\n")).done();
        let report: Value = serde_json::from_str(said.strip_prefix("ready\n").unwrap()).unwrap();
        report["batches"].as_u64().unwrap()
    };
    assert_eq!(end(&["append"]), 8);
    assert_eq!(end(&["read", "--subscription", "each", "--subscriptions", "2"]), 16);
    assert_eq!(end(&["read", "--subscription", "named", "--mode", "static", "--partitions", "1"]), 4);
    assert_eq!(end(&["read", "--subscription", "named", "--mode", "static"]), 4, "the others are acked");
    assert_eq!(end(&["read", "--subscription", "team", "--mode", "partitioned"]), 8);
    let described: Value = serde_json::from_str(&coordinator.run(&["stream", "describe", "s-0", "--json"]).done()).unwrap();
    assert_eq!(described["buffered_batches"].to_string().trim_matches('"'), "0", "all is acked: {described}");
}

#[test]
fn a_coordinator_that_runs_is_left_as_it_was() {
    let coordinator = Coordinator::start();
    coordinator.run(&["stream", "create", "mine"]).done();
    let own = ["--url", &coordinator.url(), "--http", coordinator.http.as_deref().unwrap()];
    let report =
        bench(&[&["put", "relay", "--batch-bytes", "1KiB", "--seconds", "0.1", "--rounds", "1", "--json", "-"], &own[..]].concat());
    let report = report.json();
    assert_eq!(report["coordinator"].as_str(), Some(coordinator.url().as_str()));
    assert!(cases(&report).iter().all(|(_, round)| round["cpu_s_per_gb"]["coordinator"].as_f64().unwrap() > 0.0), "{report}");
    let unmeasured = bench(&["relay", "--bytes", "1KiB", "--batch-bytes", "1KiB", "--rounds", "1", "--url", &coordinator.url()]).done();
    assert!(unmeasured.contains("relay 1.0 KiB fixed"), "{unmeasured}");
    let streams = coordinator.run(&["stream", "list"]).done();
    assert!(streams.contains("mine") && !streams.contains("bowstring-bench"), "{streams}");
}

#[test]
fn ctrl_c_ends_all_of_its_processes_and_leaves_no_stream() {
    let coordinator = Coordinator::start();
    let mut command = bowstring(&["bench", "relay", "--seconds", "600", "--url", &coordinator.url()]);
    let mut child = command.spawn().unwrap();
    let readers = || coordinator.run(&["stream", "list"]).done().contains("bowstring-bench");
    eventually(readers);
    signal(&child, "INT");
    assert_eq!(wait(&mut child, Duration::from_secs(10)), 130);
    let streams = coordinator.run(&["stream", "list"]).done();
    assert!(!streams.contains("bowstring-bench"), "{streams}");
    // Its ends are gone, and so are their calls.
    let metrics = || coordinator.metric("bowstring_open_connections");
    eventually(|| metrics() == Some(0.0));
}

#[test]
fn what_cannot_be_measured_is_refused_with_what_would_be_right() {
    bench(&["relays"]).refused(2, &["relays", "possible values", "fan-out"]);
    bench(&["--rate", "5"]).refused(2, &["error [invalid_argument]", "--rate is for latency"]);
    bench(&["latency", "--rate", "0"]).refused(2, &["\"0\" is no rate", "half"]);
    bench(&["--batch-bytes", "0"]).refused(2, &["--batch-bytes is 0 B", "512.0 MiB"]);
    bench(&["--batch-bytes", "lots"]).refused(2, &["\"lots\" is no size", "2GiB"]);
    bench(&["--partitions", "0"]).refused(2, &["0 is not in 1..=4096"]);
    bench(&["--streams", "2000"]).refused(2, &["2000 is not in 1..=1000"]);
    bench(&["--seconds", "0"]).refused(2, &["\"0\" is no number of seconds"]);
    bench(&["--seconds", "1", "--bytes", "1MiB"]).refused(2, &["--bytes", "cannot be used with"]);
    bench(&["--http", "127.0.0.1:1"]).refused(2, &["--url"]);
    let coordinator = Coordinator::start();
    let wrong = ["--url", &coordinator.url(), "--http", &coordinator.listen];
    bench(&wrong).refused(1, &["error [bench_failed]", &coordinator.listen, "/metrics"]);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    bench(&["--url", &format!("grpc://{free}")]).refused(5, &["error [unavailable]"]);
    finish(bowstring(&["bench-end", "append", "--url", &coordinator.url(), "--stream", "s", "--batch-bytes", "1", "--batches", "1"]), None)
        .refused(1, &["error [bench_failed]", "nobody said go"]);
    let help = bench(&["--help"]).done();
    assert!(help.contains("Examples:") && help.contains("bowstring bench latency --rate 100,1000,half"), "{help}");
    assert!(!bowstring_help().contains("bench-end"), "the ends are no command for people");
}

fn bowstring_help() -> String {
    finish(bowstring(&["--help"]), None).done()
}
