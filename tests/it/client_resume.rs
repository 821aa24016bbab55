//! Connections break: nothing is lost, nothing comes twice.

use std::time::Duration;

use bowstring::client::{Client, ClientOptions, ConsumerOptions, ProducerOptions, ProducerRun, WriterId, WriterOptions};
use bowstring::engine::{Attempt, Code, Epoch, EpochState, StoredState, Task};
use bowstring::server::ServerConfig;
use bytes::Bytes;

use super::client_support::{Proxy, connect, create, next, number, numbered, partitions, rest, soon, subscribed};
use super::transport::{Transport, on_each_connection};

on_each_connection! {
    a_producer_whose_connections_are_cut_stores_each_batch_once_and_in_order,
    a_consumer_whose_connections_are_cut_reads_each_batch_once_and_in_order,
    a_writer_whose_connection_is_cut_still_gets_one_receipt_for_all_its_batches,
    a_coordinator_that_stays_away_is_an_error_after_the_retry_deadline_and_a_later_call_goes_on,
    a_stream_that_is_made_anew_is_not_mistaken_for_the_former_one,
}

fn roomy() -> ServerConfig {
    ServerConfig { max_buffered_batches: 100_000, ..ServerConfig::default() }
}

async fn a_producer_whose_connections_are_cut_stores_each_batch_once_and_in_order(on: Transport) {
    let server = on.server(roomy()).await;
    let proxy = Proxy::to(on, &server).await;
    let client = connect(&proxy.url).await;
    create(&client, "s", partitions(3)).await;
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    for index in 0..1_500 {
        producer.append(&numbered(index, usize::try_from(index % 7).expect("small") * 900), None, Bytes::new()).await.expect("room");
        if index % 100 == 50 {
            proxy.cut();
        }
        if index % 300 == 299 {
            soon(producer.flush()).await.expect("stored");
        }
    }
    soon(producer.complete()).await.expect("stored");
    assert_eq!(producer.stored(), 1_500);

    let mut consumer = on.client(&server).await.consumer("s", ConsumerOptions::default()).await.expect("the stream is there");
    let mut by_partition = vec![Vec::new(); 3];
    for delivered in soon(rest(&mut consumer)).await.expect("reads") {
        by_partition[delivered.partition.index()].push(number(&delivered));
    }
    for (partition, numbers) in by_partition.iter().enumerate() {
        let expected: Vec<i64> = (0..1_500).filter(|index| index % 3 == i64::try_from(partition).expect("small")).collect();
        assert_eq!(numbers, &expected, "partition {partition}");
    }
}

async fn a_consumer_whose_connections_are_cut_reads_each_batch_once_and_in_order(on: Transport) {
    let server = on.server(roomy()).await;
    let proxy = Proxy::to(on, &server).await;
    let direct = on.client(&server).await;
    create(&direct, "s", partitions(2)).await;
    let mut consumer = subscribed(&connect(&proxy.url).await, "s", "a").await;
    let mut producer = direct.producer("s", ProducerOptions::default()).expect("a producer");
    for index in 0..1_000 {
        producer.append(&numbered(index, 2_000), None, Bytes::new()).await.expect("room");
    }
    soon(producer.complete()).await.expect("stored");
    let mut by_partition = vec![Vec::new(); 2];
    for count in 0..1_000 {
        let delivered = next(&mut consumer).await;
        consumer.ack(delivered.partition, delivered.offset.plus(1)).expect("acks");
        by_partition[delivered.partition.index()].push(number(&delivered));
        if count % 97 == 96 {
            proxy.cut();
        }
    }
    assert!(soon(consumer.next(None)).await.expect("no error").is_none(), "the end of the stream");
    for (partition, numbers) in by_partition.iter().enumerate() {
        let expected: Vec<i64> = (0..1_000).filter(|index| index % 2 == i64::try_from(partition).expect("small")).collect();
        assert_eq!(numbers, &expected, "partition {partition}");
    }
    soon(consumer.close()).await.expect("acked");
    let description = direct.describe_stream("s").await.expect("the stream is there");
    assert!(description.subscriptions[0].partitions.iter().all(|partition| partition.acked == 500), "{description:?}");
}

