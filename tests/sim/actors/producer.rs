//! A direct producer: appends one batch after the other, crashes now and then, and goes on as a new run with the next batch.

use bowstring::client::{Client, Error, Producer, ProducerOptions};
use bowstring::engine::PartitionId;
use rand::Rng;

use super::Actor;
use crate::batches::{batch, user};

pub(super) async fn run(mut actor: Actor, client: Client, batches: u64) {
    let mut next = 0;
    let mut run = 0;
    while next < batches {
        let key = format!("{}.{run}", actor.who);
        run += 1;
        let options = ProducerOptions {
            producer: Some(actor.who.clone()),
            window_batches: [1, 4, 1024][actor.random.random_range(0..3)],
            ..ProducerOptions::default()
        };
        let mut producer = client.producer(&actor.stream.name, options).expect("a producer");
        let ended = appends(&mut actor, &mut producer, &key, &mut next, batches).await;
        actor.oracle.stored(&actor.stream.name, &key, producer.stored());
        match ended {
            Ok(()) => {}
            Err(error) => {
                actor.oracle.met(&actor.who, "append", &error);
                actor.pause(300).await;
            }
        }
    }
    actor.end_writing(&client).await;
}

/// Until all are stored, or the producer crashes.
async fn appends(actor: &mut Actor, producer: &mut Producer, key: &str, next: &mut u64, batches: u64) -> Result<(), Error> {
    let mut burst = actor.random.random_range(1..=actor.stream.burst_max);
    while *next < batches {
        let name = format!("{key}/{next}");
        let partition = actor.random.random_range(0..actor.stream.partitions);
        *next += 1;
        actor.oracle.sends(&actor.stream.name, key, name.clone(), partition);
        producer.append(&batch(&name), Some(PartitionId(partition)), user(&name)).await?;
        if actor.chance(10) {
            producer.flush().await?;
            actor.oracle.stored(&actor.stream.name, key, producer.stored());
        }
        if actor.chance(3) {
            actor.note("crashes");
            return Ok(());
        }
        burst = burst.saturating_sub(1);
        if burst == 0 {
            burst = actor.random.random_range(1..=actor.stream.burst_max);
            actor.pause(700).await;
        }
    }
    producer.flush().await?;
    actor.note(format!("stored {}", producer.stored()));
    Ok(())
}
