//! One dead letter: the rows as they were, with columns that say why, how often and where from.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array, UInt64Array};
use arrow_flight::utils::batches_to_flight_data;
use arrow_flight::{FlightData, FlightDescriptor};
use arrow_schema::{ArrowError, DataType, Field, Schema, TimeUnit};
use bytes::{Bytes, BytesMut};

use super::super::decode;
use super::super::error::Error;
use crate::engine::{Attempt, Dying, Epoch, ProducerId, RunId, Share, StreamId, StreamName, Timestamp};
use crate::wire::batch::EncodedBatch;
use crate::wire::command::PutCommand;
use crate::wire::error::WireError;
use crate::wire::frame::frame_proto;
use crate::wire::keys;
use crate::wire::metadata::AppendMetadata;
use crate::wire::schema::StreamSchema;

/// The names of the columns that a dead letter has beside its own begin so.
const PREFIX: &str = "bowstring_";
/// About what a batch of dead letters has at most: a row always.
const BATCH_BYTES: u64 = 4 << 20;

/// What is to be written, by whom.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) stream: StreamName,
    pub(super) stream_id: StreamId,
    pub(super) producer: ProducerId,
    pub(super) run: RunId,
    pub(super) epoch: Epoch,
    pub(super) attempt: Attempt,
    pub(super) room_wait: Duration,
    /// The stream that the rows are of.
    pub(super) origin: StreamName,
    pub(super) keys: Vec<Arc<str>>,
    pub(super) dying: Dying,
    pub(super) died_at: Timestamp,
}

impl Letter {
    /// The request of a `DoPut` that writes it; none if there are no rows, since the batch has none of the keys.
    ///
    /// # Errors
    /// `malformed_message` if the batch cannot be decoded.
    pub(super) fn frames(&self, schema: &StreamSchema, batch: &EncodedBatch) -> Result<Option<Bytes>, Error> {
        let made = catch_unwind(AssertUnwindSafe(|| self.flight_data(schema, batch)));
        let made = made.map_err(|_| ArrowError::IpcError("its bytes make no batch".to_owned())).flatten();
        let messages = made.map_err(|error| Error::Wire(WireError::malformed(format!("the batch cannot be decoded: {error}"))))?;
        let mut frames = BytesMut::new();
        messages.iter().for_each(|message| frames.extend_from_slice(&frame_proto(message)));
        Ok((!messages.is_empty()).then(|| frames.freeze()))
    }

    fn flight_data(&self, schema: &StreamSchema, batch: &EncodedBatch) -> Result<Vec<FlightData>, ArrowError> {
        let whole = decode::unguarded(schema, batch)?;
        let (rows, first) = match self.dying.share {
            Share::Rows { start, end } => (whole.slice(index(start), index(end.saturating_sub(start))), start),
            Share::Lanes(mask) => (keys::rows_in(&whole, &self.keys, mask)?, 0),
        };
        let numbers = match self.dying.share {
            Share::Rows { .. } => (first..).take(rows.num_rows()).collect(),
            Share::Lanes(mask) => {
                let lanes = keys::lanes(&whole, &self.keys)?;
                (0..).zip(lanes).filter(|(_, lane)| mask & (1 << lane) != 0).map(|(row, _)| row).collect()
            }
        };
        if rows.num_rows() == 0 && matches!(self.dying.share, Share::Lanes(_)) {
            return Ok(Vec::new());
        }
        let rows = self.with_origin(&rows, numbers)?;
        let share = batch.bytes().saturating_mul(rows.num_rows() as u64) / (whole.num_rows() as u64).max(1);
        let parts = share.div_ceil(BATCH_BYTES).clamp(1, (rows.num_rows() as u64).max(1));
        let at = |part: u64| index(u64::try_from(u128::from(part) * rows.num_rows() as u128 / u128::from(parts)).unwrap_or(u64::MAX));
        let cut = (0..parts).map(|part| rows.slice(at(part), at(part + 1) - at(part))).collect::<Vec<_>>();
        let mut messages = batches_to_flight_data(&rows.schema(), &cut)?;
        if let Some(first) = messages.first_mut() {
            first.flight_descriptor = Some(FlightDescriptor::new_cmd(self.command()?));
        }
        let parts = messages.iter_mut().skip(1).filter(|message| is_batch(message));
        for (ordinal, message) in (0..).zip(parts) {
            message.app_metadata = AppendMetadata { partition: Some(0), ordinal, user: batch.user.clone(), shared: None }.to_bytes();
        }
        Ok(messages)
    }

    fn command(&self) -> Result<Vec<u8>, ArrowError> {
        let command = PutCommand {
            stream: self.stream.to_string(),
            partition: None,
            producer: Some(self.producer.to_string()),
            run: Some(self.run.to_string()),
            epoch: Some(self.epoch.0),
            task: Some(0),
            attempt: Some(self.attempt.0),
            sender: None,
            connection: None,
            append_timeout_ms: Some(u64::try_from(self.room_wait.as_millis()).unwrap_or(u64::MAX)),
            stream_id: Some(self.stream_id.0),
            link: None,
        };
        serde_json::to_vec(&command).map_err(|error| ArrowError::ExternalError(error.into()))
    }

    /// The rows, and beside them where they are from and what became of them.
    fn with_origin(&self, rows: &RecordBatch, numbers: Vec<u64>) -> Result<RecordBatch, ArrowError> {
        let Dying { subscription, partition, offset, deliveries, reason, .. } = &self.dying;
        let count = rows.num_rows();
        let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, count))) };
        let died_at = i64::try_from(self.died_at.0).unwrap_or(i64::MAX);
        let columns: [(&str, ArrayRef); 8] = [
            ("reason", text(reason)),
            ("deliveries", Arc::new(UInt32Array::from_value(*deliveries, count))),
            ("stream", text(&self.origin.to_string())),
            ("subscription", text(&subscription.to_string())),
            ("partition", Arc::new(UInt32Array::from_value(partition.0, count))),
            ("offset", Arc::new(UInt64Array::from_value(offset.0, count))),
            ("row", Arc::new(UInt64Array::from(numbers))),
            ("died_at", Arc::new(TimestampMicrosecondArray::from_value(died_at, count).with_timezone("UTC"))),
        ];
        let known = rows.schema();
        // Of a letter that died again, for instance.
        let free = |name: &str| {
            let mut name = format!("{PREFIX}{name}");
            while known.column_with_name(&name).is_some() {
                name.push('_');
            }
            name
        };
        let field = |(name, column): &(&str, ArrayRef)| Arc::new(Field::new(free(name), column.data_type().clone(), false));
        let fields: Vec<_> = known.fields().iter().cloned().chain(columns.iter().map(field)).collect();
        let schema = Arc::new(Schema::new_with_metadata(fields, known.metadata().clone()));
        let all = rows.columns().iter().cloned().chain(columns.into_iter().map(|(_, column)| column)).collect();
        debug_assert_eq!(
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            *schema.field(schema.fields().len() - 1).data_type()
        );
        RecordBatch::try_new(schema, all)
    }
}

fn index(row: u64) -> usize {
    usize::try_from(row).unwrap_or(usize::MAX)
}

fn is_batch(message: &FlightData) -> bool {
    let header = arrow_ipc::root_as_message(&message.data_header).map(|header| header.header_type());
    header == Ok(arrow_ipc::MessageHeader::RecordBatch)
}
