//! How a connection begins: the TLS handshake, and what those are told that cannot come in.

use std::future::Future;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::server::TlsStream;

use super::connections::NotLetIn;
use super::tls::{Port, ServerTls};

/// What an HTTP/2 client says first.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Types of HTTP/2's frames, and a SETTINGS frame (4) without any.
const HEADERS: u8 = 1;
const GOAWAY: u8 = 7;
const NO_SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
/// The first byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;
/// What somebody who is sent away may still send, so that closing does not destroy the answer on its way.
const DRAIN_BYTES_MAX: u64 = 64 << 10;
const DRAIN_TIME: Duration = Duration::from_secs(1);
/// For the handshake of somebody who is sent away after it.
const SHORT_HANDSHAKE: Duration = Duration::from_secs(2);

/// Why somebody is sent away, by HTTP/2's error, HTTP/1.1's status, and text.
struct Farewell {
    error: u8,
    status: &'static str,
    text: &'static str,
}

/// `INADEQUATE_SECURITY`, which gRPC shows as permission denied.
const NOT_TLS: Farewell =
    Farewell { error: 12, status: "400 Bad Request", text: "this port takes TLS only: use grpc+tls:// for calls, https:// for pages" };
/// `ENHANCE_YOUR_CALM`, which gRPC shows as resource exhausted.
const FULL: Farewell = Farewell {
    error: 11,
    status: "503 Service Unavailable",
    text: "this port has connections_max open: close some, raise it, or come later",
};

impl Farewell {
    /// HTTP/2's frame that says that the connection ends with stream 0, the error, and the text.
    fn goaway(&self) -> Vec<u8> {
        let mut frame = vec![0, 0, u8::try_from(8 + self.text.len()).unwrap_or(8), GOAWAY, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, self.error];
        frame.extend(self.text.as_bytes());
        frame
    }

    /// Says so, and gives the peer the time to read it.
    async fn say(&self, mut socket: impl AsyncRead + AsyncWrite + Unpin, port: Port) {
        let said = async {
            match port {
                Port::Calls => {
                    socket.write_all(&NO_SETTINGS).await?;
                    // Clients tell their callers what comes after the first call has begun; before, that the connection was closed.
                    let _ = timeout(DRAIN_TIME / 2, first_call(&mut socket)).await;
                    socket.write_all(&self.goaway()).await?;
                }
                Port::Http => {
                    let Self { status, text, .. } = self;
                    let answer = format!("HTTP/1.1 {status}\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n{text}\n");
                    socket.write_all(answer.as_bytes()).await?;
                }
            }
            socket.shutdown().await?;
            // What is not read when a socket is closed makes the system throw away what the peer has not read.
            let mut rest = socket.take(DRAIN_BYTES_MAX);
            let mut bytes = [0; 4096];
            while rest.read(&mut bytes).await? > 0 {}
            Ok::<_, std::io::Error>(())
        };
        let _ = timeout(DRAIN_TIME, said).await;
    }
}

/// Waits for the first call of a client that speaks HTTP/2.
async fn first_call(socket: impl AsyncRead + Unpin) -> std::io::Result<()> {
    let mut socket = socket.take(DRAIN_BYTES_MAX);
    let mut preface = [0; PREFACE.len()];
    socket.read_exact(&mut preface).await?;
    if preface != *PREFACE {
        return Ok(());
    }
    loop {
        let mut head = [0; 9];
        socket.read_exact(&mut head).await?;
        let [length @ .., kind, _, _, _, _, _] = head;
        if kind == HEADERS {
            return Ok(());
        }
        let [high, middle, low] = length;
        let bytes = u32::from_be_bytes([0, high, middle, low]);
        tokio::io::copy(&mut (&mut socket).take(bytes.into()), &mut tokio::io::sink()).await?;
    }
}

/// Tells a TCP connection that there is no room.
pub(super) async fn turn_away(tcp: TcpStream, tls: Option<&ServerTls>, port: Port) {
    match tls {
        None => FULL.say(tcp, port).await,
        Some(tls) => {
            if let Ok(stream) = handshake(tcp, tls, port, Instant::now() + SHORT_HANDSHAKE).await {
                FULL.say(stream, port).await;
            }
        }
    }
}

/// The same for one of the Unix socket.
pub(super) async fn turn_away_local(unix: UnixStream) {
    FULL.say(unix, Port::Calls).await;
}

/// A connection whose handshake is done before `deadline`. Whoever speaks no TLS is told so.
pub(super) async fn handshake(tcp: TcpStream, tls: &ServerTls, port: Port, deadline: Instant) -> Result<TlsStream<TcpStream>, NotLetIn> {
    let mut first = [0];
    match by(deadline, tcp.peek(&mut first)).await? {
        Ok(1) if first[0] == TLS_HANDSHAKE => {}
        Ok(1) => {
            NOT_TLS.say(tcp, port).await;
            return Err(NotLetIn::NotTls);
        }
        Ok(_) | Err(_) => return Err(NotLetIn::Silent),
    }
    let accepted = by(deadline, tls.acceptor(port).accept(tcp)).await?;
    accepted.map_err(|error| {
        tracing::debug!(%error, "a TLS handshake failed");
        NotLetIn::Handshake
    })
}

async fn by<T>(deadline: Instant, work: impl Future<Output = T>) -> Result<T, NotLetIn> {
    timeout_at(deadline, work).await.map_err(|_| NotLetIn::Silent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_farewell_is_a_frame_with_its_text() {
        for farewell in [NOT_TLS, FULL] {
            let frame = farewell.goaway();
            assert_eq!((frame.len(), frame[3], frame[16]), (9 + usize::from(frame[2]), GOAWAY, farewell.error));
            assert!(frame.ends_with(farewell.text.as_bytes()) && frame[2] > 8);
        }
    }
}
