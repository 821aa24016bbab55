//! Columns that are filled value by value, and cut back to where they were when a row turns out to be bad.

use std::sync::Arc;

use arrow::array::{
    Array as _, ArrayRef, BinaryArray, BooleanArray, Decimal256Array, FixedSizeBinaryArray, FixedSizeListArray, Float64Array, Int64Array,
    ListArray, MapArray, NullArray, RecordBatch, RecordBatchOptions, StringArray, StructArray, UInt64Array,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::i256;
use arrow::error::ArrowError;
use arrow_schema::{DataType, Field, FieldRef, SchemaRef};

use super::budget::{Budget, VALUE_BYTES, width};
use super::scalar::Scalar;
use super::{FormatError, Rejected};

/// Whether there are such columns of each field's type.
pub(super) fn check(fields: &[FieldRef]) -> Result<(), FormatError> {
    fn is_known(data_type: &DataType) -> bool {
        match data_type {
            DataType::List(item) | DataType::LargeList(item) | DataType::Map(item, _) => is_known(item.data_type()),
            DataType::FixedSizeList(item, size) => *size > 0 && is_known(item.data_type()),
            DataType::Struct(fields) => fields.iter().all(|field| is_known(field.data_type())),
            DataType::FixedSizeBinary(size) => *size > 0,
            DataType::Interval(_) => false,
            DataType::Null | DataType::Boolean | DataType::Binary | DataType::LargeBinary | DataType::BinaryView => true,
            other => other.is_numeric() || other.is_temporal() || other.is_string(),
        }
    }
    match fields.iter().find(|field| !is_known(field.data_type())) {
        Some(field) => Err(FormatError::Type { column: field.name().clone(), data_type: field.data_type().clone() }),
        None => Ok(()),
    }
}

/// How many bytes values of a fixed size take in each row, also below a null. Single numbers are left out: a row's columns are what it is.
pub(super) fn fixed_bytes(fields: &[FieldRef]) -> usize {
    let of = |field: &FieldRef| match field.data_type() {
        DataType::FixedSizeBinary(size) => usize::try_from(*size).unwrap_or(0),
        DataType::FixedSizeList(item, size) => {
            let item = item_bytes(item);
            usize::try_from(*size).unwrap_or(0).saturating_mul(item)
        }
        DataType::Struct(fields) => fixed_bytes(fields),
        _ => 0,
    };
    fields.iter().map(of).fold(0, usize::saturating_add)
}

fn item_bytes(item: &FieldRef) -> usize {
    usize::try_from(width(item)).unwrap_or(usize::MAX).saturating_mul(VALUE_BYTES)
}

/// Fills columns row by row: one that `read` refuses leaves nothing behind and is set aside.
pub(super) fn decode(
    schema: &SchemaRef,
    rows: &[(usize, &[u8])],
    rejected: &mut Vec<Rejected>,
    read: impl Fn(&[u8], &mut [Column], &Budget) -> Result<(), String>,
) -> Result<(RecordBatch, Vec<usize>), ArrowError> {
    let mut columns: Vec<Column> = schema.fields().iter().map(Column::new).collect();
    let mut kept = Vec::with_capacity(rows.len());
    let budget = Budget::new();
    for (index, row) in rows {
        let before = budget.row(row.len());
        match read(row, &mut columns, &budget) {
            Ok(()) => kept.push(*index),
            Err(reason) => {
                columns.iter_mut().for_each(|column| column.truncate(kept.len()));
                budget.give_back(before);
                rejected.push(Rejected::new(*index, reason));
            }
        }
    }
    let options = RecordBatchOptions::new().with_row_count(Some(kept.len()));
    let arrays = columns.into_iter().map(Column::finish).collect::<Result<_, _>>()?;
    Ok((RecordBatch::try_new_with_options(schema.clone(), arrays, &options)?, kept))
}

/// Values of one type. Invariant between rows: all parts have as many as `valid`, or as the offsets say.
#[derive(Debug)]
pub(super) struct Column {
    field: FieldRef,
    valid: Vec<bool>,
    values: Values,
}

/// Numbers are as wide as any of their kind, and become what the field says at the end.
#[derive(Debug)]
enum Values {
    Null,
    Bool(Vec<bool>),
    Int(Vec<i64>),
    UInt(Vec<u64>),
    Float(Vec<f64>),
    Decimal {
        values: Vec<i256>,
        scale: i8,
        limit: i256,
    },
    Bytes {
        ends: Vec<i32>,
        data: Vec<u8>,
    },
    Struct(Vec<Column>),
    /// A map's items are structs of key and value.
    List {
        ends: Vec<i32>,
        item: Box<Column>,
    },
}

impl Column {
    fn new(field: &FieldRef) -> Self {
        use DataType::{Decimal32, Decimal64, Decimal128, Decimal256, FixedSizeList, LargeList, List, Map, Struct};
        let values = match field.data_type() {
            DataType::Null => Values::Null,
            DataType::Boolean => Values::Bool(Vec::new()),
            DataType::UInt64 => Values::UInt(Vec::new()),
            Decimal32(precision, scale) | Decimal64(precision, scale) | Decimal128(precision, scale) | Decimal256(precision, scale) => {
                let limit = i256::from_i128(10).checked_pow((*precision).into()).unwrap_or(i256::MAX);
                Values::Decimal { values: Vec::new(), scale: *scale, limit }
            }
            other if other.is_floating() => Values::Float(Vec::new()),
            other if other.is_integer() || other.is_temporal() => Values::Int(Vec::new()),
            Struct(fields) => Values::Struct(fields.iter().map(Self::new).collect()),
            List(item) | LargeList(item) | FixedSizeList(item, _) | Map(item, _) => {
                Values::List { ends: vec![0], item: Box::new(Self::new(item)) }
            }
            _ => Values::Bytes { ends: vec![0], data: Vec::new() },
        };
        Self { field: field.clone(), valid: Vec::new(), values }
    }

    pub(super) fn name(&self) -> &str {
        self.field.name()
    }

    pub(super) fn data_type(&self) -> &DataType {
        self.field.data_type()
    }

    pub(super) fn len(&self) -> usize {
        self.valid.len()
    }

    /// Appends a value.
    pub(super) fn push(&mut self, scalar: Scalar<'_>, lenient: bool) -> Result<(), String> {
        let to = self.field.data_type();
        match (&mut self.values, scalar) {
            (Values::Bool(values), Scalar::Bool(value)) => values.push(value),
            (Values::Int(values), scalar) => values.push(scalar.integer(to, lenient)?),
            (Values::UInt(values), scalar) => values.push(scalar.unsigned(to, lenient)?),
            (Values::Float(values), scalar) => values.push(scalar.float(to, lenient)?),
            (Values::Decimal { values, scale, limit }, scalar) => values.push(scalar.decimal(to, *scale, *limit, lenient)?),
            (Values::Bytes { ends, data }, scalar) => {
                let start = data.len();
                scalar.append(data, to, lenient)?;
                if let DataType::FixedSizeBinary(size) = to
                    && usize::try_from(*size) != Ok(data.len() - start)
                {
                    return Err(format!("it is {to}, and the row has {} bytes", data.len() - start));
                }
                ends.push(end(data.len())?);
            }
            (Values::Null | Values::Bool(_) | Values::Struct(_) | Values::List { .. }, scalar) => return Err(scalar.refused(to)),
        }
        self.valid.push(true);
        Ok(())
    }

    /// Appends a null; a field of a struct, an item or a map's key or value may be declared to have none.
    pub(super) fn null(&mut self) -> Result<(), String> {
        if !self.field.is_nullable() {
            return Err(format!("{:?} is missing or null, and the schema says that it is not nullable", self.name()));
        }
        self.pad()
    }

    /// A null, or what lies under one.
    fn pad(&mut self) -> Result<(), String> {
        match &mut self.values {
            Values::Null => {}
            Values::Bool(values) => values.push(false),
            Values::Int(values) => values.push(0),
            Values::UInt(values) => values.push(0),
            Values::Float(values) => values.push(0.0),
            Values::Decimal { values, .. } => values.push(i256::ZERO),
            Values::Bytes { ends, data } => {
                if let DataType::FixedSizeBinary(size) = self.field.data_type() {
                    data.resize(data.len() + usize::try_from(*size).unwrap_or(0), 0);
                }
                ends.push(end(data.len())?);
            }
            Values::Struct(fields) => fields.iter_mut().try_for_each(Self::pad)?,
            Values::List { ends, item } => {
                if let DataType::FixedSizeList(_, size) = self.field.data_type() {
                    end(item.valid.len().saturating_add(usize::try_from(*size).unwrap_or(0)))?;
                    (0..*size).try_for_each(|_| item.pad())?;
                }
                ends.push(end(item.valid.len())?);
            }
        }
        self.valid.push(false);
        Ok(())
    }

    /// A struct's fields; a list's item, alone. Each gets its value (of items, any number) before [`close`](Self::close).
    pub(super) fn parts(&mut self) -> &mut [Self] {
        match &mut self.values {
            Values::Struct(fields) => fields,
            Values::List { item, .. } => std::slice::from_mut(item.as_mut()),
            _ => &mut [],
        }
    }

    /// Its parts have what belongs to one value more.
    pub(super) fn close(&mut self) -> Result<(), String> {
        if let Values::List { ends, item } = &mut self.values {
            let start = ends.last().copied().unwrap_or(0);
            let end = end(item.valid.len())?;
            if let DataType::FixedSizeList(_, size) = self.field.data_type()
                && end - start != *size
            {
                return Err(format!("a list has {} items; {size} are declared", end - start));
            }
            ends.push(end);
        }
        self.valid.push(true);
        Ok(())
    }

    /// Back to its first `len` values, whatever its parts have.
    fn truncate(&mut self, len: usize) {
        self.valid.truncate(len);
        let at = |ends: &[i32]| ends.get(len).and_then(|end| usize::try_from(*end).ok()).unwrap_or(usize::MAX);
        match &mut self.values {
            Values::Null => {}
            Values::Bool(values) => values.truncate(len),
            Values::Int(values) => values.truncate(len),
            Values::UInt(values) => values.truncate(len),
            Values::Float(values) => values.truncate(len),
            Values::Decimal { values, .. } => values.truncate(len),
            Values::Bytes { ends, data } => {
                data.truncate(at(ends));
                ends.truncate(len + 1);
            }
            Values::Struct(fields) => fields.iter_mut().for_each(|field| field.truncate(len)),
            Values::List { ends, item } => {
                item.truncate(at(ends));
                ends.truncate(len + 1);
            }
        }
    }

    fn finish(self) -> Result<ArrayRef, ArrowError> {
        let len = self.valid.len();
        let nulls = Some(NullBuffer::from(self.valid)).filter(|nulls| nulls.null_count() > 0);
        let to = self.field.data_type();
        let array: ArrayRef = match (self.values, to) {
            (Values::Null, _) => Arc::new(NullArray::new(len)),
            (Values::Bool(values), _) => Arc::new(BooleanArray::new(values.into(), nulls)),
            (Values::Int(values), _) => Arc::new(Int64Array::try_new(values.into(), nulls)?),
            (Values::UInt(values), _) => Arc::new(UInt64Array::try_new(values.into(), nulls)?),
            (Values::Float(values), _) => Arc::new(Float64Array::try_new(values.into(), nulls)?),
            (Values::Decimal { values, scale, .. }, to) => {
                let precision = decimal_precision(to);
                Arc::new(Decimal256Array::try_new(values.into(), nulls)?.with_precision_and_scale(precision, scale)?)
            }
            (Values::Bytes { data, .. }, DataType::FixedSizeBinary(size)) => {
                Arc::new(FixedSizeBinaryArray::try_new(*size, Buffer::from_vec(data), nulls)?)
            }
            (Values::Bytes { ends, data }, to) => {
                let (ends, data) = (OffsetBuffer::new(ends.into()), Buffer::from_vec(data));
                if to.is_string() {
                    Arc::new(StringArray::try_new(ends, data, nulls)?)
                } else {
                    Arc::new(BinaryArray::try_new(ends, data, nulls)?)
                }
            }
            (Values::Struct(columns), DataType::Struct(fields)) => {
                let arrays = columns.into_iter().map(Self::finish).collect::<Result<_, _>>()?;
                Arc::new(StructArray::try_new_with_length(fields.clone(), arrays, nulls, len)?)
            }
            (Values::List { item, .. }, DataType::FixedSizeList(field, size)) => {
                Arc::new(FixedSizeListArray::try_new(field.clone(), *size, item.finish()?, nulls)?)
            }
            (Values::List { ends, item }, DataType::Map(entries, is_sorted)) => {
                let items = StructArray::from(item.finish()?.to_data());
                Arc::new(MapArray::try_new(entries.clone(), OffsetBuffer::new(ends.into()), items, nulls, *is_sorted)?)
            }
            (Values::List { ends, item }, _) => {
                Arc::new(ListArray::try_new(item.field.clone(), OffsetBuffer::new(ends.into()), item.finish()?, nulls)?)
            }
            (Values::Struct(_), other) => return Err(ArrowError::NotYetImplemented(format!("columns of {other}"))),
        };
        converted(array, to)
    }
}

/// Offsets are 32 bits: a row that would go beyond is bad, and those before it are not.
fn end(len: usize) -> Result<i32, String> {
    i32::try_from(len).map_err(|_| "the columns of this call have more than 2 GiB; decode its rows in several calls".to_owned())
}

fn decimal_precision(of: &DataType) -> u8 {
    match of {
        DataType::Decimal32(precision, _) | DataType::Decimal64(precision, _) | DataType::Decimal128(precision, _) => *precision,
        DataType::Decimal256(precision, _) => *precision,
        _ => 76,
    }
}

/// All values are known to fit.
fn converted(array: ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    match to {
        same if array.data_type() == same => Ok(array),
        DataType::Date32 | DataType::Time32(_) => cast_with_options(&cast_with_options(&array, &DataType::Int32, &options)?, to, &options),
        _ => cast_with_options(&array, to, &options),
    }
}

/// The fields of a struct, and of a map's entries.
pub(super) fn fields_of(field: &Field) -> &[FieldRef] {
    match field.data_type() {
        DataType::Struct(fields) => fields,
        _ => &[],
    }
}

/// The item of a list, the entries of a map.
pub(super) fn item_of(data_type: &DataType) -> Option<&FieldRef> {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) | DataType::Map(item, _) => Some(item),
        _ => None,
    }
}
