//! A caller: the principal of one call, which the call carries to where it is known what it is about.

use std::sync::Arc;

use http::Extensions;

use super::permission::Verb;
use super::permit::Permit;
use super::principal::{Principal, Refusal};
use super::quotas::Usage;
use super::rpc::{Right, Rpc};
use super::{Access, Origin};
use crate::server::connection::Peer;
use crate::wire::frame::WithinProcess;

/// Who calls. One without a principal comes to a server that asks nobody.
#[derive(Debug, Clone, Default)]
pub(in crate::server) struct Caller(Option<Known>);

#[derive(Debug, Clone)]
struct Known {
    access: Arc<Access>,
    principal: Principal,
    peer: Arc<str>,
    /// If it has a quota.
    usage: Option<Arc<Usage>>,
}

impl Caller {
    pub(super) fn new(access: Arc<Access>, principal: Principal, peer: Arc<str>, usage: Option<Arc<Usage>>) -> Self {
        Self(Some(Known { access, principal, peer, usage }))
    }

    /// Who has made a call. Where there is access to control, one that was not asked has got around the door.
    ///
    /// # Errors
    /// `unauthenticated`.
    pub(in crate::server) fn of(extensions: &Extensions, access: Option<&Arc<Access>>) -> Result<Self, Refusal> {
        match (extensions.get::<Self>(), access) {
            (Some(caller), _) => Ok(caller.clone()),
            (None, None) => Ok(Self::default()),
            (None, Some(_)) => Err(Refusal::Unauthenticated { why: "the call has come in by a way that does not ask" }),
        }
    }

    /// Lets the caller do a call on a stream, or not; that is written down.
    ///
    /// # Errors
    /// `permission_denied`.
    pub(in crate::server) fn allow(&self, rpc: Rpc, stream: &str) -> Result<(), Refusal> {
        self.allow_verb(rpc, verb_of(rpc, false), stream)
    }

    /// Whether the caller may append, for who has to know before the call that does. Only a refusal is written down here.
    ///
    /// # Errors
    /// `permission_denied`.
    #[cfg(feature = "formats")]
    pub(in crate::server) fn check_append(&self, stream: &str) -> Result<(), Refusal> {
        match &self.0 {
            Some(known) if !known.principal.permissions.allow(Verb::Append, stream) => self.allow(Rpc::DoPut, stream),
            Some(_) | None => Ok(()),
        }
    }

    /// The same for a stream that stays open: what ends it when the caller's right ends.
    ///
    /// # Errors
    /// `permission_denied`.
    pub(in crate::server) fn permit(&self, rpc: Rpc, subscribes: bool, stream: &str) -> Result<Permit, Refusal> {
        let verb = verb_of(rpc, subscribes);
        self.allow_verb(rpc, verb, stream)?;
        let Some(known) = &self.0 else { return Ok(Permit::default()) };
        Ok(Permit::new(known.access.clone(), known.principal.clone(), verb, stream).with_usage(known.usage.as_ref()))
    }

    /// Lets the caller do something with a stream that its call names besides.
    ///
    /// # Errors
    /// `permission_denied`.
    pub(in crate::server) fn allow_besides(&self, rpc: Rpc, verb: Verb, stream: &str) -> Result<(), Refusal> {
        self.allow_verb(rpc, Some(verb), stream)
    }

    fn allow_verb(&self, rpc: Rpc, verb: Option<Verb>, stream: &str) -> Result<(), Refusal> {
        let Some(known) = &self.0 else { return Ok(()) };
        let decided = match verb {
            Some(verb) => check(&known.principal, verb, stream),
            None if rpc.right() != Right::See || stream.is_empty() || self.sees(stream) => Ok(()),
            // What lets one see it with the least that it gives besides.
            None => Err(Refusal::denied(&known.principal, Verb::Peek, stream)),
        };
        let path = rpc.path().rsplit('/').next().unwrap_or_default();
        known.access.note(Some(&known.principal), &known.peer, path, verb, stream, decided.as_ref().err());
        decided
    }

    /// Whether the caller may know of the stream.
    pub(in crate::server) fn sees(&self, stream: &str) -> bool {
        self.0.as_ref().is_none_or(|known| known.principal.permissions.see(stream))
    }

    /// What the caller has of its quota; none: it has no limit.
    pub(in crate::server) fn usage(&self) -> Option<&Arc<Usage>> {
        self.0.as_ref()?.usage.as_ref()
    }

    /// What links are bound to: nobody uses another's.
    pub(in crate::server) fn name(&self) -> Option<&Arc<str>> {
        self.0.as_ref().map(|known| &known.principal.name)
    }
}

/// Whether a principal may do it.
pub(super) fn check(principal: &Principal, verb: Verb, stream: &str) -> Result<(), Refusal> {
    if principal.permissions.allow(verb, stream) { Ok(()) } else { Err(Refusal::denied(principal, verb, stream)) }
}

fn verb_of(rpc: Rpc, subscribes: bool) -> Option<Verb> {
    match rpc.right() {
        Right::On(verb) => Some(verb),
        Right::ReadOrPeek if subscribes => Some(Verb::Read),
        Right::ReadOrPeek => Some(Verb::Peek),
        Right::Open | Right::Known | Right::See => None,
    }
}

impl Origin {
    /// Where a request comes from, as its connection says.
    pub(in crate::server) fn of(extensions: &Extensions) -> Self {
        let is_within_process = extensions.get::<WithinProcess>().is_some();
        let certificate: Option<Arc<str>> = extensions.get::<Peer>().and_then(|peer| peer.certificate.as_ref()?.name()).map(Into::into);
        let peer = match extensions.get::<Peer>() {
            _ if is_within_process => "process".into(),
            Some(peer) => {
                let address = peer.address.map_or_else(|| "unix".to_owned(), |address| address.to_string());
                certificate.as_ref().map_or_else(|| address.as_str().into(), |name| format!("{address} ({name})").into())
            }
            None => "".into(),
        };
        Self { is_within_process, peer, certificate }
    }
}
