//! Arrow streams in order, of every kind of layout, plain and compressed, for the mutations to begin from.

use std::sync::Arc;

use arrow::array::types::{Int32Type, Int64Type};
use arrow::array::{
    Array, ArrayRef, BinaryViewArray, BooleanArray, Decimal128Array, DictionaryArray, FixedSizeListArray, Int32Array, Int64Array,
    Int64RunArray, LargeStringArray, ListArray, MapBuilder, NullArray, RecordBatch, StringArray, StringBuilder, StringViewArray,
    StructArray, UnionArray,
};
use arrow::array::{Int32Builder, ListViewArray};
use arrow::datatypes::{DataType, Field, Schema, UnionFields};
use arrow_ipc::writer::{DictionaryHandling, IpcWriteOptions, StreamWriter};
use arrow_ipc::{CompressionType, MetadataVersion};

use crate::corpus::{Input, from_stream};

fn stream(batches: &[RecordBatch], codec: Option<CompressionType>, version: MetadataVersion) -> Input {
    let alignment = if codec.is_some() { 64 } else { 8 };
    let options = IpcWriteOptions::try_new(alignment, false, version).unwrap().try_with_compression(codec).unwrap();
    let options = options.with_dictionary_handling(DictionaryHandling::Delta);
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &batches[0].schema(), options).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    from_stream(&writer.into_inner().unwrap())
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

fn plain() -> RecordBatch {
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]));
    batch(vec![
        ("numbers", numbers.clone()),
        ("texts", Arc::new(StringArray::from(vec!["x", "yy", "zzz"]))),
        ("large", Arc::new(LargeStringArray::from(vec![None, Some("a"), Some("bc")]))),
        ("flags", Arc::new(BooleanArray::from(vec![true, false, true]))),
        ("money", Arc::new(Decimal128Array::from(vec![1, 2, 3]))),
        ("nothing", Arc::new(NullArray::new(3))),
        ("struct", Arc::new(StructArray::from(vec![(Arc::new(Field::new("n", DataType::Int64, true)), numbers)]))),
    ])
}

fn lists() -> RecordBatch {
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
    let fixed =
        FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), Some(2)]), None, Some(vec![None, Some(3)])], 2);
    let view = ListViewArray::from(list.clone());
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    for (index, key) in ["a", "b", "c"].into_iter().enumerate() {
        map.keys().append_value(key);
        map.values().append_value(i32::try_from(index).unwrap());
        map.append(true).unwrap();
    }
    let nested: ArrayRef = Arc::new(list);
    let texts = ListArray::new(
        Arc::new(Field::new("item", DataType::Utf8, true)),
        arrow::buffer::OffsetBuffer::new(vec![0, 1, 1, 2].into()),
        Arc::new(StringArray::from(vec!["one", "two"])),
        None,
    );
    batch(vec![
        ("list", nested),
        ("fixed", Arc::new(fixed)),
        ("view", Arc::new(view)),
        ("map", Arc::new(map.finish())),
        ("texts", Arc::new(texts)),
    ])
}

fn others() -> RecordBatch {
    let fields =
        UnionFields::try_new(vec![0, 1], vec![Field::new("a", DataType::Int32, true), Field::new("b", DataType::Utf8, true)]).unwrap();
    let children = |b: Vec<&str>, a: Vec<i32>| -> Vec<ArrayRef> { vec![Arc::new(Int32Array::from(a)), Arc::new(StringArray::from(b))] };
    let dense =
        UnionArray::try_new(fields.clone(), vec![0, 1, 0].into(), Some(vec![0, 0, 1].into()), children(vec!["x"], vec![7, 8])).unwrap();
    let sparse = UnionArray::try_new(fields, vec![0, 1, 0].into(), None, children(vec!["x", "y", "z"], vec![7, 8, 9])).unwrap();
    let runs = Int64RunArray::try_new(&Int64Array::from(vec![1, 3]), &StringArray::from(vec!["a", "b"])).unwrap();
    batch(vec![
        ("dense", Arc::new(dense)),
        ("sparse", Arc::new(sparse)),
        ("runs", Arc::new(runs)),
        ("views", Arc::new(StringViewArray::from(vec!["short", "a text that is longer than twelve bytes", ""]))),
        ("bytes", Arc::new(BinaryViewArray::from(vec![Some(b"0123456789abcdef".as_slice()), None, Some(b"x")]))),
    ])
}

