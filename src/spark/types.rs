//! Arrow types and Spark types: what becomes what. docs/types.md has the tables.
//!
//! A column is named by its path: `s.x` is a struct's member, `a[]` an array's elements, `m.key` and `m.value` a map's.

use std::collections::HashMap;

use arrow_schema::{DataType, Field, FieldRef, Fields, IntervalUnit, Schema, TimeUnit};
use serde_json::{Value, json};

use super::names::{list, quoted, twice};
use crate::client::Error;

/// Spark's largest precision of a decimal.
const PRECISION_MAX: u8 = 38;
/// Where Arrow has the metadata that Spark has given a column, as JSON.
const METADATA_KEY: &str = "SPARK::metadata::json";
/// What Spark keeps in a column's metadata about how its text is compared: it is a part of the type, which Arrow does not have.
const COLLATIONS_KEY: &str = "__COLLATIONS";
/// Spark's default precision of a time of day: microseconds.
const TIME: &str = "time(6)";
const YEAR_MONTH: &str = "interval year to month";

/// Whether intervals of years and months go through: the JVM has them as Arrow, Python has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intervals {
    /// They are refused.
    Refused,
    /// They are Arrow's interval of months.
    Taken,
}

/// The Spark schema, in the JSON of Spark's own `StructType.json`, that a stream of this Arrow schema is read with.
///
/// # Errors
/// `invalid_argument` that names the column which Spark has no type for, or columns of one name.
pub fn to_spark(schema: &Schema, intervals: Intervals) -> Result<String, Error> {
    let twice = twice(schema.fields().iter().map(|field| field.name().as_str()));
    if !twice.is_empty() {
        let twice = list(twice);
        return Err(Error::invalid(format!(
            "Spark needs columns of different names, but the stream has {twice} more than once; rename them"
        )));
    }
    Ok(spark_struct(schema.fields(), None, intervals)?.to_string())
}

/// The Arrow schema that Spark reads and writes a `DataFrame` of this schema with, instants in UTC. What Spark keeps as a column's
/// metadata is JSON in the field's.
///
/// # Errors
/// `invalid_argument` that names the column which has no type in Arrow, or columns of one name; or says what is wrong with the JSON.
pub fn to_arrow(spark_schema: &str, intervals: Intervals) -> Result<Schema, Error> {
    let schema: Value = serde_json::from_str(spark_schema).map_err(|error| malformed(&error.to_string()))?;
    if schema["type"] != "struct" {
        return Err(malformed("its type is not \"struct\""));
    }
    let fields = arrow_fields(&schema, None, intervals)?;
    let twice = twice(fields.iter().map(|field| field.name().as_str()));
    if !twice.is_empty() {
        let twice = list(twice);
        return Err(Error::invalid(format!("a stream needs columns of different names, but the DataFrame has {twice} more than once")));
    }
    Ok(Schema::new(fields))
}

fn below(path: Option<&str>, name: &str) -> String {
    path.map_or_else(|| name.to_owned(), |path| format!("{path}.{name}"))
}

fn spark_struct(fields: &Fields, path: Option<&str>, intervals: Intervals) -> Result<Value, Error> {
    let member = |field: &FieldRef| {
        let of = spark_type(field.data_type(), &below(path, field.name()), intervals)?;
        Ok(json!({"name": field.name(), "type": of, "nullable": field.is_nullable(), "metadata": {}}))
    };
    let fields = fields.iter().map(member).collect::<Result<Vec<_>, Error>>()?;
    Ok(json!({"type": "struct", "fields": fields}))
}

