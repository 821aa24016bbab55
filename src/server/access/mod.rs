//! Who calls, and what it may do: every way into the server asks here.

mod audit;
mod caller;
mod config;
mod control;
mod flight;
mod handshake;
mod jwt;
mod layer;
mod permission;
mod permit;
mod principal;
mod quotas;
mod reload;
mod rpc;
mod sight;
mod signatures;
mod tokens;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

pub(super) use audit::{AuditCounters, AuditWriter};
pub(super) use caller::Caller;
pub use config::{AuditConfig, AuthConfig, JwtConfig};
pub(super) use control::GuardedControl;
pub(super) use flight::GuardedFlight;
pub use jwt::JwtError;
pub(super) use layer::admit;
pub use permission::{Permission, PermissionError, Permissions, Verb};
pub(super) use permit::Permit;
pub use principal::{Principal, Refusal};
pub(super) use quotas::{Counted, Flow, Held, Seats, Slot, Usage};
pub use quotas::{QuotaConfig, QuotasConfig};
pub(super) use rpc::Rpc;
pub(super) use sight::Sight;
pub use tokens::{TokenEntry, TokensError, issue_token, list_tokens, revoke_token};

use super::coordinator::Coordinator;
use super::running::Server;
use audit::{Audit, AuditFile, Decision};
use jwt::Jwt;
use principal::ShownBy;
use quotas::Quotas;
use tokens::{TokenHash, Tokens};

/// JWTs whose signatures were checked: the next call with one of them costs no cryptography of public keys.
const JWTS_KEPT: usize = 1024;

/// Access that cannot be controlled as the configuration says.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The file of tokens.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// The JWTs' keys.
    #[error(transparent)]
    Jwt(#[from] JwtError),
    /// The audit log.
    #[error("the audit log {path} cannot be written: {source}; choose another path, or stderr")]
    Audit {
        /// Its path.
        path: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Quotas, and no principals.
    #[error(
        "auth.quotas bounds what a principal may have, but nobody is asked who they are; set auth.tokens, auth.jwt or auth.certificates, too"
    )]
    QuotasOfNobody,
}

impl Coordinator {
    /// Who may do what; none: nobody is asked.
    #[must_use]
    pub fn access(&self) -> Option<&Arc<Access>> {
        self.access.get()
    }

    /// From now on callers are asked; once for all, before anybody is let in.
    pub(super) fn control_access(&self, access: Arc<Access>) {
        self.access.get_or_init(|| access);
    }
}

impl Server {
    /// The audit log's file is opened anew before its next line: for whoever has put it away. It finds out by itself when the file
    /// was renamed.
    pub fn reopen_audit(&self) {
        if let Some(counters) = self.coordinator().access().and_then(|access| access.audit_counters()) {
            counters.reopen();
        }
    }
}

/// What controls access, and what writes its audit log if there is one.
type Opened = (Arc<Access>, Option<AuditWriter>);

/// Where a call comes from.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// It is this process, by no socket.
    pub is_within_process: bool,
    /// As logs show it: an address, `unix` or `process`.
    pub peer: Arc<str>,
    /// The name in its certificate, which the connection has checked.
    pub certificate: Option<Arc<str>>,
}

/// Decides who may do what, and writes it down.
#[derive(Debug)]
pub struct Access {
    config: AuthConfig,
    tokens: RwLock<Arc<Tokens>>,
    jwt: RwLock<Option<Arc<Jwt>>>,
    jwts: Mutex<HashMap<[u8; 32], Principal>>,
    /// Grows when tokens are read anew: open streams look whether theirs still count.
    changes: watch::Sender<u64>,
    audit: Option<Audit>,
    quotas: Quotas,
}

impl Access {
    /// Principals without a quota of their own, in metrics.
    pub(super) const OTHERS: &'static str = quotas::OTHERS;

