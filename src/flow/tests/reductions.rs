//! Aggregation by a function of two rows.

use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion_common::arrow::compute::kernels::cmp::gt_eq;
use datafusion_common::arrow::compute::kernels::zip::zip;

use super::*;

/// The row with the larger `x`, and which one that is: the same as an aggregate that SQL has not.
fn largest(calls: Arc<AtomicUsize>) -> Reduction {
    Reduction::new(move |left, right| {
        calls.fetch_add(1, Ordering::Relaxed);
        assert_eq!(left.num_rows(), right.num_rows());
        let is_left = gt_eq(left.column(1), right.column(1)).map_err(|error| error.to_string())?;
        let columns = left.columns().iter().zip(right.columns());
        let columns = columns.map(|(left, right)| zip(&is_left, left, right).map_err(|error| error.to_string()));
        RecordBatch::try_new(left.schema(), columns.collect::<Result<_, _>>()?).map_err(|error| error.to_string())
    })
}

fn reducing(reduction: Reduction, window: Window) -> AggregationSpec {
    let results = ["at AS seen", "coalesce(x, -100) AS most"].map(str::to_owned).to_vec();
    AggregationSpec { results, reduction: Some(reduction), ..spec(window) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However rows come, and whatever is kept and read again, each key has what a plain loop finds.
    #[test]
    fn each_key_has_the_reduction_of_its_rows(
        batches in batches(2),
        window in prop_oneof![
            Just(Window::Tumbling { size: Duration::from_secs(1000) }),
            Just(Window::Session { gap: Duration::from_secs(1000) }),
        ],
        memory in prop_oneof![Just(1_usize), Just(64 << 20)],
    ) {
        let directory = tempfile::tempdir().expect("a folder");
        // No row is late, so that all count.
        let time = Some(EventTime { column: "at".to_owned(), lateness: Duration::from_secs(1000), idle: None });
        let spec = OperatorSpec::Aggregation(AggregationSpec { time, ..reducing(largest(Arc::default()), window) });
        let (mut flow, _) = State::open(&[input(&[0, 1])], Some(&spec), "a flow", Some(directory.path()), memory, NOW).expect("opens");
        let mut expected: BTreeMap<Option<String>, i64> = BTreeMap::new();
        for (epoch, (partition, rows)) in (1..).zip(&batches) {
            // Those within the first window, so that there is one.
            let rows: Vec<Row> = rows.iter().map(|(key, time, x)| (*key, time.map(|time| time.max(0)), *x)).collect();
            for (key, time, x) in &rows {
                if time.is_some() {
                    let most = expected.entry(key.map(|key| format!("key {key}"))).or_insert(i64::MIN);
                    *most = (*most).max(x.unwrap_or(-100));
                }
            }
            flow.push(0, *partition, &batch(&rows), NOW).expect("is taken");
            prop_assert!(flow.fire(NOW).expect("nothing yet").is_empty());
            flow.save(&Saved { epoch, ..Saved::default() }).expect("is saved");
        }
        let mut found = BTreeMap::new();
        for batch in flow.finish().expect("has results") {
            let keys = batch.column(2).as_string::<i32>().iter().map(|key| key.map(str::to_owned));
            found.extend(keys.zip(batch.column(4).as_primitive::<Int64Type>().values().to_vec()));
        }
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn pairs_are_reduced_many_at_a_time() {
    let calls = Arc::new(AtomicUsize::new(0));
    let mut flow = in_memory(&reducing(largest(calls.clone()), Window::Tumbling { size: Duration::from_secs(1000) })).expect("opens");
    let rows: Vec<Row> = (0..4096).map(|x| (Some(u8::try_from(x % 4).expect("small")), Some(5), Some(x))).collect();
    flow.push(0, 0, &batch(&rows), NOW).expect("is taken");
    assert_eq!(calls.load(Ordering::Relaxed), 10, "1,024 rows of each of four keys are halved ten times");
    let results = flow.finish().expect("has results");
    let most: BTreeSet<i64> = results.iter().flat_map(|batch| batch.column(4).as_primitive::<Int64Type>().values().to_vec()).collect();
    assert_eq!(most, BTreeSet::from([4092, 4093, 4094, 4095]));
    let schema = results[0].schema();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["window_start", "window_end", "key", "seen", "most"]);
}

#[test]
fn totals_are_reduced_too() {
    let spec = AggregationSpec { time: None, ..reducing(largest(Arc::default()), Window::All) };
    let mut flow = in_memory(&spec).expect("opens");
    for x in [3, 9, 4] {
        flow.push(0, 0, &batch(&[(Some(1), Some(5), Some(x))]), NOW).expect("is taken");
        let results = flow.fire(NOW).expect("has results");
        assert_eq!(results[0].column(2).as_primitive::<Int64Type>().values(), &[x.max(if x == 4 { 9 } else { 0 })]);
    }
}

#[test]
fn without_columns_all_but_the_keys_are_reduced() {
    let spec = AggregationSpec { results: Vec::new(), ..reducing(largest(Arc::default()), Window::Tumbling { size: millis(100) }) };
    let flow = in_memory(&spec).expect("opens");
    let schema = flow.schema().expect("has results").clone();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["window_start", "window_end", "key", "at", "x"]);
}

#[test]
fn a_function_that_gives_other_rows_ends_the_flow() {
    let window = Window::Tumbling { size: millis(100) };
    let check = |reduction: Reduction, expected: &str| {
        let mut flow = in_memory(&reducing(reduction, window)).expect("opens");
        let rows = batch(&[(Some(1), Some(5), Some(1)), (Some(1), Some(5), Some(2))]);
        let error = flow.push(0, 0, &rows, NOW).expect_err("is no reduction");
        assert!(error.to_string().contains(expected), "{error}");
    };
    check(Reduction::new(|left, _| Ok(left.slice(0, 0))), "gave 0 rows");
    check(Reduction::new(|left, _| left.project(&[0]).map_err(|error| error.to_string())), "for 1 pairs of seen: ");
    check(Reduction::new(|_, _| Err("it says no".to_owned())), "it says no");
}
