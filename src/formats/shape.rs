//! Whether a row is one JSON object whose values have the shape of the declared columns. arrow-json takes more than it says: "12" for
//! a number, 1.5 for an integer; and its tape has no bound of depth. serde_json's, 128, holds here.

use std::fmt;

use arrow_schema::{DataType, FieldRef};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::Rules;
use super::names::Places;

/// Checks one row; the error is the reason to set it aside.
pub(super) fn check(row: &[u8], names: &Places, rules: Rules) -> Result<(), String> {
    let mut json = serde_json::Deserializer::from_slice(row);
    json.deserialize_map(Top { names, rules }).and_then(|()| json.end()).map_err(|error| error.to_string())
}

struct Top<'a> {
    names: &'a Places,
    rules: Rules,
}

impl<'de> Visitor<'de> for Top<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = vec![false; self.names.wide.fields().len()];
        while let Some(name) = map.next_key::<String>()? {
            let Some(&place) = self.names.by_name.get(&name) else {
                if self.rules.refuse_unknown {
                    return Err(A::Error::custom(format_args!("field {} is not in the schema", shown(&name))));
                }
                map.next_value_seed(Value { data_type: None, column: "", lenient: true })?;
                continue;
            };
            if std::mem::replace(&mut seen[place], true) {
                return Err(A::Error::custom(format_args!("field {} occurs twice", shown(&name))));
            }
            let data_type = self.names.wide.field(place).data_type();
            map.next_value_seed(Value { data_type: Some(data_type), column: &name, lenient: self.rules.lenient })?;
        }
        Ok(())
    }
}

/// A name from outside, cut to what a reason may hold.
fn shown(name: &str) -> String {
    format!("{:?}", name.chars().take(100).collect::<String>())
}

/// A value for a type, or any value.
#[derive(Clone, Copy)]
struct Value<'a> {
    data_type: Option<&'a DataType>,
    column: &'a str,
    lenient: bool,
}

impl<'a> Value<'a> {
    fn of(self, data_type: Option<&'a DataType>) -> Self {
        Self { data_type, ..self }
    }

    fn number<E: Error>(self, is_whole: bool) -> Result<(), E> {
        match self.data_type {
            Some(t) if (t.is_integer() || t.is_temporal()) && !is_whole => self.refuse("a number with a fraction"),
            Some(t) if t.is_string() && !self.lenient => self.refuse("a number"),
            Some(t) if t.is_nested() || t.is_binary() || *t == DataType::Boolean => self.refuse("a number"),
            _ => Ok(()),
        }
    }

    fn refuse<E: Error>(self, what: &str) -> Result<(), E> {
        match self.data_type {
            Some(data_type) => Err(E::custom(format_args!("column {:?} is {data_type}, and the row has {what}", self.column))),
            None => Ok(()),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        match self.data_type {
            Some(DataType::Boolean) => Ok(()),
            Some(t) if t.is_string() && self.lenient => Ok(()),
            _ => self.refuse("a boolean"),
        }
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.number(true)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.number(true)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.number(value.fract() == 0.0)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        match self.data_type {
            Some(t) if (t.is_integer() || t.is_floating()) && !self.lenient => self.refuse("text"),
            Some(t) if t.is_nested() || *t == DataType::Boolean => self.refuse("text"),
            _ => Ok(()),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        use DataType::{FixedSizeList, LargeList, LargeListView, List, ListView};
        let item = match self.data_type {
            None => None,
            Some(List(item) | LargeList(item) | ListView(item) | LargeListView(item) | FixedSizeList(item, _)) => Some(item.data_type()),
            Some(_) => return self.refuse("a list"),
        };
        while items.next_element_seed(self.of(item))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            let value = match self.data_type {
                None => None,
                Some(DataType::Struct(fields)) => fields.iter().find(|field| *field.name() == name).map(|field| field.data_type()),
                Some(DataType::Map(entries, _)) => map_value(entries),
                Some(_) => return self.refuse("an object"),
            };
            map.next_value_seed(self.of(value))?;
        }
        match self.data_type {
            None | Some(DataType::Struct(_) | DataType::Map(..)) => Ok(()),
            Some(_) => self.refuse("an object"),
        }
    }
}

fn map_value(entries: &FieldRef) -> Option<&DataType> {
    match entries.data_type() {
        DataType::Struct(fields) => fields.get(1).map(|field| field.data_type()),
        _ => None,
    }
}