    /// Reads what the configuration names. None: nobody is asked, and nothing is written down.
    ///
    /// # Errors
    /// [`AccessError`].
    pub(super) fn open(auth: &AuthConfig, audit: &AuditConfig) -> Result<Option<Opened>, AccessError> {
        if !auth.is_on() && auth.quotas.is_on() {
            return Err(AccessError::QuotasOfNobody);
        }
        if !auth.is_on() && audit.file.is_none() {
            return Ok(None);
        }
        let tokens = auth.tokens.as_deref().map(Tokens::read).transpose()?.unwrap_or_default();
        let jwt = auth.jwt.as_ref().map(Jwt::open).transpose()?.map(Arc::new);
        let opened = audit
            .file
            .as_deref()
            .map(|path| AuditFile::open(path).map_err(|source| AccessError::Audit { path: path.display().to_string(), source }));
        let (audit, writer) = opened.transpose()?.map(Audit::new).unzip();
        let access = Self {
            config: auth.clone(),
            tokens: RwLock::new(Arc::new(tokens)),
            jwt: RwLock::new(jwt),
            jwts: Mutex::default(),
            changes: watch::Sender::new(0),
            audit,
            quotas: Quotas::new(auth.quotas.clone()),
        };
        Ok(Some((Arc::new(access), writer)))
    }

    /// Whether anybody is asked.
    fn is_on(&self) -> bool {
        self.config.is_on()
    }

    /// How long calls were slowed by quotas, by the names of principals that may be shown.
    pub(super) fn slowed(&self) -> impl Iterator<Item = (&str, Flow, Duration)> {
        self.quotas.slowed()
    }

    /// What became of the audit log's lines, if there is one.
    pub(super) fn audit_counters(&self) -> Option<&Arc<AuditCounters>> {
        self.audit.as_ref().map(Audit::counters)
    }

    /// Who calls: by the bearer in its headers, or else by its certificate, or because it is this process.
    ///
    /// # Errors
    /// `unauthenticated`.
    pub fn principal(&self, headers: &HeaderMap, origin: &Origin) -> Result<Principal, Refusal> {
        if !self.is_on() {
            return Ok(Principal::unbounded("anybody", ShownBy::Nothing));
        }
        let refused = |why| Err(Refusal::Unauthenticated { why });
        let mut all = headers.get_all(AUTHORIZATION).iter();
        match (all.next(), all.next()) {
            (Some(_), Some(_)) => refused("the call has two headers authorization"),
            (Some(one), None) => {
                let text = one.to_str().unwrap_or_default();
                match text.split_at_checked(7) {
                    Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer ") => self.bearer(token.trim()),
                    _ => refused("the header authorization has no bearer"),
                }
            }
            (None, _) if origin.is_within_process => Ok(Principal::unbounded("process", ShownBy::Process)),
            (None, _) => match &origin.certificate {
                Some(name) => self.certificate(name),
                None => refused("the call has no token"),
            },
        }
    }

    fn certificate(&self, name: &Arc<str>) -> Result<Principal, Refusal> {
        let why = "the call has no token, and its certificate's name is not in auth.certificates";
        let permissions = self.config.certificates.get(&**name).ok_or(Refusal::Unauthenticated { why })?;
        Ok(Principal { name: name.clone(), permissions: Arc::new(permissions.clone()), shown_by: ShownBy::Certificate })
    }

    /// Whose bearer it is.
    fn bearer(&self, token: &str) -> Result<Principal, Refusal> {
        let is_jwt = !token.starts_with(tokens::PREFIX) && token.bytes().filter(|byte| *byte == b'.').count() == 2;
        let hash = TokenHash::of(token);
        if is_jwt { self.jwt(token, &hash) } else { self.token(hash) }
    }

    fn token(&self, hash: TokenHash) -> Result<Principal, Refusal> {
        let tokens = self.tokens.read().clone();
        let refused = |why| Err(Refusal::Unauthenticated { why });
        let Some(entry) = tokens.get(&hash) else { return refused("its token is not known here") };
        if entry.revoked.is_some() {
            return refused("its token was revoked");
        }
        if entry.expires.is_some_and(|expires| wall_now() >= expires) {
            return refused("its token has expired");
        }
        let shown_by = ShownBy::Token { hash, until: entry.expires };
        Ok(Principal { name: entry.name.as_str().into(), permissions: Arc::new(entry.permissions.clone()), shown_by })
    }

