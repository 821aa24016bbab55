//! A coordinator's start: it takes over, and has on its disk what the object store has.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::TaskTracker;

use super::committer::{self, ASKS_MAX, Ledger, Shared};
use super::load::{load, newest_snapshot};
use super::objects::{Created, Objects};
use super::place::Place;
use super::saved::{Commit, FORMAT, Takeover, decode, encode};
use super::state::{Owner, commit_name};
use super::{Remote, UPLOADS, restore};
use crate::storage::StorageError;
use crate::storage::catalog::{Catalog, Marker};
use crate::storage::disk::Disk;

/// A start gives up after so many tries of one request: about ten seconds, where the store refuses at once.
const START_TRIES: u32 = 10;
/// How often it tries to take over while others do.
const TAKEOVERS: u32 = 100;
const TAKEOVER_PAUSE: Duration = Duration::from_millis(20);

/// Who starts.
#[derive(Debug, Clone)]
pub struct Starter {
    /// Of this start alone.
    pub id: String,
    /// Its machine, for people.
    pub host: String,
}

/// What a start has come to.
#[derive(Debug)]
pub struct Started {
    /// The object store, which is owned now.
    pub remote: Arc<Remote>,
    /// Bytes of segments that were read from it; the others were on the disk.
    pub read_bytes: u64,
}

impl Remote {
    /// Takes over what is at this URL, and makes the disk and its catalog what the object store says. From then on no other coordinator
    /// that has started before can commit. `tasks` gets what runs until it is stopped; [`keep`](Self::keep) comes after
    /// [`settle`](Self::settle).
    ///
    /// # Errors
    /// [`StorageError::ObjectStore`] if the store does not answer, [`StorageError::ObjectStoreUrl`],
    /// [`StorageError::NotInObjectStore`] if the disk has what the store has not, [`StorageError::NoConditionalPut`],
    /// [`StorageError::DamagedObject`], those of the disk.
    pub async fn start(
        url: &str,
        disk: &Arc<dyn Disk>,
        catalog: &Arc<Catalog>,
        starter: Starter,
        tasks: &TaskTracker,
    ) -> Result<Started, StorageError> {
        let objects = Objects::new(Place::of(url)?);
        let marker = catalog.marker()?;
        let has_streams = !catalog.load()?.is_empty();
        let (ledger, former) = take_over(&objects.with_tries(START_TRIES), &starter, |ledger| {
            check_disk(&objects, disk, (marker.as_ref(), has_streams), ledger)
        })
        .await?;
        let is_known = marker.is_some_and(|marker| marker.store == ledger.state.store && marker.owner == former.id);
        let marker = Marker { store: ledger.state.store.clone(), owner: ledger.state.owner.id.clone(), place: objects.shown().to_owned() };
        let Owner { id, host, term } = &former;
        tracing::info!(
            place = objects.shown(),
            former = id,
            host,
            term,
            is_known,
            "the streams of the object store are this coordinator's now"
        );
        let (ledger, read_bytes) = restore::restore(&objects, disk, catalog, ledger, is_known, marker).await?;
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        let shared = Arc::new(Shared::new(objects, ledger));
        let remote = Arc::new(Self { shared: shared.clone(), asks, uploads: Semaphore::new(UPLOADS) });
        tasks.spawn(committer::run(shared, asked));
        Ok(Started { remote, read_bytes })
    }
}

/// Makes the next commit a takeover; gives all that is committed with it, and who was the owner before.
async fn take_over(
    objects: &Objects,
    Starter { id, host }: &Starter,
    check: impl Fn(&Ledger) -> Result<(), StorageError>,
) -> Result<(Ledger, Owner), StorageError> {
    for _ in 0..TAKEOVERS {
        let mut ledger = load(objects).await?;
        check(&ledger)?;
        let number = ledger.state.number + 1;
        let store = if number == 1 { id.clone() } else { ledger.state.store.clone() };
        let takeover = Some(Takeover { store, host: host.clone() });
        let commit = Commit { format: FORMAT, number, term: number, owner: id.clone(), takeover, ..Commit::default() };
        let (name, bytes) = (commit_name(number), encode(&commit));
        if objects.create(&name, &bytes).await? == Created::Exists && !is_ours(objects, &name, &commit).await? {
            // Somebody was faster. Its first commits may still come.
            tokio::time::sleep(TAKEOVER_PAUSE).await;
            continue;
        }
        // A commit that a snapshot has made superfluous is removed: that its number is free does not say that it was never used.
        if newest_snapshot(objects).await? >= number {
            tokio::time::sleep(TAKEOVER_PAUSE).await;
            continue;
        }
        // A store that does not know the condition would let everybody write.
        if objects.create(&name, &bytes).await? == Created::New {
            return Err(StorageError::NoConditionalPut { place: objects.shown().to_owned() });
        }
        let former = ledger.state.owner.clone();
        ledger.apply(&commit, bytes.len() as u64);
        return Ok((ledger, former));
    }
    let reason = format!("others were faster {TAKEOVERS} times");
    Err(StorageError::ObjectStore { what: "take over", object: objects.shown().to_owned(), reason })
}

/// Whether a commit is one whose answer was lost.
async fn is_ours(objects: &Objects, name: &str, commit: &Commit) -> Result<bool, StorageError> {
    let Some(found) = objects.get(name).await? else { return Ok(false) };
    Ok(decode::<Commit>(found, |commit| commit.format).is_ok_and(|found| found == *commit))
}

/// What the disk has must be in the store: it is replaced by what the store has.
fn check_disk(
    objects: &Objects,
    disk: &Arc<dyn Disk>,
    (marker, has_streams): (Option<&Marker>, bool),
    ledger: &Ledger,
) -> Result<(), StorageError> {
    let refused = |why| StorageError::NotInObjectStore { folder: disk.place(), place: objects.shown().to_owned(), why };
    match marker {
        Some(marker) if marker.store != ledger.state.store && marker.place == objects.shown() => {
            Err(refused("what was there of it is gone".to_owned()))
        }
        Some(marker) if marker.store != ledger.state.store => Err(refused(format!("it belongs to {}", marker.place))),
        None if has_streams => Err(refused("it has streams that were never in any".to_owned())),
        _ => Ok(()),
    }
}
