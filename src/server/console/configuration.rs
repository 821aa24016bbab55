//! `GET /api/v1/configuration`: each setting with its value, its default and where it was given. Only what is listed here is shown, so
//! that a setting which is a secret stays one until somebody decides otherwise.

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use serde_json::{Value, json};
use url::Url;

use super::super::access::Sight;
use super::super::config::ServerConfig;
use super::Console;
use super::answer::{Answer, Found};
use super::query::Query;

/// A setting that is shown: its name in `ServerConfig`, what it is called by those who set it, and what it does.
type Setting = (&'static str, &'static str, Unit, &'static str);

/// What a number is of.
#[derive(Debug, Clone, Copy)]
enum Unit {
    None,
    Bytes,
    Millis,
    Percent,
}

use Unit::{Bytes, Millis, None as Plain, Percent};

const SETTINGS: &[Setting] = &[
    ("listen", "listen", Plain, "Address of the data and control plane"),
    ("http", "http", Plain, "Address of this console, /metrics and the health checks"),
    ("unix", "unix", Plain, "Unix socket for clients on this host"),
    ("shared_memory", "shared_memory", Plain, "Bodies of batches go by shared memory between processes of this host"),
    ("advertise_host", "advertise_host", Plain, "Host that clients use in URLs"),
    ("max_buffered_batches", "max_buffered_batches", Plain, "Most batches of a new stream in memory"),
    ("max_buffered_bytes", "max_buffered_bytes", Bytes, "Most bytes of a new stream in memory"),
    ("max_spool_bytes", "max_spool_bytes", Bytes, "Most bytes of a new stream on disk, for epochs larger than memory takes"),
    ("max_disk_bytes", "max_disk_bytes", Bytes, "Most bytes of a new durable stream's log"),
    ("max_wait_ms", "max_wait", Millis, "How long an append waits for room before it is refused; 0: as long as its client does"),
    ("resume_percent", "resume_percent", Percent, "How far a stream that was full has to fall before appends go on"),
    ("default_partitions", "default_partitions", Plain, "Partitions of a stream that does not say how many"),
    ("create_on_put", "create_on_put", Plain, "Appending to a stream that does not exist creates it"),
    ("data_dir", "data_dir", Plain, "Folder of durable streams"),
    ("object_store", "object_store", Plain, "Object store of durable streams"),
    ("spool_dir", "spool_dir", Plain, "Folder of the spool's temporary files"),
    ("spool_reserve_bytes", "spool_reserve_bytes", Bytes, "Space on its disk that is always left free"),
    ("connections_max", "connections_max", Plain, "Connections that are open at once"),
    ("message_bytes_max", "message_bytes_max", Bytes, "Largest message that is taken"),
    ("validation", "validation", Plain, "What is looked at of each batch that comes in"),
    ("validation_bytes_max", "validation_bytes_max", Bytes, "Memory for full validation at a time"),
    ("decompressed_bytes_max", "decompressed_bytes_max", Bytes, "What a compressed batch may become"),
    ("connections_per_peer_max", "connections_per_peer_max", Plain, "Connections that one address may have open at once"),
    ("calls_per_connection_max", "calls_per_connection_max", Plain, "Calls that may be open on one connection"),
    ("greeting_timeout_ms", "greeting_timeout", Millis, "How long a handshake may take"),
    ("first_call_timeout_ms", "first_call_timeout", Millis, "How long a connection may be open before its first call"),
    ("connection_window_bytes", "connection_window_bytes", Bytes, "What a client may have sent on one connection that is not taken yet"),
    ("insecure", "insecure", Plain, "Whether it may listen without TLS where others than this host reach it"),
    ("tls.cert", "tls_cert", Plain, "File of its certificate"),
    ("tls.client_ca", "tls_client_ca", Plain, "File of the CAs that sign clients' certificates"),
    ("auth.tokens", "auth_tokens", Plain, "File of the tokens that are let in"),
    ("auth.open_metrics", "auth_open_metrics", Plain, "Whether /metrics are everybody's"),
    ("auth.quotas.append_bytes_per_second", "auth_quotas_append_bytes_per_second", Bytes, "What a principal may append in a second"),
    ("auth.quotas.read_bytes_per_second", "auth_quotas_read_bytes_per_second", Bytes, "What a principal may read in a second"),
    ("auth.quotas.buffered_bytes", "auth_quotas_buffered_bytes", Bytes, "What a principal's batches may take of the memory"),
    ("auth.quotas.streams", "auth_quotas_streams", Plain, "Streams that a principal may have made"),
    ("auth.quotas.connections", "auth_quotas_connections", Plain, "Connections that a principal may have"),
    ("audit.file", "audit_file", Plain, "Where it is written down who was let do what"),
    ("ingest", "ingest", Plain, "Streams that take rows in JSON, Avro or Protobuf over HTTP"),
    ("otlp_endpoint", "otlp_endpoint", Plain, "OpenTelemetry collector that gets a trace of each epoch"),
    ("trace_one_in", "trace_one_in", Plain, "One epoch of so many is traced"),
    ("append_timeout_ms", "append_timeout", Millis, "How long an append may wait for room before it fails"),
];

/// Answers with all of them.
pub(super) async fn configuration(State(console): State<Arc<Console>>, query: Query) -> Answer {
    query.caller.allow(Sight::Everything)?;
    Ok(Found(json!({ "settings": console.config.shown() })))
}

/// A setting as it may be shown to those who run the coordinator: without secrets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShownSetting {
    /// What it is called by those who set it: the flag's name with `_` for `-`.
    pub name: &'static str,
    /// Its value, with which the server runs.
    pub value: Value,
    /// What it is unless it is set.
    pub default: Value,
    /// Where it was given: "flag", "environment", "file", "default", or "program" for the one that starts the server.
    pub source: String,
    /// What its number is of: "bytes", "milliseconds" or "percent".
    pub unit: Option<&'static str>,
    /// What it does.
    pub meaning: &'static str,
}

