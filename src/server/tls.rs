//! The server's TLS: a certificate from files, loaded anew when they change, and whose certificates are asked of clients.

mod files;
mod subject;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use tokio_rustls::rustls;
use tokio_util::sync::CancellationToken;

pub use files::TlsError;
pub use subject::PeerCertificate;

use super::connections::ConnectionCounters;
use files::{Contents, Loaded};

/// How often the files are looked at: a certificate that is renewed hours before its end is in use long before.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// The files of a server's TLS, all PEM. They are read again when they change; what is under way goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The server's certificate, followed by those between it and its CA.
    pub cert: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
    /// Certificates of the CAs that clients' certificates must come from; none: clients need no certificate.
    pub client_ca: Option<PathBuf>,
}

/// What a port is for, and so which protocol it agrees on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Port {
    /// HTTP/2 for gRPC; with `client_ca` nobody comes in without a certificate.
    Calls,
    /// HTTP/1.1. With `client_ca` a certificate is asked for, but probes may have none: the routes look.
    Http,
}

/// What connections begin with, as the files are now.
pub(super) struct ServerTls {
    config: TlsConfig,
    current: RwLock<Loaded>,
    /// What was read last, good or not: the same bad file is said once.
    seen: Mutex<Contents>,
    counters: Arc<ConnectionCounters>,
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls").field("config", &self.config).finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] says which of them cannot be used.
    pub(super) fn load(config: TlsConfig, counters: Arc<ConnectionCounters>) -> Result<Self, TlsError> {
        let contents = Contents::read(&config)?;
        let current = Loaded::new(&config, &contents)?;
        counters.set_certificate_end(current.not_after);
        Ok(Self { config, current: RwLock::new(current), seen: Mutex::new(contents), counters })
    }

    /// For a new connection.
    pub(super) fn acceptor(&self, port: Port) -> tokio_rustls::TlsAcceptor {
        let current = self.current.read();
        match port {
            Port::Calls => current.calls.clone().into(),
            Port::Http => current.http.clone().into(),
        }
    }

    /// Whether clients must have a certificate.
    pub(super) fn asks_clients(&self) -> bool {
        self.config.client_ca.is_some()
    }

    /// Reads the files again; where they have changed, new connections begin with what they say now. What cannot be used is
    /// logged and counted, and changes nothing.
    pub(super) fn reload(&self) {
        let read = Contents::read(&self.config);
        let loaded = match read {
            Ok(contents) => {
                let mut seen = self.seen.lock();
                if *seen == contents {
                    return;
                }
                let loaded = Loaded::new(&self.config, &contents);
                *seen = contents;
                loaded
            }
            Err(error) => {
                let mut seen = self.seen.lock();
                if seen.is_unreadable() {
                    return;
                }
                *seen = Contents::unreadable();
                Err(error)
            }
        };
        self.counters.count_reload(loaded.is_ok());
        match loaded {
            Ok(loaded) => {
                self.counters.set_certificate_end(loaded.not_after);
                *self.current.write() = loaded;
                tracing::info!(cert = %self.config.cert.display(), "the TLS files have changed; new connections begin with what they say now");
            }
            Err(error) => {
                tracing::error!(%error, "the TLS files have changed and cannot be used; new connections go on with what was there before");
            }
        }
    }

    /// Looks at the files from time to time.
    pub(super) async fn watch(self: Arc<Self>, stopping: CancellationToken) {
        let mut interval = tokio::time::interval(LOOK_INTERVAL);
        loop {
            tokio::select! {
                _ = interval.tick() => {}
                () = stopping.cancelled() => return,
            }
            let tls = self.clone();
            if tokio::task::spawn_blocking(move || tls.reload()).await.is_err() {
                tracing::error!("looking at the TLS files failed; they are looked at again");
            }
        }
    }
}

/// Whose certificate a client has shown, if any. It is checked: the handshake is over.
pub(super) fn certificate_of(connection: &rustls::ServerConnection) -> Option<PeerCertificate> {
    PeerCertificate::of(connection.peer_certificates()?.first()?)
}
