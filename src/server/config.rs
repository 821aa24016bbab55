//! The server's configuration: every field has a default, and every number a bound.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::access::{AuditConfig, AuthConfig};
use super::coordinator::CoordinatorOptions;
use super::ingest::IngestConfig;
use super::store::ObjectStoreOptions;
use super::tls::TlsConfig;
use super::validation::Validation;
use crate::engine::{Limits, StreamOptions};
use crate::storage::SpoolOptions;
use crate::storage::remote::KeepAfter;
use crate::wire::limits::DECOMPRESSED_BYTES_MAX;

/// Largest message that gRPC's four-byte length leaves room for on all clients.
const MESSAGE_BYTES_LIMIT: u64 = 1 << 30;

/// HTTP/2's largest window, and the smallest in which frames of 1 MiB fit.
const WINDOW_BYTES_MAX: u64 = (1 << 31) - 1;
const WINDOW_BYTES_MIN: u64 = 1 << 20;
/// Who has not said anything for an hour will not.
const DEADLINE_MS_MAX: u64 = 3_600_000;

/// What a server is started with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// Address of the data and control plane; port 0 picks a free one. Default 127.0.0.1:8815.
    pub listen: SocketAddr,
    /// The Unix socket that gives the same services to clients on this host. Default [`UnixSocket::Auto`].
    pub unix: UnixSocket,
    /// Whether bodies of batches may go by shared memory between the processes of this user on this host; they find it by
    /// themselves. Default true; needs the Unix socket, and Linux.
    pub shared_memory: bool,
    /// Address of the console, `/metrics`, `/healthz` and `/readyz`; none: no HTTP. Default 127.0.0.1:8816.
    pub http: Option<SocketAddr>,
    /// Host that clients use in URLs; none: the listening address. Needed when listening on 0.0.0.0.
    pub advertise_host: Option<String>,
    /// Default of streams' `max_buffered_batches`: 64.
    pub max_buffered_batches: u64,
    /// Default of streams' `max_buffered_bytes`: 2 GiB.
    pub max_buffered_bytes: u64,
    /// Default of streams' `max_spool_bytes`: 16 GiB.
    pub max_spool_bytes: u64,
    /// Default of durable streams' `max_disk_bytes`: 64 GiB.
    pub max_disk_bytes: u64,
    /// Default of streams' `max_wait`, in milliseconds: how long an append waits for room before it is refused; none, or 0: as long as
    /// its client does. Default none.
    pub max_wait_ms: Option<u64>,
    /// Default of streams' `resume_percent`: how far a stream that was full has to fall, in percent of its limits, before appends go on.
    /// 0 to 100. Default 100: as soon as there is room.
    pub resume_percent: u32,
    /// Folder of durable streams; none: all are in memory, and nothing survives the coordinator.
    pub data_dir: Option<PathBuf>,
    /// URL of the object store that durable streams are in as well, with a `data_dir`: `s3://bucket/prefix`, `gs://bucket/prefix`,
    /// `az://container/prefix`, `file:///folder`. What is confirmed then survives the loss of the machine, and this coordinator takes
    /// over from the one that had it before. None: the disk alone.
    pub object_store: Option<String>,
    /// A snapshot of the object store's catalog is made after so many commits. Default 500.
    #[doc(hidden)]
    #[serde(skip)]
    pub object_store_snapshot_commits: u64,
    /// Folder for spooled batches; none: the system's folder for temporary files.
    pub spool_dir: Option<PathBuf>,
    /// Bytes of the disk that batches never use, spooled or in a log. Default 1 GiB.
    pub spool_reserve_bytes: u64,
    /// Partitions of streams that are created without saying. Default 1.
    pub default_partitions: u32,
    /// Whether a `DoPut` to an unknown stream creates it. Default true.
    pub create_on_put: bool,
    /// Largest message, in bytes. Default and maximum 1 GiB.
    pub message_bytes_max: u64,
    /// How closely a batch is looked at before it is stored. Default [`Validation::Structure`].
    pub validation: Validation,
    /// Memory that full validation takes at once, of all connections together, in bytes; others wait. A batch that needs more
    /// is validated alone. Default 1 GiB, at least 1 MiB.
    pub validation_bytes_max: u64,
    /// Most bytes that a compressed batch or dictionary may become. Default and maximum 1 GiB, at least 1 KiB.
    pub decompressed_bytes_max: u64,
    /// How long an append waits for room unless its client says otherwise, in milliseconds; none: as long as
    /// the client waits.
    pub append_timeout_ms: Option<u64>,
    /// Connections that are open at once, at each port. Default 10,000.
    pub connections_max: usize,
    /// Connections that one address may have open at once, at each port; of IPv6, one network of 64 bits. Default 5,000: half of
    /// all, so that nobody alone takes every slot.
    pub connections_per_peer_max: usize,
    /// Calls that may be open on one connection: a client's consumers have one long call each beside their data. Default 4,096.
    pub calls_per_connection_max: u32,
    /// How long a connection may take for the TLS handshake and HTTP/2's preface, in milliseconds; at the HTTP port, for each
    /// request's headers. Default 10,000: a handshake over the slowest line takes three seconds.
    pub greeting_timeout_ms: u64,
    /// How long a connection may be open before its first call, in milliseconds; bowstring's clients open another one when they
    /// need it. Default 60,000.
    pub first_call_timeout_ms: u64,
    /// Bytes that a client may have sent on one connection and the coordinator not taken yet, of all calls together; of one call at
    /// most 16 MiB. It bounds what connections cost beyond the streams' limits: so much times the connections that send without
    /// being served. 1 MiB to 2 GiB - 1. Default 512 MiB: 31 producers that wait for room beside calls that go on.
    pub connection_window_bytes: u32,
    /// Certificate and key of both ports; none: plain.
    pub tls: Option<TlsConfig>,
    /// Whether it may listen without TLS where others than this host reach it. Default false.
    pub insecure: bool,
    /// Who may do what. Default: nobody is asked.
    pub auth: AuthConfig,
    /// Where it is written down who was let do what. Default: nowhere.
    pub audit: AuditConfig,
    /// By stream: rows in JSON, Avro or Protobuf that it takes over HTTP. Default: none does.
    pub ingest: BTreeMap<String, IngestConfig>,
    /// OTLP endpoint of the OpenTelemetry collector that gets a trace of each epoch, by gRPC: `http://host:4317`, or `https://` for TLS. None: nothing
    /// is traced.
    pub otlp_endpoint: Option<String>,
    /// One epoch of so many is traced, at least 1. Default 1: all.
    pub trace_one_in: u64,
    /// Where settings were given, by their names on the command line with `_` for `-`: "flag", "environment" or "file". Only the console
    /// shows it; what is not in it is a default, or was set by the program that starts the server.
    #[serde(skip)]
    pub sources: BTreeMap<String, String>,
}

