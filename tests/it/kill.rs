//! `kill -9` of a real `bowstring serve` with a data directory, again and again, while it is written and read: nothing that was
//! confirmed is lost, nothing is there twice, and no offset ever changes what it has.
//!
//! `BOWSTRING_KILL_CYCLES` says how often; CI says 200.

use std::time::Duration;

use bowstring::client::ClientOptions;
use rand::Rng;

use super::cli::coordinator::Coordinator;
use super::workload::{Done, Workload};

const CYCLES: u32 = 20;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_confirmed_is_lost_and_nothing_is_there_twice_whenever_the_coordinator_is_killed() {
    let cycles = std::env::var("BOWSTRING_KILL_CYCLES").map_or(CYCLES, |cycles| cycles.parse().expect("a number"));
    let dir = tempfile::tempdir().expect("a folder");
    let data_dir = dir.path().to_str().expect("UTF-8").to_owned();
    let serve =
        |listen: &str| Coordinator::start_with(&["--data-dir", &data_dir, "--listen", listen, "--http", "off", "--unix", "off"], &[]);
    let mut coordinator = serve("127.0.0.1:0");
    let listen = coordinator.listen.clone();
    let workload = Workload::start(&coordinator.url(), ClientOptions::default()).await;
    for _ in 0..cycles {
        let pause = rand::rng().random_range(20..250);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        coordinator.signal("KILL");
        drop(coordinator);
        coordinator = serve(&listen);
    }
    let Done { appended, epochs, delivered } = workload.finish().await;
    println!("{cycles} times killed: {appended} batches and {epochs} epochs confirmed, {delivered} batches there");
}
