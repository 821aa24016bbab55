//! Windows against a plain loop over all rows.

use super::*;

/// A window and a key, and what they have come to.
type Results = BTreeMap<(i64, i64, Option<String>), (i64, Option<i64>, Option<i64>)>;
/// Which of a window's results came before.
type Seen = BTreeMap<(i64, i64, Option<String>), Vec<String>>;

/// Reads results in the order in which they came. A later one takes the place of those of its key within its window.
fn read(results: &mut Results, seen: &mut Seen, firings: Firings, batch: &RecordBatch) {
    let time = |column: usize| batch.column(column).as_primitive::<TimestampMillisecondType>();
    let text = |column: usize, row: usize| batch.column(column).as_string::<i32>().iter().nth(row).flatten().map(str::to_owned);
    let first = if firings.are_several() { 3 } else { 2 };
    let number = |column: usize, row: usize| batch.column(first + column).as_primitive::<Int64Type>().iter().nth(row).flatten();
    for row in 0..batch.num_rows() {
        let window = (time(0).value(row), time(1).value(row), text(first, row));
        let values = (number(1, row).expect("a count"), number(2, row), number(3, row));
        let firing = if firings.are_several() { text(2, row).expect("which it is") } else { "on_time".to_owned() };
        let before = seen.entry(window.clone()).or_default();
        assert!(firing != "on_time" || !before.iter().any(|before| before != "early"), "{window:?} came twice: {before:?}");
        assert!(firing != "early" || !before.iter().any(|before| before != "early"), "{window:?} was over: {before:?}");
        assert!(firing != "early" || firings.early.is_some());
        assert!(firing != "late" || !firings.late.is_zero());
        before.push(firing);
        results.retain(|(start, end, key), _| *key != window.2 || *start < window.0 || *end > window.1);
        results.insert(window, values);
    }
}

/// The same by a loop over rows. Gives how many rows are late, too.
fn modelled(batches: &[(u32, Vec<Row>)], window: Window, firings: Firings) -> (Results, u64) {
    let in_millis = |duration: Duration| i64::try_from(duration.as_millis()).expect("short");
    let mut newest: BTreeMap<u32, i64> = BTreeMap::new();
    let (mut watermark, mut late) = (i64::MIN, 0);
    let mut rows_of: BTreeMap<(i64, i64, Option<u8>), Vec<Option<i64>>> = BTreeMap::new();
    let mut sessions: BTreeMap<Option<u8>, Vec<(i64, Option<i64>)>> = BTreeMap::new();
    for (partition, rows) in batches {
        // What ended before this takes no more rows.
        let before = watermark.saturating_sub(in_millis(firings.late));
        for (key, time, x) in rows {
            let Some(time) = *time else {
                late += 1;
                continue;
            };
            let mut counts = false;
            match window {
                Window::Session { .. } if time >= before => {
                    counts = true;
                    sessions.entry(*key).or_default().push((time, *x));
                }
                Window::Tumbling { size: slide } | Window::Sliding { slide, .. } => {
                    let size = if let Window::Sliding { size, .. } = window { in_millis(size) } else { in_millis(slide) };
                    let mut start = time.div_euclid(in_millis(slide)) * in_millis(slide);
                    // Between two windows it is in none, and still in time.
                    counts = start + size > before || time >= before;
                    while start + size > time {
                        if start + size > before {
                            rows_of.entry((start, start + size, *key)).or_default().push(*x);
                        }
                        start -= in_millis(slide);
                    }
                }
                _ => {}
            }
            if counts {
                let newest = newest.entry(*partition).or_insert(time);
                *newest = time.max(*newest);
            } else {
                late += 1;
            }
        }
        if newest.len() == 2 {
            watermark = watermark.max(newest.values().min().copied().expect("two") - LATENESS);
        }
    }
    if let Window::Session { gap } = window {
        for (key, mut rows) in sessions {
            rows.sort_unstable();
            let mut current: Option<(i64, i64, Vec<Option<i64>>)> = None;
            for (time, x) in rows {
                match &mut current {
                    Some((_, last, values)) if time - *last < in_millis(gap) => {
                        *last = time;
                        values.push(x);
                    }
                    _ => {
                        if let Some((first, last, values)) = current.replace((time, time, vec![x])) {
                            rows_of.insert((first, last + in_millis(gap), key), values);
                        }
                    }
                }
            }
            if let Some((first, last, values)) = current {
                rows_of.insert((first, last + in_millis(gap), key), values);
            }
        }
    }
    let results = rows_of.into_iter().map(|((start, end, key), values)| {
        let known = || values.iter().flatten().copied();
        let total = known().next().map(|_| known().sum());
        let spread = known().max().zip(known().min()).map(|(max, min)| max - min);
        let count = i64::try_from(values.len()).expect("few");
        ((start, end, key.map(|key| format!("key {key}"))), (count, total, spread))
    });
    (results.collect(), late)
}

