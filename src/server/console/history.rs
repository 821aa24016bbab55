//! An hour of history, in memory: what the coordinator did as a whole, and the streams that moved.
//!
//! A sample is 32 bytes, a series 360 of them: 11.5 KB for the whole and each of at most 512 streams, 5.9 MB together, and about 150
//! bytes for each stream to reckon its rates by. A stream that never moves has no series; beyond 512 that have one, a stream that starts
//! to move takes the place of one that has stood for a minute.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use serde_json::{Value, json};

use super::super::access::Sight;
use super::super::cell::StreamCell;
use super::super::counters::Totals;
use super::Console;
use super::answer::{Answer, Found};
use super::query::Query;
use crate::engine::{StreamId, StreamTotals, Timestamp};

/// A sample is of so many looks.
const LOOKS_PER_SAMPLE: u32 = 5;
/// Samples of a series: an hour of one every ten seconds.
const SAMPLES_MAX: usize = 360;
/// Streams that have a series.
const SERIES_MAX: usize = 512;
/// A series whose stream has stood for so long gives way to another's.
const STANDS: Duration = Duration::from_secs(60);

/// What moves per second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) batches_in: f32,
    pub(super) rows_in: f32,
    pub(super) bytes_in: f32,
    pub(super) rows_out: f32,
    pub(super) bytes_out: f32,
}

/// Ten seconds of a stream, or of all.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Sample {
    rates: Rates,
    /// Bytes in memory, at the end.
    buffered_bytes: f32,
    /// Appenders that waited for room, at most.
    waiting: f32,
    /// Epochs that were committed.
    epochs: f32,
}

/// The past hour.
#[derive(Debug, Default)]
pub(super) struct History {
    /// When each sample ended, of all series.
    times: VecDeque<Timestamp>,
    whole: VecDeque<Sample>,
    looks: u32,
    looked_at: Option<Timestamp>,
    streams: HashMap<StreamId, Seen>,
    /// How many of the streams have a series.
    series: usize,
}

/// What is known of a stream.
#[derive(Debug)]
struct Seen {
    last: Moved,
    rates: Rates,
    moved_at: Timestamp,
    /// What the next sample becomes: sums over its looks.
    sums: Sample,
    /// The newest sample is of the newest time.
    series: Option<VecDeque<Sample>>,
    is_there: bool,
}

/// A stream's totals.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Moved {
    appended: StreamTotals,
    delivered: Totals,
}

impl Console {
    /// Takes the totals of all streams.
    pub(super) fn look(&self) {
        let now = self.coordinator.now();
        let moved = |cell: &Arc<StreamCell>| (cell.id(), Moved { appended: cell.totals(), delivered: cell.counters().delivered_total() });
        let moved: Vec<_> = self.coordinator.list().iter().map(moved).collect();
        self.history.lock().look(now, moved);
        self.forget_digests();
    }
}

/// `GET /api/v1/history`: of the coordinator, or of the stream that `name` says.
pub(super) async fn show(State(console): State<Arc<Console>>, query: Query) -> Answer {
    let stream = query.text("name").map(|_| query.stream()).transpose()?;
    query.caller.allow(stream.as_ref().map_or(Sight::Everything, |stream| Sight::Stream(stream.as_str())))?;
    let id = stream.map(|stream| console.coordinator.get(&stream)).transpose()?.map(|cell| cell.id());
    Ok(Found(console.history.lock().json(id)))
}

impl History {
    /// How fast a stream moves.
    pub(super) fn rates(&self, stream: StreamId) -> Rates {
        self.streams.get(&stream).map(|seen| seen.rates).unwrap_or_default()
    }

    fn look(&mut self, now: Timestamp, moved: Vec<(StreamId, Moved)>) {
        let passed = self.looked_at.replace(now).map(|then| now.since(then).as_secs_f64());
        self.streams.values_mut().for_each(|seen| seen.is_there = false);
        for (id, moved) in moved {
            let seen = self.streams.entry(id).or_insert_with(|| Seen::new(moved, now));
            seen.look(moved, passed.filter(|passed| *passed > 0.0), now);
        }
        self.streams.retain(|_, seen| seen.is_there);
        self.looks += 1;
        if self.looks >= LOOKS_PER_SAMPLE {
            self.looks = 0;
            self.sample(now);
        }
    }

    fn sample(&mut self, now: Timestamp) {
        self.series = self.streams.values().filter(|seen| seen.series.is_some()).count();
        self.make_room(now);
        let mut whole = Sample::default();
        for seen in self.streams.values_mut() {
            let sample = std::mem::take(&mut seen.sums).mean(LOOKS_PER_SAMPLE);
            whole = whole.with(sample);
            if seen.series.is_none() && sample.is_moving() && self.series < SERIES_MAX {
                seen.series = Some(VecDeque::with_capacity(SAMPLES_MAX));
                self.series += 1;
            }
            seen.series.iter_mut().for_each(|series| push(series, sample));
        }
        push(&mut self.whole, whole);
        push(&mut self.times, now);
    }

