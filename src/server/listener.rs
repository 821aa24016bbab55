//! The accept loop: bounded, and patient when the system has no descriptors left (tonic's own spins then).

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_stream::stream;
use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_util::either::Either;
use tonic::transport::server::Connected;

use super::authority::{AuthorityMender, SocketAuthority};
use super::coordinator::{Coordinator, OpenConnection};

/// Length of what an HTTP/2 client says first.
const PREFACE_BYTES: usize = 24;
/// How long it may take to say so.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where connections come from.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) tcp: TcpListener,
    pub(super) unix: Option<(UnixListener, SocketAuthority)>,
}

type Socket = Either<TcpStream, UnixStream>;

impl Listeners {
    async fn accept(&self) -> io::Result<Socket> {
        let Some((unix, _)) = &self.unix else {
            return self.tcp.accept().await.map(|(tcp, _)| Either::Left(tcp));
        };
        tokio::select! {
            tcp = self.tcp.accept() => tcp.map(|(tcp, _)| Either::Left(tcp)),
            unix = unix.accept() => unix.map(|(unix, _)| Either::Right(unix)),
        }
    }

    fn mender(&self, socket: &Socket) -> Option<AuthorityMender> {
        match (socket, &self.unix) {
            (Either::Right(_), Some((_, authority))) => Some(AuthorityMender::new(authority.clone())),
            (Either::Left(_), _) | (_, None) => None,
        }
    }
}

/// The connections of all listeners, at most `connections_max` together: further ones wait in the system's backlog.
pub(super) fn connections(
    listeners: Listeners,
    connections_max: usize,
    coordinator: Arc<Coordinator>,
) -> impl Stream<Item = io::Result<Connection>> {
    let slots = Arc::new(Semaphore::new(connections_max));
    stream! {
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            match listeners.accept().await {
                Ok(socket) => {
                    if let Either::Left(tcp) = &socket && let Err(error) = tcp.set_nodelay(true) {
                        tracing::debug!(%error, "a connection was gone before it began");
                        continue;
                    }
                    let counted = coordinator.count_connection(matches!(socket, Either::Right(_)));
                    let mender = listeners.mender(&socket);
                    yield Ok(Connection { socket, mender, greeting: Some(Greeting::new()), _slot: slot, _counted: counted });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection; trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// A connection that is counted while it is open.
#[derive(Debug)]
pub(super) struct Connection {
    socket: Socket,
    /// Of those that came by the Unix socket.
    mender: Option<AuthorityMender>,
    /// None once HTTP/2 has begun; from then on its own pings find out who is gone.
    greeting: Option<Greeting>,
    _slot: OwnedSemaphorePermit,
    _counted: OpenConnection,
}

/// What a client has to say first, and until when: connections that say nothing would fill all slots.
#[derive(Debug)]
struct Greeting {
    bytes_left: usize,
    deadline: Pin<Box<Sleep>>,
}

impl Greeting {
    fn new() -> Self {
        Self { bytes_left: PREFACE_BYTES, deadline: Box::pin(tokio::time::sleep(GREETING_TIMEOUT)) }
    }
}

/// Who is connected.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// The peer's address; one that came by the Unix socket has none.
    pub(super) address: Option<SocketAddr>,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        let Either::Left(tcp) = &self.socket else { return Peer { address: None } };
        Peer { address: tcp.peer_addr().ok() }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(context, buffer);
        if let Some(mender) = &mut self.mender {
            mender.pass(&mut buffer.filled_mut()[before..]);
        }
        let Some(greeting) = &mut self.greeting else { return read };
        if read.is_pending() {
            return greeting.deadline.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()));
        }
        greeting.bytes_left = greeting.bytes_left.saturating_sub(buffer.filled().len() - before);
        if greeting.bytes_left == 0 {
            self.greeting = None;
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::config::ServerConfig;
    use super::*;
    use crate::storage::{Spool, SpoolOptions};

    const SHORT: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn a_connection_that_says_too_little_is_closed_and_one_that_has_begun_is_not() {
        let spool = Spool::new(SpoolOptions::default()).expect("the system's folder is there");
        let coordinator = Coordinator::new(ServerConfig::default().coordinator_options(), spool);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("is bound");
        let mut incoming = std::pin::pin!(connections(Listeners { tcp: listener, unix: None }, 10, coordinator));
        for (said, closes) in [(0, true), (PREFACE_BYTES - 1, true), (PREFACE_BYTES, false)] {
            let (client, server) = tokio::join!(TcpStream::connect(address), incoming.next());
            let (mut client, mut server) = (client.expect("connects"), server.expect("one").expect("is open"));
            server.greeting.as_mut().expect("nothing was said yet").deadline = Box::pin(tokio::time::sleep(SHORT));
            client.write_all(&vec![b'x'; said]).await.expect("sends");
            let mut heard = vec![0; said];
            server.read_exact(&mut heard).await.expect("hears it");
            let more = tokio::time::timeout(SHORT * 4, server.read_u8()).await;
            assert_eq!(matches!(more, Ok(Err(_))), closes, "{said} bytes: {more:?}");
        }
    }
}
