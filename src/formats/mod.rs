//! Rows of other formats become batches of a declared schema: bad rows are set aside with the reason, the rest goes on.

mod avro;
mod budget;
mod columns;
mod decimal;
mod json;
mod names;
mod protobuf;
mod scalar;

use std::sync::Arc;

use arrow::array::{Array, AsArray as _, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{cast, filter_record_batch};
use arrow::error::ArrowError;
use arrow_schema::{DataType, SchemaRef};

pub use avro::Writers;
pub use names::Names;
pub use protobuf::{Framing, Protobuf};

/// Most bytes of one row, unless said otherwise. A larger one is set aside.
pub const ROW_BYTES_MAX: usize = 16 << 20;
/// Most bytes of the rows of one call: offsets within columns of text are 32 bits, and so are those that the decoder keeps of it.
pub const BYTES_MAX: usize = 1 << 30;
/// Most bytes of a reason: so many bad rows as a call may have are less than Arrow's text takes.
const REASON_BYTES_MAX: usize = 512;
/// Most rows of one call.
pub const ROWS_MAX: usize = 1 << 20;

/// How a row is written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// A JSON object in UTF-8 per row. Bytes are hexadecimal text, times are text or numbers of the column's unit.
    Json,
    /// An Avro record in binary per row.
    Avro(Writers),
    /// A Protobuf message per row.
    Protobuf(Protobuf),
}

/// What is taken and what is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Text for a column of numbers, and numbers and booleans for one of text, are converted. Default: such a row is bad.
    pub lenient: bool,
    /// A row with a field that the schema has neither as a column nor as an alias is bad. Default: the field is ignored. Fields at the
    /// top only.
    pub refuse_unknown: bool,
    /// A larger row is bad. Default: [`ROW_BYTES_MAX`].
    pub row_bytes_max: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self { lenient: false, refuse_unknown: false, row_bytes_max: ROW_BYTES_MAX }
    }
}

/// Why there is no decoder, or why a call as a whole was refused. What is wrong with a single row is in [`Rejected`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The schema has a name twice.
    #[error("schema has two columns {0:?}; columns are found by their names")]
    ColumnTwice(String),
    /// An alias is another column's name or alias, or a column's own name.
    #[error("aliases name {0:?} twice; a column is one column's alias, and none of its own")]
    AliasTwice(String),
    /// Aliases of what the schema does not have.
    #[error("aliases are given for {0:?}, which the schema does not have; name one of its columns")]
    NoSuchColumn(String),
    /// More rows than a call may have.
    #[error("more than {ROWS_MAX} rows at once; decode them in several calls")]
    TooManyRows,
    /// More bytes than a call may have.
    #[error("the rows, or what the schema has of a fixed size for them, have more than {BYTES_MAX} bytes; decode them in several calls")]
    TooManyBytes,
    /// Rows in a column that has neither text nor bytes.
    #[error("rows are text or bytes, and the column has {0}; cast it to binary")]
    NotBytes(DataType),
    /// A binary format cannot have a column's type.
    #[error("column {column:?} is {data_type}, which rows in this format are not decoded to; declare another type")]
    Type {
        /// The column.
        column: String,
        /// Its type.
        data_type: DataType,
    },
    /// The schema that rows were written with is none.
    #[error("rows cannot be read: {0}")]
    Schema(String),
    /// What rows have for a column is nothing that it could hold.
    #[error("column {column:?} is {data_type}, and rows have {written} for it; declare another type")]
    Misfit {
        /// The column, or a field within it.
        column: String,
        /// Its type.
        data_type: DataType,
        /// What the writer's schema has.
        written: String,
    },
    /// Arrow cannot read columns of these types, or cannot put the rows together.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
}

/// What became of the rows of one call. Each is either kept or rejected.
#[derive(Debug)]
pub struct Decoded {
    /// The good rows, in their order.
    pub batch: RecordBatch,
    /// For each row of the batch, its index among those that were given: ascending.
    pub kept: Vec<usize>,
    /// The bad rows, by ascending index.
    pub rejected: Vec<Rejected>,
}