fn spark_type(of: &DataType, path: &str, intervals: Intervals) -> Result<Value, Error> {
    Ok(match of {
        DataType::Dictionary(_, values) => spark_type(values, path, intervals)?,
        DataType::RunEndEncoded(_, values) => spark_type(values.data_type(), path, intervals)?,
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => {
            let element = spark_type(item.data_type(), &format!("{path}[]"), intervals)?;
            json!({"type": "array", "elementType": element, "containsNull": item.is_nullable()})
        }
        DataType::Map(entries, _) => spark_map(of, entries, path, intervals)?,
        DataType::Struct(fields) if is_variant(fields) => "variant".into(),
        DataType::Struct(fields) => spark_struct(fields, Some(path), intervals)?,
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => spark_decimal(of, *precision, *scale, path)?.into(),
        DataType::Interval(IntervalUnit::YearMonth) if intervals == Intervals::Taken => YEAR_MONTH.into(),
        _ => simple_spark_type(of).ok_or_else(|| refusal(of, path))?.into(),
    })
}

/// Those without parameters; none: Spark has none.
fn simple_spark_type(of: &DataType) -> Option<&'static str> {
    Some(match of {
        DataType::Null => "void",
        DataType::Boolean => "boolean",
        DataType::Int8 => "byte",
        DataType::Int16 | DataType::UInt8 => "short",
        DataType::Int32 | DataType::UInt16 => "integer",
        DataType::Int64 | DataType::UInt32 => "long",
        DataType::UInt64 => "decimal(20,0)",
        DataType::Float16 | DataType::Float32 => "float",
        DataType::Float64 => "double",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "binary",
        DataType::Date32 | DataType::Date64 => "date",
        DataType::Time32(_) | DataType::Time64(_) => TIME,
        DataType::Timestamp(_, None) => "timestamp_ntz",
        DataType::Timestamp(_, Some(_)) => "timestamp",
        DataType::Duration(_) => "interval day to second",
        _ => return None,
    })
}

fn spark_map(of: &DataType, entries: &FieldRef, path: &str, intervals: Intervals) -> Result<Value, Error> {
    let DataType::Struct(fields) = entries.data_type() else { return Err(refusal(of, path)) };
    let [key, value] = &fields[..] else { return Err(refusal(of, path)) };
    Ok(json!({
        "type": "map",
        "keyType": spark_type(key.data_type(), &below(Some(path), "key"), intervals)?,
        "valueType": spark_type(value.data_type(), &below(Some(path), "value"), intervals)?,
        "valueContainsNull": value.is_nullable(),
    }))
}

/// Spark knows no negative scale: 12e3 as decimal(2, -3) becomes 12000 as decimal(5, 0).
fn spark_decimal(of: &DataType, precision: u8, scale: i8, path: &str) -> Result<String, Error> {
    let (digits, scale) = match u8::try_from(scale) {
        Ok(scale) => (precision.max(scale), scale),
        Err(_) => (precision.saturating_add(scale.unsigned_abs()), 0),
    };
    if digits > PRECISION_MAX {
        let (column, of) = (quoted(path), arrow_name(of));
        return Err(Error::invalid(format!(
            "column {column} is {of}, but Spark's decimals have at most {PRECISION_MAX} digits; cast it before it is appended"
        )));
    }
    Ok(format!("decimal({digits},{scale})"))
}

/// As Spark itself recognizes one.
fn is_variant(fields: &Fields) -> bool {
    let is_marked = |field: &FieldRef| field.name() == "metadata" && field.metadata().get("variant").is_some_and(|is| is == "true");
    fields.iter().any(is_marked) && fields.iter().any(|field| field.name() == "value")
}

fn refusal(of: &DataType, path: &str) -> Error {
    let hint = match of {
        DataType::Interval(IntervalUnit::YearMonth | IntervalUnit::MonthDayNano) => "append months as an integer and times as a duration",
        _ => "cast or drop it before it is appended",
    };
    Error::invalid(format!("column {} is {}, which Spark cannot read from Arrow; {hint}", quoted(path), arrow_name(of)))
}

/// Of a type that is refused, as Arrow's other implementations call it.
fn arrow_name(of: &DataType) -> String {
    match of {
        DataType::Interval(IntervalUnit::YearMonth) => "month_interval".to_owned(),
        DataType::Interval(IntervalUnit::DayTime) => "day_time_interval".to_owned(),
        DataType::Interval(IntervalUnit::MonthDayNano) => "month_day_nano_interval".to_owned(),
        DataType::Union(_, arrow_schema::UnionMode::Dense) => "dense_union".to_owned(),
        DataType::Union(_, arrow_schema::UnionMode::Sparse) => "sparse_union".to_owned(),
        of => of.to_string().to_lowercase(),
    }
}

