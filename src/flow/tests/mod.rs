//! Flows against a plain model: random rows, out of order, with crashes at any point.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use datafusion_common::arrow::array::{ArrayRef, AsArray as _, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use datafusion_common::arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMillisecondType};
use proptest::prelude::*;

use super::*;

mod firings;
mod joins;
mod numbers;
mod reductions;
mod windows;

const NOW: Duration = Duration::ZERO;
const LATENESS: i64 = 50;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Utf8, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("x", DataType::Int64, true),
    ]))
}

/// A key, a time in milliseconds, a value.
type Row = (Option<u8>, Option<i64>, Option<i64>);

fn batch(rows: &[Row]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.0.map(|key| format!("key {key}"))).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| row.1).collect::<TimestampMillisecondArray>()),
        Arc::new(rows.iter().map(|row| row.2).collect::<Int64Array>()),
    ];
    RecordBatch::try_new(schema(), columns).expect("of the schema")
}

fn millis(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).expect("positive"))
}

fn spec(window: Window) -> AggregationSpec {
    AggregationSpec {
        keys: vec!["key".to_owned()],
        results: vec!["count(*) AS n".to_owned(), "sum(x) AS total".to_owned(), "max(x) - min(x) AS spread".to_owned()],
        reduction: None,
        window,
        firings: Firings::default(),
        time: Some(EventTime { column: "at".to_owned(), lateness: millis(LATENESS), idle: None }),
    }
}

#[derive(Debug, Clone, Copy)]
enum Then {
    GoOn,
    Save,
    Crash,
}

fn batches(partitions: u32) -> impl Strategy<Value = Vec<(u32, Vec<Row>)>> {
    // Mostly forward in time, in a band that is wider than the lateness.
    let row = (prop::option::weighted(0.9, 0..4_u8), prop::option::weighted(0.98, 0..120_i64), prop::option::weighted(0.9, -9..9_i64));
    let batches = prop::collection::vec((0..partitions, prop::collection::vec(row, 0..12)), 0..30);
    batches.prop_map(|batches| {
        let later = |(index, (partition, rows)): (usize, (u32, Vec<Row>))| {
            let begin = i64::try_from(index).expect("few") * 20 - 100;
            (partition, rows.into_iter().map(|(key, time, x)| (key, time.map(|time| time + begin), x)).collect())
        };
        batches.into_iter().enumerate().map(later).collect()
    })
}

/// What an input's partition gives.
struct Arrival {
    input: usize,
    partition: u32,
    batch: RecordBatch,
}

/// Runs a flow over batches, and after each does what `then` says. Gives the results and how many rows were late.
fn run(arrivals: &[Arrival], then: &[Then], open: impl Fn() -> (State, Option<Saved>)) -> (Vec<RecordBatch>, u64) {
    // What has gone out, by epoch: the same again changes nothing.
    let mut out: BTreeMap<u64, Vec<RecordBatch>> = BTreeMap::new();
    let mut send = |saved: &Saved| {
        let results = saved.outputs.iter().map(|(_, batch)| batch.clone()).collect();
        if let Some(before) = out.insert(saved.epoch, results) {
            assert_eq!(before, out[&saved.epoch], "epoch {}", saved.epoch);
        }
    };
    let (mut flow, saved) = open();
    assert_eq!(saved, None);
    let mut epoch = 0;
    let save = |flow: &mut State, results: Vec<RecordBatch>, next: usize, epoch: &mut u64| {
        *epoch += 1;
        let outputs = results.into_iter().map(|batch| ("out".to_owned(), batch)).collect();
        let saved = Saved { identity: "it".to_owned(), epoch: *epoch, offsets: [(0, next as u64)].into(), outputs };
        flow.save(&saved).expect("is saved");
        saved
    };
    let mut index = 0;
    let mut crashes = 0;
    while index < arrivals.len() {
        let Arrival { input, partition, batch } = &arrivals[index];
        flow.push(*input, *partition, batch, NOW).expect("is taken");
        index += 1;
        match then.get(index + crashes).copied().unwrap_or(Then::GoOn) {
            Then::GoOn => {}
            Then::Save => {
                let results = flow.fire(NOW).expect("has results");
                // It may end before what was saved is out.
                let saved = save(&mut flow, results, index, &mut epoch);
                if index % 2 == 0 {
                    send(&saved);
                }
            }
            Then::Crash => {
                crashes += 1;
                drop(flow);
                let saved;
                (flow, saved) = open();
                let saved = saved.unwrap_or_default();
                send(&saved);
                (epoch, index) = (saved.epoch, usize::try_from(saved.offsets.get(&0).copied().unwrap_or(0)).expect("few"));
            }
        }
        // What was saved and not sent is sent before the next is saved.
        if let Then::Save = then.get(index + crashes).copied().unwrap_or(Then::GoOn) {
            drop(flow);
            let saved;
            (flow, saved) = open();
            if let Some(saved) = saved {
                send(&saved);
                index = usize::try_from(saved.offsets[&0]).expect("few");
            }
        }
    }
    let results = flow.finish().expect("has results");
    send(&save(&mut flow, results, index, &mut epoch));
    (out.into_values().flatten().collect(), flow.late_rows())
}

