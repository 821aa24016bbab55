//! A Spark query: epochs of several tasks, with attempts that fail, commits whose answers are lost, drivers that crash and
//! leave a zombie behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bowstring::client::{Client, Error, ProducerRun, WriterId, WriterOptions};
use bowstring::engine::{Attempt, Code, Epoch, EpochState, PartitionId, Task};
use bowstring::wire::proto::Receipt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::Actor;
use crate::batches::{batch, user};
use crate::oracle::{Names, Oracle};

/// How a try at an epoch ends.
enum Tried {
    Committed,
    /// A new run of the query tries again.
    Again,
}

/// A run of the query.
#[derive(Clone)]
struct Driver {
    oracle: Arc<Oracle>,
    client: Client,
    stream: String,
    partitions: u32,
    id: ProducerRun,
    /// This run's number, and the newest that the coordinator has confirmed.
    number: u64,
    newest: Arc<AtomicU64>,
}

pub(super) async fn run(mut actor: Actor, client: Client, epochs: u64) {
    let newest = Arc::new(AtomicU64::new(0));
    let (mut number, mut epoch) = (0, 0);
    let mut zombies = Vec::new();
    while epoch < epochs {
        number += 1;
        let driver = Driver {
            oracle: actor.oracle.clone(),
            client: client.clone(),
            stream: actor.stream.name.clone(),
            partitions: actor.stream.partitions,
            id: ProducerRun { producer: actor.who.clone(), run: format!("run{number}") },
            number,
            newest: newest.clone(),
        };
        while epoch < epochs {
            match driver.epoch(&mut actor, epoch, &mut zombies).await {
                Ok(Tried::Committed) => epoch += 1,
                Ok(Tried::Again) => break,
                Err(error) => {
                    driver.met("epoch", &error);
                    break;
                }
            }
            actor.pause(500).await;
        }
        actor.pause(200).await;
    }
    for zombie in zombies {
        zombie.await.expect("a zombie does not panic");
    }
    actor.end_writing(&client).await;
}

impl Driver {
    async fn epoch(&self, actor: &mut Actor, epoch: u64, zombies: &mut Vec<tokio::task::JoinHandle<()>>) -> Result<Tried, Error> {
        let state = self.client.open_epoch(&self.stream, &self.id, Epoch(epoch)).await?;
        self.newest.fetch_max(self.number, Relaxed);
        self.note(format!("epoch {epoch} is {state:?}"));
        if state != EpochState::Open {
            self.oracle.committed(&self.stream, &self.id.producer, epoch, None);
            return Ok(Tried::Committed);
        }
        let tasks = actor.random.random_range(1..=3);
        let seeds: Vec<u64> = (0..tasks).map(|_| actor.random.random()).collect();
        let tasks = (0..).zip(seeds).map(|(task, seed)| self.task(epoch, task, StdRng::seed_from_u64(seed)));
        let mut receipts = Vec::new();
        let mut names = Names::new();
        for staged in futures::future::join_all(tasks).await {
            let (receipt, staged) = staged?;
            receipts.extend(receipt);
            names.extend(staged);
        }
        if actor.chance(12) {
            self.note(format!("crashes before it commits epoch {epoch}"));
            let (zombie, wait) = (self.clone(), actor.random.random_range(0..1_500));
            zombies.push(tokio::task::spawn_local(async move {
                tokio::time::sleep(Duration::from_millis(wait)).await;
                zombie.haunt(epoch, receipts, names).await;
            }));
            return Ok(Tried::Again);
        }
        self.commit(actor, epoch, receipts, names).await
    }

