//! A TLS connection whose first bytes may be heard before anybody reads them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// Enough for HTTP/2's first frame.
const HEARD_BYTES_MAX: usize = 256;

/// See the module.
#[derive(Debug)]
pub(in crate::client) struct Answered {
    stream: TlsStream<TcpStream>,
    /// Heard, and not read yet.
    heard: BytesMut,
}

impl Answered {
    pub(super) fn new(stream: TlsStream<TcpStream>) -> Self {
        Self { stream, heard: BytesMut::new() }
    }

    /// Waits until the peer says something.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn hear(&mut self) -> io::Result<()> {
        let mut bytes = [0; HEARD_BYTES_MAX];
        match self.stream.read(&mut bytes).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            heard => {
                self.heard.extend_from_slice(&bytes[..heard]);
                Ok(())
            }
        }
    }
}

impl AsyncRead for Answered {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.heard.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let bytes = self.heard.len().min(buffer.remaining());
        buffer.put_slice(&self.heard[..bytes]);
        self.heard.advance(bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Answered {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
