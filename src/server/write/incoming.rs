//! What comes on a `DoPut`: messages of one version of the stream's schema, with their dictionaries, checked before they are
//! anybody's batch.

use std::sync::Arc;

use bytes::Bytes;

use super::super::coordinator::Coordinator;
use super::super::dictionaries::{Charge, DictionaryRoom};
use super::super::error::Error;
use super::super::validation::{FullValidation, Validation};
use crate::wire::batch::EncodedBatch;
use crate::wire::body::Body;
use crate::wire::dictionary::DictionarySet;
use crate::wire::evolution::Accepted;
use crate::wire::frame::FlightHead;
use crate::wire::ipc::{Kind, Message};
use crate::wire::offsets::OffsetEnds;

/// Headers up to this size are compared with the next batch's. A small message's header holds on to all of it: to 16 KiB
/// per connection.
const HEADER_BYTES_KEPT: usize = 8 << 10;

pub(super) struct Incoming {
    coordinator: Arc<Coordinator>,
    accepted: Accepted,
    dictionaries: Arc<DictionarySet>,
    last: Inspected,
    /// Of the batch that was inspected last.
    ends: OffsetEnds,
    /// Where the server asks for it.
    full: Option<FullValidation>,
}

/// The last batch's header and the length of its body, and what they were found to be: small batches are often alike.
struct Inspected {
    header: Bytes,
    body_len: u64,
    kind: Kind,
}

impl Inspected {
    fn nothing() -> Self {
        Self { header: Bytes::new(), body_len: 0, kind: Kind::Empty }
    }
}

impl Incoming {
    pub(super) fn new(coordinator: Arc<Coordinator>, accepted: Accepted) -> Self {
        let full = full_validation(&coordinator, &accepted);
        let (dictionaries, last) = (DictionarySet::empty(), Inspected::nothing());
        Self { coordinator, accepted, dictionaries, last, ends: OffsetEnds::default(), full }
    }

    /// What follows is of this schema; true if that is another version, which nothing of the one before fits.
    pub(super) fn turn_to(&mut self, accepted: Accepted) -> bool {
        let is_another = accepted.version != self.accepted.version;
        if is_another {
            self.dictionaries = DictionarySet::empty();
            self.last = Inspected::nothing();
            self.full = full_validation(&self.coordinator, &accepted);
        }
        self.accepted = accepted;
        is_another
    }

    /// [`StreamSchema::inspect`](crate::wire::schema::StreamSchema::inspect), once for batches of the same shape.
    pub(super) fn inspect(&mut self, head: &FlightHead) -> Result<Kind, Error> {
        if self.last.body_len == head.body_len && self.last.header == head.header {
            return Ok(self.last.kind);
        }
        let kind = self.accepted.schema.inspect_with_ends(&head.header, head.body_len, &mut self.ends)?;
        let is_kept = matches!(kind, Kind::Batch { .. }) && head.header.len() <= HEADER_BYTES_KEPT;
        // The ends are this message's from now on.
        self.last = match is_kept {
            true => Inspected { header: head.header.clone(), body_len: head.body_len, kind },
            false => Inspected::nothing(),
        };
        Ok(kind)
    }

    pub(super) fn take_dictionary(&mut self, id: i64, delta: bool, message: &Message, charge: &Arc<Charge>) -> Result<(), Error> {
        for (id, mut message) in self.accepted.ids.rewrite(id, delta, message)? {
            self.accepted.schema.check_dictionary(id, &message, self.decompressed_bytes_max())?;
            message.header = charge.attach(message.header);
            self.dictionaries = self.dictionaries.with(id, delta, message)?;
        }
        Ok(())
    }

    /// Whether all dictionaries are there that a batch needs.
    pub(super) fn check_dictionaries(&self) -> Result<(), Error> {
        Ok(self.accepted.schema.check_dictionaries(&self.dictionaries)?)
    }

    /// A batch that has come whole, the one that was inspected last.
    pub(super) async fn batch(
        &mut self,
        mut message: Message,
        compressed: bool,
        user: Bytes,
        rows: u64,
        kept: &DictionaryRoom,
    ) -> Result<EncodedBatch, Error> {
        if self.full.is_some() && message.body.is_placed() {
            // Its producer can still write there: what is validated is what is stored.
            message.body = Body::from(Bytes::from(message.body.chunks().concat()));
        }
        if compressed {
            self.accepted.schema.check_compressed(&message.header, &message.body, self.decompressed_bytes_max())?;
        } else {
            self.ends.check(&message.body)?;
        }
        let batch = EncodedBatch { message, dictionaries: self.dictionaries.clone(), schema: self.accepted.version, user, rows };
        match &mut self.full {
            Some(full) => full.check(batch, self.coordinator.validation_room(), kept).await,
            None => Ok(batch),
        }
    }

    fn decompressed_bytes_max(&self) -> u64 {
        self.coordinator.options().decompressed_bytes_max
    }
}

fn full_validation(coordinator: &Coordinator, accepted: &Accepted) -> Option<FullValidation> {
    (coordinator.options().validation == Validation::Full).then(|| FullValidation::new(&accepted.schema))
}
