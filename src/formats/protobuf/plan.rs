//! How the fields of a message fill the columns: what fits is found out once, not per row.

use std::collections::HashMap;

use arrow_schema::{DataType, FieldRef};
use prost_reflect::{Cardinality, FieldDescriptor, Kind, MessageDescriptor};

use crate::formats::FormatError;
use crate::formats::budget::width;
use crate::formats::columns::{fields_of, item_of};
use crate::formats::scalar::{Class, Clock};

/// A message's fields that are columns, and all that it may have.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) fields: Vec<Field>,
    /// Of each field's number, what is done with it.
    pub(super) known: HashMap<u32, Known>,
    pub(super) oneofs: usize,
    /// Columns that the message does not have.
    pub(super) absent: Vec<usize>,
}

#[derive(Debug)]
pub(super) struct Known {
    /// Its place in `fields`, if it is a column.
    pub(super) slot: Option<usize>,
    /// Only one of a oneof's fields is there: the last.
    pub(super) oneof: Option<usize>,
    /// What its values are.
    pub(super) kind: Kind,
    pub(super) is_group: IsGroup,
}

/// A field that is a column.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: String,
    /// Its column's place.
    pub(super) place: usize,
    pub(super) absence: Absence,
    pub(super) shape: Shape,
    pub(super) plan: Plan,
}

/// What a field is that a row does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absence {
    Null,
    Default,
    Refused,
}

#[derive(Debug)]
pub(super) enum Shape {
    One,
    /// With how many values each item is.
    List(u64),
    /// With the keys' plan, and how many values each entry is.
    Map(Plan, u64),
}

/// What to do with one value.
#[derive(Debug)]
pub(super) enum Plan {
    Scalar(Kind),
    /// The names of its numbers, and the number that is meant where none is.
    Enum(HashMap<i32, String>, i32),
    Message(Message, IsGroup),
    /// `google.protobuf.Timestamp` and `Duration`.
    Time(Clock),
    /// `google.protobuf.Int64Value` and its like.
    Wrapped(Kind),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IsGroup(pub(super) bool);

/// Makes plans.
#[derive(Debug, Clone, Copy)]
pub(super) struct Planner {
    pub(super) lenient: bool,
}

impl Planner {
    /// The message `of` into these columns.
    pub(super) fn message(self, of: &MessageDescriptor, into: &[FieldRef]) -> Result<Message, FormatError> {
        let oneofs: Vec<String> = of.oneofs().map(|oneof| oneof.full_name().to_owned()).collect();
        let mut message = Message { fields: Vec::new(), known: HashMap::new(), oneofs: oneofs.len(), absent: Vec::new() };
        for (place, column) in into.iter().enumerate() {
            match of.get_field_by_name(column.name()) {
                Some(field) => message.fields.push(self.field(&field, column, place)?),
                None => message.absent.push(place),
            }
        }
        for field in of.fields() {
            let slot = message.fields.iter().position(|planned| planned.name == field.name());
            let oneof = field.containing_oneof().and_then(|of| oneofs.iter().position(|name| name == of.full_name()));
            message.known.insert(field.number(), Known { slot, oneof, kind: field.kind(), is_group: IsGroup(field.is_group()) });
        }
        Ok(message)
    }

    fn field(self, of: &FieldDescriptor, into: &FieldRef, place: usize) -> Result<Field, FormatError> {
        let absence = match of.cardinality() {
            Cardinality::Required => Absence::Refused,
            // Empty bytes are none of a fixed size.
            _ if of.supports_presence() || matches!(into.data_type(), DataType::FixedSizeBinary(_)) => Absence::Null,
            _ => Absence::Default,
        };
        let kind = of.kind();
        let (shape, plan) = match (into.data_type(), item_of(into.data_type())) {
            (DataType::Map(_, _), Some(entries)) if of.is_map() => self.map(&kind, entries, into)?,
            (DataType::Map(_, _), _) => return Err(misfit(into, of)),
            (_, Some(item)) if of.is_list() && !of.is_map() => (Shape::List(width(item)), self.value(of, item)?),
            _ if of.is_list() || of.is_map() => return Err(misfit(into, of)),
            _ => (Shape::One, self.value(of, into)?),
        };
        Ok(Field { name: of.name().to_owned(), place, absence, shape, plan })
    }

