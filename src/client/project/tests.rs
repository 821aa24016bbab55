//! Projections: of each conversion, and of random schemas that follow each other as a stream's policy allows.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Float64Array, Int8Array, Int32Array, Int64Array, LargeStringArray, ListArray, MapBuilder,
    NullArray, RecordBatch, StringArray, StringBuilder, StructArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{Int32Type, Int64Type, TimestampMillisecondType};
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use proptest::prelude::*;

use super::Projection;
use crate::client::Dialect;
use crate::engine;
use crate::wire::evolution::SchemaVersions;
use crate::wire::proto::SchemaPolicy;
use crate::wire::schema::StreamSchema;

pub(super) fn batch(columns: &[(&str, ArrayRef)]) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.iter().map(|(name, array)| (*name, array.clone(), true))).expect("columns")
}

pub(super) fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect::<Vec<_>>()))
}

pub(super) fn asked(pinned: &SchemaRef) -> Dialect {
    Dialect { schema: Some(pinned.clone()), ..Dialect::default() }
}

pub(super) fn project(batch: &RecordBatch, pinned: &SchemaRef, dialect: &Dialect) -> Result<RecordBatch, String> {
    match Projection::new(&batch.schema(), pinned, dialect)? {
        Some(projection) => projection.apply(batch),
        None => Ok(batch.clone()),
    }
}

/// One column, given as another type; asked for, and as what was seen first.
pub(super) fn check(from: ArrayRef, to: &DataType, expected: impl Into<Option<ArrayRef>>) {
    let (batch, pinned) = (batch(&[("a", from)]), schema(&[("a", to.clone())]));
    let found = project(&batch, &pinned, &asked(&pinned));
    assert_eq!(found.as_ref().ok().map(|batch| batch.column(0).clone()), expected.into(), "{found:?}");
    if let Err(refusal) = found {
        assert!(refusal.starts_with("column \"a"), "{refusal}");
    }
}

pub(super) fn array<A: Array + 'static>(array: A) -> ArrayRef {
    Arc::new(array)
}

fn micros(values: Vec<i64>, zone: &str) -> ArrayRef {
    array(TimestampMicrosecondArray::from(values).with_timezone(zone))
}

#[test]
fn a_batch_of_the_pinned_schema_is_left_alone() {
    let batch = batch(&[("a", array(Int32Array::from(vec![1])))]);
    assert!(Projection::new(&batch.schema(), &batch.schema(), &Dialect::default()).expect("the same").is_none());
}

#[test]
fn columns_are_found_by_name_added_ones_dropped_and_absent_ones_null() {
    let batch =
        batch(&[("new", array(Int8Array::from(vec![9, 9]))), ("b", array(Int32Array::from(vec![1, 2]))), ("a", array(NullArray::new(2)))]);
    let pinned = schema(&[("a", DataType::Utf8), ("b", DataType::Int64), ("gone", DataType::new_list(DataType::Int8, true))]);
    let found = project(&batch, &pinned, &Dialect::default()).expect("all of it can be had");
    assert_eq!(found.schema(), pinned);
    assert_eq!(found.column(1).as_primitive::<Int64Type>().values(), &[1, 2]);
    assert_eq!([found.column(0).null_count(), found.column(2).null_count()], [2, 2]);
    let nothing = project(&batch, &schema(&[]), &Dialect::default()).expect("no columns");
    assert_eq!((nothing.num_columns(), nothing.num_rows()), (0, 2));
}

#[test]
fn what_may_not_be_null_and_is_not_there_is_refused_and_named() {
    let batch = batch(&[("a", array(Int32Array::from(vec![Some(1), None])))]);
    let pinned = |name: &str| Arc::new(Schema::new(vec![Field::new(name, DataType::Int32, false)]));
    let refusal = project(&batch, &pinned("a"), &Dialect::default()).expect_err("has a null");
    assert!(refusal.contains("\"a\" may not be null"), "{refusal}");
    let refusal = project(&batch, &pinned("b"), &Dialect::default()).expect_err("is not there");
    assert!(refusal.contains("\"b\" may not be null"), "{refusal}");
    assert!(project(&batch.slice(0, 1), &pinned("a"), &Dialect::default()).is_ok(), "no null in these rows");
}

