//! The dictionaries that a batch needs: shared by all batches that were sent with the same ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ipc::Message;

/// For each dictionary id the message that set it, and the deltas that came after. Never changed: a new
/// dictionary message makes a new set that shares the rest.
#[derive(Clone, Debug, Default)]
pub struct DictionarySet {
    by_id: BTreeMap<i64, Vec<Arc<Message>>>,
}

impl DictionarySet {
    /// No dictionaries.
    #[must_use]
    pub fn empty() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// This set after one more dictionary message.
    #[must_use]
    pub fn with(&self, id: i64, delta: bool, message: Message) -> Arc<Self> {
        let mut next = self.clone();
        let messages = next.by_id.entry(id).or_default();
        if !delta {
            messages.clear();
        }
        messages.push(Arc::new(message));
        Arc::new(next)
    }

    /// Bytes of all its messages.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.by_id.values().flatten().map(|message| message.bytes()).sum()
    }

    /// All messages, in an order in which a reader may take them.
    pub fn messages(&self) -> impl Iterator<Item = (i64, &Arc<Message>)> {
        self.by_id.iter().flat_map(|(id, messages)| messages.iter().map(|message| (*id, message)))
    }

    /// What a reader that holds `held` has to be sent to hold `self`: only the new deltas where the rest is
    /// the same, else the whole dictionary, whose first message replaces the former one.
    #[must_use]
    pub fn missing_from(&self, held: &DictionarySet) -> Vec<Arc<Message>> {
        let mut missing = Vec::new();
        for (id, messages) in &self.by_id {
            let known = held.by_id.get(id).map_or(&[][..], Vec::as_slice);
            let same = known.len() <= messages.len() && known.iter().zip(messages).all(|(a, b)| Arc::ptr_eq(a, b));
            let from = if same { known.len() } else { 0 };
            missing.extend(messages[from..].iter().cloned());
        }
        missing
    }
}
