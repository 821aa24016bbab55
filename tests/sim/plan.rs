//! What a seed decides before a run begins: who does how much, and what goes wrong when.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::disk::Crash;

/// Hosts of clients; faults of the network are between one of them and the coordinator.
pub(crate) const HOSTS: [&str; 3] = ["apps", "spark", "readers"];
/// Nothing goes wrong before and after.
const FAULTS_FROM: u64 = 300;
const FAULTS_UNTIL: u64 = 6_000;

/// A run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// The step of simulated time: what comes within one comes together.
    pub(crate) tick: Duration,
    pub(crate) latency_max: Duration,
    pub(crate) retry_deadline: Duration,
    pub(crate) segment_bytes_cut: u64,
    pub(crate) streams: Vec<StreamPlan>,
    /// In order of time.
    pub(crate) faults: Vec<(Duration, Fault)>,
}

/// A stream and who uses it.
#[derive(Debug, Clone)]
pub(crate) struct StreamPlan {
    pub(crate) name: String,
    pub(crate) partitions: u32,
    pub(crate) max_buffered_batches: u64,
    pub(crate) max_disk_bytes: u64,
    /// Producers append at most so many batches without a pause.
    pub(crate) burst_max: u64,
    /// A subscription that never acks holds everything back.
    pub(crate) keeps_all: bool,
    /// Ends with its last writer; else readers find out themselves that there is no more.
    pub(crate) completes: bool,
    /// Batches of each direct producer.
    pub(crate) producers: Vec<u64>,
    /// Epochs of each Spark query.
    pub(crate) queries: Vec<u64>,
    pub(crate) consumers: usize,
    pub(crate) reverse_readers: usize,
    /// Consumers that share one subscription by leases.
    pub(crate) members: usize,
    /// Subscriptions that give way where the log is full.
    pub(crate) laggards: usize,
    /// Subscriptions of which any consumer takes the next rows.
    pub(crate) sharings: Vec<SharingPlan>,
}

/// A shared subscription, and who shares it.
#[derive(Debug, Clone)]
pub(crate) struct SharingPlan {
    pub(crate) subscription: String,
    pub(crate) consumers: usize,
    pub(crate) max_deliveries: u32,
    pub(crate) bisect: bool,
    pub(crate) is_keyed: bool,
    /// Some batches have a row that nobody can do.
    pub(crate) has_bad_rows: bool,
    pub(crate) ack_within: Duration,
    /// Of a hundred deliveries, so many are refused for no reason.
    pub(crate) refused: u32,
    /// How often one of the consumers puts it back to the earliest batch, at most.
    pub(crate) seeks: u32,
}

impl SharingPlan {
    /// The stream of its dead letters.
    pub(crate) fn letters(&self, stream: &str) -> String {
        format!("{stream}.{}.dead", self.subscription)
    }
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The coordinator crashes, at once or before its disk's so many-th change from then on, and is down for so long.
    Crash { crash: Crash, calls: Option<u64>, down: Duration },
    /// Nothing gets through between a host and the coordinator, or only one way.
    Partition { host: &'static str, ways: Ways, lasts: Duration },
    /// What is sent between a host and the coordinator arrives later.
    Hold { host: &'static str, lasts: Duration },
    /// The disk has room for so many more bytes.
    Full { room: u64, lasts: Duration },
    /// The disk's so many-th sync, write or read fails; some time after, the coordinator is started again.
    Broken { call: Call, calls: u64 },
}

/// A call of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Sync,
    Write,
    Read,
    /// A read that succeeds, and is wrong.
    WrongRead,
}

/// Which ways are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ways {
    Both,
    ToServer,
    FromServer,
}

