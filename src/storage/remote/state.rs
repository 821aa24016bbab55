//! What the commits so far add up to: the catalog, and where every part of every segment lies.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::OBJECT_BYTES;
use super::saved::{Commit, FORMAT, Piece, SavedStretch, SegmentName, Snapshot, Takeover};
use crate::storage::catalog::Image;

/// Who may commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Owner {
    /// One start of a coordinator.
    pub(super) id: String,
    /// Its machine, for people.
    pub(super) host: String,
    /// The number of the commit with which it took over.
    pub(super) term: u64,
}

/// All commits up to one of them.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    /// The newest commit's number. The first one is 1.
    pub(super) number: u64,
    pub(super) owner: Owner,
    /// What tells this store from others.
    pub(super) store: String,
    /// The numbers of all takeovers.
    terms: Vec<u64>,
    pub(super) image: Image,
    segments: BTreeMap<SegmentName, Vec<Stretch>>,
}

/// A part of a segment. Invariant: a segment's stretches are one behind the other, from 0 on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) at: u64,
    pub(super) end: u64,
    /// None: it was cut, so that the object has more.
    pub(super) checksum: Option<u32>,
    pub(super) lies: Lies,
}

/// Where a part of a segment lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lies {
    /// In an object of its own, written in this term.
    Object { term: u64 },
    /// In this commit.
    Commit(u64),
}

impl State {
    /// Takes the next commit. `unneeded` gets the names of objects that nothing refers to any more.
    pub(super) fn apply(&mut self, commit: &Commit, unneeded: &mut Vec<String>) {
        self.number = commit.number;
        if let Some(Takeover { store, host }) = &commit.takeover {
            self.store.clone_from(store);
            self.owner = Owner { id: commit.owner.clone(), host: host.clone(), term: commit.number };
            self.terms.push(commit.number);
        }
        for piece in &commit.pieces {
            let lies = if piece.bytes.is_some() { Lies::Commit(commit.number) } else { Lies::Object { term: commit.term } };
            let stretch = Stretch { at: piece.at, end: piece.end, checksum: Some(piece.checksum), lies };
            self.segments.entry(piece.segment).or_default().push(stretch);
        }
        for folded in &commit.folded {
            if !self.fold(folded, commit.term) {
                unneeded.push(object_name(folded.segment, folded.at, commit.term));
            }
        }
        commit.cuts.iter().for_each(|cut| self.cut(cut.segment, cut.at, unneeded));
        for segment in &commit.removed {
            drop_objects(*segment, self.segments.remove(segment), unneeded);
        }
        for change in &commit.changes {
            self.image.apply(change);
        }
        // What was there of streams that are gone.
        let gone = commit.changes.iter().map(|change| change.stream).filter(|id| !self.image.has_stream(crate::engine::StreamId(*id)));
        for stream in gone.collect::<Vec<_>>() {
            let of = SegmentName { stream, partition: 0, number: 0 }..=SegmentName { stream, partition: u32::MAX, number: u64::MAX };
            let segments: Vec<_> = self.segments.range(of).map(|(segment, _)| *segment).collect();
            segments.into_iter().for_each(|segment| drop_objects(segment, self.segments.remove(&segment), unneeded));
        }
    }

    /// What lay in commits is an object now, unless it has changed meanwhile.
    fn fold(&mut self, folded: &Piece, term: u64) -> bool {
        let Some(stretches) = self.segments.get_mut(&folded.segment) else { return false };
        let first = stretches.iter().position(|stretch| stretch.at == folded.at);
        let last = stretches.iter().position(|stretch| stretch.end == folded.end);
        let (Some(first), Some(last)) = (first, last) else { return false };
        let is_inline = |stretch: &Stretch| matches!(stretch.lies, Lies::Commit(_));
        if first > last || !stretches[first..=last].iter().all(is_inline) {
            return false;
        }
        let whole = Stretch { at: folded.at, end: folded.end, checksum: Some(folded.checksum), lies: Lies::Object { term } };
        stretches.splice(first..=last, [whole]);
        true
    }

    fn cut(&mut self, segment: SegmentName, end: u64, unneeded: &mut Vec<String>) {
        let Some(stretches) = self.segments.get_mut(&segment) else { return };
        let kept = stretches.iter().take_while(|stretch| stretch.at < end).count();
        let gone = stretches.split_off(kept);
        if let Some(last) = stretches.last_mut()
            && last.end > end
        {
            (last.end, last.checksum) = (end, None);
        }
        drop_objects(segment, Some(gone), unneeded);
    }

    /// All segments, and where their parts lie.
    pub(super) fn segments(&self) -> impl Iterator<Item = (SegmentName, &[Stretch])> {
        self.segments.iter().map(|(name, stretches)| (*name, &stretches[..]))
    }

    /// The same, from this one on.
    pub(super) fn segments_from(&self, first: &SegmentName) -> impl Iterator<Item = (SegmentName, &[Stretch])> {
        self.segments.range(first..).map(|(name, stretches)| (*name, &stretches[..]))
    }

    /// Where a segment's parts lie.
    pub(super) fn stretches(&self, segment: &SegmentName) -> &[Stretch] {
        self.segments.get(segment).map(Vec::as_slice).unwrap_or_default()
    }

    /// A segment's length; none if there is no such segment.
    pub(super) fn len_of(&self, segment: &SegmentName) -> Option<u64> {
        Some(self.segments.get(segment)?.last().map_or(0, |last| last.end))
    }

