//! The control calls of consumers that share a subscription by leases.

use std::sync::Arc;
use std::time::Duration;

use super::cell::{SignOfLife, StreamCell};
use super::control::{ControlService, LEASE_MAX};
use super::error::Error;
use super::sharing::terms;
use crate::engine::{
    Command, ConsumerId, ConsumerName, Holding, InFlight, LEASE_MIN, LeaseId, LeasedOffset, Offset, Outcome, PartitionId, StreamId,
    SubscriptionName,
};
use crate::wire::proto;

impl ControlService {
    /// A sign of life. Answers once the consumer holds something else than it knows, or after the wait that it asks for.
    pub(super) async fn keep_consumer(&self, request: &proto::KeepConsumerRequest) -> Result<proto::KeepConsumerResponse, Error> {
        self.coordinator().check_running()?;
        let cell = self.cell_of(&request.stream, request.stream_id)?;
        let sign = sign_of_life(request)?;
        let (subscription, consumer, lease) = (sign.subscription.clone(), sign.consumer, sign.lease);
        // Before the sign, so that nothing that changes since goes unnoticed.
        let watch = cell.watch_changes();
        cell.keep_consumer(sign)?;
        let mut kept = kept(&cell, &subscription, consumer)?;
        // A consumer whose sign lasts shorter than it waits would be lost while it waits.
        let wait = tokio::time::sleep(Duration::from_millis(request.wait_millis).min(lease / 2));
        tokio::pin!(wait);
        while kept.holdings == request.holdings && kept.is_stalled == request.is_stalled {
            tokio::select! {
                biased;
                () = watch.changed() => (),
                () = &mut wait => break,
                () = self.coordinator().shutdown().cancelled() => break,
            }
            kept = self::kept(&cell, &subscription, consumer)?;
        }
        Ok(kept)
    }

    pub(super) fn give_back(&self, request: &proto::GiveBackRequest) -> Result<proto::GiveBackResponse, Error> {
        let cell = self.cell_of(&request.stream, request.stream_id)?;
        let subscription = SubscriptionName::new(&request.subscription)?;
        cell.apply(Command::GiveBack { subscription, from: leased_offsets(&request.from) })?;
        Ok(proto::GiveBackResponse {})
    }

    pub(super) fn ack_leased(&self, request: &proto::AckRequest) -> Result<proto::AckResponse, Error> {
        let cell = self.cell_of(&request.stream, request.stream_id)?;
        let subscription = SubscriptionName::new(&request.subscription)?;
        let acks = leased_offsets(&request.leased);
        let outcome = cell.apply(Command::AckLeased { subscription: subscription.clone(), acks })?;
        self.acked(&cell, &subscription);
        match outcome {
            Outcome::Acked { lost } => Ok(proto::AckResponse { lost: lost.into_iter().map(leased_message).collect() }),
            other => Err(Error::unexpected(&other)),
        }
    }

    pub(super) fn cell_of(&self, stream: &str, stream_id: u64) -> Result<Arc<StreamCell>, Error> {
        let cell = self.cell(stream)?;
        cell.check_id((stream_id != 0).then_some(StreamId(stream_id)))?;
        Ok(cell)
    }
}

fn sign_of_life(request: &proto::KeepConsumerRequest) -> Result<SignOfLife, Error> {
    let lease = Duration::from_millis(request.lease_millis);
    if lease > LEASE_MAX {
        let reason = format!("{} ms is longer than an hour; use a shorter lease and renew it", request.lease_millis);
        return Err(Error::InvalidArgument { field: "lease_millis", reason });
    }
    if !lease.is_zero() && lease < LEASE_MIN {
        let reason = format!("{lease:?} is shorter than {LEASE_MIN:?}, and any delay would lose it; use a longer one, or 0 to say goodbye");
        return Err(Error::InvalidArgument { field: "lease_millis", reason });
    }
    let InFlight { batches, bytes } = InFlight::default();
    Ok(SignOfLife {
        subscription: SubscriptionName::new(&request.subscription)?,
        consumer: ConsumerId(request.consumer_id),
        name: ConsumerName::new(&request.consumer)?,
        lease,
        terms: terms(request)?,
        in_flight: InFlight { batches: request.in_flight_batches.unwrap_or(batches), bytes: request.in_flight_bytes.unwrap_or(bytes) },
    })
}

fn kept(cell: &StreamCell, subscription: &SubscriptionName, consumer: ConsumerId) -> Result<proto::KeepConsumerResponse, Error> {
    let (newest, holdings) = cell.holdings(subscription, consumer)?;
    let is_stalled = cell.is_stalled(subscription, consumer)?;
    Ok(proto::KeepConsumerResponse { holdings: holdings.into_iter().map(holding_message).collect(), newest_lease: newest.0, is_stalled })
}

fn holding_message(holding: Holding) -> proto::Holding {
    proto::Holding { partition: holding.partition.0, lease: holding.lease.0, is_wanted: holding.is_wanted }
}

fn leased_offsets(offsets: &[proto::LeasedOffset]) -> Vec<LeasedOffset> {
    let offset = |offset: &proto::LeasedOffset| LeasedOffset {
        partition: PartitionId(offset.partition),
        lease: LeaseId(offset.lease),
        offset: Offset(offset.offset),
    };
    offsets.iter().map(offset).collect()
}

fn leased_message(offset: LeasedOffset) -> proto::LeasedOffset {
    proto::LeasedOffset { partition: offset.partition.0, lease: offset.lease.0, offset: offset.offset.0 }
}
