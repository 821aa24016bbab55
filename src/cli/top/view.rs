//! What `top` shows, as lines of text.

use std::collections::HashMap;

use crate::cli::quantity::{bytes, count, per_second, span, whole};
use crate::cli::rates::{self, Rate};
use crate::cli::report;
use crate::cli::stats;
use crate::cli::table::{Align, Columns};
use crate::client::{Lag, why};
use crate::wire::proto::{GetStatsResponse, StreamStats};

/// The whole view; its first line is a heading.
pub(super) fn lines(stats: &GetStatsResponse, rates: &HashMap<u64, Rate>) -> Vec<String> {
    let mut lines = vec![format!("{}  (q quits)", stats::head(stats)), String::new()];
    lines.extend(streams(stats, rates));
    lines.extend(subscriptions(stats));
    lines.extend(trouble(stats));
    lines
}

fn streams(stats: &GetStatsResponse, rates: &HashMap<u64, Rate>) -> Vec<String> {
    let mut columns = Columns::new([
        ("stream", Align::Left),
        ("state", Align::Left),
        ("batches", Align::Right),
        ("bytes", Align::Right),
        ("spooled", Align::Right),
        ("in rows/s", Align::Right),
        ("in bytes/s", Align::Right),
        ("out rows/s", Align::Right),
        ("out bytes/s", Align::Right),
        ("blocked", Align::Right),
        ("lag", Align::Right),
    ]);
    for stream in &stats.streams {
        columns.row(stream_row(stream, rates.get(&rates::id(stream)).copied().unwrap_or_default()));
    }
    columns.lines()
}

fn stream_row(stats: &StreamStats, rate: Rate) -> [String; 11] {
    let stream = stats.description.clone().unwrap_or_default();
    let options = stream.options.unwrap_or_default();
    let lag = stream.subscriptions.iter().map(|subscription| Lag::of(subscription).batches).max();
    [
        stream.stream.clone(),
        report::state(&stream).to_owned(),
        format!("{}/{}", count(stream.buffered_batches), count(options.max_buffered_batches())),
        format!("{}/{}", bytes(stream.buffered_bytes), bytes(options.max_buffered_bytes())),
        bytes(stream.spooled_bytes),
        per_second(rate.appended_rows),
        bytes(whole(rate.appended_bytes)),
        per_second(rate.delivered_rows),
        bytes(whole(rate.delivered_bytes)),
        format!("{:.0}%", rate.blocked * 100.0),
        lag.map_or_else(|| "-".to_owned(), count),
    ]
}

fn subscriptions(stats: &GetStatsResponse) -> Vec<String> {
    let mut columns = Columns::new([
        ("stream", Align::Left),
        ("subscription", Align::Left),
        ("lag batches", Align::Right),
        ("rows", Align::Right),
        ("bytes", Align::Right),
        ("oldest", Align::Right),
        ("held", Align::Right),
    ]);
    let streams = stats.streams.iter().filter_map(|stream| stream.description.as_ref());
    let mut any = false;
    for (stream, subscription) in streams.flat_map(|stream| stream.subscriptions.iter().map(move |subscription| (stream, subscription))) {
        let lag = Lag::of(subscription);
        any = true;
        columns.row([
            stream.stream.clone(),
            subscription.subscription.clone(),
            count(lag.batches),
            count(lag.rows),
            bytes(lag.bytes),
            span(lag.age),
            span(lag.held_for),
        ]);
    }
    if any { [vec![String::new()], columns.lines()].concat() } else { Vec::new() }
}

/// Who waits and why, and who is lost.
fn trouble(stats: &GetStatsResponse) -> Vec<String> {
    let mut lines = Vec::new();
    for stream in stats.streams.iter().filter_map(|stream| stream.description.as_ref()) {
        lines.extend(stream.waiting.iter().map(|wait| format!("{}: {}", stream.stream, stats::waiting_line(wait))));
        // Who is to do something about it; a stream that nobody waits for has its reasons in `bowstring why`.
        let is_held_up = !stream.waiting.is_empty() || !stream.log_waits_for.is_empty();
        let reasons = why(stream).reasons.into_iter().take(if is_held_up { 1 } else { 0 });
        lines.extend(reasons.map(|reason| format!("{}: {}", stream.stream, reason.text)));
        let lost = stream.producers.iter().filter(|producer| producer.lost);
        lines.extend(lost.map(|producer| format!("{}: producer {} is lost", stream.stream, producer.producer)));
    }
    if lines.is_empty() { lines } else { [vec![String::new()], lines].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::proto::{StreamDescription, SubscriptionDescription, SubscriptionPartition, WaitDescription};

    #[test]
    fn streams_lag_and_waiting_producers_are_all_in_view() {
        let wait = WaitDescription { producer: "spark-1".into(), bytes: 4 << 20, waiting_micros: 2_300_000 };
        let partition = SubscriptionPartition { lag_batches: 7, lag_rows: 7000, ..SubscriptionPartition::default() };
        let subscription =
            SubscriptionDescription { subscription: "trainer".into(), partitions: vec![partition], ..SubscriptionDescription::default() };
        let description = StreamDescription {
            stream: "flights".into(),
            subscriptions: vec![subscription],
            waiting: vec![wait],
            ..StreamDescription::default()
        };
        let stats = GetStatsResponse {
            streams: vec![StreamStats { description: Some(description), ..StreamStats::default() }],
            ..GetStatsResponse::default()
        };
        let rate = Rate { appended_rows: 12_345.0, ..Rate::default() };
        let text = lines(&stats, &HashMap::from([(0, rate)])).join("\n");
        for expected in [
            "flights",
            "12,345",
            "trainer",
            "7,000",
            "producer spark-1 has waited 2.3s for room for 4.0 MiB",
            "flights: producer spark-1 waits 2.3 s: ",
        ] {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
    }
}
