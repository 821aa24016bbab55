//! A connection to the data and control plane, and what it has to say until when: connections that say nothing would fill all slots.

use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, Sleep};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tonic::transport::server::Connected;

use super::access::Seats;
use super::authority::AuthorityMender;
use super::config::Deadlines;
use super::connections::{ConnectionCounters, NotLetIn, OpenConnection};
use super::gate::Pass;
use super::tls::{PeerCertificate, certificate_of};

/// Length of what an HTTP/2 client says first.
const PREFACE_BYTES: usize = 24;

/// What bytes come by: once there is TLS, everything but the Unix socket has it.
pub(super) type Socket = Either<Either<TcpStream, UnixStream>, Box<TlsStream<TcpStream>>>;

/// A connection that is counted while it is open.
#[derive(Debug)]
pub(super) struct Connection {
    socket: Socket,
    /// Of those that came by the Unix socket.
    mender: Option<AuthorityMender>,
    /// None once the first call has begun; from then on HTTP/2's own pings find out who is gone.
    greeting: Option<Greeting>,
    peer: Peer,
    counters: Arc<ConnectionCounters>,
    _pass: Pass,
    _counted: OpenConnection,
}

/// What a client has to say first, and until when: HTTP/2's preface, then the first call's headers, all of them.
#[derive(Debug)]
struct Greeting {
    bytes_left: usize,
    first_call_deadline: Instant,
    deadline: Pin<Box<Sleep>>,
}

/// Who is connected.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// The peer's address; one that came by the Unix socket has none.
    pub(super) address: Option<SocketAddr>,
    /// What it has shown of itself, checked; only with `client_ca`.
    pub(super) certificate: Option<Arc<PeerCertificate>>,
    has_called: Arc<AtomicBool>,
    /// Of whom it is one, where principals have quotas of connections.
    pub(super) seats: Arc<Seats>,
}

impl Peer {
    /// A call has begun: the connection is in use.
    pub(super) fn calls(&self) {
        self.has_called.store(true, Relaxed);
    }
}

impl Connection {
    /// `since`: when it was accepted.
    pub(super) fn new(
        socket: Socket,
        mender: Option<AuthorityMender>,
        pass: Pass,
        counters: &Arc<ConnectionCounters>,
        (since, deadlines): (Instant, Deadlines),
    ) -> Self {
        let (address, certificate) = match &socket {
            Either::Left(Either::Left(tcp)) => (tcp.peer_addr().ok(), None),
            Either::Left(Either::Right(_)) => (None, None),
            Either::Right(tls) => {
                let (tcp, tls) = tls.get_ref();
                (tcp.peer_addr().ok(), certificate_of(tls).map(Arc::new))
            }
        };
        let is_unix = matches!(socket, Either::Left(Either::Right(_)));
        let greeting = Greeting {
            bytes_left: PREFACE_BYTES,
            first_call_deadline: since + deadlines.first_call,
            deadline: Box::pin(tokio::time::sleep_until(since + deadlines.greeting)),
        };
        Self {
            socket,
            mender,
            greeting: Some(greeting),
            peer: Peer { address, certificate, has_called: Arc::default(), seats: Arc::default() },
            counters: counters.clone(),
            _pass: pass,
            _counted: counters.count(is_unix),
        }
    }

    /// Passes what was just read; an error if the client has kept silent for too long.
    fn greet(&mut self, bytes: usize, context: &mut Context<'_>) -> io::Result<()> {
        let Some(greeting) = &mut self.greeting else { return Ok(()) };
        if greeting.bytes_left > 0 {
            greeting.bytes_left = greeting.bytes_left.saturating_sub(bytes);
            if greeting.bytes_left == 0 {
                let until = greeting.first_call_deadline;
                greeting.deadline.as_mut().reset(until);
            }
        } else if self.peer.has_called.load(Relaxed) {
            self.greeting = None;
            return Ok(());
        }
        if greeting.deadline.as_mut().poll(context).is_ready() {
            self.counters.refuse(NotLetIn::Silent);
            self.greeting = None;
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(context, buffer);
        if let Some(mender) = &mut self.mender {
            mender.pass(&mut buffer.filled_mut()[before..]);
        }
        match self.greet(buffer.filled().len() - before, context) {
            Ok(()) => read,
            Err(error) => Poll::Ready(Err(error)),
        }
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
