//! `Compression::Auto`: batches are compressed while the way to the coordinator is slower than compression.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use bowstring::client::{Client, ClientOptions, Compression, ConsumerOptions, Producer, ProducerOptions};
use bowstring::server::Server;
use bowstring::wire::proto::StreamOptions;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::client_support::{create, next, server, soon, subscribed};

/// Bytes of a batch's one column.
const BATCH_BYTES: u64 = 256 << 10;
/// Appended until one is compressed, at most.
const BATCHES_MAX: u64 = 2_000;

/// Passes connections on to a server, and what clients send slowly.
struct Slow {
    url: String,
    accepting: tokio::task::JoinHandle<()>,
}

impl Slow {
    async fn to(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("grpc://{}", listener.local_addr().expect("bound"));
        let upstream = server.listen_addr();
        let accepting = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(upstream).await.expect("listens");
                connections.spawn(pass_on(client, server));
            }
        });
        Self { url, accepting }
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// To the server at most 64 KiB every 8 ms, 8 MB/s, which any codec passes.
async fn pass_on(client: TcpStream, server: TcpStream) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let slowly = async {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
            if to_server.write_all(&buffer[..length]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(8)).await;
        }
    };
    tokio::select! {
        () = slowly => (),
        _ = tokio::io::copy(&mut from_server, &mut to_client) => (),
    }
}

/// By TCP, as from another host.
async fn connect(url: &str) -> Client {
    let options = ClientOptions { local_socket: false, ..ClientOptions::default() };
    soon(Client::connect(url, options)).await.expect("there")
}

fn auto(client: &Client) -> Producer {
    let options = ProducerOptions { compression: Compression::Auto, window_bytes: 4 << 20, ..ProducerOptions::default() };
    client.producer("s", options).expect("a producer")
}

fn batch(value: impl Fn(i64) -> i64) -> RecordBatch {
    let rows = i64::try_from(BATCH_BYTES / 8).expect("few");
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values((0..rows).map(value)));
    RecordBatch::try_from_iter([("n", numbers)]).expect("one column")
}

fn compressible() -> RecordBatch {
    batch(|row| row % 10)
}

/// Numbers that no codec makes smaller (splitmix64, Steele et al. 2014).
fn noise() -> RecordBatch {
    batch(|row| {
        let mut value = row.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (value ^ (value >> 31)).cast_signed()
    })
}

/// Room for all that is appended.
fn roomy() -> StreamOptions {
    StreamOptions { max_buffered_batches: Some(BATCHES_MAX), ..StreamOptions::default() }
}

async fn stored_bytes(client: &Client) -> u64 {
    client.describe_stream("s").await.expect("is there").buffered_bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_way_to_the_coordinator_has_batches_compressed_and_they_come_back_whole() {
    let server = server().await;
    let proxy = Slow::to(&server).await;
    let (client, direct) = (connect(&proxy.url).await, connect(&server.url()).await);
    create(&direct, "s", roomy()).await;
    let mut producer = auto(&client);
    let mut appended = 0;
    while producer.append(&compressible(), None, Bytes::new()).await.is_ok() {
        appended += 1;
        assert!(appended < BATCHES_MAX, "none was compressed");
        if appended % 16 == 0 && stored_bytes(&direct).await < producer.stored() * BATCH_BYTES {
            break;
        }
    }
    soon(producer.complete()).await.expect("stored");
    let mut consumer = direct.consumer("s", ConsumerOptions::default()).await.expect("the stream is there");
    for _ in 0..appended {
        assert_eq!(next(&mut consumer).await.batch, compressible());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_become_smaller_is_not_compressed_again_and_again() {
    let server = server().await;
    let proxy = Slow::to(&server).await;
    let (client, direct) = (connect(&proxy.url).await, connect(&server.url()).await);
    create(&direct, "s", roomy()).await;
    let mut producer = auto(&client);
    for _ in 0..100 {
        soon(producer.append(&noise(), None, Bytes::new())).await.expect("room");
    }
    soon(producer.complete()).await.expect("stored");
    let (mut consumer, mut compressed) = (direct.consumer("s", ConsumerOptions::default()).await.expect("the stream is there"), 0);
    for _ in 0..100 {
        let delivered = next(&mut consumer).await;
        assert_eq!(delivered.batch, noise());
        compressed += u32::from(!delivered.is_plain);
    }
    assert!(compressed < 10, "{compressed} of 100");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_consumer_is_not_taken_for_a_slow_way() {
    let server = server().await;
    let client = connect(&server.url()).await;
    create(&client, "s", StreamOptions { max_buffered_batches: Some(2), ..StreamOptions::default() }).await;
    let mut consumer = subscribed(&client, "s", "a").await;
    let mut producer = auto(&client);
    let appending = tokio::spawn(async move {
        for _ in 0..60 {
            producer.append(&compressible(), None, Bytes::new()).await.expect("room");
        }
        producer.complete().await.expect("stored");
    });
    for _ in 0..60 {
        let delivered = next(&mut consumer).await;
        assert!(delivered.is_plain, "batch {} is compressed", delivered.offset);
        tokio::time::sleep(Duration::from_millis(10)).await;
        consumer.ack(delivered.partition, delivered.offset.plus(1)).expect("acks");
    }
    soon(appending).await.expect("ends");
}
