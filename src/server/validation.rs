//! How closely the coordinator looks at what comes in, and the room that looking closely takes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use super::dictionaries::{Charge, DictionaryRoom};
use super::error::Error;
use crate::wire::batch::EncodedBatch;
use crate::wire::error::WireError;
use crate::wire::ipc::{self, Kind, Message};
use crate::wire::schema::StreamSchema;
use crate::wire::validate::Validator;

/// Up to so many bytes are validated where they are: handing them to another thread would take longer.
pub(super) const AT_ONCE_BYTES: u64 = 64 << 10;
/// What a permit stands for.
const PERMIT_BYTES: u64 = 1 << 10;

/// How closely a batch is looked at before it is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Validation {
    /// Its header against its body and the stream's schema. Values are not looked at: readers that trust them (pyarrow does)
    /// can be crashed by a producer that means to.
    #[default]
    Structure,
    /// That, and every value that a reader follows without looking: offsets, indices, views, text. Costs what decoding
    /// costs; what is accepted crashes no reader.
    Full,
}

impl FromStr for Validation {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "structure" => Ok(Self::Structure),
            "full" => Ok(Self::Full),
            other => Err(format!("validation is {other:?}, but it must be \"structure\" or \"full\"")),
        }
    }
}

/// The room for full validation and for queries, which all connections share.
#[derive(Debug)]
pub(super) struct ValidationRoom {
    /// As many at a time as there are cores: more would only take them from those who serve.
    threads: Arc<Semaphore>,
    /// For queries that are planned, apart from the others: a text may take long, and nobody's batches wait for that.
    #[cfg(feature = "query")]
    plans: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    permits: u32,
}

impl ValidationRoom {
    pub(super) fn new(bytes_max: u64) -> Self {
        let permits = u32::try_from(bytes_max.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let memory = usize::try_from(permits).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            threads: Arc::new(Semaphore::new(threads)),
            #[cfg(feature = "query")]
            plans: Arc::new(Semaphore::new(threads.div_ceil(2))),
            memory: Arc::new(Semaphore::new(memory)),
            permits,
        }
    }

    /// Room for so many bytes, or all of it for one that needs more than there is: that one is alone then.
    pub(super) async fn take(&self, bytes: u64) -> Result<[OwnedSemaphorePermit; 2], Error> {
        let permits = u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX).min(self.permits);
        let closed = |error: AcquireError| Error::Task { reason: error.to_string() };
        let memory = self.memory.clone().acquire_many_owned(permits).await.map_err(closed)?;
        Ok([memory, self.threads.clone().acquire_owned().await.map_err(closed)?])
    }

    /// Room to plan a query: half as many at a time as there are cores.
    #[cfg(feature = "query")]
    pub(super) async fn plan(&self) -> Result<OwnedSemaphorePermit, Error> {
        self.plans.clone().acquire_owned().await.map_err(|error| Error::Task { reason: error.to_string() })
    }
}

/// One connection's batches of one version of a stream's schema, validated in full.
#[derive(Debug)]
pub(super) struct FullValidation {
    /// None while another thread has it.
    validator: Option<Validator>,
    /// For the dictionaries that it keeps decoded, by id.
    charges: BTreeMap<i64, Charge>,
}

impl FullValidation {
    pub(super) fn new(schema: &StreamSchema) -> Self {
        Self { validator: Some(Validator::new(schema)), charges: BTreeMap::new() }
    }

    /// Validates a batch and, if they are others than before, the dictionaries that it comes with. What these become is
    /// counted like dictionaries that came.
    ///
    /// # Errors
    /// `malformed_message`; `buffer_full` or `batch_too_large` if the stream's dictionaries have no room for the decoded ones. It is
    /// of no more use then.
    pub(super) async fn check(&mut self, batch: EncodedBatch, room: &ValidationRoom, kept: &DictionaryRoom) -> Result<EncodedBatch, Error> {
        let Some(mut validator) = self.validator.take() else {
            return Err(Error::Task { reason: "the validator of this connection is gone".to_owned() });
        };
        let mut bytes = Validator::bytes(&batch.message)?;
        if !validator.has(&batch.dictionaries) {
            bytes = bytes.saturating_add(self.charge(&validator.missing(&batch.dictionaries)?, validator.is_nested(), kept)?);
        }
        let check = move || -> Result<_, WireError> {
            validator.take_dictionaries(&batch.dictionaries)?;
            validator.check(&batch.message)?;
            Ok((validator, batch))
        };
        let (validator, batch) = if bytes <= AT_ONCE_BYTES {
            check()?
        } else {
            // The thread goes on when the call is cancelled, and holds what it takes.
            let taken = room.take(bytes).await?;
            let checked = tokio::task::spawn_blocking(move || (check(), taken).0);
            checked.await.map_err(|error| Error::Task { reason: error.to_string() })??
        };
        self.validator = Some(validator);
        Ok(batch)
    }

    /// Counts what these dictionaries become; returns how much memory it takes for a time.
    fn charge(&mut self, missing: &[Arc<Message>], is_anew: bool, kept: &DictionaryRoom) -> Result<u64, Error> {
        if is_anew {
            self.charges.clear();
        }
        for message in missing {
            let Kind::Dictionary { id, delta } = ipc::inspect(&message.header, message.body.len())? else { continue };
            if !delta {
                self.charges.remove(&id);
            }
            let charge = kept.charge(Validator::bytes(message)?)?;
            match self.charges.entry(id) {
                Entry::Vacant(entry) => drop(entry.insert(charge)),
                Entry::Occupied(mut entry) => entry.get_mut().absorb(charge),
            }
        }
        // The dictionary before a delta and the one after it are there at the same time.
        Ok(self.charges.values().map(Charge::bytes).fold(0, u64::saturating_add).saturating_mul(2))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_validation_has_one_of_two_names() {
        assert_eq!("structure".parse(), Ok(Validation::Structure));
        assert_eq!("full".parse(), Ok(Validation::Full));
        assert!("Full".parse::<Validation>().unwrap_err().contains("\"structure\" or \"full\""));
    }

    #[tokio::test]
    async fn batches_wait_until_there_is_memory_and_one_that_needs_more_than_all_is_alone() {
        let room = ValidationRoom { threads: Arc::new(Semaphore::new(8)), ..ValidationRoom::new(1 << 20) };
        let first = room.take(600 << 10).await.unwrap();
        let second = room.take(424 << 10).await.unwrap();
        assert!(room.take(1).now_or_never().is_none(), "all of it is taken");
        drop(first);
        let third = room.take(600 << 10).await.unwrap();
        drop((second, third));
        let all = room.take(u64::MAX).await.unwrap();
        assert!(room.take(1).now_or_never().is_none(), "nothing beside it");
        drop(all);
        drop(room.take(1 << 20).await.unwrap());
    }

    #[tokio::test]
    async fn no_more_validate_at_a_time_than_there_are_cores() {
        let room = ValidationRoom { threads: Arc::new(Semaphore::new(2)), ..ValidationRoom::new(1 << 30) };
        let two = [room.take(1).await.unwrap(), room.take(1).await.unwrap()];
        assert!(room.take(1).now_or_never().is_none());
        drop(two);
        drop(room.take(1).await.unwrap());
    }
}
