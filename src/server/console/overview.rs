//! `GET /api/v1/overview`: the coordinator at a glance, of the streams that the caller may see.

use std::cmp::Reverse;
use std::sync::Arc;

use axum::extract::State;
use serde_json::{Value, json};

use super::super::access::Sight;
use super::Console;
use super::answer::{Answer, Found};
use super::digest::{Digest, Holds, reason_json};
use super::history::Rates;
use super::level::Level;
use super::query::Query;

/// Sentences that are told, most pressing first.
const REASONS_MAX: usize = 20;
/// Streams that are named as the ones to look at: those that press, then those that move most.
const FOREMOST_MAX: usize = 4;

/// Answers with rates, buffers, and who is held up.
pub(super) async fn overview(State(console): State<Arc<Console>>, query: Query) -> Answer {
    query.caller.allow(Sight::Coordinator)?;
    let digests = console.digests().await?;
    let streams: Vec<_> = digests.seen_by(&query.caller).collect();
    let count = |level| streams.iter().filter(|digest| digest.level == level).count();
    let levels: serde_json::Map<_, _> = Level::ALL.into_iter().map(|level| (level.as_str().to_owned(), count(level).into())).collect();
    let rates = streams.iter().map(|digest| digest.rates).fold(Rates::default(), Rates::with);
    let holds = streams.iter().map(|digest| digest.holds).fold(Holds::default(), Holds::with);
    let health = super::super::http::health_of(&console.coordinator);
    Ok(Found(json!({
        "at": digests.at.rfc3339().to_string(),
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": console.coordinator.uptime().as_secs_f64(),
        "storage": console.coordinator.storage(),
        "status": health["status"],
        "connections": console.coordinator.connections().open(),
        "streams": streams.len(),
        "levels": levels,
        "waiting_appenders": streams.iter().map(|digest| digest.waiting).sum::<usize>(),
        "rates": rates.json(),
        "buffers": holds.json(),
        "reasons": reasons(&streams),
        "foremost": foremost(streams),
    })))
}

/// Why somebody is held up, or will be.
fn reasons(streams: &[&Digest]) -> Vec<Value> {
    let pressing = |digest: &&Digest| digest.reasons.iter().filter(|(level, _)| *level >= Level::Attention).count() > 0;
    let of = |digest: &&Digest| {
        let name = digest.name.clone();
        let pressing = digest.reasons.iter().filter(|(level, _)| *level >= Level::Attention);
        pressing.map(|(level, reason)| (name.clone(), *level, reason.clone())).collect::<Vec<_>>()
    };
    let mut reasons: Vec<_> = streams.iter().filter(|digest| pressing(digest)).flat_map(of).collect();
    reasons.sort_by_key(|(_, level, reason)| Reverse((*level, reason.since)));
    let json = |(name, level, reason): &(crate::engine::StreamName, Level, crate::wire::why::Reason)| {
        let mut json = reason_json(*level, reason);
        json["stream"] = name.as_str().into();
        json
    };
    reasons.iter().take(REASONS_MAX).map(json).collect()
}

/// The streams that somebody looks at first.
fn foremost(mut streams: Vec<&Digest>) -> Vec<&str> {
    let moves = |digest: &Digest| digest.rates.bytes_in + digest.rates.bytes_out;
    streams.retain(|digest| digest.level >= Level::Attention || moves(digest) > 0.0 || digest.level == Level::Busy);
    streams.sort_by(|one, other| {
        let presses = |digest: &Digest| digest.level.max(Level::Busy);
        presses(other).cmp(&presses(one)).then(moves(other).total_cmp(&moves(one)))
    });
    streams.into_iter().take(FOREMOST_MAX).map(|digest| digest.name.as_str()).collect()
}
