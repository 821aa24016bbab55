//! A segment's dictionaries: which message sets which, and the sets that batches were written with, or are read with.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;

use super::handle::Handle;
use super::lines::DictionaryAt;
use super::message;
use crate::storage::StorageError;
use crate::wire::dictionary::DictionarySet;
use crate::wire::schema::StreamSchema;

/// Sets that are kept though nobody uses them: as many readers can be at different places of a segment without loading
/// a set again for each batch.
const SETS_KEPT: usize = 4;
/// Sets that nobody uses are forgotten when there are more than this many and twice as many as were in use at the last look.
const SETS_LOOKED_AT: usize = 64;

/// The dictionaries of one segment. Locked while one is loaded.
#[derive(Debug, Default)]
pub(super) struct Dictionaries {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By their number.
    messages: BTreeMap<u64, DictionaryAt>,
    /// By how many messages stand before the batches. Batches of one number share one set: that is how a reader sees
    /// that nothing has changed.
    sets: BTreeMap<u64, Weak<DictionarySet>>,
    in_use: usize,
    recent: VecDeque<(u64, Arc<DictionarySet>)>,
    empty: Arc<DictionarySet>,
}

impl Dictionaries {
    /// Learns of a message.
    pub(super) fn add(&self, dictionary: DictionaryAt) {
        self.state.lock().messages.insert(dictionary.number, dictionary);
    }

    /// Learns of the set that batches with so many messages before them have, unless there is one.
    pub(super) fn hold(&self, number: u64, set: &Arc<DictionarySet>) {
        let mut state = self.state.lock();
        if number > 0 && state.known(number).is_none() {
            state.keep(number, set.clone());
        }
    }

    /// All messages, in the order of the file.
    pub(super) fn all(&self) -> Vec<DictionaryAt> {
        self.state.lock().messages.values().copied().collect()
    }

    /// Forgets the messages from `start` on.
    pub(super) fn cut(&self, start: u64) {
        let mut state = self.state.lock();
        state.messages.retain(|_, dictionary| dictionary.message.start < start);
        let last = state.messages.keys().next_back().copied().unwrap_or(0);
        state.sets.retain(|number, _| *number <= last);
        state.recent.retain(|(number, _)| *number <= last);
    }

    /// The set of the batches with so many messages before them; from the file, if nobody has it.
    ///
    /// # Errors
    /// [`StorageError::File`], [`StorageError::DamagedSegment`] if a message is damaged or lost that the set needs.
    pub(super) fn set(&self, number: u64, handle: &Handle, schema: Option<&Bytes>) -> Result<Arc<DictionarySet>, StorageError> {
        let mut state = self.state.lock();
        if number == 0 {
            return Ok(state.empty.clone());
        }
        if let Some(set) = state.known(number) {
            state.keep(number, set.clone());
            return Ok(set);
        }
        let set = state.load(number, handle, schema)?;
        state.keep(number, set.clone());
        Ok(set)
    }
}

impl State {
    fn known(&self, number: u64) -> Option<Arc<DictionarySet>> {
        self.sets.get(&number)?.upgrade()
    }

    fn keep(&mut self, number: u64, set: Arc<DictionarySet>) {
        if self.recent.back().is_some_and(|(newest, _)| *newest == number) {
            return;
        }
        self.sets.insert(number, Arc::downgrade(&set));
        self.recent.retain(|(other, _)| *other != number);
        self.recent.push_back((number, set));
        if self.recent.len() > SETS_KEPT {
            self.recent.pop_front();
        }
        if self.sets.len() > SETS_LOOKED_AT.max(2 * self.in_use) {
            self.sets.retain(|_, set| set.strong_count() > 0);
            self.in_use = self.sets.len();
        }
    }

    /// Goes on from the nearest earlier set that is there, so that what both have is shared, and reads only messages that
    /// are not replaced before `number`.
    fn load(&self, number: u64, handle: &Handle, schema: Option<&Bytes>) -> Result<Arc<DictionarySet>, StorageError> {
        let earlier = self.sets.range(..number).rev().find_map(|(number, set)| Some((*number, set.upgrade()?)));
        let (from, mut set) = earlier.unwrap_or((0, self.empty.clone()));
        let Needed { messages, lost } = self.needed(from, number);
        if lost.is_some() {
            set = self.empty.clone();
        }
        for dictionary in messages {
            let (message, _) = message::read(handle, &dictionary.message, || dictionary.to_string())?;
            let with = set.with(dictionary.id, dictionary.delta, message);
            set = with.map_err(|error| handle.damaged(dictionary.to_string(), dictionary.message.start, error.to_string()))?;
        }
        let is_whole = |schema: &Bytes| StreamSchema::parse(schema.clone()).is_ok_and(|schema| schema.check_dictionaries(&set).is_ok());
        match lost {
            Some(lost) if !schema.is_some_and(is_whole) => {
                let at = self.messages.range(..lost).next_back().map_or(0, |(_, before)| before.message.end());
                let why = format!("it is the {lost}th of the segment, was lost with what is damaged there, and the batch may need it");
                Err(handle.damaged("a dictionary".to_owned(), at, why))
            }
            _ => Ok(set),
        }
    }

    /// The messages in `(from, number]` that count, in their order. If one of them is lost nobody knows what it was: then only
    /// dictionaries count that were set anew after it.
    fn needed(&self, from: u64, number: u64) -> Needed {
        let mut messages: Vec<DictionaryAt> = Vec::new();
        let mut replaced = BTreeSet::new();
        let mut lost = None;
        for number in (from + 1..=number).rev() {
            let Some(dictionary) = self.messages.get(&number) else {
                lost = Some(number);
                break;
            };
            if !replaced.contains(&dictionary.id) {
                messages.push(*dictionary);
            }
            if !dictionary.delta {
                replaced.insert(dictionary.id);
            }
        }
        if lost.is_some() {
            messages.retain(|dictionary| replaced.contains(&dictionary.id));
        }
        messages.reverse();
        Needed { messages, lost }
    }
}

struct Needed {
    messages: Vec<DictionaryAt>,
    lost: Option<u64>,
}