    /// What lies in commits, in runs that can each become an object.
    pub(super) fn inline_runs(&self) -> Vec<(SegmentName, Vec<Stretch>)> {
        let mut runs: Vec<(SegmentName, Vec<Stretch>)> = Vec::new();
        let goes_on = |run: &[Stretch], next: &Stretch| match (run.first(), run.last()) {
            (Some(first), Some(last)) => last.end == next.at && last.end - first.at < OBJECT_BYTES,
            _ => false,
        };
        for (segment, stretches) in self.segments() {
            for stretch in stretches.iter().filter(|stretch| matches!(stretch.lies, Lies::Commit(_))) {
                match runs.last_mut() {
                    Some((same, run)) if *same == segment && goes_on(run, stretch) => run.push(stretch.clone()),
                    _ => runs.push((segment, vec![stretch.clone()])),
                }
            }
        }
        runs
    }

    /// The names of all objects that have parts of segments.
    pub(super) fn objects(&self) -> impl Iterator<Item = String> {
        let named = |segment: SegmentName| move |stretch: &Stretch| stretch.object(segment);
        self.segments().flat_map(move |(segment, stretches)| stretches.iter().filter_map(named(segment)))
    }

    /// Whether a commit is still of use when there is a snapshot as of `snapshot`.
    pub(super) fn needs_commit(&self, number: u64, oldest_inline: u64, snapshot: u64) -> bool {
        number > snapshot || number >= oldest_inline || self.terms.binary_search(&number).is_ok()
    }

    /// The oldest commit that has parts of segments.
    pub(super) fn oldest_inline(&self) -> u64 {
        let commits = self.segments.values().flatten().filter_map(|stretch| match stretch.lies {
            Lies::Commit(number) => Some(number),
            Lies::Object { .. } => None,
        });
        commits.min().unwrap_or(u64::MAX)
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let stretches = self.segments().flat_map(|(segment, stretches)| stretches.iter().map(move |stretch| saved(segment, stretch)));
        Snapshot {
            format: FORMAT,
            number: self.number,
            store: self.store.clone(),
            owner: self.owner.id.clone(),
            host: self.owner.host.clone(),
            terms: self.terms.clone(),
            changes: self.image.changes().collect(),
            stretches: stretches.collect(),
        }
    }

    pub(super) fn restored(snapshot: Snapshot) -> Self {
        let Snapshot { format: _, number, store, owner, host, terms, changes, stretches } = snapshot;
        let owner = Owner { id: owner, host, term: terms.last().copied().unwrap_or_default() };
        let mut state = Self { number, owner, store, terms, ..Self::default() };
        changes.iter().for_each(|change| state.image.apply(change));
        for SavedStretch { segment, at, end, checksum, term, commit } in stretches {
            let lies = commit.map_or(Lies::Object { term: term.unwrap_or_default() }, Lies::Commit);
            state.segments.entry(segment).or_default().push(Stretch { at, end, checksum, lies });
        }
        state
    }
}

impl Stretch {
    /// Its bytes, of those that begin where it begins; none if they are too few or others. There may be more: of a fold that was tried
    /// again, or where a part was cut.
    pub(super) fn of(&self, bytes: &Bytes) -> Option<Bytes> {
        let len = usize::try_from(self.end - self.at).ok().filter(|len| *len <= bytes.len())?;
        Some(bytes.slice(..len)).filter(|bytes| self.is_as_stored(bytes))
    }

    /// Whether these bytes of its length are its own.
    pub(super) fn is_as_stored(&self, bytes: &[u8]) -> bool {
        self.checksum.is_none_or(|checksum| checksum == crc32fast::hash(bytes))
    }

    /// The name of its object, if it has one.
    pub(super) fn object(&self, segment: SegmentName) -> Option<String> {
        match self.lies {
            Lies::Object { term } => Some(object_name(segment, self.at, term)),
            Lies::Commit(_) => None,
        }
    }
}

fn saved(segment: SegmentName, stretch: &Stretch) -> SavedStretch {
    let (term, commit) = match stretch.lies {
        Lies::Object { term } => (Some(term), None),
        Lies::Commit(number) => (None, Some(number)),
    };
    SavedStretch { segment, at: stretch.at, end: stretch.end, checksum: stretch.checksum, term, commit }
}

fn drop_objects(segment: SegmentName, stretches: Option<Vec<Stretch>>, unneeded: &mut Vec<String>) {
    unneeded.extend(stretches.into_iter().flatten().filter_map(|stretch| stretch.object(segment)));
}

/// The folder of what segments have.
pub(super) const SEGMENTS: &str = "segments";
/// The folder of commits.
pub(super) const COMMITS: &str = "commits";
/// The folder of snapshots.
pub(super) const CATALOGS: &str = "catalogs";

/// An object with a part of a segment. The term is in its name so that a former owner, which still writes, never writes over what is of its
/// successor.
pub(super) fn object_name(segment: SegmentName, at: u64, term: u64) -> String {
    let SegmentName { stream, partition, number } = segment;
    format!("{SEGMENTS}/{stream:016x}/{partition:04}/{number:020}-{at:016}-{term:020}")
}

/// The term in an object's name.
pub(super) fn term_of(object: &str) -> Option<u64> {
    object.rsplit_once('-')?.1.parse().ok()
}

pub(super) fn commit_name(number: u64) -> String {
    format!("{COMMITS}/{number:020}")
}

pub(super) fn catalog_name(number: u64) -> String {
    format!("{CATALOGS}/{number:020}")
}
