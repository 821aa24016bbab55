//! Avro: one record per row in binary, of the schema that its writer had.

mod input;
mod plan;
mod schema;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use arrow_schema::{Schema as Columns, SchemaRef};

use self::input::Input;
use self::plan::{Planner, Reader, Record};
use self::schema::{Schema, Type};
use super::budget::Budget;
use super::columns::{self, Column};
use super::scalar::shown;
use super::{FormatError, Rules};

/// The schemas that rows were written with, as JSON, and how a row says which of them is its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Writers {
    /// Rows are the datum alone, all of one schema.
    One(String),
    /// Avro's single-object encoding: before the datum are C3 01 and the CRC-64-AVRO of its schema.
    ByFingerprint(Vec<String>),
    /// As Confluent's serializers write: before the datum are a zero and its schema's number in the registry, 4 bytes.
    ById(BTreeMap<u32, String>),
}

/// Rows that are Avro.
#[derive(Debug)]
pub(super) struct Avro {
    writers: Vec<Writer>,
    header: Header,
    lenient: bool,
}

#[derive(Debug)]
struct Writer {
    schema: Schema,
    /// Why all its rows are bad, or how they are read.
    plan: Result<Record, String>,
}

/// What is before a datum, and the places of the writers that it names.
#[derive(Debug)]
enum Header {
    None,
    Fingerprint(HashMap<u64, usize>),
    Id(HashMap<u32, usize>),
}

impl Avro {
    /// `columns` are all names that columns have.
    pub(super) fn new(writers: &Writers, columns: &SchemaRef, rules: Rules) -> Result<Self, FormatError> {
        columns::check(columns.fields())?;
        let texts: Vec<&String> = match writers {
            Writers::One(text) => vec![text],
            Writers::ByFingerprint(texts) => texts.iter().collect(),
            Writers::ById(texts) => texts.values().collect(),
        };
        let made = texts.into_iter().map(|text| Writer::new(text, columns, rules)).collect::<Result<Vec<_>, _>>()?;
        let header = match writers {
            Writers::One(_) => Header::None,
            Writers::ByFingerprint(_) => Header::by_fingerprint(&made)?,
            Writers::ById(texts) => Header::Id(texts.keys().copied().zip(0..).collect()),
        };
        Ok(Self { writers: made, header, lenient: rules.lenient })
    }

    /// One row into the columns; the error is the reason to set it aside.
    pub(super) fn read(&self, row: &[u8], columns: &mut [Column], budget: &Budget) -> Result<(), String> {
        let mut input = Input(row);
        let writer = &self.writers[self.header.place(&mut input)?];
        let plan = writer.plan.as_ref().map_err(String::clone)?;
        Reader { schema: &writer.schema, lenient: self.lenient, budget }.record(plan, &mut input, columns)?;
        match input.0.len() {
            0 => Ok(()),
            more => Err(format!("the row has {more} bytes after its record")),
        }
    }
}

impl Writer {
    fn new(text: &str, columns: &Columns, rules: Rules) -> Result<Self, FormatError> {
        let schema = Schema::parse(text).map_err(FormatError::Schema)?;
        let Type::Record { fields, .. } = schema.get(schema.root()) else {
            return Err(FormatError::Schema("rows are records, and the schema is of something else".to_owned()));
        };
        let (record, unknown) = Planner { schema: &schema, lenient: rules.lenient }.record(fields, columns.fields())?;
        let plan = match unknown.first() {
            Some(name) if rules.refuse_unknown => Err(format!("field {} is not in the schema", shown(name))),
            _ => Ok(record),
        };
        Ok(Self { schema, plan })
    }
}

impl Header {
    fn by_fingerprint(writers: &[Writer]) -> Result<Self, FormatError> {
        let mut places = HashMap::new();
        for (place, writer) in writers.iter().enumerate() {
            let print = writer.schema.fingerprint();
            // What numbers mean, a date or a decimal, is no part of it.
            if places.insert(print, place).is_some() {
                return Err(FormatError::Schema(format!("two of the schemas have the fingerprint {print:016x}; give each once")));
            }
        }
        Ok(Self::Fingerprint(places))
    }

    fn place(&self, input: &mut Input<'_>) -> Result<usize, String> {
        match self {
            Self::None => Ok(0),
            Self::Fingerprint(places) => {
                if input.array()? != [0xc3, 0x01] {
                    return Err("the row does not begin with C3 01, as Avro's single-object encoding does".to_owned());
                }
                let print = u64::from_le_bytes(input.array()?);
                places.get(&print).copied().ok_or_else(|| format!("the row's schema has the fingerprint {print:016x}, and none was given"))
            }
            Self::Id(places) => {
                if input.array()? != [0] {
                    return Err("the row does not begin with a zero, as Confluent's serializers write".to_owned());
                }
                let id = u32::from_be_bytes(input.array()?);
                places.get(&id).copied().ok_or_else(|| format!("the row's schema has the number {id}, and none was given"))
            }
        }
    }
}
