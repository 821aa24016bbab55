//! What the log says, as JSON lines: names as fields, and at info nothing that comes with each batch.

use std::time::Duration;

use bowstring::client::blocking::{Client, Wait};
use bowstring::client::{ClientOptions, Error, ProducerRun};
use bowstring::engine::Epoch;
use serde_json::Value;

use super::coordinator::Coordinator;

/// The log's lines of a coordinator through which so many batches went.
fn lines(batches: usize, filter: &str) -> Vec<Value> {
    let coordinator = Coordinator::start_with(&["--listen", "127.0.0.1:0", "--http", "off", "--log-format", "json", "--log", filter], &[]);
    coordinator.run(&["stream", "create", "clicks", "--partitions", "2"]).done();
    let rows: String = (0..batches).map(|row| format!("{row}\n")).collect();
    coordinator
        .run_with(
            &["put", "clicks", "-", "--format", "csv", "--batch-rows", "1", "--partition", "1"],
            Some(format!("n\n{rows}").as_bytes()),
        )
        .done();
    coordinator.run(&["stream", "complete", "clicks"]).done();
    coordinator.run(&["get", "clicks", "--follow", "--subscription", "team", "--format", "csv"]).done();
    coordinator.signal("TERM");
    let ended = coordinator.wait(Duration::from_secs(20));
    ended.stderr.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

fn of<'a>(lines: &'a [Value], message: &str) -> &'a Value {
    lines.iter().find(|line| line["message"] == message).unwrap_or_else(|| panic!("no line {message:?} in {lines:#?}"))
}

#[test]
fn names_are_fields() {
    let lines = lines(3, "bowstring=trace");
    let created = of(&lines, "a stream was created");
    assert_eq!((&created["stream"], &created["partitions"], &created["level"]), (&"clicks".into(), &2.into(), &"INFO".into()));
    assert_eq!(of(&lines, "a stream was completed")["stream"], "clicks");
    let read = of(&lines, "a read has begun");
    assert_eq!((&read["stream"], &read["subscription"]), (&"clicks".into(), &"team".into()));
    for message in ["an append has begun", "a batch came"] {
        let append = of(&lines, message);
        assert_eq!(append["stream"], "clicks");
        assert!(append["producer"].as_str().is_some_and(|name| !name.is_empty()), "{append}");
    }
    assert_eq!(of(&lines, "a batch came")["partition"], "1");
    assert!(read["consumer"].as_str().is_some_and(|name| !name.is_empty()), "{read}");
}

#[test]
fn at_info_no_line_comes_with_a_batch() {
    let count = |batches| lines(batches, "info").len();
    assert_eq!(count(1), count(60));
}

#[test]
fn a_collector_that_is_not_there_is_named_in_the_log() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoint = format!("http://{free}");
    let flags = ["--listen", "127.0.0.1:0", "--http", "off", "--otlp-endpoint", &endpoint];
    let coordinator = Coordinator::start_with(&flags, &[]);
    let wait = &mut Wait::<Error>::forever();
    let client = Client::connect(&coordinator.url(), ClientOptions::default(), wait).expect("is there");
    coordinator.run(&["stream", "create", "s"]).done();
    let run = ProducerRun { producer: "query".to_owned(), run: "r".to_owned() };
    client.open_epoch("s", &run, Epoch(0), wait).expect("opens");
    client.commit_epoch("s", &run, Epoch(0), Vec::new(), wait).expect("commits");
    coordinator.signal("TERM");
    let log = coordinator.wait(Duration::from_secs(20)).stderr;
    assert!(log.lines().any(|line| line.contains("opentelemetry") && line.contains("ERROR")), "{log}");
}
