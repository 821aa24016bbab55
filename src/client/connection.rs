//! Reaching a coordinator: URL, HTTP/2 settings, connect with retry.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint};
use tower::{BoxError, Service, service_fn};

use super::error::chain;
use super::local::{DataChannel, LocalSocket};
use super::retry::{Backoff, now};
use super::tls::{Answered, TlsDialer, TlsProblem};
use super::token::Credentials;
use super::transport::{Process, ProcessService, Transport};
use super::{ClientOptions, Error};

/// HTTP/2 frames of up to 1 MiB: more than double the relay's speed against the 16 KiB default.
const FRAME_BYTES: u32 = 1 << 20;
/// What one stream may have under way.
const STREAM_WINDOW: u32 = 16 << 20;
/// What one connection may have under way; also h2's budget for small frames, which grows with it.
const CONNECTION_WINDOW: u32 = 32 << 20;
/// One attempt to connect: a SYN that is lost must not eat the whole deadline.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// A quiet connection is pinged this often, so that one that died silently is noticed.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// Connects to an endpoint in a way of its own.
pub type Dial = Arc<dyn Fn(Endpoint) -> Pin<Box<dyn Future<Output = Result<Channel, tonic::transport::Error>> + Send>> + Send + Sync>;

/// Makes connections to one coordinator.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) url: Arc<str>,
    pub(super) options: Arc<ClientOptions>,
    endpoint: Endpoint,
    /// The coordinator itself, if it is in this process.
    process: Option<Process>,
    /// How sockets are opened, if not as the system does.
    dial: Option<Dial>,
    /// None where the URL is plain.
    tls: Option<Arc<TlsDialer>>,
    /// None where there is nothing to look for: the options say no.
    local: Option<Arc<LocalSocket>>,
    credentials: Option<Arc<Credentials>>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("url", &self.url).field("is_within_process", &self.process.is_some()).finish_non_exhaustive()
    }
}

impl Connector {
    pub(super) fn new(url: &str, options: ClientOptions) -> Result<Self, Error> {
        let address = Address::parse(url)?;
        let credentials = Credentials::new(&options.token)?.map(Arc::new);
        check_clear(url, &address, &options, credentials.as_ref())?;
        Self::reaching(url, &address, options, credentials)
    }

    fn reaching(url: &str, address: &Address<'_>, options: ClientOptions, credentials: Option<Arc<Credentials>>) -> Result<Self, Error> {
        let unparsed = || Error::Url { url: url.to_owned(), reason: "it cannot be parsed" };
        let of_tcp = |host, port| options.local_socket.then(|| Arc::new(LocalSocket::of_tcp(host, port)));
        let (endpoint, tls, local) = match *address {
            Address::Unix { path } => (unix_endpoint(path), None, options.shared_memory.then(|| Arc::new(LocalSocket::of_unix()))),
            Address::Tcp { .. } if !options.tls.is_default() => {
                let reason = "options of TLS are given, and it is a plain one";
                return Err(Error::Url { url: url.to_owned(), reason });
            }
            Address::Tcp { host, port } => (Endpoint::from_shared(format!("http://{host}:{port}")), None, of_tcp(host, port)),
            Address::Tls { host, port } => {
                let failed = |problem| Error::Tls { url: url.into(), problem };
                let dialer = TlsDialer::new(host, port, options.tls.clone()).map_err(failed)?;
                let origin = format!("https://{host}:{port}").parse().map_err(|_| unparsed())?;
                let endpoint = Endpoint::from_shared(format!("http://{host}:{port}")).map(|endpoint| endpoint.origin(origin));
                (endpoint, Some(Arc::new(dialer)), of_tcp(host, port))
            }
        };
        let endpoint = configured(endpoint.map_err(|_| unparsed())?, &options);
        Ok(Self { url: url.into(), options: Arc::new(options), endpoint, process: None, dial: None, tls, local, credentials })
    }

    /// To a coordinator in this process, which has this URL for all others.
    pub(super) fn within_process(url: &str, process: ProcessService, options: ClientOptions) -> Result<Self, Error> {
        let address = Address::parse(url)?;
        // What its successor elsewhere may not be shown in clear is left out there, and nobody else sees it here.
        let credentials = Credentials::new(&options.token)?.map(Arc::new);
        let credentials = credentials.filter(|all| !all.is_of_environment || options.allow_plaintext_token || address.is_private());
        check_clear(url, &address, &options, credentials.as_ref())?;
        Ok(Self { process: Some(Process::new(process)), local: None, ..Self::reaching(url, &address, options, credentials)? })
    }

