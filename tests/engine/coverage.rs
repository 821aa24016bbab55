//! Whether the random operations get anywhere: properties of runs in which nothing happens say nothing.

use std::collections::BTreeMap;

use bowstring::engine::{Code, Command, EpochState, Error, FullPolicy, Outcome, PartitionMove, Place, Start};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use crate::model::Model;
use crate::operations::{operations, options};
use crate::world::{Step, World};

/// What has to happen how often in 400 runs.
const NEEDED: &[(&str, usize)] = &[
    ("appended visibly", 400),
    ("staged", 800),
    ("resent", 15),
    ("in memory", 1000),
    ("in the spool", 500),
    ("waiting", 800),
    ("granted", 80),
    ("granted in the spool", 15),
    ("refused a wait", 120),
    ("committed two winners", 20),
    ("committed and left out an attempt", 60),
    ("replayed", 100),
    ("aborted", 100),
    ("took over with batches staged", 25),
    ("dropped acked batches", 100),
    ("dropped the oldest", 150),
    ("receipt", 1000),
    ("changed", 30),
    ("sought", 300),
    ("read again", 8),
    ("skipped", 50),
    ("looked what a seek would do", 60),
    ("started at a time", 100),
    ("started at an epoch", 50),
    ("behind a time that is gone", 30),
    ("behind an epoch that is gone", 5),
    ("evicted", 25),
    ("evicted and taken up again", 5),
    ("dropped for one that skips", 30),
    ("waited too long", 8),
    ("spilled", 100),
    ("let in a stream that had drained", 5),
];

#[test]
fn the_operations_reach_what_the_properties_speak_of() {
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeMap::new();
    let mut codes = BTreeMap::new();
    for _ in 0..400 {
        let (options, operations) = (options(), operations()).new_tree(&mut runner).expect("nothing is filtered out").current();
        World::drive(options, &operations, |world, step| {
            if let Err(error) = &step.effects.outcome {
                *codes.entry(error.code()).or_insert(0_usize) += 1;
            }
            let skipped = |model: &Model| model.subscriptions.values().flatten().map(|cursor| cursor.skipped).sum::<u64>();
            let skips = step.before.options.full_policy != FullPolicy::DropOldest && skipped(&world.model) > skipped(&step.before);
            for name in happenings(step).into_iter().chain(skips.then_some("dropped for one that skips")) {
                *seen.entry(name).or_insert(0_usize) += 1;
            }
        });
    }
    for (name, needed) in NEEDED {
        let times = seen.get(name).copied().unwrap_or_default();
        assert!(times >= *needed, "{name} {times} times of {needed}: {seen:?} {codes:?}");
    }
    assert_eq!(seen.len(), NEEDED.len(), "{seen:?}");
    for code in [
        Code::Fenced,
        Code::BatchTooLarge,
        Code::BufferFull,
        Code::SpoolFull,
        Code::OrdinalGap,
        Code::EpochCommitted,
        Code::EpochNotOpen,
        Code::ReceiptUnknown,
        Code::OffsetGone,
        Code::OffsetAhead,
    ] {
        assert!(codes.contains_key(&code), "{code:?}: {codes:?}");
    }
}