/// By when a connection has to have said what it wants.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    /// From accepting to the end of HTTP/2's preface.
    pub(super) greeting: Duration,
    /// From accepting to the first call.
    pub(super) first_call: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8815)),
            unix: UnixSocket::Auto,
            shared_memory: true,
            http: Some(SocketAddr::from(([127, 0, 0, 1], 8816))),
            advertise_host: None,
            max_buffered_batches: limits.max_buffered_batches,
            max_buffered_bytes: limits.max_buffered_bytes,
            max_spool_bytes: limits.max_spool_bytes,
            max_disk_bytes: limits.max_disk_bytes,
            max_wait_ms: None,
            resume_percent: StreamOptions::default().resume_percent,
            data_dir: None,
            object_store: None,
            object_store_snapshot_commits: KeepAfter::default().commits,
            spool_dir: None,
            spool_reserve_bytes: SpoolOptions::default().reserve_bytes,
            default_partitions: 1,
            create_on_put: true,
            message_bytes_max: MESSAGE_BYTES_LIMIT,
            validation: Validation::default(),
            validation_bytes_max: 1 << 30,
            decompressed_bytes_max: DECOMPRESSED_BYTES_MAX,
            append_timeout_ms: None,
            connections_max: 10_000,
            connections_per_peer_max: 5_000,
            calls_per_connection_max: 4_096,
            greeting_timeout_ms: 10_000,
            first_call_timeout_ms: 60_000,
            connection_window_bytes: 512 << 20,
            tls: None,
            insecure: false,
            auth: AuthConfig::default(),
            audit: AuditConfig::default(),
            ingest: BTreeMap::new(),
            otlp_endpoint: None,
            trace_one_in: 1,
            sources: BTreeMap::new(),
        }
    }
}

