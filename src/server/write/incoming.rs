//! What comes on a `DoPut`: messages of one version of the stream's schema, with their dictionaries.

use std::sync::Arc;

use bytes::Bytes;

use super::super::dictionaries::Charge;
use super::super::error::Error;
use crate::wire::batch::EncodedBatch;
use crate::wire::dictionary::DictionarySet;
use crate::wire::evolution::Accepted;
use crate::wire::frame::FlightHead;
use crate::wire::ipc::{Kind, Message};

/// Headers up to this size are compared with the next batch's. A small message's header holds on to all of it: to 16 KiB
/// per connection.
const HEADER_BYTES_KEPT: usize = 8 << 10;

pub(super) struct Incoming {
    accepted: Accepted,
    dictionaries: Arc<DictionarySet>,
    last: Inspected,
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
    pub(super) fn new(accepted: Accepted) -> Self {
        Self { accepted, dictionaries: DictionarySet::empty(), last: Inspected::nothing() }
    }

    /// What follows is of this schema; true if that is another version, which nothing of the one before fits.
    pub(super) fn turn_to(&mut self, accepted: Accepted) -> bool {
        let is_another = accepted.version != self.accepted.version;
        if is_another {
            self.dictionaries = DictionarySet::empty();
            self.last = Inspected::nothing();
        }
        self.accepted = accepted;
        is_another
    }

    /// [`StreamSchema::inspect`](crate::wire::schema::StreamSchema::inspect), once for batches of the same shape.
    pub(super) fn inspect(&mut self, head: &FlightHead) -> Result<Kind, Error> {
        if self.last.body_len == head.body_len && self.last.header == head.header {
            return Ok(self.last.kind);
        }
        let kind = self.accepted.schema.inspect(&head.header, head.body_len)?;
        if matches!(kind, Kind::Batch { .. }) && head.header.len() <= HEADER_BYTES_KEPT {
            self.last = Inspected { header: head.header.clone(), body_len: head.body_len, kind };
        }
        Ok(kind)
    }

    pub(super) fn take_dictionary(&mut self, id: i64, delta: bool, message: &Message, charge: &Arc<Charge>) -> Result<(), Error> {
        for (id, mut message) in self.accepted.ids.rewrite(id, delta, message)? {
            self.accepted.schema.check_dictionary(id, &message)?;
            message.header = charge.attach(message.header);
            self.dictionaries = self.dictionaries.with(id, delta, message)?;
        }
        Ok(())
    }

    /// Whether all dictionaries are there that a batch needs.
    pub(super) fn check_dictionaries(&self) -> Result<(), Error> {
        Ok(self.accepted.schema.check_dictionaries(&self.dictionaries)?)
    }

    /// A batch that has come whole.
    pub(super) fn batch(&self, message: Message, compressed: bool, user: Bytes, rows: u64) -> Result<EncodedBatch, Error> {
        if compressed {
            self.accepted.schema.check_compressed(&message.header, &message.body)?;
        }
        Ok(EncodedBatch { message, dictionaries: self.dictionaries.clone(), schema: self.accepted.version, user, rows })
    }
}
