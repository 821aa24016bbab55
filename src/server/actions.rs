//! Flight actions: the control calls that a stock client needs, with JSON bodies.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::access::Caller;
use super::control::{ControlService, CursorCommand};
use super::error::Error;
use crate::engine::{Start, StartError};
use crate::wire::{self, proto};

/// Name and description of every action.
pub(super) const ALL: &[(&str, &str)] = &[
    ("complete", "end a stream in good order; body: its name, or {\"stream\"}"),
    ("fail", "end a stream with an error; body: {\"stream\", \"reason\"}"),
    (
        "create_stream",
        "body: {\"stream\", \"partitions\"?, \"max_buffered_batches\"?, \"max_buffered_bytes\"?, \"max_spool_bytes\"?, \"max_disk_bytes\"?, \"retain_ms\"?, \"retain_bytes\"?, \"max_wait_ms\"?, \"resume_percent\"?, \"if_not_exists\"?}",
    ),
    ("delete_stream", "delete a stream with everything in it; body: its name, or {\"stream\"}"),
    ("describe", "a stream's partitions, subscriptions and lag; body: its name, or {\"stream\"}"),
    (
        "subscribe",
        "create a subscription; body: {\"stream\", \"subscription\", \"start\"?: \"earliest\", \"latest\", \"0:100,1:50\", \"epoch:7\", \"epoch:7@PRODUCER\" or \"2026-11-01T12:00:00Z\", \"on_overflow\"?: \"hold\", \"skip\" or \"evict\"}",
    ),
    ("unsubscribe", "remove a subscription; body: {\"stream\", \"subscription\"}"),
    ("ack", "done with all batches before these offsets; body: {\"stream\", \"subscription\", \"offsets\": {\"0\": 7}}"),
    ("plan", "what will be acked only later no longer holds back producers; body as for ack"),
    (
        "seek",
        "move a subscription; body: {\"stream\", \"subscription\", \"start\" as for subscribe, or \"offsets\" as for ack, \"dry_run\"?}; answers {\"moves\"}",
    ),
    ("locate", "where a start lies; body: {\"stream\", \"start\"}; answers {\"offsets\": {\"0\": 7}}"),
    ("open_epoch", "body: {\"stream\", \"producer\", \"run\", \"epoch\"}; answers {\"state\"}"),
    (
        "commit_epoch",
        "body: as open_epoch and \"receipts\": [{\"stream_id\", \"task\", \"attempt\", \"opened_at_micros\"?}]; answers {\"state\"}",
    ),
    ("abort_epoch", "body: as open_epoch"),
    ("stats", "totals of one stream or all; body: empty, a name, or {\"stream\"}"),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    #[serde(default)]
    stream: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Failing {
    stream: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Creating {
    stream: String,
    partitions: Option<u32>,
    max_buffered_batches: Option<u64>,
    max_buffered_bytes: Option<u64>,
    max_spool_bytes: Option<u64>,
    max_disk_bytes: Option<u64>,
    retain_ms: Option<u64>,
    retain_bytes: Option<u64>,
    max_wait_ms: Option<u64>,
    resume_percent: Option<u32>,
    schema_policy: Option<String>,
    #[serde(default)]
    if_not_exists: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Subscribing {
    stream: String,
    subscription: String,
    start: Option<String>,
    on_overflow: Option<String>,
    #[serde(default)]
    query: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Locating {
    stream: String,
    start: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Seeking {
    stream: String,
    subscription: String,
    start: Option<String>,
    #[serde(default)]
    offsets: BTreeMap<u32, u64>,
    #[serde(default)]
    stream_id: IdText,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cursors {
    stream: String,
    subscription: String,
    offsets: BTreeMap<u32, u64>,
    #[serde(default)]
    stream_id: IdText,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EpochBody {
    stream: String,
    producer: String,
    run: String,
    epoch: u64,
    #[serde(default)]
    receipts: Vec<ReceiptText>,
}

#[derive(Deserialize)]
struct ReceiptText {
    stream_id: IdText,
    task: u32,
    attempt: u64,
    #[serde(default)]
    opened_at_micros: u64,
}

/// A 64-bit id as text or number; 0 if it is left out.
#[derive(Deserialize)]
#[serde(untagged)]
enum IdText {
    Number(u64),
    Text(String),
}

impl Default for IdText {
    fn default() -> Self {
        Self::Number(0)
    }
}

impl IdText {
    fn value(&self) -> Result<u64, Error> {
        match self {
            Self::Number(id) => Ok(*id),
            Self::Text(text) => {
                text.parse().map_err(|_| Error::InvalidArgument { field: "stream_id", reason: format!("{text:?} is no number") })
            }
        }
    }
}

/// Runs an action; the answer is JSON.
///
/// # Errors
/// The control call's, `unimplemented` for an unknown action, `invalid_argument` for a body that is not its.
pub(super) async fn run(control: &ControlService, action: &str, body: &[u8], caller: &Caller) -> Result<Bytes, Error> {
    if action == "delete_stream" {
        control.delete(&name(body)?)?.durable().await?;
        return Ok(done());
    }
    let result = match action {
        "subscribe" => subscribe(control, body).await,
        _ => apply(control, action, body, caller),
    };
    let durable = match (action, whose(body)) {
        // What is acked need not be: see `is_late`.
        ("ack" | "describe" | "locate" | "stats", _) | (_, None) => Ok(()),
        ("subscribe" | "unsubscribe" | "plan" | "seek", Some(stream)) => control.durable_subscriptions(&stream).await,
        (_, Some(stream)) => control.durable(&stream).await,
    };
    result.and_then(|answer| durable.map(|()| answer))
}

fn apply(control: &ControlService, action: &str, body: &[u8], caller: &Caller) -> Result<Bytes, Error> {
    match action {
        "complete" => control.complete(&name(body)?).map(|()| done()),
        "fail" => {
            let Failing { stream, reason } = parse(body)?;
            control.fail(&stream, &reason).map(|()| done())
        }
        "create_stream" => create(control, parse(body)?, caller),
        "describe" => control.describe(&name(body)?).map(|description| answer(&summary(&description))),
        "unsubscribe" => {
            let Subscribing { stream, subscription, .. } = parse(body)?;
            control.unsubscribe_from(&stream, &subscription).map(|()| done())
        }
        "ack" => move_cursors(control, parse(body)?, CursorCommand::Ack),
        "plan" => move_cursors(control, parse(body)?, CursorCommand::Plan),
        "seek" => seek(control, parse(body)?),
        "locate" => locate(control, parse(body)?),
        "open_epoch" => {
            let EpochBody { stream, producer, run, epoch, .. } = parse(body)?;
            control.open(&proto::OpenEpochRequest { stream, producer, run, epoch }).map(|state| epoch_answer(&state))
        }
        "commit_epoch" => commit(control, parse(body)?),
        "abort_epoch" => {
            let EpochBody { stream, producer, run, epoch, .. } = parse(body)?;
            control.abort(&proto::AbortEpochRequest { stream, producer, run, epoch }, None).map(|state| epoch_answer(&state))
        }
        "stats" => {
            let stats = control.stats(&if body.is_empty() { String::new() } else { name(body)? })?;
            let seen = |stats: &&proto::StreamStats| stats.description.as_ref().is_some_and(|stream| caller.sees(&stream.stream));
            Ok(answer(&stats.streams.iter().filter(seen).map(stats_summary).collect::<Vec<_>>()))
        }
        unknown => Err(Error::Unimplemented { call: format!("action {unknown:?}"), instead: "ListActions says which there are" }),
    }
}

fn create(control: &ControlService, body: Creating, caller: &Caller) -> Result<Bytes, Error> {
    let options = proto::StreamOptions {
        partitions: body.partitions,
        max_buffered_batches: body.max_buffered_batches,
        max_buffered_bytes: body.max_buffered_bytes,
        max_spool_bytes: body.max_spool_bytes,
        max_disk_bytes: body.max_disk_bytes,
        retain_ms: body.retain_ms,
        retain_bytes: body.retain_bytes,
        max_wait_ms: body.max_wait_ms,
        resume_percent: body.resume_percent,
        schema_policy: body.schema_policy.as_deref().map_or(Ok(0), schema_policy)?,
        ..proto::StreamOptions::default()
    };
    let request =
        proto::CreateStreamRequest { stream: body.stream, options: Some(options), schema: Bytes::new(), if_not_exists: body.if_not_exists };
    control.create(&request, caller).map(|description| answer(&summary(&description)))
}

async fn subscribe(control: &ControlService, body: &[u8]) -> Result<Bytes, Error> {
    let body: Subscribing = parse(body)?;
    let start_at = body.start.as_deref().map(start_at).transpose()?;
    let on_overflow = wire::overflow::named(body.on_overflow.as_deref())?.into();
    let Subscribing { stream, subscription, query, .. } = body;
    let request = proto::SubscribeRequest { stream, subscription, start_at, on_overflow, query, ..Default::default() };
    control.subscribe_to(&request).await.map(|subscription| answer(&subscription_summary(&subscription)))
}

fn seek(control: &ControlService, body: Seeking) -> Result<Bytes, Error> {
    let Seeking { stream, subscription, start, offsets, stream_id, dry_run } = body;
    if start.is_some() && !offsets.is_empty() {
        return Err(Error::InvalidArgument { field: "start", reason: "offsets are given, too; name one of both".to_owned() });
    }
    let start_at = start.as_deref().map(start_at).transpose()?;
    let offsets = offsets.into_iter().map(|(partition, offset)| proto::PartitionOffset { partition, offset }).collect();
    let request = proto::SeekRequest { stream, subscription, offsets, stream_id: stream_id.value()?, start_at, dry_run };
    let moves = control.seek_to(&request)?.moves;
    Ok(answer(&json!({ "moves": moves.iter().map(move_summary).collect::<Vec<_>>() })))
}

fn move_summary(moved: &proto::PartitionMove) -> serde_json::Value {
    json!({
        "partition": moved.partition, "from": moved.from, "to": moved.to, "batches": moved.batches, "rows": moved.rows,
        "bytes": moved.bytes, "gone_batches": moved.gone_batches,
    })
}

fn locate(control: &ControlService, body: Locating) -> Result<Bytes, Error> {
    let start_at = Some(start_at(&body.start)?);
    let located = control.locate_start(&proto::LocateRequest { stream: body.stream, start_at, stream_id: 0 })?;
    let offsets: BTreeMap<String, u64> = located.offsets.iter().map(|at| (at.partition.to_string(), at.offset)).collect();
    Ok(answer(&json!({ "stream_id": located.stream_id.to_string(), "offsets": offsets })))
}

fn schema_policy(name: &str) -> Result<i32, Error> {
    let policy = match name {
        "strict" => proto::SchemaPolicy::Strict,
        "additive" => proto::SchemaPolicy::Additive,
        "widening" => proto::SchemaPolicy::Widening,
        other => {
            let reason = format!("it is {other:?}; use \"strict\", \"additive\" or \"widening\"");
            return Err(Error::InvalidArgument { field: "schema_policy", reason });
        }
    };
    Ok(policy.into())
}

fn start_at(text: &str) -> Result<proto::StartAt, Error> {
    let start: Start = text.parse().map_err(|error: StartError| Error::InvalidArgument { field: "start", reason: error.to_string() })?;
    Ok(wire::start::message(&start))
}

fn move_cursors(control: &ControlService, body: Cursors, command: CursorCommand) -> Result<Bytes, Error> {
    let offsets = body.offsets.into_iter().map(|(partition, offset)| proto::PartitionOffset { partition, offset }).collect();
    let (stream, subscription, stream_id) = (body.stream, body.subscription, body.stream_id.value()?);
    let request = proto::AckRequest { stream, subscription, offsets, stream_id, ..proto::AckRequest::default() };
    control.move_cursors(&request, command).map(|()| done())
}

fn commit(control: &ControlService, body: EpochBody) -> Result<Bytes, Error> {
    let receipt = |receipt: ReceiptText| {
        let stream_id = receipt.stream_id.value()?;
        let ReceiptText { task, attempt, opened_at_micros, .. } = receipt;
        Ok(proto::Receipt { stream_id, epoch: body.epoch, task, attempt, opened_at_micros, ..proto::Receipt::default() })
    };
    let receipts = body.receipts.into_iter().map(receipt).collect::<Result<_, Error>>()?;
    let request = proto::CommitEpochRequest { stream: body.stream, producer: body.producer, run: body.run, epoch: body.epoch, receipts };
    control.commit(&request, None).map(|state| epoch_answer(&state))
}

/// A body that is a stream's name, or a JSON object with it.
fn name(body: &[u8]) -> Result<String, Error> {
    if body.trim_ascii_start().first() == Some(&b'{') {
        return parse::<Named>(body).map(|named| named.stream);
    }
    String::from_utf8(body.to_vec())
        .map_err(|_| Error::InvalidArgument { field: "body", reason: "a stream's name is UTF-8 text".to_owned() })
}

/// The stream that any action's body names: as those that read the body understand it, since by this it is decided who may.
pub(super) fn whose(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Whose {
        stream: String,
    }
    if body.trim_ascii_start().first() == Some(&b'{') {
        return serde_json::from_slice::<Whose>(body).ok().map(|whose| whose.stream);
    }
    String::from_utf8(body.to_vec()).ok()
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body)
        .map_err(|error| Error::InvalidArgument { field: "body", reason: format!("{error}; ListActions says what each action takes") })
}

fn done() -> Bytes {
    Bytes::from_static(b"{}")
}

fn answer(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("numbers and texts always have a JSON form").into()
}

fn epoch_answer(response: &proto::EpochResponse) -> Bytes {
    let state = response.state().as_str_name().trim_start_matches("EPOCH_STATE_").to_lowercase();
    answer(&json!({ "state": state, "stream_id": response.stream_id.to_string() }))
}

fn summary(description: &proto::StreamDescription) -> serde_json::Value {
    let partition = |partition: &proto::PartitionDescription| {
        json!({
            "partition": partition.partition, "start": partition.start, "end": partition.end, "buffered_batches": partition.buffered_batches,
            "buffered_bytes": partition.buffered_bytes, "rows_total": partition.rows_total, "bytes_total": partition.bytes_total,
        })
    };
    json!({
        "stream": description.stream,
        "stream_id": description.stream_id.to_string(),
        "state": description.state().as_str_name().trim_start_matches("STREAM_STATE_").to_lowercase(),
        "reason": description.reason,
        "partitions": description.partitions.iter().map(partition).collect::<Vec<_>>(),
        "subscriptions": description.subscriptions.iter().map(subscription_summary).collect::<Vec<_>>(),
        "buffered_batches": description.buffered_batches,
        "buffered_bytes": description.buffered_bytes,
        "spooled_batches": description.spooled_batches,
        "spooled_bytes": description.spooled_bytes,
        "is_durable": description.is_durable,
        "logged_bytes": description.logged_bytes,
    })
}

fn subscription_summary(subscription: &proto::SubscriptionDescription) -> serde_json::Value {
    let partition = |partition: &proto::SubscriptionPartition| {
        json!({
            "partition": partition.partition, "acked": partition.acked, "planned": partition.planned, "lag_batches": partition.lag_batches,
            "lag_rows": partition.lag_rows, "lag_bytes": partition.lag_bytes, "lag_age_micros": partition.lag_age_micros,
            "held_micros": partition.held_micros, "drain_micros": partition.drain_micros,
        })
    };
    json!({
        "subscription": subscription.subscription,
        "partitions": subscription.partitions.iter().map(partition).collect::<Vec<_>>(),
        "consumers": subscription.consumers.iter().map(|one| json!({"consumer": one.consumer, "peer": one.peer})).collect::<Vec<_>>(),
    })
}

fn stats_summary(stats: &proto::StreamStats) -> serde_json::Value {
    json!({
        "stream": stats.description.as_ref().map(summary),
        "appended_batches": stats.appended_batches, "appended_rows": stats.appended_rows, "appended_bytes": stats.appended_bytes,
        "delivered_batches": stats.delivered_batches, "delivered_rows": stats.delivered_rows, "delivered_bytes": stats.delivered_bytes,
        "producer_blocked_seconds": stats.producer_blocked_seconds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else nobody would wait until what the action did is durable.
    #[test]
    fn a_body_names_its_stream_whatever_else_it_says() {
        let commit = br#"{"stream": "s", "producer": "p", "run": "r", "epoch": 0, "receipts": []}"#;
        for body in [&b"s"[..], b" \n{\"stream\": \"s\"}", br#"{"stream": "s"}"#, br#"{"stream": "s", "subscription": "a"}"#, commit] {
            assert_eq!(whose(body).as_deref(), Some("s"));
        }
        assert_eq!(whose(br#"{"subscription": "a"}"#), None);
    }
}
