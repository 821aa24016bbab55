//! Random operations, from small domains so that they meet, with a few hostile numbers among them.

use std::time::Duration;

use bowstring::engine::{FullPolicy, Limits, OnOverflow, StreamOptions, Visibility};
use proptest::prelude::*;

/// Which run of a producer speaks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Run {
    Current,
    /// A new one, which takes over.
    Next,
    /// One that was taken over, if there is one.
    Stale,
}

/// Which epoch, seen from the producer's last committed one.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Number {
    Ahead(u64),
    Committed,
    Largest,
}

/// Which ordinal, seen from the one that is expected.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ordinal {
    Expected,
    Resend,
    Gap,
    Largest,
}

/// How large the batch is that comes, seen from what was reserved.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Size {
    Reserved,
    OneLess,
    OneMore,
}

/// Which offset of a partition.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Where {
    /// This many hundredths of the way from the start to the end.
    Within(u64),
    End,
    BeforeStart,
    Ahead,
    Largest,
}

/// Which start.
#[derive(Debug, Clone)]
pub(crate) enum Begin {
    Earliest,
    Latest,
    Offsets(Vec<(u32, Where)>),
    /// So many seconds ago.
    Ago(u64),
    /// Of a producer, or of the only one: so many epochs before the one after the next. Producer 2 never comes.
    Epoch {
        producer: Option<u8>,
        back: u64,
    },
}

/// Which attempts a commit names.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Winners {
    /// Of each task that has finished attempts, one: the lowest if 0, the highest otherwise.
    Finished(u8),
    /// The same, but for the last task.
    AllButOne,
    /// One that nobody has seen.
    Unknown,
    /// One of them twice.
    Twice,
}

/// A change that is tried on a stream. Numbers pick among what there is.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    OpenAnonymous,
    OpenDirect {
        producer: u8,
        run: Run,
    },
    OpenWriter {
        producer: u8,
        run: Run,
        epoch: Number,
        task: u32,
        attempt: u64,
    },
    /// A whole attempt: opens, puts batches of these sizes, finishes.
    Attempt {
        producer: u8,
        task: u32,
        attempt: u64,
        sizes: Vec<u64>,
    },
    Reserve {
        appender: u16,
        bytes: u64,
    },
    Append {
        appender: u16,
        ordinal: Ordinal,
        partition: u32,
        rows: u64,
        size: Size,
    },
    Put {
        appender: u16,
        partition: u32,
        bytes: u64,
    },
    Finish {
        appender: u16,
    },
    Close {
        appender: u16,
    },
    OpenEpoch {
        producer: u8,
        run: Run,
        epoch: Number,
    },
    Commit {
        producer: u8,
        run: Run,
        epoch: Number,
        winners: Winners,
    },
    Abort {
        producer: u8,
        run: Run,
        epoch: Number,
    },
    Keep {
        producer: u8,
        run: Run,
        seconds: u64,
    },
    Subscribe {
        subscription: u8,
        start: Begin,
        on_overflow: OnOverflow,
    },
    Unsubscribe {
        subscription: u8,
    },
    Ack {
        subscription: u8,
        offsets: Vec<(u32, Where)>,
    },
    Plan {
        subscription: u8,
        offsets: Vec<(u32, Where)>,
    },
    Seek {
        subscription: u8,
        to: Begin,
        dry_run: bool,
    },
    Complete,
    Fail,
    Tick {
        seconds: u64,
    },
}

/// Streams with tiny limits, of every policy and visibility.
pub(crate) fn options() -> impl Strategy<Value = StreamOptions> {
    let policy = prop_oneof![3 => Just(FullPolicy::Wait), 1 => Just(FullPolicy::Reject), 2 => Just(FullPolicy::DropOldest), 2 => Just(FullPolicy::Spill)];
    options_with(policy.boxed())
}

/// The same, all with one policy.
pub(crate) fn options_of(policy: FullPolicy) -> impl Strategy<Value = StreamOptions> {
    options_with(Just(policy).boxed())
}

