//! Settings from flags, environment, a TOML file and defaults: the earlier wins.
//!
//! The file has the server's settings at its top, the clients' in `[client]` and the log's in `[log]`.
//! clap reads flags and `BOWSTRING_*` variables into the same structs that the file is read into; figment lays one over the
//! other and says for a bad value where it came from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use figment::Figment;
use figment::providers::{Format as _, Serialized, Toml};
use serde::{Deserialize, Serialize};

use super::auth::{AuditSettings, AuthSettings};
use super::error::CliError;
use super::log::LogSettings;
use super::quantity::{Size, Span};
use crate::client::{Client, ClientOptions, TlsOptions, TokenSource};
use crate::server::{IngestConfig, TlsConfig, Validation};

/// Where clients look for a coordinator unless told otherwise: where `bowstring serve` listens by default.
const URL_DEFAULT: &str = "grpc://127.0.0.1:8815";
/// How long clients try to connect. Shorter than the library's, since somebody sits before the terminal.
const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub(super) struct GlobalArgs {
    /// TOML file with settings; flags and environment go before it
    #[arg(long, global = true, value_name = "FILE", env = "BOWSTRING_CONFIG", help_heading = "Global options")]
    pub(super) config: Option<PathBuf>,
    #[command(flatten)]
    pub(super) log: LogSettings,
}

/// How to reach the coordinator.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ClientSettings {
    /// The coordinator [default: grpc://127.0.0.1:8815]
    #[arg(long, short, env = "BOWSTRING_URL", help_heading = "Connection")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) url: Option<String>,
    /// How long to try to connect [default: 5s]
    #[arg(long, value_name = "DURATION", env = "BOWSTRING_CONNECT_TIMEOUT", help_heading = "Connection")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connect_timeout: Option<Span>,
    /// How long to go on while the coordinator is away, once connected [default: 1m]
    #[arg(long, value_name = "DURATION", env = "BOWSTRING_RETRY_FOR", help_heading = "Connection")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) retry_for: Option<Span>,
    /// Whether data goes by the coordinator's Unix socket if it is on this host [default: true]
    #[arg(long, value_name = "BOOL", env = "BOWSTRING_LOCAL_SOCKET", help_heading = "Connection")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) local_socket: Option<bool>,
    /// Whether bodies of batches go by shared memory then [default: true]
    #[arg(long, value_name = "BOOL", env = "BOWSTRING_SHARED_MEMORY", help_heading = "Connection")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) shared_memory: Option<bool>,
    /// With grpc+tls://: file of the CAs that may have signed the coordinator's certificate [default: those that this machine trusts]
    #[arg(long, value_name = "FILE", env = "BOWSTRING_TLS_CA", help_heading = "Connection")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tls_ca: Option<PathBuf>,
    /// File of the client's certificate, where the coordinator asks for one
    #[arg(long, value_name = "FILE", env = "BOWSTRING_TLS_CLIENT_CERT", help_heading = "Connection")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tls_cert: Option<PathBuf>,
    /// File of its private key
    #[arg(long, value_name = "FILE", env = "BOWSTRING_TLS_CLIENT_KEY", help_heading = "Connection")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tls_key: Option<PathBuf>,
    /// Name that must be in the coordinator's certificate [default: the URL's host]
    #[arg(long, value_name = "NAME", env = "BOWSTRING_TLS_SERVER_NAME", help_heading = "Connection")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tls_server_name: Option<String>,
    /// File with the token that shows who you are; BOWSTRING_TOKEN has the token itself [default: none]
    #[arg(long, value_name = "FILE", env = "BOWSTRING_TOKEN_FILE", help_heading = "Connection")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token_file: Option<PathBuf>,
    /// Whether the token may go to other hosts in clear, without TLS [default: false]
    #[arg(long, value_name = "BOOL", env = "BOWSTRING_ALLOW_PLAINTEXT_TOKEN", help_heading = "Connection")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) allow_plaintext_token: Option<bool>,
}