fn whatever_happens() -> impl Strategy<Value = Vec<Then>> {
    prop::collection::vec(prop_oneof![3 => Just(Then::GoOn), 2 => Just(Then::Save), 1 => Just(Then::Crash)], 0..40)
}

fn input(partitions: &[u32]) -> Input {
    Input { schema: schema(), partitions: partitions.to_vec() }
}

fn in_memory(spec: &AggregationSpec) -> Result<State, FlowError> {
    State::open(&[input(&[0])], Some(&OperatorSpec::Aggregation(spec.clone())), "a flow", None, 64 << 20, NOW).map(|(flow, _)| flow)
}

#[test]
fn totals_say_what_has_changed() {
    let spec = AggregationSpec { time: None, ..spec(Window::All) };
    let mut flow = in_memory(&spec).expect("opens");
    let mut seen = Vec::new();
    for round in 0..30_i64 {
        let key = u8::try_from(round % 3).expect("small");
        flow.push(0, 0, &batch(&[(Some(key), None, Some(round)), (Some(9), None, Some(1))]), NOW).expect("is taken");
        let results = flow.fire(NOW).expect("has results");
        let [results] = &results[..] else { panic!("{results:?}") };
        let names: BTreeSet<_> = results.column(0).as_string::<i32>().iter().flatten().map(str::to_owned).collect();
        assert_eq!(names, BTreeSet::from([format!("key {key}"), "key 9".to_owned()]));
        let nine = results.column(0).as_string::<i32>().iter().position(|name| name == Some("key 9")).expect("is there");
        seen.push(results.column(1).as_primitive::<Int64Type>().value(nine));
    }
    assert_eq!(seen, (1..=30).collect::<Vec<_>>());
    assert!(flow.fire(NOW).expect("nothing").is_empty());
}

#[test]
fn without_keys_all_rows_are_one_group() {
    let spec = AggregationSpec { keys: Vec::new(), ..spec(Window::Tumbling { size: millis(100) }) };
    let mut flow = in_memory(&spec).expect("opens");
    flow.push(0, 0, &batch(&[(None, Some(5), Some(1)), (Some(1), Some(7), Some(2)), (None, Some(205), None)]), NOW).expect("is taken");
    let results = flow.finish().expect("has results");
    let counts: Vec<i64> = results.iter().flat_map(|batch| batch.column(2).as_primitive::<Int64Type>().values().to_vec()).collect();
    assert_eq!(counts, [2, 1]);
}

#[test]
fn keys_are_of_several_columns() {
    for window in [Window::Tumbling { size: millis(100) }, Window::Session { gap: millis(100) }, Window::All] {
        let directory = tempfile::tempdir().expect("a folder");
        let spec = OperatorSpec::Aggregation(AggregationSpec { keys: vec!["key".to_owned(), "x".to_owned()], ..spec(window) });
        let (mut flow, _) = State::open(&[input(&[0])], Some(&spec), "a flow", Some(directory.path()), 64 << 20, NOW).expect("opens");
        let mut results = Vec::new();
        for epoch in 1..=5 {
            flow.push(0, 0, &batch(&[(Some(1), Some(5), Some(1)), (Some(1), Some(5), Some(2)), (None, Some(7), None)]), NOW)
                .expect("is taken");
            results = flow.fire(NOW).expect("has results");
            flow.save(&Saved { epoch, ..Saved::default() }).expect("is saved");
        }
        results.extend(flow.finish().expect("has results"));
        let columns = results[0].num_columns();
        let counts = |batch: &RecordBatch| batch.column(columns - 3).as_primitive::<Int64Type>().values().to_vec();
        assert_eq!(results.iter().flat_map(counts).collect::<Vec<_>>(), [5, 5, 5], "{window:?}");
    }
}