impl ServerConfig {
    /// All settings that may be shown, with where each was given.
    #[must_use]
    pub fn shown(&self) -> Vec<ShownSetting> {
        let (values, defaults) = (as_json(self), as_json(&Self::default()));
        let setting = |(field, name, unit, meaning): &Setting| {
            let (value, default) = (at(&values, field), at(&defaults, field));
            let given = self.sources.get(*name).map(String::as_str);
            let source = given.unwrap_or(if value == default { "default" } else { "program" }).to_owned();
            ShownSetting { name, value: shown(value), default: shown(default), source, unit: unit.as_str(), meaning }
        };
        SETTINGS.iter().map(setting).collect()
    }
}

/// A setting's value; those of a table have a dot in their names.
fn at<'a>(config: &'a Value, field: &str) -> &'a Value {
    field.split('.').fold(config, |value, name| &value[name])
}

fn as_json(config: &ServerConfig) -> Value {
    serde_json::to_value(config).unwrap_or_default()
}

/// Without secrets; of a table, what is in it by name.
fn shown(value: &Value) -> Value {
    match value {
        Value::String(text) => url_without_secrets(text).into(),
        Value::Object(table) if table.is_empty() => Value::Null,
        Value::Object(table) => table.keys().map(String::as_str).collect::<Vec<_>>().join(", ").into(),
        other => other.clone(),
    }
}

/// A URL without the name and password that it may have, and without a query; other text as it is. Of what should be a URL and
/// cannot be read as one only the scheme is shown: nobody knows where in it the password ends.
#[must_use]
pub fn url_without_secrets(text: &str) -> String {
    let Some((scheme, _)) = text.split_once("://") else { return text.to_owned() };
    let Ok(mut url) = Url::parse(text) else { return format!("{scheme}://(not shown: it is no URL)") };
    // A URL that cannot have them refuses, and has none.
    let _ = (url.set_username(""), url.set_password(None));
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

impl Unit {
    fn as_str(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Bytes => Some("bytes"),
            Self::Millis => Some("milliseconds"),
            Self::Percent => Some("percent"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::IngestConfig;
    use super::*;

    #[test]
    fn every_setting_is_shown_or_it_is_said_here_that_it_is_not() {
        const NOT_SHOWN: [&str; 0] = [];
        let all = as_json(&ServerConfig::default());
        let known = |name: &&String| {
            SETTINGS.iter().any(|(field, ..)| field.split('.').next() == Some(name.as_str())) || NOT_SHOWN.contains(&name.as_str())
        };
        let unknown: Vec<_> = all.as_object().into_iter().flat_map(serde_json::Map::keys).filter(|name| !known(name)).collect();
        assert!(unknown.is_empty(), "settings that the console neither shows nor withholds: {unknown:?}");
        assert!(
            SETTINGS.iter().all(|(field, ..)| all.get(field.split('.').next().unwrap_or(field)).is_some()),
            "a setting that there is not"
        );
    }

    #[test]
    fn a_setting_says_where_it_was_given_and_keeps_its_secrets() {
        let config = ServerConfig {
            max_buffered_batches: 8,
            object_store: Some("s3://key:secret@bucket/prefix?token=secret".to_owned()),
            default_partitions: 4,
            ingest: IngestConfig::from_json(r#"{"a": {"format": "json"}, "b": {"format": "json"}}"#).expect("declares two"),
            sources: [("max_buffered_batches".to_owned(), "flag".to_owned())].into(),
            ..ServerConfig::default()
        };
        let settings = config.shown();
        let of = |name: &str| settings.iter().find(|setting| setting.name == name).cloned().expect("is shown");
        assert_eq!((of("max_buffered_batches").value, of("max_buffered_batches").source.as_str()), (json!(8), "flag"));
        assert_eq!(of("default_partitions").source, "program");
        assert_eq!(of("connections_max").source, "default");
        assert_eq!((of("ingest").value, of("ingest").default), (json!("a, b"), Value::Null));
        assert_eq!(of("object_store").value, "s3://bucket/prefix");
        // A secret with a slash ends the host, and what is before it is no port.
        assert_eq!(url_without_secrets("s3://key:sec/ret@bucket"), "s3://(not shown: it is no URL)");
        assert_eq!(url_without_secrets("127.0.0.1:8815"), "127.0.0.1:8815");
    }
}
