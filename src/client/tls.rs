//! TLS to a coordinator: the options, and connections made by them.

mod files;
mod first_answer;
mod problem;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tower::BoxError;

pub use problem::TlsProblem;

use files::Contents;
pub(super) use first_answer::Answered;

/// How long a coordinator that has asked for a certificate may take to say what it thinks of it: bowstring's greets at once
/// those that it lets in. Others are used without waiting longer.
const VERDICT_TIMEOUT: Duration = Duration::from_secs(2);

/// How a client speaks TLS, to URLs that begin with `grpc+tls://`. All files are PEM, and read again for each connection, so
/// that certificates can be renewed under a client that runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TlsOptions {
    /// Certificates of the CAs that may have signed the coordinator's. None: those that this machine trusts.
    pub ca: Option<PathBuf>,
    /// The client's certificate, followed by those between it and its CA; needs `key`. None: none.
    pub cert: Option<PathBuf>,
    /// The private key of `cert`.
    pub key: Option<PathBuf>,
    /// The name that must be in the coordinator's certificate. None: the URL's host.
    pub server_name: Option<String>,
}

impl TlsOptions {
    /// Whether nothing is said.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Makes connections to one host and port.
pub(super) struct TlsDialer {
    host: String,
    port: u16,
    name: ServerName<'static>,
    options: TlsOptions,
    /// What the files said last, and what was made of it: while they stay the same, connections take up what was agreed on before.
    last: Mutex<Option<(Contents, Made)>>,
}

#[derive(Clone)]
struct Made {
    config: Arc<ClientConfig>,
    /// Set when the coordinator has asked for a certificate.
    asked: Arc<AtomicBool>,
}

impl std::fmt::Debug for TlsDialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsDialer")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl TlsDialer {
    /// # Errors
    /// [`TlsProblem::Name`]. The files are read when they are needed: a coordinator in this process needs none.
    pub(super) fn new(host: &str, port: u16, options: TlsOptions) -> Result<Self, TlsProblem> {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = options.server_name.as_deref().unwrap_or(&host);
        let name = ServerName::try_from(name.to_owned()).map_err(|_| TlsProblem::Name { name: name.to_owned() })?;
        Ok(Self { host, port, name, options, last: Mutex::default() })
    }

    fn made(&self) -> Result<Made, TlsProblem> {
        let contents = Contents::read(&self.options)?;
        let mut last = self.last.lock();
        if let Some((_, made)) = last.as_ref().filter(|(before, _)| *before == contents) {
            return Ok(made.clone());
        }
        let asked = Arc::<AtomicBool>::default();
        let made = Made { config: Arc::new(contents.config(&self.options, &asked)?), asked };
        *last = Some((contents, made.clone()));
        Ok(made)
    }

    /// A connection whose handshake is done.
    pub(super) async fn dial(&self) -> Result<TokioIo<Answered>, BoxError> {
        // First of all: what cannot work is said whether or not somebody is there.
        let made = self.made()?;
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await?;
        tcp.set_nodelay(true)?;
        let connector = TlsConnector::from(made.config);
        let problem = |error| TlsProblem::of(&error, &self.name, &self.options);
        let tls = connector.connect(self.name.clone(), tcp).await.map_err(problem)?;
        let mut answered = Answered::new(tls);
        // With TLS 1.3 the client is done before the coordinator has looked at its certificate.
        if made.asked.load(Relaxed) {
            let verdict = tokio::time::timeout(VERDICT_TIMEOUT, answered.hear()).await;
            verdict.unwrap_or(Ok(())).map_err(problem)?;
        }
        Ok(TokioIo::new(answered))
    }
}
