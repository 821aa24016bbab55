//! Who may do what, as `bowstring serve` is told.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::server::{AuditConfig, AuthConfig, JwtConfig, Permissions, QuotasConfig};

/// `[auth]` of the file. The flags are for what a file is not needed for.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AuthSettings {
    /// File of tokens, as `bowstring token` writes it: callers need one of them [default: none, nobody is asked]
    #[arg(id = "auth_tokens", long = "auth-tokens", value_name = "FILE", env = "BOWSTRING_AUTH_TOKENS", help_heading = "Access")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tokens: Option<PathBuf>,
    /// Whether /metrics are shown to everybody, where callers are asked [default: false]
    #[arg(
        id = "auth_open_metrics",
        long = "auth-open-metrics",
        value_name = "BOOL",
        env = "BOWSTRING_AUTH_OPEN_METRICS",
        help_heading = "Access"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    open_metrics: Option<bool>,
    /// Only in the file.
    #[arg(skip)]
    #[serde(skip_serializing)]
    certificates: BTreeMap<String, Permissions>,
    /// Only in the file.
    #[arg(skip)]
    #[serde(skip_serializing)]
    jwt: Option<JwtConfig>,
    /// Only in the file.
    #[arg(skip)]
    #[serde(skip_serializing)]
    quotas: QuotasConfig,
}

impl AuthSettings {
    /// As the server takes it.
    pub(super) fn config(self) -> AuthConfig {
        let Self { tokens, open_metrics, certificates, jwt, quotas } = self;
        AuthConfig { tokens, jwt, certificates, open_metrics: open_metrics.unwrap_or_default(), quotas }
    }
}

/// `[audit]` of the file.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AuditSettings {
    /// File to whose end it is written who was let do what, or "stderr" [default: none]
    #[arg(id = "audit_file", long = "audit-file", value_name = "FILE", env = "BOWSTRING_AUDIT_FILE", help_heading = "Access")]
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
}

impl AuditSettings {
    /// As the server takes it.
    pub(super) fn config(self) -> AuditConfig {
        AuditConfig { file: self.file }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use figment::Figment;
    use figment::providers::{Format as _, Toml};

    use super::*;
    use crate::server::QuotaConfig;

    fn settings(text: &str) -> Option<AuthSettings> {
        Figment::from(Toml::string(text)).extract().ok()
    }

    #[test]
    fn quotas_come_from_the_file_and_what_is_no_quota_is_refused() {
        let text = "[quotas]\nstreams = 3\nbuffered_bytes = 1048576\n[quotas.principals.\"a b\"]\nread_bytes_per_second = 5000\n";
        let quotas = settings(text).unwrap().config().quotas;
        assert_eq!((quotas.streams, quotas.buffered_bytes, quotas.append_bytes_per_second), (Some(3), Some(1 << 20), None));
        let own = QuotaConfig { read_bytes_per_second: Some(5000), ..QuotaConfig::default() };
        assert_eq!(quotas.principals.get("a b"), Some(&own));
        for wrong in ["[quotas]\nstream = 3\n", "[quotas.principals.a]\nbytes = 3\n", "[quotas.a]\nstreams = 3\n"] {
            assert!(settings(wrong).is_none(), "{wrong}");
        }
    }
}
