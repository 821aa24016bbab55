//! The IPC guard, message by message as the server does it; and what becomes of the batches that it lets through.

use std::sync::Arc;

use arrow::array::{Array as _, RecordBatch};
use arrow_ipc::CompressionType;
use bowstring::client::fuzzing::Reader;
use bowstring::wire::dictionary::DictionarySet;
use bowstring::wire::ipc::{Body, Kind, Message};
use bowstring::wire::limits::DECOMPRESSED_BYTES_MAX;
use bowstring::wire::offsets::OffsetEnds;
use bowstring::wire::schema::StreamSchema;
use bowstring::wire::validate::Validator;
use bytes::Bytes;
use rand::Rng;
use rand::rngs::StdRng;

use crate::corpus::Input;
use crate::engine::{Verdict, quietly, within};

/// What a small thing may take.
const SOME: u64 = 256 << 10;

/// Headers and bodies in turns, a schema first.
pub(crate) fn run(input: &Input, random: &mut StdRng) -> Verdict {
    let Some(schema) = input.first().and_then(|header| parse(header)) else { return Verdict::Refused };
    let ids = schema.accepts(&schema).expect("a schema fits itself");
    let (mut set, mut ends, mut validator) = (DictionarySet::empty(), OffsetEnds::default(), Validator::new(&schema));
    let mut verdict = Verdict::Refused;
    for parts in input.get(2..).unwrap_or_default().chunks(2) {
        let header = Bytes::copy_from_slice(&parts[0]);
        let body = cut(parts.get(1).map_or(&[][..], Vec::as_slice), random);
        let bound = (4 << 10) | (32 * header.len() as u64);
        let Ok(kind) = within(bound, "looking at a header", || schema.inspect_with_ends(&header, body.len(), &mut ends)) else { break };
        let message = Message { header, body };
        let passed = within(SOME + 32 * message.header.len() as u64, "looking at a body", || match kind {
            Kind::Schema | Kind::Empty => Some(false),
            Kind::Dictionary { id, delta } => {
                for (id, message) in ids.rewrite(id, delta, &message).ok()? {
                    schema.check_dictionary(id, &message, DECOMPRESSED_BYTES_MAX).ok()?;
                    set = set.with(id, delta, message).ok()?;
                }
                Some(false)
            }
            Kind::Batch { compressed, .. } => {
                schema.check_dictionaries(&set).ok()?;
                if compressed {
                    schema.check_compressed(&message.header, &message.body, DECOMPRESSED_BYTES_MAX).ok()?;
                } else {
                    ends.check(&message.body).ok()?;
                }
                Some(true)
            }
        });
        match passed {
            None => break,
            Some(true) => {
                read(&schema, &set, &message, &mut validator);
                verdict = Verdict::Accepted;
            }
            Some(false) => {}
        }
    }
    verdict
}

/// A schema alone.
pub(crate) fn run_schema(input: &Input, _: &mut StdRng) -> Verdict {
    match input.first().and_then(|header| parse(header)) {
        Some(schema) => {
            let again = StreamSchema::from_arrow(schema.arrow());
            // What a reader is told has to be what is checked.
            assert!(again.is_err() || again.is_ok_and(|again| again.arrow() == schema.arrow()), "{:?} changes", schema.arrow());
            Verdict::Accepted
        }
        None => Verdict::Refused,
    }
}

/// Arrow's form of a field has some hundred bytes where the header has some ten, and a text as often as it is used.
fn parse(header: &[u8]) -> Option<StreamSchema> {
    let header = Bytes::copy_from_slice(header);
    let texts = (32 << 20).min(header.len() as u64 * 400);
    let bound = SOME + 400 * header.len() as u64 + texts;
    quietly(|| within(bound.min(100 << 20), "a schema", || StreamSchema::parse(header)).ok())
}

/// A body in one to three chunks.
fn cut(bytes: &[u8], random: &mut StdRng) -> Body {
    let size = bytes.len() / random.random_range(1..=3) + 1;
    let mut body = Body::new();
    bytes.chunks(size).for_each(|chunk| body.push(Bytes::copy_from_slice(chunk)));
    body
}

/// What was accepted is decoded by a client without more memory than its codec can make of it, and without an end of this process;
/// what full validation accepts is decoded, and valid by Arrow's own word.
fn read(schema: &StreamSchema, set: &Arc<DictionarySet>, message: &Message, validator: &mut Validator) {
    let dictionaries = set.missing_from(&DictionarySet::empty());
    let bound: u64 = 2 * SOME + dictionaries.iter().map(|message| &**message).chain([message]).map(memory_of).sum::<u64>();
    let decoded = quietly(|| {
        within(bound, "decoding what was accepted", || {
            let mut reader = Reader::default();
            reader.take(schema.header(), &Body::new())?;
            for dictionary in &dictionaries {
                reader.take(&dictionary.header, &dictionary.body)?;
            }
            reader.take(&message.header, &message.body)
        })
    });
    let validated = quietly(|| {
        within(bound, "validating what was accepted", || {
            validator.take_dictionaries(set)?;
            validator.check(message)
        })
    });
    match (validated, decoded) {
        (Ok(()), Ok(Some(batch))) => valid(&batch),
        (Ok(()), other) => panic!("full validation accepts it, and a client cannot decode it: {:?}", other.map(|batch| batch.map(|_| ()))),
        (Err(error), Ok(Some(batch))) => {
            // What a client gives out is valid, whatever the coordinator would say.
            valid(&batch);
            panic!("a client decodes it, and full validation refuses it: {error}");
        }
        // A validator that has met something invalid is of no more use.
        (Err(_), _) => *validator = Validator::new(schema),
    }
}

/// What decoding a message may take: a copy of its body, another where alignment asks for it, and what its codec can make of it.
fn memory_of(message: &Message) -> u64 {
    let table = arrow_ipc::root_as_message(&message.header).expect("it was looked at");
    let batch = table.header_as_record_batch().or_else(|| table.header_as_dictionary_batch().and_then(|dictionary| dictionary.data()));
    let ratio = match batch.and_then(|batch| batch.compression()).map(|compression| compression.codec()) {
        Some(CompressionType::LZ4_FRAME) => 256,
        Some(_) => 1 << 16,
        None => 1,
    };
    // Readers of frames have windows of their own.
    let codec = if ratio > 1 { 16 << 20 } else { 0 };
    codec + 4 * message.body.len() * ratio + 200 * message.header.len() as u64
}

fn valid(batch: &RecordBatch) {
    for column in batch.columns() {
        assert_eq!(column.len(), batch.num_rows());
        column.to_data().validate_full().expect("what full validation accepts is valid by Arrow's word");
    }
}
