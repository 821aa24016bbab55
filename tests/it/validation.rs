//! What no header tells: values that crash who believes them. Structure validation refuses what two numbers per array can tell, full
//! validation all of it; and whoever sends such a batch harms nobody else.

use std::process::Command;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, DictionaryArray, Int32Array, Int64Array, ListArray, RecordBatch, StringArray, StringViewArray, StructArray, UnionArray,
};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, UnionFields};
use arrow_flight::FlightData;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_ipc::CompressionType;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use bowstring::engine::Code;
use bowstring::server::{Server, ServerConfig, Validation};
use bowstring::wire::proto::StreamOptions;
use futures::TryStreamExt;
use serde_json::json;
use tonic::transport::Channel;

use super::hostile::goes_on;
use super::server_support::{
    channel, code, command, create, flight, messages, numbers, path, put, read, refused, send, soon, start, started, stats, stop,
};

/// Set for the child process that decodes what would end this one.
const CHILD: &str = "BOWSTRING_DECODE_IN_CHILD";

async fn strict() -> (Server, Channel) {
    let server = start(ServerConfig { validation: Validation::Full, ..ServerConfig::default() }).await;
    let channel = channel(server.listen_addr()).await;
    (server, channel)
}

fn column(array: ArrayRef) -> RecordBatch {
    RecordBatch::try_from_iter([("c", array)]).expect("one column")
}

fn texts() -> RecordBatch {
    column(Arc::new(StringArray::from(vec!["one", "two", "three", "four"])))
}

/// Puts bytes in place of others in the body of a message, wherever they are.
fn instead(mut messages: Vec<FlightData>, message: usize, of: &[u8], bytes: &[u8]) -> Vec<FlightData> {
    let mut body = messages[message].data_body.to_vec();
    let at = body.windows(of.len()).position(|window| window == of).expect("it is there");
    body[at..at + bytes.len()].copy_from_slice(bytes);
    messages[message].data_body = body.into();
    messages
}

