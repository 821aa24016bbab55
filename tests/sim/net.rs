//! The simulated network under the real server and the real client.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bowstring::client::{Client, ClientOptions, Dial};
use futures::Stream;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;
use tonic::transport::{Endpoint, Uri};
use turmoil::net::{TcpListener, TcpStream};

/// The coordinator's host.
pub(crate) const SERVER: &str = "server";
const PORT: u16 = 8815;

/// A connection that the server has taken.
pub(crate) struct Accepted(TcpStream);

impl Connected for Accepted {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Accepted {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// The connections that come in on this host.
pub(crate) async fn incoming() -> io::Result<impl Stream<Item = io::Result<Accepted>>> {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    Ok(futures::stream::unfold(listener, |listener| async {
        let accepted = listener.accept().await.map(|(stream, _)| Accepted(stream));
        Some((accepted, listener))
    }))
}

/// A client on this host, once the coordinator can be reached.
pub(crate) async fn connect(retry_deadline: Duration) -> Client {
    let dial: Dial = Arc::new(|endpoint| Box::pin(dial(endpoint)));
    let options = ClientOptions {
        retry_deadline,
        ping_timeout: Duration::from_secs(2),
        local_socket: false,
        shared_memory: false,
        ..ClientOptions::default()
    };
    loop {
        match Client::connect_by(&format!("grpc://{SERVER}:{PORT}"), dial.clone(), options.clone()).await {
            Ok(client) => return client,
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn dial(endpoint: Endpoint) -> Result<tonic::transport::Channel, tonic::transport::Error> {
    let connect = |uri: Uri| async move {
        let address = (uri.host().unwrap_or_default().to_owned(), uri.port_u16().unwrap_or(PORT));
        Ok::<_, io::Error>(TokioIo::new(TcpStream::connect(address).await?))
    };
    endpoint.connect_with_connector(tower::service_fn(connect)).await
}
