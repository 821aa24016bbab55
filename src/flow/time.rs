//! Event time: when a row was, by a column of its own, and the windows that it is in.

use std::time::Duration;

use datafusion_common::Result;
use datafusion_common::arrow::array::{AsArray as _, Int64Array, RecordBatch};
use datafusion_common::arrow::compute::{cast, max, min};
use datafusion_common::arrow::datatypes::{DataType, Int64Type, Schema, TimeUnit};
use datafusion_common::{DataFusionError, HashSet};

use super::FlowError;

/// Most windows that a row may be in: each is a result of its own.
const WINDOWS_MAX: i64 = 10_000;

/// Durations are so long at most, in units of the event time.
const UNITS_MAX: i64 = i64::MAX >> 8;
/// Times are so far from 1970 at most: some durations more are still times.
const TIME_MAX: i64 = i64::MAX - 8 * UNITS_MAX;

/// When rows are, and how long is waited for those that come out of order.
#[derive(Debug, Clone, PartialEq)]
pub struct EventTime {
    /// A column of timestamps.
    pub column: String,
    /// How far a row may be behind the newest one of its partition before it is late.
    pub lateness: Duration,
    /// After how long without a row a partition holds back nobody; none: never.
    pub idle: Option<Duration>,
}

/// Which rows are together. Windows are half-open, and those of a fixed size begin at multiples of it (of the slide) since 1970 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// All rows of a key for ever: results are what has changed since the last ones.
    All,
    /// One after the other.
    Tumbling {
        /// How long each is.
        size: Duration,
    },
    /// One begins every `slide`, and lasts for `size`.
    Sliding {
        /// How long each is.
        size: Duration,
        /// From the start of one to the start of the next.
        slide: Duration,
    },
    /// As long as rows of a key follow each other in less than a gap; the window ends a gap after the last of them.
    Session {
        /// Without a row for so long, it is over.
        gap: Duration,
    },
}

/// A window in units of a column's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    All,
    Fixed { size: i64, slide: i64 },
    Session { gap: i64 },
}

/// The column that says when a row is.
#[derive(Debug)]
pub(super) struct Time {
    column: usize,
    unit: TimeUnit,
    data_type: DataType,
}

impl Time {
    pub(super) fn new(schema: &Schema, name: &str) -> Result<Self, FlowError> {
        let Ok(column) = schema.index_of(name) else {
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            return Err(FlowError::refused(format!("the event time is column {name}, and the columns are {}", names.join(", "))));
        };
        let data_type = schema.field(column).data_type().clone();
        let DataType::Timestamp(unit, _) = data_type else {
            let reason =
                format!("the event time is column {name}, which is {data_type}: make a timestamp of it first, as with to_timestamp()");
            return Err(FlowError::refused(reason));
        };
        Ok(Self { column, unit, data_type })
    }

    /// The type of the column, and of where windows start and end.
    pub(super) fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// Of each row, in units of the column; null if it has none, or one at the ends of the type, where no window has both of its own.
    pub(super) fn values(&self, batch: &RecordBatch) -> Result<Int64Array> {
        let values = cast(batch.column(self.column), &DataType::Int64).map_err(DataFusionError::from)?;
        let values = values.as_primitive::<Int64Type>();
        if min(values).is_none_or(|oldest| oldest >= -TIME_MAX) && max(values).is_none_or(|newest| newest <= TIME_MAX) {
            return Ok(values.clone());
        }
        Ok(values.iter().map(|time| time.filter(|time| (-TIME_MAX..=TIME_MAX).contains(time))).collect())
    }

    /// How many microseconds so many units are.
    pub(super) fn micros(&self, units: i64) -> i64 {
        let nanos = i128::from(units) * i128::from(nanos_of(self.unit));
        i64::try_from(nanos / 1000).unwrap_or(i64::MAX)
    }

    /// A duration in units of the column.
    pub(super) fn units(&self, what: &str, duration: Duration) -> Result<i64, FlowError> {
        let unit = u128::from(nanos_of(self.unit).unsigned_abs());
        let units = i64::try_from(duration.as_nanos() / unit).ok().filter(|units| *units <= UNITS_MAX);
        match units {
            Some(units) if duration.as_nanos().is_multiple_of(unit) => Ok(units),
            Some(_) => {
                Err(FlowError::refused(format!("{what} of {duration:?} is no whole number of the event time's units ({:?})", self.unit)))
            }
            None => Err(FlowError::refused(format!("{what} of {duration:?} is too long for the event time's type"))),
        }
    }

    /// A distance in microseconds, back or forth, in units of the column.
    pub(super) fn signed_units(&self, what: &str, micros: i64) -> Result<i64, FlowError> {
        Ok(self.units(what, Duration::from_micros(micros.unsigned_abs()))? * micros.signum())
    }

    pub(super) fn extent(&self, window: Window) -> Result<Extent, FlowError> {
        let positive = |what: &str, duration| match self.units(what, duration)? {
            0 => Err(FlowError::refused(format!("{what} is 0; give a duration from one unit of the event time"))),
            units => Ok(units),
        };
        Ok(match window {
            Window::All => Extent::All,
            Window::Tumbling { size } => {
                let size = positive("a window", size)?;
                Extent::Fixed { size, slide: size }
            }
            Window::Sliding { size, slide } => {
                let (size, slide) = (positive("a window", size)?, positive("a slide", slide)?);
                if size / slide > WINDOWS_MAX {
                    let windows = size / slide;
                    return Err(FlowError::refused(format!(
                        "each row is in {windows} windows, and {WINDOWS_MAX} are allowed; slide by more"
                    )));
                }
                Extent::Fixed { size, slide }
            }
            Window::Session { gap } => Extent::Session { gap: positive("a gap", gap)? },
        })
    }
}

fn nanos_of(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1000,
        TimeUnit::Nanosecond => 1,
    }
}

/// The greatest number that divides both.
pub(super) fn common(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { common(b, a % b) }
}

/// Whether no two are the same.
pub(super) fn are_distinct<'a>(names: impl IntoIterator<Item = &'a String>) -> bool {
    let mut seen = HashSet::new();
    names.into_iter().all(|name| seen.insert(name))
}