fn malformed(what: &str) -> Error {
    Error::invalid(format!("this is not the JSON of a Spark schema: {what}; give what StructType.json returns"))
}

fn part<'a>(of: &'a Value, name: &str, path: Option<&str>) -> Result<&'a Value, Error> {
    of.get(name).ok_or_else(|| {
        let place = path.map_or_else(|| "it".to_owned(), |path| format!("column {}", quoted(path)));
        malformed(&format!("{place} has no {name:?}"))
    })
}

fn truth(of: &Value, name: &str, path: &str) -> Result<bool, Error> {
    part(of, name, Some(path))?
        .as_bool()
        .ok_or_else(|| malformed(&format!("{name:?} of column {} is neither true nor false", quoted(path))))
}

fn arrow_fields(of: &Value, path: Option<&str>, intervals: Intervals) -> Result<Vec<Field>, Error> {
    let fields = part(of, "fields", path)?.as_array().ok_or_else(|| malformed("\"fields\" is no array"))?;
    fields.iter().map(|field| arrow_field(field, path, intervals)).collect()
}

fn arrow_field(of: &Value, path: Option<&str>, intervals: Intervals) -> Result<Field, Error> {
    let name = part(of, "name", path)?.as_str().ok_or_else(|| malformed("a \"name\" is no string"))?;
    let path = below(path, name);
    let data_type = arrow_type(part(of, "type", Some(&path))?, &path, intervals)?;
    let is_nullable = of.get("nullable").is_none() || truth(of, "nullable", &path)?;
    let field = Field::new(name, data_type, is_nullable);
    Ok(match of.get("metadata").and_then(Value::as_object) {
        Some(metadata) if metadata.keys().any(|key| key != COLLATIONS_KEY) => {
            let mut kept = metadata.clone();
            kept.remove(COLLATIONS_KEY);
            field.with_metadata(HashMap::from([(METADATA_KEY.to_owned(), Value::Object(kept).to_string())]))
        }
        _ => field,
    })
}

fn arrow_type(of: &Value, path: &str, intervals: Intervals) -> Result<DataType, Error> {
    if let Some(name) = of.as_str() {
        return simple_arrow_type(name, path, intervals);
    }
    match part(of, "type", Some(path))?.as_str() {
        Some("struct") => Ok(DataType::Struct(arrow_fields(of, Some(path), intervals)?.into())),
        Some("array") => {
            let element = arrow_type(part(of, "elementType", Some(path))?, &format!("{path}[]"), intervals)?;
            Ok(DataType::List(Field::new("element", element, truth(of, "containsNull", path)?).into()))
        }
        Some("map") => {
            let key = arrow_type(part(of, "keyType", Some(path))?, &below(Some(path), "key"), intervals)?;
            let value = arrow_type(part(of, "valueType", Some(path))?, &below(Some(path), "value"), intervals)?;
            let pair = vec![Field::new("key", key, false), Field::new("value", value, truth(of, "valueContainsNull", path)?)];
            Ok(DataType::Map(Field::new("entries", DataType::Struct(pair.into()), false).into(), false))
        }
        // Spark hands over what its values are stored as.
        Some("udt") => match of.get("sqlType") {
            Some(stored) => arrow_type(stored, path, intervals),
            None => {
                let class = of.get("class").or_else(|| of.get("pyClass")).and_then(Value::as_str).unwrap_or("a user-defined type");
                Err(unwritable(class, path, "write it as a type of Spark's own"))
            }
        },
        Some(other) => Err(unwritable(other, path, "cast it to another type")),
        None => Err(malformed(&format!("the type of column {} is no string", quoted(path)))),
    }
}

