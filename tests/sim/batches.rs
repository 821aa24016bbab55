//! Batches that say who they are: a name goes along with each, and what is in it follows from the name.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int8Array, Int64Array, RecordBatch};
use arrow::datatypes::{Int8Type, Int64Type};
use bowstring::client::Delivered;
use bytes::Bytes;

/// Keys that rows have.
const KEYS: u8 = 16;

/// What is in the batch of that name.
pub(crate) fn batch(name: &str) -> RecordBatch {
    let hash = hash_of(name);
    let values: Vec<_> = (0..rows(name)).map(|row| i64::from_le_bytes((hash ^ row).to_le_bytes())).collect();
    let keys: ArrayRef = Arc::new(Int8Array::from_iter_values(values.iter().map(|value| key(*value))));
    let values: ArrayRef = Arc::new(Int64Array::from(values));
    RecordBatch::try_from_iter([("n", values), ("key", keys)]).expect("two columns")
}

/// How many rows the batch of that name has.
pub(crate) fn rows(name: &str) -> u64 {
    let hash = hash_of(name);
    // Mostly a few sectors; now and then some kilobytes.
    if hash.is_multiple_of(16) { 1_000 } else { 1 + hash % 150 }
}

/// A row that nobody can do, if it has any.
pub(crate) fn bad_row(name: &str) -> Option<u64> {
    let hash = hash_of(name) >> 8;
    hash.is_multiple_of(3).then(|| (hash >> 8) % rows(name))
}

/// Which rows of the batch of that name these are, and their keys as a mask; an error if they are not.
pub(crate) fn rows_of(found: &RecordBatch, name: &str) -> Result<(Vec<u64>, u16), String> {
    let (hash, count) = (hash_of(name), rows(name));
    let column = |name: &str| found.column_by_name(name).ok_or_else(|| format!("what came as {name} has no column {name}"));
    let values = column("n")?.as_primitive_opt::<Int64Type>().ok_or("n is no Int64")?;
    let keys = column("key")?.as_primitive_opt::<Int8Type>().ok_or("key is no Int8")?;
    let rows: Vec<_> = values.values().iter().map(|value| hash ^ u64::from_le_bytes(value.to_le_bytes())).collect();
    let is_so = values.null_count() + keys.null_count() == 0
        && rows.iter().all(|row| *row < count)
        && rows.windows(2).all(|pair| pair[0] < pair[1])
        && values.values().iter().zip(keys.values()).all(|(value, found)| key(*value) == *found);
    let mask = keys.values().iter().fold(0, |mask, key| mask | 1 << (key % 16));
    if is_so { Ok((rows, mask)) } else { Err(format!("what came as rows of {name} is not what was sent")) }
}

fn hash_of(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

fn key(value: i64) -> i8 {
    i8::try_from(value.rem_euclid(KEYS.into())).expect("few keys")
}

pub(crate) fn user(name: &str) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

/// The name of a batch that came; an error if it is not what was sent under that name.
pub(crate) fn name_of(delivered: &Delivered) -> Result<String, String> {
    let name = String::from_utf8(delivered.user.to_vec()).map_err(|error| error.to_string())?;
    if delivered.batch == batch(&name) { Ok(name) } else { Err(format!("what came as {name} is not what was sent")) }
}
