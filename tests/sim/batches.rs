//! Batches that say who they are: a name goes along with each, and what is in it follows from the name.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use bowstring::client::Delivered;
use bytes::Bytes;

/// What is in the batch of that name.
pub(crate) fn batch(name: &str) -> RecordBatch {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    let hash = hasher.finish();
    // Mostly a few sectors; now and then some kilobytes.
    let rows = if hash.is_multiple_of(16) { 1_000 } else { 1 + hash % 150 };
    let values = (0..rows).map(|row| i64::from_le_bytes((hash ^ row).to_le_bytes()));
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
    RecordBatch::try_from_iter([("n", column)]).expect("one column")
}

pub(crate) fn user(name: &str) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

/// The name of a batch that came; an error if it is not what was sent under that name.
pub(crate) fn name_of(delivered: &Delivered) -> Result<String, String> {
    let name = String::from_utf8(delivered.user.to_vec()).map_err(|error| error.to_string())?;
    if delivered.batch == batch(&name) { Ok(name) } else { Err(format!("what came as {name} is not what was sent")) }
}
