//! Quotas: how much one principal may have of what all share, so that the others still get theirs.

mod bucket;
mod memory;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use self::bucket::Bucket;
pub(in crate::server) use self::memory::Held;
use self::memory::Memory;
use super::principal::{Principal, Refusal};
use crate::server::error::Error;

/// Usages are swept when they have doubled, from this number on: not all of them at each call.
const SWEEP_AT_MIN: usize = 1024;
/// Slower than this is a refusal that does not say so.
const BYTES_PER_SECOND_MIN: u64 = 1 << 10;
const BUFFERED_BYTES_MIN: u64 = 1 << 20;
/// Those without a quota of their own, in metrics: names that come in tokens are not bounded.
pub(super) const OTHERS: &str = "other";

/// What a principal may have. What is not set has no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuotaConfig {
    /// Bytes per second that it appends, of all its calls together; who sends more is slowed. At least 1024.
    pub append_bytes_per_second: Option<u64>,
    /// Bytes per second that it reads, of all its calls together; who reads more is slowed. At least 1024.
    pub read_bytes_per_second: Option<u64>,
    /// Bytes of batches that it has appended and the coordinator has in memory, of all streams together; who appends more waits
    /// until some are acked. At least 1 MiB. What durable streams have on disk does not count, nor does the spool.
    pub buffered_bytes: Option<u64>,
    /// Streams that it has made since the coordinator was started and that are not deleted. A further one is refused.
    pub streams: Option<u64>,
    /// Connections to the data and control plane on which it has called and that are open. Calls on a further one are refused. At
    /// least 1.
    pub connections: Option<u64>,
}

/// What principals may have: one quota for each of them, and others for those that have a name here. In a file, the first is
/// `[auth.quotas]` itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuotasConfig {
    /// See [`QuotaConfig::append_bytes_per_second`].
    pub append_bytes_per_second: Option<u64>,
    /// See [`QuotaConfig::read_bytes_per_second`].
    pub read_bytes_per_second: Option<u64>,
    /// See [`QuotaConfig::buffered_bytes`].
    pub buffered_bytes: Option<u64>,
    /// See [`QuotaConfig::streams`].
    pub streams: Option<u64>,
    /// See [`QuotaConfig::connections`].
    pub connections: Option<u64>,
    /// By a principal's name what it may have instead: nothing of the quota of all others counts for it.
    pub principals: BTreeMap<String, QuotaConfig>,
}

impl QuotasConfig {
    /// Whether anybody has a limit.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.all().any(|(_, quota)| quota != QuotaConfig::default())
    }

    /// The quota of those that have no other.
    fn of_others(&self) -> QuotaConfig {
        let Self { append_bytes_per_second, read_bytes_per_second, buffered_bytes, streams, connections, principals: _ } = *self;
        QuotaConfig { append_bytes_per_second, read_bytes_per_second, buffered_bytes, streams, connections }
    }

    fn all(&self) -> impl Iterator<Item = (&str, QuotaConfig)> {
        let named = self.principals.iter().map(|(name, quota)| (name.as_str(), quota.clone()));
        std::iter::once(("*", self.of_others())).chain(named)
    }

    /// A number that cannot be used: its field, and what it must be.
    pub(in crate::server) fn fault(&self) -> Option<(&'static str, u64, &'static str)> {
        let fault = |(_, quota): (&str, QuotaConfig)| {
            let rates = [
                ("auth.quotas.append_bytes_per_second", quota.append_bytes_per_second),
                ("auth.quotas.read_bytes_per_second", quota.read_bytes_per_second),
            ];
            let slow = rates.into_iter().find_map(|(field, rate)| Some((field, rate.filter(|rate| *rate < BYTES_PER_SECOND_MIN)?)));
            let small = quota.buffered_bytes.filter(|bytes| *bytes < BUFFERED_BYTES_MIN);
            match (slow, small, quota.connections) {
                (Some((field, rate)), ..) => Some((field, rate, "at least 1024 bytes per second")),
                (None, Some(bytes), _) => Some(("auth.quotas.buffered_bytes", bytes, "at least 1 MiB")),
                (None, None, Some(0)) => Some(("auth.quotas.connections", 0, "at least 1: nobody calls without one")),
                (None, None, _) => None,
            }
        };
        self.all().find_map(fault)
    }
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Counted {
    Streams,
    Connections,
}

