//! Flows: what a consumer does with the batches of a stream, in its own process: expressions over rows, and windows of event time with
//! keyed state, which is saved together with the offsets that it reflects.
//!
//! DataFusion evaluates expressions and aggregates, so batches are of its Arrow's version ([`arrow`]). Nothing here reads a stream or a
//! clock: batches and times come in, results go out.

mod aggregates;
mod aggregation;
mod firings;
mod groups;
mod join;
mod late;
mod matching;
mod parts;
mod plan;
mod reduce;
mod rows;
mod sessions;
mod slices;
mod state;
mod store;
mod sums;
#[cfg(test)]
mod tests;
mod time;
mod totals;
mod watermarks;

pub use datafusion_common::arrow;

pub use self::firings::Firings;
pub use self::reduce::Reduction;
pub use self::rows::Rows;
pub use self::state::{Input, Saved, State};
pub use self::time::{EventTime, Window};

use datafusion_common::DataFusionError;

use crate::engine::Code;
use crate::query::error::told;

/// What is done with each row.
#[derive(Debug, Clone, PartialEq)]
pub enum RowStep {
    /// Rows for which this condition, in SQL, is true go on.
    Filter(String),
    /// These expressions in SQL, with names (`upper(page) AS page`), become the columns; `*` is all that there are.
    Select(Vec<String>),
}

/// What an aggregation is.
#[derive(Debug, Clone, PartialEq)]
pub struct AggregationSpec {
    /// Whose results are together: expressions in SQL.
    pub keys: Vec<String>,
    /// Results of many rows: aggregates in SQL (`count(*) AS n`), and expressions of them.
    pub results: Vec<String>,
    /// Instead of aggregates, a function: the results are these columns, reduced by it, and all but the keys if none is said.
    pub reduction: Option<Reduction>,
    /// Which rows are together.
    pub window: Window,
    /// What results windows have besides the one once they are over.
    pub firings: Firings,
    /// When rows are; needed by all windows but [`Window::All`].
    pub time: Option<EventTime>,
}

/// What a join is: rows of two inputs with the same keys, of which the right one is not further from the left one than said.
#[derive(Debug, Clone, PartialEq)]
pub struct JoinSpec {
    /// What has to be the same: expressions in SQL over the left rows and over the right ones. Null is the same as nothing.
    pub on: Vec<(String, String)>,
    /// When rows are, of the left input and of the right one.
    pub times: [EventTime; 2],
    /// A right row is at least so much later than the left one, in microseconds; negative: it may be earlier.
    pub from_micros: i64,
    /// It is at most so much later, in microseconds.
    pub to_micros: i64,
}

/// What is done with rows that has a state.
#[derive(Debug, Clone, PartialEq)]
pub enum OperatorSpec {
    /// Rows of a key come to results.
    Aggregation(AggregationSpec),
    /// Rows of two inputs come together.
    Join(JoinSpec),
}

/// Why a flow is refused, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FlowError {
    /// An expression, window or option that cannot be.
    #[error("{reason}")]
    Refused {
        /// What is wrong, and what to do.
        reason: String,
    },
    /// Rows that an expression has no value for.
    #[error("{reason}")]
    Failed {
        /// What went wrong.
        reason: String,
    },
    /// The state cannot be read or written, or is of another flow.
    #[error("the state in {directory}: {reason}")]
    State {
        /// Where it is.
        directory: String,
        /// What is the matter, and what to do.
        reason: String,
    },
}

impl FlowError {
    fn refused(reason: impl Into<String>) -> Self {
        Self::Refused { reason: reason.into() }
    }

    /// Its code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Refused { .. } => Code::InvalidArgument,
            Self::Failed { .. } => Code::QueryFailed,
            Self::State { .. } => Code::Storage,
        }
    }
}

impl From<DataFusionError> for FlowError {
    fn from(error: DataFusionError) -> Self {
        Self::Failed { reason: told(&error) }
    }
}
