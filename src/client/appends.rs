//! What producers and writers share: encoding, the window, and the task that sends it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::Bytes;

use super::auto_compression::AutoCompression;
use super::encode::BatchEncoder;
use super::plain::ColumnSlices;
use super::retry::now;
use super::sender::Sender;
use super::task::OwnedTask;
use super::watched::Watched;
use super::window::{Entry, Phase, Window};
use super::{Client, Compression, Error};
use crate::engine::PartitionId;
use crate::wire::batch::EncodedBatch;
use crate::wire::command::PutCommand;
use crate::wire::proto::Receipt;
use crate::wire::schema::StreamSchema;

/// What a message carries beside header and body: metadata, field tags and lengths, and the descriptor.
const ENVELOPE_BYTES: u64 = 4 << 10;

/// Where the schema of the appends comes from.
enum Source {
    /// No batch yet.
    Unknown,
    /// Record batches, encoded here.
    Arrow(Box<BatchEncoder>),
    /// Batches that come encoded, passed on as they are.
    Encoded(StreamSchema),
}

/// The appends of one producer or writer.
pub(super) struct Appends {
    client: Client,
    window: Arc<Watched<Window>>,
    command: PutCommand,
    partition: Option<PartitionId>,
    keep_alive: Option<Duration>,
    compression: Compression,
    auto: Option<AutoCompression>,
    source: Source,
    task: Option<OwnedTask>,
}

/// How appends are made; the same for producers and writers.
pub(super) struct AppendSettings {
    pub(super) partition: Option<PartitionId>,
    pub(super) schema: Option<SchemaRef>,
    pub(super) window_batches: usize,
    pub(super) window_bytes: u64,
    pub(super) append_timeout: Option<Duration>,
    /// How long a sign of life holds; a writer gives none.
    pub(super) keep_alive: Option<Duration>,
    pub(super) compression: Compression,
}

impl fmt::Debug for Appends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Appends").field("url", &self.client.url()).field("command", &self.command).finish_non_exhaustive()
    }
}

impl Appends {
    pub(super) fn new(client: Client, mut command: PutCommand, settings: AppendSettings) -> Result<Self, Error> {
        let (sender, connections) = client.next_sender();
        command.sender = Some(sender);
        command.append_timeout_ms = settings.append_timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        let mut window = Window::new(settings.window_batches, settings.window_bytes, command.epoch.is_some());
        window.connections = connections;
        let mut appends = Self {
            client,
            window: Arc::new(Watched::new(window)),
            command,
            partition: settings.partition,
            keep_alive: settings.keep_alive,
            compression: settings.compression,
            auto: (settings.compression == Compression::Auto).then(AutoCompression::default),
            source: Source::Unknown,
            task: None,
        };
        if let Some(schema) = settings.schema {
            appends.source = Source::Arrow(Box::new(BatchEncoder::new(schema, appends.compression)?));
            appends.ensure_running();
        }
        Ok(appends)
    }

