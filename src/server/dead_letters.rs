//! Rows that were delivered too often go to a stream of dead letters, each with why, how often and where from. A dead letter is an
//! epoch of its own, with the number that the subscription gave it: after a crash it is committed already, and not written again.

mod letter;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::letter::Letter;
use super::access::Caller;
use super::cell::{NamedWriter, StreamCell};
use super::coordinator::Coordinator;
use super::error::Error;
use super::write::put;
use crate::engine::{
    Attempt, Code, Command, Dying, Epoch, EpochState, Outcome, ProducerId, RunId, SharingRules, StreamId, StreamOptions, SubscriptionName,
    Task, Timestamp, Visibility,
};
use crate::storage::StoredBatch;
use crate::wire::keys::fnv1a;
use crate::zoo::{self, Bug};

/// How often there is looked for rows that are to go.
const LOOK: Duration = Duration::from_millis(250);
/// How long a dead letter waits for room before others have their turn.
const ROOM_WAIT: Duration = Duration::from_secs(5);
/// Streams whose dead letters are written at once.
const AT_ONCE_MAX: usize = 32;
/// Of the name of the subscription, what is in the name of the producer; a hash tells longer ones apart.
const NAME_BYTES_MAX: usize = 128;

/// Writes dead letters until `stopping`.
pub(super) async fn run(coordinator: Arc<Coordinator>, stopping: CancellationToken) {
    let mut interval = tokio::time::interval(LOOK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut busy, mut tasks) = (HashSet::<StreamId>::new(), JoinSet::new());
    loop {
        tokio::select! {
            biased;
            () = stopping.cancelled() => return,
            Some(done) = tasks.join_next(), if !tasks.is_empty() => match done {
                Ok(id) => drop(busy.remove(&id)),
                // Whose it was is not known: all may be looked at again, and the numbers keep them from being written twice.
                Err(_) => busy.clear(),
            },
            _ = interval.tick() => {
                for cell in coordinator.list() {
                    if tasks.len() < AT_ONCE_MAX && cell.has_dying() && busy.insert(cell.id()) {
                        let coordinator = coordinator.clone();
                        tasks.spawn(async move {
                            bury_all(&coordinator, &cell).await;
                            cell.id()
                        });
                    }
                }
            }
        }
    }
}

/// All that are due of a stream, those of each subscription in the order of their numbers.
async fn bury_all(coordinator: &Arc<Coordinator>, cell: &Arc<StreamCell>) {
    let (mut saved, mut stuck) = (HashSet::new(), HashSet::new());
    for (dying, rules) in cell.dying() {
        let subscription = dying.subscription.clone();
        if stuck.contains(&subscription) || cell.burial_waits(&subscription) {
            continue;
        }
        // Their numbers before anything that is written by them.
        let is_saved = match saved.insert(subscription.clone()) {
            true => save(cell, subscription.clone()).await,
            false => Ok(()),
        };
        let buried = match is_saved {
            Ok(()) => bury(coordinator, cell, dying, &rules).await,
            Err(error) => Err(error),
        };
        let trouble = buried.err();
        if let Some(error) = &trouble {
            tracing::warn!(stream = %cell.name(), %subscription, letters = %rules.dead_letters, %error, "a dead letter cannot be written");
            stuck.insert(subscription.clone());
        }
        cell.note_burial(&subscription, trouble.map(|error| error.to_string()));
    }
}

async fn save(cell: &StreamCell, subscription: SubscriptionName) -> Result<(), Error> {
    cell.apply(Command::SaveShares { subscription })?;
    cell.durable().await
}

