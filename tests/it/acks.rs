//! Acks on their way: when they wait for others, and when not.

use arrow::array::RecordBatch;
use bowstring::client::{Client, ClientOptions, Consumer, Delivered, ProducerOptions};
use bowstring::server::{Server, ServerConfig};
use bowstring::wire::proto::StreamOptions;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};
use tonic::body::Body;
use tower::ServiceExt;

use super::client_support::{create, next, numbered, soon, subscribed};
use super::transport::Transport;

const ACK: &str = "/bowstring.v1.Control/Ack";
/// How long acks wait for others at least, counted from the answer to the ones before.
const LINGER: Duration = Duration::from_millis(1);
const BUFFER: u64 = 16 << 20;

/// A client within the process, and when each of its calls of `Ack` came and was answered.
async fn watched(server: &Server) -> (Client, mpsc::Receiver<(Instant, Instant)>) {
    let (seen, calls) = mpsc::channel(16);
    let real = server.service();
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let (real, seen) = (real.clone(), seen.clone());
        async move {
            let is_ack = request.uri().path() == ACK;
            let came = Instant::now();
            let answer = real.oneshot(request).await;
            if is_ack {
                seen.send((came, Instant::now())).await.expect("the test listens");
            }
            answer
        }
    });
    (Client::within_process(&server.url(), service, ClientOptions::default()).await.expect("is here"), calls)
}

fn ack(consumer: &mut Consumer, delivered: &Delivered) {
    consumer.ack(delivered.partition, delivered.offset.plus(1)).expect("not refused");
}

/// Acks one batch, and once that is answered the next one: how long after the answer that came, the shortest of many times.
async fn shortest_pause(batch: &RecordBatch, is_enough: impl Fn(Duration) -> bool) -> Duration {
    let server = Transport::Process.server(ServerConfig::default()).await;
    let (client, mut calls) = watched(&server).await;
    let limits = StreamOptions { max_buffered_batches: Some(1_000), max_buffered_bytes: Some(BUFFER), ..StreamOptions::default() };
    create(&client, "s", limits).await;
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    let mut consumer = subscribed(&client, "s", "a").await;
    let mut shortest = Duration::MAX;
    for _ in 0..100 {
        for _ in 0..2 {
            soon(producer.append(batch, None, Bytes::new())).await.expect("room");
        }
        let (first, second) = (next(&mut consumer).await, next(&mut consumer).await);
        ack(&mut consumer, &first);
        let (_, answered) = soon(calls.recv()).await.expect("a call");
        ack(&mut consumer, &second);
        let (came, _) = soon(calls.recv()).await.expect("a call");
        shortest = shortest.min(came - answered);
        if is_enough(shortest) {
            break;
        }
    }
    shortest
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_of_a_quarter_of_the_buffers_bytes_do_not_wait_for_others() {
    let a_third = numbered(0, 5 << 17);
    let pause = shortest_pause(&a_third, |pause| pause < LINGER).await;
    assert!(pause < LINGER, "each of many waited, the shortest {pause:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_of_a_little_of_a_large_buffer_wait_for_others() {
    let pause = shortest_pause(&numbered(0, 10), |_| false).await;
    assert!(pause >= LINGER, "one came after {pause:?}");
}
