//! The reverse reader: Spark's source. Plans a range, reads it, writes it to its checkpoint, and acks it when it plans the next.

use std::collections::BTreeMap;
use std::time::Duration;

use bowstring::client::{Client, ConsumerOptions, Error, Offsets, ReadStart};
use bowstring::engine::{Offset, PartitionId, StreamId};
use rand::Rng;

use super::{Actor, subscription};

pub(super) async fn run(mut actor: Actor, client: Client, number: u64) {
    let name = subscription("reverse", number);
    let mut start = Offsets::new();
    loop {
        let has_writers = actor.oracle.has_writers(&actor.stream.name);
        let description = actor.describe(&client).await;
        let id = StreamId(description.stream_id);
        let mut end = Offsets::new();
        for partition in &description.partitions {
            let number = PartitionId(partition.partition);
            let from = *start.entry(number).or_default();
            // Spark's read limits: not always all that is there.
            let until = if actor.chance(70) { partition.end } else { actor.random.random_range(from.0..=partition.end.max(from.0)) };
            end.insert(number, Offset(until.max(from.0)));
        }
        if end == start {
            if !has_writers && actor.oracle.has_seen_all(&name, &description) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
            continue;
        }
        // What was read before is in the checkpoint.
        start.iter().for_each(|(partition, before)| actor.oracle.acks(&actor.stream.name, &name, partition.0, before.0));
        let stream = actor.stream.name.clone();
        actor.until_done("ack", || client.ack(&stream, &name, &start, Some(id))).await;
        actor.oracle.acked(&stream, &name, &start.iter().map(|(partition, before)| (partition.0, before.0)).collect());
        actor.until_done("plan", || client.plan(&stream, &name, &end, Some(id))).await;
        let first = read(&actor, &client, &name, &start, &end).await;
        if actor.chance(20) {
            actor.note("crashes before its checkpoint, and reads the range again");
            actor.pause(800).await;
            let second = read(&actor, &client, &name, &start, &end).await;
            if first != second {
                actor.oracle.fail(format!("{}: {start:?} to {end:?} was {first:?}, and is {second:?}", actor.who));
            }
        }
        start = end;
        actor.pause(400).await;
    }
}

/// All of a range: names by partition and offset.
async fn read(actor: &Actor, client: &Client, name: &str, start: &Offsets, end: &Offsets) -> BTreeMap<(u32, u64), String> {
    let once = || async {
        let options = ConsumerOptions {
            start: ReadStart::Offsets(start.clone()),
            end: Some(end.clone()),
            follow: false,
            consumer: Some(actor.who.clone()),
            ..ConsumerOptions::default()
        };
        let mut consumer = client.consumer(&actor.stream.name, options).await?;
        let mut found = BTreeMap::new();
        while let Some(delivered) = consumer.next(None).await? {
            let batch = actor.oracle.delivered(&actor.stream.name, &actor.who, Some(name), &delivered);
            found.insert((delivered.partition.0, delivered.offset.0), batch.unwrap_or_default());
        }
        Ok::<_, Error>(found)
    };
    let found = actor.until_done("read a range", once).await;
    let wanted: u64 = start.iter().map(|(partition, from)| end[partition].since(*from)).sum();
    if found.len() as u64 != wanted {
        actor.oracle.fail(format!("{}: {start:?} to {end:?} has {} batches", actor.who, found.len()));
    }
    found
}