/// What all principals have that have a quota.
#[derive(Debug)]
pub(super) struct Quotas {
    config: QuotasConfig,
    usages: Mutex<Usages>,
    /// By the names that the configuration has, and [`OTHERS`].
    slowed: BTreeMap<String, Arc<Slowed>>,
}

#[derive(Debug, Default)]
struct Usages {
    by_name: HashMap<Arc<str>, Arc<Usage>>,
    /// So many are worth a look at which of them are unused.
    sweep_at: usize,
}

impl Quotas {
    pub(super) fn new(config: QuotasConfig) -> Self {
        let names = config.principals.keys().cloned().chain([OTHERS.to_owned()]);
        let slowed = names.map(|name| (name, Arc::default())).collect();
        Self { config, usages: Mutex::default(), slowed }
    }

    /// What a principal has; none if it has no limit.
    pub(super) fn usage(&self, principal: &Principal) -> Option<Arc<Usage>> {
        if !principal.has_quota() {
            return None;
        }
        let of_its_own = self.config.principals.get(&*principal.name);
        let quota = of_its_own.cloned().unwrap_or_else(|| self.config.of_others());
        if quota == QuotaConfig::default() {
            return None;
        }
        let Usages { by_name, sweep_at } = &mut *self.usages.lock();
        if let Some(usage) = by_name.get(&principal.name) {
            return Some(usage.clone());
        }
        if by_name.len() >= *sweep_at {
            by_name.retain(|_, usage| Arc::strong_count(usage) > 1 || usage.is_used());
            *sweep_at = SWEEP_AT_MIN.max(2 * by_name.len());
        }
        let shown_as = if self.config.principals.contains_key(&*principal.name) { &*principal.name } else { OTHERS };
        let slowed = self.slowed.get(shown_as).cloned().unwrap_or_default();
        let usage = Arc::new(Usage::new(principal.name.clone(), quota, slowed));
        by_name.insert(principal.name.clone(), usage.clone());
        Some(usage)
    }

    /// How long calls were slowed, by the names of principals that the configuration has, and together for all others.
    pub(super) fn slowed(&self) -> impl Iterator<Item = (&str, Flow, Duration)> {
        let flows = self.slowed.iter().flat_map(|(name, slowed)| Flow::ALL.map(|flow| (name, flow, slowed)));
        flows.map(|(name, flow, slowed)| (name.as_str(), flow, slowed.total(flow)))
    }
}

/// What a call may wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Flow {
    Append,
    Read,
    Buffer,
}

impl Flow {
    pub(in crate::server) const ALL: [Self; 3] = [Self::Append, Self::Read, Self::Buffer];

    pub(in crate::server) fn as_str(self) -> &'static str {
        match self {
            Self::Append => "append_bytes_per_second",
            Self::Read => "read_bytes_per_second",
            Self::Buffer => "buffered_bytes",
        }
    }
}

/// How long calls were slowed, in microseconds.
#[derive(Debug, Default)]
struct Slowed {
    append: AtomicU64,
    read: AtomicU64,
    buffer: AtomicU64,
}

impl Slowed {
    fn of(&self, flow: Flow) -> &AtomicU64 {
        match flow {
            Flow::Append => &self.append,
            Flow::Read => &self.read,
            Flow::Buffer => &self.buffer,
        }
    }

    fn total(&self, flow: Flow) -> Duration {
        Duration::from_micros(self.of(flow).load(Ordering::Relaxed))
    }
}

/// Counts a wait when it ends, however it does.
struct Wait<'a> {
    began: Instant,
    total: &'a AtomicU64,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let waited = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.total.fetch_add(waited, Ordering::Relaxed);
    }
}

