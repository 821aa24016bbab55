//! Properties of the bytes on the wire: frames come out as they went in, headers are looked at without harm,
//! dictionaries reach a reader exactly once.

#![expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small numbers made here")]

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, Int64Array, ListArray, NullArray, RecordBatch, StringArray, StringViewArray};
use arrow::datatypes::{Int32Type, Int64Type};
use arrow_flight::FlightData;
use bowstring::wire::dictionary::DictionarySet;
use bowstring::wire::error::WireError;
use bowstring::wire::frame::{FlightHead, FrameReader, FrameWriter, Small};
use bowstring::wire::ipc::{Body, Kind, Message, inspect};
use bowstring::wire::schema::StreamSchema;
use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::server_support::{messages, path};

#[derive(Debug, Clone, PartialEq)]
struct Frame {
    descriptor: Bytes,
    header: Bytes,
    metadata: Bytes,
    body: Bytes,
}

fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
    (0..=max, any::<u8>()).prop_map(|(len, first)| (0..len).map(|at| first.wrapping_add(at as u8)).collect::<Vec<_>>().into())
}

fn frame() -> impl Strategy<Value = Frame> {
    // Bodies on both sides of what is copied, of 16 KiB and of 64 KiB.
    let body = prop_oneof![bytes(40), bytes(20_000), bytes(150_000)];
    (bytes(50), bytes(300), bytes(50), body).prop_map(|(descriptor, header, metadata, body)| Frame { descriptor, header, metadata, body })
}

/// Reads everything, given in chunks of these sizes, one after the other and again.
fn read_back(sent: &[Bytes], sizes: &[usize]) -> Vec<Frame> {
    let [copied, shared] = [Small::Copied, Small::Shared].map(|small| read_back_with(small, sent, sizes, FrameReader::body));
    assert!(copied == shared, "what becomes of small messages does not show");
    let mut pieces = Vec::new();
    let put_together = |reader: &mut FrameReader| {
        let is_whole = reader.body_pieces(|piece| pieces.extend_from_slice(piece))?;
        Ok(is_whole.then(|| Body::from(Bytes::from(std::mem::take(&mut pieces)))))
    };
    assert!(read_back_with(Small::Copied, sent, sizes, put_together) == copied, "nor does how the body is taken");
    copied
}

fn read_back_with(
    small: Small,
    sent: &[Bytes],
    sizes: &[usize],
    mut body: impl FnMut(&mut FrameReader) -> Result<Option<Body>, WireError>,
) -> Vec<Frame> {
    let mut left: Bytes = sent.concat().into();
    let (mut reader, mut read, mut head) = (FrameReader::new(1 << 30, small), Vec::new(), None::<FlightHead>);
    for size in sizes.iter().cycle() {
        if left.is_empty() {
            break;
        }
        reader.push(left.split_to(left.len().min(*size)));
        loop {
            if head.is_none() {
                head = reader.head().expect("well framed");
            }
            if head.is_none() {
                break;
            }
            let Some(body) = body(&mut reader).expect("well framed") else { break };
            let FlightHead { descriptor, header, metadata, body_len } = head.take().expect("asked above");
            assert_eq!(body_len, body.len());
            read.push(Frame { descriptor, header, metadata, body: body.contiguous() });
        }
    }
    assert!(head.is_none() && reader.is_between_messages());
    read
}

fn written(frames: &[Frame], cut: usize) -> Vec<Bytes> {
    let mut writer = FrameWriter::new();
    for frame in frames {
        let mut body = Body::new();
        frame.body.chunks(cut.max(1)).for_each(|chunk| body.push(Bytes::copy_from_slice(chunk)));
        writer.push(&frame.descriptor, &frame.header, &frame.metadata, &body);
    }
    writer.flush();
    std::iter::from_fn(|| writer.next_chunk()).collect()
}

