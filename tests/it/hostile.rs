//! Bytes that no honest client sends: each is refused with a code, and the server goes on, on the same
//! connection and on others.

use arrow_flight::FlightDescriptor;
use bowstring::server::Server;
use bowstring::wire::proto::StreamOptions;
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message as _;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use tonic::transport::Channel;

use super::server_support::{
    DO_GET, DO_PUT, act, channel, command, create, messages, numbers, path, put, raw, read, refused, send, soon, started, stats, stop,
};

/// What a hostile message may be refused with.
const REFUSALS: &[&str] = &["malformed_message", "message_too_large", "schema_mismatch", "invalid_argument", "batch_too_large"];

/// A message behind its gRPC prefix.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).expect("small"));
    frame.put_slice(message);
    frame.freeze()
}

/// The two messages of a good `DoPut`, framed.
fn good(stream: &str) -> Vec<Bytes> {
    messages(path(stream), vec![numbers(0..100)]).iter().map(|message| framed(&message.encode_to_vec())).collect()
}

/// A good client finds everything in order: on this connection and on a new one.
pub(crate) async fn goes_on(server: &Server, used: &Channel) {
    for channel in [used.clone(), channel(server.listen_addr()).await] {
        let stream = format!("good-{}", stats(&channel).await.streams.len());
        soon(put(&channel, path(&stream), vec![numbers(0..1000)])).await.expect("appends");
        assert_eq!(soon(read(&channel, json!({"stream": stream}))).await.expect("reads"), [numbers(0..1000)]);
        act(&channel, "delete_stream", stream).await.expect("deletes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mutated_messages_are_refused_or_stored_but_never_harm() {
    let (server, channel) = started().await;
    let originals = messages(path("s"), vec![numbers(0..100)]);
    let mut random = StdRng::seed_from_u64(1);
    let mut refusals = 0;
    for case in 0..1500 {
        let mut mutated = originals.clone();
        let victim = &mut mutated[case % 2];
        let mut bytes = match random.random_range(0..4) {
            0 => victim.data_body.to_vec(),
            _ => victim.data_header.to_vec(),
        };
        mutate(&mut bytes, &mut random);
        if random.random_bool(0.2) {
            victim.data_body = bytes.into();
        } else {
            victim.data_header = bytes.into();
        }
        if let Err(status) = soon(send(&channel, mutated)).await {
            let code = super::server_support::code(&status);
            assert!(REFUSALS.contains(&code.as_str()), "case {case}: {code}");
            refusals += 1;
        }
        if case % 100 == 99 {
            // What was stored passes through to a reader; whether it can be decoded is the reader's to see.
            assert_eq!(soon(raw(&channel, DO_GET, [framed(&ticket("s"))])).await, "ok");
            act(&channel, "delete_stream", "s").await.ok();
        }
    }
    assert!(refusals > 500, "{refusals} of 1500 were refused");
    goes_on(&server, &channel).await;
    stop(server).await;
}

fn ticket(stream: &str) -> Vec<u8> {
    arrow_flight::Ticket { ticket: json!({"stream": stream}).to_string().into() }.encode_to_vec()
}

/// Flips, cuts, doubles or overwrites some bytes.
fn mutate(bytes: &mut Vec<u8>, random: &mut StdRng) {
    for _ in 0..random.random_range(1..4) {
        if bytes.is_empty() {
            return;
        }
        let at = random.random_range(0..bytes.len());
        match random.random_range(0..5) {
            0 => bytes[at] ^= 1 << random.random_range(0..8),
            1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.random_range(0..5)],
            2 => bytes.truncate(at),
            3 => {
                let copy = bytes[at..].to_vec();
                bytes.extend_from_slice(&copy);
            }
            _ => bytes[at..].iter_mut().take(8).for_each(|byte| *byte = 0xff),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mutated_and_cut_frames_are_refused_however_they_are_chunked() {
    let (server, channel) = started().await;
    let whole: Vec<u8> = good("s").concat();
    let mut random = StdRng::seed_from_u64(2);
    for case in 0..500 {
        let mut bytes = whole.clone();
        mutate(&mut bytes, &mut random);
        let size = random.random_range(1..=bytes.len().max(1));
        let chunks: Vec<_> = bytes.chunks(size.max(bytes.len() / 20 + 1)).map(Bytes::copy_from_slice).collect();
        let code = soon(raw(&channel, DO_PUT, chunks)).await;
        assert!(code == "ok" || REFUSALS.contains(&code.as_str()), "case {case}: {code}");
        act(&channel, "delete_stream", "s").await.ok();
    }
    for end in (0..whole.len()).step_by(7).filter(|end| *end != 0) {
        let code = soon(raw(&channel, DO_PUT, [Bytes::copy_from_slice(&whole[..end])])).await;
        let at_a_boundary = end == good("s")[0].len();
        assert_eq!(code, if at_a_boundary { "ok" } else { "malformed_message" }, "{end} of {} bytes", whole.len());
    }
    goes_on(&server, &channel).await;
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn absurd_lengths_are_refused_before_anything_is_allocated() {
    let (server, channel) = started().await;
    let huge = |prefix: &[u8]| Bytes::copy_from_slice(prefix);
    let batch_of = |body_len: i64| {
        let mut message = messages(path("s"), vec![numbers(0..100)]).remove(1);
        let mut header = message.data_header.to_vec();
        let real = i64::try_from(message.data_body.len()).expect("small").to_le_bytes();
        let at = header.windows(8).position(|window| window == real).expect("says the body's length");
        header[at..at + 8].copy_from_slice(&body_len.to_le_bytes());
        message.data_header = header.into();
        framed(&message.encode_to_vec())
    };
    for (name, bytes, codes) in [
        ("a message of 4 GiB", vec![huge(&[0, 0xff, 0xff, 0xff, 0xff])], &["message_too_large"][..]),
        ("a compressed message", vec![huge(&[1, 0, 0, 0, 1, 0])], &["malformed_message"]),
        ("a descriptor of 2^63 bytes", vec![framed(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f])], &["malformed_message"]),
        ("a number without end", vec![framed(&[0xff; 30])], &["malformed_message"]),
        ("a header that is no field", vec![framed(&[0x10, 0x01])], &["malformed_message"]),
        ("a header of 17 MiB", vec![Bytes::from_static(&[0, 1, 16, 0, 6, 0x12, 0x80, 0x80, 0xc0, 0x08])], &["message_too_large"]),
        ("a body of -1 bytes", vec![good("s")[0].clone(), batch_of(-1)], &["malformed_message"]),
        ("a body of 2^62 bytes", vec![good("s")[0].clone(), batch_of(1 << 62)], &["malformed_message"]),
        ("no message", vec![], &["invalid_argument"]),
        ("an empty message", vec![framed(&[])], &["invalid_argument"]),
    ] {
        let code = soon(raw(&channel, DO_PUT, bytes)).await;
        assert!(codes.contains(&code.as_str()), "{name}: {code}");
    }
    let mut ticket_of_2_mib = vec![0, 0, 0x20, 0, 0];
    ticket_of_2_mib.resize(2 << 20, b'x');
    assert_eq!(soon(raw(&channel, DO_GET, [ticket_of_2_mib.into()])).await, "message_too_large");
    assert_eq!(soon(raw(&channel, DO_GET, [Bytes::from_static(&[0, 0, 0])])).await, "malformed_message");
    goes_on(&server, &channel).await;
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_paths_and_commands_that_cannot_be_used_are_refused() {
    let (server, channel) = started().await;
    let with_descriptor = async |descriptor: Vec<u8>| {
        let mut message = messages(path("s"), vec![numbers(0..1)]).remove(0);
        message.flight_descriptor = None;
        // Field 1 by hand: prost makes no descriptor that is not UTF-8.
        let mut bytes = vec![0x0a, u8::try_from(descriptor.len()).expect("short")];
        bytes.extend_from_slice(&descriptor);
        bytes.extend_from_slice(&message.encode_to_vec());
        soon(raw(&channel, DO_PUT, [framed(&bytes)])).await
    };
    // type = PATH, then a path component of 0xff 0xfe.
    assert_eq!(with_descriptor(vec![0x08, 1, 0x1a, 2, 0xff, 0xfe]).await, "malformed_message");
    assert_eq!(with_descriptor(vec![0x08, 1]).await, "invalid_argument", "a path without parts");
    assert_eq!(with_descriptor(vec![0x08, 0x63]).await, "invalid_argument", "an unknown type");
    for name in ["", &"x".repeat(257), "a\nb", "a\0b"] {
        assert_eq!(refused(put(&channel, path(name), vec![numbers(0..1)]).await), "invalid_argument", "{name:?}");
        assert_eq!(refused(read(&channel, json!({"stream": name})).await), "invalid_argument", "{name:?}");
    }
    for parts in [vec!["s", "x"], vec!["s", "-1"], vec!["s", "4294967296"], vec!["s", "0", "0"]] {
        let descriptor = FlightDescriptor::new_path(parts.iter().map(|part| (*part).to_owned()).collect());
        assert_eq!(refused(put(&channel, descriptor, vec![numbers(0..1)]).await), "invalid_argument", "{parts:?}");
    }
    let long = "x".repeat(100_000);
    for json in [
        "null".to_owned(),
        "[]".to_owned(),
        r#"{"stream": 7}"#.to_owned(),
        r#"{"stream": "s"} x"#.to_owned(),
        r#"{"stream": "s", "producer": "p"}"#.to_owned(),
        r#"{"stream": "s", "epoch": 1}"#.to_owned(),
        format!(r#"{{"{long}": 1}}"#),
        format!(r#"{{"stream": "{long}"}}"#),
        format!(r#"{{"stream": {}"#, "[".repeat(10_000)),
    ] {
        let shown = &json[..json.len().min(40)];
        assert_eq!(refused(put(&channel, command(&json), vec![numbers(0..1)]).await), "invalid_argument", "{shown}");
        assert_eq!(refused(read(&channel, &json).await), "invalid_argument", "{shown}");
    }
    create(&channel, "s", StreamOptions::default()).await;
    let reason = json!({"stream": "s", "reason": "ü".repeat(1 << 20)}).to_string();
    act(&channel, "fail", reason).await.expect("however long its reason");
    assert_eq!(
        refused(read(&channel, json!({"stream": "s", "follow": true})).await),
        "stream_failed",
        "no header is too long for its peer"
    );
    goes_on(&server, &channel).await;
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_call_of_ours_gets_a_code_too() {
    let (server, channel) = started().await;
    let control = |method: &str| format!("/bowstring.v1.Control/{method}");
    let too_large = {
        let mut message = vec![0, 0, 0x50, 0, 0];
        message.resize(5 + (0x50 << 16), 0);
        Bytes::from(message)
    };
    for (path, request, code) in [
        (control("NoSuch"), framed(&[]), "unimplemented"),
        ("/no.such.Service/Call".to_owned(), framed(&[]), "unimplemented"),
        (control("CreateStream"), framed(&[0xff, 0xff, 0xff]), "malformed_message"),
        (control("CreateStream"), framed(&[0x0a, 2, 0xff, 0xfe]), "malformed_message"),
        (control("CreateStream"), Bytes::from_static(&[0, 0, 0, 0, 9, 1]), "malformed_message"),
        (control("CreateStream"), Bytes::new(), "malformed_message"),
        (control("CreateStream"), too_large, "message_too_large"),
        (control("CreateStream"), framed(&[0x0a, 1, b's', 0x1a, 3, 1, 2, 3]), "malformed_message"),
        ("/arrow.flight.protocol.FlightService/DoAction".to_owned(), framed(&[0xff; 9]), "malformed_message"),
        ("/arrow.flight.protocol.FlightService/GetSchema".to_owned(), framed(&[]), "invalid_argument"),
    ] {
        assert_eq!(soon(raw(&channel, &path, [request])).await, code, "{path}");
    }
    goes_on(&server, &channel).await;
    stop(server).await;
}
