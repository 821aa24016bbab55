//! Faults of the machine under a real `bowstring serve` with a data directory: its disk fails, is full or damaged, or the process stands
//! still. What was confirmed is there, nothing is there twice, and what cannot be done is said.
//!
//! Some of these tests need `strace`, or the right to mount. Where that is missing they say so and do nothing, unless
//! `BOWSTRING_FAULTS` is `required`.

mod damage;
mod data_dir;
mod full_disk;
mod small_disk;
mod stopped;
mod strace;
mod sync_errors;
mod write_errors;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bowstring::client::{Client, ClientOptions, ConsumerOptions, Error, ProducerOptions};
use bytes::Bytes;

use super::cli::arg;
use super::cli::coordinator::Coordinator;
use super::client_support::{number, numbered, rest, soon};

/// Says that a test cannot be done here; fails where it must be.
fn skipped(why: &str) {
    let is_required = std::env::var("BOWSTRING_FAULTS").is_ok_and(|value| value == "required");
    assert!(!is_required, "{why}, and BOWSTRING_FAULTS is required");
    let test = std::thread::current().name().unwrap_or("a test of faults").to_owned();
    // Not by a macro: those are heard of failed tests only.
    writeln!(std::io::stderr(), "{test} is skipped: {why}").expect("stderr is open");
}

/// A coordinator with this data directory; `listen` is where an earlier one was, or any port.
pub(crate) fn serve(data_dir: &Path, listen: Option<&str>) -> Coordinator {
    Coordinator::start_with(&flags(data_dir, listen), &[])
}

fn flags<'a>(data_dir: &'a Path, listen: Option<&'a str>) -> Vec<&'a str> {
    let listen = listen.unwrap_or("127.0.0.1:0");
    vec!["--data-dir", arg(data_dir), "--listen", listen, "--http", "127.0.0.1:0", "--unix", "off"]
}

/// Kills it, as a power cut does, and starts the next one at the same place.
pub(crate) fn killed_and_started(coordinator: Coordinator, data_dir: &Path) -> Coordinator {
    let listen = coordinator.listen.clone();
    coordinator.signal("KILL");
    drop(coordinator);
    serve(data_dir, Some(&listen))
}

/// A client that gives up soon: it is told why.
async fn impatient(coordinator: &Coordinator) -> Client {
    let options = ClientOptions { retry_deadline: Duration::from_millis(300), ..ClientOptions::default() };
    Client::connect(&coordinator.url(), options).await.expect("the server is there")
}

/// Appends one batch with a producer of its own.
async fn append_one(client: &Client, stream: &str, number: i64) -> Result<(), Error> {
    let mut producer = client.producer(stream, ProducerOptions::default())?;
    soon(producer.append(&numbered(number, 10), None, Bytes::new())).await?;
    soon(producer.flush()).await
}

/// All that the subscription `audit` was to keep, in order.
async fn audit(client: &Client, stream: &str) -> Vec<i64> {
    let options = ConsumerOptions { subscription: Some("audit".to_owned()), follow: false, ..ConsumerOptions::default() };
    let mut consumer = client.consumer(stream, options).await.expect("is there");
    soon(rest(&mut consumer)).await.expect("is read").iter().map(number).collect()
}

/// A segment of a stream's first partition.
async fn segment_of(client: &Client, data_dir: &Path, stream: &str, number: u32) -> PathBuf {
    let id = client.describe_stream(stream).await.expect("is there").stream_id;
    data_dir.join(format!("streams/{id:016x}/0000/{number:020}.arrows"))
}

fn is_stalled(coordinator: &Coordinator, stream: &str) -> bool {
    coordinator.metric(&format!("bowstring_log_stalled{{stream=\"{stream}\"}}")) == Some(1.0)
}

/// What `/healthz` says.
fn health(coordinator: &Coordinator) -> serde_json::Value {
    let answer = coordinator.get("/healthz");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    serde_json::from_str(body).expect("JSON")
}
