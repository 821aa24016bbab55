//! What a principal keeps beside a noisy one, with and without a quota on it; and what a call costs once callers are asked who they are.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use bowstring::client::{Client, ClientOptions, ConsumerOptions, Error as ClientError, ProducerOptions, TokenSource};
use bowstring::server::{AuthConfig, Permissions, QuotaConfig, Server, ServerConfig, issue_token};
use bowstring::wire::secret::Secret;
use bytes::Bytes;
use tokio::task::JoinHandle;

use crate::report::monotonic_ns;

/// Rounds; each has every case once, and the median counts.
const ROUNDS: usize = 5;
/// How long a case is measured, after it has run for a quarter of that.
const SECONDS: f64 = 3.0;
/// What the noisy one may append in a second: little beside what the machine does.
const QUOTA: u64 = 16 << 20;
/// Connections on which the noisy one appends.
const NOISY_PRODUCERS: usize = 4;
/// Rows of a batch: 64 KiB.
const ROWS: i64 = 8_192;
/// What the quiet one is to keep.
const KEPT_LEAST: f64 = 0.9;
/// Calls of a round.
const CALLS: u64 = 2_000;

type Failed = Box<dyn Error>;

/// Prints two tables.
pub(crate) fn run() -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let folder = tempfile::tempdir()?;
        throughput(folder.path()).await?;
        calls(folder.path()).await
    })
}

/// What came through in a second: the quiet one's bytes, and the noisy one's.
#[derive(Debug, Clone, Copy, Default)]
struct Speeds {
    quiet: f64,
    noisy: f64,
}

/// A quiet principal's relay, from its producer to its consumer.
async fn throughput(folder: &Path) -> Result<(), Failed> {
    let mut found: [Vec<Speeds>; 3] = Default::default();
    let cases =
        [("alone", false, None), ("beside a noisy one with a quota", true, Some(QUOTA)), ("beside a noisy one without", true, None)];
    for _ in 0..ROUNDS {
        for ((_, is_noisy, quota), found) in cases.iter().zip(&mut found) {
            found.push(round(folder, *is_noisy, *quota).await?);
        }
    }
    let medians = found.map(|speeds| {
        let of = |get: fn(&Speeds) -> f64| median(speeds.iter().map(get).collect());
        Speeds { quiet: of(|speeds| speeds.quiet), noisy: of(|speeds| speeds.noisy) }
    });
    println!("| a quiet principal's relay | MB/s | of alone | the noisy one, MB/s |");
    println!("| --- | ---: | ---: | ---: |");
    for ((name, ..), speeds) in cases.iter().zip(medians) {
        println!("| {name} | {:.0} | {:.2} | {:.0} |", speeds.quiet / 1e6, speeds.quiet / medians[0].quiet, speeds.noisy / 1e6);
    }
    let kept = medians[1].quiet / medians[0].quiet;
    if kept < KEPT_LEAST {
        return Err(format!("beside a noisy one with a quota the quiet one kept {kept:.2}, which is to be {KEPT_LEAST} at least").into());
    }
    Ok(())
}

async fn round(folder: &Path, is_noisy: bool, quota: Option<u64>) -> Result<Speeds, Failed> {
    let (server, [quiet, noisy]) = serve(folder, quota).await?;
    let noise: Vec<_> = (0..if is_noisy { NOISY_PRODUCERS } else { 0 }).map(|_| tokio::spawn(flood(noisy.clone()))).collect();
    // What the noisy one appends is read, too: what bounds it is its quota, or the machine.
    let noise_read_bytes = Arc::new(AtomicU64::new(0));
    let noise_read = is_noisy.then(|| tokio::spawn(drain(noisy.clone(), "noise", noise_read_bytes.clone())));
    let client = quiet.connect().await?;
    let producing = tokio::spawn(append(client, "quiet"));
    let client = quiet.connect().await?;
    let options =
        ConsumerOptions { subscription: Some("all".to_owned()), stream_wait: Duration::from_secs(10), ..ConsumerOptions::default() };
    let mut consumer = client.consumer("quiet", options).await?;
    let (mut bytes, mut noise_before, mut begun) = (0, 0, monotonic_ns() + seconds(SECONDS / 4.0));
    let end = begun + seconds(SECONDS);
    loop {
        let Some(delivered) = consumer.next(None).await? else { return Err("the stream ended".into()) };
        consumer.acker().ack_one(&delivered.unacked())?;
        let now = monotonic_ns();
        if now < begun {
            continue;
        }
        if bytes == 0 {
            (begun, noise_before) = (now, noise_read_bytes.load(Relaxed));
        }
        bytes += delivered.bytes;
        if now >= end {
            break;
        }
    }
    let took = monotonic_ns() - begun;
    let noise_bytes = noise_read_bytes.load(Relaxed) - noise_before;
    if noise.iter().chain(&noise_read).chain([&producing]).any(JoinHandle::is_finished) {
        return Err("a producer or a consumer has ended before it was to".into());
    }
    noise.iter().chain(&noise_read).chain([&producing]).for_each(JoinHandle::abort);
    server.shutdown(Duration::ZERO).await;
    #[expect(clippy::cast_precision_loss, reason = "a report's figures")]
    let per_second = |bytes: u64| bytes as f64 / (took as f64 / 1e9);
    Ok(Speeds { quiet: per_second(bytes), noisy: per_second(noise_bytes) })
}