/// What `bowstring serve` can be told; None is the server's default.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ServeSettings {
    /// Address for producers and consumers; port 0 picks a free one [default: 127.0.0.1:8815]
    #[arg(long, value_name = "ADDRESS", env = "BOWSTRING_LISTEN", help_heading = "Addresses")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) listen: Option<String>,
    /// Unix socket for producers and consumers on this host: a path, "auto" for one in a private folder, or "off" [default: auto]
    #[arg(long, value_name = "PATH", env = "BOWSTRING_UNIX", help_heading = "Addresses")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unix: Option<String>,
    /// Whether bodies of batches may go by shared memory between this user's processes on this host [default: true]
    #[arg(long, value_name = "BOOL", env = "BOWSTRING_SHARED_MEMORY", help_heading = "Addresses")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) shared_memory: Option<bool>,
    /// Address of /metrics, /healthz and /readyz, or "off" [default: 127.0.0.1:8816]
    #[arg(long, value_name = "ADDRESS", env = "BOWSTRING_HTTP", help_heading = "Addresses")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) http: Option<String>,
    /// Host that clients are told to connect to, where it is not the address that is listened on
    #[arg(long, value_name = "HOST", env = "BOWSTRING_ADVERTISE_HOST", help_heading = "Addresses")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) advertise_host: Option<String>,
    /// Allow addresses that others than this host reach although nothing keeps strangers out
    #[arg(long, env = "BOWSTRING_INSECURE", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL", require_equals = true, help_heading = "Addresses")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) insecure: Option<bool>,
    #[command(flatten)]
    #[serde(skip_serializing_if = "TlsSettings::is_default")]
    pub(super) tls: TlsSettings,
    /// Most batches of a stream in memory [default: 64]
    #[arg(long, value_name = "COUNT", env = "BOWSTRING_MAX_BUFFERED_BATCHES", help_heading = "Limits of new streams")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_buffered_batches: Option<u64>,
    /// Most bytes of a stream in memory [default: 2GiB]
    #[arg(long, value_name = "SIZE", env = "BOWSTRING_MAX_BUFFERED_BYTES", help_heading = "Limits of new streams")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_buffered_bytes: Option<Size>,
    /// Most bytes of a stream on disk, for epochs larger than memory takes [default: 16GiB]
    #[arg(long, value_name = "SIZE", env = "BOWSTRING_MAX_SPOOL_BYTES", help_heading = "Limits of new streams")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_spool_bytes: Option<Size>,
    /// Most bytes of a stream's log, with --data-dir [default: 64GiB]
    #[arg(long, value_name = "SIZE", env = "BOWSTRING_MAX_DISK_BYTES", help_heading = "Limits of new streams")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_disk_bytes: Option<Size>,
    /// How long an append waits for a stream's room before it is refused with buffer_full; 0: as long as its client does [default: 0]
    #[arg(long, value_name = "DURATION", env = "BOWSTRING_MAX_WAIT", help_heading = "Limits of new streams")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_wait: Option<Span>,
    /// Once a stream was full, let those that wait in when it has fallen to so many percent of its limits [default: 100]
    #[arg(long, value_name = "PERCENT", env = "BOWSTRING_RESUME_PERCENT", help_heading = "Limits of new streams")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) resume_percent: Option<u32>,
    /// Partitions of a stream that does not say how many [default: 1]
    #[arg(long, value_name = "COUNT", env = "BOWSTRING_DEFAULT_PARTITIONS", help_heading = "Limits of new streams")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) default_partitions: Option<u32>,
    /// Whether appending to a stream that does not exist creates it [default: true]
    #[arg(long, value_name = "BOOL", env = "BOWSTRING_CREATE_ON_PUT", help_heading = "Limits of new streams")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) create_on_put: Option<bool>,
    /// Folder of durable streams: what is confirmed survives the coordinator [default: none, all is in memory]
    #[arg(long, value_name = "DIR", env = "BOWSTRING_DATA_DIR", help_heading = "Server")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data_dir: Option<PathBuf>,
    /// Object store of durable streams, with --data-dir: s3://bucket/prefix, gs://.., az://.. or file:///folder; what is confirmed survives the machine [default: none]
    #[arg(long, value_name = "URL", env = "BOWSTRING_OBJECT_STORE", help_heading = "Server")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) object_store: Option<String>,
    /// Folder of the spool's temporary files [default: the system's]
    #[arg(long, value_name = "DIR", env = "BOWSTRING_SPOOL_DIR", help_heading = "Server")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) spool_dir: Option<PathBuf>,
    /// Space on its disk that is always left free [default: 1GiB]
    #[arg(long, value_name = "SIZE", env = "BOWSTRING_SPOOL_RESERVE_BYTES", help_heading = "Server")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) spool_reserve_bytes: Option<Size>,
    /// Connections that are open at once [default: 10000]
    #[arg(long, value_name = "COUNT", env = "BOWSTRING_CONNECTIONS_MAX", help_heading = "Connections")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connections_max: Option<usize>,
    /// Connections of one address that are open at once [default: 5000]
    #[arg(long, value_name = "COUNT", env = "BOWSTRING_CONNECTIONS_PER_PEER_MAX", help_heading = "Connections")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connections_per_peer_max: Option<usize>,
    /// Calls that are open at once on one connection [default: 4096]
    #[arg(long, value_name = "COUNT", env = "BOWSTRING_CALLS_PER_CONNECTION_MAX", help_heading = "Connections")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) calls_per_connection_max: Option<u32>,
    /// How long a connection may take for TLS handshake and HTTP/2's beginning, or for a request's headers [default: 10s]
    #[arg(long, value_name = "DURATION", env = "BOWSTRING_GREETING_TIMEOUT", help_heading = "Connections")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) greeting_timeout: Option<Span>,
    /// How long a connection may be open before its first call [default: 1m]
    #[arg(long, value_name = "DURATION", env = "BOWSTRING_FIRST_CALL_TIMEOUT", help_heading = "Connections")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first_call_timeout: Option<Span>,
    /// Bytes that one connection may have sent and the coordinator not taken yet [default: 512MiB]
    #[arg(long, value_name = "SIZE", env = "BOWSTRING_CONNECTION_WINDOW_BYTES", help_heading = "Connections")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connection_window_bytes: Option<Size>,
    /// Largest message that is taken, at most 1GiB [default: 1GiB]
    #[arg(long, value_name = "SIZE", env = "BOWSTRING_MESSAGE_BYTES_MAX", help_heading = "Server")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message_bytes_max: Option<Size>,
    /// How closely batches are looked at: "structure" (headers) or "full" (every value that readers trust; costs a decode) [default: structure]
    #[arg(long, value_name = "HOW", env = "BOWSTRING_VALIDATION", help_heading = "Server")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) validation: Option<Validation>,
    /// Memory that full validation takes at once [default: 1GiB]
    #[arg(long, value_name = "SIZE", env = "BOWSTRING_VALIDATION_BYTES_MAX", help_heading = "Server")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) validation_bytes_max: Option<Size>,
    /// Most bytes that a compressed batch may become, at most 1GiB [default: 1GiB]
    #[arg(long, value_name = "SIZE", env = "BOWSTRING_DECOMPRESSED_BYTES_MAX", help_heading = "Server")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) decompressed_bytes_max: Option<Size>,
    /// How long an append may wait for room before it fails [default: for ever]
    #[arg(long, value_name = "DURATION", env = "BOWSTRING_APPEND_TIMEOUT", help_heading = "Server")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) append_timeout: Option<Span>,
    /// How long a shutdown lets calls under way end by themselves [default: 5s]
    #[arg(long, value_name = "DURATION", env = "BOWSTRING_SHUTDOWN_GRACE", help_heading = "Server")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) shutdown_grace: Option<Span>,
    /// `[auth]` in the file.
    #[command(flatten)]
    pub(super) auth: AuthSettings,
    /// `[audit]` in the file.
    #[command(flatten)]
    pub(super) audit: AuditSettings,
    /// `[ingest.STREAM]` in the file, and only there.
    #[arg(skip)]
    #[serde(skip_serializing)]
    pub(super) ingest: BTreeMap<String, IngestConfig>,
    /// OpenTelemetry collector that gets a trace of each epoch, by OTLP over gRPC, for instance http://127.0.0.1:4317 [default: none]
    #[arg(long, value_name = "URL", env = "BOWSTRING_OTLP_ENDPOINT", help_heading = "Tracing")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) otlp_endpoint: Option<String>,
    /// One epoch of so many is traced [default: 1]
    #[arg(long, value_name = "N", env = "BOWSTRING_TRACE_ONE_IN", help_heading = "Tracing")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) trace_one_in: Option<u64>,
    /// Only in the file, whose other settings are the server's.
    #[arg(skip)]
    #[serde(skip_serializing)]
    client: ClientSettings,
    /// Only in the file.
    #[arg(skip)]
    #[serde(skip_serializing)]
    log: LogSettings,
}

