//! Small batches on their way to the coordinator: one alone goes at once, those behind an unconfirmed one go together with its
//! ack, and nobody has to flush.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt8Array};
use arrow_flight::PutResult;
use bowstring::client::{Client, ClientOptions, ConsumerOptions, Producer, ProducerOptions};
use bowstring::server::{Server, ServerConfig};
use bowstring::wire::frame::{FlightHead, FrameReader, Small, frame_proto};
use bowstring::wire::metadata::{AppendMetadata, AppendResult};
use bowstring::wire::proto::StreamOptions;
use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::sync::mpsc;
use tonic::Status;
use tonic::body::Body;
use tower::ServiceExt;

use super::client_support::{create, next, number, numbered, rest, server, soon, subscribed};
use super::server_support::{DO_PUT, until};
use super::transport::{Transport, on_each_transport};

on_each_transport! {
    small_batches_are_stored_without_a_flush_one_by_one_and_many_at_once,
    small_batches_behind_one_that_waits_for_room_are_stored_in_order_once_there_is_room,
}

async fn producer(client: &Client) -> Producer {
    client.producer("s", ProducerOptions::default()).expect("a producer")
}

async fn append(producer: &mut Producer, batch: &RecordBatch) {
    soon(producer.append(batch, None, Bytes::new())).await.expect("room in the window");
}

async fn small_batches_are_stored_without_a_flush_one_by_one_and_many_at_once(on: Transport) {
    let server = on.server(ServerConfig { max_buffered_batches: 1_000, ..ServerConfig::default() }).await;
    let client = on.client(&server).await;
    create(&client, "s", StreamOptions::default()).await;
    let mut producer = producer(&client).await;
    let (mut appended, mut stored) = (0, 0);
    for burst in [1, 1, 1, 2, 1, 7, 100, 1, 3] {
        for _ in 0..burst {
            append(&mut producer, &numbered(appended, 1)).await;
            appended += 1;
        }
        stored += burst;
        until("all are stored", async || producer.stored() == stored).await;
    }
    soon(producer.complete()).await.expect("stored");
    let mut consumer = client.consumer("s", ConsumerOptions::default()).await.expect("is there");
    let delivered = soon(rest(&mut consumer)).await.expect("reads");
    assert_eq!(delivered.iter().map(number).collect::<Vec<_>>(), (0..appended).collect::<Vec<_>>());
}

async fn small_batches_behind_one_that_waits_for_room_are_stored_in_order_once_there_is_room(on: Transport) {
    let server = on.server(ServerConfig::default()).await;
    let client = on.client(&server).await;
    create(&client, "s", StreamOptions { max_buffered_batches: Some(1), ..StreamOptions::default() }).await;
    let mut consumer = subscribed(&client, "s", "a").await;
    let mut producer = producer(&client).await;
    append(&mut producer, &numbered(0, 1)).await;
    append(&mut producer, &numbered(1, 1)).await;
    until("one waits for room", async || client.describe_stream("s").await.expect("is there").waiting.len() == 1).await;
    // Behind one that is in flight, for as long as nobody acks.
    for index in 2..10 {
        append(&mut producer, &numbered(index, 1)).await;
    }
    for (index, offset) in (0..10).zip(0..) {
        let delivered = next(&mut consumer).await;
        assert_eq!((number(&delivered), delivered.offset.0), (index, offset));
        consumer.ack(delivered.partition, delivered.offset.plus(1)).expect("acks");
    }
    soon(producer.flush()).await.expect("stored");
    assert_eq!(producer.stored(), 10);
}

/// A coordinator whose `DoPut`s the test serves itself, so that it sees what was sent and says when it is stored; all else goes
/// to a real one.
struct Scripted {
    client: Client,
    puts: mpsc::Receiver<Put>,
    _server: Server,
}

