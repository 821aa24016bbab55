//! Bodies about the sizes from which on they are copied, lent or handed over another way: on each side of 16 KiB and of 64 KiB.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt8Array};
use arrow_buffer::NullBuffer;
use arrow_ipc::{FieldNode, MessageBuilder, MessageHeader, MetadataVersion, RecordBatchBuilder};
use arrow_schema::{DataType, Field, Schema};
use bowstring::client::{Client, ConsumerOptions, Delivered, Producer, ProducerOptions};
use bowstring::engine::SchemaVersion;
use bowstring::server::{Server, ServerConfig};
use bowstring::wire::batch::EncodedBatch;
use bowstring::wire::dictionary::DictionarySet;
use bowstring::wire::ipc::Message;
use bowstring::wire::schema::StreamSchema;
use bytes::Bytes;
use flatbuffers::FlatBufferBuilder;

use super::client_support::{rest, soon};
use super::server_support::until;
use super::transport::{Transport, on_each_transport};

on_each_transport! {
    numbers_of_any_size_about_16_and_64_kib_come_back,
    numbers_with_validity_of_any_size_about_16_and_64_kib_come_back,
    strings_of_any_size_about_16_and_64_kib_come_back,
    strings_with_validity_of_any_size_about_16_and_64_kib_come_back,
    bodies_of_every_length_about_16_and_64_kib_come_back,
}

const KIB: usize = 1 << 10;

/// Sizes of a batch's last buffer for which that buffer, or the body with up to three paddings of 64 bytes before it, has 16 or 64
/// KiB, a byte less, or one more. The largest first: with that a producer gets its arena.
fn sizes() -> Vec<usize> {
    let about = |size: usize| [0, 64, 128, 192].into_iter().flat_map(move |before| [size - before + 1, size - before, size - before - 1]);
    [64 * KIB, 16 * KIB].into_iter().flat_map(about).collect()
}

/// Bytes that do not repeat where a buffer may be cut.
fn byte(index: usize) -> u8 {
    u8::try_from(index % 251).expect("less than 251")
}

fn column(array: ArrayRef) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable([("c", array, true)]).expect("one column")
}

fn numbers(size: usize, nulls: Option<NullBuffer>) -> RecordBatch {
    column(Arc::new(UInt8Array::new((0..size).map(byte).collect(), nulls)))
}

/// Three strings, the second null if there are nulls; `size` bytes together.
fn strings(size: usize, nulls: bool) -> RecordBatch {
    let text = |from: usize, to: usize| (from..to).map(|index| char::from(b'a' + byte(index) % 26)).collect::<String>();
    let middle = if nulls { None } else { Some(text(size / 3, size / 2)) };
    let from = if nulls { size / 3 } else { size / 2 };
    column(Arc::new(StringArray::from(vec![Some(text(0, size / 3)), middle, Some(text(from, size))])))
}

/// A server and a producer; large bodies go the transport's way from the first batch on that is not `first`.
async fn started(on: Transport, first: &RecordBatch) -> (Server, Client, Producer) {
    let server = on.server(ServerConfig { max_buffered_batches: 10_000, ..ServerConfig::default() }).await;
    let client = on.client(&server).await;
    if on == Transport::Shared {
        let mut before = client.producer("before", ProducerOptions::default()).expect("a producer");
        before.append(first, None, Bytes::new()).await.expect("room");
        soon(before.flush()).await.expect("stored");
        until("an arena is lent", async || server.coordinator().shared_memory().lent_bytes > 0).await;
    }
    let producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    (server, client, producer)
}

/// Everything, read twice: first by one who comes as the producer does, then by TCP.
async fn read(on: Transport, server: &Server, client: &Client) -> Vec<Delivered> {
    let mut own = client.consumer("s", ConsumerOptions::default()).await.expect("is there");
    let delivered = soon(rest(&mut own)).await.expect("reads");
    if on == Transport::Shared {
        assert!(server.coordinator().shared_memory().looked_at_bytes >= 64 * KIB as u64, "they came by the socket");
    }
    let other = Client::connect(&server.url(), bowstring::client::ClientOptions { local_socket: false, ..Default::default() }).await;
    let mut other = other.expect("is there").consumer("s", ConsumerOptions::default()).await.expect("is there");
    let again = soon(rest(&mut other)).await.expect("reads");
    assert_eq!(again.len(), delivered.len());
    assert!(again.iter().zip(&delivered).all(|(one, other)| one.batch == other.batch));
    delivered
}

