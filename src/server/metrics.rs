//! `/metrics`: made at each scrape from the streams as they are, so that a deleted stream's series end.

use std::sync::atomic::Ordering::Relaxed;

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};

use super::access::{Access, Flow};
use super::cell::StreamCell;
use super::connections::{ConnectionCounters, NotLetIn};
use super::coordinator::Coordinator;
use super::counters::{LATENCY_BOUNDS, LatencyView};
use super::disks::Room;
use super::http::is_ready;
use super::process;
use crate::engine::{StreamView, SubscriptionPartitionView};

/// What kind of number a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by bucket.
    Histogram,
}

/// A metric's name, kind and meaning.
#[derive(Debug, Clone, Copy)]
pub struct MetricDoc {
    /// The name, with its unit.
    pub name: &'static str,
    /// The kind.
    pub kind: MetricKind,
    /// The meaning.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($id:ident = $kind:ident $name:literal $help:literal;)*) => {
        $(const $id: MetricDoc = MetricDoc { name: $name, kind: MetricKind::$kind, help: $help };)*

        /// Every metric that `/metrics` may show. Names are an interface: a change is noted in the changelog.
        pub const METRICS: &[MetricDoc] = &[$($id,)*];
    };
}

metrics! {
    AUDIT_WRITTEN = Counter "bowstring_audit_written_total" "Lines of the audit log that were written";
    AUDIT_DROPPED = Counter "bowstring_audit_dropped_total" "Lines of the audit log that found no room, or no disk that takes them";
    BUFFERED_BATCHES = Gauge "bowstring_buffered_batches" "Batches in memory: staged, reserved and visible";
    BUFFERED_BYTES = Gauge "bowstring_buffered_bytes" "Bytes in memory";
    BATCHES_LIMIT = Gauge "bowstring_buffered_batches_limit" "max_buffered_batches of the stream";
    BYTES_LIMIT = Gauge "bowstring_buffered_bytes_limit" "max_buffered_bytes of the stream";
    SPOOLED_BATCHES = Gauge "bowstring_spooled_batches" "Batches in the spool";
    SPOOLED_BYTES = Gauge "bowstring_spooled_bytes" "Bytes in the spool";
    SPOOL_LIMIT = Gauge "bowstring_spooled_bytes_limit" "max_spool_bytes of the stream";
    LOGGED_BATCHES = Gauge "bowstring_logged_batches" "Batches in the log of a durable stream, staged and visible";
    LOGGED_BYTES = Gauge "bowstring_logged_bytes" "Bytes in the log";
    LOG_LIMIT = Gauge "bowstring_logged_bytes_limit" "max_disk_bytes of the stream";
    LOG_STALLED = Gauge "bowstring_log_stalled" "1 while the log does not go on: the disk is full or has failed";
    PARTITION_BATCHES = Gauge "bowstring_partition_buffered_batches" "Visible batches in memory, by partition";
    PARTITION_BYTES = Gauge "bowstring_partition_buffered_bytes" "Bytes of visible batches in memory, by partition";
    APPENDED_BATCHES = Counter "bowstring_appended_batches_total" "Batches that became visible";
    APPENDED_ROWS = Counter "bowstring_appended_rows_total" "Rows that became visible";
    APPENDED_BYTES = Counter "bowstring_appended_bytes_total" "Bytes that became visible";
    DELIVERED_BATCHES = Counter "bowstring_delivered_batches_total" "Batches sent to consumers; one that is sent twice counts twice";
    DELIVERED_ROWS = Counter "bowstring_delivered_rows_total" "Rows sent to consumers";
    DELIVERED_BYTES = Counter "bowstring_delivered_bytes_total" "Bytes sent to consumers";
    ACKED_BATCHES = Counter "bowstring_acked_batches_total" "Batches before the subscription's cursor";
    ACKED_ROWS = Counter "bowstring_acked_rows_total" "Rows before the subscription's cursor";
    ACKED_BYTES = Counter "bowstring_acked_bytes_total" "Bytes before the subscription's cursor";
    LAG_BATCHES = Gauge "bowstring_subscription_lag_batches" "Visible batches that the subscription has not acked";
    LAG_ROWS = Gauge "bowstring_subscription_lag_rows" "Rows that the subscription has not acked";
    LAG_BYTES = Gauge "bowstring_subscription_lag_bytes" "Bytes that the subscription has not acked";
    LAG_SECONDS = Gauge "bowstring_subscription_lag_seconds" "Age of the oldest batch that the subscription has not acked";
    HELD_SECONDS = Gauge "bowstring_subscription_held_seconds" "How long the subscription could have acked that batch: since it became visible or the cursor last moved, whichever was later";
    SKIPPED_BATCHES = Counter "bowstring_subscription_skipped_batches_total" "Batches that were dropped before the subscription had acked them";
    EVICTED = Gauge "bowstring_subscription_evicted" "1 while the subscription is evicted: it held room that was needed, and was to be evicted then";
    LEASES = Gauge "bowstring_subscription_leases" "Of a shared subscription: parts of batches that consumers have";
    RETURNED = Gauge "bowstring_subscription_returned" "Of a shared subscription: parts of batches that came back, and wait for a consumer";
    FAILED_DELIVERIES = Counter "bowstring_subscription_failed_deliveries_total" "Of a shared subscription: deliveries that failed; what they had comes again, or goes to the dead letters";
    DYING = Gauge "bowstring_subscription_dying" "Of a shared subscription: parts of batches that failed too often, and are to go to the dead letters";
    DEAD_LETTERS = Counter "bowstring_dead_letters_total" "Parts of the stream's batches that went to dead letters";
    EPOCHS_COMMITTED = Counter "bowstring_epochs_committed_total" "Epochs committed";
    EPOCHS_ABORTED = Counter "bowstring_epochs_aborted_total" "Epochs aborted, by their producer or by its newer run";
    EPOCHS_REPLAYED = Counter "bowstring_epochs_replayed_total" "Epochs opened or committed again after their commit, which changed nothing";
    BLOCKED_SECONDS = Counter "bowstring_producer_blocked_seconds_total" "Time that producers have waited for room; a wait counts when it ends";
    WAITING = Gauge "bowstring_waiting_appenders" "Appenders that wait for room";
    APPENDERS = Gauge "bowstring_open_appenders" "DoPut calls that are open";
    READERS = Gauge "bowstring_open_readers" "DoGet calls that are open";
    LATENCY = Histogram "bowstring_delivery_latency_seconds" "Time from append to delivery";
    READY = Gauge "bowstring_ready" "1 while /readyz answers 200: new work is taken";
    BUILD = Gauge "bowstring_build_info" "Always 1; the label says which version it is";
    CONNECTIONS = Gauge "bowstring_open_connections" "Connections to the data and control plane";
    CONNECTIONS_LIMIT = Gauge "bowstring_open_connections_limit" "connections_max: further connections wait until one ends";
    DISK_FREE = Gauge "bowstring_disk_free_bytes" "Bytes that may still be written to the disk of data_dir or spool_dir, spool_reserve_bytes of them never";
    UNIX_CONNECTIONS = Gauge "bowstring_open_unix_connections" "Those of bowstring_open_connections that came by the Unix socket";
    REFUSED = Counter "bowstring_connections_refused_total" "Connections that were refused at any port, by reason: no_descriptors, full, peer_limit, silent, not_tls, handshake";
    TLS_RELOADS = Counter "bowstring_tls_reloads_total" "How often the files of TLS had changed, by result: used, or failed, and what was there before goes on";
    TLS_END = Gauge "bowstring_tls_certificate_not_after_seconds" "When the server's certificate ends, in seconds since 1970";
    LINKS = Gauge "bowstring_shared_memory_links" "Connections of clients over which shared memory goes";
    LENT_BYTES = Gauge "bowstring_shared_memory_lent_bytes" "Size of the arenas in shared memory that producers lend or batches lie in; they take memory only where they are used";
    LOOKED_AT_BYTES = Gauge "bowstring_shared_memory_looked_at_bytes" "Bytes in shared memory that consumers look at, acked or not";
    SLOWED = Counter "bowstring_quota_slowed_seconds_total" "Time that calls have waited because their principal's quota was used up; a wait counts when it ends";
    ERRORS = Counter "bowstring_errors_total" "Errors given to clients, by code";
    UPTIME = Gauge "bowstring_uptime_seconds" "Time since the coordinator was started";
    PROCESS_CPU = Counter "process_cpu_seconds_total" "CPU time that the process has used, in user and system mode";
    PROCESS_MEMORY = Gauge "process_resident_memory_bytes" "Memory of the process that is resident";
    PROCESS_FILES = Gauge "process_open_fds" "Files, sockets and pipes that the process has open";
    PROCESS_FILES_LIMIT = Gauge "process_max_fds" "How many it may have open";
    PROCESS_THREADS = Gauge "process_threads" "Threads of the process";
}

