//! Joins against a plain loop over all pairs of rows.

use datafusion_common::arrow::array::Float64Array;
use datafusion_common::arrow::compute::cast;

use super::*;

const BOUNDS: (i64, i64) = (-15, 40);

fn join(on: &[(&str, &str)]) -> JoinSpec {
    let time = EventTime { column: "at".to_owned(), lateness: millis(LATENESS), idle: None };
    let on = on.iter().map(|(left, right)| ((*left).to_owned(), (*right).to_owned())).collect();
    JoinSpec { on, times: [time.clone(), time], from_micros: BOUNDS.0 * 1000, to_micros: BOUNDS.1 * 1000 }
}

fn opened(spec: &JoinSpec, directory: Option<&std::path::Path>, memory: usize) -> Result<(State, Option<Saved>), FlowError> {
    State::open(&[input(&[0, 1]), input(&[2, 3])], Some(&OperatorSpec::Join(spec.clone())), "a join", directory, memory, NOW)
}

/// Key, left time and value, right time and value.
type Pair = (u8, i64, Option<i64>, i64, Option<i64>);

fn pairs(batch: &RecordBatch) -> Vec<Pair> {
    let time = |column: usize, row: usize| batch.column(column).as_primitive::<TimestampMillisecondType>().value(row);
    let number = |column: usize, row: usize| batch.column(column).as_primitive::<Int64Type>().iter().nth(row).flatten();
    let key = |row: usize| batch.column(0).as_string::<i32>().value(row).trim_start_matches("key ").parse().expect("a number");
    (0..batch.num_rows()).map(|row| (key(row), time(1, row), number(2, row), time(3, row), number(4, row))).collect()
}

/// Key, time and value.
type InTime = (Option<u8>, i64, Option<i64>);

/// The same by a loop over all pairs of rows. Gives how many rows are late, too.
fn modelled(batches: &[(u32, Vec<Row>)]) -> (Vec<Pair>, u64) {
    let mut late = 0;
    let mut sides: [Vec<InTime>; 2] = [Vec::new(), Vec::new()];
    let mut newest: BTreeMap<u32, i64> = BTreeMap::new();
    let mut watermarks = [i64::MIN; 2];
    for (partition, rows) in batches {
        let side = (*partition / 2) as usize;
        let before = watermarks[side];
        for (key, time, x) in rows {
            let Some(time) = time.filter(|time| *time >= before) else {
                late += 1;
                continue;
            };
            sides[side].push((*key, time, *x));
            let newest = newest.entry(*partition).or_insert(time);
            *newest = time.max(*newest);
        }
        let of_side: Vec<i64> = newest.range(*partition / 2 * 2..=*partition / 2 * 2 + 1).map(|(_, newest)| *newest).collect();
        if let [one, other] = of_side[..] {
            watermarks[side] = watermarks[side].max(one.min(other) - LATENESS);
        }
    }
    let mut pairs = Vec::new();
    for (key, left, x) in &sides[0] {
        for (_, right, y) in sides[1].iter().filter(|(other, _, _)| other == key) {
            if let Some(key) = key.filter(|_| (BOUNDS.0..=BOUNDS.1).contains(&(right - left))) {
                pairs.push((key, *left, *x, *right, *y));
            }
        }
    }
    pairs.sort_unstable();
    (pairs, late)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Kept by `make test`: whatever the order of rows, and wherever it crashes, a join's results are those of a plain loop.
    #[test]
    fn a_join_that_crashes_has_the_results_of_one_that_does_not(
        batches in batches(4),
        then in whatever_happens(),
        memory in prop_oneof![Just(1_usize), Just(64 << 20)],
    ) {
        let (expected, late) = modelled(&batches);
        let directory = tempfile::tempdir().expect("a folder");
        let arrival = |(partition, rows): &(u32, Vec<Row>)| Arrival { input: (*partition / 2) as usize, partition: *partition, batch: batch(rows) };
        let arrivals: Vec<_> = batches.iter().map(arrival).collect();
        let open = || opened(&join(&[("key", "key")]), Some(directory.path()), memory).expect("opens");
        let (results, late_rows) = run(&arrivals, &then, open);
        let mut results: Vec<Pair> = results.iter().flat_map(pairs).collect();
        results.sort_unstable();
        prop_assert_eq!(results, expected);
        prop_assert_eq!(late_rows, late);
    }
}