/// A message below 16 KiB, with bytes that nobody counts beside those that are kept.
#[test]
fn a_small_message_that_is_kept_holds_on_to_nothing_that_is_not_counted() {
    let unknown = 15_000_usize;
    let mut message = vec![0x12, 3, 1, 2, 3, 0xc2, 0x3e, 4, 5, 6, 7, 8];
    // Field 999 of type bytes: a tag of two bytes, a length of two.
    message.extend([0xba, 0x3e, (unknown & 0x7f) as u8 | 0x80, (unknown >> 7) as u8]);
    message.resize(message.len() + unknown, 9);
    let mut framed = vec![0];
    framed.extend((message.len() as u32).to_be_bytes());
    framed.extend(message);
    let mut reader = FrameReader::new(1 << 20, Small::Copied);
    reader.push(framed.into());
    let head = reader.head().expect("well framed").expect("it is there");
    let body = reader.body().expect("well framed").expect("it is there").contiguous();
    assert_eq!((&head.header[..], &body[..]), (&[1, 2, 3][..], &[5, 6, 7, 8][..]));
    for part in [head.header, body] {
        assert!(part.is_unique(), "it would hold on to the message");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut(
        frames in prop::collection::vec(frame(), 1..6),
        cut in prop_oneof![1_000_usize..3_000, 60_000_usize..200_000],
        sizes in prop::collection::vec(prop_oneof![1_usize..30, 10_000_usize..100_000], 1..5),
    ) {
        prop_assert_eq!(read_back(&written(&frames, cut), &sizes), frames);
    }

    #[test]
    fn frames_are_what_prost_reads_and_what_prost_writes_is_read(frames in prop::collection::vec(frame(), 1..4), size in 1_usize..5_000) {
        // Any bytes will do as a descriptor to the frames, not to prost.
        let frames: Vec<_> = frames.into_iter().map(|frame| Frame { descriptor: Bytes::new(), ..frame }).collect();
        let mut bytes: Bytes = written(&frames, 70_000).concat().into();
        let mut prost = Vec::new();
        for frame in &frames {
            let prefix = bytes.split_to(5);
            let length = u32::from_be_bytes(prefix[1..].try_into().expect("four bytes")) as usize;
            let data = FlightData::decode(bytes.split_to(length)).expect("a FlightData");
            prop_assert_eq!((&data.data_header, &data.app_metadata, &data.data_body), (&frame.header, &frame.metadata, &frame.body));
            let encoded = data.encode_to_vec();
            prost.push([&[0][..], &(encoded.len() as u32).to_be_bytes(), &encoded].concat().into());
        }
        prop_assert_eq!(read_back(&prost, &[size]), frames);
    }

    #[test]
    fn a_reader_of_random_bytes_neither_panics_nor_waits_for_more_than_is_allowed(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..10),
        small in prop_oneof![Just(Small::Copied), Just(Small::Shared)],
    ) {
        let mut reader = FrameReader::new(1 << 20, small);
        for chunk in chunks {
            reader.push(chunk.into());
            while let Ok(Some(head)) = reader.head() {
                prop_assert!(head.body_len <= 1 << 20);
                if !matches!(reader.body(), Ok(Some(_))) {
                    return Ok(());
                }
            }
        }
    }

    /// A reader that gets what `missing_from` says, batch by batch, always holds exactly what the batch needs.
    #[test]
    fn a_reader_is_sent_the_dictionaries_it_lacks_and_no_others(
        steps in prop::collection::vec((0_i64..3, any::<bool>(), any::<bool>()), 1..40),
    ) {
        let mut newest = DictionarySet::empty();
        let mut held = DictionarySet::empty();
        let (mut truth, mut reader): (BTreeMap<i64, Vec<u8>>, BTreeMap<i64, Vec<u8>>) = Default::default();
        for (number, (id, delta, is_read)) in steps.into_iter().enumerate() {
            let message = |delta: bool| Message { header: Bytes::from(vec![id as u8, u8::from(delta), number as u8]), body: Body::new() };
            let delta = delta && newest.contains(id);
            prop_assert!(newest.with(9, true, message(true)).is_err(), "a delta to nothing");
            newest = newest.with(id, delta, message(delta)).expect("there is what it adds to");
            apply(&mut truth, &message(delta));
            if is_read {
                let missing = newest.missing_from(&held);
                missing.iter().for_each(|message| apply(&mut reader, message));
                held = newest.clone();
                prop_assert_eq!(&reader, &truth);
                prop_assert!(newest.missing_from(&held).is_empty());
                prop_assert!(missing.iter().all(|message| truth[&i64::from(message.header[0])].contains(&message.header[2])), "nothing in vain");
            }
        }
    }
}

/// What a reader does with a dictionary message: its id, whether it is a delta, and its number.
fn apply(dictionaries: &mut BTreeMap<i64, Vec<u8>>, message: &Message) {
    let [id, delta, number] = message.header[..] else { panic!("made above") };
    let dictionary = dictionaries.entry(id.into()).or_default();
    if delta == 0 {
        dictionary.clear();
    }
    dictionary.push(number);
}

/// Schema, dictionary and batch messages with most of what headers can have.
fn headers() -> Vec<FlightData> {
    let words: DictionaryArray<Int32Type> = ["a", "b", "a"].into_iter().collect();
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("numbers", Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]))),
        ("words", Arc::new(words)),
        ("lists", Arc::new(lists)),
        ("views", Arc::new(StringViewArray::from(vec!["short", "a text that is longer than twelve bytes", ""]))),
        ("texts", Arc::new(StringArray::from(vec!["x", "yy", "zzz"]))),
        ("nulls", Arc::new(NullArray::new(3))),
    ];
    messages(path("s"), vec![RecordBatch::try_from_iter(columns).expect("equal lengths")])
}

#[test]
fn headers_are_looked_at_without_harm_however_they_are_damaged() {
    let originals = headers();
    let schema = StreamSchema::parse(originals[0].data_header.clone()).expect("a schema");
    let kinds: Vec<_> = originals.iter().map(|data| inspect(&data.data_header, data.data_body.len() as u64).expect("is good")).collect();
    assert!(matches!(kinds[..], [Kind::Schema, Kind::Dictionary { .. }, Kind::Batch { rows: 3, compressed: false }]), "{kinds:?}");
    let mut random = StdRng::seed_from_u64(4);
    let mut refused = 0;
    for case in 0..20_000 {
        let data = &originals[case % originals.len()];
        let mut header = data.data_header.to_vec();
        for _ in 0..random.random_range(1..5) {
            let at = random.random_range(0..header.len());
            match random.random_range(0..4) {
                0 => header[at] ^= 1 << random.random_range(0..8),
                1 => header[at] = random.random(),
                2 => header[at..].iter_mut().take(8).for_each(|byte| *byte = random.random()),
                _ => header.truncate(at.max(1)),
            }
        }
        let body_len = if random.random_bool(0.9) { data.data_body.len() as u64 } else { random.random() };
        // Allowed or refused, but never a panic; whoever passes is checked against the schema too.
        refused += usize::from(schema.inspect(&header, body_len).is_err());
        let _ = inspect(&header, body_len);
        if case % originals.len() == 0 {
            let _ = StreamSchema::parse(header.into());
        }
    }
    assert!(refused > 5_000, "{refused} of 20,000");
}
