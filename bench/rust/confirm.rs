//! Producers that wait for each answer before they go on: what is counted is answers. An epoch is one batch, staged and
//! committed; an append is one batch, confirmed.

use std::error::Error;
use std::time::Duration;

use arrow::array::RecordBatch;
use bowstring::client::{Client, ClientOptions, Error as ClientError, Producer, ProducerOptions, ProducerRun, WriterId, WriterOptions};
use bowstring::engine::{Attempt, Epoch, Task};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use tokio::task::JoinSet;

use crate::report::{monotonic_ns, wait_for_go};
use crate::stock;

/// An answer that takes longer never comes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How many producers, of what, on which streams.
#[derive(Debug, Args)]
pub(crate) struct End {
    /// The coordinator's URL.
    url: String,
    /// Beginning of the streams' names; their numbers follow. They are there.
    stream: String,
    /// What is confirmed.
    what: What,
    /// Rows of a batch.
    rows: i64,
    /// Producers at once, each with connections of its own.
    #[arg(long)]
    producers: usize,
    /// Streams, to which producers are assigned in turn.
    #[arg(long)]
    streams: usize,
    /// How long.
    #[arg(long)]
    seconds: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// A producer's next append waits for the one before.
    Appends,
    /// A producer's next epoch waits for the commit of the one before.
    Epochs,
}

/// One of the producers, connected.
struct One {
    what: What,
    client: Client,
    stream: String,
    run: ProducerRun,
    batch: RecordBatch,
    producer: Producer,
    epochs: u64,
}

type Failed = Box<dyn Error + Send + Sync>;

#[tokio::main]
pub(crate) async fn run(end: &End) -> Result<(), Box<dyn Error>> {
    let batch = stock::batch(end.rows)?;
    let mut producers = Vec::new();
    for number in 0..end.producers {
        let mut one = One::connect(end, number, &batch).await?;
        // Connections are made with the first.
        one.in_time().await.map_err(|failed| failed as Box<dyn Error>)?;
        producers.push(one);
    }
    let meter = wait_for_go()?;
    let until_ns = meter.begun_ns + u64::try_from(Duration::try_from_secs_f64(end.seconds)?.as_nanos())?;
    let mut working: JoinSet<_> = producers.into_iter().map(|one| one.until(until_ns)).collect();
    let mut latencies = Vec::new();
    while let Some(done) = working.join_next().await {
        latencies.extend(done?.map_err(|failed| failed as Box<dyn Error>)?);
    }
    let confirmed = latencies.len() as u64;
    meter.report(confirmed, confirmed * batch.get_array_memory_size() as u64, &latencies);
    Ok(())
}

impl One {
    async fn connect(end: &End, number: usize, batch: &RecordBatch) -> Result<Self, ClientError> {
        let client = Client::connect(&end.url, ClientOptions::default()).await?;
        let stream = format!("{}-{}", end.stream, number % end.streams);
        let run = ProducerRun { producer: format!("bench-{number}"), run: format!("run-{}", std::process::id()) };
        let options = ProducerOptions { window_batches: 1, ..ProducerOptions::default() };
        let producer = client.producer(&stream, options)?;
        Ok(Self { what: end.what, client, stream, run, batch: batch.clone(), producer, epochs: 0 })
    }

    /// How long each took, of those that began in time.
    async fn until(mut self, until_ns: u64) -> Result<Vec<u64>, Failed> {
        let mut latencies = Vec::new();
        let mut begun_ns = monotonic_ns();
        while begun_ns < until_ns {
            self.in_time().await?;
            let now_ns = monotonic_ns();
            latencies.push(now_ns - begun_ns);
            begun_ns = now_ns;
        }
        Ok(latencies)
    }

    async fn in_time(&mut self) -> Result<(), Failed> {
        match tokio::time::timeout(ANSWER_TIMEOUT, self.once()).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(format!("{} got no answer in {ANSWER_TIMEOUT:?} on stream {}", self.run.producer, self.stream).into()),
        }
    }

    async fn once(&mut self) -> Result<(), ClientError> {
        if self.what == What::Appends {
            self.producer.append(&self.batch, None, Bytes::new()).await?;
            return self.producer.flush().await;
        }
        let epoch = Epoch(self.epochs);
        self.epochs += 1;
        let ProducerRun { producer, run } = self.run.clone();
        let id = WriterId { producer, run, epoch, task: Task(0), attempt: Attempt(0) };
        let mut writer = self.client.writer(&self.stream, id, WriterOptions::default())?;
        writer.append(&self.batch, None, Bytes::new()).await?;
        let receipts = writer.finish().await?.into_iter().collect();
        self.client.commit_epoch(&self.stream, &self.run, epoch, receipts).await?;
        Ok(())
    }
}
