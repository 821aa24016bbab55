//! `bowstring serve`: a coordinator in this process.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Id};
use serde_json::Value;

use super::config::{ServeSettings, Settings};
use super::error::CliError;
use super::print_lines;
use super::quantity::Span;
use super::signals::Signals;
use crate::server::{Server, ServerConfig};

/// How long a shutdown lets calls under way end by themselves.
const SHUTDOWN_GRACE_DEFAULT: Duration = Duration::from_secs(5);

impl ServeSettings {
    /// How long a shutdown lets calls under way end by themselves.
    pub(super) fn grace(&self) -> Duration {
        self.shutdown_grace.map_or(SHUTDOWN_GRACE_DEFAULT, |grace| grace.0)
    }
}

/// Run a coordinator
#[derive(Debug, Args)]
#[command(after_help = "\
Once it listens it prints one line of JSON: {\"listen\": \"127.0.0.1:8815\", \"http\": \"127.0.0.1:8816\", \"unix\": \"/run/user/1000/bowstring-1000/....sock\"}.
Clients on the same host find the Unix socket by themselves; \"http\" and \"unix\" are null where they are off.
SIGTERM and Ctrl-C end it in good order: consumers are told, producers get an error that says to try again; a second one ends it at once.

Every setting can also stand in the file of --config, with _ for -, and in the environment:
  listen = \"0.0.0.0:8815\"
  max_buffered_bytes = \"4GiB\"
  append_timeout = \"30s\"
  [tls]                          # read again when they change, and at SIGHUP
  cert = \"/etc/bowstring/tls.crt\"
  key = \"/etc/bowstring/tls.key\"
  [log]
  format = \"json\"
  [client]                       # for the other commands
  url = \"grpc+tls://spark-driver:8815\"

Examples:
  bowstring serve
  bowstring serve --listen 0.0.0.0:8815 --http off --tls-cert tls.crt --tls-key tls.key --max-buffered-bytes 4GiB
  bowstring serve --listen 0.0.0.0:8815 --http off --insecure     # where the network itself keeps strangers out
  bowstring serve --listen 127.0.0.1:0 --http 127.0.0.1:0 --log-format json
  bowstring serve --unix /run/bowstring/bowstring.sock
  BOWSTRING_MAX_BUFFERED_BATCHES=256 bowstring serve --config bowstring.toml")]
pub(super) struct ServeArgs {
    #[command(flatten)]
    settings: ServeSettings,
    /// Which settings came by a flag or the environment.
    #[arg(skip)]
    given: Given,
}

impl ServeArgs {
    /// Takes note of where the settings come from.
    pub(super) fn note_sources(&mut self, matches: &ArgMatches) {
        self.given = given(matches);
    }
}

/// "flag" or "environment", by the settings' names with `_` for `-`.
pub(super) type Given = BTreeMap<String, &'static str>;

/// Where those settings come from that a flag or the environment gives.
pub(super) fn given(matches: &ArgMatches) -> Given {
    let source = |name: &str| match matches.value_source(name) {
        Some(ValueSource::CommandLine) => Some("flag"),
        Some(ValueSource::EnvVariable) => Some("environment"),
        _ => None,
    };
    // The ids of the server's TLS are not those of the clients'.
    let named = |name: &str| Some((name.strip_prefix("server_").unwrap_or(name).to_owned(), source(name)?));
    matches.ids().map(Id::as_str).filter(|name| matches.try_contains_id(name).is_ok()).filter_map(named).collect()
}

pub(super) async fn run(args: &ServeArgs, settings: &Settings, signals: &mut Signals) -> Result<(), CliError> {
    let sources = sources(&args.given, settings);
    let settings = settings.serve(&args.settings)?;
    let grace = settings.grace();
    let config = config(settings, sources).await?;
    if config.tls.is_some() || config.audit.file.is_some() {
        signals.listen_to_hang_up()?;
    }
    super::allow_files();
    let server = tokio::select! {
        server = Server::start(config) => server?,
        signal = signals.next() => {
            tracing::info!(signal, "ended while it was starting");
            return Ok(());
        }
    };
    let http = server.http_addr().map_or(Value::Null, |address| address.to_string().into());
    let unix = server.unix_path().map_or(Value::Null, |path| path.to_string_lossy().into());
    print_lines([format!("{{\"listen\": \"{}\", \"http\": {http}, \"unix\": {unix}}}", server.listen_addr())])?;
    let signal = loop {
        match signals.next_or_hang_up().await {
            Some(signal) => break signal,
            None => {
                server.reload_tls();
                server.reopen_audit();
            }
        }
    };
    tracing::info!(signal, grace = %super::quantity::span(grace), "shutting down; the same signal again ends at once");
    tokio::select! {
        () = server.shutdown(grace) => tracing::info!("ended in good order"),
        signal = signals.next() => tracing::warn!(signal, "ended at once"),
    }
    Ok(())
}

/// Where each setting was given, by name.
pub(super) fn sources(given: &Given, settings: &Settings) -> BTreeMap<String, String> {
    // What stands in a table is called by its flag: tls.cert is --tls-cert.
    // But of tables with a name for each stream the table is the setting.
    let called = |name: String| if name.starts_with("ingest.") { "ingest".to_owned() } else { name.replace('.', "_") };
    let in_file = settings.file_names().into_iter().map(|name| (called(name), "file".to_owned()));
    in_file.chain(given.iter().map(|(name, source)| (name.clone(), (*source).to_owned()))).collect()
}

/// The settings as the server takes them.
pub(super) async fn config(settings: ServeSettings, sources: BTreeMap<String, String>) -> Result<ServerConfig, CliError> {
    let defaults = ServerConfig::default();
    let listen = match &settings.listen {
        Some(address) => resolve("listen", address).await?,
        None => defaults.listen,
    };
    let http = match settings.http.as_deref() {
        Some("off") => None,
        Some(address) => Some(resolve("http", address).await?),
        None => defaults.http,
    };
    Ok(ServerConfig {
        listen,
        unix: settings.unix.map_or(defaults.unix, Into::into),
        shared_memory: settings.shared_memory.unwrap_or(defaults.shared_memory),
        http,
        advertise_host: settings.advertise_host,
        max_buffered_batches: settings.max_buffered_batches.unwrap_or(defaults.max_buffered_batches),
        max_buffered_bytes: settings.max_buffered_bytes.map_or(defaults.max_buffered_bytes, |size| size.0),
        max_spool_bytes: settings.max_spool_bytes.map_or(defaults.max_spool_bytes, |size| size.0),
        max_disk_bytes: settings.max_disk_bytes.map_or(defaults.max_disk_bytes, |size| size.0),
        max_wait_ms: settings.max_wait.map(millis),
        resume_percent: settings.resume_percent.unwrap_or(defaults.resume_percent),
        data_dir: settings.data_dir,
        object_store: settings.object_store,
        object_store_snapshot_commits: defaults.object_store_snapshot_commits,
        spool_dir: settings.spool_dir,
        spool_reserve_bytes: settings.spool_reserve_bytes.map_or(defaults.spool_reserve_bytes, |size| size.0),
        default_partitions: settings.default_partitions.unwrap_or(defaults.default_partitions),
        create_on_put: settings.create_on_put.unwrap_or(defaults.create_on_put),
        message_bytes_max: settings.message_bytes_max.map_or(defaults.message_bytes_max, |size| size.0),
        append_timeout_ms: settings.append_timeout.map(millis),
        validation: settings.validation.unwrap_or(defaults.validation),
        validation_bytes_max: settings.validation_bytes_max.map_or(defaults.validation_bytes_max, |size| size.0),
        decompressed_bytes_max: settings.decompressed_bytes_max.map_or(defaults.decompressed_bytes_max, |size| size.0),
        connections_max: settings.connections_max.unwrap_or(defaults.connections_max),
        connections_per_peer_max: settings.connections_per_peer_max.unwrap_or(defaults.connections_per_peer_max),
        calls_per_connection_max: settings.calls_per_connection_max.unwrap_or(defaults.calls_per_connection_max),
        greeting_timeout_ms: settings.greeting_timeout.map_or(defaults.greeting_timeout_ms, millis),
        first_call_timeout_ms: settings.first_call_timeout.map_or(defaults.first_call_timeout_ms, millis),
        connection_window_bytes: settings
            .connection_window_bytes
            .map_or(defaults.connection_window_bytes, |size| u32::try_from(size.0).unwrap_or(u32::MAX)),
        tls: settings.tls.config()?,
        insecure: settings.insecure.unwrap_or(defaults.insecure),
        auth: settings.auth.config(),
        audit: settings.audit.config(),
        ingest: settings.ingest,
        otlp_endpoint: settings.otlp_endpoint,
        trace_one_in: settings.trace_one_in.unwrap_or(defaults.trace_one_in),
        sources,
    })
}

fn millis(span: Span) -> u64 {
    u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX)
}

/// An address to listen on: numbers, or a name of this machine.
async fn resolve(setting: &str, address: &str) -> Result<SocketAddr, CliError> {
    let unusable =
        |reason: String| CliError::usage(format!("{setting} is {address:?}, {reason}; write host:port, for instance 0.0.0.0:8815"));
    let mut found = tokio::net::lookup_host(address).await.map_err(|error| unusable(format!("which cannot be resolved ({error})")))?;
    found.next().ok_or_else(|| unusable("which is no address of any machine".to_owned()))
}
