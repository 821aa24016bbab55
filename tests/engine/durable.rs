//! Durable streams: nothing is visible before it is settled, and all else is as in memory; a restart finds what there was.

use bowstring::engine::{
    AppenderId, BatchFacts, Command, Effects, Epoch, Error, FullPolicy, Offset, OnOverflow, Outcome, Part, PartitionId, PartitionSnapshot,
    Place, ProducerId, Start, Stream, StreamId, StreamName, StreamOptions, StreamSnapshot, StreamView, SubscriptionName, Timestamp,
};
use proptest::prelude::*;

use crate::operations::{operations, options};
use crate::story::{direct, producer, run, subscription, writer};
use crate::world::World;

/// A durable stream, and what its log would have to do.
struct Durable {
    stream: Stream<u64>,
    unwritten: (u64, u64),
}

impl Durable {
    fn new(options: StreamOptions) -> Self {
        let name = StreamName::new("s").expect("a valid name");
        Self { stream: Stream::durable(name, StreamId(7), options).expect("1 to 3 partitions"), unwritten: (0, 0) }
    }

    fn apply(&mut self, command: Command<u64>, now: Timestamp) -> Effects {
        let bytes = if let Command::Append { bytes, .. } = &command { *bytes } else { 0 };
        let effects = self.stream.apply(command, now);
        if let Ok(Outcome::Appended { again: false, .. }) = &effects.outcome {
            self.unwritten = (self.unwritten.0 + 1, self.unwritten.1 + bytes);
        }
        effects
    }

    /// The log has written all that there is, and made it durable.
    fn settle(&mut self, now: Timestamp) -> Effects {
        let ends = partitions(&self.stream).map(|partition| (partition, self.stream.log_end(partition).expect("is there")));
        let (batches, bytes) = std::mem::take(&mut self.unwritten);
        let settle = Command::Settle { batches, bytes, durable: ends.collect() };
        self.stream.apply(settle, now)
    }
}

fn partitions(stream: &Stream<u64>) -> impl Iterator<Item = PartitionId> {
    (0..stream.options().partitions).map(PartitionId)
}

/// What a reader finds in a partition: offsets and data.
fn readable(stream: &Stream<u64>, partition: PartitionId) -> Vec<(Offset, u64)> {
    let (start, _) = stream.range(partition).expect("is there");
    let batches = stream.read(partition, start, usize::MAX, u64::MAX).expect("is there");
    batches.into_iter().map(|batch| (batch.offset, batch.data)).collect()
}

/// A stream in memory with as much room as a durable one has on its disk.
fn as_in_memory(mut options: StreamOptions) -> StreamOptions {
    options.limits.max_disk_bytes = options.limits.max_buffered_bytes;
    options.limits.max_buffered_batches = u64::MAX;
    options.limits.max_spool_bytes = 0;
    if options.full_policy == FullPolicy::Spill {
        // All of it is in the log.
        options.full_policy = FullPolicy::Wait;
    }
    options
}

/// The same with memory for whatever is on its way.
fn on_disk(mut options: StreamOptions) -> StreamOptions {
    options.limits.max_buffered_bytes = u64::MAX;
    options
}

/// An outcome in memory as that of a durable stream.
fn durably(outcome: &Result<Outcome, Error>) -> String {
    match outcome {
        Ok(Outcome::Reserved { place: Place::Memory }) => format!("{:?}", Ok::<_, Error>(Outcome::Reserved { place: Place::Log })),
        Err(Error::SpoolFull { .. } | Error::BatchTooLarge { .. }) => "no room".to_owned(),
        Err(Error::BufferFull { .. }) => "no room now".to_owned(),
        other => format!("{other:?}"),
    }
}

fn plainly(outcome: &Result<Outcome, Error>) -> String {
    match outcome {
        Err(Error::DiskFull { .. }) => "no room".to_owned(),
        Err(Error::BufferFull { .. }) => "no room now".to_owned(),
        other => format!("{other:?}"),
    }
}

/// What must be the same, whatever the batches lie in.
fn seen(view: &StreamView) -> String {
    let partitions: Vec<_> = view.partitions.iter().map(|p| (p.start, p.end, p.rows_total, p.bytes_total)).collect();
    format!(
        "{:?} {:?} {:?} {:?} {:?} {:?}",
        view.state,
        (view.epochs_committed, view.epochs_aborted, view.epochs_replayed),
        partitions,
        view.subscriptions,
        view.producers,
        view.waiting
    )
}

