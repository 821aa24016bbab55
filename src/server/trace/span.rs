//! A span under way, in OpenTelemetry's words for messaging.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{Link, SpanContext, SpanId, SpanKind, Status};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::super::cell::StreamCell;
use super::context;
use crate::engine::{Epoch, ProducerId, Timestamp};

/// What a span says of an epoch, and what of it: <https://opentelemetry.io/docs/specs/semconv/messaging/>.
#[derive(Debug, Clone)]
pub(super) struct Span {
    name: String,
    kind: SpanKind,
    context: SpanContext,
    parent: SpanId,
    started: Timestamp,
    attributes: Vec<KeyValue>,
    links: SpanLinks,
}

/// How much there was of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) batches: u64,
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

impl Amount {
    pub(super) fn add(&mut self, rows: u64, bytes: u64) {
        self.batches += 1;
        self.rows = self.rows.saturating_add(rows);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

impl Span {
    /// The span of a whole epoch, whose context `epoch` is.
    pub(super) fn of_epoch(cell: &StreamCell, (producer, epoch): (&ProducerId, Epoch), context: SpanContext, started: Timestamp) -> Self {
        Self::new("epoch", SpanKind::Internal, (context, SpanId::INVALID), cell, (producer, epoch), started)
    }

    /// What was done within an epoch: the first word of the name, and what it is called in `messaging.operation.name`.
    pub(super) fn within(operation: &str, cell: &StreamCell, of: (&ProducerId, Epoch), epoch: &SpanContext, started: Timestamp) -> Self {
        Self::new(operation, SpanKind::Server, (context::within(epoch), epoch.span_id()), cell, of, started)
    }

    fn new(
        operation: &str,
        kind: SpanKind,
        (context, parent): (SpanContext, SpanId),
        cell: &StreamCell,
        (producer, epoch): (&ProducerId, Epoch),
        started: Timestamp,
    ) -> Self {
        let span = Self {
            name: format!("{operation} {}", cell.name()),
            kind,
            context,
            parent,
            started,
            attributes: Vec::with_capacity(16),
            links: SpanLinks::default(),
        };
        span.with("messaging.system", "bowstring")
            .with("messaging.destination.name", cell.name().to_string())
            .with("messaging.operation.name", operation.to_owned())
            // Not a number: OpenTelemetry's are signed.
            .with("bowstring.stream_id", cell.id().to_string())
            .with("bowstring.producer", producer.to_string())
            .with_number("bowstring.epoch", epoch.0)
    }

    /// Its context.
    pub(super) fn context(&self) -> &SpanContext {
        &self.context
    }

    pub(super) fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.attributes.push(KeyValue::new(key, value));
        self
    }

    pub(super) fn with_number(self, key: &'static str, number: u64) -> Self {
        self.with(key, i64::try_from(number).unwrap_or(i64::MAX))
    }

    pub(super) fn with_amount(self, amount: Amount) -> Self {
        self.with_number("messaging.batch.message_count", amount.batches)
            .with_number("bowstring.rows", amount.rows)
            .with_number("bowstring.bytes", amount.bytes)
    }

    /// Names what a caller worked at: its trace may have many epochs, and an epoch's trace has one.
    pub(super) fn with_link(mut self, caller: Option<SpanContext>) -> Self {
        self.links.links.extend(caller.map(|caller| Link::new(caller, Vec::new(), 0)));
        self
    }

    /// The whole of it, with why it failed, if it did.
    pub(super) fn ended(self, at: Timestamp, failed: Option<String>) -> SpanData {
        SpanData {
            span_context: self.context,
            parent_span_id: self.parent,
            parent_span_is_remote: false,
            span_kind: self.kind,
            name: Cow::Owned(self.name),
            start_time: time(self.started),
            end_time: time(at.max(self.started)),
            attributes: self.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: self.links,
            status: failed.map_or(Status::Unset, Status::error),
            instrumentation_scope: InstrumentationScope::builder("bowstring").with_version(env!("CARGO_PKG_VERSION")).build(),
        }
    }
}

fn time(at: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(at.0)
}
