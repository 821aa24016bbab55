//! `GET /api/v1/rows`: a look at a partition's rows that moves nothing. Bounded in rows, bytes and time: one look decodes at a time, off
//! the runtime's threads, one batch of at most 96 MiB after the other.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use axum::extract::State;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::access::Sight;
use super::super::cell::StreamCell;
use super::super::decode;
use super::super::error::Error;
use super::Console;
use super::answer::{Answer, Found};
use super::cells::cell;
use super::query::Query;
use super::types::column;
use crate::engine::{Batch, Offset, PartitionId, SchemaVersion};
use crate::storage::StoredBatch;
use crate::wire::error::WireError;

const ROWS_DEFAULT: u64 = 50;
const ROWS_MAX: u64 = 200;
/// Batches that are looked at for one answer: some have no rows.
const BATCHES_MAX: usize = 200;
/// Columns that are shown.
const COLUMNS_MAX: usize = 256;
/// An answer ends with the row that comes to this.
const ANSWER_BYTES: usize = 1 << 20;
/// Largest batch that is decoded: the message, with its dictionaries, and what it becomes if it is compressed.
const DECODED_BYTES_MAX: u64 = 96 << 20;
/// No batch is begun after so long.
const TIME: Duration = Duration::from_secs(3);
/// How long others that peek are waited for, and then the rows.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is asked for.
#[derive(Debug, Clone, Copy)]
struct Place {
    partition: PartitionId,
    offset: Offset,
    /// Rows of the first batch that are passed over.
    row: u64,
    rows: u64,
}

/// What has been found.
#[derive(Debug, Default)]
struct Shown {
    schema: Option<SchemaVersion>,
    columns: Vec<Value>,
    columns_total: usize,
    rows: Vec<Value>,
    bytes: usize,
    /// Where the next look goes on, as offset and row.
    next: (u64, u64),
}

/// Answers with rows from an offset on.
pub(super) async fn rows(State(console): State<Arc<Console>>, query: Query) -> Answer {
    let stream = query.stream()?;
    query.caller.allow(Sight::Rows(stream.as_str()))?;
    let cell = console.coordinator.get(&stream)?;
    let partition = query.number("partition", u32::MAX.into())?.unwrap_or(0);
    let partition = PartitionId(u32::try_from(partition).unwrap_or(u32::MAX));
    let (start, end) = cell.range(partition)?;
    let offset = match query.text("offset") {
        None | Some("earliest") => start,
        Some("newest") => Offset(end.0.saturating_sub(1)).max(start),
        Some(_) => Offset(query.number("offset", u64::MAX)?.unwrap_or_default()),
    };
    let rows = query.number("rows", ROWS_MAX)?.unwrap_or(ROWS_DEFAULT).max(1);
    let place = Place { partition, offset, row: query.number("row", u64::MAX)?.unwrap_or(0), rows };
    let shown = take(&console, cell, place).await?;
    let is_end = shown.next.0 >= end.0;
    Ok(Found(json!({
        "stream": stream.as_str(),
        "partition": partition.0,
        "start": start.0,
        "end": end.0,
        "columns": shown.columns,
        "columns_total": shown.columns_total,
        "rows": shown.rows,
        "next": (!is_end).then(|| json!({ "offset": shown.next.0, "row": shown.next.1 })),
    })))
}

/// On a thread that may block, when those who came before have done.
async fn take(console: &Console, cell: Arc<StreamCell>, place: Place) -> Result<Shown, Error> {
    let deadline = Instant::now() + PATIENCE;
    let busy = || Error::PeekTimeout { waited: PATIENCE };
    let failed = |reason: String| Error::Task { reason };
    let permit = tokio::time::timeout_at(deadline, console.peeks.clone().acquire_owned()).await.map_err(|_| busy())?;
    let permit = permit.map_err(|error| failed(error.to_string()))?;
    let work = tokio::task::spawn_blocking(move || {
        // Held to the end, also where nobody waits any more.
        let _permit = permit;
        read(&cell, place)
    });
    tokio::time::timeout_at(deadline, work).await.map_err(|_| busy())?.map_err(|error| failed(error.to_string()))?
}

