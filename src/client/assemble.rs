//! What was decided about sizes is carried out: batches that go together become one, and a batch to be cut becomes its parts.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow_schema::ArrowError;

use super::Error;
use super::compact::compacted;
use super::decode::caught;
use super::plain::{SmallBatch, join};
use super::ready::{Content, Origin, Ready, Slice};

/// What a batch of the queue comes to, in order: itself but for those that are put together or cut. One that cannot be decoded
/// comes behind those before it and is the last.
pub(super) fn assembled(ready: Ready) -> Vec<Ready> {
    let Ready { origin, content } = ready;
    match content {
        Content::Run(run) => put_together(run),
        Content::Cut { content, parts } => match content.decoded(&origin) {
            Ok((batch, is_plain)) => cut(&origin, batch, is_plain, parts),
            Err(error) => vec![Ready { origin, content: Content::Undecodable(error) }],
        },
        content => vec![Ready { origin, content }],
    }
}

/// One batch of them all; each by itself where Arrow cannot put them together, for instance because the keys of their
/// dictionary have too few bits for all values.
fn put_together(run: Vec<Ready>) -> Vec<Ready> {
    if let Some(joined) = joined_small(&run) {
        return vec![joined];
    }
    let (mut origins, mut batches, mut is_plain) = (Vec::new(), Vec::new(), true);
    let mut bad = None;
    for Ready { origin, content } in run {
        match content.decoded(&origin) {
            Ok((batch, plain)) => {
                is_plain &= plain;
                origins.push(origin);
                batches.push(batch);
            }
            Err(error) => {
                bad = Some(Ready { origin, content: Content::Undecodable(error) });
                break;
            }
        }
    }
    let whole = match batches.as_slice() {
        [] | [_] => None,
        [first, ..] => checked(|| concat_batches(&first.schema(), &batches)).ok().zip(Origin::of_all(&origins)),
    };
    let good: Vec<_> = match whole {
        Some((batch, origin)) => vec![Ready { origin, content: Content::Decoded { batch, is_plain } }],
        None => {
            let each = origins.into_iter().zip(batches);
            each.map(|(origin, batch)| Ready { origin, content: Content::Decoded { batch, is_plain } }).collect()
        }
    };
    good.into_iter().chain(bad).collect()
}

/// Small plain ones, at a fraction of what decoding each costs.
fn joined_small(run: &[Ready]) -> Option<Ready> {
    let small = |ready: &Ready| match &ready.content {
        Content::Small(small) => Some(small.clone()),
        _ => None,
    };
    let batches: Vec<SmallBatch> = run.iter().map(small).collect::<Option<_>>()?;
    let schema = &batches.first()?.schema;
    if !batches.iter().all(|batch| Arc::ptr_eq(schema, &batch.schema)) {
        return None;
    }
    // One schema is one version's, so that their shape is one, too.
    let shape = &batches.first()?.shape;
    let origins: Vec<_> = run.iter().map(|ready| ready.origin.clone()).collect();
    let origin = Origin::of_all(&origins)?;
    let batch = origin.shaped(shape, checked(|| join(&batches)).ok()?).ok()?;
    Some(Ready { origin, content: Content::Decoded { batch, is_plain: shape.is_as_it_is() } })
}

/// So many parts, whose rows differ by one at most. Copied when they are handed out: the batch stays in memory until the last.
fn cut(origin: &Origin, batch: RecordBatch, is_plain: bool, parts: u64) -> Vec<Ready> {
    let rows = batch.num_rows() as u64;
    let start = |index: u64| u64::try_from(u128::from(rows) * u128::from(index) / u128::from(parts)).unwrap_or(rows);
    let batch = Arc::new(batch);
    let part = |index| {
        let slice = Slice { rows: start(index)..start(index + 1), of: rows };
        Ready { origin: origin.part(slice), content: Content::Slice { batch: batch.clone(), is_plain } }
    };
    (0..parts).map(part).collect()
}

/// The rows of a slice, in memory of their own.
pub(super) fn sliced(batch: &RecordBatch, origin: &Origin) -> Result<RecordBatch, Error> {
    let rows = origin.slice.as_ref().map_or(0..batch.num_rows(), Slice::range);
    checked(|| compacted(batch, rows)).map_err(|reason| origin.malformed(reason))
}

/// Arrow's panics are caught.
pub(super) fn checked(make: impl FnOnce() -> Result<RecordBatch, ArrowError>) -> Result<RecordBatch, String> {
    caught(AssertUnwindSafe(|| make().map_err(|error| error.to_string())))
}
