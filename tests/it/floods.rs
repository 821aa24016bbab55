//! Peers that send too much, too little or too slowly, and what that costs: memory and CPU of the coordinator's process are
//! asserted, and a client that behaves goes on meanwhile. All of it is bounded in number and time.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use bowstring::client::{Client, ClientOptions, ProducerOptions};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::cli::coordinator::Coordinator;
use super::client_support::{PATIENCE, number, numbered, subscribed};
use super::server_support::until;

const MIB: u64 = 1 << 20;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
/// No attack goes on for longer.
const ATTACK_TIME: Duration = Duration::from_secs(10);
/// Of connections that keep silent; the tests' own, so that they need not wait for a minute.
const DEADLINES: [&str; 4] = ["--greeting-timeout", "1s", "--first-call-timeout", "2s"];

fn serve(flags: &[&str]) -> Coordinator {
    Coordinator::start_with(&[&["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--unix", "off"], &DEADLINES[..], flags].concat(), &[])
}

/// What a process has used so far: resident bytes, CPU time.
fn used(pid: u32) -> (u64, Duration) {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).expect("is alive");
    let pages: u64 = statm.split(' ').nth(1).expect("a field").parse().expect("a number");
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("is alive");
    let after_name = stat.rsplit(") ").next().expect("fields");
    let ticks: u64 = after_name.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum();
    let millis = ticks * 1000 / rustix::param::clock_ticks_per_second();
    (pages * rustix::param::page_size() as u64, Duration::from_millis(millis))
}