/// The server's TLS: `[tls]` in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TlsSettings {
    /// PEM file of the server's certificate, and those between it and its CA: both ports speak TLS then [default: none, plain]
    #[arg(id = "server_tls_cert", long = "tls-cert", value_name = "FILE", env = "BOWSTRING_TLS_CERT", help_heading = "TLS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cert: Option<PathBuf>,
    /// PEM file of its private key
    #[arg(id = "server_tls_key", long = "tls-key", value_name = "FILE", env = "BOWSTRING_TLS_KEY", help_heading = "TLS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<PathBuf>,
    /// PEM file of the CAs that clients' certificates must come from [default: none, clients need no certificate]
    #[arg(id = "server_tls_client_ca", long = "tls-client-ca", value_name = "FILE", env = "BOWSTRING_TLS_CLIENT_CA", help_heading = "TLS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client_ca: Option<PathBuf>,
}

impl TlsSettings {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// As the server takes them.
    pub(super) fn config(self) -> Result<Option<TlsConfig>, CliError> {
        match (self.cert, self.key, self.client_ca) {
            (None, None, None) => Ok(None),
            (Some(cert), Some(key), client_ca) => Ok(Some(TlsConfig { cert, key, client_ca })),
            (None, _, _) => Err(CliError::usage("TLS needs a certificate; name its file with tls.cert (--tls-cert)".to_owned())),
            (Some(_), None, _) => Err(CliError::usage("tls.cert needs its private key; name its file with tls.key (--tls-key)".to_owned())),
        }
    }
}

