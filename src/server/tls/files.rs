//! What the files of TLS say. No text of an error or of a log shows what a key's file has in it.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};

use super::{Port, TlsConfig};

/// A file of certificates or of a key is some kilobytes; a bundle of all CAs of the world 300 KB.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// A file of TLS that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It cannot be read.
    #[error("cannot read the TLS file {} ({setting}): {source}; check its path and who may read it", path.display())]
    Read {
        /// The setting that names it.
        setting: &'static str,
        /// Its path.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// It is larger than any such file.
    #[error("the TLS file {} ({setting}) is larger than 4 MiB; name a PEM file of certificates or of one key", path.display())]
    TooLarge {
        /// The setting that names it.
        setting: &'static str,
        /// Its path.
        path: PathBuf,
    },
    /// There is no certificate in it that can be read.
    #[error("there is no certificate in {} ({setting}) that can be read; it must be PEM, with a line -----BEGIN CERTIFICATE-----", path.display())]
    NoCertificate {
        /// The setting that names it.
        setting: &'static str,
        /// Its path.
        path: PathBuf,
    },
    /// There is no private key in it that can be read.
    #[error("there is no private key in {} (tls.key) that can be read; it must be PEM: PKCS#8, PKCS#1 or SEC1, without a password", path.display())]
    NoKey {
        /// Its path.
        path: PathBuf,
    },
    /// Certificate and key cannot be used together.
    #[error("the certificate {} and the key {} cannot be used together: {reason}; name a certificate and its own key", cert.display(), key.display())]
    Mismatch {
        /// The certificate's path.
        cert: PathBuf,
        /// The key's path.
        key: PathBuf,
        /// Why.
        reason: rustls::Error,
    },
    /// Nobody's certificate can be checked with it.
    #[error("the CAs in {} (tls.client_ca) cannot be used: {reason}; name the certificates of the CAs that sign clients' certificates", path.display())]
    ClientCa {
        /// Its path.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// The bytes of the files: of a key, too, so that nothing shows them.
#[derive(PartialEq, Eq)]
pub(super) struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Contents {
    pub(super) fn read(config: &TlsConfig) -> Result<Self, TlsError> {
        Ok(Self {
            cert: read("tls.cert", &config.cert)?,
            key: read("tls.key", &config.key)?,
            client_ca: config.client_ca.as_deref().map(|path| read("tls.client_ca", path)).transpose()?,
        })
    }

    /// Of files of which one cannot be read.
    pub(super) fn unreadable() -> Self {
        Self { cert: Vec::new(), key: Vec::new(), client_ca: None }
    }

    pub(super) fn is_unreadable(&self) -> bool {
        *self == Self::unreadable()
    }
}

fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read { setting, path: path.to_path_buf(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(TlsError::TooLarge { setting, path: path.to_path_buf() });
    }
    Ok(bytes)
}

/// Configurations that connections begin with.
pub(super) struct Loaded {
    pub(super) calls: Arc<ServerConfig>,
    pub(super) http: Arc<ServerConfig>,
    /// Until when the certificate holds, in seconds since 1970.
    pub(super) not_after: i64,
}

impl Loaded {
    pub(super) fn new(config: &TlsConfig, contents: &Contents) -> Result<Self, TlsError> {
        let certs = certificates("tls.cert", &config.cert, &contents.cert)?;
        let no_key = || TlsError::NoKey { path: config.key.clone() };
        // What the parser says may quote the file.
        let key = PrivateKeyDer::from_pem_slice(&contents.key).map_err(|_| no_key())?;
        let not_after = certs.first().and_then(|cert| x509_parser::parse_x509_certificate(cert).ok());
        let not_after = not_after.map_or(0, |(_, cert)| cert.validity().not_after.timestamp());
        let provider = Arc::new(ring::default_provider());
        let roots = config.client_ca.as_deref().zip(contents.client_ca.as_deref()).map(|(path, pem)| roots(path, pem)).transpose()?;
        let of = |port| build(config, &provider, (&certs, &key), roots.as_ref(), port).map(Arc::new);
        Ok(Self { calls: of(Port::Calls)?, http: of(Port::Http)?, not_after })
    }
}

fn certificates(setting: &'static str, path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let none = || TlsError::NoCertificate { setting, path: path.to_path_buf() };
    let certs: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| none())?;
    if certs.is_empty() { Err(none()) } else { Ok(certs) }
}

fn roots(path: &Path, pem: &[u8]) -> Result<(PathBuf, Arc<RootCertStore>), TlsError> {
    let mut store = RootCertStore::empty();
    for cert in certificates("tls.client_ca", path, pem)? {
        store.add(cert).map_err(|error| TlsError::ClientCa { path: path.to_path_buf(), reason: error.to_string() })?;
    }
    Ok((path.to_path_buf(), Arc::new(store)))
}

fn build(
    config: &TlsConfig,
    provider: &Arc<CryptoProvider>,
    (certs, key): (&[CertificateDer<'static>], &PrivateKeyDer<'static>),
    roots: Option<&(PathBuf, Arc<RootCertStore>)>,
    port: Port,
) -> Result<ServerConfig, TlsError> {
    let mismatch = |reason| TlsError::Mismatch { cert: config.cert.clone(), key: config.key.clone(), reason };
    let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&versions).map_err(mismatch)?;
    let builder = match roots {
        None => builder.with_no_client_auth(),
        Some(roots) => builder.with_client_cert_verifier(verifier(roots, provider, port)?),
    };
    let mut built = builder.with_single_cert(certs.to_vec(), key.clone_key()).map_err(mismatch)?;
    if roots.is_some() {
        // A connection that takes up an older one is not checked again: a certificate that has ended since would still do.
        built.session_storage = Arc::new(NoServerSessionStorage {});
        built.send_tls13_tickets = 0;
    }
    built.alpn_protocols = match port {
        Port::Calls => vec![b"h2".to_vec()],
        Port::Http => vec![b"http/1.1".to_vec()],
    };
    Ok(built)
}

fn verifier(
    (path, roots): &(PathBuf, Arc<RootCertStore>),
    provider: &Arc<CryptoProvider>,
    port: Port,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let builder = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
    let builder = if port == Port::Http { builder.allow_unauthenticated() } else { builder };
    builder.build().map_err(|error| TlsError::ClientCa { path: path.clone(), reason: error.to_string() })
}