fn windows() -> impl Strategy<Value = Window> {
    prop_oneof![
        (1_i64..200).prop_map(|size| Window::Tumbling { size: millis(size) }),
        // Slides that divide the size, that do not, and that leave gaps.
        (1_i64..200, 5_i64..100).prop_map(|(size, slide)| Window::Sliding { size: millis(size), slide: millis(slide) }),
        (1_i64..60).prop_map(|gap| Window::Session { gap: millis(gap) }),
    ]
}

/// Early results each time that there are any; late ones for less than rows are behind, so that some come too late for them.
fn firings() -> impl Strategy<Value = Firings> {
    let early = prop_oneof![Just(None), Just(Some(Duration::ZERO))];
    let late = prop_oneof![Just(0_i64), 1_i64..25];
    (early, late).prop_map(|(early, late)| Firings { early, late: millis(late) })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Kept by `make test`: whatever the order of rows, and wherever it crashes, a flow's results are those of a plain loop.
    #[test]
    fn a_flow_that_crashes_has_the_results_of_one_that_does_not(
        batches in batches(2),
        window in windows(),
        firings in firings(),
        then in whatever_happens(),
        memory in prop_oneof![Just(1_usize), Just(64 << 20)],
    ) {
        let (expected, late) = modelled(&batches, window, firings);
        let directory = tempfile::tempdir().expect("a folder");
        let spec = OperatorSpec::Aggregation(AggregationSpec { firings, ..spec(window) });
        let open = || State::open(&[input(&[0, 1])], Some(&spec), "a flow", Some(directory.path()), memory, NOW).expect("opens");
        let arrivals: Vec<_> =
            batches.iter().map(|(partition, rows)| Arrival { input: 0, partition: *partition, batch: batch(rows) }).collect();
        let (out, late_rows) = run(&arrivals, &then, open);
        let (mut results, mut seen) = (Results::new(), Seen::new());
        out.iter().for_each(|batch| read(&mut results, &mut seen, firings, batch));
        prop_assert_eq!(results, expected);
        prop_assert_eq!(late_rows, late);
    }
}

#[test]
fn times_at_the_ends_of_their_type_are_none() {
    const FAR: i64 = i64::MAX / 32 * 31;
    let all = [Window::All, Window::Tumbling { size: millis(7) }, Window::Sliding { size: millis(50), slide: millis(20) }];
    let sparse = Window::Sliding { size: millis(5), slide: millis(20) };
    let longest = Window::Tumbling { size: Duration::from_millis(u64::MAX >> 9) };
    for window in all.into_iter().chain([sparse, longest, Window::Session { gap: millis(30) }]) {
        for firings in [Firings::default(), Firings { early: Some(Duration::ZERO), late: millis(1000) }] {
            let firings = if window == Window::All { Firings::default() } else { firings };
            let mut flow = in_memory(&AggregationSpec { firings, ..spec(window) }).expect("a flow");
            let mut results = Vec::new();
            for at in [i64::MIN, i64::MAX, -FAR, -1, 0, FAR, i64::MIN + 1] {
                flow.push(0, 0, &batch(&[(Some(1), Some(at), Some(1))]), NOW).expect("is taken");
                results.extend(flow.fire(NOW).expect("has results"));
            }
            results.extend(flow.finish().expect("has results"));
            assert!(!results.is_empty() && results.iter().all(|batch| batch.num_rows() > 0), "{window:?}");
            assert_eq!(flow.late_rows(), if window == Window::All { 0 } else { 3 }, "{window:?}: those at the ends");
        }
    }
}
