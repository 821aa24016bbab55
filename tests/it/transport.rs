//! TCP, the Unix socket and shared memory: what must hold on each, is tested on each.

use std::path::Path;

use bowstring::client::{Client, ClientOptions};
use bowstring::server::{Server, ServerConfig, UnixSocket};
use tonic::transport::{Channel, Endpoint};

use super::client_support::connect;

/// How a test's clients reach its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Unix,
    /// The Unix socket, and shared memory for large bodies.
    Shared,
    /// No socket at all.
    Process,
}

/// Makes a test of each function for each of the transports that are named.
macro_rules! on {
    ($module:ident, $transport:ident, $($name:ident),+) => {
        mod $module {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(crate::transport::Transport::$transport).await;
            })+
        }
    };
}

/// For clients that are not bowstring's: they have no shared memory.
macro_rules! on_each_socket {
    ($($name:ident),+ $(,)?) => {
        crate::transport::on!(over_tcp, Tcp, $($name),+);
        crate::transport::on!(over_unix, Unix, $($name),+);
    };
}

/// For what is about connections.
macro_rules! on_each_connection {
    ($($name:ident),+ $(,)?) => {
        crate::transport::on_each_socket!($($name),+);
        crate::transport::on!(over_shared_memory, Shared, $($name),+);
    };
}

macro_rules! on_each_transport {
    ($($name:ident),+ $(,)?) => {
        crate::transport::on_each_connection!($($name),+);
        crate::transport::on!(within_the_process, Process, $($name),+);
    };
}

pub(crate) use {on, on_each_connection, on_each_socket, on_each_transport};

impl Transport {
    /// On free ports, without HTTP; over TCP alone, so that no client finds another way.
    pub(crate) async fn server(self, config: ServerConfig) -> Server {
        Server::start(self.config(ServerConfig { http: None, ..config })).await.expect("starts on a free port")
    }

    pub(crate) fn config(self, config: ServerConfig) -> ServerConfig {
        let unix = if matches!(self, Self::Tcp | Self::Process) { UnixSocket::Off } else { UnixSocket::Auto };
        ServerConfig { listen: ([127, 0, 0, 1], 0).into(), unix, shared_memory: self == Self::Shared, ..config }
    }

    /// A client that comes this way.
    pub(crate) async fn client(self, server: &Server) -> Client {
        match self {
            Self::Process => Client::within_process(&server.url(), server.service(), ClientOptions::default()).await.expect("is here"),
            Self::Tcp | Self::Unix | Self::Shared => connect(&self.url(server)).await,
        }
    }

    pub(crate) fn url(self, server: &Server) -> String {
        match self {
            Self::Tcp | Self::Process => server.url(),
            Self::Unix | Self::Shared => server.unix_url().expect("has a Unix socket"),
        }
    }

    /// An endpoint for clients that are not bowstring's.
    pub(crate) fn endpoint(self, server: &Server) -> Endpoint {
        match self {
            Self::Tcp | Self::Process => Endpoint::from_shared(format!("http://{}", server.listen_addr())).expect("a url"),
            Self::Unix | Self::Shared => unix_endpoint(server.unix_path().expect("has a Unix socket")),
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