fn options_with(policy: BoxedStrategy<FullPolicy>) -> impl Strategy<Value = StreamOptions> {
    let visibility = prop_oneof![3 => Just(Visibility::Committed), 1 => Just(Visibility::Immediate)];
    let spool = prop_oneof![1 => Just(0_u64), 3 => 0_u64..60];
    let resume_percent = prop_oneof![2 => Just(100_u32), 1 => 0_u32..100];
    let max_wait = prop::option::weighted(0.4, (1_u64..4).prop_map(Duration::from_secs));
    (1_u32..4, 1_u64..6, 4_u64..40, spool, visibility, policy, resume_percent, max_wait).prop_map(
        |(partitions, max_buffered_batches, max_buffered_bytes, max_spool_bytes, visibility, full_policy, resume_percent, max_wait)| {
            StreamOptions {
                partitions,
                limits: Limits { max_buffered_batches, max_buffered_bytes, max_spool_bytes, ..Limits::default() },
                visibility,
                full_policy,
                resume_percent,
                max_wait,
                ..StreamOptions::default()
            }
        },
    )
}

/// Up to 120 operations. Most streams have a subscription from the start, and few end before the last ones.
pub(crate) fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let start = on_overflow().prop_map(|on_overflow| Operation::Subscribe { subscription: 0, start: Begin::Earliest, on_overflow });
    let first = prop::option::weighted(0.8, start);
    let end = prop::option::weighted(0.1, (ending(), prop::collection::vec(operation(), 0..20)));
    (first, prop::collection::vec(operation(), 1..100), end).prop_map(|(first, middle, end)| {
        let end = end.into_iter().flat_map(|(ending, after)| std::iter::once(ending).chain(after));
        first.into_iter().chain(middle).chain(end).collect()
    })
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![16 => opening(), 34 => appending(), 16 => epochs(), 22 => consuming()]
}

fn opening() -> impl Strategy<Value = Operation> {
    prop_oneof![
        1 => Just(Operation::OpenAnonymous),
        2 => (producer(), run()).prop_map(|(producer, run)| Operation::OpenDirect { producer, run }),
        5 => (producer(), run(), number(), 0_u32..3, 0_u64..2)
            .prop_map(|(producer, run, epoch, task, attempt)| Operation::OpenWriter { producer, run, epoch, task, attempt }),
        10 => (producer(), 0_u32..3, 0_u64..3, prop::collection::vec(bytes(), 0..6))
            .prop_map(|(producer, task, attempt, sizes)| Operation::Attempt { producer, task, attempt, sizes }),
    ]
}

fn appending() -> impl Strategy<Value = Operation> {
    let ordinal =
        prop_oneof![20 => Just(Ordinal::Expected), 5 => Just(Ordinal::Resend), 1 => Just(Ordinal::Gap), 1 => Just(Ordinal::Largest)];
    let size = prop_oneof![10 => Just(Size::Reserved), 2 => Just(Size::OneLess), 1 => Just(Size::OneMore)];
    prop_oneof![
        14 => (any::<u16>(), bytes()).prop_map(|(appender, bytes)| Operation::Reserve { appender, bytes }),
        10 => (any::<u16>(), ordinal, partition(), rows(), size)
            .prop_map(|(appender, ordinal, partition, rows, size)| Operation::Append { appender, ordinal, partition, rows, size }),
        14 => (any::<u16>(), partition(), bytes()).prop_map(|(appender, partition, bytes)| Operation::Put { appender, partition, bytes }),
        4 => any::<u16>().prop_map(|appender| Operation::Finish { appender }),
        2 => any::<u16>().prop_map(|appender| Operation::Close { appender }),
    ]
}

fn epochs() -> impl Strategy<Value = Operation> {
    let winners = prop_oneof![
        16 => (0_u8..2).prop_map(Winners::Finished),
        3 => Just(Winners::AllButOne),
        1 => Just(Winners::Unknown),
        1 => Just(Winners::Twice),
    ];
    prop_oneof![
        2 => (producer(), run(), number()).prop_map(|(producer, run, epoch)| Operation::OpenEpoch { producer, run, epoch }),
        6 => (producer(), run(), number(), winners)
            .prop_map(|(producer, run, epoch, winners)| Operation::Commit { producer, run, epoch, winners }),
        1 => (producer(), run(), number()).prop_map(|(producer, run, epoch)| Operation::Abort { producer, run, epoch }),
        1 => (producer(), run(), 0_u64..5).prop_map(|(producer, run, seconds)| Operation::Keep { producer, run, seconds }),
        2 => (0_u64..4).prop_map(|seconds| Operation::Tick { seconds }),
    ]
}

