//! What a batch costs on its way through the engine.

use std::time::Duration;

use allocation_counter::measure;
use bowstring::engine::{
    AppenderId, AppenderKind, Command, Effects, FullPolicy, Offset, OnOverflow, Outcome, PartitionId, Place, ProducerId, Start, Stream,
    StreamId, StreamName, StreamOptions, SubscriptionName, Timestamp,
};

use crate::story::options;

const PARTITIONS: u32 = 4;
/// So many batches are in the buffer all the time.
const BUFFERED: u64 = 1_000;

/// A stream with one appender and two subscriptions, and effects that are used again.
struct Flow {
    stream: Stream<u64>,
    appender: AppenderId,
    subscriptions: [SubscriptionName; 2],
    effects: Effects,
    now: Timestamp,
    ordinal: u64,
}

impl Flow {
    fn new() -> Self {
        let limits = StreamOptions { partitions: PARTITIONS, full_policy: FullPolicy::Wait, ..options(2 * BUFFERED, u64::MAX, 0) };
        let mut stream = Stream::new(StreamName::new("s").expect("a name"), StreamId(1), limits).expect("few partitions");
        let producer = ProducerId::new("p").expect("a name");
        let now = Timestamp(1);
        let opened = stream.apply(Command::OpenAppender { kind: AppenderKind::Anonymous { producer }, connection: None }, now).outcome;
        let Ok(Outcome::Opened { appender, .. }) = opened else { panic!("{opened:?}") };
        let subscriptions = ["a", "b"].map(|name| SubscriptionName::new(name).expect("a name"));
        for subscription in &subscriptions {
            let subscribed = stream.apply(
                Command::Subscribe {
                    subscription: subscription.clone(),
                    start: Start::Earliest,
                    mode: None,
                    on_overflow: OnOverflow::Hold,
                    sharing: None,
                    query: None,
                },
                now,
            );
            subscribed.outcome.expect("a new one");
        }
        Self { stream, appender, subscriptions, effects: Effects::default(), now, ordinal: 0 }
    }

    fn apply(&mut self, command: Command<u64>) -> Outcome {
        self.now = self.now.plus(Duration::from_micros(1));
        self.stream.apply_into(command, self.now, &mut self.effects);
        std::mem::replace(&mut self.effects.outcome, Ok(Outcome::Done)).expect("is allowed")
    }

    /// One batch in, to the partitions in turn.
    fn append(&mut self) {
        let (appender, ordinal) = (self.appender, self.ordinal);
        self.ordinal += 1;
        assert_eq!(self.apply(Command::Reserve { appender, bytes: 10 }), Outcome::Reserved { place: Place::Memory });
        let partition = PartitionId(u32::try_from(ordinal % u64::from(PARTITIONS)).expect("few"));
        let appended = self.apply(Command::Append { appender, ordinal, partition, rows: 1, bytes: 10, data: ordinal });
        assert!(matches!(appended, Outcome::Appended { offset: Some(_), .. }), "{appended:?}");
    }

    /// Both subscriptions ack all batches but the newest 1,000: as commands, which are made before what is measured.
    fn acks(&self) -> Vec<Command<u64>> {
        let done = self.ordinal.saturating_sub(BUFFERED) / u64::from(PARTITIONS);
        let offsets: Vec<_> = (0..PARTITIONS).map(|partition| (PartitionId(partition), Offset(done))).collect();
        self.subscriptions
            .iter()
            .map(|name| Command::Ack { subscription: name.clone(), generation: None, offsets: offsets.clone() })
            .collect()
    }
}

#[test]
fn a_batch_that_comes_and_is_acked_by_all_allocates_nothing() {
    let mut flow = Flow::new();
    let allocated = |flow: &mut Flow| {
        let mut acks = flow.acks();
        let count = measure(|| {
            for _ in 0..100 {
                flow.append();
            }
            for ack in acks.drain(..) {
                flow.apply(ack);
            }
        });
        count.count_total
    };
    // The logs have grown to their size.
    while flow.ordinal < 4 * BUFFERED {
        allocated(&mut flow);
    }
    let counts: Vec<_> = (0..50).map(|_| allocated(&mut flow)).collect();
    assert_eq!(counts, [0; 50], "in 100 batches each");
    assert_eq!(flow.stream.describe(flow.now).buffered_batches, BUFFERED + 100, "those that came after the acks were made too");
}
