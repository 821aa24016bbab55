//! Which rows of two batches have the same keys.

use datafusion_common::arrow::array::{Array as _, ArrayRef, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use datafusion_common::arrow::compute::kernels::cmp::eq;
use datafusion_common::arrow::compute::{and, cast, is_not_null};
use datafusion_common::arrow::datatypes::DataType;
use datafusion_common::{DataFusionError, Result};

use super::Rows;
use super::groups::{hashes, same_bits, taken};
use super::time::Time;

/// Finds rows by their keys.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) keys: Vec<ArrayRef>,
    pub(super) times: Int64Array,
    /// Hashes of the keys and the rows that have them, in order.
    rows: Vec<(u64, u32)>,
}

impl Index {
    pub(super) fn new(batch: &RecordBatch, keys: &Rows, time: &Time) -> Result<Self> {
        let keys = keys_of(keys, batch)?;
        let hashed = hashes(&keys, batch.num_rows())?;
        let mut rows: Vec<(u64, u32)> = hashed.into_iter().zip(0..).collect();
        rows.sort_unstable();
        Ok(Self { keys, times: time.values(batch)?, rows })
    }

    /// The rows whose keys have a hash.
    pub(super) fn of(&self, hash: u64) -> impl Iterator<Item = u32> + '_ {
        let from = self.rows.partition_point(|(own, _)| *own < hash);
        self.rows[from..].iter().take_while(move |(own, _)| *own == hash).map(|(_, row)| *row)
    }

    /// Memory that it takes, in bytes, beside the rows themselves.
    pub(super) fn bytes(&self) -> usize {
        self.rows.capacity() * size_of::<(u64, u32)>()
    }
}

/// Rows of two batches.
pub(super) struct Pairs {
    pub(super) ours: Vec<u32>,
    pub(super) theirs: Vec<u32>,
}

impl Pairs {
    /// Those with the same keys: different ones may have the same hash.
    pub(super) fn of_same(self, ours: &[ArrayRef], theirs: &[ArrayRef]) -> Result<Self> {
        if self.ours.is_empty() {
            return Ok(self);
        }
        let (our_rows, their_rows) = (UInt32Array::from(self.ours), UInt32Array::from(self.theirs));
        let mut same = BooleanArray::from(vec![true; our_rows.len()]);
        for (ours, theirs) in ours.iter().zip(theirs) {
            let is_same = eq(&taken(ours, &our_rows)?, &taken(theirs, &their_rows)?).map_err(DataFusionError::from)?;
            same = and(&same, &is_same).map_err(DataFusionError::from)?;
        }
        let chosen =
            |rows: &UInt32Array| rows.values().iter().zip(same.values()).filter(|(_, is_same)| *is_same).map(|(row, _)| *row).collect();
        Ok(Self { ours: chosen(&our_rows), theirs: chosen(&their_rows) })
    }

    pub(super) fn rows(&self, rows: &[u32], batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let rows = UInt32Array::from_iter_values(rows.iter().copied());
        batch.columns().iter().map(|column| taken(column, &rows)).collect()
    }
}

/// The keys of rows; one that is a dictionary's value is the value.
pub(super) fn keys_of(keys: &Rows, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
    let keys = keys.evaluated(batch)?;
    let key = |key: &ArrayRef| Ok(same_bits(cast(key, &plain(key.data_type().clone())).map_err(DataFusionError::from)?));
    keys.columns().iter().map(key).collect()
}

/// What keys of a type are compared as.
pub(super) fn plain(data_type: DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, value) => plain(*value),
        DataType::Float16 => DataType::Float32,
        other => other,
    }
}

/// The rows that have all keys.
pub(super) fn known(keys: &[ArrayRef]) -> Result<BooleanArray> {
    let mut known = BooleanArray::from(vec![true; keys.first().map_or(0, |key| key.len())]);
    for key in keys {
        known = and(&known, &is_not_null(key).map_err(DataFusionError::from)?).map_err(DataFusionError::from)?;
    }
    Ok(known)
}
