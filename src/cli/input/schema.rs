//! Inferred schemas, mended.

use std::sync::Arc;

use ::arrow::datatypes::{DataType, Field, FieldRef, Fields};

/// Text where nothing but nulls was seen: later rows may have a value, which a column of type null could not take.
pub(super) fn text_for_null(fields: &Fields) -> Fields {
    fields.iter().map(text_for_null_field).collect()
}

fn text_for_null_field(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Null => DataType::Utf8,
        DataType::Struct(fields) => DataType::Struct(text_for_null(fields)),
        DataType::List(item) => DataType::List(text_for_null_field(item)),
        other => other.clone(),
    };
    Arc::new(Field::new(field.name(), data_type, field.is_nullable()))
}
