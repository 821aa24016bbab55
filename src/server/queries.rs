//! The queries of a stream's subscriptions: each is planned once per schema, and answered once per batch for all who read by it.

#[cfg(feature = "query")]
mod answers;
#[cfg(feature = "query")]
mod planned;
#[cfg(not(feature = "query"))]
mod unplanned;

use std::sync::Arc;

#[cfg(feature = "query")]
pub(super) use self::planned::{Asking, Queries};
#[cfg(not(feature = "query"))]
pub(super) use self::unplanned::{Asking, Queries};
use super::cell::StreamCell;
use super::error::Error;
use crate::engine::SharingRules;

/// What a new subscription is to ask, if it is a query of this stream.
///
/// # Errors
/// `invalid_argument`, which says what is wrong with it.
pub(super) fn asked(cell: &StreamCell, query: &str, sharing: Option<&SharingRules>) -> Result<Option<Arc<str>>, Error> {
    let query = query.trim();
    if query.is_empty() {
        return Ok(None);
    }
    if sharing.is_some_and(|rules| !rules.keys.is_empty()) {
        return Err(refused(
            "its rows are given by keys of the stream's batches, which a query may drop; leave out the keys, or the query",
        ));
    }
    let schema = cell.schema().ok_or_else(|| {
        refused("the stream has no schema yet, so that nobody can say whether this is a query of it; create it with one, or append first")
    })?;
    cell.queries().plan(cell.name(), &schema, query)?;
    Ok(Some(query.into()))
}

fn refused(reason: impl Into<String>) -> Error {
    Error::InvalidArgument { field: "query", reason: reason.into() }
}
