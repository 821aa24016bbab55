//! `GET /api/v1/streams`: the streams, filtered, sorted, a page at a time.

use std::cmp::Reverse;
use std::sync::Arc;

use axum::extract::State;
use serde_json::json;

use super::super::access::Sight;
use super::super::error::Error;
use super::Console;
use super::answer::{Answer, Found};
use super::digest::Digest;
use super::level::Level;
use super::query::Query;

const PER_PAGE_DEFAULT: u64 = 50;
/// More on one page nobody reads.
const PER_PAGE_MAX: u64 = 200;

/// Answers with those of the streams that the caller may see.
pub(super) async fn list(State(console): State<Arc<Console>>, query: Query) -> Answer {
    query.caller.allow(Sight::Coordinator)?;
    let digests = console.digests().await?;
    let filter = query.text("filter").unwrap_or_default().to_lowercase();
    let level = query.text("level").map(level).transpose()?;
    let per_page = query.number("per_page", PER_PAGE_MAX)?.unwrap_or(PER_PAGE_DEFAULT).max(1);
    let page = query.number("page", 1 << 20)?.unwrap_or(1).max(1);
    let mut total = 0;
    let mut found: Vec<_> = digests
        .seen_by(&query.caller)
        .inspect(|_| total += 1)
        .filter(|digest| level.is_none_or(|level| digest.level == level))
        .filter(|digest| filter.is_empty() || digest.name.as_str().to_lowercase().contains(&filter))
        .collect();
    sort(&mut found, query.text("sort").unwrap_or("name"))?;
    let first = usize::try_from((page - 1) * per_page).unwrap_or(usize::MAX);
    let shown = found.iter().skip(first).take(usize::try_from(per_page).unwrap_or(usize::MAX));
    Ok(Found(json!({
        "at": digests.at.rfc3339().to_string(),
        "total": total,
        "matching": found.len(),
        "page": page,
        "per_page": per_page,
        "streams": shown.map(|digest| digest.json()).collect::<Vec<_>>(),
    })))
}

fn level(name: &str) -> Result<Level, Error> {
    Level::ALL
        .into_iter()
        .find(|level| level.as_str() == name)
        .ok_or_else(|| Error::InvalidArgument { field: "level", reason: format!("it is {name:?}; use blocked, attention, busy or calm") })
}

/// Largest first, but for names; those of equal size by name, as they come.
fn sort(streams: &mut [&Digest], by: &str) -> Result<(), Error> {
    match by {
        "name" => {}
        "level" => streams.sort_by_key(|digest| Reverse(digest.level)),
        "rows_in" => streams.sort_by(|one, other| other.rates.rows_in.total_cmp(&one.rates.rows_in)),
        "bytes_in" => streams.sort_by(|one, other| other.rates.bytes_in.total_cmp(&one.rates.bytes_in)),
        "rows_out" => streams.sort_by(|one, other| other.rates.rows_out.total_cmp(&one.rates.rows_out)),
        "bytes_out" => streams.sort_by(|one, other| other.rates.bytes_out.total_cmp(&one.rates.bytes_out)),
        "lag" => streams.sort_by_key(|digest| Reverse(digest.lag.as_ref().map_or(0, |lag| lag.batches))),
        "lag_seconds" => streams.sort_by_key(|digest| Reverse(digest.lag.as_ref().map(|lag| lag.age))),
        "buffered" => streams.sort_by_key(|digest| Reverse(digest.totals.buffered_bytes)),
        _ => {
            let reason = format!("it is {by:?}; use name, level, rows_in, bytes_in, rows_out, bytes_out, lag, lag_seconds or buffered");
            return Err(Error::InvalidArgument { field: "sort", reason });
        }
    }
    Ok(())
}