/// Where a server listens besides TCP. As text: `auto`, `off`, or a path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum UnixSocket {
    /// At a path of its own, made anew at each start, in a folder of `$XDG_RUNTIME_DIR` or of the temporary files that only
    /// this user may enter. Where that cannot be made, nowhere.
    #[default]
    Auto,
    /// At this path, of at most 107 bytes of UTF-8; the umask says who may connect. A dead server's file there is replaced.
    At(PathBuf),
    /// Nowhere.
    Off,
}

impl From<String> for UnixSocket {
    fn from(text: String) -> Self {
        match text.as_str() {
            "auto" => Self::Auto,
            "off" => Self::Off,
            _ => Self::At(text.into()),
        }
    }
}

impl From<UnixSocket> for String {
    fn from(socket: UnixSocket) -> Self {
        match socket {
            UnixSocket::Auto => "auto".to_owned(),
            UnixSocket::Off => "off".to_owned(),
            UnixSocket::At(path) => path.to_string_lossy().into_owned(),
        }
    }
}

/// A configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}, but it must be {expected}")]
pub struct ConfigError {
    /// The field.
    pub field: &'static str,
    /// Its value.
    pub value: u64,
    /// What it must be.
    pub expected: &'static str,
}

impl ServerConfig {
    /// Checks the numbers.
    ///
    /// # Errors
    /// [`ConfigError`] names the field and what it must be.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let check = |ok: bool, field, value, expected| if ok { Ok(()) } else { Err(ConfigError { field, value, expected }) };
        check(self.max_buffered_batches > 0, "max_buffered_batches", self.max_buffered_batches, "at least 1")?;
        check(self.max_buffered_bytes > 0, "max_buffered_bytes", self.max_buffered_bytes, "at least 1")?;
        check((1..=4096).contains(&self.default_partitions), "default_partitions", self.default_partitions.into(), "1 to 4096")?;
        check(self.resume_percent <= 100, "resume_percent", self.resume_percent.into(), "0 to 100")?;
        let message_bytes = self.message_bytes_max;
        check((1 << 10..=MESSAGE_BYTES_LIMIT).contains(&message_bytes), "message_bytes_max", message_bytes, "1 KiB to 1 GiB")?;
        check(self.connections_max > 0, "connections_max", self.connections_max as u64, "at least 1")?;
        check(self.connections_per_peer_max > 0, "connections_per_peer_max", self.connections_per_peer_max as u64, "at least 1")?;
        check(self.calls_per_connection_max > 0, "calls_per_connection_max", self.calls_per_connection_max.into(), "at least 1")?;
        let window = self.connection_window_bytes.into();
        check((WINDOW_BYTES_MIN..=WINDOW_BYTES_MAX).contains(&window), "connection_window_bytes", window, "1 MiB to 2 GiB - 1")?;
        for (field, ms) in [("greeting_timeout_ms", self.greeting_timeout_ms), ("first_call_timeout_ms", self.first_call_timeout_ms)] {
            check((100..=DEADLINE_MS_MAX).contains(&ms), field, ms, "100 (0.1 s) to 3,600,000 (an hour)")?;
        }
        check(self.validation_bytes_max >= 1 << 20, "validation_bytes_max", self.validation_bytes_max, "at least 1 MiB")?;
        let decompressed = self.decompressed_bytes_max;
        check((1 << 10..=DECOMPRESSED_BYTES_MAX).contains(&decompressed), "decompressed_bytes_max", decompressed, "1 KiB to 1 GiB")?;
        check(self.trace_one_in > 0, "trace_one_in", self.trace_one_in, "at least 1")?;
        let fault = self.auth.quotas.fault();
        fault.map_or(Ok(()), |(field, value, expected)| Err(ConfigError { field, value, expected }))
    }

    /// What streams get that are created without options.
    #[must_use]
    pub fn stream_defaults(&self) -> StreamOptions {
        StreamOptions {
            partitions: self.default_partitions,
            limits: Limits {
                max_buffered_batches: self.max_buffered_batches,
                max_buffered_bytes: self.max_buffered_bytes,
                max_spool_bytes: self.max_spool_bytes,
                max_disk_bytes: self.max_disk_bytes,
            },
            max_wait: self.max_wait_ms.filter(|ms| *ms > 0).map(Duration::from_millis),
            resume_percent: self.resume_percent,
            ..StreamOptions::default()
        }
    }

    pub(super) fn coordinator_options(&self) -> CoordinatorOptions {
        CoordinatorOptions {
            stream_defaults: self.stream_defaults(),
            create_on_put: self.create_on_put,
            message_bytes_max: self.message_bytes_max,
            append_timeout: self.append_timeout_ms.map(Duration::from_millis),
            validation: self.validation,
            validation_bytes_max: self.validation_bytes_max,
            decompressed_bytes_max: self.decompressed_bytes_max,
        }
    }

    pub(super) fn deadlines(&self) -> Deadlines {
        Deadlines {
            greeting: Duration::from_millis(self.greeting_timeout_ms),
            first_call: Duration::from_millis(self.first_call_timeout_ms),
        }
    }

    pub(super) fn object_store_options(&self) -> Option<ObjectStoreOptions> {
        let keep_after = KeepAfter { commits: self.object_store_snapshot_commits, ..KeepAfter::default() };
        self.object_store.clone().map(|url| ObjectStoreOptions { url, keep_after })
    }

    pub(super) fn spool_options(&self) -> SpoolOptions {
        SpoolOptions { dir: self.spool_dir.clone(), reserve_bytes: self.spool_reserve_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unix_socket_is_auto_off_or_a_path() {
        for (text, socket) in [("auto", UnixSocket::Auto), ("off", UnixSocket::Off), ("./off", UnixSocket::At("./off".into()))] {
            assert_eq!(UnixSocket::from(text.to_owned()), socket);
            assert_eq!(String::from(socket), text);
        }
    }

    #[test]
    fn streams_get_what_is_configured_unless_they_say_otherwise() {
        let defaults = |max_wait_ms, resume_percent| {
            let options = ServerConfig { max_wait_ms, resume_percent, ..Default::default() }.stream_defaults();
            (options.max_wait, options.resume_percent)
        };
        assert_eq!(ServerConfig::default().stream_defaults(), StreamOptions::default());
        assert_eq!(defaults(Some(1_500), 40), (Some(Duration::from_millis(1_500)), 40));
        assert_eq!(defaults(Some(0), 0), (None, 0));
    }

    #[test]
    fn the_defaults_are_valid_and_numbers_out_of_range_are_named() {
        assert_eq!(ServerConfig::default().validate(), Ok(()));
        let field = |config: ServerConfig| config.validate().expect_err("out of range").field;
        assert_eq!(field(ServerConfig { max_buffered_batches: 0, ..Default::default() }), "max_buffered_batches");
        assert_eq!(field(ServerConfig { max_buffered_bytes: 0, ..Default::default() }), "max_buffered_bytes");
        assert_eq!(field(ServerConfig { default_partitions: 4097, ..Default::default() }), "default_partitions");
        assert_eq!(field(ServerConfig { resume_percent: 101, ..Default::default() }), "resume_percent");
        assert_eq!(ServerConfig { resume_percent: 100, ..Default::default() }.validate(), Ok(()));
        assert_eq!(field(ServerConfig { message_bytes_max: (1 << 30) + 1, ..Default::default() }), "message_bytes_max");
        assert_eq!(field(ServerConfig { validation_bytes_max: (1 << 20) - 1, ..Default::default() }), "validation_bytes_max");
        assert_eq!(field(ServerConfig { decompressed_bytes_max: (1 << 30) + 1, ..Default::default() }), "decompressed_bytes_max");
        assert_eq!(field(ServerConfig { decompressed_bytes_max: 1023, ..Default::default() }), "decompressed_bytes_max");
        assert_eq!(field(ServerConfig { trace_one_in: 0, ..Default::default() }), "trace_one_in");
        assert_eq!(field(ServerConfig { connections_max: 0, ..Default::default() }), "connections_max");
        assert_eq!(field(ServerConfig { connections_per_peer_max: 0, ..Default::default() }), "connections_per_peer_max");
        assert_eq!(field(ServerConfig { calls_per_connection_max: 0, ..Default::default() }), "calls_per_connection_max");
        assert_eq!(field(ServerConfig { greeting_timeout_ms: 99, ..Default::default() }), "greeting_timeout_ms");
        assert_eq!(field(ServerConfig { first_call_timeout_ms: 3_600_001, ..Default::default() }), "first_call_timeout_ms");
        assert_eq!(field(ServerConfig { connection_window_bytes: (1 << 20) - 1, ..Default::default() }), "connection_window_bytes");
        assert_eq!(ServerConfig { connection_window_bytes: 1 << 20, ..Default::default() }.validate(), Ok(()));
    }
}