impl Scripted {
    async fn start() -> Self {
        let server = server().await;
        let (opened, puts) = mpsc::channel(4);
        let real = server.service();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let (real, opened) = (real.clone(), opened.clone());
            async move {
                if request.uri().path() != DO_PUT {
                    return real.oneshot(request).await.map_err(tower::BoxError::from);
                }
                let (answers, answered) = mpsc::channel(16);
                let answered = futures::stream::unfold(answered, async |mut answered| answered.recv().await.map(|frame| (frame, answered)));
                let put = Put { body: request.into_body(), frames: FrameReader::new(1 << 30, Small::Copied), answers };
                opened.send(put).await.map_err(|_| "the test has ended")?;
                let answer = http::Response::builder().header("content-type", "application/grpc");
                Ok(answer.body(Body::new(StreamBody::new(answered))).expect("an answer"))
            }
        });
        let client = Client::within_process(&server.url(), service, ClientOptions::default()).await.expect("is here");
        create(&client, "s", StreamOptions::default()).await;
        Self { client, puts, _server: server }
    }

    /// The next `DoPut`, up to the coordinator's word that it has everything before `next_ordinal`.
    async fn opened(&mut self, next_ordinal: u64) -> Put {
        let mut put = soon(self.puts.recv()).await.expect("the client appends");
        put.message().await.expect("descriptor and schema");
        put.stored(next_ordinal).await;
        put
    }
}

/// One `DoPut`.
struct Put {
    body: Body,
    frames: FrameReader,
    answers: mpsc::Sender<Result<Frame<Bytes>, Status>>,
}

impl Put {
    /// What has been received of the next message; none: the client has closed its side.
    async fn message(&mut self) -> Option<FlightHead> {
        loop {
            if let Some(head) = self.received() {
                return Some(head);
            }
            match soon(self.body.frame()).await {
                Some(frame) => self.frames.push(frame.expect("goes on").into_data().expect("no trailers")),
                None => return None,
            }
        }
    }

    fn received(&mut self) -> Option<FlightHead> {
        let head = self.frames.head().expect("well formed")?;
        self.frames.body().expect("well formed").expect("small enough to come with its head");
        Some(head)
    }

    /// The ordinal of the next batch, which must come without any ack.
    async fn batch(&mut self) -> u64 {
        let head = self.message().await.expect("a batch");
        AppendMetadata::from_bytes(&head.metadata).expect("bowstring's").ordinal
    }

    /// That the client has nothing to send now: asking for its body is what makes it look.
    async fn is_quiet(&mut self) -> bool {
        self.received().is_none() && futures::poll!(self.body.frame()).is_pending()
    }

    /// Confirms all before `next_ordinal`.
    async fn stored(&self, next_ordinal: u64) {
        let result = AppendResult { next_ordinal, receipt: None, waits: 0 };
        let frame = frame_proto(&PutResult { app_metadata: result.to_bytes() });
        self.answers.send(Ok(Frame::data(frame))).await.expect("the client listens");
    }

    /// Ends the call well.
    async fn end(self) {
        let trailers = http::HeaderMap::from_iter([("grpc-status".parse().expect("a name"), http::HeaderValue::from_static("0"))]);
        self.answers.send(Ok(Frame::trailers(trailers))).await.expect("the client listens");
    }
}

fn bytes(length: usize) -> RecordBatch {
    let column: ArrayRef = Arc::new(UInt8Array::from(vec![7; length]));
    RecordBatch::try_from_iter([("n", column)]).expect("one column")
}

#[tokio::test]
async fn a_small_batch_goes_at_once_when_none_is_unconfirmed() {
    let mut scripted = Scripted::start().await;
    let mut producer = producer(&scripted.client).await;
    append(&mut producer, &bytes(1)).await;
    let mut put = scripted.opened(0).await;
    for ordinal in 0..20 {
        assert_eq!(put.batch().await, ordinal);
        put.stored(ordinal + 1).await;
        soon(producer.flush()).await.expect("stored");
        append(&mut producer, &bytes(1)).await;
    }
}

