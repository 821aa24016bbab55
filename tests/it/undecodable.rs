//! A batch that cannot be decoded among small ones: those before it are delivered, then it is the error of every call.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use bowstring::client::blocking::{self, Wait};
use bowstring::client::{ClientOptions, Consumer, ConsumerOptions, Error};
use bowstring::engine::{Code, Offset, PartitionId};
use bowstring::server::Server;

use super::client_support::{PATIENCE, connect, next, soon, subscribed};
use super::server_support::{messages, path, send, started, stop};

/// The first batch of a shape is decoded when it comes, those behind it when they are taken: 23 before 24 are enough to be joined
/// more than once, and what is behind 40 is never decoded.
const BAD: [usize; 5] = [0, 1, 2, 24, 40];
const BATCHES: usize = 41;

/// Batches of two rows of text: their number. That of `bad` is no text.
async fn store(stream: &str, bad: usize, channel: &tonic::transport::Channel) {
    let batch = |index: usize| {
        let column: ArrayRef = Arc::new(StringArray::from(vec![format!("{index:03}"); 2]));
        RecordBatch::try_from_iter([("t", column)]).expect("one column")
    };
    let mut all = messages(path(stream), (0..BATCHES).map(batch).collect());
    let message = &mut all[bad + 1];
    let text = format!("{bad:03}");
    let at = message.data_body.windows(3).position(|bytes| bytes == text.as_bytes()).expect("its text");
    let mut body = message.data_body.to_vec();
    body[at + 1] = 0xff;
    message.data_body = body.into();
    soon(send(channel, all)).await.expect("its header is in order");
}

/// The number that an offset is.
fn number(offset: Offset) -> usize {
    usize::try_from(offset.0).expect("few batches")
}

/// The number that a batch has in each row.
fn numbers(batch: &RecordBatch) -> Vec<usize> {
    batch.column(0).as_string::<i32>().iter().map(|text| text.expect("no nulls").parse().expect("a number")).collect()
}

fn check_error(error: &Error, bad: usize) {
    assert_eq!(error.code(), Code::MalformedMessage);
    assert!(error.to_string().contains(&format!("batch {bad} of partition 0")), "{error}");
}

