//! `GET /api/v1/stream`: one stream, with everybody who uses it.

use std::sync::Arc;

use axum::extract::State;
use serde_json::{Value, json};

use super::super::access::Sight;
use super::super::cell::StreamCell;
use super::super::convert;
use super::Console;
use super::answer::{Answer, Found};
use super::digest::{Holds, lag_json, reason_json, reasons, state, totals_json};
use super::level::Level;
use super::query::Query;
use super::types;
use crate::engine::Timestamp;
use crate::wire::lag::Lag;
use crate::wire::proto::{
    ConsumerDescription, FullPolicy, OnOverflow, ProducerDescription, SchemaPolicy, StreamDescription, StreamOptions,
    SubscriptionDescription, SubscriptionMode, SubscriptionPartition, Visibility,
};

/// Producers, and consumers of a subscription, that are told one by one.
const NAMED_MAX: usize = 200;
/// Partitions that are told one by one.
const PARTITIONS_MAX: usize = 4096;

/// Answers with everything about it but its rows.
pub(super) async fn stream(State(console): State<Arc<Console>>, query: Query) -> Answer {
    let name = query.stream()?;
    query.caller.allow(Sight::Stream(name.as_str()))?;
    let cell = console.coordinator.get(&name)?;
    let may_peek = query.caller.may_peek(&name);
    let rates = console.history.lock().rates(cell.id());
    let mut found = tokio::task::spawn_blocking(move || json(&cell))
        .await
        .map_err(|error| super::super::error::Error::Task { reason: error.to_string() })?;
    found["at"] = console.coordinator.now().rfc3339().to_string().into();
    found["rates"] = rates.json();
    found["may_peek"] = may_peek.into();
    Ok(Found(found))
}

fn json(cell: &StreamCell) -> Value {
    let stream = convert::description(cell);
    let reasons = reasons(&stream);
    let counters = cell.counters();
    let delivered = counters.delivered_total();
    json!({
        "name": stream.stream,
        "id": format!("{:016x}", stream.stream_id),
        "state": state(&stream),
        "failure": stream.reason,
        "level": reasons.first().map_or(Level::Calm, |(level, _)| *level).as_str(),
        "reasons": reasons.iter().map(|(level, reason)| reason_json(*level, reason)).collect::<Vec<_>>(),
        "is_durable": stream.is_durable,
        "is_draining": stream.is_draining,
        "buffers": Holds::of(&stream).json(),
        "appended": totals_json(&cell.totals()),
        "delivered": { "batches": delivered.batches, "rows": delivered.rows, "bytes": delivered.bytes },
        "dropped_batches": counters.dropped_batches(),
        "dead_letters": counters.dead_letters(),
        "blocked_seconds": counters.blocked().as_secs_f64(),
        "open_appenders": counters.appenders(),
        "open_readers": counters.readers(),
        "epochs": { "committed": stream.epochs_committed, "aborted": stream.epochs_aborted, "replayed": stream.epochs_replayed },
        "options": stream.options.as_ref().map(options),
        "schema_versions": stream.schema_versions,
        "schema": cell.schema().map(|schema| types::schema(schema.arrow())),
        "partitions": partitions(&stream),
        "producers_total": stream.producers.len(),
        "producers": stream.producers.iter().take(NAMED_MAX).map(producer).collect::<Vec<_>>(),
        "waiting": stream.waiting.iter().take(NAMED_MAX).map(|wait| json!({
            "producer": wait.producer, "bytes": wait.bytes, "waiting_seconds": seconds(wait.waiting_micros),
        })).collect::<Vec<_>>(),
        "waiting_total": stream.waiting.len(),
        "subscriptions": stream.subscriptions.iter().map(subscription).collect::<Vec<_>>(),
    })
}

fn partitions(stream: &StreamDescription) -> Vec<Value> {
    let json = |partition: &crate::wire::proto::PartitionDescription| {
        json!({
            "partition": partition.partition,
            "start": partition.start,
            "end": partition.end,
            "buffered_batches": partition.buffered_batches,
            "buffered_bytes": partition.buffered_bytes,
            "rows": partition.rows_total,
            "bytes": partition.bytes_total,
            "idle_seconds": partition.idle_micros.map(seconds),
        })
    };
    stream.partitions.iter().take(PARTITIONS_MAX).map(json).collect()
}

fn producer(producer: &ProducerDescription) -> Value {
    let epoch = |epoch: &crate::wire::proto::EpochDescription| {
        json!({
            "epoch": epoch.epoch,
            "open_seconds": seconds(epoch.open_micros),
            "writers": epoch.writers,
            "staged": { "batches": epoch.staged_batches, "rows": epoch.staged_rows, "bytes": epoch.staged_bytes },
        })
    };
    json!({
        "name": producer.producer,
        "run": producer.run,
        "kind": kind(producer),
        "is_lost": producer.lost,
        "committed_epoch": producer.committed_epoch,
        "open_epochs": producer.epochs.iter().map(epoch).collect::<Vec<_>>(),
    })
}

