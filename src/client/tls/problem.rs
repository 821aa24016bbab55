//! Why TLS to a coordinator cannot be had, and what to do.

use std::error::Error as StdError;
use std::io;

use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{AlertDescription, CertificateError, Error as Rustls};

use super::TlsOptions;

/// Why TLS to a coordinator cannot be had. Another attempt has the same end until somebody changes something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsProblem {
    /// A file that the options name cannot be used.
    #[error("{reason}")]
    Files {
        /// Which, why, and what to do.
        reason: String,
    },
    /// The host is no name that a certificate can have.
    #[error("{name:?} is no name that a certificate can have; give a DNS name or an address, in the URL or as tls_server_name")]
    Name {
        /// The host, or the name that was given for it.
        name: String,
    },
    /// Nobody speaks TLS there.
    #[error("what listens there does not speak TLS; write grpc://, or start the coordinator with --tls-cert and --tls-key")]
    Plain,
    /// The coordinator speaks nothing else.
    #[error("the coordinator takes TLS only; write grpc+tls://, with tls_ca (--tls-ca) if its CA is not one that this machine trusts")]
    Required,
    /// No CA that is trusted has signed the coordinator's certificate.
    #[error("the coordinator's certificate is signed by no CA of {trusted}; name the file of its CA with tls_ca (--tls-ca)")]
    UnknownCa {
        /// Which CAs are trusted.
        trusted: String,
    },
    /// It is the certificate of another host.
    #[error(
        "the coordinator's certificate is not for {name}{others}; connect by a name that it has, or say which with tls_server_name (--tls-server-name)"
    )]
    WrongHost {
        /// Who was looked for.
        name: String,
        /// Whose it is, as ", but for ..".
        others: String,
    },
    /// It has ended.
    #[error("the coordinator's certificate has expired; renew its files, which it reads again by itself, or check this machine's clock")]
    Expired,
    /// It has not begun.
    #[error("the coordinator's certificate is not valid yet; check this machine's clock and the coordinator's")]
    NotYetValid,
    /// It cannot be used for another reason.
    #[error("the coordinator's certificate cannot be used: {reason}; renew it with this mended")]
    BadCertificate {
        /// Why.
        reason: String,
    },
    /// The coordinator lets in nobody without a certificate.
    #[error("the coordinator asks for a client certificate, and none was given; give tls_cert and tls_key (--tls-cert, --tls-key)")]
    CertificateWanted,
    /// The coordinator does not accept the client's certificate.
    #[error(
        "the coordinator does not accept this client's certificate ({reason}); give one that is valid and that a CA of its tls.client_ca has signed"
    )]
    CertificateRefused {
        /// What it says.
        reason: String,
    },
    /// There is no HTTP/2, version or cipher that both know.
    #[error("the two ends agree on no way to speak TLS: {reason}; the coordinator needs TLS 1.2 or later, and HTTP/2")]
    NoAgreement {
        /// What rustls says.
        reason: String,
    },
}

impl TlsProblem {
    /// What went wrong between here and the coordinator; the error itself if it is none of TLS.
    pub(super) fn of(error: &io::Error, name: &ServerName<'_>, options: &TlsOptions) -> Box<dyn StdError + Send + Sync> {
        let rustls = error.get_ref().and_then(|inner| inner.downcast_ref::<Rustls>());
        match rustls.and_then(|error| Self::of_rustls(error, name, options)) {
            Some(problem) => problem.into(),
            // A TLS coordinator says farewell before it closes a connection.
            None if error.kind() == io::ErrorKind::UnexpectedEof => {
                io::Error::new(error.kind(), "the connection was closed in the middle of the TLS handshake").into()
            }
            None => io::Error::new(error.kind(), error.to_string()).into(),
        }
    }

    fn of_rustls(error: &Rustls, name: &ServerName<'_>, options: &TlsOptions) -> Option<Self> {
        Some(match error {
            Rustls::InvalidMessage(_) => Self::Plain,
            Rustls::InvalidCertificate(error) => Self::of_certificate(error, name, options),
            Rustls::AlertReceived(alert) => Self::of_alert(*alert, options)?,
            Rustls::PeerIncompatible(_) | Rustls::NoApplicationProtocol => Self::NoAgreement { reason: error.to_string() },
            _ => return None,
        })
    }

    fn of_certificate(error: &CertificateError, name: &ServerName<'_>, options: &TlsOptions) -> Self {
        match error {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                let trusted = options.ca.as_deref().map(|path| path.display().to_string());
                Self::UnknownCa { trusted: trusted.unwrap_or_else(|| "those that this machine trusts".to_owned()) }
            }
            CertificateError::NotValidForName => Self::WrongHost { name: name.to_str().into_owned(), others: String::new() },
            CertificateError::NotValidForNameContext { presented, .. } => {
                let others = if presented.is_empty() { String::new() } else { format!(", but for {}", presented.join(", ")) };
                Self::WrongHost { name: name.to_str().into_owned(), others }
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            other => Self::BadCertificate { reason: other.to_string() },
        }
    }

    fn of_alert(alert: AlertDescription, options: &TlsOptions) -> Option<Self> {
        use AlertDescription as Alert;
        Some(match alert {
            Alert::CertificateRequired => Self::CertificateWanted,
            // TLS 1.2 has no word of its own for a certificate that is missing.
            Alert::HandshakeFailure | Alert::BadCertificate if options.cert.is_none() => Self::CertificateWanted,
            Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError => Self::CertificateRefused { reason: format!("it says {alert:?}") },
            Alert::HandshakeFailure | Alert::ProtocolVersion | Alert::InsufficientSecurity | Alert::NoApplicationProtocol => {
                Self::NoAgreement { reason: format!("the coordinator says {alert:?}") }
            }
            _ => return None,
        })
    }

    /// The problem behind an error of a connection or a call, if it is one of TLS.
    pub(in crate::client) fn behind(error: &(dyn StdError + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(problem) = error.downcast_ref::<Self>() {
                return Some(problem.clone());
            }
            // What a coordinator's port with TLS says to who speaks none.
            if error.downcast_ref::<h2::Error>().and_then(h2::Error::reason) == Some(h2::Reason::INADEQUATE_SECURITY) {
                return Some(Self::Required);
            }
            next = error.source();
        }
        None
    }
}
