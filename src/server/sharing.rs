//! Shared subscriptions on the wire: how they are shared, what becomes of leases, and what is seen of them.

use std::sync::Arc;
use std::time::Duration;

use super::cell::StreamCell;
use super::control::ControlService;
use super::error::Error;
use crate::engine::{
    ACK_WITHIN_MAX, ACK_WITHIN_MIN, Command, ConsumerId, LeaseId, LeaseUpdate, MAX_DELIVERIES, Outcome, Share, ShareTerms, ShareView,
    SharingRules, StreamName, SubscriptionMode, SubscriptionName, TakenShare,
};
use crate::wire::keys::is_key_type;
use crate::wire::proto;

/// Longest text that says why rows could not be done; what is longer is cut.
const REASON_BYTES_MAX: usize = 1024;
/// Most columns that a key may have.
const KEYS_MAX: usize = 64;

impl ControlService {
    pub(super) fn update_leases(&self, request: &proto::UpdateLeasesRequest) -> Result<proto::UpdateLeasesResponse, Error> {
        let cell = self.cell_of(&request.stream, request.stream_id)?;
        let subscription = SubscriptionName::new(&request.subscription)?;
        let updates = request.updates.iter().map(lease_update).collect::<Result<_, _>>()?;
        let consumer = |id: u64| (id != 0).then_some(ConsumerId(id));
        let (resumes, pauses) = (consumer(request.resumes), consumer(request.pauses));
        let outcome = cell.apply(Command::UpdateLeases { subscription: subscription.clone(), updates, resumes, pauses })?;
        self.acked(&cell, &subscription);
        match outcome {
            Outcome::Updated { lost } => Ok(proto::UpdateLeasesResponse { lost: lost.into_iter().map(|lease| lease.0).collect() }),
            other => Err(Error::unexpected(&other)),
        }
    }
}

fn lease_update(update: &proto::LeaseUpdate) -> Result<LeaseUpdate, Error> {
    let (lease, time) = (LeaseId(update.lease), Duration::from_millis(update.millis));
    let checked = |field: &'static str, range: std::ops::RangeInclusive<Duration>| {
        if range.contains(&time) { Ok(time) } else { Err(out_of(field, time, &range)) }
    };
    match update.verb() {
        proto::LeaseVerb::Ack => Ok(LeaseUpdate::Ack(lease)),
        proto::LeaseVerb::Release => Ok(LeaseUpdate::Release(lease)),
        proto::LeaseVerb::Renew => Ok(LeaseUpdate::Renew { lease, lasts: checked("lasts", ACK_WITHIN_MIN..=ACK_WITHIN_MAX)? }),
        proto::LeaseVerb::Nack => {
            let delay = checked("delay", Duration::ZERO..=ACK_WITHIN_MAX)?;
            Ok(LeaseUpdate::Nack { lease, delay, reason: reason(&update.reason) })
        }
        proto::LeaseVerb::Unspecified => {
            let reason = "it does not say what becomes of the lease; use ack, nack, renew or release".to_owned();
            Err(Error::InvalidArgument { field: "updates", reason })
        }
    }
}

/// Why rows could not be done, as it is kept.
pub(super) fn reason(text: &str) -> Arc<str> {
    text[..text.floor_char_boundary(REASON_BYTES_MAX)].into()
}

fn out_of(field: &'static str, asked: Duration, range: &std::ops::RangeInclusive<Duration>) -> Error {
    let text = humantime::format_duration;
    let reason = format!("{} is not within {} and {}; choose a time in that range", text(asked), text(*range.start()), text(*range.end()));
    Error::InvalidArgument { field, reason }
}

