//! Rows into columns: a message is read as the bytes of all its occurrences together, which is what merging them means.

use std::collections::HashMap;

use prost_reflect::Kind;

use super::input::{Input, Wire};
use super::plan::{Absence, Field, IsGroup, Known, Message, Plan, Shape};
use crate::formats::budget::Budget;
use crate::formats::columns::Column;
use crate::formats::scalar::{Clock, Scalar};

/// Reads rows of one message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) lenient: bool,
    pub(super) budget: &'a Budget,
}

impl Reader<'_> {
    /// Whether a row has what is no column.
    pub(super) fn refuse_unknown(self, message: &Message, mut input: Input<'_>) -> Result<(), String> {
        while let Some((number, _)) = input.field()? {
            if message.known.get(&number).is_none_or(|known| known.slot.is_none()) {
                return Err(format!("the field with the number {number} is not in the schema"));
            }
        }
        Ok(())
    }

    /// One message, which is all of `parts`, into columns that are at one length.
    pub(super) fn message(self, message: &Message, parts: &[&[u8]], columns: &mut [Column]) -> Result<(), String> {
        let found = occurrences(message, parts)?;
        let mut rest = found.as_slice();
        for (slot, field) in message.fields.iter().enumerate() {
            let (mine, others) = rest.split_at(rest.partition_point(|(of, _)| *of <= slot));
            rest = others;
            self.field(field, mine, &mut columns[field.place]).map_err(|reason| within(&field.name, reason))?;
        }
        message.absent.iter().try_for_each(|place| columns[*place].null())
    }

    fn field(self, field: &Field, found: &[(usize, Wire<'_>)], column: &mut Column) -> Result<(), String> {
        match (&field.shape, field.absence) {
            (Shape::List(width), _) => {
                for (_, wire) in found {
                    self.items(&field.plan, *wire, *width, column)?;
                }
                column.close()
            }
            (Shape::Map(key, width), _) => self.map(key, &field.plan, *width, found, column),
            (Shape::One, Absence::Null) if found.is_empty() => column.null(),
            (Shape::One, Absence::Refused) if found.is_empty() => Err("the row lacks it, and it is required".to_owned()),
            (Shape::One, _) => self.value(&field.plan, found.iter().map(|(_, wire)| *wire), column),
        }
    }

    /// A list's item, or several of them packed.
    fn items(self, plan: &Plan, wire: Wire<'_>, width: u64, list: &mut Column) -> Result<(), String> {
        let [item] = list.parts() else { return Ok(()) };
        let packed = match (plan, wire) {
            (Plan::Scalar(kind), Wire::Bytes(bytes)) if !matches!(kind, Kind::String | Kind::Bytes) => Some((kind, bytes)),
            (Plan::Enum(..), Wire::Bytes(bytes)) => Some((&Kind::Int32, bytes)),
            _ => None,
        };
        let Some((kind, bytes)) = packed else {
            self.budget.item(width)?;
            return self.value(plan, [wire].into_iter(), item);
        };
        let mut input = Input(bytes);
        while !input.0.is_empty() {
            let wire = match kind {
                Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => Wire::Fixed64(input.array()?),
                Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => Wire::Fixed32(input.array()?),
                _ => Wire::Varint(input.varint()?),
            };
            self.budget.item(width)?;
            self.value(plan, [wire].into_iter(), item)?;
        }
        Ok(())
    }

    /// A map, whose entries are messages of a key, 1, and a value, 2. Of several with one key the last counts.
    fn map(self, key: &Plan, value: &Plan, width: u64, found: &[(usize, Wire<'_>)], column: &mut Column) -> Result<(), String> {
        let Plan::Scalar(kind) = key else { return Err("its key is no single value".to_owned()) };
        let mut entries = Vec::with_capacity(found.len());
        for (_, wire) in found {
            let (keys, values) = entry_of(*wire)?;
            entries.push((last(kind, keys.into_iter())?, values));
        }
        let lasts: HashMap<Key<'_>, usize> = entries.iter().enumerate().map(|(place, (key, _))| (Key::of(*key), place)).collect();
        for (place, (key, values)) in entries.into_iter().enumerate() {
            if lasts.get(&Key::of(key)) != Some(&place) {
                continue;
            }
            self.budget.item(width)?;
            let [entry] = column.parts() else { break };
            if let [keys, column] = entry.parts() {
                keys.push(key, self.lenient)?;
                self.value(value, values.into_iter(), column)?;
            }
            entry.close()?;
        }
        column.close()
    }

    /// One value, of which a row may have any number: messages are merged, of others the last counts; if there is none it is the default.
    fn value<'a>(self, plan: &Plan, found: impl Iterator<Item = Wire<'a>>, column: &mut Column) -> Result<(), String> {
        match plan {
            Plan::Scalar(kind) => column.push(last(kind, found)?, self.lenient),
            Plan::Enum(names, default) => {
                let number = match last_of(&Kind::Int32, found)? {
                    Some(Scalar::Int(number)) => i32::try_from(number).map_err(|error| error.to_string())?,
                    _ => *default,
                };
                match names.get(&number) {
                    Some(name) => column.push(Scalar::Enum(name, number), self.lenient),
                    None => column.push(Scalar::Int(number.into()), self.lenient),
                }
            }
            Plan::Message(message, is_group) => {
                let parts = found.map(|wire| message_of(wire, *is_group)).collect::<Result<Vec<_>, _>>()?;
                self.message(message, &parts, column.parts())?;
                column.close()
            }
            Plan::Time(clock) => {
                let (mut seconds, mut nanos) = (0, 0);
                for wire in found {
                    let bytes = message_of(wire, IsGroup(false))?;
                    seconds = numbered(1, bytes)?.into_iter().try_fold(seconds, |_, wire| integer(&Kind::Int64, wire))?;
                    nanos = numbered(2, bytes)?.into_iter().try_fold(nanos, |_, wire| integer(&Kind::Int32, wire))?;
                }
                column.push(Scalar::Nanos(time(seconds, nanos, *clock)?, *clock), self.lenient)
            }
            Plan::Wrapped(kind) => {
                let mut values = Vec::new();
                for wire in found {
                    values.extend(numbered(1, message_of(wire, IsGroup(false))?)?);
                }
                column.push(last(kind, values.into_iter())?, self.lenient)
            }
        }
    }
}

/// The fields that are columns, by their slots; those of one field in their order.
fn occurrences<'a>(message: &Message, parts: &[&'a [u8]]) -> Result<Vec<(usize, Wire<'a>)>, String> {
    let mut found = Vec::new();
    // Of each oneof, the number that it has; of each slot, from where on its occurrences count.
    let mut current = vec![0; message.oneofs];
    let mut since = vec![0; message.fields.len()];
    for part in parts {
        let mut input = Input(part);
        while let Some((number, wire)) = input.field()? {
            let Some(known) = message.known.get(&number) else { continue };
            // Of another wire type it is no value of the field.
            if let Some(oneof) = known.oneof
                && is_of(known, wire)
            {
                let before = std::mem::replace(&mut current[oneof], number);
                let cleared = message.known.get(&before).filter(|_| before != number).and_then(|known| known.slot);
                cleared.into_iter().for_each(|slot| since[slot] = found.len());
            }
            found.extend(known.slot.map(|slot| (slot, wire)));
        }
    }
    let mut place = 0;
    found.retain(|(slot, _)| {
        place += 1;
        place > since[*slot]
    });
    found.sort_by_key(|(slot, _)| *slot);
    Ok(found)
}

