//! What a start refuses, because it would lose what was confirmed.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bowstring::server::{Server, ServerConfig};

use super::faulty::Faulty;
use super::{config, folder, start};
use crate::client_support::server_with;
use crate::durable_support::{append, read};

async fn refused(config: ServerConfig, words: &[&str]) {
    let config = ServerConfig { listen: ([127, 0, 0, 1], 0).into(), http: None, ..config };
    let error = Server::start(config).await.expect_err("is refused").to_string();
    assert!(words.iter().all(|word| error.contains(word)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_is_not_of_this_object_store_is_refused_and_stays_as_it_is() {
    let (dir, empty) = (folder(), folder());
    let (_store, url) = Faulty::new("refusals");
    let (_other, other_url) = Faulty::new("refusals-other");
    let alone = ServerConfig { data_dir: Some(dir.path().to_owned()), ..ServerConfig::default() };
    let server = server_with(alone.clone()).await;
    let client = crate::client_support::connect(&server.url()).await;
    append(&client, "s", 0..5).await;
    server.shutdown(Duration::from_secs(5)).await;
    drop(server);
    refused(config(&dir, &url), &["never in any", "empty data_dir", "memory:///refusals"]).await;
    let server = server_with(alone).await;
    let client = crate::client_support::connect(&server.url()).await;
    assert_eq!(read(&client, "s").await.len(), 5);

    let (server, client) = start(&empty, &url).await;
    append(&client, "s", 0..5).await;
    server.shutdown(Duration::from_secs(5)).await;
    drop(server);
    refused(config(&empty, &other_url), &["belongs to memory:///refusals"]).await;
    refused(ServerConfig { object_store: None, ..config(&empty, "") }, &["belongs to object_store memory:///refusals"]).await;
    let (_server, client) = start(&empty, &url).await;
    assert_eq!(read(&client, "s").await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_store_that_lets_everybody_write_is_refused() {
    let (store, url) = Faulty::new("unconditional");
    store.faults.ignores_conditions.store(true, Relaxed);
    refused(config(&folder(), &url), &["ignores the condition", "If-None-Match"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_that_is_none_and_one_without_a_data_directory_are_refused() {
    let dir = folder();
    refused(config(&dir, "ftp://host/x"), &["ftp:// is not known", "s3://bucket/prefix"]).await;
    refused(ServerConfig { data_dir: None, ..config(&dir, "memory:///none") }, &["needs a data_dir"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_object_is_named() {
    let (dir, objects) = (folder(), folder());
    let url = super::file_url(objects.path());
    let (server, client) = start(&dir, &url).await;
    append(&client, "s", 0..5).await;
    server.shutdown(Duration::from_secs(5)).await;
    drop(server);
    let path = objects.path().join("commits/00000000000000000003");
    let mut bytes = std::fs::read(&path).expect("is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).expect("is written");
    refused(config(&folder(), &url), &["commits/00000000000000000003", "checksum"]).await;
    std::fs::remove_file(&path).expect("is removed");
    refused(config(&folder(), &url), &["commits/00000000000000000003", "missing"]).await;
}