    fn map(self, of: &Kind, entries: &FieldRef, into: &FieldRef) -> Result<(Shape, Plan), FormatError> {
        let (Kind::Message(entry), [key, value]) = (of, fields_of(entries)) else {
            return Err(FormatError::Type { column: into.name().clone(), data_type: into.data_type().clone() });
        };
        let key = self.value(&entry.map_entry_key_field(), key)?;
        Ok((Shape::Map(key, width(entries)), self.value(&entry.map_entry_value_field(), value)?))
    }

    /// One value of the field, whatever the field has of them.
    fn value(self, of: &FieldDescriptor, into: &FieldRef) -> Result<Plan, FormatError> {
        let fits = |class: Class| if class.fits(into.data_type(), self.lenient) { Ok(()) } else { Err(misfit(into, of)) };
        match of.kind() {
            Kind::Enum(names) => {
                fits(Class::Enum)?;
                let mut by_number = HashMap::new();
                for value in names.values() {
                    by_number.entry(value.number()).or_insert_with(|| value.name().to_owned());
                }
                Ok(Plan::Enum(by_number, names.default_value().number()))
            }
            Kind::Message(message) => match (into.data_type(), special(&message)) {
                (DataType::Struct(columns), _) => Ok(Plan::Message(self.message(&message, columns)?, IsGroup(of.is_group()))),
                (_, Some(Special::Time(clock))) => fits(Class::Time(clock, false)).map(|()| Plan::Time(clock)),
                (_, Some(Special::Wrapper(kind))) => match class(&kind) {
                    Some(class) => fits(class).map(|()| Plan::Wrapped(kind)),
                    None => Err(misfit(into, of)),
                },
                (_, None) => Err(misfit(into, of)),
            },
            kind => match class(&kind) {
                Some(class) => fits(class).map(|()| Plan::Scalar(kind)),
                None => Err(misfit(into, of)),
            },
        }
    }
}

/// Messages that everybody takes for what they stand for.
enum Special {
    Time(Clock),
    Wrapper(Kind),
}

fn special(of: &MessageDescriptor) -> Option<Special> {
    let wrapper = |kind| Some(Special::Wrapper(kind));
    match of.full_name().strip_prefix("google.protobuf.")? {
        "Timestamp" => Some(Special::Time(Clock::Instant)),
        "Duration" => Some(Special::Time(Clock::Span)),
        "BoolValue" => wrapper(Kind::Bool),
        "Int32Value" => wrapper(Kind::Int32),
        "Int64Value" => wrapper(Kind::Int64),
        "UInt32Value" => wrapper(Kind::Uint32),
        "UInt64Value" => wrapper(Kind::Uint64),
        "FloatValue" => wrapper(Kind::Float),
        "DoubleValue" => wrapper(Kind::Double),
        "StringValue" => wrapper(Kind::String),
        "BytesValue" => wrapper(Kind::Bytes),
        _ => None,
    }
}

fn class(of: &Kind) -> Option<Class> {
    match of {
        Kind::Bool => Some(Class::Bool),
        Kind::Float | Kind::Double => Some(Class::Float),
        Kind::String => Some(Class::Text),
        Kind::Bytes => Some(Class::Bytes),
        Kind::Enum(_) | Kind::Message(_) => None,
        _ => Some(Class::Int),
    }
}

fn misfit(into: &FieldRef, of: &FieldDescriptor) -> FormatError {
    let kind = match of.kind() {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(names) => names.full_name().to_owned(),
        kind => format!("{kind:?}").to_lowercase(),
    };
    let written = match of.cardinality() {
        _ if of.is_map() => "a map".to_owned(),
        Cardinality::Repeated if item_of(into.data_type()).is_none() => format!("repeated {kind}"),
        _ => kind,
    };
    FormatError::Misfit { column: into.name().clone(), data_type: into.data_type().clone(), written }
}
