//! Reading by leases: whose, and what has come already.

use serde::{Deserialize, Serialize};

use super::GetCommand;
use crate::engine::{ConsumerId, LeaseId, LeasedOffset, Offset, PartitionId};
use crate::wire::error::WireError;

/// What a consumer has got of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GotCommand {
    /// The partition.
    pub partition: u32,
    /// By which lease.
    pub lease: u64,
    /// One past the last batch.
    pub next: u64,
}

/// Whose leases a `DoGet` reads by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeasedTarget {
    /// The consumer.
    pub consumer: ConsumerId,
    /// What it has got already.
    pub got: Vec<LeasedOffset>,
}

impl LeasedTarget {
    /// What a ticket says of it.
    pub(super) fn of(command: &GetCommand) -> Result<Option<Self>, WireError> {
        let invalid = |reason: &str| Err(WireError::Invalid { what: "ticket", reason: reason.to_owned() });
        let Some(consumer) = command.consumer_id else {
            return match command.got.is_empty() {
                true => Ok(None),
                false => invalid("got goes with consumer_id; give both, or neither"),
            };
        };
        if command.subscription.is_none() || !command.follow {
            return invalid("consumer_id goes with a subscription and with follow; give both");
        }
        let GetCommand { partitions, generation, start, end, batches_max, .. } = command;
        if partitions.is_some() || generation.is_some() || start.is_some() || end.is_some() || batches_max.is_some() {
            return invalid(
                "with consumer_id the consumer's leases say what is read; leave partitions, generation, start, end and batches_max out",
            );
        }
        let got = command.got.iter().map(|got| LeasedOffset {
            partition: PartitionId(got.partition),
            lease: LeaseId(got.lease),
            offset: Offset(got.next),
        });
        Ok(Some(LeasedTarget { consumer: ConsumerId(consumer), got: got.collect() }))
    }
}