async fn a_writer_whose_connection_is_cut_still_gets_one_receipt_for_all_its_batches(on: Transport) {
    let server = on.server(roomy()).await;
    let proxy = Proxy::to(on, &server).await;
    let client = connect(&proxy.url).await;
    create(&client, "s", partitions(1)).await;
    let run = ProducerRun { producer: "query".to_owned(), run: "r1".to_owned() };
    assert_eq!(client.open_epoch("s", &run, Epoch(0)).await.expect("opens"), EpochState::Open);
    let id = WriterId { producer: run.producer.clone(), run: run.run.clone(), epoch: Epoch(0), task: Task(0), attempt: Attempt(0) };
    let mut writer = client.writer("s", id.clone(), WriterOptions::default()).expect("a writer");
    for index in 0..200 {
        writer.append(&numbered(index, 3_000), None, Bytes::new()).await.expect("room");
        if index % 40 == 39 {
            proxy.cut();
        }
    }
    let receipt = soon(writer.finish()).await.expect("staged").expect("batches were sent");
    assert_eq!((receipt.batches, receipt.rows), (200, 200 * 3_000));
    assert_eq!(soon(writer.finish()).await.expect("once more").expect("the same"), receipt);
    assert_eq!(client.commit_epoch("s", &run, Epoch(0), vec![receipt]).await.expect("commits"), EpochState::Committed);
    assert_eq!(client.commit_epoch("s", &run, Epoch(0), vec![receipt]).await.expect("replays"), EpochState::AlreadyCommitted);

    let mut late = client.writer("s", WriterId { attempt: Attempt(1), ..id }, WriterOptions::default()).expect("a writer");
    late.append(&numbered(0, 1), None, Bytes::new()).await.expect("taken, and dropped");
    assert_eq!(soon(late.finish()).await.expect("nothing to do"), None);
    assert!(late.is_unneeded());

    client.complete_stream("s").await.expect("completes");
    let mut consumer = client.consumer("s", ConsumerOptions::default()).await.expect("the stream is there");
    let delivered = soon(rest(&mut consumer)).await.expect("reads");
    assert_eq!(delivered.iter().map(number).collect::<Vec<_>>(), (0..200).collect::<Vec<_>>());
    assert!(delivered.iter().all(|delivered| delivered.epoch == Some(Epoch(0))));
}

async fn a_coordinator_that_stays_away_is_an_error_after_the_retry_deadline_and_a_later_call_goes_on(on: Transport) {
    let server = on.server(ServerConfig::default()).await;
    let proxy = Proxy::to(on, &server).await;
    let options = ClientOptions { retry_deadline: Duration::from_millis(500), ..ClientOptions::default() };
    let client = Client::connect(&proxy.url, options).await.expect("the server is there");
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    producer.append(&numbered(0, 1), None, Bytes::new()).await.expect("room");
    soon(producer.flush()).await.expect("stored");
    let mut consumer = subscribed(&client, "s", "a").await;
    assert_eq!(number(&next(&mut consumer).await), 0);

    proxy.block();
    producer.append(&numbered(1, 1), None, Bytes::new()).await.expect("room");
    let error = soon(producer.flush()).await.expect_err("nobody answers");
    assert_eq!(error.code(), Code::Unavailable);
    let error = soon(consumer.next(None)).await.expect_err("nobody answers");
    assert_eq!(error.code(), Code::Unavailable);
    let error = soon(client.describe_stream("s")).await.expect_err("nobody answers");
    assert_eq!(error.code(), Code::Unavailable);

    proxy.restore(&server);
    soon(producer.flush()).await.expect("the batch is still in the window");
    assert_eq!(number(&next(&mut consumer).await), 1);
    soon(client.describe_stream("s")).await.expect("is back");
}

async fn a_stream_that_is_made_anew_is_not_mistaken_for_the_former_one(on: Transport) {
    let server = on.server(ServerConfig::default()).await;
    let proxy = Proxy::to(on, &server).await;
    let client = connect(&proxy.url).await;
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    producer.append(&numbered(0, 1), None, Bytes::new()).await.expect("room");
    soon(producer.flush()).await.expect("stored");
    let mut consumer = subscribed(&client, "s", "a").await;
    next(&mut consumer).await;

    let direct = on.client(&server).await;
    proxy.block();
    direct.delete_stream("s").await.expect("deletes");
    create(&direct, "s", partitions(1)).await;
    proxy.restore(&server);
    assert_eq!(soon(consumer.next(None)).await.expect_err("another stream").code(), Code::StreamReplaced);
    let append = async {
        producer.append(&numbered(1, 1), None, Bytes::new()).await?;
        producer.flush().await
    };
    let error = soon(append).await.expect_err("another stream");
    assert_eq!(error.code(), Code::StreamReplaced);
    assert_ne!(error.stored(), StoredState::Yes);
    let description = direct.describe_stream("s").await.expect("the new one");
    assert_eq!(description.partitions[0].end, 0, "nothing of the old producer's is in the new stream");
}

#[tokio::test]
async fn a_server_that_takes_calls_and_never_answers_is_given_up() {
    let silent = axum::Router::new().fallback(std::future::pending::<()>);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("grpc://{}", listener.local_addr().expect("bound"));
    let routes = tonic::service::Routes::from(silent);
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let serving = tokio::spawn(tonic::transport::Server::builder().add_routes(routes).serve_with_incoming(incoming));

    let short = Duration::from_millis(200);
    let options = ClientOptions { retry_deadline: short, ping_timeout: short, local_socket: false, ..ClientOptions::default() };
    let client = Client::connect(&url, options).await.expect("it takes connections");
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    producer.append(&numbered(0, 1), None, Bytes::new()).await.expect("room");
    let error = soon(producer.flush()).await.expect_err("nobody answers");
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.to_string().contains("no answer within 200ms"), "{error}");
    serving.abort();
}