/// Spark's queries and their runs have UUIDs for names, and its batches say so themselves; nobody else commits epochs under such names
/// unless asked to.
fn kind(producer: &ProducerDescription) -> &'static str {
    let is_uuid = |name: &str| uuid::Uuid::try_parse(name).is_ok();
    let has_epochs = producer.committed_epoch.is_some() || !producer.epochs.is_empty();
    if producer.producer.starts_with("dead-letters/") {
        "dead_letters"
    } else if has_epochs && (producer.producer.starts_with("spark-") || (is_uuid(&producer.producer) && is_uuid(&producer.run))) {
        "spark"
    } else {
        "producer"
    }
}

fn subscription(subscription: &SubscriptionDescription) -> Value {
    let mode = match subscription.mode() {
        SubscriptionMode::Static | SubscriptionMode::Unspecified => "static",
        SubscriptionMode::Partitioned => "partitioned",
        SubscriptionMode::Shared => "shared",
    };
    let shares = || subscription.partitions.iter().filter_map(|partition| partition.shares.as_ref());
    let pieces = (mode == "shared").then(|| {
        json!({
            "failed": subscription.failed_deliveries,
            "leased": shares().map(|shares| shares.leased).sum::<u64>(),
            "returned": shares().map(|shares| shares.waiting).sum::<u64>(),
            "dying": shares().map(|shares| shares.dying).sum::<u64>(),
        })
    });
    json!({
        "name": subscription.subscription,
        "mode": mode,
        "created_at": Timestamp(subscription.created_at_micros).rfc3339().to_string(),
        "lag": lag_json(&Lag::of(subscription)),
        "pieces": pieces,
        "dead_letters_to": subscription.sharing.as_ref().map(|sharing| &sharing.dead_letters),
        "dead_letters_wait_for": Some(&subscription.dead_letters_wait_for).filter(|why| !why.is_empty()),
        "max_deliveries": subscription.sharing.as_ref().and_then(|sharing| sharing.max_deliveries),
        "on_overflow": match subscription.on_overflow() {
            OnOverflow::Hold | OnOverflow::Unspecified => "hold",
            OnOverflow::Skip => "skip",
            OnOverflow::Evict => "evict",
        },
        "query": Some(&subscription.query).filter(|query| !query.is_empty()),
        "evicted_at": subscription.eviction.map(|eviction| Timestamp(eviction.at_micros).rfc3339().to_string()),
        "partitions": subscription.partitions.iter().take(PARTITIONS_MAX).map(place).collect::<Vec<_>>(),
        "consumers_total": subscription.consumers.len(),
        "consumers": subscription.consumers.iter().take(NAMED_MAX).map(consumer).collect::<Vec<_>>(),
    })
}

fn place(partition: &SubscriptionPartition) -> Value {
    let mut json = lag_json(&Lag::of_partition(partition));
    json["partition"] = partition.partition.into();
    json["acked"] = partition.acked.into();
    json
}

fn consumer(consumer: &ConsumerDescription) -> Value {
    json!({
        "name": consumer.consumer,
        "peer": consumer.peer,
        "reading_seconds": seconds(consumer.reading_micros),
        "lease_left_seconds": (consumer.consumer_id != 0).then(|| seconds(consumer.lease_left_micros)),
        "in_flight": { "batches": consumer.in_flight_batches, "bytes": consumer.in_flight_bytes },
        "is_stalled": consumer.is_stalled,
        "partitions": consumer.partitions.iter().map(|partition| partition.partition).collect::<Vec<_>>(),
    })
}

fn options(options: &StreamOptions) -> Value {
    json!({
        "partitions": options.partitions,
        "visibility": match options.visibility() {
            Visibility::Immediate => "immediate",
            Visibility::Committed | Visibility::Unspecified => "committed",
        },
        "full_policy": match options.full_policy() {
            FullPolicy::Wait | FullPolicy::Unspecified => "wait",
            FullPolicy::Reject => "reject",
            FullPolicy::DropOldest => "drop_oldest",
            FullPolicy::Spill => "spill",
        },
        "schema_policy": match options.schema_policy() {
            SchemaPolicy::Strict | SchemaPolicy::Unspecified => "strict",
            SchemaPolicy::Additive => "additive",
            SchemaPolicy::Widening => "widening",
        },
        "max_buffered_batches": options.max_buffered_batches,
        "max_buffered_bytes": options.max_buffered_bytes,
        "max_spool_bytes": options.max_spool_bytes,
        "max_disk_bytes": options.max_disk_bytes,
        "max_wait_ms": options.max_wait_ms,
        "resume_percent": options.resume_percent,
        "retain_ms": options.retain_ms,
        "retain_bytes": options.retain_bytes,
    })
}

fn seconds(micros: u64) -> f64 {
    std::time::Duration::from_micros(micros).as_secs_f64()
}