async fn deliver_up_to(consumer: &mut Consumer, bad: usize) {
    for number in 0..bad {
        let delivered = next(consumer).await;
        assert_eq!((numbers(&delivered.batch), delivered.offset.0), (vec![number; 2], number as u64));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn next_delivers_those_before_it_and_then_the_error_each_time() {
    let (server, channel) = started().await;
    let client = connect(&server.url()).await;
    for bad in BAD {
        let stream = format!("s{bad}");
        store(&stream, bad, &channel).await;
        let mut consumer = subscribed(&client, &stream, "a").await;
        deliver_up_to(&mut consumer, bad).await;
        for _ in 0..3 {
            check_error(&soon(consumer.next(None)).await.expect_err("no text"), bad);
        }
        check_error(&consumer.try_next().expect_err("no text"), bad);
        consumer.ack(PartitionId(0), Offset(bad as u64)).expect("acks go on");
        soon(consumer.close()).await.expect("acked");

        let mut again = subscribed(&client, &stream, "a").await;
        check_error(&soon(again.next(None)).await.expect_err("it is still there"), bad);
        client.ack(&stream, "a", &[(PartitionId(0), Offset(bad as u64 + 1))].into(), None).await.expect("acks");
        if bad + 1 < BATCHES {
            let mut behind = subscribed(&client, &stream, "a").await;
            assert_eq!(numbers(&next(&mut behind).await.batch), [bad + 1; 2], "the subscription has left it behind");
        }
    }
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn try_next_delivers_those_before_it_and_then_the_error_each_time() {
    let (server, channel) = started().await;
    let client = connect(&server.url()).await;
    for bad in BAD {
        let stream = format!("s{bad}");
        store(&stream, bad, &channel).await;
        let mut consumer = subscribed(&client, &stream, "a").await;
        let until_error = async {
            let mut got = Vec::new();
            loop {
                match consumer.try_next() {
                    Ok(Some(delivered)) => got.push(numbers(&delivered.batch)),
                    Ok(None) => tokio::time::sleep(Duration::from_millis(1)).await,
                    Err(error) => return (got, error),
                }
            }
        };
        let (got, error) = soon(until_error).await;
        assert_eq!(got, (0..bad).map(|number| vec![number; 2]).collect::<Vec<_>>());
        check_error(&error, bad);
        for _ in 0..3 {
            check_error(&consumer.try_next().expect_err("no text"), bad);
        }
        check_error(&soon(consumer.next(None)).await.expect_err("no text"), bad);
    }
    stop(server).await;
}

/// How a blocking consumer is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
enum By {
    Next,
    /// At most so many batches at once.
    Joined(usize),
    Turns,
}

/// The numbers of one step's batches, from their rows and from their offsets.
fn step(consumer: &mut blocking::Consumer, by: By) -> Result<Vec<usize>, Error> {
    let wait = &mut Wait::at_most(PATIENCE);
    let By::Joined(batches_max) = by else {
        let delivered = consumer.next(wait)?.expect("the stream goes on");
        assert_eq!(numbers(&delivered.batch), [number(delivered.offset); 2]);
        return Ok(vec![number(delivered.offset)]);
    };
    let mut found = Vec::new();
    for joined in consumer.next_joined(batches_max, 1 << 20, wait)? {
        let offsets: Vec<_> = joined.parts.iter().map(|(_, origin)| number(origin.offset)).collect();
        assert!(joined.parts.iter().all(|(rows, _)| *rows == 2));
        assert_eq!(numbers(&joined.batch), offsets.iter().flat_map(|offset| [*offset; 2]).collect::<Vec<_>>());
        found.extend(offsets);
    }
    assert!(!found.is_empty() && found.len() <= batches_max);
    Ok(found)
}

/// Reads up to the error, which every further step gives as well, however it is asked.
fn read_blocking(client: &blocking::Client, stream: &str, bad: usize, by: By) {
    let wait = &mut Wait::at_most(PATIENCE);
    let mut consumer = client.consumer(stream, ConsumerOptions::default(), wait).expect("the stream is there");
    let mut got = Vec::new();
    let turns = [By::Next, By::Joined(7)].into_iter().cycle();
    let mut ways = turns.map(|turn| if by == By::Turns { turn } else { by });
    let error = loop {
        match step(&mut consumer, ways.next().expect("for ever")) {
            Ok(numbers) => got.extend(numbers),
            Err(error) => break error,
        }
    };
    assert_eq!(got, (0..bad).collect::<Vec<_>>(), "{bad} {by:?}");
    check_error(&error, bad);
    for by in [By::Joined(64), By::Next, By::Joined(1), By::Next] {
        check_error(&step(&mut consumer, by).expect_err("no text"), bad);
    }
    check_error(&consumer.try_next().expect_err("no text"), bad);
    assert!(consumer.schema(wait).expect("known").is_some());
    consumer.close(wait).expect("nothing to ack");
}

fn read_each_way(server: &Server) {
    let client = blocking::Client::connect(&server.url(), ClientOptions::default(), &mut Wait::at_most(PATIENCE)).expect("is there");
    for bad in BAD {
        for by in [By::Next, By::Joined(1), By::Joined(5), By::Joined(64), By::Joined(1000), By::Turns] {
            read_blocking(&client, &format!("s{bad}"), bad, by);
        }
    }
}

#[test]
fn blocking_reads_of_one_and_of_many_deliver_those_before_it_and_then_the_error_each_time() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = runtime.block_on(async {
        let (server, channel) = started().await;
        for bad in BAD {
            store(&format!("s{bad}"), bad, &channel).await;
        }
        server
    });
    read_each_way(&server);
    runtime.block_on(stop(server));
}

/// The reader may start again after these, and not after the other ones.
#[test]
fn an_error_of_reading_that_allows_another_try_is_reported_once_and_joined_reading_goes_on() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (server, client) = runtime.block_on(async {
        let (server, _) = started().await;
        let client = connect(&server.url()).await;
        (server, client)
    });
    let wait = &mut Wait::at_most(PATIENCE);
    let append = async |producer: &mut bowstring::client::Producer, number: usize| {
        let column: ArrayRef = Arc::new(StringArray::from(vec![format!("{number:03}"); 2]));
        let batch = RecordBatch::try_from_iter([("t", column)]).expect("one column");
        producer.append(&batch, None, bytes::Bytes::new()).await.expect("room");
        soon(producer.flush()).await.expect("stored");
    };
    let options = || bowstring::client::ProducerOptions { keep_alive: Some(Duration::from_millis(300)), ..Default::default() };
    let mut producer = client.producer("s", options()).expect("a producer");
    for number in 0..3 {
        runtime.block_on(append(&mut producer, number));
    }
    drop(producer);
    let reading = blocking::Client::connect(&server.url(), ClientOptions::default(), wait).expect("is there");
    let mut consumer = reading.consumer("s", ConsumerOptions::default(), wait).expect("the stream is there");
    let mut got = Vec::new();
    while got.len() < 3 {
        got.extend(step(&mut consumer, By::Joined(64)).expect("what is there comes first"));
    }
    for by in [By::Joined(64), By::Next] {
        assert_eq!(step(&mut consumer, by).expect_err("its producer is gone").code(), Code::ProducerLost);
    }
    let mut producer = client.producer("s", options()).expect("a producer");
    runtime.block_on(append(&mut producer, 3));
    while got.len() < 4 {
        match step(&mut consumer, By::Joined(64)) {
            Ok(numbers) => got.extend(numbers),
            // The one that was lost before the other came.
            Err(error) => assert_eq!(error.code(), Code::ProducerLost),
        }
    }
    assert_eq!(got, [0, 1, 2, 3]);
    runtime.block_on(stop(server));
}
