//! `bowstring debug`: what a report of a defect needs.

mod archive;
mod host;
mod http;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::config::{ClientSettings, GlobalArgs, ServeSettings, Settings};
use super::error::CliError;
use super::shown::{Shown, of_environment};
use super::{print_lines, report};
use crate::client::{self, Client};
use crate::server::url_without_secrets;
use crate::wire::proto::{GetStatsResponse, ServerDescription};
use archive::Archive;

/// The HTTP port unless it is said: where `bowstring serve` has it.
const HTTP_PORT: &str = "8816";
/// Nobody waits longer for one answer of a coordinator that is not well.
const PATIENCE: Duration = Duration::from_secs(15);
/// What the HTTP port is asked for, and the files of the answers.
const PAGES: [(&str, &str); 4] =
    [("/metrics", "metrics.txt"), ("/healthz", "healthz.json"), ("/readyz", "readyz.json"), ("/api/v1/health", "health.json")];
const ABOUT: &str = "\
What `bowstring debug bundle` found out, for a report of a defect. Look through it before you give it away: it has no rows, no tokens and
no passwords, but what people have named: streams, columns, subscriptions, producers and consumers, the reasons that producers gave
for the failure of a stream, paths of files, addresses. The coordinator's log is not in it: add its last lines.

";

/// Collect what a report of a defect needs
#[derive(Debug, Args)]
pub(super) struct DebugArgs {
    #[command(subcommand)]
    command: DebugCommand,
}

#[derive(Debug, Subcommand)]
enum DebugCommand {
    Bundle(Box<BundleArgs>),
}

/// Write a .tar.gz with versions, settings, statistics, metrics and facts of this host: no rows, no tokens
#[derive(Debug, Args)]
#[command(after_help = "\
In it: version.json, configuration.json (as `bowstring config show` prints it on this host), server.json, stats.json with the streams'
descriptions, why.json, what the HTTP port answers (metrics.txt, healthz.json, readyz.json, health.json), host.json, and README.txt,
which says what is missing and why. A coordinator that cannot be reached is no error: the rest is collected.

It has no rows and no secrets, but the names of streams, columns, subscriptions, producers and consumers. The HTTP port is asked without
TLS and without a token: where it wants one of them, README.txt says so.

Examples:
  bowstring debug bundle
  bowstring debug bundle --out report.tar.gz --url grpc://spark-driver:8815
  bowstring debug bundle --http 127.0.0.1:9000")]
struct BundleArgs {
    /// The file, which must not be there yet [default: bowstring-debug-TIME.tar.gz]
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Address of the coordinator's HTTP port, or "off" [default: the host of --url with the port of --config or 8816]
    #[arg(long, value_name = "ADDRESS")]
    http: Option<String>,
    #[command(flatten)]
    client: ClientSettings,
}

pub(super) async fn run(args: DebugArgs, settings: &Settings, global: &GlobalArgs) -> Result<(), CliError> {
    let DebugCommand::Bundle(args) = args.command;
    let time = now();
    // As a name of a file: no colons.
    let stamp = humantime::format_rfc3339_seconds(time).to_string().replace(':', "");
    let name = format!("bowstring-debug-{stamp}");
    let out = args.out.clone().unwrap_or_else(|| format!("{name}.tar.gz").into());
    let url = settings.of_client(&args.client)?.url.unwrap_or_default();
    let mut bundle = Bundle::new(&url, Archive::new(name, time));
    bundle.add_json("version.json", &json!({"version": env!("CARGO_PKG_VERSION"), "made_at": stamp, "url": url_without_secrets(&url)}))?;
    bundle.add_json("host.json", &host::facts())?;
    // Variables that cannot be used are what the report may be about.
    let environment = of_environment::<ServeSettings>();
    let serve = environment.as_ref().map(|(serve, _)| serve.clone()).unwrap_or_default();
    let shown = match environment {
        Ok((_, given)) => Shown::of(settings, &serve, &given, global).await,
        Err(error) => Err(error),
    };
    match shown {
        Ok((shown, _)) => bundle.add_json("configuration.json", &shown.json())?,
        Err(error) => bundle.miss("configuration.json", &error.to_string()),
    }
    bundle.add_calls(&args.client, settings).await?;
    bundle.add_pages(http_address(args.http.as_deref(), &url, settings.serve(&serve)?.http.as_deref()), &url).await?;
    let missing = std::mem::take(&mut bundle.missing);
    bundle.finish(&out, &missing)?;
    let said = missing.iter().map(|(file, reason)| format!("missing: {file}: {reason}"));
    print_lines([format!("wrote {}", out.display())].into_iter().chain(said))
}

/// What is collected, and what could not be.
struct Bundle {
    archive: Archive,
    missing: Vec<(&'static str, String)>,
    /// Texts that may not be in it, and what is there instead.
    secrets: Vec<(String, String)>,
}

impl Bundle {
    fn new(url: &str, archive: Archive) -> Self {
        let mut secrets = vec![(url.to_owned(), url_without_secrets(url))];
        // Nothing has put it there; if anything ever does, it is not found.
        let token = std::env::var("BOWSTRING_TOKEN").unwrap_or_default();
        secrets.push((token.trim().to_owned(), "(token)".to_owned()));
        secrets.retain(|(secret, shown)| !secret.is_empty() && secret != shown);
        Self { archive, missing: Vec::new(), secrets }
    }

