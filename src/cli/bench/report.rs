//! What all rounds have shown: a table of medians, and every round's figures as JSON.

use serde_json::{Value, json};

use super::case::Case;
use super::round::Figures;
use crate::cli::quantity::per_second;
use crate::cli::table::{Align, Columns};

/// A case with the figures of its rounds.
pub(super) struct Measured {
    pub(super) case: Case,
    pub(super) rounds: Vec<Figures>,
}

/// A row per case. A figure that nobody has measured is a dash.
pub(super) fn table(measured: &[Measured]) -> Vec<String> {
    let latency = measured.iter().any(|one| one.rounds.iter().any(|figures| figures.latency.is_some()));
    let mut lines = throughput(measured);
    if latency {
        lines.push(String::new());
        lines.extend(latencies(measured));
    }
    lines
}

fn throughput(measured: &[Measured]) -> Vec<String> {
    let mut columns = Columns::new([
        ("work", Align::Left),
        ("MB/s", Align::Right),
        ("lowest", Align::Right),
        ("highest", Align::Right),
        ("batches/s", Align::Right),
        ("producer", Align::Right),
        ("coordinator", Align::Right),
        ("consumers", Align::Right),
    ]);
    for one in measured {
        let speeds: Vec<f64> = one.rounds.iter().map(Figures::mb_per_second).collect();
        let cpu = |part: fn(&Figures) -> Option<f64>| one.median(part).map_or_else(dash, |seconds| format!("{seconds:.3}"));
        columns.row([
            one.case.to_string(),
            megabytes(median(speeds.clone())),
            megabytes(speeds.iter().copied().reduce(f64::min)),
            megabytes(speeds.iter().copied().reduce(f64::max)),
            one.median(|figures| Some(figures.batches_per_second())).map_or_else(dash, per_second),
            cpu(|figures| figures.producer_cpu),
            cpu(|figures| figures.coordinator_cpu),
            cpu(|figures| figures.consumers_cpu),
        ]);
    }
    let mut lines = columns.lines();
    lines.push("the last three: CPU seconds per GB that the process has carried".to_owned());
    lines
}

fn latencies(measured: &[Measured]) -> Vec<String> {
    let mut columns = Columns::new([
        ("append to delivery, us", Align::Left),
        ("p50", Align::Right),
        ("p99", Align::Right),
        ("p99.9", Align::Right),
        ("longest", Align::Right),
    ]);
    for one in measured {
        let at = |index: usize| {
            let figures = one.rounds.iter().filter_map(|figures| figures.latency?.get(index).copied());
            median(figures.collect()).map_or_else(dash, per_second)
        };
        if one.rounds.iter().any(|figures| figures.latency.is_some()) {
            columns.row([one.case.to_string(), at(0), at(1), at(2), at(3)]);
        }
    }
    columns.lines()
}

/// Every round's figures.
pub(super) fn json(measured: &[Measured], coordinator: &str) -> Value {
    let cases = measured.iter().map(|one| {
        let case = &one.case;
        json!({
            "work": case.work.name(),
            "batch_bytes": case.batch_bytes.0,
            "columns": case.columns.name(),
            "compression": case.compression.name(),
            "partitions": case.partitions,
            "streams": case.streams,
            "consumers": case.consumers,
            "rate": case.rate.map(|rate| rate.to_string()),
            "rounds": one.rounds.iter().map(Figures::json).collect::<Vec<_>>(),
        })
    });
    json!({"version": env!("CARGO_PKG_VERSION"), "coordinator": coordinator, "cases": cases.collect::<Vec<_>>()})
}

impl Measured {
    fn median(&self, part: impl Fn(&Figures) -> Option<f64>) -> Option<f64> {
        median(self.rounds.iter().filter_map(part).collect())
    }
}

/// The middle one; of an even number, the mean of the two.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (lower, upper) = (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
    Some(f64::midpoint(*lower, *upper))
}

fn megabytes(value: Option<f64>) -> String {
    match value {
        Some(value) if value < 100.0 => format!("{value:.2}"),
        Some(value) => per_second(value),
        None => dash(),
    }
}

fn dash() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![1.0, 2.0, 4.0, 9.0]), Some(3.0));
    }
}