    async fn commit(&self, actor: &mut Actor, epoch: u64, receipts: Vec<Receipt>, names: Names) -> Result<Tried, Error> {
        self.oracle.commits(&self.stream, &self.id.producer, epoch, names.clone());
        if actor.chance(15) {
            // The answer is lost.
            let asked = self.client.commit_epoch(&self.stream, &self.id, Epoch(epoch), receipts.clone());
            let patience = Duration::from_millis(actor.random.random_range(1..100));
            drop(tokio::time::timeout(patience, asked).await);
            self.note(format!("has no answer to its commit of epoch {epoch}"));
            if actor.chance(50) {
                return Ok(Tried::Again);
            }
        }
        let again = actor.chance(10);
        let state = self.client.commit_epoch(&self.stream, &self.id, Epoch(epoch), receipts.clone()).await?;
        self.note(format!("commit of epoch {epoch}: {state:?}"));
        self.oracle.committed(&self.stream, &self.id.producer, epoch, (state == EpochState::Committed).then_some(names));
        if again {
            let state = self.client.commit_epoch(&self.stream, &self.id, Epoch(epoch), receipts).await?;
            if state != EpochState::AlreadyCommitted {
                self.oracle.fail(format!("{}: a repeated commit of epoch {epoch} is {state:?}", self.id.producer));
            }
        }
        Ok(Tried::Committed)
    }

    /// What is left of a crashed driver commits late.
    async fn haunt(&self, epoch: u64, receipts: Vec<Receipt>, names: Names) {
        let is_replaced = self.newest.load(Relaxed) > self.number;
        self.oracle.commits(&self.stream, &self.id.producer, epoch, names.clone());
        match self.client.commit_epoch(&self.stream, &self.id, Epoch(epoch), receipts).await {
            Ok(EpochState::Committed) => {
                self.note(format!("zombie's commit of epoch {epoch} counts"));
                if is_replaced {
                    self.oracle.fail(format!("{}: a zombie of {} has committed epoch {epoch}", self.id.producer, self.id.run));
                }
                self.oracle.committed(&self.stream, &self.id.producer, epoch, Some(names));
            }
            Ok(state) => self.note(format!("zombie's commit of epoch {epoch}: {state:?}")),
            Err(error) => self.met("zombie", &error),
        }
    }

    /// A task: attempts that fail, and one that does not. Gives its receipt and what it staged.
    async fn task(&self, epoch: u64, task: u32, mut random: StdRng) -> Result<(Option<Receipt>, Names), Error> {
        let batches = random.random_range(0..4);
        let failures = if random.random_bool(0.15) { 1 } else { 0 };
        for attempt in 0.. {
            let id = WriterId {
                producer: self.id.producer.clone(),
                run: self.id.run.clone(),
                epoch: Epoch(epoch),
                task: Task(task),
                attempt: Attempt(attempt),
            };
            let mut names = Names::new();
            let mut writer = self.client.writer(&self.stream, id, WriterOptions::default())?;
            for number in 0..batches {
                let name = format!("{}:{epoch}:{task}.{attempt}.{}/{number}", self.id.producer, self.number);
                let partition = random.random_range(0..self.partitions);
                writer.append(&batch(&name), Some(PartitionId(partition)), user(&name)).await?;
                names.insert(name);
                if random.random_bool(0.2) {
                    tokio::time::sleep(Duration::from_millis(random.random_range(0..200))).await;
                }
            }
            if attempt < failures {
                if random.random_bool(0.5) {
                    // Speculative: it ends well, and is not named.
                    writer.finish().await?;
                }
                continue;
            }
            let receipt = writer.finish().await?;
            return Ok((receipt, names));
        }
        unreachable!("attempts go on until one is good")
    }

    /// A restart forgets what is staged, and a newer run fences: then the epoch is tried again.
    fn met(&self, what: &str, error: &Error) {
        match error.code() {
            Code::EpochNotOpen | Code::ReceiptUnknown | Code::Fenced | Code::EpochCommitted | Code::SpoolFull => {
                self.note(format!("{what}: {:?}: {error}", error.code()));
            }
            _ => self.oracle.met(&format!("{} {}", self.id.producer, self.id.run), what, error),
        }
    }

    fn note(&self, what: impl AsRef<str>) {
        self.oracle.note(format!("{} {}: {}", self.id.producer, self.id.run, what.as_ref()));
    }
}