#[tokio::test]
async fn small_batches_behind_an_unconfirmed_one_go_all_together_when_its_ack_comes() {
    let mut scripted = Scripted::start().await;
    let mut producer = producer(&scripted.client).await;
    append(&mut producer, &bytes(1)).await;
    let mut put = scripted.opened(0).await;
    assert_eq!(put.batch().await, 0);
    for _ in 0..5 {
        append(&mut producer, &bytes(1)).await;
        assert!(put.is_quiet().await, "one is unconfirmed");
    }
    put.stored(1).await;
    for ordinal in 1..6 {
        assert_eq!(put.batch().await, ordinal);
    }
    assert!(put.is_quiet().await);
}

#[tokio::test]
async fn batches_of_64_kib_together_do_not_wait_for_an_ack() {
    let mut scripted = Scripted::start().await;
    let mut producer = producer(&scripted.client).await;
    append(&mut producer, &bytes(1)).await;
    let mut put = scripted.opened(0).await;
    assert_eq!(put.batch().await, 0);
    append(&mut producer, &bytes(40_000)).await;
    assert!(put.is_quiet().await);
    append(&mut producer, &bytes(40_000)).await;
    assert_eq!((put.batch().await, put.batch().await), (1, 2));
}

#[tokio::test]
async fn close_sends_what_waits_for_company_without_an_ack() {
    let mut scripted = Scripted::start().await;
    let mut producer = producer(&scripted.client).await;
    append(&mut producer, &bytes(1)).await;
    let mut put = scripted.opened(0).await;
    assert_eq!(put.batch().await, 0);
    for _ in 0..3 {
        append(&mut producer, &bytes(1)).await;
    }
    assert!(put.is_quiet().await);
    let serve = async {
        for ordinal in 1..4 {
            assert_eq!(put.batch().await, ordinal);
        }
        assert!(put.message().await.is_none(), "half-closed after the last one");
        put.stored(4).await;
        put.end().await;
    };
    let (closed, ()) = soon(async { tokio::join!(producer.close(), serve) }).await;
    closed.expect("stored");
    assert_eq!(producer.stored(), 4);
}

#[tokio::test]
async fn a_flush_sends_what_waits_for_company_without_an_ack() {
    let mut scripted = Scripted::start().await;
    let mut producer = producer(&scripted.client).await;
    append(&mut producer, &bytes(1)).await;
    let mut put = scripted.opened(0).await;
    assert_eq!(put.batch().await, 0);
    for _ in 0..3 {
        append(&mut producer, &bytes(1)).await;
    }
    assert!(put.is_quiet().await);
    let serve = async {
        for ordinal in 1..4 {
            assert_eq!(put.batch().await, ordinal);
        }
        put.stored(4).await;
    };
    let (flushed, ()) = soon(async { tokio::join!(producer.flush(), serve) }).await;
    flushed.expect("stored");
    append(&mut producer, &bytes(1)).await;
    assert_eq!(put.batch().await, 4);
    append(&mut producer, &bytes(1)).await;
    assert!(put.is_quiet().await, "what comes after a flush is in no hurry");
}

#[tokio::test]
async fn small_batches_that_wait_when_the_connection_breaks_go_by_the_next_one() {
    for stored in [0, 1] {
        let mut scripted = Scripted::start().await;
        let mut producer = producer(&scripted.client).await;
        append(&mut producer, &bytes(1)).await;
        let mut put = scripted.opened(0).await;
        assert_eq!(put.batch().await, 0);
        for _ in 0..3 {
            append(&mut producer, &bytes(1)).await;
        }
        assert!(put.is_quiet().await);
        drop(put);
        let mut put = scripted.opened(stored).await;
        for ordinal in stored..4 {
            assert_eq!(put.batch().await, ordinal, "{stored} had been stored");
        }
        put.stored(4).await;
        soon(producer.flush()).await.expect("stored");
    }
}
