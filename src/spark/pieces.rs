//! A task's batches in the pieces that are appended: each for one partition, none too large.

use arrow::array::RecordBatch;

use super::routing::Routing;
use super::sink::Target;
use crate::client::Error;
use crate::engine::PartitionId;

/// Cuts the batches of one task.
#[derive(Debug)]
pub(super) struct Pieces {
    routing: Routing,
    target: Target,
    task: u32,
    /// Batches so far.
    batches: u64,
}

impl Pieces {
    pub(super) fn new(routing: Routing, target: Target, task: u32) -> Self {
        Self { routing, target, task, batches: 0 }
    }

    /// Where the task's next batch goes; nothing for one without rows.
    ///
    /// # Errors
    /// `invalid_argument` for what cannot be routed.
    pub(super) fn of(&mut self, batch: &RecordBatch) -> Result<Vec<(PartitionId, RecordBatch)>, Error> {
        if batch.num_rows() == 0 {
            return Ok(Vec::new());
        }
        let parts = self.routing.split(batch, self.target.partitions, self.task, self.batches)?;
        self.batches += 1;
        let bytes_max = self.target.batch_bytes_max;
        Ok(parts.into_iter().flat_map(|(partition, part)| cut(&part, bytes_max).into_iter().map(move |piece| (partition, piece))).collect())
    }
}

/// The batch in slices of about `bytes_max` at most, by its average row; itself if it is small enough.
fn cut(batch: &RecordBatch, bytes_max: u64) -> Vec<RecordBatch> {
    // Where a size is not known the batch goes as it is: the coordinator says what is too large for it.
    let sizes = batch.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0));
    let (bytes, rows) = (sizes.sum::<usize>() as u64, batch.num_rows());
    if bytes <= bytes_max {
        return vec![batch.clone()];
    }
    let each = usize::try_from(u128::from(bytes_max) * rows as u128 / u128::from(bytes)).unwrap_or(rows).clamp(1, rows);
    (0..rows).step_by(each).map(|start| batch.slice(start, each.min(rows - start))).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::Int64Type;

    use super::*;

    fn pieces(routing: &str, batch_bytes_max: u64) -> Pieces {
        Pieces::new(routing.parse().expect("a routing"), Target { partitions: 3, batch_bytes_max }, 1)
    }

    fn batch(rows: i64) -> RecordBatch {
        RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from_iter_values(0..rows)) as _)]).expect("a batch")
    }

    #[test]
    fn a_large_batch_is_cut_and_its_rows_keep_their_order() {
        let found = pieces("spark", 80).of(&batch(25)).expect("whole batches");
        assert!(found.iter().all(|(partition, _)| *partition == PartitionId(1)));
        assert_eq!(found.iter().map(|(_, piece)| piece.num_rows()).collect::<Vec<_>>(), [10, 10, 5]);
        let rows = found.iter().flat_map(|(_, piece)| piece.column(0).as_primitive::<Int64Type>().values().to_vec());
        assert!(rows.eq(0..25));
    }

    #[test]
    fn only_batches_with_rows_count_for_those_that_go_in_turn() {
        let mut pieces = pieces("round_robin", 1 << 20);
        let mut next = |rows| pieces.of(&batch(rows)).expect("whole batches").first().map(|(partition, _)| partition.0);
        assert_eq!([next(1), next(0), next(2), next(3)], [Some(1), None, Some(2), Some(0)]);
    }
}
