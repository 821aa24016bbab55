//! `GET /api/v1/health`: whether the coordinator does well, and what it takes of the machine.

use std::sync::Arc;

use axum::extract::State;
use serde_json::{Map, Value, json};

use super::super::access::Sight;
use super::super::{http, process};
use super::Console;
use super::answer::{Answer, Found};
use super::query::Query;

/// Answers what `/healthz` and `/readyz` say, and more.
pub(super) async fn show(State(console): State<Arc<Console>>, query: Query) -> Answer {
    query.caller.allow(Sight::Coordinator)?;
    let coordinator = &console.coordinator;
    let mut health = http::health_of(coordinator);
    let shared_memory = coordinator.shared_memory();
    let errors = coordinator.errors().totals().filter(|(_, total)| *total > 0);
    health["at"] = coordinator.now().rfc3339().to_string().into();
    health["ready"] = http::readiness(coordinator).into();
    health["uptime_seconds"] = coordinator.uptime().as_secs_f64().into();
    health["connections"] = coordinator.connections().open().into();
    health["unix_connections"] = coordinator.connections().open_unix().into();
    health["streams"] = coordinator.list().len().into();
    health["cpu_seconds"] = process::cpu_time().as_secs_f64().into();
    health["resident_bytes"] = process::resident_bytes().into();
    health["shared_memory"] = json!({
        "links": shared_memory.links,
        "lent_bytes": shared_memory.lent_bytes,
        "looked_at_bytes": shared_memory.looked_at_bytes,
    });
    health["errors"] = errors.map(|(code, total)| (code.as_str().to_owned(), Value::from(total))).collect::<Map<_, _>>().into();
    // Names of streams are for those who may see them.
    if let Some(stalled) = health["stalled"].as_object_mut() {
        stalled.retain(|name, _| crate::engine::StreamName::new(name).is_ok_and(|name| query.caller.sees(&name)));
    }
    Ok(Found(health))
}