fn dictionaries() -> Vec<RecordBatch> {
    let words = |words: &[&str]| -> DictionaryArray<Int32Type> { words.iter().copied().collect() };
    let nested = |words_of: &[&str]| -> ArrayRef {
        let inner = words(words_of);
        let field = Arc::new(Field::new("inner", inner.data_type().clone(), true));
        let values: ArrayRef = Arc::new(StructArray::from(vec![(field, Arc::new(inner) as ArrayRef)]));
        Arc::new(DictionaryArray::<Int32Type>::try_new(Int32Array::from(vec![1, 0, 1]), values).unwrap())
    };
    vec![
        batch(vec![("words", Arc::new(words(&["a", "b", "a"]))), ("nested", nested(&["x", "y"]))]),
        batch(vec![("words", Arc::new(words(&["a", "b", "c"]))), ("nested", nested(&["x", "y"]))]),
        batch(vec![("words", Arc::new(words(&["z", "z", "z"]))), ("nested", nested(&["q", "y"]))]),
    ]
}

fn delta() -> Vec<RecordBatch> {
    let words = |words: &[&str]| -> DictionaryArray<Int32Type> { words.iter().copied().collect() };
    [["a", "b"], ["a", "b"], ["z", "y"]].iter().map(|two| batch(vec![("words", Arc::new(words(two)))])).collect()
}

fn even() -> RecordBatch {
    batch(vec![("zeros", Arc::new(Int64Array::from(vec![7; 500]))), ("texts", Arc::new(StringArray::from(vec![""; 500])))])
}

pub(crate) fn seeds() -> Vec<Input> {
    let mut seeds = vec![
        stream(&[plain(), plain().slice(1, 1), plain().slice(0, 0)], None, MetadataVersion::V5),
        stream(&[lists()], None, MetadataVersion::V5),
        stream(&[others()], None, MetadataVersion::V5),
        stream(&dictionaries(), None, MetadataVersion::V5),
        stream(&delta(), None, MetadataVersion::V5),
        stream(&[plain()], None, MetadataVersion::V4),
        // Of run ends, which V4 does not know, arrow-rs writes one buffer more than it reads.
        stream(&[others().project(&[0, 1, 3, 4]).unwrap()], None, MetadataVersion::V4),
    ];
    for codec in [CompressionType::LZ4_FRAME, CompressionType::ZSTD] {
        for batches in [vec![even(), even()], vec![plain()], vec![lists()], delta()] {
            seeds.push(stream(&batches, Some(codec), MetadataVersion::V5));
        }
    }
    seeds
}

pub(crate) fn schemas() -> Vec<Input> {
    let wide =
        Schema::new((0..300).map(|number| Field::new(format!("column {number}"), DataType::Int32, number % 2 == 0)).collect::<Vec<_>>());
    let with_metadata = wide.with_metadata(std::collections::HashMap::from([("pandas".to_owned(), "{}".repeat(500))]));
    let mut seeds: Vec<Input> = seeds().into_iter().map(|input| vec![input[0].clone()]).collect();
    seeds.push(vec![bowstring::wire::schema::StreamSchema::from_arrow(&with_metadata).unwrap().header().to_vec()]);
    seeds.push(vec![shared_text(400, 8 << 10)]);
    seeds
}

/// A schema whose fields all have one text as their name: the header has it once.
pub(crate) fn shared_text(fields: usize, bytes: usize) -> Vec<u8> {
    let mut builder = flatbuffers::FlatBufferBuilder::new();
    let name = builder.create_string(&"n".repeat(bytes));
    let null = arrow_ipc::Null::create(&mut builder, &arrow_ipc::NullArgs {});
    let args = arrow_ipc::FieldArgs {
        name: Some(name),
        nullable: true,
        type_type: arrow_ipc::Type::Null,
        type_: Some(null.as_union_value()),
        ..Default::default()
    };
    let field = arrow_ipc::Field::create(&mut builder, &args);
    let fields = builder.create_vector(&vec![field; fields]);
    let schema = arrow_ipc::Schema::create(&mut builder, &arrow_ipc::SchemaArgs { fields: Some(fields), ..Default::default() });
    let args = arrow_ipc::MessageArgs {
        version: MetadataVersion::V5,
        header_type: arrow_ipc::MessageHeader::Schema,
        header: Some(schema.as_union_value()),
        ..Default::default()
    };
    let message = arrow_ipc::Message::create(&mut builder, &args);
    builder.finish(message, None);
    builder.finished_data().to_vec()
}
