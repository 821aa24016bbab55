//! The producer's end: appends as fast as it can, or at a rate with a stamp on each batch.

use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::end::{EndArgs, Limit, wait_for_go};
use super::load::Load;
use super::meter::{Meter, Report, Tally, monotonic_ns};
use crate::cli::error::CliError;
use crate::client::{Client, ClientOptions, Producer, ProducerOptions};

/// Appends to all streams and completes them; everything is stored when it returns.
pub(super) async fn append(args: &EndArgs) -> Result<Report, CliError> {
    let load = Load::new(args.columns, args.batch_bytes.0)?;
    let client = Client::connect(&args.url, ClientOptions::default()).await?;
    let options = ProducerOptions { schema: Some(load.batch.schema()), compression: args.compression.into(), ..ProducerOptions::default() };
    let mut producers = Vec::new();
    for stream in args.stream_names() {
        producers.push(client.producer(&stream, options.clone())?);
    }
    for producer in &mut producers {
        for _ in 0..args.fill {
            producer.append(&load.batch, None, Bytes::new()).await?;
        }
        producer.flush().await?;
    }
    let meter = wait_for_go().await?;
    let tally = match args.rate {
        Some(rate) => paced(producers, &load, args.limit(), rate, &meter).await?,
        None => flat_out(producers, &load, args.limit(), &meter).await?,
    };
    Ok(meter.stop(&tally))
}

async fn flat_out(mut producers: Vec<Producer>, load: &Load, limit: Limit, meter: &Meter) -> Result<Tally, CliError> {
    let begun_ns = meter.begun_ns();
    if let [producer] = producers.as_mut_slice() {
        // No task of its own: the runtime's workers have the client's.
        return fill(producer, load, limit, begun_ns).await;
    }
    let mut tasks = JoinSet::new();
    for mut producer in producers {
        let load = load.clone();
        tasks.spawn(async move { fill(&mut producer, &load, limit, begun_ns).await });
    }
    let mut all = Tally::default();
    while let Some(tally) = tasks.join_next().await {
        all.add(tally.map_err(|panic| CliError::Bench { reason: panic.to_string() })??);
    }
    Ok(all)
}

/// Everything for one stream.
async fn fill(producer: &mut Producer, load: &Load, limit: Limit, begun_ns: u64) -> Result<Tally, CliError> {
    let mut batches = 0;
    while limit.allows(batches, passed(begun_ns)) {
        producer.append(&load.batch, None, Bytes::new()).await?;
        batches += 1;
    }
    producer.complete().await?;
    Ok(Tally { batches, bytes: batches * load.bytes, latency: None })
}

/// At a rate, to the streams in turn. A batch that is late because an append had to wait is stamped with the time at which
/// it was due, so that waiting counts; one that is late because this end overslept, with the time at which it woke.
async fn paced(mut producers: Vec<Producer>, load: &Load, limit: Limit, rate: f64, meter: &Meter) -> Result<Tally, CliError> {
    let streams = producers.len() as u64;
    let (mut batches, mut woke_ns) = (0_u64, meter.begun_ns());
    loop {
        let due_after_ns = due_after_ns(batches, rate);
        // What is due at the end comes no more, nor what a rate that cannot be reached leaves over.
        if !limit.allows(batches / streams, passed(meter.begun_ns()).max(Duration::from_nanos(due_after_ns))) {
            break;
        }
        let due_ns = meter.begun_ns() + due_after_ns;
        let now_ns = monotonic_ns();
        if now_ns < due_ns {
            sleep(Duration::from_nanos(due_ns - now_ns));
            woke_ns = monotonic_ns();
        }
        let stamp = Bytes::copy_from_slice(&due_ns.max(woke_ns).to_le_bytes());
        let Some(producer) = producers.get_mut(usize::try_from(batches % streams).unwrap_or(0)) else { break };
        producer.append(&load.batch, None, stamp).await?;
        batches += 1;
    }
    for producer in &mut producers {
        producer.complete().await?;
    }
    Ok(Tally { batches, bytes: batches * load.bytes, latency: None })
}

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "exact to a nanosecond for weeks")]
fn due_after_ns(batches: u64, rate: f64) -> u64 {
    (batches as f64 / rate * 1e9) as u64
}

fn passed(begun_ns: u64) -> Duration {
    Duration::from_nanos(monotonic_ns().saturating_sub(begun_ns))
}

/// tokio's timer is exact to a millisecond only, which would send bursts.
#[expect(clippy::disallowed_methods, reason = "this is the main thread, which runs none of the runtime's tasks")]
fn sleep(duration: Duration) {
    std::thread::sleep(duration);
}
