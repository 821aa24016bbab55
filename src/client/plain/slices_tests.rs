//! Columns that are no arrays, against the same columns as arrays: the messages are the same, byte for byte.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow_schema::{DataType, SchemaRef};
use bytes::Bytes;

use super::tests::{COPY_BYTES_MAX, batch, schema, types, without_nulls};
use super::{ColumnSlices, PlainEncoder, PlainLayout};

/// Large enough for a thousand rows of the widest type.
const BODY_BYTES_MAX: usize = 64 << 10;

/// A column as it lies in memory; not of a slice.
fn slices(column: &dyn Array) -> ColumnSlices<'_> {
    let nulls = column.nulls().filter(|nulls| nulls.null_count() > 0);
    let validity = nulls.map_or(&[][..], |nulls| &nulls.validity()[..column.len().div_ceil(8)]);
    let (values, data) = match PlainLayout::of(column.data_type()).expect("plain") {
        PlainLayout::Bits => (&column.as_boolean().values().values()[..column.len().div_ceil(8)], &[][..]),
        PlainLayout::Fixed(width) => (&primitive_bytes(column)[..column.len() * width], &[][..]),
        PlainLayout::Variable(_) => match column.data_type() {
            DataType::Utf8 => (column.as_string::<i32>().offsets().inner().inner().as_slice(), column.as_string::<i32>().value_data()),
            DataType::LargeUtf8 => (column.as_string::<i64>().offsets().inner().inner().as_slice(), column.as_string::<i64>().value_data()),
            DataType::Binary => (column.as_binary::<i32>().offsets().inner().inner().as_slice(), column.as_binary::<i32>().value_data()),
            _ => (column.as_binary::<i64>().offsets().inner().inner().as_slice(), column.as_binary::<i64>().value_data()),
        },
    };
    ColumnSlices { nulls: nulls.map_or(0, arrow_buffer::NullBuffer::null_count), validity, values, data }
}

fn primitive_bytes(column: &dyn Array) -> &[u8] {
    macro_rules! primitive {
        ($type:ty) => {
            column.as_primitive::<$type>().values().inner().as_slice()
        };
    }
    arrow::array::downcast_primitive! {
        column.data_type() => (primitive),
        other => panic!("{other} is not primitive"),
    }
}

fn all_slices(batch: &RecordBatch) -> Vec<ColumnSlices<'_>> {
    batch.columns().iter().map(|column| slices(column.as_ref())).collect()
}

/// Both messages of a batch: header and body of each.
fn both(encoder: &mut PlainEncoder, batch: &RecordBatch) -> [(Bytes, Bytes); 2] {
    let of_slices = encoder.encode_slices(batch.num_rows(), &all_slices(batch)).expect("fits");
    let of_arrays = encoder.encode(batch).expect("plain");
    [of_slices, of_arrays].map(|message| (message.header, message.body.contiguous()))
}

#[test]
fn slices_become_the_message_that_arrays_become() {
    let each = types().into_iter().map(|data_type| schema(&[data_type]));
    for schema in each.chain([schema(&types())]) {
        for nulls in [false, true] {
            let mut encoder = PlainEncoder::new(&schema, BODY_BYTES_MAX * types().len()).expect("plain");
            for rows in [0, 1, 7, 8, 9, 1000, 8, 0] {
                let [of_slices, of_arrays] = both(&mut encoder, &batch(&schema, rows, nulls));
                assert_eq!(of_slices, of_arrays, "{rows} rows of {schema}, {nulls}");
            }
        }
    }
}

#[test]
fn slices_and_arrays_in_turns_share_the_header_of_their_shape() {
    let schema = schema(&[DataType::Int64, DataType::Utf8]);
    let mut encoder = PlainEncoder::new(&schema, COPY_BYTES_MAX).expect("plain");
    for rows in [8, 9, 8] {
        let [of_slices, of_arrays] = both(&mut encoder, &batch(&schema, rows, true));
        assert_eq!(of_slices.0.as_ptr(), of_arrays.0.as_ptr());
    }
}

