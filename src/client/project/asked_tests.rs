//! What only those get who ask for a schema: each type in another form, exactly, or an error that names the column.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, Date32Array, Date64Array, Decimal32Array, Decimal64Array, Decimal128Array, Decimal256Array,
    DictionaryArray, DurationMicrosecondArray, DurationMillisecondArray, DurationNanosecondArray, DurationSecondArray,
    FixedSizeBinaryArray, FixedSizeListArray, Float32Array, Int8Array, Int16Array, Int32Array, Int64Array, LargeListArray,
    LargeStringArray, ListArray, ListViewArray, MapArray, RecordBatch, RunArray, StringArray, StringViewArray, StructArray,
    Time32MillisecondArray, Time32SecondArray, Time64NanosecondArray, TimestampMicrosecondArray, TimestampNanosecondArray,
    TimestampSecondArray, UInt8Array, UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{Int8Type, Int32Type, i256};
use arrow_schema::{DataType, Field, FieldRef, Fields, Schema};

use super::tests::{array, asked, batch, check, project, schema};
use crate::client::Dialect;

fn field(name: &str, of: &ArrayRef) -> FieldRef {
    Field::new(name, of.data_type().clone(), true).into()
}

/// Lists of 2, no and 1 items.
fn lists(name: &str, items: ArrayRef, nulls: Option<NullBuffer>) -> ArrayRef {
    array(ListArray::new(field(name, &items), OffsetBuffer::from_lengths([2, 0, 1]), items, nulls))
}

fn bytes(values: [u8; 3]) -> ArrayRef {
    array(UInt8Array::from(values.to_vec()))
}

fn shorts(values: [i16; 3]) -> ArrayRef {
    array(Int16Array::from(values.to_vec()))
}

/// The same with `schema` and not without.
fn check_asked(from: &ArrayRef, to: &ArrayRef) {
    check(from.clone(), to.data_type(), Some(to.clone()));
    let refusal = project(&batch(&[("a", from.clone())]), &schema(&[("a", to.data_type().clone())]), &Dialect::default());
    let refusal = refusal.expect_err("nobody asked for it");
    assert!(refusal.starts_with("column \"a"), "{refusal}");
}

#[test]
fn lists_of_every_kind_become_lists() {
    let nulls = Some(NullBuffer::from(vec![true, false, true]));
    let expected = lists("element", shorts([1, 2, 3]), nulls.clone());
    let items = field("item", &bytes([0; 3]));
    let large = LargeListArray::new(items.clone(), OffsetBuffer::from_lengths([2, 0, 1]), bytes([1, 2, 3]), nulls.clone());
    check_asked(&array(large), &expected);
    // In no order, one item twice, and under the null what would not fit.
    let views = |values: Vec<i64>| {
        let items = array(Int64Array::from(values));
        let (begin, sizes) = (ScalarBuffer::from(vec![1, 3, 0]), ScalarBuffer::from(vec![2, 1, 1]));
        array(ListViewArray::new(field("item", &items), begin, sizes, items, nulls.clone()))
    };
    check_asked(&views(vec![2, 1, 2, 1 << 40]), &lists("element", shorts([1, 2, 2]), nulls.clone()));
    check(views(vec![1 << 40, 1, 2, 0]), expected.data_type(), None);
    let fixed = |values: Vec<i64>, nulls: Vec<bool>| {
        let items = array(Int64Array::from(values));
        array(FixedSizeListArray::new(field("item", &items), 1, items, Some(nulls.into())))
    };
    let ones = ListArray::new(
        field("element", &shorts([0; 3])),
        OffsetBuffer::from_lengths([1, 0, 1]),
        array(Int16Array::from(vec![1, 3])),
        Some(vec![true, false, true].into()),
    );
    check_asked(&fixed(vec![1, 1 << 40, 3], vec![true, false, true]), &array(ones));
    check(fixed(vec![1, 1 << 40, 3], vec![true, true, true]), expected.data_type(), None);
    check_asked(&fixed(vec![0, 1, 1 << 40, 3], vec![true, true, false, true]).slice(1, 3), &array(ones_of([1, 3])));
    // And back to large ones, for whoever wants those.
    let large = LargeListArray::new(items, OffsetBuffer::from_lengths([2, 0, 1]), bytes([1, 2, 3]), nulls);
    check_asked(&expected, &array(large));
}

fn ones_of(values: [i16; 2]) -> ListArray {
    let items = array(Int16Array::from(values.to_vec()));
    ListArray::new(field("element", &items), OffsetBuffer::from_lengths([1, 0, 1]), items, Some(vec![true, false, true].into()))
}

