//! What a coordinator says of its streams, as JSON with stable keys and as words.

use arrow::datatypes::SchemaRef;

use serde_json::{Value, json};

use super::overflow;
use super::quantity::{batches, bytes};
use crate::engine::SubscriptionMode;
use crate::wire::proto::{
    self, ConsumerDescription, FullPolicy, GetStatsResponse, PartitionDescription, ProducerDescription, SchemaPolicy, StreamDescription,
    StreamOptions, StreamState, StreamStats, SubscriptionDescription, Visibility, WaitDescription,
};
use crate::wire::schema::StreamSchema;

/// The stream's schema; none while no producer has given one.
pub(super) fn schema(stream: &StreamDescription) -> Option<SchemaRef> {
    let header = ::bytes::Bytes::copy_from_slice(&stream.schema);
    if header.is_empty() { None } else { StreamSchema::parse(header).ok().map(|schema| schema.arrow().clone()) }
}

/// "open", "completed" or "failed".
pub(super) fn state(stream: &StreamDescription) -> &'static str {
    match stream.state() {
        StreamState::Open | StreamState::Unspecified => "open",
        StreamState::Completed => "completed",
        StreamState::Failed => "failed",
    }
}

/// "committed" or "immediate".
pub(super) fn visibility(options: &StreamOptions) -> &'static str {
    match options.visibility() {
        Visibility::Committed | Visibility::Unspecified => "committed",
        Visibility::Immediate => "immediate",
    }
}

/// "wait", "reject", "drop_oldest" or "spill".
pub(super) fn full_policy(options: &StreamOptions) -> &'static str {
    match options.full_policy() {
        FullPolicy::Wait | FullPolicy::Unspecified => "wait",
        FullPolicy::Reject => "reject",
        FullPolicy::DropOldest => "drop_oldest",
        FullPolicy::Spill => "spill",
    }
}

/// "strict", "additive" or "widening".
pub(super) fn schema_policy(options: &StreamOptions) -> &'static str {
    match options.schema_policy() {
        SchemaPolicy::Strict | SchemaPolicy::Unspecified => "strict",
        SchemaPolicy::Additive => "additive",
        SchemaPolicy::Widening => "widening",
    }
}

/// "64 batches, 2.0 GiB in memory".
pub(super) fn limits(options: &StreamOptions) -> String {
    format!("{}, {} in memory", batches(options.max_buffered_batches()), bytes(options.max_buffered_bytes()))
}

/// A stream, as `stream describe --json` and `stream list --json` print it.
pub(super) fn stream_json(stream: &StreamDescription) -> Value {
    let options = stream.options.unwrap_or_default();
    json!({
        "stream": stream.stream,
        "stream_id": format!("{:016x}", stream.stream_id),
        "state": state(stream),
        "reason": (!stream.reason.is_empty()).then_some(&stream.reason),
        "options": {
            "partitions": options.partitions(),
            "max_buffered_batches": options.max_buffered_batches(),
            "max_buffered_bytes": options.max_buffered_bytes(),
            "max_spool_bytes": options.max_spool_bytes(),
            "max_disk_bytes": options.max_disk_bytes(),
            "retain_ms": options.retain_ms(),
            "retain_bytes": options.retain_bytes(),
            "visibility": visibility(&options),
            "full_policy": full_policy(&options),
            "max_wait_ms": options.max_wait_ms(),
            "resume_percent": options.resume_percent(),
            "schema_policy": schema_policy(&options),
        },
        "schema_versions": stream.schema_versions,
        "schema": schema(stream).map(|schema| schema_json(&schema)),
        "partitions": stream.partitions.iter().map(partition_json).collect::<Vec<_>>(),
        "subscriptions": stream.subscriptions.iter().map(subscription_json).collect::<Vec<_>>(),
        "producers": stream.producers.iter().map(producer_json).collect::<Vec<_>>(),
        "is_draining": stream.is_draining,
        "waiting": stream.waiting.iter().map(wait_json).collect::<Vec<_>>(),
        "buffered_batches": stream.buffered_batches,
        "buffered_bytes": stream.buffered_bytes,
        "spooled_batches": stream.spooled_batches,
        "spooled_bytes": stream.spooled_bytes,
        "is_durable": stream.is_durable,
        "logged_batches": stream.logged_batches,
        "logged_bytes": stream.logged_bytes,
        "log_waits_for": stream.log_waits_for,
        "log_waits_seconds": seconds(stream.log_waits_micros),
        "epochs_committed": stream.epochs_committed,
        "epochs_aborted": stream.epochs_aborted,
        "epochs_replayed": stream.epochs_replayed,
    })
}

/// All of it, as `stats --json` prints it.
pub(super) fn stats_json(stats: &GetStatsResponse) -> Value {
    json!({
        "version": stats.version,
        "uptime_seconds": seconds(stats.uptime_micros),
        "open_connections": stats.open_connections,
        "open_unix_connections": stats.open_unix_connections,
        "streams": stats.streams.iter().map(stream_stats_json).collect::<Vec<_>>(),
    })
}

