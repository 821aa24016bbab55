//! What the tests of durable streams share.

use std::path::{Path, PathBuf};

use bowstring::client::{Client, ConsumerOptions, Delivered, ProducerOptions};
use bytes::Bytes;

use super::client_support::{number, numbered, rest, soon};

/// Appends batches with these numbers, and returns once they are stored.
pub(crate) async fn append(client: &Client, stream: &str, numbers: std::ops::Range<i64>) {
    let mut producer = client.producer(stream, ProducerOptions::default()).expect("a producer");
    for number in numbers {
        soon(producer.append(&numbered(number, 10), None, Bytes::from(number.to_string()))).await.expect("room");
    }
    soon(producer.flush()).await.expect("stored");
}

/// All that is visible, without a subscription.
pub(crate) async fn read(client: &Client, stream: &str) -> Vec<Delivered> {
    let options = ConsumerOptions { follow: false, ..ConsumerOptions::default() };
    let mut consumer = client.consumer(stream, options).await.expect("is there");
    soon(rest(&mut consumer)).await.expect("is read")
}

/// Partition, offset and number of each, sorted.
pub(crate) fn offsets(delivered: &[Delivered]) -> Vec<(u32, u64, i64)> {
    let mut found: Vec<_> = delivered.iter().map(|one| (one.partition.0, one.offset.0, number(one))).collect();
    found.sort_unstable();
    found
}

/// The files in a folder and those below it, sorted.
pub(crate) fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        match entry.is_dir() {
            true => found.extend(files(&entry, extension)),
            false if entry.extension().is_some_and(|found| found == extension) => found.push(entry),
            false => {}
        }
    }
    found.sort();
    found
}