#[test]
fn narrower_types_take_the_values_that_fit_and_no_others() {
    let ints = |values: Vec<i64>| array(Int64Array::from(values));
    check(ints(vec![1, -128]), &DataType::Int8, Some(array(Int8Array::from(vec![1, -128]))));
    check(ints(vec![1, 128]), &DataType::Int8, None);
    check(ints(vec![1 << 53]), &DataType::Float64, Some(array(Float64Array::from(vec![9_007_199_254_740_992.0]))));
    check(ints(vec![(1 << 53) + 1]), &DataType::Float64, None);
    let floats = |values: Vec<f64>| array(Float64Array::from(values));
    check(
        floats(vec![1.5, f64::NAN, -0.0]),
        &DataType::Float32,
        Some(cast(&floats(vec![1.5, f64::NAN, -0.0]), &DataType::Float32).expect("casts")),
    );
    check(floats(vec![0.1]), &DataType::Float32, None);
    check(floats(vec![1e300]), &DataType::Float32, None);
    check(floats(vec![1.5]), &DataType::Int32, None);
    check(array(LargeStringArray::from(vec!["x"])), &DataType::Utf8, Some(array(StringArray::from(vec!["x"]))));
    check(array(StringArray::from(vec!["7"])), &DataType::Int32, None);
    let refusal = project(&batch(&[("a", ints(vec![1, 300]))]), &schema(&[("a", DataType::Int8)]), &Dialect::default());
    assert!(refusal.expect_err("300").contains("300"), "the value is named");
}

#[test]
fn a_column_of_nulls_alone_is_one_of_any_type_and_takes_nothing_else() {
    let texts = |values: Vec<Option<&str>>| array(StringArray::from(values));
    check(array(NullArray::new(1)), &DataType::Utf8, Some(texts(vec![None])));
    check(texts(vec![None]), &DataType::Null, Some(array(NullArray::new(1))));
    check(texts(vec![None, Some("x")]), &DataType::Null, None);
}

#[test]
fn times_are_cut_only_for_those_who_asked_for_coarser_ones() {
    let times = micros(vec![1_500, 2_000], "UTC");
    let millis = |zone: &str| DataType::Timestamp(TimeUnit::Millisecond, Some(zone.into()));
    let (source, pinned) = (batch(&[("a", times.clone())]), schema(&[("a", millis("UTC"))]));
    let refusal = project(&source, &pinned, &Dialect::default()).expect_err("it was only seen first");
    assert!(refusal.contains("does not fit"), "{refusal}");
    let even = batch(&[("a", micros(vec![2_000], "UTC"))]);
    assert!(project(&even, &pinned, &Dialect::default()).is_ok(), "nothing is cut");
    let cut = project(&source, &schema(&[("a", millis("Europe/Berlin"))]), &asked(&pinned)).expect("asked for");
    assert_eq!(cut.column(0).as_primitive::<TimestampMillisecondType>().values(), &[1, 2], "the instants");
    assert_eq!(cut.column(0).data_type(), &millis("Europe/Berlin"));
    check(times.clone(), &DataType::Timestamp(TimeUnit::Microsecond, None), None);
    let far = array(arrow::array::TimestampSecondArray::from(vec![i64::MAX / 1_000_000]));
    check(far, &DataType::Timestamp(TimeUnit::Nanosecond, None), None);
}

#[test]
fn dictionaries_are_unpacked_packed_and_given_other_keys() {
    let packed: DictionaryArray<Int32Type> = [Some("x"), None, Some("x")].into_iter().collect();
    let (packed, plain) = (array(packed), array(StringArray::from(vec![Some("x"), None, Some("x")])));
    let of = |keys| DataType::Dictionary(Box::new(keys), Box::new(DataType::Utf8));
    check(packed.clone(), &DataType::Utf8, Some(plain.clone()));
    check(packed.clone(), &DataType::LargeUtf8, Some(cast(&plain, &DataType::LargeUtf8).expect("casts")));
    check(packed.clone(), &of(DataType::Int64), Some(cast(&packed, &of(DataType::Int64)).expect("casts")));
    check(plain.clone(), &of(DataType::Int8), Some(cast(&plain, &of(DataType::Int8)).expect("casts")));
    check(packed, &DataType::Int8, None);
}