    /// Takes the series of streams that stand, where streams that move have none.
    fn make_room(&mut self, now: Timestamp) {
        let wanted = self.streams.values().filter(|seen| seen.series.is_none() && seen.sums.is_moving()).count();
        let missing = (self.series + wanted).saturating_sub(SERIES_MAX);
        let mut standing: Vec<_> =
            self.streams.values_mut().filter(|seen| seen.series.is_some() && now.since(seen.moved_at) >= STANDS).collect();
        standing.sort_by_key(|seen| seen.moved_at);
        for seen in standing.into_iter().take(missing) {
            seen.series = None;
            self.series -= 1;
        }
    }

    /// The whole's, or a stream's; a stream without a series has no samples.
    fn json(&self, stream: Option<StreamId>) -> Value {
        let none = VecDeque::new();
        let series = match stream {
            None => &self.whole,
            Some(id) => self.streams.get(&id).and_then(|seen| seen.series.as_ref()).unwrap_or(&none),
        };
        let times = self.times.iter().skip(self.times.len().saturating_sub(series.len()));
        let of = |value: fn(&Sample) -> f32| series.iter().map(|sample| round(value(sample))).collect::<Vec<_>>();
        json!({
            "interval_seconds": (super::LOOK * LOOKS_PER_SAMPLE).as_secs(),
            "times": times.map(|time| time.0 / 1_000_000).collect::<Vec<_>>(),
            "batches_in": of(|sample| sample.rates.batches_in),
            "rows_in": of(|sample| sample.rates.rows_in),
            "bytes_in": of(|sample| sample.rates.bytes_in),
            "rows_out": of(|sample| sample.rates.rows_out),
            "bytes_out": of(|sample| sample.rates.bytes_out),
            "buffered_bytes": of(|sample| sample.buffered_bytes),
            "waiting": of(|sample| sample.waiting),
            "epochs": of(|sample| sample.epochs),
        })
    }
}

impl Seen {
    fn new(moved: Moved, now: Timestamp) -> Self {
        Self { last: moved, rates: Rates::default(), moved_at: now, sums: Sample::default(), series: None, is_there: true }
    }

    fn look(&mut self, moved: Moved, passed: Option<f64>, now: Timestamp) {
        let last = std::mem::replace(&mut self.last, moved);
        self.is_there = true;
        if last != moved {
            self.moved_at = now;
        }
        self.rates = passed.map_or_else(Rates::default, |passed| Rates::between(&last, &moved, passed));
        self.sums.rates = self.sums.rates.with(self.rates);
        self.sums.buffered_bytes = float(moved.appended.buffered_bytes);
        self.sums.waiting = self.sums.waiting.max(float(moved.appended.waiting));
        self.sums.epochs += float(moved.appended.epochs_committed.saturating_sub(last.appended.epochs_committed));
    }
}

impl Rates {
    fn between(before: &Moved, after: &Moved, seconds: f64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "24 bits of a rate are more than anybody can see")]
        let rate = |before: u64, after: u64| (after.saturating_sub(before) as f64 / seconds) as f32;
        Self {
            batches_in: rate(before.appended.batches, after.appended.batches),
            rows_in: rate(before.appended.rows, after.appended.rows),
            bytes_in: rate(before.appended.bytes, after.appended.bytes),
            rows_out: rate(before.delivered.rows, after.delivered.rows),
            bytes_out: rate(before.delivered.bytes, after.delivered.bytes),
        }
    }

    pub(super) fn with(self, other: Self) -> Self {
        Self {
            batches_in: self.batches_in + other.batches_in,
            rows_in: self.rows_in + other.rows_in,
            bytes_in: self.bytes_in + other.bytes_in,
            rows_out: self.rows_out + other.rows_out,
            bytes_out: self.bytes_out + other.bytes_out,
        }
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "batches_in": round(self.batches_in),
            "rows_in": round(self.rows_in),
            "bytes_in": round(self.bytes_in),
            "rows_out": round(self.rows_out),
            "bytes_out": round(self.bytes_out),
        })
    }
}

impl Sample {
    /// Of sums of rates.
    fn mean(mut self, looks: u32) -> Self {
        let Rates { batches_in, rows_in, bytes_in, rows_out, bytes_out } = &mut self.rates;
        [batches_in, rows_in, bytes_in, rows_out, bytes_out].into_iter().for_each(|rate| *rate /= float(looks.into()));
        self
    }

