//! SIGTERM to a real `bowstring serve`: consumers are told, producers get an error that says to try again.

use std::time::Duration;

use arrow_flight::Ticket;
use serde_json::json;

use super::cli::coordinator::Coordinator;
use super::http::get;
use super::server_support::{act, channel, code, flight, numbers, path, put, read, soon, stats, until};

const SECONDS: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_tells_a_reading_consumer_and_a_waiting_producer_and_the_process_ends_well() {
    let serve = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--max-buffered-batches", "2"];
    let coordinator = Coordinator::start_with(&serve, &[]);
    let address = coordinator.listen.clone();
    let (control, data) = (channel(&address).await, channel(&address).await);
    put(&data, path("s"), vec![numbers(0..1), numbers(1..2)]).await.expect("two fit");
    let reading = tokio::spawn({
        let channel = channel(&address).await;
        async move { read(&channel, json!({"stream": "s", "follow": true})).await }
    });
    let waiting = tokio::spawn({
        let data = data.clone();
        async move { put(&data, path("s"), vec![numbers(2..3)]).await }
    });
    until("one reads and one waits", async || {
        let stream = stats(&control).await.streams.remove(0);
        stream.delivered_batches == 2 && stream.description.expect("is set").waiting.len() == 1
    })
    .await;

    coordinator.signal("TERM");
    let told = soon(reading).await.expect("ends").expect_err("is no end of stream");
    let refused = soon(waiting).await.expect("ends").expect_err("is not stored");
    for status in [told, refused] {
        assert_eq!((code(&status).as_str(), status.code()), ("shutting_down", tonic::Code::Unavailable), "{status}");
        let trailer = |name: &str| status.metadata().get(name).expect("is set").to_str().expect("ascii").to_owned();
        assert_eq!((trailer("bowstring-retry"), trailer("bowstring-stored")), ("after".to_owned(), "no".to_owned()));
        assert!(status.message().contains("try again"), "{status}");
    }
    let ended = tokio::task::spawn_blocking(move || coordinator.wait(SECONDS)).await.expect("waits");
    assert_eq!(ended.code, 0, "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn new_work_is_refused_and_not_ready_is_told_while_a_stalled_consumer_is_waited_for() {
    let serve = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--shutdown-grace", "1s"];
    let coordinator = Coordinator::start_with(&serve, &[]);
    let http = coordinator.http.as_deref().expect("is on").parse().expect("an address");
    let (control, data) = (channel(&coordinator.listen).await, channel(&coordinator.listen).await);
    put(&data, path("s"), (0..8).map(|batch| numbers(batch * 500_000..(batch + 1) * 500_000)).collect()).await.expect("appends");
    let mut stalled = flight(&data).do_get(Ticket { ticket: r#"{"stream": "s"}"#.into() }).await.expect("begins").into_inner();
    stalled.message().await.expect("one").expect("the schema");
    assert_eq!(get(http, "/readyz").await.0, 200);
    coordinator.signal("TERM");
    until("it says so", async || get(http, "/readyz").await.0 == 503).await;
    assert_eq!(get(http, "/healthz").await.0, 200);
    let opening = json!({"stream": "s", "producer": "p", "run": "r", "epoch": 0}).to_string();
    let refusal = act(&control, "open_epoch", opening).await.expect_err("no new work");
    // By the server while the connection lasts, else by the client's transport.
    assert_eq!(refusal.code(), tonic::Code::Unavailable, "{refusal}");
    let ended = tokio::task::spawn_blocking(move || coordinator.wait(SECONDS)).await.expect("waits");
    assert_eq!(ended.code, 0, "{ended:?}");
    drop(stalled);
}
