//! A dialect: what a consumer wants its batches to look like, whatever their producers have sent.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::str::FromStr;
use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};

use super::Error;
use crate::wire::proto::SchemaPolicy;
use crate::wire::widening::widens;

/// Most bytes of a time zone's name.
const TIME_ZONE_BYTES_MAX: usize = 256;

/// How a consumer wants its batches: all of them have one schema, that which it *pins*. Default: the stream's, as it is when the consumer
/// opens or when the stream gets one; its later changes are then none of the consumer's. docs/schemas.md says what becomes of what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dialect {
    /// The columns to read and their types. One that a batch lacks is null in it. None: the stream's.
    pub schema: Option<SchemaRef>,
    /// Of a column of the pinned schema, other names that it has in batches. Where a batch has several of them, its value is the first
    /// that is not null. Columns at the top only.
    pub aliases: BTreeMap<String, Vec<String>>,
    /// How strings and binary values lie in memory; not with `schema`, which says it. None: as the stream has them.
    pub strings: Option<Strings>,
    /// The time zone of all columns that have one, by its IANA name or as "+02:00"; instants stay what they are. Not with `schema`.
    pub time_zone: Option<Arc<str>>,
    /// The unit of all timestamps; a coarser one cuts them. Not with `schema`.
    pub time_unit: Option<TimeUnit>,
}

/// How strings and binary values lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strings {
    /// `string` and `binary`: at most 2 GiB of a column in a batch.
    Plain,
    /// `large_string` and `large_binary`.
    Large,
    /// `string_view` and `binary_view`.
    View,
}

impl FromStr for Strings {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "plain" => Ok(Self::Plain),
            "large" => Ok(Self::Large),
            "view" => Ok(Self::View),
            other => Err(Error::invalid(format!("strings is {other:?}; use \"plain\", \"large\" or \"view\""))),
        }
    }
}

