//! Values as text that says exactly what they are: a null is no text at all, nested values read like JSON, bytes are in hex, times
//! with a zone are in UTC.

use std::fmt::{self, Write};

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, GenericListArray, GenericListViewArray, MapArray, OffsetSizeTrait, StructArray,
    UnionArray,
};
use arrow::compute::cast;
use arrow::datatypes::{ArrowDictionaryKeyType, ArrowNativeType, Int16Type, Int32Type, Int64Type, RunEndIndexType};
use arrow::downcast_dictionary_array;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{ArrowError, DataType};
use serde_json::{Value, json};

/// Longest text of a value. What is longer is cut, and says so.
pub(super) const CELL_BYTES_MAX: usize = 4096;

/// A value, made until it is too long.
struct Text {
    text: String,
    is_cut: bool,
}

/// The text is full: nothing more has to be looked at.
enum Stop {
    Full,
    Failed(ArrowError),
}

impl From<fmt::Error> for Stop {
    fn from(_: fmt::Error) -> Self {
        Self::Full
    }
}

impl From<ArrowError> for Stop {
    fn from(error: ArrowError) -> Self {
        Self::Failed(error)
    }
}

impl Write for Text {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let room = CELL_BYTES_MAX - self.text.len();
        let taken = piece.floor_char_boundary(room);
        self.text.push_str(&piece[..taken]);
        self.is_cut = taken < piece.len();
        if self.is_cut { Err(fmt::Error) } else { Ok(()) }
    }
}

/// The value of a row: `null`, a text, or `{"text": .., "is_cut": true}` for one that goes on.
///
/// # Errors
/// What Arrow says of a value that cannot be written.
pub(super) fn cell(array: &dyn Array, row: usize) -> Result<Value, ArrowError> {
    let mut text = Text { text: String::new(), is_cut: false };
    match write(array, row, &mut text, false) {
        Ok(true) => Ok(Value::Null),
        Ok(false) => Ok(text.text.into()),
        Err(Stop::Full) => Ok(json!({ "text": text.text, "is_cut": true })),
        Err(Stop::Failed(error)) => Err(error),
    }
}

/// Writes a value, and says whether it is null: then nothing is written unless it is `nested`.
fn write(array: &dyn Array, row: usize, text: &mut Text, nested: bool) -> Result<bool, Stop> {
    if array.is_null(row) {
        return null(text, nested);
    }
    match array.data_type() {
        DataType::Null => return null(text, nested),
        DataType::Utf8 => string(array.as_string::<i32>().value(row), text, nested)?,
        DataType::LargeUtf8 => string(array.as_string::<i64>().value(row), text, nested)?,
        DataType::Utf8View => string(array.as_string_view().value(row), text, nested)?,
        DataType::Binary => hex(array.as_binary::<i32>().value(row), text)?,
        DataType::LargeBinary => hex(array.as_binary::<i64>().value(row), text)?,
        DataType::BinaryView => hex(array.as_binary_view().value(row), text)?,
        DataType::FixedSizeBinary(_) => hex(array.as_fixed_size_binary().value(row), text)?,
        DataType::List(_) => list(array.as_list::<i32>(), row, text)?,
        DataType::LargeList(_) => list(array.as_list::<i64>(), row, text)?,
        DataType::ListView(_) => list_view(array.as_list_view::<i32>(), row, text)?,
        DataType::LargeListView(_) => list_view(array.as_list_view::<i64>(), row, text)?,
        DataType::FixedSizeList(..) => fixed(array.as_fixed_size_list(), row, text)?,
        DataType::Struct(_) => structure(array.as_struct(), row, text)?,
        DataType::Map(..) => map(array.as_map(), row, text)?,
        DataType::Union(..) => union(array, row, text)?,
        DataType::Dictionary(..) => return dictionary(array, row, text, nested),
        DataType::RunEndEncoded(ends, _) => {
            return match ends.data_type() {
                DataType::Int16 => run::<Int16Type>(array, row, text, nested),
                DataType::Int32 => run::<Int32Type>(array, row, text, nested),
                _ => run::<Int64Type>(array, row, text, nested),
            };
        }
        _ => plain(array, row, text, nested)?,
    }
    Ok(false)
}

fn null(text: &mut Text, nested: bool) -> Result<bool, Stop> {
    if nested {
        text.write_str("null")?;
    }
    Ok(true)
}

