//! JSON: an object per row, read once by serde_json. Numbers are taken from their digits, so that nothing is rounded on the way.

mod scalars;
mod times;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;

use arrow_schema::{DataType, FieldRef};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::budget::{Budget, width};
use super::columns::{self, Column, fields_of, item_of};
use super::names::Places;
use super::scalar::{Scalar, shown};
use super::{FormatError, Rules};

/// Whether rows can have columns of these types.
pub(super) fn check(fields: &[FieldRef]) -> Result<(), FormatError> {
    columns::check(fields)?;
    for field in fields {
        check_parts(field, field)?;
    }
    Ok(())
}

/// `top` is the column that the field is of.
fn check_parts(field: &FieldRef, top: &FieldRef) -> Result<(), FormatError> {
    let misfit = |written: &str| {
        Err(FormatError::Misfit { column: top.name().clone(), data_type: field.data_type().clone(), written: written.to_owned() })
    };
    match field.data_type() {
        DataType::Map(entries, _) if !fields_of(entries).first().is_some_and(|key| key.data_type().is_string()) => {
            return misfit("objects, whose keys are text,");
        }
        DataType::Timestamp(_, Some(zone)) if times::zone(zone).is_none() => return misfit("times whose zone is an offset or UTC"),
        _ => {}
    }
    fields_of(field).iter().chain(item_of(field.data_type())).try_for_each(|part| check_parts(part, top))
}

/// Reads rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    names: &'a Places,
    rules: Rules,
    budget: &'a Budget,
    /// The column at the top that the value is of; empty before there is one.
    top: &'a str,
}

impl<'a> Reader<'a> {
    pub(super) fn new(names: &'a Places, rules: Rules, budget: &'a Budget) -> Self {
        Self { names, rules, budget, top: "" }
    }

    /// In the column at the top, if it is in none yet.
    fn within(self, place: usize) -> Self {
        let top = if self.top.is_empty() { self.names.wide.field(place).name() } else { self.top };
        Self { top, ..self }
    }

    fn reason(self, reason: String) -> String {
        if self.top.is_empty() { reason } else { format!("column {:?}: {reason}", self.top) }
    }

    fn failed<E: Error>(self, reason: String) -> E {
        E::custom(self.reason(reason))
    }

    /// One row into the columns; the error is the reason to set it aside.
    pub(super) fn read(self, row: &[u8], columns: &mut [Column]) -> Result<(), String> {
        let text = str::from_utf8(row).map_err(|error| format!("the row is no UTF-8: {error}"))?;
        let mut json = serde_json::Deserializer::from_str(text);
        json.deserialize_map(Top { reader: self, columns }).and_then(|()| json.end()).map_err(|error| error.to_string())
    }
}

/// The row.
struct Top<'a, 'c> {
    reader: Reader<'a>,
    columns: &'c mut [Column],
}

impl<'de> Visitor<'de> for Top<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let Reader { names, rules, .. } = self.reader;
        fields(self.reader, self.columns, map, |name, _| match names.by_name.get(name) {
            None if rules.refuse_unknown => Err(format!("field {} is not in the schema", shown(name))),
            place => Ok(place.copied()),
        })
    }
}

/// An object's fields into columns that are at one length; `find` says whose a name is, and gets where the field before was.
fn fields<'de, A: MapAccess<'de>>(
    reader: Reader<'_>,
    columns: &mut [Column],
    mut map: A,
    find: impl Fn(&str, usize) -> Result<Option<usize>, String>,
) -> Result<(), A::Error> {
    let len = columns.first().map_or(0, Column::len);
    let mut before = 0;
    loop {
        let found = map.next_key_seed(Name(|name: &str| match find(name, before)? {
            Some(place) if columns[place].len() > len => Err(reader.reason(format!("field {} occurs twice", shown(name)))),
            found => Ok(found),
        }))?;
        match found {
            None => break,
            Some(Some(place)) => {
                before = place;
                map.next_value_seed(Value { reader: reader.within(place), column: &mut columns[place] })?;
            }
            Some(None) => drop(map.next_value::<IgnoredAny>()?),
        }
    }
    columns.iter_mut().filter(|column| column.len() == len).try_for_each(Column::null).map_err(|reason| reader.failed(reason))
}

/// A field's name, which `0` makes something of.
struct Name<F>(F);

impl<'de, T, F: FnOnce(&str) -> Result<T, String>> DeserializeSeed<'de> for Name<F> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<T, F: FnOnce(&str) -> Result<T, String>> Visitor<'_> for Name<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<T, E> {
        self.0(name).map_err(E::custom)
    }
}

/// A value for a column.
struct Value<'a, 'c> {
    reader: Reader<'a>,
    column: &'c mut Column,
}

impl Value<'_, '_> {
    fn refused<T, E: Error>(&self, what: &str) -> Result<T, E> {
        Err(self.reader.failed(format!("it is {}, and the row has {what}", self.column.data_type())))
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.column.data_type().is_nested() {
            return deserializer.deserialize_any(self);
        }
        let Self { reader, column } = self;
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        scalars::push(raw, column, reader.rules.lenient).map_err(|reason| reader.failed(reason))
    }
}

/// Structs, lists and maps.
impl<'de> Visitor<'de> for Value<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value for column {:?}, which is {}", self.column.name(), self.column.data_type())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.column.null().map_err(|reason| self.reader.failed(reason))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.refused("a boolean")
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.refused("a number")
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.refused("a number")
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.refused("a number")
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        self.refused("text")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        use DataType::{FixedSizeList, LargeList, List};
        let (List(item) | LargeList(item) | FixedSizeList(item, _)) = self.column.data_type() else { return self.refused("a list") };
        let width = width(item);
        let Self { reader, column } = self;
        while let [item] = column.parts()
            && items.next_element_seed(Value { reader, column: item })?.is_some()
        {
            reader.budget.item(width).map_err(|reason| reader.failed(reason))?;
        }
        column.close().map_err(|reason| reader.failed(reason))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let Self { reader, column } = self;
        match column.data_type() {
            DataType::Struct(of) => {
                let of = of.clone();
                fields(reader, column.parts(), map, |name, before| {
                    // Rows have their fields in one order, mostly that of the schema.
                    let places = (before..of.len()).chain(0..before);
                    Ok(places.into_iter().find(|place| of[*place].name() == name))
                })?;
            }
            DataType::Map(entries, _) => {
                let width = width(entries);
                entries_of(reader, width, column, map)?;
            }
            _ => return Self { reader, column }.refused("an object"),
        }
        column.close().map_err(|reason| reader.failed(reason))
    }
}

fn entries_of<'de, A: MapAccess<'de>>(reader: Reader<'_>, width: u64, column: &mut Column, mut map: A) -> Result<(), A::Error> {
    let mut seen = HashSet::new();
    while let [entry] = column.parts() {
        let [key, value] = entry.parts() else { break };
        let named = map.next_key_seed(Name(|name: &str| {
            reader.budget.item(width).map_err(|reason| reader.reason(reason))?;
            if !seen.insert(name.to_owned()) {
                return Err(reader.reason(format!("field {} occurs twice", shown(name))));
            }
            key.push(Scalar::Text(name), false)
        }))?;
        if named.is_none() {
            break;
        }
        map.next_value_seed(Value { reader, column: value })?;
        entry.close().map_err(|reason| reader.failed(reason))?;
    }
    Ok(())
}
