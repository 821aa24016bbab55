//! The span of a writer's `DoPut`.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::cell::StreamCell;
use super::super::error::Error;
use super::Tracer;
use super::span::{Amount, Span};
use crate::engine::{AppenderKind, PartitionId};

/// A writer's append under way; its span says that it was cut off, unless it is told otherwise.
#[derive(Debug)]
pub(in crate::server) struct Appending {
    tracer: Arc<Tracer>,
    cell: Arc<StreamCell>,
    /// Until it is sent.
    span: Option<Span>,
    amount: Amount,
    partitions: BTreeSet<PartitionId>,
    failed: Option<String>,
}

impl Appending {
    /// Begins with the call; none if it is not a writer's, or its epoch is not sampled.
    pub(in crate::server) fn begin(tracer: Option<&Arc<Tracer>>, cell: &Arc<StreamCell>, kind: &AppenderKind) -> Option<Self> {
        let AppenderKind::Writer { producer, epoch, task, attempt, .. } = kind else { return None };
        let tracer = tracer?;
        let context = tracer.sampled(cell.id(), producer, *epoch)?;
        let span = Span::within("append", cell, (producer, *epoch), &context, cell.now())
            .with("messaging.operation.type", "send")
            .with_number("bowstring.task", task.0.into())
            .with_number("bowstring.attempt", attempt.0);
        Some(Self {
            tracer: tracer.clone(),
            cell: cell.clone(),
            span: Some(span),
            amount: Amount::default(),
            partitions: BTreeSet::new(),
            failed: Some("cancelled".to_owned()),
        })
    }

    /// A batch is stored.
    pub(in crate::server) fn count(&mut self, partition: PartitionId, rows: u64, bytes: u64) {
        self.amount.add(rows, bytes);
        self.partitions.insert(partition);
    }

    /// It has ended, and so many of its batches have waited for room.
    pub(in crate::server) fn end(&mut self, result: &Result<(), Error>, waits: u64) {
        self.failed = result.as_ref().err().map(|error| error.code().as_str().to_owned());
        self.span = self.span.take().map(|span| span.with_number("bowstring.waits", waits));
    }
}

impl Drop for Appending {
    fn drop(&mut self) {
        let Some(span) = self.span.take() else { return };
        let span = match self.partitions.first() {
            // A task's batches go to one partition, as a rule.
            Some(partition) if self.partitions.len() == 1 => span.with("messaging.destination.partition.id", partition.to_string()),
            _ => span,
        };
        self.tracer.exporter.send(span.with_amount(self.amount).ended(self.cell.now(), self.failed.take()));
    }
}
