//! Memory stays within the limits, measured on a real `bowstring serve`; what is larger goes to the disk.

use std::path::Path;

use bowstring::server::ServerConfig;
use bowstring::wire::proto::{Receipt, StreamOptions};
use serde_json::json;
use tonic::transport::Channel;

use super::cli::coordinator::Coordinator;
use super::server_support::{act, channel, command, create, flight, messages, numbers, path, put, read, soon, start, stats, stop, until};

const MIB: u64 = 1 << 20;
/// Limit of the streams here.
const LIMIT: u64 = 32 * MIB;
/// What the process may have beyond the streams' limits: program and runtime (30 MiB in a debug build), the
/// connection's windows (16 MiB for a producer), what a reader has taken out (8 MiB and a batch), and what the
/// allocator keeps to itself.
const BESIDE: u64 = 96 * MIB;
const BATCH_ROWS: i64 = 131_072;

/// A batch of 1 MiB.
fn large(number: i64) -> arrow::array::RecordBatch {
    numbers(number * BATCH_ROWS..(number + 1) * BATCH_ROWS)
}

/// The most memory that a process has had so far.
fn peak_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("is alive");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says so");
    line.trim().strip_suffix(" kB").expect("in kB").parse::<u64>().expect("a number") * 1024
}

/// Bytes of files that a process has open in a folder, though they have no name there.
fn spool_files(pid: u32, folder: &Path) -> usize {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("is alive");
    open.flatten().filter(|file| std::fs::read_link(file.path()).is_ok_and(|target| target.starts_with(folder))).count()
}