fn consuming() -> impl Strategy<Value = Operation> {
    prop_oneof![
        5 => (subscription(), begin(), on_overflow())
            .prop_map(|(subscription, start, on_overflow)| Operation::Subscribe { subscription, start, on_overflow }),
        1 => subscription().prop_map(|subscription| Operation::Unsubscribe { subscription }),
        14 => (subscription(), offsets()).prop_map(|(subscription, offsets)| Operation::Ack { subscription, offsets }),
        5 => (subscription(), offsets()).prop_map(|(subscription, offsets)| Operation::Plan { subscription, offsets }),
        8 => (subscription(), begin(), prop::bool::weighted(0.2))
            .prop_map(|(subscription, to, dry_run)| Operation::Seek { subscription, to, dry_run }),
    ]
}

fn on_overflow() -> impl Strategy<Value = OnOverflow> {
    prop_oneof![4 => Just(OnOverflow::Hold), 1 => Just(OnOverflow::Skip), 1 => Just(OnOverflow::Evict)]
}

/// The same operations, with subscriptions of one kind.
pub(crate) fn all_of(kind: OnOverflow, mut operations: Vec<Operation>) -> Vec<Operation> {
    for operation in &mut operations {
        if let Operation::Subscribe { on_overflow, .. } = operation {
            *on_overflow = kind;
        }
    }
    operations
}

fn begin() -> impl Strategy<Value = Begin> {
    prop_oneof![
        2 => Just(Begin::Earliest),
        2 => Just(Begin::Latest),
        4 => offsets().prop_map(Begin::Offsets),
        4 => (0_u64..6).prop_map(Begin::Ago),
        4 => (prop::option::weighted(0.9, 0_u8..3), 0_u64..5).prop_map(|(producer, back)| Begin::Epoch { producer, back }),
    ]
}

fn ending() -> impl Strategy<Value = Operation> {
    prop_oneof![Just(Operation::Complete), Just(Operation::Fail)]
}

fn producer() -> impl Strategy<Value = u8> {
    0_u8..2
}

fn run() -> impl Strategy<Value = Run> {
    prop_oneof![40 => Just(Run::Current), 2 => Just(Run::Next), 2 => Just(Run::Stale)]
}

fn number() -> impl Strategy<Value = Number> {
    prop_oneof![50 => Just(Number::Ahead(1)), 4 => Just(Number::Ahead(2)), 5 => Just(Number::Committed), 1 => Just(Number::Largest)]
}

/// Small enough to fit, mostly, and now and then hostile.
fn bytes() -> impl Strategy<Value = u64> {
    prop_oneof![30 => 0_u64..10, 4 => 10_u64..30, 1 => Just(u64::MAX)]
}

fn rows() -> impl Strategy<Value = u64> {
    prop_oneof![20 => 0_u64..9, 1 => Just(u64::MAX)]
}

/// Among the stream's, but for the largest two, which it does not have.
fn partition() -> impl Strategy<Value = u32> {
    prop_oneof![20 => 0_u32..3, 1 => Just(3), 1 => Just(u32::MAX)]
}

fn subscription() -> impl Strategy<Value = u8> {
    prop_oneof![8 => Just(0_u8), 2 => Just(1_u8), 1 => Just(2_u8)]
}

fn offsets() -> impl Strategy<Value = Vec<(u32, Where)>> {
    let offset = prop_oneof![
        8 => (0_u64..=100).prop_map(Where::Within),
        8 => Just(Where::End),
        1 => Just(Where::BeforeStart),
        1 => Just(Where::Ahead),
        1 => Just(Where::Largest),
    ];
    prop::collection::vec((partition(), offset), 1..4)
}
