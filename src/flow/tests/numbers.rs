//! Numbers at the ends of their types, and those that are the same in several ways.

use super::*;

fn summed(results: &str, window: Window) -> State {
    in_memory(&AggregationSpec { results: vec![results.to_owned()], ..spec(window) }).expect("a flow")
}

#[test]
fn a_sum_that_its_type_cannot_hold_ends_the_flow() {
    let most = i64::MAX;
    for (sum, outside) in [
        ("sum(x) AS s", "Int64"),
        ("sum(x) FILTER (WHERE x > 0) + 1 AS s", "Int64"),
        ("sum(arrow_cast(x, 'UInt64') * arrow_cast(2, 'UInt64')) AS s", "UInt64"),
        ("sum(CAST(x AS DECIMAL(38, 19))) AS s", "Decimal128(38, 19)"),
        ("sum(arrow_cast(x, 'Duration(Millisecond)')) AS s", "Duration(ms)"),
    ] {
        for window in [Window::Tumbling { size: millis(10) }, Window::Session { gap: millis(10) }, Window::All] {
            let mut flow = summed(sum, window);
            let rows = [(Some(1), Some(5), Some(most)), (Some(2), Some(5), Some(most)), (Some(1), Some(5), None)];
            flow.push(0, 0, &batch(&rows), NOW).expect("is taken");
            let mut more = || {
                flow.push(0, 0, &batch(&[(Some(1), Some(6), Some(most))]), NOW)?;
                flow.finish()
            };
            let error = more().expect_err("is beyond");
            assert_eq!(error.code(), Code::QueryFailed);
            assert!(error.to_string().contains(&format!("a sum is outside of {outside}")), "{sum}, {window:?}: {error}");
        }
    }
    let mut flow = summed("sum(CAST(x AS DECIMAL(38, 0))) AS s", Window::All);
    flow.push(0, 0, &batch(&[(Some(1), None, Some(most)), (Some(1), None, Some(most))]), NOW).expect("is taken");
    assert_eq!(flow.finish().expect("fits")[0].num_rows(), 1);
}

#[test]
fn a_sum_of_parts_that_its_type_cannot_hold_ends_the_flow_too() {
    let directory = tempfile::tempdir().expect("a folder");
    let spec = OperatorSpec::Aggregation(spec(Window::Tumbling { size: millis(10) }));
    let (mut flow, _) = State::open(&[input(&[0])], Some(&spec), "a flow", Some(directory.path()), 1 << 20, NOW).expect("a flow");
    for epoch in 1..=2 {
        flow.push(0, 0, &batch(&[(Some(1), Some(5), Some(i64::MAX))]), NOW).expect("is taken");
        if epoch == 1 {
            flow.save(&Saved { epoch, ..Saved::default() }).expect("is saved");
        }
    }
    assert!(flow.finish().expect_err("is beyond").to_string().contains("outside of Int64"));
}

#[test]
fn keys_that_are_no_number_are_one() {
    for window in [Window::Tumbling { size: millis(10) }, Window::Session { gap: millis(10) }, Window::All] {
        let key = "CASE x WHEN 0 THEN CAST('NaN' AS DOUBLE) WHEN 1 THEN -CAST('NaN' AS DOUBLE) WHEN 2 THEN 0.0 ELSE -0.0 END AS k";
        let mut flow = in_memory(&AggregationSpec { keys: vec![key.to_owned()], ..spec(window) }).expect("a flow");
        let rows: Vec<Row> = (0..4).map(|x| (None, Some(5), Some(x))).collect();
        flow.push(0, 0, &batch(&rows), NOW).expect("is taken");
        let rows: usize = flow.finish().expect("has results").iter().map(RecordBatch::num_rows).sum();
        assert_eq!(rows, 2, "{window:?}: zero, and what is no number");
    }
}
