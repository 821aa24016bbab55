//! A stream's schema has versions, and a change ends nobody's reading who did not ask for what is new.

mod changes;
mod dialects;
mod durable;
mod stock;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use bowstring::client::{Client, Consumer, ConsumerOptions, Delivered, Error, ProducerOptions};
use bowstring::wire::proto::{SchemaPolicy, StreamOptions};
use bytes::Bytes;

use super::client_support::{create, next, partitions, soon};

fn policy(policy: SchemaPolicy) -> StreamOptions {
    StreamOptions { schema_policy: policy.into(), ..partitions(1) }
}

async fn stream(client: &Client, of: SchemaPolicy) {
    create(client, "s", policy(of)).await;
}

/// A batch of nullable columns.
fn batch(columns: &[(&str, ArrayRef)]) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.iter().map(|(name, array)| (*name, array.clone(), true))).expect("columns")
}

fn ints(values: impl IntoIterator<Item = i32>) -> ArrayRef {
    Arc::new(Int32Array::from_iter_values(values))
}

fn longs(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

/// Appends by a producer of its own, and returns once all are stored.
async fn append(client: &Client, batches: &[RecordBatch]) {
    try_append(client, batches).await.expect("stored");
}

async fn try_append(client: &Client, batches: &[RecordBatch]) -> Result<(), Error> {
    let mut producer = client.producer("s", ProducerOptions::default()).expect("a producer");
    for batch in batches {
        soon(producer.append(batch, None, Bytes::new())).await?;
    }
    soon(producer.close()).await
}

async fn reader(client: &Client) -> Consumer {
    client.consumer("s", ConsumerOptions::default()).await.expect("the stream is there")
}

/// The next `count` batches.
async fn take(consumer: &mut Consumer, count: usize) -> Vec<Delivered> {
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        all.push(next(consumer).await);
    }
    all
}

/// Names and types of a batch's columns.
fn columns(batch: &RecordBatch) -> Vec<(String, DataType)> {
    batch.schema().fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect()
}

fn int(batch: &RecordBatch, name: &str) -> Vec<i32> {
    batch.column_by_name(name).expect("the column").as_primitive::<Int32Type>().values().to_vec()
}

fn long(batch: &RecordBatch, name: &str) -> Vec<i64> {
    batch.column_by_name(name).expect("the column").as_primitive::<Int64Type>().values().to_vec()
}

fn nulls(batch: &RecordBatch, name: &str) -> usize {
    batch.column_by_name(name).expect("the column").null_count()
}