    fn jwt(&self, token: &str, hash: &TokenHash) -> Result<Principal, Refusal> {
        let refused = |why| Refusal::Unauthenticated { why };
        let expired = |principal: &Principal| principal.until().is_some_and(|until| wall_now() >= until);
        let kept = self.jwts.lock().get(hash.bytes()).cloned();
        if let Some(principal) = kept {
            return if expired(&principal) { Err(refused("the JWT has expired")) } else { Ok(principal) };
        }
        let Some(jwt) = self.jwt.read().clone() else { return Err(refused("it has a JWT, which does not count here")) };
        let shown = jwt.check(token).map_err(refused)?;
        let principal =
            Principal { name: shown.name.into(), permissions: Arc::new(shown.permissions), shown_by: ShownBy::Jwt { until: shown.until } };
        let mut jwts = self.jwts.lock();
        if jwts.len() >= JWTS_KEPT {
            jwts.retain(|_, principal| !expired(principal));
        }
        if jwts.len() >= JWTS_KEPT {
            jwts.clear();
        }
        jwts.insert(*hash.bytes(), principal.clone());
        Ok(principal)
    }

    /// The principal as it is now: its token may have ended, or allow something else.
    fn renewed(&self, principal: &Principal) -> Result<Principal, Refusal> {
        match &principal.shown_by {
            ShownBy::Token { hash, .. } => self.token(*hash),
            ShownBy::Jwt { until } if wall_now() >= *until => Err(Refusal::Unauthenticated { why: "the JWT has expired" }),
            ShownBy::Jwt { .. } | ShownBy::Nothing | ShownBy::Process | ShownBy::Certificate => Ok(principal.clone()),
        }
    }

    /// For the HTTP port: who calls, if it may do that. `stream` is `*` for what is of all streams.
    ///
    /// # Errors
    /// `unauthenticated`, `permission_denied`.
    pub fn allow_http(&self, headers: &HeaderMap, origin: &Origin, verb: Verb, stream: &str) -> Result<Principal, Refusal> {
        let shown = self.principal(headers, origin);
        let decided = shown.as_ref().map_err(Clone::clone).and_then(|principal| {
            let is_everywhere = stream == "*" || verb == Verb::Metrics;
            let allowed =
                if is_everywhere { principal.permissions.allow_everywhere(verb) } else { principal.permissions.allow(verb, stream) };
            if allowed { Ok(()) } else { Err(Refusal::denied(principal, verb, stream)) }
        });
        self.note(shown.as_ref().ok(), &origin.peer, "http", Some(verb), stream, decided.as_ref().err());
        decided.and(shown)
    }

    /// Whether `/metrics` are everybody's.
    pub(super) fn shows_metrics_to_all(&self) -> bool {
        self.config.open_metrics || !self.is_on()
    }

    /// Writes a decision down.
    fn note(&self, principal: Option<&Principal>, peer: &Arc<str>, rpc: &str, verb: Option<Verb>, stream: &str, refused: Option<&Refusal>) {
        let Some(audit) = &self.audit else { return };
        audit.note(Decision {
            at: wall_now(),
            principal: principal.map(|principal| principal.name.clone()),
            by: principal.map_or("unknown", Principal::kind),
            peer: peer.clone(),
            rpc: rpc.to_owned(),
            verb: verb.map(Verb::as_str),
            stream: stream.to_owned(),
            code: refused.map(|refusal| refusal.code().as_str()),
        });
    }
}

/// Tokens end by the time that people have.
#[expect(clippy::disallowed_methods, reason = "when a token ends is said by the wall's clock")]
pub(super) fn wall_now() -> SystemTime {
    SystemTime::now()
}