/// A bad row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Its index among the rows that were given.
    pub index: usize,
    /// What is wrong with it, in 512 bytes at most: it names what a row has, and a row may be long.
    pub reason: String,
}

impl Rejected {
    fn new(index: usize, mut reason: String) -> Self {
        if reason.len() > REASON_BYTES_MAX {
            reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX - 3));
            reason.push_str("...");
            reason.shrink_to_fit();
        }
        Self { index, reason }
    }
}

/// Makes rows of one format batches of one schema. It keeps nothing between calls, so that threads may share it.
///
/// ```
/// use std::sync::Arc;
/// use arrow_schema::{DataType, Field, Schema};
/// use bowstring::formats::{Format, Names, RowDecoder, Rules};
///
/// let schema = Arc::new(Schema::new(vec![Field::new("user_id", DataType::Int64, false)]));
/// let names = Names::new([("user_id".to_owned(), vec!["uid".to_owned()])]);
/// let decoder = RowDecoder::new(Format::Json, schema, &names, Rules::default())?;
/// let rows: [&[u8]; 3] = [br#"{"user_id": 1}"#, br#"{"uid": 2}"#, br#"{"uid": "?"}"#];
/// let decoded = decoder.decode(rows.into_iter().map(Some))?;
/// assert_eq!((decoded.batch.num_rows(), decoded.kept), (2, vec![0, 1]));
/// assert!(decoded.rejected[0].reason.contains("uid"));
/// # Ok::<(), bowstring::formats::FormatError>(())
/// ```
#[derive(Debug)]
pub struct RowDecoder {
    schema: SchemaRef,
    names: names::Places,
    rules: Rules,
    kind: Kind,
}

/// What reads the rows.
#[derive(Debug)]
enum Kind {
    Json,
    Avro(avro::Avro),
    Protobuf(protobuf::Messages),
}

impl RowDecoder {
    /// A decoder of rows in `format` to batches of `schema`.
    ///
    /// # Errors
    ///
    /// [`FormatError`] if a name is ambiguous, a column's type is none that rows in this format are decoded to, or what the rows are
    /// said to be written with is no schema or does not fit.
    pub fn new(format: Format, schema: SchemaRef, names: &Names, rules: Rules) -> Result<Self, FormatError> {
        let names = names.places(&schema)?;
        let kind = match format {
            Format::Json => {
                json::check(names.wide.fields())?;
                Kind::Json
            }
            Format::Protobuf(of) => Kind::Protobuf(protobuf::Messages::new(&of, &names.wide, rules)?),
            Format::Avro(writers) => Kind::Avro(avro::Avro::new(&writers, &names.wide, rules)?),
        };
        Ok(Self { schema, names, rules, kind })
    }

