//! What becomes of one column, and of what is in it.

use std::collections::HashMap;
use std::mem::discriminant;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, FixedSizeListArray, GenericListArray, MapArray, OffsetSizeTrait, StructArray, new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{CastOptions, cast_with_options, nullif};
use arrow::util::display::{FormatOptions, array_value_to_string};
use arrow_schema::{ArrowError, DataType, FieldRef, Fields};

use super::items::items as items_of;
use crate::client::Dialect;
use crate::wire::widening::{are_numbers, widens};

/// How values of one type become values of another.
#[derive(Debug)]
pub(super) enum Conversion {
    Same,
    /// All of them are null.
    Nulls,
    /// All of them have to be null.
    NullsOnly,
    /// By Arrow's cast, which refuses what does not fit.
    Cast,
    /// By Arrow's cast, if the value can be cast back: it drops digits without a word.
    Exact,
    /// First the values of the dictionary, or of the runs.
    Unpack(DataType, Box<Conversion>),
    /// Of each member, which one it comes from; none: it is null.
    Members(Vec<Option<(usize, Conversion)>>),
    /// Of a list.
    Items(Box<Conversion>),
    /// Of a map: keys and values.
    Entries(Box<Conversion>, Box<Conversion>),
}

const STRICT: CastOptions<'static> = CastOptions { safe: false, format_options: FormatOptions::new() };

/// What becomes of values of type `from` in a column of type `to`.
///
/// # Errors
/// Names the column, or the member, and both types.
pub(super) fn conversion(path: &str, from: &DataType, to: &DataType, dialect: &Dialect) -> Result<Conversion, String> {
    match (from, to) {
        _ if from == to => Ok(Conversion::Same),
        (DataType::Null, _) => Ok(Conversion::Nulls),
        (_, DataType::Null) => Ok(Conversion::NullsOnly),
        (DataType::Struct(have), DataType::Struct(want)) => members(path, have, want, dialect),
        (DataType::FixedSizeList(have, size), DataType::FixedSizeList(want, other)) if size == other => items(path, have, want, dialect),
        (
            DataType::List(have)
            | DataType::LargeList(have)
            | DataType::FixedSizeList(have, _)
            | DataType::ListView(have)
            | DataType::LargeListView(have),
            DataType::List(want) | DataType::LargeList(want),
        ) if dialect.schema.is_some() || discriminant(from) == discriminant(to) => items(path, have, want, dialect),
        (DataType::Map(have, _), DataType::Map(want, _)) => entries(path, have, want, dialect),
        (DataType::Dictionary(_, have), DataType::Dictionary(_, want)) if have == want || dialect.schema.is_some() => Ok(Conversion::Cast),
        (DataType::Dictionary(_, values), _) => {
            let values = values.as_ref();
            Ok(Conversion::Unpack(values.clone(), Box::new(conversion(path, values, to, dialect)?)))
        }
        (DataType::RunEndEncoded(_, values), _) if dialect.schema.is_some() => {
            let values = values.data_type();
            Ok(Conversion::Unpack(values.clone(), Box::new(conversion(path, values, to, dialect)?)))
        }
        _ => leaf(from, to, dialect).ok_or_else(|| format!("column {path:?}: the batches have {from}, which does not become {to}")),
    }
}

/// None: it does not become that.
fn leaf(from: &DataType, to: &DataType, dialect: &Dialect) -> Option<Conversion> {
    use DataType::{Dictionary, Duration, FixedSizeBinary, Time32, Time64, Timestamp};
    match (from, to) {
        _ if is_text(from, to) || widens(from, to) => Some(Conversion::Cast),
        // Where no zone is, a time is no instant: only who wrote it knows which.
        (Timestamp(_, zone), Timestamp(_, other)) if zone.is_some() != other.is_some() => None,
        (Timestamp(..), Timestamp(..)) | (Duration(_), Duration(_)) | (Time32(_) | Time64(_), Time32(_) | Time64(_)) => {
            Some(if dialect.is_asked_for(to) { Conversion::Cast } else { Conversion::Exact })
        }
        (_, Dictionary(_, values)) if dialect.schema.is_some() && (**values == *from || is_text(from, values)) => Some(Conversion::Cast),
        (FixedSizeBinary(_), _) if dialect.schema.is_some() && is_binary(to) => Some(Conversion::Cast),
        _ if widens(to, from) => Some(Conversion::Exact),
        _ if dialect.schema.is_some() && are_numbers(from, to) => Some(Conversion::Exact),
        _ => None,
    }
}