pub(crate) fn snapshot(stream: &Stream<u64>, names: (&[SubscriptionName], &[ProducerId])) -> StreamSnapshot<u64> {
    let partition = |partition| {
        let PartitionSnapshot { start, rows_before, bytes_before, dropped, .. } = stream.partition_snapshot(partition).expect("is there");
        let batches = stream.unsettled(partition, start).expect("is there");
        let batches = batches.map(|batch| (batch.facts.clone(), batch.data));
        PartitionSnapshot { start, rows_before, bytes_before, dropped, batches: batches.collect() }
    };
    StreamSnapshot {
        options: stream.options().clone(),
        schemas: stream.schemas().to_vec(),
        state: stream.state().clone(),
        epochs: stream.epoch_totals(),
        partitions: partitions(stream).map(partition).collect(),
        subscriptions: names.0.iter().map(|name| (name.clone(), stream.subscription_snapshot(name).expect("is there"))).collect(),
        producers: names.1.iter().map(|name| (name.clone(), stream.producer_snapshot(name).expect("is there"))).collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_durable_stream_that_settles_at_once_is_as_one_in_memory(options in options(), operations in operations()) {
        let options = as_in_memory(options);
        let mut durable = Durable::new(on_disk(options.clone()));
        World::drive(options, &operations, |world, step| {
            let effects = durable.apply(step.command.clone(), world.now);
            let settled = durable.settle(world.now);
            assert_eq!(durably(&step.effects.outcome), plainly(&effects.outcome), "{:?}", step.command);
            assert_eq!(seen(&world.stream.describe(world.now)), seen(&durable.stream.describe(world.now)), "{:?}", step.command);
            assert!(effects.visible.is_empty(), "not before it is settled");
            assert_eq!(step.effects.visible, settled.visible);
            for partition in partitions(&durable.stream) {
                assert_eq!(readable(&world.stream, partition), readable(&durable.stream, partition));
            }
            let (memory, log) = (world.stream.describe(world.now), durable.stream.describe(world.now));
            assert_eq!((memory.buffered_batches, memory.buffered_bytes), (log.logged_batches, log.logged_bytes));
        });
    }

    #[test]
    fn nothing_is_visible_before_it_is_settled(options in options(), operations in operations(), every in 1_usize..20) {
        let options = as_in_memory(options);
        let mut durable = Durable::new(on_disk(options.clone()));
        let mut settled: Vec<Vec<(Offset, u64)>> = vec![Vec::new(); 3];
        let mut steps = 0;
        World::drive(options, &operations, |world, step| {
            // Cursors may go where nothing is visible yet, and then the two part.
            drop(durable.apply(step.command.clone(), world.now));
            steps += 1;
            if steps % every == 0 {
                durable.settle(world.now);
                for partition in partitions(&durable.stream) {
                    settled[partition.index()] = readable(&durable.stream, partition);
                }
            }
            for partition in partitions(&durable.stream) {
                let found = readable(&durable.stream, partition);
                assert!(found.iter().all(|batch| settled[partition.index()].contains(batch)), "{found:?} of {settled:?}");
            }
        });
    }

    #[test]
    fn a_restart_finds_what_there_was(options in options(), operations in operations()) {
        let options = as_in_memory(options);
        let mut durable = Durable::new(on_disk(options.clone()));
        let world = World::drive(options, &operations, |world, step| {
            drop(durable.apply(step.command.clone(), world.now));
            durable.settle(world.now);
        });
        let view = durable.stream.describe(world.now);
        let subscriptions: Vec<_> = view.subscriptions.iter().map(|view| view.name.clone()).collect();
        let producers: Vec<_> = view.producers.iter().map(|view| view.producer.clone()).collect();
        let found = snapshot(&durable.stream, (&subscriptions, &producers));
        let mut again = Stream::restore(durable.stream.name().clone(), durable.stream.id(), found, world.now).expect("is the same");
        let mut expected = view;
        // Open epochs are run again from their start, whoever waited calls again, and every lease begins anew.
        expected.producers.iter_mut().for_each(|producer| (producer.epochs, producer.lost) = (Vec::new(), false));
        expected.waiting.clear();
        // Who holds what begins anew as well.
        for place in expected.subscriptions.iter_mut().flat_map(|view| &mut view.partitions) {
            place.held_for = std::time::Duration::ZERO;
            place.drains_in = (place.lag_batches == 0).then_some(std::time::Duration::ZERO);
        }
        prop_assert_eq!(seen(&expected), seen(&again.describe(world.now)));
        for partition in partitions(&again) {
            prop_assert_eq!(readable(&durable.stream, partition), readable(&again, partition));
        }
        let times = (0..10).map(|second| Start::Time(Timestamp(second * 1_000_000)));
        let of = |producer: &ProducerId| { let producer = producer.clone(); (0..6).map(move |epoch| Start::Epoch { producer: Some(producer.clone()), epoch: Epoch(epoch) }) };
        for start in times.chain(producers.iter().flat_map(of)) {
            prop_assert_eq!(durable.stream.locate(&start), again.locate(&start), "{}", start);
        }
        // Every ordinal and run goes on where it was.
        for view in &expected.producers {
            let open = Command::OpenAppender { kind: direct(view.producer.as_str(), view.run.as_str()), connection: None };
            let (before, after) = (durable.stream.apply(open.clone(), world.now), again.apply(open, world.now));
            match (before.outcome, after.outcome) {
                (Ok(Outcome::Opened { next_ordinal: before, .. }), Ok(Outcome::Opened { next_ordinal: after, .. })) => prop_assert_eq!(before, after),
                (before, after) => prop_assert_eq!(before, after),
            }
        }
    }
}

fn options_of(max_buffered_bytes: u64, max_disk_bytes: u64) -> StreamOptions {
    let mut options = StreamOptions::default();
    options.limits.max_buffered_bytes = max_buffered_bytes;
    options.limits.max_disk_bytes = max_disk_bytes;
    options
}

/// A stream of 10 bytes in memory and so many on disk, with appender 0 of producer p.
fn opened(max_disk_bytes: u64) -> Durable {
    let mut durable = Durable::new(options_of(10, max_disk_bytes));
    let opened = durable.apply(Command::OpenAppender { kind: direct("p", "r"), connection: None }, Timestamp(0));
    assert_eq!(opened.outcome, Ok(Outcome::Opened { appender: AppenderId(0), next_ordinal: 0 }));
    durable
}

fn reserve(durable: &mut Durable, appender: u64, bytes: u64) -> Result<Outcome, Error> {
    durable.apply(Command::Reserve { appender: AppenderId(appender), bytes }, Timestamp(0)).outcome
}

fn append(durable: &mut Durable, appender: u64, ordinal: u64, bytes: u64) -> Effects {
    let append = Command::Append { appender: AppenderId(appender), ordinal, partition: PartitionId(0), rows: 1, bytes, data: ordinal };
    durable.apply(append, Timestamp(0))
}

#[test]
fn an_ordinal_that_a_crash_has_kept_beyond_a_lost_one_is_stored_once() {
    let mut durable = opened(1000);
    let mut producer = durable.stream.producer_snapshot(&ProducerId::new("p").expect("a name")).expect("is known");
    (producer.next_ordinal, producer.stored_ahead) = (1, [2, 3].into());
    let mut found = snapshot(&durable.stream, (&[], &[]));
    found.producers = vec![(ProducerId::new("p").expect("a name"), producer)];
    durable.stream = Stream::restore(durable.stream.name().clone(), durable.stream.id(), found, Timestamp(0)).expect("is the same");
    let opened = durable.apply(Command::OpenAppender { kind: direct("p", "r"), connection: None }, Timestamp(0));
    assert_eq!(opened.outcome, Ok(Outcome::Opened { appender: AppenderId(0), next_ordinal: 1 }));
    for (ordinal, is_again) in [(1, false), (2, true), (3, true), (4, false)] {
        reserve(&mut durable, 0, 1).expect("room");
        let appended = append(&mut durable, 0, ordinal, 1).outcome;
        assert!(matches!(appended, Ok(Outcome::Appended { again, .. }) if again == is_again), "{ordinal}: {appended:?}");
        durable.settle(Timestamp(0));
    }
}

#[test]
fn what_is_not_written_yet_is_bounded_by_memory_and_waits_for_nobody_but_the_log() {
    let mut durable = opened(1000);
    assert_eq!(reserve(&mut durable, 0, 10), Ok(Outcome::Reserved { place: Place::Log }));
    assert!(append(&mut durable, 0, 0, 10).outcome.is_ok());
    assert_eq!(reserve(&mut durable, 0, 1), Ok(Outcome::Waiting));
    let settled = durable.settle(Timestamp(0));
    assert_eq!(settled.granted, [(AppenderId(0), Place::Log)], "nobody has acked anything");
    assert_eq!(reserve(&mut durable, 0, 11), Err(Error::BatchTooLarge { bytes: 11, limit: 10 }));
}

#[test]
fn a_full_log_waits_for_consumers_but_an_open_epoch_never_for_itself() {
    let mut durable = opened(10);
    assert_eq!(reserve(&mut durable, 0, 10), Ok(Outcome::Reserved { place: Place::Log }));
    assert!(append(&mut durable, 0, 0, 10).outcome.is_ok());
    durable.settle(Timestamp(0));
    assert_eq!(reserve(&mut durable, 0, 1), Ok(Outcome::Waiting), "somebody may ack");

    let mut durable = Durable::new(options_of(10, 10));
    let opened = durable.apply(Command::OpenAppender { kind: writer(0, 0, 0), connection: None }, Timestamp(0));
    assert!(opened.outcome.is_ok());
    assert_eq!(reserve(&mut durable, 0, 10), Ok(Outcome::Reserved { place: Place::Log }));
    assert!(append(&mut durable, 0, 0, 10).outcome.is_ok());
    durable.settle(Timestamp(0));
    let full = reserve(&mut durable, 0, 1).expect_err("only the epoch itself could make room");
    assert_eq!(full, Error::DiskFull { bytes: 1, logged_bytes: 10, limit: 10 });
    assert!(full.to_string().contains("max_disk_bytes"), "{full}");
}

#[test]
fn what_changes_is_named_and_what_only_is_in_memory_is_not() {
    let mut durable = Durable::new(StreamOptions::default());
    let mut touched = |command| durable.apply(command, Timestamp(0)).touched;
    let open = |of| Command::OpenAppender { kind: direct("p", of), connection: None };
    assert_eq!(touched(open("r")), [Part::Producer(producer("p"))]);
    assert_eq!(touched(open("r")), [], "the same run");
    assert_eq!(touched(open("newer")), [Part::Producer(producer("p"))]);
    let subscribe = || Command::Subscribe {
        subscription: subscription("s"),
        start: Start::Earliest,
        mode: None,
        on_overflow: OnOverflow::Hold,
        sharing: None,
        query: None,
    };
    assert_eq!(touched(subscribe()), [Part::Subscription(subscription("s"))]);
    assert_eq!(touched(subscribe()), []);
    let keep = |lease| Command::KeepProducer { producer: producer("p"), run: run("newer"), lease: std::time::Duration::from_secs(lease) };
    assert_eq!(touched(keep(1)), [Part::Producer(producer("p"))]);
    assert_eq!(touched(keep(1)), [], "a sign of life as before");
    assert_eq!(touched(Command::AddSchema { schema: [1].into() }), [Part::Stream]);
    assert_eq!(touched(Command::AddSchema { schema: [1].into() }), [], "the same version");
    assert_eq!(touched(Command::AddSchema { schema: [2].into() }), [Part::Stream]);
    assert_eq!(touched(Command::Complete), [Part::Stream]);
    let mut in_memory = World::new(StreamOptions::default());
    assert_eq!(in_memory.apply(open("r")).effects.touched, []);
}

#[test]
fn batches_that_a_restart_finds_keep_their_turns() {
    let facts = |at: u64| BatchFacts { rows: 1, bytes: 1, producer: producer("p"), epoch: None, appended_at: Timestamp(at) };
    let partition =
        |times: &[u64]| PartitionSnapshot { batches: times.iter().map(|at| (facts(*at), *at)).collect(), ..PartitionSnapshot::default() };
    let mut options = StreamOptions { partitions: 2, full_policy: FullPolicy::DropOldest, ..options_of(10, 4) };
    options.limits.max_buffered_bytes = 10;
    let snapshot = StreamSnapshot {
        options,
        schemas: Vec::new(),
        state: bowstring::engine::StreamState::Open,
        epochs: bowstring::engine::EpochTotals::default(),
        partitions: vec![partition(&[1, 4]), partition(&[2, 3])],
        subscriptions: Vec::new(),
        producers: Vec::new(),
    };
    let name = StreamName::new("s").expect("a valid name");
    let mut stream = Stream::restore(name, StreamId(1), snapshot, Timestamp(5)).expect("two partitions");
    let opened = stream.apply(Command::OpenAppender { kind: direct("q", "r"), connection: None }, Timestamp(5));
    assert!(opened.outcome.is_ok());
    let reserved = stream.apply(Command::Reserve { appender: AppenderId(0), bytes: 2 }, Timestamp(5));
    assert_eq!((reserved.outcome, reserved.dropped_batches), (Ok(Outcome::Reserved { place: Place::Log }), 2));
    let left: Vec<_> = partitions(&stream).map(|partition| readable(&stream, partition)).collect();
    assert_eq!(left, [[(Offset(1), 4)], [(Offset(1), 3)]], "1 and 2 came first");
}
