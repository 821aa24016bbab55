//! `kill -9` of a real `bowstring serve` with a data directory, again and again, while it is written and read: nothing that was
//! confirmed is lost, nothing is there twice, and no offset ever changes what it has.
//!
//! `BOWSTRING_KILL_CYCLES` says how often; CI says 200.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use bowstring::client::{Client, ConsumerOptions, Delivered, Error, ProducerOptions, ProducerRun, WriterId, WriterOptions};
use bowstring::engine::{Attempt, Code, Epoch, EpochState, Start, Task};
use bytes::Bytes;
use parking_lot::Mutex;
use rand::Rng;

use super::cli::coordinator::Coordinator;
use super::client_support::{connect, create, next, number, numbered, partitions, rest, soon, subscribed};
use super::server_support::until;

const CYCLES: u32 = 20;
/// Numbers of epochs begin here: epoch, task and batch can be read from them.
const EPOCHS: i64 = 1_000_000_000;
const TASKS: u32 = 2;
const BATCHES: i64 = 3;

/// What each offset was seen to have.
#[derive(Default)]
struct Seen(Mutex<BTreeMap<(u32, u64), i64>>);

impl Seen {
    fn check(&self, delivered: &Delivered) {
        let place = (delivered.partition.0, delivered.offset.0);
        let known = *self.0.lock().entry(place).or_insert_with(|| number(delivered));
        assert_eq!(known, number(delivered), "partition and offset {place:?} had another batch before");
    }
}

