//! A principal: who calls, and what it may do.

use std::sync::Arc;
use std::time::SystemTime;

use super::permission::{Permissions, Verb};
use super::quotas::Counted;
use super::tokens::TokenHash;
use crate::engine::Code;

/// Who calls, and what it may do.
#[derive(Debug, Clone)]
pub struct Principal {
    pub(super) name: Arc<str>,
    pub(super) permissions: Arc<Permissions>,
    pub(super) shown_by: ShownBy,
}

/// By what a principal shows that it is the one.
#[derive(Debug, Clone)]
pub(super) enum ShownBy {
    /// Nobody is asked.
    Nothing,
    /// It is this process itself.
    Process,
    /// Its certificate, which the connection has checked.
    Certificate,
    /// A token of the file.
    Token { hash: TokenHash, until: Option<SystemTime> },
    /// A JWT.
    Jwt { until: SystemTime },
}

impl Principal {
    pub(super) fn unbounded(name: &str, shown_by: ShownBy) -> Self {
        Self { name: name.into(), permissions: Arc::new(Permissions::all()), shown_by }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it may do.
    #[must_use]
    pub fn permissions(&self) -> &Permissions {
        &self.permissions
    }

    /// Whether a quota may bound it: this process bounds itself.
    pub(super) fn has_quota(&self) -> bool {
        !matches!(self.shown_by, ShownBy::Nothing | ShownBy::Process)
    }

    /// Until when its token counts; none: it has no end that is known.
    pub(super) fn until(&self) -> Option<SystemTime> {
        match self.shown_by {
            ShownBy::Token { until, .. } => until,
            ShownBy::Jwt { until } => Some(until),
            ShownBy::Nothing | ShownBy::Process | ShownBy::Certificate => None,
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        match self.shown_by {
            ShownBy::Nothing => "nothing",
            ShownBy::Process => "process",
            ShownBy::Certificate => "certificate",
            ShownBy::Token { .. } => "token",
            ShownBy::Jwt { .. } => "jwt",
        }
    }
}

/// Why somebody is not let do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// See [`Code::Unauthenticated`].
    #[error(
        "this coordinator asks who calls, and {why}; give a valid token: a bowstring client takes it from BOWSTRING_TOKEN or a token file, others send it as a bearer in the header authorization"
    )]
    Unauthenticated {
        /// What is wrong. Nothing of what was sent is in it.
        why: &'static str,
    },
    /// See [`Code::PermissionDenied`].
    #[error("{principal} may not {verb} stream {stream:?}: it has {has}; whoever runs the coordinator can give it {verb}:{stream}")]
    Denied {
        /// Who.
        principal: Arc<str>,
        /// What it lacks.
        verb: &'static str,
        /// On which stream.
        stream: String,
        /// What it has.
        has: Arc<Permissions>,
    },
    /// The same, where no stream is named.
    #[error("{principal} may not see the metrics: it has {has}; whoever runs the coordinator can give it metrics")]
    NoMetrics {
        /// Who.
        principal: Arc<str>,
        /// What it has.
        has: Arc<Permissions>,
    },
    /// See [`Code::TooMany`].
    #[error(
        "{principal} has {limit} {what}, and may not have more at a time (auth.quotas); {instead}, or ask whoever runs the coordinator for more"
    )]
    OverQuota {
        /// Who.
        principal: Arc<str>,
        /// What its quota is.
        limit: u64,
        /// Of what: `streams` or `connections`.
        what: &'static str,
        /// What makes room.
        instead: &'static str,
    },
}

impl Refusal {
    pub(super) fn denied(principal: &Principal, verb: Verb, stream: &str) -> Self {
        let (principal, has) = (principal.name.clone(), principal.permissions.clone());
        match verb {
            Verb::Metrics => Self::NoMetrics { principal, has },
            verb => Self::Denied { principal, verb: verb.as_str(), stream: stream.to_owned(), has },
        }
    }

    pub(super) fn over_quota(principal: Arc<str>, what: Counted, limit: u64) -> Self {
        let (what, instead) = match what {
            Counted::Streams => ("streams", "have one deleted that is not needed any more"),
            Counted::Connections => ("connections", "close one, or make calls on those that are open"),
        };
        Self::OverQuota { principal, limit, what, instead }
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::OverQuota { .. } => Code::TooMany,
            Self::Unauthenticated { .. } => Code::Unauthenticated,
            Self::Denied { .. } | Self::NoMetrics { .. } => Code::PermissionDenied,
        }
    }
}