/// Of those that are a name in JSON.
fn simple_arrow_type(name: &str, path: &str, intervals: Intervals) -> Result<DataType, Error> {
    Ok(match name {
        "void" => DataType::Null,
        "boolean" => DataType::Boolean,
        "byte" => DataType::Int8,
        "short" => DataType::Int16,
        "integer" => DataType::Int32,
        "long" => DataType::Int64,
        "float" => DataType::Float32,
        "double" => DataType::Float64,
        "decimal" => DataType::Decimal128(10, 0),
        "string" => DataType::Utf8,
        "binary" => DataType::Binary,
        "date" => DataType::Date32,
        "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        "timestamp_ntz" => DataType::Timestamp(TimeUnit::Microsecond, None),
        "variant" => variant(),
        "interval year" | "interval month" | YEAR_MONTH if intervals == Intervals::Taken => DataType::Interval(IntervalUnit::YearMonth),
        "interval" | "interval year" | "interval month" | YEAR_MONTH => {
            return Err(unwritable(name, path, "write months as an integer and times as an interval day to second"));
        }
        _ if name.starts_with("interval ") => DataType::Duration(TimeUnit::Microsecond),
        _ if name.starts_with("string collate ") => DataType::Utf8,
        _ => parametric(name).ok_or_else(|| unwritable(name, path, "cast it to another type"))?,
    })
}

fn parametric(name: &str) -> Option<DataType> {
    let (of, rest) = name.split_once('(')?;
    let parameters: Vec<_> = rest.strip_suffix(')')?.split(',').map(str::trim).collect();
    match (of, &parameters[..]) {
        ("decimal", [precision, scale]) => {
            let precision = precision.parse().ok().filter(|precision| (1..=PRECISION_MAX).contains(precision))?;
            Some(DataType::Decimal128(precision, scale.parse().ok()?))
        }
        ("time", [_]) => Some(DataType::Time64(TimeUnit::Nanosecond)),
        ("varchar" | "char", [_]) => Some(DataType::Utf8),
        ("geometry", [crs]) => Some(shape("geometry", srid(crs)?)),
        // The second says how its edges run: Spark has one way. Of those systems one is of a globe.
        ("geography", [crs] | [crs, _]) => Some(shape("geography", srid(crs).filter(|srid| [-1, 4326].contains(srid))?)),
        _ => None,
    }
}

/// As Spark hands one over, and recognizes it.
fn variant() -> DataType {
    let marked = Field::new("metadata", DataType::Binary, false).with_metadata(HashMap::from([("variant".to_owned(), "true".to_owned())]));
    DataType::Struct(Fields::from(vec![Field::new("value", DataType::Binary, false), marked]))
}

/// A geometry or geography, as Spark hands it over.
fn shape(of: &str, srid: i32) -> DataType {
    let metadata = HashMap::from([(of.to_owned(), "true".to_owned()), ("srid".to_owned(), srid.to_string())]);
    let bytes = Field::new("wkb", DataType::Binary, false).with_metadata(metadata);
    DataType::Struct(Fields::from(vec![Field::new("srid", DataType::Int32, false), bytes]))
}

/// The systems of coordinates that Spark has.
fn srid(crs: &str) -> Option<i32> {
    Some(match crs {
        "OGC:CRS84" => 4326,
        "EPSG:3857" => 3857,
        "SRID:0" => 0,
        _ if crs.eq_ignore_ascii_case("SRID:ANY") => -1,
        _ => return None,
    })
}

