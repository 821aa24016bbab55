//! Connections to coordinators: one per process and address; and the stream that a sink writes to.

use std::collections::BTreeMap;
use std::path::PathBuf;

use arrow_schema::Schema;
use parking_lot::Mutex;

use super::options::{Place, StreamLimits};
use super::{Ended, Waiting};
use crate::client::blocking::Client;
use crate::client::{ClientOptions, Error, TlsOptions, TokenSource};
use crate::engine::Code;
use crate::wire::proto::{CreateStreamRequest, StreamDescription, StreamOptions};
use crate::wire::schema::StreamSchema;

/// A process that goes through ever new addresses keeps this many connections at most.
const CLIENTS_MAX: usize = 64;
/// A coordinator's URL, whether its Unix socket is used, how TLS is spoken, and the token's file.
type Way = (String, bool, TlsOptions, Option<PathBuf>);

static CLIENTS: Mutex<BTreeMap<Way, Client>> = Mutex::new(BTreeMap::new());

/// The process's client for a coordinator: Spark reuses its executors, so this pays.
///
/// # Errors
/// Those of [`Client::connect`].
pub(super) fn client_of(place: &Place, wait: &mut Waiting<'_>) -> Result<Client, Ended> {
    let key = (place.url.clone(), place.local_socket, place.tls.clone(), place.token_file.clone());
    if let Some(client) = CLIENTS.lock().get(&key) {
        return Ok(client.clone());
    }
    let options = ClientOptions {
        connect_timeout: place.connect_timeout,
        local_socket: place.local_socket,
        tls: place.tls.clone(),
        token: place.token_file.clone().map_or_else(TokenSource::default, TokenSource::File),
        ..ClientOptions::default()
    };
    let client = Client::connect(&place.url, options, wait)?;
    let mut clients = CLIENTS.lock();
    if clients.len() >= CLIENTS_MAX {
        clients.pop_first();
    }
    clients.insert(key, client.clone());
    Ok(client)
}

/// The stream's description; it is created if it does not exist.
///
/// # Errors
/// `invalid_argument` if it exists with another number of partitions than asked for.
pub(super) fn ensure_stream(
    client: &Client,
    stream: &str,
    limits: StreamLimits,
    schema: &Schema,
    wait: &mut Waiting<'_>,
) -> Result<StreamDescription, Ended> {
    let found = match client.describe_stream(stream, wait) {
        Err(Ended::Failed(error)) if error.code() == Code::StreamNotFound => {
            client.create_stream(creation(stream, limits, schema)?, wait)?
        }
        found => found?,
    };
    let there = partition_count(&found);
    match limits.partitions {
        Some(wanted) if wanted != there => Err(Ended::Failed(Error::invalid(format!(
            "stream '{stream}' has {there} partitions, but {wanted} were asked for; leave the option out, or use another stream"
        )))),
        _ => Ok(found),
    }
}

fn creation(stream: &str, limits: StreamLimits, schema: &Schema) -> Result<CreateStreamRequest, Error> {
    let options = StreamOptions {
        partitions: limits.partitions,
        max_buffered_batches: limits.max_buffered_batches,
        max_buffered_bytes: limits.max_buffered_bytes,
        max_spool_bytes: limits.max_spool_bytes,
        ..StreamOptions::default()
    };
    let schema = StreamSchema::from_arrow(schema)?.header().clone();
    Ok(CreateStreamRequest { stream: stream.to_owned(), options: Some(options), schema, if_not_exists: true })
}

/// The number of partitions in a stream's description; at least 1.
pub(super) fn partition_count(description: &StreamDescription) -> u32 {
    description.options.as_ref().and_then(|options| options.partitions).unwrap_or(1).max(1)
}

/// Most bytes that a stream holds in memory.
pub(super) fn bytes_max(description: &StreamDescription) -> u64 {
    description.options.as_ref().and_then(|options| options.max_buffered_bytes).unwrap_or(u64::MAX)
}