#[test]
fn parts_that_do_not_fit_in_memory_are_merged_too() {
    let directory = tempfile::tempdir().expect("a folder");
    for window in [Window::All, Window::Tumbling { size: Duration::from_secs(100) }] {
        let directory = directory.path().join(format!("{window:?}").split(' ').next().expect("a name"));
        let spec = OperatorSpec::Aggregation(AggregationSpec {
            keys: vec!["x".to_owned()],
            results: vec!["count(*) AS n".to_owned()],
            ..spec(window)
        });
        // So little that the groups of all keys are several shares.
        let open = || State::open(&[input(&[0])], Some(&spec), "a flow", Some(&directory), 16 << 10, NOW).expect("opens");
        let rows: Vec<Row> = (0..400).map(|x| (None, Some(5), Some(x))).collect();
        let mut parts = 0;
        let (mut flow, _) = open();
        for epoch in 1..=60 {
            flow.push(0, 0, &batch(&rows), NOW).expect("is taken");
            flow.fire(NOW).expect("has results");
            flow.save(&Saved { epoch, ..Saved::default() }).expect("is saved");
            parts = parts.max(flow.parts());
        }
        assert!(parts < 40, "{parts} parts of {window:?}");
        flow.push(0, 0, &batch(&rows), NOW).expect("is taken");
        let results = flow.finish().expect("has results");
        let counts: Vec<i64> =
            results.iter().flat_map(|batch| batch.column(batch.num_columns() - 1).as_primitive::<Int64Type>().values().to_vec()).collect();
        assert_eq!(counts, [61; 400], "{window:?}");
    }
}

#[test]
fn a_batch_of_other_columns_is_refused() {
    let mut flow = in_memory(&spec(Window::Tumbling { size: millis(100) })).expect("opens");
    let other = batch(&[(Some(1), Some(5), Some(1))]).project(&[0, 2, 1]).expect("has them");
    let error = flow.push(0, 0, &other, NOW).expect_err("is of another schema");
    assert!(error.to_string().contains("a batch of key: Utf8, x: Int64, at: "), "{error}");
    assert_eq!(error.code(), Code::QueryFailed);
    let rows = Rows::new(&schema(), &[RowStep::Filter("x > 1".to_owned())]).expect("is planned");
    assert!(rows.run(&other).is_err());
}

#[test]
fn late_rows_say_how_late_they_are() {
    let mut flow = in_memory(&spec(Window::Tumbling { size: millis(10) })).expect("opens");
    flow.push(0, 0, &batch(&[(Some(1), Some(1000), None)]), NOW).expect("is taken");
    flow.push(0, 0, &batch(&[(Some(1), Some(940), Some(7)), (Some(1), Some(939), Some(8)), (Some(2), None, Some(9))]), NOW)
        .expect("is taken");
    let late = flow.take_late();
    let [late] = &late[..] else { panic!("{late:?}") };
    assert_eq!(late.schema().field(3).name(), "late_by_micros");
    assert_eq!(late.column(3).as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(10_000), Some(11_000), None]);
    assert_eq!(flow.late_rows(), 3);
    assert_eq!(flow.watermark_micros(), Some(950_000));
    assert!(flow.take_late().is_empty());
}

