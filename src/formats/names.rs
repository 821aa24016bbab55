//! The names that a column has in rows: its own, and its aliases.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, RecordBatch};
use arrow::compute::{is_not_null, kernels::zip::zip};
use arrow::error::ArrowError;
use arrow_schema::{Field, Schema, SchemaRef};

use super::FormatError;

/// Of a column of the declared schema, other names that it has in rows. Where a row has several of them, its value is the first that is
/// not null. Columns at the top only.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    aliases: BTreeMap<String, Vec<String>>,
}

impl Names {
    /// Columns with their aliases.
    pub fn new(aliases: impl IntoIterator<Item = (String, Vec<String>)>) -> Self {
        Self { aliases: aliases.into_iter().collect() }
    }

    /// Where each name is found.
    pub(super) fn places(&self, schema: &Schema) -> Result<Places, FormatError> {
        let mut names = HashSet::new();
        if let Some(twice) = schema.fields().iter().find(|field| !names.insert(field.name())) {
            return Err(FormatError::ColumnTwice(twice.name().clone()));
        }
        if let Some(none) = self.aliases.keys().find(|name| !names.contains(name)) {
            return Err(FormatError::NoSuchColumn(none.clone()));
        }
        if let Some(twice) = self.aliases.values().flatten().find(|name| !names.insert(name)) {
            return Err(FormatError::AliasTwice(twice.clone()));
        }
        let mut wide = Vec::new();
        let mut columns = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            let others = self.aliases.get(field.name()).into_iter().flatten();
            let start = wide.len();
            wide.extend([field.name()].into_iter().chain(others).map(|name| nullable(field).with_name(name)));
            columns.push(start..wide.len());
        }
        let by_name = wide.iter().enumerate().map(|(place, field)| (field.name().clone(), place)).collect();
        Ok(Places { wide: Arc::new(Schema::new(wide)), columns, by_name })
    }
}

/// The declared columns, with one more per alias.
#[derive(Debug)]
pub(super) struct Places {
    /// All names as columns that may be null: whether a value is missing is known only when the aliases are looked at.
    pub(super) wide: SchemaRef,
    /// Of each declared column, its names' places in `wide`, its own first.
    columns: Vec<std::ops::Range<usize>>,
    /// Each name's place in `wide`.
    pub(super) by_name: HashMap<String, usize>,
}

impl Places {
    /// A value per declared column: the first of its names that is not null.
    pub(super) fn merged(&self, wide: &RecordBatch) -> Result<Vec<ArrayRef>, ArrowError> {
        self.columns
            .iter()
            .map(|places| {
                let mut merged = wide.column(places.start).clone();
                for other in places.clone().skip(1).map(|place| wide.column(place)) {
                    if merged.null_count() > 0 {
                        merged = zip(&is_not_null(&merged)?, &merged, other)?;
                    }
                }
                Ok(merged)
            })
            .collect()
    }
}

/// The declared schema before rows that lack a column have gone.
pub(super) fn loose(schema: &Schema) -> Schema {
    Schema::new(schema.fields().iter().map(|field| nullable(field)).collect::<Vec<_>>())
}

fn nullable(field: &Field) -> Field {
    field.clone().with_nullable(true)
}
