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
use super::coordinator::Coordinator;
use super::error::Error;
use crate::engine::{SharingRules, SubscriptionName};
use crate::wire::proto::SubscriptionDescription;

/// What a subscription is to ask, if it is a query of this stream. One that asks it already stays, also where newer columns have made it no
/// query of the stream.
///
/// # Errors
/// `invalid_argument`, which says what is wrong with it.
pub(super) async fn asked(
    coordinator: &Coordinator,
    cell: &StreamCell,
    subscription: &SubscriptionName,
    query: &str,
    sharing: Option<&SharingRules>,
) -> Result<Option<Arc<str>>, Error> {
    let query = query.trim();
    if query.is_empty() {
        return Ok(None);
    }
    if sharing.is_some_and(|rules| !rules.keys.is_empty()) {
        return Err(refused(
            "its rows are given by keys of the stream's batches, which a query may drop; leave out the keys, or the query",
        ));
    }
    if let Ok(Some(asks)) = cell.query_of(subscription)
        && *asks == *query
    {
        return Ok(Some(asks));
    }
    let schema = cell.schema().ok_or_else(|| {
        refused("the stream has no schema yet, so that nobody can say whether this is a query of it; create it with one, or append first")
    })?;
    cell.queries().plan(coordinator, cell.name(), &schema, query).await?;
    Ok(Some(query.into()))
}

/// Says of those that ask a query what its answers have.
pub(super) async fn describe(coordinator: &Coordinator, cell: &StreamCell, subscriptions: &mut [SubscriptionDescription]) {
    for subscription in subscriptions.iter_mut().filter(|subscription| !subscription.query.is_empty()) {
        subscription.query_schema = cell.queries().schema(coordinator, cell, &subscription.query).await;
    }
}

fn refused(reason: impl Into<String>) -> Error {
    Error::InvalidArgument { field: "query", reason: reason.into() }
}
