//! The blocking verbs, as the Python wheel uses them.

use std::time::{Duration, Instant};

use bowstring::client::blocking::{Client, Wait};
use bowstring::client::{ClientOptions, ConsumerOptions, Error, ProducerOptions, ProducerRun, WriterId, WriterOptions};
use bowstring::engine::{Attempt, Code, Epoch, EpochState, Task};
use bowstring::server::Server;
use bowstring::wire::proto::{CreateStreamRequest, StreamOptions};
use bytes::Bytes;

use super::client_support::{number, numbered, server};

fn now() -> Instant {
    tokio::time::Instant::now().into()
}

/// A server on a runtime of its own, so that the test's thread may block.
fn with_server(test: impl FnOnce(&Server)) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = runtime.block_on(server());
    test(&server);
    runtime.block_on(server.shutdown(Duration::from_secs(5)));
}

fn connect(server: &Server) -> Client {
    Client::connect(&server.url(), ClientOptions::default(), &mut Wait::forever()).expect("the server is there")
}

#[test]
fn what_is_appended_blocking_is_read_blocking() {
    with_server(|server| {
        let wait = &mut Wait::at_most(Duration::from_secs(60));
        let client = connect(server);
        let mut producer = client.producer("s", ProducerOptions::default(), wait).expect("a producer");
        for index in 0..50 {
            producer.append(&numbered(index, 100), None, Bytes::new(), wait).expect("room");
        }
        producer.flush(wait).expect("stored");
        assert_eq!(producer.stored().expect("this process"), 50);
        producer.complete(wait).expect("completes");
        let options = ConsumerOptions { subscription: Some("a".to_owned()), ..ConsumerOptions::default() };
        let mut consumer = client.consumer("s", options, wait).expect("the stream is there");
        assert!(consumer.schema(wait).expect("known").is_some());
        let mut numbers = Vec::new();
        while let Some(delivered) = consumer.next(wait).expect("reads") {
            consumer.ack(delivered.partition, delivered.offset.plus(1)).expect("acks");
            numbers.push(number(&delivered));
        }
        assert_eq!(numbers, (0..50).collect::<Vec<_>>());
        consumer.close(wait).expect("acked");
        consumer.close(wait).expect("closed already");
        let description = client.describe_stream("s", wait).expect("the stream is there");
        assert_eq!(description.subscriptions[0].partitions[0].acked, 50);
        let lag = client.lag("s", wait).expect("the stream is there");
        assert_eq!((lag[0].subscription.as_str(), lag[0].total.batches, lag[0].partitions[0].offset), ("a", 0, 50));
        let why = client.why("s", wait).expect("the stream is there");
        assert_eq!(why.to_string(), "stream s is completed: nobody appends any more");
    });
}

#[test]
fn epochs_work_blocking() {
    with_server(|server| {
        let wait = &mut Wait::at_most(Duration::from_secs(60));
        let client = connect(server);
        let request = CreateStreamRequest { stream: "s".to_owned(), ..CreateStreamRequest::default() };
        client.create_stream(request, wait).expect("a new stream");
        let run = ProducerRun { producer: "q".to_owned(), run: "r".to_owned() };
        assert_eq!(client.open_epoch("s", &run, Epoch(7), wait).expect("opens"), EpochState::Open);
        let id = WriterId { producer: "q".to_owned(), run: "r".to_owned(), epoch: Epoch(7), task: Task(0), attempt: Attempt(3) };
        let mut writer = client.writer("s", id.clone(), WriterOptions::default(), wait).expect("a writer");
        writer.append(&numbered(1, 10), None, Bytes::new(), wait).expect("room");
        let receipt = writer.finish(wait).expect("staged").expect("one batch");
        assert_eq!(client.commit_epoch("s", &run, Epoch(7), vec![receipt], wait).expect("commits"), EpochState::Committed);
        let empty = WriterId { task: Task(1), ..id };
        let mut empty = client.writer("s", empty, WriterOptions::default(), wait).expect("a writer");
        assert_eq!(empty.finish(wait).expect("nothing was sent"), None);
    });
}