impl Fault {
    /// Whether the coordinator's disk is to blame, so that its answers may say so.
    pub(crate) fn is_of_disk(self) -> bool {
        matches!(self, Self::Full { .. } | Self::Broken { .. })
    }
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let random = &mut random;
        // Of their own, so that the rest of a seed's plan does not hang on them.
        let mut of_sharings = StdRng::seed_from_u64(seed ^ 0x5348_4152_4544);
        let streams = (0..pick(random, &[1, 1, 1, 2, 2, 3])).map(|number| stream(random, &mut of_sharings, number)).collect();
        let mut faults: Vec<_> = (0..pick(random, &[0, 1, 2, 3, 4, 6, 10]))
            .map(|_| (Duration::from_millis(random.random_range(FAULTS_FROM..FAULTS_UNTIL)), fault(random)))
            .collect();
        faults.sort_by_key(|(at, _)| *at);
        // turmoil cannot cut one way of what it holds.
        if faults.iter().any(|(_, fault)| matches!(fault, Fault::Hold { .. })) {
            for (_, fault) in &mut faults {
                if let Fault::Partition { ways, .. } = fault {
                    *ways = Ways::Both;
                }
            }
        }
        Self {
            seed,
            tick: Duration::from_millis(pick(random, &[2, 5, 10, 20, 50])),
            latency_max: Duration::from_millis(pick(random, &[1, 5, 20, 60])),
            retry_deadline: Duration::from_millis(pick(random, &[1_000, 5_000, 30_000])),
            segment_bytes_cut: pick(random, &[2_000, 20_000, 64 << 20]),
            streams,
            faults,
        }
    }

    /// Whether a full log is to be expected: where nobody could make room for what is appended, it is refused at once.
    pub(crate) fn has_small_logs(&self) -> bool {
        self.streams.iter().any(|stream| stream.max_disk_bytes < 1 << 20)
    }

    /// Whether clients may be cut off from a coordinator that lives.
    pub(crate) fn has_network_faults(&self) -> bool {
        self.faults.iter().any(|(_, fault)| matches!(fault, Fault::Partition { .. } | Fault::Hold { .. }))
    }

    pub(crate) fn has_disk_faults(&self) -> bool {
        self.faults.iter().any(|(_, fault)| fault.is_of_disk())
    }
}

fn stream(random: &mut StdRng, of_sharings: &mut StdRng, number: usize) -> StreamPlan {
    let mut producers: Vec<u64> = (0..random.random_range(0..=2)).map(|_| random.random_range(5..60)).collect();
    let queries: Vec<u64> = (0..pick(random, &[0, 1, 1, 2])).map(|_| random.random_range(2..7)).collect();
    if producers.is_empty() && queries.is_empty() {
        producers.push(random.random_range(5..40));
    }
    let keeps_all = random.random_bool(0.5);
    // What holds everything back would fill a small log for ever.
    let max_disk_bytes = if keeps_all { 1 << 30 } else { pick(random, &[1 << 30, 1 << 30, 60_000]) };
    StreamPlan {
        name: format!("s{number}"),
        max_disk_bytes,
        burst_max: pick(random, &[1, 3, 15]),
        partitions: random.random_range(1..=3),
        max_buffered_batches: pick(random, &[1, 4, 64]),
        keeps_all,
        completes: random.random_bool(0.5),
        producers,
        queries,
        consumers: random.random_range(1..=2),
        reverse_readers: random.random_range(0..=1),
        members: pick(random, &[0, 0, 2, 3]),
        laggards: if max_disk_bytes < 1 << 20 { 3 } else { 0 },
        sharings: sharings(of_sharings),
    }
}

fn sharings(random: &mut StdRng) -> Vec<SharingPlan> {
    let names: &[&str] = pick(random, &[&[], &["crew"], &["keyed"], &["crew", "keyed"]]);
    let plan = |name: &&str| {
        let max_deliveries = pick(random, &[0, 1, 2, 2, 3, 5]);
        SharingPlan {
            subscription: (*name).to_owned(),
            consumers: random.random_range(2..=4),
            max_deliveries,
            bisect: random.random_bool(0.4),
            is_keyed: *name == "keyed",
            has_bad_rows: max_deliveries > 0 && random.random_bool(0.6),
            ack_within: Duration::from_millis(pick(random, &[400, 1_500, 3_600_000])),
            refused: pick(random, &[0, 5, 15]),
            seeks: pick(random, &[0, 0, 0, 1]),
        }
    };
    names.iter().map(plan).collect()
}

fn fault(random: &mut StdRng) -> Fault {
    let lasts = Duration::from_millis(random.random_range(50..2_500));
    let host = pick(random, &HOSTS);
    let crash = pick(random, &[Crash::Process, Crash::Power, Crash::Power]);
    match random.random_range(0..24) {
        0..3 => Fault::Crash { crash, calls: None, down: lasts },
        3..12 => Fault::Crash { crash, calls: Some(random.random_range(1..60)), down: lasts },
        12..15 => Fault::Partition { host, ways: pick(random, &[Ways::Both, Ways::ToServer, Ways::FromServer]), lasts },
        15..17 => Fault::Hold { host, lasts },
        17..19 => Fault::Full { room: random.random_range(0..20_000), lasts },
        19..21 => Fault::Broken { call: Call::Sync, calls: random.random_range(1..20) },
        21..23 => Fault::Broken { call: Call::WrongRead, calls: random.random_range(1..40) },
        _ => Fault::Broken { call: pick(random, &[Call::Write, Call::Read]), calls: random.random_range(1..20) },
    }
}

fn pick<T: Copy>(random: &mut StdRng, among: &[T]) -> T {
    *among.choose(random).expect("not empty")
}