/// On which terms a consumer shares.
pub(super) fn terms(request: &proto::KeepConsumerRequest) -> Result<ShareTerms, Error> {
    let ShareTerms { ack_within, max_rows } = ShareTerms::default();
    let asked = Duration::from_millis(request.ack_within_millis);
    let range = ACK_WITHIN_MIN..=ACK_WITHIN_MAX;
    if !asked.is_zero() && !range.contains(&asked) {
        return Err(out_of("ack_within_millis", asked, &range));
    }
    if request.max_rows == Some(0) {
        let reason = "0 rows are nothing to work on; ask for 1 at least, or for none to get whole batches".to_owned();
        return Err(Error::InvalidArgument { field: "max_rows", reason });
    }
    Ok(ShareTerms { ack_within: if asked.is_zero() { ack_within } else { asked }, max_rows: request.max_rows.unwrap_or(max_rows) })
}

/// How a new subscription of a stream is to be shared.
pub(super) fn sharing(
    cell: &StreamCell,
    asked: Option<&proto::Sharing>,
    mode: Option<SubscriptionMode>,
) -> Result<Option<SharingRules>, Error> {
    let Some(asked) = asked else { return Ok(None) };
    if mode != Some(SubscriptionMode::Shared) {
        let reason = "only a shared subscription has rules of sharing; ask for mode shared, or leave them out".to_owned();
        return Err(Error::InvalidArgument { field: "sharing", reason });
    }
    if asked.keys.len() > KEYS_MAX {
        let reason = format!("{} columns are more than the {KEYS_MAX} that a key may have; choose fewer", asked.keys.len());
        return Err(Error::InvalidArgument { field: "sharing.keys", reason });
    }
    if let Some(schema) = cell.schema() {
        let fields = schema.arrow().fields();
        if let Some(missing) = asked.keys.iter().find(|key| fields.find(key).is_none()) {
            let known = fields.iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ");
            let reason = format!("there is no column {missing:?}; the stream has {known}");
            return Err(Error::InvalidArgument { field: "sharing.keys", reason });
        }
        let of_type = |key: &&String| fields.find(key).filter(|(_, field)| !is_key_type(field.data_type()));
        if let Some((_, field)) = asked.keys.iter().find_map(|key| of_type(&key)) {
            let reason = format!("column {:?} is of type {}, which makes no key; use another one", field.name(), field.data_type());
            return Err(Error::InvalidArgument { field: "sharing.keys", reason });
        }
    }
    let stream = cell.name();
    let dead_letters = match asked.dead_letters.as_str() {
        "" => StreamName::new(&format!("{stream}.dead-letters"))?,
        name => StreamName::new(name)?,
    };
    if dead_letters == *stream {
        let reason = format!("{dead_letters} is the stream itself, whose dead letters would come again for ever; name another one");
        return Err(Error::InvalidArgument { field: "sharing.dead_letters", reason });
    }
    Ok(Some(SharingRules {
        max_deliveries: asked.max_deliveries.unwrap_or(MAX_DELIVERIES),
        bisect: asked.bisect,
        dead_letters,
        keys: asked.keys.iter().map(|key| key.as_str().into()).collect(),
    }))
}

pub(super) fn sharing_message(rules: &SharingRules) -> proto::Sharing {
    proto::Sharing {
        max_deliveries: Some(rules.max_deliveries),
        bisect: rules.bisect,
        dead_letters: rules.dead_letters.to_string(),
        keys: rules.keys.iter().map(ToString::to_string).collect(),
    }
}

pub(super) fn shares_message(view: &ShareView) -> proto::SharesDescription {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let (oldest, since) = view.oldest.unwrap_or_default();
    proto::SharesDescription {
        given: view.given.0,
        leased: view.leased,
        oldest_consumer_id: oldest.0,
        oldest_micros: micros(since),
        waiting: view.waiting,
        dying: view.dying,
        dying_micros: micros(view.dying_for),
    }
}

pub(super) fn share_message(taken: &TakenShare) -> proto::LeasedShare {
    let (start, end, lanes) = match taken.share {
        Share::Rows { start, end } => (start, end, 0),
        Share::Lanes(mask) => (0, 0, mask),
    };
    proto::LeasedShare { lease: taken.lease.0, start, end, lanes, delivery: taken.delivery }
}
