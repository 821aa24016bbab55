//! Durable streams: what is confirmed is there after a restart, and nothing else is.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, DictionaryArray, RecordBatch, UInt8Array};
use arrow::datatypes::Int32Type;
use arrow_ipc::reader::StreamReader;
use bowstring::client::{Client, ClientOptions, ConsumerOptions, EpochWriter, ProducerOptions, ProducerRun, WriterId, WriterOptions};
use bowstring::engine::{Attempt, Code, Epoch, EpochState, Offset, PartitionId, Task};
use bowstring::server::{Server, ServerConfig};
use bowstring::wire::proto::StreamOptions;
use bytes::Bytes;
use tempfile::TempDir;

use super::client_support::{connect, create, number, numbered, partitions, rest, server_with, soon, subscribed};
use super::durable_support::{append, files, offsets, read};
use super::server_support::until;

fn config(dir: &TempDir) -> ServerConfig {
    ServerConfig { data_dir: Some(dir.path().to_owned()), ..ServerConfig::default() }
}

async fn start(dir: &TempDir) -> (Server, Client) {
    let server = server_with(config(dir)).await;
    let client = connect(&server.url()).await;
    (server, client)
}

async fn restart(server: Server, dir: &TempDir) -> (Server, Client) {
    server.shutdown(Duration::from_secs(5)).await;
    drop(server);
    start(dir).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_confirmed_is_there_after_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let (server, client) = start(&dir).await;
    create(&client, "s", partitions(3)).await;
    append(&client, "s", 0..100).await;
    let before = read(&client, "s").await;
    assert_eq!(before.len(), 100);
    let (server, client) = restart(server, &dir).await;
    let after = read(&client, "s").await;
    assert_eq!(offsets(&before), offsets(&after));
    assert!(after.iter().all(|one| one.user == number(one).to_string()));
    append(&client, "s", 100..130).await;
    let (_server, client) = restart(server, &dir).await;
    let after = read(&client, "s").await;
    let mut numbers: Vec<_> = after.iter().map(number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..130).collect::<Vec<_>>());
    let found = client.describe_stream("s").await.expect("is there");
    assert_eq!(found.partitions.iter().map(|partition| partition.end).sum::<u64>(), 130);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_only_dropped_has_lost_nothing_that_it_confirmed() {
    let dir = tempfile::tempdir().expect("a folder");
    let (server, client) = start(&dir).await;
    append(&client, "s", 0..20).await;
    drop(server);
    let (_server, client) = start(&dir).await;
    assert_eq!(read(&client, "s").await.iter().map(number).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_and_a_consumer_go_on_over_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = server_with(config(&dir)).await;
    let listen = server.listen_addr();
    let client = connect(&server.url()).await;
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    producer.append(&numbered(0, 1), None, Bytes::new()).await.expect("room");
    soon(producer.flush()).await.expect("stored");
    let mut consumer = subscribed(&client, "s", "c").await;
    let first = soon(consumer.next(None)).await.expect("is read").expect("is there");
    consumer.ack(first.partition, first.offset.plus(1)).expect("an offset");
    soon(consumer.flush_acks()).await.expect("acked");
    server.shutdown(Duration::from_secs(5)).await;
    drop(server);
    for number in 1..5 {
        producer.append(&numbered(number, 1), None, Bytes::new()).await.expect("room in the window");
    }
    let _server = Server::start(ServerConfig { listen, http: None, ..config(&dir) }).await.expect("the port is free again");
    soon(producer.complete()).await.expect("stored");
    let rest = soon(rest(&mut consumer)).await.expect("is read");
    assert_eq!(offsets(&rest), (1..5).map(|number| (0, u64::try_from(number).expect("small"), number)).collect::<Vec<_>>());
}

fn writer(client: &Client, epoch: u64, task: u32) -> EpochWriter {
    let id = WriterId { producer: "p".to_owned(), run: "r".to_owned(), epoch: Epoch(epoch), task: Task(task), attempt: Attempt(0) };
    client.writer("s", id, WriterOptions::default()).expect("a writer")
}

fn run() -> ProducerRun {
    ProducerRun { producer: "p".to_owned(), run: "r".to_owned() }
}

/// Two tasks with two batches each.
async fn write(client: &Client, epoch: u64) -> Vec<bowstring::wire::proto::Receipt> {
    let mut receipts = Vec::new();
    for task in 0..2 {
        let mut writer = writer(client, epoch, task);
        for batch in 0..2 {
            let number = i64::try_from(epoch).expect("small") * 100 + i64::from(task) * 10 + batch;
            soon(writer.append(&numbered(number, 5), None, Bytes::new())).await.expect("room");
        }
        receipts.extend(soon(writer.finish()).await.expect("staged"));
    }
    receipts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committed_epoch_survives_and_a_staged_one_is_run_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let (server, client) = start(&dir).await;
    create(&client, "s", partitions(2)).await;
    let first = write(&client, 0).await;
    assert_eq!(client.commit_epoch("s", &run(), Epoch(0), first.clone()).await.expect("commits"), EpochState::Committed);
    append(&client, "s", 1000..1004).await;
    let staged = write(&client, 1).await;
    let before = read(&client, "s").await;
    assert_eq!(before.len(), 8);
    let (server, client) = restart(server, &dir).await;
    assert_eq!(offsets(&before), offsets(&read(&client, "s").await));
    assert_eq!(client.commit_epoch("s", &run(), Epoch(0), first).await.expect("a repeated commit"), EpochState::AlreadyCommitted);
    let error = client.commit_epoch("s", &run(), Epoch(1), staged).await.expect_err("what was staged is gone");
    assert_eq!(error.code(), Code::ReceiptUnknown);
    let again = write(&client, 1).await;
    assert_eq!(client.commit_epoch("s", &run(), Epoch(1), again).await.expect("commits"), EpochState::Committed);
    let all = read(&client, "s").await;
    let (_server, client) = restart(server, &dir).await;
    assert_eq!((all.len(), offsets(&all)), (12, offsets(&read(&client, "s").await)));
    let description = client.describe_stream("s").await.expect("is there");
    assert_eq!((description.epochs_committed, description.epochs_replayed), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acked_gives_its_room_on_the_disk_back_and_is_not_delivered_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let (server, client) = start(&dir).await;
    create(&client, "s", partitions(1)).await;
    let mut consumer = subscribed(&client, "s", "c").await;
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    let large =
        |byte| RecordBatch::try_from_iter([("b", Arc::new(UInt8Array::from(vec![byte; 8 << 20])) as ArrayRef)]).expect("one column");
    for byte in 0..30 {
        soon(producer.append(&large(byte), None, Bytes::new())).await.expect("room");
        let delivered = soon(consumer.next(None)).await.expect("is read").expect("is there");
        consumer.ack(delivered.partition, delivered.offset.plus(1)).expect("an offset");
    }
    soon(consumer.flush_acks()).await.expect("acked");
    // 240 MiB were written, in segments of 64 MiB.
    until("segments are removed", async || files(dir.path(), "arrows").len() <= 1).await;
    let (_server, client) = restart(server, &dir).await;
    let found = client.describe_stream("s").await.expect("is there");
    let cursor = &found.subscriptions[0].partitions[0];
    assert_eq!((found.partitions[0].start, found.partitions[0].end, cursor.acked), (30, 30, 30));
    append_large(&client, &large(30)).await;
    let mut consumer = subscribed(&client, "s", "c").await;
    let delivered = soon(consumer.next(None)).await.expect("is read").expect("is there");
    assert_eq!(delivered.offset, Offset(30));
}

async fn append_large(client: &Client, batch: &RecordBatch) {
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    soon(producer.append(batch, None, Bytes::new())).await.expect("room");
    soon(producer.flush()).await.expect("stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn dictionaries_are_there_after_a_restart_and_other_readers_open_the_segments() {
    let dir = tempfile::tempdir().expect("a folder");
    let (server, client) = start(&dir).await;
    let words = [["a", "b"], ["b", "c"], ["c", "a"]];
    let batch = |words: [&str; 2]| {
        let words: DictionaryArray<Int32Type> = words.into_iter().collect();
        RecordBatch::try_from_iter([("w", Arc::new(words) as ArrayRef)]).expect("one column")
    };
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    for words in words {
        soon(producer.append(&batch(words), None, Bytes::new())).await.expect("room");
    }
    soon(producer.flush()).await.expect("stored");
    let texts = |batches: Vec<RecordBatch>| -> Vec<Vec<String>> {
        let words = |batch: &RecordBatch| {
            let column = batch.column(0).as_dictionary::<Int32Type>().downcast_dict::<arrow::array::StringArray>().expect("of text");
            column.into_iter().map(|word| word.expect("no nulls").to_owned()).collect()
        };
        batches.iter().map(words).collect()
    };
    let expected: Vec<Vec<String>> = words.map(|words| words.map(str::to_owned).to_vec()).to_vec();
    let open = |path: &Path| StreamReader::try_new(BufReader::new(File::open(path).expect("is there")), None).expect("an Arrow stream");
    let live = files(dir.path(), "arrows");
    assert_eq!(texts(open(&live[0]).collect::<Result<_, _>>().expect("is read")), expected, "while it is written");
    let (_server, client) = restart(server, &dir).await;
    assert_eq!(texts(read(&client, "s").await.into_iter().map(|one| one.batch).collect()), expected);
    assert_eq!(texts(open(&live[0]).collect::<Result<_, _>>().expect("is read")), expected, "once it is sealed");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_a_cache_a_producer_does_not_wait_for_consumers() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = server_with(ServerConfig { max_buffered_batches: 4, max_buffered_bytes: 1 << 20, ..config(&dir) }).await;
    let client = connect(&server.url()).await;
    // 100 batches of 80 KB.
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    for number in 0..100 {
        soon(producer.append(&numbered(number, 10_000), None, Bytes::new())).await.expect("room");
    }
    soon(producer.flush()).await.expect("stored");
    let found = client.describe_stream("s").await.expect("is there");
    assert!(
        found.buffered_batches < 100 && found.buffered_bytes <= 1 << 20,
        "{} batches, {} bytes",
        found.buffered_batches,
        found.buffered_bytes
    );
    let all = read(&client, "s").await;
    assert_eq!(all.iter().map(number).collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_log_makes_producers_wait_until_consumers_ack() {
    let dir = tempfile::tempdir().expect("a folder");
    let (_server, client) = start(&dir).await;
    create(&client, "s", StreamOptions { max_disk_bytes: Some(400_000), ..StreamOptions::default() }).await;
    let mut consumer = subscribed(&client, "s", "c").await;
    let options = ProducerOptions { append_timeout: Some(Duration::from_millis(200)), ..ProducerOptions::default() };
    let mut producer = client.producer("s", options).expect("a producer");
    for number in 0..4 {
        soon(producer.append(&numbered(number, 10_000), None, Bytes::new())).await.expect("room");
    }
    soon(producer.flush()).await.expect("stored");
    soon(producer.append(&numbered(4, 10_000), None, Bytes::new())).await.expect("room in the window");
    assert_eq!(soon(producer.flush()).await.expect_err("the log is full").code(), Code::Timeout);
    let first = soon(consumer.next(None)).await.expect("is read").expect("is there");
    consumer.ack(first.partition, first.offset.plus(1)).expect("an offset");
    soon(consumer.flush_acks()).await.expect("acked");
    soon(producer.append(&numbered(4, 10_000), None, Bytes::new())).await.expect("room");
    soon(producer.flush()).await.expect("there is room now");

    // An open epoch is refused at once: nobody else could make room.
    create(&client, "t", StreamOptions { max_disk_bytes: Some(100_000), ..StreamOptions::default() }).await;
    let id = WriterId { producer: "p".to_owned(), run: "r".to_owned(), epoch: Epoch(0), task: Task(0), attempt: Attempt(0) };
    let mut writer = client.writer("t", id, WriterOptions::default()).expect("a writer");
    for number in 0..2 {
        soon(writer.append(&numbered(number, 10_000), None, Bytes::new())).await.expect("room in the window");
    }
    let error = soon(writer.finish()).await.expect_err("it does not fit");
    assert!(error.code() == Code::SpoolFull && error.to_string().contains("max_disk_bytes"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_stream_is_gone_with_its_files() {
    let dir = tempfile::tempdir().expect("a folder");
    let (server, client) = start(&dir).await;
    append(&client, "s", 0..3).await;
    append(&client, "t", 0..3).await;
    client.delete_stream("s").await.expect("is there");
    assert_eq!(files(dir.path(), "arrows").len(), 1);
    append(&client, "s", 10..12).await;
    let (_server, client) = restart(server, &dir).await;
    assert_eq!(read(&client, "s").await.iter().map(number).collect::<Vec<_>>(), [10, 11]);
    assert_eq!(read(&client, "t").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_stream_survives_and_so_do_its_options() {
    let dir = tempfile::tempdir().expect("a folder");
    let (server, client) = start(&dir).await;
    create(&client, "done", StreamOptions { partitions: Some(2), max_disk_bytes: Some(1 << 20), ..StreamOptions::default() }).await;
    append(&client, "broken", 0..2).await;
    client.complete_stream("done").await.expect("is open");
    client.fail_stream("broken", "the source broke").await.expect("is open");
    let before = client.list_streams().await.expect("two");
    let (_server, client) = restart(server, &dir).await;
    let mut after = client.list_streams().await.expect("two");
    let mut before = before;
    for one in before.iter_mut().chain(&mut after) {
        (one.buffered_batches, one.buffered_bytes) = (0, 0);
        one.partitions.iter_mut().for_each(|partition| (partition.buffered_batches, partition.buffered_bytes) = (0, 0));
    }
    // When the newest batch came is not kept.
    before.iter_mut().flat_map(|one| &mut one.partitions).for_each(|partition| partition.idle_micros = None);
    assert_eq!(before, after);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_has_one_coordinator_at_a_time() {
    let dir = tempfile::tempdir().expect("a folder");
    let (_server, _client) = start(&dir).await;
    let listen = ([127, 0, 0, 1], 0).into();
    let error = Server::start(ServerConfig { listen, http: None, ..config(&dir) }).await.expect_err("it is in use");
    assert!(error.to_string().contains("another coordinator uses it"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_is_one_damaged_offset_and_no_silent_loss() {
    let dir = tempfile::tempdir().expect("a folder");
    let (server, client) = start(&dir).await;
    append(&client, "s", 0..5).await;
    server.shutdown(Duration::from_secs(5)).await;
    drop(server);
    let path = &files(dir.path(), "arrows")[0];
    let mut bytes = std::fs::read(path).expect("is there");
    // The third batch's body has its number ten times.
    let body = 2_i64.to_le_bytes().repeat(10);
    let at = bytes.windows(body.len()).position(|window| window == body).expect("it is there");
    bytes[at + 3] ^= 1;
    std::fs::write(path, bytes).expect("is written");
    let (_server, client) = start(&dir).await;
    let options = ConsumerOptions { follow: false, ..ConsumerOptions::default() };
    let mut consumer = client.consumer("s", options).await.expect("is there");
    for number_of in 0..2 {
        assert_eq!(number(&soon(consumer.next(None)).await.expect("is read").expect("is there")), number_of);
    }
    let error = soon(consumer.next(None)).await.expect_err("is damaged");
    assert_eq!(error.code(), Code::Storage);
    assert!(error.to_string().contains("offset 2") && error.to_string().contains("damaged"), "{error}");
    let start = [(PartitionId(0), Offset(3))].into_iter().collect();
    let behind = ConsumerOptions { follow: false, start: bowstring::client::ReadStart::Offsets(start), ..ConsumerOptions::default() };
    let mut consumer = client.consumer("s", behind).await.expect("is there");
    assert_eq!(soon(rest(&mut consumer)).await.expect("is read").iter().map(number).collect::<Vec<_>>(), [3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_in_the_process_and_one_by_the_unix_socket_are_as_durable() {
    let dir = tempfile::tempdir().expect("a folder");
    let (server, _) = start(&dir).await;
    let own = Client::within_process(&server.url(), server.service(), ClientOptions::default()).await.expect("is there");
    append(&own, "s", 0..5).await;
    let (_server, client) = restart(server, &dir).await;
    assert_eq!(read(&client, "s").await.len(), 5);
}

/// An answer that is lost to the producer between two looks leaves it waiting for ever, if it sends nothing more.
#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_flushes_each_batch_is_answered_each_time() {
    let dir = tempfile::tempdir().expect("a folder");
    let (_server, client) = start(&dir).await;
    create(&client, "s", partitions(4)).await;
    let flushing = (0..4).map(|partition| {
        let options = ProducerOptions { partition: Some(PartitionId(partition)), ..ProducerOptions::default() };
        let mut producer = client.producer("s", options).expect("a producer");
        tokio::spawn(async move {
            for number in 0..500 {
                soon(producer.append(&numbered(number, 1), None, Bytes::new())).await.expect("room");
                soon(producer.flush()).await.expect("stored");
            }
        })
    });
    for flushing in flushing.collect::<Vec<_>>() {
        flushing.await.expect("all is stored");
    }
}
