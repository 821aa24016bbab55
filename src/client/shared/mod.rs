//! Shared memory, the client's side: what a producer lends, and what a consumer looks at.
//!
//! | module | noun |
//! | --- | --- |
//! | `lender` | a client's arenas, that its producers' batches lie in |
//! | `borrower` | the arenas that a consumer's batches lie in |

mod borrower;
mod lender;

use std::time::Duration;

use tokio::net::UnixStream;

pub(super) use borrower::Borrower;
pub(super) use lender::Lender;

use crate::shared::{Frame, LinkReader, LinkWriter, Said, VERSION, link};
use crate::wire::proto::ServerDescription;

/// How long a server may take to greet; one that takes longer gets the bytes.
const GREETING_TIMEOUT: Duration = Duration::from_secs(2);

/// Where a coordinator takes links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LinkAddress {
    path: String,
    server: u128,
}

impl LinkAddress {
    /// Where the server says that it takes them, if it does.
    pub(super) fn of(server: &ServerDescription) -> Option<Self> {
        let path = Some(&server.shared_memory_path).filter(|path| !path.is_empty())?.clone();
        Some(Self { path, server: u128::from_str_radix(&server.server_id, 16).ok()? })
    }

    /// Opens a link, and makes sure that the server behind the path is the one that named it, and of this user. None:
    /// go without.
    async fn open(&self) -> Option<(u64, LinkReader, LinkWriter)> {
        match tokio::time::timeout(GREETING_TIMEOUT, self.greet()).await {
            Ok(Ok(Some(opened))) => return Some(opened),
            Ok(Ok(None)) => tracing::debug!(path = self.path, "no shared memory: another server is there, or another user's"),
            Ok(Err(error)) => tracing::debug!(path = self.path, %error, "no shared memory: no link"),
            Err(_) => tracing::debug!(path = self.path, "no shared memory: the server does not greet"),
        }
        None
    }

    async fn greet(&self) -> std::io::Result<Option<(u64, LinkReader, LinkWriter)>> {
        let socket = UnixStream::connect(&self.path).await?;
        if socket.peer_cred()?.uid() != rustix::process::geteuid().as_raw() {
            return Ok(None);
        }
        let (mut reader, writer) = link(socket);
        writer.send(&[Said::Word(Frame::Hello { version: VERSION })]).await?;
        match reader.next().await? {
            Some((Frame::Welcome { link, server }, None)) if server == self.server => Ok(Some((link, reader, writer))),
            Some(_) | None => Ok(None),
        }
    }
}
