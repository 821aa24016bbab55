//! A subscription's consumer: reads, acks, stalls, crashes and comes back, until it has seen all.

use std::collections::BTreeMap;
use std::time::Duration;

use bowstring::client::{Client, Consumer, ConsumerOptions, Error};
use bowstring::engine::{Code, Offset, PartitionId, Start};
use rand::Rng;

use super::{Actor, subscription};

/// How long it waits for a batch before it looks whether there is more to come.
const PATIENCE: Duration = Duration::from_millis(700);
/// How often it begins again, so that it comes to an end.
const SEEKS_MAX: u32 = 3;

pub(super) async fn run(mut actor: Actor, client: Client, number: u64) {
    let name = subscription("consumer", number);
    let mut seeks_left = SEEKS_MAX;
    loop {
        actor.describe(&client).await;
        // The default has this process's number, and a seed is to give the same run in every process.
        let consumer = Some(actor.who.clone());
        let options = ConsumerOptions { subscription: Some(name.clone()), consumer, ..ConsumerOptions::default() };
        match life(&mut actor, &client, &name, options, &mut seeks_left).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => actor.oracle.met(&actor.who, "read", &error),
        }
        actor.pause(500).await;
    }
}

/// From opening to a crash, or to the end: true.
async fn life(actor: &mut Actor, client: &Client, name: &str, options: ConsumerOptions, seeks_left: &mut u32) -> Result<bool, Error> {
    let mut consumer = client.consumer(&actor.stream.name, options).await?;
    let (mut seen, mut acked) = (BTreeMap::new(), BTreeMap::new());
    // What it acks after a seek may be of before, and not count: nothing is sure then.
    let mut is_moved = false;
    loop {
        let deadline = (tokio::time::Instant::now() + PATIENCE).into_std();
        match consumer.next(Some(deadline)).await {
            Ok(Some(delivered)) => {
                actor.oracle.delivered(&actor.stream.name, &actor.who, Some(name), &delivered);
                let (partition, before) = (delivered.partition, delivered.offset.plus(1));
                seen.insert(partition.0, before.0);
                if actor.chance(60) {
                    actor.oracle.acks(&actor.stream.name, name, partition.0, before.0);
                    consumer.ack(partition, before)?;
                    if !is_moved {
                        acked.insert(partition.0, before.0);
                    }
                }
            }
            Ok(None) => {
                let is_done = finish(actor, client, name, &mut consumer, &acked).await?;
                // Who had come to the end before the seek does not begin again: the next life does.
                if !is_done && !is_moved {
                    actor.oracle.fail(format!("{}: the stream has ended before all was delivered", actor.who));
                }
                return Ok(is_done);
            }
            Err(error) if error.code() == Code::Timeout => {
                // It is done with what it has: more may wait for that.
                for (partition, before) in &seen {
                    actor.oracle.acks(&actor.stream.name, name, *partition, *before);
                    consumer.ack(PartitionId(*partition), Offset(*before))?;
                }
                if !is_moved {
                    acked.clone_from(&seen);
                }
                // What a producer that has crashed had sent before may still come.
                let has_writers = actor.oracle.has_writers(&actor.stream.name);
                if !has_writers && finish(actor, client, name, &mut consumer, &acked).await? {
                    return Ok(true);
                }
            }
            Err(error) => return Err(error),
        }
        if actor.chance(10) {
            flush(actor, name, &mut consumer, &acked).await?;
        }
        if actor.chance(5) {
            // A slow one.
            let stall = actor.random.random_range(0..1_500);
            tokio::time::sleep(Duration::from_millis(stall)).await;
        }
        if actor.chance(2) && *seeks_left > 0 {
            *seeks_left -= 1;
            // From another client, while this one reads, and its acks are on their way.
            seek(actor, client, name).await;
            is_moved = true;
            (seen, acked) = Default::default();
        }
        if actor.chance(3) {
            actor.note("crashes");
            return Ok(false);
        }
    }
}

/// Puts the subscription back to the earliest batch.
async fn seek(actor: &Actor, client: &Client, name: &str) {
    let stream = &actor.stream.name;
    actor.oracle.seeks(stream, name, actor.stream.partitions);
    let moves = actor.until_done("seek", || client.seek(stream, name, &Start::Earliest, None, false)).await;
    actor.note("seeks");
    actor.oracle.sought(stream, name, &moves);
}

async fn flush(actor: &Actor, name: &str, consumer: &mut Consumer, acked: &BTreeMap<u32, u64>) -> Result<(), Error> {
    let acked = acked.clone();
    consumer.flush_acks().await?;
    actor.oracle.acked(&actor.stream.name, name, &acked);
    Ok(())
}

/// Whether it has seen all that there is by now.
async fn finish(
    actor: &mut Actor,
    client: &Client,
    name: &str,
    consumer: &mut Consumer,
    acked: &BTreeMap<u32, u64>,
) -> Result<bool, Error> {
    flush(actor, name, consumer, acked).await?;
    let description = actor.describe(client).await;
    Ok(actor.oracle.has_seen_all(name, &description))
}
