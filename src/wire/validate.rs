//! Full validation: a batch and its dictionaries decoded as a reader does it, and every value looked at that a reader follows
//! without looking. For servers that do not trust their producers; it costs what decoding costs.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow_buffer::{Buffer, MutableBuffer};
use arrow_ipc::reader::{RecordBatchDecoder, read_dictionary};
use arrow_schema::{ArrowError, SchemaRef};

use super::body::Body;
use super::dictionary::DictionarySet;
use super::error::WireError;
use super::ipc::{self, Message};
use super::limits::NESTED_MESSAGES_MAX;
use super::schema::StreamSchema;
use crate::zoo::{self, Bug};

/// Validates the batches of one connection, which come with their dictionaries.
#[derive(Debug)]
pub struct Validator {
    schema: SchemaRef,
    /// Dictionaries of dictionaries: a new inner one changes what the outer one means.
    is_nested: bool,
    set: Arc<DictionarySet>,
    decoded: HashMap<i64, ArrayRef>,
}

impl Validator {
    /// For batches of this schema.
    #[must_use]
    pub fn new(schema: &StreamSchema) -> Self {
        Self {
            schema: schema.arrow().clone(),
            is_nested: schema.has_nested_dictionaries(),
            set: DictionarySet::empty(),
            decoded: HashMap::new(),
        }
    }

    /// Whether it has these very dictionaries decoded.
    #[must_use]
    pub fn has(&self, set: &Arc<DictionarySet>) -> bool {
        Arc::ptr_eq(&self.set, set)
    }

    /// Whether dictionaries have dictionaries in their values: then all are decoded again when one is another.
    #[must_use]
    pub fn is_nested(&self) -> bool {
        self.is_nested
    }

    /// The dictionaries that it has still to decode for batches that come with `set`, in the order in which every reader gets
    /// them.
    ///
    /// # Errors
    /// [`WireError::Malformed`] for too many deltas of nested dictionaries: each costs as much as all before it.
    pub fn missing(&self, set: &Arc<DictionarySet>) -> Result<Vec<Arc<Message>>, WireError> {
        if !self.is_nested {
            return Ok(set.missing_from(&self.set));
        }
        let all = set.missing_from(&DictionarySet::empty());
        match all.len() {
            0..=NESTED_MESSAGES_MAX => Ok(all),
            count => Err(WireError::malformed(format!(
                "{count} dictionary messages of a schema with dictionaries of dictionaries; full validation takes {NESTED_MESSAGES_MAX}"
            ))),
        }
    }

    /// Bytes that validating takes for a time: the body in one aligned piece, and what a compressed one becomes.
    ///
    /// # Errors
    /// As [`ipc::check_compressed`].
    pub fn bytes(message: &Message) -> Result<u64, WireError> {
        let decompressed = ipc::decompressed_bytes(&ipc::parse(&message.header)?, &message.body)?;
        // Arrays whose type wants a larger alignment than theirs are copied once more.
        let again = decompressed.unwrap_or_else(|| message.body.len());
        Ok(message.body.len().saturating_add(again).saturating_add(message.header.len() as u64))
    }

    /// Decodes and validates the dictionaries that the next batches come with.
    ///
    /// # Errors
    /// [`WireError::Malformed`]; it is of no more use then.
    pub fn take_dictionaries(&mut self, set: &Arc<DictionarySet>) -> Result<(), WireError> {
        if self.has(set) {
            return Ok(());
        }
        let missing = self.missing(set)?;
        if self.is_nested {
            self.decoded.clear();
        }
        for message in missing {
            caught("a dictionary", || self.dictionary(&message))?;
        }
        self.set = set.clone();
        Ok(())
    }

    /// Decodes and validates a batch that the structural checks have passed, with the dictionaries that were taken last.
    ///
    /// # Errors
    /// [`WireError::Malformed`].
    pub fn check(&self, message: &Message) -> Result<(), WireError> {
        if zoo::has(Bug::ValuesNotLookedAt) {
            return Ok(());
        }
        caught("the batch", || self.batch(message))
    }

    fn dictionary(&mut self, message: &Message) -> Result<(), ArrowError> {
        let header = ipc::parse(&message.header).map_err(external)?;
        let table = header.header_as_dictionary_batch().ok_or_else(|| missing("a dictionary"))?;
        // Validates: only the unsafe variant of the call does not.
        read_dictionary(&aligned(&message.body), table, &self.schema, &mut self.decoded, &header.version())
    }

    fn batch(&self, message: &Message) -> Result<(), ArrowError> {
        let header = ipc::parse(&message.header).map_err(external)?;
        let table = header.header_as_record_batch().ok_or_else(|| missing("a batch"))?;
        let body = aligned(&message.body);
        let version = header.version();
        let decoder = RecordBatchDecoder::try_new(&body, table, self.schema.clone(), &self.decoded, &version)?;
        decoder.read_record_batch().map(drop)
    }
}

fn external(error: WireError) -> ArrowError {
    ArrowError::ExternalError(error.into())
}

fn missing(what: &str) -> ArrowError {
    ArrowError::IpcError(format!("{what} without its table"))
}

/// Arrow's decoder panics on some of what the structural checks let through.
fn caught(what: &str, validate: impl FnOnce() -> Result<(), ArrowError>) -> Result<(), WireError> {
    let validated = catch_unwind(AssertUnwindSafe(validate));
    let refused = |why: String| WireError::malformed(format!("{what} fails full validation: {why}"));
    validated
        .unwrap_or_else(|_| Err(ArrowError::IpcError("Arrow's decoder gave up on it".to_owned())))
        .map_err(|error| refused(error.to_string()))
}

/// A copy in one piece: who shares the memory that it came in cannot change it meanwhile.
fn aligned(body: &Body) -> Buffer {
    let mut copy = MutableBuffer::with_capacity(usize::try_from(body.len()).unwrap_or(usize::MAX));
    body.chunks().iter().for_each(|chunk| copy.extend_from_slice(chunk));
    copy.into()
}