/// Whether a value that is not repeated has its field's wire type.
fn is_of(known: &Known, wire: Wire<'_>) -> bool {
    match &known.kind {
        Kind::Message(_) => message_of(wire, known.is_group).is_ok(),
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => matches!(wire, Wire::Fixed64(_)),
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => matches!(wire, Wire::Fixed32(_)),
        Kind::String | Kind::Bytes => matches!(wire, Wire::Bytes(_)),
        _ => matches!(wire, Wire::Varint(_)),
    }
}

/// What a message has for one number; it is looked at to its end.
fn numbered(number: u32, bytes: &[u8]) -> Result<Vec<Wire<'_>>, String> {
    let mut found = Vec::new();
    let mut input = Input(bytes);
    while let Some((of, wire)) = input.field()? {
        found.extend((of == number).then_some(wire));
    }
    Ok(found)
}

/// A map's entry: what it has for the key, and for the value. What it has beyond those no writer wrote, and readers differ in what they
/// take it for.
fn entry_of(wire: Wire<'_>) -> Result<(Vec<Wire<'_>>, Vec<Wire<'_>>), String> {
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    let mut input = Input(message_of(wire, IsGroup(false))?);
    while let Some((number, wire)) = input.field()? {
        match number {
            1 => keys.push(wire),
            2 => values.push(wire),
            _ => return Err(format!("a map's entry has the field {number}")),
        }
    }
    Ok((keys, values))
}

fn message_of(wire: Wire<'_>, is_group: IsGroup) -> Result<&[u8], String> {
    match (wire, is_group) {
        (Wire::Bytes(bytes), IsGroup(false)) | (Wire::Group(bytes), IsGroup(true)) => Ok(bytes),
        (other, _) => Err(format!("it is a message, and the row has {}", other.shown())),
    }
}

/// The last, if there is any; all are of the kind.
fn last_of<'a>(kind: &Kind, found: impl Iterator<Item = Wire<'a>>) -> Result<Option<Scalar<'a>>, String> {
    let mut value = None;
    for wire in found {
        value = Some(scalar(kind, wire)?);
    }
    Ok(value)
}