#[test]
fn members_of_structs_lists_and_maps_are_converted_where_they_are() {
    let fields = |last: DataType| Fields::from(vec![Field::new("x", last, true), Field::new("y", DataType::Utf8, true)]);
    let nulls = NullBuffer::from(vec![true, false, true]);
    let old = StructArray::new(
        vec![Field::new("x", DataType::Int32, true)].into(),
        vec![array(Int32Array::from(vec![1, 2, 3]))],
        Some(nulls.clone()),
    );
    let new = StructArray::new(
        fields(DataType::Int64),
        vec![array(Int64Array::from(vec![1, 2, 3])), new_null_array(&DataType::Utf8, 3)],
        Some(nulls),
    );
    let (old, new) = (array(old), array(new));
    check(old.clone(), new.data_type(), Some(new.clone()));
    check(new.clone(), old.data_type(), Some(old.clone()));
    let list = |items: &ArrayRef, name: &str| {
        let field = Arc::new(Field::new(name, items.data_type().clone(), true));
        let offsets = arrow::buffer::OffsetBuffer::from_lengths([2, 0, 1]);
        array(ListArray::new(field, offsets, items.clone(), Some(NullBuffer::from(vec![true, false, true]))))
    };
    let sliced = list(&old, "element").slice(1, 2);
    check(sliced, list(&new, "item").data_type(), Some(list(&new, "item").slice(1, 2)));
    let map = |wide: bool| {
        let (mut ints, mut longs) = (
            MapBuilder::new(None, StringBuilder::new(), Int32Array::builder(1)),
            MapBuilder::new(None, StringBuilder::new(), Int64Array::builder(1)),
        );
        ints.keys().append_value("k");
        ints.values().append_value(7);
        longs.keys().append_value("k");
        longs.values().append_value(7);
        ints.append(true).expect("a pair");
        longs.append(true).expect("a pair");
        if wide { array(longs.finish()) } else { array(ints.finish()) }
    };
    check(map(false), map(true).data_type(), Some(map(true)));
    let deep = schema(&[("s", new.data_type().clone())]);
    let wrong = StructArray::from(vec![(Arc::new(Field::new("x", DataType::Utf8, true)), array(StringArray::from(vec!["?"])))]);
    let refusal = project(&batch(&[("s", array(wrong))]), &deep, &Dialect::default()).expect_err("text is no number");
    assert!(refusal.contains("\"s.x\""), "{refusal}");
}

#[test]
fn of_several_names_the_first_value_that_is_not_null_counts() {
    let dialect = Dialect { aliases: [("id".to_owned(), vec!["ID".to_owned(), "Id".to_owned()])].into(), ..Dialect::default() };
    let pinned = schema(&[("id", DataType::Int64)]);
    let ids = |values: Vec<Option<i64>>| array(Int64Array::from(values));
    let both = batch(&[("Id", array(Int32Array::from(vec![Some(1), Some(2), None]))), ("ID", ids(vec![Some(10), None, None]))]);
    let found = project(&both, &pinned, &dialect).expect("both are there");
    assert_eq!(found.column(0), &ids(vec![Some(10), Some(2), None]));
    let one = batch(&[("Id", ids(vec![Some(3)]))]);
    assert_eq!(project(&one, &pinned, &dialect).expect("one is there").column(0), &ids(vec![Some(3)]));
}

/// Types that become each other under the widening policy, each with what holds its values.
fn families() -> Vec<Vec<DataType>> {
    use DataType::*;
    let zoned = |unit| Timestamp(unit, Some("+00:00".into()));
    vec![
        vec![Int8, Int16, Int32, Int64],
        vec![UInt8, UInt16, Int32, Float64],
        vec![Float32, Float64],
        vec![Utf8, Utf8View, LargeUtf8],
        vec![Binary, LargeBinary],
        vec![zoned(TimeUnit::Second), zoned(TimeUnit::Millisecond), zoned(TimeUnit::Microsecond)],
        vec![Decimal128(10, 2), Decimal128(12, 3), Decimal256(40, 3)],
        vec![Boolean],
    ]
}

