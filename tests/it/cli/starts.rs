//! Subscriptions that start and are put somewhere, from the command line.

use super::coordinator::Coordinator;

/// Five rows in batches of one, in the only partition of stream `s`.
fn five() -> Coordinator {
    let coordinator = Coordinator::start();
    coordinator.run_with(&["put", "s", "-", "--format", "csv", "--batch-rows", "1"], Some(b"n\n1\n2\n3\n4\n5\n")).done();
    coordinator
}

#[test]
fn a_subscription_is_created_at_a_start_and_read_from_there() {
    let coordinator = five();
    let create = ["subscription", "create", "s"];
    assert_eq!(coordinator.run(&[&create[..], &["all"]].concat()).done(), "subscription all of stream s goes on at 0:0\n");
    let made = coordinator.run(&[&create[..], &["late", "--start", "0:3", "--json"]].concat()).json();
    assert_eq!((&made["subscription"], &made["partitions"][0]["acked"]), (&"late".into(), &3.into()));
    assert_eq!(coordinator.run(&["get", "s", "--subscription", "late", "--format", "csv"]).done(), "n\n4\n5\n");
    let since = [&create[..], &["since", "--start", "2020-01-01T00:00:00+01:00"]].concat();
    assert_eq!(coordinator.run(&since).done(), "subscription since of stream s goes on at 0:0\n");
    assert_eq!(coordinator.run(&["get", "s", "--from", "2999-01-01T00:00:00Z", "--format", "csv"]).done(), "n\n");
}

#[test]
fn a_seek_says_what_it_would_move_and_then_does() {
    let coordinator = five();
    coordinator.run(&["subscription", "create", "s", "all"]).done();
    coordinator.run(&["subscription", "create", "s", "a", "--start", "0:4"]).done();
    let seek = |more: &[&str]| coordinator.run(&[&["subscription", "seek", "s", "a"], more].concat());
    let dry = seek(&["0:1", "--dry-run"]).done();
    for words in ["a of stream s would move (nothing is changed)", "PARTITION  FROM  TO", "again: 3 batches, 3 rows, "] {
        assert!(dry.contains(words), "{words} is not in\n{dry}");
    }
    let json = seek(&["0:1", "--dry-run", "--json"]).json();
    assert_eq!(json["dry_run"], true);
    let moved = &json["moves"][0];
    assert_eq!((&moved["from"], &moved["to"], &moved["batches"], &moved["rows"]), (&4.into(), &1.into(), &3.into(), &3.into()));
    assert!(seek(&["0:1"]).done().contains("subscription a of stream s has moved\n"));
    let on = seek(&["latest", "--json"]).json();
    assert_eq!((&on["moves"][0]["from"], &on["moves"][0]["to"]), (&1.into(), &5.into()), "it was where the seek had put it");
    coordinator.run(&["subscription", "seek", "s", "all", "0:2"]).done();
    let all = seek(&["earliest"]).done();
    assert!(all.contains("not kept any more: 2 batches before the earliest\n"), "{all}");
}

#[test]
fn a_start_that_cannot_be_is_refused_with_what_to_do() {
    let coordinator = five();
    let create = |start: &str| coordinator.run(&["subscription", "create", "s", "a", "--start", start]);
    create("0:5").done();
    coordinator.run(&["subscription", "create", "s", "b", "--start", "first"]).refused(2, &["\"first\" is no start", "epoch:7@PRODUCER"]);
    let seek = |start: &str| coordinator.run(&["subscription", "seek", "s", "a", start]);
    seek("0:4").refused(1, &["error [offset_gone]", "the earliest is 5", "hint: the start earliest is the oldest batch that is kept"]);
    seek("2020-01-01T00:00:00Z").refused(1, &["error [offset_gone]", "since 2020-01-01T00:00:00Z", "before offset 5"]);
    seek("0:6").refused(1, &["error [offset_ahead]", "the end is 5"]);
    seek("1:0").refused(2, &["error [partition_out_of_range]"]);
    seek("epoch:0").refused(2, &["error [invalid_argument]", "no producer has committed epochs"]);
    coordinator.run(&["subscription", "seek", "s", "nobody", "latest"]).refused(3, &["error [subscription_not_found]"]);
}