    /// By a network of its own: there is no other way on this host.
    pub(super) fn by(url: &str, dial: Dial, options: ClientOptions) -> Result<Self, Error> {
        Ok(Self { dial: Some(dial), local: None, ..Self::new(url, options)? })
    }

    /// The token that calls show; none: they show none.
    pub(super) fn credentials(&self) -> Option<&Arc<Credentials>> {
        self.credentials.as_ref()
    }

    /// None once the coordinator in this process has ended.
    fn transport_within_process(&self) -> Option<Transport> {
        let process = self.process.as_ref().filter(|process| !process.is_gone())?;
        let channel = match &self.tls {
            Some(tls) => self.endpoint.connect_with_connector_lazy(dialing(tls)),
            None => self.endpoint.connect_lazy(),
        };
        Some(Transport::Process(process.clone(), channel))
    }

    /// One attempt at a connection of its own for data, by the Unix socket if the coordinator has one on this host.
    pub(super) async fn connect_data(&self) -> Result<DataChannel, Error> {
        match (self.transport_within_process(), &self.local) {
            (Some(transport), _) => Ok(DataChannel { transport, links: None }),
            (None, Some(local)) => local.connect(self).await,
            (None, None) => self.connect_once().await.map(DataChannel::from),
        }
    }

    /// A connection broke: what is known of the coordinator's Unix socket may be its predecessor's.
    pub(super) fn connection_broke(&self) {
        if let Some(local) = &self.local {
            local.forget();
        }
    }

    /// One attempt at a connection of its own. Every data stream has one: a slow reader on a shared connection
    /// can stall its neighbours.
    pub(super) async fn connect_once(&self) -> Result<Channel, Error> {
        // Around the whole of it: the connect timeout does not cover name resolution and the HTTP/2 handshake.
        let connected = async {
            match (&self.dial, &self.tls) {
                (Some(dial), _) => dial(self.endpoint.clone()).await,
                (None, Some(tls)) => self.endpoint.connect_with_connector(dialing(tls)).await,
                (None, None) => self.endpoint.connect().await,
            }
        };
        match tokio::time::timeout(ATTEMPT_TIMEOUT * 2, connected).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => match TlsProblem::behind(&error) {
                Some(problem) => Err(Error::Tls { url: self.url.clone(), problem }),
                None => Err(self.unreachable(chain(&error))),
            },
            Err(_) => Err(self.unreachable(format!("no answer within {:?}", ATTEMPT_TIMEOUT * 2))),
        }
    }

    /// Tries to connect until `connect_timeout` has passed.
    pub(super) async fn connect(&self) -> Result<Transport, Error> {
        if let Some(transport) = self.transport_within_process() {
            return Ok(transport);
        }
        let mut backoff = Backoff::new(self.options.connect_timeout);
        let deadline = now() + self.options.connect_timeout;
        loop {
            let attempt = tokio::time::timeout_at(deadline.into(), self.connect_once()).await;
            let result = attempt.unwrap_or_else(|_| Err(self.unreachable(format!("no answer within {:?}", self.options.connect_timeout))));
            match result {
                Ok(channel) => return Ok(Transport::Connection(channel)),
                Err(error) => backoff.wait(error).await?,
            }
        }
    }

    fn unreachable(&self, reason: String) -> Error {
        Error::Unreachable { url: self.url.clone(), reason: reason.into() }
    }
}

/// As tonic wants it: for the first connection, and for those after it.
fn dialing(
    tls: &Arc<TlsDialer>,
) -> impl Service<Uri, Response = TokioIo<Answered>, Error = BoxError, Future: Send> + Clone + Send + Sync + use<> {
    let tls = tls.clone();
    service_fn(move |_: Uri| {
        let tls = tls.clone();
        async move { tls.dial().await }
    })
}

/// A token goes in clear to this host alone, unless that is asked for.
fn check_clear(url: &str, address: &Address<'_>, options: &ClientOptions, credentials: Option<&Arc<Credentials>>) -> Result<(), Error> {
    if credentials.is_none() || options.allow_plaintext_token || address.is_private() {
        return Ok(());
    }
    let text = "in clear, for everybody on the way to see; connect with grpc+tls://, or allow it with allow_plaintext_token";
    Err(Error::invalid(format!("the token would go to {url} {text}")))
}

/// The settings that all connections have, whichever way they take.
pub(super) fn configured(endpoint: Endpoint, options: &ClientOptions) -> Endpoint {
    endpoint
        .tcp_nodelay(true)
        .connect_timeout(ATTEMPT_TIMEOUT)
        .max_frame_size(FRAME_BYTES)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(options.ping_timeout)
        .keep_alive_while_idle(true)
}