#[test]
fn what_no_list_has_and_what_lies_under_a_null_need_not_fit() {
    let wide = array(Int64Array::from(vec![1 << 40, 1, 2, 3, 1 << 40]));
    let list = ListArray::new(field("item", &wide), OffsetBuffer::from_lengths([1, 2, 0, 1, 1]), wide, None);
    check(array(list).slice(1, 3), lists("e", shorts([0; 3]), None).data_type(), Some(lists("e", shorts([1, 2, 3]), None)));
    let structs =
        |member: ArrayRef, nulls: Vec<bool>| array(StructArray::new(vec![field("x", &member)].into(), vec![member], Some(nulls.into())));
    let wide = || array(Int64Array::from(vec![1, 1 << 40]));
    let narrow = structs(array(Int16Array::from(vec![1, 0])), vec![true, false]);
    check(structs(wide(), vec![true, false]), narrow.data_type(), Some(narrow.clone()));
    check(structs(wide(), vec![true, true]), narrow.data_type(), None);
}

#[test]
fn runs_and_dictionaries_become_their_values_at_any_depth() {
    let runs = |values: ArrayRef| array(RunArray::<Int32Type>::try_new(&Int32Array::from(vec![1, 3, 4]), &values).expect("runs"));
    let texts = |values: [Option<&str>; 4]| array(StringArray::from(values.to_vec()));
    let packed: DictionaryArray<Int8Type> = [Some("x"), None, Some("y")].into_iter().collect();
    let plain = texts([Some("x"), None, None, Some("y")]);
    check_asked(&runs(array(LargeStringArray::from(vec![Some("x"), None, Some("y")]))), &plain);
    check_asked(&runs(array(packed)), &plain);
    check_asked(&runs(array(StringViewArray::from(vec![Some("x"), None, Some("y")]))).slice(1, 3), &plain.slice(1, 3));
    check(runs(array(StringArray::from(vec!["x", "y", "z"]))), &DataType::Int32, None);
    check(runs(array(Int64Array::from(vec![1, 1 << 40, 2]))), &DataType::Int32, None);
    let member = |name: &str, of: ArrayRef| (field(name, &of), of);
    let lists_of_runs = array(FixedSizeListArray::new(field("item", &runs(bytes([1, 2, 3]))), 2, runs(bytes([1, 2, 3])), None));
    let items = array(Int16Array::from(vec![1, 2, 2, 3]));
    let plain_lists = array(ListArray::new(field("element", &items), OffsetBuffer::from_lengths([2, 2]), items.clone(), None));
    check_asked(&array(StructArray::from(vec![member("l", lists_of_runs)])), &array(StructArray::from(vec![member("l", plain_lists)])));
}

#[test]
fn numbers_become_decimals_and_decimals_numbers_if_they_fit() {
    let decimal = |values: Vec<i128>, precision, scale| {
        array(Decimal128Array::from(values).with_precision_and_scale(precision, scale).expect("a decimal"))
    };
    let to = |precision, scale| DataType::Decimal128(precision, scale);
    let most = array(UInt64Array::from(vec![0, u64::MAX]));
    check_asked(&most, &decimal(vec![0, u64::MAX.into()], 20, 0));
    check(most.clone(), &to(19, 0), None);
    check(most, &to(38, 18), Some(decimal(vec![0, i128::from(u64::MAX) * 10_i128.pow(18)], 38, 18)));
    check(array(Int64Array::from(vec![-99])), &to(2, 0), Some(decimal(vec![-99], 2, 0)));
    check(array(Int64Array::from(vec![-100])), &to(2, 0), None);
    check(decimal(vec![150, -700], 5, 2), &DataType::Int8, None);
    check(decimal(vec![100, -700], 5, 2), &DataType::Int8, Some(array(Int8Array::from(vec![1, -7]))));
    check(decimal(vec![12_800], 5, 2), &DataType::Int8, None);
    check(array(Float32Array::from(vec![1.0])), &to(5, 2), None);
    let small = array(Decimal32Array::from(vec![15, -20]).with_precision_and_scale(5, 1).expect("a decimal"));
    check(small, &to(5, 1), Some(decimal(vec![15, -20], 5, 1)));
    let middle = array(Decimal64Array::from(vec![15]).with_precision_and_scale(18, 1).expect("a decimal"));
    check(middle, &to(18, 1), Some(decimal(vec![15], 18, 1)));
    let large = |value| array(Decimal256Array::from(vec![value, i256::ONE]).with_precision_and_scale(76, 2).expect("a decimal"));
    let top = 10_i128.pow(38) - 1;
    check(large(i256::from_i128(-top)), &to(38, 2), Some(decimal(vec![-top, 1], 38, 2)));
    check(large(i256::from_i128(top + 1)), &to(38, 2), None);
    check(large(i256::from_i128(top)), &to(38, 1), None);
    check(decimal(vec![12, -1], 2, -3), &to(5, 0), Some(decimal(vec![12_000, -1000], 5, 0)));
    let floats = array(Float32Array::from(vec![0.5, -2.0]));
    check(cast(&floats, &DataType::Float16).expect("casts"), &DataType::Float32, Some(floats));
}

