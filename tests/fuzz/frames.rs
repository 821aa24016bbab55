//! What comes before Arrow: gRPC frames, the protobuf in their metadata, words on a link, and HTTP/2's authority.

use std::path::Path;

use bowstring::server::fuzzing::mend_authority;
use bowstring::shared::Frame;
use bowstring::wire::frame::{FrameReader, FrameWriter, ProtoReader, Small};
use bowstring::wire::ipc::Body;
use bowstring::wire::metadata::{AppendMetadata, AppendResult, BatchMetadata};
use bowstring::wire::proto::CreateStreamRequest;
use bytes::Bytes;
use rand::Rng;
use rand::rngs::StdRng;

use crate::corpus::Input;
use crate::engine::{Verdict, within};

const MESSAGE_BYTES_MAX: u64 = 1 << 20;

pub(crate) fn seeds() -> Vec<Input> {
    let written = |messages: &[(usize, usize, usize, usize)]| {
        let mut writer = FrameWriter::new();
        for (descriptor, header, metadata, body) in messages {
            let bytes = |len: usize| -> Vec<u8> { (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect() };
            writer.push(&bytes(*descriptor), &bytes(*header), &bytes(*metadata), &Body::from(Bytes::from(bytes(*body))));
        }
        writer.flush();
        vec![std::iter::from_fn(|| writer.next_chunk()).flatten().collect()]
    };
    vec![
        written(&[(10, 200, 0, 0), (0, 100, 20, 800), (0, 100, 20, 800)]),
        written(&[(0, 3, 3, 3)]),
        written(&[(0, 17_000, 0, 40_000), (0, 0, 0, 0), (5, 0, 0, 20_000)]),
        // The body first, and a field of a newer version.
        vec![[&[0, 0, 0, 0, 17, 0xc2, 0x3e, 4][..], b"body", &[0x12, 2], b"hd", &[0xba, 0x3e, 2], b"xx"].concat()],
    ]
}

pub(crate) fn run(input: &Input, random: &mut StdRng) -> Verdict {
    let bytes = Bytes::from(input.concat());
    // Pieces are held as they came, and what is taken out of them beside them.
    let bound = (256 << 10) + 6 * bytes.len() as u64;
    let small = if random.random() { Small::Copied } else { Small::Shared };
    let sizes: Vec<usize> = (0..4).map(|_| [1, 5, 300, 20_000, 1 << 20][random.random_range(0..5)]).collect();
    let whole = within(bound, "reading frames", || read(&bytes, &[usize::MAX], small, false));
    let cut = within(bound, "reading frames in pieces", || read(&bytes, &sizes, small, random.random()));
    assert!(cut == whole, "cut in {sizes:?}: {cut:?} and not {whole:?}");
    within(bound, "reading a call", || {
        let mut reader = ProtoReader::<CreateStreamRequest>::new(MESSAGE_BYTES_MAX);
        reader.push(bytes.clone());
        while let Ok(Some(_)) = reader.next() {}
    });
    if whole.2 && !whole.0.is_empty() { Verdict::Accepted } else { Verdict::Refused }
}

/// What was read of each message, how many bytes of bodies, and whether all was in order.
type Read = (Vec<[usize; 4]>, Vec<u8>, bool);

fn read(bytes: &Bytes, sizes: &[usize], small: Small, by_pieces: bool) -> Read {
    let (mut reader, mut messages, mut bodies) = (FrameReader::new(MESSAGE_BYTES_MAX, small), Vec::new(), Vec::new());
    let mut left = bytes.clone();
    let mut is_open = false;
    for size in sizes.iter().cycle() {
        if left.is_empty() {
            break;
        }
        reader.push(left.split_to((*size).min(left.len())));
        loop {
            if !is_open {
                match reader.head() {
                    Ok(Some(head)) => {
                        assert!(head.body_len <= MESSAGE_BYTES_MAX);
                        let body_len = usize::try_from(head.body_len).unwrap();
                        messages.push([head.descriptor.len(), head.header.len(), head.metadata.len(), body_len]);
                        is_open = true;
                    }
                    Ok(None) => break,
                    Err(_) => return (messages, bodies, false),
                }
            }
            let before = bodies.len();
            let is_whole = if by_pieces {
                reader.body_pieces(|piece| bodies.extend_from_slice(piece)).unwrap()
            } else {
                reader.body().unwrap().inspect(|body| bodies.extend_from_slice(&body.contiguous())).is_some()
            };
            if !is_whole {
                break;
            }
            assert!(by_pieces || messages.last().unwrap()[3] == bodies.len() - before);
            is_open = false;
        }
    }
    if is_open {
        // Of a body that is not whole the pieces may be there or not.
        let whole: usize = messages[..messages.len() - 1].iter().map(|message| message[3]).sum();
        bodies.truncate(whole);
    }
    let is_in_order = !is_open && reader.is_between_messages();
    (messages, bodies, is_in_order)
}

pub(crate) fn metadata_seeds() -> Vec<Input> {
    let append = AppendMetadata { partition: Some(3), ordinal: 1 << 40, user: Bytes::from_static(b"user"), shared: None };
    let result = AppendResult { next_ordinal: 7, receipt: Some(bowstring::wire::proto::Receipt::default()), waits: 1 };
    let batch = BatchMetadata { partition: 1, offset: 9, user: Bytes::from_static(b"of the producer"), ..BatchMetadata::default() };
    let frames = [
        Frame::Hello { version: 1 },
        Frame::Welcome { link: 7, server: 1 << 100 },
        Frame::Offer { arena: 1 },
        Frame::Free { arena: 1, start: 64 },
    ];
    let mut seeds = vec![vec![append.to_bytes().to_vec()], vec![result.to_bytes().to_vec()], vec![batch.to_bytes().to_vec()]];
    seeds.extend(frames.map(|frame| vec![frame.to_bytes().to_vec()]));
    seeds
}

pub(crate) fn run_metadata(input: &Input, _: &mut StdRng) -> Verdict {
    let bytes = Bytes::from(input.concat());
    let bound = (64 << 10) + 64 * bytes.len() as u64;
    let read = within(bound, "reading metadata", || {
        let append = AppendMetadata::from_bytes(&bytes);
        let (result, batch) = (AppendResult::from_bytes(&bytes), BatchMetadata::from_bytes(&bytes));
        if let Ok(append) = &append {
            assert_eq!(AppendMetadata::from_bytes(&append.to_bytes()).as_ref(), Ok(append), "it is read as it is written");
        }
        append.is_ok() || result.is_ok() || batch.is_ok()
    });
    let frame = bytes.first_chunk().and_then(Frame::from_bytes);
    if let Some(frame) = frame {
        assert_eq!(Frame::from_bytes(&frame.to_bytes()), Some(frame));
    }
    if read || frame.is_some() { Verdict::Accepted } else { Verdict::Refused }
}

const SOCKET: &str = "/run/user/1000/b o.sock";

pub(crate) fn authority_seeds() -> Vec<Input> {
    let authority = b"run%2Fuser%2F1000%2Fb%20o.sock";
    let frame =
        |kind: u8, payload: &[u8]| [&u32::try_from(payload.len()).unwrap().to_be_bytes()[1..], &[kind, 0, 0, 0, 0, 1], payload].concat();
    let headers = [&b"\x86@\x0a:authority"[..], &[u8::try_from(authority.len()).unwrap()], authority, b"@\x05other\x04a%2F"].concat();
    let (first, second) = headers.split_at(20);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    vec![
        vec![preface.clone(), frame(4, b""), frame(1, &headers), frame(0, &headers)],
        vec![preface, frame(4, b"settings"), frame(1, first), frame(9, second), frame(0, b"data%"), frame(1, &headers)],
    ]
}

pub(crate) fn run_authority(input: &Input, random: &mut StdRng) -> Verdict {
    let came = input.concat();
    let mended = |sizes: &[usize]| {
        let mut bytes = came.clone();
        mend_authority(Path::new(SOCKET), &mut bytes, sizes);
        bytes
    };
    let whole = mended(&[usize::MAX]);
    let sizes: Vec<usize> = (0..3).map(|_| random.random_range(1..40)).collect();
    assert!(mended(&sizes) == whole, "cut in {sizes:?} it is mended otherwise");
    let changed = came.iter().zip(&whole).filter(|(came, goes)| came != goes);
    let changes = changed.inspect(|(came, goes)| assert_eq!((**came, **goes), (b'%', b'.'))).count();
    if changes > 0 { Verdict::Accepted } else { Verdict::Refused }
}
