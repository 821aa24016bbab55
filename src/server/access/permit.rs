//! A permit: the right to an open stream of batches, which ends when the token does.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::caller::check;
use super::permission::Verb;
use super::principal::{Principal, Refusal};
use super::quotas::Usage;
use super::{Access, wall_now};

/// How often a token's end is looked for: the wall's clock may be set.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The right to one `DoGet` or `DoPut`.
#[derive(Debug, Default)]
pub(in crate::server) struct Permit(Option<Held>);

#[derive(Debug)]
struct Held {
    access: Arc<Access>,
    principal: Principal,
    verb: Option<Verb>,
    stream: String,
    /// What was known when it was let in.
    changes: watch::Receiver<u64>,
    usage: Option<Arc<Usage>>,
}

impl Permit {
    pub(super) fn new(access: Arc<Access>, principal: Principal, verb: Option<Verb>, stream: &str) -> Self {
        let changes = access.changes.subscribe();
        Self(Some(Held { access, principal, verb, stream: stream.to_owned(), changes, usage: None }))
    }

    /// For a principal with a quota.
    pub(super) fn with_usage(mut self, usage: Option<&Arc<Usage>>) -> Self {
        self.0.iter_mut().for_each(|held| held.usage = usage.cloned());
        self
    }

    /// What its principal has of its quota; none: it has no limit.
    pub(in crate::server) fn usage(&self) -> Option<&Arc<Usage>> {
        self.0.as_ref()?.usage.as_ref()
    }

    /// Whether it still counts; costs a look at a number, and at the clock if the token has an end.
    ///
    /// # Errors
    /// `unauthenticated`, `permission_denied`.
    pub(in crate::server) fn check(&mut self) -> Result<(), Refusal> {
        let Some(held) = &mut self.0 else { return Ok(()) };
        if held.changes.has_changed().unwrap_or(false) {
            held.changes.mark_unchanged();
            return held.look();
        }
        if held.principal.until().is_some_and(|until| wall_now() >= until) { held.look() } else { Ok(()) }
    }

    /// Waits until it ends, and says why.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(in crate::server) async fn ended(&self) -> Refusal {
        let Some(held) = &self.0 else { return std::future::pending().await };
        let mut changes = held.changes.clone();
        loop {
            if let Err(refusal) = held.look() {
                return refusal;
            }
            let left = held.principal.until().map(|until| until.duration_since(wall_now()).unwrap_or_default().min(LOOK_AGAIN));
            let time = async {
                match left {
                    Some(left) => tokio::time::sleep(left).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { std::future::pending::<()>().await },
                () = time => {}
            }
        }
    }
}

impl Held {
    fn look(&self) -> Result<(), Refusal> {
        let principal = self.access.renewed(&self.principal)?;
        self.verb.map_or(Ok(()), |verb| check(&principal, verb, &self.stream))
    }
}
