//! Files go into a stream and come out of it with the same rows.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float64Array, Int64Array, ListArray, RecordBatch, StringArray,
    StructArray, TimestampMicrosecondArray, UInt32Array, UInt64Array,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int32Type, SchemaRef};
use arrow::ipc::reader::{FileReader, StreamReader};
use arrow::ipc::writer::{FileWriter, StreamWriter};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::arg;
use super::coordinator::Coordinator;

const ROWS: u32 = 1000;

#[test]
fn every_format_comes_back_row_by_row() {
    let coordinator = Coordinator::start();
    let folder = tempfile::tempdir().unwrap();
    for (extension, rows) in
        [("parquet", rich_rows()), ("arrow", rich_rows()), ("arrows", rich_rows()), ("csv", plain_rows()), ("jsonl", plain_rows())]
    {
        let (sent, got) = (folder.path().join(format!("sent.{extension}")), folder.path().join(format!("got.{extension}")));
        write(&sent, &rows);
        let said = coordinator.run(&["put", extension, arg(&sent), "--batch-rows", "300", "--complete"]).done();
        assert!(said.contains("1,000 rows in 4 batches") && said.contains("complete"), "{said}");
        coordinator.run(&["get", extension, "-o", arg(&got)]).done();
        assert_eq!(read(&got, &rows.schema()), rows, "{extension}");
    }
}

#[test]
fn one_format_goes_in_and_another_comes_out() {
    let coordinator = Coordinator::start();
    let folder = tempfile::tempdir().unwrap();
    let (sent, got) = (folder.path().join("sent.parquet"), folder.path().join("got.csv"));
    let rows = plain_rows();
    write(&sent, &rows);
    coordinator.run(&["put", "mixed", arg(&sent)]).done();
    coordinator.run(&["get", "mixed", "-o", arg(&got)]).done();
    assert_eq!(read(&got, &rows.schema()), rows);
}

#[test]
fn pipes_work_on_both_ends() {
    let coordinator = Coordinator::start();
    let lines = "{\"word\":\"a\",\"n\":1}\n{\"word\":\"b\",\"n\":2}\n{\"word\":null,\"n\":3}\n";
    coordinator.run_with(&["put", "piped", "-", "--format", "json"], Some(lines.as_bytes())).done();
    assert_eq!(coordinator.run(&["get", "piped"]).done(), lines, "JSON lines are the default where stdout is no terminal");
    assert_eq!(coordinator.run(&["get", "piped", "--format", "csv"]).done(), "word,n\na,1\nb,2\n,3\n");
    let table = coordinator.run(&["get", "piped", "--format", "table"]).done();
    assert!(table.contains("| word | n |") && table.contains("| b    | 2 |"), "{table}");
}

#[test]
fn binary_formats_come_through_pipes_too() {
    let coordinator = Coordinator::start();
    let folder = tempfile::tempdir().unwrap();
    let rows = rich_rows();
    for (extension, format) in [("parquet", "parquet"), ("arrow", "arrow"), ("arrows", "arrow-stream")] {
        let sent = folder.path().join(format!("sent.{extension}"));
        write(&sent, &rows);
        coordinator.run_with(&["put", format, "-", "--format", format], Some(&std::fs::read(&sent).unwrap())).done();
        let got = folder.path().join(format!("got.{extension}"));
        let mut get = coordinator.command(&["get", format, "--format", format]);
        assert!(get.stdout(File::create(&got).unwrap()).status().unwrap().success());
        assert_eq!(read(&got, &rows.schema()), rows, "{format}");
    }
}

#[test]
fn text_that_comes_later_is_read_with_the_streams_types() {
    let coordinator = Coordinator::start();
    // Alone, the second file's columns would be integers.
    coordinator.run_with(&["put", "typed", "-", "--format", "csv"], Some(b"x,s\n1.5,one\n")).done();
    coordinator.run_with(&["put", "typed", "-", "--format", "csv", "--null", "NA"], Some(b"x,s\n2,2\nNA,3\n")).done();
    coordinator.run_with(&["put", "typed", "-", "--format", "json"], Some(b"{\"s\":\"4\",\"x\":4}\n")).done();
    assert_eq!(coordinator.run(&["get", "typed", "--format", "csv"]).done(), "x,s\n1.5,one\n2.0,2\n,3\n4.0,4\n");
}

#[test]
fn rows_know_where_they_came_from() {
    let coordinator = Coordinator::start();
    coordinator.run(&["stream", "create", "spread", "--partitions", "2"]).done();
    coordinator.run_with(&["put", "spread", "-", "--format", "csv", "--partition", "1", "--batch-rows", "2"], Some(b"n\n1\n2\n3\n")).done();
    let said = coordinator.run(&["get", "spread", "--with-offsets", "--partitions", "1"]).done();
    let line = |n, offset| format!("{{\"n\":{n},\"_partition\":1,\"_offset\":{offset},\"_epoch\":null}}\n");
    assert_eq!(said, [line(1, 0), line(2, 0), line(3, 1)].concat());
    assert_eq!(coordinator.run(&["get", "spread", "--from", "1:1"]).done(), "{\"n\":3}\n");
    assert_eq!(coordinator.run(&["get", "spread", "--limit", "1"]).done(), "{\"n\":1}\n");
    assert_eq!(coordinator.run(&["get", "spread", "--partitions", "0"]).done(), "");
}

