//! TCP and the Unix socket: what must hold on each, is tested on each.

use std::path::Path;

use bowstring::server::{Server, ServerConfig, UnixSocket};
use tonic::transport::{Channel, Endpoint};

/// How a test's clients reach its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Unix,
}

/// Makes two tests of each function: one for each transport.
macro_rules! on_each_transport {
    ($($name:ident),+ $(,)?) => {
        mod over_tcp {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(crate::transport::Transport::Tcp).await;
            })+
        }
        mod over_unix {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(crate::transport::Transport::Unix).await;
            })+
        }
    };
}

pub(crate) use on_each_transport;

impl Transport {
    /// On free ports, without HTTP; over TCP alone, so that no client finds another way.
    pub(crate) async fn server(self, config: ServerConfig) -> Server {
        Server::start(self.config(ServerConfig { http: None, ..config })).await.expect("starts on a free port")
    }

    pub(crate) fn config(self, config: ServerConfig) -> ServerConfig {
        let unix = if self == Self::Tcp { UnixSocket::Off } else { UnixSocket::Auto };
        ServerConfig { listen: ([127, 0, 0, 1], 0).into(), unix, ..config }
    }

    pub(crate) fn url(self, server: &Server) -> String {
        match self {
            Self::Tcp => server.url(),
            Self::Unix => server.unix_url().expect("has a Unix socket"),
        }
    }

    /// An endpoint for clients that are not bowstring's.
    pub(crate) fn endpoint(self, server: &Server) -> Endpoint {
        match self {
            Self::Tcp => Endpoint::from_shared(format!("http://{}", server.listen_addr())).expect("a url"),
            Self::Unix => unix_endpoint(server.unix_path().expect("has a Unix socket")),
        }
    }

    pub(crate) async fn channel(self, server: &Server) -> Channel {
        self.endpoint(server).connect().await.expect("the server is there")
    }

    /// A server with its defaults, and a connection to it.
    pub(crate) async fn started(self) -> (Server, Channel) {
        let server = self.server(ServerConfig::default()).await;
        let channel = self.channel(&server).await;
        (server, channel)
    }
}

pub(crate) fn unix_endpoint(path: &Path) -> Endpoint {
    Endpoint::from_shared(format!("unix://{}", path.display())).expect("a url")
}
