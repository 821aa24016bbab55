//! Durable streams that are in an object store as well: what is confirmed survives the machine, and one coordinator at a time owns them.

mod failover;
mod faults;
mod faulty;
mod keeping;
mod refusals;
mod s3;

use std::path::Path;

use bowstring::client::Client;
use bowstring::server::{Server, ServerConfig};
use tempfile::TempDir;

use super::client_support::{connect, server_with};

/// A coordinator on a data directory and an object store.
fn config(dir: &TempDir, url: &str) -> ServerConfig {
    ServerConfig { data_dir: Some(dir.path().to_owned()), object_store: Some(url.to_owned()), ..ServerConfig::default() }
}

async fn start(dir: &TempDir, url: &str) -> (Server, Client) {
    let server = server_with(config(dir, url)).await;
    let client = connect(&server.url()).await;
    (server, client)
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn file_url(path: &Path) -> String {
    format!("file://{}", path.display())
}
