//! A projection: batches of one version of a stream's schema, given in the schema that a consumer reads. What is to be done with
//! each column is found once per version.

#[cfg(test)]
mod asked_tests;
mod convert;
mod items;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::is_not_null;
use arrow::compute::kernels::zip::zip;
use arrow_schema::{FieldRef, Schema, SchemaRef};

use self::convert::{Conversion, conversion};
use super::Dialect;

/// How batches of one schema become batches of another.
#[derive(Debug)]
pub(super) struct Projection {
    pinned: SchemaRef,
    /// For each column of the pinned schema those that it comes from; none: it is null. Of several, the first that is not null.
    columns: Vec<Vec<(usize, Conversion)>>,
}

impl Projection {
    /// None if the batches have the pinned schema already.
    ///
    /// # Errors
    /// Names each column that cannot be had from such batches.
    pub(super) fn new(batches: &Schema, pinned: &SchemaRef, dialect: &Dialect) -> Result<Option<Self>, String> {
        if batches == &**pinned {
            return Ok(None);
        }
        let known: HashMap<&str, (usize, &FieldRef)> =
            batches.fields().iter().enumerate().map(|(index, field)| (field.name().as_str(), (index, field))).collect();
        let mut refusals = Vec::new();
        let mut columns = Vec::with_capacity(pinned.fields().len());
        for field in pinned.fields() {
            let names = dialect.names_of(field.name());
            let sources: Vec<_> = names.filter_map(|name| known.get(name).copied()).collect();
            if sources.is_empty() && !field.is_nullable() {
                refusals.push(format!("column {:?} may not be null, and the batches lack it", field.name()));
            }
            let mut conversions = Vec::with_capacity(sources.len());
            for (index, source) in sources {
                match conversion(field.name(), source.data_type(), field.data_type(), dialect) {
                    Ok(conversion) => conversions.push((index, conversion)),
                    Err(refusal) => refusals.push(refusal),
                }
            }
            columns.push(conversions);
        }
        if refusals.is_empty() { Ok(Some(Self { pinned: pinned.clone(), columns })) } else { Err(refusals.join("; ")) }
    }

    /// The batch in the pinned schema.
    ///
    /// # Errors
    /// Names a column that has a value which the pinned schema cannot hold, and that value.
    pub(super) fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch, String> {
        let rows = batch.num_rows();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for (field, sources) in self.pinned.fields().iter().zip(&self.columns) {
            let mut converted =
                sources.iter().map(|(index, conversion)| conversion.apply(field.name(), batch.column(*index), field.data_type()));
            let column = match converted.next() {
                None => new_null_array(field.data_type(), rows),
                Some(first) => converted.try_fold(first?, |known, next| first_of(&known, &next?))?,
            };
            if !field.is_nullable() && column.is_nullable() && column.logical_null_count() > 0 {
                return Err(format!("column {:?} may not be null, and a value of it is", field.name()));
            }
            columns.push(column);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.pinned.clone(), columns, &options).map_err(|error| error.to_string())
    }
}

/// Each row's value of the first, or where that is null of the second.
fn first_of(first: &ArrayRef, second: &ArrayRef) -> Result<ArrayRef, String> {
    if first.logical_null_count() == 0 {
        return Ok(first.clone());
    }
    is_not_null(first).and_then(|is_there| zip(&is_there, first, second)).map_err(|error| error.to_string())
}

/// What is done with the batches that come, of the version that came last.
#[derive(Debug, Clone, Default)]
pub(super) enum Shape {
    /// They are handed out as they are.
    #[default]
    AsTheyAre,
    Projected(Arc<Projection>),
    /// They cannot be had in the pinned schema.
    Refused(Arc<str>),
}

impl Shape {
    pub(super) fn of(batches: &Schema, pinned: &SchemaRef, dialect: &Dialect) -> Self {
        match Projection::new(batches, pinned, dialect) {
            Ok(None) => Self::AsTheyAre,
            Ok(Some(projection)) => Self::Projected(Arc::new(projection)),
            Err(refusal) => Self::Refused(refusal.into()),
        }
    }

    pub(super) fn is_as_it_is(&self) -> bool {
        matches!(self, Self::AsTheyAre)
    }

    /// The schema that batches get, if it is not their own.
    pub(super) fn pinned(&self) -> Option<&SchemaRef> {
        match self {
            Self::Projected(projection) => Some(&projection.pinned),
            Self::AsTheyAre | Self::Refused(_) => None,
        }
    }

    /// The batch in the pinned schema.
    ///
    /// # Errors
    /// Why it cannot be had in it.
    pub(super) fn apply(&self, batch: RecordBatch) -> Result<RecordBatch, String> {
        match self {
            Self::AsTheyAre => Ok(batch),
            Self::Projected(projection) => projection.apply(&batch),
            Self::Refused(refusal) => Err(refusal.as_ref().to_owned()),
        }
    }
}