fn read(cell: &StreamCell, place: Place) -> Result<Shown, Error> {
    let began = cell.now();
    let mut shown = Shown { next: (place.offset.0, place.row), ..Shown::default() };
    for _ in 0..BATCHES_MAX {
        let Some(batch) = cell.read(place.partition, Offset(shown.next.0), 1, u64::MAX)?.pop() else { break };
        let is_first = shown.rows.is_empty();
        match shown.add(cell, &batch, place.rows) {
            Ok(true) => {}
            Ok(false) => break,
            // What has been found is shown; the next look begins with the trouble.
            Err(_) if !is_first => break,
            Err(error) => return Err(error),
        }
        if cell.now().since(began) >= TIME {
            break;
        }
    }
    Ok(shown)
}

impl Shown {
    /// Adds a batch's rows, and says whether there is room for more.
    fn add(&mut self, cell: &StreamCell, batch: &Batch<StoredBatch>, rows_max: u64) -> Result<bool, Error> {
        if batch.facts.bytes > DECODED_BYTES_MAX {
            return Err(too_large(batch.offset, batch.facts.bytes));
        }
        let stored = batch.data.read()?;
        if self.schema.is_some_and(|schema| schema != stored.schema) {
            return Ok(false);
        }
        let schema = cell.schema_of(stored.schema);
        let schema = schema.ok_or_else(|| Error::Task { reason: "the batch's schema is not known".to_owned() })?;
        let decoded = decode::guarded(&schema, &stored, DECODED_BYTES_MAX).map_err(|error| match error {
            Error::Wire(WireError::DecompressedTooLarge { bytes, .. }) => too_large(batch.offset, bytes),
            other => other,
        })?;
        if self.schema.replace(stored.schema).is_none() {
            self.columns = schema.arrow().fields().iter().take(COLUMNS_MAX).map(|field| column(field)).collect();
            self.columns_total = schema.arrow().fields().len();
        }
        let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.add_rows(batch, &decoded, rows_max)));
        made.map_err(|_| Error::Wire(WireError::malformed("its values cannot be written")))?
    }

    fn add_rows(&mut self, batch: &Batch<StoredBatch>, decoded: &RecordBatch, rows_max: u64) -> Result<bool, Error> {
        let unwritable = |error| Error::Wire(WireError::malformed(format!("a value cannot be written: {error}")));
        for row in usize::try_from(self.next.1).unwrap_or(usize::MAX)..decoded.num_rows() {
            if self.rows.len() as u64 >= rows_max || self.bytes >= ANSWER_BYTES {
                return Ok(false);
            }
            let columns = decoded.columns().iter().take(COLUMNS_MAX);
            let cells = columns.map(|column| cell(column, row)).collect::<Result<Vec<_>, _>>().map_err(unwritable)?;
            self.bytes += cells.iter().map(bytes_of).sum::<usize>();
            self.rows.push(json!({ "offset": batch.offset.0, "row": row, "cells": cells }));
            self.next.1 = row as u64 + 1;
        }
        self.next = (batch.offset.0 + 1, 0);
        Ok((self.rows.len() as u64) < rows_max && self.bytes < ANSWER_BYTES)
    }
}

fn bytes_of(cell: &Value) -> usize {
    4 + cell.as_str().or_else(|| cell["text"].as_str()).map_or(0, str::len)
}

fn too_large(offset: Offset, bytes: u64) -> Error {
    let reason = format!(
        "the batch at offset {offset} takes {bytes} bytes to decode, more than the {DECODED_BYTES_MAX} that a look at rows may; go on after it, or use bowstring peek"
    );
    Error::InvalidArgument { field: "offset", reason }
}