/// The settings of all sources, laid over each other.
#[derive(Debug)]
pub(super) struct Settings {
    file: Figment,
}

impl Settings {
    /// Reads the file, if there is one, and refuses what is not known in it, whichever command is to run.
    pub(super) fn read(path: Option<&Path>) -> Result<Self, CliError> {
        let Some(path) = path else {
            return Ok(Self { file: Figment::new() });
        };
        if !path.exists() {
            return Err(CliError::FileNotFound { path: path.to_path_buf() });
        }
        let settings = Self { file: Figment::from(Toml::file_exact(path)) };
        settings.serve(&ServeSettings::default())?;
        Ok(settings)
    }

    /// The names of what stands in the file; of what stands in a table, `table.name`.
    pub(super) fn file_names(&self) -> Vec<String> {
        let table: figment::value::Dict = self.file.extract().unwrap_or_default();
        let names = |(name, value): (&String, &figment::value::Value)| match value.as_dict() {
            Some(inner) => inner.keys().map(|key| format!("{name}.{key}")).collect(),
            None => vec![name.clone()],
        };
        table.iter().flat_map(names).collect()
    }

    /// The server's settings, with `flags` over those of the file.
    pub(super) fn serve(&self, flags: &ServeSettings) -> Result<ServeSettings, CliError> {
        self.file.clone().merge(Serialized::defaults(flags)).extract().map_err(unusable)
    }

    /// The log's settings, with `flags` over those of the file.
    pub(super) fn log(&self, flags: &LogSettings) -> Result<LogSettings, CliError> {
        self.section("log", flags)
    }

    /// The settings of a file that was read.
    pub(super) fn of(file: Figment) -> Self {
        Self { file }
    }

    /// Whether the clients' settings can be used, with `flags` over those of the file.
    pub(super) fn client(&self, flags: &ClientSettings) -> Result<(), CliError> {
        self.section("client", flags).map(drop)
    }

