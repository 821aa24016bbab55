//! The rows of a batch that a consumer of a shared subscription is given.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::RecordBatch;

use super::Error;
use super::decode::caught;
use super::project::Shape;
use super::ready::{Content, Origin, Ready, Slice};
use crate::engine::{LANES, LeaseId};
use crate::wire::keys;
use crate::wire::proto::LeasedShare;

/// What the caller is handed for each share, in order. Rows that are only part of a batch are copied when they are handed out; those of
/// keys, here.
///
/// # Errors
/// The rows are not in the batch, it has no such keys, or does not fit the schema that the consumer reads.
pub(super) fn shared(
    batch: &RecordBatch,
    origin: &Origin,
    shares: &[LeasedShare],
    (keys, shape, is_plain): (&[Arc<str>], &Shape, bool),
) -> Result<Vec<Ready>, Error> {
    let rows = batch.num_rows() as u64;
    let is_plain = is_plain && shape.is_as_it_is();
    let mut whole = None;
    let mut ready = Vec::with_capacity(shares.len());
    for (index, share) in shares.iter().enumerate() {
        let of = Origin {
            lease: Some(LeaseId(share.lease)),
            delivery: share.delivery,
            // The first one tells of the gap.
            skipped: if index == 0 { origin.skipped } else { 0 },
            ..origin.clone()
        };
        if share.lanes != 0 {
            let made = caught(AssertUnwindSafe(|| keys::rows_in(batch, keys, share.lanes).map_err(|error| error.to_string())));
            let batch = of.shaped(shape, made.map_err(|reason| of.malformed(reason))?)?;
            let bytes = of.bytes.saturating_mul(u64::from(share.lanes.count_ones())) / u64::from(LANES);
            ready.push(Ready { origin: Origin { bytes, ..of }, content: Content::Decoded { batch, is_plain } });
            continue;
        }
        if share.start > share.end || share.end > rows {
            let reason = format!("rows {} to {} of it were leased, and it has {rows}", share.start, share.end);
            return Err(of.malformed(reason));
        }
        let batch = match &whole {
            Some(batch) => Arc::clone(batch),
            None => whole.insert(Arc::new(of.shaped(shape, batch.clone())?)).clone(),
        };
        ready.push(match share.start == 0 && share.end == rows {
            true => Ready { origin: of, content: Content::Decoded { batch: Arc::unwrap_or_clone(batch), is_plain } },
            false => {
                let origin = of.part(Slice { rows: share.start..share.end, of: rows });
                Ready { origin: Origin { skipped: of.skipped, ..origin }, content: Content::Slice { batch, is_plain } }
            }
        });
    }
    Ok(ready)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use arrow::array::Int64Array;
    use bytes::Bytes;

    use super::super::in_flight::Unacked;
    use super::super::membership::SharingTerms;
    use super::super::options::Offsets;
    use super::super::prefetch::{Prefetch, Taken};
    use super::super::shares::Shares;
    use super::super::updates::{Updates, Verb};
    use super::super::watched::Watched;
    use super::*;
    use crate::engine::{Offset, PartitionId, Timestamp};

    fn origin() -> Origin {
        Origin {
            partition: PartitionId(0),
            offset: Offset(7),
            epoch: None,
            appended_at: Timestamp(0),
            user: Bytes::new(),
            bytes: 640,
            lease: None,
            skipped: 3,
            first_offset: Offset(7),
            slice: None,
            producer: None,
            epoch_end: false,
            delivery: 1,
            traceparent: None,
        }
    }

    fn share(lease: u64, start: u64, end: u64, lanes: u64) -> LeasedShare {
        LeasedShare { lease, start, end, lanes, delivery: 2 }
    }

    #[test]
    fn each_share_is_its_own_rows_in_memory_of_their_own() {
        let batch = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from_iter_values(0..64)) as _)]).expect("one column");
        let keys: [Arc<str>; 1] = ["n".into()];
        let made = |shares: &[LeasedShare]| shared(&batch, &origin(), shares, (&keys, &Shape::AsTheyAre, true));
        let delivered = made(&[share(1, 0, 16, 0), share(2, 16, 64, 0)]).expect("they are there");
        let delivered: Vec<_> = delivered
            .into_iter()
            .map(|ready| {
                let unacked: Unacked = ready.origin.unacked(None);
                ready.deliver(unacked).expect("it is whole")
            })
            .collect();
        assert_eq!(delivered.iter().map(|part| part.batch.num_rows()).collect::<Vec<_>>(), [16, 48]);
        assert_eq!(
            delivered.iter().map(|part| (part.lease, part.delivery, part.skipped, part.bytes)).collect::<Vec<_>>(),
            [(Some(LeaseId(1)), 2, 3, 160), (Some(LeaseId(2)), 2, 0, 480)]
        );
        assert!(delivered[0].batch.get_array_memory_size() < 1_024, "no view of all of it");
        assert_eq!((delivered[0].ack_offset(), delivered[1].ack_offset()), (Offset(7), Offset(8)));
        let [low, high] = [0xffff_ffff, 0xffff_ffff_0000_0000].map(|lanes| made(&[share(1, 0, 0, lanes)]).expect("it has keys"));
        let rows = |ready: &[Ready]| ready.iter().map(Ready::rows).sum::<u64>();
        assert_eq!(rows(&low) + rows(&high), 64);
        assert!(made(&[share(1, 60, 65, 0)]).is_err(), "it has 64");
    }

    #[test]
    fn of_a_batch_that_has_none_of_its_keys_the_caller_gets_nothing_and_it_is_acked() {
        let batch = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![1])) as _)]).expect("one column");
        let keys: Arc<[Arc<str>]> = Arc::new(["n".into()]);
        let lane = keys::lanes(&batch, &keys).expect("it has keys")[0];
        let updates = Arc::new(Watched::new(Updates::new(8)));
        let mut prefetch = Prefetch::new((8, u64::MAX), Offsets::new(), None, None);
        let terms = SharingTerms { ack_within: Duration::from_secs(1), max_rows: None, keys: keys.clone() };
        prefetch.shares = Some(Shares::new(&terms, updates.clone()));
        let mut put = |origin: &Origin, lease: u64, lanes: u64| {
            let ready = shared(&batch, origin, &[share(lease, 0, 0, lanes)], (&keys, &Shape::AsTheyAre, true)).expect("it has keys");
            prefetch.put(ready);
            prefetch.take_ready(&mut Taken::default())
        };
        assert!(!put(&Origin { skipped: 0, ..origin() }, 1, !(1 << lane)));
        let (said, _) = updates.with(Updates::take).expect("something is said");
        assert_eq!(said.iter().map(|update| (update.lease, &update.verb)).collect::<Vec<_>>(), [(LeaseId(1), &Verb::Ack)]);
        assert!(put(&origin(), 2, !(1 << lane)), "it tells of a gap");
        assert!(put(&Origin { skipped: 0, ..origin() }, 3, 1 << lane));
    }
}
