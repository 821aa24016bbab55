//! `bowstring serve`: a coordinator in this process.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::config::{ServeSettings, Settings};
use super::error::CliError;
use super::print_lines;
use super::signals::Signals;
use crate::server::{Server, ServerConfig};

/// How long a shutdown lets calls under way end by themselves.
const SHUTDOWN_GRACE_DEFAULT: Duration = Duration::from_secs(5);

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
  [log]
  format = \"json\"
  [client]                       # for the other commands
  url = \"grpc://spark-driver:8815\"

Examples:
  bowstring serve
  bowstring serve --listen 0.0.0.0:8815 --http off --max-buffered-bytes 4GiB
  bowstring serve --listen 127.0.0.1:0 --http 127.0.0.1:0 --log-format json
  bowstring serve --unix /run/bowstring/bowstring.sock
  BOWSTRING_MAX_BUFFERED_BATCHES=256 bowstring serve --config bowstring.toml")]
pub(super) struct ServeArgs {
    #[command(flatten)]
    settings: ServeSettings,
}

pub(super) async fn run(args: &ServeArgs, settings: &Settings, signals: &mut Signals) -> Result<(), CliError> {
    let settings = settings.serve(&args.settings)?;
    let grace = settings.shutdown_grace.map_or(SHUTDOWN_GRACE_DEFAULT, |grace| grace.0);
    let config = config(settings).await?;
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
    let signal = signals.next().await;
    tracing::info!(signal, grace = %super::quantity::span(grace), "shutting down; the same signal again ends at once");
    tokio::select! {
        () = server.shutdown(grace) => tracing::info!("ended in good order"),
        signal = signals.next() => tracing::warn!(signal, "ended at once"),
    }
    Ok(())
}

/// The settings as the server takes them.
async fn config(settings: ServeSettings) -> Result<ServerConfig, CliError> {
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
        max_wait_ms: settings.max_wait.map(|time| u64::try_from(time.0.as_millis()).unwrap_or(u64::MAX)),
        resume_percent: settings.resume_percent.unwrap_or(defaults.resume_percent),
        data_dir: settings.data_dir,
        object_store: settings.object_store,
        object_store_snapshot_commits: defaults.object_store_snapshot_commits,
        spool_dir: settings.spool_dir,
        spool_reserve_bytes: settings.spool_reserve_bytes.map_or(defaults.spool_reserve_bytes, |size| size.0),
        default_partitions: settings.default_partitions.unwrap_or(defaults.default_partitions),
        create_on_put: settings.create_on_put.unwrap_or(defaults.create_on_put),
        message_bytes_max: settings.message_bytes_max.map_or(defaults.message_bytes_max, |size| size.0),
        append_timeout_ms: settings.append_timeout.map(|timeout| u64::try_from(timeout.0.as_millis()).unwrap_or(u64::MAX)),
        connections_max: settings.connections_max.unwrap_or(defaults.connections_max),
    })
}

/// An address to listen on: numbers, or a name of this machine.
async fn resolve(setting: &str, address: &str) -> Result<SocketAddr, CliError> {
    let unusable =
        |reason: String| CliError::usage(format!("{setting} is {address:?}, {reason}; write host:port, for instance 0.0.0.0:8815"));
    let mut found = tokio::net::lookup_host(address).await.map_err(|error| unusable(format!("which cannot be resolved ({error})")))?;
    found.next().ok_or_else(|| unusable("which is no address of any machine".to_owned()))
}
