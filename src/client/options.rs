//! What can be chosen when connecting, appending and reading, with the reason for every default.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use arrow_schema::SchemaRef;

use super::token::{self, TokenSource};
use super::{Dialect, Error, TlsOptions};
use crate::engine::{Attempt, Epoch, InFlight, Offset, OnOverflow, PartitionId, ShareTerms, Start, StreamId, SubscriptionMode, Task};

/// How a [`Client`](super::Client) connects and how long it keeps trying.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// How long `connect` keeps trying to reach the coordinator. Default 10 s: a coordinator that starts at
    /// the same time is up by then.
    pub connect_timeout: Duration,
    /// How long a call, an append or a read keeps trying while the coordinator cannot be reached or is shutting
    /// down, counted from the first failure. Default 60 s: a restart on another machine fits.
    pub retry_deadline: Duration,
    /// A connection that answers no HTTP/2 ping, or does not begin to answer a read or append, for this long counts as
    /// broken. Default 10 s.
    pub ping_timeout: Duration,
    /// Whether data goes by the coordinator's Unix socket if the URL is TCP and the coordinator is on this host; it
    /// is found without being asked for. Default true. Control calls always go to the URL.
    pub local_socket: bool,
    /// Whether bodies of batches go by shared memory, where the coordinator's Unix socket is used and it is this user's.
    /// Default true.
    pub shared_memory: bool,
    /// How TLS is spoken, with a URL `grpc+tls://host:port`. Default: as the machine trusts, without a certificate of the client's.
    pub tls: TlsOptions,
    /// Largest message that is sent or taken, in bytes. Default and most: 1 GiB, the servers' limit.
    pub message_bytes_max: u64,
    /// The token that calls show, for coordinators that ask who calls. Default [`TokenSource::Environment`].
    pub token: TokenSource,
    /// Whether the token may go in clear, without TLS, to other hosts than this one. Default false, unless the variable
    /// `BOWSTRING_ALLOW_PLAINTEXT_TOKEN` is `true`.
    pub allow_plaintext_token: bool,
}

/// The largest message that bowstring carries: what both ends are set to.
pub const MESSAGE_BYTES_MAX: u64 = 1 << 30;

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            retry_deadline: Duration::from_secs(60),
            ping_timeout: Duration::from_secs(10),
            local_socket: true,
            shared_memory: true,
            tls: TlsOptions::default(),
            message_bytes_max: MESSAGE_BYTES_MAX,
            token: TokenSource::default(),
            allow_plaintext_token: token::allowed_by_environment(),
        }
    }
}

/// How batch bodies are compressed on their way in; the coordinator passes them on as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all. The default: faster wherever the network is faster than about 1 GB/s.
    #[default]
    None,
    /// LZ4 frames, batch by batch, and only while the way to the coordinator is slower than compression and the batches
    /// become smaller by it. Both are measured all the time: the way while as much as half of the producer's window is under
    /// way and the coordinator has room. Never by shared memory and within the process, where no bytes move.
    Auto,
    /// LZ4 frames.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl FromStr for Compression {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "none" => Ok(Self::None),
            "auto" => Ok(Self::Auto),
            "lz4" => Ok(Self::Lz4),
            "zstd" => Ok(Self::Zstd),
            other => Err(Error::invalid(format!("compression is {other:?}; use \"none\", \"auto\", \"lz4\" or \"zstd\""))),
        }
    }
}

/// How a producer appends.
#[derive(Debug, Clone)]
pub struct ProducerOptions {
    /// The producer's stable identity. None: a generated one.
    pub producer: Option<String>,
    /// The partition of batches that name none themselves. None: round robin over all partitions.
    pub partition: Option<PartitionId>,
    /// The batches' schema. None: the first batch's; then the connection is made with the first append.
    pub schema: Option<SchemaRef>,
    /// Most batches that are on their way and not acked yet. Default 1024: small batches need many to fill
    /// the wire.
    pub window_batches: usize,
    /// Most bytes that are on their way and not acked yet; one larger batch is let in alone. Default 64 MiB.
    pub window_bytes: u64,
    /// How long the coordinator may let one append wait for room before it fails with `timeout`. None: the
    /// server's default.
    pub append_timeout: Option<Duration>,
    /// If set, a background task gives signs of life, each valid for this long; without one in time, readers
    /// learn that the producer is lost. [`Producer::close`](super::Producer::close) says goodbye.
    pub keep_alive: Option<Duration>,
    /// Compression of the batches' bodies.
    pub compression: Compression,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            producer: None,
            partition: None,
            schema: None,
            window_batches: 1024,
            window_bytes: 64 << 20,
            append_timeout: None,
            keep_alive: None,
            compression: Compression::None,
        }
    }
}

