//! The spans of a commit or an abort, and with it of the epoch.

use std::sync::Arc;

use opentelemetry::trace::SpanContext;

use super::super::cell::StreamCell;
use super::super::error::Error;
use super::Tracer;
use super::span::{Amount, Span};
use crate::engine::{Epoch, EpochState, Outcome, ProducerId, RunId, Timestamp};
use crate::wire::proto::Receipt;

/// A call that ends an epoch, under way.
#[derive(Debug)]
pub(in crate::server) struct Ending {
    tracer: Arc<Tracer>,
    cell: Arc<StreamCell>,
    call: Span,
    /// Of the epoch itself, if it is open.
    epoch: Option<Span>,
}

impl Ending {
    /// Begins with the call; none if the epoch is not sampled.
    pub(in crate::server) fn begin(
        tracer: Option<&Arc<Tracer>>,
        operation: &str,
        cell: &Arc<StreamCell>,
        (producer, run, epoch): (&ProducerId, &RunId, Epoch),
        caller: Option<SpanContext>,
    ) -> Option<Self> {
        let tracer = tracer?;
        let context = tracer.sampled(cell.id(), producer, epoch)?;
        let of = (producer, epoch);
        let call = Span::within(operation, cell, of, &context, cell.now()).with_link(caller.clone());
        let open = |opened_at: Timestamp| Span::of_epoch(cell, of, context, opened_at).with_link(caller);
        Some(Self { tracer: tracer.clone(), cell: cell.clone(), call, epoch: cell.epoch_opened_at(producer, run, epoch).map(open) })
    }

    /// The epoch has ended, or the call was refused: said once that is durable. `receipts` are of what it has then.
    pub(in crate::server) fn end(self, outcome: &Result<Outcome, Error>, receipts: &[Receipt]) {
        let refused = outcome.as_ref().err().map(|error| error.code().as_str().to_owned());
        let state = match outcome {
            Ok(Outcome::Epoch(state)) => Some(*state),
            _ => None,
        };
        let Self { tracer, cell, call, epoch } = self;
        let sum = |of: fn(&Receipt) -> u64| receipts.iter().fold(0, |sum: u64, receipt| sum.saturating_add(of(receipt)));
        let amount = Amount { batches: sum(|receipt| receipt.batches), rows: sum(|receipt| receipt.rows), bytes: sum(|receipt| receipt.bytes) };
        let call = match state {
            Some(state) => call.with("bowstring.epoch.state", name(state)),
            None => call,
        };
        let epoch = epoch.and_then(|span| match state {
            Some(EpochState::Committed) => Some(span.with_amount(amount)),
            // It may be opened again, and has one span.
            Some(EpochState::Open | EpochState::AlreadyCommitted | EpochState::Aborted) | None => None,
        });
        tokio::spawn(async move {
            let durable = cell.durable().await;
            let failed = refused.or_else(|| durable.err().map(|error| error.code().as_str().to_owned()));
            let now = cell.now();
            // What is not durable has not happened.
            if let (Some(span), None) = (epoch, &failed) {
                tracer.exporter.send(span.ended(now, None));
            }
            tracer.exporter.send(call.ended(now, failed));
        });
    }
}

fn name(state: EpochState) -> &'static str {
    match state {
        EpochState::Open => "open",
        EpochState::Committed => "committed",
        EpochState::AlreadyCommitted => "already_committed",
        EpochState::Aborted => "aborted",
    }
}