    fn with(self, other: Self) -> Self {
        Self {
            rates: self.rates.with(other.rates),
            buffered_bytes: self.buffered_bytes + other.buffered_bytes,
            waiting: self.waiting + other.waiting,
            epochs: self.epochs + other.epochs,
        }
    }

    fn is_moving(&self) -> bool {
        self.rates != Rates::default() || self.waiting > 0.0 || self.epochs > 0.0
    }
}

fn push<T>(series: &mut VecDeque<T>, newest: T) {
    if series.len() >= SAMPLES_MAX {
        series.pop_front();
    }
    series.push_back(newest);
}

fn float(number: u64) -> f32 {
    number as f32
}

/// To a tenth: what comes after is noise, and takes room in the answer.
fn round(number: f32) -> f64 {
    (f64::from(number) * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(batches: u64) -> Moved {
        let appended =
            StreamTotals { batches, rows: 10 * batches, bytes: 100 * batches, epochs_committed: batches, ..StreamTotals::default() };
        Moved { appended, delivered: Totals { batches, rows: 5 * batches, bytes: 50 * batches } }
    }

    /// Looks every two seconds, `streams` streams of which each takes in `speed` batches a second.
    fn looks(history: &mut History, from: u64, number: u64, streams: std::ops::Range<u64>, speed: u64) {
        for look in from..from + number {
            let at = |id| (StreamId(id), moved(look * 2 * speed));
            history.look(Timestamp(look * 2_000_000), streams.clone().map(at).collect());
        }
    }

    #[test]
    fn a_sample_is_the_mean_of_its_looks_and_the_sum_of_its_streams() {
        let mut history = History::default();
        looks(&mut history, 0, 11, 0..2, 3);
        assert_eq!(history.rates(StreamId(0)), Rates { batches_in: 3.0, rows_in: 30.0, bytes_in: 300.0, rows_out: 15.0, bytes_out: 150.0 });
        let of = |json: &Value, name: &str| json[name].as_array().map(|all| all.iter().filter_map(Value::as_f64).collect::<Vec<_>>());
        let one = history.json(Some(StreamId(1)));
        // The first look has nothing to compare with.
        assert_eq!(of(&one, "rows_in"), Some(vec![24.0, 30.0]));
        assert_eq!(of(&one, "epochs"), Some(vec![24.0, 30.0]));
        assert_eq!(of(&history.json(None), "rows_in"), Some(vec![48.0, 60.0]));
        assert_eq!(of(&one, "times"), Some(vec![8.0, 18.0]));
        assert_eq!(of(&history.json(Some(StreamId(9))), "times"), Some(Vec::new()));
    }

    #[test]
    fn it_ends_after_an_hour_and_forgets_streams_that_are_gone() {
        let mut history = History::default();
        looks(&mut history, 0, 5 * 400, 0..3, 1);
        assert_eq!((history.times.len(), history.whole.len(), history.series), (360, 360, 3));
        assert!(
            history.streams.values().all(|seen| seen.series.as_ref().is_some_and(|series| series.len() == 360 && series.capacity() == 360))
        );
        looks(&mut history, 2_000, 5, 1..2, 1);
        assert_eq!((history.streams.len(), history.series), (1, 1));
    }

    #[test]
    fn its_size_does_not_grow_with_the_number_of_streams() {
        assert_eq!(size_of::<Sample>() * SAMPLES_MAX * (SERIES_MAX + 1), 5_909_760);
        assert!(size_of::<(StreamId, Seen)>() <= 250);
        let mut history = History::default();
        looks(&mut history, 0, 10, 0..2 * SERIES_MAX as u64, 1);
        assert_eq!(history.series, SERIES_MAX);
    }

    #[test]
    fn a_stream_that_moves_takes_the_place_of_one_that_has_stood_for_a_minute() {
        let mut history = History::default();
        let all = SERIES_MAX as u64;
        looks(&mut history, 0, 10, 0..all, 1);
        let stand = |at: u64, newcomer: u64| {
            let standing = (0..all).map(|id| (StreamId(id), moved(18)));
            (Timestamp(at * 2_000_000), standing.chain([(StreamId(all), moved(newcomer))]).collect::<Vec<_>>())
        };
        let has_series = |history: &History| history.streams[&StreamId(all)].series.is_some();
        for at in 10..80 {
            let (now, streams) = stand(at, at);
            history.look(now, streams);
            assert!(!has_series(&history) || at >= 39, "at look {at}: nobody had stood for a minute");
            assert!(history.series <= SERIES_MAX);
        }
        assert!(has_series(&history));
    }
}