/// Everything in Prometheus' text format.
///
/// # Errors
/// The encoder's.
pub(super) fn render(coordinator: &Coordinator, room: &Room) -> prometheus::Result<String> {
    let mut scrape = Scrape::default();
    scrape.add(READY, &[], count(u64::from(is_ready(coordinator))));
    scrape.add(BUILD, &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    scrape.add_connections(coordinator.connections());
    scrape.add_if_known(DISK_FREE, &[("dir", "data_dir")], room.data);
    scrape.add_if_known(DISK_FREE, &[("dir", "spool_dir")], room.spool);
    let shared_memory = coordinator.shared_memory();
    scrape.add(LINKS, &[], count(shared_memory.links));
    scrape.add(LENT_BYTES, &[], count(shared_memory.lent_bytes));
    scrape.add(LOOKED_AT_BYTES, &[], count(shared_memory.looked_at_bytes));
    scrape.add(UPTIME, &[], coordinator.uptime().as_secs_f64());
    scrape.add(PROCESS_CPU, &[], process::cpu_time().as_secs_f64());
    scrape.add_if_known(PROCESS_MEMORY, &[], process::resident_bytes());
    scrape.add_if_known(PROCESS_FILES, &[], process::open_descriptors());
    scrape.add_if_known(PROCESS_FILES_LIMIT, &[], process::descriptors_max());
    scrape.add_if_known(PROCESS_THREADS, &[], process::threads());
    let audited = coordinator.access().and_then(|access| access.audit_counters());
    scrape.add(AUDIT_WRITTEN, &[], count(audited.map_or(0, |counters| counters.written.load(Relaxed))));
    scrape.add(AUDIT_DROPPED, &[], count(audited.map_or(0, |counters| counters.dropped.load(Relaxed))));
    scrape.add_slowed(coordinator.access().map(AsRef::as_ref));
    for (code, total) in coordinator.errors().totals() {
        scrape.add(ERRORS, &[("code", code.as_str())], count(total));
    }
    for cell in coordinator.list() {
        scrape.add_stream(&cell);
    }
    let mut text = Vec::new();
    TextEncoder::new().encode(&scrape.families(), &mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Series by metric, in the order of [`METRICS`].
#[derive(Default)]
struct Scrape(std::collections::BTreeMap<&'static str, Vec<Metric>>);

type Labels<'a> = &'a [(&'a str, &'a str)];

impl Scrape {
    fn add(&mut self, doc: MetricDoc, labels: Labels<'_>, value: f64) {
        let mut metric = labelled(labels);
        if doc.kind == MetricKind::Counter {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.0.entry(doc.name).or_default().push(metric);
    }

    fn add_if_known(&mut self, doc: MetricDoc, labels: Labels<'_>, value: Option<u64>) {
        if let Some(value) = value {
            self.add(doc, labels, count(value));
        }
    }

    fn add_connections(&mut self, connections: &ConnectionCounters) {
        self.add(CONNECTIONS, &[], count(connections.open()));
        self.add_if_known(CONNECTIONS_LIMIT, &[], connections.open_max());
        self.add(UNIX_CONNECTIONS, &[], count(connections.open_unix()));
        for refusal in NotLetIn::ALL {
            self.add(REFUSED, &[("reason", refusal.as_str())], count(connections.refused(refusal)));
        }
        if let Some(end) = connections.certificate_end() {
            let (used, failed) = connections.reloads();
            self.add(TLS_RELOADS, &[("result", "used")], count(used));
            self.add(TLS_RELOADS, &[("result", "failed")], count(failed));
            self.add(TLS_END, &[], seconds(end));
        }
    }

    fn add_slowed(&mut self, access: Option<&Access>) {
        let Some(access) = access else {
            for flow in Flow::ALL {
                self.add(SLOWED, &[("principal", Access::OTHERS), ("quota", flow.as_str())], 0.0);
            }
            return;
        };
        for (principal, flow, slowed) in access.slowed() {
            self.add(SLOWED, &[("principal", principal), ("quota", flow.as_str())], slowed.as_secs_f64());
        }
    }

    fn add_stream(&mut self, cell: &StreamCell) {
        let view = cell.describe();
        let stream = [("stream", view.name.as_str())];
        self.add_totals(&view, &stream);
        let counters = cell.counters();
        self.add(BLOCKED_SECONDS, &stream, counters.blocked().as_secs_f64());
        self.add(APPENDERS, &stream, count(counters.appenders()));
        self.add(READERS, &stream, count(counters.readers()));
        self.add(DEAD_LETTERS, &stream, count(counters.dead_letters()));
        let mut latency = labelled(&stream);
        latency.set_histogram(histogram(&counters.latency()));
        self.0.entry(LATENCY.name).or_default().push(latency);
        for (partition, totals) in counters.delivered() {
            let partition = partition.to_string();
            let labels = [stream[0], ("partition", partition.as_str())];
            self.add(DELIVERED_BATCHES, &labels, count(totals.batches));
            self.add(DELIVERED_ROWS, &labels, count(totals.rows));
            self.add(DELIVERED_BYTES, &labels, count(totals.bytes));
        }
        self.add(LOG_STALLED, &stream, count(u64::from(cell.log().is_some_and(|log| log.waits_for().is_some()))));
        self.add_partitions(&view);
        for subscription in &view.subscriptions {
            let labels = [stream[0], ("subscription", subscription.name.as_str())];
            self.add(EVICTED, &labels, count(u64::from(subscription.eviction.is_some())));
            self.add(FAILED_DELIVERIES, &labels, count(subscription.failed_deliveries));
            let shares = || subscription.partitions.iter().filter_map(|partition| partition.shares.as_ref());
            self.add(LEASES, &labels, count(shares().map(|shares| shares.leased).sum()));
            self.add(RETURNED, &labels, count(shares().map(|shares| shares.waiting).sum()));
            self.add(DYING, &labels, count(shares().map(|shares| shares.dying).sum()));
        }
    }

    fn add_totals(&mut self, view: &StreamView, stream: Labels<'_>) {
        for (doc, value) in [
            (BUFFERED_BATCHES, view.buffered_batches),
            (BUFFERED_BYTES, view.buffered_bytes),
            (BATCHES_LIMIT, view.limits.max_buffered_batches),
            (BYTES_LIMIT, view.limits.max_buffered_bytes),
            (SPOOLED_BATCHES, view.spooled_batches),
            (SPOOLED_BYTES, view.spooled_bytes),
            (SPOOL_LIMIT, view.limits.max_spool_bytes),
            (LOGGED_BATCHES, view.logged_batches),
            (LOGGED_BYTES, view.logged_bytes),
            (LOG_LIMIT, view.limits.max_disk_bytes),
            (EPOCHS_COMMITTED, view.epochs_committed),
            (EPOCHS_ABORTED, view.epochs_aborted),
            (EPOCHS_REPLAYED, view.epochs_replayed),
            (WAITING, view.waiting.len() as u64),
        ] {
            self.add(doc, stream, count(value));
        }
    }

    fn add_partitions(&mut self, view: &StreamView) {
        for partition in &view.partitions {
            let number = partition.partition.to_string();
            let labels = [("stream", view.name.as_str()), ("partition", number.as_str())];
            self.add(PARTITION_BATCHES, &labels, count(partition.buffered_batches));
            self.add(PARTITION_BYTES, &labels, count(partition.buffered_bytes));
            self.add(APPENDED_BATCHES, &labels, count(partition.end.0));
            self.add(APPENDED_ROWS, &labels, count(partition.rows_total));
            self.add(APPENDED_BYTES, &labels, count(partition.bytes_total));
            for subscription in &view.subscriptions {
                let labels = [labels[0], ("subscription", subscription.name.as_str()), labels[1]];
                if let Some(place) = subscription.partitions.get(partition.partition.index()) {
                    self.add_lag(&labels, place);
                    self.add(ACKED_BATCHES, &labels, count(place.acked.0));
                    self.add(ACKED_ROWS, &labels, count(partition.rows_total - place.lag_rows));
                    self.add(ACKED_BYTES, &labels, count(partition.bytes_total - place.lag_bytes));
                }
            }
        }
    }

    fn add_lag(&mut self, labels: Labels<'_>, place: &SubscriptionPartitionView) {
        self.add(LAG_BATCHES, labels, count(place.lag_batches));
        self.add(LAG_ROWS, labels, count(place.lag_rows));
        self.add(LAG_BYTES, labels, count(place.lag_bytes));
        self.add(LAG_SECONDS, labels, place.lag_age.as_secs_f64());
        self.add(HELD_SECONDS, labels, place.held_for.as_secs_f64());
        self.add(SKIPPED_BATCHES, labels, count(place.skipped));
    }

    fn families(mut self) -> Vec<MetricFamily> {
        METRICS.iter().filter_map(|doc| Some(family(doc, self.0.remove(doc.name)?))).collect()
    }
}

fn family(doc: &MetricDoc, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(doc.name.to_owned());
    family.set_help(doc.help.to_owned());
    family.set_field_type(match doc.kind {
        MetricKind::Counter => MetricType::COUNTER,
        MetricKind::Gauge => MetricType::GAUGE,
        MetricKind::Histogram => MetricType::HISTOGRAM,
    });
    family.set_metric(metrics);
    family
}

fn labelled(labels: Labels<'_>) -> Metric {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    Metric::from_label(labels.iter().map(pair).collect())
}

fn histogram(view: &LatencyView) -> Histogram {
    let mut cumulative = 0;
    let bucket = |(bound, here): (&f64, &u64)| {
        cumulative += here;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(cumulative);
        bucket
    };
    let buckets = LATENCY_BOUNDS.iter().zip(&view.buckets).map(bucket).collect();
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets);
    histogram.set_sample_count(view.buckets.iter().sum());
    histogram.set_sample_sum(view.sum_seconds);
    histogram
}

/// A time, which is far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "the format has no integers")]
fn seconds(number: i64) -> f64 {
    number as f64
}

/// Prometheus' numbers are floats: exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "the format has no integers")]
fn count(number: u64) -> f64 {
    number as f64
}
