//! The spans of a commit or an abort, and with it of the epoch.

use std::sync::Arc;

use opentelemetry::trace::SpanContext;

use super::super::cell::{NamedWriter, StreamCell};
use super::super::error::Error;
use super::Tracer;
use super::span::{Amount, Span};
use crate::engine::{Epoch, EpochState, Outcome, ProducerId, RunId};

/// A call that ends an epoch, under way.
#[derive(Debug)]
pub(in crate::server) struct Ending {
    tracer: Arc<Tracer>,
    cell: Arc<StreamCell>,
    call: Span,
    /// Of the epoch itself, should this commit it.
    epoch: Span,
}

impl Ending {
    /// Begins with the call; none if the epoch is not sampled.
    pub(in crate::server) fn begin(
        tracer: Option<&Arc<Tracer>>,
        operation: &str,
        cell: &Arc<StreamCell>,
        ((producer, run, epoch), named): ((&ProducerId, &RunId, Epoch), &[NamedWriter]),
        caller: Option<SpanContext>,
    ) -> Option<Self> {
        let tracer = tracer?;
        let context = tracer.sampled(cell.id(), producer, epoch)?;
        let of = (producer, epoch);
        let call = Span::within(operation, cell, of, &context, cell.now()).with_link(caller.clone());
        // One without a task is committed without having been opened.
        let (opened_at, (batches, rows, bytes)) = cell.open_epoch((producer, run, epoch), named).unwrap_or((cell.now(), (0, 0, 0)));
        let epoch = Span::of_epoch(cell, of, context, opened_at).with_link(caller).with_amount(Amount { batches, rows, bytes });
        Some(Self { tracer: tracer.clone(), cell: cell.clone(), call, epoch })
    }

    /// The epoch has ended, or the call was refused: said once that is durable.
    pub(in crate::server) fn end(self, outcome: &Result<Outcome, Error>) {
        let refused = outcome.as_ref().err().map(|error| error.code().as_str().to_owned());
        let state = match outcome {
            Ok(Outcome::Epoch(state)) => Some(*state),
            _ => None,
        };
        let Self { tracer, cell, call, epoch } = self;
        let call = match state {
            Some(state) => call.with("bowstring.epoch.state", name(state)),
            None => call,
        };
        // One that is aborted may be opened again, and has one span.
        let epoch = (state == Some(EpochState::Committed)).then_some(epoch);
        tracer.clone().endings.spawn(async move {
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