fn last<'a>(kind: &Kind, found: impl Iterator<Item = Wire<'a>>) -> Result<Scalar<'a>, String> {
    Ok(last_of(kind, found)?.unwrap_or(match kind {
        Kind::Bool => Scalar::Bool(false),
        Kind::Float => Scalar::Single(0.0),
        Kind::Double => Scalar::Double(0.0),
        Kind::String => Scalar::Text(""),
        Kind::Bytes => Scalar::Bytes(&[]),
        _ => Scalar::Int(0),
    }))
}

fn scalar<'a>(kind: &Kind, wire: Wire<'a>) -> Result<Scalar<'a>, String> {
    Ok(match (kind, wire) {
        (Kind::Bool, Wire::Varint(value)) => Scalar::Bool(value != 0),
        (Kind::Uint64, Wire::Varint(value)) => Scalar::UInt(value),
        (Kind::Fixed64, Wire::Fixed64(bytes)) => Scalar::UInt(u64::from_le_bytes(bytes)),
        (Kind::Float, Wire::Fixed32(bytes)) => Scalar::Single(f32::from_le_bytes(bytes)),
        (Kind::Double, Wire::Fixed64(bytes)) => Scalar::Double(f64::from_le_bytes(bytes)),
        (Kind::String, Wire::Bytes(bytes)) => {
            Scalar::Text(std::str::from_utf8(bytes).map_err(|_| "the row has text that is no UTF-8".to_owned())?)
        }
        (Kind::Bytes, Wire::Bytes(bytes)) => Scalar::Bytes(bytes),
        (kind, wire) => Scalar::Int(integer(kind, wire)?),
    })
}

/// Of all kinds that 64 bits with a sign hold. What does not fit the kind was written by another, and would be cut.
fn integer(kind: &Kind, wire: Wire<'_>) -> Result<i64, String> {
    let zigzag = |value: u64| (value >> 1).cast_signed() ^ -(value & 1).cast_signed();
    let bounded = |value: i64, fits: bool| if fits { Ok(value) } else { Err(format!("the row has {value} for 32 bits")) };
    match (kind, wire) {
        (Kind::Int64, Wire::Varint(value)) => Ok(value.cast_signed()),
        (Kind::Sint64, Wire::Varint(value)) => Ok(zigzag(value)),
        (Kind::Int32, Wire::Varint(value)) => bounded(value.cast_signed(), i32::try_from(value.cast_signed()).is_ok()),
        (Kind::Sint32, Wire::Varint(value)) => bounded(zigzag(value), i32::try_from(zigzag(value)).is_ok()),
        (Kind::Uint32, Wire::Varint(value)) => bounded(value.cast_signed(), u32::try_from(value).is_ok()),
        (Kind::Fixed32, Wire::Fixed32(bytes)) => Ok(u32::from_le_bytes(bytes).into()),
        (Kind::Sfixed32, Wire::Fixed32(bytes)) => Ok(i32::from_le_bytes(bytes).into()),
        (Kind::Sfixed64, Wire::Fixed64(bytes)) => Ok(i64::from_le_bytes(bytes)),
        (kind, wire) => Err(format!("it is {}, and the row has {}", format!("{kind:?}").to_lowercase(), wire.shown())),
    }
}

/// Nanoseconds, as the specification lets a time have them.
fn time(seconds: i64, nanos: i64, clock: Clock) -> Result<i128, String> {
    let is_time = match clock {
        // 10,000 years either way, and both parts with one sign.
        Clock::Span => seconds.abs_diff(0) <= 315_576_000_000 && nanos.abs() < 1_000_000_000 && seconds.signum() * nanos.signum() >= 0,
        // From the year 1 to 9999.
        _ => (-62_135_596_800..=253_402_300_799).contains(&seconds) && (0..1_000_000_000).contains(&nanos),
    };
    if is_time {
        Ok(i128::from(seconds) * 1_000_000_000 + i128::from(nanos))
    } else {
        Err(format!("the row has a time of {seconds} seconds and {nanos} nanoseconds"))
    }
}

/// What a map's keys are compared by.
#[derive(PartialEq, Eq, Hash)]
enum Key<'a> {
    Number(i128),
    Text(&'a str),
}

impl<'a> Key<'a> {
    fn of(scalar: Scalar<'a>) -> Self {
        match scalar {
            Scalar::Text(text) => Self::Text(text),
            Scalar::UInt(value) => Self::Number(value.into()),
            Scalar::Int(value) => Self::Number(value.into()),
            Scalar::Bool(value) => Self::Number(value.into()),
            _ => Self::Number(0),
        }
    }
}

fn within(name: &str, reason: String) -> String {
    if reason.starts_with("field ") { reason } else { format!("field {name:?}: {reason}") }
}
