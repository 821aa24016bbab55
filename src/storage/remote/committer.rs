//! The committer: everything that becomes durable goes through it, one commit after the other.
//!
//! A commit is an object that is made only if there is none of its number. So a number that somebody else has used says that
//! another coordinator has taken over: from there on nothing of this one counts.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::objects::{Created, Objects};
use super::saved::{Commit, FORMAT, Piece, SegmentName, decode, encode};
use super::state::{State, commit_name};
use crate::storage::StorageError;
use crate::storage::catalog::SavedChange;

/// Requests that wait for a commit. More have to wait before they are here.
pub(super) const ASKS_MAX: usize = 256;
/// A commit of so many bytes takes no more requests.
const COMMIT_BYTES: u64 = 8 << 20;
/// How often a coordinator with nothing to commit looks whether another has taken over.
const LOOK_PAUSE: Duration = Duration::from_secs(5);
/// Objects that nobody needs and that are not removed yet. What is beyond it, a later start finds.
const UNNEEDED_MAX: usize = 100_000;

/// What is to become durable together.
#[derive(Debug, Default)]
pub(super) struct Request {
    pub(super) pieces: Vec<Piece>,
    pub(super) changes: Vec<SavedChange>,
    pub(super) removed: Vec<SegmentName>,
    pub(super) folded: Vec<Piece>,
    pub(super) cuts: Vec<Piece>,
}

impl Request {
    fn bytes(&self) -> u64 {
        let pieces = self.pieces.iter().filter_map(|piece| piece.bytes.as_ref()).map(|bytes| bytes.len() as u64);
        let changes = self.changes.iter().filter_map(|change| change.value.as_ref()).map(|value| value.len() as u64 + 64);
        pieces.sum::<u64>() + changes.sum::<u64>()
    }
}

/// A request, and who waits for it.
pub(super) struct Ask {
    pub(super) request: Request,
    pub(super) answer: oneshot::Sender<Result<(), Fence>>,
}

/// Another coordinator has taken over.
#[derive(Debug, Clone)]
pub(super) struct Fence {
    pub(super) owner: String,
    pub(super) commit: u64,
    pub(super) place: String,
}

impl From<Fence> for StorageError {
    fn from(Fence { owner, commit, place }: Fence) -> Self {
        Self::Fenced { owner, commit, place }
    }
}

/// What the committer shares with those who ask it, and with the keeper.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) objects: Objects,
    pub(super) ledger: Mutex<Ledger>,
    pub(super) fence: Mutex<Option<Fence>>,
    /// Another coordinator has taken over.
    pub(super) fenced: CancellationToken,
    pub(super) stopping: CancellationToken,
    /// There is something to keep.
    pub(super) keep: Notify,
}

/// All that is committed, and what is to be tidied up.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) state: State,
    /// Objects that nothing refers to any more.
    pub(super) unneeded: Vec<String>,
    /// Since the newest snapshot.
    pub(super) commits: u64,
    pub(super) bytes: u64,
}

impl Ledger {
    /// Takes the next commit, of so many bytes.
    pub(super) fn apply(&mut self, commit: &Commit, bytes: u64) {
        self.state.apply(commit, &mut self.unneeded);
        self.unneeded.truncate(UNNEEDED_MAX);
        self.commits += 1;
        self.bytes += bytes;
    }
}

impl Shared {
    pub(super) fn new(objects: Objects, ledger: Ledger) -> Self {
        let (fence, keep) = (Mutex::default(), Notify::new());
        Self { objects, ledger: Mutex::new(ledger), fence, fenced: CancellationToken::new(), stopping: CancellationToken::new(), keep }
    }

    fn fence(&self, fence: Fence) {
        tracing::error!(
            owner = fence.owner,
            commit = fence.commit,
            place = fence.place,
            "another coordinator has taken over: nothing more is confirmed"
        );
        *self.fence.lock() = Some(fence);
        self.fenced.cancel();
    }
}

/// Commits what it is asked for until it is told to stop, or nobody is left to ask.
pub(super) async fn run(shared: Arc<Shared>, mut asks: mpsc::Receiver<Ask>) {
    loop {
        let ask = tokio::select! {
            biased;
            () = shared.stopping.cancelled() => return,
            ask = asks.recv() => ask,
            () = tokio::time::sleep(LOOK_PAUSE), if !shared.fenced.is_cancelled() => {
                look(&shared).await;
                continue;
            }
        };
        let Some(first) = ask else { return };
        let mut bytes = first.request.bytes();
        let mut together = vec![first];
        while bytes < COMMIT_BYTES
            && let Ok(next) = asks.try_recv()
        {
            bytes += next.request.bytes();
            together.push(next);
        }
        let (requests, answers): (Vec<_>, Vec<_>) = together.into_iter().map(|ask| (ask.request, ask.answer)).unzip();
        let done = tokio::select! {
            biased;
            // Whoever still waits is told that nothing is known of what it asked for.
            () = shared.stopping.cancelled() => return,
            done = commit(&shared, requests) => done,
        };
        // Whoever does not wait any more needs no answer.
        answers.into_iter().for_each(|answer| drop(answer.send(done.clone())));
    }
}

async fn commit(shared: &Shared, requests: Vec<Request>) -> Result<(), Fence> {
    if let Some(fence) = shared.fence.lock().clone() {
        return Err(fence);
    }
    let commit = {
        let ledger = shared.ledger.lock();
        let (number, owner) = (ledger.state.number + 1, &ledger.state.owner);
        let mut commit = Commit { format: FORMAT, number, term: owner.term, owner: owner.id.clone(), ..Commit::default() };
        for Request { pieces, changes, removed, folded, cuts } in requests {
            commit.pieces.extend(pieces);
            commit.changes.extend(changes);
            commit.removed.extend(removed);
            commit.folded.extend(folded);
            commit.cuts.extend(cuts);
        }
        commit
    };
    let bytes = encode(&commit);
    loop {
        // Tries without end: it ends.
        let Ok(created) = shared.objects.create(&commit_name(commit.number), &bytes).await else { continue };
        match created {
            Created::New => break,
            Created::Exists => match owner_of(&shared.objects, commit.number).await {
                Some(owner) if owner == commit.owner => break,
                Some(owner) => {
                    let fence = Fence { owner, commit: commit.number, place: shared.objects.shown().to_owned() };
                    shared.fence(fence.clone());
                    return Err(fence);
                }
                // Two tries at once may both have been refused.
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            },
        }
    }
    let mut ledger = shared.ledger.lock();
    ledger.apply(&commit, bytes.len() as u64);
    drop(ledger);
    shared.keep.notify_one();
    Ok(())
}

/// Looks whether somebody else has made the next commit.
async fn look(shared: &Shared) {
    let number = shared.ledger.lock().state.number + 1;
    let looked = tokio::time::timeout(LOOK_PAUSE, owner_of(&shared.objects, number)).await;
    if let Ok(Some(owner)) = looked {
        shared.fence(Fence { owner, commit: number, place: shared.objects.shown().to_owned() });
    }
}

/// Who has made a commit; none if there is none.
async fn owner_of(objects: &Objects, number: u64) -> Option<String> {
    let bytes = objects.get(&commit_name(number)).await.ok()??;
    let commit = decode::<Commit>(bytes, |commit| commit.format);
    Some(commit.map_or_else(|_| "unknown".to_owned(), |commit| commit.owner))
}