/// A column of one of six names, whose types are of the name's family; some are in a list or a struct.
fn column() -> impl Strategy<Value = Field> {
    (0_usize..8, any::<prop::sample::Index>(), 0_u8..3).prop_map(|(name, pick, depth)| {
        let family = &families()[name];
        let leaf = family[pick.index(family.len())].clone();
        let data_type = match (name, depth) {
            (0, _) => DataType::new_list(leaf, true),
            (1, 0) => DataType::Struct(vec![Field::new("x", leaf, true)].into()),
            (1, _) => DataType::Struct(vec![Field::new("y", DataType::Utf8, true), Field::new("x", leaf, true)].into()),
            _ => leaf,
        };
        Field::new(format!("c{name}"), data_type, name % 2 == 0 || depth > 0)
    })
}

fn schemas() -> impl Strategy<Value = Vec<SchemaRef>> {
    let one = prop::collection::vec(column(), 1..6).prop_map(|mut fields| {
        let mut names = std::collections::BTreeSet::new();
        fields.retain(|field| names.insert(field.name().clone()));
        Arc::new(Schema::new(fields))
    });
    prop::collection::vec(one, 1..6)
}

/// Values that every type of a family holds; no nulls, for some columns may have none.
fn values(data_type: &DataType, rows: usize) -> ArrayRef {
    let ints: ArrayRef = Arc::new(Int32Array::from_iter_values((0..100).cycle().take(rows)));
    match data_type {
        DataType::List(item) => {
            let offsets = arrow::buffer::OffsetBuffer::from_lengths(std::iter::repeat_n(1, rows));
            array(ListArray::new(item.clone(), offsets, values(item.data_type(), rows), None))
        }
        DataType::Struct(fields) => {
            array(StructArray::new(fields.clone(), fields.iter().map(|field| values(field.data_type(), rows)).collect(), None))
        }
        DataType::Timestamp(..) => {
            cast(&cast(&ints, &DataType::Timestamp(TimeUnit::Second, None)).expect("casts"), data_type).expect("casts")
        }
        DataType::Binary | DataType::LargeBinary => cast(&cast(&ints, &DataType::Utf8).expect("casts"), data_type).expect("casts"),
        other => cast(&ints, other).expect("casts"),
    }
}

fn batch_of(schema: &SchemaRef, rows: usize) -> RecordBatch {
    RecordBatch::try_new(schema.clone(), schema.fields().iter().map(|field| values(field.data_type(), rows)).collect()).expect("columns")
}

/// The batch that a producer of the pinned schema would have sent, but for what this one does not have.
fn expected(have: &DataType, want: &DataType, rows: usize) -> ArrayRef {
    match (have, want) {
        (DataType::Struct(have), DataType::Struct(fields)) => {
            let member = |field: &Arc<Field>| match have.find(field.name()) {
                Some((_, source)) => expected(source.data_type(), field.data_type(), rows),
                None => new_null_array(field.data_type(), rows),
            };
            array(StructArray::new(fields.clone(), fields.iter().map(member).collect(), None))
        }
        _ => values(want, rows),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever a widening stream takes, whoever reads it goes on: the one who came first, and the one who comes last.
    #[test]
    fn every_version_can_be_read_as_every_reader_has_pinned_it(schemas in schemas(), rows in 0_usize..20) {
        let mut versions = SchemaVersions::new(engine::SchemaPolicy::Widening);
        let (mut taken, mut pins) = (Vec::new(), Vec::new());
        for schema in schemas {
            let Ok(accepted) = versions.accept(&StreamSchema::from_arrow(&schema).expect("small")) else { continue };
            versions.add(&accepted);
            taken.push(schema);
            pins.push(Dialect::default().pin(versions.merged().expect("one").arrow(), SchemaPolicy::Widening).expect("no options"));
        }
        for schema in &taken {
            let batch = batch_of(schema, rows);
            for pinned in &pins {
                let found = project(&batch, pinned, &Dialect::default()).expect("each value fits each type");
                prop_assert_eq!(found.schema(), pinned.clone());
                for (field, column) in pinned.fields().iter().zip(found.columns()) {
                    let expected = match schema.fields().find(field.name()) {
                        Some((_, source)) => expected(source.data_type(), field.data_type(), rows),
                        None => new_null_array(field.data_type(), rows),
                    };
                    prop_assert_eq!(column, &expected, "column {} of {} from {}", field, pinned, schema);
                }
            }
        }
    }
}