/// A control call, with nobody asked and with everybody asked.
async fn calls(folder: &Path) -> Result<(), Failed> {
    let mut found: [Vec<f64>; 2] = Default::default();
    let open = Server::start(config(folder, None, false)).await?;
    let (asking, [quiet, _]) = serve(folder, None).await?;
    let nobody = Caller { url: open.url(), token: TokenSource::None };
    let clients = [nobody.connect().await?, quiet.connect().await?];
    for _ in 0..ROUNDS {
        for (client, found) in clients.iter().zip(&mut found) {
            let begun = monotonic_ns();
            for _ in 0..CALLS {
                client.list_streams().await?;
            }
            #[expect(clippy::cast_precision_loss, reason = "a report's figures")]
            found.push((monotonic_ns() - begun) as f64 / CALLS as f64 / 1e3);
        }
    }
    let [open_us, asking_us] = found.map(median);
    println!();
    println!("| a control call over TCP | us | of without |");
    println!("| --- | ---: | ---: |");
    println!("| nobody is asked | {open_us:.1} | 1.00 |");
    println!("| with a token | {asking_us:.1} | {:.2} |", asking_us / open_us);
    open.shutdown(Duration::ZERO).await;
    asking.shutdown(Duration::ZERO).await;
    Ok(())
}

/// Who calls.
#[derive(Debug, Clone)]
struct Caller {
    url: String,
    token: TokenSource,
}

impl Caller {
    async fn connect(&self) -> Result<Client, ClientError> {
        Client::connect(&self.url, ClientOptions { token: self.token.clone(), ..ClientOptions::default() }).await
    }
}

/// A server that asks who calls, on which `noisy` may append so much in a second; and the quiet and the noisy caller.
async fn serve(folder: &Path, quota: Option<u64>) -> Result<(Server, [Caller; 2]), Failed> {
    let tokens = folder.join("tokens.json");
    drop(std::fs::remove_file(&tokens));
    let issue = |name: &str| -> Result<Secret, Failed> {
        #[expect(clippy::disallowed_methods, reason = "a token's times are the wall's clock's")]
        let now = std::time::SystemTime::now();
        Ok(issue_token(&tokens, name, Permissions::parse(["append:*", "read:*"])?, None, now)?.0)
    };
    let secrets = [issue("quiet")?, issue("noisy")?];
    let server = Server::start(config(folder, quota, true)).await?;
    let url = server.url();
    Ok((server, secrets.map(|secret| Caller { url: url.clone(), token: TokenSource::Fixed(secret) })))
}

fn config(folder: &Path, quota: Option<u64>, asks: bool) -> ServerConfig {
    let mut auth = AuthConfig { tokens: asks.then(|| folder.join("tokens.json")), ..AuthConfig::default() };
    if asks && quota.is_some() {
        auth.quotas.principals.insert("noisy".to_owned(), QuotaConfig { append_bytes_per_second: quota, ..QuotaConfig::default() });
    }
    let unix = bowstring::server::UnixSocket::Off;
    ServerConfig { listen: ([127, 0, 0, 1], 0).into(), http: None, unix, auth, ..ServerConfig::default() }
}

async fn flood(noisy: Caller) -> Result<(), ClientError> {
    append(noisy.connect().await?, "noise").await
}

/// Appends until it is ended.
async fn append(client: Client, stream: &str) -> Result<(), ClientError> {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..ROWS));
    let batch = RecordBatch::try_from_iter([("n", column)]).map_err(|error| ClientError::Encode { reason: error.to_string() })?;
    let mut producer = client.producer(stream, ProducerOptions::default())?;
    loop {
        producer.append(&batch, None, Bytes::new()).await?;
    }
}

/// Reads until it is ended.
async fn drain(caller: Caller, stream: &str, bytes: Arc<AtomicU64>) -> Result<(), ClientError> {
    let client = caller.connect().await?;
    let options =
        ConsumerOptions { subscription: Some("all".to_owned()), stream_wait: Duration::from_secs(10), ..ConsumerOptions::default() };
    let mut consumer = client.consumer(stream, options).await?;
    while let Some(delivered) = consumer.next(None).await? {
        consumer.acker().ack_one(&delivered.unacked())?;
        bytes.fetch_add(delivered.bytes, Relaxed);
    }
    Ok(())
}

fn seconds(seconds: f64) -> u64 {
    u64::try_from(Duration::from_secs_f64(seconds).as_nanos()).unwrap_or(u64::MAX)
}

fn median(mut found: Vec<f64>) -> f64 {
    found.sort_by(f64::total_cmp);
    found[found.len() / 2]
}
