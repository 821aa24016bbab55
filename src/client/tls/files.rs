//! What the files of a client's TLS say. No text shows what a key's file has in it.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use tokio_rustls::rustls::client::ResolvesClientCert;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, SignatureScheme};

use super::{TlsOptions, TlsProblem};

/// The bytes of the files.
#[derive(PartialEq, Eq)]
pub(super) struct Contents {
    ca: Option<Vec<u8>>,
    /// Certificate and key.
    own: Option<(Vec<u8>, Vec<u8>)>,
}

impl Contents {
    pub(super) fn read(options: &TlsOptions) -> Result<Self, TlsProblem> {
        let own = match (&options.cert, &options.key) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((read("tls_cert", cert)?, read("tls_key", key)?)),
            (Some(_), None) => return Err(files("tls_cert needs tls_key, the file of its private key")),
            (None, Some(_)) => return Err(files("tls_key needs tls_cert, the file of its certificate")),
        };
        Ok(Self { ca: options.ca.as_deref().map(|path| read("tls_ca", path)).transpose()?, own })
    }

    /// What connections begin with. `asked` is set when a coordinator asks for a certificate.
    pub(super) fn config(&self, options: &TlsOptions, asked: &Arc<AtomicBool>) -> Result<ClientConfig, TlsProblem> {
        let provider = Arc::new(ring::default_provider());
        let own = self.own.as_ref().zip(options.cert.as_deref().zip(options.key.as_deref()));
        let own = own.map(|((cert, key), (cert_path, key_path))| {
            let certs = certificates("tls_cert", cert_path, cert)?;
            // What the parser says may quote the file.
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| {
                files(format!(
                    "there is no private key in {} (tls_key) that can be read; it must be PEM: PKCS#8, PKCS#1 or SEC1, without a password",
                    key_path.display()
                ))
            })?;
            let certified = CertifiedKey::from_der(certs, key, &provider).map_err(|error| {
                let (cert, key) = (cert_path.display(), key_path.display());
                files(format!("tls_cert {cert} and tls_key {key} cannot be used together: {error}"))
            })?;
            Ok::<_, TlsProblem>(SingleCertAndKey::from(certified))
        });
        let own = OwnCertificate { own: own.transpose()?, asked: asked.clone() };
        let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&versions);
        let builder = builder.map_err(|error| files(error.to_string()))?;
        let mut config = builder.with_root_certificates(self.roots(options)?).with_client_cert_resolver(Arc::new(own));
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    fn roots(&self, options: &TlsOptions) -> Result<Arc<RootCertStore>, TlsProblem> {
        let Some((pem, path)) = self.ca.as_ref().zip(options.ca.as_deref()) else {
            return machine_roots();
        };
        let mut store = RootCertStore::empty();
        for cert in certificates("tls_ca", path, pem)? {
            store.add(cert).map_err(|error| files(format!("a certificate in {} (tls_ca) cannot be used: {error}", path.display())))?;
        }
        Ok(Arc::new(store))
    }
}

/// What this machine trusts, read once: it is some hundred certificates. They are the machine's and not ones of our own, so
/// that a company's CA is among them, and `SSL_CERT_FILE` is heeded.
fn machine_roots() -> Result<Arc<RootCertStore>, TlsProblem> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(store)
    });
    if roots.is_empty() {
        return Err(files("this machine trusts no CA at all; name the file of the coordinator's with tls_ca (--tls-ca)"));
    }
    Ok(roots.clone())
}

fn files(reason: impl Into<String>) -> TlsProblem {
    TlsProblem::Files { reason: reason.into() }
}

fn read(option: &str, path: &Path) -> Result<Vec<u8>, TlsProblem> {
    fs::read(path).map_err(|error| files(format!("cannot read {} ({option}): {error}; check its path and who may read it", path.display())))
}

fn certificates(option: &str, path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsProblem> {
    match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
        Ok(certs) if !certs.is_empty() => Ok(certs),
        Ok(_) | Err(_) => Err(files(format!(
            "there is no certificate in {} ({option}) that can be read; it must be PEM, with a line -----BEGIN CERTIFICATE-----",
            path.display()
        ))),
    }
}

/// The client's certificate, if it has one; takes note of who asks.
#[derive(Debug)]
struct OwnCertificate {
    own: Option<SingleCertAndKey>,
    asked: Arc<AtomicBool>,
}

impl ResolvesClientCert for OwnCertificate {
    fn resolve(&self, hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Relaxed);
        self.own.as_ref()?.resolve(hints, schemes)
    }

    fn has_certs(&self) -> bool {
        self.own.is_some()
    }
}
