//! The accept loop: bounded, and patient when the system has no descriptors left (tonic's own spins then).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_stream::stream;
use futures::Stream;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::either::Either;

use super::authority::{AuthorityMender, SocketAuthority};
use super::config::Deadlines;
use super::connection::{Connection, Socket};
use super::connections::{ConnectionCounters, NotLetIn};
use super::gate::{Gate, Pass};
use super::greeting::{handshake, turn_away, turn_away_local};
use super::tls::{Port, ServerTls};

/// How long to wait after a failed accept: first, and at most.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Where connections come from.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) tcp: TcpListener,
    pub(super) unix: Option<(UnixListener, SocketAuthority)>,
}

type Accepted = Either<TcpStream, UnixStream>;

impl Listeners {
    async fn accept(&self) -> io::Result<Accepted> {
        let Some((unix, _)) = &self.unix else {
            return self.tcp.accept().await.map(|(tcp, _)| Either::Left(tcp));
        };
        tokio::select! {
            tcp = self.tcp.accept() => tcp.map(|(tcp, _)| Either::Left(tcp)),
            unix = unix.accept() => unix.map(|(unix, _)| Either::Right(unix)),
        }
    }

    fn mender(&self) -> Option<AuthorityMender> {
        self.unix.as_ref().map(|(_, authority)| AuthorityMender::new(authority.clone()))
    }
}

/// How connections are let in.
#[derive(Debug, Clone)]
pub(super) struct Entrance {
    pub(super) gate: Arc<Gate>,
    /// None: plain.
    pub(super) tls: Option<Arc<ServerTls>>,
    pub(super) deadlines: Deadlines,
    pub(super) counters: Arc<ConnectionCounters>,
}

impl Entrance {
    /// A TCP connection's pass. None: it was refused, or is gone.
    pub(super) fn let_in(&self, tcp: &TcpStream, slot: OwnedSemaphorePermit) -> Option<Pass> {
        let peer = match tcp.set_nodelay(true).and_then(|()| tcp.peer_addr()) {
            Ok(peer) => peer,
            Err(error) => {
                tracing::debug!(%error, "a connection was gone before it began");
                return None;
            }
        };
        let pass = self.gate.pass(slot, Some(peer.ip()));
        if pass.is_none() {
            self.counters.refuse(NotLetIn::PeerLimit);
            tracing::debug!(%peer, "refused a connection: its address has connections_per_peer_max open");
        }
        pass
    }
}

/// Waits after accepts that have failed: longer with each in a row, so that a lack of descriptors costs no CPU.
#[derive(Debug, Default)]
pub(super) struct Setback {
    pause: Option<Duration>,
}

impl Setback {
    pub(super) fn over(&mut self) {
        self.pause = None;
    }

    /// Takes note of a failed accept; what is to be waited for.
    pub(super) async fn wait(&mut self, error: &io::Error, counters: &ConnectionCounters) {
        counters.refuse(NotLetIn::NoDescriptors);
        let pause = match self.pause {
            None => {
                tracing::warn!(%error, "cannot accept a connection; trying again until it can. See `ulimit -n`");
                ACCEPT_PAUSE
            }
            Some(pause) => (pause * 2).min(ACCEPT_PAUSE_MAX),
        };
        self.pause = Some(pause);
        tokio::time::sleep(pause).await;
    }
}

/// The connections of all listeners, as many as the gate lets in: further ones are told so. Those of TCP come once their
/// handshake is done, if there is TLS.
pub(super) fn connections(listeners: Listeners, entrance: Entrance) -> impl Stream<Item = io::Result<Connection>> {
    entrance.counters.set_open_max(entrance.gate.connections_max());
    stream! {
        let mut handshakes = JoinSet::new();
        let mut setback = Setback::default();
        loop {
            let ready = tokio::select! {
                Some(done) = handshakes.join_next() => done.ok().flatten(),
                begun = next(&listeners, &entrance, &mut setback) => match begun {
                    Begun::Ready(connection) => Some(connection),
                    Begun::Tls(tls, tcp, pass) => {
                        handshakes.spawn(secure(tls, tcp, pass, entrance.clone()));
                        None
                    }
                    Begun::Full(accepted, porter) => {
                        handshakes.spawn(send_away(accepted, porter, entrance.clone()));
                        None
                    }
                    Begun::Nothing => None,
                    Begun::Closed => return,
                },
            };
            if let Some(connection) = ready {
                yield Ok(*connection);
            }
        }
    }
}