#[test]
fn times_are_cut_towards_1970_and_refused_where_they_do_not_reach() {
    let (nanos, micros) = (vec![-1, -999, -1000, -1001, 1, 1999], vec![0, 0, -1, -1, 0, 1]);
    let zoned = |zone: &str| array(TimestampNanosecondArray::from(nanos.clone()).with_timezone(zone));
    let utc = array(TimestampMicrosecondArray::from(micros.clone()).with_timezone("UTC"));
    check(zoned("Asia/Tokyo"), utc.data_type(), Some(utc.clone()));
    let naive = array(TimestampMicrosecondArray::from(micros.clone()));
    check(array(TimestampNanosecondArray::from(nanos.clone())), naive.data_type(), Some(naive.clone()));
    check(zoned("UTC"), naive.data_type(), None);
    let lasts = array(DurationMicrosecondArray::from(micros));
    check(array(DurationNanosecondArray::from(nanos)), lasts.data_type(), Some(lasts.clone()));
    check(array(DurationMillisecondArray::from(vec![-5])), lasts.data_type(), Some(array(DurationMicrosecondArray::from(vec![-5000]))));
    let far = i64::MAX / 1_000_000;
    check(
        array(DurationSecondArray::from(vec![far])),
        lasts.data_type(),
        Some(array(DurationMicrosecondArray::from(vec![far * 1_000_000]))),
    );
    check(array(DurationSecondArray::from(vec![far + 1])), lasts.data_type(), None);
    check(array(TimestampSecondArray::from(vec![far + 1])), naive.data_type(), None);
    let time = |nanos| array(Time64NanosecondArray::from(vec![nanos]));
    check(array(Time32SecondArray::from(vec![86_399])), time(0).data_type(), Some(time(86_399_000_000_000)));
    check(array(Time32MillisecondArray::from(vec![1])), time(0).data_type(), Some(time(1_000_000)));
    let day = 86_400_000;
    check(array(Date64Array::from(vec![day, -day])), &DataType::Date32, Some(array(Date32Array::from(vec![1, -1]))));
    check(array(Date64Array::from(vec![day + 1])), &DataType::Date32, None);
}

#[test]
fn bytes_of_one_size_become_bytes() {
    let fixed = FixedSizeBinaryArray::try_from_sparse_iter_with_size([Some(b"ab"), None].into_iter(), 2).expect("two bytes each");
    check_asked(&array(fixed), &array(BinaryArray::from(vec![Some(&b"ab"[..]), None])));
    check(array(BinaryArray::from(vec![&b"ab"[..]])), &DataType::FixedSizeBinary(2), None);
}

#[test]
fn entries_of_maps_are_converted_whatever_they_are_called() {
    let map = |names: [&str; 3], keys: ArrayRef, values: ArrayRef| {
        let pair = Fields::from(vec![
            Field::new(names[1], keys.data_type().clone(), false),
            Field::new(names[2], values.data_type().clone(), true),
        ]);
        let entries = StructArray::new(pair.clone(), vec![keys, values], None);
        let entries_field = Field::new(names[0], DataType::Struct(pair), false).into();
        let nulls = NullBuffer::from(vec![true, false, true]);
        array(MapArray::new(entries_field, OffsetBuffer::from_lengths([1, 0, 2]), entries, Some(nulls), false))
    };
    let wide = map(
        ["key_value", "k", "v"],
        array(LargeStringArray::from(vec!["a", "b", "c"])),
        array(arrow::array::UInt16Array::from(vec![1, 2, 3])),
    );
    let plain = map(["entries", "key", "value"], array(StringArray::from(vec!["a", "b", "c"])), array(Int32Array::from(vec![1, 2, 3])));
    check(wide.clone(), plain.data_type(), Some(plain.clone()));
    check(wide.slice(2, 1), plain.data_type(), Some(plain.slice(2, 1)));
    check(map(["e", "k", "v"], bytes([1, 2, 3]), bytes([1, 2, 3])), plain.data_type(), None);
}

#[test]
fn a_null_stays_one_and_where_none_may_be_is_refused_at_any_depth() {
    let strict = |items: &ArrayRef| DataType::List(Field::new("element", items.data_type().clone(), false).into());
    let some = array(UInt8Array::from(vec![Some(1), None, Some(3)]));
    let refused = |from: ArrayRef, to: DataType| {
        let pinned = Arc::new(Schema::new(vec![Field::new("a", to, false)]));
        let rows: RecordBatch = batch(&[("a", from)]);
        project(&rows, &pinned, &asked(&pinned)).expect_err("it has a null")
    };
    for (from, to) in [
        (lists("item", some.clone(), None), strict(&shorts([0; 3]))),
        (lists("item", some.clone(), None), strict(&some)),
        (lists("item", bytes([1, 2, 3]), Some(vec![true, false, true].into())), strict(&shorts([0; 3]))),
        (some, DataType::Int16),
    ] {
        let text = refused(from, to);
        assert!(text.contains("\"a\"") || text.contains("\"a.item\""), "{text}");
    }
}
