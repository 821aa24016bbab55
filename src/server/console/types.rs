//! Arrow's types in words that fit into a heading, and a schema as its fields.

use arrow_schema::{DataType, Field, IntervalUnit, SchemaRef, TimeUnit};
use serde_json::{Value, json};

/// Fields of a schema that are told: of those that are left out their number is.
const FIELDS_MAX: usize = 2_000;
/// Longest name of a type: a structure of a thousand fields is told by its beginning.
const NAME_BYTES_MAX: usize = 400;

/// A schema's fields, at most 2,000.
pub(super) fn schema(schema: &SchemaRef) -> Value {
    let fields = schema.fields().iter().take(FIELDS_MAX).map(|field| column(field));
    json!({ "fields": fields.collect::<Vec<_>>(), "fields_total": schema.fields().len() })
}

/// A field: its name, its type, and whether it may be null.
pub(super) fn column(field: &Field) -> Value {
    json!({ "name": field.name(), "type": name(field.data_type()), "nullable": field.is_nullable(), "is_number": field.data_type().is_numeric() })
}

fn name(of: &DataType) -> String {
    let mut text = String::new();
    write(of, &mut text);
    if text.len() > NAME_BYTES_MAX {
        text.truncate(text.floor_char_boundary(NAME_BYTES_MAX));
        text.push('…');
    }
    text
}

fn write(of: &DataType, text: &mut String) {
    if text.len() > NAME_BYTES_MAX {
        return;
    }
    let mut inner = |begin: &str, items: &mut dyn Iterator<Item = (Option<&str>, &DataType)>| {
        text.push_str(begin);
        text.push('<');
        for (index, (name, of)) in items.enumerate() {
            text.push_str(if index > 0 { ", " } else { "" });
            if let Some(name) = name {
                text.push_str(name);
                text.push_str(": ");
            }
            write(of, text);
        }
        text.push('>');
    };
    match of {
        DataType::List(item) => inner("list", &mut [(None, item.data_type())].into_iter()),
        DataType::LargeList(item) => inner("large_list", &mut [(None, item.data_type())].into_iter()),
        DataType::ListView(item) => inner("list_view", &mut [(None, item.data_type())].into_iter()),
        DataType::LargeListView(item) => inner("large_list_view", &mut [(None, item.data_type())].into_iter()),
        DataType::FixedSizeList(item, size) => inner(&format!("list[{size}]"), &mut [(None, item.data_type())].into_iter()),
        DataType::Struct(fields) => inner("struct", &mut fields.iter().map(|field| (Some(field.name().as_str()), field.data_type()))),
        DataType::Union(fields, _) => inner("union", &mut fields.iter().map(|(_, field)| (Some(field.name().as_str()), field.data_type()))),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => inner("map", &mut fields.iter().map(|field| (None, field.data_type()))),
            other => inner("map", &mut [(None, other)].into_iter()),
        },
        DataType::Dictionary(keys, values) => inner("dictionary", &mut [(None, &**keys), (None, &**values)].into_iter()),
        DataType::RunEndEncoded(ends, values) => inner("run_end", &mut [(None, ends.data_type()), (None, values.data_type())].into_iter()),
        DataType::Timestamp(unit, None) => text.push_str(&format!("timestamp[{}]", of_time(*unit))),
        DataType::Timestamp(unit, Some(zone)) => text.push_str(&format!("timestamp[{}, {zone}]", of_time(*unit))),
        DataType::Time32(unit) | DataType::Time64(unit) => text.push_str(&format!("time[{}]", of_time(*unit))),
        DataType::Duration(unit) => text.push_str(&format!("duration[{}]", of_time(*unit))),
        DataType::Interval(unit) => text.push_str(match unit {
            IntervalUnit::YearMonth => "interval[months]",
            IntervalUnit::DayTime => "interval[days, ms]",
            IntervalUnit::MonthDayNano => "interval[months, days, ns]",
        }),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => text.push_str(&format!("decimal({precision}, {scale})")),
        DataType::FixedSizeBinary(size) => text.push_str(&format!("binary[{size}]")),
        DataType::Utf8 => text.push_str("string"),
        DataType::LargeUtf8 => text.push_str("large_string"),
        DataType::Utf8View => text.push_str("string_view"),
        DataType::Boolean => text.push_str("bool"),
        other => text.push_str(&format!("{other:?}").to_lowercase()),
    }
}

fn of_time(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Second => "s",
        TimeUnit::Millisecond => "ms",
        TimeUnit::Microsecond => "us",
        TimeUnit::Nanosecond => "ns",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_told_in_words() {
        let item = |of: DataType| std::sync::Arc::new(Field::new("item", of, true));
        for (of, expected) in [
            (DataType::Int64, "int64"),
            (DataType::Utf8, "string"),
            (DataType::Timestamp(TimeUnit::Microsecond, Some("Europe/Berlin".into())), "timestamp[us, Europe/Berlin]"),
            (DataType::List(item(DataType::Struct(vec![Field::new("a", DataType::Date32, true)].into()))), "list<struct<a: date32>>"),
            (DataType::Decimal128(12, 2), "decimal(12, 2)"),
            (DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8)), "dictionary<int8, string>"),
            (DataType::FixedSizeList(item(DataType::Float32), 3), "list[3]<float32>"),
        ] {
            assert_eq!(name(&of), expected);
        }
        let wide = DataType::Struct((0..1000).map(|number| Field::new(format!("field {number}"), DataType::Int8, true)).collect());
        assert!(name(&wide).len() < 450 && name(&wide).ends_with('…'));
    }
}