    fn without_secrets(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, (secret, shown)| text.replace(secret, shown))
    }

    fn add_text(&mut self, file: &str, text: &str) -> Result<(), CliError> {
        let text = self.without_secrets(text);
        self.archive.add(file, text.as_bytes())
    }

    fn add_json(&mut self, file: &str, value: &Value) -> Result<(), CliError> {
        self.add_text(file, &format!("{value:#}\n"))
    }

    fn miss(&mut self, file: &'static str, reason: &str) {
        let reason = self.without_secrets(reason);
        self.missing.push((file, reason));
    }

    /// What the coordinator answers on its port for calls.
    async fn add_calls(&mut self, flags: &ClientSettings, settings: &Settings) -> Result<(), CliError> {
        let client = match settings.connect(flags).await {
            Ok(client) => client,
            Err(error) => {
                ["server.json", "stats.json", "why.json"].into_iter().for_each(|file| self.miss(file, &error.to_string()));
                return Ok(());
            }
        };
        match in_time(client.describe_server()).await {
            Ok(server) => self.add_json("server.json", &server_json(&server, &client))?,
            Err(reason) => self.miss("server.json", &reason),
        }
        match in_time(client.stats(None)).await {
            Ok(stats) => {
                self.add_json("stats.json", &report::stats_json(&stats))?;
                self.add_json("why.json", &why_json(&stats))
            }
            Err(reason) => {
                ["stats.json", "why.json"].into_iter().for_each(|file| self.miss(file, &reason));
                Ok(())
            }
        }
    }

    /// What it answers on its HTTP port.
    async fn add_pages(&mut self, address: Option<String>, url: &str) -> Result<(), CliError> {
        let why_not = match &address {
            None => Some("the HTTP port is off, or was not to be asked"),
            Some(_) if url.starts_with("grpc+tls://") => Some("the coordinator speaks TLS, which is not done here: get it with curl"),
            Some(_) => None,
        };
        for (path, file) in PAGES {
            match (&address, why_not) {
                (Some(address), None) => match http::get(address, path, PATIENCE).await {
                    Ok(text) => self.add_text(file, &text)?,
                    Err(reason) => self.miss(file, &format!("http://{address}{path}: {reason}")),
                },
                _ => self.miss(file, why_not.unwrap_or_default()),
            }
        }
        Ok(())
    }

    fn finish(mut self, out: &std::path::Path, missing: &[(&'static str, String)]) -> Result<(), CliError> {
        let list: String = missing.iter().map(|(file, reason)| format!("missing: {file}: {reason}\n")).collect();
        let all_there = if missing.is_empty() { "Nothing is missing.\n" } else { "" };
        self.add_text("README.txt", &format!("{ABOUT}{all_there}{list}"))?;
        self.archive.write(out)
    }
}

#[expect(clippy::disallowed_methods, reason = "a report is of a time of the wall's clock")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// An answer, or why there is none.
async fn in_time<T>(call: impl Future<Output = Result<T, client::Error>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

fn server_json(server: &ServerDescription, client: &Client) -> Value {
    json!({
        "server_id": server.server_id,
        "port": server.port,
        "unix_path": server.unix_path,
        "shared_memory_path": server.shared_memory_path,
        "url": url_without_secrets(client.url()),
    })
}

/// What `bowstring why` says of each stream.
fn why_json(stats: &GetStatsResponse) -> Value {
    let descriptions = stats.streams.iter().filter_map(|stream| stream.description.as_ref());
    let texts = |reasons: Vec<client::Reason>| reasons.into_iter().map(|reason| Value::from(reason.text)).collect::<Vec<_>>();
    descriptions
        .map(|stream| (stream.stream.clone(), texts(client::why(stream).reasons).into()))
        .collect::<serde_json::Map<_, Value>>()
        .into()
}

/// Where the HTTP port is; none: it is off.
fn http_address(asked: Option<&str>, url: &str, of_server: Option<&str>) -> Option<String> {
    if let Some(address) = asked {
        return Some(address.to_owned()).filter(|address| address != "off");
    }
    if of_server == Some("off") {
        return None;
    }
    let port = of_server.and_then(|address| Some(address.rsplit_once(':')?.1)).unwrap_or(HTTP_PORT);
    // grpc+unix:///path has no host: it is this one.
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest).split('/').next().unwrap_or_default();
    let host = match authority.rsplit_once('@').map_or(authority, |(_, host)| host) {
        "" => "127.0.0.1",
        with_port => with_port.rsplit_once(':').map_or(with_port, |(host, _)| host),
    };
    Some(format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_http_port_is_where_the_url_is_unless_it_is_said() {
        assert_eq!(http_address(None, "grpc://driver:8815", None).as_deref(), Some("driver:8816"));
        assert_eq!(http_address(None, "grpc://[::1]:8815", None).as_deref(), Some("[::1]:8816"));
        assert_eq!(http_address(None, "grpc+unix:///run/b.sock", Some("0.0.0.0:9")).as_deref(), Some("127.0.0.1:9"));
        assert_eq!(http_address(None, "grpc://driver:8815", Some("off")), None);
        assert_eq!(http_address(Some("off"), "grpc://driver:8815", None), None);
        assert_eq!(http_address(Some("a:1"), "grpc://driver:8815", Some("off")).as_deref(), Some("a:1"));
    }
}