/// Which writer an [`EpochWriter`](super::EpochWriter) is: one task attempt within an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriterId {
    /// The producer, for instance a Spark query's id.
    pub producer: String,
    /// Its run, for instance a Spark query's run id.
    pub run: String,
    /// The epoch.
    pub epoch: Epoch,
    /// The task.
    pub task: Task,
    /// The attempt.
    pub attempt: Attempt,
}

/// How a writer appends; see [`ProducerOptions`] for what the fields mean.
#[derive(Debug, Clone)]
pub struct WriterOptions {
    /// The partition of batches that name none themselves. None: round robin over all partitions.
    pub partition: Option<PartitionId>,
    /// The batches' schema. None: the first batch's. A writer that has neither sends nothing.
    pub schema: Option<SchemaRef>,
    /// Most batches on their way.
    pub window_batches: usize,
    /// Most bytes on their way.
    pub window_bytes: u64,
    /// How long one append may wait for room at the coordinator.
    pub append_timeout: Option<Duration>,
    /// Compression of the batches' bodies.
    pub compression: Compression,
}

impl Default for WriterOptions {
    fn default() -> Self {
        let producer = ProducerOptions::default();
        Self {
            partition: None,
            schema: None,
            window_batches: producer.window_batches,
            window_bytes: producer.window_bytes,
            append_timeout: None,
            compression: Compression::None,
        }
    }
}

/// Offsets, one per partition.
pub type Offsets = BTreeMap<PartitionId, Offset>;

/// Where a consumer starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadStart {
    /// Where the subscription stands. A new subscription, or none: as [`Start`] says, all partitions of the stream together; what of
    /// them is not kept any more is refused, also where others are read.
    Cursor(Start),
    /// Exactly here, whatever the subscription has acked; partitions that are not named start at their cursor,
    /// or without a subscription at the earliest kept batch.
    Offsets(Offsets),
}

impl Default for ReadStart {
    fn default() -> Self {
        Self::Cursor(Start::Earliest)
    }
}

/// How a new shared subscription is shared.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sharing {
    /// After so many deliveries that failed, rows go to the dead letters; 0: never. None: 5.
    pub max_deliveries: Option<u32>,
    /// Rows that failed so often are halved, and each half is delivered once more, until single rows are left; with keys, those of one of
    /// 64 lanes. Default false.
    pub bisect: bool,
    /// The stream of the dead letters, which is made with the first. None: the stream's name and ".dead-letters".
    pub dead_letters: Option<String>,
    /// Columns whose values say which rows belong together: those are never with two consumers at once, and a consumer gets of each
    /// batch the rows whose keys it has. Numbers, strings, binary values, booleans, times and dictionaries of them. After a restart of
    /// the coordinator others may get rows of keys whose former consumer still works. None: any rows may be with anybody. Default none.
    pub keys: Vec<String>,
}

/// What a new subscription is like.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SubscribeOptions {
    /// How its consumers divide its batches; one that exists must do the same. None: as one that exists does, or by themselves.
    pub mode: Option<SubscriptionMode>,
    /// What it does that holds room which is needed.
    pub on_overflow: OnOverflow,
    /// How it is shared, if its mode is [`SubscriptionMode::Shared`]. None: as [`Sharing::default`].
    pub sharing: Option<Sharing>,
    /// What it asks of each batch, in SQL: its consumers get the answers, with the batches' offsets. One that exists must ask the same.
    /// None: as one that exists does, or nothing.
    pub query: Option<String>,
}