/// Appends 0, 1, 2, ... until it is told to stop; gives how many were confirmed.
async fn append(client: Client, stop: Arc<AtomicBool>) -> u64 {
    let options = ProducerOptions { producer: Some("direct".to_owned()), window_batches: 50, ..ProducerOptions::default() };
    let mut producer = client.producer("s", options).expect("a producer");
    for number in 0.. {
        producer.append(&numbered(number, 20), None, Bytes::new()).await.expect("it comes back in time");
        if stop.load(Relaxed) {
            break;
        }
        if number % 7 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    producer.flush().await.expect("it comes back in time");
    producer.stored()
}

/// Writes and commits epochs until it is told to stop, as Spark does: what fails is tried again from the epoch's start. Gives how many
/// there were.
async fn write(client: Client, stop: Arc<AtomicBool>) -> u64 {
    let run = ProducerRun { producer: "spark".to_owned(), run: "run".to_owned() };
    let mut epoch = 0;
    let mut attempt = 0;
    while !stop.load(Relaxed) {
        match write_epoch(&client, &run, epoch, attempt).await {
            Ok(()) => (epoch, attempt) = (epoch + 1, 0),
            Err(error) => {
                let is_expected = matches!(
                    error.code(),
                    Code::Unavailable | Code::ReceiptUnknown | Code::EpochNotOpen | Code::StreamReplaced | Code::ShuttingDown
                );
                assert!(is_expected, "{error:?}");
                attempt += 1;
            }
        }
    }
    epoch
}

async fn write_epoch(client: &Client, run: &ProducerRun, epoch: u64, attempt: u64) -> Result<(), Error> {
    let mut receipts = Vec::new();
    for task in 0..TASKS {
        let ProducerRun { producer, run } = run.clone();
        let id = WriterId { producer, run, epoch: Epoch(epoch), task: Task(task), attempt: Attempt(attempt) };
        let mut writer = client.writer("s", id, WriterOptions::default())?;
        for batch in 0..BATCHES {
            writer.append(&numbered(of_epoch(epoch, task, batch), 20), None, Bytes::new()).await?;
        }
        match writer.finish().await? {
            Some(receipt) => receipts.push(receipt),
            // The commit's answer was lost.
            None if writer.is_unneeded() => return Ok(()),
            None => panic!("a writer without a receipt"),
        }
    }
    let state = client.commit_epoch("s", run, Epoch(epoch), receipts).await?;
    assert!(matches!(state, EpochState::Committed | EpochState::AlreadyCommitted), "{state:?}");
    Ok(())
}

fn of_epoch(epoch: u64, task: u32, batch: i64) -> i64 {
    EPOCHS + i64::try_from(epoch).expect("small") * 100 + i64::from(task) * 10 + batch
}

/// Reads with a subscription and acks, until it is told to stop.
async fn consume(client: Client, stop: Arc<AtomicBool>, seen: Arc<Seen>) {
    let options = || ConsumerOptions { subscription: Some("c".to_owned()), ..ConsumerOptions::default() };
    let mut consumer = client.consumer("s", options()).await.expect("is there");
    while !stop.load(Relaxed) {
        let next = tokio::time::timeout(Duration::from_millis(100), consumer.next(None)).await;
        let Ok(next) = next else { continue };
        let delivered = next.expect("it comes back in time").expect("nobody ends the stream");
        seen.check(&delivered);
        consumer.ack(delivered.partition, delivered.offset.plus(1)).expect("an offset");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_confirmed_is_lost_and_nothing_is_there_twice_whenever_the_coordinator_is_killed() {
    let cycles = std::env::var("BOWSTRING_KILL_CYCLES").map_or(CYCLES, |cycles| cycles.parse().expect("a number"));
    let dir = tempfile::tempdir().expect("a folder");
    let data_dir = dir.path().to_str().expect("UTF-8").to_owned();
    let serve =
        |listen: &str| Coordinator::start_with(&["--data-dir", &data_dir, "--listen", listen, "--http", "off", "--unix", "off"], &[]);
    let mut coordinator = serve("127.0.0.1:0");
    let listen = coordinator.listen.clone();
    let client = connect(&coordinator.url()).await;
    create(&client, "s", partitions(2)).await;
    // Keeps everything, for the end.
    client.subscribe("s", "audit", Start::Earliest).await.expect("is new");
    let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::<Seen>::default());
    let appending = tokio::spawn(append(connect(&coordinator.url()).await, stop.clone()));
    let writing = tokio::spawn(write(connect(&coordinator.url()).await, stop.clone()));
    let consuming = tokio::spawn(consume(connect(&coordinator.url()).await, stop.clone(), seen.clone()));
    for _ in 0..cycles {
        let pause = rand::rng().random_range(20..250);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        coordinator.signal("KILL");
        drop(coordinator);
        coordinator = serve(&listen);
    }
    stop.store(true, Relaxed);
    let confirmed = soon(appending).await.expect("appends");
    let epochs = soon(writing).await.expect("writes");
    soon(consuming).await.expect("reads");
    let options = ConsumerOptions { subscription: Some("audit".to_owned()), follow: false, ..ConsumerOptions::default() };
    let mut audit = client.consumer("s", options).await.expect("is there");
    let all = soon(rest(&mut audit)).await.expect("is read");
    all.iter().for_each(|delivered| seen.check(delivered));
    check(&all, confirmed, epochs);
    println!("{cycles} times killed: {confirmed} batches and {epochs} epochs confirmed, {} batches there", all.len());
    assert!(confirmed > 0 && epochs > 0);
}

fn check(all: &[Delivered], confirmed: u64, epochs: u64) {
    let mut counts: BTreeMap<i64, u32> = BTreeMap::new();
    for delivered in all {
        *counts.entry(number(delivered)).or_default() += 1;
    }
    assert!(counts.values().all(|count| *count == 1), "twice: {:?}", counts.iter().find(|(_, count)| **count > 1));
    let direct: Vec<_> = counts.keys().copied().filter(|number| *number < EPOCHS).collect();
    let missing: Vec<_> = (0..i64::try_from(confirmed).expect("small")).filter(|number| !counts.contains_key(number)).collect();
    assert!(missing.is_empty(), "of {confirmed} that were confirmed, these are lost: {missing:?}");
    assert_eq!(direct.len() as u64, confirmed, "all was confirmed");
    for partition in 0..2 {
        let numbers = all.iter().filter(|delivered| delivered.partition.0 == partition).map(number).filter(|number| *number < EPOCHS);
        assert!(numbers.is_sorted(), "in the order of the appends");
    }
    let staged: Vec<_> = counts.keys().copied().filter(|number| *number >= EPOCHS).collect();
    let batches = |epoch| (0..TASKS).flat_map(move |task| (0..BATCHES).map(move |batch| of_epoch(epoch, task, batch)));
    // One more may have been committed without its answer coming back.
    let whole: Vec<_> = (0..epochs).flat_map(batches).collect();
    let one_more: Vec<_> = (0..=epochs).flat_map(batches).collect();
    assert!(staged == whole || staged == one_more, "{} batches of {epochs} epochs", staged.len());
}

/// A log that is full of what was acked would otherwise wait for ever, for acks that nobody has to send.
#[tokio::test(flavor = "multi_thread")]
async fn acks_that_a_killed_coordinator_has_forgotten_are_sent_again_by_those_who_live_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let data_dir = dir.path().to_str().expect("UTF-8").to_owned();
    let serve =
        |listen: &str| Coordinator::start_with(&["--data-dir", &data_dir, "--listen", listen, "--http", "off", "--unix", "off"], &[]);
    let mut coordinator = serve("127.0.0.1:0");
    let listen = coordinator.listen.clone();
    let client = connect(&coordinator.url()).await;
    create(&client, "s", partitions(1)).await;
    let mut consumer = subscribed(&client, "s", "c").await;
    let mut forgotten = 0;
    for round in 0..5_u64 {
        let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
        producer.append(&numbered(0, 20), None, Bytes::new()).await.expect("room");
        soon(producer.flush()).await.expect("stored");
        let delivered = next(&mut consumer).await;
        consumer.ack(delivered.partition, delivered.offset.plus(1)).expect("an offset");
        soon(consumer.flush_acks()).await.expect("acked");
        coordinator.signal("KILL");
        drop(coordinator);
        coordinator = serve(&listen);
        let acked = async || {
            let description = client.describe_stream("s").await.expect("is there");
            description.subscriptions[0].partitions[0].acked
        };
        forgotten += u64::from(acked().await <= round);
        until("the ack is there again", async || acked().await == round + 1).await;
    }
    println!("{forgotten} of 5 acks were forgotten, and sent again");
}
