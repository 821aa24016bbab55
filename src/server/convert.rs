//! The engine's types to and from the messages of `proto/`.

use std::time::Duration;

use bytes::Bytes;

use super::cell::{ConsumerView, NamedWriter, StreamCell};
use super::error::Error;
use super::sharing::{shares_message, sharing_message};
use crate::engine::{
    Attempt, EpochState, FullPolicy, Limits, Offset, Outcome, PartitionId, ProducerView, Retention, SchemaPolicy, StreamOptions,
    StreamState, StreamView, SubscriptionMode, SubscriptionView, Task, Timestamp, Visibility,
};
use crate::wire::{self, proto};

/// What is left open takes the server's defaults.
pub(super) fn stream_options(asked: Option<&proto::StreamOptions>, defaults: &StreamOptions) -> StreamOptions {
    let Some(asked) = asked else { return defaults.clone() };
    StreamOptions {
        partitions: asked.partitions.unwrap_or(defaults.partitions),
        limits: Limits {
            max_buffered_batches: asked.max_buffered_batches.unwrap_or(defaults.limits.max_buffered_batches),
            max_buffered_bytes: asked.max_buffered_bytes.unwrap_or(defaults.limits.max_buffered_bytes),
            max_spool_bytes: asked.max_spool_bytes.unwrap_or(defaults.limits.max_spool_bytes),
            max_disk_bytes: asked.max_disk_bytes.unwrap_or(defaults.limits.max_disk_bytes),
        },
        visibility: match asked.visibility() {
            proto::Visibility::Unspecified => defaults.visibility,
            proto::Visibility::Committed => Visibility::Committed,
            proto::Visibility::Immediate => Visibility::Immediate,
        },
        full_policy: match asked.full_policy() {
            proto::FullPolicy::Unspecified => defaults.full_policy,
            proto::FullPolicy::Wait => FullPolicy::Wait,
            proto::FullPolicy::Reject => FullPolicy::Reject,
            proto::FullPolicy::DropOldest => FullPolicy::DropOldest,
            proto::FullPolicy::Spill => FullPolicy::Spill,
        },
        retention: Retention {
            time: asked.retain_ms.map_or(defaults.retention.time, Duration::from_millis),
            bytes: asked.retain_bytes.unwrap_or(defaults.retention.bytes),
        },
        max_wait: asked.max_wait_ms.map_or(defaults.max_wait, |ms| (ms > 0).then(|| Duration::from_millis(ms))),
        resume_percent: asked.resume_percent.unwrap_or(defaults.resume_percent),
        schema_policy: match asked.schema_policy() {
            proto::SchemaPolicy::Unspecified => defaults.schema_policy,
            proto::SchemaPolicy::Strict => SchemaPolicy::Strict,
            proto::SchemaPolicy::Additive => SchemaPolicy::Additive,
            proto::SchemaPolicy::Widening => SchemaPolicy::Widening,
        },
    }
}

fn options_message(options: &StreamOptions) -> proto::StreamOptions {
    let visibility = match options.visibility {
        Visibility::Committed => proto::Visibility::Committed,
        Visibility::Immediate => proto::Visibility::Immediate,
    };
    let full_policy = match options.full_policy {
        FullPolicy::Wait => proto::FullPolicy::Wait,
        FullPolicy::Reject => proto::FullPolicy::Reject,
        FullPolicy::DropOldest => proto::FullPolicy::DropOldest,
        FullPolicy::Spill => proto::FullPolicy::Spill,
    };
    let schema_policy = match options.schema_policy {
        SchemaPolicy::Strict => proto::SchemaPolicy::Strict,
        SchemaPolicy::Additive => proto::SchemaPolicy::Additive,
        SchemaPolicy::Widening => proto::SchemaPolicy::Widening,
    };
    proto::StreamOptions {
        partitions: Some(options.partitions),
        max_buffered_batches: Some(options.limits.max_buffered_batches),
        max_buffered_bytes: Some(options.limits.max_buffered_bytes),
        max_spool_bytes: Some(options.limits.max_spool_bytes),
        max_disk_bytes: Some(options.limits.max_disk_bytes),
        visibility: visibility.into(),
        full_policy: full_policy.into(),
        retain_ms: Some(u64::try_from(options.retention.time.as_millis()).unwrap_or(u64::MAX)),
        retain_bytes: Some(options.retention.bytes),
        max_wait_ms: Some(options.max_wait.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))),
        resume_percent: Some(options.resume_percent),
        schema_policy: schema_policy.into(),
    }
}