fn unwritable(of: &str, path: &str, hint: &str) -> Error {
    Error::invalid(format!("column {} is {of}, which Spark cannot hand over as Arrow; {hint}", quoted(path)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Code;

    fn field(name: &str, of: DataType) -> Field {
        Field::new(name, of, true)
    }

    fn list_of(of: DataType) -> DataType {
        DataType::List(field("element", of).into())
    }

    fn map_of(key: DataType, value: Field) -> DataType {
        let pair = Fields::from(vec![Field::new("key", key, false), value]);
        DataType::Map(Field::new("entries", DataType::Struct(pair), false).into(), false)
    }

    fn struct_of(fields: Vec<Field>) -> DataType {
        DataType::Struct(fields.into())
    }

    fn micros(zone: Option<&str>) -> DataType {
        DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into))
    }

    /// A schema of one column `c`.
    fn json_of(of: &Value) -> String {
        json!({"type": "struct", "fields": [{"name": "c", "type": of, "nullable": true, "metadata": {}}]}).to_string()
    }

    fn spark_of(of: DataType, intervals: Intervals) -> Result<Value, String> {
        let text = to_spark(&Schema::new(vec![field("c", of)]), intervals).map_err(|error| {
            assert_eq!(error.code(), Code::InvalidArgument);
            error.to_string()
        })?;
        let mut schema: Value = serde_json::from_str(&text).expect("JSON");
        Ok(schema["fields"][0]["type"].take())
    }

    fn arrow_of(of: &Value, intervals: Intervals) -> Result<DataType, String> {
        let schema = to_arrow(&json_of(of), intervals).map_err(|error| {
            assert_eq!(error.code(), Code::InvalidArgument);
            error.to_string()
        })?;
        Ok(schema.field(0).data_type().clone())
    }

    #[test]
    fn a_spark_type_becomes_its_arrow_type_and_comes_back() {
        let nested = list_of(struct_of(vec![
            field("m", map_of(DataType::Utf8, field("value", list_of(DataType::Decimal128(5, 1))))),
            Field::new("t", micros(Some("UTC")), false),
        ]));
        let table = [
            (json!("void"), DataType::Null),
            (json!("boolean"), DataType::Boolean),
            (json!("byte"), DataType::Int8),
            (json!("short"), DataType::Int16),
            (json!("integer"), DataType::Int32),
            (json!("long"), DataType::Int64),
            (json!("float"), DataType::Float32),
            (json!("double"), DataType::Float64),
            (json!("decimal(10,2)"), DataType::Decimal128(10, 2)),
            (json!("decimal(38,18)"), DataType::Decimal128(38, 18)),
            (json!("string"), DataType::Utf8),
            (json!("binary"), DataType::Binary),
            (json!("date"), DataType::Date32),
            (json!("timestamp"), micros(Some("UTC"))),
            (json!("timestamp_ntz"), micros(None)),
            (json!("time(6)"), DataType::Time64(TimeUnit::Nanosecond)),
            (json!("interval day to second"), DataType::Duration(TimeUnit::Microsecond)),
            (json!("interval year to month"), DataType::Interval(IntervalUnit::YearMonth)),
            (json!("variant"), variant()),
            (json!({"type": "array", "elementType": "integer", "containsNull": true}), list_of(DataType::Int32)),
            (
                json!({"type": "array", "elementType": "integer", "containsNull": false}),
                DataType::List(Field::new("element", DataType::Int32, false).into()),
            ),
            (
                json!({"type": "map", "keyType": "string", "valueType": "timestamp", "valueContainsNull": false}),
                map_of(DataType::Utf8, Field::new("value", micros(Some("UTC")), false)),
            ),
            (
                json!({"type": "array", "containsNull": true, "elementType": {"type": "struct", "fields": [
                    {"name": "m", "nullable": true, "metadata": {}, "type": {
                        "type": "map", "keyType": "string", "valueContainsNull": true,
                        "valueType": {"type": "array", "elementType": "decimal(5,1)", "containsNull": true}}},
                    {"name": "t", "nullable": false, "metadata": {}, "type": "timestamp"},
                ]}}),
                nested,
            ),
        ];
        for (spark, arrow) in table {
            assert_eq!(arrow_of(&spark, Intervals::Taken).as_ref(), Ok(&arrow), "{spark}");
            assert_eq!(spark_of(arrow, Intervals::Taken), Ok(spark));
        }
    }

    #[test]
    fn what_arrow_has_one_type_for_comes_back_as_the_widest() {
        let table = [
            ("varchar(5)", DataType::Utf8),
            ("char(3)", DataType::Utf8),
            ("string collate UNICODE_CI", DataType::Utf8),
            ("decimal", DataType::Decimal128(10, 0)),
            ("decimal( 4, 2 )", DataType::Decimal128(4, 2)),
            ("time(0)", DataType::Time64(TimeUnit::Nanosecond)),
            ("interval minute", DataType::Duration(TimeUnit::Microsecond)),
            ("interval month", DataType::Interval(IntervalUnit::YearMonth)),
            ("geometry(SRID:0)", shape("geometry", 0)),
            ("geography(OGC:CRS84, SPHERICAL)", shape("geography", 4326)),
            ("geography(srid:any)", shape("geography", -1)),
        ];
        for (spark, arrow) in table {
            assert_eq!(arrow_of(&spark.into(), Intervals::Taken), Ok(arrow), "{spark}");
        }
        let stored =
            json!({"type": "udt", "pyClass": "a.Point", "sqlType": {"type": "array", "elementType": "double", "containsNull": true}});
        assert_eq!(arrow_of(&stored, Intervals::Refused), Ok(list_of(DataType::Float64)));
    }

    #[test]
    fn an_arrow_type_becomes_a_spark_type() {
        let items = || field("item", DataType::UInt8).into();
        let shorts = json!({"type": "array", "elementType": "short", "containsNull": true});
        let packed = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::LargeUtf8));
        let runs = DataType::RunEndEncoded(Field::new("run_ends", DataType::Int32, false).into(), field("values", packed.clone()).into());
        let table = [
            (DataType::UInt8, json!("short")),
            (DataType::UInt16, json!("integer")),
            (DataType::UInt32, json!("long")),
            (DataType::UInt64, json!("decimal(20,0)")),
            (DataType::Float16, json!("float")),
            (DataType::Decimal32(5, 1), json!("decimal(5,1)")),
            (DataType::Decimal64(5, 7), json!("decimal(7,7)")),
            (DataType::Decimal128(2, -3), json!("decimal(5,0)")),
            (DataType::Decimal256(38, 2), json!("decimal(38,2)")),
            (DataType::LargeUtf8, json!("string")),
            (DataType::Utf8View, json!("string")),
            (DataType::LargeBinary, json!("binary")),
            (DataType::BinaryView, json!("binary")),
            (DataType::FixedSizeBinary(2), json!("binary")),
            (DataType::Date64, json!("date")),
            (DataType::Time32(TimeUnit::Millisecond), json!("time(6)")),
            (DataType::Timestamp(TimeUnit::Second, None), json!("timestamp_ntz")),
            (DataType::Timestamp(TimeUnit::Nanosecond, Some("Asia/Tokyo".into())), json!("timestamp")),
            (DataType::Duration(TimeUnit::Millisecond), json!("interval day to second")),
            (packed, json!("string")),
            (runs, json!("string")),
            (DataType::LargeList(items()), shorts.clone()),
            (DataType::FixedSizeList(items(), 2), shorts.clone()),
            (DataType::ListView(items()), shorts.clone()),
            (DataType::LargeListView(items()), shorts),
        ];
        for (arrow, spark) in table {
            assert_eq!(spark_of(arrow, Intervals::Refused), Ok(spark));
        }
    }

    #[test]
    fn what_has_no_type_is_refused_by_its_path() {
        let unit = |unit| DataType::Interval(unit);
        let months = map_of(DataType::Utf8, field("value", struct_of(vec![field("x", list_of(unit(IntervalUnit::YearMonth)))])));
        let table = [
            (months.clone(), "column 'c.value.x[]' is month_interval, which Spark cannot read from Arrow; append months as an integer"),
            (unit(IntervalUnit::MonthDayNano), "column 'c' is month_day_nano_interval, which Spark cannot read from Arrow; append months"),
            (unit(IntervalUnit::DayTime), "column 'c' is day_time_interval, which Spark cannot read from Arrow; cast or drop it"),
            (DataType::Decimal256(39, 2), "column 'c' is decimal256(39, 2), but Spark's decimals have at most 38 digits"),
            (DataType::Decimal128(38, -1), "column 'c' is decimal128(38, -1), but Spark's decimals"),
        ];
        for (arrow, text) in table {
            let refusal = spark_of(arrow, Intervals::Refused).expect_err(text);
            assert!(refusal.starts_with(text), "{refusal}");
        }
        assert!(spark_of(months, Intervals::Taken).is_ok());
        assert!(spark_of(unit(IntervalUnit::MonthDayNano), Intervals::Taken).is_err());
        let table = [
            (json!("interval year"), "column 'c' is interval year, which Spark cannot hand over as Arrow; write months as an integer"),
            (json!("interval"), "column 'c' is interval, which Spark cannot hand over as Arrow; write months as an integer"),
            (json!("hologram"), "column 'c' is hologram, which Spark cannot hand over as Arrow; cast it"),
            (json!("geometry(EPSG:1)"), "column 'c' is geometry(EPSG:1), which"),
            (json!("geography(EPSG:3857)"), "column 'c' is geography(EPSG:3857), which"),
            (json!("decimal(39,0)"), "column 'c' is decimal(39,0), which"),
            (json!({"type": "udt", "class": "org.example.Point"}), "column 'c' is org.example.Point, which"),
            (json!({"type": "set", "elementType": "long"}), "column 'c' is set, which"),
            (json!({"type": "array", "elementType": "interval", "containsNull": true}), "column 'c[]' is interval, which"),
            (json!({"type": "array", "elementType": "long"}), "this is not the JSON of a Spark schema: column 'c' has no \"containsNull\""),
            (json!(7), "this is not the JSON of a Spark schema"),
        ];
        for (spark, text) in table {
            let refusal = arrow_of(&spark, Intervals::Refused).expect_err(text);
            assert!(refusal.starts_with(text), "{refusal}");
        }
        assert!(arrow_of(&json!("interval"), Intervals::Taken).is_err());
    }

    #[test]
    fn columns_of_one_name_are_refused() {
        let schema = Schema::new(vec![field("a", DataType::Int8), field("b", DataType::Int8), field("a", DataType::Int8)]);
        let refusal = to_spark(&schema, Intervals::Refused).expect_err("two of one name").to_string();
        assert_eq!(refusal, "Spark needs columns of different names, but the stream has ['a'] more than once; rename them");
        let twice = r#"{"type":"struct","fields":[{"name":"a","type":"long"},{"name":"a","type":"long"}]}"#;
        let refusal = to_arrow(twice, Intervals::Refused).expect_err("two of one name").to_string();
        assert_eq!(refusal, "a stream needs columns of different names, but the DataFrame has ['a'] more than once");
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        for text in ["", "[]", "\"long\"", r#"{"type":"array"}"#, r#"{"type":"struct"}"#, r#"{"type":"struct","fields":[{"type":"long"}]}"#]
        {
            let refusal = to_arrow(text, Intervals::Refused).expect_err(text).to_string();
            assert!(refusal.starts_with("this is not the JSON of a Spark schema"), "{refusal}");
        }
        let deep = format!("{}\"long\"{}", r#"{"type":"array","containsNull":true,"elementType":"#.repeat(10_000), "}".repeat(10_000));
        assert!(to_arrow(&deep, Intervals::Refused).is_err());
    }

    #[test]
    fn what_spark_says_of_a_column_stays_and_what_is_of_its_type_does_not() {
        let text = r#"{"type":"struct","fields":[
            {"name":"a","type":"string","nullable":false,"metadata":{"z":1,"note":"x","__COLLATIONS":{"a":"icu.UNICODE"}}},
            {"name":"b","type":"string","nullable":true,"metadata":{"__COLLATIONS":{"b":"icu.UNICODE"}}}]}"#;
        let schema = to_arrow(text, Intervals::Refused).expect("a schema");
        let kept = HashMap::from([(METADATA_KEY.to_owned(), r#"{"note":"x","z":1}"#.to_owned())]);
        assert_eq!(schema.field(0), &Field::new("a", DataType::Utf8, false).with_metadata(kept));
        assert_eq!(schema.field(1), &Field::new("b", DataType::Utf8, true));
    }
}