/// Appends a batch of each size, each behind and before a small one, and reads all of them.
async fn check(on: Transport, batch: impl Fn(usize) -> RecordBatch) {
    let batches: Vec<_> = sizes().into_iter().flat_map(|size| [batch(size), batch(3)]).collect();
    let (server, client, mut producer) = started(on, &batches[0]).await;
    for (index, batch) in batches.iter().enumerate() {
        producer.append(batch, None, Bytes::copy_from_slice(&index.to_le_bytes())).await.expect("room");
    }
    soon(producer.complete()).await.expect("stored");
    let delivered = read(on, &server, &client).await;
    assert_eq!(delivered.len(), batches.len());
    for (index, (delivered, batch)) in delivered.iter().zip(&batches).enumerate() {
        assert!(delivered.batch == *batch, "batch {index} is another");
        assert_eq!(delivered.user[..], index.to_le_bytes());
    }
}

async fn numbers_of_any_size_about_16_and_64_kib_come_back(on: Transport) {
    check(on, |size| numbers(size, None)).await;
}

async fn numbers_with_validity_of_any_size_about_16_and_64_kib_come_back(on: Transport) {
    let with_nulls = |size: usize| numbers(size, Some((0..size).map(|row| row % 3 != 1).collect()));
    check(on, with_nulls).await;
    // The values and the bitmap together, which has an eighth of them.
    check(on, |size| with_nulls(size * 8 / 9)).await;
}

async fn strings_of_any_size_about_16_and_64_kib_come_back(on: Transport) {
    check(on, |size| strings(size, false)).await;
}

async fn strings_with_validity_of_any_size_about_16_and_64_kib_come_back(on: Transport) {
    check(on, |size| strings(size, true)).await;
}

/// A batch of so many bytes, encoded without padding: bodies of bowstring's own encoder have a multiple of 64.
fn encoded(size: usize) -> EncodedBatch {
    let length = i64::try_from(size).expect("small");
    let mut builder = FlatBufferBuilder::new();
    let nodes = builder.create_vector(&[FieldNode::new(length, 0)]);
    let buffers = builder.create_vector(&[arrow_ipc::Buffer::new(0, 0), arrow_ipc::Buffer::new(0, length)]);
    let mut batch = RecordBatchBuilder::new(&mut builder);
    batch.add_length(length);
    batch.add_nodes(nodes);
    batch.add_buffers(buffers);
    let batch = batch.finish().as_union_value();
    let mut message = MessageBuilder::new(&mut builder);
    message.add_version(MetadataVersion::V5);
    message.add_header_type(MessageHeader::RecordBatch);
    message.add_header(batch);
    message.add_bodyLength(length);
    let message = message.finish();
    builder.finish(message, None);
    let body = (0..size).map(byte).collect::<Bytes>();
    let message = Message { header: Bytes::copy_from_slice(builder.finished_data()), body: body.into() };
    EncodedBatch { message, dictionaries: DictionarySet::empty(), schema: SchemaVersion(0), user: Bytes::new(), rows: size as u64 }
}

/// Every length below 16 KiB for which the whole message, header and all, has about 16 KiB; the same for 64 KiB.
async fn bodies_of_every_length_about_16_and_64_kib_come_back(on: Transport) {
    let sizes: Vec<_> = [64 * KIB, 16 * KIB].into_iter().flat_map(|size| size - 320..size + 4).collect();
    let schema = StreamSchema::from_arrow(&Schema::new(vec![Field::new("c", DataType::UInt8, true)])).expect("a schema");
    let (server, client, mut producer) = started(on, &numbers(64 * KIB, None)).await;
    for size in &sizes {
        soon(producer.append_encoded(&schema, encoded(*size), None)).await.expect("room");
    }
    soon(producer.complete()).await.expect("stored");
    let delivered = read(on, &server, &client).await;
    assert_eq!(delivered.iter().map(|delivered| delivered.batch.num_rows()).collect::<Vec<_>>(), sizes);
    for (delivered, size) in delivered.iter().zip(sizes) {
        assert!(delivered.batch == numbers(size, None), "the batch of {size} bytes is another");
    }
}