pub(super) fn unix_endpoint(path: &str) -> Result<Endpoint, tonic::transport::Error> {
    Endpoint::from_shared(format!("unix://{path}"))
}

/// What a URL names.
#[derive(Debug, PartialEq, Eq)]
enum Address<'a> {
    Tcp { host: &'a str, port: u16 },
    Tls { host: &'a str, port: u16 },
    Unix { path: &'a str },
}

impl<'a> Address<'a> {
    /// Whether what is sent there goes in TLS, or stays on this host: the address says so itself, whatever names are resolved to.
    fn is_private(&self) -> bool {
        match self {
            Self::Unix { .. } | Self::Tls { .. } => true,
            Self::Tcp { host, .. } => {
                let host = host.trim_start_matches('[').trim_end_matches(']');
                host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            }
        }
    }

    fn parse(url: &'a str) -> Result<Self, Error> {
        let wrong = |reason| Error::Url { url: url.to_owned(), reason };
        let (address, is_tls) = match url.split_once("://") {
            Some(("grpc" | "grpc+tcp" | "http", address)) => (address, false),
            Some(("grpc+tls" | "https", address)) => (address, true),
            Some(("grpc+unix" | "unix", path)) if path.starts_with('/') => return Ok(Self::Unix { path }),
            Some(("grpc+unix" | "unix", _)) => return Err(wrong("its path is not absolute")),
            Some(_) => return Err(wrong("its scheme is not grpc")),
            None => (url, false),
        };
        let address = address.trim_end_matches('/');
        if address.contains('/') {
            return Err(wrong("it has a path"));
        }
        let (host, port) = address.rsplit_once(':').unwrap_or_default();
        match port.parse() {
            Ok(port) if port != 0 && !host.is_empty() && is_tls => Ok(Self::Tls { host, port }),
            Ok(port) if port != 0 && !host.is_empty() => Ok(Self::Tcp { host, port }),
            Ok(_) | Err(_) => Err(wrong("it names no host and port")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::TokenSource;
    use super::*;
    use crate::wire::secret::Secret;

    #[test]
    fn a_url_names_a_host_and_a_port() {
        for good in ["grpc://h:1", "grpc+tcp://127.0.0.1:8815/", "h:1", "grpc://[::1]:8815"] {
            assert!(matches!(Address::parse(good), Ok(Address::Tcp { .. })), "{good}");
        }
        for good in ["grpc+tls://h:1", "https://[::1]:8815/"] {
            assert!(matches!(Address::parse(good), Ok(Address::Tls { .. })), "{good}");
        }
        for bad in ["grpc://h", "grpc://:1", "grpc://h:0", "grpc://h:70000", "ftp://h:1", "grpc+tls://h", "grpc://h:1/path", ""] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_goes_in_clear_to_this_host_alone() {
        let connector = |url: &str, allow_plaintext_token| {
            let token = TokenSource::Fixed(Secret::new("canary"));
            Connector::new(url, ClientOptions { token, allow_plaintext_token, ..ClientOptions::default() })
        };
        for url in ["grpc://127.0.0.1:1", "grpc://[::1]:1", "localhost:1", "grpc+unix:///tmp/s", "grpc://127.9.9.9:1"] {
            assert!(connector(url, false).is_ok(), "{url}");
        }
        for url in ["grpc://192.0.2.1:1", "grpc://h:1", "grpc://localhost.example:1", "grpc://0.0.0.0:1"] {
            let error = connector(url, false).expect_err(url).to_string();
            assert!(error.contains("in clear") && error.contains(url) && !error.contains("canary"), "{error}");
            assert!(connector(url, true).is_ok(), "{url}");
        }
    }

    #[test]
    fn a_url_of_a_unix_socket_names_an_absolute_path() {
        for (good, path) in [("grpc+unix:///tmp/s", "/tmp/s"), ("unix:///with space/s", "/with space/s")] {
            assert_eq!(Address::parse(good).expect("a URL"), Address::Unix { path });
        }
        for bad in ["grpc+unix://tmp/s", "unix://", "grpc+unix:/tmp/s"] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn connecting_to_nobody_fails_within_the_timeout_and_says_where() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
        let options = ClientOptions { connect_timeout: Duration::from_millis(200), ..ClientOptions::default() };
        let start = now();
        let error =
            Connector::new(&format!("grpc://127.0.0.1:{port}"), options).expect("a good URL").connect().await.expect_err("nobody there");
        assert!(start.elapsed() < Duration::from_secs(2));
        assert!(error.to_string().contains(&format!("grpc://127.0.0.1:{port}")), "{error}");
    }
}
