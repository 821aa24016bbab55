//! A subscription's consumer: reads, acks, stalls, crashes and comes back, until it has seen all.

use std::collections::BTreeMap;
use std::time::Duration;

use bowstring::client::{Client, Consumer, ConsumerOptions, Error};
use bowstring::engine::Code;
use rand::Rng;

use super::{Actor, subscription};

/// How long it waits for a batch before it looks whether there is more to come.
const PATIENCE: Duration = Duration::from_millis(700);

pub(super) async fn run(mut actor: Actor, client: Client, number: u64) {
    let name = subscription("consumer", number);
    loop {
        actor.describe(&client).await;
        // The default has this process's number, and a seed is to give the same run in every process.
        let consumer = Some(actor.who.clone());
        let options = ConsumerOptions { subscription: Some(name.clone()), consumer, ..ConsumerOptions::default() };
        match life(&mut actor, &client, &name, options).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => actor.oracle.met(&actor.who, "read", &error),
        }
        actor.pause(500).await;
    }
}

/// From opening to a crash, or to the end: true.
async fn life(actor: &mut Actor, client: &Client, name: &str, options: ConsumerOptions) -> Result<bool, Error> {
    let mut consumer = client.consumer(&actor.stream.name, options).await?;
    let mut acked = BTreeMap::new();
    loop {
        let deadline = (tokio::time::Instant::now() + PATIENCE).into_std();
        match consumer.next(Some(deadline)).await {
            Ok(Some(delivered)) => {
                actor.oracle.delivered(&actor.stream.name, &actor.who, Some(name), &delivered);
                let (partition, before) = (delivered.partition, delivered.offset.plus(1));
                if actor.chance(60) {
                    actor.oracle.acks(&actor.stream.name, name, partition.0, before.0);
                    consumer.ack(partition, before)?;
                    acked.insert(partition.0, before.0);
                }
            }
            Ok(None) => return finish(actor, client, name, &mut consumer, &acked).await,
            Err(error) if error.code() == Code::Timeout => {
                if !actor.oracle.has_writers(&actor.stream.name) {
                    let description = actor.describe(client).await;
                    if actor.oracle.has_seen_all(name, &description) {
                        return finish(actor, client, name, &mut consumer, &acked).await;
                    }
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
        if actor.chance(3) {
            actor.note("crashes");
            return Ok(false);
        }
    }
}

async fn flush(actor: &Actor, name: &str, consumer: &mut Consumer, acked: &BTreeMap<u32, u64>) -> Result<(), Error> {
    let acked = acked.clone();
    consumer.flush_acks().await?;
    actor.oracle.acked(&actor.stream.name, name, &acked);
    Ok(())
}

/// The stream is at its end; it is done if it has seen all.
async fn finish(
    actor: &mut Actor,
    client: &Client,
    name: &str,
    consumer: &mut Consumer,
    acked: &BTreeMap<u32, u64>,
) -> Result<bool, Error> {
    flush(actor, name, consumer, acked).await?;
    let description = actor.describe(client).await;
    let is_done = actor.oracle.has_seen_all(name, &description);
    if !is_done {
        actor.oracle.fail(format!("{}: the stream has ended before all was delivered", actor.who));
    }
    Ok(is_done)
}
