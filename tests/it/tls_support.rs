//! Certificates of a test's own, in files.

use std::fs;
use std::path::{Path, PathBuf};

use bowstring::client::{ClientOptions, TlsOptions};
use bowstring::server::TlsConfig;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

/// A CA, with a folder for what it signs.
pub(crate) struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
#[derive(Debug, Clone)]
pub(crate) struct Signed {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, format!("a CA of {}", folder.path().display()));
        let key = KeyPair::generate().expect("a key");
        let cert = params.self_signed(&key).expect("a certificate");
        fs::write(folder.path().join("ca.pem"), cert.pem()).expect("writes");
        Self { folder, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// For a server that is 127.0.0.1 and localhost.
    pub(crate) fn server(&self) -> Signed {
        self.sign("server", &["127.0.0.1", "localhost"], |_| ())
    }

    /// For a client of this name.
    pub(crate) fn client(&self, name: &str) -> Signed {
        self.sign(name, &[], |_| ())
    }

    /// Written over what there was of this name.
    pub(crate) fn sign(&self, name: &str, hosts: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Signed {
        let mut params = CertificateParams::new(hosts.iter().map(ToString::to_string).collect::<Vec<_>>()).expect("names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        let path = |ending: &str| self.folder.path().join(format!("{name}.{ending}"));
        let signed = Signed { cert: path("crt"), key: path("key") };
        fs::write(&signed.cert, cert.pem()).expect("writes");
        fs::write(&signed.key, key.serialize_pem()).expect("writes");
        signed
    }

    /// What trusts this CA, and nobody else.
    pub(crate) fn trusted(&self) -> TlsOptions {
        TlsOptions { ca: Some(self.ca()), ..TlsOptions::default() }
    }

    /// The same with a certificate.
    pub(crate) fn trusted_by(&self, own: &Signed) -> TlsOptions {
        TlsOptions { cert: Some(own.cert.clone()), key: Some(own.key.clone()), ..self.trusted() }
    }
}

impl Signed {
    pub(crate) fn config(&self, client_ca: Option<&Path>) -> TlsConfig {
        TlsConfig { cert: self.cert.clone(), key: self.key.clone(), client_ca: client_ca.map(Path::to_path_buf) }
    }

    /// Puts another certificate in its files.
    pub(crate) fn replace_by(&self, other: &Self) {
        fs::copy(&other.key, &self.key).expect("copies");
        fs::copy(&other.cert, &self.cert).expect("copies");
    }
}

/// Options that go by TCP, where TLS is.
pub(crate) fn options(tls: TlsOptions) -> ClientOptions {
    ClientOptions { tls, local_socket: false, ..ClientOptions::default() }
}
