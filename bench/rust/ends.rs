//! Both ends of a relay with bowstring's Rust client.

use std::error::Error;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use bowstring::client::{Client, ClientOptions, ConsumerOptions, ProducerOptions};
use bytes::Bytes;
use clap::Args;

use crate::wait_for_go;

/// As in bench/load.py.
const COLUMNS: usize = 8;

/// One end.
#[derive(Debug, Args)]
pub(crate) struct End {
    /// The coordinator's URL.
    url: String,
    /// The stream; its subscription has the same name.
    stream: String,
    /// Rows of a batch.
    rows: i64,
    /// How many batches.
    batches: u64,
}

#[tokio::main]
pub(crate) async fn append(end: &End) -> Result<(), Box<dyn Error>> {
    let batch = batch(end.rows)?;
    let client = Client::connect(&end.url, ClientOptions::default()).await?;
    let mut producer = client.producer(&end.stream, ProducerOptions::default())?;
    wait_for_go()?;
    for _ in 0..end.batches {
        producer.append(&batch, None, Bytes::new()).await?;
    }
    Ok(producer.complete().await?)
}

#[tokio::main]
pub(crate) async fn read(end: &End) -> Result<(), Box<dyn Error>> {
    let client = Client::connect(&end.url, ClientOptions::default()).await?;
    let options = ConsumerOptions { subscription: Some(end.stream.clone()), ..ConsumerOptions::default() };
    let mut consumer = client.consumer(&end.stream, options).await?;
    wait_for_go()?;
    let mut rows = 0;
    while let Some(delivered) = consumer.next(None).await? {
        rows += delivered.batch.num_rows() as u64;
        consumer.ack(delivered.partition, delivered.offset.plus(1))?;
    }
    let expected = end.batches * end.rows.unsigned_abs();
    if rows != expected {
        return Err(format!("{rows} of {expected} rows came").into());
    }
    Ok(consumer.close().await?)
}

fn batch(rows: i64) -> Result<RecordBatch, Box<dyn Error>> {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
    Ok(RecordBatch::try_from_iter((0..COLUMNS).map(|number| (format!("c{number}"), column.clone())))?)
}
