//! What a subscription's query saves in bytes, and what answering costs beside passing batches on.

use std::error::Error;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use bowstring::client::{Client, ClientOptions, ConsumerOptions, ProducerOptions};
use bowstring::server::{Server, ServerConfig};
use bowstring::wire::proto::{CreateStreamRequest, StreamOptions};
use bytes::Bytes;

use crate::report::monotonic_ns;

/// Rounds; each has every case once, and the median counts.
const ROUNDS: usize = 5;
/// Rows of a batch.
const ROWS: i64 = 65_536;
/// Batches of the stream, some 450 MB.
const BATCHES: i64 = 64;

/// What is asked.
const CASES: &[(&str, Option<&str>)] = &[
    ("no query", None),
    ("all columns (`*`)", Some("SELECT * FROM clicks")),
    ("two numbers of five columns", Some("SELECT user, price FROM clicks")),
    ("a filter on a number, 1 in 100 rows", Some("SELECT user, page FROM clicks WHERE price < 10")),
    ("a filter on a number, half of the rows, all columns", Some("SELECT * FROM clicks WHERE price < 500")),
    ("a filter on a text (`LIKE`), 1 in 10 rows", Some("SELECT user, page FROM clicks WHERE page LIKE '/buy%'")),
    ("expressions", Some("SELECT user, price * 2 AS twice, upper(page) AS page FROM clicks WHERE price < 500")),
];

type Failed = Box<dyn Error>;

/// Prints a table.
pub(crate) fn run() -> Result<(), Failed> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(measure())
}

fn clicks(number: i64) -> Result<RecordBatch, Failed> {
    let rows = || number * ROWS..(number + 1) * ROWS;
    let text = |text: &dyn Fn(i64) -> String| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows().map(text))) };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("user", Arc::new(Int64Array::from_iter_values(rows()))),
        ("page", text(&|row| if row % 10 == 0 { format!("/buy/{}", row % 997) } else { format!("/page/{}", row % 997) })),
        ("price", Arc::new(Int64Array::from_iter_values(rows().map(|row| row * 7919 % 1000)))),
        ("agent", text(&|row| format!("Mozilla/5.0 (X11; Linux x86_64; rv:{}) Gecko/20100101 Firefox", row % 150))),
        ("at", Arc::new(Int64Array::from_iter_values(rows()))),
    ];
    Ok(RecordBatch::try_from_iter(columns)?)
}

/// What a case took.
#[derive(Debug, Clone, Copy)]
struct Taken {
    ns: u64,
    bytes: u64,
    rows: u64,
}

async fn measure() -> Result<(), Failed> {
    let config = ServerConfig { listen: ([127, 0, 0, 1], 0).into(), http: None, ..ServerConfig::default() };
    let server = Server::start(config).await?;
    let options = ClientOptions { local_socket: false, shared_memory: false, ..ClientOptions::default() };
    let client = Client::connect(&server.url(), options).await?;
    let options = StreamOptions { partitions: Some(1), max_buffered_batches: Some(1_000), ..StreamOptions::default() };
    let request = CreateStreamRequest { stream: "clicks".to_owned(), options: Some(options), ..CreateStreamRequest::default() };
    client.create_stream(request).await?;
    let mut producer = client.producer("clicks", ProducerOptions::default())?;
    for number in 0..BATCHES {
        producer.append(&clicks(number)?, None, Bytes::new()).await?;
    }
    producer.close().await?;
    client.complete_stream("clicks").await?;
    let appended = client.stats(Some("clicks")).await?.streams[0].appended_bytes;
    let mut taken: Vec<Vec<Taken>> = vec![Vec::new(); CASES.len()];
    for _ in 0..ROUNDS {
        for (index, ((_, query), taken)) in CASES.iter().zip(&mut taken).enumerate() {
            taken.push(read(&client, index, *query).await?);
        }
    }
    println!("{BATCHES} batches of {ROWS} rows, {} MB; one consumer by TCP, medians of {ROUNDS} rounds", appended / 1_000_000);
    println!("| asked | bytes sent, of the stream's | rows given | M rows/s of the stream | of no query |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    let medians: Vec<_> = taken.into_iter().map(median).collect();
    #[expect(clippy::cast_precision_loss, reason = "figures to be read")]
    for ((name, _), found) in CASES.iter().zip(&medians) {
        let speed = (BATCHES * ROWS) as f64 * 1e3 / found.ns as f64;
        let ratio = medians[0].ns as f64 / found.ns as f64;
        println!("| {name} | {:.3} | {} | {speed:.1} | {ratio:.2} |", found.bytes as f64 / appended as f64, found.rows);
    }
    Ok(())
}

/// Reads the whole stream by a subscription of the case's own, which acks nothing.
async fn read(client: &Client, index: usize, query: Option<&str>) -> Result<Taken, Failed> {
    let options = ConsumerOptions {
        subscription: Some(format!("case-{index}")),
        query: query.map(str::to_owned),
        consumer: Some(format!("case-{index}")),
        ..ConsumerOptions::default()
    };
    let before = client.stats(Some("clicks")).await?.streams[0].delivered_bytes;
    let start = monotonic_ns();
    let mut consumer = client.consumer("clicks", options).await?;
    let mut rows = 0;
    while let Some(delivered) = consumer.next(None).await? {
        rows += delivered.batch.num_rows() as u64;
    }
    let ns = monotonic_ns() - start;
    drop(consumer);
    let bytes = client.stats(Some("clicks")).await?.streams[0].delivered_bytes - before;
    Ok(Taken { ns, bytes, rows })
}

fn median(mut taken: Vec<Taken>) -> Taken {
    taken.sort_by_key(|taken| taken.ns);
    taken[taken.len() / 2]
}