pub(super) fn description(cell: &StreamCell) -> proto::StreamDescription {
    let view = cell.describe();
    let consumers = cell.consumers();
    let (state, reason) = match &view.state {
        StreamState::Open => (proto::StreamState::Open, String::new()),
        StreamState::Completed => (proto::StreamState::Completed, String::new()),
        StreamState::Failed { reason } => (proto::StreamState::Failed, reason.to_string()),
    };
    proto::StreamDescription {
        stream: view.name.to_string(),
        stream_id: view.id.0,
        options: Some(options_message(cell.options())),
        schema: cell.schema().map_or_else(Bytes::new, |schema| schema.header().clone()),
        state: state.into(),
        reason,
        partitions: partitions(&view),
        subscriptions: view.subscriptions.iter().map(|view| subscription(cell, view, &consumers)).collect(),
        producers: view.producers.iter().map(producer).collect(),
        waiting: waiting(&view),
        buffered_batches: view.buffered_batches,
        buffered_bytes: view.buffered_bytes,
        spooled_batches: view.spooled_batches,
        spooled_bytes: view.spooled_bytes,
        epochs_committed: view.epochs_committed,
        epochs_aborted: view.epochs_aborted,
        epochs_replayed: view.epochs_replayed,
        is_durable: cell.log().is_some(),
        logged_batches: view.logged_batches,
        logged_bytes: view.logged_bytes,
        log_waits_for: cell.log().and_then(|log| log.waits_for()).map_or_else(String::new, |why| why.to_string()),
        log_waits_micros: cell.log().map_or(0, |log| micros(log.stuck_for())),
        is_draining: view.is_draining,
        schema_versions: cell.schema_versions(),
    }
}

fn partitions(view: &StreamView) -> Vec<proto::PartitionDescription> {
    let message = |partition: &crate::engine::PartitionView| proto::PartitionDescription {
        partition: partition.partition.0,
        start: partition.start.0,
        end: partition.end.0,
        buffered_batches: partition.buffered_batches,
        buffered_bytes: partition.buffered_bytes,
        rows_total: partition.rows_total,
        bytes_total: partition.bytes_total,
        idle_micros: partition.idle_for.map(micros),
    };
    view.partitions.iter().map(message).collect()
}

fn waiting(view: &StreamView) -> Vec<proto::WaitDescription> {
    let message = |wait: &crate::engine::WaitView| proto::WaitDescription {
        producer: wait.producer.to_string(),
        bytes: wait.bytes,
        waiting_micros: micros(wait.waiting_for),
    };
    view.waiting.iter().map(message).collect()
}

/// A subscription, with those of the stream's consumers that read for it.
pub(super) fn subscription(cell: &StreamCell, view: &SubscriptionView, consumers: &[ConsumerView]) -> proto::SubscriptionDescription {
    let partition = |partition: &crate::engine::SubscriptionPartitionView| proto::SubscriptionPartition {
        partition: partition.partition.0,
        acked: partition.acked.0,
        planned: partition.planned.0,
        skipped: partition.skipped,
        lag_batches: partition.lag_batches,
        lag_rows: partition.lag_rows,
        lag_bytes: partition.lag_bytes,
        lag_age_micros: micros(partition.lag_age),
        held_micros: micros(partition.held_for),
        drain_micros: partition.drains_in.map(micros),
        shares: partition.shares.as_ref().map(shares_message),
    };
    let own = || consumers.iter().filter(|consumer| consumer.name.subscription.as_ref() == Some(&view.name));
    let joined =
        |joined: &crate::engine::ConsumerView| joined_consumer(joined, own().find(|own| own.name.consumer_id == Some(joined.consumer)));
    let is_dying = view.partitions.iter().any(|partition| partition.shares.as_ref().is_some_and(|shares| shares.dying > 0));
    proto::SubscriptionDescription {
        subscription: view.name.to_string(),
        partitions: view.partitions.iter().map(partition).collect(),
        created_at_micros: view.created_at.0,
        consumers: match view.mode {
            SubscriptionMode::Static => own().map(consumer).collect(),
            SubscriptionMode::Partitioned | SubscriptionMode::Shared => view.consumers.iter().map(joined).collect(),
        },
        generation: view.generation.0,
        mode: mode_message(view.mode).into(),
        sharing: view.sharing.as_ref().map(sharing_message),
        failed_deliveries: view.failed_deliveries,
        dead_letters_wait_for: if is_dying { cell.burial_trouble(&view.name).unwrap_or_default() } else { String::new() },
        on_overflow: wire::overflow::message(view.on_overflow).into(),
        eviction: view.eviction.map(wire::overflow::eviction_message),
        query: view.query.as_deref().unwrap_or_default().to_owned(),
        // See `queries::describe`: it may have to be planned.
        query_schema: Bytes::new(),
    }
}

fn consumer(view: &ConsumerView) -> proto::ConsumerDescription {
    let sent = view.sent.iter().map(|(partition, sent)| proto::ConsumerPartition { partition: partition.0, sent: sent.0 });
    proto::ConsumerDescription {
        consumer: view.name.consumer.as_ref().map(ToString::to_string).unwrap_or_default(),
        peer: view.name.peer.clone(),
        reading_micros: micros(view.reading_for),
        partitions: sent.collect(),
        ..proto::ConsumerDescription::default()
    }
}

