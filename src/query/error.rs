//! What is wrong with a query, or with a batch for it.

use datafusion_common::DataFusionError;

use crate::engine::Code;
use crate::wire::error::WireError;

/// Why a query is refused, or a batch has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// It is not SQL, names what is not there, or is more than a row's own affair.
    #[error("{reason}")]
    Refused {
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A batch has values that it cannot be answered for: a division by zero, a text that is no number.
    #[error("{reason}")]
    Failed {
        /// What went wrong.
        reason: String,
    },
    /// Answering takes more memory than was set aside for it.
    #[error("answering may take {bytes} bytes of memory")]
    Memory {
        /// How much it takes at most.
        bytes: u64,
    },
    /// A batch is not what its header says.
    #[error(transparent)]
    Wire(#[from] WireError),
}

impl QueryError {
    pub(super) fn refused(reason: impl Into<String>) -> Self {
        Self::Refused { reason: reason.into() }
    }

    pub(super) fn failed(error: &DataFusionError) -> Self {
        Self::Failed { reason: told(error) }
    }

    /// Its code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Refused { .. } => Code::InvalidArgument,
            Self::Failed { .. } | Self::Memory { .. } => Code::QueryFailed,
            Self::Wire(error) => error.code(),
        }
    }
}

/// What DataFusion says, without what it says around it.
pub(crate) fn told(error: &DataFusionError) -> String {
    let text = error.strip_backtrace();
    if text.contains("RecursionLimitExceeded") {
        return "it is nested deeper than the parser goes".to_owned();
    }
    let text = ["Error during planning: ", "Schema error: ", "SQL error: ", "Arrow error: ", "Execution error: "]
        .iter()
        .fold(text.as_str(), |text, prefix| text.strip_prefix(prefix).unwrap_or(text));
    text.trim_end_matches('.').to_owned()
}