#[test]
fn what_cannot_be_is_said_before_the_first_row() {
    let check = |spec: AggregationSpec, expected: &str| {
        let error = in_memory(&spec).expect_err(expected);
        assert!(error.to_string().contains(expected), "{error} has no {expected}");
        assert_eq!(error.code(), Code::InvalidArgument);
    };
    let good = spec(Window::Tumbling { size: millis(10) });
    let with = |keys: &[&str], results: &[&str]| AggregationSpec {
        keys: keys.iter().map(|&key| key.to_owned()).collect(),
        results: results.iter().map(|&result| result.to_owned()).collect(),
        ..good.clone()
    };
    check(with(&["kye"], &["count(*)"]), "kye");
    check(with(&["key"], &["sum(key)"]), "sum");
    check(with(&["key"], &["x"]), "x");
    check(with(&["key"], &[]), "without results");
    check(with(&["key"], &["count(*) AS n", "sum(x) AS n"]), "n");
    check(with(&["key"], &["count(*) AS window_end"]), "same name");
    check(with(&["key"], &["first_value(x)"]), "first_value depends on the order");
    check(with(&["key"], &["bit_xor(DISTINCT x)"]), "of distinct values there are");
    check(with(&["key"], &["sum(x ORDER BY at)"]), "ORDER BY");
    check(with(&["key"], &["count(*) FROM key; DROP"]), "FROM");
    check(with(&["random()"], &["count(*)"]), "random gives something else each time");
    check(AggregationSpec { time: None, ..good.clone() }, "event time");
    check(AggregationSpec { window: Window::Tumbling { size: Duration::from_micros(5) }, ..good.clone() }, "units");
    check(AggregationSpec { window: Window::Tumbling { size: Duration::ZERO }, ..good.clone() }, "0");
    check(AggregationSpec { window: Window::Sliding { size: Duration::from_secs(100), slide: millis(1) }, ..good.clone() }, "10000");
    let column = |column: &str| EventTime { column: column.to_owned(), lateness: NOW, idle: None };
    check(AggregationSpec { time: Some(column("then")), ..good.clone() }, "then");
    check(AggregationSpec { time: Some(column("x")), ..good }, "timestamp");
}

#[test]
fn a_state_is_of_one_flow_and_one_process() {
    let directory = tempfile::tempdir().expect("a folder");
    let spec = OperatorSpec::Aggregation(spec(Window::Tumbling { size: millis(10) }));
    let open = |flow: &str| State::open(&[input(&[0])], Some(&spec), flow, Some(directory.path()), 64 << 20, NOW);
    let (mut first, saved) = open("count by key").expect("opens");
    assert_eq!(saved, None);
    assert!(open("count by key").expect_err("is open").to_string().contains("another flow has it open"));
    let saved = Saved {
        identity: "it".to_owned(),
        epoch: 1,
        offsets: [(0, 7)].into(),
        outputs: vec![("out".to_owned(), batch(&[(Some(1), Some(2), Some(3))]))],
    };
    first.save(&saved).expect("is saved");
    drop(first);
    let error = open("count by page").expect_err("is another");
    assert!(
        error.to_string().contains("has count by key with a state of") && error.to_string().contains("this one has count by page with"),
        "{error}"
    );
    assert_eq!(error.code(), Code::Storage);
    assert_eq!(open("count by key").expect("opens").1, Some(saved));
}

#[test]
fn a_state_without_a_directory_is_bounded() {
    let spec = OperatorSpec::Aggregation(spec(Window::Tumbling { size: millis(10) }));
    let (mut flow, _) = State::open(&[input(&[0])], Some(&spec), "a flow", None, 1, NOW).expect("opens");
    flow.push(0, 0, &batch(&[(Some(1), Some(2), Some(3))]), NOW).expect("is taken");
    assert!(flow.is_full());
    let error = flow.save(&Saved::default()).expect_err("is too large");
    assert!(error.to_string().contains("give it a directory"), "{error}");
}

#[test]
fn rows_are_filtered_and_computed() {
    let steps = [
        RowStep::Filter("x > 1".to_owned()),
        RowStep::Select(vec!["*".to_owned(), "upper(key) AS name".to_owned(), "x * 2".to_owned()]),
        RowStep::Filter("name <> 'KEY 3'".to_owned()),
    ];
    let rows = Rows::new(&schema(), &steps).expect("is planned");
    let names: Vec<&str> = rows.schema().fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["key", "at", "x", "name", "x * 2"]);
    let given = [(Some(1), None, Some(1)), (Some(2), None, Some(2)), (Some(3), None, Some(3)), (None, None, None)];
    let results = rows.run(&batch(&given)).expect("has results");
    assert_eq!(results.column(4).as_primitive::<Int64Type>().values(), &[4]);
    let refused = |step: RowStep| Rows::new(&schema(), &[step]).expect_err("is refused").to_string();
    assert!(refused(RowStep::Filter("nobody = 1".to_owned())).contains("nobody"));
    assert!(refused(RowStep::Filter("x".to_owned())).contains('x'));
    assert!(refused(RowStep::Select(vec!["count(*)".to_owned()])).contains("count"));
    let failing = Rows::new(&schema(), &[RowStep::Select(vec!["1 / x AS y".to_owned()])]).expect("is planned");
    let error = failing.run(&batch(&[(None, None, Some(0))])).expect_err("has no value");
    assert_eq!(error.code(), Code::QueryFailed);
}