fn serve(spool: &Path) -> Coordinator {
    let limit = LIMIT.to_string();
    let spool = spool.to_str().expect("UTF-8");
    let flags = ["--listen", "127.0.0.1:0", "--http", "off", "--max-buffered-bytes", &limit, "--max-buffered-batches", "1000"];
    Coordinator::start_with(&[&flags[..], &["--spool-dir", spool, "--spool-reserve-bytes", "0"]].concat(), &[])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_of_twenty_times_the_limit_is_held_by_flow_control_and_then_all_of_it_arrives() {
    let spool = tempfile::tempdir().expect("a folder");
    let coordinator = serve(spool.path());
    let (control, producer) = (channel(&coordinator.listen).await, channel(&coordinator.listen).await);
    act(&control, "create_stream", r#"{"stream": "s"}"#).await.expect("a new stream");
    act(&control, "subscribe", r#"{"stream": "s", "subscription": "a"}"#).await.expect("subscribes");
    let count = i64::try_from(20 * LIMIT / MIB).expect("few");
    let before = peak_bytes(coordinator.pid());
    // Encoded as they are asked for: the test's own memory is bounded too.
    let schema = messages(path("s"), vec![large(0)]).remove(0);
    let batches = (0..count).map(|number| messages(path("s"), vec![large(number)]).remove(1));
    let sending = tokio::spawn({
        let mut client = flight(&producer);
        let messages = std::iter::once(schema).chain(batches);
        async move {
            let results = client.do_put(futures::stream::iter(messages)).await?.into_inner();
            futures::TryStreamExt::try_collect::<Vec<_>>(results).await
        }
    });
    until("it waits", async || stats(&control).await.streams[0].description.as_ref().is_some_and(|stream| stream.waiting.len() == 1)).await;
    let held = stats(&control).await.streams.remove(0).description.expect("is set");
    assert!(held.buffered_bytes <= LIMIT && held.buffered_bytes > LIMIT - 2 * MIB, "{}", held.buffered_bytes);
    assert!(peak_bytes(coordinator.pid()) < before + LIMIT + BESIDE, "{} MiB while nobody reads", peak_bytes(coordinator.pid()) / MIB);

    let mut next = 0;
    while next < count {
        let ticket = json!({"stream": "s", "subscription": "a"});
        for batch in soon(read(&control, ticket)).await.expect("reads") {
            assert_eq!(batch, large(next));
            next += 1;
        }
        let ack = json!({"stream": "s", "subscription": "a", "offsets": {"0": next}}).to_string();
        act(&control, "ack", ack).await.expect("acks");
    }
    soon(sending).await.expect("ends").expect("all is stored");
    let peak = peak_bytes(coordinator.pid());
    assert!(peak < before + LIMIT + BESIDE, "{} MiB in the end", peak / MIB);
}

/// Appends batches as a task of epoch 0.
async fn write(channel: &Channel, task: u32, numbers: impl Iterator<Item = i64>) -> Result<Receipt, tonic::Status> {
    let target = json!({"stream": "s", "producer": "p", "run": "r", "epoch": 0, "task": task, "attempt": 0, "partition": 0});
    let results = put(channel, command(target), numbers.map(large).collect()).await?;
    Ok(results.last().expect("an answer").receipt.expect("the last one has the receipt"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_larger_than_memory_is_spooled_committed_and_read_back_and_the_file_goes_with_the_stream() {
    let spool = tempfile::tempdir().expect("a folder");
    let coordinator = serve(spool.path());
    let (pid, channel) = (coordinator.pid(), channel(&coordinator.listen).await);
    act(&channel, "create_stream", r#"{"stream": "s"}"#).await.expect("a new stream");
    let before = peak_bytes(pid);
    let mut receipts = Vec::new();
    for task in 0..4_u32 {
        let first = i64::from(task) * 40;
        receipts.push(soon(write(&channel, task, first..first + 40)).await.expect("is staged"));
    }
    let staged = stats(&channel).await.streams.remove(0).description.expect("is set");
    assert!(staged.buffered_bytes <= LIMIT && staged.spooled_bytes > 160 * MIB - LIMIT, "{staged:?}");
    assert!(spool_files(pid, spool.path()) > 0);
    assert_eq!(std::fs::read_dir(spool.path()).expect("a folder").count(), 0, "files without names");
    assert!(peak_bytes(pid) < before + LIMIT + BESIDE, "{} MiB", peak_bytes(pid) / MIB);

    let receipts: Vec<_> = receipts
        .iter()
        .map(|receipt| json!({"stream_id": receipt.stream_id.to_string(), "task": receipt.task, "attempt": receipt.attempt}))
        .collect();
    let commit = json!({"stream": "s", "producer": "p", "run": "r", "epoch": 0, "receipts": receipts}).to_string();
    act(&channel, "commit_epoch", commit).await.expect("commits");
    // In parts: the test's own memory is bounded too.
    for start in (0..160).step_by(20) {
        let part = json!({"stream": "s", "start": {"0": start}, "end": {"0": start + 20}});
        let batches = soon(read(&channel, part)).await.expect("reads");
        assert!(batches.iter().zip(start..).all(|(batch, number)| *batch == large(number)) && batches.len() == 20);
    }
    assert!(peak_bytes(pid) < before + LIMIT + BESIDE, "{} MiB", peak_bytes(pid) / MIB);

    // A consumer that stands still keeps neither memory nor disk of a stream that is deleted.
    let elsewhere = super::server_support::channel(&coordinator.listen).await;
    let stalled = super::stalls::stall(&elsewhere, "s").await;
    act(&channel, "delete_stream", "s").await.expect("deletes");
    until("the files are gone", async || spool_files(pid, spool.path()) == 0).await;
    drop(stalled);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_larger_than_the_spool_is_refused_at_once_with_the_limit_named_and_its_space_comes_back() {
    let server = start(ServerConfig::default()).await;
    let channel = channel(server.listen_addr()).await;
    let options = StreamOptions { max_buffered_bytes: Some(4 * MIB), max_spool_bytes: Some(8 * MIB), ..Default::default() };
    create(&channel, "s", options).await;
    let status = soon(write(&channel, 0, 0..20)).await.expect_err("12 MiB are allowed");
    assert_eq!(super::server_support::code(&status), "spool_full");
    assert!(status.message().contains("max_spool_bytes") && status.message().contains(&(8 * MIB).to_string()), "{status}");
    let epoch = r#"{"stream": "s", "producer": "p", "run": "r", "epoch": 0}"#;
    act(&channel, "abort_epoch", epoch).await.expect("aborts");
    let empty = stats(&channel).await.streams.remove(0).description.expect("is set");
    assert_eq!((empty.buffered_bytes, empty.spooled_bytes), (0, 0));
    act(&channel, "open_epoch", epoch).await.expect("opens again");
    soon(write(&channel, 0, 0..9)).await.expect("there is room again");
    stop(server).await;
}
