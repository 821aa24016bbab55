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
use super::cell::{NamedWriter, StreamCell};
use super::coordinator::Coordinator;
use super::error::Error;
use super::write;
use crate::engine::{
    Attempt, Code, Command, Dying, Epoch, EpochState, Outcome, ProducerId, RunId, SharingRules, StreamId, StreamOptions, Task, Timestamp,
    Visibility,
};
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

impl Coordinator {
    /// Writes the dead letters that are due now.
    pub async fn bury_dead_letters(self: &Arc<Self>) {
        for cell in self.list() {
            bury_all(self, &cell).await;
        }
    }
}

/// All that are due of a stream, those of each subscription in the order of their numbers.
async fn bury_all(coordinator: &Arc<Coordinator>, cell: &Arc<StreamCell>) {
    let mut stuck = HashSet::new();
    for (dying, rules) in cell.dying() {
        if stuck.contains(&dying.subscription) {
            continue;
        }
        let subscription = dying.subscription.clone();
        let trouble = bury(coordinator, cell, dying, &rules).await.err();
        if let Some(error) = &trouble {
            tracing::warn!(stream = %cell.name(), %subscription, letters = %rules.dead_letters, %error, "a dead letter cannot be written");
            stuck.insert(subscription.clone());
        }
        cell.note_burial(&subscription, trouble.map(|error| error.to_string()));
    }
}

async fn bury(coordinator: &Arc<Coordinator>, cell: &Arc<StreamCell>, dying: Dying, rules: &SharingRules) -> Result<(), Error> {
    let (subscription, number) = (dying.subscription.clone(), dying.number);
    // The number before anything that is written by it.
    cell.apply(Command::SaveShares { subscription: subscription.clone() })?;
    cell.durable().await?;
    let batch = match cell.read(dying.partition, dying.offset, 1, u64::MAX) {
        // It was dropped meanwhile, and with it goes what was to be done.
        Err(error) if error.code() == Code::OffsetGone => return Ok(()),
        read => read?.pop(),
    };
    let Some(batch) = batch else { return Ok(()) };
    let letters = letters(coordinator, cell, rules)?;
    let producer = producer(cell, &dying)?;
    let (run, epoch) = (RunId::new("1")?, Epoch(if zoo::has(Bug::DeadLetterTwice) { cell.now().0 } else { number }));
    let opened = letters.apply(Command::OpenEpoch { producer: producer.clone(), run: run.clone(), epoch })?;
    if opened != Outcome::Epoch(EpochState::AlreadyCommitted) {
        let attempt = Attempt(letters.now().0);
        let letter = Letter {
            stream: letters.name().clone(),
            stream_id: letters.id(),
            producer: producer.clone(),
            run: run.clone(),
            epoch,
            attempt,
            room_wait: ROOM_WAIT,
            origin: cell.name().clone(),
            keys: rules.keys.clone(),
            dying,
            died_at: cell.now(),
        };
        let stored = batch.data.clone();
        let schema_of = |version| cell.schema_of(version);
        let loaded = read(coordinator, move || stored.read()).await??;
        let schema = schema_of(loaded.schema).ok_or_else(|| Error::Task { reason: "the batch's schema is not known".to_owned() })?;
        let mut writers = Vec::new();
        if let Some(frames) = read(coordinator, move || letter.frames(&schema, &loaded)).await?? {
            let progress = watch::Sender::new(None);
            write::put(coordinator, Full::new(frames), None, &progress).await?;
            let receipt = progress.borrow().as_ref().and_then(|result| result.receipt);
            let opened_at = receipt.map(|receipt| Timestamp(receipt.opened_at_micros));
            writers.push(NamedWriter { task: Task(0), attempt, opened_at });
        }
        letters.commit_epoch(producer, run, epoch, &writers)?;
    }
    letters.durable().await?;
    cell.counters().count_dead_letter();
    cell.apply(Command::Bury { subscription, number }).map(drop)
}

/// The stream of the dead letters, which is made with the first.
fn letters(coordinator: &Coordinator, cell: &StreamCell, rules: &SharingRules) -> Result<Arc<StreamCell>, Error> {
    if let Ok(found) = coordinator.get(&rules.dead_letters) {
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
