//! JSON lines: types inferred from the first rows, unless the stream has a schema.

use std::io::BufRead;
use std::sync::Arc;

use ::arrow::array::RecordBatch;
use ::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use ::arrow::error::ArrowError;
use ::arrow::json::ReaderBuilder;
use ::arrow::json::reader::{Decoder, infer_json_schema};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{BATCH_ROWS_DEFAULT, Input, InputOptions, lines, schema, source};
use crate::cli::error::CliError;
use crate::cli::format::Place;

pub(super) fn open(place: &Place, options: &InputOptions) -> Result<Input, CliError> {
    let failed = |error: &ArrowError| malformed(place, options, &error.to_string());
    let (reader, extent) = source(place)?;
    let (head, reader) = lines::peek(reader, options.infer_rows).map_err(|reason| failed(&reason.into()))?;
    let schema = match &options.schema {
        Some(schema) => schema.clone(),
        None => infer(&head).map_err(|error| failed(&error))?,
    };
    let rows = options.batch_rows.unwrap_or(BATCH_ROWS_DEFAULT);
    // Strict: a key that the schema does not have is an error, not a value that silently vanishes.
    let builder = ReaderBuilder::new(schema.clone()).with_batch_size(rows).with_strict_mode(true);
    let decoder = builder.build_decoder().map_err(|error| failed(&error))?;
    let batches = Rows { reader, decoder, batch_rows: rows };
    let (place, options) = (place.clone(), options.clone());
    let batches = Box::new(batches.map(move |batch| batch.map_err(|error| malformed(&place, &options, &error.to_string()))));
    Ok(Input { schema, batches, extent })
}

/// Batches of `batch_rows` rows. Arrow's own reader asks for more bytes before it gives a batch that is already full, which
/// keeps the last rows of `tail -f` waiting for those that come after them.
struct Rows<R> {
    reader: R,
    decoder: Decoder,
    batch_rows: usize,
}

impl<R: BufRead> Rows<R> {
    fn read(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        while self.decoder.len() < self.batch_rows {
            let bytes = self.reader.fill_buf()?;
            if bytes.is_empty() {
                break;
            }
            let decoded = self.decoder.decode(bytes)?;
            self.reader.consume(decoded);
        }
        self.decoder.flush()
    }
}

impl<R: BufRead> Iterator for Rows<R> {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// Arrow infers the types but gives columns in no order at all: two runs would make two different schemas. So they are
/// put in the order in which the keys first appear.
fn infer(head: &[u8]) -> Result<SchemaRef, ArrowError> {
    let (inferred, _) = infer_json_schema(head, None)?;
    let mut keys = Keys::default();
    for line in serde_json::Deserializer::from_slice(head).into_iter::<Keys>() {
        keys.merge(line.map_err(|error| ArrowError::JsonError(error.to_string()))?);
    }
    Ok(Arc::new(Schema::new(schema::text_for_null(&keys.order(inferred.fields())))))
}

fn malformed(place: &Place, options: &InputOptions, reason: &str) -> CliError {
    let hint = match &options.schema {
        Some(_) => "one object per line, with the stream's columns: see `bowstring stream describe`",
        None => "one object per line; columns and types come from the first lines: --infer-rows looks at more",
    };
    CliError::Malformed { name: place.name("stdin"), format: "json", reason: reason.to_owned(), hint }
}

/// The keys of objects in the order in which they first appear, and those of the objects in them.
#[derive(Debug, Default)]
struct Keys(Vec<(String, Keys)>);

impl Keys {
    fn merge(&mut self, other: Keys) {
        for (name, inner) in other.0 {
            self.entry(name).merge(inner);
        }
    }

    fn entry(&mut self, name: String) -> &mut Keys {
        let index = self.0.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
            self.0.push((name, Keys::default()));
            self.0.len() - 1
        });
        &mut self.0[index].1
    }

    fn order(&self, fields: &Fields) -> Fields {
        let place = |field: &FieldRef| self.0.iter().position(|(name, _)| name == field.name());
        let mut sorted: Vec<_> = fields.iter().cloned().collect();
        sorted.sort_by_key(place);
        sorted.iter().map(|field| self.order_field(field)).collect()
    }

    fn order_field(&self, field: &FieldRef) -> FieldRef {
        let Some((_, inner)) = self.0.iter().find(|(name, _)| name == field.name()) else {
            return field.clone();
        };
        Arc::new(Field::new(field.name(), inner.order_type(field.data_type()), field.is_nullable()))
    }

    fn order_type(&self, data_type: &DataType) -> DataType {
        match data_type {
            DataType::Struct(fields) => DataType::Struct(self.order(fields)),
            DataType::List(item) => {
                DataType::List(Arc::new(Field::new(item.name(), self.order_type(item.data_type()), item.is_nullable())))
            }
            other => other.clone(),
        }
    }
}

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KeysVisitor)
    }
}

struct KeysVisitor;

impl<'de> Visitor<'de> for KeysVisitor {
    type Value = Keys;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
        let mut keys = Keys::default();
        while let Some((name, inner)) = map.next_entry::<String, Keys>()? {
            keys.entry(name).merge(inner);
        }
        Ok(keys)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Keys, A::Error> {
        let mut keys = Keys::default();
        while let Some(item) = items.next_element::<Keys>()? {
            keys.merge(item);
        }
        Ok(keys)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Keys, E> {
        Ok(Keys::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Keys, E> {
        Ok(Keys::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Keys, E> {
        Ok(Keys::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Keys, E> {
        Ok(Keys::default())
    }

    fn visit_str<E>(self, _: &str) -> Result<Keys, E> {
        Ok(Keys::default())
    }

    fn visit_unit<E>(self) -> Result<Keys, E> {
        Ok(Keys::default())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;

    fn inferred(text: &str) -> String {
        let schema = infer(text.as_bytes()).unwrap();
        schema.fields().iter().map(|field| format!("{}:{} ", field.name(), field.data_type())).collect()
    }

    #[test]
    fn columns_come_in_the_order_in_which_keys_first_appear() {
        let text = "{\"z\":1,\"a\":{\"y\":2,\"b\":[{\"q\":1,\"c\":2}]}}\n{\"m\":true,\"z\":1.5,\"a\":{\"x\":\"t\"}}\n";
        let all = (0..20).map(|_| inferred(text)).collect::<std::collections::HashSet<_>>();
        assert_eq!(all.len(), 1, "the same text gives the same schema");
        let one = all.into_iter().next().unwrap();
        let places = ["z:", "a:", "\"y\"", "\"b\"", "\"q\"", "\"c\"", "\"x\"", "m:"].map(|name| one.find(name));
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{one}");
    }

    #[test]
    fn a_column_of_nothing_but_nulls_is_text() {
        assert_eq!(inferred("{\"a\":null}\n"), "a:Utf8 ");
    }
}