/// Runs an attack beside a client that appends and reads; what the attack may cost at most is asserted.
async fn withstands<T>(name: &str, coordinator: &Coordinator, (bytes_max, cpu_max): (u64, Duration), attack: impl Future<Output = T>) -> T {
    let options = ClientOptions { local_socket: false, ..ClientOptions::default() };
    let client = Client::connect(&coordinator.url(), options).await.expect("is there");
    let stream = format!("beside {name}").replace(' ', "-");
    let mut producer = client.producer(&stream, ProducerOptions::default()).expect("a producer");
    producer.append(&numbered(0, 10), None, Bytes::new()).await.expect("room");
    producer.flush().await.expect("is acked");
    let mut consumer = subscribed(&client, &stream, "s").await;
    let ended = Arc::<AtomicBool>::default();
    let behaving = tokio::spawn({
        let ended = ended.clone();
        async move {
            let (mut rounds, mut slowest) = (0, Duration::ZERO);
            while !ended.load(Relaxed) || rounds < 3 {
                let start = Instant::now();
                let got = timeout(PATIENCE, consumer.next(None)).await.expect("is read in time").expect("reads").expect("has not ended");
                assert_eq!(number(&got), rounds);
                consumer.ack(got.partition, got.ack_offset()).expect("is its own");
                rounds += 1;
                producer.append(&numbered(rounds, 10), None, Bytes::new()).await.expect("room");
                timeout(PATIENCE, producer.flush()).await.expect("is acked in time").expect("goes on");
                slowest = slowest.max(start.elapsed());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            (rounds, slowest)
        }
    });
    let before = used(coordinator.pid());
    let result = timeout(PATIENCE * 2, attack).await.expect("is bounded in time");
    let after = used(coordinator.pid());
    ended.store(true, Relaxed);
    let (rounds, slowest) = behaving.await.expect("the client goes on");
    let (bytes, cpu) = (after.0.saturating_sub(before.0), after.1 - before.1);
    println!("{name}: {} KiB, {cpu:?} of CPU; {rounds} rounds beside it, the slowest took {slowest:?}", bytes / 1024);
    assert!(bytes <= bytes_max, "{name}: {bytes} bytes");
    assert!(cpu <= cpu_max, "{name}: {cpu:?} of CPU");
    assert!(slowest < Duration::from_secs(20), "{name}: {slowest:?}");
    result
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("is short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// HPACK: a POST to a method of the control service or of Flight, all literals without a table.
fn headers(path: &str) -> Vec<u8> {
    let short = |text: &str| [&[u8::try_from(text.len()).expect("is short")], text.as_bytes()].concat();
    let mut block = vec![0x83, 0x86, 0x04];
    block.extend(short(path));
    block.push(0x01);
    block.extend(short("h"));
    block.extend([0x0f, 0x10]);
    block.extend(short("application/grpc"));
    block
}

/// A connection that has said who it is.
async fn opened(address: &str) -> TcpStream {
    let mut tcp = TcpStream::connect(address).await.expect("listens");
    tcp.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.expect("sends");
    tcp
}

/// Sends chunks until there are none, the coordinator has closed the connection, or the time is over; nothing is read. How many
/// were sent.
async fn flood(tcp: &mut TcpStream, chunks: impl Iterator<Item = Vec<u8>>) -> usize {
    let mut sent = 0;
    let sending = async {
        for chunk in chunks {
            if tcp.write_all(&chunk).await.is_err() {
                return;
            }
            sent += 1;
        }
    };
    let _ = timeout(ATTACK_TIME, sending).await;
    sent
}

/// Whether the coordinator closes a connection while nothing more is sent.
async fn is_closed(tcp: &mut TcpStream) -> bool {
    let mut bytes = vec![0; 64 << 10];
    let closed = async { while tcp.read(&mut bytes).await.is_ok_and(|read| read > 0) {} };
    timeout(ATTACK_TIME, closed).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_say_too_little_or_too_slowly_are_closed_in_time() {
    const EACH: usize = 40;
    let coordinator = serve(&[]);
    let http = coordinator.http.clone().expect("is on");
    let attack = async {
        let begun = [&frame(SETTINGS, 0, 0, &[])[..], &frame(HEADERS, 0, 1, &headers("/bowstring.v1.Control/GetStats"))].concat();
        let drop_by_drop = [PREFACE, &begun].concat();
        let cases: [(&str, &str, &[u8], usize); 5] = [
            ("half-open", &coordinator.listen, b"", 0),
            ("a preface byte by byte", &coordinator.listen, PREFACE, 0),
            ("headers byte by byte", &coordinator.listen, &drop_by_drop, PREFACE.len()),
            ("headers that never end", &coordinator.listen, &drop_by_drop, drop_by_drop.len()),
            ("a request byte by byte", &http, b"GET /metrics HTTP/1.1\r\nhost: h\r\nx-slow: loris and more of it", 0),
        ];
        for (what, address, text, at_once) in cases {
            let attackers = (0..EACH).map(|_| async {
                let (mut reader, mut writer) = TcpStream::connect(address).await.expect("listens").into_split();
                let _ = writer.write_all(&text[..at_once]).await;
                let dripping = async {
                    for byte in &text[at_once..] {
                        if writer.write_all(&[*byte]).await.is_err() {
                            break;
                        }
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    std::future::pending::<()>().await;
                };
                let mut bytes = [0; 1024];
                let closed = async { while reader.read(&mut bytes).await.is_ok_and(|read| read > 0) {} };
                tokio::select! {
                    () = dripping => unreachable!("it never ends"),
                    () = closed => true,
                    () = tokio::time::sleep(ATTACK_TIME) => false,
                }
            });
            let closed = futures::future::join_all(attackers).await;
            assert!(closed.iter().all(|closed| *closed), "{what}: {} of {EACH}", closed.iter().filter(|closed| **closed).count());
        }
    };
    withstands("slow loris", &coordinator, (32 * MIB, Duration::from_secs(10)), attack).await;
    // Those of the HTTP port are closed by hyper itself.
    let silent = coordinator.metric("bowstring_connections_refused_total{reason=\"silent\"}");
    assert_eq!(silent, Some(4.0 * EACH as f64));
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_reset_at_once_end_their_connection() {
    let coordinator = serve(&[]);
    let attack = async {
        let mut tcp = opened(&coordinator.listen).await;
        let block = headers("/arrow.flight.protocol.FlightService/DoPut");
        let reset = |stream| [frame(HEADERS, END_HEADERS, stream, &block), frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat();
        let sent = flood(&mut tcp, (0..100_000).map(|index| reset(2 * index + 1))).await;
        (sent, is_closed(&mut tcp).await)
    };
    let (sent, closed) = withstands("rapid reset", &coordinator, (48 * MIB, Duration::from_secs(5)), attack).await;
    assert!(closed, "{sent} resets were sent and taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_without_an_end_end_their_connection() {
    let coordinator = serve(&[]);
    let attack = async {
        let mut tcp = opened(&coordinator.listen).await;
        tcp.write_all(&frame(HEADERS, 0, 1, &headers("/x"))).await.expect("sends");
        // 64 MiB of fields that nobody needs, each literal and new.
        let field = [&[0x00, 0x01, b'x', 0x7e][..], &[b'y'; 126]].concat();
        let block = field.repeat(120);
        let sent = flood(&mut tcp, (0..4_096).map(|_| frame(CONTINUATION, 0, 1, &block))).await;
        (sent, is_closed(&mut tcp).await)
    };
    let (sent, closed) = withstands("CONTINUATION flood", &coordinator, (32 * MIB, Duration::from_secs(10)), attack).await;
    assert!(closed && sent < 4_096, "{sent} frames were taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_pings_and_settings_cost_no_memory() {
    for (name, one) in [("PING flood", frame(PING, 0, 0, &[7; 8])), ("SETTINGS flood", frame(SETTINGS, 0, 0, &[]))] {
        let coordinator = serve(&[]);
        let attack = async {
            let mut tcp = opened(&coordinator.listen).await;
            // Of 400,000 frames no answer is read.
            flood(&mut tcp, (0..400).map(|_| one.repeat(1_000))).await
        };
        let sent = withstands(name, &coordinator, (32 * MIB, Duration::from_secs(10)), attack).await;
        assert!(sent > 0, "{name} was none");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_one_connection_are_bounded_in_number_and_memory() {
    const CALLS_MAX: f64 = 4_096.0;
    let coordinator = serve(&[]);
    let attack = async {
        let mut tcp = opened(&coordinator.listen).await;
        let block = headers("/arrow.flight.protocol.FlightService/DoPut");
        let sent = flood(&mut tcp, (0..20_000).map(|index| frame(HEADERS, END_HEADERS, 2 * index + 1, &block))).await;
        // Alive, or closed for what it does: both are bounded.
        let _ = timeout(Duration::from_secs(2), is_closed(&mut tcp)).await;
        sent
    };
    let sent = withstands("20,000 calls", &coordinator, (128 * MIB, Duration::from_secs(5)), attack).await;
    assert!(f64::from(u32::try_from(sent).expect("is small")) > CALLS_MAX, "{sent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_descriptors_the_coordinator_waits_without_spinning_and_goes_on_after() {
    // Of this process, which has the other ends.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).expect("up to what it may have");
    let binary = env!("CARGO_BIN_EXE_bowstring");
    let serving = format!("ulimit -n 128; exec '{binary}' serve --listen 127.0.0.1:0 --http off --unix off --greeting-timeout 4s");
    let mut command = Command::new("sh");
    command.args(["-c", &serving]).stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
    let coordinator = Coordinator::spawn(command);
    let attack = async {
        let silent = futures::future::join_all((0..1_000).map(|_| TcpStream::connect(&coordinator.listen))).await;
        let silent: Vec<_> = silent.into_iter().flatten().collect();
        // It has no descriptor left, for longer than it would take to spin away more than is allowed.
        let open = std::fs::read_dir(format!("/proc/{}/fd", coordinator.pid())).expect("is alive").count();
        assert!(open >= 100 && silent.len() >= 900, "{open} files, {} connections", silent.len());
        tokio::time::sleep(Duration::from_secs(3)).await;
    };
    withstands("no descriptors", &coordinator, (32 * MIB, Duration::from_millis(2_500)), attack).await;
    let options = ClientOptions { connect_timeout: PATIENCE, local_socket: false, ..ClientOptions::default() };
    let client = Client::connect(&coordinator.url(), options).await.expect("there is room again");
    until("it serves", async || client.stats(None).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_with_too_many_connections_is_refused_more_and_one_that_calls_keeps_what_it_has() {
    let coordinator = serve(&["--connections-per-peer-max", "8"]);
    let attack = async {
        let all = futures::future::join_all((0..40).map(|_| TcpStream::connect(&coordinator.listen))).await;
        let mut refused = 0;
        for mut tcp in all.into_iter().flatten() {
            // Of those that were let in the deadline has not passed.
            let read = timeout(Duration::from_millis(100), tcp.read_u8()).await;
            refused += usize::from(read.is_ok());
        }
        refused
    };
    let refused = withstands("one address", &coordinator, (32 * MIB, Duration::from_secs(5)), attack).await;
    assert!(refused >= 32, "{refused} of 40");
    assert!(coordinator.metric("bowstring_connections_refused_total{reason=\"peer_limit\"}").expect("is shown") >= 32.0);
}