impl Dialect {
    /// Whether the options go together.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.schema.is_some() && (self.strings.is_some() || self.time_zone.is_some() || self.time_unit.is_some()) {
            return Err(Error::invalid("schema says the types of all columns; leave out strings, time_zone and time_unit, or the schema"));
        }
        if let Some(zone) = self.time_zone.as_deref().filter(|zone| zone.is_empty() || zone.len() > TIME_ZONE_BYTES_MAX) {
            return Err(Error::invalid(format!(
                "time_zone is {zone:?}; use a name such as \"Europe/Berlin\", or an offset such as \"+02:00\""
            )));
        }
        let mut names = BTreeSet::new();
        let all = self.aliases.iter().flat_map(|(name, others)| others.iter().filter(move |other| *other != name));
        if let Some(twice) = self.aliases.keys().chain(all).find(|name| !names.insert(*name)) {
            return Err(Error::invalid(format!("aliases name {twice:?} twice; a column is one column's alias, and none of its own")));
        }
        let fields = self.schema.iter().flat_map(|schema| schema.fields());
        let mut names = BTreeSet::new();
        match fields.map(|field| field.name()).find(|name| !names.insert(*name)) {
            Some(twice) => Err(Error::invalid(format!("schema has two columns {twice:?}; columns are found by their names"))),
            None => Ok(()),
        }
    }

    /// Whether what a consumer reads is what it has asked for, and not what it was the first to see.
    pub(super) fn is_asked_for(&self, data_type: &DataType) -> bool {
        self.schema.is_some() || (self.time_unit.is_some() && matches!(data_type, DataType::Timestamp(..)))
    }

    /// The schema that all batches get, of a stream that has this one. Where a producer may leave any column out, all of them may be
    /// null.
    pub(super) fn pin(&self, stream: &SchemaRef, policy: SchemaPolicy) -> Result<SchemaRef, Error> {
        if let Some(schema) = &self.schema {
            return Ok(schema.clone());
        }
        let pinned = self.spoken(stream)?;
        let is_free = pinned.fields().iter().all(|field| field.is_nullable() && !field.data_type().is_nested());
        if policy != SchemaPolicy::Widening || is_free {
            return Ok(pinned);
        }
        let fields: Vec<FieldRef> = pinned.fields().iter().map(may_be_null).collect();
        Ok(Arc::new(Schema::new_with_metadata(fields, pinned.metadata().clone())))
    }

    fn spoken(&self, stream: &SchemaRef) -> Result<SchemaRef, Error> {
        let is_as_it_is = self.aliases.is_empty() && self.strings.is_none() && self.time_zone.is_none() && self.time_unit.is_none();
        if is_as_it_is {
            return Ok(stream.clone());
        }
        let fields: Vec<FieldRef> = self.renamed(stream)?.iter().map(|field| self.field(field)).collect();
        Ok(Arc::new(Schema::new_with_metadata(fields, stream.metadata().clone())))
    }

    /// The columns under their own names, each once.
    fn renamed(&self, stream: &Schema) -> Result<Vec<FieldRef>, Error> {
        if self.aliases.is_empty() {
            return Ok(stream.fields().to_vec());
        }
        let own_names: HashMap<&str, &str> =
            self.aliases.iter().flat_map(|(own, others)| others.iter().map(move |other| (other.as_str(), own.as_str()))).collect();
        let mut places: HashMap<&str, usize> = HashMap::new();
        let mut fields: Vec<FieldRef> = Vec::with_capacity(stream.fields().len());
        for field in stream.fields() {
            let name = own_names.get(field.name().as_str()).copied().unwrap_or(field.name());
            match places.get(name) {
                Some(&place) => fields[place] = both(&fields[place], field)?,
                None => {
                    places.insert(name, fields.len());
                    fields.push(if name == field.name() { field.clone() } else { Arc::new(Field::clone(field).with_name(name)) });
                }
            }
        }
        Ok(fields)
    }

    /// What a column of the pinned schema is called in batches.
    pub(super) fn names_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let others = self.aliases.get(name).into_iter().flatten().map(String::as_str);
        [name].into_iter().chain(others.filter(move |other| *other != name))
    }

    fn field(&self, field: &FieldRef) -> FieldRef {
        let data_type = self.data_type(field.data_type());
        if data_type == *field.data_type() { field.clone() } else { Arc::new(Field::clone(field).with_data_type(data_type)) }
    }

    /// Dictionaries, unions and run-end encoded columns stay as they are.
    fn data_type(&self, data_type: &DataType) -> DataType {
        use DataType::{Binary, BinaryView, LargeBinary, LargeUtf8, Utf8, Utf8View};
        match (data_type, self.strings) {
            (Utf8 | LargeUtf8 | Utf8View, Some(Strings::Plain)) => Utf8,
            (Utf8 | LargeUtf8 | Utf8View, Some(Strings::Large)) => LargeUtf8,
            (Utf8 | LargeUtf8 | Utf8View, Some(Strings::View)) => Utf8View,
            (Binary | LargeBinary | BinaryView, Some(Strings::Plain)) => Binary,
            (Binary | LargeBinary | BinaryView, Some(Strings::Large)) => LargeBinary,
            (Binary | LargeBinary | BinaryView, Some(Strings::View)) => BinaryView,
            (DataType::Timestamp(unit, zone), _) => {
                let zone = zone.as_ref().map(|zone| self.time_zone.clone().unwrap_or_else(|| zone.clone()));
                DataType::Timestamp(self.time_unit.unwrap_or(*unit), zone)
            }
            (DataType::List(item), _) => DataType::List(self.field(item)),
            (DataType::LargeList(item), _) => DataType::LargeList(self.field(item)),
            (DataType::FixedSizeList(item, size), _) => DataType::FixedSizeList(self.field(item), *size),
            (DataType::Map(entries, sorted), _) => DataType::Map(self.field(entries), *sorted),
            (DataType::Struct(fields), _) => DataType::Struct(fields.iter().map(|field| self.field(field)).collect::<Fields>()),
            _ => data_type.clone(),
        }
    }
}

/// The same at every depth, but for a map's entries and keys.
fn may_be_null(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(may_be_null).collect()),
        DataType::List(item) => DataType::List(may_be_null(item)),
        DataType::LargeList(item) => DataType::LargeList(may_be_null(item)),
        DataType::Map(entries, sorted) => match entries.data_type() {
            DataType::Struct(fields) => {
                let fields = fields.iter().take(1).cloned().chain(fields.iter().skip(1).map(may_be_null));
                let fields = DataType::Struct(fields.collect());
                DataType::Map(Arc::new(Field::clone(entries).with_data_type(fields)), *sorted)
            }
            _ => field.data_type().clone(),
        },
        other => other.clone(),
    };
    Arc::new(Field::clone(field).with_data_type(data_type).with_nullable(true))
}