/// Types that text formats carry without loss.
fn plain_rows() -> RecordBatch {
    let n: ArrayRef = Arc::new(Int64Array::from_iter((0..i64::from(ROWS)).map(|n| (n % 7 != 0).then_some(n))));
    let x: ArrayRef = Arc::new(Float64Array::from_iter((0..ROWS).map(|n| (n % 5 != 0).then(|| f64::from(n) / 8.0))));
    let s: ArrayRef =
        Arc::new(StringArray::from_iter((0..ROWS).map(|n| (n % 3 != 0).then(|| format!("a \"quoted\", text {n}\nwith a break")))));
    let b: ArrayRef = Arc::new(BooleanArray::from_iter((0..ROWS).map(|n| (n % 4 != 0).then_some(n % 2 == 0))));
    RecordBatch::try_from_iter_with_nullable([("n", n, true), ("x", x, true), ("s", s, true), ("b", b, true)]).unwrap()
}

/// Types that only Arrow and Parquet carry.
fn rich_rows() -> RecordBatch {
    let plain = plain_rows();
    let date: ArrayRef = Arc::new(Date32Array::from_iter_values(0..ROWS.cast_signed()));
    let time: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(0..i64::from(ROWS)).with_timezone("UTC"));
    let money: ArrayRef = Arc::new(Decimal128Array::from_iter_values(0..i128::from(ROWS)).with_precision_and_scale(20, 4).unwrap());
    let word: ArrayRef = Arc::new((0..ROWS).map(|n| ["red", "green", "blue"][n as usize % 3]).collect::<DictionaryArray<Int32Type>>());
    let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(
        (0..ROWS.cast_signed()).map(|n| (n % 6 != 0).then(|| vec![Some(n), None])),
    ));
    let inner: ArrayRef = Arc::new(UInt64Array::from_iter_values(0..u64::from(ROWS)));
    let nested: ArrayRef = Arc::new(StructArray::from(vec![(Arc::new(Field::new("inner", DataType::UInt64, false)), inner)]));
    let small: ArrayRef = Arc::new(UInt32Array::from_iter_values(0..ROWS));
    let more = [("date", date), ("time", time), ("money", money), ("word", word), ("list", list), ("nested", nested), ("small", small)];
    let plain_columns = ["n", "x", "s", "b"].into_iter().zip(plain.columns().iter().cloned());
    RecordBatch::try_from_iter_with_nullable(plain_columns.chain(more).map(|(name, column)| (name, column, true))).unwrap()
}

fn write(path: &Path, rows: &RecordBatch) {
    let file = File::create(path).unwrap();
    match path.extension().unwrap().to_str().unwrap() {
        "parquet" => {
            let mut writer = ArrowWriter::try_new(file, rows.schema(), None).unwrap();
            writer.write(rows).unwrap();
            writer.close().unwrap();
        }
        "arrow" => {
            let mut writer = FileWriter::try_new(file, &rows.schema()).unwrap();
            writer.write(rows).unwrap();
            writer.finish().unwrap();
        }
        "arrows" => {
            let mut writer = StreamWriter::try_new(file, &rows.schema()).unwrap();
            writer.write(rows).unwrap();
            writer.finish().unwrap();
        }
        "csv" => arrow::csv::Writer::new(file).write(rows).unwrap(),
        "jsonl" => arrow::json::LineDelimitedWriter::new(file).write(rows).unwrap(),
        other => panic!("{other}"),
    }
}

fn read(path: &Path, schema: &SchemaRef) -> RecordBatch {
    let file = BufReader::new(File::open(path).unwrap());
    let batches: Vec<RecordBatch> = match path.extension().unwrap().to_str().unwrap() {
        "parquet" => ParquetRecordBatchReaderBuilder::try_new(file.into_inner()).unwrap().build().unwrap().map(Result::unwrap).collect(),
        "arrow" => FileReader::try_new(file, None).unwrap().map(Result::unwrap).collect(),
        "arrows" => StreamReader::try_new(file, None).unwrap().map(Result::unwrap).collect(),
        "csv" => {
            let reader = arrow::csv::ReaderBuilder::new(schema.clone()).with_header(true).with_header_validation(true);
            reader.build(file).unwrap().map(Result::unwrap).collect()
        }
        "jsonl" => arrow::json::ReaderBuilder::new(schema.clone()).build(file).unwrap().map(Result::unwrap).collect(),
        other => panic!("{other}"),
    };
    concat_batches(schema, &batches).unwrap()
}

#[test]
fn what_goes_into_a_parquet_file_is_acked_at_its_end() {
    let coordinator = Coordinator::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.parquet");
    coordinator.run_with(&["put", "s", "-", "--format", "csv", "--batch-rows", "1"], Some(b"n\n1\n2\n3\n")).done();
    coordinator.run(&["get", "s", "--subscription", "copy", "--ack", "-o", arg(&path)]).done();
    assert_eq!(coordinator.run(&["get", "s", "--subscription", "copy"]).done(), "");
    coordinator.run(&["put", "again", arg(&path)]).done();
    assert_eq!(coordinator.run(&["get", "again", "--format", "csv"]).done(), "n\n1\n2\n3\n");
}