    /// What clients work with: `flags`, or else the file, or else the defaults. Only what has no default may be none.
    pub(super) fn of_client(&self, flags: &ClientSettings) -> Result<ClientSettings, CliError> {
        let (given, defaults) = (self.section("client", flags)?, ClientOptions::default());
        Ok(ClientSettings {
            url: given.url.or_else(|| Some(URL_DEFAULT.to_owned())),
            connect_timeout: given.connect_timeout.or(Some(Span(CONNECT_TIMEOUT_DEFAULT))),
            retry_for: given.retry_for.or(Some(Span(defaults.retry_deadline))),
            local_socket: given.local_socket.or(Some(defaults.local_socket)),
            shared_memory: given.shared_memory.or(Some(defaults.shared_memory)),
            allow_plaintext_token: given.allow_plaintext_token.or(Some(defaults.allow_plaintext_token)),
            ..given
        })
    }

    /// Connects as `flags`, or else the file, or else the defaults say.
    pub(super) async fn connect(&self, flags: &ClientSettings) -> Result<Client, CliError> {
        let settings = self.of_client(flags)?;
        let defaults = ClientOptions::default();
        let options = ClientOptions {
            connect_timeout: settings.connect_timeout.map_or(CONNECT_TIMEOUT_DEFAULT, |timeout| timeout.0),
            retry_deadline: settings.retry_for.map_or(defaults.retry_deadline, |duration| duration.0),
            local_socket: settings.local_socket.unwrap_or(defaults.local_socket),
            shared_memory: settings.shared_memory.unwrap_or(defaults.shared_memory),
            tls: TlsOptions { ca: settings.tls_ca, cert: settings.tls_cert, key: settings.tls_key, server_name: settings.tls_server_name },
            token: settings.token_file.map_or(defaults.token.clone(), TokenSource::File),
            allow_plaintext_token: settings.allow_plaintext_token.unwrap_or(defaults.allow_plaintext_token),
            ..defaults
        };
        Ok(Client::connect(settings.url.as_deref().unwrap_or(URL_DEFAULT), options).await?)
    }

    fn section<T: Serialize + for<'de> Deserialize<'de>>(&self, name: &str, flags: &T) -> Result<T, CliError> {
        self.file.focus(name).merge(Serialized::defaults(flags)).extract().map_err(unusable)
    }
}

fn unusable(error: figment::Error) -> CliError {
    // One line per fault; figment chains them.
    CliError::Config { reason: error.into_iter().map(|fault| fault.to_string()).collect::<Vec<_>>().join("; ") }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        Settings::of(Figment::from(Toml::string(text)))
    }

    #[test]
    fn flags_go_before_the_file() {
        let file = settings("listen = \"a:1\"\nmax_buffered_bytes = \"1GiB\"\nappend_timeout = \"30s\"");
        let flags = ServeSettings { listen: Some("b:2".into()), ..ServeSettings::default() };
        let merged = file.serve(&flags).unwrap();
        assert_eq!(merged.listen.as_deref(), Some("b:2"));
        assert_eq!(merged.max_buffered_bytes, Some(Size(1 << 30)));
        assert_eq!(merged.append_timeout, Some(Span(Duration::from_secs(30))));
        assert_eq!(merged.http, None);
    }

    #[test]
    fn clients_have_a_section_of_their_own() {
        let file = settings("listen = \"a:1\"\n[client]\nurl = \"grpc://x:1\"\nconnect_timeout = \"1s\"\n[log]\nformat = \"json\"");
        let flags = ClientSettings { connect_timeout: Some(Span(Duration::from_secs(9))), ..ClientSettings::default() };
        let merged = file.section("client", &flags).unwrap();
        assert_eq!(merged.url.as_deref(), Some("grpc://x:1"));
        assert_eq!(merged.connect_timeout, flags.connect_timeout);
        assert_eq!(file.log(&LogSettings::default()).unwrap().format, Some(super::super::log::LogFormat::Json));
        assert_eq!(settings("").section("client", &flags).unwrap().url, None);
    }

    #[test]
    fn a_bad_file_names_the_key_and_what_is_expected() {
        let check = |text: &str, words: &[&str]| {
            let error = settings(text).serve(&ServeSettings::default()).unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        };
        check("lisden = \"a:1\"", &["lisden", "listen"]);
        check("[client]\nurk = 1", &["urk", "url"]);
        check("max_buffered_bytes = \"many\"", &["max_buffered_bytes", "many", "512MiB"]);
        check("append_timeout = 30", &["append_timeout", "30"]);
    }
}
