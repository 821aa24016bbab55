//! Links as they come in: from this user's processes only, each greeted and then served until it ends.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::random;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::link::Link;
use crate::server::unix::{SocketFile, UnixError, listen};
use crate::shared::{Frame, LinkWriter, Said, VERSION, link};

/// What the path of the links' socket has behind that of the calls' socket.
const SUFFIX: &str = ".shared";
/// How long a client may take to say that it is one.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The links that are open, by what calls name them by.
#[derive(Debug, Default)]
pub(in crate::server) struct Links(Mutex<HashMap<u64, Arc<Link>>>);

impl Links {
    /// The link that a call names; none once it has ended.
    pub(in crate::server) fn get(&self, number: u64) -> Option<Arc<Link>> {
        self.0.lock().get(&number).cloned()
    }

    /// A sum over all links.
    pub(in crate::server) fn sum(&self, of: impl Fn(&Link) -> u64) -> u64 {
        self.0.lock().values().map(|link| of(link)).sum()
    }

    /// A new link, in the list until the guard is dropped.
    fn open(self: &Arc<Self>) -> OpenLink {
        let (number, link) = (random(), Arc::new(Link::new()));
        self.0.lock().insert(number, link.clone());
        OpenLink { links: self.clone(), number, link }
    }
}

struct OpenLink {
    links: Arc<Links>,
    number: u64,
    link: Arc<Link>,
}

impl Drop for OpenLink {
    fn drop(&mut self) {
        self.links.0.lock().remove(&self.number);
        self.link.end();
    }
}

/// Listens beside the socket of the calls.
///
/// # Errors
/// Why not: the path may be too long by a few bytes.
pub(in crate::server) async fn bind(beside: &Path) -> Result<(UnixListener, SocketFile), UnixError> {
    let mut path = beside.as_os_str().to_owned();
    path.push(SUFFIX);
    listen(&PathBuf::from(path)).await
}

/// Serves all links until `stopping`.
pub(in crate::server) async fn serve(
    listener: UnixListener,
    links: Arc<Links>,
    server: u128,
    links_max: usize,
    stopping: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(links_max));
    let mut tasks = JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping.cancelled() => break,
        };
        let socket = match accepted {
            Ok((socket, _)) => socket,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a link; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let links = links.clone();
        tasks.spawn(async move {
            if let Err(error) = serve_one(socket, &links, server).await {
                tracing::debug!(%error, "a link ended with an error");
            }
            drop(slot);
        });
    }
    // The calls that go on end first: they still look at what lies in arenas.
    tasks.detach_all();
}

async fn serve_one(socket: UnixStream, links: &Arc<Links>, server: u128) -> io::Result<()> {
    // Its memory will be trusted to hold still, which another user's is not.
    if socket.peer_cred()?.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let (mut reader, writer) = link(socket);
    let greeting = tokio::time::timeout(GREETING_TIMEOUT, reader.next()).await??;
    if !matches!(greeting, Some((Frame::Hello { version: VERSION }, None))) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let open = links.open();
    welcome(&writer, open.number, server).await?;
    open.link.run(reader, writer).await
}

async fn welcome(writer: &LinkWriter, link: u64, server: u128) -> io::Result<()> {
    writer.send(&[Said::Word(Frame::Welcome { link, server })]).await
}
