//! Results before a window is over, and after.

use super::*;

/// A window's start and end, which result it is, and the count of a key.
type Fired = (i64, i64, String, i64);

fn fired(results: &[RecordBatch], key: &str) -> Vec<Fired> {
    let mut fired = Vec::new();
    for batch in results {
        let time = |column: usize| batch.column(column).as_primitive::<TimestampMillisecondType>();
        for row in (0..batch.num_rows()).filter(|row| batch.column(3).as_string::<i32>().value(*row) == key) {
            let firing = batch.column(2).as_string::<i32>().value(row).to_owned();
            fired.push((time(0).value(row), time(1).value(row), firing, batch.column(4).as_primitive::<Int64Type>().value(row)));
        }
    }
    fired
}

fn early(start: i64, end: i64, count: i64) -> Fired {
    (start, end, "early".to_owned(), count)
}

fn on_time(start: i64, end: i64, count: i64) -> Fired {
    (start, end, "on_time".to_owned(), count)
}

fn late(start: i64, end: i64, count: i64) -> Fired {
    (start, end, "late".to_owned(), count)
}

fn flow(window: Window, early: Option<Duration>, late: i64) -> State {
    let firings = Firings { early, late: millis(late) };
    in_memory(&AggregationSpec { firings, ..spec(window) }).expect("opens")
}

fn push(flow: &mut State, key: u8, times: &[i64]) {
    let rows: Vec<Row> = times.iter().map(|time| (Some(key), Some(*time), None)).collect();
    flow.push(0, 0, &batch(&rows), NOW).expect("is taken");
}

fn fire(flow: &mut State, now: Duration) -> Vec<Fired> {
    fired(&flow.fire(now).expect("has results"), "key 1")
}

#[test]
fn a_row_counts_for_the_windows_that_still_take_rows_alone() {
    let mut flow = flow(Window::Sliding { size: millis(20), slide: millis(10) }, None, 20);
    push(&mut flow, 1, &[35]);
    push(&mut flow, 2, &[100]);
    assert_eq!(fire(&mut flow, NOW), [on_time(20, 40, 1), on_time(30, 50, 1)]);
    // The watermark is 65 now: what ended before 45 is closed for good.
    push(&mut flow, 2, &[115]);
    assert_eq!(fire(&mut flow, NOW), []);
    push(&mut flow, 1, &[37]);
    assert_eq!(fire(&mut flow, NOW), [late(30, 50, 2)]);
    push(&mut flow, 1, &[29]);
    assert_eq!(fire(&mut flow, NOW), []);
    assert_eq!(flow.late_rows(), 1);
}

#[test]
fn a_late_session_takes_the_place_of_those_that_it_joins() {
    let mut flow = flow(Window::Session { gap: millis(10) }, None, 100);
    push(&mut flow, 1, &[0, 15]);
    push(&mut flow, 2, &[100]);
    assert_eq!(fire(&mut flow, NOW), [on_time(0, 10, 1), on_time(15, 25, 1)]);
    push(&mut flow, 1, &[8]);
    assert_eq!(fire(&mut flow, NOW), [late(0, 25, 3)]);
    assert_eq!(fire(&mut flow, NOW), []);
    push(&mut flow, 1, &[30]);
    assert_eq!(fire(&mut flow, NOW), [late(0, 25, 3), late(30, 40, 1)], "the sessions of a key that has late rows");
}

#[test]
fn early_results_come_every_so_often_for_keys_that_have_changed() {
    for window in [Window::Tumbling { size: millis(1000) }, Window::Session { gap: millis(1000) }] {
        let end = if let Window::Session { .. } = window { 1001 } else { 1000 };
        let start = end - 1000;
        let mut flow = flow(window, Some(millis(10)), 0);
        push(&mut flow, 1, &[start]);
        assert_eq!(fire(&mut flow, millis(9)), []);
        assert_eq!(fire(&mut flow, millis(10)), [early(start, end, 1)]);
        push(&mut flow, 2, &[2]);
        assert_eq!(fire(&mut flow, millis(20)), [], "another key's");
        push(&mut flow, 1, &[start]);
        assert_eq!(fire(&mut flow, millis(25)), []);
        push(&mut flow, 1, &[start]);
        assert_eq!(fire(&mut flow, millis(30)), [early(start, end, 3)]);
        let results = fired(&flow.finish().expect("has results"), "key 1");
        assert_eq!(results, [on_time(start, end, 3)]);
    }
}

#[test]
fn keys_that_are_the_same_number_are_one() {
    let firings = Firings { early: Some(Duration::ZERO), late: millis(0) };
    let key = "CASE WHEN x = 0 THEN -0.0 ELSE 0.0 END AS zero".to_owned();
    let spec = AggregationSpec { keys: vec![key], firings, ..spec(Window::Tumbling { size: millis(100) }) };
    let mut flow = in_memory(&spec).expect("opens");
    for x in 0..4 {
        flow.push(0, 0, &batch(&[(None, Some(5), Some(x))]), NOW).expect("is taken");
        let results = flow.fire(NOW).expect("has results");
        let rows: usize = results.iter().map(RecordBatch::num_rows).sum();
        assert!(rows >= 1, "the change of {x} is told");
    }
}

#[test]
fn early_and_late_results_are_of_windows() {
    let firings = Firings { early: Some(Duration::ZERO), late: millis(0) };
    let error = in_memory(&AggregationSpec { time: None, firings, ..spec(Window::All) }).expect_err("has no window");
    assert!(error.to_string().contains("without a window"), "{error}");
}