fn stream_stats_json(stats: &StreamStats) -> Value {
    let mut all = stream_json(&stats.description.clone().unwrap_or_default());
    let totals = json!({
        "appended_batches": stats.appended_batches,
        "appended_rows": stats.appended_rows,
        "appended_bytes": stats.appended_bytes,
        "delivered_batches": stats.delivered_batches,
        "delivered_rows": stats.delivered_rows,
        "delivered_bytes": stats.delivered_bytes,
        "dropped_batches": stats.dropped_batches,
        "producer_blocked_seconds": stats.producer_blocked_seconds,
        "appenders": stats.appenders,
        "readers": stats.readers,
    });
    if let (Value::Object(all), Value::Object(totals)) = (&mut all, totals) {
        all.extend(totals);
    }
    all
}

fn schema_json(schema: &SchemaRef) -> Vec<Value> {
    let fields = schema.fields().iter();
    fields.map(|field| json!({"name": field.name(), "type": field.data_type().to_string(), "nullable": field.is_nullable()})).collect()
}

fn partition_json(partition: &PartitionDescription) -> Value {
    json!({
        "partition": partition.partition,
        "start": partition.start,
        "end": partition.end,
        "buffered_batches": partition.buffered_batches,
        "buffered_bytes": partition.buffered_bytes,
        "rows_total": partition.rows_total,
        "bytes_total": partition.bytes_total,
        "idle_seconds": partition.idle_micros.map(seconds),
    })
}

/// A subscription, as `subscription describe --json` and the like print it.
pub(super) fn subscription_json(subscription: &SubscriptionDescription) -> Value {
    let partitions = subscription.partitions.iter().map(|partition| {
        json!({
            "partition": partition.partition,
            "acked": partition.acked,
            "planned": partition.planned,
            "skipped": partition.skipped,
            "lag_batches": partition.lag_batches,
            "lag_rows": partition.lag_rows,
            "lag_bytes": partition.lag_bytes,
            "lag_seconds": seconds(partition.lag_age_micros),
            "held_seconds": seconds(partition.held_micros),
            "drain_seconds": partition.drain_micros.map(seconds),
        })
    });
    json!({
        "subscription": subscription.subscription,
        "mode": mode(subscription).as_str(),
        "sharing": subscription.sharing.as_ref().map(|sharing| sharing_json(sharing, &subscription.dead_letters_wait_for)),
        "on_overflow": overflow::name(subscription),
        "query": Some(&subscription.query).filter(|query| !query.is_empty()),
        "eviction": subscription.eviction.as_ref().map(overflow::eviction_json),
        "partitions": partitions.collect::<Vec<_>>(),
        "consumers": subscription.consumers.iter().map(consumer_json).collect::<Vec<_>>(),
    })
}

/// How its consumers divide its batches.
pub(super) fn mode(subscription: &SubscriptionDescription) -> SubscriptionMode {
    match subscription.mode() {
        proto::SubscriptionMode::Partitioned => SubscriptionMode::Partitioned,
        proto::SubscriptionMode::Shared => SubscriptionMode::Shared,
        proto::SubscriptionMode::Unspecified | proto::SubscriptionMode::Static => SubscriptionMode::Static,
    }
}

fn sharing_json(sharing: &proto::Sharing, waits_for: &str) -> Value {
    json!({
        "max_deliveries": sharing.max_deliveries,
        "bisect": sharing.bisect,
        "dead_letters": sharing.dead_letters,
        "dead_letters_wait_for": (!waits_for.is_empty()).then_some(waits_for),
        "keys": sharing.keys,
    })
}

fn consumer_json(consumer: &ConsumerDescription) -> Value {
    let is_joined = consumer.consumer_id != 0;
    json!({
        "consumer_id": is_joined.then(|| consumer.consumer_id.to_string()),
        "lease_left_seconds": is_joined.then(|| seconds(consumer.lease_left_micros)),
        "in_flight_batches": is_joined.then_some(consumer.in_flight_batches),
        "in_flight_bytes": is_joined.then_some(consumer.in_flight_bytes),
        "is_stalled": is_joined.then_some(consumer.is_stalled),
        "consumer": consumer.consumer,
        "peer": consumer.peer,
        "reading_seconds": seconds(consumer.reading_micros),
        "partitions": consumer.partitions.iter().map(|one| json!({"partition": one.partition, "sent": one.sent})).collect::<Vec<_>>(),
    })
}

fn producer_json(producer: &ProducerDescription) -> Value {
    let epochs = producer.epochs.iter().map(|epoch| {
        json!({
            "epoch": epoch.epoch,
            "open_seconds": seconds(epoch.open_micros),
            "writers": epoch.writers,
            "staged_batches": epoch.staged_batches,
            "staged_rows": epoch.staged_rows,
            "staged_bytes": epoch.staged_bytes,
        })
    });
    json!({
        "producer": producer.producer,
        "run": producer.run,
        "committed_epoch": producer.committed_epoch,
        "lost": producer.lost,
        "epochs": epochs.collect::<Vec<_>>(),
    })
}

fn wait_json(wait: &WaitDescription) -> Value {
    json!({"producer": wait.producer, "bytes": wait.bytes, "waiting_seconds": seconds(wait.waiting_micros)})
}

/// Microseconds as seconds.
pub(super) fn seconds(micros: u64) -> f64 {
    std::time::Duration::from_micros(micros).as_secs_f64()
}