#[test]
fn results_have_the_columns_of_both_sides() {
    let (mut flow, _) = opened(&join(&[("key", "key")]), None, 64 << 20).expect("opens");
    let names = |flow: &State| flow.schema().expect("has one").fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
    assert_eq!(names(&flow), ["key", "at", "x", "at_right", "x_right"]);
    let (other, _) = opened(&join(&[("key", "upper(key)")]), None, 64 << 20).expect("opens");
    assert_eq!(names(&other), ["key", "at", "x", "key_right", "at_right", "x_right"]);
    flow.push(1, 2, &batch(&[(Some(1), Some(30), Some(7)), (None, Some(30), Some(8))]), NOW).expect("is taken");
    flow.push(0, 0, &batch(&[(Some(1), Some(0), Some(1)), (None, Some(0), Some(2)), (Some(2), Some(0), Some(3))]), NOW).expect("is taken");
    let results = flow.fire(NOW).expect("has results");
    assert_eq!(results.iter().flat_map(pairs).collect::<Vec<_>>(), [(1, 0, Some(1), 30, Some(7))], "null is the same as nothing");
    assert!(flow.fire(NOW).expect("nothing").is_empty());
}

#[test]
fn rows_that_nothing_can_come_for_are_let_go() {
    let (mut flow, _) = opened(&join(&[("key", "key")]), None, 64 << 20).expect("opens");
    let mut most = 0;
    for second in 0..200_i64 {
        for partition in 0..4 {
            let rows: Vec<Row> = (0..50).map(|key| (Some(key), Some(second * 1000), Some(1))).collect();
            flow.push((partition / 2) as usize, partition, &batch(&rows), NOW).expect("is taken");
        }
        let results: usize = flow.fire(NOW).expect("has results").iter().map(RecordBatch::num_rows).sum();
        assert_eq!(results, 200, "50 keys, twice on each side");
        if second < 10 {
            most = most.max(flow.bytes());
        } else {
            assert!(flow.bytes() <= most, "{} bytes after {second} s, {most} before", flow.bytes());
        }
    }
    // A side that has ended is not waited for.
    flow.end(&[2, 3]);
    flow.fire(NOW).expect("nothing");
    flow.push(0, 0, &batch(&[(Some(1), Some(200_000), Some(1))]), NOW).expect("is taken");
    flow.fire(NOW).expect("nothing");
    flow.end(&[0, 1]);
    flow.fire(NOW).expect("nothing");
    assert_eq!(flow.bytes(), 0);
}

#[test]
fn a_join_that_cannot_be_is_refused() {
    let check = |spec: &JoinSpec, expected: &str| {
        let error = opened(spec, None, 1 << 20).expect_err(expected);
        assert!(error.to_string().contains(expected), "{error} has no {expected}");
        assert_eq!(error.code(), Code::InvalidArgument);
    };
    check(&join(&[]), "without keys");
    check(&join(&[("key", "kye")]), "kye");
    check(&join(&[("key", "x")]), "compared");
    check(&JoinSpec { from_micros: 2000, to_micros: 1000, ..join(&[("key", "key")]) }, "none");
    check(&JoinSpec { from_micros: 1, ..join(&[("key", "key")]) }, "units");
    let spec = OperatorSpec::Join(join(&[("key", "key")]));
    let error = State::open(&[input(&[0])], Some(&spec), "a join", None, 1 << 20, NOW).expect_err("one input");
    assert!(error.to_string().contains("a join has two"), "{error}");
}

#[test]
fn keys_that_are_the_same_number_are_joined() {
    let time = Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), true);
    for width in [DataType::Float64, DataType::Float32, DataType::Float16] {
        let schema = Arc::new(Schema::new(vec![Field::new("k", width.clone(), true), time.clone()]));
        let inputs = [0, 1].map(|partition| Input { schema: schema.clone(), partitions: vec![partition] });
        let spec = OperatorSpec::Join(join(&[("k", "k")]));
        let (mut flow, _) = State::open(&inputs, Some(&spec), "a join", None, 1 << 20, NOW).expect("a flow");
        let keys = |keys: [f64; 3]| {
            let keys = cast(&Float64Array::from(keys.to_vec()), &width).expect("floats");
            RecordBatch::try_new(schema.clone(), vec![keys, Arc::new(TimestampMillisecondArray::from(vec![5; 3]))]).expect("two columns")
        };
        flow.push(0, 0, &keys([-0.0, f64::NAN, 1.5]), NOW).expect("is taken");
        flow.push(1, 1, &keys([0.0, -f64::NAN, -1.5]), NOW).expect("is taken");
        let joined: usize = flow.finish().expect("has results").iter().map(RecordBatch::num_rows).sum();
        assert_eq!(joined, 2, "{width}: zero, and what is no number");
    }
}
