//! What bounds a stream, with the reason for every number.

use std::time::Duration;

/// How much of a stream may be held. All limits are inclusive: a stream holds at most this much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Batches in memory, staged and visible together; each counts once however many subscriptions hold
    /// it. Default 64, DRLS's default, so that its users see no change.
    pub max_buffered_batches: u64,
    /// Bytes in memory (message headers and bodies), counted like the batches. Default 2 GiB.
    pub max_buffered_bytes: u64,
    /// Bytes of batches in the spool: what of an open epoch, or of data that Spark has planned but not
    /// committed, does not fit in memory. Default 16 GiB: a Spark micro-batch of 300 million rows of 50 bytes.
    pub max_spool_bytes: u64,
    /// Bytes of batches in the log of a durable stream, staged ones too. Default 64 GiB: what a day of 1 MB/s needs, and
    /// most disks have.
    pub max_disk_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_buffered_batches: 64, max_buffered_bytes: 2 << 30, max_spool_bytes: 16 << 30, max_disk_bytes: 64 << 30 }
    }
}

/// How long batches stay that every subscription has acked, to be read again: as long as either of the two asks for. Room that new
/// batches need is taken from them first, so nobody ever waits because of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// At least so long after they were appended. Default 0: until acked.
    pub time: Duration,
    /// At least the newest so many bytes of the stream. Default 0: until acked.
    pub bytes: u64,
}

/// The percentage that says that appends go on as soon as there is room.
pub(super) const RESUME_PERCENT_MAX: u32 = 100;
/// After so long without an ack, those that wait for a stream to drain are let in if there is room: a consumer that holds more than
/// `resume_percent` says, and acks only when it is given more, would never let it drain. As long as a tick is.
pub(super) const DRAIN_STALL: Duration = Duration::from_secs(1);
/// Most partitions of a stream: each costs a few hundred bytes and a row in every describe.
pub const PARTITIONS_MAX: u32 = 4096;
/// Most appenders that a stream holds open; a Spark stage of 10,000 tasks fits.
pub(super) const APPENDERS_MAX: usize = 65_536;
/// Most writers of all open epochs, closed ones too: what each has staged stays until its epoch ends.
pub(super) const WRITERS_MAX: usize = 65_536;
/// Most epochs that a producer holds open; Spark has one at a time.
pub(super) const EPOCHS_MAX: usize = 1024;
/// Most subscriptions of a stream: each is looked at when a batch is acked.
pub(super) const SUBSCRIPTIONS_MAX: usize = 1024;
/// Most consumers that share a subscription: each is looked at when the partitions are spread anew.
pub(super) const CONSUMERS_MAX: usize = 16_384;
/// Most parts of batches of a shared subscription that are given and not acked: a restart has to know of each, and with the next ack
/// after a change all of them are written down. Beyond that nobody is given more until some are acked.
pub(super) const PIECES_MAX: usize = 16_384;
/// Most parts of batches after halving: what has failed too often while there are so many goes to the dead letters as it is.
pub(super) const HALVES_MAX: usize = 2 * PIECES_MAX;
/// Shortest lease of a consumer: signs of life come three times as often, and a shorter one would be lost to any delay.
pub const LEASE_MIN: Duration = Duration::from_millis(100);
/// Most producers a stream remembers; each keeps its last committed epoch, which makes replays harmless.
pub(super) const PRODUCERS_MAX: usize = 16_384;
/// How many superseded runs a producer remembers, to refuse their zombies. An older zombie than that is
/// taken for a new run; its epochs are still checked against the last committed one.
pub(super) const SUPERSEDED_RUNS_MAX: usize = 64;

/// Of how many producers a partition remembers the newest epoch that it has dropped: it is written with each change of where the
/// partition begins. A stream that more write to says of the others together what is gone.
pub(super) const DROPPED_EPOCHS_MAX: usize = 32;

/// When batches of an epoch can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Visibility {
    /// When the epoch commits: all of it, or nothing. The default.
    #[default]
    Committed,
    /// As they arrive. A task that Spark retries is seen twice.
    Immediate,
}

/// What happens to an append that does not fit while others' data holds the space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FullPolicy {
    /// The producer waits, through flow control. The default.
    #[default]
    Wait,
    /// The append is refused with `buffer_full`; it may be tried again.
    Reject,
    /// The oldest visible batches are dropped, acked or not; subscriptions skip them. Loses data by design.
    DropOldest,
    /// It goes to the spool, up to `max_spool_bytes`, and waits once that is full, too. In a durable stream as `Wait`: all of it
    /// is in the log anyway, up to `max_disk_bytes`.
    Spill,
}

/// What a producer may bring that has another schema than the ones before it. The engine never looks into a schema: who calls it
/// compares them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SchemaPolicy {
    /// Nothing. The default: most changes of a schema are mistakes.
    #[default]
    Strict,
    /// New columns that may be null, and batches without known ones that may be null, in any order.
    Additive,
    /// That, and wider types: a value of the older one is one of the newer one.
    Widening,
}

impl SchemaPolicy {
    /// Its name, as options have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Additive => "additive",
            Self::Widening => "widening",
        }
    }
}

/// How a stream behaves; fixed at creation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamOptions {
    /// Number of partitions, 1 to 4096. Default 1.
    pub partitions: u32,
    /// The limits.
    pub limits: Limits,
    /// When batches of an epoch can be read.
    pub visibility: Visibility,
    /// What happens at the limits.
    pub full_policy: FullPolicy,
    /// What stays beyond the acks.
    pub retention: Retention,
    /// How long an append waits for room before it is refused with `buffer_full`; to the next [`Command::Tick`](super::Command::Tick)
    /// after that. Default none: as long as its client does.
    pub max_wait: Option<Duration>,
    /// Once appends had to wait for consumers, they are let in when what is held has fallen to so many percent of the limits (the
    /// low watermark; the limits are the high one); `DropOldest` and `OnOverflow::Skip` drop down to there. 0 to 100. Default 100:
    /// as soon as there is room.
    pub resume_percent: u32,
    /// What of the schema may change.
    pub schema_policy: SchemaPolicy,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            partitions: 1,
            limits: Limits::default(),
            visibility: Visibility::default(),
            full_policy: FullPolicy::default(),
            retention: Retention::default(),
            max_wait: None,
            resume_percent: RESUME_PERCENT_MAX,
            schema_policy: SchemaPolicy::default(),
        }
    }
}
