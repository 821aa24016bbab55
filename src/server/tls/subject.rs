//! Whose a client's certificate is.

use std::fmt;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Longest name that is kept, in bytes: X.509 itself allows 64 for common names, and a SPIFFE id has at most 2,048.
const NAME_BYTES_MAX: usize = 2_048;

/// What a client's certificate, which a CA of `client_ca` has signed, says of the client.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PeerCertificate {
    common_name: Option<String>,
    alternative_name: Option<String>,
}

impl fmt::Debug for PeerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PeerCertificate").field(&self.name()).finish()
    }
}

impl PeerCertificate {
    /// Reads it; none if it cannot be read, which one that was checked always can.
    pub(super) fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let common_name = certificate.subject().iter_common_name().next().and_then(|name| kept(name.as_str().ok()?));
        let alternatives = certificate.subject_alternative_name().ok().flatten();
        let alternative_name = alternatives.and_then(|names| names.value.general_names.iter().find_map(alternative));
        Some(Self { common_name, alternative_name })
    }

    /// The subject's common name.
    #[must_use]
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// The first DNS name, URI (as SPIFFE has it) or mail address among the subject's alternative names.
    #[must_use]
    pub fn alternative_name(&self) -> Option<&str> {
        self.alternative_name.as_deref()
    }

    /// Who it is: the common name, or else the first alternative name; none for a certificate without either.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.common_name().or(self.alternative_name())
    }
}

fn alternative(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) | GeneralName::RFC822Name(name) => kept(name),
        _ => None,
    }
}

/// A name as it goes to logs and permissions: no control characters, which would forge lines.
fn kept(name: &str) -> Option<String> {
    let fits = !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control);
    fits.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(common_name: Option<&str>, alternatives: Vec<SanType>) -> PeerCertificate {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = common_name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.subject_alt_names = alternatives;
        let made = params.self_signed(&KeyPair::generate().expect("a key")).expect("a certificate");
        PeerCertificate::of(made.der()).expect("can be read")
    }

    #[test]
    fn a_client_is_its_common_name_or_else_its_first_alternative_name() {
        let text = |text: &str| text.try_into().expect("ASCII");
        let spiffe = || SanType::URI(text("spiffe://corp/etl"));
        let both = certificate(Some("etl"), vec![spiffe()]);
        assert_eq!((both.name(), both.common_name(), both.alternative_name()), (Some("etl"), Some("etl"), Some("spiffe://corp/etl")));
        let address = SanType::IpAddress([10, 0, 0, 1].into());
        assert_eq!(certificate(None, vec![address, spiffe(), SanType::DnsName(text("a.b"))]).name(), Some("spiffe://corp/etl"));
        assert_eq!(certificate(Some("two\nlines"), vec![]).name(), None);
        assert_eq!(certificate(Some(""), vec![SanType::DnsName(text("a.b"))]).name(), Some("a.b"));
        assert_eq!(PeerCertificate::of(b"no certificate"), None);
    }
}