/// 32-bit numbers as they lie in a body.
fn words(numbers: &[i32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn compressed(batch: RecordBatch, codec: CompressionType) -> Vec<FlightData> {
    let options = IpcWriteOptions::default().try_with_compression(Some(codec)).expect("is supported");
    let encoder = FlightDataEncoderBuilder::new().with_options(options).with_flight_descriptor(Some(path("s")));
    futures::executor::block_on(encoder.build(futures::stream::iter([Ok(batch)])).try_collect()).expect("encodes")
}

/// Messages whose header is in order, and whose values are not: which, and whether the ends of offsets tell.
fn invalid() -> Vec<(&'static str, bool, Vec<FlightData>)> {
    let of = |batch: RecordBatch| messages(path("s"), vec![batch]);
    let text = words(&[0, 3, 6, 11, 15]);
    let lists = || column(Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), Some(2)]), Some(vec![Some(3)])])));
    let word: DictionaryArray<Int32Type> = ["a", "b", "a", "b", "a"].into_iter().collect();
    let views =
        column(Arc::new(StringViewArray::from(vec!["a text that is longer than twelve bytes", "another one that is as long as it"])));
    let fields = UnionFields::try_new(vec![0, 1], vec![Field::new("a", DataType::Int32, true), Field::new("b", DataType::Int64, true)])
        .expect("two");
    let children: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(vec![7, 8])), Arc::new(Int64Array::from(vec![9]))];
    let union = UnionArray::try_new(fields, vec![0, 1, 0].into(), Some(vec![0, 0, 1].into()), children).expect("in order");
    let with_null = column(Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])));
    let bits = |byte: u8| [byte, 0, 0, 0, 0, 0, 0, 0];
    vec![
        ("the last offset beyond the data", true, instead(of(texts()), 1, &text, &words(&[0, 3, 6, 11, 1 << 30]))),
        ("the first offset below zero", true, instead(of(texts()), 1, &text, &words(&[-8, 3, 6, 11, 15]))),
        ("the last offset before the first", true, instead(of(texts()), 1, &text, &words(&[9, 3, 6, 11, 2]))),
        ("a list beyond its items", true, instead(of(lists()), 1, &words(&[0, 2, 3]), &words(&[0, 2, 4]))),
        ("an offset in the middle", false, instead(of(texts()), 1, &text, &words(&[0, 1 << 30, 6, 11, 15]))),
        ("an offset in the middle below zero", false, instead(of(texts()), 1, &text, &words(&[0, -(1 << 30), 6, 11, 15]))),
        ("a list in the middle", false, instead(of(lists()), 1, &words(&[0, 2, 3]), &words(&[0, 9, 3]))),
        ("text that is no UTF-8", false, instead(of(texts()), 1, b"three", &[0xff])),
        (
            "an index beyond the dictionary",
            false,
            instead(of(column(Arc::new(word.clone()))), 2, &words(&[0, 1, 0, 1, 0]), &words(&[0, 1, 2])),
        ),
        ("an index below zero", false, instead(of(column(Arc::new(word))), 2, &words(&[0, 1, 0, 1, 0]), &words(&[-1]))),
        (
            "a view into no buffer",
            false,
            instead(of(views), 1, &[b'a', b' ', b't', b'e', 0, 0, 0, 0], &[b'a', b' ', b't', b'e', 9, 0, 0, 0]),
        ),
        ("a union of a type that it has not", false, instead(of(column(Arc::new(union.clone()))), 1, &[0, 1, 0, 0], &[0, 5, 0, 0])),
        ("a union beyond its child", false, instead(of(column(Arc::new(union))), 1, &words(&[0, 0, 1]), &words(&[0, 1 << 20, 1]))),
        ("other nulls than it says", false, instead(of(with_null), 1, &bits(0b101), &bits(0b111))),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn full_validation_refuses_values_that_would_crash_who_believes_them() {
    let (server, channel) = strict().await;
    for (name, _, bad) in invalid() {
        let status = soon(send(&channel, bad)).await.expect_err(name);
        assert_eq!(code(&status), "malformed_message", "{name}");
        assert!(status.message().contains(" of the call: "), "{name}: {}", status.message());
        assert_eq!(soon(read(&channel, json!({"stream": "s"}))).await.expect("nothing is stored"), [], "{name}");
        super::server_support::act(&channel, "delete_stream", "s").await.expect("is there");
    }
    goes_on(&server, &channel).await;
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn structure_validation_refuses_what_the_ends_of_offsets_tell_and_no_more() {
    let (server, channel) = started().await;
    for (name, is_told, bad) in invalid() {
        match soon(send(&channel, bad)).await {
            Ok(_) => assert!(!is_told, "{name} is stored"),
            Err(status) => {
                assert!(is_told, "{name}: {status}");
                assert_eq!(code(&status), "malformed_message", "{name}");
                assert!(
                    status.message().contains("message 1 of the call: array 0 of the batch has offsets from"),
                    "{name}: {}",
                    status.message()
                );
            }
        }
        super::server_support::act(&channel, "delete_stream", "s").await.expect("is there");
    }
    goes_on(&server, &channel).await;
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn full_validation_passes_what_is_in_order_however_it_comes() {
    let (server, channel) = strict().await;
    let word = |from: usize| -> ArrayRef {
        let words: DictionaryArray<Int32Type> = ["a", "b", "c", "d", "e"][from..].iter().copied().collect();
        Arc::new(words)
    };
    let nested = |value: &str| -> ArrayRef {
        let inner: DictionaryArray<Int32Type> = [value, "x"].into_iter().collect();
        let field = Arc::new(Field::new("inner", inner.data_type().clone(), true));
        let values: ArrayRef = Arc::new(StructArray::from(vec![(field, Arc::new(inner) as ArrayRef)]));
        Arc::new(DictionaryArray::<Int32Type>::try_new(Int32Array::from(vec![1, 0, 1]), values).expect("in order"))
    };
    let large = column(Arc::new(StringArray::from_iter_values((0..40_000).map(|number| format!("number {number}")))));
    for batches in [
        vec![texts(), texts().slice(1, 2), texts().slice(0, 0)],
        // A dictionary that is another each time.
        vec![column(word(0)), column(word(2)), column(word(2)), column(word(0))],
        vec![column(nested("one")), column(nested("two"))],
        vec![large.clone(), large.clone()],
    ] {
        soon(put(&channel, path("s"), batches.clone())).await.expect("in order");
        let stored = soon(read(&channel, json!({"stream": "s"}))).await.expect("reads");
        let rows = |batches: &[RecordBatch]| batches.iter().map(RecordBatch::num_rows).sum::<usize>();
        assert_eq!(rows(&stored), rows(&batches));
        super::server_support::act(&channel, "delete_stream", "s").await.expect("is there");
    }
    for codec in [CompressionType::LZ4_FRAME, CompressionType::ZSTD] {
        soon(send(&channel, compressed(large.clone(), codec))).await.expect("in order");
    }
    assert_eq!(soon(read(&channel, json!({"stream": "s"}))).await.expect("reads"), [large.clone(), large]);
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn full_validation_takes_no_body_that_does_not_decompress_to_what_it_claims() {
    let (server, channel) = strict().await;
    let zeros = || column(Arc::new(Int64Array::from(vec![0; 100_000])));
    for codec in [CompressionType::LZ4_FRAME, CompressionType::ZSTD] {
        let mut all = compressed(zeros(), codec);
        let mut body = all[1].data_body.to_vec();
        assert_eq!(body[..8], 800_000_i64.to_le_bytes());
        body[..8].copy_from_slice(&800_008_i64.to_le_bytes());
        all[1].data_body = body.into();
        assert_eq!(refused(soon(send(&channel, all)).await), "malformed_message", "{codec:?}");
    }
    goes_on(&server, &channel).await;
    stop(server).await;
}

/// A batch as a stream file, its compressed buffers claiming to become more than any machine has.
fn claims_all_memory() -> Vec<u8> {
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME)).expect("is supported");
    let batch = column(Arc::new(Int64Array::from(vec![7; 100])));
    let mut file = Vec::new();
    let mut writer = StreamWriter::try_new_with_options(&mut file, &batch.schema(), options).expect("writes");
    writer.write(&batch).expect("writes");
    writer.finish().expect("writes");
    let honest = 800_i64.to_le_bytes();
    let at = file.windows(12).position(|window| window[..8] == honest && window[8..] == 0x184D_2204_u32.to_le_bytes()).expect("a frame");
    file[at..at + 8].copy_from_slice(&(1_i64 << 46).to_le_bytes());
    file
}

/// Does nothing, but in the child process of the test below.
#[test]
fn a_child_decodes_what_would_end_its_parent() {
    if std::env::var_os(CHILD).is_some() {
        let file = claims_all_memory();
        let read = StreamReader::try_new(std::io::Cursor::new(file), None).expect("a schema").next();
        println!("survived: {:?}", read.expect("a batch").map(|batch| batch.num_rows()));
    }
}

/// Of the same bytes: Arrow's own reader is aborted, which nobody can catch; the coordinator refuses them.
#[tokio::test(flavor = "multi_thread")]
async fn a_false_length_that_aborts_arrows_reader_is_refused() {
    let child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "validation::a_child_decodes_what_would_end_its_parent", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(!child.status.success() && !said.contains("survived"), "arrow-rs takes it now, and the guard may be simpler: {said}");
    assert!(String::from_utf8_lossy(&child.stderr).contains("memory allocation of"), "{child:?}");
    let (server, channel) = started().await;
    let mut all = compressed(column(Arc::new(Int64Array::from(vec![7; 100]))), CompressionType::LZ4_FRAME);
    let mut body = all[1].data_body.to_vec();
    body[..8].copy_from_slice(&(1_i64 << 46).to_le_bytes());
    all[1].data_body = body.into();
    assert_eq!(refused(soon(send(&channel, all)).await), "malformed_message");
    goes_on(&server, &channel).await;
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_batch_gives_its_room_back_and_other_producers_go_on() {
    for validation in [Validation::Structure, Validation::Full] {
        let server = start(ServerConfig { validation, max_buffered_batches: 2, ..ServerConfig::default() }).await;
        let channel = channel(server.listen_addr()).await;
        create(&channel, "s", StreamOptions::default()).await;
        // Another producer of the same stream, on the same connection, all the time.
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let feed = futures::stream::unfold(receiver, async |mut receiver| receiver.recv().await.map(|message| (message, receiver)));
        let mut client = flight(&channel);
        let other = tokio::spawn(async move { client.do_put(Box::pin(feed)).await?.into_inner().try_collect::<Vec<_>>().await });
        let mut good = messages(command(json!({"stream": "s", "partition": 0})), vec![texts()]);
        sender.send(good.remove(0)).await.expect("is read");
        for _ in 0..5 {
            let bad = instead(messages(path("s"), vec![texts()]), 1, &words(&[0, 3, 6, 11, 15]), &words(&[0, 3, 6, 11, 16]));
            assert_eq!(refused(soon(send(&channel, bad)).await), "malformed_message");
        }
        sender.send(good.remove(0)).await.expect("is read");
        drop(sender);
        soon(other).await.expect("ends").expect("goes on");
        // The other of the two places is free, too.
        soon(put(&channel, path("s"), vec![texts()])).await.expect("there is room");
        assert_eq!(soon(read(&channel, json!({"stream": "s"}))).await.expect("reads"), [texts(), texts()]);
        let stream = stats(&channel).await.streams.remove(0);
        assert_eq!((stream.appended_batches, stream.appenders), (2, 0), "{validation:?}");
        stop(server).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_batch_becomes_is_bounded_by_the_servers_setting() {
    let server = start(ServerConfig { decompressed_bytes_max: 80_000, ..ServerConfig::default() }).await;
    let channel = channel(server.listen_addr()).await;
    let of = |rows: usize| compressed(column(Arc::new(Int64Array::from(vec![7; rows]))), CompressionType::ZSTD);
    soon(send(&channel, of(10_000))).await.expect("the limit itself");
    let status = soon(send(&channel, of(10_001))).await.expect_err("one row more");
    assert_eq!(code(&status), Code::MessageTooLarge.as_str());
    assert!(status.message().contains("80008 bytes") && status.message().contains("80000 bytes"), "{}", status.message());
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_metadata_of_a_schema_are_bounded_however_often_a_header_uses_them() {
    let (server, channel) = started().await;
    let named = |bytes: usize| {
        let (name, array) = ("n".repeat(bytes), numbers(0..1).column(0).clone());
        vec![RecordBatch::try_from_iter([(name, array)]).expect("one column")]
    };
    soon(put(&channel, path("s"), named(64 << 10))).await.expect("the limit itself");
    let status = soon(put(&channel, path("t"), named((64 << 10) + 1))).await.expect_err("one byte more");
    assert_eq!(code(&status), "malformed_message");
    assert!(status.message().contains("a field's name of 65537 bytes (it begins with \"nnn"), "{}", status.message());
    goes_on(&server, &channel).await;
    stop(server).await;
}