/// What one principal has, of all its calls and connections together.
#[derive(Debug)]
pub(in crate::server) struct Usage {
    principal: Arc<str>,
    quota: QuotaConfig,
    append: Option<Bucket>,
    read: Option<Bucket>,
    memory: Option<Memory>,
    streams: AtomicU64,
    connections: AtomicU64,
    slowed: Arc<Slowed>,
}

impl Usage {
    fn new(principal: Arc<str>, quota: QuotaConfig, slowed: Arc<Slowed>) -> Self {
        Self {
            principal,
            append: quota.append_bytes_per_second.map(Bucket::new),
            read: quota.read_bytes_per_second.map(Bucket::new),
            memory: quota.buffered_bytes.map(Memory::new),
            quota,
            streams: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            slowed,
        }
    }

    fn bucket(&self, flow: Flow) -> Option<&Bucket> {
        match flow {
            Flow::Append => self.append.as_ref(),
            Flow::Read => self.read.as_ref(),
            Flow::Buffer => None,
        }
    }

    /// Whether there is something that whoever calls next is to know.
    fn is_used(&self) -> bool {
        Flow::ALL.into_iter().any(|flow| self.must_wait(flow)) || self.memory.as_ref().is_some_and(|memory| !memory.is_free())
    }

    /// Whether what has passed is more than the rate.
    pub(in crate::server) fn must_wait(&self, flow: Flow) -> bool {
        self.bucket(flow).is_some_and(Bucket::owes)
    }

    /// Waits until what has passed before is no more than the rate, and takes these bytes.
    ///
    /// # Cancel safety
    /// Nothing is taken.
    pub(in crate::server) async fn pass(&self, flow: Flow, bytes: u64) {
        if let Some(bucket) = self.bucket(flow) {
            let _wait = Wait { began: Instant::now(), total: self.slowed.of(flow) };
            bucket.pass(bytes).await;
        }
    }

    /// Takes what has passed already.
    pub(in crate::server) fn charge(&self, flow: Flow, bytes: u64) {
        if let Some(bucket) = self.bucket(flow) {
            bucket.charge(bytes);
        }
    }

    /// Waits until a batch's bytes have room among those that are in memory; none where there is no limit.
    ///
    /// # Cancel safety
    /// Nothing is taken.
    ///
    /// # Errors
    /// `batch_too_large` for one that never has room.
    pub(in crate::server) async fn hold(&self, bytes: u64) -> Result<Option<Held>, Error> {
        let Some(memory) = &self.memory else { return Ok(None) };
        if bytes > memory.bytes() {
            return Err(Error::QuotaTooSmall { bytes, principal: self.principal.clone(), limit: memory.bytes() });
        }
        let _wait = Wait { began: Instant::now(), total: self.slowed.of(Flow::Buffer) };
        memory.take(bytes).await.map(Some)
    }

    /// Whose batch had no room for so long.
    pub(in crate::server) fn buffer_full(&self, bytes: u64, waited: Duration) -> Error {
        let limit = self.quota.buffered_bytes.unwrap_or(u64::MAX);
        Error::QuotaFull { bytes, principal: self.principal.clone(), limit, waited }
    }

    /// Whose append was not let in for so long.
    pub(in crate::server) fn append_timeout(&self, bytes: u64, waited: Duration) -> Error {
        let limit = self.quota.append_bytes_per_second.unwrap_or(u64::MAX);
        Error::QuotaTimeout { bytes, principal: self.principal.clone(), limit, waited }
    }

    fn counter(&self, what: Counted) -> (&AtomicU64, Option<u64>) {
        match what {
            Counted::Streams => (&self.streams, self.quota.streams),
            Counted::Connections => (&self.connections, self.quota.connections),
        }
    }

    /// Takes one more of what is counted, until it is dropped.
    ///
    /// # Errors
    /// `too_many`.
    pub(in crate::server) fn take(self: &Arc<Self>, what: Counted) -> Result<Slot, Refusal> {
        let (taken, limit) = self.counter(what);
        let more = |taken: u64| limit.is_none_or(|limit| taken < limit).then_some(taken + 1);
        match (taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, more), limit) {
            (Err(_), Some(limit)) => Err(Refusal::over_quota(self.principal.clone(), what, limit)),
            (Ok(_), _) | (Err(_), None) => Ok(Slot { usage: self.clone(), what }),
        }
    }
}

