//! A producer, a writer of epochs and a consumer that go on while something happens to their coordinator, and the check of
//! what they were promised: nothing that was confirmed is lost, nothing is there twice, no offset ever changes what it has.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bowstring::client::{Client, ClientOptions, ConsumerOptions, Delivered, Error, ProducerOptions, ProducerRun, WriterId, WriterOptions};
use bowstring::engine::{Attempt, Code, Epoch, EpochState, Start, Task};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::client_support::{create, number, numbered, partitions, rest, soon};

/// Numbers of epochs begin here: epoch, task and batch can be read from them.
const EPOCHS: i64 = 1_000_000_000;
const TASKS: u32 = 2;
const BATCHES: i64 = 3;

/// Three that work on stream `s` until they are told to stop.
pub(crate) struct Workload {
    /// Reads what is there in the end.
    client: Client,
    shared: Arc<Shared>,
    appending: JoinHandle<u64>,
    writing: JoinHandle<u64>,
    consuming: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    seen: Seen,
    /// Confirmed, or delivered, so far.
    progress: Progress,
}

#[derive(Default)]
struct Progress {
    appended: AtomicU64,
    epochs: AtomicU64,
    delivered: AtomicU64,
}

/// How much there was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Done {
    pub(crate) appended: u64,
    pub(crate) epochs: u64,
    pub(crate) delivered: u64,
}

/// What each offset was seen to have.
#[derive(Default)]
struct Seen(Mutex<BTreeMap<(u32, u64), i64>>);

impl Workload {
    /// Makes the stream, with a subscription that keeps everything for the end, and begins.
    pub(crate) async fn start(url: &str, options: ClientOptions) -> Self {
        let connect = async || Client::connect(url, options.clone()).await.expect("the server is there");
        let client = connect().await;
        create(&client, "s", partitions(2)).await;
        client.subscribe("s", "audit", &Start::Earliest).await.expect("is new");
        let shared = Arc::<Shared>::default();
        Self {
            appending: tokio::spawn(append(connect().await, shared.clone())),
            writing: tokio::spawn(write(connect().await, shared.clone())),
            consuming: tokio::spawn(consume(connect().await, shared.clone())),
            client,
            shared,
        }
    }

    /// How far it is: what was confirmed, and what was delivered.
    pub(crate) fn so_far(&self) -> Done {
        let Progress { appended, epochs, delivered } = &self.shared.progress;
        Done { appended: appended.load(Relaxed), epochs: epochs.load(Relaxed), delivered: delivered.load(Relaxed) }
    }

    /// Waits until all three have done more than they have now.
    pub(crate) async fn goes_on(&self) {
        let before = self.so_far();
        let is_more = async || {
            let now = self.so_far();
            now.appended > before.appended && now.epochs > before.epochs && now.delivered > before.delivered
        };
        super::server_support::until("all three go on", is_more).await;
    }

    /// Lets all three end, reads everything, and checks it.
    pub(crate) async fn finish(self) -> Done {
        self.shared.stop.store(true, Relaxed);
        let appended = soon(self.appending).await.expect("appends");
        let epochs = soon(self.writing).await.expect("writes");
        soon(self.consuming).await.expect("reads");
        let options = ConsumerOptions { subscription: Some("audit".to_owned()), follow: false, ..ConsumerOptions::default() };
        let mut audit = self.client.consumer("s", options).await.expect("is there");
        let all = soon(rest(&mut audit)).await.expect("is read");
        all.iter().for_each(|delivered| self.shared.seen.check(delivered));
        check(&all, appended, epochs);
        assert!(appended > 0 && epochs > 0);
        Done { appended, epochs, delivered: all.len() as u64 }
    }
}

impl Seen {
    fn check(&self, delivered: &Delivered) {
        let place = (delivered.partition.0, delivered.offset.0);
        let known = *self.0.lock().entry(place).or_insert_with(|| number(delivered));
        assert_eq!(known, number(delivered), "partition and offset {place:?} had another batch before");
    }
}

/// Appends 0, 1, 2, ... until it is told to stop; gives how many were confirmed.
async fn append(client: Client, shared: Arc<Shared>) -> u64 {
    let options = ProducerOptions { producer: Some("direct".to_owned()), window_batches: 50, ..ProducerOptions::default() };
    let mut producer = client.producer("s", options).expect("a producer");
    for number in 0.. {
        producer.append(&numbered(number, 20), None, Bytes::new()).await.expect("it comes back in time");
        shared.progress.appended.store(producer.stored(), Relaxed);
        if shared.stop.load(Relaxed) {
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
async fn write(client: Client, shared: Arc<Shared>) -> u64 {
    let run = ProducerRun { producer: "spark".to_owned(), run: "run".to_owned() };
    let mut epoch = 0;
    let mut attempt = 0;
    while !shared.stop.load(Relaxed) {
        match write_epoch(&client, &run, epoch, attempt).await {
            Ok(()) => {
                (epoch, attempt) = (epoch + 1, 0);
                shared.progress.epochs.store(epoch, Relaxed);
            }
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
async fn consume(client: Client, shared: Arc<Shared>) {
    let options = || ConsumerOptions { subscription: Some("c".to_owned()), ..ConsumerOptions::default() };
    let mut consumer = client.consumer("s", options()).await.expect("is there");
    while !shared.stop.load(Relaxed) {
        let next = tokio::time::timeout(Duration::from_millis(100), consumer.next(None)).await;
        let Ok(next) = next else { continue };
        let delivered = next.expect("it comes back in time").expect("nobody ends the stream");
        shared.seen.check(&delivered);
        shared.progress.delivered.fetch_add(1, Relaxed);
        consumer.ack(delivered.partition, delivered.offset.plus(1)).expect("an offset");
    }
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
