//! The coordinator that is measured: one that this command starts, or one that runs.

use std::ffi::OsStr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::child::Child;
use crate::cli::error::CliError;
use crate::client::{Client, ClientOptions};

/// How long a scrape may take.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to try to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A coordinator.
pub(super) struct Target {
    pub(super) url: String,
    pub(super) client: Client,
    /// Where its metrics are, if that is known.
    http: Option<String>,
    /// Ends with this.
    own: Option<Child>,
}

/// What a coordinator's process has used so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Usage {
    pub(super) cpu_seconds: f64,
    pub(super) resident_bytes: f64,
}

impl Target {
    /// A coordinator of this benchmark's own, on free ports of loopback and with its defaults.
    pub(super) async fn start(program: &OsStr) -> Result<Self, CliError> {
        let args = ["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--log", "warn"].map(str::to_owned);
        let mut child = Child::start(program, "the coordinator", &args)?;
        let line = child.line().await?;
        let said: Value = serde_json::from_str(&line).unwrap_or_default();
        let address = |key: &str| said.get(key).and_then(Value::as_str).map(str::to_owned);
        let listen = address("listen").ok_or_else(|| CliError::Bench { reason: format!("the coordinator said {line:?}") })?;
        Self::connect(format!("grpc://{listen}"), address("http"), Some(child)).await
    }

    /// A coordinator that runs.
    pub(super) async fn running(url: &str, http: Option<String>) -> Result<Self, CliError> {
        let target = Self::connect(url.to_owned(), http, None).await?;
        // A wrong address is better known now than after the first round.
        target.usage().await?;
        Ok(target)
    }

    async fn connect(url: String, http: Option<String>, own: Option<Child>) -> Result<Self, CliError> {
        let options = ClientOptions { connect_timeout: CONNECT_TIMEOUT, ..ClientOptions::default() };
        let client = Client::connect(&url, options).await?;
        Ok(Self { url, client, http, own })
    }

    /// What it has used; none if nobody has said where its metrics are.
    pub(super) async fn usage(&self) -> Result<Option<Usage>, CliError> {
        let Some(address) = &self.http else { return Ok(None) };
        let unread = |reason: String| CliError::Bench { reason: format!("http://{address}/metrics cannot be read: {reason}") };
        match tokio::time::timeout(SCRAPE_TIMEOUT, scrape(address)).await {
            Ok(Ok(text)) => usage(&text).map(Some).ok_or_else(|| unread("it has no process_cpu_seconds_total".to_owned())),
            Ok(Err(error)) => Err(unread(error.to_string())),
            Err(_) => Err(unread("no answer in time".to_owned())),
        }
    }

    /// What it is called in the report.
    pub(super) fn name(&self) -> &str {
        if self.own.is_some() { "own" } else { &self.url }
    }
}

async fn scrape(address: &str) -> std::io::Result<String> {
    let mut connection = TcpStream::connect(address).await?;
    // 1.0, so that the answer comes whole and ends with the connection.
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn usage(text: &str) -> Option<Usage> {
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    Some(Usage {
        cpu_seconds: value("process_cpu_seconds_total ")?,
        resident_bytes: value("process_resident_memory_bytes ").unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_found_between_the_other_metrics() {
        let text = "HTTP/1.0 200 OK\r\n\r\n# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total 1.25\nprocess_resident_memory_bytes 4096\n";
        assert_eq!(usage(text), Some(Usage { cpu_seconds: 1.25, resident_bytes: 4096.0 }));
        assert_eq!(usage("bowstring_uptime_seconds 3\n"), None);
    }
}
