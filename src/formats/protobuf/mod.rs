//! Protobuf: one message per row, of the type that a set of descriptors has.

mod input;
mod plan;
mod read;

#[cfg(test)]
mod tests;

use arrow_schema::SchemaRef;
use prost_reflect::prost::Message as _;
use prost_reflect::prost_types::FileDescriptorSet;
use prost_reflect::{DescriptorPool, Kind, MessageDescriptor};

use self::input::Input;
use self::plan::{Message, Planner};
use self::read::Reader;
use super::budget::Budget;
use super::columns::{self, Column};
use super::{FormatError, Rules};

/// What rows in Protobuf are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protobuf {
    /// A `FileDescriptorSet` with all that the type needs: `protoc --include_imports --descriptor_set_out`.
    pub descriptors: Vec<u8>,
    /// The type's full name: `shop.Click`.
    pub message: String,
    /// What is before a message.
    pub framing: Framing,
}

/// What is before a message in its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// Nothing.
    #[default]
    None,
    /// As Confluent's serializers write: a zero, the schema's number in the registry (4 bytes, not looked at: fields are known by their own
    /// numbers in all versions of a schema), and which message of its file it is.
    Confluent,
}

/// Rows that are Protobuf.
#[derive(Debug)]
pub(super) struct Messages {
    message: Message,
    /// Of a framed row, the message's place in its file, and in those that it is within.
    place: Option<Vec<u64>>,
    rules: Rules,
}

impl Messages {
    /// `columns` are all names that columns have.
    pub(super) fn new(of: &Protobuf, columns: &SchemaRef, rules: Rules) -> Result<Self, FormatError> {
        columns::check(columns.fields())?;
        let pool = pool(&of.descriptors)?;
        let message = pool
            .get_message_by_name(&of.message)
            .ok_or_else(|| FormatError::Schema(format!("the descriptors have no message {:?}; give its full name", of.message)))?;
        if let Some(odd) = pool.all_messages().find(|message| message.is_map_entry() && !is_entry(message)) {
            return Err(FormatError::Schema(format!("{:?} is said to be a map's entry, and has no key or no value", odd.full_name())));
        }
        // The path is of numbers of fields of descriptors, and places within those.
        let place = message.path().iter().skip(1).step_by(2).map(|place| u64::try_from(*place).unwrap_or(u64::MAX)).collect();
        let message = Planner { lenient: rules.lenient }.message(&message, columns.fields())?;
        Ok(Self { message, place: (of.framing == Framing::Confluent).then_some(place), rules })
    }

    /// One row into the columns; the error is the reason to set it aside.
    pub(super) fn read(&self, row: &[u8], columns: &mut [Column], budget: &Budget) -> Result<(), String> {
        let mut input = Input(row);
        if let Some(place) = &self.place {
            header(&mut input, place)?;
        }
        let reader = Reader { lenient: self.rules.lenient, budget };
        if self.rules.refuse_unknown {
            reader.refuse_unknown(&self.message, input.clone())?;
        }
        reader.message(&self.message, &[input.0], columns)
    }
}

fn pool(descriptors: &[u8]) -> Result<DescriptorPool, FormatError> {
    let none = |error: &dyn std::fmt::Display| FormatError::Schema(format!("the descriptors are none, or lack what they import: {error}"));
    let mut files = FileDescriptorSet::decode(descriptors).map_err(|error| none(&error))?;
    // Nobody asks where in its source something is.
    files.file.iter_mut().for_each(|file| file.source_code_info = None);
    // prost-reflect 0.16 panics while it words some of its errors: where a package has the name of another file's message.
    match std::panic::catch_unwind(|| DescriptorPool::from_file_descriptor_set(files)) {
        Ok(pool) => pool.map_err(|error| none(&error)),
        Err(_) => Err(none(&"they contradict each other")),
    }
}

/// Whether a map's entry has what one has.
fn is_entry(message: &MessageDescriptor) -> bool {
    let is_key = |kind: Kind| !matches!(kind, Kind::Message(_) | Kind::Enum(_) | Kind::Bytes | Kind::Float | Kind::Double);
    let key = message.get_field(1).filter(|key| !key.is_list() && is_key(key.kind()));
    key.is_some() && message.get_field(2).is_some_and(|value| !value.is_list() && !value.is_map())
}

fn header(input: &mut Input<'_>, place: &[u64]) -> Result<(), String> {
    if input.array()? != [0] {
        return Err("the row does not begin with a zero, as Confluent's serializers write".to_owned());
    }
    let _number: [u8; 4] = input.array()?;
    let mut zigzag = || input.varint().map(|value| if value & 1 == 0 { value >> 1 } else { u64::MAX });
    // The first message of a file is a single zero.
    let is_this = match zigzag()? {
        0 => place == [0],
        count => {
            let same = usize::try_from(count) == Ok(place.len());
            same && place.iter().try_fold(true, |same, place| Ok::<_, String>(zigzag()? == *place && same))?
        }
    };
    if is_this { Ok(()) } else { Err("the row is of another message of its file".to_owned()) }
}