/// The same values, in other memory.
fn is_text(from: &DataType, to: &DataType) -> bool {
    (from.is_string() && to.is_string()) || (is_binary(from) && is_binary(to))
}

fn is_binary(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

fn members(path: &str, have: &Fields, want: &Fields, dialect: &Dialect) -> Result<Conversion, String> {
    let known: HashMap<&str, (usize, &FieldRef)> =
        have.iter().enumerate().map(|(index, field)| (field.name().as_str(), (index, field))).collect();
    let member = |field: &FieldRef| {
        let path = below(path, field.name());
        match known.get(field.name().as_str()) {
            Some(&(index, source)) => Ok(Some((index, conversion(&path, source.data_type(), field.data_type(), dialect)?))),
            None if field.is_nullable() => Ok(None),
            None => Err(format!("column {path:?} may not be null, and the batches lack it")),
        }
    };
    Ok(Conversion::Members(want.iter().map(member).collect::<Result<_, _>>()?))
}

fn items(path: &str, have: &FieldRef, want: &FieldRef, dialect: &Dialect) -> Result<Conversion, String> {
    Ok(Conversion::Items(Box::new(conversion(&below(path, "item"), have.data_type(), want.data_type(), dialect)?)))
}

/// By their places: Arrow's implementations call them by many names.
fn entries(path: &str, have: &FieldRef, want: &FieldRef, dialect: &Dialect) -> Result<Conversion, String> {
    let (Some([have_key, have_value]), Some([key, value])) = (pair(have.data_type()), pair(want.data_type())) else {
        return Err(format!("column {path:?}: a map whose entries are no pairs"));
    };
    let keys = conversion(&below(path, "key"), have_key.data_type(), key.data_type(), dialect)?;
    let values = conversion(&below(path, "value"), have_value.data_type(), value.data_type(), dialect)?;
    Ok(Conversion::Entries(Box::new(keys), Box::new(values)))
}

fn pair(entries: &DataType) -> Option<[&FieldRef; 2]> {
    match entries {
        DataType::Struct(fields) => match &fields[..] {
            [key, value] => Some([key, value]),
            _ => None,
        },
        _ => None,
    }
}

fn below(path: &str, name: &str) -> String {
    format!("{path}.{name}")
}

impl Conversion {
    /// The values as those of type `to`, which the conversion was made for.
    pub(super) fn apply(&self, path: &str, array: &ArrayRef, to: &DataType) -> Result<ArrayRef, String> {
        match self {
            Self::Same => Ok(array.clone()),
            Self::Nulls => Ok(new_null_array(to, array.len())),
            Self::NullsOnly if array.logical_null_count() == array.len() => Ok(new_null_array(to, array.len())),
            Self::NullsOnly => Err(wrong(path, format_args!("a value of type {} does not fit {to}", array.data_type()))),
            Self::Cast => cast(path, array, to),
            Self::Exact => exact(path, array, to),
            Self::Unpack(values, then) => then.apply(path, &cast(path, array, values)?, to),
            Self::Members(sources) => struct_of(path, array, to, sources),
            Self::Items(items) => match to {
                DataType::List(field) => list_of::<i32>(path, array, field, items),
                DataType::LargeList(field) => list_of::<i64>(path, array, field, items),
                DataType::FixedSizeList(field, size) => {
                    let list: &FixedSizeListArray = array.as_fixed_size_list();
                    let values = items.apply(&below(path, "item"), list.values(), field.data_type())?;
                    let list = FixedSizeListArray::try_new_with_length(field.clone(), *size, values, list.nulls().cloned(), list.len());
                    Ok(Arc::new(list.map_err(|error| wrong(path, error))?))
                }
                other => Err(wrong(path, format_args!("{other} has no items"))),
            },
            Self::Entries(keys, values) => map_of(path, array, to, keys, values),
        }
    }
}

fn wrong(path: &str, why: impl std::fmt::Display) -> String {
    format!("column {path:?}: {why}")
}

fn cast(path: &str, array: &ArrayRef, to: &DataType) -> Result<ArrayRef, String> {
    cast_with_options(array, to, &STRICT).map_err(|error| format!("column {path:?}: {error}"))
}

fn exact(path: &str, array: &ArrayRef, to: &DataType) -> Result<ArrayRef, String> {
    let converted = cast(path, array, to)?;
    let back = cast(path, &converted, array.data_type())?;
    let differs = distinct(array, &back).map_err(|error| wrong(path, error))?;
    match differs.iter().position(|differs| differs == Some(true)) {
        None => Ok(converted),
        Some(row) => {
            let value = array_value_to_string(array, row).unwrap_or_else(|_| "a value".to_owned());
            Err(wrong(path, format_args!("{value} of type {} does not fit {to}", array.data_type())))
        }
    }
}

fn struct_of(path: &str, array: &ArrayRef, to: &DataType, sources: &[Option<(usize, Conversion)>]) -> Result<ArrayRef, String> {
    let DataType::Struct(fields) = to else { return Err(wrong(path, format_args!("{to} has no members"))) };
    let (structs, rows) = (array.as_struct(), array.len());
    let member = |(field, source): (&FieldRef, &Option<(usize, Conversion)>)| match source {
        Some((index, conversion)) => {
            let path = below(path, field.name());
            let visible = visible(structs.column(*index), structs.nulls(), conversion).map_err(|error| wrong(&path, error))?;
            conversion.apply(&path, &visible, field.data_type())
        }
        None => Ok(new_null_array(field.data_type(), rows)),
    };
    let columns = fields.iter().zip(sources).map(member).collect::<Result<Vec<_>, _>>()?;
    let made = StructArray::try_new_with_length(fields.clone(), columns, structs.nulls().cloned(), rows);
    Ok(Arc::new(made.map_err(|error| wrong(path, error))?))
}

/// Without what lies under a null: that may be anything, and need not fit.
fn visible(member: &ArrayRef, nulls: Option<&NullBuffer>, conversion: &Conversion) -> Result<ArrayRef, ArrowError> {
    match (nulls.filter(|nulls| nulls.null_count() > 0), member.data_type()) {
        (Some(nulls), of)
            if !matches!((conversion, of), (Conversion::Same, _) | (_, DataType::RunEndEncoded(..) | DataType::Union(..))) =>
        {
            nullif(member, &BooleanArray::new(!nulls.inner(), None))
        }
        _ => Ok(member.clone()),
    }
}

fn list_of<O: OffsetSizeTrait>(path: &str, array: &ArrayRef, field: &FieldRef, items: &Conversion) -> Result<ArrayRef, String> {
    let (offsets, values) = items_of::<O>(array).map_err(|error| wrong(path, error))?;
    let values = items.apply(&below(path, "item"), &values, field.data_type())?;
    let made = GenericListArray::<O>::try_new(field.clone(), offsets, values, array.nulls().cloned());
    Ok(Arc::new(made.map_err(|error| wrong(path, error))?))
}

fn map_of(path: &str, array: &ArrayRef, to: &DataType, keys: &Conversion, values: &Conversion) -> Result<ArrayRef, String> {
    let DataType::Map(field, sorted) = to else { return Err(wrong(path, format_args!("{to} has no entries"))) };
    let DataType::Struct(fields) = field.data_type() else { return Err(wrong(path, "a map whose entries are no pairs")) };
    let Some([key, value]) = pair(field.data_type()) else { return Err(wrong(path, "a map whose entries are no pairs")) };
    let (offsets, entries) = items_of::<i32>(array).map_err(|error| wrong(path, error))?;
    let entries = entries.as_struct();
    let columns = vec![
        keys.apply(&below(path, "key"), entries.column(0), key.data_type())?,
        values.apply(&below(path, "value"), entries.column(1), value.data_type())?,
    ];
    let entries = StructArray::try_new(fields.clone(), columns, entries.nulls().cloned()).map_err(|error| wrong(path, error))?;
    let made = MapArray::try_new(field.clone(), offsets, entries, array.nulls().cloned(), *sorted);
    Ok(Arc::new(made.map_err(|error| wrong(path, error))?))
}
