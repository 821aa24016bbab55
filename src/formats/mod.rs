//! Rows of other formats become batches of a declared schema: bad rows are set aside with the reason, the rest goes on.

mod json;
mod names;
mod shape;

use std::sync::Arc;

use arrow::array::{Array, AsArray as _, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{cast, concat_batches, filter_record_batch};
use arrow::error::ArrowError;
use arrow_schema::{DataType, SchemaRef};

pub use names::Names;

/// Most bytes of one row, unless said otherwise. A larger one is set aside.
pub const ROW_BYTES_MAX: usize = 16 << 20;
/// Most bytes of the rows of one call: offsets within columns of text are 32 bits, and so are those that the decoder keeps of it.
pub const BYTES_MAX: usize = 1 << 30;
/// Most rows of one call.
pub const ROWS_MAX: usize = 1 << 20;

/// How a row is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// A JSON object in UTF-8 per row. Bytes are hexadecimal text, times are text or numbers of the column's unit.
    Json,
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
    #[error("the rows have more than {BYTES_MAX} bytes; decode them in several calls")]
    TooManyBytes,
    /// Rows in a column that has neither text nor bytes.
    #[error("rows are text or bytes, and the column has {0}; cast it to binary")]
    NotBytes(DataType),
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
    /// What is wrong with it.
    pub reason: String,
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
}

impl RowDecoder {
    /// A decoder of rows in `format` to batches of `schema`.
    ///
    /// # Errors
    ///
    /// [`FormatError`] if a name is ambiguous, or Arrow cannot read a column's type from this format.
    pub fn new(format: Format, schema: SchemaRef, names: &Names, rules: Rules) -> Result<Self, FormatError> {
        let names = names.places(&schema)?;
        match format {
            Format::Json => json::check(&names.wide)?,
        }
        Ok(Self { schema, names, rules })
    }

    /// The schema of all batches.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Decodes the rows; one that is None is bad.
    ///
    /// # Errors
    ///
    /// [`FormatError::TooManyRows`] and [`FormatError::TooManyBytes`] before anything is decoded; never for what is in a row.
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
                Err(reason) => rejected.push(Rejected { index, reason }),
            }
            if bytes > BYTES_MAX {
                return Err(FormatError::TooManyBytes);
            }
        }
        good.retain(|(index, row)| match shape::check(row, &self.names, self.rules) {
            Ok(()) => true,
            Err(reason) => {
                rejected.push(Rejected { index: *index, reason });
                false
            }
        });
        self.assemble(&good, rejected)
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

    fn assemble(&self, good: &[(usize, &[u8])], mut rejected: Vec<Rejected>) -> Result<Decoded, FormatError> {
        let mut batches = Vec::new();
        let mut kept = Vec::with_capacity(good.len());
        for (wide, indices) in json::decode(&self.names.wide, good, self.rules, &mut rejected)? {
            let (batch, is_whole) = self.narrow(&wide, &indices, &mut rejected)?;
            kept.extend(indices.iter().zip(is_whole.values().iter()).filter(|(_, is_whole)| *is_whole).map(|(index, _)| *index));
            batches.push(batch);
        }
        rejected.sort_by_key(|row| row.index);
        Ok(Decoded { batch: concat_batches(&self.schema, &batches)?, kept, rejected })
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
        rejected.extend(missing.map(|(index, name)| Rejected {
            index,
            reason: format!("column {name:?} is missing or null, and the schema says that it is not nullable"),
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