/// A consumer that has joined, and the reader by which it reads at the moment.
fn joined_consumer(view: &crate::engine::ConsumerView, reader: Option<&ConsumerView>) -> proto::ConsumerDescription {
    let sent = view.partitions.iter().map(|(partition, sent)| proto::ConsumerPartition { partition: partition.0, sent: sent.0 });
    proto::ConsumerDescription {
        consumer: view.name.to_string(),
        peer: reader.map(|reader| reader.name.peer.clone()).unwrap_or_default(),
        reading_micros: micros(view.joined_for),
        partitions: sent.collect(),
        consumer_id: view.consumer.0,
        lease_left_micros: micros(view.lease_left),
        in_flight_batches: view.in_flight_batches,
        in_flight_bytes: view.in_flight_bytes,
        is_stalled: view.is_stalled,
    }
}

fn mode_message(mode: SubscriptionMode) -> proto::SubscriptionMode {
    match mode {
        SubscriptionMode::Static => proto::SubscriptionMode::Static,
        SubscriptionMode::Partitioned => proto::SubscriptionMode::Partitioned,
        SubscriptionMode::Shared => proto::SubscriptionMode::Shared,
    }
}

/// What a subscription is asked to be, if anything.
pub(super) fn mode(mode: i32) -> Result<Option<SubscriptionMode>, Error> {
    match proto::SubscriptionMode::try_from(mode) {
        Ok(proto::SubscriptionMode::Unspecified) => Ok(None),
        Ok(proto::SubscriptionMode::Static) => Ok(Some(SubscriptionMode::Static)),
        Ok(proto::SubscriptionMode::Partitioned) => Ok(Some(SubscriptionMode::Partitioned)),
        Ok(proto::SubscriptionMode::Shared) => Ok(Some(SubscriptionMode::Shared)),
        Err(_) => {
            let reason = format!("{mode} is none that this coordinator knows; use static, partitioned or shared, or a newer coordinator");
            Err(Error::InvalidArgument { field: "mode", reason })
        }
    }
}

fn producer(view: &ProducerView) -> proto::ProducerDescription {
    let epoch = |epoch: &crate::engine::EpochView| proto::EpochDescription {
        epoch: epoch.epoch.0,
        open_micros: micros(epoch.open_for),
        writers: epoch.writers,
        staged_batches: epoch.staged_batches,
        staged_rows: epoch.staged_rows,
        staged_bytes: epoch.staged_bytes,
    };
    proto::ProducerDescription {
        producer: view.producer.to_string(),
        run: view.run.to_string(),
        committed_epoch: view.committed.map(|epoch| epoch.0),
        lost: view.lost,
        epochs: view.epochs.iter().map(epoch).collect(),
    }
}

pub(super) fn stats(cell: &StreamCell) -> proto::StreamStats {
    let description = description(cell);
    let sum = |value: fn(&proto::PartitionDescription) -> u64| description.partitions.iter().map(value).sum();
    let delivered = cell.counters().delivered_total();
    proto::StreamStats {
        appended_batches: sum(|partition| partition.end),
        appended_rows: sum(|partition| partition.rows_total),
        appended_bytes: sum(|partition| partition.bytes_total),
        delivered_batches: delivered.batches,
        delivered_rows: delivered.rows,
        delivered_bytes: delivered.bytes,
        dropped_batches: cell.counters().dropped_batches(),
        producer_blocked_seconds: cell.counters().blocked().as_secs_f64(),
        appenders: cell.counters().appenders(),
        readers: cell.counters().readers(),
        description: Some(description),
    }
}

pub(super) fn offsets(offsets: &[proto::PartitionOffset]) -> Vec<(PartitionId, Offset)> {
    offsets.iter().map(|offset| (PartitionId(offset.partition), Offset(offset.offset))).collect()
}

/// The writers that a commit's receipts name, if they are of this stream and of the epoch.
pub(super) fn receipts(cell: &StreamCell, epoch: u64, receipts: &[proto::Receipt]) -> Result<Vec<NamedWriter>, Error> {
    let receipt = |receipt: &proto::Receipt| {
        cell.check_id(Some(crate::engine::StreamId(receipt.stream_id)))?;
        if receipt.epoch != epoch {
            let reason = format!("one of them is of epoch {}, but epoch {epoch} is to be committed; name its own", receipt.epoch);
            return Err(Error::InvalidArgument { field: "receipts", reason });
        }
        let opened_at = (receipt.opened_at_micros > 0).then_some(Timestamp(receipt.opened_at_micros));
        Ok(NamedWriter { task: Task(receipt.task), attempt: Attempt(receipt.attempt), opened_at })
    };
    receipts.iter().map(receipt).collect()
}

pub(super) fn epoch_response(cell: &StreamCell, outcome: &Outcome) -> Result<proto::EpochResponse, Error> {
    let Outcome::Epoch(state) = outcome else { return Err(Error::unexpected(outcome)) };
    let state = match state {
        EpochState::Open => proto::EpochState::Open,
        EpochState::Committed => proto::EpochState::Committed,
        EpochState::AlreadyCommitted => proto::EpochState::AlreadyCommitted,
        EpochState::Aborted => proto::EpochState::Aborted,
    };
    Ok(proto::EpochResponse { state: state.into(), stream_id: cell.id().0 })
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