fn happenings(step: &Step) -> Vec<&'static str> {
    let Step { command, effects, before } = step;
    let mut names = match &effects.outcome {
        Ok(Outcome::Appended { offset: Some(_), .. }) => vec!["appended visibly"],
        Ok(Outcome::Appended { offset: None, .. }) if is_resend(step) => vec!["resent"],
        Ok(Outcome::Appended { offset: None, .. }) => vec!["staged"],
        Ok(Outcome::Reserved { place: Place::Memory }) => vec!["in memory"],
        Ok(Outcome::Reserved { place: Place::Spool }) => vec!["in the spool"],
        Ok(Outcome::Reserved { place: Place::Log }) => vec!["in the log"],
        Ok(Outcome::Waiting) => vec!["waiting"],
        Ok(Outcome::Receipt(_)) => vec!["receipt"],
        Ok(Outcome::Epoch(EpochState::Committed)) => committed(step),
        Ok(Outcome::Epoch(EpochState::AlreadyCommitted)) => vec!["replayed"],
        Ok(Outcome::Epoch(EpochState::Aborted)) => vec!["aborted"],
        Ok(Outcome::Moved(moves)) => moved(command, moves),
        Err(Error::TimeGone { .. }) => vec!["behind a time that is gone"],
        Err(Error::EpochGone { .. }) => vec!["behind an epoch that is gone"],
        // Leases have properties of their own.
        Ok(Outcome::Reads(_) | Outcome::Taken(_) | Outcome::TakenShares(_) | Outcome::Acked { .. } | Outcome::Updated { .. }) => Vec::new(),
        Ok(Outcome::Done | Outcome::Opened { .. } | Outcome::Epoch(EpochState::Open)) | Err(_) => Vec::new(),
    };
    let named = crate::model::named_run(command).and_then(|(producer, run)| Some((before.producers.get(producer)?, run)));
    let takes_over = named.is_some_and(|(state, run)| state.run != *run && !state.fenced.contains(run));
    let told = [
        ("granted", !effects.granted.is_empty()),
        ("granted in the spool", effects.granted.iter().any(|(_, place)| *place == Place::Spool)),
        ("refused a wait", !effects.refused.is_empty()),
        ("changed", effects.changed),
        ("took over with batches staged", takes_over && effects.dropped_batches > 0),
        ("dropped the oldest", matches!(command, Command::Reserve { .. }) && effects.dropped_batches > 0),
        ("started at a time", is_start(step, |start| matches!(start, Start::Time(_)))),
        ("started at an epoch", is_start(step, |start| matches!(start, Start::Epoch { .. }))),
        ("evicted", !effects.evicted.is_empty()),
        (
            "evicted and taken up again",
            matches!(command, Command::Seek { subscription, dry_run: false, .. } if before.evicted.contains(subscription))
                && effects.outcome.is_ok(),
        ),
        ("waited too long", effects.refused.iter().any(|(_, error)| matches!(error, Error::WaitedTooLong { .. }))),
        (
            "spilled",
            before.options.full_policy == FullPolicy::Spill
                && !before.all_unblocked()
                && effects.outcome == Ok(Outcome::Reserved { place: Place::Spool }),
        ),
        (
            "let in a stream that had drained",
            before.options.resume_percent < 100 && !effects.granted.is_empty() && matches!(command, Command::Ack { .. }),
        ),
        ("dropped acked batches", matches!(command, Command::Ack { .. }) && effects.dropped_batches > 0),
    ];
    names.extend(told.into_iter().filter(|(_, happened)| *happened).map(|(name, _)| name));
    names
}

/// Whether a subscription was created or moved to such a start.
fn is_start(step: &Step, is_it: impl Fn(&Start) -> bool) -> bool {
    let Step { command, effects, before } = step;
    effects.outcome.is_ok()
        && match command {
            Command::Subscribe { subscription, start, .. } => !before.subscriptions.contains_key(subscription) && is_it(start),
            Command::Seek { to, dry_run, .. } => !dry_run && is_it(to),
            _ => false,
        }
}

fn moved(command: &Command<u64>, moves: &[PartitionMove]) -> Vec<&'static str> {
    if matches!(command, Command::Seek { dry_run: true, .. }) {
        return vec!["looked what a seek would do"];
    }
    let back = moves.iter().any(|moved| moved.to < moved.from).then_some("read again");
    let on = moves.iter().any(|moved| moved.to > moved.from).then_some("skipped");
    ["sought"].into_iter().chain(back).chain(on).collect()
}

fn is_resend(step: &Step) -> bool {
    let Command::Append { appender, ordinal, .. } = step.command else { return false };
    step.before.next_ordinal(appender).is_some_and(|expected| ordinal < expected)
}

fn committed(step: &Step) -> Vec<&'static str> {
    let Command::CommitEpoch { producer, epoch, receipts, .. } = &step.command else { return Vec::new() };
    let writers = step.before.producers.get(producer).and_then(|state| state.epochs.get(epoch));
    let staged = || writers.into_iter().flatten().filter(|(_, writer)| !writer.staged.is_empty());
    let winners = staged().filter(|(key, _)| receipts.contains(key)).count();
    let two = (winners >= 2).then_some("committed two winners");
    let left_out = (winners < staged().count()).then_some("committed and left out an attempt");
    two.into_iter().chain(left_out).collect()
}
