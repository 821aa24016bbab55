//! Reaching a coordinator: URL, HTTP/2 settings, connect with retry.

use std::sync::Arc;
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use super::error::chain;
use super::retry::{Backoff, now};
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

/// Makes connections to one coordinator.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    pub(super) url: Arc<str>,
    pub(super) options: Arc<ClientOptions>,
    endpoint: Endpoint,
}

impl Connector {
    pub(super) fn new(url: &str, options: ClientOptions) -> Result<Self, Error> {
        let endpoint = Endpoint::from_shared(http_url(url)?)
            .map_err(|_| Error::Url { url: url.to_owned(), reason: "it cannot be parsed" })?
            .tcp_nodelay(true)
            .connect_timeout(ATTEMPT_TIMEOUT)
            .max_frame_size(FRAME_BYTES)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(options.ping_timeout)
            .keep_alive_while_idle(true);
        Ok(Self { url: url.into(), options: Arc::new(options), endpoint })
    }

    /// One attempt at a connection of its own. Every data stream has one: a slow reader on a shared connection
    /// can stall its neighbours.
    pub(super) async fn connect_once(&self) -> Result<Channel, Error> {
        // Around the whole of it: the connect timeout does not cover name resolution and the HTTP/2 handshake.
        match tokio::time::timeout(ATTEMPT_TIMEOUT * 2, self.endpoint.connect()).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => Err(self.unreachable(chain(&error))),
            Err(_) => Err(self.unreachable(format!("no answer within {:?}", ATTEMPT_TIMEOUT * 2))),
        }
    }

    /// Tries to connect until `connect_timeout` has passed.
    pub(super) async fn connect(&self) -> Result<Channel, Error> {
        let mut backoff = Backoff::new(self.options.connect_timeout);
        let deadline = now() + self.options.connect_timeout;
        loop {
            let attempt = tokio::time::timeout_at(deadline.into(), self.connect_once()).await;
            let result = attempt.unwrap_or_else(|_| Err(self.unreachable(format!("no answer within {:?}", self.options.connect_timeout))));
            match result {
                Ok(channel) => return Ok(channel),
                Err(error) => backoff.wait(error).await?,
            }
        }
    }

    fn unreachable(&self, reason: String) -> Error {
        Error::Unreachable { url: self.url.clone(), reason: reason.into() }
    }
}

fn http_url(url: &str) -> Result<String, Error> {
    let wrong = |reason| Error::Url { url: url.to_owned(), reason };
    let address = match url.split_once("://") {
        Some(("grpc" | "grpc+tcp" | "http", address)) => address,
        Some(("grpc+tls" | "https", _)) => return Err(wrong("this version has no TLS")),
        Some(_) => return Err(wrong("its scheme is not grpc")),
        None => url,
    };
    let address = address.trim_end_matches('/');
    if address.contains('/') {
        return Err(wrong("it has a path"));
    }
    match address.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0) => Ok(format!("http://{address}")),
        Some(_) | None => Err(wrong("it names no host and port")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_host_and_a_port() {
        for good in ["grpc://h:1", "grpc+tcp://127.0.0.1:8815/", "h:1", "grpc://[::1]:8815"] {
            assert!(http_url(good).is_ok(), "{good}");
        }
        for bad in ["grpc://h", "grpc://:1", "grpc://h:0", "grpc://h:70000", "ftp://h:1", "grpc+tls://h:1", "grpc://h:1/path", ""] {
            assert!(http_url(bad).is_err(), "{bad}");
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
