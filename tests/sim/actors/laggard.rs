//! A subscription that gives way where room runs out, and its consumer: it may lose batches, and is told of all that it loses.

use std::collections::BTreeMap;
use std::time::Duration;

use bowstring::client::{Client, ConsumerOptions, Delivered, Error};
use bowstring::engine::{Code, OnOverflow, Start};
use rand::Rng;

use super::{Actor, subscription};

/// How long it waits for a batch before it looks whether there is more to come.
const PATIENCE: Duration = Duration::from_millis(700);

/// How many of them a stream has that has any: one that skips, one that is evicted, and one that would be and keeps up.
pub(crate) const KINDS: [OnOverflow; 3] = [OnOverflow::Skip, OnOverflow::Evict, OnOverflow::Evict];
/// Acks all it gets at once.
const KEEPS_UP: u64 = 2;

pub(super) async fn run(mut actor: Actor, client: Client, number: u64) {
    let name = subscription("laggard", number);
    // How far it has asked for acks.
    let mut acked = BTreeMap::new();
    loop {
        match life(&mut actor, &client, (&name, number), &mut acked).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) if error.code() == Code::SubscriptionEvicted && kind(number) == OnOverflow::Evict => {
                if evicted(&mut actor, &client, &name, &mut acked).await {
                    return;
                }
            }
            Err(error) => actor.oracle.met(&actor.who, "read", &error),
        }
        actor.pause(500).await;
    }
}

fn kind(number: u64) -> OnOverflow {
    KINDS[usize::try_from(number).expect("one of three")]
}

/// From opening to a crash, or until there is no more to come: true.
async fn life(actor: &mut Actor, client: &Client, (name, number): (&str, u64), acked: &mut BTreeMap<u32, u64>) -> Result<bool, Error> {
    let consumer = Some(actor.who.clone());
    let options = ConsumerOptions { subscription: Some(name.to_owned()), consumer, ..ConsumerOptions::default() };
    let mut consumer = client.consumer(&actor.stream.name, options).await?;
    let mut expected = acked.clone();
    loop {
        let deadline = (tokio::time::Instant::now() + PATIENCE).into_std();
        match consumer.next(Some(deadline)).await {
            Ok(Some(delivered)) => {
                check_gap(actor, &delivered, &mut expected);
                if number == KEEPS_UP || actor.chance(20) {
                    let before = delivered.offset.plus(1);
                    // Noted before: it may be there although nobody is told.
                    let asked = acked.entry(delivered.partition.0).or_default();
                    *asked = before.0.max(*asked);
                    consumer.ack(delivered.partition, before)?;
                }
            }
            Ok(None) => return Ok(true),
            Err(error) if error.code() == Code::Timeout => {
                if !actor.oracle.has_writers(&actor.stream.name) {
                    return Ok(true);
                }
            }
            Err(error) => return Err(error),
        }
        if number != KEEPS_UP && actor.chance(15) {
            let stall = actor.random.random_range(0..2_500);
            tokio::time::sleep(Duration::from_millis(stall)).await;
        }
        if actor.chance(4) {
            actor.note("crashes");
            return Ok(false);
        }
    }
}

/// All that lies between this batch and where it had come to was dropped, and it is told so.
fn check_gap(actor: &Actor, delivered: &Delivered, expected: &mut BTreeMap<u32, u64>) {
    actor.oracle.delivered(&actor.stream.name, &actor.who, None, delivered);
    let (partition, offset) = (delivered.partition.0, delivered.offset.0);
    let next = expected.entry(partition).or_default();
    let told = offset.saturating_sub(delivered.skipped);
    if told > *next {
        let skipped = delivered.skipped;
        actor.oracle.fail(format!("{}: offset {offset} of partition {partition} after {next}, told of {skipped} skipped", actor.who));
    }
    *next = offset + 1;
}

/// Looks whether that is so; seeks, or stays evicted. True: there is no more to come.
async fn evicted(actor: &mut Actor, client: &Client, name: &str, acked: &mut BTreeMap<u32, u64>) -> bool {
    let stream = actor.stream.name.clone();
    let asked_at = actor.oracle.clock.elapsed();
    let description = actor.describe(client).await;
    let found = description.subscriptions.iter().find(|one| one.subscription == name);
    // A coordinator that has crashed since may have forgotten it.
    let Some(found) = found.filter(|one| one.eviction.is_some()) else { return false };
    let places = found.partitions.iter().zip(&description.partitions);
    if places.clone().all(|(cursor, partition)| cursor.acked >= partition.start) {
        actor.oracle.fail(format!("{}: it was evicted, and had acked all that has gone", actor.who));
    }
    actor.oracle.evicted(&stream, name, asked_at);
    if !actor.oracle.has_writers(&stream) {
        return true;
    }
    if actor.chance(50) {
        actor.oracle.revives(&stream, name);
        actor.until_done("seek", || client.seek(&stream, name, &Start::Earliest, None, false)).await;
        actor.note("is back");
        // Whoever seeks knows where it is: behind all that is gone.
        let description = actor.describe(client).await;
        acked.extend(description.partitions.iter().map(|partition| (partition.partition, partition.end)));
    }
    false
}
