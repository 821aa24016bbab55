//! Descriptions and stats as dictionaries, with the names of `proto/`.

use bowstring::client::{Lag, PartitionLag, Reason, SubscriptionLag, Why};
use bowstring::wire::proto;
use bowstring::wire::schema::StreamSchema;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::arrow_ffi::SchemaCapsule;
use crate::errors::internal;

type Dict<'py> = PyResult<Bound<'py, PyDict>>;

macro_rules! dict {
    ($py:expr, $from:expr, { $($field:ident),* $(,)? }) => {{
        let dict = PyDict::new($py);
        $(dict.set_item(stringify!($field), $from.$field.clone())?;)*
        dict
    }};
}

fn list<'py, T>(py: Python<'py>, items: &[T], item: impl Fn(Python<'py>, &T) -> Dict<'py>) -> PyResult<Bound<'py, PyList>> {
    PyList::new(py, items.iter().map(|one| item(py, one)).collect::<PyResult<Vec<_>>>()?)
}

fn lower(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_lowercase()
}

pub(crate) fn description<'py>(py: Python<'py>, description: &proto::StreamDescription) -> Dict<'py> {
    let dict = dict!(py, description, {
    buffered_batches, buffered_bytes, epochs_aborted, epochs_committed, epochs_replayed, is_draining, is_durable, log_waits_for, log_waits_micros, logged_batches, logged_bytes, reason, schema_versions, spooled_batches, spooled_bytes, stream, stream_id,
    });
    dict.set_item("state", lower(description.state().as_str_name(), "STREAM_STATE_"))?;
    let options = description.options.unwrap_or_default();
    let shown = dict!(py, options, { partitions, max_buffered_batches, max_buffered_bytes, max_spool_bytes, max_disk_bytes, retain_ms, retain_bytes, max_wait_ms, resume_percent });
    shown.set_item("visibility", lower(options.visibility().as_str_name(), "VISIBILITY_"))?;
    shown.set_item("full_policy", lower(options.full_policy().as_str_name(), "FULL_POLICY_"))?;
    shown.set_item("schema_policy", lower(options.schema_policy().as_str_name(), "SCHEMA_POLICY_"))?;
    dict.set_item("options", shown)?;
    let schema = match description.schema.is_empty() {
        true => None,
        false => Some(SchemaCapsule(StreamSchema::parse(description.schema.clone()).map_err(internal)?.arrow().clone())),
    };
    dict.set_item("schema", schema.map(|schema| Py::new(py, schema)).transpose()?)?;
    dict.set_item("partitions", list(py, &description.partitions, partition)?)?;
    dict.set_item("subscriptions", list(py, &description.subscriptions, subscription)?)?;
    dict.set_item("producers", list(py, &description.producers, producer)?)?;
    dict.set_item("waiting", list(py, &description.waiting, |py, wait| Ok(dict!(py, wait, { producer, bytes, waiting_micros })))?)?;
    Ok(dict)
}

fn partition<'py>(py: Python<'py>, partition: &proto::PartitionDescription) -> Dict<'py> {
    Ok(dict!(py, partition, { partition, start, end, buffered_batches, buffered_bytes, rows_total, bytes_total, idle_micros }))
}

pub(crate) fn subscription<'py>(py: Python<'py>, subscription: &proto::SubscriptionDescription) -> Dict<'py> {
    let dict = dict!(py, subscription, { subscription, created_at_micros, failed_deliveries });
    dict.set_item("mode", lower(subscription.mode().as_str_name(), "SUBSCRIPTION_MODE_"))?;
    dict.set_item("on_overflow", lower(subscription.on_overflow().as_str_name(), "ON_OVERFLOW_"))?;
    let eviction = |eviction: proto::Eviction| Ok::<_, PyErr>(dict!(py, eviction, { at_micros, lag_batches, lag_bytes, needed_bytes }));
    dict.set_item("eviction", subscription.eviction.map(eviction).transpose()?)?;
    let sharing = |sharing: &proto::Sharing| Ok::<_, PyErr>(dict!(py, sharing, { max_deliveries, bisect, dead_letters, keys }));
    dict.set_item("sharing", subscription.sharing.as_ref().map(sharing).transpose()?)?;
    dict.set_item("query", Some(&subscription.query).filter(|query| !query.is_empty()))?;
    dict.set_item("dead_letters_wait_for", &subscription.dead_letters_wait_for)?;
    let place = |py: Python<'py>, place: &proto::SubscriptionPartition| {
        let dict = dict!(py, place, { partition, acked, planned, skipped, lag_batches, lag_rows, lag_bytes, lag_age_micros, held_micros, drain_micros });
        let shares = |shares: &proto::SharesDescription| {
            Ok::<_, PyErr>(dict!(py, shares, { given, leased, oldest_consumer_id, oldest_micros, waiting, dying, dying_micros }))
        };
        dict.set_item("shares", place.shares.as_ref().map(shares).transpose()?)?;
        Ok(dict)
    };
    dict.set_item("partitions", list(py, &subscription.partitions, place)?)?;
    dict.set_item("consumers", list(py, &subscription.consumers, consumer)?)?;
    Ok(dict)
}

