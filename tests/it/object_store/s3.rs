//! A server that speaks S3: the requests, their signatures and the conditional put, as real processes send them.
//!
//! With `BOWSTRING_TEST_S3` it is another one: the URL of an empty prefix, for instance `s3://bucket/test`, whose credentials and endpoint
//! are in the environment as ever.

use std::net::SocketAddr;
use std::time::Duration;

use bowstring::client::{Client, ClientOptions, ProducerOptions};
use bowstring::engine::Code;
use bytes::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::folder;
use crate::cli::bowstring;
use crate::cli::coordinator::{Coordinator, signal, wait};
use crate::client_support::{connect, numbered, soon};
use crate::durable_support::{append, offsets, read};
use crate::server_support::until;
use crate::workload::Workload;

const KEY: &str = "key";
const SECRET: &str = "a secret";

#[test]
fn a_start_that_waits_for_its_object_store_ends_at_a_signal() {
    let (dir, nobody) = (folder(), std::net::TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let endpoint = format!("http://{}", nobody.local_addr().expect("bound"));
    let data_dir = dir.path().to_str().expect("UTF-8");
    let mut command = bowstring(&["serve", "--data-dir", data_dir, "--object-store", "s3://bucket/prefix", "--listen", "127.0.0.1:0"]);
    let environment =
        [("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET), ("AWS_ENDPOINT_URL", &endpoint), ("AWS_ALLOW_HTTP", "true")];
    let mut child = command.envs(environment).args(["--http", "off", "--unix", "off"]).spawn().expect("starts");
    // It is asked for something, and does not answer.
    nobody.accept().expect("the start");
    signal(&child, "TERM");
    assert_eq!(wait(&mut child, Duration::from_secs(5)), 0);
}

/// A server on a free port of this host, with a bucket.
async fn server() -> (TempDir, SocketAddr) {
    let objects = folder();
    std::fs::create_dir(objects.path().join("bucket")).expect("is made");
    let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(objects.path()).expect("a folder"));
    service.set_auth(SimpleAuth::from_single(KEY, SECRET));
    let service = service.build();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = service.clone();
            tokio::spawn(async move {
                let http = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                // However it ends: the coordinators are killed.
                drop(http.serve_connection(TokioIo::new(socket), service).await);
            });
        }
    });
    (objects, address)
}

/// Where coordinators put their objects, and with which credentials.
struct S3 {
    url: String,
    environment: Vec<(&'static str, String)>,
    objects: Option<TempDir>,
}

impl S3 {
    async fn start(prefix: &str) -> Self {
        if let Ok(url) = std::env::var("BOWSTRING_TEST_S3") {
            return Self { url: format!("{url}/{prefix}"), environment: Vec::new(), objects: None };
        }
        let (objects, address) = server().await;
        let environment = vec![
            ("AWS_ACCESS_KEY_ID", KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ENDPOINT_URL", format!("http://{address}")),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
        ];
        Self { url: format!("s3://bucket/{prefix}"), environment, objects: Some(objects) }
    }

    fn serve(&self, dir: &TempDir, listen: &str) -> Coordinator {
        let data_dir = dir.path().to_str().expect("UTF-8");
        let flags = ["--data-dir", data_dir, "--object-store", &self.url, "--listen", listen, "--http", "off", "--unix", "off"];
        let environment: Vec<_> = self.environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Coordinator::start_with(&flags, &environment)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn coordinators_that_are_killed_are_followed_by_others_on_other_machines() {
    let s3 = S3::start("killed").await;
    let mut dir = folder();
    let mut coordinator = s3.serve(&dir, "127.0.0.1:0");
    let listen = coordinator.listen.clone();
    let workload = Workload::start(&coordinator.url(), ClientOptions::default()).await;
    for _ in 0..3 {
        workload.goes_on().await;
        coordinator.signal("KILL");
        drop(coordinator);
        dir = folder();
        coordinator = s3.serve(&dir, &listen);
    }
    if let Some(objects) = &s3.objects {
        let catalogs = objects.path().join("bucket/killed/catalogs");
        until("commits are summed up", async || std::fs::read_dir(&catalogs).is_ok_and(|found| found.count() > 0)).await;
    }
    let done = workload.finish().await;
    println!("{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_stood_still_while_another_took_over_confirms_nothing_more() {
    let s3 = S3::start("fenced").await;
    let (dir, other) = (folder(), folder());
    let former = s3.serve(&dir, "127.0.0.1:0");
    let client = connect(&former.url()).await;
    append(&client, "s", 0..10).await;
    let options = ClientOptions { retry_deadline: Duration::from_secs(1), ..ClientOptions::default() };
    let impatient = Client::connect(&former.url(), options).await.expect("is there");
    former.signal("STOP");
    let latter = s3.serve(&other, "127.0.0.1:0");
    let heir = connect(&latter.url()).await;
    append(&heir, "s", 10..15).await;
    let before = read(&heir, "s").await;
    assert_eq!(before.len(), 15);
    former.signal("CONT");
    let mut producer = impatient.producer("s", ProducerOptions::default()).expect("a producer");
    let appended = async {
        producer.append(&numbered(99, 1), None, Bytes::new()).await?;
        producer.flush().await
    };
    let error = soon(appended).await.expect_err("is fenced");
    assert!(error.code() == Code::Unavailable && error.to_string().contains("has taken over"), "{error}");
    let waits_for = async || client.describe_stream("s").await.expect("is there").log_waits_for;
    until("the log says so", async || waits_for().await.contains("has taken over")).await;
    assert_eq!(offsets(&before), offsets(&read(&heir, "s").await));
}
