//! The coordinator's Unix socket, where it is on this host: found once, checked for each connection.
//!
//! Data goes there, bodies by shared memory if the coordinator takes links; control calls stay with the URL, which is also where a restarted coordinator is found. A path alone
//! proves nothing: a container has its own `/tmp`, a port may be passed on from another host. So the server behind the
//! path is asked for its id. From then on the file stands for it: a socket's file belongs to one listening server, and
//! another server's has another inode or time.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tonic::transport::{Channel, Endpoint};

use super::connection::{Connector, configured, unix_endpoint};
use super::generated::control_client::ControlClient;
use super::shared::LinkAddress;
use super::transport::Transport;
use super::{ClientOptions, Error};
use crate::wire::proto::{DescribeServerRequest, ServerDescription};

/// How long a server may take to say who it is; one that takes longer is reached by TCP.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection for data.
#[derive(Debug)]
pub(super) struct DataChannel {
    pub(super) transport: Transport,
    /// Where links for it are opened; none: bodies go by the channel.
    pub(super) links: Option<LinkAddress>,
}

impl DataChannel {
    pub(super) fn new(channel: Channel, links: Option<LinkAddress>) -> Self {
        Self { transport: Transport::Connection(channel), links }
    }
}

impl From<Channel> for DataChannel {
    fn from(channel: Channel) -> Self {
        Self::new(channel, None)
    }
}

/// How the user has named the coordinator.
#[derive(Debug)]
enum Named {
    Tcp {
        host: String,
        port: u16,
    },
    /// By the Unix socket itself.
    Unix,
}

/// What is known of the coordinator's Unix socket.
#[derive(Debug)]
pub(super) struct LocalSocket {
    named: Named,
    known: Mutex<Known>,
}

#[derive(Debug, Clone, Default)]
enum Known {
    /// Nobody was asked yet, or a connection has failed since.
    #[default]
    Nothing,
    /// There is none that this process can use.
    Unusable,
    /// There it is.
    Found(Arc<Found>),
    /// The user has named it; here it takes links.
    Given(Option<LinkAddress>),
}

#[derive(Debug)]
struct Found {
    path: String,
    endpoint: Endpoint,
    file: FileMark,
    links: Option<LinkAddress>,
}

/// Tells a file from all others that had or will have its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileMark {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

impl FileMark {
    fn of(path: &str) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self { device: metadata.dev(), inode: metadata.ino(), changed: (metadata.ctime(), metadata.ctime_nsec()) })
    }
}

impl LocalSocket {
    pub(super) fn of_tcp(host: &str, port: u16) -> Self {
        Self { named: Named::Tcp { host: host.to_owned(), port }, known: Mutex::default() }
    }

    pub(super) fn of_unix() -> Self {
        Self { named: Named::Unix, known: Mutex::default() }
    }

    /// A connection broke: the coordinator may have been started anew, with another socket or none.
    pub(super) fn forget(&self) {
        *self.known.lock() = Known::Nothing;
    }

    /// A connection for data: by the socket, or else to the connector's URL. Asks the coordinator at most once until
    /// [`forget`](Self::forget); connections that are begun before it has answered each ask.
    pub(super) async fn connect(&self, connector: &Connector) -> Result<DataChannel, Error> {
        let known = self.known.lock().clone();
        match known {
            Known::Unusable => return connector.connect_once().await.map(DataChannel::from),
            Known::Given(links) => return Ok(DataChannel::new(connector.connect_once().await?, links)),
            Known::Found(found) => {
                if let Some(channel) = found.connect().await {
                    return Ok(DataChannel::new(channel, found.links.clone()));
                }
                tracing::debug!(path = found.path, "the coordinator's Unix socket is gone; asking again");
                self.forget();
            }
            Known::Nothing => {}
        }
        match &self.named {
            Named::Tcp { host, port } => self.find(connector, host, *port).await,
            Named::Unix => {
                let channel = connector.connect_once().await?;
                let links = link_address(describe(channel.clone()).await.as_ref(), &connector.options);
                *self.known.lock() = Known::Given(links.clone());
                Ok(DataChannel::new(channel, links))
            }
        }
    }

