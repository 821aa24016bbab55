//! Who may do what, as the configuration says it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::permission::Permissions;
use super::quotas::QuotasConfig;

/// How callers show who they are, and what they may do then. Nothing set: nobody is asked, and everybody may do everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// The file of tokens that `bowstring token` writes; read again when it changes.
    pub tokens: Option<PathBuf>,
    /// Signed tokens of an identity provider.
    pub jwt: Option<JwtConfig>,
    /// By the name in a client's certificate: what it may do. The names stand for themselves, without patterns.
    pub certificates: BTreeMap<String, Permissions>,
    /// Whether `/metrics` are shown to everybody. Default false: they name all streams.
    pub open_metrics: bool,
    /// How much a principal may have. Default: nobody has a limit.
    pub quotas: QuotasConfig,
}

impl AuthConfig {
    /// Whether anybody is asked who they are.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.tokens.is_some() || self.jwt.is_some() || !self.certificates.is_empty()
    }
}

/// Which JWTs count. Audience, issuer and expiry are required in all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JwtConfig {
    /// The algorithms that count, all of one kind: `RS256`, `ES256`, `EdDSA`, `HS256` and their like. What a token says of itself
    /// chooses among these and no others.
    pub algorithms: Vec<String>,
    /// File with the public key, as PEM. One of the three files is needed.
    pub key_file: Option<PathBuf>,
    /// File with a JWKS: public keys by their ids.
    pub jwks_file: Option<PathBuf>,
    /// File with the secret of the `HS` algorithms, at least 32 bytes.
    pub secret_file: Option<PathBuf>,
    /// The audience that a token must name.
    pub audience: String,
    /// The issuer that a token must name.
    pub issuer: String,
    /// Seconds that clocks may differ. Default 30, at most 300.
    pub leeway_seconds: Option<u64>,
    /// The claim that has the permissions: a list of texts, or one text with spaces between. Default `bowstring`.
    pub permissions_claim: Option<String>,
    /// The claim that has the roles. Default `roles`.
    pub roles_claim: Option<String>,
    /// What a subject may do besides.
    pub subjects: BTreeMap<String, Permissions>,
    /// What those of a role may do besides.
    pub roles: BTreeMap<String, Permissions>,
}

/// Where it is written down who was let do what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditConfig {
    /// The file, to whose end lines are written; `stderr` for the process's standard error. None: nowhere.
    pub file: Option<PathBuf>,
}