async fn bury(coordinator: &Arc<Coordinator>, cell: &Arc<StreamCell>, dying: Dying, rules: &SharingRules) -> Result<(), Error> {
    let done = Command::Bury { subscription: dying.subscription.clone(), created_at: dying.created_at, number: dying.number };
    let batch = match cell.read(dying.partition, dying.offset, 1, u64::MAX) {
        // It was dropped meanwhile, and with it goes what was to be done.
        Err(error) if error.code() == Code::OffsetGone => None,
        read => read?.pop(),
    };
    if let Some(batch) = batch {
        let letters = letters(coordinator, cell, rules)?;
        let producer = producer(cell, &dying)?;
        let run = RunId::new("1")?;
        // Another one after each restart, and at any time another one for each letter.
        let epoch = Epoch(if zoo::has(Bug::DeadLetterTwice) { cell.now().0 + dying.number } else { dying.number });
        let opened = letters.apply(Command::OpenEpoch { producer: producer.clone(), run: run.clone(), epoch })?;
        if opened != Outcome::Epoch(EpochState::AlreadyCommitted) {
            let letter = Letter {
                stream: letters.name().clone(),
                stream_id: letters.id(),
                producer: producer.clone(),
                run: run.clone(),
                epoch,
                attempt: Attempt(letters.now().0),
                room_wait: ROOM_WAIT,
                origin: cell.name().clone(),
                keys: rules.keys.clone(),
                dying,
                died_at: cell.now(),
            };
            if let Err(error) = write(coordinator, cell, &letters, letter, batch.data.clone()).await {
                // What of it is staged would hold room that nobody gives free.
                drop(letters.apply(Command::AbortEpoch { producer, run, epoch }));
                return Err(error);
            }
        }
        letters.durable().await?;
        cell.counters().count_dead_letter();
    }
    cell.apply(done).map(drop)
}

/// Writes the letter as an epoch of its own.
async fn write(
    coordinator: &Arc<Coordinator>,
    cell: &StreamCell,
    letters: &StreamCell,
    letter: Letter,
    stored: StoredBatch,
) -> Result<(), Error> {
    let (producer, run, epoch, attempt) = (letter.producer.clone(), letter.run.clone(), letter.epoch, letter.attempt);
    let loaded = read(coordinator, move || stored.read()).await??;
    let schema = cell.schema_of(loaded.schema);
    let schema = schema.ok_or_else(|| Error::Task { reason: "the batch's schema is not known".to_owned() })?;
    let mut writers = Vec::new();
    if let Some(frames) = read(coordinator, move || letter.frames(&schema, &loaded)).await?? {
        let progress = watch::Sender::new(None);
        put(coordinator, &Caller::default(), Full::new(frames), None, &progress).await?;
        let receipt = progress.borrow().as_ref().and_then(|result| result.receipt);
        let opened_at = receipt.map(|receipt| Timestamp(receipt.opened_at_micros));
        writers.push(NamedWriter { task: Task(0), attempt, opened_at });
    }
    letters.commit_epoch(producer, run, epoch, &writers).map(drop)
}

/// The stream of the dead letters, which is made with the first.
fn letters(coordinator: &Coordinator, cell: &StreamCell, rules: &SharingRules) -> Result<Arc<StreamCell>, Error> {
    if let Ok(found) = coordinator.get(&rules.dead_letters) {
        if found.options().visibility == Visibility::Immediate {
            let reason = format!(
                "stream {} is immediate, so that a letter could be there twice after a crash; delete it, or make it a committed stream",
                rules.dead_letters
            );
            return Err(Error::InvalidArgument { field: "dead_letters", reason });
        }
        return Ok(found);
    }
    let options = StreamOptions {
        partitions: 1,
        visibility: Visibility::Committed,
        schema_policy: cell.options().schema_policy,
        ..coordinator.options().stream_defaults.clone()
    };
    coordinator.create(&rules.dead_letters, options, None, true)
}

/// Who commits the dead letters of a subscription: another one of the same name has another producer.
fn producer(cell: &StreamCell, dying: &Dying) -> Result<ProducerId, Error> {
    let (stream, name) = (cell.id().0, dying.subscription.to_string());
    let short = &name[..name.floor_char_boundary(NAME_BYTES_MAX)];
    let producer = format!("dead-letters/{short}/{:x}/{stream:x}/{}", fnv1a(name.as_bytes()), dying.created_at.0);
    Ok(ProducerId::new(&producer)?)
}

/// What may block, on a thread that may; of a simulated disk, here.
async fn read<T: Send + 'static>(coordinator: &Coordinator, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    if coordinator.store().is_some_and(|store| !store.is_real()) {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::Task { reason: error.to_string() })
}
