//! A consumer's end: reads and acks until the streams end, or reads what is there again and again.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::end::{EndArgs, wait_for_go};
use super::load::Load;
use super::meter::{Report, Tally, monotonic_ns};
use crate::cli::error::CliError;
use crate::client::{Client, ClientOptions, Consumer, ConsumerOptions, Delivered};

/// Reads all streams.
pub(super) async fn read(args: EndArgs) -> Result<Report, CliError> {
    let load = Load::new(args.columns, args.batch_bytes.0)?;
    let client = Client::connect(&args.url, ClientOptions::default()).await?;
    let end = Arc::new(End { args, load, client });
    if end.args.subscription.is_some() { follow(&end).await } else { reread(&end).await }
}

/// What all streams of an end share.
struct End {
    args: EndArgs,
    load: Load,
    client: Client,
}

/// Until the streams end.
async fn follow(end: &Arc<End>) -> Result<Report, CliError> {
    let mut consumers = Vec::new();
    for stream in end.args.stream_names() {
        for subscription in end.args.subscription_names() {
            let EndArgs { mode, .. } = end.args;
            let partitions = end.args.partitions();
            let options = ConsumerOptions { subscription: Some(subscription), mode, partitions, ..ConsumerOptions::default() };
            consumers.push(end.client.consumer(&stream, options).await?);
        }
    }
    let meter = wait_for_go().await?;
    let tally = match consumers.as_mut_slice() {
        // No task of its own: the runtime's workers have the client's.
        [consumer] => end.drain(consumer).await?,
        _ => {
            let drained = consumers.drain(..).map(|mut consumer| {
                let end = end.clone();
                async move {
                    let tally = end.drain(&mut consumer).await?;
                    consumer.close().await?;
                    Ok(tally)
                }
            });
            together(drained).await?
        }
    };
    let report = meter.stop(&tally);
    for consumer in consumers {
        consumer.close().await?;
    }
    Ok(report)
}

/// What is there, from its beginning to its end, until it is enough.
async fn reread(end: &Arc<End>) -> Result<Report, CliError> {
    let meter = wait_for_go().await?;
    let begun_ns = meter.begun_ns();
    let tally = together(end.args.stream_names().map(|stream| {
        let end = end.clone();
        async move { end.reread_stream(&stream, begun_ns).await }
    }))
    .await?;
    Ok(meter.stop(&tally))
}

/// Runs all at once, and sums up.
async fn together(work: impl Iterator<Item: Future<Output = Result<Tally, CliError>> + Send + 'static>) -> Result<Tally, CliError> {
    let mut tasks: JoinSet<_> = work.collect();
    let mut all = Tally::default();
    while let Some(tally) = tasks.join_next().await {
        all.add(tally.map_err(|panic| CliError::Bench { reason: panic.to_string() })??);
    }
    Ok(all)
}

impl End {
    /// Everything of a stream, acked on the way.
    async fn drain(&self, consumer: &mut Consumer) -> Result<Tally, CliError> {
        let mut tally = Tally::default();
        let acker = consumer.acker();
        while let Some(delivered) = consumer.next(None).await? {
            self.count(&mut tally, &delivered)?;
            match self.args.mode {
                // What every mode has, since nobody knows who has the batches before it.
                Some(_) => acker.ack_one(&delivered.unacked())?,
                None => acker.ack(delivered.partition, delivered.offset.plus(1))?,
            }
        }
        Ok(tally)
    }

    async fn reread_stream(&self, stream: &str, begun_ns: u64) -> Result<Tally, CliError> {
        let mut tally = Tally::default();
        let limit = self.args.limit();
        let allowed = |batches| limit.allows(batches, Duration::from_nanos(monotonic_ns().saturating_sub(begun_ns)));
        loop {
            let options = ConsumerOptions { follow: false, ..ConsumerOptions::default() };
            let mut consumer = self.client.consumer(stream, options).await?;
            let before = tally.batches;
            // Whatever the limit, something is read.
            while let Some(delivered) = consumer.next(None).await? {
                self.count(&mut tally, &delivered)?;
                if !allowed(tally.batches) {
                    return Ok(tally);
                }
            }
            if tally.batches == before {
                return Err(CliError::Bench { reason: format!("stream {stream} has nothing to read") });
            }
        }
    }

    fn count(&self, tally: &mut Tally, delivered: &Delivered) -> Result<(), CliError> {
        let (came, sent) = (delivered.batch.num_rows(), self.load.batch.num_rows());
        if came != sent {
            return Err(CliError::Bench { reason: format!("a batch of {came} rows came where {sent} were sent") });
        }
        tally.batches += 1;
        tally.bytes += self.load.bytes;
        if let Ok(stamp) = <[u8; 8]>::try_from(&*delivered.user) {
            tally.arrived(u64::from_le_bytes(stamp));
        }
        Ok(())
    }
}