/// Whether an encoder of this schema takes the columns; whatever comes of it, it then takes a batch.
fn takes(schema: &SchemaRef, rows: usize, columns: &[ColumnSlices<'_>]) -> bool {
    let mut encoder = PlainEncoder::new(schema, COPY_BYTES_MAX).expect("plain");
    let takes = encoder.encode_slices(rows, columns).is_some();
    let [of_slices, of_arrays] = both(&mut encoder, &batch(schema, 3, false));
    assert_eq!(of_slices, of_arrays);
    takes
}

#[test]
fn buffers_that_are_shorter_or_longer_than_the_rows_are_refused() {
    for data_type in types() {
        let schema = schema(std::slice::from_ref(&data_type));
        for nulls in [false, true] {
            let batch = batch(&schema, 9, nulls);
            let [good] = all_slices(&batch)[..] else { panic!("one column") };
            let longer = |bytes: &[u8]| [bytes, &[0]].concat();
            let (values, validity, data) = (longer(good.values), longer(good.validity), longer(good.data));
            assert!(takes(&schema, 9, &[good]), "{data_type}");
            let mut bad = vec![
                ColumnSlices { values: &good.values[..good.values.len() - 1], ..good },
                ColumnSlices { values: &[], ..good },
                ColumnSlices { values: &values, ..good },
                ColumnSlices { validity: &validity, ..good },
                ColumnSlices { data: &data, ..good },
                ColumnSlices { nulls: 10, validity: &[0, 0], ..good },
            ];
            if nulls {
                bad.extend([ColumnSlices { nulls: 0, ..good }, ColumnSlices { validity: &[], ..good }]);
            }
            for (index, bad) in bad.into_iter().enumerate() {
                assert!(!takes(&schema, 9, &[bad]), "{data_type}, {nulls}: {index}");
            }
            for rows in [0, 17, usize::MAX, usize::MAX / 2 + 1, 1 << 61, 1 << 62] {
                assert!(!takes(&schema, rows, &[good]), "{data_type}, {nulls}: {rows} rows");
            }
        }
        let nothing = ColumnSlices { nulls: 0, validity: &[], values: &[], data: &[] };
        for rows in [usize::MAX, usize::MAX / 2 + 1, 1 << 60, 1 << 61, 1 << 62] {
            assert!(!takes(&schema, rows, &[nothing]), "{data_type}: {rows} rows of nothing");
        }
    }
}

#[test]
fn another_number_of_columns_is_refused() {
    let schema = schema(&[DataType::Int64, DataType::Utf8]);
    let batch = batch(&schema, 3, false);
    let columns = all_slices(&batch);
    assert!(takes(&schema, 3, &columns));
    assert!(!takes(&schema, 3, &[]));
    assert!(!takes(&schema, 3, &columns[..1]));
    assert!(!takes(&schema, 3, &[&columns[..], &columns[1..]].concat()));
    assert!(!takes(&schema, 3, &[columns[1], columns[0]]), "in another order");
}

#[test]
fn nulls_where_the_schema_promises_none_are_refused() {
    for data_type in types() {
        let nullable = schema(std::slice::from_ref(&data_type));
        let batch = batch(&nullable, 9, true);
        assert!(takes(&nullable, 9, &all_slices(&batch)), "{data_type}");
        let mut encoder = PlainEncoder::new(&without_nulls(&nullable), COPY_BYTES_MAX).expect("plain");
        assert!(encoder.encode_slices(9, &all_slices(&batch)).is_none(), "{data_type}");
    }
}

#[test]
fn offsets_that_do_not_begin_at_the_beginning_or_end_elsewhere_than_the_data_are_refused() {
    for (data_type, width) in [(DataType::Utf8, 4), (DataType::Binary, 4), (DataType::LargeUtf8, 8), (DataType::LargeBinary, 8)] {
        let schema = schema(std::slice::from_ref(&data_type));
        let takes = |offsets: &[i64], data: &[u8]| {
            let values: Vec<u8> = offsets.iter().flat_map(|offset| offset.to_le_bytes()[..width].to_vec()).collect();
            takes(&schema, offsets.len() - 1, &[ColumnSlices { nulls: 0, validity: &[], values: &values, data }])
        };
        assert!(takes(&[0, 2, 5], b"hello"), "{data_type}");
        assert!(takes(&[0], b""), "{data_type}");
        for (offsets, data) in [(&[1, 2, 5][..], b"hello"), (&[0, 2, 6], b"hello"), (&[0, 2, 4], b"hello"), (&[0, 2, -5], b"hello")] {
            assert!(!takes(offsets, data), "{data_type}: {offsets:?}");
        }
        assert!(!takes(&[5], b"hello"), "{data_type}");
    }
}

#[test]
fn a_body_that_is_not_small_is_refused_and_one_of_the_limit_is_not() {
    let schema = schema(&[DataType::Int64]);
    for (rows, is_small) in [(COPY_BYTES_MAX / 8, true), (COPY_BYTES_MAX / 8 + 1, false)] {
        assert_eq!(takes(&schema, rows, &all_slices(&batch(&schema, rows, false))), is_small, "{rows}");
    }
}