    async fn find(&self, connector: &Connector, host: &str, port: u16) -> Result<DataChannel, Error> {
        if !is_here(host).await {
            *self.known.lock() = Known::Unusable;
            return connector.connect_once().await.map(DataChannel::from);
        }
        let channel = connector.connect_once().await?;
        let Some(server) = ask(port, &channel).await else {
            *self.known.lock() = Known::Unusable;
            return Ok(channel.into());
        };
        // One connection at a time: the coordinator may have room for no more.
        drop(channel);
        match Found::verified(&server, &connector.options).await {
            Ok((found, channel)) => {
                tracing::debug!(path = found.path, "data goes by the coordinator's Unix socket");
                let links = found.links.clone();
                *self.known.lock() = Known::Found(Arc::new(found));
                Ok(DataChannel::new(channel, links))
            }
            Err(reason) => {
                tracing::debug!(path = server.unix_path, reason, "data goes by TCP: the Unix socket cannot be used");
                *self.known.lock() = Known::Unusable;
                connector.connect_once().await.map(DataChannel::from)
            }
        }
    }
}

/// What the coordinator says of itself, if it has a socket that may be tried.
async fn ask(port: u16, channel: &Channel) -> Option<ServerDescription> {
    let server = describe(channel.clone()).await?;
    let reason = match server.unix_path.as_str() {
        "" => "it has none",
        _ if server.port != u32::from(port) => "something between passes the connections on, which is left as it is",
        path if FileMark::of(path).is_none() => "its path is not there",
        _ => return Some(server),
    };
    tracing::debug!(reason, "data goes by TCP: the coordinator's Unix socket is not used");
    None
}

/// Where it takes links, if the options allow them.
fn link_address(server: Option<&ServerDescription>, options: &ClientOptions) -> Option<LinkAddress> {
    server.filter(|_| options.shared_memory).and_then(LinkAddress::of)
}

impl Found {
    /// Connects to the path, and makes sure that the server behind it is the one that named it.
    async fn verified(server: &ServerDescription, options: &ClientOptions) -> Result<(Self, Channel), &'static str> {
        let path = server.unix_path.clone();
        let endpoint = configured(unix_endpoint(&path).map_err(|_| "its path cannot be used")?, options);
        let file = FileMark::of(&path).ok_or("its path is not there")?;
        let found = Self { path, endpoint, file, links: link_address(Some(server), options) };
        let channel = found.connect().await.ok_or("nobody answers there")?;
        let there = describe(channel.clone()).await.ok_or("who is there does not say its id")?;
        let same = there.server_id == server.server_id && !there.server_id.is_empty() && found.is_unchanged();
        if same { Ok((found, channel)) } else { Err("another server is there") }
    }

    /// A connection to the very socket that was found.
    async fn connect(&self) -> Option<Channel> {
        if !self.is_unchanged() {
            return None;
        }
        let connected = tokio::time::timeout(ANSWER_TIMEOUT, self.endpoint.connect()).await;
        let channel = connected.ok()?.ok()?;
        // Once more: a file that is the same before and after was the same in between.
        self.is_unchanged().then_some(channel)
    }

    fn is_unchanged(&self) -> bool {
        FileMark::of(&self.path) == Some(self.file)
    }
}

/// Who answers; none if nobody does, or a server that is not asked such things.
async fn describe(channel: Channel) -> Option<ServerDescription> {
    let mut control = ControlClient::new(channel);
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, control.describe_server(DescribeServerRequest {})).await;
    Some(answer.ok()?.ok()?.into_inner())
}

/// Whether the host is this one: a coordinator elsewhere need not be asked.
async fn is_here(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let found: Vec<_> = tokio::net::lookup_host((host, 0)).await.into_iter().flatten().collect();
    found.iter().any(|address| is_own(address.ip()))
}

/// Only an address of this host can be bound to.
fn is_own(address: IpAddr) -> bool {
    address.is_loopback() || UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hosts_of_this_machine_are_told_from_others() {
        for (host, here) in [("127.0.0.1", true), ("[::1]", true), ("localhost", true), ("192.0.2.1", false), ("2001:db8::1", false)] {
            assert_eq!(is_here(host).await, here, "{host}");
        }
    }

    #[test]
    fn a_file_that_is_made_anew_is_another_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        let text = path.to_str().expect("UTF-8");
        assert_eq!(FileMark::of(text), None);
        fs::write(&path, "").expect("writes");
        let first = FileMark::of(text).expect("is there");
        assert_eq!(FileMark::of(text), Some(first));
        fs::rename(&path, folder.path().join("away")).expect("is ours");
        fs::write(&path, "").expect("writes");
        assert_ne!(FileMark::of(text), Some(first));
    }
}