/// Two columns that are one.
fn both(known: &FieldRef, other: &FieldRef) -> Result<FieldRef, Error> {
    let (one, two) = (known.data_type(), other.data_type());
    let data_type = if one == two || widens(two, one) {
        one
    } else if widens(one, two) {
        two
    } else {
        let text = format!(
            "aliases make {:?} one column with {:?}, but the stream has {one} for the one and {two} for the other; leave it out, or pass a schema",
            other.name(),
            known.name()
        );
        return Err(Error::invalid(text));
    };
    Ok(Arc::new(Field::clone(known).with_data_type(data_type.clone()).with_nullable(true)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Code;

    fn aliases(all: &[(&str, &[&str])]) -> Dialect {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Dialect { aliases: all.iter().map(|(name, others)| ((*name).to_owned(), owned(others))).collect(), ..Dialect::default() }
    }

    fn pinned(dialect: &Dialect, columns: &[(&str, DataType)]) -> Result<Vec<(String, DataType)>, Error> {
        let fields: Vec<_> = columns.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), false)).collect();
        let pinned = dialect.pin(&Arc::new(Schema::new(fields)), SchemaPolicy::Additive)?;
        Ok(pinned.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect())
    }

    #[test]
    fn a_consumer_that_asks_for_nothing_reads_the_very_schema_of_the_stream() {
        let stream: SchemaRef = Arc::new(Schema::new(vec![Field::new("a", DataType::Utf8, false)]));
        for policy in [SchemaPolicy::Strict, SchemaPolicy::Additive] {
            assert!(Arc::ptr_eq(&Dialect::default().pin(&stream, policy).expect("as it is"), &stream));
        }
    }

    #[test]
    fn where_columns_may_be_left_out_all_may_be_null() {
        let inner = |nullable| DataType::Struct(vec![Field::new("x", DataType::Int8, nullable)].into());
        let of = |nullable| {
            let list = DataType::List(Field::new("item", inner(nullable), nullable).into());
            Arc::new(Schema::new(vec![Field::new("a", DataType::Utf8, nullable), Field::new("l", list, nullable)]))
        };
        assert_eq!(Dialect::default().pin(&of(false), SchemaPolicy::Widening).expect("as it is"), of(true));
        assert_eq!(Dialect::default().pin(&of(false), SchemaPolicy::Additive).expect("as it is"), of(false));
    }

    #[test]
    fn names_become_one_and_the_widest_type_stays() {
        let dialect = aliases(&[("customer_id", &["CustomerID", "customerId", "CustID"])]);
        let found = pinned(&dialect, &[("CustID", DataType::Int32), ("x", DataType::Utf8), ("CustomerID", DataType::Int64)]);
        assert_eq!(found.expect("they fit"), [("customer_id".to_owned(), DataType::Int64), ("x".to_owned(), DataType::Utf8)]);
        let error = pinned(&dialect, &[("CustID", DataType::Int32), ("CustomerID", DataType::Utf8)]).expect_err("no type for both");
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.to_string().contains("Int32") && error.to_string().contains("Utf8"), "{error}");
    }

    #[test]
    fn strings_zones_and_units_are_those_asked_for_at_any_depth() {
        let zoned = |unit, zone: &str| DataType::Timestamp(unit, Some(zone.into()));
        let dialect = Dialect {
            strings: Some(Strings::View),
            time_zone: Some("Europe/Berlin".into()),
            time_unit: Some(TimeUnit::Millisecond),
            ..Dialect::default()
        };
        let inner =
            |text, time| DataType::Struct(vec![Field::new("t", text, true), Field::new("at", DataType::new_list(time, true), true)].into());
        let found = pinned(
            &dialect,
            &[
                ("s", DataType::Utf8),
                ("b", DataType::LargeBinary),
                ("naive", DataType::Timestamp(TimeUnit::Nanosecond, None)),
                ("in", inner(DataType::LargeUtf8, zoned(TimeUnit::Second, "UTC"))),
                ("n", DataType::Int8),
            ],
        );
        let types: Vec<_> = found.expect("all fit").into_iter().map(|(_, data_type)| data_type).collect();
        let expected = [
            DataType::Utf8View,
            DataType::BinaryView,
            DataType::Timestamp(TimeUnit::Millisecond, None),
            inner(DataType::Utf8View, zoned(TimeUnit::Millisecond, "Europe/Berlin")),
            DataType::Int8,
        ];
        assert_eq!(types, expected);
    }

    #[test]
    fn what_does_not_go_together_is_refused_with_its_reason() {
        let schema = |names: &[&str]| -> Option<SchemaRef> {
            Some(Arc::new(Schema::new(names.iter().map(|name| Field::new(*name, DataType::Int8, true)).collect::<Vec<_>>())))
        };
        let cases = [
            (Dialect { schema: schema(&["a"]), strings: Some(Strings::Large), ..Dialect::default() }, "leave out strings"),
            (Dialect { schema: schema(&["a", "a"]), ..Dialect::default() }, "two columns \"a\""),
            (Dialect { time_zone: Some("".into()), ..Dialect::default() }, "Europe/Berlin"),
            (aliases(&[("a", &["x"]), ("b", &["x"])]), "\"x\" twice"),
            (aliases(&[("a", &["b"]), ("b", &["x"])]), "\"b\" twice"),
        ];
        for (dialect, part) in cases {
            let error = dialect.check().expect_err(part);
            assert!(error.to_string().contains(part), "{error}");
        }
        assert!(aliases(&[("a", &["a", "b"])]).check().is_ok(), "its own name does no harm");
        assert!("wide".parse::<Strings>().expect_err("none of three").to_string().contains("\"view\""));
    }
}
