//! Processes that stand still for a while, as in a debugger or when the machine has something better to do: `SIGSTOP`.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use bowstring::client::ClientOptions;
use bowstring::engine::Start;

use super::serve;
use crate::cli::coordinator::{signal, wait};
use crate::client_support::{connect, create, next, number, partitions, subscribed};
use crate::durable_support::append;
use crate::workload::Workload;

/// Lets a coordinator stand still twice under clients that take a connection for broken after `ping_timeout`.
async fn stands_still(ping_timeout: Duration) {
    let dir = tempfile::tempdir().expect("a folder");
    let coordinator = serve(dir.path(), None);
    let workload = Workload::start(&coordinator.url(), ClientOptions { ping_timeout, ..ClientOptions::default() }).await;
    for _ in 0..2 {
        workload.goes_on().await;
        coordinator.signal("STOP");
        // What was on its way comes in.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let before = workload.so_far();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let meanwhile = workload.so_far();
        assert_eq!((before.appended, before.epochs), (meanwhile.appended, meanwhile.epochs), "nobody could have confirmed that");
        coordinator.signal("CONT");
    }
    workload.goes_on().await;
    workload.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_go_on_after_a_coordinator_has_stood_still() {
    stands_still(ClientOptions::default().ping_timeout).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_go_on_after_a_coordinator_has_stood_still_for_so_long_that_its_clients_gave_their_connections_up() {
    stands_still(Duration::from_millis(300)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_stands_still_holds_up_no_other() {
    let dir = tempfile::tempdir().expect("a folder");
    let coordinator = serve(dir.path(), None);
    let client = connect(&coordinator.url()).await;
    create(&client, "s", partitions(1)).await;
    client.subscribe("s", "quick", &Start::Earliest).await.expect("is new");
    append(&client, "s", 0..1).await;
    let mut command = coordinator.command(&["get", "s", "--follow", "--subscription", "slow", "--ack", "--format", "csv"]);
    let mut slow = command.stdout(Stdio::piped()).spawn().expect("starts");
    let mut lines = BufReader::new(slow.stdout.take().expect("is piped")).lines().map(|line| line.expect("is read"));
    assert_eq!(lines.next().as_deref(), Some("n"));
    signal(&slow, "STOP");
    // More than the coordinator holds in memory.
    append(&client, "s", 1..500).await;
    let mut quick = subscribed(&client, "s", "quick").await;
    for expected in 0..500 {
        let delivered = next(&mut quick).await;
        assert_eq!(number(&delivered), expected);
        quick.ack(delivered.partition, delivered.offset.plus(1)).expect("an offset");
    }
    quick.flush_acks().await.expect("acked");
    client.complete_stream("s").await.expect("is open");
    signal(&slow, "CONT");
    let mut counts = vec![0; 500];
    // Each batch has ten rows.
    lines.for_each(|line| counts[line.parse::<usize>().expect("a number")] += 1);
    assert!(counts.iter().all(|count| *count == 10), "{counts:?}");
    assert_eq!(wait(&mut slow, Duration::from_secs(10)), 0);
}