    /// The schema of all batches.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Decodes the rows; one that is None is bad.
    ///
    /// # Errors
    ///
    /// [`FormatError::TooManyRows`] and [`FormatError::TooManyBytes`] before anything is decoded; never for what is in a row. Bytes are
    /// those of the rows, and those that the schema's lists and bytes of a fixed size take in each row, whether it has them or not.
    pub fn decode<'a>(&self, rows: impl Iterator<Item = Option<&'a [u8]>>) -> Result<Decoded, FormatError> {
        let mut rejected = Vec::new();
        let mut good = Vec::new();
        let mut bytes = 0;
        for (index, row) in rows.enumerate() {
            if index == ROWS_MAX {
                return Err(FormatError::TooManyRows);
            }
            match self.bounded(row) {
                Ok(row) => {
                    bytes += row.len();
                    good.push((index, row));
                }
                Err(reason) => rejected.push(Rejected::new(index, reason)),
            }
            if bytes > BYTES_MAX {
                return Err(FormatError::TooManyBytes);
            }
        }
        if columns::fixed_bytes(self.names.wide.fields()).saturating_mul(good.len()) > BYTES_MAX {
            return Err(FormatError::TooManyBytes);
        }
        let read = |row: &[u8], into: &mut [columns::Column], budget: &budget::Budget| match &self.kind {
            Kind::Json => json::Reader::new(&self.names, self.rules, budget).read(row, into),
            Kind::Avro(avro) => avro.read(row, into, budget),
            Kind::Protobuf(of) => of.read(row, into, budget),
        };
        let (wide, mut kept) = columns::decode(&self.names.wide, &good, &mut rejected, read)?;
        let (batch, is_whole) = self.narrow(&wide, &kept, &mut rejected)?;
        let mut whole = is_whole.values().iter();
        kept.retain(|_| whole.next().unwrap_or(false));
        rejected.sort_by_key(|row| row.index);
        Ok(Decoded { batch, kept, rejected })
    }

    /// Decodes a column of text or bytes, each value a row; one that is null is bad.
    ///
    /// # Errors
    ///
    /// [`FormatError::NotBytes`], and those of [`decode`](Self::decode).
    pub fn decode_column(&self, column: &dyn Array) -> Result<Decoded, FormatError> {
        // Text is looked at as the bytes that it has: whoever made the column may not have checked that it is UTF-8.
        match column.data_type() {
            DataType::Utf8 | DataType::Binary => self.decode(cast(column, &DataType::Binary)?.as_binary::<i32>().iter()),
            DataType::LargeUtf8 | DataType::LargeBinary => self.decode(cast(column, &DataType::LargeBinary)?.as_binary::<i64>().iter()),
            DataType::Utf8View | DataType::BinaryView => self.decode(cast(column, &DataType::BinaryView)?.as_binary_view().iter()),
            other => Err(FormatError::NotBytes(other.clone())),
        }
    }

    fn bounded<'a>(&self, row: Option<&'a [u8]>) -> Result<&'a [u8], String> {
        let row = row.ok_or("the row is null")?;
        if row.len() > self.rules.row_bytes_max {
            return Err(format!("the row has {} bytes; at most {} are taken", row.len(), self.rules.row_bytes_max));
        }
        Ok(row)
    }

    /// Of a batch with a column per name, one with the declared columns, without the rows that lack one.
    fn narrow(
        &self,
        wide: &RecordBatch,
        indices: &[usize],
        rejected: &mut Vec<Rejected>,
    ) -> Result<(RecordBatch, BooleanArray), ArrowError> {
        let columns = self.names.merged(wide)?;
        let mut lacks: Vec<Option<&str>> = vec![None; wide.num_rows()];
        for (field, column) in self.schema.fields().iter().zip(&columns).filter(|(field, _)| !field.is_nullable()) {
            for (_, lack) in lacks.iter_mut().enumerate().filter(|(row, _)| column.is_null(*row)) {
                lack.get_or_insert(field.name());
            }
        }
        let is_whole: BooleanArray = lacks.iter().map(|lack| Some(lack.is_none())).collect();
        let missing = indices.iter().zip(&lacks).filter_map(|(index, lack)| Some((*index, (*lack)?)));
        rejected.extend(missing.map(|(index, name)| {
            Rejected::new(index, format!("column {name:?} is missing or null, and the schema says that it is not nullable"))
        }));
        // The rows that go have nulls where the schema has none, so that they go first.
        let options = RecordBatchOptions::new().with_row_count(Some(wide.num_rows()));
        let loose = Arc::new(names::loose(&self.schema));
        let filtered = filter_record_batch(&RecordBatch::try_new_with_options(loose, columns, &options)?, &is_whole)?;
        let options = RecordBatchOptions::new().with_row_count(Some(filtered.num_rows()));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), filtered.columns().to_vec(), &options)?;
        Ok((batch, is_whole))
    }
}

#[cfg(test)]
mod tests;