fn consumer<'py>(py: Python<'py>, consumer: &proto::ConsumerDescription) -> Dict<'py> {
    let dict = dict!(py, consumer, { consumer, peer, reading_micros, consumer_id, lease_left_micros, in_flight_batches, in_flight_bytes, is_stalled });
    dict.set_item("partitions", list(py, &consumer.partitions, |py, one| Ok(dict!(py, one, { partition, sent })))?)?;
    Ok(dict)
}

pub(crate) fn why<'py>(py: Python<'py>, why: &Why) -> Dict<'py> {
    let dict = dict!(py, why, { stream });
    let reason = |py: Python<'py>, reason: &Reason| {
        let dict = dict!(py, reason, { waits, text });
        dict.set_item("cause", reason.cause.as_str())?;
        dict.set_item("since", reason.since.map(|since| since.as_secs_f64()))?;
        Ok(dict)
    };
    dict.set_item("reasons", list(py, &why.reasons, reason)?)?;
    Ok(dict)
}

pub(crate) fn lags<'py>(py: Python<'py>, lags: &[SubscriptionLag]) -> PyResult<Bound<'py, PyList>> {
    list(py, lags, |py, of| {
        let dict = dict!(py, of, { subscription });
        dict.set_item("total", lag(py, &of.total)?)?;
        let partition = |py: Python<'py>, one: &PartitionLag| {
            let dict = lag(py, &one.lag)?;
            dict.set_item("partition", one.partition)?;
            dict.set_item("acked", one.offset)?;
            dict.set_item("consumers", one.consumers.clone())?;
            Ok(dict)
        };
        dict.set_item("partitions", list(py, &of.partitions, partition)?)?;
        Ok(dict)
    })
}

fn lag<'py>(py: Python<'py>, lag: &Lag) -> Dict<'py> {
    let dict = dict!(py, lag, { batches, rows, bytes, skipped });
    dict.set_item("age", lag.age.as_secs_f64())?;
    dict.set_item("held", lag.held_for.as_secs_f64())?;
    dict.set_item("drains_in", lag.drains_in.map(|time| time.as_secs_f64()))?;
    Ok(dict)
}

fn producer<'py>(py: Python<'py>, producer: &proto::ProducerDescription) -> Dict<'py> {
    let dict = dict!(py, producer, { producer, run, committed_epoch, lost });
    let epoch = |py: Python<'py>, epoch: &proto::EpochDescription| {
        Ok(dict!(py, epoch, { epoch, open_micros, writers, staged_batches, staged_rows, staged_bytes }))
    };
    dict.set_item("epochs", list(py, &producer.epochs, epoch)?)?;
    Ok(dict)
}

pub(crate) fn stats<'py>(py: Python<'py>, stats: &proto::GetStatsResponse) -> Dict<'py> {
    let dict = dict!(py, stats, { uptime_micros, version, open_connections, open_unix_connections });
    dict.set_item("streams", list(py, &stats.streams, stream_stats)?)?;
    Ok(dict)
}

fn stream_stats<'py>(py: Python<'py>, stats: &proto::StreamStats) -> Dict<'py> {
    let dict = match &stats.description {
        Some(shown) => description(py, shown)?,
        None => PyDict::new(py),
    };
    let totals = dict!(py, stats, {
        appended_batches, appended_rows, appended_bytes, delivered_batches, delivered_rows, delivered_bytes, dropped_batches,
        producer_blocked_seconds, appenders, readers,
    });
    dict.update(totals.as_mapping())?;
    Ok(dict)
}