#[test]
fn a_check_that_fails_ends_any_wait_within_a_second() {
    #[derive(Debug)]
    enum Raised {
        Interrupted,
        Client(Error),
    }
    impl From<Error> for Raised {
        fn from(error: Error) -> Self {
            Self::Client(error)
        }
    }
    with_server(|server| {
        let client = connect(server);
        let options = StreamOptions { max_buffered_batches: Some(1), ..StreamOptions::default() };
        let request = CreateStreamRequest { stream: "s".to_owned(), options: Some(options), ..CreateStreamRequest::default() };
        client.create_stream(request, &mut Wait::forever()).expect("a new stream");
        let mut consumer = client.consumer("s", ConsumerOptions::default(), &mut Wait::forever()).expect("the stream is there");
        let options = ProducerOptions { window_batches: 1, ..ProducerOptions::default() };
        let mut producer = client.producer("s", options, &mut Wait::forever()).expect("a producer");
        let mut interrupt = || Err(Raised::Interrupted);

        let start = now();
        let read = consumer.next(&mut Wait::checked(None, &mut interrupt));
        assert!(matches!(read, Err(Raised::Interrupted)), "{read:?}");
        producer.append(&numbered(0, 1), None, Bytes::new(), &mut Wait::forever()).expect("room");
        producer.flush(&mut Wait::forever()).expect("stored");
        producer.append(&numbered(1, 1), None, Bytes::new(), &mut Wait::forever()).expect("room in the window");
        let full = producer.append(&numbered(2, 1), None, Bytes::new(), &mut Wait::checked(None, &mut interrupt));
        assert!(matches!(full, Err(Raised::Interrupted)), "{full:?}");
        let flush = producer.flush(&mut Wait::checked(None, &mut interrupt));
        assert!(matches!(flush, Err(Raised::Interrupted)), "{flush:?}");
        assert!(start.elapsed() < Duration::from_secs(2));

        let mut fine = || Ok(());
        let deadline = now() + Duration::from_millis(200);
        match producer.flush(&mut Wait::checked(Some(deadline), &mut fine)) {
            Err(Raised::Client(error)) => assert_eq!(error.code(), Code::Timeout),
            other => panic!("no timeout but {other:?}"),
        }
    });
}

#[test]
fn a_coordinator_that_is_not_there_is_an_error_in_time() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
    let options = ClientOptions { connect_timeout: Duration::from_millis(300), ..ClientOptions::default() };
    let start = now();
    let error = Client::connect(&format!("grpc://127.0.0.1:{port}"), options, &mut Wait::forever()).expect_err("nobody there");
    assert_eq!(error.code(), Code::Unavailable);
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_producer_that_is_let_in_fences_older_ones_before_it_has_appended() {
    with_server(|server| {
        let wait = &mut Wait::at_most(Duration::from_secs(60));
        let client = connect(server);
        let named =
            || ProducerOptions { producer: Some("p".to_owned()), schema: Some(numbered(0, 1).schema()), ..ProducerOptions::default() };
        let mut older = client.producer("s", named(), wait).expect("a producer");
        older.opened(wait).expect("nobody else has the name");
        older.append(&numbered(0, 1), None, Bytes::new(), wait).expect("room");
        while !older.try_flush().expect("nothing is refused") {
            std::thread::yield_now();
        }
        let mut newer = client.producer("s", named(), wait).expect("a producer");
        newer.opened(wait).expect("it takes over");
        older.append(&numbered(1, 1), None, Bytes::new(), wait).expect("room in its window");
        let refused = loop {
            match older.try_flush() {
                Ok(is_stored) => assert!(!is_stored, "it was taken over"),
                Err(error) => break error,
            }
            std::thread::yield_now();
        };
        assert_eq!(refused.code(), Code::Fenced, "{refused}");
        newer.append(&numbered(2, 1), None, Bytes::new(), wait).expect("room");
        newer.flush(wait).expect("stored");
        assert!(newer.try_flush().expect("nothing is refused"));
        let stored = client.describe_stream("s", wait).expect("the stream is there").partitions[0].clone();
        assert_eq!((stored.start, stored.end), (0, 2));
        client.complete_stream("s", wait).expect("it is open");
        let mut late = client.producer("s", named(), wait).expect("nothing is asked yet");
        assert_eq!(late.opened(wait).expect_err("the stream has ended").code(), Code::StreamCompleted);
    });
}