enum Begun {
    Ready(Box<Connection>),
    Tls(Arc<ServerTls>, TcpStream, Pass),
    Full(Accepted, OwnedSemaphorePermit),
    Nothing,
    Closed,
}

/// # Cancel safety
/// No connection is lost: what comes after an accept waits for nothing, but where there is none.
async fn next(listeners: &Listeners, entrance: &Entrance, setback: &mut Setback) -> Begun {
    let Some(porter) = entrance.gate.porter().await else { return Begun::Closed };
    let accepted = match listeners.accept().await {
        Ok(accepted) => accepted,
        Err(error) => {
            setback.wait(&error, &entrance.counters).await;
            return Begun::Nothing;
        }
    };
    setback.over();
    let Some(slot) = entrance.gate.slot() else { return Begun::Full(accepted, porter) };
    let ready = |socket, mender, pass| {
        let times = (Instant::now(), entrance.deadlines);
        Begun::Ready(Box::new(Connection::new(socket, mender, pass, &entrance.counters, times)))
    };
    match (accepted, &entrance.tls) {
        (Either::Right(unix), _) => match entrance.gate.pass(slot, None) {
            Some(pass) => ready(Either::Left(Either::Right(unix)), listeners.mender(), pass),
            None => Begun::Nothing,
        },
        (Either::Left(tcp), tls) => match (entrance.let_in(&tcp, slot), tls) {
            (None, _) => Begun::Nothing,
            (Some(pass), None) => ready(Either::Left(Either::Left(tcp)), None, pass),
            (Some(pass), Some(tls)) => Begun::Tls(tls.clone(), tcp, pass),
        },
    }
}

/// Tells one that there is no room for it.
async fn send_away(accepted: Accepted, _porter: OwnedSemaphorePermit, entrance: Entrance) -> Option<Box<Connection>> {
    entrance.counters.refuse(NotLetIn::Full);
    match accepted {
        Either::Left(tcp) => turn_away(tcp, entrance.tls.as_deref(), Port::Calls).await,
        Either::Right(unix) => turn_away_local(unix).await,
    }
    None
}

/// A connection after its handshake; none if that failed.
async fn secure(tls: Arc<ServerTls>, tcp: TcpStream, pass: Pass, entrance: Entrance) -> Option<Box<Connection>> {
    let since = Instant::now();
    match handshake(tcp, &tls, Port::Calls, since + entrance.deadlines.greeting).await {
        Ok(stream) => {
            let socket: Socket = Either::Right(Box::new(stream));
            Some(Box::new(Connection::new(socket, None, pass, &entrance.counters, (since, entrance.deadlines))))
        }
        Err(refusal) => {
            entrance.counters.refuse(refusal);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const PREFACE_BYTES: usize = 24;
    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(60);

    /// What becomes of a connection that says so many bytes and then nothing.
    async fn is_closed(said: usize, calls: bool, (greeting, first_call): (Duration, Duration)) -> bool {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("is bound");
        let counters = Arc::<ConnectionCounters>::default();
        let deadlines = Deadlines { greeting, first_call };
        let entrance = Entrance { gate: Arc::new(Gate::new(10, 10)), tls: None, deadlines, counters: counters.clone() };
        let mut incoming = std::pin::pin!(connections(Listeners { tcp: listener, unix: None }, entrance));
        let (client, server) = tokio::join!(TcpStream::connect(address), incoming.next());
        let (mut client, mut server) = (client.expect("connects"), server.expect("one").expect("is open"));
        client.write_all(&vec![b'x'; said]).await.expect("sends");
        let mut heard = vec![0; said];
        server.read_exact(&mut heard).await.expect("hears it");
        if calls {
            tonic::transport::server::Connected::connect_info(&server).calls();
        }
        let more = tokio::time::timeout(SHORT * 4, server.read_u8()).await;
        let closed = matches!(more, Ok(Err(_)));
        assert_eq!(counters.refused(NotLetIn::Silent), u64::from(closed));
        closed
    }

    #[tokio::test]
    async fn a_connection_that_says_too_little_is_closed_and_one_that_calls_is_not() {
        assert!(is_closed(0, false, (SHORT, LONG)).await);
        assert!(is_closed(PREFACE_BYTES - 1, false, (SHORT, LONG)).await);
        assert!(!is_closed(PREFACE_BYTES, false, (SHORT, LONG)).await);
        assert!(is_closed(PREFACE_BYTES, false, (SHORT, SHORT)).await, "HTTP/2 and no call");
        assert!(!is_closed(PREFACE_BYTES, true, (SHORT, SHORT)).await);
    }
}