/// What a consumer reads and how far ahead.
#[derive(Debug, Clone)]
pub struct ConsumerOptions {
    /// The subscription whose cursor is used and acked; created if it does not exist. None: read without one.
    pub subscription: Option<String>,
    /// The partitions to read. None: all.
    pub partitions: Option<Vec<PartitionId>>,
    /// Whether to wait for new batches until the stream ends. If not, the read ends with what is visible when
    /// it starts. Default true.
    pub follow: bool,
    /// Where to start.
    pub start: ReadStart,
    /// Where to end, exclusive; partitions that are not named end as `follow` says.
    pub end: Option<Offsets>,
    /// The stream must have this id, else the consumer fails with `stream_replaced`.
    pub stream_id: Option<StreamId>,
    /// Batches that are read ahead of the caller. Small batches count only once they are more than 1 MiB
    /// together, since each would cost a wait. Default 8.
    pub prefetch_batches: usize,
    /// Bytes that are read ahead; one larger batch is let in alone. Default 64 MiB.
    pub prefetch_bytes: u64,
    /// How long to wait for a stream that does not exist yet. Default: not at all.
    pub stream_wait: Duration,
    /// How the subscription's consumers divide its batches, if it is to be new; `invalid_argument` if it exists and does otherwise. None:
    /// as it does, or by themselves. Consumers of a partitioned or shared one have leases: then `partitions`, `end` and a start at
    /// offsets are refused, and `follow` is set.
    pub mode: Option<SubscriptionMode>,
    /// How a new shared subscription is shared. None: as [`Sharing::default`].
    pub sharing: Option<Sharing>,
    /// What the subscription asks of each batch, in SQL, if it is to be new; `invalid_argument` if it exists and asks something else. The
    /// answers come in place of the batches, with their offsets. None: as it does, or nothing.
    pub query: Option<String>,
    /// Of a shared subscription: how long the caller may have a batch before it is acked, given back or renewed; then it goes to
    /// others, and this consumer gets nothing more until its caller asks for it. 100 ms to a day. Default 30 s.
    pub ack_within: Duration,
    /// Of a shared subscription: most rows at once; larger batches are divided among consumers. None: whole batches.
    pub max_rows: Option<u64>,
    /// How long the consumer's leases last after its last sign of life, which a background task gives three times as often: after a
    /// crash others have its partitions by then. From 100 ms to an hour. Default 10 s.
    pub lease: Duration,
    /// What a consumer that shares by leases is sent and has not acked, at most; one batch always. Default: no limit but the prefetch
    /// and what the connection holds; of a shared subscription, what may be read ahead.
    pub in_flight: InFlight,
    /// What the consumer calls itself to whoever asks who reads: 1 to 256 bytes, no control characters; it need not be
    /// unique. None: this process, as "host/pid".
    pub consumer: Option<String>,
    /// What the batches look like. Default: the schema that the stream has when the consumer opens, whatever changes later.
    pub dialect: Dialect,
    /// All of an epoch, over all partitions that are read, before anything of the next: [`Delivered::epoch_end`] says where it
    /// is complete. Not for `immediate` streams. What single acks ack is then a partition's share of an epoch, with its last
    /// batch; a batch that came without an epoch is by itself. Default false.
    ///
    /// [`Delivered::epoch_end`]: super::Delivered::epoch_end
    pub by_epoch: bool,
    /// Rows that a delivered batch should have at most, and nearly: smaller batches with consecutive offsets of one partition are
    /// put together as long as they fit, if they are of one epoch and their producer's `user` bytes are the same; larger ones are
    /// cut in parts of the same number of rows, each in memory of its own. None: as it comes.
    pub target_rows: Option<u64>,
    /// The same for bytes in memory, those of dictionaries' values apart; a row is never cut. None: as it comes.
    pub target_bytes: Option<u64>,
    /// How long a batch waits for others to be put together with, from when it was taken out of the read-ahead; less where the
    /// caller's deadline comes first, the stream ends, or `prefetch_bytes` wait. Counts only with a target. Default 50 ms.
    pub linger: Duration,
    /// Most batches (of a batch that was cut, parts) that are handed out and not acked: the next one waits for an ack, and its
    /// deadline says so. Needs a subscription. None: no limit.
    pub max_in_flight_batches: Option<u64>,
    /// Most bytes of encoded batches that are handed out and not acked; one larger batch is handed out alone. Needs a
    /// subscription. None: no limit.
    pub max_in_flight_bytes: Option<u64>,
}

impl ConsumerOptions {
    /// What cannot be meant.
    pub(super) fn check(&self) -> Result<(), Error> {
        let numbers = [
            ("target_rows", self.target_rows),
            ("target_bytes", self.target_bytes),
            ("max_in_flight_batches", self.max_in_flight_batches),
            ("max_in_flight_bytes", self.max_in_flight_bytes),
        ];
        if let Some((name, _)) = numbers.iter().find(|(_, number)| *number == Some(0)) {
            return Err(Error::invalid(format!("{name} is 0; use a number from 1, or none for no limit")));
        }
        let limits = numbers.iter().filter(|(name, number)| name.starts_with("max_in_flight") && number.is_some());
        if let (None, Some((name, _))) = (&self.subscription, limits.clone().next()) {
            return Err(Error::invalid(format!("{name} bounds what is not acked, and nothing is acked without a subscription; name one")));
        }
        if let (true, Some((name, _))) = (self.by_epoch, limits.clone().next()) {
            return Err(Error::invalid(format!("an epoch is read whole before it is acked, so {name} cannot bound it; leave it out")));
        }
        Ok(())
    }
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self {
            subscription: None,
            partitions: None,
            follow: true,
            start: ReadStart::default(),
            end: None,
            stream_id: None,
            prefetch_batches: 8,
            prefetch_bytes: 64 << 20,
            stream_wait: Duration::ZERO,
            mode: None,
            sharing: None,
            query: None,
            ack_within: ShareTerms::default().ack_within,
            max_rows: None,
            lease: Duration::from_secs(10),
            in_flight: InFlight::default(),
            consumer: None,
            dialect: Dialect::default(),
            by_epoch: false,
            target_rows: None,
            target_bytes: None,
            linger: Duration::from_millis(50),
            max_in_flight_batches: None,
            max_in_flight_bytes: None,
        }
    }
}