fn string(value: &str, text: &mut Text, nested: bool) -> Result<(), Stop> {
    match nested {
        false => text.write_str(value)?,
        // No more of it than can be shown.
        true => write!(text, "{}", Value::from(&value[..value.floor_char_boundary(CELL_BYTES_MAX)]))?,
    }
    Ok(())
}

fn hex(bytes: &[u8], text: &mut Text) -> Result<(), Stop> {
    text.write_str("0x")?;
    bytes.iter().try_for_each(|byte| write!(text, "{byte:02x}"))?;
    Ok(())
}

/// Numbers, booleans, decimals, dates and times.
fn plain(array: &dyn Array, row: usize, text: &mut Text, nested: bool) -> Result<(), Stop> {
    let in_utc: ArrayRef;
    let one = array.slice(row, 1);
    let array: &dyn Array = match array.data_type() {
        // In UTC, for what a zone's name means is not known here; the column's type names it.
        DataType::Timestamp(unit, Some(_)) => {
            in_utc = cast(&one, &DataType::Timestamp(*unit, Some("+00:00".into())))?;
            &in_utc
        }
        _ => &one,
    };
    let options = FormatOptions::new().with_display_error(true);
    let formatter = ArrayFormatter::try_new(array, &options)?;
    let is_bare = array.data_type().is_numeric() || matches!(array.data_type(), DataType::Boolean);
    match nested && !is_bare {
        false => write!(text, "{}", formatter.value(0))?,
        true => write!(text, "\"{}\"", formatter.value(0))?,
    }
    Ok(())
}

fn items(items: &dyn Array, text: &mut Text) -> Result<(), Stop> {
    text.write_str("[")?;
    for item in 0..items.len() {
        text.write_str(if item > 0 { ", " } else { "" })?;
        write(items, item, text, true)?;
    }
    Ok(text.write_str("]")?)
}

fn list<O: OffsetSizeTrait>(list: &GenericListArray<O>, row: usize, text: &mut Text) -> Result<(), Stop> {
    items(&list.value(row), text)
}

fn list_view<O: OffsetSizeTrait>(list: &GenericListViewArray<O>, row: usize, text: &mut Text) -> Result<(), Stop> {
    items(&list.value(row), text)
}

fn fixed(list: &FixedSizeListArray, row: usize, text: &mut Text) -> Result<(), Stop> {
    items(&list.value(row), text)
}

fn structure(of: &StructArray, row: usize, text: &mut Text) -> Result<(), Stop> {
    text.write_str("{")?;
    for (index, (field, column)) in of.fields().iter().zip(of.columns()).enumerate() {
        text.write_str(if index > 0 { ", " } else { "" })?;
        string(field.name(), text, true)?;
        text.write_str(": ")?;
        write(column, row, text, true)?;
    }
    Ok(text.write_str("}")?)
}

fn map(of: &MapArray, row: usize, text: &mut Text) -> Result<(), Stop> {
    let entries = of.value(row);
    text.write_str("{")?;
    for entry in 0..entries.len() {
        text.write_str(if entry > 0 { ", " } else { "" })?;
        write(entries.column(0), entry, text, true)?;
        text.write_str(": ")?;
        write(entries.column(1), entry, text, true)?;
    }
    Ok(text.write_str("}")?)
}

/// The value with the name of its type: {"name": value}.
fn union(array: &dyn Array, row: usize, text: &mut Text) -> Result<(), Stop> {
    let union: &UnionArray = array.as_union();
    let chosen = union.type_id(row);
    let DataType::Union(fields, _) = union.data_type() else { return Ok(()) };
    let name = fields.iter().find(|(id, _)| *id == chosen).map_or("?", |(_, field)| field.name().as_str());
    text.write_str("{")?;
    string(name, text, true)?;
    text.write_str(": ")?;
    write(&union.value(row), 0, text, true)?;
    Ok(text.write_str("}")?)
}

fn dictionary(array: &dyn Array, row: usize, text: &mut Text, nested: bool) -> Result<bool, Stop> {
    downcast_dictionary_array!(
        array => of_key(array, row, text, nested),
        _ => Ok(false)
    )
}

fn of_key<K: ArrowDictionaryKeyType>(
    array: &arrow::array::DictionaryArray<K>,
    row: usize,
    text: &mut Text,
    nested: bool,
) -> Result<bool, Stop> {
    write(array.values(), array.keys().value(row).as_usize(), text, nested)
}

fn run<R: RunEndIndexType>(array: &dyn Array, row: usize, text: &mut Text, nested: bool) -> Result<bool, Stop> {
    let runs = array.as_run::<R>();
    write(runs.values(), runs.get_physical_index(row), text, nested)
}
