//! One of several consumers that share a subscription by leases: joins, works, stalls, leaves, crashes, and joins again, until all of
//! it together has been seen.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bowstring::client::{Client, Consumer, ConsumerOptions, Delivered, Error};
use bowstring::engine::{Code, InFlight, LeaseId, Offset, PartitionId, SubscriptionMode};
use rand::Rng;

use super::Actor;

/// The subscription that they share.
pub(crate) const TEAM: &str = "team";
/// How long it waits for a batch before it looks whether there is more to come.
const PATIENCE: Duration = Duration::from_millis(900);
/// Some are lost over what goes wrong, and all of who has crashed.
const LEASE: Duration = Duration::from_millis(1_500);
/// How often it begins again, so that it comes to an end.
const LIVES_MAX: u32 = 8;

/// What it has of each partition: by which lease, and one past the last batch.
type Has = BTreeMap<u32, (LeaseId, u64)>;

pub(super) async fn run(mut actor: Actor, client: Client, _number: u64) {
    let mut lives = 0;
    loop {
        actor.describe(&client).await;
        let in_flight = InFlight { batches: if actor.chance(30) { 2 } else { u64::MAX }, bytes: u64::MAX };
        let options = ConsumerOptions {
            subscription: Some(TEAM.to_owned()),
            consumer: Some(actor.who.clone()),
            mode: Some(SubscriptionMode::Partitioned),
            lease: LEASE,
            in_flight,
            ..ConsumerOptions::default()
        };
        lives += 1;
        let who = format!("{}/{lives}", actor.who);
        match life(&mut actor, &client, &who, options, lives < LIVES_MAX).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => actor.oracle.met(&actor.who, "read", &error),
        }
        actor.oracle.leaves_team(&actor.stream.name, &who);
        actor.pause(500).await;
    }
}

/// From joining to a crash, to leaving, or to the end: true.
async fn life(actor: &mut Actor, client: &Client, who: &str, options: ConsumerOptions, is_mortal: bool) -> Result<bool, Error> {
    let mut consumer = client.consumer(&actor.stream.name, options).await?;
    let (mut has, mut acked) = (Has::new(), Acked::default());
    loop {
        let deadline = (tokio::time::Instant::now() + PATIENCE).into_std();
        match consumer.next(Some(deadline)).await {
            Ok(Some(delivered)) => {
                actor.oracle.delivered(&actor.stream.name, who, Some(TEAM), &delivered);
                actor.oracle.given(&actor.stream.name, who, &delivered);
                note(&mut has, &delivered);
                if actor.chance(60) {
                    ack(actor, &mut consumer, &mut acked, delivered.partition.0, &has)?;
                }
            }
            Ok(None) => {
                for partition in has.clone().keys() {
                    ack(actor, &mut consumer, &mut acked, *partition, &has)?;
                }
                return finish(actor, client, &mut consumer, &mut acked).await;
            }
            Err(error) if error.code() == Code::Timeout => {
                // It is done with what it has: more may wait for that.
                for partition in has.clone().keys() {
                    ack(actor, &mut consumer, &mut acked, *partition, &has)?;
                }
                let has_writers = actor.oracle.has_writers(&actor.stream.name);
                if !has_writers && finish(actor, client, &mut consumer, &mut acked).await? {
                    return Ok(true);
                }
            }
            Err(error) => return Err(error),
        }
        if actor.chance(10) {
            flush(actor, &mut consumer, &mut acked).await?;
        }
        if actor.chance(5) {
            // Its signs of life come from elsewhere: it may work for longer than its lease lasts.
            let stall = actor.random.random_range(0..3_000);
            tokio::time::sleep(Duration::from_millis(stall)).await;
        }
        if is_mortal && actor.chance(3) {
            actor.note("crashes");
            consumer.crash();
            return Ok(false);
        }
        if is_mortal && actor.chance(2) {
            actor.note("leaves");
            return consumer.close().await.map(|()| false);
        }
    }
}

fn note(has: &mut Has, delivered: &Delivered) {
    let lease = delivered.lease.expect("it shares by leases");
    has.insert(delivered.partition.0, (lease, delivered.offset.0 + 1));
}

/// What was acked since the last flush.
#[derive(Default)]
struct Acked {
    offsets: BTreeMap<u32, u64>,
    /// Partitions that somebody else had been given by a newer lease already.
    in_vain: BTreeSet<u32>,
}

fn ack(actor: &Actor, consumer: &mut Consumer, acked: &mut Acked, partition: u32, has: &Has) -> Result<(), Error> {
    let (lease, before) = has[&partition];
    actor.oracle.acks(&actor.stream.name, TEAM, partition, before);
    let is_in_vain = actor.oracle.is_superseded(&actor.stream.name, partition, lease);
    consumer.ack_by(PartitionId(partition), Offset(before), Some(lease))?;
    acked.offsets.insert(partition, before);
    match is_in_vain {
        true => acked.in_vain.insert(partition),
        false => acked.in_vain.remove(&partition),
    };
    Ok(())
}

/// What is acked by leases that were lost is not acked, and that is said.
async fn flush(actor: &Actor, consumer: &mut Consumer, acked: &mut Acked) -> Result<(), Error> {
    match consumer.flush_acks().await {
        Ok(()) if acked.in_vain.is_empty() => actor.oracle.acked(&actor.stream.name, TEAM, &acked.offsets),
        Ok(()) => actor.oracle.fail(format!("{}: acks by lost leases were taken: {:?}", actor.who, acked.in_vain)),
        Err(error) if error.code() == Code::LeaseLost => actor.note(format!("has lost leases: {error}")),
        Err(error) => return Err(error),
    }
    *acked = Acked::default();
    Ok(())
}

/// Whether all have seen together what there is by now.
async fn finish(actor: &mut Actor, client: &Client, consumer: &mut Consumer, acked: &mut Acked) -> Result<bool, Error> {
    flush(actor, consumer, acked).await?;
    let description = actor.describe(client).await;
    Ok(actor.oracle.has_seen_all(TEAM, &description))
}