    pub(super) fn window(&self) -> &Arc<Watched<Window>> {
        &self.window
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn stream(&self) -> &str {
        &self.command.stream
    }

    /// Encodes a batch for the window.
    pub(super) fn encode(&mut self, batch: &RecordBatch, partition: Option<PartitionId>, user: Bytes) -> Result<Entry, Error> {
        if let Source::Unknown = self.source {
            self.source = Source::Arrow(Box::new(BatchEncoder::new(batch.schema(), self.compression)?));
        }
        let Source::Arrow(encoder) = &mut self.source else {
            return Err(Error::invalid("it appends encoded batches already; use another producer for record batches"));
        };
        let mut encoded = match &mut self.auto {
            Some(auto) => auto.encode(encoder, batch, self.window.with(|window| window.wire_speed(now())))?,
            None => encoder.encode(batch)?,
        };
        encoded.user = user;
        self.entry(encoded, partition)
    }

    /// Encodes a small batch whose columns are not in arrays; none if it has to be.
    pub(super) fn encode_slices(
        &mut self,
        rows: usize,
        columns: &[ColumnSlices<'_>],
        partition: Option<PartitionId>,
    ) -> Result<Option<Entry>, Error> {
        let Source::Arrow(encoder) = &mut self.source else { return Ok(None) };
        if self.auto.is_some() {
            return Ok(None);
        }
        encoder.encode_slices(rows, columns).map(|encoded| self.entry(encoded, partition)).transpose()
    }

    /// Takes a batch that is encoded already.
    pub(super) fn take_encoded(
        &mut self,
        schema: &StreamSchema,
        batch: EncodedBatch,
        partition: Option<PartitionId>,
    ) -> Result<Entry, Error> {
        match &self.source {
            Source::Unknown => self.source = Source::Encoded(StreamSchema::parse(schema.header().clone())?),
            Source::Encoded(first) if first.header() == schema.header() => {}
            Source::Encoded(_) => return Err(Error::SchemaMismatch { difference: "the schema message is another one".to_owned() }),
            Source::Arrow(_) => return Err(Error::invalid("it appends record batches already; use another producer for encoded ones")),
        }
        self.entry(batch, partition)
    }

    fn entry(&mut self, batch: EncodedBatch, partition: Option<PartitionId>) -> Result<Entry, Error> {
        let limit = self.client.options().message_bytes_max;
        let user_bytes = u64::try_from(batch.user.len()).unwrap_or(u64::MAX);
        let bytes = batch.bytes().saturating_add(user_bytes);
        let largest = bytes.max(batch.dictionaries.message_bytes_max());
        if largest.saturating_add(ENVELOPE_BYTES) > limit {
            return Err(Error::MessageTooLarge { bytes: largest, limit });
        }
        self.ensure_running();
        Ok(Entry { batch, partition: partition.or(self.partition), bytes })
    }

    /// Starts the sender's task, or starts it again after an error that allows it has been reported.
    pub(super) fn ensure_running(&mut self) {
        let schema_header = match &self.source {
            Source::Unknown => return,
            Source::Arrow(encoder) => encoder.schema_header().clone(),
            Source::Encoded(schema) => schema.header().clone(),
        };
        if self.window.with(Window::start) {
            let sender = Sender {
                client: self.client.clone(),
                window: self.window.clone(),
                command: self.command.clone(),
                keep_alive: self.keep_alive,
                schema_header,
            };
            let window = self.window.clone();
            let on_panic = move |error| window.update(|window| window.fail(error));
            self.task = Some(OwnedTask::spawn(self.client.runtime(), sender.run(), on_panic));
        }
    }

    /// Waits for room in the window and puts the entry there.
    pub(super) async fn admit(&self, entry: Entry) -> Result<(), Error> {
        let mut entry = Some(entry);
        let waker = self.window.wait(|window| window.admit(&mut entry)).await?;
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// No more batches will come. Whether anything was ever sent, so that there is an answer to wait for.
    pub(super) fn close(&mut self) -> bool {
        let waker = self.window.with(Window::close);
        if let Some(waker) = waker {
            waker.wake();
        }
        self.ensure_running();
        !matches!(self.source, Source::Unknown)
    }

    /// Waits for the end after [`Appends::close`].
    pub(super) async fn finished(&self) -> Result<Option<Receipt>, Error> {
        self.window.wait(Window::finished).await
    }

    /// Sends what waits for company.
    pub(super) fn hurry(&self) {
        if let Some(waker) = self.window.with(Window::hurry) {
            waker.wake();
        }
    }

    /// Waits until all batches so far are stored.
    pub(super) async fn settled(&self) -> Result<(), Error> {
        self.hurry();
        self.window.wait(Window::settled).await
    }

    pub(super) fn is_unneeded(&self) -> bool {
        self.window.with(|window| matches!(window.phase, Phase::Unneeded))
    }
}
