//! The dictionaries that a batch needs: shared by all batches that were sent with the same ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::WireError;
use super::ipc::Message;

/// For each dictionary id the message that set it, and the deltas that came after. Never changed: a new
/// dictionary message makes a new set that shares the rest.
#[derive(Clone, Debug, Default)]
pub struct DictionarySet {
    newest: BTreeMap<i64, Arc<Link>>,
    /// How many messages came before, in all sets that this one was made from.
    arrivals: u64,
}

/// One message of a dictionary, and those before it: a list, so that a million deltas cost no more each than one.
#[derive(Debug)]
struct Link {
    message: Arc<Message>,
    /// For a delta: what it adds to.
    former: Option<Arc<Link>>,
    /// When it came, among the messages of all dictionaries. Nested dictionaries are sent inner ones first, and
    /// readers rely on that.
    arrival: u64,
    /// Of this and all former ones.
    bytes: u64,
    /// The largest of this and all former ones.
    message_bytes_max: u64,
}

impl DictionarySet {
    /// No dictionaries.
    #[must_use]
    pub fn empty() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// This set after one more dictionary message.
    ///
    /// # Errors
    /// [`WireError::Malformed`] for a delta to a dictionary that is not there.
    pub fn with(&self, id: i64, delta: bool, message: Message) -> Result<Arc<Self>, WireError> {
        let former = match (delta, self.newest.get(&id)) {
            (false, _) => None,
            (true, Some(former)) => Some(former.clone()),
            (true, None) => return Err(WireError::malformed(format!("a delta to dictionary {id}, which has not come"))),
        };
        let mut next = self.clone();
        next.arrivals += 1;
        let (bytes, message_bytes_max) = former.as_ref().map_or((0, 0), |former| (former.bytes, former.message_bytes_max));
        let link = Link {
            bytes: bytes + message.bytes(),
            message_bytes_max: message_bytes_max.max(message.bytes()),
            message: Arc::new(message),
            former,
            arrival: next.arrivals,
        };
        next.newest.insert(id, Arc::new(link));
        Ok(Arc::new(next))
    }

    /// Bytes of all its messages.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.newest.values().map(|link| link.bytes).sum()
    }

    /// Bytes of its largest message.
    #[must_use]
    pub fn message_bytes_max(&self) -> u64 {
        self.newest.values().map(|link| link.message_bytes_max).max().unwrap_or(0)
    }

    /// Whether it has a dictionary of this id.
    #[must_use]
    pub fn contains(&self, id: i64) -> bool {
        self.newest.contains_key(&id)
    }

    /// What a reader that holds `held` has to be sent to hold `self`, in the order in which it came: only the
    /// new deltas where the rest is the same, else the whole dictionary, whose first message replaces the former.
    #[must_use]
    pub fn missing_from(&self, held: &DictionarySet) -> Vec<Arc<Message>> {
        let mut missing: Vec<&Link> = Vec::new();
        for (id, newest) in &self.newest {
            let known = held.newest.get(id);
            let mut link = Some(newest);
            while let Some(current) = link.filter(|link| !known.is_some_and(|known| Arc::ptr_eq(known, link))) {
                missing.push(current);
                link = current.former.as_ref();
            }
        }
        missing.sort_unstable_by_key(|link| link.arrival);
        missing.into_iter().map(|link| link.message.clone()).collect()
    }
}

impl Drop for Link {
    /// One after the other: a million deltas that drop each other would overflow the stack.
    fn drop(&mut self) {
        let mut former = self.former.take();
        while let Some(mut link) = former.and_then(Arc::into_inner) {
            former = link.former.take();
        }
    }
}