/// One stream or connection of a principal, for as long as it counts.
#[derive(Debug)]
pub(in crate::server) struct Slot {
    usage: Arc<Usage>,
    what: Counted,
}

impl Slot {
    fn is_of(&self, usage: &Arc<Usage>) -> bool {
        Arc::ptr_eq(&self.usage, usage)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.usage.counter(self.what).0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The principals that have called on a connection, which counts as one of each.
#[derive(Debug, Default)]
pub(in crate::server) struct Seats(Mutex<Vec<Slot>>);

impl Seats {
    /// Counts the connection as one of the caller's, if it is not yet.
    ///
    /// # Errors
    /// `too_many`.
    pub(super) fn take(&self, usage: &Arc<Usage>) -> Result<(), Refusal> {
        let mut seats = self.0.lock();
        if !seats.iter().any(|seat| seat.is_of(usage)) {
            seats.push(usage.take(Counted::Connections)?);
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::super::permission::Permissions;
    use super::super::principal::ShownBy;
    use super::*;
    use crate::engine::Code;

    fn principal(name: &str) -> Principal {
        Principal { name: name.into(), permissions: Arc::new(Permissions::all()), shown_by: ShownBy::Certificate }
    }

    fn two_streams() -> Quotas {
        let free = [("free".to_owned(), QuotaConfig::default())].into();
        Quotas::new(QuotasConfig { streams: Some(2), principals: free, ..QuotasConfig::default() })
    }

    #[test]
    fn each_principal_has_what_its_quota_says_and_gets_it_back() {
        let quotas = two_streams();
        let usage = quotas.usage(&principal("a")).unwrap();
        let first = usage.take(Counted::Streams).unwrap();
        let _second = usage.take(Counted::Streams).unwrap();
        let refusal = quotas.usage(&principal("a")).unwrap().take(Counted::Streams).unwrap_err();
        assert_eq!(refusal.code(), Code::TooMany);
        assert!(refusal.to_string().contains("a has 2 streams"), "{refusal}");
        assert!(quotas.usage(&principal("b")).unwrap().take(Counted::Streams).is_ok(), "another has its own");
        let _connection = usage.take(Counted::Connections).unwrap();
        drop(first);
        assert!(usage.take(Counted::Streams).is_ok());
    }

    #[test]
    fn a_principal_with_a_quota_of_its_own_has_nothing_of_the_others_and_this_process_none() {
        let quotas = two_streams();
        assert!(quotas.usage(&principal("free")).is_none());
        assert!(quotas.usage(&Principal::unbounded("process", ShownBy::Process)).is_none());
        assert!(quotas.usage(&principal("process")).is_some(), "a token with that name is not this process");
    }

    #[test]
    fn principals_that_have_nothing_are_forgotten() {
        let quotas = two_streams();
        let usage = quotas.usage(&principal("stays")).unwrap();
        let _slot = usage.take(Counted::Streams).unwrap();
        for number in 0..3 * SWEEP_AT_MIN {
            quotas.usage(&principal(&number.to_string())).unwrap();
        }
        assert!(quotas.usages.lock().by_name.len() <= SWEEP_AT_MIN);
        assert!(Arc::ptr_eq(&quotas.usage(&principal("stays")).unwrap(), &usage));
    }

    #[test]
    fn a_connection_counts_once_for_each_who_calls_on_it() {
        let quotas = Quotas::new(QuotasConfig { connections: Some(1), ..QuotasConfig::default() });
        let [first, second] = ["a", "b"].map(|name| quotas.usage(&principal(name)).unwrap());
        let (one, other) = (Seats::default(), Seats::default());
        for _ in 0..2 {
            one.take(&first).unwrap();
            one.take(&second).unwrap();
        }
        assert_eq!(other.take(&first).unwrap_err().code(), Code::TooMany);
        drop(one);
        other.take(&first).unwrap();
    }
}
